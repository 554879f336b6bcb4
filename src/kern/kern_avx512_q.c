/* kern_avx512_q.c - quantised products with VPDPBUSD: sixteen weight rows in the lanes, one
 * broadcast dword of input a step, so that a lane's float chain is the one of docs/numerics.md.
 * Few columns: from the file's blocks straight through registers. Many: panels unpacked into
 * scratch once a call. Compiled with this level's flags; only kern_init_avx512_q comes out. */
#if defined(__x86_64__)
#include <stdbool.h>
#include <string.h>
#include "kern/few512.h"
#include "kern/mulq512_body.h"
#include "kern/super_body.h"
#include "kern/unroll.h"

enum { FEW_COLUMNS = DIRECT_MAX, PANEL_K = 2048, PANEL_ROWS = 128, TILE_N = 6 };

/* ---- few columns ------------------------------------------------------------------------ */

typedef void pack_fn(char *to, const uint8_t *p, size_t s, int n);
typedef struct {
    int type, elems, bytes, group, mins, off;
    pack_fn *pack;
} qtype;

/* Columns n .. n+live of R >= ROWS rows in a pass of nc. */
static void few_pass(float *y, size_t ldy, const uint8_t *w, size_t s, int R, const act *a, int n,
                     int live, int nc, char *scratch, const qtype *t)
{
    char *spread = scratch, *sums = spread + FEW_MAX * few512_bytes(a->K);
    size_t room = 4 * sums_room(a->K);
    int col[DIRECT_MAX];
    for (int c = 0; c < nc; c++) {
        col[c] = n + (c < live ? c : live - 1);
        group_sums(sums + (size_t)c * room, a, col[c], 0, a->K / t->group, t->group, t->off);
    }
    few_type few = few512_type(t->type);
    if (!few.fn || nc > FEW_MAX) {
        direct512_type(t->type)(y, ldy, w, s, R, a, col, sums, live, nc);
        return;
    }
    few_col in[FEW_MAX];
    for (int c = 0; c < nc; c++) {
        int8_t *q = (int8_t *)spread + (size_t)c * few512_bytes(a->K);
        few512_spread(q, a->q + (size_t)col[c] * (size_t)a->K, a->K, few.order);
        in[c] = (few_col){ q, a->d + (size_t)col[c] * (size_t)(a->K / QBLOCK),
                           a->dk ? a->dk + (size_t)col[c] * (size_t)(a->K / QSUPER) : NULL,
                           sums + (size_t)c * room, y + (size_t)c * ldy };
    }
    few.fn(w, s, R, a->K, in, nc);
}

/* All columns, as few passes as pay: a second one finds the rows of a decode step's chunk in the
 * second cache. Fewer than sixteen rows are copied to scratch, zero-filled. */
static void mul_few(float *y, size_t ldy, const uint8_t *w, size_t s, int R, const act *a,
                    char *scratch, const qtype *t)
{
    float narrow[DIRECT_MAX * ROWS];
    if (R < ROWS) {
        uint8_t *rows = (uint8_t *)scratch + FEW_MAX * few512_bytes(a->K) +
                        DIRECT_MAX * 4 * sums_room(a->K);
        memcpy(rows, w, (size_t)R * s);
        memset(rows + (size_t)R * s, 0, (size_t)(ROWS - R) * s);
        w = rows;
    }
    for (int n = 0; n < a->N;) {
        int nc = direct512_columns(a->N - n), live = a->N - n < nc ? a->N - n : nc;
        float *to = y + (size_t)n * ldy;
        if (R >= ROWS) {
            few_pass(to, ldy, w, s, R, a, n, live, nc, scratch, t);
        } else {
            few_pass(narrow, ROWS, w, s, ROWS, a, n, live, nc, scratch, t);
            for (int c = 0; c < live; c++)
                memcpy(to + (size_t)c * ldy, narrow + c * ROWS, 4 * (size_t)R);
        }
        n += live;
    }
}

/* ---- many columns ----------------------------------------------------------------------- */

/* Inputs of a tile: nc rows q, K apart; d, K/32 apart, or of types in blocks of 256 shift, and dk,
 * K/256 apart; sums of a group, sum_step bytes from a column's to the next's. */
typedef struct {
    const int8_t *q;
    const float *d, *dk;
    const int32_t *shift;
    const char *sums;
    size_t K, sum_step;
} tile_in;
enum { SUM_STRIDE = 4 * PANEL_K / 16 };

/* Outputs of a tile: columns ldy apart of two groups of sixteen rows. The rows of a group that
 * starts early, to stay within the matrix, are masked where its neighbour owns them: panels
 * later in k add to what is there. */
typedef struct { float *y[2]; __mmask16 rows[2]; size_t ldy; } where;

