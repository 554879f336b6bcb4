/* out_args.c - see out_args.h. */
#include "cli/out_args.h"
#include <stdio.h>

const opt out_opts[] = {
    { 0, "max-shard-size", OPT_SIZE, offsetof(out_args, shard_size), "BYTES",
      "GGUF and safetensors: at most so many bytes of tensors in a file, 5G" },
    { 0, "shards", OPT_INT, offsetof(out_args, shards), "N",
      "N files; Meta: model-parallel shards", 1, 99999 },
    { 'f', "force", OPT_FLAG, offsetof(out_args, force), NULL, "replace OUT" },
    { 't', "threads", OPT_INT, offsetof(out_args, threads), "N",
      "threads (default: one per core)", 0, 1024 },
    { 'q', "quiet", OPT_FLAG, offsetof(out_args, quiet), NULL, "no progress, no notes on stderr" },
    OPT_END
};

int out_args_check(const command *c, const out_args *a)
{
    return a->shards && a->shard_size ?
           cmd_misuse(c, "--shards and --max-shard-size exclude each other") : 0;
}

void teller_show(void *arg, uint64_t done, uint64_t total)
{
    teller *t = arg;
    if (t->quiet) return;
    t->bar.total = (int64_t)total;
    progress_set(&t->bar, (int64_t)done);
}

void teller_note(void *arg, const char *sentence)
{
    teller *t = arg;
    if (t->quiet) return;
    progress_end(&t->bar);
    fprintf(stderr, "drover %s: %s\n", t->c->name, sentence);
}
