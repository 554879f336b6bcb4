/* call_form.c - what a reply has to look like, as one grammar: the caller's schema, grammar or pattern,
 * and calls of functions whose arguments follow their schemas.
 *
 * Schemas of several sources stand side by side under "$defs" of one, so that references inside each,
 * which start at its own root, are moved there with it. */
#include <string.h>
#include "base/mem.h"
#include "format/json.h"
#include "serve/call_priv.h"

enum { MAX_CALLS = 32 };
#define MAX_SCHEMA ((size_t)4 << 20)

/* A copy in which "#…" means what "#" + to + "…" does. NULL: no memory. */
static json_t *moved(const json_t *v, const char *to, bool root, int depth)
{
    const char *key;
    json_t *x;
    size_t i;
    if (depth > 200) return NULL;
    if (json_is_array(v)) {
        json_t *list = json_array();
        json_array_foreach((json_t *)(uintptr_t)v, i, x)
            if (!list || json_array_append_new(list, moved(x, to, false, depth + 1))) return json_decref(list), NULL;
        return list;
    }
    if (!json_is_object(v)) return json_incref((json_t *)(uintptr_t)v);
    json_t *o = json_object();
    json_object_foreach((json_t *)(uintptr_t)v, key, x) {
        bool data = !strcmp(key, "const") || !strcmp(key, "enum") || !strcmp(key, "default") || !strcmp(key, "examples");
        const char *ref = !strcmp(key, "$ref") ? json_string_value(x) : NULL;
        json_t *y;
        if (root && (!strcmp(key, "$schema") || !strcmp(key, "$id"))) continue;
        if (ref && ref[0] == '#' && (ref[1] == 0 || ref[1] == '/')) y = json_sprintf("#/$defs/%s%s", to, ref + 1);
        else y = data ? json_incref(x) : moved(x, to, false, depth + 1);
        if (!o || json_object_set_new(o, key, y)) return json_decref(o), NULL;
    }
    return o;
}

static bool is_strict(const json_t *function)
{
    return json_is_true(json_object_get(function, "strict"));
}

/* The schema of a function's arguments. `loose`: any object where strict was not asked for. */
static json_t *args_schema(const json_t *function, const char *name, bool loose)
{
    const json_t *p = json_object_get(function, "parameters");
    if (loose && !is_strict(function)) return json_pack("{s:s}", "type", "object");
    if (!json_is_object(p) || !json_object_size(p))
        return json_pack("{s:s, s:b}", "type", "object", "additionalProperties", json_is_object(p));
    json_t *s = moved(p, name, true, 0);
    if (s && !json_object_get(s, "type") && !json_object_get(s, "$ref") && !json_object_get(s, "anyOf"))
        json_object_set_new(s, "type", json_string("object"));
    return s;
}

/* {"name": …, "parameters": …} of one of the functions that may be called. */
static json_t *one_call(const call_opt *o, const json_t *tools, const char *key, bool loose, json_t *defs)
{
    json_t *any = json_array();
    for (size_t i = 0; i < json_array_size(tools); i++) {
        const json_t *f = json_object_get(json_array_get(tools, i), "function");
        const char *name = json_string_value(json_object_get(f, "name"));
        char def[24], ref[40];
        if (o->tool_choice == CALL_TOOLS_NAMED && strcmp(name, o->tool_name)) continue;
        snprintf(def, sizeof def, "f%zu", i);
        snprintf(ref, sizeof ref, "#/$defs/f%zu", i);
        if (json_object_set_new(defs, def, args_schema(f, def, loose))) return json_decref(any), NULL;
        json_t *x = json_pack("{s:s, s:{s:{s:s}, s:{s:s}}, s:[s, s], s:b}", "type", "object", "properties",
                              "name", "const", name, key, "$ref", ref, "required", "name", key,
                              "additionalProperties", 0);
        if (json_array_append_new(any, x)) return json_decref(any), NULL;
    }
    return json_pack("{s:o}", "anyOf", any);
}

