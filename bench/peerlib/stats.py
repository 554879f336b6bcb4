"""What the rounds say: which runs count, ratios pair by pair, shares of the roofline. Nothing here runs anything.

A round is one run of every program on one job (a model, a number of threads, a kind of test), with a probe of the machine
before the first run and after each: run i lies between probes i and i + 1. A probe has read bandwidth and arithmetic
peaks. Two runs of a round are a pair, and count, when the probes around both agree: of the figure that bounds the measure
(the peak of the weights' arithmetic for prompts, read bandwidth for decoding) the largest is at most `limit` times the
smallest, and when other processes took no more than `others` of the processors' time during either run. A run counts by
itself when its own two probes agree so."""

from collections import namedtuple

Rule = namedtuple("Rule", "limit others", defaults=(1.25, 0.10))
RULE = Rule()


def median(values):
    v = sorted(values)
    n = len(v)
    if not n:
        raise ValueError("the median of nothing")
    return v[n // 2] if n % 2 else (v[n // 2 - 1] + v[n // 2]) / 2


def is_prompt(measure):
    """Measures are called "prefill 512", "decode 64", "batch 8", "fill 8192 f16", "depth 8192 f16", "first token 32"."""
    return measure.split()[0] in ("prefill", "fill", "first")


def is_time(measure):
    """Seconds, where less is better; all others are tokens per second."""
    return measure.startswith("first")


def bound(measure, arithmetic):
    """The figure of a probe that bounds this measure; arithmetic: f32, bf16 or int8."""
    return arithmetic if is_prompt(measure) else "read_huge_gb_s"


def agree(probes, key, rule=RULE):
    v = [p[key] for p in probes]
    return min(v) > 0 and max(v) <= rule.limit * min(v)


def alone(runs, rule=RULE):
    """Other processes left the processors to these runs."""
    return all(r.get("others", 0) <= rule.others for r in runs)


def values_of(run, measure):
    """The figure of a run: the median of its own repetitions; None if it has none."""
    v = [x for x in run.get("values", {}).get(measure, []) if x > 0]
    return median(v) if v else None


def around(rnd, run):
    """The probes before and after a run of the round; None where one is missing (the round was cut short)."""
    i, p = run["probe"], rnd["probes"]
    return [p[i], p[i + 1]] if i + 1 < len(p) and p[i] and p[i + 1] else None


def share(measure, value, probes, rnd, pages):
    """The share of the roofline that a run reached, 0..1; None where there is no such bound.

    Prompts: 2 x linear parameters (embedding and head left out) x tokens/s over the arithmetic peak. Decoding: bytes of
    weights and of keys and values x steps/s over the read bandwidth of the pages the weights lie in."""
    kind, *rest = measure.split()
    job = rnd["job"]
    if kind == "prefill":
        peak = sum(p[job["arithmetic"]] for p in probes) / len(probes)
        return value * job["flops_per_token"] / (peak * 1e9)
    if kind not in ("decode", "batch", "depth"):
        return None
    batch = int(rest[0]) if kind == "batch" else 1
    held = int(rest[0]) if kind == "depth" else job.get("held", 0)
    steps = int(rest[0]) if kind == "decode" else job["steps"]
    read = sum(p["read_gb_s" if pages == "mapped" else "read_huge_gb_s"] for p in probes) / len(probes)
    each = job["bytes_per_token"] + batch * job["kv_bytes_per_position"] * (held + steps / 2)
    return value / batch * each / (read * 1e9)


def three(values):
    return {"median": median(values), "low": min(values), "high": max(values), "n": len(values)}


def summarise(results, rule=RULE):
    """A list of rows, one for each (model, threads, measure) in the order first met:
    {model, threads, measure, rounds, unkept: figures of runs that do not count are used, for no run counts,
     programs: {name: {median, low, high, n, share}}, ratios: {peer: {median, low, high, n}}}.
    Ratios are of results["programs"]'s first to each other one: above 1 it is faster."""
    table = {}
    for rnd in results["rounds"]:
        for run in rnd["runs"]:
            for measure in run.get("values", {}):
                key = (rnd["job"]["model"], rnd["job"]["threads"], measure)
                table.setdefault(key, [])
                if rnd not in table[key]:
                    table[key].append(rnd)
    names = list(results["programs"])
    return [_row(key, rounds, names, results["programs"], rule) for key, rounds in table.items()]


def _row(key, rounds, names, programs, rule):
    model, threads, measure = key
    row = {"model": model, "threads": threads, "measure": measure, "rounds": len(rounds), "programs": {}, "ratios": {}}
    kept = {n: [] for n in names}
    every = {n: [] for n in names}
    ratio = {n: [] for n in names[1:]}
    for rnd in rounds:
        what = bound(measure, rnd["job"]["arithmetic"])
        seen = {}
        for run in rnd["runs"]:
            value, probes = values_of(run, measure), around(rnd, run)
            if value is None or probes is None or run["program"] not in every:
                continue
            got = (value, share(measure, value, probes, rnd, programs[run["program"]].get("pages", "mapped")))
            every[run["program"]].append(got)
            if agree(probes, what, rule) and alone([run], rule):
                kept[run["program"]].append(got)
            seen[run["program"]] = (value, probes, run)
        for peer in names[1:]:
            if names[0] in seen and peer in seen:
                (a, pa, ra), (b, pb, rb) = seen[names[0]], seen[peer]
                if agree(pa + pb, what, rule) and alone([ra, rb], rule):
                    ratio[peer].append(b / a if is_time(measure) else a / b)
    for n in names:
        use = kept[n] or every[n]
        if use:
            row["programs"][n] = three([v for v, _ in use])
            row["programs"][n]["unkept"] = not kept[n]
            shares = [s for _, s in use if s is not None]
            row["programs"][n]["share"] = median(shares) if shares else None
    for peer in names[1:]:
        if ratio[peer]:
            row["ratios"][peer] = three(ratio[peer])
    return row


def scaling(results, rule=RULE):
    """How much of the measured machine's own scaling from 1 to N threads each program has: rows
    {model, measure, threads, programs: {name: {median, low, high, n}}}; the ratio of shares of the bound in the same
    turn of rounds, so 1 is perfect. A turn is the rounds with one number ("turn")."""
    by = {}
    for rnd in results["rounds"]:
        for run in rnd["runs"]:
            for measure in run.get("values", {}):
                value, probes = values_of(run, measure), around(rnd, run)
                what = bound(measure, rnd["job"]["arithmetic"])
                if value is None or probes is None or is_time(measure) or not alone([run], rule) or \
                        not agree(probes, what, rule):
                    continue
                machine = sum(p[what] for p in probes) / len(probes)
                key = (rnd["job"]["model"], measure)
                slot = by.setdefault(key, {}).setdefault(run["program"], {})
                slot.setdefault(rnd["turn"], {})[rnd["job"]["threads"]] = value / machine
    rows = []
    for (model, measure), programs in by.items():
        counts = sorted({t for turns in programs.values() for turn in turns.values() for t in turn} - {1})
        for threads in counts:
            out = {}
            for name, turns in programs.items():
                v = [t[threads] / t[1] for t in turns.values() if threads in t and 1 in t]
                if v:
                    out[name] = three(v)
            if out:
                rows.append({"model": model, "measure": measure, "threads": threads, "programs": out})
    return rows
