/* bpe.h - tokens as byte strings, the pairs that merge, and merging itself.
 * Filled once by a loader, then immutable (v->whole is a cache of facts that every thread would
 * find the same, kept in relaxed atomics). */
#ifndef TEXT_BPE_H
#define TEXT_BPE_H
#include <stdatomic.h>
#include "text/tokenizer.h"

enum { TOK_MAX_IDS = 1 << 21 };      /* an id fits 21 bits: see merges.slot */
enum {                               /* what a token is; numbers as in GGUF and SentencePiece */
    TT_NONE = 0, TT_NORMAL, TT_UNKNOWN, TT_CONTROL, TT_USER, TT_UNUSED, TT_BYTE
};

/* Ids 0..n-1. A token is findable by its bytes only after vocab_index: normal ones are, control
 * tokens never, so text cannot spell one. Strings of up to 7 bytes are their own key
 * (bytes | length << 56); longer ones have a hash with the top bit set and are compared. */
typedef struct { uint64_t key; int32_t id; uint32_t at; } vocab_slot;    /* key 0: empty */
typedef struct {
    int32_t n, n_ids;                /* n_ids: of them real ids; the rest stand for characters */
    uint32_t *at, *len;              /* bytes + at[id] */
    uint8_t *bytes, *type;
    size_t n_bytes, cap_bytes;
    int32_t cap;
    vocab_slot *slot;
    uint8_t *tag;                    /* by slot: 0 empty, else bits of the hash, see merges */
    uint32_t n_slots;
    _Atomic uint8_t *whole;          /* is merging this token's bytes sure to give it back? */
} vocab;

/* Room for exactly cap ids and cap_bytes bytes; all ids start as TT_NONE. */
int vocab_init(vocab *v, int32_t cap, size_t cap_bytes, dr_err *e);
void vocab_free(vocab *v);
/* Set the token's bytes (copied). False: no room, or the id has been set before. */
bool vocab_set(vocab *v, int32_t id, const void *p, size_t n, int type);
static inline span vocab_text(const vocab *v, int32_t id)
{
    return (span){ (const char *)v->bytes + v->at[id], v->len[id] };
}

uint64_t vocab_long_key(const void *p, size_t n);            /* n > 7 */
static inline uint64_t vocab_key(const void *bytes, size_t n)
{
    const uint8_t *p = bytes;
    if (n > 7) return vocab_long_key(p, n);
    uint64_t x = (uint64_t)n << 56;
    if (n >= 4) {
        uint32_t a, b;
        memcpy(&a, p, 4);
        memcpy(&b, p + n - 4, 4);
        return x | a | (uint64_t)b << (n - 4) * 8;
    }
    if (n >= 2) x |= (uint64_t)p[n - 1] << (n - 1) * 8 | (uint64_t)p[1] << 8;
    return n ? x | p[0] : x;
}
static inline uint64_t vocab_hash(uint64_t key) { return (key ^ key >> 29) * 0x9e3779b97f4a7c15u; }
static inline uint32_t vocab_first(const vocab *v, uint64_t key)    /* where the search begins */
{
    return (uint32_t)((vocab_hash(key) >> 32) * v->n_slots >> 32);
}
static inline uint8_t vocab_tag(uint64_t key) { return (uint8_t)(vocab_hash(key) >> 8 | 1); }
static inline int32_t vocab_find_key(const vocab *v, uint64_t key, const void *p, size_t n)
{
    if (!n || !v->n_slots) return -1;
    uint8_t tag = vocab_tag(key), at;
    for (uint32_t i = vocab_first(v, key); (at = v->tag[i]); i = i + 1 < v->n_slots ? i + 1 : 0) {
        if (at != tag) continue;
        const vocab_slot *s = &v->slot[i];
        if (s->key != key || s->id < 0) continue;            /* below 0: hidden */
        if (n <= 7 || (v->len[s->id] == n && !memcmp(v->bytes + s->at, p, n))) return s->id;
    }
    return -1;
}
static inline int32_t vocab_find(const vocab *v, const void *p, size_t n)    /* -1: none */
{
    return vocab_find_key(v, vocab_key(p, n), p, n);
}
int vocab_index(vocab *v, int32_t extra, dr_err *e);     /* make the table, `extra` more fit */
/* Put one token into the table; false when one with the same bytes is there. */
bool vocab_index_one(vocab *v, int32_t id);
void vocab_hide(vocab *v, int32_t id);                   /* take it out of the table */

/* Pairs that merge: (left id, right id) -> payload. Payload is the merged id, or, with `merged`,
 * the number of the merge. Lower priority merges first, then the leftmost pair. */
typedef struct {
    uint64_t *slot;                  /* left << 43 | right << 22 | payload + 1; 0: empty */
    uint8_t *tag;                    /* by slot: 0 empty, else bits of the hash: most searches end
                                        here, in a ninth of the memory */
    uint32_t n_slots, n;
    int32_t *merged;                 /* by payload; NULL: payload is the merged id */
    uint32_t *prio;                  /* by payload; NULL: payload is the priority */
    uint32_t *first;                 /* payload of two bytes (left << 8 | right), or NULL */
} merges;

int merges_init(merges *m, uint32_t n, dr_err *e);       /* room for n pairs */
void merges_free(merges *m);
/* 1: added, 0: the pair was there (its payload is replaced if `replace`), or an error. */
int merges_add(merges *m, int32_t l, int32_t r, uint32_t payload, bool replace, size_t max_pairs,
               dr_err *e);
/* Add every way to cut a normal token into two known parts (tiktoken and SentencePiece merge
 * whatever gives a token). chars: cut between characters; a character that is no token gets an
 * id beyond n_ids. */
int merges_from_splits(merges *m, vocab *v, bool chars, size_t max_pairs, dr_err *e);

/* Symbols being merged, and room to do it. One thread's; zeroed is valid. */
enum { PAIRS_NEAR = 16384 };          /* answers about pairs kept in the near cache, by hash */
typedef struct {
    uint64_t *near;                  /* PAIRS_NEAR slots, zeroed; NULL: none. Not owned. */
    int32_t *sym, *prev, *next;
    uint32_t *pay, n_cap;
    uint64_t *heap;
    size_t heap_cap;
} bpe_work;
int bpe_room(bpe_work *w, size_t n, dr_err *e);          /* at least n symbols */
void bpe_work_free(bpe_work *w);
/* Know the pairs of single bytes without a search. */
int merges_bytes(merges *m, const int32_t byte_id[256], dr_err *e);
/* Merge w->sym[0..n) until nothing merges; returns how many symbols are left. O(n log n).
 * A negative symbol merges with nothing. */
int64_t bpe_merge(const merges *m, bpe_work *w, size_t n, dr_err *e);
/* The same for up to BPE_SHORT bytes, each of which has an id; sym has room for n. */
enum { BPE_SHORT = 48 };
size_t bpe_merge_bytes(const merges *m, uint64_t *near, const int32_t byte_id[256],
                       const uint8_t *p, size_t n, int32_t *sym);
#endif
