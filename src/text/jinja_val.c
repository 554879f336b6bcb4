/* jinja_val.c - what a template computes with: Python's values, as far as templates meet them. */
#include <math.h>
#include <stdarg.h>
#include "base/mem.h"
#include "text/jinja_priv.h"
#include "text/utf8.h"

enum { BLOCK = 64 << 10, FEW = 8 };

/* ---- memory and failure */

void *jmem_take(jmem *m, size_t n)
{
    n = (n + 15) & ~(size_t)15;
    jblock *b = m->first;
    if (!b || b->cap - b->used < n) {
        size_t cap = n > BLOCK / 4 ? n : BLOCK;
        if (n > m->max || m->total + cap > m->max) return NULL;
        jblock *fresh = mem_alloc(sizeof *b + 16 + cap);
        if (!fresh) return NULL;
        *fresh = (jblock){ .cap = cap };
        m->total += cap;
        if (b && cap == n) {                    /* a block of its own; the first goes on */
            fresh->next = b->next, b->next = fresh;
        } else {
            fresh->next = b, m->first = fresh;
        }
        b = fresh;
    }
    char *p = (char *)(((uintptr_t)(b + 1) + 15) & ~(uintptr_t)15) + b->used;
    b->used += n;
    return p;
}

void jmem_free(jmem *m)
{
    for (jblock *b = m->first, *next; b; b = next) {
        next = b->next;
        mem_free(b);
    }
    m->first = NULL, m->total = 0;
}

jv jfail(jrt *rt, int code, const char *fmt, ...)
{
    char s[400];
    va_list ap;
    if (!rt->rc) {
        va_start(ap, fmt);
        vsnprintf(s, sizeof s, fmt, ap);
        va_end(ap);
        rt->rc = err_set(rt->e, code, "line %d of the chat template: %s", rt->line, s);
    }
    return (jv){ .kind = J_NONE };
}

void *jtake(jrt *rt, size_t n)
{
    void *p = rt->rc ? NULL : jmem_take(&rt->mem, n);
    if (p || rt->rc) return p;
    if (rt->mem.total + n + BLOCK > rt->mem.max)
        jfail(rt, DR_EUNSUPPORTED, "more than %zu MB of memory are wanted", rt->mem.max >> 20);
    else rt->rc = err_nomem(rt->e, n, "a chat template's values");
    return NULL;
}

bool jspend(jrt *rt, uint64_t steps)
{
    if (rt->rc) return false;
    if (rt->fuel >= steps) {
        rt->fuel -= steps;
        return true;
    }
    jfail(rt, DR_EUNSUPPORTED, "the template takes too many steps");
    return false;
}

/* ---- undefined */

jv jundef_why(jrt *rt, bool unsafe, const char *fmt, ...)
{
    char s[300];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(s, sizeof s, fmt, ap);
    va_end(ap);
    if (n >= (int)sizeof s) n = sizeof s - 1;
    jundef *u = jtake(rt, sizeof *u);
    char *why = jtake(rt, (size_t)n + 1);
    if (!u || !why) return jv_none();
    memcpy(why, s, (size_t)n + 1);
    *u = (jundef){ why, unsafe };
    return (jv){ .kind = J_UNDEF, .undef = u };
}

jv jundef_named(jrt *rt, span name)
{
    return jundef_why(rt, false, "'" SPAN_FMT "' is undefined", SPAN_ARG(name));
}

jv jundef_of(jrt *rt, jv obj, jv name)
{
    const char *t = obj.kind == J_NONE ? "None" : jtype(obj);
    const char *what = obj.kind == J_NONE ? "" : " object";
    if (jis_str(name)) {
        span s = { name.s->p, name.s->n };
        return jundef_why(rt, false, "'%s%s' has no attribute '" SPAN_FMT "'", t, what, SPAN_ARG(s));
    }
    if (name.kind == J_INT)
        return jundef_why(rt, false, "%s%s has no element %lld", t, what, (long long)name.i);
    return jundef_why(rt, false, "%s%s has no such element", t, what);
}

jv juse_undef(jrt *rt, jv v) { return jfail(rt, DR_EINVAL, "%s", v.undef->why); }

