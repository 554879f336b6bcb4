/* super_body.h - rounding an input for types in blocks of 256: how the scales of its eight blocks
 * of 32 follow from their magnitudes (docs/numerics.md). Everything here is static. */
#include "kern/kern.h"

enum { SUPER_BLOCKS = QSUPER / QBLOCK, SUPER_SHIFT = 7 };

/* amax: the largest magnitude of each block, all: that of the largest block, or NaN. d becomes the
 * powers of two, shift the same as shifts, inv what each block's values are multiplied with. Returns
 * dk. */
static inline float super_scales(float *d, int32_t *shift, float inv[SUPER_BLOCKS],
                                 const float amax[SUPER_BLOCKS], float all)
{
    float base = all > 0 ? 127 / all : 0;
    for (int b = 0; b < SUPER_BLOCKS; b++) {
        int finer = 0;                  /* doublings that keep the block within the largest */
        for (int s = 1; s <= SUPER_SHIFT; s++) finer += amax[b] * (float)(1 << s) <= all;
        shift[b] = SUPER_SHIFT - finer;
        d[b] = (float)(1 << shift[b]);
        inv[b] = base * (float)(1 << finer);
    }
    return all / 127 * 0x1p-7f;
}

/* quant_qk of a level that has largest(x) of 32 values and round_block(q, s16, x, by). */
#define SUPER_QUANT \
static void quant_qk(int8_t *q, float *d, int16_t *s16, float *dk, int32_t *shift, float *dA, \
                     const float *x, int K) \
{ \
    for (int i = 0; i < K / QSUPER; i++) { \
        float amax[SUPER_BLOCKS], inv[SUPER_BLOCKS], all = 0; \
        for (int b = 0; b < SUPER_BLOCKS; b++) { \
            amax[b] = largest(x + b * QBLOCK); \
            /* a NaN stays, whatever comes after it */ \
            if (!(amax[b] <= all) && all == all) all = amax[b]; \
        } \
        dk[i] = super_scales(d, shift, inv, amax, all); \
        for (int b = 0; b < SUPER_BLOCKS; b++, x += QBLOCK, q += QBLOCK, s16 += 2) { \
            round_block(q, s16, x, inv[b]); \
            dA[b] = d[b] * (float)(s16[0] + s16[1]); \
        } \
        d += SUPER_BLOCKS, shift += SUPER_BLOCKS, dA += SUPER_BLOCKS; \
    } \
}
