/* safetensors.h - one .safetensors file, parsed in place.
 * spec: huggingface/safetensors README: u64 header length, a JSON object of
 * name -> {dtype, shape, data_offsets}, then the data without holes.
 * Ownership: a safetensors owns its table and the names in it and borrows the bytes, which
 * must outlive it. Immutable once parsed: share freely. */
#ifndef FORMAT_SAFETENSORS_H
#define FORMAT_SAFETENSORS_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "base/span.h"

enum { ST_MAX_DIMS = 4, ST_TYPE0 = 0x10000 };   /* types that do not run are ST_TYPE0 + n */

typedef struct {
    span name;
    int type;                        /* DT_F32, DT_F16, DT_BF16, DT_F8_E4M3, or ST_TYPE0 + n */
    int n_dims;                      /* 0: a scalar */
    int64_t dim[ST_MAX_DIMS];        /* slowest axis first */
    const uint8_t *data;             /* "" and not NULL for an empty tensor */
    size_t bytes;
} st_tensor;

typedef struct {
    int64_t n;
    st_tensor *t;                    /* in the order of their data */
    void *mem;                       /* one block: table and names */
} safetensors;

/* Do the bytes begin like a safetensors file? */
bool st_looks_like(const void *bytes, size_t n);
/* Parse n bytes: every tensor lies inside them, the data has no holes and no overlaps. Costs
 * at most 4 MB + 2n, the JSON tree while parsing included. On failure *s is zeroed. */
int st_parse(safetensors *s, const void *bytes, size_t n, dr_err *e);
void st_free(safetensors *s);                       /* a zeroed one is fine */
/* "F8_E5M2" and its kin; NULL: not one of ours. */
const char *st_type_name(int type);
/* The number and bits of an element of "BF16" and its kin; false: not one of ours. */
bool st_type_find(const char *name, int *type, int *bits);
#endif
