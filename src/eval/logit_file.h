/* logit_file.h - reference log-probabilities of a text, saved by one model to judge others by.
 *
 * drover's own file, little-endian:
 *
 *     "DRVRLGT1", u32 V, u32 ctx, u64 windows
 *     windows * ctx i32 ids, then zeros to a multiple of 8 bytes
 *     for each window, for each of its positions 0 … ctx-2, a row, zeros to a multiple of 8 bytes:
 *         u64 checksum of the rest of the row (FNV-1a over 64-bit words)
 *         f64 log-probability of the id that comes next, exact
 *         f32 step
 *         u32 n = min(V, 64)
 *         n * { i32 id, f32 below }: the likeliest ids, the first of equals first, exact
 *         u16 code of every id
 *
 * The log-probability of an id is the likeliest one's less `below`, or less code * step. A row
 * covers all of its range, so that step is about 5e-4 nats; the reader makes the sum of the
 * probabilities 1 again. A model's KL from itself is then about 1e-9.
 *
 * llama-perplexity's files (--kl-divergence-base, "_logits_") are read too: they have the second
 * half of each window, and nothing of ids 16 nats below the likeliest. Their evaluation puts BOS in the
 * place of a window's first id where the tokenizer asks for one.
 *
 * Ownership: an open file owns its mapping. Threads: immutable after open, share freely. */
#ifndef EVAL_LOGIT_FILE_H
#define EVAL_LOGIT_FILE_H
#include "base/os.h"

typedef struct {
    os_file f;
    int V, ctx, first;              /* rows are for positions first … ctx-2 of each window */
    int64_t windows;
    const int32_t *ids;             /* (windows * ctx) */
    const uint8_t *rows;
    size_t row_bytes;
    bool peer;                      /* llama-perplexity's */
} logit_file;

/* Sizes and ids are checked here; a row's own numbers by logit_row. */
int logit_file_open(logit_file *l, const char *path, dr_err *e);
int logit_file_parse(logit_file *l, const void *p, size_t n, dr_err *e);    /* borrows p */
void logit_file_close(logit_file *l);           /* a zeroed one is fine */

/* One row: log p of id i = at + step * codes[i], but at - exact[j].below for i = exact[j].id.
 * The sum over all of them is 1 (about 1, if cut); next is the log-probability of the id that comes next. */
typedef struct { int32_t id; float below; } logit_exact;
typedef struct {
    const uint16_t *codes;
    const logit_exact *exact;
    int n_exact;
    double at, step, next;
    int32_t top;
    bool cut;                       /* an id of code 0 has no probability at all */
} logit_row;
/* Position pos (first <= pos < ctx-1) of window w; DR_EFORMAT: damaged. */
int logit_file_row(const logit_file *l, int64_t w, int pos, logit_row *r, dr_err *e);

/* Writing: ids of all windows at once, then every row in order. */
typedef struct { os_out out; int V, n_exact; size_t row_bytes; } logit_writer;
int logit_begin(logit_writer *w, const char *path, int V, int ctx, int64_t windows,
                const int32_t *ids, dr_err *e);
/* A row from (V,) logits, all finite, to dst (row_bytes, 8-byte aligned); next is the id that
 * follows. Returns its log-probability. */
double logit_encode(const logit_writer *w, const float *logits, int32_t next, void *dst);
int logit_put(logit_writer *w, const void *rows, int n, dr_err *e);
int logit_end(logit_writer *w, dr_err *e);
void logit_drop(logit_writer *w);               /* a zeroed or ended one is fine */
#endif
