/* call_chat.c - a conversation in OpenAI's form to the ids that the model's format makes of it.
 *
 * Messages are first brought into one shape: contents as one text, "developer" as "system", nulls left
 * out, everything unknown refused by name. A format without a place for tools gets them in words: the
 * functions in the system message, calls as the JSON that the parser knows, results as the user's. */
#include <string.h>
#include "base/mem.h"
#include "serve/call_priv.h"

#define MAX_TEXT ((size_t)256 << 20)

void call_plan_free(call_plan *p)
{
    ids_free(&p->prompt);
    buf_free(&p->text);
    grammar_free(p->form);
    json_decref(p->tools);
    *p = (call_plan){ 0 };
}

static int bad(const char **param, const char *name, const dr_err *e)
{
    *param = name;
    return e->code;
}

/* ---- messages */

enum { SYSTEM = 1, USER = 2, ASSISTANT = 4, TOOL = 8, ALL = 15 };

static const struct { const char *name; int bit; const char *as; } roles[] = {
    { "system", SYSTEM, "system" }, { "developer", SYSTEM, "system" }, { "user", USER, "user" },
    { "assistant", ASSISTANT, "assistant" }, { "tool", TOOL, "tool" }, { "ipython", TOOL, "tool" },
};

/* What a message may have. EMPTY: of older models and other media; there but null, or an empty list. */
enum { COPIED, READ, EMPTY, UNUSED };
static const struct { const char *name; int roles, how; } members[] = {
    { "role", ALL, READ }, { "content", ALL, READ }, { "name", ALL, COPIED },
    { "tool_calls", ASSISTANT, READ }, { "tool_call_id", TOOL, READ }, { "refusal", ASSISTANT, READ },
    { "reasoning_content", ASSISTANT, COPIED }, { "reasoning", ASSISTANT, COPIED },
    { "function_call", ASSISTANT, EMPTY }, { "audio", ASSISTANT, EMPTY },
    { "annotations", ASSISTANT, UNUSED },
};
enum { N_ROLES = sizeof roles / sizeof *roles, N_MEMBERS = sizeof members / sizeof *members };

static int known_members(const json_t *m, size_t at, int role, dr_err *e)
{
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)m, key, v) {
        int i = 0;
        while (i < N_MEMBERS && (strcmp(members[i].name, key) || !(members[i].roles & role))) i++;
        if (json_is_null(v) && i < N_MEMBERS) continue;
        if (i == N_MEMBERS)
            return err_set(e, DR_EINVAL, "messages[%zu].%.60s is not a field of this role's messages", at, key);
        if (members[i].how == EMPTY && !(json_is_array(v) && !json_array_size(v)))
            return err_set(e, DR_EINVAL, "messages[%zu].%s is not supported", at, key);
        if (members[i].how == COPIED && !json_is_string(v))
            return err_set(e, DR_EINVAL, "messages[%zu].%s has to be a string", at, key);
    }
    return DR_OK;
}

/* A text, or parts of type text one after another with a line end between. */
static int content(const json_t *v, size_t at, buf *out, dr_err *e)
{
    if (json_is_string(v)) {
        buf_put(out, json_string_value(v), json_string_length(v));
        return DR_OK;
    }
    if (!json_is_array(v))
        return err_set(e, DR_EINVAL, "messages[%zu].content has to be a string or a list of parts", at);
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *part = json_array_get(v, i);
        const char *type = json_string_value(json_object_get(part, "type"));
        const json_t *text = json_object_get(part, type && !strcmp(type, "refusal") ? "refusal" : "text");
        if (!type)
            return err_set(e, DR_EINVAL, "messages[%zu].content[%zu] has no type", at, i);
        if (strcmp(type, "text") && strcmp(type, "refusal"))
            return err_set(e, DR_EINVAL, "messages[%zu].content[%zu] is of type %.40s; this model reads text "
                           "alone", at, i, type);
        if (!json_is_string(text))
            return err_set(e, DR_EINVAL, "messages[%zu].content[%zu].%s has to be a string", at, i, type);
        if (i) buf_putc(out, '\n');
        buf_put(out, json_string_value(text), json_string_length(text));
    }
    return DR_OK;
}

