/* kern_ref.c - the float kernels as docs/numerics.md writes them, one element at a time.
 *
 * What every other level is held to, bit for bit: read these to learn what is computed. The
 * exception is BF16 on avx512 and above, where VDPBF16PS also flushes subnormals. */
#include <math.h>
#include <string.h>
#include "base/half.h"
#include "kern/fexp.h"
#include "kern/kern.h"

static float tree16(float P[16])
{
    for (int h = 8; h; h /= 2)
        for (int i = 0; i < h; i++) P[i] += P[i + h];
    return P[0];
}

/* Element i of an array that may lie anywhere. */
static uint16_t u16_at(const void *p, size_t i)
{
    uint16_t u;
    memcpy(&u, (const char *)p + i * sizeof u, sizeof u);
    return u;
}

static float from_f32(const void *p, size_t i)
{
    float f;
    memcpy(&f, (const char *)p + i * sizeof f, sizeof f);
    return f;
}

static float from_f16(const void *p, size_t i) { return f16_to_f32(u16_at(p, i)); }
static float from_bf16(const void *p, size_t i) { return bf16_to_f32(u16_at(p, i)); }
static float from_f8(const void *p, size_t i) { return f8_to_f32(((const uint8_t *)p)[i]); }
typedef float get_fn(const void *p, size_t i);

/* A tail that does not fill sixteen lanes counts as zeros. */
static float dot(const void *w, const float *x, int K, get_fn *get)
{
    float P[16] = { 0 };
    for (int k = 0; k < (K + 15) / 16 * 16; k++)
        P[k % 16] = fmaf(k < K ? get(w, (size_t)k) : 0, k < K ? x[k] : 0, P[k % 16]);
    return tree16(P);
}

static void mul_x(float *y, size_t ldy, const void *w, size_t row_bytes, int R, const act *a,
                  get_fn *get)
{
    for (int n = 0; n < a->N; n++)
        for (int r = 0; r < R; r++)
            y[(size_t)n * ldy + (size_t)r] =
                dot((const char *)w + (size_t)r * row_bytes, a->x + (size_t)n * a->ldx, a->K, get);
}

static void mul_f32(float *y, size_t ldy, const void *w, size_t row_bytes, int R, const act *a,
                    void *scratch)
{
    (void)scratch;
    mul_x(y, ldy, w, row_bytes, R, a, from_f32);
}

static void mul_f16(float *y, size_t ldy, const void *w, size_t row_bytes, int R, const act *a,
                    void *scratch)
{
    (void)scratch;
    mul_x(y, ldy, w, row_bytes, R, a, from_f16);
}

static void mul_f8(float *y, size_t ldy, const void *w, size_t row_bytes, int R, const act *a,
                   void *scratch)
{
    (void)scratch;
    mul_x(y, ldy, w, row_bytes, R, a, from_f8);
}

/* The odd product of a pair goes first, as VDPBF16PS has it. */
static float dot_bf16(const void *w, const uint16_t *x, int K)
{
    float P[16] = { 0 };
    for (int k = 0; k < (K + 31) / 32 * 32; k += 2)
        for (int o = 1; o >= 0; o--) {
            float a = k + o < K ? from_bf16(w, (size_t)(k + o)) : 0;
            float b = k + o < K ? bf16_to_f32(x[k + o]) : 0;
            P[k % 32 / 2] = fmaf(a, b, P[k % 32 / 2]);
        }
    return tree16(P);
}

static void mul_bf16(float *y, size_t ldy, const void *w, size_t row_bytes, int R, const act *a,
                     void *scratch)
{
    (void)scratch;
    size_t ldx = ((size_t)a->K + 31) / 32 * 32;
    for (int n = 0; n < a->N; n++)
        for (int r = 0; r < R; r++)
            y[(size_t)n * ldy + (size_t)r] =
                dot_bf16((const char *)w + (size_t)r * row_bytes, a->bf + (size_t)n * ldx, a->K);
}

static void to_bf16(uint16_t *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] = f32_to_bf16(x[i]);
}

static void to_f16(uint16_t *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] = f32_to_f16(x[i]);
}

/* Root-mean-square norm: scale x to unit RMS, then by the learned gain w. There is no
 * mean to subtract and no bias. Ref: Zhang & Sennrich 2019, arXiv:1910.07467, eq. 4. */
static float rmsnorm(float *y, const float *x, const float *w, int C, float eps)
{
    float P[16] = { 0 };
    for (int i = 0; i < C; i++) P[i % 16] = fmaf(x[i], x[i], P[i % 16]);
    float rstd = 1 / sqrtf(tree16(P) / (float)C + eps);  // eps inside the root, as Llama does
    for (int i = 0; i < C; i++) y[i] = w[i] * (x[i] * rstd);
    return rstd;
}

static void add(float *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] += x[i];
}

/* y += B t: as many sums as mul's, on panels in which a column of sixteen rows lies together. */
static void add_low(float *y, size_t ldy, const float *b, int R, int K, const float *t, int N)
{
    for (int n = 0; n < N; n++)
        for (int r = 0; r < R; r++) {
            const float *col = b + (size_t)(r / LOW_PANEL * LOW_PANEL) * (size_t)K + r % LOW_PANEL;
            float P[16] = { 0 };
            for (int k = 0; k < K; k++) P[k % 16] = fmaf(col[k * LOW_PANEL], t[n * K + k], P[k % 16]);
            y[(size_t)n * ldy + (size_t)r] += tree16(P);
        }
}

static void swiglu(float *y, const float *g, const float *u, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] = g[i] / (1 + fexp(-g[i])) * u[i];
}

