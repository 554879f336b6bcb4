/* fuzz_grammar.c - any bytes as a GBNF grammar. */
#include "fuzz_grammar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    buf text = { .cap_max = 1 << 24 };
    fuzz_vocabulary();
    fuzz_mark mark = fuzz_begin(0);
    fuzz_grammar(GRAMMAR_GBNF, data, size, &text);
    buf_free(&text);
    DR_ASSERT(mem_live_bytes() == mark.live);
    DR_ASSERT(mem_peak_bytes() - mark.live < (size_t)200 << 20);
    return 0;
}
