/* test_pool.c - base/pool.h: every chunk once, no thread in two places, results seen by the
 * caller, long sleeps and quick successions. Run it under BUILD=tsan too. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>
#include "base/mem.h"
#include "base/pool.h"

enum { MAX_CHUNKS = 5000, MAX_T = 16 };

typedef struct {
    int n_threads;
    int seen[MAX_CHUNKS];               /* plain: two threads on one chunk is a race */
    int order[MAX_CHUNKS];              /* who ran it */
    int busy[MAX_T];                    /* plain too */
    atomic_int calls;
} job;

static void chunk(void *arg, int c, int thread)
{
    job *j = arg;
    if (thread < 0 || thread >= j->n_threads || j->busy[thread]) abort();
    j->busy[thread] = 1;
    j->seen[c]++;
    j->order[c] = thread;
    for (volatile int i = 0; i < c % 50; i++) { }
    j->busy[thread] = 0;
    atomic_fetch_add(&j->calls, 1);
}

static void each_chunk_once(void **state)
{
    (void)state;
    static const int threads[] = { 1, 2, 3, 7, 16 }, chunks[] = { 0, 1, 2, 3, 8, 17, 1000, 5000 };
    static job j;
    for (size_t t = 0; t < sizeof threads / sizeof *threads; t++) {
        dr_err e = { 0 };
        pool *p = pool_new(threads[t], &e);
        assert_non_null(p);
        assert_int_equal(pool_threads(p), threads[t]);
        for (size_t k = 0; k < sizeof chunks / sizeof *chunks; k++) {
            memset(&j, 0, sizeof j);
            j.n_threads = threads[t];
            pool_run(p, chunks[k], chunk, &j);
            assert_int_equal(atomic_load(&j.calls), chunks[k]);
            for (int c = 0; c < chunks[k]; c++) assert_int_equal(j.seen[c], 1);
        }
        pool_free(p);
    }
}

static void add_one(void *arg, int c, int thread)
{
    (void)thread;
    ((int *)arg)[c]++;
}

static void quick_succession(void **state)
{
    (void)state;
    int count[8] = { 0 };
    pool *p = pool_new(3, NULL);
    assert_non_null(p);
    long allocs = mem_count();
    for (int i = 0; i < 3000; i++) {
        int before = count[7];
        pool_run(p, 8, add_one, count);
        assert_int_equal(count[7], before + 1);         /* what the chunks wrote is visible */
    }
    assert_int_equal(mem_count(), allocs);
    for (int i = 0; i < 8; i++) assert_int_equal(count[i], 3000);
    pool_free(p);
}

/* Workers spin for a while and then sleep; both must wake. */
static void after_a_pause(void **state)
{
    (void)state;
    int count[8] = { 0 };
    pool *p = pool_new(2, NULL);
    for (long us = 1; us < 20000; us *= 3) {
        nanosleep(&(struct timespec){ 0, us * 1000 }, NULL);
        pool_run(p, 8, add_one, count);
    }
    assert_int_equal(count[0], 10);
    assert_int_equal(count[7], 10);
    pool_free(p);
}

static void refusals(void **state)
{
    (void)state;
    dr_err e = { 0 };
    assert_null(pool_new(-1, &e));
    assert_non_null(strstr(e.msg, "-1"));
    assert_null(pool_new(1 << 20, NULL));
    pool_free(NULL);
    assert_true(cpu_count() >= 1);
    pool *p = pool_new(0, NULL);
    assert_int_equal(pool_threads(p), cpu_count());
    pool_free(p);
}

static void failing_memory(void **state)
{
    (void)state;
    size_t live = mem_live_bytes();
    for (long n = 0;; n++) {
        mem_fail_after(n);
        dr_err e = { 0 };
        pool *p = pool_new(4, &e);
        mem_fail_after(-1);
        pool_free(p);
        assert_int_equal(mem_live_bytes(), live);
        if (p) break;
        assert_true(e.msg[0]);
        assert_true(n < 20);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_chunk_once), cmocka_unit_test(quick_succession),
        cmocka_unit_test(after_a_pause), cmocka_unit_test(refusals),
        cmocka_unit_test(failing_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
