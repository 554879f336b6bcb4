/* kern_amx_q.c - quantised products of many columns with int8 tiles. The integer sums come out of
 * the tile unit, one group of weights at a time; the float chain runs beside it with sixteen
 * rows in the lanes, as in the level below, so the bits are the same. Fewer columns or rows go to
 * that level. Compiled with this level's flags; only kern_init_amx_q comes out.
 *
 * The tiles are configured in every call: it costs less than knowing whether other code of this
 * thread has changed them. */
#if defined(__x86_64__)
#include <stdbool.h>
#include <string.h>
#include "kern/mulq512_body.h"
#include "kern/super_body.h"

void kern_init_avx512_q(kern *k);
void kern_init_amx_q(kern *k);

enum { PANEL_K = 1024, PANEL_ROWS = 256, COLS = 16, MIN_N = 16 };

/* Constant data: gcc's _tile_loadconfig tells the compiler of eight bytes only. Tiles 0 - 3: sums
 * (16 columns x 16 rows of i32); 4, 6: inputs; 5, 7: weights, four a dword. */
typedef struct {
    uint8_t palette, start, pad[14];
    uint16_t colsb[16];
    uint8_t rows[16];
} tile_config;
static const tile_config config_32 = {
    .palette = 1, .colsb = { 64, 64, 64, 64, 32, 64, 32, 64 },
    .rows = { 16, 16, 16, 16, 16, 8, 16, 8 } };
static const tile_config config_16 = {
    .palette = 1, .colsb = { 64, 64, 64, 64, 16, 64, 16, 64 },
    .rows = { 16, 16, 16, 16, 16, 4, 16, 4 } };

/* The compiler does not know that tile loads read memory. */
#define FENCE() __asm__ volatile("" ::: "memory")

/* ---- inputs: sixteen columns, cell by cell of 32 values ------------------------------------ */

/* in_cell: 512 bytes of q (column c at 32c), 16 d, then per group 16 d * (float)A if mins. After
 * the cells, of types in blocks of 256, 16 dk for each eight of them. */
static inline size_t in_cell(int group, int mins)
{
    return 512 + 64 + (mins ? 64 * (size_t)(32 / group) : 0);
}

/* out + step * i gets element i of each of the sixteen rows of x, for i < n <= 16. */
static inline void transpose_out(char *out, size_t step, __m512 x[16], int n)
{
    __m512i a[16], b[16];
    for (int i = 0; i < 16; i += 4) {
        __m512i r0 = _mm512_castps_si512(x[i]), r1 = _mm512_castps_si512(x[i + 1]);
        __m512i r2 = _mm512_castps_si512(x[i + 2]), r3 = _mm512_castps_si512(x[i + 3]);
        __m512i l0 = _mm512_unpacklo_epi32(r0, r1), h0 = _mm512_unpackhi_epi32(r0, r1);
        __m512i l1 = _mm512_unpacklo_epi32(r2, r3), h1 = _mm512_unpackhi_epi32(r2, r3);
        a[i] = _mm512_unpacklo_epi64(l0, l1), a[i + 1] = _mm512_unpackhi_epi64(l0, l1);
        a[i + 2] = _mm512_unpacklo_epi64(h0, h1), a[i + 3] = _mm512_unpackhi_epi64(h0, h1);
    }
    /* a[4i + e], 128-bit lane L: element 4L + e of rows 4i .. 4i+3 */
    for (int e = 0; e < 4; e++) {
        __m512i p = _mm512_shuffle_i32x4(a[e], a[4 + e], 0x44);
        __m512i q = _mm512_shuffle_i32x4(a[8 + e], a[12 + e], 0x44);
        __m512i r = _mm512_shuffle_i32x4(a[e], a[4 + e], 0xee);
        __m512i s = _mm512_shuffle_i32x4(a[8 + e], a[12 + e], 0xee);
        b[e] = _mm512_shuffle_i32x4(p, q, 0x88), b[4 + e] = _mm512_shuffle_i32x4(p, q, 0xdd);
        b[8 + e] = _mm512_shuffle_i32x4(r, s, 0x88), b[12 + e] = _mm512_shuffle_i32x4(r, s, 0xdd);
    }
    for (int i = 0; i < n; i++) _mm512_store_si512(out + step * (size_t)i, b[i]);
}

