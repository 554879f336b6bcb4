/* chat_jinja.c - a conversation through the model's own template. What the template wrote is
 * tokenised with its control tokens live; what came in with the conversation is plain text. */
#include <string.h>
#include "base/mem.h"
#include "text/chat_out.h"
#include "text/jinja.h"

enum { MAX_VARS = 64 };

struct chat_template {
    jinja *plain, *tools;         /* tools: NULL when there is no variant for them */
    char *bos, *eos;
    int32_t stop;                 /* the control token behind an answer; -1: not found out */
};

void chat_template_free(chat_template *c)
{
    if (!c) return;
    jinja_free(c->plain);
    jinja_free(c->tools);
    mem_free(c->bos);
    mem_free(c->eos);
    mem_free(c);
}

static char *token_text(const tokenizer *t, int32_t id)
{
    span s = id >= 0 ? tok_text(t, id) : span_of("");
    return mem_strndup(s.p ? s.p : "", s.n);
}

/* ---- messages */

/* The function that a tool's message answers: some templates want its name. */
static const char *function_name(const chat_msg *m, int at)
{
    for (int i = at; i-- > 0;) {
        size_t n = json_array_size(m[i].tool_calls);
        for (size_t k = 0; k < n; k++) {
            const json_t *call = json_array_get(m[i].tool_calls, k);
            const char *id = json_string_value(json_object_get(call, "id"));
            const json_t *f = json_object_get(call, "function");
            const char *name = json_string_value(json_object_get(f ? f : call, "name"));
            if (!m[at].tool_call_id && n == 1) return name;
            if (id && m[at].tool_call_id && !strcmp(id, m[at].tool_call_id)) return name;
        }
    }
    return NULL;
}

static json_t *message(const chat_msg *m, int i)
{
    if (m[i].json) return json_incref((json_t *)(uintptr_t)m[i].json);
    json_t *o = json_pack("{s:s, s:s}", "role", m[i].role, "content",
                          m[i].content ? m[i].content : "");
    if (o && m[i].tool_calls)
        json_object_set(o, "tool_calls", (json_t *)(uintptr_t)m[i].tool_calls);
    if (o && m[i].tool_call_id)
        json_object_set_new(o, "tool_call_id", json_string(m[i].tool_call_id));
    const char *name = o && chat_role_is(&m[i], "tool") ? function_name(m, i) : NULL;
    if (name) json_object_set_new(o, "name", json_string(name));
    return o;
}

static json_t *messages(const chat_msg *m, int n, dr_err *e)
{
    json_t *list = json_array();
    for (int i = 0; i < n && list; i++) {
        if (!m[i].json && (!m[i].role || !*m[i].role)) {
            err_set(e, DR_EINVAL, "message %d has no role", i + 1);
        } else if (!json_array_append_new(list, message(m, i))) {
            continue;
        } else {
            err_set(e, DR_EINVAL, "message %d is not valid UTF-8", i + 1);
        }
        json_decref(list);
        return NULL;
    }
    if (!list) err_nomem(e, 64, "the conversation");
    return list;
}

/* ---- rendering */

typedef struct { jinja_var v[MAX_VARS]; int n; } vars;

static void tree(vars *x, const char *name, const json_t *v)
{
    x->v[x->n++] = (jinja_var){ .name = name, .kind = JINJA_TREE, .json = v };
}

static void own(vars *x, const char *name, const char *s)
{
    x->v[x->n++] = (jinja_var){ .name = name, .kind = JINJA_OWN, .text = span_of(s) };
}

static int render(const chat_opt *o, const chat_msg *m, int n, jinja_out *out, dr_err *e)
{
    const chat_template *c = o->template;
    if (!c) return err_set(e, DR_EINVAL, "the format jinja without a template");
    if (n <= 0) return err_set(e, DR_EINVAL, "a conversation without messages");
    if (json_object_size(o->kwargs) > MAX_VARS - 12)
        return err_set(e, DR_EINVAL, "more than %d variables for the template", MAX_VARS - 12);
    json_t *list = messages(m, n, e), *value;
    if (!list) return e ? e->code : DR_EINVAL;
    const char *key;
    vars x = { .n = 0 };
    x.v[x.n++] = (jinja_var){ .name = "messages", .kind = JINJA_TREE, .json = list, .roles = true,
                              .calls = true };
    tree(&x, "tools", o->tools ? o->tools : json_null());
    tree(&x, "documents", o->documents ? o->documents : json_null());
    tree(&x, "add_generation_prompt", o->no_generation_prompt ? json_false() : json_true());
    own(&x, "bos_token", c->bos);
    own(&x, "eos_token", c->eos);
    if (o->builtin_tools) tree(&x, "builtin_tools", o->builtin_tools);
    if (o->tools_in_system) tree(&x, "tools_in_user_message", json_false());
    if (o->date)
        x.v[x.n++] = (jinja_var){ .name = "date_string", .kind = JINJA_STRING,
                                  .text = span_of(o->date) };
    json_object_foreach((json_t *)(uintptr_t)o->kwargs, key, value) tree(&x, key, value);
    jinja_opt opt = { .now = o->now };
    int rc = jinja_render(c->tools && o->tools ? c->tools : c->plain, x.v, x.n, &opt, out, e);
    json_decref(list);
    return rc;
}

