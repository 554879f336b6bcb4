/* work.h - the folder OUT.part in which an output grows, and the journal that lets a stopped run
 * go on. Invariants:
 * - Files are written front to back, in whole pieces of OS_HUGE (docs/decisions/030); what does not
 *   fill one is held. The journal gains an entry, a checksum, for each slice of data after its bytes
 *   were written. So entry i vouches for slice i, and nothing for more.
 * - The journal's key says which job it is of. Another key: what is there is thrown away.
 * - Nothing outside OUT.part changes before work_finish; from its first step on the journal says
 *   so, and a run that finds that only repeats the rest of work_finish.
 * - A lock on the journal keeps two runs apart. */
#ifndef PACK_WORK_H
#define PACK_WORK_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"

enum { WORK_DUE = 64 };
typedef struct {
    char *out, *dir;
    bool folder, force;
    int journal, fd;                 /* -1: none */
    bool ours;                       /* the journal is there and locked */
    uint32_t *check;                 /* of the slices that are there */
    int64_t n_check, n_written;      /* entries read; entries the journal has now */
    uint32_t done;                   /* not 0: work_finish had begun */
    bool fresh;                      /* what was there was another job's, and is thrown away */
    char *name;                      /* file being written */
    uint64_t pos;                    /* in it, with what is held */
    char *held;                      /* (OS_HUGE,) the last n_held bytes before pos */
    size_t n_held;
    uint32_t due[WORK_DUE];          /* entries of slices that end in what is held */
    int n_due;
    uint64_t skip;                   /* so many of the next bytes are there already */
} work;

/* out: the final file or folder. *w is always safe to close. */
int work_open(work *w, const char *out, bool folder, bool force, uint64_t key, dr_err *e);
void work_close(work *w);
/* Bytes that the files in the folder hold now. */
uint64_t work_bytes(const work *w);

int work_begin(work *w, const char *name, dr_err *e);       /* a file of the output */
int work_put(void *w, const void *p, size_t n, dr_err *e);  /* its next bytes: a write_fn */
bool work_get(work *w, void *p, size_t n);                  /* the next n as they are there */
bool work_same(work *w, const void *p, size_t n);           /* they are there and these */
int work_end(work *w, dr_err *e);                           /* to the disk */
int work_small(work *w, const char *name, const void *p, size_t n, dr_err *e);   /* whole */
int work_check(work *w, uint32_t check, dr_err *e);         /* a slice was written */
int work_forget(work *w, int64_t n, dr_err *e);             /* keep n entries */
/* Give all files their names. */
int work_finish(work *w, dr_err *e);
#endif
