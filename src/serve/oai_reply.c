/* oai_reply.c - replies of chat and completions, streamed or whole.
 *
 * A request is one call for a chat, and one for each prompt of completions: of these WINDOW run at a time,
 * the next begins when one ended. Choice number is prompt * n + sample. Streamed, each event becomes a chunk
 * at once; else choices are collected as the JSON that they will be, and written when all are done. */
#include <string.h>
#include <time.h>
#include "base/mem.h"
#include "serve/answer.h"
#include "serve/oai.h"
#include "text/utf8.h"

enum { WINDOW = 16, CHUNK = 48 << 10 };
#define MAX_BODY ((size_t)1 << 30)

typedef struct {
    buf text, calls;            /* calls: objects of tool_calls, a comma between; the last may be open */
    buf tok, lp, top, off;      /* log-probabilities not given out yet: entries with commas between */
    int64_t chars;              /* of tokens so far, for text_offset */
    int n_calls;
    bool role, content;         /* given out: the first chunk; anything of content */
    call_finish finish;
} choice;

typedef struct {
    ids prompt;
    call *c;                    /* NULL: not begun, or over */
    bool over;
} job;

typedef struct {
    oai_req r;
    oai_model m;
    http_conn *conn;
    char id[JS_ID];
    buf head;                   /* of each chunk, up to the choice's number */
    buf body;                   /* the whole reply, when it is not streamed */
    size_t sent;
    job *jobs;
    choice *ch;
    int n_jobs, next, running, n_ch;
    engine_usage sum;
    bool begun, last;
    int code;                   /* it failed: this and why */
    char why[480];
} reply;

const char *oai_finish(call_finish f)
{
    static const char *const name[] = { "stop", "length", "tool_calls", "length" };
    return name[f];
}

/* ---- log-probabilities */

span oai_token(const tokenizer *t, int32_t id, buf *b)
{
    buf_reset(b);
    if (id >= 0 && id < tok_count(t)) tok_decode_one(t, id, true, b, NULL);
    return (span){ buf_str(b), b->n };
}

static void one_prob(buf *b, const tokenizer *t, int32_t id, float logprob)
{
    buf s = { .cap_max = 1 << 16 };
    span x = oai_token(t, id, &s);
    buf_puts(b, "{\"token\":");
    field_text(b, x);
    buf_puts(b, ",\"logprob\":");
    js_float(b, logprob);
    buf_puts(b, ",\"bytes\":");
    js_bytes(b, x);
    buf_free(&s);
}

void oai_logprob(buf *b, const tokenizer *t, int32_t id, float logprob, const sample_prob *top, int n_top)
{
    one_prob(b, t, id, logprob);
    buf_puts(b, ",\"top_logprobs\":[");
    for (int i = 0; i < n_top; i++) {
        if (i) buf_putc(b, ',');
        one_prob(b, t, top[i].id, top[i].logprob);
        buf_putc(b, '}');
    }
    buf_puts(b, "]}");
}

/* A token as completions name it: its text, or "bytes:\x.." where that is not UTF-8 alone. */
static void token_name(buf *b, span s)
{
    const uint8_t *p = (const uint8_t *)s.p, *end = p + s.n;
    for (int n; p < end; p += n)
        if (utf8_get(p, end, &n) == UTF8_BAD) break;
    if (p == end) {
        field_text(b, s);
        return;
    }
    buf_puts(b, "\"bytes:");
    for (size_t i = 0; i < s.n; i++) buf_printf(b, "\\\\x%02x", (unsigned)(unsigned char)s.p[i]);
    buf_putc(b, '"');
}

static int64_t chars(span s)
{
    int64_t n = 0;
    for (size_t i = 0; i < s.n; i++) n += ((unsigned char)s.p[i] & 0xc0) != 0x80;
    return n;
}

