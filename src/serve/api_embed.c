/* api_embed.c - /v1/embeddings: a normalised vector for each text. */
#include <string.h>
#include "base/mem.h"
#include "serve/oai.h"

enum { WINDOW = 16, CHUNK = 48 << 10 };
#define MAX_BODY ((size_t)1 << 30)

typedef struct { ids text; call *c; buf out; } part;

typedef struct {
    oai_req r;
    oai_model m;
    http_conn *conn;
    part *p;
    int n, next, running;
    int64_t tokens;
    int code;
    char why[480];
    buf body;
    size_t sent;
    bool last;
} embed;

static void base64(buf *b, const void *from, size_t n)
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *p = from;
    for (size_t i = 0; i < n; i += 3) {
        size_t k = n - i < 3 ? n - i : 3;
        unsigned v = (unsigned)p[i] << 16 | (k > 1 ? (unsigned)p[i + 1] << 8 : 0) | (k > 2 ? (unsigned)p[i + 2] : 0);
        char s[4] = { digit[v >> 18], digit[v >> 12 & 63], digit[v >> 6 & 63], digit[v & 63] };
        for (size_t x = k + 1; x < 4; x++) s[x] = '=';
        buf_put(b, s, 4);
    }
}

static void put_vector(embed *o, int at, const engine_event *x)
{
    buf *b = &o->p[at].out;
    buf_printf(b, "{\"object\":\"embedding\",\"index\":%d,\"embedding\":", at);
    if (o->r.base64) {                                   // little-endian floats, as clients expect them
        buf_putc(b, '"');
        base64(b, x->vec, (size_t)x->n_vec * sizeof *x->vec);
        buf_putc(b, '"');
    } else {
        for (int i = 0; i < x->n_vec; i++) {
            buf_putc(b, i ? ',' : '[');
            js_float(b, x->vec[i]);
        }
        buf_putc(b, ']');
    }
    buf_putc(b, '}');
}

static int begin_more(embed *o, int *retry_s, const char **param, dr_err *e)
{
    while (o->next < o->n && o->running < WINDOW) {
        dr_err own = { 0 };
        call_opt c = o->r.c;
        part *p = &o->p[o->next];
        c.ids = p->text.p, c.n_ids = (int)p->text.n;
        c.req.task = o->r.last ? ENGINE_EMBED_LAST : ENGINE_EMBED_MEAN;
        c.req.max_tokens = 0;
        c.req.wake = oai_wake, c.req.arg = o->conn;
        int rc = call_begin(o->m.s, &c, &p->c, retry_s, param, &own);
        if (rc == DR_EBUSY && o->running) return DR_OK;
        if (rc) return err_set(e, rc, "%s", own.msg);
        o->next++, o->running++;
    }
    return DR_OK;
}

static void failed(embed *o, int code, const char *why)
{
    if (o->code) return;
    o->code = code;
    snprintf(o->why, sizeof o->why, "%s", why && *why ? why : "the embedding could not be made");
    for (int i = 0; i < o->n; i++) {
        call_end(o->p[i].c);
        o->p[i].c = NULL;
    }
    o->running = 0, o->next = o->n;
}

static void on_event(embed *o, int at, const call_event *ev)
{
    dr_err e = { 0 };
    const char *param;
    int retry;
    if (ev->kind == CALL_VECTOR) put_vector(o, at, ev->ev);
    if (ev->kind != CALL_DONE) return;
    if (ev->ev->code) {
        failed(o, ev->ev->code, ev->ev->msg);
        return;
    }
    o->tokens += ev->ev->usage.n_prompt;
    call_end(o->p[at].c);
    o->p[at].c = NULL;
    o->running--;
    if (begin_more(o, &retry, &param, &e)) failed(o, e.code, e.msg);
}

