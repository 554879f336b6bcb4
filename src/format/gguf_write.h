/* gguf_write.h - write a GGUF v3 file front to back, in three steps:
 *     gguf_put_*                       metadata, kept in memory
 *     gguf_add_tensor                  the list of tensors
 *     gguf_write_start, gguf_write_data…, gguf_write_end
 * Data comes in the order of the list, in pieces of any size; padding is the writer's work.
 * The file appears under its name when gguf_write_end succeeds and not before.
 * A failed put is remembered and reported by gguf_write_start. */
#ifndef FORMAT_GGUF_WRITE_H
#define FORMAT_GGUF_WRITE_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "base/os.h"
#include "base/span.h"
#include "format/gguf.h"

typedef struct gguf_writer gguf_writer;

gguf_writer *gguf_write_new(dr_err *e);
void gguf_write_free(gguf_writer *w);            /* drops what was not ended; NULL is fine */

void gguf_put_u16(gguf_writer *w, const char *key, uint16_t v);
void gguf_put_i32(gguf_writer *w, const char *key, int32_t v);
void gguf_put_u32(gguf_writer *w, const char *key, uint32_t v);
void gguf_put_u64(gguf_writer *w, const char *key, uint64_t v);
void gguf_put_f32(gguf_writer *w, const char *key, float v);
void gguf_put_bool(gguf_writer *w, const char *key, bool v);
void gguf_put_str(gguf_writer *w, const char *key, span v);
void gguf_put_strs(gguf_writer *w, const char *key, const span *v, uint64_t n);
void gguf_put_i32s(gguf_writer *w, const char *key, const int32_t *v, uint64_t n);
void gguf_put_f32s(gguf_writer *w, const char *key, const float *v, uint64_t n);
void gguf_put_u8s(gguf_writer *w, const char *key, const uint8_t *v, uint64_t n);
void gguf_put_kv(gguf_writer *w, const gguf_kv *kv);   /* a copy of another file's entry */

/* dim: GGUF's order, fastest axis first. DR_EINVAL when the type or shape is not possible. */
int gguf_add_tensor(gguf_writer *w, const char *name, int type, int n_dims, const int64_t *dim,
                    dr_err *e);

/* Bytes of the whole file, once metadata and tensors are complete. */
uint64_t gguf_write_size(const gguf_writer *w);
/* Into a file, or into memory of gguf_write_size bytes (then path is not used). */
int gguf_write_start(gguf_writer *w, const char *path, dr_err *e);
int gguf_write_start_mem(gguf_writer *w, void *mem, dr_err *e);
/* Or hand the bytes of the file, front to back, to `put`, which returns DR_OK or a failure. */
int gguf_write_start_to(gguf_writer *w, write_fn put, void *arg, dr_err *e);
int gguf_write_data(gguf_writer *w, const void *p, size_t n, dr_err *e);
int gguf_write_end(gguf_writer *w, dr_err *e);
#endif
