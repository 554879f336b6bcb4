/* dev.h - a device: memory and the operations a model is written in. The same table for every
 * device; model/ sees nothing else. Operations cannot fail; the caller has checked shapes.
 * Pointers are the device's. Threads: one caller at a time.
 *
 * Letters: docs/symbols.md. Arithmetic: docs/numerics.md. */
#ifndef DEV_DEV_H
#define DEV_DEV_H
#include <stdbool.h>
#include "base/err.h"
#include "base/block.h"
#include "base/step.h"

/* A weight matrix (rows,K) as it lies in the file; bias (rows,) f32 or NULL. A type whose stored
 * values want scales (FP8) has them in scale (n_slice,rows): K is cut into n_slice equal slices,
 * and the weights of row r in slice j are scale[j*rows + r] times what is stored. NULL: none. */
typedef struct {
    int type;
    int rows, K;
    const void *data;
    size_t row_bytes;
    const float *bias;
    const float *scale;
    int n_slice;
    const struct lora_mat *lora;    /* what adapters add: model/'s, no device looks at it */
} wmat;

typedef struct { float *y; size_t ldy; const wmat *w; } mm_out;

/* y rows n0 .. n0+N-1 (b->rows wide, ldy apart; y is row 0's) += b (a x), x's same rows. a (r,K) and
 * b (rows,r) are F32 without bias or scale, b's elements where low_at says. a NULL: t (N,r) is given; else it is scratch. */
typedef struct {
    const wmat *a, *b;
    float *y, *t;
    size_t ldy;
    int n0, N;
    int at[2];                  /* the device's own */
} low_rank;

/* Training. A product's gradients are computed in the precision of its weights: F32 in f32; BF16
 * with dy, w and x rounded to bf16 as they are read, sums in f32. No other type has gradients. */
typedef struct { const float *dy; size_t ldy; const wmat *w; } mm_dx;       /* dy (N,rows) */
typedef struct {
    float *dw;                  /* (w's rows,K) f32 without gaps, added to */
    float *db;                  /* (rows,) the bias's, added to; NULL: none */
    const float *dy;            /* (N,rows) */
    size_t ldy;
    const wmat *w;              /* its rows, K and type; data is not looked at */
    bool fresh;                 /* dw and db are written instead: what was there does not count */
} mm_dw;

/* What training's operations need scratch for: steps of up to N rows; V and C of the head. */
typedef struct { int N, C, V, nh, hs; } train_size;

/* The head and its loss, fused: logits of a few rows at a time, never (N,V). Row n's target[n] is
 * the token that it should have given, -1: none, and the row counts for nothing. */
typedef struct {
    const wmat *w;              /* (V,C), no bias */
    const float *x;             /* (N,C) normed rows */
    const int32_t *target;      /* (N,) */
    const float *weight;        /* (N,), 0: as if without target; NULL: 1 */
    int N;
    float *logp;                /* out (N,): log-probability of each target, 0 without; NULL: not wanted */
    float *dx;                  /* out (N,C): gradient of the sum of losses; NULL: not wanted */
    float *dw;                  /* (V,C) f32, added to; NULL: not wanted */
    double loss, weights;       /* out: sum of weight * -log-probability, and of weight */
    bool fresh;                 /* dw is written instead: what was there does not count */
} head_loss;

/* Elements of one tensor, as an optimiser steps them, from number `at` of all that are trained on
 * (rounding to 8 bits is keyed by it); from one of the tensor's that is a multiple of STEP_CHUNK. What
 * a rule does not have is NULL. */
typedef struct {
    step_rule rule;
    const step_args *a;
    int64_t at, n;
    float *w;                   /* STEP_MOMENTUM: out, the direction */
    uint16_t *wb;               /* w as bf16, or NULL */
    const float *g;
    float *m, *v;               /* STEP_SGD: m may be NULL */
    uint8_t *m8, *v8;           /* STEP_ADAMW8, */
    float *m_max, *v_max;       /* (n / STEP_BLOCK rounded up,) */
} step_part;

/* Types of the cache; saved states have the numbers. */
typedef enum { KV_F32, KV_F16, KV_BF16, KV_Q8_0, KV_Q4_0, KV_N_TYPES } kv_type;
typedef struct {
    const char *name;           /* "F16", "Q8_0" */
    int elems, bytes;           /* of a block along the head; 1 but for the quantised */
} kv_type_info;
extern const kv_type_info kv_types[KV_N_TYPES];
/* 0, or DR_EUNSUPPORTED: heads of hs elements do not divide into the type's blocks. */
int kv_type_check(kv_type t, int hs, dr_err *e);
/* The type of that name in any case; -1: none. */
int kv_type_by_name(const char *name);
/* Bytes of one position of one head's K or V. */
static inline size_t kv_row_bytes(kv_type t, int hs)
{
    return (size_t)(hs / kv_types[t].elems * kv_types[t].bytes);
}

