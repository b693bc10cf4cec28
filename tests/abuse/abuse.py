"""What the floods and the soak share: attackers, honest clients, and a watch on the server's process.

Attackers and honest clients are processes of their own, so that neither waits for the other's interpreter. What they
did is counted where the parent sees it at any time: an attacker that achieved nothing must not look like a robust
server.
"""

import asyncio
import contextlib
import json
import multiprocessing
import os
import pathlib
import random
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))

import kiln  # noqa: E402, pylint: disable=wrong-import-position

MEBIBYTE = 1024 * 1024
FORK = multiprocessing.get_context("fork")
LATEST = 2.0  # seconds: an honest answer that takes longer has failed


def find_binary(build):
    """Names the program for kiln.py, which takes it from the environment."""
    if build:
        os.environ["KILN_BINARY"] = str(pathlib.Path(build).resolve() / "app/kiln")
    if not os.access(kiln.binary(), os.X_OK):
        sys.exit(f"{kiln.binary()} is missing: cmake --preset release && cmake --build --preset release")


def start_server(engine, *flags, **more):
    return kiln.Server("--admin-port", 0, "--workers", 2, *flags, engine=engine, **more)


# --- Counting over processes ------------------------------------------------------------------------------------------

class Tally:
    """Named sums that one process adds to and another reads."""

    def __init__(self, *names):
        self.names = names
        self.values = FORK.Array("q", len(names), lock=False)
        self.index = {name: at for at, name in enumerate(names)}

    def add(self, name, count=1):
        self.values[self.index[name]] += count

    def __getitem__(self, name):
        return self.values[self.index[name]]


class Group:
    """Processes that run `function(*arguments, tally)`, a tally each; read as the sum of their tallies."""

    def __init__(self, names, function, arguments_of_each, nice=0):
        self.tallies = [Tally(*names) for _ in arguments_of_each]
        self.processes = [FORK.Process(target=self._run, args=(function, (*arguments, tally), nice), daemon=True)
                          for arguments, tally in zip(arguments_of_each, self.tallies)]

    @staticmethod
    def _run(function, arguments, nice):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
        os.nice(nice)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, hard), hard))
        function(*arguments)

    def __getitem__(self, name):
        return sum(tally[name] for tally in self.tallies)

    def start(self):
        for process in self.processes:
            process.start()
        return self

    def join(self, within):
        """Exit statuses that are not 0: an attacker that fell over."""
        deadline = time.monotonic() + within
        for process in self.processes:
            process.join(max(0.1, deadline - time.monotonic()))
        codes = [process.exitcode for process in self.processes]
        self.kill()
        return [code for code in codes if code != 0]

    def kill(self):
        for process in self.processes:
            if process.is_alive():
                process.kill()
                process.join()


# --- Attackers --------------------------------------------------------------------------------------------------------

# connected: connections that were established; open: of those, now; refused: could not be established; cut: ended by
# the server; stuck: a send that the server neither took nor reset for STUCK seconds; requests: begun; answers: status
# lines seen; refusals: of those, 4xx and 5xx.
ATTACKER = ("connected", "open", "refused", "cut", "stuck", "requests", "answers", "refusals", "bytes")
STUCK = 3.0

STATUS = re.compile(rb"HTTP/1\.1 ([1-5])[0-9][0-9] ")


def loopback(number):
    """Addresses by turns, since one has fewer ports than a storm leaves in TIME-WAIT."""
    return f"127.0.0.{1 + number % 32}"


def reset_on_close(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Gone(Exception):
    """The server has ended the connection."""


class Peer:
    """A hostile connection, under asyncio."""

    def __init__(self, sock, tally, dice):
        self.socket, self.tally, self.dice = sock, tally, dice

    async def send(self, data, requests=0):
        try:
            await asyncio.get_running_loop().sock_sendall(self.socket, data)
        except OSError:
            raise Gone from None
        self.tally.add("bytes", len(data))
        self.tally.add("requests", requests)

    def took(self, data):
        if not data:
            raise Gone
        for leading in STATUS.findall(data):
            self.tally.add("answers")
            self.tally.add("refusals", leading in b"45")

    def look(self):
        """Takes what has come, without waiting."""
        try:
            self.took(self.socket.recv(64 * 1024))
        except BlockingIOError:
            pass
        except OSError:
            raise Gone from None

    async def read(self):
        """Waits for something to come."""
        try:
            data = await asyncio.get_running_loop().sock_recv(self.socket, 64 * 1024)
        except OSError:
            raise Gone from None
        self.took(data)

    async def until_end(self):
        while True:
            await self.read()

    async def leave_somehow(self):
        leave = self.dice.choice(("close", "reset", "half"))
        if leave == "reset":
            reset_on_close(self.socket)
        elif leave == "half":
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)
            await self.until_end()


