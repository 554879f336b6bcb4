/* api_ollama.c - Ollama's chat and generate.
 *
 *     POST /api/chat      {model, messages, tools, format, options, stream, …} -> lines of JSON, or one
 *     POST /api/generate  {model, prompt, system, raw, …}
 *
 * Both stream unless told otherwise. Calls have no ids there: they get some, by which results in the order
 * of the calls find them. spec: the types of Ollama's Python package. */
#define _GNU_SOURCE
#include "serve/ollama.h"
#include <math.h>
#include <string.h>
#include <time.h>
#include "base/mem.h"
#include "base/os.h"
#include "serve/field.h"

#define TEXT_MAX ((size_t)256 << 20)
enum { OUT_AT_ONCE = 32 << 10 };

/* ---- names and times */

const char *ollama_name(const char *name, char *out, size_t n)
{
    static const char latest[] = ":latest";
    size_t len = name ? strlen(name) : 0, k = sizeof latest - 1;
    if (len > k && !strcmp(name + len - k, latest)) len -= k;
    if (len >= n) len = n - 1;
    if (len) memcpy(out, name, len);
    out[len] = 0;
    return out;
}

void ollama_time(char out[OLLAMA_TIME], int64_t ns)
{
    time_t s = (time_t)(ns / 1000000000);
    struct tm tm;
    char day[24];
    if (!gmtime_r(&s, &tm) || !strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &tm)) *day = 0;
    snprintf(out, OLLAMA_TIME, "%s.%09dZ", day, (int)(ns % 1000000000));
}

int64_t ollama_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---- options */

typedef struct {
    sample_opt o;
    int num_predict, num_ctx;
    int64_t seed;
    const json_t *stop;
} options;
#define AT(f) offsetof(options, f)

static const field OPTIONS[] = {
    { "temperature", FIELD_FLOAT, AT(o.temperature), 0, 1000 },
    { "top_k", FIELD_INT, AT(o.top_k), 0, INT32_MAX },
    { "top_p", FIELD_FLOAT, AT(o.top_p), 0, 1 },
    { "min_p", FIELD_FLOAT, AT(o.min_p), 0, 1 },
    { "typical_p", FIELD_FLOAT, AT(o.typical_p), 0, 1 },
    { "repeat_last_n", FIELD_INT64, AT(o.penalty_last_n), -1, 1e9 },
    { "repeat_penalty", FIELD_FLOAT, AT(o.repeat_penalty), 0.01, 100 },
    { "presence_penalty", FIELD_FLOAT, AT(o.presence_penalty), -100, 100 },
    { "frequency_penalty", FIELD_FLOAT, AT(o.frequency_penalty), -100, 100 },
    { "seed", FIELD_INT64, AT(seed), -9007199254740992.0, 9007199254740992.0 },
    { "num_predict", FIELD_INT, AT(num_predict), -2, INT32_MAX },
    { "num_ctx", FIELD_INT, AT(num_ctx), 0, INT32_MAX },
    { "stop", FIELD_ANY, AT(stop) },
    { "mirostat", FIELD_REFUSED, .why = "min_p and temperature do what it is for" },
    /* without mirostat, without its penalty, without a shifted context */
    { "mirostat_tau", FIELD_UNUSED }, { "mirostat_eta", FIELD_UNUSED }, { "penalize_newline", FIELD_UNUSED },
    { "num_keep", FIELD_UNUSED }, { "tfs_z", FIELD_UNUSED },
    /* where the model is and how it is run was chosen when the server was started */
    { "numa", FIELD_UNUSED }, { "num_batch", FIELD_UNUSED }, { "num_gpu", FIELD_UNUSED },
    { "main_gpu", FIELD_UNUSED }, { "low_vram", FIELD_UNUSED }, { "f16_kv", FIELD_UNUSED },
    { "logits_all", FIELD_UNUSED }, { "vocab_only", FIELD_UNUSED }, { "use_mmap", FIELD_UNUSED },
    { "use_mlock", FIELD_UNUSED }, { "embedding_only", FIELD_UNUSED }, { "num_thread", FIELD_UNUSED },
    { .name = NULL }
};
#undef AT

