/* kern_neon_q.c - quantised products of many columns with SDOT, and quant_q8. Weight rows lie in
 * the lanes, four a register; the input's dword comes by SDOT's lane operand, so that a lane's
 * float chain is the one of docs/numerics.md. Panels of weights are unpacked into scratch, made
 * signed there, and used for every column.
 * Compiled with this level's flags; only kern_init_neon_q comes out. */
#if defined(__aarch64__)
#include <stdbool.h>
#include <string.h>
#include "kern/mulq_neon.h"
#include "kern/super_body.h"
#include "kern/unpack_body.h"

/* A tile is OCT rows by TILE_N columns: eight sums, eight accumulators, eight weights, which
 * leaves eight registers of thirty-two for inputs and scales. A block of columns stays in a
 * first cache of 64 KB together with a panel's eight rows. */
enum { OCT = 8, TILE_N = 4, PANEL_K = 1024, PANEL_ROWS = 64, BLOCK_N = 32 };

/* A panel is OCT rows, a cell per 32 weights: 8 pairs of registers of bytes, then a pair of w per
 * group, then a pair of m per group. Bytes of a cell: */
static inline size_t cell_bytes(int group, int mins)
{
    return 256 + 32 * (size_t)(32 / group) * (size_t)(1 + mins);
}

typedef void take_fn(const uint8_t *p, size_t s, int j, vi *t, vi *v, vf *w, vf *m);

/* n weights (whole blocks) of four rows from p on into one half of the cells at `to`. */
TAKE_INLINE void pack_quad(char *to, const uint8_t *p, size_t s, int n, take_fn *take, int elems,
                           int bytes, int group, int mins, int off)
{
    int per = 32 / group;
    for (int b = 0; b < n / elems; b++, p += bytes) {
        vi t[TAKE_T], v[8];
        vf w[MAX_GROUPS], m[MAX_GROUPS];
        UNROLL(8)
        for (int j = 0; j < elems / 32; j++, to += cell_bytes(group, mins)) {
            take(p, s, j, t, v, w, m);
            UNROLL(8)
            for (int i = 0; i < 8; i++)
                vst1q_u8((uint8_t *)to + 32 * i, vsubq_u8(V_U8(v[i]), vdupq_n_u8((uint8_t)off)));
            UNROLL(2)
            for (int g = 0; g < per; g++) {
                vst1q_f32((float *)(to + 256 + 32 * g), w[per * j + g]);
                if (mins) vst1q_f32((float *)(to + 256 + 32 * (per + g)), m[per * j + g]);
            }
        }
    }
}

/* Scales of a tile's inputs, cell after cell: TILE_N d, then TILE_N d * A per group; after all of
 * them, of types in blocks of 256, TILE_N dk each. */
static inline int scales_of_cell(int group, int mins)
{
    return TILE_N * (1 + (mins ? 32 / group : 0));
}

static void tile_scales(float *to, const act *a, int n, int nc, int k0, int cells, int group,
                        int mins, bool super)
{
    int step = scales_of_cell(group, mins), per = 32 / group;
    for (int c = 0; c < TILE_N; c++) {
        column x = column_at(a, n + (c < nc ? c : nc - 1), k0);
        float *f = to + c;
        for (int b = 0; b < cells; b++, f += step) {
            f[0] = x.d[b];
            for (int g = 0; mins && g < per; g++)
                f[TILE_N * (1 + g)] = x.d[b] * (float)group_sum(&x, 32 * b + g * group, group);
        }
        for (int b = 0; super && b < cells / SUPER_BLOCKS; b++, f += TILE_N) f[0] = x.dk[b];
    }
}

TAKE_INLINE vf mul_lane(vf a, vf b, int c)
{
    switch (c) {
    case 0: return vmulq_laneq_f32(a, b, 0);
    case 1: return vmulq_laneq_f32(a, b, 1);
    case 2: return vmulq_laneq_f32(a, b, 2);
    default: return vmulq_laneq_f32(a, b, 3);
    }
}

