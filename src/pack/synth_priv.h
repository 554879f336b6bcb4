/* synth_priv.h - what synth's own files share. */
#ifndef PACK_SYNTH_PRIV_H
#define PACK_SYNTH_PRIV_H
#include <jansson.h>
#include "format/gguf_write.h"
#include "pack/synth.h"

/* The number of a kind is part of its weights' key: append, never reorder. */
enum {
    KIND_EMBD, KIND_ATTN_NORM, KIND_Q, KIND_K, KIND_V, KIND_O, KIND_QB, KIND_KB, KIND_VB, KIND_OB,
    KIND_FFN_NORM, KIND_GATE, KIND_UP, KIND_DOWN, KIND_OUT_NORM, KIND_HEAD, KIND_ROPE, N_KINDS,
    KIND_FIRST_OF_LAYER = KIND_ATTN_NORM, KIND_LAST_OF_LAYER = KIND_DOWN
};

typedef struct { const char *gguf, *hf, *meta; } synth_kind_info;   /* names inside a layer */
extern const synth_kind_info synth_kinds[N_KINDS];

bool synth_is_vector(int kind);
int synth_ftype(synth_types t);      /* llama.cpp's number for general.file_type */

/* Put the tokenizer of `path` into the metadata; path NULL says that there is none. The model
 * has V rows of embeddings: missing tokens are filled up with [PADn], too many are refused. */
int synth_put_tokenizer(gguf_writer *w, const char *path, int64_t V, bool cut, dr_err *e);
/* The rows of one tensor after the other, in slices, on all threads. */
typedef struct {
    const synth_opt *o;
    container c;
    pool *p;
    uint8_t *slice;
    size_t slice_bytes;
    float *tmp;                      /* cols_max floats a thread, and as many bytes */
    int64_t cols_max;
    uint64_t done, total;
    const synth_tensor *t;           /* now */
    int64_t row, n;
} synth_maker;
int synth_maker_init(synth_maker *m, const synth_opt *o, container c, const synth_tensor *t,
                     int64_t n, pool *p, dr_err *e);
void synth_maker_free(synth_maker *m);
int synth_make(synth_maker *m, const synth_tensor *t,
               int (*put)(void *to, const void *p, size_t n, dr_err *e), void *to, dr_err *e);

/* j is released. */
int synth_write_json(const char *folder, const char *name, json_t *j, dr_err *e);

/* synth_meta.c: the folder of Meta's files. */
int synth_meta(const synth_opt *o, const char *folder, pool *p, dr_err *e);
/* quantization_config of config.json for these types; NULL: none. */
json_t *synth_quant_json(const synth_shape *s, synth_types types);

/* Copy the tokenizer beside a safetensors model. */
int synth_copy_tokenizer(const char *folder, const char *path, dr_err *e);
#endif