static int read_stop(const json_t *v, const char **stop, engine_req *q, dr_err *e)
{
    size_t n = json_is_array(v) ? json_array_size(v) : 1;
    if (!v) return DR_OK;
    if (n > OLLAMA_STOPS) return err_set(e, DR_EINVAL, "options.stop has more than %d strings", OLLAMA_STOPS);
    for (size_t i = 0; i < n; i++) {
        stop[i] = json_string_value(json_is_array(v) ? json_array_get(v, i) : v);
        if (!stop[i] || !*stop[i])
            return err_set(e, DR_EINVAL, "options.stop has to be strings that are not empty");
    }
    q->stop = stop, q->n_stop = (int)n;
    return DR_OK;
}

int ollama_options(const json_t *v, const served *s, call_opt *c, const char **stop, const char **param,
                   dr_err *e)
{
    options p = { .o = c->req.sample, .num_predict = -1, .seed = -1 };
    int rc = v ? fields_read(OPTIONS, v, &p, "options.", param, e) : DR_OK;
    if (rc == DR_OK) *param = "options", rc = read_stop(p.stop, stop, &c->req, e);
    if (rc == DR_OK && p.num_ctx > engine_ctx(s->eng))
        rc = err_set(e, DR_EINVAL, "options.num_ctx is %d, the server keeps %d positions of each conversation",
                     p.num_ctx, engine_ctx(s->eng));
    if (rc != DR_OK) return rc;
    c->req.sample = p.o;
    c->req.sample.seed = p.seed >= 0 ? (uint64_t)p.seed : sample_new_seed();
    c->req.max_tokens = p.num_predict >= 0 ? p.num_predict : -1;
    return DR_OK;
}

/* ---- what a request says */

typedef struct {
    const char *model, *prompt, *system;
    const json_t *messages, *tools, *format, *options, *keep, *think;
    bool stream, raw, logprobs;
    int top_logprobs, priority;
} asked;
#define AT(f) offsetof(asked, f)

enum { CHAT = 1, GENERATE = 2 };
static const field FIELDS[] = {
    { "model", FIELD_TEXT, AT(model), .must = true },
    { "messages", FIELD_LIST, AT(messages), .of = CHAT },
    { "tools", FIELD_LIST, AT(tools), .of = CHAT },
    { "prompt", FIELD_TEXT, AT(prompt), .of = GENERATE },
    { "system", FIELD_TEXT, AT(system), .of = GENERATE },
    { "raw", FIELD_BOOL, AT(raw), .of = GENERATE },
    { "format", FIELD_ANY, AT(format) },
    { "options", FIELD_OBJECT, AT(options) },
    { "stream", FIELD_BOOL, AT(stream) },
    { "think", FIELD_ANY, AT(think) },
    { "keep_alive", FIELD_ANY, AT(keep) },
    { "logprobs", FIELD_BOOL, AT(logprobs) },
    { "top_logprobs", FIELD_INT, AT(top_logprobs), 0, ENGINE_TOP_MAX },
    { "priority", FIELD_INT, AT(priority), -1000, 1000 },
    /* nothing is ever cut or shifted */
    { "truncate", FIELD_UNUSED }, { "shift", FIELD_UNUSED },
    { "suffix", FIELD_REFUSED, .of = GENERATE, .why = "the model writes forward only" },
    { "template", FIELD_REFUSED, .of = GENERATE, .why = "the model's own is used; raw takes a prompt as it is" },
    { "context", FIELD_REFUSED, .of = GENERATE, .why = "/api/chat takes a conversation" },
    { "images", FIELD_REFUSED, .of = GENERATE, .why = "this model reads text alone" },
    { "width", FIELD_REFUSED, .of = GENERATE }, { "height", FIELD_REFUSED, .of = GENERATE },
    { "steps", FIELD_REFUSED, .of = GENERATE },
    { .name = NULL }
};