/* One of an assistant's calls: {"id", "type": "function", "function": {"name", "arguments"}}. */
static int check_call(const json_t *c, size_t at, size_t i, dr_err *e)
{
    const char *type = json_string_value(json_object_get(c, "type"));
    const json_t *f = json_object_get(c, "function"), *id = json_object_get(c, "id");
    const json_t *args = json_object_get(f, "arguments");
    if (type && strcmp(type, "function"))
        return err_set(e, DR_EINVAL, "messages[%zu].tool_calls[%zu] is of type %.40s; function is known", at, i,
                       type);
    if (!json_is_string(json_object_get(f, "name")))
        return err_set(e, DR_EINVAL, "messages[%zu].tool_calls[%zu].function.name has to be a string", at, i);
    if (id && !json_is_string(id))
        return err_set(e, DR_EINVAL, "messages[%zu].tool_calls[%zu].id has to be a string", at, i);
    if (args && !json_is_string(args) && !json_is_object(args))
        return err_set(e, DR_EINVAL, "messages[%zu].tool_calls[%zu].function.arguments has to be JSON text", at,
                       i);
    return DR_OK;
}

/* Mistral's templates want ids of nine letters and digits: others are hashed into that (FNV-1a). */
static void nine(char out[10], const char *id)
{
    static const char digit[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    size_t n = strlen(id);
    uint64_t h = 0xcbf29ce484222325u;
    if (n == 9 && strspn(id, digit) == 9) {
        memcpy(out, id, 10);
        return;
    }
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)id[i]) * 0x100000001b3u;
    for (int i = 0; i < 9; i++, h /= 62) out[i] = digit[h % 62];
    out[9] = 0;
}

static json_t *id_of(const json_t *id, bool short_one)
{
    char s[10];
    if (!short_one || !json_is_string(id)) return json_incref((json_t *)(uintptr_t)id);
    nine(s, json_string_value(id));
    return json_string(s);
}

static json_t *calls_of(const json_t *calls, bool short_ids)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < json_array_size(calls); i++) {
        const json_t *c = json_array_get(calls, i), *f = json_object_get(c, "function");
        json_t *args = json_object_get(f, "arguments"), *id = json_object_get(c, "id");
        json_t *one = json_pack("{s:s, s:{s:O, s:O*}}", "type", "function", "function", "name",
                                json_object_get(f, "name"), "arguments", args);
        if (one && id) json_object_set_new(one, "id", id_of(id, short_ids));
        json_array_append_new(list, one);
    }
    return list;
}

/* One message in its usual shape; NULL: *e. */
static json_t *shaped(const json_t *m, size_t at, bool short_ids, dr_err *e)
{
    const char *role = json_string_value(json_object_get(m, "role"));
    const json_t *calls = json_object_get(m, "tool_calls"), *id = json_object_get(m, "tool_call_id");
    const json_t *text = json_object_get(m, "content"), *refusal = json_object_get(m, "refusal");
    json_t *o = NULL, *v;
    buf b = { .cap_max = MAX_TEXT };
    int r = 0, rc;
    if (!json_is_object(m) || !role)
        return err_set(e, DR_EINVAL, "messages[%zu] has to be an object with a role", at), NULL;
    while (r < N_ROLES && strcmp(roles[r].name, role)) r++;
    if (r == N_ROLES)
        return err_set(e, DR_EINVAL, "messages[%zu].role is '%.40s'; system, developer, user, assistant and "
                       "tool are known", at, role), NULL;
    if ((rc = known_members(m, at, roles[r].bit, e))) return NULL;
    if (json_is_null(text)) text = NULL;
    if (json_is_null(calls) || !json_array_size(calls)) {
        if (calls && !json_is_null(calls) && !json_is_array(calls))
            return err_set(e, DR_EINVAL, "messages[%zu].tool_calls has to be a list", at), NULL;
        calls = NULL;
    }
    if (!text && json_is_string(refusal)) text = refusal;
    if (!text && !calls)
        return err_set(e, DR_EINVAL, "messages[%zu] has no content", at), NULL;
    if (text && (rc = content(text, at, &b, e))) goto done;
    for (size_t i = 0; i < json_array_size(calls); i++)
        if ((rc = check_call(json_array_get(calls, i), at, i, e))) goto done;
    if (id && !json_is_null(id) && !json_is_string(id)) {
        err_set(e, DR_EINVAL, "messages[%zu].tool_call_id has to be a string", at);
        goto done;
    }
    o = json_pack("{s:s, s:s#}", "role", roles[r].as, "content", buf_str(&b), (int)b.n);
    const char *key;
    json_object_foreach((json_t *)(uintptr_t)m, key, v)
        for (int i = 0; i < N_MEMBERS && o; i++)
            if (members[i].how == COPIED && !strcmp(members[i].name, key) && !json_is_null(v))
                json_object_set(o, key, v);
    if (o && calls) json_object_set_new(o, "tool_calls", calls_of(calls, short_ids));
    if (o && json_is_string(id)) json_object_set_new(o, "tool_call_id", id_of(id, short_ids));
    if (!o || b.bad || (calls && !json_object_get(o, "tool_calls"))) {
        err_nomem(e, b.n, "a message");
        json_decref(o);
        o = NULL;
    }
done:
    buf_free(&b);
    return o;
}