const char *jtype(jv v)
{
    static const char *const name[] = {
        [J_MISSING] = "missing", [J_UNDEF] = "Undefined", [J_NONE] = "NoneType",
        [J_BOOL] = "bool", [J_INT] = "int", [J_BIG] = "int", [J_FLOAT] = "float", [J_STR] = "str",
        [J_LIST] = "list", [J_TUPLE] = "tuple", [J_DICT] = "dict", [J_VIEW] = "dict view",
        [J_RANGE] = "range", [J_ITER] = "generator", [J_NS] = "Namespace",
        [J_LOOP] = "LoopContext", [J_MACRO] = "Macro", [J_FN] = "function",
        [J_METHOD] = "builtin_function_or_method" };
    if (v.kind == J_STR && v.s->safe) return "Markup";
    return name[v.kind];
}

/* ---- strings */

jstr *jstr_new(jrt *rt, const char *p, size_t n, bool in)
{
    jstr *s = jtake(rt, sizeof *s);
    char *text = jtake(rt, n + 1);
    if (!s || !text || !jspend(rt, n / 64)) return NULL;
    if (n) memcpy(text, p, n);
    text[n] = 0;
    *s = (jstr){ .p = text, .n = n, .in = in, .chars = -1 };
    return s;
}

jstr *jstr_sub(jrt *rt, const jstr *s, size_t at, size_t n)
{
    jstr *r = jtake(rt, sizeof *r);
    if (!r) return NULL;
    *r = (jstr){ .p = s->p + at, .n = n, .mark = s->mark ? s->mark + at : NULL, .in = s->in,
                 .safe = s->safe, .chars = s->chars == (int64_t)s->n ? (int64_t)n : -1 };
    return r;
}

int64_t jstr_chars(jrt *rt, jstr *s)
{
    if (s->chars >= 0) return s->chars;
    int64_t n = 0;
    for (size_t i = 0; i < s->n; i++) n += !jcont(s->p[i]);
    jspend(rt, s->n / 64);
    return s->chars = n;
}

size_t jstr_at(const jstr *s, int64_t ch)
{
    if (s->chars == (int64_t)s->n) return (size_t)ch;
    size_t i = 0;
    for (;; i++) {
        if (i == s->n) return i;
        if (!jcont(s->p[i]) && ch-- == 0) return i;
    }
}

/* ---- lists and dicts */

jlist *jlist_new(jrt *rt, size_t n)
{
    jlist *l = jtake(rt, sizeof *l);
    if (!l || !jspend(rt, n / 16)) return NULL;
    if (n > SIZE_MAX / 64) return NULL;
    *l = (jlist){ .v = jtake(rt, n * sizeof *l->v + 1), .n = n };
    return l->v ? l : NULL;
}

jv jlist_v(jkind k, jlist *l) { return l ? (jv){ .kind = k, .list = l } : jv_none(); }

void jlist_add(jrt *rt, jlist *l, size_t *cap, jv v)
{
    if (rt->rc) return;
    if (l->n >= *cap) {
        size_t more = *cap < 4 ? 8 : *cap * 2;
        jv *p = jtake(rt, more * sizeof *p);
        if (!p) return;
        if (l->n) memcpy(p, l->v, l->n * sizeof *p);
        l->v = p, *cap = more;
    }
    l->v[l->n++] = v;
}

jv jtuple2(jrt *rt, jv a, jv b)
{
    jlist *l = jlist_new(rt, 2);
    if (!l) return jv_none();
    l->v[0] = a, l->v[1] = b;
    return jlist_v(J_TUPLE, l);
}

static bool hashable(jv v, int depth)
{
    if (v.kind == J_LIST || v.kind == J_DICT || depth > 100) return false;
    if (v.kind == J_VIEW && v.sub != 1) return false;
    if (v.kind == J_TUPLE)
        for (size_t i = 0; i < v.list->n; i++)
            if (!hashable(v.list->v[i], depth + 1)) return false;
    return true;
}

bool jhashable(jv v) { return hashable(v, 0); }

static uint64_t mix(uint64_t h) { return (h ^ h >> 29) * 0x9e3779b97f4a7c15u; }

static uint64_t hash_of(jv v)
{
    uint64_t h = v.kind;
    double f = 0;
    switch (v.kind) {
    case J_STR:
        for (size_t i = 0; i < v.s->n; i++) h = (h ^ (uint8_t)v.s->p[i]) * 1099511628211u;
        return mix(h);
    case J_BOOL: f = v.b; break;
    case J_INT: f = (double)v.i; break;
    case J_FLOAT: f = v.f; break;
    case J_TUPLE:
        for (size_t i = 0; i < v.list->n; i++) h = mix(h ^ hash_of(v.list->v[i]));
        return h;
    default: return mix(h);
    }
    f += 0.0;                                   /* -0.0 is 0.0 */
    memcpy(&h, &f, sizeof h);
    return mix(h);
}

