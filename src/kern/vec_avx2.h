/* vec_avx2.h - sixteen floats in two registers: the same lanes as vec_avx512.h, hence the same
 * bits. */
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

enum { MUL_R = 2, MUL_C = 2, ATT_R = 1, ATT_WIDEN = 1 };

typedef struct { __m256 a, b; } vf;
typedef struct { __m256i a, b; } vh;

static inline vf v_set(float x)
{
    return (vf){ _mm256_set1_ps(x), _mm256_set1_ps(x) };
}
static inline vf v_load(const float *p)
{
    return (vf){ _mm256_loadu_ps(p), _mm256_loadu_ps(p + 8) };
}
static inline void v_store(float *p, vf x)
{
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
}
static inline vf v_load_n(const float *p, int n)
{
    float t[16] = { 0 };
    memcpy(t, p, (size_t)n * sizeof *t);
    return v_load(t);
}
static inline void v_store_n(float *p, vf x, int n)
{
    float t[16];
    v_store(t, x);
    memcpy(p, t, (size_t)n * sizeof *t);
}
static inline vf v_load_f16(const uint16_t *p)
{
    return (vf){ _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
                 _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 8))) };
}
static inline __m256 bf16_half(const uint16_t *p)
{
    __m256i u = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(u, 16));
}
static inline vf v_load_bf16(const uint16_t *p)
{
    return (vf){ bf16_half(p), bf16_half(p + 8) };
}
static inline vf v_load_f16_n(const uint16_t *p, int n)
{
    uint16_t t[16] = { 0 };
    memcpy(t, p, (size_t)n * sizeof *t);
    return v_load_f16(t);
}
static inline vf v_load_bf16_n(const uint16_t *p, int n)
{
    uint16_t t[16] = { 0 };
    memcpy(t, p, (size_t)n * sizeof *t);
    return v_load_bf16(t);
}
static inline vf v_mul(vf x, vf y)
{
    return (vf){ _mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b) };
}
static inline vf v_add(vf x, vf y)
{
    return (vf){ _mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b) };
}
static inline vf v_div(vf x, vf y)
{
    return (vf){ _mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b) };
}
static inline vf v_fma(vf x, vf y, vf z)
{
    return (vf){ _mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b) };
}
static inline vf v_max(vf x, vf y)
{
    return (vf){ _mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b) };
}
static inline vf v_min(vf x, vf y)
{
    return (vf){ _mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b) };
}
static inline vf v_neg(vf x)
{
    __m256 s = _mm256_set1_ps(-0.0f);
    return (vf){ _mm256_xor_ps(x.a, s), _mm256_xor_ps(x.b, s) };
}
static inline vf v_round(vf x)
{
    return (vf){ _mm256_round_ps(x.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
                 _mm256_round_ps(x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC) };
}
static inline __m256 exp2i_half(__m256 n)
{
    __m256i i = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(i, 23));
}
/* a * 2^n for whole n in -126 .. 127 */
static inline vf v_scale2(vf x, vf n)
{
    return v_mul(x, (vf){ exp2i_half(n.a), exp2i_half(n.b) });
}
static inline vf v_zero_below(vf x, vf of, float lim)
{
    __m256 l = _mm256_set1_ps(lim);
    return (vf){ _mm256_and_ps(x.a, _mm256_cmp_ps(of.a, l, _CMP_NLT_UQ)),
                 _mm256_and_ps(x.b, _mm256_cmp_ps(of.b, l, _CMP_NLT_UQ)) };
}
static inline __m256 inside_half(__m256 x, __m256 y, int at, int lo, int hi)
{
    __m256i i = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(at));
    __m256i in = _mm256_andnot_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(lo), i),
                                     _mm256_cmpgt_epi32(_mm256_set1_epi32(hi), i));
    return _mm256_blendv_ps(y, x, _mm256_castsi256_ps(in));
}
static inline vf v_inside(vf x, vf y, int at, int lo, int hi)
{
    return (vf){ inside_half(x.a, y.a, at, lo, hi), inside_half(x.b, y.b, at + 8, lo, hi) };
}
static inline int v_eq_first(vf x, float b)
{
    __m256 v = _mm256_set1_ps(b);
    unsigned m = (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(x.a, v, _CMP_EQ_OQ)) |
                 (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(x.b, v, _CMP_EQ_OQ)) << 8;
    return m ? __builtin_ctz(m) : -1;
}
static inline float v_max_all(vf x)
{
    __m256 b = _mm256_max_ps(x.a, x.b);
    __m128 c = _mm_max_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_max_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_max_ss(c, _mm_shuffle_ps(c, c, 1)));
}

