/* test_sched.c - rates against their closed forms, phases and their ramps, refusals. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "train/sched.h"

static sched make(const sched_phase *p, int n)
{
    sched s;
    dr_err e = {0};
    if (sched_init(&s, p, n, &e) < 0) fail_msg("%s", e.msg);
    return s;
}

static void near(double x, double want)
{
    if (fabs(x - want) > DBL_EPSILON * fabs(want)) fail_msg("%.17g, wanted %.17g", x, want);
}

static double lr(const sched *s, int64_t step) { return sched_at(s, step).lr; }

/* Llama 3.1 405B as printed: warm-up of 8,000 steps, cosine from 8e-5 to 8e-7 over 1,200,000 steps;
 * batches of 4M tokens at 4,096, from 252M tokens on 8M at 8,192, from 2.87T on 16M. */
static void llama(void **state)
{
    (void)state;
    const int64_t M = 1 << 20;
    const sched_phase p[] = {
        { .until_tokens = 252 * M, .seq = 4096, .batch_tokens = 4 * M, .law = SCHED_COSINE,
          .peak = 8e-5, .end = 8e-7, .warmup = 8000, .length = 1200000 },
        { .until_tokens = 2870000000000, .seq = 8192, .batch_tokens = 8 * M, .law = SCHED_KEEP },
        { .until_tokens = 15600000000000, .seq = 8192, .batch_tokens = 16 * M, .law = SCHED_KEEP,
          .mix = 1 },
    };
    sched s = make(p, 3);
    near(lr(&s, 0), 8e-5 / 8000);
    near(lr(&s, 7998), 8e-5 * 7999 / 8000);
    near(lr(&s, 7999), 8e-5);
    near(lr(&s, 8000), 8e-5);
    near(lr(&s, 604000), 8e-7 + (8e-5 - 8e-7) / 2);          // the middle of the cosine
    double t = (600000.0 - 8000) / (1200000 - 8000);
    near(lr(&s, 600000), 8e-7 + (8e-5 - 8e-7) * 0.5 * (1 + cos(3.14159265358979323846 * t)));
    assert_true(lr(&s, 1100000) > 8e-7 && lr(&s, 1100000) < lr(&s, 1000000));
    assert_true(sched_steps(&s) < 1200000);                  // the paper's tokens are fewer steps

    sched_point a = sched_at(&s, 62), b = sched_at(&s, 63);
    assert_true(a.phase == 0 && a.seq == 4096 && a.batch_tokens == 4 * M && a.tokens == 248 * M);
    assert_true(b.phase == 1 && b.seq == 8192 && b.batch_tokens == 8 * M && b.tokens == 252 * M);
    int64_t second = s.step0[2];                             // a phase ends with a whole batch
    assert_true(s.tok0[2] >= 2870000000000 && s.tok0[2] - 8 * M < 2870000000000);
    assert_true(sched_at(&s, second).tokens == s.tok0[2] && sched_at(&s, second).mix == 1);
    assert_true(sched_at(&s, second).batch_tokens == 16 * M);
    assert_true(sched_at(&s, second - 1).tokens == s.tok0[2] - 8 * M);
    assert_true(sched_at(&s, sched_steps(&s)).tokens == sched_tokens(&s));
}

/* Every law at its corners and in the middle; 100 steps of 10 tokens. */
static void laws(void **state)
{
    (void)state;
    sched_phase p = { .until_tokens = 1000, .seq = 5, .batch_tokens = 10, .law = SCHED_CONSTANT,
                      .peak = 0.5, .warmup = 4 };
    sched s = make(&p, 1);
    near(lr(&s, 0), 0.125);
    near(lr(&s, 3), 0.5);
    near(lr(&s, 99), 0.5);
    near(lr(&s, 100), 0.5);
    p.law = SCHED_LINEAR, p.end = 0.1, p.warmup = 20;
    s = make(&p, 1);
    near(lr(&s, 9), 0.25);
    near(lr(&s, 20), 0.5);
    near(lr(&s, 60), 0.1 + 0.4 * 0.5);
    near(lr(&s, 99), 0.1 + 0.4 * (1 - 79.0 / 80));
    near(lr(&s, 100), 0.1);
    p.law = SCHED_WSD, p.decay = 40;
    s = make(&p, 1);
    near(lr(&s, 19), 0.5);
    near(lr(&s, 60), 0.5);
    near(lr(&s, 70), 0.1 + 0.4 * 0.75);
    near(lr(&s, 100), 0.1);
    p.law = SCHED_WSD_SQRT;
    s = make(&p, 1);
    near(lr(&s, 70), 0.1 + 0.4 * 0.5);
    p.length = 80;                                           // shorter than the run: then the end
    s = make(&p, 1);
    near(lr(&s, 50), 0.1 + 0.4 * 0.5);
    near(lr(&s, 80), 0.1);
    near(lr(&s, 99), 0.1);
    p = (sched_phase){ .until_tokens = 1000, .seq = 5, .batch_tokens = 10, .law = SCHED_COSINE,
                       .peak = 0.5, .warmup = 95, .by_tokens = true };
    s = make(&p, 1);
    near(lr(&s, 0), 0.5 * 10 / 95);
    near(lr(&s, 9), 0.5);                                    // 90 + 10 tokens are past the warm-up
    near(lr(&s, 10), 0.5 * 0.5 * (1 + cos(3.14159265358979323846 * 5 / 905)));
    near(lr(&s, 100), 0);
}

