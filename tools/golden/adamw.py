#!/usr/bin/env python3
"""50 steps of AdamW on whole models, in float64 and as torch does them at float32, for tests/golden/adamw.c.

usage: adamw.py OUTDIR [--large]        tests/golden/data holds what `adamw.py tests/golden/data` makes

Model, weights and their hash are train.py's; so is the float64 forward. Each step takes one of four batches in turn;
warm-up and cosine, clipping by the global norm, decay of matrices but not of norms. adamw.json has the loss and the
norm of every step and how far torch's float32 run (transformers, torch.optim.AdamW) is away; adamw_NAME.bin every
STRIDEth weight of each tensor after steps 10 and 50, doubles.
Made with torch 2.15.0, transformers 5.23.0, numpy 2.4.6."""
import json, math, os, sys
import numpy as np
import torch
import train as T

STEPS, KEPT = 50, (10, 50)
LR, END, WARMUP, CLIP, DECAY, BETAS, ADAM_EPS = 3e-3, 3e-4, 5, 1.0, 0.1, (0.9, 0.95), 1e-8
SMALL = [
    dict(name="w64", V=96, C=64, L=2, nh=4, nkv=2, hs=16, F=160, tied=False, theta=5e5, rope=T.LLAMA3,
         docs=[40, 3, 70, 15], stride=31),
    dict(name="w64t", V=80, C=64, L=2, nh=2, nkv=1, hs=32, F=128, tied=True, theta=1e4, rope=None,
         docs=[128], stride=31),
]
LARGE = [
    dict(name="smol4", V=4096, C=576, L=4, nh=9, nkv=3, hs=64, F=1536, tied=True, theta=1e5, rope=None,
         docs=[100, 7, 149], stride=307),
    dict(name="deep", V=500, C=256, L=8, nh=4, nkv=2, hs=64, F=704, tied=False, theta=5e5, rope=T.LLAMA3,
         docs=[200, 1, 55], stride=151),
]


def batch(c, step):
    n = sum(c["docs"])
    tok = (T.hash32(2000 + step % 4, n) % np.uint32(c["V"])).astype(np.int64)
    tgt = np.full(n, -1, np.int64)
    at = 0
    for d in c["docs"]:
        tgt[at:at + d - 1] = tok[at + 1:at + d]
        at += d
    return tok, tgt


def rate(s):
    if s < WARMUP:
        return LR * (s + 1) / WARMUP
    return END + (LR - END) * 0.5 * (1 + math.cos(math.pi * (s - WARMUP) / (STEPS - WARMUP)))


def steps(c, params, logits_of):
    """Mean losses, norms, weights at KEPT."""
    mats = [p for p in params.values() if p.dim() == 2]
    vecs = [p for p in params.values() if p.dim() == 1]
    o = torch.optim.AdamW([dict(params=mats, weight_decay=DECAY), dict(params=vecs, weight_decay=0)],
                          betas=BETAS, eps=ADAM_EPS)
    losses, norms, kept = [], [], []
    for s in range(STEPS):
        for g in o.param_groups:
            g["lr"] = rate(s)
        o.zero_grad()
        tok, tgt = batch(c, s)
        count, total, at = int((tgt >= 0).sum()), 0.0, 0
        for d in c["docs"]:
            t, y = torch.from_numpy(tok[at:at + d]), torch.from_numpy(tgt[at:at + d])
            at += d
            if d < 2:
                continue
            loss = torch.nn.functional.cross_entropy(logits_of(t), y, ignore_index=-1, reduction="sum") / count
            loss.backward()
            total += float(loss.detach())
        losses.append(total)
        norms.append(float(torch.nn.utils.clip_grad_norm_(list(params.values()), CLIP)))
        o.step()
        if s + 1 in KEPT:
            kept.append(np.concatenate([p.detach().double().numpy().ravel()[::c["stride"]] for p in params.values()]))
    return losses, norms, kept


def main():
    out, cases = sys.argv[1], LARGE if "--large" in sys.argv else SMALL
    os.makedirs(out, exist_ok=True)
    table = []
    for c in cases:
        w = T.weights(c)
        cos, sin = T.rope_table(c, max(c["docs"]))
        p64 = {n: torch.from_numpy(a).double().requires_grad_() for n, a in w.items()}
        l64, n64, k64 = steps(c, p64, lambda t: T.forward64(c, p64, t, cos, sin))
        f32, p32 = T.hf(c, w, False)
        l32, n32, k32 = steps(c, p32, f32)
        off_l = [max(abs(a - b) for a, b in zip(l32[:k], l64[:k])) for k in KEPT]
        off_w = [T.rel(a, b) for a, b in zip(k32, k64)]
        table.append(c | dict(std=T.STD, eps=T.EPS, ctx=T.CTX, weighted=False, loss=l64, norm=n64, torch_loss=off_l,
                              torch_weights=off_w))
        np.concatenate(k64).astype("<f8").tofile(os.path.join(out, f"adamw_{c['name']}.bin"))
        print(f"{c['name']}: loss {l64[0]:.4f} -> {l64[9]:.4f} -> {l64[49]:.4f}, norms {max(n64):.3f} to {min(n64):.3f}; "
              f"torch float32: losses {off_l}, weights {off_w}")
    with open(os.path.join(out, "adamw.json"), "w") as f:
        json.dump(dict(torch=torch.__version__, steps=STEPS, lr=LR, end=END, warmup=WARMUP, clip=CLIP, decay=DECAY,
                       cases=table), f, indent=1)


main()
