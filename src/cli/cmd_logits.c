/* cmd_logits.c - drover logits: the raw output of the model for given ids, as a NumPy file. */
#include "cli/ids_file.h"
#include "cli/model_arg.h"
#include "format/npy.h"
#include "gen/session.h"

typedef struct {
    dev_args dev;
    lora_args lora;
    const char *ids, *out;
    int chunk, kv;
    bool last;
} args;

static const opt opts[] = {
    { 0, "ids", OPT_STR, offsetof(args, ids), "FILE", "token ids, decimal, white space between" },
    { 0, "out", OPT_STR, offsetof(args, out), "FILE.npy", "float32 (T,V) in NumPy's format" },
    { 0, "chunk", OPT_INT, offsetof(args, chunk), "N", "evaluate N tokens a step (default 512)",
      1, SESSION_ROWS_DEFAULT },
    { 0, "last", OPT_FLAG, offsetof(args, last), NULL, "only the last position: shape (1,V)" },
    { 0, "kv-type", OPT_CHOICE, offsetof(args, kv), KV_CHOICES, "cache type (default f32)" },
    { .kind = OPT_SUB, .at = offsetof(args, lora), .sub = lora_opts },
    { .kind = OPT_SUB, .at = offsetof(args, dev), .sub = dev_opts },
    OPT_END
};

static int write_rows(void *arg, int first, int rows, const float *logits, dr_err *e)
{
    (void)first;
    return npy_rows(arg, logits, rows, e);
}

static int work(const command *c, const char *path, const args *a, dr_err *e)
{
    ids v = {0};
    npy w = {0};
    session *s = NULL;
    model *m = NULL;
    int rc = ids_read(&v, a->ids, e);
    if (rc == DR_OK && v.n == 0) rc = err_set(e, DR_EINVAL, "%s holds no ids", a->ids);
    if (rc == DR_OK && v.n > HP_MAX_CTX)
        rc = err_set(e, DR_EINVAL, "%s holds %lld ids", a->ids, (long long)v.n);
    if (rc) goto done;
    m = model_arg_open(c, path, &a->dev, e);
    rc = m ? lora_args_apply(&a->lora, m, e) : e->code;
    if (rc) goto done;
    if (v.n > m->h.n_ctx)
        cmd_warn(c, "%lld ids; the model was trained for %d positions", (long long)v.n, m->h.n_ctx);
    session_opt so = { .n_ctx = (int)v.n, .n_rows = a->chunk, .kv_set = true,
                       .kv = kv_choice(a->kv) };
    s = session_new(m, &so, e);
    if (!s) {
        rc = e->code;
        goto done;
    }
    rc = npy_begin(&w, a->out, a->last ? 1 : v.n, m->h.V, e);
    if (rc == DR_OK && a->last) {
        rc = session_append(s, v.p, (int)v.n, NULL, e);
        if (rc == DR_OK) rc = npy_rows(&w, session_logits(s), 1, e);
    } else if (rc == DR_OK) {
        rc = session_all_logits(s, v.p, (int)v.n, write_rows, &w, e);
    }
    if (rc == DR_OK) rc = npy_end(&w, e);
done:
    npy_abort(&w);
    session_free(s);
    model_close(m);
    ids_free(&v);
    return rc;
}

static int run(const command *c, int argc, char **argv)
{
    args a = { .kv = 2 };
    argc = cmd_parse(c, &a, argc, argv);
    if (!a.ids || !a.out) return cmd_misuse(c, "--ids FILE and --out FILE.npy are needed");
    dr_err e = {0};
    return work(c, argv[0], &a, &e) ? cmd_fail(c, &e) : 0;
}

const command cmd_logits = {
    .name = "logits", .group = GROUP_PLUMBING, .hidden = true,
    .synopsis = "MODEL --ids FILE --out FILE.npy [--chunk N] [--last]",
    .summary = "write the logits of given token ids",
    .min_args = 1, .max_args = 1, .opts = opts, .run = run,
};
