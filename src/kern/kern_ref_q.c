/* kern_ref_q.c - the quantised products, as docs/numerics.md defines them.
 *
 * One block at a time is taken apart into small integers q, a scale w_g per group and, where
 * the type has one, a minimum m_g; then the group's sum is exact and the two float steps are
 * those of the table. Slow on purpose: every other kernel must give these very bits. */
#include <math.h>
#include <stdbool.h>
#include <string.h>
#include "base/half.h"
#include "base/iq_grid.h"
#include "kern/kern.h"
#include "kern/super_body.h"

/* A block taken apart: 32 or 256 weights, in groups of 32 or 16. */
typedef struct { int8_t q[256]; float w[16], m[16]; } parts;
typedef void parts_fn(parts *p, const void *block);

static void parts_q4_0(parts *p, const void *block)
{
    const block_q4_0 *b = block;
    for (int j = 0; j < 16; j++) {
        p->q[j]      = (int8_t)((b->qs[j] & 15) - 8);
        p->q[j + 16] = (int8_t)((b->qs[j] >> 4) - 8);
    }
    p->w[0] = f16_to_f32(b->d);
}

static void parts_q4_1(parts *p, const void *block)
{
    const block_q4_1 *b = block;
    for (int j = 0; j < 16; j++) {
        p->q[j]      = (int8_t)(b->qs[j] & 15);
        p->q[j + 16] = (int8_t)(b->qs[j] >> 4);
    }
    p->w[0] = f16_to_f32(b->d), p->m[0] = f16_to_f32(b->m);
}

/* Nibbles with a fifth bit each, less `less`. */
static void nibbles5(int8_t *q, const uint8_t *qs, const uint8_t *qh, int less)
{
    uint32_t h = (uint32_t)qh[0] | (uint32_t)qh[1] << 8 | (uint32_t)qh[2] << 16 |
                 (uint32_t)qh[3] << 24;
    for (int j = 0; j < 16; j++) {
        q[j]      = (int8_t)(((qs[j] & 15) | (int)(h >> j & 1) << 4) - less);
        q[j + 16] = (int8_t)(((qs[j] >> 4) | (int)(h >> (j + 16) & 1) << 4) - less);
    }
}

static void parts_q5_0(parts *p, const void *block)
{
    const block_q5_0 *b = block;
    nibbles5(p->q, b->qs, b->qh, 16);
    p->w[0] = f16_to_f32(b->d);
}

static void parts_q5_1(parts *p, const void *block)
{
    const block_q5_1 *b = block;
    nibbles5(p->q, b->qs, b->qh, 0);
    p->w[0] = f16_to_f32(b->d), p->m[0] = f16_to_f32(b->m);
}

static void parts_q8_0(parts *p, const void *block)
{
    const block_q8_0 *b = block;
    memcpy(p->q, b->qs, 32);
    p->w[0] = f16_to_f32(b->d);
}

static void parts_q2_k(parts *p, const void *block)
{
    const block_q2_k *b = block;
    float d = f16_to_f32(b->d), dmin = f16_to_f32(b->dmin);
    for (int i = 0; i < 256; i++) {
        int h = i / 128, j = i / 32 % 4, l = i % 32;
        p->q[i] = (int8_t)(b->qs[32*h + l] >> 2*j & 3);
    }
    for (int g = 0; g < 16; g++) {
        p->w[g] = d * (float)(b->scales[g] & 15);
        p->m[g] = -(dmin * (float)(b->scales[g] >> 4));
    }
}

static void parts_q3_k(parts *p, const void *block)
{
    const block_q3_k *b = block;
    float d = f16_to_f32(b->d);
    for (int i = 0; i < 256; i++) {
        int h = i / 128, j = i / 32 % 4, l = i % 32;
        int low = b->qs[32*h + l] >> 2*j & 3, top = b->hmask[l] >> (4*h + j) & 1;
        p->q[i] = (int8_t)(low - (top ? 0 : 4));
    }
    for (int g = 0; g < 16; g++) {
        int lo = b->scales[g % 8] >> (g < 8 ? 0 : 4) & 15;
        int hi = b->scales[8 + g % 4] >> 2*(g / 4) & 3;
        p->w[g] = d * (float)((lo | hi << 4) - 32);
    }
}

