/* api_responses.c - /v1/responses: items in, items out, and a stream of named events. Nothing is kept: what
 * a conversation was is sent again each time.
 *
 * Input items become chat's messages: instructions the first system message, function calls the assistant's
 * tool_calls, their outputs messages of the tool. Output items are one message, if anything was written, and
 * one function_call for each call, in the order in which they began. */
#include <string.h>
#include <time.h>
#include "base/mem.h"
#include "serve/answer.h"
#include "serve/oai.h"

enum { CHUNK = 48 << 10 };
#define MAX_BODY ((size_t)1 << 30)

typedef enum { ITEM_MESSAGE, ITEM_CALL } item_kind;
typedef struct {
    item_kind kind;
    char id[JS_ID];
    char call_id[JS_ID];
    char *name;                 /* of the function */
    buf text;                   /* the message's, or the call's arguments */
    buf probs;                  /* log-probabilities of the message, in chat's form */
    size_t given;               /* bytes of probs that deltas carried */
    bool done;
} item;

typedef struct {
    oai_req r;
    oai_model m;
    http_conn *conn;
    call *c;
    char id[JS_ID];
    int64_t created;
    buf echo;                   /* the members of a response object that never change */
    item *item;
    int n_items;
    buf probs;                  /* of tokens whose text has not come */
    int64_t seq;
    engine_usage usage;
    bool begun, last, cut;
    int code;
    char why[480];
    buf body;
    size_t sent;
} response;

/* ---- input */

static int append(json_t *list, json_t *m, dr_err *e)
{
    return json_array_append_new(list, m) ? err_nomem(e, 64, "the conversation") : DR_OK;
}

/* A text, or parts of input_text, output_text, refusal; as chat's content. */
static int content(const json_t *v, size_t at, const char *what, json_t **out, dr_err *e)
{
    *out = NULL;
    if (json_is_string(v)) return *out = json_incref((json_t *)(uintptr_t)v), DR_OK;
    if (!json_is_array(v)) return err_set(e, DR_EINVAL, "input[%zu].%s has to be a text or a list of parts", at, what);
    json_t *list = json_array();
    for (size_t i = 0; list && i < json_array_size(v); i++) {
        const json_t *p = json_array_get(v, i);
        const char *type = json_string_value(json_object_get(p, "type"));
        bool text = type && (!strcmp(type, "input_text") || !strcmp(type, "output_text") || !strcmp(type, "text"));
        bool refusal = type && !strcmp(type, "refusal");
        json_t *s = json_object_get(p, refusal ? "refusal" : "text");
        if ((!text && !refusal) || !json_is_string(s)) {
            json_decref(list);
            return err_set(e, DR_EINVAL, "input[%zu].%s[%zu] is of type %.40s; this model reads text alone", at, what,
                           i, type ? type : "?");
        }
        json_array_append_new(list, json_pack("{s:s, s:O}", "type", "text", "text", s));
    }
    *out = list;
    return list ? DR_OK : err_nomem(e, 64, "the conversation");
}

static int take_message(json_t *list, const json_t *x, size_t at, dr_err *e)
{
    static const char *const known[] = { "type", "role", "content", "id", "status", "phase" };
    const json_t *role = json_object_get(x, "role");
    const char *key;
    json_t *v, *text;
    json_object_foreach((json_t *)(uintptr_t)x, key, v) {
        size_t i = 0;
        while (i < sizeof known / sizeof *known && strcmp(known[i], key)) i++;
        if (i == sizeof known / sizeof *known && !json_is_null(v))
            return err_set(e, DR_EINVAL, "unknown field input[%zu].%.40s", at, key);
    }
    if (!json_is_string(role)) return err_set(e, DR_EINVAL, "input[%zu] has no role", at);
    int rc = content(json_object_get(x, "content"), at, "content", &text, e);
    if (rc) return rc;
    return append(list, json_pack("{s:O, s:o}", "role", role, "content", text), e);
}

