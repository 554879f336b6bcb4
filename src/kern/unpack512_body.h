/* unpack512_body.h - sixteen rows of quantised weights into 512-bit registers, every type.
 *
 * take_<type>(p, s, j, t, v, w, m): p is a block (32 or 256 weights) of the first of sixteen
 * rows that lie s bytes apart; j counts its groups of 32 and must ascend from 0. v gets group
 * j: lane r of v[i] is weights 4i .. 4i+3 of row r, as unsigned bytes q + OFF_<type>. At j = 0
 * w (and m, where the type has minimums) get the block's w_g and m_g of docs/numerics.md,
 * lane r for row r. t keeps raw bytes from one j to the next.
 *
 * Rows become lanes by a 4x4 transposition of dwords while bytes are still packed: it costs two
 * shuffles a register, and a half or a quarter of that a register of weights. No load leaves
 * the block. The includer is compiled for this level; everything here is static. */
#include <immintrin.h>
#include <stdint.h>

#define TAKE_INLINE static inline __attribute__((always_inline))
enum { TAKE_T = 24 };                   /* registers of t */

TAKE_INLINE __m128i take_16(const uint8_t *p) { return _mm_loadu_si128((const void *)p); }

/* Sixteen bytes of sixteen rows: lane r of t[i] is bytes 4i .. 4i+3 of row r. */
TAKE_INLINE void transpose16(const uint8_t *p, size_t s, __m512i t[4])
{
    __m512i a[4];
    for (int j = 0; j < 4; j++) {
        const uint8_t *q = p + (size_t)j * s;
        a[j] = _mm512_castsi128_si512(take_16(q));
        a[j] = _mm512_mask_broadcast_i32x4(a[j], 0x00f0, take_16(q + 4*s));
        a[j] = _mm512_mask_broadcast_i32x4(a[j], 0x0f00, take_16(q + 8*s));
        a[j] = _mm512_mask_broadcast_i32x4(a[j], 0xf000, take_16(q + 12*s));
    }
    __m512i b0 = _mm512_unpacklo_epi32(a[0], a[1]), b1 = _mm512_unpacklo_epi32(a[2], a[3]);
    __m512i b2 = _mm512_unpackhi_epi32(a[0], a[1]), b3 = _mm512_unpackhi_epi32(a[2], a[3]);
    t[0] = _mm512_unpacklo_epi64(b0, b1), t[1] = _mm512_unpackhi_epi64(b0, b1);
    t[2] = _mm512_unpacklo_epi64(b2, b3), t[3] = _mm512_unpackhi_epi64(b2, b3);
}

TAKE_INLINE __m512i byte_set(int b) { return _mm512_set1_epi8((char)b); }

/* f16 in the low and in the high half of each lane */
TAKE_INLINE __m512 half_lo(__m512i t) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(t)); }
TAKE_INLINE __m512 half_hi(__m512i t) { return half_lo(_mm512_srli_epi32(t, 16)); }

/* bits [n, n + width of mask) of every byte, moved to where the mask has them: rotate right by
 * n, any sign; what crosses a byte's edge the mask removes */
TAKE_INLINE __m512i field(__m512i x, int n, int mask)
{
    return _mm512_and_si512(_mm512_rorv_epi32(x, _mm512_set1_epi32(n & 31)), byte_set(mask));
}
/* low | field(x, n, mask) */
TAKE_INLINE __m512i with_field(__m512i low, __m512i x, int n, int mask)
{
    __m512i r = _mm512_rorv_epi32(x, _mm512_set1_epi32(n & 31));
    return _mm512_ternarylogic_epi32(low, r, byte_set(mask), 0xf8);      /* low | (r & mask) */
}

/* byte i of each lane, unsigned or signed, as a float */
TAKE_INLINE __m512 byte_u(__m512i x, int i)
{
    __m512i b = _mm512_srlv_epi32(x, _mm512_set1_epi32(8 * i));
    return _mm512_cvtepi32_ps(_mm512_and_si512(b, _mm512_set1_epi32(255)));
}
TAKE_INLINE __m512 byte_s(__m512i x, int i)
{
    __m512i b = _mm512_sllv_epi32(x, _mm512_set1_epi32(24 - 8 * i));
    return _mm512_cvtepi32_ps(_mm512_srai_epi32(b, 24));
}
TAKE_INLINE __m512 negate(__m512 x)
{
    return _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(x),
                                                _mm512_set1_epi32((int)0x80000000)));
}

