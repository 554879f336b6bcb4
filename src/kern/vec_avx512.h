/* vec_avx512.h - sixteen floats in a register. Every vec_*.h gives kern_body.h these names. */
#include <immintrin.h>
#include <stdint.h>

/* Tiles: MUL_R weight rows by MUL_C input rows of a product; ATT_R query rows. ATT_WIDEN: attention
 * of many rows makes a tile of halves f32 first; here conversions cost nothing beside the products. */
enum { MUL_R = 4, MUL_C = 6, ATT_R = 6, ATT_WIDEN = 0 };

typedef __m512 vf;                      /* sixteen f32 */
typedef __m512i vh;                     /* thirty-two bf16 */

static inline __mmask16 mask_of(int n)       { return (__mmask16)((1u << n) - 1); }
static inline vf v_set(float a)              { return _mm512_set1_ps(a); }
static inline vf v_load(const float *p)      { return _mm512_loadu_ps(p); }
static inline void v_store(float *p, vf a)   { _mm512_storeu_ps(p, a); }
/* the first n < 16, zeros after */
static inline vf v_load_n(const float *p, int n) { return _mm512_maskz_loadu_ps(mask_of(n), p); }
static inline void v_store_n(float *p, vf a, int n) { _mm512_mask_storeu_ps(p, mask_of(n), a); }
static inline vf v_f16(__m256i h)            { return _mm512_cvtph_ps(h); }
static inline vf v_bf16(__m256i h)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}
static inline vf v_load_f16(const uint16_t *p)
{
    return v_f16(_mm256_loadu_si256((const __m256i *)p));
}
static inline vf v_load_f16_n(const uint16_t *p, int n)
{
    return v_f16(_mm256_maskz_loadu_epi16(mask_of(n), p));
}
static inline vf v_load_bf16(const uint16_t *p)
{
    return v_bf16(_mm256_loadu_si256((const __m256i *)p));
}
static inline vf v_load_bf16_n(const uint16_t *p, int n)
{
    return v_bf16(_mm256_maskz_loadu_epi16(mask_of(n), p));
}
static inline vf v_mul(vf a, vf b)           { return _mm512_mul_ps(a, b); }
static inline vf v_add(vf a, vf b)           { return _mm512_add_ps(a, b); }
static inline vf v_div(vf a, vf b)           { return _mm512_div_ps(a, b); }
static inline vf v_fma(vf a, vf b, vf c)     { return _mm512_fmadd_ps(a, b, c); }
static inline vf v_max(vf a, vf b)           { return _mm512_max_ps(a, b); }   /* b if NaN */
static inline vf v_min(vf a, vf b)           { return _mm512_min_ps(a, b); }   /* b if NaN */
static inline vf v_neg(vf a)
{
    return _mm512_xor_ps(a, _mm512_set1_ps(-0.0f));
}
static inline vf v_round(vf a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* a * 2^n for whole n in -126 .. 127 */
static inline vf v_scale2(vf a, vf n)        { return _mm512_scalef_ps(a, n); }
/* a where x >= lim or x is NaN, else 0 */
static inline vf v_zero_below(vf a, vf x, float lim)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, v_set(lim), _CMP_NLT_UQ), a);
}
/* a in lanes i with lo <= at + i < hi, else b */
static inline vf v_inside(vf a, vf b, int at, int lo, int hi)
{
    lo = lo < at ? 0 : lo - at < 16 ? lo - at : 16;
    hi = hi < at ? 0 : hi - at < 16 ? hi - at : 16;
    uint32_t m = ((1u << hi) - 1) & ~((1u << lo) - 1);
    return _mm512_mask_mov_ps(b, (__mmask16)m, a);
}
static inline int v_eq_first(vf a, float b)     /* lowest lane that equals b; -1: none */
{
    unsigned m = _mm512_cmp_ps_mask(a, v_set(b), _CMP_EQ_OQ);
    return m ? __builtin_ctz(m) : -1;
}
static inline float v_max_all(vf a)          { return _mm512_reduce_max_ps(a); }

static inline vh h_load(const uint16_t *p)   { return _mm512_loadu_si512(p); }
static inline vh h_load_n(const uint16_t *p, int n)
{
    return _mm512_maskz_loadu_epi16((__mmask32)((1ull << n) - 1), p);
}
static inline vf h_dot(vh a, vh b, vf c)
{
    return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b);
}

/* The sixteen as bf16 bits, to nearest even; a NaN stays one (VCVTNEPS2BF16 would flush
 * subnormals). */
static inline __m256i v_to_bf16(vf a)
{
    __m512i u = _mm512_castps_si512(a), top = _mm512_srli_epi32(u, 16);
    __m512i odd = _mm512_and_si512(top, _mm512_set1_epi32(1));
    __m512i r = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd);
    r = _mm512_mask_or_epi32(_mm512_srli_epi32(r, 16), _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q),
                             top, _mm512_set1_epi32(0x40));
    return _mm512_cvtepi32_epi16(r);
}
static inline __m256i v_to_f16(vf a)
{
    __m256i h = _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __mmask16 nan = _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
    __m256i sign = _mm256_and_si256(h, _mm256_set1_epi16((short)0x8000));
    return _mm256_mask_blend_epi16(nan, h, _mm256_or_si256(sign, _mm256_set1_epi16(0x7e00)));
}
static inline void v_store_bf16(uint16_t *p, vf a)
{
    _mm256_storeu_si256((__m256i *)p, v_to_bf16(a));
}
static inline void v_store_f16(uint16_t *p, vf a)
{
    _mm256_storeu_si256((__m256i *)p, v_to_f16(a));
}

