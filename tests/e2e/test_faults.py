"""What is broken on purpose: who may, what Kubernetes and clients then see, and that it is whole again afterwards."""

import json
import signal
import time
import unittest

import kiln
from kiln import SLOW, KilnTest, SharedServerTest, encode_request, eventually

TOKEN = "s3cret-Token"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
BODIES = {
    "unready": {"seconds": 60},
    "unhealthy": {"seconds": 60},
    "latency": {"ms": 1, "seconds": 60},
    "errors": {"percent": 1, "seconds": 60},
}
ROUTES = [("GET", "/fault"), ("DELETE", "/fault/1")] + [
    ("POST", f"/fault/{kind}") for kind in ("unready", "unhealthy", "hang", "latency", "errors", "crash")]
PROBES = ("/livez", "/healthz", "/readyz", "/startupz")


def timed(call):
    """What it returned, and how long that took."""
    began = time.monotonic()
    value = call()
    return value, time.monotonic() - began


class FaultTest(KilnTest):
    def post(self, server, kind, body, fields=(), port=None):
        return server.fetch(f"/fault/{kind}", fields, "POST", json.dumps(body).encode(), port=port)

    def begin(self, server, kind, port=None, **body):
        answer = self.post(server, kind, body or BODIES[kind], port=port)
        self.assertEqual(answer.status, 202, answer)
        self.assertEqual(answer.header("Content-Type"), "application/json")
        fault = answer.json()
        self.assertEqual(answer.header("Location"), f"/fault/{fault['id']}")
        self.assertEqual(fault["fault"], kind)
        return fault

    def end(self, server, fault):
        self.assertEqual(server.fetch(f"/fault/{fault['id']}", method="DELETE").status, 204)

    def faults(self, server):
        answer = server.fetch("/fault")
        self.assertEqual(answer.status, 200)
        return answer.json()["faults"]

    def fastest(self, call, tries=5):
        """Of several: a machine that stalls once says nothing."""
        return min(timed(call)[1] for _ in range(tries))


class WhoMay(FaultTest):
    def assert_unknown(self, server, port=None):
        unknown = server.fetch("/nowhere")
        for method, path in ROUTES + [("OPTIONS", "/fault"), ("PUT", "/fault/unready"), ("HEAD", "/fault")]:
            for fields in ({}, BEARER, {"Origin": "http://evil.test"}):
                with self.subTest(f"{method} {path} {fields}"):
                    answer = server.fetch(path, fields, method, b'{"seconds":60}' if method == "POST" else None, port)
                    self.assertEqual(answer.status, 404)
                    if method != "HEAD":
                        self.assertEqual(answer.body, unknown.body)
        self.assertEqual(server.fetch("/readyz").status, 200)

    def test_nobody_without_the_flag(self):
        server = self.start("--admin-port", "0")
        self.assert_unknown(server)
        self.assert_unknown(server, server.admin_port)
        self.assertEqual(server.metrics().all("kiln_fault_active"), [])
        self.assertEqual({labels["route"] for labels, _ in server.metrics().all("http_requests_total")} & {"/fault"},
                         set())

    def test_admin_listener_alone(self):
        server = self.start("--faults", "--admin-port", "0")
        self.assert_unknown(server)
        self.begin(server, "unready", port=server.admin_port)
        for port in (server.port, server.admin_port):
            self.assertEqual(server.fetch("/readyz", port=port).status, 503)

    def test_token(self):
        server = self.start("--faults", env={"KILN_CONTROL_TOKEN": TOKEN})
        for method, path in ROUTES:
            for fields in ({}, {"Authorization": f"Bearer {TOKEN}x"}):
                with self.subTest(f"{method} {path}"):
                    answer = server.fetch(path, fields, method, b"{" if method == "POST" else None)
                    self.assertEqual(answer.status, 401)
        self.assertEqual(server.fetch("/readyz").status, 200)
        self.assertEqual(self.post(server, "unready", {"seconds": 60}, BEARER).status, 202)
        self.assertEqual(server.fetch("/readyz").status, 503)

    def test_pages_from_elsewhere(self):
        server = self.start("--faults")
        for method, path in ROUTES:
            answer = server.fetch(path, {"Origin": "http://evil.test"}, method, b"{}" if method == "POST" else None)
            self.assertEqual(answer.status, 403, f"{method} {path}")
        self.assertTrue(server.is_running)
        own = {"Origin": f"http://127.0.0.1:{server.port}", "Host": f"127.0.0.1:{server.port}"}
        self.assertEqual(self.post(server, "unready", {"seconds": 60}, own).status, 202)


