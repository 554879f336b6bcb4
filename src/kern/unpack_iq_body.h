/* unpack_iq_body.h - the rest of unpack_body.h: IQ and MX types, whose bits are places in tables.
 *
 * Four-bit codes go through one shuffle. The lattices of IQ2 and IQ3 go through registers at level
 * avx512: a point's code (iq_grid.h: two or three bits a value) is looked up byte by byte with
 * VPERMI2B, 64 points an instruction; VPMULTISHIFTQB spreads the bits of a code, and those of the
 * signs, over the bytes of a dword, and one VPERMB turns (sign, code) into q + OFF. A gather costs
 * ten times as much on Zen 4. At 256 bits points come by scalar loads from the spelt-out grids, and
 * at 128 bits too (unpack_neon_body.h), where bytes are signed, so that there is no OFF. */
#include "base/iq_grid.h"

#ifdef __ARM_NEON
enum { OFF_iq4_nl = 0, OFF_iq4_xs = 0, OFF_mxfp4 = 0, OFF_iq2_xxs = 0, OFF_iq2_xs = 0,
       OFF_iq2_s = 0, OFF_iq3_xxs = 0, OFF_iq3_s = 0 };
#else
enum { OFF_iq4_nl = 128, OFF_iq4_xs = 128, OFF_mxfp4 = 12, OFF_iq2_xxs = 43, OFF_iq2_xs = 43,
       OFF_iq2_s = 43, OFF_iq3_xxs = 62, OFF_iq3_s = 15 };
#endif

/* ---- four bits ---- */

#if defined(__ARM_NEON)
TAKE_INLINE vi neon_sub_epi32(vi a, vi b) { return a - b; }
TAKE_INLINE vf neon_fmadd_ps(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
TAKE_INLINE vi neon_sllv_epi32(vi a, vi b) { return vshlq_u32(a, vreinterpretq_s32_u32(b)); }
TAKE_INLINE vi v_of16(const int8_t tab[16], int off, vi x)
{
    uint8x16_t t = vaddq_u8(vreinterpretq_u8_s8(vld1q_s8(tab)), vdupq_n_u8((uint8_t)off));
    return vreinterpretq_u32_u8(vqtbl1q_u8(t, V_U8(x) & vdupq_n_u8(15)));
}
TAKE_INLINE vi v_pick_less(vi a, vi b, vi x, vi y) { return vbslq_u32(a < b, x, y); }
#elif defined(__AVX512F__)
/* tab[low four bits of each byte] + off; what lies above them is ignored */
TAKE_INLINE vi v_of16(const int8_t tab[16], int off, vi x)
{
    __m128i t = _mm_add_epi8(take_16((const uint8_t *)tab), _mm_set1_epi8((char)off));
    return _mm512_permutexvar_epi8(x, _mm512_broadcast_i32x4(t));
}
TAKE_INLINE vi v_pick_less(vi a, vi b, vi x, vi y)      /* a < b ? x : y */
{
    return _mm512_mask_mov_epi32(y, _mm512_cmplt_epi32_mask(a, b), x);
}
#else
TAKE_INLINE vi v_of16(const int8_t tab[16], int off, vi x)
{
    __m128i t = _mm_add_epi8(take_16((const uint8_t *)tab), _mm_set1_epi8((char)off));
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(t), V_AND(x, byte_set(15)));
}
TAKE_INLINE vi v_pick_less(vi a, vi b, vi x, vi y)
{
    return _mm256_blendv_epi8(y, x, _mm256_cmpgt_epi32(b, a));
}
#endif

static const int8_t values_iq4[16] = { IQ4_VALUES }, values_mxfp4[16] = { MXFP4_VALUES };

/* Sixteen packed bytes a row, as nibbles() has them, each a place in tab. */
TAKE_INLINE void nibbles_of(const uint8_t *p, size_t s, const int8_t tab[16], int off, vi v[8])
{
    vi t[4];
    weights16(p, s, t);
    for (int i = 0; i < 4; i++) {
        v[i] = v_of16(tab, off, t[i]);
        v[4 + i] = v_of16(tab, off, VI(srli_epi16)(t[i], 4));
    }
}

TAKE_INLINE void take_iq4_nl(const uint8_t *p, size_t s, int j, vi *t, vi *v, vf *w, vf *m)
{
    (void)j, (void)m;
    transpose16(p, s, t);
    w[0] = half_lo(t[0]);
    nibbles_of(p + 2, s, values_iq4, OFF_iq4_nl, v);
}

