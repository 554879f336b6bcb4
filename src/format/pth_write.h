/* pth_write.h - write one file that torch.load reads (weights_only, mapped or not), front to back:
 * list the tensors, start, give their data in that order, end. Each tensor is a storage of its
 * own at a multiple of 64 bytes; the same calls give the same bytes. Any size (zip64). The file
 * appears under its name at the end. */
#ifndef FORMAT_PTH_WRITE_H
#define FORMAT_PTH_WRITE_H
#include <stdint.h>
#include "base/err.h"
#include "base/os.h"

typedef struct pth_writer pth_writer;

/* top: the folder inside the archive, by custom the file's name without its ending. */
pth_writer *pth_write_new(const char *top, dr_err *e);
void pth_write_free(pth_writer *w);              /* drops what was not ended; NULL is fine */
/* type: DT_F32, DT_F16, DT_BF16 or DT_F8_E4M3; dim: slowest axis first. */
int pth_add_tensor(pth_writer *w, const char *name, int type, int n_dims, const int64_t *dim,
                   dr_err *e);
/* Another name for a tensor that was added: it shares its storage and has no data of its own. */
int pth_add_alias(pth_writer *w, const char *name, const char *of, dr_err *e);
/* Bytes of the whole file, once the tensors are listed. */
uint64_t pth_write_size(const pth_writer *w);
int pth_write_start(pth_writer *w, const char *path, dr_err *e);
/* Or hand the bytes of the file, front to back, to `put`. */
int pth_write_start_to(pth_writer *w, write_fn put, void *arg, dr_err *e);
int pth_write_data(pth_writer *w, const void *p, size_t n, dr_err *e);
int pth_write_end(pth_writer *w, dr_err *e);
#endif