class Routes(FaultTest, SharedServerTest):
    flags = ("--faults",)

    def setUp(self):
        super().setUp()
        self.addCleanup(lambda: [self.end(self.server, fault) for fault in self.faults(self.server)])

    def test_list_and_end(self):
        unready = self.begin(self.server, "unready", seconds=60.5)
        self.assertEqual(set(unready), {"id", "fault", "seconds", "remaining_seconds"})
        latency = self.begin(self.server, "latency", ms=1.5, seconds=60)
        self.assertEqual(latency["ms"], 1.5)
        errors = self.begin(self.server, "errors", percent=12.5, seconds=60, status=500)
        self.assertEqual((errors["percent"], errors["status"]), (12.5, 500))
        self.assertEqual(self.begin(self.server, "errors", percent=1, seconds=60)["status"], 503)
        listed = self.faults(self.server)
        self.assertEqual([fault["fault"] for fault in listed], ["unready", "latency", "errors", "errors"])
        self.assertEqual(listed[0]["id"], unready["id"])
        self.assertEqual(listed[0]["seconds"], 60.5)
        self.assertLessEqual(listed[0]["remaining_seconds"], 60.5)
        self.assertGreater(listed[0]["remaining_seconds"], 60.5 - 30 * SLOW)
        self.end(self.server, unready)
        self.assertEqual(len(self.faults(self.server)), 3)
        self.assert_problem(self.server.fetch(f"/fault/{unready['id']}", method="DELETE"), 404, "GET /fault")
        for name in ("0", "x", "0" + latency["id"], "%31", "99999999999999999999"):
            self.assertEqual(self.server.fetch(f"/fault/{name}", method="DELETE").status, 404, name)

    def test_bad_bodies(self):
        for kind, body, status, word in (
                ("unready", "", 400, "JSON"), ("unready", "{}", 422, "seconds is missing"),
                ("unready", '{"seconds":0}', 422, "is 0;"), ("hang", '{"seconds":86401}', 422, "86400"),
                ("unhealthy", '{"seconds":1,"ms":1}', 422, "'ms'"), ("latency", '{"seconds":1}', 422, "ms is missing"),
                ("latency", '{"ms":60001,"seconds":1}', 422, "60000"),
                ("errors", '{"percent":101,"seconds":1}', 422, "100"),
                ("errors", '{"percent":5,"seconds":1,"status":404}', 422, "500"),
                ("crash", '{"seconds":1}', 422, "'seconds'"), ("crash", "now", 400, "JSON")):
            with self.subTest(f"{kind} {body}"):
                answer = self.server.fetch(f"/fault/{kind}", {}, "POST", body.encode())
                self.assert_problem(answer, status, word)
        self.assertEqual(self.faults(self.server), [])

    def test_methods(self):
        for path, methods in (("/fault", "GET, HEAD"), ("/fault/hang", "POST"), ("/fault/1", "DELETE")):
            answer = self.server.fetch(path, method="PUT")
            self.assert_problem(answer, 405)
            self.assertEqual(set(answer.header("Allow").split(", ")) - {"OPTIONS"}, set(methods.split(", ")))
        self.assertEqual(self.server.fetch("/fault/nonsense", {}, "POST", b'{"seconds":1}').status, 405)

    def test_a_hundred(self):
        with self.server.connect() as client:
            client.send(encode_request("POST", "/fault/unready", body=b'{"seconds":60}') * 101)
            statuses = [client.response().status for _ in range(101)]
        self.assertEqual(statuses, [202] * 100 + [409])
        self.assertEqual(len(self.faults(self.server)), 100)

    def test_log_and_metrics_tell(self):
        def gauge(kind):
            return self.server.metrics().one("kiln_fault_active", fault=kind)

        for kind in ("unready", "unhealthy", "latency", "errors"):
            self.assertEqual(gauge(kind), 0)
            fault = self.begin(self.server, kind)
            number = int(fault["id"])
            self.assertEqual(gauge(kind), 1)
            self.end(self.server, fault)
            self.assertEqual(gauge(kind), 0)
            for message in ("fault began", "fault ended"):
                lines = eventually(lambda what=message, number=number: [
                    line for line in self.server.log(what) if line["id"] == number], message)
                self.assertEqual([(line["level"], line["fault"]) for line in lines], [("warning", kind)])
        self.assertEqual({labels["fault"] for labels, _ in self.server.metrics().all("kiln_fault_active")},
                         {"unready", "unhealthy", "hang", "latency", "errors"})

    def test_end_by_time_is_logged_though_nobody_comes(self):
        number = int(self.begin(self.server, "unready", seconds=0.2)["id"])
        self.begin(self.server, "unhealthy", seconds=60)
        eventually(lambda: any(line["id"] == number for line in self.server.log("fault ended")), "the end is logged")
        self.assertEqual([fault["fault"] for fault in self.faults(self.server)], ["unhealthy"])


