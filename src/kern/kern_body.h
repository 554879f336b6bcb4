/* kern_body.h - the float kernels, written once for sixteen lanes. The includer has defined
 * KERN(name) and included a vec_*.h; everything here is static.
 *
 * Sixteen lanes on every level, whatever a register holds: a level may not change the order of
 * additions (docs/numerics.md). */
#include <math.h>
#include <stdbool.h>
#include <string.h>
#include "base/half.h"
#include "kern/fexp.h"
#include "kern/kern.h"
#include "kern/unroll.h"
#include "kern/soft_body.h"

/* ---- products ---- */

#define MUL(name) KERN(f32_##name)
#define WT float
#define XT float
#define WV vf
#define XV vf
#define W_LOAD v_load
#define W_LOAD_N v_load_n
#define X_LOAD v_load
#define X_LOAD_N v_load_n
#define MAC v_fma
#define STEP 16
#include "kern/mul_body.h"

#define MUL(name) KERN(f16_##name)
#define WT uint16_t
#define XT float
#define WV vf
#define XV vf
#define W_LOAD v_load_f16
#define W_LOAD_N v_load_f16_n
#define X_LOAD v_load
#define X_LOAD_N v_load_n
#define MAC v_fma
#define STEP 16
#include "kern/mul_body.h"

#define MUL(name) KERN(bf16_##name)
#define WT uint16_t
#define XT uint16_t
#define WV vh
#define XV vh
#define W_LOAD h_load
#define W_LOAD_N h_load_n
#define X_LOAD h_load
#define X_LOAD_N h_load_n
#define MAC h_dot
#define STEP 32
#include "kern/mul_body.h"

#ifdef V_F8
#define MUL(name) KERN(f8_##name)
#define WT uint8_t
#define XT float
#define WV v8
#define XV v8
#define W_LOAD v8_load_f8
#define W_LOAD_N v8_load_f8_n
#define X_LOAD v8_load
#define X_LOAD_N v8_load_n
#define MAC v8_fma
#define STEP V8
#include "kern/mul_body.h"

/* A block of F8 rows as f32, exact: (R,K) at f. */
static void KERN(widen8)(float *f, const uint8_t *w, size_t ldw, int R, int K, size_t ldf)
{
    for (int r = 0; r < R; r++, w += ldw, f += ldf) {
        int k = 0;
        for (; k + V8 <= K; k += V8) v8_store(f + k, v8_load_f8(w + k));
        if (k < K) v8_store_n(f + k, v8_load_f8_n(w + k, K - k), K - k);
    }
}
#endif

static int least(int a, int b) { return a < b ? a : b; }

/* A block of F16 rows as f32, exact: (R,K) at f. */
static void KERN(widen)(float *f, const uint16_t *w, size_t ldw, int R, int K, size_t ldf)
{
    for (int r = 0; r < R; r++, w += ldw, f += ldf) {
        int k = 0;
        for (; k + 16 <= K; k += 16) v_store(f + k, v_load_f16(w + k));
        if (k < K) v_store_n(f + k, v_load_f16_n(w + k, K - k), K - k);
    }
}

/* Few inputs: the weights pass once, a row after the other, as memory likes it. Many: blocks
 * of MUL_ROWS x MUL_COLS outputs over MUL_KC bytes of K. */
