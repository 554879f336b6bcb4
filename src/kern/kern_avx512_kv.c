/* kern_avx512_kv.c - the quantised cache: tiles to f32, and the rounding of Q4_0. Compiled with this
 * level's flags: only static functions and kern_init_avx512_kv may come out of it. */
#if defined(__x86_64__)
#include <math.h>
#include <stdbool.h>
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

static void kv_q8(float *k, float *v, const void *head, int hs)
{
    const char *pk = head, *pv = pk + kv_tile_bytes(8, hs);
    const uint16_t *dk = (const uint16_t *)pk, *dv = (const uint16_t *)pv;
    const int8_t *qk = (const int8_t *)(pk + kv_tile_scales(hs));
    const int8_t *qv = (const int8_t *)(pv + kv_tile_scales(hs));
    for (int b = 0; b < hs / QBLOCK; b++, dk += ATTN_TILE) {
        __m512 d[4];
        for (int i = 0; i < 4; i++) d[i] = halves(dk + 16 * i);
        for (int e = 0; e < QBLOCK; e++, qk += ATTN_TILE, k += ATTN_TILE)
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++)
                _mm512_storeu_ps(k + 16 * i, _mm512_mul_ps(bytes(qk + 16 * i), d[i]));
    }
    for (int b = 0; b < hs / QBLOCK * ATTN_TILE; b++, qv += QBLOCK, v += QBLOCK) {
        __m512 d = _mm512_cvtph_ps(_mm256_set1_epi16((short)dv[b]));
        _mm512_storeu_ps(v, _mm512_mul_ps(bytes(qv), d));
        _mm512_storeu_ps(v + 16, _mm512_mul_ps(bytes(qv + 16), d));
    }
}

static void kv_q4(float *k, float *v, const void *head, int hs)
{
    const __m512 table = NIBBLES;
    const char *pk = head, *pv = pk + kv_tile_bytes(4, hs);
    const uint16_t *dk = (const uint16_t *)pk, *dv = (const uint16_t *)pv;
    const uint8_t *qk = (const uint8_t *)(pk + kv_tile_scales(hs));
    const uint8_t *qv = (const uint8_t *)(pv + kv_tile_scales(hs));
    for (int b = 0; b < hs / QBLOCK; b++, dk += ATTN_TILE, k += 16 * ATTN_TILE) {
        __m512 d[4];
        for (int i = 0; i < 4; i++) d[i] = halves(dk + 16 * i);
        for (int e = 0; e < 16; e++, qk += ATTN_TILE, k += ATTN_TILE)
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) {
                __m512i u = _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)(qk + 16 * i)));
                __m512 lo = _mm512_permutexvar_ps(u, table);
                __m512 hi = _mm512_permutexvar_ps(_mm512_srli_epi32(u, 4), table);
                _mm512_storeu_ps(k + 16 * i, _mm512_mul_ps(lo, d[i]));
                _mm512_storeu_ps(k + 16 * ATTN_TILE + 16 * i, _mm512_mul_ps(hi, d[i]));
            }
    }
    for (int b = 0; b < hs / QBLOCK * ATTN_TILE; b++, qv += 16, v += QBLOCK) {
        __m512 d = _mm512_cvtph_ps(_mm256_set1_epi16((short)dv[b]));
        __m512i u = _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)qv));
        _mm512_storeu_ps(v, _mm512_mul_ps(_mm512_permutexvar_ps(u, table), d));
        u = _mm512_srli_epi32(u, 4);
        _mm512_storeu_ps(v + 16, _mm512_mul_ps(_mm512_permutexvar_ps(u, table), d));
    }
}

/* ---- attention straight from the quantised tile, for few rows ---- */

enum { FEW = 4 };                       /* rows at once: sixteen sums, and room for scales */

/* Sixteen values of Q8_0; of Q4_0 the low or the high nibbles. */
static inline __attribute__((always_inline)) vf values(const uint8_t *p, int bits, bool high)
{
    if (bits == 8) return bytes((const int8_t *)p);
    __m512i u = _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)p));
    if (high) u = _mm512_srli_epi32(u, 4);
    return _mm512_permutexvar_ps(u, NIBBLES);
}

