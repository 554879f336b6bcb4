/* chat_mistral.c - Mistral's third format: control tokens, tools before the last user message,
 * calls and results with nine-character ids. Spec: the chat_template of Mistral-7B-Instruct-v0.3. */
#include <string.h>
#include "text/chat_out.h"

static bool is_tool_message(const chat_msg *m)
{
    return m->tool_calls || chat_role_is(m, "tool") || chat_role_is(m, "tool_results");
}

static const char *text_of(const chat_msg *m) { return m->content ? m->content : ""; }

static void space(chat_out *out)
{
    if (!(out->own_space && out->txt.n == 0)) chat_put(out, " ");
}

/* {"type": "function", "function": {...}}: texts are put in quotes as they are. */
static void one_tool(const json_t *tool, chat_out *out)
{
    const json_t *f = json_object_get(tool, "function");
    const char *key;
    json_t *v;
    bool first = true;
    if (!json_is_object(f)) {
        chat_fail(out, DR_EINVAL, "a tool without a function");
        return;
    }
    chat_put(out, "{\"type\": \"function\", \"function\": {");
    json_object_foreach((json_t *)(uintptr_t)f, key, v) {
        if (!strcmp(key, "return")) continue;
        buf_printf(&out->txt, "%s\"%s\": ", first ? "" : ", ", key);
        if (json_is_string(v)) buf_printf(&out->txt, "\"%s\"", json_string_value(v));
        else chat_put_json(out, v, 0, false);
        first = false;
    }
    chat_put(out, "}}");
}

static void tools(const chat_opt *o, chat_out *out)
{
    size_t n = json_array_size(o->tools);
    out->ctl(out, "[AVAILABLE_TOOLS]");
    space(out);
    chat_put(out, "[");
    for (size_t i = 0; i < n; i++) {
        if (i) chat_put(out, ", ");
        one_tool(json_array_get(o->tools, i), out);
    }
    if (n) chat_put(out, "]");
    out->ctl(out, "[/AVAILABLE_TOOLS]");
}

static bool good_id(const char *id, chat_out *out)
{
    if (id && strlen(id) == 9) return true;
    chat_fail(out, DR_EINVAL, "Mistral's tool call ids are alphanumeric texts of length 9; found "
              "'%.40s'", id ? id : "");
    return false;
}

static void one_call(const json_t *call, chat_out *out)
{
    const char *id = json_string_value(json_object_get(call, "id"));
    json_t *f = json_object_get(call, "function");
    json_t *args = chat_call_name(out, call) ? chat_call_args(out, call) : NULL;
    if (!args || !f || !good_id(id, out)) {
        json_decref(args);
        return;
    }
    json_t *copy = json_copy(f);
    if (!copy || json_object_set(copy, "arguments", args)) out->txt.bad = true;
    else chat_put_json(out, copy, 0, false);
    if (!out->txt.bad) out->txt.p[--out->txt.n] = 0;         /* the closing brace */
    buf_printf(&out->txt, ", \"id\": \"%s\"}", id);
    json_decref(copy);
    json_decref(args);
}

static void calls(const chat_msg *m, chat_out *out)
{
    size_t n = json_array_size(m->tool_calls);
    out->ctl(out, "[TOOL_CALLS]");
    space(out);
    chat_put(out, "[");
    for (size_t i = 0; i < n; i++) {
        if (i) chat_put(out, ", ");
        one_call(json_array_get(m->tool_calls, i), out);
    }
    if (!n) return;
    chat_put(out, "]");
    out->ctl(out, "</s>");
}

static void result(const chat_msg *m, chat_out *out)
{
    if (!good_id(m->tool_call_id, out)) return;
    out->ctl(out, "[TOOL_RESULTS]");
    space(out);
    buf_printf(&out->txt, "{\"content\": %s, \"call_id\": \"%s\"}", text_of(m), m->tool_call_id);
    out->ctl(out, "[/TOOL_RESULTS]");
}

static void user(const chat_opt *o, const chat_msg *m, const char *system, bool with_tools,
                 chat_out *out)
{
    if (with_tools) tools(o, out);
    out->ctl(out, "[INST]");
    space(out);
    if (system) {
        chat_put(out, system);
        chat_put(out, "\n\n");
    }
    chat_put(out, text_of(m));
    out->ctl(out, "[/INST]");
}

void chat_write_mistral_v3(const chat_opt *o, const chat_msg *m, int n, chat_out *out)
{
    const char *system = NULL, *last_user = NULL;
    if (o->builtin_tools) {
        chat_fail(out, DR_EUNSUPPORTED, "Mistral's prompt format has no built-in tools");
        return;
    }
    if (chat_role_is(m, "system")) system = text_of(m), m++, n--;
    for (int i = 0, turn = 0; i < n; i++) {
        if (chat_role_is(&m[i], "user")) last_user = text_of(&m[i]);
        if (is_tool_message(&m[i])) continue;
        if (!chat_role_is(&m[i], turn++ % 2 ? "assistant" : "user")) {
            chat_fail(out, DR_EINVAL, "after an optional system message, roles must alternate "
                      "user, assistant, user, ...; message %d is from '%.20s'", i + 1, m[i].role);
            return;
        }
    }
    out->ctl(out, "<s>");
    for (int i = 0; i < n && !out->rc; i++) {
        if (chat_role_is(&m[i], "user")) {
            /* the template compares messages by value: an equal one counts as the last */
            bool last = last_user && !strcmp(text_of(&m[i]), last_user);
            user(o, &m[i], i == n - 1 ? system : NULL, o->tools && last, out);
        } else if (m[i].tool_calls) {
            calls(&m[i], out);
        } else if (is_tool_message(&m[i])) {
            result(&m[i], out);
        } else {
            space(out);
            chat_put_span(out, chat_trim(m[i].content));
            out->ctl(out, "</s>");
        }
    }
}
