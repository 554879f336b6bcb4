/* cpu.c - the CPU device: memory, products and the element-wise operations. */
#include "dev/cpu.h"
#include <string.h>
#include "base/mem.h"
#include "format/dequant.h"

enum {
    SMALL = 16384,              /* elements below which waking threads costs more than it saves */
    ELEMS = 8192,               /* elements in a chunk of an element-wise operation */
    PANEL_MIN = 64, PANEL_MAX = 256,    /* rows in a chunk of a product of many columns */
    DECODE_N = 16,              /* columns up to which a product is bound by reading weights */
    DECODE_BYTES = 256 << 10    /* bytes of weights at most in its chunks */
};

static size_t up64(size_t n) { return (n + 63) & ~(size_t)63; }
static size_t up32(size_t n) { return (n + 31) & ~(size_t)31; }

static void *cpu_alloc(dev *d, size_t n)
{
    (void)d;
    return mem_pages(n);
}

static void cpu_free(dev *d, void *p, size_t n)
{
    (void)d;
    mem_pages_free(p, n);
}

static void cpu_close(dev *d)
{
    cpu *c = (cpu *)d;
    pool_free(c->pool);
    cpu_numa_close(c);
    mem_pages_free(c->mem, c->mem_bytes);
    mem_pages_free(c->tmem, c->tmem_bytes);
    mem_free(c);
}

/* ---- scratch ---- */

void cpu_carve(char *base, size_t *at, void *p, size_t n)
{
    if (base) {
        char *q = base + *at;
        memcpy(p, &q, sizeof q);
    }
    *at += up64(n);
}

static size_t layout(cpu *c, char *base, int N, int K, int nh, int hs, int S)
{
    size_t at = 0, n = (size_t)N, kk = up32((size_t)K), t = (size_t)c->d.n_threads;
    size_t mul = MUL_FLOAT_SCRATCH;
    for (int i = 0; i < KERN_MAX_TYPE; i++) {
        size_t b = c->k.mul[i] ? c->k.mul_scratch(i, (int)kk) : 0;
        if (b > mul) mul = b;
    }
    c->mul_bytes = up64(mul);
    c->attn_bytes = up64(cpu_attn_bytes(hs));
    c->part_floats = cpu_attn_part_floats(hs, S);
    cpu_carve(base, &at, &c->bf, n * kk * 2);
    if (c->k.pack_bf16) cpu_carve(base, &at, &c->bt, (n + 15) / 16 * 16 * kk * 2);
    cpu_carve(base, &at, &c->q, n * kk);
    cpu_carve(base, &at, &c->qd, n * kk / 32 * sizeof(float));
    cpu_carve(base, &at, &c->s16, n * kk / 16 * sizeof(int16_t));
    cpu_carve(base, &at, &c->qk, n * kk);
    cpu_carve(base, &at, &c->qkd, n * kk / 32 * sizeof(float));
    cpu_carve(base, &at, &c->qks16, n * kk / 16 * sizeof(int16_t));
    cpu_carve(base, &at, &c->dk, n * kk / 256 * sizeof(float));
    cpu_carve(base, &at, &c->shift, n * kk / 32 * sizeof(int32_t));
    cpu_carve(base, &at, &c->dA, n * kk / 32 * sizeof(float));
    cpu_carve(base, &at, &c->mul_space, t * c->mul_bytes);
    cpu_carve(base, &at, &c->slice, t * n * SLICE_ROWS * sizeof(float));
    cpu_carve(base, &at, &c->attn_mem, t * c->attn_bytes);
    cpu_carve(base, &at, &c->task_start, (n + 1) * sizeof(int));
    cpu_carve(base, &at, &c->part, c->part_floats * sizeof(float));
    (void)nh;
    return at;
}

static size_t cpu_reserve_bytes(dev *d, int N, int K, int nh, int hs, int S)
{
    cpu tmp = *(cpu *)d;
    return layout(&tmp, NULL, N, K, nh, hs, S);
}

static int cpu_reserve(dev *d, int N, int K, int nh, int hs, int S, dr_err *e)
{
    cpu *c = (cpu *)d;
    if (N <= c->N && K <= c->K && nh <= c->nh && hs <= c->hs && S <= c->S) return DR_OK;
    if (N < c->N) N = c->N;
    if (K < c->K) K = c->K;
    if (nh < c->nh) nh = c->nh;
    if (hs < c->hs) hs = c->hs;
    if (S < c->S) S = c->S;
    size_t bytes = cpu_reserve_bytes(d, N, K, nh, hs, S);
    char *mem = mem_pages(bytes);
    if (!mem) return err_nomem(e, bytes, "the device's scratch");
    mem_pages_free(c->mem, c->mem_bytes);
    c->mem = mem, c->mem_bytes = bytes;
    c->N = N, c->K = K, c->nh = nh, c->hs = hs, c->S = S;
    layout(c, mem, N, K, nh, hs, S);
    return DR_OK;
}

