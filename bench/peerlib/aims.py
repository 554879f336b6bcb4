"""What drover aims at, as a table, and whether results reach it. docs/benchmarks.md has the table's rows in words."""
import re

from . import stats

# measure, types: regular expressions of whole names. Numbers are the least that is wanted: of the ratio to a peer, of the
# ratio to the faster peer, of the share of the roofline.
AIMS = [
    {"measure": r"prefill \d+", "types": "Q8_0|Q4_0|Q4_K_M", "ik_llama.cpp": 1.6, "llama.cpp": 2.2, "share": 0.65},
    {"measure": r"prefill \d+", "types": "Q6_K|Q5_K_M|IQ4_XS", "ik_llama.cpp": 1.5, "share": 0.60},
    {"measure": r"prefill \d+", "types": "BF16", "ik_llama.cpp": 1.05, "share": 0.82},
    {"measure": r"prefill \d+", "types": "F16|F32", "share": 0.80},
    {"measure": r"prefill \d+", "types": "IQ[23].*", "ik_llama.cpp": 1.2},
    {"measure": r"decode \d+", "types": "BF16|Q8_0", "faster": 1.0, "share": 0.92},
    {"measure": r"decode \d+", "types": "Q4_K_M|Q5_K_M", "faster": 1.0, "share": 0.85},
    {"measure": r"decode \d+", "types": "Q4_0|Q6_K|IQ4_XS", "faster": 1.0, "share": 0.80},
    {"measure": r"decode \d+", "types": "Q4_K_M", "shape": ".*8b", "faster": 1.3},
    {"measure": r"decode \d+", "types": "IQ[23].*", "ik_llama.cpp": 1.0},
    {"measure": r"(fill|depth) .*", "types": ".*", "faster": 1.5},
    {"measure": r"batch (8|16)", "types": ".*", "faster": 1.5},
    {"measure": r"first .*", "types": ".*", "llama.cpp": 2.0},
]
ENOUGH = 0.80, 0.97     # where both pass this share of bandwidth, memory decides: so much of the faster peer will do
SCALING = 0.95
PAIR = 1.2              # two sequences take at most this much longer than one


def shape_and_type(model):
    """llama-3.2-1b Q8_0, or a file's name that ends in its type: 1b-Q8_0."""
    m = re.fullmatch(r"(.*?)[-. ]((?:I?Q\d|BF16|F16|F32).*)", model)
    return m.groups() if m else (model, "")


def check(results, rule=stats.RULE):
    """Rows (model, threads, measure, what, wanted, got, held): held is None where it was not measured."""
    names = list(results["programs"])
    ours, peers = names[0], [n for n in names[1:] if n in ("llama.cpp", "ik_llama.cpp")]
    rows = stats.summarise(results, rule)
    out = []
    for r in rows:
        shape, kind = shape_and_type(r["model"])
        for aim in AIMS:
            if not (re.fullmatch(aim["measure"], r["measure"]) and re.fullmatch(aim["types"], kind) and
                    re.fullmatch(aim.get("shape", ".*"), shape)):
                continue
            for what in ("ik_llama.cpp", "llama.cpp", "faster", "share"):
                if what in aim:
                    want, got = aim[what], _got(what, r, ours, peers)
                    if what == "faster" and want == 1.0 and _at_the_wall(r, ours, peers):
                        want = ENOUGH[1]
                    label = "share of the bound" if what == "share" else "of the faster peer" if what == "faster" else \
                        "of " + what
                    out.append((r["model"], r["threads"], r["measure"], label, want, got, None if got is None else got >= want))
    return out + _cliffs(rows, ours) + _scaling(results, rule, ours)


def _got(what, row, ours, peers):
    if what == "share":
        p = row["programs"].get(ours)
        return p["share"] if p and not p["unkept"] else None
    if what == "faster":
        v = [row["ratios"][p]["median"] for p in peers if p in row["ratios"]]
        return min(v) if len(v) == len(peers) and v else None
    return row["ratios"][what]["median"] if what in row["ratios"] else None


def _at_the_wall(row, ours, peers):
    shares = {n: p["share"] or 0 for n, p in row["programs"].items()}
    return shares.get(ours, 0) >= ENOUGH[0] and max((shares.get(p, 0) for p in peers), default=0) >= ENOUGH[0]


def _cliffs(rows, ours):
    """Tokens/s must not fall as the batch grows; two sequences may take PAIR times as long as one."""
    out, tables = [], {}
    for r in rows:
        if r["measure"].startswith("batch ") and ours in r["programs"]:
            tables.setdefault((r["model"], r["threads"]), {})[int(r["measure"].split()[1])] = r["programs"][ours]["median"]
    for (model, threads), t in tables.items():
        sizes = sorted(t)
        for a, b in zip(sizes, sizes[1:]):
            out.append((model, threads, "batch %d" % b, "of tokens/s at %d" % a, 1.0, t[b] / t[a], t[b] >= t[a]))
        if 1 in t and 2 in t:
            slower = 2 * t[1] / t[2]
            out.append((model, threads, "batch 2", "inverse of time at 1", 1 / PAIR, 1 / slower, slower <= PAIR))
    return out


def _scaling(results, rule, ours):
    return [(r["model"], r["threads"], r["measure"], "of the machine's scaling", SCALING, r["programs"][ours]["median"],
             r["programs"][ours]["median"] >= SCALING) for r in stats.scaling(results, rule) if ours in r["programs"]]
