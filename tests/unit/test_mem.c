/* test_mem.c - base/mem.h and what stands on it: arena and buf. Counts, limits, and failure on
 * command. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/arena.h"
#include "base/buf.h"
#include "base/mem.h"

static void counts(void **state)
{
    (void)state;
    size_t live = mem_live_bytes();
    long n = mem_count();
    mem_peak_reset();
    char *a = mem_alloc(1000), *b = mem_zalloc(10, 100), *c = mem_aligned(100), *z = mem_alloc(0);
    assert_true(a && b && c && z);
    assert_int_equal((uintptr_t)c % 64, 0);
    for (int i = 0; i < 1000; i++) assert_int_equal(b[i], 0);
    assert_int_equal(mem_count(), n + 4);
    assert_true(mem_live_bytes() >= live + 2100);
    memset(a, 'x', 1000);
    a = mem_realloc(a, 5000);
    for (int i = 0; i < 1000; i++) assert_int_equal(a[i], 'x');
    assert_true(mem_live_bytes() >= live + 6100);
    mem_free(a), mem_free(b), mem_free(c), mem_free(z), mem_free(NULL);
    assert_int_equal(mem_live_bytes(), live);
    assert_true(mem_peak_bytes() >= live + 6100);
    mem_peak_reset();
    assert_int_equal(mem_peak_bytes(), live);
}

static void pages(void **state)
{
    (void)state;
    size_t live = mem_live_bytes();
    unsigned char *p = mem_pages(5 << 20);
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % 64, 0);
    assert_int_equal(mem_live_bytes(), live + (5 << 20));
    assert_int_equal(p[0] | p[(5 << 20) - 1], 0);
    p[(5 << 20) - 1] = 1;
    mem_pages_free(p, 5 << 20);
    mem_pages_free(NULL, 5);
    assert_int_equal(mem_live_bytes(), live);
    assert_null(mem_pages(SIZE_MAX / 2));
}

static void strings(void **state)
{
    (void)state;
    char *a = mem_strdup("abc"), *b = mem_strndup("abcdef", 4), *c = mem_strdup("");
    assert_string_equal(a, "abc");
    assert_string_equal(b, "abcd");
    assert_string_equal(c, "");
    mem_free(a), mem_free(b), mem_free(c);
}

static void impossible(void **state)
{
    (void)state;
    assert_null(mem_zalloc(SIZE_MAX / 2, 3));
    assert_null(mem_aligned(SIZE_MAX));
    assert_null(mem_alloc(SIZE_MAX / 2));
}

static void failing(void **state)
{
    (void)state;
    size_t live = mem_live_bytes();
    mem_fail_after(2);
    void *a = mem_alloc(1), *b = mem_zalloc(1, 1);
    assert_true(a && b);
    assert_null(mem_alloc(1));
    assert_null(mem_zalloc(1, 1));
    assert_null(mem_aligned(1));
    assert_null(mem_pages(1));
    assert_null(mem_strdup("a"));
    assert_null(mem_realloc(a, 100));           /* a stays */
    mem_fail_after(-1);
    a = mem_realloc(a, 100);
    assert_non_null(a);
    mem_free(a), mem_free(b);
    assert_int_equal(mem_live_bytes(), live);
}

static void arenas(void **state)
{
    (void)state;
    arena a;
    assert_true(arena_init(&a, 1000));
    char *p = arena_take(&a, 1), *q = arena_take(&a, 100);
    assert_true(p && q && (uintptr_t)p % 64 == 0 && (uintptr_t)q % 64 == 0 && q >= p + 64);
    for (int i = 0; i < 100; i++) assert_int_equal(q[i], 0);
    assert_null(arena_take(&a, 2000));
    assert_null(arena_take(&a, SIZE_MAX));
    assert_non_null(arena_take(&a, 100));
    arena_free(&a);
    mem_fail_after(0);
    assert_false(arena_init(&a, 1000));
    mem_fail_after(-1);
}

static void bufs(void **state)
{
    (void)state;
    buf b;
    buf_init(&b, 100);
    buf_puts(&b, "abc");
    buf_putc(&b, 'd');
    buf_printf(&b, "%d-%s", 42, "x");
    assert_string_equal(buf_str(&b), "abcd42-x");
    assert_int_equal(buf_span(&b).n, 8);
    buf_put(&b, "\0y", 2);
    assert_int_equal(b.n, 10);
    assert_false(b.bad);
    for (int i = 0; i < 30; i++) buf_puts(&b, "0123456789");
    assert_true(b.bad && b.n <= 100);           /* over the cap: bad, and stays so */
    buf_putc(&b, 'z');
    assert_true(b.bad);
    buf_reset(&b);
    assert_true(!b.bad && b.n == 0);
    buf_free(&b);
    buf_init(&b, 1 << 20);
    mem_fail_after(0);
    buf_printf(&b, "%200d", 1);
    mem_fail_after(-1);
    assert_true(b.bad);
    assert_string_equal(buf_str(&b), "");
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts), cmocka_unit_test(pages), cmocka_unit_test(strings),
        cmocka_unit_test(impossible), cmocka_unit_test(failing), cmocka_unit_test(arenas),
        cmocka_unit_test(bufs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
