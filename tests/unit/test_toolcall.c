/* test_toolcall.c - tool calls in model output: every form, next to prose, cut at every place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "base/mem.h"
#include "base/rng.h"
#include "text/toolcall.h"

#define ARGS(n, a) "{" n " " a "}"

/* What came out, as one line: text as it is, a call as <<name|arguments>>. */
typedef struct { buf out; int open, next; } log_;

static int on_event(void *arg, const toolcall_event *ev)
{
    log_ *l = arg;
    switch (ev->kind) {
    case TOOLCALL_TEXT:
        assert_int_equal(l->open, -1);
        assert_true(ev->text.n > 0);
        break;
    case TOOLCALL_BEGIN:
        assert_int_equal(l->open, -1);
        assert_int_equal(ev->index, l->next);
        l->open = l->next++;
        buf_puts(&l->out, "<<");
        break;
    case TOOLCALL_ARGS: case TOOLCALL_END: assert_int_equal(ev->index, l->open); break;
    }
    buf_put(&l->out, ev->text.p, ev->text.n);
    if (ev->kind == TOOLCALL_BEGIN) buf_putc(&l->out, '|');
    if (ev->kind == TOOLCALL_END) {
        buf_puts(&l->out, ">>");
        l->open = -1;
    }
    return DR_OK;
}

static char *feed(const toolcall_opt *o, const char *s, const size_t *cut, size_t n_cut)
{
    log_ l = { .open = -1 };
    dr_err e = { 0 };
    buf_init(&l.out, 1 << 20);
    toolcall *t = toolcall_new(o, on_event, &l, &e);
    assert_non_null(t);
    size_t at = 0, len = strlen(s);
    for (size_t i = 0; i <= n_cut; i++) {
        size_t to = i < n_cut ? cut[i] : len;
        /* its own memory, so that reading past a piece is seen */
        char *piece = mem_strndup(s + at, to - at);
        assert_int_equal(toolcall_feed(t, (span){ piece, to - at }, &e), DR_OK);
        mem_free(piece);
        at = to;
    }
    assert_int_equal(toolcall_end(t, &e), DR_OK);
    assert_int_equal(l.open, -1);
    toolcall_free(t);
    char *r = mem_strdup(buf_str(&l.out));
    buf_free(&l.out);
    return r;
}

static json_t *tools, *builtin;

static int setup(void **state)
{
    (void)state;
    tools = json_loads("[{\"type\":\"function\",\"function\":{\"name\":\"f\"}},{\"type\":\"function\","
                       "\"function\":{\"name\":\"get_weather\"}},{\"name\":\"ns.g\"}]", 0, NULL);
    builtin = json_loads("[\"brave_search\",\"wolfram_alpha\"]", 0, NULL);
    return tools && builtin ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    json_decref(tools);
    json_decref(builtin);
    return 0;
}

static void check(const toolcall_opt *o, const char *in, const char *want)
{
    size_t len = strlen(in), cut[2000];
    char *r = feed(o, in, NULL, 0);
    if (strcmp(r, want)) fail_msg("\n%s\ngave\n%s\nwant\n%s", in, r, want);
    mem_free(r);
    for (size_t i = 0; i < len; i++) {
        r = feed(o, in, &i, 1);
        if (strcmp(r, want)) fail_msg("\n%s\ncut at %zu gave\n%s\nwant\n%s", in, i, r, want);
        mem_free(r);
        cut[i] = i;
    }
    r = feed(o, in, cut, len);
    if (strcmp(r, want)) fail_msg("\n%s\nby bytes gave\n%s\nwant\n%s", in, r, want);
    mem_free(r);
}

/* ---- custom tools ---- */

#define CALL "{\"name\": \"f\", \"parameters\": {\"a\": 1}}"
#define GOT "<<f|{\"a\": 1}>>"