int chat_jinja_render(const chat_opt *o, const chat_msg *m, int n, buf *out, dr_err *e)
{
    jinja_out r = { 0 };
    int rc = render(o, m, n, &r, e);
    if (!rc) {
        buf_put(out, r.text.p, r.text.n);
        if (out->bad) rc = err_nomem(e, r.text.n, "the prompt");
    }
    jinja_out_free(&r);
    return rc;
}

/* Exactly one BOS at the start, if the model wants one or the template prints one. */
static int one_bos(const tokenizer *t, ids *out, int64_t had, dr_err *e)
{
    int32_t bos = tok_bos(t);
    int64_t n = 0;
    if (bos < 0) return 0;
    while (had + n < out->n && out->p[had + n] == bos) n++;
    if (n > 1) {
        memmove(out->p + had + 1, out->p + had + n, (size_t)(out->n - had - n) * sizeof *out->p);
        out->n -= n - 1;
    } else if (!n && tok_wants_bos(t)) {
        int rc = ids_put(out, bos, e);
        if (rc) return rc;
        memmove(out->p + had + 1, out->p + had, (size_t)(out->n - had - 1) * sizeof *out->p);
        out->p[had] = bos;
    }
    return 0;
}

/* Llama Guard 3's template has a blank in front of its BOS: such a one goes. */
static size_t blank_before_bos(const tokenizer *t, span s, const uint8_t *mark)
{
    span bos = tok_bos(t) >= 0 ? tok_text(t, tok_bos(t)) : span_of("");
    size_t i = 0;
    while (i < s.n && s.p[i] && strchr(" \t\r\n", s.p[i]) && !mark[i]) i++;
    if (!bos.n || bos.n > s.n - i || memcmp(s.p + i, bos.p, bos.n)) return 0;
    return memchr(mark + i, 1, bos.n) ? 0 : i;
}

int chat_encode_marked(const tokenizer *t, span text, const uint8_t *mark, ids *out, dr_err *e)
{
    int64_t had = out->n;
    size_t skip = text.n ? blank_before_bos(t, text, mark) : 0;
    span s = text.n ? (span){ text.p + skip, text.n - skip } : span_of("");
    int rc = tok_encode_marked(t, s, s.n ? mark + skip : NULL, TOK_SPECIAL, out, e);
    if (!rc) rc = one_bos(t, out, had, e);
    if (rc) out->n = had;
    return rc;
}

int chat_jinja_encode(const tokenizer *t, const chat_opt *o, const chat_msg *m, int n, ids *out,
                      dr_err *e)
{
    jinja_out r = { 0 };
    int rc = render(o, m, n, &r, e);
    if (!rc) rc = chat_encode_marked(t, buf_span(&r.text), (const uint8_t *)r.mark.p, out, e);
    jinja_out_free(&r);
    return rc;
}

/* ---- what ends an answer */

/* The first control token behind an assistant's text. A template that does not take the question
 * leaves it open; then the vocabulary's own ends are all there is. */
static int32_t find_stop(const tokenizer *t, const chat_template *c)
{
    static const chat_msg m[] = { { .role = "user", .content = "a" },
                                  { .role = "assistant", .content = "\x7f" } };
    chat_opt o = { .kind = CHAT_JINJA, .template = c, .no_generation_prompt = true };
    jinja_out r = { 0 };
    ids v = { 0 };
    int32_t stop = -1;
    if (!render(&o, m, 2, &r, NULL)) {
        char *at = r.text.n ? memchr(r.text.p, 0x7f, r.text.n) : NULL;
        size_t from = at ? (size_t)(at - r.text.p) : r.text.n;
        span rest = { r.text.p + from, r.text.n - from };
        if (rest.n && !tok_encode_marked(t, rest, (uint8_t *)r.mark.p + from, TOK_SPECIAL, &v, NULL))
            for (int64_t i = 0; i < v.n && stop < 0; i++)
                if (tok_is_control(t, v.p[i])) stop = v.p[i];
    }
    ids_free(&v);
    jinja_out_free(&r);
    return stop;
}

bool chat_jinja_is_stop(const chat_template *c, int32_t id) { return id >= 0 && id == c->stop; }

chat_template *chat_template_open(const tokenizer *t, span text, dr_err *e)
{
    chat_template *c = mem_zalloc(1, sizeof *c);
    bool own_text = !text.n;
    if (!c) {
        err_nomem(e, sizeof *c, "a chat template");
        return NULL;
    }
    if (own_text) text = tok_chat_template(t);
    span tools = own_text ? tok_chat_template_named(t, "tool_use") : span_of("");
    if (!text.n) text = tools;
    c->bos = token_text(t, tok_bos(t)), c->eos = token_text(t, tok_eos(t)), c->stop = -1;
    if (!text.n) err_set(e, DR_EUNSUPPORTED, "this model has no chat template");
    else if (!c->bos || !c->eos) err_nomem(e, 16, "a chat template");
    else c->plain = jinja_parse(text, e);
    bool ok = c->plain != NULL;
    if (ok && tools.n) ok = (c->tools = jinja_parse(tools, e)) != NULL;
    if (!ok) {
        chat_template_free(c);
        return NULL;
    }
    c->stop = find_stop(t, c);
    return c;
}
