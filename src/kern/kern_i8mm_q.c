/* kern_i8mm_q.c - quantised products of many columns with SMMLA: two weight rows by two columns
 * and eight k an instruction, twice SDOT's products. A register of sums is rows r, r+1 by columns
 * c, c+1, and each of its lanes has the float chain of docs/numerics.md. Panels of weights and
 * blocks of inputs are laid out in scratch in pairs; few columns stay level neon's.
 * Compiled with this level's flags; only kern_init_i8mm_q comes out. */
#if defined(__aarch64__)
#define ROWS_APART
#include <stdbool.h>
#include "kern/mulq_neon.h"
#include "kern/super_body.h"
#include "kern/unpack_body.h"

/* A tile is OCT rows by TILE_N columns: eight sums, eight accumulators, six operands. */
enum { OCT = 8, TILE_N = 4, PANEL_K = 1024, PANEL_ROWS = 64, BLOCK_N = 32 };

/* A panel is OCT rows, a cell per 32 weights: for each eight k four pairs of rows; then per group
 * w of the four pairs, each twice (w0 w0 w1 w1), and m likewise. Bytes of a cell: */
static inline size_t cell_bytes(int group, int mins)
{
    return 256 + 64 * (size_t)(32 / group) * (size_t)(1 + mins);
}

typedef void take_fn(const uint8_t *p, size_t s, int j, vi *t, vi *v, vf *w, vf *m);

TAKE_INLINE void put_twice(float *to, vf w)
{
    vst1q_f32(to, vzip1q_f32(w, w));
    vst1q_f32(to + 4, vzip2q_f32(w, w));
}

/* n weights (whole blocks) of four rows from p on into half h of the cells at `to`. */
TAKE_INLINE void pack_quad(char *to, int h, const uint8_t *p, size_t s, int n, take_fn *take,
                           int elems, int bytes, int group, int mins, int off)
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
                v[i] = vreinterpretq_u32_u8(vsubq_u8(V_U8(v[i]), vdupq_n_u8((uint8_t)off)));
            uint64_t *pair = (uint64_t *)(void *)(to + 32 * h);
            UNROLL(4)
            for (int i = 0; i < 4; i++) {               /* sixteen weights of two rows */
                uint64x2_t a = V_U64(v[i / 2 * 4 + i % 2 * 2]), c = V_U64(v[i / 2 * 4 + i % 2 * 2 + 1]);
                vst1q_u64(pair + 16 * (i / 2) + 2 * (i % 2), vzip1q_u64(a, c));
                vst1q_u64(pair + 16 * (i / 2) + 2 * (i % 2) + 8, vzip2q_u64(a, c));
            }
            float *scale = (float *)(void *)(to + 256) + 8 * h;
            UNROLL(2)
            for (int g = 0; g < per; g++) {
                put_twice(scale + 16 * g, w[per * j + g]);
                if (mins) put_twice(scale + 16 * (per + g), m[per * j + g]);
            }
        }
    }
}

/* Inputs of a tile, cell after cell: two pairs of columns, for each eight k; and d of the pairs,
 * each twice (d0 d1 d0 d1), then d * A per group; after all of them, of types in blocks of 256,
 * dk likewise. Columns past nc repeat the last. */
static inline int scales_of_cell(int group, int mins) { return 8 * (1 + (mins ? 32 / group : 0)); }

static void lay_out(int8_t *q, float *scale, const act *a, int n, int nc, int k0, int cells,
                    int group, int mins, bool super)
{
    int step = scales_of_cell(group, mins), per = 32 / group;
    for (int c = 0; c < TILE_N; c++) {
        column x = column_at(a, n + (c < nc ? c : nc - 1), k0);
        float *f = scale + 4 * (c / 2) + c % 2;
        int8_t *to = q + 16 * (c / 2) + 8 * (c % 2);
        for (int b = 0; b < cells; b++, f += step) {
            for (int i = 0; i < 4; i++) vst1_s8(to + 128 * b + 32 * i, vld1_s8(x.q + 32 * b + 8 * i));
            f[0] = f[2] = x.d[b];
            for (int g = 0; mins && g < per; g++)
                f[8 * (1 + g)] = f[8 * (1 + g) + 2] =
                    x.d[b] * (float)group_sum(&x, 32 * b + g * group, group);
        }
        for (int b = 0; super && b < cells / SUPER_BLOCKS; b++, f += 8) f[0] = f[2] = x.dk[b];
    }
}

/* np pairs of columns, of which nc columns are wanted, of a panel of n cells; y as it stands is
 * added to, unless `first`. own: rows below it belong to the panel before and are not written. */
