"""Starts kiln and talks to it over raw sockets. What comes back is checked byte by byte, so a test that only asks for a
status has also shown that the framing of the answer was right.

The environment: KILN_BINARY is the program; KILN_ENGINE the engine that servers run on; KILN_TEST_SLOW a factor for
every upper time limit, for builds that are slower than the shipped one; KILN_TEST_SANITIZED=1 says that the build's
memory use says nothing about the shipped one's.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

SLOW = float(os.environ.get("KILN_TEST_SLOW", "1"))
SANITIZED = os.environ.get("KILN_TEST_SANITIZED") == "1"
ENGINE = os.environ.get("KILN_ENGINE", "auto")
HERE = pathlib.Path(__file__).resolve().parent

IDENTITY_VARIABLES = ("POD_NAME", "POD_IP", "POD_NAMESPACE", "NODE_NAME", "NODE_IP", "NODE_ZONE", "CPU_REQUEST_MILLI",
                      "CPU_LIMIT_MILLI", "KUBERNETES_SERVICE_HOST")


def binary():
    try:
        return os.environ["KILN_BINARY"]
    except KeyError:
        raise AssertionError("KILN_BINARY must name the kiln to test") from None


def clean_environment(additions=None):
    """Ours, without what kiln would read from it."""
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith(("KILN_", "MONGO_INITDB_")) and name not in IDENTITY_VARIABLES}
    environment.update(additions or {})
    return environment


def run(*arguments, env=None, confine=(), timeout=20):
    """A verb that ends by itself."""
    return subprocess.run([*confined(confine), binary(), *arguments], env=clean_environment(env), text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout * SLOW, check=False)


def confined(confine):
    return [sys.executable, "-B", str(HERE / "confine.py"), *confine, "--"] if confine else []


def eventually(condition, what, within=5):
    """Polls until `condition` is true and returns what it said; fails after `within` seconds."""
    deadline = time.monotonic() + within * SLOW
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within * SLOW:g} s: {what}; last: {value!r}")
        time.sleep(0.01)


def allow_open_files(count):
    """For tests that hold many sockets themselves."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        if hard != resource.RLIM_INFINITY and hard < count:
            raise AssertionError(f"this test needs {count} open files, ulimit -n allows {hard}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


# --- Answers ----------------------------------------------------------------------------------------------------------

class Malformed(AssertionError):
    """The server wrote something that HTTP/1.1 does not allow, or that we promised not to write."""


class Ended(Exception):
    """The server closed the connection where more bytes were due; `so_far` has come."""

    def __init__(self, so_far):
        super().__init__(f"the connection ended after {bytes(so_far[:200])!r}")
        self.so_far = bytes(so_far)


STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) ([ -~]+)")
FIELD_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ([!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")
LENGTH = re.compile(r"0|[1-9][0-9]*")
CHUNK_SIZE = re.compile(rb"0|[1-9a-fA-F][0-9a-fA-F]*")


@dataclasses.dataclass
class Response:
    status: int
    reason: str
    fields: list  # of (name, value), in order
    body: bytes = b""

    def all(self, name):
        return [value for known, value in self.fields if known.lower() == name.lower()]

    def header(self, name):
        """The field's value; nothing when it is absent. Twice is a fault: no field of ours is a list of lines."""
        values = self.all(name)
        if len(values) > 1:
            raise Malformed(f"{name} came {len(values)} times: {values}")
        return values[0] if values else None

    @property
    def closes(self):
        return (self.header("Connection") or "").lower() == "close"

    def json(self):
        def refuse(constant):
            raise Malformed(f"{constant} is no JSON")

        return json.loads(self.body.decode("utf-8"), parse_constant=refuse)


def parse_head(head):
    """`head` lies before the blank line. Lines end with CR LF and hold neither alone."""
    lines = head.split(b"\r\n")
    for line in lines:
        if b"\r" in line or b"\n" in line:
            raise Malformed(f"a bare CR or LF in {line!r}")
    status = STATUS_LINE.fullmatch(lines[0])
    if not status:
        raise Malformed(f"status line {lines[0]!r}")
    fields = []
    for line in lines[1:]:
        field = FIELD_LINE.fullmatch(line)
        if not field:
            raise Malformed(f"field line {line!r}")
        fields.append((field[1].decode("ascii"), (field[2] or b"").decode("latin-1")))
    return Response(int(status[1]), status[2].decode("ascii"), fields)


def encode_request(method, target, fields=(), body=None, version="1.1", host="kiln.test"):
    """`fields` is a dict or pairs. A body gets its Content-Length unless Transfer-Encoding is among the fields."""
    pairs = list(fields.items()) if isinstance(fields, dict) else list(fields)
    names = {name.lower() for name, _ in pairs}
    if host is not None and "host" not in names:
        pairs.insert(0, ("Host", host))
    if body is not None and not names & {"content-length", "transfer-encoding"}:
        pairs.append(("Content-Length", str(len(body))))
    head = f"{method} {target} HTTP/{version}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in pairs) + "\r\n"
    return head.encode("latin-1") + (body or b"")


def encode_chunks(body, size):
    """`body` in chunks of `size` bytes."""
    pieces = [body[at:at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


# --- Client -----------------------------------------------------------------------------------------------------------

class Client:
    """One connection."""

    def __init__(self, port, address="127.0.0.1", timeout=30, buffers=None):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            if buffers:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffers)
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffers)
            self.socket.settimeout(timeout * SLOW)
            self.socket.connect((address, port))
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            self.socket.close()
            raise
        self.buffer = bytearray()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def reset(self):
        """Closes with RST instead of FIN."""
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def half_close(self):
        self.socket.shutdown(socket.SHUT_WR)

    def send(self, data):
        self.socket.sendall(data)

    def request(self, method, target, fields=(), body=None, **more):
        self.send(encode_request(method, target, fields, body, **more))
        return self.response(method)

    def get(self, target, fields=(), **more):
        return self.request("GET", target, fields, **more)

    # Reading.

    def _more(self):
        data = self.socket.recv(256 * 1024)
        if not data:
            raise Ended(self.buffer)
        self.buffer += data

    def _take(self, count):
        while len(self.buffer) < count:
            self._more()
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken

    def _take_until(self, mark):
        searched = 0
        while (at := self.buffer.find(mark, searched)) < 0:
            searched = max(0, len(self.buffer) - len(mark) + 1)
            self._more()
        taken = bytes(self.buffer[:at])
        del self.buffer[:at + len(mark)]
        return taken

    def response(self, method="GET"):
        """The next answer, which belongs to a request with `method`."""
        answer = parse_head(self._take_until(b"\r\n\r\n"))
        length, coding = answer.header("Content-Length"), answer.header("Transfer-Encoding")
        if length is not None and coding is not None:
            raise Malformed("Content-Length and Transfer-Encoding")
        if answer.status < 200 or answer.status in (204, 304):
            if length is not None or coding is not None:
                raise Malformed(f"{answer.status} with the framing of a body")
            return answer
        if length is not None:
            if not LENGTH.fullmatch(length):
                raise Malformed(f"Content-Length: {length!r}")
            if method != "HEAD":
                answer.body = self._take(int(length))
        elif coding is not None:
            if coding != "chunked":
                raise Malformed(f"Transfer-Encoding: {coding!r}")
            if method != "HEAD":
                answer.body = self._take_chunks()
        else:
            if not answer.closes:
                raise Malformed("a body without a length on a connection that stays")
            if method != "HEAD":
                answer.body = self.rest()
        return answer

    def _take_chunks(self):
        body = bytearray()
        while True:
            size = self._take_until(b"\r\n")
            if not CHUNK_SIZE.fullmatch(size):
                raise Malformed(f"chunk size {size!r}")
            if size == b"0":
                if self._take(2) != b"\r\n":
                    raise Malformed("trailers")
                return bytes(body)
            body += self._take(int(size, 16))
            if self._take(2) != b"\r\n":
                raise Malformed("a chunk without its line end")

    def rest(self):
        """Everything up to the end. A reset is no end: it raises."""
        while True:
            try:
                self._more()
            except Ended:
                taken = bytes(self.buffer)
                self.buffer.clear()
                return taken

    def expect_end(self):
        """The server has closed, properly, and wrote nothing more."""
        rest = self.rest()
        if rest:
            raise Malformed(f"bytes after the last answer: {rest[:200]!r}")

    def is_silent(self, seconds):
        """True when neither bytes nor the end come within that time."""
        if self.buffer:
            return False
        before = self.socket.gettimeout()
        self.socket.settimeout(seconds)
        try:
            self._more()
            return False
        except (Ended, ConnectionError):
            return False
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(before)


# --- Server -----------------------------------------------------------------------------------------------------------

class Server:
    """A running `kiln serve`, on a port of the system's choice unless the flags name one. In a process group of its own
    it outlives a Ctrl-C, for whoever ends it himself."""

    def __init__(self, *flags, env=None, engine=ENGINE, confine=(), read_log=True, own_group=False):
        flags = [str(flag) for flag in flags]
        command = [*confined(confine), binary(), "serve", "--engine", engine]
        if "--port" not in flags and "KILN_PORT" not in (env or {}):
            command += ["--port", "0"]
        if not any(name.startswith(("--data-dir", "--data-uri", "--mongo-host", "KILN_DATA", "KILN_MONGO"))
                   for name in [*flags, *(env or {})]):
            command += ["--data-uri", "memory:"]  # whoever wants files says where
        self.stderr = tempfile.TemporaryFile()
        self.process = subprocess.Popen([*command, *flags], env=clean_environment(env), stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=self.stderr,
                                        process_group=0 if own_group else None)
        self.pid = self.process.pid
        self.exit_is_expected = False
        self.lines = []
        self._came = threading.Condition()
        self._log_ended = False
        self._reading = threading.Event()
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        try:
            self.listening = self.wait_for_log("listening", within=10)
        except BaseException:
            self.kill()
            raise
        self.port = self.listening["port"]
        admin = self.listening["admin_port"]
        self.admin_port = None if admin == "none" else int(admin)
        if read_log:
            self._reading.set()

    def _read_log(self):
        for line in self.process.stdout:
            with self._came:
                self.lines.append(line.decode("utf-8", "replace").rstrip("\n"))
                self._came.notify_all()
            if b'"listening"' in line:
                self._reading.wait()
        with self._came:
            self._log_ended = True
            self._came.notify_all()

    def read_log(self):
        """For a server that was started with read_log=False."""
        self._reading.set()

    def log(self, message=None):
        """The log lines so far, parsed, of one message or all."""
        with self._came:
            lines = list(self.lines)
        records = [json.loads(line) for line in lines]
        return [record for record in records if message is None or record["msg"] == message]

    def wait_for_log(self, message, within=5):
        deadline = time.monotonic() + within * SLOW
        with self._came:
            seen = 0
            while True:
                for line in self.lines[seen:]:
                    record = json.loads(line)
                    if record["msg"] == message:
                        return record
                seen = len(self.lines)
                left = deadline - time.monotonic()
                if self._log_ended or left <= 0:
                    raise AssertionError(f"no log line {message!r}: {self.lines} {self.complaints()}")
                self._came.wait(left)

    def complaints(self):
        """What it wrote to stderr."""
        self.stderr.seek(0)
        return self.stderr.read().decode("utf-8", "replace")

    # Ending.

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    @property
    def is_running(self):
        return self.process.poll() is None

    def wait(self, within=10):
        """The exit status."""
        self.exit_is_expected = True
        try:
            code = self.process.wait(within * SLOW)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {within * SLOW:g} s") from None
        self._reading.set()
        self._reader.join(5 * SLOW)
        return code

    def end(self):
        """Ends it, when the test has not, and checks that it neither fell over nor complained."""
        try:
            if not self.is_running and not self.exit_is_expected:
                raise AssertionError(f"the server ended by itself: {self.process.returncode} {self.lines[-5:]} "
                                     f"{self.complaints()}")
            self._reading.set()
            for _ in range(2):  # the second time at once
                if self.is_running:
                    self.signal(signal.SIGINT)
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        self.process.wait(4 * SLOW)
            if self.is_running:
                raise AssertionError("still running after two signals")
            if self.process.returncode != 0:
                raise AssertionError(f"exit status {self.process.returncode}: {self.complaints()}")
            if complaints := self.complaints():
                raise AssertionError(f"on stderr: {complaints}")
        finally:
            self.kill()

    def kill(self):
        self._reading.set()
        self.process.kill()
        self.process.wait()
        self._reader.join(5)
        self.process.stdout.close()
        self.stderr.close()

    # Asking.

    def connect(self, port=None, **more):
        return Client(port or self.port, **more)

    def fetch(self, target, fields=(), method="GET", body=None, port=None, address="127.0.0.1"):
        """One request on a connection of its own."""
        with self.connect(port, address=address) as client:
            return client.request(method, target, fields, body)

    def info(self):
        return self.fetch("/api/info").json()

    def metrics_text(self, port=None):
        answer = self.fetch("/metrics", port=port)
        if answer.status != 200:
            raise AssertionError(f"/metrics: {answer.status}")
        return answer.body.decode("utf-8")

    def metrics(self, port=None):
        return Metrics(self.metrics_text(port))

    # The process.

    def cpu_seconds(self):
        """CPU time so far; the kernel counts in ticks of 10 ms here (proc(5), /proc/pid/stat)."""
        text = pathlib.Path(f"/proc/{self.pid}/stat").read_text("ascii")
        fields = text[text.rindex(")") + 2:].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self):
        text = pathlib.Path(f"/proc/{self.pid}/status").read_text("ascii")
        return int(re.search(r"^VmRSS:\s+([0-9]+) kB$", text, re.MULTILINE)[1]) * 1024

    def context_switches(self):
        """Of all threads so far: one that waits and is not woken adds none."""
        total = 0
        for status in pathlib.Path(f"/proc/{self.pid}/task").glob("*/status"):
            total += sum(int(count) for count in re.findall(r"ctxt_switches:\s+([0-9]+)", status.read_text("ascii")))
        return total

    def open_files(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))


