/* rd.h - a bounded reader over bytes we do not trust. Once a read runs past the end,
 * every later read gives zero: check rd_bad() where it matters, not at every field. */
#ifndef FORMAT_RD_H
#define FORMAT_RD_H
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include "base/span.h"

typedef struct { const uint8_t *p, *end; bool bad; } rd;

static inline bool rd_bad(const rd *r) { return r->bad; }

static inline const void *rd_bytes(rd *r, uint64_t n)
{
    if (r->bad || n > (uint64_t)(r->end - r->p)) { r->bad = true; return NULL; }
    const void *p = r->p;
    r->p += n;
    return p;
}
static inline uint32_t rd_u32(rd *r)                         /* little-endian files only */
{
    uint32_t v = 0;
    const void *p = rd_bytes(r, sizeof v);
    if (p) memcpy(&v, p, sizeof v);
    return v;
}
static inline uint64_t rd_u64(rd *r)
{
    uint64_t v = 0;
    const void *p = rd_bytes(r, sizeof v);
    if (p) memcpy(&v, p, sizeof v);
    return v;
}
static inline span rd_str(rd *r)
{
    uint64_t n = rd_u64(r);
    const char *p = rd_bytes(r, n);
    return (span){ p ? p : "", p ? (size_t)n : 0 };
}
#endif