static void json_calls(void **state)
{
    (void)state;
    static const char *const c[][2] = {
        { CALL, GOT },
        { "{\"name\":\"f\",\"arguments\":{\"a\":1}}", GOT },
        { "{\"type\": \"function\", \"name\": \"f\", \"parameters\": {\"a\": 1}}", GOT },
        { "{\"parameters\": {\"a\": 1}, \"name\": \"f\", \"type\": \"function\"}", GOT },
        { "{\"id\": \"1\", \"type\": \"function\", \"function\": {\"name\": \"f\", \"arguments\": "
          "\"{\\\"a\\\": 1}\"}}", GOT },
        { "{\"function\": \"f\", \"parameters\": {\"a\": 1}, \"extra\": [1, {\"x\": null}]}", GOT },
        { "{\"type\": \"function\", \"name\": \"f\"}", "<<f|{}>>" },
        { "{\"name\": \"f\", \"parameters\": {}}", "<<f|{}>>" },
        { "{\"name\": \"f\", \"parameters\": null}", "<<f|{}>>" },
        { "\n {\n  \"name\" : \"f\" ,\n  \"parameters\" : { \"a\" : 1 }\n}\n", "\n " GOT },
        { "{\"name\": \"f\", \"parameters\": {\"q\": {\"b\": [1, {\"c\": \"}]\\\"{\"}], \"d\": {}}}}",
          "<<f|{\"q\": {\"b\": [1, {\"c\": \"}]\\\"{\"}], \"d\": {}}}>>" },
        { "{\"name\": \"f\", \"parameters\": {\"s\": \"\\u00e9\\ud83d\\ude00\\n\\t\\/ é😀\", \"n\": -1.5e-3}}",
          "<<f|{\"s\": \"é😀\\n\\t/ é😀\", \"n\": -1.5e-3}>>" },
        { "{\"name\": \"f\", \"parameters\": {\"s\": \"two\nlines\\ud800\"}}",
          "<<f|{\"s\": \"two\\nlines\xef\xbf\xbd\"}>>" },
        { "{'name': 'f', 'parameters': {'a': True, 'b': 'it\"s', 'c': None,}}",
          "<<f|{\"a\": true, \"b\": \"it\\\"s\", \"c\": null}>>" },
        /* several */
        { CALL "; " CALL, GOT GOT }, { CALL ";" CALL, GOT GOT }, { CALL "\n" CALL "\n", GOT GOT },
        { CALL ", " CALL, GOT GOT }, { CALL CALL CALL, GOT GOT GOT },
        { "[" CALL ", " CALL "]", GOT GOT }, { "[" CALL "]", GOT }, { "[\n" CALL "\n]\n", GOT },
        { CALL "; " CALL "; then", GOT GOT "; then" },
        /* prose around, braces in it */
        { "Sure. " CALL " That is all.", "Sure. " GOT " That is all." },
        { "In C {x} and {\"a\": 1}: " CALL, "In C {x} and {\"a\": 1}: " GOT },
        { "{ " CALL " }", "{ " GOT " }" }, { "{{" CALL "}}", "{{" GOT "}}" },
        { "a [1] b [" CALL ", 3]", "a [1] b [" GOT ", 3]" },
        { "{\"name\": \"f\", " CALL, "{\"name\": \"f\", " GOT },
        { "if (a < b) { return [1]; }", "if (a < b) { return [1]; }" },
        { "<b>{\"x\"}</b> <|eot_id|>", "<b>{\"x\"}</b> <|eot_id|>" },
        /* not calls */
        { "{\"name\": \"Bob\", \"parameters\": {}}", "{\"name\": \"Bob\", \"parameters\": {}}" },
        { "{\"name\": \"f\"}", "{\"name\": \"f\"}" },
        { "{\"name\": \"f\", \"parameters\": 3}", "{\"name\": \"f\", \"parameters\": 3}" },
        { "{\"name\": \"f\", \"parameters\": {\"a\": 01}}", "{\"name\": \"f\", \"parameters\": {\"a\": 01}}" },
        { "{\"name\": \"f\", \"parameters\": {\"a\":", "{\"name\": \"f\", \"parameters\": {\"a\":" },
        { "", "" }, { "{", "{" }, { "[", "[" }, { "<", "<" }, { "<|python_tag|", "<|python_tag|" },
        /* an unknown name with "type": "function" is a call all the same */
        { "{\"type\": \"function\", \"name\": \"new\", \"parameters\": {}}", "<<new|{}>>" },
    };
    toolcall_opt o = { .tools = tools };
    for (size_t i = 0; i < sizeof c / sizeof c[0]; i++) check(&o, c[i][0], c[i][1]);
}

static void tagged(void **state)
{
    (void)state;
    static const char *const c[][2] = {
        { "<function=f>{\"a\": 1}</function>", GOT },
        { "<function=f>{\"a\": {\"b\": {}}}</function>", "<<f|{\"a\": {\"b\": {}}}>>" },
        { "x <function=f> {\"a\": 1} </function> y", "x " GOT " y" },
        { "<function=f>{\"a\": 1}", GOT }, { "<function=f>{\"a\": 1} done", GOT " done" },
        { "<function=f>{\"a\": 1}</func", GOT "</func" },
        { "<function=f>{\"a\": 1}</function>\n<function=get_weather>{}</function>", GOT "<<get_weather|{}>>" },
        { "<function=f>text</function>", "<function=f>text</function>" },
        { "<function=>{}</function> <function", "<function=>{}</function> <function" },
        { "<|python_tag|>" CALL, GOT },
        { "<|python_tag|>{\"type\":\"function\",\"name\":\"any\",\"parameters\":{}}", "<<any|{}>>" },
        { "<|python_tag|>{\"name\":\"any\",\"parameters\":{}}; {\"name\":\"b\",\"parameters\":{}}",
          "<<any|{}>><<b|{}>>" },
        { "Hm.\n<|python_tag|>\n" CALL "<|python_tag|>" CALL " x", "Hm.\n" GOT GOT " x" },
        { "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"a\": 1}, \"id\": \"123456789\"}]", GOT },
        { "[TOOL_CALLS][{\"name\": \"zz\", \"arguments\": {}}, " CALL "]", "<<zz|{}>>" GOT },
        /* a marker ends with the first text */
        { "<|python_tag|>" CALL " x {\"name\": \"zz\", \"parameters\": {}}",
          GOT " x {\"name\": \"zz\", \"parameters\": {}}" },
        /* without a code interpreter the tag alone says nothing */
        { "<|python_tag|>print(1)", "print(1)" }, { "a<|python_tag|>", "a" },
    };
    toolcall_opt o = { .tools = tools };
    for (size_t i = 0; i < sizeof c / sizeof c[0]; i++) check(&o, c[i][0], c[i][1]);
}

