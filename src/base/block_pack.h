/* block_pack.h - integers into the bits of a block; block.h says which bit is whose, the
 * dequantisers of format/dequant.c are the way back. q: the block's weights in order, as the
 * unsigned numbers that the block holds. Static, since kernels include it. */
#ifndef BASE_BLOCK_PACK_H
#define BASE_BLOCK_PACK_H
#include <string.h>
#include "base/block.h"

/* Thirty-two weights of four bits (Q4_0, Q4_1, IQ4_NL, MXFP4), and of five. */
static inline void block_put_4(uint8_t qs[16], const uint8_t *q)
{
    for (int j = 0; j < 16; j++) qs[j] = (uint8_t)(q[j] | q[j + 16] << 4);
}

static inline void block_put_5(uint8_t qh[4], uint8_t qs[16], const uint8_t *q)
{
    uint32_t h = 0;
    for (int j = 0; j < 32; j++) h |= (uint32_t)(q[j] >> 4) << j;
    for (int j = 0; j < 16; j++) qs[j] = (uint8_t)((q[j] & 15) | (q[j + 16] & 15) << 4);
    for (int j = 0; j < 4; j++) qh[j] = (uint8_t)(h >> 8 * j);
}

/* The low two bits of 256 weights, as Q2_K and Q3_K hold them. */
static inline void block_put_2(uint8_t qs[64], const uint8_t *q)
{
    for (int i = 0; i < 64; i++) {
        const uint8_t *p = q + i / 32 * 128 + i % 32;
        qs[i] = (uint8_t)((p[0] & 3) | (p[32] & 3) << 2 | (p[64] & 3) << 4 | (p[96] & 3) << 6);
    }
}

static inline void block_put_k2(block_q2_k *b, const uint8_t *q, const uint8_t *sc,
                                const uint8_t *mn)
{
    for (int g = 0; g < 16; g++) b->scales[g] = (uint8_t)(sc[g] | mn[g] << 4);
    block_put_2(b->qs, q);
}

/* sc: 0..63, which stand for -32..31 */
static inline void block_put_k3(block_q3_k *b, const uint8_t *q, const uint8_t *sc)
{
    memset(b->scales, 0, sizeof b->scales);
    for (int g = 0; g < 16; g++) {
        b->scales[g % 8] |= (uint8_t)((sc[g] & 15) << g / 8 * 4);
        b->scales[8 + g % 4] |= (uint8_t)(sc[g] >> 4 << g / 4 * 2);
    }
    for (int i = 0; i < 32; i++) {
        unsigned h = 0;
        for (int j = 0; j < 8; j++) h |= (unsigned)(q[32 * j + i] >> 2) << j;
        b->hmask[i] = (uint8_t)h;
    }
    block_put_2(b->qs, q);
}

static inline void block_put_k4_scales(uint8_t s[12], const uint8_t *sc, const uint8_t *mn)
{
    for (int g = 0; g < 4; g++) {
        s[g] = (uint8_t)(sc[g] | sc[g + 4] >> 4 << 6);
        s[g + 4] = (uint8_t)(mn[g] | mn[g + 4] >> 4 << 6);
        s[g + 8] = (uint8_t)((sc[g + 4] & 15) | (mn[g + 4] & 15) << 4);
    }
}

static inline void block_put_k4(block_q4_k *b, const uint8_t *q, const uint8_t *sc,
                                const uint8_t *mn)
{
    block_put_k4_scales(b->scales, sc, mn);
    for (int i = 0; i < 128; i++) {
        const uint8_t *p = q + i / 32 * 64 + i % 32;
        b->qs[i] = (uint8_t)(p[0] | p[32] << 4);
    }
}

static inline void block_put_k5(block_q5_k *b, const uint8_t *q, const uint8_t *sc,
                                const uint8_t *mn)
{
    block_put_k4_scales(b->scales, sc, mn);
    for (int i = 0; i < 32; i++) {
        unsigned h = 0;
        for (int j = 0; j < 8; j++) h |= (unsigned)(q[32 * j + i] >> 4) << j;
        b->qh[i] = (uint8_t)h;
    }
    for (int i = 0; i < 128; i++) {
        const uint8_t *p = q + i / 32 * 64 + i % 32;
        b->qs[i] = (uint8_t)((p[0] & 15) | (p[32] & 15) << 4);
    }
}

static inline void block_put_k6(block_q6_k *b, const uint8_t *q, const int8_t *sc)
{
    memcpy(b->scales, sc, 16);
    for (int h = 0; h < 2; h++)
        for (int l = 0; l < 32; l++) {
            const uint8_t *p = q + 128 * h + l;
            b->ql[64 * h + l] = (uint8_t)((p[0] & 15) | (p[64] & 15) << 4);
            b->ql[64 * h + 32 + l] = (uint8_t)((p[32] & 15) | (p[96] & 15) << 4);
            b->qh[32 * h + l] = (uint8_t)(p[0] >> 4 | p[32] >> 4 << 2 | p[64] >> 4 << 4 |
                                          p[96] >> 4 << 6);
        }
}
#endif
