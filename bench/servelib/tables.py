"""What the rounds say: medians, ratios round by round, as plain text or Markdown. Nothing here runs anything.

A pair counts when neither run failed and other processes took at most `others` of the processors meanwhile; runs take
minutes, so that the machine's read bandwidth, which flips within seconds, is the same for both on average. A pair of one
user's decoding is short: there the probes around both must agree too, as in bench/peers."""
from peerlib import stats
from peerlib.render import figure, ranged, ratio

from . import rounds

MARK = "<!-- results of %s: bench/serve render writes what follows -->"
END = "<!-- end of results -->"


def runs(rnd):
    return {r["program"]: r for r in rnd["runs"] if "values" in r}


def fair(rnd, a, b, rule, short):
    if not stats.alone([a, b], rule):
        return False
    if not short:
        return True
    pa, pb = stats.around(rnd, a), stats.around(rnd, b)
    return bool(pa and pb) and stats.agree(pa + pb, "read_huge_gb_s", rule)


def groups(results):
    """[(model, threads, name of the job, its rounds)] in the order first met."""
    by = {}
    for rnd in results["rounds"]:
        j = rnd["job"]
        by.setdefault((j["model"], j["threads"], rounds.name(j)), []).append(rnd)
    return [k + (v,) for k, v in by.items()]


def spread(rnds, prog, measure, rule):
    """median and range of the runs that others left alone, or of all where none was."""
    got = [(runs(r)[prog], r) for r in rnds if prog in runs(r) and measure in runs(r)[prog]["values"]]
    kept = [x for x, _ in got if stats.alone([x], rule)]
    use = kept or [x for x, _ in got]
    if not use:
        return None
    s = stats.three([x["values"][measure] for x in use])
    s["unkept"] = not kept
    return s


def ratios(rnds, prog, peer, measure, rule, turned=False, short=False, all_pairs=False):
    v = []
    for r in rnds:
        got = runs(r)
        if prog in got and peer in got and (all_pairs or fair(r, got[prog], got[peer], rule, short)):
            a, b = got[prog]["values"].get(measure), got[peer]["values"].get(measure)
            if a and b:
                v.append(b / a if turned else a / b)
    return stats.three(v) if v else None


def cell(s, fmt=figure):
    return "–" if not s else ranged(s, fmt) + (" †" if s["unkept"] else "")


def counted(s, n):
    return "%d of %d" % (s["n"] if s else 0, n)


def grids(results, rule):
    """[(title, head, rows)]: throughput, time to the first token, the rest, and overhead."""
    names = [n for n, p in results["programs"].items() if p["kind"] != "bench"]
    first, peers = names[0], names[1:]
    speed, wait, more, over = [], [], [], []
    for model, threads, what, rnds in groups(results):
        left = [model, str(threads), what]
        pair = [ratios(rnds, first, p, "tok_s", rule) for p in peers]
        speed.append(left + [cell(spread(rnds, n, "tok_s", rule)) for n in names] + [ratio(x) for x in pair] +
                     [counted(min(pair, key=lambda s: s["n"] if s else 0) if pair else None, len(rnds))])
        wait.append(left + [cell(spread(rnds, n, "first_mean", rule)) for n in names] +
                    [ratio(ratios(rnds, first, p, "first_mean", rule)) for p in peers] +
                    [cell(spread(rnds, n, "first_p99", rule)) for n in names])
        more.append(left + [cell(spread(rnds, n, m, rule), fmt) for m, fmt in
                            (("gap_p50", ms), ("gap_p99", ms), ("cpu_ms_token", figure)) for n in names])
        if any(r["program"] == "bench" for rnd in rnds for r in rnd["runs"]):
            pair = ratios(rnds, first, "bench", "decode", rule, short=True)
            over.append(left + [cell(spread(rnds, n, "decode", rule)) for n in (first, "bench")] +
                        [ratio(pair), counted(pair, len(rnds))])
    left = ["model", "threads", "load"]
    out = [("Generated tokens per second, all requests together", left + names + ["%s / %s" % (first, p) for p in peers] + ["rounds"], speed),
           ("Seconds to the first token (a ratio below 1 is sooner): mean, and 99th percentile", left + ["%s, mean" % n for n in names] +
            ["%s / %s" % (first, p) for p in peers] + ["%s, p99" % n for n in names], wait),
           ("Milliseconds between two tokens (median, 99th percentile) and of processor time for each token", left +
            ["%s, %s" % (n, m) for m in ("median", "p99", "processor") for n in names], more)]
    if over:
        out.append(("One user: tokens per second after the first, beside `drover bench`", left + [first, "drover bench",
                    "ratio", "rounds"], over))
    return out


def ms(x):
    return figure(1000 * x)


def failures(results):
    return ["%s, %s: %s: %s" % (r["job"]["model"], rounds.name(r["job"]), x["program"], x["error"])
            for r in results["rounds"] for x in r["runs"] if "error" in x]


def head_lines(results):
    m = results["machine"]
    loads = [r["load"][0] for r in results["rounds"]]
    return ["%s, %d cores, %.1f GB, Linux %s (%s); %s." % (m["processor"], m["cpus"], m["memory_gb"], m["kernel"],
            " ".join(m["flags"]), results["rounds"][-1]["date"][:10] if loads else "nothing measured"),
            "Programs: %s." % "; ".join("%s: %s" % (n, p["version"]) for n, p in results["programs"].items() if p["kind"] != "bench")] + \
        (["Load average when a round began: %s." % ranged(stats.three(loads))] if loads else [])


def text(results, rule):
    out = head_lines(results)
    for title, head, rows in grids(results, rule):
        if not rows:
            continue
        width = [max(len(r[i]) for r in rows + [head]) for i in range(len(head))]
        out += ["", title] + ["  ".join(c.ljust(w) for c, w in zip(r, width)).rstrip() for r in [head] + rows]
    bad = failures(results)
    return "\n".join(out + ([""] + bad if bad else [])) + "\n"


def markdown(results, rule):
    out = head_lines(results)
    for title, head, rows in grids(results, rule):
        if rows:
            out += ["", title + ":", ""] + ["| %s |" % " | ".join(r) for r in [head, ["---"] * len(head)] + rows]
    bad = failures(results)
    return "\n".join(out + ([""] + ["* " + b for b in bad] if bad else [])) + "\n"


def into(page, name, results, rule):
    mark = MARK % name
    at = page.find(mark)
    if at < 0:
        raise ValueError("the page has no line: %s" % mark)
    begin = at + len(mark)
    end = page.find(END, begin)
    if end < 0:
        raise ValueError("the page has no end after: %s" % mark)
    return page[:begin] + "\n\n" + markdown(results, rule) + "\n" + page[end:]
