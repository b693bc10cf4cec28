"""http and line: what requests to /load cost the server's group."""
import contextlib
import dataclasses
import math

from contestants import LIMIT, Kiln, Loop, answered, hogs, idle_rate
from plot import write_plot
from report import Row, fit_line, percent_over

CONDITIONS = ("alone", "beside a hog on its core", "beside 200 /api/info a second, apart")
BOOKED = "beside 200 /api/info a second, booked"
OVERHEAD = "kiln_request_overhead_cpu_seconds_total"
SHARES = (0.3, 0.9)  # of the limit
INFO_RATE = 200
BAR_PERCENT = 0.05

LINE_MS = 5
LINE_TOP = 0.95  # of the limit
LINE_PEERS = ("wall", "sqrt")


def rate_for(share, ms):
    return share * LIMIT / ms  # millicores are milliseconds a second


def http_seconds(scale):
    each_size = sum(1.05 * scale.request_cpu * 1000 / (share * LIMIT) + 1.2 for share in SHARES)
    return scale.rounds * len(CONDITIONS) * (each_size * len(scale.request_sizes) + 2 * scale.quiet_seconds)


def http(bench):
    scale = bench.scale
    counts = {ms: math.ceil(scale.request_cpu * 1000 / ms) for ms in scale.request_sizes}
    over = "over, µs a request"

    def row(condition, ms, share):
        return Row(f"ms={ms:g} at {share:.0%} of {LIMIT}m {condition}", "%", 4, BAR_PERCENT, sane=(-100, 400),
                   computed=f"{counts[ms]} × {ms:g} ms")

    rows = {(condition, ms, share): row(condition, ms, share)
            for condition in (*CONDITIONS, BOOKED) for ms in scale.request_sizes for share in SHARES}
    refused = 0
    with Kiln(bench.groups) as kiln:
        for _ in range(scale.rounds):
            for condition in CONDITIONS:
                with hogs(bench.groups) if condition == CONDITIONS[1] else contextlib.nullcontext():
                    idle = idle_rate(kiln.group, scale.quiet_seconds)
                    info = info_cost(kiln, idle, scale.quiet_seconds) if condition == CONDITIONS[2] else None
                    for ms, count in counts.items():
                        for share in SHARES:
                            load = measure_load(kiln, idle, ms, rate_for(share, ms), count, info is not None)
                            refused += count - load.done
                            if load.done == 0:
                                continue
                            asked = load.done * ms * 1e6
                            billed = load.billed - load.infos * (info or 0)
                            rows[condition, ms, share].add("kiln", percent_over(billed, asked))
                            rows[condition, ms, share].add(over, (billed - asked) / load.done / 1e3)
                            if load.booked is not None:
                                billed = load.billed - load.booked
                                rows[BOOKED, ms, share].add("kiln", percent_over(billed, asked))
                                rows[BOOKED, ms, share].add(over, (billed - asked) / load.done / 1e3)
    bench.table.print("http: billed over asked, open loop", list(rows.values()), [over],
                      [f"Not answered with 200: {refused}.",
                       "apart: what the information requests cost was measured without loads and taken off; what they "
                       "cost beside burns is another figure, so this shows the method's error too.",
                       f"booked: what {OVERHEAD} says of their route was taken off instead."])


def info_cost(kiln, idle, seconds):
    """Nanoseconds of one /api/info at that rate, nothing else going on."""
    with kiln.clients() as clients:
        count = clients.add("/api/info", INFO_RATE, seconds)
        clients.warm_up()
        return clients.billed(idle)[0] / count


@dataclasses.dataclass
class Load:
    billed: float         # nanoseconds, idle taken off
    done: int             # loads answered with 200
    infos: int            # information requests beside them
    booked: float | None  # nanoseconds that kiln says those cost; nothing where it does not


def measure_load(kiln, idle, ms, rate, count, with_infos=False):
    def book():
        return kiln.metric(OVERHEAD, 'route="/api/info",paid="extra"') if with_infos else None

    with kiln.clients() as clients:
        clients.add(f"/load?ms={ms:g}", rate, count=count)
        infos = clients.add("/api/info", INFO_RATE, count / rate) if with_infos else 0
        clients.warm_up()
        before = book()
        billed, results = clients.billed(idle)
        after = book()
    booked = None if before is None or after is None else (after - before) * 1e9
    return Load(billed, answered(results[0]), infos, booked)


def line_rates(scale):
    return [rate_for(LINE_TOP * (i + 1) / scale.line_steps, LINE_MS) for i in range(scale.line_steps)]


def line_seconds(scale):
    steps = sum(1.05 * scale.line_cpu * 1000 / LINE_MS / rate + 1 for rate in line_rates(scale))
    return steps * (scale.rounds + len(LINE_PEERS) * scale.peer_rounds) + scale.rounds * scale.quiet_seconds


def line(bench):
    scale = bench.scale
    count = math.ceil(scale.line_cpu * 1000 / LINE_MS)
    computed = f"{scale.line_steps} rates to {line_rates(scale)[-1]:.1f}/s, {count} × {LINE_MS} ms each"
    slope = Row(f"slope less {LINE_MS} ms", "ms", 5, 0.005, sane=(-4, 8), computed=computed)
    residual = Row("largest residual, of the limit", "%", 4, 0.1, sane=(0, 50), computed=computed)
    start = Row("at rate 0, idle subtracted", "millicores", 3, computed=computed)
    seen = {}  # contestant -> asked millicores -> billed millicores, a round each
    with Kiln(bench.groups) as kiln, contextlib.ExitStack() as stack:
        peers = [Loop(bench.groups, name, [bench.groups.tools / "peers", "burns", name]) for name in LINE_PEERS]
        for peer in peers:
            stack.enter_context(peer.group)
            peer.group.limit(LIMIT)
        for number in range(scale.rounds):
            idle = idle_rate(kiln.group, scale.quiet_seconds)
            points = {}
            for rate in line_rates(scale):
                load = measure_load(kiln, idle, LINE_MS, rate, count)
                points.setdefault("kiln", []).append((rate * load.done / count, load.billed * rate / count))
                for peer in peers if number < scale.peer_rounds else ():
                    billed = peer.burn(LINE_MS, count, rate)
                    points.setdefault(peer.name, []).append((rate, billed * rate / count))
            for name, of_contestant in points.items():
                intercept, nanoseconds, residuals = fit_line(of_contestant)
                slope.add(name, nanoseconds / 1e6 - LINE_MS)
                residual.add(name, max(map(abs, residuals)) / 1e6 / LIMIT * 100)
                start.add(name, intercept / 1e6)
                for rate, billed in of_contestant:
                    seen.setdefault(name, {}).setdefault(round(rate * LINE_MS, 3), []).append(billed / 1e6)
    bench.table.print(f"line: pod CPU against rate at ms={LINE_MS}", [slope, residual, start], LINE_PEERS,
                      ["Peers without a server: burns on four threads at the same arrivals."])
    if bench.svg:
        write_plot(bench.svg, seen, LIMIT)
