/* test_store.c - prefixes on disk: there after a restart, refused when damaged or another model's, within
 * their limit, harmless when the disk is full. Pages hold numbers that say what they are of. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/mem.h"
#include "base/os.h"
#include "engine/store.h"

enum { PAGES = 64, LEN = 16 * KV_PAGE, L = 3, FILE_BYTES = 512 + L * 4096 };
static const char *const PRINT = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

static void *take_pages(dev *d, size_t n) { (void)d; return mem_pages(n); }
static void give_pages(dev *d, void *p, size_t n) { (void)d; mem_pages_free(p, n); }
static dev fake = { .name = "fake", .alloc = take_pages, .free = give_pages };

typedef struct {
    kv_cache c;
    prefix *p;
    store *s;
} world;

static char folder[64];
static int woken;
static void wake(void *arg) { (void)arg; __atomic_fetch_add(&woken, 1, __ATOMIC_RELAXED); }

static void open_world(world *w, const char *print, int64_t bytes)
{
    dr_err e = {0};
    assert_int_equal(kv_init(&w->c, &fake, KV_F32, L, 1, 8, PAGES * KV_PAGE, &e), DR_OK);
    w->p = prefix_new(&w->c, 1, &e);
    assert_non_null(w->p);
    store_opt o = { .folder = folder, .fingerprint = print, .bytes = bytes, .n_ctx = LEN, .wake = wake };
    w->s = store_open(&o, &w->c, w->p, &e);
    if (!w->s) fail_msg("%s", e.msg);
}

static void close_world(world *w)
{
    store_free(w->s);
    assert_int_equal(w->c.n_free + prefix_held(w->p), PAGES);   /* no page is held any more */
    prefix_free(w->p);
    assert_int_equal(w->c.n_free, PAGES);
    kv_free(&w->c);
}

static void begin(void)
{
    snprintf(folder, sizeof folder, "/dev/shm/drover-store-XXXXXX");
    if (!mkdtemp(folder)) {
        snprintf(folder, sizeof folder, "/tmp/drover-store-XXXXXX");
        assert_non_null(mkdtemp(folder));
    }
}

/* A file, or a folder with all in it. */
static void wipe(const char *path)
{
    DIR *d = opendir(path);
    char sub[512];
    for (struct dirent *f; d && (f = readdir(d)); )
        if (strcmp(f->d_name, ".") && strcmp(f->d_name, "..")) {
            snprintf(sub, sizeof sub, "%.200s/%.255s", path, f->d_name);
            wipe(sub);
        }
    if (d) closedir(d);
    remove(path);
}

/* The path of the store's own folder, or of a file in it. */
static const char *inside(const char *print, const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s/%s", folder, print, name);
    return path;
}

static int by_name(const void *a, const void *b) { return strcmp(a, b); }

/* Files whose name ends so; the name of number k in order to `name`. */
static int files(const char *print, const char *end, int k, char name[32])
{
    static char all[128][32];
    DIR *d = opendir(inside(print, ""));
    int n = 0;
    for (struct dirent *f; d && (f = readdir(d)); )
        if (strlen(f->d_name) > strlen(end) && !strcmp(f->d_name + strlen(f->d_name) - strlen(end), end)) {
            assert_true(n < 128);
            snprintf(all[n++], sizeof *all, "%.31s", f->d_name);
        }
    if (d) closedir(d);
    qsort(all, (size_t)n, sizeof *all, by_name);
    if (name) snprintf(name, 32, "%s", all[k]);
    return n;
}

static void end(void)
{
    wipe(folder);
    assert_false(os_exists(folder));
}

/* ---- sequences ---- */

static void tokens(int32_t *tok, int n, int kind, int same)
{
    for (int i = 0; i < n; i++) tok[i] = i < same ? i : kind * 1000 + i;
}

static uint64_t content(const int32_t *tok, int pos, int l)
{
    uint64_t h = (uint64_t)l + 1;
    for (int i = 0; i <= pos; i++) h = (h ^ (uint32_t)tok[i]) * 0x9e3779b97f4a7c15u ^ h >> 31;
    return h;
}

static uint64_t *cell(world *w, int32_t page, int l, int pos)
{
    return (uint64_t *)(void *)(kv_at(&w->c, l).base + (size_t)page * w->c.page_bytes) + pos % KV_PAGE;
}