/* A call joins the assistant's message before it. */
static int take_call(json_t *list, const json_t *x, size_t at, dr_err *e)
{
    const json_t *id = json_object_get(x, "call_id"), *name = json_object_get(x, "name");
    const json_t *args = json_object_get(x, "arguments");
    if (!json_is_string(id) || !json_is_string(name) || !json_is_string(args))
        return err_set(e, DR_EINVAL, "input[%zu], a function_call, has to have call_id, name and arguments", at);
    json_t *last = json_array_get(list, json_array_size(list) ? json_array_size(list) - 1 : 0);
    const char *role = json_string_value(json_object_get(last, "role"));
    json_t *one = json_pack("{s:O, s:s, s:{s:O, s:O}}", "id", id, "type", "function", "function", "name", name,
                             "arguments", args);
    if (!role || strcmp(role, "assistant")) {
        last = json_pack("{s:s, s:n}", "role", "assistant", "content");
        if (append(list, last, e)) return json_decref(one), DR_ENOMEM;
    }
    json_t *calls = json_object_get(last, "tool_calls");
    if (!calls) {
        calls = json_array();
        if (!calls || json_object_set_new(last, "tool_calls", calls)) return json_decref(one), err_nomem(e, 64, "calls");
    }
    return append(calls, one, e);
}

static int take_output(json_t *list, const json_t *x, size_t at, dr_err *e)
{
    const json_t *id = json_object_get(x, "call_id");
    json_t *text;
    if (!json_is_string(id)) return err_set(e, DR_EINVAL, "input[%zu], a function_call_output, has no call_id", at);
    int rc = content(json_object_get(x, "output"), at, "output", &text, e);
    if (rc) return rc;
    return append(list, json_pack("{s:s, s:O, s:o}", "role", "tool", "tool_call_id", id, "content", text), e);
}

static int take_nothing(json_t *list, const json_t *x, size_t at, dr_err *e)
{
    (void)list, (void)x, (void)at, (void)e;
    return DR_OK;                                        // reasoning: these models are not shown it
}

static const struct { const char *type; int (*take)(json_t *, const json_t *, size_t, dr_err *); } inputs[] = {
    { "message", take_message }, { "function_call", take_call }, { "function_call_output", take_output },
    { "reasoning", take_nothing },
};

static int messages(const oai_req *r, json_t **out, dr_err *e)
{
    json_t *list = json_array();
    int rc = list ? DR_OK : err_nomem(e, 64, "the conversation");
    if (!rc && r->instructions && *r->instructions)
        rc = append(list, json_pack("{s:s, s:s}", "role", "system", "content", r->instructions), e);
    if (!rc && json_is_string(r->prompt))
        rc = append(list, json_pack("{s:s, s:O}", "role", "user", "content", r->prompt), e);
    else if (!rc && !json_is_array(r->prompt))
        rc = err_set(e, DR_EINVAL, r->prompt ? "input has to be a text or a list of items" : "input is missing");
    for (size_t i = 0; !rc && json_is_array(r->prompt) && i < json_array_size(r->prompt); i++) {
        const json_t *x = json_array_get(r->prompt, i);
        const char *type = json_string_value(json_object_get(x, "type"));
        size_t k = 0;
        while (type && k < 4 && strcmp(inputs[k].type, type)) k++;
        if (k == 4) rc = err_set(e, DR_EUNSUPPORTED, "input[%zu] is of type '%.40s', which is not supported", i, type);
        else rc = inputs[k].take(list, x, i, e);
    }
    if (rc) json_decref(list);
    else *out = list;
    return rc;
}

/* Flat tools to chat's. */
static int tools(oai_req *r, dr_err *e)
{
    static const char *const members[] = { "name", "description", "parameters", "strict" };
    if (!r->tools_given) return DR_OK;
    if (!json_is_array(r->tools_given)) return err_set(e, DR_EINVAL, "tools has to be a list");
    r->tools = json_array();
    for (size_t i = 0; i < json_array_size(r->tools_given); i++) {
        const json_t *t = json_array_get(r->tools_given, i);
        const char *type = json_string_value(json_object_get(t, "type")), *key;
        json_t *f = json_object(), *v;
        if (!type || strcmp(type, "function")) {
            json_decref(f);
            return err_set(e, DR_EUNSUPPORTED, "tools[%zu] is of type '%.40s'; function is supported", i,
                           type ? type : "?");
        }
        json_object_foreach((json_t *)(uintptr_t)t, key, v) {
            size_t k = 0;
            while (k < 4 && strcmp(members[k], key)) k++;
            if (k < 4 && !json_is_null(v)) json_object_set(f, key, v);
            else if (k == 4 && strcmp(key, "type") && !json_is_null(v)) {
                json_decref(f);
                return err_set(e, DR_EINVAL, "unknown field tools[%zu].%.40s", i, key);
            }
        }
        if (append(r->tools, json_pack("{s:s, s:o}", "type", "function", "function", f), e)) return DR_ENOMEM;
    }
    r->c.tools = r->tools;
    return DR_OK;
}

