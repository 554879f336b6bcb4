/* gram_compile.c - rules over expressions into automata over bytes, and those into tables. */
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "gen/gram_priv.h"

enum {
    INLINE_RULE = 64,       /* a rule of at most so many nodes is written into its users */
    INLINE_DEPTH = 8,
    INLINE_COUNT = 400      /* as is a repetition; a longer one counts while text is made */
};

/* ---- one rule as a nondeterministic automaton ---- */

typedef enum { E_EPS, E_BYTES, E_CALL } ekind;
typedef struct { uint32_t to; int32_t next; ekind kind; uint8_t lo, hi; int32_t rule; uint32_t min, max; } edge;
typedef struct {
    draft *d;
    gctx *g;
    int32_t *head;
    int n, cap;
    edge *e;
    int n_e, cap_e;
    int32_t *size;          /* (rules,) nodes when written out; INT32_MAX: too many, or recursive */
    int cap_size;
    int depth;
} nfa;

static uint32_t node(nfa *f)
{
    if (!gz_work(f->g, 4) || !gz_room(f->g, &f->head, f->n, &f->cap, sizeof *f->head)) return 0;
    f->head[f->n] = -1;
    return (uint32_t)f->n++;
}

static edge *add_edge(nfa *f, uint32_t from, uint32_t to, ekind k)
{
    static edge none;
    if (f->g->rc || !gz_room(f->g, &f->e, f->n_e, &f->cap_e, sizeof *f->e)) return &none;
    f->e[f->n_e] = (edge){ .to = to, .next = f->head[from], .kind = k };
    f->head[from] = f->n_e;
    return &f->e[f->n_e++];
}

static void eps(nfa *f, uint32_t from, uint32_t to) { add_edge(f, from, to, E_EPS); }

static void bytes(nfa *f, uint32_t from, uint32_t to, uint8_t lo, uint8_t hi)
{
    edge *e = add_edge(f, from, to, E_BYTES);
    if (!f->g->rc) e->lo = lo, e->hi = hi;
}

/* Characters of n bytes from lo to hi, all bytes of both given. */
static void utf8_range(nfa *f, uint32_t in, uint32_t out, const uint8_t *lo, const uint8_t *hi,
                       int n)
{
    static const uint8_t low[3] = { 0x80, 0x80, 0x80 }, high[3] = { 0xbf, 0xbf, 0xbf };
    if (f->g->rc) return;
    if (n == 1) {
        bytes(f, in, out, *lo, *hi);
        return;
    }
    size_t rest = (size_t)n - 1;
    if (*lo == *hi) {
        uint32_t mid = node(f);
        bytes(f, in, mid, *lo, *lo);
        utf8_range(f, mid, out, lo + 1, hi + 1, n - 1);
        return;
    }
    int from = *lo, to = *hi;
    if (memcmp(lo + 1, low, rest)) {
        uint32_t mid = node(f);
        bytes(f, in, mid, *lo, *lo);
        utf8_range(f, mid, out, lo + 1, high, n - 1);
        from++;
    }
    if (memcmp(hi + 1, high, rest)) {
        uint32_t mid = node(f);
        bytes(f, in, mid, *hi, *hi);
        utf8_range(f, mid, out, low, hi + 1, n - 1);
        to--;
    }
    if (from > to) return;
    uint32_t mid = node(f);
    bytes(f, in, mid, (uint8_t)from, (uint8_t)to);
    utf8_range(f, mid, out, low, high, n - 1);
}

static int encode(uint8_t *p, uint32_t c)
{
    if (c < 0x80) return p[0] = (uint8_t)c, 1;
    if (c < 0x800) return p[0] = (uint8_t)(0xc0 | c >> 6), p[1] = (uint8_t)(0x80 | (c & 63)), 2;
    if (c < 0x10000)
        return p[0] = (uint8_t)(0xe0 | c >> 12), p[1] = (uint8_t)(0x80 | (c >> 6 & 63)),
               p[2] = (uint8_t)(0x80 | (c & 63)), 3;
    return p[0] = (uint8_t)(0xf0 | c >> 18), p[1] = (uint8_t)(0x80 | (c >> 12 & 63)),
           p[2] = (uint8_t)(0x80 | (c >> 6 & 63)), p[3] = (uint8_t)(0x80 | (c & 63)), 4;
}

static void chars(nfa *f, uint32_t in, uint32_t out, uint32_t lo, uint32_t hi)
{
    static const uint32_t end[4] = { 0x7f, 0x7ff, 0xffff, 0x10ffff };
    for (int k = 0; k < 4 && lo <= hi; k++) {
        if (lo > end[k]) continue;
        uint32_t to = hi < end[k] ? hi : end[k];
        uint8_t a[4], b[4];
        int n = encode(a, lo);
        encode(b, to);
        utf8_range(f, in, out, a, b, n);
        lo = to + 1;
    }
}

