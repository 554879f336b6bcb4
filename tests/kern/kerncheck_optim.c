/* kerncheck_optim.c - the optimisers' kernels, at every level this CPU has, bit against bit with
 * kern_ref_optim.c.
 *
 *     kerncheck_optim [NAME...]      check        kerncheck_optim --bench [NAME...]     check, then time */
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/half.h"
#include "base/mem.h"
#include "kern/kern.h"
#include "t.h"
#include "levels.h"

enum { PAD = 64, BENCH_N = STEP_CHUNK };

static const int sizes[] = { 1, 7, 15, 16, 17, 63, 255, 256, 257, 1000, 1024, 1025, 4096 };
#define EACH_SIZE(n) for (int z_ = 0, n; \
    z_ < (int)(sizeof sizes / sizeof *sizes) && (n = sizes[z_], 1); z_++)

/* A set of arrays with room around; wanted and got are two of them. */
typedef struct { float *w, *g, *m, *v; uint16_t *wb; uint8_t *m8, *v8; float m_max[20], v_max[20]; } set;

/* Magnitudes over the whole range of floats: 2^-140 … 2^60. */
static float wide(void) { return ldexpf(t_rand(), (int)(t_rand() * 100) - 40); }

static set set_new(int n, bool odd)
{
    size_t k = (size_t)n + 2 * PAD;
    set s = { get(k * 4), get(k * 4), get(k * 4), get(k * 4), get(k * 2), get(k), get(k), {0}, {0} };
    for (size_t i = 0; i < k; i++) {
        s.w[i] = odd ? wide() : t_rand(), s.g[i] = odd ? wide() : t_rand();
        s.m[i] = odd ? wide() : t_rand(), s.v[i] = fabsf(odd ? wide() : t_rand());
        s.wb[i] = (uint16_t)i;
        s.m8[i] = (uint8_t)(t_rand() * 127.9f + 128), s.v8[i] = (uint8_t)(t_rand() * 127.9f + 128);
        if (i % 5 == 0 && odd) s.g[i] = s.m[i] = s.v[i] = 0, s.m8[i] = s.v8[i] = 0;
    }
    for (int i = 0; i < 20; i++) {
        s.m_max[i] = fabsf(t_rand()), s.v_max[i] = fabsf(t_rand());
        if (i == 1) s.m_max[i] = s.v_max[i] = 0;
    }
    return s;
}

static set set_copy(const set *a, int n)
{
    size_t k = (size_t)n + 2 * PAD;
    set s = set_new(n, false);
    memcpy(s.w, a->w, k * 4), memcpy(s.g, a->g, k * 4);
    memcpy(s.m, a->m, k * 4), memcpy(s.v, a->v, k * 4);
    memcpy(s.wb, a->wb, k * 2), memcpy(s.m8, a->m8, k), memcpy(s.v8, a->v8, k);
    memcpy(s.m_max, a->m_max, sizeof s.m_max), memcpy(s.v_max, a->v_max, sizeof s.v_max);
    return s;
}

static bool set_same(const set *a, const set *b, int n)
{
    size_t k = (size_t)n + 2 * PAD;
    return !memcmp(a->w, b->w, k * 4) && !memcmp(a->m, b->m, k * 4) && !memcmp(a->v, b->v, k * 4) &&
           !memcmp(a->wb, b->wb, k * 2) && !memcmp(a->m8, b->m8, k) && !memcmp(a->v8, b->v8, k) &&
           !memcmp(a->m_max, b->m_max, sizeof a->m_max) && !memcmp(a->v_max, b->v_max, sizeof a->v_max);
}

static void set_free(set *s)
{
    mem_free(s->w), mem_free(s->g), mem_free(s->m), mem_free(s->v);
    mem_free(s->wb), mem_free(s->m8), mem_free(s->v8);
}

#define BENCH(what, bytes, call) do { if (bench) { \
    double best = 1e9, t0_ = seconds(); \
    do { \
        double a_ = seconds(); \
        int n_ = 0; \
        do { call; n_++; } while (seconds() - a_ < 0.0005); \
        double t_ = (seconds() - a_) / n_; \
        if (t_ < best) best = t_; \
    } while (seconds() - t0_ < 0.3); \
    printf("%s\t%s\t%.3f ns an element\t%.1f GB/s\n", what, level, best / BENCH_N * 1e9, \
           (double)(bytes) * BENCH_N / best * 1e-9); } } while (0)

