"""goodput, refusal and probes: what happens past the limit."""
from contestants import LIMIT, Failed, Kiln, answered, thread_times
from report import Row

MS = 5
FACTORS = {1: None, 2: 98, 4: 96}  # of the limit -> least share of the goodput at the limit, percent
CONNECTIONS = 1024
PROBES = ("/livez", "/api/info")


def goodput_seconds(scale):
    return scale.rounds * len(FACTORS) * (scale.goodput_seconds + 3)


def goodput(bench):
    scale = bench.scale
    window = scale.goodput_seconds - scale.goodput_skip
    rows = {1: Row("at 1×: asked CPU of completed requests", "m", 2, sane=(1, 600))}
    for factor, least in FACTORS.items():
        if least:
            rows[factor] = Row(f"at {factor}×, of that at 1×", "%", 2, least, at_least=True, sane=(0, 1000))
    with Kiln(bench.groups, "--burn-queue", "500ms") as kiln:
        for _ in range(scale.rounds):
            completed = {}
            for factor in FACTORS:
                with kiln.clients() as clients:
                    count = clients.add(f"/load?ms={MS}", factor * LIMIT / MS, scale.goodput_seconds,
                                        connections=CONNECTIONS, skip=scale.goodput_skip)
                    result = clients.run()[0]
                completed[factor] = result["in_window"] * MS / window
                rows[factor].computed = (f"{count} × {MS} ms, {answered(result)} done, "
                                         f"{answered(result, 503)} refused, {result['failed']} failed")
            rows[1].add("kiln", completed[1])
            for factor in list(FACTORS)[1:]:
                rows[factor].add("kiln", 100 * completed[factor] / completed[1] if completed[1] else None)
    bench.table.print(f"goodput: ms={MS} under {LIMIT}m, --burn-queue 500ms", list(rows.values()))


def refusal_seconds(scale):
    return scale.rounds * 2 * (scale.refusal_seconds + 1)


def read_both(kiln):
    """The group's counter and each thread's of the same moment, give or take the microseconds of reading: the burner
    brings both up to date with every look at its clock."""
    before, used, after = thread_times(kiln.process.pid), kiln.group.cpu_ns(), thread_times(kiln.process.pid)
    return used, {thread: (before[thread] + after[thread]) / 2 for thread in before}


def refusal(bench):
    scale = bench.scale
    paths = {"refusal": (f"/load?ms={MS}", 503), "probe": ("/livez", 200)}
    count = round(scale.refusal_rate * scale.refusal_seconds)
    computed = f"{count} at {scale.refusal_rate:g}/s, twice"
    ratio = Row("one refusal, of one /livez", "×", 3, 1.5, sane=(0.1, 10), computed=computed)
    each = {name: Row(f"{path}: {status}", "µs", 2, sane=(0, 10_000), computed=computed)
            for name, (path, status) in paths.items()}
    # As long as the pair takes, and ended by its client's going.
    filling_ms = 1000 * (2 * (scale.refusal_seconds + 3) + 10)
    with Kiln(bench.groups, "--burn-queue", "1ms", "--load-max", "10m", millicores=None) as kiln:
        for number in range(scale.rounds):
            cost = {}
            with kiln.clients() as filling:
                filling.add(f"/load?ms={filling_ms:g}", 1, count=1)
                filling.start()
                for name in list(paths)[::1 if number % 2 == 0 else -1]:
                    cost[name] = cost_beside_a_burn(kiln, *paths[name], scale.refusal_rate, count)
                    each[name].add("kiln", cost[name] / 1e3)
            ratio.add("kiln", cost["refusal"] / cost["probe"])
    bench.table.print("refusal: CPU of the group less the burner thread's, beside one long burn",
                      [ratio, *each.values()])


def cost_beside_a_burn(kiln, path, status, rate, count):
    """Nanoseconds a request, the thread that burns left out: the one with the most CPU time meanwhile."""
    with kiln.clients() as clients:
        clients.add(path, rate, count=count)
        used_before, threads_before = read_both(kiln)
        result = clients.run()[0]
        used, threads = read_both(kiln)
    if answered(result, status) != count:
        raise Failed(f"{path} shall answer {status} {count} times: {result}")
    burner = max(threads[thread] - threads_before.get(thread, 0) for thread in threads)
    return (used - used_before - burner) / count


def probes_seconds(scale):
    return len(PROBES) * scale.probe_pairs * 2 * (scale.probe_seconds + 1) + scale.rounds * (scale.overload_seconds + 3)


def probes(bench):
    scale, rows = bench.scale, []
    with Kiln(bench.groups, millicores=None) as kiln:
        for path in PROBES:
            row = Row(f"{path} p99 beside burns less without", "ms", 3, 1, sane=(-100, 100))
            rows.append(row)
            alone, beside = "p99 without, ms", "p99 beside, ms"
            for number in range(scale.probe_pairs):
                p99 = {}
                for loaded in (True, False) if number % 2 == 0 else (False, True):
                    with kiln.clients() as clients:
                        count = clients.add(path, 200, scale.probe_seconds, fresh=True)
                        if loaded:  # two in flight at all times
                            clients.add("/load?ms=50", 100, scale.probe_seconds, connections=2, drop_late=True)
                        p99[loaded] = clients.run()[0]["p99_ms"]
                row.computed = f"{count} probes a side"
                row.add("kiln", p99[True] - p99[False])
                row.add(alone, p99[False])
                row.add(beside, p99[True])
    with Kiln(bench.groups) as kiln:
        late = {path: Row(f"{path} p99 at 4× overload", "ms", 2, 80, sane=(0, 2000)) for path in PROBES}
        failed = Row("probes failed at 4× overload", "", 0, 0, sane=(0, 1000))
        for _ in range(scale.rounds):
            with kiln.clients() as clients:
                counts = [clients.add(path, 50, scale.overload_seconds, fresh=True) for path in PROBES]
                clients.add(f"/load?ms={MS}", 4 * LIMIT / MS, scale.overload_seconds, connections=CONNECTIONS)
                results = clients.run()
            for path, result in zip(PROBES, results):
                late[path].add("kiln", result["p99_ms"])
                late[path].computed = f"{counts[0]} probes"
            failed.add("kiln", sum(counts) - sum(answered(result) for result in results[:2]))
            failed.computed = f"{sum(counts)} probes, {results[2]['sent']} × {MS} ms asked"
    bench.table.print("probes: a new connection each, server and burner on one core",
                      [*rows, *late.values(), failed], (alone, beside))
