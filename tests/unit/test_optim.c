/* test_optim.c - the optimisers against torch.optim in double precision (tools/golden/optim.py), and
 * what must hold whatever the arithmetic: cuts, threads and checkpoints change no bit. */
#define _GNU_SOURCE
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/half.h"
#include "base/mem.h"
#include "base/os.h"
#include "train/optim.h"
#include "train/zero.h"

static dev *open_dev(int threads)
{
    dr_err e = {0};
    dev *d = dev_open(&(dev_opt){ .n_threads = threads }, &e);
    if (!d) fail_msg("%s", e.msg);
    return d;
}

/* Numbers of 24 bits in [-1,1), the generator of tools/golden/optim.py. */
static void stream(float *y, int64_t n, uint64_t seed)
{
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        y[i] = (float)((int64_t)(seed >> 40) - (1 << 23)) * 0x1p-23f;
    }
}

/* ---- torch ---- */

enum { N = 12 * 20 + 20 * 8 + 16 * 16 + 20, END = 692 };
static const optim_tensor small[] = {
    { 0, 12, 20, ROLE_MATRIX }, { 256, 20, 8, ROLE_MATRIX }, { 416, 16, 16, ROLE_MATRIX },
    { 672, 1, 20, ROLE_VECTOR },
};

/* Between the dense arrays of the script and the flat ones, which have gaps. */
static void spread(float *flat, const float *dense)
{
    for (int i = 0; i < 4; i++) {
        memcpy(flat + small[i].at, dense, sizeof(float) * (size_t)(small[i].rows * small[i].cols));
        dense += small[i].rows * small[i].cols;
    }
}

static double rel_l2(const float *flat, const double *want)
{
    double d = 0, s = 0;
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < small[i].rows * small[i].cols; k++, want++) {
            double x = flat[small[i].at + k] - *want;
            d += x * x, s += *want * *want;
        }
    return sqrt(d / s);
}

typedef struct { const char *name; int steps[2]; double lr; optim_opt o; } golden;

static void torch_optim(void **state)
{
    (void)state;
    optim_opt a, b, s0, s1, s2, m0, m1, m2;
    optim_opt_init(&a, OPTIM_ADAMW);
    b = a;
    b.beta1 = 0.8, b.beta2 = 0.999, b.eps = 1e-5, b.decay = 0.01, b.decays[ROLE_VECTOR] = true;
    optim_opt_init(&s0, OPTIM_SGD);
    s1 = s2 = s0;
    s1.momentum = 0.9, s1.dampening = 0.1, s1.decay = 0.01;
    s2.momentum = 0.9, s2.nesterov = true, s2.decay = 0.01, s2.decays[ROLE_VECTOR] = true;
    optim_opt_init(&m0, OPTIM_MUON);
    m0.rest_lr = 0.05, m0.adjust = MUON_ORIGINAL;
    m1 = m2 = m0;
    m1.rest_lr = 0.5, m1.adjust = MUON_MATCH_ADAMW, m1.momentum = 0.9;
    m2.nesterov = false, m2.decay = 0;
    const golden row[] = {
        { "adamw", { 10, 50 }, 1e-2, a }, { "adamw-slow", { 10, 50 }, 1e-3, b },
        { "sgd", { 10 }, 0.05, s0 }, { "sgd-momentum", { 10 }, 0.05, s1 },
        { "sgd-nesterov", { 10 }, 0.05, s2 }, { "muon-original", { 10 }, 0.02, m0 },
        { "muon-adamw", { 10 }, 0.002, m1 }, { "muon-heavy", { 10 }, 0.02, m2 },
    };
    dr_err e = {0};
    os_file f;
    if (os_map(&f, "tests/golden/data/optim.bin", &e) < 0) fail_msg("%s", e.msg);
    const double *at = (const double *)(const void *)f.p;
    dev *d = open_dev(2);
    float dense[N], w[END], g[END] = { 0 };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        optim *o = optim_new(&row[i].o, small, 4, 0, END, d, &e);
        if (!o) fail_msg("%s", e.msg);
        memset(w, 0, sizeof w);
        stream(dense, N, 1);
        spread(w, dense);
        for (int k = 0, s = 1; k < 2 && row[i].steps[k]; k++) {
            for (; s <= row[i].steps[k]; s++) {
                stream(dense, N, 1000 + (uint64_t)s);
                spread(g, dense);
                optim_step(o, w, NULL, g, 0.37f, row[i].lr, s);
            }
            double torch = *at, mine = rel_l2(w, at + 1);
            at += 1 + N;
            if (mine > 2 * torch || mine > 1e-6)
                fail_msg("%s, step %d: %g from torch in double, torch in f32 is %g", row[i].name,
                         row[i].steps[k], mine, torch);
            if (getenv("V")) printf("%s, step %d: %.2e, torch in f32 %.2e\n", row[i].name,
                                    row[i].steps[k], mine, torch);
        }
        for (int k = 240; k < 256; k++) assert_true(w[k] == 0);      // between tensors
        optim_free(o);
    }
    assert_int_equal((const uint8_t *)at - f.p, f.n);
    os_unmap(&f);
    dev_close(d);
}

