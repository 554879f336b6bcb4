/* fuzz.h - what every fuzz target checks besides not crashing: no memory is kept, and no more is
 * taken than twice the input and 4 MB, the bound of all parsers. */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include "base/err.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct { size_t live, n; } fuzz_mark;

static inline fuzz_mark fuzz_begin(size_t n)
{
    static int once;
    if (!once++) json_set_alloc_funcs(mem_alloc, mem_free);
    mem_peak_reset();
    return (fuzz_mark){ mem_live_bytes(), n };
}

static inline void fuzz_end(fuzz_mark m)
{
    DR_ASSERT(mem_live_bytes() == m.live);
    DR_ASSERT(mem_peak_bytes() - m.live <= 2 * m.n + ((size_t)4 << 20));
}

/* Read bytes in a way that no compiler drops. */
static inline void fuzz_touch(const void *p, size_t n)
{
    unsigned sum = 0;
    for (size_t i = 0; i < n; i++) sum += ((const uint8_t *)p)[i];
    __asm__ volatile("" : : "r"(sum));
}
#endif
