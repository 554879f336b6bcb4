/* kern_avx512_few.c - quantised products of one or two columns: 64 bytes of a row's weights a
 * load, as they lie in the file. Two rows side by side share a register, eight bytes each in turn,
 * so that a chain of VPDPBUSD leaves two partial sums a row; what is left of them is added on the
 * way to rows in the lanes, where the float chain of docs/numerics.md runs. That takes a third
 * fewer instructions than turning the weights themselves (docs/kernels.md counts them); with more
 * columns the sums are what costs. */
#if defined(__x86_64__)
#include "kern/few512.h"
#include "base/block.h"
#include "kern/unpack_body.h"
#include "kern/unroll.h"

enum { ROWS = 16 };

/* ---- inputs ------------------------------------------------------------------------------- */

/* Where register t's inputs are among 128: eight from a, b, c and d on, each twice. */
#define EIGHT(a) (a), (a) + 1, (a) + 2, (a) + 3, (a) + 4, (a) + 5, (a) + 6, (a) + 7
#define TWICE(a, b, c, d) { EIGHT(a), EIGHT(a), EIGHT(b), EIGHT(b), EIGHT(c), EIGHT(c), \
                            EIGHT(d), EIGHT(d) }
/* Q4_K, Q5_K: 32 bytes are the low nibbles of a group and the high ones of the next. */
static const uint8_t order_k4[4][64] = {
    TWICE(0, 16, 64, 80), TWICE(8, 24, 72, 88), TWICE(32, 48, 96, 112), TWICE(40, 56, 104, 120)
};
/* Q6_K: 64 bytes are the low nibbles of 64 weights and the high ones of the next 64. */
static const uint8_t order_k6[4][64] = {
    TWICE(0, 16, 32, 48), TWICE(8, 24, 40, 56), TWICE(64, 80, 96, 112), TWICE(72, 88, 104, 120)
};
/* Sixteen bytes are a group: low nibbles its first half. */
static const uint8_t order_16[4][64] = {
    TWICE(0, 32, 64, 96), TWICE(8, 40, 72, 104), TWICE(16, 48, 80, 112), TWICE(24, 56, 88, 120)
};

void few512_spread(int8_t *to, const int8_t *q, int K, const uint8_t order[4][64])
{
    for (int k = 0; k < K; k += FEW_SPAN, to += 2 * FEW_SPAN) {
        int left = K - k < FEW_SPAN ? K - k : FEW_SPAN;       /* a multiple of 32 */
        const __mmask64 all = ~(__mmask64)0;
        __mmask64 m0 = left < 64 ? all >> (64 - left) : all;
        __mmask64 m1 = left <= 64 ? 0 : all >> (128 - left);
        __m512i lo = _mm512_maskz_loadu_epi8(m0, q + k);
        __m512i hi = _mm512_maskz_loadu_epi8(m1, q + k + 64);
        for (int t = 0; t < 4; t++)
            _mm512_store_si512(to + 64 * t, _mm512_permutex2var_epi8(
                                                lo, _mm512_loadu_si512(order[t]), hi));
    }
}

/* ---- from partial sums to rows in the lanes -------------------------------------------------- */

#define LANES4(a, b, n) _mm512_shuffle_i32x4(a, b, n)

/* a, b: two partial sums of two rows in each lane of 16 bytes. Four rows' sums in each: by words,
 * where partial sums fit in one, and by dwords. */
TAKE_INLINE __m512i join_words(__m512i a, __m512i b)
{
    return _mm512_madd_epi16(_mm512_packs_epi32(a, b), _mm512_set1_epi16(1));
}
TAKE_INLINE __m512i join_dwords(__m512i a, __m512i b)
{
    __m512 x = _mm512_castsi512_ps(a), y = _mm512_castsi512_ps(b);
    return _mm512_add_epi32(_mm512_castps_si512(_mm512_shuffle_ps(x, y, 0x88)),
                            _mm512_castps_si512(_mm512_shuffle_ps(x, y, 0xdd)));
}

