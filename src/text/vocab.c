/* vocab.c - the table of tokens and the search by bytes. See bpe.h. */
#include "base/mem.h"
#include "text/bpe.h"

int vocab_init(vocab *v, int32_t cap, size_t cap_bytes, dr_err *e)
{
    *v = (vocab){0};
    if (cap < 0 || cap > TOK_MAX_IDS || cap_bytes > UINT32_MAX)
        return err_set(e, DR_EUNSUPPORTED, "a vocabulary of %d tokens and %zu bytes", cap,
                       cap_bytes);
    size_t n = (size_t)cap;
    v->at = mem_zalloc(n, sizeof *v->at);
    v->len = mem_zalloc(n, sizeof *v->len);
    v->type = mem_zalloc(n, 1);
    v->whole = mem_zalloc(n, sizeof *v->whole);
    v->bytes = mem_alloc(cap_bytes);
    if (!v->at || !v->len || !v->type || !v->whole || !v->bytes) {
        vocab_free(v);
        return err_nomem(e, n * 10 + cap_bytes, "vocabulary");
    }
    v->cap = cap, v->cap_bytes = cap_bytes;
    return 0;
}

void vocab_free(vocab *v)
{
    mem_free(v->at);
    mem_free(v->len);
    mem_free(v->type);
    mem_free((void *)v->whole);
    mem_free(v->bytes);
    mem_free(v->slot);
    *v = (vocab){0};
}

bool vocab_set(vocab *v, int32_t id, const void *p, size_t n, int type)
{
    if (id < 0 || id >= v->cap || v->type[id] || n > v->cap_bytes - v->n_bytes) return false;
    v->at[id] = (uint32_t)v->n_bytes, v->len[id] = (uint32_t)n, v->type[id] = (uint8_t)type;
    if (n) memcpy(v->bytes + v->n_bytes, p, n);
    v->n_bytes += n;
    if (id >= v->n) v->n = id + 1;
    return true;
}

static inline uint64_t mix(uint64_t a, uint64_t b)
{
    unsigned __int128 x = (unsigned __int128)a * b;
    return (uint64_t)x ^ (uint64_t)(x >> 64);
}

uint64_t vocab_long_key(const void *bytes, size_t n)
{
    const uint8_t *p = bytes;
    uint64_t h = n * 0x9e3779b97f4a7c15u, x;
    for (size_t i = 0; i + 8 < n; i += 8) {
        memcpy(&x, p + i, 8);
        h = mix(h ^ x, 0xa0761d6478bd642fu);
    }
    memcpy(&x, p + n - 8, 8);
    return mix(h ^ x, 0xe7037ed1a0b428dbu) | 1ull << 63;
}

bool vocab_index_one(vocab *v, int32_t id)
{
    const uint8_t *p = v->bytes + v->at[id];
    size_t n = v->len[id];
    uint64_t key = vocab_key(p, n);
    if (!n) return false;
    uint32_t i = vocab_first(v, key);
    for (; v->slot[i].key; i = i + 1 < v->n_slots ? i + 1 : 0) {
        int32_t j = v->slot[i].id;
        if (v->slot[i].key != key || j < 0) continue;
        if (n <= 7 || (v->len[j] == n && !memcmp(v->bytes + v->at[j], p, n))) return false;
    }
    v->slot[i] = (vocab_slot){ key, id, v->at[id] };
    v->tag[i] = vocab_tag(key);
    return true;
}

void vocab_hide(vocab *v, int32_t id)
{
    uint64_t key = vocab_key(v->bytes + v->at[id], v->len[id]);
    if (!v->len[id] || !v->n_slots) return;
    for (uint32_t i = vocab_first(v, key); v->slot[i].key; i = i + 1 < v->n_slots ? i + 1 : 0)
        if (v->slot[i].id == id) v->slot[i].id = -1;
}

int vocab_index(vocab *v, int32_t extra, dr_err *e)
{
    size_t n = (size_t)v->n + (size_t)extra;
    v->n_slots = (uint32_t)(n + n / 5 + 16);
    v->slot = mem_zalloc(v->n_slots, sizeof *v->slot + 1);
    if (!v->slot) return err_nomem(e, v->n_slots * sizeof *v->slot, "vocabulary");
    v->tag = (uint8_t *)(v->slot + v->n_slots);
    for (int32_t id = 0; id < v->n; id++)
        if (v->type[id] == TT_NORMAL) vocab_index_one(v, id);
    return 0;
}
