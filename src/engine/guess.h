/* guess.h - guesses of next tokens for the sequences of a batch, while so few of them decode that more rows
 * cost little: what followed the end of a text when it occurred before (gen/ngram.h).
 *
 * How many guesses a step gets, and which sequences, is what makes the most tokens in a second: the most
 * likely ones first, until a row more costs more than it is expected to give. What a step of so many rows
 * takes and how often guesses came true is measured meanwhile, so with the load the guesses go away. An
 * account as gen/spec.c's bounds what wrong beliefs can cost.
 * A guess never decides a token. Nothing is allocated but by guess_new. Threads: the engine's. */
#ifndef ENGINE_GUESS_H
#define ENGINE_GUESS_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"

enum { GUESS_SEQS = 8,              /* sequences at most for which there are guesses */
       GUESS_MAX = 31 };            /* guesses of one sequence */

typedef struct guess guess;
/* max: guesses of one sequence in a step, 1 … GUESS_MAX; min: at least so many where there is room and
 * something to guess from, whether they pay or not. */
guess *guess_new(int n_ctx, int min, int max, dr_err *e);
void guess_free(guess *g);                          /* NULL is fine */
size_t guess_bytes(const guess *g);

/* A sequence that decodes. */
typedef struct {
    uint64_t id;                    /* tells sequences apart; never used again for another text */
    const int32_t *tok;             /* (known,) its text; begins with what it was */
    int known;
    int room;                       /* guesses that can be of use */
    int n;                          /* answer: how many are worth their rows */
} guess_seq;
/* Sets n of each; n_seqs rows are evaluated anyway. */
void guess_plan(guess *g, guess_seq *s, int n_seqs);
/* The first n of the guesses of sequence `id`, for which the last plan had n or more. */
void guess_copy(const guess *g, uint64_t id, int n, int32_t *out);
/* A step without prompts, of n_seqs sequences and some guesses, gave so many tokens in so long. */
void guess_ran(guess *g, int n_seqs, int n_guesses, int tokens, int64_t ns);
#endif
