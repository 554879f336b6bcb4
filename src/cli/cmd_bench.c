/* cmd_bench.c - drover bench: speed by context and batch, and the share of the machine's bound. */
#include <string.h>
#include "cli/model_arg.h"
#include "base/os.h"
#include "eval/bench_reply.h"
#include "gen/beside.h"
#include "pack/synth.h"
#include "base/mem.h"
#include "base/pool.h"

typedef struct {
    dev_args dev;
    lora_args lora;
    opt_ints p, d, b;
    int n, r, rows, kv;
    const char *shape, *type, *text, *draft;
    bool json;
} args;

enum { TEXT_MAX = 16 << 20 };

static const opt opts[] = {
    { 'p', "prompt", OPT_INTS, offsetof(args, p), "N,…", "prompt lengths (default 512; 0: none)", 0,
      1 << 24 },
    { 'n', "gen", OPT_INT, offsetof(args, n), "N", "tokens to generate (default 64; 0: none)", 0,
      1 << 20 },
    { 'd', "depth", OPT_INTS, offsetof(args, d), "N,…", "tokens held before (default 0)", 0, 1 << 24 },
    { 'b', "batch", OPT_INTS, offsetof(args, b), "N,…", "sequences decoded at once (default 1)", 1,
      4096 },
    { 'r', "reps", OPT_INT, offsetof(args, r), "R", "repetitions (default 5)", 1, BENCH_MAX },
    { 0, "shape", OPT_STR, offsetof(args, shape), "SPEC",
      "random weights in memory instead of MODEL: llama-3.2-1b, key=value,…" },
    { 0, "type", OPT_STR, offsetof(args, type), "T", "their type (default Q4_K_M)" },
    { 0, "text", OPT_STR, offsetof(args, text), "FILE",
      "also continue FILE's text by -n tokens, with guesses and without (docs/speculative.md)" },
    { 0, "draft", OPT_STR, offsetof(args, draft), "MODEL", "with --text: guesses of MODEL, too" },
    { 0, "rows", OPT_INT, offsetof(args, rows), "N", "tokens of a prefill step (default 512)", 1,
      1 << 16, .hidden = true },
    { 0, "kv-type", OPT_CHOICE, offsetof(args, kv), KV_CHOICES, "cache type (default f16)" },
    { 0, "json", OPT_FLAG, offsetof(args, json), NULL, "one JSON object on stdout" },
    { .kind = OPT_SUB, .at = offsetof(args, lora), .sub = lora_opts },
    { .kind = OPT_SUB, .at = offsetof(args, dev), .sub = dev_opts },
    OPT_END
};

static void print_row(void *arg, const bench_row *w, int reps)
{
    (void)arg;
    double lo = w->tok_s[0], hi = lo;
    for (int i = 1; i < reps; i++) {
        if (w->tok_s[i] < lo) lo = w->tok_s[i];
        if (w->tok_s[i] > hi) hi = w->tok_s[i];
    }
    printf("%-8s %7lld %7lld %6lld  %10.2f  [%.2f-%.2f]  %5.1f %% of %s\n",
           w->decode ? "decode" : "prefill", (long long)w->tokens, (long long)w->depth,
           (long long)w->batch, bench_median(w->tok_s, reps), lo, hi, 100 * w->share,
           w->decode ? "read bandwidth" : "peak");
    fflush(stdout);
}

static json_t *rows_json(const bench_result *r, int reps, bool decode)
{
    json_t *a = json_array();
    for (int i = 0; i < r->n_rows; i++) {
        const bench_row *w = &r->row[i];
        if (w->decode != decode) continue;
        json_t *v = json_array();
        for (int k = 0; k < reps; k++) json_array_append_new(v, json_real(w->tok_s[k]));
        json_t *o = json_pack("{s:I, s:I, s:I, s:f, s:o}", decode ? "steps" : "tokens",
                              (json_int_t)w->tokens, "depth", (json_int_t)w->depth, "batch",
                              (json_int_t)w->batch, "share", w->share, "tok_s", v);
        json_array_append_new(a, o);
    }
    return a;
}

