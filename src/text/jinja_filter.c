/* jinja_filter.c - filters that make text or numbers. Spec: Jinja 3.1's filters.py. */
#include <errno.h>
#include <math.h>
#include "text/jinja_priv.h"
#include "text/unicode.h"
#include "text/utf8.h"

static bool given(jv v) { return v.kind != J_MISSING; }

static jv str_or(jstr *s) { return s ? jv_s(s) : jv_none(); }

/* A text argument, whatever it is. */
static jstr *text_arg(jrt *rt, jv v) { return v.kind == J_STR ? v.s : jto_str(rt, v); }

static jv f_case(jrt *rt, jv self, char how)
{
    jstr *s = jto_str(rt, self);
    return s ? str_or(jcase(rt, s, how)) : jv_none();
}

static jv f_upper(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)a, (void)all;
    return f_case(rt, v, 'u');
}

static jv f_lower(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)a, (void)all;
    return f_case(rt, v, 'l');
}

static jv f_capitalize(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)a, (void)all;
    return f_case(rt, v, 'c');
}

/* Words begin behind white space and -([{<; unlike str.title(). */
static jv f_title(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)a, (void)all;
    const jstr *s = jto_str(rt, v);
    jtext t = {0};
    bool starts = true;
    for (size_t i = 0, n = 0; s && i < s->n && !rt->rc; i += n) {
        int k;
        uint32_t c = utf8_get((const uint8_t *)s->p + i, (const uint8_t *)s->p + s->n, &k);
        bool parts = c != UTF8_BAD && (jspace(c) || (c < 128 && strchr("-({[<", (int)c) && c));
        n = (size_t)k;
        if (!parts && !starts)                  /* a run at once: a last sigma knows its word */
            for (; i + n < s->n; n += (size_t)k) {
                c = utf8_get((const uint8_t *)s->p + i + n, (const uint8_t *)s->p + s->n, &k);
                if (c != UTF8_BAD && (jspace(c) || (c && c < 128 && strchr("-({[<", (int)c)))) break;
            }
        jstr *one = jstr_sub(rt, s, i, n);
        if (one) one = parts ? one : jcase(rt, one, starts ? 'u' : 'l');
        jtext_str(rt, &t, one);
        starts = parts;
    }
    return str_or(jtext_take(rt, &t));
}

static jv f_trim(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    jstr *s = jto_str(rt, v);
    return s ? jstrip(rt, s, given(a[0]) ? a[0] : jv_none(), 3) : jv_none();
}

static jv f_string(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)a, (void)all;
    return str_or(jto_str(rt, v));
}

static jv f_replace(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    int64_t count = -1;
    jstr *s = jto_str(rt, v), *old = text_arg(rt, a[0]), *to = text_arg(rt, a[1]);
    if (given(a[2]) && a[2].kind != J_NONE && !jint_arg(rt, a[2], "replace", &count))
        return jv_none();
    if (!s || !old || !to) return jv_none();
    jstr *r = jreplace(rt, s, old, to, count);
    if (r && r->safe) r = jstr_sub(rt, r, 0, r->n), r ? r->safe = false : false;
    return str_or(r);
}

static jv f_default(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    bool instead = v.kind == J_UNDEF || (given(a[1]) && jtruth(rt, a[1]) && !jtruth(rt, v));
    if (!instead) return v;
    return given(a[0]) ? a[0] : str_or(jstr_new(rt, "", 0, false));
}

static jv f_length(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)a, (void)all;
    int64_t n = jlen(rt, v);
    return n >= 0 ? jv_int(n) : jfail(rt, DR_EINVAL, "object of type '%s' has no len()", jtype(v));
}

static jv f_safe(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)a, (void)all;
    jstr *s = jto_str(rt, v);
    s = s ? jstr_sub(rt, s, 0, s->n) : NULL;
    if (s) s->safe = true;
    return str_or(s);
}

static jv f_escape(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)a, (void)all;
    return jescape(rt, v);
}

static jv f_forceescape(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)a, (void)all;
    jstr *s = jto_str(rt, v);
    s = s ? jstr_sub(rt, s, 0, s->n) : NULL;
    if (!s) return jv_none();
    s->safe = false;
    return jescape(rt, jv_s(s));
}