static void put_top(buf *b, const tokenizer *t, int32_t id, float logprob, const sample_prob *top, int n_top, buf *s)
{
    bool there = false;
    buf_putc(b, '{');
    for (int i = 0; i < n_top; i++) {
        if (i) buf_putc(b, ',');
        token_name(b, oai_token(t, top[i].id, s));
        buf_putc(b, ':');
        js_float(b, top[i].logprob);
        there |= top[i].id == id;
    }
    if (!there) {
        if (n_top) buf_putc(b, ',');
        token_name(b, oai_token(t, id, s));
        buf_putc(b, ':');
        js_float(b, logprob);
    }
    buf_putc(b, '}');
}

/* One more entry of a choice. first: a prompt's first token, of which there is no probability. */
static void add_prob(reply *o, choice *c, int32_t id, float logprob, const sample_prob *top, int n_top, bool first)
{
    const tokenizer *t = o->m.s->tok;
    if (c->tok.n) buf_putc(&c->tok, ',');
    if (o->r.api == OAI_CHAT) {
        oai_logprob(&c->tok, t, id, logprob, top, n_top);
        return;
    }
    buf s = { .cap_max = 1 << 16 };
    span x = oai_token(t, id, &s);
    int64_t n = chars(x);
    if (c->lp.n) buf_putc(&c->lp, ','), buf_putc(&c->top, ','), buf_putc(&c->off, ',');
    token_name(&c->tok, x);
    buf_printf(&c->off, "%lld", (long long)c->chars);
    c->chars += n;
    if (first) {
        buf_puts(&c->lp, "null");
        buf_puts(&c->top, "null");
    } else {
        js_float(&c->lp, logprob);
        put_top(&c->top, t, id, logprob, top, n_top, &s);
    }
    buf_free(&s);
}

/* "logprobs": what has gathered, as the API has it. */
static void put_probs(reply *o, choice *c, buf *out)
{
    buf_puts(out, ",\"logprobs\":");
    if (!o->r.logprobs || (!c->tok.n && o->r.stream)) {
        buf_puts(out, "null");
        return;
    }
    if (o->r.api == OAI_CHAT) {
        buf_puts(out, "{\"content\":[");
        buf_put(out, c->tok.p, c->tok.n);
        buf_puts(out, "],\"refusal\":null}");
    } else {
        const struct { const char *name; const buf *b; } part[] = {
            { "{\"tokens\":[", &c->tok }, { "],\"token_logprobs\":[", &c->lp }, { "],\"top_logprobs\":[", &c->top },
            { "],\"text_offset\":[", &c->off },
        };
        for (int i = 0; i < 4; i++) buf_puts(out, part[i].name), buf_put(out, part[i].b->p, part[i].b->n);
        buf_puts(out, "]}");
    }
    buf_reset(&c->tok);
    buf_reset(&c->lp);
    buf_reset(&c->top);
    buf_reset(&c->off);
}

/* ---- parts of chunks and of the whole */

static void put_usage(const engine_usage *u, buf *out)
{
    buf_printf(out, "{\"prompt_tokens\":%d,\"completion_tokens\":%d,\"total_tokens\":%d,"
               "\"prompt_tokens_details\":{\"cached_tokens\":%d},"
               "\"completion_tokens_details\":{\"reasoning_tokens\":0}}",
               u->n_prompt, u->n_gen, u->n_prompt + u->n_gen, u->n_cached);
}

static void put_head(reply *o)
{
    const char *chat = o->r.stream ? "chat.completion.chunk" : "chat.completion";
    const char *name = o->r.model && *o->r.model ? o->r.model : o->m.s->id;
    js_id(o->id, o->r.api == OAI_CHAT ? "chatcmpl-" : "cmpl-");
    buf_printf(&o->head, "{\"id\":\"%s\",\"object\":\"%s\",\"created\":%lld,\"model\":", o->id,
               o->r.api == OAI_CHAT ? chat : "text_completion", (long long)time(NULL));
    field_text(&o->head, span_of(name));
    buf_puts(&o->head, ",\"system_fingerprint\":\"drover-" DR_VERSION "\"");
    if (o->r.api == OAI_CHAT) buf_puts(&o->head, ",\"service_tier\":\"default\"");
    buf_puts(&o->head, ",\"choices\":[");
}

