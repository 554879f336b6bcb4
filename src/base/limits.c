/* limits.c - see limits.h. */
#include "base/limits.h"
#include <stdio.h>
#include <string.h>
#include "base/os.h"

enum { PATH = 1024, GROUPS_MAX = 1 << 16 };

/* The text of a small file: false when it is not there. */
static bool text_of(buf *b, const char *root, const char *dir, const char *name)
{
    char path[PATH];
    buf_reset(b);
    if (snprintf(path, sizeof path, "%s%s/%s", root, dir, name) >= (int)sizeof path) return false;
    return os_exists(path) && os_read(b, path, NULL) == DR_OK && b->n > 0;
}

/* ---- CPUs ---- */

/* The lowest CPU of the mask that a list such as "0-1,8" names; -1: none. */
static int first_of(const char *s, const bool *may, int n)
{
    int best = -1;
    for (char *end; *s; s = *end ? end + 1 : end) {
        long a = strtol(s, &end, 10), b = a;
        if (end == s) break;
        if (*end == '-') b = strtol(end + 1, &end, 10);
        for (long i = a < 0 ? 0 : a; i <= b && i < n; i++)
            if (may[i] && (best < 0 || i < best)) best = (int)i;
    }
    return best;
}

static int count_cores(const char *root, const bool *may, int n)
{
    buf b = { .cap_max = 1 << 16 };
    int cores = 0;
    for (int i = 0; i < n; i++) {
        char dir[96];
        if (!may[i]) continue;
        snprintf(dir, sizeof dir, "/sys/devices/system/cpu/cpu%d/topology", i);
        bool known = text_of(&b, root, dir, "thread_siblings_list");
        int first = known ? first_of(buf_str(&b), may, n) : i;
        cores += first < 0 || first == i;
    }
    buf_free(&b);
    return cores;
}

/* ---- control groups ---- */

typedef void group_fn(void *arg, const char *root, const char *dir, bool v2);

/* A group's folder and those above it, up to where its kind is mounted. */
static void climb(const char *root, const char *mount, const char *group, size_t n, bool v2,
                  group_fn *fn, void *arg)
{
    char dir[PATH];
    if (snprintf(dir, sizeof dir, "%s%.*s", mount, (int)n, group) >= (int)sizeof dir) return;
    for (size_t top = strlen(mount);;) {
        size_t len = strlen(dir);
        while (len > top && dir[len - 1] == '/') dir[--len] = 0;
        fn(arg, root, dir, v2);
        if (len <= top) return;
        while (len > top && dir[len - 1] != '/') dir[--len] = 0;
    }
}

static bool names(const char *list, size_t n, const char *controller)
{
    size_t k = strlen(controller);
    for (size_t i = 0; i + k <= n; i++)
        if (!strncmp(list + i, controller, k) && (i == 0 || list[i - 1] == ',') &&
            (i + k == n || list[i + k] == ',')) return true;
    return false;
}

/* Each group that this process is in and that may limit what `controller` counts. A line of
 * /proc/self/cgroup is NUMBER:CONTROLLERS:PATH, the second version's with no controllers. */
static void each_group(const char *root, const char *controller, group_fn *fn, void *arg)
{
    buf b = { .cap_max = GROUPS_MAX };
    if (!text_of(&b, root, "/proc/self", "cgroup")) buf_reset(&b);
    for (const char *s = buf_str(&b), *end; *s; s = *end ? end + 1 : end) {
        end = s + strcspn(s, "\n");
        const char *list = memchr(s, ':', (size_t)(end - s));
        const char *group = list ? memchr(list + 1, ':', (size_t)(end - list - 1)) : NULL;
        if (!group) continue;
        size_t n_list = (size_t)(group - ++list), n = (size_t)(end - ++group);
        char mount[PATH];
        if (n_list == 0) {
            climb(root, "/sys/fs/cgroup", group, n, true, fn, arg);
            climb(root, "/sys/fs/cgroup/unified", group, n, true, fn, arg);
        } else if (names(list, n_list, controller)) {
            snprintf(mount, sizeof mount, "/sys/fs/cgroup/%.*s", (int)n_list, list);
            climb(root, mount, group, n, false, fn, arg);
            snprintf(mount, sizeof mount, "/sys/fs/cgroup/%s", controller);
            if (!(n_list == strlen(controller))) climb(root, mount, group, n, false, fn, arg);
        }
    }
    buf_free(&b);
}

static void cpu_quota(void *arg, const char *root, const char *dir, bool v2)
{
    int *most = arg;
    buf b = { .cap_max = 4096 };
    long long quota = -1, period = 0;
    if (v2 && text_of(&b, root, dir, "cpu.max")) {
        if (sscanf(buf_str(&b), "%lld %lld", &quota, &period) != 2) quota = -1;     /* "max" */
    } else if (!v2 && text_of(&b, root, dir, "cpu.cfs_quota_us")) {
        quota = strtoll(buf_str(&b), NULL, 10);
        if (text_of(&b, root, dir, "cpu.cfs_period_us")) period = strtoll(buf_str(&b), NULL, 10);
    }
    if (quota > 0 && period > 0 && quota / period < *most) {
        int n = (int)(quota / period + (quota % period != 0));
        if (n < *most) *most = n;
    }
    buf_free(&b);
}

int limits_cores(const char *root, const bool *may, int n)
{
    int cores = count_cores(root, may, n);
    if (cores < 1) return 1;
    each_group(root, "cpu", cpu_quota, &cores);
    return cores;
}

static size_t number(const char *s) { return (size_t)strtoull(s, NULL, 10); }

/* The value of a line "key value" of memory.stat. */
static size_t stat_of(const char *s, const char *key)
{
    size_t k = strlen(key);
    for (; s && *s; s = strchr(s, '\n'), s = s ? s + 1 : NULL)
        if (!strncmp(s, key, k) && s[k] == ' ') return number(s + k);
    return 0;
}

static void memory_left(void *arg, const char *root, const char *dir, bool v2)
{
    size_t *least = arg, limit = 0, used = 0, cache = 0;
    buf b = { .cap_max = 1 << 16 };
    /* "max" reads as 0; the first version's "no limit" is a number near 2^63 */
    if (text_of(&b, root, dir, v2 ? "memory.max" : "memory.limit_in_bytes"))
        limit = number(buf_str(&b));
    bool limited = limit > 0 && limit < (size_t)1 << 60;
    if (limited && text_of(&b, root, dir, v2 ? "memory.current" : "memory.usage_in_bytes"))
        used = number(buf_str(&b));
    if (limited && text_of(&b, root, dir, "memory.stat"))
        cache = stat_of(buf_str(&b), v2 ? "inactive_file" : "total_inactive_file") +
                stat_of(buf_str(&b), v2 ? "active_file" : "total_active_file");
    used -= cache < used ? cache : used;
    size_t left = limit - (used < limit ? used : limit);
    if (limited && left < *least) *least = left;
    buf_free(&b);
}

size_t limits_memory(const char *root)
{
    size_t least = SIZE_MAX;
    each_group(root, "memory", memory_left, &least);
    return least;
}
