/* quant.c - see quant.h; block.h has the layouts, dequant.c is the way back. */
#include "format/quant.h"
#include <math.h>
#include <string.h>
#include "base/block_pack.h"
#include "base/err.h"
#include "base/half.h"

static float inverse(float d) { return d == 0 ? 0 : 1 / d; }

/* v cut to an integer 0..top; NaN gives 0. */
static int cut(float v, int top)
{
    if (!(v > 0)) return 0;
    return v >= (float)top ? top : (int)v;
}

/* v rounded to the nearest integer lo..hi; NaN gives lo. */
static int near_int(float v, int lo, int hi)
{
    if (!(v > (float)lo)) return lo;
    if (v >= (float)hi) return hi;
    return (int)floorf(v + 0.5f);
}

/* The value of largest magnitude, with its sign; the first of equals. */
static float extreme(const float *x, int n)
{
    float best = x[0];
    for (int i = 1; i < n; i++)
        if (fabsf(x[i]) > fabsf(best)) best = x[i];
    return best;
}

static void range(const float *x, int n, float *lo, float *hi)
{
    *lo = *hi = x[0];
    for (int i = 1; i < n; i++) {
        if (x[i] < *lo) *lo = x[i];
        if (x[i] > *hi) *hi = x[i];
    }
}

static void q4_0(const float *x, block_q4_0 *b)
{
    float d = extreme(x, 32) / -8, id = inverse(d);
    b->d = f32_to_f16(d);
    for (int j = 0; j < 16; j++)
        b->qs[j] = (uint8_t)(cut(x[j] * id + 8.5f, 15) | cut(x[j + 16] * id + 8.5f, 15) << 4);
}

static void q4_1(const float *x, block_q4_1 *b)
{
    float lo, hi;
    range(x, 32, &lo, &hi);
    float d = (hi - lo) / 15, id = inverse(d);
    b->d = f32_to_f16(d), b->m = f32_to_f16(lo);
    for (int j = 0; j < 16; j++)
        b->qs[j] = (uint8_t)(cut((x[j] - lo) * id + 0.5f, 15) |
                             cut((x[j + 16] - lo) * id + 0.5f, 15) << 4);
}

static void q5_0(const float *x, block_q5_0 *b)
{
    float d = extreme(x, 32) / -16, id = inverse(d);
    uint8_t q[32];
    for (int j = 0; j < 32; j++) q[j] = (uint8_t)cut(x[j] * id + 16.5f, 31);
    b->d = f32_to_f16(d);
    block_put_5(b->qh, b->qs, q);
}

static void q5_1(const float *x, block_q5_1 *b)
{
    float lo, hi;
    uint8_t q[32];
    range(x, 32, &lo, &hi);
    float d = (hi - lo) / 31, id = inverse(d);
    for (int j = 0; j < 32; j++) q[j] = (uint8_t)cut((x[j] - lo) * id + 0.5f, 31);
    b->d = f32_to_f16(d), b->m = f32_to_f16(lo);
    block_put_5(b->qh, b->qs, q);
}

static void q8_0(const float *x, block_q8_0 *b)
{
    float d = fabsf(extreme(x, 32)) / 127, id = inverse(d);
    b->d = f32_to_f16(d);
    for (int j = 0; j < 32; j++) {
        float v = x[j] * id, a = fabsf(v);            // halves go away from zero
        int q = a < 127 ? (int)(a + 0.5f) : 127;
        if (a < 127 && (float)q - a > 0.5f) q--;      // a + 0.5 was rounded up
        b->qs[j] = (int8_t)(v < 0 ? -q : q);
    }
}

/* Scales and minima of n groups of `per` weights for types that say d*sc*q - dmin*mn, with q up
 * to qmax and sc, mn up to smax. dl and ml: the group's d*sc and dmin*mn as a reader sees them. */
static void affine_groups(const float *x, int n, int per, int qmax, int smax, uint16_t *d,
                          uint16_t *dmin, uint8_t *sc, uint8_t *mn, float *dl, float *ml)
{
    float s[16], m[16], smost = 0, mmost = 0;
    for (int g = 0; g < n; g++) {
        float lo, hi;
        range(x + g * per, per, &lo, &hi);
        if (lo > 0) lo = 0;
        s[g] = (hi - lo) / (float)qmax, m[g] = -lo;
        if (s[g] > smost) smost = s[g];
        if (m[g] > mmost) mmost = m[g];
    }
    *d = f32_to_f16(smost / (float)smax), *dmin = f32_to_f16(mmost / (float)smax);
    float fd = f16_to_f32(*d), fm = f16_to_f32(*dmin), id = inverse(fd), im = inverse(fm);
    for (int g = 0; g < n; g++) {
        sc[g] = (uint8_t)near_int(s[g] * id, 0, smax);
        mn[g] = (uint8_t)near_int(m[g] * im, 0, smax);
        dl[g] = fd * (float)sc[g], ml[g] = fm * (float)mn[g];
    }
}

