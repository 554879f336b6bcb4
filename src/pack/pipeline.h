/* pipeline.h - write a model in any container from a model in any container, row by row.
 *
 *     pack_source s;                        what is read
 *     pack_job j = { .src = &s, .to = CONTAINER_GGUF, .choose = my_types, .arg = &mine };
 *     pack_run(&j, "out.gguf", pool, e);
 *
 * The list of output tensors is made first (names, types, shapes, places in files), so every
 * byte's place is known. Then rows stream: read -> floats in the target's order of q and k ->
 * edit -> encode -> file; rows whose type stays and which nobody edits are copied as they are.
 * Memory: two slices of 2M weights (or 128 rows) and a few rows a thread, whatever the model's size. The bytes
 * do not depend on the number of threads.
 *
 * Everything is written into the folder OUT.part, with a journal of checksums. A run that was
 * stopped goes on where it was: what the journal vouches for is read back and compared with it,
 * the rest is made again. The output gets its name when all of it is there. */
#ifndef PACK_PIPELINE_H
#define PACK_PIPELINE_H
#include "base/pool.h"
#include "format/gguf_write.h"
#include "pack/source.h"

typedef struct {
    char name[128];                  /* in the target */
    pack_role role;
    const tensor *src;               /* NULL: ROLE_ROPE */
    int type;                        /* of the output */
    int n_dims;                      /* 1 or 2; a vector is one row */
    int64_t rows, cols;              /* of the output */
    int64_t row0, col0;              /* where in the whole tensor it starts: Meta's shards */
    int64_t all_rows, all_cols;      /* the whole tensor's */
    bool alias;                      /* Meta's tied head: the embedding's storage by another name */
    bool scale;                      /* (rows,1) F32 scales of the FP8 tensor of this role; */
    int64_t scale_cols;              /* of its columns [col0, col0+scale_cols) */
    void *user;                      /* for the callbacks; set in choose */
} pack_tensor;

typedef struct pack_job {
    const pack_source *src;
    container to;
    int n_files;                     /* parts; Meta: model-parallel shards. 0: as many as needed */
    uint64_t file_bytes;             /* at most so many bytes of tensors in a file; 0: no limit */
    bool force;                      /* replace what is there */

    /* The output's type, in t->type, which holds the source's. Called once for each tensor, in
     * file order, from one thread. Vectors in GGUF are F32 whatever it says. */
    int (*choose)(void *arg, pack_tensor *t, dr_err *e);
    /* NULL: nobody edits. Does edit have something to do to this tensor? (NULL: to each.) */
    bool (*edits)(void *arg, const pack_tensor *t);
    /* Change rows [row, row+n) of the whole tensor, all_cols floats each, in the target's order
     * of rows. From any thread; `thread` is 0..pool_threads-1. Its result may depend on nothing
     * but the rows: they may be asked for in any grouping. */
    int (*edit)(void *arg, const pack_tensor *t, int64_t row, int64_t n, float *x, int thread,
                dr_err *e);
    /* Encode n rows of t->cols floats into t->type. NULL: quant_rows without importances for block
     * types (a merge that keeps a quantised tensor's type), else quant_row. From any thread. FP8 tensors
     * are not given to it: they get the largest value of a row / 448 as the row's scale, in a tensor of
     * its own behind them (safetensors), or in fp8_scales_K.pt (Meta: feed-forward matrices alone). */
    int (*encode)(void *arg, const pack_tensor *t, int64_t row, int64_t n, const float *x,
                  void *dst, int thread, dr_err *e);
    /* More metadata of a GGUF file, after the model's own. NULL: none. */
    int (*meta)(void *arg, gguf_writer *w, dr_err *e);
    int file_type;                   /* general.file_type; -1: from the tensors' types */
    uint64_t key;                    /* tells this job's edits and encoders from others', so that
                                        nobody goes on with another's file */

    void (*progress)(void *arg, uint64_t done, uint64_t total);   /* bytes; NULL: none */
    void (*note)(void *arg, const char *sentence);  /* what the user should know; NULL: none */
    void *arg;
} pack_job;

/* The container that a path asks for: NAME.gguf, FOLDER.pth or FOLDER.pth/, another folder:
 * safetensors. */
container pack_container_of(const char *out);
int pack_run(const pack_job *j, const char *out, pool *p, dr_err *e);
#endif
