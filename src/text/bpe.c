/* bpe.c - byte-pair merging. See bpe.h. Pieces of up to BPE_SHORT symbols are merged by scanning for
 * the best pair, which costs n per merge but no bookkeeping; longer ones with a heap, so that a
 * megabyte of one letter stays O(n log n). */
#include "text/bpe.h"
#include "base/mem.h"

#define NO_PAIR UINT32_MAX

int merges_init(merges *m, uint32_t n, dr_err *e)
{
    uint64_t slots = (uint64_t)n + n / 4 + 16;
    if (slots > 1u << 28) return err_set(e, DR_EUNSUPPORTED, "%u merges are too many", n);
    m->n_slots = (uint32_t)slots;
    m->slot = mem_zalloc(slots, sizeof *m->slot + 1);
    if (!m->slot) return err_nomem(e, slots * sizeof *m->slot, "merges");
    m->tag = (uint8_t *)(m->slot + slots);
    return 0;
}

void merges_free(merges *m)
{
    mem_free(m->slot);
    mem_free(m->merged);
    mem_free(m->prio);
    mem_free(m->first);
    *m = (merges){0};
}

static inline uint64_t pair_key(int32_t l, int32_t r)
{
    return (uint64_t)(uint32_t)l << 21 | (uint32_t)r;
}

static inline uint64_t pair_hash(uint64_t key) { return (key ^ key >> 19) * 0x9e3779b97f4a7c15u; }

static inline uint32_t pair_slot(const merges *m, uint64_t key)
{
    return (uint32_t)((pair_hash(key) >> 32) * m->n_slots >> 32);
}

static inline uint8_t pair_tag(uint64_t key) { return (uint8_t)(pair_hash(key) >> 8 | 1); }

static inline uint32_t pair_find(const merges *m, int32_t l, int32_t r)
{
    if ((l | r) < 0) return NO_PAIR;
    uint64_t key = pair_key(l, r);
    uint8_t tag = pair_tag(key), at;
    for (uint32_t i = pair_slot(m, key); (at = m->tag[i]); i = i + 1 < m->n_slots ? i + 1 : 0)
        if (at == tag && m->slot[i] >> 22 == key) return (uint32_t)(m->slot[i] & 0x3fffff) - 1;
    return NO_PAIR;
}

static inline uint32_t near_slot(uint64_t key)
{
    return (uint32_t)((key ^ key >> 19) * 0x9e3779b97f4a7c15u >> 50);
}

/* The same, from what was asked lately. An entry has the form of a slot; payload + 1 is 0 for a
 * pair that does not merge, which costs the most to find out in the table. */
static inline uint32_t pair_near(const merges *m, uint64_t *near, int32_t l, int32_t r)
{
    if (!near) return pair_find(m, l, r);
    if ((l | r) < 0) return NO_PAIR;
    uint64_t key = pair_key(l, r), *w = &near[near_slot(key)];
    if (*w >> 22 != key || !*w) {
        uint32_t pay = pair_find(m, l, r);
        *w = key << 22 | (pay + 1);
        return pay;
    }
    return (uint32_t)(*w & 0x3fffff) - 1;
}

static int grow(merges *m, dr_err *e)
{
    merges big = { .merged = m->merged, .prio = m->prio, .first = m->first };
    int rc = merges_init(&big, m->n * 2, e);
    if (rc) return rc;
    for (uint32_t j = 0; j < m->n_slots; j++) {
        if (!m->slot[j]) continue;
        uint32_t i = pair_slot(&big, m->slot[j] >> 22);
        while (big.slot[i]) i = i + 1 < big.n_slots ? i + 1 : 0;
        big.slot[i] = m->slot[j], big.tag[i] = m->tag[j];
    }
    big.n = m->n;
    mem_free(m->slot);
    *m = big;
    return 0;
}

