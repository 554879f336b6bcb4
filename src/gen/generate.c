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
    /* with a constraint */
    int place;                      /* its position in the matcher; -1: none */
    uint64_t *mask, *ends;          /* over the model's vocabulary: what may come, what ends */
    bool can_end;                   /* some token ends a reply */
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

static bool ends(const run *g, int32_t id)
{
    if (g->o->ignore_eos) return false;
    return tok_is_eog(g->t, id) || (g->o->is_stop && g->o->is_stop(g->o->is_stop_arg, id));
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
                     (uint64_t)g->r->n_prompt + (uint64_t)g->r->n_gen, o->constraint, g->place };
    int n = room > 0 ? spec_guess(o->spec, &w, id) : 0, k = 0;
    int copy = n && g->place >= 0 ? matcher_copy(o->constraint, g->place, NULL) : -1;
    while (k < n && !ends(g, id[k]) && (copy < 0 || !matcher_take(o->constraint, copy, id[k], NULL))) k++;
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

/* Tokens that may still be picked. */
static uint32_t left(const run *g, int len)
{
    const gen_opt *o = g->o;
    int64_t n = INT32_MAX;
    if (o->max_tokens) n = o->max_tokens - g->r->n_gen;
    if (!o->shift && session_ctx(g->s) - len + 1 < n) n = session_ctx(g->s) - len + 1;
    return n == INT32_MAX ? MATCHER_ANY : n > 0 ? (uint32_t)n : 0;
}

/* What the constraint allows next: into g->mask, or *forced when there is no choice; *over when
 * the text is whole and nothing can follow, not even a token that ends it. */
static int constrain(run *g, int32_t *forced, bool *over, dr_err *e)
{
    matcher_next next;
    const vtrie *v = grammar_vtrie(matcher_grammar(g->o->constraint));
    int rc = matcher_mask(g->o->constraint, g->place, left(g, context(g)), g->mask,
                          &next, e);
    if (rc) return rc;
    bool end = next.done && g->can_end;
    *over = next.n_text == 0 && !end;
    /* log-probabilities are of the model's choice, so it is asked */
    if (next.n_text == 1 && !end && !g->o->sample.logprobs) *forced = next.only;
    if (end)
        for (int i = 0; i < v->words; i++) g->mask[i] |= g->ends[i];
    return DR_OK;
}

/* The next token: the one that a constraint leaves, or the sampler's pick. */
static int choose(run *g, sample_result *pick, bool *over, dr_err *e)
{
    int rc = DR_OK;
    *pick = (sample_result){ .id = -1 };
    if (g->place >= 0) rc = constrain(g, &pick->id, over, e);
    if (rc || *over) return rc;
    if (pick->id >= 0) {
        g->r->n_forced++;
        return DR_OK;
    }
    if ((rc = flush(g, true, e))) return rc;
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
        bool over = false;
        int rc = choose(g, &pick, &over, e);
        if (!rc && over) { r->finish = GEN_EOS; return DR_OK; }
        if (!rc) rc = ids_put(&r->tokens, pick.id, e);
        if (rc) return rc;
        r->n_gen++;
        if (guessed(g) == pick.id) r->n_accepted++;
        if (o->spec) spec_took(o->spec, pick.id);
        bool end = ends(g, pick.id), hit = false;
        if (g->place >= 0 && !end && (rc = matcher_take(o->constraint, g->place, pick.id, e)))
            return rc;
        span text = { "", 0 };
        if (!end || o->show_special) rc = show(g, pick.id, false, &text, &hit, e);
        if (rc) return rc;
        gen_piece p = { text, pick.id, &pick };
        if (o->piece && o->piece(o->arg, &p)) { r->finish = GEN_CANCEL; return DR_OK; }
        if (hit) { r->finish = GEN_STOP_STRING; return DR_OK; }
        if (end) { r->finish = GEN_EOS; return DR_OK; }
        if (o->max_tokens && r->n_gen >= o->max_tokens) { r->finish = GEN_LENGTH; return DR_OK; }
        if (context(g) == session_ctx(g->s)) {
            if (!o->shift) { r->finish = GEN_CONTEXT; return DR_OK; }
            if ((rc = shift(g, e))) return rc;
        }
        if ((rc = take(g, pick.id, e))) return rc;
    }
}

