/* cpu.h - the CPU device's inside, shared by cpu*.c.
 *
 * An operation cuts its work into chunks and hands each to a leaf kernel. No result depends on
 * where the cuts are: each element is a function of its own inputs (docs/numerics.md). All scratch was taken by reserve. */
#ifndef DEV_CPU_H
#define DEV_CPU_H
#include "base/pool.h"
#include "base/topo.h"
#include "dev/dev.h"
#include "kern/kern.h"

enum {
    ATTN_ROWS = 64,         /* query rows of one KV head that a task takes through the cache */
    ATTN_SPLIT = 64,        /* fewer tasks than this: the chunks of a long cache are shared out */
    ATTN_FEW = 6,           /* up to so many rows quantised values are not made f32 first */
    MM_OUTS = 8,            /* outputs of one matmul call at most */
    SLICE_ROWS = 64,        /* rows whose products of one slice of K wait to be scaled */
    GRAD_ROWS = 64,         /* rows whose share of a norm's gradient is summed apart */
    HEAD_ROWS = 192         /* rows whose logits the loss has at once */
};

/* One thread's part of an attention task: ATTN_ROWS query rows. */
typedef struct {
    float *q;               /* (ATTN_ROWS,hs), or what rows8 points to */
    attn_rows8 rows8;       /* of a quantised cache */
    float *m, *l, *acc;     /* running: (ATTN_ROWS,) (ATTN_ROWS,) (ATTN_ROWS,hs) */
    float *mc, *lc, *accc;  /* of the chunk at hand */
    float *p;               /* (ATTN_ROWS + 2*hs,ATTN_TILE) */
    int *lo, *hi;           /* (ATTN_ROWS,) */
} attn_space;

typedef struct {
    dev d;                              /* first, so that dev * is cpu * */
    pool *pool;
    topo *topo;                         /* with bound threads; else NULL */
    int *places;                        /* what d.seat and d.first point into */
    void *before;                       /* CPUs that the opening thread had; NULL: nothing to undo */
    kern k;
    int N, K, nh, hs, S;                /* what was reserved */
    char *mem;
    size_t mem_bytes;
    /* all inside mem: */
    uint16_t *bf, *bt;                  /* (N,K rounded up to 32); bt: N rounded up to 16 */
    int8_t *q;                          /* (N,K) */
    float *qd;                          /* (N,K/32) */
    int16_t *s16;                       /* (N,K/16) */
    int8_t *qk;                         /* the same of types in blocks of 256 */
    float *qkd, *dk, *dA;               /* (N,K/32), (N,K/256), (N,K/32) */
    int32_t *shift;                     /* (N,K/32) */
    int16_t *qks16;
    char *mul_space;                    /* mul_bytes a thread */
    size_t mul_bytes;
    float *slice;                       /* (N,SLICE_ROWS) a thread: products of one slice of K */
    char *attn_mem;                     /* attn_bytes a thread */
    size_t attn_bytes;
    int *task_start;                    /* (N+1,) first attention task of each run */
    float *part;                        /* part_floats: attention's chunks before merging */
    size_t part_floats;
    train_size t;                       /* what was reserved for training */
    char *tmem;
    size_t tmem_bytes;
    /* all inside tmem: */
    char *grad_space;                   /* GRAD_SCRATCH a thread */
    float *norm_part;                   /* (N/GRAD_ROWS rounded up,C): norms' dw before adding */
    float *dkv;                         /* (2,N,nh*hs): dk and dv by query head */
    char *attn_grad_mem;                /* attn_grad_bytes a thread */
    size_t attn_grad_bytes;
    float *logits;                      /* (HEAD_ROWS,V) */
    float *head_x, *head_dx;            /* (HEAD_ROWS,C) */
    double *head_logp;                  /* (HEAD_ROWS,) */
    int *head_row;                      /* (N,) rows that have a target */
} cpu;

/* dev.h's node_rows, when node k has the threads first_thread[k] .. first_thread[k+1]-1. */
void cpu_node_rows(const wmat *const *w, int n, int n_threads, const int *first_thread, int n_nodes,
                   int *end);
/* cpu_numa.c: a pool whose threads are bound as o->numa says, or as usual with d.note saying why. */
int cpu_numa_open(cpu *c, const dev_opt *o, dr_err *e);
void cpu_numa_close(cpu *c);
void cpu_numa_rows(dev *d, const wmat *const *w, int n, int *end);
bool cpu_numa_bind(dev *d, void *p, size_t n, int node);
dev *cpu_open(const dev_opt *o, dr_err *e);

/* cpu_attn.c */
size_t cpu_attn_bytes(int hs);                    /* of an attn_space and what it points to */
size_t cpu_attn_part_floats(int hs, int S);
void cpu_rope_store(dev *d, float *q, const float *k, const float *v, int nh, const kv_layer *kv,
                    const float *cs, bool adjacent, float qscale, const seq_run *run, int n_runs);
void cpu_add_low_rank(dev *d, low_rank *job, int n, const float *x, size_t ldx);     /* cpu_low_rank.c */
void cpu_attn(dev *d, float *y, float *stat, const float *q, int nh, const kv_layer *kv, int window,
              const seq_run *run, int n_runs);

/* cpu_grad.c, cpu_attn_grad.c, cpu_loss.c: training. cpu_grad_open fills in the slots. */
void cpu_grad_open(cpu *c);
void cpu_optim_open(cpu *c);                      /* cpu_optim.c: optimisers */
size_t cpu_attn_grad_bytes(int N, int hs);        /* scratch of one thread */
void cpu_rope_backward(dev *d, float *dq, float *dk, int nh, int nkv, int hs, const float *cs,
                       bool adjacent, float qscale, const seq_run *run, int n_runs);
void cpu_attn_backward(dev *d, float *dq, float *dk, float *dv, const float *dy, const float *y,
                       const float *q, const float *stat, int nh, const kv_layer *kv, int window,
                       const seq_run *run, int n_runs);
void cpu_log_probs(dev *d, float *y, const float *logits, size_t ldl, const int32_t *tok, int n_row,
                   int V);
void cpu_loss_head(dev *d, head_loss *h);
/* fn for each chunk; by all threads if they have `elems` > SMALL elements to do in all. */
void cpu_run_chunks(cpu *c, int n_chunks, size_t elems, void (*fn)(void *, int, int), void *arg);
/* Give *p its place in the block at base (NULL: only count). */
void cpu_carve(char *base, size_t *at, void *p, size_t n);
#endif