jdict *jdict_new(jrt *rt, size_t cap)
{
    jdict *d = jtake(rt, sizeof *d);
    if (!d) return NULL;
    *d = (jdict){ .cap = cap };
    if (!cap) return d;
    d->key = jtake(rt, cap * sizeof *d->key);
    d->val = jtake(rt, cap * sizeof *d->val);
    return d->key && d->val ? d : NULL;
}

static bool index_dict(jrt *rt, jdict *d)
{
    size_t n = 4 * FEW;
    while (n < d->cap * 2) n *= 2;
    d->slot = jtake(rt, n * sizeof *d->slot);
    if (!d->slot) return false;
    memset(d->slot, 0, n * sizeof *d->slot);
    d->n_slot = n;
    for (size_t i = 0; i < d->n; i++) {
        uint64_t h = hash_of(d->key[i]) >> 20;
        while (d->slot[h & (n - 1)]) h++;
        d->slot[h & (n - 1)] = (uint32_t)i + 1;
    }
    return jspend(rt, d->n / 4);
}

/* Index of the key; -1: none. */
static int64_t find(jrt *rt, const jdict *d, jv k)
{
    if (d->slot) {
        uint32_t i;
        for (uint64_t h = hash_of(k) >> 20; (i = d->slot[h & (d->n_slot - 1)]); h++)
            if (jequal(rt, d->key[i - 1], k)) return i - 1;
        return -1;
    }
    for (size_t i = 0; i < d->n; i++)
        if (jequal(rt, d->key[i], k)) return (int64_t)i;
    return -1;
}

void jdict_put(jrt *rt, jdict *d, jv k, jv v)
{
    if (rt->rc || !jspend(rt, 1)) return;
    if (!jhashable(k)) {
        jfail(rt, DR_EINVAL, "unhashable type: '%s'", jtype(k));
        return;
    }
    int64_t at = find(rt, d, k);
    if (at >= 0) {
        d->val[at] = v;
        return;
    }
    if (d->n == d->cap) {
        size_t cap = d->cap < FEW ? FEW : d->cap * 2;
        jv *key = jtake(rt, cap * sizeof *key), *val = jtake(rt, cap * sizeof *val);
        if (!key || !val || cap > UINT32_MAX) return;
        if (d->n) {
            memcpy(key, d->key, d->n * sizeof *key);
            memcpy(val, d->val, d->n * sizeof *val);
        }
        d->key = key, d->val = val, d->cap = cap;
        d->slot = NULL;
    }
    d->key[d->n] = k, d->val[d->n] = v;
    d->n++;
    if (!d->slot) {
        if (d->n > FEW) index_dict(rt, d);
        return;
    }
    uint64_t h = hash_of(k) >> 20;
    while (d->slot[h & (d->n_slot - 1)]) h++;
    d->slot[h & (d->n_slot - 1)] = (uint32_t)d->n;
}

jv *jdict_get(jrt *rt, const jdict *d, jv k)
{
    int64_t at = jhashable(k) ? find(rt, d, k) : -1;
    return at >= 0 ? &d->val[at] : NULL;
}

jv *jdict_gets(const jdict *d, const char *k)
{
    for (size_t i = 0; i < d->n; i++)
        if (d->key[i].kind == J_STR && span_is((span){ d->key[i].s->p, d->key[i].s->n }, k))
            return &d->val[i];
    return NULL;
}

jv jview_at(jrt *rt, jv view, size_t i)
{
    const jdict *d = view.dict;
    if (view.sub == 0) return d->key[i];
    return view.sub == 1 ? d->val[i] : jtuple2(rt, d->key[i], d->val[i]);
}

/* ---- comparing */

