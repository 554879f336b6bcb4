/* weights.c - see weights.h. */
#include "model/weights.h"
#include <math.h>
#include <stdio.h>
#include "base/half.h"
#include "base/mem.h"
#include "format/dequant.h"

#define W(f) offsetof(weights, f), false
#define LW(f) offsetof(layer_weights, f), true
const wrow weight_table[] = {
    { "token_embd.weight", "model.embed_tokens.weight", "tok_embeddings.weight",
      W(tok_emb), true, false, 'V', 'C' },
    { "output_norm.weight", "model.norm.weight", "norm.weight", W(out_norm), false, false, 'C', 0 },
    { "output.weight", "lm_head.weight", "output.weight", W(out), true, false, 'V', 'C' },
    { "blk.%d.attn_norm.weight", "model.layers.%d.input_layernorm.weight",
      "layers.%d.attention_norm.weight", LW(attn_norm), false, false, 'C', 0 },
    { "blk.%d.attn_q.weight", "model.layers.%d.self_attn.q_proj.weight",
      "layers.%d.attention.wq.weight", LW(wq), true, true, 'Q', 'C' },
    { "blk.%d.attn_k.weight", "model.layers.%d.self_attn.k_proj.weight",
      "layers.%d.attention.wk.weight", LW(wk), true, true, 'K', 'C', true },
    { "blk.%d.attn_v.weight", "model.layers.%d.self_attn.v_proj.weight",
      "layers.%d.attention.wv.weight", LW(wv), true, true, 'K', 'C', true },
    { "blk.%d.attn_output.weight", "model.layers.%d.self_attn.o_proj.weight",
      "layers.%d.attention.wo.weight", LW(wo), true, true, 'C', 'Q' },
    { "blk.%d.ffn_norm.weight", "model.layers.%d.post_attention_layernorm.weight",
      "layers.%d.ffn_norm.weight", LW(ffn_norm), false, false, 'C', 0 },
    { "blk.%d.ffn_gate.weight", "model.layers.%d.mlp.gate_proj.weight",
      "layers.%d.feed_forward.w1.weight", LW(w1), true, true, 'F', 'C' },
    { "blk.%d.ffn_up.weight", "model.layers.%d.mlp.up_proj.weight",
      "layers.%d.feed_forward.w3.weight", LW(w3), true, true, 'F', 'C', true },
    { "blk.%d.ffn_down.weight", "model.layers.%d.mlp.down_proj.weight",
      "layers.%d.feed_forward.w2.weight", LW(w2), true, true, 'C', 'F' },
};
const int n_weights = sizeof weight_table / sizeof *weight_table;

int64_t axis_size(char axis, const hparams *h)
{
    switch (axis) {
    case 'V': return h->V;
    case 'C': return h->C;
    case 'F': return h->F;
    case 'Q': return (int64_t)h->nh * h->hs;
    case 'K': return (int64_t)h->nkv * h->hs;
    default: DR_ASSERT(!"unknown axis"); return 0;
    }
}

/* The printf patterns of the table hold exactly one %d, or none. */
static void name_of(char *s, size_t n, const char *pattern, int l)
{
    const char *d = strstr(pattern, "%d");
    if (d) snprintf(s, n, "%.*s%d%s", (int)(d - pattern), pattern, l, d + 2);
    else snprintf(s, n, "%s", pattern);
}

void wrow_name(char *s, size_t n, const wrow *r, container c, int l)
{
    name_of(s, n, c == CONTAINER_GGUF ? r->gguf : c == CONTAINER_META ? r->meta : r->hf, l);
}

