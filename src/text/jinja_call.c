/* jinja_call.c - calling: arguments by name, and the functions that every template has. */
#define _POSIX_C_SOURCE 200809L
#include <time.h>
#include "text/jinja_priv.h"

enum { RANGE_MAX = 100000, PARAMS = 8 };         /* the sandbox's own bound */

bool jbind(jrt *rt, const char *what, const char *params, int need, const jargs *in, jv *a)
{
    span name[PARAMS];
    int n = 0;
    for (const char *p = params; *p && n < PARAMS; n++) {
        size_t len = strcspn(p, ",");
        name[n] = (span){ p, len };
        p += len + (p[len] == ',');
        a[n] = jv_missing();
    }
    if (in->n > n) {
        jfail(rt, DR_EINVAL, "%s takes at most %d arguments, not %d", what, n, in->n);
        return false;
    }
    for (int i = 0; i < in->n; i++) a[i] = in->pos[i];
    for (int i = 0; i < in->n_kw; i++) {
        int k = 0;
        span s = { in->kw[i]->p, in->kw[i]->n };
        while (k < n && !span_eq(name[k], s)) k++;
        if (k == n || a[k].kind != J_MISSING) {
            jfail(rt, DR_EINVAL, "%s got an unexpected keyword argument '" SPAN_FMT "'", what,
                  SPAN_ARG(s));
            return false;
        }
        a[k] = in->kwv[i];
    }
    for (int i = 0; i < need; i++) {
        if (a[i].kind != J_MISSING) continue;
        jfail(rt, DR_EINVAL, "%s wants the argument '" SPAN_FMT "'", what, SPAN_ARG(name[i]));
        return false;
    }
    return !rt->rc;
}

bool jint_arg(jrt *rt, jv v, const char *what, int64_t *to)
{
    if (v.kind == J_UNDEF) return juse_undef(rt, v), false;
    if (v.kind != J_INT && v.kind != J_BOOL)
        return jfail(rt, DR_EINVAL, "%s wants an integer, not a '%s'", what, jtype(v)), false;
    *to = v.kind == J_BOOL ? v.b : v.i;
    return true;
}

/* ---- functions */

typedef jv (*global_fn)(jrt *rt, const jargs *a);

static jv fn_range(jrt *rt, const jargs *in)
{
    jv a[3];
    int64_t v[3] = { 0, 0, 1 };
    if (!jbind(rt, "range", "start,stop,step", 1, in, a)) return jv_none();
    for (int i = 0; i < 3; i++)
        if (a[i].kind != J_MISSING && !jint_arg(rt, a[i], "range", &v[i])) return jv_none();
    if (a[1].kind == J_MISSING) v[1] = v[0], v[0] = 0;
    if (!v[2]) return jfail(rt, DR_EINVAL, "range() arg 3 must not be zero");
    jrange *r = jtake(rt, sizeof *r);
    if (!r) return jv_none();
    *r = (jrange){ v[0], v[2], 0 };
    __int128 gap = v[2] > 0 ? (__int128)v[1] - v[0] : (__int128)v[0] - v[1];
    __int128 by = v[2] > 0 ? v[2] : -(__int128)v[2], n = gap > 0 ? (gap + by - 1) / by : 0;
    if (n > RANGE_MAX)
        return jfail(rt, DR_EINVAL, "Range too big. The sandbox blocks ranges larger than MAX_RANGE "
                     "(%d).", (int)RANGE_MAX);
    r->n = (int64_t)n;
    return (jv){ .kind = J_RANGE, .range = r };
}

/* The pairs of dict() and namespace(). */
static bool fill(jrt *rt, jdict *d, const jargs *in)
{
    if (in->n > 1) return jfail(rt, DR_EINVAL, "dict expected at most 1 argument, got %d", in->n), false;
    if (in->n && (in->pos[0].kind == J_DICT || in->pos[0].kind == J_NS)) {
        if (in->pos[0].kind == J_NS)
            return jfail(rt, DR_EINVAL, "'Namespace' object is not iterable"), false;
        const jdict *from = in->pos[0].dict;
        for (size_t i = 0; i < from->n; i++) jdict_put(rt, d, from->key[i], from->val[i]);
    } else if (in->n) {
        jlist *pairs = jcollect(rt, in->pos[0]);
        for (size_t i = 0; pairs && i < pairs->n; i++) {
            jlist *pair = jcollect(rt, pairs->v[i]);
            if (!pair) return false;
            if (pair->n != 2)
                return jfail(rt, DR_EINVAL, "a dict of pairs has an element of length %zu", pair->n),
                       false;
            jdict_put(rt, d, pair->v[0], pair->v[1]);
        }
    }
    for (int i = 0; i < in->n_kw; i++) jdict_put(rt, d, jv_s(in->kw[i]), in->kwv[i]);
    return !rt->rc;
}

