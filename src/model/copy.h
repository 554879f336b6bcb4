/* copy.h - weights in private memory (--load copy): every matrix read once from its file, by all
 * threads, into one block of huge pages, in the order in which a token uses them.
 *
 * On a machine of several memory nodes the rows of a matrix lie where the threads run that multiply
 * them in a decode step (dev.h, node_rows). Only rows are dealt out, so no result changes. */
#ifndef MODEL_COPY_H
#define MODEL_COPY_H
#include "model/weights.h"

/* A matrix as far as the layout is concerned; end: behind the last row of each node, n_nodes of
 * them, the last one `rows`. */
typedef struct { size_t row_bytes; int rows; const int *end; } copy_mat;
/* A range of the block that belongs to a node. */
typedef struct { size_t at, bytes; int node; } copy_span;

/* Where n matrices lie: at[i] from the block's begin, a multiple of 128. With several nodes
 * the spans, n * n_nodes at most, in order, cover the block without a gap; their borders are whole
 * pages, whole huge pages in a large matrix, so up to half of one of its rows may lie at a
 * neighbour. Returns the block's bytes, SIZE_MAX when they cannot be counted. */
size_t copy_layout(const copy_mat *mat, int n, int n_nodes, size_t *at, copy_span *span,
                   int *n_spans);

typedef struct { void *mem; size_t bytes; bool placed; } weights_copy;   /* mem NULL: planned */
/* Bytes that copying the matrices of w will take. */
int copy_plan(weights_copy *c, const weights *w, const tensors *ts, const hparams *h, dev *d,
              dr_err *e);
/* Do it; w's matrices then point there. Refused with the figures when memory is short.
 * c->placed: there are several nodes and the system took every wish. */
int copy_load(weights_copy *c, weights *w, tensors *ts, const hparams *h, dev *d,
              const dev_opt *o, dr_err *e);
void copy_free(weights_copy *c);
#endif