/* ---- messages */

enum { CALL_ID = 40 };
static void call_id(char out[CALL_ID], size_t turn, size_t i) { snprintf(out, CALL_ID, "call_%zu_%zu", turn, i); }

/* {"function": {"name", "arguments"}} with an id; NULL: *e. */
static json_t *read_call(const json_t *c, size_t at, size_t i, dr_err *e)
{
    const json_t *f = json_object_get(c, "function"), *name = json_object_get(f, "name");
    const json_t *args = json_object_get(f, "arguments"), *own = json_object_get(c, "id");
    char id[CALL_ID];
    call_id(id, at, i);
    if (!json_is_string(name) || !(json_is_object(args) || json_is_string(args))) {
        err_set(e, DR_EINVAL, "messages[%zu].tool_calls[%zu].function wants a name and arguments, an object", at,
                i);
        return NULL;
    }
    json_t *v = json_pack("{s:s, s:s, s:{s:O, s:O}}", "id", json_is_string(own) ? json_string_value(own) : id,
                          "type", "function", "function", "name", name, "arguments", args);
    if (!v) err_nomem(e, 1, "a call");
    return v;
}

typedef struct {
    const char *role, *content, *thinking, *tool_name, *tool_call_id;
    const json_t *calls;
} message;
#define IN(f) offsetof(message, f)
static const field MESSAGE[] = {
    { "role", FIELD_TEXT, IN(role), .must = true },
    { "content", FIELD_TEXT, IN(content) },
    { "thinking", FIELD_TEXT, IN(thinking) },
    { "tool_calls", FIELD_LIST, IN(calls) },
    { "tool_name", FIELD_TEXT, IN(tool_name) }, { "name", FIELD_TEXT, IN(tool_name) },
    { "tool_call_id", FIELD_TEXT, IN(tool_call_id) },
    { "images", FIELD_REFUSED, .why = "this model reads text alone" },
    { .name = NULL }
};

/* Which of a turn's calls a result answers: the next without one, of that name where it says so. */
typedef struct { const json_t *calls; size_t next; } open_calls;

static const char *answered(open_calls *o, const char *name)
{
    for (size_t i = o->next; i < json_array_size(o->calls); i++) {
        const json_t *c = json_array_get(o->calls, i);
        const char *its = json_string_value(json_object_get(json_object_get(c, "function"), "name"));
        if (name && its && strcmp(name, its)) continue;
        if (i == o->next) o->next++;
        return json_string_value(json_object_get(c, "id"));
    }
    return NULL;
}

static json_t *read_message(const json_t *m, size_t at, open_calls *open, dr_err *e)
{
    message v = {0};
    const char *param;
    char inside[40];
    snprintf(inside, sizeof inside, "messages[%zu].", at);
    if (!json_is_object(m)) return err_set(e, DR_EINVAL, "messages[%zu] has to be an object", at), NULL;
    if (fields_read(MESSAGE, m, &v, inside, &param, e) != DR_OK) return NULL;
    bool tool = !strcmp(v.role, "tool");
    json_t *o = json_pack("{s:s, s:s}", "role", v.role, "content", v.content ? v.content : "");
    json_t *calls = json_array_size(v.calls) ? json_array() : NULL;
    for (size_t i = 0; calls && i < json_array_size(v.calls) && !e->code; i++)
        if (json_array_append_new(calls, read_call(json_array_get(v.calls, i), at, i, e)) && !e->code)
            err_nomem(e, 1, "a message");
    const char *id = v.tool_call_id ? v.tool_call_id : tool ? answered(open, v.tool_name) : NULL;
    if (o && calls && json_object_set_new(o, "tool_calls", calls)) err_nomem(e, 1, "a message");
    if (o && calls) *open = (open_calls){ calls, 0 };
    if (o && id && json_object_set_new(o, "tool_call_id", json_string(id))) err_nomem(e, 1, "a message");
    if (o && v.thinking && json_object_set_new(o, "reasoning_content", json_string(v.thinking)))
        err_nomem(e, 1, "a message");
    if (o && tool && v.tool_name && json_object_set_new(o, "name", json_string(v.tool_name)))
        err_nomem(e, 1, "a message");
    if (!o && !e->code) err_nomem(e, 1, "a message");
    if (!e->code) return o;
    json_decref(o);
    return NULL;
}