static int vector(const float **to, arena *a, const tensor *t, int64_t n, dr_err *e)
{
    if (t->n_dims != 1 || t->dim[0] != n)
        return err_set(e, DR_EFORMAT, "tensor " SPAN_FMT " has %lld values, %lld are wanted",
                       SPAN_ARG(t->name), (long long)t->dim[0], (long long)n);
    if (!t->data || (t->type != DT_F32 && t->type != DT_F16 && t->type != DT_BF16))
        return err_set(e, DR_EUNSUPPORTED, "tensor " SPAN_FMT ": a norm or bias of this type is "
                       "not read (F32, F16, BF16 are)", SPAN_ARG(t->name));
    float *y = arena_take(a, (size_t)n * sizeof *y);
    if (!y)                              // only the first layer was looked at for biases
        return err_set(e, DR_EFORMAT, "tensor " SPAN_FMT ": the first layer has no bias",
                       SPAN_ARG(t->name));
    for (int64_t i = 0; i < n; i++) {
        uint16_t u = 0;
        if (t->type == DT_F32) {
            memcpy(&y[i], t->data + 4 * i, 4);
        } else {
            memcpy(&u, t->data + 2 * i, 2);
            y[i] = t->type == DT_F16 ? f16_to_f32(u) : bf16_to_f32(u);
        }
    }
    *to = y;
    return DR_OK;
}

static int matrix(wmat *to, const tensors *ts, const tensor *t, int64_t rows, int64_t cols,
                  dr_err *e)
{
    if (t->n_dims != 2 || t->dim[0] != rows || t->dim[1] != cols)
        return err_set(e, DR_EFORMAT, "tensor " SPAN_FMT " is %lld x %lld, %lld x %lld is wanted",
                       SPAN_ARG(t->name), (long long)t->dim[0],
                       (long long)(t->n_dims > 1 ? t->dim[1] : 1), (long long)rows,
                       (long long)cols);
    const type_info *ti = type_get(t->type);
    if (!ti)
        return err_set(e, DR_EUNSUPPORTED, "tensor " SPAN_FMT " is of type %s, which does not run "
                       "here", SPAN_ARG(t->name), tensor_type_name(ts, t->type));
    if (cols % ti->elems)
        return err_set(e, DR_EFORMAT, "tensor " SPAN_FMT ": rows of %lld are no multiple of %d",
                       SPAN_ARG(t->name), (long long)cols, ti->elems);
    *to = (wmat){ .type = t->type, .rows = (int)rows, .K = (int)cols, .data = t->data,
                  .row_bytes = type_row_bytes(t->type, cols) };
    return DR_OK;
}

static const tensor *scale_of(const tensors *ts, const tensor *t)
{
    char s[160];
    snprintf(s, sizeof s, SPAN_FMT "_scale", SPAN_ARG(t->name));
    return tensors_find(ts, s);
}

/* What a scale tensor is for rows of K weights: how many slices of K have scales of their own,
 * and how many values it holds for each. 0: neither one scale, one a row, nor one a row and slice. */
static int slices_of(const tensor *s, int64_t rows, int64_t K, int64_t *values)
{
    int64_t n = 1;
    for (int i = 0; i < s->n_dims; i++)
        if (s->dim[i] < 0 || __builtin_mul_overflow(n, s->dim[i], &n)) return 0;
    *values = n == 1 ? 1 : rows;
    if (n == 1 || (n == rows && (s->n_dims == 1 || s->dim[1] == 1))) return 1;
    return s->n_dims == 2 && s->dim[1] == rows && s->dim[0] > 0 && s->dim[0] <= K &&
           K % s->dim[0] == 0 ? (int)s->dim[0] : 0;
}