/* ---- cuts, threads, checkpoints ---- */

/* Sizes around STEP_CHUNK and STEP_BLOCK. */
static const optim_tensor big[] = {
    { 0, 100, 331, ROLE_EMBED }, { 33120, 64, 257, ROLE_MATRIX }, { 49568, 1, 33, ROLE_VECTOR },
    { 49632, 260, 70, ROLE_MATRIX }, { 67840, 70, 260, ROLE_MATRIX }, { 86048, 1, 7, ROLE_VECTOR },
};
enum { BIG = 86055, N_BIG = 6, STEPS = 3 };

typedef struct { float w[BIG]; uint16_t wb[BIG]; float state[4 * BIG]; } result;

/* STEPS steps in `ranks` ranges; the state of step 1 is carried to new optimisers of other ranges. */
static void run_big(result *out, const optim_opt *opt, int threads, int ranks, int ranks_after)
{
    dev *d = open_dev(threads);
    dr_err e = {0};
    float *g = mem_alloc(BIG * sizeof *g);
    char *saved = mem_zalloc(4, 4 * BIG * sizeof(float));
    memset(out, 0, sizeof *out);
    stream(out->w, BIG, 5);
    for (int k = 0; k < 2; k++) {
        int n = k ? ranks_after : ranks;
        int64_t cut[9];
        optim_cuts(opt, big, N_BIG, n, cut);
        assert_true(cut[0] == 0 && cut[n] == BIG);
        for (int r = 0; r < n; r++) {
            optim *o = optim_new(opt, big, N_BIG, cut[r], cut[r + 1], d, &e);
            if (!o) fail_msg("%s", e.msg);
            int64_t at = 0;
            for (int i = 0; i < optim_n_states(o); i++) {
                optim_state s = optim_state_get(o, i);
                size_t width = (size_t)s.width;
                if (k) memcpy(s.p, saved + (size_t)at + (size_t)s.at * width, (size_t)s.n * width);
                at += s.total * (int64_t)width;
            }
            for (int s = k ? 2 : 1; s <= (k ? STEPS : 1); s++) {
                stream(g, BIG, 100 + (uint64_t)s);
                optim_step(o, out->w + cut[r], out->wb + cut[r], g + cut[r], 0.5f, 0.01, s);
            }
            at = 0;
            for (int i = 0; i < optim_n_states(o); i++) {
                optim_state s = optim_state_get(o, i);
                size_t width = (size_t)s.width;
                memcpy(saved + (size_t)at + (size_t)s.at * width, s.p, (size_t)s.n * width);
                at += s.total * (int64_t)width;
            }
            optim_free(o);
        }
    }
    memcpy(out->state, saved, sizeof out->state);
    mem_free(saved);
    mem_free(g);
    dev_close(d);
}

