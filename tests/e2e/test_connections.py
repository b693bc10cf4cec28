"""What clients do to connections: fine ones, slow ones, broken ones, vanished ones, and far too many."""

import contextlib
import itertools
import random
import select
import socket
import threading
import time
import unittest

import kiln
from kiln import SLOW, Client, Ended, KilnTest, SharedServerTest, encode_chunks, encode_request, eventually

MEBIBYTE = 1024 * 1024
GET = encode_request("GET", "/livez")


def seconds_until_end(client):
    """How long the server took to close, and what it wrote until then."""
    before = time.monotonic()
    rest = client.rest()
    return time.monotonic() - before, rest


class Persistent(SharedServerTest):
    def test_connection_is_kept(self):
        with self.server.connect() as client:
            for _ in range(100):
                answer = client.get("/livez")
                self.assertEqual((answer.status, answer.header("Connection")), (200, None))

    def test_close_is_obeyed(self):
        for fields in ({"Connection": "close"}, {"Connection": "Close"}, {"Connection": "x, close"}):
            with self.server.connect() as client:
                self.assertTrue(client.get("/livez", fields).closes)
                client.expect_end()

    def test_old_http_closes(self):
        for path in ("/", "/livez", "/api/info", "/load?ms=1", "/metrics", "/nowhere"):
            with self.subTest(path), self.server.connect() as client:
                self.assertTrue(client.get(path, version="1.0").closes)
                client.expect_end()
        with self.server.connect() as client:
            self.assertEqual(client.get("/livez", version="1.0", host=None).status, 200)

    def test_old_http_is_kept_on_request(self):
        with self.server.connect() as client:
            for path in ("/livez", "/", "/load?ms=0", "/nowhere", "/livez"):
                answer = client.get(path, {"Connection": "keep-alive"}, version="1.0")
                self.assertEqual(answer.header("Connection").lower(), "keep-alive")
            self.assertTrue(client.get("/livez", version="1.0").closes)
            client.expect_end()

    def test_thousand_requests_in_a_row_come_back_in_order(self):
        requests, methods = [], []
        kinds = itertools.cycle([("GET", "/livez", None), ("POST", "/echo", b"body %d"), ("GET", "/load?ms=0", None),
                                 ("HEAD", "/", None), ("GET", "/nowhere", None), ("GET", "/metrics", None),
                                 ("GET", "/load?ms=0.01", None), ("PUT", "/", None)])
        for number, (method, target, body) in zip(range(1000), kinds):
            content = body % number if body else None
            requests.append(encode_request(method, target, {"X-Request-Id": f"n{number}"}, content))
            methods.append((method, target, content))
        with self.server.connect() as client:
            with kiln.Together(lambda: client.send(b"".join(requests))):
                for number, (method, target, content) in enumerate(methods):
                    answer = client.response(method)
                    self.assertEqual(answer.header("X-Request-Id"), f"n{number}", f"{method} {target}")
                    if content is not None:
                        self.assertEqual(answer.body, content)
            self.assertTrue(client.is_silent(0.05))

    def test_byte_by_byte(self):
        requests = [encode_request("GET", "/livez", {"X-Request-Id": "first"}),
                    encode_request("POST", "/echo", {"X-Request-Id": "second"}, b"\r\n\r\nGET"),
                    encode_request("POST", "/echo", {"X-Request-Id": "third", "Transfer-Encoding": "chunked"},
                                   encode_chunks(b"in pieces", 4)),
                    b"\r\n" + encode_request("GET", "/load?ms=0", {"X-Request-Id": "fourth"})]
        with self.server.connect() as client:
            for request in requests:
                for at in range(len(request)):
                    client.send(request[at:at + 1])
            self.assertEqual([client.response().header("X-Request-Id") for _ in requests],
                             ["first", "second", "third", "fourth"])

    def test_cut_at_every_place(self):
        request = encode_request("POST", "/echo", {"Content-Type": "a/b"}, b"0123456789") + GET
        with self.server.connect() as client:
            for cut in range(1, len(request)):
                client.send(request[:cut])
                client.send(request[cut:])
                self.assertEqual(client.response().body, b"0123456789")
                self.assertEqual(client.response().body, b"ok\n")


