/* weights.h - the tensors of the model as one table: name in each container, place, shape.
 * Sizes, pointers, names and checks are all loops over it. Matrices stay where the file is
 * mapped; norms and biases, which are small, become f32 in the model's arena. */
#ifndef MODEL_WEIGHTS_H
#define MODEL_WEIGHTS_H
#include "base/arena.h"
#include "dev/dev.h"
#include "format/tensors.h"
#include "model/hparams.h"

typedef struct {
    const float *attn_norm, *ffn_norm;      /* (C,) */
    wmat wq, wk, wv, wo;                    /* (nh*hs,C) (nkv*hs,C) same (C,nh*hs) */
    wmat w1, w3, w2;                        /* (F,C) gate, (F,C) up, (C,F) down */
} layer_weights;

typedef struct {
    wmat tok_emb, out;                      /* (V,C); out is tok_emb when tied */
    const float *out_norm;                  /* (C,) */
    layer_weights *layer;                   /* (L,) */
    arena mem;
} weights;

/* One row per tensor. %d is the layer. A name may be NULL where the container has none. */
typedef struct {
    const char *gguf, *hf, *meta;
    size_t at;                /* offset in layer_weights, or in weights if not per layer */
    bool per_layer, matrix, may_have_bias;
    char rows, cols;          /* axis letters: V C F Q = nh*hs K = nkv*hs; cols 0: a vector */
    bool joins;               /* multiplies the input of the row before, in the same call */
} wrow;
extern const wrow weight_table[];
extern const int n_weights;

int64_t axis_size(char axis, const hparams *h);
/* The name of layer l's tensor of this row in a container. */
void wrow_name(char *s, size_t n, const wrow *r, container c, int l);
/* Layer l's tensor of this row; NULL: absent, or the head is the embedding. */
const tensor *wrow_tensor(const wrow *r, const tensors *ts, const hparams *h, int l);
/* Fill w from the open file; every tensor must be there, of the right shape and of a type that
 * runs; the sentence names the first that is not. ts must outlive w. */
int weights_load(weights *w, const tensors *ts, const hparams *h, dr_err *e);
/* Where a tensor of the model lies: (rows,cols) without gaps, *type says as what (a vector: DT_F32).
 * NULL: there is none, which only a tied head may be. */
typedef const void *(*weight_place)(const void *arg, const wrow *r, int l, int *type);
/* The same over memory of the caller's, which must outlive w. */
int weights_over(weights *w, const hparams *h, weight_place place, const void *arg, dr_err *e);
void weights_free(weights *w);
/* Bytes of all matrices as stored, and of those read for one decoded token. */
size_t weights_bytes(const weights *w, const hparams *h, size_t *per_token);
#endif
