/* layout.c - see layout.h. The order of the tensors is that of the files that drover makes up
 * (synth_plan), so that a model comes back byte for byte from another container. */
#include "pack/layout.h"
#include <inttypes.h>
#include <string.h>
#include "base/half.h"
#include "base/mem.h"
#include "format/dequant.h"
#include "model/weights.h"

enum { META_FILES_MAX = 1024, FILES_MAX = 99999 };

uint64_t layout_tensor_bytes(const pack_tensor *t)
{
    return (uint64_t)type_row_bytes(t->type, t->cols) * (uint64_t)t->rows;
}

void layout_free(layout *p)
{
    mem_free(p->t);
    mem_free(p->file);
    *p = (layout){0};
}

static pack_tensor *add(layout *p, dr_err *e)
{
    if (p->n == p->cap) {
        int64_t cap = p->cap ? 2 * p->cap : 512;
        pack_tensor *t = mem_realloc(p->t, (size_t)cap * sizeof *t);
        if (!t) { err_nomem(e, (size_t)cap * sizeof *t, "list of tensors"); return NULL; }
        p->t = t, p->cap = cap;
    }
    pack_tensor *t = &p->t[p->n++];
    *t = (pack_tensor){0};
    return t;
}

/* ---- which roles, in which order ---- */

typedef struct {
    layout *p;
    const pack_job *j;
    bool *used;                      /* of each source tensor */
    const wrow *at;
} maker;

static int find_row(size_t at, bool per_layer)
{
    for (int i = 0; i < n_weights; i++)
        if (weight_table[i].at == at && weight_table[i].per_layer == per_layer) return i;
    return -1;
}

static int check_shape(const pack_source *s, const pack_tensor *t, const wrow *w, dr_err *e)
{
    int64_t rows = axis_size(w->rows, &s->hp);
    int64_t cols = w->cols && !t->role.bias ? axis_size(w->cols, &s->hp) : 0;
    const tensor *x = t->src;
    if (x->n_dims != (cols ? 2 : 1) || x->dim[0] != rows || (cols && x->dim[1] != cols))
        return err_set(e, DR_EFORMAT, "tensor " SPAN_FMT " is not of the shape that the model's "
                       "numbers ask for, %" PRId64 " x %" PRId64, SPAN_ARG(x->name), rows,
                       cols ? cols : 1);
    const type_info *ti = type_get(x->type);
    if (!ti)
        return err_set(e, DR_EUNSUPPORTED, "tensor " SPAN_FMT " is of type %s, which is not read "
                       "here", SPAN_ARG(x->name), tensor_type_name(s->ts, x->type));
    if ((cols ? cols : rows) % ti->elems)
        return err_set(e, DR_EFORMAT, "tensor " SPAN_FMT ": rows of %" PRId64 " are no multiple of "
                       "%d", SPAN_ARG(x->name), cols ? cols : rows, ti->elems);
    return DR_OK;
}

static int add_role(maker *m, pack_role r, const tensor *src, dr_err *e)
{
    const pack_source *s = m->j->src;
    pack_tensor *t = add(m->p, e);
    if (!t) return DR_ENOMEM;
    const wrow *w = &weight_table[r.row];
    bool vector = r.bias || !w->cols;
    t->role = r, t->src = src, t->type = src->type;
    int rc = check_shape(s, t, w, e);
    if (rc != DR_OK) return rc;
    pack_role_name(t->name, sizeof t->name, r, m->j->to);
    t->n_dims = vector ? 1 : 2;
    t->rows = t->all_rows = vector ? 1 : src->dim[0];
    t->cols = t->all_cols = src->dim[src->n_dims - 1];
    const tensor *own = pack_find(s, r);
    if (own) m->used[own - tensors_at(s->ts, 0)] = true;
    if (m->j->to == CONTAINER_META && r.bias)
        return err_set(e, DR_EUNSUPPORTED, "tensor " SPAN_FMT ": Meta's form has no biases",
                       SPAN_ARG(src->name));
    return DR_OK;
}

