/* jinja_format.c - "%s" % x and "{}".format(x): the forms that templates use; others are refused. */
#include <math.h>
#include "text/jinja_priv.h"

enum { WIDE = 4096 };

typedef struct {
    char type, align, sign;       /* align: '<' '>' '^' '=' or 0 */
    const char *fill;
    size_t fill_n;
    bool zero, alt, comma, has_prec;
    int width, prec;
} spec;

static jv broken(jrt *rt) { return jfail(rt, DR_EINVAL, "a broken format"); }
static jv unknown(jrt *rt) { return jfail(rt, DR_EUNSUPPORTED, "a format that drover does not know"); }

/* Digits with commas between thousands. */
static void with_commas(char *to, size_t room, const char *s)
{
    size_t whole = strspn(s, "0123456789"), n = 0;
    for (size_t i = 0; s[i] && n + 2 < room; i++) {
        if (i && i < whole && (whole - i) % 3 == 0) to[n++] = ',';
        to[n++] = s[i];
    }
    to[n] = 0;
}

static void fill(jrt *rt, jtext *t, const spec *f, int64_t n)
{
    for (int64_t i = 0; i < n && !rt->rc; i++)
        jtext_put(rt, t, f->fill ? f->fill : " ", f->fill ? f->fill_n : 1, false);
}

/* sign and digits, padded; a number is right-aligned by itself. */
static void put_padded(jrt *rt, jtext *t, const spec *f, const char *sign, jstr *s, char align)
{
    int64_t n = f->width - jstr_chars(rt, s) - (int64_t)strlen(sign);
    if (n < 0) n = 0;
    if (f->align) align = f->align;
    int64_t left = align == '>' || align == '=' ? n : align == '^' ? n / 2 : 0;
    if (align != '=') fill(rt, t, f, left);
    jtext_puts(rt, t, sign);
    if (align == '=') fill(rt, t, f, left);
    jtext_str(rt, t, s);
    fill(rt, t, f, n - left);
}

static void put_number(jrt *rt, jtext *t, const spec *f, bool minus, const char *digits)
{
    char s[1024];
    const char *sign = minus ? "-" : f->sign == '+' ? "+" : f->sign == ' ' ? " " : "";
    if (f->comma) with_commas(s, sizeof s, digits);
    else snprintf(s, sizeof s, "%s", digits);
    jstr *d = jstr_new(rt, s, strlen(s), false);
    spec g = *f;
    if (f->zero && !f->align) g.align = '=', g.fill = "0", g.fill_n = 1;
    if (d) put_padded(rt, t, &g, sign, d, '>');
}

static void put_int(jrt *rt, jtext *t, const spec *f, int64_t i)
{
    char s[80], base = f->type ? f->type : 'd';
    unsigned long long u = i < 0 ? 0 - (unsigned long long)i : (unsigned long long)i;
    int n = 0;
    if (f->alt && base != 'd' && base != 'i' && base != 'u') {
        unknown(rt);
        return;
    }
    if (base == 'b') {
        int bits = 1;
        while (bits < 64 && u >> bits) bits++;
        for (int k = bits; k-- > 0;) s[n++] = (char)('0' + (u >> k & 1));
        s[n] = 0;
    } else {
        snprintf(s, sizeof s, base == 'x' ? "%llx" : base == 'X' ? "%llX" : base == 'o' ? "%llo" : "%llu", u);
    }
    put_number(rt, t, f, i < 0, s);
}

static void put_real(jrt *rt, jtext *t, const spec *f, double v, char type)
{
    char s[1024], form[16];
    bool percent = type == '%';
    if (percent) v *= 100, type = 'f';
    if (f->alt || (f->has_prec && f->prec > 300)) {
        unknown(rt);
        return;
    }
    snprintf(form, sizeof form, "%%.*%c", type);
    if (snprintf(s, sizeof s - 2, form, f->has_prec ? f->prec : 6, fabs(v)) >= (int)sizeof s - 2) {
        unknown(rt);
        return;
    }
    if (percent) strncat(s, "%", 2);
    put_number(rt, t, f, signbit(v) && !isnan(v), s);
}