/* One cell, at p0 and p1, of 32 weights: b-th of the tile. */
TAKE_INLINE void tile_cell(__m512 acc[2][TILE_N], const char *p0, const char *p1, int b,
                           const tile_in *in, int group, int mins, int super, int mr, int nc)
{
    int per = 32 / group;
    /* known where sums were laid out for the tile */
    size_t step = super && mins && group == 32 ? in->sum_step : SUM_STRIDE;
    UNROLL(2)
    for (int g = 0; g < per; g++) {
        __m512i S[2][TILE_N];
        const char *sum = in->sums + 4 * (b * per + g);
        for (int c = 0; c < nc; c++)
            for (int r = 0; r < mr; r++)
                S[r][c] = mins ? _mm512_setzero_si512()
                               : _mm512_set1_epi32(*(const int32_t *)(sum + (size_t)c * step));
        UNROLL(8)
        for (int i = g * 8 / per; i < (g + 1) * 8 / per; i++) {
            __m512i v0 = _mm512_load_si512(p0 + 64 * i), v1 = _mm512_setzero_si512();
            if (mr > 1) v1 = _mm512_load_si512(p1 + 64 * i);
            for (int c = 0; c < nc; c++) {
                __m512i q = four_bytes(in->q + (size_t)c * in->K + 32 * b + 4 * i);
                S[0][c] = _mm512_dpbusd_epi32(S[0][c], v0, q);
                if (mr > 1) S[1][c] = _mm512_dpbusd_epi32(S[1][c], v1, q);
            }
        }
        for (int r = 0; r < mr; r++) {
            const char *p = r ? p1 : p0;
            __m512 w = _mm512_load_ps(p + 512 + 64 * g);
            for (int c = 0; c < nc; c++) {
                if (super) {
                    /* a shift runs beside products, on ports that a multiplication shares with them */
                    __m512i n = _mm512_set1_epi32(in->shift[(size_t)c * (in->K / QBLOCK) + (size_t)b]);
                    S[r][c] = _mm512_sllv_epi32(S[r][c], n);
                    acc[r][c] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(S[r][c]), w, acc[r][c]);
                } else {
                    __m512 d = _mm512_set1_ps(in->d[(size_t)c * (in->K / QBLOCK) + (size_t)b]);
                    acc[r][c] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(S[r][c]),
                                                _mm512_mul_ps(w, d), acc[r][c]);
                }
                if (mins) {
                    float dA = *(const float *)(sum + (size_t)c * step);
                    acc[r][c] = _mm512_fmadd_ps(_mm512_load_ps(p + 512 + 64 * (per + g)),
                                                _mm512_set1_ps(dA), acc[r][c]);
                }
            }
        }
    }
}

/* nc columns of mr groups of rows over n cells of panels p0 and, for mr 2, p1. */
TAKE_INLINE void tile(const where *to, bool first, const char *p0, const char *p1, int n,
                      const tile_in *in, int group, int mins, int super, int mr, int nc)
{
    size_t cell = cell_bytes(group, mins);
    __m512 acc[2][TILE_N];
    for (int c = 0; c < nc; c++)
        for (int r = 0; r < mr; r++)
            acc[r][c] = first || super ? _mm512_setzero_ps()
                                       : _mm512_loadu_ps(to->y[r] + (size_t)c * to->ldy);
    for (int b = 0; b < n; b++, p0 += cell, p1 += cell) {
        tile_cell(acc, p0, p1, b, in, group, mins, super, mr, nc);
        if (!super || (b + 1) % SUPER_BLOCKS) continue;
        for (int c = 0; c < nc; c++)
            for (int r = 0; r < mr; r++) {
                float *y = to->y[r] + (size_t)c * to->ldy;
                __m512 d = _mm512_set1_ps(in->dk[(size_t)c * (in->K / QSUPER) +
                                                 (size_t)(b / SUPER_BLOCKS)]);
                __m512 sum = first && b < SUPER_BLOCKS ? _mm512_setzero_ps() : _mm512_loadu_ps(y);
                _mm512_mask_storeu_ps(y, to->rows[r], _mm512_fmadd_ps(acc[r][c], d, sum));
                acc[r][c] = _mm512_setzero_ps();
            }
    }
    for (int c = 0; !super && c < nc; c++)
        for (int r = 0; r < mr; r++)
            _mm512_mask_storeu_ps(to->y[r] + (size_t)c * to->ldy, to->rows[r], acc[r][c]);
}

typedef void tile_fn(const where *to, bool first, const char *p0, const char *p1, int n,
                     const tile_in *in);

#define TILE(G, M, U, MR, NC) \
static void tile_##G##_##M##_##U##_##MR##_##NC(const where *to, bool first, const char *p0, \
                                               const char *p1, int n, const tile_in *in) \
{ \
    tile(to, first, p0, p1, n, in, G, M, U, MR, NC); \
}
#define TILES_NC(G, M, U, MR) TILE(G, M, U, MR, 1) TILE(G, M, U, MR, 2) TILE(G, M, U, MR, 3) \
                              TILE(G, M, U, MR, 4) TILE(G, M, U, MR, 5) TILE(G, M, U, MR, 6)
