"""What the measurements share: a server in a cpuacct group of its own on one core, a client on the other."""
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from packages import need  # for those who import this module

SERVER_CPU, CLIENT_CPU = "0", "1"
CGROUP = "/sys/fs/cgroup/cpuacct"
PIPELINED = 16
PIPELINE_SCRIPT = """
init = function(args)
  local requests = {}
  for i = 1, %d do requests[i] = wrk.format(nil, "/api/info") end
  batch = table.concat(requests)
end
request = function() return batch end
""" % PIPELINED


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Contestant:
    def __init__(self, name, command, port, path="/api/info"):
        self.name, self.port, self.path = name, port, path
        self.url = f"http://127.0.0.1:{port}{path}"
        self.group = f"{CGROUP}/kiln-compare-{os.getpid()}-{port}"
        os.mkdir(self.group)

        def enter():
            with open(f"{self.group}/cgroup.procs", "w") as f:
                f.write("0")
            os.sched_setaffinity(0, {int(SERVER_CPU)})

        self.process = subprocess.Popen(command, preexec_fn=enter, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)

    def await_answer(self):
        end = time.monotonic() + 10
        while True:
            try:
                with urllib.request.urlopen(self.url, timeout=2) as answer:
                    return answer.read(), dict(answer.headers)
            except OSError:
                if time.monotonic() > end or self.process.poll() is not None:
                    sys.exit(f"{self.name} does not answer on {self.url}")

    def cpu_ns(self):
        with open(f"{self.group}/cpuacct.usage") as f:
            return int(f.read())

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(3)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        end = time.monotonic() + 5
        while os.path.isdir(self.group) and time.monotonic() < end:
            try:
                os.rmdir(self.group)
            except OSError:
                pass  # the last process of the group is still on its way out


def wrk(contestant, connections, seconds, script=None):
    command = ["taskset", "-c", CLIENT_CPU, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    if script:
        command += ["-s", script]
    before = contestant.cpu_ns()
    out = subprocess.run(command + [contestant.url], capture_output=True, text=True, check=True).stdout
    cpu = contestant.cpu_ns() - before
    if re.search(r"Non-2xx|Socket errors", out):
        sys.exit(f"{contestant.name}: {out}")
    count = int(re.search(r"(\d+) requests in", out).group(1))
    value, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", out).groups()
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1))
    return cpu / 1000 / count, rate, float(value) * {"us": 1e-3, "ms": 1, "s": 1000}[unit]


def ab(contestant, connections, count):
    before = contestant.cpu_ns()
    out = subprocess.run(["taskset", "-c", CLIENT_CPU, "ab", "-q", "-n", str(count), "-c", str(connections),
                          contestant.url], capture_output=True, text=True, check=True).stdout
    cpu = contestant.cpu_ns() - before
    if int(re.search(r"Failed requests:\s+(\d+)", out).group(1)) or "Non-2xx" in out:
        sys.exit(f"{contestant.name}: {out}")
    return (cpu / 1000 / count, float(re.search(r"Requests per second:\s+([\d.]+)", out).group(1)),
            float(re.search(r"\s99%\s+(\d+)", out).group(1)))
