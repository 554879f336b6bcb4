/* api_anthropic.c - Anthropic's messages.
 *
 *     POST /v1/messages               -> a message, or its events
 *     POST /v1/messages/count_tokens  -> {input_tokens}
 *
 * A request's messages of content blocks become OpenAI's form, which call.h takes; events become blocks. A
 * turn with results of tools becomes a message of role tool for each, then what text it has.
 * spec: the types of Anthropic's Python package. docs/serve.md says what is honoured and what is refused. */
#include <string.h>
#include "base/mem.h"
#include "serve/answer.h"
#include "serve/field.h"
#include "serve/json_out.h"

#define TEXT_MAX ((size_t)256 << 20)
enum { OUT_AT_ONCE = 32 << 10, STOPS = 64 };

/* ---- what a request says */

typedef struct {
    const char *model;
    const json_t *messages, *system, *stop, *tools, *tool_choice, *thinking, *output, *kwargs;
    int max_tokens, top_k, priority;
    int64_t seed;
    float temperature, top_p, min_p;
    bool stream;
} asked;
#define AT(f) offsetof(asked, f)

enum { CREATE = 1, COUNT = 2, BOTH = 3 };
static const field FIELDS[] = {
    { "model", FIELD_TEXT, AT(model), .of = BOTH },
    { "messages", FIELD_ANY, AT(messages), .of = BOTH },
    { "system", FIELD_ANY, AT(system), .of = BOTH },
    { "tools", FIELD_ANY, AT(tools), .of = BOTH },
    { "tool_choice", FIELD_OBJECT, AT(tool_choice), .of = BOTH },
    { "thinking", FIELD_OBJECT, AT(thinking), .of = BOTH },
    { "output_config", FIELD_OBJECT, AT(output), .of = BOTH },
    { "max_tokens", FIELD_INT, AT(max_tokens), 0, INT32_MAX, .of = CREATE },
    { "stop_sequences", FIELD_ANY, AT(stop), .of = CREATE },
    { "stream", FIELD_BOOL, AT(stream), .of = CREATE },
    { "temperature", FIELD_FLOAT, AT(temperature), 0, 1000, .of = CREATE },
    { "top_p", FIELD_FLOAT, AT(top_p), 0, 1, .of = CREATE },
    { "top_k", FIELD_INT, AT(top_k), 0, INT32_MAX, .of = CREATE },
    /* of ours */
    { "min_p", FIELD_FLOAT, AT(min_p), 0, 1, .of = CREATE },
    { "seed", FIELD_INT64, AT(seed), 0, 9007199254740992.0, .of = CREATE },
    { "priority", FIELD_INT, AT(priority), -1000, 1000, .of = CREATE },
    { "chat_template_kwargs", FIELD_OBJECT, AT(kwargs), .of = BOTH },
    /* they say nothing here: prefixes are kept without being asked, and who asks is known by the key */
    { "cache_control", FIELD_UNUSED, .of = BOTH }, { "metadata", FIELD_UNUSED, .of = CREATE },
    { "service_tier", FIELD_UNUSED, .of = CREATE }, { "inference_geo", FIELD_UNUSED, .of = CREATE },
    { "speed", FIELD_UNUSED, .of = BOTH }, { "diagnostics", FIELD_UNUSED, .of = CREATE },
    { "user_profile_id", FIELD_UNUSED, .of = BOTH }, { "workspace_id", FIELD_UNUSED, .of = BOTH },
    { "container", FIELD_REFUSED, .why = "no code is run here", .of = CREATE },
    { "mcp_servers", FIELD_REFUSED, .of = BOTH },
    { "context_management", FIELD_REFUSED, .of = BOTH },
    { .name = NULL }
};

/* A block's or a tool's members that change nothing. */
static bool is_note(const char *key, const char *const *known)
{
    for (; *known; known++)
        if (!strcmp(key, *known)) return true;
    return false;
}

/* DR_EINVAL for the first member of v that is not in the list. */
static int only(const json_t *v, const char *const *known, const char *where, dr_err *e)
{
    const char *key;
    json_t *x;
    json_object_foreach((json_t *)(uintptr_t)v, key, x)
        if (!json_is_null(x) && !is_note(key, known))
            return err_set(e, DR_EINVAL, "%s.%.60s is not a field that is known", where, key);
    return DR_OK;
}

