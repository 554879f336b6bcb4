/* ppl.h - perplexity, as every comparison of models measures it. */
#ifndef EVAL_PPL_H
#define EVAL_PPL_H
#include "gen/session.h"

typedef struct { int64_t tokens, windows; double nll, ppl; } ppl_result;

/* Windows of `ctx` ids that do not overlap, each on its own, no BOS added; positions 1..ctx-1
 * of each are scored; a rest shorter than a window is left out. nll is the mean in nats.
 * progress (may be NULL) is called after each window. */
int ppl_measure(session *s, const int32_t *ids, int64_t n, int ctx, ppl_result *r,
                void (*progress)(void *arg, const ppl_result *so_far, int64_t windows),
                void *arg, dr_err *e);

/* log p(id) under softmax of (V,) logits: log_prob_of, docs/numerics.md. */
double log_prob(const float *logits, int V, int32_t id);
#endif
