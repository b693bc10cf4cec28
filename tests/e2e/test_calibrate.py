"""`kiln calibrate`: what it finds at servers that are there, and at its own where it may set no limit; what it writes,
and what it says when there is nothing to be measured. Steps are as short as they may be, so figures are only looked at
as far as that allows."""

import contextlib
import errno
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

import kiln
from kiln import SLOW, KilnTest, eventually
from peers import OK, Peer, RoundRobin

NOBODY = 65534
SHORT = ("--step-time", "200ms")
GROUPS = pathlib.Path("/sys/fs/cgroup")


def groups_of(pid):
    return list(GROUPS.rglob(f"kiln-calibrate-{pid}"))


class CalibrateTest(KilnTest):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def start_calibrate(self, *arguments, program=None, as_user=None, **more):
        process = subprocess.Popen([program or kiln.binary(), "calibrate", *map(str, arguments)], cwd=self.folder,
                                   env=kiln.clean_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, user=as_user, **more)

        def end():
            process.kill()
            process.communicate()

        self.addCleanup(end)
        return process

    def calibrate(self, *arguments, status=0, timeout=90, **more):
        process = self.start_calibrate(*arguments, **more)
        out, err = process.communicate(timeout=timeout * SLOW)
        self.assertEqual(process.returncode, status, (out, err))
        self.assertFalse(groups_of(process.pid))
        return out, err

    def fails(self, *arguments, words, status=1, leaves=(), **more):
        """In one line, without a table."""
        out, err = self.calibrate(*arguments, status=status, **more)
        self.assertEqual((out, err.count("\n")), ("", 1), (out, err))
        for word in words:
            self.assertIn(word, err)
        self.assertEqual({path.name for path in self.folder.iterdir()}, {*leaves})

    def check_figures(self, found):
        """What holds of every calibration, whatever the machine."""
        self.assertEqual(found["schema"], 1)
        self.assertFalse(found["interrupted"])
        self.assertGreaterEqual(len(found["steps"]), 3)
        rates = [step["rate"] for step in found["steps"]]
        self.assertEqual(rates, sorted(rates))
        smooth = [step["p99_smooth_us"] for step in found["steps"] if not step["saturated"]]
        self.assertEqual(smooth, sorted(smooth))
        for step in found["steps"] + found["overload"]:
            self.assertEqual(step["due"], step["good"] + step["refused"] + step["failed"])
            self.assertLessEqual(step["p50_us"], step["p99_us"])
        self.assertEqual([step["asked_share"] for step in found["overload"]], [1, 2])
        advice = found["advice"]
        self.assertEqual([row["target_percent"] for row in advice["thresholds"]], list(range(30, 100, 10)))
        for row in advice["thresholds"]:
            at_target = found["line"]["idle_millicores"] + row["rate"] * found["line"]["cost_ms"]
            self.assertAlmostEqual(at_target, row["cpu_millicores"], delta=0.01)
        self.assertTrue(advice["reason"])


class WithoutPermission(CalibrateTest):
    """As nobody, unless we are no root ourselves. The program must lie where nobody can read it."""

    def setUp(self):
        super().setUp()
        self.user = NOBODY if os.geteuid() == 0 else None
        self.folder.chmod(0o777)
        self.program = tempfile.NamedTemporaryFile(prefix="kiln-", delete=False).name
        self.addCleanup(os.unlink, self.program)
        shutil.copy(kiln.binary(), self.program)
        os.chmod(self.program, 0o755)

    def test_a_quota_cannot_be_had(self):
        self.fails("--quota", "500m", words=["--quota 500m", os.strerror(errno.EACCES), "root"], program=self.program,
                   as_user=self.user)

    def test_it_is_measured_without(self):
        out, _ = self.calibrate(*SHORT, "--format", "json", program=self.program, as_user=self.user)
        found = json.loads(out)
        self.check_figures(found)
        self.assertEqual((found["limit_millicores"] % 1000, found["judge"]), (0, "the CPU clock of its process"))
        self.assertTrue(any("500m" in note for note in found["notes"]), found["notes"])
        self.assertAlmostEqual(found["line"]["cost_ms"], 5, delta=0.15)


