/* cpu_attn.c - rope, the cache, and attention over it.
 *
 * A task takes up to ATTN_ROWS query rows of one KV head (rows in order of position, then of
 * head) through the cache tile by tile. With few tasks and a long cache, as when decoding, the
 * chunks of a task are shared out over the threads and merged in order afterwards: the same
 * operations on each number, so the same bits. */
#include <math.h>
#include <string.h>
#include "base/half.h"
#include "dev/cpu.h"
#include "kern/kv_tile.h"

enum { HEAD_BLOCKS = 512 / QBLOCK };     /* of the widest head that a model may have */

_Static_assert((int)KV_PAGE == (int)ATTN_TILE, "a page holds one tile of every head");

static size_t up16(size_t n) { return (n + 15) & ~(size_t)15; }

size_t cpu_attn_bytes(int hs)
{
    size_t wide = up16((size_t)hs), row = wide * 3 + ATTN_TILE + 6;
    return (ATTN_ROWS * row + 2 * ATTN_TILE * wide) * sizeof(float);
}

/* m, l, acc of ATTN_ROWS rows; one such for each task's running state, and as many again to
 * hold chunks not yet merged. */
size_t cpu_attn_part_floats(int hs, int S)
{
    if (S <= ATTN_CHUNK) return 0;
    return (size_t)2 * ATTN_SPLIT * ATTN_ROWS * (up16((size_t)hs) + 2);
}

static attn_space space_of(const cpu *c, int thread, int hs)
{
    float *f = (float *)(c->attn_mem + (size_t)thread * c->attn_bytes);
    size_t wide = up16((size_t)hs) * ATTN_ROWS;
    attn_space s;
    s.q = f, f += wide;
    s.acc = f, f += wide;
    s.accc = f, f += wide;
    s.p = f, f += ATTN_ROWS * ATTN_TILE + 2 * ATTN_TILE * up16((size_t)hs);
    s.m = f, f += ATTN_ROWS;
    s.l = f, f += ATTN_ROWS;
    s.mc = f, f += ATTN_ROWS;
    s.lc = f, f += ATTN_ROWS;
    s.lo = (int *)f, f += ATTN_ROWS;
    s.hi = (int *)f;
    return s;
}

/* ---- rope and store ---- */

typedef struct {
    const cpu *c;
    float *q;
    const float *k, *v, *cs;
    int nh;
    const kv_layer *kv;
    bool adjacent;
    float qscale;
    const seq_run *run;
    int n_runs;
} rope_job;

/* x (hs,) turned by the angles of one position, into half order, times scale. x is not y. */
static void turn(float *y, const float *x, const float *cs, int hs, bool adjacent, float scale)
{
    int half = hs / 2, step = adjacent ? 2 : 1;
    const float *x1 = x, *x2 = adjacent ? x + 1 : x + half;
    for (int i = 0; i < half; i++, x1 += step, x2 += step) {
        float c = cs[2 * i], s = cs[2 * i + 1];
        float a = *x1 * c, b = *x2 * s, e = *x2 * c, f = *x1 * s;
        y[i] = (a - b) * scale;
        y[i + half] = (e + f) * scale;
    }
}

/* x (n,) as the cache's type, which is a float; y is f32 or 16 bits. */
static const void *stored(const kern *k, kv_type t, const float *x, uint16_t *y, int n)
{
    if (t == KV_F32) return x;
    (t == KV_F16 ? k->to_f16 : k->to_bf16)(y, x, n);
    return y;
}

/* K of one position into its column of a transposed tile. */
static void put_column(void *tile, int at, const void *x, int hs, kv_type t)
{
    if (t == KV_F32)
        for (int d = 0; d < hs; d++) ((float *)tile)[d * KV_PAGE + at] = ((const float *)x)[d];
    else
        for (int d = 0; d < hs; d++)
            ((uint16_t *)tile)[d * KV_PAGE + at] = ((const uint16_t *)x)[d];
}

/* A quantised cache has its heads turned by a Hadamard matrix, which spreads what is large in few
 * elements over all and is undone by turning q, and the output, likewise. By the largest power of
 * two that divides hs; V by 64 at most. */
static void spread(const kern *k, float *x, int hs, int most)
{
    int n = hs & -hs;
    if (n > most) n = most;
    for (int i = 0; i < hs; i += n) k->hadamard(x + i, n);
}
enum { SPREAD_QK = 512, SPREAD_V = 64 };

/* Bits of a value of a quantised cache; 0: it is one of floats. */
static int q_bits(kv_type t) { return t == KV_Q8_0 ? 8 : t == KV_Q4_0 ? 4 : 0; }