static uint32_t text(nfa *f, uint32_t in, const char *p, size_t n)
{
    for (size_t i = 0; i < n && !f->g->rc; i++) {
        uint32_t to = node(f);
        bytes(f, in, to, (uint8_t)p[i], (uint8_t)p[i]);
        in = to;
    }
    return in;
}

/* The characters of a set as a JSON string spells them, each in one way. */
static void json_chars(nfa *f, uint32_t in, uint32_t out, const cp_set *s)
{
    static const char *const hex = "0123456789abcdef";
    static const char named[] = "\b\f\n\r\t\"\\", letter[] = "bfnrt\"\\";
    uint32_t slash = 0, row[2] = { 0, 0 };
    cp_set plain = {0};
    for (int i = 0; i < s->n && !f->g->rc; i++) {
        uint32_t lo = s->r[i].lo, hi = s->r[i].hi;
        for (uint32_t c = lo; c <= hi && c <= '\\'; c++) {
            if (c >= 0x20 && c != '"' && c != '\\') {
                cp_add(f->g, &plain, c, c);
                continue;
            }
            if (!slash) bytes(f, in, slash = node(f), '\\', '\\');
            const char *at = c ? strchr(named, (int)c) : NULL;
            if (at) {
                bytes(f, slash, out, (uint8_t)letter[at - named], (uint8_t)letter[at - named]);
                continue;
            }
            if (!row[c >> 4]) row[c >> 4] = text(f, slash, c >> 4 ? "u001" : "u000", 4);
            bytes(f, row[c >> 4], out, (uint8_t)hex[c & 15], (uint8_t)hex[c & 15]);
        }
        if (hi > '\\') cp_add(f->g, &plain, lo > '\\' ? lo : '\\' + 1, hi);
    }
    cp_done(&plain);
    for (int i = 0; i < plain.n; i++) chars(f, in, out, plain.r[i].lo, plain.r[i].hi);
}

static uint32_t automaton(nfa *f, uint32_t in, const cauto *a, bool json)
{
    uint32_t out = node(f);
    uint32_t *hub = gz_take(f->g, (size_t)a->n * sizeof *hub);
    int32_t *seen = gz_take(f->g, (size_t)a->n * sizeof *seen);
    if (!hub || !seen) return 0;
    for (int i = 0; i < a->n; i++) hub[i] = node(f), seen[i] = -1;
    eps(f, in, hub[0]);
    for (int q = 0; q < a->n && !f->g->rc; q++) {
        const int32_t *next = a->next + (size_t)q * (size_t)a->n_cls;
        if (a->final[q]) eps(f, hub[q], out);
        for (int c = 0; c < a->n_cls; c++) {
            int32_t t = next[c];
            if (t < 0 || seen[t] == q) continue;
            seen[t] = q;
            cp_set s = {0};
            if (!gz_work(f->g, a->n_iv)) return 0;
            for (int i = 0; i < a->n_iv; i++)
                if (next[a->cls[i]] == t)
                    cp_add(f->g, &s, a->cut[i], (i + 1 < a->n_iv ? a->cut[i + 1] : CP_END) - 1);
            cp_done(&s);
            if (json) json_chars(f, hub[q], hub[t], &s);
            else
                for (int i = 0; i < s.n; i++) chars(f, hub[q], hub[t], s.r[i].lo, s.r[i].hi);
        }
    }
    return out;
}

/* ---- how large an expression is when written out ---- */

static int64_t rule_size(nfa *f, int rule, int depth);

static int64_t gx_size(nfa *f, const gx *x, int depth)
{
    int64_t n = 1;
    if (!gz_work(f->g, 1)) return INT32_MAX;
    switch (x->kind) {
    case GX_LIT: return (int64_t)x->lit.n;
    case GX_SET: return 1 + 4 * (int64_t)x->set.n;
    case GX_AUTO: return (int64_t)x->a->n * 8;
    case GX_RULE: return rule_size(f, x->rule, depth + 1);
    case GX_OBJECT: return INT32_MAX;
    case GX_SEQ: case GX_ALT:
        for (int i = 0; i < x->n && n < INT32_MAX; i++) n += 1 + gx_size(f, x->kid[i], depth);
        return n < INT32_MAX ? n : INT32_MAX;
    case GX_REP:
        n = gx_size(f, x->kid[0], depth) + 1;
        n *= x->max == GRAM_INF ? (int64_t)x->min + 1 : (int64_t)x->max;
        return n < INT32_MAX ? n : INT32_MAX;
    default: return 1;
    }
}

