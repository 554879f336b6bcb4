/* shard_sign.h - put the checksums of a token shard right that somebody changed, as one who forges a
 * file would: what lies behind them must be safe, too. */
#ifndef TESTS_SHARD_SIGN_H
#define TESTS_SHARD_SIGN_H
#include <stddef.h>
#include <string.h>
#include "base/sum.h"
#include "train/shard.h"
#include "train/shard_layout.h"

static inline void shard_sum_at(uint8_t *at, const uint8_t *p, size_t n)
{
    uint32_t sum = sum_bytes(p, n);
    memcpy(at, &sum, sizeof sum);
}

static inline void shard_sign(uint8_t *p, size_t n)
{
    if (n < SHARD_HEAD + SHARD_TAIL) return;
    uint8_t *tail = p + n - SHARD_TAIL;
    uint64_t room = n - SHARD_HEAD - SHARD_TAIL, width = p[12], n_tok, n_docs;
    memcpy(&n_tok, tail, sizeof n_tok);
    memcpy(&n_docs, tail + 8, sizeof n_docs);
    shard_sum_at(p + SHARD_HEAD_SUM, p, SHARD_HEAD_SUM);
    if (n_tok <= room && width <= 4 && n_docs < room / 8) {
        uint64_t body = SHARD_ROUND(n_tok * width) + (n_docs + 1) * 8;
        uint64_t blocks = (body + SHARD_BLOCK - 1) / SHARD_BLOCK;
        if (body + blocks * 4 == room) {
            uint8_t *sums = p + SHARD_HEAD + body;
            for (uint64_t b = 0; b < blocks; b++) {
                uint64_t from = b * SHARD_BLOCK, k = body - from < SHARD_BLOCK ? body - from : SHARD_BLOCK;
                shard_sum_at(sums + 4 * b, p + SHARD_HEAD + from, k);
            }
            shard_sum_at(tail + 20, sums, blocks * 4);
        }
    }
    shard_sum_at(tail + SHARD_TAIL_SUM, tail, SHARD_TAIL_SUM);
}
#endif
