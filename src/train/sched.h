/* sched.h - what a run does at each step: phases of (until_tokens, seq, batch_tokens, lr law, mix)
 * and the learning rate, as pure functions of the step. No state: a resumed run asks the same
 * question and gets the same answer, on any number of ranks.
 *
 * A phase takes whole batches: it ends with the first batch that reaches until_tokens, and the next
 * one begins at the token where that ends. */
#ifndef TRAIN_SCHED_H
#define TRAIN_SCHED_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"

enum { SCHED_PHASES = 64, SCHED_MAX_SEQ = 1 << 20 };

/* A law is warm-up, hold, decay, in this order, in steps or in tokens (x counts them from 0 where
 * the law begins):
 *   x < warmup            lr = peak * (x + 1) / warmup in steps: step warmup-1 is the first at the
 *                         peak; in tokens (x + batch) / warmup, at most 1
 *   x < length - decay    lr = peak
 *   then                  lr = end + (peak - end) * shape((x - (length - decay)) / decay)
 *   x >= length           lr = end */
typedef enum {
    SCHED_KEEP,         /* the law of the phase before goes on where it is */
    SCHED_CONSTANT,     /* warm-up, then the peak */
    SCHED_LINEAR,       /* decay from the end of the warm-up on, shape(t) = 1 - t */
    SCHED_COSINE,       /* the same, shape(t) = (1 + cos(pi t)) / 2 */
    SCHED_WSD,          /* hold, then decay over the last `decay`; shape(t) = 1 - t */
    SCHED_WSD_SQRT,     /* the same, shape(t) = 1 - sqrt(t) */
    SCHED_N_LAWS
} sched_law;
extern const char *const sched_law_name[SCHED_N_LAWS];     /* "keep", "constant", … */
int sched_law_by_name(const char *name);                   /* -1: none */

typedef struct {
    int64_t until_tokens;   /* the phase ends here, counted from the run's first token */
    int seq;                /* tokens of a row */
    int64_t batch_tokens;   /* of a step, over all ranks; a multiple of seq */
    int mix;                /* which of the recipe's mixtures */
    sched_law law;          /* SCHED_KEEP: what follows is not looked at */
    bool by_tokens;         /* warmup, length, decay are tokens; false: steps */
    double peak;            /* < 0: the rate that the law before has where this phase begins */
    double end;             /* rate at and after `length` */
    int64_t warmup, decay;
    int64_t length;         /* of the whole law; 0: to the end of the last phase that keeps it */
} sched_phase;

typedef struct {
    int n;
    sched_phase p[SCHED_PHASES];        /* with peak and length filled in */
    int law_at[SCHED_PHASES];           /* the phase whose law holds in this one */
    int64_t step0[SCHED_PHASES + 1];    /* first step of each phase; [n]: steps in all */
    int64_t tok0[SCHED_PHASES + 1];     /* tokens before it; [n]: tokens in all */
} sched;

/* Check the phases and count their steps. *e names the phase (from 1) and the field. */
int sched_init(sched *s, const sched_phase *p, int n, dr_err *e);

typedef struct {
    int phase, mix, seq;
    int64_t batch_tokens;
    int64_t tokens;         /* before this step */
    double lr;
} sched_point;
/* Of step 0 <= step < step0[n]; step0[n] gives the end: the last phase's, with all tokens done. */
sched_point sched_at(const sched *s, int64_t step);
/* Steps and tokens of the whole run. */
static inline int64_t sched_steps(const sched *s) { return s->step0[s->n]; }
static inline int64_t sched_tokens(const sched *s) { return s->tok0[s->n]; }
#endif
