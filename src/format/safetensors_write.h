/* safetensors_write.h - write one .safetensors file front to back: list the tensors, start,
 * give their data in that order, end. The file appears under its name at the end. */
#ifndef FORMAT_SAFETENSORS_WRITE_H
#define FORMAT_SAFETENSORS_WRITE_H
#include <stdint.h>
#include "base/err.h"
#include "base/os.h"

typedef struct st_writer st_writer;

st_writer *st_write_new(dr_err *e);
void st_write_free(st_writer *w);                /* drops what was not ended; NULL is fine */
/* type: DT_F32, DT_F16, DT_BF16, or one of st_type_find's of whole bytes; dim: slowest axis first. */
int st_add_tensor(st_writer *w, const char *name, int type, int n_dims, const int64_t *dim,
                  dr_err *e);
/* Bytes of the whole file, once the tensors are listed. */
uint64_t st_write_size(const st_writer *w);
int st_write_start(st_writer *w, const char *path, dr_err *e);
/* Or hand the bytes of the file, front to back, to `put`. */
int st_write_start_to(st_writer *w, write_fn put, void *arg, dr_err *e);
int st_write_data(st_writer *w, const void *p, size_t n, dr_err *e);
int st_write_end(st_writer *w, dr_err *e);
#endif
