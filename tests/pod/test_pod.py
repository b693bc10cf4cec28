"""The image run by podman from the manifest that people apply, with that manifest's limits and security context.

KILN_TEST_IMAGE names the image, KILN_TEST_MONGODB_URI a MongoDB (tests/mongodb/with_server); tests/image_pod starts it.
"""

import concurrent.futures
import contextlib
import copy
import ctypes
import json
import os
import pathlib
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import yaml

import manifest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))

from kiln import Client, Ended, eventually  # noqa: E402

IMAGE = os.environ["KILN_TEST_IMAGE"]
MONGODB_URI = os.environ["KILN_TEST_MONGODB_URI"]
MIB = 2**20
START_MAX = 0.060  # seconds, from the first instruction to ready, as a median
STARTS = 9
RESIDENT_MAX = {"sqlite": 12 * MIB, "memory": 12 * MIB, "mongodb": 24 * MIB}
# What Kubernetes puts into the environment beside a Service named kiln.
SERVICE_LINKS = {"KILN_PORT": "tcp://10.0.0.1:80", "KILN_PORT_80_TCP": "tcp://10.0.0.1:80",
                 "KILN_PORT_80_TCP_ADDR": "10.0.0.1", "KILN_PORT_80_TCP_PORT": "80", "KILN_PORT_80_TCP_PROTO": "tcp",
                 "KILN_SERVICE_HOST": "10.0.0.1", "KILN_SERVICE_PORT": "80", "KILN_SERVICE_PORT_HTTP": "80"}


def load_deployment():
    with open(HERE.parent.parent / "k8s/rendered/minikube.yaml", encoding="utf-8") as file:
        [deployment] = [each for each in yaml.safe_load_all(file) if each["kind"] == "Deployment"]
    return deployment


def pod_spec(deployment):
    return deployment["spec"]["template"]["spec"]


def podman(*arguments, **more):
    done = subprocess.run(["podman", *map(str, arguments)], capture_output=True, text=True, check=False, **more)
    if done.returncode != 0:
        raise AssertionError(f"podman {' '.join(map(str, arguments))}: {done.stderr}")
    return done.stdout.strip()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Cgroup:
    """The control group of a process, version 1 or 2."""

    def __init__(self, pid):
        self.paths = {}
        for line in pathlib.Path(f"/proc/{pid}/cgroup").read_text("ascii").splitlines():
            _, controllers, path = line.split(":", 2)
            for controller in controllers.split(","):
                self.paths[controller] = path

    def _read(self, controller, file):
        base = "/sys/fs/cgroup" + (f"/{controller}" if controller in self.paths else "")
        return pathlib.Path(base + self.paths.get(controller, self.paths[""]) + "/" + file).read_text("ascii")

    def _row(self, controller, file, name):
        return int(dict(line.split() for line in self._read(controller, file).splitlines())[name])

    def cpu_seconds(self):
        if "cpuacct" in self.paths:
            return int(self._read("cpuacct", "cpuacct.usage")) / 1e9
        return self._row("cpu", "cpu.stat", "usage_usec") / 1e6

    def throttled_periods(self):
        return self._row("cpu", "cpu.stat", "nr_throttled")

    def oom_kills(self):
        return self._row("memory", "memory.oom_control" if "memory" in self.paths else "memory.events", "oom_kill")

    def memory_bytes(self):
        return int(self._read("memory", "memory.usage_in_bytes" if "memory" in self.paths else "memory.current"))


class Opened:
    """Tells when somebody opens a file, which the kernel does to run it."""

    IN_OPEN = 0x20

    def __init__(self, path):
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.inotify_init()
        if self.fd < 0 or libc.inotify_add_watch(self.fd, os.fsencode(path), self.IN_OPEN) < 0:
            raise OSError(ctypes.get_errno(), "inotify", path)

    def wait(self, within):
        if not select.select([self.fd], [], [], within)[0]:
            raise AssertionError(f"nobody opened it within {within} s")
        return time.monotonic()

    def close(self):
        os.close(self.fd)


