/* shard_layout.h - where things are in a token shard; shared by its reader and its writer.
 *
 *     head, 128 bytes:  magic 8, version u32, bytes of an id u32, vocabulary u32, part u32, set u64,
 *                       tokenizer's SHA-256 32, bytes of a block u32, SHARD_NAMED or 0
 *                       u32, zeros, checksum of all that u32
 *     tail, 64 bytes:   ids u64, documents u64, flags u32 (1: the last part), checksum of the table of
 *                       checksums u32, zeros, checksum of all that u32, magic 8 */
#ifndef TRAIN_SHARD_LAYOUT_H
#define TRAIN_SHARD_LAYOUT_H

enum {
    SHARD_HEAD = 128, SHARD_HEAD_SUM = 124,
    SHARD_TAIL = 64, SHARD_TAIL_SUM = 52,
    SHARD_LAST = 1,
    SHARD_NAMED = 2                /* the tokenizer is known, by shard_tokenizer; 1: by another rule */
};
/* SHARD_SIGN bytes at the start and at the end of a file */
#define SHARD_MAGIC "drshard\n"
#define SHARD_END "\ndrshend"
enum { SHARD_SIGN = 8 };

#define SHARD_WIDTH(vocab) ((vocab) <= 65536 ? 2u : 4u)
#define SHARD_ROUND(bytes) (((bytes) + 7) / 8 * 8)
#endif