static jv fn_dict(jrt *rt, const jargs *in)
{
    jdict *d = jdict_new(rt, 0);
    return d && fill(rt, d, in) ? (jv){ .kind = J_DICT, .dict = d } : jv_none();
}

static jv fn_namespace(jrt *rt, const jargs *in)
{
    jns *ns = jtake(rt, sizeof *ns);
    if (!ns) return jv_none();
    *ns = (jns){0};
    if (!fill(rt, &ns->d, in)) return jv_none();
    for (size_t i = 0; i < ns->d.n; i++)
        if (ns->d.key[i].kind == J_STR && ns->d.key[i].s->n && ns->d.key[i].s->p[0] == '_')
            return jfail(rt, DR_EINVAL, "a namespace cannot have attributes that begin with _");
    return (jv){ .kind = J_NS, .ns = ns };
}

static jv fn_raise(jrt *rt, const jargs *in)
{
    jv a[1];
    if (!jbind(rt, "raise_exception", "message", 1, in, a)) return jv_none();
    const jstr *s = jto_str(rt, a[0]);
    if (s && !rt->rc)
        rt->rc = err_set(rt->e, DR_EINVAL, "the chat template (line %d) says: " SPAN_FMT, rt->line,
                         SPAN_ARG(((span){ s->p, s->n })));
    return jv_none();
}

/* strftime in English, whatever the locale; the formats that dates are written with. */
static bool put_date(jrt *rt, jtext *t, char c, const struct tm *d)
{
    static const char *const day[] = { "Sunday", "Monday", "Tuesday", "Wednesday", "Thursday",
                                       "Friday", "Saturday" };
    static const char *const month[] = { "January", "February", "March", "April", "May", "June",
                                         "July", "August", "September", "October", "November",
                                         "December" };
    char s[64];
    int h12 = d->tm_hour % 12 ? d->tm_hour % 12 : 12, year = 1900 + d->tm_year;
    switch (c) {
    case 'd': snprintf(s, sizeof s, "%02d", d->tm_mday); break;
    case 'e': snprintf(s, sizeof s, "%2d", d->tm_mday); break;
    case 'm': snprintf(s, sizeof s, "%02d", d->tm_mon + 1); break;
    case 'y': snprintf(s, sizeof s, "%02d", year % 100); break;
    case 'Y': snprintf(s, sizeof s, "%d", year); break;
    case 'H': snprintf(s, sizeof s, "%02d", d->tm_hour); break;
    case 'I': snprintf(s, sizeof s, "%02d", h12); break;
    case 'M': snprintf(s, sizeof s, "%02d", d->tm_min); break;
    case 'S': snprintf(s, sizeof s, "%02d", d->tm_sec); break;
    case 'j': snprintf(s, sizeof s, "%03d", d->tm_yday + 1); break;
    case 'p': snprintf(s, sizeof s, "%s", d->tm_hour < 12 ? "AM" : "PM"); break;
    case 'a': snprintf(s, sizeof s, "%.3s", day[d->tm_wday]); break;
    case 'A': snprintf(s, sizeof s, "%s", day[d->tm_wday]); break;
    case 'b': case 'h': snprintf(s, sizeof s, "%.3s", month[d->tm_mon]); break;
    case 'B': snprintf(s, sizeof s, "%s", month[d->tm_mon]); break;
    case 'F': snprintf(s, sizeof s, "%d-%02d-%02d", year, d->tm_mon + 1, d->tm_mday); break;
    case 'T': snprintf(s, sizeof s, "%02d:%02d:%02d", d->tm_hour, d->tm_min, d->tm_sec); break;
    case 'R': snprintf(s, sizeof s, "%02d:%02d", d->tm_hour, d->tm_min); break;
    case 'D': snprintf(s, sizeof s, "%02d/%02d/%02d", d->tm_mon + 1, d->tm_mday, year % 100); break;
    case '%': snprintf(s, sizeof s, "%%"); break;
    default: return false;
    }
    jtext_puts(rt, t, s);
    return true;
}

