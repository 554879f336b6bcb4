/* prefix.c - see prefix.h.
 *
 * A node's number is its page's, so the tree has room for every page and nothing is allocated. The
 * children of a node are a treap (Seidel and Aragon, 1996), whose priorities are a hash of the number.
 * All nodes are in one list by last use. Whenever one is used, those above it are too, and are put in
 * front of it: a node is always older than its parent. So the oldest is a leaf, and walking from the
 * oldest on, whatever only the tree holds has lost its children before it is met. */
#include "engine/prefix.h"
#include <string.h>
#include "base/mem.h"

enum { NONE = -1 };

typedef struct {
    int32_t tok[KV_PAGE];
    int32_t n;                          /* tokens; below KV_PAGE: a leaf */
    int32_t root, parent;               /* parent NONE: a child of the root */
    int32_t kids, left, right;          /* its children's treap; its place in that of its parent */
    int32_t newer, older;
    uint32_t prio;
} node;

struct prefix {
    kv_cache *c;
    node *a;                            /* (c->n_pages,) */
    int32_t *root;                      /* (n_roots,) their children */
    int n_roots, n_held;
    int32_t newest, oldest;
};

static uint32_t priority(uint32_t x)
{
    x = (x ^ x >> 16) * 0x7feb352du;
    x = (x ^ x >> 15) * 0x846ca68bu;
    return x ^ x >> 16;
}

prefix *prefix_new(kv_cache *c, int n_roots, dr_err *e)
{
    prefix *p = mem_zalloc(1, sizeof *p);
    if (p) {
        *p = (prefix){ .c = c, .n_roots = n_roots, .newest = NONE, .oldest = NONE };
        p->a = mem_zalloc((size_t)c->n_pages, sizeof *p->a);
        p->root = mem_alloc((size_t)n_roots * sizeof *p->root);
    }
    if (!p || !p->a || !p->root) {
        prefix_free(p);
        err_nomem(e, (size_t)c->n_pages * sizeof *p->a, "the prefix cache");
        return NULL;
    }
    for (int i = 0; i < n_roots; i++) p->root[i] = NONE;
    return p;
}

void prefix_free(prefix *p)
{
    if (!p) return;
    if (p->a && p->root)
        for (int32_t i = p->oldest; i != NONE; i = p->a[i].newer) kv_unkeep(p->c, i);
    mem_free(p->a);
    mem_free(p->root);
    mem_free(p);
}

int prefix_idle(const prefix *p) { return p->c->n_idle; }
int prefix_held(const prefix *p) { return p->n_held; }

/* ---- order of use ---- */

static void unlist(prefix *p, int32_t i)
{
    node *x = &p->a[i];
    if (x->newer != NONE) p->a[x->newer].older = x->older;
    else p->newest = x->older;
    if (x->older != NONE) p->a[x->older].newer = x->newer;
    else p->oldest = x->newer;
}

static void enlist(prefix *p, int32_t i)
{
    node *x = &p->a[i];
    x->newer = NONE;
    x->older = p->newest;
    if (p->newest != NONE) p->a[p->newest].newer = i;
    else p->oldest = i;
    p->newest = i;
}

static void touch(prefix *p, int32_t i)
{
    for (; i != NONE; i = p->a[i].parent) {
        unlist(p, i);
        enlist(p, i);
    }
}

/* ---- children ---- */

static int32_t *kids_of(prefix *p, int root, int32_t parent)
{
    return parent == NONE ? &p->root[root] : &p->a[parent].kids;
}

/* Tokens that both begin with; *before: tok comes first in order. */
static int common(const node *x, const int32_t *tok, int n, bool *before)
{
    int m = x->n < n ? x->n : n, k = 0;
    while (k < m && x->tok[k] == tok[k]) k++;
    *before = k < m && tok[k] < x->tok[k];
    return k;
}

/* The child with the longest common beginning, *m of it; NONE: not even one token. A neighbour in order
 * is one, and both neighbours are on the way down. */
static int32_t best(const prefix *p, int32_t kids, const int32_t *tok, int n, int *m)
{
    int32_t found = NONE;
    *m = 0;
    for (int32_t i = kids; i != NONE; ) {
        bool before;
        int k = common(&p->a[i], tok, n, &before);
        if (k > *m) {
            *m = k;
            found = i;
            if (k == n) break;
        }
        i = before ? p->a[i].left : p->a[i].right;
    }
    return found;
}

static void insert(prefix *p, int32_t *at, int32_t i)
{
    node *x = &p->a[i];
    bool before;
    while (*at != NONE && p->a[*at].prio >= x->prio) {
        common(&p->a[*at], x->tok, x->n, &before);
        at = before ? &p->a[*at].left : &p->a[*at].right;
    }
    int32_t rest = *at, *lo = &x->left, *hi = &x->right;
    *at = i;
    while (rest != NONE) {                          // what is below it now, split by its tokens
        common(&p->a[rest], x->tok, x->n, &before);
        if (before) {
            *hi = rest;
            hi = &p->a[rest].left;
            rest = *hi;
        } else {
            *lo = rest;
            lo = &p->a[rest].right;
            rest = *lo;
        }
    }
    *lo = *hi = NONE;
}

