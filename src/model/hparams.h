/* hparams.h - the numbers that make one model differ from another, all read from the file.
 * Letters: docs/symbols.md. */
#ifndef MODEL_HPARAMS_H
#define MODEL_HPARAMS_H
#include <stdbool.h>
#include "base/buf.h"
#include "format/tensors.h"

enum { HP_MAX_HEAD = 512 };

typedef enum { ROPE_PLAIN, ROPE_LLAMA3, ROPE_LINEAR, ROPE_FACTORS } rope_kind;

typedef struct {
    rope_kind kind;
    double theta;
    /* llama3: factor, low, high, original context; linear: factor */
    double factor, low, high, orig_ctx;
    /* factors: (hs/2,) divisors as the file's rope_freqs has them; borrowed from the file */
    const float *divisor;
} rope_spec;

typedef struct {
    char family[32];            /* "llama", "mistral" */
    int V, C, L, nh, nkv, hs, F;
    int n_ctx;                  /* positions the model was trained for */
    float eps;
    int window;                 /* sliding window, 0: none */
    bool tied;                  /* the head is the embedding */
    bool adjacent;              /* q and k rows pair (2i,2i+1): Meta's order, GGUF's for llama */
    rope_spec rope;
} hparams;

/* Read from GGUF metadata or config.json; what this version does not compute exactly is
 * refused by name. Things the user must know (a rope table that had to be synthesised) are
 * appended to `warn` as lines. */
int hparams_read(hparams *h, const tensors *ts, buf *warn, dr_err *e);

/* The feed-forward width that Meta's program computes of params.json; multiplier 0: none. The
 * order and the two truncations count (llama-models models/llama3/model.py, FeedForward). */
int64_t meta_ffn(int64_t dim, double multiplier, int64_t multiple_of);
/* Positions, which params.json leaves unsaid: what h's family was trained for. */
int meta_context(const hparams *h);

/* Longest context this build accepts, whatever a file says. */
enum { HP_MAX_CTX = 1 << 24 };
#endif
