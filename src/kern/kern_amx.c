/* kern_amx.c - products of BF16 weights by tiles; see docs/numerics.md for their order. Compiled
 * with this level's flags: only static functions and kern_init_amx may come out of it.
 *
 * Sixteen weight rows by 32 of k are one A tile, read where the file has them. Inputs are B tiles
 * of sixteen columns, which pack_bf16 made once for all rows; a lone column needs no packing, for
 * its pairs of values already lie as a tile of one column wants them. The unit itself adds the
 * sixteen even and the sixteen odd products of a block apart, then both to the sum. */
#if defined(__x86_64__)
#include <stdbool.h>
#include <string.h>
#include "kern/kern.h"
#include "kern/vec_avx512.h"

void kern_init_amx_q(kern *k);               /* kern_amx_q.c: the quantised products */

enum { ROWS = 16, COLS = 16, KB = 32, TILE = ROWS * KB };

/* Tiles 0 - 3: sums; 4, 5: weights; 6, 7: inputs. Constant data: gcc's _tile_loadconfig tells the
 * compiler of eight bytes only. */
typedef struct { uint8_t palette, start, zero[14]; uint16_t bytes[16]; uint8_t rows[16]; } config;
static const config config_many = {
    1, 0, { 0 }, { 64, 64, 64, 64, 64, 64, 64, 64 }, { 16, 16, 16, 16, 16, 16, 16, 16 } };
static const config config_one = {
    1, 0, { 0 }, { 4, 4, 4, 4, 64, 64, 4, 4 }, { 16, 16, 16, 16, 16, 16, 16, 16 } };
#define FENCE() __asm__ volatile("" ::: "memory")

static void transpose16(__m512 *a)
{
    __m512 b[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i += 2) {
        b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; i += 4)
#pragma GCC unroll 2
        for (int j = 0; j < 2; j++) {
            __m512d x = _mm512_castps_pd(b[i + j]), y = _mm512_castps_pd(b[i + 2 + j]);
            a[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(x, y));
            a[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(x, y));
        }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        __m512 p = _mm512_shuffle_f32x4(a[i], a[4 + i], 0x44);
        __m512 q = _mm512_shuffle_f32x4(a[i], a[4 + i], 0xee);
        __m512 r = _mm512_shuffle_f32x4(a[8 + i], a[12 + i], 0x44);
        __m512 s = _mm512_shuffle_f32x4(a[8 + i], a[12 + i], 0xee);
        b[i] = _mm512_shuffle_f32x4(p, r, 0x88), b[4 + i] = _mm512_shuffle_f32x4(p, r, 0xdd);
        b[8 + i] = _mm512_shuffle_f32x4(q, s, 0x88), b[12 + i] = _mm512_shuffle_f32x4(q, s, 0xdd);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) a[i] = b[i];
}

/* Tiles of up to sixteen rows of inputs: for each 32 of k, sixteen pairs by sixteen columns. */
static void pack_bf16(uint16_t *t, const uint16_t *bf, int n, int K)
{
    int kk = (K + KB - 1) / KB * KB;
    for (int k = 0; k < kk; k += KB, t += TILE) {
        __m512 a[16];
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++)
            a[i] = i < n ? _mm512_loadu_ps(bf + (size_t)i * (size_t)kk + k) : _mm512_setzero_ps();
        transpose16(a);
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) _mm512_store_ps(t + 32 * i, a[i]);
    }
}

/* The sums of one tile, rows by columns, to y[c*ldy + r] for r < R, c < C. */
static void put(float *y, size_t ldy, const float *sum, int R, int C)
{
    __m512 a[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) a[i] = _mm512_load_ps(sum + 16 * i);
    transpose16(a);
    __mmask16 m = (__mmask16)((1u << R) - 1);
    for (int c = 0; c < C; c++) _mm512_mask_storeu_ps(y + (size_t)c * ldy, m, a[c]);
}

/* Where a group of sixteen rows is read: in place, or from a copy where rows or k end early. */
typedef struct { const uint16_t *w; size_t ldw; } rows16;

/* r x c tiles of sums at a time (2 x 2 or less): weights once from their rows for both groups of
 * columns. Whole blocks of k only; `left` values more come from the padded copy at tail. */
static inline __attribute__((always_inline)) void tiles(int r, int c, float *sum, const rows16 *w,
                                                        const uint16_t *b0, const uint16_t *b1,
                                                        size_t ldb, int blocks,
                                                        const uint16_t *tail)
{
    _tile_zero(0);
    if (c > 1) _tile_zero(1);
    if (r > 1) _tile_zero(2);
    if (r > 1 && c > 1) _tile_zero(3);
    for (int i = 0; i < blocks + (tail != NULL); i++) {
        size_t at = (size_t)i * KB, bat = ldb == 4 ? at : (size_t)i * TILE;
        if (i < blocks) _tile_loadd(4, w[0].w + at, w[0].ldw * 2);
        else _tile_loadd(4, tail, 64);
        _tile_loadd(6, b0 + bat, ldb);
        _tile_dpbf16ps(0, 4, 6);
        if (c > 1) {
            _tile_loadd(7, b1 + bat, ldb);
            _tile_dpbf16ps(1, 4, 7);
        }
        if (r > 1) {
            if (i < blocks) _tile_loadd(5, w[1].w + at, w[1].ldw * 2);
            else _tile_loadd(5, tail + TILE, 64);
            _tile_dpbf16ps(2, 5, 6);
            if (c > 1) _tile_dpbf16ps(3, 5, 7);
        }
    }
    size_t step = ldb == 4 ? 4 : 64;
    _tile_stored(0, sum, step);
    if (c > 1) _tile_stored(1, sum + 256, step);
    if (r > 1) _tile_stored(2, sum + 512, step);
    if (r > 1 && c > 1) _tile_stored(3, sum + 768, step);
    FENCE();
}

