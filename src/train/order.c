/* order.c - see order.h: a Feistel network over the smallest even number of bits that holds n, walked
 * until it gives a number below n. Both halves of the proof are short: each round can be undone, so
 * the network permutes; a walk along a permutation's cycle from below n comes back below n, and from
 * different starts to different ends. At most 4 walks are expected. */
#include "train/order.h"
#include "base/rng.h"

enum { ROUNDS = 6 };

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
    int half = (64 - __builtin_clzll(n - 1) + 1) / 2;          // 4^half >= n
    uint64_t mask = ((uint64_t)1 << half) - 1;
    do {
        uint64_t a = i >> half, b = i & mask;
        for (int r = 0; r < ROUNDS; r++) {
            uint64_t f = mix(mix(key + (uint64_t)(r + 1) * 0x9e3779b97f4a7c15u) + b) & mask;
            uint64_t t = a ^ f;
            a = b, b = t;
        }
        i = a << half | b;
    } while (i >= n);
    return i;
}