static void k4_scales(parts *p, uint16_t dh, uint16_t dminh, const uint8_t *scales)
{
    float d = f16_to_f32(dh), dmin = f16_to_f32(dminh);
    for (int g = 0; g < 8; g++) {
        int sc, mn;
        block_k4_scale(scales, g, &sc, &mn);
        p->w[g] = d * (float)sc;
        p->m[g] = -(dmin * (float)mn);
    }
}

static void parts_q4_k(parts *p, const void *block)
{
    const block_q4_k *b = block;
    for (int i = 0; i < 256; i++) {
        int h = i / 64, l = i % 32;
        p->q[i] = (int8_t)(i % 64 < 32 ? b->qs[32*h + l] & 15 : b->qs[32*h + l] >> 4);
    }
    k4_scales(p, b->d, b->dmin, b->scales);
}

static void parts_q5_k(parts *p, const void *block)
{
    const block_q5_k *b = block;
    for (int i = 0; i < 256; i++) {
        int h = i / 64, l = i % 32, g = i / 32;
        int low = i % 64 < 32 ? b->qs[32*h + l] & 15 : b->qs[32*h + l] >> 4;
        p->q[i] = (int8_t)(low | (b->qh[l] >> g & 1) << 4);
    }
    k4_scales(p, b->d, b->dmin, b->scales);
}

static void parts_q6_k(parts *p, const void *block)
{
    const block_q6_k *b = block;
    float d = f16_to_f32(b->d);
    for (int i = 0; i < 256; i++) {
        int h = i / 128, j = i / 32 % 4, l = i % 32;
        int low = b->ql[64*h + 32*(j & 1) + l] >> (j < 2 ? 0 : 4) & 15;
        p->q[i] = (int8_t)((low | (b->qh[32*h + l] >> 2*j & 3) << 4) - 32);
    }
    for (int g = 0; g < 16; g++) p->w[g] = d * (float)b->scales[g];
}

static const int8_t iq4_values[16] = { IQ4_VALUES }, mxfp4_values[16] = { MXFP4_VALUES };

/* 32 weights that are places in a table. */
static void nibbles_of(int8_t *q, const uint8_t *qs, const int8_t values[16])
{
    for (int j = 0; j < 16; j++) q[j] = values[qs[j] & 15], q[j + 16] = values[qs[j] >> 4];
}

static void parts_iq4_nl(parts *p, const void *block)
{
    const block_iq4_nl *b = block;
    nibbles_of(p->q, b->qs, iq4_values);
    p->w[0] = f16_to_f32(b->d);
}

static void parts_iq4_xs(parts *p, const void *block)
{
    const block_iq4_xs *b = block;
    float d = f16_to_f32(b->d);
    for (int g = 0; g < 8; g++) {
        nibbles_of(p->q + 32*g, b->qs + 16*g, iq4_values);
        p->w[g] = d * (float)(block_iq4_scale(b, g) - 32);
    }
}

static void parts_mxfp4(parts *p, const void *block)
{
    const block_mxfp4 *b = block;
    nibbles_of(p->q, b->qs, mxfp4_values);
    p->w[0] = f32_from_bits(block_mxfp4_scale(b->e));
}

/* n magnitudes, bytes of a word, with their signs. */
static void point(int8_t *q, int n, uint64_t grid, unsigned signs)
{
    for (int i = 0; i < n; i++) {
        int v = (int)(grid >> 8*i & 255);
        q[i] = (int8_t)(signs >> i & 1 ? -v : v);
    }
}

