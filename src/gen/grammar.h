/* grammar.h - constrained output: a grammar, JSON schema or regular expression over the tokens of a
 * vocabulary. docs/constrained.md says what is understood and what is bounded.
 *
 *     vtrie *v = vtrie_new(tokenizer, e);
 *     grammar *g = grammar_new(GRAMMAR_SCHEMA, text, v, e);          // immutable, shareable
 *     matcher *m = matcher_new(g, e);                                // caches of one thread
 *     int p = matcher_begin(m, e);                                   // one text being made
 *     while (…) { matcher_mask(m, p, left, mask, &k, e); pick; matcher_take(m, p, id, e); }
 *
 * Ownership: a matcher borrows its grammar, a grammar its vtrie. A matcher's memory is taken by
 * matcher_new: nothing is allocated while text is made. */
#ifndef GEN_GRAMMAR_H
#define GEN_GRAMMAR_H
#include "gen/vtrie.h"

typedef enum { GRAMMAR_GBNF, GRAMMAR_SCHEMA, GRAMMAR_REGEX } grammar_kind;
typedef struct grammar grammar;
typedef struct matcher matcher;

/* Compile. What the text says and cannot be enforced is refused by name (DR_EUNSUPPORTED); a text
 * that is wrong is DR_EFORMAT; one that nothing satisfies is DR_EINVAL. Time and memory are bounded:
 * at most about two seconds and 130 MB, whatever the text. */
grammar *grammar_new(grammar_kind k, span text, const vtrie *v, dr_err *e);
/* One more that holds it: each lets go by grammar_free, from whichever thread. Returns g. */
grammar *grammar_hold(grammar *g);
void grammar_free(grammar *g);                           /* NULL is fine; the last one frees */
/* Tokens of the shortest text: an upper bound as docs/constrained.md says. */
uint32_t grammar_shortest(const grammar *g);
size_t grammar_bytes(const grammar *g);
const vtrie *grammar_vtrie(const grammar *g);

/* One thread at a time. */
matcher *matcher_new(const grammar *g, dr_err *e);
void matcher_free(matcher *m);                           /* NULL is fine */
const grammar *matcher_grammar(const matcher *m);

/* Positions: one for each text being made, at most MATCHER_POSITIONS. -1: none is free. */
enum { MATCHER_POSITIONS = 256 };
int matcher_begin(matcher *m, dr_err *e);
int matcher_copy(matcher *m, int p, dr_err *e);
void matcher_end(matcher *m, int p);

#define MATCHER_ANY UINT32_MAX                           /* no limit on what is left */
typedef struct {
    int n_text;             /* tokens that may come next */
    int32_t only;           /* the one, when n_text is 1 */
    bool done;              /* the text may end here */
} matcher_next;
/* mask: (vtrie.words,) a bit for each token of text that may come next so that the text can still
 * be finished within `left` tokens, this one included. No bit and not done, which a `left` of at
 * least matcher_need excludes, is DR_EINVAL; DR_EUNSUPPORTED: more readings of the text at once
 * than the caches hold. */
int matcher_mask(matcher *m, int p, uint32_t left, uint64_t *mask, matcher_next *next, dr_err *e);
/* Go on by a token of text; DR_EINVAL, and no change, when the grammar does not allow it. */
int matcher_take(matcher *m, int p, int32_t id, dr_err *e);
/* Go on by bytes: false, and no change, when the grammar does not allow them. */
bool matcher_bytes(matcher *m, int p, span bytes);
bool matcher_done(const matcher *m, int p);              /* the text may end here */
uint32_t matcher_need(const matcher *m, int p);          /* tokens that finish it: upper bound */
#endif
