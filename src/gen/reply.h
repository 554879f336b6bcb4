/* reply.h - one reply while it is made, apart from who evaluates it: which token may come next, whether a
 * token ends it, its text without stop strings. gen_run makes one at a time, the engine many.
 *
 *     gen_reply_init; gen_reply_begin
 *     for each token: gen_reply_allow -> (a forced one, or a pick under r->allowed); gen_reply_take; gen_reply_show
 *     gen_reply_rest; gen_reply_free
 *
 * Nothing is allocated between gen_reply_init and gen_reply_free, but for the text that the caller keeps.
 * Threads: one at a time; what has the constraint in it, with others of the same matcher too. */
#ifndef GEN_REPLY_H
#define GEN_REPLY_H
#include "gen/grammar.h"
#include "gen/stop.h"
#include "text/tokenizer.h"

enum { REPLY_MAX_STOP = 64 };

typedef struct {
    const tokenizer *t;
    int n_vocab;                    /* logits of the model */
    int n_ctx;                      /* positions; 0: no end, the context is shifted */
    int max_tokens;                 /* -1: no limit */
    int min_tokens;                 /* no end before so many */
    const char *const *stop;
    int n_stop;
    bool show_special;              /* control tokens are part of the text */
    bool ignore_eos;
    bool keep_stop;                 /* the stop string is part of the text */
    bool sample_all;                /* no token is taken without a pick: log-probabilities are wanted */
    const int32_t *end;             /* ids that end it besides the vocabulary's own */
    int n_end;
    bool (*is_end)(void *arg, int32_t id);      /* the same as a function; NULL: none */
    void *is_end_arg;
    const grammar *form;            /* what it is a text of; NULL: anything */
} gen_reply_opt;

/* Everything in o is borrowed until gen_reply_free. */
typedef struct {
    gen_reply_opt o;
    stop *stop;
    tok_stream stream;
    buf chars;                      /* decoded, not yet past the stop scanner */
    matcher *match;                 /* of o.form, */
    int place;                      /* and the position in it; -1: none */
    uint64_t *mask, *ends;          /* (n_vocab / 64): what may come next; what ends. NULL: never needed */
    const uint64_t *allowed;        /* set by gen_reply_allow: for sampler_mask */
    bool can_end;                   /* some token ends a reply */
    int n_gen, n_forced;            /* taken so far; of them without a choice */
    int stop_at;                    /* which stop string came; -1: none yet */
} gen_reply;

/* Bytes of the longest text of a token; gen_reply_show gives out at most that, 8 and the stop strings' longest. */
size_t gen_reply_token_bytes(const tokenizer *t);
/* DR_EINVAL, with the figures, when the shortest text of the constraint does not fit. */
int gen_reply_check_room(const gen_reply_opt *o, int n_prompt, dr_err *e);
int gen_reply_init(gen_reply *r, const gen_reply_opt *o, size_t token_bytes, dr_err *e);
void gen_reply_free(gen_reply *r);                       /* a zeroed one is fine */
/* Takes a position in a matcher of o.form, which is borrowed until gen_reply_end; without a form there is nothing
 * to begin, and m may be NULL. */
int gen_reply_begin(gen_reply *r, matcher *m, dr_err *e);
void gen_reply_end(gen_reply *r);                        /* twice is fine */

bool gen_reply_ends(const gen_reply *r, int32_t id);
/* Tokens that may still be taken with `context` of them there; MATCHER_ANY: no limit. */
uint32_t gen_reply_left(const gen_reply *r, int context);
/* What may come after `context` tokens: r->allowed (NULL: anything), or *forced (else -1) when there is no
 * choice, or *over when the text is whole and nothing can follow, not even a token that ends it. */
int gen_reply_allow(gen_reply *r, int context, int32_t *forced, bool *over, dr_err *e);
/* The token that came. */
int gen_reply_take(gen_reply *r, int32_t id, dr_err *e);
/* Its text through the character and stop filters onto the end of out; *hit: a stop string came. */
int gen_reply_show(gen_reply *r, int32_t id, buf *out, bool *hit, dr_err *e);
/* The reply ended, not by a stop string: what was held back. */
int gen_reply_rest(gen_reply *r, buf *out, bool *hit, dr_err *e);
#endif
