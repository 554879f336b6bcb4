/* quant_body.h - quantisers by search: floats to blocks with the least importance-weighted
 * squared error, sum of w (x - y)^2. Included after a lane_*.h; QUANT(name) names the functions.
 * quant_plain_body.h has the types that are only rounded, quant_iq_body.h those with tables.
 *
 * Sixteen groups of weights (a set) are worked on side by side, one a lane; x[j] is weight j of
 * every group. No operation mixes lanes and sums over a super-block are made in ascending order,
 * so the bytes are the same on every level. docs/quantize.md tells the search as a story:
 *
 *   1. each group alone: some scales (and minima) are tried, each gives integers, the integers
 *      give the best real scale by least squares; the best is refined until it stands still;
 *   2. the super-block's scale: the one that rounds its groups' scales best;
 *   3. each group again, with the scale rounded as the block holds it: its integer neighbours are
 *      tried and the true error is measured;
 *   4. the super-block's scale by least squares, given all integers; 3 again if that is better. */
#include <math.h>
#include <stdbool.h>
#include "base/block_pack.h"
#include "base/iq_grid.h"
#include "kern/kern.h"

/* The passes over a set are functions of their own: inlined, the searches would unroll into
 * hundreds of kilobytes. */
#define QUANT_PASS static __attribute__((noinline))
#define QUANT_INLINE static inline __attribute__((always_inline))
#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

/* A set: group i's value j is at [j * LANES + i]. */
typedef struct { _Alignas(64) float x[32 * LANES], w[32 * LANES]; } group_set;

/* Groups at, at+1, … of n, each of `per` values, from consecutive rows of K; lanes beyond the end
 * repeat the last. w: K weights, or NULL: all 1. Returns how many lanes are real. */
QUANT_PASS int set_load(group_set *s, const float *x, const float *w, int per, int64_t at,
                          int64_t n, int64_t K)
{
    const float *fx[LANES], *fw[LANES];
    int live = n - at < LANES ? (int)(n - at) : LANES;
    for (int i = 0; i < LANES; i++) {
        int64_t g = at + (i < live ? i : live - 1);
        fx[i] = x + g * per;
        fw[i] = w ? w + g * per % K : NULL;
    }
    for (int h = 0; h < per; h += 16) {
        l_turn(s->x + h * LANES, fx);
        if (w) l_turn(s->w + h * LANES, fw);
        for (int i = 0; i < LANES; i++) fx[i] += 16, fw[i] = w ? fw[i] + 16 : NULL;
    }
    if (!w)
        for (int j = 0; j < per; j++) l_store(s->w + j * LANES, l_set(1));
    return live;
}

/* Weights for a set that has none: w = |x| + its group's mean. Inputs tend to be large where the
 * weights are, and with few bits that is felt (docs/decisions/023 and 032). */
QUANT_PASS void set_weigh(group_set *s, int per)
{
    lf sum = l_set(0);
    for (int j = 0; j < per; j++) sum = l_add(sum, l_abs(l_load(s->x + j * LANES)));
    sum = l_mul(sum, l_set(1 / (float)per));
    for (int j = 0; j < per; j++)
        l_store(s->w + j * LANES, l_add(l_abs(l_load(s->x + j * LANES)), sum));
}

QUANT_INLINE lf inverse(lf d)                    /* 1 / d; 0 for 0 */
{
    lf zero = l_set(0);
    lm some = l_lt(zero, l_abs(d));
    return l_sel(some, l_div(l_set(1), l_sel(some, d, l_set(1))), zero);
}

QUANT_INLINE lf clamp(lf q, float lo, float hi) { return l_min(l_max(q, l_set(lo)), l_set(hi)); }

/* The value of largest magnitude of each group, with its sign. */
QUANT_PASS lf extreme(const group_set *s, int per)
{
    lf best = l_load(s->x);
    for (int j = 1; j < per; j++) {
        lf x = l_load(s->x + j * LANES);
        best = l_sel(l_lt(l_abs(best), l_abs(x)), x, best);
    }
    return best;
}

/* ---- types that say d q, q from -n to n-1, or, n 0: one of IQ4_VALUES ---- */

static const float iq4_values[] = { IQ4_VALUES };