static inline __attribute__((always_inline)) void few_scores(int R, int bits, float *s,
                                                             const float *q, int hs,
                                                             const char *k, att_ahead n)
{
    const uint16_t *scale = (const uint16_t *)k;
    const uint8_t *at = (const uint8_t *)k + kv_tile_scales(hs);
    vf acc[FEW * 4];
    UNROLL(16)
    for (int i = 0; i < R * 4; i++) acc[i] = v_set(0);
    for (int b = 0; b < hs / QBLOCK; b++, scale += ATTN_TILE, q += QBLOCK) {
        vf d[4];
        UNROLL(4)
        for (int i = 0; i < 4; i++) d[i] = halves(scale + 16 * i);
        UNROLL(2)
        for (int half = 0; half < 2; half++) {
            for (int e = 0; e < 16; e++) {
                const uint8_t *row = at + (bits == 8 ? 16 * half + e : e) * ATTN_TILE;
                vf kk[4];
                att_fetch(&n);
                UNROLL(4)
                for (int i = 0; i < 4; i++) kk[i] = v_mul(values(row + 16 * i, bits, half), d[i]);
                UNROLL(4)
                for (int r = 0; r < R; r++) {
                    vf x = v_set(q[r * hs + 16 * half + e]);
                    UNROLL(4)
                    for (int i = 0; i < 4; i++) acc[r * 4 + i] = v_fma(x, kk[i], acc[r * 4 + i]);
                }
            }
        }
        at += kv_tile_block(bits) * ATTN_TILE;
    }
    UNROLL(16)
    for (int i = 0; i < R * 4; i++) v_store(s + 16 * i, acc[i]);
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
                                                           float *acc, const float *q, int hs,
                                                           const char *head, float *p,
                                                           const char *next)
{
    const char *v = head + kv_tile_bytes(bits, hs);
    const uint16_t *scale = (const uint16_t *)v;
    float c[FEW], *d = p + FEW * ATTN_TILE;             /* (64,B) */
    int B = hs / QBLOCK;
    att_ahead ahead = { next, next != NULL };          /* about a line at a step */
    few_scores(R, bits, p, q, hs, head, ahead);
    if (R == 4) soften4(p, m, l, c);
    else for (int r = 0; r < R; r++) c[r] = soften(p + r * ATTN_TILE, m + r, l + r, 0, ATTN_TILE);
    for (int i = 0; i < ATTN_TILE * B; i += 16) v_store(d + i, halves(scale + i));
    if (next) ahead.at += kv_tile_bytes(bits, hs);
    v += kv_tile_scales(hs);
    int b = 0;
    for (; b + 2 <= B; b += 2, acc += 2 * QBLOCK, v += 2 * kv_tile_block(bits)) {
        few_weigh(R, 2, bits, acc, c, p, (const uint8_t *)v, d + b, hs, ahead);
        ahead.at += 64 * ahead.lines * ATTN_TILE;
    }
    if (b < B) few_weigh(R, 1, bits, acc, c, p, (const uint8_t *)v, d + b, hs, att_none);
}

static inline __attribute__((always_inline)) void few(int bits, float *m, float *l, float *acc,
                                                      const float *q, int R, int hs,
                                                      const char *head, float *p, const char *next)
{
    for (; R > 0; R -= FEW, m += FEW, l += FEW, acc += FEW * hs, q += FEW * hs) {
        switch (R) {
        case 1: few_rows(1, bits, m, l, acc, q, hs, head, p, next); break;
        case 2: few_rows(2, bits, m, l, acc, q, hs, head, p, next); break;
        case 3: few_rows(3, bits, m, l, acc, q, hs, head, p, next); break;
        default: few_rows(4, bits, m, l, acc, q, hs, head, p, next);
        }
        next = NULL;
    }
}

static void attn_q8(float *m, float *l, float *acc, const float *q, int R, int hs,
                    const void *head, float *p, const void *next)
{
    few(8, m, l, acc, q, R, hs, head, p, next);
}

static void attn_q4(float *m, float *l, float *acc, const float *q, int R, int hs,
                    const void *head, float *p, const void *next)
{
    few(4, m, l, acc, q, R, hs, head, p, next);
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
    k->kv_q8 = kv_q8;
    k->kv_q4 = kv_q4;
    k->attn_q8 = attn_q8;
    k->attn_q4 = attn_q4;
}
#else
typedef int kern_avx512_kv_not_here;
#endif