class Ends(SharedServerTest):
    flags = ("--load-max", "60s", "--burn-queue", "1h", "--workers", "2")

    def test_client_that_sends_no_more_gets_its_answers(self):
        for requests in ([GET], [GET] * 40, [encode_request("GET", "/openapi.json")] * 40,
                         [encode_request("POST", "/echo", {}, b"x" * MEBIBYTE)], [encode_request("GET", "/metrics")]):
            with self.subTest(f"{len(requests)} x {requests[0][:20]}"), self.server.connect() as client:
                def send_all(client=client, text=b"".join(requests)):
                    client.send(text)
                    client.half_close()

                with kiln.Together(send_all):
                    for _ in requests:
                        self.assertEqual(client.response().status, 200)
                    client.expect_end()

    def test_request_and_end_at_once(self):
        for count in (1, 5, 17, 40):
            with self.subTest(count), self.server.connect() as client:
                client.send(GET * count)
                client.half_close()
                for _ in range(count):
                    self.assertEqual(client.response().body, b"ok\n")
                client.expect_end()

    def test_end_in_the_middle_is_the_end(self):
        head = encode_request("POST", "/echo", {"Content-Length": "100"})
        chunked = encode_request("POST", "/echo", {"Transfer-Encoding": "chunked"})
        for begun in (b"", b"G", GET[:-1], head, head + b"half", chunked, chunked + b"5\r\nab", chunked + b"0\r\n"):
            with self.subTest(begun), self.server.connect() as client:
                client.send(begun)
                client.half_close()
                took, rest = seconds_until_end(client)
                self.assertEqual(rest, b"")
                self.assertLess(took, 2 * SLOW)

    def test_answered_request_before_one_that_is_cut_off(self):
        with self.server.connect() as client:
            client.send(GET + GET[:20])
            client.half_close()
            self.assertEqual(client.response().status, 200)
            client.expect_end()

    def connections(self):
        # Less the one that asks.
        return self.server.metrics().sum("http_connections") - 1

    def test_reset_in_the_middle_of_an_answer(self):
        for _ in range(50):
            client = self.server.connect(buffers=4096)
            client.send(encode_request("GET", "/openapi.json") * 40)
            client.socket.recv(1000)
            client.reset()
        eventually(lambda: self.connections() == 0, "all connections are gone")
        self.assertEqual(self.fetch("/livez").status, 200)

    def test_reset_at_any_moment(self):
        moments = [b"", b"G", GET, GET * 30, encode_request("POST", "/echo", {"Content-Length": "99999"}) + b"x" * 500,
                   encode_request("GET", "/load?ms=50"), b"\x16\x03\x01"]
        for _ in range(20):
            for sent in moments:
                client = self.server.connect()
                client.send(sent)
                client.reset()
        eventually(lambda: self.connections() == 0, "all connections are gone")
        eventually(lambda: self.server.metrics().one("kiln_burn_queue_seconds") == 0, "nothing is left to burn")

    def test_client_that_vanishes_frees_its_burn(self):
        burn = encode_request("GET", "/load?ms=60000")

        def queue():
            return self.server.metrics().one("kiln_burn_queue_seconds")

        for leave in (Client.close, Client.reset, Client.half_close):
            with self.subTest(leave.__name__):
                self.assertEqual(queue(), 0)
                clients = [self.connect(self.server) for _ in range(6)]
                for client in clients:
                    client.send(burn)
                eventually(lambda: queue() > 5 * 60, "the burns wait")
                self.assertEqual(self.server.metrics().one("http_requests_in_flight"), 7)
                burned = self.server.info()["cpu"]["burned_seconds"]
                for client in clients[1:]:
                    leave(client)
                eventually(lambda: 0 < queue() <= 60, "only the burn is left that somebody waits for")
                leave(clients[0])
                eventually(lambda: queue() == 0, "nothing is left to burn")
                eventually(lambda: self.server.metrics().one("http_requests_in_flight") == 1, "no request is left")
                before = self.server.cpu_seconds()
                time.sleep(0.3)  # a stretch to measure
                self.assertLess(self.server.cpu_seconds() - before, 0.1 * SLOW)
                self.assertLess(self.server.info()["cpu"]["burned_seconds"] - burned, 30)
                for client in clients:
                    client.close()
        self.assertEqual(self.fetch("/load?ms=1").status, 200)