/* Columns n .. n+15, values k0 .. k0 + n_k (a multiple of 32) of each. */
static void pack_inputs(char *to, const act *a, int n, int k0, int n_k, int group, int mins,
                        bool super)
{
    int cells = n_k / QBLOCK;
    size_t cell = in_cell(group, mins), K = (size_t)a->K;
    float *dk = (float *)(void *)(to + (size_t)cells * cell);
    for (int b = 0; super && b < n_k / QSUPER; b++)
        for (int c = 0; c < COLS; c++)
            dk[COLS * b + c] = a->dk[((size_t)(n + c) * K + (size_t)k0) / QSUPER + (size_t)b];
    for (int c = 0; c < COLS; c++) {
        const int8_t *q = a->q + (size_t)(n + c) * K + (size_t)k0;
        for (int b = 0; b < cells; b++)
            _mm256_store_si256((void *)(to + (size_t)b * cell + 32 * c),
                               _mm256_loadu_si256((const void *)(q + 32 * b)));
    }
    for (int b = 0; b < cells; b += 16) {
        int left = cells - b < 16 ? cells - b : 16;
        __m512 x[16];
        for (int c = 0; c < COLS; c++)
            x[c] = _mm512_maskz_loadu_ps((__mmask16)((1u << left) - 1),
                                         a->d + ((size_t)(n + c) * K + (size_t)k0) / QBLOCK + b);
        transpose_out(to + (size_t)b * cell + 512, cell, x, left);
        if (!mins) continue;
        int per = 32 / group;
        float sum[COLS][32] __attribute__((aligned(64))) = { 0 };
        for (int c = 0; c < COLS; c++)
            group_sums(sum[c], a, n + c, k0 / group + per * b, per * left, group, 0);
        if (per == 1) {
            for (int c = 0; c < COLS; c++) x[c] = _mm512_load_ps(sum[c]);
            transpose_out(to + (size_t)b * cell + 576, cell, x, left);
            continue;
        }
        for (int i = 0; i < 2; i++) {               /* even groups, odd groups */
            const __m512i pick = _mm512_add_epi32(_mm512_set1_epi32(i),
                _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0));
            for (int c = 0; c < COLS; c++)
                x[c] = _mm512_permutex2var_ps(_mm512_load_ps(sum[c]), pick,
                                              _mm512_load_ps(sum[c] + 16));
            transpose_out(to + (size_t)b * cell + 576 + 64 * i, cell, x, left);
        }
    }
}

/* ---- the product --------------------------------------------------------------------------- */

/* A sum S of the tile unit starts from BIAS, the bits of the float 1.5 * 2^23, and stays within
 * 2^22 of it: its bits are then the float 12582912 + S, and one exact subtraction gives S. A
 * conversion would do as well, but beside tile instructions this CPU multiplies and converts
 * floats on one port and adds them on two. */
enum { BIAS = 0x4b400000 };
#define BIAS4 { BIAS, BIAS, BIAS, BIAS }
#define BIAS16 BIAS4, BIAS4, BIAS4, BIAS4
static const int32_t bias[64][4] __attribute__((aligned(64))) = {
    BIAS16, BIAS16, BIAS16, BIAS16, BIAS16, BIAS16, BIAS16, BIAS16,
    BIAS16, BIAS16, BIAS16, BIAS16, BIAS16, BIAS16, BIAS16, BIAS16,
};

