/* cmd_quantize.c - drover quantize: a model in fewer bits. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "cli/cache.h"
#include "cli/out_args.h"
#include "pack/quantize.h"

typedef struct {
    const char *imatrix, *head, *embd;
    opt_list rules;
    bool pure, search, dry;
    out_args out;
} args;

static const opt opts[] = {
    { 0, "imatrix", OPT_STR, offsetof(args, imatrix), "FILE",
      "importance matrix (drover imatrix or llama-imatrix made it)" },
    { 0, "tensor-type", OPT_LIST, offsetof(args, rules), "PATTERN=TYPE",
      "tensors whose GGUF name meets this get TYPE (repeatable)" },
    { 0, "output-type", OPT_STR, offsetof(args, head), "TYPE", "of the head, output.weight" },
    { 0, "embd-type", OPT_STR, offsetof(args, embd), "TYPE", "of the embedding, token_embd.weight" },
    { 0, "pure", OPT_FLAG, offsetof(args, pure), NULL, "one type for all matrices, no mix" },
    { 0, "search", OPT_FLAG, offsetof(args, search), NULL,
      "search without an importance matrix too, where llama.cpp only rounds" },
    { 0, "dry-run", OPT_FLAG, offsetof(args, dry), NULL, "list what would become what, and stop" },
    { .kind = OPT_SUB, .at = offsetof(args, out), .sub = out_opts },
    OPT_END
};

typedef struct {
    teller t;                        /* first: the callbacks see it */
    uint64_t bytes, weights;         /* of the plan so far */
} listing;

static void list(void *arg, const pack_tensor *p)
{
    listing *l = arg;
    char shape[48];
    uint64_t n = (uint64_t)p->rows * (uint64_t)p->cols;
    uint64_t bytes = (uint64_t)type_row_bytes(p->type, p->cols) * (uint64_t)p->rows;
    if (p->n_dims == 1) snprintf(shape, sizeof shape, "%" PRId64, p->cols);
    else snprintf(shape, sizeof shape, "%" PRId64 " x %" PRId64, p->rows, p->cols);
    printf("%-34s %16s  %-8s -> %-8s %12" PRIu64 "\n", p->name, shape,
           p->src ? type_get(p->src->type)->name : "", type_get(p->type)->name, bytes);
    l->bytes += bytes, l->weights += n;
}

static int types_of(const args *a, quantize_opt *o, dr_err *e)
{
    o->head_type = o->embd_type = -1;
    if (a->head && (o->head_type = quantize_type(a->head, e)) < 0) return DR_EINVAL;
    if (a->embd && (o->embd_type = quantize_type(a->embd, e)) < 0) return DR_EINVAL;
    int rc = DR_OK;
    for (int i = 0; i < a->rules.n && rc == DR_OK; i++)
        rc = quantize_rule_add(o, a->rules.v[i], e);
    return rc;
}

static int run(const command *c, int argc, char **argv)
{
    args a = {0};
    argc = cmd_parse(c, &a, argc, argv);
    dr_err e = {0};
    listing l = { .t = { .c = c, .quiet = a.out.quiet } };
    if (argc < 3 && !a.dry) return cmd_misuse(c, "where to? IN TYPE OUT are wanted");
    quantize_opt o = { .out = argc > 2 ? argv[2] : NULL, .type = argv[1], .imatrix = a.imatrix,
                       .pure = a.pure, .search = a.search, .dry = a.dry, .plan = list,
                       .n_files = a.out.shards, .file_bytes = a.out.shard_size, .force = a.out.force,
                       .progress = teller_show, .note = teller_note, .arg = &l };
    o.to = o.out ? pack_container_of(o.out) : !strncasecmp(o.type, "FP8", 3) ?
           CONTAINER_SAFETENSORS : CONTAINER_GGUF;
    if (out_args_check(c, &a.out)) return 2;
    if (types_of(&a, &o, &e) != DR_OK) return cmd_misuse(c, "%s", e.msg);
    buf path = { .cap_max = CACHE_PATH_MAX };
    int rc = model_resolve(argv[0], &path, &e);
    o.in = buf_str(&path);
    pool *p = rc == DR_OK ? pool_new(a.out.threads, &e) : NULL;
    if (!a.dry) progress_begin(&l.t.bar, "quantising", 0);
    if (rc == DR_OK) rc = p ? quantize(&o, p, &e) : e.code;
    if (!a.dry) progress_end(&l.t.bar);
    if (rc == DR_OK && a.dry)
        printf("%" PRIu64 " weights, %" PRIu64 " bytes, %.2f bits a weight\n", l.weights, l.bytes,
               l.weights ? 8 * (double)l.bytes / (double)l.weights : 0);
    pool_free(p);
    buf_free(&path);
    return rc == DR_OK ? 0 : cmd_fail(c, &e);
}

const command cmd_quantize = {
    .name = "quantize", .group = GROUP_FILES, .synopsis = "[options] IN TYPE OUT",
    .summary = "write a model in fewer bits",
    .details =
        "IN is a model in any form, best one that was never quantised. OUT ends in .gguf.\n"
        "\n"
        "TYPE is one of llama.cpp's mixes: Q2_K Q2_K_S Q3_K_S Q3_K_M Q3_K_L Q4_K_S Q4_K_M Q5_K_S\n"
        "Q5_K_M Q6_K IQ2_XXS IQ2_XS IQ2_S IQ2_M IQ3_XXS IQ3_XS IQ3_S IQ3_M IQ4_NL IQ4_XS Q4_0 Q4_1\n"
        "Q5_0 Q5_1 Q8_0 MXFP4 F16 BF16 F32; Q3_K, Q4_K and Q5_K are their _M. Each tensor gets the\n"
        "type that llama-quantize gives it. FP8 is E4M3 with a scale for each row, as Meta's FP8 files\n"
        "have it, into a folder of safetensors.\n"
        "\n"
        "PATTERN is a regular expression that is looked for in the tensor's GGUF name:\n"
        "--tensor-type 'blk\\.(0|1)\\.ffn_down=Q6_K'. The first that is met counts.\n"
        "\n"
        "The bytes do not depend on the number of threads. An interrupted run goes on where it was.",
    .min_args = 2, .max_args = 3, .opts = opts, .run = run,
};
