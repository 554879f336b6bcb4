/* model.h - an open model and its forward pass.
 *
 * Ownership: a model owns its mapping and its device; a workspace borrows the model.
 * Threads: the model is immutable once open; its device serves one forward at a time. */
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H
#include "model/copy.h"
#include "model/hparams.h"
#include "model/kv.h"
#include "model/lora.h"
#include "model/weights.h"

typedef struct model {
    hparams h;
    weights w;
    tensors *ts;                 /* NULL: model_over */
    dev *d;
    bool borrows_dev;            /* d is another model's, which is closed later */
    weights_copy copy;           /* bytes 0: weights stay where they are */
    buf warnings;                /* lines the user must see; empty: none */
    char *path;
    lora *adapters;              /* in the order in which they are added; NULL: none */
} model;

model *model_open(const char *path, const dev_opt *o, dr_err *e);
/* The same from weights in memory (random models of `bench --shape`): takes ts over. */
model *model_from_tensors(tensors *ts, const dev_opt *o, dr_err *e);
/* The same for looking at: weights that lie in several shards are not put together, so nothing
 * can be evaluated. */
model *model_describe(tensors *ts, const dev_opt *o, dr_err *e);
/* The same over weights in memory that is kept by the caller, on the device d, which stays its; m->ts
 * is NULL. Weights may change between two forwards. */
model *model_over(const hparams *h, weight_place place, const void *arg, dev *d, dr_err *e);
/* What holds the weights now: what of the files is in the page cache, private copies, and what of
 * both is in huge pages. false: the system does not say. */
typedef struct { size_t mapped, cached, cached_huge, copied, copied_huge; } model_pages;
bool model_pages_of(const model *m, model_pages *p);
void model_close(model *m);                        /* NULL is fine */
/* Add an adapter to what is computed, after those added before. Before the first workspace. */
int model_add_lora(model *m, const lora_ref *ref, dr_err *e);
int model_widest(const model *m);                  /* values in the widest input of a product */
size_t model_lora_bytes(const model *m);           /* private memory of all adapters */

/* Neighbouring rows n0 .. n0+N-1 of a step that one adapter adds to. */
typedef struct lora_part { const lora *l; int n0, N; } lora_part;

/* What a forward pass works in: activations for up to n_rows rows and logits for n_out. */
typedef struct {
    const model *m;
    int n_rows, n_out, n_ctx;
    float *x, *xn, *q, *k, *v, *att, *gate, *up;   /* (n_rows, their widths) */
    float *logits;                                 /* (n_out,V) */
    float *cs, *inv;                               /* rope (n_ctx,hs/2,2): rows made on demand */
    int cs_have;
    void *mem;
    size_t mem_bytes, cs_bytes;
    int rank;                                      /* of adapters at most; 0: none may come */
    float *run_t;                                  /* (3,n_rows,rank): A x of three outputs */
    void *host;                                    /* what the three below lie in */
    lora_part *part;                               /* (n_rows,) neighbouring rows of one adapter */
    low_rank *job;                                 /* (3*n_rows,) */
    int32_t *keep;                                 /* (2,n_rows) rows that go on to the end */
    int n_part;
    float *hidden;                                 /* of the last step: (n_hid,C) */
} workspace;

size_t workspace_bytes(const model *m, int n_rows, int n_out, int n_ctx);
int workspace_init(workspace *ws, const model *m, int n_rows, int n_out, int n_ctx, dr_err *e);
/* The same where runs may have adapters of ranks up to `rank`. */
size_t workspace_bytes_rank(const model *m, int n_rows, int n_out, int n_ctx, int rank);
int workspace_init_rank(workspace *ws, const model *m, int n_rows, int n_out, int n_ctx, int rank,
                        dr_err *e);
void workspace_free(workspace *ws);

/* Evaluate N <= n_rows rows: tok (N,), in runs that cover them in order. The runs' pages must
 * be writable (kv_grow). out: n_out <= ws->n_out ascending row numbers whose logits are
 * wanted; they land in ws->logits in that order. Cannot fail: tokens and sizes were checked. */
void model_forward(const model *m, workspace *ws, const kv_cache *kv, const int32_t *tok, int N,
                   const seq_run *run, int n_runs, const int32_t *out, int n_out);

/* The same with an adapter for each run, added after the model's own, and hidden states. What a run gets
 * does not depend on the others nor on their adapters, bit for bit. Quickest when runs of one adapter are
 * neighbours: their rows are then one product. */
typedef struct {
    const int32_t *tok;                            /* (N,) */
    int N;
    const seq_run *run;
    int n_runs;
    const lora *const *lora;                       /* (n_runs,) NULL in it: none; NULL: none has any */
    const int32_t *out;                            /* ascending rows whose logits are wanted: ws->logits */
    int n_out;
    const int32_t *hid;                            /* ascending rows whose last hidden states are wanted, */
    int n_hid;                                     /* the last norm applied: ws->hidden (n_hid,C) */
} model_step;
void model_eval(const model *m, workspace *ws, const kv_cache *kv, const model_step *s);

/* Floating-point operations of the products for one token (2 per weight), head excluded. */
double model_flops_per_token(const hparams *h);
#endif