/* Evaluate tok (n,), leave it in the tree and in the store. */
static void keep(world *w, const int32_t *tok, int n)
{
    dr_err e = {0};
    kv_seq q;
    assert_int_equal(kv_seq_init(&q, LEN, &e), DR_OK);
    int from = prefix_take(w->p, 0, tok, n, &q);
    int pages = kv_grow_pages(&w->c, &q, n - from);
    if (pages > w->c.n_free) prefix_evict(w->p, pages - w->c.n_free);
    assert_int_equal(kv_grow(&w->c, &q, n - from, &e), DR_OK);
    for (int i = from; i < n; i++)
        for (int l = 0; l < L; l++) *cell(w, q.page[i / KV_PAGE], l, i) = content(tok, i, l);
    kv_advance(&q, n - from);
    prefix_put(w->p, 0, tok, n, &q);
    store_keep(w->s, tok, n, &q);
    kv_seq_free(&w->c, &q);
}

static void settle(world *w)
{
    for (int i = 0; ; i++) {
        store_poll(w->s);
        store_stats st;
        store_stats_get(w->s, &st);
        if (w->c.n_free + prefix_held(w->p) == PAGES && prefix_idle(w->p) == prefix_held(w->p)) return;
        assert_true(i < 5000);
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
    }
}

/* How much of tok comes from the disk or the tree; what comes is as it should be. */
static int want(world *w, const int32_t *tok, int n)
{
    dr_err e = {0};
    for (int i = 0; store_want(w->s, tok, n); i++) {
        assert_true(i < 5000);
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
        store_poll(w->s);
    }
    kv_seq q;
    assert_int_equal(kv_seq_init(&q, LEN, &e), DR_OK);
    int len = prefix_take(w->p, 0, tok, n, &q);
    for (int i = 0; i < len; i++)
        for (int l = 0; l < L; l++)
            if (*cell(w, q.page[i / KV_PAGE], l, i) != content(tok, i, l)) fail_msg("position %d is another's", i);
    kv_seq_free(&w->c, &q);
    return len;
}

/* ---- tests ---- */

static void restart(void **state)
{
    (void)state;
    world w;
    int32_t a[LEN], b[LEN], other[LEN];
    tokens(a, LEN, 1, 0), tokens(b, LEN, 2, 300), tokens(other, LEN, 3, 0);
    memcpy(b, a, 300 * sizeof *a);
    begin();
    open_world(&w, PRINT, 1 << 30);
    keep(&w, a, 500);                                       /* 7 whole pages */
    settle(&w);
    keep(&w, b, 640);                                       /* 10, of which it shares 4 */
    settle(&w);
    assert_false(store_want(w.s, a, 500));                  /* the tree has it */
    assert_true(__atomic_load_n(&woken, __ATOMIC_RELAXED) > 0);
    close_world(&w);
    assert_int_equal(files(PRINT, ".page", 0, NULL), 13);

    for (int again = 0; again < 3; again++) {               /* and not by being written anew */
        open_world(&w, PRINT, 1 << 30);
        assert_int_equal(prefix_held(w.p), 0);
        assert_int_equal(want(&w, other, LEN), 0);
        assert_int_equal(want(&w, a, 499), 448);
        assert_int_equal(want(&w, b, LEN), 640);
        assert_int_equal(prefix_held(w.p), 13);
        store_stats st;
        store_stats_get(w.s, &st);
        assert_true(st.read == 13 && st.written == 0 && st.damaged == 0 && st.failed == 0 && st.pages == 13);
        close_world(&w);
    }
    open_world(&w, PRINT, 1 << 30);                         /* what follows is added to what is there */
    assert_int_equal(want(&w, b, LEN), 640);
    keep(&w, b, LEN);                                       /* 6 more */
    close_world(&w);                                        /* which waits for it */
    open_world(&w, PRINT, 1 << 30);
    assert_int_equal(want(&w, b, LEN), LEN);
    close_world(&w);
    end();
}