int merges_add(merges *m, int32_t l, int32_t r, uint32_t payload, bool replace, size_t max_pairs,
               dr_err *e)
{
    if (payload >= (1u << 22) - 1) return err_set(e, DR_EUNSUPPORTED, "too many merges");
    if ((uint64_t)m->n * 10 >= (uint64_t)m->n_slots * 9) {
        int rc = grow(m, e);
        if (rc) return rc;
    }
    uint64_t key = pair_key(l, r), s;
    uint32_t i = pair_slot(m, key);
    for (; (s = m->slot[i]); i = i + 1 < m->n_slots ? i + 1 : 0) {
        if (s >> 22 != key) continue;
        if (replace) m->slot[i] = key << 22 | (payload + 1);
        return 0;
    }
    if (m->n >= max_pairs)
        return err_set(e, DR_EUNSUPPORTED, "more than %zu pairs merge: too many for a file of "
                       "this size", max_pairs);
    m->slot[i] = key << 22 | (payload + 1), m->tag[i] = pair_tag(key);
    m->n++;
    return 1;
}

static size_t char_len(const uint8_t *p, size_t n)
{
    size_t k = 1;
    while (k < n && (p[k] & 0xc0) == 0x80) k++;
    return k;
}

/* Ways to cut tokens in two, on their way into the table. The tables are larger than the near
 * caches: all keys of a batch are computed, and their lines asked for, before the first search. */
enum { SPLITS = 64 };
typedef struct {
    struct { uint64_t l, r; int32_t id; uint32_t cut; bool l_char, r_char; } v[SPLITS];
    int n;
} split_batch;

/* The id of a part of a token; a lone character that is no token gets one. -1: no such token. */
static int part_id(vocab *v, uint64_t key, const uint8_t *p, size_t n, bool lone_char, int32_t *id,
                   dr_err *e)
{
    *id = vocab_find_key(v, key, p, n);
    if (*id >= 0 || !lone_char) return 0;
    if (!vocab_set(v, v->n, p, n, TT_NONE))
        return err_set(e, DR_EUNSUPPORTED, "too many characters occur in tokens but are none");
    *id = v->n - 1;
    v->type[*id] = TT_NORMAL;
    vocab_index_one(v, *id);
    return 0;
}

static int flush_splits(merges *m, vocab *v, split_batch *b, size_t max_pairs, dr_err *e)
{
    int32_t l[SPLITS], r[SPLITS];
    for (int i = 0; i < b->n; i++) {
        const uint8_t *p = v->bytes + v->at[b->v[i].id];
        size_t len = v->len[b->v[i].id], cut = b->v[i].cut;
        int rc = part_id(v, b->v[i].l, p, cut, b->v[i].l_char, &l[i], e);
        if (!rc) rc = part_id(v, b->v[i].r, p + cut, len - cut, b->v[i].r_char, &r[i], e);
        if (rc) return rc;
        if (l[i] >= 0 && r[i] >= 0) __builtin_prefetch(&m->slot[pair_slot(m, pair_key(l[i], r[i]))]);
    }
    for (int i = 0; i < b->n; i++) {
        if (l[i] < 0 || r[i] < 0) continue;
        int rc = merges_add(m, l[i], r[i], (uint32_t)b->v[i].id, false, max_pairs, e);
        if (rc < 0) return rc;
    }
    b->n = 0;
    return 0;
}

int merges_from_splits(merges *m, vocab *v, bool chars, size_t max_pairs, dr_err *e)
{
    int32_t n = v->n;
    split_batch b;
    b.n = 0;
    for (int32_t id = 0; id < n; id++) {
        const uint8_t *p = v->bytes + v->at[id];
        size_t len = v->len[id];
        if (v->type[id] != TT_NORMAL || len < 2) continue;
        if (len > 4096) return err_set(e, DR_EUNSUPPORTED, "token %d has %zu bytes, the limit is "
                                       "4096", id, len);
        if (vocab_find(v, p, len) != id) continue;               /* the same bytes twice */
        size_t first = chars ? char_len(p, len) : 1, step;
        for (size_t k = first; k < len; k += step) {
            step = chars ? char_len(p + k, len - k) : 1;
            uint64_t l = vocab_key(p, k), r = vocab_key(p + k, len - k);
            __builtin_prefetch(&v->slot[vocab_first(v, l)]);
            __builtin_prefetch(&v->slot[vocab_first(v, r)]);
            b.v[b.n].l = l, b.v[b.n].r = r, b.v[b.n].id = id, b.v[b.n].cut = (uint32_t)k;
            b.v[b.n].l_char = chars && k == first, b.v[b.n].r_char = chars && k + step == len;
            int rc = ++b.n < SPLITS ? 0 : flush_splits(m, v, &b, max_pairs, e);
            if (rc) return rc;
        }
    }
    return flush_splits(m, v, &b, max_pairs, e);
}

