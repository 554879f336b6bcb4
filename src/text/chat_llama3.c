/* chat_llama3.c - Llama 3.1-3.3 with tools: Hugging Face's template, quirks included, and Meta's
 * ChatFormat. Spec: the chat_template of meta-llama/Llama-3.1-8B-Instruct and Llama-3.2-3B-
 * Instruct; llama_models/llama3/chat_format.py and tool_utils.py, llama3_1/prompt_format.md. */
#define _POSIX_C_SOURCE 200809L
#include <string.h>
#include <time.h>
#include "text/chat_out.h"

static void header(chat_out *out, const char *role)
{
    out->ctl(out, "<|start_header_id|>");
    chat_put(out, role);
    out->ctl(out, "<|end_header_id|>");
    chat_put(out, "\n\n");
}

static void put_tools(const chat_opt *o, chat_out *out)
{
    for (size_t i = 0; i < json_array_size(o->tools); i++) {
        chat_put_json(out, json_array_get(o->tools, i), 4, false);
        chat_put(out, "\n\n");
    }
}

/* strftime("%d %b %Y") in English whatever the locale. */
static void put_today(chat_out *out)
{
    static const char *const month[] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
    time_t now = time(NULL);
    struct tm t;
    if (!localtime_r(&now, &t)) chat_fail(out, DR_EINVAL, "the system has no date");
    else buf_printf(&out->txt, "%02d %s %d", t.tm_mday, month[t.tm_mon], 1900 + t.tm_year);
}

static void hf_system(const chat_opt *o, span text, chat_out *out)
{
    header(out, "system");
    if (o->builtin_tools || o->tools) chat_put(out, "Environment: ipython\n");
    if (o->builtin_tools) {
        bool first = true;
        chat_put(out, "Tools: ");
        for (size_t i = 0; i < json_array_size(o->builtin_tools); i++) {
            const char *s = json_string_value(json_array_get(o->builtin_tools, i));
            if (!s) chat_fail(out, DR_EINVAL, "builtin_tools is not a list of names");
            if (!s || !strcmp(s, "code_interpreter")) continue;
            if (!first) chat_put(out, ", ");
            chat_put(out, s);
            first = false;
        }
        chat_put(out, "\n\n");
    }
    chat_put(out, "Cutting Knowledge Date: December 2023\nToday Date: ");
    if (o->date) chat_put(out, o->date);
    else if (o->kind == CHAT_LLAMA3_2_HF) put_today(out);
    else chat_put(out, "26 Jul 2024");
    chat_put(out, "\n\n");
    if (o->tools && o->tools_in_system) {
        chat_put(out, "You have access to the following functions. To call a function, please "
                 "respond with JSON for a function call.Respond in the format {\"name\": function "
                 "name, \"parameters\": dictionary of argument name and its value}.Do not use "
                 "variables.\n\n");
        put_tools(o, out);
    }
    chat_put_span(out, text);
    out->ctl(out, "<|eot_id|>");
}

static bool is_builtin(const chat_opt *o, const char *name)
{
    for (size_t i = 0; i < json_array_size(o->builtin_tools); i++) {
        const char *s = json_string_value(json_array_get(o->builtin_tools, i));
        if (s && !strcmp(s, name)) return true;
    }
    return false;
}

/* brave_search.call(query="...") : the template puts values in quotes as they are. */
static void builtin_call(const char *name, const json_t *args, chat_out *out)
{
    const char *key;
    json_t *v;
    bool first = true;
    out->ctl(out, "<|python_tag|>");
    chat_put(out, name);
    chat_put(out, ".call(");
    json_object_foreach((json_t *)(uintptr_t)args, key, v) {
        if (!json_is_string(v)) {
            chat_fail(out, DR_EINVAL, "argument '%.40s' of built-in tool %.40s is not a text", key,
                      name);
            return;
        }
        buf_printf(&out->txt, "%s%s=\"%s\"", first ? "" : ", ", key, json_string_value(v));
        first = false;
    }
    chat_put(out, ")");
}

static void hf_call(const chat_opt *o, const chat_msg *m, chat_out *out)
{
    if (json_array_size(m->tool_calls) != 1) {
        chat_fail(out, DR_EINVAL, "this model only supports single tool-calls at once; the message "
                  "has %zu", json_array_size(m->tool_calls));
        return;
    }
    const json_t *call = json_array_get(m->tool_calls, 0);
    const char *name = chat_call_name(out, call);
    json_t *args = name ? chat_call_args(out, call) : NULL;
    if (!args) return;
    header(out, "assistant");
    if (is_builtin(o, name)) {
        if (json_is_object(args)) builtin_call(name, args, out);
        else chat_fail(out, DR_EINVAL, "arguments of built-in tool %.40s are not an object", name);
    } else {
        buf_printf(&out->txt, "{\"name\": \"%s\", \"parameters\": ", name);
        chat_put_json(out, args, 0, false);
        chat_put(out, "}");
    }
    out->ctl(out, o->builtin_tools ? "<|eom_id|>" : "<|eot_id|>");
    json_decref(args);
}

/* A string counts as iterable in Jinja, so a text result is written as a JSON string. */
static void hf_result(const chat_msg *m, chat_out *out)
{
    header(out, "ipython");
    json_t *s = json_string(m->content ? m->content : "");
    if (s) chat_put_json(out, s, 0, false);
    else chat_fail(out, DR_EINVAL, "a tool's result is not valid UTF-8");
    json_decref(s);
    out->ctl(out, "<|eot_id|>");
}