static void other_model(void **state)
{
    (void)state;
    world w;
    char print[65], name[32] = "", path[256];
    int32_t a[LEN];
    tokens(a, LEN, 1, 0);
    begin();
    open_world(&w, PRINT, 1 << 30);
    keep(&w, a, 500);
    close_world(&w);
    memcpy(print, PRINT, sizeof print);
    print[0] = 'f';
    open_world(&w, print, 1 << 30);
    assert_int_equal(want(&w, a, 500), 0);
    close_world(&w);
    /* a file of one model in the folder of another is not used, and not kept */
    assert_int_equal(files(PRINT, ".page", 0, name), 7);
    snprintf(path, sizeof path, "%s", inside(PRINT, name));
    assert_int_equal(link(path, inside(print, name)), 0);
    open_world(&w, print, 1 << 30);
    assert_int_equal(want(&w, a, 500), 0);
    close_world(&w);
    assert_int_equal(files(print, ".page", 0, NULL), 0);
    open_world(&w, PRINT, 1 << 30);
    assert_int_equal(want(&w, a, 500), 448);
    /* nor is the folder used by two at once */
    dr_err e = {0};
    store_opt o = { .folder = folder, .fingerprint = PRINT, .bytes = 1 << 30, .n_ctx = LEN };
    assert_null(store_open(&o, &w.c, w.p, &e));
    assert_int_equal(e.code, DR_EBUSY);
    o.bytes = 1000;
    o.fingerprint = print;
    e = (dr_err){0};
    assert_null(store_open(&o, &w.c, w.p, &e));
    assert_int_equal(e.code, DR_EINVAL);
    o.folder = "/proc/nothing";
    e = (dr_err){0};
    assert_null(store_open(&o, &w.c, w.p, &e));
    assert_int_equal(e.code, DR_EIO);
    close_world(&w);
    end();
}

/* Change byte `at` of a file by xor, or cut the file there (x 0). */
static void harm(const char *path, long at, int x)
{
    if (!x) {
        assert_int_equal(truncate(path, at), 0);
        return;
    }
    FILE *f = fopen(path, "r+b");
    fseek(f, at, SEEK_SET);
    int c = fgetc(f);
    fseek(f, at, SEEK_SET);
    fputc(c ^ x, f);
    fclose(f);
}

/* Any byte changed, any length: what is read is right, what is damaged goes, and what comes after it. */
static void damage(void **state)
{
    (void)state;
    world w;
    int32_t a[LEN];
    tokens(a, LEN, 1, 0);
    const int n = 5 * KV_PAGE;
    begin();
    int cases = 0;
    for (long at = 0; at < FILE_BYTES; at += at < 380 ? 5 : 397)
        for (int how = 0; how < 3; how++) {
            char name[32] = "";
            open_world(&w, PRINT, 1 << 30);
            keep(&w, a, n);                                 /* writes what was lost in the case before */
            close_world(&w);
            int bad = (int)(at % 5);                        /* the first, second … page */
            assert_int_equal(files(PRINT, ".page", bad, name), 5);
            bool late = how == 2;
            bool in_pad = how && at >= 368 && at < 512;     /* 0s behind the head, that nobody reads */
            if (!late) harm(inside(PRINT, name), at, how ? 1 << at % 8 : 0);
            open_world(&w, PRINT, 1 << 30);
            if (late) harm(inside(PRINT, name), at, 64);    /* while it is in use */
            int got = want(&w, a, n);
            if (got != (in_pad ? n : bad * KV_PAGE))
                fail_msg("byte %ld of page %d, case %d: %d positions", at, bad, how, got);
            store_stats st;
            store_stats_get(w.s, &st);
            assert_int_equal(st.damaged, !in_pad);
            close_world(&w);
            int left = files(PRINT, ".page", 0, NULL);
            bool read = late || (how && at >= 512);         /* found when it was read, not at the start */
            if (left != (in_pad ? 5 : read ? 4 : bad))
                fail_msg("byte %ld of page %d, case %d: %d files stay", at, bad, how, left);
            cases++;
        }
    assert_true(cases > 300);
    end();
}

static void full_disk(void **state)
{
    (void)state;
    world w;
    int32_t a[LEN], b[LEN];
    tokens(a, LEN, 1, 0), tokens(b, LEN, 2, 0);
    begin();
    open_world(&w, PRINT, 1 << 30);
    keep(&w, b, 3 * KV_PAGE);
    settle(&w);
    struct rlimit old, small;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    small = (struct rlimit){ .rlim_cur = FILE_BYTES / 2, .rlim_max = old.rlim_max };
    setrlimit(RLIMIT_FSIZE, &small);
    keep(&w, a, 500);
    settle(&w);
    setrlimit(RLIMIT_FSIZE, &old);
    store_stats st;
    store_stats_get(w.s, &st);
    assert_true(st.failed >= 1 && st.written == 3);
    assert_int_equal(files(PRINT, ".part", 0, NULL), 0);
    assert_int_equal(files(PRINT, ".page", 0, NULL), 3);
    assert_int_equal(want(&w, a, 500), 500);                /* from the tree, as ever */
    keep(&w, a, 500);                                       /* writing pauses */
    settle(&w);
    assert_int_equal(files(PRINT, ".page", 0, NULL), 3);
    close_world(&w);
    open_world(&w, PRINT, 1 << 30);
    assert_int_equal(want(&w, b, LEN), 3 * KV_PAGE);
    keep(&w, a, 500);
    close_world(&w);
    assert_int_equal(files(PRINT, ".page", 0, NULL), 10);
    end();
}

