/* sample_args.h - the sampling options of run, as a table: also what the chat's /set knows. */
#ifndef CLI_SAMPLE_ARGS_H
#define CLI_SAMPLE_ARGS_H
#include "cli/opt.h"
#include "format/tensors.h"
#include "gen/sample.h"

typedef struct {
    float temp, top_p, min_p, typical_p, xtc_probability, xtc_threshold;
    float repeat_penalty, presence_penalty, frequency_penalty, dry_multiplier, dry_base;
    int top_k, dry_allowed_length;
    int64_t repeat_last_n, dry_last_n, seed;        /* seed -1: a new one each time */
    const char *order;
    opt_list bias, dry_breakers;
    int n_probs;
    bool logprobs;
} sample_args;
extern const opt sample_opts[];

/* What applies before the command line: drover's own values, then the model's generation
 * configuration (generation_config.json, or general.sampling.* of a GGUF). */
int sample_args_default(sample_args *a, const tensors *ts, dr_err *e);

/* The options as the sampler takes them. Owns what they borrow until sample_set_free. */
typedef struct { sample_opt opt; ids breakers; sample_bias *bias; } sample_set;
int sample_args_apply(const sample_args *a, const tokenizer *t, int32_t n_vocab, sample_set *s,
                      dr_err *e);
void sample_set_free(sample_set *s);
/* One line for /show: what differs from off. */
void sample_args_print(FILE *f, const sample_args *a);
#endif