class Deadlines(KilnTest):
    # The server's times are small here; their upper bounds allow for a busy machine.
    HEADER = ("--header-timeout", "400ms", "--idle-timeout", "30s")

    def check_timed_out(self, client, started):
        answer = client.response()
        took = time.monotonic() - started
        self.assert_problem(answer, 408)
        self.assertTrue(answer.closes)
        client.expect_end()
        self.assertGreater(took, 0.3)
        self.assertLess(took, 2.5 * SLOW)

    def test_head_that_never_ends(self):
        server = self.start(*self.HEADER)
        for begun in (b"G", GET[:-1], b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 4000):
            with self.subTest(begun[:40]), server.connect() as client:
                started = time.monotonic()
                client.send(begun)
                self.check_timed_out(client, started)

    def test_head_that_trickles_is_not_given_more_time(self):
        server = self.start(*self.HEADER)
        with server.connect() as client:
            started = time.monotonic()
            with contextlib.suppress(OSError):
                for byte in itertools.cycle(b"GET / HTTP/1.1\r\nX: " + b"y" * 1000):
                    client.send(bytes([byte]))
                    if not client.is_silent(0.02) or time.monotonic() - started > 10 * SLOW:
                        break
            self.check_timed_out(client, started)

    def test_second_head_has_its_own_time(self):
        server = self.start(*self.HEADER)
        with server.connect() as client:
            client.get("/livez")
            self.assertTrue(client.is_silent(0.8))  # idle is not slow
            started = time.monotonic()
            client.send(b"GET / HT")
            self.check_timed_out(client, started)

    def test_each_head_of_a_stream_has_its_own_time(self):
        # Every piece ends inside a head, so the connection is never idle; yet no head takes long.
        server = self.start(*self.HEADER)
        with server.connect() as client:
            began = time.monotonic()
            client.send(GET[:10])
            while time.monotonic() - began < 1.2:
                client.send(GET[10:] + GET[:10])
                self.assertEqual(client.response().status, 200)

    def test_client_that_says_nothing(self):
        server = self.start(*self.HEADER)
        with server.connect() as client:
            took, rest = seconds_until_end(client)
        self.assertEqual(rest, b"")
        self.assertGreater(took, 0.3)
        self.assertLess(took, 2.5 * SLOW)

    def test_idle_connection_is_closed(self):
        server = self.start("--idle-timeout", "400ms", "--header-timeout", "30s")
        with server.connect() as client:
            for _ in range(4):  # each answer begins it anew
                client.get("/livez")
                self.assertTrue(client.is_silent(0.2))
            client.get("/livez")
            took, rest = seconds_until_end(client)
        self.assertEqual(rest, b"")
        self.assertGreater(took, 0.3)
        self.assertLess(took, 2.5 * SLOW)

    def test_request_being_worked_on_is_not_idle(self):
        server = self.start("--idle-timeout", "200ms", "--header-timeout", "200ms")
        with server.connect() as client:
            self.assertEqual(client.get("/load?ms=300").status, 200)

    def test_body_that_trickles_is_refused_and_a_steady_one_is_not(self):
        server = self.start("--header-timeout", "1s", "--idle-timeout", "1s", "--body-timeout", "2s",
                            "--min-body-rate", "1KiB")
        took = {}

        def trickle():
            with server.connect() as client:
                started = time.monotonic()
                client.send(encode_request("POST", "/echo", {"Content-Length": "100000"}))
                while client.is_silent(0.25):
                    client.send(b"x")
                    self.assertLess(time.monotonic() - started, 20 * SLOW)
                took["trickle"] = time.monotonic() - started
                self.assert_problem(client.response(), 408)
                client.expect_end()

        def steady():
            # A kibibyte a second is enough; this is some three.
            with server.connect() as client:
                started, sent = time.monotonic(), 0
                client.send(encode_request("POST", "/echo", {"Content-Length": "20000"}))
                while sent < 20000:
                    client.send(b"x" * 400)
                    sent += 400
                    self.assertTrue(client.is_silent(0.13) or sent == 20000)
                took["steady"] = time.monotonic() - started
                self.assertEqual(client.response().body, b"x" * 20000)

        with kiln.Together(trickle, steady):
            pass
        self.assertGreater(took["steady"], 5)
        self.assertGreater(took["trickle"], 1.9)
        self.assertLess(took["trickle"], 15 * SLOW)

    def test_age_recycles_a_connection(self):
        server = self.start("--keepalive-max-age", "500ms")
        ages = []
        for _ in range(4):
            with server.connect() as client:
                opened = time.monotonic()
                while not client.get("/livez").closes:
                    self.assertLess(time.monotonic() - opened, 5 * SLOW)
                ages.append(time.monotonic() - opened)
                client.expect_end()
        self.assertGreater(min(ages), 0.35)  # 500 ms, 20 % less
        self.assertLess(max(ages), 1.5 * SLOW)
        self.assertGreater(max(ages) - min(ages), 0.001, "all come back together")

    def test_number_of_requests_recycles_a_connection(self):
        server = self.start("--keepalive-max-requests", "3")
        with server.connect() as client:
            self.assertEqual([client.get("/livez").closes for _ in range(3)], [False, False, True])
            client.expect_end()
        with server.connect() as client:
            client.send(GET * 5)
            self.assertEqual([client.response().closes for _ in range(3)], [False, False, True])
            client.expect_end()
        single = self.start("--keepalive-max-requests", "1")
        for _ in range(3):
            self.assertTrue(single.fetch("/load?ms=0").closes)


