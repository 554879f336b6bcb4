/* lane_avx2.h - lane_ref.h's names on two registers of AVX2. */
#include <immintrin.h>
#include <stdint.h>
#include <string.h>
#include "base/half.h"

enum { LANES = 16 };
typedef struct { __m256 a, b; } lf;
typedef struct { __m256 a, b; } lm;

static inline lf l_set(float a)            { return (lf){ _mm256_set1_ps(a), _mm256_set1_ps(a) }; }
static inline lf l_load(const float *p)
{
    return (lf){ _mm256_loadu_ps(p), _mm256_loadu_ps(p + 8) };
}
static inline void l_store(float *p, lf x)
{
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
}
#define LANE_TWO(F, x, y) (lf){ F((x).a, (y).a), F((x).b, (y).b) }
static inline lf l_add(lf x, lf y)         { return LANE_TWO(_mm256_add_ps, x, y); }
static inline lf l_sub(lf x, lf y)         { return LANE_TWO(_mm256_sub_ps, x, y); }
static inline lf l_mul(lf x, lf y)         { return LANE_TWO(_mm256_mul_ps, x, y); }
static inline lf l_div(lf x, lf y)         { return LANE_TWO(_mm256_div_ps, x, y); }
static inline lf l_min(lf x, lf y)         { return LANE_TWO(_mm256_min_ps, x, y); }
static inline lf l_max(lf x, lf y)         { return LANE_TWO(_mm256_max_ps, x, y); }
static inline lf l_fma(lf x, lf y, lf z)
{
    return (lf){ _mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b) };
}
static inline lf l_fnma(lf x, lf y, lf z)
{
    return (lf){ _mm256_fnmadd_ps(x.a, y.a, z.a), _mm256_fnmadd_ps(x.b, y.b, z.b) };
}
static inline lf l_abs(lf x)
{
    lf s = l_set(-0.0f);
    return (lf){ _mm256_andnot_ps(s.a, x.a), _mm256_andnot_ps(s.b, x.b) };
}
static inline lf l_round(lf x)
{
    return (lf){ _mm256_round_ps(x.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
                 _mm256_round_ps(x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC) };
}
static inline lm l_lt(lf x, lf y)
{
    return (lm){ _mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ) };
}
static inline lf l_sel(lm m, lf x, lf y)
{
    return (lf){ _mm256_blendv_ps(y.a, x.a, m.a), _mm256_blendv_ps(y.b, x.b, m.b) };
}
static inline __m256 lane_f16(__m256 a)
{
    return _mm256_cvtph_ps(_mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
static inline lf l_f16(lf x)               { return (lf){ lane_f16(x.a), lane_f16(x.b) }; }
static inline void l_bytes(uint8_t *p, lf x)
{
    __m256i h = _mm256_packus_epi32(_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b));
    h = _mm256_permute4x64_epi64(h, 0xd8);
    __m128i lo = _mm256_castsi256_si128(h), hi = _mm256_extracti128_si256(h, 1);
    _mm_storeu_si128((__m128i *)p, _mm_packus_epi16(lo, hi));
}
static inline lf l_floor(lf x)             { return (lf){ _mm256_floor_ps(x.a), _mm256_floor_ps(x.b) }; }
static inline unsigned l_mask(lm m)
{
    return (unsigned)_mm256_movemask_ps(m.a) | (unsigned)_mm256_movemask_ps(m.b) << 8;
}
static inline float l_most(lf x)
{
    __m256 b = _mm256_max_ps(x.a, x.b);
    __m128 c = _mm_max_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_max_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_max_ss(c, _mm_shuffle_ps(c, c, 1)));
}
static inline void l_turn(float *to, const float *const *from)
{
    for (int i = 0; i < LANES; i++)
        for (int j = 0; j < LANES; j++) to[j * LANES + i] = from[i] ? from[i][j] : 0;
}
#undef LANE_TWO
