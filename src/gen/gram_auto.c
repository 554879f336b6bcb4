/* gram_auto.c - automata over characters: made from a regular expression, a list of words, or two
 * other automata. See gram_ir.h.
 *
 * Every automaton that leaves this file is trimmed: each state can be reached and can reach a final
 * one, so "next is not -1" means "can still be completed". */
#include <stdlib.h>
#include <string.h>
#include "gen/gram_ir.h"
#include "text/utf8.h"

int ca_class(const cauto *a, uint32_t c)
{
    int lo = 0, hi = a->n_iv;
    while (hi - lo > 1) {
        int mid = (lo + hi) / 2;
        if (a->cut[mid] <= c) lo = mid;
        else hi = mid;
    }
    return a->cls[lo];
}

bool ca_accepts(const cauto *a, span s)
{
    if (ca_empty(a)) return false;
    const uint8_t *p = (const uint8_t *)s.p, *end = p + s.n;
    int32_t at = 0;
    for (int k; p < end; p += k) {
        uint32_t c = utf8_get(p, end, &k);
        if (c == UTF8_BAD) return false;
        at = a->next[(size_t)at * (size_t)a->n_cls + (size_t)ca_class(a, c)];
        if (at < 0) return false;
    }
    return a->final[at];
}

/* ---- growing automata, a state found by its key ---- */

typedef struct {
    gctx *g;
    cauto *a;
    int cap, cap_final;
    uint64_t *key;                  /* (n,) two numbers, or a hash */
    int cap_key;
    int32_t *slot;                  /* hash table of states; -1: free */
    int n_slots;
} maker;

static uint64_t mix(uint64_t h)
{
    h ^= h >> 31, h *= 0x9e3779b97f4a7c15u, h ^= h >> 29, h *= 0xbf58476d1ce4e5b9u;
    return h ^ h >> 32;
}

static bool rehash(maker *m)
{
    int n = m->n_slots ? m->n_slots * 2 : 64;
    m->slot = gz_take(m->g, (size_t)n * sizeof *m->slot);
    if (!m->slot) return false;
    memset(m->slot, 0xff, (size_t)n * sizeof *m->slot);
    m->n_slots = n;
    for (int i = 0; i < m->a->n; i++) {
        uint64_t at = mix(m->key[i]);
        while (m->slot[at & (uint64_t)(n - 1)] >= 0) at++;
        m->slot[at & (uint64_t)(n - 1)] = i;
    }
    return true;
}

/* Room for one more state, its row all -1; -1: failed. */
static int32_t add_state(maker *m, uint64_t key)
{
    gctx *g = m->g;
    cauto *a = m->a;
    size_t row = (size_t)a->n_cls;
    if (a->n == GRAM_MAX_STATES) {
        gz_fail(g, DR_EUNSUPPORTED, "%s has a pattern, a length or a list of names that needs more "
                "than %d states", g->what, GRAM_MAX_STATES);
        return -1;
    }
    if (!gz_work(g, (int64_t)row)) return -1;
    if (a->n == m->cap) {
        int cap = m->cap ? m->cap * 2 : 8;
        int32_t *next = gz_take(g, (size_t)cap * row * sizeof *next);
        bool *final = gz_take(g, (size_t)cap);
        uint64_t *keys = gz_take(g, (size_t)cap * sizeof *keys);
        if (!next || !final || !keys) return -1;
        if (a->n) {
            memcpy(next, a->next, (size_t)a->n * row * sizeof *next);
            memcpy(final, a->final, (size_t)a->n);
            memcpy(keys, m->key, (size_t)a->n * sizeof *keys);
        }
        a->next = next, a->final = final, m->key = keys, m->cap = cap;
    }
    memset(a->next + (size_t)a->n * row, 0xff, row * sizeof *a->next);
    m->key[a->n] = key;
    a->n++;
    if (a->n * 2 > m->n_slots) {
        if (!rehash(m)) return -1;
    } else {
        uint64_t at = mix(key);
        while (m->slot[at & (uint64_t)(m->n_slots - 1)] >= 0) at++;
        m->slot[at & (uint64_t)(m->n_slots - 1)] = a->n - 1;
    }
    return a->n - 1;
}