/* ---- tools, in the model's format or in words */

static bool template_has(const served *s, const char *word)
{
    span t = tok_chat_template(s->tok);
    size_t n = strlen(word);
    for (size_t i = 0; i + n <= t.n; i++)
        if (!memcmp(t.p + i, word, n)) return true;
    return false;
}

bool call_format_has_tools(const served *s, const chat_opt *c)
{
    if (c->kind != CHAT_JINJA) return chat_has_tools(c->kind);
    return template_has(s, "tools") || tok_chat_template_named(s->tok, "tool_use").n > 0;
}

const char *call_args_key(const served *s, const chat_opt *c)
{
    if (c->kind == CHAT_MISTRAL_V3) return "arguments";
    if (c->kind == CHAT_JINJA && call_format_has_tools(s, c))
        return template_has(s, "parameters\\\"") || template_has(s, "\"parameters\"") ? "parameters" : "arguments";
    return "parameters";
}

static const char how_to_call[] =
    "You can call the functions below. To call one, answer with nothing but a JSON object of the form "
    "{\"name\": \"FUNCTION\", \"parameters\": {\"NAME\": VALUE}}; to call several, with a JSON array of such "
    "objects. If none helps, answer in plain text.";

static void put_tools(const json_t *tools, buf *out)
{
    buf_puts(out, how_to_call);
    for (size_t i = 0; i < json_array_size(tools); i++) {
        buf_puts(out, "\n");
        chat_tojson(out, json_object_get(json_array_get(tools, i), "function"), 0, false);
    }
}

/* The calls of a message as the text that the model would have written. */
static void put_calls(const json_t *calls, buf *out)
{
    size_t n = json_array_size(calls);
    if (out->n) buf_putc(out, '\n');
    if (n > 1) buf_putc(out, '[');
    for (size_t i = 0; i < n; i++) {
        const json_t *f = json_object_get(json_array_get(calls, i), "function");
        const json_t *args = json_object_get(f, "arguments");
        buf_puts(out, i ? ", {\"name\": " : "{\"name\": ");
        chat_tojson(out, json_object_get(f, "name"), 0, false);
        buf_puts(out, ", \"parameters\": ");
        if (json_is_string(args)) buf_puts(out, json_string_value(args));
        else if (args) chat_tojson(out, args, 0, false);
        else buf_puts(out, "{}");
        buf_putc(out, '}');
    }
    if (n > 1) buf_putc(out, ']');
}

/* The function that a result answers, by the calls before it; "" if that is not known. */
static const char *answered(const json_t *list, size_t at)
{
    const char *id = json_string_value(json_object_get(json_array_get(list, at), "tool_call_id"));
    for (size_t i = at; i-- > 0;) {
        const json_t *calls = json_object_get(json_array_get(list, i), "tool_calls");
        for (size_t k = json_array_size(calls); k-- > 0;) {
            const json_t *c = json_array_get(calls, k);
            const char *its = json_string_value(json_object_get(c, "id"));
            if ((id && its && !strcmp(id, its)) || (!id && json_array_size(calls) == 1))
                return json_string_value(json_object_get(json_object_get(c, "function"), "name"));
        }
    }
    return "";
}

static bool role_is(const json_t *m, const char *role)
{
    const char *r = json_string_value(json_object_get(m, "role"));
    return r && !strcmp(r, role);
}

static int set_text(json_t *m, const buf *b)
{
    return b->bad ? -1 : json_object_set_new(m, "content", json_stringn(b->n ? b->p : "", b->n));
}