/* ---- messages */

/* A turn that is being put together; what it has so far is one message of the list. */
typedef struct {
    json_t *list;               /* OpenAI's messages */
    buf text;
    json_t *calls;              /* NULL: none */
    bool any, bad;              /* any: there was a block; bad: no memory */
} turn;

static void add(turn *t, json_t *m)
{
    if (!m || json_array_append_new(t->list, m)) t->bad = true;
}

static bool role_is(const json_t *m, const char *role)
{
    const char *r = json_string_value(json_object_get(m, "role"));
    return r && !strcmp(r, role);
}

/* Text and calls become a message, or more of the last one where that is of the same role. */
static void flush(turn *t, const char *role)
{
    size_t n = json_array_size(t->list);
    json_t *last = n ? json_array_get(t->list, n - 1) : NULL;
    if (t->text.bad) t->bad = true;
    if (!t->any || t->bad) return;
    if (last && role_is(last, role)) {
        const char *had = json_string_value(json_object_get(last, "content"));
        json_t *calls = json_object_get(last, "tool_calls");
        buf all = { .cap_max = TEXT_MAX };
        buf_puts(&all, had);
        if (all.n && t->text.n) buf_putc(&all, '\n');
        buf_put(&all, t->text.p, t->text.n);
        if (all.bad || json_object_set_new(last, "content", json_stringn(buf_str(&all), all.n))) t->bad = true;
        if (t->calls && calls && json_array_extend(calls, t->calls)) t->bad = true;
        if (t->calls && !calls && json_object_set(last, "tool_calls", t->calls)) t->bad = true;
        buf_free(&all);
    } else {
        json_t *m = json_pack("{s:s, s:s#}", "role", role, "content", buf_str(&t->text), (int)t->text.n);
        if (m && t->calls && json_object_set(m, "tool_calls", t->calls)) t->bad = true;
        add(t, m);
    }
    json_decref(t->calls);
    t->calls = NULL, t->any = false;
    buf_reset(&t->text);
}

static const char *type_of(const json_t *block)
{
    const char *type = json_string_value(json_object_get(block, "type"));
    return type ? type : "";
}

/* Blocks of text alone, or a string, one after another. */
static int plain(const json_t *v, const char *where, buf *out, dr_err *e)
{
    if (json_is_string(v)) {
        buf_put(out, json_string_value(v), json_string_length(v));
        return DR_OK;
    }
    if (!json_is_array(v)) return err_set(e, DR_EINVAL, "%s has to be a string or a list of blocks", where);
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *b = json_array_get(v, i), *text = json_object_get(b, "text");
        if (strcmp(type_of(b), "text"))
            return err_set(e, DR_EINVAL, "%s[%zu] is a block of type '%.40s'; this model reads text alone", where,
                           i, type_of(b));
        if (!json_is_string(text)) return err_set(e, DR_EINVAL, "%s[%zu].text has to be a string", where, i);
        if (i) buf_putc(out, '\n');
        buf_put(out, json_string_value(text), json_string_length(text));
    }
    return DR_OK;
}

static int text_block(turn *t, const json_t *b, const char *role, const char *where, dr_err *e)
{
    const json_t *text = json_object_get(b, "text");
    if (!json_is_string(text)) return err_set(e, DR_EINVAL, "%s.text has to be a string", where);
    /* the model's own blocks are pieces of one text */
    if (t->text.n && !strcmp(role, "user")) buf_putc(&t->text, '\n');
    buf_put(&t->text, json_string_value(text), json_string_length(text));
    t->any = true;
    return DR_OK;
}

