/* gguf.h - one GGUF file (versions 2 and 3), parsed in place. spec: ggml docs/gguf.md.
 * Ownership: a gguf owns its tables and borrows the bytes, which must outlive it. Every span
 * it hands out points into those bytes. Immutable once parsed: share freely. */
#ifndef FORMAT_GGUF_H
#define FORMAT_GGUF_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "base/span.h"
#include "format/names.h"

enum { GGUF_MAX_DIMS = 4 };

typedef enum {
    GGUF_U8 = 0, GGUF_I8, GGUF_U16, GGUF_I16, GGUF_U32, GGUF_I32, GGUF_F32, GGUF_BOOL,
    GGUF_STRING, GGUF_ARRAY, GGUF_U64, GGUF_I64, GGUF_F64
} gguf_type;

/* One metadata entry. For a scalar, `at` is its bytes; for a string, its characters are in
 * `str`; for an array, elem is the element type, n the count, `at` the first element and
 * bytes the size of all (strings keep their length prefixes: walk with gguf_array_str). */
typedef struct {
    span key;
    gguf_type type, elem;
    uint64_t n;
    span str;
    const uint8_t *at;
    size_t bytes;
} gguf_kv;

typedef struct {
    span name;
    int n_dims;
    int64_t dim[GGUF_MAX_DIMS];      /* GGUF's order: fastest axis first */
    uint32_t type;                   /* the file's number; may be a type that does not run */
    uint64_t offset;                 /* from the start of the data section */
    const uint8_t *data;             /* NULL when the type's size is unknown */
    size_t bytes;
} gguf_tensor;

typedef struct gguf {
    uint32_t version;
    uint64_t n_kv, n_tensors;
    gguf_kv *kv;
    gguf_tensor *tensor;
    uint64_t alignment;
    size_t data_at;                  /* offset of the data section in the file */
    void *mem;                       /* one block that holds both tables and their index */
    name_index kv_names, tensor_names;
} gguf;

/* Parse n bytes. Every tensor's bytes are proven to lie inside them, one behind the other.
 * Costs one allocation of at most 2 MB + n. On failure *g is zeroed. */
int gguf_parse(gguf *g, const void *bytes, size_t n, dr_err *e);
void gguf_free(gguf *g);                                      /* a zeroed one is fine */
/* A Git LFS pointer in place of weights: DR_EFORMAT and the sentence that says what to do, 0
 * when the bytes are something else. */
int gguf_check_lfs(const void *bytes, size_t n, dr_err *e);

const gguf_kv *gguf_find(const gguf *g, const char *key);     /* NULL: absent */
const gguf_tensor *gguf_tensor_find(const gguf *g, const char *name);
/* Typed reads: false (and *v untouched) when absent or of another kind. Integers of every
 * width are accepted where they fit. */
bool gguf_get_u64(const gguf *g, const char *key, uint64_t *v);
bool gguf_get_f64(const gguf *g, const char *key, double *v);
bool gguf_get_bool(const gguf *g, const char *key, bool *v);
bool gguf_get_str(const gguf *g, const char *key, span *v);
/* Walk an array of strings: *at starts as kv->at; each call gives the next string. */
span gguf_array_str(const uint8_t **at);
#endif
