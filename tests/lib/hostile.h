/* hostile.h - what every parser of bytes must survive: each truncation, each bit flip, each
 * failing allocation. A parser is wrapped as `int parse(const void *bytes, size_t n, dr_err *e)`
 * that also reads what it got and frees it. Include after cmocka.h; jansson's memory is counted
 * and failed too once hostile_begin was called. */
#ifndef TESTS_HOSTILE_H
#define TESTS_HOSTILE_H
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include "base/err.h"
#include "base/mem.h"

typedef int (*hostile_fn)(const void *bytes, size_t n, dr_err *e);

static inline void hostile_begin(void) { json_set_alloc_funcs(mem_alloc, mem_free); }

/* Parse a copy of exactly n bytes, so that a sanitizer sees the first one read behind them. No
 * memory may be kept, and no more taken than the bound of all parsers, twice the file and 4 MB. */
static inline int hostile_once(hostile_fn fn, const void *bytes, size_t n, dr_err *e)
{
    uint8_t *p = mem_alloc(n);
    assert_non_null(p);
    memcpy(p, bytes, n);
    size_t live = mem_live_bytes();
    mem_peak_reset();
    *e = (dr_err){0};
    int rc = fn(p, n, e);
    if (mem_peak_bytes() - live > 2 * n + ((size_t)4 << 20))
        fail_msg("%zu bytes of file took %zu bytes of memory", n, mem_peak_bytes() - live);
    if (mem_live_bytes() != live)
        fail_msg("%zu bytes were not freed", mem_live_bytes() - live);
    if (rc != DR_OK && (e->code != rc || !e->msg[0]))
        fail_msg("code %d, but the message is %d \"%s\"", rc, e->code, e->msg);
    mem_free(p);
    return rc;
}

/* Every file that is cut short must be refused. */
static inline void hostile_truncate(hostile_fn fn, const void *bytes, size_t n)
{
    dr_err e;
    for (size_t k = 0; k < n; k++)
        if (hostile_once(fn, bytes, k, &e) == DR_OK)
            fail_msg("%zu of %zu bytes were accepted", k, n);
    if (hostile_once(fn, bytes, n, &e) != DR_OK) fail_msg("the whole is refused: %s", e.msg);
}

/* Each bit turned over, and each byte set to 0 and 255. `step` thins long files out. */
static inline void hostile_flip(hostile_fn fn, const void *bytes, size_t n, size_t step)
{
    uint8_t *p = mem_alloc(n);
    assert_non_null(p);
    memcpy(p, bytes, n);
    dr_err e;
    for (size_t i = 0; i < n; i += step) {
        uint8_t old = p[i];
        for (int b = 0; b < 10; b++) {
            p[i] = b < 8 ? (uint8_t)(old ^ 1 << b) : b == 8 ? 0 : 255;
            hostile_once(fn, p, n, &e);
        }
        p[i] = old;
    }
    mem_free(p);
}

/* The nth allocation fails, for every n, until all are granted. json: jansson sometimes calls
 * its own want of memory a syntax error, so any code will do. */
static inline void hostile_nomem(hostile_fn fn, const void *bytes, size_t n, bool json)
{
    dr_err e;
    for (long k = 0; ; k++) {
        assert_true(k < 100000);
        size_t live = mem_live_bytes();
        mem_fail_after(k);
        e = (dr_err){0};
        int rc = fn(bytes, n, &e);
        mem_fail_after(-1);
        if (mem_live_bytes() != live)
            fail_msg("allocation %ld fails: %zu bytes were not freed", k,
                     mem_live_bytes() - live);
        if (rc == DR_OK) {
            assert_true(k > 0);
            return;
        }
        if (rc != DR_ENOMEM && !json) fail_msg("allocation %ld fails: code %d, \"%s\"", k, rc, e.msg);
    }
}
#endif