static void same_bits(void **state)
{
    (void)state;
    result *a = mem_alloc(sizeof *a), *b = mem_alloc(sizeof *b);
    for (int rule = 0; rule < OPTIM_N_RULES; rule++) {
        optim_opt o;
        optim_opt_init(&o, (optim_rule)rule);
        if (rule == OPTIM_SGD) o.momentum = 0.9;
        if (rule == OPTIM_MUON) o.rest = OPTIM_ADAMW8;
        run_big(a, &o, 1, 1, 1);
        static const int how[][3] = { { 3, 1, 1 }, { 2, 2, 2 }, { 1, 3, 8 }, { 2, 5, 1 } };
        for (size_t i = 0; i < sizeof how / sizeof *how; i++) {
            run_big(b, &o, how[i][0], how[i][1], how[i][2]);
            if (memcmp(a->w, b->w, sizeof a->w) || memcmp(a->wb, b->wb, sizeof a->wb) ||
                memcmp(a->state, b->state, sizeof a->state))
                fail_msg("%s: %d threads, %d then %d ranges give other bits", optim_rule_name[rule],
                         how[i][0], how[i][1], how[i][2]);
        }
        for (int i = 0; i < 100 * 331; i++)
            assert_int_equal(a->wb[i], f32_to_bf16(a->w[i]));
    }
    mem_free(a);
    mem_free(b);
}

/* Cuts are even, and none goes through a matrix of Muon's. */
static void cuts(void **state)
{
    (void)state;
    static const optim_tensor t[] = { { 0, 1000, 1000, ROLE_EMBED }, { 1000000, 300, 1000, ROLE_MATRIX },
                                      { 1300000, 300, 1000, ROLE_MATRIX }, { 1600000, 1, 1000, ROLE_VECTOR } };
    optim_opt o;
    int64_t cut[9];
    optim_opt_init(&o, OPTIM_ADAMW);
    optim_cuts(&o, t, 4, 8, cut);
    for (int r = 0; r < 8; r++)
        assert_true(llabs(cut[r + 1] - cut[r] - 1601000 / 8) <= 2 * STEP_CHUNK);
    optim_opt_init(&o, OPTIM_MUON);
    optim_cuts(&o, t, 4, 8, cut);
    for (int r = 0; r < 8; r++) assert_true(cut[r] <= 1000000 || cut[r] == 1300000 || cut[r] >= 1600000);
    assert_true(cut[8] == 1601000);
}

/* ---- AdamW with states of eight bits ---- */

/* Least squares with noise: the loss after 200 steps, relative to AdamW's with f32 states. */
static double squares_loss(optim_rule rule, double beta2)
{
    enum { D = 700, BATCH = 16 };
    static float w[D], g[D], x[D];
    float truth[D], noise;
    const optim_tensor t = { 0, 7, D / 7, ROLE_MATRIX };
    optim_opt o;
    optim_opt_init(&o, rule);
    o.decay = 0, o.beta2 = beta2;
    dr_err e = {0};
    dev *d = open_dev(1);
    optim *p = optim_new(&o, &t, 1, 0, D, d, &e);
    assert_non_null(p);
    memset(w, 0, sizeof w);
    stream(truth, D, 77);
    double loss = 0;
    for (int s = 1; s <= 200; s++) {
        memset(g, 0, sizeof g);
        loss = 0;
        for (int k = 0; k < D; k++) loss += pow(w[k] - truth[k], 2) / D;
        for (int b = 0; b < BATCH; b++) {
            stream(x, D, (uint64_t)(s * BATCH + b));
            stream(&noise, 1, (uint64_t)(s * BATCH + b) << 32);
            double err = 0.1 * (double)noise;
            for (int k = 0; k < D; k++) {
                x[k] *= powf(10, -2.0f * (float)(k % 5) / 4);       // gradients of many sizes
                err += (double)x[k] * (w[k] - truth[k]);
            }
            for (int k = 0; k < D; k++) g[k] += (float)err * x[k];
        }
        optim_step(p, w, NULL, g, 1.0f / BATCH, 0.02, s);
    }
    optim_free(p);
    dev_close(d);
    return loss;
}

