/* zip.h - read members of a zip archive held in memory (wheels and PyTorch files are zips), of
 * any size (zip64). No encryption, no multi-part archives: those are refused. spec: PKWARE
 * APPNOTE 6.3.
 * Ownership: a zip borrows the bytes; nothing is allocated but zlib's state while a member is
 * read. Immutable once open. */
#ifndef FORMAT_ZIP_H
#define FORMAT_ZIP_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "base/span.h"

typedef struct { const uint8_t *p; size_t n; size_t dir_at, dir_n; uint64_t n_entries; } zip;

typedef struct {
    span name;                  /* as stored; may hold "/" and "..": never a path to open */
    int method;                 /* 0 stored, 8 deflated */
    uint32_t crc;
    uint64_t packed, size;
    uint64_t header_at;
} zip_entry;

int zip_open(zip *z, const void *bytes, size_t n, dr_err *e);
/* Walk the directory: *at starts as 0. False at the end, or when the rest is broken. */
bool zip_next(const zip *z, size_t *at, zip_entry *x);
bool zip_find(const zip *z, const char *name, zip_entry *x);
/* Where a stored member's bytes are, x->size of them; a packed one is refused. Its CRC is not
 * looked at: it may be gigabytes. */
int zip_stored(const zip *z, const zip_entry *x, const uint8_t **bytes, dr_err *e);
/* Hand a member's bytes to sink piece by piece; size and CRC are checked, and never more than
 * x->size bytes are made. sink returns DR_OK or the code to stop with. */
int zip_read(const zip *z, const zip_entry *x, int (*sink)(void *arg, const void *p, size_t n),
             void *arg, dr_err *e);
#endif
