/* jinja_text.c - values as text: Python's str(), repr() and json.dumps(). Text is bytes with a mark
 * each: did it come in with a variable? */
#include <math.h>
#include "base/mem.h"
#include "text/jinja_priv.h"
#include "text/unicode.h"
#include "text/utf8.h"

/* ---- text that grows */

void jtext_free(jtext *t)
{
    mem_free(t->p);
    mem_free(t->m);
    *t = (jtext){0};
}

static bool room(jrt *rt, jtext *t, size_t n)
{
    if (rt->rc || !jspend(rt, n / 64)) return false;
    if (n <= t->cap - t->n) return true;
    if (t->n + n > rt->out_max) {
        jfail(rt, DR_EUNSUPPORTED, "more than %zu MB of text", rt->out_max >> 20);
        return false;
    }
    size_t cap = t->cap < 128 ? 256 : t->cap * 2;
    while (cap < t->n + n) cap *= 2;
    char *p = mem_realloc(t->p, cap);
    if (p) t->p = p;
    uint8_t *m = p ? mem_realloc(t->m, cap) : NULL;
    if (!m) {
        rt->rc = err_nomem(rt->e, cap, "a chat template's text");
        return false;
    }
    t->m = m, t->cap = cap;
    return true;
}

void jtext_put(jrt *rt, jtext *t, const char *p, size_t n, bool in)
{
    if (!n || !room(rt, t, n)) return;
    memcpy(t->p + t->n, p, n);
    memset(t->m + t->n, in, n);
    t->n += n;
}

void jtext_str(jrt *rt, jtext *t, const jstr *s)
{
    if (!s || !s->n || !room(rt, t, s->n)) return;
    memcpy(t->p + t->n, s->p, s->n);
    if (s->mark) memcpy(t->m + t->n, s->mark, s->n);
    else memset(t->m + t->n, s->in, s->n);
    t->n += s->n;
}

void jtext_puts(jrt *rt, jtext *t, const char *s) { jtext_put(rt, t, s, strlen(s), false); }

jstr *jtext_take(jrt *rt, jtext *t)
{
    jstr *s = NULL;
    size_t same = 0;
    if (!rt->rc) s = jstr_new(rt, t->n ? t->p : "", t->n, t->n && t->m[0]);
    while (s && same < t->n && t->m[same] == t->m[0]) same++;
    if (s && same < t->n) {
        uint8_t *m = jtake(rt, t->n);
        if (m) memcpy(m, t->m, t->n);
        s->mark = m;
        if (!m) s = NULL;
    }
    jtext_free(t);
    return s;
}

/* ---- numbers */

/* The fewest digits that read back the same; an exponent below -4 or from 16. */
void jreal_repr(char out[40], double v)
{
    char d[32], digit[32];
    int prec = 0, n = 0;
    if (isnan(v) || isinf(v)) {
        snprintf(out, 40, "%s", isnan(v) ? "nan" : v < 0 ? "-inf" : "inf");
        return;
    }
    do snprintf(d, sizeof d, "%.*e", prec, v);
    while (prec++ < 17 && strtod(d, NULL) != v);
    const char *e = strchr(d, 'e'), *p = d;
    int exp = (int)strtol(e + 1, NULL, 10);
    char *o = out;
    if (exp < -4 || exp >= 16) {
        snprintf(out, 40, "%.*se%c%02d", (int)(e - d), d, exp < 0 ? '-' : '+', abs(exp));
        return;
    }
    if (*p == '-') *o++ = *p++;
    for (; p < e; p++)
        if (*p != '.') digit[n++] = *p;
    if (exp < 0) *o++ = '0', *o++ = '.';
    for (int i = exp + 1; i < 0; i++) *o++ = '0';
    for (int i = 0; i < n || i <= exp; i++) {
        if (i && i == exp + 1) *o++ = '.';
        *o++ = i < n ? digit[i] : '0';
    }
    if (exp >= 0 && n <= exp + 1) *o++ = '.', *o++ = '0';
    *o = 0;
}