/* One float step of every column: the sums at S, scales w of the rows and d of the columns. */
TAKE_INLINE void chain(__m512 acc[COLS], const char *S, const char *pan, const char *in, int g,
                       int per, int mins)
{
    const __m512 base = _mm512_set1_ps(12582912);
    __m512 w = _mm512_load_ps(pan + 512 + 64 * g), m = w;
    const float *d = (const float *)(in + 512), *dA = d + 16 * (1 + g);
    if (mins) m = _mm512_load_ps(pan + 512 + 64 * (per + g));
#pragma GCC unroll 16
    for (int c = 0; c < COLS; c++) {
        __m512 s = _mm512_sub_ps(_mm512_load_ps(S + 64 * c), base);
        acc[c] = _mm512_fmadd_ps(s, _mm512_mul_ps(w, _mm512_set1_ps(d[c])), acc[c]);
        if (mins) acc[c] = _mm512_fmadd_ps(m, _mm512_set1_ps(dA[c]), acc[c]);
    }
}

/* Outputs of a block: y[c * ldy] for columns c >= c0 and the rows in the mask. Blocks at the edges
 * overlap their neighbours but leave those's outputs alone, which later panels add to. */
typedef struct { float *y; size_t ldy; int c0; __mmask16 rows; } where;

/* The chains of block b of 256, whose scales are at dk, into their rows' outputs. */
TAKE_INLINE void super_out(const where *to, bool first, __m512 acc[COLS], const float *dk, int b)
{
#pragma GCC unroll 16
    for (int c = 0; c < COLS; c++) {
        float *y = to->y + (size_t)c * to->ldy;
        __m512 sum = first && b == 0 ? _mm512_setzero_ps() : _mm512_loadu_ps(y);
        sum = _mm512_fmadd_ps(acc[c], _mm512_set1_ps(dk[COLS * b + c]), sum);
        if (c >= to->c0) _mm512_mask_storeu_ps(y, to->rows, sum);
        acc[c] = _mm512_setzero_ps();
    }
}

/* Cell and offset of group s + i. */
#define PAN(i) (pan + (size_t)((i) / per) * pc)
#define IN(i) (in + (size_t)((i) / per) * ic)

/* Sums of group i (of those at pan and in) into tile T, by way of tiles A and B. */
#define SUMS(i, T, A, B) do { \
    _tile_loadd(T, bias, 64); \
    _tile_loadd(A, IN(i) + group * ((i) % per), 32); \
    _tile_loadd(B, PAN(i) + 16 * group * ((i) % per), 64); \
    _tile_dpbssd(T, A, B); } while (0)
#define STORE(T) _tile_stored(T, S[T], 64)
#define CHAIN(i, T) do { \
    FENCE(); \
    chain(acc, S[T], PAN(i), IN(i), (i) % per, per, mins); } while (0)
/* after group i + 3 of four: theirs may be the last of a block of 256 */
#define SUPER_END() do { \
    if (super && (i + 4) % (QSUPER / group) == 0) \
        super_out(to, first, acc, dk, i / (QSUPER / group)); } while (0)

/* Sixteen columns of sixteen rows over n groups of weights, four a turn. Nothing renames tiles,
 * so only several in turn hide the unit's latency: the sums of group i start, those of i - 2
 * leave their tile, and the float step of i - 3 is made. */
