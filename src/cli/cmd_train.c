/* cmd_train.c - drover train: a run of a recipe, its plan, its state, its model. */
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>
#include "base/os.h"
#include "cli/cache.h"
#include "cli/model_arg.h"
#include "cli/out_args.h"
#include "cli/plot.h"
#include "eval/bench.h"
#include "train/export.h"
#include "train/run.h"

typedef struct {
    opt_list sets;
    bool dry, status, keys, json, quiet, force;
    int64_t until, step;
    const char *to, *type, *curve;
    dev_args dev;
} args;

static const opt opts[] = {
    { 0, "set", OPT_LIST, offsetof(args, sets), "KEY=VALUE",
      "change a key of the recipe (repeatable): optimizer.clip=0.5, phases.0.peak=1e-4" },
    { 0, "until", OPT_INT64, offsetof(args, until), "STEP", "save and stop after this step", 1, 1e18 },
    { .kind = OPT_HEAD, .help = "Instead of training" },
    { 0, "dry-run", OPT_FLAG, offsetof(args, dry), NULL,
      "print the plan: bytes, steps, tokens, hours; take nothing" },
    { 0, "status", OPT_FLAG, offsetof(args, status), NULL, "print how far the run is" },
    { 0, "curve", OPT_STR, offsetof(args, curve), "FILE",
      "draw the loss so far into FILE.svg or FILE.png, by gnuplot" },
    { 0, "export", OPT_STR, offsetof(args, to), "OUT",
      "write a checkpoint as a model: NAME.gguf, FOLDER.pth or a folder of safetensors" },
    { 0, "type", OPT_STR, offsetof(args, type), "TYPE", "export: f32, f16 or bf16 (default bf16)" },
    { 0, "step", OPT_INT64, offsetof(args, step), "N",
      "export: this checkpoint (default: the newest)", 1, 1e18 },
    { 0, "force", OPT_FLAG, offsetof(args, force), NULL, "export: replace what is there" },
    { 0, "keys", OPT_FLAG, offsetof(args, keys), NULL, "list the keys of recipes" },
    { .kind = OPT_HEAD, .help = "Output" },
    { 0, "json", OPT_FLAG, offsetof(args, json), NULL, "one JSON object on stdout" },
    { 'q', "quiet", OPT_FLAG, offsetof(args, quiet), NULL, "no progress on stderr" },
    { .kind = OPT_SUB, .at = offsetof(args, dev), .sub = dev_opts },
    OPT_END
};

static volatile int stop_asked;

static void on_signal(int sig)
{
    (void)sig;
    /* a second one ends the process at once: what was saved is safe at any instant */
    if (stop_asked++) {
        signal(sig, SIG_DFL);
        raise(sig);
    }
}

/* ---- --keys */

static void show_key(void *arg, const char *path, const recipe_key *k)
{
    (void)arg;
    const char *colon = k->kind == RK_CHOICE ? strchr(k->help, ':') : NULL;
    if (colon) printf("%-24s %.*s;%s\n", path, (int)(colon - k->help), k->help, colon + 1);
    else printf("%-24s %s: %s\n", path, recipe_kind_name(k->kind), k->help);
}

/* ---- while it runs */

typedef struct { const command *c; bool quiet, tty, json; int64_t shown; } teller_of_run;

static void time_text(char s[32], double sec)
{
    int64_t t = sec < 0 || !isfinite(sec) ? 0 : (int64_t)(sec + 0.5);
    snprintf(s, 32, "%" PRId64 ":%02d:%02d", t / 3600, (int)(t / 60 % 60), (int)(t % 60));
}

static void show(void *arg, const log_line *x)
{
    teller_of_run *t = arg;
    char left[32];
    int64_t now = os_now_ns();
    bool mark = x->event || !isnan(x->eval_loss) || x->step == x->steps;
    /* a terminal gets a line that changes, a file one every ten seconds */
    if (t->quiet || (!mark && now - t->shown < (t->tty ? 100000000 : 10000000000))) return;
    t->shown = now;
    time_text(left, x->left);
    fprintf(stderr, "%sstep %" PRId64 "/%" PRId64 "  loss %.4f  |g| %.3f  lr %.2e  %.0f tok/s",
            t->tty ? "\r\033[K" : "", x->step, x->steps, x->loss, x->norm, x->lr, x->tok_s);
    if (x->mfu > 0) fprintf(stderr, "  MFU %.1f %% (causal)", 100 * x->mfu);
    fprintf(stderr, "  left %s", left);
    if (!isnan(x->eval_loss)) fprintf(stderr, "  eval loss %.4f", x->eval_loss);
    if (x->event) fprintf(stderr, "  %s", x->event);
    if (!t->tty || mark) fputc('\n', stderr);
}

