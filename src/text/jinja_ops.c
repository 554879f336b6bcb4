/* jinja_ops.c - operators, attributes and items, as Python and Jinja's sandbox have them. */
#include <math.h>
#include "text/jinja_priv.h"
#include "text/utf8.h"

/* ---- strings */

static bool same_marks(const jstr *a, const jstr *b)
{
    return (!a->mark || !a->n) && (!b->mark || !b->n) && (!a->n || !b->n || a->in == b->in);
}

static void put_marks(uint8_t *m, const jstr *s)
{
    if (s->mark) memcpy(m, s->mark, s->n);
    else memset(m, s->in, s->n);
}

/* A text that grows by + again and again is copied when its room doubles, not each time. */
jstr *jjoin(jrt *rt, const jstr *a, const jstr *b)
{
    jstr *r = jtake(rt, sizeof *r);
    size_t n = a->n + b->n;
    bool same = same_marks(a, b);
    jroom *w = a->room;
    if (!r || !jspend(rt, b->n / 64)) return NULL;
    *r = (jstr){ .n = n, .in = a->n ? a->in : b->in, .chars = -1, .safe = a->safe };
    if (a->chars >= 0 && b->chars >= 0) r->chars = a->chars + b->chars;
    if (!w || w->p != a->p || w->used != a->n || w->cap - w->used < b->n) {
        if (!jspend(rt, a->n / 64)) return NULL;
        w = jtake(rt, sizeof *w);
        if (!w) return NULL;
        *w = (jroom){ .cap = n < 128 ? n + 1 : 2 * n };
        w->p = jtake(rt, w->cap);
        if (!w->p) return NULL;
        if (a->n) memcpy(w->p, a->p, a->n);
        if (a->mark && (w->m = jtake(rt, w->cap))) memcpy(w->m, a->mark, a->n);
    }
    if (!same && !w->m) {
        w->m = jtake(rt, w->cap);
        if (w->m) put_marks(w->m, a);
    }
    if (rt->rc) return NULL;
    if (w->m && !same) put_marks(w->m + a->n, b);
    if (b->n) memcpy(w->p + a->n, b->p, b->n);
    w->used = n;
    r->p = w->p, r->mark = same ? NULL : w->m, r->room = w;
    return r;
}

jv jescape(jrt *rt, jv v)
{
    static const char from[] = "&<>'\"";
    static const char *const to[] = { "&amp;", "&lt;", "&gt;", "&#39;", "&#34;" };
    if (v.kind == J_STR && v.s->safe) return v;
    const jstr *s = jto_str(rt, v);
    jtext t = {0};
    for (size_t i = 0; s && i < s->n && !rt->rc; i++) {
        const char *at = s->p[i] ? strchr(from, s->p[i]) : NULL;
        bool in = s->mark ? s->mark[i] : s->in;
        if (at) jtext_put(rt, &t, to[at - from], strlen(to[at - from]), in);
        else jtext_put(rt, &t, s->p + i, 1, in);
    }
    jstr *r = jtext_take(rt, &t);
    if (!r) return jv_none();
    r->safe = true;
    return jv_s(r);
}

jv jconcat2(jrt *rt, jv a, jv b)
{
    bool safe = a.s->safe || b.s->safe;
    if (safe) a = jescape(rt, a), b = jescape(rt, b);
    jstr *s = rt->rc ? NULL : jjoin(rt, a.s, b.s);
    if (!s) return jv_none();
    s->safe = safe;
    return jv_s(s);
}

/* ---- arithmetic */

static const char *const sign[] = { [X_ADD] = "+", [X_SUB] = "-", [X_MUL] = "*", [X_DIV] = "/",
                                    [X_FLOORDIV] = "//", [X_MOD] = "%", [X_POW] = "** or pow()" };

static double real(jv v)
{
    return v.kind == J_FLOAT ? v.f : v.kind == J_BOOL ? (double)v.b : (double)v.i;
}