/* v[n]: rows 4n .. 4n+3. A group in each lane: S[i] is group i of all rows. */
TAKE_INLINE void turn_lanes(const __m512i v[4], __m512i S[4])
{
    __m512i a = LANES4(v[0], v[1], 0x44), b = LANES4(v[2], v[3], 0x44);
    __m512i c = LANES4(v[0], v[1], 0xee), d = LANES4(v[2], v[3], 0xee);
    S[0] = LANES4(a, b, 0x88), S[1] = LANES4(a, b, 0xdd);
    S[2] = LANES4(c, d, 0x88), S[3] = LANES4(c, d, 0xdd);
}

/* Halves of a group in neighbouring lanes: S[0] and S[2] get its two groups. */
TAKE_INLINE void add_lanes(const __m512i v[4], __m512i S[4])
{
    __m512i a = _mm512_add_epi32(LANES4(v[0], v[1], 0x88), LANES4(v[0], v[1], 0xdd));
    __m512i b = _mm512_add_epi32(LANES4(v[2], v[3], 0x88), LANES4(v[2], v[3], 0xdd));
    S[0] = LANES4(a, b, 0x88), S[2] = LANES4(a, b, 0xdd);
}

/* One group's step of the float chain: block `at` of the input, the column's sum `g`. */
TAKE_INLINE __m512 step(__m512 acc, __m512i S, __m512 w, const few_col *c, size_t at)
{
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(S), _mm512_mul_ps(w, _mm512_set1_ps(c->d[at])), acc);
}
/* A block of 256's chain into the row's. */
TAKE_INLINE void add_super(__m512 *acc, const __m512 *part, const few_col *col, size_t k, int nc)
{
    for (int c = 0; c < nc; c++)
        acc[c] = _mm512_fmadd_ps(part[c], _mm512_set1_ps(col[c].dk[k / QSUPER]), acc[c]);
}
TAKE_INLINE __m512 step_min(__m512 acc, __m512 m, const few_col *c, size_t g)
{
    return _mm512_fmadd_ps(m, _mm512_set1_ps(((const float *)c->sums)[g]), acc);
}
TAKE_INLINE __m512i with_offset(__m512i S, const few_col *c, size_t g)
{
    return _mm512_add_epi32(S, _mm512_set1_epi32(((const int32_t *)c->sums)[g]));
}

/* byte i of every dword, as a number */
TAKE_INLINE __m512 byte_float(__m512i x, int i)
{
    const __m512i first = _mm512_set4_epi32((int)0x8080800c, (int)0x80808008, (int)0x80808004,
                                            (int)0x80808000);
    return _mm512_cvtepi32_ps(_mm512_shuffle_epi8(x, _mm512_add_epi32(first,
                                                                      _mm512_set1_epi32(i))));
}

/* ---- the types ------------------------------------------------------------------------------- */

/* A block of sixteen rows from p on, whose inputs start at k; groups: of 32 weights, all that
 * there are left. Adds to acc. */
typedef void block_fn(const uint8_t *p, size_t s, const few_col *col, size_t k, int groups,
                      __m512 *acc, fetch *f, int nc);

TAKE_INLINE void few(const uint8_t *w, size_t s, int R, int K, const few_col *col, int nc,
                     block_fn *block, int elems, int bytes)
{
    for (int r0 = 0; r0 < R; r0 += ROWS) {
        int at = r0 < R - ROWS ? r0 : R - ROWS;      /* the last group may overlap: same bits */
        const uint8_t *p = w + (size_t)at * s;
        fetch f = fetch_from(p + ROWS * s, s);
        __m512 acc[FEW_MAX];
        for (int c = 0; c < nc; c++) acc[c] = _mm512_setzero_ps();
        int k = 0;
        for (; k + elems <= K; k += elems, p += bytes)
            block(p, s, col, (size_t)k, elems / 32, acc, &f, nc);
        if (k < K) block(p, s, col, (size_t)k, (K - k) / 32, acc, &f, nc);
        for (int c = 0; c < nc; c++) _mm512_storeu_ps(col[c].y + at, acc[c]);
    }
}

