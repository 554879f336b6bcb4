/* spec.h - speculation: guesses of the next tokens, and how many of them are worth evaluating. A guess
 * never decides a token; docs/speculative.md says how it is checked and why output cannot change.
 *
 * Two sources: prompt lookup (what followed the end of the text when it occurred before, gen/ngram.h)
 * and a draft model, a smaller one of the same vocabulary. How often guesses of a kind came true and
 * what a step of n columns takes are measured while it runs, and outlive a reply.
 * Ownership: owns its draft session, borrows the models. Nothing is allocated between spec_begin and
 * the end of a reply. Threads: one at a time. */
#ifndef GEN_SPEC_H
#define GEN_SPEC_H
#include "gen/grammar.h"
#include "gen/sample.h"
#include "gen/session.h"

typedef enum { SPEC_NONE, SPEC_NGRAM, SPEC_DRAFT } spec_kind;

enum { SPEC_MAX = 31, SPEC_MAX_DEFAULT = 15 };

typedef struct {
    spec_kind kind;
    int max;                    /* guesses of one step at most, 1 to SPEC_MAX; 0: the default */
    int min;                    /* at least so many wherever something can be guessed, whether it
                                   pays or not; 0: what pays */
    const model *draft;         /* SPEC_DRAFT: same vocabulary as the target (spec_vocabulary) */
} spec_opt;

typedef struct spec spec;

/* For a session of n_ctx positions of the target. */
spec *spec_new(const spec_opt *o, const model *target, int n_ctx, dr_err *e);
void spec_free(spec *p);                                     /* NULL is fine */
/* Rows of logits that the target's session must keep: session_opt.n_logits. */
int spec_rows(const spec_opt *o);
/* DR_EINVAL, naming the first difference, when a and b are not the same vocabulary. */
int spec_vocabulary(const tokenizer *target, const tokenizer *draft, dr_err *e);

/* A reply to these tokens begins, picked with these options. */
int spec_begin(spec *p, const sample_opt *o, const int32_t *prompt, int n, dr_err *e);
void spec_end(spec *p);

/* Where a reply is. Everything is borrowed for the call. */
typedef struct {
    const int32_t *tok, *held;  /* the context: evaluated tokens, then those not evaluated yet */
    int n_tok, n_held;
    int room;                   /* guesses that can still be of use */
    uint64_t sample, pos;       /* of the token after the context */
    matcher *constraint;        /* NULL: none */
    int place;
} spec_where;

/* Guesses of the tokens after the context into out (SPEC_MAX); returns how many. */
int spec_guess(spec *p, const spec_where *w, int32_t *out);
/* The token that was picked, guessed or not. */
void spec_took(spec *p, int32_t id);
/* A step of n columns took this long. */
void spec_timed(spec *p, int n, int64_t ns);
#endif
