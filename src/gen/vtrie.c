/* vtrie.c - see vtrie.h. */
#include "gen/vtrie.h"
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "text/utf8.h"

const uint8_t vtrie_step[VTRIE_STEPS] = {
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27,
    28, 29, 30, 31, 32, 48, 64, 128, 254
};

typedef struct { const uint8_t *p; uint64_t head; uint32_t n; int32_t id; uint8_t plain; } word;

static int by_bytes(const void *a, const void *b)
{
    const word *x = a, *y = b;
    if (x->head != y->head) return x->head < y->head ? -1 : 1;
    int c = memcmp(x->p, y->p, x->n < y->n ? x->n : y->n);
    if (c) return c;
    if (x->n != y->n) return x->n < y->n ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

/* Characters of a plain token; DIRTY for another. */
static uint8_t plain_chars(const uint8_t *p, uint32_t n)
{
    const uint8_t *end = p + n;
    int chars = 0, k;
    for (; p < end; p += k, chars++) {
        uint32_t c = utf8_get(p, end, &k);
        if (c == UTF8_BAD || c < 0x20 || c == 0x7f || c == '"' || c == '\\') return VTRIE_DIRTY;
    }
    return chars < VTRIE_DIRTY ? (uint8_t)chars : VTRIE_DIRTY;
}

static int64_t collect(const tokenizer *t, word *w)
{
    int64_t n = 0;
    for (int32_t id = 0; id < tok_count(t); id++) {
        if (tok_is_control(t, id) || tok_is_eog(t, id)) continue;
        span s = tok_text(t, id);
        if (!s.n || s.n > VTRIE_DEPTH) continue;
        word *x = &w[n++];
        *x = (word){ .p = (const uint8_t *)s.p, .n = (uint32_t)s.n, .id = id };
        for (uint32_t i = 0; i < 8; i++) x->head = x->head << 8 | (i < x->n ? x->p[i] : 0);
        x->plain = plain_chars(x->p, x->n);
    }
    qsort(w, (size_t)n, sizeof *w, by_bytes);
    return n;
}

static uint32_t common(const word *a, const word *b)
{
    uint32_t n = a->n < b->n ? a->n : b->n, i = 0;
    while (i < n && a->p[i] == b->p[i]) i++;
    return i;
}

/* The tree of sorted words, or with v->node NULL only its size. */
static void build(vtrie *v, const word *w, int64_t n)
{
    uint32_t open[VTRIE_DEPTH + 1], depth = 0, count = 1;
    open[0] = 0;
    for (int64_t i = 0; i <= n; i++) {
        uint32_t keep = i && i < n ? common(&w[i - 1], &w[i]) : 0;
        while (depth > keep) {                       /* close nodes below the common part */
            if (v->node) {
                vnode *x = &v->node[open[depth]], *up = &v->node[open[depth - 1]];
                x->next = count;
                if (x->plain > up->plain) up->plain = x->plain;
            }
            depth--;
        }
        if (i == n) break;
        while (depth < w[i].n) {
            open[++depth] = count;
            if (v->node)
                v->node[count] = (vnode){ .byte = w[i].p[depth - 1], .depth = (uint8_t)depth };
            count++;
        }
        if (!v->node) continue;
        vnode *x = &v->node[open[depth]];
        if (!x->n_tok) v->tok[open[depth]] = (uint32_t)i;
        if (x->n_tok < UINT8_MAX) x->n_tok++;
        if (w[i].plain > x->plain) x->plain = w[i].plain;
        v->ids[i] = w[i].id;
    }
    if (v->node) v->node[0].next = count;
    v->n_nodes = count;
}

static bool tables(vtrie *v, const word *w, int64_t n)
{
    bool has[VTRIE_DIRTY] = { false };
    size_t bytes = (size_t)v->words * sizeof(uint64_t);
    for (int k = 0; k < VTRIE_STEPS; k++) {
        v->plain[k] = mem_zalloc(1, bytes);
        if (!v->plain[k]) return false;
    }
    for (int64_t i = 0; i < n; i++) {
        if (w[i].n == 1) v->has_byte[w[i].p[0]] = true;
        if (w[i].plain == VTRIE_DIRTY) continue;
        has[w[i].plain] = true;
        if (w[i].plain > v->longest) v->longest = w[i].plain;
        for (int k = 0; k < VTRIE_STEPS; k++)
            if (w[i].plain <= vtrie_step[k])
                v->plain[k][w[i].id >> 6] |= (uint64_t)1 << (w[i].id & 63);
    }
    for (uint32_t m = 1; m <= VTRIE_FILL; m++) {
        v->fill[m] = UINT32_MAX;
        for (uint32_t k = 1; k <= v->longest && k <= m; k++)
            if (has[k] && v->fill[m - k] < v->fill[m]) v->fill[m] = v->fill[m - k] + 1;
    }
    uint32_t least = UINT32_MAX, most = 0;
    for (uint32_t m = VTRIE_FILL; m <= VTRIE_FILL; m--) {
        /* behind the table it goes on with the window of its last `longest` entries */
        if (m + v->longest > VTRIE_FILL && v->fill[m] > most) most = v->fill[m];
        if (v->fill[m] < least) least = v->fill[m];
        uint32_t top = m + v->longest > VTRIE_FILL ? most : v->fill[m];
        if (top - least > v->fill_rise) v->fill_rise = top - least;
    }
    return true;
}

vtrie *vtrie_new(const tokenizer *t, dr_err *e)
{
    vtrie *v = mem_zalloc(1, sizeof *v);
    word *w = mem_alloc(((size_t)tok_count(t) + 1) * sizeof *w);
    if (!v || !w) goto nomem;
    v->t = t;
    v->n_vocab = tok_count(t);
    v->words = (v->n_vocab + 63) / 64;
    int64_t n = collect(t, w);
    build(v, w, n);
    v->node = mem_zalloc(v->n_nodes, sizeof *v->node);
    v->tok = mem_zalloc(v->n_nodes, sizeof *v->tok);
    v->ids = mem_alloc(((size_t)n + 1) * sizeof *v->ids);
    if (!v->node || !v->tok || !v->ids) goto nomem;
    build(v, w, n);
    if (!tables(v, w, n)) goto nomem;
    mem_free(w);
    return v;
nomem:
    mem_free(w);
    vtrie_free(v);
    err_nomem(e, (size_t)tok_count(t) * 64, "the tree of tokens");
    return NULL;
}

void vtrie_free(vtrie *v)
{
    if (!v) return;
    for (int k = 0; k < VTRIE_STEPS; k++) mem_free(v->plain[k]);
    mem_free(v->node);
    mem_free(v->tok);
    mem_free(v->ids);
    mem_free(v);
}

uint32_t vtrie_child(const vtrie *v, uint32_t i, uint8_t b)
{
    for (uint32_t k = i + 1; k < v->node[i].next; k = v->node[k].next)
        if (v->node[k].byte == b) return k;
    return 0;
}

uint32_t vtrie_fill(const vtrie *v, uint64_t n)
{
    uint64_t whole = 0;
    if (n > VTRIE_FILL) {
        if (!v->longest) return UINT32_MAX;
        whole = (n - VTRIE_FILL + v->longest - 1) / v->longest;
        n -= whole * v->longest;
    }
    if (v->fill[n] == UINT32_MAX || whole > UINT32_MAX / 2) return UINT32_MAX / 2;
    return (uint32_t)whole + v->fill[n];
}
