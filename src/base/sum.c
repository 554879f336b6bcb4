/* sum.c - see sum.h: four chains of products of 64 bits by 64, whose halves are folded together,
 * so that a step of one waits for no other. */
#include "base/sum.h"
#include <string.h>

enum { CHAINS = 4, STEP = 16 * CHAINS };
__extension__ typedef unsigned __int128 u128;

/* The first digits of pi: any odd numbers without a pattern would do. */
static const uint64_t key[CHAINS] = { 0x243f6a8885a308d3, 0x13198a2e03707345, 0xa4093822299f31d1,
                                      0x082efa98ec4e6c89 };

static uint64_t fold(uint64_t a, uint64_t b)
{
    u128 m = (u128)a * b;
    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

/* STEP bytes into the chains. Each word is in a product with the chain's state or its key, so two
 * words that change places are not taken for one another. */
static void step(uint64_t h[CHAINS], const unsigned char *p)
{
    uint64_t w[2 * CHAINS];
    memcpy(w, p, sizeof w);
    for (int i = 0; i < CHAINS; i++) h[i] = fold(w[2 * i] ^ h[i], w[2 * i + 1] ^ key[i]) + w[2 * i];
}

uint32_t sum_bytes(const void *p, size_t n)
{
    const unsigned char *at = p;
    uint64_t h[CHAINS];
    memcpy(h, key, sizeof h);
    size_t left = n;
    for (; left >= STEP; left -= STEP, at += STEP) step(h, at);
    if (left) {
        unsigned char last[STEP] = { 0 };
        memcpy(last, at, left);
        step(h, last);
    }
    uint64_t all = n;
    for (int i = 0; i < CHAINS; i++) all = fold(all ^ h[i], key[i] + n);
    return (uint32_t)(all ^ all >> 32);
}