static int64_t rule_size(nfa *f, int rule, int depth)
{
    enum { BUSY = -1 };
    if (depth > INLINE_DEPTH) return INT32_MAX;          
    if (f->size[rule] == BUSY) return INT32_MAX;
    if (f->size[rule]) return f->size[rule];
    f->size[rule] = BUSY;
    int64_t n = f->g->rule[rule] ? gx_size(f, f->g->rule[rule], depth) : INT32_MAX;
    f->size[rule] = 0;
    f->size[rule] = n < INT32_MAX ? (int32_t)n + 1 : INT32_MAX;
    return n;
}

static bool size_room(nfa *f)
{
    while (f->cap_size < f->g->n_rules) {
        int cap = f->cap_size ? f->cap_size * 2 : 64;
        int32_t *p = gz_take(f->g, (size_t)cap * sizeof *p);
        if (!p) return false;
        if (f->cap_size) memcpy(p, f->size, (size_t)f->cap_size * sizeof *p);
        f->size = p, f->cap_size = cap;
    }
    return true;
}

/* ---- expressions into the automaton ---- */

static uint32_t build(nfa *f, const gx *x, uint32_t in);

static uint32_t call(nfa *f, uint32_t in, int rule, uint32_t min, uint32_t max)
{
    uint32_t out = node(f);
    edge *e = add_edge(f, in, out, E_CALL);
    if (!f->g->rc) e->rule = rule, e->min = min, e->max = max;
    return out;
}

static uint32_t repeat(nfa *f, const gx *x, uint32_t in)
{
    gctx *g = f->g;
    const gx *k = x->kid[0];
    bool endless = x->max == GRAM_INF;
    uint64_t times = endless ? (uint64_t)x->min + 1 : x->max;
    bool chars_rule = k->kind == GX_RULE && k->rule == g->str_rule;
    int64_t size = gx_size(f, k, f->depth);
    if (k->kind == GX_RULE && size > INLINE_RULE) size = 2;      /* a call */
    bool small = (int64_t)times * size <= INLINE_COUNT;
    if (chars_rule && !endless && times > 8) small = false;
    if (!small && !(endless && x->min <= 1)) {
        int rule = k->kind == GX_RULE ? k->rule : gram_rule_new(g, "a repetition");
        if (rule < 0 || !size_room(f)) return 0;
        if (k->kind != GX_RULE) g->rule[rule] = (gx *)k;
        return call(f, in, rule, x->min, x->max);
    }
    uint32_t out = in;
    for (uint32_t i = 0; i < x->min && !g->rc; i++) out = build(f, k, out);
    if (endless) {
        uint32_t loop = node(f);
        eps(f, out, loop);
        eps(f, build(f, k, loop), loop);
        return loop;
    }
    uint32_t end = node(f);
    for (uint32_t i = x->min; i < x->max && !g->rc; i++) {
        eps(f, out, end);
        out = build(f, k, out);
    }
    eps(f, out, end);
    return end;
}

/* Properties: state (i, c) is "before kid i with c written so far", c as far as it matters; the
 * first one written has no comma. */
static uint32_t object(nfa *f, const gx *x, uint32_t in)
{
    gctx *g = f->g;
    uint32_t most = x->max != GRAM_INF ? x->max : x->min > 1 ? x->min : 1, n = (uint32_t)x->n;
    if (most > n + 1) most = n + 1;
    if (most < 1) most = 1;
    uint32_t *now = gz_take(g, 2 * ((size_t)most + 1) * sizeof *now), out = node(f);
    if (!now) return 0;
    uint32_t *next = now + most + 1;
    now[0] = in;
    for (uint32_t c = 1; c <= most; c++) now[c] = node(f);
    for (uint32_t i = 0; i < n && !g->rc; i++) {
        for (uint32_t c = 0; c <= most; c++) next[c] = node(f);
        for (uint32_t c = 0; c <= most && !g->rc; c++) {
            if (!x->need[i]) eps(f, now[c], next[c]);
            if (x->max != GRAM_INF && c >= x->max) continue;
            if (c == most) continue;                         /* written with c - 1, below */
            uint32_t begin = node(f);
            if (c) bytes(f, now[c], begin, ',', ',');
            else eps(f, now[c], begin);
            if (c + 1 == most && x->max == GRAM_INF) bytes(f, now[most], begin, ',', ',');
            eps(f, build(f, x->kid[i], begin), next[c + 1]);
        }
        uint32_t *t = now;
        now = next, next = t;
    }
    for (uint32_t c = 0; c <= most && !g->rc; c++) {
        if (c >= x->min) eps(f, now[c], out);
        if (!x->more || c > x->max || (x->max != GRAM_INF && c >= x->max) || c + 1 < x->min) continue;
        uint32_t begin = node(f);
        if (c) bytes(f, now[c], begin, ',', ',');
        else eps(f, now[c], begin);
        gx *rest = gx_rep(g, gx_seq(g, gx_str(g, ","), x->more), 0,
                          x->max == GRAM_INF ? GRAM_INF : x->max - c - 1);
        eps(f, build(f, rest, build(f, x->more, begin)), out);
    }
    return out;
}