static void chunk_begin(reply *o, int index, buf *out)
{
    buf_puts(out, "data: ");
    buf_put(out, o->head.p, o->head.n);
    buf_printf(out, "{\"index\":%d,", index);
}

/* After the delta or text: log-probabilities, the end, usage. */
static void chunk_end(reply *o, choice *c, const char *finish, buf *out)
{
    put_probs(o, c, out);
    buf_puts(out, ",\"finish_reason\":");
    js_put(out, finish);
    buf_puts(out, "}]");
    if (o->r.usage_each) buf_puts(out, ",\"usage\":"), put_usage(&o->sum, out);
    else if (o->r.usage) buf_puts(out, ",\"usage\":null");
    buf_puts(out, "}\n\n");
}

static void put_text_chunk(reply *o, int i, span text, const char *finish, buf *out)
{
    choice *c = &o->ch[i];
    chunk_begin(o, i, out);
    if (o->r.api == OAI_TEXT) {
        buf_puts(out, "\"text\":");
        field_text(out, text);
    } else {
        buf_puts(out, "\"delta\":{");
        if (text.n) buf_puts(out, "\"content\":"), field_text(out, text);
        buf_putc(out, '}');
    }
    chunk_end(o, c, finish, out);
}

static void role_chunk(reply *o, int i, buf *out)
{
    if (o->ch[i].role || o->r.api != OAI_CHAT) return;
    o->ch[i].role = true;
    chunk_begin(o, i, out);
    buf_puts(out, "\"delta\":{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null}");
    chunk_end(o, &o->ch[i], NULL, out);
}

/* A call that begins (id, name) or goes on (arguments). */
static void call_chunk(reply *o, int i, const call_event *ev, buf *out)
{
    chunk_begin(o, i, out);
    buf_printf(out, "\"delta\":{\"tool_calls\":[{\"index\":%d", ev->tool);
    if (ev->kind == CALL_TOOL) {
        buf_puts(out, ",\"id\":");
        js_put(out, ev->id);
        buf_puts(out, ",\"type\":\"function\",\"function\":{\"name\":");
        field_text(out, ev->text);
        buf_puts(out, ",\"arguments\":\"\"}}]}");
    } else {
        buf_puts(out, ",\"function\":{\"arguments\":");
        field_text(out, ev->text);
        buf_puts(out, "}}]}");
    }
    chunk_end(o, &o->ch[i], NULL, out);
}

/* The same into what is collected. Arguments are joined when the call ends. */
static void collect_call(choice *c, const call_event *ev)
{
    if (ev->kind == CALL_TOOL) {
        if (c->n_calls++) buf_putc(&c->calls, ',');
        buf_puts(&c->calls, "{\"id\":");
        js_put(&c->calls, ev->id);
        buf_puts(&c->calls, ",\"type\":\"function\",\"function\":{\"name\":");
        field_text(&c->calls, ev->text);
        buf_puts(&c->calls, ",\"arguments\":\"");
    } else if (ev->kind == CALL_ARGS) {
        size_t at = c->calls.n;
        field_text(&c->calls, ev->text);                     // without its quotes
        if (c->calls.bad) return;
        memmove(c->calls.p + at, c->calls.p + at + 1, c->calls.n - at - 2);
        c->calls.n -= 2;
        c->calls.p[c->calls.n] = 0;
    } else {
        buf_puts(&c->calls, "\"}}");
    }
}

