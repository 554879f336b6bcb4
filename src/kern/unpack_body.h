/* unpack_body.h - rows of quantised weights into vector registers, every type, for 512, 256 and
 * 128 bits: LANES is 16, 8 or 4 rows at a time.
 *
 * take_<type>(p, s, j, t, v, w, m): p is a block (32 or 256 weights) of the first of LANES
 * rows that lie s bytes apart; j counts its groups of 32 and must ascend from 0. v gets group
 * j: lane r of v[i] is weights 4i .. 4i+3 of row r, as unsigned bytes q + OFF_<type>. At j = 0
 * w (and m, where the type has minimums) get the block's w_g and m_g of docs/numerics.md,
 * lane r for row r. t keeps raw bytes from one j to the next.
 *
 * Rows become lanes by a 4x4 transposition of dwords while bytes are still packed: it costs two
 * shuffles a register, and a half or a quarter of that a register of weights. No load leaves
 * the block. The includer is compiled for its level; everything here is static.
 *
 * Headers go through transpose16, weights through weights16: with ROWS_APART defined (128 bits
 * only) weights stay as they lie, and v[i] is weights 0..15, v[4 + i] weights 16..31 of row i. */
#ifdef __ARM_NEON
#include <arm_neon.h>
#else
#include <immintrin.h>
#endif
#include <stdint.h>

#define TAKE_INLINE static inline __attribute__((always_inline))
enum { TAKE_T = 24 };                   /* registers of t */

/* ---- the few operations, by width ---------------------------------------------------------- */

#ifndef __ARM_NEON
TAKE_INLINE __m128i take_16(const uint8_t *p) { return _mm_loadu_si128((const void *)p); }
#endif