static void take_out(prefix *p, int32_t *at, int32_t i)
{
    node *x = &p->a[i];
    while (*at != i) {
        DR_ASSERT(*at != NONE);
        bool before;
        common(&p->a[*at], x->tok, x->n, &before);
        at = before ? &p->a[*at].left : &p->a[*at].right;
    }
    int32_t l = x->left, r = x->right;
    while (l != NONE && r != NONE) {                // merge both sides
        if (p->a[l].prio >= p->a[r].prio) {
            *at = l;
            at = &p->a[l].right;
            l = *at;
        } else {
            *at = r;
            at = &p->a[r].left;
            r = *at;
        }
    }
    *at = l != NONE ? l : r;
}

static void add(prefix *p, int root, int32_t parent, int32_t page, const int32_t *tok, int n)
{
    node *x = &p->a[page];
    kv_keep(p->c, page);
    memcpy(x->tok, tok, (size_t)n * sizeof *tok);
    x->n = n;
    x->root = root;
    x->parent = parent;
    x->kids = NONE;
    x->prio = priority((uint32_t)page);
    insert(p, kids_of(p, root, parent), page);
    enlist(p, page);
    p->n_held++;
}

static void discard(prefix *p, int32_t i)
{
    DR_ASSERT(p->a[i].kids == NONE);
    take_out(p, kids_of(p, p->a[i].root, p->a[i].parent), i);
    unlist(p, i);
    p->n_held--;
    kv_unkeep(p->c, i);
}

/* ---- what callers ask ---- */

/* Walk down along tok (n,): the page of each step goes to step(arg, i, page), i from 0. Returns the
 * positions, *last the last node or NONE. */
static int walk(const prefix *p, int root, const int32_t *tok, int n, int32_t *last,
                void (*step)(void *arg, int i, int32_t page), void *arg)
{
    DR_ASSERT(root >= 0 && root < p->n_roots);
    int32_t kids = p->root[root];
    int pos = 0;
    *last = NONE;
    while (pos < n) {
        int m, want = n - pos < KV_PAGE ? n - pos : KV_PAGE;
        int32_t i = best(p, kids, tok + pos, want, &m);
        if (i == NONE) break;
        if (step) step(arg, pos / KV_PAGE, i);
        *last = i;
        pos += m;
        if (m < KV_PAGE) break;
        kids = p->a[i].kids;
    }
    return pos;
}

typedef struct { kv_cache *c; kv_seq *s; int idle; } walking;

static void count_idle(void *arg, int i, int32_t page)
{
    walking *w = arg;
    (void)i;
    w->idle += w->c->count[page] == 1;
}

static void share(void *arg, int i, int32_t page)
{
    walking *w = arg;
    if (w->s->page[i] != page) kv_replace(w->c, w->s, i, page);
}

int prefix_match(const prefix *p, int root, const int32_t *tok, int n, int *n_idle)
{
    walking w = { p->c, NULL, 0 };
    int32_t last;
    int len = walk(p, root, tok, n, &last, count_idle, &w);
    if (n_idle) *n_idle = w.idle;
    return len;
}

int prefix_take(prefix *p, int root, const int32_t *tok, int n, kv_seq *s)
{
    if (n > s->max_len) n = s->max_len;
    int32_t last;
    int len = walk(p, root, tok, n, &last, NULL, NULL);
    if (len > s->len) {
        walking w = { p->c, s, 0 };
        kv_truncate(p->c, s, s->len);
        walk(p, root, tok, len, &last, share, &w);
        s->len = len;
    }
    touch(p, last);
    return s->len;
}

int prefix_put(prefix *p, int root, const int32_t *tok, int n, kv_seq *s)
{
    DR_ASSERT(root >= 0 && root < p->n_roots && n <= s->len);
    int added = 0;
    int32_t parent = NONE;
    for (int pos = 0; pos < n; pos += KV_PAGE) {
        int m, have = n - pos < KV_PAGE ? n - pos : KV_PAGE;
        int32_t i = best(p, *kids_of(p, root, parent), tok + pos, have, &m);
        int32_t page = s->page[pos / KV_PAGE];
        if (i != NONE && m == have) {               // it is there, or longer
            parent = i;
            if (m == KV_PAGE && page != i) kv_replace(p->c, s, pos / KV_PAGE, i);
            continue;
        }
        if (i != NONE && m == p->a[i].n) {          // a beginning of it is there
            discard(p, i);
            added--;
        }
        add(p, root, parent, page, tok + pos, have);
        added++;
        parent = page;
    }
    touch(p, parent);
    return added;
}

int prefix_evict(prefix *p, int n)
{
    int done = 0;
    while (done < n && p->c->n_idle > 0) {
        int32_t i = p->oldest;
        if (p->c->count[i] > 1) {
            touch(p, i);
        } else {
            discard(p, i);
            done++;
        }
    }
    return done;
}

void prefix_forget(prefix *p, int root)
{
    for (int32_t i = p->oldest, next; i != NONE; i = next) {
        next = p->a[i].newer;
        if (p->a[i].root == root) discard(p, i);
    }
}