class Pod:
    """The Deployment's one pod. `environment` is what a namespace or an overlay would add."""

    def __init__(self, environment=None):
        self.port = free_port()
        self.directory = tempfile.mkdtemp(prefix="kiln-pod-")
        self.records = pathlib.Path(self.directory, "records")
        self.records.mkdir()
        self.deployment = load_deployment()
        self.deployment["metadata"]["name"] += f"-{self.port}"  # a pod that an interrupted test has left is another
        self.name = f"{self.deployment['metadata']['name']}-pod-0"
        [volume] = pod_spec(self.deployment)["volumes"]
        size = int(manifest.quantity(volume["emptyDir"]["sizeLimit"]))
        group = pod_spec(self.deployment)["securityContext"]["fsGroup"]
        # As the kubelet makes an emptyDir in memory: everybody's, of the pod's group.
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=2777,gid={group}", "tmpfs", self.records],
                       check=True)
        self.file = pathlib.Path(self.directory, "pod.yaml")
        local = manifest.local_deployment(self.deployment, IMAGE, self.records, ["--port", str(self.port)], environment)
        self.file.write_text(yaml.safe_dump(local), "utf-8")
        try:
            podman("play", "kube", "--network=host", self.file)
            self.container = podman("ps", "--quiet", "--no-trunc", "--filter", f"pod={self.name}", "--filter",
                                    f"ancestor={IMAGE}")
            self.changes_at_start = podman("diff", self.container)
            self.wait_until_ready()
            self.look_up_process()
        except BaseException:
            self.remove()
            raise

    def look_up_process(self):
        self.pid = int(podman("inspect", "--format", "{{.State.Pid}}", self.container))
        self.cgroup = Cgroup(self.pid)

    def connect(self, timeout=30):
        return Client(self.port, timeout=timeout)

    def fetch(self, target, method="GET", body=None, fields=(), timeout=30):
        with self.connect(timeout) as client:
            return client.request(method, target, fields, body)

    def is_ready(self):
        with contextlib.suppress(OSError, Ended):
            return self.fetch("/readyz").status == 200
        return False

    def wait_until_ready(self):
        eventually(self.is_ready, "200 from /readyz", within=20)

    def post(self, target, value):
        return self.fetch(target, method="POST", body=json.dumps(value).encode())

    def resident_bytes(self):
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text("ascii")
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))

    def exit_status(self):
        return int(podman("inspect", "--format", "{{.State.ExitCode}}", self.container))

    def is_running(self):
        return podman("inspect", "--format", "{{.State.Running}}", self.container) == "true"

    def remove(self):
        subprocess.run(["podman", "pod", "rm", "--force", "--time", "0", self.name], capture_output=True, check=False)
        subprocess.run(["umount", self.records], check=False)
        self.records.rmdir()
        self.file.unlink(missing_ok=True)
        os.rmdir(self.directory)


class PodTest(unittest.TestCase):
    environment = {}

    @classmethod
    def setUpClass(cls):
        cls.pod = Pod(cls.environment)
        cls.addClassCleanup(cls.pod.remove)

    def check_resident(self, database):
        self.assertEqual(self.pod.fetch("/data").status, 200)  # the database has been opened
        resident = self.pod.resident_bytes()
        print(f"{database}: {resident / MIB:.1f} MiB resident, "
              f"{self.pod.cgroup.memory_bytes() / MIB:.1f} MiB charged")
        self.assertLess(resident, RESIDENT_MAX[database])


