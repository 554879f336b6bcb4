/* jinja_method.c - the methods of Python's str, and what filters share with them. Positions are
 * characters, as in Python; slices of a text share its bytes. */
#include "text/jinja_priv.h"
#include "text/unicode.h"
#include "text/utf8.h"

static bool given(jv v) { return v.kind != J_MISSING && v.kind != J_NONE; }
static jv str_or(jstr *s) { return s ? jv_s(s) : jv_none(); }

bool jspace(uint32_t c)
{
    return (c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xa0 || c == 0x1680
        || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f
        || c == 0x205f || c == 0x3000;
}

/* ---- bytes and characters */

static uint32_t char_at(const jstr *s, size_t i, int *n)
{
    return utf8_get((const uint8_t *)s->p + i, (const uint8_t *)s->p + s->n, n);
}

static size_t before(const jstr *s, size_t i)
{
    i--;
    while (i && jcont(s->p[i])) i--;
    return i;
}

static int64_t chars_to(jrt *rt, const jstr *s, size_t to)
{
    int64_t n = 0;
    if (s->chars == (int64_t)s->n) return (int64_t)to;
    for (size_t i = 0; i < to; i++) n += !jcont(s->p[i]);
    jspend(rt, to / 64);
    return n;
}

enum { NOWHERE = -1 };

/* Byte position of f in s[from..to), the first or the last. */
static int64_t find_in(jrt *rt, const jstr *s, const jstr *f, size_t from, size_t to, bool last)
{
    if (to < from || f->n > to - from || !jspend(rt, (to - from) / 32)) return NOWHERE;
    if (!last) {
        for (size_t i = from; i + f->n <= to; i++) {
            const char *at = f->n ? memchr(s->p + i, f->p[0], to - f->n - i + 1) : s->p + i;
            if (!at) return NOWHERE;
            i = (size_t)(at - s->p);
            if (!f->n || !memcmp(at, f->p, f->n)) return (int64_t)i;
        }
        return NOWHERE;
    }
    for (size_t i = to - f->n + 1; i-- > from;)
        if (!f->n || !memcmp(s->p + i, f->p, f->n)) return (int64_t)i;
    return NOWHERE;
}

static jstr *want_str(jrt *rt, jv v, const char *what)
{
    if (v.kind == J_STR) return v.s;
    if (v.kind == J_UNDEF) juse_undef(rt, v);
    else jfail(rt, DR_EINVAL, "%s wants a str, not '%s'", what, jtype(v));
    return NULL;
}

/* The byte range that start and end (characters; may be missing) name. *empty: start lies behind. */
static bool range_of(jrt *rt, jstr *s, jv start, jv end, size_t *from, size_t *to)
{
    int64_t n = jstr_chars(rt, s), a = 0, b = n;
    if (given(start) && !jint_arg(rt, start, "start", &a)) return false;
    if (given(end) && !jint_arg(rt, end, "end", &b)) return false;
    if (a < 0) a = a + n < 0 ? 0 : a + n;
    if (b < 0) b = b + n < 0 ? 0 : b + n;
    if (b > n) b = n;
    *from = a > n ? s->n + 1 : jstr_at(s, a);
    *to = jstr_at(s, b);
    return !rt->rc;
}

/* ---- shared with filters */

static bool strips(uint32_t c, const jstr *set)
{
    if (!set) return c != UTF8_BAD && jspace(c);
    for (size_t i = 0; i < set->n;) {
        int n;
        if (char_at(set, i, &n) == c) return true;
        i += (size_t)n;
    }
    return false;
}

jv jstrip(jrt *rt, jstr *s, jv chars, int sides)
{
    const jstr *set = NULL;
    size_t lo = 0, hi = s->n;
    int n;
    if (given(chars) && !(set = want_str(rt, chars, "strip"))) return jv_none();
    while (sides & 1 && lo < hi && jspend(rt, set ? set->n / 16 : 0)
           && strips(char_at(s, lo, &n), set)) lo += (size_t)n;
    while (sides & 2 && hi > lo && jspend(rt, set ? set->n / 16 : 0)) {
        size_t at = before(s, hi);
        if (!strips(char_at(s, at, &n), set)) break;
        hi = at;
    }
    return str_or(jstr_sub(rt, s, lo, hi - lo));
}

jstr *jreplace(jrt *rt, const jstr *s, const jstr *old, const jstr *to, int64_t count)
{
    jtext t = {0};
    size_t from = 0;
    int64_t at, done = 0;
    int n = 0;
    for (size_t i = 0; count < 0 || done < count; done++) {
        at = i > s->n ? NOWHERE : find_in(rt, s, old, i, s->n, false);
        if (at < 0 || !jspend(rt, 1)) break;
        jstr part = *s;
        part.p += from, part.n = (size_t)at - from, part.mark = s->mark ? s->mark + from : NULL;
        jtext_str(rt, &t, &part);
        jtext_str(rt, &t, to);
        from = (size_t)at + old->n;
        i = from;
        if (!old->n) {                          /* an empty text is between all characters */
            if (i < s->n) char_at(s, i, &n);
            i += i < s->n ? (size_t)n : 1;
        }
    }
    if (!done) {
        jtext_free(&t);
        return jstr_sub(rt, s, 0, s->n);
    }
    jstr rest = *s;
    if (from > s->n) from = s->n;
    rest.p += from, rest.n = s->n - from, rest.mark = s->mark ? s->mark + from : NULL;
    jtext_str(rt, &t, &rest);
    return jtext_take(rt, &t);
}

static bool line_end(uint32_t c)
{
    return (c >= 10 && c <= 13) || (c >= 28 && c <= 30) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

jlist *jsplitlines(jrt *rt, const jstr *s, bool keep)
{
    jlist *l = jlist_new(rt, 0);
    size_t cap = 0, from = 0;
    for (size_t i = 0; l && i < s->n && !rt->rc;) {
        int n;
        uint32_t c = char_at(s, i, &n);
        if (!line_end(c)) {
            i += (size_t)n;
            continue;
        }
        size_t end = i + (size_t)n;
        if (c == '\r' && end < s->n && s->p[end] == '\n') end++;
        jstr *line = jstr_sub(rt, s, from, (keep ? end : i) - from);
        if (line && jspend(rt, 1)) jlist_add(rt, l, &cap, jv_s(line));
        i = from = end;
    }
    if (l && from < s->n) {
        jstr *line = jstr_sub(rt, s, from, s->n - from);
        if (line) jlist_add(rt, l, &cap, jv_s(line));
    }
    return l;
}

/* ---- split */

static void add_part(jrt *rt, jlist *l, size_t *cap, const jstr *s, size_t at, size_t n)
{
    jstr *part = jstr_sub(rt, s, at, n);
    if (part && jspend(rt, 1)) jlist_add(rt, l, cap, jv_s(part));
}

static void split_space(jrt *rt, jlist *l, const jstr *s, int64_t max)
{
    size_t i = 0, cap = 0;
    int n;
    for (;;) {
        while (i < s->n && strips(char_at(s, i, &n), NULL)) i += (size_t)n;
        if (i >= s->n || rt->rc) return;
        size_t from = i;
        if (max >= 0 && (int64_t)l->n >= max) {
            size_t end = s->n;
            while (end > from && strips(char_at(s, before(s, end), &n), NULL)) end = before(s, end);
            add_part(rt, l, &cap, s, from, end - from);
            return;
        }
        while (i < s->n && !strips(char_at(s, i, &n), NULL)) i += (size_t)n;
        add_part(rt, l, &cap, s, from, i - from);
    }
}

static void flip(jlist *l)
{
    for (size_t i = 0; i < l->n / 2; i++) {
        jv x = l->v[i];
        l->v[i] = l->v[l->n - 1 - i], l->v[l->n - 1 - i] = x;
    }
}

static void rsplit_space(jrt *rt, jlist *l, const jstr *s, int64_t max)
{
    size_t end = s->n, cap = 0;
    int n;
    for (;;) {
        while (end && strips(char_at(s, before(s, end), &n), NULL)) end = before(s, end);
        if (!end || rt->rc) break;
        size_t to = end, from = 0;
        if (max >= 0 && (int64_t)l->n >= max) {
            while (from < to && strips(char_at(s, from, &n), NULL)) from += (size_t)n;
            add_part(rt, l, &cap, s, from, to - from);
            break;
        }
        while (end && !strips(char_at(s, before(s, end), &n), NULL)) end = before(s, end);
        add_part(rt, l, &cap, s, end, to - end);
    }
    flip(l);
}

static jv split(jrt *rt, jstr *s, const jv *a, bool right)
{
    jlist *l = jlist_new(rt, 0);
    int64_t max = -1, at;
    size_t cap = 0, lo = 0, hi = s->n;
    if (!l || (a[1].kind != J_MISSING && !jint_arg(rt, a[1], "split", &max))) return jv_none();
    if (!jspend(rt, s->n / 32)) return jv_none();
    if (!given(a[0])) {
        if (right) rsplit_space(rt, l, s, max);
        else split_space(rt, l, s, max);
        return jlist_v(J_LIST, l);
    }
    jstr *by = want_str(rt, a[0], "split");
    if (!by) return jv_none();
    if (!by->n) return jfail(rt, DR_EINVAL, "empty separator");
    while ((max < 0 || (int64_t)l->n < max) && !rt->rc) {
        at = find_in(rt, s, by, lo, hi, right);
        if (at < 0) break;
        if (right) add_part(rt, l, &cap, s, (size_t)at + by->n, hi - (size_t)at - by->n);
        else add_part(rt, l, &cap, s, lo, (size_t)at - lo);
        if (right) hi = (size_t)at;
        else lo = (size_t)at + by->n;
    }
    add_part(rt, l, &cap, s, lo, hi - lo);
    if (right) flip(l);
    return jlist_v(J_LIST, l);
}

static jv m_split(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    return split(rt, v.s, a, false);
}

static jv m_rsplit(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    return split(rt, v.s, a, true);
}

static jv m_splitlines(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    return jlist_v(J_LIST, jsplitlines(rt, v.s, jtruth(rt, a[0])));
}

static jv partition(jrt *rt, jv v, jv sep, bool right)
{
    jstr *by = want_str(rt, sep, "partition"), *s = v.s;
    jlist *l = jlist_new(rt, 3);
    if (!by || !l) return jv_none();
    if (!by->n) return jfail(rt, DR_EINVAL, "empty separator");
    int64_t at = find_in(rt, s, by, 0, s->n, right);
    size_t i = (size_t)at;
    l->v[0] = str_or(at >= 0 ? jstr_sub(rt, s, 0, i) : jstr_sub(rt, s, 0, right ? 0 : s->n));
    l->v[1] = str_or(at >= 0 ? jstr_sub(rt, s, i, by->n) : jstr_sub(rt, s, 0, 0));
    l->v[2] = str_or(at >= 0 ? jstr_sub(rt, s, i + by->n, s->n - i - by->n)
                             : jstr_sub(rt, s, 0, right ? s->n : 0));
    return jlist_v(J_TUPLE, l);
}

static jv m_partition(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    return partition(rt, v, a[0], false);
}

static jv m_rpartition(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    return partition(rt, v, a[0], true);
}

/* ---- strip, case */

static jv m_strip(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    return jstrip(rt, v.s, a[0], 3);
}

static jv m_lstrip(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    return jstrip(rt, v.s, a[0], 1);
}

static jv m_rstrip(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    return jstrip(rt, v.s, a[0], 2);
}

static jv m_upper(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)a, (void)all;
    return str_or(jcase(rt, v.s, 'u'));
}

static jv m_lower(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)a, (void)all;
    return str_or(jcase(rt, v.s, 'l'));
}