static json_t *fills_json(const bench_result *r)
{
    json_t *a = json_array();
    for (int i = 0; i < r->n_fills; i++)
        json_array_append_new(a, json_pack("{s:I, s:I, s:f}", "from", (json_int_t)r->fill[i].from,
                                           "to", (json_int_t)r->fill[i].to, "tok_s",
                                           r->fill[i].tok_s));
    return a;
}

static json_t *figures(const double *v, int n)
{
    json_t *a = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(a, json_real(v[i]));
    return a;
}

static int report(const command *c, const model *m, const args *a, const bench_result *r,
                  const bench_reply_result *t)
{
    const roofline *f = &r->roof;
    json_t *reply = !a->text ? NULL : json_pack(
        "{s:i, s:i, s:o, s:o, s:f, s:i, s:i}", "prompt", t->prompt, "tokens", t->tokens, "plain_tok_s",
        figures(t->plain, a->r), "tok_s", figures(t->ahead, a->r), "gain", t->gain, "drafted",
        t->drafted, "accepted", t->accepted);
    return cmd_json(c, json_pack(
        "{s:o, s:o, s:o, s:o*, s:{s:f, s:f, s:f, s:f, s:f}, s:s, s:s, s:i, s:s, s:I, s:I, s:f}",
        "prefill", rows_json(r, a->r, false), "decode", rows_json(r, a->r, true),
        "fill", fills_json(r), "reply", reply,
        "roofline", "read_gb_s", f->read_mapped / 1e9, "read_huge_gb_s", f->read_huge / 1e9,
        "f32", f->f32 / 1e9, "bf16", f->bf16 / 1e9, "int8", f->int8 / 1e9,
        "model", a->shape ? a->shape : m->path, "level", m->d->level, "threads", m->d->n_threads,
        "arithmetic", bench_arith_name(m), "bytes_per_token", (json_int_t)r->per_token,
        "kv_bytes_per_position", (json_int_t)r->per_position,
        "flops_per_token", r->flops_per_token));
}

static void ints(int64_t *to, int *n, const opt_ints *v, int64_t fallback)
{
    *n = v->n ? v->n : 1;
    to[0] = fallback;
    if (v->n) memcpy(to, v->v, (size_t)v->n * sizeof *to);
}

/* A random model in memory: speed does not depend on the weights' values. */
static model *synthetic(const args *a, void **bytes, size_t *n, dr_err *e)
{
    synth_opt o = { .seed = 1 };
    pool *p = pool_new(a->dev.threads, e);
    int rc = p ? synth_shape_read(&o.shape, a->shape, e) : e->code;
    if (!rc) rc = synth_types_read(&o.types, a->type ? a->type : "Q4_K_M", e);
    if (!rc) rc = synth_memory(&o, bytes, n, p, e);
    pool_free(p);
    tensors *ts = rc ? NULL : tensors_parse(*bytes, *n, e);
    dev_opt d = dev_args_opt(&a->dev);
    return ts ? model_from_tensors(ts, &d, e) : NULL;
}

/* The figures of --text. */
static int continue_text(const command *c, const args *a, const model *m, bench_reply_result *r,
                         dr_err *e)
{
    buf text = { .cap_max = TEXT_MAX };
    ids v = {0};
    tokenizer *t = beside_tokenizer(m, e), *u = NULL;
    model *d = NULL;
    int rc = t ? os_read(&text, a->text, e) : e->code;
    if (!rc) rc = tok_encode(t, buf_span(&text), TOK_BOS, &v, e);
    if (!rc && (v.n < 1 || v.n + a->n > HP_MAX_CTX))
        rc = err_set(e, DR_EINVAL, "%s has %lld tokens: too %s", a->text, (long long)v.n,
                     v.n ? "many" : "few");
    if (!rc && a->draft) {
        d = model_arg_open_beside(c, a->draft, m, e);
        u = d ? beside_tokenizer(d, e) : NULL;
        rc = u ? spec_vocabulary(t, u, e) : e->code;
    }
    bench_reply_opt o = { a->n, a->r, kv_choice(a->kv), d };
    if (!rc) rc = bench_reply(m, t, v.p, (int)v.n, &o, r, e);
    model_close(d);
    tok_free(u);
    tok_free(t);
    ids_free(&v);
    buf_free(&text);
    return rc;
}

