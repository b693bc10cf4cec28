"""`kiln load`: what it sends and when, what it says of servers that behave and of those that do not. The servers are
kiln itself, or a peer whose every byte is scripted here."""

import fcntl
import json
import math
import os
import pathlib
import pty
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import termios
import threading
import time
import unittest

import kiln
from kiln import ENGINE, SANITIZED, SLOW, KilnTest, eventually
from peers import OK, Peer, RoundRobin, named

CALIBRATION = str(kiln.HERE.parent / "kubernetes/testdata/calibration.json")


def refuse(constant):
    raise AssertionError(f"{constant} is no JSON")


def due_by_second(report):
    """Of the schedule: the last answers may come in a second after it."""
    return [second["due"] for second in report["timeline"][:math.ceil(report["planned_seconds"])]]


class LoadTest(KilnTest):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def peer(self, answer=lambda *_: OK, **more):
        peer = Peer(answer, **more)
        self.addCleanup(peer.close)
        return peer

    def silent(self):
        """The URL of one that the kernel drops connections for."""
        listener = socket.socket()
        self.addCleanup(listener.close)
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):  # until its queue is full
            one = socket.socket()
            self.addCleanup(one.close)
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        return f"http://127.0.0.1:{listener.getsockname()[1]}/"

    def run_load(self, url, profile, *flags, env=None, timeout=40, limit=None):
        command = [kiln.binary(), "load", url, "--profile", profile, "--engine", ENGINE, *map(str, flags)]
        return subprocess.run(command, env=kiln.clean_environment(env), stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=timeout * SLOW, check=False, preexec_fn=limit)

    def load(self, url, profile, *flags, status=0, **more):
        """Its report."""
        ended = self.run_load(url, profile, *flags, "--format", "json", **more)
        self.assertEqual(ended.returncode, status, ended)
        report = json.loads(ended.stdout, parse_constant=refuse)
        self.check_sums(report)
        return report

    def check_sums(self, report):
        """What holds of every report."""
        failures = sum(report["failures"].values())
        self.assertEqual(report["due"], report["answers"] + failures)
        self.assertLessEqual(report["sent"], report["due"])
        self.assertEqual(sum(report["statuses"].values()), report["answers"])
        self.assertEqual(report["errors"],
                         failures + sum(n for status, n in report["statuses"].items() if int(status) >= 400))
        for name in ("due", "sent", "answers", "errors"):
            self.assertEqual(sum(second[name] for second in report["timeline"]), report[name], name)
        for name, total in (("latency_us", "answers"), ("service_us", "answers"), ("send_delay_us", "sent")):
            self.assertEqual(sum(count for _, count in report[name]["counts"]), report[total], name)
        self.assertEqual(sum(pod["answers"] for pod in report["pods"]), report["answers"])
        for pod in report["pods"]:
            self.assertEqual(sum(count for _, count in pod["latency_us"]["counts"]), pod["answers"])
            self.assertLessEqual(pod["first_seen"], pod["last_seen"])

    def start_load(self, url, profile, *flags, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=None):
        process = subprocess.Popen([kiln.binary(), "load", url, "--profile", profile, "--engine", ENGINE,
                                    *map(str, flags)], env=kiln.clean_environment(env), stdin=subprocess.DEVNULL,
                                   stdout=stdout, stderr=stderr, text=True)

        def end():
            process.kill()
            process.communicate()

        self.addCleanup(end)
        return process


class Schedule(LoadTest):
    def test_every_request_is_sent_at_its_time(self):
        peer = self.peer()
        report = self.load(peer.url, "20@1s,20:100@1s,0@1s,5@1s")
        # 20, then a ramp of 60 on the average, then a pause, then 5.
        self.assertEqual(due_by_second(report), [20, 60, 0, 5])
        self.assertEqual((report["due"], report["sent"], report["answers"]), (85, 85, 85))
        self.assertEqual(len(peer.came), 85)
        # Uniform: the k-th request of the first second is due at (k + 0.5) / 20.
        for k in range(20):
            self.assertAlmostEqual(peer.came[k][0] - report["started_at"], (k + 0.5) / 20, delta=0.1 * SLOW)
        self.assertAlmostEqual(peer.came[-1][0] - report["started_at"], 3.9, delta=0.1 * SLOW)
        self.assertEqual(report["planned_seconds"], 4)
        self.assertAlmostEqual(report["seconds"], 3.9, delta=0.1 * SLOW)

    def test_threads_send_the_same_together(self):
        peer = self.peer()
        report = self.load(peer.url, "30@2s", "--threads", 3)
        self.assertEqual([second["due"] for second in report["timeline"][:2]], [30, 30])
        self.assertEqual(report["answers"], 60)
        for k, (when, _) in enumerate(sorted(peer.came)):
            self.assertAlmostEqual(when - report["started_at"], (k + 0.5) / 30, delta=0.1 * SLOW)

    def test_a_thread_that_cannot_be_made_is_said(self):
        self.folder.chmod(0o755)
        program = shutil.copy2(kiln.binary(), self.folder / "kiln")
        user = 20_000 + os.getpid() % 40_000  # of nobody else: the limit is for all that the user runs

        def limit():
            resource.setrlimit(resource.RLIMIT_NPROC, (3, 3))  # processes of this user, threads included
            if os.geteuid() == 0:  # for whom it does not hold
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)

        # A search for leaks would need a process more.
        ended = subprocess.run([program, "load", self.peer().url, "--profile", "20@1s", "--threads", "8"], text=True,
                               preexec_fn=limit, timeout=20 * SLOW, capture_output=True, check=False,
                               env=kiln.clean_environment({"ASAN_OPTIONS": "detect_leaks=0"}))
        self.assertEqual((ended.returncode, ended.stdout), (1, ""))
        self.assertRegex(ended.stderr, r"\Akiln load: starting thread [1-3] of 8: .*: fewer --threads may do\n\Z")

    def test_a_seed_is_a_decimal_number(self):
        self.assertEqual(self.load(self.peer().url, "2@1s", "--seed", "010")["seed"], 10)

    def test_poisson_arrivals_are_those_of_the_seed(self):
        peer = self.peer()
        dues = [due_by_second(self.load(peer.url, "60@2s", "--arrivals", "poisson", "--seed", seed))
                for seed in (7, 7, 8)]
        self.assertEqual(dues[0], dues[1])
        self.assertNotEqual(dues[0], dues[2])

    def test_a_csv_file_is_a_profile(self):
        file = self.folder / "day.csv"
        file.write_text("seconds,rate\n0,10\n1,10\n2,30\n")
        report = self.load(self.peer().url, str(file))
        self.assertEqual(due_by_second(report), [10, 20])

    def test_millicores_become_requests_by_their_cost(self):
        report = self.load(self.peer().url, "100m@1s", "--cost", "5ms")
        self.assertEqual(report["due"], 20)
        # Which a calibration says as well.
        report = self.load(self.peer().url, "100m@1s", "--calibration", CALIBRATION)
        self.assertEqual(report["due"], 20)

    def test_what_is_sent_is_what_was_asked_for(self):
        peer = self.peer()
        self.load(peer.url + "a%20b?x=1", "2@1s", "--header", "X-One: 1", "--header", "X-Two:2", "--body", "hello")
        for _, request in peer.came:
            head, body = request.split(b"\r\n\r\n")
            lines = head.split(b"\r\n")
            self.assertEqual(lines[0], b"POST /a%20b?x=1 HTTP/1.1")
            self.assertLessEqual({b"Host: 127.0.0.1:%d" % peer.port, b"X-One: 1", b"X-Two: 2", b"Content-Length: 5"},
                                 set(lines))
            self.assertEqual(body, b"hello")

    def test_a_body_comes_from_a_file(self):
        file = self.folder / "body"
        file.write_bytes(b"\0\r\n\r\n" * 1000)
        peer = self.peer()
        self.load(peer.url, "2@1s", "--method", "PUT", "--body", f"@{file}")
        self.assertTrue(all(request.endswith(b"\r\n\r\n" + file.read_bytes()) for _, request in peer.came))


