/* gbnf.c - grammars as llama.cpp writes them: rules of alternatives over strings, classes of
 * characters, groups and repetitions. The syntax is in its grammars/README.md; what differs here is
 * in docs/constrained.md. */
#include <stdio.h>
#include <string.h>
#include "gen/gram_ir.h"
#include "text/utf8.h"

typedef struct {
    gctx *g;
    const uint8_t *p, *end, *start;
    int depth;
    int32_t *slot, n_slots;         /* rules by name */
    bool *given;
    int cap_given;
} parser;

static gx *bad(parser *r, const char *why)
{
    int line = 1;
    for (const uint8_t *q = r->start; q < r->p && q < r->end; q++) line += *q == '\n';
    gz_fail(r->g, DR_EFORMAT, "the grammar, line %d: %s", line, why);
    return NULL;
}

static bool is_word(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
}

static int at(const parser *r) { return r->p < r->end ? *r->p : -1; }

static void skip(parser *r, bool lines)
{
    for (;; r->p++) {
        int c = at(r);
        if (c == '#') {
            while (at(r) >= 0 && at(r) != '\n') r->p++;
            c = at(r);
        }
        if (c != ' ' && c != '\t' && c != '\r' && !(lines && c == '\n')) return;
    }
}

/* The rule of this name, made when it is new. */
static int rule_of(parser *r, span name)
{
    gctx *g = r->g;
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < name.n; i++) h = (h ^ (uint8_t)name.p[i]) * 0x100000001b3u;
    if (g->n_rules * 2 >= r->n_slots) {
        int n = r->n_slots ? r->n_slots * 2 : 64;
        int32_t *slot = gz_take(g, (size_t)n * sizeof *slot);
        if (!slot) return -1;
        memset(slot, 0xff, (size_t)n * sizeof *slot);
        for (int i = 0; i < g->n_rules; i++) {
            uint64_t k = 0xcbf29ce484222325u;
            for (const char *s = g->rule_name[i]; *s; s++) k = (k ^ (uint8_t)*s) * 0x100000001b3u;
            while (slot[k & (uint64_t)(n - 1)] >= 0) k++;
            slot[k & (uint64_t)(n - 1)] = i;
        }
        r->slot = slot, r->n_slots = n;
    }
    for (int32_t i; (i = r->slot[h & (uint64_t)(r->n_slots - 1)]) >= 0; h++)
        if (span_is(name, g->rule_name[i])) return i;
    char *copy = gz_copy(g, name.p, name.n);
    int rule = copy ? gram_rule_new(g, copy) : -1;
    if (rule < 0 || !gz_room(g, &r->given, rule, &r->cap_given, sizeof *r->given)) return -1;
    r->given[rule] = false;
    return r->slot[h & (uint64_t)(r->n_slots - 1)] = rule;
}

static span word(parser *r)
{
    const uint8_t *from = r->p;
    while (at(r) >= 0 && is_word(at(r))) r->p++;
    return (span){ (const char *)from, (size_t)(r->p - from) };
}

static int64_t hex(parser *r, int digits)
{
    int64_t v = 0;
    for (int i = 0; i < digits; i++, r->p++) {
        int c = at(r), d = c >= '0' && c <= '9' ? c - '0'
                         : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
        if (c < 0 || d < 0) return -1;
        v = v * 16 + d;
    }
    return v < CP_END && (v < 0xd800 || v > 0xdfff) ? v : -1;
}

/* One character of a string or class; -1: refused. */
static int64_t character(parser *r)
{
    int n;
    if (at(r) < 0) return bad(r, "a string or class is not closed"), -1;
    uint32_t c = utf8_get(r->p, r->end, &n);
    if (c == UTF8_BAD) return bad(r, "it is not UTF-8"), -1;
    r->p += n;
    if (c != '\\') return c;
    int k = at(r);
    int64_t v = -1;
    r->p++;
    switch (k) {
    case 'x': v = hex(r, 2); break;
    case 'u': v = hex(r, 4); break;
    case 'U': v = hex(r, 8); break;
    case 't': return '\t';
    case 'r': return '\r';
    case 'n': return '\n';
    case '\\': case '"': case '[': case ']': case '-': case '^': return k;
    default: return bad(r, "an escape that is not known: \\x, \\u, \\U, \\t, \\r, \\n, \\\\, \\\", "
                        "\\[ and \\] are"), -1;
    }
    if (v < 0) bad(r, "\\x, \\u and \\U want 2, 4 and 8 hexadecimal digits of a character");
    return v;
}

static gx *string(parser *r)
{
    const uint8_t *q = r->p + 1;                 /* its end; an escape is no longer than its source */
    while (q < r->end && *q != '"' && *q != '\n') q += 1 + (*q == '\\');
    uint8_t *text = gz_take(r->g, (size_t)(q - r->p) + 8);
    size_t n = 0;
    if (!text) return NULL;
    for (r->p++; at(r) != '"';) {
        if (at(r) == '\n') return bad(r, "a string is not closed");
        int64_t c = character(r);
        if (c < 0) return NULL;
        n += (size_t)utf8_put(text + n, (uint32_t)c);
    }
    r->p++;
    return gx_lit(r->g, (span){ (const char *)text, n });
}

static gx *class(parser *r)
{
    cp_set s = {0};
    r->p++;
    bool out = at(r) == '^';
    if (out) r->p++;
    while (at(r) != ']') {
        int64_t lo = character(r), hi = lo;
        if (lo < 0) return NULL;
        if (at(r) == '-' && r->p + 1 < r->end && r->p[1] != ']') {
            r->p++;
            hi = character(r);
            if (hi < 0) return NULL;
            if (hi < lo) return bad(r, "a range that runs backwards");
        }
        cp_add(r->g, &s, (uint32_t)lo, (uint32_t)hi);
    }
    r->p++;
    cp_done(&s);
    if (out) cp_invert(r->g, &s);
    return gx_set(r->g, s);
}