static void note(void *arg, const char *sentence)
{
    teller_of_run *t = arg;
    fprintf(stderr, "%sdrover %s: %s\n", t->tty && !t->quiet ? "\r\033[K" : "", t->c->name, sentence);
}

static void text(void *arg, int64_t step, const char *prompt, const char *s)
{
    teller_of_run *t = arg;
    if (t->quiet) return;
    fprintf(stderr, "%s[step %" PRId64 "] %s%s\n", t->tty ? "\r\033[K" : "", step, prompt, s);
}

/* ---- the plan */

static int hparams_of(const recipe *r, const char *init, hparams *h, dr_err *e)
{
    dev_opt d = {0};
    if (!init) return run_shape(h, r->model.shape, e);
    tensors *ts = tensors_open(init, e);
    model *m = ts ? model_describe(ts, &d, e) : NULL;
    if (!m) return e->code;
    *h = m->h;
    model_close(m);
    return DR_OK;
}

static int print_plan(const command *c, const args *a, const recipe *r, const run_plan *p,
                      const hparams *h, double peak)
{
    double hours = peak > 0 ? p->flops / peak / 3600 : 0;
    if (a->json)
        return cmd_json(c, json_pack("{s:I, s:I, s:I, s:I, s:{s:I, s:I, s:I, s:I}, s:f, s:f, s:f, s:f}",
            "weights", (json_int_t)p->weights, "steps", (json_int_t)p->steps, "tokens",
            (json_int_t)p->tokens, "micro_batches", (json_int_t)p->micro, "bytes", "weights",
            (json_int_t)p->params, "optimizer", (json_int_t)p->optim, "activations",
            (json_int_t)p->acts, "total", (json_int_t)p->total, "flops_causal", p->flops,
            "flops_full", p->flops_full, "peak_flops", peak, "hours_at_peak", hours));
    char w[SIZE_TEXT], o[SIZE_TEXT], x[SIZE_TEXT], all[SIZE_TEXT], left[32];
    if (r->summary) printf("%s\n", r->summary);
    printf("model        %" PRId64 " weights: %d layers of %d, %d heads, %d of keys, feed-forward %d, "
           "%d tokens\n", p->weights, h->L, h->C, h->nh, h->nkv, h->F, h->V);
    printf("precision    %s\n", r->precision == PRECISION_BF16 ? "bf16, masters in f32" : "f32");
    printf("steps        %" PRId64 " in %d phase%s, up to %" PRId64 " micro-batches of %d tokens each\n",
           p->steps, r->n_phases, r->n_phases == 1 ? "" : "s", p->micro, p->net_opt.n_rows);
    printf("tokens       %" PRId64 "\n", p->tokens);
    printf("operations   %.3e with attention's causal half, %.3e in full\n", p->flops, p->flops_full);
    printf("memory       %s: weights and gradients %s, optimizer %s, activations %s\n",
           size_text(all, (double)p->total), size_text(w, (double)p->params),
           size_text(o, (double)p->optim), size_text(x, (double)p->acts));
    if (peak > 0) {
        time_text(left, 2 * hours * 3600);
        if (2 * hours > 100 * 24) snprintf(left, sizeof left, "%.3g days", 2 * hours / 24);
        printf("time         %s at half of this machine's %.0f GFLOP/s\n", left, peak * 1e-9);
    }
    for (int i = 0; i < r->n_phases; i++) {
        const recipe_phase *q = &r->phase[i];
        if (q->tp * q->cp * q->pp > 1)
            printf("phase %d      of the source: tensor %d, context %d, pipeline %d; this program trains "
                   "with data parallel ranks alone\n", i + 1, q->tp, q->cp, q->pp);
    }
    for (int i = 0; i < r->open.n; i++) printf("left open    %s\n", r->open.v[i]);
    return cmd_done(c);
}

static double peak_of(const recipe *r, const dev_opt *d)
{
    if (r->peak_tflops > 0) return r->peak_tflops * 1e12;
    dev *v = dev_open(d, NULL);
    roofline f = {0};
    if (v) roofline_arith(&f, v->level, d->n_threads);
    dev_close(v);
    return r->precision == PRECISION_BF16 && f.bf16 > f.f32 ? f.bf16 : f.f32;
}

