/* schema_number.c - numbers between bounds, as decimal texts: exact, by comparing digits. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "gen/schema_priv.h"

enum { LONGEST = 20 };              /* characters of a number */

bool bound_read(const json_t *v, bool open, bound *b)
{
    char s[40], *at;
    *b = (bound){ .there = true, .open = open };
    if (json_is_integer(v)) {
        snprintf(s, sizeof s, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
        at = s + (*s == '-');
        b->negative = *s == '-';
        b->whole = (int)strlen(at);
        memcpy(b->digits, at, strlen(at) + 1);
    } else if (json_is_real(v)) {
        double x = json_real_value(v);
        int p = 0;
        do snprintf(s, sizeof s, "%.*e", p, x); while (strtod(s, NULL) != x && ++p < 17);
        b->negative = *s == '-';
        at = s + (*s == '-');
        int ten = (int)strtol(strchr(at, 'e') + 1, NULL, 10), n = 0;
        if (ten < 0)                                         /* zeros in front */
            for (int i = 0; i < -ten; i++) b->digits[n++] = '0';
        for (; *at != 'e'; at++)
            if (*at != '.') b->digits[n++] = *at;
        while (n < ten + 1) b->digits[n++] = '0';
        b->digits[n] = 0;
        b->whole = ten < 0 ? 1 : ten + 1;
    } else return false;
    int n = (int)strlen(b->digits);
    while (n > b->whole && b->digits[n - 1] == '0') b->digits[--n] = 0;
    if (n == 1 && b->digits[0] == '0') b->negative = false;
    return true;
}

static int magnitude(const bound *a, const bound *b)
{
    if (a->whole != b->whole) return a->whole < b->whole ? -1 : 1;
    return strcmp(a->digits, b->digits);
}

/* As numbers. */
int bound_compare(const bound *a, const bound *b)
{
    if (a->negative != b->negative) return a->negative ? -1 : 1;
    int c = magnitude(a, b);
    return a->negative ? -c : c;
}

typedef struct { gctx *g; char *p; size_t n, cap; } text;

static void add(text *t, const char *s, size_t n)
{
    if (t->g->rc) return;
    if (t->n + n + 1 > t->cap) {
        size_t cap = (t->n + n + 1) * 2;
        char *p = gz_take(t->g, cap);
        if (!p) return;
        if (t->n) memcpy(p, t->p, t->n);
        t->p = p, t->cap = cap;
    }
    memcpy(t->p + t->n, s, n);
    t->n += n;
}

static void puts_to(text *t, const char *s) { add(t, s, strlen(s)); }

/* digits[0..k), then one digit from lo to hi; false: there is none. */
static bool branch(text *t, const char *digits, int k, int lo, int hi)
{
    char s[8];
    if (lo > hi) return false;
    if (t->n) puts_to(t, "|");
    add(t, digits, (size_t)k);
    snprintf(s, sizeof s, "[%d-%d]", lo, hi);
    puts_to(t, s);
    return true;
}

static void many(text *t, int min, int max)
{
    char s[40];
    snprintf(s, sizeof s, max < 0 ? "[0-9]{%d,}" : "[0-9]{%d,%d}", min, max);
    puts_to(t, s);
}

/* The fraction of a number whose whole part equals b's: above (up) or below. */
static void equal_whole(text *t, const bound *b, bool up, bool ints)
{
    const char *f = b->digits + b->whole;
    int n = (int)strlen(f);
    char whole[400];
    snprintf(whole, sizeof whole, "%.*s", b->whole, b->digits);
#define OR() (puts_to(t, t->n ? "|" : ""), puts_to(t, whole))
    if (ints) {
        if (up ? !n && !b->open : n || !b->open) OR();
        return;
    }
    if (n == 0) {
        if (up && b->open) OR(), puts_to(t, "\\.[0-9]*[1-9][0-9]*");
        else if (up) OR(), puts_to(t, "(?:\\.[0-9]+)?");
        else if (!b->open) OR(), puts_to(t, "(?:\\.0+)?");
        return;
    }
    if (!up) OR();                                           /* no fraction at all is below */
    for (int k = 0; k < n; k++) {
        char range[8];
        int d = f[k] - '0', lo = up ? d + 1 : 0, hi = up ? 9 : d - 1;
        if (lo <= hi) {
            OR(), puts_to(t, "\\."), add(t, f, (size_t)k);
            snprintf(range, sizeof range, "[%d-%d]", lo, hi);
            puts_to(t, range), puts_to(t, "[0-9]*");
        }
        if (!up && k) OR(), puts_to(t, "\\."), add(t, f, (size_t)k);
    }
    if (up && b->open) OR(), puts_to(t, "\\."), puts_to(t, f), puts_to(t, "[0-9]*[1-9][0-9]*");
    else if (up) OR(), puts_to(t, "\\."), puts_to(t, f), puts_to(t, "[0-9]*");
    else if (!b->open) OR(), puts_to(t, "\\."), puts_to(t, f), puts_to(t, "0*");
#undef OR
}

/* Unsigned texts of at least (up) or at most |b|. */
static cauto *half(gctx *g, const bound *b, bool up, bool ints)
{
    text t = { .g = g };
    const char *after = ints ? "" : "(?:\\.[0-9]+)?";
    int w = b->whole;
    if (up) {
        puts_to(&t, "[1-9]"), many(&t, w, -1), puts_to(&t, after);
    } else if (w > 1) {
        puts_to(&t, "(?:0|[1-9]"), many(&t, 0, w - 2), puts_to(&t, ")"), puts_to(&t, after);
    }
    for (int k = 0; k < w; k++) {
        int d = b->digits[k] - '0';
        if (branch(&t, b->digits, k, up ? d + 1 : k == 0 && w > 1 ? 1 : 0, up ? 9 : d - 1)) {
            many(&t, w - 1 - k, w - 1 - k);
            puts_to(&t, after);
        }
    }
    equal_whole(&t, b, up, ints);
    if (!t.n) {
        cauto *none = gz_take(g, sizeof *none);
        return none;
    }
    return regex_cauto(g, (span){ t.p, t.n }, false);
}

/* Unsigned texts with a magnitude from lo to hi (either may be absent). */
static cauto *between(gctx *g, const bound *lo, const bound *hi, bool ints, int most)
{
    cauto *a = regex_cauto(g, span_of(ints ? "0|[1-9][0-9]*" : "(?:0|[1-9][0-9]*)(?:\\.[0-9]+)?"),
                           false);
    if (lo->there && lo->whole > LONGEST) return gz_take(g, sizeof *a);
    if (lo->there) a = ca_and(g, a, half(g, lo, true, ints));
    if (hi->there && hi->whole <= LONGEST) a = ca_and(g, a, half(g, hi, false, ints));
    return ca_length(g, a, 1, (uint32_t)most);
}

gx *bound_range(gctx *g, const bound *lo, const bound *hi, bool ints)
{
    static const bound none, zero = { .there = true, .open = true, .digits = "0", .whole = 1 };
    gx *plus = gx_new(g, GX_NEVER), *minus = plus;
    if (!(hi->there && hi->negative))
        plus = gx_auto(g, between(g, lo->there && !lo->negative ? lo : &none, hi, ints, LONGEST), false);
    bool below = !lo->there || lo->negative;
    if (below) {
        const bound *from = hi->there && hi->negative ? hi : &zero;      /* minus zero is left out */
        minus = gx_seq(g, gx_str(g, "-"), gx_auto(g, between(g, from, lo, ints, LONGEST - 1), false));
    }
    return gx_alt(g, plus, minus);
}
