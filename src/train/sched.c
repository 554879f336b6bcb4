/* sched.c - phases and rates: see sched.h. */
#include "train/sched.h"
#include <math.h>
#include <string.h>

const char *const sched_law_name[SCHED_N_LAWS] = { "keep", "constant", "linear", "cosine", "wsd",
                                                   "wsd-sqrt" };

int sched_law_by_name(const char *name)
{
    for (int i = 0; i < SCHED_N_LAWS; i++)
        if (!strcmp(name, sched_law_name[i])) return i;
    return -1;
}

/* ---- the law ---- */

static double shape(sched_law law, double t)
{
    const double pi = 3.14159265358979323846;
    switch (law) {
    case SCHED_COSINE: return 0.5 * (1 + cos(pi * t));
    case SCHED_WSD_SQRT: return 1 - sqrt(t);
    default: return 1 - t;
    }
}

/* At x steps or tokens after the law began; `batch` is what this step adds to x. */
static double rate(const sched_phase *p, int64_t x, int64_t batch)
{
    if (x < p->warmup) {
        double t = (double)(x + batch) / (double)p->warmup;
        return t < 1 ? p->peak * t : p->peak;
    }
    if (p->law == SCHED_CONSTANT) return p->peak;
    if (x >= p->length) return p->end;
    int64_t from = p->length - p->decay;
    if (x < from) return p->peak;
    return p->end + (p->peak - p->end) * shape(p->law, (double)(x - from) / (double)p->decay);
}

/* Of phase k's law, at a step whose first token is number `tokens`. */
static double rate_at(const sched *s, int k, int64_t step, int64_t tokens, int64_t batch)
{
    int l = s->law_at[k];
    const sched_phase *p = &s->p[l];
    return p->by_tokens ? rate(p, tokens - s->tok0[l], batch) : rate(p, step - s->step0[l], 1);
}

/* ---- phases ---- */

static int bad(dr_err *e, int k, const char *what)
{
    return err_set(e, DR_EINVAL, "phase %d: %s", k + 1, what);
}

static int check_law(const sched_phase *p, int k, dr_err *e)
{
    if (p->law == SCHED_KEEP)
        return k ? DR_OK : bad(e, k, "there is no phase before the first whose law it could keep");
    if (p->law < 0 || p->law >= SCHED_N_LAWS) return bad(e, k, "the law is none of the known");
    if (!isfinite(p->peak) || p->peak > 1e3) return bad(e, k, "peak must be a rate up to 1000");
    if (p->peak < 0 && k == 0) return bad(e, k, "peak must be given in the first phase");
    if (!isfinite(p->end) || p->end < 0 || p->end > 1e3)
        return bad(e, k, "end must be a rate from 0 to 1000");
    if (p->warmup < 0 || p->decay < 0 || p->length < 0)
        return bad(e, k, "warmup, decay and length must not be negative");
    bool wsd = p->law == SCHED_WSD || p->law == SCHED_WSD_SQRT;
    if (wsd && !p->decay) return bad(e, k, "wsd wants decay, the length of its last part");
    if (!wsd && p->decay) return bad(e, k, "decay is for wsd alone");
    return DR_OK;
}

static int check_phase(const sched_phase *p, int k, int64_t before, dr_err *e)
{
    if (p->seq < 1 || p->seq > SCHED_MAX_SEQ)
        return err_set(e, DR_EINVAL, "phase %d: seq is %d, 1 to %d is possible", k + 1, p->seq,
                       SCHED_MAX_SEQ);
    if (p->batch_tokens < 1 || p->batch_tokens % p->seq)
        return err_set(e, DR_EINVAL, "phase %d: batch_tokens is %lld, which is no multiple of seq "
                       "%d", k + 1, (long long)p->batch_tokens, p->seq);
    if (p->batch_tokens > INT64_MAX / 4 || p->until_tokens > INT64_MAX / 4)
        return bad(e, k, "more than 2^61 tokens");
    if (p->until_tokens <= before)
        return err_set(e, DR_EINVAL, "phase %d: until_tokens is %lld, but the phases before take "
                       "%lld", k + 1, (long long)p->until_tokens, (long long)before);
    if (p->mix < 0) return bad(e, k, "mix must not be negative");
    return check_law(p, k, e);
}

/* Lengths that were left open, when the phases that keep the law are known: [k,end). */
static int close_law(sched *s, int k, int end, dr_err *e)
{
    sched_phase *p = &s->p[k];
    const int64_t *at = p->by_tokens ? s->tok0 : s->step0;
    bool wsd = p->law == SCHED_WSD || p->law == SCHED_WSD_SQRT;
    if (p->peak < 0) {
        int64_t batch = s->p[k - 1].batch_tokens;
        p->peak = rate_at(s, k - 1, s->step0[k], s->tok0[k], batch);
    }
    if (!p->length) p->length = at[end] - at[k];
    if (p->law != SCHED_CONSTANT && p->end > p->peak)
        return bad(e, k, "end is more than peak");
    if (p->warmup > p->length)
        return err_set(e, DR_EINVAL, "phase %d: a warm-up of %lld is longer than the law's %lld %s",
                       k + 1, (long long)p->warmup, (long long)p->length,
                       p->by_tokens ? "tokens" : "steps");
    if (wsd && p->decay > p->length - p->warmup)
        return err_set(e, DR_EINVAL, "phase %d: a decay of %lld does not fit behind a warm-up of "
                       "%lld into the law's %lld %s", k + 1, (long long)p->decay,
                       (long long)p->warmup, (long long)p->length,
                       p->by_tokens ? "tokens" : "steps");
    if (!wsd) p->decay = p->length - p->warmup;
    return DR_OK;
}

int sched_init(sched *s, const sched_phase *p, int n, dr_err *e)
{
    if (n < 1 || n > SCHED_PHASES)
        return err_set(e, DR_EINVAL, "%d phases, 1 to %d are possible", n, SCHED_PHASES);
    sched w = { .n = n };
    for (int k = 0; k < n; k++) {
        int rc = check_phase(&p[k], k, w.tok0[k], e);
        if (rc < 0) return rc;
        w.p[k] = p[k];
        w.law_at[k] = p[k].law == SCHED_KEEP ? w.law_at[k - 1] : k;
        int64_t b = p[k].batch_tokens, steps = (p[k].until_tokens - w.tok0[k] + b - 1) / b;
        w.step0[k + 1] = w.step0[k] + steps;
        w.tok0[k + 1] = w.tok0[k] + steps * b;
    }
    for (int k = 0, end; k < n; k = end) {
        for (end = k + 1; end < n && w.law_at[end] == k;) end++;
        int rc = close_law(&w, k, end, e);
        if (rc < 0) return rc;
    }
    *s = w;
    return DR_OK;
}

sched_point sched_at(const sched *s, int64_t step)
{
    DR_ASSERT(step >= 0 && step <= s->step0[s->n]);
    int k = 0;
    while (k + 1 < s->n && step >= s->step0[k + 1]) k++;
    const sched_phase *p = &s->p[k];
    int64_t tokens = s->tok0[k] + (step - s->step0[k]) * p->batch_tokens;
    return (sched_point){ .phase = k, .mix = p->mix, .seq = p->seq,
                          .batch_tokens = p->batch_tokens, .tokens = tokens,
                          .lr = rate_at(s, k, step, tokens, p->batch_tokens) };
}
