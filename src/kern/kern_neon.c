/* kern_neon.c - the float kernels, compiled with this level's flags; see the Makefile. Only
 * static functions and kern_init_neon may come out of it. */
#if defined(__aarch64__)
#define KERN(name) name##_neon
#include "kern/vec_neon.h"
#include "kern/kern_body.h"

/* ---- bf16 of many inputs ----
 *
 * A block of weights and one of inputs as f32, exact, the sixteen odd elements of each 32 before
 * the sixteen even ones: then the product of f32 goes through them in the order that bf16's has.
 * Otherwise each load of bf16 is two shifts or masks, and a tile of 2 x 3 has nearly as many of
 * those as of products. Fewer columns at once than f32 has, so that all fits into its scratch. */
enum { WIDE_COLS = 44 };
_Static_assert(WIDE_COLS * (MUL_ROWS * 64 + MUL_KC + 64) <= MUL_ROWS * MUL_COLS * 64, "scratch");

static void widen_bf16(float *f, const uint16_t *w, size_t ldw, int R, int K, size_t ldf)
{
    for (int r = 0; r < R; r++, w += ldw, f += ldf)
        for (int k = 0; k < K; k += 32) {
            vh x = k + 32 <= K ? h_load(w + k) : h_load_n(w + k, K - k);
            v_store(f + k, (vf){ h_odd(x.a), h_odd(x.b), h_odd(x.c), h_odd(x.d) });
            v_store(f + k + 16, (vf){ h_even(x.a), h_even(x.b), h_even(x.c), h_even(x.d) });
        }
}

static void mul_bf16(float *y, size_t ldy, const void *weights, size_t row_bytes, int R,
                     const act *a, void *scratch)
{
    enum { LDF = KC32 + 16 };
    const uint16_t *w = weights;
    size_t ldw = row_bytes / sizeof *w, ldx = ((size_t)a->K + 31) / 32 * 32;
    vf *P = scratch;
    float *fw = (float *)(P + MUL_ROWS * WIDE_COLS), *fx = fw + MUL_ROWS * LDF;
    if (a->N <= MUL_C) {
        mul_bf16_neon(y, ldy, weights, row_bytes, R, a, scratch);
        return;
    }
    for (int n = 0; n < a->N; n += WIDE_COLS)
        for (int r = 0; r < R; r += MUL_ROWS)
            for (int k = 0; k < a->K; k += KC32) {
                int nn = least(a->N - n, WIDE_COLS), rr = least(R - r, MUL_ROWS);
                int kk = least(a->K - k, KC32);
                widen_bf16(fw, w + (size_t)r * ldw + k, ldw, rr, kk, LDF);
                widen_bf16(fx, a->bf + (size_t)n * ldx + k, ldx, nn, kk, LDF);
                f32_block_neon(fw, LDF, rr, MUL_R, fx, LDF, nn, (kk + 31) / 32 * 32, P, k == 0,
                               k + kk == a->K, y + (size_t)n * ldy + r, ldy);
            }
}

void kern_init_neon_q(kern *k);              /* kern_neon_q.c: the quantised products */
void kern_init_neon_kv(kern *k);             /* kern_neon_kv.c: the quantised cache */
void kern_init_neon_quant(kern *k);          /* kern_neon_quant.c: weights by search */
void kern_init_neon_grad(kern *k);            /* kern_neon_grad.c: training */
void kern_init_neon_optim(kern *k);           /* kern_neon_optim.c: optimisers */
void kern_init_neon(kern *k);
void kern_init_neon(kern *k)
{
    KERN(fill)(k);
    k->mul[DT_BF16] = mul_bf16;
    kern_init_neon_q(k);
    kern_init_neon_kv(k);
    kern_init_neon_quant(k);
    kern_init_neon_grad(k);
    kern_init_neon_optim(k);
}
#else
typedef int kern_neon_not_here;
#endif