TAKE_INLINE void block16(const where *to, bool first, const char *pan, const char *in, int n,
                         int group, int mins, int super)
{
    int per = 32 / group, i = 0;
    size_t pc = cell_bytes(group, mins), ic = in_cell(group, mins);
    const float *dk = (const float *)(const void *)(in + (size_t)(n / per) * ic);
    char S[4][1024] __attribute__((aligned(64)));
    __m512 acc[COLS];
#pragma GCC unroll 16
    for (int c = 0; c < COLS; c++)
        acc[c] = first || super ? _mm512_setzero_ps()
                                : _mm512_loadu_ps(to->y + (size_t)c * to->ldy);
    if (n >= 4) {
        SUMS(0, 0, 4, 5);
        SUMS(1, 1, 6, 7);
        SUMS(2, 2, 4, 5);
        STORE(0);
        SUMS(3, 3, 6, 7);
        STORE(1);
        CHAIN(0, 0);
        for (; i + 8 <= n; i += 4) {
            SUMS(4, 0, 4, 5);
            STORE(2);
            CHAIN(1, 1);
            SUMS(5, 1, 6, 7);
            STORE(3);
            CHAIN(2, 2);
            SUMS(6, 2, 4, 5);
            STORE(0);
            CHAIN(3, 3);
            SUPER_END();
            SUMS(7, 3, 6, 7);
            STORE(1);
            CHAIN(4, 0);
            pan += (size_t)(4 / per) * pc, in += (size_t)(4 / per) * ic;
        }
        STORE(2);
        CHAIN(1, 1);
        STORE(3);
        CHAIN(2, 2);
        CHAIN(3, 3);
        SUPER_END();
        pan += (size_t)(4 / per) * pc, in += (size_t)(4 / per) * ic;
        i += 4;
    }
    for (; i < n; i += per, pan += pc, in += ic)
        for (int g = 0; g < per; g++) {
            if (g == 0) SUMS(0, 0, 4, 5);
            else SUMS(1, 0, 4, 5);
            STORE(0);
            FENCE();
            chain(acc, S[0], pan, in, g, per, mins);
        }
    if (super) return;                              /* a whole number of blocks: all is out */
#pragma GCC unroll 16
    for (int c = 0; c < COLS; c++)
        if (c >= to->c0) _mm512_mask_storeu_ps(to->y + (size_t)c * to->ldy, to->rows, acc[c]);
}

typedef void block_fn(const where *to, bool first, const char *pan, const char *in, int n);
typedef void pack_fn(char *to, const uint8_t *p, size_t s, int n);
typedef struct {
    int elems, bytes, group, mins;
    block_fn *block;
    pack_fn *pack;
} qtype;

#define BLOCK(G, M, E) \
static void block_##G##_##M##_##E(const where *to, bool first, const char *pan, const char *in, \
                                  int n) \
{ block16(to, first, pan, in, n, G, M, (E) == QSUPER); }
BLOCK(32, 0, 32) BLOCK(32, 1, 32) BLOCK(32, 0, 256) BLOCK(32, 1, 256) BLOCK(16, 0, 256)
BLOCK(16, 1, 256)

/* Where sixteen rows or columns from i on must start to stay below n. */
static inline int edge(int i, int n) { return i < n - 16 ? i : n - 16; }

static void mul_many(float *y, size_t ldy, const uint8_t *w, size_t s, int R, const act *a,
                     char *scratch, const qtype *t)
{
    size_t row_group = PANEL_K / 32 * cell_bytes(t->group, t->mins);
    char *in = scratch + PANEL_ROWS / ROWS * row_group;
    if (t->group == 32) _tile_loadconfig(&config_32);
    else _tile_loadconfig(&config_16);
    for (int r0 = 0; r0 < R; r0 += PANEL_ROWS)
        for (int k0 = 0; k0 < a->K; k0 += PANEL_K) {
            int n_k = a->K - k0 < PANEL_K ? a->K - k0 : PANEL_K;
            int rows = R - r0 < PANEL_ROWS ? R - r0 : PANEL_ROWS;
            for (int r = 0; r < rows; r += ROWS)
                t->pack(scratch + (size_t)(r / ROWS) * row_group,
                        w + (size_t)edge(r0 + r, R) * s + (size_t)(k0 / t->elems * t->bytes), s,
                        n_k);
            for (int n0 = 0; n0 < a->N; n0 += COLS) {
                int n = edge(n0, a->N);
                pack_inputs(in, a, n, k0, n_k, t->group, t->mins, t->elems == QSUPER);
                FENCE();
                for (int r = 0; r < rows; r += ROWS) {
                    int at = edge(r0 + r, R);
                    where to = { y + (size_t)n * ldy + at, ldy, n0 - n,
                                 (__mmask16)(0xffff << (r0 + r - at)) };
                    t->block(&to, k0 == 0, scratch + (size_t)(r / ROWS) * row_group, in,
                             n_k / t->group);
                }
            }
        }
    _tile_release();
}

/* The level below, for what this one does not do. */
static kern below;

