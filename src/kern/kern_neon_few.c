/* kern_neon_few.c - quantised products of one to four columns with SDOT, from the file's blocks
 * straight through registers. Weights stay in their rows: SDOT makes four partial sums a row, and
 * three additions of pairs turn those of four rows into one sum a lane, which costs less than a
 * transposition until there are five columns. Integer sums are exact, so their order is free; a
 * lane's float chain is the one of docs/numerics.md.
 * Compiled with this level's flags; only kern_neon_few and its scratch come out. */
#if defined(__aarch64__)
#define ROWS_APART
#include <stdbool.h>
#include <string.h>
#include "kern/mulq_neon.h"
#include "kern/unpack_body.h"

typedef void take_fn(const uint8_t *p, size_t s, int j, vi *t, vi *v, vf *w, vf *m);

/* Sums of one group, lane r for row r. v: weights 0..15, or with `second` 16..31, of row r at
 * v[r], v[4 + r]; x0, x1 the inputs. */
TAKE_INLINE int32x4_t row_sums(const int8x16_t *v, int8x16_t x0, int8x16_t x1, bool both)
{
    int32x4_t s[QUAD];
    UNROLL(4)
    for (int r = 0; r < QUAD; r++) {
        s[r] = vdotq_s32(vdupq_n_s32(0), v[r], x0);
        if (both) s[r] = vdotq_s32(s[r], v[QUAD + r], x1);
    }
    return vpaddq_s32(vpaddq_s32(s[0], s[1]), vpaddq_s32(s[2], s[3]));
}

/* off: what the bytes hold too much. 128 is taken off them by their top bit, the others from
 * the sums. */
TAKE_INLINE void few(float *y, size_t ldy, const uint8_t *p, size_t s, int K,
                     const uint8_t *ahead, const uint8_t *end, const column *x, take_fn *take,
                     int elems, int bytes, int group, int mins, int off, int nc)
{
    int per = 32 / group, less = off == 128 ? 0 : off, super = elems == QSUPER;
    vf acc[FEW_COLS], sum[FEW_COLS];
    UNROLL(4)
    for (int c = 0; c < nc; c++) acc[c] = sum[c] = vdupq_n_f32(0);
    for (int b = 0; b < K / elems; b++, p += bytes) {
        vi t[TAKE_T], v[8];
        vf w[MAX_GROUPS], m[MAX_GROUPS];
        UNROLL(8)
        for (int j = 0; j < elems / 32; j++) {
            const uint8_t *stop = ahead + QUAD * bytes * 32 / elems;
            for (const uint8_t *f = ahead; f < stop && f < end; f += 64) __builtin_prefetch(f, 0, 2);
            ahead = stop;
            take(p, s, j, t, v, w, m);
            int8x16_t sv[8];
            UNROLL(8)
            for (int i = 0; i < 8; i++)
                sv[i] = vreinterpretq_s8_u32(off == 128 ? V_XOR(v[i], byte_set(0x80)) : v[i]);
            UNROLL(4)
            for (int c = 0; c < nc; c++) {
                int k = b * elems + 32 * j;
                int8x16_t xq[2] = { vld1q_s8(x[c].q + k), vld1q_s8(x[c].q + k + 16) };
                float d = x[c].d[k / QBLOCK];
                UNROLL(2)
                for (int g = 0; g < per; g++) {
                    int32x4_t S = row_sums(sv + 4 * g, xq[g], xq[1], group == 32);
                    int A = less || mins ? group_sum(&x[c], k + g * group, group) : 0;
                    if (less) S = vsubq_s32(S, vdupq_n_s32(less * A));
                    acc[c] = vfmaq_f32(acc[c], vcvtq_f32_s32(S), vmulq_n_f32(w[per * j + g], d));
                    if (mins) acc[c] = vfmaq_n_f32(acc[c], m[per * j + g], d * (float)A);
                }
            }
        }
        if (!super) continue;
        UNROLL(4)
        for (int c = 0; c < nc; c++) {
            sum[c] = vfmaq_n_f32(sum[c], acc[c], x[c].dk[b]);
            acc[c] = vdupq_n_f32(0);
        }
    }
    UNROLL(4)
    for (int c = 0; c < nc; c++) vst1q_f32(y + (size_t)c * ldy, super ? sum[c] : acc[c]);
}

#define CASE(T, E, G, M, NC) case NC: few(y, ldy, p, s, K, ahead, end, x, take_##T, E, \
    sizeof(block_##T), G, M, OFF_##T, NC); break;
#define FEW(T, TYPE, E, G, M) \
static void few_##T(float *y, size_t ldy, const uint8_t *p, size_t s, int K, \
                    const uint8_t *ahead, const uint8_t *end, const column *x, int nc) \
{ \
    switch (nc) { CASE(T, E, G, M, 1) CASE(T, E, G, M, 2) CASE(T, E, G, M, 3) CASE(T, E, G, M, 4) } \
}
NEON_QTYPES(FEW)

typedef void few_fn(float *y, size_t ldy, const uint8_t *p, size_t s, int K,
                    const uint8_t *ahead, const uint8_t *end, const column *x, int nc);
static few_fn *few_of(int type)
{
    switch (type) {
#define ROW(T, TYPE, E, G, M) case DT_##TYPE: return few_##T;
    NEON_QTYPES(ROW)
    default: return NULL;
    }
}

size_t kern_neon_few_scratch(int type, int K) { return QUAD * type_row_bytes(type, K); }

/* Fewer than four rows are copied to scratch, zero-filled. */
void kern_neon_few(int type, float *y, size_t ldy, const uint8_t *w, size_t s, int R,
                   const act *a, void *scratch)
{
    few_fn *fn = few_of(type);
    float narrow[FEW_COLS * QUAD];
    bool copy = R < QUAD;
    if (copy) {
        memcpy(scratch, w, (size_t)R * s);
        memset((uint8_t *)scratch + (size_t)R * s, 0, (size_t)(QUAD - R) * s);
        w = scratch;
    }
    int rows = copy ? QUAD : R;
    const uint8_t *end = w + (size_t)rows * s;
    for (int n = 0; n < a->N; n += FEW_COLS) {
        int nc = least(a->N - n, FEW_COLS);
        column x[FEW_COLS];
        for (int c = 0; c < nc; c++) x[c] = column_at(a, n + c, 0);
        for (int r = 0; r < rows; r += QUAD) {
            int at = least(r, rows - QUAD);          /* the last four may overlap: same bits */
            const uint8_t *p = w + (size_t)at * s;
            if (!copy) {
                fn(y + (size_t)n * ldy + at, ldy, p, s, a->K, p + QUAD * s, end, x, nc);
                continue;
            }
            fn(narrow, QUAD, p, s, a->K, end, end, x, nc);
            for (int c = 0; c < nc; c++)
                memcpy(y + (size_t)(n + c) * ldy, narrow + c * QUAD, 4 * (size_t)R);
        }
    }
}
#else
typedef int kern_neon_few_not_here;
#endif
