/* lora.c - see lora.h. Names are made from the table of weights and looked up in the adapter; a
 * tensor that nobody asked for is one that does not fit. */
#include "model/lora.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "base/os.h"
#include "format/dequant.h"
#include "format/json.h"
#include "format/qkrow.h"

enum { NAME = 192, CONFIG_MAX = 4 << 20, MAX_RANK = 1 << 16 };

typedef struct {
    const tensors *ts;
    const json_t *config;           /* NULL: GGUF */
    const hparams *h;
    bool adjacent;                  /* wanted */
    double scale, alpha;            /* the user's; GGUF's, 0: none */
    lora *l;
    size_t bytes;
    int64_t used;                   /* tensors that were asked for */
} reading;

int lora_ref_parse(lora_ref *r, const char *text, char *path, size_t n, dr_err *e)
{
    const char *colon = strrchr(text, ':');
    size_t len = strlen(text);
    *r = (lora_ref){ path, 1 };
    if (colon && colon[1]) {
        char *end;
        float x = strtof(colon + 1, &end);
        if (!*end) {
            if (!isfinite(x)) return err_set(e, DR_EINVAL, "an adapter's scale of %s", colon + 1);
            r->scale = x, len = (size_t)(colon - text);
        }
    }
    if (len == 0 || len >= n) return err_set(e, DR_EINVAL, "an adapter's path of %zu bytes", len);
    memcpy(path, text, len);
    path[len] = 0;
    return DR_OK;
}

static bool is_embedding(const wrow *w) { return !w->per_layer && w->at == offsetof(weights, tok_emb); }

/* "model.layers.3.mlp.up_proj" */
static void module_of(char *s, const wrow *w, int layer)
{
    wrow_name(s, NAME, w, CONTAINER_SAFETENSORS, layer);
    s[strlen(s) - strlen(".weight")] = 0;
}

/* A or B of a weight; NULL: not there. */
static const tensor *part(const reading *d, const wrow *w, int layer, bool b)
{
    char name[NAME], s[NAME + 64];
    if (!d->config) {
        wrow_name(name, sizeof name, w, CONTAINER_GGUF, layer);
        snprintf(s, sizeof s, "%s.lora_%c", name, b ? 'b' : 'a');
        return tensors_find(d->ts, s);
    }
    module_of(name, w, layer);
    snprintf(s, sizeof s, is_embedding(w) ? "base_model.model.%s.lora_embedding_%c"
                                          : "base_model.model.%s.lora_%c.weight", name, b ? 'B' : 'A');
    return tensors_find(d->ts, s);
}

static int right_type(const reading *d, const tensor *t, dr_err *e)
{
    bool is = t->type == DT_F32 || t->type == DT_F16 || t->type == DT_BF16 || t->type == DT_Q8_0;
    if (is && t->n_dims == 2 && t->data && t->dim[1] % type_get(t->type)->elems == 0) return DR_OK;
    return err_set(e, DR_EUNSUPPORTED, "adapter tensor " SPAN_FMT ": a matrix of F32, F16, BF16 or "
                   "Q8_0 is wanted, not %s of %d dimensions", SPAN_ARG(t->name),
                   tensor_type_name(d->ts, t->type), t->n_dims);
}

static int shape(const tensor *t, int64_t rows, int64_t cols, dr_err *e)
{
    if (t->dim[0] == rows && t->dim[1] == cols) return DR_OK;
    return err_set(e, DR_EFORMAT, "adapter tensor " SPAN_FMT " is %lld x %lld, %lld x %lld is wanted: "
                   "it was made for another model", SPAN_ARG(t->name), (long long)t->dim[0],
                   (long long)t->dim[1], (long long)rows, (long long)cols);
}

static size_t pad(size_t floats) { return (floats * sizeof(float) + 63) & ~(size_t)63; }

/* Rows of a matrix that lies in panels, those included that fill up the last. */
static int64_t up(int64_t rows) { return (rows + LOW_PANEL - 1) / LOW_PANEL * LOW_PANEL; }

