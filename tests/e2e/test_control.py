"""The routes that command: who may, what they take, what is then held, and how it ends."""

import contextlib
import os
import pathlib
import shutil
import subprocess
import unittest
import urllib.parse

import kiln
from kiln import SLOW, KilnTest, SharedServerTest, encode_request, eventually

TOKEN = "s3cret-Token=="
BEARER = {"Authorization": f"Bearer {TOKEN}"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
MEBIBYTE = 1024 * 1024
MACHINE_MILLICORES = len(os.sched_getaffinity(0)) * 1000

CONTROL = [("GET", "/burn"), ("POST", "/burn"), ("DELETE", "/burn/1"), ("GET", "/memory"), ("POST", "/memory"),
           ("DELETE", "/memory/1"), ("POST", "/ConsumeCPU"), ("POST", "/ConsumeMem"), ("POST", "/BumpMetric")]
# Small ones: these tests are about lists and limits, not about CPU.
BODIES = {"/burn": b'{"millicores":1,"seconds":60}', "/memory": b'{"mebibytes":1,"seconds":60}',
          "/ConsumeCPU": b"millicores=1&durationSec=60", "/ConsumeMem": b"megabytes=1&durationSec=60",
          "/BumpMetric": b"metric=depth&delta=1&durationSec=60"}
WELL = {"/burn": (200, 202), "/burn/1": (204,), "/memory": (200, 202), "/memory/1": (204,), "/ConsumeCPU": (200,),
        "/ConsumeMem": (200,), "/BumpMetric": (200,)}


def body_of(method, path):
    return BODIES[path] if method == "POST" else None


def template(path):
    return path.replace("/1", "/{id}")


class Commands:
    """What the tests below ask of `self.server`."""

    def post(self, path, body, fields=(), **more):
        return self.server.fetch(path, fields, "POST", body if isinstance(body, bytes) else body.encode(), **more)

    def hold(self, path, body):
        answer = self.post(path, body)
        self.assertEqual(answer.status, 202, answer)
        self.assertEqual(answer.header("Content-Type"), "application/json")
        hold = answer.json()
        self.assertEqual(answer.header("Location"), f"{path}/{hold['id']}")
        return hold

    def list(self, path):
        answer = self.server.fetch(path)
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.header("Content-Type"), "application/json")
        return answer.json()

    def end(self, path, hold):
        self.assertEqual(self.server.fetch(f"{path}/{hold['id']}", method="DELETE").status, 204)

    def end_all(self):
        for path in ("/burn", "/memory"):
            for hold in self.list(path)["holds"]:
                self.end(path, hold)


class SharedControlTest(Commands, SharedServerTest):
    def setUp(self):
        super().setUp()
        self.addCleanup(self.end_all)