TAKE_INLINE void tile(float *y, size_t ldy, int own, bool first, const char *pan, int n,
                      const int8_t *q, const float *scale, int nc, int group, int mins,
                      int super, int np)
{
    int per = 32 / group;
    const float *dk = scale + n * scales_of_cell(group, mins);
    vf acc[4][2], sum[4][2];
    UNROLL(2)
    for (int c = 0; c < np; c++)
        UNROLL(2)
        for (int h = 0; h < 2; h++) {
            vf a = vdupq_n_f32(0), b = a;
            const float *from = y + (size_t)(2 * c) * ldy + 4 * h;
            if (!first) a = vld1q_f32(from);
            if (!first && 2 * c + 1 < nc) b = vld1q_f32(from + ldy);
            acc[2 * h][c] = vzip1q_f32(a, b), acc[2 * h + 1][c] = vzip2q_f32(a, b);
            if (!super) continue;
            UNROLL(2)
            for (int i = 2 * h; i < 2 * h + 2; i++)
                sum[i][c] = acc[i][c], acc[i][c] = vdupq_n_f32(0);
        }
    for (int b = 0; b < n; b++, pan += cell_bytes(group, mins), q += 128) {
        const int8_t *v = (const int8_t *)pan;
        const float *w = (const float *)(const void *)(pan + 256);
        UNROLL(2)
        for (int g = 0; g < per; g++) {
            int32x4_t S[4][2];
            UNROLL(4)
            for (int r = 0; r < 4; r++) S[r][0] = S[r][1] = vdupq_n_s32(0);
            UNROLL(4)
            for (int u = 0; u < 4 / per; u++) {
                int i = g * 2 + u;
                int8x16_t x[2];
                UNROLL(2)
                for (int c = 0; c < np; c++) x[c] = vld1q_s8(q + 32 * i + 16 * c);
                UNROLL(4)
                for (int r = 0; r < 4; r++) {
                    int8x16_t row = vld1q_s8(v + 64 * i + 16 * r);
                    UNROLL(2)
                    for (int c = 0; c < np; c++) S[r][c] = vmmlaq_s32(S[r][c], row, x[c]);
                }
            }
            UNROLL(4)
            for (int r = 0; r < 4; r++) {
                vf wr = vld1q_f32(w + 16 * g + 4 * r);
                UNROLL(2)
                for (int c = 0; c < np; c++)
                    acc[r][c] = vfmaq_f32(acc[r][c], vcvtq_f32_s32(S[r][c]),
                                          vmulq_f32(wr, vld1q_f32(scale + 4 * c)));
                if (!mins) continue;
                vf mr = vld1q_f32(w + 16 * (per + g) + 4 * r);
                UNROLL(2)
                for (int c = 0; c < np; c++)
                    acc[r][c] = vfmaq_f32(acc[r][c], mr, vld1q_f32(scale + 8 * (1 + g) + 4 * c));
            }
        }
        scale += scales_of_cell(group, mins);
        if (!super || (b + 1) % SUPER_BLOCKS) continue;
        UNROLL(4)
        for (int r = 0; r < 4; r++)
            UNROLL(2)
            for (int c = 0; c < np; c++) {
                vf d = vld1q_f32(dk + 8 * (b / SUPER_BLOCKS) + 4 * c);
                sum[r][c] = vfmaq_f32(sum[r][c], acc[r][c], d);
                acc[r][c] = vdupq_n_f32(0);
            }
    }
    UNROLL(4)
    for (int r = 0; r < 4; r++)
        UNROLL(2)
        for (int c = 0; c < np; c++) if (super) acc[r][c] = sum[r][c];
    const int32x4_t lane = { 0, 1, 2, 3 };
    uint32x4_t mine[2] = { vcgeq_s32(lane, vdupq_n_s32(own)), vcgeq_s32(lane, vdupq_n_s32(own - 4)) };
    UNROLL(2)
    for (int c = 0; c < np; c++)
        UNROLL(2)
        for (int h = 0; h < 2; h++) {
            float *to = y + (size_t)(2 * c) * ldy + 4 * h;
            vf a = vuzp1q_f32(acc[2 * h][c], acc[2 * h + 1][c]);
            vf b = vuzp2q_f32(acc[2 * h][c], acc[2 * h + 1][c]);
            vst1q_f32(to, own ? vbslq_f32(mine[h], a, vld1q_f32(to)) : a);
            if (2 * c + 1 >= nc) continue;
            to += ldy;
            vst1q_f32(to, own ? vbslq_f32(mine[h], b, vld1q_f32(to)) : b);
        }
}

typedef void tile_fn(float *y, size_t ldy, int own, bool first, const char *pan, int n,
                     const int8_t *q, const float *scale, int nc);