static void print_text(const bench_reply_result *r, int reps)
{
    printf("%d tokens after the text's %d: %.2f tokens/s, %.2f with guesses (%.2f times), %d of %d "
           "guesses accepted\n", r->tokens, r->prompt, bench_median(r->plain, reps),
           bench_median(r->ahead, reps), r->gain, r->accepted, r->drafted);
}

static int run(const command *c, int argc, char **argv)
{
    args a = { .n = 64, .r = 5, .rows = 512 };
    argc = cmd_parse(c, &a, argc, argv);
    if (!argc == !a.shape) return cmd_misuse(c, "one of MODEL and --shape SPEC is needed");
    void *bytes = NULL;
    size_t n_bytes = 0;
    dr_err e = {0};
    bench_opt o = { .n_gen = a.n, .reps = a.r, .n_rows = a.rows, .kv = kv_choice(a.kv) };
    ints(o.p, &o.n_p, &a.p, 512);
    if (!o.p[0]) o.n_p = 0;
    for (int i = 1; i < o.n_p; i++)
        if (!o.p[i]) return cmd_misuse(c, "a prompt length of 0 (no prefill) stands alone");
    ints(o.depth, &o.n_depth, &a.d, 0);
    ints(o.batch, &o.n_batch, &a.b, 1);
    for (int i = 1; i < o.n_depth; i++)
        if (o.depth[i] < o.depth[i - 1])
            return cmd_misuse(c, "depths must ascend");
    if (a.text && (a.shape || a.n < 1)) return cmd_misuse(c, "--text wants a MODEL and tokens (-n)");
    if (a.draft && !a.text) return cmd_misuse(c, "--draft is for the text of --text");
    model *m = a.shape ? synthetic(&a, &bytes, &n_bytes, &e) : model_arg_open(c, argv[0], &a.dev, &e);
    if (!m || lora_args_apply(&a.lora, m, &e)) {
        model_close(m);
        mem_pages_free(bytes, n_bytes);
        return cmd_fail(c, &e);
    }
    const char *name = a.shape ? a.shape : m->path;
    if (!a.json)
        printf("%s, %s, %d threads\n%-8s %7s %7s %6s  %10s\n", name, m->d->level,
               m->d->n_threads, "", "tokens", "depth", "batch", "tokens/s");
    static bench_result r;
    static bench_reply_result text;
    int rc = bench_run(m, m->d->n_threads, &o, &r, a.json ? NULL : print_row, NULL, &e), end = 0;
    if (rc == DR_OK && a.text) rc = continue_text(c, &a, m, &text, &e);
    if (rc == DR_OK && a.json) end = report(c, m, &a, &r, &text);
    if (rc == DR_OK && !a.json) {
        const roofline *f = &r.roof;
        printf("read %.1f GB/s (mapped) %.1f (huge pages); %.0f f32, %.0f bf16, %.0f int8 Gop/s\n",
               f->read_mapped / 1e9, f->read_huge / 1e9, f->f32 / 1e9, f->bf16 / 1e9,
               f->int8 / 1e9);
        if (a.text) print_text(&text, a.r);
        end = cmd_done(c);
    }
    model_close(m);
    mem_pages_free(bytes, n_bytes);
    return rc ? cmd_fail(c, &e) : end;
}

const command cmd_bench = {
    .name = "bench", .group = GROUP_MEASURE,
    .synopsis = "(MODEL | --shape SPEC) [-p N,…] [-n N] [-d DEPTH,…] [-b BATCH,…] [-r R] [--text FILE] [--json]",
    .summary = "speed by context and batch against the machine's bound",
    .min_args = 0, .max_args = 1, .opts = opts, .run = run,
};
