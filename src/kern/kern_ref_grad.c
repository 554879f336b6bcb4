/* kern_ref_grad.c - training's kernels as docs/numerics.md writes them, one element at a time. */
#include <math.h>
#include <string.h>
#include "base/half.h"
#include "kern/fexp.h"
#include "kern/kern.h"
#include "kern/log_prob.h"

static float tree16(float P[16])
{
    for (int h = 8; h; h /= 2)
        for (int i = 0; i < h; i++) P[i] += P[i + h];
    return P[0];
}

static void from_bf16(float *y, const uint16_t *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] = bf16_to_f32(x[i]);
}

/* Element (k,i); rounded: as bf16. */
static float element(const grad_op *o, int k, int i, bool rounded)
{
    size_t at = o->turned ? (size_t)i * o->ld + (size_t)k : (size_t)k * o->ld + (size_t)i;
    if (o->type == DT_BF16) return bf16_to_f32(((const uint16_t *)o->p)[at]);
    float x = ((const float *)o->p)[at];
    return rounded ? bf16_to_f32(f32_to_bf16(x)) : x;
}

static void put(float *c, float sum, bool add) { *c = add ? *c + sum : sum; }

static void grad_f32(float *c, size_t ldc, int M, int N, int K, const grad_op *a, const grad_op *b,
                     bool add, void *scratch)
{
    (void)scratch;
    for (int k0 = 0; k0 < K; k0 += GRAD_K)
        for (int m = 0; m < M; m++)
            for (int n = 0; n < N; n++) {
                float s = 0;
                for (int k = k0; k < K && k < k0 + GRAD_K; k++)
                    s = fmaf(element(a, k, m, false), element(b, k, n, false), s);
                put(c + (size_t)m * ldc + (size_t)n, s, add || k0);
            }
}

/* The odd product of a pair goes first, as VDPBF16PS has it; a last k alone counts with a 0. */
static void grad_bf16(float *c, size_t ldc, int M, int N, int K, const grad_op *a, const grad_op *b,
                      bool add, void *scratch)
{
    (void)scratch;
    for (int k0 = 0; k0 < K; k0 += 2 * GRAD_K)
        for (int m = 0; m < M; m++)
            for (int n = 0; n < N; n++) {
                float s = 0;
                for (int k = k0; k < K && k < k0 + 2 * GRAD_K; k += 2)
                    for (int o = 1; o >= 0; o--) {
                        bool in = k + o < K;
                        s = fmaf(in ? element(a, k + o, m, true) : 0,
                                 in ? element(b, k + o, n, true) : 0, s);
                    }
                put(c + (size_t)m * ldc + (size_t)n, s, add || k0);
            }
}

/* With r = 1/sqrt(mean(x^2)+eps) and y_i = w_i x_i r:
 *     dx_j = r w_j dy_j - x_j (r^3 / C) sum_i w_i dy_i x_i,   dw_j = dy_j x_j r
 * Derived in docs/math/rmsnorm.md. */
static void rmsnorm_grad(float *dx, float *dw, const float *dy, const float *x, const float *w,
                         int C, float eps)
{
    float P[16] = { 0 }, Q[16] = { 0 };
    for (int i = 0; i < C; i++) {
        P[i % 16] = fmaf(x[i], x[i], P[i % 16]);
        Q[i % 16] = fmaf(w[i] * dy[i], x[i], Q[i % 16]);
    }
    float r = 1 / sqrtf(tree16(P) / (float)C + eps);
    float k = r * r * r * (tree16(Q) / (float)C);
    for (int i = 0; i < C; i++) {
        dx[i] += fmaf(w[i] * dy[i], r, -(x[i] * k));
        if (dw) dw[i] = fmaf(dy[i], x[i] * r, dw[i]);
    }
}

/* With s = 1/(1+exp(-g)): y = g s u, dg = dy u s (1 + g (1 - s)), du = dy g s. docs/math/swiglu.md */
static void swiglu_grad(float *dg, float *du, const float *dy, const float *g, const float *u,
                        int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        float s = 1 / (1 + fexp(-g[i])), silu = g[i] * s;
        float slope = fmaf(silu, 1 - s, s), d = dy[i], uu = u[i];
        dg[i] = d * uu * slope;
        du[i] = d * silu;
    }
}

/* S = q K^T, P = exp(S - m) / l, dP = dy V^T, dS = P (dP - D); then dq += dS K, dk += dS^T q,
 * dv += P^T dy. docs/math/attention.md */
static void attn_grad_ref(const attn_grad *a, int R, int hs)
{
    float *p = a->s, *ds = a->s + ATTN_TILE * ATTN_TILE;
    for (int r = 0; r < R; r++)
        for (int j = 0; j < ATTN_TILE; j++) {
            float s = 0, dp = 0;
            for (int d = 0; d < hs; d++) {
                s = fmaf(a->q[r * hs + d], a->kt[d * ATTN_TILE + j], s);
                dp = fmaf(a->dy[r * hs + d], a->vt[d * ATTN_TILE + j], dp);
            }
            bool sees = j >= a->lo[r] && j < a->hi[r];
            float pp = sees ? fexp(s - a->m[r]) * a->il[r] : 0;
            p[r * ATTN_TILE + j] = pp;
            ds[r * ATTN_TILE + j] = sees ? pp * (dp - a->D[r]) : 0;
        }
    for (int r = 0; r < R; r++)
        for (int j = 0; j < ATTN_TILE; j++)
            for (int d = 0; d < hs; d++) {
                float pp = p[r * ATTN_TILE + j], dd = ds[r * ATTN_TILE + j];
                a->dq[r * hs + d] = fmaf(dd, a->k[j * hs + d], a->dq[r * hs + d]);
                a->dk[j * hs + d] = fmaf(dd, a->q[r * hs + d], a->dk[j * hs + d]);
                a->dv[j * hs + d] = fmaf(pp, a->dy[r * hs + d], a->dv[j * hs + d]);
            }
}

static float dot(const float *a, const float *b, int n)
{
    float P[16] = { 0 };
    for (int i = 0; i < n; i++) P[i % 16] = fmaf(a[i], b[i], P[i % 16]);
    return tree16(P);
}

static void transpose(float *y, const float *x, int rows, int cols)
{
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < cols; i++) y[i * rows + r] = x[r * cols + i];
}

static void scale(float *y, float s, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] *= s;
}

void kern_init_ref_grad(kern *k);
void kern_init_ref_grad(kern *k)
{
    k->from_bf16 = from_bf16;
    k->grad_f32 = grad_f32;
    k->grad_bf16 = grad_bf16;
    k->rmsnorm_grad = rmsnorm_grad;
    k->swiglu_grad = swiglu_grad;
    k->attn_grad = attn_grad_ref;
    k->dot = dot;
    k->transpose = transpose;
    k->exp_sum = exp_sum_plain;
    k->scale = scale;
}