/* x (hs,) into q, blocks of bytes one after the other, and their scales d as halves. */
static void quantised(const kern *k, int bits, const float *x, int hs, uint8_t *q, uint16_t *d)
{
    float scale[HEAD_BLOCKS];
    int16_t sums[2 * HEAD_BLOCKS];
    if (bits == 8) k->quant_q8((int8_t *)q, scale, sums, x, hs);
    else k->quant_q4(q, scale, x, hs);
    for (int b = 0; b < hs / QBLOCK; b++) d[b] = f32_to_f16(scale[b]);
}

/* K and V of one position into a head's place in a quantised page (kv_tile.h). */
static void put_quantised(const kern *c, int bits, char *head, int at, const float *k,
                          const float *v, int hs)
{
    uint8_t q[HEAD_BLOCKS * QBLOCK];
    uint16_t d[HEAD_BLOCKS];
    int B = hs / QBLOCK, n = B * (int)kv_tile_block(bits);
    uint16_t *dk = (uint16_t *)head;
    uint8_t *qk = (uint8_t *)head + kv_tile_scales(hs);
    quantised(c, bits, k, hs, q, d);
    for (int b = 0; b < B; b++) dk[b * KV_PAGE + at] = d[b];
    for (int i = 0; i < n; i++) qk[i * KV_PAGE + at] = q[i];
    head += kv_tile_bytes(bits, hs);
    quantised(c, bits, v, hs, q, d);
    memcpy((uint16_t *)head + at * B, d, (size_t)B * sizeof *d);
    memcpy(head + kv_tile_scales(hs) + (size_t)at * (size_t)n, q, (size_t)n);
}

/* One row of the batch: its run is found by n. */
static void rope_row(void *arg, int n, int thread)
{
    const rope_job *j = arg;
    const kv_layer *kv = j->kv;
    const seq_run *u = j->run;
    while (n < u->n0 || n >= u->n0 + u->T) u++;
    int hs = kv->hs, p = u->pos + n - u->n0, at = p % KV_PAGE;
    const float *cs = j->cs + (size_t)p * (size_t)hs;
    attn_space s = space_of(j->c, thread, hs);
    float *t = s.acc;
    int bits = q_bits(kv->type);
    for (int h = 0; h < j->nh; h++) {
        float *q = j->q + ((size_t)n * (size_t)j->nh + (size_t)h) * (size_t)hs;
        turn(t, q, cs, hs, j->adjacent, j->qscale);
        if (bits) spread(&j->c->k, t, hs, SPREAD_QK);
        memcpy(q, t, (size_t)hs * sizeof *t);
    }
    char *page = kv->base + (size_t)u->page[p / KV_PAGE] * kv->page_bytes;
    size_t row = kv_row_bytes(kv->type, hs), part = (size_t)KV_PAGE * row;
    for (int h = 0; h < kv->nkv; h++) {
        size_t in = ((size_t)n * (size_t)kv->nkv + (size_t)h) * (size_t)hs;
        char *pk = page + (size_t)h * 2 * part, *pv = pk + part;
        uint16_t *half = (uint16_t *)s.accc;
        turn(t, j->k + in, cs, hs, j->adjacent, 1);
        if (bits) {
            memcpy(s.accc, j->v + in, (size_t)hs * sizeof *t);
            spread(&j->c->k, t, hs, SPREAD_QK);
            spread(&j->c->k, s.accc, hs, SPREAD_V);
            put_quantised(&j->c->k, bits, pk, at, t, s.accc, hs);
            continue;
        }
        put_column(pk, at, stored(&j->c->k, kv->type, t, half, hs), hs, kv->type);
        memcpy(pv + (size_t)at * row, stored(&j->c->k, kv->type, j->v + in, half, hs), row);
    }
}

static int n_rows(const seq_run *run, int n_runs)
{
    int n = 0;
    for (int i = 0; i < n_runs; i++)
        if (run[i].n0 + run[i].T > n) n = run[i].n0 + run[i].T;
    return n;
}

void cpu_rope_store(dev *d, float *q, const float *k, const float *v, int nh, const kv_layer *kv,
                    const float *cs, bool adjacent, float qscale, const seq_run *run, int n_runs)
{
    cpu *c = (cpu *)d;
    DR_ASSERT(kv->hs <= c->hs && (!q_bits(kv->type) || kv->hs <= HEAD_BLOCKS * QBLOCK));
    rope_job j = { c, q, k, v, cs, nh, kv, adjacent, qscale, run, n_runs };
    int N = n_rows(run, n_runs);
    if (N > 8) {
        pool_run(c->pool, N, rope_row, &j);
        return;
    }
    for (int n = 0; n < N; n++) rope_row(&j, n, 0);
}