TAKE_INLINE vf fma_lane(vf acc, vf a, vf b, int c)
{
    switch (c) {
    case 0: return vfmaq_laneq_f32(acc, a, b, 0);
    case 1: return vfmaq_laneq_f32(acc, a, b, 1);
    case 2: return vfmaq_laneq_f32(acc, a, b, 2);
    default: return vfmaq_laneq_f32(acc, a, b, 3);
    }
}

/* nc columns, q at x and K apart, of a panel of n cells; y as it stands is added to, unless
 * `first`. own: rows below it belong to the panel before and are not written. */
TAKE_INLINE void tile(float *y, size_t ldy, int own, bool first, const char *pan, int n,
                      const int8_t *x, size_t K, const float *scale, int group, int mins,
                      int super, int nc)
{
    int per = 32 / group;
    const float *dk = scale + n * scales_of_cell(group, mins);
    const int32x4_t lane = { 0, 1, 2, 3 };
    uint32x4_t mine[2] = { vcgeq_s32(lane, vdupq_n_s32(own)), vcgeq_s32(lane, vdupq_n_s32(own - 4)) };
    vf acc[2][TILE_N];
    UNROLL(4)
    for (int c = 0; c < nc; c++)
        UNROLL(2)
        for (int h = 0; h < 2; h++)
            acc[h][c] = first || super ? vdupq_n_f32(0)
                                       : vld1q_f32(y + (size_t)c * ldy + 4 * h);
    for (int b = 0; b < n; b++, pan += cell_bytes(group, mins), x += 32) {
        const int8_t *v = (const int8_t *)pan;
        const float *w = (const float *)(const void *)(pan + 256);
        vf d = vld1q_f32(scale);
        UNROLL(2)
        for (int g = 0; g < per; g++) {
            int32x4_t S[2][TILE_N];
            UNROLL(4)
            for (int c = 0; c < nc; c++) S[0][c] = S[1][c] = vdupq_n_s32(0);
            UNROLL(2)
            for (int h = 0; h < 2 / per; h++) {                        /* sixteen weights */
                int i = g + h;
                int8x16_t v0[4], v1[4];
                UNROLL(4)
                for (int u = 0; u < 4; u++) {
                    v0[u] = vld1q_s8(v + 128 * i + 32 * u);
                    v1[u] = vld1q_s8(v + 128 * i + 32 * u + 16);
                }
                UNROLL(4)
                for (int c = 0; c < nc; c++) {
                    int8x16_t q = vld1q_s8(x + (size_t)c * K + 16 * i);
#define DOT(u) S[0][c] = vdotq_laneq_s32(S[0][c], v0[u], q, u), \
               S[1][c] = vdotq_laneq_s32(S[1][c], v1[u], q, u)
                    DOT(0), DOT(1), DOT(2), DOT(3);
#undef DOT
                }
            }
            vf w0 = vld1q_f32(w + 8 * g), w1 = vld1q_f32(w + 8 * g + 4);
            UNROLL(4)
            for (int c = 0; c < nc; c++) {
                acc[0][c] = vfmaq_f32(acc[0][c], vcvtq_f32_s32(S[0][c]), mul_lane(w0, d, c));
                acc[1][c] = vfmaq_f32(acc[1][c], vcvtq_f32_s32(S[1][c]), mul_lane(w1, d, c));
            }
            if (!mins) continue;
            vf m0 = vld1q_f32(w + 8 * (per + g)), m1 = vld1q_f32(w + 8 * (per + g) + 4);
            vf dA = vld1q_f32(scale + TILE_N * (1 + g));
            UNROLL(4)
            for (int c = 0; c < nc; c++) {
                acc[0][c] = fma_lane(acc[0][c], m0, dA, c);
                acc[1][c] = fma_lane(acc[1][c], m1, dA, c);
            }
        }
        scale += scales_of_cell(group, mins);
        if (!super || (b + 1) % SUPER_BLOCKS) continue;
        vf scales = vld1q_f32(dk + TILE_N * (b / SUPER_BLOCKS));
        UNROLL(4)
        for (int c = 0; c < nc; c++)
            UNROLL(2)
            for (int h = 0; h < 2; h++) {
                float *to = y + (size_t)c * ldy + 4 * h;
                vf old = vld1q_f32(to);
                vf sum = fma_lane(first && b < SUPER_BLOCKS ? vdupq_n_f32(0) : old, acc[h][c], scales,
                                  c);
                vst1q_f32(to, own ? vbslq_f32(mine[h], sum, old) : sum);
                acc[h][c] = vdupq_n_f32(0);
            }
    }
    if (super) return;
    UNROLL(4)
    for (int c = 0; c < nc; c++)
        UNROLL(2)
        for (int h = 0; h < 2; h++) {
            float *to = y + (size_t)c * ldy + 4 * h;
            vst1q_f32(to, own ? vbslq_f32(mine[h], acc[h][c], vld1q_f32(to)) : acc[h][c]);
        }
}

