/* run_state.c - a run to a checkpoint and back. */
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "train/run_priv.h"

/* Of each tensor what lies in the rank's own range, then the optimiser's arrays. */
int run_arrays(trainer *t, dr_err *e)
{
    const params *p = t->p;
    int64_t lo = t->z.cut[t->c->rank], hi = t->z.cut[t->c->rank + 1];
    int n_states = optim_n_states(t->z.o), k = 0;
    t->arrays = mem_zalloc((size_t)(p->n + n_states), sizeof *t->arrays);
    if (!t->arrays) return err_nomem(e, (size_t)p->n * sizeof *t->arrays, "list of arrays");
    for (int i = 0; i < p->n; i++) {
        const param *q = &p->p[i];
        int64_t a = q->at > lo ? q->at : lo, b = q->at + q->n < hi ? q->at + q->n : hi;
        if (t->c->size == 1) a = q->at, b = q->at + q->n;
        if (a >= b && t->c->rank) continue;
        if (a >= b) a = b = q->at;               // rank 0 tells of all arrays how long they are
        ckpt_array *x = &t->arrays[k++];
        *x = (ckpt_array){ .type = CKPT_F32, .p = p->w + a, .at = a - q->at, .n = b - a,
                           .total = q->n, .cols = q->matrix ? q->cols : 0 };
        param_name(x->name, sizeof x->name, q, CONTAINER_SAFETENSORS);
    }
    for (int i = 0; i < n_states; i++) {
        optim_state s = optim_state_get(t->z.o, i);
        ckpt_array *x = &t->arrays[k++];
        *x = (ckpt_array){ .type = s.width == 4 ? CKPT_F32 : CKPT_U8, .p = s.p, .at = s.at,
                           .n = s.n, .total = s.total };
        snprintf(x->name, sizeof x->name, "%s", s.name);
    }
    t->n_arrays = k;
    return DR_OK;
}

static json_t *state_of(const trainer *t, bool evaluated)
{
    loader_state at = {0};
    loader_tell(t->l, &at);
    json_t *s = json_pack("{s:s, s:s, s:s, s:I, s:I, s:i, s:{s:I, s:[]}, s:o}", "name",
                          t->r->name ? t->r->name : "", "precision",
                          t->r->precision == PRECISION_BF16 ? "bf16" : "f32", "optimizer",
                          optim_rule_name[t->r->optim.rule], "updates",
                          (json_int_t)t->updates, "tokens", (json_int_t)t->line.tokens, "skipped",
                          t->skipped, "data", "row", (json_int_t)at.row, "at", "guard",
                          guard_tell(&t->g));
    json_t *list = json_object_get(json_object_get(s, "data"), "at");
    bool ok = list != NULL;
    for (int i = 0; i < at.n && ok; i++)
        ok = json_array_append_new(list, json_integer((json_int_t)at.at[i])) == 0;
    if (ok && evaluated && isfinite(t->eval_loss))
        ok = json_object_set_new(s, "eval_loss", json_real(t->eval_loss)) == 0;
    if (ok) return s;
    json_decref(s);
    return NULL;
}

int run_finish(trainer *t, dr_err *e)
{
    if (!ckpt_busy(t->w)) return DR_OK;
    int rc = comm_agree(t->c, ckpt_join(t->w, e), e);
    if (rc == DR_OK) rc = comm_agree(t->c, ckpt_seal(t->w, e), e);
    if (rc == DR_OK && t->first)
        rc = ckpt_prune(t->dir, t->r->checkpoint.keep_last, t->r->checkpoint.keep_best, e);
    return comm_agree(t->c, rc, e);
}

int run_save(trainer *t, bool evaluated, dr_err *e)
{
    int rc = run_finish(t, e);
    if (rc != DR_OK || t->saved == t->step) return rc;
    json_t *s = t->first ? state_of(t, evaluated) : NULL;
    if (t->first && !s) rc = err_nomem(e, 4096, "state");
    if (rc == DR_OK) rc = ckpt_begin(t->w, t->step, s, t->arrays, t->n_arrays, e);
    json_decref(s);
    if (rc == DR_OK) t->saved = t->step;
    return comm_agree(t->c, rc, e);
}

/* ---- and back */

static int whole_number(const json_t *j, const char *key, int64_t *v, dr_err *e)
{
    const json_t *x = json_object_get(j, key);
    if (!json_is_integer(x))
        return err_set(e, DR_EFORMAT, "the checkpoint's state has no number \"%s\"", key);
    *v = json_integer_value(x);
    return DR_OK;
}

/* Is it a checkpoint of this recipe's optimiser? */
static int check_rule(const trainer *t, const ckpt *c, dr_err *e)
{
    const char *rule = json_string_value(json_object_get(c->state, "optimizer"));
    const char *want = optim_rule_name[t->r->optim.rule];
    if (rule && !strcmp(rule, want)) return DR_OK;
    return err_set(e, DR_EINVAL, "it is of the optimiser %s, the recipe has %s", rule ? rule : "?", want);
}

