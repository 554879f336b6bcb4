/* attn_body.h - one tile of attention for one type of cache, for one level. Included once a type
 * by kern_body.h, which has defined:
 *
 *     ATT(name)                names of this type
 *     KT                       elements of the cache
 *     K_LOAD(p), K_LOAD_N(p, n)
 *     WIDEN                    if KT is not float: the name that f32's ATT(attn) has
 *
 * ATT_R query rows go together. Scores have positions in lanes, outputs have d in lanes; each
 * element is a chain of its own, so neither changes any order. */

/* s (R,64) = q (R,hs) times k (hs,64) */
static inline __attribute__((always_inline)) void ATT(scores)(int R, float *s, const float *q,
                                                              int hs, const KT *k, att_ahead n)
{
    vf acc[ATT_R * 4];
    UNROLL(32)
    for (int i = 0; i < R * 4; i++) acc[i] = v_set(0);
    for (int d = 0; d < hs; d++, k += ATTN_TILE) {
        att_fetch(&n);
        vf kk[4];
        UNROLL(4)
        for (int i = 0; i < 4; i++) kk[i] = K_LOAD(k + 16 * i);
        UNROLL(8)
        for (int r = 0; r < R; r++) {
            vf b = v_set(q[r * hs + d]);
            UNROLL(4)
            for (int i = 0; i < 4; i++) acc[r * 4 + i] = v_fma(b, kk[i], acc[r * 4 + i]);
        }
    }
    UNROLL(32)
    for (int i = 0; i < R * 4; i++) v_store(s + 16 * i, acc[i]);
}

/* acc[r][0..16*W) = acc * c[r], then p[r][j] v[j] for j0 <= j < j1. tail: W is 1 and only
 * `tail` elements are there. */
static inline __attribute__((always_inline)) void ATT(weigh)(int R, int W, int tail, float *acc,
                                                             const float *c, const float *p,
                                                             const KT *v, int hs, int j0, int j1,
                                                             att_ahead n)
{
    vf a[ATT_R * 4];
    UNROLL(8)
    for (int r = 0; r < R; r++)
        UNROLL(4)
        for (int i = 0; i < W; i++) {
            const float *at = acc + r * hs + 16 * i;
            a[r * W + i] = v_mul(tail ? v_load_n(at, tail) : v_load(at), v_set(c[r]));
        }
    v += (size_t)j0 * (size_t)hs;
    for (int j = j0; j < j1; j++, v += hs) {
        att_fetch(&n);
        vf vv[4];
        UNROLL(4)
        for (int i = 0; i < W; i++) vv[i] = tail ? K_LOAD_N(v, tail) : K_LOAD(v + 16 * i);
        UNROLL(8)
        for (int r = 0; r < R; r++) {
            vf b = v_set(p[r * ATTN_TILE + j]);
            UNROLL(4)
            for (int i = 0; i < W; i++) a[r * W + i] = v_fma(b, vv[i], a[r * W + i]);
        }
    }
    UNROLL(8)
    for (int r = 0; r < R; r++)
        UNROLL(4)
        for (int i = 0; i < W; i++) {
            float *at = acc + r * hs + 16 * i;
            if (tail) v_store_n(at, a[r * W + i], tail);
            else v_store(at, a[r * W + i]);
        }
}

static inline __attribute__((always_inline)) void ATT(weigh_all)(int R, float *acc, const float *c,
                                                                 const float *p, const KT *v,
                                                                 int hs, int j0, int j1,
                                                                 att_ahead n)
{
    int d = 0;
    for (; d + 64 <= hs; d += 64, n.at += 64 * ATTN_TILE * n.lines)
        ATT(weigh)(R, 4, 0, acc + d, c, p, v + d, hs, j0, j1, n);
    n.lines = 0;
    for (; d + 16 <= hs; d += 16) ATT(weigh)(R, 1, 0, acc + d, c, p, v + d, hs, j0, j1, n);
    if (d < hs) ATT(weigh)(R, 1, hs - d, acc + d, c, p, v + d, hs, j0, j1, n);
}

static __attribute__((noinline)) void ATT(scores_of)(int R, float *s, const float *q, int hs,
                                                     const KT *k, att_ahead n)
{
    switch (R) {
#define CASE(r) case r: if ((r) <= ATT_R) ATT(scores)(r, s, q, hs, k, n); break;
    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#undef CASE
    }
}

static __attribute__((noinline)) void ATT(weigh_of)(int R, float *acc, const float *c,
                                                    const float *p, const KT *v, int hs, int j0,
                                                    int j1, att_ahead n)
{
    switch (R) {
#define CASE(r) case r: if ((r) <= ATT_R) ATT(weigh_all)(r, acc, c, p, v, hs, j0, j1, n); break;
    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#undef CASE
    }
}

