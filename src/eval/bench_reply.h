/* bench_reply.h - how fast a text is continued, plain and with guesses (gen/spec.h), in turn. */
#ifndef EVAL_BENCH_REPLY_H
#define EVAL_BENCH_REPLY_H
#include "eval/bench.h"
#include "gen/spec.h"

typedef struct {
    int n_gen, reps;
    kv_type kv;
    const model *draft;             /* NULL: lookup alone */
} bench_reply_opt;

typedef struct {
    int prompt, tokens;             /* of the text; of the continuation */
    double plain[BENCH_MAX], ahead[BENCH_MAX];      /* tokens/s, one a repetition */
    double gain;                    /* median of ahead / plain, pair by pair */
    int drafted, accepted;          /* of all repetitions */
} bench_reply_result;

/* Continue these tokens greedily, past ends. DR_EINVAL when the two continuations differ. */
int bench_reply(const model *m, const tokenizer *t, const int32_t *tok, int n,
                const bench_reply_opt *o, bench_reply_result *r, dr_err *e);
#endif
