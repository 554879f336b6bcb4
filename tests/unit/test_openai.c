/* test_openai.c - OpenAI's API: from a script of the engine's events to its bytes, and bodies that are cut,
 * damaged or read without memory. */
#define _DEFAULT_SOURCE               /* mkstemps */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include "fake_serve.h"
#include "hostile.h"

static int set_up(void **state)
{
    (void)state;
    hostile_begin();
    return fake_open();
}
static int tear_down(void **state) { (void)state; fake_close(); return 0; }

static buf out = { .cap_max = 1 << 24 };
static http_reply last;

static int ask(const char *path, const char *body)
{
    buf_reset(&out);
    return fake_ask(openai_routes, path, span_of(body), &out, &last);
}
static void has(const char *text)
{
    if (!strstr(buf_str(&out), text)) fail_msg("\"%s\" is not in\n%s", text, buf_str(&out));
}
static void has_not(const char *text)
{
    if (strstr(buf_str(&out), text)) fail_msg("\"%s\" is in\n%s", text, buf_str(&out));
}
/* Each line of data is one JSON value, the last is [DONE]; how many. */
static int values(void)
{
    int n = 0;
    const char *p = buf_str(&out);
    bool done = false;
    while ((p = strstr(p, "data: "))) {
        const char *end = strchr(p, '\n');
        assert_non_null(end);
        p += 6;
        assert_false(done);
        done = !strncmp(p, "[DONE]", 6);
        json_t *v = done ? NULL : json_loadb(p, (size_t)(end - p), 0, NULL);
        if (!done && !v) fail_msg("not JSON: %.*s", (int)(end - p), p);
        json_decref(v);
        n++;
    }
    return n;
}

#define HI "\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]"
#define TOOLS "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\"}}}]"

static const char *const words[] = { "Hel", "lo \"", "w\xc3\xb6rld\n" };

static void chat_whole(void **state)
{
    (void)state;
    fake_reply(words, 3, ENGINE_LENGTH, NULL);
    assert_int_equal(ask("/v1/chat/completions", "{" HI ",\"max_tokens\":3,\"stop\":[\"a\",\"b\"],\"top_k\":7,\"seed\":-1}"), 200);
    has("\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"Hello \\\"w\xc3\xb6rld\\n\",\"refusal\":null,"
        "\"annotations\":[]},\"logprobs\":null,\"finish_reason\":\"length\"}],\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":3,"
        "\"total_tokens\":23,\"prompt_tokens_details\":{\"cached_tokens\":5},\"completion_tokens_details\":{\"reasoning_tokens\":0}}}");
    assert_int_equal(fake_last.max_tokens, 3);
    assert_int_equal(fake_last.n_stop, 2);
    assert_int_equal(fake_last.sample.top_k, 7);
    assert_true(fake_last.sample.seed == UINT64_MAX);
    uint64_t seed[2];
    for (int i = 0; i < 2; i++) {
        ask("/v1/chat/completions", "{" HI "}");
        seed[i] = fake_last.sample.seed;
    }
    assert_true(seed[0] != seed[1]);
    assert_int_equal(fake_last.max_tokens, -1);
    ask("/v1/completions", "{\"prompt\":\"a\"}");
    assert_int_equal(fake_last.max_tokens, 16);
}

