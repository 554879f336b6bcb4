#!/usr/bin/env python3
"""Golden blocks of every weight type: random bytes and what gguf-py's quants.py makes of them,
and random floats and what it quantises them to; of F8_E4M3, which gguf-py lacks, what ml_dtypes
and torch do. Writes tests/unit/quants.bin and quants.txt.

Layout of quants.bin: records of
    u32 magic 0x51524547, u32 type, u32 kind (0: dequantise, 1: quantise, 2: dequantise many),
    u32 K, then of kinds 0 and 1: u32 n_bytes, n_bytes of blocks, K floats; of kind 2: u32 CRC of
    the K floats that come of the blocks which many() describes
little-endian, floats in bits."""
import hashlib
import importlib.metadata
import os
import struct
import zlib

import ml_dtypes
import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as Q
from gguf.quants import dequantize, quantize

here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "unit")
rng = np.random.default_rng(31)
TYPES = [Q.F16, Q.BF16, Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1, Q.Q8_0, Q.Q2_K, Q.Q3_K, Q.Q4_K, Q.Q5_K,
         Q.Q6_K]
MORE = [Q.IQ4_NL, Q.IQ4_XS, Q.IQ3_S, Q.IQ3_XXS, Q.IQ2_S, Q.IQ2_XS, Q.IQ2_XXS, Q.MXFP4]
F8_E4M3 = 64
# where the f16 scales lie in a block: random bits there would often be infinities
HALVES = {Q.Q4_0: [0], Q.Q4_1: [0, 2], Q.Q5_0: [0], Q.Q5_1: [0, 2], Q.Q8_0: [0],
          Q.Q2_K: [80, 82], Q.Q3_K: [108], Q.Q4_K: [0, 2], Q.Q5_K: [0, 2], Q.Q6_K: [208],
          Q.IQ4_NL: [0], Q.IQ4_XS: [0], Q.IQ3_S: [0], Q.IQ3_XXS: [0], Q.IQ2_S: [0],
          Q.IQ2_XS: [0], Q.IQ2_XXS: [0]}
MANY = 1 << 17                       # weights: every scale, every point of a grid, many times


def record(t, kind, blocks, floats):
    return struct.pack("<5I", 0x51524547, t.value, kind, floats.size, blocks.size) + \
        blocks.tobytes() + floats.astype(np.float32).tobytes()


def blocks_of(t, n):
    elems, size = GGML_QUANT_SIZES[t]
    b = rng.integers(0, 256, (n, size), dtype=np.uint8)
    for at in HALVES.get(t, []):
        h = (rng.standard_normal(n) * 10.0 ** rng.integers(-7, 3, n)).astype(np.float16)
        b[:, at:at + 2] = h.view(np.uint8).reshape(n, 2)
    if t in (Q.F16, Q.BF16):             # finite values only
        b = b.view(np.uint16)
        b[(b & 0x7c00) == 0x7c00] &= 0x83ff
        b = b.view(np.uint8)
    return b


def many(t):
    """n blocks of a generator that C has, too: x = x * A + C from x = type, a byte is its top eight
    bits; of an f16 scale the top bit of the exponent is cleared, so that it is finite."""
    elems, size = GGML_QUANT_SIZES[t]
    n = MANY // elems * size
    x, b = t.value, bytearray(n)
    for i in range(n):
        x = (x * 6364136223846793005 + 1442695040888963407) & (1 << 64) - 1
        b[i] = x >> 56
    b = np.frombuffer(b, np.uint8).reshape(-1, size)
    for at in HALVES.get(t, []):
        b[:, at + 1] &= 0xbf
    crc = zlib.crc32(dequantize(b.reshape(-1), t).astype(np.float32).tobytes())
    return struct.pack("<5I", 0x51524547, t.value, 2, MANY, crc)


def floats_of(k):
    x = rng.standard_normal(k).astype(np.float32) * np.float32(0.02)
    x[:32] = 0                           # a block of zeros
    x[32:64] = np.float32(1.5)           # of equals
    x[64:96] = np.arange(32) - 16        # ties
    x[96:128] = (np.arange(32) - 16) * np.float32(0.5)
    x[128:160] *= np.float32(1e-6)       # scales below the smallest normal half
    x[160:192] *= np.float32(1e4)
    x[192] = np.float32(-3)              # the extreme is negative
    return x


out = b""
for t in TYPES:
    elems = GGML_QUANT_SIZES[t][0]
    b = blocks_of(t, 1024 // elems)
    out += record(t, 0, b, dequantize(b.reshape(-1), t))
    if t in (Q.F16, Q.BF16, Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1, Q.Q8_0):
        x = floats_of(1024)
        out += record(t, 1, quantize(x.reshape(1, -1), t).reshape(-1).view(np.uint8), x)
for t in MORE:
    elems = GGML_QUANT_SIZES[t][0]
    b = blocks_of(t, 512 // elems)
    out += record(t, 0, b, dequantize(b.reshape(-1), t))
for t in TYPES[2:] + MORE:
    out += many(t)


def record8(kind, b, x):
    return struct.pack("<5I", 0x51524547, F8_E4M3, kind, x.size, b.size) + b.tobytes() + \
        x.astype(np.float32).tobytes()


b = np.array([i for i in range(256) if i & 127 != 127], np.uint8)
out += record8(0, b, b.view(ml_dtypes.float8_e4m3fn))
x = np.concatenate([floats_of(256), floats_of(256) * 300, [448, -448, 463.9, -463.9]])
x = torch.from_numpy(x[np.abs(x) < 464].astype(np.float32))
out += record8(1, x.to(torch.float8_e4m3fn).view(torch.uint8).numpy(), x.numpy())
with open(os.path.join(here, "quants.bin"), "wb") as f:
    f.write(out)
with open(os.path.join(here, "quants.txt"), "w") as f:
    f.write("quants.bin: made by tools/golden/quants.py with gguf %s, numpy %s, ml_dtypes %s, "
            "torch %s\nsha256 %s\n" %
            (importlib.metadata.version("gguf"), np.__version__, ml_dtypes.__version__,
             torch.__version__, hashlib.sha256(out).hexdigest()))