static void put_text(jrt *rt, jtext *t, const spec *f, jstr *s, char align)
{
    if (f->has_prec && s && f->prec < jstr_chars(rt, s)) s = jstr_sub(rt, s, 0, jstr_at(s, f->prec));
    if (s) put_padded(rt, t, f, "", s, align);
}

static bool as_int(jrt *rt, jv v, int64_t *i, bool reals)
{
    if (v.kind == J_FLOAT && reals && fabs(v.f) < 9e18) return *i = (int64_t)v.f, true;
    if (v.kind == J_FLOAT && reals) return jfail(rt, DR_EUNSUPPORTED, "a number beyond 64 bits"), false;
    return jint_arg(rt, v, "the format", i);
}

static bool as_real(jrt *rt, jv v, double *d)
{
    if (v.kind == J_FLOAT || v.kind == J_INT || v.kind == J_BOOL) {
        *d = v.kind == J_FLOAT ? v.f : v.kind == J_INT ? (double)v.i : (double)v.b;
        return true;
    }
    return jfail(rt, DR_EINVAL, "must be real number, not %s", jtype(v)), false;
}

static jstr *repr_of(jrt *rt, jv v)
{
    jtext t = {0};
    jrepr(rt, &t, v, 0);
    return jtext_take(rt, &t);
}

/* ---- % */

typedef struct { const jstr *f; jv args; size_t i, next; bool map; } percent;

static jv next_arg(jrt *rt, percent *p)
{
    if (p->args.kind == J_TUPLE) {
        if (p->next < p->args.list->n) return p->args.list->v[p->next++];
    } else if (!p->next++) {
        return p->args;
    }
    return jfail(rt, DR_EINVAL, "not enough arguments for format string");
}

static int number_at(percent *p)
{
    int n = 0;
    while (p->i < p->f->n && p->f->p[p->i] >= '0' && p->f->p[p->i] <= '9' && n < WIDE)
        n = n * 10 + (p->f->p[p->i++] - '0');
    return n;
}

static bool read_percent(jrt *rt, percent *p, spec *f, jv *v)
{
    const char *s = p->f->p;
    size_t n = p->f->n;
    *v = jv_missing();
    if (p->i < n && s[p->i] == '(') {
        size_t from = ++p->i;
        while (p->i < n && s[p->i] != ')') p->i++;
        jstr *key = jstr_sub(rt, p->f, from, p->i - from);
        if (p->i++ >= n || !key) return broken(rt), false;
        if (p->args.kind != J_DICT) return jfail(rt, DR_EINVAL, "format requires a mapping"), false;
        jv *x = jdict_get(rt, p->args.dict, jv_s(key));
        if (!x) return jfail(rt, DR_EINVAL, "a format names a key that is not there"), false;
        *v = *x, p->map = true;
    }
    for (; p->i < n && s[p->i] && strchr("-+ 0#", s[p->i]); p->i++) {
        char c = s[p->i];
        if (c == '-') f->align = '<';
        else if (c == '0') f->zero = true;
        else if (c == '#') f->alt = true;
        else if (f->sign != '+') f->sign = c;
    }
    if (p->i < n && s[p->i] == '*') return unknown(rt), false;
    f->width = number_at(p);
    if (p->i < n && s[p->i] == '.') {
        p->i++;
        if (p->i < n && s[p->i] == '*') return unknown(rt), false;
        f->prec = number_at(p), f->has_prec = true;
    }
    if (f->width >= WIDE || f->prec >= WIDE) return unknown(rt), false;
    if (p->i >= n) return jfail(rt, DR_EINVAL, "incomplete format"), false;
    f->type = s[p->i++];
    return true;
}

static void put_percent(jrt *rt, jtext *t, const spec *f, jv v)
{
    int64_t i;
    double d;
    switch (f->type) {
    case 's': put_text(rt, t, f, jto_str(rt, v), '>'); break;
    case 'r': put_text(rt, t, f, repr_of(rt, v), '>'); break;
    case 'd': case 'i': case 'u':
        if (f->has_prec) unknown(rt);
        else if (v.kind == J_BIG && !f->width) jprint(rt, t, v);
        else if (as_int(rt, v, &i, true)) put_int(rt, t, f, i);
        break;
    case 'x': case 'X': case 'o':
        if (f->has_prec) unknown(rt);
        else if (as_int(rt, v, &i, false)) put_int(rt, t, f, i);
        break;
    case 'f': case 'F': case 'e': case 'E': case 'g': case 'G':
        if (as_real(rt, v, &d)) put_real(rt, t, f, d, f->type);
        break;
    default: unknown(rt);
    }
}

