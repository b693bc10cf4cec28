"""burns: one burn after another, without a server."""
import contextlib
import math

from contestants import LIMIT, Loop, hogs
from report import Row, percent_over

PEERS = ("wall", "fixed", "sqrt")
CONDITIONS = ("alone", "beside a hog on its core", f"throttled at {LIMIT}m")
BARS = {0.1: 3, 1: 0.3, 5: 0.1, 20: 0.05, 100: 0.02}  # percent, by ms


def seconds(scale):
    slowdown = 1 + 2 + 1000 / LIMIT
    figures = len(scale.burn_sizes) * (1 + len(PEERS)) * scale.rounds
    return figures * (scale.burn_cpu * slowdown + 0.2 * len(CONDITIONS))


def run(bench):
    scale = bench.scale
    counts = {ms: max(1, math.ceil(scale.burn_cpu * 1000 / ms)) for ms in scale.burn_sizes}
    rows = {(condition, ms): Row(f"{ms:g} ms {condition}", "%", 3, BARS[ms], sane=(-60, 200),
                                 computed=f"{counts[ms]} × {ms:g} ms")
            for condition in CONDITIONS for ms in scale.burn_sizes}
    with contextlib.ExitStack() as stack:
        # One after another: each calibrates itself while it is alone.
        loops = []
        for name in ("kiln", *PEERS):
            command = ["burner_loop"] if name == "kiln" else ["peers", "burns", name]
            loops.append(Loop(bench.groups, name, [bench.groups.tools / command[0], *command[1:]]))
            stack.enter_context(loops[-1].group)
        for number in range(scale.rounds):
            for condition in CONDITIONS:
                for loop in loops:
                    loop.group.limit(LIMIT if condition == CONDITIONS[2] else None)
                with hogs(bench.groups) if condition == CONDITIONS[1] else contextlib.nullcontext():
                    for ms, count in counts.items():
                        for loop in rotated(loops, number):
                            billed = loop.burn(ms, count)
                            rows[condition, ms].add(loop.name, percent_over(billed, count * ms * 1e6))
    bench.table.print("burns: billed over asked, one burn after another", list(rows.values()), PEERS,
                      ["Calibrated once, alone: fixed, sqrt. wall: until a deadline of the wall clock."])


def rotated(items, by):
    by %= len(items)
    return items[by:] + items[:by]