/* Up to ATT_R rows. What all of them see goes together; what only some see before and after
 * it, row by row: a position that a row does not see must not touch its sums at all. */
static void ATT(rows)(int R, float *m, float *l, float *acc, const float *q, int hs, const KT *k,
                      const KT *v, const int *lo, const int *hi, float *p)
{
    float c[ATT_R];
    int from = 0, to = ATTN_TILE;
    if (k) ATT(scores_of)(R, p, q, hs, k, att_none);
    for (int r = 0; r < R; r++) {
        if (lo[r] < hi[r]) c[r] = soften(p + r * ATTN_TILE, m + r, l + r, lo[r], hi[r]);
        if (lo[r] > from) from = lo[r];
        if (hi[r] < to) to = hi[r];
    }
    if (from >= to) {
        for (int r = 0; r < R; r++)
            if (lo[r] < hi[r])
                ATT(weigh_of)(1, acc + r * hs, c + r, p + r * ATTN_TILE, v, hs, lo[r], hi[r],
                             att_none);
        return;
    }
    for (int r = 0; r < R; r++) {
        if (lo[r] == from) continue;
        ATT(weigh_of)(1, acc + r * hs, c + r, p + r * ATTN_TILE, v, hs, lo[r], from, att_none);
        c[r] = 1;
    }
    ATT(weigh_of)(R, acc, c, p, v, hs, from, to, att_none);
    for (int r = 0; r < R; r++) {
        if (hi[r] == to) continue;
        c[r] = 1;
        ATT(weigh_of)(1, acc + r * hs, c + r, p + r * ATTN_TILE, v, hs, to, hi[r], att_none);
    }
}

/* Rows that see the whole tile, up to ATT_BLOCK of them. First all scores, then all weights, so
 * that a tile's keys and then its values stay in the first cache; the first rows fetch the next
 * tile. */
static void ATT(whole)(int R, float *m, float *l, float *acc, const float *q, int hs, const KT *k,
                       const KT *v, float *p, att_ahead next_k, att_ahead next_v)
{
    float c[ATT_BLOCK];
    int r = 0;
    for (; k && r < R; r += ATT_R, next_k.lines = 0)
        ATT(scores_of)(least(R - r, ATT_R), p + r * ATTN_TILE, q + r * hs, hs, k, next_k);
    r = 0;
#ifdef V_QUADS
    for (; r + 4 <= R; r += 4) soften4(p + r * ATTN_TILE, m + r, l + r, c + r);
#endif
    for (; r < R; r++) c[r] = soften(p + r * ATTN_TILE, m + r, l + r, 0, ATTN_TILE);
    for (r = 0; r < R; r += ATT_R, next_v.lines = 0)
        ATT(weigh_of)(least(R - r, ATT_R), acc + r * hs, c + r, p + r * ATTN_TILE, v, hs, 0,
                      ATTN_TILE, next_v);
}

static void ATT(attn)(float *m, float *l, float *acc, const float *q, int R, int hs, const void *k,
                      const void *v, const int *lo, const int *hi, float *p, const void *next,
                      size_t next_bytes)
{
#ifdef WIDEN
    if (ATT_WIDEN && R > 4 * ATT_R && hs <= 96) {   /* many passes: as f32 once, exact */
        float *kf = p + R * ATTN_TILE, *vf32 = kf + ATTN_TILE * hs;
        const KT *kt = k, *vt = v;
        for (int i = 0; i < ATTN_TILE * hs; i += 16) {
            v_store(kf + i, K_LOAD(kt + i));
            v_store(vf32 + i, K_LOAD(vt + i));
        }
        WIDEN(m, l, acc, q, R, hs, kf, vf32, lo, hi, p, next, next_bytes);
        return;
    }
#endif
    if (!lo) {
        att_ahead next_k = att_none, next_v = att_none;
        if (next) {                     /* its first half while keys are read, if they are */
            size_t half = k ? next_bytes / 2 : 0;
            next_k = (att_ahead){ next, (int)((half / 64 + (size_t)hs - 1) / (size_t)hs) };
            next_v = (att_ahead){ (const char *)next + half,
                                  (int)(((next_bytes - half) / 64 + (size_t)hs - 1) / (size_t)hs) };
        }
        for (int r = 0; r < R; r += ATT_BLOCK, next_k.lines = next_v.lines = 0)
            ATT(whole)(least(R - r, ATT_BLOCK), m + r, l + r, acc + r * hs, q + r * hs, hs, k, v,
                       p + r * ATTN_TILE, next_k, next_v);
        return;
    }
    for (int r = 0; r < R; r += ATT_R)
        ATT(rows)(least(R - r, ATT_R), m + r, l + r, acc + r * hs, q + r * hs, hs, k, v, lo + r,
                  hi + r, p + r * ATTN_TILE);
}

#undef ATT
#undef KT
#undef K_LOAD
#undef K_LOAD_N
#undef WIDEN