/* One row against one tile. Softmax without a second pass over the scores: the running sum
 * and output are rescaled whenever the maximum grows. Ref: Milakov & Gimelshein 2018,
 * arXiv:1805.02867; in tiles: Dao et al. 2022, arXiv:2205.14135. */
static void attn_row(float *m, float *l, float *acc, const float *q, int hs, const void *k,
                     const void *v, int lo, int hi, float *p, get_fn *get)
{
    float top = *m;
    for (int j = 0; j < ATTN_TILE; j++) {
        float s = k ? 0 : p[j];
        p[j] = 0;
        if (j < lo || j >= hi) continue;
        for (int d = 0; k && d < hs; d++) s = fmaf(q[d], get(k, (size_t)(d * ATTN_TILE + j)), s);
        p[j] = s;
        if (s > top) top = s;
    }
    float c = fexp(*m - top), L[16];
    for (int j = lo; j < hi; j++) p[j] = fexp(p[j] - top);
    for (int i = 0; i < 16; i++) L[i] = ((p[i] + p[16 + i]) + p[32 + i]) + p[48 + i];
    float old = *l * c;
    *m = top, *l = old + tree16(L);
    for (int d = 0; d < hs; d++) {
        float s = acc[d] * c;
        for (int j = lo; j < hi; j++) s = fmaf(p[j], get(v, (size_t)(j * hs + d)), s);
        acc[d] = s;
    }
}

static void attn(float *m, float *l, float *acc, const float *q, int R, int hs, const void *k,
                 const void *v, const int *lo, const int *hi, float *p, get_fn *get)
{
    for (int r = 0; r < R; r++)
        if (!lo || lo[r] < hi[r])
            attn_row(m + r, l + r, acc + r * hs, q + r * hs, hs, k, v, lo ? lo[r] : 0,
                     lo ? hi[r] : ATTN_TILE, p + r * ATTN_TILE, get);
}

static void attn_f32(float *m, float *l, float *acc, const float *q, int R, int hs, const void *k,
                     const void *v, const int *lo, const int *hi, float *p,
                     const void *next, size_t next_bytes)
{
    (void)next, (void)next_bytes;
    attn(m, l, acc, q, R, hs, k, v, lo, hi, p, from_f32);
}

static void attn_f16(float *m, float *l, float *acc, const float *q, int R, int hs, const void *k,
                     const void *v, const int *lo, const int *hi, float *p,
                     const void *next, size_t next_bytes)
{
    (void)next, (void)next_bytes;
    attn(m, l, acc, q, R, hs, k, v, lo, hi, p, from_f16);
}

static void attn_bf16(float *m, float *l, float *acc, const float *q, int R, int hs,
                      const void *k, const void *v, const int *lo, const int *hi, float *p,
                     const void *next, size_t next_bytes)
{
    (void)next, (void)next_bytes;
    attn(m, l, acc, q, R, hs, k, v, lo, hi, p, from_bf16);
}

static void attn_merge(float *m, float *l, float *acc, const float *mc, const float *lc,
                       const float *accc, int R, int hs)
{
    for (int r = 0; r < R; r++, acc += hs, accc += hs) {
        if (mc[r] == -INFINITY) continue;                /* saw nothing of this chunk */
        if (m[r] == -INFINITY) {                         /* the first that it sees something of */
            m[r] = mc[r], l[r] = lc[r];
            memcpy(acc, accc, (size_t)hs * sizeof *acc);
            continue;
        }
        float top = m[r] > mc[r] ? m[r] : mc[r];
        float a = fexp(m[r] - top), b = fexp(mc[r] - top);
        float la = l[r] * a, lb = lc[r] * b;
        m[r] = top, l[r] = la + lb;
        for (int d = 0; d < hs; d++) {
            float ya = acc[d] * a, yb = accc[d] * b;
            acc[d] = ya + yb;
        }
    }
}

static int64_t argmax(const float *x, int64_t n)
{
    int64_t best = -1;
    float top = -INFINITY;
    for (int64_t i = 0; i < n; i++)
        if (x[i] > top || (best < 0 && x[i] == top)) top = x[i], best = i;
    return best < 0 ? 0 : best;
}

static void widen_f16(float *y, const uint16_t *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] = f16_to_f32(x[i]);
}

void kern_init_ref_q(kern *k);               /* kern_ref_q.c: the quantised products */
void kern_init_ref_kv(kern *k);              /* kern_ref_kv.c: the quantised cache */
void kern_init_ref_quant(kern *k);           /* kern_ref_quant.c: weights by search */
void kern_init_ref_grad(kern *k);            /* kern_ref_grad.c: training */
void kern_init_ref_optim(kern *k);           /* kern_ref_optim.c: optimisers */
void kern_init_ref(kern *k);
void kern_init_ref(kern *k)
{
    k->mul[DT_F32] = mul_f32;
    k->mul[DT_F16] = mul_f16;
    k->mul[DT_BF16] = mul_bf16;
    k->mul[DT_F8_E4M3] = mul_f8;
    k->to_bf16 = to_bf16;
    k->to_f16 = to_f16;
    k->from_f16 = widen_f16;
    k->rmsnorm = rmsnorm;
    k->add = add;
    k->swiglu = swiglu;
    k->add_low = add_low;
    k->attn_f32 = attn_f32;
    k->attn_f16 = attn_f16;
    k->attn_bf16 = attn_bf16;
    k->attn_merge = attn_merge;
    k->argmax = argmax;
    kern_init_ref_q(k);
    kern_init_ref_kv(k);
    kern_init_ref_quant(k);
    kern_init_ref_grad(k);
    kern_init_ref_optim(k);
}
