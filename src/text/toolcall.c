/* toolcall.c - see toolcall.h. The text not yet decided is kept in `b` and looked at from its
 * start: plain text goes out, a place where a call could begin is scanned (toolcall_scan.c) and
 * waits while the scan says MORE. Scans never change an answer when more text comes, so the
 * events are the same whatever the pieces were. */
#include "text/toolcall.h"
#include <string.h>
#include "base/mem.h"
#include "text/toolcall_scan.h"

#define MAX_CALL ((size_t)1 << 20)      /* a longer candidate is text */
#define MAX_TEXT ((size_t)1 << 30)

struct toolcall {
    toolcall_opt o;
    toolcall_fn fn;
    void *arg;
    buf b;                      /* not decided yet */
    buf out;                    /* calls of one scan: NAME 0 ARGUMENTS 0 ...; or escaped code */
    size_t next_scan;           /* with a scan waiting: look again at this length */
    int n_calls, rc;
    bool nomem;
    bool marked;                /* <|python_tag|> or [TOOL_CALLS] came, and only calls since */
    bool fresh;                 /* ... and not even a call yet */
    bool after_call;            /* separators may follow */
    bool code;                  /* the rest is the code interpreter's */
    bool word;                  /* the last byte before b was part of a word */
};

toolcall *toolcall_new(const toolcall_opt *o, toolcall_fn fn, void *arg, dr_err *e)
{
    toolcall *t = mem_zalloc(1, sizeof *t);
    if (!t) {
        err_nomem(e, sizeof *t, "the tool call parser");
        return NULL;
    }
    t->o = *o;
    t->fn = fn;
    t->arg = arg;
    buf_init(&t->b, MAX_TEXT);
    buf_init(&t->out, MAX_TEXT);
    return t;
}

void toolcall_free(toolcall *t)
{
    if (!t) return;
    buf_free(&t->b);
    buf_free(&t->out);
    mem_free(t);
}

static void emit(toolcall *t, toolcall_kind kind, int index, const char *p, size_t n)
{
    if (t->rc || (n == 0 && kind != TOOLCALL_END)) return;
    t->rc = t->fn(t->arg, &(toolcall_event){ kind, index, { p, n } });
}

static void emit_calls(toolcall *t)
{
    if (t->nomem) return;                        /* run() says so */
    for (size_t at = 0; at < t->out.n; t->n_calls++) {
        const char *name = t->out.p + at, *args = name + strlen(name) + 1;
        emit(t, TOOLCALL_BEGIN, t->n_calls, name, strlen(name));
        emit(t, TOOLCALL_ARGS, t->n_calls, args, strlen(args));
        emit(t, TOOLCALL_END, t->n_calls, "", 0);
        at = (size_t)(args - t->out.p) + strlen(args) + 1;
    }
}

/* The better of two answers about the same place: OK, else MORE, else NO. */
static scan_result scan_more(scan_result a, scan_result b) { return a > b ? a : b; }

/* One scan from the start again, calls into t->out. */
static scan_result attempt(toolcall *t, const scan *from, scan *s, scan_result (*f)(scan *, buf *))
{
    *s = *from;
    buf_reset(&t->out);
    scan_result r = f(s, &t->out);
    t->nomem |= s->nomem || t->out.bad;
    return r;
}

/* Could a built-in tool's name begin here? Only then is it worth holding the word back. */
static bool builtin_begins(const toolcall *t, span s)
{
    for (size_t i = 0; i < json_array_size(t->o.builtin_tools); i++) {
        const char *n = json_string_value(json_array_get(t->o.builtin_tools, i));
        size_t len = n ? strlen(n) : 0;
        if (len && !memcmp(n, s.p, len < s.n ? len : s.n)) return true;
    }
    return false;
}

