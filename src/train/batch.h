/* batch.h - what a training forward pass is given: token rows of several documents, and what each
 * position must predict.
 *
 * A batch is a list of documents, one after another. Each starts at position 0 and sees nothing of
 * the others, so rows need no padding and their limits need not be known here: a packed row is a
 * few of the documents. With `parent`, document d goes on where document parent[d] ended: its
 * positions start after that one's, and it sees that one and its ancestors besides itself (answers
 * that share a prompt). */
#ifndef TRAIN_BATCH_H
#define TRAIN_BATCH_H
#include <stdint.h>
#include "base/err.h"

/* Borrows its arrays; who hands it out says how long they stay. */
typedef struct {
    int n;                       /* tokens, 1 or more */
    const int32_t *tok;          /* (n,) input ids */
    const int32_t *target;       /* (n,) the id to predict after tok[i]; -1: none */
    const float *weight;         /* (n,) of each token's loss, finite and >= 0; NULL: all are 1 */
    int n_docs;
    const int32_t *doc_start;    /* (n_docs+1,) first token of each, ascending, none empty;
                                    doc_start[0] = 0, doc_start[n_docs] = n */
    const int32_t *parent;       /* (n_docs,) -1: none, else an earlier document; NULL: none has */
} batch;

/* DR_EINVAL with the first thing that is wrong: an id that is not below vocab, documents that do not
 * cover the tokens in order, a position that is not below max_len, a bad weight or parent. The
 * forward pass relies on it. */
int batch_check(const batch *b, int32_t vocab, int max_len, dr_err *e);
/* Sum of the weights of all targets, in order. */
double batch_weight(const batch *b);
#endif