/* The law goes on over a ramp of batches; by tokens the rate is a function of the tokens alone. */
static void ramps(void **state)
{
    (void)state;
    const sched_phase p[] = {
        { .until_tokens = 400, .seq = 10, .batch_tokens = 10, .law = SCHED_LINEAR, .by_tokens = true,
          .peak = 1 },
        { .until_tokens = 805, .seq = 20, .batch_tokens = 20, .law = SCHED_KEEP },
    };
    sched s = make(p, 2);
    assert_true(s.step0[1] == 40 && s.step0[2] == 61 && s.tok0[2] == 820);
    near(lr(&s, 40), 1 - 400.0 / 820);
    near(lr(&s, 50), 1 - 600.0 / 820);
    near(lr(&s, 61), 0);
}

/* Anneal to zero from where the law before had come to. */
static void anneal(void **state)
{
    (void)state;
    const sched_phase p[] = {
        { .until_tokens = 1000, .seq = 10, .batch_tokens = 10, .law = SCHED_COSINE, .peak = 1,
          .end = 0.2, .length = 200 },
        { .until_tokens = 1400, .seq = 20, .batch_tokens = 20, .law = SCHED_LINEAR, .peak = -1 },
    };
    sched s = make(p, 2);
    double at = 0.2 + 0.8 * 0.5;                             // half of the cosine's 200 steps
    near(lr(&s, 100), at);
    near(lr(&s, 110), at / 2);
    assert_true(lr(&s, 119) > 0);
    near(lr(&s, 120), 0);
}

static void refused(void **state)
{
    (void)state;
    const sched_phase good = { .until_tokens = 1000, .seq = 10, .batch_tokens = 20,
                               .law = SCHED_WSD, .peak = 1, .warmup = 10, .decay = 10 };
    const struct { const char *what; sched_phase p; } row[] = {
        { "seq is 0", { .until_tokens = 10, .batch_tokens = 1 } },
        { "no multiple", { .until_tokens = 10, .seq = 3, .batch_tokens = 10 } },
        { "until_tokens is 0", { .seq = 10, .batch_tokens = 10 } },
        { "no phase before", { .until_tokens = 10, .seq = 10, .batch_tokens = 10 } },
        { "peak", { .until_tokens = 10, .seq = 10, .batch_tokens = 10, .law = SCHED_LINEAR,
                    .peak = NAN } },
        { "first phase", { .until_tokens = 10, .seq = 10, .batch_tokens = 10, .law = SCHED_LINEAR,
                           .peak = -1 } },
        { "end is more", { .until_tokens = 10, .seq = 10, .batch_tokens = 10, .law = SCHED_LINEAR,
                           .peak = 1, .end = 2 } },
        { "longer than", { .until_tokens = 10, .seq = 10, .batch_tokens = 10, .law = SCHED_LINEAR,
                           .peak = 1, .warmup = 2 } },
        { "wants decay", { .until_tokens = 10, .seq = 10, .batch_tokens = 10, .law = SCHED_WSD,
                           .peak = 1 } },
        { "does not fit", { .until_tokens = 100, .seq = 10, .batch_tokens = 10, .law = SCHED_WSD,
                            .peak = 1, .warmup = 6, .decay = 5 } },
        { "for wsd alone", { .until_tokens = 100, .seq = 10, .batch_tokens = 10,
                             .law = SCHED_COSINE, .peak = 1, .decay = 5 } },
        { "negative", { .until_tokens = 100, .seq = 10, .batch_tokens = 10, .law = SCHED_COSINE,
                        .peak = 1, .warmup = -1 } },
        { "2^61", { .until_tokens = INT64_MAX, .seq = 10, .batch_tokens = 10, .law = SCHED_LINEAR,
                    .peak = 1 } },
    };
    sched s;
    dr_err e = {0};
    assert_int_equal(sched_init(&s, &good, 1, &e), DR_OK);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        e = (dr_err){0};
        assert_int_equal(sched_init(&s, &row[i].p, 1, &e), DR_EINVAL);
        if (!strstr(e.msg, row[i].what)) fail_msg("'%s' without '%s'", e.msg, row[i].what);
        assert_non_null(strstr(e.msg, "phase 1"));
    }
    const sched_phase two[2] = { good, { .until_tokens = 1000, .seq = 10, .batch_tokens = 10 } };
    e = (dr_err){0};
    assert_int_equal(sched_init(&s, two, 2, &e), DR_EINVAL);
    assert_non_null(strstr(e.msg, "phase 2: until_tokens is 1000"));
    assert_int_equal(sched_init(&s, &good, 0, NULL), DR_EINVAL);
    assert_int_equal(sched_init(&s, &good, SCHED_PHASES + 1, NULL), DR_EINVAL);
    assert_int_equal(sched_law_by_name("wsd-sqrt"), SCHED_WSD_SQRT);
    assert_int_equal(sched_law_by_name("step"), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama), cmocka_unit_test(laws), cmocka_unit_test(ramps),
        cmocka_unit_test(anneal), cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
