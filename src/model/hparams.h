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

/* Meta's rule for the feed-forward width; multiplier 0: none. */
int64_t meta_ffn(int64_t dim, double multiplier, int64_t multiple_of);

/* Longest context this build accepts, whatever a file says. */
enum { HP_MAX_CTX = 1 << 24 };
#endif