#define LOAD(p) _mm512_loadu_si512(p)
/* a bit matrix that moves bits 4 .. 7 of every byte to 0 .. 3 */
#define HIGH(x) _mm512_gf2p8affine_epi64_epi8(x, _mm512_set1_epi64(0x1020408000000000), 0)
#define LOW(x) _mm512_and_si512(x, byte_set(15))
#define DOT _mm512_dpbusd_epi32

/* Partial sums of two pairs of rows with the 128 inputs from k on: of the low nibbles, of the high. */
TAKE_INLINE void pair_dots(__m512i x[2][4], const few_col *c, size_t k, __m512i a[2], __m512i b[2])
{
    const int8_t *q = c->q + 2 * k;
    const __m512i zero = _mm512_setzero_si512();
    UNROLL(2)
    for (int i = 0; i < 2; i++) {
        a[i] = DOT(DOT(zero, x[i][0], LOAD(q)), x[i][1], LOAD(q + 64));
        b[i] = DOT(DOT(zero, x[i][2], LOAD(q + 128)), x[i][3], LOAD(q + 192));
    }
}

/* 64 bytes of rows a and b, by qwords in turn: low nibbles of the even and the odd ones, then high. */
TAKE_INLINE void split_pair(__m512i a, __m512i b, __m512i x[4])
{
    __m512i e = _mm512_unpacklo_epi64(a, b), o = _mm512_unpackhi_epi64(a, b);
    x[0] = LOW(e), x[1] = LOW(o), x[2] = HIGH(e), x[3] = HIGH(o);
}

/* Bit matrices that differ in the halves of a register. Row 4 of one (byte 3 of it) says which bit
 * the result's bit 4 is, row 5 (byte 2) which its bit 5 is: bit n, bits n and n + 1. */
#define HALVES(a, b) _mm512_set_epi64(b, b, b, b, a, a, a, a)
#define BIT(n) ((long long)1 << (24 + (n)))
#define BITS(n) (BIT(n) | (long long)1 << (16 + (n) + 1))

/* The 32 bytes of either row at h that hold the upper bits of split_pair's x, moved by lo and hi. */
TAKE_INLINE void add_bits(const uint8_t *h, size_t s, __m512i lo, __m512i hi, __m512i x[4])
{
    __m512i u = _mm512_broadcast_i64x4(_mm256_loadu_si256((const void *)h));
    __m512i v = _mm512_broadcast_i64x4(_mm256_loadu_si256((const void *)(h + s)));
    __m512i e = _mm512_unpacklo_epi64(u, v), o = _mm512_unpackhi_epi64(u, v);
    x[0] = _mm512_or_si512(x[0], _mm512_gf2p8affine_epi64_epi8(e, lo, 0));
    x[1] = _mm512_or_si512(x[1], _mm512_gf2p8affine_epi64_epi8(o, lo, 0));
    x[2] = _mm512_or_si512(x[2], _mm512_gf2p8affine_epi64_epi8(e, hi, 0));
    x[3] = _mm512_or_si512(x[3], _mm512_gf2p8affine_epi64_epi8(o, hi, 0));
}

/* Half a block of two rows of Q4_K, or of Q5_K: bits 4 half + 0 and 2 belong to the two groups of the
 * low nibbles, 1 and 3 to those of the high. */
TAKE_INLINE void k4_pair(const uint8_t *p, size_t s, const uint8_t *h, int half, int five,
                         __m512i x[4])
{
    split_pair(LOAD(p), LOAD(p + s), x);
    if (five && half) add_bits(h, s, HALVES(BIT(4), BIT(6)), HALVES(BIT(5), BIT(7)), x);
    else if (five) add_bits(h, s, HALVES(BIT(0), BIT(2)), HALVES(BIT(1), BIT(3)), x);
}

