/* api_embed.c - /v1/embeddings: a normalised vector for each text. */
#include <string.h>
#include "base/mem.h"
#include "serve/answer.h"
#include "serve/oai.h"
#include "serve/vectors.h"

enum { CHUNK = 48 << 10 };
#define MAX_BODY ((size_t)1 << 30)

typedef struct {
    oai_req r;
    oai_model m;
    vectors v;
    buf *out;                   /* (n,) each vector's text */
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

static void put_vector(void *arg, int at, const float *vec, int n)
{
    embed *o = arg;
    buf *b = &o->out[at];
    buf_printf(b, "{\"object\":\"embedding\",\"index\":%d,\"embedding\":", at);
    if (o->r.base64) {                                   // little-endian floats, as clients expect them
        buf_putc(b, '"');
        base64(b, vec, (size_t)n * sizeof *vec);
        buf_putc(b, '"');
    } else {
        for (int i = 0; i < n; i++) {
            buf_putc(b, i ? ',' : '[');
            js_float(b, vec[i]);
        }
        buf_putc(b, ']');
    }
    buf_putc(b, '}');
}

static void finish(embed *o, http_reply *rep)
{
    int code = o->v.code;
    const char *why = o->v.why;
    for (int i = 0; i < o->v.n; i++)
        if (!code && o->out[i].bad) code = DR_ENOMEM, why = "there is no memory for the reply";
    o->last = true;
    if (code) {
        answer_error(rep, &o->body, HTTP_OPENAI, code, why);
        return;
    }
    buf_puts(&o->body, "{\"object\":\"list\",\"data\":[");
    for (int i = 0; i < o->v.n; i++) {
        if (i) buf_putc(&o->body, ',');
        buf_put(&o->body, o->out[i].p, o->out[i].n);
        buf_free(&o->out[i]);
    }
    buf_puts(&o->body, "],\"model\":");
    field_text(&o->body, span_of(o->r.model && *o->r.model ? o->r.model : o->m.s->id));
    buf_printf(&o->body, ",\"usage\":{\"prompt_tokens\":%lld,\"total_tokens\":%lld}}", (long long)o->v.tokens,
               (long long)o->v.tokens);
    if (o->body.bad) rep->status = 503;
}

static http_state fill(void *src, http_reply *rep, buf *out)
{
    embed *o = src;
    if (!o->last) {
        if (!vectors_step(&o->v)) return HTTP_WAIT;
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
    for (int i = 0; o->out && i < o->v.n; i++) buf_free(&o->out[i]);
    vectors_end(&o->v);
    mem_free(o->out);
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
    *param = "dimensions";
    if (o->r.dimensions && o->r.dimensions != o->m.s->m->h.C)
        return err_set(e, DR_EUNSUPPORTED, "dimensions is %d; this model's vectors have %d and mean nothing when cut",
                       o->r.dimensions, o->m.s->m->h.C);
    *param = "input";
    if ((rc = oai_prompts(o->m.s, o->r.prompt, "input", &text, &n, e))) return rc;
    o->out = mem_zalloc((size_t)n, sizeof *o->out);
    if (!o->out) {
        oai_prompts_free(text, n);
        return err_nomem(e, (size_t)n * sizeof *o->out, "embeddings");
    }
    for (int i = 0; i < n; i++) buf_init(&o->out[i], MAX_BODY);
    *param = NULL;
    o->r.c.req.tenant = q->tenant;
    o->r.c.req.adapter = o->m.adapter;
    o->r.c.req.task = o->r.last ? ENGINE_EMBED_LAST : ENGINE_EMBED_MEAN;
    o->r.c.req.wake = answer_wake, o->r.c.req.arg = q->conn;
    o->v.s = o->m.s, o->v.c = o->r.c, o->v.put = put_vector, o->v.arg = o;
    return vectors_begin(&o->v, text, n, retry, param, e);
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