/* Is there a call, or a marker (*marker), at b[at]? Its length in *len when OK. */
static scan_result candidate(toolcall *t, size_t at, bool final, size_t *len, bool *marker)
{
    size_t n = t->b.n - at;
    scan from = { .in = { t->b.p + at, n < MAX_CALL ? n : MAX_CALL }, .final = final,
                  .marked = t->marked, .tools = t->o.tools, .builtin_tools = t->o.builtin_tools };
    scan s = from;
    scan_result r = SCAN_NO, m = SCAN_NO;
    char c = from.in.p[0];
    *marker = false;
    if (c == '<' || c == '[') {
        m = scan_word(&s, c == '<' ? "<|python_tag|>" : "[TOOL_CALLS]");
        *marker = m == SCAN_OK;
    }
    if (m != SCAN_OK) {
        if (c == '<') r = attempt(t, &from, &s, scan_function_tag);
        else if (c == '{' || c == '[') r = attempt(t, &from, &s, scan_json_calls);
        else if (t->marked || builtin_begins(t, from.in)) r = attempt(t, &from, &s, scan_builtin);
        if (c == '[' && r != SCAN_OK) {
            scan_result p = attempt(t, &from, &s, scan_python_calls);
            r = scan_more(r, p);
        }
    }
    r = scan_more(r, m);
    *len = s.at;
    return r == SCAN_MORE && n >= MAX_CALL ? SCAN_NO : r;
}

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* From `at`, the next place where a call or a marker could begin. */
static size_t next_place(const toolcall *t, size_t at)
{
    bool word = at ? is_word(t->b.p[at - 1]) : t->word;
    for (; at < t->b.n; at++) {
        char c = t->b.p[at];
        if (c == '{' || c == '[' || c == '<') return at;
        if (t->o.builtin_tools && !word && is_word(c)
            && builtin_begins(t, (span){ t->b.p + at, t->b.n - at })) return at;
        word = is_word(c);
    }
    return at;
}

/* The code interpreter's code, from `at` on, as the inside of a JSON string. */
static size_t code(toolcall *t, size_t at, bool final)
{
    buf_reset(&t->out);
    while (at < t->b.n) {
        size_t len;
        uint32_t c = scan_char(t->b.p + at, t->b.n - at, &len);
        if (!len && !final) break;
        scan_put_char(&t->out, len ? c : 0xfffd);
        at += len ? len : 1;
    }
    emit(t, TOOLCALL_ARGS, t->n_calls, t->out.p, t->out.n);
    return at;
}

/* After a marker or a call: what is at the next non-separator? Moves *at and says whether to go
 * on (OK), to wait (MORE), or to treat the rest as text (NO). */
static scan_result chained(toolcall *t, size_t *at, bool final)
{
    size_t q = *at, len;
    bool marker;
    const char *seps = t->after_call ? " \t\r\n;," : " \t\r\n";
    while (q < t->b.n && t->b.p[q] && strchr(seps, t->b.p[q])) q++;
    if (q == t->b.n) {
        if (final) *at = q;                      /* separators at the end say nothing */
        return SCAN_MORE;
    }
    scan_result r = candidate(t, q, final, &len, &marker);
    if (r == SCAN_MORE && !final) return SCAN_MORE;
    if (r == SCAN_OK) {
        if (!marker) emit_calls(t);
        t->after_call = !marker;
        t->marked |= marker;
        t->fresh = marker;
        *at = q + len;
        return SCAN_OK;
    }
    if (t->fresh && t->o.builtin_tools) {
        t->code = true;
        emit(t, TOOLCALL_BEGIN, t->n_calls, "code_interpreter", 16);
        emit(t, TOOLCALL_ARGS, t->n_calls, "{\"code\": \"", 10);
        return SCAN_OK;
    }
    t->marked = t->fresh = t->after_call = false;
    return SCAN_NO;
}

static size_t decide(toolcall *t, bool final)
{
    size_t at = 0, from = 0;                     /* b[from..at) is text that has not gone out */
    while (!t->rc && !t->nomem) {
        if (t->code) return code(t, at, final);
        if (t->after_call || t->fresh) {
            scan_result r = chained(t, &at, final);
            if (r != SCAN_NO) from = at;
            if (r == SCAN_MORE) return at;
            if (r == SCAN_OK) continue;
        }
        at = next_place(t, at);
        if (at == t->b.n) break;
        size_t len;
        bool marker;
        scan_result r = candidate(t, at, final, &len, &marker);
        if (r == SCAN_MORE && !final) break;
        if (r != SCAN_OK) {
            at++;
            continue;
        }
        emit(t, TOOLCALL_TEXT, t->n_calls, t->b.p + from, at - from);
        if (!marker) emit_calls(t);
        t->after_call = !marker;
        t->marked = t->fresh = marker;
        from = at += len;
    }
    emit(t, TOOLCALL_TEXT, t->n_calls, t->b.p + from, at - from);
    return at;
}

