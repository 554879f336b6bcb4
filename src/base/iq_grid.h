/* iq_grid.h - the constants of the IQ and MX formats: lattices of the IQ2 and IQ3 types, values
 * of four-bit codes, signs of seven bits.
 *
 * A point of a lattice is eight (IQ2) or four (IQ3) magnitudes; a block says which point, and the
 * sign of each. `_grid` has a point's magnitudes as the bytes of a word, value i in bits 8i..8i+7.
 * `_code` has the same as places among the type's few magnitudes, for kernels that look bytes up
 * in registers: [0][p] has the first half of point p's values, [1][p] the second, value i of a
 * half in bits 2i (IQ2: 8, 25, 43) or 3i (IQ3_XXS: 4, 12, 20, 28, 36, 44, 52, 62; IQ3_S: 1, 3, ...
 * 15). Ref: gguf-py quants.py. */
#ifndef BASE_IQ_GRID_H
#define BASE_IQ_GRID_H
#include <stdint.h>

extern const uint64_t iq2_xxs_grid[256], iq2_xs_grid[512], iq2_s_grid[1024];
extern const uint32_t iq3_xxs_grid[256], iq3_s_grid[512];
extern const uint8_t iq2_xxs_code[2][256], iq2_xs_code[2][512], iq2_s_code[2][1024];
extern const uint8_t iq3_xxs_code[2][256], iq3_s_code[2][512];

/* What the four bits of IQ4_NL and IQ4_XS, and of MXFP4 (twice OCP's E2M1), stand for. */
#define IQ4_VALUES -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113
#define MXFP4_VALUES 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12

/* Eight signs from the seven bits stored: the number of minuses is even. Bit i: value i < 0. */
extern const uint8_t iq_sign_table[128];
static inline uint8_t iq_signs(unsigned seven) { return iq_sign_table[seven]; }
#endif