/* Partial sums: at most 8 products of 31 * 127, so they fit in words. */
TAKE_INLINE void block_k4(const uint8_t *p, size_t s, const few_col *col, size_t k, __m512 *acc,
                          fetch *f, int nc, int five)
{
    __m512i sc[2], mn[2];
    __m512 d, dmin;
    int qs = five ? 48 : 16;
    fields_k4(p, s, &d, &dmin, sc, mn);
    __m512 part[FEW_MAX];
    size_t k0 = k;
    for (int c = 0; c < nc; c++) part[c] = _mm512_setzero_ps();
    UNROLL(2)
    for (int half = 0; half < 2; half++, k += FEW_SPAN) {
        __m512i lo[FEW_MAX][4], hi[FEW_MAX][4], S[FEW_MAX][4];
        __asm__("" : "+r"(p));       /* fifth bits anew for each half: kept, they spill */
        UNROLL(4)
        for (int n = 0; n < 4; n++) {
            __m512i x[2][4];
            fetch_more(f, five ? 352 : 288);
            UNROLL(2)
            for (int i = 0; i < 2; i++)
                k4_pair(p + qs + 64 * half + (size_t)(4*n + 2*i) * s, s,
                        p + 16 + (size_t)(4*n + 2*i) * s, half, five, x[i]);
            UNROLL(2)
            for (int c = 0; c < nc; c++) {
                __m512i a[2], b[2];
                pair_dots(x, col + c, k, a, b);
                lo[c][n] = join_words(a[0], a[1]), hi[c][n] = join_words(b[0], b[1]);
            }
        }
        for (int c = 0; c < nc; c++) add_lanes(lo[c], S[c]), add_lanes(hi[c], S[c] + 1);
        UNROLL(4)
        for (int g = 0; g < 4; g++) {
            __m512 w = _mm512_mul_ps(d, byte_float(sc[half], g));
            __m512 m = _mm512_mul_ps(dmin, byte_float(mn[half], g));
            for (int c = 0; c < nc; c++) {
                part[c] = step(part[c], S[c][g], w, col + c, k / 32 + (size_t)g);
                part[c] = step_min(part[c], m, col + c, k / 32 + (size_t)g);
            }
        }
    }
    add_super(acc, part, col, k0, nc);
}

TAKE_INLINE void block_q4_k_few(const uint8_t *p, size_t s, const few_col *col, size_t k,
                                int groups, __m512 *acc, fetch *f, int nc)
{
    (void)groups;
    block_k4(p, s, col, k, acc, f, nc, 0);
}

TAKE_INLINE void block_q5_k_few(const uint8_t *p, size_t s, const few_col *col, size_t k,
                                int groups, __m512 *acc, fetch *f, int nc)
{
    (void)groups;
    block_k4(p, s, col, k, acc, f, nc, 1);
}

TAKE_INLINE void block_q6_k_few(const uint8_t *p, size_t s, const few_col *col, size_t k,
                                int groups, __m512 *acc, fetch *f, int nc)
{
    __m512i sc[4], h[4];
    (void)groups;
    transpose16(p + 192, s, sc);
    transpose16(p + 194, s, h);                      /* its last two bytes: d */
    __m512 d = half_hi(h[3]);
    __m512 part[FEW_MAX];
    size_t k0 = k;
    for (int c = 0; c < nc; c++) part[c] = _mm512_setzero_ps();
    UNROLL(2)
    for (int half = 0; half < 2; half++, k += FEW_SPAN) {
        __m512i lo[FEW_MAX][4], hi[FEW_MAX][4], S[FEW_MAX][8];
        UNROLL(4)
        for (int n = 0; n < 4; n++) {
            __m512i x[2][4];
            fetch_more(f, 420);
            UNROLL(2)
            for (int i = 0; i < 2; i++) {
                const uint8_t *row = p + (size_t)(4*n + 2*i) * s, *ql = row + 64 * half;
                split_pair(LOAD(ql), LOAD(ql + s), x[i]);
                add_bits(row + 128 + 32 * half, s, HALVES(BITS(0), BITS(2)),
                         HALVES(BITS(4), BITS(6)), x[i]);
            }
            UNROLL(2)
            for (int c = 0; c < nc; c++) {
                __m512i a[2], b[2];
                pair_dots(x, col + c, k, a, b);
                lo[c][n] = join_dwords(a[0], a[1]), hi[c][n] = join_dwords(b[0], b[1]);
            }
        }
        for (int c = 0; c < nc; c++) turn_lanes(lo[c], S[c]), turn_lanes(hi[c], S[c] + 4);
        UNROLL(8)
        for (int g = 0; g < 8; g++) {
            __m512 w = _mm512_mul_ps(d, byte_s(sc[2 * half + g / 4], g % 4));
            for (int c = 0; c < nc; c++) {
                __m512i sum = with_offset(S[c][g], col + c, k / 16 + (size_t)g);
                part[c] = step(part[c], sum, w, col + c, k / 32 + (size_t)g / 2);
            }
        }
    }
    add_super(acc, part, col, k0, nc);
}