class StandingStill(LoadTest):
    def check(self, report, still_us):
        """All that was due in that time waited; what was sent waited twice at most."""
        self.assertGreater(report["latency_us"]["p90"], still_us / 2)
        self.assertLess(report["service_us"]["p90"], report["latency_us"]["p90"] / 2)
        self.assertGreater(report["latency_us"]["max"], still_us * 0.9)
        self.assertGreater(report["late_for_connections"], report["due"] / 4)

    def test_a_stopped_server_shows_since_due_and_not_since_sent(self):
        server = self.start()
        process = self.start_load(f"http://127.0.0.1:{server.port}/", "100@2s", "--connections", 1, "--format", "json",
                                  "--out", self.folder / "out")
        eventually(lambda: server.info()["requests_total"] > 40, "requests come")
        server.signal(signal.SIGSTOP)
        time.sleep(1)  # for which the server stands still: it is what is measured
        server.signal(signal.SIGCONT)
        output, _ = process.communicate(timeout=30 * SLOW)
        self.assertEqual(process.returncode, 0)
        report = json.loads(output)
        self.check_sums(report)
        self.check(report, 1e6)

    def test_one_late_answer_delays_what_is_due_behind_it(self):
        def answer(_peer, _connection, request):
            if request == 50:
                time.sleep(1)  # it is what is measured
            return OK

        report = self.load(self.peer(answer).url, "100@2s", "--connections", 1)
        self.check(report, 1e6)
        self.assertEqual(report["answers"], 200)

    def test_a_stopped_client_blames_itself(self):
        peer = self.peer()
        process = self.start_load(peer.url, "100@2s", "--format", "json", "--connections", 100)
        eventually(lambda: len(peer.came) > 20, "requests come")
        for _ in range(3):
            process.send_signal(signal.SIGSTOP)
            time.sleep(0.3)  # for which it stands still, as one whose control group has no CPU time left
            process.send_signal(signal.SIGCONT)
            seen = len(peer.came)
            eventually(lambda seen=seen: len(peer.came) > seen + 20, "it makes up for it")
        output, _ = process.communicate(timeout=30 * SLOW)
        report = json.loads(output)
        self.check_sums(report)
        self.assertGreater(report["late_by_client"], 60)
        self.assertEqual(report["late_for_connections"], 0)
        self.assertEqual(report["verdict"], "client")

    def test_with_connections_left_only_one_request_waits(self):
        def answer(_peer, _connection, request):
            if request == 50:
                time.sleep(0.8)  # it is what is measured
            return OK

        report = self.load(self.peer(answer).url, "100@1s")
        self.assertGreater(report["latency_us"]["max"], 790_000)
        self.assertLess(report["latency_us"]["p90"], 100_000 * SLOW)


