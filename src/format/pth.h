/* pth.h - one file of torch.save: a zip archive with a pickle that lists tensors (data.pkl) and
 * one stored member for each storage (data/N), read in place.
 * spec: pytorch caffe2/serialize/inline_container.h.
 * Ownership: a pth owns its table and borrows the bytes, which must outlive it. Immutable once
 * parsed: share freely. */
#ifndef FORMAT_PTH_H
#define FORMAT_PTH_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "base/span.h"
#include "format/names.h"

enum { PTH_MAX_DIMS = 4 };

typedef struct {
    span name;                       /* in the file's bytes */
    int type;                        /* as safetensors.h numbers types */
    int n_dims;                      /* 0: a scalar */
    int64_t dim[PTH_MAX_DIMS];       /* slowest axis first */
    const uint8_t *data;             /* "" and not NULL for an empty tensor */
    size_t bytes;
} pth_tensor;

typedef struct {
    span top;                        /* the archive's folder: what the file was saved as */
    int64_t n;
    pth_tensor *t;                   /* in the order of the dictionary */
    name_index index;
    void *mem;                       /* one block: table and index */
} pth;

/* Do the bytes begin like a zip archive? */
bool pth_looks_like(const void *bytes, size_t n);
/* Parse n bytes: nothing in them is executed, every tensor lies inside them, row-major without
 * gaps. Costs at most 4 MB + 2n. On failure *p is zeroed. */
int pth_parse(pth *p, const void *bytes, size_t n, dr_err *e);
void pth_free(pth *p);                              /* a zeroed one is fine */
const pth_tensor *pth_find(const pth *p, span name);           /* NULL: absent */
#endif
