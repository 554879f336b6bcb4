/* split_re.c - pre-tokeniser patterns in PCRE2, over class bytes. See split.h.
 *
 * Each character of the text becomes one byte: ASCII is itself, any other character is 0x80 +
 * its general category, but for the few that a pattern tells apart from the rest of theirs
 * (below). The pattern is rewritten to match: \p{L} becomes the set of bytes whose characters
 * are letters. So PCRE2 matches plain bytes, its own Unicode tables (older than the reference's)
 * are never asked, and ill-formed UTF-8 is a byte of no class. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include "base/mem.h"
#include "text/split.h"
#include "text/unicode.h"
#include "text/utf8.h"

enum {
    C_NEL = 0x9e,            /* U+0085: a control character that is white space */
    C_LONG_S = 0x9f,         /* U+017F and U+212A: what s and k match without regard to case */
    C_KELVIN = 0xa0,
    C_SO_WORD = 0xa1,        /* So and Cf that \w matches: circled letters, joiners */
    C_CF_WORD = 0xa2,
    C_LIT = 0xb0, C_LIT_MAX = 64,     /* characters that the pattern itself names */
    C_BAD = 0xff             /* ill-formed: in no class */
};

struct split_re {
    pcre2_code *code;
    uint32_t lit[C_LIT_MAX];
    int n_lit;
};

static void *re_alloc(size_t n, void *arg) { (void)arg; return mem_alloc(n); }
static void re_free(void *p, void *arg) { (void)arg; mem_free(p); }

static uint8_t code_of(const split_re *s, uint32_t c)
{
    if (c < 128) return (uint8_t)c;
    if (c == UTF8_BAD) return C_BAD;
    for (int i = 0; i < s->n_lit; i++)
        if (s->lit[i] == c) return (uint8_t)(C_LIT + i);
    if (c == 0x85) return C_NEL;
    if (c == 0x17f) return C_LONG_S;
    if (c == 0x212a) return C_KELVIN;
    uint8_t u = uc_props(c), gc = u & UC_GC;
    if (u & UC_WORD && gc == GC_SO) return C_SO_WORD;
    if (u & UC_WORD && gc == GC_CF) return C_CF_WORD;
    return (uint8_t)(0x80 + gc);
}

/* A table entry as uc_props gives it, for any character of this code; -1: in no class. */
static int props_of_code(const split_re *s, int code)
{
    static const uint32_t sample[GC_N] = {       /* one character of each category */
        0x378, 0xc0, 0xdf, 0x1c5, 0x2b0, 0xaa, 0x300, 0x903, 0x488, 0x660, 0x16ee, 0xb2, 0x203f,
        0x2010, 0xf3a, 0xf3b, 0xab, 0xbb, 0xa1, 0xac, 0xa2, 0xa8, 0xa6, 0xa0, 0x2028, 0x2029,
        0x80, 0xad, 0xe000, 0xd800
    };
    if (code < 128) return uc_props((uint32_t)code);
    if (code < 0x80 + GC_N) return uc_props(sample[code - 0x80]);
    if (code >= C_LIT && code < C_LIT + s->n_lit) return uc_props(s->lit[code - C_LIT]);
    switch (code) {
    case C_NEL: return uc_props(0x85);
    case C_LONG_S: return uc_props(0x17f);
    case C_KELVIN: return uc_props(0x212a);
    case C_SO_WORD: return uc_props(0x24b6);
    case C_CF_WORD: return uc_props(0x200d);
    default: return -1;
    }
}

typedef struct { split_re *s; const uint8_t *p, *end; buf out; dr_err *e; } translator;

static int refuse(translator *t, const char *what)
{
    return err_set(t->e, DR_EUNSUPPORTED, "pre-tokeniser pattern: %s is not supported", what);
}

/* General categories of a name like L, Lu or Letter-free one-letter groups; 0: unknown. */
static uint32_t categories(const char *name, size_t n)
{
    static const char two[] = "CnLuLlLtLmLoMnMcMeNdNlNoPcPdPsPePiPfPoSmScSkSoZsZlZpCcCfCoCs";
    uint32_t set = 0;
    for (int i = 0; i < GC_N; i++)
        if ((n == 1 && two[2 * i] == name[0]) || (n == 2 && !memcmp(two + 2 * i, name, 2)))
            set |= 1u << i;
    return set;
}

/* Write the codes whose entry has a category of `gcs` or a bit of `bits` (or, negated, all
 * others) as members of a class. */