/* A token of bytes that are no character; chunks carry the log-probabilities of all tokens up to their text. */
static void chat_logprobs(void **state)
{
    (void)state;
    static const sample_prob top[] = { { 'a', -0.25f }, { 0xc3, -INFINITY } };
    for (int stream = 0; stream < 2; stream++) {
        n_fake_script = 0;
        fake_play((engine_event){ ENGINE_BEGIN });
        fake_play((engine_event){ ENGINE_TOKEN, .id = 0xc3, .text = { "", 0 }, .logprob = -1.5f, .top = top, .n_top = 2 });
        fake_play((engine_event){ ENGINE_TOKEN, .id = 0xb6, .text = span_of("\xc3\xb6"), .logprob = 0, .top = top, .n_top = 1 });
        fake_play((engine_event){ ENGINE_TOKEN, .id = 257, .text = { "", 0 }, .logprob = -0.125f, .top = top, .n_top = 1 });
        fake_play((engine_event){ ENGINE_FINISH, .finish = ENGINE_STOP, .text = { "", 0 } });
        fake_play((engine_event){ ENGINE_DONE, .usage = { .n_prompt = 1, .n_gen = 3 } });
        ask("/v1/chat/completions", stream ? "{" HI ",\"logprobs\":true,\"top_logprobs\":2,\"stream\":true}"
                                           : "{" HI ",\"logprobs\":true,\"top_logprobs\":2}");
        has("{\"token\":\"\\ufffd\",\"logprob\":-1.5,\"bytes\":[195],\"top_logprobs\":[{\"token\":\"a\",\"logprob\":-0.25,\"bytes\":[97]},"
            "{\"token\":\"\\ufffd\",\"logprob\":-9999.0,\"bytes\":[195]}]},{\"token\":\"\\ufffd\",\"logprob\":0,\"bytes\":[182],");
        has("{\"token\":\"<|im_end|>\",\"logprob\":-0.125,");
        assert_int_equal(fake_last.sample.n_probs, 2);
        if (stream) {
            has("\"delta\":{\"content\":\"\xc3\xb6\"},\"logprobs\":{\"content\":[{\"token\":\"\\ufffd\",\"logprob\":-1.5");
            has("\"delta\":{},\"logprobs\":{\"content\":[{\"token\":\"<|im_end|>\"");
            assert_int_equal(values(), 4);               // role, text, end, [DONE]
        }
    }
}

