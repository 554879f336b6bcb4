/* call.c - see call.h: the engine's events into an answer's text and calls.
 *
 * One event of the engine becomes any number of ours: they wait in a queue whose texts lie in one buffer,
 * and the engine is asked again when all are handed out. What the engine's event points to stays valid
 * until then. */
#include "serve/call_priv.h"
#include <stdatomic.h>
#include <string.h>
#include "base/mem.h"
#include "base/os.h"
#include "base/rng.h"

#define MAX_REPLY ((size_t)1 << 30)
enum { ID_LEN = 32 };
const char call_too_long[] = "messages";

typedef struct {
    call_kind kind;
    int sample, tool;
    size_t at, n;               /* text: in call.text */
    call_finish finish;
    bool own;                   /* ev: the engine's event */
} item;

typedef struct {
    toolcall *parse;            /* NULL: all text is content, or calls to the letter */
    call_forced forced;
    call *of;
    int number;                 /* of the sample */
    int n_calls;
    char id[ID_LEN];            /* of the call that is being given out */
    size_t strip;               /* bytes of an end token's name at the end of the text; 0: none yet */
    buf tail;                   /* text since that token */
} reply;

struct call {
    call_plan plan;
    ticket *t;
    served *s;
    bool ends_shown;            /* control tokens are spelled out for the parser's sake alone */
    engine_event ev;
    item *q;
    int n_q, at_q, cap_q;
    buf text;                   /* of q */
    reply *r;
    int n_r;
    uint64_t key;               /* of ids */
    bool over;
    dr_err err;                 /* an event of our own went wrong */
};

void call_opt_init(call_opt *o, const served *s)
{
    *o = (call_opt){ 0 };
    engine_req_init(&o->req);
    o->req.sample = s->sample;
    o->req.max_tokens = -1;
    o->req.prompt_probs = -1;
}

/* ---- the queue */

static void push(call *c, call_kind k, int sample, int tool, span text, call_finish f, bool own)
{
    if (c->n_q == c->cap_q) {
        int cap = c->cap_q ? c->cap_q * 2 : 16;
        item *q = mem_realloc(c->q, (size_t)cap * sizeof *q);
        if (!q) {
            err_nomem(&c->err, (size_t)cap * sizeof *q, "events");
            return;
        }
        c->q = q, c->cap_q = cap;
    }
    c->q[c->n_q++] = (item){ k, sample, tool, c->text.n, text.n, f, own };
    buf_put(&c->text, text.p, text.n);
    if (c->text.bad) err_nomem(&c->err, text.n, "an answer's text");
}

static void own(call *c, call_kind k) { push(c, k, c->ev.sample, 0, (span){ "", 0 }, CALL_STOP, true); }

/* ---- text */

