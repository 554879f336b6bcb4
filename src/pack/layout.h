/* layout.h - which tensors an output has, in what order and in which files. */
#ifndef PACK_LAYOUT_H
#define PACK_LAYOUT_H
#include "pack/pipeline.h"

typedef struct {
    int64_t first, n;                /* tensors */
    uint64_t bytes;                  /* theirs */
    int shard;                       /* Meta: which one */
    bool scales;                     /* Meta: the scales of the shard's FP8 tensors */
} layout_file;

typedef struct {
    pack_tensor *t;                  /* file after file */
    int64_t n, cap;
    layout_file *file;
    int n_files;
    uint64_t bytes;                  /* of all tensors */
    dtype main_type;                 /* of most weights in matrices: torch_dtype, file_type */
} layout;

/* Every tensor of the source is in the plan, or the failure names it. */
int layout_make(layout *p, const pack_job *j, dr_err *e);
void layout_free(layout *p);                         /* a zeroed one is fine */
uint64_t layout_tensor_bytes(const pack_tensor *t);
#endif