/* {"type": "document", "source": {"type": "text", "data"}, "title", "context"} */
static int document_block(turn *t, const json_t *b, const char *role, const char *where, dr_err *e)
{
    const json_t *source = json_object_get(b, "source"), *data = json_object_get(source, "data");
    const char *about[] = { json_string_value(json_object_get(b, "title")),
                            json_string_value(json_object_get(b, "context")) };
    (void)role;
    if (strcmp(type_of(source), "text") || !json_is_string(data))
        return err_set(e, DR_EINVAL, "%s.source is of type '%.40s'; this model reads text alone", where,
                       type_of(source));
    for (int i = 0; i < 2; i++)
        if (about[i]) buf_printf(&t->text, "%s%s", t->text.n ? "\n" : "", about[i]);
    if (t->text.n) buf_putc(&t->text, '\n');
    buf_put(&t->text, json_string_value(data), json_string_length(data));
    t->any = true;
    return DR_OK;
}

static int result_block(turn *t, const json_t *b, const char *role, const char *where, dr_err *e)
{
    const json_t *id = json_object_get(b, "tool_use_id"), *content = json_object_get(b, "content");
    char inside[96];
    if (!json_is_string(id)) return err_set(e, DR_EINVAL, "%s.tool_use_id has to be a string", where);
    flush(t, role);
    snprintf(inside, sizeof inside, "%.80s.content", where);
    if (json_is_true(json_object_get(b, "is_error"))) buf_puts(&t->text, "Error: ");
    int rc = content && !json_is_null(content) ? plain(content, inside, &t->text, e) : DR_OK;
    if (rc == DR_OK && !t->text.bad)
        add(t, json_pack("{s:s, s:O, s:s#}", "role", "tool", "tool_call_id", id, "content", buf_str(&t->text),
                         (int)t->text.n));
    if (t->text.bad) t->bad = true;
    buf_reset(&t->text);
    return rc;
}

static int use_block(turn *t, const json_t *b, const char *role, const char *where, dr_err *e)
{
    const json_t *id = json_object_get(b, "id"), *name = json_object_get(b, "name");
    const json_t *input = json_object_get(b, "input");
    (void)role;
    if (!json_is_string(id) || !json_is_string(name) || !json_is_object(input))
        return err_set(e, DR_EINVAL, "%s wants id and name, which are strings, and input, an object", where);
    json_t *c = json_pack("{s:O, s:s, s:{s:O, s:O}}", "id", id, "type", "function", "function", "name", name,
                          "arguments", input);
    if (!t->calls) t->calls = json_array();
    if (!c || json_array_append_new(t->calls, c)) t->bad = true;
    t->any = true;
    return DR_OK;
}

static int left_out(turn *t, const json_t *b, const char *role, const char *where, dr_err *e)
{
    (void)b, (void)role, (void)where, (void)e;
    t->any = true;
    return DR_OK;
}

static const char *const block_members[] = { "type", "text", "cache_control", "citations", "source", "title",
    "context", "tool_use_id", "content", "is_error", "toolset_name", "id", "name", "input", "caller",
    "thinking", "signature", "data", NULL };

/* Which block may stand where. What the model thought is not shown to it again. */
static const struct {
    const char *type, *role;    /* NULL: any */
    int (*read)(turn *t, const json_t *b, const char *role, const char *where, dr_err *e);
} BLOCKS[] = {
    { "text", NULL, text_block }, { "document", "user", document_block },
    { "tool_result", "user", result_block }, { "tool_use", "assistant", use_block },
    { "thinking", "assistant", left_out }, { "redacted_thinking", "assistant", left_out },
};
enum { N_BLOCKS = sizeof BLOCKS / sizeof *BLOCKS };

static int read_block(turn *t, const json_t *b, const char *role, const char *where, dr_err *e)
{
    const char *type = type_of(b);
    int rc = json_is_object(b) ? only(b, block_members, where, e) : DR_OK;
    if (rc != DR_OK) return rc;
    for (int i = 0; i < N_BLOCKS; i++)
        if (!strcmp(BLOCKS[i].type, type) && (!BLOCKS[i].role || !strcmp(BLOCKS[i].role, role)))
            return BLOCKS[i].read(t, b, role, where, e);
    return err_set(e, DR_EINVAL, "%s is a block of type '%.40s', which %.20s's messages cannot have here", where,
                   type, role);
}