#define TILES(G, M, U) TILES_NC(G, M, U, 1) TILES_NC(G, M, U, 2)
TILES(32, 0, 0) TILES(32, 1, 0) TILES(32, 0, 1) TILES(32, 1, 1) TILES(16, 0, 1) TILES(16, 1, 1)
#define ROW(G, M, U, MR) { tile_##G##_##M##_##U##_##MR##_1, tile_##G##_##M##_##U##_##MR##_2, \
                           tile_##G##_##M##_##U##_##MR##_3, tile_##G##_##M##_##U##_##MR##_4, \
                           tile_##G##_##M##_##U##_##MR##_5, tile_##G##_##M##_##U##_##MR##_6 }
#define BOTH(G, M, U) { ROW(G, M, U, 1), ROW(G, M, U, 2) }
/* [blocks of 32, of 256 with groups of 32, of 16][mins][rows / 16 - 1][nc - 1] */
static tile_fn *const tiles[3][2][2][TILE_N] = {
    { BOTH(32, 0, 0), BOTH(32, 1, 0) }, { BOTH(32, 0, 1), BOTH(32, 1, 1) },
    { BOTH(16, 0, 1), BOTH(16, 1, 1) },
};

/* The weights of the panel that comes next, on their way to the second cache while this one is
 * worked on: PANEL_ROWS rows, s apart, of `bytes` from p on; each turn fetches `share` lines. */
typedef struct { const uint8_t *p; size_t s, bytes, at; int row, share; } ahead;

static ahead ahead_of(const uint8_t *p, size_t s, size_t bytes, int turns)
{
    size_t lines = PANEL_ROWS * ((bytes + 63) / 64 + 1);
    return (ahead){ p, s, bytes, 0, 0, (int)(lines / (size_t)turns) + 1 };
}

static inline void ahead_turn(ahead *f)
{
    for (int i = 0; i < f->share && f->row < PANEL_ROWS; i++, f->at += 64) {
        if (f->at > f->bytes) {
            f->at = 0, f->row++;
            if (f->row == PANEL_ROWS) return;
        }
        _mm_prefetch((const char *)f->p + (size_t)f->row * f->s + f->at, _MM_HINT_T1);
    }
}

/* One panel of PANEL_ROWS rows and PANEL_K weights at a time; columns outside, rows inside, so
 * that a tile's inputs stay in the first cache and the panel streams from the second. */
static void mul_many(float *y, size_t ldy, const uint8_t *w, size_t s, int R, const act *a,
                     char *scratch, const qtype *t)
{
    size_t cell = cell_bytes(t->group, t->mins), group_bytes = PANEL_K / 32 * cell;
    char *sums = scratch + PANEL_ROWS / ROWS * group_bytes;
    bool super = t->elems == QSUPER, have_sums = super && t->mins && t->group == 32;
    for (int r0 = 0; r0 < R; r0 += PANEL_ROWS)
        for (int k0 = 0; k0 < a->K; k0 += PANEL_K) {
            int n_k = a->K - k0 < PANEL_K ? a->K - k0 : PANEL_K, at[PANEL_ROWS / ROWS], ng = 0;
            for (int r = r0; r < R && r < r0 + PANEL_ROWS; r += ROWS, ng++) {
                at[ng] = r < R - ROWS ? r : R - ROWS;
                t->pack(scratch + (size_t)ng * group_bytes,
                        w + (size_t)at[ng] * s + (size_t)(k0 / t->elems * t->bytes), s, n_k);
            }
            /* past the last row lies what this thread is most often given next */
            bool same_rows = k0 + PANEL_K < a->K;
            int k1 = same_rows ? k0 + PANEL_K : 0, left = a->K - k1;
            ahead f = ahead_of(w + (size_t)(same_rows ? r0 : r0 + PANEL_ROWS) * s +
                                   (size_t)(k1 / t->elems * t->bytes), s,
                               (size_t)((left < PANEL_K ? left : PANEL_K) / t->elems * t->bytes),
                               (a->N + TILE_N - 1) / TILE_N * ((ng + 1) / 2));
            for (int n = 0; n < a->N; n += TILE_N) {
                int nc = a->N - n < TILE_N ? a->N - n : TILE_N;
                size_t at_q = (size_t)n * (size_t)a->K + (size_t)k0;
                tile_in in = { .q = a->q + at_q, .d = a->d + at_q / QBLOCK, .sums = sums,
                               .K = (size_t)a->K };
                if (super) in.dk = a->dk + at_q / QSUPER, in.shift = a->shift + at_q / QBLOCK;
                if (have_sums) {
                    in.sums = (const char *)(a->dA + at_q / QBLOCK);
                    in.sum_step = (size_t)(a->K / QBLOCK) * sizeof *a->dA;
                }
                for (int c = 0; !have_sums && c < nc; c++)
                    group_sums(sums + c * SUM_STRIDE, a, n + c, k0 / t->group, n_k / t->group,
                               t->group, t->off);
                for (int g = 0; g < ng; g += 2) {
                    int mr = ng - g < 2 ? 1 : 2;
                    where to = { .ldy = ldy };
                    for (int i = 0; i < mr; i++) {
                        to.y[i] = y + (size_t)n * ldy + at[g + i];
                        to.rows[i] = (__mmask16)(0xffff << (r0 + ROWS * (g + i) - at[g + i]));
                    }
                    const char *p = scratch + (size_t)g * group_bytes;
                    ahead_turn(&f);
                    tiles[super + (t->group == 16)][t->mins][mr - 1][nc - 1](
                        &to, k0 == 0, p, p + (size_t)(mr - 1) * group_bytes, n_k / 32, &in);
                }
            }
        }
}

