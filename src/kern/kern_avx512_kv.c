/* kern_avx512_kv.c - the quantised cache: tiles to f32, and the rounding of Q4_0. Compiled with this
 * level's flags: only static functions and kern_init_avx512_kv may come out of it. */
#if defined(__x86_64__)
#include <math.h>
#include <stdbool.h>
#include <string.h>
#include "kern/kv_tile.h"
#include "kern/vec_avx512.h"
#include "kern/soft_body.h"

static inline __m512 bytes(const int8_t *p)             /* sixteen int8 as f32 */
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)p)));
}

static inline __m512 halves(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p));
}

/* Nibble u as the float u - 8: a table of sixteen, whose index is four bits wide. */
#define NIBBLES _mm512_set_ps(7, 6, 5, 4, 3, 2, 1, 0, -1, -2, -3, -4, -5, -6, -7, -8)

static void v_q8(float *v, const void *head, int hs)
{
    const char *pv = (const char *)head + kv_tile_bytes(8, hs);
    const uint16_t *dv = (const uint16_t *)pv;
    const int8_t *qv = (const int8_t *)(pv + kv_tile_scales(hs));
    for (int b = 0; b < hs / QBLOCK * ATTN_TILE; b++, qv += QBLOCK, v += QBLOCK) {
        __m512 d = _mm512_cvtph_ps(_mm256_set1_epi16((short)dv[b]));
        _mm512_storeu_ps(v, _mm512_mul_ps(bytes(qv), d));
        _mm512_storeu_ps(v + 16, _mm512_mul_ps(bytes(qv + 16), d));
    }
}

static void v_q4(float *v, const void *head, int hs)
{
    const __m512 table = NIBBLES;
    const char *pv = (const char *)head + kv_tile_bytes(4, hs);
    const uint16_t *dv = (const uint16_t *)pv;
    const uint8_t *qv = (const uint8_t *)(pv + kv_tile_scales(hs));
    for (int b = 0; b < hs / QBLOCK * ATTN_TILE; b++, qv += 16, v += QBLOCK) {
        __m512 d = _mm512_cvtph_ps(_mm256_set1_epi16((short)dv[b]));
        __m512i u = _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)qv));
        _mm512_storeu_ps(v, _mm512_mul_ps(_mm512_permutexvar_ps(u, table), d));
        u = _mm512_srli_epi32(u, 4);
        _mm512_storeu_ps(v + 16, _mm512_mul_ps(_mm512_permutexvar_ps(u, table), d));
    }
}

/* ---- scores ---- */

/* Four elements of 64 positions, a row of bytes each, to four registers of sixteen positions with
 * their four elements in a dword. */
static inline void four_by_four(__m512i k[4])
{
    __m512i a = _mm512_unpacklo_epi8(k[0], k[1]), b = _mm512_unpackhi_epi8(k[0], k[1]);
    __m512i c = _mm512_unpacklo_epi8(k[2], k[3]), d = _mm512_unpackhi_epi8(k[2], k[3]);
    __m512i t0 = _mm512_unpacklo_epi16(a, c), t1 = _mm512_unpackhi_epi16(a, c);
    __m512i t2 = _mm512_unpacklo_epi16(b, d), t3 = _mm512_unpackhi_epi16(b, d);
    a = _mm512_shuffle_i32x4(t0, t1, 0x44), b = _mm512_shuffle_i32x4(t2, t3, 0x44);
    c = _mm512_shuffle_i32x4(t0, t1, 0xee), d = _mm512_shuffle_i32x4(t2, t3, 0xee);
    k[0] = _mm512_shuffle_i32x4(a, b, 0x88), k[1] = _mm512_shuffle_i32x4(a, b, 0xdd);
    k[2] = _mm512_shuffle_i32x4(c, d, 0x88), k[3] = _mm512_shuffle_i32x4(c, d, 0xdd);
}