int bpe_room(bpe_work *w, size_t n, dr_err *e)
{
    if (n <= w->n_cap) return 0;
    if (n > UINT32_MAX / 4) return err_set(e, DR_EUNSUPPORTED, "a piece of %zu bytes", n);
    size_t cap = n + n / 4 + 64;
    mem_free(w->sym);
    w->n_cap = 0;
    w->sym = mem_alloc(cap * (3 * sizeof *w->sym + sizeof *w->pay));
    if (!w->sym) return err_nomem(e, cap * 16, "merging");
    w->prev = w->sym + cap, w->next = w->prev + cap;
    w->pay = (uint32_t *)(w->next + cap);
    w->n_cap = (uint32_t)cap;
    return 0;
}

void bpe_work_free(bpe_work *w)
{
    mem_free(w->sym);
    mem_free(w->heap);
    *w = (bpe_work){0};
}

static inline uint32_t prio_of(const merges *m, uint32_t pay)
{
    return m->prio && pay != NO_PAIR ? m->prio[pay] : pay;
}

static inline int32_t merged_of(const merges *m, uint32_t pay)
{
    return m->merged ? m->merged[pay] : (int32_t)pay;
}

int merges_bytes(merges *m, const int32_t byte_id[256], dr_err *e)
{
    m->first = mem_alloc(65536 * sizeof *m->first);
    if (!m->first) return err_nomem(e, 65536 * sizeof *m->first, "merges");
    for (int l = 0; l < 256; l++)
        for (int r = 0; r < 256; r++)
            m->first[l << 8 | r] = pair_find(m, byte_id[l], byte_id[r]);
    return 0;
}

/* The best pair is the least key: priority << 6 | position, so a scan without branches finds the
 * priority and its leftmost place at once. Symbols stay where they are and are chained. */
enum { NO_KEY = INT32_MAX };
typedef int32_t four __attribute__((vector_size(16)));

static inline int32_t least(const int32_t *key, size_t n)     /* n: a multiple of 4 */
{
    const four *k = (const four *)key;
    four a = k[0];
    for (size_t j = 1; j < n / 4; j++) {
        four less = a < k[j];
        a = (a & less) | (k[j] & ~less);
    }
    int32_t x = a[0] < a[1] ? a[0] : a[1], y = a[2] < a[3] ? a[2] : a[3];
    return x < y ? x : y;
}

/* pay[0..n-1) are the pairs' payloads; 2 <= n <= BPE_SHORT. */
static size_t merge_short(const merges *m, uint64_t *near, int32_t *sym, uint32_t *pay, size_t n)
{
    _Alignas(16) int32_t key[BPE_SHORT];
    uint8_t next[BPE_SHORT], prev[BPE_SHORT];
    size_t width = (n + 2) & ~(size_t)3;                      /* n - 1 pairs, rounded up */
#define KEY(i) (pay[i] == NO_PAIR ? NO_KEY : (int32_t)(prio_of(m, pay[i]) << 6 | (uint32_t)(i)))
    for (size_t i = 0; i < n; i++) next[i] = (uint8_t)(i + 1), prev[i] = (uint8_t)(i - 1);
    for (size_t i = 0; i + 1 < n; i++) key[i] = KEY(i);
    for (size_t i = n - 1; i < width; i++) key[i] = NO_KEY;
    for (int32_t best; (best = least(key, width)) != NO_KEY;) {
        size_t i = best & 63, j = next[i];
        sym[i] = merged_of(m, pay[i]);
        if (j < width) key[j] = NO_KEY;
        next[i] = next[j];
        if (i) {                                              /* both misses at once */
            uint64_t k = pair_key(sym[prev[i]], sym[i]);
            if (near) __builtin_prefetch(&near[near_slot(k)]);
            __builtin_prefetch(&m->tag[pair_slot(m, k)]);
        }
        if (next[j] < n) {
            prev[next[j]] = (uint8_t)i;
            pay[i] = pair_near(m, near, sym[i], sym[next[i]]);
            key[i] = KEY(i);
        } else {
            key[i] = NO_KEY;
        }
        if (!i) continue;
        size_t l = prev[i];
        pay[l] = pair_near(m, near, sym[l], sym[i]);
        key[l] = KEY(l);
    }
#undef KEY
    size_t out = 0;
    for (size_t i = 0; i < n; i = next[i]) sym[out++] = sym[i];
    return out;
}

