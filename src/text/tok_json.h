/* tok_json.h - the two halves of reading tokenizer.json. Nobody else includes this. */
#ifndef TEXT_TOK_JSON_H
#define TEXT_TOK_JSON_H
#include "format/json.h"
#include "text/tok_priv.h"

/* Normaliser, pre-tokeniser and decoder into steps; sets t->bytes and t->drop_space. */
int tokjson_steps(tokenizer *t, span normalizer, span pre, span decoder, dr_err *e);
/* Post-processor: which BOS, and whether the file puts it in front. */
int tokjson_post(tokenizer *t, span post, dr_err *e);
#endif