/* ---- objects */

static void put_item(const response *o, const item *x, buf *b)
{
    const char *status = x->done ? o->cut && x == &o->item[o->n_items - 1] ? "incomplete" : "completed" : "in_progress";
    buf_printf(b, "{\"id\":\"%s\",\"type\":\"%s\",\"status\":\"%s\",", x->id,
               x->kind == ITEM_CALL ? "function_call" : "message", status);
    if (x->kind == ITEM_CALL) {
        buf_printf(b, "\"call_id\":\"%s\",\"name\":", x->call_id);
        js_put(b, x->name);
        buf_puts(b, ",\"arguments\":");
        field_text(b, (span){ x->text.n ? x->text.p : "", x->text.n });
    } else {
        buf_puts(b, "\"role\":\"assistant\",\"content\":[");
        if (x->done) {
            buf_puts(b, "{\"type\":\"output_text\",\"annotations\":[],\"logprobs\":[");
            buf_put(b, x->probs.p, x->probs.n);
            buf_puts(b, "],\"text\":");
            field_text(b, (span){ x->text.n ? x->text.p : "", x->text.n });
            buf_putc(b, '}');
        }
        buf_putc(b, ']');
    }
    buf_putc(b, '}');
}

/* The members that follow from the request. */
static void put_echo(response *o)
{
    buf *b = &o->echo;
    const oai_req *r = &o->r;
    const sample_opt *s = &r->c.req.sample;
    buf_puts(b, ",\"instructions\":");
    js_put(b, r->instructions);
    buf_puts(b, ",\"max_output_tokens\":");
    if (r->max_tokens >= 0) buf_printf(b, "%d", r->max_tokens);
    else buf_puts(b, "null");
    buf_puts(b, ",\"model\":");
    js_put(b, r->model && *r->model ? r->model : o->m.s->id);
    buf_printf(b, ",\"parallel_tool_calls\":%s,\"previous_response_id\":null,\"reasoning\":{\"effort\":null,"
               "\"summary\":null},\"store\":false,\"background\":false,\"service_tier\":\"default\","
               "\"truncation\":\"disabled\",\"top_logprobs\":%d,\"temperature\":", r->c.one_tool ? "false" : "true",
               r->top_logprobs > 0 ? r->top_logprobs : 0);
    buf_printf(b, "%.6g,\"top_p\":%.6g", (double)s->temperature, (double)s->top_p);
    buf_puts(b, ",\"tool_choice\":");
    if (r->tool_choice) js_value(b, r->tool_choice);
    else buf_puts(b, "\"auto\"");
    buf_puts(b, ",\"tools\":[");
    for (size_t i = 0; i < json_array_size(r->tools); i++) {
        const json_t *f = json_object_get(json_array_get(r->tools, i), "function");
        buf_puts(b, i ? ",{\"type\":\"function\",\"name\":" : "{\"type\":\"function\",\"name\":");
        js_value(b, json_object_get(f, "name"));
        buf_puts(b, ",\"description\":");
        js_value(b, json_object_get(f, "description"));
        buf_puts(b, ",\"parameters\":");
        js_value(b, json_object_get(f, "parameters"));
        buf_puts(b, ",\"strict\":");
        js_value(b, json_object_get(f, "strict"));
        buf_putc(b, '}');
    }
    buf_puts(b, "],\"text\":{\"format\":");
    const json_t *format = json_object_get(r->text, "format");
    if (json_is_object(format)) js_value(b, format);
    else buf_puts(b, "{\"type\":\"text\"}");
    buf_puts(b, ",\"verbosity\":\"medium\"},\"user\":null,\"metadata\":");
    if (r->metadata) js_value(b, r->metadata);
    else buf_puts(b, "{}");
}

