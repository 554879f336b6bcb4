/* cpu_attn_grad.c - gradients of rope and of attention.
 *
 * A task is one document and one query head: tile of 64 keys by tile, for each the query rows that
 * see it, 64 at a time. Scores are computed again, from what attn left (largest score and sum of
 * each row). dk and dv are summed for each query head apart, then over the heads that share keys,
 * in order: so the number of threads changes no bit. docs/math/attention.md */
#include <math.h>
#include <string.h>
#include "base/half.h"
#include "dev/cpu.h"

/* ---- rope ---- */

typedef struct {
    const cpu *c;
    float *dq, *dk;
    int nh, nkv, hs;
    const float *cs;
    bool adjacent;
    float qscale;
    const seq_run *run;
} turn_job;

/* The transposed turn, in place, from half order back to the container's: t (hs,) is scratch. */
static void turn_back(float *x, float *t, const float *cs, int hs, bool adjacent, float scale)
{
    int half = hs / 2, step = adjacent ? 2 : 1;
    memcpy(t, x, (size_t)hs * sizeof *t);
    float *x1 = x, *x2 = adjacent ? x + 1 : x + half;
    for (int i = 0; i < half; i++, x1 += step, x2 += step) {
        float c = cs[2 * i], s = cs[2 * i + 1], a = t[i] * scale, b = t[half + i] * scale;
        *x1 = a * c + b * s, *x2 = b * c - a * s;
    }
}

static void turn_row(void *arg, int n, int thread)
{
    const turn_job *j = arg;
    const seq_run *u = j->run;
    size_t hs = (size_t)j->hs;
    float *t = (float *)(j->c->attn_grad_mem + (size_t)thread * j->c->attn_grad_bytes);
    while (n < u->n0 || n >= u->n0 + u->T) u++;
    const float *cs = j->cs + (size_t)(u->pos + n - u->n0) * hs;
    for (int h = 0; h < j->nh; h++)
        turn_back(j->dq + ((size_t)n * (size_t)j->nh + (size_t)h) * hs, t, cs, j->hs, j->adjacent,
                  j->qscale);
    for (int h = 0; h < j->nkv; h++)
        turn_back(j->dk + ((size_t)n * (size_t)j->nkv + (size_t)h) * hs, t, cs, j->hs, j->adjacent, 1);
}

static int n_rows(const seq_run *run, int n_runs)
{
    int n = 0;
    for (int i = 0; i < n_runs; i++)
        if (run[i].n0 + run[i].T > n) n = run[i].n0 + run[i].T;
    return n;
}

void cpu_rope_backward(dev *d, float *dq, float *dk, int nh, int nkv, int hs, const float *cs,
                       bool adjacent, float qscale, const seq_run *run, int n_runs)
{
    cpu *c = (cpu *)d;
    turn_job j = { c, dq, dk, nh, nkv, hs, cs, adjacent, qscale, run };
    int N = n_rows(run, n_runs);
    DR_ASSERT(hs <= c->t.hs);
    cpu_run_chunks(c, N, (size_t)N * (size_t)((nh + nkv) * hs), turn_row, &j);
}

/* ---- attention ---- */

typedef struct {
    cpu *c;
    float *dq, *dk, *dv;
    const float *dy, *y, *q, *stat;
    int nh, group, window, N;
    const kv_layer *kv;
    const seq_run *run;
} grad_job;

/* One thread's. Rows are those of a block of up to 64, contiguous. */
typedef struct {
    float *q, *dy, *dq;         /* (64,hs) */
    float *k, *kt, *v, *vt;     /* (64,hs) (hs,64) (64,hs) (hs,64) */
    float *dk, *dv;             /* (64,hs): of the tile at hand */
    float *s;                   /* (2,64,64) */
    float *m, *il, *D;          /* (64,) */
    int *lo, *hi;               /* (64,) */
} grad_space;

static size_t tile_floats(int hs) { return (size_t)ATTN_TILE * (((size_t)hs + 15) / 16 * 16); }

