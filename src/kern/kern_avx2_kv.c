/* kern_avx2_kv.c - the quantised cache: tiles to f32, and the rounding of Q4_0. Compiled with this
 * level's flags: only static functions and kern_init_avx2_kv may come out of it. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include "kern/kv_tile.h"
#include "kern/vec_avx2.h"
#include "kern/scores_body.h"

static inline __m256 bytes(const int8_t *p)             /* eight int8 as f32 */
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)p)));
}

static inline __m256 half(uint16_t h) { return _mm256_cvtph_ps(_mm_set1_epi16((short)h)); }

/* Eight integers 0..15 as floats, less 8. */
static inline __m256 nibbles(__m256i u)
{
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(u, _mm256_set1_epi32(8)));
}

static void v_q8(float *v, const void *head, int hs)
{
    const char *pv = (const char *)head + kv_tile_bytes(8, hs);
    const uint16_t *dv = (const uint16_t *)pv;
    const int8_t *qv = (const int8_t *)(pv + kv_tile_scales(hs));
    for (int b = 0; b < hs / QBLOCK * ATTN_TILE; b++, qv += QBLOCK, v += QBLOCK) {
        __m256 d = half(dv[b]);
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
            _mm256_storeu_ps(v + 8 * i, _mm256_mul_ps(bytes(qv + 8 * i), d));
    }
}

static void v_q4(float *v, const void *head, int hs)
{
    const __m256i low = _mm256_set1_epi32(15);
    const char *pv = (const char *)head + kv_tile_bytes(4, hs);
    const uint16_t *dv = (const uint16_t *)pv;
    const uint8_t *qv = (const uint8_t *)(pv + kv_tile_scales(hs));
    for (int b = 0; b < hs / QBLOCK * ATTN_TILE; b++, qv += 16, v += QBLOCK) {
        __m256 d = half(dv[b]);
#pragma GCC unroll 2
        for (int i = 0; i < 2; i++) {
            __m256i u = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)(qv + 8 * i)));
            __m256 lo = nibbles(_mm256_and_si256(u, low)), hi = nibbles(_mm256_srli_epi32(u, 4));
            _mm256_storeu_ps(v + 8 * i, _mm256_mul_ps(lo, d));
            _mm256_storeu_ps(v + 16 + 8 * i, _mm256_mul_ps(hi, d));
        }
    }
}

/* Lanes of sign -0 are the upper of a pair: the partner less this; the others: the sum. */
static inline __m256 pairs(__m256 x, __m256 partner, __m256 sign)
{
    return _mm256_add_ps(partner, _mm256_xor_ps(x, sign));
}

static void hadamard(float *x, int n)
{
    const __m256 s1 = _mm256_setr_ps(0, -0.0f, 0, -0.0f, 0, -0.0f, 0, -0.0f);
    const __m256 s2 = _mm256_setr_ps(0, 0, -0.0f, -0.0f, 0, 0, -0.0f, -0.0f);
    const __m256 s4 = _mm256_setr_ps(0, 0, 0, 0, -0.0f, -0.0f, -0.0f, -0.0f);
    for (int i = 0; i < n; i += 8) {
        __m256 a = _mm256_loadu_ps(x + i);
        a = pairs(a, _mm256_permute_ps(a, 0xb1), s1);
        a = pairs(a, _mm256_permute_ps(a, 0x4e), s2);
        a = pairs(a, _mm256_permute2f128_ps(a, a, 1), s4);
        _mm256_storeu_ps(x + i, a);
    }
    for (int s = 8; s < n; s *= 2)
        for (int i = 0; i < n; i += 8) {
            if (i & s) continue;
            __m256 a = _mm256_loadu_ps(x + i), b = _mm256_loadu_ps(x + i + s);
            _mm256_storeu_ps(x + i, _mm256_add_ps(a, b));
            _mm256_storeu_ps(x + i + s, _mm256_sub_ps(a, b));
        }
    __m256 r = _mm256_set1_ps(1 / sqrtf((float)n));
    for (int i = 0; i < n; i += 8) _mm256_storeu_ps(x + i, _mm256_mul_ps(_mm256_loadu_ps(x + i), r));
}

/* Eight of x as integers 0..15; max gives its second operand for a NaN. */
static inline __m256i to_nibbles(const float *x, __m256 id)
{
    __m256 t = _mm256_add_ps(_mm256_mul_ps(_mm256_loadu_ps(x), id), _mm256_set1_ps(8.5f));
    t = _mm256_min_ps(_mm256_max_ps(t, _mm256_setzero_ps()), _mm256_set1_ps(15));
    return _mm256_cvttps_epi32(t);
}

static void quant_q4(uint8_t *q, float *d, const float *x, int K)
{
    const __m256i mag = _mm256_set1_epi32(0x7fffffff);
    for (int b = 0; b < K / QBLOCK; b++, x += QBLOCK, q += QBLOCK / 2) {
        __m256i m[4], top = _mm256_setzero_si256();
        for (int i = 0; i < 4; i++) {
            m[i] = _mm256_and_si256(_mm256_castps_si256(_mm256_loadu_ps(x + 8 * i)), mag);
            top = _mm256_max_epi32(top, m[i]);
        }
        __m128i t = _mm_max_epi32(_mm256_castsi256_si128(top), _mm256_extracti128_si256(top, 1));
        t = _mm_max_epi32(t, _mm_shuffle_epi32(t, 0x4e));
        t = _mm_max_epi32(t, _mm_shuffle_epi32(t, 0xb1));
        top = _mm256_broadcastd_epi32(t);
        uint32_t at = 0;
        for (int i = 0; i < 4; i++) {
            __m256i eq = _mm256_cmpeq_epi32(m[i], top);
            at |= (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(eq)) << 8 * i;
        }
        d[b] = x[__builtin_ctz(at)] / -8;               /* the first of equals, with its sign */
        __m256 id = _mm256_set1_ps(d[b] == 0 ? 0 : 1 / d[b]);
        __m256i u[2];
        for (int i = 0; i < 2; i++)
            u[i] = _mm256_or_si256(to_nibbles(x + 8 * i, id),
                                   _mm256_slli_epi32(to_nibbles(x + 16 + 8 * i, id), 4));
        __m256i p = _mm256_packus_epi32(u[0], u[1]);             /* 16 bits: 0-3 8-11 4-7 12-15 */
        p = _mm256_permute4x64_epi64(p, 0xd8);
        __m128i w = _mm_packus_epi16(_mm256_castsi256_si128(p), _mm256_extracti128_si256(p, 1));
        _mm_storeu_si128((void *)q, w);
    }
}

void kern_init_avx2_kv(kern *k);
void kern_init_avx2_kv(kern *k)
{
    k->hadamard = hadamard;
    k->quant_q4 = quant_q4;
    k->scores_q8 = scores_q8;
    k->scores_q4 = scores_q4;
    k->v_q8 = v_q8;
    k->v_q4 = v_q4;
}
#else
typedef int kern_avx2_kv_not_here;
#endif
