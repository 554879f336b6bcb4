/* optim_body.h - the optimisers once for all levels, as loops that a compiler turns into the level's
 * vectors: each element is independent, and every operation has one correctly rounded result, so
 * that the bits are those of kern_ref_optim.c. The includer has defined KERN(name).
 *
 * What keeps a loop from becoming vectors is written around: choices between computed values, the
 * largest of floats as the largest of their bits, which have the same order from +0 on. */
#include <math.h>
#include "base/half.h"
#include "kern/kern.h"

enum { LINE = 1024 };           /* elements whose bf16 follow while they are in the first cache */

static void KERN(narrow)(uint16_t *restrict wb, const float *restrict w, int n)
{
    for (int i = 0; i < n; i++) {
        uint32_t u = f32_bits(w[i]), r = (u + 0x7fff + (u >> 16 & 1)) >> 16;
        uint32_t nan = u >> 16 | 0x40;
        wb[i] = (uint16_t)((u & 0x7fffffff) > 0x7f800000 ? nan : r);
    }
}

static void KERN(adamw_line)(float *restrict w, const float *restrict g, float *restrict m,
                             float *restrict v, int n, const step_args *a)
{
    float scale = a->scale, a1 = a->a1, a2 = a->a2, b2 = a->b2, root = a->root, eps = a->eps;
    float step = a->step, keep = a->keep;
    for (int i = 0; i < n; i++) {
        float x = g[i] * scale, mi = fmaf(a1, x - m[i], m[i]);
        float vi = fmaf(a2 * x, x, b2 * v[i]);
        float u = step * (mi / fmaf(sqrtf(vi), root, eps));
        m[i] = mi, v[i] = vi;
        w[i] -= fmaf(keep, w[i], u);
    }
}

static void KERN(adamw)(float *w, uint16_t *wb, const float *g, float *m, float *v, int64_t n,
                        const step_args *a)
{
    for (int64_t i = 0; i < n; i += LINE) {
        int len = n - i < LINE ? (int)(n - i) : LINE;
        KERN(adamw_line)(w + i, g + i, m + i, v + i, len, a);
        if (wb) KERN(narrow)(wb + i, w + i, len);
    }
}

static void KERN(sgd_plain)(float *restrict w, const float *restrict g, int n, const step_args *a)
{
    float scale = a->scale, keep = a->keep, lr = -a->lr;
    for (int i = 0; i < n; i++) w[i] = fmaf(lr, fmaf(keep, w[i], g[i] * scale), w[i]);
}

static void KERN(sgd_momentum)(float *restrict w, const float *restrict g, float *restrict m, int n,
                               const step_args *a)
{
    float scale = a->scale, keep = a->keep, lr = -a->lr, dampen = a->dampen, mu = a->momentum;
    uint32_t first = a->first ? ~0u : 0, nesterov = a->nesterov ? ~0u : 0;
    for (int i = 0; i < n; i++) {
        float x = fmaf(keep, w[i], g[i] * scale), mi = fmaf(dampen, x, mu * m[i]);
        mi = f32_from_bits((f32_bits(x) & first) | (f32_bits(mi) & ~first));
        float u = fmaf(mu, mi, x);
        u = f32_from_bits((f32_bits(u) & nesterov) | (f32_bits(mi) & ~nesterov));
        m[i] = mi;
        w[i] = fmaf(lr, u, w[i]);
    }
}

static void KERN(sgd)(float *w, uint16_t *wb, const float *g, float *m, int64_t n,
                      const step_args *a)
{
    for (int64_t i = 0; i < n; i += LINE) {
        int len = n - i < LINE ? (int)(n - i) : LINE;
        if (m) KERN(sgd_momentum)(w + i, g + i, m + i, len, a);
        else KERN(sgd_plain)(w + i, g + i, len, a);
        if (wb) KERN(narrow)(wb + i, w + i, len);
    }
}

static void KERN(momentum)(float *restrict y, const float *restrict g, float *restrict m, int64_t n,
                           const step_args *a)
{
    float scale = a->scale, dampen = a->dampen, mu = a->momentum;
    uint32_t nesterov = a->nesterov ? ~0u : 0;
    for (int64_t i = 0; i < n; i++) {
        float x = g[i] * scale, mi = fmaf(dampen, x - m[i], m[i]), u = fmaf(mu, mi - x, x);
        m[i] = mi;
        y[i] = f32_from_bits((f32_bits(u) & nesterov) | (f32_bits(mi) & ~nesterov));
    }
}

/* y may be x or z. */
static void KERN(mix)(float *y, float a, const float *x, float b, const float *z, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] = fmaf(a, x[i], b * z[i]);
}

static double KERN(squares)(const float *x, int64_t n)
{
    double P[16] = { 0 };
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int j = 0; j < 16; j++) P[j] += (double)x[i + j] * x[i + j];
    for (int j = 0; i + j < n; j++) P[j] += (double)x[i + j] * x[i + j];
    for (int h = 8; h; h /= 2)
        for (int j = 0; j < h; j++) P[j] += P[j + h];
    return P[0];
}

/* ---- states of eight bits ---- */