static json_t *read_messages(const json_t *list, dr_err *e)
{
    json_t *out = json_array();
    open_calls open = {0};
    for (size_t i = 0; out && i < json_array_size(list) && !e->code; i++)
        if (json_array_append_new(out, read_message(json_array_get(list, i), i, &open, e)) && !e->code)
            err_nomem(e, 1, "the conversation");
    if (!out) err_nomem(e, 1, "the conversation");
    if (!e->code) return out;
    json_decref(out);
    return NULL;
}

/* /api/generate: a prompt, and what stands before it. */
static json_t *one_message(const asked *a, dr_err *e)
{
    json_t *m = a->system && *a->system
        ? json_pack("[{s:s, s:s}, {s:s, s:s}]", "role", "system", "content", a->system, "role", "user", "content",
                    a->prompt)
        : json_pack("[{s:s, s:s}]", "role", "user", "content", a->prompt);
    if (!m) err_nomem(e, 1, "the conversation");
    return m;
}

/* ---- a whole request */

typedef struct {
    json_t *doc, *messages, *kwargs;
    buf schema;
    const char *stop[OLLAMA_STOPS];
    asked a;
    call_opt c;
} request;

static void request_free(request *q)
{
    json_decref(q->doc);
    json_decref(q->messages);
    json_decref(q->kwargs);
    buf_free(&q->schema);
}

/* "json", or a schema. */
static int read_format(const json_t *v, request *q, dr_err *e)
{
    if (!v || (json_is_string(v) && !json_string_length(v))) return DR_OK;
    if (json_is_string(v) && !strcmp(json_string_value(v), "json")) {
        q->c.format = CALL_JSON_OBJECT;
        return DR_OK;
    }
    if (!json_is_object(v)) return err_set(e, DR_EINVAL, "format has to be \"json\" or a JSON schema");
    q->schema.cap_max = TEXT_MAX;
    js_value(&q->schema, v);
    if (q->schema.bad) return err_nomem(e, q->schema.n, "the schema");
    q->c.format = CALL_JSON_SCHEMA, q->c.schema = buf_span(&q->schema);
    return DR_OK;
}

/* A template that has a switch for thinking gets it; without one nobody can be asked to think. */
static int read_think(const json_t *v, const served *s, request *q, dr_err *e)
{
    span t = tok_chat_template(s->tok);
    bool has = s->chat.kind == CHAT_JINJA && t.n && memmem(t.p, t.n, "enable_thinking", 15);
    if (!v || (json_is_string(v) && !json_string_length(v))) return DR_OK;
    if (!json_is_boolean(v) && !json_is_string(v))
        return err_set(e, DR_EINVAL, "think has to be true, false or a word");
    bool on = !json_is_false(v);
    if (!has) return on ? err_set(e, DR_EUNSUPPORTED, "\"%.100s\" does not support thinking", s->id) : DR_OK;
    if (!(q->kwargs = json_pack("{s:b}", "enable_thinking", (int)on))) return err_nomem(e, 1, "a variable");
    q->c.kwargs = q->kwargs;
    return DR_OK;
}