#define TYPE(T, DT, ELEMS, G, MINS) \
static void pack_##T(char *to, const uint8_t *p, size_t s, int n) \
{ \
    pack_rows(to, p, s, n, take_##T, ELEMS, sizeof(block_##T), G, MINS, 0); \
} \
static const qtype type_##T = { DT, ELEMS, sizeof(block_##T), G, MINS, OFF_##T, \
                                pack_##T }; \
static void mul_##T(float *y, size_t ldy, const void *w, size_t row_bytes, int R, const act *a, \
                    void *scratch) \
{ \
    if (R < ROWS || a->N <= FEW_COLUMNS) mul_few(y, ldy, w, row_bytes, R, a, scratch, &type_##T); \
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
    size_t few = FEW_MAX * few512_bytes(K) + DIRECT_MAX * 4 * sums_room(K) +
                 ROWS * type_row_bytes(type, K);
    size_t many = PANEL_ROWS / ROWS * (PANEL_K / 32) * cell_bytes(16, 1) + TILE_N * SUM_STRIDE;
    return few > many ? few : many;
}

/* Magnitudes order the same way as integers, which puts NaN above infinity. */
static inline float largest(const float *x)
{
    const __m512i mag = _mm512_set1_epi32(0x7fffffff);
    __m512i m0 = _mm512_and_si512(_mm512_loadu_si512(x), mag);
    __m512i m1 = _mm512_and_si512(_mm512_loadu_si512(x + 16), mag);
    uint32_t top = _mm512_reduce_max_epu32(_mm512_max_epu32(m0, m1));
    float amax;
    memcpy(&amax, &top, 4);
    return amax;
}

static inline void round_block(int8_t *q, int16_t *s16, const float *x, float by)
{
    const __m512 lo = _mm512_set1_ps(-127), hi = _mm512_set1_ps(127), inv = _mm512_set1_ps(by);
    __m512 x0 = _mm512_mul_ps(_mm512_loadu_ps(x), inv);
    __m512 x1 = _mm512_mul_ps(_mm512_loadu_ps(x + 16), inv);
    __mmask16 k0 = _mm512_cmp_ps_mask(x0, x0, _CMP_ORD_Q);           /* NaN becomes 0 */
    __mmask16 k1 = _mm512_cmp_ps_mask(x1, x1, _CMP_ORD_Q);
    __m512i i0 = _mm512_maskz_cvtps_epi32(k0, _mm512_min_ps(_mm512_max_ps(x0, lo), hi));
    __m512i i1 = _mm512_maskz_cvtps_epi32(k1, _mm512_min_ps(_mm512_max_ps(x1, lo), hi));
    _mm_storeu_si128((void *)q, _mm512_cvtepi32_epi8(i0));
    _mm_storeu_si128((void *)(q + 16), _mm512_cvtepi32_epi8(i1));
    s16[0] = (int16_t)_mm512_reduce_add_epi32(i0);
    s16[1] = (int16_t)_mm512_reduce_add_epi32(i1);
}

static void quant_q8(int8_t *q, float *d, int16_t *s16, const float *x, int K)
{
    for (int b = 0; b < K / QBLOCK; b++, x += QBLOCK, q += QBLOCK) {
        float amax = largest(x);
        d[b] = amax / 127;
        round_block(q, s16 + 2*b, x, amax > 0 ? 127 / amax : 0);
    }
}

SUPER_QUANT

void kern_init_avx512_q(kern *k);
void kern_init_avx512_q(kern *k)
{
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
    k->quant_q8 = quant_q8, k->quant_qk = quant_qk;
    k->mul_scratch = mul_scratch;
}
#else
typedef int kern_avx512_q_not_here;
#endif