/* The state whose key this is, made when it is new. */
static int32_t state_of(maker *m, uint64_t key)
{
    if (m->n_slots) {
        uint64_t at = mix(key);
        for (int32_t i; (i = m->slot[at & (uint64_t)(m->n_slots - 1)]) >= 0; at++)
            if (m->key[i] == key) return i;
    }
    return add_state(m, key);
}

static maker maker_new(gctx *g, int n_iv, int n_cls)
{
    maker m = { .g = g, .a = gz_take(g, sizeof *m.a) };
    if (!m.a) return m;
    m.a->n_iv = n_iv, m.a->n_cls = n_cls;
    m.a->cut = gz_take(g, (size_t)n_iv * sizeof *m.a->cut);
    m.a->cls = gz_take(g, (size_t)n_iv * sizeof *m.a->cls);
    return m;
}

/* Merge states that no text tells apart (Moore's refinement). Only where it is cheap. */
static bool merge_equal(gctx *g, cauto *a)
{
    enum { MOST = 700, ROUNDS = 60 };
    if (a->n < 2 || a->n > MOST) return true;
    int n = a->n, parts = 0;
    int32_t *part = gz_take(g, (size_t)n * 2 * sizeof *part), *fresh = part + n;
    if (!part) return false;
    for (int i = 0; i < n; i++) part[i] = a->final[i], parts |= 1 << part[i];
    parts = parts == 3 ? 2 : 1;
    if (parts == 1) memset(part, 0, (size_t)n * sizeof *part);
    for (int round = 0;; round++) {
        if (round == ROUNDS) return true;        /* a long chain: nothing to gain */
        if (!gz_work(g, (int64_t)n * a->n_cls)) return false;
        int32_t slot[2048];
        memset(slot, 0xff, sizeof slot);
        int now = 0;
        for (int i = 0; i < n; i++) {
            const int32_t *row = a->next + (size_t)i * (size_t)a->n_cls;
            uint64_t h = (uint64_t)part[i];
            for (int c = 0; c < a->n_cls; c++)
                h = h * 0x100000001b3u ^ (uint64_t)(row[c] < 0 ? -1 : part[row[c]]);
            uint64_t at = mix(h);
            int32_t k;
            for (; (k = slot[at & 2047]) >= 0; at++) {
                const int32_t *other = a->next + (size_t)k * (size_t)a->n_cls;
                bool same = part[k] == part[i];
                for (int c = 0; same && c < a->n_cls; c++)
                    same = (row[c] < 0 ? -1 : part[row[c]]) == (other[c] < 0 ? -1 : part[other[c]]);
                if (same) break;
            }
            if (k < 0) slot[at & 2047] = i, fresh[i] = now++;
            else fresh[i] = fresh[k];
        }
        memcpy(part, fresh, (size_t)n * sizeof *part);
        if (now == parts) break;
        parts = now;
    }
    if (parts == n) return true;
    for (int i = 0, put = 0; i < n; i++) {           /* parts are numbered by first occurrence */
        if (part[i] != put) continue;
        int32_t *to = a->next + (size_t)put * (size_t)a->n_cls;
        const int32_t *from = a->next + (size_t)i * (size_t)a->n_cls;
        for (int c = 0; c < a->n_cls; c++) to[c] = from[c] < 0 ? -1 : part[from[c]];
        a->final[put++] = a->final[i];
    }
    a->n = parts;
    return true;
}

