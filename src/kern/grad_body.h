/* grad_body.h - training's kernels, written once for sixteen lanes. The includer has defined
 * KERN(name), included a vec_*.h, and defined GRAD_R and GRAD_W: a tile of a product is GRAD_R rows
 * by GRAD_W registers of sixteen columns; MINI_R and MINI_W: the same for the small products of
 * attention. GRAD_PAIRS, where there is an instruction for pairs of bf16 (h_dot of one register):
 * then also pairs_rows and pairs_turned. Everything here is static.
 *
 * Operands are copied into panels first: for a strip of GRAD_R rows of c (16 * GRAD_W columns), the
 * values of one k after those of another. One strip of rows stays in the first cache while all
 * columns' strips stream past from the second. Nothing of this changes an element's order of
 * operations (docs/numerics.md). */
#include <math.h>
#include <stdbool.h>
#include <string.h>
#include "base/half.h"
#include "kern/fexp.h"
#include "kern/kern.h"
#include "kern/unroll.h"
#include "kern/soft_body.h"

enum { GRAD_COLS = 16 * GRAD_W, PANEL_K = 8 };

static int least(int a, int b) { return a < b ? a : b; }

/* ---- panels ---- */

/* The n <= 16 values from element `at` on, as f32, zeros after; rounded: as bf16 has them. */
static inline vf values_at(const grad_op *o, size_t at, int n, bool rounded)
{
    uint16_t h[16];
    if (o->type == DT_BF16) {
        const uint16_t *p = (const uint16_t *)o->p + at;
        return n == 16 ? v_load_bf16(p) : v_load_bf16_n(p, n);
    }
    const float *p = (const float *)o->p + at;
    vf x = n == 16 ? v_load(p) : v_load_n(p, n);
    if (!rounded) return x;
    v_store_bf16(h, x);
    return v_load_bf16(h);
}

/* Place t of a panel holds k = t, with `bf16` the odd one of a pair before the even one. A few k at a
 * time for all strips, so that rows are read as they lie. A store of sixteen lanes may reach beyond a
 * strip that is narrower, into what is written after it: not at a strip's end. */
static inline __attribute__((always_inline)) void panel_of(float *to, const grad_op *o, int k0, int K,
                                                           int i0, int n, int width, bool bf16)
{
    int KK = bf16 ? (K + 1) / 2 * 2 : K;
    for (int t0 = 0; t0 < KK; t0 += PANEL_K) {
        int t1 = least(t0 + PANEL_K, KK);
        for (int i = 0; i < n; i += width) {
            float *y = to + (size_t)i * (size_t)KK + t0 * width;
            for (int t = t0; t < t1; t++, y += width) {
                int k = bf16 ? t ^ 1 : t, left = k < K ? n - i : 0;
                size_t at = (size_t)(k0 + k) * o->ld + (size_t)(i0 + i);
                for (int c = 0; c < width; c += 16, left -= 16, at += 16) {
                    int some = least(width - c, left);
                    vf x = left >= 16 ? values_at(o, at, 16, bf16)
                           : some > 0 ? values_at(o, at, some, bf16) : v_set(0);
                    if (t * width + c + 16 > KK * width) v_store_n(y + c, x, width - c);
                    else v_store(y + c, x);
                }
            }
        }
    }
}

static void panel_rows(float *to, const grad_op *o, int k0, int K, int i0, int n, int width, bool bf16)
{
    if (bf16) panel_of(to, o, k0, K, i0, n, width, true);
    else if (width == GRAD_R) panel_of(to, o, k0, K, i0, n, GRAD_R, false);
    else panel_of(to, o, k0, K, i0, n, GRAD_COLS, false);
}

static inline float value_at(const grad_op *o, size_t at, bool rounded)
{
    if (o->type == DT_BF16) return bf16_to_f32(((const uint16_t *)o->p)[at]);
    float x = ((const float *)o->p)[at];
    return rounded ? bf16_to_f32(f32_to_bf16(x)) : x;
}

