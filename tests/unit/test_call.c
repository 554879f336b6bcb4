/* test_call.c - from a conversation to tokens, from events to text and calls: with an engine that plays
 * what it is given, so that each event is known. */
#define _DEFAULT_SOURCE               /* mkstemps */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/mem.h"
#include "serve/call.h"

/* ---- an engine that plays a script */

struct engine { int ctx; };
struct ticket { int at, n, code; };
static struct engine engine_of_test = { 4096 };
static engine_event script[64];
static int n_script, busy;
static engine_req last;             /* what was asked for; pointers of it are not valid later */
static int32_t last_prompt[4096];
static grammar *last_form;          /* held while the call lives */

void engine_req_init(engine_req *r) { *r = (engine_req){ .max_tokens = -1, .prompt_probs = -1 }; }
int engine_ctx(const engine *g) { return g->ctx; }
int engine_submit(engine *g, const engine_req *r, ticket **out, int *retry_s, dr_err *e)
{
    (void)g;
    last = *r;
    last_form = r->constraint;
    for (int i = 0; i < r->n_prompt && i < 4096; i++) last_prompt[i] = r->prompt[i];
    if (busy) return *retry_s = 7, err_set(e, DR_EBUSY, "too many wait");
    *out = mem_zalloc(1, sizeof **out);
    return *out ? DR_OK : err_nomem(e, sizeof **out, "a ticket");
}
bool ticket_next(ticket *t, engine_event *ev)
{
    if (t->at == n_script) return false;
    *ev = script[t->at++];
    return true;
}
void ticket_free(ticket *t) { mem_free(t); }

static void play(engine_event ev) { script[n_script++] = ev; }
static void token(int sample, int32_t id, const char *text)
{
    play((engine_event){ ENGINE_TOKEN, .sample = sample, .id = id, .text = span_of(text) });
}
static void finish(int sample, engine_finish f, const char *text)
{
    play((engine_event){ ENGINE_FINISH, .sample = sample, .finish = f, .text = span_of(text) });
}
static void done(void) { play((engine_event){ ENGINE_DONE }); }

/* ---- a vocabulary of bytes, with the control tokens of Llama 3 or of ChatML */

enum { BOS = 256, START, END, EOT, EOM, PYTHON, IM_START, IM_END, N_ALL };
static const char *const control[] = { "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
                                       "<|eom_id|>", "<|python_tag|>", "<|im_start|>", "<|im_end|>" };
static served s;

static int set_up(void **state)
{
    char path[] = "/tmp/drover-call-XXXXXX.json";
    int fd = mkstemps(path, 5);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
    dr_err e = { 0 };
    (void)state;
    if (!f) return -1;
    fprintf(f, "{\"version\":\"1.0\",\"added_tokens\":[");
    for (int i = 0; i < N_ALL - 256; i++)
        fprintf(f, "%s{\"id\":%d,\"content\":\"%s\",\"special\":true,\"lstrip\":false,\"rstrip\":false,"
                "\"single_word\":false,\"normalized\":false}", i ? "," : "", 256 + i, control[i]);
    fprintf(f, "],\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
            "\"trim_offsets\":true,\"use_regex\":true},\"post_processor\":null,\"decoder\":{\"type\":\"ByteLevel\"},"
            "\"model\":{\"type\":\"BPE\",\"vocab\":{");
    for (int b = 0, extra = 0; b < 256; b++) {
        bool own = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        fprintf(f, "%s\"\\u%04x\":%d", b ? "," : "", own ? b : 256 + extra, b);
        extra += !own;
    }
    fprintf(f, "},\"merges\":[]}}");
    fclose(f);
    s.tok = tok_open(path, &e);
    unlink(path);
    if (s.tok) s.vt = vtrie_new(s.tok, &e);
    if (!s.vt) print_message("%s\n", e.msg);
    s.eng = &engine_of_test;
    s.sample = sample_opt_default();
    return s.vt ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    vtrie_free(s.vt);
    tok_free(s.tok);
    return 0;
}

/* ---- asking */

static json_t *js(const char *text)
{
    json_error_t e;
    json_t *v = json_loads(text, 0, &e);
    if (!v) print_message("%s: %s\n", e.text, text);
    assert_non_null(v);
    return v;
}