/* A tile's keys, unsigned, as the dots want them: (hs/4,64) dwords. */
static inline __attribute__((always_inline)) void keys(__m512i *to, int bits, const uint8_t *k,
                                                       int hs)
{
    const __m512i top = _mm512_set1_epi8((char)0x80), low = _mm512_set1_epi8(15);
    for (int b = 0; b < hs / QBLOCK; b++, to += QBLOCK)
        for (int g = 0; g < bits; g++, k += 4 * ATTN_TILE) {
            __m512i a[4];
            UNROLL(4)
            for (int i = 0; i < 4; i++) a[i] = _mm512_loadu_si512(k + i * ATTN_TILE);
            four_by_four(a);
            UNROLL(4)
            for (int i = 0; i < 4; i++) {
                if (bits == 8) {
                    to[4 * g + i] = _mm512_xor_si512(a[i], top);
                    continue;
                }
                to[4 * g + i] = _mm512_and_si512(a[i], low);
                to[16 + 4 * g + i] = _mm512_and_si512(_mm512_srli_epi16(a[i], 4), low);
            }
        }
}

/* R rows' scores. s is a chain over blocks, its steps those of a quantised product; unsigned keys
 * are taken back by where the sums start. */
static inline __attribute__((always_inline)) void dots(int R, int offset, float *s,
                                                       const int8_t *q, const float *dq,
                                                       const int16_t *s16, int hs,
                                                       const __m512i *k, const float *dk)
{
    int B = hs / QBLOCK;
    vf acc[12];
    UNROLL(12)
    for (int i = 0; i < 4 * R; i++) acc[i] = v_set(0);
    for (int b = 0; b < B; b++, dk += ATTN_TILE, q += QBLOCK) {
        __m512i sum[12];
        UNROLL(3)
        for (int r = 0; r < R; r++) {
            int A = s16[2 * (r * B + b)] + s16[2 * (r * B + b) + 1];
            UNROLL(4)
            for (int i = 0; i < 4; i++) sum[4 * r + i] = _mm512_set1_epi32(-offset * A);
        }
        for (int g = 0; g < QBLOCK / 4; g++, k += 4) {
            UNROLL(3)
            for (int r = 0; r < R; r++) {
                int32_t x;
                memcpy(&x, q + r * hs + 4 * g, sizeof x);
                __m512i xx = _mm512_set1_epi32(x);
                UNROLL(4)
                for (int i = 0; i < 4; i++)
                    sum[4 * r + i] = _mm512_dpbusd_epi32(sum[4 * r + i], k[i], xx);
            }
        }
        UNROLL(3)
        for (int r = 0; r < R; r++) {
            vf w = v_set(dq[r * B + b]);
            UNROLL(4)
            for (int i = 0; i < 4; i++)
                acc[4 * r + i] = v_fma(_mm512_cvtepi32_ps(sum[4 * r + i]),
                                       v_mul(v_load(dk + 16 * i), w), acc[4 * r + i]);
        }
    }
    UNROLL(12)
    for (int i = 0; i < 4 * R; i++) v_store(s + 16 * i, acc[i]);
}

static inline __attribute__((always_inline)) void scores(int bits, float *s,
                                                         const attn_rows8 *q, int R, int hs,
                                                         const char *head, float *scratch)
{
    __m512i *k = (__m512i *)scratch;
    float *dk = scratch + hs / 4 * ATTN_TILE;
    int B = hs / QBLOCK, r = 0, offset = bits == 8 ? 128 : 8;
    keys(k, bits, (const uint8_t *)head + kv_tile_scales(hs), hs);
    for (int i = 0; i < ATTN_TILE * B; i += 16) v_store(dk + i, halves((const uint16_t *)head + i));
    for (; r + 3 <= R; r += 3)
        dots(3, offset, s + r * ATTN_TILE, q->q + r * hs, q->d + r * B, q->s16 + 2 * r * B, hs, k, dk);
    if (R - r == 2)
        dots(2, offset, s + r * ATTN_TILE, q->q + r * hs, q->d + r * B, q->s16 + 2 * r * B, hs, k, dk);
    if (R - r == 1)
        dots(1, offset, s + r * ATTN_TILE, q->q + r * hs, q->d + r * B, q->s16 + 2 * r * B, hs, k, dk);
}

static void scores_q8(float *s, const attn_rows8 *q, int R, int hs, const void *head, float *scratch)
{
    scores(8, s, q, R, hs, head, scratch);
}

static void scores_q4(float *s, const attn_rows8 *q, int R, int hs, const void *head, float *scratch)
{
    scores(4, s, q, R, hs, head, scratch);
}

/* ---- values straight from the tile, for few rows ---- */

