/* tensors.h - one view over every container: name -> type, shape, mapped bytes.
 *
 * A model argument is a GGUF file (the first part of a split one names the rest), a
 * .safetensors file, a folder with model.safetensors or pytorch_model.bin or the index of either,
 * or one with Meta's params.json and consolidated.00.pth … (format/meta.h puts their shards together).
 * The kind is found by looking at the bytes, never by the file's name alone.
 * Ownership: owns its mappings; everything handed out is borrowed from it. Immutable once
 * open: share freely. */
#ifndef FORMAT_TENSORS_H
#define FORMAT_TENSORS_H
#include <jansson.h>
#include "base/block.h"
#include "base/err.h"
#include "base/span.h"
#include "format/gguf.h"

typedef enum { CONTAINER_GGUF, CONTAINER_SAFETENSORS, CONTAINER_META } container;

typedef struct {
    span name;
    int type;                        /* dtype, or the container's number when type_get is NULL */
    int n_dims;
    int64_t dim[4];                  /* slowest axis first, as PyTorch prints it */
    const uint8_t *data;             /* row-major, mapped read-only, aligned to an element of
                                        its type; NULL: a type of unknown size, or it lies in
                                        several shards and tensors_gather was not called yet */
    size_t bytes;
} tensor;

typedef struct tensors tensors;

tensors *tensors_open(const char *path, dr_err *e);
/* The same for one GGUF, safetensors or PyTorch file in memory, which must outlive it; no config. */
tensors *tensors_parse(const void *bytes, size_t n, dr_err *e);
void tensors_close(tensors *ts);                               /* NULL is fine */
container tensors_container(const tensors *ts);
bool tensors_is_bin(const tensors *ts);                        /* CONTAINER_SAFETENSORS, but
                                          the weights lie in pytorch_model*.bin */
const char *tensors_path(const tensors *ts);                   /* what was opened */
int64_t tensors_count(const tensors *ts);
const tensor *tensors_at(const tensors *ts, int64_t i);
const tensor *tensors_find(const tensors *ts, const char *name);   /* NULL: absent */
size_t tensors_mapped_bytes(const tensors *ts);                /* of all files */
/* What of the files is in the page cache, and what of that is mapped by huge pages; false: unknown. */
bool tensors_cached(const tensors *ts, size_t *cached, size_t *huge);
const gguf *tensors_gguf(const tensors *ts);                   /* metadata; NULL: not GGUF */
const json_t *tensors_config(const tensors *ts);               /* config.json; NULL: GGUF, or a
                                          lone .safetensors file with none beside it */
const json_t *tensors_generation(const tensors *ts);           /* generation_config.json or NULL */
/* Meta's params.json (what is under "model", where that is); NULL: another container. */
const json_t *tensors_meta_params(const tensors *ts);

/* Rows [row, row+n) of a tensor of this table as stored, n * bytes/rows bytes, into dst, from
 * wherever they lie. A row is the last axis; a vector or scalar is one row. Callers keep row
 * and n inside the tensor; a tensor of unknown size is refused. */
int tensor_rows(const tensors *ts, const tensor *t, int64_t row, int64_t n, void *dst, dr_err *e);
int64_t tensor_n_rows(const tensor *t);
/* Let tensor_rows read the files themselves instead of their mappings where it can, which leaves no
 * page of them mapped; or no longer. Not while another thread calls tensor_rows. */
void tensors_read_files(tensors *ts, bool on);
/* After it every tensor of known size has its data: those that lie in several shards of a model
 * are put together in private memory. Nothing to do for the others. */
int tensors_gather(tensors *ts, dr_err *e);
size_t tensors_gather_bytes(const tensors *ts);  /* private bytes that it will take; 0 after it */
/* How many shards a Meta model has, and in how many of them each key/value head lies (one copy is
 * read); 1 and 1 for the other containers. */
int tensors_meta_shards(const tensors *ts, int *copies);
/* Meta: are output.weight and tok_embeddings.weight saved as one? */
bool tensors_meta_tied(const tensors *ts);
/* Name of type `type` for a message, even one that does not run. */
const char *tensor_type_name(const tensors *ts, int type);
#endif
