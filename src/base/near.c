/* near.c - see near.h. */
#include "base/near.h"
#include <limits.h>
#include <string.h>

enum { MAX_WORD = 40 };

/* Edits (insert, delete, replace, swap neighbours) from a to b; words are short. */
static int edits(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    if (n >= MAX_WORD || m >= MAX_WORD) return INT_MAX;
    int d[MAX_WORD + 1][MAX_WORD + 1];
    for (size_t i = 0; i <= n; i++) {
        for (size_t j = 0; j <= m; j++) {
            if (!i || !j) { d[i][j] = (int)(i + j); continue; }
            int best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (d[i - 1][j] + 1 < best) best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best) best = d[i][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]
                && d[i - 2][j - 2] + 1 < best)
                best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    }
    return d[n][m];
}

const char *near_miss(const char *word, const char *const *words, int n)
{
    const char *best = NULL;
    size_t len = strlen(word);
    int best_d = len < 3 ? 1 : len < 6 ? 2 : 3;      /* farther than this is another word */
    for (int i = 0; i < n; i++) {
        int d = edits(word, words[i]);
        /* an abbreviation, or a word that goes on: nearer than a two-letter slip */
        if (len >= 2 && !strncmp(words[i], word, len) && d > 1) d = 1;
        if (d < best_d || (d == best_d && !best)) best = words[i], best_d = d;
    }
    return best;
}
