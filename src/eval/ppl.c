/* ppl.c - see ppl.h. */
#include "eval/ppl.h"
#include <math.h>
#include "kern/log_prob.h"

double log_prob(const float *logits, int V, int32_t id)
{
    float top;
    double sum = exp_sum_plain(NULL, logits, V, &top);
    return log_prob_of(logits[id], top, sum);
}

typedef struct { const int32_t *ids; int ctx, V; double nll; int64_t tokens; } score;

static int score_rows(void *arg, int first, int rows, const float *logits, dr_err *e)
{
    score *s = arg;
    for (int i = 0; i < rows && first + i + 1 < s->ctx; i++) {
        double lp = log_prob(logits + (size_t)i * (size_t)s->V, s->V, s->ids[first + i + 1]);
        if (isnan(lp))
            return err_set(e, DR_EFORMAT, "the logits at position %d are not numbers", first + i);
        s->nll -= lp;
        s->tokens++;
    }
    return DR_OK;
}

int ppl_measure(session *s, const int32_t *ids, int64_t n, int ctx, ppl_result *r,
                void (*progress)(void *, const ppl_result *, int64_t), void *arg, dr_err *e)
{
    if (ctx < 2 || ctx > session_ctx(s))
        return err_set(e, DR_EINVAL, "a window of %d ids; 2 to %d are possible", ctx,
                       session_ctx(s));
    int64_t windows = n / ctx;
    if (windows == 0)
        return err_set(e, DR_EINVAL, "the text has %lld ids, one window takes %d", (long long)n,
                       ctx);
    *r = (ppl_result){0};
    score sc = { .ctx = ctx, .V = session_model(s)->h.V };
    for (int64_t w = 0; w < windows; w++) {
        session_truncate(s, 0);
        sc.ids = ids + w * ctx;
        int rc = session_all_logits(s, sc.ids, ctx, score_rows, &sc, e);
        if (rc) return rc;
        *r = (ppl_result){ sc.tokens, w + 1, sc.nll / (double)sc.tokens,
                           exp(sc.nll / (double)sc.tokens) };
        if (progress) progress(arg, r, windows);
    }
    return DR_OK;
}
