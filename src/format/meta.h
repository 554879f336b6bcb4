/* meta.h - the model-parallel shards of Meta's checkpoints put together to one list of tensors.
 *
 * A model of N shards has consolidated.00.pth … consolidated.(N-1).pth, each with every tensor's
 * part: rows of wq, wk, wv, w1, w3, output (and Llama 3's tok_embeddings), columns of wo and w2
 * (and Llama 1's and 2's tok_embeddings), norms whole. With more shards than key/value heads each
 * head lies in several neighbouring shards: one copy is used, and the others must be equal to it.
 * FP8 models have fp8_scales_R.pt beside shard R; their scales appear as tensors
 * layers.L.feed_forward.wI.weight_scale, w2's with one row a shard: its columns' own scales.
 * spec: llama-models models/checkpoint.py, models/llama3/quantization/loader.py.
 * Ownership: a meta owns its tables and borrows the shards and their bytes. */
#ifndef FORMAT_META_H
#define FORMAT_META_H
#include <jansson.h>
#include "format/pth.h"
#include "format/tensors.h"

typedef struct {
    int8_t axis;                     /* parts one below another (0), side by side (1), equal (-1) */
    int16_t step;                    /* every step-th shard's part is used */
} meta_join;

typedef struct {
    int n_shards, fold;              /* fold: shards that hold the same key/value head */
    int64_t n;
    tensor *t;                       /* data: NULL where the parts must be put together */
    meta_join *join;
    const uint8_t **part;            /* (n,n_shards) */
    int64_t tied;                    /* output.weight, when its bytes are tok_embeddings' (tied
                                        embeddings are saved as one storage); else -1 */
    size_t gather;                   /* bytes of the tensors without data, each rounded up to 64,
                                        the tied one left out */
    void *mem;
} meta;

/* shard: n_shards open files; scale: as many, or NULL; params: Meta's params.json or NULL (then
 * one shard is wanted). On failure *m is zeroed. */
int meta_put_together(meta *m, const pth *const *shard, const pth *const *scale, int n_shards,
                      const json_t *params, dr_err *e);
void meta_free(meta *m);                            /* a zeroed one is fine */
/* Rows [row, row+n) of tensor i into dst. Copies of a key/value head that differ are an error. */
int meta_rows(const meta *m, int64_t i, int64_t row, int64_t n, void *dst, dr_err *e);
#endif
