/* bpe.c - byte-pair merging. See bpe.h. Pieces of up to BPE_SHORT symbols are merged by scanning for
 * the best pair, which costs n per merge but no bookkeeping; longer ones with a heap, so that a
 * megabyte of one letter stays O(n log n). */
#include "text/bpe.h"
#include "base/mem.h"

#define NO_PAIR UINT32_MAX

int merges_init(merges *m, uint32_t n, dr_err *e)
{
    uint64_t slots = (uint64_t)n + n / 2 + 16;
    if (slots > 1u << 28) return err_set(e, DR_EUNSUPPORTED, "%u merges are too many", n);
    m->n_slots = (uint32_t)slots;
    m->slot = mem_zalloc(slots, sizeof *m->slot);
    return m->slot ? 0 : err_nomem(e, slots * sizeof *m->slot, "merges");
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

static inline uint32_t pair_slot(const merges *m, uint64_t key)
{
    uint64_t h = (key ^ key >> 19) * 0x9e3779b97f4a7c15u;
    return (uint32_t)((h >> 32) * m->n_slots >> 32);
}

static inline uint32_t pair_find(const merges *m, int32_t l, int32_t r)
{
    if ((l | r) < 0) return NO_PAIR;
    uint64_t key = pair_key(l, r), s;
    for (uint32_t i = pair_slot(m, key); (s = m->slot[i]); i = i + 1 < m->n_slots ? i + 1 : 0)
        if (s >> 22 == key) return (uint32_t)(s & 0x3fffff) - 1;
    return NO_PAIR;
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
        big.slot[i] = m->slot[j];
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
    if ((uint64_t)m->n * 10 >= (uint64_t)m->n_slots * 8) {
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
    m->slot[i] = key << 22 | (payload + 1);
    m->n++;
    return 1;
}

/* The id of a part of a token; a lone character that is no token gets one. -1: no such token. */
static int part_id(vocab *v, const uint8_t *p, size_t n, bool lone_char, int32_t *id, dr_err *e)
{
    *id = vocab_find(v, p, n);
    if (*id >= 0 || !lone_char) return 0;
    if (!vocab_set(v, v->n, p, n, TT_NONE))
        return err_set(e, DR_EUNSUPPORTED, "too many characters occur in tokens but are none");
    *id = v->n - 1;
    v->type[*id] = TT_NORMAL;
    vocab_index_one(v, *id);
    return 0;
}

static size_t char_len(const uint8_t *p, size_t n)
{
    size_t k = 1;
    while (k < n && (p[k] & 0xc0) == 0x80) k++;
    return k;
}

int merges_from_splits(merges *m, vocab *v, bool chars, size_t max_pairs, dr_err *e)
{
    int32_t n = v->n;
    for (int32_t id = 0; id < n; id++) {
        const uint8_t *p = v->bytes + v->at[id];
        size_t len = v->len[id];
        if ((v->type[id] != TT_NORMAL && v->type[id] != TT_USER) || len < 2) continue;
        if (vocab_find(v, p, len) != id) continue;
        if (len > 4096) return err_set(e, DR_EUNSUPPORTED, "token %d has %zu bytes, the limit is "
                                       "4096", id, len);
        size_t first = chars ? char_len(p, len) : 1;
        for (size_t k = first; k < len; k += chars ? char_len(p + k, len - k) : 1) {
            int32_t l, r;
            bool last = chars && k + char_len(p + k, len - k) == len;
            int rc = part_id(v, p, k, chars && k == first, &l, e);
            if (!rc) rc = part_id(v, p + k, len - k, last, &r, e);
            if (!rc && l >= 0 && r >= 0)
                rc = merges_add(m, l, r, (uint32_t)id, false, max_pairs, e);
            if (rc < 0) return rc;
            p = v->bytes + v->at[id];
        }
    }
    return 0;
}

int bpe_room(bpe_work *w, size_t n, dr_err *e)
{
    if (n <= w->n_cap) return 0;
    if (n > UINT32_MAX / 4) return err_set(e, DR_EUNSUPPORTED, "a piece of %zu bytes", n);
    size_t cap = n + n / 4 + 64;
    bpe_work_free(w);
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

/* pay[0..n-1) are the pairs' payloads. */
static size_t merge_short(const merges *m, int32_t *sym, uint32_t *pay, size_t n)
{
    uint32_t prio[BPE_SHORT];
    for (size_t i = 0; i + 1 < n; i++) prio[i] = prio_of(m, pay[i]);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (prio[i] < prio[best]) best = i;
        if (prio[best] == NO_PAIR) break;
        sym[best] = merged_of(m, pay[best]);
        n--;
        for (size_t i = best + 1; i < n; i++) sym[i] = sym[i + 1];
        for (size_t i = best; i + 1 < n; i++) pay[i] = pay[i + 1], prio[i] = prio[i + 1];
        if (best + 1 < n) {
            pay[best] = pair_find(m, sym[best], sym[best + 1]);
            prio[best] = prio_of(m, pay[best]);
        }
        if (best) {
            pay[best - 1] = pair_find(m, sym[best - 1], sym[best]);
            prio[best - 1] = prio_of(m, pay[best - 1]);
        }
    }
    return n;
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
    if (n <= BPE_SHORT) {
        uint32_t pay[BPE_SHORT];
        for (size_t i = 0; i + 1 < n; i++) pay[i] = pair_find(m, w->sym[i], w->sym[i + 1]);
        return (int64_t)merge_short(m, w->sym, pay, n);
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

size_t bpe_merge_bytes(const merges *m, const int32_t byte_id[256], const uint8_t *p, size_t n,
                       int32_t *sym)
{
    uint32_t pay[BPE_SHORT];
    for (size_t i = 0; i < n; i++) sym[i] = byte_id[p[i]];
    for (size_t i = 0; i + 1 < n; i++) pay[i] = m->first[p[i] << 8 | p[i + 1]];
    return merge_short(m, sym, pay, n);
}
