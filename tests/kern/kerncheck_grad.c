/* kerncheck_grad.c - training's kernels, at every level this CPU has, bit against bit with
 * kern_ref_grad.c.
 *
 *     kerncheck_grad [NAME...]      check        kerncheck_grad --bench [NAME...]     check, then time */
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/half.h"
#include "base/mem.h"
#include "kern/kern.h"
#include "kern/probe.h"
#include "t.h"
#include "levels.h"

enum { PAD = 64 };
static bool flushes;                    /* bf16 products take subnormals for 0 */
static probe tops;

static const int sizes[] = { 1, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 576, 1000, 4096 };
#define EACH_SIZE(n) for (int z_ = 0, n; \
    z_ < (int)(sizeof sizes / sizeof *sizes) && (n = sizes[z_], 1); z_++)

static float *randoms(size_t n, float scale, int odd)
{
    float *p = get((n + 2 * PAD) * sizeof *p);
    for (size_t i = 0; i < n + 2 * PAD; i++) p[i] = odd ? wild(odd) : t_rand() * scale;
    return p;
}

/* Best run of `call`; prints the rate of `work` a call, and its share of what the probe reaches. */
#define BENCH(what, shape, work, unit, peak, call) do { if (bench) { \
    double best = 1e9, t0_ = seconds(), top_ = peak; \
    do { \
        double a_ = seconds(); \
        int n_ = 0; \
        do { call; n_++; } while (seconds() - a_ < 0.0005); \
        double t_ = (seconds() - a_) / n_; \
        if (t_ < best) best = t_; \
    } while (seconds() - t0_ < 0.3); \
    double top2_ = peak; \
    if (top2_ > top_) top_ = top2_; \
    printf("%s\t%s\t%s\t%.2f us\t%.1f %s", what, level, shape, best * 1e6, \
           (work) / best * 1e-9, unit); \
    if (top_ > 0) printf("\t%.0f %%", 100 * (work) / best / top_); \
    printf("\n"); } } while (0)

/* ---- products ---- */

static float flush(float x) { return fabsf(x) < 0x1p-126f ? copysignf(0, x) : x; }

/* Element (k,i) as a bf16 product of this level sees it. */
static float element(const grad_op *o, int k, int i)
{
    size_t at = o->turned ? (size_t)i * o->ld + (size_t)k : (size_t)k * o->ld + (size_t)i;
    if (o->type == DT_BF16) return flush(bf16_to_f32(((const uint16_t *)o->p)[at]));
    return flush(bf16_to_f32(f32_to_bf16(flush(((const float *)o->p)[at]))));
}

/* The bf16 product of levels with VDPBF16PS: as ref's, subnormals 0, in and out of each step. */
static void flushed_bf16(float *c, size_t ldc, int M, int N, int K, const grad_op *a, const grad_op *b,
                         bool add)
{
    for (int k0 = 0; k0 < K; k0 += 2 * GRAD_K)
        for (int m = 0; m < M; m++)
            for (int n = 0; n < N; n++) {
                float s = 0, *to = c + (size_t)m * ldc + (size_t)n;
                for (int k = k0; k < K && k < k0 + 2 * GRAD_K; k += 2)
                    for (int o = 1; o >= 0; o--)
                        if (k + o < K)
                            s = flush(fmaf(element(a, k + o, m), element(b, k + o, n), s));
                *to = add || k0 ? *to + s : s;
            }
}

/* `rows` rows of `cols` values that end where the memory does, rows ld apart, as f32 or bf16. */
typedef struct { void *mem; grad_op op; } operand;
static operand operand_new(int type, int rows, int cols, bool turned, int odd)
{
    size_t ld = (size_t)cols + 5, n = (size_t)(rows - 1) * ld + (size_t)cols;
    char *p = get(n * 4 + 64);
    for (size_t i = 0; i < n; i++) {
        float f = odd ? wild(odd) : t_rand();
        uint16_t h = f32_to_bf16(f);
        if (type == DT_BF16) memcpy(p + 2 * i, &h, 2);
        else memcpy(p + 4 * i, &f, 4);
    }
    return (operand){ p, { p, ld, type, turned } };
}

static const struct { int M, N, K; } shapes[] = {
    { 1, 1, 1 }, { 1, 17, 3 }, { 5, 33, 16 }, { 12, 32, 31 }, { 13, 31, 64 }, { 24, 96, 255 },
    { 7, 40, 257 }, { 192, 384, 40 }, { 191, 383, 33 }, { 25, 64, 600 }, { 30, 16, 1030 },
};

