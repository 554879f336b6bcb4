/* fuzz_tokenizer_spm.c - tok_from_spm on any bytes. */
#include "fuzz_tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_tokenizer(data, size, tok_from_spm);
    return 0;
}