static void whole_choice(reply *o, int i, buf *out)
{
    choice *c = &o->ch[i];
    buf_printf(out, i ? ",{\"index\":%d," : "{\"index\":%d,", i);
    if (o->r.api == OAI_TEXT) {
        buf_puts(out, "\"text\":");
        field_text(out, (span){ buf_str(&c->text), c->text.n });
    } else {
        buf_puts(out, "\"message\":{\"role\":\"assistant\",\"content\":");
        if (c->n_calls && !c->text.n) buf_puts(out, "null");
        else field_text(out, (span){ buf_str(&c->text), c->text.n });
        buf_puts(out, ",\"refusal\":null,\"annotations\":[]");
        if (c->n_calls) {
            buf_puts(out, ",\"tool_calls\":[");
            buf_put(out, c->calls.p, c->calls.n);
            buf_putc(out, ']');
        }
        buf_putc(out, '}');
    }
    put_probs(o, c, out);
    buf_printf(out, ",\"finish_reason\":\"%s\"}", oai_finish(c->finish));
}

/* ---- calls */

static int begin_job(reply *o, int at, int *retry_s, const char **param, dr_err *e)
{
    job *j = &o->jobs[at];
    call_opt c = o->r.c;
    c.req.wake = answer_wake, c.req.arg = o->conn;
    if (o->r.api == OAI_TEXT) c.messages = NULL, c.ids = j->prompt.p, c.n_ids = (int)j->prompt.n;
    int rc = call_begin(o->m.s, &c, &j->c, retry_s, param, e);
    if (!rc) o->running++;
    return rc;
}

/* As many as may run. While some do, a full engine only means later. */
static int begin_more(reply *o, int *retry_s, const char **param, dr_err *e)
{
    while (o->next < o->n_jobs && o->running < WINDOW) {
        dr_err own = { 0 };
        int rc = begin_job(o, o->next, retry_s, param, &own);
        if (rc == DR_EBUSY && o->running) return DR_OK;
        if (rc) return err_set(e, rc, "%s", own.msg);
        o->next++;
    }
    return DR_OK;
}

static void failed(reply *o, int code, const char *why)
{
    if (o->code) return;
    o->code = code;
    snprintf(o->why, sizeof o->why, "%s", why && *why ? why : "the reply could not be made");
    for (int i = 0; i < o->n_jobs; i++) {
        call_end(o->jobs[i].c);
        o->jobs[i].c = NULL;
    }
    o->running = 0, o->next = o->n_jobs;
}

/* echo: the prompt's text and its first token before what comes. */
static void echo(reply *o, int at, buf *out)
{
    job *j = &o->jobs[at];
    buf s = { .cap_max = MAX_BODY };
    if (tok_decode(o->m.s->tok, j->prompt.p, j->prompt.n, !o->r.skip_special, &s, NULL)) buf_reset(&s);
    for (int k = 0; k < o->r.n; k++) {
        int i = at * o->r.n + k;
        if (o->r.logprobs) add_prob(o, &o->ch[i], j->prompt.p[0], 0, NULL, 0, true);
        if (o->r.stream) put_text_chunk(o, i, (span){ buf_str(&s), s.n }, NULL, out);
        else buf_put(&o->ch[i].text, s.p, s.n);
    }
    buf_free(&s);
}

static void on_event(reply *o, int at, const call_event *ev, buf *out)
{
    int i = at * o->r.n + ev->sample;
    choice *c = ev->sample >= 0 && i < o->n_ch ? &o->ch[i] : &o->ch[at * o->r.n];
    const engine_event *x = ev->ev;
    switch (ev->kind) {
    case CALL_BEGIN:
        if (o->r.usage_each) o->sum.n_prompt += x->usage.n_prompt, o->sum.n_cached += x->usage.n_cached;
        for (int k = 0; k < o->r.n && o->r.stream; k++) role_chunk(o, at * o->r.n + k, out);
        if (o->r.echo) echo(o, at, out);
        break;
    case CALL_PROMPT_TOKEN:
        if (o->r.echo && o->r.logprobs)
            for (int k = 0; k < o->r.n; k++)
                add_prob(o, &o->ch[at * o->r.n + k], x->id, x->logprob, x->top, x->n_top, false);
        break;
    case CALL_TOKEN:
        if (o->r.usage_each) o->sum.n_gen++;
        if (o->r.logprobs) add_prob(o, c, x->id, x->logprob, x->top, x->n_top, false);
        break;
    case CALL_TEXT:
        if (o->r.stream) put_text_chunk(o, i, ev->text, NULL, out);
        else buf_put(&c->text, ev->text.p, ev->text.n);
        break;
    case CALL_TOOL: case CALL_ARGS: case CALL_TOOL_END:
        if (!o->r.stream) collect_call(c, ev);
        else if (ev->kind != CALL_TOOL_END) call_chunk(o, i, ev, out);
        break;
    case CALL_FINISH:
        if (ev->finish == CALL_CANCELLED) {              // half a reply is none
            failed(o, DR_ECANCEL, "the server ended before the reply was complete");
            break;
        }
        c->finish = ev->finish;
        if (o->r.stream) put_text_chunk(o, i, (span){ "", 0 }, oai_finish(ev->finish), out);
        break;
    default: break;
    }
}