/* ---- attention ---- */

typedef struct {
    const cpu *c;
    float *y, *stat;
    const float *q;
    int nh, group, window;
    const kv_layer *kv;
    const seq_run *run;
    int n_runs, n_tasks, parts;
    attn_fn *fn;
    /* of a quantised cache: fn then has scores and f32 values */
    attn_scores_fn *scores;
    void (*values)(float *v, const void *head, int hs);
    attn_weigh_fn *weigh;       /* instead of values and fn, for few rows; may be NULL */
    /* split tasks: this pass does chunks from .. from + span - 1 of each */
    int from, span;
} attn_job;

/* Rows row .. row+R-1 of the H KV heads from head on; in its arrays head by head. */
typedef struct { const seq_run *u; int head, H, row, R, chunk0, chunk1; } attn_task;

/* Heads of a task of a run: where they have few rows, reading the cache is what takes time, and a
 * thread that reads whole pages, one after the other, reads fastest. `parts` is how many tasks there
 * are to be at least, so that all threads have work. */
static int task_heads(const attn_job *j, const seq_run *u)
{
    int rows = u->T * j->group, nkv = j->kv->nkv;
    int most = rows < ATTN_ROWS ? ATTN_ROWS / rows : 1, n = (nkv + most - 1) / most;
    if (n < j->parts) n = j->parts;
    return (nkv + n - 1) / n;
}

static attn_task task_of(const attn_job *j, int i)
{
    const int *start = j->c->task_start;
    int a = 0, b = j->n_runs;                   /* the last run that starts at or before i */
    while (b - a > 1) {
        int mid = (a + b) / 2;
        if (start[mid] <= i) a = mid;
        else b = mid;
    }
    attn_task t = { .u = &j->run[a] };
    int rows = t.u->T * j->group, blocks = (rows + ATTN_ROWS - 1) / ATTN_ROWS;
    t.H = task_heads(j, t.u);
    t.head = (i - start[a]) / blocks * t.H;
    if (t.H > j->kv->nkv - t.head) t.H = j->kv->nkv - t.head;
    t.row = (i - start[a]) % blocks * ATTN_ROWS;
    t.R = rows - t.row < ATTN_ROWS ? rows - t.row : ATTN_ROWS;
    int first = t.u->pos + t.row / j->group, last = t.u->pos + (t.row + t.R - 1) / j->group;
    int lowest = j->window > 0 && first >= j->window ? first - j->window + 1 : 0;
    t.chunk0 = lowest / ATTN_CHUNK, t.chunk1 = last / ATTN_CHUNK + 1;
    return t;
}

static float *row_at(const attn_job *j, const float *base, const attn_task *t, int r)
{
    int row = t->row + r % t->R, n = t->u->n0 + row / j->group;
    size_t head = (size_t)((t->head + r / t->R) * j->group + row % j->group);
    return (float *)base + ((size_t)n * (size_t)j->nh + head) * (size_t)j->kv->hs;
}

/* The task's query rows, head by head; for a quantised cache rounded as the inputs of products. */
static void load_q(const attn_job *j, const attn_task *t, attn_space *s)
{
    int hs = j->kv->hs, n = t->H * t->R;
    if (!j->scores) {
        for (int r = 0; r < n; r++)
            memcpy(s->q + r * hs, row_at(j, j->q, t, r), (size_t)hs * sizeof *s->q);
        return;
    }
    int8_t *q = (int8_t *)s->q;
    float *d = (float *)(q + ATTN_ROWS * hs);
    int16_t *s16 = (int16_t *)(d + ATTN_ROWS * (hs / QBLOCK));
    for (int r = 0; r < n; r++)
        j->c->k.quant_q8(q + r * hs, d + r * (hs / QBLOCK), s16 + r * (hs / 16),
                         row_at(j, j->q, t, r), hs);
    s->rows8 = (attn_rows8){ q, d, s16 };
}

/* One tile of a quantised cache for the rows from r on; lo NULL: they see all of it. */
static void quant_tile(const attn_job *j, const attn_task *t, attn_space *s, int r, float *m, float *l,
                       float *acc, const char *head, const int *lo, const void *next)
{
    int hs = j->kv->hs;
    size_t bytes = 2 * (size_t)KV_PAGE * kv_row_bytes(j->kv->type, hs);
    float *space = s->p + ATTN_ROWS * ATTN_TILE;
    attn_rows8 q = { s->rows8.q + r * hs, s->rows8.d + r * (hs / QBLOCK),
                     s->rows8.s16 + r * (hs / 16) };
    j->scores(s->p, &q, t->R, hs, head, space);
    if (j->weigh && !lo && t->R <= ATTN_FEW) {
        j->weigh(m, l, acc, s->p, t->R, hs, head, space, next ? next : head + bytes);
        return;
    }
    j->values(space, head, hs);
    j->fn(m, l, acc, s->q, t->R, hs, NULL, space, lo, s->hi, s->p, next, bytes);
}