static void check_grad(bool bf16)
{
    void *space = get(GRAD_SCRATCH);
    for (size_t z = 0; z < sizeof shapes / sizeof *shapes; z++)
        for (int way = 0; way < 16; way++) {
            int M = shapes[z].M, N = shapes[z].N, K = shapes[z].K, odd = way % 4 == 3 ? 200 : 0;
            bool turned = way & 1, add = way & 2;
            int ta = way & 4 ? DT_BF16 : DT_F32, tb = way & 8 ? DT_BF16 : DT_F32;
            operand a = operand_new(ta, turned ? M : K, turned ? K : M, turned, odd);
            operand b = operand_new(tb, K, N, false, odd);
            size_t ldc = (size_t)N + 3, n = (size_t)M * ldc;
            float *c = randoms(n, 1, 0), *want = get((n + 2 * PAD) * 4);
            memcpy(want, c, (n + 2 * PAD) * 4);
            if (bf16 && flushes) flushed_bf16(want + PAD, ldc, M, N, K, &a.op, &b.op, add);
            else (bf16 ? ref.grad_bf16 : ref.grad_f32)(want + PAD, ldc, M, N, K, &a.op, &b.op, add, NULL);
            (bf16 ? new.grad_bf16 : new.grad_f32)(c + PAD, ldc, M, N, K, &a.op, &b.op, add, space);
            t_ok(same_n(c, want, n + 2 * PAD), __FILE__, __LINE__, "%d x %d over %d, way %d: other bits",
                 M, N, K, way);
            mem_free(a.mem), mem_free(b.mem), mem_free(c), mem_free(want);
        }
    if (bench)
        for (int turned = 0; turned < 2; turned++)
            for (int type = 0; type < (bf16 ? 2 : 1); type++) {
                enum { M = 192, N = 288, K = 2048 };
                operand a = operand_new(DT_F32, turned ? M : K, turned ? K : M, turned, 0);
                operand b = operand_new(type ? DT_BF16 : DT_F32, K, N, false, 0);
                float *c = randoms((size_t)M * N, 1, 0);
                char shape[64];
                snprintf(shape, sizeof shape, "%s, %s b, %d x %d over %d", turned ? "dx" : "dw",
                         type ? "bf16" : "f32", M, N, K);
                BENCH(bf16 ? "grad_bf16" : "grad_f32", shape, 2.0 * M * N * K, "Gop/s",
                      (bf16 && tops.bf16 ? tops.bf16 : tops.f32)(0.02),
                      (bf16 ? new.grad_bf16 : new.grad_f32)(c, N, M, N, K, &a.op, &b.op, true, space));
                mem_free(a.mem), mem_free(b.mem), mem_free(c);
            }
    mem_free(space);
}

static void check_grad_f32(void) { check_grad(false); }
static void check_grad_bf16(void) { check_grad(true); }

/* ---- attention ---- */

enum { T64 = ATTN_TILE, MAX_HS = 160 };
typedef struct { float dq[T64 * MAX_HS + PAD], dk[T64 * MAX_HS + PAD], dv[T64 * MAX_HS + PAD]; } three;

static void check_attn_grad(void)
{
    static const int dims[] = { 16, 24, 64, 80, 128, 160 }, rows[] = { 1, 2, 5, 6, 7, 13, 63, 64 };
    three *x = get(sizeof *x), *y = get(sizeof *y);
    float *s = get((2 * T64 * T64 + PAD) * 4);
    for (size_t z = 0; z < sizeof dims / sizeof *dims; z++)
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
            for (int round = 0; round < 3; round++) {
                int hs = dims[z], R = rows[i], lo[T64], hi[T64];
                size_t n = (size_t)T64 * (size_t)hs;
                float *q = randoms(n, 1, 0), *dy = randoms(n, 1, 0), *k = randoms(n, 1, 0);
                float *v = randoms(n, 1, 0), *st = randoms(3 * T64, 1, 0);
                float *kt = get(n * 4), *vt = get(n * 4);
                if (round == 2) q[3] = NAN, dy[hs] = INFINITY;
                for (int j = 0; j < T64; j++)
                    for (int d = 0; d < hs; d++)
                        kt[d * T64 + j] = k[j * hs + d], vt[d * T64 + j] = v[j * hs + d];
                for (int r = 0; r < R; r++) {
                    lo[r] = round == 1 ? r * 3 % 40 : 0, hi[r] = round == 1 ? r * 7 % 65 : 64;
                    st[r] += 2;                     /* larger than scores, mostly */
                }
                for (int j = 0; j < T64 * MAX_HS + PAD; j++)
                    x->dq[j] = y->dq[j] = x->dk[j] = y->dk[j] = x->dv[j] = y->dv[j] = t_rand();
                attn_grad a = { q, dy, st, st + T64, st + 2 * T64, lo, hi, k, kt, vt, x->dq, x->dk,
                                x->dv, s };
                for (int j = 0; j < PAD; j++) s[2 * T64 * T64 + j] = 7;
                new.attn_grad(&a, R, hs);
                a.dq = y->dq, a.dk = y->dk, a.dv = y->dv;
                ref.attn_grad(&a, R, hs);
                t_ok(same_n(x->dq, y->dq, sizeof *x / 4), __FILE__, __LINE__,
                     "R %d hs %d round %d: other bits", R, hs, round);
                for (int j = 0; j < PAD; j++) CHECK(s[2 * T64 * T64 + j] == 7);
                char shape[32];
                snprintf(shape, sizeof shape, "hs %d R %d", hs, R);
                if (round == 0 && R == 64 && (hs == 64 || hs == 128))
                    BENCH("attn_grad", shape, 10.0 * R * hs * T64, "Gop/s", tops.f32(0.02),
                          new.attn_grad(&a, R, hs));
                mem_free(q), mem_free(dy), mem_free(k), mem_free(v), mem_free(st);
                mem_free(kt), mem_free(vt);
            }
    mem_free(x), mem_free(y), mem_free(s);
}