static void on_done(reply *o, int at, const engine_event *x)
{
    job *j = &o->jobs[at];
    dr_err e = { 0 };
    int retry = 0;
    const char *param;
    if (x->code) {
        failed(o, x->code, x->msg);
        return;
    }
    if (!o->r.usage_each) {
        o->sum.n_prompt += x->usage.n_prompt, o->sum.n_cached += x->usage.n_cached;
        o->sum.n_gen += x->usage.n_gen;
    }
    call_end(j->c);
    j->c = NULL, j->over = true;
    o->running--;
    if (begin_more(o, &retry, &param, &e)) failed(o, e.code, e.msg);
}

/* ---- the source */

static void put_error(reply *o, http_reply *rep, buf *out)
{
    http_reply x = { .body.cap_max = 1 << 16 };
    http_error(&x, HTTP_OPENAI, http_status(o->code), NULL, NULL, NULL, "%s", o->why);
    if (o->r.stream) buf_puts(out, "data: ");
    else rep->status = x.status;
    buf_put(out, x.body.p, x.body.n);
    if (o->r.stream) buf_puts(out, "\n\n");
    buf_free(&x.body);
}

/* All is done: the last of a stream, or the whole into o->body. */
static void put_last(reply *o, http_reply *rep, buf *out)
{
    if (o->code) put_error(o, rep, o->r.stream ? out : &o->body);
    else if (o->r.stream) {
        if (o->r.usage) {
            buf_puts(out, "data: ");
            buf_put(out, o->head.p, o->head.n);
            buf_puts(out, "],\"usage\":");
            put_usage(&o->sum, out);
            buf_puts(out, "}\n\n");
        }
    } else {
        buf_put(&o->body, o->head.p, o->head.n);
        for (int i = 0; i < o->n_ch; i++) whole_choice(o, i, &o->body);
        buf_puts(&o->body, "],\"usage\":");
        put_usage(&o->sum, &o->body);
        buf_putc(&o->body, '}');
    }
    if (o->r.stream) buf_puts(out, "data: [DONE]\n\n");
    o->last = true;
}

static http_state give(reply *o, buf *out)
{
    size_t n = o->body.n - o->sent;
    if (n > CHUNK) n = CHUNK;
    buf_put(out, o->body.p + o->sent, n);
    o->sent += n;
    return o->sent < o->body.n ? HTTP_MORE : HTTP_END;
}

static bool lost(const reply *o)
{
    for (int i = 0; i < o->n_ch; i++) {
        const choice *c = &o->ch[i];
        if (c->text.bad || c->calls.bad || c->tok.bad || c->lp.bad || c->top.bad || c->off.bad) return true;
    }
    return o->body.bad;
}