/* Tools, calls and results in words. */
static int in_words(json_t *list, const json_t *tools, bool has_system, dr_err *e)
{
    buf b = { .cap_max = MAX_TEXT };
    int bad_ = 0;
    for (size_t i = 0; i < json_array_size(list) && !bad_; i++) {
        json_t *m = json_array_get(list, i), *calls = json_object_get(m, "tool_calls");
        const char *text = json_string_value(json_object_get(m, "content"));
        bool result = role_is(m, "tool");
        if (!calls && !result) continue;
        buf_reset(&b);
        if (result) {
            const char *name = answered(list, i);
            buf_puts(&b, "The result of the call");
            if (*name) buf_printf(&b, " of %s", name);
            buf_puts(&b, ":\n");
        }
        buf_puts(&b, text);
        if (calls) put_calls(calls, &b);
        bad_ = set_text(m, &b);
    }
    /* results now, names of functions were needed above */
    for (size_t i = 0; i < json_array_size(list) && !bad_; i++) {
        json_t *m = json_array_get(list, i), *before = i ? json_array_get(list, i - 1) : NULL;
        json_object_del(m, "tool_calls");
        json_object_del(m, "tool_call_id");
        if (!role_is(m, "tool")) continue;
        if (before && role_is(before, "user")) {           // several results are one message
            buf_reset(&b);
            buf_puts(&b, json_string_value(json_object_get(before, "content")));
            buf_puts(&b, "\n\n");
            buf_puts(&b, json_string_value(json_object_get(m, "content")));
            bad_ = set_text(before, &b);
            json_array_remove(list, i--);
        } else {
            json_object_del(m, "name");
            bad_ = json_object_set_new(m, "role", json_string("user"));
        }
    }
    if (tools && !bad_) {
        json_t *first = json_array_get(list, 0);
        const char *want = has_system ? "system" : "user";
        buf_reset(&b);
        if (!role_is(first, want)) {
            first = json_pack("{s:s, s:s}", "role", want, "content", "");
            bad_ = first ? json_array_insert_new(list, 0, first) : -1;
        }
        const char *text = bad_ ? "" : json_string_value(json_object_get(first, "content"));
        if (has_system && *text) buf_puts(&b, text), buf_puts(&b, "\n\n");
        put_tools(tools, &b);
        if (!has_system && *text) buf_puts(&b, "\n\n"), buf_puts(&b, text);
        if (!bad_) bad_ = set_text(first, &b);
    }
    buf_free(&b);
    return bad_ ? err_nomem(e, 64, "the conversation") : DR_OK;
}

/* ---- tools as they are given */

static int check_tool(const json_t *t, size_t i, dr_err *e)
{
    static const char *const has[] = { "name", "description", "parameters", "strict" };
    static const char chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
    const char *type = json_string_value(json_object_get(t, "type")), *key, *name;
    const json_t *f = json_object_get(t, "function"), *p = json_object_get(f, "parameters");
    const json_t *strict = json_object_get(f, "strict"), *d = json_object_get(f, "description");
    json_t *v;
    if (!type || strcmp(type, "function"))
        return err_set(e, DR_EINVAL, "tools[%zu].type is %.40s; function is known", i, type ? type : "not there");
    json_object_foreach((json_t *)(uintptr_t)t, key, v)
        if (strcmp(key, "type") && strcmp(key, "function"))
            return err_set(e, DR_EINVAL, "tools[%zu].%.60s is not a field of a tool", i, key);
    if (!json_is_object(f))
        return err_set(e, DR_EINVAL, "tools[%zu].function has to be an object", i);
    json_object_foreach((json_t *)(uintptr_t)f, key, v) {
        size_t k = 0;
        while (k < 4 && strcmp(has[k], key)) k++;
        if (k == 4) return err_set(e, DR_EINVAL, "tools[%zu].function.%.60s is not a field of a function", i, key);
    }
    name = json_string_value(json_object_get(f, "name"));
    if (!name || !*name || strlen(name) > 64 || name[strspn(name, chars)])
        return err_set(e, DR_EINVAL, "tools[%zu].function.name has to be 1 to 64 letters, digits, '_', '-', '.'", i);
    if (p && !json_is_null(p) && !json_is_object(p))
        return err_set(e, DR_EINVAL, "tools[%zu].function.parameters has to be a JSON schema, an object", i);
    if (strict && !json_is_null(strict) && !json_is_boolean(strict))
        return err_set(e, DR_EINVAL, "tools[%zu].function.strict has to be true or false", i);
    if (d && !json_is_null(d) && !json_is_string(d))
        return err_set(e, DR_EINVAL, "tools[%zu].function.description has to be a string", i);
    return DR_OK;
}

