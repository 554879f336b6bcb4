/* test_apis.c - the messages API and Ollama's: from a script of the engine's events to their bytes, and bodies
 * that are cut, damaged or read without memory. */
#define _DEFAULT_SOURCE               /* mkstemps */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "fake_serve.h"
#include "hostile.h"

static int set_up(void **state)
{
    (void)state;
    hostile_begin();
    return fake_open();
}
static int tear_down(void **state) { (void)state; fake_close(); return 0; }

static const char *const words[] = { "Hel", "lo \"", "w\xc3\xb6rld\"\n" };
static buf out = { .cap_max = 1 << 24 };
static http_reply last;

static int ask(const http_route *routes, const char *path, const char *body)
{
    buf_reset(&out);
    return fake_ask(routes, path, span_of(body), &out, &last);
}

/* `text` with each #name# as any run of characters that holds no quote. */
static void wrote(const char *text)
{
    const char *p = buf_str(&out), *t = text;
    while (*t) {
        if (*t != '#') {
            if (*p != *t) fail_msg("at \"%.60s\" there is \"%.60s\"\n%s", t, p, buf_str(&out));
            p++, t++;
            continue;
        }
        t = strchr(t + 1, '#') + 1;
        while (*p && *p != '"') p++;
    }
    if (*p) fail_msg("behind it there is \"%.80s\"", p);
}

#define HI "\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]"
#define TOOLS "\"tools\":[{\"name\":\"f\",\"input_schema\":{\"type\":\"object\"}}]"

static void messages_whole(void **state)
{
    (void)state;
    fake_reply(words, 3, ENGINE_LENGTH, NULL);
    assert_int_equal(ask(anthropic_routes, "/v1/messages", "{\"max_tokens\":3," HI ",\"stop_sequences\":[\"x\"],\"top_k\":9}"), 200);
    wrote("{\"id\":\"msg_#id#\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"tiny\",\"content\":[{\"type\":\"text\","
          "\"text\":\"Hello \\\"w\xc3\xb6rld\\\"\\n\"}],\"stop_reason\":\"max_tokens\",\"stop_sequence\":null,\"usage\":{"
          "\"input_tokens\":15,\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":5,\"output_tokens\":3}}");
    assert_int_equal(fake_last.max_tokens, 3);
    assert_int_equal(fake_last.n_stop, 1);
    assert_int_equal(fake_last.sample.top_k, 9);
    fake_reply(words, 1, ENGINE_STOP, "x\"y");
    assert_int_equal(ask(anthropic_routes, "/v1/messages", "{\"max_tokens\":3," HI "}"), 200);
    assert_non_null(strstr(buf_str(&out), "\"stop_reason\":\"stop_sequence\",\"stop_sequence\":\"x\\\"y\""));
    fake_reply(words, 1, ENGINE_STOP, NULL);
    ask(anthropic_routes, "/v1/messages", "{\"max_tokens\":3," HI "}");
    assert_non_null(strstr(buf_str(&out), "\"stop_reason\":\"end_turn\",\"stop_sequence\":null"));
    fake_reply(words, 1, ENGINE_CONTEXT, NULL);
    ask(anthropic_routes, "/v1/messages", "{\"max_tokens\":3," HI "}");
    assert_non_null(strstr(buf_str(&out), "\"model_context_window_exceeded\""));
    fake_reply(words, 0, ENGINE_STOP, NULL);
    ask(anthropic_routes, "/v1/messages", "{\"max_tokens\":3," HI "}");
    assert_non_null(strstr(buf_str(&out), "\"content\":[]"));
}

