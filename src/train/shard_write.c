/* shard_write.c - see shard.h: writing. The ids go out as they come; starts of documents and
 * checksums are kept until the end. */
#include <inttypes.h>
#include <string.h>
#include "base/mem.h"
#include "base/sum.h"
#include "train/shard.h"
#include "train/shard_layout.h"

static void put_u32(uint8_t *p, uint32_t v) { memcpy(p, &v, sizeof v); }
static void put_u64(uint8_t *p, uint64_t v) { memcpy(p, &v, sizeof v); }

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int put_head(shard_out *o, dr_err *e)
{
    uint8_t h[SHARD_HEAD] = {0};
    const shard_info *s = &o->info;
    memcpy(h, SHARD_MAGIC, SHARD_SIGN);
    put_u32(h + 8, SHARD_VERSION);
    put_u32(h + 12, SHARD_WIDTH(s->vocab));
    put_u32(h + 16, (uint32_t)s->vocab);
    put_u32(h + 20, s->part);
    put_u64(h + 24, s->set);
    for (int i = 0; i < 32 && s->tokenizer[0]; i++)
        h[32 + i] = (uint8_t)(hex_digit(s->tokenizer[2 * i]) << 4 | hex_digit(s->tokenizer[2 * i + 1]));
    put_u32(h + 64, SHARD_BLOCK);
    put_u32(h + 68, s->tokenizer[0] ? SHARD_NAMED : 0);
    put_u32(h + SHARD_HEAD_SUM, sum_bytes(h, SHARD_HEAD_SUM));
    return os_out_put(&o->out, h, sizeof h, e);
}

/* *p, which holds elements of `size` bytes, gets room for n+1. */
static int grow(void *p, uint64_t n, uint64_t *cap, size_t size, dr_err *e)
{
    if (n < *cap) return DR_OK;
    uint64_t to = *cap ? 2 * *cap : 1024;
    void *old, *more;
    memcpy(&old, p, sizeof old);
    more = mem_realloc(old, to * size);
    if (!more) return err_nomem(e, to * size, "a shard's index");
    memcpy(p, &more, sizeof more);
    *cap = to;
    return DR_OK;
}

static int flush(shard_out *o, dr_err *e)
{
    int rc = grow(&o->sum, o->n_sums, &o->sums_cap, sizeof *o->sum, e);
    if (rc) return rc;
    o->sum[o->n_sums++] = sum_bytes(o->block, o->fill);
    rc = os_out_put(&o->out, o->block, o->fill, e);
    o->fill = 0;
    return rc;
}

static int put(shard_out *o, const void *p, uint64_t n, dr_err *e)
{
    const uint8_t *at = p;
    int rc = DR_OK;
    while (n && !rc) {
        uint64_t k = SHARD_BLOCK - o->fill < n ? SHARD_BLOCK - o->fill : n;
        memcpy(o->block + o->fill, at, k);
        o->fill += (uint32_t)k, at += k, n -= k;
        if (o->fill == SHARD_BLOCK) rc = flush(o, e);
    }
    return rc;
}

int shard_out_open(shard_out *o, const char *path, const shard_info *info, dr_err *e)
{
    *o = (shard_out){ .info = *info };
    o->info.n_tok = o->info.n_docs = 0;
    for (int i = 0; i < HASH_HEX - 1 && info->tokenizer[0]; i++)
        if (hex_digit(info->tokenizer[i]) < 0)
            return err_set(e, DR_EINVAL, "\"%s\" is not a SHA-256", info->tokenizer);
    if (info->vocab < 1) return err_set(e, DR_EINVAL, "a shard of a vocabulary of %" PRId32, info->vocab);
    if (!(o->block = mem_alloc(SHARD_BLOCK))) return err_nomem(e, SHARD_BLOCK, "a shard's block");
    int rc = os_out_open(&o->out, path, e);
    if (!rc) rc = put_head(o, e);
    if (rc) shard_out_drop(o);
    return rc;
}

int shard_out_doc(shard_out *o, const int32_t *id, uint64_t n, dr_err *e)
{
    enum { RUN = 4096 };
    uint16_t narrow[RUN];
    int rc = grow(&o->start, o->info.n_docs, &o->cap, sizeof *o->start, e);
    if (rc) return rc;
    for (uint64_t i = 0; i < n; i++)
        if (id[i] < 0 || id[i] >= o->info.vocab)
            return err_set(e, DR_EINVAL, "id %" PRId32 " for a shard of a vocabulary of %" PRId32, id[i],
                           o->info.vocab);
    o->start[o->info.n_docs++] = o->info.n_tok;
    o->info.n_tok += n;
    if (SHARD_WIDTH(o->info.vocab) == 4) return put(o, id, 4 * n, e);
    while (n && !rc) {
        uint64_t k = n < RUN ? n : RUN;
        for (uint64_t i = 0; i < k; i++) narrow[i] = (uint16_t)id[i];
        rc = put(o, narrow, 2 * k, e);
        id += k, n -= k;
    }
    return rc;
}

int shard_out_keep(shard_out *o, bool last, dr_err *e)
{
    static const uint8_t zeros[8];
    uint8_t t[SHARD_TAIL] = {0};
    uint64_t bytes = o->info.n_tok * SHARD_WIDTH(o->info.vocab);
    int rc = put(o, zeros, SHARD_ROUND(bytes) - bytes, e);
    if (!rc) rc = put(o, o->start, 8 * o->info.n_docs, e);
    if (!rc) rc = put(o, &o->info.n_tok, 8, e);
    if (!rc && o->fill) rc = flush(o, e);
    if (!rc) rc = os_out_put(&o->out, o->sum, 4 * o->n_sums, e);
    put_u64(t, o->info.n_tok);
    put_u64(t + 8, o->info.n_docs);
    put_u32(t + 16, last ? SHARD_LAST : 0);
    put_u32(t + 20, rc ? 0 : sum_bytes(o->sum, 4 * o->n_sums));
    put_u32(t + SHARD_TAIL_SUM, sum_bytes(t, SHARD_TAIL_SUM));
    memcpy(t + SHARD_TAIL - SHARD_SIGN, SHARD_END, SHARD_SIGN);
    if (!rc) rc = os_out_put(&o->out, t, sizeof t, e);
    if (!rc) rc = os_out_keep(&o->out, e);
    shard_out_drop(o);
    return rc;
}

void shard_out_drop(shard_out *o)
{
    os_out_drop(&o->out);
    mem_free(o->start);
    mem_free(o->sum);
    mem_free(o->block);
    *o = (shard_out){0};
}