static int request_read(request *q, served *s, int adapter, unsigned api, const char **param, dr_err *e)
{
    asked *a = &q->a;
    call_opt *c = &q->c;
    call_opt_init(c, s);
    c->req.adapter = adapter, c->req.priority = a->priority;
    if (a->raw) c->prompt = span_of(a->prompt);
    else if (!(q->messages = api == CHAT ? read_messages(a->messages, e) : one_message(a, e))) {
        *param = "messages";
        return e->code;
    }
    c->messages = q->messages;
    c->tools = json_array_size(a->tools) ? a->tools : NULL;
    int rc = ollama_options(a->options, s, c, q->stop, param, e);
    if (rc == DR_OK) *param = "format", rc = read_format(a->format, q, e);
    if (rc == DR_OK) *param = "think", rc = read_think(a->think, s, q, e);
    if (rc == DR_OK && a->raw && a->system && *a->system)
        *param = "system", rc = err_set(e, DR_EINVAL, "a raw prompt has no place for a system text");
    c->req.sample.logprobs = a->logprobs || a->top_logprobs > 0;
    c->req.sample.n_probs = a->top_logprobs;
    return rc;
}

/* ---- the reply */

typedef struct {
    answer a;
    bool stream, chat, sent, over;      /* sent: bytes were written */
    char *model;
    int64_t begun_ns, load_ns;          /* when it came; how long the model was opened */
    buf text, args, calls, probs;       /* not streamed: all text; the open call's arguments; calls; … */
    char *name;                         /* of the open call */
    const char *reason;                 /* done_reason; NULL: not finished */
} reply;

/* The line's beginning up to its text. */
static void line_head(const reply *p, buf *out)
{
    char at[OLLAMA_TIME];
    ollama_time(at, ollama_now());
    buf_puts(out, "{\"model\":");
    js_put(out, p->model);
    buf_printf(out, ",\"created_at\":\"%s\",", at);
}

static void line_text(const reply *p, buf *out, span text, const buf *calls)
{
    buf_puts(out, p->chat ? "\"message\":{\"role\":\"assistant\",\"content\":" : "\"response\":");
    field_text(out, text);
    if (p->chat && calls && calls->n) {
        buf_puts(out, ",\"tool_calls\":[");
        buf_put(out, calls->p, calls->n);
        buf_putc(out, ']');
    }
    if (p->chat) buf_putc(out, '}');
}

static void put_probs(reply *p, buf *out)
{
    if (!p->probs.n) return;
    buf_puts(out, ",\"logprobs\":[");
    buf_put(out, p->probs.p, p->probs.n);
    buf_putc(out, ']');
    buf_reset(&p->probs);
}

static void line(reply *p, buf *out, span text, const buf *calls)
{
    line_head(p, out);
    line_text(p, out, text, calls);
    put_probs(p, out);
    buf_puts(out, ",\"done\":false}\n");
}

static void one_prob(const reply *p, buf *out, int32_t id, float logprob)
{
    span s = id >= 0 && id < tok_count(p->a.s->tok) ? tok_text(p->a.s->tok, id) : (span){ "", 0 };
    buf_puts(out, "{\"token\":");
    field_text(out, s);
    buf_puts(out, ",\"logprob\":");
    js_float(out, logprob);
    buf_puts(out, ",\"bytes\":");
    js_bytes(out, s);
}

static void token(reply *p, const engine_event *ev)
{
    buf *b = &p->probs;
    if (b->n) buf_putc(b, ',');
    one_prob(p, b, ev->id, ev->logprob);
    if (ev->n_top) buf_puts(b, ",\"top_logprobs\":[");
    for (int i = 0; i < ev->n_top; i++) {
        if (i) buf_putc(b, ',');
        one_prob(p, b, ev->top[i].id, ev->top[i].logprob);
        buf_putc(b, '}');
    }
    if (ev->n_top) buf_putc(b, ']');
    buf_putc(b, '}');
}

