/* names.h - find an entry of a table by its name: open addressing over 32-bit slots.
 * The hash is keyed at run time, so a file cannot be made whose names all collide.
 * Ownership: the slots are the caller's memory; names stay where they are. */
#ifndef FORMAT_NAMES_H
#define FORMAT_NAMES_H
#include <stdint.h>
#include "base/span.h"

typedef struct {
    uint32_t *slot;                  /* entry number + 1; 0: free */
    uint32_t mask;                   /* slots - 1, a power of two less one */
    uint64_t seed;
} name_index;

uint64_t names_seed(void);                       /* differs from run to run */
uint64_t names_hash(span s, uint64_t seed);

/* Slots for n entries: a power of two, at most 3/4 full. n < 2^30. */
static inline uint32_t names_slots(uint64_t n)
{
    uint32_t k = 4;
    while ((uint64_t)k * 3 / 4 < n) k *= 2;
    return k;
}

/* slot: names_slots(n) zeroed words. */
static inline name_index names_make(uint32_t *slot, uint64_t n)
{
    return (name_index){ slot, names_slots(n) - 1, names_seed() };
}

/* The slot of the entry called s, or the free one where it belongs. base is the first name of
 * a table of `stride` bytes an entry. */
static inline uint32_t *names_at(const name_index *x, const void *base, size_t stride, span s)
{
    uint32_t i = (uint32_t)names_hash(s, x->seed) & x->mask;
    for (; x->slot[i]; i = (i + 1) & x->mask) {
        const span *have = (const span *)((const char *)base + (x->slot[i] - 1) * stride);
        if (span_eq(*have, s)) break;
    }
    return &x->slot[i];
}
#endif