class Probes(FaultTest):
    def statuses(self, server):
        return {path: server.fetch(path).status for path in PROBES}

    ALL_WELL = {path: 200 for path in PROBES}

    def test_unready_goes_and_comes_back(self):
        server = self.start("--faults", "--workers", "2")
        began = time.monotonic()
        self.begin(server, "unready", seconds=1)
        answer = server.fetch("/readyz?verbose")
        if answer.status == 200:
            self.assertGreater(time.monotonic() - began, 1, "ready in the middle of it")
        else:
            self.assertEqual(answer.status, 503)
            self.assertIn("fault", answer.body.decode())
            self.assertIn("[-]", answer.body.decode())
        eventually(lambda: server.fetch("/readyz").status == 200, "ready again")
        self.assertGreater(time.monotonic() - began, 1)

    def test_unready_concerns_readiness_alone(self):
        server = self.start("--faults", "--workers", "2")
        fault = self.begin(server, "unready")
        for _ in range(8):  # whichever worker is asked
            self.assertEqual(self.statuses(server), {**self.ALL_WELL, "/readyz": 503})
            for path in ("/", "/api/info", "/load?ms=1", "/metrics"):
                self.assertEqual(server.fetch(path).status, 200)
        url = f"http://127.0.0.1:{server.port}/readyz"
        self.assertEqual(kiln.run("healthcheck", url).returncode, 1)
        self.end(server, fault)
        self.assertEqual(self.statuses(server), self.ALL_WELL)
        self.assertEqual(kiln.run("healthcheck", url).returncode, 0)

    def test_unhealthy_concerns_liveness_alone(self):
        server = self.start("--faults", "--workers", "2")
        fault = self.begin(server, "unhealthy")
        for _ in range(8):
            self.assertEqual(self.statuses(server), {**self.ALL_WELL, "/livez": 503, "/healthz": 503})
        self.assertIn("fault", server.fetch("/livez?verbose").body.decode())
        self.assertEqual(server.fetch("/").status, 200)
        self.end(server, fault)
        self.assertEqual(self.statuses(server), self.ALL_WELL)

    def test_from_the_start(self):
        for kind, failing in (("unready", {"/readyz": 503}), ("unhealthy", {"/livez": 503, "/healthz": 503})):
            with self.subTest(kind):
                server = self.start(env={"KILN_FAULTS": kind})
                self.assertEqual(server.wait_for_log("fault began")["time"], "for ever")
                self.assertEqual(self.statuses(server), {**self.ALL_WELL, **failing})
                faults = self.faults(server)
                self.assertEqual(faults, [{"id": "1", "fault": kind, "seconds": None, "remaining_seconds": None}])
                self.end(server, faults[0])
                self.assertEqual(self.statuses(server), self.ALL_WELL)


