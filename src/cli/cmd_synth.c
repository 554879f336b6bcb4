/* cmd_synth.c - drover synth: a model with random weights, of any shape and type. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/os.h"
#include "cli/cmd.h"
#include "pack/synth.h"

typedef struct {
    const char *shape, *type, *tokenizer, *out;
    uint64_t seed;
    size_t shard;
    int shards, threads;
    bool quiet, cut;
} args;

static const opt opts[] = {
    { 0, "shape", OPT_STR, offsetof(args, shape), "SHAPE",
      "name, key=value pairs, or both (see below)" },
    { 0, "type", OPT_STR, offsetof(args, type), "TYPE", "weight type or mix (default BF16)" },
    { 'o', "out", OPT_STR, offsetof(args, out), "PATH", "NAME.gguf, a folder (safetensors), or a folder NAME.pth/ (Meta's)" },
    { 0, "tokenizer", OPT_STR, offsetof(args, tokenizer), "FILE",
      "GGUF: its tokenizer is copied; a folder: the file is" },
    { 0, "cut", OPT_FLAG, offsetof(args, cut), NULL,
      "GGUF: keep only the tokenizer's first tokens, as many as the shape's vocab" },
    { 0, "seed", OPT_UINT64, offsetof(args, seed), "N", "same seed, same weights (default 1)" },
    { 0, "shard", OPT_SIZE, offsetof(args, shard), "BYTES",
      "safetensors: at most so many bytes in a file" },
    { 0, "shards", OPT_INT, offsetof(args, shards), "N",
      "Meta's: so many model-parallel files (default 1)", 1, 999 },
    { 't', "threads", OPT_INT, offsetof(args, threads), "N", "threads (default: one per core)",
      0, 1024 },
    { 'q', "quiet", OPT_FLAG, offsetof(args, quiet), NULL, "no progress on stderr" },
    OPT_END
};

static void progress(void *arg, uint64_t done, uint64_t total)
{
    int64_t *last = arg, now = os_now_ns();
    if (done < total && now - *last < 200000000) return;
    *last = now;
    fprintf(stderr, "\r%5.1f %% of %.2f GB", 100.0 * (double)done / (double)total,
            (double)total * 1e-9);
    if (done == total) fputc('\n', stderr);
}

static int run(const command *c, int argc, char **argv)
{
    args a = { .type = "BF16", .seed = 1 };
    cmd_parse(c, &a, argc, argv);
    if (!a.shape || !a.out) return cmd_misuse(c, "--%s is wanted", a.shape ? "out" : "shape");
    size_t n = strlen(a.out);
    if (a.cut && (!a.tokenizer || n < 5 || strcmp(a.out + n - 5, ".gguf")))
        return cmd_misuse(c, "--cut is for --tokenizer and a GGUF file");
    dr_err e = {0};
    int64_t last = 0;
    synth_opt o = { .seed = a.seed, .tokenizer = a.tokenizer, .cut = a.cut, .shard_bytes = a.shard,
                    .shards = a.shards,
                    .arg = &last };
    if (!a.quiet && isatty(2)) o.progress = progress;
    if (synth_shape_read(&o.shape, a.shape, &e) != DR_OK ||
        synth_types_read(&o.types, a.type, &e) != DR_OK)
        return cmd_misuse(c, "%s", e.msg);
    pool *p = pool_new(a.threads, &e);
    int rc = p ? synth_write(&o, a.out, p, &e) : e.code;
    pool_free(p);
    return rc == DR_OK ? 0 : cmd_fail(c, &e);
}

const command cmd_synth = {
    .name = "synth", .group = GROUP_PLUMBING, .synopsis = "--shape SHAPE --out PATH [options]",
    .summary = "make a model with random weights, of any shape and type",
    .details =
        "SHAPE is a name (llama-3.2-1b llama-3.2-3b llama-3.1-8b llama-3.1-70b llama-3.3-70b\n"
        "llama-3.1-405b llama-3-8b llama-3-70b llama-2-7b llama-2-13b llama-2-70b tinyllama-1.1b\n"
        "smollm2-135m smollm2-360m smollm2-1.7b mistral-7b-v0.1 … v0.3 tiny), pairs such as\n"
        "dim=256,layers=2,heads=4, or a name and pairs that change it: llama-3.1-8b,layers=2.\n"
        "Keys: dim layers heads kv_heads head_dim ffn vocab ctx tied bias eps theta std window\n"
        "rope_factor rope_low rope_high rope_orig (Llama 3's scaling) rope_linear.\n"
        "\n"
        "TYPE is F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K … Q6_K for every matrix, or one of\n"
        "llama.cpp's mixes: Q3_K_S Q3_K_M Q3_K_L Q4_K_S Q4_K_M Q5_K_S Q5_K_M. FP8 is Meta's form\n"
        "(the feed-forward of all layers but the first and last, the rest BF16) in safetensors or\n"
        ".pth, FP8_DYNAMIC compressed-tensors' in safetensors.\n"
        "\n"
        "The same seed gives the same weights in every container, before they are rounded.",
    .min_args = 0, .max_args = 0, .opts = opts, .run = run,
};