QUANT_INLINE lf code_of(lf v, float n)           /* the nearest q */
{
    if (n != 0) return clamp(l_round(v), -n, n - 1);
    lf q = l_set(iq4_values[0]);
    for (int i = 1; i < 16; i++)
        q = l_sel(l_lt(l_set((iq4_values[i - 1] + iq4_values[i]) / 2), v), l_set(iq4_values[i]), q);
    return q;
}

/* With q = x inv rounded: the sums of w x q and w q q. */
QUANT_INLINE void scale_sums_n(const group_set *s, int per, float n, lf inv, lf *xq, lf *qq)
{
    lf a = l_set(0), b = l_set(0);
    for (int j = 0; j < per; j++) {
        lf x = l_load(s->x + j * LANES), w = l_load(s->w + j * LANES);
        lf q = code_of(l_mul(x, inv), n), wq = l_mul(w, q);
        a = l_fma(wq, x, a);
        b = l_fma(wq, q, b);
    }
    *xq = a, *qq = b;
}

QUANT_PASS void scale_sums(const group_set *s, int per, float n, lf inv, lf *xq, lf *qq)
{
    if (n != 0) scale_sums_n(s, per, n, inv, xq, qq);
    else scale_sums_n(s, per, 0, inv, xq, qq);
}

/* Keep inv's integers if they explain more: score is what d q takes off the error. */
QUANT_PASS void scale_try(const group_set *s, int per, float n, lf inv, lf *d, lf *score)
{
    lf xq, qq;
    scale_sums(s, per, n, inv, &xq, &qq);
    lf t = l_mul(xq, inverse(qq)), gain = l_mul(t, xq);
    lm better = l_lt(*score, gain);
    *d = l_sel(better, t, *d);
    *score = l_sel(better, gain, *score);
}

QUANT_PASS lf scale_search(const group_set *s, int per, float n, const float *ends, int n_ends,
                             int refine)
{
    lf base = inverse(extreme(s, per)), d = l_set(0), score = l_set(0);
    for (int c = 0; c < n_ends; c++) scale_try(s, per, n, l_mul(base, l_set(ends[c])), &d, &score);
    for (int r = 0; r < refine; r++) scale_try(s, per, n, inverse(d), &d, &score);
    return d;
}

/* The integers for scale d, plus n, as bytes q[j][i]; n 0: the values' places. */
QUANT_PASS void scale_bytes(const group_set *s, int per, float n, lf d, uint8_t *q)
{
    lf inv = inverse(d);
    if (n == 0) {
        for (int j = 0; j < per; j++) {
            lf v = l_mul(l_load(s->x + j * LANES), inv), c = l_set(0);
            for (int i = 1; i < 16; i++)
                c = l_sel(l_lt(l_set((iq4_values[i - 1] + iq4_values[i]) / 2), v),
                          l_set((float)i), c);
            l_bytes(q + j * LANES, c);
        }
        return;
    }
    for (int j = 0; j < per; j++) {
        lf v = clamp(l_round(l_mul(l_load(s->x + j * LANES), inv)), -n, n - 1);
        l_bytes(q + j * LANES, l_add(v, l_set(n)));
    }
}

/* Group i's bytes, in order. */
QUANT_PASS void lane_bytes(const uint8_t *q, int per, int i, uint8_t *out)
{
    for (int j = 0; j < per; j++) out[j] = q[j * LANES + i];
}

static const float ends_4[] = { -7, -7.3f, -7.6f, -7.85f, -8, -8.15f, -8.35f, -8.6f, -9,
                                6.8f, 7.1f, 7.4f };
static const float ends_5[] = { -14.8f, -15.2f, -15.6f, -15.85f, -16, -16.15f, -16.4f, -16.8f,
                                15.3f };

QUANT_INLINE void put_half(uint16_t *h, float d) { *h = f32_to_f16(d + 0.0f); }

