/* fuzz_store.c - any bytes as the files of a folder of prefixes: opened, wanted from, closed. The input is cut
 * into files of 1,024 bytes, pages of one layer; where its first byte is odd, heads get a right checksum and their
 * own number and fingerprint, so that what they say is looked at, too. Files that can be used must give
 * pages, others must be gone. */
#define _GNU_SOURCE
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "engine/store_priv.h"
#include "fuzz.h"

enum { PAGES = 32, FILES = 8, BYTES = 1024 };
static const char PRINT[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
static char folder[64], inner[160];
static kv_cache c;
static prefix *p;

static void *take_pages(dev *d, size_t n) { (void)d; return mem_pages(n); }
static void give_pages(dev *d, void *b, size_t n) { (void)d; mem_pages_free(b, n); }
static dev fake = { .name = "fake", .alloc = take_pages, .free = give_pages };

static void clean(void)
{
    char path[256];
    DIR *d = opendir(inner);
    for (struct dirent *f; d && (f = readdir(d)); )
        if (f->d_name[0] != '.') {
            snprintf(path, sizeof path, "%s/%.60s", inner, f->d_name);
            unlink(path);
        }
    if (d) closedir(d);
    rmdir(inner);
    rmdir(folder);
}

static void begin(void)
{
    if (p) return;
    DR_ASSERT(!kv_init(&c, &fake, KV_F16, 1, 1, 2, PAGES * KV_PAGE, NULL) && c.page_bytes == BYTES - STORE_HEAD);
    p = prefix_new(&c, 1, NULL);
    DR_ASSERT(p);
    snprintf(folder, sizeof folder, "/dev/shm/drover-fuzz-XXXXXX");
    if (!mkdtemp(folder)) {
        snprintf(folder, sizeof folder, "/tmp/drover-fuzz-XXXXXX");
        DR_ASSERT(mkdtemp(folder));
    }
    snprintf(inner, sizeof inner, "%s/%s", folder, PRINT);
    atexit(clean);
}

static store *open_store(void)
{
    store_opt o = { .folder = folder, .fingerprint = PRINT, .bytes = 64 * BYTES, .n_ctx = PAGES * KV_PAGE };
    dr_err e = {0};
    store *s = store_open(&o, &c, p, &e);
    DR_ASSERT(s);
    return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    begin();
    store_free(open_store());                           /* the folder is there */
    fuzz_mark mark = fuzz_begin(size);
    bool seal = data[0] & 1;
    data++, size--;
    for (size_t i = 0; i < FILES && i * BYTES < size; i++) {
        union { page_head h; uint8_t b[BYTES]; } u;
        size_t n = size - i * BYTES < BYTES ? size - i * BYTES : BYTES;
        memcpy(u.b, data + i * BYTES, n);
        if (seal && n == BYTES) {
            memcpy(u.h.print, PRINT, sizeof u.h.print);
            u.h.number = i + 1, u.h.bytes = BYTES - STORE_HEAD;
            page_head_seal(&u.h);
        }
        char path[256];
        snprintf(path, sizeof path, "%s/%016zx.page", inner, i + 1);
        FILE *f = fopen(path, "wb");
        DR_ASSERT(f && fwrite(u.b, 1, n, f) == n && !fclose(f));
    }
    store *s = open_store();
    int32_t tok[FILES * KV_PAGE];                       /* the way of the files in order, and of each alone */
    for (size_t first = 0; first < FILES; first++) {
        int n = 0;
        for (size_t i = first; i < FILES && (i + 1) * BYTES <= size; i++, n += KV_PAGE)
            memcpy(tok + n, data + i * BYTES + offsetof(page_head, tok), KV_PAGE * sizeof *tok);
        while (store_want(s, tok, n)) {
            nanosleep(&(struct timespec){ .tv_nsec = 20000 }, NULL);
            store_poll(s);
        }
        fuzz_touch(tok, (size_t)prefix_match(p, 0, tok, n, NULL));
    }
    store_free(s);
    prefix_forget(p, 0);
    DR_ASSERT(c.n_free == PAGES && !c.n_idle);
    s = open_store();                                   /* what is left is as it should be */
    store_stats st;
    store_stats_get(s, &st);
    DR_ASSERT(st.damaged == 0);
    store_free(s);
    for (size_t i = 0; i < FILES; i++) {
        char path[256];
        snprintf(path, sizeof path, "%s/%016zx.page", inner, i + 1);
        unlink(path);
    }
    fuzz_end(mark);
    return 0;
}
