"""Control groups of our own, v1 or v2: what a group was billed, its limit, and processes that start inside it.

The judge of every figure is the group's own counter. A group takes its processes with it when it ends, and all groups
end with this process: by `with`, on an exception, on SIGTERM; those of a run that was killed are swept by the next.
"""
import contextlib
import ctypes
import os
import pathlib
import re
import signal
import subprocess
import time

PREFIX = "kiln-table-"
PERIOD_US = 100_000  # Kubernetes' default
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


class Unusable(Exception):
    """Groups cannot be made here; the message says why."""


def find_mounts():
    """Where the cpu and the accounting controllers are mounted, and whether that is v2."""
    mounts = {}
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        before, after = line.split(" - ")
        kind, _, options = after.split(" ", 2)
        place = pathlib.Path(before.split()[4])
        if kind == "cgroup":
            for option in options.split(","):
                mounts.setdefault(option, place)
        elif kind == "cgroup2":
            mounts.setdefault("v2", place)
    if "cpu" in mounts and "cpuacct" in mounts:
        return mounts["cpu"], mounts["cpuacct"], False
    if "v2" in mounts and "cpu" in (mounts["v2"] / "cgroup.controllers").read_text().split():
        return mounts["v2"], mounts["v2"], True
    raise Unusable("no cpu controller is mounted")


class Groups:
    """Makes groups, and knows all that are left."""

    def __init__(self):
        self.cpu, self.accounting, self.v2 = find_mounts()
        self.open, self.count = [], 0
        self._sweep()
        try:
            if self.v2:
                (self.cpu / "cgroup.subtree_control").write_text("+cpu")
            with self.group("check", millicores=500) as group:
                group.cpu_ns()
        except OSError as error:
            raise Unusable(f"control groups are not writable here: {error}") from error

    def group(self, name, millicores=None):
        self.count += 1
        return Group(self, f"{PREFIX}{os.getpid()}-{self.count}-{name}", millicores)

    def close(self):
        for group in list(self.open):
            group.close()

    def _sweep(self):
        for mount in {self.cpu, self.accounting}:
            for left in mount.glob(PREFIX + "*"):
                owner = re.match(PREFIX + r"(\d+)-", left.name)
                if owner and not os.path.exists(f"/proc/{owner[1]}"):
                    end(left)


def end(directory):
    """Kills what is inside and removes the group; those on their way out get a moment."""
    deadline = time.monotonic() + 5
    while directory.is_dir() and time.monotonic() < deadline:
        for pid in pids_of(directory):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            directory.rmdir()
            return
        time.sleep(0.005)


def pids_of(directory):
    with contextlib.suppress(FileNotFoundError):
        return [int(pid) for pid in (directory / "cgroup.procs").read_text().split()]
    return []


class Group:
    def __init__(self, groups, name, millicores):
        self.groups, self.processes = groups, []
        self.cpu, self.accounting = groups.cpu / name, groups.accounting / name
        groups.open.append(self)
        for directory in self._directories():
            directory.mkdir()
        self._usage = self.accounting / ("cpu.stat" if groups.v2 else "cpuacct.usage")
        self.limit(millicores)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _directories(self):
        return list(dict.fromkeys((self.cpu, self.accounting)))

    def limit(self, millicores):
        """Nothing: no limit."""
        quota = int(millicores * PERIOD_US / 1000) if millicores else None
        if self.groups.v2:
            (self.cpu / "cpu.max").write_text(f"{quota or 'max'} {PERIOD_US}")
        else:
            (self.cpu / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (self.cpu / "cpu.cfs_quota_us").write_text(str(quota or -1))

    def cpu_ns(self):
        """CPU time billed to the group since it exists."""
        text = self._usage.read_text()
        return int(re.search(r"usage_usec (\d+)", text)[1]) * 1000 if self.groups.v2 else int(text)

    def throttled_periods(self):
        return int(re.search(r"nr_throttled (\d+)", (self.cpu / "cpu.stat").read_text())[1])

    def spawn(self, command, core=None, realtime=False, **options):
        """Starts a command inside the group, on that core; it dies with us."""
        def enter():
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            for directory in self._directories():
                (directory / "cgroup.procs").write_text("0")
            if core is not None:
                os.sched_setaffinity(0, {core})
            if realtime:
                # Where real-time time is shared out by group (CONFIG_RT_GROUP_SCHED), only the root group has some.
                (self.groups.cpu / "cgroup.procs").write_text("0")
                os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))

        process = subprocess.Popen([str(word) for word in command], preexec_fn=enter, **options)
        self.processes.append(process)
        return process

    def send_signal(self, number):
        for pid in pids_of(self.accounting):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def close(self):
        for process in self.processes:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    with contextlib.suppress(OSError):
                        pipe.close()
        for directory in self._directories():
            end(directory)
        if self in self.groups.open:
            self.groups.open.remove(self)