/* Blocks of 32 that are a scale and codes: of four bits, or for n 16 of five. */
QUANT_PASS void scale_blocks(void *dst, const float *x, const float *w, int64_t rows, int64_t K,
                             float n, const float *ends, int n_ends)
{
    uint8_t *p = dst;
    int64_t all = rows * K / 32;
    for (int64_t at = 0; at < all; at += LANES) {
        group_set s;
        uint8_t q[32 * LANES], one[32];
        float d[LANES];
        int live = set_load(&s, x, w, 32, at, all, K);
        lf dl = l_f16(scale_search(&s, 32, n, ends, n_ends, 2));
        scale_bytes(&s, 32, n, dl, q);
        l_store(d, dl);
        for (int i = 0; i < live; i++) {
            block_q4_0 b4;                       /* and IQ4_NL's, whose codes are places */
            block_q5_0 b5;
            lane_bytes(q, 32, i, one);
            if (n == 16) {
                put_half(&b5.d, d[i]);
                block_put_5(b5.qh, b5.qs, one);
                memcpy(p, &b5, sizeof b5);
                p += sizeof b5;
            } else {
                put_half(&b4.d, d[i]);
                block_put_4(b4.qs, one);
                memcpy(p, &b4, sizeof b4);
                p += sizeof b4;
            }
        }
    }
}

static void QUANT(q4_0)(void *dst, const float *x, const float *w, int64_t rows, int64_t K)
{
    if (w) scale_blocks(dst, x, w, rows, K, 8, ends_4, COUNT(ends_4));
    else plain_q4_0(dst, x, rows * K / 32);
}

static void QUANT(q5_0)(void *dst, const float *x, const float *w, int64_t rows, int64_t K)
{
    if (w) scale_blocks(dst, x, w, rows, K, 16, ends_5, COUNT(ends_5));
    else plain_q5_0(dst, x, rows * K / 32);
}

/* ---- super-blocks of sixteen groups that say d t q, t from -m to m-1 ---- */

/* The scale of a super-block that rounds its groups' scales best: least sum of a (s - D t)^2
 * over candidates, of which each lane tries one. smax: t goes from -smax to smax-1, or from 0 to
 * smax when `plus`. */
QUANT_PASS float super_scale(const float *s, const float *a, int groups, float smax, bool plus)
{
    float ext = 0;
    for (int g = 0; g < groups; g++)
        if ((s[g] < 0 ? -s[g] : s[g]) > (ext < 0 ? -ext : ext)) ext = s[g];
    if (ext == 0) return 0;
    float end[LANES], err[LANES], fd[LANES];
    for (int i = 0; i < LANES; i++)
        end[i] = plus ? smax + 0.6f - 0.1f * (float)i : -(smax + 0.6f - 0.1f * (float)i);
    lf inv = l_mul(l_load(end), l_div(l_set(1), l_set(ext))), D = l_f16(inverse(inv)), e = l_set(0);
    inv = inverse(D);
    for (int g = 0; g < groups; g++) {
        lf t = l_round(l_mul(l_set(s[g]), inv));
        t = plus ? clamp(t, 0, smax) : clamp(t, -smax, smax - 1);
        lf diff = l_fnma(D, t, l_set(s[g]));
        e = l_fma(l_mul(l_set(a[g]), diff), diff, e);
    }
    l_store(err, e);
    l_store(fd, D);
    int best = 0;
    for (int i = 1; i < LANES; i++)
        if (err[i] < err[best]) best = i;
    return fd[best];
}

/* The error of scale d. */
QUANT_INLINE lf scale_error_n(const group_set *s, int per, float n, lf d)
{
    lf inv = inverse(d), e = l_set(0);
    for (int j = 0; j < per; j++) {
        lf x = l_load(s->x + j * LANES), w = l_load(s->w + j * LANES);
        lf q = code_of(l_mul(x, inv), n), diff = l_fnma(d, q, x);
        e = l_fma(l_mul(w, diff), diff, e);
    }
    return e;
}

QUANT_PASS lf scale_error(const group_set *s, int per, float n, lf d)
{
    return n != 0 ? scale_error_n(s, per, n, d) : scale_error_n(s, per, 0, d);
}

/* Of t0 and its neighbours the one with the least error. */
QUANT_PASS lf near_scale(const group_set *s, int per, float n, lf D, lf t0, float smax, lf *err)
{
    lf best = t0, e = scale_error(s, per, n, l_mul(D, t0));
    for (int o = -1; o <= 1; o += 2) {
        lf t = clamp(l_add(t0, l_set((float)o)), -smax, smax - 1);
        lf v = scale_error(s, per, n, l_mul(D, t));
        lm better = l_lt(v, e);
        e = l_sel(better, v, e);
        best = l_sel(better, t, best);
    }
    *err = e;
    return best;
}

