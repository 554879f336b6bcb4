/* merge.c - see merge.h. */
#include "pack/merge.h"
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "format/names.h"
#include "text/tokenizer.h"

typedef struct {
    const merge_opt *o;
    const pack_source *base;
    bool adjacent;
    lora *l;                         /* adapters, chained; NULL: averaging */
    pack_source *src;                /* (n_more) */
    double *share;                   /* (1 + n_more), sum 1 */
    size_t cols, scratch;            /* the widest row; bytes that pack_read wants */
    char *space;                     /* for each thread: cols doubles, cols floats, scratch */
    size_t space_bytes;              /* of one thread */
    int threads;
} merging;

static double *sums_of(const merging *m, int thread)
{
    return (double *)(void *)(m->space + (size_t)thread * m->space_bytes);
}

/* ---- adapters ---- */

static int open_adapters(merging *m, dr_err *e)
{
    lora **end = &m->l;
    for (int i = 0; i < m->o->n_lora; i++, end = &(*end)->next) {
        *end = lora_open(&m->o->lora[i], &m->base->hp, m->adjacent, e);
        if (!*end) return e && e->code ? e->code : DR_EFORMAT;
        for (int k = 0; k < n_weights && m->base->hp.tied; k++)
            if (!weight_table[k].per_layer && weight_table[k].matrix && lora_at(*end, k, 0))
                return err_set(e, DR_EUNSUPPORTED, "adapter %.200s changes the embedding or the head, "
                               "which are one tensor in this base: it can be run with --lora, not "
                               "merged", m->o->lora[i].path);
    }
    return DR_OK;
}

/* x = x + B A, one row: for an embedding a row of A (V,r) and all of B (C,r), else the reverse. */
static void add_row(const merging *m, const pack_tensor *t, int64_t row, float *x, double *sum)
{
    const wrow *w = &weight_table[t->role.row];
    bool emb = !w->per_layer && w->at == offsetof(weights, tok_emb);
    int64_t cols = t->all_cols;
    for (int64_t c = 0; c < cols; c++) sum[c] = (double)x[c];
    for (const lora *l = m->l; l; l = l->next) {
        const lora_mat *a = lora_at(l, t->role.row, t->role.layer);
        if (!a) continue;
        const float *pa = a->a.data, *pb = a->b.data;
        int64_t r = a->b.K;
        if (emb) {
            for (int64_t c = 0; c < cols; c++)
                for (int64_t k = 0; k < r; k++)
                    sum[c] += (double)pb[low_at((int)c, (int)k, (int)r)] * (double)pa[row * r + k];
            continue;
        }
        for (int64_t k = 0; k < r; k++) {
            double b = (double)pb[low_at((int)row, (int)k, (int)r)];
            for (int64_t c = 0; c < cols; c++) sum[c] += b * (double)pa[k * cols + c];
        }
    }
    for (int64_t c = 0; c < cols; c++) x[c] = (float)sum[c];
}

static bool adapter_edits(void *arg, const pack_tensor *t)
{
    const merging *m = arg;
    if (t->role.row < 0 || t->role.bias) return false;
    for (const lora *l = m->l; l; l = l->next)
        if (lora_at(l, t->role.row, t->role.layer)) return true;
    return false;
}

static int adapter_edit(void *arg, const pack_tensor *t, int64_t row, int64_t n, float *x, int thread,
                        dr_err *e)
{
    const merging *m = arg;
    (void)e;
    for (int64_t i = 0; i < n; i++, x += t->all_cols)
        add_row(m, t, row + i, x, sums_of(m, thread));
    return DR_OK;
}

/* ---- averages ---- */

static int same_shape(const merging *m, const pack_source *s, const char *path, dr_err *e)
{
    const hparams *a = &m->base->hp, *b = &s->hp;
    const struct { const char *what; double x, y; } f[] = {
        { "vocabulary", a->V, b->V }, { "width", a->C, b->C }, { "layers", a->L, b->L },
        { "heads", a->nh, b->nh }, { "key/value heads", a->nkv, b->nkv },
        { "head size", a->hs, b->hs }, { "feed-forward width", a->F, b->F },
        { "tied head", a->tied, b->tied }, { "sliding window", a->window, b->window },
        { "norm epsilon", (double)a->eps, (double)b->eps }, { "rope theta", a->rope.theta, b->rope.theta },
    };
    for (size_t i = 0; i < sizeof f / sizeof *f; i++)
        if (fabs(f[i].x - f[i].y) > 1e-6 * fabs(f[i].x))
            return err_set(e, DR_EINVAL, "%.100s and %.100s cannot be averaged: %s %g and %g",
                           m->o->conv.in, path, f[i].what, f[i].x, f[i].y);
    return DR_OK;
}

