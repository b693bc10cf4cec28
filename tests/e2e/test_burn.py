"""What /load burns, what it refuses, and what it leaves for others. Margins are wide: the machine may be busy."""

import contextlib
import statistics
import threading
import time
import unittest

import kiln
from kiln import SLOW, KilnTest, SharedServerTest, encode_request, eventually


def in_parallel(count, function):
    """What `function(number)` returned, for each."""
    results = [None] * count

    def call(number):
        results[number] = function(number)

    with kiln.Together(*[lambda number=number: call(number) for number in range(count)]):
        pass
    return results


class Amount(SharedServerTest):
    def burn(self, clients, requests, amount):
        """CPU seconds that the process spent on so many requests of `amount` ms from each client."""
        def ask(_):
            answers = []
            with self.server.connect() as client:
                for _ in range(requests):
                    answers.append(client.get(f"/load?ms={amount}"))
            return answers

        before = self.server.cpu_seconds()
        answers = [answer for some in in_parallel(clients, ask) for answer in some]
        spent = self.server.cpu_seconds() - before
        self.assertEqual({answer.status for answer in answers}, {200})
        return spent, [answer.json() for answer in answers]

    def test_the_process_spends_what_was_asked(self):
        # Of one in flight, and of many, the cost of serving them included.
        for clients, requests, amount in ((1, 50, 10), (4, 50, 5), (50, 2, 10)):
            with self.subTest(clients=clients, amount=amount):
                asked = clients * requests * amount / 1000
                spent, answers = self.burn(clients, requests, amount)
                self.assertGreater(spent, asked * 0.95 - 0.02)
                if not kiln.SANITIZED:
                    self.assertLess(spent, asked * 1.02 + 0.02)
                burned = sum(answer["burned_ms"] + answer["overhead_ms"] for answer in answers) / 1000
                self.assertAlmostEqual(burned, asked, delta=asked * 0.05 + 0.005)

    def test_overhead_can_come_on_top(self):
        for _ in range(5):
            answer = self.fetch("/load?ms=5&overhead=extra").json()
            self.assertEqual(answer["overhead_ms"], 0)
            self.assertAlmostEqual(answer["burned_ms"], 5, delta=0.3)
            self.assertGreater(self.fetch("/load?ms=5&overhead=included").json()["overhead_ms"], 0)

    def test_units_are_work(self):
        few, many = (statistics.median(self.fetch(f"/load?units={units}").json()["burned_ms"] for _ in range(9))
                     for units in (500_000, 5_000_000))
        self.assertAlmostEqual(many / few, 10, delta=3)
        answer = self.fetch("/load?units=1000").json()
        self.assertEqual((answer["units"], answer["unit_version"]), (1000, 1))
        self.assertEqual(answer["requested_ms"], answer["burned_ms"])
        self.assertEqual(answer["carried_ms"], 0)

    def test_units_are_bounded_by_the_time_they_take(self):
        a_second = self.server.metrics().one("kiln_burn_units_per_second")
        self.assert_problem(self.fetch(f"/load?units={int(a_second * 3)}"), 400, "1000 ms")
        for bad in ("0", "-1", "1.5", "x", "", "99999999999999999999999"):
            self.assert_problem(self.fetch(f"/load?units={bad}"), 400, "units")
        self.assert_problem(self.fetch("/load?units=5&ms=5"), 400, "exclude")
        self.assert_problem(self.fetch("/load?overhead=none"), 400, "extra")

    def test_burns_are_exact(self):
        # Most of them: an interruption of one is taken off the next.
        for amount in (1, 20, 100):
            answers = [self.fetch(f"/load?ms={amount}").json() for _ in range(7)]
            spent = statistics.median(answer["burned_ms"] + answer["overhead_ms"] for answer in answers)
            self.assertAlmostEqual(spent, amount, delta=0.5 + 0.05 * amount)
            self.assertGreater(min(answer["wall_ms"] for answer in answers), 0)

    def test_nothing_is_burned_for_nothing(self):
        before = self.server.metrics().one("kiln_burn_cpu_seconds_total", kind="burned")
        spent, answers = self.burn(2, 100, 0)
        self.assertEqual({answer["burned_ms"] for answer in answers}, {0})
        self.assertLess(spent, 0.2 * SLOW)
        self.assertLess(self.server.metrics().one("kiln_burn_cpu_seconds_total", kind="burned") - before, 0.01)

    def test_metrics_and_info_add_up(self):
        def figures():
            metrics = self.server.metrics()
            return [metrics.one("kiln_burn_cpu_seconds_total", kind="asked"),
                    metrics.one("kiln_burn_cpu_seconds_total", kind="burned"),
                    metrics.one("kiln_request_overhead_cpu_seconds_total", route="/load", paid="budget")]

        before = figures()
        self.burn(2, 20, 10)
        asked, burned, overhead = (after - was for after, was in zip(figures(), before))
        self.assertAlmostEqual(asked, 0.4, places=6)
        self.assertGreater(overhead, 0)
        self.assertAlmostEqual(burned + overhead, 0.4, delta=0.002 * SLOW)
        total = figures()[1]
        eventually(lambda: abs(self.server.info()["cpu"]["burned_seconds"] - total) < 0.01, "/api/info says the same")

    def test_info_says_how_exact_the_burns_were(self):
        # The bill may be a group's in which others run, so it is not judged here.
        def of_the_last_minute():
            self.fetch("/load?ms=200")
            burn = self.server.info()["burn"]
            return burn["error_percent_60s"] is not None and burn

        burn = eventually(of_the_last_minute, "a second of burns", within=20)
        self.assertGreaterEqual(burn["asked_seconds_60s"], 1)
        self.assertAlmostEqual((burn["billed_seconds_60s"] / burn["asked_seconds_60s"] - 1) * 100,
                               burn["error_percent_60s"], delta=0.2)
        self.assertIsNotNone(self.server.metrics().one("kiln_cpu_residual_seconds"))

    def test_used_millicores_show_the_burn(self):
        def busy():
            self.fetch("/load?ms=500")
            return (self.server.info()["cpu"]["used_millicores"] or 0) > 150

        eventually(busy, "/api/info shows CPU use", within=10)
        eventually(lambda: self.server.info()["cpu"]["used_millicores"] < 100, "and its end", within=10)


