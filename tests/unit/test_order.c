/* test_order.c - keyed permutations: every place once, all places alike, values that stay. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "train/order.h"

static void permutes(void **state)
{
    (void)state;
    static uint8_t seen[70000];
    uint64_t sizes[320];
    int n_sizes = 0;
    for (uint64_t n = 1; n <= 300; n++) sizes[n_sizes++] = n;
    sizes[n_sizes++] = 4095, sizes[n_sizes++] = 4096, sizes[n_sizes++] = 4097, sizes[n_sizes++] = 65537;
    for (int k = 0; k < n_sizes; k++) {
        uint64_t n = sizes[k];
        memset(seen, 0, n);
        for (uint64_t i = 0; i < n; i++) {
            uint64_t j = order_at(order_key(7, n, 0, 0), n, i);
            if (j >= n || seen[j]) fail_msg("n %d: place %d comes out twice or not below n", (int)n, (int)j);
            seen[j] = 1;
        }
    }
    for (uint64_t i = 0; i < 1000; i++)
        assert_true(order_at(3, (uint64_t)1 << 40, i) < (uint64_t)1 << 40);
}

/* Over many keys each element comes to each place alike, and where two neighbours go says nothing
 * about one another: chi-squared of 12x12 places and of 11 steps. */
static void uniform(void **state)
{
    (void)state;
    enum { N = 12, KEYS = 24000 };
    static int place[N][N], step[N];
    for (int k = 0; k < KEYS; k++)
        for (int i = 0; i < N; i++) {
            int at = (int)order_at(order_key(1, (uint64_t)k, 2, 3), N, (uint64_t)i);
            int after = (int)order_at(order_key(1, (uint64_t)k, 2, 3), N, (uint64_t)((i + 1) % N));
            place[i][at]++;
            step[(after - at + N) % N]++;
        }
    double chi = 0, want = (double)KEYS / N;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) chi += (place[i][j] - want) * (place[i][j] - want) / want;
    if (chi < 80 || chi > 190) fail_msg("places: chi-squared is %g, about 121 is wanted", chi);
    chi = 0, want = (double)KEYS * N / (N - 1);
    for (int j = 1; j < N; j++) chi += (step[j] - want) * (step[j] - want) / want;
    assert_int_equal(step[0], 0);
    if (chi > 40) fail_msg("steps between neighbours: chi-squared is %g, about 10 is wanted", chi);
}

/* A run that is resumed by a later version must go on in the same order. */
static void stays(void **state)
{
    (void)state;
    static const uint64_t want[8] = { 621546, 344877, 611056, 245451, 794028, 720459, 804605, 302653 };
    for (uint64_t i = 0; i < 8; i++)
        assert_int_equal(order_at(order_key(42, 1, 2, 3), 1000003, i), want[i]);
    assert_int_not_equal(order_key(42, 1, 2, 3), order_key(42, 2, 1, 3));
    assert_int_not_equal(order_key(42, 1, 2, 3), order_key(43, 1, 2, 3));
    assert_int_not_equal(order_key(42, 1, 2, 3), order_key(42, 1, 2, 4));
}

int main(void)
{
    const struct CMUnitTest t[] = {
        cmocka_unit_test(permutes), cmocka_unit_test(uniform), cmocka_unit_test(stays),
    };
    return cmocka_run_group_tests(t, NULL, NULL);
}
