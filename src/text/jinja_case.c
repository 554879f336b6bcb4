/* jinja_case.c - upper and lower case as Python's str has them, the marks kept. */
#include <utf8proc.h>
#include "text/jinja_priv.h"
#include "text/unicode.h"
#include "text/utf8.h"

static bool cased(uint32_t c)
{
    if (c == UTF8_BAD) return false;
    if (uc_in(c, 1u << GC_LU | 1u << GC_LL | 1u << GC_LT)) return true;
    return c >= 0x80 && (utf8proc_toupper((int32_t)c) != (int32_t)c
                         || utf8proc_tolower((int32_t)c) != (int32_t)c);
}

static bool ignorable(uint32_t c)
{
    if (c == UTF8_BAD) return false;
    if (c == '\'' || c == '.' || c == ':' || c == '^' || c == '`' || c == 0xa8 || c == 0xad
        || c == 0xaf || c == 0xb4 || c == 0xb7 || c == 0xb8 || c == 0x2018 || c == 0x2019
        || c == 0x2024 || c == 0x2027) return true;
    return uc_in(c, 1u << GC_MN | 1u << GC_ME | 1u << GC_CF | 1u << GC_LM | 1u << GC_SK);
}

/* Is the capital sigma at p (n bytes) the last letter of its word? */
static bool final_sigma(const uint8_t *start, const uint8_t *p, const uint8_t *end)
{
    const uint8_t *q = p;
    uint32_t c = 0;
    int n;
    for (bool found = false; !found;) {
        if (q == start) return false;
        for (q--; q > start && (*q & 0xc0) == 0x80;) q--;
        c = utf8_get(q, end, &n);
        found = !ignorable(c);
    }
    if (!cased(c)) return false;
    for (q = p + 2; q < end; q += n) {
        c = utf8_get(q, end, &n);
        if (!ignorable(c)) return !cased(c);
    }
    return true;
}

/* The case `how` of c into `to`; how many characters. */
static int map(uint32_t c, char how, uint32_t to[3])
{
    size_t n = case_many_n, lo = 0, hi = n;
    to[0] = c;
    if (c < 0x80) {
        bool up = c >= 'A' && c <= 'Z', low = c >= 'a' && c <= 'z';
        if (how == 'l' ? up : low) to[0] = c ^ 32;
        return 1;
    }
    if (c == UTF8_BAD) return 1;
    if (how == 'l' && c == 0x130) return to[0] = 'i', to[1] = 0x307, 2;
    while (how != 'l' && lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (case_many[mid][0] < c) lo = mid + 1;
        else hi = mid;
    }
    if (how != 'l' && lo < n && case_many[lo][0] == c) {
        const uint16_t *row = case_many[lo] + (how == 'u' ? 1 : 4);
        int k = 0;
        while (k < 3 && row[k]) to[k] = row[k], k++;
        return k;
    }
    int32_t i = (int32_t)c;
    to[0] = (uint32_t)(how == 'l' ? utf8proc_tolower(i) : how == 'u' ? utf8proc_toupper(i)
                                                                      : utf8proc_totitle(i));
    return 1;
}

jstr *jcase(jrt *rt, const jstr *s, char how)
{
    jtext t = {0};
    const uint8_t *start = (const uint8_t *)s->p, *p = start, *end = p + s->n;
    bool inside = false;                         /* the character before has case */
    for (int n; p < end && !rt->rc; p += n) {
        uint32_t c = utf8_get(p, end, &n), to[3];
        size_t at = (size_t)(p - start);
        bool in = s->mark ? s->mark[at] : s->in;
        char one = how == 'c' ? (p == start ? 't' : 'l') : how == 't' ? (inside ? 'l' : 't') : how;
        inside = cased(c);
        if (c == UTF8_BAD) {
            jtext_put(rt, &t, (const char *)p, (size_t)n, in);
            continue;
        }
        int k = map(c, one, to);
        if (one == 'l' && c == 0x3a3) to[0] = final_sigma(start, p, end) ? 0x3c2 : 0x3c3;
        for (int i = 0; i < k; i++) {
            uint8_t u[4];
            jtext_put(rt, &t, (char *)u, (size_t)utf8_put(u, to[i]), in);
        }
    }
    jstr *r = jtext_take(rt, &t);
    if (r) r->safe = s->safe;
    return r;
}
