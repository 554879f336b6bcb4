/* jinja_lex.c - a template's text as tokens, with Jinja's rules for white space: trim_blocks (a
 * line end right behind a block goes), lstrip_blocks (white space in front of a block that begins
 * its line goes), and the signs - and +. Spec: Jinja 3.1's lexer.py. */
#include <math.h>
#include "text/jinja_priv.h"
#include "text/unicode.h"
#include "text/utf8.h"

typedef struct {
    jmem *m;
    const char *p, *end;          /* what is left */
    int line;
    bool line_starts;             /* the last match ended a line */
    jtok *tok;
    size_t n, cap;
    char open[JINJA_MAX_DEPTH];   /* brackets that wait for their other half */
    int n_open;
    dr_err *e;
    int rc;
} lexer;

static int fail(lexer *x, int code, const char *what)
{
    if (!x->rc)
        x->rc = err_set(x->e, code, "line %d of the chat template: %s", x->line, what);
    return x->rc;
}

static int nomem(lexer *x) { return x->rc = err_nomem(x->e, x->cap, "a chat template"); }

static jtok *add(lexer *x, jtok_kind k, span s)
{
    if (x->n == x->cap) {
        size_t cap = x->cap ? x->cap * 2 : 256;
        jtok *t = jmem_take(x->m, cap * sizeof *t);
        if (!t) {
            nomem(x);
            return NULL;
        }
        if (x->n) memcpy(t, x->tok, x->n * sizeof *t);
        x->tok = t, x->cap = cap;
    }
    x->tok[x->n] = (jtok){ .kind = k, .line = x->line, .s = s };
    return &x->tok[x->n++];
}

/* Length of the white space character at p; 0: it is none. */
static size_t space_at(const char *p, const char *end)
{
    int n;
    if (p >= end) return 0;
    uint32_t c = utf8_get((const uint8_t *)p, (const uint8_t *)end, &n);
    return c != UTF8_BAD && jspace(c) ? (size_t)n : 0;
}

static void advance(lexer *x, const char *to)
{
    x->line_starts = to > x->p && to[-1] == '\n';
    for (; x->p < to; x->p++) x->line += *x->p == '\n';
}

static const char *skip_space(const char *p, const char *end)
{
    for (size_t n; (n = space_at(p, end));) p += n;
    return p;
}

static span rstrip(span s)
{
    for (;;) {
        size_t k = 1;
        while (k < s.n && k < 4 && jcont(s.p[s.n - k])) k++;
        if (!s.n || space_at(s.p + s.n - k, s.p + s.n) != k) return s;
        s.n -= k;
    }
}

/* Data in front of a tag whose sign is '-', '+' or 0; only a block or comment strips its line. */
static void data(lexer *x, span s, char sign, bool block)
{
    if (sign == '-') {
        s = rstrip(s);
    } else if (sign != '+' && block) {
        size_t at = s.n;
        while (at && s.p[at - 1] != '\n') at--;
        if ((at || x->line_starts) && skip_space(s.p + at, s.p + s.n) == s.p + s.n) s.n = at;
    }
    if (s.n) add(x, T_DATA, s);
}

static bool is(const char *p, const char *end, const char *what)
{
    size_t n = strlen(what);
    return (size_t)(end - p) >= n && !memcmp(p, what, n);
}

/* "raw %}" or "endraw %}" at p, after the sign: where it ends; NULL: not there. */
static const char *raw_tag(const char *p, const char *end, const char *word, bool trims)
{
    p = skip_space(p, end);
    if (!is(p, end, word)) return NULL;
    p = skip_space(p + strlen(word), end);
    if (trims && is(p, end, "+%}")) return p + 3;
    if (is(p, end, "-%}")) return skip_space(p + 3, end);
    if (!is(p, end, "%}")) return NULL;
    p += 2;
    return trims && p < end && *p == '\n' ? p + 1 : p;
}

