/* source.h - a model opened to be read row by row, whatever its container: what each tensor is
 * for is a role, and rows come as floats in the order of q and k that is asked for.
 * Immutable once open: share freely between threads. */
#ifndef PACK_SOURCE_H
#define PACK_SOURCE_H
#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"
#include "format/tensors.h"
#include "model/hparams.h"

typedef struct {
    int n_slice;                     /* 0: its weights have no scales */
    float *of;                       /* (n_slice,rows): of the weights in slice j of row r */
} pack_scales;

typedef struct {
    tensors *ts;
    hparams hp;
    pack_scales *scale;              /* one for each tensor of ts */
    buf warn;                        /* lines that the user must know, from hparams_read */
} pack_source;

int pack_source_open(pack_source *s, const char *path, dr_err *e);
void pack_source_close(pack_source *s);                       /* a zeroed one is fine */

/* What a tensor is for. The same role names the same tensor in every model of the family. */
enum { ROLE_ROPE = -1 };             /* GGUF's rope_freqs.weight, which is computed */
typedef struct {
    int row;                         /* of weight_table, or ROLE_ROPE */
    int layer;                       /* 0 outside the layers */
    bool bias;
} pack_role;

/* The role's name in a container. */
void pack_role_name(char *s, size_t n, pack_role r, container c);
/* The bytes are rows of q or k (or their bias), whose order the containers do not share. */
bool pack_role_rotated(pack_role r);
/* NULL: the model has none. */
const tensor *pack_find(const pack_source *s, pack_role r);
/* Where row r of the role stands in the source, when `adjacent` is the order asked for. */
int64_t pack_row_of(const pack_source *s, pack_role r, bool adjacent, int64_t row);

/* Rows [row, row+n) of the role's tensor as floats in the order asked for, into x; a vector is
 * one row. t is pack_find's. scratch: pack_scratch_bytes of t. FP8 rows are multiplied by their
 * scales. */
int pack_read(const pack_source *s, pack_role r, const tensor *t, bool adjacent, int64_t row,
              int64_t n, float *x, void *scratch, dr_err *e);
size_t pack_scratch_bytes(const tensor *t);
/* The scales of an FP8 tensor. */
const pack_scales *pack_scales_of(const pack_source *s, const tensor *t);
/* Row `row` of the order asked for as it is stored: in place, or copied into scratch. Not for
 * vectors whose elements would change places. NULL: *e says why. */
const uint8_t *pack_read_raw(const pack_source *s, pack_role r, const tensor *t, bool adjacent,
                             int64_t row, void *scratch, dr_err *e);
#endif
