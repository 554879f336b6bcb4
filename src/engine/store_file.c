/* store_file.c - a page of the cache as a file (store.h): written beside its name and renamed, checked when
 * it is read. The checksums catch damage, not malice: values are only ever read as numbers. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include "base/mem.h"
#include "base/os.h"
#include "engine/store_priv.h"

static const char magic[8] = "DRVRPG01";
enum { NAME = 32, IOV = 64 };
_Static_assert(sizeof(page_head) <= STORE_HEAD, "a head has its place");

/* A step of a chain. Each is a bijection of h, so a changed word changes the sum; the shift brings the upper
 * bits down, without which two changes of the highest one would cancel. */
static uint64_t chain(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 32;
}

/* Four chains side by side, then one over them. */
static uint64_t sum_of(uint64_t seed, const void *p, size_t n)
{
    const uint8_t *b = p;
    uint64_t h[4] = { seed, seed ^ 1, seed ^ 2, seed ^ 3 }, v[4];
    for (; n >= sizeof v; n -= sizeof v, b += sizeof v) {
        memcpy(v, b, sizeof v);
        for (int i = 0; i < 4; i++) h[i] = chain(h[i], v[i]);
    }
    for (; n; n--, b++) h[0] = chain(h[0], *b);
    for (int i = 1; i < 4; i++) h[0] = chain(h[0], h[i]);
    return h[0];
}

static const uint64_t SEED = 0xcbf29ce484222325u;

static char *layer_at(const page_dir *d, int l, int32_t page)
{
    return kv_at(d->c, l).base + (size_t)page * d->c->page_bytes;
}

static uint64_t page_sum(const page_dir *d, int32_t page)
{
    uint64_t h = SEED;
    for (int l = 0; l < d->c->L; l++) h = sum_of(h, layer_at(d, l, page), d->c->page_bytes);
    return h;
}

static void name_of(char *s, uint64_t number, const char *end) { snprintf(s, NAME, "%016" PRIx64 "%s", number, end); }

bool page_head_good(const page_head *h, const char *print, size_t bytes, uint64_t number)
{
    if (memcmp(h->magic, magic, sizeof magic) || memcmp(h->print, print, sizeof h->print)) return false;
    if (h->head_sum != sum_of(SEED, h, offsetof(page_head, head_sum))) return false;
    return h->number == number && h->before < number && h->bytes == bytes;
}

void page_head_seal(page_head *h)
{
    memcpy(h->magic, magic, sizeof magic);
    h->head_sum = sum_of(SEED, h, offsetof(page_head, head_sum));
}

/* ---- the folder ---- */