static const char weather[] =
    "[{\"type\": \"function\", \"function\": {\"name\": \"weather\", \"description\": \"of a city\", \"parameters\": "
    "{\"type\": \"object\", \"properties\": {\"city\": {\"type\": \"string\", \"maxLength\": 8}}, \"required\": "
    "[\"city\"], \"additionalProperties\": false}}}]";

typedef struct { json_t *messages, *tools, *kwargs; call_opt o; call *c; dr_err e; const char *param; int rc, retry; } ask;

static ask asked(chat_kind kind, const char *messages, const char *tools)
{
    ask a = { .messages = js(messages), .tools = tools ? js(tools) : NULL };
    s.chat = (chat_opt){ .kind = kind, .date = "26 Jul 2024" };
    n_script = 0, busy = 0;
    call_opt_init(&a.o, &s);
    a.o.messages = a.messages, a.o.tools = a.tools;
    return a;
}
static void begin(ask *a) { a->rc = call_begin(&s, &a->o, &a->c, &a->retry, &a->param, &a->e); }
static void end(ask *a)
{
    call_end(a->c);
    json_decref(a->messages);
    json_decref(a->tools);
    json_decref(a->kwargs);
}

/* All events as a text: T(text) { name( args ) } F:reason D. */
static void told(call *c, char *out, size_t n)
{
    call_event ev;
    size_t at = 0;
    out[0] = 0;
    while (call_next(c, &ev) && at < n) {
        const char *of = "";
        if (ev.kind == CALL_TEXT) at += (size_t)snprintf(out + at, n - at, "%d%s\"%.*s\" ", ev.sample, of, (int)ev.text.n, ev.text.p);
        if (ev.kind == CALL_TOOL) {
            assert_int_equal(strncmp(ev.id, "call_", 5), 0);
            assert_int_equal(strlen(ev.id), 29);
            at += (size_t)snprintf(out + at, n - at, "%d#%d %.*s(", ev.sample, ev.tool, (int)ev.text.n, ev.text.p);
        }
        if (ev.kind == CALL_ARGS) at += (size_t)snprintf(out + at, n - at, "%.*s", (int)ev.text.n, ev.text.p);
        if (ev.kind == CALL_TOOL_END) at += (size_t)snprintf(out + at, n - at, ") ");
        if (ev.kind == CALL_FINISH) at += (size_t)snprintf(out + at, n - at, "%d:%d ", ev.sample, (int)ev.finish);
        if (ev.kind == CALL_DONE) at += (size_t)snprintf(out + at, n - at, "D%d", ev.ev->code);
    }
}

/* ---- text */

static void test_text(void **state)
{
    (void)state;
    char got[256];
    ask a = asked(CHAT_LLAMA3_HF, "[{\"role\": \"user\", \"content\": \"hi\"}]", NULL);
    a.o.req.n_samples = 2;
    begin(&a);
    assert_int_equal(a.rc, DR_OK);
    assert_int_equal(last.n_end, 2);                     // eot and eom
    assert_false(last.show_special);
    play((engine_event){ ENGINE_BEGIN });
    token(0, 'a', "a");
    token(1, 'b', "b");
    token(1, 'c', "");
    token(0, EOT, "");
    finish(0, ENGINE_STOP, "");
    finish(1, ENGINE_LENGTH, "c");
    done();
    told(a.c, got, sizeof got);
    assert_string_equal(got, "0\"a\" 1\"b\" 0:0 1\"c\" 1:1 D0");
    end(&a);
}

/* ---- calls */

static void test_call_after_marker(void **state)
{
    (void)state;
    char got[256];
    ask a = asked(CHAT_LLAMA3_HF, "[{\"role\": \"user\", \"content\": \"hi\"}]", weather);
    begin(&a);
    assert_int_equal(a.rc, DR_OK);
    assert_true(last.show_special);                      // the marker has to be seen
    assert_null(last.constraint);
    token(0, 'L', "Let me see. ");
    token(0, PYTHON, "<|python_tag|>");
    token(0, 'x', "{\"name\": \"weather\", \"parameters\": {\"city\"");
    token(0, 'x', ": \"Oslo\"}}");
    token(0, EOM, "<|eom_id|>");                         // shown too: it is nothing of the text
    finish(0, ENGINE_STOP, "");
    done();
    told(a.c, got, sizeof got);
    assert_string_equal(got, "0\"Let me see. \" 0#0 weather({\"city\": \"Oslo\"}) 0:2 D0");
    end(&a);
}

