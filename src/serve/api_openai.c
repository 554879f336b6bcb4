/* api_openai.c - OpenAI's routes: chat, completions, models; responses and embeddings are in
 * files of their own. Fields are in oai_fields.c, replies in oai_reply.c. */
#include <string.h>
#include <time.h>
#include "base/mem.h"
#include "serve/oai.h"
#include "serve/serve.h"

/* ---- what all share */

void oai_refuse(http_reply *o, int code, int retry_s, const char *param, const dr_err *e)
{
    bool full = param == call_too_long;
    if (code == DR_EBUSY) http_head(o, "Retry-After", "%d", retry_s > 0 ? retry_s : 1);
    http_error(o, HTTP_OPENAI, http_status(code), full ? "invalid_request_error" : NULL,
               full ? "context_length_exceeded" : NULL, param, "%s", e->msg);
}

bool oai_open(oai_model *m, const http_req *q, http_reply *o, const json_t *body)
{
    dr_err e = { 0 };
    serve *s = q->arg;
    const json_t *name = json_object_get(body, "model");
    *m = (oai_model){ .ms = s->models };
    if (name && !json_is_null(name) && !json_is_string(name)) {
        http_error(o, HTTP_OPENAI, 400, NULL, NULL, "model", "model has to be a string");
        return false;
    }
    m->s = models_get(m->ms, json_string_value(name), &m->adapter, &e);
    if (m->s) return true;
    if (e.code == DR_EBUSY) http_head(o, "Retry-After", "5");
    http_error(o, HTTP_OPENAI, http_status(e.code), e.code == DR_ENOTFOUND ? "invalid_request_error" : NULL,
               e.code == DR_ENOTFOUND ? "model_not_found" : NULL, "model", "%s", e.msg);
    return false;
}

void oai_prompts_free(ids *p, int n)
{
    for (int i = 0; p && i < n; i++) ids_free(&p[i]);
    mem_free(p);
}

static int prompt_ids(const served *s, const json_t *v, const char *name, ids *out, dr_err *e)
{
    int rc = DR_OK;
    for (size_t i = 0; i < json_array_size(v) && !rc; i++) {
        const json_t *x = json_array_get(v, i);
        json_int_t id = json_integer_value(x);
        if (!json_is_integer(x))
            return err_set(e, DR_EINVAL, "%s has to be a text, a list of texts, of ids or of lists of ids", name);
        if (id < 0 || id >= tok_count(s->tok))
            return err_set(e, DR_EINVAL, "%s: there is no token %lld; ids are below %d", name, (long long)id,
                           tok_count(s->tok));
        rc = ids_put(out, (int32_t)id, e);
    }
    return rc;
}

static int prompt_text(served *s, const json_t *v, ids *out, dr_err *e)
{
    call_opt c;
    call_opt_init(&c, s);
    c.prompt = (span){ json_string_value(v), json_string_length(v) };
    return call_prompt(s, &c, out, NULL, NULL, e);
}

int oai_prompts(const served *s, const json_t *v, const char *name, ids **out, int *n, dr_err *e)
{
    const json_t *first = json_array_get(v, 0);
    bool many = json_is_array(v) && !json_is_integer(first);
    size_t count = many ? json_array_size(v) : 1;
    int rc = DR_OK;
    if (!v) return err_set(e, DR_EINVAL, "%s is missing", name);
    if (json_is_array(v) && !first) return err_set(e, DR_EINVAL, "%s is an empty list", name);
    if (count > OAI_PROMPTS)
        return err_set(e, DR_EINVAL, "%s has %zu entries; at most %d are possible", name, count, OAI_PROMPTS);
    ids *all = mem_zalloc(count, sizeof *all);
    if (!all) return err_nomem(e, count * sizeof *all, "prompts");
    for (size_t i = 0; i < count && !rc; i++) {
        const json_t *one = many ? json_array_get(v, i) : v;
        if (json_is_string(one)) rc = prompt_text((served *)(uintptr_t)s, one, &all[i], e);
        else if (json_is_array(one)) rc = prompt_ids(s, one, name, &all[i], e);
        else
            rc = err_set(e, DR_EINVAL, "%s has to be a text, a list of texts, of ids or of lists of ids", name);
        if (!rc && !all[i].n) rc = err_set(e, DR_EINVAL, "%s[%zu] is empty", name, i);
    }
    if (rc) {
        oai_prompts_free(all, (int)count);
        return rc;
    }
    *out = all, *n = (int)count;
    return DR_OK;
}

/* ---- chat and completions */

static void post(const http_req *q, http_reply *o, int api)
{
    dr_err e = { 0 };
    oai_model m;
    oai_req r = { 0 };
    const char *param = NULL;
    ids *prompts = NULL;
    int n = 0;
    json_t *body = http_json(q, &e);
    if (!body) {
        http_error(o, HTTP_OPENAI, http_status(e.code), NULL, NULL, NULL, "%s", e.msg);
        return;
    }
    if (!oai_open(&m, q, o, body)) {
        json_decref(body);
        return;
    }
    int rc = oai_read(&r, api, body, m.s, &param, &e);
    if (!rc && api == OAI_CHAT && !json_is_array(r.c.messages)) {
        param = "messages";
        rc = err_set(&e, DR_EINVAL, r.c.messages ? "messages has to be a list" : "messages is missing");
    }
    if (!rc && api == OAI_TEXT && (rc = oai_prompts(m.s, r.prompt, "prompt", &prompts, &n, &e))) param = "prompt";
    if (!rc && api == OAI_TEXT && n * r.n > OAI_PROMPTS) {
        param = "n";
        rc = err_set(&e, DR_EINVAL, "%d prompts and n = %d are %d choices; at most %d are possible", n, r.n, n * r.n,
                     OAI_PROMPTS);
    }
    if (!rc) {
        oai_answer(q, o, &r, &m, prompts, n);
    } else {
        oai_refuse(o, rc, 0, param, &e);
        oai_prompts_free(prompts, n);
        oai_req_free(&r);
        models_put(m.ms, m.s);
    }
    json_decref(body);
}

