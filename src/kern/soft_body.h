/* soft_body.h - what attention does between its two products, and the exp it needs: scores become
 * weights. The includer has included a vec_*.h; everything here is static. */
#include <math.h>
#include <stddef.h>
#include "kern/fexp.h"
#include "kern/kern.h"
#include "kern/unroll.h"

/* of x that is at most FEXP_HI, or NaN */
static inline __attribute__((always_inline)) vf v_exp_low(vf x)
{
    vf n = v_round(v_mul(x, v_set(FEXP_LOG2E)));
    vf r = v_fma(n, v_set(-FEXP_LN2HI), x);
    r = v_fma(n, v_set(-FEXP_LN2LO), r);
    vf p = v_fma(v_set(FEXP_C6), r, v_set(FEXP_C5));
    p = v_fma(p, r, v_set(FEXP_C4));
    p = v_fma(p, r, v_set(FEXP_C3));
    p = v_fma(p, r, v_set(FEXP_C2));
    p = v_fma(p, r, v_set(1));
    p = v_fma(p, r, v_set(1));
    return v_zero_below(v_scale2(p, n), x, FEXP_LO);
}

static inline vf v_exp(vf x) { return v_exp_low(v_min(v_set(FEXP_HI), x)); }    /* NaN stays */

/* Scores of one row to p, in place; *m and *l move on; returns what older sums shrink by. */
static inline float soften(float *s, float *m, float *l, int lo, int hi)
{
    vf a[4], top = v_set(*m), none = v_set(-INFINITY);
    UNROLL(4)
    for (int i = 0; i < 4; i++) {
        a[i] = v_load(s + 16 * i);
        top = v_max(v_inside(a[i], none, 16 * i, lo, hi), top);
    }
    float new = v_max_all(top);
    vf t = v_set(-new);
    UNROLL(4)
    for (int i = 0; i < 4; i++) {
        a[i] = v_inside(v_exp(v_add(a[i], t)), v_set(0), 16 * i, lo, hi);
        v_store(s + 16 * i, a[i]);
    }
    float c = fexp(*m - new), old = *l * c;
    *l = old + v_tree(v_add(v_add(v_add(a[0], a[1]), a[2]), a[3]));
    *m = new;
    return c;
}

#ifdef V_QUADS
/* soften of four rows that see the whole tile; c (4,). */
static inline void soften4(float *s, float *m, float *l, float *c)
{
    vf top[4], sum[4], old = quad_load(m);
    UNROLL(4)
    for (int r = 0; r < 4; r++) {
        top[r] = v_set(m[r]);
        UNROLL(4)
        for (int i = 0; i < 4; i++) top[r] = v_max(v_load(s + r * ATTN_TILE + 16 * i), top[r]);
    }
    vf new = quad_max(top[0], top[1], top[2], top[3]), neg = v_neg(new);
    vf shrink = v_exp_low(v_add(old, neg));
    UNROLL(4)
    for (int r = 0; r < 4; r++) {
        vf a[4], t = quad_row(neg, r);
        UNROLL(4)
        for (int i = 0; i < 4; i++) {
            a[i] = v_exp_low(v_add(v_load(s + r * ATTN_TILE + 16 * i), t));
            v_store(s + r * ATTN_TILE + 16 * i, a[i]);
        }
        sum[r] = v_add(v_add(v_add(a[0], a[1]), a[2]), a[3]);
    }
    quad_store(l, v_add(v_mul(quad_load(l), shrink), quad_tree(sum[0], sum[1], sum[2], sum[3])));
    quad_store(m, new);
    quad_store(c, shrink);
}
#endif

/* What will be read soon, fetched a few lines at a step so that it never waits for anything. */
typedef struct { const char *at; int lines; } att_ahead;
static const att_ahead att_none = { NULL, 0 };
static inline __attribute__((always_inline)) void att_fetch(att_ahead *n)
{
    for (int i = 0; i < n->lines; i++, n->at += 64) __builtin_prefetch(n->at, 0, 3);
}
