/* bench.h - speed by context and batch, with the machine's roofline measured beside it. */
#ifndef EVAL_BENCH_H
#define EVAL_BENCH_H
#include "model/model.h"

enum { BENCH_MAX = 64 };

typedef struct {
    int64_t p[BENCH_MAX], depth[BENCH_MAX], batch[BENCH_MAX];
    int n_p, n_depth, n_batch;      /* n_p 0: no prefill */
    int n_gen;                      /* decode steps of one figure; 0: no decode */
    int reps;
    int n_rows;                     /* rows of a prefill step */
    kv_type kv;
} bench_opt;

typedef struct {
    bool decode;
    int64_t tokens, depth, batch;   /* tokens: prompt length, or steps */
    double tok_s[BENCH_MAX];        /* one a repetition */
    double share;                   /* median's share of the bound below, 0..1 */
} bench_row;

typedef struct {                    /* the cache taken from one depth to the next, once */
    int64_t from, to;
    double tok_s;
} bench_fill;

typedef struct {                    /* of all threads together */
    double read_mapped, read_huge;  /* bytes/s over the model's own mapping; over huge pages */
    double f32, bf16, int8;         /* operations/s */
} roofline;

typedef struct {
    roofline roof;
    bench_row row[4 * BENCH_MAX];
    int n_rows;
    bench_fill fill[BENCH_MAX];
    int n_fills;
    size_t per_token;               /* bytes of weights read for one decoded token */
    size_t per_position;            /* bytes of keys and values of one held token */
    double flops_per_token;         /* of the products, head excluded */
} bench_result;

/* kind of arithmetic most of the weights use: 0 f32, 1 bf16, 2 int8; its name */
int bench_arith(const model *m);
const char *bench_arith_name(const model *m);
void roofline_measure(roofline *r, const model *m, int n_threads);
/* f32 and bf16 alone, without a model: level as a device names its own. */
void roofline_arith(roofline *r, const char *level, int n_threads);
/* each row is handed to fn as it is finished (may be NULL) */
int bench_run(const model *m, int n_threads, const bench_opt *o, bench_result *r,
              void (*fn)(void *arg, const bench_row *row, int reps), void *arg, dr_err *e);
double bench_median(const double *v, int n);
#endif
