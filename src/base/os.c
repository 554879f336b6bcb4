/* os.c - see os.h. The only file that names system calls of one system. */
#define _GNU_SOURCE
#include "base/os.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>
#include "base/limits.h"
#include "base/mem.h"

void *os_map_aligned(int fd, size_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), end = (n + page - 1) & ~(page - 1);
    int prot = fd < 0 ? PROT_READ | PROT_WRITE : PROT_READ;
    int how = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
    /* room to find the multiple in; what is before and behind is given back */
    char *room = n < (fd < 0 ? 2 : 1) * (size_t)OS_HUGE || end < n || end > SIZE_MAX - OS_HUGE ? MAP_FAILED :
                 mmap(NULL, end + OS_HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                      -1, 0);
    if (room == MAP_FAILED) {
        void *p = mmap(NULL, n, prot, how, fd, 0);
        return p == MAP_FAILED ? NULL : p;
    }
    size_t before = -(size_t)(uintptr_t)room & (OS_HUGE - 1);
    char *at = room + before;
    if (mmap(at, n, prot, how | MAP_FIXED, fd, 0) == MAP_FAILED) {
        int err = errno;
        munmap(room, end + OS_HUGE);
        errno = err;
        return NULL;
    }
    if (before) munmap(room, before);
    if (before < OS_HUGE) munmap(at + end, OS_HUGE - before);
    madvise(at, n, MADV_HUGEPAGE);
    return at;
}

void os_bring_in(const void *p, size_t n)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), at = (uintptr_t)p & ~(page - 1);
#ifdef MADV_POPULATE_READ
    madvise((void *)at, (uintptr_t)p + n - at, MADV_POPULATE_READ);
#else
    madvise((void *)at, (uintptr_t)p + n - at, MADV_WILLNEED);
#endif
}

int os_map(os_file *f, const char *path, dr_err *e)
{
    *f = (os_file){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return err_set(e, DR_EIO, "cannot open %s: %s", path, strerror(errno));
    struct stat st;
    int rc = DR_OK;
    if (fstat(fd, &st)) {
        rc = err_set(e, DR_EIO, "cannot stat %s: %s", path, strerror(errno));
    } else if (S_ISDIR(st.st_mode)) {
        rc = err_set(e, DR_EIO, "%s is a folder, a file is wanted", path);
    } else if (st.st_size == 0) {
        f->p = (const uint8_t *)"";
    } else {
        void *p = os_map_aligned(fd, (size_t)st.st_size);
        if (!p)
            rc = err_set(e, DR_EIO, "cannot map %s: %s", path, strerror(errno));
        else
            *f = (os_file){ p, (size_t)st.st_size, (uint64_t)st.st_dev, (uint64_t)st.st_ino,
                            geteuid() == 0 || geteuid() == st.st_uid };
    }
    close(fd);
    return rc;
}

void os_unmap(os_file *f)
{
    if (f->n) munmap((void *)f->p, f->n);
    *f = (os_file){0};
}

int os_reopen(const os_file *f, const char *path)
{
    struct stat st;
    int fd = f->n ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return -1;
    if (fstat(fd, &st) == 0 && (uint64_t)st.st_dev == f->dev && (uint64_t)st.st_ino == f->ino)
        return fd;
    close(fd);
    return -1;
}

int os_read_at(int fd, uint64_t at, void *dst, size_t n, const char *path, dr_err *e)
{
    for (size_t got = 0; got < n;) {
        ssize_t k = pread(fd, (char *)dst + got, n - got, (off_t)(at + got));
        if (k > 0) got += (size_t)k;
        else if (k == 0)
            return err_set(e, DR_EIO, "%s became shorter while it was read: it ends at %llu", path,
                           (unsigned long long)(at + got));
        else if (errno != EINTR)
            return err_set(e, DR_EIO, "cannot read %s: %s", path, strerror(errno));
    }
    return DR_OK;
}

bool os_pages_of(const void *p, size_t n, os_pages *out)
{
    static const char *const key[] = { "Rss:", "AnonHugePages:", "FilePmdMapped:" };
    FILE *f = fopen("/proc/self/smaps", "r");
    char line[512];
    size_t sum[3] = {0};
    bool in = false;
    if (!f) return false;
    while (fgets(line, sizeof line, f)) {
        unsigned long long a, b;
        if (sscanf(line, "%llx-%llx ", &a, &b) == 2)
            in = a < (uintptr_t)p + n && (uintptr_t)p < b;
        for (int i = 0; in && i < 3; i++)
            if (!strncmp(line, key[i], strlen(key[i])))
                sum[i] += (size_t)strtoull(line + strlen(key[i]), NULL, 10) * 1024;
    }
    fclose(f);
    /* memory beside it may be in the same entry */
    size_t huge = sum[1] + sum[2];
    *out = (os_pages){ sum[0] < n ? sum[0] : n, huge < n ? huge : n };
    return true;
}

bool os_pages_cached(const os_file *f, os_pages *out)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), cached = 0;
    unsigned char in[OS_HUGE / 4096];
    if (!f->n || !f->ours) return false;
    for (size_t at = 0; at < f->n; at += OS_HUGE) {
        size_t n = f->n - at < OS_HUGE ? f->n - at : OS_HUGE, k = (n + page - 1) / page, have = 0;
        if (mincore((void *)(f->p + at), n, in)) return false;
        for (size_t i = 0; i < k; i++) have += in[i] & 1;
        cached += have == k ? n : have * page;
        /* a look at a page that is there maps it as large as the page cache holds it */
        if (have == k) *(const volatile uint8_t *)(f->p + at);
    }
    if (!os_pages_of(f->p, f->n, out)) return false;
    out->resident = cached;
    return true;
}