static void put_set(translator *t, uint32_t gcs, int bits, bool negated)
{
    for (int a = 0; a < 256; a++) {
        int b = a;
        for (; b < 256; b++) {
            int u = props_of_code(t->s, b);
            bool in = u >= 0 && ((gcs >> (u & UC_GC) & 1) || (u & bits));
            if (in == negated) break;
        }
        if (b > a) buf_printf(&t->out, "\\x%02x-\\x%02x", a, b - 1);
        if (b > a) a = b;
    }
}

/* After \p or \P: {Name}, {^Name} or one letter. */
static int property(translator *t, bool negated, bool in_class)
{
    const char *name = (const char *)t->p;
    size_t n = 1;
    if (t->p < t->end && *t->p == '{') {
        const uint8_t *close = memchr(t->p, '}', (size_t)(t->end - t->p));
        if (!close) return refuse(t, "an unclosed \\p{");
        name++, n = (size_t)(close - t->p) - 1;
        t->p = close + 1;
        if (n && *name == '^') name++, n--, negated = !negated;
    } else if (t->p++ >= t->end) {
        return refuse(t, "an unfinished \\p");
    }
    uint32_t gcs = n <= 2 ? categories(name, n) : 0;
    if (!gcs)
        return err_set(t->e, DR_EUNSUPPORTED, "pre-tokeniser pattern: the property "
                       "\\p{%.*s} is not supported", (int)(n > 40 ? 40 : n), name);
    if (!in_class) buf_putc(&t->out, '[');
    put_set(t, gcs, 0, negated);
    if (!in_class) buf_putc(&t->out, ']');
    return 0;
}

/* A literal character. Non-ASCII ones get a code of their own. */
static int literal(translator *t, uint32_t c, bool nocase, bool in_class)
{
    int also = !nocase ? 0 : c == 's' || c == 'S' ? C_LONG_S : c == 'k' || c == 'K' ? C_KELVIN : 0;
    if (c == UTF8_BAD) return refuse(t, "ill-formed UTF-8");
    if (c >= 128 && nocase) return refuse(t, "a character beyond ASCII under (?i)");
    uint8_t code = code_of(t->s, c);
    if (c >= 128 && (code < C_LIT || code == C_BAD)) {
        if (t->s->n_lit == C_LIT_MAX) return refuse(t, "more than 64 characters beyond ASCII");
        t->s->lit[t->s->n_lit++] = c;
        code = code_of(t->s, c);
    }
    if (also && !in_class) buf_printf(&t->out, "[\\x%02x\\x%02x]", code, also);
    else if (also) buf_printf(&t->out, "\\x%02x\\x%02x", code, also);
    else buf_printf(&t->out, "\\x%02x", code);
    return 0;
}

/* \x41 \x{41} \u0041 \u{41}: the digits, t->p after the letter. */
static int hex(translator *t, int digits, uint32_t *c)
{
    bool braces = t->p < t->end && *t->p == '{';
    uint32_t v = 0;
    int n = 0;
    for (t->p += braces; t->p < t->end && n < (braces ? 6 : digits); t->p++, n++) {
        int d = *t->p, h = d >= '0' && d <= '9' ? d - '0' : (d | 32) >= 'a' && (d | 32) <= 'f' ?
                (d | 32) - 'a' + 10 : -1;
        if (h < 0) break;
        v = v << 4 | (uint32_t)h;
    }
    if (braces && (t->p >= t->end || *t->p++ != '}')) return refuse(t, "this \\x{…}");
    if (!n || (!braces && n < digits) || v > 0x10ffff) return refuse(t, "this \\x or \\u");
    *c = v;
    return 0;
}

/* t->p is after a backslash. */
static int escape(translator *t, bool nocase, bool in_class)
{
    if (t->p >= t->end) return refuse(t, "a backslash at the end");
    static const struct { char c; uint32_t gcs; int bits; } sets[] = {
        { 's', 0, UC_SPACE }, { 'w', 0, UC_WORD }, { 'd', 1u << GC_ND, 0 }
    };
    static const char from[] = "rntfv0", to[] = "\r\n\t\f\v";
    int c = *t->p++;
    if (c == 'p' || c == 'P') return property(t, c == 'P', in_class);
    for (int i = 0; i < 3; i++) {
        if ((c | 32) != sets[i].c) continue;
        if (!in_class) buf_putc(&t->out, '[');
        put_set(t, sets[i].gcs, sets[i].bits, c < 'a');
        if (!in_class) buf_putc(&t->out, ']');
        return 0;
    }
    if (c == 'x' || c == 'u') {
        uint32_t v = 0;
        int rc = hex(t, c == 'x' ? 2 : 4, &v);
        return rc ? rc : literal(t, v, nocase, in_class);
    }
    const char *at = strchr(from, c);
    if (c && at) return literal(t, (uint8_t)to[at - from], nocase, in_class);
    if ((c | 32) >= 'a' && (c | 32) <= 'z') return refuse(t, "this escape");
    if (c >= '1' && c <= '9') return refuse(t, "a back-reference");
    if (c >= 128) return refuse(t, "an escaped character beyond ASCII");
    return literal(t, (uint32_t)c, nocase, in_class);
}

