/* carry.h - what a model has beside its weights, from any form into any other: the model's
 * numbers (config.json, GGUF's llama.*, params.json), rope scaling, tokenizer, chat template. */
#ifndef PACK_CARRY_H
#define PACK_CARRY_H
#include "pack/layout.h"
#include "pack/work.h"

/* Can the target say what this model is? The sentence names what it has no word for. */
int carry_check(const pack_job *j, dr_err *e);
/* Metadata of the (first) GGUF file, and the keys of a part of a split one. */
int carry_gguf(const pack_job *j, const layout *p, gguf_writer *w, dr_err *e);
void carry_split(gguf_writer *w, int k, int n_files, int64_t n_tensors);
/* The files beside the weights, into the output's folder. */
int carry_files(const pack_job *j, const layout *p, work *w, dr_err *e);
#endif