static void eight_bits(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        double b2 = i ? 0.999 : 0.95;
        double a = squares_loss(OPTIM_ADAMW, b2), b = squares_loss(OPTIM_ADAMW8, b2);
        if (getenv("V")) printf("beta2 %g: loss %.6f, 8 bits %.6f\n", b2, a, b);
        assert_true(a < 0.25);                               // from 1/3; it learns
        assert_true(fabs(b - a) < 0.01 * a);
    }
}

/* A step of a moment that was kept in eight bits is near that of one that was not. */
static void eight_bits_near(void **state)
{
    (void)state;
    enum { D = 2 * STEP_BLOCK + 13 };
    static float w[2][D], g[D];
    const optim_tensor t = { 0, 1, D, ROLE_MATRIX };
    dr_err e = {0};
    dev *d = open_dev(1);
    memset(w, 0, sizeof w);
    for (int k = 0; k < 2; k++) {
        optim_opt o;
        optim_opt_init(&o, k ? OPTIM_ADAMW8 : OPTIM_ADAMW);
        optim *p = optim_new(&o, &t, 1, 0, D, d, &e);
        for (int s = 1; s <= 2; s++) {
            stream(g, D, 3);                                 // the same gradient twice
            for (int i = 0; i < D; i++) g[i] *= powf(2, -(float)(i % 12));
            optim_step(p, w[k], NULL, g, 1, 1, s);
        }
        optim_free(p);
    }
    for (int i = 0; i < D; i++) {
        double rel = fabs(w[1][i] - w[0][i]);                // w is about 2
        assert_true(rel < 0.15);                             // half a step of 3 bits, one of 4 bits
    }
    dev_close(d);
}

/* A root far below the largest of its block does not become 0: when its gradients end, steps stay small. */
static void eight_bits_small(void **state)
{
    (void)state;
    float w[STEP_BLOCK] = { 0 }, was[STEP_BLOCK], g[STEP_BLOCK];
    const optim_tensor t = { 0, 1, STEP_BLOCK, ROLE_MATRIX };
    optim_opt o;
    optim_opt_init(&o, OPTIM_ADAMW8);
    o.decay = 0;
    dr_err e = {0};
    dev *d = open_dev(1);
    optim *p = optim_new(&o, &t, 1, 0, STEP_BLOCK, d, &e);
    for (int s = 1; s <= 20; s++) {
        for (int i = 1; i < STEP_BLOCK; i++) g[i] = s == 5 ? 4e-6f : 0;
        g[0] = s % 2 ? 1 : -1;                               // a large root and a small momentum
        memcpy(was, w, sizeof w);
        optim_step(p, w, NULL, g, 1, 1e-3, s);
        for (int i = 0; i < STEP_BLOCK; i++)
            if (!(fabsf(w[i] - was[i]) <= 1.1e-3f)) fail_msg("step %d moves %d by %g", s, i, w[i] - was[i]);
    }
    optim_free(p);
    dev_close(d);
}

/* More tensors than one call of the pool takes. */
static void many_tensors(void **state)
{
    (void)state;
    enum { M = 700, EACH = 32 };
    static optim_tensor t[M];
    static float w[2][M * EACH], g[M * EACH];
    double part[M], alone;
    dr_err e = {0};
    dev *d = open_dev(2);
    optim_opt o;
    optim_opt_init(&o, OPTIM_ADAMW);
    for (int i = 0; i < M; i++) t[i] = (optim_tensor){ i * EACH, 1, i % 2 ? 20 : EACH, ROLE_VECTOR };
    stream(g, M * EACH, 4);
    memset(w, 0, sizeof w);
    optim_squares(t, M, 0, M * EACH, g, d, part);
    optim *p = optim_new(&o, t, M, 0, M * EACH, d, &e);
    optim_step(p, w[0], NULL, g, 1, 0.1, 1);
    optim_free(p);
    for (int i = 0; i < M; i++) {
        optim_squares(&t[i], 1, t[i].at, t[i].at + EACH, g + t[i].at, d, &alone);
        assert_true(part[i] == alone && alone > 0);
        p = optim_new(&o, &t[i], 1, t[i].at, t[i].at + EACH, d, &e);
        optim_step(p, w[1] + t[i].at, NULL, g + t[i].at, 1, 0.1, 1);
        optim_free(p);
    }
    assert_memory_equal(w[0], w[1], sizeof w[0]);
    step_part sp[M];
    for (int i = 0; i < M; i++) sp[i] = (step_part){ .n = t[i].cols, .g = g + t[i].at };
    double again[M];
    d->squares(d, again, sp, M);
    assert_memory_equal(part, again, sizeof part);
    dev_close(d);
}

