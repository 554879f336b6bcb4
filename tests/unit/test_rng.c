/* test_rng.c - base/rng.h: Philox against its authors' known answers, and the two distributions. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/rng.h"

/* Random123's kat_vectors, philox4x32 with 10 rounds. */
static void known_answers(void **state)
{
    (void)state;
    static const struct { uint64_t key, hi, lo; uint32_t want[4]; } kat[] = {
        { 0, 0, 0, { 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 } },
        { UINT64_MAX, UINT64_MAX, UINT64_MAX, { 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd } },
        { 0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88,
          { 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1 } },
    };
    for (size_t i = 0; i < sizeof kat / sizeof *kat; i++) {
        uint32_t out[4];
        rng_philox(out, kat[i].key, kat[i].hi, kat[i].lo);
        assert_memory_equal(out, kat[i].want, sizeof out);
    }
}

static void uniform(void **state)
{
    (void)state;
    enum { N = 200000, BINS = 64 };
    double sum = 0, chi = 0;
    int bin[BINS] = { 0 };
    for (uint64_t i = 0; i < N; i++) {
        double u = rng_uniform(7, 3, i);
        assert_true(u >= 0 && u < 1);
        sum += u, bin[(int)(u * BINS)]++;
    }
    for (int b = 0; b < BINS; b++) chi += pow(bin[b] - (double)N / BINS, 2) / ((double)N / BINS);
    assert_true(fabs(sum / N - 0.5) < 4 / sqrt(12.0 * N));
    assert_true(chi < 63 + 4 * sqrt(2 * 63));           /* four deviations: one in 30,000 */
    assert_true(rng_uniform(7, 3, 5) == rng_uniform(7, 3, 5));
    assert_true(rng_uniform(7, 3, 5) != rng_uniform(7, 4, 5));
    assert_true(rng_uniform(7, 3, 5) != rng_uniform(8, 3, 5));
}

static void normal(void **state)
{
    (void)state;
    enum { N = 100001 };
    float *y = malloc(N * sizeof *y), part[37];
    assert_non_null(y);
    rng_normal(y, N, 5, 2, 0);
    double m[5] = { 0 };
    for (int i = 0; i < N; i++)
        for (int p = 1; p < 5; p++) m[p] += pow(y[i], p) / N;
    double dev = 1 / sqrt(N);
    assert_true(fabs(m[1]) < 4 * dev && fabs(m[2] - 1) < 4 * sqrt(2) * dev);
    assert_true(fabs(m[3]) < 4 * sqrt(15) * dev && fabs(m[4] - 3) < 4 * sqrt(96) * dev);
    for (uint64_t at = 0; at < 70; at += 3) {           /* any piece of the stream, the same */
        rng_normal(part, 37, 5, 2, at);
        assert_memory_equal(part, y + at, sizeof part);
    }
    for (int n = 0; n < 20; n++) {
        part[n] = 9;
        rng_normal(part, n, 5, 2, 11);
        assert_memory_equal(part, y + 11, (size_t)n * sizeof *part);
        assert_true(part[n] == 9);
    }
    free(y);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers), cmocka_unit_test(uniform), cmocka_unit_test(normal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
