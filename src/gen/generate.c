/* generate.c - see generate.h. */
#include "gen/generate.h"
#include <string.h>
#include "base/os.h"
#include "gen/stop.h"

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
    stop *stop;
    tok_stream stream;
    buf chars;                      /* decoded, not yet past the stop scanner */
    int n_before;                   /* history kept for penalties: prompt and reply */
} run;

/* Drop the oldest half of what follows the kept front, and evaluate the rest again: keys hold
 * their rotation, so moving them would be another model. */
static int shift(run *g, dr_err *e)
{
    int n = session_len(g->s), keep = g->o->keep < n ? g->o->keep : n;
    int drop = (n - keep) / 2;
    if (drop < 1) return err_set(e, DR_EINVAL, "nothing can be dropped from a context of %d", n);
    ids rest = {0};
    int rc = DR_OK;
    for (int i = 0; i < n && !rc; i++)
        if (i < keep || i >= keep + drop) rc = ids_put(&rest, session_tokens(g->s)[i], e);
    if (!rc) rc = session_sync(g->s, rest.p, (int)rest.n, NULL, NULL, e);
    ids_free(&rest);
    if (rc) return rc;
    g->r->n_shifts++;
    if (g->o->shifted) g->o->shifted(g->o->arg, drop);
    return DR_OK;
}

/* The token's text through the character and stop filters into r->text; *shown is what is new. */
static int show(run *g, int32_t id, bool end, span *shown, bool *hit, dr_err *e)
{
    size_t before = g->r->text.n;
    buf_reset(&g->chars);
    int rc = DR_OK;
    if (end) tok_stream_end(&g->stream, &g->chars);
    else rc = tok_stream_put(g->t, &g->stream, id, g->o->show_special, &g->chars, e);
    if (rc) return rc;
    *hit = stop_feed(g->stop, buf_span(&g->chars), &g->r->text) >= 0;
    if (end && !*hit) stop_end(g->stop, &g->r->text);
    if (g->chars.bad || g->r->text.bad) return err_nomem(e, g->r->text.n, "reply");
    *shown = (span){ buf_str(&g->r->text) + before, g->r->text.n - before };
    return DR_OK;
}

static bool ends(const run *g, int32_t id)
{
    if (g->o->ignore_eos) return false;
    return tok_is_eog(g->t, id) || (g->o->is_stop && g->o->is_stop(g->o->is_stop_arg, id));
}

static int loop(run *g, dr_err *e)
{
    const gen_opt *o = g->o;
    gen_result *r = g->r;
    for (;;) {
        if (o->cancel && *o->cancel) { r->finish = GEN_CANCEL; return DR_OK; }
        if (o->max_tokens && r->n_gen >= o->max_tokens) { r->finish = GEN_LENGTH; return DR_OK; }
        sample_result pick;
        int len = session_len(g->s);
        int rc = sampler_pick(g->smp, session_logits(g->s), session_tokens(g->s), len,
                              o->sample_index, (uint64_t)r->n_prompt + (uint64_t)r->n_gen, &pick,
                              e);
        if (!rc) rc = ids_put(&r->tokens, pick.id, e);
        if (rc) return rc;
        r->n_gen++;
        bool end = ends(g, pick.id), hit = false;
        span text = { "", 0 };
        if (!end || o->show_special) rc = show(g, pick.id, false, &text, &hit, e);
        if (rc) return rc;
        gen_piece p = { text, pick.id, &pick };
        if (o->piece && o->piece(o->arg, &p)) { r->finish = GEN_CANCEL; return DR_OK; }
        if (hit) { r->finish = GEN_STOP_STRING; return DR_OK; }
        if (end) { r->finish = GEN_EOS; return DR_OK; }
        if (o->max_tokens && r->n_gen >= o->max_tokens) { r->finish = GEN_LENGTH; return DR_OK; }
        if (session_len(g->s) == session_ctx(g->s)) {
            if (!o->shift) { r->finish = GEN_CONTEXT; return DR_OK; }
            if ((rc = shift(g, e))) return rc;
        }
        if ((rc = session_append(g->s, &pick.id, 1, NULL, e))) return rc;
    }
}

/* The sampler and the stop scanner. */
static int begin(run *g, int V, dr_err *e)
{
    const gen_opt *o = g->o;
    dr_err own = {0};
    span v[GEN_MAX_STOP];
    if (o->n_stop > GEN_MAX_STOP)
        return err_set(e, DR_EINVAL, "%d stop strings; at most %d are possible", o->n_stop,
                       GEN_MAX_STOP);
    for (int i = 0; i < o->n_stop; i++) v[i] = span_of(o->stop[i]);
    g->smp = sampler_new(&o->sample, V, session_ctx(g->s), &own);
    if (g->smp) g->stop = stop_new(v, o->n_stop, &own);
    return g->stop ? DR_OK : err_set(e, own.code, "%s", own.msg);
}

int gen_run(session *s, const tokenizer *t, const int32_t *prompt, int n_prompt,
            const gen_opt *o, gen_result *r, dr_err *e)
{
    *r = (gen_result){ .n_prompt = n_prompt, .finish = GEN_CANCEL };
    buf_init(&r->text, (size_t)1 << 30);
    run g = { .s = s, .t = t, .o = o, .r = r };
    buf_init(&g.chars, (size_t)1 << 20);
    int V = session_model(s)->h.V;
    int64_t t0 = os_now_ns();
    int rc = session_sync(s, prompt, n_prompt, &r->n_reused, o->cancel, e);
    int64_t t1 = os_now_ns();
    r->prompt_s = (double)(t1 - t0) * 1e-9;
    if (rc) goto done;
    if ((rc = begin(&g, V, e))) goto done;
    rc = loop(&g, e);
    if (!rc) {
        span text;
        bool hit;
        int64_t shown = (int64_t)r->text.n;
        if (r->finish != GEN_STOP_STRING) rc = show(&g, 0, true, &text, &hit, e);
        if (!rc && o->piece && (int64_t)r->text.n > shown) {
            gen_piece p = { text, r->n_gen ? r->tokens.p[r->tokens.n - 1] : 0, NULL };
            o->piece(o->arg, &p);
        }
    }
    r->gen_s = (double)(os_now_ns() - t1) * 1e-9;
done:
    stop_free(g.stop);
    sampler_free(g.smp);
    buf_free(&g.chars);
    return rc;
}
