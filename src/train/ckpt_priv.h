/* ckpt_priv.h - between ckpt.c and ckpt_read.c. */
#ifndef TRAIN_CKPT_PRIV_H
#define TRAIN_CKPT_PRIV_H
#include "train/ckpt.h"

/* DIR/KIND-00000100, or a file in it; *b is freed by the caller. */
int ckpt_path(buf *b, const char *dir, const char *kind, int64_t step, const char *file,
              dr_err *e);
int ckpt_elem(ckpt_type t);                  /* bytes of an element */
const char *ckpt_type_name(ckpt_type t);     /* as safetensors name it */
#endif
