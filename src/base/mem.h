/* mem.h - every allocation of the program goes through here, so that tests can count them
 * and make each one fail. A failed allocation returns NULL and is reported as DR_ENOMEM. */
#ifndef BASE_MEM_H
#define BASE_MEM_H
#include <stdbool.h>
#include <stddef.h>

void *mem_alloc(size_t n);                    /* uninitialised; n 0 gives a valid pointer */
void *mem_zalloc(size_t count, size_t size);  /* zeroed; NULL too when count*size overflows */
void *mem_realloc(void *p, size_t n);         /* p is untouched on failure */
void *mem_aligned(size_t n);                  /* 128-byte aligned; freed by mem_free */
char *mem_strdup(const char *s);
char *mem_strndup(const char *s, size_t n);   /* exactly n bytes and a 0 */
void mem_free(void *p);                       /* NULL is fine */

/* Big private memory (KV caches, workspaces): whole pages straight from the kernel, zeroed,
 * huge pages asked for. */
void *mem_pages(size_t n);
void mem_pages_free(void *p, size_t n);

/* Tests only. After n further successes every allocation fails; -1 turns it off. */
void mem_fail_after(long n);
long mem_count(void);                         /* allocations made so far by this process */
size_t mem_live_bytes(void);                  /* bytes now held, pages included */
size_t mem_peak_bytes(void);                  /* the most ever held since the last mem_peak_reset */
void mem_peak_reset(void);
#endif