/* w of group g of IQ4_XS; t: its header, d already a float. */
TAKE_INLINE vf scale_iq4_xs(const vi *t, vf d, int g)
{
    vi low = V_AND(VI(srli_epi32)(t[1], 4 * g), VI(set1_epi32)(15));
    vi top = V_AND(VI(srli_epi32)(t[0], 12 + 2 * g), VI(set1_epi32)(48));
    vi sc = VI(sub_epi32)(V_OR(low, top), VI(set1_epi32)(32));
    return V_MUL(d, VI(cvtepi32_ps)(sc));
}

TAKE_INLINE void take_iq4_xs(const uint8_t *p, size_t s, int j, vi *t, vi *v, vf *w, vf *m)
{
    (void)m;
    if (j == 0) {
        transpose16(p, s, t);
        vf d = half_lo(t[0]);
        for (int g = 0; g < 8; g++) w[g] = scale_iq4_xs(t, d, g);
    }
    nibbles_of(p + 8 + 16*j, s, values_iq4, OFF_iq4_xs, v);
}

TAKE_INLINE void take_mxfp4(const uint8_t *p, size_t s, int j, vi *t, vi *v, vf *w, vf *m)
{
    (void)j, (void)m;
    transpose16(p, s, t);
    vi e = V_AND(t[0], VI(set1_epi32)(255));
    vi big = VI(slli_epi32)(VI(sub_epi32)(e, VI(set1_epi32)(1)), 23);
    vi small = VI(sllv_epi32)(VI(set1_epi32)(0x00200000), e);       /* subnormal */
    w[0] = v_float(v_pick_less(e, VI(set1_epi32)(2), small, big));
    nibbles_of(p + 1, s, values_mxfp4, OFF_mxfp4, v);
}

/* ---- points of lattices ---- */

/* d * unit * (2 * nibble + 1), exact, nibble n of each lane's word */
TAKE_INLINE vf odd_scale(vf d, float unit, vi word, int n)
{
    vi sc = V_AND(VI(srli_epi32)(word, 4 * n), VI(set1_epi32)(15));
    return VI(fmadd_ps)(V_MUL(d, VI(set1_ps)(2 * unit)), VI(cvtepi32_ps)(sc),
                        V_MUL(d, VI(set1_ps)(unit)));
}

/* Scales of the types that have a nibble for each of sixteen groups. */
TAKE_INLINE void scales_iq2(vf d, const vi sc[2], vf *w)
{
    for (int g = 0; g < 16; g++) w[g] = odd_scale(d, 0.125f, sc[g / 8], g % 8);
}

#ifndef __AVX512F__
/* Four bytes of signs out of four times seven bits: the eighth makes the minuses even. */
TAKE_INLINE vi signs_of_7(vi word)
{
    vi x = V_AND(word, VI(set1_epi32)(0x7f));
    x = V_OR(x, V_AND(VI(slli_epi32)(word, 1), VI(set1_epi32)(0x7f00)));
    x = V_OR(x, V_AND(VI(slli_epi32)(word, 2), VI(set1_epi32)(0x7f0000)));
    x = V_OR(x, V_AND(VI(slli_epi32)(word, 3), VI(set1_epi32)(0x7f000000)));
    static const int8_t odd[16] = { 0, -128, -128, 0, -128, 0, 0, -128,
                                    -128, 0, 0, -128, 0, -128, -128, 0 };
    return V_OR(x, v_of16(odd, 0, V_XOR(x, VI(srli_epi16)(x, 4))));
}

/* The top seven bits of points 0, 1 in a and 2, 3 in b as signs_of_7 wants them. */
TAKE_INLINE vi sevens(vi a, vi b)
{
    const vi seven = VI(set1_epi32)(0x7f), up = VI(set1_epi32)(0x7f << 16);
    a = VI(srli_epi32)(a, 9), b = VI(srli_epi32)(b, 9);
    vi word = V_OR(V_AND(a, seven), VI(srli_epi32)(V_AND(a, up), 9));
    return V_OR(word, V_OR(VI(slli_epi32)(V_AND(b, seven), 14),
                           VI(slli_epi32)(V_AND(b, up), 5)));
}

TAKE_INLINE unsigned u16_at(const uint8_t *p) { return (unsigned)p[0] | (unsigned)p[1] << 8; }
#endif