/* A call is handed over when it is whole. */
static void call_done(reply *p, buf *out)
{
    if (p->calls.n) buf_putc(&p->calls, ',');
    buf_puts(&p->calls, "{\"function\":{\"name\":");
    js_put(&p->calls, p->name ? p->name : "");
    buf_puts(&p->calls, ",\"arguments\":");
    js_arguments(&p->calls, buf_span(&p->args));
    buf_puts(&p->calls, "}}");
    buf_reset(&p->args);
    mem_free(p->name);
    p->name = NULL;
    if (!p->stream) return;
    line(p, out, (span){ "", 0 }, &p->calls);
    buf_reset(&p->calls);
}

static void fail(reply *p, http_reply *o, buf *out, int code, const char *why)
{
    if (!p->sent && !out->n) {
        answer_error(o, out, HTTP_OLLAMA, code, why);
        return;
    }
    buf_puts(out, "{\"error\":");
    js_put(out, why);
    buf_puts(out, "}\n");
}

static void put_figures(const reply *p, buf *out, const engine_usage *u)
{
    buf_printf(out, ",\"done\":true,\"done_reason\":\"%s\",\"total_duration\":%lld,\"load_duration\":%lld,"
               "\"prompt_eval_count\":%d,\"prompt_eval_duration\":%lld,\"eval_count\":%d,\"eval_duration\":%lld}\n",
               p->reason, (long long)(os_now_ns() - p->begun_ns), (long long)p->load_ns, u->n_prompt,
               (long long)u->prompt_ns, u->n_gen, (long long)u->gen_ns);
}

static void done(reply *p, http_reply *o, buf *out, const call_event *ev)
{
    p->over = true;
    if (ev->ev && ev->ev->code) {
        fail(p, o, out, ev->ev->code, answer_why(ev));
    } else if (!p->reason) {
        fail(p, o, out, DR_ECANCEL, "the server ended before the reply was complete");
    } else if (p->text.bad || p->calls.bad || p->probs.bad || p->args.bad) {
        fail(p, o, out, DR_ENOMEM, "there is no memory for the reply");
    } else {
        line_head(p, out);
        line_text(p, out, buf_span(&p->text), &p->calls);
        put_probs(p, out);
        put_figures(p, out, &ev->ev->usage);
    }
}

static const char *reason_of(call_finish f)
{
    return f == CALL_CANCELLED ? NULL : f == CALL_LENGTH ? "length" : "stop";
}

static http_state fill(void *src, http_reply *o, buf *out)
{
    reply *p = src;
    call_event ev;
    size_t from = out->n;
    if (p->over) return HTTP_END;
    if (p->stream) o->type = "application/x-ndjson";
    while (out->n - from < OUT_AT_ONCE && call_next(p->a.c, &ev)) {
        switch (ev.kind) {
        case CALL_TOKEN:
            if (p->a.c && ev.ev && p->probs.cap_max) token(p, ev.ev);
            break;
        case CALL_TEXT:
            if (p->stream) line(p, out, ev.text, NULL);
            else buf_put(&p->text, ev.text.p, ev.text.n);
            break;
        case CALL_TOOL: p->name = mem_strndup(ev.text.p, ev.text.n); break;
        case CALL_ARGS: buf_put(&p->args, ev.text.p, ev.text.n); break;
        case CALL_TOOL_END: call_done(p, out); break;
        case CALL_FINISH: p->reason = reason_of(ev.finish); break;
        case CALL_DONE:
            done(p, o, out, &ev);
            return HTTP_END;
        default: break;
        }
    }
    if (out->n > from) p->sent = true;
    return out->n > from ? HTTP_MORE : HTTP_WAIT;
}

static void reply_free(reply *p)
{
    buf_free(&p->text);
    buf_free(&p->args);
    buf_free(&p->calls);
    buf_free(&p->probs);
    mem_free(p->name);
    mem_free(p->model);
    mem_free(p);
}

static void reply_close(void *src)
{
    reply *p = src;
    answer_end(&p->a);
    reply_free(p);
}

