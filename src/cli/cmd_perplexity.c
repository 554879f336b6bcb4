/* cmd_perplexity.c - drover perplexity: how well the model predicts a text. */
#include <string.h>
#include <unistd.h>
#include "base/os.h"
#include "cli/ids_file.h"
#include "cli/model_arg.h"
#include "eval/kl.h"
#include "gen/beside.h"

typedef struct {
    dev_args dev;
    lora_args lora;
    const char *ids, *file, *save, *kl;
    int ctx, kv;
    bool json;
} args;

static const opt opts[] = {
    { 'f', "file", OPT_STR, offsetof(args, file), "FILE", "a text (- for stdin)" },
    { 0, "ids", OPT_STR, offsetof(args, ids), "FILE", "or token ids, decimal" },
    { 'c', "ctx", OPT_INT, offsetof(args, ctx), "N", "ids in a window (default 512)", 2, 1 << 24 },
    { 0, "save-logits", OPT_STR, offsetof(args, save), "FILE",
      "write every position's log-probabilities, as a reference" },
    { 0, "kl", OPT_STR, offsetof(args, kl), "FILE",
      "compare with that reference, over its own text" },
    { 0, "kv-type", OPT_CHOICE, offsetof(args, kv), KV_CHOICES, "cache type (default f32)" },
    { 0, "json", OPT_FLAG, offsetof(args, json), NULL, "one JSON object on stdout" },
    { .kind = OPT_SUB, .at = offsetof(args, lora), .sub = lora_opts },
    { .kind = OPT_SUB, .at = offsetof(args, dev), .sub = dev_opts },
    OPT_END
};

static int read_text(const model *m, const char *path, ids *v, dr_err *e)
{
    buf b;
    buf_init(&b, (size_t)1 << 32);
    int rc = os_read(&b, path, e);
    const gguf *g = tensors_gguf(m->ts);
    tokenizer *t = NULL;
    if (rc == DR_OK) {
        t = g ? tok_from_gguf(g, e) : tok_open(m->path, e);
        rc = t ? tok_encode(t, buf_span(&b), 0, v, e) : e->code;
    }
    tok_free(t);
    buf_free(&b);
    return rc;
}

static void progress(void *arg, const ppl_result *r, int64_t windows)
{
    if (*(bool *)arg)
        fprintf(stderr, "\rwindow %lld of %lld, perplexity %.4f ", (long long)r->windows,
                (long long)windows, r->ppl);
}

/* The ids to score: the reference's own, which a text given beside it must begin with. */
static int get_ids(const model *m, args *a, const logit_file *ref, ids *v, dr_err *e)
{
    int rc = a->ids ? ids_read(v, a->ids, e) : a->file ? read_text(m, a->file, v, e) : DR_OK;
    if (rc || !a->kl) return rc;
    int64_t n = ref->windows * ref->ctx;
    if ((a->ids || a->file) &&
        (v->n < n || memcmp(v->p, ref->ids, (size_t)n * sizeof *v->p)))
        return err_set(e, DR_EINVAL, "the %lld ids of %s are not those of the text that was given",
                       (long long)n, a->kl);
    if (a->ctx && a->ctx != ref->ctx)
        return err_set(e, DR_EINVAL, "%s has windows of %d; --ctx %d was given", a->kl, ref->ctx,
                       a->ctx);
    a->ctx = ref->ctx;
    return DR_OK;
}

/* The id that llama-perplexity puts at the front of a window. */
static int32_t bos_of(const model *m)
{
    tokenizer *t = beside_tokenizer(m, NULL);
    int32_t id = t && tok_wants_bos(t) ? tok_bos(t) : -1;
    tok_free(t);
    return id;
}