/* Both parts of a weight are there, of the right shapes; *r is their rank. */
static int check(const reading *d, const wrow *w, const tensor *a, const tensor *b, int64_t *r,
                 dr_err *e)
{
    bool emb = is_embedding(w), turned = emb && !d->config;      /* GGUF's is (V,r) */
    int64_t rows = axis_size(w->rows, d->h), cols = axis_size(w->cols, d->h);
    if (!a || !b)
        return err_set(e, DR_EFORMAT, "adapter tensor " SPAN_FMT " has no partner",
                       SPAN_ARG((a ? a : b)->name));
    int rc = right_type(d, a, e);
    if (!rc) rc = right_type(d, b, e);
    if (rc) return rc;
    *r = a->dim[turned ? 1 : 0];
    if (*r < 1 || *r > MAX_RANK)
        return err_set(e, DR_EFORMAT, "adapter tensor " SPAN_FMT ": rank %lld", SPAN_ARG(a->name),
                       (long long)*r);
    /* an embedding takes V to C: A (r,V), B (C,r); any other weight K to rows */
    int64_t from = emb ? rows : cols, to = emb ? cols : rows;
    rc = turned ? shape(a, from, *r, e) : shape(a, *r, from, e);
    return rc ? rc : shape(b, to, *r, e);
}

/* The first tensor that no weight asked for. */
static int stranger(const reading *d, dr_err *e)
{
    for (int64_t i = 0; i < tensors_count(d->ts); i++) {
        const tensor *t = tensors_at(d->ts, i);
        bool known = false;
        for (int k = 0; k < n_weights && !known; k++)
            for (int l = 0; l < (weight_table[k].per_layer ? d->h->L : 1) && !known; l++)
                known = weight_table[k].matrix && (part(d, &weight_table[k], l, false) == t ||
                                                   part(d, &weight_table[k], l, true) == t);
        if (!known)
            return err_set(e, DR_EUNSUPPORTED, "adapter tensor " SPAN_FMT ": this model has no such "
                           "weight, or it is no LoRA of one", SPAN_ARG(t->name));
    }
    return DR_OK;
}

/* Every matrix of the table: checked and counted (l->mat NULL), then read. */
static int each(reading *d, int (*fn)(reading *, const wrow *, lora_mat *, int, const tensor *,
                                      const tensor *, dr_err *), dr_err *e)
{
    for (int i = 0; i < n_weights; i++) {
        const wrow *w = &weight_table[i];
        for (int l = 0; w->matrix && l < (w->per_layer ? d->h->L : 1); l++) {
            const tensor *a = part(d, w, l, false), *b = part(d, w, l, true);
            if (!a && !b) continue;
            lora_mat *m = d->l->mat ? &d->l->mat[i * d->h->L + l] : NULL;
            int rc = fn(d, w, m, l, a, b, e);
            if (rc) return rc;
        }
    }
    return DR_OK;
}

static int count(reading *d, const wrow *w, lora_mat *m, int layer, const tensor *a, const tensor *b,
                 dr_err *e)
{
    int64_t r;
    int rc = check(d, w, a, b, &r, e);
    (void)m, (void)layer;
    if (rc) return rc;
    d->bytes += pad((size_t)a->dim[0] * (size_t)a->dim[1]) + pad((size_t)up(b->dim[0]) * (size_t)b->dim[1]);
    d->used += 2;
    d->l->n_mat++;
    if (r > d->l->r) d->l->r = (int)r;
    return DR_OK;
}

static wmat f32_matrix(arena *mem, int64_t rows, int64_t cols, bool panels)
{
    float *p = arena_take(mem, (size_t)(panels ? up(rows) : rows) * (size_t)cols * sizeof *p);
    DR_ASSERT(p);
    return (wmat){ .type = DT_F32, .rows = (int)rows, .K = (int)cols, .data = p,
                   .row_bytes = (size_t)cols * sizeof *p };
}

