/* fuzz_shard.c - token shards. The checksums of half of all inputs are put right first, so that what
 * lies behind them is reached too. */
#include "fuzz.h"
#include "shard_sign.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int32_t id[4096];
    uint8_t *p = malloc(size);
    shard s;
    dr_err e = {0};
    if (size) memcpy(p, data, size);
    if (size > 72 && p[72] & 1) shard_sign(p, size);     /* a byte that has no meaning */
    fuzz_mark mark = fuzz_begin(size);
    if (shard_from_bytes(&s, p, size, "x.shard", &e) == DR_OK) {
        uint64_t sum = 0;
        for (uint64_t d = 0; d < s.info.n_docs; d++) {
            uint64_t n = shard_len(&s, d), take = n < 4096 ? n : 4096;
            sum += n;
            if (shard_read(&s, d, n - take, take, id, &e) == DR_OK)
                for (uint64_t i = 0; i < take; i++) DR_ASSERT(id[i] >= 0 && id[i] < s.info.vocab);
        }
        DR_ASSERT(sum == s.info.n_tok);
        shard_check(&s, &e);
    }
    shard_close(&s);
    fuzz_end(mark);
    free(p);
    return 0;
}