/* Drop states that no final one can be reached from. All are reachable by construction. */
static cauto *trimmed(maker *m)
{
    gctx *g = m->g;
    cauto *a = m->a;
    if (g->rc || !a) return NULL;
    size_t edges = (size_t)a->n * (size_t)a->n_cls;
    if (!gz_work(g, (int64_t)edges)) return NULL;
    /* reverse edges by counting sort */
    int32_t *first = gz_take(g, ((size_t)a->n + 2) * sizeof *first);
    int32_t *from = gz_take(g, (edges + 1) * sizeof *from);
    int32_t *todo = gz_take(g, ((size_t)a->n + 1) * sizeof *todo);
    int32_t *to = gz_take(g, ((size_t)a->n + 1) * sizeof *to);
    if (!first || !from || !todo || !to) return NULL;
    for (size_t i = 0; i < edges; i++)
        if (a->next[i] >= 0) first[a->next[i] + 2]++;
    for (int i = 2; i <= a->n + 1; i++) first[i] += first[i - 1];
    for (size_t i = 0; i < edges; i++)
        if (a->next[i] >= 0) from[first[a->next[i] + 1]++] = (int32_t)(i / (size_t)a->n_cls);
    int n = 0;
    for (int i = 0; i < a->n; i++)
        if (a->final[i]) to[i] = 1, todo[n++] = i;
    for (int i = 0; i < n; i++)
        for (int32_t k = first[todo[i]]; k < first[todo[i] + 1]; k++)
            if (!to[from[k]]) to[from[k]] = 1, todo[n++] = from[k];
    if (!a->n || !to[0]) {
        a->n = 0;
        return a;
    }
    int32_t put = 0;
    for (int i = 0; i < a->n; i++) to[i] = to[i] ? put++ : -1;
    for (int i = 0; i < a->n; i++) {
        if (to[i] < 0) continue;
        int32_t *row = a->next + (size_t)to[i] * (size_t)a->n_cls;
        const int32_t *old = a->next + (size_t)i * (size_t)a->n_cls;
        for (int c = 0; c < a->n_cls; c++) row[c] = old[c] < 0 ? -1 : to[old[c]];
        a->final[to[i]] = a->final[i];
    }
    a->n = put;
    return merge_equal(g, a) ? a : NULL;
}

/* ---- intervals and classes ---- */

static int by_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Sort, drop doubles; v[0] becomes 0. v has room for one more. */
static int sort_cuts(uint32_t *v, int n)
{
    v[n++] = 0;
    qsort(v, (size_t)n, sizeof *v, by_u32);
    int k = 0;
    for (int i = 0; i < n; i++)
        if (v[i] < CP_END && (!k || v[i] != v[k - 1])) v[k++] = v[i];
    return k;
}

/* ---- from a regular expression ---- */

enum { TO_EPS = -1, TO_BEGIN = -2, TO_END = -3 };
typedef struct { int32_t to, set, next; } nedge;
typedef struct {
    gctx *g;
    int32_t *head;
    int n, cap;
    nedge *e;
    int n_e, cap_e;
    const cp_set **set;             /* of the SET expressions, one each */
    int n_set, cap_set;
    const gx **of;                  /* (n_set,) */
    int cap_of;
} nfa;

static int32_t node(nfa *f)
{
    if (!gz_work(f->g, 4) || !gz_room(f->g, &f->head, f->n, &f->cap, sizeof *f->head)) return -1;
    f->head[f->n] = -1;
    return f->n++;
}

static void edge(nfa *f, int32_t a, int32_t b, int32_t set)
{
    if (a < 0 || b < 0 || !gz_room(f->g, &f->e, f->n_e, &f->cap_e, sizeof *f->e)) return;
    f->e[f->n_e] = (nedge){ b, set, f->head[a] };
    f->head[a] = f->n_e++;
}

static int32_t set_number(nfa *f, const gx *x)
{
    for (int i = f->n_set - 1; i >= 0 && i > f->n_set - 40; i--) {
        if (f->of[i] == x) return i;
        if (f->set[i]->n == x->set.n &&
            !memcmp(f->set[i]->r, x->set.r, (size_t)x->set.n * sizeof *x->set.r)) return i;
    }
    if (!gz_room(f->g, &f->set, f->n_set, &f->cap_set, sizeof *f->set) ||
        !gz_room(f->g, &f->of, f->n_set, &f->cap_of, sizeof *f->of)) return 0;
    f->set[f->n_set] = &x->set, f->of[f->n_set] = x;
    return f->n_set++;
}

