/* cmd_perplexity.c - drover perplexity: how well the model predicts a text. */
#include <math.h>
#include <unistd.h>
#include "base/os.h"
#include "cli/ids_file.h"
#include "cli/model_arg.h"
#include "eval/ppl.h"

typedef struct {
    dev_args dev;
    const char *ids, *file;
    int ctx, kv;
    bool json;
} args;

static const opt opts[] = {
    { 'f', "file", OPT_STR, offsetof(args, file), "FILE", "a text (- for stdin)" },
    { 0, "ids", OPT_STR, offsetof(args, ids), "FILE", "or token ids, decimal" },
    { 'c', "ctx", OPT_INT, offsetof(args, ctx), "N", "ids in a window (default 512)", 2, 1 << 24 },
    { 0, "kv-type", OPT_CHOICE, offsetof(args, kv), KV_CHOICES, "cache type (default f32)" },
    { 0, "json", OPT_FLAG, offsetof(args, json), NULL, "one JSON object on stdout" },
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

static int work(const command *c, const char *path, const args *a, ppl_result *r, dr_err *e)
{
    ids v = {0};
    session *s = NULL;
    model *m = model_arg_open(c, path, &a->dev, e);
    int rc = m ? DR_OK : e->code;
    if (rc == DR_OK) rc = a->ids ? ids_read(&v, a->ids, e) : read_text(m, a->file, &v, e);
    if (rc == DR_OK) {
        if (a->ctx > m->h.n_ctx)
            cmd_warn(c, "windows of %d; the model was trained for %d positions", a->ctx,
                     m->h.n_ctx);
        session_opt so = { .n_ctx = a->ctx, .kv_set = true, .kv = kv_choice(a->kv) };
        s = session_new(m, &so, e);
        bool show = isatty(2);
        rc = s ? ppl_measure(s, v.p, v.n, a->ctx, r, progress, &show, e) : e->code;
        if (show && s) fputs("\r\033[K", stderr);
        if (rc == DR_OK && v.n % a->ctx)
            cmd_warn(c, "the last %lld ids do not fill a window and are left out",
                     (long long)(v.n % a->ctx));
    }
    session_free(s);
    model_close(m);
    ids_free(&v);
    return rc;
}

static int run(const command *c, int argc, char **argv)
{
    args a = { .ctx = 512, .kv = 2 };
    argc = cmd_parse(c, &a, argc, argv);
    if (!a.ids == !a.file) return cmd_misuse(c, "one of --file FILE and --ids FILE is needed");
    dr_err e = {0};
    ppl_result r = {0};
    if (work(c, argv[0], &a, &r, &e)) return cmd_fail(c, &e);
    if (a.json)
        return cmd_json(c, json_pack("{s:I, s:I, s:f, s:f, s:i}", "tokens", (json_int_t)r.tokens,
                                     "windows", (json_int_t)r.windows, "nll", r.nll, "ppl", r.ppl,
                                     "ctx", a.ctx));
    printf("perplexity %.4f over %lld tokens (%lld windows of %d), %.6f nats a token\n", r.ppl,
           (long long)r.tokens, (long long)r.windows, a.ctx, r.nll);
    return cmd_done(c);
}

const command cmd_perplexity = {
    .name = "perplexity", .group = GROUP_MEASURE,
    .synopsis = "MODEL (--file FILE | --ids FILE) [--ctx N] [--json]",
    .summary = "how well the model predicts a text",
    .min_args = 1, .max_args = 1, .opts = opts, .run = run,
};
