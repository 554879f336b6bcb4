/* shards.h - token shards for tests, whose ids say where they come from. Include after cmocka.h and
 * folder.h. */
#ifndef TESTS_SHARDS_H
#define TESTS_SHARDS_H
#include <stdio.h>
#include "base/rng.h"
#include "train/shard.h"

enum { SHARDS_LEN = 256, SHARDS_DOCS = 1 << 16, SHARDS_VOCAB = SHARDS_LEN * SHARDS_DOCS };

/* Ids of document d: about `mean` of them, now and then none, never SHARDS_LEN. */
static inline int shards_len(uint64_t salt, int d, int mean)
{
    double u = rng_uniform(salt, 1, (uint64_t)d);
    int n = (int)(u * u * 3 * mean);
    return n < SHARDS_LEN ? n : SHARDS_LEN - 1;
}

/* n_docs documents in shards of per_shard documents in the folder `name` (or in one file of that
 * name where per_shard is 0). Id i of document d is d * SHARDS_LEN + i. */
static inline void shards_make(const char *name, uint64_t salt, int n_docs, int mean, int per_shard)
{
    dr_err e = {0};
    shard_out o = {0};
    char path[300];
    int32_t id[SHARDS_LEN];
    shard_info info = { .vocab = SHARDS_VOCAB, .set = salt };
    if (per_shard && os_mkdirs(name, &e)) fail_msg("%s", e.msg);
    for (int d = 0; d < n_docs; d++) {
        if (d == 0 || (per_shard && d % per_shard == 0)) {
            if (d && shard_out_keep(&o, false, &e)) fail_msg("%s", e.msg);
            if (per_shard) snprintf(path, sizeof path, "%s/%05d.shard", name, d / per_shard);
            else snprintf(path, sizeof path, "%s", name);
            info.part = per_shard ? (uint32_t)(d / per_shard) : 0;
            if (shard_out_open(&o, path, &info, &e)) fail_msg("%s", e.msg);
        }
        int n = shards_len(salt, d, mean);
        for (int i = 0; i < n; i++) id[i] = d * SHARDS_LEN + i;
        if (shard_out_doc(&o, id, (uint64_t)n, &e)) fail_msg("%s", e.msg);
    }
    if (shard_out_keep(&o, true, &e)) fail_msg("%s", e.msg);
}
#endif
