/* bench.h - gradcheck --bench: each operation of training at the sizes of real models, in processor
 * time of all threads (the machine may be shared), beside the peak of one core. bench/train_ops.py
 * reads the lines: shape, type, operation, milliseconds, Gop/s, share of the peak. */
#ifndef TESTS_GRAD_BENCH_H
#define TESTS_GRAD_BENCH_H
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "base/half.h"
#include "base/mem.h"
#include "dev/dev.h"
#include "kern/probe.h"
#include "t.h"

enum { BENCH_N = 2048, BENCH_DOC = 512, BENCH_SECONDS = 1 };
typedef struct { const char *name; int C, F, V, nh, nkv, hs; } bench_shape;
static const bench_shape bench_shapes[] = {
    { "135M", 576, 1536, 49152, 9, 3, 64 },
    { "12x768", 768, 2048, 50304, 12, 12, 64 },
};

typedef struct {
    dev *d;
    const bench_shape *s;
    int type;                       /* DT_F32, DT_BF16 */
    float *x, *y, *z, *dw, *stat, *q, *k, *v, *cs, *norm;
    void *w;
    int32_t tok[BENCH_N];
    int rows, K;                    /* of the product at hand */
    kv_layer kv;
    seq_run run[BENCH_N / BENCH_DOC];
    int32_t page[BENCH_N / KV_PAGE];
} bench_state;

static wmat bench_w(const bench_state *b, int rows, int K)
{
    size_t e = b->type == DT_BF16 ? 2 : 4;
    return (wmat){ .type = b->type, .rows = rows, .K = K, .data = b->w, .row_bytes = (size_t)K * e };
}

static void b_forward(bench_state *b)
{
    wmat w = bench_w(b, b->rows, b->K);
    b->d->matmul(b->d, &(mm_out){ b->y, (size_t)b->rows, &w }, 1, b->x, (size_t)b->K, BENCH_N);
}
static void b_dx(bench_state *b)
{
    wmat w = bench_w(b, b->rows, b->K);
    b->d->matmul_dx(b->d, b->y, (size_t)b->K, &(mm_dx){ b->x, (size_t)b->rows, &w }, 1, BENCH_N, false);
}
static void b_dw(bench_state *b)
{
    wmat w = bench_w(b, b->rows, b->K);
    b->d->matmul_dw(b->d, &(mm_dw){ b->dw, NULL, b->x, (size_t)b->rows, &w }, 1, b->y, DT_F32,
                    (size_t)b->K, BENCH_N);
}
static void b_norm(bench_state *b)
{
    b->d->rmsnorm(b->d, b->y, b->x, b->norm, BENCH_N, b->s->C, 1e-5f);
}
static void b_norm_back(bench_state *b)
{
    b->d->rmsnorm_backward(b->d, b->y, b->dw, b->z, b->x, b->norm, BENCH_N, b->s->C, 1e-5f);
}
static void b_swiglu(bench_state *b)
{
    b->d->swiglu(b->d, b->z, b->x, b->y, (int64_t)BENCH_N * b->s->F);
}
static void b_swiglu_back(bench_state *b)
{
    float *du = b->y + (size_t)BENCH_N * (size_t)b->s->F;
    b->d->swiglu_backward(b->d, b->y, du, b->z, b->x, b->q, (int64_t)BENCH_N * b->s->F);
}
static void b_attn(bench_state *b)
{
    b->d->attn(b->d, b->y, b->stat, b->q, b->s->nh, &b->kv, 0, b->run, BENCH_N / BENCH_DOC);
}
static void b_attn_back(bench_state *b)
{
    b->d->attn_backward(b->d, b->x, b->k, b->v, b->z, b->y, b->q, b->stat, b->s->nh, &b->kv, 0, b->run,
                        BENCH_N / BENCH_DOC);
}
static void b_rope_back(bench_state *b)
{
    b->d->rope_backward(b->d, b->x, b->k, b->s->nh, b->s->nkv, b->s->hs, b->cs, true, 0.125f, b->run,
                        BENCH_N / BENCH_DOC);
}
static void b_embed_back(bench_state *b)
{
    b->d->embed_backward(b->d, b->dw, b->x, b->tok, BENCH_N, b->s->C);
}
static void b_head(bench_state *b)
{
    wmat w = bench_w(b, b->s->V, b->s->C);
    b->d->loss_head(b->d, &(head_loss){ &w, b->x, b->tok, NULL, BENCH_N, NULL, b->y, b->dw, 0, 0 });
}

static double bench_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Median of the calls that fit into BENCH_SECONDS. */
static void bench_op(const char *op, bench_state *b, void (*fn)(bench_state *), double work,
                     double peak)
{
    enum { MOST = 99 };
    double t[MOST], sum = 0;
    int n = 0;
    fn(b);
    while (n < MOST && (n < 3 || sum < BENCH_SECONDS)) {
        double a = bench_clock();
        fn(b);
        sum += t[n] = bench_clock() - a;
        for (int i = n++; i > 0 && t[i] < t[i - 1]; i--) {
            double swap = t[i];
            t[i] = t[i - 1], t[i - 1] = swap;
        }
    }
    printf("%s\t%s\t%s\t%.3f ms", b->s->name, b->type == DT_BF16 ? "bf16" : "f32", op, t[n / 2] * 1e3);
    if (work > 0) printf("\t%.1f Gop/s\t%.0f %%", work / t[n / 2] * 1e-9, 100 * work / t[n / 2] / peak);
    printf("\n");
    fflush(stdout);
}