class Limits(KilnTest):
    """Each limit at one less, itself and one more."""

    def statuses(self, server, requests):
        out = []
        for request in requests:
            with server.connect() as client:
                client.send(request)
                out.append(client.response().status)
        return out

    def test_of_a_request(self):
        server = self.start("--max-request-line", "200", "--max-head", "1000", "--max-fields", "10",
                            "--max-body", "500")
        line = len("GET /livez? HTTP/1.1\r\n")
        self.assertEqual([200, 200, 414], self.statuses(server, [
            encode_request("GET", "/livez?" + "x" * (size - line)) for size in (199, 200, 201)]))
        head = len(encode_request("GET", "/livez", {"X": ""}))
        self.assertEqual([200, 200, 431], self.statuses(server, [
            encode_request("GET", "/livez", {"X": "y" * (size - head)}) for size in (999, 1000, 1001)]))
        self.assertEqual([200, 200, 431], self.statuses(server, [
            encode_request("GET", "/livez", [("X", "y")] * (count - 1)) for count in (9, 10, 11)]))
        self.assertEqual([200, 200, 413], self.statuses(server, [
            encode_request("POST", "/echo", (), b"x" * size) for size in (499, 500, 501)]))
        self.assertEqual([200, 200, 413], self.statuses(server, [
            encode_request("POST", "/echo", {"Transfer-Encoding": "chunked"}, encode_chunks(b"x" * size, 100))
            for size in (499, 500, 501)]))

    def test_of_connections(self):
        server = self.start("--max-connections", "8", "--workers", "1")
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(server.connect()) for _ in range(7)]
            for _ in range(2):
                self.assertEqual(clients[-1].get("/livez").status, 200)
                clients.append(stack.enter_context(server.connect()))
            clients[8].send(GET)
            self.assertTrue(clients[8].is_silent(0.3), "it waits in the backlog")
            self.assertEqual(clients[7].get("/livez").status, 200)
            clients[0].close()
            self.assertEqual(clients[8].response().status, 200)

    def test_of_a_bodys_rate(self):
        server = self.start("--body-timeout", "1s", "--min-body-rate", "200", "--header-timeout", "30s")
        with server.connect() as client:
            started = time.monotonic()
            client.send(encode_request("POST", "/echo", {"Content-Length": "1000"}) + b"x" * 199)
            self.assert_problem(client.response(), 408)
            self.assertGreater(time.monotonic() - started, 0.9)
            client.expect_end()
        with server.connect() as client:
            client.send(encode_request("POST", "/echo", {"Content-Length": "900"}))
            for left in (2, 1, 0):  # 300 bytes in each 0.6 s
                client.send(b"x" * 300)
                if left:
                    self.assertTrue(client.is_silent(0.6))
            self.assertEqual(client.response().body, b"x" * 900)

    def test_of_a_reader_that_stalls(self):
        server = self.start("--write-timeout", "1s", "--workers", "1")
        with server.connect(buffers=4096) as client:
            client.send(encode_request("POST", "/echo", (), b"x" * MEBIBYTE))
            started = time.monotonic()
            eventually(lambda: server.metrics().sum("http_connections") == 1, "it is dropped", within=6)
            self.assertGreater(time.monotonic() - started, 0.9)
            with self.assertRaises(ConnectionResetError):
                client.rest()

    def test_of_lingering(self):
        server = self.start("--linger-timeout", "500ms", "--workers", "1")
        with server.connect() as client:
            client.send(b"NONSENSE\r\n\r\n")
            self.assert_problem(client.response(), 400)
            client.expect_end()  # of what it sends; it still listens
            started = time.monotonic()
            eventually(lambda: server.metrics().sum("http_connections") == 1, "it is left", within=4)
            self.assertLess(time.monotonic() - started, 2 * SLOW)
            eventually(lambda: client.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), "and reset")


