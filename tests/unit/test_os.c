/* test_os.c - base/os.h: files written in pieces of whatever size are those bytes and reach the
 * file in whole huge pages; large mappings and large private memory begin at one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/mem.h"
#include "base/os.h"

static char dir[] = "/dev/shm/drover-os-XXXXXX";
static char path[64], part[72];

static uint8_t byte_at(size_t i) { return (uint8_t)(i * 2654435761u >> 13); }

static size_t part_size(void)
{
    struct stat st;
    return stat(part, &st) ? 0 : (size_t)st.st_size;
}

/* n bytes, put in turns of the sizes in `step`, from a source that lies behind a guard. */
static void write_in(size_t n, const size_t *step, int n_step, bool whole)
{
    dr_err e = {0};
    os_out o;
    uint8_t *p = mem_alloc(n);
    for (size_t i = 0; i < n; i++) p[i] = byte_at(i);
    if (os_out_open(&o, path, &e)) fail_msg("%s", e.msg);
    for (size_t at = 0, k = 0; at < n; k++) {
        size_t now = step[k % (size_t)n_step] < n - at ? step[k % (size_t)n_step] : n - at;
        if (os_out_put(&o, p + at, now, &e)) fail_msg("%s", e.msg);
        at += now;
        if (whole && part_size() % OS_HUGE) fail_msg("%zu bytes are in the file", part_size());
        if (part_size() > at || at - part_size() > OS_HUGE) fail_msg("%zu of %zu", part_size(), at);
    }
    if (os_out_keep(&o, &e)) fail_msg("%s", e.msg);
    os_file f;
    if (os_map(&f, path, &e)) fail_msg("%s", e.msg);
    assert_int_equal(f.n, n);
    assert_int_equal(memcmp(f.p, p, n), 0);
    if (n >= OS_HUGE) assert_int_equal((uintptr_t)f.p % OS_HUGE, 0);
    os_unmap(&f);
    mem_free(p);
}

static void written_in_whole_pieces(void **state)
{
    (void)state;
    size_t live = mem_live_bytes();
    const size_t h = OS_HUGE;
    const size_t small[] = { 1, 31, 4096, 0, 100003 }, large[] = { 3 * h + 5, 17, h - 22, 2 * h },
                 even[] = { h, 2 * h }, odd[] = { 13, h, h - 13, h + 1 };
    write_in(0, small, 5, true);
    write_in(100, small, 5, true);
    write_in(5 * h + 77, small, 5, true);
    write_in(20 * h + 1, large, 4, true);
    write_in(9 * h, even, 2, true);
    write_in(12 * h + 3, odd, 4, true);
    assert_int_equal(mem_live_bytes(), live);
}

static void written_without_memory(void **state)
{
    (void)state;
    const char text[] = "as it comes";
    size_t live = mem_live_bytes();
    for (long n = 2; n < 4; n++) {                       /* the names take two */
        os_out o;
        dr_err e = {0};
        mem_fail_after(n);
        int rc = os_out_open(&o, path, &e);
        if (!rc) rc = os_out_put(&o, text, sizeof text, &e);
        if (!rc) rc = os_out_put(&o, text, sizeof text, &e);
        if (!rc) rc = os_out_keep(&o, &e);
        mem_fail_after(-1);
        os_out_drop(&o);
        assert_int_equal(rc, DR_OK);
        os_file f;
        assert_int_equal(os_map(&f, path, &e), DR_OK);
        assert_int_equal(f.n, 2 * sizeof text);
        assert_memory_equal(f.p + sizeof text, text, sizeof text);
        os_unmap(&f);
    }
    assert_int_equal(mem_live_bytes(), live);
}

static void a_dropped_one_leaves_nothing(void **state)
{
    (void)state;
    dr_err e = {0};
    os_out o;
    size_t live = mem_live_bytes();
    unlink(path);
    assert_int_equal(os_out_open(&o, path, &e), DR_OK);
    assert_int_equal(os_out_put(&o, "x", 1, &e), DR_OK);
    os_out_drop(&o);
    os_out_drop(&o);
    assert_false(os_exists(path));
    assert_false(os_exists(part));
    assert_int_equal(mem_live_bytes(), live);
}

/* Pages of address space that this process has. */
static size_t address_space(void)
{
    size_t n = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f && fscanf(f, "%zu", &n) != 1) n = 0;
    if (f) fclose(f);
    return n;
}

static void private_memory_is_aligned(void **state)
{
    (void)state;
    const size_t h = OS_HUGE, n[] = { 1, 4096, h, 2 * h - 1, 2 * h, 2 * h + 1, 7 * h + 12345 };
    for (size_t i = 0; i < sizeof n / sizeof *n; i++) {
        size_t before = address_space();
        uint8_t *p = mem_pages(n[i]);
        assert_non_null(p);
        if (n[i] >= 2 * h) assert_int_equal((uintptr_t)p % h, 0);
        for (size_t k = 0; k < n[i]; k += 4096) assert_int_equal(p[k], 0);
        p[0] = p[n[i] - 1] = 1;
        /* what was reserved around it was given back */
        assert_int_equal(address_space() - before, (n[i] + 4095) / 4096);
        mem_pages_free(p, n[i]);
        assert_int_equal(address_space(), before);
    }
}

static int make(void **state)
{
    (void)state;
    if (!mkdtemp(dir)) return -1;
    snprintf(path, sizeof path, "%s/f", dir);
    snprintf(part, sizeof part, "%s/f.part", dir);
    return 0;
}

static int clean(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_in_whole_pieces), cmocka_unit_test(written_without_memory),
        cmocka_unit_test(a_dropped_one_leaves_nothing), cmocka_unit_test(private_memory_is_aligned),
    };
    return cmocka_run_group_tests(tests, make, clean);
}
