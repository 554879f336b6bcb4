/* cpu_optim.c - optimisers on the CPU: parts cut into chunks of STEP_CHUNK, each one kernel's. */
#include <string.h>
#include "dev/cpu.h"

enum { PARTS = 256 };           /* that one call of the pool takes */
enum { TURN = 32 };             /* side of a transposed tile */

typedef struct {
    const kern *k;
    const step_part *p;
    int n, start[PARTS + 1];    /* first chunk of each part */
    double *sum;
} step_job;

/* The part that chunk i is of; *at, *len: its elements. */
static const step_part *part_of(const step_job *j, int i, int64_t *at, int64_t *len)
{
    int lo = 0, hi = j->n - 1;
    while (lo < hi) {                            // the last part with start <= i
        int mid = (lo + hi + 1) / 2;
        if (j->start[mid] <= i) lo = mid;
        else hi = mid - 1;
    }
    const step_part *p = &j->p[lo];
    *at = (int64_t)(i - j->start[lo]) * STEP_CHUNK;
    *len = p->n - *at < STEP_CHUNK ? p->n - *at : STEP_CHUNK;
    return p;
}

static void step_chunk(void *arg, int i, int thread)
{
    const step_job *j = arg;
    int64_t o, n;
    const step_part *p = part_of(j, i, &o, &n);
    uint16_t *wb = p->wb ? p->wb + o : NULL;
    (void)thread;
    switch (p->rule) {
    case STEP_ADAMW:
        j->k->adamw(p->w + o, wb, p->g + o, p->m + o, p->v + o, n, p->a);
        break;
    case STEP_ADAMW8:
        j->k->adamw8(p->w + o, wb, p->g + o, p->m8 + o, p->v8 + o, p->m_max + o / STEP_BLOCK,
                     p->v_max + o / STEP_BLOCK, (uint32_t)(p->at + o), n, p->a);
        break;
    case STEP_SGD:
        j->k->sgd(p->w + o, wb, p->g + o, p->m ? p->m + o : NULL, n, p->a);
        break;
    case STEP_MOMENTUM:
        j->k->momentum(p->w + o, p->g + o, p->m + o, n, p->a);
        break;
    default:
        DR_ASSERT(!"a rule of optimisers");
    }
}

static void squares_chunk(void *arg, int i, int thread)
{
    const step_job *j = arg;
    int64_t o, n;
    const step_part *p = part_of(j, i, &o, &n);
    (void)thread;
    j->sum[i] = j->k->squares(p->g + o, n);
}

/* All parts, PARTS of them at a time. */
static void each_chunk(dev *d, const step_part *p, int n, double *sum, void (*fn)(void *, int, int))
{
    cpu *c = (cpu *)d;
    step_job j = { .k = &c->k, .sum = sum };
    for (int at = 0; at < n; at += PARTS) {
        int64_t elems = 0;
        j.p = p + at, j.n = n - at < PARTS ? n - at : PARTS;
        j.start[0] = 0;
        for (int i = 0; i < j.n; i++) {
            j.start[i + 1] = j.start[i] + (int)((j.p[i].n + STEP_CHUNK - 1) / STEP_CHUNK);
            elems += j.p[i].n;
        }
        cpu_run_chunks(c, j.start[j.n], (size_t)elems, fn, &j);
        if (j.sum) j.sum += j.start[j.n];
    }
}

static void cpu_step(dev *d, const step_part *p, int n) { each_chunk(d, p, n, NULL, step_chunk); }

static void cpu_squares(dev *d, double *sum, const step_part *p, int n)
{
    each_chunk(d, p, n, sum, squares_chunk);
}

typedef struct { const kern *k; float *y; const float *x, *z; float a, b; int64_t n; int rows, cols; } job;

static void mix_chunk(void *arg, int i, int thread)
{
    const job *j = arg;
    int64_t o = (int64_t)i * STEP_CHUNK, n = j->n - o < STEP_CHUNK ? j->n - o : STEP_CHUNK;
    (void)thread;
    j->k->mix(j->y + o, j->a, j->x + o, j->b, j->z + o, n);
}

static void cpu_mix(dev *d, float *y, float a, const float *x, float b, const float *z, int64_t n)
{
    job j = { .k = &((cpu *)d)->k, .y = y, .x = x, .z = z, .a = a, .b = b, .n = n };
    cpu_run_chunks((cpu *)d, (int)((n + STEP_CHUNK - 1) / STEP_CHUNK), (size_t)n, mix_chunk, &j);
}

/* A strip of TURN rows of x. */
static void turn_chunk(void *arg, int i, int thread)
{
    const job *j = arg;
    int r0 = i * TURN, r1 = r0 + TURN < j->rows ? r0 + TURN : j->rows;
    (void)thread;
    for (int c0 = 0; c0 < j->cols; c0 += TURN) {
        int c1 = c0 + TURN < j->cols ? c0 + TURN : j->cols;
        for (int c = c0; c < c1; c++)
            for (int r = r0; r < r1; r++)
                j->y[(int64_t)c * j->rows + r] = j->x[(int64_t)r * j->cols + c];
    }
}

static void cpu_transpose(dev *d, float *y, const float *x, int rows, int cols)
{
    job j = { .y = y, .x = x, .rows = rows, .cols = cols };
    cpu_run_chunks((cpu *)d, (rows + TURN - 1) / TURN, (size_t)rows * (size_t)cols, turn_chunk, &j);
}

void cpu_optim_open(cpu *c)
{
    c->d.step = cpu_step, c->d.squares = cpu_squares;
    c->d.mix = cpu_mix, c->d.transpose = cpu_transpose;
}