/* ---- blocks of 32 weights in sixteen bytes: four blocks a load -------------------------------- */

/* The sixteen values, as q + 128, four times over: VPERMB then takes a nibble with two bits of
 * anything above it. */
TAKE_INLINE __m512i value_table(void)
{
    return _mm512_xor_si512(_mm512_broadcast_i32x4(take_16((const uint8_t *)values_iq4)),
                            byte_set(0x80));
}

/* Sixty-four nibble bytes of two rows, four groups: weights 0..7, 8..15, 16..23, 24..31 of each. */
TAKE_INLINE void four_pair(__m512i a, __m512i b, int table, __m512i x[4])
{
    if (!table) {
        split_pair(a, b, x);
        return;
    }
    __m512i e = _mm512_unpacklo_epi64(a, b), o = _mm512_unpackhi_epi64(a, b), T = value_table();
    x[0] = _mm512_permutexvar_epi8(e, T), x[1] = _mm512_permutexvar_epi8(o, T);
    x[2] = _mm512_permutexvar_epi8(_mm512_srli_epi16(e, 4), T);
    x[3] = _mm512_permutexvar_epi8(_mm512_srli_epi16(o, 4), T);
}

/* Two pairs' sums of the four groups from k on. */
TAKE_INLINE void four_sums(__m512i x[2][4], const few_col *c, size_t k, int table, __m512i *v)
{
    const int8_t *q = c->q + 2 * k;
    __m512i a[2];
    UNROLL(2)
    for (int i = 0; i < 2; i++) {
        a[i] = DOT(DOT(_mm512_setzero_si512(), x[i][0], LOAD(q)), x[i][1], LOAD(q + 64));
        a[i] = DOT(DOT(a[i], x[i][2], LOAD(q + 128)), x[i][3], LOAD(q + 192));
    }
    *v = table ? join_dwords(a[0], a[1]) : join_words(a[0], a[1]);
}

/* Where sixteen bytes of each of four blocks lie that are B bytes long with a header of H, in 64
 * bytes from the first block's start and (from 64 on) 64 that end with the last block. */
#define BYTE_AT(B, H, i) (uint8_t)((B) * ((i) / 16) + (H) + (i) % 16 + \
                                   ((B) * ((i) / 16) + (H) + (i) % 16 < 64 ? 0 : 128 - 4 * (B)))
#define BYTES_4(B, H, i) BYTE_AT(B, H, i), BYTE_AT(B, H, i + 1), BYTE_AT(B, H, i + 2), \
                         BYTE_AT(B, H, i + 3)
#define BYTES_16(B, H, i) BYTES_4(B, H, i), BYTES_4(B, H, i + 4), BYTES_4(B, H, i + 8), \
                          BYTES_4(B, H, i + 12)
#define BYTES_64(B, H) { BYTES_16(B, H, 0), BYTES_16(B, H, 16), BYTES_16(B, H, 32), \
                         BYTES_16(B, H, 48) }
static const uint8_t nibbles_18[64] = BYTES_64(18, 2), nibbles_20[64] = BYTES_64(20, 4);

/* A row's next four blocks of B bytes, or fewer: *head gets the first 64, the result is the
 * nibbles of all. */
TAKE_INLINE __m512i row_of_blocks(const uint8_t *p, int B, const uint8_t at[64], int groups,
                                  __m512i *head)
{
    __m512i y, z;
    if (groups == 4) {
        y = LOAD(p), z = LOAD(p + 4 * B - 64);
    } else {                                         /* at most 60 bytes */
        int over = B * groups - (4 * B - 64);
        y = _mm512_maskz_loadu_epi8(((__mmask64)1 << B * groups) - 1, p);
        z = _mm512_maskz_loadu_epi8(over > 0 ? ((__mmask64)1 << over) - 1 : 0, p + 4 * B - 64);
    }
    *head = y;
    return _mm512_permutex2var_epi8(y, LOAD(at), z);
}

