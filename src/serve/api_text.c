/* api_text.c - text to ids and back, and a conversation as the model's format writes it.
 *
 *     POST /tokenize        {content, add_special, parse_special, with_pieces} or {messages, …} -> {tokens, count}
 *     POST /detokenize      {tokens} -> {content}
 *     POST /apply-template  {messages, tools, …} -> {prompt}
 *
 * The names are llama-server's; vLLM's (prompt, add_special_tokens) are understood, too. */
#include <string.h>
#include "serve/answer.h"
#include "serve/field.h"
#include "serve/json_out.h"

enum { TEXT_MAX = 256 << 20 };

/* ---- what a request says */

typedef struct {
    const char *model, *content;
    const json_t *messages, *tools, *kwargs, *tokens;
    bool add_special, parse_special, with_pieces, go_on;
} asked;
#define AT(f) offsetof(asked, f)


enum { TOKENIZE = 1, DETOKENIZE = 2, TEMPLATE = 4, ALL = 7, CHAT = TOKENIZE | TEMPLATE };
static const field FIELDS[] = {
    { "model", FIELD_TEXT, AT(model), .of = ALL },
    { "content", FIELD_TEXT, AT(content), .of = TOKENIZE },
    { "prompt", FIELD_TEXT, AT(content), .of = TOKENIZE },
    { "messages", FIELD_LIST, AT(messages), .of = CHAT },
    { "tools", FIELD_ANY, AT(tools), .of = CHAT },
    { "chat_template_kwargs", FIELD_OBJECT, AT(kwargs), .of = CHAT },
    { "continue_final_message", FIELD_BOOL, AT(go_on), .of = CHAT },
    { "add_special", FIELD_BOOL, AT(add_special), .of = TOKENIZE },
    { "add_special_tokens", FIELD_BOOL, AT(add_special), .of = TOKENIZE },
    { "parse_special", FIELD_BOOL, AT(parse_special), .of = TOKENIZE },
    { "with_pieces", FIELD_BOOL, AT(with_pieces), .of = TOKENIZE },
    { "return_token_strs", FIELD_BOOL, AT(with_pieces), .of = TOKENIZE },
    { "tokens", FIELD_ANY, AT(tokens), .of = DETOKENIZE },
    { .name = NULL }
};

/* The body read and the model held. NULL: *o is the error. */
static served *begin(const http_req *r, http_reply *o, unsigned api, asked *a, json_t **doc)
{
    const char *param = NULL;
    dr_err e = {0};
    if ((*doc = http_json(r, &e)) && fields_read_of(FIELDS, api, *doc, a, "", &param, &e) == DR_OK)
        return answer_model(r, o, HTTP_OPENAI, a->model, NULL);
    http_error(o, HTTP_OPENAI, http_status(e.code), NULL, NULL, param, "%s", e.msg);
    return NULL;
}

/* Its end: the reply is `v`, or the error. */
static void end(const http_req *r, http_reply *o, served *s, json_t *doc, json_t *v, int rc, const char *param,
                const dr_err *e)
{
    serve *all = r->arg;
    if (rc == DR_OK) http_put_json(o, 200, v);
    else http_error(o, HTTP_OPENAI, http_status(rc), NULL, NULL, param, "%s", e->msg);
    if (rc != DR_OK) json_decref(v);
    models_put(all->models, s);
    json_decref(doc);
}

static int conversation(served *s, const asked *a, ids *v, buf *text, const char **param, dr_err *e)
{
    call_opt c;
    call_opt_init(&c, s);
    c.messages = a->messages, c.tools = a->tools, c.kwargs = a->kwargs, c.go_on = a->go_on;
    return call_prompt(s, &c, v, text, param, e);
}

