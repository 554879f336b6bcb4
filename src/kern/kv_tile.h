/* kv_tile.h - where one head's keys and values lie in a page of a Q8_0 or Q4_0 cache; shared by
 * kern, which reads tiles, and dev, which writes positions into them.
 *
 * A head of hs elements is B = hs / 32 blocks. K first, then V, each 64 * B * (2 + bytes) bytes:
 *
 *     K   scales (B,64) f16      K is transposed: scores have positions in the lanes
 *         Q8_0 (hs,64) int8
 *         Q4_0 (B,16,64): byte i of block b has element 32b+i low, 32b+16+i high
 *     V   scales (64,B) f16
 *         Q8_0 (64,hs) int8
 *         Q4_0 (64,B,16), nibbles likewise
 */
#ifndef KERN_KV_TILE_H
#define KERN_KV_TILE_H
#include <stddef.h>
#include <stdint.h>
#include "kern/kern.h"

/* Bytes of the values of a block, and of a head's K or V. */
static inline size_t kv_tile_block(int bits) { return (size_t)(QBLOCK / 8 * bits); }
static inline size_t kv_tile_bytes(int bits, int hs)
{
    return (size_t)ATTN_TILE * (size_t)(hs / QBLOCK) * (2 + kv_tile_block(bits));
}
/* Bytes of the scales, which come before the values. */
static inline size_t kv_tile_scales(int hs)
{
    return (size_t)ATTN_TILE * (size_t)(hs / QBLOCK) * sizeof(uint16_t);
}
#endif