static void clear(float *m, float *l, float *acc, int R, int hs)
{
    for (int r = 0; r < R; r++) m[r] = -INFINITY, l[r] = 0;
    memset(acc, 0, (size_t)R * (size_t)hs * sizeof *acc);
}

/* Chunk `chunk` of the task, from nothing, into m, l, acc. */
static void one_chunk(const attn_job *j, const attn_task *t, int chunk, attn_space *s, float *m,
                      float *l, float *acc)
{
    const kv_layer *kv = j->kv;
    size_t part = (size_t)KV_PAGE * kv_row_bytes(kv->type, kv->hs);
    int first = t->u->pos + t->row / j->group, last = t->u->pos + (t->row + t->R - 1) / j->group;
    int a = chunk * ATTN_CHUNK, b = a + ATTN_CHUNK - 1;
    if (j->window > 0 && first - j->window + 1 > a) a = first - j->window + 1;
    if (b > last) b = last;
    clear(m, l, acc, t->H * t->R, kv->hs);
    for (int tile = a / ATTN_TILE; tile <= b / ATTN_TILE; tile++) {
        int j0 = tile * ATTN_TILE;
        /* every row sees all of it? */
        bool whole = first >= j0 + ATTN_TILE - 1 && (j->window == 0 || last - j->window < j0);
        for (int r = 0; !whole && r < t->R; r++) {
            int p = t->u->pos + (t->row + r) / j->group - j0;      /* sees up to here */
            int lo = j->window > 0 ? p - j->window + 1 : 0;
            s->lo[r] = lo < 0 ? 0 : lo;
            s->hi[r] = p + 1 < 0 ? 0 : p + 1 > ATTN_TILE ? ATTN_TILE : p + 1;
        }
        const char *k = kv->base + (size_t)t->u->page[tile] * kv->page_bytes +
                        (size_t)t->head * 2 * part;
        /* a task of one head jumps from page to page */
        const void *next = t->H > 1 || tile >= last / ATTN_TILE ? NULL :
            kv->base + (size_t)t->u->page[tile + 1] * kv->page_bytes + (size_t)t->head * 2 * part;
        for (int h = 0, r = 0; h < t->H; h++, r += t->R, k += 2 * part) {
            const int *lo = whole ? NULL : s->lo;
            float *to = acc + r * kv->hs;
            if (j->scores) quant_tile(j, t, s, r, m + r, l + r, to, k, lo, next);
            else j->fn(m + r, l + r, to, s->q + r * kv->hs, t->R, kv->hs, k, k + part, lo, s->hi, s->p,
                       next, 2 * part);
        }
    }
}

static void finish(const attn_job *j, const attn_task *t, const float *m, const float *l,
                   const float *acc)
{
    typedef float four __attribute__((vector_size(16)));
    int hs = j->kv->hs;
    for (int r = 0; r < t->H * t->R; r++, acc += hs) {
        float *y = row_at(j, j->y, t, r);
        int d = 0;
        for (four a; d + 4 <= hs; d += 4) {
            memcpy(&a, acc + d, sizeof a);
            a /= l[r];
            memcpy(y + d, &a, sizeof a);
        }
        for (; d < hs; d++) y[d] = acc[d] / l[r];
        if (j->scores) spread(&j->c->k, y, hs, SPREAD_V);
        if (j->stat) {
            float *stat = j->stat + (size_t)(y - j->y) / (size_t)hs * 2;
            stat[0] = m[r], stat[1] = l[r];
        }
    }
}

static void whole_task(void *arg, int i, int thread)
{
    const attn_job *j = arg;
    attn_task t = task_of(j, i);
    attn_space s = space_of(j->c, thread, j->kv->hs);
    load_q(j, &t, &s);
    one_chunk(j, &t, t.chunk0, &s, s.m, s.l, s.acc);
    for (int ch = t.chunk0 + 1; ch < t.chunk1; ch++) {
        one_chunk(j, &t, ch, &s, s.mc, s.lc, s.accc);
        j->c->k.attn_merge(s.m, s.l, s.acc, s.mc, s.lc, s.accc, t.H * t.R,
                           j->kv->hs);
    }
    finish(j, &t, s.m, s.l, s.acc);
}