class Hang(FaultTest):
    def test_answers_nothing_anywhere_and_ends(self):
        server = self.start("--faults", "--workers", "2", "--admin-port", "0", "--header-timeout", "1s",
                            "--idle-timeout", "1s")
        ports = [server.port] * 8 + [server.admin_port] * 2
        clients = [self.connect(server, port) for port in ports]
        for client in clients:
            self.assertEqual(client.get("/livez").status, 200)
        began = time.monotonic()
        seconds = 3 * SLOW
        self.begin(server, "hang", port=server.admin_port, seconds=seconds)

        def hangs(client):
            """False when it was answered: the answer to the POST is a moment ahead of the hang."""
            client.send(encode_request("GET", "/livez"))
            return client.is_silent(0.2) or client.response() is None

        hung_from = len(clients)
        for client in clients:
            eventually(lambda client=client: hangs(client), "it hangs", within=1)
        clients += [self.connect(server, port) for port in (server.port, server.port, server.admin_port)]
        for client in clients[hung_from:]:
            client.send(encode_request("GET", "/livez"))
        self.assertTrue(clients[-1].is_silent(0.2))
        self.assertLess(time.monotonic() - began, seconds, "too slow to have seen anything")
        spent = server.cpu_seconds()
        self.assertTrue(clients[0].is_silent(0.2))
        self.assertLess(server.cpu_seconds() - spent, 0.1)
        self.assertTrue(server.is_running)
        for client in clients:
            self.assertEqual(client.response().status, 200)
            self.assertGreaterEqual(time.monotonic() - began, seconds)
        eventually(lambda: server.log("fault ended"), "the end is logged")

    def test_ends_with_its_pod(self):
        server = self.start("--faults", "--drain-delay", "100ms", "--drain-timeout", "400ms")
        kept = self.connect(server)
        kept.get("/livez")
        self.begin(server, "hang", seconds=3600)
        server.signal()
        code, took = timed(lambda: server.wait(within=5))
        self.assertEqual(code, 0)
        self.assertGreaterEqual(took, 0.5)

    def test_second_signal_ends_it(self):
        server = self.start("--faults", "--drain-delay", "1h", "--drain-timeout", "1h")
        self.begin(server, "hang", seconds=3600)
        server.signal()
        server.wait_for_log("draining")
        server.signal()
        self.assertEqual(server.wait(within=4), 0)

    def test_over_in_time_it_drains_like_others(self):
        server = self.start("--faults", "--drain-delay", "100ms", "--drain-timeout", f"{round(30 * SLOW)}s")
        self.begin(server, "hang", seconds=1)
        server.signal()
        self.assertEqual(server.wait(within=20), 0)
        self.assertEqual(len(server.log("stopped")), 1)


class Crash(FaultTest):
    def test_ends_the_process_once_it_is_answered(self):
        for body in (b"", b"{}"):
            server = kiln.Server("--faults", "--workers", "2")
            self.addCleanup(server.kill)
            kept = self.connect(server)
            kept.get("/livez")
            answer = server.fetch("/fault/crash", {}, "POST", body)
            self.assertEqual(answer.status, 202)
            self.assertEqual(answer.json(), {"fault": "crash", "exit_status": 134})
            self.assertIsNone(answer.header("Location"))
            self.assertEqual(server.wait(within=5), 134)
            self.assertEqual(kept.rest(), b"")
            self.assertEqual(server.log("crashing, as asked")[0]["level"], "warning")
            self.assertEqual(server.log("draining"), [])
            self.assertEqual(server.complaints(), "")


