/* run_priv.h - one run's inside, between run*.c. */
#ifndef TRAIN_RUN_PRIV_H
#define TRAIN_RUN_PRIV_H
#include "text/tokenizer.h"
#include "base/hash.h"
#include "train/ckpt.h"
#include "train/guard.h"
#include "train/run.h"
#include "train/zero.h"

typedef struct {
    const run_opt *o;
    const recipe *r;
    comm *c;
    bool first;                  /* rank 0: logs, samples, notes */
    sched *s;
    run_plan plan;
    dev *d;
    params *p;
    net *n;
    optim_tensor *t;
    zero z;
    loader_source src[LOADER_SOURCES];
    char tok_hash[HASH_HEX];
    loader *l, *eval;
    tokenizer *tok;
    ckpt_writer *w;
    ckpt_array *arrays;
    int n_arrays;
    char dir[4096];              /* of the checkpoints */
    run_log log;
    guard g;

    int phase;                   /* whose data the loader gives */
    int64_t step;                /* done */
    int64_t updates;             /* of the weights: steps without the skipped ones */
    int64_t saved;               /* step of the newest checkpoint; -1: none */
    int skipped;
    double eval_loss;            /* the last one; NAN: none */
    double pace;                 /* seconds a step, smoothed; 0: none yet */
    log_line line;
    char event[64];
} trainer;

/* Rows of a micro-batch of a phase. */
int run_micro_rows(const recipe *r, int seq, int64_t batch_tokens, int n_ranks);
void run_say(const trainer *t, const char *fmt, ...) DR_PRINTF(2, 3);

/* ---- run_state.c: what a checkpoint has ---- */
/* Begin to write; the one before is finished first. run_finish: wait for it and give it its name. */
int run_save(trainer *t, bool evaluated, dr_err *e);
int run_finish(trainer *t, dr_err *e);
/* The newest checkpoint into all of the run; none: *found false. */
int run_load(trainer *t, bool *found, dr_err *e);
/* Weights and moments of the newest one alone; data goes on where it is. */
int run_rewind(trainer *t, dr_err *e);
/* The list of arrays, once weights and optimiser are there. */
int run_arrays(trainer *t, dr_err *e);

/* ---- run_loop.c ---- */
int run_set_phase(trainer *t, int phase, dr_err *e);
loader_phase run_phase(const trainer *t, int phase);
/* All steps to the end or until told to stop. */
int run_steps(trainer *t, bool *done, dr_err *e);
int run_eval(trainer *t, double *loss, dr_err *e);
int run_samples(trainer *t, dr_err *e);
#endif