static char sign_at(const char *p, const char *end)
{
    return p < end && (*p == '-' || *p == '+') ? *p : 0;
}

static void raw(lexer *x)
{
    for (const char *p = x->p; p < x->end; p++) {
        if (!is(p, x->end, "{%")) continue;
        char sign = sign_at(p + 2, x->end);
        const char *to = raw_tag(p + 2 + !!sign, x->end, "endraw", true);
        if (!to) continue;
        data(x, (span){ x->p, (size_t)(p - x->p) }, sign, true);
        advance(x, to);
        return;
    }
    if (x->p < x->end) fail(x, DR_EFORMAT, "{% raw %} without {% endraw %}");
}

static void comment(lexer *x)
{
    for (const char *p = x->p; p < x->end; p++) {
        const char *to = NULL;
        if (is(p, x->end, "+#}")) to = p + 3;
        else if (is(p, x->end, "-#}")) to = skip_space(p + 3, x->end);
        else if (is(p, x->end, "#}")) to = p + 2 + (p + 2 < x->end && p[2] == '\n');
        if (!to) continue;
        advance(x, to);
        return;
    }
    if (x->p < x->end) fail(x, DR_EFORMAT, "a comment without its end");
}

static bool is_digit(const char *p, const char *end) { return p < end && *p >= '0' && *p <= '9'; }

/* Digits with single underscores between. */
static const char *digits(const char *p, const char *end)
{
    while (is_digit(p, end) || (p < end && *p == '_' && is_digit(p + 1, end))) p++;
    return p;
}

static bool number(lexer *x)
{
    const char *p = x->p, *q = digits(p, x->end);
    bool real = false, after_dot = p[-1] == '.';
    char text[64];
    size_t n = 0;
    if (!is_digit(p, x->end)) return false;
    if (!after_dot && q < x->end && *q == '.' && is_digit(q + 1, x->end))
        real = true, q = digits(q + 1, x->end);
    if (!after_dot && q < x->end && (*q == 'e' || *q == 'E')) {
        const char *k = q + 1 + (q + 1 < x->end && (q[1] == '+' || q[1] == '-'));
        if (is_digit(k, x->end)) real = true, q = digits(k, x->end);
    }
    int base = 10;
    if (!real && *p == '0') {
        char c = p + 1 < x->end ? p[1] | 32 : 0;
        base = c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 10;
        if (base != 10) {
            fail(x, DR_EUNSUPPORTED, "a number that is not decimal");
            return true;
        }
        for (q = p; q < x->end && (*q == '0' || (*q == '_' && q + 1 < x->end && q[1] == '0'));) q++;
    }
    for (const char *k = p; k < q; k++)
        if (*k != '_' && n + 1 < sizeof text) text[n++] = *k;
    text[n] = 0;
    jtok *t = add(x, real ? T_FLOAT : T_INT, (span){ p, (size_t)(q - p) });
    if (!t) return true;
    if (n + 1 == sizeof text || (!real && (n > 19 || strtoull(text, NULL, 10) > INT64_MAX)))
        fail(x, DR_EUNSUPPORTED, "a number beyond 64 bits");
    t->v = real ? (jv){ .kind = J_FLOAT, .f = strtod(text, NULL) }
                : (jv){ .kind = J_INT, .i = (int64_t)strtoull(text, NULL, 10) };
    advance(x, q);
    return true;
}

static int hex(const char *p, const char *end, int n, uint32_t *c)
{
    *c = 0;
    for (int i = 0; i < n; i++, p++) {
        if (p >= end) return -1;
        int d = *p >= '0' && *p <= '9' ? *p - '0' : (*p | 32) >= 'a' && (*p | 32) <= 'f'
              ? (*p | 32) - 'a' + 10 : -1;
        if (d < 0) return -1;
        *c = *c << 4 | (uint32_t)d;
    }
    return 0;
}

