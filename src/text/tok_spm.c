#include "text/tok_priv.h"
tokenizer *tok_from_spm(span file, dr_err *e) { (void)file; err_set(e, DR_EUNSUPPORTED, "SentencePiece: soon"); return NULL; }