QUANT_INLINE float lane_sum(lf a, int from, int n)
{
    float v[LANES], s = 0;
    l_store(v, a);
    for (int i = from; i < from + n; i++) s += v[i];
    return s;
}

/* One set: 16 / (256 / per) super-blocks. Their D into the lanes of d, their t and bytes. */
QUANT_PASS void signed_super(const group_set *s, int per, float n, float smax, const float *ends,
                             int n_ends, float d[LANES], float t_out[LANES], uint8_t *q)
{
    int groups = 256 / per;
    lf ds = scale_search(s, per, n, ends, n_ends, 2), xq, qq, err;
    float sc[LANES], a[LANES];
    scale_sums(s, per, n, inverse(ds), &xq, &qq);
    l_store(sc, ds);
    l_store(a, qq);
    for (int o = 0; o < LANES; o += groups) {
        float D = super_scale(sc + o, a + o, groups, smax, false);
        for (int i = o; i < o + groups; i++) d[i] = D;
    }
    lf t = clamp(l_round(l_mul(ds, inverse(l_load(d)))), -smax, smax - 1);
    t = near_scale(s, per, n, l_load(d), t, smax, &err);
    for (int r = 0; r < 2; r++) {
        float d2[LANES], keep[LANES];
        scale_sums(s, per, n, inverse(l_mul(l_load(d), t)), &xq, &qq);
        for (int o = 0; o < LANES; o += groups) {
            float num = lane_sum(l_mul(t, xq), o, groups);
            float den = lane_sum(l_mul(l_mul(t, t), qq), o, groups);
            float D = den > 0 ? f16_to_f32(f32_to_f16(num / den)) : 0;
            for (int i = o; i < o + groups; i++) d2[i] = D;
        }
        lf e2, t2 = near_scale(s, per, n, l_load(d2), t, smax, &e2);
        for (int o = 0; o < LANES; o += groups) {
            bool better = lane_sum(e2, o, groups) < lane_sum(err, o, groups);
            for (int i = o; i < o + groups; i++) {
                keep[i] = better ? 1 : 0;
                if (better) d[i] = d2[i];
            }
        }
        lm k = l_lt(l_set(0), l_load(keep));
        t = l_sel(k, t2, t), err = l_sel(k, e2, err);
    }
    l_store(t_out, t);
    scale_bytes(s, per, n, l_mul(l_load(d), t), q);
}

/* Sixteen groups of sixteen, or eight of thirty-two from lane `from`, in order. */
QUANT_PASS void super_bytes(const uint8_t *q, int per, int from, uint8_t out[256])
{
    for (int g = 0; g < 256 / per; g++) lane_bytes(q, per, from + g, out + g * per);
}

static const float ends_3[] = { -3.1f, -3.35f, -3.6f, -3.8f, -4, -4.2f, -4.45f, -4.75f,
                                2.6f, 2.85f, 3.1f, 3.4f };
static const float ends_6[] = { -31, -31.3f, -31.6f, -31.8f, -32, -32.2f, -32.5f, -32.9f };

static void QUANT(q3_k)(void *dst, const float *x, const float *w, int64_t rows, int64_t K)
{
    block_q3_k *b = dst;
    for (int64_t at = 0; at < rows * K / 16; at += LANES, b++) {
        group_set s;
        uint8_t q[16 * LANES], all[256], sc[16];
        float t[LANES], d[LANES];
        block_q3_k o;
        set_load(&s, x, w, 16, at, rows * K / 16, K);
        if (!w) set_weigh(&s, 16);
        signed_super(&s, 16, 4, 32, ends_3, COUNT(ends_3), d, t, q);
        put_half(&o.d, d[0]);
        for (int g = 0; g < 16; g++) sc[g] = (uint8_t)(int)(t[g] + 32);
        super_bytes(q, 16, 0, all);
        block_put_k3(&o, all, sc);
        memcpy(b, &o, sizeof o);
    }
}

static void QUANT(q6_k)(void *dst, const float *x, const float *w, int64_t rows, int64_t K)
{
    block_q6_k *b = dst;
    for (int64_t at = 0; at < rows * K / 16; at += LANES, b++) {
        group_set s;
        uint8_t q[16 * LANES], all[256];
        int8_t sc[16];
        float t[LANES], d[LANES];
        block_q6_k o;
        set_load(&s, x, w, 16, at, rows * K / 16, K);
        signed_super(&s, 16, 32, 128, ends_6, COUNT(ends_6), d, t, q);
        put_half(&o.d, d[0]);
        for (int g = 0; g < 16; g++) sc[g] = (int8_t)t[g];
        super_bytes(q, 16, 0, all);
        block_put_k6(&o, all, sc);
        memcpy(b, &o, sizeof o);
    }
}