static uint32_t build(nfa *f, const gx *x, uint32_t in)
{
    gctx *g = f->g;
    if (!x || !gz_work(g, 1)) return 0;
    uint32_t out = in;
    switch (x->kind) {
    case GX_EMPTY: return in;
    case GX_LIT: return text(f, in, x->lit.p, x->lit.n);
    case GX_SET:
        out = node(f);
        for (int i = 0; i < x->set.n && !g->rc; i++)
            chars(f, in, out, x->set.r[i].lo, x->set.r[i].hi);
        return out;
    case GX_AUTO: return automaton(f, in, x->a, x->json);
    case GX_SEQ:
        for (int i = 0; i < x->n && !g->rc; i++) out = build(f, x->kid[i], out);
        return out;
    case GX_ALT:
        out = node(f);
        for (int i = 0; i < x->n && !g->rc; i++) {
            uint32_t mid = node(f);
            eps(f, in, mid);
            eps(f, build(f, x->kid[i], mid), out);
        }
        return out;
    case GX_REP: return repeat(f, x, in);
    case GX_OBJECT: return object(f, x, in);
    case GX_RULE:
        if (f->depth < INLINE_DEPTH && rule_size(f, x->rule, f->depth) <= INLINE_RULE) {
            f->depth++;
            out = build(f, g->rule[x->rule], in);
            f->depth--;
            return out;
        }
        return call(f, in, x->rule, 1, 1);
    default: return node(f);
    }
}

/* ---- made deterministic ---- */

typedef struct {
    nfa *f;
    draft *d;
    uint32_t base;                  /* first node of this rule */
    uint32_t end;                   /* the NFA's last */
    int32_t *mark, stamp;
    int32_t *set, n_set;
    int32_t *pool;
    int n_pool, cap_pool;
    int32_t *at;                    /* (nodes of the rule + 1,) into pool */
    int cap_at;
    uint64_t *hash;                 /* (nodes of the rule,) */
    int cap_hash;
    int32_t *slot;
    int n_slots;
} subset;

static bool close_set(subset *s)
{
    nfa *f = s->f;
    s->stamp++;
    int n = 0;
    for (int i = 0; i < s->n_set; i++)
        if (s->mark[s->set[i]] != s->stamp) s->mark[s->set[i]] = s->stamp, s->set[n++] = s->set[i];
    s->n_set = n;
    for (int i = 0; i < s->n_set; i++)
        for (int32_t k = f->head[s->set[i]]; k >= 0; k = f->e[k].next) {
            if (!gz_work(f->g, 1)) return false;
            if (f->e[k].kind != E_EPS || s->mark[f->e[k].to] == s->stamp) continue;
            s->mark[f->e[k].to] = s->stamp;
            s->set[s->n_set++] = (int32_t)f->e[k].to;
        }
    n = 0;                                       /* what only has empty edges says nothing more */
    for (int i = 0; i < s->n_set; i++) {
        bool keep = s->set[i] == (int32_t)s->end;
        for (int32_t k = f->head[s->set[i]]; k >= 0 && !keep; k = f->e[k].next)
            keep = f->e[k].kind != E_EPS;
        if (keep) s->set[n++] = s->set[i];
    }
    s->n_set = n;
    return true;
}

