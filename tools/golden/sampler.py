#!/usr/bin/env python3
"""sampler.py - filtered distributions of transformers' logits processors, for tests/golden/sampler.c.
usage: tools/golden/sampler.py OUT.json      needs torch and transformers; writes OUT.txt too"""
import json, sys
import numpy as np, torch, transformers
from transformers.generation import logits_process as lp

MAKE = {
    "temperature": lambda v: lp.TemperatureLogitsWarper(v),
    "top_k": lambda v: lp.TopKLogitsWarper(v),
    "top_p": lambda v: lp.TopPLogitsWarper(v),
    "min_p": lambda v: lp.MinPLogitsWarper(v),
    "typical_p": lambda v: lp.TypicalLogitsWarper(v),
    "repeat_penalty": lambda v: lp.RepetitionPenaltyLogitsProcessor(v),
}
SETS = [[("temperature", t)] for t in (0.1, 0.6, 0.7, 1.3, 2.0)]
SETS += [[("top_k", k)] for k in (1, 2, 7, 40)]
SETS += [[("top_p", p)] for p in (0.05, 0.5, 0.9, 0.99)]
SETS += [[("min_p", p)] for p in (0.01, 0.1, 0.5)]
SETS += [[("typical_p", p)] for p in (0.1, 0.5, 0.9, 0.97)]
SETS += [[("repeat_penalty", p)] for p in (0.8, 1.1, 1.5)]
# transformers' own order, then llama.cpp's (temperature last)
SETS += [
    [("temperature", 0.6), ("top_p", 0.9)],
    [("repeat_penalty", 1.1), ("temperature", 0.7), ("top_k", 20), ("top_p", 0.8)],
    [("temperature", 1.5), ("min_p", 0.05)],
    [("temperature", 0.8), ("top_k", 30), ("top_p", 0.95), ("min_p", 0.02), ("typical_p", 0.9)],
    [("top_k", 40), ("typical_p", 0.9), ("top_p", 0.95), ("min_p", 0.05), ("temperature", 0.8)],
    [("top_k", 40), ("top_p", 0.95), ("min_p", 0.05), ("temperature", 0.8)],
    [("repeat_penalty", 1.2), ("top_k", 25), ("typical_p", 0.7), ("min_p", 0.1), ("temperature", 1.2)],
]

def vectors():
    g = np.random.default_rng(20240726)
    v = {}
    v["normal"] = g.normal(0, 3, 50)
    v["flat"] = g.normal(0, 0.05, 50)
    v["peaked"] = g.normal(-4, 2, 50); v["peaked"][17] = 12
    m = g.normal(0, 2, 50); m[[0, 3, 49, 20]] = -np.inf; v["masked"] = m
    v["large"] = g.normal(0, 4, 1000) + 11
    return {k: torch.tensor(x, dtype=torch.float32) for k, x in v.items()}, \
           {k: g.integers(0, len(x), 30).tolist() for k, x in v.items()}

def main(out):
    vec, hist = vectors()
    cases = []
    for name, x in vec.items():
        for chain in SETS:
            if name == "large" and len(chain) == 1 and chain[0][0] not in ("top_p", "typical_p", "min_p"):
                continue
            s = x[None].clone()
            for step, value in chain:
                s = MAKE[step](value)(torch.tensor([hist[name]]), s)
            p = torch.softmax(s[0].double(), -1).tolist()
            cases.append({"logits": name, "chain": [[a, b] for a, b in chain],
                          "probs": [[i, float("%.9g" % q)] for i, q in enumerate(p) if q > 1e-12]})
    dump = {"logits": {k: [None if np.isinf(f) else float("%.9g" % f) for f in x.tolist()] for k, x in vec.items()},
            "history": hist, "cases": cases}
    with open(out, "w") as f:
        json.dump(dump, f, separators=(",", ":"))
        f.write("\n")
    with open(out.rsplit(".", 1)[0] + ".txt", "w") as f:
        f.write("made by tools/golden/sampler.py with transformers %s, torch %s, numpy %s\n%d cases\n"
                % (transformers.__version__, torch.__version__, np.__version__, len(cases)))

main(sys.argv[1])