static const uint8_t *row_of(const tensor *t, int64_t r)
{
    return t->data + (size_t)r * type_row_bytes(t->type, t->dim[1]);
}

static int load(reading *d, const wrow *w, lora_mat *m, int layer, const tensor *a, const tensor *b,
                dr_err *e)
{
    int64_t r, hs = d->h->hs;
    char module[NAME];
    double scale = 1;
    module_of(module, w, layer);
    int rc = check(d, w, a, b, &r, e);
    if (!rc && d->config) rc = lora_peft_scale(d->config, module, r, &scale, e);
    if (rc) return rc;
    if (!d->config && d->alpha != 0) scale = d->alpha / (double)r;
    scale *= d->scale;
    if (!isfinite(scale)) return err_set(e, DR_EFORMAT, "%s: a scale of %g", module, scale);
    bool emb = is_embedding(w), turn = emb && d->config;
    m->a = f32_matrix(&d->l->mem, turn ? a->dim[1] : a->dim[0], turn ? r : a->dim[1], false);
    m->b = f32_matrix(&d->l->mem, b->dim[0], r, true);
    float *pa = (float *)m->a.data, *pb = (float *)m->b.data;
    for (int64_t i = 0; i < a->dim[0]; i++) dequant_row(a->type, row_of(a, i), pa + i * a->dim[1], a->dim[1]);
    if (turn && r > 1) {            /* (r,V) to (V,r), through a copy of its own size */
        float *copy = mem_alloc((size_t)r * (size_t)a->dim[1] * sizeof *copy);
        if (!copy) return err_nomem(e, (size_t)r * (size_t)a->dim[1] * sizeof *copy, "an adapter");
        memcpy(copy, pa, (size_t)r * (size_t)a->dim[1] * sizeof *copy);
        for (int64_t i = 0; i < r; i++)
            for (int64_t k = 0; k < a->dim[1]; k++) pa[k * r + i] = copy[i * a->dim[1] + k];
        mem_free(copy);
    }
    float *row = mem_alloc((size_t)r * sizeof *row);
    if (!row) return err_nomem(e, (size_t)r * sizeof *row, "an adapter");
    bool qk = w->per_layer && (w->at == offsetof(layer_weights, wq) || w->at == offsetof(layer_weights, wk));
    bool stored_adjacent = !d->config;
    for (int64_t i = 0; i < b->dim[0]; i++) {
        int64_t from = !qk || stored_adjacent == d->adjacent ? i
                     : d->adjacent ? qk_row_hf(i, hs) : qk_row_adjacent(i, hs);
        dequant_row(b->type, row_of(b, from), row, r);
        for (int64_t k = 0; k < r; k++) {
            float y = (float)(scale * (double)row[k]);
            if (!isfinite(y)) rc = DR_EFORMAT;
            pb[low_at((int)i, (int)k, (int)r)] = y;
        }
    }
    mem_free(row);
    if (rc) return err_set(e, DR_EFORMAT, "%s: B holds what is no number", module);
    for (int64_t i = 0; i < a->dim[0] * a->dim[1]; i++)
        if (!isfinite(pa[i])) return err_set(e, DR_EFORMAT, "%s: A holds what is no number", module);
    return DR_OK;
}

/* general.type adapter, adapter.type lora; anything more is another kind. */
static int gguf_kind(reading *d, dr_err *e)
{
    const gguf *g = tensors_gguf(d->ts);
    span type = { "", 0 }, kind = { "", 0 }, arch = { "", 0 };
    if (!g) return err_set(e, DR_EFORMAT, "a LoRA adapter is a PEFT folder or a GGUF file");
    gguf_get_str(g, "general.type", &type);
    gguf_get_str(g, "adapter.type", &kind);
    if (!span_is(type, "adapter") || !span_is(kind, "lora"))
        return err_set(e, DR_EFORMAT, "this GGUF file is no LoRA adapter: general.type is \"" SPAN_FMT
                       "\", adapter.type \"" SPAN_FMT "\"", SPAN_ARG(type), SPAN_ARG(kind));
    gguf_get_str(g, "general.architecture", &arch);
    if (!span_is(arch, "llama"))
        return err_set(e, DR_EUNSUPPORTED, "the adapter is for architecture \"" SPAN_FMT "\"; llama is "
                       "read", SPAN_ARG(arch));
    for (uint64_t i = 0; i < g->n_kv; i++)
        if (g->kv[i].key.n > 14 && !memcmp(g->kv[i].key.p, "adapter.alora.", 14))
            return err_set(e, DR_EUNSUPPORTED, "an adapter that wakes up at a text (aLoRA) is not read");
    gguf_get_f64(g, "adapter.lora.alpha", &d->alpha);
    return DR_OK;
}

