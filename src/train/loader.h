/* loader.h - training batches out of token shards.
 *
 * The order of the data is a pure function of (seed, source, epoch, index). In each epoch a source's
 * documents are permuted by the key; windows of LOADER_WINDOW of them are packed by best fit into
 * rows of at most `seq` positions (a document that is longer is cut into pieces, each of which is a
 * document to the model), and the window's rows are permuted again. Which source gives row g of a
 * mixture depends on g and the weights alone. So the state is one number for each source and g, and
 * neither the number of ranks nor the size of micro-batches changes which rows a step has.
 *
 * A document of L ids has L-1 positions, each with the id after it as its target: nothing is
 * predicted across a document's end, and no position is spent on its last id.
 * Threads: one at a time. */
#ifndef TRAIN_LOADER_H
#define TRAIN_LOADER_H
#include <stdbool.h>
#include "train/batch.h"

enum { LOADER_SOURCES = 64, LOADER_WINDOW = 16384 };

typedef struct {
    const char *path;            /* a shard, or a folder of all the shards of one `drover prep` */
    double weight;               /* share of the rows, > 0; need not add up to 1 */
} loader_source;

/* What a phase of training may change between two steps. */
typedef struct {
    int seq;                     /* most positions of a row */
    int rows;                    /* rows of a step, all ranks together */
    int micro_rows;              /* most rows of a micro-batch; 0: all that a rank has in a step */
    double weight[LOADER_SOURCES];   /* of each source; all 0: those of loader_source. A source may
                                        have 0 here */
} loader_phase;

typedef struct {
    const loader_source *src;    /* (n_src,) */
    int n_src;
    uint64_t seed;
    int rank, n_ranks;           /* n_ranks 0: one */
    int32_t vocab;               /* V of the model, which every id must be below; 0: any */
    const char *tokenizer;       /* SHA-256 in hex (shard_tokenizer) of the model's; NULL: any */
    bool once;                   /* evaluation: sources one after another, documents in their own
                                    order, one pass, then no more rows */
    loader_phase phase;
} loader_opt;

typedef struct loader loader;

/* DR_EIO, DR_EFORMAT (a shard that is broken or missing), DR_EINVAL (a wrong option, another
 * tokenizer's shards), DR_ENOMEM. */
loader *loader_open(const loader_opt *o, dr_err *e);
void loader_free(loader *l);                     /* NULL is fine */
/* Another phase from the next step on. A source whose rows get another length goes on with its next
 * window of documents: what was left of the window is passed over, nothing comes twice. */
int loader_set_phase(loader *l, const loader_phase *p, dr_err *e);

/* Go to the next step: how many micro-batches this rank has in it, 0 or more; or an error. */
int loader_next(loader *l, dr_err *e);
/* Rows of the step over all ranks: less than phase.rows only with `once`, where 0 is the end. */
int loader_rows(const loader *l);
/* Micro-batch i of this step: at most micro_rows * seq tokens, at most that many documents. Its
 * arrays stay until the next call of this or of loader_next. Any order, as often as wanted. */
int loader_batch(loader *l, int i, batch *b, dr_err *e);

/* Where the data stands after the steps so far: the next step begins here, with any number of ranks.
 * `row` counts rows of all sources; at[s] is (epoch * windows + window) << 32 | row of the window. */
typedef struct { uint64_t row, at[LOADER_SOURCES]; int n; } loader_state;
void loader_tell(const loader *l, loader_state *s);
/* Go there: loader_next then gives what it gave after that loader_tell. A zeroed one is the start.
 * DR_EINVAL: not a state of these sources. The phase must be what it was then. */
int loader_seek(loader *l, const loader_state *s, dr_err *e);

/* What there is: over the source's shards. positions: those with a target, of one epoch. */
typedef struct { uint64_t docs, tokens, positions; double epoch; } loader_stat;
void loader_source_stat(const loader *l, int s, loader_stat *st);   /* epoch: passes made so far */
#endif
