/* params.h - what is trained, as flat arrays and one table of what lies where in them.
 *
 * Master weights and gradients are one f32 array each, (n_elem,); a model trained in bf16 has its
 * weights once more as bf16, (n_elem,), at the same places. Tensors follow one another in the order of
 * weight_table (those outside the layers first, then layer by layer), each from a multiple of
 * PARAM_ALIGN elements on; what lies between them is 0 in every array and stays 0, so that whole
 * ranges may be added up, clipped, stepped and saved without the table.
 *
 * Rows of q and k are in Hugging Face's order whatever file they came from, and h.adjacent is false:
 * results are the same, and a checkpoint has one form. A tied head is not a second tensor.
 * Ownership: owns its arrays and a copy of the rope's divisors; a model over it borrows them.
 * Threads: one at a time. */
#ifndef TRAIN_PARAMS_H
#define TRAIN_PARAMS_H
#include "model/model.h"

enum { PARAM_ALIGN = 32 };      /* elements: 64 bytes of bf16 */

typedef struct {
    const wrow *row;            /* of weight_table */
    int l;                      /* layer; -1: not in one */
    int rows, cols;             /* a vector is one row */
    bool matrix;
    int64_t at, n;              /* elements [at, at+n) of each array; n = rows * cols */
} param;

typedef struct {
    hparams h;
    int type;                   /* DT_F32 or DT_BF16: what products read */
    param *p;
    int n;
    int64_t n_elem;             /* of each array, a multiple of PARAM_ALIGN */
    int64_t n_weights;          /* the same without what lies between tensors */
    dev *d;                     /* NULL: only planned */
    float *w, *g;               /* (n_elem,) master weights; gradients, NULL: not asked for */
    uint16_t *bf;               /* (n_elem,) DT_BF16: matrices as bf16, vectors unused; else NULL */
    float divisor[HP_MAX_HEAD / 2];
} params;

/* The table for a model of these numbers; no arrays yet. type: DT_F32 or DT_BF16, others are refused. */
params *params_new(const hparams *h, int type, dr_err *e);
void params_free(params *p);                                   /* NULL is fine */
/* Bytes that params_alloc takes. */
size_t params_bytes(const params *p, bool grads);
/* The arrays on a device, zeroed; d must outlive p. */
int params_alloc(params *p, dev *d, bool grads, dr_err *e);

/* Weights of an open model of the same numbers, dequantised, of any container and type; then
 * params_round of all. Refused: biases, adapters, a tied head that differs from the embedding. */
int params_load(params *p, const model *from, dr_err *e);
/* For training from scratch: matrices N(0, std), those that write into the residual stream (wo, w2)
 * N(0, std / sqrt(2 L)), norms 1; keyed by (seed, tensor, place); then params_round of all. */
void params_random(params *p, uint64_t seed, float std);
/* After elements [lo,hi) of w have changed: the same in bf. Nothing to do for DT_F32. lo and hi are
 * multiples of PARAM_ALIGN. */
void params_round(params *p, int64_t lo, int64_t hi);
void params_zero_grad(params *p);

/* A model that reads these arrays: whatever is stepped is what it computes with, from its next forward
 * on. In DT_F32 its keys and values belong into a cache of type KV_F32, in DT_BF16 of KV_BF16
 * (params_kv): then its log-probabilities are the training forward's, bit for bit. Close before p. */
model *params_model(const params *p, dr_err *e);
kv_type params_kv(const params *p);

/* Name in a container: "model.layers.3.mlp.up_proj.weight". */
void param_name(char *s, size_t n, const param *q, container c);
/* By name in any container; -1: none. */
int params_find(const params *p, const char *name);
#endif