class Service:
    """Somebody else's service: burns 2 ms of CPU a request, refuses what would wait too long, tells of its CPU."""

    def __init__(self, metric="process_cpu_seconds_total", counter=lambda billed: billed, fails_each=None):
        self.billed = 0.0
        self.counter, self.fails_each = counter, fails_each
        self.lock = threading.Lock()
        self.waiting = threading.Semaphore(200)
        self.metric = metric
        self.peer = Peer(self._answer)

    def _answer(self, peer, _connection, request):
        if b"GET /metrics " in peer.came[request][1]:
            body = b"# TYPE %b counter\n%b %.6f\n" % (self.metric.encode(), self.metric.encode(),
                                                           self.counter(self.billed))
            return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        if not self.waiting.acquire(blocking=False):
            return OK.replace(b"200 OK", b"503 Service Unavailable")
        try:
            with self.lock:
                began = time.thread_time()
                while time.thread_time() - began < 0.002:
                    pass
                self.billed += time.thread_time() - began
        finally:
            self.waiting.release()
        if self.fails_each and request % self.fails_each == 0:
            return OK.replace(b"200 OK", b"500 Internal Server Error")
        return OK


class AtUrl(CalibrateTest):
    def test_a_kiln_is_measured_as_a_whole(self):
        server = self.start("--data-uri", "memory:", engine="auto")
        out, _ = self.calibrate(f"http://127.0.0.1:{server.port}", "--limit", "500m", "--ms", "4", *SHORT,
                                "--format", "json")
        found = json.loads(out)
        self.check_figures(found)
        self.assertEqual((found["server"], found["request"]), (f"http://127.0.0.1:{server.port}", "GET /load?ms=4"))
        self.assertEqual((found["limit_millicores"], found["limit_from"]), (500, "--limit"))
        self.assertAlmostEqual(found["line"]["cost_ms"], 4, delta=0.4)
        self.assertEqual(len(found["burns"]), 5)
        # Its records are somebody's, and its limit is not in force.
        self.assertNotIn("POST /data", [route["request"] for route in found["routes"]])
        self.assertTrue(any("not in force" in note for note in found["notes"]), found["notes"])
        self.assertEqual((found["plateau_millicores"], found["bend_rate"]), (0, 0))

    def test_what_a_kiln_does_not_have_is_left_out(self):
        server = self.start("--data-uri", "sqlite:/no/such/folder/x.db", "--load-max", "20ms", engine="auto")
        url = f"http://127.0.0.1:{server.port}"
        found = json.loads(self.calibrate(url, "--limit", "500m", *SHORT, "--format", "json")[0])
        self.check_figures(found)
        self.assertEqual([burn["asked_ms"] for burn in found["burns"]], [0.1, 1, 5, 20])
        self.assertNotIn("GET /data?limit=50", [route["request"] for route in found["routes"]])
        notes = " ".join(found["notes"])
        for what, status in ((r"cost of GET /data\?limit=50", 503), ("burns of 100 ms", 400)):
            self.assertRegex(notes, rf"Left out: {what}, of which (\d+) of \1 requests failed, most with {status}\.")

    def test_any_service_that_tells_of_its_cpu_is_measured(self):
        service = Service()
        self.addCleanup(service.peer.close)
        out, _ = self.calibrate(service.peer.url + "orders?id=1", "--limit", "200m", "--slope", "1", *SHORT,
                                "--format", "json")
        found = json.loads(out)
        self.check_figures(found)
        self.assertEqual((found["request"], found["routes"], found["burns"]), ("GET /orders?id=1", [], []))
        self.assertAlmostEqual(found["line"]["cost_ms"], 2, delta=0.4)
        self.assertIn("process_cpu_seconds_total", found["judge"])
        # One request a second more, each second.
        row = found["advice"]["thresholds"][0]
        left = found["advice"]["edge_millicores"] - row["acts_from_millicores"]
        self.assertAlmostEqual(row["ramp_seconds"], max(left, 0) / found["line"]["cost_ms"], delta=0.01)

    def test_of_a_kiln_without_a_limit_its_workers_are_the_limit(self):
        server = self.start("--data-uri", "memory:", "--workers", "1", engine="auto")
        out, err = self.calibrate(f"http://127.0.0.1:{server.port}", *SHORT, "--patch", "patch", "--format", "json",
                                  status=1)
        found = json.loads(out)
        self.assertEqual((found["limit_millicores"], found["limit_is_quota"]), (1000, False))
        self.assertIn("PROVISIONAL: no limit was in force", found["advice"]["reason"])
        self.assertIn("--target", err)
        self.assertFalse((self.folder / "patch").exists())
        _, err = self.calibrate("--from", "calibration.json", "--patch", "patch", "--target", 70)
        self.assertIn("a request of 100m and a target of 70 % written to patch", err)
        self.assertNotIn("limits", (self.folder / "patch/kustomization.yaml").read_text())

    def test_failures_are_told_and_counted(self):
        service = Service(fails_each=25)
        self.addCleanup(service.peer.close)
        out, _ = self.calibrate(service.peer.url, "--limit", "200m", *SHORT, "--format", "json")
        found = json.loads(out)
        self.check_figures(found)
        self.assertGreater(sum(step["failed"] for step in found["steps"]), 0)
        self.assertTrue(any("failed" in note for note in found["notes"]), found["notes"])

    def test_a_counter_that_is_none(self):
        for counter, words in ((lambda billed: 7, ["does not move", "process_cpu_seconds_total"]),
                               (lambda billed: max(10 - 10 * billed, 0), ["has fallen", "restarted"]),
                               (lambda billed: -1, ["no CPU time"]),
                               (lambda billed: 1e300, ["no CPU time"]),
                               (lambda billed: float("nan"), ["neither"])):
            service = Service(counter=counter)
            with contextlib.closing(service.peer):
                self.fails(service.peer.url, "--limit", "200m", *SHORT, words=words)
                self.assertLess(len(service.peer.came), 5000)  # no flood while nothing is known

    def test_says_what_is_missing(self):
        service = Service()
        self.addCleanup(service.peer.close)
        self.fails(service.peer.url, words=["--limit", "does not say"])
        server = self.start("--data-uri", "memory:", engine="auto")
        url = f"http://127.0.0.1:{server.port}"
        self.fails(url, "--limit", "500m", "--metrics", url + "/livez", words=[url + "/livez", "neither", "--metrics"])
        self.fails(url + "/nowhere", "--limit", "500m", words=["/nowhere", "404", "success"])
        self.fails(url, "--limit", "50m", status=2, words=["--request 100m", "50m"])

    def test_says_what_stands_in_the_way(self):
        service = Service()
        self.addCleanup(service.peer.close)
        metrics = service.peer.url + "metrics"
        moved = b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n"
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            nobody = f"http://127.0.0.1:{closed.getsockname()[1]}/"
            self.fails(nobody, words=["Connection refused", nobody + "metrics"])
            self.fails(nobody, "--metrics", metrics, "--limit", "200m", words=["Connection refused"])
        for answer, words in ((lambda *_: moved, ["redirect", "/there"]),
                              (lambda *_: b"SSH-2.0-OpenSSH_9.2\r\n", ["HTTP/1.1"]),
                              (lambda *_: (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nno", True), ["HTTP/1.1"]),
                              (lambda *_: OK, ["neither", "(status 200)"]),
                              (lambda *_: threading.Event().wait() or b"", ["Connection timed out"])):
            peer = Peer(answer)
            with contextlib.closing(peer):
                self.fails(peer.url, "--limit", "200m", words=words)
        for answer, words in ((lambda *_: moved, ["redirect", "Location"]),
                              (lambda *_: b"SSH-2.0-OpenSSH_9.2\r\n", ["none of", "malformed"]),
                              (lambda *_: (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nno", True), ["closed_early"])):
            peer = Peer(answer)
            with contextlib.closing(peer):
                self.fails(peer.url, "--metrics", metrics, "--limit", "200m", *SHORT, words=words)

    def test_several_pods_are_not_one(self):
        pods = [self.start("--data-uri", "memory:", env={"POD_NAME": f"pod-{i}"}, engine="auto") for i in range(2)]
        front = RoundRobin([pod.port for pod in pods])
        self.addCleanup(front.close)
        self.fails(front.url, "--limit", "500m", words=["more than one pod", "pod-0", "pod-1"])
        self.fails(front.url + "load?ms=1", "--limit", "500m", "--metrics",
                   f"http://127.0.0.1:{pods[0].port}/metrics", *SHORT, words=["2 pods", "one alone"])

    def test_a_server_that_goes_away_meanwhile(self):
        server = kiln.Server("--data-uri", "memory:", engine="auto")
        self.addCleanup(server.kill)
        process = self.start_calibrate(f"http://127.0.0.1:{server.port}", "--limit", "500m")
        eventually(lambda: server.info()["requests_total"] > 20, "a calibration under way", within=20)
        server.process.kill()
        out, err = process.communicate(timeout=60 * SLOW)
        self.assertEqual((process.returncode, out), (1, ""), err)
        self.assertEqual(err.count("\n"), 1, err)


class Mistakes(CalibrateTest):
    def test_are_named_with_what_is_accepted(self):
        for arguments, words in (
                (["ftp://x"], ["'ftp://x'", "http://"]),
                (["--ms", "0"], ["--ms", "'0'", "1000"]),
                (["--ms", "1001"], ["--ms", "'1001'"]),
                (["--quota", "9m"], ["--quota", "'9m'", "10m"]),
                (["--ms", "1\n2"], ["--ms", "'1?2'"]),
                (["--quota", "half"], ["--quota", "'half'", "70m"]),
                (["--quota", "100000"], ["--quota", "CPUs"]),
                (["--request", "x"], ["--request", "'x'"]),
                (["--request", ""], ["--request"]),
                (["--slope", "0"], ["--slope", "'0'"]),
                (["--slope", "-1"], ["--slope", "'-1'"]),
                (["--slope", "2000000m"], ["--slope", "1000000"]),
                (["--reaction", "60"], ["--reaction", "'60'"]),
                (["--slo", "p50<1ms"], ["--slo", "p99<250ms"]),
                (["--slo", "p99<0"], ["--slo"]),
                (["--step-time", "199ms"], ["--step-time", "0.2s"]),
                (["--step-time", "inf"], ["--step-time", "'inf'"]),
                (["--seed", "-1"], ["--seed", "'-1'"]),
                (["--request", "1.5m"], ["--request", "'1.5m'", "whole"]),
                (["--name", "Kiln_1", "--patch", "p"], ["--name", "'Kiln_1'"]),
                (["--limit", "500m"], ["--limit", "URL"]),
                (["--metrics", "http://x/"], ["--metrics", "URL"]),
                (["http://x/", "--quota", "500m"], ["--quota", "URL"]),
                (["http://x/", "--from", "a.json"], ["--from", "URL"]),
                (["--from", "a.json", "--out", "b.json"], ["--from", "--out"]),
                (["--from", "a.json", "--ms", "7"], ["--from", "--ms"]),
                (["--target", "0"], ["--target", "0"]),
                (["--format", "xml"], ["--format", "xml", "json"])):
            with self.subTest(arguments):
                self.fails(*arguments, status=2, words=words)

    def test_a_place_that_cannot_be_written_is_said_before_measuring(self):
        before = time.monotonic()
        self.fails("--out", "/no/such/folder/x.json", words=["/no/such/folder/x.json", "No such file"])
        for place in (".", "/dev/null", "-/x"):
            out, err = self.calibrate("--out", place, status=1)
            self.assertEqual((out, err.count("\n")), ("", 1), err)
            self.assertIn(place, err)
        (self.folder / "file").touch()
        self.assertIn("no directory", self.calibrate("--patch", "file", status=1)[1])
        self.assertIn("Not a directory", self.calibrate("--patch", "file/below", status=1)[1])
        self.assertLess(time.monotonic() - before, 10 * SLOW)


class FromFile(CalibrateTest):
    """What was measured once is thought about again and again."""

    def setUp(self):
        super().setUp()
        self.file = self.folder / "reference.json"
        shutil.copy(kiln.HERE.parent / "kubernetes/testdata/calibration.json", self.file)

    def advice(self, *arguments):
        return json.loads(self.calibrate("--from", self.file, "--format", "json", *arguments)[0])["advice"]

    def test_wishes_change_the_advice(self):
        gentle = self.advice("--slope", "0.1m")
        self.assertEqual(gentle["recommended"], 90)
        self.assertIsNone(self.advice("--slope", "1000m")["recommended"])
        self.assertIsNone(self.advice("--reaction", "1h")["recommended"])
        larger = self.advice("--request", "200m", "--slope", "0.1m")
        self.assertEqual([row["cpu_millicores"] for row in larger["thresholds"]],
                         [2 * row["cpu_millicores"] for row in gentle["thresholds"]])
        strict, loose = self.advice("--slo", "p99<1us"), self.advice("--slo", "p99<1h")
        self.assertIsNone(strict["recommended"])
        self.assertGreater(loose["edge_millicores"], gentle["edge_millicores"])

    def test_measures_nothing_and_writes_nothing_unasked(self):
        before = self.file.read_text()
        self.calibrate("--from", self.file)
        self.assertEqual(self.file.read_text(), before)
        self.assertEqual([path.name for path in self.folder.iterdir()], ["reference.json"])

    def test_a_patch_is_written_and_written_again(self):
        for target in (None, 65):
            flags = ["--target", target] if target else ["--slope", "0.1m"]
            _, err = self.calibrate("--from", self.file, "--patch", "patch", "--request", "150m", *flags)
            text = (self.folder / "patch/kustomization.yaml").read_text()
            self.assertRegex(text, rf"averageUtilization\n +value: {target or 90}\n")
            self.assertRegex(text, r"requests/cpu\n +value: 150m\n")
            self.assertIn(f"a request of 150m, a limit of 600m and a target of {target or 90} %", err)
        self.assertEqual([path.name for path in (self.folder / "patch").iterdir()], ["kustomization.yaml"])

    def test_no_patch_without_a_target(self):
        out, err = self.calibrate("--from", self.file, "--patch", "patch", "--slope", "1000m", status=1)
        self.assertIn("recommended: none", out)
        self.assertIn("--target", err)
        self.assertFalse((self.folder / "patch").exists())

    def test_no_patch_with_a_target_that_never_scales_up(self):
        out, err = self.calibrate("--from", self.file, "--patch", "patch", "--target", 600, status=1)
        self.assertRegex(out, r"(?m)^ 600 % .* never scales up$")
        self.assertIn("600 % never scales up", err)
        self.assertFalse((self.folder / "patch").exists())

    def test_a_file_of_somebody_else_is_left_alone(self):
        (self.folder / "patch").mkdir()
        theirs = self.folder / "patch/kustomization.yaml"
        theirs.write_text("kind: Kustomization\n")
        self.fails("--from", self.file, "--patch", "patch", "--target", 50, words=["kustomization.yaml"],
                   leaves=["patch", "reference.json"])
        self.assertEqual(theirs.read_text(), "kind: Kustomization\n")

    def test_what_is_no_calibration_is_refused_in_a_line(self):
        good = json.loads(self.file.read_text())
        for change, word in (({"schema": 2}, "schema"), ({"line": None}, "line"), ({"steps": 7}, "steps"),
                             ({"limit_millicores": -1}, "limit_millicores")):
            with self.subTest(change):
                self.file.write_text(json.dumps(good | change))
                out, err = self.calibrate("--from", self.file, status=1)
                self.assertEqual((out, err.count("\n")), ("", 1), err)
                self.assertIn(word, err)
        self.file.write_text(json.dumps(good | {"interrupted": True}))
        self.assertIn("interrupted", self.calibrate("--from", self.file, status=1)[1])
        self.assertIn("directory", self.calibrate("--from", ".", status=1)[1])
        for text in ("", "{", "[]", "null", "\0" * 100):
            self.file.write_text(text)
            self.assertEqual(self.calibrate("--from", self.file, status=1)[1].count("\n"), 1)
        self.file.unlink()
        self.assertIn("reference.json", self.calibrate("--from", self.file, status=1)[1])


class Progress(CalibrateTest):
    def test_is_drawn_on_a_terminal(self):
        """Until Ctrl-C, which leaves nothing of it."""
        controller, terminal = os.openpty()
        self.addCleanup(os.close, controller)
        process = subprocess.Popen([kiln.binary(), "calibrate", "--out", ""], cwd=self.folder, stdin=subprocess.DEVNULL,
                                   env=kiln.clean_environment(), stdout=subprocess.PIPE, stderr=terminal)
        self.addCleanup(process.kill)
        os.close(terminal)
        seen = ""
        while not re.search(r"\r\[#+\.+\] \d+ s left: cost of ", seen):
            seen += os.read(controller, 4096).decode()
        self.assertRegex(seen, r"\r\[\.+\] \d+ s left: idle\x1b\[K")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20 * SLOW)
        with contextlib.suppress(OSError):
            while more := os.read(controller, 4096).decode():
                seen += more
        self.assertRegex(seen, r"\r\x1b\[Kkiln calibrate: interrupted[^\r]*\r\n$")


if __name__ == "__main__":
    unittest.main()