/* ---- embedding ---- */

typedef struct { float *y; const wmat *w; const int32_t *tok; } embed_job;

static void embed_chunk(void *arg, int n, int thread)
{
    const embed_job *j = arg;
    const wmat *w = j->w;
    (void)thread;
    float *y = j->y + (size_t)n * (size_t)w->K;
    dequant_row(w->type, (const char *)w->data + (size_t)j->tok[n] * w->row_bytes, y, w->K);
    for (int s = 0, k = 0; w->scale && s < w->n_slice; s++)
        for (int end = k + w->K / w->n_slice; k < end; k++)
            y[k] *= w->scale[(size_t)s * (size_t)w->rows + (size_t)j->tok[n]];
}

void cpu_run_chunks(cpu *c, int n_chunks, size_t elems, void (*fn)(void *, int, int), void *arg)
{
    if (elems > SMALL) {
        pool_run(c->pool, n_chunks, fn, arg);
        return;
    }
    for (int i = 0; i < n_chunks; i++) fn(arg, i, 0);
}

static void cpu_embed(dev *d, float *y, const wmat *w, const int32_t *tok, int N)
{
    embed_job j = { y, w, tok };
    cpu_run_chunks((cpu *)d, N, (size_t)N * (size_t)w->K, embed_chunk, &j);
}

/* ---- norm and element-wise ---- */

typedef struct { const kern *k; float *y; const float *x, *w; int C; float eps; } norm_job;

static void norm_chunk(void *arg, int n, int thread)
{
    const norm_job *j = arg;
    size_t at = (size_t)n * (size_t)j->C;
    (void)thread;
    j->k->rmsnorm(j->y + at, j->x + at, j->w, j->C, j->eps);
}

static void cpu_rmsnorm(dev *d, float *y, const float *x, const float *w, int N, int C, float eps)
{
    cpu *c = (cpu *)d;
    norm_job j = { &c->k, y, x, w, C, eps };
    cpu_run_chunks(c, N, (size_t)N * (size_t)C, norm_chunk, &j);
}

typedef struct { const kern *k; float *y; const float *a, *b; int64_t n; } elem_job;

static void add_chunk(void *arg, int i, int thread)
{
    const elem_job *j = arg;
    int64_t at = (int64_t)i * ELEMS, n = j->n - at < ELEMS ? j->n - at : ELEMS;
    (void)thread;
    j->k->add(j->y + at, j->a + at, n);
}

static void swiglu_chunk(void *arg, int i, int thread)
{
    const elem_job *j = arg;
    int64_t at = (int64_t)i * ELEMS, n = j->n - at < ELEMS ? j->n - at : ELEMS;
    (void)thread;
    j->k->swiglu(j->y + at, j->a + at, j->b + at, n);
}

static void cpu_add(dev *d, float *y, const float *x, int64_t n)
{
    cpu *c = (cpu *)d;
    elem_job j = { &c->k, y, x, NULL, n };
    cpu_run_chunks(c, (int)((n + ELEMS - 1) / ELEMS), (size_t)n, add_chunk, &j);
}

static void cpu_keep_rows(dev *d, float *a, int C, const int32_t *row, int n_row)
{
    (void)d;
    for (int i = 0; i < n_row; i++)              // row[i] >= i: nothing is overwritten unread
        if (row[i] != i)
            memcpy(a + (size_t)i * (size_t)C, a + (size_t)row[i] * (size_t)C,
                   (size_t)C * sizeof *a);
}

static void cpu_swiglu(dev *d, float *y, const float *g, const float *u, int64_t n)
{
    cpu *c = (cpu *)d;
    elem_job j = { &c->k, y, g, u, n };
    cpu_run_chunks(c, (int)((n + ELEMS - 1) / ELEMS), (size_t)n, swiglu_chunk, &j);
}

/* ---- products ---- */

typedef struct {
    cpu *c;
    const mm_out *out;
    int n_out;
    bool want[ACT_N];                   /* forms of the input, by ACT_* */
    int start[MM_OUTS + 1];             /* first chunk of each output */
    act a;
} mm_job;

enum { GROUP = 16 };                    /* rows of input that are packed together */

