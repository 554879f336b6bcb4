/* cmd_merge.c - drover merge: adapters into a base, or the average of several models. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "cli/cache.h"
#include "cli/out_args.h"
#include "pack/merge.h"

enum { MAX_MODELS = 64 };

typedef struct {
    opt_list lora;
    const char *type, *weights;
    int to;
    out_args out;
} args;

static const opt opts[] = {
    { 0, "lora", OPT_LIST, offsetof(args, lora), "PATH[:SCALE]",
      "add this adapter to MODEL (PEFT folder or GGUF); may be given again" },
    { 0, "weights", OPT_STR, offsetof(args, weights), "W,…",
      "average with these shares, one for each MODEL (default: equal)" },
    { 0, "type", OPT_STR, offsetof(args, type), "TYPE",
      "f32, f16, bf16 or fp8 (default: what the first model has)" },
    { 0, "to", OPT_CHOICE, offsetof(args, to), "auto|gguf|safetensors|meta",
      "container (default: by OUT's name, as convert)" },
    { .kind = OPT_SUB, .at = offsetof(args, out), .sub = out_opts },
    OPT_END
};

/* n numbers with commas between. */
static int read_weights(const char *text, double *w, int n, dr_err *e)
{
    const char *s = text;
    for (int i = 0; i < n; i++) {
        char *end;
        w[i] = strtod(s, &end);
        if (end == s || !isfinite(w[i]) || *end != (i < n - 1 ? ',' : 0))
            return err_set(e, DR_EINVAL, "--weights wants %d numbers with commas between, not \"%.80s\"",
                           n, text);
        s = end + 1;
    }
    return DR_OK;
}

typedef struct {
    buf path[MAX_MODELS];
    const char *model[MAX_MODELS];
    char lora_path[OPT_LIST_MAX][CACHE_PATH_MAX];
    lora_ref lora[OPT_LIST_MAX];
    double weight[MAX_MODELS];
} names;

static int work(const args *a, int n_models, char **argv, merge_opt *o, names *s, dr_err *e)
{
    int rc = DR_OK;
    for (int i = 0; i < a->lora.n && !rc; i++)
        rc = lora_ref_parse(&s->lora[i], a->lora.v[i], s->lora_path[i], CACHE_PATH_MAX, e);
    if (!rc && a->weights) rc = read_weights(a->weights, s->weight, n_models, e);
    for (int i = 0; i < n_models && !rc; i++) {
        s->path[i] = (buf){ .cap_max = CACHE_PATH_MAX };
        rc = model_resolve(argv[i], &s->path[i], e);
        s->model[i] = buf_str(&s->path[i]);
    }
    o->conv.in = s->model[0];
    o->more = s->model + 1, o->n_more = n_models - 1;
    o->lora = s->lora, o->n_lora = a->lora.n;
    o->weight = a->weights ? s->weight : NULL;
    pool *p = rc ? NULL : pool_new(a->out.threads, e);
    if (!rc) rc = p ? merge(o, p, e) : e->code;
    pool_free(p);
    for (int i = 0; i < n_models; i++) buf_free(&s->path[i]);
    return rc;
}

static int run(const command *c, int argc, char **argv)
{
    args a = {0};
    argc = cmd_parse(c, &a, argc, argv);
    int n_models = argc - 1;
    if (n_models > 1 && a.lora.n) return cmd_misuse(c, "--lora merges into one MODEL");
    if (n_models == 1 && !a.lora.n) return cmd_misuse(c, "--lora PATH or a second MODEL is needed");
    if (n_models == 1 && a.weights) return cmd_misuse(c, "--weights is for several models");
    if (n_models > MAX_MODELS) return cmd_misuse(c, "at most %d models", MAX_MODELS);
    if (out_args_check(c, &a.out)) return 2;
    dr_err e = {0};
    teller t = { .c = c, .quiet = a.out.quiet };
    static const container kinds[] = { 0, CONTAINER_GGUF, CONTAINER_SAFETENSORS, CONTAINER_META };
    const char *out = argv[n_models];
    merge_opt o = { .conv = { .out = out, .to = a.to ? kinds[a.to] : pack_container_of(out),
                              .n_files = a.out.shards, .file_bytes = a.out.shard_size, .force = a.out.force,
                              .progress = teller_show, .note = teller_note, .arg = &t } };
    if (convert_type(a.type, &o.conv.type, &e) != DR_OK) return cmd_misuse(c, "%s", e.msg);
    names *s = mem_zalloc(1, sizeof *s);
    if (!s) return err_nomem(&e, sizeof *s, "names"), cmd_fail(c, &e);
    progress_begin(&t.bar, "merging", 0);
    int rc = work(&a, n_models, argv, &o, s, &e);
    progress_end(&t.bar);
    mem_free(s);
    return rc == DR_OK ? 0 : cmd_fail(c, &e);
}

const command cmd_merge = {
    .name = "merge", .group = GROUP_FILES, .synopsis = "[options] MODEL… OUT",
    .summary = "LoRA adapters into a model, or the average of several models",
    .details =
        "With --lora, the adapters' B A times their factors are added to MODEL's weights. With several\n"
        "models, OUT's weights are their average, by equal or given shares; they must have the same\n"
        "shape and tokenizer, but may lie in different containers. Everything else (tokenizer, template,\n"
        "configuration) is the first model's.\n"
        "\n"
        "OUT's name says the container, as in drover convert. Sums are made in double precision; without\n"
        "--type each tensor keeps its type, and quantised ones that change are quantised again. Rows\n"
        "stream: memory does not grow with the models. An interrupted merge goes on where it was.",
    .min_args = 2, .max_args = -1, .opts = opts, .run = run,
};
