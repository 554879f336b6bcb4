/* kern.h - the leaf kernels: the only code with one version per instruction set.
 *
 * A leaf kernel is single-threaded, allocates nothing, cannot fail, and works on plain
 * pointers. Threads, shapes and errors live above it, in dev/. What each computes, bit by bit,
 * is fixed in docs/numerics.md; a kernel may only choose how much it does at once.
 *
 * To add one: a slot below; the textbook version in kern_ref.c; a test in
 * tests/kern/kerncheck.c (it does not build until there is one); then, if it pays, the
 * vector version in kern_body.h (all sets) or in one kern_<set>*.c (that set alone). */
#ifndef KERN_KERN_H
#define KERN_KERN_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/block.h"
#include "base/step.h"

enum { ATTN_TILE = 64, ATTN_CHUNK = 1024, KERN_MAX_TYPE = DT_F8_E4M3 + 1, QBLOCK = 32,
       QSUPER = 256 };

/* Blocks of the float products, chosen so that a block's weights, inputs and partial sums stay
 * in a second-level cache of 1 MB; and the scratch that mul of F32, F16 and BF16 wants. */
enum { MUL_ROWS = 64, MUL_COLS = 96, MUL_KC = 4096 /* bytes of a row */ };
enum { MUL_FLOAT_SCRATCH = MUL_ROWS * MUL_COLS * 64 + MUL_ROWS * (MUL_KC + 64) };

/* N input rows of K values in the form(s) that the weight types at hand want; what is not
 * needed is NULL. Rows are contiguous in each array. */
typedef struct {
    int N, K;
    const float *x;          /* (N,K) f32; row stride ldx values */
    size_t ldx;
    const uint16_t *bf;      /* (N,K rounded up to 32) bf16, zero padded */
    const uint16_t *bt;      /* the same, packed by pack_bf16: sixteen rows after sixteen */
    const int8_t *q;         /* (N,K) int8, -127..127: ACT_Q8's or ACT_QK's, as the rest here */
    const float *d;          /* (N,K/32) ACT_Q8: block scales; ACT_QK: powers of two, 1 .. 128 */
    const int16_t *s16;      /* (N,K/16) sums of q over sixteen: exact */
    const float *dk;         /* (N,K/256) ACT_QK: scales of 256 */
    const int32_t *shift;    /* (N,K/32) ACT_QK: d as left shifts, 0 .. 7 */
    const float *dA;         /* (N,K/32) ACT_QK: d times the sum of q over the block */
} act;

/* ACT_QK is that of types in blocks of 256, whatever their groups are. */
enum { ACT_F32 = 0, ACT_BF16 = 1, ACT_Q8 = 2, ACT_QK = 3, ACT_N };
int act_kind(int type);              /* which form a weight type multiplies with */

/* y[n*ldy + r] = sum_k w[r][k] x[n][k] for r < R, n < a->N. w: R rows of row_bytes each,
 * contiguous, not aligned. scratch: mul_scratch(type, K) bytes, for the float types at least
 * MUL_FLOAT_SCRATCH, 64-byte aligned, this thread's own. Calls of any R and N give each element
 * the same bits. */
typedef void mul_fn(float *y, size_t ldy, const void *w, size_t row_bytes, int R,
                    const act *a, void *scratch);

/* dst: `rows` rows of K weights as blocks of the slot's type, contiguous, from x (rows,K). w: K
 * importances > 0, those of the columns; NULL: all 1. Finite, and no value beyond what a half can
 * hold (65,504). The bytes are the same on every level (quant_body.h). */
typedef void quant_fn(void *dst, const float *x, const float *w, int64_t rows, int64_t K);

/* One tile of attention (docs/numerics.md, step 2) for R query rows of one KV head.
 * q (R,hs) f32 scaled; k NULL (f32 alone): p has the scores already. k: (hs,64) transposed tile; v: (64,hs); both of the slot's type.
 * Row r sees positions lo[r] <= j < hi[r] of the tile (lo >= hi: none, untouched); lo NULL: all see
 * the whole tile.
 * m, l (R,): running maximum and sum; acc (R,hs). p: (R + 2*hs)*64 floats of
 * scratch. next: next_bytes of cache that will be read after this tile, or NULL; only fetched. */
typedef void attn_fn(float *m, float *l, float *acc, const float *q, int R, int hs,
                     const void *k, const void *v, const int *lo, const int *hi, float *p,
                     const void *next, size_t next_bytes);

/* Query rows as the scores of a quantised cache want them: quant_q8's output for each. */
typedef struct {
    const int8_t *q;            /* (R,hs) */
    const float *d;             /* (R,hs/32) */
    const int16_t *s16;         /* (R,hs/16) */
} attn_rows8;