class FromTheManifest(PodTest):
    def test_probes_answer(self):
        container = pod_spec(self.pod.deployment)["containers"][0]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            self.assertEqual(self.pod.fetch(container[probe]["httpGet"]["path"]).status, 200, probe)

    def test_tells_the_identity_that_it_was_given(self):
        answer = self.pod.fetch("/api/info")
        info = answer.json()
        for key, path in (("pod_name", "metadata.name"), ("namespace", "metadata.namespace"),
                          ("pod_ip", "status.podIP"), ("node_name", "spec.nodeName"), ("node_ip", "status.hostIP"),
                          ("zone", "metadata.labels['topology.kubernetes.io/zone']")):
            self.assertEqual(info[key], manifest.FIELDS[path], key)
        self.assertEqual(answer.header("X-Pod-Name"), manifest.FIELDS["metadata.name"])
        self.assertEqual(answer.header("X-Node-Name"), manifest.FIELDS["spec.nodeName"])
        resources = pod_spec(self.pod.deployment)["containers"][0]["resources"]
        self.assertEqual(info["cpu"]["request_millicores"], manifest.quantity(resources["requests"]["cpu"]) * 1000)
        self.assertEqual(info["cpu"]["limit_millicores"], manifest.quantity(resources["limits"]["cpu"]) * 1000)
        self.assertEqual(info["memory"]["limit_bytes"], manifest.quantity(resources["limits"]["memory"]))

    def overload(self, seconds, timeout):
        """Under more than it can do: cores used, periods throttled, times that /livez was asked, its longest answer."""
        command = ["wrk", "-t1", "-c64", f"-d{seconds}s", f"http://127.0.0.1:{self.pod.port}/load?ms=50"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as load:
            # The queue is full, so that requests are refused as well.
            eventually(lambda: b"kiln_burn_rejected_total 0\n" not in self.pod.fetch("/metrics").body, "a refusal")
            began, cpu, throttled = time.monotonic(), self.pod.cgroup.cpu_seconds(), self.pod.cgroup.throttled_periods()
            longest, asked = 0, 0
            while load.poll() is None:
                sent = time.monotonic()
                self.assertEqual(self.pod.fetch("/livez", timeout=timeout).status, 200)
                longest, asked = max(longest, time.monotonic() - sent), asked + 1
                time.sleep(0.02)  # a probe, not another load
            cores = (self.pod.cgroup.cpu_seconds() - cpu) / (time.monotonic() - began)
        return cores, self.pod.cgroup.throttled_periods() - throttled, asked, longest

    def test_overload_stops_at_the_limit_and_livez_answers(self):
        container = pod_spec(self.pod.deployment)["containers"][0]
        limit = manifest.quantity(container["resources"]["limits"]["cpu"])
        timeout = container["livenessProbe"]["timeoutSeconds"]
        for _ in range(5):
            cores, throttled, asked, longest = self.overload(3, timeout)
            print(f"overloaded: {cores * 1000:.0f}m; /livez {asked} times, at most {longest * 1000:.0f} ms")
            self.assertGreater(asked, 10)
            self.assertLess(longest, timeout)
            self.assertLess(cores, limit * 1.1)
            # On a busy machine a pod's request is all that it is sure of; then it is tried again.
            if throttled and cores > limit * 0.9:
                return
        self.fail(f"never reached its limit of {limit} cores")

    def test_writes_to_its_volume_only(self):
        self.assertEqual(self.pod.post("/data", {"loadtest": "true"}).status, 201)
        self.assertTrue((self.pod.records / "kiln.db").exists())
        root = pathlib.Path(f"/proc/{self.pod.pid}/root")
        mounts = [line.split() for line in pathlib.Path(f"/proc/{self.pod.pid}/mountinfo").read_text().splitlines()]
        self.assertIn("ro", next(mount[5] for mount in mounts if mount[4] == "/").split(","))
        self.assertEqual(podman("diff", self.pod.container), self.pod.changes_at_start)
        for line in self.pod.changes_at_start.splitlines():
            self.assertRegex(line, "^[AC] /(etc|run|var|var/lib|var/lib/kiln)(/|$)", "podman's own, before the start")
        # What podman mounts beside the volume where the manifest does not forbid it.
        for directory in ("dev/shm", "tmp", "run", "var/tmp"):
            if (root / directory).exists():
                self.assertEqual([each for each in (root / directory).rglob("*") if each.stat().st_uid != 0], [])
        for fd in pathlib.Path(f"/proc/{self.pod.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                target, flags = os.readlink(fd), (fd.parent.parent / "fdinfo" / fd.name).read_text()
                if target.startswith("/") and int(flags.split()[3], 8) & os.O_ACCMODE:
                    self.assertTrue(target.startswith(("/var/lib/kiln/", "/dev/null")), target)


class Small(PodTest):
    """What it takes while nobody asks it anything."""

    def test_starts_at_once(self):
        binary = podman("mount", self.pod.container) + "/usr/local/bin/kiln"
        self.addCleanup(podman, "unmount", self.pod.container)
        took = []
        for _ in range(STARTS):
            podman("kill", "--signal", "KILL", self.pod.container)
            # What holds the pod's namespaces ends with its last container, a little later.
            eventually(lambda: podman("pod", "inspect", "--format", "{{.State}}", self.pod.name) == "Exited",
                       "the pod has ended", within=20)
            with contextlib.closing(Opened(binary)) as opened, concurrent.futures.ThreadPoolExecutor(1) as thread:
                starting = thread.submit(podman, "pod", "start", self.pod.name)
                began = opened.wait(within=20)
                while not self.pod.is_ready():
                    self.assertLess(time.monotonic() - began, 20)
                took.append(time.monotonic() - began)
                starting.result()
        self.pod.look_up_process()
        print("started in", ", ".join(f"{each * 1000:.1f}" for each in took), "ms")
        self.assertLess(statistics.median(took), START_MAX)

    def test_takes_little_memory(self):
        self.check_resident("sqlite")


class SmallWithoutFiles(PodTest):
    environment = {"KILN_DATA_URI": "memory:"}

    def test_takes_little_memory(self):
        self.check_resident("memory")


class SmallWithMongoDB(PodTest):
    environment = {"KILN_DATA_URI": MONGODB_URI}

    def test_takes_little_memory(self):
        self.check_resident("mongodb")


class BesideAServiceOfItsName(PodTest):
    """Also the pod for what ends it, one after the other."""

    environment = SERVICE_LINKS

    def flood(self):
        """Whatever a client can make it keep, all at once, in the order that leaves least room."""
        record = json.dumps({"fill": "x" * 60_000}).encode()

        def store(_):
            with self.pod.connect() as client:
                statuses = set()
                for _ in range(250):
                    statuses.add(client.request("POST", "/data", body=record).status)
                return statuses

        with concurrent.futures.ThreadPoolExecutor(4) as threads:
            stored = set().union(*threads.map(store, range(4)))
        holds = []
        while len(holds) < 100:
            holds.append(self.pod.post("/memory", {"mebibytes": 8, "seconds": 60}).status)
            if holds[-1] != 202:
                break

        def all_held():
            told = self.pod.fetch("/memory").json()
            return told["held_mebibytes"] == told["asked_mebibytes"]

        eventually(all_held, "every hold is resident", within=30)
        with contextlib.ExitStack() as clients:
            for _ in range(100):
                client = clients.enter_context(self.pod.connect())
                with contextlib.suppress(OSError):  # the server may refuse the rest
                    client.send(b"POST /echo HTTP/1.1\r\nHost: kiln\r\nContent-Length: %d\r\n\r\n" % MIB)
                    client.send(b"x" * (MIB - 1))
            alive = self.pod.fetch("/livez").status
        return stored, holds, alive

    def test_1_a_flood_of_memory_is_survived(self):
        stored, holds, alive = self.flood()
        print(f"flooded: records answered {sorted(stored)}, {len(holds) - 1} holds of 8 MiB, "
              f"{self.pod.cgroup.memory_bytes() / MIB:.0f} MiB charged")
        self.assertEqual(stored, {201, 503})  # up to the limit of the file
        self.assertGreater(len(holds), 2)
        self.assertEqual(holds[-1], 409)
        self.assertEqual(alive, 200)
        self.assertEqual(self.pod.cgroup.oom_kills(), 0)
        self.assertTrue(self.pod.is_running())

    def test_2_drains_without_a_lost_request(self):
        variables = {each["name"]: each.get("value")
                     for each in pod_spec(self.pod.deployment)["containers"][0]["env"]}
        delay = float(variables["KILN_DRAIN_DELAY"].removesuffix("s"))
        grace = pod_spec(self.pod.deployment)["terminationGracePeriodSeconds"]
        told = threading.Event()
        answered = []

        def ask(target):
            """New connections until one is refused."""
            while True:
                try:
                    answered.append(self.pod.fetch(target).status)
                except ConnectionRefusedError:
                    return time.monotonic()
                if len(answered) > 5:
                    told.set()

        with concurrent.futures.ThreadPoolExecutor(3) as threads, self.pod.connect() as kept:
            # One of them has a request under way whenever the listener closes.
            asking = [threads.submit(ask, target) for target in ("/", "/load?ms=20")]
            self.assertFalse(kept.get("/api/info").closes)
            self.assertTrue(told.wait(10))
            began = time.monotonic()
            stopping = threads.submit(podman, "stop", "--time", grace, self.pod.container)
            eventually(lambda: self.pod.fetch("/readyz").status == 503, "not ready any more", within=2)
            self.assertTrue(kept.get("/api/info").closes)
            refused_after = min(each.result(timeout=grace) for each in asking) - began
            stopping.result(timeout=grace)
        print(f"drained: {len(answered)} answers, refused {refused_after:.2f} s after SIGTERM was asked for")
        self.assertEqual(set(answered), {200})
        self.assertGreater(refused_after, delay)
        self.assertEqual(self.pod.exit_status(), 0)


class Manifest(unittest.TestCase):
    def test_a_field_that_is_not_known_is_refused(self):
        whole = load_deployment()
        for where in (lambda spec: spec, lambda spec: spec["template"]["spec"],
                      lambda spec: spec["template"]["spec"]["securityContext"],
                      lambda spec: spec["template"]["spec"]["containers"][0],
                      lambda spec: spec["template"]["spec"]["containers"][0]["securityContext"],
                      lambda spec: spec["template"]["spec"]["containers"][0]["resources"]["limits"],
                      lambda spec: spec["template"]["spec"]["containers"][0]["env"][0]["valueFrom"],
                      lambda spec: spec["template"]["spec"]["volumes"][0]["emptyDir"]):
            planted = copy.deepcopy(whole)
            where(planted["spec"])["planted"] = "1"
            with self.assertRaisesRegex(manifest.Unknown, "planted"):
                manifest.local_deployment(planted, IMAGE, "/nowhere")

    def test_a_reference_that_is_not_known_is_refused(self):
        planted = load_deployment()
        planted["spec"]["template"]["spec"]["containers"][0]["env"][0]["valueFrom"] = {
            "fieldRef": {"fieldPath": "status.planted"}}
        with self.assertRaisesRegex(manifest.Unknown, "planted"):
            manifest.local_deployment(planted, IMAGE, "/nowhere")


if __name__ == "__main__":
    unittest.main()