static jv f_indent(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    jstr *pad = NULL;
    int64_t width = 4;
    bool first = given(a[1]) && jtruth(rt, a[1]), blank = given(a[2]) && jtruth(rt, a[2]);
    if (v.kind == J_UNDEF) return juse_undef(rt, v);
    if (v.kind != J_STR)
        return jfail(rt, DR_EINVAL, "can only concatenate %s (not \"str\") to %s", jtype(v), jtype(v));
    if (v.s->safe) return jfail(rt, DR_EUNSUPPORTED, "indent of a safe string");
    if (given(a[0]) && a[0].kind == J_STR) pad = a[0].s;
    else if (given(a[0]) && !jint_arg(rt, a[0], "indent", &width)) return jv_none();
    if (width > 1 << 20) return jfail(rt, DR_EUNSUPPORTED, "an indentation that is too wide");
    jv nl = str_or(jstr_new(rt, "\n", 1, false));
    jv whole = rt->rc ? nl : jconcat2(rt, v, nl);
    jlist *lines = rt->rc ? NULL : jsplitlines(rt, whole.s, false);
    jtext t = {0};
    for (size_t i = 0; lines && i < lines->n && !rt->rc; i++) {
        jstr *line = lines->v[i].s;
        if (i) jtext_puts(rt, &t, "\n");
        if (i == 0 ? first : blank || line->n) {
            if (pad) jtext_str(rt, &t, pad);
            else for (int64_t k = 0; k < width && !rt->rc; k++) jtext_puts(rt, &t, " ");
        }
        jtext_str(rt, &t, line);
    }
    return str_or(jtext_take(rt, &t));
}

static jv f_center(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    int64_t width = 80;
    jstr *s = jto_str(rt, v);
    if (!s || (given(a[0]) && !jint_arg(rt, a[0], "center", &width))) return jv_none();
    int64_t n = jstr_chars(rt, s), pad = width - n;
    if (pad <= 0) return jv_s(s);
    if (width > 1 << 20) return jfail(rt, DR_EUNSUPPORTED, "a width that is too wide");
    int64_t left = pad / 2 + (pad & width & 1);
    jtext t = {0};
    for (int64_t i = 0; i < left; i++) jtext_puts(rt, &t, " ");
    jtext_str(rt, &t, s);
    for (int64_t i = left; i < pad; i++) jtext_puts(rt, &t, " ");
    return str_or(jtext_take(rt, &t));
}

static jv f_truncate(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    int64_t len = 255, leeway = 5;
    bool kill = given(a[1]) && jtruth(rt, a[1]);
    if (v.kind != J_STR) return jfail(rt, DR_EINVAL, "truncate of a '%s'", jtype(v));
    if (given(a[0]) && !jint_arg(rt, a[0], "truncate", &len)) return jv_none();
    if (given(a[3]) && a[3].kind != J_NONE && !jint_arg(rt, a[3], "truncate", &leeway))
        return jv_none();
    jstr *end = given(a[2]) ? text_arg(rt, a[2]) : jstr_new(rt, "...", 3, false);
    if (!end) return jv_none();
    int64_t n = jstr_chars(rt, v.s), e = jstr_chars(rt, end);
    if (len < e || leeway < 0)
        return jfail(rt, DR_EINVAL, "expected length >= %lld, got %lld", (long long)e, (long long)len);
    if (n <= len + leeway) return v;
    size_t cut = jstr_at(v.s, len - e);
    for (size_t i = cut; !kill && i > 0; i--)
        if (v.s->p[i - 1] == ' ') {
            cut = i - 1;
            break;
        }
    jstr *head = jstr_sub(rt, v.s, 0, cut);
    return head ? jconcat2(rt, jv_s(head), jv_s(end)) : jv_none();
}

static jv f_wordcount(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)a, (void)all;
    const jstr *s = jto_str(rt, v);
    int64_t words = 0;
    bool in = false;
    if (!s) return jv_none();
    const uint8_t *p = (const uint8_t *)s->p, *end = p + s->n;
    for (int n; p < end; p += n) {
        uint32_t c = utf8_get(p, end, &n);
        bool word = c != UTF8_BAD && (c == '_' || uc_in(c, UC_LETTERS | UC_NUMBERS));
        words += word && !in;
        in = word;
    }
    return jv_int(words);
}

/* ---- numbers */

/* Python's float(str): white space around, single underscores, no hexadecimal. */
static bool parse_float(const jstr *s, double *to)
{
    char text[512];
    size_t n = 0, i = 0, end = s->n;
    while (i < end && strchr(" \t\n\r\f\v", s->p[i]) && s->p[i]) i++;
    while (end > i && strchr(" \t\n\r\f\v", s->p[end - 1]) && s->p[end - 1]) end--;
    for (; i < end; i++) {
        char c = s->p[i];
        bool ok = (c >= '0' && c <= '9') || strchr("+-.eEinfatyINFATY", c);
        bool between = c == '_' && n && i + 1 < end && text[n - 1] >= '0' && text[n - 1] <= '9'
                    && s->p[i + 1] >= '0' && s->p[i + 1] <= '9';
        if (between) continue;
        if (!c || !ok || n + 1 >= sizeof text) return false;
        text[n++] = c;
    }
    text[n] = 0;
    char *stop;
    *to = strtod(text, &stop);
    return n && !*stop;
}

