/* quant_plain_body.h - blocks of thirty-two by their range alone, no search: the bits of gguf-py's
 * quants.py, which are llama.cpp's without an importance matrix. The lanes are sixteen values of
 * one block here. Included before quant_body.h. */
#include <string.h>
#include "base/block.h"
#include "base/half.h"

static inline float plain_inverse(float d) { return d == 0 ? 0 : 1 / d; }

/* The value of largest magnitude, with its sign; the first of equals. */
static inline float plain_extreme(const float *x)
{
    lf a = l_abs(l_load(x)), b = l_abs(l_load(x + 16));
    lf top = l_set(l_most(l_max(a, b)));
    unsigned below = l_mask(l_lt(a, top)) | l_mask(l_lt(b, top)) << 16;
    return below == ~0u ? 0 : x[__builtin_ctz(~below)];
}

static inline void plain_range(const float *x, float *lo, float *hi)
{
    lf a = l_load(x), b = l_load(x + 16), none = l_set(0);
    *hi = l_most(l_max(a, b));
    *lo = 0 - l_most(l_max(l_sub(none, a), l_sub(none, b)));      // never -0
}

/* Integers 0..top of one half: (x - lo) id + up, cut. */
static inline lf plain_code(const float *x, float lo, float id, float up, float top)
{
    lf v = l_mul(l_sub(l_load(x), l_set(lo)), l_set(id));
    return l_min(l_floor(l_add(v, l_set(up))), l_set(top));
}

static inline void plain_put_4(uint8_t *qs, lf a, lf b)
{
    l_bytes(qs, l_fma(b, l_set(16), a));
}

static inline void plain_put_5(uint8_t *qh, uint8_t *qs, lf a, lf b)
{
    lf half = l_set(15.5f), sixteen = l_set(16);
    lm ha = l_lt(half, a), hb = l_lt(half, b);
    uint32_t h = l_mask(ha) | (uint32_t)l_mask(hb) << 16;
    plain_put_4(qs, l_sel(ha, l_sub(a, sixteen), a), l_sel(hb, l_sub(b, sixteen), b));
    for (int i = 0; i < 4; i++) qh[i] = (uint8_t)(h >> 8 * i);
}

/* A half at p. Blocks are written where they lie: a copy of one that was just put together from
 * pieces would wait for its stores. */
static inline void plain_half(uint8_t *p, float d)
{
    uint16_t h = f32_to_f16(d);
    memcpy(p, &h, sizeof h);
}

static void plain_q4_0(void *dst, const float *x, int64_t n)
{
    uint8_t *p = dst;
    for (int64_t i = 0; i < n; i++, x += 32, p += sizeof(block_q4_0)) {
        float d = plain_extreme(x) / -8, id = plain_inverse(d);
        plain_half(p, d);
        plain_put_4(p + 2, plain_code(x, 0, id, 8.5f, 15), plain_code(x + 16, 0, id, 8.5f, 15));
    }
}

static void plain_q4_1(void *dst, const float *x, int64_t n)
{
    uint8_t *p = dst;
    for (int64_t i = 0; i < n; i++, x += 32, p += sizeof(block_q4_1)) {
        float lo, hi;
        plain_range(x, &lo, &hi);
        float d = (hi - lo) / 15, id = plain_inverse(d);
        plain_half(p, d);
        plain_half(p + 2, lo);
        plain_put_4(p + 4, plain_code(x, lo, id, 0.5f, 15), plain_code(x + 16, lo, id, 0.5f, 15));
    }
}

static void plain_q5_0(void *dst, const float *x, int64_t n)
{
    uint8_t *p = dst;
    for (int64_t i = 0; i < n; i++, x += 32, p += sizeof(block_q5_0)) {
        float d = plain_extreme(x) / -16, id = plain_inverse(d);
        plain_half(p, d);
        plain_put_5(p + 2, p + 6, plain_code(x, 0, id, 16.5f, 31),
                    plain_code(x + 16, 0, id, 16.5f, 31));
    }
}

static void plain_q5_1(void *dst, const float *x, int64_t n)
{
    uint8_t *p = dst;
    for (int64_t i = 0; i < n; i++, x += 32, p += sizeof(block_q5_1)) {
        float lo, hi;
        plain_range(x, &lo, &hi);
        float d = (hi - lo) / 31, id = plain_inverse(d);
        plain_half(p, d);
        plain_half(p + 2, lo);
        plain_put_5(p + 4, p + 8, plain_code(x, lo, id, 0.5f, 31),
                    plain_code(x + 16, lo, id, 0.5f, 31));
    }
}

/* Sixteen values as signed bytes; halves go away from zero. */
static inline void plain_put_8(uint8_t *q, lf x, float id)
{
    lf v = l_mul(x, l_set(id)), a = l_abs(v), t = l_floor(l_add(a, l_set(0.5f)));
    t = l_sel(l_lt(l_set(0.5f), l_sub(t, a)), l_sub(t, l_set(1)), t);     // a + 0.5 was rounded up
    t = l_min(t, l_set(127));
    lm minus = l_lt(l_mul(v, t), l_set(0));                               // and not rounded to 0
    l_bytes(q, l_sel(minus, l_sub(l_set(256), t), t));
}

static void QUANT(q8_0)(void *dst, const float *x, const float *w, int64_t rows, int64_t K)
{
    uint8_t *p = dst;
    (void)w;                                     /* 127 steps: there is nothing to search for */
    for (int64_t i = 0; i < rows * K / 32; i++, x += 32, p += sizeof(block_q8_0)) {
        float d = l_most(l_max(l_abs(l_load(x)), l_abs(l_load(x + 16)))) / 127;
        float id = plain_inverse(d);
        plain_half(p, d);
        plain_put_8(p + 2, l_load(x), id);
        plain_put_8(p + 18, l_load(x + 16), id);
    }
}
