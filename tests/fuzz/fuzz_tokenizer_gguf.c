/* fuzz_tokenizer_gguf.c - the tokenizer of a GGUF file of any bytes. */
#include "fuzz_tokenizer.h"

static tokenizer *load(span file, dr_err *e)
{
    gguf g = {0};
    if (gguf_parse(&g, file.p, file.n, e)) return NULL;
    tokenizer *t = tok_from_gguf(&g, e);
    gguf_free(&g);
    return t;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_tokenizer(data, size, load);
    return 0;
}