static void test_end_is_no_text(void **state)
{
    (void)state;
    char got[256];
    ask a = asked(CHAT_LLAMA3_HF, "[{\"role\": \"user\", \"content\": \"hi\"}]", weather);
    begin(&a);
    token(0, 'n', "no ");
    token(0, EOT, "<|eot");                              // a scanner for stop strings may hold a part back
    finish(0, ENGINE_STOP, "_id|>");
    done();
    told(a.c, got, sizeof got);
    assert_string_equal(got, "0\"no \" 0:0 D0");
    end(&a);
}

static void test_two_calls(void **state)
{
    (void)state;
    char got[512];
    ask a = asked(CHAT_LLAMA3_HF, "[{\"role\": \"user\", \"content\": \"hi\"}]", weather);
    begin(&a);
    token(0, 'x', "{\"name\": \"weather\", \"parameters\": {\"city\": \"A\"}}; {\"name\": \"weather\", "
          "\"parameters\": {\"city\": \"B\"}}");
    finish(0, ENGINE_STOP, "");
    done();
    told(a.c, got, sizeof got);
    assert_string_equal(got, "0#0 weather({\"city\": \"A\"}) 0#1 weather({\"city\": \"B\"}) 0:2 D0");
    end(&a);
}

/* Whether what is asked for allows exactly this text. */
static bool allows(const char *text)
{
    dr_err e = { 0 };
    matcher *m = matcher_new(last_form, &e);
    assert_non_null(m);
    int p = matcher_begin(m, &e);
    bool yes = matcher_bytes(m, p, span_of(text)) && matcher_done(m, p);
    matcher_free(m);
    return yes;
}

static void test_required(void **state)
{
    (void)state;
    ask a = asked(CHAT_LLAMA3_HF, "[{\"role\": \"user\", \"content\": \"hi\"}]", weather);
    a.o.tool_choice = CALL_TOOLS_REQUIRED;
    begin(&a);
    assert_int_equal(a.rc, DR_OK);
    assert_non_null(last_form);
    assert_true(allows("{\"name\":\"weather\",\"parameters\":{\"city\":\"Oslo\"}}"));
    assert_true(allows("[{\"name\":\"weather\",\"parameters\":{\"city\":\"Oslo\"}},{\"name\":\"weather\","
                       "\"parameters\":{\"city\":\"Rom\"}}]"));
    assert_false(allows("{\"name\":\"weather\",\"parameters\":{\"city\":5}}"));
    assert_false(allows("{\"name\":\"weather\",\"parameters\":{}}"));
    assert_false(allows("{\"name\":\"time\",\"parameters\":{\"city\":\"Oslo\"}}"));
    assert_false(allows("[]"));
    assert_false(allows("no"));
    end(&a);
}

/* Calls that are held to a grammar are given out byte by byte, however the text is cut. */
static void test_forced_in_pieces(void **state)
{
    (void)state;
    static const char text[] = "[{\"name\":\"weather\",\"parameters\":{\"city\":\"O\\\"}]{\"}},{\"name\":\"weather\","
                               "\"parameters\":{\"city\":\"\"}}]";
    char got[512];
    for (size_t cut = 1; cut < sizeof text; cut++) {
        ask a = asked(CHAT_LLAMA3_HF, "[{\"role\": \"user\", \"content\": \"hi\"}]", weather);
        a.o.tool_choice = CALL_TOOLS_REQUIRED;
        begin(&a);
        char piece[2][sizeof text];
        snprintf(piece[0], sizeof piece[0], "%.*s", (int)cut, text);
        snprintf(piece[1], sizeof piece[1], "%s", text + cut);
        token(0, 'x', piece[0]);
        token(0, 'x', piece[1]);
        finish(0, ENGINE_STOP, "");
        done();
        told(a.c, got, sizeof got);
        assert_string_equal(got, "0#0 weather({\"city\":\"O\\\"}]{\"}) 0#1 weather({\"city\":\"\"}) 0:2 D0");
        end(&a);
    }
    ask a = asked(CHAT_LLAMA3_HF, "[{\"role\": \"user\", \"content\": \"hi\"}]", weather);
    a.o.tool_choice = CALL_TOOLS_REQUIRED;
    begin(&a);
    token(0, 'x', "{\"name\":\"weather\",\"parameters\":{\"ci");      // what there is, at once
    finish(0, ENGINE_LENGTH, "");
    done();
    told(a.c, got, sizeof got);
    assert_string_equal(got, "0#0 weather({\"ci0:1 D0");
    end(&a);
}

