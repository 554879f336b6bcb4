#!/usr/bin/env python3
"""Hold `drover perplexity --kl` against numpy: the same figures from the logits themselves.

usage: kl.py DROVER REFERENCE-MODEL MODEL IDS [--ctx N] [--windows N] [--kv-type T]

IDS is an ids file. Each window's logits of both models are written by `drover logits`; KL, its
quantiles, top-1 agreement and the differences of probability are computed in float64 and printed
beside drover's. Exit 1 when a mean or a share is off by more than 1e-6, a quantile by more than
1e-5 of its value and 1e-6. Needs numpy."""
import argparse, json, os, subprocess, sys, tempfile
import numpy as np

p = argparse.ArgumentParser()
p.add_argument("drover"), p.add_argument("reference"), p.add_argument("model"), p.add_argument("ids")
p.add_argument("--ctx", type=int, default=128), p.add_argument("--windows", type=int, default=8)
p.add_argument("--kv-type", default="f32")
a = p.parse_args()
run = lambda *w: subprocess.run([a.drover, *w], check=True, capture_output=True, text=True).stdout
ids = np.array(open(a.ids).read().split(), int)[:a.ctx * a.windows]


def log_probs(model, window, kv, tmp):
    open(tmp + "/ids", "w").write(" ".join(map(str, window)))
    run("logits", model, "--ids", tmp + "/ids", "--out", tmp + "/l.npy", "--kv-type", kv)
    x = np.load(tmp + "/l.npy").astype(np.float64)[:-1]
    x -= x.max(1, keepdims=True)
    return x - np.log(np.exp(x).sum(1, keepdims=True))


with tempfile.TemporaryDirectory() as tmp:
    open(tmp + "/all", "w").write(" ".join(map(str, ids)))
    run("perplexity", a.reference, "--ids", tmp + "/all", "--ctx", str(a.ctx), "--save-logits",
        tmp + "/ref")
    got = json.loads(run("perplexity", a.model, "--kl", tmp + "/ref", "--kv-type", a.kv_type,
                         "--json"))
    itself = json.loads(run("perplexity", a.reference, "--kl", tmp + "/ref", "--json"))
    kl, same, dp, lp, lq = [], [], [], [], []
    for w in range(len(ids) // a.ctx):
        win = ids[w * a.ctx:(w + 1) * a.ctx]
        P, Q = (log_probs(m, win, kv, tmp) for m, kv in ((a.reference, "f32"), (a.model, a.kv_type)))
        at = np.arange(len(P)), win[1:]
        kl.append((np.exp(P) * (P - Q)).sum(1)), same.append(P.argmax(1) == Q.argmax(1))
        dp.append(np.exp(Q[at]) - np.exp(P[at])), lp.append(P[at]), lq.append(Q[at])
kl, same, dp, lp, lq = map(np.concatenate, (kl, same, dp, lp, lq))
pairs = [("mean KL", got["kl"]["mean"], kl.mean(), 0), ("largest KL", got["kl"]["max"], kl.max(), 1e-5),
         ("same top", got["same_top"], same.mean(), 0), ("mean dp", got["dp_mean"], dp.mean(), 0),
         ("RMS dp", got["dp_rms"], np.sqrt((dp ** 2).mean()), 0), ("nll", got["nll"], -lq.mean(), 0),
         ("reference nll", got["reference"]["nll"], -lp.mean(), 0)]
for k in ("p50", "p90", "p95", "p99", "p99.9"):
    pairs.append((k, got["kl"][k], np.quantile(kl, float(k[1:]) / 100), 1e-5))
bad = itself["kl"]["mean"] > 1e-8 or itself["same_top"] != 1
for name, x, want, rel in pairs:
    off = abs(x - want)
    bad |= not off <= 1e-6 + rel * abs(want)
    print("%-14s %.9g  numpy %.9g  off by %.1e" % (name, x, want, off))
print("the reference from itself: mean KL %.2e, largest %.2e" % (itself["kl"]["mean"], itself["kl"]["max"]))
sys.exit(1 if bad else 0)