static jv zero(jrt *rt) { return jfail(rt, DR_EINVAL, "division by zero"); }

static jv big(jrt *rt) { return jfail(rt, DR_EUNSUPPORTED, "a number beyond 64 bits"); }

static jv real_op(jrt *rt, jop op, double a, double b)
{
    double m, d;
    switch (op) {
    case X_ADD: return jv_float(a + b);
    case X_SUB: return jv_float(a - b);
    case X_MUL: return jv_float(a * b);
    case X_DIV: return b == 0 ? zero(rt) : jv_float(a / b);
    case X_POW:
        if (a == 0 && b < 0) return zero(rt);
        if (a < 0 && floor(b) != b && isfinite(b))
            return jfail(rt, DR_EUNSUPPORTED, "a complex number");
        d = pow(a, b);
        if (isinf(d) && isfinite(a) && isfinite(b))
            return jfail(rt, DR_EINVAL, "a power that is too large");
        return jv_float(d);
    default: break;
    }
    if (b == 0) return zero(rt);
    m = fmod(a, b);
    d = (a - m) / b;
    if (m != 0) {
        if ((b < 0) != (m < 0)) m += b, d -= 1;
    } else {
        m = copysign(0, b);
    }
    if (op == X_MOD) return jv_float(m);
    if (d == 0) return jv_float(copysign(0, a / b));
    double whole = floor(d);
    return jv_float(d - whole > 0.5 ? whole + 1 : whole);
}

static jv int_pow(jrt *rt, int64_t a, int64_t b)
{
    int64_t r = 1;
    if (b < 0) return real_op(rt, X_POW, (double)a, (double)b);
    for (; b; b >>= 1) {
        if (b & 1 && __builtin_mul_overflow(r, a, &r)) return big(rt);
        if (b > 1 && __builtin_mul_overflow(a, a, &a)) return big(rt);
    }
    return jv_int(r);
}

static jv int_op(jrt *rt, jop op, int64_t a, int64_t b)
{
    int64_t r;
    switch (op) {
    case X_ADD: return __builtin_add_overflow(a, b, &r) ? big(rt) : jv_int(r);
    case X_SUB: return __builtin_sub_overflow(a, b, &r) ? big(rt) : jv_int(r);
    case X_MUL: return __builtin_mul_overflow(a, b, &r) ? big(rt) : jv_int(r);
    case X_DIV: return b ? jv_float((double)a / (double)b) : zero(rt);
    case X_POW: return int_pow(rt, a, b);
    default: break;
    }
    if (!b) return zero(rt);
    if (b == -1) return op == X_MOD ? jv_int(0) : a == INT64_MIN ? big(rt) : jv_int(-a);
    int64_t m = a % b, d = a / b;
    if (m && (m < 0) != (b < 0)) m += b, d--;
    return jv_int(op == X_MOD ? m : d);
}

static jv repeat(jrt *rt, jv v, int64_t n)
{
    if (n < 0) n = 0;
    if (v.kind == J_STR) {
        size_t total;
        if (__builtin_mul_overflow(v.s->n, (size_t)n, &total) || total > rt->out_max)
            return jfail(rt, DR_EUNSUPPORTED, "more than %zu MB of text", rt->out_max >> 20);
        jtext t = {0};
        for (int64_t i = 0; i < n && v.s->n && jspend(rt, 1); i++) jtext_str(rt, &t, v.s);
        jstr *s = jtext_take(rt, &t);
        if (!s) return jv_none();
        s->safe = v.s->safe;
        return jv_s(s);
    }
    size_t have = v.list->n, total;
    if (__builtin_mul_overflow(have, (size_t)n, &total) || total > (size_t)1 << 28)
        return jfail(rt, DR_EUNSUPPORTED, "a list that is too long");
    jlist *l = jlist_new(rt, total);
    if (!l || !jspend(rt, total / 16)) return jv_none();
    for (size_t i = 0; i < total; i++) l->v[i] = v.list->v[i % have];
    return jlist_v(v.kind, l);
}