int page_dir_open(page_dir *d, const char *folder, const char *print, const kv_cache *c, dr_err *e)
{
    *d = (page_dir){ .dir = -1, .lock = -1, .c = c, .bytes = (size_t)c->L * c->page_bytes };
    size_t n = strlen(folder) + STORE_PRINT + 1;
    if (strlen(print) != STORE_PRINT - 1)
        return err_set(e, DR_EINVAL, "a fingerprint of %zu digits: %d were wanted", strlen(print), STORE_PRINT - 1);
    memcpy(d->print, print, STORE_PRINT);
    char *path = mem_alloc(n);
    if (!path) return err_nomem(e, n, "the name of a folder");
    snprintf(path, n, "%s/%s", folder, print);
    int rc = os_mkdirs(path, e);
    if (!rc) {
        d->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (d->dir >= 0) d->lock = openat(d->dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (d->lock < 0) rc = err_set(e, DR_EIO, "prefixes cannot be kept in %s: %s", path, strerror(errno));
        else if (flock(d->lock, LOCK_EX | LOCK_NB))
            rc = err_set(e, DR_EBUSY, "prefixes in %s are another process's", path);
    }
    mem_free(path);
    if (rc) page_dir_close(d);
    return rc;
}

void page_dir_close(page_dir *d)
{
    if (d->lock >= 0) close(d->lock);
    if (d->dir >= 0) close(d->dir);
    d->dir = d->lock = -1;
}

/* The number in a name of ours, "….page" or, *part, "….part"; 0: another's. */
static uint64_t number_in(const char *name, bool *part)
{
    uint64_t v = 0;
    for (int i = 0; i < 16; i++) {
        const char *digits = "0123456789abcdef", *p = name[i] ? strchr(digits, name[i]) : NULL;
        if (!p) return 0;
        v = v << 4 | (uint64_t)(p - digits);
    }
    *part = !strcmp(name + 16, ".part");
    return *part || !strcmp(name + 16, ".page") ? v : 0;
}

static bool read_all(int fd, void *p, size_t n)
{
    for (char *b = p; n; ) {
        ssize_t got = read(fd, b, n);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        b += got;
        n -= (size_t)got;
    }
    return true;
}

static bool read_head(const page_dir *d, int fd, uint64_t number, page_head *h)
{
    char raw[STORE_HEAD];
    if (!read_all(fd, raw, sizeof raw)) return false;
    memcpy(h, raw, sizeof *h);
    return page_head_good(h, d->print, d->bytes, number);
}

int page_dir_each(page_dir *d, int (*fn)(void *arg, const page_head *h, int64_t used_ns), void *arg, uint64_t *damaged,
                  dr_err *e)
{
    int fd = openat(d->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *all = fd < 0 ? NULL : fdopendir(fd);
    if (!all) {
        if (fd >= 0) close(fd);
        return err_set(e, DR_EIO, "the folder of prefixes cannot be read: %s", strerror(errno));
    }
    int rc = DR_OK;
    for (struct dirent *f; !rc && (f = readdir(all)); ) {
        bool part = false, good = false;
        uint64_t number = number_in(f->d_name, &part);
        if (!number) continue;
        page_head h;
        struct stat st;
        int in = part ? -1 : openat(d->dir, f->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        if (in >= 0) {
            good = !fstat(in, &st) && S_ISREG(st.st_mode) && (uint64_t)st.st_size == STORE_HEAD + d->bytes &&
                   read_head(d, in, number, &h);
            close(in);
        }
        if (good) {
            rc = fn(arg, &h, (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec);
        } else {
            unlinkat(d->dir, f->d_name, 0);
            *damaged += !part;
        }
    }
    closedir(all);
    return rc;
}

/* ---- a page ---- */

/* The whole of a page's layers from or to a file. */
static bool transfer(const page_dir *d, int fd, int32_t page, ssize_t (*fn)(int, const struct iovec *, int))
{
    size_t done = 0;
    while (done < d->bytes) {
        struct iovec v[IOV];
        int n = 0;
        size_t layer = done / d->c->page_bytes, skip = done % d->c->page_bytes;
        for (; n < IOV && layer + (size_t)n < (size_t)d->c->L; n++, skip = 0)
            v[n] = (struct iovec){ layer_at(d, (int)layer + n, page) + skip, d->c->page_bytes - skip };
        ssize_t got = fn(fd, v, n);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        done += (size_t)got;
    }
    return true;
}

/* The time of last use is the file's, finer than the system's own, which ticks in milliseconds. */
static void used_now(int fd)
{
    struct timespec t[2] = { { .tv_nsec = UTIME_OMIT } };
    clock_gettime(CLOCK_REALTIME, &t[1]);
    futimens(fd, t);
}

bool page_read(const page_dir *d, uint64_t number, uint64_t before, const int32_t *tok, int32_t page, bool *damaged)
{
    char name[NAME];
    name_of(name, number, ".page");
    int fd = openat(d->dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    *damaged = false;
    if (fd < 0) return false;
    page_head h;
    *damaged = true;
    bool good = read_head(d, fd, number, &h) && h.before == before && !memcmp(h.tok, tok, sizeof h.tok) &&
                transfer(d, fd, page, readv) && page_sum(d, page) == h.sum;
    if (good) used_now(fd);
    close(fd);
    *damaged = !good;
    return good;
}

bool page_write(const page_dir *d, uint64_t number, uint64_t before, const int32_t *tok, int32_t page)
{
    char name[NAME], part[NAME];
    name_of(name, number, ".page");
    name_of(part, number, ".part");
    union { page_head h; char raw[STORE_HEAD]; } u;
    memset(&u, 0, sizeof u);
    page_head *h = &u.h;
    memcpy(h->print, d->print, sizeof h->print);
    h->number = number, h->before = before, h->bytes = d->bytes;
    memcpy(h->tok, tok, sizeof h->tok);
    h->sum = page_sum(d, page);
    page_head_seal(h);
    int fd = openat(d->dir, part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return false;
    bool good = write(fd, u.raw, sizeof u.raw) == (ssize_t)sizeof u.raw && transfer(d, fd, page, writev);
    if (good) used_now(fd);
    good = close(fd) == 0 && good && renameat(d->dir, part, d->dir, name) == 0;
    if (!good) unlinkat(d->dir, part, 0);
    return good;
}

void page_remove(const page_dir *d, uint64_t number)
{
    char name[NAME];
    name_of(name, number, ".page");
    unlinkat(d->dir, name, 0);
}
