/* fuzz_zip.c - zip archives: the directory, and every member to its end. */
#include "format/zip.h"
#include "fuzz.h"

enum { ENOUGH = 4 << 20 };               /* a small archive may unpack to gigabytes */

static int take(void *arg, const void *p, size_t n)
{
    size_t *all = arg;
    fuzz_touch(p, n);
    *all += n;
    return *all > ENOUGH ? DR_ECANCEL : DR_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_mark m = fuzz_begin(size);
    zip z;
    zip_entry x;
    dr_err e = {0};
    size_t all = 0;
    if (zip_open(&z, data, size, &e) == DR_OK) {
        const uint8_t *p;
        for (size_t at = 0; all <= ENOUGH && zip_next(&z, &at, &x);) {
            size_t before = all;
            e = (dr_err){0};
            fuzz_touch(x.name.p, x.name.n);
            if (zip_stored(&z, &x, &p, &e) == DR_OK && x.size)
                fuzz_touch(p, 1), fuzz_touch(p + x.size - 1, 1);
            if (zip_read(&z, &x, take, &all, &e) == DR_OK)
                DR_ASSERT(all - before == x.size || all > ENOUGH);
        }
    } else {
        DR_ASSERT(e.code && e.msg[0]);
    }
    fuzz_end(m);
    return 0;
}