#define DRIVER(type, wt, xt, xs, ld, kc, block_of_k) \
static void KERN(mul_##type)(float *y, size_t ldy, const void *weights, size_t row_bytes, int R, \
                             const act *a, void *scratch) \
{ \
    const wt *w = weights; \
    const xt *x = xs; \
    size_t ldw = row_bytes / sizeof *w, ldx = ld; \
    vf *P = scratch; \
    if (a->N <= MUL_C) { \
        KERN(type##_block)(w, ldw, R, 1, x, ldx, a->N, a->K, P, true, true, y, ldy); \
        return; \
    } \
    for (int n = 0; n < a->N; n += MUL_COLS) \
        for (int r = 0; r < R; r += MUL_ROWS) \
            for (int k = 0; k < a->K; k += kc) { \
                int nn = least(a->N - n, MUL_COLS), rr = least(R - r, MUL_ROWS); \
                int kk = least(a->K - k, kc); \
                bool first = k == 0, last = k + kk == a->K; \
                const wt *wb = w + (size_t)r * ldw + k; \
                const xt *xb = x + (size_t)n * ldx + k; \
                float *yb = y + (size_t)n * ldy + r; \
                block_of_k; \
            } \
}
enum { KC32 = MUL_KC / 4, KC16 = MUL_KC / 2 };
DRIVER(f32, float, float, a->x, a->ldx, KC32,
       KERN(f32_block)(wb, ldw, rr, MUL_R, xb, ldx, nn, kk, P, first, last, yb, ldy))
DRIVER(bf16, uint16_t, uint16_t, a->bf, ((size_t)a->K + 31) / 32 * 32, KC16,
       KERN(bf16_block)(wb, ldw, rr, MUL_R, xb, ldx, nn, kk, P, first, last, yb, ldy))
DRIVER(f16, uint16_t, float, a->x, a->ldx, KC32,
       float *f = (float *)(P + MUL_ROWS * MUL_COLS);
       KERN(widen)(f, wb, ldw, rr, kk, (size_t)kk + 16);
       KERN(f32_block)(f, (size_t)kk + 16, rr, MUL_R, xb, ldx, nn, kk, P, first, last, yb, ldy))
#ifdef V_F8
DRIVER(f8, uint8_t, float, a->x, a->ldx, KC32,
       float *f = (float *)(P + MUL_ROWS * MUL_COLS);
       KERN(widen8)(f, wb, ldw, rr, kk, (size_t)kk + 16);
       KERN(f32_block)(f, (size_t)kk + 16, rr, MUL_R, xb, ldx, nn, kk, P, first, last, yb, ldy))
#endif
#undef DRIVER

/* ---- conversions and the element-wise ---- */

static void KERN(to_bf16)(uint16_t *y, const float *x, int64_t n)
{
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) v_store_bf16(y + i, v_load(x + i));
    for (; i < n; i++) y[i] = f32_to_bf16(x[i]);
}

static void KERN(to_f16)(uint16_t *y, const float *x, int64_t n)
{
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) v_store_f16(y + i, v_load(x + i));
    for (; i < n; i++) y[i] = f32_to_f16(x[i]);
}

static void KERN(from_f16)(float *y, const uint16_t *x, int64_t n)
{
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) v_store(y + i, v_load_f16(x + i));
    for (; i < n; i++) y[i] = f16_to_f32(x[i]);
}

static float KERN(rmsnorm)(float *y, const float *x, const float *w, int C, float eps)
{
    vf P = v_set(0);
    int i = 0;
    for (; i + 16 <= C; i += 16) {
        vf a = v_load(x + i);
        P = v_fma(a, a, P);
    }
    if (i < C) {
        vf a = v_load_n(x + i, C - i);
        P = v_fma(a, a, P);
    }
    float rstd = 1 / sqrtf(v_tree(P) / (float)C + eps);
    vf r = v_set(rstd);
    for (i = 0; i + 16 <= C; i += 16)
        v_store(y + i, v_mul(v_load(w + i), v_mul(v_load(x + i), r)));
    for (; i < C; i++) y[i] = w[i] * (x[i] * rstd);
    return rstd;
}

static void KERN(add)(float *y, const float *x, int64_t n)
{
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) v_store(y + i, v_add(v_load(y + i), v_load(x + i)));
    for (; i < n; i++) y[i] += x[i];
}

static void KERN(swiglu)(float *y, const float *g, const float *u, int64_t n)
{
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        vf a = v_load(g + i), e = v_add(v_set(1), v_exp(v_neg(a)));
        v_store(y + i, v_mul(v_div(a, e), v_load(u + i)));
    }
    for (; i < n; i++) y[i] = g[i] / (1 + fexp(-g[i])) * u[i];
}

static int64_t KERN(argmax)(const float *x, int64_t n)
{
    vf m = v_set(-INFINITY);
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) m = v_max(v_load(x + i), m);        /* a NaN is passed over */
    float top = v_max_all(m);
    for (; i < n; i++) top = x[i] > top ? x[i] : top;
    for (i = 0; i + 16 <= n; i += 16) {
        int at = v_eq_first(v_load(x + i), top);
        if (at >= 0) return i + at;
    }
    for (; i < n; i++)
        if (x[i] == top) return i;
    return 0;
}

/* ---- attention ---- */

enum { ATT_BLOCK = 64 };

#define ATT(name) KERN(f32_##name)
#define KT float
#define K_LOAD v_load
#define K_LOAD_N v_load_n
#include "kern/attn_body.h"

