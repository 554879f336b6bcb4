/* test_chat.c - which format a template is, what each format refuses, json.dumps' floats and
 * escapes, memory that runs out. The prompts themselves are compared in tests/golden/chat.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "base/mem.h"
#include "text/chat_out.h"

#define ALTERNATE "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception(" \
    "'Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
#define CHATML "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}" \
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
#define SMOL "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ " \
    "'<|im_start|>system\\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face" \
    "<|im_end|>\\n' }}{% endif %}" CHATML
#define LLAMA3_0 "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = " \
    "'<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + " \
    "'<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}" \
    "{{ content }}{% endfor %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}"
#define MISTRAL0 "{{ bos_token }}{% for message in messages %}" ALTERNATE "{% if message['role'] == " \
    "'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == " \
    "'assistant' %}{{ message['content'] + eos_token}}{% else %}{{ raise_exception('Only user and " \
    "assistant roles are supported!') }}{% endif %}{% endfor %}"

static void detection(void **state)
{
    (void)state;
    const struct { const char *t; chat_kind want; } good[] = {
        { "{% for message in messages %}" CHATML, CHAT_CHATML }, { SMOL, CHAT_SMOLLM2 },
        { LLAMA3_0, CHAT_LLAMA3_0 }, { MISTRAL0, CHAT_MISTRAL_V0 },
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        chat_kind k = CHAT_N;
        dr_err e = { 0 };
        if (chat_detect_text(span_of(good[i].t), &k, &e)) fail_msg("%s", e.msg);
        assert_int_equal(k, good[i].want);
    }
    static const char *const bad[] = {
        "", "{{ messages }}", "hello", "{% for m in messages %}{{ m }}{% endfor %}",
        /* ChatML with another default system text, another end, another literal around it */
        "{% for message in messages %}{{ 'You are Qwen.' }}" CHATML,
        "{% for message in messages %}text" CHATML,
        "{% for message in messages %}{{ '<think>' }}" CHATML,
        LLAMA3_0 "{{ '<|begin_of_thought|>' }}", "{{ 'x' }}" MISTRAL0,
        /* the 3.1 words without the rest */
        "<|start_header_id|> Cutting Knowledge Date: December 2023\\n builtin_tools is defined",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        chat_kind k = CHAT_N;
        dr_err e = { 0 };
        assert_int_equal(chat_detect_text(span_of(bad[i]), &k, &e), DR_EUNSUPPORTED);
        assert_int_equal(k, CHAT_N);
        char start[64] = "";
        memcpy(start, bad[i], strlen(bad[i]) < 60 ? strlen(bad[i]) : 60);
        assert_non_null(strstr(e.msg, start));
    }
    /* any prefix of a known template is unknown, and reading it ends */
    for (size_t n = 0; n + 1 < strlen(SMOL); n++) {
        chat_kind k;
        char *s = mem_strndup(SMOL, n);
        assert_int_equal(chat_detect_text((span){ s, n }, &k, NULL), DR_EUNSUPPORTED);
        mem_free(s);
    }
}

static void by_name(void **state)
{
    (void)state;
    for (int i = 0; i < CHAT_N; i++) {
        chat_kind k = CHAT_N;
        assert_int_equal(chat_by_name(chat_name((chat_kind)i), &k, NULL), DR_OK);
        assert_int_equal(k, i);
    }
    chat_kind k;
    dr_err e = { 0 };
    assert_int_equal(chat_by_name("vicuna", &k, &e), DR_EINVAL);
    assert_non_null(strstr(e.msg, "llama3-meta"));
}

static void python_json(void **state)
{
    (void)state;
    const struct { double v; const char *want; } f[] = {
        { 0.0, "0.0" }, { -0.0, "-0.0" }, { 1, "1.0" }, { 0.1, "0.1" }, { 1e15, "1000000000000000.0" },
        { 1e16, "1e+16" }, { 123456789.125, "123456789.125" }, { 1e-4, "0.0001" },
        { 1e-5, "1e-05" }, { 5e-324, "5e-324" }, { 1.7976931348623157e308, "1.7976931348623157e+308" },
        { 0.30000000000000004, "0.30000000000000004" }, { -2.5e-7, "-2.5e-07" }, { 1e22, "1e+22" },
        { 12345678901234567.0, "1.2345678901234568e+16" }, { 3.14, "3.14" }, { 100, "100.0" },
    };
    for (size_t i = 0; i < sizeof f / sizeof f[0]; i++) {
        buf b;
        buf_init(&b, 1000);
        json_t *v = json_real(f[i].v);
        chat_tojson(&b, v, 0, false);
        assert_string_equal(buf_str(&b), f[i].want);
        json_decref(v);
        buf_free(&b);
    }
    json_t *v = json_loads("[\"\\u00e9\\ud83d\\ude00\\u007f\\u001f\\\"\\\\/\\n\", {}, [], {\"b\":1,\"a\":null}]",
                           0, NULL);
    buf b;
    buf_init(&b, 1000);
    chat_tojson(&b, v, 0, true);
    assert_string_equal(buf_str(&b), "[\"\\u00e9\\ud83d\\ude00\\u007f\\u001f\\\"\\\\/\\n\", {}, [], "
                                     "{\"b\": 1, \"a\": null}]");
    buf_reset(&b);
    chat_tojson(&b, v, 2, false);
    assert_string_equal(buf_str(&b), "[\n  \"é😀\x7f\\u001f\\\"\\\\/\\n\",\n  {},\n  [],\n  {\n"
                                     "    \"b\": 1,\n    \"a\": null\n  }\n]");
    json_decref(v);
    buf_free(&b);
}