static int run(toolcall *t, bool final, dr_err *e)
{
    size_t done = t->b.n ? decide(t, final) : 0;
    if (t->nomem || t->out.bad) return t->rc = err_nomem(e, t->b.n, "a tool call");
    if (t->rc) return t->rc;
    if (done) t->word = is_word(t->b.p[done - 1]);
    if (t->b.n) memmove(t->b.p, t->b.p + done, t->b.n - done);
    t->b.n -= done;
    t->next_scan = t->b.n + t->b.n / 16 + 1;
    return DR_OK;
}

int toolcall_feed(toolcall *t, span text, dr_err *e)
{
    if (t->rc || !text.n) return t->rc;
    if (!t->o.tools && !t->o.builtin_tools) {
        emit(t, TOOLCALL_TEXT, 0, text.p, text.n);
        return t->rc;
    }
    buf_put(&t->b, text.p, text.n);
    if (t->b.bad) return t->rc = err_nomem(e, text.n, "a tool call");
    /* a long candidate is not looked at again for every byte */
    bool closes = false;
    for (size_t i = 0; i < text.n; i++) closes |= text.p[i] && strchr("}])>", text.p[i]);
    if (!closes && t->b.n < t->next_scan && !t->code) return DR_OK;
    return run(t, false, e);
}

int toolcall_end(toolcall *t, dr_err *e)
{
    if (t->rc) return t->rc;
    if (run(t, true, e)) return t->rc;
    if (t->code) {
        emit(t, TOOLCALL_ARGS, t->n_calls, "\"}", 2);
        emit(t, TOOLCALL_END, t->n_calls, "", 0);
        t->code = false;
        t->n_calls++;
    }
    return t->rc;
}

/* ---- a whole answer ---- */

typedef struct { buf *content, name, args; json_t *calls; dr_err *e; } collect;

static int collected(void *arg, const toolcall_event *ev)
{
    collect *c = arg;
    if (ev->kind == TOOLCALL_TEXT) buf_put(c->content, ev->text.p, ev->text.n);
    if (ev->kind == TOOLCALL_BEGIN) {
        buf_reset(&c->name);
        buf_reset(&c->args);
        buf_put(&c->name, ev->text.p, ev->text.n);
    }
    if (ev->kind == TOOLCALL_ARGS) buf_put(&c->args, ev->text.p, ev->text.n);
    if (ev->kind == TOOLCALL_END) {
        json_t *call = json_pack("{s:s, s:{s:s, s:s}}", "type", "function", "function",
                                 "name", buf_str(&c->name), "arguments", buf_str(&c->args));
        if (!call || json_array_append_new(c->calls, call))
            return err_nomem(c->e, c->args.n, "a tool call");
    }
    return c->content->bad || c->name.bad || c->args.bad
         ? err_nomem(c->e, ev->text.n, "a tool call") : DR_OK;
}

int toolcall_parse(const toolcall_opt *o, span text, buf *content, json_t **calls, dr_err *e)
{
    collect c = { .content = content, .name.cap_max = MAX_TEXT, .args.cap_max = MAX_TEXT,
                  .calls = json_array(), .e = e };
    toolcall *t = c.calls ? toolcall_new(o, collected, &c, e) : NULL;
    int rc = !c.calls ? err_nomem(e, 64, "tool calls") : !t ? DR_ENOMEM
           : toolcall_feed(t, text, e);
    if (!rc) rc = toolcall_end(t, e);
    toolcall_free(t);
    buf_free(&c.name);
    buf_free(&c.args);
    if (rc) json_decref(c.calls), c.calls = NULL;
    *calls = c.calls;
    return rc;
}
