/* store_priv.h - between the store's tree (store.c) and what reads and writes files (store_file.c). */
#ifndef ENGINE_STORE_PRIV_H
#define ENGINE_STORE_PRIV_H
#include "engine/store.h"

enum { STORE_HEAD = 512 };

/* The first bytes of a page's file, little-endian. */
typedef struct {
    char magic[8], print[64];
    uint64_t number, before;            /* of the file, from 1; of the page before it, 0: none */
    uint64_t bytes;                     /* of keys and values */
    int32_t tok[KV_PAGE];
    uint64_t sum, head_sum;             /* of keys and values; of all before */
} page_head;

/* Where files are: an open folder. */
typedef struct {
    int dir, lock;                      /* -1: none */
    char print[STORE_PRINT];
    const kv_cache *c;
    size_t bytes;                       /* of a page's keys and values, all layers */
} page_dir;

/* Open and lock FOLDER/PRINT, made if need be. */
int page_dir_open(page_dir *d, const char *folder, const char *print, const kv_cache *c, dr_err *e);
void page_dir_close(page_dir *d);
/* Call fn with the number, time of use (ns) and head of each file that is whole by its size and head; others of the
 * store's kind are removed and counted. */
int page_dir_each(page_dir *d, int (*fn)(void *arg, const page_head *h, int64_t used_ns), void *arg, uint64_t *damaged,
                  dr_err *e);
/* Read and write a page of the cache. false: it failed; *damaged: since the file is not what it should be.
 * A file that could not be written is not there. */
bool page_read(const page_dir *d, uint64_t number, uint64_t before, const int32_t *tok, int32_t page, bool *damaged);
bool page_write(const page_dir *d, uint64_t number, uint64_t before, const int32_t *tok, int32_t page);
void page_remove(const page_dir *d, uint64_t number);
/* Is this a head that page_dir may use? Only its own bytes are looked at. */
bool page_head_good(const page_head *h, const char *print, size_t bytes, uint64_t number);
void page_head_seal(page_head *h);      /* its magic and head_sum, when all else is there */
#endif
