/* synth_priv.h - what synth's own files share. */
#ifndef PACK_SYNTH_PRIV_H
#define PACK_SYNTH_PRIV_H
#include "format/gguf_write.h"
#include "pack/synth.h"

/* The number of a kind is part of its weights' key: append, never reorder. */
enum {
    KIND_EMBD, KIND_ATTN_NORM, KIND_Q, KIND_K, KIND_V, KIND_O, KIND_QB, KIND_KB, KIND_VB, KIND_OB,
    KIND_FFN_NORM, KIND_GATE, KIND_UP, KIND_DOWN, KIND_OUT_NORM, KIND_HEAD, KIND_ROPE, N_KINDS,
    KIND_FIRST_OF_LAYER = KIND_ATTN_NORM, KIND_LAST_OF_LAYER = KIND_DOWN
};

typedef struct { const char *gguf, *hf; } synth_kind_info;   /* names inside a layer */
extern const synth_kind_info synth_kinds[N_KINDS];

bool synth_is_vector(int kind);
int synth_ftype(synth_types t);      /* llama.cpp's number for general.file_type */

/* Put the tokenizer of `path` into the metadata; path NULL says that there is none. The model
 * has V rows of embeddings: missing tokens are filled up with [PADn], too many are refused. */
int synth_put_tokenizer(gguf_writer *w, const char *path, int64_t V, dr_err *e);
/* Copy the tokenizer beside a safetensors model. */
int synth_copy_tokenizer(const char *folder, const char *path, dr_err *e);
#endif