class Pods(LoadTest):
    def test_servers_behind_a_round_robin_are_told_apart(self):
        servers = [self.start(env={"POD_NAME": f"kiln-{i}", "NODE_NAME": f"node-{i % 2}"}) for i in range(3)]
        balance = RoundRobin([server.port for server in servers])
        self.addCleanup(balance.close)
        report = self.load(balance.url + "load?ms=0", "60@2s", "--no-keepalive")
        self.assertEqual({pod["pod"]: (pod["node"], pod["answers"]) for pod in report["pods"]},
                         {f"kiln-{i}": (f"node-{i % 2}", report["pods"][i]["answers"]) for i in range(3)})
        for pod in report["pods"]:  # a connection may have been the probe's
            self.assertAlmostEqual(pod["answers"], 40, delta=1)
        self.assertLess(report["skew"], 0.03)
        self.assertEqual(report["connections"], 120)

    def test_first_and_last_seen(self):
        def answer(peer, _connection, _request):
            since = time.time() - peer.came[0][0]
            return named("late" if since >= 0.95 else "early")

        report = self.load(self.peer(answer).url, "20@2s", "--connections", 1)
        early, late = report["pods"]
        self.assertEqual((early["pod"], late["pod"]), ("early", "late"))
        self.assertLess(early["first_seen"], 0.2 * SLOW)
        self.assertAlmostEqual(early["last_seen"], 0.95, delta=0.15 * SLOW)
        self.assertAlmostEqual(late["first_seen"], 1, delta=0.15 * SLOW)
        self.assertAlmostEqual(late["last_seen"], 1.975, delta=0.15 * SLOW)
        self.assertEqual(early["answers"] + late["answers"], 40)
        self.assertEqual([sorted(second["pods"]) for second in report["timeline"]][1], ["late"])

    def test_endless_names_are_counted_together(self):
        def answer(_peer, _connection, request):
            return named(f"{request}-" + "x" * 7000, "y" * 7000)

        url = self.peer(answer).url
        for threads in (1, 2):
            with self.subTest(threads=threads):
                report = self.load(url, "500@2s", "--threads", threads)
                self.assertEqual(len(report["pods"]), 251)
                others = [pod for pod in report["pods"] if pod["pod"] == "(others)"]
                self.assertEqual([(pod["node"], pod["answers"]) for pod in others], [("", 750)])
                self.assertLessEqual(max(len(pod["pod"]) + len(pod["node"]) for pod in report["pods"]), 2 * 253)
                self.assertLessEqual(max(len(second["pods"]) for second in report["timeline"]), 251)

    @unittest.skipIf(SANITIZED, "the build's own memory use is larger")
    def test_endless_names_take_no_memory(self):
        def answer(_peer, _connection, request):
            return named(f"{request}-" + "x" * 7000, "y" * 7000)

        command = [kiln.binary(), "load", self.peer(answer).url, "--profile", "500@3s", "--engine", ENGINE]
        process = os.posix_spawn(command[0], command, kiln.clean_environment(),
                                 file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)])
        _, status, usage = os.wait4(process, 0)
        self.assertEqual(status, 0)
        self.assertLess(usage.ru_maxrss, 128 * 1024, "KiB; each of 250 names has two histograms of 190 KiB")

    def test_names_are_printable(self):
        url = self.peer(lambda *_: named("a\tb\u00e4\"\\", "n\u00f6de")).url
        report = self.load(url, "2@1s")
        self.assertEqual([(pod["pod"], pod["node"]) for pod in report["pods"]], [('a?b??"\\', "n??de")])
        ended = self.run_load(url, "2@1s")
        self.assertIn('a?b??"\\', ended.stdout)
        self.assertRegex(ended.stdout, r"\A[\n -~]+\Z")

    def test_answers_without_a_name_are_one_pod(self):
        report = self.load(self.peer().url, "5@1s")
        self.assertEqual([(pod["pod"], pod["node"], pod["answers"]) for pod in report["pods"]], [("(not said)", "", 5)])


class Connections(LoadTest):
    def test_one_connection_serves_many_requests(self):
        peer = self.peer()
        report = self.load(peer.url, "40@1s")
        self.assertLess(len(peer.connections), 10)
        self.assertEqual(report["connections"], len(peer.connections))

    def test_no_keepalive_makes_a_connection_for_each_request(self):
        peer = self.peer()
        report = self.load(peer.url, "40@1s", "--no-keepalive")
        self.assertEqual((report["connections"], peer.connections), (40, [1] * 40))
        self.assertTrue(all(b"\r\nConnection: close" in request for _, request in peer.came))

    def test_old_connections_end(self):
        peer = self.peer()
        self.load(peer.url, "20@2s", "--connections", 1, "--keepalive-age", "500ms")
        self.assertIn(len(peer.connections), (3, 4, 5))
        last_ones = sum(b"\r\nConnection: close" in request for _, request in peer.came)
        self.assertEqual(last_ones, len(peer.connections) - 1)

    def test_a_server_may_end_connections(self):
        for ending in (b"Connection: close\r\n\r\n", b"\r\n"):
            with self.subTest(ending):
                answer = OK.replace(b"\r\n\r\n", b"\r\n" + ending)
                peer = self.peer(lambda *_, answer=answer: (answer, True))
                report = self.load(peer.url, "10@1s")
                self.assertEqual(report["connections"], 10)
                self.assertEqual(report["answers"], 10)

    def test_no_more_than_allowed(self):
        def answer(peer, _connection, _request):
            eventually(lambda: len(peer.came) >= 4, "four at once")
            return OK

        peer = self.peer(answer)
        report = self.load(peer.url, "40@1s", "--connections", 4)
        self.assertEqual(len(peer.connections), 4)
        self.assertEqual(report["answers"], 40)

    def test_threads_share_the_connections(self):
        def answer(peer, _connection, _request):
            eventually(lambda: len(peer.came) >= 8, "eight at once")
            return OK

        peer = self.peer(answer)
        report = self.load(peer.url, "80@1s", "--connections", 8, "--threads", 3)
        self.assertEqual(len(peer.connections), 8)
        self.assertEqual(report["answers"], 80)

    def test_few_descriptors_are_used_as_far_as_they_go(self):
        def answer(_peer, _connection, _request):
            time.sleep(0.2)  # so that more connections are wanted
            return OK

        peer = self.peer(answer)
        report = self.load(peer.url, "200@1s", "--timeout", "20s", timeout=60,
                           limit=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24)))
        self.assertEqual(report["answers"], 200)
        self.assertLess(len(peer.connections), 24)
        self.assertGreater(report["late_for_descriptors"], 100)
        self.assertEqual(report["late_for_connections"], 0)
        self.assertEqual(report["verdict"], "client")


