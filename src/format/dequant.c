/* dequant.c - see dequant.h; block.h has the layouts. Blocks are copied out before they are
 * read, because a file may hold them at any address. */
#include "format/dequant.h"
#include <stdbool.h>
#include <string.h>
#include "base/block.h"
#include "base/err.h"
#include "base/half.h"
#include "base/iq_grid.h"

static void q4_0(const block_q4_0 *b, float *y)
{
    float d = f16_to_f32(b->d);
    for (int j = 0; j < 16; j++) {
        y[j] = d * (float)((b->qs[j] & 15) - 8);
        y[j + 16] = d * (float)((b->qs[j] >> 4) - 8);
    }
}

static void q4_1(const block_q4_1 *b, float *y)
{
    float d = f16_to_f32(b->d), m = f16_to_f32(b->m);
    for (int j = 0; j < 16; j++) {
        y[j] = d * (float)(b->qs[j] & 15) + m;
        y[j + 16] = d * (float)(b->qs[j] >> 4) + m;
    }
}

/* The fifth bit of weight j, as 0 or 16. */
static int fifth(const uint8_t qh[4], int j) { return (qh[j / 8] >> (j % 8) & 1) << 4; }

static void q5_0(const block_q5_0 *b, float *y)
{
    float d = f16_to_f32(b->d);
    for (int j = 0; j < 16; j++) {
        y[j] = d * (float)(((b->qs[j] & 15) | fifth(b->qh, j)) - 16);
        y[j + 16] = d * (float)((b->qs[j] >> 4 | fifth(b->qh, j + 16)) - 16);
    }
}

static void q5_1(const block_q5_1 *b, float *y)
{
    float d = f16_to_f32(b->d), m = f16_to_f32(b->m);
    for (int j = 0; j < 16; j++) {
        y[j] = d * (float)((b->qs[j] & 15) | fifth(b->qh, j)) + m;
        y[j + 16] = d * (float)(b->qs[j] >> 4 | fifth(b->qh, j + 16)) + m;
    }
}

static void q8_0(const block_q8_0 *b, float *y)
{
    float d = f16_to_f32(b->d);
    for (int j = 0; j < 32; j++) y[j] = (float)b->qs[j] * d;
}

static void q2_k(const block_q2_k *b, float *y)
{
    float d = f16_to_f32(b->d), dmin = f16_to_f32(b->dmin);
    for (int i = 0; i < 256; i++) {
        int h = i / 128, j = i / 32 % 4, l = i % 32, sc = b->scales[i / 16];
        float dl = d * (float)(sc & 15), ml = dmin * (float)(sc >> 4);
        y[i] = dl * (float)(b->qs[32 * h + l] >> 2 * j & 3) - ml;
    }
}

static void q3_k(const block_q3_k *b, float *y)
{
    float d = f16_to_f32(b->d);
    for (int i = 0; i < 256; i++) {
        int h = i / 128, j = i / 32 % 4, l = i % 32;
        int q = (b->qs[32 * h + l] >> 2 * j & 3) - (b->hmask[l] >> i / 32 & 1 ? 0 : 4);
        float dl = d * (float)(block_k3_scale(b->scales, i / 16) - 32);
        y[i] = dl * (float)q;
    }
}

static void q4_k(const block_q4_k *b, float *y)
{
    float d = f16_to_f32(b->d), dmin = f16_to_f32(b->dmin);
    for (int g = 0; g < 8; g++) {
        int sc, mn;
        block_k4_scale(b->scales, g, &sc, &mn);
        float dl = d * (float)sc, ml = dmin * (float)mn;
        for (int l = 0; l < 32; l++)
            y[32 * g + l] = dl * (float)(b->qs[g / 2 * 32 + l] >> g % 2 * 4 & 15) - ml;
    }
}

static void q5_k(const block_q5_k *b, float *y)
{
    float d = f16_to_f32(b->d), dmin = f16_to_f32(b->dmin);
    for (int g = 0; g < 8; g++) {
        int sc, mn;
        block_k4_scale(b->scales, g, &sc, &mn);
        float dl = d * (float)sc, ml = dmin * (float)mn;
        for (int l = 0; l < 32; l++) {
            int q = (b->qs[g / 2 * 32 + l] >> g % 2 * 4 & 15) | (b->qh[l] >> g & 1) << 4;
            y[32 * g + l] = dl * (float)q - ml;
        }
    }
}

