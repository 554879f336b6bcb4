/* export.h - the weights of a checkpoint as a model: GGUF, a folder of safetensors, or Meta's form. What
 * is not weights (numbers, tokenizer, templates) is carried over from the model that the run began
 * with, as `drover convert` does. */
#ifndef TRAIN_EXPORT_H
#define TRAIN_EXPORT_H
#include "pack/convert.h"
#include "train/ckpt.h"

/* o->in is the model that the run began with; o->edit is set here. */
int export_run(const ckpt *c, const convert_opt *o, pool *p, dr_err *e);
#endif
