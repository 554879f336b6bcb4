/* optim.c - options, cuts, state and norms of the optimisers; a step hands the
 * tensors' parts of the range to the device.
 *
 * What holds: a part begins at a multiple of STEP_CHUNK of its tensor, whatever the range; state
 * arrays have the tensors of their rule one after another without gaps, so that place and length of a
 * range's part follow from the table alone. */
#include "train/optim.h"
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "train/optim_priv.h"

const char *const optim_rule_name[OPTIM_N_RULES] = { "adamw", "adamw8", "muon", "sgd" };
const char *const muon_adjust_name[MUON_N_ADJUST] = { "original", "match-adamw", "plain" };

static const state_row state_table[] = {
    { OPTIM_ADAMW, "adamw.m", 4, false },
    { OPTIM_ADAMW, "adamw.v", 4, false },
    { OPTIM_ADAMW8, "adamw8.m", 1, false },
    { OPTIM_ADAMW8, "adamw8.v", 1, false },
    { OPTIM_ADAMW8, "adamw8.m_max", 4, true },
    { OPTIM_ADAMW8, "adamw8.v_max", 4, true },
    { OPTIM_MUON, "muon.m", 4, false },
    { OPTIM_SGD, "sgd.m", 4, false },
};
enum { N_STATE_ROWS = sizeof state_table / sizeof *state_table };

static int by_name(const char *const *names, int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(name, names[i])) return i;
    return -1;
}

int optim_rule_by_name(const char *name) { return by_name(optim_rule_name, OPTIM_N_RULES, name); }
int muon_adjust_by_name(const char *name) { return by_name(muon_adjust_name, MUON_N_ADJUST, name); }

void optim_table(const params *p, optim_tensor *t)
{
    for (int i = 0; i < p->n; i++) {
        const param *q = &p->p[i];
        optim_role role = ROLE_MATRIX;
        if (!q->matrix) role = ROLE_VECTOR;
        else if (!q->row->per_layer)
            role = q->row->at == offsetof(weights, tok_emb) ? ROLE_EMBED : ROLE_HEAD;
        t[i] = (optim_tensor){ q->at, q->rows, q->cols, role };
    }
}

/* ---- options ---- */

void optim_opt_init(optim_opt *o, optim_rule rule)
{
    *o = (optim_opt){ .rule = rule, .rest = OPTIM_ADAMW, .rest_lr = 1, .beta1 = 0.9, .beta2 = 0.95,
                      .eps = 1e-8, .decay = rule == OPTIM_SGD ? 0 : 0.1,
                      .momentum = rule == OPTIM_MUON ? 0.95 : 0, .nesterov = rule == OPTIM_MUON,
                      .adjust = MUON_MATCH_ADAMW, .ns_steps = 5 };
    for (int i = 0; i < OPTIM_N_ROLES; i++) o->decays[i] = i != ROLE_VECTOR;
}