static void q6_k(const block_q6_k *b, float *y)
{
    float d = f16_to_f32(b->d);
    for (int i = 0; i < 256; i++) {
        int h = i / 128, j = i / 32 % 4, l = i % 32;
        int lo = b->ql[64 * h + 32 * (j % 2) + l] >> j / 2 * 4 & 15;
        int hi = b->qh[32 * h + l] >> 2 * j & 3;
        float dl = d * (float)b->scales[i / 16];
        y[i] = dl * (float)((lo | hi << 4) - 32);
    }
}

static const int8_t iq4_values[16] = { IQ4_VALUES }, mxfp4_values[16] = { MXFP4_VALUES };

static void iq4_nl(const block_iq4_nl *b, float *y)
{
    float d = f16_to_f32(b->d);
    for (int j = 0; j < 16; j++) {
        y[j] = d * (float)iq4_values[b->qs[j] & 15];
        y[j + 16] = d * (float)iq4_values[b->qs[j] >> 4];
    }
}

static void iq4_xs(const block_iq4_xs *b, float *y)
{
    float d = f16_to_f32(b->d);
    for (int i = 0; i < 256; i++) {
        float dl = d * (float)(block_iq4_scale(b, i / 32) - 32);
        int q = b->qs[i / 32 * 16 + i % 16] >> i / 16 % 2 * 4 & 15;
        y[i] = dl * (float)iq4_values[q];
    }
}

static void mxfp4(const block_mxfp4 *b, float *y)
{
    float e = f32_from_bits(block_mxfp4_scale(b->e));
    for (int j = 0; j < 16; j++) {
        y[j] = e * (float)mxfp4_values[b->qs[j] & 15];
        y[j + 16] = e * (float)mxfp4_values[b->qs[j] >> 4];
    }
}

/* Of the IQ2 and IQ3 types: dl times n magnitudes, bytes of a word, with their signs. These
 * products are exact unless they leave the floats' range. */
static void point(float *y, int n, float dl, uint64_t grid, unsigned signs)
{
    for (int i = 0; i < n; i++) {
        float v = dl * (float)(grid >> 8 * i & 255);
        y[i] = signs >> i & 1 ? -v : v;
    }
}

