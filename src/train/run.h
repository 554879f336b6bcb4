/* run.h - a training run: what it will cost, and doing it, from where its folder says it is.
 *
 * OUT (recipe's out) has checkpoints/ (ckpt.h) and what log.h says. A run whose folder has a checkpoint
 * goes on from its newest whole one, to the bit as if it had never stopped: weights, moments, order of
 * the data and the guard's memory are all of the state.
 * Threads: one at a time. With several ranks all of them call the same. */
#ifndef TRAIN_RUN_H
#define TRAIN_RUN_H
#include "dist/comm.h"
#include "train/log.h"
#include "train/net.h"
#include "train/recipe.h"

typedef struct {
    int64_t weights;             /* trained */
    size_t params, optim, acts;  /* bytes of one rank: masters, gradients and bf16 copies;
                                    moments; activations, keys and values, scratch */
    size_t total;
    net_plan net;
    net_opt net_opt;
    int64_t steps, tokens;
    int64_t micro;               /* micro-batches of a rank in a step, at most */
    double flops, flops_full;    /* of the whole run; attention's causal half, and all of it */
} run_plan;

/* From the recipe and the model's numbers, before anything is taken. What cannot be done (a row
 * longer than the model's context) is refused with the recipe's line. */
int run_plan_make(run_plan *pl, const recipe *r, const hparams *h, dev *d, int n_ranks, dr_err *e);
/* The numbers of a shape's name ("llama-3.1-8b,layers=2"). */
int run_shape(hparams *h, const char *shape, dr_err *e);

typedef struct {
    const recipe *r;
    const char *init;            /* path of the model to begin with */
    dev_opt dev;
    comm *c;
    const volatile int *stop;    /* set: save after this step and return; NULL: none */
    int64_t until;               /* stop after this step as if told to; 0: at the end */
    double peak;                 /* operations a second that MFU is a share of; 0: unknown */
    void (*show)(void *arg, const log_line *l);                  /* after each step; rank 0 */
    void (*note)(void *arg, const char *sentence);               /* rank 0 */
    void (*text)(void *arg, int64_t step, const char *prompt, const char *text);   /* a sample */
    void *arg;
} run_opt;

typedef struct {
    bool done;                   /* all steps; false: stopped */
    int64_t from;                /* step that it went on after; 0: began */
    log_line last;
    double eval_loss;            /* the last one; NAN: none */
    int skipped;
    size_t planned, peak;        /* bytes of mem.h; peak as measured */
} run_result;

int run_train(const run_opt *o, run_result *res, dr_err *e);
/* Folder of the checkpoints of a run. */
int run_ckpt_dir(char *s, size_t n, const recipe *r, dr_err *e);
#endif
