"""The parts of bench/peers that measure nothing: what counts, what the figures are, what programs answer, tables and plot.
usage: peers_test.py TREE    the last line is "N passed, N failed" """
import copy
import io
import json
import os
import sys
import xml.etree.ElementTree

tree = sys.argv[1]
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(tree, "bench"))
from peerlib import aims, install, programs, render, runner, stats  # noqa: E402

passed = failed = 0


def check(what, got, want):
    global passed, failed
    if isinstance(want, float) and isinstance(got, (int, float)):
        good = abs(got - want) <= 1e-9 * abs(want)
    else:
        good = got == want
    if good:
        passed += 1
    else:
        failed += 1
        print("FAIL %s: %r, not %r" % (what, got, want))


def refused(what, fn):
    try:
        check(what, fn(), "an exception")
    except (ValueError, KeyError):
        check(what, True, True)


# ---- single figures
check("median of odd", stats.median([3, 1, 2]), 2)
check("median of even", stats.median([4, 1, 2, 3]), 2.5)
refused("median of nothing", lambda: stats.median([]))


def probe(read=40.0, int8=900.0):
    return {"read_gb_s": read / 2, "read_huge_gb_s": read, "f32": 200.0, "bf16": 400.0, "int8": int8}


check("probes that agree", stats.agree([probe(40), probe(50)], "read_huge_gb_s"), True)
check("probes that do not", stats.agree([probe(40), probe(50.1)], "read_huge_gb_s"), False)
check("a probe of nothing", stats.agree([probe(0), probe(0)], "read_huge_gb_s"), False)
check("what bounds a prompt", stats.bound("prefill 512", "bf16"), "bf16")
check("what bounds decoding", stats.bound("batch 4", "int8"), "read_huge_gb_s")

# ---- shares: 2 GB of weights, 1 MB a position, 1 Gop a token
JOB = {"model": "m", "kind": "short", "threads": 2, "arithmetic": "int8", "bytes_per_token": 2e9,
       "kv_bytes_per_position": 1e6, "flops_per_token": 1e9, "p": 512, "n": 64, "steps": 64}
P2 = [probe(40), probe(44)]


def share(measure, value, pages, **more):
    return stats.share(measure, value, P2, {"job": {**JOB, **more}}, pages)


check("share of a peak", share("prefill 512", 450.0, "mapped"), 450 * 1e9 / 900e9)
check("share of huge pages' bandwidth", share("decode 64", 10.0, "huge"), 10 * (2e9 + 32e6) / 42e9)
check("share of mapped pages' bandwidth", share("decode 64", 10.0, "mapped"), 10 * (2e9 + 32e6) / 21e9)
check("share of a batch", share("batch 8", 40.0, "huge", steps=32, held=16), 5 * (2e9 + 8 * 32e6) / 42e9)
check("share at a depth", share("depth 1000 f16", 4.0, "huge", steps=16), 4 * (2e9 + 1008e6) / 42e9)
check("a long prompt has more in it than products", share("fill 8192 f16", 50.0, "mapped"), None)
check("nor has a time", share("first token 32", 0.1, "mapped"), None)


# ---- rounds. run(...) lies between probes i and i + 1
def rnd(turn, runs, reads, threads=2, others=None, measure="decode 64"):
    return {"turn": turn, "date": "2026-01-0%dT00:00:00Z" % (turn + 1), "load": [0.0], "job": {**JOB, "threads": threads},
            "probes": [probe(r) if r else None for r in reads],
            "runs": [{"program": n, "probe": i, "values": {measure: v if isinstance(v, list) else [v]},
                      "others": (others or {}).get(n, 0)} for i, (n, v) in enumerate(runs)]}


def book(*rounds):
    return {"format": 1, "machine": {"processor": "a <test>", "flags": ["avx2"], "cpus": 2, "memory_gb": 4.0, "kernel": "6"},
            "programs": {"drover": {"version": "1", "pages": "mapped"}, "peer": {"version": "2", "pages": "huge"}},
            "rounds": list(rounds)}


even = [40, 40, 40]
three = book(rnd(0, [("drover", 10.0), ("peer", 5.0)], even), rnd(1, [("peer", 20.0), ("drover", 20.0)], even),
             rnd(2, [("drover", 12.0), ("peer", 8.0)], even))