jv jformat_percent(jrt *rt, const jstr *s, jv args)
{
    percent p = { .f = s, .args = args };
    jtext t = {0};
    if (s->safe) return jfail(rt, DR_EUNSUPPORTED, "%% on a safe string");
    while (p.i < s->n && !rt->rc) {
        size_t from = p.i;
        while (p.i < s->n && s->p[p.i] != '%') p.i++;
        jtext_str(rt, &t, jstr_sub(rt, s, from, p.i - from));
        if (p.i >= s->n) break;
        p.i++;
        spec f = {0};
        jv v;
        if (!read_percent(rt, &p, &f, &v)) break;
        if (f.type == '%') {
            jtext_put(rt, &t, "%", 1, false);
            continue;
        }
        if (v.kind == J_MISSING) v = next_arg(rt, &p);
        if (!rt->rc) put_percent(rt, &t, &f, v);
    }
    bool left = args.kind == J_TUPLE ? p.next < args.list->n : !p.next && args.kind != J_DICT;
    if (left && !p.map && !rt->rc && args.kind != J_LIST)
        jfail(rt, DR_EINVAL, "not all arguments converted during string formatting");
    jstr *r = jtext_take(rt, &t);
    return r ? jv_s(r) : jv_none();
}

/* ---- {} */

static size_t int_at(span s, size_t i, int *to)
{
    *to = 0;
    for (; i < s.n && s.p[i] >= '0' && s.p[i] <= '9'; i++)
        if (*to < WIDE) *to = *to * 10 + (s.p[i] - '0');
    return i;
}

/* [[fill]align][sign][#][0][width][,][.precision][type] */
static bool read_spec(jrt *rt, span s, spec *f)
{
    size_t i = 0, first = s.n ? 1 : 0;
    while (first < s.n && jcont(s.p[first])) first++;
    if (first < s.n && s.p[first] && strchr("<>^=", s.p[first])) {
        f->fill = s.p, f->fill_n = first, f->align = s.p[first], i = first + 1;
    } else if (s.n && s.p[0] && strchr("<>^=", s.p[0])) {
        f->align = s.p[0], i = 1;
    }
    if (i < s.n && s.p[i] && strchr("+- ", s.p[i])) f->sign = s.p[i++];
    if (i < s.n && s.p[i] == '#') f->alt = true, i++;
    if (i < s.n && s.p[i] == '0') f->zero = true, i++;
    i = int_at(s, i, &f->width);
    if (i < s.n && s.p[i] == ',') f->comma = true, i++;
    if (i < s.n && s.p[i] == '.') {
        size_t from = i + 1;
        i = int_at(s, from, &f->prec), f->has_prec = true;
        if (i == from) return broken(rt), false;
    }
    if (i < s.n) f->type = s.p[i++];
    if (i < s.n || f->width >= WIDE || f->prec >= WIDE) return unknown(rt), false;
    return true;
}

static void put_braces(jrt *rt, jtext *t, jv v, span s)
{
    spec f = {0};
    if (!s.n) {
        jprint(rt, t, v);
        return;
    }
    if (!read_spec(rt, s, &f)) return;
    double d;
    bool number = v.kind == J_INT || v.kind == J_FLOAT || v.kind == J_BOOL;
    if (v.kind == J_STR && (!f.type || f.type == 's') && !f.sign && !f.comma && f.align != '=') {
        if (f.zero && !f.align) unknown(rt);
        else put_text(rt, t, &f, v.s, '<');
    } else if (number && f.type && strchr("fFeEgG%", f.type)) {
        if (as_real(rt, v, &d)) put_real(rt, t, &f, d, f.type);
    } else if (v.kind == J_INT && !f.has_prec && (!f.type || strchr("dxXob", f.type))
               && !(f.comma && f.type && f.type != 'd') && !(f.zero && f.comma)) {
        put_int(rt, t, &f, v.i);
    } else if (v.kind == J_STR || number) {
        unknown(rt);
    } else {
        jfail(rt, DR_EINVAL, "unsupported format string passed to %s.__format__", jtype(v));
    }
}