/* The same of an operand whose k is contiguous. */
static void panel_turned(float *to, const grad_op *o, int k0, int K, int i0, int n, int width, bool bf16)
{
    for (int i = 0; i < n; i += width) {
        int t = 0, some = least(width, n - i), KK = bf16 ? (K + 1) / 2 * 2 : K;
#ifdef V_TURN
        for (; !bf16 && o->type == DT_F32 && width <= 16 && t + 16 <= K; t += 16) {
            vf r[16];
            const float *p = (const float *)o->p + (size_t)(i0 + i) * o->ld + (size_t)(k0 + t);
            for (int m = 0; m < 16; m++) r[m] = m < some ? v_load(p + (size_t)m * o->ld) : v_set(0);
            v_turn(r);
            for (int m = 0; m < 16; m++) v_store(to + (t + m) * width, r[m]);
        }
#endif
        for (; t < KK; t++) {
            int k = bf16 ? t ^ 1 : t;
            for (int m = 0; m < width; m++)
                to[t * width + m] = k < K && m < some
                    ? value_at(o, (size_t)(i0 + i + m) * o->ld + (size_t)(k0 + k), bf16) : 0;
        }
        to += KK * width;
    }
}

/* ---- products ---- */

static inline vf grad_mac(bool pairs, vf a, vf b, vf c)
{
#ifdef GRAD_PAIRS
    if (pairs) return pair_dot(a, b, c);
#else
    (void)pairs;
#endif
    return v_fma(a, b, c);
}

/* c (GRAD_R,GRAD_COLS) from K steps of both panels; add: to what is there. */
static inline __attribute__((always_inline)) void grad_tile(bool pairs, const float *a, const float *b,
                                                            int K, float *c, size_t ldc, bool add)
{
    vf acc[GRAD_R * GRAD_W];
    UNROLL(32)
    for (int i = 0; i < GRAD_R * GRAD_W; i++) acc[i] = v_set(0);
    UNROLL(16)
    for (int r = 0; r < GRAD_R; r++) __builtin_prefetch(c + (size_t)r * ldc, 1, 3);
    for (int k = 0; k < K; k++, a += GRAD_R, b += GRAD_COLS) {
        vf bb[GRAD_W];
        UNROLL(4)
        for (int w = 0; w < GRAD_W; w++) bb[w] = v_load(b + 16 * w);
        UNROLL(16)
        for (int r = 0; r < GRAD_R; r++) {
            vf x = v_set(a[r]);
            UNROLL(4)
            for (int w = 0; w < GRAD_W; w++)
                acc[r * GRAD_W + w] = grad_mac(pairs, x, bb[w], acc[r * GRAD_W + w]);
        }
    }
    UNROLL(16)
    for (int r = 0; r < GRAD_R; r++)
        UNROLL(4)
        for (int w = 0; w < GRAD_W; w++) {
            float *to = c + (size_t)r * ldc + 16 * w;
            vf x = acc[r * GRAD_W + w];
            v_store(to, add ? v_add(v_load(to), x) : x);
        }
}

static inline __attribute__((always_inline)) void grad_tiles(bool pairs, const float *a,
                                                             const float *b, int M, int N, int K,
                                                             float *c, size_t ldc, bool add)
{
    float edge[GRAD_R * GRAD_COLS];
    for (int m = 0; m < M; m += GRAD_R)
        for (int n = 0; n < N; n += GRAD_COLS) {
            const float *pa = a + (size_t)m * (size_t)K, *pb = b + (size_t)n * (size_t)K;
            float *to = c + (size_t)m * ldc + (size_t)n;
            int rows = least(GRAD_R, M - m), cols = least(GRAD_COLS, N - n);
            if (rows == GRAD_R && cols == GRAD_COLS) {
                grad_tile(pairs, pa, pb, K, to, ldc, add);
                continue;
            }
            grad_tile(pairs, pa, pb, K, edge, GRAD_COLS, false);
            for (int r = 0; r < rows; r++)
                for (int i = 0; i < cols; i++) {
                    float *y = to + (size_t)r * ldc + i, x = edge[r * GRAD_COLS + i];
                    *y = add ? *y + x : x;
                }
        }
}

static void KERN(grad_f32)(float *c, size_t ldc, int M, int N, int K, const grad_op *a,
                           const grad_op *b, bool add, void *scratch)
{
    float *pb = scratch, *pa = pb + (GRAD_N + GRAD_COLS) * GRAD_K;
    for (int k = 0; k < K; k += GRAD_K) {
        int kk = least(K - k, GRAD_K);
        panel_rows(pb, b, k, kk, 0, N, GRAD_COLS, false);
        (a->turned ? panel_turned : panel_rows)(pa, a, k, kk, 0, M, GRAD_R, false);
        grad_tiles(false, pa, pb, M, N, kk, c, ldc, add || k);
    }
}

