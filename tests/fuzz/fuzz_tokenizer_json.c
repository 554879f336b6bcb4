/* fuzz_tokenizer_json.c - tok_from_json on any bytes. */
#include "fuzz_tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_tokenizer(data, size, tok_from_json);
    return 0;
}