static void chat_tools(void **state)
{
    (void)state;
    static const char *const calls[] = { "So: {\"name\": \"f\", ", "\"parameters\": {\"x\": \"\\\"\"}}" };
    fake_reply(calls, 2, ENGINE_STOP, NULL);
    ask("/v1/chat/completions", "{" HI "," TOOLS "}");
    has("\"content\":\"So: \",\"refusal\":null,\"annotations\":[],\"tool_calls\":[{\"id\":\"call_");
    has("\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"x\\\": \\\"\\\\\\\"\\\"}\"}}]},\"logprobs\":null,"
        "\"finish_reason\":\"tool_calls\"");
    ask("/v1/chat/completions", "{" HI "," TOOLS ",\"stream\":true,\"stream_options\":{\"include_usage\":true}}");
    has("\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"call_");
    has("\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{\\\"x\\\": \\\"\\\\\\\"\\\"}\"}}]}");
    has("\"choices\":[],\"usage\":{\"prompt_tokens\":20");
    assert_int_equal(values(), 7);         // role, text, name, arguments, end, usage, [DONE]
    ask("/v1/chat/completions", "{" HI "," TOOLS ",\"tool_choice\":\"none\"}");
    has("\"content\":\"So: {\\\"name\\\"");
    has_not("tool_calls");
}

static void completions(void **state)
{
    (void)state;
    n_fake_script = 0;
    fake_play((engine_event){ ENGINE_BEGIN });
    fake_play((engine_event){ ENGINE_PROMPT_TOKEN, .pos = 1, .id = 0xb6, .logprob = -2 });
    fake_play((engine_event){ ENGINE_TOKEN, .sample = 0, .id = 'x', .text = span_of("x"), .logprob = -1 });
    fake_play((engine_event){ ENGINE_TOKEN, .sample = 1, .id = 'y', .text = span_of("y"), .logprob = -3 });
    fake_play((engine_event){ ENGINE_FINISH, .sample = 1, .finish = ENGINE_STOP, .text = { "", 0 } });
    fake_play((engine_event){ ENGINE_FINISH, .sample = 0, .finish = ENGINE_LENGTH, .text = { "", 0 } });
    fake_play((engine_event){ ENGINE_DONE, .usage = { .n_prompt = 2, .n_gen = 2 } });
    assert_int_equal(ask("/v1/completions", "{\"prompt\":[195,182],\"echo\":true,\"logprobs\":0,\"n\":2,\"max_tokens\":1}"), 200);
    has("{\"index\":0,\"text\":\"\xc3\xb6x\",\"logprobs\":{\"tokens\":[\"bytes:\\\\xc3\",\"bytes:\\\\xb6\",\"x\"],\"token_logprobs\":[null,-2,-1],"
        "\"top_logprobs\":[null,{\"bytes:\\\\xb6\":-2},{\"x\":-1}],\"text_offset\":[0,1,1]},\"finish_reason\":\"length\"}");
    has("{\"index\":1,\"text\":\"\xc3\xb6y\"");
    has("\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":2,\"completion_tokens\":2");
    assert_int_equal(fake_last.prompt_probs, 0);
    assert_int_equal(fake_last.n_samples, 2);
    /* many prompts: more than run at a time, numbered through */
    fake_reply(words, 1, ENGINE_STOP, NULL);
    buf many = { .cap_max = 1 << 16 };
    buf_puts(&many, "{\"prompt\":[\"a\"");
    for (int i = 1; i < 40; i++) buf_puts(&many, ",[98]");
    buf_puts(&many, "]}");
    assert_int_equal(ask("/v1/completions", buf_str(&many)), 200);
    buf_free(&many);
    has("{\"index\":39,\"text\":\"Hel\"");
    has_not("{\"index\":40");
    has("\"usage\":{\"prompt_tokens\":800,\"completion_tokens\":40");
}

static void responses(void **state)
{
    (void)state;
    static const char *const calls[] = { "So: {\"name\": \"f\", \"parameters\": {\"x\": 1}}" };
    fake_reply(calls, 1, ENGINE_STOP, NULL);
    assert_int_equal(ask("/v1/responses", "{\"input\":\"Hi\",\"tools\":[{\"type\":\"function\",\"name\":\"f\"}],\"stream\":true}"), 200);
    static const char *const order[] = {
        "event: response.created\n", "event: response.in_progress\n", "event: response.output_item.added\n",
        "event: response.content_part.added\n", "event: response.output_text.delta\n", "event: response.output_text.done\n",
        "event: response.content_part.done\n", "event: response.output_item.done\n", "event: response.output_item.added\n",
        "event: response.function_call_arguments.delta\n", "event: response.function_call_arguments.done\n",
        "event: response.output_item.done\n", "event: response.completed\n",
    };
    const char *p = buf_str(&out);
    for (int i = 0; i < 13; i++) {
        const char *next = strstr(p, "event: "), *data = next ? strchr(next, '\n') + 7 : NULL;
        assert_non_null(next);
        if (strncmp(next, order[i], strlen(order[i]))) fail_msg("%d: %s instead of %.60s", i, order[i], next);
        json_t *v = json_loadb(data, strcspn(data, "\n"), 0, NULL);
        assert_non_null(v);
        assert_int_equal(json_integer_value(json_object_get(v, "sequence_number")), i);
        json_decref(v);
        p = data;
    }
    assert_null(strstr(p, "event: "));
    has("\"output\":[{\"id\":\"msg_");
    fake_reply(words, 3, ENGINE_LENGTH, NULL);
    ask("/v1/responses", "{\"input\":\"Hi\",\"max_output_tokens\":3}");
    has("\"status\":\"incomplete\",\"error\":null,\"incomplete_details\":{\"reason\":\"max_output_tokens\"}");
    has("\"text\":\"Hello \\\"w\xc3\xb6rld\\n\"}]}],\"usage\":{\"input_tokens\":20,\"input_tokens_details\":{\"cached_tokens\":5");
}

static void errors(void **state)
{
    (void)state;
    static const struct { const char *path, *body; } all[] = {
        { "/v1/chat/completions", "{" HI "}" }, { "/v1/completions", "{\"prompt\":\"a\"}" }, { "/v1/responses", "{\"input\":\"a\"}" },
    };
    fake_reply(words, 1, ENGINE_STOP, NULL);
    for (int i = 0; i < 3; i++) {
        fake_busy = 1;
        assert_int_equal(ask(all[i].path, all[i].body), 429);
        assert_string_equal(last.head[0].name, "Retry-After");
        assert_string_equal(last.head[0].value, "7");
        fake_busy = 0;
        fake_engine.ctx = 3;
        assert_int_equal(ask(all[i].path, i == 1 ? "{\"prompt\":\"abc\"}" : all[i].body), 400);
        has("\"code\":\"context_length_exceeded\"");
        fake_engine.ctx = 4096;
    }
    n_fake_script = 0;                              /* the engine has no memory for it */
    fake_play((engine_event){ ENGINE_DONE, .code = DR_ENOMEM, .msg = "no memory" });
    for (int i = 0; i < 3; i++) assert_int_equal(ask(all[i].path, all[i].body), 503);
    assert_int_equal(ask(all[0].path, "{\"stream\":true," HI "}"), 200);
    has("data: {\"error\":{\"message\":\"no memory\"");
    assert_int_equal(values(), 2);
    assert_int_equal(ask(all[2].path, "{\"input\":\"a\",\"stream\":true}"), 200);
    has("event: response.failed\n");
    fake_reply(words, 2, ENGINE_CANCELLED, NULL);   /* the server ends: half a reply is none */
    for (int i = 0; i < 3; i++) assert_int_equal(ask(all[i].path, all[i].body), 503);
    assert_int_equal(ask(all[0].path, "{\"stream\":true," HI "}"), 200);
    has("data: {\"error\":{\"message\":\"the server ended");
    has_not("finish_reason\":\"");
    n_fake_script = 0;                              /* nothing more comes: it waits, and is closed so */
    assert_int_equal(ask(all[0].path, all[0].body), 0);
    assert_int_equal(ask(all[1].path, "{\"prompt\":[\"a\",\"b\"]}"), 0);
}

/* ---- what nobody should send */

static const struct { const char *path, *body; } bodies[] = {
    { "/v1/chat/completions", "{\"model\":\"tiny\",\"messages\":[{\"role\":\"developer\",\"content\":[{\"type\":\"text\",\"text\":\"s\"}]},"
      "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"i\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},"
      "{\"role\":\"tool\",\"tool_call_id\":\"i\",\"content\":\"r\"}]," TOOLS ",\"stop\":[\"x\"],\"stream\":true,\"stream_options\":{\"include_usage\":true},"
      "\"logit_bias\":{\"5\":-100},\"logprobs\":true,\"top_logprobs\":2,\"n\":2,\"metadata\":{\"a\":\"b\"}}" },
    { "/v1/chat/completions", "{" HI ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"n\",\"schema\":{\"enum\":[1]}}},"
      "\"stop_token_ids\":[1],\"seed\":1}" },
    { "/v1/completions", "{\"prompt\":[[97,98],[99]],\"echo\":true,\"logprobs\":1,\"n\":2,\"temperature\":0.5}" },
    { "/v1/completions", "{\"prompt\":[\"a\",\"b\"],\"stream\":true,\"regex\":\"a\"}" },
    { "/v1/responses", "{\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":\"a\"}]},{\"type\":\"function_call\","
      "\"call_id\":\"c\",\"name\":\"f\",\"arguments\":\"{}\"},{\"type\":\"function_call_output\",\"call_id\":\"c\",\"output\":\"r\"}],"
      "\"tools\":[{\"type\":\"function\",\"name\":\"f\"}],\"tool_choice\":\"auto\",\"instructions\":\"i\",\"include\":[\"message.output_text.logprobs\"]}" },
    { "/v1/responses", "{\"input\":\"a\",\"text\":{\"format\":{\"type\":\"json_object\"}},\"stream\":true}" },
};
static int which;