static http_state fill(void *src, http_reply *rep, buf *out)
{
    reply *o = src;
    if (o->last) return give(o, out);
    if (o->r.stream && !o->begun) {          // the head goes out now, so that pings can
        o->begun = true;
        buf_puts(out, ": \n\n");
        return HTTP_MORE;
    }
    for (int at = 0; at < o->next; at++) {
        call_event ev;
        while (o->jobs[at].c && call_next(o->jobs[at].c, &ev)) {
            if (ev.kind == CALL_DONE) on_done(o, at, ev.ev);
            else on_event(o, at, &ev, out);
            if (out->n > CHUNK) return HTTP_MORE;
        }
    }
    if (lost(o)) failed(o, DR_ENOMEM, "there is no memory for the reply");
    if (!o->running && o->next == o->n_jobs) {
        put_last(o, rep, out);
        if (o->r.stream) return HTTP_END;
        if (lost(o)) {
            buf_reset(&o->body);
            rep->status = 503;
        }
        return give(o, out);
    }
    return out->n ? HTTP_MORE : HTTP_WAIT;
}

static void ping(void *src, buf *out)
{
    (void)src;
    buf_puts(out, ": ping\n\n");
}

static void close_reply(void *src)
{
    reply *o = src;
    for (int i = 0; i < o->n_jobs; i++) {
        call_end(o->jobs[i].c);
        ids_free(&o->jobs[i].prompt);
    }
    for (int i = 0; i < o->n_ch; i++) {
        choice *c = &o->ch[i];
        buf *all[] = { &c->text, &c->calls, &c->tok, &c->lp, &c->top, &c->off };
        for (size_t k = 0; k < sizeof all / sizeof *all; k++) buf_free(all[k]);
    }
    mem_free(o->jobs);
    mem_free(o->ch);
    buf_free(&o->head);
    buf_free(&o->body);
    oai_req_free(&o->r);
    models_put(o->m.ms, o->m.s);
    mem_free(o);
}

static const http_source STREAM = { fill, ping, close_reply }, WHOLE = { fill, NULL, close_reply };

void oai_answer(const http_req *q, http_reply *rep, oai_req *r, oai_model *m, ids *prompts, int n)
{
    reply *o = mem_zalloc(1, sizeof *o);
    int n_jobs = prompts ? n : 1, retry = 0;
    size_t n_ch = (size_t)n_jobs * (size_t)r->n;
    const char *param = NULL;
    dr_err e = { 0 };
    if (o) {
        o->r = *r, o->m = *m, o->conn = q->conn;
        o->jobs = mem_zalloc((size_t)n_jobs, sizeof *o->jobs);
        o->ch = mem_zalloc(n_ch, sizeof *o->ch);
    }
    if (!o || !o->jobs || !o->ch) {
        err_nomem(&e, n_ch * sizeof(choice), "a reply");
        oai_refuse(rep, e.code, 0, NULL, &e);
        if (o) close_reply(o);
        else oai_req_free(r), models_put(m->ms, m->s);
        if (prompts) oai_prompts_free(prompts, n);
        return;
    }
    o->n_jobs = n_jobs, o->n_ch = (int)n_ch;
    /* the strings of stop lie in *r itself */
    if (r->c.req.stop) o->r.c.req.stop = o->r.stop;
    o->r.c.req.tenant = q->tenant;
    o->r.c.req.adapter = m->adapter;
    buf_init(&o->head, 1 << 20);
    buf_init(&o->body, MAX_BODY);
    for (int i = 0; prompts && i < n; i++) o->jobs[i].prompt = prompts[i];
    mem_free(prompts);
    for (int i = 0; i < o->n_ch; i++) {
        buf *all[] = { &o->ch[i].text, &o->ch[i].calls, &o->ch[i].tok, &o->ch[i].lp, &o->ch[i].top, &o->ch[i].off };
        for (size_t k = 0; k < sizeof all / sizeof *all; k++) buf_init(all[k], MAX_BODY);
    }
    put_head(o);
    int rc = begin_more(o, &retry, &param, &e);
    if (!rc && o->head.bad) rc = err_nomem(&e, o->head.n, "a reply");
    if (rc) {
        oai_refuse(rep, rc, retry, param, &e);
        close_reply(o);
        return;
    }
    rep->source = o->r.stream ? &STREAM : &WHOLE;
    rep->src = o;
    if (o->r.stream) rep->type = "text/event-stream; charset=utf-8";
}
