/* kern_avx512_kv.c - the quantised cache: tiles to f32, and the rounding of Q4_0. Compiled with this
 * level's flags: only static functions and kern_init_avx512_kv may come out of it. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include "kern/kv_tile.h"

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
}
#else
typedef int kern_avx512_kv_not_here;
#endif