size_t cpu_attn_grad_bytes(int hs)
{
    return (9 * tile_floats(hs) + 2 * ATTN_TILE * ATTN_TILE + 5 * ATTN_TILE) * sizeof(float);
}

static grad_space space_of(const cpu *c, int thread, int hs)
{
    float *f = (float *)(c->attn_grad_mem + (size_t)thread * c->attn_grad_bytes);
    size_t n = tile_floats(hs);
    grad_space s;
    s.q = f, s.dy = f + n, s.dq = f + 2 * n, s.k = f + 3 * n, s.kt = f + 4 * n, s.v = f + 5 * n;
    s.vt = f + 6 * n, s.dk = f + 7 * n, s.dv = f + 8 * n, f += 9 * n;
    s.s = f, f += 2 * ATTN_TILE * ATTN_TILE;
    s.m = f, s.il = f + ATTN_TILE, s.D = f + 2 * ATTN_TILE;
    s.lo = (int *)(f + 3 * ATTN_TILE), s.hi = (int *)(f + 4 * ATTN_TILE);
    return s;
}

/* n (64,hs) or (hs,64) values of the cache as f32 */
static void widen(const cpu *c, float *y, const char *x, kv_type t, int64_t n)
{
    if (t == KV_F32) memcpy(y, x, (size_t)n * sizeof *y);
    else c->k.from_bf16(y, (const uint16_t *)x, n);
}

static void transpose(float *y, const float *x, int rows, int cols)     /* y (cols,rows) */
{
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < cols; i++) y[i * rows + r] = x[r * cols + i];
}

/* Keys and values of a tile, as it lies in its page and transposed. */
static void load_tile(const grad_job *j, const grad_space *s, const seq_run *u, int tile, int head)
{
    const kv_layer *kv = j->kv;
    int hs = kv->hs;
    size_t part = (size_t)KV_PAGE * kv_row_bytes(kv->type, hs);
    const char *at = kv->base + (size_t)u->page[tile] * kv->page_bytes + (size_t)head * 2 * part;
    int64_t n = (int64_t)ATTN_TILE * hs;
    int T = u->T - tile * ATTN_TILE;
    widen(j->c, s->kt, at, kv->type, n);
    widen(j->c, s->v, at + part, kv->type, n);
    /* positions that nothing was stored at are rubbish, which 0 times it may not be */
    for (int p = T; p < ATTN_TILE; p++) {
        for (int d = 0; d < hs; d++) s->kt[d * ATTN_TILE + p] = 0;
        memset(s->v + p * hs, 0, (size_t)hs * sizeof *s->v);
    }
    transpose(s->k, s->kt, hs, ATTN_TILE);
    transpose(s->vt, s->v, ATTN_TILE, hs);
}

/* dk and dv of a query head at a position: (N,nh,hs) each */
static float *part_at(const grad_job *j, int which, int n, int h)
{
    size_t Q = (size_t)j->nh * (size_t)j->kv->hs;
    return j->c->dkv + (size_t)which * (size_t)j->N * Q + (size_t)n * Q + (size_t)h * (size_t)j->kv->hs;
}

static void rows_grad(const grad_job *j, const grad_space *s, const seq_run *u, int h, int tile, int t0,
                      int R)
{
    int hs = j->kv->hs, j0 = tile * ATTN_TILE;
    size_t nh = (size_t)j->nh, row = (size_t)hs * sizeof(float);
    for (int r = 0; r < R; r++) {
        size_t at = (size_t)(u->n0 + t0 + r) * nh + (size_t)h;
        int p = t0 + r - j0, lo = j->window > 0 ? p - j->window + 1 : 0;
        memcpy(s->q + r * hs, j->q + at * (size_t)hs, row);
        memcpy(s->dy + r * hs, j->dy + at * (size_t)hs, row);
        memcpy(s->dq + r * hs, j->dq + at * (size_t)hs, row);
        s->m[r] = j->stat[2 * at], s->il[r] = 1 / j->stat[2 * at + 1], s->D[r] = j->c->D[at];
        s->lo[r] = lo < 0 ? 0 : lo;
        s->hi[r] = p + 1 < 0 ? 0 : p + 1 > ATTN_TILE ? ATTN_TILE : p + 1;
    }
    attn_grad a = { s->q, s->dy, s->m, s->il, s->D, s->lo, s->hi, s->k, s->kt, s->vt, s->dq,
                    s->dk, s->dv, s->s };
    j->c->k.attn_grad(&a, R, hs);
    for (int r = 0; r < R; r++) {
        size_t at = (size_t)(u->n0 + t0 + r) * nh + (size_t)h;
        memcpy(j->dq + at * (size_t)hs, s->dq + r * hs, row);
    }
}