int optim_opt_check(const optim_opt *o, dr_err *e)
{
    const struct { const char *name; double x, lo, hi; } row[] = {
        { "beta1", o->beta1, 0, 0.999999 }, { "beta2", o->beta2, 0, 0.9999999 },
        { "eps", o->eps, 1e-30, 1 }, { "decay", o->decay, 0, 100 },
        { "momentum", o->momentum, 0, 0.999999 }, { "dampening", o->dampening, 0, 1 },
        { "rest_lr", o->rest_lr, 0, 1e6 }, { "ns_steps", o->ns_steps, 1, 20 },
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        if (!(row[i].x >= row[i].lo && row[i].x <= row[i].hi))
            return err_set(e, DR_EINVAL, "%s is %g, %g to %g is possible", row[i].name, row[i].x,
                           row[i].lo, row[i].hi);
    if ((int)o->rule < 0 || o->rule >= OPTIM_N_RULES)
        return err_set(e, DR_EINVAL, "there is no optimiser number %d", o->rule);
    if ((int)o->adjust < 0 || o->adjust >= MUON_N_ADJUST)
        return err_set(e, DR_EINVAL, "there is no adjustment number %d", o->adjust);
    if (o->rule == OPTIM_MUON && ((int)o->rest < 0 || o->rest >= OPTIM_N_RULES ||
                                  o->rest == OPTIM_MUON))
        return err_set(e, DR_EINVAL, "what Muon leaves is for adamw, adamw8 or sgd");
    if (o->rule == OPTIM_SGD && o->nesterov && (o->momentum <= 0 || o->dampening > 0))
        return err_set(e, DR_EINVAL, "nesterov wants a momentum and no dampening");
    return DR_OK;
}

/* ---- cuts ---- */

/* The first place at or after element `at` where the flat arrays may be cut. */
static int64_t next_cut(const optim_opt *o, const optim_tensor *t, int n, int64_t at)
{
    for (int i = 0; i < n; i++) {
        if (at <= t[i].at) return t[i].at;
        int64_t in = at - t[i].at;
        if (in >= elems_of(&t[i]) || rule_of(o, t[i].role) == OPTIM_MUON) continue;
        in = (in + STEP_CHUNK - 1) / STEP_CHUNK * STEP_CHUNK;
        if (in < elems_of(&t[i])) return t[i].at + in;
    }
    return t[n - 1].at + elems_of(&t[n - 1]);
}

void optim_cuts(const optim_opt *o, const optim_tensor *t, int n, int n_ranks, int64_t *cut)
{
    int64_t end = t[n - 1].at + elems_of(&t[n - 1]);
    cut[0] = 0;
    for (int r = 1; r < n_ranks; r++) {
        int64_t c = next_cut(o, t, n, (int64_t)((double)end * r / n_ranks));
        cut[r] = c > cut[r - 1] ? c : cut[r - 1];
    }
    cut[n_ranks] = end;
}

/* Elements of tensor t inside [lo,hi): [*a,*b), counted from its first; false: none. */
static bool overlap(const optim_tensor *t, int64_t lo, int64_t hi, int64_t *a, int64_t *b)
{
    *a = lo > t->at ? lo - t->at : 0;
    *b = hi - t->at < elems_of(t) ? hi - t->at : elems_of(t);
    return *a < *b;
}

int64_t optim_n_chunks(const optim_tensor *t, int n, int64_t lo, int64_t hi)
{
    int64_t sum = 0, a, b;
    for (int i = 0; i < n; i++)
        if (overlap(&t[i], lo, hi, &a, &b)) sum += (b - a + STEP_CHUNK - 1) / STEP_CHUNK;
    return sum;
}

/* ---- state ---- */

static bool has_state(const optim_opt *o, const state_row *r)
{
    bool used = r->rule == o->rule || (o->rule == OPTIM_MUON && r->rule == o->rest);
    return used && (r->rule != OPTIM_SGD || o->momentum > 0);
}

/* Elements of a state array before element `at` of the flat arrays. */
static int64_t state_before(const optim_opt *o, const state_row *r, const optim_tensor *t, int n,
                            int64_t at)
{
    int64_t sum = 0;
    for (int i = 0; i < n && t[i].at < at; i++) {
        if (rule_of(o, t[i].role) != r->rule) continue;
        int64_t e = at - t[i].at < elems_of(&t[i]) ? at - t[i].at : elems_of(&t[i]);
        sum += r->per_block ? blocks_of(e) : e;
    }
    return sum;
}

static size_t state_bytes(const state_row *r, int64_t n)
{
    return ((size_t)n * (size_t)r->width + 63) & ~(size_t)63;
}

/* Fills state[] and row[] without memory; returns the bytes. */
static size_t lay_states(optim *o)
{
    size_t bytes = 0;
    o->n_states = 0;
    for (int i = 0; i < N_STATE_ROWS; i++) {
        const state_row *r = &state_table[i];
        if (!has_state(&o->o, r)) continue;
        optim_state *s = &o->state[o->n_states];
        snprintf(s->name, sizeof s->name, "%s", r->name);
        s->width = r->width;
        s->at = state_before(&o->o, r, o->t, o->n, o->lo);
        s->n = state_before(&o->o, r, o->t, o->n, o->hi) - s->at;
        s->total = state_before(&o->o, r, o->t, o->n, INT64_MAX);
        bytes += state_bytes(r, s->n);
        o->row[o->n_states++] = r;
    }
    return bytes;
}

int optim_n_states(const optim *o) { return o->n_states; }
optim_state optim_state_get(optim *o, int i) { return o->state[i]; }

int64_t optim_state_before(const optim *o, int i, int64_t at)
{
    return state_before(&o->o, o->row[i], o->t, o->n, at);
}

/* The next n elements of a state of the rule that the range has; moves on. */
static void *take(optim *o, int64_t *at, const char *name, int64_t n)
{
    for (int i = 0; i < o->n_states; i++) {
        if (strcmp(o->state[i].name, name)) continue;
        char *p = (char *)o->state[i].p + at[i] * o->state[i].width;
        at[i] += o->row[i]->per_block ? blocks_of(n) : n;
        return p;
    }
    return NULL;
}

/* Fills part[] but for what changes from step to step; tensors outside the range have none. */
static void lay_parts(optim *o)
{
    int64_t at[MAX_STATES] = { 0 }, a, b;
    for (int i = 0; i < o->n; i++) {
        step_part *p = &o->part[i];
        if (!overlap(&o->t[i], o->lo, o->hi, &a, &b)) continue;
        p->at = o->t[i].at + a, p->n = b - a;
        switch (rule_of(&o->o, o->t[i].role)) {
        case OPTIM_ADAMW:
            p->rule = STEP_ADAMW;
            p->m = take(o, at, "adamw.m", p->n), p->v = take(o, at, "adamw.v", p->n);
            break;
        case OPTIM_ADAMW8:
            p->rule = STEP_ADAMW8;
            p->m8 = take(o, at, "adamw8.m", p->n), p->v8 = take(o, at, "adamw8.v", p->n);
            p->m_max = take(o, at, "adamw8.m_max", p->n);
            p->v_max = take(o, at, "adamw8.v_max", p->n);
            break;
        case OPTIM_SGD:
            p->rule = STEP_SGD;
            p->m = take(o, at, "sgd.m", p->n);
            break;
        default:
            p->rule = STEP_MOMENTUM;
            p->m = take(o, at, "muon.m", p->n);
        }
    }
}

size_t optim_bytes(const optim_opt *o, const optim_tensor *t, int n, int64_t lo, int64_t hi, dev *d)
{
    optim tmp = { .o = *o, .d = d, .t = (optim_tensor *)t, .n = n, .lo = lo, .hi = hi };
    return lay_states(&tmp) + (size_t)n * (sizeof *t + sizeof(step_part)) + sizeof tmp +
           muon_bytes(o, t, n, lo, hi);
}

optim *optim_new(const optim_opt *opt, const optim_tensor *t, int n, int64_t lo, int64_t hi, dev *d,
                 dr_err *e)
{
    if (optim_opt_check(opt, e) < 0) return NULL;
    optim *o = mem_zalloc(1, sizeof *o);
    if (!o) {
        err_nomem(e, sizeof *o, "an optimiser");
        return NULL;
    }
    o->o = *opt, o->d = d, o->n = n, o->lo = lo, o->hi = hi;
    o->t = mem_alloc((size_t)n * sizeof *t);
    o->part = mem_zalloc((size_t)n, sizeof *o->part);
    if (!o->t || !o->part) {
        err_nomem(e, (size_t)n * (sizeof *t + sizeof *o->part), "an optimiser's table");
        goto fail;
    }
    memcpy(o->t, t, (size_t)n * sizeof *t);
    o->mem_bytes = lay_states(o);
    if (o->n_states && !o->mem_bytes) o->mem_bytes = 64;     // an empty range's pointers are not NULL
    if (o->mem_bytes && !(o->mem = d->alloc(d, o->mem_bytes))) {
        err_nomem(e, o->mem_bytes, "the optimiser's state");
        goto fail;
    }
    char *p = o->mem;
    for (int i = 0; i < o->n_states; i++) {
        o->state[i].p = p;
        p += state_bytes(o->row[i], o->state[i].n);
    }
    lay_parts(o);
    if (muon_new(o, e) < 0) goto fail;
    return o;
fail:
    optim_free(o);
    return NULL;
}

void optim_free(optim *o)
{
    if (!o) return;
    muon_free(o);
    if (o->mem) o->d->free(o->d, o->mem, o->mem_bytes);
    mem_free(o->t);
    mem_free(o->part);
    mem_free(o);
}

/* ---- a step ---- */

/* Powers and differences in double, rounded once. */
static step_args args_of(const optim_opt *o, optim_role role, float scale, double lr, int64_t step)
{
    optim_rule rule = rule_of(o, role);
    if (o->rule == OPTIM_MUON && role != ROLE_MATRIX) lr *= o->rest_lr;
    double decay = o->decays[role] ? o->decay : 0;
    return (step_args){
        .scale = scale, .lr = (float)lr,
        .keep = (float)(rule == OPTIM_SGD ? decay : lr * decay),
        .b1 = (float)o->beta1, .a1 = (float)(1 - o->beta1),
        .b2 = (float)o->beta2, .a2 = (float)(1 - o->beta2),
        .step = (float)(lr / (1 - pow(o->beta1, (double)step))),
        .root = (float)(1 / sqrt(1 - pow(o->beta2, (double)step))), .eps = (float)o->eps,
        .momentum = (float)o->momentum,
        .dampen = (float)(rule == OPTIM_MUON ? 1 - o->momentum : 1 - o->dampening),
        .nesterov = o->nesterov, .first = step == 1, .seed = (uint32_t)step * 0x85ebca77u };
}

void optim_step(optim *o, float *w, uint16_t *wb, const float *g, float scale, double lr,
                int64_t step)
{
    step_args a[OPTIM_N_ROLES];
    DR_ASSERT(step >= 1);
    for (int i = 0; i < OPTIM_N_ROLES; i++) a[i] = args_of(&o->o, (optim_role)i, scale, lr, step);
    int first = 0, n = 0;                       // a run of parts between Muon's
    for (int i = 0; i <= o->n; i++) {
        step_part *p = &o->part[i];
        if (i < o->n && p->n) {
            int64_t at = p->at - o->lo;
            p->a = &a[o->t[i].role];
            p->w = w + at, p->g = g + at, p->wb = wb ? wb + at : NULL;
        }
        if (i < o->n && p->rule != STEP_MOMENTUM) {
            n = i + 1;
            continue;
        }
        if (n > first) o->d->step(o->d, o->part + first, n - first);
        first = i + 1;
        if (i < o->n && p->n) muon_step(o, i);
    }
    for (int i = 0; i < o->n; i++) o->part[i].a = NULL;      // it was on this stack
}

/* ---- norm ---- */

void optim_squares(const optim_tensor *t, int n, int64_t lo, int64_t hi, const float *g, dev *d,
                   double *part)
{
    enum { SOME = 128 };
    step_part p[SOME];
    for (int i = 0, k = 0; i < n; i++) {
        int64_t a, b;
        if (overlap(&t[i], lo, hi, &a, &b))
            p[k++] = (step_part){ .n = b - a, .g = g + (t[i].at + a - lo) };
        if (k == SOME || (k && i == n - 1)) {
            d->squares(d, part, p, k);
            while (k) part += (p[--k].n + STEP_CHUNK - 1) / STEP_CHUNK;
        }
    }
}

double optim_norm(const double *part, int64_t n_chunks)
{
    double sum = 0;
    for (int64_t i = 0; i < n_chunks; i++) sum += part[i];
    return sqrt(sum);
}

double optim_clip(double norm, double max)
{
    if (max <= 0) return 1;
    double f = max / (norm + 1e-6);
    return f < 1 ? f : 1;
}
