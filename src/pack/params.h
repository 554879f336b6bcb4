/* params.h - Meta's params.json from a model's numbers. */
#ifndef PACK_PARAMS_H
#define PACK_PARAMS_H
#include <jansson.h>
#include "base/buf.h"
#include "model/hparams.h"

/* The text, one line in the order of Llama 3.1's own files; keys that Meta's programs do not know
 * (head_dim, hidden_dim, sliding_window, max_position_embeddings, rope_scaling_factor: see
 * docs/formats.md) only where what would be assumed without them is wrong. DR_EUNSUPPORTED: it
 * has no word for this rope scaling. */
int params_json(const hparams *h, buf *out, dr_err *e);
/* Does this params.json (or what is under its "model") say the same numbers? */
bool params_agree(const json_t *params, const hparams *h);
/* The shortest decimal that reads back as this double, or float (is_f32), as JSON. */
void params_real(buf *b, double v, bool is_f32);
#endif
