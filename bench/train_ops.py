#!/usr/bin/env python3
"""Operations of training, drover's beside PyTorch's, in turn (drover, PyTorch, drover, ...), by the
processor time of all threads: gradcheck --bench and the same work here.

    bench/train_ops.py [--shape 135M] [--rounds 3] [--threads 1] [--gradcheck build/release/tests/grad/gradcheck]

Needs PyTorch. Prints medians in milliseconds and the median of the rounds' own ratios. One thread: on a
busy machine several threads' waiting for each other counts as processor time.
"""
import argparse
import statistics
import subprocess
import time

import torch
import torch.nn.functional as F

N, DOC = 2048, 512
SHAPES = {"135M": (576, 1536, 49152, 9, 3, 64), "12x768": (768, 2048, 50304, 12, 12, 64)}


def timed(fn):
    fn()
    times = []
    while len(times) < 99 and (len(times) < 3 or sum(times) < 1):
        a = time.process_time()
        fn()
        times.append(time.process_time() - a)
    return statistics.median(times) * 1e3


def pytorch(shape, kind):
    """Milliseconds by operation; gradients by autograd, without the forward pass."""
    C, FF, V, nh, nkv, hs = SHAPES[shape]
    dt = torch.bfloat16 if kind == "bf16" else torch.float32
    out = {}

    def rand(*s):
        return torch.randn(*s).to(dt)

    for name, rows, K in (("wq", nh * hs, C), ("w1", FF, C), ("w2", C, FF)):
        x, w, dy = rand(N, K), rand(rows, K), rand(N, rows)
        out[f"{name} forward"] = timed(lambda: x @ w.T)
        out[f"{name} dx"] = timed(lambda: dy @ w)
        out[f"{name} dw"] = timed(lambda: dy.T @ x)

    def backward(y, dy, inputs):
        return lambda: torch.autograd.grad(y, inputs, dy, retain_graph=True)

    B = N // DOC
    q = rand(B, nh, DOC, hs).requires_grad_()
    k = rand(B, nkv, DOC, hs).requires_grad_()
    v = rand(B, nkv, DOC, hs).requires_grad_()

    def attn():
        return F.scaled_dot_product_attention(
            q, k.repeat_interleave(nh // nkv, 1), v.repeat_interleave(nh // nkv, 1), is_causal=True)

    with torch.no_grad():
        out["attention forward"] = timed(attn)
    y = attn()
    out["attention backward"] = timed(backward(y, torch.randn_like(y), (q, k, v)))

    x = rand(N, C).requires_grad_()
    w = (rand(V, C) * 0.05).requires_grad_()
    t = torch.arange(N) * 97 % V

    def head():
        loss = F.cross_entropy((x @ w.T).float(), t, reduction="sum")
        torch.autograd.grad(loss, (x, w))

    out["head and loss"] = timed(head)
    g = torch.ones(C, dtype=dt, requires_grad=True)
    with torch.no_grad():
        out["norm forward"] = timed(lambda: F.rms_norm(x, (C,), g, 1e-5))
    y = F.rms_norm(x, (C,), g, 1e-5)
    out["norm backward"] = timed(backward(y, torch.randn_like(y), (x, g)))
    a, b = rand(N, FF).requires_grad_(), rand(N, FF).requires_grad_()
    with torch.no_grad():
        out["swiglu forward"] = timed(lambda: F.silu(a) * b)
    y = F.silu(a) * b
    out["swiglu backward"] = timed(backward(y, torch.randn_like(y), (a, b)))
    e = F.embedding(t, w)
    out["embedding backward"] = timed(backward(e, torch.randn_like(e), (w,)))
    return out


def drover(gradcheck, shape, threads):
    out = {}
    lines = subprocess.run([gradcheck, "--bench", shape, str(threads)], check=True, text=True,
                           capture_output=True)
    for line in lines.stdout.splitlines():
        cell = line.split("\t")
        out[cell[1], cell[2]] = (float(cell[3].split()[0]), cell[5] if len(cell) > 5 else "")
    return out


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--shape", default="135M", choices=SHAPES)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--gradcheck", default="build/release/tests/grad/gradcheck")
    o = p.parse_args()
    torch.set_num_threads(o.threads)
    ours, theirs = [], []
    for _ in range(o.rounds):
        ours.append(drover(o.gradcheck, o.shape, o.threads))
        theirs.append({(kind, op): ms for kind in ("f32", "bf16") for op, ms in pytorch(o.shape, kind).items()})
    print(f"{o.shape}, {N} rows in documents of {DOC}, {o.threads} threads, PyTorch {torch.__version__}, "
          f"{o.rounds} rounds")
    print("| type | operation | drover ms | of the peak | PyTorch ms | ratio |\n|---|---|---|---|---|---|")
    for key in ours[0]:
        if key not in theirs[0]:
            continue
        a, b = [r[key][0] for r in ours], [r[key] for r in theirs]
        share = statistics.median(int(r[key][1].split()[0]) for r in ours) if ours[0][key][1] else ""
        ratio = statistics.median(y / x for x, y in zip(a, b))
        print(f"| {key[0]} | {key[1]} | {statistics.median(a):.2f} | {share}{' %' if share else ''} | "
              f"{statistics.median(b):.2f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
