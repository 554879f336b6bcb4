/* kl.h - how far a model's predictions are from a reference's, over a whole text: the reference
 * saves its log-probabilities once (logit_file.h), others are measured against the file. */
#ifndef EVAL_KL_H
#define EVAL_KL_H
#include "eval/logit_file.h"
#include "eval/ppl.h"

/* As ppl_measure, and every row goes to the file at path, which appears when it is whole. */
int kl_save(session *s, const char *path, const int32_t *ids, int64_t n, int ctx, ppl_result *r,
            void (*progress)(void *arg, const ppl_result *so_far, int64_t windows), void *arg,
            dr_err *e);

typedef struct {
    ppl_result ours, ref;       /* over the same positions */
    /* nats of sum p (log p - log q), p the reference's; quantiles interpolate between neighbours */
    double mean, p50, p90, p95, p99, p999, max;
    double same_top;            /* share of positions with the same likeliest id */
    double dp_mean, dp_rms;     /* of q - p of the id that came next */
} kl_result;

/* Measure s on the file's ids. bos: what llama-perplexity's files have at the front of each window
 * (the tokenizer's BOS if it asks for one, else -1); unused for drover's own. */
int kl_measure(session *s, const logit_file *ref, int32_t bos, kl_result *r,
               void (*progress)(void *arg, const ppl_result *so_far, int64_t windows), void *arg,
               dr_err *e);
#endif
