"""How a server ends: what a pod's end looks like to its clients, to Kubernetes and to the one who pressed Ctrl-C."""

import contextlib
import signal
import threading
import time
import unittest

import kiln
from kiln import SLOW, KilnTest, encode_request, eventually


class Terminate(KilnTest):
    def refuses(self, server):
        try:
            with server.connect(timeout=1) as client:
                client.get("/livez")
        except (OSError, kiln.Ended):
            return True
        return False

    def test_stages(self):
        server = self.start("--drain-delay", "2s", "--drain-timeout", "20s")
        kept = self.connect(server)
        kept.get("/livez")
        idle = self.connect(server)
        idle.get("/livez")
        busy = self.connect(server)
        busy.send(encode_request("GET", "/load?ms=300"))
        eventually(lambda: server.metrics().one("http_requests_in_flight") == 2, "a request is in flight")

        began = time.monotonic()
        server.signal()
        record = server.wait_for_log("draining", within=2)
        self.assertEqual(record["delay"], "2s")
        ready = server.fetch("/readyz")
        self.assertEqual(ready.status, 503)
        self.assertIn("draining", server.fetch("/readyz?verbose").body.decode())
        for path in ("/livez", "/healthz", "/startupz", "/api/info", "/load?ms=1", "/"):
            answer = server.fetch(path)  # on a new connection
            self.assertEqual(answer.status, 200, path)
            self.assertTrue(answer.closes, path)
        # Those who were here before are told with their next answer.
        self.assertTrue(kept.get("/livez").closes)
        kept.expect_end()
        self.assertEqual(busy.response().status, 200)
        # To the end of the delay connections are accepted.
        while time.monotonic() - began < 1.5:
            self.assertEqual(server.fetch("/livez").status, 200)
        self.assertTrue(server.is_running)
        self.assertEqual(server.wait(), 0)
        took = time.monotonic() - began
        self.assertGreater(took, 1.9)
        self.assertLess(took, 2 + 3 * SLOW)
        idle.expect_end()
        with self.assertRaises(ConnectionRefusedError):
            server.connect()
        self.assertEqual(len(server.log("stopped")), 1)
        self.assertEqual(server.complaints(), "")

    def test_ready_fails_before_anything_else(self):
        server = self.start("--drain-delay", "1s")
        with server.connect() as client:
            self.assertEqual(client.get("/readyz").status, 200)
        began = time.monotonic()
        server.signal()
        eventually(lambda: server.fetch("/readyz").status == 503, "not ready", within=0.9)
        self.assertLess(time.monotonic() - began, 0.9)
        self.assertEqual(server.wait(), 0)

    def test_request_in_flight_is_finished_after_the_doors_close(self):
        server = self.start("--drain-delay", "100ms", "--drain-timeout", "60s", "--load-max", "10s")
        busy = self.connect(server)
        busy.send(encode_request("GET", "/load?ms=600"))
        eventually(lambda: server.metrics().one("http_requests_in_flight") == 2, "a request is in flight")
        server.signal()
        eventually(lambda: self.refuses(server), "new clients are refused")
        self.assertTrue(server.is_running)
        answer = busy.response()
        self.assertEqual(answer.status, 200)
        self.assertGreater(answer.json()["burned_ms"], 550)
        self.assertTrue(answer.closes)
        busy.expect_end()
        self.assertEqual(server.wait(), 0)

    def test_upload_in_flight_is_finished(self):
        server = self.start("--drain-delay", "100ms", "--drain-timeout", "60s")
        busy = self.connect(server)
        busy.send(encode_request("POST", "/echo", {"Content-Length": "10"}) + b"01234")
        self.assertTrue(busy.is_silent(0.05))
        server.signal()
        eventually(lambda: self.refuses(server), "new clients are refused")
        busy.send(b"56789")
        answer = busy.response()
        self.assertEqual((answer.status, answer.body, answer.closes), (200, b"0123456789", True))
        busy.expect_end()
        self.assertEqual(server.wait(), 0)

    def test_who_came_just_before_the_doors_close_is_answered(self):
        server = self.start("--drain-delay", "200ms", "--drain-timeout", "60s")
        newcomer, silent = self.connect(server), self.connect(server)
        eventually(lambda: server.metrics().sum("http_connections") == 3, "both are open")
        server.signal()
        eventually(lambda: self.refuses(server), "new clients are refused")
        answer = newcomer.get("/api/info")
        self.assertEqual((answer.status, answer.closes), (200, True))
        newcomer.expect_end()
        silent.expect_end()
        self.assertEqual(server.wait(within=4), 0)

    def test_drain_timeout_ends_what_does_not_end(self):
        server = self.start("--drain-delay", "0", "--drain-timeout", "500ms", "--load-max", "1h", "--burn-queue", "2h")
        busy = self.connect(server)
        busy.send(encode_request("GET", "/load?ms=3000000"))
        eventually(lambda: server.metrics().one("http_requests_in_flight") == 2, "a request is in flight")
        began = time.monotonic()
        server.signal()
        self.assertEqual(server.wait(), 0)
        self.assertGreater(time.monotonic() - began, 0.4)
        self.assertLess(time.monotonic() - began, 3 * SLOW)

    def test_client_that_never_reads_does_not_hold_the_end_up(self):
        server = self.start("--drain-delay", "0", "--drain-timeout", "500ms")
        deaf = self.connect(server, buffers=4096)
        deaf.send(encode_request("GET", "/openapi.json") * 50)
        half = self.connect(server)
        half.send(b"GET / HT")
        self.assertTrue(half.is_silent(0.1))
        server.signal()
        self.assertEqual(server.wait(within=4), 0)

    def test_idle_clients_do_not_hold_the_end_up(self):
        server = self.start("--drain-delay", "0", "--drain-timeout", "60s")
        clients = [self.connect(server) for _ in range(50)]
        for client in clients[::2]:
            client.get("/livez")
        eventually(lambda: server.metrics().sum("http_connections") == 51, "all are open")
        server.signal()
        self.assertEqual(server.wait(within=4), 0)
        for client in clients:
            client.expect_end()

    def test_clients_with_nothing_to_say_do_not_hold_the_end_up(self):
        server = self.start("--drain-delay", "0", "--drain-timeout", "20s")
        empty_line, lingering = server.connect(), server.connect()
        with empty_line, lingering:
            self.assertEqual(empty_line.get("/livez").status, 200)
            empty_line.send(b"\r\n")
            lingering.send(b"NONSENSE\r\n\r\n")
            self.assertEqual(lingering.response().status, 400)
            began = time.monotonic()
            server.signal()
            while server.is_running and time.monotonic() - began < 10 * SLOW:
                with contextlib.suppress(OSError):
                    lingering.send(b"x")
                time.sleep(0.3)  # the client's pace
            self.assertEqual(server.wait(), 0)
            self.assertLess(time.monotonic() - began, 8 * SLOW)

    def test_admin_port_answers_to_the_end(self):
        server = self.start("--drain-delay", "1s", "--admin-port", "0")
        server.signal()
        server.wait_for_log("draining")
        self.assertEqual(server.fetch("/readyz", port=server.admin_port).status, 503)
        self.assertEqual(server.fetch("/livez", port=server.admin_port).status, 200)
        self.assertEqual(server.wait(), 0)