/* ---- norm ---- */

static void norms(void **state)
{
    (void)state;
    float *g = mem_alloc(BIG * sizeof *g);
    stream(g, BIG, 9);
    dev *d1 = open_dev(1), *d3 = open_dev(3);
    double want = 0, part[16], again[16];
    for (int i = 0; i < N_BIG; i++)
        for (int k = 0; k < big[i].rows * big[i].cols; k++)
            want += (double)g[big[i].at + k] * g[big[i].at + k];
    int64_t n = optim_n_chunks(big, N_BIG, 0, BIG);
    assert_int_equal(n, 3 + 2 + 1 + 2 + 2 + 1);
    optim_squares(big, N_BIG, 0, BIG, g, d1, part);
    double norm = optim_norm(part, n);
    assert_true(fabs(norm - sqrt(want)) < 1e-12 * norm);
    for (int ranks = 2; ranks <= 8; ranks++) {
        optim_opt o;
        optim_opt_init(&o, OPTIM_ADAMW);
        int64_t cut[9], at = 0;
        optim_cuts(&o, big, N_BIG, ranks, cut);
        for (int r = 0; r < ranks; r++) {
            optim_squares(big, N_BIG, cut[r], cut[r + 1], g + cut[r], d3, again + at);
            at += optim_n_chunks(big, N_BIG, cut[r], cut[r + 1]);
        }
        assert_int_equal(at, n);
        assert_memory_equal(part, again, (size_t)n * sizeof *part);
    }
    g[40000] = NAN;
    optim_squares(big, N_BIG, 0, BIG, g, d1, part);
    assert_true(isnan(optim_norm(part, n)));
    g[40000] = 3e38f;                                        // its square is no f32
    optim_squares(big, N_BIG, 0, BIG, g, d1, part);
    assert_true(fabs(optim_norm(part, n) / 3e38 - 1) < 1e-6);
    assert_true(optim_clip(0.5, 1) == 1 && optim_clip(5, 0) == 1);
    assert_true(fabs(optim_clip(4, 1) - 0.25) < 1e-6);
    mem_free(g);
    dev_close(d1);
    dev_close(d3);
}

/* ---- one process ---- */

static void one_process(void **state)
{
    (void)state;
    dr_err e = {0};
    dev *d = open_dev(2);
    comm *c = comm_open("self", &e);
    optim_opt o;
    optim_opt_init(&o, OPTIM_ADAMW);
    zero z;
    if (zero_init(&z, c, &o, big, N_BIG, d, &e) < 0) fail_msg("%s", e.msg);
    float *g = mem_alloc(BIG * sizeof *g), *w = mem_alloc(BIG * sizeof *w);
    float *v = mem_alloc(BIG * sizeof *v), *m = mem_alloc(BIG * sizeof *m);
    stream(g, BIG, 9);
    stream(w, BIG, 10);
    memcpy(v, w, BIG * sizeof *v);
    double sums[2] = { 12.5, 4 }, norm, part[16];
    assert_int_equal(zero_reduce(&z, g, sums, 2, &norm, &e), DR_OK);
    assert_true(sums[0] == 12.5 && sums[1] == 4);
    optim_squares(big, N_BIG, 0, BIG, g, d, part);
    assert_true(norm == optim_norm(part, 11));
    assert_int_equal(zero_step(&z, w, NULL, g, 0.25f, 0.01, 1, &e), DR_OK);
    optim *p = optim_new(&o, big, N_BIG, 0, BIG, d, &e);
    optim_step(p, v, NULL, g, 0.25f, 0.01, 1);
    assert_memory_equal(w, v, BIG * sizeof *w);
    optim_state s = optim_state_get(z.o, 1);
    assert_string_equal(s.name, "adamw.v");
    assert_int_equal(zero_state_get(&z, 1, m, &e), DR_OK);
    assert_memory_equal(m, s.p, (size_t)s.n * sizeof *m);
    assert_true(m[0] > 0);
    memset(s.p, 0, (size_t)s.n * sizeof *m);
    zero_state_put(&z, 1, m);
    assert_memory_equal(m, s.p, (size_t)s.n * sizeof *m);
    optim_free(p);
    zero_free(&z);
    zero_free(&z);
    mem_free(g), mem_free(w), mem_free(v), mem_free(m);
    comm_close(c);
    dev_close(d);
}