#if defined(__ARM_NEON)
/* x86 names, so that the types below are written once. */
enum { LANES = 4 };
typedef uint32x4_t vi;
typedef float32x4_t vf;
#define VI(op) neon_##op
#define V_AND(a, b) ((a) & (b))
#define V_OR(a, b) ((a) | (b))
#define V_XOR(a, b) ((a) ^ (b))
#define V_U8 vreinterpretq_u8_u32
#define V_U16 vreinterpretq_u16_u32
#define V_U64 vreinterpretq_u64_u32
TAKE_INLINE vi neon_set1_epi8(char b) { return vreinterpretq_u32_u8(vdupq_n_u8((uint8_t)b)); }
TAKE_INLINE vi neon_set1_epi32(int n) { return vdupq_n_u32((uint32_t)n); }
TAKE_INLINE vi neon_unpacklo_epi32(vi a, vi b) { return vzip1q_u32(a, b); }
TAKE_INLINE vi neon_unpackhi_epi32(vi a, vi b) { return vzip2q_u32(a, b); }
TAKE_INLINE vi neon_unpacklo_epi64(vi a, vi b)
{
    return vreinterpretq_u32_u64(vzip1q_u64(V_U64(a), V_U64(b)));
}
TAKE_INLINE vi neon_unpackhi_epi64(vi a, vi b)
{
    return vreinterpretq_u32_u64(vzip2q_u64(V_U64(a), V_U64(b)));
}
TAKE_INLINE vi neon_srli_epi32(vi x, int n) { return x >> n; }
TAKE_INLINE vi neon_slli_epi32(vi x, int n) { return x << n; }
TAKE_INLINE vi neon_srli_epi16(vi x, int n) { return vreinterpretq_u32_u16(V_U16(x) >> n); }
TAKE_INLINE vi neon_srai_epi32(vi x, int n)
{
    return vreinterpretq_u32_s32(vreinterpretq_s32_u32(x) >> n);
}
TAKE_INLINE vf neon_cvtepi32_ps(vi x) { return vcvtq_f32_s32(vreinterpretq_s32_u32(x)); }
TAKE_INLINE vf neon_set1_ps(float x) { return vdupq_n_f32(x); }
TAKE_INLINE vf neon_mul_ps(vf a, vf b) { return vmulq_f32(a, b); }
TAKE_INLINE vf neon_sub_ps(vf a, vf b) { return vsubq_f32(a, b); }
TAKE_INLINE vi v_rows4(const uint8_t *q, size_t s)
{
    (void)s;
    return vreinterpretq_u32_u8(vld1q_u8(q));
}
TAKE_INLINE vf half_lo(vi t) { return vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32(t))); }
TAKE_INLINE vi v_srl(vi x, int n) { return x >> n; }
TAKE_INLINE vi v_sll(vi x, int n) { return x << n; }
/* as on 256 bits: callers mask away what a rotation would have brought round */
TAKE_INLINE vi v_ror(vi x, int n) { return n < 0 ? x << -n : x >> n; }
TAKE_INLINE vi v_add16_where(vi v, vi x, vi bit)
{
    uint8x16_t on = vtstq_u8(V_U8(x), V_U8(bit)) & vdupq_n_u8(16);
    return vreinterpretq_u32_u8(V_U8(v) + on);
}
TAKE_INLINE vi v_copy_bytes(vi x, int first)
{
    const vi lane = { 0, 0x04040404, 0x08080808, 0x0c0c0c0c };
    uint8x16_t at = V_U8(lane) + vdupq_n_u8((uint8_t)first);
    return vreinterpretq_u32_u8(vqtbl1q_u8(V_U8(x), at));
}
TAKE_INLINE vi v_bits(vf x) { return vreinterpretq_u32_f32(x); }
TAKE_INLINE vf v_float(vi x) { return vreinterpretq_f32_u32(x); }
#elif defined(__AVX512F__)
enum { LANES = 16 };
typedef __m512i vi;
typedef __m512 vf;
#define VI(op) _mm512_##op
#define V_AND _mm512_and_si512
#define V_OR _mm512_or_si512
#define V_XOR _mm512_xor_si512
/* bytes at q of row j in lane block j / 4: rows j, 4+j, 8+j, 12+j */
TAKE_INLINE vi v_rows4(const uint8_t *q, size_t s)
{
    vi a = _mm512_castsi128_si512(take_16(q));
    a = _mm512_mask_broadcast_i32x4(a, 0x00f0, take_16(q + 4*s));
    a = _mm512_mask_broadcast_i32x4(a, 0x0f00, take_16(q + 8*s));
    return _mm512_mask_broadcast_i32x4(a, 0xf000, take_16(q + 12*s));
}
TAKE_INLINE vf half_lo(vi t) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(t)); }
TAKE_INLINE vi v_ror(vi x, int n) { return _mm512_rorv_epi32(x, _mm512_set1_epi32(n & 31)); }
TAKE_INLINE vi v_srl(vi x, int n) { return _mm512_srlv_epi32(x, _mm512_set1_epi32(n)); }
TAKE_INLINE vi v_sll(vi x, int n) { return _mm512_sllv_epi32(x, _mm512_set1_epi32(n)); }
/* 16 added to the bytes that have all the bits of `bit` */
TAKE_INLINE vi v_add16_where(vi v, vi x, vi bit)
{
    return _mm512_mask_add_epi8(v, _mm512_test_epi8_mask(x, bit), v, _mm512_set1_epi8(16));
}
TAKE_INLINE vi v_copy_bytes(vi x, int first)        /* byte `first` of each lane to all four */
{
    const vi lane = _mm512_set4_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0);
    return _mm512_shuffle_epi8(x, _mm512_add_epi8(lane, _mm512_set1_epi8((char)first)));
}
TAKE_INLINE vi v_bits(vf x) { return _mm512_castps_si512(x); }
TAKE_INLINE vf v_float(vi x) { return _mm512_castsi512_ps(x); }
#else
enum { LANES = 8 };
typedef __m256i vi;
typedef __m256 vf;
#define VI(op) _mm256_##op
#define V_AND _mm256_and_si256
#define V_OR _mm256_or_si256
#define V_XOR _mm256_xor_si256
TAKE_INLINE vi v_rows4(const uint8_t *q, size_t s)
{
    return _mm256_inserti128_si256(_mm256_castsi128_si256(take_16(q)), take_16(q + 4*s), 1);
}
TAKE_INLINE vf half_lo(vi t)
{
    vi x = _mm256_and_si256(t, _mm256_set1_epi32(0xffff));
    return _mm256_cvtph_ps(_mm_packus_epi32(_mm256_castsi256_si128(x),
                                            _mm256_extracti128_si256(x, 1)));
}
TAKE_INLINE vi v_srl(vi x, int n) { return _mm256_srl_epi32(x, _mm_cvtsi32_si128(n)); }
TAKE_INLINE vi v_sll(vi x, int n) { return _mm256_sll_epi32(x, _mm_cvtsi32_si128(n)); }
/* a shift serves: callers mask away what a rotation would have brought round */
TAKE_INLINE vi v_ror(vi x, int n) { return n < 0 ? v_sll(x, -n) : v_srl(x, n); }
TAKE_INLINE vi v_add16_where(vi v, vi x, vi bit)
{
    vi k = _mm256_cmpeq_epi8(_mm256_and_si256(x, bit), bit);
    return _mm256_add_epi8(v, _mm256_and_si256(k, _mm256_set1_epi8(16)));
}
TAKE_INLINE vi v_copy_bytes(vi x, int first)
{
    const vi lane = _mm256_set_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0,
                                     0x0c0c0c0c, 0x08080808, 0x04040404, 0);
    return _mm256_shuffle_epi8(x, _mm256_add_epi8(lane, _mm256_set1_epi8((char)first)));
}
TAKE_INLINE vi v_bits(vf x) { return _mm256_castps_si256(x); }
TAKE_INLINE vf v_float(vi x) { return _mm256_castsi256_ps(x); }
#endif
#define V_MUL VI(mul_ps)

