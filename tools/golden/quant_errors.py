#!/usr/bin/env python3
"""The error that ggml_quantize_chunk makes on generated rows: the table `ggml` of tests/unit/test_quant.c.

usage: quant_errors.py LIBGGML_BASE.so SHIM.so        (bench/quant_error.py says how SHIM is linked)

Recorded with llama.cpp as llama-cpp-python 0.3.36 carries it (libggml-base 0.25.3), numpy 2. Rows: 16 of 2,304
weights for each of two kinds; the generator is the test's own.
"""
import ctypes, sys
import numpy as np

TYPES = dict(Q4_0=2, Q4_1=3, Q5_0=6, Q5_1=7, Q8_0=8, Q2_K=10, Q3_K=11, Q4_K=12, Q5_K=13, Q6_K=14, IQ2_XXS=16, IQ2_XS=17,
             IQ3_XXS=18, IQ4_NL=20, IQ3_S=21, IQ2_S=22, IQ4_XS=23, MXFP4=39)
R, K = 16, 2304


def stream(n, seed):
    """Sums of four uniform numbers, -1 … 1."""
    x, out = seed, np.empty(n)
    for i in range(n):
        s = 0.0
        for _ in range(4):
            x = (x * 6364136223846793005 + 1442695040888963407) & (2**64 - 1)
            s += (x >> 40) / 2**24 - 0.5
        out[i] = s / 2
    return out


def main():
    g, d = ctypes.CDLL(sys.argv[1]), ctypes.CDLL(sys.argv[2])
    p, i = ctypes.c_void_p, ctypes.c_int64
    g.ggml_quantize_chunk.argtypes = [ctypes.c_int, p, p, i, i, i, p]
    d.shim_dequant.argtypes = [ctypes.c_int, p, p, i, i]
    d.shim_row_bytes.argtypes, d.shim_row_bytes.restype = [ctypes.c_int, i], i
    v = stream(R * K, 1)
    sets = [v.astype('f').reshape(R, K), (v**3 * 8).astype('f').reshape(R, K)]
    w = (stream(K, 2)**2 + 1e-3).astype('f')
    for n, t in TYPES.items():
        row = []
        for imp in (None, w):
            for x in sets:
                if imp is None and n in ('IQ2_XXS', 'IQ2_XS', 'IQ2_S'):
                    row.append(0.0)
                    continue
                b, y = np.zeros(R * d.shim_row_bytes(t, K), np.uint8), np.zeros((R, K), 'f')
                g.ggml_quantize_chunk(t, x.ctypes.data, b.ctypes.data, 0, R, K, imp.ctypes.data if imp is not None else None)
                d.shim_dequant(t, b.ctypes.data, y.ctypes.data, R, K)
                row.append(float(((x.astype('d') - y)**2 * (imp if imp is not None else 1)).sum()))
        print('    { DT_%s, { %s } },' % (n, ', '.join('%.6g' % e for e in row)))


if __name__ == '__main__':
    main()
