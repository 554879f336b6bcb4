/* arena.c - see arena.h. */
#include "base/arena.h"
#include <stdint.h>
#include <string.h>
#include "base/mem.h"

bool arena_init(arena *a, size_t cap)
{
    *a = (arena){0};
    if (cap > SIZE_MAX - 64) return false;
    cap = (cap + 63) & ~(size_t)63;
    a->base = mem_aligned(cap);
    if (!a->base) return false;
    memset(a->base, 0, cap);
    a->cap = cap;
    return true;
}

void arena_free(arena *a) { mem_free(a->base); *a = (arena){0}; }

void *arena_take(arena *a, size_t n)
{
    if (n > SIZE_MAX - 64) return NULL;
    n = (n + 63) & ~(size_t)63;
    if (n > a->cap - a->used) return NULL;
    void *p = a->base + a->used;
    a->used += n;
    return p;
}
