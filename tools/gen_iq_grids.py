#!/usr/bin/env python3
"""Write src/base/iq_grid_data.c: the lattices of the IQ2 and IQ3 types, which are constants of the
file format, out of gguf-py's own tables (pip install gguf). Never needed to build.

usage: tools/gen_iq_grids.py > src/base/iq_grid_data.c"""
import importlib.metadata

import numpy as np
from gguf import quants as q

# name, its class, values of a point, bits a value has as a code
GRIDS = [("iq2_xxs", q.IQ2_XXS, 8, 2), ("iq2_xs", q.IQ2_XS, 8, 2), ("iq2_s", q.IQ2_S, 8, 2),
         ("iq3_xxs", q.IQ3_XXS, 4, 3), ("iq3_s", q.IQ3_S, 4, 3)]

print("/* iq_grid_data.c - see iq_grid.h. Made by tools/gen_iq_grids.py from gguf %s; do not edit."
      % importlib.metadata.version("gguf"))
print(""" *
 * Each list has a point as one number, value i at bits 2i (IQ2) or 3i (IQ3) as its place among the
 * type's values; the tables below spell them out. */
#include "base/iq_grid.h"
""")
for name, cls, n, bits in GRIDS:
    cls.init_grid()
    points = cls.grid.reshape(-1, n).astype(int)
    place = {v: i for i, v in enumerate(cls.grid_map)}
    codes = [sum(place[v] << bits * i for i, v in enumerate(p)) for p in points]
    print("#define %s(X) \\" % name.upper())
    for i in range(0, len(codes), 8):
        end = " \\" if i + 8 < len(codes) else "\n"
        print("    " + " ".join("X(0x%0*x)" % (n * bits // 4, c) for c in codes[i:i + 8]) + end)

two, three = q.IQ2_XXS.grid_map, q.IQ3_XXS.grid_map
assert two == (8, 25, 43) and q.IQ2_XS.grid_map == two and q.IQ2_S.grid_map == two
assert three == (4, 12, 20, 28, 36, 44, 52, 62)
assert q.IQ3_S.grid_map == tuple(range(1, 16, 2))
print("""/* 8, 25, 43; 4, 12, 20 ... 52, 62; 1, 3, 5 ... 15 */
#define TWO(c, i) (uint64_t)(8 + ((c) >> 2 * (i) & 3) * 17 + ((c) >> 2 * (i) & 3) / 2) << 8 * (i)
#define TWO8(c) (TWO(c, 0) | TWO(c, 1) | TWO(c, 2) | TWO(c, 3) | \\
                 TWO(c, 4) | TWO(c, 5) | TWO(c, 6) | TWO(c, 7)),
#define XXS(c, i) (uint32_t)(4 + ((c) >> 3 * (i) & 7) * 8 + ((c) >> 3 * (i) & 7) / 7 * 2) << 8 * (i)
#define XXS4(c) (XXS(c, 0) | XXS(c, 1) | XXS(c, 2) | XXS(c, 3)),
#define S(c, i) (uint32_t)(1 + ((c) >> 3 * (i) & 7) * 2) << 8 * (i)
#define S4(c) (S(c, 0) | S(c, 1) | S(c, 2) | S(c, 3)),
/* halves of a code: four values of IQ2, two of IQ3 */
#define LO8(c) (c) & 255,
#define HI8(c) (c) >> 8,
#define LO6(c) (c) & 63,
#define HI6(c) (c) >> 6,

#define GRID(type, name, LIST, POINT, LO, HI) \\
const type name##_grid[] = { LIST(POINT) }; \\
_Alignas(64) const uint8_t name##_code[2][sizeof name##_grid / sizeof *name##_grid] = { \\
    { LIST(LO) }, { LIST(HI) } \\
}
GRID(uint64_t, iq2_xxs, IQ2_XXS, TWO8, LO8, HI8);
GRID(uint64_t, iq2_xs, IQ2_XS, TWO8, LO8, HI8);
GRID(uint64_t, iq2_s, IQ2_S, TWO8, LO8, HI8);
GRID(uint32_t, iq3_xxs, IQ3_XXS, XXS4, LO6, HI6);
GRID(uint32_t, iq3_s, IQ3_S, S4, LO6, HI6);

/* Eight signs by seven of them: minuses are even in number. */
_Alignas(64) const uint8_t iq_sign_table[128] = {""")
signs = list(q.IQ2_XXS.ksigns)
for i in range(0, 128, 16):
    print("    " + " ".join("0x%02x," % s for s in signs[i:i + 16]))
print("};")
