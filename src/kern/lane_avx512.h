/* lane_avx512.h - lane_ref.h's names on one register of AVX-512. */
#include <immintrin.h>
#include <stdint.h>
#include <string.h>
#include "base/half.h"

enum { LANES = 16 };
typedef __m512 lf;
typedef __mmask16 lm;

static inline lf l_set(float a)            { return _mm512_set1_ps(a); }
static inline lf l_load(const float *p)    { return _mm512_loadu_ps(p); }
static inline void l_store(float *p, lf a) { _mm512_storeu_ps(p, a); }
static inline lf l_add(lf a, lf b)         { return _mm512_add_ps(a, b); }
static inline lf l_sub(lf a, lf b)         { return _mm512_sub_ps(a, b); }
static inline lf l_mul(lf a, lf b)         { return _mm512_mul_ps(a, b); }
static inline lf l_div(lf a, lf b)         { return _mm512_div_ps(a, b); }
static inline lf l_fma(lf a, lf b, lf c)   { return _mm512_fmadd_ps(a, b, c); }
static inline lf l_fnma(lf a, lf b, lf c)  { return _mm512_fnmadd_ps(a, b, c); }
static inline lf l_min(lf a, lf b)         { return _mm512_min_ps(a, b); }
static inline lf l_max(lf a, lf b)         { return _mm512_max_ps(a, b); }
static inline lf l_abs(lf a)               { return _mm512_abs_ps(a); }
static inline lf l_round(lf a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline lm l_lt(lf a, lf b)          { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
static inline lf l_sel(lm m, lf a, lf b)   { return _mm512_mask_blend_ps(m, b, a); }
static inline lf l_f16(lf a)
{
    return _mm512_cvtph_ps(_mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
static inline void l_bytes(uint8_t *p, lf a)
{
    _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a)));
}
static inline lf l_floor(lf a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}
static inline unsigned l_mask(lm m)        { return m; }
static inline float l_most(lf a)           { return _mm512_reduce_max_ps(a); }
/* Four rows of four floats in each 128-bit part, then the parts. */
static inline void l_turn(float *to, const float *const *from)
{
    __m512 r[16], t[16];
    for (int i = 0; i < 16; i++) r[i] = from[i] ? _mm512_loadu_ps(from[i]) : _mm512_setzero_ps();
    for (int i = 0; i < 16; i += 4) {
        __m512 a = _mm512_unpacklo_ps(r[i], r[i + 1]), b = _mm512_unpackhi_ps(r[i], r[i + 1]);
        __m512 c = _mm512_unpacklo_ps(r[i + 2], r[i + 3]), d = _mm512_unpackhi_ps(r[i + 2], r[i + 3]);
        t[i] = _mm512_shuffle_ps(a, c, 0x44), t[i + 1] = _mm512_shuffle_ps(a, c, 0xee);
        t[i + 2] = _mm512_shuffle_ps(b, d, 0x44), t[i + 3] = _mm512_shuffle_ps(b, d, 0xee);
    }
    for (int j = 0; j < 4; j++) {
        __m512 a = _mm512_shuffle_f32x4(t[j], t[4 + j], 0x88);
        __m512 b = _mm512_shuffle_f32x4(t[8 + j], t[12 + j], 0x88);
        __m512 c = _mm512_shuffle_f32x4(t[j], t[4 + j], 0xdd);
        __m512 d = _mm512_shuffle_f32x4(t[8 + j], t[12 + j], 0xdd);
        l_store(to + 16 * j, _mm512_shuffle_f32x4(a, b, 0x88));
        l_store(to + 16 * (4 + j), _mm512_shuffle_f32x4(c, d, 0x88));
        l_store(to + 16 * (8 + j), _mm512_shuffle_f32x4(a, b, 0xdd));
        l_store(to + 16 * (12 + j), _mm512_shuffle_f32x4(c, d, 0xdd));
    }
}