static jv m_title(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)a, (void)all;
    return str_or(jcase(rt, v.s, 't'));
}

static jv m_capitalize(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)a, (void)all;
    return str_or(jcase(rt, v.s, 'c'));
}

/* ---- looking */

static bool at_end(jrt *rt, jstr *s, jv what, size_t from, size_t to, bool ends)
{
    const jstr *f = want_str(rt, what, ends ? "endswith" : "startswith");
    if (!f || from > to || f->n > to - from) return false;
    return !memcmp(s->p + (ends ? to - f->n : from), f->p, f->n);
}

static jv affix(jrt *rt, jv v, const jv *a, bool ends)
{
    size_t from, to;
    if (!range_of(rt, v.s, a[1], a[2], &from, &to)) return jv_none();
    if (a[0].kind != J_TUPLE) return jv_bool(at_end(rt, v.s, a[0], from, to, ends));
    for (size_t i = 0; i < a[0].list->n && !rt->rc; i++)
        if (at_end(rt, v.s, a[0].list->v[i], from, to, ends)) return jv_bool(true);
    return jv_bool(false);
}

static jv m_startswith(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    return affix(rt, v, a, false);
}

static jv m_endswith(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    return affix(rt, v, a, true);
}

static jv removed(jrt *rt, jv v, jv what, bool ends)
{
    const jstr *f = want_str(rt, what, "remove");
    if (!f) return jv_none();
    if (!f->n || !at_end(rt, v.s, what, 0, v.s->n, ends)) return v;
    return str_or(jstr_sub(rt, v.s, ends ? 0 : f->n, v.s->n - f->n));
}