static void KERN(grad_bf16)(float *c, size_t ldc, int M, int N, int K, const grad_op *a,
                            const grad_op *b, bool add, void *scratch)
{
    float *pb = scratch;
    for (int k = 0; k < K; k += 2 * GRAD_K) {
        int kk = least(K - k, 2 * GRAD_K);
#ifdef GRAD_PAIRS
        float *pa = pb + (GRAD_N + GRAD_COLS) * GRAD_K;
        pairs_rows(pb, b, k, kk, 0, N, GRAD_COLS);
        (a->turned ? pairs_turned : pairs_rows)(pa, a, k, kk, 0, M, GRAD_R);
        grad_tiles(true, pa, pb, M, N, (kk + 1) / 2, c, ldc, add || k);
#else
        float *pa = pb + (GRAD_N + GRAD_COLS) * 2 * GRAD_K;
        panel_rows(pb, b, k, kk, 0, N, GRAD_COLS, true);
        (a->turned ? panel_turned : panel_rows)(pa, a, k, kk, 0, M, GRAD_R, true);
        grad_tiles(false, pa, pb, M, N, (kk + 1) / 2 * 2, c, ldc, add || k);
#endif
    }
}

/* ---- attention ---- */

/* c[r][0..16W) = or += sum over k < K of a[r*lda + k*stepa] b[k*ldb + ...]; tail: W is 1 and only so
 * many columns are there. */
static inline __attribute__((always_inline)) void mini_tile(int R, int W, int tail, float *c, int ldc,
                                                            int K, const float *a, int lda, int stepa,
                                                            const float *b, int ldb, bool add)
{
    vf acc[MINI_R * MINI_W];
    UNROLL(8)
    for (int r = 0; r < R; r++)
        UNROLL(4)
        for (int w = 0; w < W; w++) {
            const float *from = c + r * ldc + 16 * w;
            acc[r * W + w] = !add ? v_set(0) : tail ? v_load_n(from, tail) : v_load(from);
        }
    for (int k = 0; k < K; k++, a += stepa, b += ldb) {
        vf bb[MINI_W];
        UNROLL(4)
        for (int w = 0; w < W; w++) bb[w] = tail ? v_load_n(b, tail) : v_load(b + 16 * w);
        UNROLL(8)
        for (int r = 0; r < R; r++) {
            vf x = v_set(a[r * lda]);
            UNROLL(4)
            for (int w = 0; w < W; w++) acc[r * W + w] = v_fma(x, bb[w], acc[r * W + w]);
        }
    }
    UNROLL(8)
    for (int r = 0; r < R; r++)
        UNROLL(4)
        for (int w = 0; w < W; w++) {
            float *to = c + r * ldc + 16 * w;
            if (tail) v_store_n(to, acc[r * W + w], tail);
            else v_store(to, acc[r * W + w]);
        }
}

static inline __attribute__((always_inline)) void mini_rows(int R, float *c, int ldc, int N, int K,
                                                            const float *a, int lda, int stepa,
                                                            const float *b, int ldb, bool add)
{
    int n = 0;
    for (; n + 16 * MINI_W <= N; n += 16 * MINI_W)
        mini_tile(R, MINI_W, 0, c + n, ldc, K, a, lda, stepa, b + n, ldb, add);
    for (; n + 16 <= N; n += 16) mini_tile(R, 1, 0, c + n, ldc, K, a, lda, stepa, b + n, ldb, add);
    if (n < N) mini_tile(R, 1, N - n, c + n, ldc, K, a, lda, stepa, b + n, ldb, add);
}

/* Rows of c that need only part: from[r] <= k < to[r]; NULL: all need all. */
typedef struct { const int *from, *to; } mini_part;

/* What R rows need in all, of n. */
static bool mini_range(const mini_part *p, int r, int R, int n, int *from, int *to)
{
    *from = p->from ? n : 0, *to = p->from ? 0 : n;
    for (int i = r; p->from && i < r + R; i++) {
        if (p->from[i] >= p->to[i]) continue;
        *from = least(*from, p->from[i]);
        *to = p->to[i] > *to ? p->to[i] : *to;
    }
    return *from < *to;
}

/* c (M,N) = or += a (M,K) b (K,N), in place: everything is in the caches already. part is of k; with
 * `cols` of columns of c, whole sixteens, and what is not needed stays as it is. */
