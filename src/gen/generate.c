/* generate.c - see generate.h.
 *
 * The session holds the first `len` tokens of the context, then guesses that were evaluated with them
 * (gen/spec.h). A token is picked from the logits after `len` tokens, guesses or not; when it is the
 * guess at that place, len grows and the next logits are there already, else the guesses go. So a
 * guess can only save a step: what is picked, and from what, is the same without it. */
#include "gen/generate.h"
#include <string.h>
#include "base/mem.h"
#include "base/os.h"
#include "gen/reply.h"

const char *gen_finish_name(gen_finish f)
{
    static const char *const name[] = { "stop", "stop", "length", "context", "cancel" };
    return name[f];
}

void gen_result_free(gen_result *r)
{
    ids_free(&r->tokens);
    buf_free(&r->text);
}

typedef struct {
    session *s;
    const tokenizer *t;
    const gen_opt *o;
    gen_result *r;
    sampler *smp;
    gen_reply y;
    int len;                        /* of the context, without what is held and guesses */
    ids held;                       /* picked, not evaluated yet: the last, and forced ones */
} run;

static int held(const run *g) { return (int)g->held.n; }
static int context(const run *g) { return g->len + held(g); }

/* The guess of the token after the context; -1: none. */
static int32_t guessed(const run *g)
{
    return !held(g) && session_len(g->s) > g->len ? session_tokens(g->s)[g->len] : -1;
}

/* Put guesses behind what is held, those that could be picked; returns how many. */
static int guess(run *g, dr_err *e)
{
    const gen_opt *o = g->o;
    int32_t id[SPEC_MAX];
    int room = session_ctx(g->s) - context(g), rows = session_max_logits(g->s) - 1;
    if (room > rows) room = rows;
    /* the last token is picked and never evaluated */
    if (o->max_tokens && room > o->max_tokens - g->r->n_gen - 1) room = o->max_tokens - g->r->n_gen - 1;
    spec_where w = { session_tokens(g->s), g->held.p, g->len, held(g), room, o->sample_index,
                     (uint64_t)g->r->n_prompt + (uint64_t)g->r->n_gen, o->constraint, g->y.place };
    int n = room > 0 ? spec_guess(o->spec, &w, id) : 0, k = 0;
    int copy = n && g->y.place >= 0 ? matcher_copy(o->constraint, g->y.place, NULL) : -1;
    while (k < n && !gen_reply_ends(&g->y, id[k]) && (copy < 0 || !matcher_take(o->constraint, copy, id[k], NULL))) k++;
    if (copy >= 0) matcher_end(o->constraint, copy);
    for (int i = 0; i < k; i++)
        if (ids_put(&g->held, id[i], e)) return -1;
    return k;
}

/* Evaluate what is held, all in one step, with guesses of what follows. */
static int flush(run *g, bool guesses, dr_err *e)
{
    int n = held(g), k = 0;
    if (!n) return DR_OK;
    if (guesses && g->o->spec && (k = guess(g, e)) < 0) return DR_ENOMEM;
    int64_t t = g->o->spec ? os_now_ns() : 0;
    int rc = session_append_rows(g->s, g->held.p, n + k, k + 1, NULL, e);
    g->held.n = 0;
    if (rc) return rc;
    if (g->o->spec && n == 1) spec_timed(g->o->spec, n + k, os_now_ns() - t);
    g->len += n;
    g->r->n_drafted += k;
    return DR_OK;
}

/* The token joins the context: one that was guessed is evaluated, another one is held. */
static int take(run *g, int32_t id, dr_err *e)
{
    if (guessed(g) == id) {
        g->len++;
        return DR_OK;
    }
    session_truncate(g->s, g->len);
    return ids_put(&g->held, id, e);
}

/* Drop the oldest half of what follows the kept front, and evaluate the rest again: keys hold
 * their rotation, so moving them would be another model. */
static int shift(run *g, dr_err *e)
{
    int rc = flush(g, false, e);
    if (rc) return rc;
    session_truncate(g->s, g->len);
    int n = g->len, keep = g->o->keep < n ? g->o->keep : n;
    int drop = (n - keep) / 2;
    if (drop < 1) return err_set(e, DR_EINVAL, "nothing can be dropped from a context of %d", n);
    ids rest = {0};
    for (int i = 0; i < n && !rc; i++)
        if (i < keep || i >= keep + drop) rc = ids_put(&rest, session_tokens(g->s)[i], e);
    if (!rc) rc = session_sync(g->s, rest.p, (int)rest.n, NULL, NULL, e);
    ids_free(&rest);
    if (rc) return rc;
    g->len = session_len(g->s);
    g->r->n_shifts++;
    if (g->o->shifted) g->o->shifted(g->o->arg, drop);
    return DR_OK;
}

/* The next token: the one that a constraint leaves, or the sampler's pick. */
static int choose(run *g, sample_result *pick, bool *over, dr_err *e)
{
    *pick = (sample_result){ .id = -1 };
    int rc = gen_reply_allow(&g->y, context(g), &pick->id, over, e);
    if (rc || *over) return rc;
    if (pick->id >= 0) {
        g->r->n_forced++;
        return DR_OK;
    }
    if ((rc = flush(g, true, e))) return rc;
    sampler_mask(g->smp, g->y.allowed);
    return sampler_pick(g->smp, session_logits_at(g->s, g->len), session_tokens(g->s), g->len,
                        g->o->sample_index, (uint64_t)g->r->n_prompt + (uint64_t)g->r->n_gen, pick,
                        e);
}