/* ---- the types ----------------------------------------------------------------------------- */

/* Row 4i + j in lane block i of a[j]: lane r of t[i] is dword i of row r. t may be a. */
TAKE_INLINE void turn_dwords(const vi a[4], vi t[4])
{
    vi b0 = VI(unpacklo_epi32)(a[0], a[1]), b1 = VI(unpacklo_epi32)(a[2], a[3]);
    vi b2 = VI(unpackhi_epi32)(a[0], a[1]), b3 = VI(unpackhi_epi32)(a[2], a[3]);
    t[0] = VI(unpacklo_epi64)(b0, b1), t[1] = VI(unpackhi_epi64)(b0, b1);
    t[2] = VI(unpacklo_epi64)(b2, b3), t[3] = VI(unpackhi_epi64)(b2, b3);
}

/* Sixteen bytes of every row: lane r of t[i] is bytes 4i .. 4i+3 of row r. */
TAKE_INLINE void transpose16(const uint8_t *p, size_t s, vi t[4])
{
    vi a[4];
    for (int j = 0; j < 4; j++) a[j] = v_rows4(p + (size_t)j * s, s);
    turn_dwords(a, t);
}

/* Sixteen bytes of weights of every row. */
TAKE_INLINE void weights16(const uint8_t *p, size_t s, vi t[4])
{
#ifdef ROWS_APART
    for (int i = 0; i < LANES; i++) t[i] = v_rows4(p + (size_t)i * s, s);
#else
    transpose16(p, s, t);
#endif
}

TAKE_INLINE vi byte_set(int b) { return VI(set1_epi8)((char)b); }

/* f16 in the high half of each lane; half_lo has the low one */
TAKE_INLINE vf half_hi(vi t) { return half_lo(VI(srli_epi32)(t, 16)); }

/* bits of every byte from n on, moved to where the mask has its own; n may be negative */
TAKE_INLINE vi field(vi x, int n, int mask) { return V_AND(v_ror(x, n), byte_set(mask)); }
TAKE_INLINE vi with_field(vi low, vi x, int n, int mask)
{
    return V_OR(low, field(x, n, mask));
}

/* byte i of each lane, unsigned or signed, as a float */
TAKE_INLINE vf byte_u(vi x, int i)
{
    return VI(cvtepi32_ps)(V_AND(v_srl(x, 8 * i), VI(set1_epi32)(255)));
}
TAKE_INLINE vf byte_s(vi x, int i)
{
    return VI(cvtepi32_ps)(VI(srai_epi32)(v_sll(x, 24 - 8 * i), 24));
}
TAKE_INLINE vf negate(vf x)
{
    return v_float(V_XOR(v_bits(x), VI(set1_epi32)((int)0x80000000)));
}

/* Sixteen packed bytes a row: low nibbles are weights 0..15, high ones 16..31. */
TAKE_INLINE void nibbles(const uint8_t *p, size_t s, vi v[8])
{
    vi t[4];
    weights16(p, s, t);
    for (int i = 0; i < 4; i++) {
        v[i] = V_AND(t[i], byte_set(15));
        v[4 + i] = V_AND(VI(srli_epi16)(t[i], 4), byte_set(15));
    }
}