static void test_one_tool(void **state)
{
    (void)state;
    ask a = asked(CHAT_LLAMA3_HF, "[{\"role\": \"user\", \"content\": \"hi\"}]", weather);
    a.o.tool_choice = CALL_TOOLS_REQUIRED;
    a.o.one_tool = true;
    begin(&a);
    assert_true(allows("{\"name\":\"weather\",\"parameters\":{\"city\":\"Oslo\"}}"));
    assert_false(allows("[{\"name\":\"weather\",\"parameters\":{\"city\":\"Oslo\"}}]"));
    end(&a);
}

/* References inside a function's schema start at that schema, wherever it comes to stand. */
static void test_references(void **state)
{
    (void)state;
    ask a = asked(CHAT_LLAMA3_HF, "[{\"role\": \"user\", \"content\": \"hi\"}]",
        "[{\"type\": \"function\", \"function\": {\"name\": \"a\", \"parameters\": {\"type\": \"object\"}}},"
        " {\"type\": \"function\", \"function\": {\"name\": \"b\", \"strict\": true, \"parameters\": {\"$defs\": "
        "{\"n\": {\"enum\": [1, 2]}}, \"type\": \"object\", \"properties\": {\"x\": {\"$ref\": \"#/$defs/n\"}}, "
        "\"required\": [\"x\"], \"additionalProperties\": false}}}]");
    a.o.tool_choice = CALL_TOOLS_NAMED, a.o.tool_name = "b";
    begin(&a);
    if (a.rc) print_message("%s\n", a.e.msg);
    assert_int_equal(a.rc, DR_OK);
    assert_true(allows("{\"name\":\"b\",\"parameters\":{\"x\":2}}"));
    assert_false(allows("{\"name\":\"b\",\"parameters\":{\"x\":3}}"));
    assert_false(allows("{\"name\":\"a\",\"parameters\":{}}"));
    end(&a);
}

/* What a schema says and cannot be enforced: refused where strict was asked for, else any object. */
static void test_not_enforceable(void **state)
{
    (void)state;
    const char *form = "[{\"type\": \"function\", \"function\": {\"name\": \"f\", \"strict\": %s, \"parameters\": "
                       "{\"type\": \"object\", \"if\": {}}}}]";
    for (int strict = 0; strict < 2; strict++) {
        char tools[256];
        snprintf(tools, sizeof tools, form, strict ? "true" : "false");
        ask a = asked(CHAT_LLAMA3_HF, "[{\"role\": \"user\", \"content\": \"hi\"}]", tools);
        a.o.tool_choice = CALL_TOOLS_REQUIRED;
        begin(&a);
        if (strict) {
            assert_int_equal(a.rc, DR_EUNSUPPORTED);
            assert_string_equal(a.param, "tools");
            assert_non_null(strstr(a.e.msg, "if"));
        } else {
            assert_int_equal(a.rc, DR_OK);
            assert_true(allows("{\"name\":\"f\",\"parameters\":{\"x\":[1]}}"));
        }
        end(&a);
    }
}

