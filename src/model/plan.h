/* plan.h - bytes needed, computed before anything is allocated. `drover info` prints it and
 * opening a session refuses by it. */
#ifndef MODEL_PLAN_H
#define MODEL_PLAN_H
#include "model/model.h"

typedef struct {
    size_t mapped;        /* the files' bytes: page cache, shared, given back under pressure */
    size_t weights;       /* matrices as stored */
    size_t per_token;     /* bytes of weights read for one decoded token */
    size_t kv;            /* keys and values, context filled, all sequences */
    size_t workspace;     /* activations, logits, rope table */
    size_t scratch;       /* what the device takes for its operations */
    size_t gathered;      /* weights yet to be copied, or put together from model-parallel shards */
    size_t adapters;      /* LoRA, as f32 */
    size_t private_total; /* kv + workspace + scratch + gathered + small tables */
} plan;

typedef struct { int n_ctx, n_seqs, n_rows, n_out; kv_type kv; } plan_opt;

void plan_make(plan *p, const model *m, const plan_opt *o);
/* Refuse with numbers when `free` bytes are not enough; free 0: unknown, never refused. */
int plan_fits(const plan *p, size_t free, dr_err *e);
/* The longest context that fits in `free` bytes with these options; 0: none. */
int plan_max_ctx(const model *m, plan_opt o, size_t free);
#endif