static const step_args args[] = {
    { .scale = 0.3f, .lr = 0.01f, .keep = 0.001f, .b1 = 0.9f, .a1 = 0.1f, .b2 = 0.95f, .a2 = 0.05f,
      .step = 0.1f, .root = 4.4f, .eps = 1e-8f, .momentum = 0.9f, .dampen = 0.8f, .seed = 12345 },
    { .scale = 1, .lr = 1e-4f, .b1 = 0.8f, .a1 = 0.2f, .b2 = 0.999f, .a2 = 0.001f,
      .step = 5e-4f, .root = 1, .eps = 1e-5f, .momentum = 0.5f, .dampen = 1, .nesterov = true,
      .first = true, .seed = 0xffffff00 },
};

typedef void rule_fn(const kern *k, set *s, int n, const step_args *a, bool bf16);

static void adamw(const kern *k, set *s, int n, const step_args *a, bool bf16)
{
    k->adamw(s->w + PAD, bf16 ? s->wb + PAD : NULL, s->g + PAD, s->m + PAD, s->v + PAD, n, a);
}

static void adamw8(const kern *k, set *s, int n, const step_args *a, bool bf16)
{
    k->adamw8(s->w + PAD, bf16 ? s->wb + PAD : NULL, s->g + PAD, s->m8 + PAD, s->v8 + PAD, s->m_max,
              s->v_max, 0xfffffff0u, n, a);
}

static void sgd(const kern *k, set *s, int n, const step_args *a, bool bf16)
{
    k->sgd(s->w + PAD, bf16 ? s->wb + PAD : NULL, s->g + PAD, s->m + PAD, n, a);
    k->sgd(s->w + PAD, bf16 ? s->wb + PAD : NULL, s->g + PAD, NULL, n, a);
}

static void momentum(const kern *k, set *s, int n, const step_args *a, bool bf16)
{
    (void)bf16;
    k->momentum(s->w + PAD, s->g + PAD, s->m + PAD, n, a);
}

static void mix(const kern *k, set *s, int n, const step_args *a, bool bf16)
{
    k->mix(s->w + PAD, a->b1, s->g + PAD, a->b2, s->m + PAD, n);
    if (bf16) k->mix(s->v + PAD, -2, s->v + PAD, a->b2, s->m + PAD, n);
    else k->mix(s->m + PAD, -2, s->v + PAD, a->b2, s->m + PAD, n);
}

static void squares(const kern *k, set *s, int n, const step_args *a, bool bf16)
{
    (void)a, (void)bf16;
    double x = k->squares(s->g + PAD, n);
    memcpy(s->v, &x, sizeof x);
}

/* Three steps in a row: what the first one leaves is what the second finds. */
static void check(rule_fn *fn)
{
    EACH_SIZE(n)
        for (int round = 0; round < 8; round++) {
            set want = set_new(n, round & 1), got = set_copy(&want, n);
            for (int s = 0; s < 3; s++) {
                fn(&ref, &want, n, &args[round >> 1 & 1], round & 4);
                fn(&new, &got, n, &args[round >> 1 & 1], round & 4);
            }
            CHECK(set_same(&want, &got, n));
            set_free(&want), set_free(&got);
        }
}

static void timed(const char *name, rule_fn *fn, double bytes)
{
    set s = set_new(BENCH_N, false);
    BENCH(name, bytes, (memset(s.m_max, 0, sizeof s.m_max), fn(&new, &s, BENCH_N, &args[0], false)));
    set_free(&s);
}

static void check_adamw(void) { check(adamw); timed("adamw", adamw, 28); }
static void check_sgd(void) { check(sgd); timed("sgd (both)", sgd, 32); }
static void check_momentum(void) { check(momentum); timed("momentum", momentum, 16); }
static void check_mix(void) { check(mix); timed("mix (twice)", mix, 24); }
static void check_squares(void) { check(squares); timed("squares", squares, 4); }