static jv fn_strftime(jrt *rt, const jargs *in)
{
    jv a[1];
    if (!jbind(rt, "strftime_now", "format", 1, in, a)) return jv_none();
    if (a[0].kind != J_STR) return jfail(rt, DR_EINVAL, "strftime_now wants a text");
    time_t now = rt->now ? (time_t)rt->now : time(NULL);
    struct tm d;
    if (!localtime_r(&now, &d)) return jfail(rt, DR_EINVAL, "the system has no date");
    const jstr *s = a[0].s;
    jtext t = {0};
    for (size_t i = 0; i < s->n && !rt->rc; i++) {
        bool bare = false;
        if (s->p[i] != '%' || i + 1 == s->n) {
            jtext_put(rt, &t, s->p + i, 1, s->mark ? s->mark[i] : s->in);
            continue;
        }
        if (s->p[++i] == '-' && i + 1 < s->n) bare = true, i++;     /* %-d: no zero in front */
        size_t at = t.n;
        if (!put_date(rt, &t, s->p[i], &d) || (bare && !strchr("dmHIMSjy", s->p[i])))
            jfail(rt, DR_EUNSUPPORTED, "strftime_now with %%%s%c", bare ? "-" : "", s->p[i]);
        else if (bare)
            while (t.n > at + 1 && t.p[at] == '0') memmove(t.p + at, t.p + at + 1, --t.n - at);
    }
    jstr *r = jtext_take(rt, &t);
    return r ? jv_s(r) : jv_none();
}

static const struct { const char *name; global_fn fn; } globals[] = {
    { "range", fn_range }, { "dict", fn_dict }, { "namespace", fn_namespace },
    { "raise_exception", fn_raise }, { "strftime_now", fn_strftime },
    { "lipsum", NULL }, { "cycler", NULL }, { "joiner", NULL }, { "self", NULL },
};

bool jglobal(jrt *rt, span name, jv *v)
{
    for (uint32_t i = 0; i < sizeof globals / sizeof *globals; i++) {
        if (!span_is(name, globals[i].name)) continue;
        if (!globals[i].fn) jfail(rt, DR_EUNSUPPORTED, "drover does not know %s", globals[i].name);
        *v = (jv){ .kind = J_FN, .sub = i };
        return true;
    }
    return false;
}

/* loop.cycle and loop.changed are methods of the loop. */
jv jcall(jrt *rt, jv fn, const jargs *a)
{
    if (rt->rc) return jv_none();
    switch (fn.kind) {
    case J_UNDEF: return juse_undef(rt, fn);
    case J_FN: return globals[fn.sub].fn(rt, a);
    case J_MACRO: return jmacro_call(rt, fn.macro, a);
    case J_METHOD: {
        const jmethod_row *row = fn.method->row;
        jv v[PARAMS];
        if (!row->params) return row->fn(rt, fn.method->self, NULL, a);
        if (!jbind(rt, row->name, row->params, row->need, a, v)) return jv_none();
        return row->fn(rt, fn.method->self, v, a);
    }
    case J_LOOP:
        if (a->n != 1 || a->n_kw)
            return jfail(rt, DR_EINVAL, "loop() wants one argument");
        return jloop_call(rt, fn.loop, a->pos[0]);
    default: return jfail(rt, DR_EINVAL, "'%s' object is not callable", jtype(fn));
    }
}

jv jfilter_apply(jrt *rt, const jfilter_row *r, jv self, const jargs *a)
{
    jv v[PARAMS];
    if (rt->rc) return jv_none();
    if (!r->params) return r->fn(rt, self, NULL, a);
    if (!jbind(rt, r->name, r->params, r->need, a, v)) return jv_none();
    return r->fn(rt, self, v, a);
}

bool jtest_apply(jrt *rt, const jtest_row *r, jv self, const jargs *a)
{
    if (rt->rc) return false;
    if (a->n != r->n_args || a->n_kw) {
        jfail(rt, DR_EINVAL, "the test '%s' takes %d arguments, not %d", r->name, r->n_args, a->n);
        return false;
    }
    return r->fn(rt, self, a->n ? a->pos[0] : jv_missing(), r->sub);
}