static void finish(embed *o, http_reply *rep)
{
    for (int i = 0; i < o->n; i++)
        if (!o->code && o->p[i].out.bad) failed(o, DR_ENOMEM, "there is no memory for the reply");
    o->last = true;
    if (o->code) {
        http_reply x = { .body.cap_max = 1 << 16 };
        http_error(&x, HTTP_OPENAI, http_status(o->code), NULL, NULL, NULL, "%s", o->why);
        rep->status = x.status;
        buf_put(&o->body, x.body.p, x.body.n);
        buf_free(&x.body);
        return;
    }
    buf_puts(&o->body, "{\"object\":\"list\",\"data\":[");
    for (int i = 0; i < o->n; i++) {
        if (i) buf_putc(&o->body, ',');
        buf_put(&o->body, o->p[i].out.p, o->p[i].out.n);
        buf_free(&o->p[i].out);
    }
    buf_puts(&o->body, "],\"model\":");
    field_text(&o->body, span_of(o->r.model && *o->r.model ? o->r.model : o->m.s->id));
    buf_printf(&o->body, ",\"usage\":{\"prompt_tokens\":%lld,\"total_tokens\":%lld}}", (long long)o->tokens,
               (long long)o->tokens);
    if (o->body.bad) rep->status = 503;
}

static http_state fill(void *src, http_reply *rep, buf *out)
{
    embed *o = src;
    if (!o->last) {
        for (int at = 0; at < o->next; at++) {
            call_event ev;
            while (o->p[at].c && call_next(o->p[at].c, &ev)) on_event(o, at, &ev);
        }
        if (o->running || o->next < o->n) return HTTP_WAIT;
        finish(o, rep);
    }
    size_t n = o->body.n - o->sent;
    if (n > CHUNK) n = CHUNK;
    buf_put(out, o->body.p + o->sent, n);
    o->sent += n;
    return o->sent < o->body.n ? HTTP_MORE : HTTP_END;
}

static void close_embed(void *src)
{
    embed *o = src;
    for (int i = 0; i < o->n; i++) {
        call_end(o->p[i].c);
        ids_free(&o->p[i].text);
        buf_free(&o->p[i].out);
    }
    mem_free(o->p);
    buf_free(&o->body);
    oai_req_free(&o->r);
    models_put(o->m.ms, o->m.s);
    mem_free(o);
}

static const http_source SOURCE = { fill, NULL, close_embed };

static int begin(embed *o, const http_req *q, json_t *body, int *retry, const char **param, dr_err *e)
{
    ids *text = NULL;
    int rc = oai_read(&o->r, OAI_EMBED, body, o->m.s, param, e), n = 0;
    if (rc) return rc;
    *param = "input";
    if ((rc = oai_prompts(o->m.s, o->r.prompt, "input", &text, &n, e))) return rc;
    o->p = mem_zalloc((size_t)n, sizeof *o->p);
    if (!o->p) {
        oai_prompts_free(text, n);
        return err_nomem(e, (size_t)n * sizeof *o->p, "embeddings");
    }
    o->n = n;
    for (int i = 0; i < n; i++) {
        o->p[i].text = text[i];
        buf_init(&o->p[i].out, MAX_BODY);
    }
    mem_free(text);
    *param = "dimensions";
    if (o->r.dimensions && o->r.dimensions != o->m.s->m->h.C)
        return err_set(e, DR_EUNSUPPORTED, "dimensions is %d; this model's vectors have %d and mean nothing when cut",
                       o->r.dimensions, o->m.s->m->h.C);
    *param = NULL;
    o->r.c.req.tenant = q->tenant;
    o->r.c.req.adapter = o->m.adapter;
    return begin_more(o, retry, param, e);
}

void oai_embeddings(const http_req *q, http_reply *rep)
{
    dr_err e = { 0 };
    const char *param = NULL;
    int retry = 0;
    json_t *body = http_json(q, &e);
    embed *o = body ? mem_zalloc(1, sizeof *o) : NULL;
    if (!o) {
        if (body) err_nomem(&e, sizeof *o, "embeddings");
        oai_refuse(rep, e.code, 0, NULL, &e);
        json_decref(body);
        return;
    }
    o->conn = q->conn;
    buf_init(&o->body, MAX_BODY);
    if (!oai_open(&o->m, q, rep, body)) {
        mem_free(o);
    } else {
        int rc = begin(o, q, body, &retry, &param, &e);
        if (rc) {
            oai_refuse(rep, rc, retry, param, &e);
            close_embed(o);
        } else {
            rep->source = &SOURCE, rep->src = o;
        }
    }
    json_decref(body);
}
