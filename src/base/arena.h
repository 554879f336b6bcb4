/* arena.h - memory with one lifetime. Carve many, free once; nothing is freed alone. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H
#include <stdbool.h>
#include <stddef.h>

typedef struct { char *base; size_t used, cap; } arena;

bool arena_init(arena *a, size_t cap);         /* false: no memory */
void arena_free(arena *a);
void *arena_take(arena *a, size_t n);          /* 64-byte aligned, zeroed; NULL: full */
#endif