static inline vh h_load(const uint16_t *p)
{
    return (vh){ _mm256_loadu_si256((const __m256i *)p),
                 _mm256_loadu_si256((const __m256i *)(p + 16)) };
}
static inline vh h_load_n(const uint16_t *p, int n)
{
    uint16_t t[32] = { 0 };
    memcpy(t, p, (size_t)n * sizeof *t);
    return h_load(t);
}
static inline __m256 h_odd(__m256i a)
{
    return _mm256_castsi256_ps(_mm256_and_si256(a, _mm256_set1_epi32((int)0xffff0000)));
}
static inline __m256 h_even(__m256i a) { return _mm256_castsi256_ps(_mm256_slli_epi32(a, 16)); }
static inline vf h_dot(vh x, vh y, vf z)
{
    z.a = _mm256_fmadd_ps(h_odd(x.a), h_odd(y.a), z.a);
    z.b = _mm256_fmadd_ps(h_odd(x.b), h_odd(y.b), z.b);
    z.a = _mm256_fmadd_ps(h_even(x.a), h_even(y.a), z.a);
    z.b = _mm256_fmadd_ps(h_even(x.b), h_even(y.b), z.b);
    return z;
}

static inline __m256i to_bf16_half(__m256 a)
{
    __m256i u = _mm256_castps_si256(a), top = _mm256_srli_epi32(u, 16);
    __m256i odd = _mm256_and_si256(top, _mm256_set1_epi32(1));
    __m256i r = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), odd);
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
    return _mm256_blendv_epi8(_mm256_srli_epi32(r, 16),
                              _mm256_or_si256(top, _mm256_set1_epi32(0x40)), nan);
}
static inline __m256i v_to_bf16(vf x)
{
    __m256i p = _mm256_packus_epi32(to_bf16_half(x.a), to_bf16_half(x.b));
    return _mm256_permute4x64_epi64(p, 0xd8);
}
static inline __m128i to_f16_half(__m256 a)
{
    __m128i h = _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256i n = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
    __m128i nan = _mm_packs_epi32(_mm256_castsi256_si128(n), _mm256_extracti128_si256(n, 1));
    __m128i sign = _mm_and_si128(h, _mm_set1_epi16((short)0x8000));
    return _mm_blendv_epi8(h, _mm_or_si128(sign, _mm_set1_epi16(0x7e00)), nan);
}
static inline __m256i v_to_f16(vf x)
{
    return _mm256_set_m128i(to_f16_half(x.b), to_f16_half(x.a));
}
static inline void v_store_bf16(uint16_t *p, vf x)
{
    _mm256_storeu_si256((__m256i *)p, v_to_bf16(x));
}
static inline void v_store_f16(uint16_t *p, vf x)
{
    _mm256_storeu_si256((__m256i *)p, v_to_f16(x));
}

static inline float v_tree(vf x)
{
    __m256 b = _mm256_add_ps(x.a, x.b);
    __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_add_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_shuffle_ps(c, c, 1)));
}

/* Sixteen F8_E4M3 at a time, by way of F16: seven bits lower they are 2^-8 of their value there,
 * subnormals included. Only NaN must be made. */
#define V_F8 1
enum { V8 = 16 };
typedef vf v8;
static inline v8 v8_load_f8(const uint8_t *p)
{
    __m256i x = _mm256_slli_epi16(_mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)p)), 8);
    x = _mm256_and_si256(_mm256_srai_epi16(x, 1), _mm256_set1_epi16((short)0xbf80));
    __m256i top = _mm256_set1_epi16(0x3f80);
    __m256i nan = _mm256_cmpeq_epi16(_mm256_and_si256(x, top), top);
    x = _mm256_or_si256(x, _mm256_and_si256(nan, _mm256_set1_epi16(0x7c00)));
    vf y = { _mm256_cvtph_ps(_mm256_castsi256_si128(x)),
             _mm256_cvtph_ps(_mm256_extracti128_si256(x, 1)) };
    return v_mul(y, v_set(256));
}
static inline v8 v8_load_f8_n(const uint8_t *p, int n)
{
    uint8_t t[16] = { 0 };
    memcpy(t, p, (size_t)n);
    return v8_load_f8(t);
}
static inline v8 v8_load(const float *p) { return v_load(p); }
static inline v8 v8_load_n(const float *p, int n) { return v_load_n(p, n); }
static inline void v8_store(float *p, v8 x) { v_store(p, x); }
static inline void v8_store_n(float *p, v8 x, int n) { v_store_n(p, x, n); }
static inline vf v8_fma(v8 a, v8 b, vf c) { return v_fma(a, b, c); }
