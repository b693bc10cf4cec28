"""What each route answers: shapes, names, headers, limits."""

import concurrent.futures
import datetime
import email.utils
import json
import os
import re
import shutil
import socket
import subprocess
import time
import unittest

import kiln
from kiln import SLOW, KilnTest, SharedServerTest, encode_chunks, encode_request, eventually

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
HTML = {"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}
MEBIBYTE = 1024 * 1024

# Of the product, besides what the OpenAPI document may list in addition.
ROUTES = {
    "/": {"GET", "HEAD"},
    "/api/info": {"GET", "HEAD"},
    "/load": {"GET", "HEAD", "POST"},
    "/echo": {"POST"},
    "/livez": {"GET", "HEAD"},
    "/healthz": {"GET", "HEAD"},
    "/readyz": {"GET", "HEAD"},
    "/startupz": {"GET", "HEAD"},
    "/metrics": {"GET", "HEAD"},
    "/version": {"GET", "HEAD"},
    "/openapi.json": {"GET", "HEAD"},
    "/data": {"GET", "HEAD", "POST"},
}
GET_ROUTES = [path for path, methods in ROUTES.items() if "GET" in methods]

IDENTITY = {
    "POD_NAME": "kiln-7d9f-abcde",
    "POD_IP": "10.244.0.17",
    "POD_NAMESPACE": "demo",
    "NODE_NAME": "pool-main-oz4kq",
    "NODE_IP": "10.0.0.4",
    "CPU_REQUEST_MILLI": "100",
    "CPU_LIMIT_MILLI": "500",
}


def allow_of(answer):
    return set(answer.header("Allow").split(", "))


class ContractTest(SharedServerTest):
    flags = ("--faults",)  # so that all documented routes are there
    environment = IDENTITY


class Root(ContractTest):
    def test_text_says_hello(self):
        answer = self.fetch("/")
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.header("Content-Type"), "text/plain; charset=utf-8")
        self.assertEqual(answer.body, b"Hello from kiln-7d9f-abcde on pool-main-oz4kq\n")
        self.assertFalse(answer.closes)
        for accept in ("*/*", "application/json", "text/plain"):
            self.assertEqual(self.fetch("/", {"Accept": accept}).body, answer.body)

    def test_browser_gets_the_page_and_a_new_connection(self):
        with self.server.connect() as client:
            answer = client.get("/", HTML)
            client.expect_end()
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.header("Content-Type"), "text/html; charset=utf-8")
        self.assertTrue(answer.closes)
        self.assertIn("Accept", answer.header("Vary"))
        page = answer.body.decode("utf-8")
        self.assertTrue(page.lstrip().lower().startswith("<!doctype html>"))
        # Without JavaScript too: before any script, as text.
        visible = re.sub(r"(?s)<(script|style)\b.*?</\1>", "", page)
        self.assertIn("kiln-7d9f-abcde", visible)
        self.assertIn("pool-main-oz4kq", visible)
        self.assertNotIn("{{", page)

    def test_page_needs_nothing_from_elsewhere(self):
        page = self.fetch("/", HTML).body.decode("utf-8")
        self.assertEqual(re.findall(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", page), [])
        self.assertEqual(re.findall(r"@import|url\(\s*['\"]?(?:https?:)?//", page), [])


class Info(ContractTest):
    STRINGS = {"pod_name": "kiln-7d9f-abcde", "pod_ip": "10.244.0.17", "node_name": "pool-main-oz4kq",
               "node_ip": "10.0.0.4", "namespace": "demo"}
    CPU = {"request_millicores", "limit_millicores", "used_millicores", "used_millicores_15s", "utilization_percent",
           "throttled_periods", "throttled_seconds", "burned_seconds"}

    def test_keys_and_types(self):
        eventually(lambda: self.server.info()["cpu"]["used_millicores"] is not None, "a first figure of CPU use")
        answer = self.fetch("/api/info")
        self.assertEqual(answer.header("Content-Type"), "application/json")
        info = answer.json()
        for key, value in self.STRINGS.items():
            self.assertEqual(info[key], value)
        for key in ("timestamp", "hostname", "zone", "version", "engine", "engine_reason"):
            self.assertIsInstance(info[key], str, key)
        self.assertRegex(info["timestamp"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")
        self.assertEqual(info["hostname"], socket.gethostname())
        self.assertIn(info["engine"], ("io_uring", "epoll"))
        if kiln.ENGINE != "auto":
            self.assertEqual(info["engine"], kiln.ENGINE)
        self.assertIs(type(info["workers"]), int)
        self.assertGreaterEqual(info["workers"], 1)
        self.assertIs(type(info["requests_total"]), int)
        self.assertIsInstance(info["uptime_seconds"], (int, float))
        self.assertEqual(set(info["cpu"]), self.CPU)
        for key, value in info["cpu"].items():
            self.assertTrue(value is None or type(value) in (int, float), f"cpu.{key} is {value!r}")
            self.assertTrue(value is None or value >= 0, f"cpu.{key} is {value!r}")
        self.assertEqual(info["cpu"]["request_millicores"], 100)
        self.assertEqual(info["cpu"]["limit_millicores"], 500)
        used = info["cpu"]["used_millicores"]
        self.assertAlmostEqual(info["cpu"]["utilization_percent"], used, delta=0.01 + used / 1000)  # of 100m
        self.assertEqual(set(info["burn"]), {"asked_seconds_60s", "billed_seconds_60s", "error_percent_60s"})
        self.assertEqual(set(info["memory"]), {"rss_bytes", "limit_bytes"})
        self.assertIs(type(info["memory"]["rss_bytes"]), int)
        if not kiln.SANITIZED:
            self.assertAlmostEqual(info["memory"]["rss_bytes"], self.server.resident_bytes(), delta=4 * MEBIBYTE)

    def test_timestamp_is_now(self):
        before = time.time()
        stamp = self.server.info()["timestamp"].replace("Z", "+00:00")
        seconds = datetime.datetime.fromisoformat(stamp).timestamp()
        self.assertGreater(seconds, before - 1.5)
        self.assertLess(seconds, time.time() + 0.5)

    def test_one_length_while_figures_grow(self):
        with self.server.connect() as client:
            first = client.get("/api/info")
            lengths = {len(first.body)}
            start, before = first.json()["uptime_seconds"], first.json()["requests_total"]

            def seconds_later():
                answer = client.get("/api/info")
                lengths.add(len(answer.body))
                info = answer.json()
                return info["uptime_seconds"] > start + 2 and info["requests_total"] > before + 20

            eventually(seconds_later, "uptime_seconds and requests_total grow", within=8)
        self.assertEqual(len(lengths), 1, lengths)

    def test_fresh_closes(self):
        with self.server.connect() as client:
            self.assertTrue(client.get("/api/info?fresh=1").closes)
            client.expect_end()
        for query in ("", "?fresh=0", "?other=1"):
            self.assertFalse(self.fetch("/api/info" + query).closes, query)

    def test_unknown_is_null_and_the_machine_speaks_for_itself(self):
        server = self.start()
        info = server.info()
        host = socket.gethostname()
        self.assertEqual(info["pod_name"], f"{host}-{server.port}")
        self.assertEqual(info["node_name"], host)
        self.assertEqual(info["namespace"], "")
        self.assertIsInstance(info["pod_ip"], str)
        self.assertFalse(info["pod_ip"].startswith("127."))
        self.assertEqual(info["node_ip"], info["pod_ip"])
        self.assertIsNone(info["cpu"]["request_millicores"])
        self.assertIsNone(info["cpu"]["utilization_percent"])
        answer = server.fetch("/livez")
        self.assertEqual(answer.header("X-Pod-Name"), info["pod_name"])
        self.assertEqual(answer.header("X-Node-Name"), host)

    def test_pod_name_in_a_cluster_without_the_downward_api_is_the_host_name(self):
        server = self.start(env={"KUBERNETES_SERVICE_HOST": "10.96.0.1"})
        self.assertEqual(server.info()["pod_name"], socket.gethostname())

    def test_names_that_try_to_break_out(self):
        name = "a<b>&\"c'\\"
        server = self.start(env={"POD_NAME": name, "NODE_NAME": "x\r\nInjected: yes", "CPU_REQUEST_MILLI": "many"})
        self.assertEqual(server.info()["pod_name"], name)
        self.assertEqual(server.info()["node_name"], socket.gethostname())
        self.assertIsNone(server.info()["cpu"]["request_millicores"])
        answer = server.fetch("/", HTML)
        self.assertIsNone(answer.header("Injected"))
        self.assertIn("a&lt;b&gt;&amp;&quot;c&#39;\\", answer.body.decode())
        self.assertNotIn("a<b>", answer.body.decode())
        self.assertEqual(server.fetch("/load?ms=0").json()["pod_name"], name)
        self.assertEqual(server.metrics().one("kiln_pod_info", pod=name), 1)
        warnings = [record["msg"] for record in server.log() if record["level"] == "warning"]
        self.assertEqual(len(warnings), 1, warnings)
        self.assertIn("NODE_NAME", warnings[0])
        self.assertIn("CPU_REQUEST_MILLI", warnings[0])


class Load(ContractTest):
    def check(self, answer, requested):
        self.assertEqual(answer.status, 200, answer)
        self.assertEqual(answer.header("Content-Type"), "application/json")
        load = answer.json()
        for key in ("requested_ms", "burned_ms", "overhead_ms", "carried_ms", "queue_ms", "wall_ms"):
            self.assertIsInstance(load[key], (int, float), key)
        self.assertAlmostEqual(load["requested_ms"], requested, places=3)
        parts = load["burned_ms"] + load["overhead_ms"] + load["carried_ms"]
        self.assertAlmostEqual(load["requested_ms"], parts, delta=0.0015)
        for key in ("burned_ms", "queue_ms", "wall_ms"):
            self.assertGreaterEqual(load[key], 0)
        self.assertGreaterEqual(load["wall_ms"] + 0.1, load["burned_ms"])
        self.assertEqual(load["pod_name"], "kiln-7d9f-abcde")
        self.assertEqual(load["node_name"], "pool-main-oz4kq")
        return load

    def test_five_milliseconds_by_default(self):
        load = self.check(self.fetch("/load"), 5)
        self.assertGreater(load["burned_ms"], 1)
        self.check(self.fetch("/load", method="POST", body=b""), 5)

    def test_amounts(self):
        for text, amount in (("0", 0), ("0.001", 0.001), ("0.25", 0.25), ("1e1", 10), ("12.5", 12.5), ("%37", 7),
                             ("50", 50)):
            with self.subTest(text):
                load = self.check(self.fetch("/load?ms=" + text), amount)
                if amount == 0:
                    self.assertEqual(load["burned_ms"], 0)

    def test_server_timing_has_the_same_figures(self):
        for amount in ("0", "1", "7.5"):
            answer = self.fetch("/load?ms=" + amount)
            timing = {}
            for entry in answer.header("Server-Timing").split(", "):
                name, duration = re.fullmatch(r"([a-z_]+);dur=(-?[0-9]+\.[0-9]{3})", entry).groups()
                timing[name] = float(duration)
            figures = {key[:-3]: value for key, value in answer.json().items()
                       if key.endswith("_ms") and value is not None}
            self.assertEqual(timing, figures)

    def test_form(self):
        self.check(self.fetch("/load", FORM, "POST", b"ms=3"), 3)
        self.check(self.fetch("/load", {"Content-Type": FORM["Content-Type"] + "; charset=utf-8"}, "POST", b"ms=2.5"),
                   2.5)
        self.check(self.fetch("/load?ms=4", {}, "POST", b""), 4)
        chunked = dict(FORM, **{"Transfer-Encoding": "chunked"})
        self.check(self.fetch("/load", chunked, "POST", encode_chunks(b"ms=6", 1)), 6)

    def test_body_that_is_no_form(self):
        answer = self.fetch("/load", {"Content-Type": "application/json"}, "POST", b'{"ms": 3}')
        self.assert_problem(answer, 415, "application/x-www-form-urlencoded")
        self.assert_problem(self.fetch("/load", {}, "POST", b"ms=3"), 415)

    def test_one_length(self):
        with self.server.connect() as client:
            lengths = {len(client.get("/load?ms=" + amount).body) for amount in ("0", "0.001", "1", "5", "123.456")}
        self.assertEqual(len(lengths), 1, lengths)

    def test_amounts_that_cannot_be_had_name_the_limit(self):
        for text in ("-1", "-0.5", "NaN", "nan", "inf", "Infinity", "1e309", "1e30", "1000.001", "1001", "5ms", "1s",
                     "", "+5", "%205", "5%20", "0x10", "1,5", "five", "5%00", "%FF"):
            with self.subTest(text):
                self.assert_problem(self.fetch("/load?ms=" + text), 400, "ms", "1000")

    def test_queries_that_cannot_be_understood(self):
        for query, word in (("ms=5&ms=5", "twice"), ("ms=5&millis=5", "millis"), ("MS=5", "MS"), ("ms=%zz", "")):
            with self.subTest(query):
                answer = self.fetch("/load?" + query)
                self.assertEqual(answer.status, 400)
                self.assert_problem(answer, 400, word)
        self.assert_problem(self.fetch("/load?ms=1", FORM, "POST", b"ms=1"), 400, "twice")

    def test_limit_is_the_flags(self):
        server = self.start("--load-max", "20ms")
        self.assertEqual(server.fetch("/load?ms=20").json()["requested_ms"], 20)
        self.assert_problem(server.fetch("/load?ms=20.1"), 400, "20.1", "20")
        small = self.start("--load-max", "2ms")
        self.assertLessEqual(small.fetch("/load").json()["requested_ms"], 2)


class Echo(ContractTest):
    def echo(self, body, content_type="application/x-test", **fields):
        return self.fetch("/echo", {"Content-Type": content_type, **fields}, "POST", body)

    def test_byte_for_byte_with_its_type(self):
        everything = bytes(range(256))
        for body in (b"", b"x", b"\0", b"\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", everything, everything * 300,
                     os.urandom(MEBIBYTE)):
            with self.subTest(len=len(body)):
                answer = self.echo(body, 'text/x-odd; charset="utf-8"')
                self.assertEqual(answer.status, 200)
                self.assertEqual(answer.header("Content-Type"), 'text/x-odd; charset="utf-8"')
                self.assertEqual(answer.header("Content-Length"), str(len(body)))
                self.assertTrue(answer.body == body, "another body came back")

    def test_without_a_type(self):
        answer = self.fetch("/echo", {}, "POST", b"\1\2")
        self.assertEqual((answer.status, answer.header("Content-Type")), (200, "application/octet-stream"))

    def test_json_is_not_stored(self):
        self.assertEqual(self.echo(b"{}", "application/json").header("Cache-Control"), "no-store")

    def test_chunked(self):
        body = os.urandom(100_000)
        for size in (1, 7, 4096, 65536, 100_000):
            with self.subTest(size):
                content = body[:2000] if size == 1 else body
                answer = self.echo_chunked(encode_chunks(content, size))
                self.assertEqual(answer.status, 200)
                self.assertTrue(answer.body == content, "another body came back")

    def echo_chunked(self, text):
        return self.fetch("/echo", {"Transfer-Encoding": "chunked", "Content-Type": "a/b"}, "POST", text)

    def test_chunk_extensions_and_trailers_are_dropped(self):
        text = b'3;a=b;c="d;e"\r\nabc\r\n002\r\nde\r\n0\r\nX-Trailer: x\r\n\r\n'
        self.assertEqual(self.echo_chunked(text).body, b"abcde")

    def test_at_the_limit_and_past_it(self):
        limit = 10_000
        server = self.start("--max-body", limit)
        for size, status in ((limit - 1, 200), (limit, 200), (limit + 1, 413)):
            body = b"x" * size
            with self.subTest(size):
                self.assertEqual(server.fetch("/echo", {}, "POST", body).status, status)
                chunked = server.fetch("/echo", {"Transfer-Encoding": "chunked"}, "POST", encode_chunks(body, 999))
                self.assertEqual(chunked.status, status)

    def test_too_large_is_a_problem_and_closes(self):
        with self.server.connect() as client:
            client.send(encode_request("POST", "/echo", {"Content-Length": str(MEBIBYTE + 1)}))
            answer = client.response()
            self.assertTrue(answer.closes)
            client.expect_end()
        self.assert_problem(answer, 413)

    def test_expectations(self):
        fields = {"Expect": "100-continue", "Content-Length": "5"}
        with self.server.connect() as client:
            client.send(encode_request("POST", "/echo", fields))
            self.assertEqual(client.response().status, 100)
            client.send(b"hello")
            self.assertEqual(client.response().body, b"hello")
        with self.server.connect() as client:
            client.send(encode_request("POST", "/echo", dict(fields, **{"Content-Length": str(MEBIBYTE + 1)})))
            self.assertEqual(client.response().status, 413)  # and no word of going on
            client.expect_end()
        self.assert_problem(self.fetch("/echo", {"Expect": "a-miracle"}, "POST", b"x"), 417)


class Probes(ContractTest):
    def test_green_and_verbose(self):
        for path in ("/livez", "/healthz", "/readyz", "/startupz"):
            with self.subTest(path):
                answer = self.fetch(path)
                self.assertEqual((answer.status, answer.body), (200, b"ok\n"))
                self.assertEqual(answer.header("Content-Type"), "text/plain; charset=utf-8")
                self.assertEqual(answer.header("Cache-Control"), "no-store")
                verbose = self.fetch(path + "?verbose")
                self.assertEqual(verbose.status, 200)
                self.assertRegex(verbose.body.decode(), r"(?m)^\[\+\]\w* ?\w+ ok$")
                self.assertEqual(self.fetch(path + "?verbose=0").body, b"ok\n")

    def test_answer_on_the_admin_port_too(self):
        server = self.start("--admin-port", "0")
        self.assertIsNotNone(server.admin_port)
        self.assertNotEqual(server.admin_port, server.port)
        for path in ("/livez", "/readyz", "/startupz", "/metrics"):
            self.assertEqual(server.fetch(path, port=server.admin_port).status, 200)
            self.assertEqual(server.fetch(path).status, 200)


class MetricsPage(ContractTest):
    FAMILIES = {
        "http_requests_total": "counter", "http_request_duration_seconds": "histogram",
        "http_requests_in_flight": "gauge", "http_connections": "gauge", "kiln_build_info": "gauge",
        "kiln_pod_info": "gauge", "kiln_engine_info": "gauge", "kiln_burn_cpu_seconds_total": "counter",
        "kiln_burn_queue_seconds": "gauge", "kiln_burn_rejected_total": "counter", "kiln_loop_turns_total": "counter",
        "kiln_cpu_request_cores": "gauge", "kiln_cpu_limit_cores": "gauge", "process_cpu_seconds_total": "counter",
        "process_resident_memory_bytes": "gauge", "process_start_time_seconds": "gauge",
    }

    def test_families_and_types(self):
        answer = self.fetch("/metrics")
        self.assertEqual(answer.status, 200)
        self.assertRegex(answer.header("Content-Type"), r"^text/plain; version=0\.0\.4(; charset=utf-8)?$")
        metrics = kiln.Metrics(answer.body.decode("utf-8"))
        self.assertEqual({name: metrics.types.get(name) for name in self.FAMILIES}, self.FAMILIES)
        self.assertEqual(metrics.one("kiln_cpu_request_cores"), 0.1)
        self.assertEqual(metrics.one("kiln_cpu_limit_cores"), 0.5)
        self.assertEqual(metrics.one("kiln_pod_info", pod="kiln-7d9f-abcde", node="pool-main-oz4kq"), 1)
        info = self.server.info()
        self.assertEqual(metrics.one("kiln_engine_info", engine=info["engine"], reason=info["engine_reason"]), 1)
        self.assertEqual(set(labels["kind"] for labels, _ in metrics.all("kiln_burn_cpu_seconds_total")),
                         {"asked", "burned"})

    def test_open_files_of_the_process(self):
        metrics = self.server.metrics()
        self.assertAlmostEqual(metrics.one("process_open_fds"), self.server.open_files(), delta=3)
        self.assertGreater(metrics.one("process_max_fds"), metrics.one("process_open_fds"))

    @unittest.skipIf(os.environ.get("KILN_TEST_NO_PROMTOOL") == "1", "KILN_TEST_NO_PROMTOOL=1")
    def test_promtool_has_nothing_to_say(self):
        promtool = shutil.which("promtool")
        self.assertIsNotNone(promtool, "promtool is missing (Debian: prometheus); KILN_TEST_NO_PROMTOOL=1 goes without")
        for path in GET_ROUTES:
            self.fetch(path)
        self.fetch("/nowhere")
        self.fetch("/echo", {"Content-Type": "a/b"}, "POST", b"x")
        text = self.fetch("/metrics").body
        checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, check=False,
                                 timeout=30 * SLOW)
        self.assertEqual((checked.returncode, checked.stdout, checked.stderr), (0, b"", b""))

    def count(self, **labels):
        return self.server.metrics().sum("http_requests_total", **labels)

    def test_requests_are_counted_by_route_method_and_code(self):
        for target, method, label, code in (("/livez", "GET", "/livez", "200"), ("/livez?x=1", "HEAD", "/livez", "200"),
                                            ("/load?ms=0", "POST", "/load", "200"),
                                            ("/load?ms=x", "GET", "/load", "400"),
                                            ("/no/such/path", "GET", "unmatched", "404")):
            with self.subTest(target):
                before = self.count(route=label, method=method, code=code)
                self.fetch(target, method=method)
                self.assertEqual(self.count(route=label, method=method, code=code), before + 1)

    def test_no_client_chooses_a_label(self):
        def send(method, path):
            return self.fetch(path, method=method)

        invalid = self.count(route="invalid")
        for number in range(5):
            send("GET", f"/secret-{number}")
            send(f"BREW{number}", "/livez")
        with self.server.connect() as client:
            client.send(b"GET /secret-line HTTP/1.1\nHost: x\n\n")
            self.assertEqual(client.response().status, 400)
        metrics = self.server.metrics()
        self.assertNotIn("secret", metrics.text)
        self.assertNotIn("BREW", metrics.text)
        self.assertGreaterEqual(metrics.sum("http_requests_total", method="other"), 5)
        self.assertEqual(metrics.sum("http_requests_total", route="invalid"), invalid + 1)
        known = set(ROUTES) | {"unmatched", "invalid"} | set(self.fetch("/openapi.json").json()["paths"])
        self.assertLessEqual({labels["route"] for labels, _ in metrics.all("http_requests_total")}, known)

    def test_histogram_adds_up(self):
        for _ in range(20):
            self.fetch("/load?ms=1")
        metrics = self.server.metrics()
        buckets = metrics.all("http_request_duration_seconds_bucket", route="/load")
        bounds = [float(labels["le"].replace("+Inf", "inf")) for labels, _ in buckets]
        counts = [value for _, value in buckets]
        self.assertEqual(bounds, sorted(bounds))
        self.assertEqual(bounds[-1], float("inf"))
        self.assertEqual(counts, sorted(counts))
        self.assertEqual(counts[-1], metrics.one("http_request_duration_seconds_count", route="/load"))
        self.assertGreater(metrics.one("http_request_duration_seconds_sum", route="/load"), 0)

    def test_old_http_gets_it_whole(self):
        with self.server.connect() as client:
            answer = client.get("/metrics", version="1.0")
            client.expect_end()
        self.assertIsNone(answer.header("Transfer-Encoding"))
        self.assertIn("http_requests_total", kiln.Metrics(answer.body.decode()).types)


class Documents(ContractTest):
    def test_version(self):
        version = self.fetch("/version")
        self.assertEqual(version.header("Content-Type"), "application/json")
        facts = version.json()
        self.assertLessEqual({"version", "commit", "compiler", "liburing"}, set(facts))
        self.assertTrue(all(isinstance(value, str) and value for value in facts.values()), facts)
        self.assertEqual(facts["version"], self.server.info()["version"])
        said = kiln.run("--version").stdout
        self.assertIn(facts["version"], said)
        self.assertIn(facts["commit"], said)

    def test_openapi_lists_what_is_served(self):
        answer = self.fetch("/openapi.json")
        self.assertEqual(answer.header("Content-Type"), "application/json")
        document = answer.json()
        self.assertRegex(document["openapi"], r"^3\.")
        self.assertLessEqual(set(ROUTES), set(document["paths"]))
        for path, operations in document["paths"].items():
            documented = {name.upper() for name in operations if name in ("get", "post", "put", "delete", "patch",
                                                                         "head", "options")}
            target = re.sub(r"\{[^}]*\}", "1", path)
            with self.subTest(path):
                options = self.fetch(target, method="OPTIONS")
                self.assertEqual(options.status, 204)
                served = allow_of(options)
                self.assertEqual("GET" in served, "HEAD" in served)
                self.assertEqual(served - {"HEAD", "OPTIONS"}, documented - {"HEAD", "OPTIONS"})

    def test_references_lead_somewhere(self):
        document = self.fetch("/openapi.json").json()
        references = set(re.findall(r'"\$ref": ?"#/([^"]+)"', json.dumps(document)))
        self.assertTrue(references)
        for reference in references:
            at = document
            for part in reference.split("/"):
                self.assertIn(part, at, reference)
                at = at[part]


class EveryAnswer(ContractTest):
    REQUESTS = [("GET", path) for path in GET_ROUTES] + [
        ("POST", "/echo"), ("POST", "/load"), ("GET", "/nowhere"), ("DELETE", "/livez"), ("OPTIONS", "/load"),
        ("GET", "/load?ms=x"), ("HEAD", "/"), ("OPTIONS", "*")]

    def check_common(self, answer):
        self.assertEqual(answer.header("Server"), "kiln")
        self.assertEqual(answer.header("X-Pod-Name"), "kiln-7d9f-abcde")
        self.assertEqual(answer.header("X-Node-Name"), "pool-main-oz4kq")
        date = answer.header("Date")
        self.assertRegex(date, r"^(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT$")
        self.assertLess(abs(email.utils.parsedate_to_datetime(date).timestamp() - time.time()), 2 + SLOW)
        self.assertRegex(answer.header("X-Request-Id"), r"^[0-9A-Za-z._-]{1,128}$")
        if "json" in (answer.header("Content-Type") or ""):
            self.assertEqual(answer.header("Cache-Control"), "no-store")

    def test_common_headers(self):
        for method, target in self.REQUESTS:
            with self.subTest(f"{method} {target}"):
                self.check_common(self.fetch(target, method=method))
        self.check_common(self.fetch("/", HTML))

    def test_common_headers_of_refusals(self):
        for text in (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/2.0\r\n\r\n"):
            with self.subTest(text), self.server.connect() as client:
                client.send(text)
                answer = client.response()
                self.check_common(answer)
                self.assertTrue(answer.closes)
                self.assertEqual(answer.header("Content-Type"), "application/problem+json")
                client.expect_end()

    def test_request_id_is_echoed_when_well_formed(self):
        for given in ("1", "a-b_c.d", "x" * 128, "3f2504e0-4f89-11d3-9a0c-0305e82c3301"):
            self.assertEqual(self.fetch("/livez", {"X-Request-Id": given}).header("X-Request-Id"), given)
            self.assertEqual(self.fetch("/nowhere", {"x-request-id": given}).header("X-Request-Id"), given)
        for given in ("", "x" * 129, "a b", 'a"b', "a\tb", "<script>", "caf\xe9"):
            made = self.fetch("/livez", {"X-Request-Id": given}).header("X-Request-Id")
            self.assertNotEqual(made, given)
            self.assertRegex(made, r"^[0-9a-f]+$")

    def test_request_id_is_made_when_absent_never_twice(self):
        with self.server.connect() as client:
            made = {client.get("/livez").header("X-Request-Id") for _ in range(200)}
        made |= {self.fetch("/livez").header("X-Request-Id") for _ in range(50)}
        self.assertEqual(len(made), 250)

    def test_head_is_get_without_a_body(self):
        volatile = {"date", "x-request-id", "server-timing"}
        with self.server.connect() as client:
            for path in GET_ROUTES:
                with self.subTest(path):
                    head = client.request("HEAD", path)
                    get = client.get(path)
                    self.assertEqual(head.status, get.status)

                    def stable(answer):
                        return [(name, value) for name, value in answer.fields if name.lower() not in volatile]

                    self.assertEqual(stable(head), stable(get))
        page = self.fetch("/", HTML, "HEAD")
        self.assertEqual(int(page.header("Content-Length")), len(self.fetch("/", HTML).body))

    def test_unknown_paths(self):
        for path in ("/nowhere", "/load/", "//", "/livez/x", "/LIVEZ", "/api", "/../livez", "/%6Civez/x", "/a%00b"):
            with self.subTest(path):
                self.assert_problem(self.fetch(path), 404)
                self.assertEqual(self.fetch(path, method="POST", body=b"x").status, 404)

    def test_wrong_methods_name_the_right_ones(self):
        for path, methods in ROUTES.items():
            for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE"):
                if method in methods:
                    continue
                with self.subTest(f"{method} {path}"):
                    answer = self.fetch(path, method=method)
                    self.assertEqual(answer.status, 405)
                    self.assertEqual(allow_of(answer) - {"OPTIONS"}, methods)

    def test_methods_that_no_route_has(self):
        for method in ("BREW", "get", "M-SEARCH"):
            for path in ("/livez", "/nowhere"):
                with self.subTest(f"{method} {path}"):
                    self.assert_problem(self.fetch(path, method=method), 501)

    def test_needless_escapes_in_paths(self):
        self.assertEqual(self.fetch("/%6civez").status, 200)
        self.assertEqual(self.fetch("/api/%69nfo?x=%00").status, 200)
        self.assertEqual(self.fetch("/api%2Finfo").status, 404)
        self.assertEqual(self.fetch("/%256civez").status, 404)

    def test_absolute_targets(self):
        self.assertEqual(self.fetch("http://kiln.test/livez").body, b"ok\n")
        self.assertEqual(self.fetch("http://kiln.test").status, 200)


class Addresses(KilnTest):
    def test_both_families(self):
        server = self.start()
        self.assertEqual(server.fetch("/livez").status, 200)
        try:
            with socket.socket(socket.AF_INET6) as probe:
                probe.bind(("::1", 0))
        except OSError:
            return  # this machine has no IPv6; above, IPv4 alone did
        self.assertEqual(server.fetch("/livez", address="::1").status, 200)

    def test_one_address_is_one_address(self):
        for _ in range(5):  # somebody else may have the same port of the other address
            server = self.start("--address", "127.0.0.2")
            self.assertEqual(server.fetch("/livez", address="127.0.0.2").status, 200)
            with socket.socket() as other:
                try:
                    other.bind(("127.0.0.1", server.port))
                except OSError:
                    continue
                with self.assertRaises(ConnectionRefusedError):
                    server.connect(address="127.0.0.1")
                return
        self.fail("it has the port of 127.0.0.1, too")

    def test_settings_come_from_the_environment(self):
        server = self.start(env={"KILN_PORT": "0", "KILN_ADMIN_PORT": "0", "KILN_LOAD_MAX": "7ms"})
        self.assertIsNotNone(server.admin_port)
        self.assert_problem(server.fetch("/load?ms=8"), 400, "7")

    def test_service_links_are_ignored(self):
        links = {"KILN_PORT": "tcp://10.96.0.9:8080", "KILN_PORT_8080_TCP": "tcp://10.96.0.9:8080",
                 "KILN_PORT_8080_TCP_PROTO": "tcp", "KILN_PORT_8080_TCP_PORT": "8080",
                 "KILN_PORT_8080_TCP_ADDR": "10.96.0.9", "KILN_SERVICE_HOST": "10.96.0.9",
                 "KILN_SERVICE_PORT": "8080", "KILN_SERVICE_PORT_HTTP": "8080"}
        server = self.start("--port", "0", env=links)
        self.assertEqual(server.fetch("/readyz").status, 200)


class ManyAtOnce(ContractTest):
    def test_answers_are_not_mixed_up(self):
        def ask(number):
            body = os.urandom(1000 + 37 * number)
            with self.server.connect() as client:
                for turn in range(20):
                    identity = f"c{number}-{turn}"
                    echoed = client.request("POST", "/echo", {"X-Request-Id": identity, "Content-Type": f"a/c{number}"},
                                            body)
                    if (echoed.header("X-Request-Id"), echoed.header("Content-Type")) != (identity, f"a/c{number}"):
                        return f"{identity}: {echoed.fields}"
                    if echoed.body != body:
                        return f"{identity}: another body"
            return None

        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            self.assertEqual([wrong for wrong in pool.map(ask, range(20)) if wrong], [])


if __name__ == "__main__":
    unittest.main()