int os_read(buf *b, const char *path, dr_err *e)
{
    int fd = strcmp(path, "-") ? open(path, O_RDONLY | O_CLOEXEC) : 0;
    if (fd < 0) return err_set(e, DR_EIO, "cannot open %s: %s", path, strerror(errno));
    char part[65536];
    ssize_t n;
    while ((n = read(fd, part, sizeof part)) > 0 || (n < 0 && errno == EINTR))
        if (n > 0) buf_put(b, part, (size_t)n);
    int err = errno;
    if (fd) close(fd);
    if (n < 0) return err_set(e, DR_EIO, "cannot read %s: %s", path, strerror(err));
    if (b->bad) return err_set(e, DR_ENOMEM, "%s is larger than the %zu bytes allowed here",
                               path, b->cap_max);
    return DR_OK;
}

int os_out_open(os_out *o, const char *path, dr_err *e)
{
    size_t n = strlen(path) + 6;
    *o = (os_out){ .fd = -1, .path = mem_strdup(path), .tmp = mem_alloc(n) };
    if (!o->path || !o->tmp) {
        os_out_drop(o);
        return err_nomem(e, 2 * n, "file name");
    }
    snprintf(o->tmp, n, "%s.part", path);
    o->fd = open(o->tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (o->fd >= 0) return DR_OK;
    int rc = err_set(e, DR_EIO, "cannot create %s: %s", o->tmp, strerror(errno));
    os_out_drop(o);
    return rc;
}

static int write_all(os_out *o, const char *p, size_t n, dr_err *e)
{
    for (size_t at = 0; at < n;) {
        ssize_t w = write(o->fd, p + at, n - at);
        if (w > 0) at += (size_t)w;
        else if (w == 0 || errno != EINTR)
            return err_set(e, DR_EIO, "cannot write %s: %s", o->path,
                           w == 0 ? "the system took no bytes" : strerror(errno));
    }
    o->pos += n;
    return DR_OK;
}

static int write_held(os_out *o, dr_err *e)
{
    size_t n = o->n_held;
    o->n_held = 0;
    return n ? write_all(o, o->held, n, e) : DR_OK;
}

int os_out_put(os_out *o, const void *p, size_t n, dr_err *e)
{
    int rc = DR_OK;
    for (const char *s = p; rc == DR_OK && n;) {
        size_t left = OS_HUGE - (o->pos + o->n_held) % OS_HUGE, k = n < left ? n : left;
        if (!o->n_held && n >= left) {               // whole pieces need no copy
            k = n - (o->pos + n) % OS_HUGE;
            rc = write_all(o, s, k, e);
        } else if (!o->held && !(o->held = mem_pages(OS_HUGE))) {
            rc = write_all(o, s, k, e);              // without the memory, as they come
        } else {
            memcpy(o->held + o->n_held, s, k);
            o->n_held += k;
            if (k == left) rc = write_held(o, e);
        }
        s += k, n -= k;
    }
    return rc;
}

int os_out_keep(os_out *o, dr_err *e)
{
    int rc = write_held(o, e), fd = o->fd;
    if (rc != DR_OK) return rc;
    o->fd = -1;
    if (fsync(fd)) rc = err_set(e, DR_EIO, "cannot write %s: %s", o->path, strerror(errno));
    if (close(fd) && rc == DR_OK)
        rc = err_set(e, DR_EIO, "cannot write %s: %s", o->path, strerror(errno));
    if (rc == DR_OK && rename(o->tmp, o->path))
        rc = err_set(e, DR_EIO, "cannot rename %s to %s: %s", o->tmp, o->path, strerror(errno));
    if (rc == DR_OK) {
        mem_free(o->tmp);
        o->tmp = NULL;                           // nothing left to remove
    }
    os_out_drop(o);
    return rc;
}

void os_out_drop(os_out *o)
{
    if (o->tmp) {
        if (o->fd >= 0) close(o->fd);
        unlink(o->tmp);
    }
    mem_free(o->path);
    mem_free(o->tmp);
    mem_pages_free(o->held, OS_HUGE);
    *o = (os_out){ .fd = -1 };
}

int os_write(const char *path, const void *p, size_t n, dr_err *e)
{
    os_out o;
    int rc = os_out_open(&o, path, e);
    if (rc == DR_OK) rc = os_out_put(&o, p, n, e);
    if (rc == DR_OK) rc = os_out_keep(&o, e);
    os_out_drop(&o);
    return rc;
}

bool os_is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool os_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

int os_mkdirs(const char *path, dr_err *e)
{
    char *p = mem_strdup(path);
    if (!p) return err_nomem(e, strlen(path), "path");
    int rc = DR_OK;
    for (char *s = p + 1; rc == DR_OK; s++) {
        if (*s && *s != '/') continue;
        char keep = *s;
        *s = 0;
        if (mkdir(p, 0755) && errno != EEXIST)
            rc = err_set(e, DR_EIO, "cannot create folder %s: %s", p, strerror(errno));
        *s = keep;
        if (!keep) break;
    }
    mem_free(p);
    return rc;
}

int os_sync_dir(const char *path, dr_err *e)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), bad = fd < 0 || fsync(fd), err = errno;
    if (fd >= 0) close(fd);
    /* EINVAL: this file system has no such thing */
    if (!bad || err == EINVAL) return DR_OK;
    return err_set(e, DR_EIO, "cannot flush folder %s: %s", path, strerror(err));
}