row = stats.summarise(three)[0]
check("the ratio is the median of pairs, not the ratio of medians", row["ratios"]["peer"]["median"], 1.5)
check("its range", (row["ratios"]["peer"]["low"], row["ratios"]["peer"]["high"]), (1.0, 2.0))
check("medians", (row["programs"]["drover"]["median"], row["programs"]["peer"]["median"]), (12.0, 8.0))
check("range", (row["programs"]["drover"]["low"], row["programs"]["drover"]["high"]), (10.0, 20.0))
check("rounds", (row["rounds"], row["ratios"]["peer"]["n"]), (3, 3))
check("a run is the median of its repetitions",
      stats.summarise(book(rnd(0, [("drover", [1.0, 9.0, 3.0]), ("peer", 1.0)], even)))[0]["ratios"]["peer"]["median"], 3.0)

flip = copy.deepcopy(three)
flip["rounds"][1]["probes"] = [probe(40), probe(40), probe(25)]     # the machine changed under drover's run
row = stats.summarise(flip)[0]
check("a pair in two states of the machine does not count", row["ratios"]["peer"], {"median": 1.75, "low": 1.5, "high": 2.0, "n": 2})
check("nor does the run itself", (row["programs"]["drover"]["n"], row["programs"]["peer"]["n"]), (2, 3))
slow = copy.deepcopy(three)
slow["rounds"][1]["probes"] = [probe(25), probe(25), probe(25)]     # slower, but the same for both
check("a slow round that is even counts", stats.summarise(slow)[0]["ratios"]["peer"]["n"], 3)
step = copy.deepcopy(three)
step["rounds"][1]["probes"] = [probe(34), probe(40), probe(46)]     # each run agrees, the pair does not
row = stats.summarise(step)[0]
check("a pair wants all four probes", row["ratios"]["peer"]["n"], 2)
check("a run its own two", row["programs"]["drover"]["n"], 3)
peak = copy.deepcopy(three)
for r in peak["rounds"]:
    r["runs"] = [{**x, "values": {"prefill 512": [5.0]}} for x in r["runs"]]
    r["probes"] = [probe(40), probe(10), probe(40)]
check("bandwidth says nothing about prompts", stats.summarise(peak)[0]["ratios"]["peer"]["n"], 3)
busy = book(rnd(0, [("drover", 10.0), ("peer", 5.0)], even, others={"peer": 0.3}),
            rnd(1, [("drover", 10.0), ("peer", 4.0)], even))
row = stats.summarise(busy)[0]
check("a pair beside other work does not count", row["ratios"]["peer"], {"median": 2.5, "low": 2.5, "high": 2.5, "n": 1})
none = stats.summarise(book(rnd(0, [("drover", 10.0), ("peer", 5.0)], [40, 20, 40])))[0]
check("where nothing counts there is no ratio", none["ratios"], {})
check("and what is shown is marked", (none["programs"]["drover"]["median"], none["programs"]["drover"]["unkept"]), (10.0, True))
cut = stats.summarise(book(rnd(0, [("drover", 10.0), ("peer", 5.0)], [40, 40]), rnd(1, [("drover", 10.0)], even)))[0]
check("a round that was cut short gives what it has", (cut["programs"]["drover"]["n"], "peer" in cut["programs"], cut["ratios"]),
      (2, False, {}))
lost = book(rnd(0, [("drover", 10.0), ("peer", 5.0)], [40, None, 40]))
check("a probe that failed", stats.summarise(lost)[0]["programs"], {})
fail = copy.deepcopy(three)
fail["rounds"][0]["runs"][1] = {"program": "peer", "probe": 1, "error": "ended with 1: out of memory"}
row = stats.summarise(fail)[0]
check("a peer that failed once", (row["ratios"]["peer"]["n"], row["programs"]["drover"]["n"]), (2, 3))
first = book(rnd(0, [("drover", 0.2), ("peer", 0.5)], even, measure="first token 32"))
check("of times the ratio is turned, so that above 1 is faster", stats.summarise(first)[0]["ratios"]["peer"]["median"], 2.5)

# ---- threads: twice the machine, 1.8 times the tokens
scale = book(rnd(0, [("drover", 10.0), ("peer", 5.0)], [20, 20, 20], threads=1), rnd(0, [("drover", 18.0), ("peer", 5.0)], even),
             rnd(1, [("drover", 10.0), ("peer", 5.0)], [20, 20, 20], threads=1))
check("scaling against the machine's own", stats.scaling(scale)[0]["programs"]["drover"], {"median": 0.9, "low": 0.9, "high": 0.9, "n": 1})
check("threads it is said of", stats.scaling(scale)[0]["threads"], 2)
check("no scaling from one count of threads", stats.scaling(three), [])