/* ---- types that say d q + b, q from 0 to n ---- */

/* x of the set less each group's weighted mean: sums of products then lose nothing to a common
 * offset. */
typedef struct { lf w, mean, lo, hi; } group_stats;

QUANT_PASS group_stats stats_of(const group_set *s, int per)
{
    lf w = l_load(s->w), x = l_load(s->x), sx = l_mul(w, x);
    group_stats g = { .w = w, .lo = x, .hi = x };
    for (int j = 1; j < per; j++) {
        x = l_load(s->x + j * LANES), w = l_load(s->w + j * LANES);
        g.w = l_add(g.w, w);
        sx = l_fma(w, x, sx);
        g.lo = l_min(g.lo, x), g.hi = l_max(g.hi, x);
    }
    g.mean = l_mul(sx, inverse(g.w));
    return g;
}

typedef struct { lf q, qq, xq; } affine_sum;     /* of w q, w q q, w (x - mean) q */

QUANT_PASS affine_sum affine_sums(const group_set *s, const group_stats *g, int per, float n,
                                    lf inv, lf b)
{
    affine_sum a = { l_set(0), l_set(0), l_set(0) };
    lf off = l_sub(l_set(0), l_mul(b, inv));
    for (int j = 0; j < per; j++) {
        lf x = l_load(s->x + j * LANES), w = l_load(s->w + j * LANES);
        lf q = clamp(l_round(l_fma(x, inv, off)), 0, n), wq = l_mul(w, q);
        a.q = l_add(a.q, wq);
        a.qq = l_fma(wq, q, a.qq);
        a.xq = l_fma(wq, l_sub(x, g->mean), a.xq);
    }
    return a;
}

typedef struct { lf d, b, score; } affine_fit;

/* Keep the integers of (inv, b) if their least-squares line explains more. With `minus` the line
 * must not start above 0: then it goes through 0 instead. */
QUANT_PASS void affine_try(const group_set *s, const group_stats *g, int per, float n, lf inv,
                             lf b, bool minus, affine_fit *f)
{
    affine_sum a = affine_sums(s, g, per, n, inv, b);
    lf det = l_sub(l_mul(g->w, a.qq), l_mul(a.q, a.q));
    lf d = l_mul(l_mul(g->w, a.xq), inverse(det)), gain = l_mul(d, a.xq);
    lf nb = l_sub(g->mean, l_mul(d, l_mul(a.q, inverse(g->w))));
    if (minus) {
        lf xq = l_fma(g->mean, a.q, a.xq), d0 = l_mul(xq, inverse(a.qq));
        lf gain0 = l_sub(l_mul(d0, xq), l_mul(l_mul(g->mean, g->mean), g->w));
        lm up = l_lt(l_set(0), nb);
        d = l_sel(up, d0, d);
        nb = l_sel(up, l_set(0), nb);
        gain = l_sel(up, gain0, gain);
    }
    lm better = l_lt(f->score, gain);
    f->d = l_sel(better, d, f->d);
    f->b = l_sel(better, nb, f->b);
    f->score = l_sel(better, gain, f->score);
}

/* Ranges tried: by how many steps they start above the least and end below the largest value. */
typedef struct { float lo, hi; } cut_ends;

QUANT_PASS affine_fit affine_search(const group_set *s, const group_stats *g, int per, float n,
                                      const cut_ends *c, int n_c, int refine, bool minus)
{
    lf lo = minus ? l_min(g->lo, l_set(0)) : g->lo, span = l_sub(g->hi, lo);
    lf step = l_mul(span, l_set(1 / n)), inv0 = inverse(span);
    affine_fit f = { l_set(0), minus ? l_min(g->mean, l_set(0)) : g->mean, l_set(-INFINITY) };
    for (int i = 0; i < n_c; i++) {
        lf inv = l_mul(inv0, l_set(n * n / (n - c[i].lo - c[i].hi)));
        affine_try(s, g, per, n, inv, l_fma(step, l_set(c[i].lo), lo), minus, &f);
    }
    for (int r = 0; r < refine; r++) affine_try(s, g, per, n, inverse(f.d), f.b, minus, &f);
    return f;
}

