/* fuzz_tokenizer_tiktoken.c - tok_from_tiktoken on any bytes. */
#include "fuzz_tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_tokenizer(data, size, tok_from_tiktoken);
    return 0;
}
