/* mix.h - which type each matrix of a model gets: llama.cpp's mixes, as one table of rules.
 * Ref: llama.cpp src/llama-quant.cpp (dense Llama models), include/llama.h (file types). */
#ifndef PACK_MIX_H
#define PACK_MIX_H
#include <stdbool.h>
#include <stdint.h>
#include "base/block.h"

typedef struct {
    const char *name;                /* "Q4_K_M" */
    dtype base;                      /* of what no rule names */
    int ftype;                       /* general.file_type */
} mix;

extern const mix mix_table[];
extern const int n_mixes;
/* Any case; "Q3_K", "Q4_K" and "Q5_K" are their _M. NULL: no mix of that name. */
const mix *mix_find(const char *name);
/* The file type of a model that is all of one type; -1: there is none. */
int mix_ftype_of(dtype t);

typedef enum {
    MIX_EMBD, MIX_HEAD, MIX_Q, MIX_K, MIX_V, MIX_O, MIX_GATE, MIX_UP, MIX_DOWN
} mix_part;

typedef struct {
    int64_t layers, heads, kv_heads;
    bool tied;                       /* the embedding is the head too */
    bool imatrix;                    /* importances are at hand */
} mix_model;

/* The type of one matrix, before mix_fit. layer: 0 for what is in none. */
dtype mix_type(const mix *m, const mix_model *s, mix_part part, int64_t layer, int64_t cols);
/* Rows that are no multiple of the type's block take the nearest type that fits. */
dtype mix_fit(dtype t, int64_t cols);
/* Does llama.cpp (and quantize) refuse this type here without importances? */
bool mix_wants_imatrix(const mix *m, mix_part part, dtype t);
#endif
