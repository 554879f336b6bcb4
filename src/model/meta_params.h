/* meta_params.h - Meta's params.json to a model's numbers. docs/formats.md says what is
 * understood: Meta's keys and, for what these cannot say, Mistral's (head_dim, hidden_dim,
 * sliding_window), Llama 4's (rope_scaling_factor) or Hugging Face's (max_position_embeddings),
 * which Meta's program passes over. */
#ifndef MODEL_META_PARAMS_H
#define MODEL_META_PARAMS_H
#include "model/hparams.h"

/* See hparams_read, which calls it. */
int meta_params_read(hparams *h, const tensors *ts, const json_t *c, buf *warn, dr_err *e);
#endif