/* One escape at p (past the backslash); what it means goes to *to. */
static const char *escape(lexer *x, const char *p, const char *end, char **to)
{
    static const char from[] = "\\'\"abfnrtv", means[] = "\\'\"\a\b\f\n\r\t\v";
    const char *at = *p ? strchr(from, *p) : NULL;
    uint32_t c = 0;
    if (at) {
        *(*to)++ = means[at - from];
        return p + 1;
    }
    if (*p == '\n') return p + 1;
    if (*p == 'x' || *p == 'u' || *p == 'U') {
        int n = *p == 'x' ? 2 : *p == 'u' ? 4 : 8;
        if (hex(p + 1, end, n, &c) || c > 0x10ffff) {
            fail(x, DR_EFORMAT, "a broken \\x, \\u or \\U in a string");
            return end;
        }
        p += 1 + n;
    } else if (*p >= '0' && *p <= '7') {
        for (int i = 0; i < 3 && p < end && *p >= '0' && *p <= '7'; i++)
            c = c << 3 | (uint32_t)(*p++ - '0');
    } else if (*p == 'N' || (unsigned char)*p >= 0x80) {
        fail(x, DR_EUNSUPPORTED, "an escape in a string that drover does not know");
        return end;
    } else {
        *(*to)++ = '\\', *(*to)++ = *p;
        return p + 1;
    }
    if (c >= 0xd800 && c < 0xe000) fail(x, DR_EUNSUPPORTED, "half of a surrogate pair in a string");
    else *to += utf8_put((uint8_t *)*to, c);
    return p;
}

static bool string(lexer *x)
{
    char q = *x->p;
    const char *p = x->p + 1, *close = p;
    if (q != '\'' && q != '"') return false;
    while (close < x->end && *close != q) close += 1 + (*close == '\\');
    if (close >= x->end) {
        fail(x, DR_EFORMAT, "a string without its end");
        return true;
    }
    size_t room = (size_t)(close - p) * 2 + 4;
    char *text = jmem_take(x->m, room), *to = text;
    jstr *s = jmem_take(x->m, sizeof *s);
    jtok *t = add(x, T_STR, (span){ p, (size_t)(close - p) });
    if (!text || !s || !t) {
        nomem(x);
        return true;
    }
    while (p < close && !x->rc) {
        if (*p == '\\') p = escape(x, p + 1, close, &to);
        else *to++ = *p++;
    }
    *s = (jstr){ .p = text, .n = (size_t)(to - text) };
    for (size_t i = 0; i < s->n; i++) s->chars += !jcont(text[i]);
    t->v = (jv){ .kind = J_STR, .s = s };
    advance(x, close + 1);
    return true;
}

static bool name(lexer *x)
{
    const char *p = x->p;
    while (p < x->end) {
        int n;
        uint32_t c = utf8_get((const uint8_t *)p, (const uint8_t *)x->end, &n);
        if (c == UTF8_BAD || !(c == '_' || (uc_props(c) & UC_WORD))) break;
        p += n;
    }
    if (p == x->p) return false;
    add(x, T_NAME, (span){ x->p, (size_t)(p - x->p) });
    advance(x, p);
    return true;
}

static void bracket(lexer *x, char c)
{
    if (c == '(' || c == '[' || c == '{') {
        if (x->n_open == JINJA_MAX_DEPTH) fail(x, DR_EUNSUPPORTED, "brackets nested too deeply");
        else x->open[x->n_open++] = c == '(' ? ')' : (char)(c + 2);
    } else if (!x->n_open || x->open[--x->n_open] != c) {
        fail(x, DR_EFORMAT, "a closing bracket that closes nothing");
    }
}

static bool operator(lexer *x)
{
    static const char *const op[] = { "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%",
                                      "~", "[", "]", "(", ")", "{", "}", ">", "<", "=", ".", ":",
                                      "|", ",", ";" };
    for (size_t i = 0; i < sizeof op / sizeof *op; i++) {
        if (!is(x->p, x->end, op[i])) continue;
        if (strchr("()[]{}", *op[i])) bracket(x, *op[i]);
        add(x, T_OP, span_of(op[i]));
        advance(x, x->p + strlen(op[i]));
        return true;
    }
    return false;
}

