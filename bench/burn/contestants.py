"""Those who burn, each in a control group of its own on SERVER_CORE, and the client on the other core."""
import contextlib
import http.client
import json
import math
import os
import pathlib
import select
import signal
import socket
import statistics
import subprocess
import time

SERVER_CORE, CLIENT_CORE = 0, 1
LIMIT = 500  # millicores
QUIET = 0.2  # seconds after the last answer until all threads sleep
START_SECONDS_MAX = 20
SILENCE_SECONDS_MAX = 600
WARM_UP = 0.05  # of the requests to be billed


class Failed(Exception):
    """A contestant did not do what it should; the message says which and what."""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def ready_line(process, seconds, who):
    """The next line of its output. It is the only one on its way, so nothing is left in our buffer."""
    readable, _, _ = select.select([process.stdout], [], [], seconds)
    line = process.stdout.readline() if readable else ""
    if not line:
        raise Failed(f"{who} said nothing within {seconds:g} s (exit status {process.poll()})")
    return line


def billed_while(group, idle_rate, action):
    """What the group was billed from quiet to quiet while `action` ran, its idle cost taken off: nanoseconds."""
    began, before = time.monotonic(), group.cpu_ns()
    action()
    time.sleep(QUIET)
    return group.cpu_ns() - before - idle_rate * (time.monotonic() - began)


def idle_rate(group, seconds):
    """Nanoseconds a second of doing nothing, once the server has noticed that nobody asks any more."""
    time.sleep(min(seconds, 2.5))
    began, before = time.monotonic(), group.cpu_ns()
    time.sleep(seconds)
    return (group.cpu_ns() - before) / (time.monotonic() - began)


class Loop:
    """A program that burns on command (commands.h)."""

    def __init__(self, groups, name, command, millicores=None):
        self.name, self.group = name, groups.group(name, millicores)
        self.process = self.group.spawn(command, SERVER_CORE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        ready_line(self.process, START_SECONDS_MAX, name)
        self.command_ns = statistics.median(self._billed(1, 1, 0) for _ in range(5))

    def burn(self, each_ms, count, rate=0):
        """What the group was billed for so many burns, in nanoseconds; with a rate: so many a second. The cost of
        reading a command and of answering it is taken off: that of a burn of 1 ns."""
        return self._billed(round(each_ms * 1e6), count, round(1e9 / rate) if rate else 0) - self.command_ns

    def _billed(self, each_ns, count, interval_ns):
        def command():
            self.process.stdin.write(f"{each_ns} {count} {interval_ns}\n")
            self.process.stdin.flush()
            ready_line(self.process, SILENCE_SECONDS_MAX, self.name)

        return billed_while(self.group, 0, command)


@contextlib.contextmanager
def hogs(groups, count=1, realtime=False):
    """Busy neighbours on the core of the contestants, in a group of their own."""
    with groups.group("hog") as group:
        for _ in range(count):
            group.spawn([groups.tools / "peers", "hog"], SERVER_CORE, realtime)
        time.sleep(0.1)
        yield


class Kiln:
    """`kiln serve` with one worker in a group of its own."""

    def __init__(self, groups, *flags, millicores=LIMIT):
        self.groups, self.port = groups, free_port()
        self.group = groups.group("kiln", millicores)
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("KILN_", "POD_", "NODE_", "CPU_"))}
        self.process = self.group.spawn(
            [groups.kiln, "serve", "--port", self.port, "--workers", 1, "--keepalive-max-age", "24h", *flags],
            SERVER_CORE, cwd=groups.scratch, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + START_SECONDS_MAX
        while True:
            with contextlib.suppress(OSError):
                if self.request("GET", "/readyz")[0] == 200:
                    break
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise Failed("kiln serve does not become ready")
            time.sleep(0.02)
        time.sleep(QUIET)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.group.close()

    def request(self, method, path, body=None):
        """Status and body of one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            headers = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def command(self, path, body):
        """A control route's answer as JSON; nothing where this kiln does not have the route."""
        status, answer = self.request("POST", path, body)
        if status in (404, 405, 501):
            return None
        if status not in (200, 201, 202):
            raise Failed(f"POST {path} {body} answered {status}: {answer[:200]}")
        return json.loads(answer)

    def metric(self, name, label):
        """Sum over the samples of a metric with that label; nothing where this kiln does not have it."""
        lines = self.request("GET", "/metrics")[1].decode().splitlines()
        values = [float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name + "{") and label in line]
        return sum(values) if values else None

    def clients(self):
        return Clients(self)


class Clients:
    """Open-loop clients (client.cpp) that start together. Their connections stay open until the `with` ends."""

    def __init__(self, kiln):
        self.kiln, self.group = kiln, kiln.groups.group("client")
        self.started = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.group.close()
        time.sleep(QUIET)

    def add(self, path, rate, seconds=None, count=None, connections=256, **flags):
        """Prepares one; `seconds` of schedule or `count` requests. Returns how many requests it will send."""
        count = count or max(1, round(rate * seconds))
        command = [self.kiln.groups.tools / "client", "--port", self.kiln.port, "--path", path, "--rate", rate,
                   "--connections", min(connections, count)]
        for flag, value in flags.items():
            command += [f"--{flag.replace('_', '-')}"] + ([] if value is True else [value])
        process = self.group.spawn(command, CLIENT_CORE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        ready_line(process, START_SECONDS_MAX, "client")
        self.started.append((process, path, count))
        return count

    def start(self, share=1):
        """Lets them all go, for that share of their requests."""
        for process, _, count in self.started:
            process.stdin.write(f"{math.ceil(count * share)}\n")
            process.stdin.flush()

    def run(self, share=1):
        """Lets them all go and waits; a dict of results each, in the order of add()."""
        self.start(share)
        return [json.loads(ready_line(process, SILENCE_SECONDS_MAX, f"client of {path}"))
                for process, path, _ in self.started]

    def warm_up(self):
        """Some requests go ahead on the same connections: what accepting those cost is then no longer on its way into
        anybody's bill."""
        self.run(WARM_UP)

    def billed(self, idle):
        """What the server was billed while they ran, and their results."""
        time.sleep(QUIET)
        results = []
        return billed_while(self.kiln.group, idle, lambda: results.extend(self.run())), results


def answered(result, status=200):
    return result["statuses"].get(str(status), 0)


def stop_and_continue(group, seconds):
    group.send_signal(signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        group.send_signal(signal.SIGCONT)


def resident_mib(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise Failed(f"/proc/{pid}/status has no VmRSS")


def thread_times(pid):
    """Nanoseconds on a CPU by thread, as the scheduler counts them (proc(5), schedstat)."""
    return {task.name: int((task / "schedstat").read_text().split()[0])
            for task in pathlib.Path(f"/proc/{pid}/task").iterdir()}