void chat_write_llama3_hf(const chat_opt *o, const chat_msg *m, int n, chat_out *out)
{
    if (o->builtin_tools && o->kind == CHAT_LLAMA3_2_HF) {
        chat_fail(out, DR_EUNSUPPORTED, "Llama 3.2's prompt format has no built-in tools");
        return;
    }
    span system = { "", 0 };
    if (chat_role_is(m, "system")) system = chat_trim(m->content), m++, n--;
    out->ctl(out, "<|begin_of_text|>");
    hf_system(o, system, out);
    if (o->tools && !o->tools_in_system) {
        if (!n) {
            chat_fail(out, DR_EINVAL, "cannot put tools in the first user message when there is no "
                      "first user message");
            return;
        }
        header(out, "user");
        chat_put(out, "Given the following functions, please respond with a JSON for a function "
                 "call with its proper arguments that best answers the given prompt.\n\nRespond in "
                 "the format {\"name\": function name, \"parameters\": dictionary of argument name "
                 "and its value}.Do not use variables.\n\n");
        put_tools(o, out);
        chat_put_span(out, chat_trim(m->content));
        out->ctl(out, "<|eot_id|>");
        m++, n--;
    }
    for (int i = 0; i < n && !out->rc; i++) {
        if (m[i].tool_calls) {
            hf_call(o, &m[i], out);
        } else if (chat_role_is(&m[i], "tool")) {
            hf_result(&m[i], out);
        } else {
            header(out, m[i].role);
            chat_put_span(out, chat_trim(m[i].content));
            out->ctl(out, "<|eot_id|>");
        }
    }
    if (!o->no_generation_prompt) header(out, "assistant");
}

/* ---- Meta's ChatFormat: contents as they are; header, content and each call are tokenised
 * apart, as encode_message does ---- */

static void meta_header(chat_out *out, const char *role)
{
    header(out, role);
    out->cut(out);
}

/* ToolUtils.encode_tool_call, in its JSON form. */
static void meta_call(const char *name, const json_t *args, chat_out *out)
{
    static const char *const search[] = { "brave_search", "wolfram_alpha", "photogen" };
    for (size_t i = 0; i < sizeof search / sizeof search[0]; i++) {
        if (strcmp(name, search[i])) continue;
        const char *q = json_string_value(json_object_get(args, "query"));
        if (!q) chat_fail(out, DR_EINVAL, "built-in tool %s without a query", name);
        else buf_printf(&out->txt, "%s.call(query=\"%s\")", name, q);
        return;
    }
    if (!strcmp(name, "code_interpreter")) {
        const char *code = json_string_value(json_object_get(args, "code"));
        if (!code) chat_fail(out, DR_EINVAL, "built-in tool code_interpreter without code");
        else chat_put(out, code);
        return;
    }
    json_t *s = json_string(name);
    if (!s) {
        chat_fail(out, DR_EINVAL, "a tool's name is not valid UTF-8");
        return;
    }
    chat_put(out, "{\"type\": \"function\", \"name\": ");
    chat_put_json(out, s, 0, true);
    chat_put(out, ", \"parameters\": ");
    chat_put_json(out, args, 0, true);
    chat_put(out, "}");
    json_decref(s);
}

static void meta_message(const chat_msg *m, bool ipython, chat_out *out)
{
    bool assistant = chat_role_is(m, "assistant");
    size_t n = assistant ? json_array_size(m->tool_calls) : 0;
    meta_header(out, chat_role_is(m, "tool") ? "ipython" : m->role);
    if (n) {
        const char *first = chat_call_name(out, json_array_get(m->tool_calls, 0));
        if (first && !strcmp(first, "code_interpreter")) out->ctl(out, "<|python_tag|>");
    }
    chat_put(out, m->content ? m->content : "");
    for (size_t i = 0; i < n; i++) {
        out->cut(out);
        const json_t *call = json_array_get(m->tool_calls, i);
        const char *name = chat_call_name(out, call);
        json_t *args = name ? chat_call_args(out, call) : NULL;
        if (!args) return;
        meta_call(name, args, out);
        json_decref(args);
    }
    out->ctl(out, n && ipython ? "<|eom_id|>" : "<|eot_id|>");
}

/* prompt_format.md, "JSON based tool calling": the tools are a user message of their own. */
static void meta_tools(const chat_opt *o, chat_out *out)
{
    meta_header(out, "user");
    chat_put(out, "Answer the user's question by making use of the following functions if needed.\n"
             "If none of the function can be used, please say so.\n"
             "Here is a list of functions in JSON format:\n");
    for (size_t i = 0; i < json_array_size(o->tools); i++) {
        chat_put_json(out, json_array_get(o->tools, i), 4, false);
        chat_put(out, "\n");
    }
    chat_put(out, "\nReturn function calls in JSON format.");
    out->ctl(out, "<|eot_id|>");
}

void chat_write_llama3_meta(const chat_opt *o, const chat_msg *m, int n, chat_out *out)
{
    bool system = chat_role_is(m, "system");
    bool ipython = o->builtin_tools
                || (system && m->content && strstr(m->content, "Environment: ipython"));
    out->ctl(out, "<|begin_of_text|>");
    for (int i = 0; i < n && !out->rc; i++) {
        if (o->tools && i == (system ? 1 : 0)) meta_tools(o, out);
        meta_message(&m[i], ipython, out);
    }
    if (o->tools && system && n == 1) meta_tools(o, out);
    if (!o->no_generation_prompt) meta_header(out, "assistant");
}