static void test_schema_beside_tools(void **state)
{
    (void)state;
    ask a = asked(CHAT_LLAMA3_HF, "[{\"role\": \"user\", \"content\": \"hi\"}]", weather);
    a.o.format = CALL_JSON_SCHEMA;
    a.o.schema = span_of("{\"$defs\": {\"y\": {\"type\": \"boolean\"}}, \"type\": \"object\", \"properties\": "
                         "{\"ok\": {\"$ref\": \"#/$defs/y\"}}, \"required\": [\"ok\"], \"additionalProperties\": "
                         "false}");
    begin(&a);
    assert_int_equal(a.rc, DR_OK);
    assert_true(allows("{\"ok\":true}"));
    assert_true(allows("{\"name\":\"weather\",\"parameters\":{\"city\":\"Oslo\"}}"));
    assert_false(allows("{\"ok\":1}"));
    end(&a);
    a = asked(CHAT_LLAMA3_HF, "[{\"role\": \"user\", \"content\": \"hi\"}]", weather);
    a.o.format = CALL_JSON_SCHEMA, a.o.schema = span_of("{\"type\": \"boolean\"}");
    a.o.tool_choice = CALL_TOOLS_NONE;
    begin(&a);
    assert_true(allows("true"));
    assert_false(allows("{\"name\":\"weather\",\"parameters\":{\"city\":\"Oslo\"}}"));
    end(&a);
}

/* ---- prompts */

static char *prompt_of(ask *a)
{
    static char out[4096];
    buf text = { .cap_max = 1 << 20 };
    ids v = { 0 };
    a->rc = call_prompt(&s, &a->o, &v, &text, &a->param, &a->e);
    snprintf(out, sizeof out, "%s", a->rc ? a->e.msg : buf_str(&text));
    if (!a->rc) {                                        // text and ids are the same prompt
        buf back = { .cap_max = 1 << 20 };
        assert_int_equal(tok_decode(s.tok, v.p, v.n, true, &back, NULL), DR_OK);
        assert_string_equal(buf_str(&back), out);
        buf_free(&back);
    }
    ids_free(&v);
    buf_free(&text);
    return out;
}

static void test_in_words(void **state)
{
    (void)state;
    ask a = asked(CHAT_CHATML,
        "[{\"role\": \"developer\", \"content\": \"Be short.\"}, {\"role\": \"user\", \"content\": [{\"type\": \"text\","
        " \"text\": \"a\"}, {\"type\": \"text\", \"text\": \"b\"}]}, {\"role\": \"assistant\", \"content\": null, "
        "\"tool_calls\": [{\"id\": \"1\", \"type\": \"function\", \"function\": {\"name\": \"weather\", "
        "\"arguments\": \"{\\\"city\\\": \\\"Oslo\\\"}\"}}]}, {\"role\": \"tool\", \"tool_call_id\": \"1\", "
        "\"content\": \"rain\"}]", weather);
    char *p = prompt_of(&a);
    assert_int_equal(a.rc, DR_OK);
    char *at = strstr(p, "<|im_start|>system\nBe short.\n\nYou can call");
    assert_ptr_equal(at, p);
    assert_non_null(strstr(p, "{\"name\": \"weather\", \"description\": \"of a city\""));
    assert_non_null(strstr(p, "<|im_end|>\n<|im_start|>user\na\nb<|im_end|>\n<|im_start|>assistant\n"
                           "{\"name\": \"weather\", \"parameters\": {\"city\": \"Oslo\"}}<|im_end|>\n<|im_start|>user\n"
                           "The result of the call of weather:\nrain<|im_end|>\n<|im_start|>assistant\n"));
    end(&a);
}

static void test_go_on(void **state)
{
    (void)state;
    ask a = asked(CHAT_CHATML, "[{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": "
                  "\"One, tw\"}]", NULL);
    a.o.go_on = true;
    assert_string_equal(prompt_of(&a), "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nOne, tw");
    end(&a);
    a = asked(CHAT_CHATML, "[{\"role\": \"user\", \"content\": \"a\"}]", NULL);
    a.o.go_on = true;
    prompt_of(&a);
    assert_int_equal(a.rc, DR_EINVAL);
    end(&a);
}

/* What a user writes stays text. */
static void test_no_control_tokens(void **state)
{
    (void)state;
    ask a = asked(CHAT_CHATML, "[{\"role\": \"user\", \"content\": \"<|im_end|>\"}]", NULL);
    begin(&a);
    int ends = 0;
    for (int i = 0; i < last.n_prompt; i++) ends += last_prompt[i] == IM_END;
    assert_int_equal(ends, 1);
    end(&a);
}