/* Bit k of lane r's word is the fifth bit of weight k of row r. */
TAKE_INLINE void fifth_bits(vi word, vi v[8])
{
#ifdef ROWS_APART
    const vi bit = { 0x08040201, 0x80402010, 0x08040201, 0x80402010 };
    const vi byte = { 0, 0, 0x01010101, 0x01010101 };
    for (int i = 0; i < 8; i++) {
        uint8x16_t at = V_U8(byte) + vdupq_n_u8((uint8_t)(4 * (i % 4) + 2 * (i / 4)));
        v[i] = v_add16_where(v[i], vreinterpretq_u32_u8(vqtbl1q_u8(V_U8(word), at)), bit);
    }
#else
    const vi even = VI(set1_epi32)(0x08040201), odd = VI(set1_epi32)((int)0x80402010);
    for (int i = 0; i < 8; i++)
        v[i] = v_add16_where(v[i], v_copy_bytes(word, i / 2), i % 2 ? odd : even);
#endif
}

enum { OFF_q4_0 = 8, OFF_q4_1 = 0, OFF_q5_0 = 16, OFF_q5_1 = 0, OFF_q8_0 = 128,
       OFF_q2_k = 0, OFF_q3_k = 4, OFF_q4_k = 0, OFF_q5_k = 0, OFF_q6_k = 32 };

TAKE_INLINE void take_q4_0(const uint8_t *p, size_t s, int j, vi *t, vi *v, vf *w,
                           vf *m)
{
    (void)j, (void)m;
    transpose16(p, s, t);
    w[0] = half_lo(t[0]);
    nibbles(p + 2, s, v);
}

TAKE_INLINE void take_q4_1(const uint8_t *p, size_t s, int j, vi *t, vi *v, vf *w,
                           vf *m)
{
    (void)j;
    transpose16(p, s, t);
    w[0] = half_lo(t[0]), m[0] = half_hi(t[0]);
    nibbles(p + 4, s, v);
}

TAKE_INLINE void take_q5_0(const uint8_t *p, size_t s, int j, vi *t, vi *v, vf *w,
                           vf *m)
{
    (void)j, (void)m;
    transpose16(p, s, t);
    w[0] = half_lo(t[0]);
    nibbles(p + 6, s, v);
    fifth_bits(V_OR(VI(srli_epi32)(t[0], 16), VI(slli_epi32)(t[1], 16)), v);
}

TAKE_INLINE void take_q5_1(const uint8_t *p, size_t s, int j, vi *t, vi *v, vf *w,
                           vf *m)
{
    (void)j;
    transpose16(p, s, t);
    w[0] = half_lo(t[0]), m[0] = half_hi(t[0]);
    nibbles(p + 8, s, v);
    fifth_bits(t[1], v);
}

TAKE_INLINE void take_q8_0(const uint8_t *p, size_t s, int j, vi *t, vi *v, vf *w,
                           vf *m)
{
    (void)j, (void)m;
    transpose16(p, s, t);
    w[0] = half_lo(t[0]);
    weights16(p + 2, s, v);
    weights16(p + 18, s, v + 4);
    for (int i = 0; i < 8; i++) v[i] = V_XOR(v[i], byte_set(0x80));
}

TAKE_INLINE void take_q2_k(const uint8_t *p, size_t s, int j, vi *t, vi *v, vf *w,
                           vf *m)
{
    if (j == 0) {
        vi sc[4], h[4];
        transpose16(p, s, sc);
        transpose16(p + 68, s, h);                   /* its last four bytes: d, dmin */
        vf d = half_lo(h[3]), dmin = negate(half_hi(h[3]));
        for (int g = 0; g < 16; g++) {
            w[g] = V_MUL(d, byte_u(field(sc[g / 4], 0, 15), g % 4));
            m[g] = V_MUL(dmin, byte_u(field(sc[g / 4], 4, 15), g % 4));
        }
    }
    if (j % 4 == 0) {
        weights16(p + 16 + 8*j, s, t);
        weights16(p + 32 + 8*j, s, t + 4);
    }
    for (int i = 0; i < 8; i++) v[i] = field(t[i], 2 * (j % 4), 3);
}