async def live(life, port, receive_buffer, number, tally, dice):
    """One connection, from its beginning to its end."""
    sock = socket.socket()
    opened = False
    try:
        sock.setblocking(False)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            await asyncio.get_running_loop().sock_connect(sock, (loopback(number), port))
        except OSError:
            tally.add("refused")
            await asyncio.sleep(0.05)
            return
        opened = True
        tally.add("connected")
        tally.add("open")
        await life(Peer(sock, tally, dice))
    except Gone:
        tally.add("cut")
    finally:
        if opened:
            tally.add("open", -1)
        sock.close()


RAMP_MAX = 3.0  # seconds


def crowd(life, ports, count, seconds, tally, receive_buffer=0, life_max=None):
    """`count` connections at any time, to the ports by turns, each living `life` and then replaced: for so long from
    when all have come, or from when RAMP_MAX has passed because the server does not let all of them in."""
    dice = random.Random(os.getpid())

    async def places():
        async def place(number):
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(life_max):
                        await live(life, ports[number % len(ports)], receive_buffer, number, tally, dice)

        await asyncio.gather(*(place(number) for number in range(count)))

    async def for_so_long():
        crowding = asyncio.create_task(places())
        late = time.monotonic() + RAMP_MAX
        while tally["connected"] + tally["refused"] < count and time.monotonic() < late:
            await asyncio.sleep(0.02)
        await asyncio.wait([crowding], timeout=seconds)
        crowding.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await crowding  # raises what went wrong with us

    asyncio.run(for_so_long())


# Lives of hostile connections.

async def silent(peer):
    await peer.until_end()


async def slowloris(peer):
    await peer.send(b"GET / HTTP/1.1\r\nX-Long: ", requests=1)
    while True:
        await peer.send(b"x")
        await asyncio.sleep(0.9 + 0.2 * peer.dice.random())
        peer.look()


def echo_head(length=MEBIBYTE):
    return kiln.encode_request("POST", "/echo", {"Content-Length": str(length)})


async def slow_body(peer):
    await peer.send(echo_head(), requests=1)
    while True:
        await peer.send(b"x")
        await asyncio.sleep(0.4 + 0.2 * peer.dice.random())
        peer.look()


BODY = bytes(MEBIBYTE)


async def almost_whole_body(peer):
    await peer.send(echo_head() + BODY[:-1], requests=1)
    await peer.until_end()


async def forever():
    await asyncio.get_running_loop().create_future()


PIPELINE = kiln.encode_request("GET", "/api/info") * 1000


async def deaf_pipeline(peer):
    await peer.send(PIPELINE, requests=1000)
    await forever()


async def deaf_echo(peer):
    await peer.send(echo_head() + BODY, requests=1)
    await forever()


RECORD = kiln.encode_request("POST", "/data", {}, b'{"x":"' + b"x" * 60_000 + b'"}')
PAGES = kiln.encode_request("GET", "/data?limit=500") * 64


async def deaf_pages(peer):
    """Pages of 256 KiB each, as soon as some of us have brought the records."""
    if peer.dice.random() < 0.1:
        await peer.send(RECORD, requests=1)
    await peer.send(PAGES, requests=64)
    await forever()