#if defined(__ARM_NEON)
#include "kern/unpack_neon_body.h"
#elif defined(__AVX512F__)
#define TIMES2(...) __VA_ARGS__, __VA_ARGS__
#define TIMES4(...) TIMES2(__VA_ARGS__), TIMES2(__VA_ARGS__)
#define TIMES8(...) TIMES4(__VA_ARGS__), TIMES4(__VA_ARGS__)
#define BOTH4(o, a, b, c, d) (o) + (a), (o) + (b), (o) + (c), (o) + (d)
/* q + OFF by sign and code: two bits of code and one of sign; three and one */
static const uint8_t signed_iq2[64] __attribute__((aligned(64))) = {
    TIMES8(BOTH4(43, 8, 25, 43, 0), BOTH4(43, -8, -25, -43, 0)) };
static const uint8_t signed_iq3_xxs[64] __attribute__((aligned(64))) = {
    TIMES4(BOTH4(62, 4, 12, 20, 28), BOTH4(62, 36, 44, 52, 62),
           BOTH4(62, -4, -12, -20, -28), BOTH4(62, -36, -44, -52, -62)) };
static const uint8_t signed_iq3_s[64] __attribute__((aligned(64))) = {
    TIMES4(BOTH4(15, 1, 3, 5, 7), BOTH4(15, 9, 11, 13, 15),
           BOTH4(15, -1, -3, -5, -7), BOTH4(15, -9, -11, -13, -15)) };

/* What v_spread takes from where. */
TAKE_INLINE vi spread_bits(int a, int b, int c, int d)
{
    int one = (a & 63) | (b & 63) << 8 | (c & 63) << 16 | (d & 63) << 24;
    int two = ((a + 32) & 63) | ((b + 32) & 63) << 8 | ((c + 32) & 63) << 16 |
              ((d + 32) & 63) << 24;
    return _mm512_set4_epi32(two, one, two, one);
}

/* byte k of each dword: the eight bits from bit a, b, c, d of that dword on; what would lie past
 * its qword comes round from the qword's start */
TAKE_INLINE vi v_spread(vi x, int a, int b, int c, int d)
{
    return _mm512_multishift_epi64_epi8(spread_bits(a, b, c, d), x);
}

TAKE_INLINE vi table128(const uint8_t *tab, vi i)
{
    return _mm512_permutex2var_epi8(_mm512_load_si512(tab), i, _mm512_load_si512(tab + 64));
}

/* The same of 256 and more bytes: k has the places' bits 7, 8 and 9. */
TAKE_INLINE vi table256(const uint8_t *tab, vi i, const __mmask64 *k)
{
    return _mm512_mask_mov_epi8(table128(tab, i), k[0], table128(tab + 128, i));
}

TAKE_INLINE vi table512(const uint8_t *tab, vi i, const __mmask64 *k)
{
    return _mm512_mask_mov_epi8(table256(tab, i, k), k[1], table256(tab + 256, i, k));
}

TAKE_INLINE vi table1024(const uint8_t *tab, vi i, const __mmask64 *k)
{
    return _mm512_mask_mov_epi8(table512(tab, i, k), k[2], table512(tab + 512, i, k));
}

/* Where mask has bits x, elsewhere y. */
TAKE_INLINE vi v_select(int mask, vi x, vi y)
{
    return _mm512_ternarylogic_epi32(_mm512_set1_epi32(mask), x, y, 0xca);
}

/* The eight registers of a group: point m of a row has its code in byte at[m] of c[0], c[1]
 * and its eight signs in the same byte of `signs`. */
TAKE_INLINE void points_iq2(vi v[8], const vi c[2], vi signs, int at0, int at1, int at2, int at3)
{
    const int at[4] = { at0, at1, at2, at3 };
    const vi values = _mm512_load_si512(signed_iq2);
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        int b = 8 * at[i / 2], n = b + 4 * (i % 2) - 2;
        vi code = v_spread(c[i % 2], b, b + 2, b + 4, b + 6);
        vi sign = v_spread(signs, n, n + 1, n + 2, n + 3);
        v[i] = _mm512_permutexvar_epi8(v_select(0x03030303, code, sign), values);
    }
}

/* Four of them: points of four weights in the bytes of c[0], c[1]; two points share a byte of
 * signs, from byte `from` on. */