/* *t NULL: it has none that is read. Only a want of memory is an error. */
static int tokenizer_of(const pack_source *s, tokenizer **t, dr_err *e)
{
    const gguf *g = tensors_gguf(s->ts);
    dr_err why = {0};
    *t = g ? tok_from_gguf(g, &why) : tok_open(tensors_path(s->ts), &why);
    return *t || why.code != DR_ENOMEM ? DR_OK : err_set(e, why.code, "%s", why.msg);
}

static int same_tokens(const merging *m, const tokenizer *a, const pack_source *s, const char *path,
                       dr_err *e)
{
    tokenizer *b;
    int rc = tokenizer_of(s, &b, e);
    if (a && b && tok_count(a) != tok_count(b))
        rc = err_set(e, DR_EINVAL, "%.100s and %.100s have tokenizers of %d and %d tokens",
                     m->o->conv.in, path, tok_count(a), tok_count(b));
    for (int32_t i = 0; a && b && !rc && i < tok_count(a); i++)
        if (!span_eq(tok_text(a, i), tok_text(b, i)) || tok_is_control(a, i) != tok_is_control(b, i))
            rc = err_set(e, DR_EINVAL, "%.100s and %.100s have different tokenizers: token %d is "
                         "another", m->o->conv.in, path, (int)i);
    if (!rc && !a != !b && m->o->conv.note) {
        char line[400];
        snprintf(line, sizeof line, "warning: %.150s has no tokenizer to compare",
                 a ? path : m->o->conv.in);
        m->o->conv.note(m->o->conv.arg, line);
    }
    tok_free(b);
    return rc;
}

static int open_models(merging *m, dr_err *e)
{
    int n = m->o->n_more, rc = DR_OK;
    double sum = 0;
    m->src = mem_zalloc((size_t)n, sizeof *m->src);
    m->share = mem_alloc((size_t)(n + 1) * sizeof *m->share);
    if (!m->src || !m->share) return err_nomem(e, (size_t)n * sizeof *m->src, "models");
    for (int i = 0; i <= n; i++) sum += m->share[i] = m->o->weight ? m->o->weight[i] : 1;
    for (int i = 0; i <= n; i++) m->share[i] /= sum;
    if (!(isfinite(sum) && sum > 0))
        return err_set(e, DR_EINVAL, "weights with a sum of %g: more than 0 is wanted", sum);
    tokenizer *t;
    rc = tokenizer_of(m->base, &t, e);
    for (int i = 0; !rc && i < n; i++) {
        rc = pack_source_open(&m->src[i], m->o->more[i], e);
        if (!rc) rc = same_shape(m, &m->src[i], m->o->more[i], e);
        if (!rc) rc = same_tokens(m, t, &m->src[i], m->o->more[i], e);
        for (int64_t k = 0; !rc && k < tensors_count(m->src[i].ts); k++) {
            const tensor *x = tensors_at(m->src[i].ts, k);
            size_t need = x->type >= 0 && type_get(x->type) ? pack_scratch_bytes(x) : 0;
            if (need > m->scratch) m->scratch = need;
        }
    }
    tok_free(t);
    return rc;
}

static bool average_edits(void *arg, const pack_tensor *t)
{
    (void)arg;
    return t->role.row >= 0;
}