static int dry_run(const command *c, const args *a, const recipe *r, const char *init, dr_err *e)
{
    run_plan p;
    hparams h;
    dev_opt o = dev_args_opt(&a->dev);
    int rc = hparams_of(r, init, &h, e);
    dev *d = rc == DR_OK ? dev_open(&o, e) : NULL;
    if (rc == DR_OK) rc = d ? run_plan_make(&p, r, &h, d, 1, e) : e->code;
    dev_close(d);
    if (rc != DR_OK) return cmd_fail(c, e);
    return print_plan(c, a, r, &p, &h, peak_of(r, &o));
}

/* ---- --status */

static double real_of(const json_t *j, const char *key)
{
    const json_t *v = json_object_get(j, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

static int status(const command *c, const args *a, const recipe *r, dr_err *e)
{
    char left[32];
    if (!r->out) return cmd_misuse(c, "%s: key out is wanted: the folder of the run", r->file);
    json_t *j = log_read_status(r->out, e);
    if (!j) return cmd_fail(c, e);
    if (a->json) return cmd_json(c, j);
    const char *state = json_string_value(json_object_get(j, "state"));
    bool running = json_is_true(json_object_get(j, "running"));
    /* a process that was killed could not say so */
    if (!running && state && !strcmp(state, "training")) state = "killed";
    time_text(left, real_of(j, "seconds_left"));
    printf("%s: step %.0f of %.0f, loss %.4f, %.0f tokens/s", state ? state : "unknown",
           real_of(j, "step"), real_of(j, "steps"), real_of(j, "loss"), real_of(j, "tokens_per_s"));
    if (running) printf(", left %s", left);
    putchar('\n');
    json_decref(j);
    return cmd_done(c);
}

/* ---- --export */

static int export_it(const command *c, const args *a, const recipe *r, const char *init, dr_err *e)
{
    teller t = { .c = c, .quiet = a->quiet };
    convert_opt o = { .in = init, .out = a->to, .to = pack_container_of(a->to), .force = a->force,
                      .progress = teller_show, .note = teller_note, .arg = &t };
    char dir[4096];
    ckpt k = {0};
    buf notes = { .cap_max = 1 << 16 };
    if (!init) return cmd_misuse(c, "%s: key model.init is wanted: what the run began with", r->file);
    if (convert_type(a->type ? a->type : "bf16", &o.type, e) != DR_OK) return cmd_misuse(c, "%s", e->msg);
    int rc = run_ckpt_dir(dir, sizeof dir, r, e);
    if (rc == DR_OK)
        rc = a->step ? ckpt_open(&k, dir, a->step, e) : ckpt_open_latest(&k, dir, &notes, e);
    if (notes.n) cmd_warn(c, "passed over: %s", buf_str(&notes));
    buf_free(&notes);
    if (rc == DR_OK && k.step < 0) rc = err_set(e, DR_EIO, "%s has no checkpoint yet", dir);
    pool *p = rc == DR_OK ? pool_new(a->dev.threads, e) : NULL;
    if (rc == DR_OK && !p) rc = e->code;
    progress_begin(&t.bar, "exporting", 0);
    if (rc == DR_OK) rc = export_run(&k, &o, p, e);
    progress_end(&t.bar);
    pool_free(p);
    ckpt_close(&k);
    return rc == DR_OK ? 0 : cmd_fail(c, e);
}

/* ---- training */

static int print_result(const command *c, const args *a, const run_result *x)
{
    if (a->json)
        return cmd_json(c, json_pack("{s:b, s:I, s:I, s:I, s:I, s:o, s:o, s:i, s:I, s:I}", "done", x->done,
            "from_step", (json_int_t)x->from, "step", (json_int_t)x->last.step, "steps",
            (json_int_t)x->last.steps, "tokens", (json_int_t)x->last.tokens, "loss",
            isfinite(x->last.loss) ? json_real(x->last.loss) : json_null(), "eval_loss",
            isfinite(x->eval_loss) ? json_real(x->eval_loss) : json_null(), "skipped", x->skipped,
            "planned_bytes", (json_int_t)x->planned, "peak_bytes", (json_int_t)x->peak));
    if (!a->quiet) {
        char p[SIZE_TEXT], q[SIZE_TEXT];
        fprintf(stderr, "%s at step %" PRId64 " of %" PRId64 "; memory planned %s, at most %s\n",
                x->done ? "done" : "stopped and saved", x->last.step, x->last.steps,
                size_text(p, (double)x->planned), size_text(q, (double)x->peak));
    }
    return cmd_done(c);
}

static int train(const command *c, const args *a, const recipe *r, const char *init, dr_err *e)
{
    teller_of_run t = { .c = c, .quiet = a->quiet, .tty = isatty(2) };
    comm *k = comm_open(NULL, e);
    if (!k) return cmd_fail(c, e);
    run_opt o = { .r = r, .init = init, .dev = dev_args_opt(&a->dev), .c = k, .stop = &stop_asked,
                  .until = a->until, .show = show, .note = note, .text = text, .arg = &t };
    run_result res;
    struct sigaction s = { .sa_handler = on_signal };
    sigaction(SIGINT, &s, NULL);
    sigaction(SIGTERM, &s, NULL);
    o.peak = peak_of(r, &o.dev) * k->size;
    int rc = run_train(&o, &res, e), status = 0;
    if (rc != DR_OK) {
        status = cmd_fail(c, e);
        k->abort(k, status);
    } else if (k->rank == 0) {
        char out[4096];
        dr_err why = {0};
        if (r->log.curve && res.done && log_path(out, sizeof out, r->out, "loss.svg", &why) == DR_OK &&
            plot_run(r->out, out, &why) != DR_OK && why.code != DR_EUNSUPPORTED)
            cmd_warn(c, "%s", why.msg);
        status = print_result(c, a, &res);
    }
    comm_close(k);
    return status;
}

/* ---- */

static int run_recipe(const command *c, const args *a, const recipe *r, dr_err *e)
{
    buf init = { .cap_max = CACHE_PATH_MAX };
    char at[256];
    dr_err why = {0};
    if (a->status) return status(c, a, r, e);
    if (a->curve) {
        if (!r->out) return cmd_misuse(c, "%s: key out is wanted: the folder of the run", r->file);
        return plot_run(r->out, a->curve, e) == DR_OK ? 0 : cmd_fail(c, e);
    }
    int rc = r->model.init ? model_resolve(r->model.init, &init, &why) : DR_OK;
    if (rc != DR_OK) {
        recipe_where(r, "model.init", at, sizeof at);
        err_set(e, rc, "%s: model.init: %s", at, why.msg);
        buf_free(&init);
        return cmd_fail(c, e);
    }
    const char *path = r->model.init ? buf_str(&init) : NULL;
    int done = a->dry ? dry_run(c, a, r, path, e) : a->to ? export_it(c, a, r, path, e) :
               train(c, a, r, path, e);
    buf_free(&init);
    return done;
}

static int run(const command *c, int argc, char **argv)
{
    static recipe r;
    args a = {0};
    dr_err e = {0};
    argc = cmd_parse(c, &a, argc, argv);
    if (a.keys) {
        recipe_each_key(show_key, NULL);
        return cmd_done(c);
    }
    if (argc != 1) return cmd_misuse(c, "a recipe is wanted");
    if (recipe_read(&r, argv[0], a.sets.v, a.sets.n, &e) != DR_OK) return cmd_fail(c, &e);
    int status_of = run_recipe(c, &a, &r, &e);
    recipe_free(&r);
    return status_of;
}

const command cmd_train = {
    .name = "train", .group = GROUP_FILES, .synopsis = "[options] RECIPE",
    .summary = "train a model as a recipe says, from scratch or on from another",
    .details =
        "RECIPE is a YAML file: a model to begin with, token shards that `drover prep` made, phases\n"
        "of training. --keys lists all that one can say. A mistake in it is refused with its line\n"
        "before anything is allocated.\n"
        "\n"
        "The recipe's folder OUT gets checkpoints/, log.jsonl, tb/ (for TensorBoard), samples.txt and\n"
        "status.json. When it has a checkpoint, training goes on from the newest whole one, to the\n"
        "bit as if it had never stopped. Ctrl-C saves and stops; a kill loses the steps since the\n"
        "last checkpoint and nothing else.\n"
        "\n"
        "Under mpirun, in a build with MPI=1, the ranks share the work.",
    .min_args = 0, .max_args = 1, .opts = opts, .run = run,
};