#define TILE(G, M, U, NP) \
static void tile_##G##_##M##_##U##_##NP(float *y, size_t ldy, int own, bool first, \
                                        const char *pan, int n, const int8_t *q, \
                                        const float *scale, int nc) \
{ \
    tile(y, ldy, own, first, pan, n, q, scale, nc, G, M, U, NP); \
}
#define TILES(G, M, U) TILE(G, M, U, 1) TILE(G, M, U, 2)
TILES(32, 0, 0) TILES(32, 1, 0) TILES(32, 0, 1) TILES(32, 1, 1) TILES(16, 0, 1) TILES(16, 1, 1)
#define ROW(G, M, U) { tile_##G##_##M##_##U##_1, tile_##G##_##M##_##U##_2 }
/* [blocks of 32, of 256 with groups of 32, of 16][mins][pairs - 1] */
static tile_fn *const tiles[3][2][2] = {
    { ROW(32, 0, 0), ROW(32, 1, 0) }, { ROW(32, 0, 1), ROW(32, 1, 1) },
    { ROW(16, 0, 1), ROW(16, 1, 1) },
};
#undef ROW

typedef struct {
    int elems, bytes, group, mins;
    void (*pack)(char *to, int h, const uint8_t *p, size_t s, int n);
} qtype;

static size_t panel_bytes(int group, int mins) { return PANEL_K / 32 * cell_bytes(group, mins); }
static size_t scales_floats(int group, int mins)
{
    return (size_t)(PANEL_K / 32) * (size_t)scales_of_cell(group, mins) + PANEL_K / QSUPER * 8;
}

/* A panel of PANEL_ROWS rows and PANEL_K weights at a time. Each BLOCK_N columns are laid out
 * once; then eight rows after eight meet all of them. */
static void mul_many(float *y, size_t ldy, const uint8_t *w, size_t s, int R, const act *a,
                     char *scratch, const qtype *t)
{
    size_t panel = panel_bytes(t->group, t->mins), per_tile = scales_floats(t->group, t->mins);
    float *scale = (float *)(void *)(scratch + PANEL_ROWS / OCT * panel);
    int8_t *q = (int8_t *)(scale + BLOCK_N / TILE_N * per_tile);
    bool super = t->elems == QSUPER;
    for (int r0 = 0; r0 < R; r0 += PANEL_ROWS)
        for (int k0 = 0; k0 < a->K; k0 += PANEL_K) {
            int n_k = least(a->K - k0, PANEL_K), rows = least(R - r0, PANEL_ROWS);
            const uint8_t *from = w + (size_t)(k0 / t->elems * t->bytes);
            for (int r = 0; r < rows; r += OCT)
                for (int h = 0; h < 2; h++)
                    t->pack(scratch + (size_t)(r / OCT) * panel, h,
                            from + (size_t)(least(r0 + r, R - OCT) + QUAD * h) * s, s, n_k);
            for (int n0 = 0; n0 < a->N; n0 += BLOCK_N) {
                int nn = least(a->N - n0, BLOCK_N);
                for (int n = 0; n < nn; n += TILE_N)
                    lay_out(q + n * PANEL_K, scale + (size_t)(n / TILE_N) * per_tile, a, n0 + n,
                            least(nn - n, TILE_N), k0, n_k / 32, t->group, t->mins, super);
                for (int r = 0; r < rows; r += OCT)
                    for (int n = 0; n < nn; n += TILE_N) {
                        int nc = least(nn - n, TILE_N), at = least(r0 + r, R - OCT);
                        tiles[super + (t->group == 16)][t->mins][(nc - 1) / 2](
                            y + (size_t)(n0 + n) * ldy + at, ldy, r0 + r - at, k0 == 0,
                            scratch + (size_t)(r / OCT) * panel, n_k / 32, q + n * PANEL_K,
                            scale + (size_t)(n / TILE_N) * per_tile, nc);
                    }
            }
        }
}

#define TYPE(T, DT, E, G, M) \
static void pack_##T(char *to, int h, const uint8_t *p, size_t s, int n) \
{ \
    pack_quad(to, h, p, s, n, take_##T, E, sizeof(block_##T), G, M, OFF_##T); \
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
    size_t many = PANEL_ROWS / OCT * panel_bytes(16, 1) + BLOCK_N * PANEL_K +
                  BLOCK_N / TILE_N * scales_floats(16, 1) * sizeof(float);
    return few > many ? few : many;
}

void kern_init_i8mm_q(kern *k);
void kern_init_i8mm_q(kern *k)
{
#define ROW(T, TYPE, E, G, M) k->mul[DT_##TYPE] = mul_##T;
    NEON_QTYPES(ROW)
    k->mul_scratch = mul_scratch;
}
#else
typedef int kern_i8mm_q_not_here;
#endif
