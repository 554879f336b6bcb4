/* net.h - the training step of a model: forward, loss, backward, over params.h's arrays.
 *
 * The forward pass is model_forward's operations in the same order (one run a document, keys and values
 * in pages of params_kv's type), so what is trained is what is sampled from, bit for bit: the
 * log-probabilities here are those that a session over params_model computes, in any batch and chunks.
 *
 * One loss core for every trainer: the gradient is that of the SUM of weight * -log p(target), not
 * scaled, added to p->g; loss_sum carries the sum and the weights beside it. Both are added up over
 * micro-batches and ranks, and 1 / sum of weights is applied once, by the optimiser's step.
 *
 * What is kept for the backward pass: recompute 0: all; 1: norms and SwiGLU are computed again;
 * 2: a whole layer is, from its input. The results have the same bits.
 * Ownership: borrows params (with gradients) and its device. Threads: one at a time. After net_new
 * a step allocates nothing. */
#ifndef TRAIN_NET_H
#define TRAIN_NET_H
#include "train/batch.h"
#include "train/params.h"

typedef struct {
    int n_rows;                 /* tokens of a batch at most */
    int max_docs;               /* documents of a batch at most; 0: n_rows / 16 + 1 */
    int max_len;                /* positions of a document at most; 0: the model's */
    int recompute;              /* 0, 1, 2 */
    bool eval_only;             /* no backward: net_eval alone */
} net_opt;

/* Bytes, known before anything is taken. */
typedef struct {
    size_t kept;                /* what the forward pass leaves for the backward pass */
    size_t kv;                  /* one layer's pages of keys and values, for max_docs */
    size_t work;                /* what one layer works in, rope table */
    size_t scratch;             /* the device's */
    size_t total;
} net_plan;

/* Sums over tokens; loss / weight is the mean that is shown. */
typedef struct { double loss, weight; } loss_sum;

typedef struct net net;

/* d: the device that it will run on (p may be only planned). DR_EINVAL: options that make no sense. */
int net_plan_make(net_plan *pl, const params *p, dev *d, const net_opt *o, dr_err *e);
net *net_new(params *p, const net_opt *o, dr_err *e);
void net_free(net *n);                                         /* NULL is fine */

/* The next net_step begins new gradients: what p->g holds does not count. Matrices' are written by it rather
 * than zeroed here, which saves two passes over them; so p->g means nothing until that step. */
void net_zero_grad(net *n);
/* Forward and backward of a batch: p->g and *sum are added to. Refused before anything is computed:
 * what batch_check refuses, more tokens or documents than planned, documents with a parent. logp
 * (b->n,), NULL: not wanted: each target's log-probability, 0 where there is none or
 * its weight is 0. */
int net_step(net *n, const batch *b, loss_sum *sum, float *logp, dr_err *e);
/* The same without gradients. */
int net_eval(net *n, const batch *b, loss_sum *sum, float *logp, dr_err *e);
/* The model over the same weights, for sessions; the net's. */
const model *net_model(const net *n);

/* Floating-point operations of forward and backward for one token, recompute not counted: 6 for each
 * weight of a product (the head is one, the embedding is not), and attention over rows of seq
 * positions: 12 L nh hs seq in full, half of it when causal. Both conventions are in use; MFU
 * says which. */
double net_flops_per_token(const hparams *h, double seq, bool causal);
#endif