/* t->p is after '['. */
static int class(translator *t, bool nocase)
{
    buf_putc(&t->out, '[');
    if (t->p < t->end && *t->p == '^') buf_putc(&t->out, '^'), t->p++;
    for (bool first = true; t->p < t->end; first = false) {
        int n, rc;
        if (*t->p == ']' && !first) {
            t->p++;
            buf_putc(&t->out, ']');
            return 0;
        }
        if (*t->p == '[') return refuse(t, "a class inside a class");
        if (*t->p == '&' && t->end - t->p > 1 && t->p[1] == '&') return refuse(t, "&&");
        if (t->end - t->p > 2 && t->p[0] < 128 && t->p[1] == '-' && t->p[2] != ']' &&
            t->p[0] != '\\') {
            int lo = t->p[0], hi = t->p[2];
            if (hi >= 128 || hi == '\\' || hi < lo) return refuse(t, "this range");
            buf_printf(&t->out, "\\x%02x-\\x%02x", lo, hi);
            if (nocase && ((lo <= 's' && hi >= 's') || (lo <= 'S' && hi >= 'S')))
                buf_printf(&t->out, "\\x%02x", C_LONG_S);
            if (nocase && ((lo <= 'k' && hi >= 'k') || (lo <= 'K' && hi >= 'K')))
                buf_printf(&t->out, "\\x%02x", C_KELVIN);
            t->p += 3;
            continue;
        }
        if (*t->p == '\\') {
            t->p++;
            rc = escape(t, nocase, true);
        } else {
            uint32_t c = utf8_get(t->p, t->end, &n);
            t->p += n;
            rc = literal(t, c, nocase, true);
        }
        if (rc) return rc;
        if (t->end - t->p > 1 && *t->p == '-' && t->p[1] != ']') return refuse(t, "this range");
    }
    return refuse(t, "an unclosed class");
}

static int translate(translator *t)
{
    static const char *const groups[] = { "(?:", "(?i:", "(?=", "(?!", "(?<=", "(?<!", "(?>" };
    uint64_t nocase = 0;                    /* one bit per open group, innermost lowest */
    int depth = 0;
    while (t->p < t->end) {
        size_t left = (size_t)(t->end - t->p), n = 1;
        int rc = 0, m;
        switch (*t->p) {
        case '(':
            if (depth++ == 60) return refuse(t, "this depth");
            nocase = nocase << 1 | (nocase & 1);
            if (left > 1 && t->p[1] == '?') {
                size_t i = 0, k = sizeof groups / sizeof *groups;
                for (n = 0; i < k && !n; i++)
                    if (left >= strlen(groups[i]) && !memcmp(t->p, groups[i], strlen(groups[i])))
                        n = strlen(groups[i]), nocase |= groups[i][2] == 'i';
                if (!n) return refuse(t, "this kind of group");
            }
            buf_put(&t->out, t->p, n);
            t->p += n;
            break;
        case ')':
            if (!depth--) return refuse(t, "an unopened group");
            nocase >>= 1;
            /* fall through */
        case '|': case '*': case '+': case '?': case '.': case '^': case '$':
            buf_putc(&t->out, (char)*t->p++);
            break;
        case '{':
            for (n = 1; n < left && (t->p[n] == ',' || (t->p[n] >= '0' && t->p[n] <= '9'));) n++;
            if (n < 2 || n >= left || t->p[n] != '}') return refuse(t, "this {…}");
            buf_put(&t->out, t->p, n + 1);
            t->p += n + 1;
            break;
        case '[': t->p++; rc = class(t, nocase & 1); break;
        case '\\': t->p++; rc = escape(t, nocase & 1, false); break;
        default: {
            uint32_t c = utf8_get(t->p, t->end, &m);
            t->p += m;
            rc = literal(t, c, nocase & 1, false);
        }
        }
        if (rc) return rc;
    }
    return depth ? refuse(t, "an unclosed group") : 0;
}

