/* test_limits.c - base/limits.h over trees of files such as the kernel shows: hyper-threads,
 * quotas and memory of both versions of control groups, nested ones, nonsense. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/limits.h"
#include "base/os.h"

static char dir[] = "/dev/shm/drover-limits-XXXXXX";

/* A file of the tree; its folders are made. */
static void put(const char *path, const char *text)
{
    char to[512];
    dr_err e = {0};
    snprintf(to, sizeof to, "%s%s", dir, path);
    char *slash = strrchr(to, '/');
    *slash = 0;
    if (os_mkdirs(to, &e)) fail_msg("%s", e.msg);
    *slash = '/';
    if (os_write(to, text, strlen(text), &e)) fail_msg("%s", e.msg);
}

static int each_gone(const char *path)
{
    char cmd[600];
    snprintf(cmd, sizeof cmd, "%s%s", dir, path);
    return remove(cmd);
}

static void siblings(int cpu, const char *list)
{
    char path[200];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    put(path, list);
}

static const bool all8[8] = { 1, 1, 1, 1, 1, 1, 1, 1 };

static void threads_of_cores(void **state)
{
    (void)state;
    assert_int_equal(limits_cores(dir, all8, 8), 8);             /* nothing is known */
    for (int i = 0; i < 8; i++) {
        char s[20];
        snprintf(s, sizeof s, "%d,%d\n", i % 4, i % 4 + 4);
        siblings(i, s);
    }
    assert_int_equal(limits_cores(dir, all8, 8), 4);
    const bool second[8] = { [4] = 1, [5] = 1 };                 /* their first ones are not ours */
    assert_int_equal(limits_cores(dir, second, 8), 2);
    const bool mixed[8] = { [0] = 1, [4] = 1, [1] = 1, [7] = 1 };
    assert_int_equal(limits_cores(dir, mixed, 8), 3);
    const bool none[8] = { 0 };
    assert_int_equal(limits_cores(dir, none, 8), 1);
    for (int i = 0; i < 8; i++) siblings(i, i < 4 ? "0-3\n" : "4-7");
    assert_int_equal(limits_cores(dir, all8, 8), 2);
    static const char *const bad[] = { "x", "-5", "99999999999999999999", "7-0", ",,", "0-4000000000" };
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        siblings(0, bad[k]);
        int n = limits_cores(dir, all8, 8);
        assert_true(n >= 1 && n <= 8);
    }
    for (int i = 0; i < 8; i++) {
        char s[20];
        snprintf(s, sizeof s, "%d\n", i);
        siblings(i, s);
    }
    assert_int_equal(limits_cores(dir, all8, 8), 8);
}

static void quota_v2(void **state)
{
    (void)state;
    static const struct { const char *text; int cores; } row[] = {
        { "max 100000\n", 8 }, { "200000 100000\n", 2 }, { "250000 100000\n", 3 },
        { "50000 100000\n", 1 }, { "1 1000000\n", 1 }, { "900000 100000\n", 8 },
        { "0 0\n", 8 }, { "", 8 }, { "nonsense\n", 8 }, { "9223372036854775807 1\n", 8 },
    };
    put("/proc/self/cgroup", "0::/a/b\n");
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        put("/sys/fs/cgroup/a/b/cpu.max", row[i].text);
        if (limits_cores(dir, all8, 8) != row[i].cores)
            fail_msg("%s: %d cores", row[i].text, limits_cores(dir, all8, 8));
    }
    put("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
    put("/sys/fs/cgroup/a/cpu.max", "300000 100000\n");          /* the group around it */
    assert_int_equal(limits_cores(dir, all8, 8), 3);
    put("/sys/fs/cgroup/a/b/cpu.max", "500000 100000\n");        /* the least of both */
    assert_int_equal(limits_cores(dir, all8, 8), 3);
    put("/proc/self/cgroup", "0::/gone/deeper\n");               /* a container's own mount */
    assert_int_equal(limits_cores(dir, all8, 8), 8);
    put("/sys/fs/cgroup/cpu.max", "100000 100000\n");
    assert_int_equal(limits_cores(dir, all8, 8), 1);
    each_gone("/sys/fs/cgroup/cpu.max");
    each_gone("/sys/fs/cgroup/a/cpu.max");
    each_gone("/sys/fs/cgroup/a/b/cpu.max");
}

static void quota_v1(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "5:memory:/m\n4:cpuset:/x\n3:cpu,cpuacct:/c\n1:name=systemd:/\n");
    put("/sys/fs/cgroup/cpuset/x/cpu.cfs_quota_us", "100000\n");   /* not the one that counts */
    put("/sys/fs/cgroup/cpuset/x/cpu.cfs_period_us", "100000\n");
    assert_int_equal(limits_cores(dir, all8, 8), 8);
    put("/sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_quota_us", "-1\n");
    put("/sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_period_us", "100000\n");
    assert_int_equal(limits_cores(dir, all8, 8), 8);
    put("/sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_quota_us", "400000\n");
    assert_int_equal(limits_cores(dir, all8, 8), 4);
    put("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000\n");       /* the other name of the mount */
    put("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    assert_int_equal(limits_cores(dir, all8, 8), 2);
    put("/proc/self/cgroup", "no line of this kind\n::\n:\n3:cpu\n");
    assert_int_equal(limits_cores(dir, all8, 8), 8);
}

static void memory(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "0::/a\n");
    assert_true(limits_memory(dir) == SIZE_MAX);
    put("/sys/fs/cgroup/a/memory.max", "max\n");
    put("/sys/fs/cgroup/a/memory.current", "700\n");
    assert_true(limits_memory(dir) == SIZE_MAX);
    put("/sys/fs/cgroup/a/memory.max", "1000\n");
    assert_int_equal(limits_memory(dir), 300);
    put("/sys/fs/cgroup/a/memory.stat", "anon 200\nfile 480\ninactive_file 400\nactive_file 50\n");
    assert_int_equal(limits_memory(dir), 750);           /* mapped weights are given back */
    put("/sys/fs/cgroup/a/memory.current", "2000\n");
    assert_int_equal(limits_memory(dir), 0);
    put("/sys/fs/cgroup/a/memory.current", "10\n");
    assert_int_equal(limits_memory(dir), 1000);
    put("/proc/self/cgroup", "0::/\n4:memory:/p/q\n");
    put("/sys/fs/cgroup/memory/p/q/memory.limit_in_bytes", "9223372036854771712\n");
    put("/sys/fs/cgroup/memory/p/memory.limit_in_bytes", "5000\n");
    put("/sys/fs/cgroup/memory/p/memory.usage_in_bytes", "4000\n");
    put("/sys/fs/cgroup/memory/p/memory.stat", "inactive_file 1\ntotal_inactive_file 1500\n"
        "total_active_file 0\n");
    assert_int_equal(limits_memory(dir), 2500);
}

static int make(void **state) { (void)state; return mkdtemp(dir) ? 0 : -1; }

static int clean(void **state)
{
    (void)state;
    char cmd[600];
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    FILE *f = popen(cmd, "r");
    return f ? pclose(f) : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_of_cores), cmocka_unit_test(quota_v2),
        cmocka_unit_test(quota_v1), cmocka_unit_test(memory),
    };
    return cmocka_run_group_tests(tests, make, clean);
}
