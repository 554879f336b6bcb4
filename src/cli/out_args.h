/* out_args.h - what the commands that write a model share: where it goes and what is said
 * meanwhile. */
#ifndef CLI_OUT_ARGS_H
#define CLI_OUT_ARGS_H
#include "cli/cmd.h"
#include "cli/progress.h"

typedef struct {
    int shards, threads;
    size_t shard_size;
    bool force, quiet;
} out_args;
extern const opt out_opts[];         /* rows for OPT_SUB */

/* Options that exclude each other: the exit status of a misuse, said; 0: none do. */
int out_args_check(const command *c, const out_args *a);

/* Progress and notes of a long work, for its callbacks. */
typedef struct { const command *c; progress bar; bool quiet; } teller;
void teller_show(void *teller, uint64_t done, uint64_t total);
void teller_note(void *teller, const char *sentence);    /* "drover NAME: sentence" on stderr */
#endif
