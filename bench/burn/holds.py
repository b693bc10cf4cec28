"""hold and starve: X millicores for a time, looked at every 100 ms."""
import contextlib
import math
import shutil
import subprocess
import time

from contestants import LIMIT, SERVER_CORE, Kiln, hogs, stop_and_continue
from report import Row

EVERY = 0.1  # seconds between looks
LONG, SHORT = 15, 1  # seconds a window: what a metrics-server sees, and what a person sees
UNTHROTTLED_MAX = 400  # millicores: below, a smooth hold under LIMIT is never throttled
NO_BURN = "this kiln has no /burn"

STARVE_TARGET = 250
STARVE_PEERS = ("consume", "stress-ng")
HOLD_PEERS = ("stress-ng", "duty 10 ms", "duty 100 ms", "consume")
NOTE = ("stress-ng: one method, slice 10. duty: by the wall clock. "
        "consume: busy while the average since the start is below the target.")


class Absent(Exception):
    """This contestant cannot take part; the message says why."""


@contextlib.contextmanager
def holding(bench, name, millicores, seconds):
    """The group of someone who holds so much for at least so long."""
    if name == "kiln":
        with Kiln(bench.groups) as kiln:
            if kiln.command("/burn", {"millicores": millicores, "seconds": math.ceil(seconds) + 10}) is None:
                raise Absent(NO_BURN)
            yield kiln.group
        return
    if name == "stress-ng" and not shutil.which(name):
        raise Absent("stress-ng is not installed")
    peers, cores = bench.groups.tools / "peers", millicores / 1000
    command = {
        "stress-ng": ["stress-ng", "--cpu", 1, "--cpu-load", round(cores * 100), "--cpu-method", "int64",
                      "--cpu-load-slice", 10, "--timeout", math.ceil(seconds) + 10],
        "duty 10 ms": [peers, "duty", cores, 10],
        "duty 100 ms": [peers, "duty", cores, 100],
        "consume": [peers, "consume", cores],
    }[name]
    with bench.groups.group("hold", LIMIT) as group:
        group.spawn(command, SERVER_CORE, cwd=bench.groups.scratch, stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL)
        yield group


def look(group):
    """When, and the counter then. Again if the two were read too far apart."""
    for _ in range(5):
        before = time.monotonic()
        used = group.cpu_ns()
        after = time.monotonic()
        if after - before < 0.0002:
            break
    return (before + after) / 2, used


def looks(group, seconds):
    """One every EVERY seconds, by absolute deadlines."""
    start = time.monotonic()
    taken = []
    for i in range(round(seconds / EVERY) + 1):
        time.sleep(max(0, start + i * EVERY - time.monotonic()))
        taken.append(look(group))
    return taken


def windows(taken, seconds):
    """Millicores of every window of about that length, at most all there is."""
    length = min(round(seconds / EVERY), len(taken) - 1)
    return [(used - used_before) / (when - before) / 1e6
            for (before, used_before), (when, used) in zip(taken, taken[length:])]


def contestants_of(scale, number, peers):
    return ("kiln", *(peers if number < scale.peer_rounds else ()))


def hold_seconds(scale):
    one = scale.hold_seconds + scale.settle_seconds + 1
    return len(scale.hold_targets) * one * (scale.rounds + len(HOLD_PEERS) * scale.peer_rounds)


def hold(bench):
    scale, absent, rows = bench.scale, set(), []
    for target in scale.hold_targets:
        computed, long = f"{scale.hold_seconds:g} s", min(LONG, scale.hold_seconds)
        short = min(SHORT, long)
        worst_long = Row(f"{target}m: worst {long:g} s window", "m", 2, 0.5, sane=(0, 500), computed=computed)
        worst_short = Row(f"{target}m: worst {short:g} s window", "m", 2, 0.02 * target + 1, sane=(0, 500),
                          computed=computed)
        throttled = Row(f"{target}m: throttled periods", "", 0, 0, sane=(0, 1000), computed=computed)
        achieved = Row(f"{target}m under {LIMIT}m: achieved", "%", 3, 99, at_least=True, sane=(1, 150),
                       computed=computed)
        if target < LIMIT:
            rows += [worst_long, worst_short] + ([throttled] if target <= UNTHROTTLED_MAX else [])
        else:
            rows += [achieved]
        for number in range(scale.rounds):
            for name in contestants_of(scale, number, HOLD_PEERS):
                try:
                    with holding(bench, name, target, scale.hold_seconds + scale.settle_seconds) as group:
                        time.sleep(scale.settle_seconds)
                        before = group.throttled_periods()
                        taken = looks(group, scale.hold_seconds)
                        throttled.add(name, group.throttled_periods() - before)
                except Absent as reason:
                    absent.add(str(reason))
                    continue
                worst_long.add(name, max(abs(seen - target) for seen in windows(taken, LONG)))
                worst_short.add(name, max(abs(seen - target) for seen in windows(taken, SHORT)))
                achieved.add(name, 100 * windows(taken, scale.hold_seconds)[0] / target)
    bench.table.print(f"hold: under {LIMIT}m, windows' distance from the target", rows, HOLD_PEERS,
                      [NOTE, *sorted(absent)])


def starve_seconds(scale):
    one = scale.settle_seconds + scale.starve_seconds + scale.starve_after + 1
    return 2 * one * (scale.rounds + len(STARVE_PEERS) * scale.peer_rounds)


def starve(bench):
    scale, absent, rows = bench.scale, set(), []
    for how in ("a real-time neighbour on its core", "SIGSTOP"):
        row = Row(f"{STARVE_TARGET}m after {how}: highest {SHORT} s window", "m", 1, 1.02 * STARVE_TARGET,
                  sane=(0, 600))
        rows.append(row)
        for number in range(scale.rounds):
            for name in contestants_of(scale, number, STARVE_PEERS):
                total = scale.settle_seconds + scale.starve_seconds + scale.starve_after
                try:
                    with holding(bench, name, STARVE_TARGET, total) as group:
                        time.sleep(scale.settle_seconds)
                        before = look(group)
                        how_really = starve_once(bench.groups, group, how, scale.starve_seconds)
                        taken = looks(group, scale.starve_after)
                except Absent as reason:
                    absent.add(str(reason))
                    continue
                got = (taken[0][1] - before[1]) / (taken[0][0] - before[0]) / 1e6
                if name == "kiln" or not row.computed:
                    row.computed = f"{scale.starve_seconds:g} s of {got:.0f}m by {how_really}"
                row.add(name, max(windows(taken, SHORT)))
    bench.table.print(f"starve: a hold of {STARVE_TARGET}m under {LIMIT}m, the {scale.starve_after:g} s after "
                      "starvation", rows, STARVE_PEERS, [NOTE, *sorted(absent)])


def starve_once(groups, group, how, seconds):
    """Says how it was done."""
    if how == "SIGSTOP":
        stop_and_continue(group, seconds)
        return how
    try:
        with hogs(groups, realtime=True):
            time.sleep(seconds)
        return "SCHED_FIFO"
    except subprocess.SubprocessError:  # not allowed
        with hogs(groups, count=8):
            time.sleep(seconds)
        return "eight hogs"