static void put_response(response *o, const char *status, buf *b)
{
    buf_printf(b, "{\"id\":\"%s\",\"object\":\"response\",\"created_at\":%lld,\"status\":\"%s\",\"error\":", o->id,
               (long long)o->created, status);
    if (o->code) {
        buf_puts(b, "{\"code\":\"server_error\",\"message\":");
        js_put(b, o->why);
        buf_putc(b, '}');
    } else buf_puts(b, "null");
    buf_printf(b, ",\"incomplete_details\":%s", o->cut ? "{\"reason\":\"max_output_tokens\"}" : "null");
    buf_put(b, o->echo.p, o->echo.n);
    buf_puts(b, ",\"output\":[");
    for (int i = 0; i < o->n_items && o->last; i++) {
        if (i) buf_putc(b, ',');
        put_item(o, &o->item[i], b);
    }
    buf_puts(b, "],\"usage\":");
    const engine_usage *u = &o->usage;
    if (o->last && !o->code)
        buf_printf(b, "{\"input_tokens\":%d,\"input_tokens_details\":{\"cached_tokens\":%d,\"cache_write_tokens\":0},"
                   "\"output_tokens\":%d,\"output_tokens_details\":{\"reasoning_tokens\":0},\"total_tokens\":%d}",
                   u->n_prompt, u->n_cached, u->n_gen, u->n_prompt + u->n_gen);
    else buf_puts(b, "null");
    buf_putc(b, '}');
}

/* ---- events */

/* event: NAME, data: {"type": NAME, "sequence_number": N …; the caller puts what follows and event_end. */
static void event(response *o, const char *name, buf *b)
{
    buf_printf(b, "event: %s\ndata: {\"type\":\"%s\",\"sequence_number\":%lld", name, name, (long long)o->seq++);
}

static void event_end(buf *b) { buf_puts(b, "}\n\n"); }

static void event_response(response *o, const char *name, const char *status, buf *b)
{
    event(o, name, b);
    buf_puts(b, ",\"response\":");
    put_response(o, status, b);
    event_end(b);
}

static void event_item(response *o, const char *name, int i, buf *b)
{
    event(o, name, b);
    buf_printf(b, ",\"output_index\":%d,\"item\":", i);
    put_item(o, &o->item[i], b);
    event_end(b);
}

static void where(const item *x, int i, buf *b)
{
    buf_printf(b, ",\"item_id\":\"%s\",\"output_index\":%d", x->id, i);
    if (x->kind == ITEM_MESSAGE) buf_puts(b, ",\"content_index\":0");
}

static void part(response *o, const char *name, int i, bool full, buf *b)
{
    item *x = &o->item[i];
    event(o, name, b);
    where(x, i, b);
    buf_puts(b, ",\"part\":{\"type\":\"output_text\",\"annotations\":[],\"logprobs\":[");
    if (full) buf_put(b, x->probs.p, x->probs.n);
    buf_puts(b, "],\"text\":");
    field_text(b, full && x->text.n ? buf_span(&x->text) : (span){ "", 0 });
    buf_putc(b, '}');
    event_end(b);
}

/* ---- items */

static void end_item(response *o, buf *b)
{
    int i = o->n_items - 1;
    item *x = i >= 0 ? &o->item[i] : NULL;
    if (!x || x->done) return;
    x->done = true;
    if (!o->r.stream) return;
    if (x->kind == ITEM_CALL) {
        event(o, "response.function_call_arguments.done", b);
        where(x, i, b);
        buf_puts(b, ",\"name\":");
        js_put(b, x->name);
        buf_puts(b, ",\"arguments\":");
        field_text(b, (span){ x->text.n ? x->text.p : "", x->text.n });
        event_end(b);
    } else {
        event(o, "response.output_text.done", b);
        where(x, i, b);
        buf_puts(b, ",\"logprobs\":[");
        buf_put(b, x->probs.p, x->probs.n);
        buf_puts(b, "],\"text\":");
        field_text(b, (span){ x->text.n ? x->text.p : "", x->text.n });
        event_end(b);
        part(o, "response.content_part.done", i, true, b);
    }
    event_item(o, "response.output_item.done", i, b);
}

/* A new item; the one before is complete. NULL: no memory. */
static item *new_item(response *o, item_kind k, buf *b)
{
    end_item(o, b);
    item *p = mem_realloc(o->item, (size_t)(o->n_items + 1) * sizeof *p);
    if (!p) return NULL;
    o->item = p;
    item *x = &p[o->n_items++];
    *x = (item){ .kind = k };
    buf_init(&x->text, MAX_BODY);
    buf_init(&x->probs, MAX_BODY);
    js_id(x->id, k == ITEM_CALL ? "fc_" : "msg_");
    return x;
}

