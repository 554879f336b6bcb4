/* run.c - see run.h: everything that a run needs is opened here, in the order in which it can be
 * refused: files before memory. */
#include "train/run_priv.h"
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>
#include "base/mem.h"
#include "train/shard_tok.h"

void run_say(const trainer *t, const char *fmt, ...)
{
    char line[600];
    va_list ap;
    if (!t->first || !t->o->note) return;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    t->o->note(t->o->arg, line);
}

int run_ckpt_dir(char *s, size_t n, const recipe *r, dr_err *e)
{
    if (!r->out) return err_set(e, DR_EINVAL, "%s: key out is wanted: the folder of the run", r->file);
    return log_path(s, n, r->out, "checkpoints", e);
}

/* The recipe's line in front of what is wrong with a file that it names. */
static int at_key(const trainer *t, const char *key, int rc, const dr_err *why, dr_err *e)
{
    char at[256];
    if (rc == DR_OK) return rc;
    recipe_where(t->r, key, at, sizeof at);
    return err_set(e, rc, "%s: %s: %s", at, key, why->msg);
}

static loader *open_data(trainer *t, const loader_source *src, int n, bool once,
                         const loader_phase *p, dr_err *e)
{
    loader_opt o = { .src = src, .n_src = n, .seed = (uint64_t)t->r->seed, .rank = t->c->rank,
                     .n_ranks = t->c->size, .vocab = t->p->h.V,
                     .tokenizer = t->tok ? t->tok_hash : NULL, .once = once, .phase = *p };
    return loader_open(&o, e);
}

static int open_loaders(trainer *t, dr_err *e)
{
    const recipe *r = t->r;
    dr_err why = {0};
    loader_phase p = run_phase(t, 0);
    if (!r->n_sources)
        return err_set(e, DR_EINVAL, "%s: key data is wanted: what is trained on", r->file);
    for (int i = 0; i < r->n_sources; i++)
        t->src[i] = (loader_source){ r->source[i].path, r->source[i].weight };
    t->l = open_data(t, t->src, r->n_sources, false, &p, &why);
    int rc = at_key(t, "data", t->l ? DR_OK : why.code, &why, e);
    if (rc != DR_OK || !r->eval.path) return rc;
    int seq = r->eval.seq ? r->eval.seq : t->s->p[0].seq, rows = t->plan.net_opt.n_rows / seq;
    loader_source src = { r->eval.path, 1 };
    int64_t want = (r->eval.tokens + seq - 1) / seq;
    p = (loader_phase){ .seq = seq, .rows = (int)(want < 1 << 20 ? want : 1 << 20),
                        .micro_rows = rows < 1 ? 1 : rows };
    t->eval = open_data(t, &src, 1, true, &p, &why);
    return at_key(t, "eval.path", t->eval ? DR_OK : why.code, &why, e);
}

/* The model to begin with: its numbers and tokenizer, and its weights while `from` is open. */
static int open_init(trainer *t, model **from, dr_err *e)
{
    dr_err why = {0};
    if (!t->o->init)
        return err_set(e, DR_EINVAL, "%s: key model.init is wanted: a model to begin with; "
                       "model.shape is for --dry-run", t->r->file);
    dev_opt d = t->o->dev;
    *from = model_open(t->o->init, &d, &why);
    int rc = at_key(t, "model.init", *from ? DR_OK : why.code, &why, e);
    if (rc != DR_OK) return rc;
    const gguf *g = tensors_gguf((*from)->ts);
    t->tok = g ? tok_from_gguf(g, &why) : tok_open(t->o->init, &why);
    if (!t->tok && why.code == DR_ENOMEM) return err_set(e, why.code, "%s", why.msg);
    if (!t->tok)
        run_say(t, "note: %s has no tokenizer (%s): no samples, and ids are not compared with it",
                t->o->init, why.msg);
    return t->tok ? shard_tokenizer(t->tok, t->tok_hash, e) : DR_OK;
}

static int open_weights(trainer *t, const model *from, dr_err *e)
{
    const recipe *r = t->r;
    optim_opt oo;
    int rc = params_alloc(t->p, t->d, true, e);
    if (rc == DR_OK && !r->model.random) rc = params_load(t->p, from, e);
    if (rc == DR_OK && r->model.random) params_random(t->p, (uint64_t)r->seed, (float)r->model.std);
    if (rc == DR_OK && !(t->t = mem_alloc((size_t)t->p->n * sizeof *t->t)))
        rc = err_nomem(e, (size_t)t->p->n * sizeof *t->t, "table of weights");
    if (rc == DR_OK) optim_table(t->p, t->t);
    if (rc == DR_OK) rc = recipe_optim(r, &oo, e);
    if (rc == DR_OK) rc = zero_init(&t->z, t->c, &oo, t->t, t->p->n, t->d, e);
    if (rc == DR_OK && !(t->n = net_new(t->p, &t->plan.net_opt, e))) rc = e ? e->code : DR_ENOMEM;
    return rc == DR_OK ? run_arrays(t, e) : rc;
}