static uint32_t word_at(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void parts_iq2_xxs(parts *p, const void *block)
{
    const block_iq2_xxs *b = block;
    float d = f16_to_f32(b->d);
    for (int g = 0; g < 8; g++) {
        uint32_t word = word_at(b->qs + 8*g + 4);
        for (int i = 0; i < 4; i++)
            point(p->q + 32*g + 8*i, 8, iq2_xxs_grid[b->qs[8*g + i]],
                  iq_signs(word >> 7*i & 127));
        p->w[g] = d * (float)(2 * (word >> 28) + 1) * 0.125f;
    }
}

static void parts_iq2_xs(parts *p, const void *block)
{
    const block_iq2_xs *b = block;
    float d = f16_to_f32(b->d);
    for (int i = 0; i < 32; i++)
        point(p->q + 8*i, 8, iq2_xs_grid[b->qs[i] & 511], iq_signs(b->qs[i] >> 9));
    for (int g = 0; g < 16; g++)
        p->w[g] = d * (float)(2 * (b->scales[g / 2] >> g % 2 * 4 & 15) + 1) * 0.125f;
}

static void parts_iq2_s(parts *p, const void *block)
{
    const block_iq2_s *b = block;
    float d = f16_to_f32(b->d);
    for (int i = 0; i < 32; i++)
        point(p->q + 8*i, 8, iq2_s_grid[b->qs[i] | (b->qh[i / 4] >> i % 4 * 2 & 3) << 8],
              b->signs[i]);
    for (int g = 0; g < 16; g++)
        p->w[g] = d * (float)(2 * (b->scales[g / 2] >> g % 2 * 4 & 15) + 1) * 0.125f;
}

static void parts_iq3_xxs(parts *p, const void *block)
{
    const block_iq3_xxs *b = block;
    float d = f16_to_f32(b->d);
    for (int g = 0; g < 8; g++) {
        uint32_t word = word_at(b->sas + 4*g);
        for (int i = 0; i < 8; i++)
            point(p->q + 32*g + 4*i, 4, iq3_xxs_grid[b->qs[8*g + i]],
                  iq_signs(word >> i / 2 * 7 & 127) >> i % 2 * 4);
        p->w[g] = d * (float)(2 * (word >> 28) + 1) * 0.25f;
    }
}

static void parts_iq3_s(parts *p, const void *block)
{
    const block_iq3_s *b = block;
    float d = f16_to_f32(b->d);
    for (int i = 0; i < 64; i++)
        point(p->q + 4*i, 4, iq3_s_grid[b->qs[i] | (b->qh[i / 8] >> i % 8 & 1) << 8],
              b->signs[i / 2] >> i % 2 * 4);
    for (int g = 0; g < 8; g++)
        p->w[g] = d * (float)(2 * (b->scales[g / 2] >> g % 2 * 4 & 15) + 1);
}

/* group: weights that share a scale; mins: the type has minimums. */
static void mul_parts(float *y, size_t ldy, const char *w, size_t row_bytes, int R,
                      const act *a, parts_fn *take, int type, int group, int mins)
{
    const type_info *t = type_get(type);
    int n_blocks = a->K / t->elems;
    parts p;
    for (int r = 0; r < R; r++) {
        for (int n = 0; n < a->N; n++) y[(size_t)n * ldy + (size_t)r] = 0;
        for (int b = 0; b < n_blocks; b++) {
            take(&p, w + (size_t)r * row_bytes + (size_t)b * (size_t)t->bytes);
            for (int n = 0; n < a->N; n++) {
                size_t k0 = (size_t)n * (size_t)a->K + (size_t)b * (size_t)t->elems;
                float *out = &y[(size_t)n * ldy + (size_t)r];
                bool super = t->elems == QSUPER;
                float acc = super ? 0 : *out;
                for (int g = 0; g < t->elems / group; g++) {
                    const int8_t *q = a->q + k0 + g * group;
                    float d = a->d[(k0 + (size_t)(g * group)) / QBLOCK];
                    int s = 0, sum = 0;
                    for (int i = 0; i < group; i++) s += p.q[g * group + i] * q[i], sum += q[i];
                    acc = super ? fmaf((float)s * d, p.w[g], acc) : fmaf((float)s, p.w[g] * d, acc);
                    if (mins) acc = fmaf(p.m[g], d * (float)sum, acc);
                }
                *out = super ? fmaf(acc, a->dk[k0 / QSUPER], *out) : acc;
            }
        }
    }
}

#define MUL(name, type, group, mins) \
static void mul_##name(float *y, size_t ldy, const void *w, size_t row_bytes, int R, \
                       const act *a, void *scratch) \
{ \
    (void)scratch; \
    mul_parts(y, ldy, w, row_bytes, R, a, parts_##name, type, group, mins); \
}
MUL(q4_0, DT_Q4_0, 32, 0)
MUL(q4_1, DT_Q4_1, 32, 1)
MUL(q5_0, DT_Q5_0, 32, 0)
MUL(q5_1, DT_Q5_1, 32, 1)
MUL(q8_0, DT_Q8_0, 32, 0)
MUL(q2_k, DT_Q2_K, 16, 1)
MUL(q3_k, DT_Q3_K, 16, 0)
MUL(q4_k, DT_Q4_K, 32, 1)
MUL(q5_k, DT_Q5_K, 32, 1)
MUL(q6_k, DT_Q6_K, 16, 0)
MUL(iq4_nl, DT_IQ4_NL, 32, 0)
MUL(iq4_xs, DT_IQ4_XS, 32, 0)
MUL(mxfp4, DT_MXFP4, 32, 0)
MUL(iq3_s, DT_IQ3_S, 32, 0)
MUL(iq3_xxs, DT_IQ3_XXS, 32, 0)
MUL(iq2_s, DT_IQ2_S, 16, 0)
MUL(iq2_xs, DT_IQ2_XS, 16, 0)
MUL(iq2_xxs, DT_IQ2_XXS, 32, 0)

/* As integers, magnitudes order the same way, with NaN above infinity: a NaN in the block makes
 * its scale NaN and so every product of it. */
static float largest(const float *x)
{
    uint32_t top = 0;
    for (int i = 0; i < QBLOCK; i++) {
        uint32_t u = f32_bits(x[i]) & 0x7fffffff;
        if (u > top) top = u;
    }
    return f32_from_bits(top);
}

static void round_block(int8_t *q, int16_t *s16, const float *x, float inv)
{
    for (int i = 0; i < QBLOCK; i++) {
        /* x * inv passes 127 by an ulp at most; 127 / amax of a tiny amax is infinite */
        float v = nearbyintf(x[i] * inv);
        v = v < -127 ? -127 : v > 127 ? 127 : v;
        q[i] = v == v ? (int8_t)v : 0;
    }
    for (int h = 0; h < 2; h++) {
        int s = 0;
        for (int i = 0; i < 16; i++) s += q[16*h + i];
        s16[h] = (int16_t)s;
    }
}

static void quant_q8(int8_t *q, float *d, int16_t *s16, const float *x, int K)
{
    for (int b = 0; b < K / QBLOCK; b++, x += QBLOCK, q += QBLOCK) {
        float amax = largest(x);
        d[b] = amax / 127;
        round_block(q, s16 + 2*b, x, amax > 0 ? 127 / amax : 0);
    }
}

SUPER_QUANT

static size_t no_scratch(int type, int K)
{
    (void)type, (void)K;
    return 0;
}

void kern_init_ref_q(kern *k);
void kern_init_ref_q(kern *k)
{
    k->mul[DT_Q4_0] = mul_q4_0, k->mul[DT_Q4_1] = mul_q4_1;
    k->mul[DT_Q5_0] = mul_q5_0, k->mul[DT_Q5_1] = mul_q5_1;
    k->mul[DT_Q8_0] = mul_q8_0;
    k->mul[DT_Q2_K] = mul_q2_k, k->mul[DT_Q3_K] = mul_q3_k;
    k->mul[DT_Q4_K] = mul_q4_k, k->mul[DT_Q5_K] = mul_q5_k;
    k->mul[DT_Q6_K] = mul_q6_k;
    k->mul[DT_IQ4_NL] = mul_iq4_nl, k->mul[DT_IQ4_XS] = mul_iq4_xs, k->mul[DT_MXFP4] = mul_mxfp4;
    k->mul[DT_IQ3_S] = mul_iq3_s, k->mul[DT_IQ3_XXS] = mul_iq3_xxs;
    k->mul[DT_IQ2_S] = mul_iq2_s, k->mul[DT_IQ2_XS] = mul_iq2_xs;
    k->mul[DT_IQ2_XXS] = mul_iq2_xxs;
    k->quant_q8 = quant_q8, k->quant_qk = quant_qk;
    k->mul_scratch = no_scratch;
}