/* Python's int(str, base): 1 read, 0 not a number, -1 beyond 64 bits. */
static int parse_int(const jstr *s, int base, int64_t *to)
{
    char text[128];
    size_t n = 0, i = 0, end = s->n;
    while (i < end && strchr(" \t\n\r\f\v", s->p[i]) && s->p[i]) i++;
    while (end > i && strchr(" \t\n\r\f\v", s->p[end - 1]) && s->p[end - 1]) end--;
    if (i < end && (s->p[i] == '+' || s->p[i] == '-')) text[n++] = s->p[i++];
    if (i + 1 < end && s->p[i] == '0') {
        char c = s->p[i + 1] | 32;
        int by = c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 0;
        if (by && (base == by || base == 0)) i += 2, base = by;
    }
    size_t from = n;
    for (; i < end; i++) {
        char c = s->p[i];
        int d = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'z' ? (c | 32) - 'a' + 10 : 99;
        if (c == '_' && n > from && i + 1 < end && s->p[i + 1] != '_') continue;
        if (d >= (base ? base : 10)) return 0;
        if (n + 1 >= sizeof text) return -1;
        text[n++] = c;
    }
    if (n == from) return 0;
    text[n] = 0;
    errno = 0;
    *to = strtoll(text, NULL, base ? base : 10);
    return errno ? -1 : 1;
}

static jv to_int(jrt *rt, double f, jv instead)
{
    if (!isfinite(f)) return instead;
    f = trunc(f);
    if (f >= 9223372036854775808.0 || f < -9223372036854775808.0)
        return jfail(rt, DR_EUNSUPPORTED, "a number beyond 64 bits");
    return jv_int((int64_t)f);
}

static jv f_int(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    jv instead = given(a[0]) ? a[0] : jv_int(0);
    int64_t base = 10, i = 0;
    double f;
    if (given(a[1]) && !jint_arg(rt, a[1], "int", &base)) return jv_none();
    switch (v.kind) {
    case J_UNDEF: return juse_undef(rt, v);
    case J_INT: case J_BIG: return v;
    case J_BOOL: return jv_int(v.b);
    case J_FLOAT: return isfinite(v.f) || !isinf(v.f) ? to_int(rt, v.f, instead) : instead;
    case J_STR: {
        if (base < 0 || base == 1 || base > 36) return instead;
        int how = parse_int(v.s, (int)base, &i);
        if (how < 0) return jfail(rt, DR_EUNSUPPORTED, "a number beyond 64 bits");
        if (how) return jv_int(i);
        return parse_float(v.s, &f) ? to_int(rt, f, instead) : instead;
    }
    default: return instead;
    }
}

static jv f_float(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    jv instead = given(a[0]) ? a[0] : jv_float(0);
    double f;
    switch (v.kind) {
    case J_UNDEF: return juse_undef(rt, v);
    case J_INT: return jv_float((double)v.i);
    case J_BIG: return jv_float(strtod(v.s->p, NULL));
    case J_BOOL: return jv_float(v.b);
    case J_FLOAT: return v;
    case J_STR: return parse_float(v.s, &f) ? jv_float(f) : instead;
    default: return instead;
    }
}

static jv f_abs(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)a, (void)all;
    if (v.kind == J_FLOAT) return jv_float(fabs(v.f));
    if (v.kind == J_BOOL) return jv_int(v.b);
    if (v.kind == J_INT) return v.i < 0 ? jarith(rt, X_SUB, jv_int(0), v) : v;
    if (v.kind == J_UNDEF) return juse_undef(rt, v);
    return jfail(rt, v.kind == J_BIG ? DR_EUNSUPPORTED : DR_EINVAL, "bad operand type for abs(): '%s'",
                 jtype(v));
}

/* round(x, n) in Python is right in the last digit: so is printf. */
static double round_at(double v, int64_t digits)
{
    char s[400];
    if (!isfinite(v) || digits > 300) return v;
    if (digits < -308) return 0;
    if (digits >= 0) {
        snprintf(s, sizeof s, "%.*f", (int)digits, v);
        return strtod(s, NULL);
    }
    double by = pow(10, (double)-digits);
    return nearbyint(v / by) * by;
}

