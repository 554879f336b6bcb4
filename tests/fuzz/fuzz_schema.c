/* fuzz_schema.c - any bytes as a JSON schema; the texts that it makes are JSON. */
#include "fuzz_grammar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    buf text = { .cap_max = 1 << 24 };
    fuzz_vocabulary();
    fuzz_mark mark = fuzz_begin(0);
    if (fuzz_grammar(GRAMMAR_SCHEMA, data, size, &text) && text.n) {
        json_error_t why;
        json_t *v = json_loadb(text.p, text.n, JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
        /* integers of twenty digits are JSON, beyond what jansson holds; it takes no zero in a key */
        DR_ASSERT(v || json_error_code(&why) == json_error_numeric_overflow ||
                  json_error_code(&why) == json_error_null_byte_in_key);
        json_decref(v);
    }
    buf_free(&text);
    DR_ASSERT(mem_live_bytes() == mark.live);
    DR_ASSERT(mem_peak_bytes() - mark.live < (size_t)200 << 20);
    return 0;
}
