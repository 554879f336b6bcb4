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
    return t->alias ? 0 : (uint64_t)type_row_bytes(t->type, t->cols) * (uint64_t)t->rows;
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
    if (m->j->to != CONTAINER_META) return DR_OK;
    int rc = add_role(m, head, pack_find(s, emb), e);         // Meta's program wants a head
    if (rc == DR_OK) m->p->t[m->p->n - 1].alias = true;
    return rc;
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

static void become_scales(pack_tensor *t)
{
    t->scale = true, t->type = DT_F32, t->scale_cols = t->cols, t->cols = 1;
}

/* Which of feed_forward.w1, w2, w3 a role is; 0: none. */
static char ffn_of(pack_role r)
{
    if (r.row < 0 || !weight_table[r.row].per_layer || r.bias) return 0;
    size_t at = weight_table[r.row].at;
    return at == offsetof(layer_weights, w1) ? '1' : at == offsetof(layer_weights, w2) ? '2' :
           at == offsetof(layer_weights, w3) ? '3' : 0;
}

static int check_type(const pack_job *j, const pack_tensor *t, dr_err *e)
{
    const type_info *ti = type_get(t->type);
    if (!ti)
        return err_set(e, DR_EINVAL, "tensor %s: type %d is none that is written", t->name,
                       t->type);
    if (t->cols % ti->elems)
        return err_set(e, DR_EINVAL, "tensor %s: its rows of %" PRId64 " weights are no multiple "
                       "of %s's block of %d", t->name, t->cols, ti->name, ti->elems);
    if (t->type == DT_F8_E4M3 && (j->to == CONTAINER_GGUF || t->n_dims == 1 ||
                                  (j->to == CONTAINER_META && !ffn_of(t->role))))
        return err_set(e, DR_EINVAL, "tensor %s: FP8 with a scale for each row is written for the "
                       "matrices of safetensors and the feed-forward ones of Meta's form", t->name);
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
        if (t->role.row == ROLE_ROPE || t->alias) continue;
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

/* Behind each FP8 tensor its scales: model.layers.1.mlp.up_proj.weight_scale. */
static int add_scales(layout *p, dr_err *e)
{
    int64_t n = 0;
    for (int64_t i = 0; i < p->n; i++) n += p->t[i].type == DT_F8_E4M3;
    if (!n) return DR_OK;
    pack_tensor *t = mem_alloc((size_t)(p->n + n) * sizeof *t), *to = t;
    if (!t) return err_nomem(e, (size_t)(p->n + n) * sizeof *t, "list of tensors");
    for (int64_t i = 0; i < p->n; i++) {
        *to++ = p->t[i];
        if (p->t[i].type != DT_F8_E4M3) continue;
        *to = p->t[i];
        become_scales(to);
        size_t k = strlen(to->name);
        snprintf(to->name + k, sizeof to->name - k, "_scale");
        to++;
    }
    mem_free(p->t);
    p->t = t, p->n = p->cap = to - t;
    return DR_OK;
}

/* ---- files ---- */

/* Meta's model-parallel shards: each has a part of the rows, or of the columns where the rows are
 * the model's width. With more shards than key/value heads, neighbours hold the same head. */
static int cut_tensor(pack_tensor *t, const hparams *h, int k, int n, dr_err *e)
{
    const wrow *w = &weight_table[t->role.row];
    if (t->n_dims < 2) return DR_OK;
    bool by_rows = w->rows != 'C';
    int copies = w->rows == 'K' && n > h->nkv ? n / h->nkv : 1, parts = n / copies;
    int64_t all = by_rows ? t->all_rows : t->all_cols;
    bool heads = w->rows == 'Q' || w->rows == 'K' || (!by_rows && w->cols == 'Q');
    if (n % copies || all % parts || (heads && all / parts % h->hs) || (copies > 1 && n % h->nkv))
        return err_set(e, DR_EINVAL, "tensor %s cannot be cut into %d shards: %" PRId64 " %s, %d "
                       "key/value heads", t->name, n, all, by_rows ? "rows" : "columns", h->nkv);
    if (by_rows) t->rows = all / parts, t->row0 = k / copies * t->rows;
    else t->cols = all / parts, t->col0 = k * t->cols;
    return DR_OK;
}

static int cut_shards(layout *p, const pack_job *j, dr_err *e)
{
    int n = j->n_files > 0 ? j->n_files : 1, rc = DR_OK;
    if (j->file_bytes)
        return err_set(e, DR_EINVAL, "Meta's files are cut by a number of shards, not by size");
    if (n > META_FILES_MAX)
        return err_set(e, DR_EINVAL, "%d shards; %d are possible", n, META_FILES_MAX);
    int64_t one = p->n, fp8 = 0;
    for (int64_t i = 0; i < one; i++) fp8 += p->t[i].type == DT_F8_E4M3;
    size_t all = (size_t)((one + fp8) * n);
    pack_tensor *t = mem_alloc(all * sizeof *t), *to = t;
    p->file = mem_zalloc(2 * (size_t)n, sizeof *p->file);
    if (!t || !p->file) {
        mem_free(t);
        return err_nomem(e, all * sizeof *t, "list of tensors");
    }
    for (int k = 0; k < (fp8 ? 2 * n : n); k++) {
        layout_file *f = &p->file[k];
        *f = (layout_file){ .first = to - t, .shard = k % n, .scales = k >= n };
        for (int64_t i = 0; rc == DR_OK && i < one; i++) {
            if (f->scales && p->t[i].type != DT_F8_E4M3) continue;
            *to = p->t[i];
            rc = cut_tensor(to, &j->src->hp, k % n, n, e);
            if (f->scales) become_scales(to);
            if (f->scales)
                snprintf(to->name, sizeof to->name, "%d_feed_forward.w%c_%d", to->role.layer,
                         ffn_of(to->role), k % n);
            f->bytes += layout_tensor_bytes(to++);
            f->n++;
        }
        p->bytes += f->bytes;
        p->n_files++;
    }
    mem_free(p->t);
    p->t = t, p->n = p->cap = to - t;
    return rc;
}

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
    if (rc == DR_OK && j->to == CONTAINER_SAFETENSORS) rc = add_scales(p, e);
    if (rc == DR_OK) rc = j->to == CONTAINER_META ? cut_shards(p, j, e) : cut_files(p, j, e);
    if (rc != DR_OK) layout_free(p);
    return rc;
}