/* ---- rows and elements ---- */

static void check_rmsnorm_grad(void)
{
    EACH_SIZE(C)
        for (int round = 0; round < 4; round++) {
            size_t n = (size_t)C, bytes = (n + 2 * PAD) * 4;
            float *x = randoms(n, 3, 0), *dy = randoms(n, 1, round == 3 ? 50 : 0), *w = randoms(n, 1, 0);
            float *dx = randoms(n, 1, 0), *dw = randoms(n, 1, 0), *rx = get(bytes), *rw = get(bytes);
            memcpy(rx, dx, bytes), memcpy(rw, dw, bytes);
            ref.rmsnorm_grad(rx + PAD, round == 2 ? NULL : rw + PAD, dy, x, w, C, 1e-5f);
            new.rmsnorm_grad(dx + PAD, round == 2 ? NULL : dw + PAD, dy, x, w, C, 1e-5f);
            t_ok(same_n(dx, rx, n + 2 * PAD) && same_n(dw, rw, n + 2 * PAD), __FILE__, __LINE__,
                 "C %d: other bits", C);
            char shape[32];
            snprintf(shape, sizeof shape, "C %d", C);
            if (round == 0 && C >= 576)
                BENCH("rmsnorm_grad", shape, 28.0 * C, "GB/s", 0,
                      new.rmsnorm_grad(dx, dw, dy, x, w, C, 1e-5f));
            mem_free(x), mem_free(dy), mem_free(w), mem_free(dx), mem_free(dw), mem_free(rx), mem_free(rw);
        }
}

/* Outputs of their own, or over the inputs. */
static void check_swiglu_grad(void)
{
    EACH_SIZE(C)
        for (int round = 0; round < 4; round++) {
            size_t n = (size_t)C, bytes = (n + 2 * PAD) * 4;
            float *dy = randoms(n, 1, 0), *g = randoms(n, 30, round == 3 ? 20 : 0), *u = randoms(n, 1, 0);
            float *dg = randoms(n, 1, 0), *du = randoms(n, 1, 0), *rg = get(bytes), *ru = get(bytes);
            memcpy(rg, round == 1 ? g : dg, bytes), memcpy(ru, round == 1 ? u : du, bytes);
            ref.swiglu_grad(rg + PAD, ru + PAD, dy + PAD, g + PAD, u + PAD, C);
            if (round == 1) {
                new.swiglu_grad(g + PAD, u + PAD, dy + PAD, g + PAD, u + PAD, C);
                CHECK(same_n(g, rg, n + 2 * PAD) && same_n(u, ru, n + 2 * PAD));
            } else {
                new.swiglu_grad(dg + PAD, du + PAD, dy + PAD, g + PAD, u + PAD, C);
                CHECK(same_n(dg, rg, n + 2 * PAD) && same_n(du, ru, n + 2 * PAD));
            }
            if (round == 0 && C == 4096)
                BENCH("swiglu_grad", "4096", 20.0 * C, "GB/s", 0, new.swiglu_grad(dg, du, dy, g, u, C));
            mem_free(dy), mem_free(g), mem_free(u), mem_free(dg), mem_free(du), mem_free(rg), mem_free(ru);
        }
}