class Metrics:
    """Prometheus text, read strictly."""

    SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)')
    LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')

    def __init__(self, text):
        self.text = text
        self.samples = []  # (name, labels, value)
        self.types = {}
        if not text.endswith("\n"):
            raise Malformed("no line end at the end of /metrics")
        for line in text.split("\n")[:-1]:
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ")
                if name in self.types:
                    raise Malformed(f"{name} has two TYPE lines")
                self.types[name] = kind
            elif not line.startswith("# HELP "):
                self.samples.append(self._sample(line))

    def _sample(self, line):
        match = self.SAMPLE.fullmatch(line)
        if not match:
            raise Malformed(f"sample {line!r}")
        labels, at = {}, 0
        text = match[2] or ""
        while at < len(text):
            label = self.LABEL.match(text, at)
            if not label:
                raise Malformed(f"labels of {line!r}")
            labels[label[1]] = re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], label[2])
            at = label.end()
        return match[1], labels, float(match[3])

    def all(self, name, **labels):
        return [(has, value) for known, has, value in self.samples
                if known == name and all(has.get(label) == wanted for label, wanted in labels.items())]

    def sum(self, name, **labels):
        """Of the samples that have these labels; 0 when there is none."""
        return sum(value for _, value in self.all(name, **labels))

    def one(self, name, **labels):
        found = self.all(name, **labels)
        if len(found) != 1:
            raise AssertionError(f"{len(found)} samples of {name} {labels}")
        return found[0][1]


