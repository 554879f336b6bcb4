/* cpu_low_rank.c - what adapters add to a product: y += B (A x) for some rows, in two sweeps over all
 * jobs, so that many small products wake the threads twice and not twice each. */
#include "dev/cpu.h"

enum {
    X_ROWS = 64,                /* input rows in a chunk of A x */
    FEW_N = 16,                 /* rows up to which B's rows are taken in long runs */
    B_ROWS_FEW = 512, B_ROWS = 128
};

typedef struct { cpu *c; low_rank *job; int n, sweep; const float *x; size_t ldx; } lr_work;

static int up_div(int a, int b) { return (a + b - 1) / b; }
/* Rows of A in a chunk: sixteen are one rank's usual size; fewer share a lone small job out. */
static int a_rows(const low_rank *j) { return j->N > FEW_N ? 16 : 8; }
static int b_rows(const low_rank *j) { return j->N > FEW_N ? B_ROWS : B_ROWS_FEW; }

static const low_rank *job_of(const lr_work *w, int chunk)
{
    int lo = 0, hi = w->n;
    while (hi - lo > 1) {
        int mid = (lo + hi) / 2;
        if (w->job[mid].at[w->sweep] <= chunk) lo = mid;
        else hi = mid;
    }
    return &w->job[lo];
}

static void times_a(void *arg, int chunk, int thread)
{
    const lr_work *w = arg;
    const low_rank *j = job_of(w, chunk);
    cpu *c = w->c;
    int step = a_rows(j), cuts = up_div(j->a->rows, step), k = chunk - j->at[0];
    int r0 = k % cuts * step, n0 = k / cuts * X_ROWS;
    int R = j->a->rows - r0 < step ? j->a->rows - r0 : step;
    act a = { .N = j->N - n0 < X_ROWS ? j->N - n0 : X_ROWS, .K = j->a->K, .ldx = w->ldx,
              .x = w->x + (size_t)(j->n0 + n0) * w->ldx };
    size_t r = (size_t)j->a->rows;
    c->k.mul[DT_F32](j->t + (size_t)n0 * r + r0, r, (const char *)j->a->data + (size_t)r0 * j->a->row_bytes,
                     j->a->row_bytes, R, &a, c->mul_space + (size_t)thread * c->mul_bytes);
}

static void add_b(void *arg, int chunk, int thread)
{
    const lr_work *w = arg;
    const low_rank *j = job_of(w, chunk);
    cpu *c = w->c;
    (void)thread;
    const wmat *b = j->b;
    int from = (chunk - j->at[1]) * b_rows(j), end = from + b_rows(j) < b->rows ? from + b_rows(j) : b->rows;
    c->k.add_low(j->y + (size_t)j->n0 * j->ldy + from, j->ldy, (const float *)b->data + low_at(from, 0, b->K),
                 end - from, b->K, j->t, j->N);
}

void cpu_add_low_rank(dev *d, low_rank *job, int n, const float *x, size_t ldx)
{
    lr_work w = { .c = (cpu *)d, .job = job, .n = n, .x = x, .ldx = ldx };
    int first = 0, second = 0;
    size_t work[2] = { 0, 0 };
    for (int i = 0; i < n; i++) {
        low_rank *j = &job[i];
        DR_ASSERT(j->N <= w.c->N && j->b->K <= w.c->K && (!j->a || j->a->K <= w.c->K));
        j->at[0] = first, j->at[1] = second;
        if (j->a) first += up_div(j->a->rows, a_rows(j)) * up_div(j->N, X_ROWS);
        second += up_div(j->b->rows, b_rows(j));
        if (j->a) work[0] += (size_t)j->N * (size_t)j->a->rows * (size_t)j->a->K;
        work[1] += (size_t)j->N * (size_t)j->b->rows * (size_t)j->b->K;
    }
    /* a few products of sixteen take as long as one element of other operations */
    if (first) cpu_run_chunks(w.c, first, work[0] / 16, times_a, &w);
    w.sweep = 1;
    cpu_run_chunks(w.c, second, work[1] / 16, add_b, &w);
}
