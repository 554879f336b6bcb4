/* shard.h - token ids of many documents in one file that is mapped.
 *
 * Layout, little-endian, described in docs/data.md: a head (128 bytes), n_tok ids of 2 or 4 bytes,
 * zeros to a multiple of 8, starts (n_docs+1) of 8 bytes, a checksum for each SHARD_BLOCK bytes of
 * what lies between, a tail (64 bytes). Every byte is under some checksum. Head, tail, index and
 * the table of checksums are checked when a shard is opened; a block of ids when it is first read,
 * so that opening costs nothing and nothing broken is trained on.
 * Threads: a writer and a reader each belong to one thread at a time. */
#ifndef TRAIN_SHARD_H
#define TRAIN_SHARD_H
#include <stdbool.h>
#include "base/hash.h"
#include "base/os.h"

enum { SHARD_VERSION = 1, SHARD_BLOCK = 1 << 16 };

/* What all shards of one preparation share, and which of them this is. */
typedef struct {
    int32_t vocab;               /* every id is below; up to 65,536 have 2 bytes each, others 4 */
    char tokenizer[HASH_HEX];    /* SHA-256 in hex of the tokenizer's tokens, "" when not known */
    uint64_t set;                /* the same in all shards of one preparation */
    uint32_t part;               /* 0, 1, … */
    bool last;                   /* the set has no further part */
    uint64_t n_tok, n_docs;
} shard_info;

typedef struct {
    shard_info info;
    os_file file;
    bool borrowed;               /* the bytes are the caller's */
    char *path;
    const uint8_t *tok, *index, *sums;   /* in the file */
    uint64_t n_blocks;
    uint8_t *seen;               /* a bit for each block: it was checked */
} shard;

/* Map and check. DR_EFORMAT says the file's name and at which byte it is broken. */
int shard_open(shard *s, const char *path, dr_err *e);
/* The same over bytes in memory, which stay the caller's; name is for messages. */
int shard_from_bytes(shard *s, const void *bytes, size_t n, const char *name, dr_err *e);
void shard_close(shard *s);                                    /* a zeroed one is fine */
/* Ids of document d < n_docs, of which there may be none. */
uint64_t shard_len(const shard *s, uint64_t d);
/* Ids [at, at+n) of document d into out, their blocks checked; a range beyond the document's end and an
 * id that is not below vocab are DR_EFORMAT. */
int shard_read(shard *s, uint64_t d, uint64_t at, uint64_t n, int32_t *out, dr_err *e);
/* Check every block now. */
int shard_check(shard *s, dr_err *e);

/* All the shards of one set: a folder of them, or one file that is its set's only one or is taken
 * alone. Documents are numbered through. */
typedef struct { shard *s; uint64_t *first; int n; uint64_t n_docs, n_tok; } shard_set;  /* first (n+1) */
int shards_open(shard_set *set, const char *path, dr_err *e);
void shards_close(shard_set *set);
/* The shard that holds document d < n_docs of the set; *d becomes its number there. */
shard *shards_find(const shard_set *set, uint64_t *d);

/* Writing one, front to back. n_tok and n_docs of info are counted. */
typedef struct {
    shard_info info;
    os_out out;
    uint64_t *start;             /* of each document so far */
    uint64_t cap;
    uint32_t *sum;
    uint64_t n_sums, sums_cap;
    uint8_t *block;              /* the block being filled */
    uint32_t fill;
} shard_out;
int shard_out_open(shard_out *o, const char *path, const shard_info *info, dr_err *e);
/* One document's ids, each below vocab: DR_EINVAL if not. */
int shard_out_doc(shard_out *o, const int32_t *id, uint64_t n, dr_err *e);
/* Finish the file and put it in place. */
int shard_out_keep(shard_out *o, bool last, dr_err *e);
void shard_out_drop(shard_out *o);                             /* zeroed and kept ones are fine */
#endif
