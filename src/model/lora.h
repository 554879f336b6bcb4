/* lora.h - low-rank adapters: what a file of A and B adds to which weight. Read from a PEFT folder
 * (adapter_config.json, adapter_model.safetensors) or a GGUF adapter; of what PEFT can do beside,
 * nothing is ignored: it is refused by name.
 *
 *     y = W x + B' (A x)      B' = f32(scale * alpha / r * B), or alpha / sqrt(r) with use_rslora
 *
 * Ref: Hu et al. 2021, arXiv:2106.09685.
 *
 * Ownership: a lora owns f32 copies of its matrices. Immutable once open: share freely. */
#ifndef MODEL_LORA_H
#define MODEL_LORA_H
#include "model/weights.h"

/* What is added to one weight; wmat.lora chains those of several adapters in order. For the
 * embedding a is turned: (V,r), whose rows are taken by token. */
typedef struct lora_mat {
    wmat a, b;                      /* (r,K) (rows,r) F32; b is scaled, its rows in the model's order, its
                                       elements where low_at says */
    const struct lora_mat *next;
} lora_mat;

typedef struct lora {
    arena mem;
    lora_mat *mat;                  /* (n_weights, L), by place; a.data NULL: nothing is added */
    int L, n_mat;                   /* n_mat: how many are there */
    int r;                          /* the largest */
    struct lora *next;
} lora;

typedef struct { const char *path; float scale; } lora_ref;
/* "PATH" or "PATH:SCALE"; the path is copied to path, of n bytes. */
int lora_ref_parse(lora_ref *r, const char *text, char *path, size_t n, dr_err *e);

/* Everything is checked against the base's shapes h, adjacent being the order that rows of q and k
 * are wanted in. NULL: *e says why. */
lora *lora_open(const lora_ref *ref, const hparams *h, bool adjacent, dr_err *e);
/* The same from tensors; config is PEFT's adapter_config.json, NULL for a GGUF adapter. */
lora *lora_from_tensors(const tensors *ts, const json_t *config, float scale, const hparams *h,
                        bool adjacent, dr_err *e);
void lora_close(lora *l);                                   /* and those chained; NULL is fine */
/* What is added to row `row` of weight_table in layer l (0 outside layers); NULL: nothing. */
const lora_mat *lora_at(const lora *l, int row, int layer);

size_t lora_bytes(const lora *l);                           /* of its matrices; not of those chained */

/* lora_peft.c: the factor of a module ("model.layers.0.self_attn.q_proj") whose A has r rows. */
int lora_peft_check(const json_t *config, dr_err *e);
int lora_peft_scale(const json_t *config, const char *module, int64_t r, double *scale, dr_err *e);
#endif
