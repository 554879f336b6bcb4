/* chat_render.c - the short prompt formats, and what all formats share. */
#include <stdarg.h>
#include <string.h>
#include "text/chat_out.h"

#define MAX_PROMPT ((size_t)1 << 30)

void chat_put(chat_out *out, const char *s) { buf_puts(&out->txt, s); }
void chat_put_span(chat_out *out, span s) { buf_put(&out->txt, s.p, s.n); }

void chat_put_json(chat_out *out, const json_t *v, int indent, bool ascii)
{
    chat_tojson(&out->txt, v, indent, ascii);
}

void chat_fail(chat_out *out, int code, const char *fmt, ...)
{
    if (out->rc) return;
    char s[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(s, sizeof s, fmt, ap);
    va_end(ap);
    out->rc = err_set(out->e, code, "%s", s);
}

/* The characters that str.isspace() accepts in Python. */
static bool is_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xa0 || c == 0x1680
        || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f
        || c == 0x205f || c == 0x3000;
}

/* The character of `len` bytes at p, for 1 to 3 bytes; 0 when that is not one. */
static uint32_t char_of(const unsigned char *p, size_t len)
{
    if (len == 1) return p[0] < 0x80 ? p[0] : 0;
    if (len == 2) return p[0] >> 5 == 6 && p[1] >> 6 == 2 ? (p[0] & 31u) << 6 | (p[1] & 63u) : 0;
    if (p[0] >> 4 != 14 || p[1] >> 6 != 2 || p[2] >> 6 != 2) return 0;
    return (p[0] & 15u) << 12 | (p[1] & 63u) << 6 | (p[2] & 63u);
}

span chat_trim(const char *s)
{
    span t = span_of(s ? s : "");
    for (size_t len = 1; len <= 3; )
        if (t.n >= len && is_space(char_of((const unsigned char *)t.p, len)))
            t.p += len, t.n -= len, len = 1;
        else len++;
    for (size_t len = 1; len <= 3; )
        if (t.n >= len && is_space(char_of((const unsigned char *)t.p + t.n - len, len)))
            t.n -= len, len = 1;
        else len++;
    return t;
}

bool chat_role_is(const chat_msg *m, const char *role)
{
    if (!strcmp(m->role, role)) return true;
    return !strcmp(role, "tool") && !strcmp(m->role, "ipython");
}

static const json_t *function_of(const json_t *call)
{
    const json_t *f = json_object_get(call, "function");
    return f ? f : call;
}

const char *chat_call_name(chat_out *out, const json_t *call)
{
    const char *name = json_string_value(json_object_get(function_of(call), "name"));
    if (!name) chat_fail(out, DR_EINVAL, "a tool call without a function name");
    return name;
}

json_t *chat_call_args(chat_out *out, const json_t *call)
{
    json_t *a = json_object_get(function_of(call), "arguments");
    if (!a) return json_object();
    if (!json_is_string(a)) return json_incref(a);
    json_error_t e;
    json_t *v = json_loadb(json_string_value(a), json_string_length(a), JSON_DECODE_ANY, &e);
    if (!v) chat_fail(out, DR_EINVAL, "a tool call's arguments are not JSON: %.100s", e.text);
    return v;
}

static const char *text_of(const chat_msg *m) { return m->content ? m->content : ""; }

/* A format that only knows texts: say what it would have to drop. */
static void only_texts(const chat_opt *o, const chat_msg *m, int n, chat_out *out)
{
    if (o->tools || o->builtin_tools)
        chat_fail(out, DR_EUNSUPPORTED, "the %s prompt format has no place for tools",
                  chat_name(o->kind));
    for (int i = 0; i < n; i++)
        if (m[i].tool_calls)
            chat_fail(out, DR_EUNSUPPORTED, "the %s prompt format has no place for tool calls",
                      chat_name(o->kind));
}

static void alternate(const chat_msg *m, int n, chat_out *out)
{
    for (int i = 0; i < n; i++)
        if (!chat_role_is(&m[i], i % 2 ? "assistant" : "user"))
            chat_fail(out, DR_EINVAL, "after an optional system message, roles must alternate "
                      "user, assistant, user, ...; message %d is from '%.20s'", i + 1, m[i].role);
}

static void write_llama3_0(const chat_opt *o, const chat_msg *m, int n, chat_out *out)
{
    for (int i = 0; i < n; i++) {
        if (!i) out->ctl(out, "<|begin_of_text|>");
        out->ctl(out, "<|start_header_id|>");
        chat_put(out, m[i].role);
        out->ctl(out, "<|end_header_id|>");
        chat_put(out, "\n\n");
        chat_put_span(out, chat_trim(m[i].content));
        out->ctl(out, "<|eot_id|>");
    }
    if (o->no_generation_prompt) return;
    out->ctl(out, "<|start_header_id|>");
    chat_put(out, "assistant");
    out->ctl(out, "<|end_header_id|>");
    chat_put(out, "\n\n");
}

static void write_chatml(const chat_opt *o, const chat_msg *m, int n, chat_out *out)
{
    if (o->kind == CHAT_SMOLLM2 && !chat_role_is(m, "system")) {
        out->ctl(out, "<|im_start|>");
        chat_put(out, "system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face");
        out->ctl(out, "<|im_end|>");
        chat_put(out, "\n");
    }
    for (int i = 0; i < n; i++) {
        out->ctl(out, "<|im_start|>");
        chat_put(out, m[i].role);
        chat_put(out, "\n");
        chat_put(out, text_of(&m[i]));
        out->ctl(out, "<|im_end|>");
        chat_put(out, "\n");
    }
    if (o->no_generation_prompt) return;
    out->ctl(out, "<|im_start|>");
    chat_put(out, "assistant\n");
}