/* name, .attribute, [item] */
static jv field(jrt *rt, const jstr *f, size_t from, size_t to, const jargs *a, int *automatic)
{
    size_t i = from;
    jv v = jv_none();
    while (i < to && f->p[i] != '.' && f->p[i] != '[') i++;
    span name = { f->p + from, i - from };
    int k = 0;
    bool digits = int_at(name, 0, &k) == name.n;
    if (digits) {
        if (!name.n) k = *automatic < 0 ? 1 << 20 : (*automatic)++;
        else if (*automatic > 0) return jfail(rt, DR_EINVAL, "cannot switch from automatic field "
                                              "numbering to manual field specification");
        else *automatic = -1;
        if (k >= a->n) return jfail(rt, DR_EINVAL, "Replacement index %d out of range for positional "
                                    "args tuple", k);
        v = a->pos[k];
    } else {
        int j = 0;
        while (j < a->n_kw && !span_eq(name, (span){ a->kw[j]->p, a->kw[j]->n })) j++;
        if (j == a->n_kw) return jfail(rt, DR_EINVAL, "format wants '" SPAN_FMT "'", SPAN_ARG(name));
        v = a->kwv[j];
    }
    while (i < to && !rt->rc) {
        bool attr = f->p[i++] == '.';
        from = i;
        while (i < to && (attr ? f->p[i] != '.' && f->p[i] != '[' : f->p[i] != ']')) i++;
        jstr *part = jstr_sub(rt, f, from, i - from);
        if (!part || !part->n || (!attr && i++ >= to)) return broken(rt);
        digits = int_at((span){ part->p, part->n }, 0, &k) == part->n;
        v = attr ? jgetattr(rt, v, jv_s(part)) : jgetitem(rt, v, digits ? jv_int(k) : jv_s(part));
    }
    return v;
}

/* One {…}: i is behind the brace; where it ends. */
static size_t put_field(jrt *rt, jtext *t, const jstr *f, size_t i, const jargs *a, int *automatic)
{
    size_t from = i;
    while (i < f->n && f->p[i] != '}' && f->p[i] != '!' && f->p[i] != ':' && f->p[i] != '{') i++;
    jv v = field(rt, f, from, i, a, automatic);
    char how = 0;
    span s = { "", 0 };
    if (i + 1 < f->n && f->p[i] == '!') how = f->p[i + 1], i += 2;
    if (i < f->n && f->p[i] == ':') {
        from = ++i;
        while (i < f->n && f->p[i] != '}' && f->p[i] != '{') i++;
        s = (span){ f->p + from, i - from };
    }
    if (i < f->n && f->p[i] == '{') unknown(rt);
    else if (i >= f->n || f->p[i] != '}') broken(rt);
    if (how && how != 's' && how != 'r') unknown(rt);
    if (rt->rc) return f->n;
    if (how) {
        jstr *text = how == 's' ? jto_str(rt, v) : repr_of(rt, v);
        v = text ? jv_s(text) : jv_none();
    }
    if (!rt->rc) put_braces(rt, t, v, s);
    return i + 1;
}

jv jformat_braces(jrt *rt, const jstr *f, const jargs *a)
{
    jtext t = {0};
    int automatic = 0;
    for (size_t i = 0; i < f->n && !rt->rc;) {
        size_t from = i;
        while (i < f->n && f->p[i] != '{' && f->p[i] != '}') i++;
        jtext_str(rt, &t, jstr_sub(rt, f, from, i - from));
        if (i >= f->n) break;
        if (i + 1 < f->n && f->p[i + 1] == f->p[i]) {
            jtext_put(rt, &t, f->p + i, 1, f->mark ? f->mark[i] : f->in);
            i += 2;
        } else if (f->p[i] == '{') {
            i = put_field(rt, &t, f, i + 1, a, &automatic);
        } else {
            jfail(rt, DR_EINVAL, "Single '}' encountered in format string");
        }
    }
    jstr *r = jtext_take(rt, &t);
    return r ? jv_s(r) : jv_none();
}
