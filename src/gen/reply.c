/* reply.c - see reply.h. */
#include "gen/reply.h"
#include <string.h>
#include "base/mem.h"

size_t gen_reply_token_bytes(const tokenizer *t)
{
    size_t most = 16;
    for (int32_t id = 0; id < tok_count(t); id++)
        if (tok_text(t, id).n > most) most = tok_text(t, id).n;
    return most;
}

bool gen_reply_ends(const gen_reply *r, int32_t id)
{
    const gen_reply_opt *o = &r->o;
    if (o->ignore_eos) return false;
    if (tok_is_eog(o->t, id) || (o->is_end && o->is_end(o->is_end_arg, id))) return true;
    for (int i = 0; i < o->n_end; i++)
        if (o->end[i] == id) return true;
    return false;
}

static uint32_t left_after(const gen_reply_opt *o, int n_gen, int context)
{
    int64_t n = INT32_MAX;
    if (o->max_tokens >= 0) n = o->max_tokens - n_gen;
    if (o->n_ctx && o->n_ctx - context + 1 < n) n = o->n_ctx - context + 1;
    return n == INT32_MAX ? MATCHER_ANY : n > 0 ? (uint32_t)n : 0;
}

uint32_t gen_reply_left(const gen_reply *r, int context) { return left_after(&r->o, r->n_gen, context); }

int gen_reply_check_room(const gen_reply_opt *o, int n_prompt, dr_err *e)
{
    if (!o->form) return DR_OK;
    uint32_t need = grammar_shortest(o->form), room = left_after(o, 0, n_prompt);
    if (need <= room) return DR_OK;
    char of[64] = "";
    if (o->n_ctx) snprintf(of, sizeof of, " in a context of %d", o->n_ctx);
    return err_set(e, DR_EINVAL, "the shortest text that the constraint allows takes %u tokens; "
                   "there is room for %u (at most %d tokens asked for, %d prompt tokens%s)", need, room,
                   o->max_tokens < 0 ? 0 : o->max_tokens, n_prompt, of);
}

/* Room for the masks, and the tokens that end. */
static int masks(gen_reply *r, dr_err *e)
{
    const gen_reply_opt *o = &r->o;
    size_t words = ((size_t)o->n_vocab + 63) / 64;
    int32_t n = tok_count(o->t);
    if (o->form) n = grammar_vtrie(o->form)->n_vocab;
    if (n > o->n_vocab) {
        if (o->form)
            return err_set(e, DR_EINVAL, "the tokenizer has %d tokens, the model %d", n, o->n_vocab);
        n = o->n_vocab;
    }
    r->mask = mem_zalloc(words, sizeof *r->mask);
    r->ends = mem_zalloc(words, sizeof *r->ends);
    if (!r->mask || !r->ends) return err_nomem(e, words * 16, "the constraint's masks");
    for (int32_t id = 0; id < n; id++) {
        bool own = tok_is_control(o->t, id) || tok_is_eog(o->t, id);
        if ((o->form && !own) || !gen_reply_ends(r, id)) continue;
        r->ends[id >> 6] |= (uint64_t)1 << (id & 63);
        r->can_end = true;
    }
    return DR_OK;
}

int gen_reply_init(gen_reply *r, const gen_reply_opt *o, size_t token_bytes, dr_err *e)
{
    *r = (gen_reply){ .o = *o, .place = -1, .stop_at = -1 };
    span v[REPLY_MAX_STOP];
    if (o->n_stop > REPLY_MAX_STOP)
        return err_set(e, DR_EINVAL, "%d stop strings; at most %d are possible", o->n_stop, REPLY_MAX_STOP);
    for (int i = 0; i < o->n_stop; i++) v[i] = span_of(o->stop[i]);
    dr_err own = {0};
    r->stop = stop_new(v, o->n_stop, &own);
    if (r->stop && (o->form || o->min_tokens > 0)) masks(r, &own);
    buf_init(&r->chars, (size_t)1 << 20);
    if (r->stop && !own.code) {
        /* its storage is taken now, by growing it once; four bytes of an unfinished character come before */
        for (size_t i = 0; i < token_bytes + 8; i++) buf_putc(&r->chars, 0);
        if (r->chars.bad) err_nomem(&own, token_bytes, "reply");
        buf_reset(&r->chars);
    }
    if (!own.code) return DR_OK;
    gen_reply_free(r);
    return err_set(e, own.code, "%s", own.msg);
}