lora *lora_from_tensors(const tensors *ts, const json_t *config, float scale, const hparams *h,
                        bool adjacent, dr_err *e)
{
    lora *l = mem_zalloc(1, sizeof *l);
    if (!l) {
        err_nomem(e, sizeof *l, "an adapter");
        return NULL;
    }
    reading d = { .ts = ts, .config = config, .h = h, .adjacent = adjacent, .scale = scale, .l = l };
    l->L = h->L;
    int rc = config ? lora_peft_check(config, e) : gguf_kind(&d, e);
    if (!rc) rc = each(&d, count, e);
    if (!rc && d.used != tensors_count(ts)) rc = stranger(&d, e);
    if (!rc && !l->n_mat) rc = err_set(e, DR_EFORMAT, "the adapter has no tensors");
    size_t table = (size_t)n_weights * (size_t)h->L * sizeof *l->mat;
    if (!rc && !arena_init(&l->mem, table + d.bytes + 64)) rc = err_nomem(e, d.bytes, "an adapter");
    if (!rc) {
        l->mat = arena_take(&l->mem, table);
        DR_ASSERT(l->mat);
        rc = each(&d, load, e);
    }
    if (!rc) return l;
    lora_close(l);
    return NULL;
}

lora *lora_open(const lora_ref *ref, const hparams *h, bool adjacent, dr_err *e)
{
    dr_err inner = {0};
    buf model = { .cap_max = 4096 }, conf = { .cap_max = 4096 };
    bool dir = os_is_dir(ref->path);
    buf_printf(&model, dir ? "%s/adapter_model.safetensors" : "%s", ref->path);
    const char *slash = strrchr(ref->path, '/');
    if (dir) buf_printf(&conf, "%s/adapter_config.json", ref->path);
    else buf_printf(&conf, "%.*sadapter_config.json", slash ? (int)(slash - ref->path) + 1 : 0, ref->path);
    tensors *ts = NULL;
    json_t *config = NULL;
    lora *l = NULL;
    if (strlen(ref->path) > 4000) err_set(&inner, DR_EINVAL, "the path is too long");
    else if (model.bad || conf.bad) err_nomem(&inner, strlen(ref->path), "a path");
    else if (dir && !os_exists(buf_str(&model)))
        err_set(&inner, DR_EIO, "there is no adapter_model.safetensors in it");
    else ts = tensors_open(buf_str(&model), &inner);
    if (ts && !tensors_gguf(ts)) config = json_read_file(buf_str(&conf), CONFIG_MAX, &inner);
    if (ts && (config || tensors_gguf(ts)))
        l = lora_from_tensors(ts, config, ref->scale, h, adjacent, &inner);
    if (!l) err_set(e, inner.code, "adapter %.200s: %.270s", ref->path, inner.msg);
    json_decref(config);
    tensors_close(ts);
    buf_free(&model);
    buf_free(&conf);
    return l;
}

void lora_close(lora *l)
{
    while (l) {
        lora *next = l->next;
        arena_free(&l->mem);
        mem_free(l);
        l = next;
    }
}

const lora_mat *lora_at(const lora *l, int row, int layer)
{
    const lora_mat *m = &l->mat[row * l->L + layer];
    return m->a.data ? m : NULL;
}

size_t lora_bytes(const lora *l) { return l->mem.cap; }
