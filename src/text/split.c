/* split.c - Llama 3's pre-tokeniser by hand. See split.h. */
#include "text/split.h"
#include "text/unicode.h"
#include "text/utf8.h"

/* cf. llama-models models/llama3/tokenizer.py. (?i:) follows Unicode case folding, so U+017F
 * LATIN SMALL LETTER LONG S counts as an s. */
const char split_llama3_regex[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
    " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const char split_qwen2_regex[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|"
    " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const char split_gpt2_regex[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
/* Mistral's tekken.json, default version. */
const char split_tekken_regex[] =
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|"
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|"
    "\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

enum { OTHER, LETTER, NUMBER, SPACE, NEWLINE };      /* the five kinds the pattern tells apart */

static const uint8_t ascii[128] = {
    [9] = SPACE, [10] = NEWLINE, [11] = SPACE, [12] = SPACE, [13] = NEWLINE, [32] = SPACE,
#define TEN(c) [c] = NUMBER, [c + 1] = NUMBER, [c + 2] = NUMBER, [c + 3] = NUMBER, [c + 4] = NUMBER
    TEN('0'), TEN('5'),
#undef TEN
#define FIVE(c) [c] = LETTER, [c + 1] = LETTER, [c + 2] = LETTER, [c + 3] = LETTER, [c + 4] = LETTER
    FIVE('A'), FIVE('F'), FIVE('K'), FIVE('P'), FIVE('U'), ['Z'] = LETTER,
    FIVE('a'), FIVE('f'), FIVE('k'), FIVE('p'), FIVE('u'), ['z'] = LETTER,
#undef FIVE
};

static const uint8_t kind_of_gc[32] = {
    [GC_LU] = LETTER, [GC_LL] = LETTER, [GC_LT] = LETTER, [GC_LM] = LETTER, [GC_LO] = LETTER,
    [GC_ND] = NUMBER, [GC_NL] = NUMBER, [GC_NO] = NUMBER,
};

static int wide_kind(const uint8_t *p, const uint8_t *end, int *n)
{
    uint32_t c = utf8_get(p, end, n);
    if (c == UTF8_BAD) return OTHER;
    uint8_t u = uc_props(c);
    return u & UC_SPACE ? SPACE : kind_of_gc[u & UC_GC];
}

/* The kind of the character at p < end and its length. */
static inline int kind(const uint8_t *p, const uint8_t *end, int *n)
{
    if (*p < 128) { *n = 1; return ascii[*p]; }
    return wide_kind(p, end, n);
}

static inline const uint8_t *run(const uint8_t *p, const uint8_t *end, int k)
{
    int n;
    while (p < end && kind(p, end, &n) == k) p += n;
    return p;
}

/* (?i:'s|'t|'re|'ve|'m|'ll|'d) with p at the apostrophe; NULL: no match. */
static const uint8_t *contraction(const uint8_t *p, const uint8_t *end)
{
    size_t left = (size_t)(end - p);
    if (left < 2) return NULL;
    int a = p[1] | 32, b = left > 2 ? p[2] | 32 : 0;
    if (p[1] >= 128) return p[1] == 0xc5 && left > 2 && p[2] == 0xbf ? p + 3 : NULL;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return p + 2;
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return p + 3;
    return NULL;
}

/* p is at white space that no letter or symbol claims:
 * \s*[\r\n]+ | \s+(?!\S) | \s+ */
static const uint8_t *spaces(const uint8_t *p, const uint8_t *end)
{
    const uint8_t *q = p, *last = p, *after_newline = NULL;
    for (int n; q < end; q += n) {
        int k = kind(q, end, &n);
        if (k != SPACE && k != NEWLINE) break;
        last = q;
        if (k == NEWLINE) after_newline = q + 1;
    }
    if (after_newline) return after_newline;
    if (q == end || last == p) return q;
    return last;                                /* leave one space for the word behind it */
}

const uint8_t *split_llama3(const uint8_t *p, const uint8_t *end, int digits)
{
    int n, m;
    const uint8_t *q;
    if (*p == '\'' && (q = contraction(p, end))) return q;
    int k = kind(p, end, &n);
    if (k == LETTER) return run(p + n, end, LETTER);
    if (k == NUMBER) {
        for (q = p + n; --digits > 0 && q < end && kind(q, end, &m) == NUMBER;) q += m;
        return q;
    }
    q = p + n;
    if (k == NEWLINE) return spaces(p, end);
    int next = q < end ? kind(q, end, &m) : -1;
    if (next == LETTER) return run(q + m, end, LETTER);
    if (k == SPACE && (*p != ' ' || next != OTHER)) return spaces(p, end);
    q = run(q, end, OTHER);
    while (q < end && (*q == '\r' || *q == '\n')) q++;
    return q;
}