class WhoMay(KilnTest):
    def count(self, server, **labels):
        return server.metrics().sum("http_requests_total", **labels)

    def test_everybody_where_nothing_is_said(self):
        server = self.start()
        for method, path in CONTROL[1:3] + CONTROL[4:] + [("GET", "/burn"), ("HEAD", "/memory")]:
            with self.subTest(f"{method} {path}"):
                self.assertIn(server.fetch(path, {}, method, body_of(method, path)).status, WELL[path])

    def test_token(self):
        server = self.start(env={"KILN_CONTROL_TOKEN": TOKEN})
        refused = [{}, {"Authorization": "Bearer"}, {"Authorization": f"Bearer {TOKEN}x"},
                   {"Authorization": f"Bearer {TOKEN[:-1]}"}, {"Authorization": f"Basic {TOKEN}"},
                   {"Authorization": TOKEN}, {"X-Control-Token": TOKEN}]
        for method, path in CONTROL:
            for fields in refused:
                with self.subTest(f"{method} {path} {fields}"):
                    before = self.count(server, route=template(path), method=method, code="401")
                    answer = server.fetch(path, fields, method, body_of(method, path))
                    self.assertEqual(answer.status, 401)
                    self.assertEqual(answer.header("WWW-Authenticate"), "Bearer")
                    self.assertNotIn(TOKEN.encode(), answer.body)
                    self.assertEqual(self.count(server, route=template(path), method=method, code="401"), before + 1)
        # Nor does anybody learn without it which methods there are, or what is wrong with a body.
        self.assertEqual(server.fetch("/burn", method="OPTIONS").status, 401)
        self.assertEqual(server.fetch("/burn", method="PUT").status, 401)
        self.assertEqual(server.fetch("/burn", {}, "POST", b"{").status, 401)
        for method, path in CONTROL[1:]:
            for scheme in ("Bearer", "bEARER"):
                fields = {"Authorization": f"{scheme} {TOKEN}"}
                answer = server.fetch(path, fields, method, body_of(method, path))
                self.assertIn(answer.status, WELL[path] + (404,) * (method == "DELETE"), f"{method} {path}")
        for path in ("/", "/api/info", "/load?ms=0", "/livez", "/metrics"):
            self.assertEqual(server.fetch(path).status, 200)

    def test_token_is_never_shown(self):
        server = self.start("--access-log", "1", env={"KILN_CONTROL_TOKEN": TOKEN})
        self.assertEqual(server.fetch("/burn", BEARER).status, 200)
        self.assertEqual(server.fetch("/burn", {"Authorization": f"Bearer {TOKEN}x"}).status, 401)
        eventually(lambda: len(server.log("request")) == 2, "a line for each")
        self.assertNotIn(TOKEN, "".join(server.lines))
        self.assertNotIn(TOKEN, server.metrics().text)
        for ended in (kiln.run("--print-config", env={"KILN_CONTROL_TOKEN": TOKEN}),
                      kiln.run("--print-config", "--control-token", TOKEN),
                      kiln.run("doctor", env={"KILN_CONTROL_TOKEN": TOKEN})):
            self.assertEqual(ended.returncode, 0)
            self.assertNotIn(TOKEN, ended.stdout + ended.stderr)
        bad = kiln.run("serve", "--control-token", "s3 cret\n")
        self.assertEqual(bad.returncode, 2)
        self.assertIn("--control-token", bad.stderr)
        self.assertNotIn("s3", bad.stderr)

    def test_admin_listener_alone(self):
        server = self.start("--admin-port", "0", "--control-token", TOKEN)
        unknown = server.fetch("/nowhere")
        for method, path in CONTROL + [("OPTIONS", "/burn"), ("PUT", "/burn"), ("HEAD", "/memory")]:
            with self.subTest(f"{method} {path}"):
                before = self.count(server, route="unmatched", code="404")
                for fields in ({}, BEARER, {"Origin": "http://evil.test"}):
                    answer = server.fetch(path, fields, method, BODIES.get(path) if method == "POST" else None)
                    self.assertEqual(answer.status, 404)
                    if method != "HEAD":
                        self.assertEqual(answer.body, unknown.body)
                    self.assertEqual([name for name, _ in answer.fields], [name for name, _ in unknown.fields])
                self.assertEqual(self.count(server, route="unmatched", code="404"), before + 3)
        admin = {"port": server.admin_port}
        self.assertEqual(server.fetch("/burn", {}, "POST", BODIES["/burn"], **admin).status, 401)
        self.assertEqual(server.fetch("/burn", BEARER, "POST", BODIES["/burn"], **admin).status, 202)
        self.assertEqual(len(server.fetch("/burn", BEARER, **admin).json()["holds"]), 1)
        self.assertEqual(server.fetch("/livez", **admin).status, 200)

    def test_pages_from_elsewhere(self):
        server = self.start("--control-token", TOKEN)
        own = f"127.0.0.1:{server.port}"
        for origin in ("http://evil.test", "https://127.0.0.1", "http://127.0.0.1", f"http://{own}.evil.test", "null",
                       "", f"http://{own}/", f"http://{own} http://evil.test"):
            for method, path in CONTROL + [("OPTIONS", "/burn")]:
                with self.subTest(f"{method} {path} from {origin!r}"):
                    fields = {"Host": own, "Origin": origin, **BEARER}
                    answer = server.fetch(path, fields, method, body_of(method, path))
                    self.assertEqual(answer.status, 403)
                    self.assertIsNone(answer.header("Access-Control-Allow-Origin"))
        self.assertEqual(self.count(server, route="/burn", code="403", method="POST"), 8)
        for host, origin in ((own, f"http://{own}"), ("kiln.test", "http://KILN.test:80")):
            fields = {"Host": host, "Origin": origin, **BEARER}
            self.assertEqual(server.fetch("/burn", fields, "POST", BODIES["/burn"]).status, 202)
        self.assertEqual(len(server.fetch("/burn", BEARER).json()["holds"]), 2)
        # Other routes are for everybody.
        self.assertEqual(server.fetch("/load?ms=0", {"Origin": "http://evil.test"}).status, 200)