typedef void tile_fn(float *y, size_t ldy, int own, bool first, const char *pan, int n,
                     const int8_t *x, size_t K, const float *scale);
#define TILE(G, M, U, NC) \
static void tile_##G##_##M##_##U##_##NC(float *y, size_t ldy, int own, bool first, \
                                        const char *pan, int n, const int8_t *x, size_t K, \
                                        const float *scale) \
{ \
    tile(y, ldy, own, first, pan, n, x, K, scale, G, M, U, NC); \
}
#define TILES(G, M, U) TILE(G, M, U, 1) TILE(G, M, U, 2) TILE(G, M, U, 3) TILE(G, M, U, 4)
TILES(32, 0, 0) TILES(32, 1, 0) TILES(32, 0, 1) TILES(32, 1, 1) TILES(16, 0, 1) TILES(16, 1, 1)
#define ROW(G, M, U) { tile_##G##_##M##_##U##_1, tile_##G##_##M##_##U##_2, \
                       tile_##G##_##M##_##U##_3, tile_##G##_##M##_##U##_4 }
/* [blocks of 32, of 256 with groups of 32, of 16][mins][nc - 1] */
static tile_fn *const tiles[3][2][TILE_N] = {
    { ROW(32, 0, 0), ROW(32, 1, 0) }, { ROW(32, 0, 1), ROW(32, 1, 1) },
    { ROW(16, 0, 1), ROW(16, 1, 1) },
};
#undef ROW

typedef struct {
    int elems, bytes, group, mins;
    void (*pack)(char *to, const uint8_t *p, size_t s, int n);
} qtype;

/* Where a panel's parts lie in scratch. */
static size_t panel_bytes(int group, int mins) { return PANEL_K / 32 * cell_bytes(group, mins); }
static size_t scales_floats(int group, int mins)
{
    return (size_t)(PANEL_K / 32) * (size_t)scales_of_cell(group, mins) +
           PANEL_K / QSUPER * TILE_N;
}

/* A panel of PANEL_ROWS rows and PANEL_K weights at a time. Of each BLOCK_N columns the scales are
 * laid out once; then eight rows after eight meet all of them. */
static void mul_many(float *y, size_t ldy, const uint8_t *w, size_t s, int R, const act *a,
                     char *scratch, const qtype *t)
{
    size_t panel = panel_bytes(t->group, t->mins), per_tile = scales_floats(t->group, t->mins);
    float *scale = (float *)(void *)(scratch + PANEL_ROWS / OCT * panel);
    bool super = t->elems == QSUPER;
    for (int r0 = 0; r0 < R; r0 += PANEL_ROWS)
        for (int k0 = 0; k0 < a->K; k0 += PANEL_K) {
            int n_k = least(a->K - k0, PANEL_K), rows = least(R - r0, PANEL_ROWS);
            const uint8_t *from = w + (size_t)(k0 / t->elems * t->bytes);
            for (int r = 0; r < rows; r += OCT)
                for (int h = 0; h < 2; h++)
                    t->pack(scratch + (size_t)(r / OCT) * panel + 16 * h,
                            from + (size_t)(least(r0 + r, R - OCT) + QUAD * h) * s, s, n_k);
            for (int n0 = 0; n0 < a->N; n0 += BLOCK_N) {
                int nn = least(a->N - n0, BLOCK_N);
                for (int n = 0; n < nn; n += TILE_N)
                    tile_scales(scale + (size_t)(n / TILE_N) * per_tile, a, n0 + n,
                                least(nn - n, TILE_N), k0, n_k / 32, t->group, t->mins,
                                super);
                for (int r = 0; r < rows; r += OCT)
                    for (int n = 0; n < nn; n += TILE_N) {
                        int nc = least(nn - n, TILE_N), at = least(r0 + r, R - OCT);
                        tiles[super + (t->group == 16)][t->mins][nc - 1](
                            y + (size_t)(n0 + n) * ldy + at, ldy, r0 + r - at, k0 == 0,
                            scratch + (size_t)(r / OCT) * panel, n_k / 32,
                            a->q + (size_t)(n0 + n) * (size_t)a->K + k0, (size_t)a->K,
                            scale + (size_t)(n / TILE_N) * per_tile);
                    }
            }
        }
}