/* ---- refusals ---- */

static void refused(void **state)
{
    (void)state;
    optim_opt o;
    dr_err e = {0};
    optim_opt_init(&o, OPTIM_ADAMW);
    assert_int_equal(optim_opt_check(&o, &e), DR_OK);
    o.beta2 = 1;
    assert_int_equal(optim_opt_check(&o, &e), DR_EINVAL);
    assert_non_null(strstr(e.msg, "beta2 is 1"));
    e = (dr_err){0};
    o.beta2 = NAN;
    assert_int_equal(optim_opt_check(&o, &e), DR_EINVAL);
    optim_opt_init(&o, OPTIM_SGD);
    o.nesterov = true;
    assert_int_equal(optim_opt_check(&o, &e), DR_EINVAL);
    optim_opt_init(&o, OPTIM_MUON);
    o.rest = OPTIM_MUON;
    assert_int_equal(optim_opt_check(&o, &e), DR_EINVAL);
    assert_int_equal(optim_rule_by_name("adamw8"), OPTIM_ADAMW8);
    assert_int_equal(optim_rule_by_name("adam"), -1);
    assert_int_equal(muon_adjust_by_name("match-adamw"), MUON_MATCH_ADAMW);
}

/* Every allocation fails once; what optim_bytes says is what is taken. */
static void no_memory(void **state)
{
    (void)state;
    dev *d = open_dev(1);
    comm *c = comm_open("self", NULL);
    optim_opt o;
    optim_opt_init(&o, OPTIM_MUON);
    size_t before;
    for (long k = 0, failed = 1; failed; k++) {
        dr_err e = {0};
        zero z = {0};
        mem_fail_after(k);
        failed = zero_init(&z, c, &o, big, N_BIG, d, &e) < 0;
        mem_fail_after(-1);
        if (failed) assert_int_equal(e.code, DR_ENOMEM);
        assert_true(k < 100);
        zero_free(&z);
    }
    for (int rule = 0; rule < OPTIM_N_RULES; rule++) {
        optim_opt_init(&o, (optim_rule)rule);
        before = mem_live_bytes();
        optim *p = optim_new(&o, big, N_BIG, 0, BIG, d, NULL);
        size_t took = mem_live_bytes() - before, said = optim_bytes(&o, big, N_BIG, 0, BIG, d);
        if (took > said + 16384 || said > took + 16384)      // whole pages
            fail_msg("%s takes %zu bytes, not %zu", optim_rule_name[rule], took, said);
        optim_free(p);
        assert_true(mem_live_bytes() == before);
    }
    comm_close(c);
    dev_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(torch_optim), cmocka_unit_test(same_bits), cmocka_unit_test(cuts),
        cmocka_unit_test(eight_bits), cmocka_unit_test(eight_bits_near),
        cmocka_unit_test(eight_bits_small), cmocka_unit_test(many_tensors), cmocka_unit_test(norms), cmocka_unit_test(one_process),
        cmocka_unit_test(refused), cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