static void test_ids(void **state)
{
    (void)state;
    static const int32_t v[] = { 'a', 'b', EOT };
    ask a = asked(CHAT_CHATML, "[]", NULL);
    a.o.messages = NULL;
    a.o.ids = v, a.o.n_ids = 3;
    begin(&a);
    assert_int_equal(a.rc, DR_OK);
    assert_int_equal(last.n_prompt, 3);
    assert_int_equal(last_prompt[2], EOT);
    assert_int_equal(last.n_end, 0);
    end(&a);
    static const int32_t w[] = { N_ALL };
    a = asked(CHAT_CHATML, "[]", NULL);
    a.o.messages = NULL;
    a.o.ids = w, a.o.n_ids = 1;
    begin(&a);
    assert_int_equal(a.rc, DR_EINVAL);
    end(&a);
}

/* ---- what is refused, and by which name */

static void test_refused(void **state)
{
    (void)state;
    static const struct { const char *messages, *tools, *param, *says; } bad[] = {
        { "[]", NULL, "messages", "at least one" },
        { "[{\"role\": \"user\"}]", NULL, "messages", "no content" },
        { "[{\"role\": \"king\", \"content\": \"a\"}]", NULL, "messages", "'king'" },
        { "[{\"content\": \"a\"}]", NULL, "messages", "role" },
        { "[3]", NULL, "messages", "messages[0]" },
        { "[{\"role\": \"user\", \"content\": \"a\", \"colour\": 1}]", NULL, "messages", "messages[0].colour" },
        { "[{\"role\": \"user\", \"content\": \"a\", \"tool_calls\": []}]", NULL, "messages", "tool_calls" },
        { "[{\"role\": \"user\", \"content\": [{\"type\": \"image_url\"}]}]", NULL, "messages", "image_url" },
        { "[{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": 1}]}]", NULL, "messages", "string" },
        { "[{\"role\": \"user\", \"content\": 1}]", NULL, "messages", "messages[0].content" },
        { "[{\"role\": \"assistant\", \"content\": \"\", \"function_call\": {}}]", NULL, "messages", "function_call" },
        { "[{\"role\": \"assistant\", \"tool_calls\": [{\"function\": {\"name\": 1}}]}]", NULL, "messages", "name" },
        { "[{\"role\": \"user\", \"content\": \"a\"}]", "{}", "tools", "a list" },
        { "[{\"role\": \"user\", \"content\": \"a\"}]", "[{\"type\": \"web_search\"}]", "tools", "web_search" },
        { "[{\"role\": \"user\", \"content\": \"a\"}]", "[{\"type\": \"function\", \"function\": {\"name\": \"a b\"}}]",
          "tools", "name" },
        { "[{\"role\": \"user\", \"content\": \"a\"}]", "[{\"type\": \"function\", \"function\": {\"name\": \"a\"}},"
          "{\"type\": \"function\", \"function\": {\"name\": \"a\"}}]", "tools", "two tools" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ask a = asked(CHAT_LLAMA3_HF, bad[i].messages, bad[i].tools);
        begin(&a);
        if (!a.rc || !a.param || strcmp(a.param, bad[i].param) || !strstr(a.e.msg, bad[i].says))
            fail_msg("%s: %d %s %s", bad[i].messages, a.rc, a.param ? a.param : "-", a.e.msg);
        end(&a);
    }
}

static void test_choice_without_tools(void **state)
{
    (void)state;
    ask a = asked(CHAT_LLAMA3_HF, "[{\"role\": \"user\", \"content\": \"a\"}]", NULL);
    a.o.tool_choice = CALL_TOOLS_REQUIRED;
    begin(&a);
    assert_int_equal(a.rc, DR_EINVAL);
    assert_string_equal(a.param, "tool_choice");
    end(&a);
    a = asked(CHAT_LLAMA3_HF, "[{\"role\": \"user\", \"content\": \"a\"}]", weather);
    a.o.tool_choice = CALL_TOOLS_NAMED, a.o.tool_name = "time";
    begin(&a);
    assert_int_equal(a.rc, DR_EINVAL);
    assert_non_null(strstr(a.e.msg, "time"));
    end(&a);
}

