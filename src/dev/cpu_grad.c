/* cpu_grad.c - training on the CPU: scratch, the products' gradients, and the small operations.
 *
 * A product's gradient is cut into blocks of outputs; each sums over all that it is a sum of, so
 * where the cuts are changes no bit. Sums over rows of something else (a norm's dw) are made for
 * every GRAD_ROWS rows and added in order. */
#include <string.h>
#include "base/mem.h"
#include "dev/cpu.h"

enum { ELEMS = 8192, COLS = 64, IDLE = 85 /* per cent of threads that have work, at least */ };

/* ---- scratch ---- */

static size_t layout(cpu *c, char *base, const train_size *s)
{
    size_t at = 0, t = (size_t)c->d.n_threads, N = (size_t)s->N, C = (size_t)s->C;
    size_t Q = (size_t)s->nh * (size_t)s->hs, rows = s->N < HEAD_ROWS ? N : HEAD_ROWS;
    c->attn_grad_bytes = cpu_attn_grad_bytes(s->N, s->hs);
    cpu_carve(base, &at, &c->grad_space, t * GRAD_SCRATCH);
    cpu_carve(base, &at, &c->norm_part, (N + GRAD_ROWS - 1) / GRAD_ROWS * C * sizeof(float));
    cpu_carve(base, &at, &c->dkv, 2 * N * Q * sizeof(float));
    cpu_carve(base, &at, &c->attn_grad_mem, t * c->attn_grad_bytes);
    cpu_carve(base, &at, &c->logits, rows * (size_t)s->V * sizeof(float));
    cpu_carve(base, &at, &c->head_x, rows * C * sizeof(float));
    cpu_carve(base, &at, &c->head_dx, rows * C * sizeof(float));
    cpu_carve(base, &at, &c->head_logp, rows * sizeof(double));
    cpu_carve(base, &at, &c->head_row, N * sizeof(int));
    return at;
}

static size_t cpu_reserve_train_bytes(dev *d, const train_size *s)
{
    cpu tmp = *(cpu *)d;
    return layout(&tmp, NULL, s);
}

static int most(int a, int b) { return a > b ? a : b; }

static int cpu_reserve_train(dev *d, const train_size *s, dr_err *e)
{
    cpu *c = (cpu *)d;
    train_size t = { most(s->N, c->t.N), most(s->C, c->t.C), most(s->V, c->t.V),
                     most(s->nh, c->t.nh), most(s->hs, c->t.hs) };
    if (c->tmem && !memcmp(&t, &c->t, sizeof t)) return DR_OK;
    size_t bytes = cpu_reserve_train_bytes(d, &t);
    char *mem = mem_pages(bytes);
    if (!mem) return err_nomem(e, bytes, "the device's scratch for training");
    mem_pages_free(c->tmem, c->tmem_bytes);
    c->tmem = mem, c->tmem_bytes = bytes, c->t = t;
    layout(c, mem, &t);
    return DR_OK;
}

/* ---- products ---- */

/* Outputs (rows,cols) in blocks of bm by bn. */
typedef struct { int rows, cols, bm, bn, nm, nn, first; } blocks;

enum { UNIT_M = 24, UNIT_N = 32 };

/* Pieces of n, `count` of them or fewer, of whole units: their size. */
static int piece(int n, int count, int unit)
{
    int size = (n + count - 1) / count;
    return (size + unit - 1) / unit * unit;
}

/* Blocks as large as they may be, or as much smaller in rows as threads without work want. */
static void cut(blocks *b, int rows, int cols, int first, int n_threads)
{
    int nn = (cols + GRAD_N - 1) / GRAD_N, nm = (rows + GRAD_M - 1) / GRAD_M;
    *b = (blocks){ .rows = rows, .cols = cols, .first = first };
    b->bn = piece(cols, nn, UNIT_N), b->nn = (cols + b->bn - 1) / b->bn;
    for (;; nm++) {
        b->bm = piece(rows, nm, UNIT_M), b->nm = (rows + b->bm - 1) / b->bm;
        int n = b->nm * b->nn, rounds = (n + n_threads - 1) / n_threads * n_threads;
        if (b->bm == UNIT_M || 100 * n >= IDLE * rounds) break;
    }
}

/* Block i: where it begins and how large it is. */
static void block_at(const blocks *b, int i, int *m, int *n, int *M, int *N)
{
    *m = i / b->nn * b->bm, *n = i % b->nn * b->bn;
    *M = b->rows - *m < b->bm ? b->rows - *m : b->bm;
    *N = b->cols - *n < b->bn ? b->cols - *n : b->bn;
}

static grad_mul_fn *grad_mul(const cpu *c, int type)
{
    DR_ASSERT(type == DT_F32 || type == DT_BF16);
    return type == DT_BF16 ? c->k.grad_bf16 : c->k.grad_f32;
}

static const void *at(const void *p, int type, size_t i)
{
    return (const char *)p + i * (type == DT_BF16 ? 2 : 4);
}

