/* optim_priv.h - the inside of an optimiser, shared by optim*.c. */
#ifndef TRAIN_OPTIM_PRIV_H
#define TRAIN_OPTIM_PRIV_H
#include "train/optim.h"

enum { MAX_STATES = 8 };

/* One state array of a rule: compact over the tensors that the rule holds for, in table order. */
typedef struct {
    optim_rule rule;
    const char *name;
    int width;                  /* bytes of an element: 4: f32, 1: u8 */
    bool per_block;             /* one element for STEP_BLOCK weights of a tensor; else one for each */
} state_row;

struct optim {
    optim_opt o;
    dev *d;
    optim_tensor *t;
    int n;
    int64_t lo, hi;
    step_part *part;            /* (n,) the tensors' parts of the range, and what is stepped */
    int n_states;
    const state_row *row[MAX_STATES];
    optim_state state[MAX_STATES];
    void *mem;                  /* all states */
    size_t mem_bytes;
    struct muon_space *muon;    /* NULL: no matrix of Muon's in the range */
};

static inline optim_rule rule_of(const optim_opt *o, optim_role role)
{
    return o->rule == OPTIM_MUON && role != ROLE_MATRIX ? o->rest : o->rule;
}
static inline int64_t elems_of(const optim_tensor *t) { return (int64_t)t->rows * t->cols; }
static inline int64_t blocks_of(int64_t n) { return (n + STEP_BLOCK - 1) / STEP_BLOCK; }

/* optim_muon.c */
size_t muon_bytes(const optim_opt *o, const optim_tensor *t, int n, int64_t lo, int64_t hi);
int muon_new(optim *o, dr_err *e);      /* nothing to do without such a matrix */
void muon_free(optim *o);
void muon_step(optim *o, int i);        /* tensor i, whose part is ready */
#endif
