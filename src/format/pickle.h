/* pickle.h - the part of Python's pickle language in which torch.save lists tensors.
 *
 * A pickle is a program, and a hostile one can run anything. This reader executes nothing: it is
 * a stack machine whose only values are numbers, texts, tuples, and descriptions of storages and
 * tensors; a global is a row of a table or refused by its name; so is every instruction that
 * torch.save does not write. spec: CPython Lib/pickletools.py; what torch writes for a tensor:
 * pytorch torch/_utils.py, _rebuild_tensor_v2 and v3.
 * Ownership: a pickle owns its tables; names and keys lie in the bytes, which must outlive it. */
#ifndef FORMAT_PICKLE_H
#define FORMAT_PICKLE_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "base/span.h"

enum { PICKLE_MAX_DIMS = 4 };

typedef struct {
    span key;                        /* of the archive member data/KEY */
    uint64_t bytes;
} pickle_storage;

typedef struct {
    span name;
    int type;                        /* as st_type_find numbers it */
    int bits;                        /* of an element */
    int n_dims;
    bool contiguous;                 /* row-major without gaps */
    uint32_t storage;
    int64_t dim[PICKLE_MAX_DIMS];    /* slowest axis first */
    uint64_t first, count;           /* elements of the storage: which one is the tensor's first,
                                        how many it has; inside the storage where contiguous */
} pickle_tensor;

typedef struct {
    uint64_t n, n_storages;
    pickle_tensor *t;                /* in the order of the dictionary */
    pickle_storage *storage;         /* one storage may be listed several times */
} pickle;

/* Read a pickle of a dictionary of names and tensors; what else it holds (other values, nested
 * dictionaries) is passed over. Takes at most `budget` bytes of memory. On failure *p is zeroed. */
int pickle_read(pickle *p, const void *bytes, size_t n, size_t budget, dr_err *e);
void pickle_free(pickle *p);                        /* a zeroed one is fine */
#endif