static const http_source SOURCE = { fill, NULL, reply_close };

static reply *reply_new(const request *q, bool chat)
{
    reply *p = mem_zalloc(1, sizeof *p);
    if (!p || !(p->model = mem_strdup(q->a.model))) {
        mem_free(p);
        return NULL;
    }
    p->stream = q->a.stream, p->chat = chat;
    buf_init(&p->text, TEXT_MAX);
    buf_init(&p->args, TEXT_MAX);
    buf_init(&p->calls, TEXT_MAX);
    if (q->c.req.sample.logprobs) buf_init(&p->probs, TEXT_MAX);
    return p;
}

/* ---- handlers */

static bool is_zero(const json_t *v)
{
    const char *s = json_string_value(v);
    return (json_is_number(v) && json_number_value(v) == 0) ||
           (s && (!strcmp(s, "0") || !strcmp(s, "0s") || !strcmp(s, "0m") || !strcmp(s, "0h")));
}

/* No prompt: the model is opened, or with keep_alive 0 closed. */
static void load_only(const http_req *r, http_reply *o, const asked *a, const char *name, bool chat)
{
    serve *all = r->arg;
    dr_err e = {0};
    bool away = is_zero(a->keep);
    int rc = away ? models_unload(all->models, name, &e) : models_load(all->models, name, &e);
    if (rc != DR_OK) {
        http_error(o, HTTP_OLLAMA, http_status(rc), NULL, NULL, NULL, "%s", e.msg);
        return;
    }
    reply p = { .model = (char *)(uintptr_t)a->model, .chat = chat, .reason = away ? "unload" : "load" };
    line_head(&p, &o->body);
    line_text(&p, &o->body, (span){ "", 0 }, NULL);
    buf_printf(&o->body, ",\"done\":true,\"done_reason\":\"%s\"}\n", p.reason);
}

static void post(const http_req *r, http_reply *o, unsigned api)
{
    char name[OLLAMA_NAME];
    const char *param = NULL;
    dr_err e = {0};
    request q = { .a = { .stream = true, .prompt = "" } };
    served *s = NULL;
    reply *p = NULL;
    int adapter = 0;
    int64_t begun = os_now_ns();
    q.doc = http_json(r, &e);
    int rc = q.doc ? fields_read_of(FIELDS, api, q.doc, &q.a, "", &param, &e) : e.code;
    if (rc == DR_OK) ollama_name(q.a.model, name, sizeof name);
    if (rc == DR_OK && (api == CHAT ? !json_array_size(q.a.messages) : !*q.a.prompt)) {
        load_only(r, o, &q.a, name, api == CHAT);
        request_free(&q);
        return;
    }
    if (rc == DR_OK && (s = answer_model(r, o, HTTP_OLLAMA, name, &adapter))) {
        int64_t load = os_now_ns() - begun;
        rc = request_read(&q, s, adapter, api, &param, &e);
        if (rc == DR_OK && !(p = reply_new(&q, api == CHAT))) rc = err_nomem(&e, sizeof *p, "the reply");
        if (rc != DR_OK) answer_let_go(r, s);
        else if (!answer_begin(&p->a, r, o, HTTP_OLLAMA, s, &q.c)) reply_free(p);
        else p->begun_ns = begun, p->load_ns = load, o->source = &SOURCE, o->src = p;
    }
    if (rc != DR_OK) http_error(o, HTTP_OLLAMA, http_status(rc), NULL, NULL, param, "%s", e.msg);
    request_free(&q);
}

static void post_chat(const http_req *r, http_reply *o) { post(r, o, CHAT); }
static void post_generate(const http_req *r, http_reply *o) { post(r, o, GENERATE); }

const http_route ollama_routes[] = {
    { "POST", "/api/chat", HTTP_OLLAMA, 0, post_chat },
    { "POST", "/api/generate", HTTP_OLLAMA, 0, post_generate },
    { .method = NULL }
};