/* Ids that no other call has: 96 random bits of (start of the process, number). */
static void new_id(call *c, reply *r)
{
    static const char digit[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    uint32_t w[4];
    rng_philox(w, c->key, (uint64_t)r->number, (uint64_t)r->n_calls);
    char *p = r->id;
    if (!c->plan.nine) p += snprintf(r->id, ID_LEN, "call_");
    int n = c->plan.nine ? 9 : 24;
    for (int i = 0; i < n; i++) {
        *p++ = digit[w[i % 4] % 62];
        w[i % 4] /= 62;
        if (i % 16 == 15) rng_philox(w, c->key, (uint64_t)r->number, (uint64_t)r->n_calls + (1ull << 32));
    }
    *p = 0;
}

static int on_call(void *arg, const toolcall_event *ev)
{
    static const call_kind kind[] = { [TOOLCALL_TEXT] = CALL_TEXT, [TOOLCALL_BEGIN] = CALL_TOOL,
                                      [TOOLCALL_ARGS] = CALL_ARGS, [TOOLCALL_END] = CALL_TOOL_END };
    reply *r = arg;
    push(r->of, kind[ev->kind], r->number, ev->index, ev->text, CALL_STOP, false);
    if (ev->kind == TOOLCALL_END) r->n_calls = ev->index + 1;
    return r->of->err.code;
}

static void put_text(call *c, reply *r, span text)
{
    if (!text.n || c->err.code) return;
    if (c->plan.forced) call_forced_feed(&r->forced, text, on_call, r, &c->err);
    else if (r->parse) toolcall_feed(r->parse, text, &c->err);
    else push(c, CALL_TEXT, r->number, 0, text, CALL_STOP, false);
}

/* What follows an end token is its own name, if control tokens are spelled out at all. */
static void put(call *c, reply *r, span text)
{
    if (!r->strip) put_text(c, r, text);
    else buf_put(&r->tail, text.p, text.n);
}

static bool is_end(const call *c, int32_t id)
{
    for (int i = 0; i < c->plan.n_end; i++)
        if (c->plan.end[i] == id) return true;
    return tok_is_eog(c->s->tok, id);
}

static void finish_text(call *c, reply *r)
{
    span end = { r->tail.p, r->tail.n };
    if (r->tail.bad) err_nomem(&c->err, r->tail.n, "an answer's text");
    if (r->strip && end.n >= r->strip) {
        int32_t id = tok_find(c->s->tok, (span){ end.p + end.n - r->strip, r->strip });
        if (id >= 0 && is_end(c, id)) end.n -= r->strip;
    }
    if (r->strip) put_text(c, r, end);
    if (r->parse && !c->err.code) toolcall_end(r->parse, &c->err);
}

static call_finish finish_of(const reply *r, engine_finish f)
{
    switch (f) {
    case ENGINE_STOP: return r->n_calls ? CALL_TOOL_CALLS : CALL_STOP;
    case ENGINE_LENGTH: case ENGINE_CONTEXT: case ENGINE_DEADLINE: return CALL_LENGTH;
    default: return CALL_CANCELLED;
    }
}

/* One event of the engine. */
static void take(call *c)
{
    const engine_event *ev = &c->ev;
    reply *r = ev->sample >= 0 && ev->sample < c->n_r ? &c->r[ev->sample] : NULL;
    switch (ev->kind) {
    case ENGINE_BEGIN: own(c, CALL_BEGIN); break;
    case ENGINE_PROMPT_TOKEN: own(c, CALL_PROMPT_TOKEN); break;
    case ENGINE_VECTOR: own(c, CALL_VECTOR); break;
    case ENGINE_TOKEN:
        own(c, CALL_TOKEN);
        if (!r) break;
        if (c->ends_shown && is_end(c, ev->id)) r->strip = tok_text(c->s->tok, ev->id).n;
        put(c, r, ev->text);
        break;
    case ENGINE_FINISH:
        if (!r) break;
        put(c, r, ev->text);
        finish_text(c, r);
        push(c, CALL_FINISH, ev->sample, 0, (span){ "", 0 }, finish_of(r, ev->finish), true);
        break;
    case ENGINE_DONE:
        c->over = true;
        own(c, CALL_DONE);
        break;
    }
}

bool call_next(call *c, call_event *ev)
{
    while (c->at_q == c->n_q) {
        c->at_q = c->n_q = 0;
        buf_reset(&c->text);
        if (c->over || !ticket_next(c->t, &c->ev)) return false;
        take(c);
        if (c->err.code && !c->over) {           // what is left of this answer cannot be trusted
            c->n_q = 0;
            c->ev = (engine_event){ .kind = ENGINE_DONE, .code = c->err.code, .msg = c->err.msg };
            c->over = true;
            *ev = (call_event){ .kind = CALL_DONE, .ev = &c->ev };
            return true;
        }
    }
    const item *i = &c->q[c->at_q++];
    *ev = (call_event){ .kind = i->kind, .sample = i->sample, .tool = i->tool,
                        .text = { i->n ? c->text.p + i->at : "", i->n }, .finish = i->finish,
                        .ev = i->own ? &c->ev : NULL };
    if (i->kind == CALL_TOOL) {
        reply *r = &c->r[i->sample];
        int had = r->n_calls;
        r->n_calls = i->tool;
        new_id(c, r);
        r->n_calls = had;
        ev->id = r->id;
    }
    return true;
}

/* ---- begin and end */

static uint64_t new_key(void)
{
    static atomic_uint_fast64_t number;
    uint32_t w[4];
    rng_philox(w, (uint64_t)os_now_ns(), (uint64_t)(uintptr_t)&number, atomic_fetch_add(&number, 1));
    return (uint64_t)w[0] << 32 | w[1];
}

/* A parser for each reply whose calls are to be found. */
static int begin_replies(call *c, const call_opt *o, dr_err *e)
{
    int n = o->req.n_samples > 1 ? o->req.n_samples : 1;
    if (o->req.task != ENGINE_GENERATE) return DR_OK;
    c->r = mem_zalloc((size_t)n, sizeof *c->r);
    if (!c->r) return err_nomem(e, (size_t)n * sizeof *c->r, "replies");
    c->n_r = n;
    for (int i = 0; i < n; i++) {
        reply *r = &c->r[i];
        r->of = c, r->number = i;
        buf_init(&r->tail, MAX_REPLY);
        toolcall_opt t = { .tools = c->plan.tools };
        if (c->plan.forced) call_forced_init(&r->forced, c->plan.key);
        else if (c->plan.tools && !(r->parse = toolcall_new(&t, on_call, r, e))) return DR_ENOMEM;
    }
    return DR_OK;
}

/* The engine's copy of the request: the prompt, the form, the format's ends. */
static int submit(call *c, const call_opt *o, int *retry_s, dr_err *e)
{
    engine_req r = o->req;
    int32_t end[CALL_ENDS + 64];
    int n = 0;
    if (r.n_end > 64) return err_set(e, DR_EINVAL, "%d tokens that end a reply; at most 64 are possible", r.n_end);
    for (int i = 0; i < c->plan.n_end; i++) end[n++] = c->plan.end[i];
    for (int i = 0; i < r.n_end; i++) end[n++] = r.end[i];
    r.end = end, r.n_end = n;
    r.constraint = c->plan.form;
    r.prompt = c->plan.prompt.p, r.n_prompt = (int)c->plan.prompt.n;
    if (c->plan.prompt.n > INT32_MAX / 2)
        return err_set(e, DR_EINVAL, "a prompt of %lld tokens", (long long)c->plan.prompt.n);
    /* <|python_tag|> and its kin say that a call begins */
    if (c->plan.tools && c->plan.marked && !c->plan.form && !r.show_special && !r.ignore_eos)
        r.show_special = c->ends_shown = true;
    return engine_submit(c->s->eng, &r, &c->t, retry_s, e);
}

/* The prompt and what the reply has to look like. */
static int make_plan(served *s, const call_opt *o, bool text, call_plan *p, const char **param, dr_err *e)
{
    int rc = DR_OK;
    *param = NULL;
    if (o->messages) return call_chat(s, o, text, p, param, e);
    *param = "prompt";
    if (o->ids) {
        for (int i = 0; i < o->n_ids && !rc; i++) {
            if (o->ids[i] < 0 || o->ids[i] >= tok_count(s->tok))
                return err_set(e, DR_EINVAL, "token %d of the prompt is %d; ids are below %d", i, o->ids[i],
                               tok_count(s->tok));
            rc = ids_put(&p->prompt, o->ids[i], e);
        }
    } else {
        rc = tok_encode(s->tok, o->prompt, TOK_BOS, &p->prompt, e);
        if (!rc && !p->prompt.n && tok_bos(s->tok) >= 0) rc = ids_put(&p->prompt, tok_bos(s->tok), e);
        if (!rc && !p->prompt.n && tok_eos(s->tok) >= 0) rc = ids_put(&p->prompt, tok_eos(s->tok), e);
    }
    if (!rc && !p->prompt.n) rc = err_set(e, DR_EINVAL, "the prompt is empty");
    if (!rc) *param = NULL;
    return rc;
}

int call_begin(served *s, const call_opt *o, call **out, int *retry_s, const char **param, dr_err *e)
{
    dr_err own_err = { 0 };
    const char *which = NULL;
    int retry = 0;
    if (!e) e = &own_err;
    if (!param) param = &which;
    if (!retry_s) retry_s = &retry;
    *param = NULL;
    call *c = mem_zalloc(1, sizeof *c);
    if (!c) return err_nomem(e, sizeof *c, "a call");
    c->s = s;
    c->key = new_key();
    buf_init(&c->text, MAX_REPLY);
    int rc = make_plan(s, o, false, &c->plan, param, e);
    if (!rc && o->req.task == ENGINE_GENERATE) rc = call_form(s, o, &c->plan, param, e);
    if (!rc && c->plan.prompt.n > engine_ctx(s->eng) - (o->req.max_tokens != 0 && o->req.task == ENGINE_GENERATE)) {
        *param = call_too_long;
        rc = err_set(e, DR_EINVAL, "the prompt has %lld tokens; the context has room for %d, the reply included",
                     (long long)c->plan.prompt.n, engine_ctx(s->eng));
    }
    if (!rc) rc = begin_replies(c, o, e);
    if (!rc) rc = submit(c, o, retry_s, e);
    if (rc) {
        call_end(c);
        return rc;
    }
    *out = c;
    return DR_OK;
}

void call_end(call *c)
{
    if (!c) return;
    ticket_free(c->t);
    for (int i = 0; i < c->n_r; i++) {
        toolcall_free(c->r[i].parse);
        buf_free(&c->r[i].tail);
        buf_free(&c->r[i].forced.name);
    }
    mem_free(c->r);
    mem_free(c->q);
    buf_free(&c->text);
    call_plan_free(&c->plan);
    mem_free(c);
}

int call_prompt(served *s, const call_opt *o, ids *out, buf *text, const char **param, dr_err *e)
{
    call_plan p = { 0 };
    dr_err own_err = { 0 };
    const char *which = NULL;
    if (!e) e = &own_err;
    int rc = make_plan(s, o, text != NULL, &p, param ? param : &which, e);
    for (int64_t i = 0; !rc && i < p.prompt.n; i++) rc = ids_put(out, p.prompt.p[i], e);
    if (!rc && text && o->messages) buf_put(text, p.text.p, p.text.n);
    if (!rc && text && !o->messages) rc = tok_decode(s->tok, p.prompt.p, p.prompt.n, true, text, e);
    call_plan_free(&p);
    return rc;
}