static void pythonic(void **state)
{
    (void)state;
    static const char *const c[][2] = {
        { "[f(a=1)]", GOT }, { "[f()]", "<<f|{}>>" }, { "[ f( a = 1 , ) , ]", GOT },
        { "[f(a=1), get_weather(city=\"Zürich\", days=-2)]",
          GOT "<<get_weather|{\"city\": \"Zürich\", \"days\": -2}>>" },
        { "[ns.g(x=[1, [2.5, -3e2], {'k': (None)}])]", "[ns.g(x=[1, [2.5, -3e2], {'k': (None)}])]" },
        { "[ns.g(x=[1, [2.5, -3e2], {'k': None, \"t\": [True, False]}], e=[], d={})]",
          "<<ns.g|{\"x\": [1, [2.5, -3e2], {\"k\": null, \"t\": [true, false]}], \"e\": [], \"d\": {}}>>" },
        { "[f(s='it\\'s \"q\" \\x41\\u00e9\\U0001F600\\101\\q\\n', n=.5, m=2.)]",
          "<<f|{\"s\": \"it's \\\"q\\\" Aé😀A\\\\q\\n\", \"n\": 0.5, \"m\": 2.0}>>" },
        { "[f(s=\"\"\"a \"b\"\nc\"\"\", e='', z=\"\")]", "<<f|{\"s\": \"a \\\"b\\\"\\nc\", \"e\": \"\", \"z\": \"\"}>>" },
        { "[f(s=\")]\")]", "<<f|{\"s\": \")]\"}>>" },
        { "Here: [f(a=1)] ok", "Here: " GOT " ok" },
        { "[g(a=1)]", "[g(a=1)]" }, { "[f(1)]", "[f(1)]" }, { "[f(a=b)]", "[f(a=b)]" },
        { "[f(a=1), see]", "[f(a=1), see]" }, { "[f(a=1)", "[f(a=1)" }, { "f(a=1)", "f(a=1)" },
        { "[f(a=Truely)]", "[f(a=Truely)]" }, { "[f(a=1", "[f(a=1" },
    };
    toolcall_opt o = { .tools = tools };
    for (size_t i = 0; i < sizeof c / sizeof c[0]; i++) check(&o, c[i][0], c[i][1]);
}

static void built_in(void **state)
{
    (void)state;
    static const char *const c[][2] = {
        { "<|python_tag|>brave_search.call(query=\"gold price\")", "<<brave_search|{\"query\": \"gold price\"}>>" },
        { "<|python_tag|>other.call(query=\"x\")", "<<other|{\"query\": \"x\"}>>" },
        { "ok: brave_search.call(query=\"a (b)\", n=2) bye",
          "ok: <<brave_search|{\"query\": \"a (b)\", \"n\": 2}>> bye" },
        { "my_brave_search.call(query=\"a\")", "my_brave_search.call(query=\"a\")" },
        { "brave_search is a tool", "brave_search is a tool" },
        { "brave brav b", "brave brav b" },
        { "<|python_tag|>print(\"a\")\n\tx = {1: 2}  # é\n",
          "<<code_interpreter|{\"code\": \"print(\\\"a\\\")\\n\\tx = {1: 2}  # é\\n\"}>>" },
        { "<|python_tag|> import numpy\n" CALL, "<<code_interpreter|{\"code\": \" import numpy\\n"
          "{\\\"name\\\": \\\"f\\\", \\\"parameters\\\": {\\\"a\\\": 1}}\"}>>" },
        { "<|python_tag|>np.call(x=1)", "<<code_interpreter|{\"code\": \"np.call(x=1)\"}>>" },
        { "<|python_tag|>[1, 2]", "<<code_interpreter|{\"code\": \"[1, 2]\"}>>" },
        { "t <|python_tag|>p", "t <<code_interpreter|{\"code\": \"p\"}>>" },
        { "<|python_tag|>", "" }, { "<|python_tag|>\xc3", "<<code_interpreter|{\"code\": \"\xef\xbf\xbd\"}>>" },
        { "<|python_tag|>" CALL, GOT },
    };
    toolcall_opt o = { .tools = tools, .builtin_tools = builtin };
    for (size_t i = 0; i < sizeof c / sizeof c[0]; i++) check(&o, c[i][0], c[i][1]);
}

