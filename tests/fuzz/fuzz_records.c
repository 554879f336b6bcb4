/* fuzz_records.c - texts in every form, packed or not. The first byte chooses how the rest is read. */
#define _GNU_SOURCE              /* memfd_create */
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>
#include "fuzz.h"
#include "train/records.h"

enum { CHUNK = 64 };

/* Every record lies inside its chunk, and text of all but JSON lines is no longer than its record. */
static void read_all(records *r, bool json, dr_err *e)
{
    chunk c = {0};
    buf text = { .cap_max = 1 << 24 };
    int rc = 1;
    while (rc > 0) {
        chunk_reset(&c);
        rc = records_next(r, &c, CHUNK, e);
        for (int64_t i = 0; i < c.n_rec; i++) {
            DR_ASSERT(c.rec[i].at + c.rec[i].n <= c.n && c.rec[i].line > 0);
            if (record_text(&c, i, &text, e)) continue;
            DR_ASSERT(json || text.n <= c.rec[i].n);
            fuzz_touch(text.p, text.n);
        }
    }
    chunk_free(&c);
    buf_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    static char path[64];
    if (size < 1) return 0;
    if (fd < 0) {
        fd = memfd_create("fuzz", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    if (fd < 0 || ftruncate(fd, 0) || pwrite(fd, data + 1, size - 1, 0) != (ssize_t)size - 1) return 0;
    static const records_opt how[] = {
        { .format = RECORDS_JSONL }, { .format = RECORDS_CSV }, { .format = RECORDS_TSV },
        { .format = RECORDS_TEXT }, { .format = RECORDS_TEXT, .split = SPLIT_LINE },
        { .format = RECORDS_TEXT, .split = SPLIT_BLANK }, { .format = RECORDS_TEXT, .separator = "%" },
        { .format = RECORDS_AUTO },
    };
    const records_opt *o = &how[data[0] % 8];
    size_t live = mem_live_bytes();
    dr_err e = {0};
    records *r = records_open(path, o, &e);
    if (r) read_all(r, o->format == RECORDS_JSONL || o->format == RECORDS_AUTO, &e);
    records_file_free(records_close(r));
    DR_ASSERT(mem_live_bytes() == live);
    return 0;
}