static int read_message(turn *t, const json_t *m, size_t at, dr_err *e)
{
    static const char *const known[] = { "role", "content", NULL };
    const char *role = json_string_value(json_object_get(m, "role"));
    const json_t *content = json_object_get(m, "content");
    char where[64];
    snprintf(where, sizeof where, "messages[%zu]", at);
    if (!role || (strcmp(role, "user") && strcmp(role, "assistant") && strcmp(role, "system")))
        return err_set(e, DR_EINVAL, "%s.role has to be user, assistant or system", where);
    int rc = only(m, known, where, e);
    if (rc != DR_OK) return rc;
    if (json_is_string(content)) {
        buf_put(&t->text, json_string_value(content), json_string_length(content));
        t->any = true;
    } else if (!json_is_array(content)) {
        return err_set(e, DR_EINVAL, "%s.content has to be a string or a list of blocks", where);
    }
    for (size_t i = 0; json_is_array(content) && i < json_array_size(content); i++) {
        snprintf(where, sizeof where, "messages[%zu].content[%zu]", at, i);
        if ((rc = read_block(t, json_array_get(content, i), role, where, e))) return rc;
    }
    flush(t, role);
    return DR_OK;
}

/* All of them; NULL: *e. *go_on: the last is the assistant's, to be continued. */
static json_t *read_messages(const asked *a, bool *go_on, const char **param, dr_err *e)
{
    turn t = { .list = json_array(), .text.cap_max = TEXT_MAX };
    size_t n = json_array_size(a->messages);
    int rc = DR_OK;
    *param = "messages";
    if (!json_is_array(a->messages) || !n) rc = err_set(e, DR_EINVAL, "messages has to be a list of at least one");
    if (rc == DR_OK && a->system) {
        *param = "system";
        rc = plain(a->system, "system", &t.text, e);
        t.any = t.text.n > 0;
        if (rc == DR_OK) flush(&t, "system");
        if (rc == DR_OK) *param = "messages";
    }
    for (size_t i = 0; rc == DR_OK && i < n; i++) rc = read_message(&t, json_array_get(a->messages, i), i, e);
    const json_t *last = rc == DR_OK ? json_array_get(t.list, json_array_size(t.list) - 1) : NULL;
    *go_on = last && role_is(last, "assistant");
    if (*go_on && json_object_get(last, "tool_calls"))
        rc = err_set(e, DR_EINVAL, "the last message calls tools: their results are wanted");
    if (rc == DR_OK && (t.bad || !t.list)) rc = err_nomem(e, 1, "the conversation");
    json_decref(t.calls);
    buf_free(&t.text);
    if (rc == DR_OK) return t.list;
    json_decref(t.list);
    return NULL;
}

/* ---- tools and forms */

static json_t *read_tools(const json_t *tools, dr_err *e)
{
    static const char *const known[] = { "name", "description", "input_schema", "type", "cache_control",
        "allowed_callers", "defer_loading", "eager_input_streaming", "input_examples", "strict", NULL };
    json_t *list = json_array();
    if (!list) err_nomem(e, 1, "the tools");
    else if (!json_is_array(tools)) err_set(e, DR_EINVAL, "tools has to be a list");
    for (size_t i = 0; !e->code && i < json_array_size(tools); i++) {
        const json_t *x = json_array_get(tools, i), *schema = json_object_get(x, "input_schema");
        json_t *name = json_object_get(x, "name"), *about = json_object_get(x, "description");
        char where[32];
        snprintf(where, sizeof where, "tools[%zu]", i);
        if (*type_of(x) && strcmp(type_of(x), "custom"))
            err_set(e, DR_EUNSUPPORTED, "%s is of type '%.60s': only tools that the caller runs are supported",
                    where, type_of(x));
        else if (!json_is_string(name) || !json_is_object(schema))
            err_set(e, DR_EINVAL, "%s wants a name and an input_schema, an object", where);
        else if (only(x, known, where, e) == DR_OK) {
            json_t *t = json_pack("{s:s, s:{s:O, s:O*, s:O}}", "type", "function", "function", "name", name,
                                  "description", json_is_string(about) ? about : NULL, "parameters", schema);
            if (t && json_is_true(json_object_get(x, "strict")))
                json_object_set_new(json_object_get(t, "function"), "strict", json_true());
            if (!t || json_array_append_new(list, t)) err_nomem(e, 1, "the tools");
        }
    }
    if (!e->code) return list;
    json_decref(list);
    return NULL;
}