/* s (R,64) = scores of all positions of a quantised tile; head: kv_tile.h. scratch: (hs + hs/32)*64
 * floats, 64-byte aligned. */
typedef void attn_scores_fn(float *s, const attn_rows8 *q, int R, int hs, const void *head,
                            float *scratch);

/* The rest of attn_fn with values straight from a quantised tile, for rows that see all of it.
 * p (R,64): their scores, used up. scratch: (hs/32)*64 floats. next: the tile that will be read
 * after this one, or NULL. */
typedef void attn_weigh_fn(float *m, float *l, float *acc, float *p, int R, int hs,
                           const void *head, float *scratch, const void *next);

/* An operand of a gradient's product: element (k,i) is p[k*ld + i], turned: p[i*ld + k]; DT_F32 or
 * DT_BF16. */
typedef struct { const void *p; size_t ld; int type; bool turned; } grad_op;

/* c (M,N) = sum over k < K of a(k,m) b(k,n); add: +=. M <= GRAD_M, N <= GRAD_N, b not turned. Summed in blocks of
 * GRAD_K of k (grad_bf16: 2 * GRAD_K) from 0 on, each a chain from +0, blocks added in order;
 * grad_bf16 rounds f32 operands to bf16 and takes two k a step. scratch: GRAD_SCRATCH bytes, 64-byte
 * aligned, this thread's own. */
enum { GRAD_M = 192, GRAD_N = 384, GRAD_K = 256,
       GRAD_SCRATCH = (GRAD_M + GRAD_N + 64) * GRAD_K * 8 };
typedef void grad_mul_fn(float *c, size_t ldc, int M, int N, int K, const grad_op *a,
                         const grad_op *b, bool add, void *scratch);

/* One tile of attention's gradient: R <= ATTN_TILE query rows of one head, 64 keys. All f32. */
typedef struct {
    const float *q, *dy;        /* (R,hs): q scaled */
    const float *m, *il, *D;    /* (R,): largest score, 1 / sum, dy . y */
    const int *lo, *hi;         /* (R,): the row sees lo <= j < hi of the tile */
    const float *k, *kt;        /* (64,hs), (hs,64) */
    const float *vt;            /* (hs,64) */
    float *dq;                  /* (R,hs), added to */
    float *dk, *dv;             /* (64,hs), added to */
    float *s;                   /* 2 * 64 * 64 of scratch */
} attn_grad;
typedef void attn_grad_fn(const attn_grad *a, int R, int hs);