static int by_i32(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static bool grow_slots(subset *s, int have)
{
    int n = s->n_slots ? s->n_slots * 2 : 64;
    s->slot = gz_take(s->f->g, (size_t)n * sizeof *s->slot);
    if (!s->slot) return false;
    memset(s->slot, 0xff, (size_t)n * sizeof *s->slot);
    s->n_slots = n;
    for (int i = 0; i < have; i++) {
        uint64_t at = s->hash[i];
        while (s->slot[at & (uint64_t)(n - 1)] >= 0) at++;
        s->slot[at & (uint64_t)(n - 1)] = i;
    }
    return true;
}

/* The node of s->set, made when it is new; 0: failed. */
static uint32_t subset_node(subset *s)
{
    gctx *g = s->f->g;
    draft *d = s->d;
    if (!close_set(s)) return 0;
    qsort(s->set, (size_t)s->n_set, sizeof *s->set, by_i32);
    uint64_t h = (uint64_t)s->n_set;
    for (int i = 0; i < s->n_set; i++) {
        h = (h ^ (uint64_t)s->set[i]) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
    }
    int have = d->n - (int)s->base;
    if (have * 2 >= s->n_slots && !grow_slots(s, have)) return 0;
    uint64_t at = h;
    for (int32_t i; (i = s->slot[at & (uint64_t)(s->n_slots - 1)]) >= 0; at++)
        if (s->hash[i] == h && s->at[i + 1] - s->at[i] == s->n_set &&
            !memcmp(s->pool + s->at[i], s->set, (size_t)s->n_set * sizeof *s->set))
            return s->base + (uint32_t)i;
    if (d->n == GRAM_MAX_NODES) {
        gz_fail(g, DR_EUNSUPPORTED, "%s is too large: it needs more than %d states", g->what,
                GRAM_MAX_NODES);
        return 0;
    }
    if (!gz_work(g, 8 + s->n_set) || !gz_room(g, &d->node, d->n, &d->cap, sizeof *d->node) ||
        !gz_room(g, &s->at, have + 1, &s->cap_at, sizeof *s->at) ||
        !gz_room(g, &s->hash, have, &s->cap_hash, sizeof *s->hash)) return 0;
    for (int i = 0; i < s->n_set; i++) {
        if (!gz_room(g, &s->pool, s->n_pool, &s->cap_pool, sizeof *s->pool)) return 0;
        s->pool[s->n_pool++] = s->set[i];
    }
    s->at[have + 1] = s->n_pool, s->hash[have] = h;
    s->slot[at & (uint64_t)(s->n_slots - 1)] = have;
    d->node[d->n] = (bnode){ .cost = UINT64_MAX, .best = -1 };
    for (int i = 0; i < s->n_set; i++) d->node[d->n].final |= s->set[i] == (int32_t)s->end;
    return (uint32_t)d->n++;
}

/* Byte edges of node q. */
static bool byte_edges(subset *s, uint32_t q, const int32_t *list, int n)
{
    nfa *f = s->f;
    gctx *g = f->g;
    bool cut[257] = { false };
    int n_r = 0, cap = 0;
    brange *r = NULL;
    for (int i = 0; i < n; i++)
        for (int32_t k = f->head[list[i]]; k >= 0; k = f->e[k].next)
            if (f->e[k].kind == E_BYTES) cut[f->e[k].lo] = cut[f->e[k].hi + 1] = true;
    for (int b = 0; b < 256;) {
        int end = b + 1;
        while (end < 256 && !cut[end]) end++;
        s->n_set = 0;
        s->stamp++;
        for (int i = 0; i < n; i++)
            for (int32_t k = f->head[list[i]]; k >= 0; k = f->e[k].next) {
                const edge *e = &f->e[k];
                if (!gz_work(g, 1)) return false;
                if (e->kind != E_BYTES || e->lo > b || e->hi < b || s->mark[e->to] == s->stamp)
                    continue;
                s->mark[e->to] = s->stamp;
                s->set[s->n_set++] = (int32_t)e->to;
            }
        if (s->n_set) {
            uint32_t to = subset_node(s);
            if (!to) return false;
            if (n_r && r[n_r - 1].to == to && r[n_r - 1].hi == b - 1) {
                r[n_r - 1].hi = (uint8_t)(end - 1);
            } else {
                if (!gz_room(g, &r, n_r, &cap, sizeof *r)) return false;
                r[n_r++] = (brange){ (uint8_t)b, (uint8_t)(end - 1), to };
            }
        }
        b = end;
    }
    s->d->node[q].r = r, s->d->node[q].n_r = n_r;
    return true;
}

static bool call_edges(subset *s, uint32_t q, const int32_t *list, int n)
{
    nfa *f = s->f;
    gctx *g = f->g;
    bcall *c = NULL;
    int n_c = 0, cap = 0;
    for (int i = 0; i < n; i++)
        for (int32_t k = f->head[list[i]]; k >= 0; k = f->e[k].next) {
            const edge *e = &f->e[k];
            if (e->kind != E_CALL) continue;
            bool known = false;
            if (!gz_work(g, n_c + 1)) return false;
            for (int j = 0; j < n_c; j++)
                known |= c[j].rule == e->rule && c[j].min == e->min && c[j].max == e->max;
            if (known) continue;
            if (!gz_room(g, &c, n_c, &cap, sizeof *c)) return false;
            c[n_c++] = (bcall){ e->rule, e->min, e->max, 0 };
        }
    for (int j = 0; j < n_c; j++) {
        s->n_set = 0;
        s->stamp++;
        for (int i = 0; i < n; i++)
            for (int32_t k = f->head[list[i]]; k >= 0; k = f->e[k].next) {
                const edge *e = &f->e[k];
                if (!gz_work(g, 1)) return false;
                if (e->kind != E_CALL || e->rule != c[j].rule || e->min != c[j].min ||
                    e->max != c[j].max || s->mark[e->to] == s->stamp) continue;
                s->mark[e->to] = s->stamp;
                s->set[s->n_set++] = (int32_t)e->to;
            }
        c[j].to = subset_node(s);
        if (!c[j].to) return false;
    }
    s->d->node[q].c = c, s->d->node[q].n_c = n_c;
    return true;
}

static bool determine(nfa *f, uint32_t start, uint32_t end, uint32_t *first)
{
    gctx *g = f->g;
    subset s = { .f = f, .d = f->d, .base = (uint32_t)f->d->n, .end = end };
    s.mark = gz_take(g, (size_t)f->n * sizeof *s.mark);
    s.set = gz_take(g, ((size_t)f->n + 1) * sizeof *s.set);
    if (!s.mark || !s.set || !gz_room(g, &s.at, 0, &s.cap_at, sizeof *s.at)) return false;
    s.at[0] = 0, s.set[0] = (int32_t)start, s.n_set = 1;
    *first = subset_node(&s);
    if (!*first) return false;
    for (uint32_t q = s.base; q < (uint32_t)f->d->n; q++) {
        int32_t from = s.at[q - s.base], n = s.at[q - s.base + 1] - from;
        int32_t *list = gz_take(g, ((size_t)n + 1) * sizeof *list);     /* the pool may move */
        if (!list) return false;
        if (n) memcpy(list, s.pool + from, (size_t)n * sizeof *list);
        if (!byte_edges(&s, q, list, n) || !call_edges(&s, q, list, n)) return false;
    }
    return true;
}

/* ---- all rules, then tables ---- */

static bool start_room(draft *d, int *cap)
{
    while (*cap < d->g->n_rules) {
        int n = *cap ? *cap * 2 : 64;
        uint32_t *p = gz_take(d->g, (size_t)n * sizeof *p);
        if (!p) return false;
        if (*cap) memcpy(p, d->start, (size_t)*cap * sizeof *p);
        d->start = p, *cap = n;
    }
    return true;
}

static int compile_rules(draft *d, int root)
{
    gctx *g = d->g;
    nfa f = { .d = d, .g = g };
    int32_t *todo = NULL;
    int n_todo = 0, cap_todo = 0, cap_start = 0;
    d->n = 2;
    if (!gz_room(g, &d->node, 0, &d->cap, sizeof *d->node) ||
        !gz_room(g, &todo, 0, &cap_todo, sizeof *todo)) return g->rc;
    d->node[0] = d->node[1] = (bnode){ .cost = UINT64_MAX, .best = -1 };
    todo[n_todo++] = root;
    for (int i = 0; i < n_todo && !g->rc; i++) {
        if (!start_room(d, &cap_start)) return g->rc;
        int rule = todo[i];
        if (d->start[rule]) continue;
        if (!g->rule[rule]) return gz_fail(g, DR_EFORMAT, "the rule %s is used but not given", g->rule_name[rule]);
        f.n = f.n_e = f.depth = 0;
        if (!size_room(&f)) return g->rc;
        uint32_t in = node(&f), out = build(&f, g->rule[rule], in), first, before = (uint32_t)d->n;
        if (g->rc || !determine(&f, in, out, &first)) return g->rc;
        if (!start_room(d, &cap_start)) return g->rc;          /* repetitions became rules */
        d->start[rule] = first;
        for (uint32_t q = before; q < (uint32_t)d->n; q++)
            for (int k = 0; k < d->node[q].n_c; k++) {
                if (d->start[d->node[q].c[k].rule]) continue;
                if (!gz_room(g, &todo, n_todo, &cap_todo, sizeof *todo)) return g->rc;
                todo[n_todo++] = d->node[q].c[k].rule;
            }
    }
    return g->rc;
}

/* Edges into what cannot end, and bytes that no token is, go. */
static void prune(draft *d)
{
    for (int q = 0; q < d->n; q++) {
        bnode *x = &d->node[q];
        int n = 0;
        for (int i = 0; i < x->n_r; i++)
            if (d->node[x->r[i].to].cost != UINT64_MAX) {
                if (x->best == i) x->best = n;
                x->r[n++] = x->r[i];
            }
        int had = x->n_r;
        x->n_r = n, n = 0;
        int32_t best = x->best;
        for (int i = 0; i < x->n_c; i++) {
            uint64_t start = d->node[d->start[x->c[i].rule]].cost;
            bool never = start == UINT64_MAX && x->c[i].min > 0;
            if (start == UINT64_MAX) x->c[i].max = 0;
            if (never || d->node[x->c[i].to].cost == UINT64_MAX) continue;
            if (x->best == had + i) best = x->n_r + n;
            x->c[n++] = x->c[i];
        }
        x->best = best, x->n_c = n;
    }
}

static bool can_be_empty(const draft *d, int rule) { return d->node[d->start[rule]].cost == 0; }

/* Rules that call themselves before any byte, and counted rules that may be empty, have no end. */
static int check_loops(draft *d)
{
    gctx *g = d->g;
    int n = g->n_rules;
    uint8_t *seen = gz_take(g, (size_t)d->n);               /* 1: on the way, 2: done */
    uint32_t *way = gz_take(g, ((size_t)d->n + 1) * sizeof *way);
    int32_t *edge_at = gz_take(g, ((size_t)d->n + 1) * sizeof *edge_at);
    int *rule_of = gz_take(g, (size_t)d->n * sizeof *rule_of);
    if (!seen || !way || !edge_at || !rule_of) return g->rc;
    for (int r = 0; r < n; r++)
        if (d->start[r]) rule_of[d->start[r]] = r + 1;
    for (int q = 0; q < d->n; q++)
        for (int k = 0; k < d->node[q].n_c; k++) {
            const bcall *c = &d->node[q].c[k];
            if ((c->min != 1 || c->max != 1) && c->max && can_be_empty(d, c->rule))
                return gz_fail(g, DR_EUNSUPPORTED, "%s repeats, a counted number of times, what "
                               "may be empty", g->what);
        }
    /* Depth first over nodes: a call leads to its rule's start and, past what may be empty, to its
     * target. Only a cycle through a rule's start grows the stack. */
    for (int r = 0; r < n; r++) {
        if (!d->start[r] || seen[d->start[r]]) continue;
        int top = 0;
        way[0] = d->start[r], edge_at[0] = 0, seen[way[0]] = 1;
        while (top >= 0) {
            if (!gz_work(g, 1)) return g->rc;
            bnode *x = &d->node[way[top]];
            int k = edge_at[top]++;
            if (k >= 2 * x->n_c) {
                seen[way[top--]] = 2;
                continue;
            }
            const bcall *c = &x->c[k / 2];
            if (c->max == 0 && k % 2 == 0) continue;
            if (k % 2 && !(c->min == 0 || can_be_empty(d, c->rule))) continue;
            uint32_t to = k % 2 ? c->to : d->start[c->rule];
            if (seen[to] == 2) continue;
            if (seen[to] == 1) {                             /* a cycle: through a call? */
                int i = top;
                bool grows = k % 2 == 0;
                for (; way[i] != to; i--) grows |= (edge_at[i - 1] - 1) % 2 == 0;
                if (!grows) continue;
                int name = 0;
                for (int j = top; j >= i; j--)
                    if (rule_of[way[j]]) name = rule_of[way[j]];
                return gz_fail(g, DR_EUNSUPPORTED, "%s is left-recursive: the rule %s begins with "
                               "itself", g->what, name ? g->rule_name[name - 1] : "root");
            }
            seen[to] = 1;
            way[++top] = to, edge_at[top] = 0;
        }
    }
    return DR_OK;
}

/* Bytes that all nodes treat alike share a column. */
static int columns(const draft *d, grammar *c, uint8_t *byte_of)
{
    uint64_t sign[256] = { 0 };
    for (int q = 0; q < d->n; q++)
        for (int i = 0; i < d->node[q].n_r; i++) {
            const brange *r = &d->node[q].r[i];
            uint64_t h = ((uint64_t)q << 32 | r->to) * 0x9e3779b97f4a7c15u;
            h = (h ^ h >> 31) * 0xbf58476d1ce4e5b9u;
            for (int b = r->lo; b <= r->hi; b++) sign[b] += h ^ h >> 29;
        }
    int n = 0;
    for (int b = 0; b < 256; b++) {
        int k = 0;
        while (k < n && sign[byte_of[k]] != sign[b]) k++;
        if (k == n) byte_of[n++] = (uint8_t)b;
        c->cls[b] = (uint8_t)k;
    }
    return n;
}

static grammar *tables(draft *d, const vtrie *v, dr_err *e)
{
    gctx *g = d->g;
    uint8_t byte_of[256];
    grammar *c = mem_zalloc(1, sizeof *c);
    if (!c) return err_nomem(e, sizeof *c, g->what), NULL;
    atomic_init(&c->held, 1);
    c->v = v;
    c->n_nodes = (uint32_t)d->n;
    c->n_cls = columns(d, c, byte_of);
    size_t cells = (size_t)d->n * (size_t)c->n_cls, calls = 0;
    for (int q = 0; q < d->n; q++) calls += (size_t)d->node[q].n_c;
    if (cells > GRAM_MAX_CELLS) {
        err_set(e, DR_EUNSUPPORTED, "%s is too large: a table of %zu cells, %d are possible",
                g->what, cells, (int)GRAM_MAX_CELLS);
        goto fail;
    }
    c->next = mem_zalloc(cells, sizeof *c->next);
    c->flag = mem_zalloc((size_t)d->n, 1);
    c->call_at = mem_zalloc((size_t)d->n + 1, sizeof *c->call_at);
    c->call = mem_zalloc(calls + 1, sizeof *c->call);
    c->tokens = mem_zalloc((size_t)d->n, sizeof *c->tokens);
    c->height = mem_zalloc((size_t)d->n, sizeof *c->height);
    c->plain = mem_zalloc((size_t)d->n, sizeof *c->plain);
    c->bytes = cells * 4 + (size_t)d->n * 23 + calls * sizeof *c->call;
    if (!c->next || !c->flag || !c->call_at || !c->call || !c->tokens || !c->height || !c->plain) {
        err_nomem(e, c->bytes, g->what);
        goto fail;
    }
    uint32_t n = 0;
    for (int q = 0; q < d->n; q++) {
        const bnode *x = &d->node[q];
        c->flag[q] = (uint8_t)((x->final ? NODE_FINAL : 0) | (x->n_c ? NODE_CALLS : 0) |
                               (x->n_r ? NODE_BYTES : 0));
        for (int k = 0; k < c->n_cls; k++)
            for (int i = 0; i < x->n_r; i++)
                if (x->r[i].lo <= byte_of[k] && x->r[i].hi >= byte_of[k])
                    c->next[(size_t)q * (size_t)c->n_cls + (size_t)k] = x->r[i].to;
        c->call_at[q] = n;
        for (int i = 0; i < x->n_c; i++) {
            const bcall *b = &x->c[i];
            gcall *to = &c->call[n++];
            *to = (gcall){ d->start[b->rule], b->to, b->min, b->max, 0 };
            if (b->min != 1 || b->max != 1) to->flags = CALL_COUNTED;
            if (to->flags && b->rule == g->str_rule) to->flags |= CALL_CHARS;
            const bnode *t = &d->node[b->to];
            if (!to->flags && t->final && !t->n_r && !t->n_c) to->flags = CALL_TAIL;
        }
    }
    c->call_at[d->n] = n;
    return c;
fail:
    grammar_free(c);
    return NULL;
}

grammar *grammar_new(grammar_kind k, span s, const vtrie *v, dr_err *e)
{
    static const struct { const char *what; int (*read)(gctx *, span); size_t max; } by[] = {
        [GRAMMAR_GBNF] = { "the grammar", gbnf_read, 4 << 20 },
        [GRAMMAR_SCHEMA] = { "the schema", schema_read, 4 << 20 },
        [GRAMMAR_REGEX] = { "the regular expression", regex_read, 1 << 20 },
    };
    gctx g;
    grammar *c = NULL;
    dr_err own = {0};
    gctx_init(&g, by[k].what, &own);
    if (s.n > by[k].max) {
        err_set(e, DR_EUNSUPPORTED, "%s has %zu bytes; at most %zu are taken", by[k].what, s.n,
                by[k].max);
        return NULL;
    }
    int root = by[k].read(&g, s);
    draft d = { .g = &g, .v = v };
    if (!g.rc && !compile_rules(&d, root) && !gram_costs(&d, d.start[root])) {
        prune(&d);
        if (!check_loops(&d)) c = tables(&d, v, &own);
    }
    if (c) {
        c->start = d.start[root];
        if (gram_tokens(&d, c)) {
            grammar_free(c);
            c = NULL;
        } else {
            gram_plain(c);
        }
    }
    if (!c) err_set(e, own.code ? own.code : DR_EINVAL, "%s", own.msg);
    gctx_free(&g);
    return c;
}

grammar *grammar_hold(grammar *c)
{
    atomic_fetch_add_explicit(&c->held, 1, memory_order_relaxed);
    return c;
}

void grammar_free(grammar *c)
{
    if (!c || atomic_fetch_sub_explicit(&c->held, 1, memory_order_acq_rel) > 1) return;
    mem_free(c->next);
    mem_free(c->flag);
    mem_free(c->call_at);
    mem_free(c->call);
    mem_free(c->tokens);
    mem_free(c->height);
    mem_free(c->plain);
    mem_free(c);
}

uint32_t grammar_shortest(const grammar *g) { return g->tokens[g->start]; }
size_t grammar_bytes(const grammar *g) { return g->bytes; }
const vtrie *grammar_vtrie(const grammar *g) { return g->v; }