static int read_choice(const json_t *c, call_opt *o, dr_err *e)
{
    static const struct { const char *type; call_tools to; } kinds[] = {
        { "auto", CALL_TOOLS_AUTO }, { "any", CALL_TOOLS_REQUIRED }, { "tool", CALL_TOOLS_NAMED },
        { "none", CALL_TOOLS_NONE },
    };
    static const char *const known[] = { "type", "name", "disable_parallel_tool_use", NULL };
    size_t i = 0;
    if (!c) return DR_OK;
    while (i < 4 && strcmp(kinds[i].type, type_of(c))) i++;
    if (i == 4) return err_set(e, DR_EINVAL, "tool_choice.type has to be auto, any, tool or none");
    o->tool_choice = kinds[i].to;
    o->tool_name = json_string_value(json_object_get(c, "name"));
    o->one_tool = json_is_true(json_object_get(c, "disable_parallel_tool_use"));
    if (o->tool_choice == CALL_TOOLS_NAMED && !o->tool_name)
        return err_set(e, DR_EINVAL, "tool_choice of type tool wants a name");
    return only(c, known, "tool_choice", e);
}

/* {"format": {"type": "json_schema", "schema"}}; the schema's text goes to *text. */
static int read_output(const json_t *v, call_opt *o, buf *text, dr_err *e)
{
    static const char *const known[] = { "effort", "format", NULL };
    const json_t *f = json_object_get(v, "format"), *schema = json_object_get(f, "schema");
    int rc = v ? only(v, known, "output_config", e) : DR_OK;
    if (rc != DR_OK || !f || json_is_null(f)) return rc;
    if (strcmp(type_of(f), "json_schema") || !json_is_object(schema))
        return err_set(e, DR_EINVAL, "output_config.format has to be of type json_schema, with a schema");
    js_value(text, schema);
    if (text->bad) return err_nomem(e, text->n, "the schema");
    o->format = CALL_JSON_SCHEMA, o->schema = buf_span(text);
    return DR_OK;
}

static int read_stops(const json_t *v, const char **stop, engine_req *q, dr_err *e)
{
    if (!v) return DR_OK;
    if (!json_is_array(v) || json_array_size(v) > STOPS)
        return err_set(e, DR_EINVAL, "stop_sequences has to be a list of at most %d strings", STOPS);
    for (size_t i = 0; i < json_array_size(v); i++) {
        stop[i] = json_string_value(json_array_get(v, i));
        if (!stop[i] || !*stop[i])
            return err_set(e, DR_EINVAL, "stop_sequences[%zu] has to be a string that is not empty", i);
    }
    q->stop = stop, q->n_stop = (int)json_array_size(v);
    return DR_OK;
}

/* A whole request. What call_opt borrows lies in it until request_free. */
typedef struct {
    json_t *doc, *messages, *tools;
    buf schema;
    const char *stop[STOPS];
    asked a;
    call_opt c;
} request;

static void request_free(request *q)
{
    json_decref(q->doc);
    json_decref(q->messages);
    json_decref(q->tools);
    buf_free(&q->schema);
}

static int read_thinking(const json_t *v, dr_err *e)
{
    if (!v || strcmp(type_of(v), "enabled")) return DR_OK;
    return err_set(e, DR_EUNSUPPORTED, "thinking of type enabled is not supported: chat_template_kwargs reaches a "
                   "template's own switch");
}

