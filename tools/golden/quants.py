#!/usr/bin/env python3
"""Golden blocks of every weight type: random bytes and what gguf-py's quants.py makes of them,
and random floats and what it quantises them to. Writes tests/unit/quants.bin and quants.txt.

Layout of quants.bin: records of
    u32 magic 0x51524547, u32 type, u32 kind (0: dequantise, 1: quantise), u32 K,
    u32 n_bytes, n_bytes of blocks, K floats
little-endian, floats in bits."""
import hashlib
import importlib.metadata
import os
import struct

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as Q
from gguf.quants import dequantize, quantize

here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "unit")
rng = np.random.default_rng(31)
TYPES = [Q.F16, Q.BF16, Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1, Q.Q8_0, Q.Q2_K, Q.Q3_K, Q.Q4_K, Q.Q5_K,
         Q.Q6_K]
# where the f16 scales lie in a block: random bits there would often be infinities
HALVES = {Q.Q4_0: [0], Q.Q4_1: [0, 2], Q.Q5_0: [0], Q.Q5_1: [0, 2], Q.Q8_0: [0],
          Q.Q2_K: [80, 82], Q.Q3_K: [108], Q.Q4_K: [0, 2], Q.Q5_K: [0, 2], Q.Q6_K: [208]}


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
with open(os.path.join(here, "quants.bin"), "wb") as f:
    f.write(out)
with open(os.path.join(here, "quants.txt"), "w") as f:
    f.write("quants.bin: made by tools/golden/quants.py with gguf %s, numpy %s\nsha256 %s\n" %
            (importlib.metadata.version("gguf"), np.__version__, hashlib.sha256(out).hexdigest()))
