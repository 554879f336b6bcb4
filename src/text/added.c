/* added.c - find added tokens in text. A sorted array, narrowed byte by byte: no automaton to
 * build, and text without any candidate costs one look at a table per byte. See tok_priv.h. */
#include <stdlib.h>
#include "base/mem.h"
#include "text/tok_priv.h"

int added_put(added_set *s, span text, int32_t id, int flags, dr_err *e)
{
    if (!text.n || text.n > 1 << 16)
        return err_set(e, DR_EFORMAT, "added token %d has %zu bytes", id, text.n);
    if (s->n == s->cap) {
        int32_t cap = s->cap ? s->cap + s->cap / 2 : 64;
        added_tok *v = mem_realloc(s->v, (size_t)cap * sizeof *v);
        if (!v) return err_nomem(e, (size_t)cap * sizeof *v, "added tokens");
        s->v = v, s->cap = cap;
    }
    s->v[s->n++] = (added_tok){ text.p, (uint32_t)text.n, id, (uint8_t)flags };
    return 0;
}

static int compare(const void *a, const void *b)
{
    const added_tok *x = a, *y = b;
    int c = memcmp(x->p, y->p, x->n < y->n ? x->n : y->n);
    return c ? c : x->n < y->n ? -1 : x->n > y->n ? 1 : x->id < y->id ? -1 : x->id > y->id;
}

void added_sort(added_set *s)
{
    if (s->n) qsort(s->v, (size_t)s->n, sizeof *s->v, compare);
    int32_t i = 0;
    for (int b = 0; b < 256; b++) {
        s->first[b] = i;
        while (i < s->n && (uint8_t)s->v[i].p[0] == b) i++;
    }
    s->first[256] = s->n;
}

/* First index in [lo,hi) whose byte at `at` is >= b; shorter ones sort first. */
static int32_t lower(const added_set *s, int32_t lo, int32_t hi, uint32_t at, int b)
{
    while (lo < hi) {
        int32_t mid = lo + (hi - lo) / 2;
        int c = s->v[mid].n > at ? (uint8_t)s->v[mid].p[at] : -1;
        if (c < b) lo = mid + 1;
        else hi = mid;
    }
    return lo;
}

static const added_tok *longest_at(const added_set *s, const uint8_t *p, size_t n)
{
    int32_t lo = s->first[p[0]], hi = s->first[p[0] + 1];
    const added_tok *best = NULL;
    for (uint32_t k = 1; lo < hi; k++) {
        if (s->v[lo].n == k) {
            best = &s->v[lo];
            while (lo < hi && s->v[lo].n == k) lo++;      /* the same text twice: the first id */
        }
        if (k >= n) break;
        lo = lower(s, lo, hi, k, p[k]);
        hi = lower(s, lo, hi, k, p[k] + 1);
    }
    return best;
}

const added_tok *added_next(const added_set *s, span text, size_t from, size_t *at)
{
    const uint8_t *p = (const uint8_t *)text.p;
    if (!s->n) return NULL;
    for (size_t i = from; i < text.n; i++) {
        if (s->first[p[i]] == s->first[p[i] + 1]) continue;
        const added_tok *a = longest_at(s, p + i, text.n - i);
        if (a) { *at = i; return a; }
    }
    return NULL;
}

int32_t added_find(const added_set *s, span text)
{
    if (!text.n || !s->n) return -1;
    const added_tok *a = longest_at(s, (const uint8_t *)text.p, text.n);
    return a && a->n == text.n ? a->id : -1;
}

void added_free(added_set *s)
{
    mem_free(s->v);
    *s = (added_set){0};
}
