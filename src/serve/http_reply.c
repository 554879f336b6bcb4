/* http_reply.c - replies, errors in each API's form, and the body as JSON. */
#include <stdarg.h>
#include <string.h>
#include "base/mem.h"
#include "format/json.h"
#include "serve/http_priv.h"

enum { JSON_BUDGET = 64 << 20 };             /* bytes that a body's tree may cost, beside 4 times its own */

void reply_free(http_reply *o)
{
    buf_free(&o->body);
    *o = (http_reply){ .body.cap_max = o->body.cap_max };
}

void http_head(http_reply *o, const char *name, const char *value, ...)
{
    if (o->n_head >= (int)(sizeof o->head / sizeof o->head[0])) return;
    va_list ap;
    va_start(ap, value);
    snprintf(o->head[o->n_head].name, sizeof o->head[0].name, "%s", name);
    vsnprintf(o->head[o->n_head].value, sizeof o->head[0].value, value, ap);
    va_end(ap);
    /* nothing that came from outside begins a line of its own */
    for (char *s = o->head[o->n_head].value; *s; s++)
        if ((unsigned char)*s < 32 || *s == 127) *s = ' ';
    o->n_head++;
}

static int dump(const char *p, size_t n, void *arg)
{
    buf *b = arg;
    buf_put(b, p, n);
    return b->bad ? -1 : 0;
}

bool reply_json(buf *b, const json_t *v)
{
    return !json_dump_callback(v, dump, b, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
}

void http_put_json(http_reply *o, int status, json_t *v)
{
    o->status = status;
    buf_reset(&o->body);
    if (v && reply_json(&o->body, v)) {
        json_decref(v);
        return;
    }
    json_decref(v);
    buf_reset(&o->body);
    o->status = 500;
    buf_puts(&o->body, "{\"error\":{\"message\":\"there is no memory for the reply\",\"type\":\"server_error\","
                       "\"param\":null,\"code\":null}}");
}

/* What a status is called: by OpenAI (type and code) and by Anthropic. */
static const struct { int status; const char *openai, *code, *anthropic; } NAMES[] = {
    { 400, "invalid_request_error", NULL, "invalid_request_error" },
    { 401, "authentication_error", "invalid_api_key", "authentication_error" },
    { 403, "permission_error", NULL, "permission_error" },
    { 404, "not_found_error", NULL, "not_found_error" },
    { 405, "invalid_request_error", "method_not_allowed", "invalid_request_error" },
    { 408, "timeout_error", NULL, "timeout_error" },
    { 409, "conflict_error", NULL, "invalid_request_error" },
    { 413, "invalid_request_error", "request_too_large", "request_too_large" },
    { 414, "invalid_request_error", "uri_too_long", "invalid_request_error" },
    { 415, "invalid_request_error", "unsupported_media_type", "invalid_request_error" },
    { 429, "rate_limit_error", "rate_limit_exceeded", "rate_limit_error" },
    { 431, "invalid_request_error", "headers_too_large", "request_too_large" },
    { 500, "server_error", NULL, "api_error" },
    { 501, "server_error", "not_implemented", "api_error" },
    { 503, "server_error", "overloaded", "overloaded_error" },
};

void http_error(http_reply *o, http_style style, int status, const char *type, const char *code,
                const char *param, const char *fmt, ...)
{
    char s[800];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(s, sizeof s, fmt, ap);
    va_end(ap);
    int row = 0, n = sizeof NAMES / sizeof *NAMES;
    while (row < n && NAMES[row].status != status) row++;
    if (row == n) row = status < 500 ? 0 : n - 3;
    json_t *m = json_string(s);
    if (!m) {               // a part of a character at the end, or text that is none
        for (char *p = s; *p; p++)
            if ((unsigned char)*p >= 128) *p = '?';
        m = json_string(s);
    }
    o->type = "application/json";
    if (style == HTTP_OLLAMA || style == HTTP_PLAIN)
        http_put_json(o, status, json_pack("{s:o}", "error", m));
    else if (style == HTTP_ANTHROPIC)
        http_put_json(o, status, json_pack("{s:s, s:{s:s, s:o}}", "type", "error", "error", "type",
                                           type ? type : NAMES[row].anthropic, "message", m));
    else
        http_put_json(o, status, json_pack("{s:{s:o, s:s, s:s?, s:s?}}", "error", "message", m, "type",
                                           type ? type : NAMES[row].openai, "param", param, "code",
                                           code ? code : type ? NULL : NAMES[row].code));
}

int http_status(int code)
{
    static const struct { int code, status; } table[] = {
        { DR_OK, 200 }, { DR_EFORMAT, 400 }, { DR_EINVAL, 400 }, { DR_EUNSUPPORTED, 400 },
        { DR_ENOTFOUND, 404 }, { DR_EBUSY, 429 }, { DR_ENOMEM, 503 }, { DR_ECANCEL, 503 }, { DR_EIO, 500 },
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].code == code) return table[i].status;
    return 500;
}

json_t *http_json(const http_req *r, dr_err *e)
{
    if (!r->body.n) return err_set(e, DR_EINVAL, "the body is empty: a JSON object is wanted"), NULL;
    json_t *v = json_read(r->body.p, r->body.n, JSON_BUDGET + 4 * r->body.n, "the body", e);
    if (!v || json_is_object(v)) return v;
    json_decref(v);
    return err_set(e, DR_EINVAL, "the body is JSON, but not an object"), NULL;
}
