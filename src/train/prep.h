/* prep.h - text into token shards: read, cut into documents, tokenised on all cores, written in the
 * order of the input. What is written does not depend on the number of threads. */
#ifndef TRAIN_PREP_H
#define TRAIN_PREP_H
#include "base/pool.h"
#include "text/tokenizer.h"
#include "train/records.h"

typedef struct {
    const tokenizer *tok;
    const char *const *in;       /* (n_in) files, folders (all files in them, by name), "-" */
    int n_in;
    const char *out;             /* a folder for the shards; made if it is not there */
    records_opt records;
    bool no_bos;                 /* else each document begins with the BOS, if the model wants one */
    int32_t end;                 /* id at the end of each document; -1: none */
    uint64_t shard_tokens;       /* about so many ids in a shard; 0: 256 million */
    const char *eval_out;        /* a folder for each eval_every-th document; NULL: all go to out */
    int eval_every;
    bool force;                  /* replace shards that are there */
    void (*tick)(void *arg, uint64_t done, uint64_t total);    /* bytes of files; NULL: none. total 0:
                                                                  unknown */
    void *arg;
} prep_opt;

typedef struct {
    uint64_t docs, tokens;       /* in out */
    uint64_t eval_docs, eval_tokens;
    uint64_t text_bytes;         /* of all documents */
    uint64_t empty;              /* documents without text, which were passed over */
    int files, shards, eval_shards;
} prep_stat;

int prep(const prep_opt *o, pool *threads, prep_stat *st, dr_err *e);

/* Paths of all files that o->in means, sorted within each folder, files that begin with . left
 * out. bytes: their sizes together; 0: unknown. */
typedef struct { char **path; int n; uint64_t bytes; } file_list;
int file_list_make(file_list *l, const char *const *in, int n_in, dr_err *e);
void file_list_free(file_list *l);
#endif
