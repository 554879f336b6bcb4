/* kern_avx2_q.c - quantised products with VPMADDUBSW: eight weight rows in the lanes, one
 * broadcast dword of input a step, so that a lane's float chain is the one of docs/numerics.md.
 * Few columns: from the file's blocks straight through registers. Many: panels unpacked into
 * scratch. Compiled with this level's flags; only kern_init_avx2_q comes out.
 *
 * VPMADDUBSW adds two products into 16 bits. RUN_<type> of its results fit there together:
 * weights up to top leave 2^15 / (2 * 127 * top). Eight bits do not fit at all, so Q8_0 and IQ4
 * (RUN 0) multiply |w| by the input with w's sign: 2 * 128 * 127 just fits. */
#if defined(__x86_64__)
#include <stdbool.h>
#include <string.h>
#include "base/block.h"
#include "kern/kern.h"
#include "kern/super_body.h"
#include "kern/unpack_body.h"

enum { DIRECT_MAX = 4, PANEL_K = 1024, PANEL_ROWS = 64, TILE_N = 4, MAX_GROUPS = 16 };
enum { RUN_q4_0 = 8, RUN_q4_1 = 8, RUN_q5_0 = 4, RUN_q5_1 = 4, RUN_q8_0 = 0,
       RUN_q2_k = 4, RUN_q3_k = 4, RUN_q4_k = 8, RUN_q5_k = 4, RUN_q6_k = 2,
       RUN_iq4_nl = 0, RUN_iq4_xs = 0, RUN_mxfp4 = 4, RUN_iq3_s = 4, RUN_iq3_xxs = 1,
       RUN_iq2_s = 1, RUN_iq2_xs = 1, RUN_iq2_xxs = 1 };

typedef void take_fn(const uint8_t *p, size_t s, int j, vi *t, vi *v, vf *w, vf *m);

/* One column's values: of a group k weights in, q is at q + k and so on. */
typedef struct { const int8_t *q; const float *d, *dk; const int16_t *s16; } column;
static inline column column_at(const act *a, int n, int k)
{
    size_t at = (size_t)n * (size_t)a->K + (size_t)k;
    return (column){ a->q + at, a->d + at / QBLOCK, a->dk ? a->dk + at / QSUPER : NULL,
                     a->s16 + at / 16 };
}

/* acc after the float steps of one group: S of v[0..steps), eight rows of weights. k: the group's
 * place in the column. */
TAKE_INLINE vf group_step(vf acc, const vi *v, const column *x, int k, vf w, const vf *m,
                          int group, int off, int run)
{
    vi S = _mm256_setzero_si256(), part = S;
    int once = run ? run : 1;
    for (int i = 0; i < group / 4; i++) {
        int32_t four;
        memcpy(&four, x->q + k + 4 * i, 4);
        vi q = _mm256_set1_epi32(four), p;
        if (!run) p = _mm256_maddubs_epi16(_mm256_abs_epi8(v[i]), _mm256_sign_epi8(q, v[i]));
        else p = _mm256_maddubs_epi16(v[i], q);
        part = i % once ? _mm256_add_epi16(part, p) : p;
        if ((i + 1) % once == 0 || i + 1 == group / 4)
            S = _mm256_add_epi32(S, _mm256_madd_epi16(part, _mm256_set1_epi16(1)));
    }
    int A = 0;
    if (off || m) A = group == 32 ? x->s16[k / 16] + x->s16[k / 16 + 1] : x->s16[k / 16];
    if (off) S = _mm256_sub_epi32(S, _mm256_set1_epi32(off * A));
    vf d = _mm256_set1_ps(x->d[k / QBLOCK]);
    acc = _mm256_fmadd_ps(_mm256_cvtepi32_ps(S), _mm256_mul_ps(w, d), acc);
    if (m) acc = _mm256_fmadd_ps(*m, _mm256_set1_ps(x->d[k / QBLOCK] * (float)A), acc);
    return acc;
}

/* The chain of a block of 256 from k on into its row's. */
TAKE_INLINE vf super_step(vf sum, vf acc, const column *x, int k)
{
    return _mm256_fmadd_ps(acc, _mm256_set1_ps(x->dk[k / QSUPER]), sum);
}

/* The bytes of Q8_0 and IQ4 as signed ones; everything else stays. */
TAKE_INLINE void signed_if(vi v[8], int run)
{
    for (int i = 0; !run && i < 8; i++) v[i] = _mm256_xor_si256(v[i], byte_set(0x80));
}

/* nc columns x of eight rows at p. While a group of rows is worked on, the next one, at `ahead`,
 * comes into the cache in the order it lies in memory. */