static int add_row(maker *m, int row, int layer, bool bias, dr_err *e)
{
    pack_role r = { row, layer, bias };
    const tensor *t = pack_find(m->j->src, r);
    if (t) return add_role(m, r, t, e);
    if (bias) return DR_OK;
    char name[128];
    pack_role_name(name, sizeof name, r, tensors_container(m->j->src->ts));
    return err_set(e, DR_EFORMAT, "tensor %s is missing", name);
}

static int add_layer(maker *m, int l, dr_err *e)
{
    static const size_t order[] = {              /* as synth_plan.c lists them; 0: their biases */
        offsetof(layer_weights, attn_norm), offsetof(layer_weights, wq),
        offsetof(layer_weights, wk), offsetof(layer_weights, wv), offsetof(layer_weights, wo),
        SIZE_MAX, offsetof(layer_weights, ffn_norm), offsetof(layer_weights, w1),
        offsetof(layer_weights, w3), offsetof(layer_weights, w2), SIZE_MAX,
    };
    int rc = DR_OK;
    size_t first = 0;
    for (size_t i = 0; rc == DR_OK && i < sizeof order / sizeof *order; i++) {
        if (order[i] != SIZE_MAX) {
            rc = add_row(m, find_row(order[i], true), l, false, e);
            continue;
        }
        for (size_t k = first; rc == DR_OK && k < i; k++)
            rc = add_row(m, find_row(order[k], true), l, true, e);
        first = i + 1;
    }
    return rc;
}

/* The divisors of Llama 3's rope scaling, which GGUF holds as a tensor. */
static int add_rope(maker *m, dr_err *e)
{
    const hparams *h = &m->j->src->hp;
    if (m->j->to != CONTAINER_GGUF || (h->rope.kind != ROPE_LLAMA3 && h->rope.kind != ROPE_FACTORS))
        return DR_OK;
    pack_tensor *t = add(m->p, e);
    if (!t) return DR_ENOMEM;
    t->role.row = ROLE_ROPE;
    t->type = DT_F32, t->n_dims = 1, t->rows = t->all_rows = 1;
    t->cols = t->all_cols = h->hs / 2;
    pack_role_name(t->name, sizeof t->name, t->role, m->j->to);
    return DR_OK;
}

static int add_head(maker *m, dr_err *e)
{
    const pack_source *s = m->j->src;
    pack_role head = { find_row(offsetof(weights, out), false), 0, false };
    pack_role emb = { find_row(offsetof(weights, tok_emb), false), 0, false };
    const tensor *t = pack_find(s, head);
    if (!s->hp.tied) return add_row(m, head.row, 0, false, e);
    if (t) m->used[t - tensors_at(s->ts, 0)] = true;          // the embedding's copy
    /* Meta's program wants a head in every file. */
    return m->j->to == CONTAINER_META ? add_role(m, head, pack_find(s, emb), e) : DR_OK;
}

static bool ends_with(span s, const char *tail)
{
    size_t n = strlen(tail);
    return s.n >= n && !memcmp(s.p + s.n - n, tail, n);
}

/* Tensors that say nothing beyond the model's numbers, or that go with another tensor. */
static bool follows(span name)
{
    return ends_with(name, "rotary_emb.inv_freq") || span_is(name, "rope.freqs") ||
           span_is(name, "rope_freqs.weight") || ends_with(name, ".weight_scale") ||
           ends_with(name, ".input_scale");
}

static int check_all_used(const maker *m, dr_err *e)
{
    const tensors *ts = m->j->src->ts;
    for (int64_t i = 0; i < tensors_count(ts); i++) {
        span name = tensors_at(ts, i)->name;
        if (!m->used[i] && !follows(name))
            return err_set(e, DR_EUNSUPPORTED, "tensor " SPAN_FMT " is not one that this kind of "
                           "model has, and is not dropped silently", SPAN_ARG(name));
    }
    return DR_OK;
}

static int add_all(maker *m, dr_err *e)
{
    int rc = add_row(m, find_row(offsetof(weights, tok_emb), false), 0, false, e);
    if (rc == DR_OK) rc = add_rope(m, e);
    for (int l = 0; rc == DR_OK && l < m->j->src->hp.L; l++) rc = add_layer(m, l, e);
    if (rc == DR_OK) rc = add_row(m, find_row(offsetof(weights, out_norm), false), 0, false, e);
    if (rc == DR_OK) rc = add_head(m, e);
    return rc == DR_OK ? check_all_used(m, e) : rc;
}