/* <|user|> and its kin are ordinary text to TinyLlama's vocabulary. */
static void write_zephyr(const chat_opt *o, const chat_msg *m, int n, chat_out *out)
{
    for (int i = 0; i < n; i++) {
        if (!chat_role_is(&m[i], "system") && !chat_role_is(&m[i], "user")
            && !chat_role_is(&m[i], "assistant")) {
            chat_fail(out, DR_EUNSUPPORTED, "the zephyr prompt format has no role '%.20s'",
                      m[i].role);
            return;
        }
        chat_put(out, "<|");
        chat_put(out, m[i].role);
        chat_put(out, "|>\n");
        chat_put(out, text_of(&m[i]));
        out->ctl(out, "</s>");
        chat_put(out, "\n");
    }
    if (!o->no_generation_prompt) chat_put(out, "<|assistant|>\n");
}

static void write_llama2(const chat_opt *o, const chat_msg *m, int n, chat_out *out)
{
    (void)o;
    const char *system = NULL;
    if (chat_role_is(m, "system")) system = text_of(m), m++, n--;
    alternate(m, n, out);
    for (int i = 0; i < n && !out->rc; i++) {
        if (i % 2) {
            chat_put(out, " ");
            chat_put_span(out, chat_trim(m[i].content));
            chat_put(out, " ");
            out->ctl(out, "</s>");
            continue;
        }
        out->ctl(out, "<s>");
        chat_put(out, "[INST] ");
        if (!i && system) {
            /* the template strips system and user text as one string */
            buf all = { .cap_max = MAX_PROMPT };
            buf_printf(&all, "<<SYS>>\n%s\n<</SYS>>\n\n%s", system, text_of(m));
            if (all.bad) out->txt.bad = true;
            chat_put_span(out, chat_trim(buf_str(&all)));
            buf_free(&all);
        } else {
            chat_put_span(out, chat_trim(m[i].content));
        }
        chat_put(out, " [/INST]");
    }
}

/* A space of the template that a SentencePiece tokenizer puts there by itself. */
static void space(chat_out *out)
{
    if (!(out->own_space && out->txt.n == 0)) chat_put(out, " ");
}

static void write_mistral(const chat_opt *o, const chat_msg *m, int n, chat_out *out)
{
    bool v1 = o->kind == CHAT_MISTRAL;
    const char *system = NULL;
    if (v1 && chat_role_is(m, "system")) system = text_of(m), m++, n--;
    alternate(m, n, out);
    out->ctl(out, "<s>");
    for (int i = 0; i < n && !out->rc; i++) {
        if (v1) space(out);
        if (i % 2) {
            chat_put(out, text_of(&m[i]));
            out->ctl(out, "</s>");
            if (o->kind == CHAT_MISTRAL_V0_1) space(out);
            continue;
        }
        chat_put(out, "[INST] ");
        if (!i && system) {
            chat_put(out, system);
            chat_put(out, "\n\n");
        }
        chat_put(out, text_of(&m[i]));
        chat_put(out, " [/INST]");
    }
}

int chat_write(const chat_opt *o, const chat_msg *m, int n, chat_out *out)
{
    if (n <= 0) chat_fail(out, DR_EINVAL, "a conversation without messages");
    for (int i = 0; i < n; i++)
        if (!m[i].role || !*m[i].role)
            chat_fail(out, DR_EINVAL, "message %d has no role", i + 1);
    if (!chat_has_tools(o->kind)) only_texts(o, m, n, out);
    if (out->rc) return out->rc;
    switch (o->kind) {
    case CHAT_LLAMA3_HF: case CHAT_LLAMA3_2_HF: chat_write_llama3_hf(o, m, n, out); break;
    case CHAT_LLAMA3_META: chat_write_llama3_meta(o, m, n, out); break;
    case CHAT_LLAMA3_0: write_llama3_0(o, m, n, out); break;
    case CHAT_LLAMA2: write_llama2(o, m, n, out); break;
    case CHAT_CHATML: case CHAT_SMOLLM2: write_chatml(o, m, n, out); break;
    case CHAT_ZEPHYR: write_zephyr(o, m, n, out); break;
    case CHAT_MISTRAL: case CHAT_MISTRAL_V0: case CHAT_MISTRAL_V0_1:
        write_mistral(o, m, n, out); break;
    case CHAT_MISTRAL_V3: chat_write_mistral_v3(o, m, n, out); break;
    default: chat_fail(out, DR_EINVAL, "no prompt format number %d", (int)o->kind);
    }
    if (!out->rc && out->txt.bad) out->rc = err_nomem(out->e, out->txt.n, "the prompt");
    return out->rc;
}

static void spell(chat_out *out, const char *name) { chat_put(out, name); }
static void no_cut(chat_out *out) { (void)out; }

int chat_render(const chat_opt *o, const chat_msg *m, int n, buf *out, dr_err *e)
{
    if (o->kind == CHAT_JINJA) return chat_jinja_render(o, m, n, out, e);
    chat_out w = { .e = e, .ctl = spell, .cut = no_cut };
    buf_init(&w.txt, MAX_PROMPT);
    int rc = chat_write(o, m, n, &w);
    if (!rc) {
        buf_put(out, w.txt.p, w.txt.n);
        if (out->bad) rc = err_nomem(e, w.txt.n, "the prompt");
    }
    buf_free(&w.txt);
    return rc;
}