/* Sixteen packed bytes a row: low nibbles are weights 0..15, high ones 16..31. */
TAKE_INLINE void nibbles(const uint8_t *p, size_t s, __m512i v[8])
{
    __m512i t[4];
    transpose16(p, s, t);
    for (int i = 0; i < 4; i++) {
        v[i] = _mm512_and_si512(t[i], byte_set(15));
        v[4 + i] = _mm512_and_si512(_mm512_srli_epi16(t[i], 4), byte_set(15));
    }
}

/* Bit 4i + b of lane r's word is the fifth bit of byte b of v[i]. */
TAKE_INLINE void fifth_bits(__m512i word, __m512i v[8])
{
    const __m512i copy = _mm512_set4_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0);
    const __m512i even = _mm512_set1_epi32(0x08040201), odd = _mm512_set1_epi32((int)0x80402010);
    for (int i = 0; i < 8; i++) {
        __m512i bytes = _mm512_shuffle_epi8(word, _mm512_add_epi8(copy, byte_set(i / 2)));
        __mmask64 k = _mm512_test_epi8_mask(bytes, i % 2 ? odd : even);
        v[i] = _mm512_mask_add_epi8(v[i], k, v[i], byte_set(16));
    }
}

enum { OFF_q4_0 = 8, OFF_q4_1 = 0, OFF_q5_0 = 16, OFF_q5_1 = 0, OFF_q8_0 = 128,
       OFF_q2_k = 0, OFF_q3_k = 4, OFF_q4_k = 0, OFF_q5_k = 0, OFF_q6_k = 32 };

TAKE_INLINE void take_q4_0(const uint8_t *p, size_t s, int j, __m512i *t, __m512i *v,
                           __m512 *w, __m512 *m)
{
    (void)j, (void)m;
    transpose16(p, s, t);
    w[0] = half_lo(t[0]);
    nibbles(p + 2, s, v);
}

TAKE_INLINE void take_q4_1(const uint8_t *p, size_t s, int j, __m512i *t, __m512i *v,
                           __m512 *w, __m512 *m)
{
    (void)j;
    transpose16(p, s, t);
    w[0] = half_lo(t[0]), m[0] = half_hi(t[0]);
    nibbles(p + 4, s, v);
}

TAKE_INLINE void take_q5_0(const uint8_t *p, size_t s, int j, __m512i *t, __m512i *v,
                           __m512 *w, __m512 *m)
{
    (void)j, (void)m;
    transpose16(p, s, t);
    w[0] = half_lo(t[0]);
    nibbles(p + 6, s, v);
    fifth_bits(_mm512_or_si512(_mm512_srli_epi32(t[0], 16), _mm512_slli_epi32(t[1], 16)), v);
}

TAKE_INLINE void take_q5_1(const uint8_t *p, size_t s, int j, __m512i *t, __m512i *v,
                           __m512 *w, __m512 *m)
{
    (void)j;
    transpose16(p, s, t);
    w[0] = half_lo(t[0]), m[0] = half_hi(t[0]);
    nibbles(p + 8, s, v);
    fifth_bits(t[1], v);
}

TAKE_INLINE void take_q8_0(const uint8_t *p, size_t s, int j, __m512i *t, __m512i *v,
                           __m512 *w, __m512 *m)
{
    (void)j, (void)m;
    transpose16(p, s, t);
    w[0] = half_lo(t[0]);
    transpose16(p + 2, s, v);
    transpose16(p + 18, s, v + 4);
    for (int i = 0; i < 8; i++) v[i] = _mm512_xor_si512(v[i], byte_set(0x80));
}

TAKE_INLINE void take_q2_k(const uint8_t *p, size_t s, int j, __m512i *t, __m512i *v,
                           __m512 *w, __m512 *m)
{
    if (j == 0) {
        __m512i sc[4], h[4];
        transpose16(p, s, sc);
        transpose16(p + 68, s, h);                   /* its last four bytes: d, dmin */
        __m512 d = half_lo(h[3]), dmin = negate(half_hi(h[3]));
        for (int g = 0; g < 16; g++) {
            w[g] = _mm512_mul_ps(d, byte_u(field(sc[g / 4], 0, 15), g % 4));
            m[g] = _mm512_mul_ps(dmin, byte_u(field(sc[g / 4], 4, 15), g % 4));
        }
    }
    if (j % 4 == 0) {
        transpose16(p + 16 + 8*j, s, t);
        transpose16(p + 32 + 8*j, s, t + 4);
    }
    for (int i = 0; i < 8; i++) v[i] = field(t[i], 2 * (j % 4), 3);
}