static int average_edit(void *arg, const pack_tensor *t, int64_t row, int64_t n, float *x, int thread,
                        dr_err *e)
{
    const merging *m = arg;
    double *sum = sums_of(m, thread);
    float *y = (float *)(void *)(sum + m->cols);
    int64_t cols = t->all_cols;
    for (int64_t i = 0; i < n; i++, x += cols) {
        for (int64_t c = 0; c < cols; c++) sum[c] = m->share[0] * (double)x[c];
        for (int k = 0; k < m->o->n_more; k++) {
            const tensor *u = pack_find(&m->src[k], t->role);
            bool fits = u && u->n_dims == t->n_dims && u->dim[u->n_dims - 1] == cols &&
                        (u->n_dims < 2 || u->dim[0] == t->all_rows);
            if (!fits)
                return err_set(e, DR_EINVAL, "%.200s has no %.100s, or of another shape",
                               m->o->more[k], t->name);
            int rc = pack_read(&m->src[k], t->role, u, m->adjacent, row + i, 1, y, y + m->cols, e);
            if (rc) return rc;
            for (int64_t c = 0; c < cols; c++) sum[c] += m->share[k + 1] * (double)y[c];
        }
        for (int64_t c = 0; c < cols; c++) x[c] = (float)sum[c];
    }
    return DR_OK;
}

/* ---- both ---- */

/* A tensor that another model has and the base does not would be lost. */
static int nothing_more(const merging *m, dr_err *e)
{
    for (int k = 0; k < m->o->n_more; k++)
        for (int i = 0; i < n_weights; i++)
            for (int l = 0; l < (weight_table[i].per_layer ? m->base->hp.L : 1); l++)
                for (int b = 0; b < 2; b++) {
                    pack_role r = { i, l, b };
                    if (!pack_find(&m->src[k], r) || pack_find(m->base, r)) continue;
                    char name[128];
                    pack_role_name(name, sizeof name, r, CONTAINER_SAFETENSORS);
                    return err_set(e, DR_EINVAL, "%.200s has %s, which %.200s has not", m->o->more[k],
                                   name, m->o->conv.in);
                }
    return DR_OK;
}

static int begin(void *arg, const pack_source *s, bool adjacent, dr_err *e)
{
    merging *m = arg;
    m->base = s, m->adjacent = adjacent;
    int rc = m->o->n_more ? open_models(m, e) : open_adapters(m, e);
    if (!rc) rc = nothing_more(m, e);
    if (rc) return rc;
    for (int64_t i = 0; i < tensors_count(s->ts); i++) {
        const tensor *t = tensors_at(s->ts, i);
        for (int d = 0; d < t->n_dims; d++)      /* the last axis, or a vector's only one */
            if (d == t->n_dims - 1 && (size_t)t->dim[d] > m->cols) m->cols = (size_t)t->dim[d];
    }
    m->cols = (m->cols + 15) & ~(size_t)15;
    m->space_bytes = (m->cols * (sizeof(double) + sizeof(float)) + m->scratch + 63) & ~(size_t)63;
    size_t bytes = (size_t)m->threads * m->space_bytes;
    m->space = mem_aligned(bytes);
    return m->space ? DR_OK : err_nomem(e, bytes, "rows");
}

int merge(const merge_opt *o, pool *p, dr_err *e)
{
    if (!o->n_lora == !o->n_more)
        return err_set(e, DR_EINVAL, o->n_lora ? "adapters are merged into one model"
                                               : "nothing to merge: an adapter or another model is wanted");
    merging m = { .o = o, .threads = pool_threads(p) };
    uint64_t key = names_hash(span_of("merge"), 1);
    for (int i = 0; i < o->n_lora; i++) {
        key = names_hash(span_of(o->lora[i].path), key);
        key = names_hash((span){ (const char *)&o->lora[i].scale, sizeof o->lora[i].scale }, key);
    }
    for (int i = 0; i < o->n_more; i++) key = names_hash(span_of(o->more[i]), key);
    if (o->weight)
        key = names_hash((span){ (const char *)o->weight, (size_t)(o->n_more + 1) * sizeof *o->weight },
                         key);
    convert_edit edit = { begin, o->n_more ? average_edits : adapter_edits,
                          o->n_more ? average_edit : adapter_edit, key, &m };
    convert_opt c = o->conv;
    c.edit = &edit;
    int rc = convert(&c, p, e);
    for (int i = 0; m.src && i < o->n_more; i++) pack_source_close(&m.src[i]);
    mem_free(m.src);
    mem_free(m.share);
    mem_free(m.space);
    lora_close(m.l);
    return rc;
}