class Latency(FaultTest):
    MS = 400
    SECONDS = MS / 1000

    def late_server(self, *flags, env=None):
        server = self.start("--faults", *flags, env=env)
        self.fault = self.begin(server, "latency", ms=self.MS, seconds=600)
        return server

    def assert_late(self, call, times=1):
        took = timed(call)[1]
        self.assertGreaterEqual(took, times * self.SECONDS)
        self.assertLess(took, times * self.SECONDS + 1 * SLOW)

    def test_to_the_millisecond(self):
        server = self.late_server()
        with server.connect() as client:
            fastest = self.fastest(lambda: client.get("/api/info"))
        self.assertGreaterEqual(fastest, self.SECONDS)
        self.assertLess(fastest, self.SECONDS + 0.02 * SLOW)

    def test_every_answer_but_those_of_watchers_and_commanders(self):
        server = self.late_server(env={"KILN_COST": "/version=1ms"})
        stored = server.fetch("/data", {}, "POST", b'{"a":1}')
        self.assertEqual(stored.status, 201)
        for method, path, status, body in (
                ("GET", "/", 200, None), ("HEAD", "/api/info", 200, None), ("GET", "/load?ms=1", 200, None),
                ("POST", "/echo", 200, b"x" * 300_000), ("GET", stored.header("Location"), 200, None),
                ("GET", "/version", 200, None), ("GET", "/openapi.json", 200, None), ("GET", "/nowhere", 404, None),
                ("PUT", "/load", 405, None), ("POST", "/data", 400, b"no JSON"), ("GET", "/load?ms=x", 400, None)):
            with self.subTest(f"{method} {path}"):
                answer, took = timed(lambda: server.fetch(path, {}, method, body))
                self.assertEqual(answer.status, status)
                self.assertGreaterEqual(took, self.SECONDS)
                if path == "/echo":
                    self.assertEqual(answer.body, body)
        for path in PROBES + ("/metrics", "/fault", "/burn"):
            with self.subTest(path):
                self.assertLess(self.fastest(lambda: server.fetch(path)), self.SECONDS / 2)
        self.assertGreater(server.metrics().one("http_request_duration_seconds_sum", route="/version"), self.SECONDS)
        self.end(server, self.fault)
        self.assertLess(self.fastest(lambda: server.fetch("/")), self.SECONDS / 2)

    def test_hidden_control_routes_are_late_like_unknown_paths(self):
        server = self.start("--faults", "--admin-port", "0")
        self.begin(server, "latency", port=server.admin_port, ms=self.MS, seconds=600)
        for path in ("/burn", "/fault", "/nowhere"):
            self.assertGreaterEqual(self.fastest(lambda: server.fetch(path), tries=1), self.SECONDS)

    def test_answers_stay_in_order_and_others_are_not_held_up(self):
        server = self.late_server("--workers", "1")
        client = self.connect(server)
        began = time.monotonic()
        client.send(b"".join(encode_request("GET", path, {"X-Request-Id": f"r{number}"})
                             for number, path in enumerate(("/", "/livez", "/load?ms=1", "/nowhere"))))
        self.assertLess(self.fastest(lambda: server.fetch("/livez")), self.SECONDS / 2)
        answers = [client.response() for _ in range(4)]
        self.assertEqual([answer.header("X-Request-Id") for answer in answers], ["r0", "r1", "r2", "r3"])
        self.assertEqual([answer.status for answer in answers], [200, 200, 200, 404])
        self.assertGreaterEqual(time.monotonic() - began, 3 * self.SECONDS)

    def test_many_wait_side_by_side(self):
        server = self.late_server("--workers", "1")
        clients = [self.connect(server) for _ in range(50)]
        began = time.monotonic()
        for client in clients:
            client.send(encode_request("GET", "/"))
        spent = server.cpu_seconds()
        for client in clients:
            self.assertEqual(client.response().status, 200)
        self.assertLess(time.monotonic() - began, self.SECONDS + 2 * SLOW)
        self.assertLess(server.cpu_seconds() - spent, 0.1 * SLOW)

    def test_adds_up(self):
        server = self.late_server()
        self.begin(server, "latency", ms=self.MS, seconds=600)
        self.assert_late(lambda: server.fetch("/"), times=2)

    def test_other_deadlines_do_not_matter(self):
        server = self.late_server("--header-timeout", "100ms", "--idle-timeout", "100ms", "--body-timeout", "100ms",
                                  "--write-timeout", "100ms")
        self.assert_late(lambda: self.assertEqual(server.fetch("/").status, 200))

    def test_client_that_goes_or_only_listens(self):
        server = self.late_server()
        gone = [self.connect(server) for _ in range(10)]
        for client in gone:
            client.send(encode_request("GET", "/"))
        eventually(lambda: server.metrics().one("http_requests_in_flight") == 11, "all wait")
        for client in gone:
            client.reset()
        half = self.connect(server)
        half.send(encode_request("GET", "/"))
        half.half_close()
        self.assertEqual(half.response().status, 200)
        half.expect_end()
        eventually(lambda: server.metrics().one("http_requests_in_flight") == 1, "nobody waits")

    def test_request_in_flight_is_finished_by_a_drain(self):
        server = self.late_server("--drain-delay", "0", "--drain-timeout", "60s")
        busy = self.connect(server)
        busy.send(encode_request("GET", "/"))
        eventually(lambda: server.metrics().one("http_requests_in_flight") == 2, "a request is in flight")
        server.signal()
        answer = busy.response()
        self.assertEqual((answer.status, answer.closes), (200, True))
        busy.expect_end()
        self.assertEqual(server.wait(within=5), 0)

    def test_drain_timeout_ends_what_waits_for_longer(self):
        server = self.start("--faults", "--drain-delay", "0", "--drain-timeout", "300ms")
        self.begin(server, "latency", ms=60_000, seconds=600)
        busy = self.connect(server)
        busy.send(encode_request("GET", "/"))
        eventually(lambda: server.metrics().one("http_requests_in_flight") == 2, "a request is in flight")
        server.signal()
        self.assertEqual(server.wait(within=4), 0)
        self.assertEqual(len(server.log("stopped")), 1)