static int work(const command *c, const char *path, args *a, kl_result *r, dr_err *e)
{
    ids v = {0};
    logit_file ref = {0};
    session *s = NULL;
    model *m = model_arg_open(c, path, &a->dev, e);
    int rc = m ? lora_args_apply(&a->lora, m, e) : e->code;
    if (rc == DR_OK && a->kl) rc = logit_file_open(&ref, a->kl, e);
    if (rc == DR_OK) rc = get_ids(m, a, &ref, &v, e);
    if (rc == DR_OK) {
        if (!a->ctx) a->ctx = 512;
        if (a->ctx > m->h.n_ctx)
            cmd_warn(c, "windows of %d; the model was trained for %d positions", a->ctx,
                     m->h.n_ctx);
        session_opt so = { .n_ctx = a->ctx, .kv_set = true, .kv = kv_choice(a->kv) };
        s = session_new(m, &so, e);
        bool show = isatty(2);
        if (!s) rc = e->code;
        else if (a->kl)
            rc = kl_measure(s, &ref, ref.peer ? bos_of(m) : -1, r, progress, &show, e);
        else if (a->save) rc = kl_save(s, a->save, v.p, v.n, a->ctx, &r->ours, progress, &show, e);
        else rc = ppl_measure(s, v.p, v.n, a->ctx, &r->ours, progress, &show, e);
        if (show && s) fputs("\r\033[K", stderr);
        if (rc == DR_OK && !a->kl && v.n % a->ctx)
            cmd_warn(c, "the last %lld ids do not fill a window and are left out",
                     (long long)(v.n % a->ctx));
    }
    session_free(s);
    logit_file_close(&ref);
    model_close(m);
    ids_free(&v);
    return rc;
}

static json_t *to_json(const args *a, const kl_result *k)
{
    const ppl_result *r = &k->ours;
    json_t *o = json_pack("{s:I, s:I, s:f, s:f, s:i}", "tokens", (json_int_t)r->tokens, "windows",
                          (json_int_t)r->windows, "nll", r->nll, "ppl", r->ppl, "ctx", a->ctx);
    if (!o || !a->kl) return o;
    json_t *more = json_pack(
        "{s:{s:f, s:f}, s:f, s:{s:f, s:f, s:f, s:f, s:f, s:f, s:f}, s:f, s:f, s:f}",
        "reference", "nll", k->ref.nll, "ppl", k->ref.ppl, "ppl_ratio", r->ppl / k->ref.ppl,
        "kl", "mean", k->mean, "p50", k->p50, "p90", k->p90, "p95", k->p95, "p99", k->p99,
        "p99.9", k->p999, "max", k->max,
        "same_top", k->same_top, "dp_mean", k->dp_mean, "dp_rms", k->dp_rms);
    if (!more || json_object_update_new(o, more)) {
        json_decref(o);
        return NULL;
    }
    return o;
}

static void print(const args *a, const kl_result *k)
{
    const ppl_result *r = &k->ours;
    printf("perplexity %.4f over %lld tokens (%lld windows of %d), %.6f nats a token\n", r->ppl,
           (long long)r->tokens, (long long)r->windows, a->ctx, r->nll);
    if (!a->kl) return;
    printf("reference  %.4f, ratio %.6f\n", k->ref.ppl, r->ppl / k->ref.ppl);
    printf("KL         mean %.6g; median %.4g, 90 %% %.4g, 95 %% %.4g, 99 %% %.4g, 99.9 %% %.4g, "
           "largest %.4g\n", k->mean, k->p50, k->p90, k->p95, k->p99, k->p999, k->max);
    printf("same likeliest token in %.3f %%; probability of the token that came: mean %+.4f %%, "
           "RMS %.4f %%\n", 100 * k->same_top, 100 * k->dp_mean, 100 * k->dp_rms);
}

static int run(const command *c, int argc, char **argv)
{
    args a = { .kv = 2 };
    argc = cmd_parse(c, &a, argc, argv);
    if (a.ids && a.file) return cmd_misuse(c, "--file FILE and --ids FILE exclude each other");
    if (!a.ids && !a.file && !a.kl)
        return cmd_misuse(c, "one of --file FILE, --ids FILE and --kl FILE is needed");
    if (a.save && a.kl) return cmd_misuse(c, "--save-logits and --kl exclude each other");
    dr_err e = {0};
    kl_result r = {0};
    if (work(c, argv[0], &a, &r, &e)) return cmd_fail(c, &e);
    if (a.json) return cmd_json(c, to_json(&a, &r));
    print(&a, &r);
    return cmd_done(c);
}

const command cmd_perplexity = {
    .name = "perplexity", .group = GROUP_MEASURE,
    .synopsis = "MODEL (--file FILE | --ids FILE | --kl FILE) [--ctx N] [--json]",
    .summary = "how well the model predicts a text",
    .details =
        "--save-logits writes what a reference model says of a text; --kl then measures another\n"
        "model, or the same at other types, against it: KL divergence, its quantiles, how often the\n"
        "likeliest token is the same. Two bytes a position and token of the vocabulary. Files of\n"
        "llama-perplexity --kl-divergence-base are read, too.",
    .min_args = 1, .max_args = 1, .opts = opts, .run = run,
};