static void test_too_long_and_busy(void **state)
{
    (void)state;
    ask a = asked(CHAT_CHATML, "[{\"role\": \"user\", \"content\": \"0123456789012345678901234567890123456789\"}]", NULL);
    engine_of_test.ctx = 50;
    begin(&a);
    engine_of_test.ctx = 4096;
    assert_int_equal(a.rc, DR_EINVAL);
    assert_ptr_equal(a.param, call_too_long);
    end(&a);
    a = asked(CHAT_CHATML, "[{\"role\": \"user\", \"content\": \"a\"}]", NULL);
    busy = 1;
    begin(&a);
    assert_int_equal(a.rc, DR_EBUSY);
    assert_int_equal(a.retry, 7);
    end(&a);
}

static void test_kwargs(void **state)
{
    (void)state;
    ask a = asked(CHAT_LLAMA3_HF, "[{\"role\": \"user\", \"content\": \"a\"}]", NULL);
    a.o.kwargs = a.kwargs = js("{\"date_string\": \"1 May 2025\"}");
    assert_non_null(strstr(prompt_of(&a), "1 May 2025"));
    end(&a);
    a = asked(CHAT_LLAMA3_HF, "[{\"role\": \"user\", \"content\": \"a\"}]", NULL);
    a.o.kwargs = a.kwargs = js("{\"enable_thinking\": false}");
    begin(&a);
    assert_int_equal(a.rc, DR_EINVAL);
    assert_string_equal(a.param, "chat_template_kwargs");
    end(&a);
}

/* ---- without memory: an error, never a crash, and nothing is lost */

static void test_no_memory(void **state)
{
    (void)state;
    size_t before = mem_live_bytes();
    int ok = 0;
    for (long k = 0; k < 4000 && !ok; k++) {
        ask a = asked(CHAT_CHATML, "[{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": "
                      "\"\", \"tool_calls\": [{\"id\": \"1\", \"function\": {\"name\": \"weather\", \"arguments\": "
                      "\"{}\"}}]}, {\"role\": \"tool\", \"content\": \"x\", \"tool_call_id\": \"1\"}]", weather);
        a.o.tool_choice = k % 2 ? CALL_TOOLS_REQUIRED : CALL_TOOLS_AUTO;
        mem_fail_after(k);
        begin(&a);
        token(0, 'x', k % 2 ? "{\"name\":\"weather\",\"parameters\":{\"city\":\"A\"}}"
                         : "{\"name\": \"weather\", \"parameters\": {\"city\": \"A\"}} and");
        if (k % 2 == 0) token(0, IM_END, "<|im_end|>");
        finish(0, ENGINE_STOP, "");
        done();
        call_event ev;
        bool whole = false;
        while (a.c && call_next(a.c, &ev))
            if (ev.kind == CALL_DONE) {
                assert_true(ev.ev->code == DR_OK || ev.ev->code == DR_ENOMEM);
                whole = ev.ev->code == DR_OK;
            }
        mem_fail_after(-1);
        ok = whole && k % 2;
        if (a.rc && a.rc != DR_ENOMEM) fail_msg("after %ld: %s", k, a.e.msg);
        end(&a);
    }
    assert_true(ok);
    assert_int_equal(mem_live_bytes(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text), cmocka_unit_test(test_call_after_marker), cmocka_unit_test(test_end_is_no_text),
        cmocka_unit_test(test_two_calls), cmocka_unit_test(test_required), cmocka_unit_test(test_one_tool),
        cmocka_unit_test(test_forced_in_pieces),
        cmocka_unit_test(test_references), cmocka_unit_test(test_not_enforceable),
        cmocka_unit_test(test_schema_beside_tools), cmocka_unit_test(test_in_words), cmocka_unit_test(test_go_on),
        cmocka_unit_test(test_no_control_tokens), cmocka_unit_test(test_ids), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_choice_without_tools), cmocka_unit_test(test_too_long_and_busy),
        cmocka_unit_test(test_kwargs), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