static gx *any(parser *r)
{
    cp_set s = {0};
    r->p++;
    cp_add(r->g, &s, 0, CP_END - 1);
    cp_done(&s);
    return gx_set(r->g, s);
}

static gx *alternatives(parser *r, bool nested);

static bool number(parser *r, uint32_t *v)
{
    if (at(r) < '0' || at(r) > '9') return false;
    uint64_t x = 0;
    for (; at(r) >= '0' && at(r) <= '9'; r->p++)
        if (x < GRAM_INF) x = x * 10 + (uint64_t)(at(r) - '0');
    *v = x < GRAM_INF ? (uint32_t)x : GRAM_INF - 1;
    return true;
}

static gx *repeated(parser *r, gx *x, bool nested)
{
    for (;;) {
        skip(r, nested);
        uint32_t min, max = GRAM_INF;
        int c = at(r);
        if (c == '*') min = 0;
        else if (c == '+') min = 1;
        else if (c == '?') min = 0, max = 1;
        else if (c != '{') return x;
        r->p++;
        if (c == '{') {
            skip(r, nested);
            if (!number(r, &min)) return bad(r, "{ wants a number: {m}, {m,} or {m,n}");
            max = min;
            skip(r, nested);
            if (at(r) == ',') {
                r->p++;
                skip(r, nested);
                if (!number(r, &max)) max = GRAM_INF;
                skip(r, nested);
            }
            if (at(r) != '}') return bad(r, "a { without its }");
            r->p++;
            if (max < min) return bad(r, "a repetition whose end is below its start");
        }
        x = gx_rep(r->g, x, min, max);
        if (!x) return NULL;
    }
}

static gx *item(parser *r)
{
    int c = at(r);
    if (c == '"') return string(r);
    if (c == '[') return class(r);
    if (c == '.') return any(r);
    if (c == '<' || c == '!') {
        gz_fail(r->g, DR_EUNSUPPORTED, "the grammar names a token with <…>: tokens as symbols are "
                "not supported");
        return NULL;
    }
    if (is_word(c)) return gx_rule(r->g, rule_of(r, word(r)));
    if (c != '(') return bad(r, "a string, a [class], a (group) or a rule's name is wanted");
    r->p++;
    skip(r, true);
    if (++r->depth > GRAM_MAX_NEST) return bad(r, "groups are nested too deeply");
    gx *x = alternatives(r, true);
    r->depth--;
    if (!x) return NULL;
    if (at(r) != ')') return bad(r, "a ( without its )");
    r->p++;
    return x;
}

static gx *sequence(parser *r, bool nested)
{
    gx **kid = NULL;
    int n = 0, cap = 0;
    for (int c; (c = at(r)) >= 0 && c != '|' && c != ')' && c != '\n';) {
        gx *x = item(r);
        x = x ? repeated(r, x, nested) : NULL;
        if (!x || !gz_work(r->g, 1) || !gz_room(r->g, &kid, n, &cap, sizeof *kid)) return NULL;
        kid[n++] = x;
        skip(r, nested);
    }
    return gx_list(r->g, GX_SEQ, kid, n);
}

static gx *alternatives(parser *r, bool nested)
{
    gx **kid = NULL;
    int n = 0, cap = 0;
    for (;;) {
        gx *x = sequence(r, nested);
        if (!x || !gz_room(r->g, &kid, n, &cap, sizeof *kid)) return NULL;
        kid[n++] = x;
        if (at(r) != '|') break;
        r->p++;
        skip(r, true);
    }
    return gx_list(r->g, GX_ALT, kid, n);
}

int gbnf_read(gctx *g, span text)
{
    parser r = { .g = g, .p = (const uint8_t *)text.p, .start = (const uint8_t *)text.p };
    r.end = r.p + text.n;
    if (!gz_work(g, (int64_t)text.n)) return -1;
    for (skip(&r, true); !g->rc && at(&r) >= 0; skip(&r, true)) {
        span name = word(&r);
        if (!name.n) return bad(&r, "a rule's name is wanted"), -1;
        int rule = rule_of(&r, name);
        if (rule < 0) return -1;
        skip(&r, false);
        if (r.end - r.p < 3 || memcmp(r.p, "::=", 3))
            return bad(&r, "::= is wanted behind a rule's name"), -1;
        r.p += 3;
        skip(&r, true);
        if (r.given[rule]) {
            gz_fail(g, DR_EFORMAT, "the grammar gives the rule %s twice", g->rule_name[rule]);
            return -1;
        }
        r.given[rule] = true;
        gx *x = alternatives(&r, false);                 /* g->rule may move */
        g->rule[rule] = x;
        if (!g->rc && at(&r) >= 0 && at(&r) != '\n')
            return bad(&r, "the end of the line is wanted"), -1;
    }
    if (g->rc) return -1;
    for (int i = 0; i < g->n_rules; i++)
        if (!r.given[i]) {
            gz_fail(g, DR_EFORMAT, "the grammar uses the rule %s, which it does not give",
                    g->rule_name[i]);
            return -1;
        }
    int root = rule_of(&r, span_of("root"));
    if (root < 0 || !r.given[root]) {
        gz_fail(g, DR_EFORMAT, "the grammar has no rule named root");
        return -1;
    }
    return root;
}
