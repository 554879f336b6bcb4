/* order.c - see order.h: the swap-or-not shuffle, for which any n will do and small ones are shuffled
 * as well as large ones. Each round pairs every place x with k - x (mod n), k its own, and lets a
 * pair change places or not by one bit of a hash that both have alike.
 * Ref: Hoang, Morris, Rogaway 2012, "An Enciphering Scheme Based on a Card Shuffle". */
#include "train/order.h"
#include "base/rng.h"

__extension__ typedef unsigned __int128 u128;

uint64_t order_key(uint64_t seed, uint64_t a, uint64_t b, uint64_t c)
{
    uint32_t r[4];
    rng_philox(r, seed, a, b);
    rng_philox(r, (uint64_t)r[1] << 32 | r[0], (uint64_t)r[3] << 32 | r[2], c);
    return (uint64_t)r[1] << 32 | r[0];
}

/* Stafford's variant 13 of MurmurHash3's finalizer: every bit of x changes about half of all. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

uint64_t order_at(uint64_t key, uint64_t n, uint64_t i)
{
    if (n < 2) return 0;
    int rounds = 24 + 6 * (64 - __builtin_clzll(n - 1));
    for (int r = 0; r < rounds; r++) {
        uint64_t salt = mix(key + (uint64_t)(r + 1) * 0x9e3779b97f4a7c15u);
        uint64_t k = (uint64_t)((u128)salt * n >> 64), other = k >= i ? k - i : k + (n - i);
        uint64_t pair = i > other ? i : other;
        if (mix(salt + pair) >> 63) i = other;
    }
    return i;
}