/* Place k of the partial results: m, l and acc of one task's rows. Places 0 .. n_tasks-1 hold
 * the running states, n_tasks + chunk * n_tasks + task the chunks of this pass. */
static float *place(const attn_job *j, int k)
{
    return j->c->part + (size_t)k * ATTN_ROWS * (up16((size_t)j->kv->hs) + 2);
}

static void split_chunk(void *arg, int i, int thread)
{
    const attn_job *j = arg;
    attn_task t = task_of(j, i / j->span);
    int ch = j->from + i % j->span;
    if (ch < t.chunk0 || ch >= t.chunk1) return;
    attn_space s = space_of(j->c, thread, j->kv->hs);
    load_q(j, &t, &s);
    float *m = place(j, j->n_tasks + i);
    one_chunk(j, &t, ch, &s, m, m + ATTN_ROWS, m + 2 * ATTN_ROWS);
}

static void split_merge(void *arg, int i, int thread)
{
    const attn_job *j = arg;
    attn_task t = task_of(j, i);
    float *m = place(j, i);
    (void)thread;
    if (j->from == 0) clear(m, m + ATTN_ROWS, m + 2 * ATTN_ROWS, t.H * t.R, j->kv->hs);
    for (int k = 0; k < j->span; k++) {
        if (j->from + k < t.chunk0 || j->from + k >= t.chunk1) continue;
        const float *mc = place(j, j->n_tasks + i * j->span + k);
        j->c->k.attn_merge(m, m + ATTN_ROWS, m + 2 * ATTN_ROWS, mc, mc + ATTN_ROWS,
                           mc + 2 * ATTN_ROWS, t.H * t.R, j->kv->hs);
    }
    if (j->from + j->span >= t.chunk1 && j->from < t.chunk1)
        finish(j, &t, m, m + ATTN_ROWS, m + 2 * ATTN_ROWS);
}

void cpu_attn(dev *d, float *y, float *stat, const float *q, int nh, const kv_layer *kv, int window,
              const seq_run *run, int n_runs)
{
    cpu *c = (cpu *)d;
    attn_job j = { .c = c, .y = y, .stat = stat, .q = q, .nh = nh, .group = nh / kv->nkv, .window = window,
                   .kv = kv, .run = run, .n_runs = n_runs };
    j.fn = kv->type == KV_F16 ? c->k.attn_f16 : kv->type == KV_BF16 ? c->k.attn_bf16
                                                                     : c->k.attn_f32;
    if (kv->type == KV_Q8_0)
        j.scores = c->k.scores_q8, j.values = c->k.v_q8, j.weigh = c->k.weigh_q8;
    if (kv->type == KV_Q4_0)
        j.scores = c->k.scores_q4, j.values = c->k.v_q4, j.weigh = c->k.weigh_q4;
    DR_ASSERT(n_runs <= c->N && kv->hs <= c->hs);
    int longest = 0, chunks = 0, want;
    c->task_start[0] = 0;
    for (int i = 0; i < n_runs; i++) {
        chunks += (run[i].pos + run[i].T - 1) / ATTN_CHUNK + 1;
        if (run[i].pos + run[i].T > longest) longest = run[i].pos + run[i].T;
    }
    want = (longest <= ATTN_CHUNK ? 2 : 8) * d->n_threads;
    j.parts = d->n_threads == 1 || chunks >= want ? 1 : (want + chunks - 1) / chunks;
    if (j.parts > kv->nkv) j.parts = kv->nkv;
    for (int i = 0; i < n_runs; i++) {
        int blocks = (run[i].T * j.group + ATTN_ROWS - 1) / ATTN_ROWS, H = task_heads(&j, &run[i]);
        c->task_start[i + 1] = c->task_start[i] + blocks * ((kv->nkv + H - 1) / H);
    }
    j.n_tasks = c->task_start[n_runs];
    chunks = (longest + ATTN_CHUNK - 1) / ATTN_CHUNK;
    if (j.n_tasks >= ATTN_SPLIT || chunks <= 1) {
        pool_run(c->pool, j.n_tasks, whole_task, &j);
        return;
    }
    DR_ASSERT(longest <= c->S);
    int places = (int)(c->part_floats / (ATTN_ROWS * (up16((size_t)kv->hs) + 2)));
    j.span = places / j.n_tasks - 1;
    if (j.span > chunks) j.span = chunks;
    for (j.from = 0; j.from < chunks; j.from += j.span) {
        pool_run(c->pool, j.n_tasks * j.span, split_chunk, &j);
        pool_run(c->pool, j.n_tasks, split_merge, &j);
    }
}