/* The scales of a matrix whose type has them, as f32 in the arena. */
static int scales(wmat *m, arena *a, const tensors *ts, const tensor *t, dr_err *e)
{
    const tensor *s = scale_of(ts, t);
    if (!s && t->type != DT_F8_E4M3) return DR_OK;
    if (!s)
        return err_set(e, DR_EFORMAT, "tensor " SPAN_FMT " is FP8, but its scales, " SPAN_FMT
                       "_scale, are missing", SPAN_ARG(t->name), SPAN_ARG(t->name));
    if (t->type != DT_F8_E4M3)
        return err_set(e, DR_EUNSUPPORTED, "tensor " SPAN_FMT " has scales, but is of type %s; FP8 "
                       "ones are read", SPAN_ARG(t->name), tensor_type_name(ts, t->type));
    int64_t each, rows = m->rows;
    int n = slices_of(s, rows, m->K, &each);
    if (!n || (s->type != DT_F32 && s->type != DT_F16 && s->type != DT_BF16))
        return err_set(e, DR_EUNSUPPORTED, "tensor " SPAN_FMT ": scales for the whole, for each row "
                       "or for each row and slice are read, not in this shape or type",
                       SPAN_ARG(s->name));
    float *y = arena_take(a, (size_t)n * (size_t)rows * sizeof *y);
    uint8_t *raw = mem_alloc(s->bytes);
    DR_ASSERT(y);
    int rc = raw ? tensor_rows(ts, s, 0, tensor_n_rows(s), raw, e)
                 : err_nomem(e, s->bytes, "scales");
    if (rc == DR_OK) dequant_row(s->type, raw, y, n * each);
    mem_free(raw);
    if (rc != DR_OK) return rc;
    for (int64_t i = 0; i < n * each; i++)
        if (!isfinite(y[i]))
            return err_set(e, DR_EFORMAT, "tensor " SPAN_FMT ": scale %lld is %g",
                           SPAN_ARG(s->name), (long long)i, (double)y[i]);
    for (int64_t i = 1; each == 1 && i < rows; i++) y[i] = y[0];
    m->scale = y, m->n_slice = n;
    return DR_OK;
}

/* "x.weight" -> "x.bias" */
static const tensor *bias_of(const tensors *ts, const char *name)
{
    char s[160];
    size_t n = strlen(name);
    snprintf(s, sizeof s, "%.*sbias", (int)(n - strlen("weight")), name);
    return tensors_find(ts, s);
}

static bool is_head(const wrow *r) { return r->at == offsetof(weights, out) && !r->per_layer; }

const tensor *wrow_tensor(const wrow *r, const tensors *ts, const hparams *h, int l)
{
    char name[128];
    if (is_head(r) && h->tied && tensors_meta_tied(ts)) return NULL;
    wrow_name(name, sizeof name, r, tensors_container(ts), l);
    return tensors_find(ts, name);
}

static int load_row(weights *w, const wrow *r, int l, const tensors *ts, const hparams *h,
                    dr_err *e)
{
    char name[128];
    wrow_name(name, sizeof name, r, tensors_container(ts), l);
    char *base = r->per_layer ? (char *)&w->layer[l] : (char *)w;
    const tensor *t = wrow_tensor(r, ts, h, l);
    if (!t && is_head(r) && h->tied) {
        w->out = w->tok_emb;
        return DR_OK;
    }
    if (!t) return err_set(e, DR_EFORMAT, "tensor %s is missing", name);
    int64_t rows = axis_size(r->rows, h);
    if (!r->matrix) return vector((const float **)(void *)(base + r->at), &w->mem, t, rows, e);
    wmat *m = (wmat *)(void *)(base + r->at);
    int rc = matrix(m, ts, t, rows, axis_size(r->cols, h), e);
    if (rc == DR_OK) rc = scales(m, &w->mem, ts, t, e);
    const tensor *b = rc ? NULL : bias_of(ts, name);
    if (!b) return rc;
    if (!r->may_have_bias)
        return err_set(e, DR_EUNSUPPORTED, "tensor " SPAN_FMT ": a bias here is not known",
                       SPAN_ARG(b->name));
    return vector(&m->bias, &w->mem, b, rows, e);
}

/* Does any matrix of the first layer have a bias? Decides whether room is set aside. */
static bool any_bias(const tensors *ts)
{
    for (int i = 0; i < n_weights; i++) {
        const wrow *r = &weight_table[i];
        char name[128];
        wrow_name(name, sizeof name, r, tensors_container(ts), 0);
        if (r->may_have_bias && bias_of(ts, name)) return true;
    }
    return false;
}

