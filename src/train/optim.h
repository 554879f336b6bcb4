/* optim.h - optimisers: what a gradient does to the weights. They work on a range [lo,hi) of the flat
 * arrays, cut where optim_cuts allows, so that ranks can share the work (train/zero.h); one process
 * alone has the range of everything. Arithmetic: docs/numerics.md; a result depends neither on the
 * number of threads nor on the cuts.
 *
 * The gradient is of the SUM of weighted token losses; `scale` (1 / weights, times the factor of
 * clipping) is applied here, once. Threads: one at a time; a step uses the device's. */
#ifndef TRAIN_OPTIM_H
#define TRAIN_OPTIM_H
#include <stdbool.h>
#include "train/params.h"

typedef enum { OPTIM_ADAMW, OPTIM_ADAMW8, OPTIM_MUON, OPTIM_SGD, OPTIM_N_RULES } optim_rule;
extern const char *const optim_rule_name[OPTIM_N_RULES];    /* "adamw", "adamw8", "muon", "sgd" */
int optim_rule_by_name(const char *name);                   /* -1: none */

/* What a tensor is for decides its group. A tied head is the embedding. */
typedef enum { ROLE_EMBED, ROLE_HEAD, ROLE_MATRIX, ROLE_VECTOR, OPTIM_N_ROLES } optim_role;
/* Elements [at, at + rows*cols) of the flat arrays; tables ascend, tensors do not overlap, what lies
 * between them belongs to none and is never touched. A vector has rows 1. */
typedef struct { int64_t at; int rows, cols; optim_role role; } optim_tensor;
/* The table of a model's parameters: t (p->n,). */
void optim_table(const params *p, optim_tensor *t);

/* How Muon makes up for a matrix's shape (rows A, cols B): lr times sqrt(max(1, A/B)), times
 * 0.2 sqrt(max(A, B)) (an update as large as AdamW's), or times 1. */
typedef enum { MUON_ORIGINAL, MUON_MATCH_ADAMW, MUON_PLAIN, MUON_N_ADJUST } muon_adjust;
extern const char *const muon_adjust_name[MUON_N_ADJUST];   /* "original", "match-adamw", "plain" */
int muon_adjust_by_name(const char *name);

typedef struct {
    optim_rule rule;            /* of the hidden matrices, and of all but with Muon */
    optim_rule rest;            /* with Muon: of the embedding, head and vectors; not Muon */
    double rest_lr;             /* with Muon: their rate is this times the rate */
    double beta1, beta2, eps;   /* AdamW */
    double decay;               /* of weights: w -= lr * decay * w; SGD: g += decay * w */
    bool decays[OPTIM_N_ROLES]; /* which roles it is for */
    double momentum;            /* Muon, SGD */
    double dampening;           /* SGD */
    bool nesterov;              /* Muon, SGD */
    muon_adjust adjust;
    int ns_steps;               /* Muon: steps of Newton and Schulz */
} optim_opt;
/* What is used where nothing is said: AdamW 0.9, 0.95, 1e-8, decay 0.1 of all but vectors; Muon
 * momentum 0.95, Nesterov, 5 steps, match-adamw, rest AdamW; SGD no momentum, no decay. */
void optim_opt_init(optim_opt *o, optim_rule rule);
int optim_opt_check(const optim_opt *o, dr_err *e);         /* *e names the field and its limits */

/* Where the flat arrays may be cut for n_ranks, as evenly as that goes: rank r has
 * [cut[r], cut[r+1]), cut (n_ranks+1,). A matrix of Muon's is not cut. */
void optim_cuts(const optim_opt *o, const optim_tensor *t, int n, int n_ranks, int64_t *cut);

typedef struct optim optim;
/* State of the range, zeroed. t is copied. lo and hi are optim_cuts'. NULL: *e says why. */
optim *optim_new(const optim_opt *o, const optim_tensor *t, int n, int64_t lo, int64_t hi, dev *d,
                 dr_err *e);
void optim_free(optim *o);                                  /* NULL is fine */
/* What optim_new would take: state and scratch. */
size_t optim_bytes(const optim_opt *o, const optim_tensor *t, int n, int64_t lo, int64_t hi, dev *d);

/* Step number `step`, counted from 1, of the whole range with the rate lr: the gradient is g * scale.
 * w, wb, g (hi-lo,): masters, their bf16 copies (NULL: none), gradient; all begin at element lo. */
void optim_step(optim *o, float *w, uint16_t *wb, const float *g, float scale, double lr,
                int64_t step);

/* ---- state, for checkpoints: arrays that do not depend on how many ranks there are ---- */

/* `n` elements of `width` bytes (4: f32, 1: u8) at p are elements [at, at+n) of the array of `total`
 * elements that all ranges together have; at ascends with the range. */
typedef struct { char name[24]; int width; void *p; int64_t at, n, total; } optim_state;
int optim_n_states(const optim *o);
optim_state optim_state_get(optim *o, int i);
/* Elements of array i before element `at` of the flat arrays, a cut. */
int64_t optim_state_before(const optim *o, int i, int64_t at);

/* ---- norm and clipping ---- */

/* Chunks of STEP_CHUNK elements of the tensors in [lo,hi), of which each has one partial sum of squares. */
int64_t optim_n_chunks(const optim_tensor *t, int n, int64_t lo, int64_t hi);
/* part (n_chunks,) = sums of squares of g (hi-lo,), each in double and in ascending order. */
void optim_squares(const optim_tensor *t, int n, int64_t lo, int64_t hi, const float *g, dev *d,
                   double *part);
/* The root of their sum in ascending order: the same whatever the cuts. NaN and infinity stay. */
double optim_norm(const double *part, int64_t n_chunks);
/* The factor that brings a norm down to `max`: min(1, max / (norm + 1e-6)); max <= 0: 1. */
double optim_clip(double norm, double max);
#endif