class Burn(SharedControlTest):
    environment = {"CPU_LIMIT_MILLI": "500"}

    def test_hold_and_end(self):
        hold = self.hold("/burn", '{"millicores":1.5,"seconds":60.25}')
        self.assertEqual((hold["millicores"], hold["seconds"]), (1.5, 60.25))
        self.assertIsNone(hold["achieved_millicores"])
        self.assertNotIn("warning", hold)
        self.assertIsInstance(hold["id"], str)
        other = self.hold("/burn", '{"seconds":3600,"millicores":2}')
        listed = self.list("/burn")
        self.assertEqual([known["id"] for known in listed["holds"]], [hold["id"], other["id"]])
        for known in listed["holds"]:
            self.assertEqual(set(known), {"id", "millicores", "seconds", "remaining_seconds", "achieved_millicores"})
            self.assertLessEqual(known["remaining_seconds"], known["seconds"])
            self.assertGreater(known["remaining_seconds"], known["seconds"] - 30 * SLOW)
        self.assertEqual(set(listed), {"holds", "asked_millicores", "achieved_millicores", "limit_millicores"})
        self.assertEqual((listed["asked_millicores"], listed["limit_millicores"]), (3.5, 500))
        self.assertEqual(self.server.metrics().one("kiln_hold_millicores", kind="asked"), 3.5)
        self.end("/burn", hold)
        self.assertEqual(self.list("/burn")["asked_millicores"], 2)
        self.assert_problem(self.server.fetch(f"/burn/{hold['id']}", method="DELETE"), 404)

    def test_hold_ends_by_itself(self):
        self.hold("/burn", '{"millicores":1,"seconds":0.05}')
        self.hold("/burn", '{"millicores":2,"seconds":60}')
        eventually(lambda: len(self.list("/burn")["holds"]) == 1, "the short one has ended")
        self.assertEqual(self.list("/burn")["asked_millicores"], 2)

    def test_warning_past_the_limit(self):
        self.assertNotIn("warning", self.hold("/burn", '{"millicores":500,"seconds":0.2}'))
        warned = self.hold("/burn", '{"millicores":1,"seconds":0.2}')
        self.assertIn("500", warned["warning"])

    def test_ids_are_ours(self):
        hold = self.hold("/burn", BODIES["/burn"])
        for name in ("0", "x", "-1", "+" + hold["id"], "0" + hold["id"], "18446744073709551616", "9" * 400, "%31"):
            with self.subTest(name):
                self.assert_problem(self.server.fetch(f"/burn/{name}", method="DELETE"), 404)
        self.assertEqual(self.server.fetch(f"/burn/{hold['id']}/", method="DELETE").status, 404)
        self.assertEqual(len(self.list("/burn")["holds"]), 1)

    def test_a_hundred(self):
        statuses = []
        with self.server.connect() as client:
            for _ in range(50):
                client.send(encode_request("POST", "/burn", body=BODIES["/burn"]) * 20)
                statuses += [client.response() for _ in range(20)]
        self.assertEqual([answer.status for answer in statuses], [202] * 100 + [409] * 900)
        self.assert_problem(statuses[-1], 409, "100")
        self.assertEqual(len(self.list("/burn")["holds"]), 100)
        self.assertEqual(self.post("/ConsumeCPU", BODIES["/ConsumeCPU"]).status, 409)
        self.end("/burn", self.list("/burn")["holds"][50])
        self.hold("/burn", BODIES["/burn"])

    def test_methods(self):
        for path, methods in (("/burn", {"GET", "HEAD", "POST"}), ("/burn/1", {"DELETE"}), ("/ConsumeCPU", {"POST"})):
            answer = self.fetch(path, method="PUT")
            self.assert_problem(answer, 405)
            self.assertEqual(set(answer.header("Allow").split(", ")), methods | {"OPTIONS"})
            self.assertEqual(self.fetch(path, method="OPTIONS").status, 204)

    def test_any_content_type(self):
        for fields in ({}, FORM, {"Content-Type": "application/json"}, {"Content-Type": "text/plain; charset=utf-8"}):
            self.assertEqual(self.post("/burn", BODIES["/burn"], fields).status, 202)

    def test_curl_users_need_no_content_type(self):
        curl = shutil.which("curl")
        self.assertIsNotNone(curl, "curl is missing")
        done = subprocess.run([curl, "-s", "-w", "%{http_code}", "-o", os.devnull, "-d", BODIES["/burn"],
                               f"http://127.0.0.1:{self.server.port}/burn"], capture_output=True, check=True)
        self.assertEqual(done.stdout, b"202")

    def test_bad_bodies(self):
        machine = str(MACHINE_MILLICORES)
        for body, status, words in (
                ("", 400, ["JSON"]), ("{", 400, ["JSON"]), ("nope", 400, ["JSON"]), ("[1", 400, ["JSON"]),
                ("millicores=1&seconds=60", 400, ["JSON"]), ('{"millicores":1,"seconds":60}}', 400, ["byte 29"]),
                ('{"millicores":1,"seconds":60,}', 400, ["byte 29"]),
                ('{"millicores":NaN,"seconds":1}', 400, ["byte 14"]),
                ('{"millicores":1 "seconds":60}', 400, ["byte 16"]), ('{"millicores":"\xff"}', 400, ["JSON"]),
                ('{"\x01":1}', 400, ["JSON"]), ("null", 422, ["object"]), ("[]", 422, ["object"]),
                ('"x"', 422, ["object"]), ("1", 422, ["object"]), ("[" * 500 + "]" * 500, 422, ["object"]),
                ("{}", 422, ["millicores"]), ('{"millicores":1}', 422, ["seconds"]),
                ('{"millicores":1,"seconds":60,"mode":"soft"}', 422, ["'mode'"]),
                ('{"millicores":1,"millicores":1,"seconds":60}', 422, ["millicores", "twice"]),
                ('{"millicores":"1","seconds":60}', 422, ["millicores", "number"]),
                ('{"millicores":1,"seconds":null}', 422, ["seconds", "number"]),
                ('{"millicores":1,"seconds":[60]}', 422, ["seconds", "number"]),
                ('{"millicores":0,"seconds":60}', 422, ["is 0;", machine]),
                ('{"millicores":-5,"seconds":60}', 422, ["is -5;", machine]),
                (f'{{"millicores":{MACHINE_MILLICORES + 1},"seconds":60}}', 422,
                 [f"is {MACHINE_MILLICORES + 1};", f"at most {machine}"]),
                ('{"millicores":1e309,"seconds":60}', 422, ["is 1e309;", machine]),
                ('{"millicores":1,"seconds":0}', 422, ["is 0;", "86400"]),
                ('{"millicores":1,"seconds":-1}', 422, ["is -1;", "86400"]),
                ('{"millicores":1,"seconds":86400.5}', 422, ["is 86400.5;", "86400"]),
                ('{"millicores":1,"seconds":1e309}', 422, ["is 1e309;", "86400"]),
                ('{"' + "x" * 100_000 + '":1}', 422, ["xxx"])):
            with self.subTest(body[:60]):
                answer = self.post("/burn", body.encode("latin-1"))
                self.assert_problem(answer, status, *words)
                self.assertLess(len(answer.body), 500)
        self.assertEqual(self.list("/burn")["holds"], [])
        longest = self.hold("/burn", f'{{"millicores":{MACHINE_MILLICORES},"seconds":86400}}')
        self.end("/burn", longest)


