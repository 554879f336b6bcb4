/* run_loop.c - the steps of a run: gradients of the micro-batches, their sum over ranks, the guard,
 * the optimiser, and what is done every so many steps. */
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "gen/generate.h"
#include "train/run_priv.h"

loader_phase run_phase(const trainer *t, int phase)
{
    const sched_phase *p = &t->s->p[phase];
    const recipe_reals *mix = &t->r->phase[phase].mix;
    loader_phase l = { .seq = p->seq, .rows = (int)(p->batch_tokens / p->seq),
                       .micro_rows = run_micro_rows(t->r, p->seq, p->batch_tokens, t->c->size) };
    for (int i = 0; i < mix->n; i++) l.weight[i] = mix->v[i];
    return l;
}

int run_set_phase(trainer *t, int phase, dr_err *e)
{
    if (phase == t->phase) return DR_OK;
    loader_phase l = run_phase(t, phase);
    t->phase = phase;
    return loader_set_phase(t->l, &l, e);
}

/* What all ranks learn of a step. */
typedef struct { double loss, weight, stop, bad; } sums;

/* Gradients and sums of this rank's micro-batches. */
static int gradients(trainer *t, sums *s, dr_err *e)
{
    loss_sum sum = {0};
    int n = loader_next(t->l, e), rc = n < 0 ? n : DR_OK;
    if (n > 0) net_zero_grad(t->n);
    else params_zero_grad(t->p);
    for (int i = 0; i < n && rc == DR_OK; i++) {
        batch b;
        rc = loader_batch(t->l, i, &b, e);
        if (rc == DR_OK) rc = net_step(t->n, &b, &sum, NULL, e);
    }
    *s = (sums){ sum.loss, sum.weight, t->o->stop && *t->o->stop ? 1 : 0, 0 };
    return comm_agree(t->c, rc, e);
}

/* What the guard says of the step; DR_OK with *apply false: it is not learned from. */
static int judge(trainer *t, double loss, double norm, bool *apply, dr_err *e)
{
    const recipe *r = t->r;
    guard_verdict v = guard_look(&t->g, loss, norm);
    const char *what = v == GUARD_NAN ? "not a number" : "a spike";
    *apply = v == GUARD_FINE || r->guard.action == GUARD_OFF;
    if (*apply) return DR_OK;
    t->skipped++;
    if (r->guard.action == GUARD_STOP || t->skipped > r->guard.max)
        return err_set(e, DR_EINVAL, "step %" PRId64 ": the loss %g or the gradient's norm %g is %s; "
                       "%d such steps so far, guard.max is %d", t->step + 1, loss, norm, what,
                       t->skipped, r->guard.max);
    if (r->guard.action == GUARD_REWIND) {
        int rc = run_rewind(t, e);
        if (rc != DR_OK) return rc;
    } else {
        snprintf(t->event, sizeof t->event, "skipped: %s", what);
    }
    run_say(t, "step %" PRId64 ": loss %g, norm %g: %s; %s", t->step + 1, loss, norm, what, t->event);
    return DR_OK;
}

static int one_step(trainer *t, bool *stop, dr_err *e)
{
    sched_point at = sched_at(t->s, t->step);
    sums s;
    double norm;
    bool apply;
    int64_t start = os_now_ns();
    t->event[0] = 0;
    int rc = run_set_phase(t, at.phase, e);
    if (rc == DR_OK) rc = gradients(t, &s, e);
    if (rc == DR_OK) rc = zero_reduce(&t->z, t->p->g, (double *)&s, 4, &norm, e);
    if (rc != DR_OK) return rc;
    double weight = s.weight > 0 ? s.weight : 1, loss = s.loss / weight;
    norm /= weight;
    if ((rc = judge(t, loss, norm, &apply, e)) != DR_OK) return rc;
    /* weights and moments are about to change: the checkpoint being written wants them as they are */
    if ((rc = run_finish(t, e)) != DR_OK) return rc;
    if (apply && s.weight > 0) {
        t->updates++;
        double scale = optim_clip(norm, t->r->optim.clip) / weight;
        rc = zero_step(&t->z, t->p->w, t->p->bf, t->p->g, (float)scale, at.lr, t->updates, e);
    }
    double sec = (double)(os_now_ns() - start) * 1e-9;
    t->step++;
    t->pace = t->pace > 0 ? 0.9 * t->pace + 0.1 * sec : sec;
    double flops = net_flops_per_token(&t->p->h, at.seq, true) * (double)at.batch_tokens,
           full = net_flops_per_token(&t->p->h, at.seq, false) * (double)at.batch_tokens,
           peak = t->o->peak;
    t->line = (log_line){ .step = t->step, .steps = sched_steps(t->s),
                          .tokens = at.tokens + at.batch_tokens, .loss = loss, .norm = norm,
                          .lr = at.lr, .seconds = sec, .tok_s = (double)at.batch_tokens / sec,
                          .mfu = peak > 0 ? flops / sec / peak : 0,
                          .mfu_full = peak > 0 ? full / sec / peak : 0,
                          .left = t->pace * (double)(sched_steps(t->s) - t->step),
                          .eval_loss = NAN, .event = t->event[0] ? t->event : NULL };
    *stop = s.stop > 0 || (t->o->until && t->step >= t->o->until);
    return comm_agree(t->c, rc, e);
}

/* ---- evaluation */

