/* regex.c - the regular expressions of JSON Schema and --regex: a subset of ECMAScript's, without
 * what no automaton can do. See docs/constrained.md.
 *
 * ECMAScript and Python (whose `re` most validators use) differ in what \d, \w, \s and their
 * opposites hold beyond ASCII. A text made here matches under both: \d, \w, \s are the smaller set,
 * \D, \W, \S exclude the larger. */
#include <stdio.h>
#include <string.h>
#include "gen/gram_ir.h"
#include "text/unicode.h"
#include "text/utf8.h"

typedef struct {
    gctx *g;
    const uint8_t *p, *end, *start;
    int depth;
} parser;

static void *bad(parser *r, const char *why)
{
    gz_fail(r->g, DR_EUNSUPPORTED, "the pattern \"%.*s\", at character %d: %s",
            (int)(r->end - r->start > 80 ? 80 : r->end - r->start), (const char *)r->start,
            (int)(r->p - r->start) + 1, why);
    return NULL;
}

/* The character here, or -1; *n its length. */
static int64_t peek(const parser *r, int *n)
{
    if (r->p >= r->end) return -1;
    return utf8_get(r->p, r->end, n);
}

static bool next_is(const parser *r, char c) { return r->p < r->end && *r->p == (uint8_t)c; }

static bool take(parser *r, char c)
{
    if (!next_is(r, c)) return false;
    r->p++;
    return true;
}

/* ---- classes ---- */

static bool py_space(uint32_t c)
{
    return (uc_props(c) & UC_SPACE) || (c >= 0x1c && c <= 0x1f);
}

static bool es_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || c == 0x2028 || c == 0x2029 || c == 0xfeff || uc_in(c, 1u << GC_ZS);
}