static void within_limit(void **state)
{
    (void)state;
    world w;
    int32_t a[LEN], b[LEN], c[LEN];
    tokens(a, LEN, 1, 0), tokens(b, LEN, 2, 0), tokens(c, LEN, 3, 0);
    begin();
    open_world(&w, PRINT, 10 * FILE_BYTES);
    keep(&w, a, 6 * KV_PAGE);
    settle(&w);
    keep(&w, b, 4 * KV_PAGE);
    settle(&w);
    keep(&w, a, 2 * KV_PAGE);                               /* the first pages of a are used again */
    keep(&w, c, 5 * KV_PAGE);
    settle(&w);
    close_world(&w);
    assert_int_equal(files(PRINT, ".page", 0, NULL), 10);
    open_world(&w, PRINT, 10 * FILE_BYTES);
    assert_int_equal(want(&w, c, LEN), 5 * KV_PAGE);
    assert_int_equal(want(&w, b, LEN), 3 * KV_PAGE);        /* 4 of a were the oldest, then one of b */
    assert_int_equal(want(&w, a, LEN), 2 * KV_PAGE);
    close_world(&w);
    open_world(&w, PRINT, 4 * FILE_BYTES);                  /* a smaller limit: the last used stay, whole ways */
    int left = want(&w, a, LEN) + want(&w, b, LEN) + want(&w, c, LEN);
    assert_int_equal(left, 4 * KV_PAGE);
    assert_int_equal(want(&w, a, LEN), 2 * KV_PAGE);        /* read last */
    close_world(&w);
    assert_int_equal(files(PRINT, ".page", 0, NULL), 4);
    /* one way longer than the limit: its beginning */
    open_world(&w, PRINT, 4 * FILE_BYTES);
    keep(&w, b, LEN);
    settle(&w);
    close_world(&w);
    open_world(&w, PRINT, 4 * FILE_BYTES);
    assert_int_equal(want(&w, b, LEN), 4 * KV_PAGE);
    close_world(&w);
    end();
}

/* A cache in which there is no room: as much as there is comes, pages in use are left alone. */
static void little_memory(void **state)
{
    (void)state;
    world w;
    dr_err e = {0};
    int32_t a[LEN];
    tokens(a, LEN, 1, 0);
    begin();
    open_world(&w, PRINT, 1 << 30);
    for (int n = 8 * KV_PAGE; n <= LEN; n += 8 * KV_PAGE) { /* an eighth of the cache at a time */
        keep(&w, a, n);
        settle(&w);
    }
    close_world(&w);
    open_world(&w, PRINT, 1 << 30);
    kv_seq all;
    assert_int_equal(kv_seq_init(&all, PAGES * KV_PAGE, &e), DR_OK);
    assert_int_equal(kv_grow(&w.c, &all, (PAGES - 3) * KV_PAGE, &e), DR_OK);
    assert_int_equal(want(&w, a, LEN), 3 * KV_PAGE);
    assert_false(store_want(w.s, a, LEN));
    kv_seq_free(&w.c, &all);
    assert_int_equal(want(&w, a, LEN), LEN);
    close_world(&w);
    end();
}

static void no_memory(void **state)
{
    (void)state;
    world w;
    int32_t a[LEN];
    dr_err e;
    tokens(a, LEN, 1, 0);
    begin();
    open_world(&w, PRINT, 1 << 30);
    keep(&w, a, 500);
    long count = mem_count();
    settle(&w);
    assert_int_equal(mem_count(), count);
    store_free(w.s);
    w.s = NULL;
    size_t live = mem_live_bytes();
    store_opt o = { .folder = folder, .fingerprint = PRINT, .bytes = 1 << 30, .n_ctx = LEN };
    for (long k = 0; ; k++) {
        mem_fail_after(k);
        e = (dr_err){0};
        store *s = store_open(&o, &w.c, w.p, &e);
        mem_fail_after(-1);
        bool done = s != NULL;
        store_free(s);
        assert_int_equal(mem_live_bytes(), live);
        if (done) break;
        assert_int_equal(e.code, DR_ENOMEM);
    }
    close_world(&w);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(restart), cmocka_unit_test(other_model), cmocka_unit_test(damage),
        cmocka_unit_test(full_disk), cmocka_unit_test(within_limit), cmocka_unit_test(little_memory),
        cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