static jv m_removeprefix(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    return removed(rt, v, a[0], false);
}

static jv m_removesuffix(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    return removed(rt, v, a[0], true);
}

static jv find(jrt *rt, jv v, const jv *a, bool last, bool must)
{
    size_t from, to;
    const jstr *f = want_str(rt, a[0], "find");
    if (!f || !range_of(rt, v.s, a[1], a[2], &from, &to)) return jv_none();
    int64_t at = find_in(rt, v.s, f, from, to, last);
    if (at < 0 && must) return jfail(rt, DR_EINVAL, "substring not found");
    return jv_int(at < 0 ? -1 : chars_to(rt, v.s, (size_t)at));
}

static jv m_find(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    return find(rt, v, a, false, false);
}

static jv m_rfind(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    return find(rt, v, a, true, false);
}

static jv m_index(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    return find(rt, v, a, false, true);
}

static jv m_rindex(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    return find(rt, v, a, true, true);
}

static jv m_count(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    size_t from, to;
    const jstr *f = want_str(rt, a[0], "count");
    int64_t n = 0, at;
    if (!f || !range_of(rt, v.s, a[1], a[2], &from, &to)) return jv_none();
    if (from > to) return jv_int(0);
    if (!f->n) {
        for (size_t i = from; i < to; i++) n += !jcont(v.s->p[i]);
        return jv_int(n + 1);
    }
    while (jspend(rt, 1) && (at = find_in(rt, v.s, f, from, to, false)) >= 0)
        n++, from = (size_t)at + f->n;
    return jv_int(n);
}