class Answers(LoadTest):
    """All of these are answers."""

    def check(self, answer, *flags, status="200", count=10, size=0, close=False):
        report = self.load(self.peer(lambda *_: (answer, close)).url, f"{5 * count}@200ms", *flags)
        self.assertEqual((report["statuses"], report["answer_bytes"]), ({status: count}, size * count))
        return report

    def test_of_every_framing(self):
        self.check(b"HTTP/1.1 100 Continue\r\n\r\n" + OK, size=2)
        self.check(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 3 + OK, size=2)
        self.check(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                   b"3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nA: b\r\n\r\n", size=7)
        self.check(b"HTTP/1.1 204 No Content\r\n\r\n", status="204")
        self.check(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", status="304")
        self.check(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", "--method", "HEAD")
        self.check(b"HTTP/1.1 200 OK\r\n\r\nuntil the end", size=13, close=True)
        self.check(b"HTTP/1.0 200 OK\r\n\r\n", close=True)

    def test_statuses_of_400_and_more_are_errors(self):
        statuses = (b"200 OK", b"404 Not Found", b"503 Service Unavailable", b"503 Service Unavailable")
        peer = self.peer(lambda _peer, _connection, request: OK.replace(b"200 OK", statuses[request % 4]))
        report = self.load(peer.url, "20@1s")
        self.assertEqual(report["statuses"], {"200": 5, "404": 5, "503": 10})
        self.assertEqual((report["errors"], report["error_share"], report["pods"][0]["errors"]), (15, 0.75, 15))

    def test_redirects_are_not_followed_and_said(self):
        moved = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"
        ended = self.run_load(self.peer(lambda *_: moved).url, "5@1s")
        self.assertEqual(ended.returncode, 1)
        self.assertIn("302: 5", ended.stdout)
        self.assertIn("redirect", ended.stderr)
        self.assertIn("Location", ended.stderr)


class NoAnswers(LoadTest):
    def check(self, url, *words, profile="25@200ms", flags=()):
        """Says what happened, in one line, and shows no table."""
        ended = self.run_load(url, profile, *flags)
        self.assertEqual(ended.returncode, 1, ended)
        self.assertEqual(ended.stdout, "")
        self.assertEqual(ended.stderr.count("\n"), 1, ended.stderr)
        for word in words:
            self.assertIn(word, ended.stderr)

    def test_nobody_listens(self):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
            self.check(f"http://127.0.0.1:{port}/", str(port), "Connection refused")

    def test_no_such_host(self):
        self.check("http://no-such-host.invalid/", "no-such-host.invalid")

    def test_nobody_accepts(self):
        began = time.monotonic()
        self.check(self.silent(), "timed out")
        self.assertLess(time.monotonic() - began, 8 * SLOW)

    def test_another_protocol(self):
        self.check(self.peer(greeting=b"SSH-2.0-OpenSSH_9.2\r\n").url, "5 malformed", "HTTP/1.1 server?")
        self.check(self.peer(lambda *_: b"\x15\x03\x01\x00\x02\x02\x46").url, "5 malformed")
        self.check(self.peer(lambda *_: b"HTTP/2 200\r\n\r\n").url, "5 malformed")
        self.check(self.peer(lambda *_: b"-ERR unknown command\r\n").url, "5 malformed")
        self.check(self.peer(lambda *_: b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n").url, "5 malformed")

    def test_garbage(self):
        self.check(self.peer(lambda *_: b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n").url, "5 malformed")
        self.check(self.peer(lambda *_: b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 100_000).url, "5 malformed")
        self.check(self.peer(lambda *_: b"\0" * 100_000).url, "5 malformed")

    def test_it_closes_early(self):
        self.check(self.peer(lambda *_: (b"", True)).url, "5 closed_early")
        self.check(self.peer(lambda *_: (b"HTTP/1.1 200 O", True)).url, "5 closed_early")
        short = OK.replace(b"Length: 2", b"Length: 3")
        self.check(self.peer(lambda *_: (short, True)).url, "5 closed_early")

    def test_it_hangs(self):
        for answer in (b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok"):
            with self.subTest(answer):
                self.check(self.peer(lambda *_, answer=answer: answer).url, "5 timeout", flags=("--timeout", "300ms"))

    def test_some_answers_are_none(self):
        def answer(_peer, _connection, request):
            return (b"", True) if request % 4 == 3 else OK

        report = self.load(self.peer(answer).url, "20@1s")
        self.assertEqual((report["answers"], report["failures"]["closed_early"], report["errors"]), (15, 5, 5))

    def test_a_server_that_dies_has_answered_less_in_the_same_time(self):
        peer = self.peer(lambda peer, *_: (b"", True) if time.time() - peer.came[0][0] > 0.5 else OK)
        ended = self.run_load(peer.url, "20@2s", "--fail-if", "rate<18", "--fail-if", "rate>12")
        self.assertEqual(ended.returncode, 3)
        self.assertRegex(ended.stderr, r"\Akiln load: failed by rate<18: [0-9.]+ a second\n\Z")
        self.assertRegex(ended.stdout, r"(?m)^answered  1[01] in 2\.0 s, 5\.[0-9]/s,")

    def test_a_large_body_that_nobody_reads_times_out(self):
        file = self.folder / "body"
        file.write_bytes(b"x" * (4 << 20))
        with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
            self.check(f"http://127.0.0.1:{listener.getsockname()[1]}/", "20 timeout", profile="20@1s",
                       flags=("--timeout", "1s", "--body", f"@{file}"))


class Gates(LoadTest):
    def test_what_hangs_is_not_fast(self):
        peer = self.peer(lambda _peer, _connection, request: b"" if request % 5 == 4 else OK)
        ended = self.run_load(peer.url, "50@1s", "--timeout", "1s", "--fail-if", "p99>30s", "--fail-if", "p50>30s")
        self.assertEqual((ended.returncode, ended.stderr),
                         (3, "kiln load: failed by p99>30s: 10 of 50 were not answered\n"))
        self.assertIn("of the 40 answers alone, 10 requests have none:\nlatency", ended.stdout)

    def test_a_gate_that_fails_is_named_and_the_status_is_3(self):
        url = self.peer(lambda *_: OK.replace(b"200 OK", b"500 Oops")).url
        ended = self.run_load(url, "10@1s", "--fail-if", "errors>0.1%", "--fail-if", "p99>1m")
        self.assertEqual(ended.returncode, 3)
        self.assertEqual(ended.stderr, "kiln load: failed by errors>0.1%: 100.000 %\n")
        self.assertIn("500: 10", ended.stdout)

    def test_gates_that_hold(self):
        ended = self.run_load(self.peer().url, "10@1s", "--fail-if", "errors>0", "--fail-if", "p99>1m", "--fail-if",
                              "rate<100%")
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))


class Signals(LoadTest):
    def test_the_first_gives_a_whole_report_of_what_was_done(self):
        for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            with self.subTest(number):
                peer = self.peer()
                process = self.start_load(peer.url, "50@1h", "--format", "json", "--threads", 2)
                eventually(lambda: len(peer.came) > 60, "requests come")
                process.send_signal(number)
                output, complaints = process.communicate(timeout=5 * SLOW)
                self.assertEqual((process.returncode, complaints), (status, ""))
                report = json.loads(output)
                self.check_sums(report)
                self.assertTrue(report["interrupted"])
                self.assertGreater(report["answers"], 60)
                self.assertLess(report["seconds"], 10 * SLOW)
                self.assertEqual(report["planned_seconds"], 3600)
                self.assertAlmostEqual(report["due"] / report["asked_seconds"], 50, delta=2)

    def test_what_was_under_way_is_in_the_report(self):
        release = threading.Event()
        self.addCleanup(release.set)

        def answer(_peer, _connection, request):
            if request >= 10:
                release.wait()
            return OK

        peer = self.peer(answer)
        process = self.start_load(peer.url, "50@1h", "--format", "json", "--connections", 5, "--timeout", "1m")
        eventually(lambda: len(peer.came) == 15, "all connections wait")
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=5 * SLOW)
        report = json.loads(output)
        self.check_sums(report)
        self.assertEqual((process.returncode, report["answers"], report["sent"]), (130, 10, 15))
        self.assertEqual(report["failures"]["cut_off"], report["due"] - 10)

    def test_before_the_first_answer_there_is_a_report_too(self):
        peer = self.peer(lambda *_: b"")
        process = self.start_load(peer.url, "50@1h", "--format", "json")
        eventually(lambda: len(peer.came) > 5, "requests come")
        process.send_signal(signal.SIGINT)
        output, complaints = process.communicate(timeout=5 * SLOW)
        self.assertEqual((process.returncode, complaints), (130, ""))
        report = json.loads(output)
        self.check_sums(report)
        self.assertEqual((report["answers"], report["failures"]["cut_off"]), (0, report["due"]))

    def test_it_does_not_wait_for_a_connection(self):
        process = self.start_load(self.silent(), "50@1h")
        eventually(lambda: self.catches_signals(process), "it has begun")
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        output, complaints = process.communicate(timeout=10 * SLOW)
        self.assertLess(time.monotonic() - began, 2 * SLOW, "a connection has 5 s")
        self.assertEqual((process.returncode, output), (143, ""))
        self.assertEqual(complaints, "kiln load: it was interrupted before the first request\n")

    def test_the_second_ends_at_once(self):
        for second in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(second):
                peer = self.peer(lambda *_: b"")
                process = self.start_load(peer.url, "50@1h")
                eventually(lambda: len(peer.came) > 5, "requests come")
                process.send_signal(signal.SIGINT)
                eventually(lambda process=process: not self.catches_signals(process), "it was seen")
                process.send_signal(second)
                output, _ = process.communicate(timeout=5 * SLOW)
                self.assertEqual((process.returncode, output), (-second, ""))

    @staticmethod
    def catches_signals(process):
        """SIGINT or SIGTERM (proc(5), SigCgt)."""
        status = pathlib.Path(f"/proc/{process.pid}/status").read_text("ascii")
        caught = int(re.search(r"(?m)^SigCgt:\t([0-9a-f]+)$", status)[1], 16)
        return bool(caught & (1 << signal.SIGINT - 1 | 1 << signal.SIGTERM - 1))

    def test_before_the_start_there_is_nothing_to_report(self):
        process = self.start_load(self.peer().url, "5@1s", "--shard", "0/2", "--start-every", "1h")
        eventually(lambda: len(os.listdir(f"/proc/{process.pid}/task")) > 1, "it waits")
        process.send_signal(signal.SIGINT)
        output, complaints = process.communicate(timeout=5 * SLOW)
        self.assertEqual((process.returncode, output), (130, ""))
        self.assertEqual(complaints, "kiln load: it was interrupted before the first request\n")


class Output(LoadTest):
    def test_lines_add_up_to_the_report(self):
        for threads in (1, 3):
            for _ in range(2):
                file = self.folder / "out"
                url = self.peer(lambda *_: named("a")).url
                report = self.load(url, "30@1500ms", "--out", file, "--threads", threads)
                lines = [json.loads(line, parse_constant=refuse) for line in file.read_text("ascii").splitlines()]
                self.assertEqual(lines, report["timeline"])
                self.assertEqual([line["second"] for line in lines], list(range(len(lines))))
                self.assertEqual(sum(line["pods"].get("a", 0) for line in lines), 45)

    def test_a_thread_that_is_done_holds_up_no_line(self):
        file = self.folder / "out"
        peer = self.peer()
        # Five requests, the last of them after nine seconds: its thread's alone.
        process = self.start_load(peer.url, "4@1s,0.125@8s", "--threads", 2, "--out", file)
        eventually(lambda: len(peer.came) == 4, "all but the last have come")
        eventually(lambda: len(file.read_text().splitlines()) >= 3, "the lines of three seconds")
        self.assertEqual(len(peer.came), 4, "and the last has not")
        process.communicate(timeout=30 * SLOW)
        self.assertEqual(sum(json.loads(line)["answers"] for line in file.read_text().splitlines()), 5)

    def test_answers_after_the_schedule_are_in_the_lines(self):
        def answer(_peer, connection, _request):
            time.sleep(2.2 if connection == 0 else 0.1)  # it is what is measured
            return OK

        file = self.folder / "out"
        report = self.load(self.peer(answer).url, "20@1s", "--out", file, "--threads", 2)
        lines = [json.loads(line) for line in file.read_text("ascii").splitlines()]
        self.assertEqual(lines, report["timeline"])
        self.assertEqual(sum(line["answers"] for line in lines), 20)
        self.assertEqual(lines[2]["answers"], 1)

    def test_text_and_json_say_the_same(self):
        url = self.peer(lambda *_: named("kiln-a", "node-b")).url
        json_file = self.folder / "report"
        with json_file.open("w") as output:
            subprocess.run([kiln.binary(), "load", url, "--profile", "20@1s", "--format", "json"], stdout=output,
                           stderr=subprocess.DEVNULL, timeout=20 * SLOW, check=True)
        report = json.loads(json_file.read_text())
        ended = kiln.run("load", "merge", str(json_file))
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))
        for line in (rf"asked     20 requests in 1\.0 s, 20\.0/s",
                     rf"answered  20 in .* {report['answer_bytes']} bytes, over {report['connections']} connections",
                     r"status    200: 20", r"failed    none", r"kiln-a +node-b +20 +100\.0 %"):
            self.assertRegex(ended.stdout, rf"(?m)^{line}")
        p50 = re.search(r"(?m)^  due +([0-9.]+) (us|ms)", ended.stdout)
        self.assertAlmostEqual(float(p50[1]) * (1000 if p50[2] == "ms" else 1), report["latency_us"]["p50"], delta=5)

    def test_a_pipe_sees_no_escape_codes(self):
        ended = self.run_load(self.peer().url, "5@11s")
        self.assertNotIn("\x1b", ended.stdout + ended.stderr)
        self.assertEqual(ended.stderr.count("\n"), 1, "a line each ten seconds")
        self.assertRegex(ended.stderr,
                         r"^10 of 11 s: asked 5\.0/s, answered 5\.0/s, 0 errors, p99 [0-9.]+ ms, 1 pod\n$")

    def on_terminal(self, url, profile, *flags, rows=24, columns=80, stdout=None, env=None):
        """What a terminal is shown, and the process, which has ended."""
        ours, theirs = pty.openpty()
        self.addCleanup(os.close, ours)
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        process = self.start_load(url, profile, *flags, stderr=theirs, stdout=stdout or theirs,
                                  env={"TERM": "xterm"} | (env or {}))
        os.close(theirs)
        seen = b""
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # EIO: the other end is closed (pty(7))
                break
            seen += data
        output, _ = process.communicate(timeout=5 * SLOW)
        self.assertEqual(process.returncode, 0)
        return seen.decode("utf-8").replace("\r\n", "\n"), output

    def test_a_terminal_sees_a_picture_that_fits_and_goes(self):
        name = "kiln-" + "x" * 200
        peer = self.peer(lambda _peer, _connection, request: named(f"{name}-{request % 30}"))
        rows, columns = 12, 50
        seen, output = self.on_terminal(peer.url, "40@3s", rows=rows, columns=columns, stdout=subprocess.PIPE)
        self.assertNotIn("\x1b", output)
        pictures = re.split(r"\x1b\[([0-9]+)A\x1b\[J", seen)
        self.assertGreaterEqual(len(pictures), 7, "three pictures, each taken away")
        self.assertEqual(pictures[-1], "")
        for picture, lines in zip(pictures[::2], pictures[1::2]):
            self.assertEqual(picture.count("\n"), int(lines))
            self.assertLess(picture.count("\n"), rows)
            self.assertLess(max(map(len, picture.splitlines())), columns)
            self.assertIn("asked 40/s", picture)
            self.assertIn("kiln-x", picture)

    def test_a_terminal_without_pictures(self):
        url = self.peer().url
        seen, _ = self.on_terminal(url, "5@2s", env={"TERM": "dumb"})
        self.assertNotIn("\x1b", seen)
        self.assertIn("status    200: 10\n", seen)
        # The lines are on it already.
        seen, _ = self.on_terminal(url, "5@2s", "--out", "-")
        self.assertNotIn("\x1b", seen)
        self.assertEqual([json.loads(line)["second"] for line in seen.splitlines()[:2]], [0, 1])

    def test_a_percentile_table_for_the_plotter(self):
        file = self.folder / "hdr"
        self.load(self.peer().url, "20@1s", "--hdr", file)
        lines = file.read_text().splitlines()
        self.assertEqual(lines[0].split(), ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"])
        self.assertRegex("\n".join(lines), r"(?m)^#\[Max .*Total count +=  +20\]$")

    def test_what_cannot_be_written_is_said(self):
        peer = self.peer()
        url = peer.url
        for flag in ("--out", "--hdr"):
            ended = self.run_load(url, "2@1s", flag, "/nowhere/at/all")
            self.assertEqual((ended.returncode, ended.stderr.count("\n")), (1, 1), ended)
            self.assertIn("/nowhere/at/all", ended.stderr)
        self.assertEqual(peer.came, [])  # before it begins
        with open("/dev/full", "w") as full:
            ended = subprocess.run([kiln.binary(), "load", url, "--profile", "2@1s"], stdout=full, timeout=20 * SLOW,
                                   stderr=subprocess.PIPE, text=True, check=False)
        self.assertEqual(ended.returncode, 1)
        self.assertIn("No space left on device", ended.stderr)

    def test_what_cannot_be_written_hides_nothing(self):
        url = self.peer().url
        ended = self.run_load(url, "5@1s", "--out", "/dev/full", "--hdr", "/dev/full")
        self.assertEqual(ended.returncode, 1)
        self.assertIn("status    200: 5", ended.stdout)
        self.assertEqual(ended.stderr, "kiln load: writing /dev/full: No space left on device\n"
                                       "kiln load: writing the lines of --out /dev/full: No space left on device\n")
        ended = self.run_load(url, "5@1s", "--out", "/dev/full", "--hdr", "/dev/full", "--fail-if", "rate>0")
        self.assertEqual((ended.returncode, ended.stderr.count("\n")), (3, 3))

        peer = self.peer()
        process = self.start_load(peer.url, "50@1h", "--format", "json", "--out", "/dev/full")
        eventually(lambda: len(peer.came) > 60, "requests come")
        process.send_signal(signal.SIGTERM)
        output, complaints = process.communicate(timeout=5 * SLOW)
        self.assertEqual((process.returncode, complaints.count("No space left")), (143, 1))
        self.check_sums(json.loads(output))

    def test_a_closed_stdout_is_not_taken_for_a_connection(self):
        ended = subprocess.run([kiln.binary(), "load", self.peer().url, "--profile", "20@1s"],
                               preexec_fn=lambda: os.close(1), timeout=20 * SLOW, stderr=subprocess.PIPE, text=True,
                               check=False)
        self.assertEqual(ended.returncode, 1)
        self.assertIn("Bad file descriptor", ended.stderr)


class Shards(LoadTest):
    def run_shards(self, url, profile, shards, *flags):
        processes = [self.start_load(url, profile, "--shard", shard, "--start-every", "2s", "--format", "json", *flags)
                     for shard in shards]
        files = []
        for process in processes:
            output, complaints = process.communicate(timeout=30 * SLOW)
            self.assertEqual((process.returncode, complaints), (0, ""))
            files.append(self.folder / f"shard-{len(files)}")
            files[-1].write_text(output)
        return files

    def start_in_time(self):
        """Just after a multiple of two seconds: all that are started now take the same next one."""
        eventually(lambda: time.time() % 2 < 0.3, "the beginning of two seconds")

    def test_shards_send_together_what_one_would_have_sent(self):
        for arrivals in (("uniform",), ("poisson", "--seed", "5")):
            with self.subTest(arrivals):
                flags = ("--arrivals", *arrivals)
                alone = self.peer()
                whole = self.load(alone.url, "30:60@2s", *flags)
                together = self.peer()
                self.start_in_time()
                files = self.run_shards(together.url, "30:60@2s", ["0/3", "1/3", "2/3"], *flags)
                ended = kiln.run("load", "merge", "--format", "json", *map(str, files))
                self.assertEqual((ended.returncode, ended.stderr), (0, ""))
                merged = json.loads(ended.stdout)
                self.check_sums(merged)
                self.assertEqual(due_by_second(merged), due_by_second(whole))
                self.assertEqual(merged["due"], whole["due"])
                self.assertEqual(merged["shards"], [{"index": i, "count": 3} for i in range(3)])
                self.assertEqual(len(together.came), len(alone.came))
                for (one, _), (other, _) in zip(sorted(alone.came), sorted(together.came)):
                    self.assertAlmostEqual(one - whole["started_at"], other - merged["started_at"], delta=0.1 * SLOW)

    def test_merge_refuses_what_is_no_part(self):
        self.start_in_time()
        url = self.peer().url
        zero, one = self.run_shards(url, "5@1s", ["0/2", "1/2"])
        other = self.folder / "other"
        other.write_text(json.dumps(json.loads(one.read_text()) | {"profile": "6@1s", "schedule_digest": "0"}))
        garbage = self.folder / "garbage"
        garbage.write_text("{}")
        for files, words in (((zero, zero), ("0/2", "twice")), ((zero, other), ("other", "5@1s", "6@1s")),
                             ((zero, garbage), ("garbage",)), ((zero, self.folder / "nothing"), ("nothing",))):
            ended = kiln.run("load", "merge", *map(str, files))
            self.assertEqual((ended.returncode, ended.stdout, ended.stderr.count("\n")), (1, "", 1), ended)
            for word in words:
                self.assertIn(word, ended.stderr)
        ended = kiln.run("load", "merge", str(zero))
        self.assertEqual(ended.returncode, 0)
        self.assertIn("1 of 2 shards", ended.stderr)
        ended = kiln.run("load", "merge", str(zero), str(one), "--fail-if", "p50 < 1h")
        self.assertEqual(ended.returncode, 3)

    def test_merge_compares_what_was_sent_and_when(self):
        """Not how it was written."""
        file = self.folder / "day.csv"
        file.write_text("0,10\n1,10\n")
        url = self.peer().url

        def shard(index, profile, *flags):
            return self.start_load(url, profile, "--shard", f"{index}/2", "--start-every", "2s", "--format", "json",
                                   *flags)

        self.start_in_time()
        parts = []
        for number, process in enumerate([
                shard(0, str(file)), shard(1, f"{self.folder}/./day.csv"), shard(1, "10@1s"),
                shard(1, "100m@1s", "--cost", "10ms"), shard(1, "100m@1s", "--cost", "5ms"),
                shard(1, str(file), "--method", "PUT"), shard(1, str(file), "--header", "A: b"),
                shard(1, str(file), "--method", "GET", "--body", "x")]):
            output, complaints = process.communicate(timeout=30 * SLOW)
            self.assertEqual((process.returncode, complaints), (0, ""))
            parts.append(self.folder / f"part-{number}")
            parts[-1].write_text(output)
        for part, word in zip(parts[1:], (None, None, None, "profile", "requests differ", "requests differ",
                                          "requests differ")):
            ended = kiln.run("load", "merge", str(parts[0]), str(part))
            self.assertEqual(ended.returncode, 1 if word else 0, ended)
            self.assertIn(word or "", ended.stderr)

    def test_merge_reads_the_logs_of_pods(self):
        self.start_in_time()
        files = self.run_shards(self.peer().url, "5@2s", ["0/2", "1/2"], "--out", "-")
        self.assertEqual([len(file.read_text().splitlines()) for file in files], [3, 3])
        ended = kiln.run("load", "merge", "--format", "json", *map(str, files))
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))
        self.assertEqual(json.loads(ended.stdout)["answers"], 10)
        # Its gates have said something behind the report.
        for file in files:
            file.write_text("a word before\n" + file.read_text() + "kiln load: failed by rate<95%: 90.000 %\n\n")
        ended = kiln.run("load", "merge", "--format", "json", *map(str, files))
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))
        self.assertEqual(json.loads(ended.stdout)["answers"], 10)

    def test_a_shard_without_requests_is_a_part(self):
        self.start_in_time()
        files = self.run_shards(self.peer().url, "1@2s", ["0/3", "1/3", "2/3"], "--fail-if", "rate<95%", "--fail-if",
                                "p99>1h")
        self.assertEqual([json.loads(file.read_text())["due"] for file in files], [1, 1, 0])
        ended = kiln.run("load", "merge", *map(str, files))
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))
        self.assertIn("asked     2 requests in 2.0 s, 1.0/s", ended.stdout)
        ended = kiln.run("load", "merge", str(files[2]))
        self.assertEqual(ended.returncode, 0)
        self.assertIn("asked     0 requests", ended.stdout)

    def test_a_job_says_which_shard_it_is(self):
        report = self.load(self.peer().url, "10@1s", "--shard", "3", "--start-every", "1s",
                           env={"JOB_COMPLETION_INDEX": "2"})
        self.assertEqual(report["shards"], [{"index": 2, "count": 3}])
        self.assertEqual(report["due"], 3)


