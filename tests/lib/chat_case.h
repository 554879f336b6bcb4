/* chat_case.h - one conversation of tests/golden/data/chat_*.json as the program's own types.
 * Used by the text and the id replay. */
#ifndef TESTS_CHAT_CASE_H
#define TESTS_CHAT_CASE_H
#include <jansson.h>
#include <string.h>
#include "text/chat.h"

#define CHAT_CASE_MAX 16

typedef struct {
    const char *name, *text, *error;
    chat_opt o;
    chat_msg m[CHAT_CASE_MAX];
    int n;
} chat_case;

/* Borrows from `c`. False: the case does not fit. */
static inline bool chat_case_read(chat_case *x, const json_t *c)
{
    const json_t *opt = json_object_get(c, "opt"), *m;
    size_t i;
    memset(x, 0, sizeof *x);
    x->name = json_string_value(json_object_get(c, "name"));
    x->text = json_string_value(json_object_get(c, "text"));
    x->error = json_string_value(json_object_get(c, "error"));
    if (chat_by_name(json_string_value(json_object_get(c, "kind")), &x->o.kind, NULL)) return false;
    x->o.date = json_string_value(json_object_get(opt, "date"));
    x->o.tools = json_object_get(opt, "tools");
    x->o.builtin_tools = json_object_get(opt, "builtin_tools");
    x->o.tools_in_system = json_is_true(json_object_get(opt, "tools_in_system"));
    x->o.no_generation_prompt = json_is_true(json_object_get(opt, "no_generation_prompt"));
    json_array_foreach(json_object_get(c, "messages"), i, m) {
        if (i >= CHAT_CASE_MAX) return false;
        x->m[x->n++] = (chat_msg){
            .role = json_string_value(json_object_get(m, "role")),
            .content = json_string_value(json_object_get(m, "content")),
            .tool_calls = json_object_get(m, "tool_calls"),
            .tool_call_id = json_string_value(json_object_get(m, "tool_call_id")),
        };
    }
    return true;
}

/* OpenAI's clients send arguments as JSON text: the same case in that form. */
static inline void chat_case_text_args(const json_t *c)
{
    size_t i, k;
    json_t *m, *call;
    json_array_foreach(json_object_get(c, "messages"), i, m)
        json_array_foreach(json_object_get(m, "tool_calls"), k, call) {
            json_t *f = json_object_get(call, "function");
            char *s = json_dumps(json_object_get(f, "arguments"), JSON_ENCODE_ANY);
            json_object_set_new(f, "arguments", json_string(s));
            free(s);
        }
}
#endif