/* The whole schema: calls, and with `reply` that beside them. NULL: no memory. */
static json_t *calls_schema(served *s, const call_opt *o, const json_t *tools, const json_t *reply, bool loose)
{
    const char *key = call_args_key(s, &s->chat);
    bool list_only = s->chat.kind == CHAT_MISTRAL_V3;
    json_t *defs = json_object(), *any = json_array();
    bool ok = defs && any && !json_object_set_new(defs, "call", one_call(o, tools, key, loose, defs));
    if (ok && !list_only) ok = !json_array_append_new(any, json_pack("{s:s}", "$ref", "#/$defs/call"));
    if (ok && (list_only || !o->one_tool)) {
        int most = o->one_tool ? 1 : MAX_CALLS;
        ok = !json_array_append_new(any, json_pack("{s:s, s:{s:s}, s:i, s:i}", "type", "array", "items", "$ref",
                                                   "#/$defs/call", "minItems", 1, "maxItems", most));
    }
    if (ok && reply) {
        ok = !json_object_set_new(defs, "reply", moved(reply, "reply", true, 0));
        if (ok) ok = !json_array_append_new(any, json_pack("{s:s}", "$ref", "#/$defs/reply"));
    }
    json_t *all = ok ? json_pack("{s:O, s:O}", "anyOf", any, "$defs", defs) : NULL;
    json_decref(any);
    json_decref(defs);
    return all;
}

static grammar *compile(served *s, grammar_kind k, span text, dr_err *e)
{
    if (!s->vt) return err_set(e, DR_EUNSUPPORTED, "this model's vocabulary cannot be held to a grammar"), NULL;
    return grammar_new(k, text, s->vt, e);
}

static grammar *compile_json(served *s, const json_t *schema, dr_err *e)
{
    if (!schema) return err_nomem(e, 64, "the schema of calls"), NULL;
    if (json_dumpb(schema, NULL, 0, JSON_COMPACT) > MAX_SCHEMA)
        return err_set(e, DR_EINVAL, "the tools' schemas together are above %zu bytes", MAX_SCHEMA), NULL;
    buf b = { .cap_max = 2 * MAX_SCHEMA };
    chat_tojson(&b, schema, 0, false);
    grammar *g = b.bad ? NULL : compile(s, GRAMMAR_SCHEMA, buf_span(&b), e);
    if (b.bad) err_nomem(e, b.n, "the schema of calls");
    buf_free(&b);
    return g;
}

/* Calls by their schemas; where those say what cannot be enforced and strict was not asked for, by
 * name with any object. */
static int form_of_calls(served *s, const call_opt *o, call_plan *p, const json_t *reply, const char **param,
                         dr_err *e)
{
    dr_err first = { 0 }, second = { 0 };
    json_t *all = calls_schema(s, o, p->tools, reply, false);
    p->form = compile_json(s, all, &first);
    json_decref(all);
    if (!p->form && first.code != DR_ENOMEM) {
        all = calls_schema(s, o, p->tools, reply, true);
        p->form = compile_json(s, all, &second);
        json_decref(all);
    }
    if (p->form) return DR_OK;
    *param = "tools";
    return err_set(e, first.code, "%s", first.msg);
}

int call_form(served *s, const call_opt *o, call_plan *p, const char **param, dr_err *e)
{
    bool must = p->tools && (o->tool_choice == CALL_TOOLS_REQUIRED || o->tool_choice == CALL_TOOLS_NAMED);
    span schema = o->format == CALL_JSON_OBJECT ? span_of("{\"type\": \"object\"}") : o->schema;
    grammar_kind k = o->format == CALL_GBNF ? GRAMMAR_GBNF : o->format == CALL_REGEX ? GRAMMAR_REGEX : GRAMMAR_SCHEMA;
    *param = NULL;
    if (must) {
        p->forced = true;
        p->key = call_args_key(s, &s->chat);
        return form_of_calls(s, o, p, NULL, param, e);
    }
    if (o->format == CALL_TEXT_FORMAT) return DR_OK;
    if (!p->tools) {
        p->form = compile(s, k, schema, e);
        if (!p->form) *param = k == GRAMMAR_SCHEMA ? "response_format" : "grammar";
        return p->form ? DR_OK : e ? e->code : DR_EINVAL;
    }
    if (k != GRAMMAR_SCHEMA) {
        *param = "tools";
        return err_set(e, DR_EINVAL, "a grammar and tools that may be called do not go together; tool_choice none or "
                       "no grammar is wanted");
    }
    json_t *reply = json_read(schema.p, schema.n, (size_t)80 * MAX_SCHEMA, "the schema", e);
    *param = "response_format";
    if (!reply) return e ? e->code : DR_EFORMAT;
    int rc = form_of_calls(s, o, p, reply, param, e);
    json_decref(reply);
    return rc;
}