static int loop(run *g, dr_err *e)
{
    const gen_opt *o = g->o;
    gen_result *r = g->r;
    for (;;) {
        if (o->cancel && *o->cancel) { r->finish = GEN_CANCEL; return DR_OK; }
        if (o->max_tokens && r->n_gen >= o->max_tokens) { r->finish = GEN_LENGTH; return DR_OK; }
        sample_result pick;
        bool over = false, hit = false;
        int rc = choose(g, &pick, &over, e);
        if (!rc && over) { r->finish = GEN_EOS; return DR_OK; }
        if (!rc) rc = ids_put(&r->tokens, pick.id, e);
        if (rc) return rc;
        r->n_gen++;
        if (guessed(g) == pick.id) r->n_accepted++;
        if (o->spec) spec_took(o->spec, pick.id);
        size_t before = r->text.n;
        rc = gen_reply_take(&g->y, pick.id, e);
        if (!rc) rc = gen_reply_show(&g->y, pick.id, &r->text, &hit, e);
        if (rc) return rc;
        gen_piece p = { { buf_str(&r->text) + before, r->text.n - before }, pick.id, &pick };
        if (o->piece && o->piece(o->arg, &p)) { r->finish = GEN_CANCEL; return DR_OK; }
        if (hit) { r->finish = GEN_STOP_STRING; return DR_OK; }
        if (gen_reply_ends(&g->y, pick.id)) { r->finish = GEN_EOS; return DR_OK; }
        if (o->max_tokens && r->n_gen >= o->max_tokens) { r->finish = GEN_LENGTH; return DR_OK; }
        if (context(g) == session_ctx(g->s)) {
            if (!o->shift) { r->finish = GEN_CONTEXT; return DR_OK; }
            if ((rc = shift(g, e))) return rc;
        }
        if ((rc = take(g, pick.id, e))) return rc;
    }
}

/* The sampler, the stop scanner and the constraint. */
static int begin(run *g, const gen_reply_opt *y, dr_err *e)
{
    dr_err own = {0};
    g->smp = sampler_new(&g->o->sample, y->n_vocab, session_ctx(g->s), &own);
    if (g->smp && !gen_reply_init(&g->y, y, 0, &own)) gen_reply_begin(&g->y, g->o->constraint, &own);
    return own.code ? err_set(e, own.code, "%s", own.msg) : DR_OK;
}

/* What comes after the last token: held back until the end was sure. */
static int finish(run *g, dr_err *e)
{
    gen_result *r = g->r;
    bool hit;
    size_t shown = r->text.n;
    if (r->finish == GEN_STOP_STRING) return DR_OK;
    int rc = gen_reply_rest(&g->y, &r->text, &hit, e);
    if (rc || !g->o->piece || r->text.n == shown) return rc;
    gen_piece p = { { buf_str(&r->text) + shown, r->text.n - shown },
                    r->n_gen ? r->tokens.p[r->tokens.n - 1] : 0, NULL };
    g->o->piece(g->o->arg, &p);
    return DR_OK;
}

int gen_run(session *s, const tokenizer *t, const int32_t *prompt, int n_prompt,
            const gen_opt *o, gen_result *r, dr_err *e)
{
    *r = (gen_result){ .n_prompt = n_prompt, .finish = GEN_CANCEL };
    buf_init(&r->text, (size_t)1 << 30);
    run g = { .s = s, .t = t, .o = o, .r = r, .y.place = -1 };
    gen_reply_opt y = { .t = t, .n_vocab = session_model(s)->h.V, .n_ctx = o->shift ? 0 : session_ctx(s),
                    .max_tokens = o->max_tokens ? o->max_tokens : -1, .stop = o->stop, .n_stop = o->n_stop,
                    .show_special = o->show_special, .ignore_eos = o->ignore_eos,
                    .sample_all = o->sample.logprobs, .is_end = o->is_stop,
                    .is_end_arg = o->is_stop_arg, .form = o->constraint ? matcher_grammar(o->constraint) : NULL };
    int rc = gen_reply_check_room(&y, n_prompt, e);
    if (rc) return rc;
    int64_t t0 = os_now_ns();
    rc = session_sync(s, prompt, n_prompt, &r->n_reused, o->cancel, e);
    int64_t t1 = os_now_ns();
    r->prompt_s = (double)(t1 - t0) * 1e-9;
    if (rc) goto done;
    g.len = session_len(s);
    if ((rc = begin(&g, &y, e))) goto done;
    if (o->spec && (rc = spec_begin(o->spec, &o->sample, prompt, n_prompt, e))) goto done;
    rc = loop(&g, e);
    session_truncate(s, g.len);
    if (!rc) rc = finish(&g, e);
    r->gen_s = (double)(os_now_ns() - t1) * 1e-9;
    if (g.y.place >= 0)
        r->satisfied = r->finish != GEN_STOP_STRING && matcher_done(o->constraint, g.y.place);
done:
    if (o->spec) spec_end(o->spec);
    gen_reply_free(&g.y);
    ids_free(&g.held);
    sampler_free(g.smp);
    return rc;
}