/* Four blocks of Q4_0 or IQ4_NL. The scales of a row's four go to one qword. */
TAKE_INLINE void block_18(const uint8_t *p, size_t s, const few_col *col, size_t k, int groups,
                          __m512 *acc, fetch *f, int nc, int table)
{
    __m512i v[FEW_MAX][4], S[FEW_MAX][4], scales[2];
    const __m512i scale_at = _mm512_set1_epi64(0x001b001200090000);  /* words 0, 9, 18, 27 */
    scales[0] = scales[1] = _mm512_setzero_si512();
    UNROLL(4)
    for (int n = 0; n < 4; n++) {
        __m512i x[2][4];
        fetch_more(f, 72 * ROWS / 4);
        UNROLL(2)
        for (int i = 0; i < 2; i++) {
            __m512i row[2], head;
            UNROLL(2)
            for (int j = 0; j < 2; j++) {
                int r = 4*n + 2*i + j;
                row[j] = row_of_blocks(p + (size_t)r * s, 18, nibbles_18, groups, &head);
                scales[r / 8] = _mm512_mask_permutexvar_epi16(
                    scales[r / 8], (__mmask32)15 << 4 * (r % 8), scale_at, head);
            }
            four_pair(row[0], row[1], table, x[i]);
        }
        for (int c = 0; c < nc; c++) four_sums(x, col + c, k, table, &v[c][n]);
    }
    for (int c = 0; c < nc; c++) turn_lanes(v[c], S[c]);
    UNROLL(4)
    for (int g = 0; g < 4; g++) {
        if (g >= groups) break;
        const __m512i word = _mm512_add_epi16(                       /* g of every qword of both */
            _mm512_set1_epi16((short)g),
            _mm512_set_epi16(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                             60, 56, 52, 48, 44, 40, 36, 32, 28, 24, 20, 16, 12, 8, 4, 0));
        __m512i t = _mm512_permutex2var_epi16(scales[0], word, scales[1]);
        __m512 w = _mm512_cvtph_ps(_mm512_castsi512_si256(t));
        size_t at = k / 32 + (size_t)g;
        for (int c = 0; c < nc; c++)
            acc[c] = step(acc[c], with_offset(S[c][g], col + c, at), w, col + c, at);
    }
}

TAKE_INLINE void block_q4_0_few(const uint8_t *p, size_t s, const few_col *col, size_t k,
                                int groups, __m512 *acc, fetch *f, int nc)
{
    block_18(p, s, col, k, groups, acc, f, nc, 0);
}

TAKE_INLINE void block_iq4_nl_few(const uint8_t *p, size_t s, const few_col *col, size_t k,
                                  int groups, __m512 *acc, fetch *f, int nc)
{
    block_18(p, s, col, k, groups, acc, f, nc, 1);
}

/* Four blocks of Q4_1; d and m of a row's four go to a lane of 16 bytes, which are then turned. */
TAKE_INLINE void block_q4_1_few(const uint8_t *p, size_t s, const few_col *col, size_t k,
                                int groups, __m512 *acc, fetch *f, int nc)
{
    __m512i v[FEW_MAX][4], S[FEW_MAX][4], h[4], t[4];
    const __m512i head_at = _mm512_set4_epi32(15, 10, 5, 0);
    for (int i = 0; i < 4; i++) h[i] = _mm512_setzero_si512();
    UNROLL(4)
    for (int n = 0; n < 4; n++) {
        __m512i x[2][4];
        fetch_more(f, 80 * ROWS / 4);
        UNROLL(2)
        for (int i = 0; i < 2; i++) {
            __m512i row[2], head;
            UNROLL(2)
            for (int j = 0; j < 2; j++) {
                int r = 4*n + 2*i + j;
                row[j] = row_of_blocks(p + (size_t)r * s, 20, nibbles_20, groups, &head);
                h[r % 4] = _mm512_mask_permutexvar_epi32(h[r % 4], (__mmask16)(15 << r / 4 * 4),
                                                         head_at, head);
            }
            four_pair(row[0], row[1], 0, x[i]);
        }
        for (int c = 0; c < nc; c++) four_sums(x, col + c, k, 0, &v[c][n]);
    }
    turn_dwords(h, t);
    for (int c = 0; c < nc; c++) turn_lanes(v[c], S[c]);
    UNROLL(4)
    for (int g = 0; g < 4; g++) {
        if (g >= groups) break;
        __m512 w = half_lo(t[g]), m = half_hi(t[g]);
        size_t at = k / 32 + (size_t)g;
        for (int c = 0; c < nc; c++) {
            acc[c] = step(acc[c], S[c][g], w, col + c, at);
            acc[c] = step_min(acc[c], m, col + c, at);
        }
    }
}