static void messages_stream(void **state)
{
    (void)state;
    fake_reply(words, 2, ENGINE_STOP, NULL);
    assert_int_equal(ask(anthropic_routes, "/v1/messages", "{\"max_tokens\":3,\"stream\":true," HI "}"), 200);
    assert_string_equal(last.type, "text/event-stream");
    wrote(": \n\nevent: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_#id#\",\"type\":\"message\","
          "\"role\":\"assistant\",\"model\":\"tiny\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{"
          "\"input_tokens\":15,\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":5,\"output_tokens\":0}}}\n\n"
          "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n"
          "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hel\"}}\n\n"
          "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"lo \\\"\"}}\n\n"
          "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n"
          "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{"
          "\"input_tokens\":15,\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":5,\"output_tokens\":2}}\n\n"
          "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
}

/* Text, then a call, then a call that was cut. */
static void messages_tools(void **state)
{
    (void)state;
    static const char *const calls[] = { "{\"name\": \"f\", ", "\"parameters\": {\"x\": 1}}" };
    fake_reply(calls, 2, ENGINE_STOP, NULL);
    ask(anthropic_routes, "/v1/messages", "{\"max_tokens\":9," HI "," TOOLS "}");
    assert_non_null(strstr(buf_str(&out), "\"name\":\"f\",\"input\":{\"x\": 1}}],\"stop_reason\":\"tool_use\""));
    assert_non_null(strstr(buf_str(&out), "[{\"type\":\"tool_use\",\"id\":\"toolu_"));
    ask(anthropic_routes, "/v1/messages", "{\"max_tokens\":9,\"stream\":true," HI "," TOOLS "}");
    const char *start = strstr(buf_str(&out), "\"content_block\":{\"type\":\"tool_use\",\"id\":\"toolu_");
    const char *args = strstr(buf_str(&out), "\"partial_json\":\"{\\\"x\\\": 1}\"");
    assert_true(start && args && start < args);
    static const char *const cut[] = { "{\"name\": \"f\", \"parameters\": {\"x\": " };
    fake_reply(cut, 1, ENGINE_LENGTH, NULL);
    ask(anthropic_routes, "/v1/messages", "{\"max_tokens\":9," HI "," TOOLS "}");
    json_t *v = json_loads(buf_str(&out), 0, NULL);         /* whatever is left of it, it is JSON */
    assert_non_null(v);
    json_decref(v);
}

static void errors(void **state)
{
    (void)state;
    fake_busy = 1;
    assert_int_equal(ask(anthropic_routes, "/v1/messages", "{\"max_tokens\":3," HI "}"), 429);
    assert_string_equal(last.head[0].name, "Retry-After");
    assert_string_equal(last.head[0].value, "7");
    assert_non_null(strstr(buf_str(&out), "\"rate_limit_error\""));
    assert_int_equal(ask(ollama_routes, "/api/chat", "{\"model\":\"tiny\"," HI "}"), 429);
    assert_string_equal(buf_str(&out), "{\"error\":\"too many wait\"}");
    assert_int_equal(ask(ollama_model_routes, "/api/embed", "{\"model\":\"tiny\",\"input\":\"a\"}"), 429);
    assert_string_equal(last.head[0].value, "7");
    fake_busy = 0;
    n_fake_script = 0;                              /* the engine has no memory for it */
    fake_play((engine_event){ ENGINE_DONE, .code = DR_ENOMEM, .msg = "no memory" });
    assert_int_equal(ask(anthropic_routes, "/v1/messages", "{\"max_tokens\":3," HI "}"), 503);
    assert_int_equal(ask(ollama_routes, "/api/chat", "{\"model\":\"tiny\"," HI "}"), 503);
    assert_string_equal(buf_str(&out), "{\"error\":\"no memory\"}");
    assert_int_equal(ask(ollama_model_routes, "/api/embed", "{\"model\":\"tiny\",\"input\":[\"a\",\"b\"]}"), 503);
    assert_int_equal(ask(anthropic_routes, "/v1/messages", "{\"max_tokens\":3,\"stream\":true," HI "}"), 200);
    wrote(": \n\nevent: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"no memory\"}}\n\n");
    fake_reply(words, 1, ENGINE_CANCELLED, NULL);   /* the server ends: half a reply is none */
    assert_int_equal(ask(anthropic_routes, "/v1/messages", "{\"max_tokens\":3," HI "}"), 503);
    assert_int_equal(ask(ollama_routes, "/api/chat", "{\"model\":\"tiny\",\"stream\":false," HI "}"), 503);
    assert_int_equal(ask(ollama_routes, "/api/chat", "{\"model\":\"tiny\"," HI "}"), 200);
    assert_non_null(strstr(buf_str(&out), "\n{\"error\":\"the server ended"));
    fake_model.no_chat = (dr_err){ DR_EUNSUPPORTED, "no template" };
    assert_int_equal(ask(anthropic_routes, "/v1/messages", "{\"max_tokens\":3," HI "}"), 400);
    assert_non_null(strstr(buf_str(&out), "tiny has no chat format: no template"));
    assert_int_equal(ask(ollama_routes, "/api/chat", "{\"model\":\"tiny\"," HI "}"), 400);
    fake_reply(words, 1, ENGINE_STOP, NULL);
    assert_int_equal(ask(ollama_routes, "/api/generate", "{\"model\":\"tiny\",\"prompt\":\"a\",\"raw\":true}"), 200);
    fake_model.no_chat = (dr_err){0};
    n_fake_script = 1;                              /* nothing more comes: it waits, and is closed so */
    assert_int_equal(ask(anthropic_routes, "/v1/messages", "{\"max_tokens\":3," HI "}"), 0);
}

static void ollama_and_vectors(void **state)
{
    (void)state;
    fake_reply(words, 2, ENGINE_STOP, NULL);
    assert_int_equal(ask(ollama_routes, "/api/chat", "{\"model\":\"tiny:latest\"," HI ",\"options\":{\"num_predict\":7,\"stop\":\"q\"}}"), 200);
    wrote("{\"model\":\"tiny:latest\",\"created_at\":\"#at#\",\"message\":{\"role\":\"assistant\",\"content\":\"Hel\"},\"done\":false}\n"
          "{\"model\":\"tiny:latest\",\"created_at\":\"#at#\",\"message\":{\"role\":\"assistant\",\"content\":\"lo \\\"\"},\"done\":false}\n"
          "{\"model\":\"tiny:latest\",\"created_at\":\"#at#\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true,"
          "\"done_reason\":\"stop\",\"total_duration\":#n#\"load_duration\":#n#\"prompt_eval_count\":#n#\"prompt_eval_duration\":#n#"
          "\"eval_count\":#n#\"eval_duration\":#n#");
    assert_non_null(strstr(buf_str(&out), "\"prompt_eval_count\":20,"));
    assert_non_null(strstr(buf_str(&out), "\"eval_count\":2,"));
    assert_int_equal(fake_last.max_tokens, 7);
    assert_int_equal(fake_last.n_stop, 1);
    assert_int_equal(ask(ollama_routes, "/api/generate", "{\"model\":\"tiny\",\"prompt\":\"a\",\"stream\":false,\"logprobs\":true}"), 200);
    assert_non_null(strstr(buf_str(&out), "\"response\":\"Hello \\\"\",\"logprobs\":[{\"token\":\"H\",\"logprob\":-0.5,\"bytes\":[72]},"));
    static const char *const calls[] = { "{\"name\": \"f\", \"parameters\": {\"x\": 1}}" };
    fake_reply(calls, 1, ENGINE_STOP, NULL);
    ask(ollama_routes, "/api/chat", "{\"model\":\"tiny\"," HI ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]}");
    assert_non_null(strstr(buf_str(&out), "\"content\":\"\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{\"x\": 1}}}]},\"done\":false}"));
    fake_reply(words, 0, ENGINE_STOP, NULL);
    assert_int_equal(ask(ollama_model_routes, "/api/embed", "{\"model\":\"tiny\",\"input\":[\"a\",\"b\"]}"), 200);
    assert_non_null(strstr(buf_str(&out), "{\"model\":\"tiny\",\"embeddings\":[[0.5,-0.5,0],[0.5,-0.5,0]],"));
    assert_int_equal(ask(ollama_model_routes, "/api/embeddings", "{\"model\":\"tiny\",\"prompt\":\"a\"}"), 200);
    assert_string_equal(buf_str(&out), "{\"embedding\":[0.5,-0.5,0]}");
    assert_int_equal(ask(openai_routes, "/v1/embeddings", "{\"input\":[\"a\",\"b\"]}"), 200);
    wrote("{\"object\":\"list\",\"data\":[{\"object\":\"embedding\",\"index\":0,\"embedding\":[0.5,-0.5,0]},{\"object\":\"embedding\","
          "\"index\":1,\"embedding\":[0.5,-0.5,0]}],\"model\":\"tiny\",\"usage\":{\"prompt_tokens\":40,\"total_tokens\":40}}");
}