static bool small_word(uint32_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool in_class(char k, bool wide, uint32_t c)
{
    switch (k) {
    case 'd': return wide ? (uc_in(c, 1u << GC_ND) || (c >= '0' && c <= '9')) : c >= '0' && c <= '9';
    case 'w': return wide ? small_word(c) || uc_in(c, UC_LETTERS | UC_NUMBERS) || (uc_props(c) & UC_DIGIT)
                          : small_word(c);
    default: return wide ? py_space(c) || es_space(c) : py_space(c) && es_space(c);
    }
}

/* \d \w \s; the opposite for capitals. `out`: what the set is taken away from in the end. */
static void add_class(gctx *g, cp_set *s, char k, bool out)
{
    bool upper = k < 'a', wide = upper != out;
    k = (char)(k | 32);
    if (!gz_work(g, CP_END / 8)) return;
    for (uint32_t c = 0, from = 0; c <= CP_END; c++) {
        bool here = c < CP_END && in_class(k, wide, c) != upper;
        if (here) continue;
        if (c > from) cp_add(g, s, from, c - 1);
        from = c + 1;
    }
}

/* \p{…}: general categories by their short or long names. */
static bool add_property(parser *r, cp_set *s, bool upper)
{
    static const struct { const char *name, *longer; uint32_t cats; } known[] = {
        { "L", "Letter", UC_LETTERS }, { "Lu", "Uppercase_Letter", 1u << GC_LU },
        { "Ll", "Lowercase_Letter", 1u << GC_LL }, { "N", "Number", UC_NUMBERS },
        { "Nd", "Decimal_Number", 1u << GC_ND },
        { "P", "Punctuation", 1u << GC_PC | 1u << GC_PD | 1u << GC_PS | 1u << GC_PE |
                              1u << GC_PI | 1u << GC_PF | 1u << GC_PO },
        { "S", "Symbol", 1u << GC_SM | 1u << GC_SC | 1u << GC_SK | 1u << GC_SO },
        { "M", "Mark", 1u << GC_MN | 1u << GC_MC | 1u << GC_ME },
    };
    if (!take(r, '{')) return bad(r, "\\p wants a name in braces"), false;
    const uint8_t *from = r->p;
    while (r->p < r->end && *r->p != '}') r->p++;
    span name = { (const char *)from, (size_t)(r->p - from) };
    if (!take(r, '}')) return bad(r, "\\p wants a name in braces"), false;
    uint32_t cats = 0;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (span_is(name, known[i].name) || span_is(name, known[i].longer)) cats = known[i].cats;
    if (!cats) return bad(r, "of \\p{…} only L, Lu, Ll, N, Nd, P, S and M are supported"), false;
    if (!gz_work(r->g, CP_END / 8)) return false;
    for (uint32_t c = 0, at = 0; c <= CP_END; c++) {
        if (c < CP_END && uc_in(c, cats) != upper) continue;
        if (c > at) cp_add(r->g, s, at, c - 1);
        at = c + 1;
    }
    return true;
}

static int hex(parser *r, int digits)
{
    int v = 0;
    for (int i = 0; i < digits; i++) {
        if (r->p >= r->end) return -1;
        int c = *r->p, d = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f'
                           ? (c | 32) - 'a' + 10 : -1;
        if (d < 0) return -1;
        v = v * 16 + d;
        r->p++;
    }
    return v;
}

/* \u: 4 digits, a pair of surrogates, or {…}. */
static int64_t unicode_escape(parser *r)
{
    if (take(r, '{')) {
        int64_t v = 0;
        int n = 0;
        while (r->p < r->end && *r->p != '}' && n++ < 8) {
            int d = hex(r, 1);
            if (d < 0) break;
            v = v * 16 + d;
        }
        if (!n || !take(r, '}') || v >= CP_END || (v >= 0xd800 && v < 0xe000)) {
            bad(r, "\\u{…} wants the number of a character");
            return -1;
        }
        return v;
    }
    int v = hex(r, 4);
    if (v >= 0xd800 && v < 0xdc00 && r->end - r->p >= 6 && r->p[0] == '\\' && r->p[1] == 'u') {
        r->p += 2;
        int w = hex(r, 4);
        v = w >= 0xdc00 && w < 0xe000 ? 0x10000 + ((v - 0xd800) << 10) + (w - 0xdc00) : -1;
    }
    if (v < 0 || (v >= 0xd800 && v < 0xe000)) {
        bad(r, "\\u wants four hexadecimal digits of a character");
        return -1;
    }
    return v;
}

/* After a backslash: one character, or a class added to *s with -2. -1: refused. */
static int64_t escape(parser *r, cp_set *s, bool in_set, bool out)
{
    static const char *const plain = "^$\\.*+?()[]{}|/-";
    int n;
    int64_t c = peek(r, &n);
    if (c < 0) { bad(r, "a backslash ends it"); return -1; }
    r->p += n;
    switch (c) {
    case 'd': case 'D': case 'w': case 'W': case 's': case 'S':
        add_class(r->g, s, (char)c, out);
        return -2;
    case 'p': case 'P':
        return add_property(r, s, (c == 'P')) ? -2 : -1;
    case 'n': return '\n';
    case 't': return '\t';
    case 'r': return '\r';
    case 'f': return '\f';
    case 'v': return '\v';
    case '0':
        if (r->p < r->end && *r->p >= '0' && *r->p <= '9') break;
        return 0;
    case 'x': {
        int v = hex(r, 2);
        if (v >= 0) return v;
        bad(r, "\\x wants two hexadecimal digits");
        return -1;
    }
    case 'u': return unicode_escape(r);
    case 'c':
        if (r->p < r->end && (*r->p | 32) >= 'a' && (*r->p | 32) <= 'z') return *r->p++ & 31;
        bad(r, "\\c wants a letter");
        return -1;
    case 'b':
        if (in_set) return 8;
        bad(r, "the word boundary \\b is not supported");
        return -1;
    case 'B':
        bad(r, "\\B is not supported");
        return -1;
    case 'k':
        bad(r, "a reference to a group is not supported");
        return -1;
    default: break;
    }
    if (c >= '0' && c <= '9') {
        bad(r, "a reference to a group is not supported");
        return -1;
    }
    if (c < 128 && strchr(plain, (int)c)) return c;
    if (c < 128 && !((c | 32) >= 'a' && (c | 32) <= 'z')) return c;
    bad(r, "this escape is not supported");
    return -1;
}

static gx *set_of(parser *r, cp_set s) { cp_done(&s); return gx_set(r->g, s); }

static gx *bracket(parser *r)
{
    cp_set s = {0};
    bool out = take(r, '^');
    for (int n; !next_is(r, ']');) {
        int64_t lo = peek(r, &n), hi;
        if (lo < 0) return bad(r, "a [ without its ]");
        if (lo == UTF8_BAD) return bad(r, "it is not UTF-8");
        r->p += n;
        if (lo == '\\') lo = escape(r, &s, true, out);
        if (lo == -1) return NULL;
        if (next_is(r, '-') && r->p + 1 < r->end && r->p[1] != ']') {
            r->p++;
            hi = peek(r, &n);
            if (hi < 0 || hi == UTF8_BAD) return bad(r, "it is not UTF-8");
            r->p += n;
            if (hi == '\\') hi = escape(r, &s, true, out);
            if (hi == -1) return NULL;
            if (lo < 0 || hi < 0) return bad(r, "a range between classes means nothing");
            if (hi < lo) return bad(r, "a range that runs backwards");
            cp_add(r->g, &s, (uint32_t)lo, (uint32_t)hi);
        } else if (lo >= 0) {
            cp_add(r->g, &s, (uint32_t)lo, (uint32_t)lo);
        }
    }
    r->p++;
    cp_done(&s);
    if (out) cp_invert(r->g, &s);
    return gx_set(r->g, s);
}

static gx *one_char(parser *r, uint32_t c)
{
    cp_set s = {0};
    cp_add(r->g, &s, c, c);
    return gx_set(r->g, s);
}

static gx *alternatives(parser *r);

static gx *group(parser *r)
{
    if (take(r, '?')) {
        if (take(r, ':')) { }
        else if (next_is(r, '=') || next_is(r, '!')) return bad(r, "look-ahead is not supported");
        else if (take(r, '<')) {
            if (next_is(r, '=') || next_is(r, '!')) return bad(r, "look-behind is not supported");
            while (r->p < r->end && *r->p != '>') r->p++;
            if (!take(r, '>')) return bad(r, "a group's name without its >");
        } else return bad(r, "this kind of group is not supported");
    }
    if (++r->depth > GRAM_MAX_NEST) return bad(r, "groups are nested too deeply");
    gx *x = alternatives(r);
    r->depth--;
    if (!r->g->rc && !take(r, ')')) return bad(r, "a ( without its )");
    return x;
}

static gx *atom(parser *r)
{
    int n;
    int64_t c = peek(r, &n);
    if (c == UTF8_BAD) return bad(r, "it is not UTF-8");
    if (c == '*' || c == '+' || c == '?') return bad(r, "nothing to repeat");
    if (c == '{') return bad(r, "a { that repeats nothing");
    if (c == ']' || c == '}') return bad(r, "a closing bracket alone");
    r->p += n;
    cp_set s = {0};
    switch (c) {
    case '^': return gx_new(r->g, GX_BEGIN);
    case '$': return gx_new(r->g, GX_END);
    case '(': return group(r);
    case '[': return bracket(r);
    case '.':
        cp_add(r->g, &s, '\n', '\n'), cp_add(r->g, &s, '\r', '\r');
        cp_add(r->g, &s, 0x2028, 0x2029);
        cp_done(&s), cp_invert(r->g, &s);
        return gx_set(r->g, s);
    case '\\':
        c = escape(r, &s, false, false);
        if (c == -1) return NULL;
        return c == -2 ? set_of(r, s) : one_char(r, (uint32_t)c);
    default: return one_char(r, (uint32_t)c);
    }
}

static bool number(parser *r, uint32_t *v)
{
    if (r->p >= r->end || *r->p < '0' || *r->p > '9') return false;
    uint64_t x = 0;
    for (; r->p < r->end && *r->p >= '0' && *r->p <= '9'; r->p++)
        if (x < GRAM_INF) x = x * 10 + (uint64_t)(*r->p - '0');
    *v = x < GRAM_INF ? (uint32_t)x : GRAM_INF - 1;
    return true;
}

static gx *repeated(parser *r, gx *x)
{
    uint32_t min, max;
    if (take(r, '*')) min = 0, max = GRAM_INF;
    else if (take(r, '+')) min = 1, max = GRAM_INF;
    else if (take(r, '?')) min = 0, max = 1;
    else if (take(r, '{')) {
        if (!number(r, &min)) return bad(r, "{ wants a number: {m}, {m,} or {m,n}");
        max = min;
        if (take(r, ',') && !number(r, &max)) max = GRAM_INF;
        if (!take(r, '}')) return bad(r, "a { without its }");
        if (max < min) return bad(r, "a repetition whose end is below its start");
    } else return x;
    if (take(r, '?')) { }                        /* lazy: the same texts */
    if (next_is(r, '+') || next_is(r, '*') || next_is(r, '?') || next_is(r, '{'))
        return bad(r, "nothing to repeat");
    return gx_rep(r->g, x, min, max);
}

static gx *sequence(parser *r)
{
    gx **kid = NULL;
    int n = 0, cap = 0;
    while (!r->g->rc && r->p < r->end && !next_is(r, '|') && !next_is(r, ')')) {
        gx *a = atom(r), *x = a ? repeated(r, a) : NULL;
        if (!x || !gz_room(r->g, &kid, n, &cap, sizeof *kid)) return NULL;
        kid[n++] = x;
    }
    return r->g->rc ? NULL : gx_list(r->g, GX_SEQ, kid, n);
}

static gx *alternatives(parser *r)
{
    gx **kid = NULL;
    int n = 0, cap = 0;
    do {
        gx *x = sequence(r);
        if (!x || !gz_room(r->g, &kid, n, &cap, sizeof *kid)) return NULL;
        kid[n++] = x;
    } while (take(r, '|'));
    return gx_list(r->g, GX_ALT, kid, n);
}

gx *regex_parse(gctx *g, span s, bool search)
{
    parser r = { g, (const uint8_t *)s.p, (const uint8_t *)s.p + s.n, (const uint8_t *)s.p, 0 };
    if (!gz_work(g, (int64_t)s.n)) return NULL;
    gx *x = alternatives(&r);
    if (!g->rc && r.p < r.end) return bad(&r, "a ) without its (");
    if (!search || !x) return x;
    cp_set all = {0};
    cp_add(g, &all, 0, CP_END - 1);
    cp_done(&all);
    gx *any = gx_rep(g, gx_set(g, all), 0, GRAM_INF);
    return gx_seq(g, any, x, any);
}

cauto *regex_cauto(gctx *g, span s, bool search)
{
    gx *x = regex_parse(g, s, search);
    return x ? ca_regex(g, x) : NULL;
}

int regex_read(gctx *g, span text)
{
    cauto *a = regex_cauto(g, text, false);
    if (g->rc || !a) return -1;
    int rule = gram_rule_new(g, "root");
    if (rule >= 0) g->rule[rule] = gx_auto(g, a, false);
    return g->rc ? -1 : rule;
}