# ---- commands and answers
drover = {"name": "drover", "kind": "drover", "argv": ["drover"], "flags": ["--load", "copy"]}
peers = {n: {"name": n, "kind": "llama", "dir": "/d", **p} for n, p in programs.PEERS.items()}
SHORT = {"kind": "short", "file": "f", "threads": 2, "p": 512, "n": 64, "reps": 2}
BATCH = {"kind": "batch", "file": "f", "threads": 2, "batches": [1, 4], "n": 32, "held": 16}
DEPTH = {"kind": "depth", "file": "f", "threads": 2, "depth": 8192, "kv": "q8_0", "n": 16}
FIRST = {"kind": "first", "file": "f", "threads": 1, "p": 32, "prompt": "a b"}
check("drover's command", programs.command(drover, BATCH), "drover bench f --json -t 2 --load copy -p 0 -n 32 -r 1 -d 16 -b 1,4".split())
check("llama.cpp's", programs.command(peers["llama.cpp"], SHORT),
      "/d/llama-bench -m f -t 2 -fa on -p 512 -n 64 -r 2 -o json".split())
check("ik_llama.cpp's", programs.command(peers["ik_llama.cpp"], SHORT),
      "/d/llama-bench -m f -t 2 -fa 1 -rtr 1 -mmp 0 -p 512 -n 64 -r 2 -o json".split())
for name, p in peers.items():
    for job in (SHORT, BATCH, DEPTH, FIRST):
        check("%s: %s has its file and threads" % (name, job["kind"]), programs.command(p, job)[1:5], ["-m", "f", "-t", str(job["threads"])])
    check("%s: cache type" % name, programs.command(p, DEPTH)[-4:], ["-ctk", "q8_0", "-ctv", "q8_0"])
check("what is asked for", programs.wanted(DEPTH), ["fill 8192 q8_0", "depth 8192 q8_0"])
bench = json.dumps([{"n_prompt": 512, "n_gen": 0, "samples_ts": [90.5, 91]}, {"n_prompt": 0, "n_gen": 64, "samples_ts": [12, 13]}])
check("llama-bench's answer, with a line before it", programs.answer(peers["ik_llama.cpp"], SHORT, "loading\n" + bench),
      {"prefill 512": [90.5, 91], "decode 64": [12, 13]})
for bad in ("", "no", "[]", "{}", "[{}]", bench[:40], bench.replace("samples_ts", "x")):
    refused("llama-bench's answer %r" % bad[:20], lambda bad=bad: programs.answer(peers["llama.cpp"], SHORT, bad))
table = """main: n_kv_max = 768
|    PP |     TG |    B |   N_KV |   T_PP s | S_PP t/s |   T_TG s | S_TG t/s |      T s |    S t/s |
|-------|--------|------|--------|----------|----------|----------|----------|----------|----------|
|    16 |     32 |    1 |     48 |    0.140 |   114.00 |    0.904 |    35.40 |    1.044 |    45.98 |
|    16 |     32 |    4 |    192 |    0.512 |   125.00 |    1.900 |    67.37 |    2.412 |    79.60 |
"""
check("batched-bench's answer", programs.answer(peers["llama.cpp"], BATCH, table), {"batch 1": [35.4], "batch 4": [67.37]})
check("on standard error", programs.answer(peers["ik_llama.cpp"], BATCH, "", table), {"batch 1": [35.4], "batch 4": [67.37]})
check("at a depth", programs.answer(peers["llama.cpp"], {**DEPTH, "depth": 16}, table.rsplit("\n", 2)[0]),
      {"fill 16 q8_0": [114.0], "depth 16 q8_0": [35.4]})
refused("a batch that is missing", lambda: programs.answer(peers["llama.cpp"], {**BATCH, "batches": [1, 2]}, table))
ours = {"prefill": [{"tokens": 512, "tok_s": [200, 201]}], "decode": [{"steps": 64, "depth": 8192, "batch": 4, "tok_s": [30]}],
        "fill": [{"from": 0, "to": 8192, "tok_s": 99.0}]}
check("drover's answer", programs.answer(drover, SHORT, json.dumps(ours)), {"prefill 512": [200, 201], "decode 64": [30]})
check("at a depth", programs.answer(drover, DEPTH, json.dumps(ours)), {"fill 8192 q8_0": [99.0], "depth 8192 q8_0": [30]})
refused("no answer of drover's", lambda: programs.answer(drover, SHORT, "drover bench: no such file"))
check("a command without this machine's folders", runner.shown(["/a/b/llama-bench", "-m", "/c/d.gguf", "-p", "a b"]),
      'llama-bench -m d.gguf -p "…"')