static void trim(void **state)
{
    (void)state;
    const struct { const char *s, *want; } c[] = {
        { "", "" }, { " ", "" }, { " a b ", "a b" }, { "\x1c\x1f\x85x\x85", "\x85x\x85" },
        { "\xc2\x85x\xc2\xa0", "x" }, { "\xe3\x80\x80\xe2\x80\xa8x\xe1\x9a\x80\t", "x" },
        { "\xe2\x80\x8bx\xe2\x80\x8b", "\xe2\x80\x8bx\xe2\x80\x8b" }, { "\xc2", "\xc2" },
        { "\xe3\x80", "\xe3\x80" }, { "x\xe3", "x\xe3" },
    };
    for (size_t i = 0; i < sizeof c / sizeof c[0]; i++)
        assert_true(span_is(chat_trim(c[i].s), c[i].want));
    assert_int_equal(chat_trim(NULL).n, 0);
}

/* What a format cannot say is refused, not dropped. */
static void refusals(void **state)
{
    (void)state;
    json_t *tools = json_loads("[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]", 0, NULL);
    json_t *call = json_loads("[{\"function\":{\"name\":\"f\",\"arguments\":\"{\"}}]", 0, NULL);
    buf b;
    buf_init(&b, 10000);
    for (int k = 0; k < CHAT_JINJA; k++) {
        chat_opt o = { .kind = (chat_kind)k };
        chat_msg m = { .role = "user", .content = "x" };
        dr_err e = { 0 };
        assert_int_equal(chat_render(&o, &m, 0, &b, NULL), DR_EINVAL);
        o.tools = tools;
        assert_int_equal(chat_render(&o, &m, 1, &b, &e),
                         chat_has_tools(o.kind) ? DR_OK : DR_EUNSUPPORTED);
        o.tools = NULL;
        m = (chat_msg){ .role = "assistant", .tool_calls = call, .tool_call_id = "123456789" };
        chat_msg two[] = { { .role = "user", .content = "x" }, m };
        int rc = chat_render(&o, two, 2, &b, NULL);
        assert_int_equal(rc, chat_has_tools(o.kind) ? DR_EINVAL : DR_EUNSUPPORTED);
        m = (chat_msg){ .content = "x" };
        assert_int_equal(chat_render(&o, &m, 1, &b, NULL), DR_EINVAL);
    }
    buf_free(&b);
    json_decref(tools);
    json_decref(call);
}

static void no_memory(void **state)
{
    (void)state;
    chat_opt o = { .kind = CHAT_LLAMA2 };
    chat_msg m[] = { { .role = "system", .content = "s" }, { .role = "user", .content = "x" } };
    size_t live = mem_live_bytes();
    int rc = DR_ENOMEM, tries = 0;
    for (; rc; tries++) {
        buf b;
        dr_err e = { 0 };
        buf_init(&b, 1000);
        mem_fail_after(tries);
        rc = chat_render(&o, m, 2, &b, &e);
        mem_fail_after(-1);
        if (rc) assert_int_equal(rc, DR_ENOMEM);
        else assert_string_equal(buf_str(&b), "<s>[INST] <<SYS>>\ns\n<</SYS>>\n\nx [/INST]");
        buf_free(&b);
        assert_int_equal(mem_live_bytes(), live);
    }
    assert_in_range(tries, 3, 20);
}

int main(void)
{
    const struct CMUnitTest t[] = {
        cmocka_unit_test(detection), cmocka_unit_test(by_name), cmocka_unit_test(python_json),
        cmocka_unit_test(trim), cmocka_unit_test(refusals), cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(t, NULL, NULL);
}