/* Integers and reals exactly, whatever their size: -1 0 1; 2: NaN. */
static int order_num(jv a, jv b)
{
    if (a.kind == J_BIG || b.kind == J_BIG) {
        bool an = a.kind == J_BIG && a.s->p[0] == '-', bn = b.kind == J_BIG && b.s->p[0] == '-';
        if (a.kind != J_BIG) return bn ? 1 : -1;
        if (b.kind != J_BIG) return an ? -1 : 1;
        if (an != bn) return an ? -1 : 1;
        int c = a.s->n != b.s->n ? (a.s->n < b.s->n ? -1 : 1) : memcmp(a.s->p, b.s->p, a.s->n);
        c = c < 0 ? -1 : c > 0;
        return an ? -c : c;
    }
    if (a.kind != J_FLOAT && b.kind != J_FLOAT) {
        int64_t x = a.kind == J_BOOL ? a.b : a.i, y = b.kind == J_BOOL ? b.b : b.i;
        return x < y ? -1 : x > y;
    }
    if (a.kind == J_FLOAT && b.kind == J_FLOAT) {
        if (isnan(a.f) || isnan(b.f)) return 2;
        return a.f < b.f ? -1 : a.f > b.f;
    }
    if (a.kind == J_FLOAT) {
        int c = order_num(b, a);
        return c == 2 ? 2 : -c;
    }
    int64_t i = a.kind == J_BOOL ? a.b : a.i;
    if (isnan(b.f)) return 2;
    if (b.f >= 9223372036854775808.0) return -1;
    if (b.f < -9223372036854775808.0) return 1;
    int64_t whole = (int64_t)b.f;
    if (i != whole) return i < whole ? -1 : 1;
    double rest = b.f - (double)whole;
    return rest > 0 ? -1 : rest < 0;
}

static bool too_deep(jrt *rt)
{
    if (rt->depth < JINJA_MAX_CALLS + JINJA_MAX_NESTED) return false;
    jfail(rt, DR_EUNSUPPORTED, "values nested too deeply");
    return true;
}

static bool equal_lists(jrt *rt, const jlist *a, const jlist *b)
{
    if (a->n != b->n) return false;
    for (size_t i = 0; i < a->n; i++)
        if (!jequal(rt, a->v[i], b->v[i])) return false;
    return true;
}

static bool equal_dicts(jrt *rt, const jdict *a, const jdict *b)
{
    if (a->n != b->n) return false;
    for (size_t i = 0; i < a->n; i++) {
        jv *v = jdict_get(rt, b, a->key[i]);
        if (!v || !jequal(rt, a->val[i], *v)) return false;
    }
    return true;
}

bool jequal(jrt *rt, jv a, jv b)
{
    bool yes = false;
    if (!jspend(rt, 1)) return false;
    if (jis_num(a) && jis_num(b)) return order_num(a, b) == 0;
    if (a.kind != b.kind || too_deep(rt)) return false;
    rt->depth++;
    switch (a.kind) {
    case J_STR:
        yes = a.s->n == b.s->n && !memcmp(a.s->p, b.s->p, a.s->n);
        jspend(rt, a.s->n / 256);
        break;
    case J_NONE: case J_UNDEF: case J_MISSING: yes = true; break;
    case J_LIST: case J_TUPLE: yes = equal_lists(rt, a.list, b.list); break;
    case J_DICT: yes = equal_dicts(rt, a.dict, b.dict); break;
    case J_RANGE:
        yes = a.range->n == b.range->n
           && (!a.range->n || (a.range->start == b.range->start
                               && (a.range->n == 1 || a.range->step == b.range->step)));
        break;
    case J_FN: yes = a.sub == b.sub; break;
    default: yes = a.list == b.list && a.sub == b.sub; break;
    }
    rt->depth--;
    return yes;
}

int jorder(jrt *rt, jv a, jv b, const char *op)
{
    if (!jspend(rt, 1)) return 0;
    if (a.kind == J_UNDEF) return juse_undef(rt, a), 0;
    if (b.kind == J_UNDEF) return juse_undef(rt, b), 0;
    if (jis_num(a) && jis_num(b)) return order_num(a, b);
    if (jis_str(a) && jis_str(b)) {
        size_t n = a.s->n < b.s->n ? a.s->n : b.s->n;
        int c = n ? memcmp(a.s->p, b.s->p, n) : 0;
        jspend(rt, n / 256);
        return c ? (c < 0 ? -1 : 1) : a.s->n < b.s->n ? -1 : a.s->n > b.s->n;
    }
    if (a.kind == b.kind && (a.kind == J_LIST || a.kind == J_TUPLE)) {
        if (too_deep(rt)) return 0;
        size_t n = a.list->n < b.list->n ? a.list->n : b.list->n;
        for (size_t i = 0; i < n && !rt->rc; i++) {
            if (jequal(rt, a.list->v[i], b.list->v[i])) continue;
            rt->depth++;
            int c = jorder(rt, a.list->v[i], b.list->v[i], op);
            rt->depth--;
            return c;
        }
        return a.list->n < b.list->n ? -1 : a.list->n > b.list->n;
    }
    jfail(rt, DR_EINVAL, "'%s' not supported between instances of '%s' and '%s'", op, jtype(a),
          jtype(b));
    return 0;
}