static int open_all(trainer *t, dr_err *e)
{
    const recipe *r = t->r;
    model *from = NULL;
    t->s = mem_alloc(sizeof *t->s);
    int rc = t->s ? recipe_sched(r, t->s, e) : err_nomem(e, sizeof *t->s, "schedule");
    if (rc == DR_OK) rc = run_ckpt_dir(t->dir, sizeof t->dir, r, e);
    if (rc == DR_OK) rc = open_init(t, &from, e);
    if (rc == DR_OK && !(t->d = dev_open(&t->o->dev, e))) rc = e ? e->code : DR_ENOMEM;
    if (rc == DR_OK) rc = run_plan_make(&t->plan, r, &from->h, t->d, t->c->size, e);
    if (rc == DR_OK &&
        !(t->p = params_new(&from->h, r->precision == PRECISION_BF16 ? DT_BF16 : DT_F32, e)))
        rc = e ? e->code : DR_ENOMEM;
    if (rc == DR_OK) rc = open_loaders(t, e);
    if (rc == DR_OK && t->first) rc = log_open(&t->log, r->out, e);
    rc = comm_agree(t->c, rc, e);
    /* from here on memory is taken */
    if (rc == DR_OK) mem_peak_reset();
    if (rc == DR_OK) rc = open_weights(t, from, e);
    model_close(from);
    if (rc == DR_OK && t->first &&
        !(t->w = ckpt_writer_new(t->dir, 0, t->c->size, e))) rc = e ? e->code : DR_ENOMEM;
    rc = comm_agree(t->c, rc, e);                /* rank 0 has cleared the folder */
    if (rc == DR_OK && !t->first &&
        !(t->w = ckpt_writer_new(t->dir, t->c->rank, t->c->size, e))) rc = e ? e->code : DR_ENOMEM;
    return comm_agree(t->c, rc, e);
}

static void close_all(trainer *t)
{
    ckpt_writer_free(t->w);
    mem_free(t->arrays);
    net_free(t->n);
    zero_free(&t->z);
    mem_free(t->t);
    loader_free(t->l);
    loader_free(t->eval);
    params_free(t->p);
    dev_close(t->d);
    tok_free(t->tok);
    log_close(&t->log);
    mem_free(t->s);
}

/* The run's own copy of the recipe's file, beside what it made. */
static int keep_recipe(const trainer *t, dr_err *e)
{
    char path[4096];
    buf b = { .cap_max = YAML_MAX_BYTES + 1 };
    int rc = log_path(path, sizeof path, t->r->out, "recipe.yaml", e);
    if (rc == DR_OK && os_exists(t->r->file) && !os_same_file(t->r->file, path)) {
        rc = os_read(&b, t->r->file, e);
        if (rc == DR_OK) rc = os_write(path, buf_str(&b), b.n, e);
    }
    buf_free(&b);
    return rc;
}

static int train(trainer *t, run_result *res, dr_err *e)
{
    bool found = false;
    int rc = run_load(t, &found, e);
    if (rc == DR_OK && t->first) rc = keep_recipe(t, e);
    if (rc == DR_OK && t->first)
        rc = log_resume(&t->log, t->step, t->r->log.every, t->r->log.tensorboard, e);
    rc = comm_agree(t->c, rc, e);
    if (rc != DR_OK) return rc;
    res->from = t->step;
    if (found) run_say(t, "going on after step %" PRId64, t->step);
    rc = run_steps(t, &res->done, e);
    const char *state = rc != DR_OK ? "failed" : res->done ? "done" : "stopped";
    if (t->first && (t->line.step || rc == DR_OK))
        log_status(&t->log, &t->line, state, rc == DR_OK ? e : NULL);
    return rc;
}

int run_train(const run_opt *o, run_result *res, dr_err *e)
{
    trainer *t = mem_zalloc(1, sizeof *t);
    *res = (run_result){ .eval_loss = NAN };
    if (!t) return err_nomem(e, sizeof *t, "run");
    t->o = o, t->r = o->r, t->c = o->c, t->first = o->c->rank == 0;
    t->saved = -1, t->eval_loss = NAN, t->log.lock = -1;
    guard_init(&t->g, o->r->guard.window, o->r->guard.sigmas, o->r->guard.factor);
    size_t before = mem_live_bytes();
    int rc = open_all(t, e);
    if (rc == DR_OK) rc = train(t, res, e);
    res->last = t->line;
    res->last.event = NULL;
    res->eval_loss = t->eval_loss, res->skipped = t->skipped;
    res->planned = t->plan.total;
    res->peak = mem_peak_bytes() > before ? mem_peak_bytes() - before : 0;
    close_all(t);
    mem_free(t);
    return rc;
}