TAKE_INLINE void block_iq4_xs_few(const uint8_t *p, size_t s, const few_col *col, size_t k,
                                  int groups, __m512 *acc, fetch *f, int nc)
{
    __m512i t[4];
    (void)groups;
    transpose16(p, s, t);
    __m512 d = half_lo(t[0]);
    __m512 part[FEW_MAX];
    size_t k0 = k;
    for (int c = 0; c < nc; c++) part[c] = _mm512_setzero_ps();
    UNROLL(2)
    for (int half = 0; half < 2; half++, k += FEW_SPAN) {
        __m512i v[FEW_MAX][4], S[FEW_MAX][4];
        UNROLL(4)
        for (int n = 0; n < 4; n++) {
            __m512i x[2][4];
            fetch_more(f, 136 * ROWS / 8);
            UNROLL(2)
            for (int i = 0; i < 2; i++) {
                const uint8_t *row = p + 8 + 64 * half + (size_t)(4*n + 2*i) * s;
                four_pair(LOAD(row), LOAD(row + s), 1, x[i]);
            }
            for (int c = 0; c < nc; c++) four_sums(x, col + c, k, 1, &v[c][n]);
        }
        for (int c = 0; c < nc; c++) turn_lanes(v[c], S[c]);
        UNROLL(4)
        for (int i = 0; i < 4; i++) {
            __m512 w = scale_iq4_xs(t, d, 4 * half + i);
            size_t at = k / 32 + (size_t)i;
            for (int c = 0; c < nc; c++)
                part[c] = step(part[c], with_offset(S[c][i], col + c, at), w, col + c, at);
        }
    }
    add_super(acc, part, col, k0, nc);
}

#define TYPE(T, ELEMS, BYTES) \
static void few_##T(const uint8_t *w, size_t s, int R, int K, const few_col *col, int nc) \
{ \
    if (nc == 1) few(w, s, R, K, col, 1, block_##T##_few, ELEMS, BYTES); \
    else few(w, s, R, K, col, 2, block_##T##_few, ELEMS, BYTES); \
}
TYPE(q4_0, 128, 72)
TYPE(q4_1, 128, 80)
TYPE(q4_k, 256, sizeof(block_q4_k))
TYPE(q5_k, 256, sizeof(block_q5_k))
TYPE(q6_k, 256, sizeof(block_q6_k))
TYPE(iq4_nl, 128, 72)
TYPE(iq4_xs, 256, sizeof(block_iq4_xs))

few_type few512_type(int type)
{
    switch (type) {
    case DT_Q4_0: return (few_type){ few_q4_0, order_16 };
    case DT_Q4_1: return (few_type){ few_q4_1, order_16 };
    case DT_Q4_K: return (few_type){ few_q4_k, order_k4 };
    case DT_Q5_K: return (few_type){ few_q5_k, order_k4 };
    case DT_Q6_K: return (few_type){ few_q6_k, order_k6 };
    case DT_IQ4_NL: return (few_type){ few_iq4_nl, order_16 };
    case DT_IQ4_XS: return (few_type){ few_iq4_xs, order_16 };
    default: return (few_type){ 0 };
    }
}
#else
typedef int kern_avx512_few_not_here;
#endif