/* tree16 of one register. */
static inline float v_tree(vf a)
{
    __m256 b = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_add_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_shuffle_ps(c, c, 1)));
}

/* The first two steps of tree16 for four registers at once: four lanes left of each. */
static inline vf tree_half(vf a, vf b, vf c, vf d)
{
    vf ab = v_add(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
    vf cd = v_add(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xee));
    return v_add(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
}

/* tree16 of a MUL_R x 4 tile: y[c*ldy + r] from a[r*ld + c]. */
static inline void v_tree_4x4(float *y, size_t ldy, const vf *a, int ld)
{
    vf r[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        r[i] = tree_half(a[i * ld], a[i * ld + 1], a[i * ld + 2], a[i * ld + 3]);
    vf u = v_add(_mm512_shuffle_ps(r[0], r[1], 0x44), _mm512_shuffle_ps(r[0], r[1], 0xee));
    vf v = v_add(_mm512_shuffle_ps(r[2], r[3], 0x44), _mm512_shuffle_ps(r[2], r[3], 0xee));
    vf z = v_add(_mm512_shuffle_ps(u, v, 0x88), _mm512_shuffle_ps(u, v, 0xdd));
    _mm_storeu_ps(y, _mm512_castps512_ps128(z));
    _mm_storeu_ps(y + ldy, _mm512_extractf32x4_ps(z, 1));
    _mm_storeu_ps(y + 2 * ldy, _mm512_extractf32x4_ps(z, 2));
    _mm_storeu_ps(y + 3 * ldy, _mm512_extractf32x4_ps(z, 3));
}

/* The same of a MUL_R x 2 tile. */
static inline void v_tree_4x2(float *y, size_t ldy, const vf *a, int ld)
{
    vf h = tree_half(a[0], a[1], a[ld], a[ld + 1]);
    vf g = tree_half(a[2 * ld], a[2 * ld + 1], a[3 * ld], a[3 * ld + 1]);
    vf u = v_add(_mm512_shuffle_ps(h, g, 0x44), _mm512_shuffle_ps(h, g, 0xee));
    vf z = v_add(_mm512_shuffle_ps(u, u, 0x88), _mm512_shuffle_ps(u, u, 0xdd));
    _mm_storeu_ps(y, _mm_unpacklo_ps(_mm512_castps512_ps128(z), _mm512_extractf32x4_ps(z, 2)));
    _mm_storeu_ps(y + ldy, _mm_unpacklo_ps(_mm512_extractf32x4_ps(z, 1),
                                           _mm512_extractf32x4_ps(z, 3)));
}
#define V_TREES 1

/* Four rows at once: lanes 4r .. 4r+3 belong to row r. */
#define V_QUADS 1
static inline vf quad_load(const float *p)   /* p[r] in the lanes of r */
{
    const __m512i at = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
    return _mm512_permutexvar_ps(at, _mm512_castps128_ps512(_mm_loadu_ps(p)));
}
static inline void quad_store(float *p, vf a)
{
    const __m512i at = _mm512_set_epi32(12, 8, 4, 0, 12, 8, 4, 0, 12, 8, 4, 0, 12, 8, 4, 0);
    _mm_storeu_ps(p, _mm512_castps512_ps128(_mm512_permutexvar_ps(at, a)));
}
static inline vf quad_row(vf a, int r)       /* what row r's lanes hold, in all */
{
    return _mm512_permutexvar_ps(_mm512_set1_epi32(4 * r), a);
}
/* The largest of a, b, c and d, none of them NaN, in their rows' lanes. */
static inline vf quad_max(vf a, vf b, vf c, vf d)
{
    vf ab = v_max(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
    vf cd = v_max(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xee));
    vf e = v_max(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
    e = v_max(e, _mm512_permute_ps(e, 0x4e));
    return v_max(e, _mm512_permute_ps(e, 0xb1));
}
/* tree16 of each, likewise. */
static inline vf quad_tree(vf a, vf b, vf c, vf d)
{
    vf e = tree_half(a, b, c, d);
    e = v_add(e, _mm512_permute_ps(e, 0x4e));
    return v_add(e, _mm512_permute_ps(e, 0xb1));
}

/* Sixty-four F8_E4M3 at a time. A table of 128 gives the two upper bytes of a value's f32, the
 * lower ones are 0. */
#define V_F8 1
enum { V8 = 64 };
typedef struct { vf v[4]; } v8;

#define F8_E(m0, e) /* the eight values of one exponent: their f32's upper half, byte m0 of it */ \
    F8_B(m0, e, 0), F8_B(m0, e, 1), F8_B(m0, e, 2), F8_B(m0, e, 3), \
    F8_B(m0, e, 4), F8_B(m0, e, 5), F8_B(m0, e, 6), F8_B(m0, e, 7)
#define F8_B(m0, e, m) (uint8_t)((((e) + 120) << 7 | (m) << 4) >> 8 * (m0))
/* m * 2^-9 */
#define F8_SUB(m0) 0, 0x3b00 >> 8 * (m0) & 255, 0x3b80 >> 8 * (m0) & 255, \
    0x3bc0 >> 8 * (m0) & 255, 0x3c00 >> 8 * (m0) & 255, 0x3c20 >> 8 * (m0) & 255, \
    0x3c40 >> 8 * (m0) & 255, 0x3c60 >> 8 * (m0) & 255
#define F8_TABLE(m0, nan) { F8_SUB(m0), F8_E(m0, 1), F8_E(m0, 2), F8_E(m0, 3), F8_E(m0, 4), \
    F8_E(m0, 5), F8_E(m0, 6), F8_E(m0, 7), F8_E(m0, 8), F8_E(m0, 9), F8_E(m0, 10), F8_E(m0, 11), \
    F8_E(m0, 12), F8_E(m0, 13), F8_E(m0, 14), F8_B(m0, 15, 0), F8_B(m0, 15, 1), F8_B(m0, 15, 2), \
    F8_B(m0, 15, 3), F8_B(m0, 15, 4), F8_B(m0, 15, 5), F8_B(m0, 15, 6), nan }
static const uint8_t f8_low[128] __attribute__((aligned(64))) = F8_TABLE(0, 0xc0);
static const uint8_t f8_high[128] __attribute__((aligned(64))) = F8_TABLE(1, 0x7f);
#undef F8_E
#undef F8_B
#undef F8_SUB
#undef F8_TABLE

static inline __attribute__((always_inline)) v8 v8_f8(__m512i x)
{
    /* byte k of dword i of quarter q: 2 takes low[16q + i], 3 takes high */
    const __m512i at = _mm512_set_epi32(
        0x4f0f0000, 0x4e0e0000, 0x4d0d0000, 0x4c0c0000, 0x4b0b0000, 0x4a0a0000, 0x49090000,
        0x48080000, 0x47070000, 0x46060000, 0x45050000, 0x44040000, 0x43030000, 0x42020000,
        0x41010000, 0x40000000);
    __m512i low = _mm512_permutex2var_epi8(_mm512_load_si512(f8_low), x,
                                           _mm512_load_si512(f8_low + 64));
    __m512i high = _mm512_permutex2var_epi8(_mm512_load_si512(f8_high), x,
                                            _mm512_load_si512(f8_high + 64));
    high = _mm512_ternarylogic_epi32(high, x, _mm512_set1_epi8((char)0x80), 0xf8);    /* sign */
    v8 y;
#pragma GCC unroll 4
    for (int q = 0; q < 4; q++) {
        __m512i i = _mm512_add_epi8(at, _mm512_set1_epi8((char)(16 * q)));
        i = _mm512_maskz_permutex2var_epi8(0xccccccccccccccccull, low, i, high);
        y.v[q] = _mm512_castsi512_ps(i);
    }
    return y;
}
static inline __attribute__((always_inline)) v8 v8_load_f8(const uint8_t *p)
{
    return v8_f8(_mm512_loadu_si512(p));
}
/* The first n < 64, and zeros up to a multiple of sixteen. The sixteens after that are -0, and the
 * inputs' +0, so that nothing changes in the sums: not even -0, which +0 would make +0. */
static inline v8 v8_load_f8_n(const uint8_t *p, int n)
{
    int half = (n + 15) / 16 * 8;
    __mmask64 some = (1ull << n) - 1, none = ~(__mmask64)0 << half << half;
    return v8_f8(_mm512_mask_mov_epi8(_mm512_maskz_loadu_epi8(some, p), none,
                                      _mm512_set1_epi8((char)0x80)));
}
static inline __attribute__((always_inline)) v8 v8_load(const float *p)
{
    return (v8){ { v_load(p), v_load(p + 16), v_load(p + 32), v_load(p + 48) } };
}
static inline v8 v8_load_n(const float *p, int n)
{
    v8 y;
    for (int q = 0; q < 4; q++, n -= 16, p += 16)
        y.v[q] = n >= 16 ? v_load(p) : n > 0 ? v_load_n(p, n) : v_set(0);
    return y;
}
static inline void v8_store(float *p, v8 x)
{
    for (int q = 0; q < 4; q++) v_store(p + 16 * q, x.v[q]);
}
static inline void v8_store_n(float *p, v8 x, int n)
{
    for (int q = 0; q < 4 && n > 0; q++, n -= 16, p += 16)
        v_store_n(p, x.v[q], n < 16 ? n : 16);
}
static inline __attribute__((always_inline)) vf v8_fma(v8 a, v8 b, vf c)
{
#pragma GCC unroll 4
    for (int q = 0; q < 4; q++) c = v_fma(a.v[q], b.v[q], c);
    return c;
}