static int check_tools(const call_opt *o, dr_err *e)
{
    bool named = false;
    size_t n = json_array_size(o->tools);
    if (!json_is_array(o->tools)) return err_set(e, DR_EINVAL, "tools has to be a list");
    if (n > 1024) return err_set(e, DR_EINVAL, "%zu tools; at most 1024 are possible", n);
    for (size_t i = 0; i < n; i++) {
        int rc = check_tool(json_array_get(o->tools, i), i, e);
        if (rc) return rc;
        const json_t *name = json_object_get(json_object_get(json_array_get(o->tools, i), "function"), "name");
        named |= o->tool_name && !strcmp(json_string_value(name), o->tool_name);
        for (size_t k = 0; k < i; k++)
            if (json_equal(name, json_object_get(json_object_get(json_array_get(o->tools, k), "function"), "name")))
                return err_set(e, DR_EINVAL, "two tools are called %s", json_string_value(name));
    }
    if (o->tool_choice == CALL_TOOLS_NAMED && !named)
        return err_set(e, DR_EINVAL, "tool_choice names the function %.64s, which is not among the tools",
                       o->tool_name);
    return DR_OK;
}

/* ---- the whole */

static void put_end(call_plan *p, int32_t id)
{
    for (int i = 0; i < p->n_end; i++)
        if (p->end[i] == id) return;
    if (p->n_end < CALL_ENDS) p->end[p->n_end++] = id;
}

/* The ids that end an answer in this format: control tokens all. */
static void find_ends(const served *s, const chat_opt *c, call_plan *p)
{
    static const char *const usual[] = { "<|eot_id|>", "<|eom_id|>", "<|im_end|>", "</s>", "<|end|>",
                                         "<|eot|>", "<end_of_turn>" };
    if (c->kind == CHAT_JINJA) {                           // whatever the template puts behind an answer
        for (int32_t id = 0, n = tok_count(s->tok); id < n; id++)
            if (tok_is_control(s->tok, id) && chat_is_stop(s->tok, c, id)) put_end(p, id);
        return;
    }
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++) {
        int32_t id = tok_find(s->tok, span_of(usual[i]));
        if (id >= 0 && chat_is_stop(s->tok, c, id)) put_end(p, id);
    }
}

/* chat_template_kwargs: of a format of ours the few variables that it has, else the template's. */
static int apply_kwargs(const served *s, const call_opt *o, chat_opt *c, dr_err *e)
{
    const char *key;
    json_t *v;
    if (!o->kwargs) return DR_OK;
    if (!json_is_object(o->kwargs)) return err_set(e, DR_EINVAL, "chat_template_kwargs has to be an object");
    if (c->kind == CHAT_JINJA || (json_object_get(o->kwargs, "documents") && s->chat.template)) {
        c->kind = CHAT_JINJA, c->kwargs = o->kwargs;
        return DR_OK;
    }
    json_object_foreach((json_t *)(uintptr_t)o->kwargs, key, v) {
        if (!strcmp(key, "date_string") && json_is_string(v)) c->date = json_string_value(v);
        else if (!strcmp(key, "tools_in_user_message") && json_is_boolean(v)) c->tools_in_system = json_is_false(v);
        else if (!strcmp(key, "builtin_tools") && json_is_array(v)) c->builtin_tools = v;
        else if (s->chat.template) {
            c->kind = CHAT_JINJA, c->kwargs = o->kwargs;
            return DR_OK;
        } else
            return err_set(e, DR_EINVAL, "chat_template_kwargs.%.60s: this model's prompt format (%s) has no such "
                           "variable", key, chat_name(c->kind));
    }
    return DR_OK;
}

static json_t *all_shaped(const json_t *list, bool short_ids, dr_err *e)
{
    json_t *out = json_array();
    if (!out) return err_nomem(e, 64, "the conversation"), NULL;
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *m = shaped(json_array_get(list, i), i, short_ids, e);
        if (!m || json_array_append_new(out, m)) {
            json_decref(out);
            return NULL;
        }
    }
    return out;
}

/* "documents" has a place of its own beside the variables. *own: what to release. */
static int split_documents(chat_opt *c, json_t **own, dr_err *e)
{
    const json_t *d = json_object_get(c->kwargs, "documents");
    if (!d) return DR_OK;
    if (!json_is_array(d)) return err_set(e, DR_EINVAL, "documents has to be a list");
    *own = json_copy((json_t *)(uintptr_t)c->kwargs);
    if (!*own || json_object_del(*own, "documents")) return err_nomem(e, 64, "the template's variables");
    c->documents = d, c->kwargs = *own;
    return DR_OK;
}