enum { FEW = 4 };                       /* rows at once: sixteen sums, and room for scales */

/* Sixteen values of Q8_0; of Q4_0 the low or the high nibbles. */
static inline __attribute__((always_inline)) vf values(const uint8_t *p, int bits, bool high)
{
    if (bits == 8) return bytes((const int8_t *)p);
    __m512i u = _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)p));
    if (high) u = _mm512_srli_epi32(u, 4);
    return _mm512_permutexvar_ps(u, NIBBLES);
}

/* Blocks b .. b+W-1 of the head's V; d (64,B): its scales. */
static inline __attribute__((always_inline)) void few_weigh(int R, int W, int bits, float *acc,
                                                            const float *c, const float *p,
                                                            const uint8_t *v, const float *d,
                                                            int hs, att_ahead n)
{
    size_t row = (size_t)(hs / QBLOCK) * kv_tile_block(bits);
    vf a[FEW * 4];
    UNROLL(4)
    for (int r = 0; r < R; r++)
        UNROLL(4)
        for (int i = 0; i < 2 * W; i++)
            a[r * 2 * W + i] = v_mul(v_load(acc + r * hs + 16 * i), v_set(c[r]));
    for (int j = 0; j < ATTN_TILE; j++, v += row, d += hs / QBLOCK) {
        vf vv[4];
        att_fetch(&n);
        UNROLL(4)
        for (int i = 0; i < 2 * W; i++) {
            const uint8_t *at = v + (bits == 8 ? 16 * i : 16 * (i / 2));
            vv[i] = v_mul(values(at, bits, i % 2), v_set(d[i / 2]));
        }
        UNROLL(4)
        for (int r = 0; r < R; r++) {
            vf x = v_set(p[r * ATTN_TILE + j]);
            UNROLL(4)
            for (int i = 0; i < 2 * W; i++) a[r * 2 * W + i] = v_fma(x, vv[i], a[r * 2 * W + i]);
        }
    }
    UNROLL(4)
    for (int r = 0; r < R; r++)
        UNROLL(4)
        for (int i = 0; i < 2 * W; i++) v_store(acc + r * hs + 16 * i, a[r * 2 * W + i]);
}

static inline __attribute__((always_inline)) void few_rows(int R, int bits, float *m, float *l,
                                                           float *acc, float *p, int hs,
                                                           const char *head, float *d,
                                                           const char *next)
{
    const char *v = head + kv_tile_bytes(bits, hs);
    const uint16_t *scale = (const uint16_t *)v;
    float c[FEW];
    int B = hs / QBLOCK, b = 0;
    size_t pair = 2 * kv_tile_block(bits);
    att_ahead ahead = { next, next ? bits / 4 : 0 };
    if (R == 4) soften4(p, m, l, c);
    else for (int r = 0; r < R; r++) c[r] = soften(p + r * ATTN_TILE, m + r, l + r, 0, ATTN_TILE);
    for (int i = 0; i < ATTN_TILE * B; i += 16) v_store(d + i, halves(scale + i));
    v += kv_tile_scales(hs);
    for (; b + 2 <= B; b += 2, acc += 2 * QBLOCK, v += pair) {
        few_weigh(R, 2, bits, acc, c, p, (const uint8_t *)v, d + b, hs, ahead);
        ahead.at += 64 * ahead.lines * ATTN_TILE;
    }
    if (b < B) few_weigh(R, 1, bits, acc, c, p, (const uint8_t *)v, d + b, hs, att_none);
}

static inline __attribute__((always_inline)) void few(int bits, float *m, float *l, float *acc,
                                                      float *p, int R, int hs, const char *head,
                                                      float *d, const char *next)
{
    for (; R > 0; R -= FEW, m += FEW, l += FEW, acc += FEW * hs, p += FEW * ATTN_TILE) {
        switch (R) {
        case 1: few_rows(1, bits, m, l, acc, p, hs, head, d, next); break;
        case 2: few_rows(2, bits, m, l, acc, p, hs, head, d, next); break;
        case 3: few_rows(3, bits, m, l, acc, p, hs, head, d, next); break;
        default: few_rows(4, bits, m, l, acc, p, hs, head, d, next);
        }
        next = NULL;
    }
}

static void weigh_q8(float *m, float *l, float *acc, float *p, int R, int hs, const void *head,
                     float *scratch, const void *next)
{
    few(8, m, l, acc, p, R, hs, head, scratch, next);
}

