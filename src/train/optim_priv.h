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
    bool per_block;             /* one element for OPTIM_BLOCK weights of a tensor; else one for each */
} state_row;

/* Elements [at, at+n) of the flat arrays, of one tensor; work for one thread. s: where its elements of
 * the rule's states begin, counted from the range's first. */
typedef struct { int64_t at; int n, tensor; int64_t s, s_block; } chunk;

struct optim {
    optim_opt o;
    dev *d;
    optim_tensor *t;
    int n;
    int64_t lo, hi;
    chunk *c;
    int64_t n_chunks;
    int n_states;
    const state_row *row[MAX_STATES];
    optim_state state[MAX_STATES];
    void *mem;                  /* all states */
    size_t mem_bytes;
    struct muon_space *muon;    /* NULL: no matrix of Muon's in the range */
};

/* Everything of a step that one element's arithmetic depends on, in f32. */
typedef struct {
    float scale, lr, keep;      /* keep: lr * decay, what w loses of itself; SGD: decay */
    float b1, a1, b2, a2;       /* a = 1 - b */
    float step, root, eps;      /* lr / (1 - b1^t), 1 / sqrt(1 - b2^t) */
    float momentum, dampen;     /* dampen: 1 - dampening */
    bool nesterov, first;
    uint32_t seed;              /* 8-bit: of this step's and tensor's rounding */
} rule_args;

static inline optim_rule rule_of(const optim_opt *o, optim_role role)
{
    return o->rule == OPTIM_MUON && role != ROLE_MATRIX ? o->rest : o->rule;
}
static inline int64_t elems_of(const optim_tensor *t) { return (int64_t)t->rows * t->cols; }
static inline int64_t blocks_of(int64_t n) { return (n + OPTIM_BLOCK - 1) / OPTIM_BLOCK; }

/* The state of that rule and place among its rows; NULL: none. */
void *optim_state_of(const optim *o, optim_rule rule, int i);

/* optim_rule.c: n elements; a state's pointer is at the first of them. */
void rule_round(uint16_t *wb, const float *w, int n);           /* wb NULL: nothing */
void rule_adamw(float *w, uint16_t *wb, const float *g, float *m, float *v, int n,
                const rule_args *a);
void rule_sgd(float *w, uint16_t *wb, const float *g, float *m, int n, const rule_args *a);
/* n elements from number `at` of a tensor on, at a multiple of OPTIM_BLOCK */
void rule_adamw8(float *w, uint16_t *wb, const float *g, uint8_t *m, uint8_t *v, float *m_max,
                 float *v_max, int64_t at, int n, const rule_args *a);

/* optim_muon.c */
size_t muon_bytes(const optim_opt *o, const optim_tensor *t, int n, int64_t lo, int64_t hi);
int muon_new(optim *o, dr_err *e);      /* nothing to do without such a matrix */
void muon_free(optim *o);
void muon_step(optim *o, const optim_tensor *t, float *w, uint16_t *wb, const float *g, float *m,
               const rule_args *a);
#endif
