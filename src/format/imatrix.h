/* imatrix.h - importance matrices: for each weight matrix of a model the mean square of each of
 * its inputs, in llama.cpp's two formats (GGUF with NAME.in_sum2 and NAME.counts, and the older
 * .dat). Names are GGUF's, whatever container the model is in.
 * Ref: llama.cpp common/imatrix-loader.cpp, tools/imatrix/imatrix.cpp. */
#ifndef FORMAT_IMATRIX_H
#define FORMAT_IMATRIX_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "format/names.h"

typedef struct {
    span name;                       /* "blk.0.attn_q.weight" */
    int64_t n;                       /* values: the matrix's columns */
    float *sum;                      /* (n,) sums of squares over count inputs: finite, >= 0 */
    double count;                    /* > 0 */
} imatrix_entry;

typedef struct {
    imatrix_entry *entry;
    int64_t n_entries;
    uint32_t chunks, chunk_size;     /* what it was made from; 0: not known */
    span dataset;                    /* the (last) file that it was made from */
    bool legacy;                     /* the format it was read from */
    void *mem;                       /* owns all of it */
} imatrix;

/* Of n bytes, which are not needed afterwards. The kind is seen in them. */
int imatrix_parse(imatrix *m, const void *bytes, size_t n, dr_err *e);
int imatrix_read(imatrix *m, const char *path, dr_err *e);
void imatrix_free(imatrix *m);                   /* a zeroed one is fine */
const imatrix_entry *imatrix_find(const imatrix *m, const char *name);   /* NULL: has none */
void imatrix_sort(imatrix *m);                   /* for who makes one: find wants them in order */
/* legacy: the .dat format. Entries in the order of their names. */
int imatrix_write(const imatrix *m, const char *path, bool legacy, dr_err *e);
#endif