/* All weights, whatever the own range; the optimiser's own ranges. */
static int load_arrays(trainer *t, const ckpt *c, dr_err *e)
{
    const params *p = t->p;
    int rc = DR_OK;
    for (int i = 0; i < p->n && rc == DR_OK; i++) {
        ckpt_array a = { .type = CKPT_F32, .p = p->w + p->p[i].at, .n = p->p[i].n,
                         .total = p->p[i].n };
        param_name(a.name, sizeof a.name, &p->p[i], CONTAINER_SAFETENSORS);
        rc = ckpt_read(c, &a, e);
    }
    for (int i = 0; i < optim_n_states(t->z.o) && rc == DR_OK; i++) {
        optim_state s = optim_state_get(t->z.o, i);
        ckpt_array a = { .type = s.width == 4 ? CKPT_F32 : CKPT_U8, .p = s.p, .at = s.at,
                         .n = s.n, .total = s.total };
        snprintf(a.name, sizeof a.name, "%s", s.name);
        rc = ckpt_read(c, &a, e);
    }
    if (rc == DR_OK) params_round(t->p, 0, p->n_elem);
    return rc;
}

static int load_state(trainer *t, const ckpt *c, dr_err *e)
{
    loader_state at = {0};
    int64_t v = 0, skipped = 0, row = 0;
    const json_t *data = json_object_get(c->state, "data"), *list = json_object_get(data, "at");
    const char *precision = json_string_value(json_object_get(c->state, "precision"));
    if (!precision || strcmp(precision, t->r->precision == PRECISION_BF16 ? "bf16" : "f32"))
        run_say(t, "note: the checkpoint was trained in %s, this recipe goes on in another precision",
                precision ? precision : "none");
    int rc = whole_number(c->state, "updates", &t->updates, e);
    if (rc == DR_OK) rc = whole_number(c->state, "tokens", &v, e);
    if (rc == DR_OK) rc = whole_number(c->state, "skipped", &skipped, e);
    if (rc == DR_OK) rc = whole_number(data, "row", &row, e);
    if (rc == DR_OK && json_array_size(list) != (size_t)t->r->n_sources)
        rc = err_set(e, DR_EINVAL, "the checkpoint is of %zu sources of data, the recipe names %d",
                     json_array_size(list), t->r->n_sources);
    if (rc != DR_OK) return rc;
    at.row = (uint64_t)row, at.n = t->r->n_sources;
    for (int i = 0; i < at.n; i++)
        at.at[i] = (uint64_t)json_integer_value(json_array_get(list, (size_t)i));
    t->skipped = (int)skipped;
    t->line.tokens = v;
    if ((rc = guard_put(&t->g, json_object_get(c->state, "guard"), e)) != DR_OK) return rc;
    /* the phase that these rows were of */
    if (c->step > sched_steps(t->s))
        return err_set(e, DR_EINVAL, "the checkpoint is of step %" PRId64 ", the recipe ends at %"
                       PRId64, c->step, sched_steps(t->s));
    int phase = c->step > 0 ? sched_at(t->s, c->step - 1).phase : 0;
    if ((rc = run_set_phase(t, phase, e)) != DR_OK) return rc;
    return loader_seek(t->l, &at, e);
}

/* The newest checkpoint; the same one on all ranks. */
static int open_newest(trainer *t, ckpt *c, dr_err *e)
{
    buf notes = { .cap_max = 1 << 16 };
    int rc = comm_agree(t->c, ckpt_open_latest(c, t->dir, &notes, e), e);
    for (char *s = buf_str(&notes), *end; t->first && (end = strchr(s, '\n')); s = end + 1) {
        *end = 0;
        run_say(t, "warning: passed over: %s", s);
    }
    buf_free(&notes);
    int64_t least = c->step;
    if (rc == DR_OK) rc = t->c->min_i64(t->c, &least, 1, e);
    if (rc == DR_OK && least != c->step)
        rc = err_set(e, DR_EIO, "rank %d sees the checkpoint of step %" PRId64 ", another rank that of %"
                     PRId64 ": is %s the same folder for all?", t->c->rank, c->step, least, t->dir);
    return comm_agree(t->c, rc, e);
}

int run_load(trainer *t, bool *found, dr_err *e)
{
    ckpt c = {0};
    int rc = open_newest(t, &c, e);
    *found = rc == DR_OK && c.step >= 0;
    if (*found) {
        dr_err why = {0};
        rc = check_rule(t, &c, &why);
        if (rc == DR_OK) rc = load_arrays(t, &c, &why);
        if (rc == DR_OK) rc = load_state(t, &c, &why);
        if (rc != DR_OK)
            rc = err_set(e, rc, "%s/step-%08" PRId64 ": %s", t->dir, c.step, why.msg);
        t->step = t->saved = t->line.step = c.step;
        t->line.steps = sched_steps(t->s);
    }
    ckpt_close(&c);
    return comm_agree(t->c, rc, e);
}

int run_rewind(trainer *t, dr_err *e)
{
    ckpt c = {0};
    int rc = run_finish(t, e);
    if (rc == DR_OK) rc = open_newest(t, &c, e);
    if (rc == DR_OK && c.step < 0)
        rc = err_set(e, DR_EINVAL, "there is no checkpoint to rewind to at step %" PRId64, t->step);
    if (rc == DR_OK) rc = load_arrays(t, &c, e);
    if (rc == DR_OK) rc = whole_number(c.state, "updates", &t->updates, e);
    snprintf(t->event, sizeof t->event, "rewound to step %" PRId64, c.step);
    ckpt_close(&c);
    return comm_agree(t->c, rc, e);
}