void gen_reply_free(gen_reply *r)
{
    if (!r->stop && !r->mask && !r->ends && !r->chars.p) return;
    gen_reply_end(r);
    stop_free(r->stop);
    buf_free(&r->chars);
    mem_free(r->mask);
    mem_free(r->ends);
    *r = (gen_reply){ .place = -1 };
}

int gen_reply_begin(gen_reply *r, matcher *m, dr_err *e)
{
    if (!r->o.form) return DR_OK;
    dr_err own = {0};
    r->stream.started = true;                /* the first space is the text's own */
    r->match = m;
    r->place = matcher_begin(m, &own);
    return r->place >= 0 ? DR_OK : err_set(e, own.code, "%s", own.msg);
}

void gen_reply_end(gen_reply *r)
{
    if (r->place >= 0) matcher_end(r->match, r->place);
    r->place = -1;
}

/* What the constraint allows, in r->mask. */
static int constrain(gen_reply *r, int context, int32_t *forced, bool *over, dr_err *e)
{
    matcher_next next;
    const vtrie *v = grammar_vtrie(r->o.form);
    int rc = matcher_mask(r->match, r->place, gen_reply_left(r, context), r->mask, &next, e);
    if (rc) return rc;
    bool end = next.done && r->can_end && (r->n_gen >= r->o.min_tokens || next.n_text == 0);
    *over = next.n_text == 0 && !end;
    /* log-probabilities are of the model's choice, so it is asked */
    if (next.n_text == 1 && !end && !r->o.sample_all) *forced = next.only;
    if (end)
        for (int i = 0; i < v->words; i++) r->mask[i] |= r->ends[i];
    r->allowed = r->mask;
    return DR_OK;
}

int gen_reply_allow(gen_reply *r, int context, int32_t *forced, bool *over, dr_err *e)
{
    *forced = -1, *over = false;
    r->allowed = NULL;
    if (r->place >= 0) return constrain(r, context, forced, over, e);
    if (r->can_end && r->n_gen < r->o.min_tokens) {
        for (int i = 0, n = (r->o.n_vocab + 63) / 64; i < n; i++) r->mask[i] = ~r->ends[i];
        r->allowed = r->mask;
    }
    return DR_OK;
}

int gen_reply_take(gen_reply *r, int32_t id, dr_err *e)
{
    r->n_gen++;
    if (r->place < 0 || gen_reply_ends(r, id)) return DR_OK;
    return matcher_take(r->match, r->place, id, e);
}

static int filter(gen_reply *r, buf *out, bool early, bool end, bool *hit, dr_err *e)
{
    *hit = false;
    if (early) buf_put(out, r->chars.p, r->chars.n);
    else r->stop_at = stop_feed(r->stop, buf_span(&r->chars), out);
    *hit = r->stop_at >= 0;
    if (*hit && r->o.keep_stop) buf_puts(out, r->o.stop[r->stop_at]);
    if (end && !*hit) stop_end(r->stop, out);
    return r->chars.bad || out->bad ? err_nomem(e, out->n, "reply") : DR_OK;
}

int gen_reply_show(gen_reply *r, int32_t id, buf *out, bool *hit, dr_err *e)
{
    *hit = false;
    if (gen_reply_ends(r, id) && !r->o.show_special) return DR_OK;
    buf_reset(&r->chars);
    int rc = tok_stream_put(r->o.t, &r->stream, id, r->o.show_special, &r->chars, e);
    return rc ? rc : filter(r, out, r->n_gen < r->o.min_tokens, false, hit, e);
}

int gen_reply_rest(gen_reply *r, buf *out, bool *hit, dr_err *e)
{
    buf_reset(&r->chars);
    tok_stream_end(&r->stream, &r->chars);
    return filter(r, out, false, true, hit, e);
}