class Politeness(KilnTest):
    def saturated(self, server, clients, amount):
        """Burns without end in the background, until the block ends."""
        stop = threading.Event()
        deadline = time.monotonic() + 60 * SLOW

        def ask():
            with server.connect() as client:
                while not stop.is_set() and time.monotonic() < deadline:
                    answer = client.get(f"/load?ms={amount}")
                    if answer.status not in (200, 503):
                        raise AssertionError(answer)
                    if answer.status == 503:
                        stop.wait(0.02)

        @contextlib.contextmanager
        def block():
            with kiln.Together(*[ask] * clients):
                try:
                    eventually(lambda: server.metrics().one("kiln_burn_queue_seconds") > 0, "it burns")
                    yield
                finally:
                    stop.set()

        return block()

    def test_others_are_answered_while_it_burns(self):
        server = self.start("--burn-queue", "10s")
        with self.saturated(server, clients=12, amount=100):
            for path in ("/livez", "/readyz", "/api/info", "/metrics"):
                times = []
                for _ in range(40):
                    began = time.monotonic()
                    self.assertEqual(server.fetch(path).status, 200)
                    times.append(time.monotonic() - began)
                with self.subTest(path):
                    self.assertLess(statistics.median(times), 0.05 * SLOW)
                    self.assertLess(max(times), 1 * SLOW)

    def test_kept_connection_is_answered_while_it_burns(self):
        server = self.start("--workers", "1", "--burn-queue", "10s")
        with self.saturated(server, clients=6, amount=200), server.connect() as client:
            times = []
            for _ in range(100):
                began = time.monotonic()
                self.assertEqual(client.get("/livez").status, 200)
                times.append(time.monotonic() - began)
            self.assertLess(statistics.median(times), 0.03 * SLOW)

    def test_useful_work_goes_on_under_too_much_of_it(self):
        server = self.start("--burn-queue", "100ms")
        with self.saturated(server, clients=30, amount=20):
            began, before = time.monotonic(), server.metrics().one("kiln_burn_cpu_seconds_total", kind="burned")
            time.sleep(1)  # a stretch to measure
            burned = server.metrics().one("kiln_burn_cpu_seconds_total", kind="burned") - before
            share = burned / (time.monotonic() - began)
            self.assertGreater(server.metrics().one("kiln_burn_rejected_total"), 0)
        self.assertGreater(share, 0.2 / SLOW)


