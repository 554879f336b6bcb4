/* zero.h - data parallelism with sharded optimiser state (ZeRO stage 1): every rank has all weights
 * and gradients and the optimiser state of its own range. A step is a reduce-scatter of gradients in
 * rank order, the optimiser on the own range, an all-gather of weights. With comm_self it is the
 * optimiser alone. Collective calls, as in dist/comm.h. */
#ifndef TRAIN_ZERO_H
#define TRAIN_ZERO_H
#include "dist/comm.h"
#include "train/optim.h"

typedef struct {
    comm *c;
    dev *d;
    optim *o;
    optim_tensor *t;
    int n;
    int64_t *cut;           /* (size+1,) of the flat arrays */
    int64_t *chunk_cut;     /* (size+1,) of the chunks */
    double *part;           /* (chunk_cut[size],) */
    float *vec;             /* all vectors together, */
    int64_t *vec_cut;       /* (size+1,) */
} zero;

int zero_init(zero *z, comm *c, const optim_opt *o, const optim_tensor *t, int n, dev *d, dr_err *e);
void zero_free(zero *z);                    /* a zeroed one is fine */

/* After the last micro-batch. g, the whole flat array: the own range becomes the sum of all ranks'.
 * sums (n_sums,), such as losses and weights: sums of all ranks. *norm: of the summed gradient, not
 * scaled; the same bits on every rank. */
int zero_reduce(zero *z, float *g, double *sums, int n_sums, double *norm, dr_err *e);
/* The step of optim_step on the own range, then all ranks' weights for everyone: w without wb, else
 * wb and the vectors of w, which is what a bf16 model reads (of w's matrices only the own range is
 * then up to date). w, wb, g: whole flat arrays. */
int zero_step(zero *z, float *w, uint16_t *wb, const float *g, float scale, double lr, int64_t step,
              dr_err *e);
/* Every rank's part of the masters for everyone, before a checkpoint in bf16. */
int zero_gather_w(zero *z, float *w, dr_err *e);

/* State array i as a checkpoint has it: `whole` (total elements) filled on every rank; and back,
 * from an array that is whole on every rank, whatever number of ranks wrote it. */
int zero_state_get(zero *z, int i, void *whole, dr_err *e);
void zero_state_put(zero *z, int i, const void *whole);
#endif