TAKE_INLINE void direct(float *y, size_t ldy, const uint8_t *p, size_t s, int K,
                        const uint8_t *ahead, const uint8_t *end, const column *x, take_fn *take,
                        int elems, int bytes, int group, int mins, int off, int run, int nc)
{
    int per = 32 / group, super = elems == QSUPER;
    vf acc[DIRECT_MAX], sum[DIRECT_MAX];
    for (int c = 0; c < nc; c++) acc[c] = sum[c] = _mm256_setzero_ps();
    for (int b = 0; b < K / elems; b++, p += bytes) {
        vi t[TAKE_T], v[8];
        vf w[MAX_GROUPS], m[MAX_GROUPS];
        for (int j = 0; j < elems / 32; j++) {
            const uint8_t *stop = ahead + LANES * bytes * 32 / elems;
            for (const uint8_t *f = ahead; f < stop && f < end; f += 64)
                _mm_prefetch((const char *)f, _MM_HINT_T1);
            ahead = stop;
            take(p, s, j, t, v, w, m);
            signed_if(v, run);
            for (int g = 0; g < per; g++)
                for (int c = 0; c < nc; c++)
                    acc[c] = group_step(acc[c], v + g * 8 / per, &x[c],
                                        b * elems + 32 * j + g * group, w[per * j + g],
                                        mins ? &m[per * j + g] : NULL, group, off, run);
        }
        for (int c = 0; super && c < nc; c++) {
            sum[c] = super_step(sum[c], acc[c], &x[c], b * elems);
            acc[c] = _mm256_setzero_ps();
        }
    }
    for (int c = 0; c < nc; c++) _mm256_storeu_ps(y + (size_t)c * ldy, super ? sum[c] : acc[c]);
}

/* A panel is LANES rows, a cell per 32 weights: 8 registers of bytes, w per group, m per group. */
static inline size_t cell_bytes(int group, int mins)
{
    return 256 + 32 * (size_t)(32 / group) * (size_t)(1 + mins);
}

TAKE_INLINE void pack_rows(char *to, const uint8_t *p, size_t s, int n, take_fn *take, int elems,
                           int bytes, int group, int mins, int run)
{
    int per = 32 / group;
    for (int b = 0; b < n / elems; b++, p += bytes) {
        vi t[TAKE_T], v[8];
        vf w[MAX_GROUPS], m[MAX_GROUPS];
        for (int j = 0; j < elems / 32; j++, to += cell_bytes(group, mins)) {
            take(p, s, j, t, v, w, m);
            signed_if(v, run);
            for (int i = 0; i < 8; i++) _mm256_store_si256((void *)(to + 32 * i), v[i]);
            for (int g = 0; g < per; g++) {
                _mm256_store_ps((float *)(to + 256 + 32 * g), w[per * j + g]);
                if (mins) _mm256_store_ps((float *)(to + 256 + 32 * (per + g)), m[per * j + g]);
            }
        }
    }
}

/* nc columns x of a panel of n cells; y as it stands is added to, unless `first`. rows: lanes that
 * are this panel's own to write. */
TAKE_INLINE void tile(float *y, size_t ldy, __m256i rows, bool first, const char *pan, int n,
                      const column *x, int group, int mins, int off, int run, int super, int nc)
{
    int per = 32 / group;
    vf acc[TILE_N];
    for (int c = 0; c < nc; c++)
        acc[c] = first || super ? _mm256_setzero_ps() : _mm256_loadu_ps(y + (size_t)c * ldy);
    for (int b = 0; b < n; b++, pan += cell_bytes(group, mins)) {
        for (int g = 0; g < per; g++) {
            const vi *v = (const vi *)(const void *)pan + g * 8 / per;
            const vf *w = (const vf *)(const void *)(pan + 256);
            for (int c = 0; c < nc; c++)
                acc[c] = group_step(acc[c], v, &x[c], 32 * b + g * group, w[g],
                                    mins ? &w[per + g] : NULL, group, off, run);
        }
        for (int c = 0; super && (b + 1) % SUPER_BLOCKS == 0 && c < nc; c++) {
            float *to = y + (size_t)c * ldy;
            vf sum = first && b < SUPER_BLOCKS ? _mm256_setzero_ps() : _mm256_loadu_ps(to);
            _mm256_maskstore_ps(to, rows, super_step(sum, acc[c], &x[c], 32 * b));
            acc[c] = _mm256_setzero_ps();
        }
    }
    for (int c = 0; !super && c < nc; c++)
        _mm256_maskstore_ps(y + (size_t)c * ldy, rows, acc[c]);
}