QUANT_PASS void affine_bytes(const group_set *s, int per, float n, lf d, lf b, uint8_t *q)
{
    lf inv = inverse(d), off = l_sub(l_set(0), l_mul(b, inv));
    for (int j = 0; j < per; j++)
        l_bytes(q + j * LANES,
                clamp(l_round(l_fma(l_load(s->x + j * LANES), inv, off)), 0, n));
}

static const cut_ends cuts_4[] = { { 0, 0 }, { -.3f, -.3f }, { .3f, .3f }, { .55f, .55f },
    { .8f, .8f }, { 0, .5f }, { .5f, 0 }, { 1.1f, .4f }, { .4f, 1.1f }, { -.4f, .4f } };
static const cut_ends cuts_5[] = { { 0, 0 }, { -.3f, -.3f }, { .3f, .3f }, { .6f, .6f },
    { 0, .6f }, { .6f, 0 }, { -.4f, .4f }, { 1.1f, 1.1f }, { 0, -1.03f }, { -.5f, -.53f } };

QUANT_PASS void affine_blocks(void *dst, const float *x, const float *w, int64_t rows, int64_t K,
                                bool five)
{
    uint8_t *p = dst;
    int64_t n = rows * K / 32;
    float top = five ? 31 : 15;
    for (int64_t at = 0; at < n; at += LANES) {
        group_set s;
        uint8_t q[32 * LANES], one[32];
        float d[LANES], m[LANES];
        int live = set_load(&s, x, w, 32, at, n, K);
        group_stats g = stats_of(&s, 32);
        affine_fit f = five ? affine_search(&s, &g, 32, top, cuts_5, COUNT(cuts_5), 2, false)
                            : affine_search(&s, &g, 32, top, cuts_4, COUNT(cuts_4), 2, false);
        lf dl = l_f16(f.d), ml = l_f16(f.b);
        affine_bytes(&s, 32, top, dl, ml, q);
        l_store(d, dl);
        l_store(m, ml);
        for (int i = 0; i < live; i++) {
            block_q4_1 b4;
            block_q5_1 b5;
            lane_bytes(q, 32, i, one);
            if (five) {
                put_half(&b5.d, d[i]), put_half(&b5.m, m[i]);
                block_put_5(b5.qh, b5.qs, one);
                memcpy(p, &b5, sizeof b5);
                p += sizeof b5;
            } else {
                put_half(&b4.d, d[i]), put_half(&b4.m, m[i]);
                block_put_4(b4.qs, one);
                memcpy(p, &b4, sizeof b4);
                p += sizeof b4;
            }
        }
    }
}

static void QUANT(q4_1)(void *dst, const float *x, const float *w, int64_t rows, int64_t K)
{
    if (!w) {
        plain_q4_1(dst, x, rows * K / 32);
        return;
    }
    affine_blocks(dst, x, w, rows, K, false);
}

static void QUANT(q5_1)(void *dst, const float *x, const float *w, int64_t rows, int64_t K)
{
    if (!w) {
        plain_q5_1(dst, x, rows * K / 32);
        return;
    }
    affine_blocks(dst, x, w, rows, K, true);
}

/* ---- super-blocks that say D t q - M u, t and u from 0 to smax ---- */

QUANT_PASS lf affine_error(const group_set *s, int per, float n, lf d, lf b)
{
    lf inv = inverse(d), off = l_sub(l_set(0), l_mul(b, inv)), e = l_set(0);
    for (int j = 0; j < per; j++) {
        lf x = l_load(s->x + j * LANES), w = l_load(s->w + j * LANES);
        lf q = clamp(l_round(l_fma(x, inv, off)), 0, n), diff = l_sub(l_fnma(d, q, x), b);
        e = l_fma(l_mul(w, diff), diff, e);
    }
    return e;
}

typedef struct { lf t, u, err; } affine_pair;    /* a group's two integers, and their error */