typedef struct {
    cpu *c;
    float *dx;
    size_t lddx;
    const mm_dx *in;
    int n_in;
    bool add;
    blocks b;
} dx_job;

static void dx_block(void *arg, int i, int thread)
{
    const dx_job *j = arg;
    int m, n, M, N;
    block_at(&j->b, i, &m, &n, &M, &N);
    for (int k = 0; k < j->n_in; k++) {
        const mm_dx *in = &j->in[k];
        const wmat *w = in->w;
        size_t elem = w->type == DT_BF16 ? 2 : 4;
        grad_op a = { in->dy + (size_t)m * in->ldy, in->ldy, DT_F32, true };
        grad_op b = { at(w->data, w->type, (size_t)n), w->row_bytes / elem, w->type, false };
        grad_mul(j->c, w->type)(j->dx + (size_t)m * j->lddx + (size_t)n, j->lddx, M, N, w->rows, &a,
                                &b, j->add || k, j->c->grad_space + (size_t)thread * GRAD_SCRATCH);
    }
}

static void cpu_matmul_dx(dev *d, float *dx, size_t lddx, const mm_dx *in, int n_in, int N, bool add)
{
    cpu *c = (cpu *)d;
    dx_job j = { .c = c, .dx = dx, .lddx = lddx, .in = in, .n_in = n_in, .add = add };
    DR_ASSERT(c->tmem);
    for (int i = 0; i < n_in; i++) DR_ASSERT(in[i].w->K == in[0].w->K);
    cut(&j.b, N, in[0].w->K, 0, d->n_threads);
    pool_run(c->pool, j.b.nm * j.b.nn, dx_block, &j);
}

typedef struct {
    cpu *c;
    const mm_dw *out;
    const void *x;
    int x_type, n_out, N;
    size_t ldx;
    blocks b[MM_OUTS];
} dw_job;

static void dw_block(void *arg, int i, int thread)
{
    const dw_job *j = arg;
    int o = 0, m, n, M, N;
    while (o + 1 < j->n_out && i >= j->b[o + 1].first) o++;
    const mm_dw *out = &j->out[o];
    block_at(&j->b[o], i - j->b[o].first, &m, &n, &M, &N);
    grad_op a = { out->dy + m, out->ldy, DT_F32, false };
    grad_op b = { at(j->x, j->x_type, (size_t)n), j->ldx, j->x_type, false };
    size_t K = (size_t)out->w->K;
    grad_mul(j->c, out->w->type)(out->dw + (size_t)m * K + (size_t)n, K, M, N, j->N, &a, &b, !out->fresh,
                                 j->c->grad_space + (size_t)thread * GRAD_SCRATCH);
    if (!out->db || n) return;
    if (out->fresh) memset(out->db + m, 0, (size_t)M * sizeof *out->db);
    for (int k = 0; k < j->N; k++) j->c->k.add(out->db + m, out->dy + (size_t)k * out->ldy + m, M);
}

static void cpu_matmul_dw(dev *d, const mm_dw *out, int n_out, const void *x, int x_type, size_t ldx,
                          int N)
{
    cpu *c = (cpu *)d;
    dw_job j = { .c = c, .out = out, .x = x, .x_type = x_type, .n_out = n_out, .N = N, .ldx = ldx };
    int first = 0;
    DR_ASSERT(c->tmem && n_out <= MM_OUTS);
    for (int i = 0; i < n_out; i++) {
        cut(&j.b[i], out[i].w->rows, out[i].w->K, first, d->n_threads);
        first += j.b[i].nm * j.b[i].nn;
    }
    pool_run(c->pool, first, dw_block, &j);
}

/* ---- norm, embedding ---- */

typedef struct {
    cpu *c;
    float *dx, *dw;
    const float *dy, *x, *w;
    int N, C;
    float eps;
} norm_job;

static void norm_rows(void *arg, int i, int thread)
{
    const norm_job *j = arg;
    float *part = j->dw ? j->c->norm_part + (size_t)i * (size_t)j->C : NULL;
    int end = (i + 1) * GRAD_ROWS < j->N ? (i + 1) * GRAD_ROWS : j->N;
    (void)thread;
    if (part) memset(part, 0, (size_t)j->C * sizeof *part);
    for (int n = i * GRAD_ROWS; n < end; n++) {
        size_t row = (size_t)n * (size_t)j->C;
        j->c->k.rmsnorm_grad(j->dx + row, part, j->dy + row, j->x + row, j->w, j->C, j->eps);
    }
}

static void cpu_rmsnorm_backward(dev *d, float *dx, float *dw, const float *dy, const float *x,
                                 const float *w, int N, int C, float eps)
{
    cpu *c = (cpu *)d;
    norm_job j = { c, dx, dw, dy, x, w, N, C, eps };
    int n = (N + GRAD_ROWS - 1) / GRAD_ROWS;
    DR_ASSERT(N <= c->t.N && C <= c->t.C);
    cpu_run_chunks(c, n, (size_t)N * (size_t)C, norm_rows, &j);
    for (int i = 0; dw && i < n; i++) c->k.add(dw, c->norm_part + (size_t)i * (size_t)C, C);
}