/* Everything but the model's own values; q->a is read. */
static int request_read(request *q, const served *s, int adapter, const char **param, dr_err *e)
{
    asked *a = &q->a;
    call_opt *c = &q->c;
    call_opt_init(c, s);
    c->req.adapter = adapter;
    q->schema.cap_max = TEXT_MAX;
    if (!(q->messages = read_messages(a, &c->go_on, param, e))) return e->code;
    *param = "tools";
    if (a->tools && !(q->tools = read_tools(a->tools, e))) return e->code;
    *param = "tool_choice";
    int rc = read_choice(a->tool_choice, c, e);
    if (rc == DR_OK) *param = "output_config", rc = read_output(a->output, c, &q->schema, e);
    if (rc == DR_OK) *param = "thinking", rc = read_thinking(a->thinking, e);
    if (rc == DR_OK) *param = "stop_sequences", rc = read_stops(a->stop, q->stop, &c->req, e);
    if (rc != DR_OK) return rc;
    *param = NULL;
    c->messages = q->messages;
    c->tools = json_array_size(q->tools) ? q->tools : NULL;
    c->kwargs = a->kwargs;
    sample_opt *o = &c->req.sample;
    if (a->temperature >= 0) o->temperature = a->temperature;
    if (a->top_p >= 0) o->top_p = a->top_p;
    if (a->min_p >= 0) o->min_p = a->min_p;
    if (a->top_k >= 0) o->top_k = a->top_k;
    o->seed = a->seed >= 0 ? (uint64_t)a->seed : sample_new_seed();
    c->req.max_tokens = a->max_tokens;
    c->req.priority = a->priority;
    return DR_OK;
}

/* The body, the model, the call's options. NULL: *o is the error, and all is released. */
static served *request_begin(const http_req *r, http_reply *o, request *q, unsigned api)
{
    const char *param = NULL;
    dr_err e = {0};
    served *s = NULL;
    *q = (request){ .a = { .max_tokens = -1, .top_k = -1, .temperature = -1, .top_p = -1, .min_p = -1,
                           .seed = -1 } };
    q->doc = http_json(r, &e);
    int rc = q->doc ? fields_read_of(FIELDS, api, q->doc, &q->a, "", &param, &e) : e.code, adapter = 0;
    if (rc == DR_OK && api == CREATE && q->a.max_tokens < 0)
        rc = err_set(&e, DR_EINVAL, "max_tokens is missing: the largest number of tokens of the reply");
    if (rc == DR_OK) s = answer_model(r, o, HTTP_ANTHROPIC, q->a.model, &adapter);
    if (s && request_read(q, s, adapter, &param, &e) == DR_OK) return s;
    if (e.code) http_error(o, HTTP_ANTHROPIC, http_status(e.code), NULL, NULL, param, "%s", e.msg);
    if (s) answer_let_go(r, s);
    request_free(q);
    return NULL;
}

/* ---- the reply */

typedef enum { NONE, TEXT, TOOL } block_kind;

typedef struct {
    answer a;
    bool stream, begun, hello, over;
    char id[JS_ID];
    char *model;
    block_kind open;
    int block;                  /* number of the open block, or of the next */
    int n_prompt, n_cached;
    buf text;                   /* not streamed: the open block's text or arguments … */
    buf content;                /* … and all blocks before, comma-separated */
    const char *reason, *why;   /* stop_reason, NULL: not yet; error's sentence */
    char *stop;                 /* stop_sequence, or NULL */
} reply;

static void put_usage(const reply *p, buf *out, int n_gen)
{
    buf_printf(out, "\"usage\":{\"input_tokens\":%d,\"cache_creation_input_tokens\":0,"
               "\"cache_read_input_tokens\":%d,\"output_tokens\":%d}", p->n_prompt - p->n_cached, p->n_cached,
               n_gen);
}

static void put_head(const reply *p, buf *out)
{
    buf_printf(out, "{\"id\":\"%s\",\"type\":\"message\",\"role\":\"assistant\",\"model\":", p->id);
    js_put(out, p->model);
    buf_puts(out, ",\"content\":[");
}

static void put_end(const reply *p, buf *out)
{
    buf_puts(out, "\"stop_reason\":");
    js_put(out, p->reason);
    buf_puts(out, ",\"stop_sequence\":");
    js_put(out, p->stop);
}

/* An event's beginning: its object is open and lacks what follows the type. */
static void event(buf *out, const char *type)
{
    buf_printf(out, "event: %s\ndata: {\"type\":\"%s\"", type, type);
}

static void begin(reply *p, buf *out)
{
    if (p->begun) return;
    p->begun = true;
    if (!p->stream) return;
    event(out, "message_start");
    buf_puts(out, ",\"message\":");
    put_head(p, out);
    buf_puts(out, "],\"stop_reason\":null,\"stop_sequence\":null,");
    put_usage(p, out, 0);
    buf_puts(out, "}}\n\n");
}

