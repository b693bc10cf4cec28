"""What serve writes: one JSON object a line in a pipe, plain text on a terminal, a line a request on request."""

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import time
import unittest

import kiln
from kiln import SLOW, KilnTest, encode_request, eventually

GET = encode_request("GET", "/livez")


class Lines(KilnTest):
    def check_lines(self, server):
        self.assertTrue(server.lines)
        last = {True: "", False: ""}  # lines of requests are queued, so the others may overtake them
        for line in server.lines:
            record = json.loads(line)
            is_request = record["msg"] == "request"
            self.assertEqual(list(record)[:3], ["ts", "level", "msg"])
            self.assertRegex(record["ts"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
            self.assertGreaterEqual(record["ts"], last[is_request])
            self.assertIn(record["level"], ("info", "warning", "error"))
            self.assertTrue(record["msg"])
            last[is_request] = record["ts"]

    def test_life_of_a_server(self):
        server = self.start("--admin-port", "0", "--drain-delay", "0", env={"POD_NAME": 'quo"ted\\', "NODE_NAME": "n"})
        self.assertIs(type(server.listening["port"]), int)
        self.assertEqual(server.listening["pod"], 'quo"ted\\')
        self.assertEqual(server.listening["node"], "n")
        if kiln.ENGINE != "auto":
            self.assertEqual(server.listening["engine"], kiln.ENGINE)
        self.assertTrue(server.listening["engine_reason"])
        for _ in range(7):
            server.fetch("/livez")
        server.signal()
        self.assertEqual(server.wait(), 0)
        self.check_lines(server)
        self.assertEqual([record["msg"] for record in server.log()], ["listening", "draining", "stopped"])
        self.assertEqual(server.log("stopped")[0]["requests"], 7)
        self.assertEqual(server.complaints(), "")

    def test_no_line_a_request_unless_asked(self):
        server = self.start("--drain-delay", "0")
        for _ in range(50):
            server.fetch("/livez")
        server.signal()
        self.assertEqual(server.wait(), 0)
        self.assertEqual(server.log("request"), [])

    def test_line_a_request(self):
        server = self.start("--access-log", "1", "--burn-queue", "0")
        asked = [("GET", "/livez", 200), ("HEAD", "/", 200), ("GET", "/load?ms=2", 200), ("POST", "/echo", 200),
                 ("GET", "/nowhere/%22%0a", 404), ("PUT", "/livez", 405), ("GET", "/load?ms=x", 400)]
        for method, target, status in asked:
            answer = server.fetch(target, method=method, body=b"12345" if method == "POST" else None)
            self.assertEqual(answer.status, status)
        eventually(lambda: len(server.log("request")) == len(asked), "a line for each")
        self.check_lines(server)
        records = server.log("request")
        self.assertEqual([(record["method"], record["status"]) for record in records],
                         [(method, status) for method, _, status in asked])
        self.assertEqual([record["route"] for record in records[:4]], ["/livez", "/", "/load", "/echo"])
        for record in records:
            self.assertRegex(record["client"], r"^127\.0\.0\.1:\d+$")
            self.assertIs(type(record["bytes"]), int)
            self.assertGreaterEqual(record["ms"], 0)
        self.assertEqual(records[3]["bytes"], 5)
        self.assertGreater(records[2]["ms"], 1)

    def test_refusals_have_their_lines_too(self):
        server = self.start("--access-log", "1", "--header-timeout", "300ms")
        for begun, status in ((b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400), (b"GET / HT", 408)):
            with server.connect() as client:
                client.send(begun)
                self.assertEqual(client.response().status, status)
        eventually(lambda: len(server.log("request")) == 2, "a line for each")
        self.check_lines(server)
        self.assertEqual([(record["method"], record["route"], record["status"]) for record in server.log("request")],
                         [("other", "invalid", 400), ("other", "invalid", 408)])

    def test_no_client_writes_into_the_log(self):
        server = self.start("--access-log", "1")
        text = '","level":"error","msg":"forged'
        escaped = "/%22%2C%22level%22%3A%22error%22%2C%22msg%22%3A%22forged%0A%7B%7D"
        server.fetch(escaped, {"User-Agent": text, "X-Request-Id": text, "X-Forwarded-For": text})
        server.fetch("/livez", method="FORGED")
        eventually(lambda: len(server.log("request")) == 2, "both lines")
        self.check_lines(server)
        self.assertNotIn("forged", "".join(server.lines).lower())

    def test_sample(self):
        server = self.start("--access-log", "0.1", "--drain-delay", "0")
        count = 2000
        with server.connect() as client:
            for _ in range(count // 20):
                client.send(GET * 20)
                for _ in range(20):
                    client.response()
        server.signal()
        self.assertEqual(server.wait(), 0)
        # Ten standard deviations around the mean of 200.
        self.assertGreater(len(server.log("request")), 66)
        self.assertLess(len(server.log("request")), 334)
        self.check_lines(server)


class Readers(KilnTest):
    def test_reader_that_stalls_does_not_stop_the_server(self):
        server = self.start("--access-log", "1", "--workers", "1", "--drain-delay", "0", read_log=False)
        requests = 0
        with server.connect() as client:
            for _ in range(250):  # far more than a pipe and a queue hold
                client.send(GET * 20)
                for _ in range(20):
                    self.assertEqual(client.response().status, 200)
                    requests += 1
        self.assertEqual(server.metrics().sum("http_requests_total", route="/livez"), requests)
        self.assertEqual(server.fetch("/readyz").status, 200)
        server.read_log()

    def test_reader_that_stalls_does_not_hold_the_end_up(self):
        server = self.start("--access-log", "1", "--workers", "1", "--drain-delay", "0", read_log=False)
        with server.connect() as client:
            for _ in range(250):
                client.send(GET * 20)
                for _ in range(20):
                    self.assertEqual(client.response().status, 200)
        server.signal()
        eventually(lambda: not server.is_running, "it ends although nobody reads its log", within=5)
        self.assertEqual(server.wait(), 0)

    def test_reader_that_is_gone_does_not_stop_the_server(self):
        command = [kiln.binary(), "serve", "--data-uri", "memory:", "--port", "0", "--engine", kiln.ENGINE,
                   "--access-log", "1", "--drain-delay", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              env=kiln.clean_environment()) as process:
            try:
                port = json.loads(process.stdout.readline())["port"]
                process.stdout.close()
                for _ in range(50):
                    with kiln.Client(port) as client:
                        self.assertEqual(client.get("/livez").status, 200)
                process.terminate()
                self.assertEqual(process.wait(5 * SLOW), 0)
            finally:
                process.kill()

    def test_without_standard_streams_nothing_takes_their_place(self):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]

        def serves():
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        command = [kiln.binary(), "serve", "--data-uri", "memory:", "--port", str(port), "--engine", kiln.ENGINE,
                   "--access-log", "1", "--drain-delay", "0"]
        with subprocess.Popen(command, preexec_fn=lambda: os.closerange(0, 3),
                              env=kiln.clean_environment()) as process:
            try:
                eventually(serves, "it serves")
                places = [os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in range(3)]
                self.assertEqual(places, ["/dev/null"] * 3)
                with kiln.Client(port) as client:
                    for _ in range(50):
                        self.assertEqual(client.get("/livez").status, 200)
                process.terminate()
                self.assertEqual(process.wait(5 * SLOW), 0)
            finally:
                process.kill()


class Terminal(KilnTest):
    def session(self, **environment):
        """What a server writes on a terminal, from its start to Ctrl-C."""
        master, slave = pty.openpty()
        self.addCleanup(os.close, master)
        command = [kiln.binary(), "serve", "--data-uri", "memory:", "--port", "0", "--engine", kiln.ENGINE,
                   "--drain-delay", "1h"]
        with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave,
                              env=kiln.clean_environment(dict({"TERM": "xterm-256color"}, **environment))) as process:
            os.close(slave)
            try:
                text = b""
                deadline = time.monotonic() + 10 * SLOW
                while time.monotonic() < deadline:
                    if select.select([master], [], [], 0.05)[0]:
                        try:
                            text += os.read(master, 10000)
                        except OSError:  # EIO: the other side is closed
                            break
                        if b"listening" in text and b"draining" not in text:
                            process.send_signal(signal.SIGINT)
                self.assertEqual(process.wait(5 * SLOW), 0)
            finally:
                process.kill()
        return text.decode()

    def test_people_get_plain_text(self):
        text = self.session()
        self.assertIn("listening", text)
        self.assertIn("stopped", text)
        self.assertRegex(text, r"port=\d+")
        for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines():
            self.assertRegex(line, r"^\d\d:\d\d:\d\d\.\d{3} \w+ \w+")
            self.assertFalse(line.startswith("{"))
        self.assertIn("\x1b[", text)

    def test_no_color_is_honoured(self):
        self.assertNotIn("\x1b", self.session(NO_COLOR="1"))


if __name__ == "__main__":
    unittest.main()