static void check_adamw8(void)
{
    check(adamw8);
    enum { BLOCKS = BENCH_N / STEP_BLOCK };
    set s = set_new(BENCH_N, false);
    static float m_max[BLOCKS], v_max[BLOCKS];
    BENCH("adamw8", 16, new.adamw8(s.w, NULL, s.g, s.m8, s.v8, m_max, v_max, 0, BENCH_N, &args[0]));
    set_free(&s);
}

static bool narrowed(float w, uint16_t h)
{
    return isnan(w) ? isnan(bf16_to_f32(h)) : h == f32_to_bf16(w);
}

/* Rounding to bf16 of every kind of number; a step of nothing leaves the weights as they are. */
static void check_narrow(void)
{
    static const uint32_t low[] = { 0, 1, 0x7fff, 0x8000, 0x8001, 0xffff };
    step_args a = { .eps = 1 };
    for (int n = 1; n <= 6 * 256; n += 85) {
        set s = set_new(n, false);
        for (int i = 0; i < n; i++) {
            uint32_t top = (uint32_t)(i / 6) * 0x01010000u + (i & 8 ? 0x00010000u : 0);
            s.w[PAD + i] = f32_from_bits(top | low[i % 6]);
        }
        memset(s.g, 0, ((size_t)n + 2 * PAD) * 4), memset(s.m, 0, ((size_t)n + 2 * PAD) * 4);
        float *w = get((size_t)n * 4);
        memcpy(w, s.w + PAD, (size_t)n * 4);
        new.sgd(s.w + PAD, s.wb + PAD, s.g + PAD, NULL, n, &a);
        for (int i = 0; i < n; i++)
            CHECK(narrowed(s.w[PAD + i], s.wb[PAD + i]) && (s.w[PAD + i] == w[i] || !isfinite(w[i])));
        new.adamw(s.w + PAD, s.wb + PAD, s.g + PAD, s.m + PAD, s.v + PAD, n, &a);
        for (int i = 0; i < n; i++)
            CHECK(narrowed(s.w[PAD + i], s.wb[PAD + i]) && (s.w[PAD + i] == w[i] || !isfinite(w[i])));
        CHECK(s.wb[PAD - 1] == PAD - 1 && s.wb[PAD + n] == PAD + n);
        set_free(&s), mem_free(w);
    }
}

/* Codes are those nearest: a value that a code stands for comes back as it was. */
static void check_codes(void)
{
    float w[STEP_BLOCK] = { 0 }, g[STEP_BLOCK] = { 0 }, m_max = 1.875f, v_max = 1.9375f;
    uint8_t m[STEP_BLOCK], v[STEP_BLOCK];
    step_args a = { .a1 = 0, .b2 = 1, .eps = 1 };
    for (int i = 0; i < STEP_BLOCK; i++) m[i] = v[i] = (uint8_t)i;
    new.adamw8(w, NULL, g, m, v, &m_max, &v_max, 0, STEP_BLOCK, &a);
    for (int i = 0; i < STEP_BLOCK; i++) {
        CHECK(m[i] == i || i == 128);                // -0 becomes +0
        CHECK(v[i] == i);
    }
    CHECK(m_max == 1.875f && v_max == 1.9375f);
}

static const level_check checks[] = {
    { "adamw",    offsetof(kern, adamw),    check_adamw },
    { "adamw8",   offsetof(kern, adamw8),   check_adamw8 },
    { "codes",    offsetof(kern, adamw8),   check_codes },
    { "sgd",      offsetof(kern, sgd),      check_sgd },
    { "narrow",   offsetof(kern, sgd),      check_narrow },
    { "momentum", offsetof(kern, momentum), check_momentum },
    { "mix",      offsetof(kern, mix),      check_mix },
    { "squares",  offsetof(kern, squares),  check_squares },
};

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "--bench")) bench = true, argc--, argv++;
    t_begin(argc, argv);
    kern_select(&ref, "ref");
    new = ref;
    level = "ref";
    T(check_codes);
    each_level(checks, (int)(sizeof checks / sizeof *checks), NULL);
    return t_end();
}
