/* order.h - permutations by a key: element i without the others, no memory, no state. */
#ifndef TRAIN_ORDER_H
#define TRAIN_ORDER_H
#include <stdint.h>

/* A key out of a seed and up to three numbers that tell its uses apart. */
uint64_t order_key(uint64_t seed, uint64_t a, uint64_t b, uint64_t c);
/* Place i < n of the permutation of 0..n-1 that key gives; n >= 1. */
uint64_t order_at(uint64_t key, uint64_t n, uint64_t i);
#endif