/* ---- their types ---- */

static int check_type(const pack_job *j, const pack_tensor *t, dr_err *e)
{
    const type_info *ti = type_get(t->type);
    if (!ti)
        return err_set(e, DR_EINVAL, "tensor %s: type %d is none that is written", t->name,
                       t->type);
    if (t->cols % ti->elems)
        return err_set(e, DR_EINVAL, "tensor %s: its rows of %" PRId64 " weights are no multiple "
                       "of %s's block of %d", t->name, t->cols, ti->name, ti->elems);
    if (j->to != CONTAINER_GGUF && ti->elems != 1)
        return err_set(e, DR_EINVAL, "tensor %s: %s hold floats, not %s: write a .gguf", t->name,
                       j->to == CONTAINER_META ? "Meta's files" : "safetensors", ti->name);
    return DR_OK;
}

/* Types from the caller; the main one is that of most weights. */
static int choose_types(layout *p, const pack_job *j, dr_err *e)
{
    uint64_t best = 0;
    p->main_type = DT_F32;
    for (int64_t i = 0; i < p->n; i++) {
        pack_tensor *t = &p->t[i];
        if (t->role.row == ROLE_ROPE) continue;
        int rc = j->choose ? j->choose(j->arg, t, e) : DR_OK;
        if (j->to == CONTAINER_GGUF && t->n_dims == 1) t->type = DT_F32;
        if (rc == DR_OK) rc = check_type(j, t, e);
        if (rc != DR_OK) return rc;
    }
    for (int64_t i = 0; i < p->n; i++) {
        uint64_t n = 0;
        for (int64_t k = 0; k < p->n && p->t[i].n_dims == 2; k++)
            if (p->t[k].type == p->t[i].type && p->t[k].n_dims == 2)
                n += (uint64_t)(p->t[k].rows * p->t[k].cols);
        if (n > best) best = n, p->main_type = (dtype)p->t[i].type;
    }
    return DR_OK;
}

/* ---- files ---- */

static int cut_files(layout *p, const pack_job *j, dr_err *e)
{
    int64_t most = j->n_files > 0 ? j->n_files : p->n;
    p->file = mem_zalloc((size_t)most, sizeof *p->file);
    if (!p->file) return err_nomem(e, (size_t)most * sizeof *p->file, "list of files");
    for (int64_t i = 0; i < p->n; i++) p->bytes += layout_tensor_bytes(&p->t[i]);
    if (j->n_files > p->n)
        return err_set(e, DR_EINVAL, "%d files for %" PRId64 " tensors: at most one each",
                       j->n_files, p->n);
    uint64_t sum = 0;
    layout_file *f = NULL;
    for (int64_t i = 0; i < p->n; i++) {
        uint64_t n = layout_tensor_bytes(&p->t[i]);
        bool full = !f;
        if (f && j->n_files > 0) {
            int k = p->n_files;                  // as even as tensors allow, none empty
            full = k < j->n_files && (sum + n / 2 > p->bytes / (uint64_t)j->n_files * (uint64_t)k ||
                                      p->n - i == j->n_files - k);
        } else if (f && j->file_bytes) {
            full = f->bytes + n > j->file_bytes;
        }
        if (full) {
            f = &p->file[p->n_files++];
            *f = (layout_file){ .first = i };
        }
        f->n++, f->bytes += n, sum += n;
    }
    if (p->n_files > FILES_MAX)
        return err_set(e, DR_EINVAL, "%d files; %d are possible", p->n_files, FILES_MAX);
    return DR_OK;
}

int layout_make(layout *p, const pack_job *j, dr_err *e)
{
    *p = (layout){0};
    maker m = { .p = p, .j = j };
    m.used = mem_zalloc((size_t)tensors_count(j->src->ts) + 1, sizeof *m.used);
    int rc = m.used ? add_all(&m, e) : err_nomem(e, (size_t)tensors_count(j->src->ts), "tensors");
    mem_free(m.used);
    if (rc == DR_OK) rc = choose_types(p, j, e);
    if (rc == DR_OK) rc = cut_files(p, j, e);
    if (rc != DR_OK) layout_free(p);
    return rc;
}