static void check_exp_sum(void)
{
    EACH_SIZE(C)
        for (int round = 0; round < 5; round++) {
            size_t n = (size_t)C, bytes = (n + 2 * PAD) * 4;
            float *x = randoms(n, 20, round == 4 ? 100 : 0), *y = randoms(n, 1, 0), *want = get(bytes);
            float top, t;
            if (round == 2 && C > 1) x[PAD + C / 2] = -INFINITY;
            if (round == 3) x[PAD + C - 1] = 300;
            memcpy(want, y, bytes);
            double a = ref.exp_sum(want + PAD, x + PAD, C, &t);
            double b = new.exp_sum(round == 1 ? NULL : y + PAD, x + PAD, C, &top);
            CHECK((top == t || (isnan(top) && isnan(t))) && (!memcmp(&a, &b, 8) || (isnan(a) && isnan(b))));
            CHECK(round == 1 || same_n(y, want, n + 2 * PAD));
            if (round < 4) {
                double sum = 0;
                for (int i = 0; i < C; i++) sum += exp((double)x[PAD + i] - top);
                CHECK_NEAR(a, sum, 1e-7 * sum);
            }
            new.exp_sum(x + PAD, x + PAD, C, &top);
            CHECK(round == 1 || same_n(x + PAD, want + PAD, n));
            if (round == 0 && C == 4096)
                BENCH("exp_sum", "4096", 4.0 * C, "GB/s", 0, new.exp_sum(NULL, x, C, &top));
            mem_free(x), mem_free(y), mem_free(want);
        }
}

static void check_dot(void)
{
    EACH_SIZE(C) {
        float *a = randoms((size_t)C, 1, 0), *b = randoms((size_t)C, 1, 0);
        float x = new.dot(a, b, C), y = ref.dot(a, b, C);
        double sum = 0;
        for (int i = 0; i < C; i++) sum += (double)a[i] * b[i];
        CHECK(x == y);
        CHECK_NEAR(y, sum, 1e-6 * C);
        mem_free(a), mem_free(b);
    }
}

static void check_transpose(void)
{
    for (int rows = 1; rows < 80; rows += rows < 20 ? 1 : 11)
        for (int cols = 1; cols < 140; cols += cols < 20 ? 1 : 11) {
            size_t n = (size_t)(rows * cols);
            float *x = randoms(n, 1, 0), *y = randoms(n, 1, 0), *want = get((n + 2 * PAD) * 4);
            memcpy(want, y, (n + 2 * PAD) * 4);
            ref.transpose(want + PAD, x, rows, cols);
            new.transpose(y + PAD, x, rows, cols);
            CHECK(same_n(y, want, n + 2 * PAD) && want[PAD + n - 1] == x[n - 1]);
            CHECK(want[PAD + (size_t)rows / 2] == x[(size_t)(rows / 2 * cols)]);
            mem_free(x), mem_free(y), mem_free(want);
        }
}

static void check_scale(void)
{
    EACH_SIZE(C) {
        size_t n = (size_t)C, bytes = (n + 2 * PAD) * 4;
        float *x = randoms(n, 20, 100), *want = get(bytes);
        memcpy(want, x, bytes);
        ref.scale(want + PAD, 0.7f, C);
        new.scale(x + PAD, 0.7f, C);
        CHECK(same_n(x, want, n + 2 * PAD));
        mem_free(x), mem_free(want);
    }
}

static void check_from_bf16(void)
{
    float *y = get((65536 + PAD) * 4), *want = get(65536 * 4);
    uint16_t *h = get(65536 * 2);
    for (int i = 0; i < 65536; i++) h[i] = (uint16_t)i;
    ref.from_bf16(want, h, 65536);
    for (int n = 65536; n > 65500; n--) {
        for (int i = 0; i < PAD; i++) y[n + i] = 7;
        new.from_bf16(y, h, n);
        CHECK(same_n(y, want, (size_t)n));
        for (int i = 0; i < PAD && n + i < 65536 + PAD; i++) CHECK(y[n + i] == 7);
    }
    mem_free(y), mem_free(want), mem_free(h);
}

static const level_check checks[] = {
    { "grad_f32",     offsetof(kern, grad_f32),     check_grad_f32 },
    { "grad_bf16",    offsetof(kern, grad_bf16),    check_grad_bf16 },
    { "attn_grad",    offsetof(kern, attn_grad),    check_attn_grad },
    { "rmsnorm_grad", offsetof(kern, rmsnorm_grad), check_rmsnorm_grad },
    { "swiglu_grad",  offsetof(kern, swiglu_grad),  check_swiglu_grad },
    { "exp_sum",      offsetof(kern, exp_sum),      check_exp_sum },
    { "dot",          offsetof(kern, dot),          check_dot },
    { "transpose",    offsetof(kern, transpose),    check_transpose },
    { "scale",        offsetof(kern, scale),        check_scale },
    { "from_bf16",    offsetof(kern, from_bf16),    check_from_bf16 },
};

static void begin(const kern_level *l)
{
    flushes = l->need & CPU_AVX512;
    probe_select(&tops, level);
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "--bench")) bench = true, argc--, argv++;
    t_begin(argc, argv);
    kern_select(&ref, "ref");
    new = ref;
    each_level(checks, (int)(sizeof checks / sizeof *checks), begin);
    return t_end();
}