static void post_chat(const http_req *q, http_reply *o) { post(q, o, OAI_CHAT); }
static void post_text(const http_req *q, http_reply *o) { post(q, o, OAI_TEXT); }

/* ---- models; Anthropic's client reads the same list, by its own names */

typedef struct { json_t *list; const char *want; json_t *found; } rows;

static void on_row(void *arg, const models_row *row)
{
    rows *w = arg;
    time_t at = (time_t)row->created;
    struct tm tm;
    char text[32] = "";
    if (gmtime_r(&at, &tm)) strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    json_t *o = json_pack("{s:s, s:s, s:I, s:s, s:s?, s:b, s:s, s:s, s:s, s:s}", "id", row->id, "object", "model",
                          "created", (json_int_t)row->created, "owned_by", "drover", "parent", row->parent, "loaded",
                          row->open, "type", "model", "display_name", row->id, "created_at", text, "lifecycle",
                          "active");
    if (w->want && !strcmp(w->want, row->id) && !w->found) w->found = json_incref(o);
    json_array_append_new(w->list, o);
}

/* As vLLM says it: the positions of one conversation, where the model is open. */
static void put_context(models *ms, json_t *list)
{
    size_t i;
    json_t *o;
    json_array_foreach(list, i, o) {
        bool open = json_is_true(json_object_get(o, "loaded"));
        served *m = open ? models_peek(ms, json_string_value(json_object_get(o, "id"))) : NULL;
        if (m) json_object_set_new(o, "max_model_len", json_integer(engine_ctx(m->eng)));
        models_put(ms, m);
    }
}

static void get_models(const http_req *q, http_reply *o)
{
    serve *s = q->arg;
    rows w = { .list = json_array() };
    models_each(s->models, on_row, &w);
    put_context(s->models, w.list);
    size_t n = json_array_size(w.list);
    const json_t *first = json_array_get(w.list, 0), *last = json_array_get(w.list, n ? n - 1 : 0);
    http_put_json(o, 200, json_pack("{s:s, s:o, s:b, s:O?, s:O?}", "object", "list", "data", w.list, "has_more", 0,
                                    "first_id", json_object_get(first, "id"), "last_id", json_object_get(last, "id")));
}

static void get_model(const http_req *q, http_reply *o)
{
    serve *s = q->arg;
    rows w = { .list = json_array(), .want = q->rest };
    models_each(s->models, on_row, &w);
    put_context(s->models, w.list);
    if (w.found) http_put_json(o, 200, w.found);
    else
        http_error(o, HTTP_OPENAI, 404, "invalid_request_error", "model_not_found", "model",
                   "there is no model '%.100s'", q->rest);
    json_decref(w.list);
}

/* ---- the tokenizer, as vLLM's clients ask for it (lm-evaluation-harness's tokenizer_backend=remote) */

static json_t *name_of(const tokenizer *t, int32_t id)
{
    if (id < 0) return json_null();
    span s = tok_text(t, id);
    json_t *v = json_stringn(s.p, s.n);
    return v ? v : json_null();
}

static void get_tokenizer(const http_req *q, http_reply *o)
{
    json_t *body = json_pack("{s:s*}", "model", http_query(q, "model"));
    oai_model m;
    if (oai_open(&m, q, o, body)) {
        const tokenizer *t = m.s->tok;
        span tmpl = tok_chat_template(t);
        http_put_json(o, 200, json_pack("{s:s, s:o, s:o, s:n, s:b, s:i, s:i, s:o}", "tokenizer_class",
                                        tok_kind(t), "bos_token", name_of(t, tok_bos(t)), "eos_token",
                                        name_of(t, tok_eos(t)), "pad_token", "add_bos_token", tok_wants_bos(t),
                                        "vocab_size", (int)tok_count(t), "model_max_length", engine_ctx(m.s->eng),
                                        "chat_template", tmpl.n ? json_stringn(tmpl.p, tmpl.n) : json_null()));
        models_put(m.ms, m.s);
    }
    json_decref(body);
}

const http_route openai_routes[] = {
    { "POST", "/v1/chat/completions", HTTP_OPENAI, 0, post_chat },
    { "POST", "/v1/completions", HTTP_OPENAI, 0, post_text },
    { "POST", "/v1/responses", HTTP_OPENAI, 0, oai_responses },
    { "POST", "/v1/embeddings", HTTP_OPENAI, 0, oai_embeddings },
    { "GET", "/v1/models", HTTP_OPENAI, HTTP_INLINE, get_models },
    { "GET", "/v1/models/*", HTTP_OPENAI, HTTP_INLINE, get_model },
    { "GET", "/tokenizer_info", HTTP_OPENAI, 0, get_tokenizer },
    { NULL }
};