static void failed(response *o, int code, const char *why)
{
    if (o->code) return;
    o->code = code;
    snprintf(o->why, sizeof o->why, "%s", why && *why ? why : "the reply could not be made");
}

static void take_probs(response *o, item *x)
{
    if (!o->probs.n) return;
    if (x->probs.n) buf_putc(&x->probs, ',');
    buf_put(&x->probs, o->probs.p, o->probs.n);
    buf_reset(&o->probs);
}

static void on_text(response *o, span text, buf *b)
{
    item *x = o->n_items ? &o->item[o->n_items - 1] : NULL;
    if (!x || x->kind != ITEM_MESSAGE || x->done) {
        x = new_item(o, ITEM_MESSAGE, b);
        if (!x) {
            failed(o, DR_ENOMEM, "there is no memory for the reply");
            return;
        }
        if (o->r.stream) {
            event_item(o, "response.output_item.added", o->n_items - 1, b);
            part(o, "response.content_part.added", o->n_items - 1, false, b);
        }
    }
    buf_put(&x->text, text.p, text.n);
    if (o->r.stream) {
        event(o, "response.output_text.delta", b);
        where(x, o->n_items - 1, b);
        buf_puts(b, ",\"logprobs\":[");
        buf_put(b, o->probs.p, o->probs.n);
        buf_puts(b, "],\"delta\":");
        field_text(b, text);
        event_end(b);
    }
    take_probs(o, x);
}

static void on_tool(response *o, const call_event *ev, buf *b)
{
    item *x = new_item(o, ITEM_CALL, b);
    if (x) x->name = mem_strndup(ev->text.p, ev->text.n);
    if (!x || !x->name) {
        failed(o, DR_ENOMEM, "there is no memory for the reply");
        return;
    }
    snprintf(x->call_id, sizeof x->call_id, "%s", ev->id);
    buf_reset(&o->probs);                                // of a call's tokens: no place for them
    if (o->r.stream) event_item(o, "response.output_item.added", o->n_items - 1, b);
}

static void on_args(response *o, span text, buf *b)
{
    item *x = o->n_items ? &o->item[o->n_items - 1] : NULL;
    if (!x || x->kind != ITEM_CALL) return;
    buf_put(&x->text, text.p, text.n);
    if (!o->r.stream) return;
    event(o, "response.function_call_arguments.delta", b);
    where(x, o->n_items - 1, b);
    buf_puts(b, ",\"delta\":");
    field_text(b, text);
    event_end(b);
}

static void on_event(response *o, const call_event *ev, buf *b)
{
    const engine_event *x = ev->ev;
    switch (ev->kind) {
    case CALL_TOKEN:
        if (!o->r.logprobs) break;
        if (o->probs.n) buf_putc(&o->probs, ',');
        oai_logprob(&o->probs, o->m.s->tok, x->id, x->logprob, x->top, x->n_top);
        break;
    case CALL_TEXT: on_text(o, ev->text, b); break;
    case CALL_TOOL: on_tool(o, ev, b); break;
    case CALL_ARGS: on_args(o, ev->text, b); break;
    case CALL_TOOL_END: end_item(o, b); break;
    case CALL_FINISH:
        if (ev->finish == CALL_CANCELLED) {
            failed(o, DR_ECANCEL, "the server ended before the reply was complete");
            break;
        }
        o->cut = ev->finish == CALL_LENGTH;
        if (!o->n_items) on_text(o, (span){ "", 0 }, b);     // an answer of no words is one, too
        else if (o->probs.n && o->item[o->n_items - 1].kind == ITEM_MESSAGE && !o->item[o->n_items - 1].done)
            take_probs(o, &o->item[o->n_items - 1]);
        end_item(o, b);
        break;
    case CALL_DONE:
        o->usage = x->usage;
        if (x->code) failed(o, x->code, x->msg);
        o->last = true;
        break;
    default: break;
    }
}

/* ---- the source */

static void put_last(response *o, http_reply *rep, buf *out)
{
    const char *status = o->code ? "failed" : o->cut ? "incomplete" : "completed";
    if (o->r.stream) {
        event_response(o, o->code ? "response.failed" : o->cut ? "response.incomplete" : "response.completed", status,
                       out);
    } else if (o->code) {
        answer_error(rep, &o->body, HTTP_OPENAI, o->code, o->why);
    } else {
        put_response(o, status, &o->body);
        if (o->body.bad) rep->status = 503;
    }
}