/* ---- what all characters are */

static bool is_alpha(uint32_t c) { return uc_in(c, UC_LETTERS); }
static bool is_digit(uint32_t c) { return uc_in(c, 1u << GC_ND); }
static bool is_number(uint32_t c) { return uc_in(c, UC_NUMBERS); }
static bool is_alnum(uint32_t c) { return is_alpha(c) || is_number(c); }

static jv all_are(const jstr *s, bool (*is)(uint32_t), bool empty)
{
    if (!s->n) return jv_bool(empty);
    for (size_t i = 0; i < s->n;) {
        int n;
        uint32_t c = char_at(s, i, &n);
        if (c == UTF8_BAD || !is(c)) return jv_bool(false);
        i += (size_t)n;
    }
    return jv_bool(true);
}

static bool is_ascii(uint32_t c) { return c < 128; }

#define ALL(name, fn, empty) \
    static jv name(jrt *rt, jv v, const jv *a, const jargs *all) \
    { \
        (void)rt, (void)a, (void)all; \
        return all_are(v.s, fn, empty); \
    }
ALL(m_isalpha, is_alpha, false)
ALL(m_isdigit, is_digit, false)
ALL(m_isnumeric, is_number, false)
ALL(m_isalnum, is_alnum, false)
ALL(m_isspace, jspace, false)
ALL(m_isascii, is_ascii, true)
ALL(m_isprintable, jprintable, true)

