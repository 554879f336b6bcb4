/* fuzz_shard.c - token shards. The checksums of half of all inputs are put right first, so that what
 * lies behind them is reached too. */
#include "base/sum.h"
#include "fuzz.h"
#include "train/shard.h"
#include "train/shard_layout.h"

static uint64_t u64_at(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static void sign(uint8_t *at, const uint8_t *p, size_t n)
{
    uint32_t sum = sum_bytes(p, n);
    memcpy(at, &sum, sizeof sum);
}

static void put_right(uint8_t *p, size_t n)
{
    if (n < SHARD_HEAD + SHARD_TAIL) return;
    uint8_t *tail = p + n - SHARD_TAIL;
    uint64_t room = n - SHARD_HEAD - SHARD_TAIL, width = p[12];
    uint64_t n_tok = u64_at(tail), n_docs = u64_at(tail + 8);
    sign(p + SHARD_HEAD_SUM, p, SHARD_HEAD_SUM);
    if (n_tok <= room && width <= 4 && n_docs < room / 8) {
        uint64_t body = SHARD_ROUND(n_tok * width) + (n_docs + 1) * 8;
        uint64_t blocks = (body + SHARD_BLOCK - 1) / SHARD_BLOCK;
        if (body + blocks * 4 == room) {
            uint8_t *sums = p + SHARD_HEAD + body;
            for (uint64_t b = 0; b < blocks; b++) {
                uint64_t from = b * SHARD_BLOCK, k = body - from < SHARD_BLOCK ? body - from : SHARD_BLOCK;
                sign(sums + 4 * b, p + SHARD_HEAD + from, k);
            }
            sign(tail + 20, sums, blocks * 4);
        }
    }
    sign(tail + SHARD_TAIL_SUM, tail, SHARD_TAIL_SUM);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int32_t id[4096];
    uint8_t *p = malloc(size);
    shard s;
    dr_err e = {0};
    if (size) memcpy(p, data, size);
    if (size > 72 && p[72] & 1) put_right(p, size);     /* a byte that has no meaning */
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