static void weigh_q4(float *m, float *l, float *acc, float *p, int R, int hs, const void *head,
                     float *scratch, const void *next)
{
    few(4, m, l, acc, p, R, hs, head, scratch, next);
}

/* Lanes whose number has bit s: the partner less this; the others: the sum. */
static inline __m512 pairs(__m512 x, __m512 partner, __mmask16 upper)
{
    return _mm512_mask_sub_ps(_mm512_add_ps(x, partner), upper, partner, x);
}

static void hadamard(float *x, int n)
{
    for (int i = 0; i < n; i += 16) {
        __m512 a = _mm512_loadu_ps(x + i);
        a = pairs(a, _mm512_permute_ps(a, 0xb1), 0xaaaa);
        a = pairs(a, _mm512_permute_ps(a, 0x4e), 0xcccc);
        a = pairs(a, _mm512_shuffle_f32x4(a, a, 0xb1), 0xf0f0);
        a = pairs(a, _mm512_shuffle_f32x4(a, a, 0x4e), 0xff00);
        _mm512_storeu_ps(x + i, a);
    }
    for (int s = 16; s < n; s *= 2)
        for (int i = 0; i < n; i += 16) {
            if (i & s) continue;
            __m512 a = _mm512_loadu_ps(x + i), b = _mm512_loadu_ps(x + i + s);
            _mm512_storeu_ps(x + i, _mm512_add_ps(a, b));
            _mm512_storeu_ps(x + i + s, _mm512_sub_ps(a, b));
        }
    __m512 r = _mm512_set1_ps(1 / sqrtf((float)n));
    for (int i = 0; i < n; i += 16) _mm512_storeu_ps(x + i, _mm512_mul_ps(_mm512_loadu_ps(x + i), r));
}

static void quant_q4(uint8_t *q, float *d, const float *x, int K)
{
    const __m512i mag = _mm512_set1_epi32(0x7fffffff);
    const __m512 half = _mm512_set1_ps(8.5f), top15 = _mm512_set1_ps(15);
    for (int b = 0; b < K / QBLOCK; b++, x += QBLOCK, q += QBLOCK / 2) {
        __m512 x0 = _mm512_loadu_ps(x), x1 = _mm512_loadu_ps(x + 16);
        __m512i m0 = _mm512_and_si512(_mm512_castps_si512(x0), mag);
        __m512i m1 = _mm512_and_si512(_mm512_castps_si512(x1), mag);
        __m512i top = _mm512_set1_epi32((int)_mm512_reduce_max_epu32(_mm512_max_epu32(m0, m1)));
        uint32_t at = (uint32_t)_mm512_cmpeq_epi32_mask(m0, top) |
                      (uint32_t)_mm512_cmpeq_epi32_mask(m1, top) << 16;
        d[b] = x[__builtin_ctz(at)] / -8;               /* the first of equals, with its sign */
        __m512 id = _mm512_set1_ps(d[b] == 0 ? 0 : 1 / d[b]);
        x0 = _mm512_add_ps(_mm512_mul_ps(x0, id), half);
        x1 = _mm512_add_ps(_mm512_mul_ps(x1, id), half);
        /* max gives its second operand for a NaN */
        x0 = _mm512_min_ps(_mm512_max_ps(x0, _mm512_setzero_ps()), top15);
        x1 = _mm512_min_ps(_mm512_max_ps(x1, _mm512_setzero_ps()), top15);
        __m512i u = _mm512_or_si512(_mm512_cvttps_epi32(x0),
                                    _mm512_slli_epi32(_mm512_cvttps_epi32(x1), 4));
        _mm_storeu_si128((void *)q, _mm512_cvtepi32_epi8(u));
    }
}

void kern_init_avx512_kv(kern *k);
void kern_init_avx512_kv(kern *k)
{
    k->hadamard = hadamard;
    k->quant_q4 = quant_q4;
    k->scores_q8 = scores_q8;
    k->scores_q4 = scores_q4;
    k->v_q8 = v_q8;
    k->v_q4 = v_q4;
    k->weigh_q8 = weigh_q8;
    k->weigh_q4 = weigh_q4;
}
#else
typedef int kern_avx512_kv_not_here;
#endif
