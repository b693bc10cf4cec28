"""memory and idle."""
import time

from contestants import Kiln, idle_rate, resident_mib
from report import Row

NO_MEMORY = "this kiln has no /memory"
SETTLE = 1  # seconds until what was asked for is resident


def memory_seconds(scale):
    return scale.rounds * len(scale.memory_sizes) * (SETTLE + scale.memory_seconds)


def memory(bench):
    scale, rows, notes = bench.scale, [], []
    with Kiln(bench.groups, millicores=None) as kiln:
        for mebibytes in scale.memory_sizes:
            computed = f"{mebibytes} MiB asked"
            grown = Row(f"{mebibytes} MiB: VmRSS growth less asked", "MiB", 2, 1, sane=(-8, 8), computed=computed)
            left = Row(f"{mebibytes} MiB: left after freeing", "MiB", 2, 2, sane=(-8, 8), computed=computed)
            rows += [grown, left]
            for _ in range(scale.rounds):
                before = resident_mib(kiln.process.pid)
                held = kiln.command("/memory", {"mebibytes": mebibytes, "seconds": 60})
                if held is None:
                    notes = [NO_MEMORY]
                    break
                time.sleep(SETTLE)
                grown.add("kiln", resident_mib(kiln.process.pid) - before - mebibytes)
                kiln.request("DELETE", f"/memory/{held['id']}")
                time.sleep(scale.memory_seconds)
                left.add("kiln", resident_mib(kiln.process.pid) - before)
    bench.table.print(f"memory: VmRSS, {scale.memory_seconds:g} s after freeing", rows, notes=notes)


def idle_seconds(scale):
    return scale.rounds * (scale.idle_seconds + 3)


def idle(bench):
    row = Row("nobody asks", "m", 4, 0.1, sane=(0, 50), computed=f"{bench.scale.idle_seconds:g} s")
    for _ in range(bench.scale.rounds):
        with Kiln(bench.groups) as kiln:
            time.sleep(min(2, bench.scale.idle_seconds))
            row.add("kiln", idle_rate(kiln.group, bench.scale.idle_seconds) / 1e6)
    bench.table.print("idle", [row])
