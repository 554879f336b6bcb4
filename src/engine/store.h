/* store.h - prefixes on disk, so that they outlive the process: whole pages of one model's cache.
 *
 *     FOLDER/FINGERPRINT/NNNNNNNNNNNNNNNN.page     one page: a head (its tokens, the page before it, two
 *                                                  checksums), then keys and values of each layer
 *
 * What is on disk is a tree as in prefix.h, which is read at the start from the heads; keys and values are
 * read when a request wants them. A thread of its own reads and writes, reads first; the engine never waits
 * for it. Whatever is damaged, cut short or of another model, cache type or version is not used, and
 * removed where it lies in the folder of this fingerprint; a disk that is full, or fails, is no error of a
 * request: less is kept. Nothing is forced to the disk: after a loss of power the checksums find what did
 * not get there. The least recently used goes when there is more than the limit.
 *
 * Ownership: borrows cache and tree. Threads: the engine's, but for the wake it calls. Nothing is allocated
 * but by store_open. */
#ifndef ENGINE_STORE_H
#define ENGINE_STORE_H
#include "engine/prefix.h"
#include "model/model.h"

typedef struct store store;

typedef struct {
    const char *folder;
    const char *fingerprint;    /* of what the pages were made with: store_fingerprint */
    int64_t bytes;              /* on disk at most */
    int root;                   /* of the tree, whose prefixes they are */
    int n_ctx;                  /* positions of a sequence at most */
    /* There is something for store_poll. Called from the store's thread; must be quick. NULL: none. */
    void (*wake)(void *arg);
    void *arg;
} store_opt;

/* Makes the folders. DR_EBUSY: another process has it. DR_EIO: it cannot be used. */
store *store_open(const store_opt *o, kv_cache *c, prefix *p, dr_err *e);
/* Ends what is being read, and finishes what is to be written. NULL is fine. */
void store_free(store *s);

/* Does the disk have more of tok (n,) than the tree? true: it is being brought in, or will be as soon as
 * others are; ask again after the next store_poll. false: no, or there is no room for it. Takes free
 * pages, and what the tree can do without. */
bool store_want(store *s, const int32_t *tok, int n);
/* The whole pages of the first n positions of q, whose tokens are tok, are to be kept. They are held until
 * they are written; never more than an eighth of the cache: what is more is not kept. */
void store_keep(store *s, const int32_t *tok, int n, const kv_seq *q);
/* Pages that came go into the tree, those that were written are let go. true: something came. */
bool store_poll(store *s);

typedef struct {
    int64_t pages, bytes;               /* on disk */
    uint64_t written, read;             /* pages */
    uint64_t damaged, failed;           /* pages not used since they were; reads and writes that failed */
} store_stats;
void store_stats_get(const store *s, store_stats *out);

/* Of model, cache and arithmetic: version, level, hyperparameters, each tensor's name, type and shape and
 * samples of its bytes, adapters added when it was opened. 64 hexadecimal digits. */
enum { STORE_PRINT = 65 };
int store_fingerprint(const model *m, kv_type t, char hex[STORE_PRINT], dr_err *e);
#endif