class Memory(SharedControlTest):
    def resident(self):
        return self.server.resident_bytes()

    def held(self):
        return self.server.metrics().one("kiln_memory_held_bytes")

    def settle(self):
        """Resident memory when nothing is held; what answering allocates is already there."""
        for _ in range(20):
            self.list("/memory")
            self.held()
        return self.resident()

    @unittest.skipIf(kiln.SANITIZED, "a sanitizer's own memory moves")
    def test_resident_growth_and_release(self):
        self.end("/memory", self.hold("/memory", BODIES["/memory"]))  # the thread exists
        eventually(lambda: self.held() == 0, "nothing is held")
        for mebibytes in (32, 64, 128):
            with self.subTest(mebibytes):
                before = self.settle()
                hold = self.hold("/memory", f'{{"mebibytes":{mebibytes},"seconds":600}}')
                self.assertEqual((hold["mebibytes"], hold["seconds"]), (mebibytes, 600))
                eventually(lambda: self.list("/memory")["holds"][0]["held_mebibytes"] == mebibytes, "it is touched")
                self.assertEqual(self.held(), mebibytes * MEBIBYTE)
                self.assertAlmostEqual(self.resident() - before, mebibytes * MEBIBYTE, delta=MEBIBYTE)
                self.end("/memory", hold)
                self.assertEqual(self.list("/memory")["holds"], [])
                eventually(lambda: self.resident() - before <= 2 * MEBIBYTE, "it is given back", within=2)
                eventually(lambda: self.held() == 0, "and so it says")

    def test_hold_ends_by_itself(self):
        self.hold("/memory", '{"mebibytes":8,"seconds":0.3}')
        eventually(lambda: self.held() > 0, "it is touched")
        eventually(lambda: not self.list("/memory")["holds"], "it is not listed any more")
        eventually(lambda: self.held() == 0, "it is given back", within=2)

    def test_list(self):
        first = self.hold("/memory", '{"mebibytes":0.5,"seconds":60}')
        second = self.hold("/memory", '{"mebibytes":2,"seconds":0.5e2}')
        eventually(lambda: self.list("/memory")["held_mebibytes"] == 2.5, "both are touched")
        listed = self.list("/memory")
        self.assertEqual([hold["id"] for hold in listed["holds"]], [first["id"], second["id"]])
        for hold in listed["holds"]:
            self.assertEqual(set(hold), {"id", "mebibytes", "held_mebibytes", "seconds", "remaining_seconds"})
            self.assertEqual(hold["held_mebibytes"], hold["mebibytes"])
        self.assert_problem(self.server.fetch("/memory/999", method="DELETE"), 404)

    def test_a_hundred(self):
        with self.server.connect() as client:
            client.send(encode_request("POST", "/memory", body=b'{"mebibytes":0.1,"seconds":60}') * 101)
            answers = [client.response() for _ in range(101)]
        self.assertEqual([answer.status for answer in answers], [202] * 100 + [409])
        self.assert_problem(answers[-1], 409, "100")

    def test_more_than_the_machine_has(self):
        meminfo = pathlib.Path("/proc/meminfo").read_text("ascii").splitlines()
        total = next(int(line.split()[1]) for line in meminfo if line.startswith("MemTotal:")) // 1024
        self.assert_problem(self.post("/memory", f'{{"mebibytes":{total},"seconds":60}}'), 409, str(total), "16 MiB")
        self.assert_problem(self.post("/ConsumeMem", f"megabytes={total}&durationSec=60"), 409, str(total))
        self.assert_problem(self.post("/memory", '{"mebibytes":1e300,"seconds":60}'), 422, "1e300")
        self.assert_problem(self.post("/memory", '{"millicores":1,"seconds":60}'), 422, "'millicores'")

    def test_filling_stops_when_cancelled(self):
        hold = self.hold("/memory", '{"mebibytes":2000,"seconds":600}')
        eventually(lambda: self.held() > 0, "it fills")
        self.end("/memory", hold)
        eventually(lambda: self.held() == 0, "it is given back")

    def test_probes_answer_while_it_fills(self):
        hold = self.hold("/memory", '{"mebibytes":1000,"seconds":600}')
        while self.list("/memory")["holds"][0]["held_mebibytes"] < 1000:
            self.assertEqual(self.fetch("/livez").status, 200)
        self.end("/memory", hold)