static __attribute__((noinline)) void mini(float *c, int ldc, int M, int N, int K, const float *a,
                                           int lda, int stepa, const float *b, int ldb, bool add,
                                           mini_part part, bool cols)
{
    for (int r = 0, R; r < M; r += R, c += R * ldc, a += R * lda) {
        int left = M - r, from, to;
        R = left >= 2 * MINI_R || left == MINI_R ? MINI_R : left < MINI_R ? left : (left + 1) / 2;
        if (!mini_range(&part, r, R, cols ? N : K, &from, &to)) continue;
        int n0 = cols ? from / 16 * 16 : 0, nn = cols ? least((to + 15) / 16 * 16, N) - n0 : N;
        int k0 = cols ? 0 : from, kk = cols ? K : to - from;
        float *cc = c + n0;
        const float *aa = a + k0 * stepa, *bb = b + k0 * ldb + n0;
        switch (R) {
#define CASE(r) case r: if ((r) <= MINI_R) mini_rows(r, cc, ldc, nn, kk, aa, lda, stepa, bb, ldb, add); break;
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#undef CASE
        }
    }
}

/* Which rows see each key. */
static void seen_by(const attn_grad *a, int R, int *from, int *to)
{
    for (int j = 0; j < ATTN_TILE; j++) from[j] = R, to[j] = 0;
    for (int r = 0; r < R; r++)
        for (int j = a->lo[r]; j < a->hi[r]; j++) {
            from[j] = least(from[j], r);
            to[j] = r + 1;
        }
}

static void KERN(attn_grad)(const attn_grad *a, int R, int hs)
{
    enum { T = ATTN_TILE };
    float *p = a->s, *ds = a->s + T * T;
    int from[T], to[T];
    mini_part by_row = { NULL, NULL }, by_key = { NULL, NULL };
    bool whole = true;
    for (int r = 0; r < R; r++) whole &= a->lo[r] <= 0 && a->hi[r] >= T;
    if (!whole) {
        seen_by(a, R, from, to);
        by_row = (mini_part){ a->lo, a->hi }, by_key = (mini_part){ from, to };
    }
    mini(p, T, R, T, hs, a->q, hs, 1, a->kt, T, false, by_row, true);
    mini(ds, T, R, T, hs, a->dy, hs, 1, a->vt, T, false, by_row, true);
    for (int r = 0; r < R; r++) {
        vf m = v_set(-a->m[r]), il = v_set(a->il[r]), D = v_set(-a->D[r]), none = v_set(0);
        for (int i = 0; i < T; i += 16) {
            float *at = p + r * T + i, *dat = ds + r * T + i;
            vf x = v_mul(v_exp(v_add(v_load(at), m)), il);
            vf d = v_mul(x, v_add(v_load(dat), D));
            v_store(at, v_inside(x, none, i, a->lo[r], a->hi[r]));
            v_store(dat, v_inside(d, none, i, a->lo[r], a->hi[r]));
        }
    }
    mini(a->dq, hs, R, hs, T, ds, T, 1, a->k, hs, true, by_row, false);
    mini(a->dk, hs, T, hs, R, ds, 1, T, a->q, hs, true, by_key, false);
    mini(a->dv, hs, T, hs, R, p, 1, T, a->dy, hs, true, by_key, false);
}

static float KERN(dot)(const float *a, const float *b, int n)
{
    vf P = v_set(0);
    int i = 0;
    for (; i + 16 <= n; i += 16) P = v_fma(v_load(a + i), v_load(b + i), P);
    if (i < n) P = v_fma(v_load_n(a + i, n - i), v_load_n(b + i, n - i), P);
    return v_tree(P);
}

#ifdef V_TURN
static void KERN(transpose)(float *y, const float *x, int rows, int cols)
{
    for (int r0 = 0; r0 < rows; r0 += 16)
        for (int c0 = 0; c0 < cols; c0 += 16) {
            vf r[16];
            int R = least(16, rows - r0), C = least(16, cols - c0);
            for (int i = 0; i < 16; i++)
                r[i] = i < R ? v_load_n(x + (r0 + i) * cols + c0, C) : v_set(0);
            v_turn(r);
            for (int i = 0; i < C; i++) v_store_n(y + (c0 + i) * rows + r0, r[i], R);
        }
}
#endif

/* ---- row by row ---- */