/* ---- what nobody should send */

static const struct { const http_route *routes; const char *path, *body; } bodies[] = {
    { anthropic_routes, "/v1/messages", "{\"model\":\"tiny\",\"max_tokens\":3,\"system\":[{\"type\":\"text\",\"text\":\"s\"}],\"messages\":["
      "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"document\",\"title\":\"t\",\"source\":{\"type\":\"text\",\"data\":\"d\"}}]},"
      "{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"b\"},{\"type\":\"tool_use\",\"id\":\"i\",\"name\":\"f\",\"input\":{\"x\":1}}]},"
      "{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"tool_use_id\":\"i\",\"is_error\":true,\"content\":[{\"type\":\"text\",\"text\":\"r\"}]},"
      "{\"type\":\"text\",\"text\":\"c\"}]},{\"role\":\"user\",\"content\":\"d\"}]," TOOLS ",\"tool_choice\":{\"type\":\"auto\"},"
      "\"stop_sequences\":[\"x\"],\"stream\":true}" },
    { anthropic_routes, "/v1/messages/count_tokens", "{" HI ",\"output_config\":{\"format\":{\"type\":\"json_schema\",\"schema\":{\"enum\":[1]}}}}" },
    { anthropic_routes, "/v1/messages", "{\"max_tokens\":3," HI ",\"temperature\":0.5,\"seed\":1}" },
    { ollama_routes, "/api/chat", "{\"model\":\"tiny\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"\","
      "\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{\"x\":1}}}]},{\"role\":\"tool\",\"tool_name\":\"f\",\"content\":\"r\"}],"
      "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\"}}}],\"options\":{\"stop\":[\"q\"],"
      "\"seed\":1},\"logprobs\":true}" },
    { ollama_routes, "/api/generate", "{\"model\":\"tiny\",\"prompt\":\"a\",\"system\":\"s\",\"stream\":false,\"format\":\"json\"}" },
    { ollama_model_routes, "/api/embed", "{\"model\":\"tiny\",\"input\":[\"a\",\"bc\"],\"truncate\":true}" },
    { openai_routes, "/v1/embeddings", "{\"input\":[\"a\",\"bc\"],\"encoding_format\":\"base64\"}" },
    { text_routes, "/tokenize", "{\"content\":\"a<|im_end|>\",\"with_pieces\":true,\"add_special\":true}" },
    { text_routes, "/detokenize", "{\"tokens\":[1,2,257]}" },
    { text_routes, "/apply-template", "{" HI "}" },
};
static int which;

static int read_body(const void *p, size_t n, dr_err *e)
{
    buf b = { .cap_max = 1 << 24 };
    http_reply o;
    int status = fake_ask(bodies[which].routes, bodies[which].path, (span){ p, n }, &b, &o);
    /* once the head of a stream is out, what went wrong is told in it */
    bool said = b.n && (strstr(buf_str(&b), "event: error") || strstr(buf_str(&b), "{\"error\""));
    buf_free(&b);
    if (status == 200 && !said) return DR_OK;
    return err_set(e, status == 500 || status == 503 || said ? DR_ENOMEM : DR_EINVAL, "status %d", status);
}

static void hostile(void **state)
{
    (void)state;
    fake_reply(words, 3, ENGINE_STOP, "x");
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
        cmocka_unit_test(messages_whole), cmocka_unit_test(messages_stream), cmocka_unit_test(messages_tools),
        cmocka_unit_test(errors), cmocka_unit_test(ollama_and_vectors), cmocka_unit_test(hostile),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