/* Room for the masks, and the tokens that end. */
static int begin_constraint(run *g, int V, dr_err *e)
{
    const vtrie *v = grammar_vtrie(matcher_grammar(g->o->constraint));
    size_t words = ((size_t)V + 63) / 64;
    if (v->n_vocab > V)
        return err_set(e, DR_EINVAL, "the tokenizer has %d tokens, the model %d", v->n_vocab, V);
    g->mask = mem_zalloc(words, sizeof *g->mask);
    g->ends = mem_zalloc(words, sizeof *g->ends);
    if (!g->mask || !g->ends) return err_nomem(e, words * 16, "the constraint's masks");
    for (int32_t id = 0; id < v->n_vocab; id++) {
        if ((!tok_is_control(g->t, id) && !tok_is_eog(g->t, id)) || !ends(g, id)) continue;
        g->ends[id >> 6] |= (uint64_t)1 << (id & 63);
        g->can_end = true;
    }
    g->stream.started = true;                /* the first space is the text's own */
    g->place = matcher_begin(g->o->constraint, e);
    if (g->place < 0) return e ? e->code : DR_EINVAL;
    sampler_mask(g->smp, g->mask);
    return DR_OK;
}

/* Whether the shortest text fits, before anything is evaluated. */
static int check_room(run *g, int n_prompt, dr_err *e)
{
    uint32_t need = grammar_shortest(matcher_grammar(g->o->constraint)), room = left(g, n_prompt);
    if (need <= room) return DR_OK;
    return err_set(e, DR_EINVAL, "the shortest text that the constraint allows takes %u tokens; "
                   "there is room for %u (at most %d tokens asked for, %d prompt tokens in a context "
                   "of %d)", need, room, g->o->max_tokens, n_prompt, session_ctx(g->s));
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
    if (g->stop && o->constraint) begin_constraint(g, V, &own);
    return g->stop && !own.code ? DR_OK : err_set(e, own.code, "%s", own.msg);
}

int gen_run(session *s, const tokenizer *t, const int32_t *prompt, int n_prompt,
            const gen_opt *o, gen_result *r, dr_err *e)
{
    *r = (gen_result){ .n_prompt = n_prompt, .finish = GEN_CANCEL };
    buf_init(&r->text, (size_t)1 << 30);
    run g = { .s = s, .t = t, .o = o, .r = r, .place = -1 };
    buf_init(&g.chars, (size_t)1 << 20);
    int V = session_model(s)->h.V;
    int rc = o->constraint ? check_room(&g, n_prompt, e) : DR_OK;
    if (rc) return buf_free(&g.chars), rc;
    int64_t t0 = os_now_ns();
    rc = session_sync(s, prompt, n_prompt, &r->n_reused, o->cancel, e);
    int64_t t1 = os_now_ns();
    r->prompt_s = (double)(t1 - t0) * 1e-9;
    if (rc) goto done;
    g.len = session_len(s);
    if ((rc = begin(&g, V, e))) goto done;
    if (o->spec && (rc = spec_begin(o->spec, &o->sample, prompt, n_prompt, e))) goto done;
    rc = loop(&g, e);
    session_truncate(s, g.len);
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
    if (g.place >= 0)
        r->satisfied = r->finish != GEN_STOP_STRING && matcher_done(o->constraint, g.place);
done:
    if (o->spec) spec_end(o->spec);
    if (g.place >= 0) matcher_end(o->constraint, g.place);
    mem_free(g.mask);
    mem_free(g.ends);
    ids_free(&g.held);
    stop_free(g.stop);
    sampler_free(g.smp);
    buf_free(&g.chars);
    return rc;
}