TAKE_INLINE void points_iq3(vi v[4], const vi c[2], vi signs, int from, const uint8_t *tab)
{
    const vi values = _mm512_load_si512(tab);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        int b = 8 * i, n = 8 * from + 4 * i - 3;
        vi bits = spread_bits(b, b + 3, b, b + 3), code = _mm512_multishift_epi64_epi8(bits, c[0]);
        code = _mm512_mask_multishift_epi64_epi8(code, 0xccccccccccccccccull, bits, c[1]);
        vi sign = v_spread(signs, n, n + 1, n + 2, n + 3);
        v[i] = _mm512_permutexvar_epi8(v_select(0x07070707, code, sign), values);
    }
}

/* Four bytes of signs out of four times seven bits. */
TAKE_INLINE vi signs_of_7(vi word)
{
    return table128(iq_sign_table, v_spread(word, 0, 7, 14, 21));
}

TAKE_INLINE void take_iq2_xxs(const uint8_t *p, size_t s, int j, vi *t, vi *v, vf *w, vf *m)
{
    (void)m;
    if (j == 0) {
        transpose16(p, s, t);
        t[4] = v_bits(half_lo(t[0]));
    }
    if (j % 2 == 0) transpose16(p + 2 + 8*j, s, t);
    vi c[2], word = t[j % 2 * 2 + 1];
    w[j] = odd_scale(v_float(t[4]), 0.125f, word, 7);
    const __mmask64 k = _mm512_movepi8_mask(t[j % 2 * 2]);
    for (int i = 0; i < 2; i++) c[i] = table256(iq2_xxs_code[i], t[j % 2 * 2], &k);
    points_iq2(v, c, signs_of_7(word), 0, 1, 2, 3);
}

TAKE_INLINE void take_iq2_xs(const uint8_t *p, size_t s, int j, vi *t, vi *v, vf *w, vf *m)
{
    (void)m;
    if (j == 0) {
        vi h[4];
        transpose16(p, s, t);
        transpose16(p + 58, s, h);                   /* its last eight bytes: scales */
        scales_iq2(half_lo(t[0]), h + 2, w);
    }
    if (j % 2 == 0) transpose16(p + 2 + 8*j, s, t);
    vi c[2], a = t[j % 2 * 2], b = t[j % 2 * 2 + 1];           /* points 0, 1 and 2, 3 */
    vi lo = v_select(0x00ff00ff, a, _mm512_slli_epi16(b, 8));
    vi hi = v_select(0x00ff00ff, _mm512_srli_epi16(a, 8), b);
    const __mmask64 k[] = { _mm512_movepi8_mask(lo), _mm512_test_epi8_mask(hi, byte_set(1)) };
    for (int i = 0; i < 2; i++) c[i] = table512(iq2_xs_code[i], lo, k);
    points_iq2(v, c, table128(iq_sign_table, _mm512_srli_epi16(hi, 1)), 0, 2, 1, 3);
}

TAKE_INLINE void take_iq2_s(const uint8_t *p, size_t s, int j, vi *t, vi *v, vf *w, vf *m)
{
    (void)m;
    if (j == 0) {
        transpose16(p, s, t);
        transpose16(p + 66, s, t + 8);               /* qh in t[8], t[9], scales after them */
        scales_iq2(half_lo(t[0]), t + 10, w);
    }
    if (j % 4 == 0) {
        transpose16(p + 2 + 4*j, s, t);
        transpose16(p + 34 + 4*j, s, t + 4);
    }
    vi c[2], top = v_spread(v_srl(t[8 + j / 4], 8 * (j % 4)), 0, 2, 4, 6);
    const __mmask64 k[] = { _mm512_movepi8_mask(t[j % 4]), _mm512_test_epi8_mask(top, byte_set(1)),
                            _mm512_test_epi8_mask(top, byte_set(2)) };
    for (int i = 0; i < 2; i++) c[i] = table1024(iq2_s_code[i], t[j % 4], k);
    points_iq2(v, c, t[4 + j % 4], 0, 1, 2, 3);
}