split_re *split_re_new(span pattern, dr_err *e)
{
    split_re *s = mem_zalloc(1, sizeof *s);
    if (!s) { err_nomem(e, sizeof *s, "a splitter"); return NULL; }
    translator t = { .s = s, .e = e, .out = { .cap_max = 1 << 16 } };
    int rc = 0;
    for (int pass = 0; pass < 2 && !rc; pass++) {     /* twice: sets must know all literals */
        buf_reset(&t.out);
        t.p = (const uint8_t *)pattern.p, t.end = t.p + pattern.n;
        rc = pattern.n > 4096 ? refuse(&t, "more than 4096 bytes") : translate(&t);
    }
    if (!rc && t.out.bad) rc = err_nomem(e, t.out.n, "a pattern");
    pcre2_general_context *g = NULL;
    pcre2_compile_context *cc = NULL;
    if (!rc) {
        g = pcre2_general_context_create(re_alloc, re_free, NULL);
        cc = g ? pcre2_compile_context_create(g) : NULL;
        if (!cc) rc = err_nomem(e, 256, "a pattern");
    }
    if (!rc) {
        int code;
        PCRE2_SIZE at;
        s->code = pcre2_compile((PCRE2_SPTR)t.out.p, t.out.n, PCRE2_DOLLAR_ENDONLY, &code, &at, cc);
        if (!s->code && code == PCRE2_ERROR_HEAP_FAILED) rc = err_nomem(e, 4096, "a pattern");
        else if (!s->code)
            rc = err_set(e, DR_EFORMAT, "pre-tokeniser pattern \"%.*s\" does not compile: error %d",
                         (int)(pattern.n > 200 ? 200 : pattern.n), pattern.p, code);
        /* Without JIT (SELinux may forbid it) pcre2_match still works, only slower. */
        else pcre2_jit_compile(s->code, PCRE2_JIT_COMPLETE);
    }
    pcre2_compile_context_free(cc);
    pcre2_general_context_free(g);
    buf_free(&t.out);
    if (!rc) return s;
    split_re_free(s);
    return NULL;
}

void split_re_free(split_re *s)
{
    if (!s) return;
    pcre2_code_free(s->code);
    mem_free(s);
}

void split_work_free(split_work *w)
{
    mem_free(w->cls);
    mem_free(w->at);
    pcre2_match_data_free(w->match);
    *w = (split_work){0};
}

int split_re_begin(const split_re *s, split_work *w, span text, dr_err *e)
{
    if (text.n > UINT32_MAX - 8) return err_set(e, DR_EUNSUPPORTED, "over 4 GB of text");
    if (!w->match) {
        pcre2_general_context *g = pcre2_general_context_create(re_alloc, re_free, NULL);
        if (g) w->match = pcre2_match_data_create(1, g);
        pcre2_general_context_free(g);
        if (!w->match) return err_nomem(e, 256, "matching");
    }
    if (w->cap < text.n + 1) {
        mem_free(w->cls);
        mem_free(w->at);
        w->cap = text.n + text.n / 4 + 64;
        w->cls = mem_alloc(w->cap), w->at = mem_alloc(w->cap * sizeof *w->at);
        if (!w->cls || !w->at) {
            w->cap = 0;
            return err_nomem(e, text.n * 5, "splitting");
        }
    }
    const uint8_t *base = (const uint8_t *)text.p, *p = base, *end = base + text.n;
    size_t i = 0;
    for (int n; p < end; p += n, i++) {
        w->at[i] = (uint32_t)(p - base);
        if (*p < 128) w->cls[i] = *p, n = 1;
        else w->cls[i] = code_of(s, utf8_get(p, end, &n));
    }
    w->at[i] = (uint32_t)text.n;
    w->n = i;
    return 0;
}

int split_re_next(const split_re *s, const split_work *w, size_t from, size_t *lo, size_t *hi,
                  dr_err *e)
{
    if (from >= w->n) return 0;
    int rc = pcre2_match(s->code, w->cls, w->n, from, 0, w->match, NULL);
    if (rc == PCRE2_ERROR_NOMATCH) return 0;
    if (rc < 0) return err_set(e, rc == PCRE2_ERROR_NOMEMORY ? DR_ENOMEM : DR_EUNSUPPORTED,
                               "pre-tokeniser pattern: matching failed with error %d", rc);
    const PCRE2_SIZE *v = pcre2_get_ovector_pointer(w->match);
    *lo = v[0], *hi = v[1];
    return *hi > *lo;
}