/* Bits of an f32 that is 2^-112 of the code's value, subnormals included. */
static inline float KERN(dec)(uint32_t code, int bits)
{
    return f32_from_bits(code << (23 - bits)) * 0x1p112f;
}

/* x in units; add: what comes to its bits below the code's last, and the same of 2^24 */
static inline uint32_t KERN(enc)(float x, int bits, uint32_t add, float r)
{
    uint32_t most = (16u << bits) - 1, u = f32_bits(x);
    u = u < 0x40000000 ? u : 0x40000000;         // 2: what is more is no number
    uint32_t small = (uint32_t)(int32_t)(f32_from_bits(u) * (float)(1 << (14 + bits)) + r);
    uint32_t code = ((u + add) >> (23 - bits)) - ((127u - 15) << bits);
    uint32_t below = 0u - (u < 0x38800000);      // 2^-14
    code = (small & below) | (code & ~below);
    return code < most ? code : most;
}

static void KERN(adamw8_step)(float *restrict w, const float *restrict g,
                              const uint8_t *restrict m8, const uint8_t *restrict v8,
                              float *restrict m, float *restrict s, float mu, float su, int n,
                              const step_args *a)
{
    float scale = a->scale, a1 = a->a1, a2 = a->a2, b2 = a->b2, root = a->root, eps = a->eps;
    float step = a->step, keep = a->keep;
    for (int i = 0; i < n; i++) {
        uint32_t c = m8[i], sign = (c & 128) << 24;
        float mo = f32_from_bits(f32_bits(KERN(dec)(c & 127, 3) * mu) | sign);
        float so = KERN(dec)(v8[i], 4) * su, x = g[i] * scale;
        float mi = fmaf(a1, x - mo, mo), vi = fmaf(a2 * x, x, b2 * (so * so)), si = sqrtf(vi);
        float u = step * (mi / fmaf(si, root, eps));
        m[i] = mi, s[i] = si;
        w[i] -= fmaf(keep, w[i], u);
    }
}

/* The largest magnitude. */
static float KERN(top)(const float *x, int n)
{
    uint32_t t = 0;
    for (int i = 0; i < n; i++) {
        uint32_t u = f32_bits(x[i]) & 0x7fffffff;
        t = u > t ? u : t;
    }
    return f32_from_bits(t);
}

/* Codes in dwords first: mixed with bytes, the loop stays scalar. */
static void KERN(adamw8_keep)(uint8_t *restrict m8, uint8_t *restrict v8, const float *restrict m,
                              const float *restrict s, float mi, float si, uint32_t at, int n)
{
    uint32_t cm[STEP_BLOCK], cs[STEP_BLOCK];
    for (int i = 0; i < n; i++) {
        uint32_t h = (at + (uint32_t)i) * 0x9e3779b1u, bits = f32_bits(m[i] * mi);
        h = (h ^ h >> 16) * 0x85ebca6bu;
        h = (h ^ h >> 13) * 0xc2b2ae35u;
        h = (h ^ h >> 16) >> 8;
        uint32_t a = KERN(enc)(f32_from_bits(bits & 0x7fffffff), 3, 1 << 19, 0.5f);
        uint32_t b = KERN(enc)(s[i] * si, 4, h >> 5, (float)(int32_t)h * 0x1p-24f);
        uint32_t low = f32_bits(s[i]) < 1 ? f32_bits(s[i]) : 1;      // never 0 for what is not
        cm[i] = a | (bits >> 24 & 128);
        cs[i] = b > low ? b : low;
    }
    for (int i = 0; i < n; i++) m8[i] = (uint8_t)cm[i];
    for (int i = 0; i < n; i++) v8[i] = (uint8_t)cs[i];
}

static void KERN(adamw8)(float *w, uint16_t *wb, const float *g, uint8_t *m8, uint8_t *v8,
                         float *m_max, float *v_max, uint32_t at, int64_t n, const step_args *a)
{
    float m[STEP_BLOCK], s[STEP_BLOCK];
    for (int64_t i = 0; i < n; i += STEP_BLOCK, m_max++, v_max++) {
        int len = n - i < STEP_BLOCK ? (int)(n - i) : STEP_BLOCK;
        KERN(adamw8_step)(w + i, g + i, m8 + i, v8 + i, m, s, *m_max / 1.875f, *v_max / 1.9375f,
                          len, a);
        float mm = KERN(top)(m, len), sm = KERN(top)(s, len);
        *m_max = mm, *v_max = sm;
        KERN(adamw8_keep)(m8 + i, v8 + i, m, s, mm > 0 ? 1.875f / mm : 0, sm > 0 ? 1.9375f / sm : 0,
                          at + (uint32_t)i + a->seed, len);
        if (wb) KERN(narrow)(wb + i, w + i, len);
    }
}

static void KERN(fill_optim)(kern *k)
{
    k->adamw = KERN(adamw);
    k->adamw8 = KERN(adamw8);
    k->sgd = KERN(sgd);
    k->momentum = KERN(momentum);
    k->mix = KERN(mix);
    k->squares = KERN(squares);
}