bool jtruth(jrt *rt, jv v)
{
    switch (v.kind) {
    case J_MISSING: case J_UNDEF: case J_NONE: return false;
    case J_BOOL: return v.b;
    case J_INT: return v.i != 0;
    case J_FLOAT: return v.f != 0;
    case J_STR: case J_LIST: case J_TUPLE: case J_DICT: case J_VIEW: case J_RANGE: case J_LOOP:
        return jlen(rt, v) > 0;
    default: return true;
    }
}

/* ---- iterating */

static int64_t loop_length(jrt *rt, jloop *l);

int64_t jlen(jrt *rt, jv v)
{
    switch (v.kind) {
    case J_UNDEF: return 0;
    case J_STR: return jstr_chars(rt, v.s);
    case J_LIST: case J_TUPLE: return (int64_t)v.list->n;
    case J_DICT: case J_VIEW: return (int64_t)v.dict->n;
    case J_RANGE: return v.range->n;
    case J_LOOP: return loop_length(rt, v.loop);
    default: return -1;
    }
}

jiter *jiter_new(jrt *rt, bool (*next)(jrt *, jiter *, jv *), jv over)
{
    jiter *it = jtake(rt, sizeof *it);
    if (!it) return NULL;
    *it = (jiter){ .next = next, .over = over };
    return it;
}

static bool next_list(jrt *rt, jiter *it, jv *v)
{
    (void)rt;
    const jlist *l = it->over.list;
    if (it->i >= l->n) return false;
    *v = it->rev ? l->v[l->n - 1 - it->i] : l->v[it->i];
    it->i++;
    return true;
}

static bool next_char(jrt *rt, jiter *it, jv *v)
{
    const jstr *s = it->over.s;
    if (it->i >= s->n) return false;
    int n;
    utf8_get((const uint8_t *)s->p + it->i, (const uint8_t *)s->p + s->n, &n);
    jstr *c = jstr_sub(rt, s, it->i, (size_t)n);
    if (!c) return false;
    c->safe = false;
    *v = jv_s(c);
    it->i += (size_t)n;
    return true;
}

static bool next_view(jrt *rt, jiter *it, jv *v)
{
    size_t n = it->over.dict->n;
    if (it->i >= n) return false;
    *v = jview_at(rt, it->over, it->rev ? n - 1 - it->i : it->i);
    it->i++;
    return !rt->rc;
}

static bool next_range(jrt *rt, jiter *it, jv *v)
{
    (void)rt;
    const jrange *r = it->over.range;
    if ((int64_t)it->i >= r->n) return false;
    int64_t i = it->rev ? r->n - 1 - (int64_t)it->i : (int64_t)it->i;
    *v = jv_int(r->start + i * r->step);
    it->i++;
    return true;
}

static bool next_none(jrt *rt, jiter *it, jv *v)
{
    (void)rt, (void)it, (void)v;
    return false;
}

bool jiterable(jv v)
{
    switch (v.kind) {
    case J_UNDEF: case J_STR: case J_LIST: case J_TUPLE: case J_DICT: case J_VIEW: case J_RANGE:
    case J_ITER: case J_LOOP: return true;
    default: return false;
    }
}

jiter *jiterate(jrt *rt, jv v)
{
    if (rt->rc) return NULL;
    switch (v.kind) {
    case J_UNDEF: return jiter_new(rt, next_none, v);
    case J_STR: return jiter_new(rt, next_char, v);
    case J_LIST: case J_TUPLE: return jiter_new(rt, next_list, v);
    case J_DICT: return jiter_new(rt, next_view, (jv){ .kind = J_VIEW, .dict = v.dict });
    case J_VIEW: return jiter_new(rt, next_view, v);
    case J_RANGE: return jiter_new(rt, next_range, v);
    case J_ITER: return v.iter;
    default:
        jfail(rt, v.kind == J_LOOP ? DR_EUNSUPPORTED : DR_EINVAL, "'%s' object is not iterable",
              jtype(v));
        return NULL;
    }
}