/* The same for d*sc*q with q from -qmax and sc from -smax. */
static void signed_groups(const float *x, int qmax, int smax, uint16_t *d, int sc[16],
                          float dl[16])
{
    float s[16];
    for (int g = 0; g < 16; g++) s[g] = extreme(x + 16 * g, 16) / (float)-qmax;
    *d = f32_to_f16(extreme(s, 16) / (float)-smax);
    float fd = f16_to_f32(*d), id = inverse(fd);
    for (int g = 0; g < 16; g++) {
        sc[g] = near_int(s[g] * id, -smax, smax - 1);
        dl[g] = fd * (float)sc[g];
    }
}

static void quants(const float *x, int n, int per, int qmin, int qmax, const float *dl,
                   const float *ml, uint8_t *q)
{
    for (int g = 0; g < n; g++) {
        float id = inverse(dl[g]), m = ml ? ml[g] : 0;
        for (int l = 0; l < per; l++)
            q[g * per + l] = (uint8_t)(near_int((x[g * per + l] + m) * id, qmin, qmax) - qmin);
    }
}

static void q2_k(const float *x, block_q2_k *b)
{
    uint8_t sc[16], mn[16], q[256];
    float dl[16], ml[16];
    affine_groups(x, 16, 16, 3, 15, &b->d, &b->dmin, sc, mn, dl, ml);
    quants(x, 16, 16, 0, 3, dl, ml, q);
    block_put_k2(b, q, sc, mn);
}

static void q3_k(const float *x, block_q3_k *b)
{
    int sc[16];
    float dl[16];
    uint8_t q[256], u[16];
    signed_groups(x, 4, 32, &b->d, sc, dl);
    quants(x, 16, 16, -4, 3, dl, NULL, q);
    for (int g = 0; g < 16; g++) u[g] = (uint8_t)(sc[g] + 32);
    block_put_k3(b, q, u);
}

static void q4_k(const float *x, block_q4_k *b)
{
    uint8_t sc[8], mn[8], q[256];
    float dl[8], ml[8];
    affine_groups(x, 8, 32, 15, 63, &b->d, &b->dmin, sc, mn, dl, ml);
    quants(x, 8, 32, 0, 15, dl, ml, q);
    block_put_k4(b, q, sc, mn);
}

static void q5_k(const float *x, block_q5_k *b)
{
    uint8_t sc[8], mn[8], q[256];
    float dl[8], ml[8];
    affine_groups(x, 8, 32, 31, 63, &b->d, &b->dmin, sc, mn, dl, ml);
    quants(x, 8, 32, 0, 31, dl, ml, q);
    block_put_k5(b, q, sc, mn);
}

static void q6_k(const float *x, block_q6_k *b)
{
    int sc[16];
    float dl[16];
    uint8_t q[256];
    int8_t s8[16];
    signed_groups(x, 32, 128, &b->d, sc, dl);
    quants(x, 16, 16, -32, 31, dl, NULL, q);
    for (int g = 0; g < 16; g++) s8[g] = (int8_t)sc[g];
    block_put_k6(b, q, s8);
}

#define ROW(T, F) \
    for (int64_t i = 0; i < n; i++) { \
        T b; \
        F(x + i * ti->elems, &b); \
        memcpy(p + (size_t)i * sizeof b, &b, sizeof b); \
    } \
    break

int quant_row(int type, const float *x, void *dst, int64_t K)
{
    const type_info *ti = type_get(type);
    if (!ti || K < 0 || K % ti->elems) return DR_EINVAL;
    uint8_t *p = dst;
    int64_t n = K / ti->elems;
    switch ((dtype)type) {
    case DT_F32: memcpy(p, x, (size_t)K * sizeof *x); break;
    case DT_F16:
    case DT_BF16:
        for (int64_t i = 0; i < K; i++) {
            uint16_t h = type == DT_F16 ? f32_to_f16(x[i]) : f32_to_bf16(x[i]);
            memcpy(p + 2 * i, &h, sizeof h);
        }
        break;
    case DT_Q4_0: ROW(block_q4_0, q4_0);
    case DT_Q4_1: ROW(block_q4_1, q4_1);
    case DT_Q5_0: ROW(block_q5_0, q5_0);
    case DT_Q5_1: ROW(block_q5_1, q5_1);
    case DT_Q8_0: ROW(block_q8_0, q8_0);
    case DT_Q2_K: ROW(block_q2_k, q2_k);
    case DT_Q3_K: ROW(block_q3_k, q3_k);
    case DT_Q4_K: ROW(block_q4_k, q4_k);
    case DT_Q5_K: ROW(block_q5_k, q5_k);
    case DT_Q6_K: ROW(block_q6_k, q6_k);
    case DT_F8_E4M3:
        for (int64_t i = 0; i < K; i++) p[i] = f32_to_f8(x[i]);
        break;
    case DT_IQ4_NL: case DT_IQ4_XS: case DT_MXFP4: case DT_IQ2_XXS: case DT_IQ2_XS: case DT_IQ2_S:
    case DT_IQ3_XXS: case DT_IQ3_S:
        return DR_EUNSUPPORTED;
    }
    return DR_OK;
}
