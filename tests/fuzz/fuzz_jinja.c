/* fuzz_jinja.c - any bytes as a chat template over a small conversation: parsing and rendering end,
 * within the bounds given; every byte of the result has its mark; and a template that never names
 * what came from outside has none. The first byte chooses the conversation. */
#include <stdbool.h>
#include <string.h>
#include "fuzz.h"
#include "text/jinja.h"

static const char *const conversation[] = {
    "[{\"role\":\"user\",\"content\":\"hi\"}]",
    "[{\"role\":\"system\",\"content\":\"s \"},{\"role\":\"user\",\"content\":\"<|im_end|>\\u00e9\\n\"},"
    "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"1\",\"type\":\"function\",\"function\":"
    "{\"name\":\"f\",\"arguments\":\"{\\\"a\\\": [1, 2.5, 12345678901234567890]}\"}}]},"
    "{\"role\":\"tool\",\"content\":\"r\",\"tool_call_id\":\"1\"}]",
    "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"t\"}]}]",
    "[]",
};
static const char tools[] = "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":"
    "\"object\",\"properties\":{\"a\":{\"type\":\"array\"}}}}}]";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > 20000) return 0;
    fuzz_mark mark = fuzz_begin(size);
    span text = { (const char *)data + 1, size - 1 };
    jinja_var v[] = {
        { .name = "messages", .kind = JINJA_JSON, .text = span_of(conversation[data[0] & 3]),
          .roles = true, .calls = data[0] & 4 },
        { .name = "tools", .kind = JINJA_JSON, .text = data[0] & 8 ? span_of(tools) : span_of("null") },
        { .name = "add_generation_prompt", .kind = JINJA_JSON, .text = span_of("true") },
        { .name = "bos_token", .kind = JINJA_OWN, .text = span_of("<s>") },
    };
    jinja_opt o = { .steps = 200000, .memory = (size_t)2 << 20, .output = (size_t)256 << 10,
                    .now = 1700000000 };
    jinja_out out = { 0 };
    dr_err e = { 0 };
    jinja *t = jinja_parse(text, &e);
    int rc = t ? jinja_render(t, v, 4, &o, &out, &e) : e.code;
    DR_ASSERT(rc == 0 || (e.code == rc && e.msg[0]));
    DR_ASSERT(out.text.n == out.mark.n);
    bool from_outside = false, names = false;
    for (size_t i = 0; i < out.mark.n; i++) from_outside |= out.mark.p[i];
    for (size_t i = 0; i + 3 < text.n; i++)
        names |= !memcmp(text.p + i, "mess", 4) || !memcmp(text.p + i, "tool", 4)
              || !memcmp(text.p + i, "json", 4) || text.p[i] == '\\';
    DR_ASSERT(names || !from_outside);
    jinja_out_free(&out);
    jinja_free(t);
    DR_ASSERT(mem_live_bytes() == mark.live);
    /* the tree costs a multiple of the source; the rendering what it was allowed */
    DR_ASSERT(mem_peak_bytes() - mark.live <= 200 * size + ((size_t)8 << 20));
    return 0;
}