/* One layer of a paged cache. A page holds KV_PAGE positions of every KV head of this layer:
 * for each head K transposed (hs,KV_PAGE), then V (KV_PAGE,hs); quantised ones as
 * kern/kv_tile.h says. */
enum { KV_PAGE = 64 };
typedef struct {
    kv_type type;
    int nkv, hs;
    char *base;                 /* page p starts at base + p * page_bytes */
    size_t page_bytes;
} kv_layer;
static inline size_t kv_page_bytes(kv_type t, int nkv, int hs)
{
    return (size_t)nkv * 2 * KV_PAGE * kv_row_bytes(t, hs);
}

/* Rows n0 .. n0+T-1 of the batch are consecutive positions pos .. pos+T-1 of one sequence,
 * whose page table is `page` (position p lives in page[p / 64]). */
typedef struct { int n0, T, pos; const int32_t *page; } seq_run;

/* Where threads and weights go on a machine of several memory nodes. */
typedef enum { NUMA_OFF, NUMA_DISTRIBUTE, NUMA_ISOLATE } numa_mode;

typedef struct dev dev;
struct dev {
    const char *name;           /* "cpu" */
    const char *level;          /* "avx512" */
    int n_threads;
    int n_nodes;                /* memory nodes that its threads are spread over, at least 1 */
    const int *seat;            /* each thread's CPU; NULL: threads are not bound */
    const int *first;           /* with it: node k has the threads first[k] .. first[k+1]-1 */
    char note[200];             /* what was asked for and could not be had; "": nothing */
    void *(*alloc)(dev *d, size_t n);             /* zeroed, 64-byte aligned; NULL: no memory */
    void (*free)(dev *d, void *p, size_t n);
    /* Scratch that operations need beyond their arguments, for up to N rows and inputs of up
     * to K values, R rows of output at most, S positions, nh heads of hs: taken here, once. */
    int (*reserve)(dev *d, int N, int K, int nh, int hs, int S, dr_err *e);
    size_t (*reserve_bytes)(dev *d, int N, int K, int nh, int hs, int S);

    /* How a decode step shares out the rows of n matrices that one matmul multiplies: end (n,n_nodes)
     * becomes the row behind the last one of each node's threads. */
    void (*node_rows)(dev *d, const wmat *const *w, int n, int *end);
    /* fn(arg, chunk, thread) for each chunk 0..n-1, by all its threads: pool_run. */
    void (*run)(dev *d, int n, void (*fn)(void *arg, int chunk, int thread), void *arg);
    /* Memory that nobody has touched shall lie at a node; false: the system does not do it. */
    bool (*bind)(dev *d, void *p, size_t n, int node);

    /* y (N,C) = rows tok[n] of w */
    void (*embed)(dev *d, float *y, const wmat *w, const int32_t *tok, int N);
    void (*rmsnorm)(dev *d, float *y, const float *x, const float *w, int N, int C, float eps);
    /* out[i].y (N,rows_i) = x (N,K) times out[i].w transposed, plus bias; all share x */
    void (*matmul)(dev *d, const mm_out *out, int n_out, const float *x, size_t ldx, int N);
    /* All jobs, no two of which add to one row of one y. */
    void (*add_low_rank)(dev *d, low_rank *job, int n, const float *x, size_t ldx);
    /* Turn q (N,nh*hs) in place and k (N,nkv*hs) by rope, scale q by qscale, and store k, v
     * into the cache. cs: (position, hs/2) pairs cos, sin. adjacent: head pairs are (2i,2i+1) in
     * q and k (Meta's order); results are in half order (i, i+hs/2) always. nh 0: k and v alone. */
    void (*rope_store)(dev *d, float *q, const float *k, const float *v, int nh,
                       const kv_layer *kv, const float *cs, bool adjacent, float qscale,
                       const seq_run *run, int n_runs);
    /* y (N,nh*hs) = attention of q over the cache; window 0: none, else the last `window`
     * positions, the query's own included. stat (N,nh,2), NULL: not wanted: each row's largest
     * score and its sum of exp(score - that), which attn_backward wants. */
    void (*attn)(dev *d, float *y, float *stat, const float *q, int nh, const kv_layer *kv,
                 int window, const seq_run *run, int n_runs);
    void (*swiglu)(dev *d, float *y, const float *g, const float *u, int64_t n);
    void (*add)(dev *d, float *y, const float *x, int64_t n);
    /* a (n_row,C) becomes its rows row[0], row[1], …, which ascend and are in host memory */
    void (*keep_rows)(dev *d, float *a, int C, const int32_t *row, int n_row);
    /* y (n_row,) = log-probability of token tok[i] by logits (n_row,V), rows ldl apart. One order of
     * operations for generation, evaluation and training (docs/numerics.md). */
    void (*log_probs)(dev *d, float *y, const float *logits, size_t ldl, const int32_t *tok,
                      int n_row, int V);