typedef struct {
    int elems, bytes, group, mins;
    void (*direct)(float *y, size_t ldy, const uint8_t *p, size_t s, int K, const uint8_t *ahead,
                   const uint8_t *end, const column *x, int nc);
    void (*pack)(char *to, const uint8_t *p, size_t s, int n);
    void (*tile)(float *y, size_t ldy, __m256i rows, bool first, const char *pan, int n,
                 const column *x, int nc);
} qtype;

/* Where eight rows from r on must start to stay below R. */
static inline int edge(int r, int R) { return r < R - LANES ? r : R - LANES; }

/* All columns, DIRECT_MAX a pass. Fewer than eight rows are copied to scratch, zero-filled. */
static void mul_few(float *y, size_t ldy, const uint8_t *w, size_t s, int R, const act *a,
                    uint8_t *scratch, const qtype *t)
{
    float narrow[DIRECT_MAX * LANES];
    bool copy = R < LANES;
    if (copy) {
        memcpy(scratch, w, (size_t)R * s);
        memset(scratch + (size_t)R * s, 0, (size_t)(LANES - R) * s);
        w = scratch;
    }
    int rows = copy ? LANES : R;
    const uint8_t *end = w + (size_t)rows * s;
    for (int n = 0; n < a->N; n += DIRECT_MAX) {
        int nc = a->N - n < DIRECT_MAX ? a->N - n : DIRECT_MAX;
        column x[DIRECT_MAX];
        for (int c = 0; c < nc; c++) x[c] = column_at(a, n + c, 0);
        for (int r = 0; r < rows; r += LANES) {
            int at = edge(r, rows);
            const uint8_t *p = w + (size_t)at * s;
            if (!copy) {
                t->direct(y + (size_t)n * ldy + at, ldy, p, s, a->K, p + LANES * s, end, x, nc);
                continue;
            }
            t->direct(narrow, LANES, p, s, a->K, end, end, x, nc);
            for (int c = 0; c < nc; c++)
                memcpy(y + (size_t)(n + c) * ldy, narrow + c * LANES, 4 * (size_t)R);
        }
    }
}

static void mul_many(float *y, size_t ldy, const uint8_t *w, size_t s, int R, const act *a,
                     char *scratch, const qtype *t)
{
    size_t panel = PANEL_K / 32 * cell_bytes(t->group, t->mins);
    const vi lane = _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0);
    for (int r0 = 0; r0 < R; r0 += PANEL_ROWS)
        for (int k0 = 0; k0 < a->K; k0 += PANEL_K) {
            int n_k = a->K - k0 < PANEL_K ? a->K - k0 : PANEL_K;
            int rows = R - r0 < PANEL_ROWS ? R - r0 : PANEL_ROWS;
            for (int r = 0; r < rows; r += LANES)
                t->pack(scratch + (size_t)(r / LANES) * panel,
                        w + (size_t)edge(r0 + r, R) * s + (size_t)(k0 / t->elems * t->bytes), s,
                        n_k);
            for (int n = 0; n < a->N; n += TILE_N) {
                int nc = a->N - n < TILE_N ? a->N - n : TILE_N;
                column x[TILE_N];
                for (int c = 0; c < nc; c++) x[c] = column_at(a, n + c, k0);
                for (int r = 0; r < rows; r += LANES) {
                    int at = edge(r0 + r, R);
                    vi own = _mm256_cmpgt_epi32(lane, _mm256_set1_epi32(r0 + r - at - 1));
                    t->tile(y + (size_t)n * ldy + at, ldy, own, k0 == 0,
                            scratch + (size_t)(r / LANES) * panel, n_k / 32, x, nc);
                }
            }
        }
}

/* T: name; the offset of unsigned bytes is taken off through A, but RUN 0 has signed ones. */
#define OFF(T) (RUN_##T == 0 ? 0 : (int)OFF_##T)
#define DIRECT(T, E, G, M, NC) case NC: direct(y, ldy, p, s, K, ahead, end, x, take_##T, E, \
    sizeof(block_##T), G, M, OFF(T), RUN_##T, NC); break;
#define TILE(T, E, G, M, NC) case NC: tile(y, ldy, rows, first, pan, n, x, G, M, OFF(T), RUN_##T, \
    (E) == QSUPER, NC); break;