static int32_t build(nfa *f, const gx *x, int32_t in)
{
    if (in < 0 || !x || !gz_work(f->g, 1)) return -1;
    int32_t out = in, mid;
    switch (x->kind) {
    case GX_EMPTY: return in;
    case GX_SET:
        out = node(f);
        edge(f, in, out, set_number(f, x));
        return out;
    case GX_BEGIN:
    case GX_END:
        out = node(f);
        edge(f, in, out, x->kind == GX_BEGIN ? TO_BEGIN : TO_END);
        return out;
    case GX_SEQ:
        for (int i = 0; i < x->n && out >= 0; i++) out = build(f, x->kid[i], out);
        return out;
    case GX_ALT:
        out = node(f);
        for (int i = 0; i < x->n && !f->g->rc; i++) {
            mid = node(f);
            edge(f, in, mid, TO_EPS);
            edge(f, build(f, x->kid[i], mid), out, TO_EPS);
        }
        return out;
    case GX_REP:
        for (uint32_t i = 0; i < x->min && out >= 0; i++) out = build(f, x->kid[0], out);
        if (x->max == GRAM_INF) {
            mid = node(f);
            edge(f, out, mid, TO_EPS);
            edge(f, build(f, x->kid[0], mid), mid, TO_EPS);
            return mid;
        }
        mid = node(f);
        for (uint32_t i = x->min; i < x->max && out >= 0; i++) {
            edge(f, out, mid, TO_EPS);
            out = build(f, x->kid[0], out);
        }
        edge(f, out, mid, TO_EPS);
        return mid;
    default: return node(f);                     /* NEVER: nothing leads there */
    }
}

typedef struct {
    nfa f;
    int32_t end;
    int32_t *mark, stamp;
    int32_t *set, n_set;            /* the set being closed */
    int32_t *pool;                  /* sets of all states, one after the other */
    int n_pool, cap_pool;
    int32_t *at;                    /* (n+1,) where a state's set begins */
    int cap_at;
} subset;

/* Close s->set over empty edges, and anchors that hold here. */
static bool close_set(subset *s, bool begin, bool end)
{
    s->stamp++;
    int n = 0;
    for (int i = 0; i < s->n_set; i++)
        if (s->mark[s->set[i]] != s->stamp) s->mark[s->set[i]] = s->stamp, s->set[n++] = s->set[i];
    s->n_set = n;
    for (int i = 0; i < s->n_set; i++)
        for (int32_t k = s->f.head[s->set[i]]; k >= 0; k = s->f.e[k].next) {
            const nedge *x = &s->f.e[k];
            if (!gz_work(s->f.g, 1)) return false;
            if (x->set >= 0 || (x->set == TO_BEGIN && !begin) || (x->set == TO_END && !end))
                continue;
            if (s->mark[x->to] == s->stamp) continue;
            s->mark[x->to] = s->stamp;
            s->set[s->n_set++] = x->to;
        }
    return true;
}

