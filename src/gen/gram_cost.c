/* gram_cost.c - how far each node is from its rule's end: first in bytes, exactly (Knuth's
 * generalisation of Dijkstra's algorithm to grammars, Information Processing Letters 6, 1977), then
 * in tokens, along that shortest text. */
#include <string.h>
#include "gen/gram_priv.h"

#define NEVER UINT64_MAX
#define MOST ((uint64_t)1 << 60)

typedef struct { uint64_t cost; int32_t node; } item;
typedef struct { item *v; int n, cap; gctx *g; } heap;
typedef struct { int32_t node, edge; } user;         /* edge as bnode.best counts them */

static bool push(heap *h, uint64_t cost, int32_t node)
{
    if (!gz_work(h->g, 4) || !gz_room(h->g, &h->v, h->n, &h->cap, sizeof *h->v)) return false;
    int i = h->n++;
    for (; i && h->v[(i - 1) / 2].cost > cost; i = (i - 1) / 2) h->v[i] = h->v[(i - 1) / 2];
    h->v[i] = (item){ cost, node };
    return true;
}

static item pop(heap *h)
{
    item top = h->v[0], last = h->v[--h->n];
    int i = 0;
    for (int k; (k = 2 * i + 1) < h->n; i = k) {
        if (k + 1 < h->n && h->v[k + 1].cost < h->v[k].cost) k++;
        if (h->v[k].cost >= last.cost) break;
        h->v[i] = h->v[k];
    }
    h->v[i] = last;
    return top;
}

/* A byte of the range that is a token by itself; -1: none. */
static int spelled(const vtrie *v, const brange *r)
{
    for (int b = r->lo; b <= r->hi; b++)
        if (v->has_byte[b]) return b;
    return -1;
}

static uint64_t call_cost(const draft *d, const bcall *c)
{
    uint64_t one = d->node[d->start[c->rule]].cost, then = d->node[c->to].cost;
    if (then == NEVER || (c->min && one == NEVER)) return NEVER;
    if (c->min && one > MOST / c->min) return MOST;
    uint64_t sum = (c->min ? one * c->min : 0) + then;
    return sum < MOST ? sum : MOST;
}

/* For each node, the edges whose cost depends on it. */
static bool users(draft *d, int32_t **at, user **list)
{
    gctx *g = d->g;
    size_t n = 0;
    for (int q = 0; q < d->n; q++)
        n += (size_t)d->node[q].n_r + 2 * (size_t)d->node[q].n_c;
    int32_t *first = *at = gz_take(g, ((size_t)d->n + 2) * sizeof **at);
    *list = gz_take(g, (n + 1) * sizeof **list);
    if (!first || !*list || !gz_work(g, (int64_t)n + d->n)) return false;
    for (int pass = 0; pass < 2; pass++) {
        for (int q = 0; q < d->n; q++) {
            const bnode *x = &d->node[q];
            for (int i = 0; i < x->n_r + 2 * x->n_c; i++) {
                int k = i - x->n_r;
                uint32_t on = k < 0 ? x->r[i].to : k % 2 ? d->start[x->c[k / 2].rule] : x->c[k / 2].to;
                if (pass) (*list)[first[on + 1]++] = (user){ q, k < 0 ? i : x->n_r + k / 2 };
                else first[on + 2]++;
            }
        }
        if (!pass)
            for (int q = 2; q <= d->n + 1; q++) first[q] += first[q - 1];
    }
    return true;
}

int gram_costs(draft *d, uint32_t root)
{
    gctx *g = d->g;
    heap h = { .g = g };
    int32_t *at;
    user *list;
    bool *done = gz_take(g, (size_t)d->n);
    d->order = gz_take(g, (size_t)d->n * sizeof *d->order);
    if (!done || !d->order || !users(d, &at, &list)) return g->rc;
    for (int q = 0; q < d->n; q++)
        if (d->node[q].final) {
            d->node[q].cost = 0;
            if (!push(&h, 0, q)) return g->rc;
        }
    while (h.n) {
        item x = pop(&h);
        if (done[x.node]) continue;
        done[x.node] = true;
        d->order[d->n_order++] = x.node;
        for (int32_t i = at[x.node]; i < at[x.node + 1]; i++) {
            bnode *y = &d->node[list[i].node];
            int e = list[i].edge;
            uint64_t cost = NEVER;
            if (e >= y->n_r) {
                const bcall *c = &y->c[e - y->n_r];
                bool ready = done[c->to] && (!c->min || done[d->start[c->rule]]);
                if (ready) cost = call_cost(d, c);
            } else if (spelled(d->v, &y->r[e]) >= 0) {
                cost = x.cost < MOST ? x.cost + 1 : MOST;
            }
            if (cost >= y->cost || done[list[i].node]) continue;
            y->cost = cost, y->best = e;
            if (!push(&h, cost, list[i].node)) return g->rc;
        }
    }
    if (d->node[root].cost == NEVER)
        return gz_fail(g, DR_EINVAL, "nothing can satisfy %s", g->what);
    return DR_OK;
}

/* Fewest tokens from node q along its shortest text, cut where a call begins. */
static uint32_t along(const draft *d, const grammar *c, int32_t q)
{
    const vtrie *v = d->v;
    uint32_t t = 0, best = GRAM_FAR;
    for (int32_t at = q;;) {
        const bnode *x = &d->node[at];
        if (x->best < 0 || x->best >= x->n_r) break;
        t = vtrie_child(v, t, (uint8_t)spelled(v, &x->r[x->best]));
        if (!t) break;
        at = (int32_t)x->r[x->best].to;
        if (v->node[t].n_tok && c->tokens[at] + 1 < best) best = c->tokens[at] + 1;
    }
    return best;
}

int gram_tokens(draft *d, grammar *c)
{
    for (int q = 0; q < d->n; q++) c->tokens[q] = GRAM_FAR;
    c->tokens[NODE_END] = 0;
    for (int i = 0; i < d->n_order; i++) {
        int32_t q = d->order[i];
        const bnode *x = &d->node[q];
        if (!gz_work(d->g, 64)) return d->g->rc;
        if (x->best < 0) {
            c->tokens[q] = 0;
        } else if (x->best < x->n_r) {
            c->tokens[q] = along(d, c, q);
            c->height[q] = c->height[x->r[x->best].to];
        } else {
            const gcall *k = &c->call[c->call_at[q] + (uint32_t)(x->best - x->n_r)];
            uint64_t n = c->tokens[k->target], h = c->height[k->target];
            if (k->min) {
                n += k->flags & CALL_COUNTED ? call_rest(c, k, 0) : c->tokens[k->start];
                if (h < c->height[k->start] + (uint64_t)1) h = c->height[k->start] + (uint64_t)1;
            }
            c->tokens[q] = n < GRAM_FAR ? (uint32_t)n : GRAM_FAR;
            c->height[q] = h < UINT16_MAX ? (uint16_t)h : UINT16_MAX;
        }
    }
    if (c->height[c->start] > GRAM_MAX_DEPTH)
        return gz_fail(d->g, DR_EUNSUPPORTED, "%s: its shortest text has more than %d levels",
                       d->g->what, GRAM_MAX_DEPTH);
    return DR_OK;
}