/* Rows of x in every form that some output multiplies with. */
static void mm_input(void *arg, int group, int thread)
{
    const mm_job *j = arg;
    cpu *c = j->c;
    size_t K = (size_t)j->a.K, kk = up32(K), first = (size_t)group * GROUP;
    size_t end = first + GROUP < (size_t)j->a.N ? first + GROUP : (size_t)j->a.N;
    (void)thread;
    for (size_t n = first; n < end; n++) {
        const float *x = j->a.x + n * j->a.ldx;
        if (j->want[ACT_BF16]) {
            c->k.to_bf16(c->bf + n * kk, x, (int64_t)K);
            memset(c->bf + n * kk + K, 0, (kk - K) * sizeof *c->bf);
        }
        if (j->want[ACT_Q8])
            c->k.quant_q8(c->q + n * K, c->qd + n * (K / 32), c->s16 + n * (K / 16), x, (int)K);
        if (j->want[ACT_QK])
            c->k.quant_qk(c->qk + n * K, c->qkd + n * (K / 32), c->qks16 + n * (K / 16),
                          c->dk + n * (K / 256), c->shift + n * (K / 32), c->dA + n * (K / 32), x,
                          (int)K);
    }
    if (j->want[ACT_BF16] && c->k.pack_bf16 && j->a.N > 1)
        c->k.pack_bf16(c->bt + first * kk, c->bf + first * kk, (int)(end - first), (int)K);
}

/* Chunk i of an output's n: its rows in units of sixteen, shared out evenly. */
static int mm_cut(int rows, int i, int n)
{
    int64_t at = (int64_t)((rows + 15) / 16) * i / n * 16;
    return at < rows ? (int)at : rows;
}

/* Rows [r0,r0+R) of a matrix with scales: each slice's products times their row's scale, added
 * up in order. */
static void mm_scaled(const mm_job *j, const wmat *w, int r0, int R, float *y, size_t ldy,
                      int thread)
{
    cpu *c = j->c;
    char *space = c->mul_space + (size_t)thread * c->mul_bytes;
    float *part = c->slice + (size_t)thread * (size_t)c->N * SLICE_ROWS;
    int K = w->K / w->n_slice;
    act a = j->a;
    a.K = K;
    for (int s = 0; s < w->n_slice; s++) {
        const char *p = (const char *)w->data + (size_t)r0 * w->row_bytes +
                        (size_t)s * (w->row_bytes / (size_t)w->n_slice);
        const float *scale = w->scale + (size_t)s * (size_t)w->rows + r0;
        a.x = j->a.x + (size_t)s * (size_t)K;
        if (s == 0) {
            c->k.mul[w->type](y, ldy, p, w->row_bytes, R, &a, space);
            for (int n = 0; n < a.N; n++)
                for (int r = 0; r < R; r++) y[(size_t)n * ldy + (size_t)r] *= scale[r];
            continue;
        }
        for (int b = 0; b < R; b += SLICE_ROWS) {
            int k = R - b < SLICE_ROWS ? R - b : SLICE_ROWS;
            c->k.mul[w->type](part, SLICE_ROWS, p + (size_t)b * w->row_bytes, w->row_bytes, k, &a,
                              space);
            for (int n = 0; n < a.N; n++)
                for (int r = 0; r < k; r++)
                    y[(size_t)n * ldy + (size_t)(b + r)] += scale[b + r] *
                                                            part[(size_t)n * SLICE_ROWS + (size_t)r];
        }
    }
}

static void mm_rows(void *arg, int chunk, int thread)
{
    const mm_job *j = arg;
    int i = 0;
    while (chunk >= j->start[i + 1]) i++;
    const wmat *w = j->out[i].w;
    int n_cuts = j->start[i + 1] - j->start[i], cut = chunk - j->start[i];
    int r0 = mm_cut(w->rows, cut, n_cuts), R = mm_cut(w->rows, cut + 1, n_cuts) - r0;
    float *y = j->out[i].y + r0;
    size_t ldy = j->out[i].ldy;
    if (R == 0) return;
    act a = j->a;
    if (act_kind(w->type) == ACT_QK)
        a.q = j->c->qk, a.d = j->c->qkd, a.s16 = j->c->qks16, a.dk = j->c->dk,
        a.shift = j->c->shift, a.dA = j->c->dA;
    if (w->scale)
        mm_scaled(j, w, r0, R, y, ldy, thread);
    else
        j->c->k.mul[w->type](y, ldy, (const char *)w->data + (size_t)r0 * w->row_bytes,
                             w->row_bytes, R, &a,
                             j->c->mul_space + (size_t)thread * j->c->mul_bytes);
    if (!w->bias) return;
    for (int n = 0; n < j->a.N; n++)
        for (int r = 0; r < R; r++) y[(size_t)n * ldy + (size_t)r] += w->bias[r0 + r];
}

/* Rows in a chunk, about: a decode step wants long runs of weights; a prefill wants panels large
 * enough to repay their unpacking and small enough that every thread gets several. */