int run_eval(trainer *t, double *loss, dr_err *e)
{
    loss_sum sum = {0};
    int rows = 0, rc = loader_seek(t->eval, &(loader_state){ .n = 1 }, e);
    int seq = t->r->eval.seq ? t->r->eval.seq : t->s->p[0].seq;
    for (bool more = rc == DR_OK; more && rc == DR_OK;) {
        int n = loader_next(t->eval, e);
        rc = n < 0 ? n : DR_OK;
        for (int i = 0; i < n && rc == DR_OK; i++) {
            batch b;
            rc = loader_batch(t->eval, i, &b, e);
            if (rc == DR_OK) rc = net_eval(t->n, &b, &sum, NULL, e);
        }
        if (rc == DR_OK) rows += loader_rows(t->eval);
        more = rc == DR_OK && loader_rows(t->eval) > 0 && (int64_t)rows * seq < t->r->eval.tokens;
        rc = comm_agree(t->c, rc, e);
    }
    double s[2] = { sum.loss, sum.weight };
    if (rc == DR_OK) rc = t->c->sum_f64(t->c, s, 2, e);
    if (rc == DR_OK && !(s[1] > 0))
        rc = err_set(e, DR_EINVAL, "%s has nothing to evaluate on", t->r->eval.path);
    *loss = rc == DR_OK ? s[0] / s[1] : NAN;
    return rc;
}

/* ---- samples */

static int one_sample(trainer *t, session *s, const char *prompt, int which, dr_err *e)
{
    ids v = {0};
    gen_result g = {0};
    gen_opt o = { .sample = sample_opt_default(), .sample_index = (uint64_t)which,
                  .max_tokens = t->r->sample.tokens, .cancel = t->o->stop };
    o.sample.temperature = (float)t->r->sample.temperature;
    o.sample.seed = (uint64_t)t->r->seed;
    int rc = tok_encode(t->tok, span_of(prompt), TOK_BOS, &v, e);
    if (rc == DR_OK && v.n == 0)
        rc = err_set(e, DR_EINVAL, "the prompt \"%.40s\" has no tokens", prompt);
    if (rc == DR_OK && v.n >= session_ctx(s))
        rc = err_set(e, DR_EINVAL, "the prompt \"%.40s\" is as long as the context", prompt);
    if (rc == DR_OK) {
        rc = gen_run(s, t->tok, v.p, (int)v.n, &o, &g, e);
        if (rc == DR_OK && t->o->text) t->o->text(t->o->arg, t->step, prompt, buf_str(&g.text));
        if (rc == DR_OK) rc = log_sample(&t->log, t->step, prompt, buf_str(&g.text), g.text.n, e);
        gen_result_free(&g);
    }
    ids_free(&v);
    return rc == DR_ECANCEL ? DR_OK : rc;
}

int run_samples(trainer *t, dr_err *e)
{
    if (!t->first) return DR_OK;
    const recipe_strs *p = &t->r->sample.prompts;
    session_opt o = { .kv_set = true, .kv = params_kv(t->p) };
    o.n_ctx = t->p->h.n_ctx < t->r->sample.tokens + 1024 ? t->p->h.n_ctx : t->r->sample.tokens + 1024;
    session *s = session_new(net_model(t->n), &o, e);
    int rc = s ? DR_OK : e ? e->code : DR_ENOMEM;
    for (int i = 0; i < p->n && rc == DR_OK && !(t->o->stop && *t->o->stop); i++)
        rc = one_sample(t, s, p->v[i], i, e);
    session_free(s);
    return rc;
}

/* ---- all of them */

static bool due(int64_t every, const trainer *t, bool last)
{
    return every > 0 && (t->step % every == 0 || last);
}

static int after_step(trainer *t, bool last, bool stop, dr_err *e)
{
    const recipe *r = t->r;
    int rc = DR_OK;
    bool evaluated = t->eval && due(r->eval.every, t, last);
    if (evaluated) {
        rc = run_eval(t, &t->eval_loss, e);
        t->line.eval_loss = t->eval_loss;
    }
    if (rc == DR_OK && t->first) rc = log_put(&t->log, &t->line, e);
    if (rc == DR_OK && t->first) rc = log_status(&t->log, &t->line, "training", e);
    if (rc == DR_OK && t->first && t->o->show) t->o->show(t->o->arg, &t->line);
    if (rc == DR_OK && t->tok && due(r->sample.every, t, last)) rc = run_samples(t, e);
    rc = comm_agree(t->c, rc, e);
    if (rc == DR_OK && (last || stop || due(r->checkpoint.every, t, false)))
        rc = run_save(t, evaluated, e);
    return rc;
}

/* What the model is worth before the first step. */
static int before_all(trainer *t, dr_err *e)
{
    if (t->step > 0 || !t->eval || !t->r->eval.every) return DR_OK;
    t->line = (log_line){ .steps = sched_steps(t->s), .loss = NAN, .norm = NAN };
    int rc = run_eval(t, &t->eval_loss, e);
    t->line.eval_loss = t->eval_loss;
    if (rc == DR_OK && t->first) rc = log_put(&t->log, &t->line, e);
    if (rc == DR_OK && t->first)
        run_say(t, "before the first step: eval loss %.4f", t->eval_loss);
    return comm_agree(t->c, rc, e);
}

int run_steps(trainer *t, bool *done, dr_err *e)
{
    int64_t steps = sched_steps(t->s);
    int rc = before_all(t, e);
    bool stop = t->o->until && t->step >= t->o->until;
    while (rc == DR_OK && t->step < steps && !stop) {
        rc = one_step(t, &stop, e);
        if (rc == DR_OK) rc = after_step(t, t->step == steps, stop, e);
    }
    if (rc == DR_OK) rc = run_finish(t, e);
    *done = rc == DR_OK && t->step == steps;
    return rc;
}
