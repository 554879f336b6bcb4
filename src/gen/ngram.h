/* ngram.h - where the end of a text occurred before: the index behind prompt lookup. Tokens are put
 * one by one; a find takes the longest of the lengths kept (1 to 16 tokens) whose last occurrence
 * is remembered, and says how far that occurrence really agrees. Both cost a few table look-ups,
 * whatever the length of the text.
 * Memory is taken by ngram_new; a text longer than its room loses its older half.
 * Threads: one at a time. */
#ifndef GEN_NGRAM_H
#define GEN_NGRAM_H
#include <stdint.h>
#include "base/err.h"

typedef struct ngram ngram;

enum { NGRAM_MAX = 64 };    /* agreement is counted up to here */

typedef struct {
    int len;                /* tokens before `at` that equal the text's end; 0: none */
    int at;                 /* where what followed them begins, less than the text's length */
} ngram_match;

/* room: tokens held at once, at least 64. */
ngram *ngram_new(int room, dr_err *e);
void ngram_free(ngram *g);                                   /* NULL is fine */
void ngram_clear(ngram *g);
void ngram_put(ngram *g, int32_t id);
int ngram_len(const ngram *g);                               /* tokens held */
const int32_t *ngram_text(const ngram *g);                   /* (len,) */
ngram_match ngram_find(const ngram *g);
/* The n tokens that followed the match; where they reach the end of the text they go on with
 * themselves, so a repetition goes on. */
void ngram_copy(const ngram *g, ngram_match m, int n, int32_t *out);
size_t ngram_bytes(int room);
#endif