class Mistakes(LoadTest):
    def check(self, *arguments, words=(), lines=1, env=None):
        ended = kiln.run("load", *arguments, env=env)
        self.assertEqual((ended.returncode, ended.stdout), (2, ""), ended)
        self.assertEqual(ended.stderr.count("\n"), lines, ended.stderr)
        for word in words:
            self.assertIn(word, ended.stderr)
        return ended.stderr

    URL = "http://127.0.0.1:9/"

    def test_each_is_told_with_flag_and_value(self):
        for flag, value in (("--arrivals", "random"), ("--seed", "-1"), ("--seed", "x"), ("--connections", "0"),
                            ("--connections", "many"), ("--keepalive-age", "5"), ("--timeout", "soon"),
                            ("--timeout", "0s"), ("--timeout", "-1s"), ("--timeout", "2562047h"),
                            ("--keepalive-age", "25h"), ("--threads", "0"), ("--engine", "kqueue"),
                            ("--shard", "3/3"),
                            ("--shard", "1/0"), ("--shard", "a/b"), ("--shard", "-1/2"), ("--shard", "1/2/3"),
                            ("--shard", "4"), ("--format", "xml"), ("--fail-if", "p99>200"), ("--fail-if", "quick"),
                            ("--header", "no-colon"), ("--header", "Host: x"), ("--header", "A b: c"),
                            ("--header", "A: b\x01"), ("--method", "G T"), ("--method", "CONNECT"), ("--cost", "5"),
                            ("--calibration", "/nowhere"), ("--calibration", str(kiln.HERE / "kiln.py")),
                            ("--body", "@/nowhere"), ("--body", "@")):
            with self.subTest(f"{flag} {value!r}"):
                self.check(self.URL, f"{flag}={value}", words=(flag, value.replace("\x01", "")))
        for every in ("1", "0s", "2562047h"):
            self.check(self.URL, "--shard", "0/2", "--start-every", every, words=("--start-every", f"'{every}'"))
        self.check(self.URL, "--shard", "2", words=("'2/2'",), env={"JOB_COMPLETION_INDEX": "2"})
        self.check(self.URL, "--threads", "3", "--connections", "2", words=("--threads", "3", "--connections", "2"))
        self.check(self.URL, "--cost", "5ms", "--calibration", CALIBRATION, words=("--calibration", "--cost"))
        self.check(self.URL, "--nonsense", words=("--nonsense",))
        self.check("merge", words=("FILE",))
        self.check(self.URL, "--shard", "0/2", "merge", "file", words=("merge", "excludes"))
        self.check("--seed", "2", "merge", "file", words=("merge", "--seed"))

    def test_a_url_that_is_none(self):
        for url, word in (("localhost:8080", "http://"), ("https://localhost/", "https"), ("http://", "host"),
                          ("http://a:70000/", "port"), ("http://a/b c", "percent")):
            with self.subTest(url):
                self.check(url, "--profile", "5@1s", words=(f"'{url}'", word))
        self.check(words=("URL",))

    def test_a_profile_that_is_none_is_pointed_at(self):
        for profile, at in (("20", 2), ("-5@1s", 0), ("5@", 2), ("inf@1s", 0), ("0@1s", None), ("5@1s,", 5),
                            ("1e9@1s", 0), ("5@100000h", 2), ("300m@1s", 0)):
            with self.subTest(profile):
                text = self.check(self.URL, f"--profile={profile}", words=("--profile",), lines=3)
                _, line, caret, _ = text.split("\n")
                self.assertEqual(line.strip(), profile)
                self.assertEqual(caret.strip(), "^")
                if at is not None:
                    self.assertEqual(caret.index("^") - (len(line) - len(profile)), at)
        self.check(self.URL, "--profile=", words=("--profile",))
        self.check(self.URL, "--profile=/nowhere.csv", words=("--profile", "/nowhere.csv"))


if __name__ == "__main__":
    unittest.main()
