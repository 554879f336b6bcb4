/* beside.h - what travels with a model's weights: its tokenizer and its own sampling defaults.
 * Threads: any. */
#ifndef GEN_BESIDE_H
#define GEN_BESIDE_H
#include "gen/sample.h"
#include "model/model.h"
#include "text/tokenizer.h"

/* The tokenizer of an open model: in the GGUF, or in the folder of the safetensors. NULL: *e. */
tokenizer *beside_tokenizer(const model *m, dr_err *e);
/* The same of weights that are a folder, or a file in one. */
tokenizer *beside_tokenizer_at(const char *path, dr_err *e);
/* drover's own values (temperature 0.7, top_p 0.95), then what the model asks for: its
 * generation_config.json, or general.sampling.* of a GGUF. ts NULL: drover's own. */
int beside_sample(sample_opt *o, const tensors *ts, dr_err *e);
#endif
