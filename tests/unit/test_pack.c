/* test_pack.c - packing: every piece once, no row too full, the same rows as the textbook's best fit
 * decreasing makes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/mem.h"
#include "base/rng.h"
#include "train/pack.h"

enum { MOST = 4000 };

static int32_t len_of(uint64_t salt, int64_t i, int32_t room)
{
    double u = rng_uniform(salt, 0, (uint64_t)i);
    int32_t n = 1 + (int32_t)(u * u * (double)room);
    return n < room ? n : room;
}

/* Best fit decreasing in O(n rows): how many rows, and how much room each number of them has left. */
static int textbook(const int32_t *len, int64_t n, int32_t room, int32_t *left)
{
    int rows = 0;
    for (int32_t want = room; want >= 1; want--)
        for (int64_t i = 0; i < n; i++) {
            if (len[i] != want) continue;
            int best = -1;
            for (int r = 0; r < rows; r++)
                if (left[r] >= want && (best < 0 || left[r] < left[best])) best = r;
            if (best < 0) left[best = rows++] = room;
            left[best] -= want;
        }
    return rows;
}

static int by_value(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return x < y ? -1 : x > y;
}

static void check(pack *p, int64_t n, int32_t room, uint64_t salt)
{
    static int32_t len[MOST], left[MOST], mine[MOST];
    static uint8_t seen[MOST];
    dr_err e = {0};
    for (int64_t i = 0; i < n; i++) len[i] = len_of(salt, i, room);
    assert_int_equal(pack_rows(p, len, n, room, &e), DR_OK);
    memset(seen, 0, sizeof seen);
    assert_int_equal(p->n, n);
    assert_int_equal(p->start[0], 0);
    assert_int_equal(p->start[p->n_rows], n);
    for (int32_t r = 0; r < p->n_rows; r++) {
        assert_true(p->start[r + 1] > p->start[r]);
        mine[r] = room;
        for (int32_t k = p->start[r]; k < p->start[r + 1]; k++) {
            assert_false(seen[p->piece[k]]);
            seen[p->piece[k]] = 1;
            mine[r] -= len[p->piece[k]];
        }
        if (mine[r] < 0) fail_msg("row %d is %d over its room", (int)r, (int)-mine[r]);
    }
    int rows = textbook(len, n, room, left);
    assert_int_equal(p->n_rows, rows);
    qsort(left, (size_t)rows, sizeof *left, by_value);
    qsort(mine, (size_t)rows, sizeof *mine, by_value);
    assert_memory_equal(left, mine, (size_t)rows * sizeof *left);
}

static void as_the_textbook(void **state)
{
    (void)state;
    pack p = {0};
    static const int32_t rooms[] = { 1, 2, 63, 64, 65, 100, 127, 128, 4095, 4096, 4097 };
    for (size_t k = 0; k < sizeof rooms / sizeof *rooms; k++)
        for (int64_t n = 0; n <= 1200; n = n * 3 + 1) check(&p, n, rooms[k], 9 + k);
    pack_free(&p);
}

/* A room whose tree has three levels and more. */
static void large_rooms(void **state)
{
    (void)state;
    pack p = {0};
    dr_err e = {0};
    static const int32_t len[] = { 300000, 5, 262144, 1, 600000, 37857, 99999, 1 };
    assert_int_equal(pack_rows(&p, len, 8, 700001, &e), DR_OK);
    assert_int_equal(p.n_rows, 2);
    /* 600000, then 300000, 262144 with it, 99999 leaves least in the first, 37857 in the second */
    static const int32_t want[] = { 4, 6, 3, 7, 0, 2, 5, 1 };
    assert_memory_equal(p.piece, want, sizeof want);
    pack_free(&p);
}

static void without_memory(void **state)
{
    (void)state;
    static const int32_t len[] = { 3, 1, 2 };
    for (long k = 0; k < 3; k++) {
        pack p = {0};
        dr_err e = {0};
        mem_fail_after(k);
        int rc = pack_rows(&p, len, 3, 4, &e);
        mem_fail_after(-1);
        assert_int_equal(rc, DR_ENOMEM);
        pack_free(&p);
    }
    assert_int_equal(mem_live_bytes(), 0);
}

int main(void)
{
    const struct CMUnitTest t[] = {
        cmocka_unit_test(as_the_textbook), cmocka_unit_test(large_rooms),
        cmocka_unit_test(without_memory),
    };
    return cmocka_run_group_tests(t, NULL, NULL);
}