static uint32_t word_at(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void iq2_xxs(const block_iq2_xxs *b, float *y)
{
    float d = f16_to_f32(b->d);
    for (int i = 0; i < 32; i++) {
        const uint8_t *q = b->qs + i / 4 * 8;
        uint32_t word = word_at(q + 4);
        float dl = d * (0.5f + (float)(word >> 28)) * 0.25f;
        point(y + 8 * i, 8, dl, iq2_xxs_grid[q[i % 4]], iq_signs(word >> i % 4 * 7 & 127));
    }
}

static void iq2_xs(const block_iq2_xs *b, float *y)
{
    float d = f16_to_f32(b->d);
    for (int i = 0; i < 32; i++) {
        float dl = d * (0.5f + (float)(b->scales[i / 4] >> i / 2 % 2 * 4 & 15)) * 0.25f;
        point(y + 8 * i, 8, dl, iq2_xs_grid[b->qs[i] & 511], iq_signs(b->qs[i] >> 9));
    }
}

static void iq2_s(const block_iq2_s *b, float *y)
{
    float d = f16_to_f32(b->d);
    for (int i = 0; i < 32; i++) {
        float dl = d * (0.5f + (float)(b->scales[i / 4] >> i / 2 % 2 * 4 & 15)) * 0.25f;
        int q = b->qs[i] | (b->qh[i / 4] >> i % 4 * 2 & 3) << 8;
        point(y + 8 * i, 8, dl, iq2_s_grid[q], b->signs[i]);
    }
}

static void iq3_xxs(const block_iq3_xxs *b, float *y)
{
    float d = f16_to_f32(b->d);
    for (int i = 0; i < 64; i++) {
        uint32_t word = word_at(b->sas + i / 8 * 4);
        float dl = d * (0.5f + (float)(word >> 28)) * 0.5f;
        unsigned signs = iq_signs(word >> i / 2 % 4 * 7 & 127);
        point(y + 4 * i, 4, dl, iq3_xxs_grid[b->qs[i]], signs >> i % 2 * 4);
    }
}

static void iq3_s(const block_iq3_s *b, float *y)
{
    float d = f16_to_f32(b->d);
    for (int i = 0; i < 64; i++) {
        float dl = d * (float)(1 + 2 * (b->scales[i / 16] >> i / 8 % 2 * 4 & 15));
        int q = b->qs[i] | (b->qh[i / 8] >> i % 8 & 1) << 8;
        point(y + 4 * i, 4, dl, iq3_s_grid[q], b->signs[i / 2] >> i % 2 * 4);
    }
}

/* Sixteen at a time without branches, which compilers make vectors of. The bits are those of
 * f16_to_f32. */
static void f16_lanes(const uint16_t h[16], float y[16])
{
    uint32_t u[16];
    for (int i = 0; i < 16; i++) {
        uint32_t m = (uint32_t)(h[i] & 0x7fff) << 13, s = (uint32_t)(h[i] & 0x8000) << 16;
        float sub = f32_from_bits(m + (113u << 23)) - 0x1p-14f;
        uint32_t v = m + (112u << 23) + (m >= 31u << 23 ? 112u << 23 : 0);
        u[i] = s | (m < 1u << 23 ? f32_bits(sub) : v);
    }
    memcpy(y, u, sizeof u);
}

static void bf16_lanes(const uint16_t h[16], float y[16])
{
    uint32_t u[16];
    for (int i = 0; i < 16; i++) u[i] = (uint32_t)h[i] << 16;
    memcpy(y, u, sizeof u);
}

static void halves(bool bf16, const uint8_t *p, float *y, int64_t K)
{
    for (int64_t i = 0; i < K; i += 16) {
        uint16_t h[16] = { 0 };
        float v[16];
        size_t n = K - i < 16 ? (size_t)(K - i) : 16;
        if (n == 16) memcpy(h, p + 2 * i, sizeof h);
        else memcpy(h, p + 2 * i, 2 * n);
        if (bf16) bf16_lanes(h, v);
        else f16_lanes(h, v);
        if (n == 16) memcpy(y + i, v, sizeof v);
        else memcpy(y + i, v, n * sizeof *v);
    }
}

#define ROW(T, F) \
    for (int64_t i = 0; i < n; i++) { \
        T b; \
        memcpy(&b, p + (size_t)i * sizeof b, sizeof b); \
        F(&b, y + i * ti->elems); \
    } \
    break

void dequant_row(int type, const void *src, float *y, int64_t K)
{
    const uint8_t *p = src;
    const type_info *ti = type_get(type);
    DR_ASSERT(ti && K % ti->elems == 0);
    int64_t n = K / ti->elems;
    switch ((dtype)type) {
    case DT_F32: memcpy(y, p, (size_t)K * sizeof *y); break;
    case DT_F16:
    case DT_BF16:
        halves(type == DT_BF16, p, y, K);
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
    case DT_IQ4_NL: ROW(block_iq4_nl, iq4_nl);
    case DT_IQ4_XS: ROW(block_iq4_xs, iq4_xs);
    case DT_MXFP4: ROW(block_mxfp4, mxfp4);
    case DT_IQ2_XXS: ROW(block_iq2_xxs, iq2_xxs);
    case DT_IQ2_XS: ROW(block_iq2_xs, iq2_xs);
    case DT_IQ2_S: ROW(block_iq2_s, iq2_s);
    case DT_IQ3_XXS: ROW(block_iq3_xxs, iq3_xxs);
    case DT_IQ3_S: ROW(block_iq3_s, iq3_s);
    case DT_F8_E4M3:
        for (int64_t i = 0; i < K; i++) y[i] = f8_to_f32(p[i]);
        break;
    }
}