# ---- what is written
check("results come back as they were", json.loads(runner.dump(three)), three)
check("results without rounds", json.loads(runner.dump(book())), book())
check("a round is a line", len(runner.dump(three).splitlines()) - len(runner.dump(book()).splitlines()), 2)
md = render.markdown(fail)
for line in ("| m | 2 | decode 64 | 12.0 [10.0-20.0] (122 %) | 14.0 [8.00-20.0] (71 %) | 1.25 [1.00-1.50] | 2 of 3 |",
             "* m, short: peer: ended with 1: out of memory"):
    check("the page has: " + line, line in md, True)
check("a mark where nothing counts", "10.0 [10.0-10.0] (135 %) †" in render.markdown(book(rnd(0, [("drover", 10.0), ("peer", 5.0)], [40, 20, 40]))), True)
page = "# title\n\n" + render.MARK % "r.json" + "\nold\n" + render.END + "\ntail\n"
once = render.into(page, "r.json", three)
check("tables go between the marks", (once.startswith("# title\n"), once.endswith(render.END + "\ntail\n"), "old" in once), (True, True, False))
check("and stay the same the second time", render.into(once, "r.json", three), once)
refused("a page without the mark", lambda: render.into("# title\n", "r.json", three))
root = xml.etree.ElementTree.parse(io.StringIO(render.svg(fail))).getroot()
check("bars of the plot", len(root.findall("{*}rect")), 3)
check("its title is escaped", "a <test>" in "".join(root.itertext()), True)
widths = [float(r.get("width")) for r in root.findall("{*}rect")[1:]]
check("bars are to scale", round(widths[0] / widths[1], 2), round(12 / 14, 2))
check("the plot is the same the second time", render.svg(three), render.svg(three))
check("figures", [render.figure(x) for x in (0.0512, 1.234, 45.67, 678.9, 2655)], ["0.0512", "1.23", "45.7", "679", "2655"])

# ---- aims
check("shape and type", [aims.shape_and_type(x) for x in ("llama-3.1-8b Q4_K_M", "1b-Q8_0", "a.b.IQ2_XXS", "plain")],
      [("llama-3.1-8b", "Q4_K_M"), ("1b", "Q8_0"), ("a.b", "IQ2_XXS"), ("plain", "")])


def aimed(measure, ours, peer, model="x-8b Q4_K_M", **more):
    b = book(rnd(0, [("drover", ours), ("llama.cpp", peer)], even, measure=measure))
    b["programs"] = {"drover": {"version": "1", "pages": "mapped"}, "llama.cpp": {"version": "2", "pages": "huge"}}
    b["rounds"][0]["job"].update(model=model, **more)
    return [(x[3], x[4], round(x[5], 3) if x[5] else x[5], x[6]) for x in aims.check(b)]


check("a prompt's aims", aimed("prefill 512", 600.0, 300.0),
      [("of ik_llama.cpp", 1.6, None, None), ("of llama.cpp", 2.2, 2.0, False), ("share of the bound", 0.65, 0.667, True)])
check("decoding's, of a large model", aimed("decode 64", 8.0, 4.0),
      [("of the faster peer", 1.0, 2.0, True), ("share of the bound", 0.85, 0.813, False), ("of the faster peer", 1.3, 2.0, True)])
check("at the wall a little less will do", aimed("decode 64", 16.0, 16.4, "x-1b Q8_0")[0], ("of the faster peer", 0.97, 0.976, True))
cliff = book(*[rnd(0, [("drover", v)], [40, 40], measure="batch %d" % n) for n, v in ((1, 10.0), (2, 16.0), (4, 15.0))])
check("cliffs", [(x[2], x[6]) for x in aims.check(cliff)], [("batch 2", True), ("batch 4", False), ("batch 2", False)])
check("scaling's aim", aims.check(scale)[-1][3:], ("of the machine's scaling", 0.95, 0.9, False))

# ---- installing
old = os.environ.get("PATH")
os.environ["PATH"] = os.path.dirname(sys.executable)
os.environ["CXX"] = "no-such-compiler"
try:
    install.check_tools()
    check("a machine without tools", "accepted", "refused")
except install.Missing as e:
    check("a machine without tools is told what would help: %s" % e, "apt-get install" in str(e), True)
os.environ["PATH"] = old
print("%d passed, %d failed" % (passed, failed))
sys.exit(failed > 0)