static jv append(jrt *rt, jv a, jv b)
{
    jlist *l = jlist_new(rt, a.list->n + b.list->n);
    if (!l) return jv_none();
    if (a.list->n) memcpy(l->v, a.list->v, a.list->n * sizeof *l->v);
    if (b.list->n) memcpy(l->v + a.list->n, b.list->v, b.list->n * sizeof *l->v);
    return jlist_v(a.kind, l);
}

static bool whole(jv v) { return v.kind == J_INT || v.kind == J_BOOL; }
static int64_t int_of(jv v) { return v.kind == J_BOOL ? v.b : v.i; }
static bool listy(jv v) { return v.kind == J_LIST || v.kind == J_TUPLE; }

/* An argument object that was given as JSON text is that text where text is wanted. */
static jv as_text(jv v, jv other)
{
    return v.kind == J_DICT && v.dict->text && other.kind == J_STR ? jv_s(v.dict->text) : v;
}

jv jarith(jrt *rt, jop op, jv a, jv b)
{
    if (rt->rc) return jv_none();
    if (op == X_ADD) a = as_text(a, b), b = as_text(b, a);
    if (op == X_MOD && a.kind == J_STR) return jformat_percent(rt, a.s, b);
    if (a.kind == J_UNDEF) return juse_undef(rt, a);
    if (b.kind == J_UNDEF) return juse_undef(rt, b);
    if (jis_num(a) && jis_num(b)) {
        if (a.kind == J_BIG || b.kind == J_BIG) return big(rt);
        if (whole(a) && whole(b)) return int_op(rt, op, int_of(a), int_of(b));
        return real_op(rt, op, real(a), real(b));
    }
    if (op == X_ADD && a.kind == J_STR && b.kind == J_STR) return jconcat2(rt, a, b);
    if (op == X_ADD && listy(a) && a.kind == b.kind) return append(rt, a, b);
    if (op == X_MUL && whole(b) && (a.kind == J_STR || listy(a))) return repeat(rt, a, int_of(b));
    if (op == X_MUL && whole(a) && (b.kind == J_STR || listy(b))) return repeat(rt, b, int_of(a));
    if (op == X_ADD && (a.kind == J_STR || listy(a)))
        return jfail(rt, DR_EINVAL, "can only concatenate %s (not \"%s\") to %s", jtype(a), jtype(b),
                     jtype(a));
    return jfail(rt, DR_EINVAL, "unsupported operand type(s) for %s: '%s' and '%s'", sign[op],
                 jtype(a), jtype(b));
}

bool jcompare(jrt *rt, jcmp op, jv a, jv b)
{
    int c;
    switch (op) {
    case C_EQ: return jequal(rt, a, b);
    case C_NE: return !jequal(rt, a, b);
    case C_LT: return jorder(rt, a, b, "<") == -1;
    case C_LE: return (c = jorder(rt, a, b, "<=")) == -1 || c == 0;
    case C_GT: return jorder(rt, a, b, ">") == 1;
    case C_GE: return (c = jorder(rt, a, b, ">=")) == 1 || c == 0;
    case C_IN: return jin(rt, a, b);
    default: return !jin(rt, a, b);
    }
}

/* ---- attributes and items */