/* Bytes that the scales of all matrices take. */
static size_t scale_bytes(const tensors *ts, const hparams *h)
{
    size_t all = 0;
    for (int i = 0; i < n_weights; i++) {
        const wrow *r = &weight_table[i];
        for (int l = 0; r->matrix && l < (r->per_layer ? h->L : 1); l++) {
            char name[128];
            wrow_name(name, sizeof name, r, tensors_container(ts), l);
            const tensor *t = tensors_find(ts, name), *s = t ? scale_of(ts, t) : NULL;
            int64_t rows = axis_size(r->rows, h), each;
            int n = s ? slices_of(s, rows, axis_size(r->cols, h), &each) : 0;
            if (n) all += (size_t)n * (size_t)rows * sizeof(float) + 64;
        }
    }
    return all;
}

int weights_load(weights *w, const tensors *ts, const hparams *h, dr_err *e)
{
    *w = (weights){0};
    bool biases = any_bias(ts);
    size_t per_layer = sizeof(layer_weights) + 64, once = 0;
    for (int i = 0; i < n_weights; i++) {
        const wrow *r = &weight_table[i];
        if (r->matrix && !(biases && r->may_have_bias)) continue;
        size_t n = (size_t)axis_size(r->rows, h) * sizeof(float) + 64;
        if (r->per_layer) per_layer += n;
        else once += n;
    }
    size_t total = once + (size_t)h->L * per_layer + scale_bytes(ts, h) + 64;
    if (!arena_init(&w->mem, total)) return err_nomem(e, total, "norms");
    w->layer = arena_take(&w->mem, (size_t)h->L * sizeof *w->layer);
    DR_ASSERT(w->layer);
    for (int i = 0; i < n_weights; i++)
        for (int l = 0; l < (weight_table[i].per_layer ? h->L : 1); l++) {
            int rc = load_row(w, &weight_table[i], l, ts, h, e);
            if (rc) {
                weights_free(w);
                return rc;
            }
        }
    return DR_OK;
}

int weights_over(weights *w, const hparams *h, weight_place place, const void *arg, dr_err *e)
{
    *w = (weights){0};
    size_t total = (size_t)h->L * sizeof *w->layer + 64;
    if (!arena_init(&w->mem, total)) return err_nomem(e, total, "the table of weights");
    w->layer = arena_take(&w->mem, (size_t)h->L * sizeof *w->layer);
    DR_ASSERT(w->layer);
    for (int i = 0; i < n_weights; i++)
        for (int l = 0; l < (weight_table[i].per_layer ? h->L : 1); l++) {
            const wrow *r = &weight_table[i];
            char *field = (r->per_layer ? (char *)&w->layer[l] : (char *)w) + r->at;
            int type = DT_F32;
            const void *p = place(arg, r, r->per_layer ? l : -1, &type);
            DR_ASSERT(p || (is_head(r) && h->tied));
            int64_t rows = axis_size(r->rows, h), K = r->matrix ? axis_size(r->cols, h) : 0;
            if (!r->matrix) *(const float **)(void *)field = p;
            else if (!p) w->out = w->tok_emb;
            else *(wmat *)(void *)field = (wmat){ .type = type, .rows = (int)rows, .K = (int)K, .data = p,
                                                  .row_bytes = type_row_bytes(type, K) };
        }
    return DR_OK;
}

void weights_free(weights *w)
{
    arena_free(&w->mem);
    *w = (weights){0};
}

size_t weights_bytes(const weights *w, const hparams *h, size_t *per_token)
{
    size_t all = 0, tok = 0;
    for (int i = 0; i < n_weights; i++) {
        const wrow *r = &weight_table[i];
        if (!r->matrix) continue;
        for (int l = 0; l < (r->per_layer ? h->L : 1); l++) {
            const char *base = r->per_layer ? (const char *)&w->layer[l] : (const char *)w;
            const wmat *m = (const wmat *)(const void *)(base + r->at);
            size_t n = (size_t)m->rows * (m->row_bytes + (size_t)m->n_slice * sizeof(float));
            bool emb = m == &w->tok_emb, head = m == &w->out;
            if (!(head && h->tied)) all += n;
            if (!emb) tok += n;          // the embedding costs a row; the head all of it
        }
    }
    if (per_token) *per_token = tok;
    return all;
}