static jv m_islower(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)a, (void)all;
    return jv_bool(jtest_find(span_of("lower"))->fn(rt, v, jv_missing(), 0));
}

static jv m_isupper(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)a, (void)all;
    return jv_bool(jtest_find(span_of("upper"))->fn(rt, v, jv_missing(), 1));
}

/* ---- making */

static jv m_replace(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    int64_t count = -1;
    jstr *old = want_str(rt, a[0], "replace"), *to = old ? want_str(rt, a[1], "replace") : NULL;
    if (!to || (a[2].kind != J_MISSING && !jint_arg(rt, a[2], "replace", &count))) return jv_none();
    if (v.s->safe) return jfail(rt, DR_EUNSUPPORTED, "replace on a safe string");
    return str_or(jreplace(rt, v.s, old, to, count));
}

static jv m_join(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    jiter *it = jiterate(rt, a[0]);
    jtext t = {0};
    jv x;
    if (v.s->safe) return jfail(rt, DR_EUNSUPPORTED, "join on a safe string");
    for (bool more = false; it && jspend(rt, 1) && it->next(rt, it, &x); more = true) {
        if (more) jtext_str(rt, &t, v.s);
        if (x.kind == J_STR) jtext_str(rt, &t, x.s);
        else jfail(rt, DR_EINVAL, "sequence item: expected str instance, %s found", jtype(x));
    }
    return str_or(jtext_take(rt, &t));
}

/* sides: how much of the padding goes left: all, none, or half as str.center has it */
static jv pad(jrt *rt, jv v, const jv *a, char how)
{
    int64_t width;
    jstr *fill = given(a[1]) ? want_str(rt, a[1], "fill") : NULL;
    if (rt->rc || !jint_arg(rt, a[0], "width", &width)) return jv_none();
    if (width > 1 << 20) return jfail(rt, DR_EUNSUPPORTED, "a width that is too wide");
    if (fill && jstr_chars(rt, fill) != 1)
        return jfail(rt, DR_EINVAL, "The fill character must be exactly one character long");
    int64_t n = width - jstr_chars(rt, v.s), left;
    if (n <= 0) return v;
    left = how == 'l' ? 0 : how == 'r' ? n : n / 2 + (n & width & 1);
    jtext t = {0};
    for (int64_t i = 0; i < n && !rt->rc; i++) {
        if (i == left) jtext_str(rt, &t, v.s);
        if (fill) jtext_str(rt, &t, fill);
        else jtext_puts(rt, &t, " ");
    }
    if (left == n) jtext_str(rt, &t, v.s);
    jstr *s = jtext_take(rt, &t);
    if (s) s->safe = v.s->safe;
    return str_or(s);
}

static jv m_ljust(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    return pad(rt, v, a, 'l');
}

static jv m_rjust(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    return pad(rt, v, a, 'r');
}

static jv m_center(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    return pad(rt, v, a, 'c');
}

