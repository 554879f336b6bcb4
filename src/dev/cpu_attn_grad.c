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

/* One thread's. A head's rows of a document are copied together once, as every tile wants them. */
typedef struct {
    float *q, *dy, *dq;         /* (T,hs) */
    float *m, *il, *D;          /* (T,): largest score, 1 / sum, dy . y */
    float *k, *kt, *v, *vt;     /* (64,hs) (hs,64) (64,hs) (hs,64) */
    float *dk, *dv;             /* (64,hs): of the tile at hand */
    float *s;                   /* (2,64,64) */
    int *lo, *hi;               /* (64,) */
} grad_space;

static size_t up16(size_t n) { return (n + 15) & ~(size_t)15; }

static size_t space_layout(grad_space *s, float *f, int N, int hs)
{
    size_t at = 0, rows = up16((size_t)N), wide = up16((size_t)hs), tile = ATTN_TILE * wide;
    struct { float **to; size_t n; } part[] = {
        { &s->q, rows * wide }, { &s->dy, rows * wide }, { &s->dq, rows * wide }, { &s->m, rows },
        { &s->il, rows }, { &s->D, rows }, { &s->k, tile }, { &s->kt, tile }, { &s->v, tile },
        { &s->vt, tile }, { &s->dk, tile }, { &s->dv, tile }, { &s->s, 2 * ATTN_TILE * ATTN_TILE } };
    for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
        *part[i].to = f ? f + at : NULL;
        at += part[i].n;
    }
    s->lo = f ? (int *)(f + at) : NULL, s->hi = f ? s->lo + ATTN_TILE : NULL;
    return at + 2 * ATTN_TILE;
}

size_t cpu_attn_grad_bytes(int N, int hs)
{
    grad_space s;
    return (space_layout(&s, NULL, N, hs) + 15) / 16 * 16 * sizeof(float);
}

static grad_space space_of(const cpu *c, int thread, int hs)
{
    grad_space s;
    space_layout(&s, (float *)(c->attn_grad_mem + (size_t)thread * c->attn_grad_bytes), c->t.N, hs);
    return s;
}

/* n (64,hs) or (hs,64) values of the cache as f32 */
static void widen(const cpu *c, float *y, const char *x, kv_type t, int64_t n)
{
    if (t == KV_F32) memcpy(y, x, (size_t)n * sizeof *y);
    else c->k.from_bf16(y, (const uint16_t *)x, n);
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
    j->c->k.transpose(s->k, s->kt, hs, ATTN_TILE);
    j->c->k.transpose(s->vt, s->v, ATTN_TILE, hs);
}

/* dk and dv of a query head at a position: (N,nh,hs) each */
static float *part_at(const grad_job *j, int which, int n, int h)
{
    size_t Q = (size_t)j->nh * (size_t)j->kv->hs;
    return j->c->dkv + (size_t)which * (size_t)j->N * Q + (size_t)n * Q + (size_t)h * (size_t)j->kv->hs;
}

/* Rows [t0,t0+R) of the document against a tile. */
static void rows_grad(const grad_job *j, const grad_space *s, int tile, int t0, int R)
{
    int hs = j->kv->hs, j0 = tile * ATTN_TILE;
    size_t at = (size_t)t0 * (size_t)hs;
    for (int r = 0; r < R; r++) {
        int p = t0 + r - j0, lo = j->window > 0 ? p - j->window + 1 : 0;
        s->lo[r] = lo < 0 ? 0 : lo;
        s->hi[r] = p + 1 < 0 ? 0 : p + 1 > ATTN_TILE ? ATTN_TILE : p + 1;
    }
    attn_grad a = { s->q + at, s->dy + at, s->m + t0, s->il + t0, s->D + t0, s->lo, s->hi, s->k, s->kt,
                    s->vt, s->dq + at, s->dk, s->dv, s->s };
    j->c->k.attn_grad(&a, R, hs);
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
        memcpy(s.q + t * hs, j->q + at * (size_t)hs, row);
        memcpy(s.dy + t * hs, j->dy + at * (size_t)hs, row);
        s.m[t] = j->stat[2 * at], s.il[t] = 1 / j->stat[2 * at + 1];
        s.D[t] = j->c->k.dot(s.dy + t * hs, j->y + at * (size_t)hs, hs);
    }
    memset(s.dq, 0, (size_t)u->T * row);
    for (int tile = 0; tile < tiles; tile++) {
        int first = tile * ATTN_TILE, last = first + ATTN_TILE - 1, end = u->T;
        load_tile(j, &s, u, tile, h / j->group);
        memset(s.dk, 0, ATTN_TILE * row);
        memset(s.dv, 0, ATTN_TILE * row);
        if (j->window > 0 && end > last + j->window) end = last + j->window;
        for (int t = first; t < end; t += ATTN_TILE)
            rows_grad(j, &s, tile, t, end - t < ATTN_TILE ? end - t : ATTN_TILE);
        for (int p = first; p <= last && p < u->T; p++) {
            memcpy(part_at(j, 0, u->n0 + p, h), s.dk + (p - first) * hs, row);
            memcpy(part_at(j, 1, u->n0 + p, h), s.dv + (p - first) * hs, row);
        }
    }
    for (int t = 0; t < u->T; t++) {
        size_t at = (size_t)(u->n0 + t) * (size_t)j->nh + (size_t)h;
        memcpy(j->dq + at * (size_t)hs, s.dq + t * hs, row);
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