/* Text of any bytes as a JSON string. */
static json_t *text_json(span s)
{
    json_t *v = json_stringn(s.p ? s.p : "", s.n);
    if (v) return v;
    buf b = { .cap_max = 6 * s.n + 16 };
    field_text(&b, s);
    v = b.bad ? NULL : json_loadb(b.p, b.n, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    buf_free(&b);
    return v;
}

/* What a token stands for: text, or its bytes as numbers where they are no whole characters. */
static json_t *piece_json(const tokenizer *t, int32_t id)
{
    span s = tok_text(t, id);
    json_t *v = json_stringn(s.p ? s.p : "", s.n);
    if (v) return v;
    v = json_array();
    for (size_t i = 0; i < s.n; i++) json_array_append_new(v, json_integer((unsigned char)s.p[i]));
    return v;
}

static void post_tokenize(const http_req *r, http_reply *o)
{
    asked a = { .add_special = false, .parse_special = true };
    const char *param = NULL;
    dr_err e = {0};
    ids v = {0};
    json_t *doc, *list = NULL, *out = NULL;
    served *s = begin(r, o, TOKENIZE, &a, &doc);
    if (!s) {
        json_decref(doc);
        return;
    }
    int flags = (a.add_special ? TOK_BOS : 0) | (a.parse_special ? TOK_SPECIAL : 0), rc;
    if (!a.content == !a.messages) rc = err_set(&e, DR_EINVAL, "one of content (or prompt) and messages is wanted");
    else if (a.messages) rc = conversation(s, &a, &v, NULL, &param, &e);
    else rc = tok_encode(s->tok, span_of(a.content), flags, &v, &e);
    if (rc == DR_OK) list = json_array();
    for (int64_t i = 0; rc == DR_OK && i < v.n; i++)
        json_array_append_new(list, a.with_pieces ? json_pack("{s:i, s:o}", "id", (int)v.p[i], "piece",
                                                              piece_json(s->tok, v.p[i]))
                                                  : json_integer(v.p[i]));
    if (rc == DR_OK)
        out = json_pack("{s:o, s:I, s:i}", "tokens", list, "count", (json_int_t)v.n, "max_model_len",
                        engine_ctx(s->eng));
    ids_free(&v);
    end(r, o, s, doc, out, rc, param, &e);
}

static void post_detokenize(const http_req *r, http_reply *o)
{
    asked a = {0};
    dr_err e = {0};
    ids v = {0};
    buf text = { .cap_max = TEXT_MAX };
    json_t *doc, *x;
    size_t i;
    served *s = begin(r, o, DETOKENIZE, &a, &doc);
    if (!s) {
        json_decref(doc);
        return;
    }
    int rc = json_is_array(a.tokens) ? DR_OK : err_set(&e, DR_EINVAL, "tokens has to be a list of ids");
    json_array_foreach((json_t *)(uintptr_t)a.tokens, i, x) {
        json_int_t id = json_integer_value(x);
        if (!json_is_integer(x) || id < 0 || id >= tok_count(s->tok))
            rc = err_set(&e, DR_EINVAL, "tokens[%zu] has to be a whole number from 0 to %d", i,
                         tok_count(s->tok) - 1);
        else rc = ids_put(&v, (int32_t)id, &e);
        if (rc != DR_OK) break;
    }
    if (rc == DR_OK) rc = tok_decode(s->tok, v.p, v.n, true, &text, &e);
    if (rc == DR_OK && text.bad) rc = err_nomem(&e, text.n, "the text");
    json_t *out = rc == DR_OK ? json_pack("{s:o}", "content", text_json(buf_span(&text))) : NULL;
    if (out) json_object_set(out, "prompt", json_object_get(out, "content"));
    buf_free(&text);
    ids_free(&v);
    end(r, o, s, doc, out, rc, rc ? "tokens" : NULL, &e);
}

static void post_template(const http_req *r, http_reply *o)
{
    asked a = {0};
    const char *param = NULL;
    dr_err e = {0};
    ids v = {0};
    buf text = { .cap_max = TEXT_MAX };
    json_t *doc;
    served *s = begin(r, o, TEMPLATE, &a, &doc);
    if (!s) {
        json_decref(doc);
        return;
    }
    int rc = conversation(s, &a, &v, &text, &param, &e);
    if (rc == DR_OK && text.bad) rc = err_nomem(&e, text.n, "the prompt");
    json_t *out = rc == DR_OK ? json_pack("{s:o, s:I}", "prompt", text_json(buf_span(&text)), "count",
                                          (json_int_t)v.n) : NULL;
    buf_free(&text);
    ids_free(&v);
    end(r, o, s, doc, out, rc, param, &e);
}

const http_route text_routes[] = {
    { "POST", "/tokenize", HTTP_OPENAI, 0, post_tokenize },
    { "POST", "/detokenize", HTTP_OPENAI, 0, post_detokenize },
    { "POST", "/apply-template", HTTP_OPENAI, 0, post_template },
    { .method = NULL }
};
