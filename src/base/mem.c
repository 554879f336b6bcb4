/* mem.c - see mem.h. The size of a block is asked of the C library (malloc_usable_size), so
 * the counts need no header in front of it. */
#define _GNU_SOURCE
#include "base/mem.h"
#include <malloc.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "base/os.h"

static atomic_long fail_after = -1, n_allocs;
static atomic_size_t live, peak;

void mem_fail_after(long n) { atomic_store(&fail_after, n); }
long mem_count(void) { return atomic_load(&n_allocs); }
size_t mem_live_bytes(void) { return atomic_load(&live); }
size_t mem_peak_bytes(void) { return atomic_load(&peak); }
void mem_peak_reset(void) { atomic_store(&peak, atomic_load(&live)); }

static bool refused(void)
{
    long n = atomic_load(&fail_after);
    if (n < 0) return false;
    if (n == 0) return true;
    atomic_fetch_sub(&fail_after, 1);
    return false;
}

static void grew(size_t n)
{
    atomic_fetch_add(&n_allocs, 1);
    size_t now = atomic_fetch_add(&live, n) + n, top = atomic_load(&peak);
    while (now > top && !atomic_compare_exchange_weak(&peak, &top, now)) { }
}

static void *counted(void *p)
{
    if (p) grew(malloc_usable_size(p));
    return p;
}

void *mem_alloc(size_t n) { return refused() ? NULL : counted(malloc(n ? n : 1)); }

void *mem_zalloc(size_t count, size_t size)
{
    if (size && count > SIZE_MAX / size) return NULL;
    return refused() ? NULL : counted(calloc(count ? count : 1, size ? size : 1));
}

void *mem_realloc(void *p, size_t n)
{
    if (refused()) return NULL;
    size_t old = p ? malloc_usable_size(p) : 0;
    void *q = realloc(p, n ? n : 1);
    if (!q) return NULL;
    atomic_fetch_sub(&live, old);
    return counted(q);
}

void *mem_aligned(size_t n)
{
    if (n > SIZE_MAX - 128) return NULL;
    n = (n + 127) & ~(size_t)127;
    return refused() ? NULL : counted(aligned_alloc(128, n ? n : 128));
}

char *mem_strndup(const char *s, size_t n)
{
    char *p = mem_alloc(n + 1);
    if (!p) return NULL;
    memcpy(p, s, n);
    p[n] = 0;
    return p;
}

char *mem_strdup(const char *s) { return mem_strndup(s, strlen(s)); }

void mem_free(void *p)
{
    if (!p) return;
    atomic_fetch_sub(&live, malloc_usable_size(p));
    free(p);
}

void *mem_pages(size_t n)
{
    if (refused()) return NULL;
    void *p = os_map_aligned(-1, n ? n : 1);
    if (p) grew(n);
    return p;
}

void mem_pages_free(void *p, size_t n)
{
    if (!p) return;
    munmap(p, n ? n : 1);
    atomic_fetch_sub(&live, n);
}