MALFORMED = (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
             b"GET  / HTTP/1.1\r\n\r\n", b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
             b"GET / HTTP/1.1\r\n\r\n",
             b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
             b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n")


async def malformed(peer):
    await peer.send(peer.dice.choice(MALFORMED), requests=1)
    if peer.dice.random() < 0.5:
        await peer.until_end()
    # Stays, and makes the server linger for as long as it will.
    await peer.read()
    await asyncio.sleep(peer.dice.random())


async def talks_on(peer):
    """A body that is refused by its length, sent all the same, whatever comes back, until a send fails."""
    await peer.send(echo_head(100 * MEBIBYTE), requests=1)
    await peer.read()
    try:
        for _ in range(100 * 16):
            async with asyncio.timeout(STUCK):
                await peer.send(BODY[:MEBIBYTE // 16])
    except TimeoutError:
        peer.tally.add("stuck")


async def burn_and_leave(peer):
    await peer.send(kiln.encode_request("GET", f"/load?ms={peer.dice.choice((5, 50, 500))}"), requests=1)
    await asyncio.sleep(0.2 * peer.dice.random())
    peer.look()
    await peer.leave_somehow()


async def leave_at_once(peer):
    await peer.leave_somehow()


async def garbage(peer):
    await peer.send(peer.dice.randbytes(peer.dice.randrange(1, 3000)), requests=1)
    await peer.leave_somehow()


async def half_request(peer):
    request = kiln.encode_request("POST", "/echo", {}, b"x" * 1000) * 3
    await peer.send(request[:peer.dice.randrange(1, len(request))], requests=1)
    await peer.leave_somehow()


def storm(with_reset, ports, seconds, tally):
    """Connects and leaves, as fast as it can."""
    until = time.monotonic() + seconds
    number = 0
    while time.monotonic() < until:
        for number in range(number, number + 100):
            sock = socket.socket()
            if with_reset:
                reset_on_close(sock)
            try:
                sock.connect((loopback(number), ports[0]))
                tally.add("connected")
            except OSError:
                tally.add("refused")
            sock.close()


# --- Honest clients ---------------------------------------------------------------------------------------------------

def check_info(answer):
    kiln_says = answer.json()
    if answer.status != 200 or not kiln_says["pod_name"] or kiln_says["requests_total"] < 0:
        raise AssertionError(f"/api/info: {answer.status} {kiln_says}")


class Probe(threading.Thread):
    """Asks every so often until told to stop, and keeps how long it took, or why it failed."""

    def __init__(self, port, every=0.01):
        super().__init__(daemon=True)
        self.port, self.every = port, every
        self.seconds, self.failures, self.refused = [], [], 0
        self.stop = threading.Event()

    def run(self):
        while not self.stop.wait(self.every):
            began = time.monotonic()
            try:
                self.ask()
                self.seconds.append(time.monotonic() - began)
            except Exception as error:  # pylint: disable=broad-except
                self.failures.append(f"{type(error).__name__}: {error}"[:200])

    def ask(self):
        raise NotImplementedError


class Fresh(Probe):
    """A new connection each time."""

    def ask(self):
        with kiln.Client(self.port, timeout=LATEST) as client:
            check_info(client.get("/api/info"))


class KeptAlive(Probe):
    """One connection, replaced when the server has announced its end."""

    client = None
    dice = random.Random(1)

    def ask(self):
        try:
            if self.client is None:
                self.client = kiln.Client(self.port, timeout=LATEST)
            if self.dice.random() < 0.5:
                answer = self.client.get("/api/info")
                check_info(answer)
            else:
                body = self.dice.randbytes(1024)
                answer = self.client.request("POST", "/echo", {}, body)
                if answer.status == 503 and answer.header("Retry-After"):
                    self.refused += 1
                elif answer.status != 200 or answer.body != body:
                    raise AssertionError(f"/echo: {answer.status}")
            if not answer.closes:
                return
        except BaseException:
            self.drop()
            raise
        self.drop()

    def drop(self):
        if self.client:
            self.client.close()
            self.client = None


class Live(Probe):
    """/livez of the admin port, as a kubelet asks."""

    def ask(self):
        with kiln.Client(self.port, timeout=LATEST) as client:
            if client.get("/livez").status != 200:
                raise AssertionError("/livez")


class Honest:
    """A process with a probe of each kind. Results: kind -> (seconds, failures, refused)."""

    KINDS = {"fresh": Fresh, "kept": KeptAlive, "livez": Live}

    def __init__(self, port, admin_port):
        self.here, there = FORK.Pipe()
        self.process = FORK.Process(target=self._run, args=(port, admin_port, there), daemon=True)
        self.process.start()
        there.close()
        self.here.recv()  # each has asked once

    @classmethod
    def _run(cls, port, admin_port, pipe):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        probes = {kind: make(admin_port if kind == "livez" else port) for kind, make in cls.KINDS.items()}
        for probe in probes.values():
            probe.start()
        kiln.eventually(lambda: all(probe.seconds or probe.failures for probe in probes.values()), "each has asked")
        pipe.send("begun")
        pipe.recv()
        for probe in probes.values():
            probe.stop.set()
        for probe in probes.values():
            probe.join(3 * LATEST)
        pipe.send({kind: (probe.seconds, probe.failures, probe.refused) for kind, probe in probes.items()})

    def finish(self):
        self.here.send("stop")
        results = self.here.recv()
        self.process.join(5)
        self.kill()
        return results

    def kill(self):
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        self.here.close()


# --- The server's process ---------------------------------------------------------------------------------------------

# Of `ss -m`: allocated for received data, kept for later, queued to be sent (ss(8)).
SKMEM = re.compile(r"skmem:\(r([0-9]+),.*?,f([0-9]+),w([0-9]+),")


class Watch:
    """Reads a server's process, and its metrics over one connection of the admin port."""

    def __init__(self, server):
        self.server = server
        self.proc = pathlib.Path(f"/proc/{server.pid}")
        self.client = None

    def close(self):
        if self.client:
            self.client.close()
            self.client = None

    def metrics(self):
        for attempt in (1, 2):
            try:
                if self.client is None:
                    self.client = self.server.connect(self.server.admin_port, timeout=LATEST)
                answer = self.client.get("/metrics")
                break
            except (OSError, kiln.Ended):
                self.close()  # an idle connection may be closed under us; a new one may not
                if attempt == 2:
                    raise
        if answer.closes:
            self.close()
        return kiln.Metrics(answer.body.decode("utf-8"))

    def connections(self, metrics=None):
        """Open ones, ours left out."""
        return (metrics or self.metrics()).sum("http_connections") - 1

    def rss(self):
        return self.server.resident_bytes()

    def longest_turn(self):
        """Seconds in which a loop looked at nothing new."""
        return self.metrics().one("kiln_loop_longest_turn_seconds")

    def peak_rss(self):
        text = (self.proc / "status").read_text("ascii")
        return int(re.search(r"^VmHWM:\s+([0-9]+) kB$", text, re.MULTILINE)[1]) * 1024

    def forget_peak(self):
        (self.proc / "clear_refs").write_text("5", "ascii")  # proc(5)

    def socket_bytes(self):
        """What the kernel holds for the server's connections, received or not yet sent: a memory control group is
        charged for it, the process is not."""
        listed = subprocess.run(["ss", "-Htnm", f"sport = :{self.server.port}"], capture_output=True, text=True,
                                check=True).stdout
        return sum(int(received) + int(forward) + int(queued) for received, forward, queued in SKMEM.findall(listed))

    def files(self):
        """Ours left out: what asks for metrics."""
        return self.server.open_files() - (self.client is not None)

    def cpu_seconds(self):
        """Of all threads, finer than the ticks of /proc/PID/stat."""
        return sum(int(task.read_text("ascii").split()[0]) for task in self.proc.glob("task/*/schedstat")) / 1e9

    def threads(self):
        """Names of all threads, sorted."""
        names = []
        for task in self.proc.glob("task/*/comm"):
            with contextlib.suppress(OSError):
                names.append(task.read_text("utf-8").strip())
        return sorted(names)

    def warm_up(self):
        """Until what is made at first use has been made."""
        for target in ("/", "/api/info", "/load?ms=1", "/metrics"):
            self.server.fetch(target)
        self.server.fetch("/echo", method="POST", body=b"x" * MEBIBYTE)
        kiln.eventually(lambda: self.connections() == 0, "the first clients are gone")

    def quiet_cpu(self, seconds):
        """CPU seconds used while nobody asks anything."""
        before = self.cpu_seconds()
        time.sleep(seconds)  # a stretch to measure
        return self.cpu_seconds() - before


def wait_until(condition, within):
    """True when it became true in that time."""
    with contextlib.suppress(AssertionError):
        kiln.eventually(condition, "", within)
        return True
    return False


def percentile(values, share):
    """Of sorted values."""
    return values[min(len(values) - 1, int(share * len(values)))]


def mebibytes(count):
    return f"{count / MEBIBYTE:.1f}"
