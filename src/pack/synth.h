/* synth.h - models with random weights, of any shape and type, for tests and measurements.
 *
 * Weights are N(0, std), norms 1 + N(0, 0.05), keyed by (seed, tensor, row, column) of Hugging
 * Face's order: the same seed gives the same values in every container and type before they are
 * rounded (GGUF's q and k rows are the same rows in its own order). */
#ifndef PACK_SYNTH_H
#define PACK_SYNTH_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "base/pool.h"
#include "format/tensors.h"
#include "pack/mix.h"

typedef struct {
    char name[32];                   /* as asked for: "llama-3.2-1b" */
    int64_t C, L, nh, nkv, hs, F, V, ctx;
    bool tied, bias;                 /* bias: on q, k, v and o */
    double eps, theta, std;
    double factor, low, high, orig_ctx;   /* Llama 3 rope scaling; factor 0: none */
    double linear;                   /* linear rope scaling; 0: none */
    int64_t window;                  /* Mistral's sliding window; 0: none */
} synth_shape;

/* A name of the table, key=value pairs, or a name and pairs that change it:
 * "llama-3.2-1b,layers=4". Keys: dim layers heads kv_heads head_dim ffn vocab ctx tied bias eps
 * theta std rope_factor rope_low rope_high rope_orig rope_linear window. */
int synth_shape_read(synth_shape *s, const char *spec, dr_err *e);
/* Names of the table, one after the other; NULL at the end. */
const char *synth_shape_name(int i);

/* What type each matrix gets. A type's own name means all matrices; other names are
 * mixes (mix.h). Rows that do not fit a block fall back as llama.cpp's do. FP8 is the form of
 * Meta's FP8 models, the feed-forward of all layers but the first and the last with a scale a row,
 * the rest BF16; FP8_DYNAMIC is compressed-tensors', every matrix in the layers. */
typedef enum { SYNTH_NO_FP8, SYNTH_FP8, SYNTH_FP8_DYNAMIC } synth_fp8;
typedef struct { dtype base; const mix *mix; synth_fp8 fp8; } synth_types;
int synth_types_read(synth_types *t, const char *name, dr_err *e);

typedef struct {
    char name[96];
    int kind, layer;                 /* for synth_rows; layer -1: not in a layer */
    dtype type;
    int n_dims;                      /* 1 (then rows is 1) or 2 */
    int64_t rows, cols;
    int64_t scale_cols;              /* not 0: F32 scales, one a row, of the matrix that this
                                        names, over so many of its columns */
    int64_t row0, col0, all_cols;    /* a part: where in the whole it starts, the whole's columns;
                                        all_cols 0: it is the whole */
} synth_tensor;

/* The tensors of a model in file order: *list is freed with mem_free. */
int synth_plan(const synth_shape *s, synth_types types, container c, synth_tensor **list,
               int64_t *n, dr_err *e);
/* Rows [row, row+n) of a tensor, in its type, into dst. tmp: t->cols floats; FP8 and its scales
 * want a byte more for each of their columns. */
void synth_rows(const synth_shape *s, uint64_t seed, container c, const synth_tensor *t,
                int64_t row, int64_t n, float *tmp, void *dst);

typedef struct {
    synth_shape shape;
    synth_types types;
    uint64_t seed;
    const char *tokenizer;           /* file to take it from; NULL: none */
    bool cut;                        /* GGUF: only its first V tokens (tokdata_cut) */
    uint64_t shard_bytes;            /* safetensors: most bytes of tensors in a file; 0: one */
    int shards;                      /* Meta: model-parallel files; 0: one */
    void (*progress)(void *arg, uint64_t done, uint64_t total);   /* bytes; NULL: none */
    void *arg;
} synth_opt;

/* Write a model: out ends in .gguf, or is a folder: one whose name ends in .pth for Meta's
 * consolidated.*.pth and params.json, another for safetensors and config.json. Memory is one
 * slice of 16 MB and a row per thread. */
int synth_write(const synth_opt *o, const char *out, pool *p, dr_err *e);
/* The same model as a GGUF file in memory, from mem_pages. */
int synth_memory(const synth_opt *o, void **bytes, size_t *n, pool *p, dr_err *e);
#endif