class MemoryLimit(Commands, KilnTest):
    LIMIT = 296  # MiB, of which bodies may take 96

    def group(self):
        """A control group with that limit, where one can be made."""
        for line in pathlib.Path("/proc/self/cgroup").read_text("ascii").splitlines():
            _, controllers, path = line.split(":", 2)
            if "memory" in controllers.split(","):
                base, file = pathlib.Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"
            elif controllers == "":
                base, file = pathlib.Path("/sys/fs/cgroup"), "memory.max"
            else:
                continue
            place = base / path.lstrip("/") / f"kiln-test-{os.getpid()}"
            try:
                place.mkdir()
            except OSError:
                continue
            self.addCleanup(lambda: eventually(lambda: self.removed(place), "the group is gone"))
            with contextlib.suppress(OSError):
                (place / file).write_text(str(self.LIMIT * MEBIBYTE), "ascii")
                return place
        return self.skipTest("no control group with a memory limit can be made here")

    @staticmethod
    def removed(place):
        with contextlib.suppress(OSError):
            place.rmdir()
        return not place.exists()

    @unittest.skipIf(kiln.SANITIZED, "a sanitizer needs the limit for itself")
    def test_stays_16_mebibytes_below(self):
        self.server = self.start(confine=["--join", str(self.group())])
        self.assertEqual(self.server.info()["memory"]["limit_bytes"], self.LIMIT * MEBIBYTE)
        self.assert_problem(self.post("/memory", f'{{"mebibytes":{self.LIMIT - 112},"seconds":60}}'), 409,
                            str(self.LIMIT - 112), f"limit of {self.LIMIT} MiB")
        # What is promised counts, touched or not: of holds of 40 MiB that come together four fit at most.
        with self.server.connect() as client:
            client.send(encode_request("POST", "/memory", body=b'{"mebibytes":40,"seconds":60}') * 10)
            statuses = [client.response().status for _ in range(10)]
        self.assertEqual(statuses, [202] * 4 + [409] * 6)
        eventually(lambda: self.list("/memory")["held_mebibytes"] == 160, "all is touched")
        self.assertLess(self.server.resident_bytes(), (self.LIMIT - 112) * MEBIBYTE)
        self.assertEqual(self.post("/memory", '{"mebibytes":20,"seconds":60}').status, 409)