static void block_close(reply *p, buf *out)
{
    if (p->open == NONE) return;
    if (p->stream) {
        event(out, "content_block_stop");
        buf_printf(out, ",\"index\":%d}\n\n", p->block);
    } else if (p->open == TEXT) {
        field_text(&p->content, buf_span(&p->text));
        buf_putc(&p->content, '}');
    } else {
        js_arguments(&p->content, buf_span(&p->text));
        buf_putc(&p->content, '}');
    }
    buf_reset(&p->text);
    p->open = NONE;
    p->block++;
}

static void tool_id(char out[JS_ID + 8], const char *id)
{
    bool ours = !strncmp(id, "call_", 5);
    snprintf(out, JS_ID + 8, "%s%.40s", ours ? "toolu_" : "", ours ? id + 5 : id);
}

static void block_open(reply *p, buf *out, const call_event *ev)
{
    block_kind k = ev->kind == CALL_TOOL ? TOOL : TEXT;
    char id[JS_ID + 8];
    buf *to = p->stream ? out : &p->content;
    block_close(p, out);
    p->open = k;
    if (p->stream) {
        event(out, "content_block_start");
        buf_printf(out, ",\"index\":%d,\"content_block\":", p->block);
    } else if (p->block) {
        buf_putc(to, ',');
    }
    if (k == TEXT) {
        buf_puts(to, "{\"type\":\"text\",\"text\":");
    } else {
        tool_id(id, ev->id);
        buf_printf(to, "{\"type\":\"tool_use\",\"id\":\"%s\",\"name\":", id);
        field_text(to, ev->text);
        buf_puts(to, ",\"input\":");
    }
    if (p->stream) buf_puts(out, k == TEXT ? "\"\"}}\n\n" : "{}}}\n\n");
}

static void more(reply *p, buf *out, span s)
{
    if (!p->stream) {
        buf_put(&p->text, s.p, s.n);
        return;
    }
    event(out, "content_block_delta");
    buf_printf(out, ",\"index\":%d,\"delta\":{\"type\":\"%s\":", p->block,
               p->open == TEXT ? "text_delta\",\"text" : "input_json_delta\",\"partial_json");
    field_text(out, s);
    buf_puts(out, "}}\n\n");
}

/* How an answer ended, in Anthropic's words. NULL: it did not. */
static const char *reason_of(const call_event *ev)
{
    if (ev->finish == CALL_CANCELLED) return NULL;
    if (ev->finish == CALL_TOOL_CALLS) return "tool_use";
    if (ev->finish == CALL_LENGTH)
        return ev->ev && ev->ev->finish == ENGINE_CONTEXT ? "model_context_window_exceeded" : "max_tokens";
    return ev->ev && ev->ev->stop ? "stop_sequence" : "end_turn";
}

static void finish(reply *p, buf *out, const call_event *ev)
{
    block_close(p, out);
    p->reason = reason_of(ev);
    if (p->reason && ev->ev && ev->ev->stop && !(p->stop = mem_strdup(ev->ev->stop))) p->text.bad = true;
}

