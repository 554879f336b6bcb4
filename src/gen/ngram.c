/* ngram.c - see ngram.h.
 *
 * One table for all lengths: the slot of the hash of the last n tokens holds the position after them,
 * the newest one. A slot may belong to another n-gram: a find compares the tokens and goes on to
 * the next shorter length when they differ, so a collision costs a match and is never a wrong one. */
#include "gen/ngram.h"
#include <string.h>
#include "base/mem.h"

static const int orders[] = { 1, 2, 3, 5, 8, 16 };
enum { N_ORDERS = sizeof orders / sizeof *orders, LONGEST = 16, SLOTS = 16, MIN_ROOM = 64 };

struct ngram {
    int32_t *text, *slot;
    int n, room, bits;
};

static int bits_for(int room)
{
    int bits = 8;
    while (bits < 30 && ((int64_t)1 << bits) < (int64_t)room * SLOTS) bits++;
    return bits;
}

size_t ngram_bytes(int room)
{
    return ((size_t)room + ((size_t)1 << bits_for(room))) * sizeof(int32_t);
}

ngram *ngram_new(int room, dr_err *e)
{
    if (room < MIN_ROOM) room = MIN_ROOM;
    ngram *g = mem_zalloc(1, sizeof *g);
    if (g) {
        g->room = room, g->bits = bits_for(room);
        g->text = mem_alloc((size_t)room * sizeof *g->text);
        g->slot = mem_alloc(((size_t)1 << g->bits) * sizeof *g->slot);
    }
    if (!g || !g->text || !g->slot) {
        ngram_free(g);
        err_nomem(e, ngram_bytes(room), "the index of the text");
        return NULL;
    }
    ngram_clear(g);
    return g;
}

void ngram_free(ngram *g)
{
    if (!g) return;
    mem_free(g->text);
    mem_free(g->slot);
    mem_free(g);
}

void ngram_clear(ngram *g)
{
    g->n = 0;
    memset(g->slot, -1, ((size_t)1 << g->bits) * sizeof *g->slot);
}

int ngram_len(const ngram *g) { return g->n; }
const int32_t *ngram_text(const ngram *g) { return g->text; }

/* The slots of the ends of the first n tokens: those of orders that fit, shortest first. */
static int slots_of(const ngram *g, int n, uint32_t at[N_ORDERS])
{
    uint64_t h = 0;
    int k = 0;
    for (int i = 1; i <= LONGEST && i <= n; i++) {
        h = (h ^ ((uint64_t)(uint32_t)g->text[n - i] + 1)) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
        if (i != orders[k]) continue;
        at[k++] = (uint32_t)((h * 0xbf58476d1ce4e5b9u) >> (64 - g->bits));
    }
    return k;
}

static void index_end(ngram *g)
{
    uint32_t at[N_ORDERS];
    for (int k = slots_of(g, g->n, at); k-- > 0;) g->slot[at[k]] = g->n;
}

void ngram_put(ngram *g, int32_t id)
{
    if (g->n == g->room) {                       /* half of it goes: on average a constant cost */
        int keep = g->room / 2;
        memmove(g->text, g->text + (g->n - keep), (size_t)keep * sizeof *g->text);
        ngram_clear(g);
        while (g->n < keep) {
            g->n++;
            if (g->n < keep) index_end(g);
        }
    }
    /* what came before `id` has a continuation only now */
    if (g->n) index_end(g);
    g->text[g->n++] = id;
}

ngram_match ngram_find(const ngram *g)
{
    uint32_t at[N_ORDERS];
    for (int k = slots_of(g, g->n, at); k-- > 0;) {
        int p = g->slot[at[k]], len = 0;
        if (p < 0 || p >= g->n) continue;
        while (len < NGRAM_MAX && len < p && g->text[p - 1 - len] == g->text[g->n - 1 - len]) len++;
        if (len >= orders[k]) return (ngram_match){ len, p };
    }
    return (ngram_match){ 0, 0 };
}

void ngram_copy(const ngram *g, ngram_match m, int n, int32_t *out)
{
    for (int i = 0; i < n; i++) out[i] = m.at + i < g->n ? g->text[m.at + i] : out[m.at + i - g->n];
}
