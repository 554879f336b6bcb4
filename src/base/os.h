/* os.h - files, mappings, clock: what differs between systems stays in os.c. */
#ifndef BASE_OS_H
#define BASE_OS_H
#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"

/* Bytes of a huge page, of which page tables and the translation buffer hold one entry. */
enum { OS_HUGE = 2 << 20 };

/* A read-only file mapping. Owns the mapping; os_unmap accepts a zeroed one. An empty file
 * maps as p = "" and n = 0. A large one is mapped in huge pages as far as the page cache holds it
 * in pieces of that size: docs/decisions/030. */
typedef struct { const uint8_t *p; size_t n; uint64_t dev, ino; bool ours; } os_file;
int os_map(os_file *f, const char *path, dr_err *e);
void os_unmap(os_file *f);
/* The mapped file opened for reading beside its mapping; -1: it is not there, or another one is. */
int os_reopen(const os_file *f, const char *path);
/* n bytes from byte `at` of an open file; fewer are an error. path is for the sentence. */
int os_read_at(int fd, uint64_t at, void *dst, size_t n, const char *path, dr_err *e);
/* What of some memory is there, and what of that in huge pages. */
typedef struct { size_t resident, huge; } os_pages;
/* Of [p,p+n), private memory: what this process has mapped of it now. false: unknown. */
bool os_pages_of(const void *p, size_t n, os_pages *out);
/* Of a mapped file: what of it is in the page cache, found without reading from the disk. false:
 * unknown, as it is for files of others. */
bool os_pages_cached(const os_file *f, os_pages *out);
/* n > 0 bytes of the file fd, read-only and shared, or with -1 private ones, zeroed and writable.
 * Large ones (OS_HUGE, private twice that) begin at a multiple of OS_HUGE, huge pages asked for. To
 * be given back by munmap; NULL: errno says why. */
void *os_map_aligned(int fd, size_t n);
/* Bring n mapped bytes in, that the system will read next: a write from pages that are not there is begun
 * again for each, what it had for the file cleared. */
void os_bring_in(const void *p, size_t n);

/* The whole of a small text file into *b (cap is b's); stdin when path is "-". */
int os_read(buf *b, const char *path, dr_err *e);
/* Write beside `path`, flush to disk, rename over it: never a half-written file. */
int os_write(const char *path, const void *p, size_t n, dr_err *e);
/* The same for what does not fit in memory: open, any number of writes, then keep (flush and
 * rename) or drop. Bytes go to `path`.part until then, in whole pieces of OS_HUGE, which is what
 * makes the page cache hold them in huge pages. After a failure only drop is allowed; dropping a
 * zeroed or kept one does nothing. */
typedef struct { int fd; char *path, *tmp; uint64_t pos; char *held; size_t n_held; } os_out;
int os_out_open(os_out *o, const char *path, dr_err *e);
int os_out_put(os_out *o, const void *p, size_t n, dr_err *e);
int os_out_keep(os_out *o, dr_err *e);
void os_out_drop(os_out *o);

/* Takes the bytes of a file, front to back. */
typedef int (*write_fn)(void *arg, const void *p, size_t n, dr_err *e);

bool os_is_dir(const char *path);
bool os_exists(const char *path);
int os_mkdirs(const char *path, dr_err *e);     /* like mkdir -p */
int os_sync_dir(const char *path, dr_err *e);   /* what was renamed in it stays so after a loss of power */
bool os_same_file(const char *a, const char *b);    /* both exist and are one */
uint64_t os_disk_free(const char *path);        /* bytes for this user; 0: unknown */
int64_t os_now_ns(void);                        /* monotonic */
/* Bytes this process holds privately now and at its peak (RssAnon, VmHWM-like); 0: unknown. */
size_t os_private_bytes(void);
/* This process to its operator: resident bytes, seconds of the cores' time, open descriptors, and when
 * it began, seconds since 1970. What the system does not say is 0. */
typedef struct { size_t resident; double cpu_s, start_s; int files; } os_self;
void os_self_get(os_self *out);
size_t os_free_memory(void);                    /* MemAvailable, or what limits_memory leaves */
#endif
