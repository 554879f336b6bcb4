/* sink.h - one file of the output, whatever its container: list the tensors, start, give their
 * bytes in that order, end. */
#ifndef PACK_SINK_H
#define PACK_SINK_H
#include "format/gguf_write.h"
#include "format/pth_write.h"
#include "format/safetensors_write.h"
#include "pack/pipeline.h"

typedef struct { gguf_writer *gguf; st_writer *st; pth_writer *pth; } sink;    /* one of them */

/* name: the file's own */
int sink_new(sink *s, container kind, const char *name, dr_err *e);
void sink_free(sink *s);                         /* a zeroed one is fine */
int sink_add(sink *s, const pack_tensor *t, dr_err *e);
uint64_t sink_size(const sink *s);               /* of the whole file */
int sink_start(sink *s, write_fn put, void *arg, dr_err *e);
int sink_data(sink *s, const void *p, size_t n, dr_err *e);
int sink_end(sink *s, dr_err *e);
#endif