int64_t os_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The number after `key` in a /proc text file, in bytes (the file gives kB). */
static size_t proc_kb(const char *path, const char *key)
{
    buf b;
    buf_init(&b, 1 << 16);
    size_t n = 0;
    if (os_read(&b, path, NULL) == DR_OK) {
        const char *s = strstr(buf_str(&b), key);
        if (s) n = (size_t)strtoull(s + strlen(key), NULL, 10) * 1024;
    }
    buf_free(&b);
    return n;
}

size_t os_private_bytes(void) { return proc_kb("/proc/self/status", "RssAnon:"); }

/* Field 22 of /proc/self/stat is when it began, in ticks since the system did; the name in field 2 may
 * hold anything. */
static double start_of_self(void)
{
    char text[1024] = "";
    struct timespec now, up;
    unsigned long long ticks;
    FILE *f = fopen("/proc/self/stat", "r");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f) fclose(f);
    text[n] = 0;
    char *p = strrchr(text, ')');
    for (int field = 2; p && field < 22; field++) p = strchr(p + 1, ' ');
    if (!p || sscanf(p, "%llu", &ticks) != 1 || clock_gettime(CLOCK_REALTIME, &now) ||
        clock_gettime(CLOCK_BOOTTIME, &up)) return 0;
    return (double)now.tv_sec - (double)up.tv_sec + (double)ticks / (double)sysconf(_SC_CLK_TCK);
}

void os_self_get(os_self *out)
{
    struct rusage u;
    *out = (os_self){ .resident = proc_kb("/proc/self/status", "VmRSS:"), .start_s = start_of_self() };
    if (!getrusage(RUSAGE_SELF, &u))
        out->cpu_s = (double)u.ru_utime.tv_sec + (double)u.ru_stime.tv_sec +
                     1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
    DIR *d = opendir("/proc/self/fd");
    for (struct dirent *x; d && (x = readdir(d));) out->files += x->d_name[0] != '.';
    if (d) closedir(d), out->files--;                /* the folder's own */
}

size_t os_free_memory(void)
{
    size_t n = proc_kb("/proc/meminfo", "MemAvailable:"), left = limits_memory("");
    return left < n ? left : n;
}

uint64_t os_disk_free(const char *path)
{
    struct statvfs v;
    return statvfs(path, &v) == 0 ? (uint64_t)v.f_bavail * v.f_frsize : 0;
}

bool os_same_file(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}