static void KERN(from_bf16)(float *y, const uint16_t *x, int64_t n)
{
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) v_store(y + i, v_load_bf16(x + i));
    for (; i < n; i++) y[i] = bf16_to_f32(x[i]);
}

static void KERN(rmsnorm_grad)(float *dx, float *dw, const float *dy, const float *x, const float *w,
                               int C, float eps)
{
    vf P = v_set(0), Q = v_set(0);
    int i = 0;
    for (; i + 16 <= C; i += 16) {
        vf a = v_load(x + i);
        P = v_fma(a, a, P);
        Q = v_fma(v_mul(v_load(w + i), v_load(dy + i)), a, Q);
    }
    if (i < C) {
        vf a = v_load_n(x + i, C - i);
        P = v_fma(a, a, P);
        Q = v_fma(v_mul(v_load_n(w + i, C - i), v_load_n(dy + i, C - i)), a, Q);
    }
    float r = 1 / sqrtf(v_tree(P) / (float)C + eps);
    float k = r * r * r * (v_tree(Q) / (float)C);
    vf rr = v_set(r), kk = v_set(k);
    for (i = 0; i + 16 <= C; i += 16) {
        vf a = v_load(x + i), d = v_load(dy + i);
        vf g = v_fma(v_mul(v_load(w + i), d), rr, v_neg(v_mul(a, kk)));
        v_store(dx + i, v_add(v_load(dx + i), g));
        if (dw) v_store(dw + i, v_fma(d, v_mul(a, rr), v_load(dw + i)));
    }
    for (; i < C; i++) {
        dx[i] += fmaf(w[i] * dy[i], r, -(x[i] * k));
        if (dw) dw[i] = fmaf(dy[i], x[i] * r, dw[i]);
    }
}

static void KERN(swiglu_grad)(float *dg, float *du, const float *dy, const float *g, const float *u,
                              int64_t n)
{
    vf one = v_set(1);
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        vf a = v_load(g + i), d = v_load(dy + i), b = v_load(u + i);
        vf s = v_div(one, v_add(one, v_exp(v_neg(a)))), silu = v_mul(a, s);
        vf slope = v_fma(silu, v_add(one, v_neg(s)), s);
        v_store(dg + i, v_mul(v_mul(d, b), slope));
        v_store(du + i, v_mul(d, silu));
    }
    for (; i < n; i++) {
        float s = 1 / (1 + fexp(-g[i])), silu = g[i] * s, slope = fmaf(silu, 1 - s, s);
        float d = dy[i], b = u[i];
        dg[i] = d * b * slope;
        du[i] = d * silu;
    }
}

static double KERN(exp_sum)(float *y, const float *x, int64_t n, float *top)
{
    double P[16] = { 0 };
    vf m = v_set(-INFINITY);
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) m = v_max(v_load(x + i), m);       /* a NaN is passed over */
    float t = v_max_all(m);
    for (; i < n; i++) t = x[i] > t ? x[i] : t;
    vf low = v_set(-t);
    for (i = 0; i + 16 <= n; i += 16) {
        float e[16];
        vf a = v_exp(v_add(v_load(x + i), low));
        v_store(e, a);
        for (int k = 0; k < 16; k++) P[k] += (double)e[k];
        if (y) v_store(y + i, a);
    }
    for (; i < n; i++) {
        float e = fexp(x[i] - t);
        P[i % 16] += (double)e;
        if (y) y[i] = e;
    }
    for (int h = 8; h; h /= 2)
        for (int k = 0; k < h; k++) P[k] += P[k + h];
    *top = t;
    return P[0];
}

static void KERN(scale)(float *y, float s, int64_t n)
{
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) v_store(y + i, v_mul(v_load(y + i), v_set(s)));
    for (; i < n; i++) y[i] *= s;
}

static void KERN(grad_fill)(kern *k)
{
    k->from_bf16 = KERN(from_bf16);
    k->grad_f32 = KERN(grad_f32);
    k->grad_bf16 = KERN(grad_bf16);
    k->rmsnorm_grad = KERN(rmsnorm_grad);
    k->swiglu_grad = KERN(swiglu_grad);
    k->attn_grad = KERN(attn_grad);
    k->dot = KERN(dot);
#ifdef V_TURN
    k->transpose = KERN(transpose);
#endif
    k->exp_sum = KERN(exp_sum);
    k->scale = KERN(scale);
}