TAKE_INLINE void take_iq3_xxs(const uint8_t *p, size_t s, int j, vi *t, vi *v, vf *w, vf *m)
{
    (void)m;
    if (j == 0) {
        transpose16(p, s, t);
        t[12] = v_bits(half_lo(t[0]));
        transpose16(p + 66, s, t + 4);
        transpose16(p + 82, s, t + 8);
    }
    if (j % 2 == 0) transpose16(p + 2 + 8*j, s, t);
    vi c[2], word = t[4 + j], signs = signs_of_7(word);
    w[j] = odd_scale(v_float(t[12]), 0.25f, word, 7);
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        const __mmask64 k = _mm512_movepi8_mask(t[j % 2 * 2 + h]);
        for (int i = 0; i < 2; i++) c[i] = table256(iq3_xxs_code[i], t[j % 2 * 2 + h], &k);
        points_iq3(v + 4 * h, c, signs, 2 * h, signed_iq3_xxs);
    }
}

TAKE_INLINE void take_iq3_s(const uint8_t *p, size_t s, int j, vi *t, vi *v, vf *w, vf *m)
{
    (void)m;
    if (j == 0) {
        vi h[4];
        transpose16(p, s, t);
        transpose16(p + 66, s, h);                   /* qh in the first eight bytes */
        t[12] = h[0], t[13] = h[1];
        transpose16(p + 74, s, t + 4);
        transpose16(p + 90, s, t + 8);
        transpose16(p + 94, s, h);                   /* its last four bytes: scales */
        for (int g = 0; g < 8; g++) w[g] = odd_scale(half_lo(t[0]), 1, h[3], g);
    }
    if (j % 2 == 0) transpose16(p + 2 + 8*j, s, t);
    vi c[2], tops = v_srl(t[12 + j / 4], 8 * (j % 4));
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        vi i = t[j % 2 * 2 + h], top = v_spread(tops, 4*h, 4*h + 1, 4*h + 2, 4*h + 3);
        const __mmask64 k[] = { _mm512_movepi8_mask(i), _mm512_test_epi8_mask(top, byte_set(1)) };
        c[0] = table512(iq3_s_code[0], i, k), c[1] = table512(iq3_s_code[1], i, k);
        points_iq3(v + 4 * h, c, t[4 + j], 2 * h, signed_iq3_s);
    }
}
#undef TIMES2
#undef TIMES4
#undef TIMES8
#undef BOTH4
#else
/* Eight bytes of signs spread over a register: all ones where the bit of the byte's place in
 * bits is set; word as in fifth_bits. */
TAKE_INLINE vi v_where(vi word, int byte, vi bits)
{
    return _mm256_cmpeq_epi8(V_AND(v_copy_bytes(word, byte), bits), bits);
}

/* +-v + off */
TAKE_INLINE vi v_signed(vi v, vi minus, int off)
{
    return VI(add_epi8)(VI(sub_epi8)(V_XOR(v, minus), minus), byte_set(off));
}

/* Eight points of eight weights, those of row r at g[r]: two registers, lane r for row r. */
TAKE_INLINE void points8(const uint64_t *const g[8], vi *v0, vi *v1)
{
    __m128i x[4];
    for (int i = 0; i < 4; i++)
        x[i] = _mm_unpacklo_epi64(_mm_loadl_epi64((const void *)g[2 * i]),
                                  _mm_loadl_epi64((const void *)g[2 * i + 1]));
    vf a = v_float(_mm256_set_m128i(x[2], x[0])), b = v_float(_mm256_set_m128i(x[3], x[1]));
    *v0 = v_bits(_mm256_shuffle_ps(a, b, 0x88)), *v1 = v_bits(_mm256_shuffle_ps(a, b, 0xdd));
}

/* Register pair i of a group: points g, signs in byte i of each lane's word. */
TAKE_INLINE void pair_iq2(vi v[8], int i, const uint64_t *const g[8], vi signs)
{
    const vi even = VI(set1_epi32)(0x08040201), odd = VI(set1_epi32)((int)0x80402010);
    vi a, b;
    points8(g, &a, &b);
    v[2 * i] = v_signed(a, v_where(signs, i, even), OFF_iq2_s);
    v[2 * i + 1] = v_signed(b, v_where(signs, i, odd), OFF_iq2_s);
}

/* Register i of an IQ3 group: points g, signs in nibble i of each lane's word. */
TAKE_INLINE vi point_iq3(int i, const uint32_t *const g[8], vi signs, int off)
{
    const vi even = VI(set1_epi32)(0x08040201), odd = VI(set1_epi32)((int)0x80402010);
    vi v = _mm256_set_epi32((int)*g[7], (int)*g[6], (int)*g[5], (int)*g[4], (int)*g[3],
                            (int)*g[2], (int)*g[1], (int)*g[0]);
    return v_signed(v, v_where(signs, i / 2, i % 2 ? odd : even), off);
}