static int by_i32(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* The state of the closed s->set. Keys are hashes; equal hashes are compared in full. */
static int32_t subset_state(subset *s, maker *m)
{
    int n = 0;
    for (int i = 0; i < s->n_set; i++) {         /* nodes with character or anchor edges; the end */
        bool keep = s->set[i] == s->end;
        for (int32_t k = s->f.head[s->set[i]]; k >= 0; k = s->f.e[k].next)
            keep |= s->f.e[k].set != TO_EPS;
        if (keep) s->set[n++] = s->set[i];
    }
    s->n_set = n;
    qsort(s->set, (size_t)n, sizeof *s->set, by_i32);
    uint64_t h = (uint64_t)n;
    for (int i = 0; i < n; i++) h = mix(h ^ (uint64_t)s->set[i]) + 1;
    for (;; h++) {
        int had = m->a->n;
        int32_t q = state_of(m, h);
        if (q < 0) return -1;
        if (q == had) {
            if (!gz_room(m->g, &s->at, q + 1, &s->cap_at, sizeof *s->at)) return -1;
            for (int i = 0; i < n; i++) {
                if (!gz_room(m->g, &s->pool, s->n_pool, &s->cap_pool, sizeof *s->pool)) return -1;
                s->pool[s->n_pool++] = s->set[i];
            }
            s->at[q + 1] = s->n_pool;
            return q;
        }
        int32_t k = s->at[q + 1] - s->at[q];
        if (k == n && (!n || !memcmp(s->pool + s->at[q], s->set, (size_t)n * sizeof *s->set)))
            return q;
    }
}

/* Classes of characters that every set of the NFA treats alike; in[set * n_cls + class]. */
static maker classes(nfa *f, bool **in)
{
    gctx *g = f->g;
    int n = 0;
    for (int i = 0; i < f->n_set; i++) n += 2 * f->set[i]->n;
    uint32_t *cut = gz_take(g, ((size_t)n + 1) * sizeof *cut);
    if (!cut) return (maker){ .g = g };
    n = 0;
    for (int i = 0; i < f->n_set; i++)
        for (int k = 0; k < f->set[i]->n; k++)
            cut[n++] = f->set[i]->r[k].lo, cut[n++] = f->set[i]->r[k].hi + 1;
    n = sort_cuts(cut, n);
    maker m = maker_new(g, n, 0);
    uint64_t *sign = gz_take(g, (size_t)n * sizeof *sign);
    int *like = gz_take(g, (size_t)n * sizeof *like);
    if (g->rc || !gz_work(g, (int64_t)n * (f->n_set + 8))) return m;
    memcpy(m.a->cut, cut, (size_t)n * sizeof *cut);
    for (int s = 0; s < f->n_set; s++)           /* a set's ranges and the cuts both ascend */
        for (int i = 0, k = 0; i < n; i++) {
            while (k < f->set[s]->n && f->set[s]->r[k].hi < cut[i]) k++;
            if (k < f->set[s]->n && f->set[s]->r[k].lo <= cut[i])
                sign[i] += mix((uint64_t)s + 1) | 1;
        }
    int n_cls = 0;                               /* 64-bit sums of random words: no two collide */
    int32_t *slot = NULL, size = 64;
    while (size < 2 * n) size *= 2;
    slot = gz_take(g, (size_t)size * sizeof *slot);
    if (!slot) return m;
    memset(slot, 0xff, (size_t)size * sizeof *slot);
    for (int i = 0; i < n; i++) {
        uint64_t at = mix(sign[i]);
        int32_t k;
        for (; (k = slot[at & (uint64_t)(size - 1)]) >= 0; at++)
            if (sign[k] == sign[i]) break;
        if (k < 0) slot[at & (uint64_t)(size - 1)] = i, like[n_cls] = i, m.a->cls[i] = (uint16_t)n_cls++;
        else m.a->cls[i] = m.a->cls[k];
        if (n_cls == UINT16_MAX) {
            gz_fail(g, DR_EUNSUPPORTED, "%s has a pattern with too many kinds of characters",
                    g->what);
            return m;
        }
    }
    m.a->n_cls = n_cls;
    *in = gz_take(g, (size_t)f->n_set * (size_t)n_cls + 1);
    if (!*in || !gz_work(g, (int64_t)f->n_set * n_cls)) return m;
    for (int s = 0; s < f->n_set; s++)
        for (int c = 0; c < n_cls; c++)
            (*in)[s * n_cls + c] = cp_has(f->set[s], cut[like[c]]);
    return m;
}

cauto *ca_regex(gctx *g, const gx *x)
{
    subset s = { .f = { .g = g } };
    int32_t start = node(&s.f), end = build(&s.f, x, start);
    bool *in = NULL;
    if (g->rc || end < 0) return NULL;
    s.end = end;
    maker m = classes(&s.f, &in);
    s.mark = gz_take(g, (size_t)s.f.n * sizeof *s.mark);
    s.set = gz_take(g, (size_t)s.f.n * 2 * sizeof *s.set);
    if (g->rc || !gz_room(g, &s.at, 0, &s.cap_at, sizeof *s.at)) return NULL;
    s.at[0] = 0, s.set[0] = start, s.n_set = 1;
    if (!close_set(&s, true, false) || subset_state(&s, &m) < 0) return NULL;
    for (int32_t q = 0; q < m.a->n; q++) {
        int32_t from = s.at[q], to = s.at[q + 1];
        for (int c = 0; c < m.a->n_cls; c++) {
            s.n_set = 0;
            s.stamp++;
            for (int32_t i = from; i < to; i++)
                for (int32_t k = s.f.head[s.pool[i]]; k >= 0; k = s.f.e[k].next) {
                    int32_t t = s.f.e[k].to, by = s.f.e[k].set;
                    if (!gz_work(g, 1)) return NULL;
                    if (by < 0 || !in[by * m.a->n_cls + c] || s.mark[t] == s.stamp) continue;
                    s.mark[t] = s.stamp;
                    s.set[s.n_set++] = t;
                }
            if (!s.n_set) continue;
            if (!close_set(&s, false, false)) return NULL;
            int32_t t = subset_state(&s, &m);
            if (t < 0) return NULL;
            m.a->next[q * m.a->n_cls + c] = t;
        }
        s.n_set = 0;
        for (int32_t i = from; i < to; i++) s.set[s.n_set++] = s.pool[i];
        if (!close_set(&s, q == 0, true)) return NULL;
        for (int i = 0; i < s.n_set; i++) m.a->final[q] |= s.set[i] == end;
    }
    return trimmed(&m);
}

cauto *ca_any(gctx *g)
{
    gx *x = gx_new(g, GX_SET);
    if (!x) return NULL;
    cp_add(g, &x->set, 0, CP_END - 1);
    cp_done(&x->set);
    return ca_regex(g, gx_rep(g, x, 0, GRAM_INF));
}

cauto *ca_words(gctx *g, const span *word, int n)
{
    size_t total = 1;
    for (int i = 0; i < n; i++) total += word[i].n;
    uint32_t *cut = gz_take(g, 2 * total * sizeof *cut);
    if (!cut || !gz_work(g, (int64_t)total)) return NULL;
    int k = 0;
    for (int i = 0; i < n; i++) {
        const uint8_t *p = (const uint8_t *)word[i].p, *end = p + word[i].n;
        for (int len; p < end; p += len) {
            uint32_t c = utf8_get(p, end, &len);
            cut[k++] = c, cut[k++] = c + 1;
        }
    }
    k = sort_cuts(cut, k);
    maker m = maker_new(g, k, k);
    if (g->rc) return NULL;
    memcpy(m.a->cut, cut, (size_t)k * sizeof *cut);
    for (int i = 0; i < k; i++) m.a->cls[i] = (uint16_t)i;
    if (k > UINT16_MAX || add_state(&m, 0) < 0) return NULL;
    for (int i = 0; i < n; i++) {
        const uint8_t *p = (const uint8_t *)word[i].p, *end = p + word[i].n;
        int32_t at = 0;
        for (int len; p < end; p += len) {
            size_t e = (size_t)at * (size_t)k + (size_t)ca_class(m.a, utf8_get(p, end, &len));
            at = m.a->next[e];
            if (at >= 0) continue;
            at = add_state(&m, (uint64_t)m.a->n);
            if (at < 0) return NULL;
            m.a->next[e] = at;
        }
        m.a->final[at] = true;
    }
    return trimmed(&m);
}

/* ---- from two ---- */

typedef enum { BOTH, MINUS, EITHER } combine;

static cauto *product(gctx *g, const cauto *a, const cauto *b, combine how)
{
    if (!a || !b || g->rc) return NULL;
    if (how == EITHER && !a->n) return (cauto *)b;
    if (how != BOTH && !b->n) return (cauto *)a;
    if (!a->n || !b->n) {
        cauto *none = gz_take(g, sizeof *none);
        return none;
    }
    uint32_t *cut = gz_take(g, ((size_t)a->n_iv + (size_t)b->n_iv + 1) * sizeof *cut);
    if (!cut) return NULL;
    memcpy(cut, a->cut, (size_t)a->n_iv * sizeof *cut);
    memcpy(cut + a->n_iv, b->cut, (size_t)b->n_iv * sizeof *cut);
    int n_iv = sort_cuts(cut, a->n_iv + b->n_iv);
    /* classes: pairs that occur */
    size_t pairs = (size_t)a->n_cls * (size_t)b->n_cls;
    int32_t *of = gz_take(g, pairs * sizeof *of), *ca = gz_take(g, (size_t)n_iv * sizeof *ca),
            *cb = gz_take(g, (size_t)n_iv * sizeof *cb);
    maker m = maker_new(g, n_iv, 0);
    if (g->rc || !gz_work(g, (int64_t)pairs + n_iv)) return NULL;
    memset(of, 0xff, pairs * sizeof *of);
    memcpy(m.a->cut, cut, (size_t)n_iv * sizeof *cut);
    for (int i = 0; i < n_iv; i++) {
        int x = ca_class(a, cut[i]), y = ca_class(b, cut[i]);
        int32_t *p = &of[x * b->n_cls + y];
        if (*p < 0) *p = m.a->n_cls, ca[m.a->n_cls] = x, cb[m.a->n_cls] = y, m.a->n_cls++;
        m.a->cls[i] = (uint16_t)*p;
    }
    state_of(&m, 0);
    for (int32_t q = 0; q < m.a->n && !g->rc; q++) {
        int32_t i = (int32_t)(m.key[q] >> 32), j = (int32_t)(uint32_t)m.key[q];
        bool fi = i >= 0 && a->final[i], fj = j >= 0 && b->final[j];
        m.a->final[q] = how == BOTH ? fi && fj : how == MINUS ? fi && !fj : fi || fj;
        for (int c = 0; c < m.a->n_cls; c++) {
            int32_t x = i < 0 ? -1 : a->next[i * a->n_cls + ca[c]];
            int32_t y = j < 0 ? -1 : b->next[j * b->n_cls + cb[c]];
            if ((how == BOTH && (x < 0 || y < 0)) || (how == MINUS && x < 0) || (x < 0 && y < 0))
                continue;
            int32_t t = state_of(&m, (uint64_t)(uint32_t)x << 32 | (uint32_t)y);
            if (t < 0) return NULL;
            m.a->next[q * m.a->n_cls + c] = t;
        }
    }
    return trimmed(&m);
}

cauto *ca_and(gctx *g, const cauto *a, const cauto *b) { return product(g, a, b, BOTH); }
cauto *ca_minus(gctx *g, const cauto *a, const cauto *b) { return product(g, a, b, MINUS); }
cauto *ca_or(gctx *g, const cauto *a, const cauto *b) { return product(g, a, b, EITHER); }

cauto *ca_length(gctx *g, const cauto *a, uint32_t min, uint32_t max)
{
    if (ca_empty(a) || g->rc) return (cauto *)a;
    maker m = maker_new(g, a->n_iv, a->n_cls);
    if (g->rc) return NULL;
    memcpy(m.a->cut, a->cut, (size_t)a->n_iv * sizeof *a->cut);
    memcpy(m.a->cls, a->cls, (size_t)a->n_iv * sizeof *a->cls);
    state_of(&m, 0);
    for (int32_t q = 0; q < m.a->n && !g->rc; q++) {
        uint32_t i = (uint32_t)(m.key[q] >> 32), n = (uint32_t)m.key[q];
        m.a->final[q] = a->final[i] && n >= min && n <= max;
        if (n >= max && max != GRAM_INF) continue;
        uint32_t then = max == GRAM_INF && n >= min ? n : n + 1;
        for (int c = 0; c < a->n_cls; c++) {
            int32_t x = a->next[(size_t)i * (size_t)a->n_cls + (size_t)c];
            if (x < 0) continue;
            int32_t t = state_of(&m, (uint64_t)(uint32_t)x << 32 | then);
            if (t < 0) return NULL;
            m.a->next[q * m.a->n_cls + c] = t;
        }
    }
    return trimmed(&m);
}