static jv m_zfill(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    int64_t width;
    if (!jint_arg(rt, a[0], "zfill", &width)) return jv_none();
    if (width > 1 << 20) return jfail(rt, DR_EUNSUPPORTED, "a width that is too wide");
    int64_t n = width - jstr_chars(rt, v.s);
    bool sign = v.s->n && (v.s->p[0] == '-' || v.s->p[0] == '+');
    jtext t = {0};
    if (n <= 0) return v;
    jtext_str(rt, &t, jstr_sub(rt, v.s, 0, sign));
    for (int64_t i = 0; i < n && !rt->rc; i++) jtext_puts(rt, &t, "0");
    jtext_str(rt, &t, jstr_sub(rt, v.s, sign, v.s->n - sign));
    return str_or(jtext_take(rt, &t));
}

static jv m_format(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)a;
    if (v.s->safe) return jfail(rt, DR_EUNSUPPORTED, "format on a safe string");
    return jformat_braces(rt, v.s, all);
}

#define S 1u << J_STR
const jmethod_row jmethods_str[] = {
    { S, "split", m_split, "sep,maxsplit", 0 }, { S, "rsplit", m_rsplit, "sep,maxsplit", 0 },
    { S, "splitlines", m_splitlines, "keepends", 0 },
    { S, "partition", m_partition, "sep", 1 }, { S, "rpartition", m_rpartition, "sep", 1 },
    { S, "strip", m_strip, "chars", 0 }, { S, "lstrip", m_lstrip, "chars", 0 },
    { S, "rstrip", m_rstrip, "chars", 0 }, { S, "upper", m_upper, "", 0 },
    { S, "lower", m_lower, "", 0 }, { S, "title", m_title, "", 0 },
    { S, "capitalize", m_capitalize, "", 0 },
    { S, "startswith", m_startswith, "prefix,start,end", 1 },
    { S, "endswith", m_endswith, "suffix,start,end", 1 },
    { S, "removeprefix", m_removeprefix, "prefix", 1 },
    { S, "removesuffix", m_removesuffix, "suffix", 1 },
    { S, "find", m_find, "sub,start,end", 1 }, { S, "rfind", m_rfind, "sub,start,end", 1 },
    { S, "index", m_index, "sub,start,end", 1 }, { S, "rindex", m_rindex, "sub,start,end", 1 },
    { S, "count", m_count, "sub,start,end", 1 }, { S, "isalpha", m_isalpha, "", 0 },
    { S, "isdigit", m_isdigit, "", 0 }, { S, "isdecimal", m_isdigit, "", 0 },
    { S, "isnumeric", m_isnumeric, "", 0 }, { S, "isalnum", m_isalnum, "", 0 },
    { S, "isspace", m_isspace, "", 0 }, { S, "isascii", m_isascii, "", 0 },
    { S, "isprintable", m_isprintable, "", 0 }, { S, "islower", m_islower, "", 0 },
    { S, "isupper", m_isupper, "", 0 }, { S, "replace", m_replace, "old,new,count", 2 },
    { S, "join", m_join, "iterable", 1 }, { S, "ljust", m_ljust, "width,fill", 1 },
    { S, "rjust", m_rjust, "width,fill", 1 }, { S, "center", m_center, "width,fill", 1 },
    { S, "zfill", m_zfill, "width", 1 }, { S, "format", m_format, NULL, 0 },
    { S, "casefold", NULL, "", -1 }, { S, "encode", NULL, "", -1 }, { S, "expandtabs", NULL, "", -1 },
    { S, "format_map", NULL, "", -1 }, { S, "isidentifier", NULL, "", -1 },
    { S, "istitle", NULL, "", -1 }, { S, "maketrans", NULL, "", -1 }, { S, "swapcase", NULL, "", -1 },
    { S, "translate", NULL, "", -1 },
    { 0, NULL, NULL, NULL, 0 }
};