static void sift_down(uint64_t *h, size_t n, size_t i)
{
    uint64_t x = h[i];
    for (size_t c; (c = 2 * i + 1) < n; i = c) {
        if (c + 1 < n && h[c + 1] < h[c]) c++;
        if (x <= h[c]) break;
        h[i] = h[c];
    }
    h[i] = x;
}

static void sift_up(uint64_t *h, size_t i)
{
    uint64_t x = h[i];
    for (; i && x < h[(i - 1) / 2]; i = (i - 1) / 2) h[i] = h[(i - 1) / 2];
    h[i] = x;
}

/* A heap of priority << 32 | position of the left symbol. An entry whose pair has changed since
 * is recognised by its priority and dropped; each merge adds at most two, so 3n fit all. */
static size_t merge_long(const merges *m, bpe_work *w, size_t n)
{
    int32_t *sym = w->sym, *prev = w->prev, *next = w->next;
    uint64_t *h = w->heap;
    size_t nh = 0;
    for (size_t i = 0; i < n; i++) {
        prev[i] = (int32_t)i - 1, next[i] = i + 1 < n ? (int32_t)i + 1 : -1;
        w->pay[i] = i + 1 < n ? pair_find(m, sym[i], sym[i + 1]) : NO_PAIR;
        if (w->pay[i] != NO_PAIR) h[nh++] = (uint64_t)prio_of(m, w->pay[i]) << 32 | i;
    }
    for (size_t i = nh / 2; i-- > 0;) sift_down(h, nh, i);
    while (nh) {
        uint64_t top = h[0];
        h[0] = h[--nh];
        if (nh) sift_down(h, nh, 0);
        int32_t i = (int32_t)(top & 0xffffffff);
        if (w->pay[i] == NO_PAIR || prio_of(m, w->pay[i]) != top >> 32) continue;
        int32_t j = next[i], l = prev[i];
        sym[i] = merged_of(m, w->pay[i]);
        w->pay[j] = NO_PAIR;
        next[i] = next[j];
        if (next[j] >= 0) prev[next[j]] = i;
        w->pay[i] = next[i] >= 0 ? pair_find(m, sym[i], sym[next[i]]) : NO_PAIR;
        if (w->pay[i] != NO_PAIR) {
            h[nh] = (uint64_t)prio_of(m, w->pay[i]) << 32 | (uint32_t)i;
            sift_up(h, nh++);
        }
        if (l < 0) continue;
        w->pay[l] = pair_find(m, sym[l], sym[i]);
        if (w->pay[l] != NO_PAIR) {
            h[nh] = (uint64_t)prio_of(m, w->pay[l]) << 32 | (uint32_t)l;
            sift_up(h, nh++);
        }
    }
    size_t out = 0;
    for (int32_t i = 0; i >= 0; i = next[i]) sym[out++] = sym[i];
    return out;
}

int64_t bpe_merge(const merges *m, bpe_work *w, size_t n, dr_err *e)
{
    if (n < 2) return (int64_t)n;
    if (n <= BPE_SHORT) {
        uint32_t pay[BPE_SHORT];
        for (size_t i = 0; i + 1 < n; i++) pay[i] = pair_near(m, w->near, w->sym[i], w->sym[i + 1]);
        return (int64_t)merge_short(m, w->near, w->sym, pay, n);
    }
    if (w->heap_cap < 3 * n) {
        mem_free(w->heap);
        w->heap_cap = 3 * (n + n / 4);
        w->heap = mem_alloc(w->heap_cap * sizeof *w->heap);
        if (!w->heap) {
            w->heap_cap = 0;
            return err_nomem(e, 3 * n * sizeof *w->heap, "merging");
        }
    }
    return (int64_t)merge_long(m, w, n);
}

size_t bpe_merge_bytes(const merges *m, uint64_t *near, const int32_t byte_id[256],
                       const uint8_t *p, size_t n, int32_t *sym)
{
    uint32_t pay[BPE_SHORT];
    for (size_t i = 0; i < n; i++) sym[i] = byte_id[p[i]];
    if (n < 2) return n;
    for (size_t i = 0; i + 1 < n; i++) pay[i] = m->first[p[i] << 8 | p[i + 1]];
    return merge_short(m, near, sym, pay, n);
}