/* The prompt up to where the last message, the model's own, stands: without what ends a message. */
static int open_end(const served *s, const chat_opt *c, ids *v, dr_err *e)
{
    for (int64_t n = v->n; n-- > 0;)
        if (chat_is_stop(s->tok, c, v->p[n]) || tok_is_eog(s->tok, v->p[n])) {
            v->n = n;
            return DR_OK;
        }
    return err_set(e, DR_EUNSUPPORTED, "this model's prompt format does not mark where an answer ends, so that none "
                   "can be continued");
}

int call_chat(served *s, const call_opt *o, bool text, call_plan *p, const char **param, dr_err *e)
{
    chat_opt c = s->chat;
    dr_err own = { 0 };
    json_t *list = NULL, *kwargs = NULL;
    chat_msg *m = NULL;
    size_t n = json_array_size(o->messages);
    bool use_tools = o->tools && json_array_size(o->tools) && o->tool_choice != CALL_TOOLS_NONE;
    *param = NULL;
    if (s->no_chat.code) {
        *param = "messages";
        return err_set(e, DR_EUNSUPPORTED, "%.60s has no chat format: %.300s; a prompt as it is can be completed",
                       s->id, s->no_chat.msg);
    }
    if (!e) e = &own;
    c.tools = NULL;
    if (!n) return err_set(e, DR_EINVAL, "messages has to be a list of at least one message"), bad(param, "messages", e);
    if (o->tools && check_tools(o, e)) return bad(param, "tools", e);
    if (!use_tools && (o->tool_choice == CALL_TOOLS_REQUIRED || o->tool_choice == CALL_TOOLS_NAMED))
        return err_set(e, DR_EINVAL, "tool_choice wants a call and there are no tools"), bad(param, "tool_choice", e);
    if (apply_kwargs(s, o, &c, e)) return bad(param, "chat_template_kwargs", e);
    if (use_tools) p->tools = json_incref((json_t *)(uintptr_t)o->tools);
    p->nine = c.kind == CHAT_MISTRAL_V3 || (c.kind == CHAT_JINJA && template_has(s, "[TOOL_CALLS]"));
    p->marked = tok_find(s->tok, span_of("<|python_tag|>")) >= 0 || tok_find(s->tok, span_of("[TOOL_CALLS]")) >= 0;
    list = all_shaped(o->messages, p->nine, e);
    if (!list) return bad(param, "messages", e);
    int rc = split_documents(&c, &kwargs, e);
    if (rc) {
        json_decref(list);
        json_decref(kwargs);
        return bad(param, "documents", e);
    }
    if (!call_format_has_tools(s, &c))
        rc = in_words(list, p->tools, c.kind != CHAT_MISTRAL_V0 && c.kind != CHAT_MISTRAL_V0_1, e);
    else c.tools = p->tools;
    n = json_array_size(list);
    if (!rc && !(m = mem_zalloc(n, sizeof *m))) rc = err_nomem(e, n * sizeof *m, "the conversation");
    for (size_t i = 0; !rc && i < n; i++) {
        const json_t *x = json_array_get(list, i);
        const char *its = json_string_value(json_object_get(x, "content"));
        m[i] = (chat_msg){ json_string_value(json_object_get(x, "role")), its, json_object_get(x, "tool_calls"),
                           json_string_value(json_object_get(x, "tool_call_id")), NULL };
        if (m[i].tool_calls && !*its) m[i].content = NULL;
        bool more = json_object_get(x, "name") || json_object_get(x, "reasoning_content")
                 || json_object_get(x, "reasoning");
        if (more && c.kind == CHAT_JINJA) m[i].json = x;
    }
    bool open = !rc && o->go_on;
    if (open && !role_is(json_array_get(list, n - 1), "assistant"))
        rc = err_set(e, DR_EINVAL, "the last message is to be continued and is not the assistant's");
    c.no_generation_prompt = open;
    if (!rc) rc = chat_encode(s->tok, &c, m, (int)n, &p->prompt, e);
    if (!rc && open) rc = open_end(s, &c, &p->prompt, e);
    if (!rc && text) {
        buf_init(&p->text, MAX_TEXT);
        rc = open ? tok_decode(s->tok, p->prompt.p, p->prompt.n, true, &p->text, e)
                  : chat_render(&c, m, (int)n, &p->text, e);
    }
    if (!rc) find_ends(s, &c, p);
    else *param = "messages";
    mem_free(m);
    json_decref(list);
    json_decref(kwargs);
    return rc;
}