#define ATT(name) KERN(f16_##name)
#define KT uint16_t
#define K_LOAD v_load_f16
#define K_LOAD_N v_load_f16_n
#define WIDEN KERN(f32_attn)
#include "kern/attn_body.h"

#define ATT(name) KERN(bf16_##name)
#define KT uint16_t
#define K_LOAD v_load_bf16
#define K_LOAD_N v_load_bf16_n
#define WIDEN KERN(f32_attn)
#include "kern/attn_body.h"

static void KERN(attn_merge)(float *m, float *l, float *acc, const float *mc, const float *lc,
                             const float *accc, int R, int hs)
{
    for (int r = 0; r < R; r++, acc += hs, accc += hs) {
        if (mc[r] == -INFINITY) continue;
        if (m[r] == -INFINITY) {
            m[r] = mc[r], l[r] = lc[r];
            memcpy(acc, accc, (size_t)hs * sizeof *acc);
            continue;
        }
        float top = m[r] > mc[r] ? m[r] : mc[r];
        float a = fexp(m[r] - top), b = fexp(mc[r] - top);
        float la = l[r] * a, lb = lc[r] * b;
        m[r] = top, l[r] = la + lb;
        int d = 0;
        for (; d + 16 <= hs; d += 16)
            v_store(acc + d, v_add(v_mul(v_load(acc + d), v_set(a)),
                                   v_mul(v_load(accc + d), v_set(b))));
        for (; d < hs; d++) {
            float ya = acc[d] * a, yb = accc[d] * b;
            acc[d] = ya + yb;
        }
    }
}

/* tree16 of sixteen sums, lane by lane. */
static inline __attribute__((always_inline)) vf KERN(trees)(vf *P)
{
    UNROLL(4)
    for (int h = 8; h; h /= 2) {
        UNROLL(8)
        for (int j = 0; j < h; j++) P[j] = v_add(P[j], P[j + h]);
    }
    return P[0];
}

/* One panel for one row of t. The sums lie in sixteen registers, the rows of the panel in lanes: no
 * register is ever added up across. */
static inline __attribute__((always_inline)) vf KERN(low_panel)(const float *b, int K, const float *t)
{
    vf P[16];
    UNROLL(16)
    for (int j = 0; j < 16; j++)
        P[j] = j < K ? v_fma(v_load(b + j * LOW_PANEL), v_set(t[j]), v_set(0)) : v_set(0);
    for (int k = 16; k < K; k += 16) {
        if (K - k < 16) {
            UNROLL(16)
            for (int j = 0; j < 16; j++)
                if (j < K - k) P[j] = v_fma(v_load(b + (k + j) * LOW_PANEL), v_set(t[k + j]), P[j]);
            break;
        }
        UNROLL(16)
        for (int j = 0; j < 16; j++) P[j] = v_fma(v_load(b + (k + j) * LOW_PANEL), v_set(t[k + j]), P[j]);
    }
    return KERN(trees)(P);
}

static void KERN(add_low)(float *y, size_t ldy, const float *b, int R, int K, const float *t, int N)
{
    for (int r = 0; r < R; r += LOW_PANEL, b += (size_t)LOW_PANEL * (size_t)K)
        for (int n = 0; n < N; n++) {
            float *to = y + (size_t)n * ldy + r;
            vf s = K == 16 ? KERN(low_panel)(b, 16, t + n * 16)
                           : KERN(low_panel)(b, K, t + (size_t)n * (size_t)K);
            if (R - r >= LOW_PANEL) v_store(to, v_add(v_load(to), s));
            else v_store_n(to, v_add(v_load_n(to, R - r), s), R - r);
        }
}

static void KERN(fill)(kern *k)
{
    k->mul[DT_F32] = KERN(mul_f32);
    k->mul[DT_F16] = KERN(mul_f16);
    k->mul[DT_BF16] = KERN(mul_bf16);
#ifdef V_F8
    k->mul[DT_F8_E4M3] = KERN(mul_f8);
#endif
    k->to_bf16 = KERN(to_bf16);
    k->to_f16 = KERN(to_f16);
    k->from_f16 = KERN(from_f16);
    k->rmsnorm = KERN(rmsnorm);
    k->add = KERN(add);
    k->swiglu = KERN(swiglu);
    k->add_low = KERN(add_low);
    k->attn_f32 = KERN(f32_attn);
    k->attn_f16 = KERN(f16_attn);
    k->attn_bf16 = KERN(bf16_attn);
    k->attn_merge = KERN(attn_merge);
    k->argmax = KERN(argmax);
}
