#!/usr/bin/env python3
"""Weighted squared error and speed of drover's quantisers beside ggml's, type by type.

usage: quant_error.py LIBGGML_BASE.so [--model SMOLLM2.gguf] [--level L] [--types T,...] [--seed N]

Row sets of 2,304 weights: gaussian, heavy-tailed (Student t, 3 degrees of freedom), and with --model the
tensors of a GGUF file (read by gguf-py) cut anew to rows of 2,304. Importances: chi-square with a heavy
tail, one for each column. Prints the ratio of sum w (x - y)^2, ours over ggml_quantize_chunk's, and ns
of CPU time per weight. Needs numpy, gguf and a build: make, then this script links bench/quant_shim.c.
"""
import argparse, ctypes, os, subprocess, sys, tempfile, time
import numpy as np

TYPES = dict(Q4_0=2, Q4_1=3, Q5_0=6, Q5_1=7, Q8_0=8, Q2_K=10, Q3_K=11, Q4_K=12, Q5_K=13, Q6_K=14, IQ2_XXS=16,
             IQ2_XS=17, IQ3_XXS=18, IQ4_NL=20, IQ3_S=21, IQ2_S=22, IQ4_XS=23, F16=1, BF16=30, MXFP4=39)
MUST_WEIGH = {'IQ2_XXS', 'IQ2_XS', 'IQ2_S'}
K = 2304


def libraries(path):
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    so = os.path.join(tempfile.mkdtemp(), 'shim.so')
    subprocess.check_call(['cc', '-O2', '-shared', '-fPIC', '-I' + root + '/src', '-I' + root + '/include', '-o', so,
                           root + '/bench/quant_shim.c', root + '/build/release/core.a', '-lm'] +
                          '-ljansson -lpcre2-8 -lutf8proc -lz -ldl -lpthread'.split())
    d, g = ctypes.CDLL(so), ctypes.CDLL(path)
    p, i = ctypes.c_void_p, ctypes.c_int64
    d.shim_quant.argtypes = [ctypes.c_char_p, ctypes.c_int, p, p, p, i, i]
    d.shim_dequant.argtypes = [ctypes.c_int, p, p, i, i]
    d.shim_row_bytes.argtypes, d.shim_row_bytes.restype = [ctypes.c_int, i], i
    g.ggml_quantize_chunk.argtypes, g.ggml_quantize_chunk.restype = [ctypes.c_int, p, p, i, i, i, p], ctypes.c_size_t
    return d, g


def row_sets(model, seed, rows):
    rng = np.random.default_rng(seed)
    yield 'gaussian', rng.standard_normal((rows, K)).astype('f') * np.float32(0.02)
    yield 'heavy', rng.standard_t(3, (rows, K)).astype('f') * np.float32(0.02)
    if model:
        from gguf import GGUFReader, dequantize
        want = ['blk.0.attn_q.weight', 'blk.3.attn_v.weight', 'blk.12.ffn_down.weight', 'blk.20.ffn_up.weight',
                'blk.29.attn_output.weight', 'token_embd.weight']
        for t in GGUFReader(model).tensors:
            if t.name in want:
                x = dequantize(t.data, t.tensor_type).astype('f').ravel()
                n = min(len(x) // K, rows)
                yield t.name.replace('.weight', ''), np.ascontiguousarray(x[:n * K].reshape(n, K))


def main():
    a = argparse.ArgumentParser()
    a.add_argument('ggml'); a.add_argument('--model'); a.add_argument('--level', default='')
    a.add_argument('--types'); a.add_argument('--seed', type=int, default=1); a.add_argument('--rows', type=int, default=64)
    a.add_argument('--no-time', action='store_true')
    o = a.parse_args()
    d, g = libraries(o.ggml)
    rng = np.random.default_rng(o.seed + 1000)
    w = (rng.standard_normal(K)**2 * np.exp(rng.standard_normal(K))).astype('f')
    w = np.maximum(w / w.mean(), 1e-6).astype('f')
    names = o.types.split(',') if o.types else list(TYPES)
    sets, worst = list(row_sets(o.model, o.seed, o.rows)), 0
    for n in names:
        t = TYPES[n]
        for imp in (None, w):
            if imp is None and n in MUST_WEIGH: continue
            wp, ratios = imp.ctypes.data if imp is not None else None, []
            ours = theirs = total = 0
            for label, x in sets:
                R, rb = len(x), d.shim_row_bytes(t, K)
                if not rb: break
                err = []
                for who in 'dg':
                    buf, y = np.zeros(R * rb, np.uint8), np.zeros((R, K), 'f')
                    c0 = time.process_time()
                    if who == 'd': rc = d.shim_quant(o.level.encode(), t, x.ctypes.data, wp, buf.ctypes.data, R, K)
                    else: g.ggml_quantize_chunk(t, x.ctypes.data, buf.ctypes.data, 0, R, K, wp)
                    dt = time.process_time() - c0
                    if who == 'd': ours += dt
                    else: theirs += dt
                    assert rc >= 0
                    d.shim_dequant(t, buf.ctypes.data, y.ctypes.data, R, K)
                    e = (x.astype('d') - y)**2
                    err.append(float((e * (imp if imp is not None else 1)).sum()))
                total += R * K
                ratios.append((err[0] / err[1] if err[1] else 1.0, label))
            if not ratios: continue
            worst = max(worst, max(ratios)[0])
            print('%-8s %s  ' % (n, 'weighted' if imp is not None else 'plain   ') +
                  ' '.join('%.4f' % r for r, _ in ratios) +
                  '   %6.2f ns, ggml %7.2f (%.1fx)' % (ours / total * 1e9, theirs / total * 1e9, theirs / max(ours, 1e-9)), flush=True)
    print('sets:', ' '.join(l for l, _ in sets)); print('worst ratio %.4f' % worst)
    return worst > 1.02


if __name__ == '__main__':
    sys.exit(main())
