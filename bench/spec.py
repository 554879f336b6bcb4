#!/usr/bin/env python3
"""What speculation gives: every prompt of bench/spec_prompts.jsonl answered with and without it, in turn.

    bench/spec.py MODEL [--rounds N] [--tokens N] [--temp T] [--kind K] [--on "--spec ngram"]

Replies must be equal to the last bit of their log of ids and text. Prints, by kind of prompt, tokens/s
without and with (all tokens of a round over all time; median of the rounds), the median of the rounds'
ratios with the lowest and the highest, and the prompt with the lowest median."""
import argparse
import collections
import json
import os
import shlex
import statistics
import subprocess
import sys

here = os.path.dirname(os.path.abspath(__file__))
ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
ap.add_argument("model")
ap.add_argument("--drover", default="./drover")
ap.add_argument("--prompts", default=os.path.join(here, "spec_prompts.jsonl"))
ap.add_argument("--rounds", type=int, default=3)
ap.add_argument("--tokens", type=int, default=256)
ap.add_argument("--temp", default="0")
ap.add_argument("--kind", help="only prompts of this kind")
ap.add_argument("--every", type=int, default=1, help="every Nth prompt only")
ap.add_argument("--off", default="--spec none", help="options of the run that is compared with")
ap.add_argument("--on", default="", help="options of the run with speculation")
a = ap.parse_args()


def answer(prompt, more):
    run = [a.drover, "run", a.model, prompt, "-n", str(a.tokens), "--temp", a.temp, "-s", "1", "--json"]
    r = subprocess.run(run + shlex.split(more), capture_output=True, text=True)
    if r.returncode:
        sys.exit(r.stderr)
    return json.loads(r.stdout)


prompts = [json.loads(x) for x in open(a.prompts, encoding="utf-8")]
prompts = [p for i, p in enumerate(prompts) if i % a.every == 0 and (not a.kind or p["kind"] == a.kind)]
kinds = list(dict.fromkeys(p["kind"] for p in prompts))
one = collections.defaultdict(list)          # prompt: ratios
total = collections.defaultdict(lambda: [0, 0.0, 0.0, 0, 0])    # (kind, round): tokens, off s, on s, guesses, accepted
different = 0
for r in range(a.rounds):
    for i, p in enumerate(prompts):
        turn = [a.off, a.on] if (r + i) % 2 == 0 else [a.on, a.off]
        got = {o: answer(p["prompt"], o) for o in turn}
        off, on = got[a.off], got[a.on]
        if off["ids"] != on["ids"] or off["text"] != on["text"] or off["finish"] != on["finish"]:
            different += 1
            print("DIFFERENT: prompt %d (%s)" % (i, p["kind"]))
        one[i].append(off["reply_s"] / on["reply_s"])
        t = total[p["kind"], r]
        for k, v in enumerate((on["tokens"], off["reply_s"], on["reply_s"], on.get("drafted", 0), on.get("accepted", 0))):
            t[k] += v
print("%-10s %8s %8s %24s %18s %8s" % ("", "off", "on", "ratio", "lowest prompt", "accepted"))
for k in kinds:
    rows = [total[k, r] for r in range(a.rounds)]
    ratio = [t[1] / t[2] for t in rows]
    low = min((statistics.median(one[i]), i) for i, p in enumerate(prompts) if p["kind"] == k)
    print("%-10s %8.1f %8.1f   %6.2f  [%.2f - %.2f] %10.2f (%d) %12.2f" % (
        k, statistics.median(t[0] / t[1] for t in rows), statistics.median(t[0] / t[2] for t in rows),
        statistics.median(ratio), min(ratio), max(ratio), low[0], low[1],
        sum(t[4] for t in rows) / max(1, sum(t[3] for t in rows))))
print("%d prompts, %d rounds, %d replies differ" % (len(prompts), a.rounds, different))
sys.exit(different > 0)