TAKE_INLINE void take_q3_k(const uint8_t *p, size_t s, int j, __m512i *t, __m512i *v,
                           __m512 *w, __m512 *m)
{
    (void)m;
    if (j == 0) {
        __m512i h[4], sc[3];
        transpose16(p + 94, s, h);                   /* two bytes of qs, scales, d */
        for (int i = 0; i < 3; i++)
            sc[i] = _mm512_or_si512(_mm512_srli_epi32(h[i], 16), _mm512_slli_epi32(h[i + 1], 16));
        __m512 d = half_hi(h[3]);
        for (int g = 0; g < 16; g++) {
            __m512i six = with_field(field(sc[g / 4 % 2], g < 8 ? 0 : 4, 15),
                                     sc[2], 2 * (g / 4) - 4, 48);
            __m512 scale = _mm512_sub_ps(byte_u(six, g % 4), _mm512_set1_ps(32));
            w[g] = _mm512_mul_ps(d, scale);
        }
        transpose16(p, s, t + 8);
        transpose16(p + 16, s, t + 12);
    }
    if (j % 4 == 0) {
        transpose16(p + 32 + 8*j, s, t);
        transpose16(p + 48 + 8*j, s, t + 4);
    }
    for (int i = 0; i < 8; i++)
        v[i] = with_field(field(t[i], 2 * (j % 4), 3), t[8 + i], j - 2, 4);
}

/* The header that Q4_K and Q5_K share: d, dmin, twelve bytes of scales. */
TAKE_INLINE void head_k4(const uint8_t *p, size_t s, __m512 *w, __m512 *m)
{
    __m512i h[4];
    transpose16(p, s, h);
    __m512 d = half_lo(h[0]), dmin = negate(half_hi(h[0]));
    __m512i sc[2], mn[2];
    sc[0] = field(h[1], 0, 63), sc[1] = with_field(field(h[3], 0, 15), h[1], 2, 48);
    mn[0] = field(h[2], 0, 63), mn[1] = with_field(field(h[3], 4, 15), h[2], 2, 48);
    for (int g = 0; g < 8; g++) {
        w[g] = _mm512_mul_ps(d, byte_u(sc[g / 4], g % 4));
        m[g] = _mm512_mul_ps(dmin, byte_u(mn[g / 4], g % 4));
    }
}

TAKE_INLINE void take_q4_k(const uint8_t *p, size_t s, int j, __m512i *t, __m512i *v,
                           __m512 *w, __m512 *m)
{
    if (j == 0) head_k4(p, s, w, m);
    if (j % 2 == 0) {
        transpose16(p + 16 + 16*j, s, t);
        transpose16(p + 32 + 16*j, s, t + 4);
    }
    for (int i = 0; i < 8; i++) v[i] = field(t[i], 4 * (j % 2), 15);
}

TAKE_INLINE void take_q5_k(const uint8_t *p, size_t s, int j, __m512i *t, __m512i *v,
                           __m512 *w, __m512 *m)
{
    if (j == 0) {
        head_k4(p, s, w, m);
        transpose16(p + 16, s, t + 8);
        transpose16(p + 32, s, t + 12);
    }
    if (j % 2 == 0) {
        transpose16(p + 48 + 16*j, s, t);
        transpose16(p + 64 + 16*j, s, t + 4);
    }
    for (int i = 0; i < 8; i++)
        v[i] = with_field(field(t[i], 4 * (j % 2), 15), t[8 + i], j - 4, 16);
}

TAKE_INLINE void take_q6_k(const uint8_t *p, size_t s, int j, __m512i *t, __m512i *v,
                           __m512 *w, __m512 *m)
{
    (void)m;
    if (j == 0) {
        __m512i sc[4], h[4];
        transpose16(p + 192, s, sc);
        transpose16(p + 194, s, h);                  /* its last two bytes: d */
        __m512 d = half_hi(h[3]);
        for (int g = 0; g < 16; g++) w[g] = _mm512_mul_ps(d, byte_s(sc[g / 4], g % 4));
    }
    if (j % 4 == 0) {
        for (int c = 0; c < 4; c++) transpose16(p + 16*j + 16*c, s, t + 4*c);
        for (int c = 0; c < 2; c++) transpose16(p + 128 + 8*j + 16*c, s, t + 16 + 4*c);
    }
    for (int i = 0; i < 8; i++)
        v[i] = with_field(field(t[8 * (j % 2) + i], j % 4 < 2 ? 0 : 4, 15), t[16 + i],
                          2 * (j % 4) - 4, 48);
}