static jv f_round(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    int64_t digits = 0;
    span how = given(a[1]) && a[1].kind == J_STR ? (span){ a[1].s->p, a[1].s->n } : span_of("common");
    if (v.kind == J_UNDEF) return juse_undef(rt, v);
    if (given(a[0]) && !jint_arg(rt, a[0], "round", &digits)) return jv_none();
    if (v.kind != J_INT && v.kind != J_FLOAT && v.kind != J_BOOL)
        return jfail(rt, DR_EINVAL, "type %s doesn't define __round__ method", jtype(v));
    if (span_is(how, "common")) {
        if (v.kind == J_FLOAT) return jv_float(round_at(v.f, digits));
        if (digits < 0) return jfail(rt, DR_EUNSUPPORTED, "an integer rounded to tens");
        return v.kind == J_BOOL ? jv_int(v.b) : v;
    }
    if (!span_is(how, "ceil") && !span_is(how, "floor"))
        return jfail(rt, DR_EINVAL, "method must be common, ceil or floor");
    if (digits < 0 || digits > 18) return jfail(rt, DR_EUNSUPPORTED, "round to %lld digits",
                                                (long long)digits);
    double f = v.kind == J_FLOAT ? v.f : v.kind == J_BOOL ? (double)v.b : (double)v.i;
    double by = pow(10, (double)digits), r = span_is(how, "ceil") ? ceil(f * by) : floor(f * by);
    return jv_float(r / by);
}

static jv f_format(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)a;
    jstr *s = jto_str(rt, v);
    jlist *l = jlist_new(rt, (size_t)all->n);
    jdict *d = jdict_new(rt, (size_t)all->n_kw);
    if (all->n && all->n_kw)
        return jfail(rt, DR_EINVAL, "can't handle positional and keyword arguments at the same time");
    if (!s || !l || !d) return jv_none();
    for (int i = 0; i < all->n; i++) l->v[i] = all->pos[i];
    for (int i = 0; i < all->n_kw; i++) jdict_put(rt, d, jv_s(all->kw[i]), all->kwv[i]);
    return jformat_percent(rt, s, all->n_kw ? (jv){ .kind = J_DICT, .dict = d } : jlist_v(J_TUPLE, l));
}

static jv f_tojson(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    jdump_opt o = { .indent = -1, .item = span_of(", "), .key = span_of(": "),
                    .ascii = given(a[0]) && jtruth(rt, a[0]), .sort = given(a[3]) && jtruth(rt, a[3]) };
    int64_t indent;
    if (given(a[1]) && a[1].kind != J_NONE) {
        o.item = span_of(",");
        if (a[1].kind == J_STR) {
            o.indent = 1, o.ind_text = (span){ a[1].s->p, a[1].s->n };
        } else {
            if (!jint_arg(rt, a[1], "tojson", &indent)) return jv_none();
            o.indent = indent < 0 ? 0 : indent > 1000 ? 1000 : (int)indent;
        }
    }
    if (given(a[2]) && a[2].kind != J_NONE) {
        jlist *l = jcollect(rt, a[2]);
        if (!l || l->n != 2 || l->v[0].kind != J_STR || l->v[1].kind != J_STR)
            return jfail(rt, DR_EINVAL, "tojson wants two texts as separators");
        o.item = (span){ l->v[0].s->p, l->v[0].s->n }, o.key = (span){ l->v[1].s->p, l->v[1].s->n };
    }
    jtext t = {0};
    jdump(rt, &t, v, &o, 0);
    return str_or(jtext_take(rt, &t));
}

const jfilter_row jfilters_text[] = {
    { "upper", f_upper, "", 0 }, { "lower", f_lower, "", 0 },
    { "capitalize", f_capitalize, "", 0 }, { "title", f_title, "", 0 },
    { "trim", f_trim, "chars", 0 }, { "string", f_string, "", 0 },
    { "replace", f_replace, "old,new,count", 2 },
    { "default", f_default, "default_value,boolean", 0 }, { "d", f_default, "default_value,boolean", 0 },
    { "length", f_length, "", 0 }, { "count", f_length, "", 0 },
    { "safe", f_safe, "", 0 }, { "escape", f_escape, "", 0 }, { "e", f_escape, "", 0 },
    { "forceescape", f_forceescape, "", 0 },
    { "indent", f_indent, "width,first,blank", 0 }, { "center", f_center, "width", 0 },
    { "truncate", f_truncate, "length,killwords,end,leeway", 0 },
    { "wordcount", f_wordcount, "", 0 },
    { "int", f_int, "default,base", 0 }, { "float", f_float, "default", 0 },
    { "abs", f_abs, "", 0 }, { "round", f_round, "precision,method", 0 },
    { "format", f_format, NULL, 0 },
    { "tojson", f_tojson, "ensure_ascii,indent,separators,sort_keys", 0 },
    { NULL, NULL, NULL, 0 }
};
