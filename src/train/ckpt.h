/* ckpt.h - what a training run needs to go on, on disk. A checkpoint is a folder DIR/step-00000100:
 *
 *     rank-000.safetensors …  the arrays of each rank, whole or its range of them
 *     state.json              format, version, step, how long each array is, the caller's state
 *     SHA256SUMS              of all the others, as `sha256sum -c` reads it
 *
 * It is written aside, in DIR/.new-00000100, flushed, and renamed when every rank's part is there,
 * so that a process killed at any instant leaves whole checkpoints and at most one that has no name
 * yet. Nothing is read from one whose sums do not agree.
 *
 * Arrays are ranges [at, at+n) of something that is `total` long, and are read back in any other
 * ranges: what 4 ranks wrote, 3 can read.
 *
 * Threads: a writer writes its part on a thread of its own; its functions are called by one thread. */
#ifndef TRAIN_CKPT_H
#define TRAIN_CKPT_H
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/err.h"
#include "base/os.h"
#include "format/safetensors.h"

enum { CKPT_NAME_MAX = 96, CKPT_MAX_RANKS = 999, CKPT_STATE_MAX = 16 << 20 };

typedef enum { CKPT_F32, CKPT_BF16, CKPT_U8 } ckpt_type;

typedef struct {
    char name[CKPT_NAME_MAX];    /* without '@' */
    ckpt_type type;
    void *p;                     /* n elements */
    int64_t at, n, total;        /* elements [at, at+n) of total */
    int64_t cols;                /* a matrix, whole: its columns, for those who read the file with
                                    something else; 0: flat */
} ckpt_array;

/* ---- writing ---- */
typedef struct ckpt_writer ckpt_writer;

/* dir is made when it is not there. Rank 0 removes what a killed process left, so the others begin
 * no checkpoint before rank 0's writer is there. */
ckpt_writer *ckpt_writer_new(const char *dir, int rank, int n_ranks, dr_err *e);
/* Waits for the thread and drops a checkpoint that was not sealed. NULL is fine. */
void ckpt_writer_free(ckpt_writer *w);
/* Begin to write this rank's part of the checkpoint of `step`, on a thread. What the arrays point
 * to must stay and not change until ckpt_join. Rank 0 names every array, if only with n 0. state
 * (rank 0; borrowed) is put into words at once.
 * meta "eval_loss" in it, a number, ranks the checkpoint for ckpt_prune. */
int ckpt_begin(ckpt_writer *w, int64_t step, const json_t *state, const ckpt_array *a, int n,
               dr_err *e);
bool ckpt_busy(const ckpt_writer *w);        /* begun and not sealed */
/* Wait until this rank's part is on the disk. Nothing begun: DR_OK. */
int ckpt_join(ckpt_writer *w, dr_err *e);
/* Rank 0, after every rank's ckpt_join: give it its name. Other ranks: forget it. */
int ckpt_seal(ckpt_writer *w, dr_err *e);

/* ---- what is there ---- */
typedef struct { int64_t step; double eval_loss; } ckpt_entry;    /* NAN: it has none */
/* The named checkpoints of dir by step, without looking into their arrays; *list is freed with
 * mem_free. No folder: none. */
int ckpt_list(const char *dir, ckpt_entry **list, int *n, dr_err *e);
/* Remove all but the keep_last newest, and the keep_best ones with the lowest eval_loss. */
int ckpt_prune(const char *dir, int keep_last, int keep_best, dr_err *e);

/* ---- reading ---- */
typedef struct { os_file map; safetensors st; } ckpt_file;
typedef struct {
    int64_t step;
    json_t *state;               /* the caller's, as given to ckpt_begin; owned */
    json_t *arrays;              /* name -> total; owned */
    ckpt_file *file;
    int n_files;
} ckpt;

/* Map and check all of it. On failure *c is zeroed. */
int ckpt_open(ckpt *c, const char *dir, int64_t step, dr_err *e);
/* The newest whole one; each that is passed over is a line of `notes`. None: DR_OK, c->step -1. */
int ckpt_open_latest(ckpt *c, const char *dir, buf *notes, dr_err *e);
void ckpt_close(ckpt *c);                    /* a zeroed one is fine */
/* Is an array of this name there, in whatever ranges? */
bool ckpt_has(const ckpt *c, const char *name);
/* Fill a->p with elements [a->at, a->at + a->n). Another type or total is an error. */
int ckpt_read(const ckpt *c, const ckpt_array *a, dr_err *e);
/* state.json alone, from bytes that are not trusted; both are released with json_decref. */
int ckpt_parse_state(const void *bytes, size_t n, int64_t *step, json_t **state, json_t **arrays,
                     dr_err *e);
#endif