    /* ---- training: gradients of the above, of a sum of losses (docs/math/). "+=" is added to what
     * is there, "=" written. No result depends on the number of threads. ---- */

    /* Scratch for the operations below, besides reserve for N rows: taken here, once. */
    int (*reserve_train)(dev *d, const train_size *s, dr_err *e);
    size_t (*reserve_train_bytes)(dev *d, const train_size *s);
    /* dx (N,K) = sum over i of dy_i (N,rows_i) times w_i, which share the input x; add: += */
    void (*matmul_dx)(dev *d, float *dx, size_t lddx, const mm_dx *in, int n_in, int N, bool add);
    /* out[i].dw += dy_i transposed times x (N,K); x_type DT_F32 or DT_BF16, rows ldx elements apart */
    void (*matmul_dw)(dev *d, const mm_dw *out, int n_out, const void *x, int x_type, size_t ldx,
                      int N);
    /* dx (N,C) += and dw (C,) += for y = rmsnorm(x) w; dy may not be dx. dw NULL: not wanted */
    void (*rmsnorm_backward)(dev *d, float *dx, float *dw, const float *dy, const float *x,
                             const float *w, int N, int C, float eps);
    /* dg, du (n,) = for y = silu(g) u; each may be dy, g or u itself */
    void (*swiglu_backward)(dev *d, float *dg, float *du, const float *dy, const float *g,
                            const float *u, int64_t n);
    /* In place: dq (N,nh*hs) and dk (N,nkv*hs) of rope_store's results become those of its inputs.
     * Rounding to the cache's type passes gradients on as they are; so v's needs nothing. */
    void (*rope_backward)(dev *d, float *dq, float *dk, int nh, int nkv, int hs, const float *cs,
                          bool adjacent, float qscale, const seq_run *run, int n_runs);
    /* dq (N,nh*hs) =, dk, dv (N,nkv*hs) = for y = attn(q, cache), from dy, y, q and stat as attn
     * left them. The cache is KV_F32 or KV_BF16; runs begin at position 0 and are whole documents:
     * keys of one get nothing from queries of another. dk and dv are of what rope_store stored. */
    void (*attn_backward)(dev *d, float *dq, float *dk, float *dv, const float *dy, const float *y,
                          const float *q, const float *stat, int nh, const kv_layer *kv, int window,
                          const seq_run *run, int n_runs);
    /* dw (V,C) f32: row tok[n] += dx (N,C) row n, in ascending n */
    void (*embed_backward)(dev *d, float *dw, const float *dx, const int32_t *tok, int N, int C);
    void (*loss_head)(dev *d, head_loss *h);
    /* bf16 to nearest even; back is exact */
    void (*to_bf16)(dev *d, uint16_t *y, const float *x, int64_t n);
    void (*from_bf16)(dev *d, float *y, const uint16_t *x, int64_t n);
    void (*fill)(dev *d, float *y, float v, int64_t n);             /* y = v */
    void (*scale)(dev *d, float *y, float s, int64_t n);            /* y = s y */
    void (*copy)(dev *d, void *y, const void *x, size_t n);         /* n bytes; no overlap */

    /* ---- optimisers ---- */
    void (*step)(dev *d, const step_part *p, int n);
    /* sum: for each part, for each STEP_CHUNK of it, the sum of g g in double */
    void (*squares)(dev *d, double *sum, const step_part *p, int n);
    /* y = a x + b z; y may be x or z */
    void (*mix)(dev *d, float *y, float a, const float *x, float b, const float *z, int64_t n);
    /* y (cols,rows) = x (rows,cols) transposed; no overlap */
    void (*transpose)(dev *d, float *y, const float *x, int rows, int cols);

    void (*close)(dev *d);
    /* Called with the input of every matmul before it is made, its rows in order; NULL: nobody
     * watches (imatrix does). */
    void (*watch)(void *arg, const mm_out *out, int n_out, const float *x, size_t ldx, int N);
    void *watch_arg;
};

typedef struct {
    const char *device;         /* NULL or "cpu" */
    int n_threads;              /* 0: one per core */
    const char *cpu_level;      /* cap; NULL: best */
    dev *use;                   /* model_open: this device of another model, which stays its; NULL: its own */
    numa_mode numa;             /* not NUMA_OFF: threads are bound to cores, weights copied */
    bool copy;                  /* weights into private memory: model/copy.h */
    void (*progress)(void *arg, size_t done, size_t all);    /* while that goes on; NULL: none */
    void *progress_arg;
} dev_opt;
dev *dev_open(const dev_opt *o, dr_err *e);
void dev_close(dev *d);         /* NULL is fine */
#endif