static void put_real(jrt *rt, jtext *t, double v)
{
    char s[40];
    jreal_repr(s, v);
    jtext_puts(rt, t, s);
}

static void put_int(jrt *rt, jtext *t, int64_t i)
{
    char s[24];
    snprintf(s, sizeof s, "%lld", (long long)i);
    jtext_puts(rt, t, s);
}

/* ---- str and repr */

bool jprintable(uint32_t c)
{
    if (c < 0x7f) return c >= 32;
    if (c == UTF8_BAD) return false;
    uint32_t no = 1u << GC_CN | 1u << GC_CC | 1u << GC_CF | 1u << GC_CO | 1u << GC_CS | 1u << GC_ZS
                | 1u << GC_ZL | 1u << GC_ZP;
    return !uc_in(c, no);
}

static bool mark_of(const jstr *s, size_t i) { return s->mark ? s->mark[i] : s->in; }

static void repr_str(jrt *rt, jtext *t, const jstr *s)
{
    bool one = s->n && memchr(s->p, '\'', s->n), two = s->n && memchr(s->p, '"', s->n);
    char q = one && !two ? '"' : '\'', e[16];
    if (s->safe) jtext_puts(rt, t, "Markup(");
    jtext_put(rt, t, &q, 1, false);
    const uint8_t *p = (const uint8_t *)s->p, *end = p + s->n;
    for (int n; p < end && !rt->rc; p += n) {
        uint32_t c = utf8_get(p, end, &n);
        bool in = mark_of(s, (size_t)(p - (const uint8_t *)s->p));
        if (c == '\\' || c == (uint32_t)q) snprintf(e, sizeof e, "\\%c", (int)c);
        else if (c == '\n' || c == '\r' || c == '\t')
            snprintf(e, sizeof e, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
        else if (jprintable(c)) memcpy(e, p, (size_t)n), e[n] = 0;
        else if (c < 0x100) snprintf(e, sizeof e, "\\x%02x", c);
        else snprintf(e, sizeof e, c < 0x10000 ? "\\u%04x" : "\\U%08x", c);
        jtext_put(rt, t, e, strlen(e), in);
    }
    jtext_put(rt, t, &q, 1, false);
    if (s->safe) jtext_puts(rt, t, ")");
}

static void repr_dict(jrt *rt, jtext *t, const jdict *d, int depth)
{
    jtext_puts(rt, t, "{");
    for (size_t i = 0; i < d->n && !rt->rc; i++) {
        if (i) jtext_puts(rt, t, ", ");
        jrepr(rt, t, d->key[i], depth + 1);
        jtext_puts(rt, t, ": ");
        jrepr(rt, t, d->val[i], depth + 1);
    }
    jtext_puts(rt, t, "}");
}

static void repr_view(jrt *rt, jtext *t, jv v, int depth)
{
    static const char *const name[] = { "dict_keys([", "dict_values([", "dict_items([" };
    jtext_puts(rt, t, name[v.sub]);
    for (size_t i = 0; i < v.dict->n && !rt->rc; i++) {
        if (i) jtext_puts(rt, t, ", ");
        jrepr(rt, t, jview_at(rt, v, i), depth + 1);
    }
    jtext_puts(rt, t, "])");
}

void jrepr(jrt *rt, jtext *t, jv v, int depth)
{
    char s[96];
    if (depth > JINJA_MAX_NESTED) jfail(rt, DR_EUNSUPPORTED, "values nested too deeply");
    if (!jspend(rt, 1)) return;
    switch (v.kind) {
    case J_MISSING: break;
    case J_UNDEF: jtext_puts(rt, t, "Undefined"); break;
    case J_NONE: jtext_puts(rt, t, "None"); break;
    case J_BOOL: jtext_puts(rt, t, v.b ? "True" : "False"); break;
    case J_INT: put_int(rt, t, v.i); break;
    case J_BIG: jtext_put(rt, t, v.s->p, v.s->n, false); break;
    case J_FLOAT: put_real(rt, t, v.f); break;
    case J_STR: repr_str(rt, t, v.s); break;
    case J_LIST: case J_TUPLE:
        jtext_puts(rt, t, v.kind == J_LIST ? "[" : "(");
        for (size_t i = 0; i < v.list->n && !rt->rc; i++) {
            if (i) jtext_puts(rt, t, ", ");
            jrepr(rt, t, v.list->v[i], depth + 1);
        }
        if (v.kind == J_TUPLE && v.list->n == 1) jtext_puts(rt, t, ",");
        jtext_puts(rt, t, v.kind == J_LIST ? "]" : ")");
        break;
    case J_DICT: repr_dict(rt, t, v.dict, depth); break;
    case J_VIEW: repr_view(rt, t, v, depth); break;
    case J_RANGE: {
        int64_t stop = v.range->start + v.range->n * v.range->step;
        if (v.range->step == 1) snprintf(s, sizeof s, "range(%lld, %lld)",
                                         (long long)v.range->start, (long long)stop);
        else jfail(rt, DR_EUNSUPPORTED, "a range with a step, printed");
        jtext_puts(rt, t, rt->rc ? "" : s);
        break;
    }
    case J_NS:
        jtext_puts(rt, t, "<Namespace ");
        repr_dict(rt, t, &v.ns->d, depth);
        jtext_puts(rt, t, ">");
        break;
    default: jfail(rt, DR_EUNSUPPORTED, "a %s, printed", jtype(v)); break;
    }
}

void jprint(jrt *rt, jtext *t, jv v)
{
    if (v.kind == J_STR) jtext_str(rt, t, v.s);
    else if (v.kind == J_DICT && v.dict->text) jtext_str(rt, t, v.dict->text);
    else if (v.kind != J_UNDEF) jrepr(rt, t, v, 0);
}

jstr *jto_str(jrt *rt, jv v)
{
    if (v.kind == J_STR) return v.s;
    jtext t = {0};
    jprint(rt, &t, v);
    return jtext_take(rt, &t);
}

/* ---- json.dumps */

static void dump_str(jrt *rt, jtext *t, const jstr *s, bool ascii)
{
    char e[16];
    const uint8_t *p = (const uint8_t *)s->p, *end = p + s->n, *from = p;
    jtext_put(rt, t, "\"", 1, true);
    for (int n; p < end && !rt->rc; p += n) {
        uint32_t c = utf8_get(p, end, &n);
        const char *in = "\"\\\n\r\t\b\f", *to = "\"\\nrtbf";
        const char *at = c && c < 128 ? strchr(in, (int)c) : NULL;
        if (at) snprintf(e, sizeof e, "\\%c", to[at - in]);
        else if (c < 32 || (ascii && c > 126 && c < 0x10000)) snprintf(e, sizeof e, "\\u%04x", c);
        else if (ascii && c >= 0x10000)
            snprintf(e, sizeof e, "\\u%04x\\u%04x", 0xd800 + ((c - 0x10000) >> 10),
                     0xdc00 + ((c - 0x10000) & 1023));
        else continue;
        size_t lo = (size_t)(from - (const uint8_t *)s->p);
        jtext_str(rt, t, &(jstr){ .p = s->p + lo, .n = (size_t)(p - from), .in = s->in,
                                  .mark = s->mark ? s->mark + lo : NULL });
        jtext_put(rt, t, e, strlen(e), true);
        from = p + n;
    }
    size_t lo = (size_t)(from - (const uint8_t *)s->p);
    jtext_str(rt, t, &(jstr){ .p = s->p + lo, .n = s->n - lo, .in = s->in,
                              .mark = s->mark ? s->mark + lo : NULL });
    jtext_put(rt, t, "\"", 1, true);
}

static void dump_line(jrt *rt, jtext *t, const jdump_opt *o, int depth)
{
    if (o->indent < 0) return;
    jtext_put(rt, t, "\n", 1, true);
    for (int d = 0; d < depth && !rt->rc; d++) {
        if (o->ind_text.p) jtext_put(rt, t, o->ind_text.p, o->ind_text.n, true);
        else for (int i = 0; i < o->indent && !rt->rc; i++) jtext_put(rt, t, " ", 1, true);
    }
}

static void dump_scalar(jrt *rt, jtext *t, jv v)
{
    jtext s = {0};
    if (v.kind == J_NONE) jtext_put(rt, t, "null", 4, true);
    else if (v.kind == J_BOOL) jtext_put(rt, t, v.b ? "true" : "false", v.b ? 4 : 5, true);
    else if (v.kind == J_FLOAT && isnan(v.f)) jtext_put(rt, t, "NaN", 3, true);
    else if (v.kind == J_FLOAT && isinf(v.f))
        jtext_put(rt, t, v.f < 0 ? "-Infinity" : "Infinity", v.f < 0 ? 9 : 8, true);
    else if (v.kind == J_INT || v.kind == J_FLOAT || v.kind == J_BIG) {
        jrepr(rt, &s, v, 0);
        jtext_put(rt, t, s.p, s.n, true);
        jtext_free(&s);
    } else {
        jfail(rt, DR_EINVAL, "Object of type %s is not JSON serializable", jtype(v));
    }
}

static void dump_key(jrt *rt, jtext *t, jv k, const jdump_opt *o)
{
    if (k.kind == J_STR) {
        dump_str(rt, t, k.s, o->ascii);
    } else if (k.kind == J_TUPLE || k.kind > J_STR || k.kind < J_NONE) {
        jfail(rt, DR_EINVAL, "keys must be str, int, float, bool or None, not %s", jtype(k));
    } else {
        jtext_put(rt, t, "\"", 1, true);
        dump_scalar(rt, t, k);
        jtext_put(rt, t, "\"", 1, true);
    }
}

static void dump_dict(jrt *rt, jtext *t, const jdict *d, const jdump_opt *o, int depth)
{
    jlist *order = NULL, *keys = NULL;
    if (o->sort) {
        order = jlist_new(rt, d->n), keys = jlist_new(rt, d->n);
        if (!order || !keys) return;
        for (size_t i = 0; i < d->n; i++) order->v[i] = jv_int((int64_t)i), keys->v[i] = d->key[i];
        jsort(rt, keys, order, false);
    }
    jtext_put(rt, t, "{", 1, true);
    for (size_t i = 0; i < d->n && !rt->rc; i++) {
        size_t k = order ? (size_t)order->v[i].i : i;
        if (i) jtext_put(rt, t, o->item.p, o->item.n, true);
        dump_line(rt, t, o, depth + 1);
        dump_key(rt, t, d->key[k], o);
        jtext_put(rt, t, o->key.p, o->key.n, true);
        jdump(rt, t, d->val[k], o, depth + 1);
    }
    if (d->n) dump_line(rt, t, o, depth);
    jtext_put(rt, t, "}", 1, true);
}

void jdump(jrt *rt, jtext *t, jv v, const jdump_opt *o, int depth)
{
    if (depth > JINJA_MAX_NESTED) jfail(rt, DR_EUNSUPPORTED, "values nested too deeply");
    if (!jspend(rt, 1)) return;
    if (v.kind == J_STR) {
        dump_str(rt, t, v.s, o->ascii);
    } else if (v.kind == J_DICT) {
        dump_dict(rt, t, v.dict, o, depth);
    } else if (v.kind == J_LIST || v.kind == J_TUPLE) {
        jtext_put(rt, t, "[", 1, true);
        for (size_t i = 0; i < v.list->n && !rt->rc; i++) {
            if (i) jtext_put(rt, t, o->item.p, o->item.n, true);
            dump_line(rt, t, o, depth + 1);
            jdump(rt, t, v.list->v[i], o, depth + 1);
        }
        if (v.list->n) dump_line(rt, t, o, depth);
        jtext_put(rt, t, "]", 1, true);
    } else {
        dump_scalar(rt, t, v);
    }
}