class ResourceConsumer(SharedControlTest):
    def test_consume_cpu(self):
        text = b"ConsumeCPU\n1 millicores\n60 durationSec\n"
        for target, fields, body in (("/ConsumeCPU?millicores=1&durationSec=60", {}, b""),
                                     ("/ConsumeCPU", FORM, b"millicores=1&durationSec=60"),
                                     ("/ConsumeCPU?durationSec=60", FORM, b"millicores=1")):
            answer = self.post(target, body, fields)
            self.assertEqual((answer.status, answer.body), (200, text))
            self.assertEqual(answer.header("Content-Type"), "text/plain; charset=utf-8")
        holds = self.list("/burn")["holds"]
        self.assertEqual([(hold["millicores"], hold["seconds"]) for hold in holds], [(1, 60)] * 3)
        self.end("/burn", holds[0])

    def test_consume_memory(self):
        answer = self.post("/ConsumeMem", b"megabytes=3&durationSec=60", FORM)
        self.assertEqual((answer.status, answer.body), (200, b"ConsumeMem\n3 megabytes\n60 durationSec\n"))
        eventually(lambda: self.server.metrics().one("kiln_memory_held_bytes") == 3 * MEBIBYTE, "it is touched")
        self.assertEqual(self.list("/memory")["holds"][0]["mebibytes"], 3)

    def test_bump_metric(self):
        for delta, shown in (("5", "5"), ("-1.5", "-1.5"), ("1000000", "1e+06")):
            answer = self.post("/BumpMetric", f"metric=QPS&delta={delta}&durationSec=60", FORM)
            self.assertEqual((answer.status, answer.body),
                             (200, f"BumpMetric\nQPS metric\n{shown} delta\n60 durationSec\n".encode()))
        metrics = self.server.metrics()
        self.assertEqual(metrics.all("QPS"), [({}, 1000003.5)])
        self.assertEqual(metrics.types["QPS"], "gauge")
        self.assertEqual(self.post("/BumpMetric?metric=brief&delta=1&durationSec=1", b"").status, 200)
        self.assertEqual(self.server.metrics().one("brief"), 1)
        eventually(lambda: self.server.metrics().one("brief") == 0, "it is taken back")

    @unittest.skipIf(os.environ.get("KILN_TEST_NO_PROMTOOL") == "1", "KILN_TEST_NO_PROMTOOL=1")
    def test_promtool_has_nothing_to_say(self):
        promtool = shutil.which("promtool")
        self.assertIsNotNone(promtool, "promtool is missing (Debian: prometheus); KILN_TEST_NO_PROMTOOL=1 goes without")
        self.hold("/burn", BODIES["/burn"])
        self.hold("/memory", BODIES["/memory"])
        self.assertEqual(self.post("/BumpMetric?metric=depth&delta=1&durationSec=60", b"").status, 200)
        self.assertEqual(self.post("/BumpMetric?metric=depth_of_others&delta=0.1&durationSec=60", b"").status, 200)
        checked = subprocess.run([promtool, "check", "metrics"], input=self.fetch("/metrics").body,
                                 capture_output=True, check=False, timeout=30 * SLOW)
        self.assertEqual((checked.returncode, checked.stdout, checked.stderr), (0, b"", b""))

    def test_bumped_names_are_nobody_elses(self):
        own = self.server.metrics().types
        self.assertIn("http_requests_total", own)
        taken = [name for name in own if name not in ("QPS", "brief") and not name.startswith("depth")]
        taken += [f"http_request_duration_seconds{series}" for series in ("_bucket", "_sum", "_count")]
        taken += ["kiln_cgroup_throttled_periods_total", "kiln_of_my_own", "process_of_my_own"]
        for name in taken + ["", "9a", "a-b", "a b", "a{b}", "a\n", "ä", "a" * 201]:
            with self.subTest(name):
                answer = self.post("/BumpMetric?delta=1&durationSec=60&metric=" + urllib.parse.quote(name), b"")
                self.assert_problem(answer, 400, "function argument", "metric")
        self.assertEqual(self.server.metrics().types.keys() - own.keys(), set())

    def test_at_most_a_hundred_names(self):
        server = self.start_another()
        statuses = [server.fetch(f"/BumpMetric?metric=name{n}&delta=1&durationSec=60", {}, "POST", b"").status
                    for n in range(102)]
        self.assertEqual(statuses, [200] * 100 + [409] * 2)
        self.assertEqual(server.fetch("/BumpMetric?metric=name7&delta=1&durationSec=60", {}, "POST", b"").status, 200)

    def start_another(self):
        server = kiln.Server()
        self.addCleanup(server.end)
        return server

    def test_bad_forms(self):
        for path, amount in (("/ConsumeCPU", "millicores"), ("/ConsumeMem", "megabytes")):
            for form, words in (("", "not given function argument"), (f"{amount}=1", "not given function argument"),
                                ("durationSec=1", "not given function argument"),
                                (f"{amount}=&durationSec=1", "not given function argument"),
                                (f"{amount}=x&durationSec=1", "incorrect function argument"),
                                (f"{amount}=1.5&durationSec=1", "1.5"), (f"{amount}=0&durationSec=1", "is 0;"),
                                (f"{amount}=-1&durationSec=1", "is -1;"), (f"{amount}=1&durationSec=86401", "86400"),
                                (f"{amount}=99999999999999999999&durationSec=1", "99999999999999999999"),
                                (f"{amount}=1&durationSec=%", "percent")):
                with self.subTest(f"{path} {form}"):
                    self.assert_problem(self.post(path, form, FORM), 400, words)
        for form in ("metric=a&delta=x&durationSec=1", "metric=a&delta=nan&durationSec=1", "metric=a&durationSec=1",
                     "metric=a&delta=inf&durationSec=1", "metric=a&delta=1&durationSec=0", "delta=1&durationSec=1"):
            with self.subTest(form):
                self.assert_problem(self.post("/BumpMetric", form, FORM), 400, "function argument")
        self.assertEqual(self.list("/burn")["holds"] + self.list("/memory")["holds"], [])


class GoingAway(KilnTest):
    def test_holds_do_not_hold_up_the_end(self):
        server = self.start("--drain-delay", "0")
        for path, body in (("/burn", b'{"millicores":50,"seconds":86400}'),
                           ("/memory", b'{"mebibytes":2000,"seconds":86400}')):
            self.assertEqual(server.fetch(path, {}, "POST", body).status, 202)
        server.signal()
        self.assertEqual(server.wait(within=5), 0)

    def test_idle_server_has_no_thread_for_memory(self):
        server = self.start()
        tasks = pathlib.Path(f"/proc/{server.pid}/task")

        def names():
            return [(task / "comm").read_text("ascii").strip() for task in tasks.iterdir()]

        self.assertNotIn("kiln-memory", names())
        self.assertEqual(server.fetch("/memory", {}, "POST", BODIES["/memory"]).status, 202)
        self.assertEqual(eventually(lambda: names().count("kiln-memory"), "the thread has its name"), 1)


if __name__ == "__main__":
    unittest.main()
