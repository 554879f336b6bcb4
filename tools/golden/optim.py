#!/usr/bin/env python3
"""Golden weights of the optimisers: what torch.optim makes in double precision of generated weights and gradients.
Writes tests/golden/data/optim.bin and optim.txt.

usage: optim.py OUT_FOLDER

optim.bin holds little-endian doubles alone: for each case of CASES and each of its steps the weights (N,), and before
them what torch's own f32 run is away from them (relative L2). The generator and the cases are those of
tests/unit/test_optim.c. torch's Muon turns the gradient into bf16 before its products; here it stays double.
"""
import hashlib, struct, sys
import numpy as np
import torch
import torch.optim._muon as muon_mod

SHAPES = [(12, 20), (20, 8), (16, 16), (20,)]          # at elements 0, 256, 416, 672: multiples of 32
SCALE = 0.37

CASES = [   # name, steps at which weights are kept, optimiser of matrices, of the vector
    ('adamw', (10, 50), ('AdamW', dict(lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)), dict(weight_decay=0)),
    ('adamw-slow', (10, 50), ('AdamW', dict(lr=1e-3, betas=(0.8, 0.999), eps=1e-5, weight_decay=0.01)), dict()),
    ('sgd', (10,), ('SGD', dict(lr=0.05)), dict()),
    ('sgd-momentum', (10,), ('SGD', dict(lr=0.05, momentum=0.9, dampening=0.1, weight_decay=0.01)), dict(weight_decay=0)),
    ('sgd-nesterov', (10,), ('SGD', dict(lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01)), dict()),
    ('muon-original', (10,), ('Muon', dict(lr=0.02, adjust_lr_fn='original')), None),
    ('muon-adamw', (10,), ('Muon', dict(lr=0.002, adjust_lr_fn='match_rms_adamw', momentum=0.9)), None),
    ('muon-heavy', (10,), ('Muon', dict(lr=0.02, adjust_lr_fn='original', nesterov=False, weight_decay=0)), None),
]
REST = dict(lr=1e-3, betas=(0.9, 0.95), eps=1e-8)     # AdamW of Muon's vector; decay 0


def stream(n, seed):
    """n numbers of 24 bits in [-1, 1): exact in f32."""
    x, out = seed, np.empty(n)
    for i in range(n):
        x = (x * 6364136223846793005 + 1442695040888963407) & (2**64 - 1)
        out[i] = ((x >> 40) - 2**23) / 2**23
    return out


def cut(flat, dtype):
    out, at = [], 0
    for s in SHAPES:
        n = int(np.prod(s))
        out.append(torch.tensor(flat[at:at + n].reshape(s), dtype=dtype))
        at += n
    return out


def run(case, dtype):
    _, steps, (kind, opt), vec = case
    n = sum(int(np.prod(s)) for s in SHAPES)
    p = [t.requires_grad_() for t in cut(stream(n, 1), dtype)]
    cls = getattr(torch.optim, kind)
    if kind == 'Muon':
        opts = [cls(p[:3], **opt), torch.optim.AdamW(p[3:], weight_decay=0, **REST)]
    else:
        opts = [cls([dict(params=p[:3]), dict(params=p[3:], **vec)], foreach=False, **opt)]
    kept = []
    for s in range(1, max(steps) + 1):
        for t, g in zip(p, cut(stream(n, 1000 + s), dtype)):
            t.grad = g * SCALE
        for o in opts:
            o.step()
        if s in steps:
            kept.append(np.concatenate([t.detach().double().numpy().ravel() for t in p]))
    return kept


class Wide:                                            # torch, but for the type that Muon narrows to
    bfloat16 = None

    def __getattr__(self, name):
        return getattr(torch, name)


def main():
    out = bytearray()
    for case in CASES:
        both = []
        for dtype in (torch.float64, torch.float32):
            muon_mod.torch = Wide()
            muon_mod.torch.bfloat16 = dtype
            both.append(run(case, dtype))
        for s, a, b in zip(case[1], *both):
            err = float(np.linalg.norm(a - b) / np.linalg.norm(a))
            print('%-14s step %2d: torch f32 is %.2e away' % (case[0], s, err))
            out += struct.pack('<d', err) + a.astype('<f8').tobytes()
    with open(sys.argv[1] + '/optim.bin', 'wb') as f:
        f.write(out)
    with open(sys.argv[1] + '/optim.txt', 'w') as f:
        f.write('optim.bin: made by tools/golden/optim.py with torch %s, numpy %s\nsha256 %s\n' %
                (torch.__version__, np.__version__, hashlib.sha256(out).hexdigest()))


if __name__ == '__main__':
    main()