static void fail(reply *p, http_reply *o, buf *out, int code, const char *why)
{
    if (!p->hello) {
        answer_error(o, out, HTTP_ANTHROPIC, code, why);
        return;
    }
    buf_puts(out, "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":");
    js_put(out, why);
    buf_puts(out, "}}\n\n");
}

static void done(reply *p, http_reply *o, buf *out, const call_event *ev)
{
    int n_gen = ev->ev ? ev->ev->usage.n_gen : 0;
    p->over = true;
    if (ev->ev && ev->ev->code) {
        fail(p, o, out, ev->ev->code, answer_why(ev));
    } else if (!p->reason) {
        fail(p, o, out, DR_ECANCEL, "the server ended before the reply was complete");
    } else if (p->text.bad || p->content.bad) {
        fail(p, o, out, DR_ENOMEM, "there is no memory for the reply");
    } else if (p->stream) {
        event(out, "message_delta");
        buf_puts(out, ",\"delta\":{");
        put_end(p, out);
        buf_puts(out, "},");
        put_usage(p, out, n_gen);
        buf_puts(out, "}\n\n");
        event(out, "message_stop");
        buf_puts(out, "}\n\n");
    } else {
        put_head(p, out);
        buf_put(out, p->content.p, p->content.n);
        buf_puts(out, "],");
        put_end(p, out);
        buf_putc(out, ',');
        put_usage(p, out, n_gen);
        buf_putc(out, '}');
    }
}

static http_state fill(void *src, http_reply *o, buf *out)
{
    reply *p = src;
    call_event ev;
    size_t from = out->n;
    if (p->over) return HTTP_END;
    if (p->stream && !p->hello) {               /* so that pings can follow while a long prompt is read */
        p->hello = true;
        o->type = "text/event-stream";
        buf_puts(out, ": \n\n");
        return HTTP_MORE;
    }
    while (out->n - from < OUT_AT_ONCE && call_next(p->a.c, &ev)) {
        switch (ev.kind) {
        case CALL_BEGIN:
            p->n_prompt = ev.ev->usage.n_prompt, p->n_cached = ev.ev->usage.n_cached;
            begin(p, out);
            break;
        case CALL_TEXT:
            if (p->open != TEXT) block_open(p, out, &ev);
            more(p, out, ev.text);
            break;
        case CALL_TOOL: block_open(p, out, &ev); break;
        case CALL_ARGS: more(p, out, ev.text); break;
        case CALL_TOOL_END: block_close(p, out); break;
        case CALL_FINISH: finish(p, out, &ev); break;
        case CALL_DONE:
            done(p, o, out, &ev);
            return HTTP_END;
        default: break;
        }
    }
    return out->n > from ? HTTP_MORE : HTTP_WAIT;
}

static void ping(void *src, buf *out)
{
    const reply *p = src;
    if (p->begun) buf_puts(out, "event: ping\ndata: {\"type\":\"ping\"}\n\n");
    else buf_puts(out, ": \n\n");               /* before message_start no event may come */
}

static void reply_close(void *src)
{
    reply *p = src;
    answer_end(&p->a);
    buf_free(&p->text);
    buf_free(&p->content);
    mem_free(p->model);
    mem_free(p->stop);
    mem_free(p);
}

static const http_source WHOLE = { fill, NULL, reply_close }, STREAM = { fill, ping, reply_close };

static void post_messages(const http_req *r, http_reply *o)
{
    request q;
    served *s = request_begin(r, o, &q, CREATE);
    if (!s) return;
    const char *name = q.a.model && *q.a.model ? q.a.model : s->id;
    reply *p = mem_zalloc(1, sizeof *p);
    if (!p || !(p->model = mem_strdup(name))) {
        http_error(o, HTTP_ANTHROPIC, 503, NULL, NULL, NULL, "there is no memory for the reply");
        answer_let_go(r, s);
        mem_free(p);
    } else if (!answer_begin(&p->a, r, o, HTTP_ANTHROPIC, s, &q.c)) {
        mem_free(p->model);
        mem_free(p);
    } else {
        js_id(p->id, "msg_");
        p->stream = q.a.stream;
        buf_init(&p->text, TEXT_MAX);
        buf_init(&p->content, TEXT_MAX);
        o->source = p->stream ? &STREAM : &WHOLE;
        o->src = p;
    }
    request_free(&q);
}

static void post_count(const http_req *r, http_reply *o)
{
    request q;
    const char *param = NULL;
    dr_err e = {0};
    ids v = {0};
    served *s = request_begin(r, o, &q, COUNT);
    if (!s) return;
    if (call_prompt(s, &q.c, &v, NULL, &param, &e) == DR_OK)
        http_put_json(o, 200, json_pack("{s:I}", "input_tokens", (json_int_t)v.n));
    else http_error(o, HTTP_ANTHROPIC, http_status(e.code), NULL, NULL, param, "%s", e.msg);
    ids_free(&v);
    answer_let_go(r, s);
    request_free(&q);
}

const http_route anthropic_routes[] = {
    { "POST", "/v1/messages", HTTP_ANTHROPIC, 0, post_messages },
    { "POST", "/v1/messages/count_tokens", HTTP_ANTHROPIC, 0, post_count },
    { .method = NULL }
};