QUANT_INLINE void pair_try(const group_set *s, int per, float n, lf D, lf M, lf t, lf u,
                           affine_pair *best)
{
    lf e = affine_error(s, per, n, l_mul(D, t), l_sub(l_set(0), l_mul(M, u)));
    lm better = l_lt(e, best->err);
    best->err = l_sel(better, e, best->err);
    best->t = l_sel(better, t, best->t);
    best->u = l_sel(better, u, best->u);
}

/* The integers near (t0, u0): for each t the minimum that keeps the group's mean, and then the
 * neighbours of the best u. q: the group's mean integer. */
QUANT_PASS affine_pair near_pair(const group_set *s, const group_stats *g, int per, float n,
                                   lf D, lf M, lf t0, lf u0, lf q, float smax)
{
    affine_pair best = { t0, u0, l_set(INFINITY) };
    lf im = inverse(M);
    pair_try(s, per, n, D, M, t0, u0, &best);
    for (int o = -1; o <= 1; o++) {
        lf t = clamp(l_add(t0, l_set((float)o)), 0, smax);
        lf u = l_round(l_mul(l_sub(l_mul(l_mul(D, t), q), g->mean), im));
        pair_try(s, per, n, D, M, t, clamp(u, 0, smax), &best);
    }
    lf u = best.u;
    for (int o = -1; o <= 1; o += 2)
        pair_try(s, per, n, D, M, best.t, clamp(l_add(u, l_set((float)o)), 0, smax), &best);
    return best;
}

/* D and M of the super-block in lanes from … from+groups-1 by least squares, given its integers.
 * Returns false where that has no solution. */
QUANT_PASS bool super_refit(const affine_pair *p, const group_stats *g, const affine_sum *a,
                              int from, int groups, float *D, float *M)
{
    lf xq = l_fma(g->mean, a->q, a->xq), tu = l_mul(p->t, p->u);
    double qq = lane_sum(l_mul(l_mul(p->t, p->t), a->qq), from, groups);
    double q1 = lane_sum(l_mul(tu, a->q), from, groups);
    double uu = lane_sum(l_mul(l_mul(p->u, p->u), g->w), from, groups);
    double bq = lane_sum(l_mul(p->t, xq), from, groups);
    double bu = lane_sum(l_mul(p->u, l_mul(g->mean, g->w)), from, groups);
    double det = qq * uu - q1 * q1, d, m;
    if (uu > 0 && det > 1e-6 * qq * uu) {
        d = (bq * uu - bu * q1) / det;
        m = (bq * q1 - bu * qq) / det;
    } else {
        if (!(qq > 0)) return false;
        d = bq / qq, m = *M;
    }
    if (!(d > 0) || !(m >= 0)) return false;
    *D = f16_to_f32(f32_to_f16((float)d)), *M = f16_to_f32(f32_to_f16((float)m));
    return *D > 0;
}

/* One set: 16 / (256 / per) super-blocks. Their D and M into the lanes of d and m. */
QUANT_PASS void affine_super(const group_set *s, int per, float n, float smax,
                               const cut_ends *c, int n_c, float d[LANES], float m[LANES],
                               uint8_t t_out[LANES], uint8_t u_out[LANES], uint8_t *q)
{
    int groups = 256 / per;
    group_stats g = stats_of(s, per);
    affine_fit f = affine_search(s, &g, per, n, c, n_c, 2, true);
    affine_sum a = affine_sums(s, &g, per, n, inverse(f.d), f.b);
    lf mean_q = l_mul(a.q, inverse(g.w)), low = l_sub(l_set(0), f.b);
    float ds[LANES], ms[LANES], cq[LANES], cw[LANES];
    l_store(ds, f.d);
    l_store(ms, low);
    l_store(cq, a.qq);
    l_store(cw, g.w);
    for (int o = 0; o < LANES; o += groups) {
        float D = super_scale(ds + o, cq + o, groups, smax, true);
        float M = super_scale(ms + o, cw + o, groups, smax, true);
        for (int i = o; i < o + groups; i++) d[i] = D, m[i] = M;
    }
    lf D = l_load(d), M = l_load(m);
    affine_pair p = near_pair(s, &g, per, n, D, M, clamp(l_round(l_mul(f.d, inverse(D))), 0, smax),
                              clamp(l_round(l_mul(low, inverse(M))), 0, smax), mean_q, smax);
    for (int r = 0; r < 2; r++) {
        float d2[LANES], m2[LANES], keep[LANES];
        a = affine_sums(s, &g, per, n, inverse(l_mul(D, p.t)), l_sub(l_set(0), l_mul(M, p.u)));
        mean_q = l_mul(a.q, inverse(g.w));
        for (int o = 0; o < LANES; o += groups) {
            float fd = d[o], fm = m[o];
            super_refit(&p, &g, &a, o, groups, &fd, &fm);
            for (int i = o; i < o + groups; i++) d2[i] = fd, m2[i] = fm;
        }
        affine_pair p2 = near_pair(s, &g, per, n, l_load(d2), l_load(m2), p.t, p.u, mean_q, smax);
        for (int o = 0; o < LANES; o += groups) {
            bool better = lane_sum(p2.err, o, groups) < lane_sum(p.err, o, groups);
            for (int i = o; i < o + groups; i++) {
                keep[i] = better ? 1 : 0;
                if (better) d[i] = d2[i], m[i] = m2[i];
            }
        }
        lm k = l_lt(l_set(0), l_load(keep));
        D = l_load(d), M = l_load(m);
        p.t = l_sel(k, p2.t, p.t), p.u = l_sel(k, p2.u, p.u), p.err = l_sel(k, p2.err, p.err);
    }
    l_bytes(t_out, p.t);
    l_bytes(u_out, p.u);
    affine_bytes(s, per, n, l_mul(D, p.t), l_sub(l_set(0), l_mul(M, p.u)), q);
}