#define TYPE(T, E, G, M) \
static void direct_##T(float *y, size_t ldy, const uint8_t *p, size_t s, int K, \
                       const uint8_t *ahead, const uint8_t *end, const column *x, int nc) \
{ \
    switch (nc) { \
    DIRECT(T, E, G, M, 1) DIRECT(T, E, G, M, 2) DIRECT(T, E, G, M, 3) DIRECT(T, E, G, M, 4) \
    } \
} \
static void tile_##T(float *y, size_t ldy, __m256i rows, bool first, const char *pan, int n, \
                     const column *x, int nc) \
{ \
    switch (nc) { TILE(T, E, G, M, 1) TILE(T, E, G, M, 2) TILE(T, E, G, M, 3) \
                  TILE(T, E, G, M, 4) } \
} \
static void pack_##T(char *to, const uint8_t *p, size_t s, int n) \
{ \
    pack_rows(to, p, s, n, take_##T, E, sizeof(block_##T), G, M, RUN_##T); \
} \
static const qtype type_##T = { E, sizeof(block_##T), G, M, direct_##T, pack_##T, tile_##T }; \
static void mul_##T(float *y, size_t ldy, const void *w, size_t row_bytes, int R, const act *a, \
                    void *scratch) \
{ \
    if (R < LANES || a->N <= DIRECT_MAX) \
        mul_few(y, ldy, w, row_bytes, R, a, scratch, &type_##T); \
    else \
        mul_many(y, ldy, w, row_bytes, R, a, scratch, &type_##T); \
}
TYPE(q4_0, 32, 32, 0)
TYPE(q4_1, 32, 32, 1)
TYPE(q5_0, 32, 32, 0)
TYPE(q5_1, 32, 32, 1)
TYPE(q8_0, 32, 32, 0)
TYPE(q2_k, 256, 16, 1)
TYPE(q3_k, 256, 16, 0)
TYPE(q4_k, 256, 32, 1)
TYPE(q5_k, 256, 32, 1)
TYPE(q6_k, 256, 16, 0)
TYPE(iq4_nl, 32, 32, 0)
TYPE(iq4_xs, 256, 32, 0)
TYPE(mxfp4, 32, 32, 0)
TYPE(iq3_s, 256, 32, 0)
TYPE(iq3_xxs, 256, 32, 0)
TYPE(iq2_s, 256, 16, 0)
TYPE(iq2_xs, 256, 16, 0)
TYPE(iq2_xxs, 256, 32, 0)

static size_t mul_scratch(int type, int K)
{
    if (act_kind(type) < ACT_Q8) return 0;
    size_t few = LANES * type_row_bytes(type, K);
    size_t many = PANEL_ROWS / LANES * (PANEL_K / 32) * cell_bytes(16, 1);
    return few > many ? few : many;
}

/* Eight values to eight int32; NaN becomes 0. */
static inline vi to_ints(const float *x, vf inv)
{
    vf v = _mm256_mul_ps(_mm256_loadu_ps(x), inv);
    vf ok = _mm256_cmp_ps(v, v, _CMP_ORD_Q);
    v = _mm256_min_ps(_mm256_max_ps(v, _mm256_set1_ps(-127)), _mm256_set1_ps(127));
    return _mm256_cvtps_epi32(_mm256_and_ps(v, ok));
}

static int sum8(vi x)
{
    __m128i a = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    a = _mm_add_epi32(a, _mm_shuffle_epi32(a, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(a, _mm_shuffle_epi32(a, 0xb1)));
}

/* Magnitudes order the same way as integers, which puts NaN above infinity. */
static inline float largest(const float *x)
{
    const vi mag = _mm256_set1_epi32(0x7fffffff);
    vi top = _mm256_setzero_si256();
    for (int j = 0; j < 4; j++) {
        vi u = _mm256_and_si256(_mm256_castps_si256(_mm256_loadu_ps(x + 8 * j)), mag);
        top = _mm256_max_epi32(top, u);
    }
    __m128i t = _mm_max_epi32(_mm256_castsi256_si128(top), _mm256_extracti128_si256(top, 1));
    t = _mm_max_epi32(t, _mm_shuffle_epi32(t, 0x4e));
    t = _mm_max_epi32(t, _mm_shuffle_epi32(t, 0xb1));
    return _mm_cvtss_f32(_mm_castsi128_ps(t));
}

static inline void round_block(int8_t *q, int16_t *s16, const float *x, float by)
{
    const vi order = _mm256_set_epi32(7, 3, 6, 2, 5, 1, 4, 0);
    vf inv = _mm256_set1_ps(by);
    vi i[4];
    for (int j = 0; j < 4; j++) i[j] = to_ints(x + 8 * j, inv);
    vi p = _mm256_packs_epi16(_mm256_packs_epi32(i[0], i[1]), _mm256_packs_epi32(i[2], i[3]));
    _mm256_storeu_si256((void *)q, _mm256_permutevar8x32_epi32(p, order));
    s16[0] = (int16_t)sum8(_mm256_add_epi32(i[0], i[1]));
    s16[1] = (int16_t)sum8(_mm256_add_epi32(i[2], i[3]));
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
void kern_init_avx2_q(kern *k);
void kern_init_avx2_q(kern *k)
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
typedef int kern_avx2_q_not_here;
#endif
