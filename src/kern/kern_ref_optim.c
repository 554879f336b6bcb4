/* kern_ref_optim.c - the optimisers as docs/numerics.md writes them, one element at a time. */
#include <math.h>
#include "base/half.h"
#include "kern/kern.h"

static void round_bf16(uint16_t *wb, const float *w, int64_t n)
{
    for (int64_t i = 0; wb && i < n; i++) wb[i] = f32_to_bf16(w[i]);
}

/* The new weight of an old one, from both moments. */
static float adamw_w(float w, float m, float v, const step_args *a)
{
    float u = a->step * (m / fmaf(sqrtf(v), a->root, a->eps));
    return w - fmaf(a->keep, w, u);
}

static void adamw(float *w, uint16_t *wb, const float *g, float *m, float *v, int64_t n,
                  const step_args *a)
{
    for (int64_t i = 0; i < n; i++) {
        float x = g[i] * a->scale;
        m[i] = fmaf(a->a1, x - m[i], m[i]);
        v[i] = fmaf(a->a2 * x, x, a->b2 * v[i]);
        w[i] = adamw_w(w[i], m[i], v[i], a);
    }
    round_bf16(wb, w, n);
}

static void sgd(float *w, uint16_t *wb, const float *g, float *m, int64_t n, const step_args *a)
{
    for (int64_t i = 0; i < n; i++) {
        float x = fmaf(a->keep, w[i], g[i] * a->scale), u = x;
        if (m) {
            m[i] = a->first ? x : fmaf(a->dampen, x, a->momentum * m[i]);
            u = a->nesterov ? fmaf(a->momentum, m[i], x) : m[i];
        }
        w[i] = fmaf(-a->lr, u, w[i]);
    }
    round_bf16(wb, w, n);
}

static void momentum(float *y, const float *g, float *m, int64_t n, const step_args *a)
{
    for (int64_t i = 0; i < n; i++) {
        float x = g[i] * a->scale;
        m[i] = fmaf(a->dampen, x - m[i], m[i]);
        y[i] = a->nesterov ? fmaf(a->momentum, m[i] - x, x) : m[i];
    }
}

static void mix(float *y, float a, const float *x, float b, const float *z, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] = fmaf(a, x[i], b * z[i]);
}

/* Sixteen sums in double, i mod 16 ascending, added by halves. */
static double squares(const float *x, int64_t n)
{
    double P[16] = { 0 };
    for (int64_t i = 0; i < n; i++) P[i % 16] += (double)x[i] * x[i];
    for (int h = 8; h; h /= 2)
        for (int i = 0; i < h; i++) P[i] += P[i + h];
    return P[0];
}

/* ---- states of eight bits ---- */

/* m: a sign and a float of 4 bits of exponent and 3 of mantissa, in units of the block's largest / 1.875.
 * v: the root, in 4 bits of exponent and 4 of mantissa, in units of the largest root / 1.9375. */

static float dec(int code, int bits, float unit)
{
    int e = code >> bits, f = code & ((1 << bits) - 1);
    float x = e ? ldexpf((float)(f + (1 << bits)), e - 15 - bits) : ldexpf((float)f, -14 - bits);
    return x * unit;
}

/* x >= 0 in units; r in [0,1): what is added below the last bit before it is cut off. */
static int enc(float x, int bits, float r)
{
    int most = (16 << bits) - 1, code;
    if (x < 0x1p-14f) code = (int)(x * ldexpf(1, 14 + bits) + r);
    else code = (int)((f32_bits(x) + (uint32_t)(r * (float)(1 << (23 - bits)))) >> (23 - bits)) -
                ((127 - 15) << bits);
    return code < most ? code : most;
}

/* A number in [0,1) with 24 bits that depends on the element and the step alone. */
static float noise(uint32_t seed, uint32_t at)
{
    uint32_t h = (at + seed) * 0x9e3779b1u;
    h = (h ^ h >> 16) * 0x85ebca6bu;
    h = (h ^ h >> 13) * 0xc2b2ae35u;
    return (float)((h ^ h >> 16) >> 8) * 0x1p-24f;
}

static void adamw8_block(float *w, const float *g, uint8_t *m8, uint8_t *v8, float *m_max,
                         float *v_max, uint32_t at, int n, const step_args *a)
{
    float m[STEP_BLOCK], s[STEP_BLOCK], mm = 0, sm = 0;
    float mu = *m_max / 1.875f, su = *v_max / 1.9375f;
    for (int i = 0; i < n; i++) {
        float x = g[i] * a->scale, mo = dec(m8[i] & 127, 3, mu), so = dec(v8[i], 4, su);
        if (m8[i] & 128) mo = -mo;
        m[i] = fmaf(a->a1, x - mo, mo);
        float v = fmaf(a->a2 * x, x, a->b2 * (so * so));
        w[i] = adamw_w(w[i], m[i], v, a);
        s[i] = sqrtf(v);
        if (fabsf(m[i]) > mm) mm = fabsf(m[i]);
        if (s[i] > sm) sm = s[i];
    }
    *m_max = mm, *v_max = sm;
    float mi = mm > 0 ? 1.875f / mm : 0, si = sm > 0 ? 1.9375f / sm : 0;
    for (int i = 0; i < n; i++) {
        int cm = enc(fabsf(m[i]) * mi, 3, 0.5f), cs = enc(s[i] * si, 4, noise(a->seed, at + (uint32_t)i));
        m8[i] = (uint8_t)(cm | (signbit(m[i]) ? 128 : 0));
        v8[i] = (uint8_t)(cs || s[i] == 0 ? cs : 1);     // never 0 below a moment that is not
    }
}

static void adamw8(float *w, uint16_t *wb, const float *g, uint8_t *m, uint8_t *v, float *m_max,
                   float *v_max, uint32_t at, int64_t n, const step_args *a)
{
    for (int64_t i = 0; i < n; i += STEP_BLOCK) {
        int len = n - i < STEP_BLOCK ? (int)(n - i) : STEP_BLOCK;
        adamw8_block(w + i, g + i, m + i, v + i, &m_max[i / STEP_BLOCK], &v_max[i / STEP_BLOCK],
                     at + (uint32_t)i, len, a);
    }
    round_bf16(wb, w, n);
}

void kern_init_ref_optim(kern *k);
void kern_init_ref_optim(kern *k)
{
    k->adamw = adamw;
    k->adamw8 = adamw8;
    k->sgd = sgd;
    k->momentum = momentum;
    k->mix = mix;
    k->squares = squares;
}