jlist *jcollect(jrt *rt, jv v)
{
    if (v.kind == J_LIST || v.kind == J_TUPLE) return v.list;
    int64_t n = v.kind == J_ITER ? 0 : jlen(rt, v);
    jlist *l = jlist_new(rt, n > 0 ? (size_t)n : 0);
    jiter *it = l ? jiterate(rt, v) : NULL;
    size_t cap = l ? l->n : 0;
    jv x;
    if (!it) return NULL;
    l->n = 0;
    while (jspend(rt, 1) && it->next(rt, it, &x)) jlist_add(rt, l, &cap, x);
    return rt->rc ? NULL : l;
}

/* What is left counts once; the loop goes on over the list of it. */
static int64_t loop_length(jrt *rt, jloop *l)
{
    if (l->length >= 0) return l->length;
    int64_t n = l->over.kind == J_ITER ? -1 : jlen(rt, l->over);
    if (n < 0) {
        jlist *rest = jcollect(rt, (jv){ .kind = J_ITER, .iter = l->it });
        if (!rest) return 0;
        l->it = jiterate(rt, jlist_v(J_LIST, rest));
        n = (int64_t)rest->n + l->index0 + 1 + (l->after.kind != J_MISSING);
    }
    return l->length = n;
}

bool jin(jrt *rt, jv item, jv box)
{
    if (box.kind == J_STR) {
        if (item.kind != J_STR) {
            if (item.kind == J_UNDEF) return juse_undef(rt, item), false;
            return jfail(rt, DR_EINVAL, "'in <string>' requires string as left operand, not %s",
                         jtype(item)), false;
        }
        const jstr *s = box.s, *f = item.s;
        jspend(rt, s->n / 16);
        for (size_t i = 0; i + f->n <= s->n; i++) {
            const char *at = f->n ? memchr(s->p + i, f->p[0], s->n - f->n - i + 1) : s->p;
            if (!at) return false;
            i = (size_t)(at - s->p);
            if (!f->n || !memcmp(at, f->p, f->n)) return true;
        }
        return false;
    }
    if (box.kind == J_DICT || (box.kind == J_VIEW && box.sub == 0)) {
        if (!jhashable(item)) return jfail(rt, DR_EINVAL, "unhashable type: '%s'", jtype(item)), false;
        return jdict_get(rt, box.dict, item) != NULL;
    }
    if (!jiterable(box)) {
        jfail(rt, DR_EINVAL, "argument of type '%s' is not iterable", jtype(box));
        return false;
    }
    jiter *it = jiterate(rt, box);
    jv v;
    while (it && jspend(rt, 1) && it->next(rt, it, &v))
        if (jequal(rt, v, item)) return true;
    return false;
}

/* ---- sorting: stable, vals along with keys */

void jsort(jrt *rt, jlist *keys, jlist *vals, bool reverse)
{
    size_t n = keys->n;
    size_t *a = jtake(rt, n * sizeof *a + 1), *b = jtake(rt, n * sizeof *b + 1);
    jv *out = jtake(rt, n * sizeof *out + 1);
    if (!a || !b || !out) return;
    for (size_t i = 0; i < n; i++) a[i] = i;
    for (size_t w = 1; w < n; w *= 2) {
        for (size_t lo = 0; lo < n && !rt->rc; lo += 2 * w) {
            size_t mid = lo + w < n ? lo + w : n, hi = lo + 2 * w < n ? lo + 2 * w : n;
            size_t i = lo, j = mid, k = lo;
            while (i < mid && j < hi) {
                int c = reverse ? jorder(rt, keys->v[a[i]], keys->v[a[j]], "<")
                                : jorder(rt, keys->v[a[j]], keys->v[a[i]], "<");
                b[k++] = c == -1 ? a[j++] : a[i++];
            }
            while (i < mid) b[k++] = a[i++];
            while (j < hi) b[k++] = a[j++];
        }
        if (rt->rc) return;
        size_t *swap = a;
        a = b, b = swap;
    }
    for (size_t i = 0; i < n; i++) out[i] = vals->v[a[i]];
    memcpy(vals->v, out, n * sizeof *out);
}
