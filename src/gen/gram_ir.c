/* gram_ir.c - see gram_ir.h: memory, sets of characters, expressions. */
#include "gen/gram_ir.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"

enum { CHUNK = 256 << 10 };
struct gchunk { struct gchunk *next; size_t n, cap; };
#define HEAD ((sizeof(struct gchunk) + 15) / 16 * 16)

void gctx_init(gctx *g, const char *what, dr_err *e)
{
    *g = (gctx){ .fuel = GRAM_FUEL, .what = what, .e = e, .str_rule = -1 };
}

void gctx_free(gctx *g)
{
    for (struct gchunk *c = g->top, *next; c; c = next) {
        next = c->next;
        mem_free(c);
    }
    g->top = NULL;
}

int gz_fail(gctx *g, int code, const char *fmt, ...)
{
    if (g->rc) return g->rc;
    char s[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(s, sizeof s, fmt, ap);
    va_end(ap);
    g->rc = code;
    return err_set(g->e, code, "%s", s);
}

bool gz_work(gctx *g, int64_t n)
{
    if (g->rc) return false;
    g->fuel -= n;
    if (g->fuel >= 0) return true;
    gz_fail(g, DR_EUNSUPPORTED, "%s is too large once it is written out: compiling it takes more "
            "than %d million steps", g->what, (int)(GRAM_FUEL / 1000000));
    return false;
}

void *gz_take(gctx *g, size_t n)
{
    if (g->rc) return NULL;
    if (n > GRAM_ZONE || g->used + n > GRAM_ZONE) {
        gz_fail(g, DR_EUNSUPPORTED, "%s is too large once it is written out: compiling it takes "
                "more than %d MB", g->what, (int)(GRAM_ZONE >> 20));
        return NULL;
    }
    size_t want = (n + 15) / 16 * 16;
    struct gchunk *c = g->top;
    if (!c || c->cap - c->n < want) {
        size_t cap = want > CHUNK / 4 ? want : CHUNK;
        struct gchunk *fresh = mem_alloc(HEAD + cap);
        if (!fresh) {
            g->rc = err_nomem(g->e, HEAD + cap, g->what);
            return NULL;
        }
        *fresh = (struct gchunk){ .cap = cap };
        if (c && cap == want && want > CHUNK / 4) {     /* a big one goes behind the open chunk */
            fresh->next = c->next, c->next = fresh;
        } else {
            fresh->next = c, g->top = fresh;
        }
        c = fresh;
    }
    void *p = (char *)c + HEAD + c->n;
    c->n += want;
    g->used += want;
    return memset(p, 0, want);
}

bool gz_room(gctx *g, void *array, int n, int *cap, size_t elem)
{
    if (n < *cap) return true;
    void *old;
    memcpy(&old, array, sizeof old);
    int want = *cap ? *cap * 2 : 8;
    void *p = gz_take(g, (size_t)want * elem);
    if (!p) return false;
    if (n) memcpy(p, old, (size_t)n * elem);
    memcpy(array, &p, sizeof p);
    *cap = want;
    return true;
}

char *gz_copy(gctx *g, const void *p, size_t n)
{
    char *s = gz_take(g, n + 1);
    if (s && n) memcpy(s, p, n);
    return s;
}

/* ---- sets of characters ---- */

void cp_add(gctx *g, cp_set *s, uint32_t lo, uint32_t hi)
{
    if (lo < 0xd800 && hi >= 0xd800) {
        cp_add(g, s, lo, 0xd7ff);
        if (hi > 0xdfff) cp_add(g, s, 0xe000, hi);
        return;
    }
    if (lo >= 0xd800 && lo <= 0xdfff) {
        if (hi <= 0xdfff) return;
        lo = 0xe000;
    }
    if (lo > hi || !gz_room(g, &s->r, s->n, &s->cap, sizeof *s->r)) return;
    s->r[s->n++] = (cp_range){ lo, hi };
}

void cp_done(cp_set *s)
{
    for (int gap = s->n / 2; gap > 0; gap /= 2)                /* shell sort: no qsort_r in C17 */
        for (int i = gap; i < s->n; i++) {
            cp_range v = s->r[i];
            int j = i;
            for (; j >= gap && s->r[j - gap].lo > v.lo; j -= gap) s->r[j] = s->r[j - gap];
            s->r[j] = v;
        }
    int n = 0;
    for (int i = 0; i < s->n; i++) {
        if (n && s->r[i].lo <= s->r[n - 1].hi + 1) {
            if (s->r[i].hi > s->r[n - 1].hi) s->r[n - 1].hi = s->r[i].hi;
        } else {
            s->r[n++] = s->r[i];
        }
    }
    s->n = n;
}

void cp_invert(gctx *g, cp_set *s)
{
    cp_set out = {0};
    uint32_t at = 0;
    for (int i = 0; i < s->n; i++) {
        if (s->r[i].lo > at) cp_add(g, &out, at, s->r[i].lo - 1);
        at = s->r[i].hi + 1;
    }
    if (at < CP_END) cp_add(g, &out, at, CP_END - 1);
    *s = out;
}

void cp_add_set(gctx *g, cp_set *s, const cp_set *o)
{
    for (int i = 0; i < o->n; i++) cp_add(g, s, o->r[i].lo, o->r[i].hi);
}

bool cp_has(const cp_set *s, uint32_t c)
{
    int lo = 0, hi = s->n;
    while (lo < hi) {
        int mid = (lo + hi) / 2;
        if (s->r[mid].hi < c) lo = mid + 1;
        else hi = mid;
    }
    return lo < s->n && s->r[lo].lo <= c;
}

/* ---- expressions ---- */

gx *gx_new(gctx *g, gx_kind k)
{
    gx *x = gz_take(g, sizeof *x);
    if (x) x->kind = k;
    return x;
}

gx *gx_lit(gctx *g, span bytes)
{
    if (bytes.n == 0) return gx_new(g, GX_EMPTY);
    gx *x = gx_new(g, GX_LIT);
    char *p = gz_copy(g, bytes.p, bytes.n);
    if (!p) return NULL;
    x->lit = (span){ p, bytes.n };
    return x;
}

gx *gx_str(gctx *g, const char *s) { return gx_lit(g, span_of(s)); }

gx *gx_set(gctx *g, cp_set s)
{
    gx *x = gx_new(g, s.n ? GX_SET : GX_NEVER);
    if (x) x->set = s;
    return x;
}

gx *gx_list(gctx *g, gx_kind k, gx *const *kid, int n)
{
    if (n == 1) return kid[0];
    gx *x = gx_new(g, n ? k : k == GX_SEQ ? GX_EMPTY : GX_NEVER);
    if (!x || !n) return x;
    x->kid = gz_take(g, (size_t)n * sizeof *x->kid);
    if (!x->kid) return NULL;
    for (int i = 0; i < n; i++) {
        if (!kid[i]) return NULL;
        x->kid[i] = kid[i];
    }
    x->n = n;
    return x;
}

gx *gx_rep(gctx *g, gx *x, uint32_t min, uint32_t max)
{
    if (!x) return NULL;
    if (max == 0) return gx_new(g, GX_EMPTY);
    if (min == 1 && max == 1) return x;
    gx *r = gx_new(g, GX_REP);
    if (!r || !(r->kid = gz_take(g, sizeof *r->kid))) return NULL;
    r->kid[0] = x, r->n = 1, r->min = min, r->max = max;
    return r;
}

gx *gx_rule(gctx *g, int rule)
{
    if (rule < 0) return NULL;
    gx *x = gx_new(g, GX_RULE);
    if (x) x->rule = rule;
    return x;
}

gx *gx_auto(gctx *g, const cauto *a, bool json)
{
    if (!a) return NULL;
    gx *x = gx_new(g, a->n ? GX_AUTO : GX_NEVER);
    if (x) x->a = a, x->json = json;
    return x;
}

int gram_rule_new(gctx *g, const char *name)
{
    if (g->n_rules == GRAM_MAX_RULES) {
        gz_fail(g, DR_EUNSUPPORTED, "%s needs more than %d rules", g->what, GRAM_MAX_RULES);
        return -1;
    }
    int cap = g->cap_rules;
    if (!gz_room(g, &g->rule, g->n_rules, &cap, sizeof *g->rule)) return -1;
    if (cap != g->cap_rules) {
        const char **names = gz_take(g, (size_t)cap * sizeof *names);
        if (!names) return -1;
        if (g->n_rules) memcpy(names, g->rule_name, (size_t)g->n_rules * sizeof *names);
        g->rule_name = names, g->cap_rules = cap;
    }
    g->rule[g->n_rules] = NULL;
    g->rule_name[g->n_rules] = name ? gz_copy(g, name, strlen(name)) : "";
    return g->n_rules++;
}