#define TYPE(T, DT, ELEMS, G, MINS) \
static void pack_##T(char *to, const uint8_t *p, size_t s, int n) \
{ \
    pack_rows(to, p, s, n, take_##T, ELEMS, sizeof(block_##T), G, MINS, OFF_##T); \
} \
static const qtype type_##T = { ELEMS, sizeof(block_##T), G, MINS, block_##G##_##MINS##_##ELEMS, \
                                pack_##T }; \
static void mul_##T(float *y, size_t ldy, const void *w, size_t row_bytes, int R, const act *a, \
                    void *scratch) \
{ \
    if (R < ROWS || a->N < MIN_N) below.mul[DT](y, ldy, w, row_bytes, R, a, scratch); \
    else mul_many(y, ldy, w, row_bytes, R, a, scratch, &type_##T); \
}
TYPE(q4_0, DT_Q4_0, 32, 32, 0)
TYPE(q4_1, DT_Q4_1, 32, 32, 1)
TYPE(q5_0, DT_Q5_0, 32, 32, 0)
TYPE(q5_1, DT_Q5_1, 32, 32, 1)
TYPE(q8_0, DT_Q8_0, 32, 32, 0)
TYPE(q2_k, DT_Q2_K, 256, 16, 1)
TYPE(q3_k, DT_Q3_K, 256, 16, 0)
TYPE(q4_k, DT_Q4_K, 256, 32, 1)
TYPE(q5_k, DT_Q5_K, 256, 32, 1)
TYPE(q6_k, DT_Q6_K, 256, 16, 0)
TYPE(iq4_nl, DT_IQ4_NL, 32, 32, 0)
TYPE(iq4_xs, DT_IQ4_XS, 256, 32, 0)
TYPE(mxfp4, DT_MXFP4, 32, 32, 0)
TYPE(iq3_s, DT_IQ3_S, 256, 32, 0)
TYPE(iq3_xxs, DT_IQ3_XXS, 256, 32, 0)
TYPE(iq2_s, DT_IQ2_S, 256, 16, 0)
TYPE(iq2_xs, DT_IQ2_XS, 256, 16, 0)
TYPE(iq2_xxs, DT_IQ2_XXS, 256, 32, 0)

static size_t mul_scratch(int type, int K)
{
    if (act_kind(type) < ACT_Q8) return 0;
    size_t cells = PANEL_K / 32, few = below.mul_scratch(type, K);
    size_t many = PANEL_ROWS / ROWS * cells * cell_bytes(16, 1) + cells * in_cell(16, 1) +
                  PANEL_K / QSUPER * COLS * sizeof(float);
    return few > many ? few : many;
}

void kern_init_amx_q(kern *k)
{
    kern_init_avx512_q(&below);
    k->mul[DT_Q4_0] = mul_q4_0, k->mul[DT_Q4_1] = mul_q4_1;
    k->mul[DT_Q5_0] = mul_q5_0, k->mul[DT_Q5_1] = mul_q5_1;
    k->mul[DT_Q8_0] = mul_q8_0;
    k->mul[DT_Q2_K] = mul_q2_k, k->mul[DT_Q3_K] = mul_q3_k;
    k->mul[DT_Q4_K] = mul_q4_k, k->mul[DT_Q5_K] = mul_q5_k;
    k->mul[DT_Q6_K] = mul_q6_k;
    k->mul[DT_IQ4_NL] = mul_iq4_nl, k->mul[DT_IQ4_XS] = mul_iq4_xs, k->mul[DT_MXFP4] = mul_mxfp4;
    k->mul[DT_IQ3_S] = mul_iq3_s, k->mul[DT_IQ3_XXS] = mul_iq3_xxs;
    k->mul[DT_IQ2_S] = mul_iq2_s, k->mul[DT_IQ2_XS] = mul_iq2_xs;
    k->mul[DT_IQ2_XXS] = mul_iq2_xxs;
    k->mul_scratch = mul_scratch;
}
#else
typedef int kern_amx_q_not_here;
#endif
