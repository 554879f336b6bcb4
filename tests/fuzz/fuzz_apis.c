/* fuzz_apis.c - any bytes as the body of a request to the messages API, Ollama's, the text routes or OpenAI's: the
 * model is let go, and a reply of status 200 that is one JSON value can be read. The first byte chooses the
 * route. */
#define _DEFAULT_SOURCE               /* mkstemps */
#include "fuzz.h"
#include "fake_serve.h"

static const struct { const http_route *routes; const char *path; } ways[] = {
    { anthropic_routes, "/v1/messages" }, { anthropic_routes, "/v1/messages/count_tokens" },
    { ollama_routes, "/api/chat" }, { ollama_routes, "/api/generate" },
    { ollama_model_routes, "/api/embed" }, { ollama_model_routes, "/api/embeddings" },
    { ollama_model_routes, "/api/pull" }, { text_routes, "/tokenize" }, { text_routes, "/detokenize" },
    { text_routes, "/apply-template" }, { openai_routes, "/v1/chat/completions" }, { openai_routes, "/v1/completions" },
    { openai_routes, "/v1/responses" }, { openai_routes, "/v1/embeddings" },
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const words[] = { "{\"name\": ", "\"f\", \"parameters\": {\"x\": 1}}", " \xff" };
    static bool open;
    if (size < 1 || size > 1 << 16) return 0;
    fuzz_mark mark = fuzz_begin(size);
    if (!open) {
        open = true;
        DR_ASSERT(!fake_open());
        fake_reply(words, 3, ENGINE_STOP, "x");
        mark = fuzz_begin(size);
    }
    size_t w = data[0] % (sizeof ways / sizeof *ways);
    buf out = { .cap_max = 1 << 26 };
    http_reply o;
    int status = fake_ask(ways[w].routes, ways[w].path, (span){ (const char *)data + 1, size - 1 }, &out, &o);
    if (o.type && !strcmp(o.type, "application/json")) {
        json_t *v = json_loadb(buf_str(&out), out.n, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        DR_ASSERT(v || status == 0);
        json_decref(v);
    }
    buf_free(&out);
    fuzz_end(mark);
    return 0;
}