static void without_tools(void **state)
{
    (void)state;
    toolcall_opt o = { 0 };
    check(&o, "<|python_tag|>" CALL "[f(a=1)]", "<|python_tag|>" CALL "[f(a=1)]");
}

/* Random strings of fragments: each way of cutting gives the same, and arguments are JSON. */
static void random_texts(void **state)
{
    (void)state;
    static const char *const part[] = {
        CALL, "{", "}", "[", "]", "\"name\"", ": ", "\"f\"", ", ", "\"parameters\"", "{\"a\": ", "1",
        "f(", "a=", ")", "'x'", "<function=f>", "</function>", "<|python_tag|>", ";", "\n", "text",
        "brave_search", ".call(", "query=\"", "\"", "\\", "\xc3\xa9", "\xe2", "[f(a=1)]", "-", "null",
    };
    toolcall_opt o = { .tools = tools };
    for (uint64_t k = 0; k < 1500; k++) {
        char s[1000] = "";
        size_t n = 0;
        o.builtin_tools = k % 2 ? builtin : NULL;
        for (uint64_t i = 0, m = (uint64_t)(rng_uniform(8, k, 0) * 14); i < m; i++) {
            const char *p = part[(int)(rng_uniform(8, k, 1 + i) * 32)];
            memcpy(s + n, p, strlen(p) + 1);
            n += strlen(p);
        }
        char *whole = feed(&o, s, NULL, 0);
        check(&o, s, whole);
        mem_free(whole);
        buf b;
        json_t *calls, *call;
        size_t i;
        buf_init(&b, 10000);
        assert_int_equal(toolcall_parse(&o, (span){ s, n }, &b, &calls, NULL), DR_OK);
        json_array_foreach(calls, i, call) {
            const char *a = json_string_value(json_object_get(json_object_get(call, "function"),
                                                              "arguments"));
            json_t *v = json_loads(a, 0, NULL);
            if (!json_is_object(v)) fail_msg("%s: arguments %s", s, a);
            json_decref(v);
        }
        json_decref(calls);
        buf_free(&b);
    }
}

static void no_memory(void **state)
{
    (void)state;
    toolcall_opt o = { .tools = tools, .builtin_tools = builtin };
    size_t live = mem_live_bytes();
    int rc = DR_ENOMEM, tries = 0;
    for (; rc; tries++) {
        buf b;
        json_t *calls = NULL;
        dr_err e = { 0 };
        buf_init(&b, 10000);
        mem_fail_after(tries);
        rc = toolcall_parse(&o, span_of("a " CALL "; {\"type\":\"function\",\"name\":\"f\",\"arguments\":"
                                        "\"{}\"}[f(a=1)]<|python_tag|>x"), &b, &calls, &e);
        mem_fail_after(-1);
        if (rc) assert_int_equal(rc, DR_ENOMEM);
        else assert_int_equal(json_array_size(calls), 4);
        json_decref(calls);
        buf_free(&b);
        assert_int_equal(mem_live_bytes(), live);
        assert_true(tries < 200);
    }
    assert_true(tries > 5);
}

/* Long arguments in small pieces: the time must not grow with the square of the length. */
static void long_call(void **state)
{
    (void)state;
    toolcall_opt o = { .tools = tools };
    enum { N = 200000 };
    char *s = mem_alloc(N + 100);
    size_t n = (size_t)snprintf(s, 100, "{\"name\": \"f\", \"parameters\": {\"a\": \"");
    memset(s + n, 'x', N);
    n += N;
    snprintf(s + n, 10, "\"}}");
    size_t *cut = mem_alloc(N * sizeof *cut);
    for (size_t i = 0; i < N; i++) cut[i] = i;
    char *r = feed(&o, s, cut, N);
    assert_int_equal(strlen(r), strlen("<<f|{\"a\": \"\"}>>") + N);
    mem_free(r);
    mem_free(cut);
    mem_free(s);
}

int main(void)
{
    const struct CMUnitTest t[] = {
        cmocka_unit_test(json_calls), cmocka_unit_test(tagged), cmocka_unit_test(pythonic),
        cmocka_unit_test(built_in), cmocka_unit_test(without_tools),
        cmocka_unit_test(random_texts), cmocka_unit_test(no_memory), cmocka_unit_test(long_call),
    };
    return cmocka_run_group_tests(t, setup, teardown);
}