static const cut_ends cuts_2[] = { { 0, 0 }, { .2f, .2f }, { .4f, .4f }, { .6f, .6f },
    { 0, .3f }, { .3f, 0 }, { 0, .6f }, { .6f, 0 }, { .3f, .6f }, { .6f, .3f }, { .85f, .85f },
    { -.3f, .3f }, { .3f, -.3f }, { -.2f, -.2f } };

static void QUANT(q2_k)(void *dst, const float *x, const float *w, int64_t rows, int64_t K)
{
    block_q2_k *b = dst;
    for (int64_t at = 0; at < rows * K / 16; at += LANES, b++) {
        group_set s;
        uint8_t q[16 * LANES], all[256], t[LANES], u[LANES];
        float d[LANES], m[LANES];
        block_q2_k o;
        set_load(&s, x, w, 16, at, rows * K / 16, K);
        affine_super(&s, 16, 3, 15, cuts_2, COUNT(cuts_2), d, m, t, u, q);
        put_half(&o.d, d[0]), put_half(&o.dmin, m[0]);
        super_bytes(q, 16, 0, all);
        block_put_k2(&o, all, t, u);
        memcpy(b, &o, sizeof o);
    }
}

QUANT_PASS void affine_k(void *dst, const float *x, const float *w, int64_t rows, int64_t K,
                           bool five)
{
    uint8_t *p = dst;
    int64_t n = rows * K / 32;
    for (int64_t at = 0; at < n; at += LANES) {
        group_set s;
        uint8_t q[32 * LANES], all[256], t[LANES], u[LANES];
        float d[LANES], m[LANES];
        int live = set_load(&s, x, w, 32, at, n, K);
        if (five) affine_super(&s, 32, 31, 63, cuts_5, COUNT(cuts_5), d, m, t, u, q);
        else affine_super(&s, 32, 15, 63, cuts_4, COUNT(cuts_4), d, m, t, u, q);
        for (int o = 0; o < live; o += 8) {
            block_q4_k b4;
            block_q5_k b5;
            super_bytes(q, 32, o, all);
            if (five) {
                put_half(&b5.d, d[o]), put_half(&b5.dmin, m[o]);
                block_put_k5(&b5, all, t + o, u + o);
                memcpy(p, &b5, sizeof b5);
                p += sizeof b5;
            } else {
                put_half(&b4.d, d[o]), put_half(&b4.dmin, m[o]);
                block_put_k4(&b4, all, t + o, u + o);
                memcpy(p, &b4, sizeof b4);
                p += sizeof b4;
            }
        }
    }
}

static void QUANT(q4_k)(void *dst, const float *x, const float *w, int64_t rows, int64_t K)
{
    affine_k(dst, x, w, rows, K, false);
}

static void QUANT(q5_k)(void *dst, const float *x, const float *w, int64_t rows, int64_t K)
{
    affine_k(dst, x, w, rows, K, true);
}