static http_state give(response *o, buf *out)
{
    size_t n = o->body.n - o->sent;
    if (n > CHUNK) n = CHUNK;
    buf_put(out, o->body.p + o->sent, n);
    o->sent += n;
    return o->sent < o->body.n ? HTTP_MORE : HTTP_END;
}

static http_state fill(void *src, http_reply *rep, buf *out)
{
    response *o = src;
    call_event ev;
    if (o->last) return give(o, out);
    if (o->r.stream && !o->begun) {
        o->begun = true;
        event_response(o, "response.created", "in_progress", out);
        event_response(o, "response.in_progress", "in_progress", out);
        return HTTP_MORE;
    }
    while (!o->last && !o->code && call_next(o->c, &ev)) {
        on_event(o, &ev, out);
        if (out->n > CHUNK && !o->last) return HTTP_MORE;
    }
    for (int i = 0; i < o->n_items; i++)
        if (o->item[i].text.bad || o->item[i].probs.bad) failed(o, DR_ENOMEM, "there is no memory for the reply");
    if (!o->last && !o->code) return out->n ? HTTP_MORE : HTTP_WAIT;
    o->last = true;
    put_last(o, rep, out);
    return o->r.stream ? HTTP_END : give(o, out);
}

static void ping(void *src, buf *out)
{
    (void)src;
    buf_puts(out, ": ping\n\n");
}

static void close_response(void *src)
{
    response *o = src;
    call_end(o->c);
    for (int i = 0; i < o->n_items; i++) {
        mem_free(o->item[i].name);
        buf_free(&o->item[i].text);
        buf_free(&o->item[i].probs);
    }
    mem_free(o->item);
    buf_free(&o->echo);
    buf_free(&o->probs);
    buf_free(&o->body);
    oai_req_free(&o->r);
    models_put(o->m.ms, o->m.s);
    mem_free(o);
}

static const http_source STREAM = { fill, ping, close_response }, WHOLE = { fill, NULL, close_response };

static int begin(response *o, const http_req *q, json_t *body, int *retry, const char **param, dr_err *e)
{
    json_t *list = NULL;
    int rc = oai_read(&o->r, OAI_RESPONSES, body, o->m.s, param, e);
    if (rc) return rc;
    *param = "tools";
    if ((rc = tools(&o->r, e))) return rc;
    *param = "tool_choice";
    if (o->r.tool_choice && (rc = oai_tool_choice(&o->r, o->r.tool_choice, true, e))) return rc;
    *param = "input";
    if ((rc = messages(&o->r, &list, e))) return rc;
    o->r.c.messages = list;
    o->r.c.req.wake = answer_wake, o->r.c.req.arg = o->conn;
    o->r.c.req.tenant = q->tenant;
    o->r.c.req.adapter = o->m.adapter;
    put_echo(o);
    rc = call_begin(o->m.s, &o->r.c, &o->c, retry, param, e);
    o->r.c.messages = NULL;
    json_decref(list);
    return rc;
}

void oai_responses(const http_req *q, http_reply *rep)
{
    dr_err e = { 0 };
    const char *param = NULL;
    int retry = 0;
    json_t *body = http_json(q, &e);
    response *o = body ? mem_zalloc(1, sizeof *o) : NULL;
    if (!o) {
        if (body) err_nomem(&e, sizeof *o, "a response");
        oai_refuse(rep, e.code, 0, NULL, &e);
        json_decref(body);
        return;
    }
    o->conn = q->conn;
    o->created = (int64_t)time(NULL);
    js_id(o->id, "resp_");
    buf_init(&o->echo, MAX_BODY);
    buf_init(&o->probs, MAX_BODY);
    buf_init(&o->body, MAX_BODY);
    if (!oai_open(&o->m, q, rep, body)) {
        mem_free(o);
        json_decref(body);
        return;
    }
    int rc = begin(o, q, body, &retry, &param, &e);
    json_decref(body);
    if (rc) {
        oai_refuse(rep, rc, retry, param, &e);
        close_response(o);
        return;
    }
    rep->source = o->r.stream ? &STREAM : &WHOLE;
    rep->src = o;
    if (o->r.stream) rep->type = "text/event-stream; charset=utf-8";
}