typedef struct {
    mul_fn *mul[KERN_MAX_TYPE];          /* by dtype; NULL: not a type */
    quant_fn *quant[KERN_MAX_TYPE];      /* by dtype; NULL: format/quant.c has all there is */
    /* bytes of scratch that mul of this type wants for rows of K (float types: beside
     * MUL_FLOAT_SCRATCH, the greater of the two counts) */
    size_t (*mul_scratch)(int type, int K);
    /* q, d, s16 of one row of K values (K a multiple of 32) */
    void (*quant_q8)(int8_t *q, float *d, int16_t *s16, const float *x, int K);
    /* q, d, s16, dk, shift, dA of one row of K values (K a multiple of 256) */
    void (*quant_qk)(int8_t *q, float *d, int16_t *s16, float *dk, int32_t *shift, float *dA,
                     const float *x, int K);
    void (*to_bf16)(uint16_t *y, const float *x, int64_t n);
    /* n <= 16 rows of act.bf in the layout that mul[DT_BF16] of several inputs wants, into
     * 16 * (K rounded up to 32) places; NULL: it wants none */
    void (*pack_bf16)(uint16_t *t, const uint16_t *bf, int n, int K);
    void (*to_f16)(uint16_t *y, const float *x, int64_t n);
    void (*from_f16)(float *y, const uint16_t *x, int64_t n);
    /* y = w * (x * rstd), rstd = 1/sqrt(mean(x^2)+eps); (C,) f32; returns rstd; y may be x */
    float (*rmsnorm)(float *y, const float *x, const float *w, int C, float eps);
    void (*add)(float *y, const float *x, int64_t n);                     /* y += x */
    void (*swiglu)(float *y, const float *g, const float *u, int64_t n);  /* y = silu(g)*u */
    /* y (N,R) += b t', rows ldy apart: b (R,K), its elements where low_at says; t (N,K) without gaps;
     * the product is that of F32 weights. For a small K. */
    void (*add_low)(float *y, size_t ldy, const float *b, int R, int K, const float *t, int N);
    attn_fn *attn_f32, *attn_f16, *attn_bf16;
    attn_scores_fn *scores_q8, *scores_q4;
    /* v (64,hs): the values of a quantised tile as attn_f32 wants them; hs a multiple of 32 */
    void (*v_q8)(float *v, const void *head, int hs);
    void (*v_q4)(float *v, const void *head, int hs);
    attn_weigh_fn *weigh_q8, *weigh_q4;     /* NULL: no faster than those and attn_f32 */
    /* x (n,) times a Hadamard matrix of order n / sqrt(n), in place; n a power of two, 32 … 512 */
    void (*hadamard)(float *x, int n);
    /* K values as Q4_0: 16 bytes and a scale, not yet f16, a block */
    void (*quant_q4)(uint8_t *q, float *d, const float *x, int K);
    /* acc (hs,) of a chunk into the running one: step 3 */
    void (*attn_merge)(float *m, float *l, float *acc, const float *mc, const float *lc,
                       const float *accc, int R, int hs);
    /* index of the largest value, lowest index first among equals; NaN never wins */
    int64_t (*argmax)(const float *x, int64_t n);

    /* ---- training ---- */
    void (*from_bf16)(float *y, const uint16_t *x, int64_t n);
    grad_mul_fn *grad_f32, *grad_bf16;
    /* one row's part of rmsnorm's gradients, dx += and dw +=; dw NULL: not wanted */
    void (*rmsnorm_grad)(float *dx, float *dw, const float *dy, const float *x, const float *w,
                         int C, float eps);
    /* dg, du of y = silu(g) u; each may be dy, g or u */
    void (*swiglu_grad)(float *dg, float *du, const float *dy, const float *g, const float *u,
                        int64_t n);
    attn_grad_fn *attn_grad;
    float (*dot)(const float *a, const float *b, int n);    /* sixteen chains of fma, then by halves */
    void (*transpose)(float *y, const float *x, int rows, int cols);  /* y (cols,rows), x (rows,cols) */
    /* the sum over i of exp(x[i] - *top), *top the largest x; y, unless NULL, gets the terms and may
     * be x */
    double (*exp_sum)(float *y, const float *x, int64_t n, float *top);
    void (*scale)(float *y, float s, int64_t n);                          /* y = s y */

    /* ---- optimisers (docs/numerics.md): n elements; arrays do not overlap ---- */
    /* w, m, v become those after a step; wb, unless NULL, w rounded to bf16 */
    void (*adamw)(float *w, uint16_t *wb, const float *g, float *m, float *v, int64_t n,
                  const step_args *a);
    /* the same with moments of 8 bits, blocks of STEP_BLOCK; `at`: the first one's number */
    void (*adamw8)(float *w, uint16_t *wb, const float *g, uint8_t *m, uint8_t *v, float *m_max,
                   float *v_max, uint32_t at, int64_t n, const step_args *a);
    void (*sgd)(float *w, uint16_t *wb, const float *g, float *m, int64_t n,
                const step_args *a);                                      /* m NULL: no momentum */
    /* y = the direction in which Muon goes by momentum m, which takes g up */
    void (*momentum)(float *y, const float *g, float *m, int64_t n, const step_args *a);
    /* y = a x + b z; y may be x or z */
    void (*mix)(float *y, float a, const float *x, float b, const float *z, int64_t n);
    double (*squares)(const float *x, int64_t n);                         /* sum of x x */
} kern;

/* Bundles that shipped together, not flags: AVX2 is AVX2+FMA+F16C (Haswell, Zen); AVX512 is
 * F+BW+DQ+VL+VNNI+BF16+VBMI and GFNI (Zen 4, Sapphire Rapids; Cooper Lake has no VBMI and runs avx2);
 * AMX adds tiles, int8, bf16, and the operating system's permission to use them. NEON is
 * Armv8.2 with dot products and half precision (Neoverse N1, Cortex-A76, Apple M1 and later); I8MM adds its
 * matrix products of int8 (Armv8.6: Neoverse V1 and N2, Apple M2 and later). */
enum { CPU_AVX2 = 1 << 0, CPU_AVX512 = 1 << 1, CPU_AMX = 1 << 2, CPU_NEON = 1 << 3,
       CPU_I8MM = 1 << 4 };
unsigned cpu_detect(void);

/* The levels, worst first; each overrides what it improves on and leaves the rest. */
typedef struct { const char *name; unsigned need; void (*init)(kern *); } kern_level;
extern const kern_level kern_levels[];
extern const int n_kern_levels;

/* Fill *k for this CPU, capped at the level of that name (NULL: best). Returns the name of the
 * level chosen; NULL: no such level, or this CPU does not have it. */
const char *kern_select(kern *k, const char *cap);
#endif