static int read_body(const void *p, size_t n, dr_err *e)
{
    buf b = { .cap_max = 1 << 24 };
    http_reply o;
    int status = fake_ask(openai_routes, bodies[which].path, (span){ p, n }, &b, &o);
    bool said = b.n && (strstr(buf_str(&b), "response.failed") || strstr(buf_str(&b), "{\"error\""));
    buf_free(&b);
    if (status == 200 && !said) return DR_OK;
    return err_set(e, status == 500 || status == 503 || said ? DR_ENOMEM : DR_EINVAL, "status %d", status);
}

static void hostile(void **state)
{
    (void)state;
    static const char *const calls[] = { "a{\"name\": \"f\", \"parameters\": {\"x\": 1}}", "b" };
    fake_reply(calls, 2, ENGINE_STOP, "x");
    buf_free(&out);
    for (which = 0; which < (int)(sizeof bodies / sizeof *bodies); which++) {
        const char *s = bodies[which].body;
        hostile_truncate(read_body, s, strlen(s));
        hostile_flip(read_body, s, strlen(s), 1);
        hostile_nomem(read_body, s, strlen(s), true);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chat_whole), cmocka_unit_test(chat_logprobs), cmocka_unit_test(chat_tools),
        cmocka_unit_test(completions), cmocka_unit_test(responses), cmocka_unit_test(errors), cmocka_unit_test(hostile),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