class Buffered(KilnTest):
    """--max-buffered: what all connections hold together."""

    FLAGS = ("--max-buffered", "2MiB", "--max-body", "512KiB", "--workers", "1")
    BODY = b"x" * (500 * 1024)

    def test_the_oldest_body_gives_way(self):
        server = self.start(*self.FLAGS)
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(server.connect()) for _ in range(8)]
            for number, client in enumerate(clients):
                client.send(encode_request("POST", "/echo", {"Content-Length": str(len(self.BODY))}) + self.BODY[:-1])
                # One after the other, so that it is known who is the oldest.
                eventually(lambda number=number: self.bodies_held(server) == number + 1, "it has come")
            refused = server.metrics().sum("kiln_loop_connections_shed_total")
            self.assertGreater(refused, 0)
            for client in clients[:int(refused)]:
                answer = client.response()
                self.assert_problem(answer, 503)
                self.assertEqual(answer.header("Retry-After"), "1")
                client.expect_end()
            for client in clients[int(refused):]:
                client.send(self.BODY[-1:])
                self.assertEqual(client.response().body, self.BODY)
        eventually(lambda: server.metrics().sum("kiln_loop_held_bytes") < 64 * 1024, "nothing is left")

    def bodies_held(self, server):
        """How many have come whole but for a byte, those that had to give way included."""
        metrics = server.metrics()
        # A body lies in a buffer that has doubled to hold it, beside its head.
        return metrics.sum("kiln_loop_held_bytes") // len(self.BODY) + metrics.sum("kiln_loop_connections_shed_total")

    def test_each_that_gives_way_is_told(self):
        server = self.start("--max-buffered", "1MiB", "--max-body", "256KiB", "--workers", "1")
        with contextlib.ExitStack() as stack:
            small = [stack.enter_context(server.connect()) for _ in range(140)]
            for client in small:
                client.send(encode_request("POST", "/echo", {"Content-Length": "9000"}) + b"x" * 6000)
            eventually(lambda: server.metrics().sum("kiln_loop_held_bytes") > 120 * 6000, "most have come")
            large = stack.enter_context(server.connect())
            large.send(encode_request("POST", "/echo", {"Content-Length": "249000"}) + b"x" * 248_000)
            shed = eventually(lambda: server.metrics().sum("kiln_loop_connections_shed_total"), "some give way")
            large.send(b"x" * 1000)
            self.assertEqual(large.response().status, 200)
            told = [client for client in small if select.select([client.socket], [], [], 0)[0]]
            self.assertGreaterEqual(len(told), shed)
            for client in told:
                self.assert_problem(client.response(), 503)

    def test_a_single_large_body_always_has_room(self):
        server = self.start("--max-buffered", "1MiB", "--max-body", "8MiB", "--workers", "1")
        body = b"x" * (8 * MEBIBYTE)
        for _ in range(3):
            self.assertEqual(server.fetch("/echo", method="POST", body=body).body, body)

    def test_answers_that_nobody_reads_give_way(self):
        server = self.start(*self.FLAGS)
        with contextlib.ExitStack() as stack:
            greedy = [stack.enter_context(server.connect(buffers=4096)) for _ in range(12)]
            for client in greedy:
                client.send(encode_request("POST", "/echo", (), self.BODY))
                self.assertEqual(server.fetch("/echo", method="POST", body=b"honest").body, b"honest")
            self.assertGreater(server.metrics().sum("kiln_loop_connections_shed_total"), 0)
            self.assertLess(server.metrics().sum("kiln_loop_held_bytes"), 2.1 * MEBIBYTE)
            # Who asked last still gets all of it.
            self.assertEqual(greedy[-1].response().body, self.BODY)
            with self.assertRaises(ConnectionResetError):
                greedy[0].rest()