# --- Tests ------------------------------------------------------------------------------------------------------------

class Together:
    """Runs functions in threads of their own and brings their first exception back to the test. They may go on for
    `within` seconds after it has come to its end."""

    def __init__(self, *functions, within=60):
        self.within = within
        self.error = None
        self.threads = [threading.Thread(target=self._run, args=(function,), daemon=True) for function in functions]

    def _run(self, function):
        try:
            function()
        except BaseException as error:  # pylint: disable=broad-except
            self.error = self.error or error

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, kind, *_):
        for thread in self.threads:
            thread.join(self.within * SLOW)
        if kind is None:
            if self.error:
                raise self.error
            if any(thread.is_alive() for thread in self.threads):
                raise AssertionError("a thread of the test hangs")


class KilnTest(unittest.TestCase):
    """Servers and clients that a test starts end with it; a server that fell over fails the test."""

    maxDiff = None

    def start(self, *flags, **more):
        server = Server(*flags, **more)
        self.addCleanup(server.end)
        return server

    def connect(self, server, port=None, **more):
        client = server.connect(port, **more)
        self.addCleanup(client.close)
        return client

    def assert_problem(self, answer, status, *words):
        """Problem JSON (RFC 9457) whose detail has these words."""
        self.assertEqual(answer.status, status, answer)
        self.assertEqual(answer.header("Content-Type"), "application/problem+json")
        self.assertEqual(answer.header("Cache-Control"), "no-store")
        problem = answer.json()
        self.assertEqual(problem["status"], status)
        self.assertTrue(problem["title"])
        for word in words:
            self.assertIn(word, problem["detail"])


class SharedServerTest(KilnTest):
    """One server for all tests of the class."""

    flags = ()
    environment = {}

    @classmethod
    def setUpClass(cls):
        cls.server = Server(*cls.flags, env=cls.environment)
        cls.addClassCleanup(cls.server.end)

    def setUp(self):
        self.addCleanup(self.check_running)

    def check_running(self):
        self.assertTrue(self.server.is_running, f"the server is gone: {self.server.complaints()}")

    def fetch(self, *arguments, **more):
        return self.server.fetch(*arguments, **more)
