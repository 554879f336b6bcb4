/* log.h - what a run writes about itself into its folder:
 *
 *     log.jsonl      one object a step; a resumed run cuts off what it takes again
 *     tb/            the same scalars for TensorBoard
 *     samples.txt    texts of the model under training
 *     status.json    the newest line and how far the run is, replaced whole
 *     lock           held while a process trains here
 *
 * Threads: one at a time; rank 0 alone. */
#ifndef TRAIN_LOG_H
#define TRAIN_LOG_H
#include <jansson.h>
#include <stdbool.h>
#include "train/events.h"

typedef struct {
    int64_t step, steps;         /* done, in all */
    int64_t tokens;              /* done */
    double loss, norm, lr;       /* of this step: mean loss, norm of its mean gradient before clipping */
    double seconds;              /* of this step, evaluation and samples left out */
    double tok_s;                /* tokens a second, */
    double mfu, mfu_full;        /* share of the peak: attention's causal half counted, and all of it */
    double left;                 /* seconds left, at the pace of the last steps */
    double eval_loss;            /* NAN: not evaluated now */
    const char *event;           /* "skipped: spike" and the like; NULL: none */
} log_line;

typedef struct {
    FILE *f;
    events tb;
    char *dir;
    int lock;
    int64_t every;
    int64_t status_at;           /* when status.json was written, os_now_ns */
} run_log;

/* dir is made. DR_EINVAL: another process trains in it. */
int log_open(run_log *l, const char *dir, dr_err *e);
/* Go on after `step`: later lines are cut off; tb: TensorBoard files too. */
int log_resume(run_log *l, int64_t step, int64_t every, bool tb, dr_err *e);
int log_put(run_log *l, const log_line *line, dr_err *e);
int log_sample(run_log *l, int64_t step, const char *prompt, const char *text, size_t n, dr_err *e);
/* state: "training", "done", "stopped", "failed". */
int log_status(run_log *l, const log_line *line, const char *state, dr_err *e);
void log_close(run_log *l);                  /* a zeroed one (lock -1) is fine */

/* status.json of a run's folder with "running": does a process hold its lock? NULL: *e says why.
 * Released with json_decref. */
json_t *log_read_status(const char *dir, dr_err *e);
/* The path of a file of the run. */
int log_path(char *s, size_t n, const char *dir, const char *file, dr_err *e);
#endif
