/* net_priv.h - what net.c lays out and net_pass.c computes in. Letters: docs/symbols.md; N = n_rows. */
#ifndef TRAIN_NET_PRIV_H
#define TRAIN_NET_PRIV_H
#include "train/net.h"

/* What a layer computes on its way, (N, width) each. Layers have their own where it is kept for the
 * backward pass, else all have the same. */
typedef struct {
    float *xn1;                 /* C: the input, normed */
    float *q, *stat, *att;      /* nh*hs: turned and scaled; nh*2: of its softmax; nh*hs */
    float *k, *v;               /* nkv*hs: as rope_store takes them; backward: their gradients */
    float *xm;                  /* C: the residual stream behind attention */
    float *xn2;                 /* C: that, normed */
    float *gate, *up, *act;     /* F; act = silu(gate) up */
} layer_acts;

struct net {
    params *p;
    model *m;
    dev *d;
    net_opt o;
    float **x;                  /* (L+1) of (N,C): the residual stream before each layer, and the last */
    layer_acts *a;              /* (L,) */
    float *xf;                  /* C: x[L] normed */
    float *dx, *dn;             /* C: gradient of the residual stream; of something normed */
    float *datt, *dq;           /* nh*hs */
    float *cs, *inv;            /* rope: (max_len,hs/2,2), (hs/2,) */
    kv_cache kv;                /* pages of one layer, which all use in turn */
    int32_t *page;              /* page numbers of all documents, one after the other */
    seq_run *run;               /* (max_docs,) */
    int n_runs;
    bool fresh;                 /* gradients of matrices are to be written, not added to */
    char *mem;                  /* of the device, all of the above but kv */
    size_t mem_bytes;
    void *host;                 /* x, a, page, run */
};

/* b was checked. loss and logp of every row; grads: with the backward pass. */
void net_pass(net *n, const batch *b, loss_sum *sum, float *logp, bool grads);
/* Where in p->g the gradient of a weight of n->m lies. */
float *net_grad_of(const net *n, const void *weight);
#endif