static void bench_all(dev *d, const bench_shape *s, int type)
{
    enum { N = BENCH_N };
    bench_state *b = mem_zalloc(1, sizeof *b);
    probe p;
    probe_select(&p, d->level);
    double peak = (type == DT_BF16 && p.bf16 ? p.bf16 : p.f32)(0.2), f32 = p.f32(0.2);
    size_t big = (size_t)N * (size_t)s->F * 2, W = (size_t)s->V * (size_t)s->C;
    *b = (bench_state){ .d = d, .s = s, .type = type };
    train_size size = { N, s->C, s->V, s->nh, s->hs };
    DR_ASSERT(d->reserve(d, N, s->F, s->nh, s->hs, N, NULL) == DR_OK);
    DR_ASSERT(d->reserve_train(d, &size, NULL) == DR_OK);
    float **all[] = { &b->x, &b->y, &b->z, &b->q, &b->k, &b->v };
    for (int i = 0; i < 6; i++) {
        *all[i] = d->alloc(d, big * 4);
        for (size_t k = 0; k < big; k++) (*all[i])[k] = t_rand();
    }
    b->dw = d->alloc(d, W * 4), b->w = d->alloc(d, W * 4), b->stat = d->alloc(d, (size_t)(N * s->nh) * 8);
    b->cs = d->alloc(d, (size_t)(N * s->hs) * 4), b->norm = d->alloc(d, (size_t)s->C * 4);
    for (size_t i = 0; i < W; i++) {
        float f = t_rand() * 0.05f;
        uint16_t h = f32_to_bf16(f);
        if (type == DT_BF16) memcpy((char *)b->w + 2 * i, &h, 2);
        else memcpy((char *)b->w + 4 * i, &f, 4);
    }
    for (int i = 0; i < N * s->hs; i++) b->cs[i] = t_rand();
    for (int i = 0; i < s->C; i++) b->norm[i] = 1;
    for (int i = 0; i < N; i++) b->tok[i] = i * 97 % s->V;
    for (int i = 0; i < N / KV_PAGE; i++) b->page[i] = i;
    for (int i = 0; i < N / BENCH_DOC; i++)
        b->run[i] = (seq_run){ i * BENCH_DOC, BENCH_DOC, 0, b->page + i * (BENCH_DOC / KV_PAGE) };
    kv_type kt = type == DT_BF16 ? KV_BF16 : KV_F32;
    size_t pb = kv_page_bytes(kt, s->nkv, s->hs);
    b->kv = (kv_layer){ kt, s->nkv, s->hs, d->alloc(d, pb * N / KV_PAGE), pb };
    d->rope_store(d, b->q, b->k, b->v, s->nh, &b->kv, b->cs, true, 0.125f, b->run, N / BENCH_DOC);

    struct { const char *name; int rows, K; } mats[] = {
        { "wq", s->nh * s->hs, s->C }, { "w1", s->F, s->C }, { "w2", s->C, s->F } };
    for (int i = 0; i < 3; i++) {
        static const struct { const char *name; void (*fn)(bench_state *); } ways[] = {
            { "forward", b_forward }, { "dx", b_dx }, { "dw", b_dw } };
        b->rows = mats[i].rows, b->K = mats[i].K;
        for (int k = 0; k < 3; k++) {
            char name[32];
            snprintf(name, sizeof name, "%s %s", mats[i].name, ways[k].name);
            bench_op(name, b, ways[k].fn, 2.0 * N * mats[i].rows * mats[i].K, peak);
        }
    }
    double pairs = (double)N * BENCH_DOC / 2 * s->nh * s->hs;
    bench_op("attention forward", b, b_attn, 4 * pairs, f32);
    bench_op("attention backward", b, b_attn_back, 10 * pairs, f32);
    bench_op("head and loss", b, b_head, 6.0 * N * (double)W, peak);
    bench_op("norm forward", b, b_norm, 0, 1);
    bench_op("norm backward", b, b_norm_back, 0, 1);
    bench_op("swiglu forward", b, b_swiglu, 0, 1);
    bench_op("swiglu backward", b, b_swiglu_back, 0, 1);
    bench_op("rope backward", b, b_rope_back, 0, 1);
    bench_op("embedding backward", b, b_embed_back, 0, 1);
    for (int i = 0; i < 6; i++) d->free(d, *all[i], big * 4);
    d->free(d, b->dw, W * 4), d->free(d, b->w, W * 4), d->free(d, b->stat, (size_t)(N * s->nh) * 8);
    d->free(d, b->cs, (size_t)(N * s->hs) * 4), d->free(d, b->norm, (size_t)s->C * 4);
    d->free(d, b->kv.base, pb * N / KV_PAGE);
    mem_free(b);
}
#endif