#define TYPE(T, DT, E, G, M) \
static void pack_##T(char *to, const uint8_t *p, size_t s, int n) \
{ \
    pack_quad(to, p, s, n, take_##T, E, sizeof(block_##T), G, M, OFF_##T); \
} \
static const qtype type_##T = { E, sizeof(block_##T), G, M, pack_##T }; \
static void mul_##T(float *y, size_t ldy, const void *w, size_t row_bytes, int R, const act *a, \
                    void *scratch) \
{ \
    if (R < OCT || a->N <= FEW_COLS) \
        kern_neon_few(DT_##DT, y, ldy, w, row_bytes, R, a, scratch); \
    else mul_many(y, ldy, w, row_bytes, R, a, scratch, &type_##T); \
}
NEON_QTYPES(TYPE)

static size_t mul_scratch(int type, int K)
{
    if (act_kind(type) < ACT_Q8) return 0;
    size_t few = kern_neon_few_scratch(type, K);
    size_t many = PANEL_ROWS / OCT * panel_bytes(16, 1) +
                  BLOCK_N / TILE_N * scales_floats(16, 1) * sizeof(float);
    return few > many ? few : many;
}

/* Magnitudes order the same way as integers, which puts NaN above infinity. */
static inline float largest(const float *x)
{
    uint32x4_t top = vdupq_n_u32(0);
    for (int j = 0; j < 8; j++)
        top = vmaxq_u32(top, vreinterpretq_u32_f32(vabsq_f32(vld1q_f32(x + 4 * j))));
    return vgetq_lane_f32(vreinterpretq_f32_u32(vdupq_n_u32(vmaxvq_u32(top))), 0);
}

static inline void round_block(int8_t *q, int16_t *s16, const float *x, float inv)
{
    int32x4_t i[8];
    for (int j = 0; j < 8; j++) {                    /* FCVTNS: to nearest even, NaN to 0 */
        i[j] = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 4 * j), inv));
        i[j] = vminq_s32(vmaxq_s32(i[j], vdupq_n_s32(-127)), vdupq_n_s32(127));
    }
    for (int h = 0; h < 2; h++) {
        int16x8_t lo = vcombine_s16(vmovn_s32(i[4 * h]), vmovn_s32(i[4 * h + 1]));
        int16x8_t hi = vcombine_s16(vmovn_s32(i[4 * h + 2]), vmovn_s32(i[4 * h + 3]));
        vst1q_s8(q + 16 * h, vcombine_s8(vmovn_s16(lo), vmovn_s16(hi)));
        s16[h] = vaddvq_s16(vaddq_s16(lo, hi));
    }
}

static void quant_q8(int8_t *q, float *d, int16_t *s16, const float *x, int K)
{
    for (int b = 0; b < K / QBLOCK; b++, x += QBLOCK, q += QBLOCK) {
        float amax = largest(x);
        d[b] = amax / 127;
        round_block(q, s16 + 2 * b, x, amax > 0 ? 127 / amax : 0);
    }
}

SUPER_QUANT
void kern_init_neon_q(kern *k);
void kern_init_neon_q(kern *k)
{
#define ROW(T, TYPE, E, G, M) k->mul[DT_##TYPE] = mul_##T;
    NEON_QTYPES(ROW)
    k->quant_q8 = quant_q8, k->quant_qk = quant_qk;
    k->mul_scratch = mul_scratch;
}
#else
typedef int kern_neon_q_not_here;
#endif
