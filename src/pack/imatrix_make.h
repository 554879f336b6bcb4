/* imatrix_make.h - an importance matrix from what a model reads: mean squares of the inputs of
 * its products, watched in the device. */
#ifndef PACK_IMATRIX_MAKE_H
#define PACK_IMATRIX_MAKE_H
#include "format/imatrix.h"
#include "model/model.h"

typedef struct {
    int ctx;                         /* ids in a window; each is read on its own */
    int64_t windows;                 /* at most so many; 0: all */
    int32_t bos;                     /* takes the first place of each window; -1: nothing does */
    bool head;                       /* output.weight too */
    const char *dataset;             /* what to say that it was made from */
    /* called after each window; NULL: none */
    void (*progress)(void *arg, int64_t done, int64_t all);
    void *arg;
} imatrix_make_opt;

/* Windows of ids that do not overlap; a rest is left out. Sums are f64 in the order of the ids,
 * so the result does not depend on the number of threads. *out is freed with imatrix_free. */
int imatrix_make(const model *m, const int32_t *ids, int64_t n, const imatrix_make_opt *o,
                 imatrix *out, dr_err *e);
#endif