/* Inside {{ }} or {% %}: one token, or the end (true). */
static bool inside(lexer *x, bool block)
{
    const char *p = x->p, *to = NULL;
    if (!x->n_open) {
        if (block) {
            if (is(p, x->end, "+%}")) to = p + 3;
            else if (is(p, x->end, "-%}")) to = skip_space(p + 3, x->end);
            else if (is(p, x->end, "%}")) to = p + 2 + (p + 2 < x->end && p[2] == '\n');
        } else {
            if (is(p, x->end, "-}}")) to = skip_space(p + 3, x->end);
            else if (is(p, x->end, "}}")) to = p + 2;
        }
        if (to) {
            add(x, block ? T_BLOCK_END : T_VAR_END, (span){ p, 2 });
            advance(x, to);
            return true;
        }
    }
    to = skip_space(p, x->end);
    if (to > p) {
        advance(x, to);
        return false;
    }
    if (!number(x) && !string(x) && !name(x) && !operator(x))
        fail(x, DR_EFORMAT, "a character that no expression has");
    return false;
}

static void root(lexer *x)
{
    const char *p = x->p;
    while (p < x->end && !(is(p, x->end, "{%") || is(p, x->end, "{{") || is(p, x->end, "{#"))) p++;
    span s = { x->p, (size_t)(p - x->p) };
    if (p == x->end) {
        if (s.n) add(x, T_DATA, s);
        advance(x, p);
        return;
    }
    char kind = p[1], sign = sign_at(p + 2, x->end);
    const char *body = p + 2 + !!sign, *to = kind == '%' ? raw_tag(body, x->end, "raw", false) : NULL;
    data(x, s, sign, kind != '{');
    advance(x, to ? to : body);
    if (to) {
        raw(x);
    } else if (kind == '#') {
        comment(x);
    } else {
        bool block = kind == '%';
        add(x, block ? T_BLOCK_BEGIN : T_VAR_BEGIN, (span){ p, 2 });
        while (!x->rc && x->p < x->end)
            if (inside(x, block)) return;
        fail(x, DR_EFORMAT, block ? "{% without %}" : "{{ without }}");
    }
}

/* Line ends are \n; one at the very end goes. */
static char *normal(jmem *m, span s, size_t *n)
{
    char *to = jmem_take(m, s.n + 2), *p = to;
    if (!to) return NULL;
    *p++ = 0;                                    /* so that p[-1] exists */
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '\r') {
            *p++ = '\n';
            if (i + 1 < s.n && s.p[i + 1] == '\n') i++;
        } else {
            *p++ = s.p[i];
        }
    }
    if (p > to + 1 && p[-1] == '\n') p--;
    *n = (size_t)(p - to - 1);
    return to + 1;
}

int jlex(jmem *m, span text, jtok **tok, size_t *n, dr_err *e)
{
    lexer x = { .m = m, .line = 1, .line_starts = true, .e = e };
    size_t len = 0;
    if (text.n > JINJA_MAX_SOURCE)
        return err_set(e, DR_EUNSUPPORTED, "a chat template of %zu bytes; at most %d are read",
                       text.n, (int)JINJA_MAX_SOURCE);
    x.p = normal(m, text, &len);
    if (!x.p) return err_nomem(e, text.n, "a chat template");
    x.end = x.p + len;
    for (const uint8_t *p = (const uint8_t *)x.p, *end = p + len; p < end;) {
        int k;
        if (utf8_get(p, end, &k) == UTF8_BAD || !*p)
            return err_set(e, DR_EFORMAT, "the chat template is not UTF-8 text");
        p += k;
    }
    while (!x.rc && x.p < x.end) root(&x);
    if (!x.rc) add(&x, T_EOF, (span){ "", 0 });
    *tok = x.tok, *n = x.n;
    return x.rc;
}