static jv loop_attr(jrt *rt, jloop *l, span s, bool *found)
{
    jv len = { .kind = J_LOOP, .loop = l };
    *found = true;
    if (span_is(s, "index")) return jv_int(l->index0 + 1);
    if (span_is(s, "index0")) return jv_int(l->index0);
    if (span_is(s, "first")) return jv_bool(l->index0 == 0);
    if (span_is(s, "length")) return jv_int(jlen(rt, len));
    if (span_is(s, "revindex")) return jv_int(jlen(rt, len) - l->index0);
    if (span_is(s, "revindex0")) return jv_int(jlen(rt, len) - l->index0 - 1);
    if (span_is(s, "depth")) return jv_int(l->depth0 + 1);
    if (span_is(s, "depth0")) return jv_int(l->depth0);
    bool last = span_is(s, "last"), next = span_is(s, "nextitem");
    if ((last || next) && l->after.kind == J_MISSING && !l->it->next(rt, l->it, &l->after))
        l->after = jv_missing();
    if (last) return jv_bool(l->after.kind == J_MISSING);
    if (next) return l->after.kind == J_MISSING ? jundef_why(rt, false, "there is no next item")
                                                : l->after;
    if (span_is(s, "previtem"))
        return l->index0 == 0 ? jundef_why(rt, false, "there is no previous item") : l->before;
    *found = false;
    return jv_none();
}

/* Python's getattr; *found: it has one. */
static jv attribute(jrt *rt, jv obj, jv name, bool *found)
{
    span s = { name.s->p, name.s->n };
    *found = true;
    if (obj.kind == J_NS) {
        jv *v = jdict_get(rt, &obj.ns->d, name);
        if (v) return *v;
        *found = false;
        return jv_none();
    }
    if (obj.kind == J_LOOP) {
        jv v = loop_attr(rt, obj.loop, s, found);
        if (*found) return v;
        *found = true;
    }
    if (obj.kind == J_TUPLE && obj.list->group) {
        if (span_is(s, "grouper")) return obj.list->v[0];
        if (span_is(s, "list")) return obj.list->v[1];
    }
    if (obj.kind == J_MACRO && span_is(s, "name") && obj.macro->node->op == S_MACRO)
        return obj.macro->node->v;
    if (s.n > 4 && !memcmp(s.p, "__", 2) && !memcmp(s.p + s.n - 2, "__", 2))
        return jundef_why(rt, true, "access to attribute '" SPAN_FMT "' of '%s' object is unsafe.",
                          SPAN_ARG(s), jtype(obj));
    const jmethod_row *row = jmethod_find(obj.kind, s);
    if (row && !row->fn && row->need < 0)
        return jfail(rt, DR_EUNSUPPORTED, "drover does not know the method %s of a %s", row->name,
                     jtype(obj));
    if (row && !row->fn)
        return jundef_why(rt, true, "access to attribute '" SPAN_FMT "' of '%s' object is unsafe.",
                          SPAN_ARG(s), jtype(obj));
    if (row) {
        jmethod *m = jtake(rt, sizeof *m);
        if (!m) return jv_none();
        *m = (jmethod){ obj, row };
        return (jv){ .kind = J_METHOD, .method = m };
    }
    *found = false;
    return jv_none();
}

/* Python's obj[key]; *found: it has one. */
static jv item(jrt *rt, jv obj, jv key, bool *found)
{
    *found = true;
    if (obj.kind == J_DICT) {
        jv *v = jdict_get(rt, obj.dict, key);
        if (v) return *v;
    } else if (whole(key) && (listy(obj) || obj.kind == J_STR || obj.kind == J_RANGE)) {
        int64_t n = jlen(rt, obj), i = int_of(key);
        if (i < 0) i += n;
        if (i >= 0 && i < n) {
            if (obj.kind == J_RANGE) return jv_int(obj.range->start + i * obj.range->step);
            if (listy(obj)) return obj.list->v[i];
            size_t at = jstr_at(obj.s, i);
            int len;
            jspend(rt, obj.s->chars == (int64_t)obj.s->n ? 0 : obj.s->n / 16);
            utf8_get((const uint8_t *)obj.s->p + at, (const uint8_t *)obj.s->p + obj.s->n, &len);
            jstr *s = jstr_sub(rt, obj.s, at, (size_t)len);
            return s ? jv_s(s) : jv_none();
        }
    }
    *found = false;
    return jv_none();
}

