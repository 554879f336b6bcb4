/* fuzz_toolcall.c - any bytes as a model's answer: the parse ends, arguments are JSON objects, and
 * feeding byte by byte gives what one piece gives. The first byte chooses the tools. */
#include <stdint.h>
#include <string.h>
#include "base/err.h"
#include "text/toolcall.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Text, and calls as 1 NAME 2 ARGUMENTS 3; the events' order is checked on the way. */
typedef struct { buf all; bool open; } record;

static int on_event(void *arg, const toolcall_event *ev)
{
    record *r = arg;
    DR_ASSERT(r->open == (ev->kind == TOOLCALL_ARGS || ev->kind == TOOLCALL_END));
    if (ev->kind == TOOLCALL_BEGIN) buf_putc(&r->all, 1);
    buf_put(&r->all, ev->text.p, ev->text.n);
    if (ev->kind == TOOLCALL_BEGIN) buf_putc(&r->all, 2);
    if (ev->kind == TOOLCALL_END) buf_putc(&r->all, 3);
    if (ev->kind == TOOLCALL_BEGIN) r->open = true;
    if (ev->kind == TOOLCALL_END) r->open = false;
    return DR_OK;
}

static bool same(buf *a, buf *b)
{
    return a->n == b->n && !memcmp(buf_str(a), buf_str(b), a->n);
}

static void feed(const toolcall_opt *o, const char *p, size_t n, size_t step, record *r)
{
    buf_init(&r->all, (size_t)1 << 26);
    toolcall *t = toolcall_new(o, on_event, r, NULL);
    DR_ASSERT(t);
    for (size_t i = 0; i < n; i += step) {
        span s = { p + i, n - i < step ? n - i : step };
        DR_ASSERT(toolcall_feed(t, s, NULL) == DR_OK);
    }
    DR_ASSERT(toolcall_end(t, NULL) == DR_OK);
    DR_ASSERT(!r->open && !r->all.bad);
    toolcall_free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static json_t *tools, *builtin;
    if (!tools) {
        tools = json_loads("[{\"type\":\"function\",\"function\":{\"name\":\"f\"}},"
                           "{\"type\":\"function\",\"function\":{\"name\":\"g\"}}]", 0, NULL);
        builtin = json_loads("[\"brave_search\"]", 0, NULL);
    }
    if (size < 1 || size > 100000) return 0;
    toolcall_opt o = { .tools = data[0] & 1 ? tools : NULL,
                       .builtin_tools = data[0] & 2 ? builtin : NULL };
    const char *p = (const char *)data + 1;
    size_t n = size - 1;
    record whole = { 0 }, bytes = { 0 }, pieces = { 0 };
    feed(&o, p, n, n + 1, &whole);
    feed(&o, p, n, 1, &bytes);
    feed(&o, p, n, 7, &pieces);
    DR_ASSERT(same(&whole.all, &bytes.all));
    DR_ASSERT(same(&whole.all, &pieces.all));
    buf_free(&whole.all);
    buf_free(&bytes.all);
    buf_free(&pieces.all);

    buf text;
    json_t *calls, *c;
    size_t i;
    buf_init(&text, (size_t)1 << 26);
    DR_ASSERT(toolcall_parse(&o, (span){ p, n }, &text, &calls, NULL) == DR_OK);
    json_array_foreach(calls, i, c) {
        const json_t *a = json_object_get(json_object_get(c, "function"), "arguments");
        json_error_t why;
        json_t *v = json_loads(json_string_value(a), JSON_ALLOW_NUL, &why);
        /* numbers are handed on as they were written: they may be beyond what jansson holds */
        DR_ASSERT(json_is_object(v) || json_error_code(&why) == json_error_numeric_overflow);
        json_decref(v);
    }
    json_decref(calls);
    buf_free(&text);
    return 0;
}