/* Rows r .. r+15 of R. Fewer than sixteen are copied, zeros after them; and so is the end of k
 * that fills no block (to tail). copy: sixteen rows of a multiple of KB. */
static rows16 rows_from(const uint16_t *w, size_t ldw, int r, int R, int K, uint16_t *copy,
                        uint16_t *tail)
{
    int n = R - r < ROWS ? R - r : ROWS, blocks = K / KB, left = K % KB;
    const uint16_t *at = w + (size_t)r * ldw;
    if (left) {
        memset(tail, 0, TILE * sizeof *tail);
        for (int i = 0; i < n; i++)
            memcpy(tail + i * KB, at + (size_t)i * ldw + blocks * KB, (size_t)left * sizeof *at);
    }
    if (n == ROWS) return (rows16){ at, ldw };
    size_t whole = (size_t)blocks * KB;
    for (int i = 0; i < n; i++)
        memcpy(copy + (size_t)i * whole, at + (size_t)i * ldw, whole * sizeof *at);
    memset(copy + (size_t)n * whole, 0, (size_t)(ROWS - n) * whole * sizeof *at);
    return (rows16){ copy, whole };
}

typedef struct {
    float sum[4 * 256];
    uint16_t tail[2 * TILE];
    uint16_t copy[];                         /* sixteen rows */
} space;

static void mul_one(float *y, const uint16_t *w, size_t ldw, int R, const act *a, space *s)
{
    const uint16_t *tail = a->K % KB ? s->tail : NULL;
    for (int r = 0; r < R; r += ROWS) {
        rows16 g = rows_from(w, ldw, r, R, a->K, s->copy, s->tail);
        FENCE();
        tiles(1, 1, s->sum, &g, a->bf, NULL, 4, a->K / KB, tail);
        memcpy(y + r, s->sum, (size_t)(R - r < ROWS ? R - r : ROWS) * sizeof *y);
    }
}

static void mul_bf16(float *y, size_t ldy, const void *weights, size_t row_bytes, int R,
                     const act *a, void *scratch)
{
    const uint16_t *w = weights;
    size_t ldw = row_bytes / 2, group = ((size_t)a->K + KB - 1) / KB * TILE;
    space *s = scratch;
    if (a->N == 1) {
        _tile_loadconfig(&config_one);
        mul_one(y, w, ldw, R, a, s);
        _tile_release();
        return;
    }
    const uint16_t *tail = a->K % KB ? s->tail : NULL;
    int blocks = a->K / KB;
    _tile_loadconfig(&config_many);
    for (int r = 0; r < R; r += 2 * ROWS) {
        rows16 g[2] = { rows_from(w, ldw, r, R, a->K, s->copy, s->tail) };
        bool two = r + ROWS < R;
        if (two) g[1] = rows_from(w, ldw, r + ROWS, R, a->K, s->copy, s->tail + TILE);
        FENCE();
        for (int n = 0; n < a->N; n += 2 * COLS) {
            const uint16_t *b0 = a->bt + (size_t)(n / COLS) * group, *b1 = b0 + group;
            bool both = n + COLS < a->N;
            if (two && both) tiles(2, 2, s->sum, g, b0, b1, 64, blocks, tail);
            else if (two) tiles(2, 1, s->sum, g, b0, b1, 64, blocks, tail);
            else if (both) tiles(1, 2, s->sum, g, b0, b1, 64, blocks, tail);
            else tiles(1, 1, s->sum, g, b0, b1, 64, blocks, tail);
            for (int t = 0; t < 4; t++) {
                int rr = R - r - t / 2 * ROWS, cc = a->N - n - t % 2 * COLS;
                if (rr <= 0 || cc <= 0) continue;
                put(y + (size_t)(n + t % 2 * COLS) * ldy + r + t / 2 * ROWS, ldy,
                    s->sum + 256 * t, rr < ROWS ? rr : ROWS, cc < COLS ? cc : COLS);
            }
        }
    }
    _tile_release();
}

static size_t (*scratch_q)(int type, int K);

static size_t mul_scratch(int type, int K)
{
    return type == DT_BF16 ? sizeof(space) + (size_t)ROWS * (size_t)K * 2 : scratch_q(type, K);
}

void kern_init_amx(kern *k);
void kern_init_amx(kern *k)
{
    kern_init_amx_q(k);
    scratch_q = k->mul_scratch;
    k->mul[DT_BF16] = mul_bf16;
    k->pack_bf16 = pack_bf16;
    k->mul_scratch = mul_scratch;
}
#else
typedef int kern_amx_not_here;
#endif