class Refusals(SharedServerTest):
    TLS_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(range(150))

    MALFORMED = [
        ("TLS", TLS_HELLO, 400),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        ("HTTP/0.9", b"GET /\r\n\r\n", 400),
        ("future version", b"GET / HTTP/3.0\r\nHost: x\r\n\r\n", 505),
        ("bare LF", b"GET / HTTP/1.1\nHost: x\n\n", 400),
        ("bare CR", b"GET / HTTP/1.1\r\nHost: x\rX: y\r\n\r\n", 400),
        ("NUL", b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("NUL in a field", b"GET / HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n", 400),
        ("space before the colon", b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        ("folded field", b"GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n", 400),
        ("no Host", b"GET / HTTP/1.1\r\n\r\n", 400),
        ("two Hosts", b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400),
        ("bad Host", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("two blanks", b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("bad escape", b"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("raw bytes in the path", b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("other scheme", b"GET ftp://x/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("CONNECT", b"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n", 501),
        ("length and chunked",
         b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("two lengths", b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
        ("negative length", b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        ("signed length", b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\nx", 400),
        ("hexadecimal length", b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 0x1\r\n\r\nx", 400),
        ("length past 64 bits",
         b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551616\r\n\r\nx", 400),
        ("largest length", b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551615\r\n\r\nx", 413),
        ("unknown coding", b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        ("chunked twice",
         b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
        ("chunked on 1.0", b"POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("no chunk size", b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\r\nabc", 400),
        ("negative chunk", b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nabc", 400),
        ("chunk past 64 bits",
         b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\nabc", 400),
        ("huge chunk", b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\nabc", 413),
        ("chunk longer than it says",
         b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n", 400),
        ("long line", b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        ("line without end", b"GET /" + b"a" * 60000, 414),
        ("long head", b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 16384 + b"\r\n\r\n", 431),
        ("head without end", b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 60000, 431),
        ("many fields", b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 100 + b"\r\n", 431),
        ("blank lines only", b"\r\n" * 100, 400),
    ]

    def test_malformed_requests(self):
        before = self.server.metrics().sum("http_requests_total", route="invalid")
        for name, text, status in self.MALFORMED:
            with self.subTest(name), self.server.connect() as client:
                client.send(text)
                answer = client.response()
                self.assert_problem(answer, status)
                self.assertTrue(answer.closes)
                client.expect_end()
        after = self.server.metrics().sum("http_requests_total", route="invalid")
        self.assertEqual(after - before, len(self.MALFORMED))

    def test_malformed_request_behind_good_ones(self):
        for name, text, status in self.MALFORMED:
            with self.subTest(name), self.server.connect() as client:
                client.send(GET * 3 + text)
                statuses = [client.response().status for _ in range(4)]
                self.assertEqual(statuses, [200, 200, 200, status])
                client.expect_end()

    def test_nothing_behind_a_refusal_is_answered(self):
        smuggled = encode_request("GET", "/smuggled")
        with self.server.connect() as client:
            client.send(b"GET / HTTP/1.1\r\nHost: x\r\nBad : y\r\n\r\n" + smuggled * 3)
            self.assertEqual(client.response().status, 400)
            client.expect_end()

    def test_sizes_around_the_limits(self):
        server = self.start("--max-head", "1KiB", "--max-request-line", "256", "--max-fields", "10")
        line = len(b"GET / HTTP/1.1\r\n")
        for extra, status in ((-1, 404), (0, 404), (1, 414)):
            target = "/" + "a" * (256 - line + extra)
            self.assertEqual(server.fetch(target).status, status, extra)
        for fields, status in ((9, 200), (10, 200), (11, 431)):
            self.assertEqual(server.fetch("/livez", [(f"X{n}", "y") for n in range(fields - 1)]).status, status)
        empty = len(encode_request("GET", "/livez", {"X": ""}))
        for size, status in ((1023, 200), (1024, 200), (1025, 431)):
            self.assertEqual(server.fetch("/livez", {"X": "a" * (size - empty)}).status, status, size)

    # Head, further bytes that nobody will read, status.
    UNREAD = [
        ("413", encode_request("POST", "/echo", {"Content-Length": str(64 * MEBIBYTE)}), 413),
        ("413 chunked", encode_request("POST", "/echo", {"Transfer-Encoding": "chunked"}) + b"7fffffff\r\n", 413),
        ("414", b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        ("431", b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 17000 + b"\r\n\r\n", 431),
        ("400", b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        ("417", encode_request("POST", "/echo", {"Expect": "x", "Content-Length": "90000"}), 417),
    ]

    def test_refusal_is_readable_to_the_end_with_bytes_unread(self):
        for name, head, status in self.UNREAD:
            with self.subTest(name), self.server.connect() as client:
                client.send(head + b"a" * 32 * 1024)
                # Wait until it has refused, then send more: what meets a closed socket would bring a reset.
                self.assertTrue(select.select([client.socket], [], [], 5 * SLOW)[0])
                client.send(b"a" * 8 * 1024)
                answer = client.response()
                self.assert_problem(answer, status)
                self.assertTrue(answer.closes)
                client.half_close()
                client.expect_end()

    def test_refusal_reaches_a_client_that_uploads_regardless(self):
        for name, head, status in self.UNREAD:
            with self.subTest(name):
                for _ in range(20):
                    with self.server.connect() as client:
                        def upload(client=client, text=head + b"a" * MEBIBYTE):
                            with contextlib.suppress(ConnectionError):
                                client.send(text)

                        with kiln.Together(upload):
                            try:
                                self.assert_problem(client.response(), status)
                            finally:
                                with contextlib.suppress(OSError):
                                    client.socket.shutdown(socket.SHUT_RDWR)  # ends the upload

    def test_refusal_reaches_a_client_that_reads_only_when_it_has_sent_everything(self):
        for name, head, status in self.UNREAD:
            for size in (2, 8, 24):
                with self.subTest(f"{name}, {size} MiB"), self.server.connect() as client:
                    client.send(head + b"a" * (size * MEBIBYTE))
                    self.assert_problem(client.response(), status)
                    client.expect_end()

    def test_client_that_stays_after_a_refusal_is_left(self):
        with self.server.connect() as client:
            client.send(b"NONSENSE\r\n\r\n")
            self.assertEqual(client.response().status, 400)
            client.expect_end()
            eventually(lambda: self.server.metrics().sum("http_connections") == 1, "it is closed on our side too",
                       within=6)

    def test_random_bytes(self):
        dice = random.Random(20260801)
        words = [b"GET ", b"POST ", b"/", b"/echo", b"/load?ms=0", b" HTTP/1.1", b"\r\n", b"\r\n\r\n", b"Host: x", b":",
                 b"Content-Length: ", b"5", b"Transfer-Encoding: chunked", b"\n", b"\0", b"\xff", b"a" * 3000, b"%",
                 b"Connection: keep-alive", b"Expect: 100-continue", b"0", b"ffff"]
        for _ in range(300):
            pieces = [dice.choice(words) if dice.random() < 0.85 else dice.randbytes(dice.randrange(1, 60))
                      for _ in range(dice.randrange(1, 40))]
            with self.server.connect() as client:
                for piece in pieces[:3]:
                    client.send(piece)
                client.send(b"".join(pieces[3:]))
                client.half_close()
                self.read_answers(client)

    def read_answers(self, client):
        """Whatever it answers is well-formed, and ends."""
        while True:
            try:
                answer = client.response()
            except Ended as ended:
                self.assertEqual(ended.so_far, b"")
                return
            self.assertLess(answer.status, 600)
            self.assertNotIn(answer.status, (500, 502, 504))


class SlowReaders(KilnTest):
    # Some hundreds of them fill all the buffers on the way; the answer is larger.
    REQUEST = encode_request("GET", "/openapi.json", {"X-Padding": "x" * 900})

    def stuff(self, clients, most):
        """Sends requests and reads nothing until the server takes no more, or `most` bytes of each client. How many
        bytes each has sent."""
        sent = [0] * len(clients)
        places = {client.socket: place for place, client in enumerate(clients)}
        for client in clients:
            client.socket.setblocking(False)
        text = self.REQUEST * 50
        last = time.monotonic()
        while max(sent) < most and time.monotonic() - last < 0.5:
            for ready in select.select([], places, [], 0.05)[1]:
                place = places[ready]
                with contextlib.suppress(BlockingIOError):
                    sent[place] += ready.send(text[sent[place] % len(self.REQUEST):])
                    last = time.monotonic()
        for client in clients:
            client.socket.settimeout(10 * SLOW)
        return sent

    def test_reader_that_never_reads_costs_no_more_than_its_buffers(self):
        server = self.start()
        for _ in range(20):
            server.fetch("/openapi.json")
        before = server.resident_bytes()
        clients = [self.connect(server, buffers=4096) for _ in range(20)]
        most = 8 * MEBIBYTE
        self.assertLess(max(self.stuff(clients, most)), most,
                        "the server takes requests without end from a client that reads no answer")
        for _ in range(20):
            began = time.monotonic()
            self.assertEqual(server.fetch("/livez").status, 200)
            self.assertLess(time.monotonic() - began, 1 * SLOW)
        if not kiln.SANITIZED:
            # For each: 64 KiB of input, a batch of answers twice, and room around them.
            self.assertLess(server.resident_bytes() - before, len(clients) * MEBIBYTE)
        for client in clients:
            client.reset()
        eventually(lambda: server.metrics().sum("http_connections") == 1, "all are gone")

    def reads_everything(self, server):
        expected = server.fetch("/openapi.json").body
        client = self.connect(server, buffers=4096)
        whole, rest = divmod(self.stuff([client], 8 * MEBIBYTE)[0], len(self.REQUEST))
        self.assertGreater(whole, 50)
        with kiln.Together(lambda: client.send(self.REQUEST[rest:])):
            for _ in range(whole + 1):
                answer = client.response()
                self.assertEqual(answer.status, 200)
                self.assertEqual(answer.body, expected)
        self.assertTrue(client.is_silent(0.05))
        self.assertEqual(client.get("/livez").status, 200)

    def test_reader_that_was_away_gets_everything(self):
        self.reads_everything(self.start())

    def test_reader_that_was_away_is_not_a_slow_head(self):
        # While the server takes no input, the client cannot be late with it.
        self.reads_everything(self.start("--header-timeout", "200ms"))


class Many(KilnTest):
    def test_two_thousand_idle_connections(self):
        count = 2000
        kiln.allow_open_files(count + 200)
        server = self.start()
        for _ in range(20):
            server.fetch("/livez")
        before = server.resident_bytes()
        clients = []
        for number in range(count):
            client = self.connect(server)
            if number % 2:  # half of them have had an answer
                client.get("/livez")
            clients.append(client)
        eventually(lambda: server.metrics().sum("http_connections") == count + 1, "all are open")
        if not kiln.SANITIZED:
            self.assertLess((server.resident_bytes() - before) / count, 8 * 1024)
        spent = server.cpu_seconds()
        time.sleep(0.5)  # a stretch to measure
        self.assertLess(server.cpu_seconds() - spent, 0.1 * SLOW)
        self.assertEqual({client.get("/livez").status for client in clients}, {200})
        for client in clients:
            client.close()
        eventually(lambda: server.metrics().sum("http_connections") == 1, "all are closed")
        self.assertLess(server.open_files(), 60)

    def test_floods_of_connections_that_are_reset(self):
        server = self.start()
        server.fetch("/livez")

        def flood():
            for number in range(500):
                client = server.connect()
                if number % 3 == 0:
                    client.send(GET)
                client.reset()

        flood()
        before = server.resident_bytes()
        with kiln.Together(flood, flood, flood):
            began = time.monotonic()
            self.assertEqual(server.fetch("/livez").status, 200)
            self.assertLess(time.monotonic() - began, 2 * SLOW)
        eventually(lambda: server.metrics().sum("http_connections") == 1, "all are gone")
        self.assertLess(server.open_files(), 60)
        if not kiln.SANITIZED:
            self.assertLess(server.resident_bytes() - before, 8 * MEBIBYTE)

    def test_as_many_requests_as_one_likes_leave_nothing_behind(self):
        server = self.start()

        def requests(count):
            with server.connect() as client:
                for _ in range(count):
                    client.send(GET * 20 + encode_request("POST", "/echo", {}, b"x" * 3000)
                                + encode_request("GET", "/load?ms=0"))
                    for _ in range(22):
                        client.response()

        requests(50)
        before, files = server.resident_bytes(), server.open_files()
        requests(300)
        if not kiln.SANITIZED:
            self.assertLess(server.resident_bytes() - before, 2 * MEBIBYTE)
        self.assertLessEqual(server.open_files(), files + 2)


class Shortage(KilnTest):
    def hold(self, server, most):
        """Connects until a connection is not answered; returns those that were and the one that was not."""
        held = []
        for _ in range(most):
            client = self.connect(server)
            client.send(GET)
            if client.is_silent(0.4 * SLOW):
                return held, client
            self.assertEqual(client.response().status, 200)
            held.append(client)
        self.fail(f"{most} connections are served at once")

    def all_are_served(self, server, count):
        """More clients than there is room for, each of which leaves once it is served."""
        served = []

        def ask():
            for _ in range(count // 10):
                with server.connect(timeout=20) as client:
                    if client.get("/livez", {"Connection": "close"}).status == 200:
                        served.append(1)
                    client.expect_end()

        with kiln.Together(*[ask] * 10):
            pass
        self.assertEqual(len(served), count)

    def test_few_descriptors_from_the_start(self):
        server = self.start(confine=["--open-files", "64"])
        held, waiting = self.hold(server, 64)
        self.assertGreaterEqual(len(held), 8)
        self.check_rest(server, held, waiting)

    def test_descriptors_run_out(self):
        # So few that accept(2) fails before the smallest cap on connections is reached.
        roomy = self.start("--workers", "1")
        roomy.metrics()
        limit = roomy.open_files() + 6
        server = self.start("--workers", "1", confine=["--open-files", str(limit)])
        asking = self.connect(server)

        def errors():
            return kiln.Metrics(asking.get("/metrics").body.decode()).one("http_accept_errors_total")

        self.assertEqual(errors(), 0)
        held, waiting = self.hold(server, 8)
        before = errors()
        self.assertGreater(before, 0)
        self.check_rest(server, held, waiting)
        self.assertLess(errors() - before, 400, "it spins")

    def check_rest(self, server, held, waiting):
        more = [self.connect(server) for _ in range(100)]  # in the backlog
        for client in more:
            client.send(GET)
        before = server.cpu_seconds()
        time.sleep(1.5)  # a stretch to measure
        self.assertLess(server.cpu_seconds() - before, 1.5 * 0.05 * SLOW, "5 % of a core while it can do nothing")
        for client in held:  # those who have their connection do not suffer
            self.assertEqual(client.get("/livez").status, 200)
        for client in held:
            client.close()
        # The accept of a shortage tries again within a second.
        for client in [waiting, *more]:
            self.assertEqual(client.response().status, 200)
            client.close()
        self.all_are_served(server, 300)

    def test_cap_on_connections(self):
        server = self.start("--max-connections", "8", "--workers", "1", "--admin-port", "0")
        held, waiting = self.hold(server, 9)
        self.assertEqual(len(held), 8)
        for path in ("/livez", "/readyz", "/metrics", "/startupz") * 5:
            began = time.monotonic()
            self.assertEqual(server.fetch(path, port=server.admin_port).status, 200)
            self.assertLess(time.monotonic() - began, 1 * SLOW)
        metrics = server.metrics(port=server.admin_port)
        self.assertIn(metrics.sum("http_connections"), (9, 10))
        before = server.cpu_seconds()
        self.assertTrue(waiting.is_silent(1))
        self.assertLess(server.cpu_seconds() - before, 0.05 * SLOW + 0.01)
        held[3].close()
        self.assertEqual(waiting.response().status, 200)
        for client in held[:3] + held[4:]:
            self.assertEqual(client.get("/livez").status, 200)
            client.close()
        waiting.close()
        self.all_are_served(server, 200)

    def test_probes_answer_at_the_cap_during_a_flood(self):
        server = self.start("--max-connections", "8", "--workers", "1", "--admin-port", "0")
        stop = threading.Event()
        deadline = time.monotonic() + 30 * SLOW

        def flood():
            while not stop.is_set() and time.monotonic() < deadline:
                with contextlib.suppress(OSError, Ended), server.connect(timeout=1) as client:
                    client.get("/load?ms=1")

        with kiln.Together(*[flood] * 12):
            try:
                for _ in range(50):
                    began = time.monotonic()
                    self.assertEqual(server.fetch("/readyz", port=server.admin_port).status, 200)
                    self.assertLess(time.monotonic() - began, 1 * SLOW)
            finally:
                stop.set()

    def test_backlog_does_not_lose_a_client_to_a_worker_at_its_cap(self):
        # Each worker has its share of the cap and a listener of its own.
        server = self.start("--max-connections", "4", "--workers", "2")
        self.all_are_served(server, 200)


if __name__ == "__main__":
    unittest.main()