TAKE_INLINE void take_iq2_xxs(const uint8_t *p, size_t s, int j, vi *t, vi *v, vf *w, vf *m)
{
    (void)m;
    const uint64_t *g[8];
    if (j == 0) {
        transpose16(p, s, t);
        t[4] = v_bits(half_lo(t[0]));
    }
    if (j % 2 == 0) transpose16(p + 2 + 8*j, s, t);
    vi word = t[j % 2 * 2 + 1], signs = signs_of_7(word);
    w[j] = odd_scale(v_float(t[4]), 0.125f, word, 7);
    for (int i = 0; i < 4; i++) {
        for (size_t r = 0; r < 8; r++) g[r] = &iq2_xxs_grid[(p + r * s)[2 + 8 * j + i]];
        pair_iq2(v, i, g, signs);
    }
}

TAKE_INLINE void take_iq2_xs(const uint8_t *p, size_t s, int j, vi *t, vi *v, vf *w, vf *m)
{
    (void)m;
    const uint64_t *g[8];
    if (j == 0) {
        vi h[4];
        transpose16(p, s, t);
        transpose16(p + 58, s, h);                   /* its last eight bytes: scales */
        scales_iq2(half_lo(t[0]), h + 2, w);
    }
    if (j % 2 == 0) transpose16(p + 2 + 8*j, s, t);
    vi signs = signs_of_7(sevens(t[j % 2 * 2], t[j % 2 * 2 + 1]));
    for (int i = 0; i < 4; i++) {
        for (size_t r = 0; r < 8; r++)
            g[r] = &iq2_xs_grid[u16_at(p + r * s + 2 + 8 * j + 2 * i) & 511];
        pair_iq2(v, i, g, signs);
    }
}

TAKE_INLINE void take_iq2_s(const uint8_t *p, size_t s, int j, vi *t, vi *v, vf *w, vf *m)
{
    (void)m;
    const uint64_t *g[8];
    if (j == 0) {
        vi h[4];
        transpose16(p, s, t);
        transpose16(p + 66, s, h);                   /* its last eight bytes: scales */
        scales_iq2(half_lo(t[0]), h + 2, w);
    }
    if (j % 4 == 0) transpose16(p + 34 + 4*j, s, t);
    for (int i = 0; i < 4; i++) {
        for (size_t r = 0; r < 8; r++) {
            const uint8_t *b = p + r * s;
            g[r] = &iq2_s_grid[b[2 + 4 * j + i] | (b[66 + j] << (8 - 2 * i) & 0x300)];
        }
        pair_iq2(v, i, g, t[j % 4]);
    }
}

TAKE_INLINE void take_iq3_xxs(const uint8_t *p, size_t s, int j, vi *t, vi *v, vf *w, vf *m)
{
    (void)m;
    const uint32_t *g[8];
    if (j == 0) {
        transpose16(p, s, t);
        t[8] = v_bits(half_lo(t[0]));
        transpose16(p + 66, s, t);
        transpose16(p + 82, s, t + 4);
    }
    vi signs = signs_of_7(t[j]);
    w[j] = odd_scale(v_float(t[8]), 0.25f, t[j], 7);
    for (int i = 0; i < 8; i++) {
        for (size_t r = 0; r < 8; r++) g[r] = &iq3_xxs_grid[(p + r * s)[2 + 8 * j + i]];
        v[i] = point_iq3(i, g, signs, OFF_iq3_xxs);
    }
}

TAKE_INLINE void take_iq3_s(const uint8_t *p, size_t s, int j, vi *t, vi *v, vf *w, vf *m)
{
    (void)m;
    const uint32_t *g[8];
    if (j == 0) {
        vi h[4];
        transpose16(p, s, t);
        transpose16(p + 94, s, h);                   /* its last four bytes: scales */
        for (int n = 0; n < 8; n++) w[n] = odd_scale(half_lo(t[0]), 1, h[3], n);
        transpose16(p + 74, s, t);
        transpose16(p + 90, s, t + 4);
    }
    for (int i = 0; i < 8; i++) {
        for (size_t r = 0; r < 8; r++) {
            const uint8_t *b = p + r * s;
            g[r] = &iq3_s_grid[b[2 + 8 * j + i] | (b[66 + j] << (8 - i) & 0x100)];
        }
        v[i] = point_iq3(i, g, t[j], OFF_iq3_s);
    }
}
#endif