class Costs(KilnTest):
    def test_route_with_a_cost_is_billed_it_serving_included(self):
        server = self.start("--cost", "/=4ms")
        with server.connect() as client:
            client.get("/")
            before = server.cpu_seconds()
            for _ in range(100):
                self.assertEqual(client.get("/").status, 200)
            spent = server.cpu_seconds() - before
        self.assertGreater(spent, 0.4 * 0.95 - 0.01)
        if not kiln.SANITIZED:
            self.assertLess(spent, 0.4 * 1.02 + 0.02)
        self.assertAlmostEqual(server.metrics().one("kiln_burn_cpu_seconds_total", kind="asked"), 101 * 0.004, places=6)

    def test_other_routes_and_refusals_cost_nothing(self):
        server = self.start("--admin-port", "0", env={"KILN_COST": "/=50ms /echo=20ms"})
        for path, status in (("/livez", 200), ("/nowhere", 404), ("/api/info", 200)):
            self.assertEqual(server.fetch(path).status, status)
        self.assertEqual(server.fetch("/", method="PUT").status, 405)
        self.assertEqual(server.metrics().one("kiln_burn_cpu_seconds_total", kind="asked"), 0)
        answer = server.fetch("/echo", {"Content-Type": "text/x-mine"}, method="POST", body=b"mine")
        self.assertEqual((answer.body, answer.header("Content-Type")), (b"mine", "text/x-mine"))
        self.assertEqual(server.fetch("/", method="HEAD").status, 200)
        self.assertAlmostEqual(server.metrics().one("kiln_burn_cpu_seconds_total", kind="asked"), 0.07, places=6)

    def test_answers_stay_in_order(self):
        server = self.start("--cost", "/livez=2ms", "--cost", "/echo=lognormal(1ms,1)")
        with server.connect() as client:
            for _ in range(5):
                client.send(b"".join(encode_request("POST", "/echo", body=b"%d" % n) + encode_request("GET", "/livez")
                                     for n in range(20)))
                for n in range(20):
                    self.assertEqual(client.response().body, b"%d" % n)
                    self.assertEqual(client.response().body, b"ok\n")

    def test_queue_is_bounded_for_them_too(self):
        server = self.start("--cost", "/=150ms", "--burn-queue", "200ms", "--workers", "1")
        answers = in_parallel(12, lambda _: server.fetch("/"))
        self.assertEqual({answer.status for answer in answers}, {200, 503})
        for answer in answers:
            if answer.status == 503:
                self.assert_problem(answer, 503, "--burn-queue")

    def test_drawn_costs_have_their_mean(self):
        server = self.start("--cost", "/=lognormal(1ms,0.7)", "--cost-seed", "7", "--workers", "1")
        with server.connect() as client:
            for _ in range(400):
                client.get("/")
        self.assertAlmostEqual(server.metrics().one("kiln_burn_cpu_seconds_total", kind="asked"), 0.4, delta=0.1)


class FullQueue(KilnTest):
    def test_past_the_bound_it_is_503_with_a_time_to_come_back(self):
        server = self.start("--burn-queue", "200ms", "--workers", "1")
        answers = in_parallel(12, lambda _: server.fetch("/load?ms=150"))
        refused = [answer for answer in answers if answer.status == 503]
        self.assertEqual({answer.status for answer in answers}, {200, 503})
        for answer in refused:
            self.assert_problem(answer, 503, "--burn-queue")
            self.assertRegex(answer.header("Retry-After"), r"^[1-9][0-9]*$")
            self.assertFalse(answer.closes)
        metrics = server.metrics()
        self.assertEqual(metrics.one("kiln_burn_rejected_total"), len(refused))
        self.assertEqual(metrics.sum("http_requests_total", route="/load", code="503"), len(refused))
        self.assertEqual(server.fetch("/load?ms=1").status, 200)

    def test_burn_larger_than_the_queue_is_served_alone(self):
        server = self.start("--burn-queue", "10ms")
        self.assertEqual(server.fetch("/load?ms=100").status, 200)

    def test_bound_is_for_the_process(self):
        # However many workers there are: ten seconds of waiting burn are two times five.
        server = self.start("--burn-queue", "10s", "--load-max", "10s", "--workers", "2")
        clients = [self.connect(server) for _ in range(16)]
        for client in clients:
            client.send(encode_request("GET", "/load?ms=5000"))
        eventually(lambda: server.metrics().one("kiln_burn_rejected_total") + server.metrics().one(
            "http_requests_in_flight") >= len(clients), "all are decided on", within=2)
        metrics = server.metrics()
        self.assertEqual(metrics.one("kiln_burn_rejected_total"), 14)
        self.assertLessEqual(metrics.one("kiln_burn_queue_seconds"), 10)
        for client in clients:
            client.close()
        eventually(lambda: server.metrics().one("kiln_burn_queue_seconds") == 0, "nothing is left to burn")

    def test_refusing_is_cheap(self):
        server = self.start("--burn-queue", "1ms", "--load-max", "60s", "--workers", "1")
        holder = self.connect(server)
        holder.send(encode_request("GET", "/load?ms=60000"))
        eventually(lambda: server.metrics().one("kiln_burn_queue_seconds") > 1, "it burns")
        with server.connect() as client:
            before = server.metrics().one("kiln_burn_rejected_total")
            began = time.monotonic()
            for _ in range(20):
                client.send(encode_request("GET", "/load?ms=10") * 25)
                self.assertEqual({client.response().status for _ in range(25)}, {503})
            took = time.monotonic() - began
        self.assertEqual(server.metrics().one("kiln_burn_rejected_total") - before, 500)
        self.assertLess(took, 3 * SLOW)


if __name__ == "__main__":
    unittest.main()
