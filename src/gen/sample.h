/* sample.h - from logits to a token: penalties, filters, draw, log-probabilities. The chain
 * and its order are in docs/sampling.md. A pick is a pure function of (logits, history,
 * options, seed, sample, position): a sampler holds options and workspace, no state that a
 * later pick could see, and allocates nothing after sampler_new.
 * Threads: one sampler is used by one thread at a time. */
#ifndef GEN_SAMPLE_H
#define GEN_SAMPLE_H
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "text/tokenizer.h"

/* The steps whose order can be chosen. Bias, penalties and DRY always come before them. */
typedef enum {
    SAMPLE_END, SAMPLE_TOP_K, SAMPLE_TYPICAL, SAMPLE_TOP_P, SAMPLE_MIN_P, SAMPLE_XTC,
    SAMPLE_TEMPERATURE, SAMPLE_N
} sample_step;

typedef struct { int32_t id; float add; } sample_bias;      /* add -INFINITY: never this token */

typedef struct {
    float temperature;              /* 0: the best token, no draw; 1: off */
    int top_k;                      /* 0: off */
    float top_p, min_p, typical_p;  /* 1, 0, 1: off */
    float xtc_probability, xtc_threshold;                   /* probability 0: off */
    float repeat_penalty;                                   /* 1: off */
    float presence_penalty, frequency_penalty;              /* 0: off */
    int64_t penalty_last_n;         /* tokens of history these three look at; -1: all */
    float dry_multiplier, dry_base;                         /* multiplier 0: off */
    int dry_allowed_length;
    int64_t dry_last_n;             /* -1: all of the history */
    const int32_t *dry_breakers;    /* ids; sample_dry_breakers finds them; borrowed by _new */
    int64_t n_dry_breakers;
    const sample_bias *bias;        /* copied by sampler_new */
    int n_bias;
    uint64_t seed;
    bool logprobs;                  /* report the chosen token's log-probability … */
    int n_probs;                    /* … and those of the best n tokens */
    bool probs_after_filters;       /* of the filtered distribution, not of the raw logits */
    sample_step order[SAMPLE_N];    /* ends with SAMPLE_END; a step left out does not run */
} sample_opt;

typedef struct { int32_t id; float logprob; } sample_prob;

typedef struct {
    int32_t id;
    float logprob;                  /* 0 unless asked for */
    int n_top;
    const sample_prob *top;         /* best first; valid until the next pick */
} sample_result;

typedef struct sampler sampler;

/* Everything off: a draw from softmax(logits). DRY's base, length and so on have llama.cpp's
 * usual values, ready for a multiplier. */
sample_opt sample_opt_default(void);
/* "top_k,top_p,temperature": the steps in the order they run. */
int sample_order_parse(sample_opt *o, const char *names, dr_err *e);
const char *sample_step_name(sample_step s);
/* A seed that no one can guess, below 2^53 so that it survives JSON. */
uint64_t sample_new_seed(void);
/* What a model's generation_config.json asks for, over *o. Unknown keys are ignored. */
int sample_opt_generation_config(sample_opt *o, const json_t *config, dr_err *e);
/* The sentence for the first option out of range; DR_OK when all are good. */
int sample_opt_check(const sample_opt *o, int32_t n_vocab, dr_err *e);
/* Append the ids of every token whose text contains one of the strings. A string that no
 * token contains is an error that names it. */
int sample_dry_breakers(const tokenizer *t, const char *const *s, int n, ids *out, dr_err *e);

/* max_history: the longest history that will be passed (longer ones are cut to their end). */
sampler *sampler_new(const sample_opt *o, int32_t n_vocab, int64_t max_history, dr_err *e);
void sampler_free(sampler *s);                               /* NULL is fine */

/* Only tokens whose bit is set may be chosen from now on: (n_vocab + 63) / 64 words, borrowed; NULL:
 * all. The others' logits are -inf before anything else happens. */
void sampler_mask(sampler *s, const uint64_t *mask);

/* One sampler for picks with changing options, as a batch has: everything that any of them needs is
 * taken here, for up to n_probs best tokens. sampler_use sets what the next picks go by; the options were
 * checked, and they, their bias and their breakers are borrowed until the next sampler_use. */
sampler *sampler_new_shared(int32_t n_vocab, int64_t max_history, int n_probs, dr_err *e);
void sampler_use(sampler *s, const sample_opt *o, const uint64_t *mask);
/* Log-probability of token id by these logits, and the best n_probs of the options in use, as a pick
 * reports them. DR_EINVAL as for a pick. */
int sampler_report(sampler *s, const float *logits, int32_t id, sample_result *r, dr_err *e);

/* Choose the token at `pos` of sample number `sample`. history: the tokens so far, prompt
 * included, newest last. A NaN, +inf or all -inf among the logits is an error. */
int sampler_pick(sampler *s, const float *logits, const int32_t *history, int64_t n_history,
                 uint64_t sample, uint64_t pos, sample_result *r, dr_err *e);
/* The filtered distribution that sampler_pick draws from, all n_vocab probabilities (a token
 * filtered out has 0). For tests and for speculation's acceptance rule. */
int sampler_probs(sampler *s, const float *logits, const int32_t *history, int64_t n_history,
                  uint64_t sample, uint64_t pos, double *p, dr_err *e);
#endif