TAKE_INLINE void take_q3_k(const uint8_t *p, size_t s, int j, vi *t, vi *v, vf *w,
                           vf *m)
{
    (void)m;
    if (j == 0) {
        vi h[4], sc[3];
        transpose16(p + 94, s, h);                   /* two bytes of qs, scales, d */
        for (int i = 0; i < 3; i++)
            sc[i] = V_OR(VI(srli_epi32)(h[i], 16), VI(slli_epi32)(h[i + 1], 16));
        vf d = half_hi(h[3]);
        for (int g = 0; g < 16; g++) {
            vi six = with_field(field(sc[g / 4 % 2], g < 8 ? 0 : 4, 15),
                                     sc[2], 2 * (g / 4) - 4, 48);
            vf scale = VI(sub_ps)(byte_u(six, g % 4), VI(set1_ps)(32));
            w[g] = V_MUL(d, scale);
        }
        weights16(p, s, t + 8);
        weights16(p + 16, s, t + 12);
    }
    if (j % 4 == 0) {
        weights16(p + 32 + 8*j, s, t);
        weights16(p + 48 + 8*j, s, t + 4);
    }
    for (int i = 0; i < 8; i++)
        v[i] = with_field(field(t[i], 2 * (j % 4), 3), t[8 + i], j - 2, 4);
}

/* The header that Q4_K and Q5_K share: d, -dmin, and bytes of scales, group g's in byte g % 4 of
 * sc[g / 4] and mn[g / 4]. */
TAKE_INLINE void fields_k4(const uint8_t *p, size_t s, vf *d, vf *dmin, vi sc[2], vi mn[2])
{
    vi h[4];
    transpose16(p, s, h);
    *d = half_lo(h[0]), *dmin = negate(half_hi(h[0]));
    sc[0] = field(h[1], 0, 63), sc[1] = with_field(field(h[3], 0, 15), h[1], 2, 48);
    mn[0] = field(h[2], 0, 63), mn[1] = with_field(field(h[3], 4, 15), h[2], 2, 48);
}

TAKE_INLINE void head_k4(const uint8_t *p, size_t s, vf *w, vf *m)
{
    vf d, dmin;
    vi sc[2], mn[2];
    fields_k4(p, s, &d, &dmin, sc, mn);
    for (int g = 0; g < 8; g++) {
        w[g] = V_MUL(d, byte_u(sc[g / 4], g % 4));
        m[g] = V_MUL(dmin, byte_u(mn[g / 4], g % 4));
    }
}

TAKE_INLINE void take_q4_k(const uint8_t *p, size_t s, int j, vi *t, vi *v, vf *w,
                           vf *m)
{
    if (j == 0) head_k4(p, s, w, m);
    if (j % 2 == 0) {
        weights16(p + 16 + 16*j, s, t);
        weights16(p + 32 + 16*j, s, t + 4);
    }
    for (int i = 0; i < 8; i++) v[i] = field(t[i], 4 * (j % 2), 15);
}

TAKE_INLINE void take_q5_k(const uint8_t *p, size_t s, int j, vi *t, vi *v, vf *w,
                           vf *m)
{
    if (j == 0) {
        head_k4(p, s, w, m);
        weights16(p + 16, s, t + 8);
        weights16(p + 32, s, t + 12);
    }
    if (j % 2 == 0) {
        weights16(p + 48 + 16*j, s, t);
        weights16(p + 64 + 16*j, s, t + 4);
    }
    for (int i = 0; i < 8; i++)
        v[i] = with_field(field(t[i], 4 * (j % 2), 15), t[8 + i], j - 4, 16);
}

TAKE_INLINE void take_q6_k(const uint8_t *p, size_t s, int j, vi *t, vi *v, vf *w,
                           vf *m)
{
    (void)m;
    if (j == 0) {
        vi sc[4], h[4];
        transpose16(p + 192, s, sc);
        transpose16(p + 194, s, h);                  /* its last two bytes: d */
        vf d = half_hi(h[3]);
        for (int g = 0; g < 16; g++) w[g] = V_MUL(d, byte_s(sc[g / 4], g % 4));
    }
    if (j % 4 == 0) {
        for (int c = 0; c < 4; c++) weights16(p + 16*j + 16*c, s, t + 4*c);
        for (int c = 0; c < 2; c++) weights16(p + 128 + 8*j + 16*c, s, t + 16 + 4*c);
    }
    for (int i = 0; i < 8; i++)
        v[i] = with_field(field(t[8 * (j % 2) + i], j % 4 < 2 ? 0 : 4, 15), t[16 + i],
                          2 * (j % 4) - 4, 48);
}

#include "kern/unpack_iq_body.h"