static float dot(const float *a, const float *b, int n)
{
    double s = 0;
    for (int i = 0; i < n; i++) s += (double)a[i] * b[i];
    return (float)s;
}

static void head_grad(void *arg, int i, int thread)
{
    const grad_job *j = arg;
    const seq_run *u = &j->run[i / j->nh];
    int h = i % j->nh, hs = j->kv->hs, tiles = (u->T + ATTN_TILE - 1) / ATTN_TILE;
    size_t row = (size_t)hs * sizeof(float);
    grad_space s = space_of(j->c, thread, hs);
    for (int t = 0; t < u->T; t++) {
        size_t at = (size_t)(u->n0 + t) * (size_t)j->nh + (size_t)h;
        j->c->D[at] = dot(j->dy + at * (size_t)hs, j->y + at * (size_t)hs, hs);
        memset(j->dq + at * (size_t)hs, 0, row);
    }
    for (int tile = 0; tile < tiles; tile++) {
        int first = tile * ATTN_TILE, last = first + ATTN_TILE - 1, end = u->T;
        load_tile(j, &s, u, tile, h / j->group);
        memset(s.dk, 0, ATTN_TILE * row);
        memset(s.dv, 0, ATTN_TILE * row);
        if (j->window > 0 && end > last + j->window) end = last + j->window;
        for (int t = first; t < end; t += ATTN_TILE)
            rows_grad(j, &s, u, h, tile, t, end - t < ATTN_TILE ? end - t : ATTN_TILE);
        for (int p = first; p <= last && p < u->T; p++) {
            memcpy(part_at(j, 0, u->n0 + p, h), s.dk + (p - first) * hs, row);
            memcpy(part_at(j, 1, u->n0 + p, h), s.dv + (p - first) * hs, row);
        }
    }
}

/* dk and dv of row n: query heads that share keys, in order. */
static void add_heads(void *arg, int n, int thread)
{
    const grad_job *j = arg;
    int hs = j->kv->hs;
    (void)thread;
    for (int which = 0; which < 2; which++)
        for (int h = 0; h < j->nh; h++) {
            int g = h / j->group;
            float *to = (which ? j->dv : j->dk) +
                        ((size_t)n * (size_t)j->kv->nkv + (size_t)g) * (size_t)hs;
            if (h % j->group) j->c->k.add(to, part_at(j, which, n, h), hs);
            else memcpy(to, part_at(j, which, n, h), (size_t)hs * sizeof *to);
        }
}

void cpu_attn_backward(dev *d, float *dq, float *dk, float *dv, const float *dy, const float *y,
                       const float *q, const float *stat, int nh, const kv_layer *kv, int window,
                       const seq_run *run, int n_runs)
{
    cpu *c = (cpu *)d;
    grad_job j = { .c = c, .dq = dq, .dk = dk, .dv = dv, .dy = dy, .y = y, .q = q, .stat = stat,
                   .nh = nh, .group = nh / kv->nkv, .window = window, .N = n_rows(run, n_runs),
                   .kv = kv, .run = run };
    DR_ASSERT(kv->type == KV_F32 || kv->type == KV_BF16);
    DR_ASSERT(j.N <= c->t.N && nh * kv->hs <= c->t.nh * c->t.hs && kv->hs <= c->t.hs);
    for (int i = 0; i < n_runs; i++) DR_ASSERT(run[i].pos == 0);
    pool_run(c->pool, n_runs * nh, head_grad, &j);
    cpu_run_chunks(c, j.N, (size_t)j.N * (size_t)(nh * kv->hs), add_heads, &j);
}
