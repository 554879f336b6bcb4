/* cmd_convert.c - drover convert: a model from any container into any other. */
#include <stdlib.h>
#include <string.h>
#include "cli/cache.h"
#include "cli/out_args.h"
#include "pack/convert.h"

typedef struct {
    const char *type;
    int to;
    out_args out;
} args;

static const opt opts[] = {
    { 0, "type", OPT_STR, offsetof(args, type), "TYPE",
      "f32, f16, bf16 or fp8 (default: what the model has)" },
    { 0, "to", OPT_CHOICE, offsetof(args, to), "auto|gguf|safetensors|meta",
      "container (default: by OUT's name, see below)" },
    { .kind = OPT_SUB, .at = offsetof(args, out), .sub = out_opts },
    OPT_END
};

static int run(const command *c, int argc, char **argv)
{
    args a = {0};
    argc = cmd_parse(c, &a, argc, argv);
    (void)argc;
    dr_err e = {0};
    teller t = { .c = c, .quiet = a.out.quiet };
    static const container kinds[] = { 0, CONTAINER_GGUF, CONTAINER_SAFETENSORS, CONTAINER_META };
    convert_opt o = { .out = argv[1], .to = a.to ? kinds[a.to] : pack_container_of(argv[1]),
                      .n_files = a.out.shards, .file_bytes = a.out.shard_size, .force = a.out.force,
                      .progress = teller_show, .note = teller_note, .arg = &t };
    if (out_args_check(c, &a.out)) return 2;
    if (convert_type(a.type, &o.type, &e) != DR_OK) return cmd_misuse(c, "%s", e.msg);
    buf path = { .cap_max = CACHE_PATH_MAX };
    int rc = model_resolve(argv[0], &path, &e);
    o.in = buf_str(&path);
    pool *p = rc == DR_OK ? pool_new(a.out.threads, &e) : NULL;
    progress_begin(&t.bar, "converting", 0);
    if (rc == DR_OK) rc = p ? convert(&o, p, &e) : e.code;
    progress_end(&t.bar);
    pool_free(p);
    buf_free(&path);
    return rc == DR_OK ? 0 : cmd_fail(c, &e);
}

const command cmd_convert = {
    .name = "convert", .group = GROUP_FILES, .synopsis = "[options] IN OUT",
    .summary = "turn a model from one container into another",
    .details =
        "IN is a GGUF file (the first part of a split one names the rest), a folder of safetensors,\n"
        "a folder of Meta's consolidated.*.pth, or the name of a fetched model. OUT's name says the\n"
        "container: NAME.gguf is GGUF, FOLDER.pth Meta's form, any other folder safetensors.\n"
        "\n"
        "Without --type each tensor keeps its type; what the target cannot hold (quantised types in\n"
        "safetensors and Meta's form, FP8 in GGUF) becomes bf16, and this is said. fp8 is what Meta's\n"
        "own FP8 files are: E4M3 with a scale for each row for the feed-forward\n"
        "matrices of all layers but the first and the last, bf16 for the rest.\n"
        "\n"
        "The output grows in the folder OUT.part and gets its name when it is complete. The same\n"
        "command after an interruption goes on where it was; what is there is checked.",
    .min_args = 2, .max_args = 2, .opts = opts, .run = run,
};
