/* generate.h - from a prompt to a reply: evaluate, pick, stream, stop.
 * Threads: as the session. */
#ifndef GEN_GENERATE_H
#define GEN_GENERATE_H
#include "gen/grammar.h"
#include "gen/sample.h"
#include "gen/session.h"
#include "gen/spec.h"

typedef enum {
    GEN_EOS,            /* the model ended its turn */
    GEN_STOP_STRING,
    GEN_LENGTH,         /* max_tokens */
    GEN_CONTEXT,        /* the context is full and shifting was not chosen */
    GEN_CANCEL          /* the callback or the flag said so */
} gen_finish;
const char *gen_finish_name(gen_finish f);  /* "stop", "stop", "length", "context", "cancel" */

typedef struct {
    span text;                      /* whole characters that can be shown now; may be empty */
    int32_t id;                     /* the token just picked */
    const sample_result *pick;      /* its log-probabilities, when asked for */
} gen_piece;

typedef struct {
    sample_opt sample;
    uint64_t sample_index;          /* which of n samples: keys the random numbers */
    int max_tokens;                 /* 0: until the context is full */
    const char *const *stop;
    int n_stop;                     /* at most REPLY_MAX_STOP (reply.h) */
    bool show_special;              /* control tokens are part of the text */
    bool ignore_eos;
    bool shift;                     /* context full: drop the oldest half and go on, else stop */
    int keep;                       /* tokens at the front that a shift keeps */
    /* The reply is a text of this grammar; NULL: anything. Borrowed; its vocabulary is the
     * tokenizer's. When the shortest such text does not fit, gen_run refuses (DR_EINVAL). */
    matcher *constraint;
    spec *spec;                     /* guesses evaluated ahead: the same reply, sooner; NULL: none */
    const volatile int *cancel;     /* set from a signal handler or another thread */
    bool (*is_stop)(void *arg, int32_t id);   /* the chat format's own ends; NULL: none */
    void *is_stop_arg;
    /* called for each token; non-zero ends the reply */
    int (*piece)(void *arg, const gen_piece *p);
    /* called when a shift dropped n tokens: the user must be told */
    void (*shifted)(void *arg, int n);
    void *arg;
} gen_opt;

typedef struct {
    gen_finish finish;
    int n_prompt, n_reused, n_gen, n_shifts;
    int n_forced;                   /* tokens taken without a draw: the constraint left no other */
    int n_drafted, n_accepted;      /* tokens guessed and evaluated ahead; those that came */
    bool satisfied;                 /* the text is one of the constraint's, whole */
    double prompt_s, gen_s;
    ids tokens;                     /* picked, the end token included; ids_free */
    buf text;                       /* the reply without its stop string; buf_free */
} gen_result;

/* Reply to exactly these tokens (prefix reuse as session_sync). *r is valid and must be
 * freed whatever is returned; after DR_ECANCEL it holds what there was. */
int gen_run(session *s, const tokenizer *t, const int32_t *prompt, int n_prompt,
            const gen_opt *o, gen_result *r, dr_err *e);
void gen_result_free(gen_result *r);
#endif