class Errors(FaultTest):
    def statuses(self, server, path, count):
        with server.connect() as client:
            client.send(encode_request("GET", path) * count)
            return [client.response().status for _ in range(count)]

    def test_a_share_of_requests(self):
        server = self.start("--faults", "--workers", "1")
        count, share = 2000, 0.3
        self.begin(server, "errors", percent=100 * share, seconds=600, status=500)
        statuses = self.statuses(server, "/", count)
        self.assertEqual(set(statuses), {200, 500})
        deviation = (count * share * (1 - share)) ** 0.5
        self.assertAlmostEqual(statuses.count(500), count * share, delta=5 * deviation)
        for path in PROBES + ("/metrics", "/fault"):
            self.assertEqual(set(self.statuses(server, path, 40)), {200}, path)
        failed = server.metrics().sum("http_requests_total", route="/", code="500")
        self.assertEqual(failed, statuses.count(500))
        again = self.start("--faults", "--workers", "1")
        self.begin(again, "errors", percent=100 * share, seconds=600, status=500)
        self.assertEqual(self.statuses(again, "/", 200), statuses[:200], "the draws repeat")

    def test_all_of_them_and_nothing_is_done(self):
        server = self.start("--faults", "--workers", "2")
        fault = self.begin(server, "errors", percent=100, seconds=600)
        for method, path, body in (("GET", "/", None), ("POST", "/data", b'{"a":1}'), ("GET", "/load?ms=1000", None),
                                   ("POST", "/echo", b"x"), ("GET", "/nowhere", None), ("HEAD", "/api/info", None)):
            answer = server.fetch(path, {}, method, body)
            self.assertEqual(answer.status, 503, path)
            if method != "HEAD":
                self.assert_problem(answer, 503, "fault")
        self.assertEqual(server.metrics().one("kiln_burn_cpu_seconds_total", kind="asked"), 0)
        self.end(server, fault)
        self.assertEqual(server.fetch("/data").json()["items"], [])

    def test_any_status_that_says_server_error(self):
        server = self.start("--faults")
        for status in (500, 502, 507, 599):
            fault = self.begin(server, "errors", percent=100, seconds=600, status=status)
            self.assert_problem(server.fetch("/"), status)
            self.end(server, fault)


class Drain(FaultTest):
    def test_whatever_is_broken(self):
        for kind, body in {**BODIES, "latency": {"ms": 100, "seconds": 60}}.items():
            for number in (signal.SIGTERM, signal.SIGINT):
                with self.subTest(f"{kind} {number.name}"):
                    server = self.start("--faults", "--drain-delay", "200ms", "--drain-timeout", "30s")
                    self.begin(server, kind, **body)
                    with server.connect() as client:
                        client.get("/livez")
                        server.signal(number)
                        self.assertEqual(server.wait(within=8), 0)
                    self.assertEqual(len(server.log("stopped")), 1)


if __name__ == "__main__":
    unittest.main()