typedef struct { const cpu *c; float *dw; const float *dx; const int32_t *tok; int N, C; } embed_job;

static void embed_cols(void *arg, int i, int thread)
{
    const embed_job *j = arg;
    size_t C = (size_t)j->C, at_ = (size_t)i * COLS;
    int n_cols = j->C - i * COLS < COLS ? j->C - i * COLS : COLS;
    (void)thread;
    for (int n = 0; n < j->N; n++)
        j->c->k.add(j->dw + (size_t)j->tok[n] * C + at_, j->dx + (size_t)n * C + at_, n_cols);
}

static void cpu_embed_backward(dev *d, float *dw, const float *dx, const int32_t *tok, int N, int C)
{
    embed_job j = { (cpu *)d, dw, dx, tok, N, C };
    cpu_run_chunks((cpu *)d, (C + COLS - 1) / COLS, (size_t)N * (size_t)C, embed_cols, &j);
}

/* ---- element by element ---- */

typedef struct {
    const kern *k;
    float *y, *y2;
    const float *a, *b, *c;
    uint16_t *h;
    const uint16_t *ch;
    float s;
    int64_t n;
} elem_job;

static int64_t part_of(const elem_job *j, int i, int64_t *start)
{
    *start = (int64_t)i * ELEMS;
    return j->n - *start < ELEMS ? j->n - *start : ELEMS;
}

#define ELEMENTWISE(name, call) \
static void name##_part(void *arg, int i, int thread) \
{ \
    const elem_job *j = arg; \
    int64_t o, n = part_of(j, i, &o); \
    (void)thread; \
    call; \
}
ELEMENTWISE(swiglu, j->k->swiglu_grad(j->y + o, j->y2 + o, j->a + o, j->b + o, j->c + o, n))
ELEMENTWISE(narrow, j->k->to_bf16(j->h + o, j->a + o, n))
ELEMENTWISE(widen, j->k->from_bf16(j->y + o, j->ch + o, n))
ELEMENTWISE(fill, for (int64_t k = 0; k < n; k++) j->y[o + k] = j->s)
ELEMENTWISE(scale, j->k->scale(j->y + o, j->s, n))
ELEMENTWISE(copy, memcpy((char *)j->y + o, (const char *)j->a + o, (size_t)n))

static void elementwise(dev *d, elem_job j, void (*fn)(void *, int, int))
{
    j.k = &((cpu *)d)->k;
    cpu_run_chunks((cpu *)d, (int)((j.n + ELEMS - 1) / ELEMS), (size_t)j.n, fn, &j);
}

static void cpu_swiglu_backward(dev *d, float *dg, float *du, const float *dy, const float *g,
                                const float *u, int64_t n)
{
    elementwise(d, (elem_job){ .y = dg, .y2 = du, .a = dy, .b = g, .c = u, .n = n }, swiglu_part);
}

static void cpu_to_bf16(dev *d, uint16_t *y, const float *x, int64_t n)
{
    elementwise(d, (elem_job){ .h = y, .a = x, .n = n }, narrow_part);
}

static void cpu_from_bf16(dev *d, float *y, const uint16_t *x, int64_t n)
{
    elementwise(d, (elem_job){ .y = y, .ch = x, .n = n }, widen_part);
}

static void cpu_fill(dev *d, float *y, float v, int64_t n)
{
    elementwise(d, (elem_job){ .y = y, .s = v, .n = n }, fill_part);
}

static void cpu_scale(dev *d, float *y, float s, int64_t n)
{
    elementwise(d, (elem_job){ .y = y, .s = s, .n = n }, scale_part);
}

static void cpu_copy(dev *d, void *y, const void *x, size_t n)
{
    elementwise(d, (elem_job){ .y = y, .a = x, .n = (int64_t)n }, copy_part);
}

void cpu_grad_open(cpu *c)
{
    dev *d = &c->d;
    d->reserve_train = cpu_reserve_train, d->reserve_train_bytes = cpu_reserve_train_bytes;
    d->matmul_dx = cpu_matmul_dx, d->matmul_dw = cpu_matmul_dw;
    d->rmsnorm_backward = cpu_rmsnorm_backward;
    d->swiglu_backward = cpu_swiglu_backward;
    d->rope_backward = cpu_rope_backward;
    d->attn_backward = cpu_attn_backward;
    d->embed_backward = cpu_embed_backward;
    d->log_probs = cpu_log_probs;
    d->loss_head = cpu_loss_head;
    d->to_bf16 = cpu_to_bf16, d->from_bf16 = cpu_from_bf16;
    d->fill = cpu_fill, d->scale = cpu_scale, d->copy = cpu_copy;
}
