/* shard.c - see shard.h: reading. */
#include "train/shard.h"
#include <inttypes.h>
#include <string.h>
#include "base/mem.h"
#include "base/sum.h"
#include "format/rd.h"
#include "train/shard_layout.h"

static uint64_t u64_at(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static uint32_t u32_at(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static uint64_t width_of(const shard *s) { return SHARD_WIDTH(s->info.vocab); }

static int parse_head(shard *s, dr_err *e)
{
    const uint8_t *p = s->file.p;
    if (s->file.n < SHARD_HEAD + SHARD_TAIL || memcmp(p, SHARD_MAGIC, SHARD_SIGN))
        return err_set(e, DR_EFORMAT, "%s is not a token shard: it does not begin as one", s->path);
    rd r = { p + SHARD_SIGN, p + SHARD_HEAD, false };
    uint32_t version = rd_u32(&r), width = rd_u32(&r), vocab = rd_u32(&r);
    if (version != SHARD_VERSION)
        return err_set(e, DR_EUNSUPPORTED, "%s is a token shard of version %" PRIu32 "; version %d is "
                       "read", s->path, version, SHARD_VERSION);
    if (sum_bytes(p, SHARD_HEAD_SUM) != u32_at(p + SHARD_HEAD_SUM))
        return err_set(e, DR_EFORMAT, "%s is damaged at byte 0: its head is not what was written",
                       s->path);
    s->info.part = rd_u32(&r);
    s->info.set = rd_u64(&r);
    const uint8_t *sha = rd_bytes(&r, 32);
    uint32_t block = rd_u32(&r), named = rd_u32(&r);
    if (vocab < 1 || vocab > INT32_MAX || width != SHARD_WIDTH((int32_t)vocab) ||
        block != SHARD_BLOCK || named > SHARD_NAMED)
        return err_set(e, DR_EFORMAT, "%s: a head of vocabulary %" PRIu32 ", %" PRIu32 " bytes an id "
                       "and blocks of %" PRIu32, s->path, vocab, width, block);
    s->info.vocab = (int32_t)vocab;
    for (int i = 0; named == SHARD_NAMED && i < 32; i++)
        snprintf(s->info.tokenizer + 2 * i, 3, "%02x", sha[i]);
    return DR_OK;
}

static int parse_tail(shard *s, dr_err *e)
{
    uint64_t n = s->file.n, at = n - SHARD_TAIL;
    const uint8_t *p = s->file.p + at;
    if (memcmp(p + SHARD_TAIL - SHARD_SIGN, SHARD_END, SHARD_SIGN))
        return err_set(e, DR_EFORMAT, "%s ends after %" PRIu64 " bytes without a shard's tail: was it "
                       "copied only in part?", s->path, n);
    if (sum_bytes(p, SHARD_TAIL_SUM) != u32_at(p + SHARD_TAIL_SUM))
        return err_set(e, DR_EFORMAT, "%s is damaged at byte %" PRIu64 ": its tail is not what was "
                       "written", s->path, at);
    s->info.n_tok = u64_at(p);
    s->info.n_docs = u64_at(p + 8);
    uint32_t flags = u32_at(p + 16);
    s->info.last = flags & SHARD_LAST;
    /* each count is below the file's size before it is multiplied */
    uint64_t room = at - SHARD_HEAD, body = 0;
    bool fits = s->info.n_tok <= room / width_of(s) && s->info.n_docs < room / 8 &&
                flags <= SHARD_LAST;
    if (fits) {
        body = SHARD_ROUND(s->info.n_tok * width_of(s)) + (s->info.n_docs + 1) * 8;
        s->n_blocks = (body + SHARD_BLOCK - 1) / SHARD_BLOCK;
        fits = body <= room && room - body == s->n_blocks * 4;
    }
    if (!fits)
        return err_set(e, DR_EFORMAT, "%s: %" PRIu64 " bytes cannot be %" PRIu64 " ids in %" PRIu64
                       " documents", s->path, n, s->info.n_tok, s->info.n_docs);
    s->tok = s->file.p + SHARD_HEAD;
    s->index = s->tok + SHARD_ROUND(s->info.n_tok * width_of(s));
    s->sums = s->tok + body;
    if (sum_bytes(s->sums, s->n_blocks * 4) != u32_at(p + 20))
        return err_set(e, DR_EFORMAT, "%s is damaged at byte %" PRIu64 ": its table of checksums is "
                       "not what was written", s->path, (uint64_t)(s->sums - s->file.p));
    return DR_OK;
}

/* Blocks that bytes [from, to) of what lies between head and checksums are in. */
static int check_blocks(shard *s, uint64_t from, uint64_t to, dr_err *e)
{
    uint64_t body = (uint64_t)(s->sums - s->tok);
    for (uint64_t b = from / SHARD_BLOCK; b * SHARD_BLOCK < to; b++) {
        if (s->seen[b / 8] >> b % 8 & 1) continue;
        uint64_t at = b * SHARD_BLOCK, n = body - at < SHARD_BLOCK ? body - at : SHARD_BLOCK;
        if (sum_bytes(s->tok + at, n) != u32_at(s->sums + 4 * b))
            return err_set(e, DR_EFORMAT, "%s is damaged at byte %" PRIu64 ": the %" PRIu64 " bytes "
                           "from there are not what was written", s->path, SHARD_HEAD + at, n);
        s->seen[b / 8] |= (uint8_t)(1 << b % 8);
    }
    return DR_OK;
}

static int check_index(shard *s, dr_err *e)
{
    uint64_t at = (uint64_t)(s->index - s->tok), before = 0;
    int rc = check_blocks(s, at, (uint64_t)(s->sums - s->tok), e);
    for (uint64_t d = 0; d <= s->info.n_docs && !rc; d++) {
        uint64_t start = u64_at(s->index + 8 * d);
        bool ok = d == 0 ? start == 0 : start >= before;
        if (d == s->info.n_docs) ok = ok && start == s->info.n_tok;
        if (!ok)
            rc = err_set(e, DR_EFORMAT, "%s: document %" PRIu64 " begins at id %" PRIu64 ", which is not "
                         "where it can", s->path, d, start);
        before = start;
    }
    return rc;
}

static int parse(shard *s, const char *name, dr_err *e)
{
    s->path = mem_strdup(name);
    int rc = s->path ? parse_head(s, e) : err_nomem(e, strlen(name) + 1, "a shard's name");
    if (!rc) rc = parse_tail(s, e);
    if (!rc && !(s->seen = mem_zalloc(s->n_blocks / 8 + 1, 1)))
        rc = err_nomem(e, s->n_blocks / 8 + 1, "a shard's blocks");
    if (!rc) rc = check_index(s, e);
    if (rc) shard_close(s);
    return rc;
}

int shard_open(shard *s, const char *path, dr_err *e)
{
    *s = (shard){0};
    int rc = os_map(&s->file, path, e);
    return rc ? rc : parse(s, path, e);
}

int shard_from_bytes(shard *s, const void *bytes, size_t n, const char *name, dr_err *e)
{
    *s = (shard){ .file = { .p = bytes, .n = n }, .borrowed = true };
    return parse(s, name, e);
}

void shard_close(shard *s)
{
    if (!s->borrowed) os_unmap(&s->file);
    mem_free(s->path);
    mem_free(s->seen);
    *s = (shard){0};
}

uint64_t shard_len(const shard *s, uint64_t d)
{
    DR_ASSERT(d < s->info.n_docs);
    return u64_at(s->index + 8 * d + 8) - u64_at(s->index + 8 * d);
}

/* Widen n ids; the greatest of them. */
static uint32_t widen(int32_t *out, const uint8_t *p, uint64_t n, uint64_t width)
{
    uint32_t most = 0;
    for (uint64_t i = 0; width == 2 && i < n; i++) {
        uint16_t v;
        memcpy(&v, p + 2 * i, sizeof v);
        most = v > most ? v : most;
        out[i] = v;
    }
    for (uint64_t i = 0; width == 4 && i < n; i++) {
        uint32_t v = u32_at(p + 4 * i);
        most = v > most ? v : most;
        out[i] = (int32_t)v;
    }
    return most;
}

int shard_read(shard *s, uint64_t d, uint64_t at, uint64_t n, int32_t *out, dr_err *e)
{
    uint64_t len = shard_len(s, d), w = width_of(s);
    if (at > len || n > len - at)
        return err_set(e, DR_EINVAL, "ids %" PRIu64 " to %" PRIu64 " of document %" PRIu64 " of %s, which "
                       "has %" PRIu64, at, at + n, d, s->path, len);
    uint64_t from = u64_at(s->index + 8 * d) + at;
    int rc = n ? check_blocks(s, from * w, (from + n) * w, e) : DR_OK;
    if (rc) return rc;
    uint32_t most = widen(out, s->tok + from * w, n, w);
    if (n && most >= (uint32_t)s->info.vocab)
        return err_set(e, DR_EFORMAT, "%s: document %" PRIu64 " has id %" PRIu32 ", its vocabulary %" PRId32,
                       s->path, d, most, s->info.vocab);
    return DR_OK;
}

int shard_check(shard *s, dr_err *e)
{
    return check_blocks(s, 0, (uint64_t)(s->sums - s->tok), e);
}