class Interrupt(KilnTest):
    def test_without_the_delay(self):
        server = self.start("--drain-delay", "1h")
        server.fetch("/livez")
        server.signal(signal.SIGINT)
        self.assertEqual(server.wait(within=3), 0)

    def test_finishes_what_is_in_flight(self):
        server = self.start("--drain-delay", "1h")
        busy = self.connect(server)
        busy.send(encode_request("GET", "/load?ms=400"))
        eventually(lambda: server.metrics().one("http_requests_in_flight") == 2, "a request is in flight")
        server.signal(signal.SIGINT)
        self.assertEqual(busy.response().status, 200)
        self.assertEqual(server.wait(within=4), 0)


class SecondSignal(KilnTest):
    def test_ends_at_once(self):
        for first in (signal.SIGTERM, signal.SIGINT):
            for second in (signal.SIGTERM, signal.SIGINT):
                with self.subTest(f"{first.name}, {second.name}"):
                    server = self.start("--drain-delay", "1h", "--drain-timeout", "1h", "--load-max", "1h",
                                        "--burn-queue", "2h")
                    busy = self.connect(server)
                    busy.send(encode_request("GET", "/load?ms=3000000"))
                    eventually(lambda: server.metrics().one("http_requests_in_flight") == 2, "a request is in flight")
                    server.signal(first)
                    server.wait_for_log("draining")
                    self.assertTrue(busy.is_silent(0.1))
                    self.assertTrue(server.is_running)
                    server.signal(second)
                    self.assertEqual(server.wait(within=3), 0)


class Killed(KilnTest):
    def test_starts_again_on_its_port(self):
        port = 0
        for _ in range(5):
            server = kiln.Server("--port", port)
            self.addCleanup(server.kill)
            port = server.port
            self.assertEqual(server.fetch("/livez").status, 200)
            server.kill()


class RollingRestart(KilnTest):
    """Two servers; new connections go to whoever said within the last second that it is ready, as a Service does."""

    def test_loses_no_request(self):
        servers = [self.start("--drain-delay", f"{round(1500 * SLOW)}ms") for _ in range(2)]
        ready_at = [0.0, 0.0]
        stop = threading.Event()
        failures, answered, codes = [], [0, 0], set()
        deadline = time.monotonic() + 40 * SLOW

        def probe(number):
            while not stop.is_set() and time.monotonic() < deadline:
                with contextlib.suppress(OSError, kiln.Ended):
                    asked = time.monotonic()
                    if servers[number].fetch("/readyz").status == 200:
                        ready_at[number] = asked
                stop.wait(0.05)

        def load(turn):
            client, number = None, 0
            while not stop.is_set() and time.monotonic() < deadline:
                turn += 1
                now = time.monotonic()
                usable = [n for n in range(2) if now - ready_at[n] < 1]
                if client is None and not usable:
                    failures.append("nobody is ready")
                    return
                try:
                    if client is None:
                        number = usable[turn % len(usable)]
                        client = servers[number].connect()
                    answer = client.get(("/load?ms=0.5", "/api/info", "/", "/livez")[turn % 4],
                                        {"Connection": "close"} if turn % 5 == 0 else {})
                    codes.add(answer.status)
                    answered[number] += 1
                    if answer.closes:
                        client.close()
                        client = None
                except (OSError, kiln.Ended, AssertionError) as error:
                    failures.append(f"server {number}: {error!r}")
                    if client:
                        client.close()
                        client = None
            if client:
                client.close()

        with kiln.Together(*[lambda number=number: probe(number) for number in range(2)]):
            eventually(lambda: min(ready_at) > 0, "both are ready")
            with kiln.Together(*[lambda turn=turn: load(turn) for turn in range(6)]):
                try:
                    eventually(lambda: min(answered) > 100, "both serve", within=10)
                    servers[0].signal()
                    code = servers[0].wait(within=20)
                    at_exit = answered[1]
                    eventually(lambda: answered[1] > at_exit + 50, "the other serves on", within=10)
                finally:
                    stop.set()
        self.assertEqual(failures, [])
        self.assertEqual(codes, {200})
        self.assertEqual(code, 0)


if __name__ == "__main__":
    unittest.main()