static int mm_step(const wmat *w, int all_rows, int N, int n_threads)
{
    if (N > DECODE_N) {
        int step = all_rows / (4 * n_threads);
        return step < PANEL_MIN ? PANEL_MIN : step > PANEL_MAX ? PANEL_MAX : step;
    }
    size_t rows = DECODE_BYTES / w->row_bytes, share = (size_t)(all_rows / n_threads);
    if (rows > share) rows = share;
    return rows < 16 ? 16 : rows > 1024 ? 1024 : (int)rows;
}

/* Chunks of a step of N columns: start[i] is the first of output i. */
static void mm_chunks(int *start, const wmat *const *w, int n, int N, int n_threads)
{
    int rows = 0;
    for (int i = 0; i < n; i++) rows += w[i]->rows;
    start[0] = 0;
    for (int i = 0; i < n; i++) {
        int step = mm_step(w[i], rows, N, n_threads);
        start[i + 1] = start[i] + (w[i]->rows + step - 1) / step;
    }
}

void cpu_node_rows(const wmat *const *w, int n, int n_threads, const int *first_thread, int n_nodes,
                   int *end)
{
    int start[MM_OUTS + 1];
    DR_ASSERT(n <= MM_OUTS);
    mm_chunks(start, w, n, 1, n_threads);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < n_nodes; k++) {
            int chunk = pool_share(start[n], n_threads, first_thread[k + 1]) - start[i];
            int cuts = start[i + 1] - start[i];
            end[i * n_nodes + k] = chunk <= 0 ? 0 : chunk >= cuts ? w[i]->rows :
                                   mm_cut(w[i]->rows, chunk, cuts);
        }
}

static void cpu_matmul(dev *d, const mm_out *out, int n_out, const float *x, size_t ldx, int N)
{
    cpu *c = (cpu *)d;
    int K = out[0].w->K;
    DR_ASSERT(n_out <= MM_OUTS && N <= c->N && K <= c->K);
    if (d->watch) d->watch(d->watch_arg, out, n_out, x, ldx, N);
    mm_job j = { .c = c, .out = out, .n_out = n_out,
                 .a = { .N = N, .K = K, .x = x, .ldx = ldx } };
    const wmat *all[MM_OUTS];
    for (int i = 0; i < n_out; i++) {
        const wmat *w = all[i] = out[i].w;
        DR_ASSERT(w->K == K && (!w->scale || (act_kind(w->type) == ACT_F32 &&
                                              w->n_slice > 0 && K % w->n_slice == 0)));
        j.want[act_kind(w->type)] = true;
    }
    mm_chunks(j.start, all, n_out, N, d->n_threads);
    if (j.want[ACT_BF16] || j.want[ACT_Q8] || j.want[ACT_QK])
        cpu_run_chunks(c, (N + GROUP - 1) / GROUP, (size_t)N * (size_t)K, mm_input, &j);
    j.a.bf = c->bf, j.a.bt = c->bt, j.a.q = c->q, j.a.d = c->qd, j.a.s16 = c->s16;
    pool_run(c->pool, j.start[n_out], mm_rows, &j);
}

static void cpu_run(dev *d, int n, void (*fn)(void *, int, int), void *arg)
{
    pool_run(((cpu *)d)->pool, n, fn, arg);
}

dev *cpu_open(const dev_opt *o, dr_err *e)
{
    cpu *c = mem_zalloc(1, sizeof *c);
    if (!c) {
        err_nomem(e, sizeof *c, "the device");
        return NULL;
    }
    c->d = (dev){ .name = "cpu", .alloc = cpu_alloc, .free = cpu_free, .reserve = cpu_reserve,
                  .reserve_bytes = cpu_reserve_bytes, .embed = cpu_embed, .rmsnorm = cpu_rmsnorm,
                  .matmul = cpu_matmul, .add_low_rank = cpu_add_low_rank, .rope_store = cpu_rope_store, .attn = cpu_attn,
                  .swiglu = cpu_swiglu, .add = cpu_add, .keep_rows = cpu_keep_rows,
                  .run = cpu_run, .node_rows = cpu_numa_rows, .bind = cpu_numa_bind,
                  .close = cpu_close };
    cpu_grad_open(c);
    cpu_optim_open(c);
    c->d.level = kern_select(&c->k, o->cpu_level);
    if (!c->d.level) {
        err_set(e, DR_EINVAL, "kernel level \"%s\" is not known or not on this CPU, which has %s",
                o->cpu_level, kern_select(&c->k, NULL));
        mem_free(c);
        return NULL;
    }
    if (cpu_numa_open(c, o, e) != DR_OK) {
        cpu_close(&c->d);
        return NULL;
    }
    c->d.n_threads = pool_threads(c->pool);
    return &c->d;
}