jv jgetattr(jrt *rt, jv obj, jv name)
{
    bool found;
    if (rt->rc) return jv_none();
    if (obj.kind == J_UNDEF) return juse_undef(rt, obj);
    jv v = attribute(rt, obj, name, &found);
    if (!found && !rt->rc) v = item(rt, obj, name, &found);
    return found || rt->rc ? v : jundef_of(rt, obj, name);
}

jv jgetitem(jrt *rt, jv obj, jv key)
{
    bool found;
    if (rt->rc) return jv_none();
    if (obj.kind == J_UNDEF) return juse_undef(rt, obj);
    jv v = item(rt, obj, key, &found);
    if (!found && !rt->rc && key.kind == J_STR) v = attribute(rt, obj, key, &found);
    return found || rt->rc ? v : jundef_of(rt, obj, key);
}

/* ---- slices */

static int64_t clamp(int64_t i, int64_t n, int64_t step)
{
    if (i < 0) {
        i += n;
        return i < 0 ? (step < 0 ? -1 : 0) : i;
    }
    return i >= n ? (step < 0 ? n - 1 : n) : i;
}

static jv slice_str(jrt *rt, jstr *s, int64_t lo, int64_t hi, int64_t step)
{
    if (!jspend(rt, s->chars == (int64_t)s->n ? 1 : s->n / 16)) return jv_none();
    if (step == 1) {
        size_t a = jstr_at(s, lo), b = hi > lo ? jstr_at(s, hi) : a;
        jstr *r = jstr_sub(rt, s, a, b - a);
        return r ? jv_s(r) : jv_none();
    }
    jlist *chars = jcollect(rt, jv_s(s));
    jtext t = {0};
    for (int64_t i = lo; chars && (step > 0 ? i < hi : i > hi) && !rt->rc; i += step)
        jtext_str(rt, &t, chars->v[i].s);
    jstr *r = jtext_take(rt, &t);
    if (!r) return jv_none();
    r->safe = s->safe;
    return jv_s(r);
}

jv jslice(jrt *rt, jv obj, jv lo, jv hi, jv step)
{
    jv part[3] = { lo, hi, step };
    if (rt->rc) return jv_none();
    if (obj.kind == J_UNDEF) return juse_undef(rt, obj);
    if (obj.kind == J_RANGE) return jfail(rt, DR_EUNSUPPORTED, "a slice of a range");
    if (obj.kind == J_DICT) return jfail(rt, DR_EINVAL, "unhashable type: 'slice'");
    if (!listy(obj) && obj.kind != J_STR)
        return jfail(rt, DR_EINVAL, "'%s' object is not subscriptable", jtype(obj));
    for (int i = 0; i < 3; i++)
        if (part[i].kind != J_NONE && !whole(part[i]))
            return jfail(rt, DR_EINVAL, "slice indices must be integers or None or have an "
                         "__index__ method");
    int64_t n = jlen(rt, obj), by = step.kind == J_NONE ? 1 : int_of(step);
    if (!by) return jfail(rt, DR_EINVAL, "slice step cannot be zero");
    if (by > INT32_MAX) by = INT32_MAX;
    if (by < -INT32_MAX) by = -INT32_MAX;
    int64_t a = lo.kind == J_NONE ? (by < 0 ? n - 1 : 0) : clamp(int_of(lo), n, by);
    int64_t b = hi.kind == J_NONE ? (by < 0 ? -1 : n) : clamp(int_of(hi), n, by);
    if (obj.kind == J_STR) return slice_str(rt, obj.s, a, b, by);
    int64_t count = by > 0 ? (b > a ? (b - a + by - 1) / by : 0) : (a > b ? (a - b - by - 1) / -by : 0);
    jlist *l = jlist_new(rt, (size_t)count);
    for (int64_t i = 0; l && i < count; i++) l->v[i] = obj.list->v[a + i * by];
    return jlist_v(obj.kind, l);
}
