/* params.c - see params.h. */
#include "train/params.h"
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "base/rng.h"
#include "format/qkrow.h"

static int64_t up(int64_t n) { return (n + PARAM_ALIGN - 1) / PARAM_ALIGN * PARAM_ALIGN; }

static bool is_at(const wrow *r, bool per_layer, size_t at)
{
    return r->per_layer == per_layer && r->at == at;
}

static bool is_head(const wrow *r) { return is_at(r, false, offsetof(weights, out)); }

/* Tensors in order; p->p NULL: only count. */
static void lay_out(params *p)
{
    int64_t at = 0, all = 0;
    int n = 0;
    for (int l = -1; l < p->h.L; l++)
        for (int i = 0; i < n_weights; i++) {
            const wrow *r = &weight_table[i];
            if (r->per_layer != (l >= 0) || (is_head(r) && p->h.tied)) continue;
            int64_t rows = r->matrix ? axis_size(r->rows, &p->h) : 1;
            int64_t cols = axis_size(r->matrix ? r->cols : r->rows, &p->h);
            if (p->p)
                p->p[n] = (param){ r, l, (int)rows, (int)cols, r->matrix, at, rows * cols };
            n++, all += rows * cols, at += up(rows * cols);
        }
    p->n = n, p->n_elem = at, p->n_weights = all;
}

params *params_new(const hparams *h, int type, dr_err *e)
{
    if (type != DT_F32 && type != DT_BF16) {
        const type_info *t = type_get(type);
        err_set(e, DR_EUNSUPPORTED, "training in %s is not known; F32 and BF16 are",
                t ? t->name : "this type");
        return NULL;
    }
    params *p = mem_zalloc(1, sizeof *p);
    if (!p) {
        err_nomem(e, sizeof *p, "parameters");
        return NULL;
    }
    p->h = *h, p->type = type;
    p->h.adjacent = false;
    if (h->rope.kind == ROPE_FACTORS) {
        memcpy(p->divisor, h->rope.divisor, (size_t)h->hs / 2 * sizeof *p->divisor);
        p->h.rope.divisor = p->divisor;
    }
    lay_out(p);
    p->p = mem_zalloc((size_t)p->n, sizeof *p->p);
    if (!p->p) {
        err_nomem(e, (size_t)p->n * sizeof *p->p, "parameters");
        params_free(p);
        return NULL;
    }
    lay_out(p);
    return p;
}

static size_t f32_bytes(const params *p) { return (size_t)p->n_elem * sizeof(float); }
static size_t bf16_bytes(const params *p)
{
    return p->type == DT_BF16 ? (size_t)p->n_elem * sizeof(uint16_t) : 0;
}

size_t params_bytes(const params *p, bool grads)
{
    return f32_bytes(p) * (grads ? 2 : 1) + bf16_bytes(p);
}

int params_alloc(params *p, dev *d, bool grads, dr_err *e)
{
    DR_ASSERT(!p->d);
    p->d = d;
    p->w = d->alloc(d, f32_bytes(p));
    if (grads) p->g = d->alloc(d, f32_bytes(p));
    if (bf16_bytes(p)) p->bf = d->alloc(d, bf16_bytes(p));
    if (p->w && (p->g || !grads) && (p->bf || !bf16_bytes(p))) return DR_OK;
    return err_nomem(e, params_bytes(p, grads), "weights and gradients");
}

void params_free(params *p)
{
    if (!p) return;
    if (p->w) p->d->free(p->d, p->w, f32_bytes(p));
    if (p->g) p->d->free(p->d, p->g, f32_bytes(p));
    if (p->bf) p->d->free(p->d, p->bf, bf16_bytes(p));
    mem_free(p->p);
    mem_free(p);
}

/* ---- from another model ---- */

static int same_numbers(const hparams *a, const hparams *b, dr_err *e)
{
    const struct { const char *what; int a, b; } t[] = {
        { "vocabulary", a->V, b->V }, { "width", a->C, b->C }, { "layers", a->L, b->L },
        { "heads", a->nh, b->nh }, { "key heads", a->nkv, b->nkv }, { "head size", a->hs, b->hs },
        { "feed-forward width", a->F, b->F },
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++)
        if (t[i].a != t[i].b)
            return err_set(e, DR_EINVAL, "the model to start from has %s %d, %d is wanted", t[i].what,
                           t[i].b, t[i].a);
    if (a->tied && !b->tied)
        return err_set(e, DR_EINVAL, "the model to start from has a head of its own, a tied one is "
                       "wanted");
    return DR_OK;
}

enum { LOAD_ROWS = 256 };

/* Rows of w as f32 at y, Hugging Face's order; heads of hs rows when they are q's or k's in the
 * adjacent order (hs 0: they are not). */
static void load_matrix(dev *d, float *y, const wmat *w, int hs)
{
    int32_t row[LOAD_ROWS];
    for (int at = 0; at < w->rows; at += LOAD_ROWS) {
        int n = w->rows - at < LOAD_ROWS ? w->rows - at : LOAD_ROWS;
        for (int i = 0; i < n; i++)
            row[i] = hs ? (int32_t)qk_row_adjacent(at + i, hs) : at + i;
        d->embed(d, y + (size_t)at * (size_t)w->K, w, row, n);
    }
}

static int load_one(params *p, const param *q, const model *from, dr_err *e)
{
    char name[128];
    const char *base = q->l >= 0 ? (const char *)&from->w.layer[q->l] : (const char *)&from->w;
    const void *field = base + q->row->at;
    float *y = p->w + q->at;
    if (!q->matrix) {
        memcpy(y, *(const float *const *)field, (size_t)q->n * sizeof *y);
        return DR_OK;
    }
    const wmat *w = field;
    param_name(name, sizeof name, q, CONTAINER_SAFETENSORS);
    DR_ASSERT(w->rows == q->rows && w->K == q->cols);
    if (w->bias || w->lora)
        return err_set(e, DR_EUNSUPPORTED, "%s has %s, which training does not know", name,
                       w->bias ? "a bias" : "an adapter");
    bool qk = is_at(q->row, true, offsetof(layer_weights, wq)) ||
              is_at(q->row, true, offsetof(layer_weights, wk));
    load_matrix(p->d, y, w, qk && from->h.adjacent ? from->h.hs : 0);
    return DR_OK;
}

/* A head that is said to be the embedding and yet lies in the file must be it. */
static int check_tied(const params *p, const model *from, dr_err *e)
{
    const wmat *a = &from->w.tok_emb, *b = &from->w.out;
    if (!p->h.tied || a->data == b->data) return DR_OK;
    if (a->type == b->type && !memcmp(a->data, b->data, a->row_bytes * (size_t)a->rows)) return DR_OK;
    return err_set(e, DR_EUNSUPPORTED, "the model says that its head is the embedding, but holds "
                   "another one");
}

int params_load(params *p, const model *from, dr_err *e)
{
    int rc = same_numbers(&p->h, &from->h, e);
    if (rc == DR_OK) rc = check_tied(p, from, e);
    for (int i = 0; rc == DR_OK && i < p->n; i++) {
        param q = p->p[i];
        rc = load_one(p, &q, from, e);
    }
    if (rc == DR_OK) params_round(p, 0, p->n_elem);
    return rc;
}

/* ---- from nothing ---- */

enum { PIECE = 1 << 16 };

typedef struct { float *y; int64_t n; uint64_t seed, stream; float std; } random_job;

static void random_piece(void *arg, int chunk, int thread)
{
    const random_job *j = arg;
    int64_t at = (int64_t)chunk * PIECE, n = j->n - at < PIECE ? j->n - at : PIECE;
    (void)thread;
    rng_normal(j->y + at, n, j->seed, j->stream, (uint64_t)at);
    for (int64_t i = at; i < at + n; i++) j->y[i] *= j->std;
}

void params_random(params *p, uint64_t seed, float std)
{
    float out_std = std / sqrtf(2 * (float)p->h.L);
    for (int i = 0; i < p->n; i++) {
        const param *q = &p->p[i];
        float *y = p->w + q->at;
        for (int64_t k = 0; !q->matrix && k < q->n; k++) y[k] = 1;
        if (!q->matrix) continue;
        bool writes = is_at(q->row, true, offsetof(layer_weights, wo)) ||
                      is_at(q->row, true, offsetof(layer_weights, w2));
        random_job j = { y, q->n, seed, (uint64_t)i, writes ? out_std : std };
        p->d->run(p->d, (int)((q->n + PIECE - 1) / PIECE), random_piece, &j);
    }
    params_round(p, 0, p->n_elem);
}

/* ---- arrays ---- */

void params_round(params *p, int64_t lo, int64_t hi)
{
    if (p->bf && hi > lo) p->d->to_bf16(p->d, p->bf + lo, p->w + lo, hi - lo);
}

void params_zero_grad(params *p)
{
    p->d->fill(p->d, p->g, 0, p->n_elem);
}

/* ---- the model over them ---- */

static const void *place(const void *arg, const wrow *r, int l, int *type)
{
    const params *p = arg;
    *type = r->matrix ? p->type : DT_F32;
    for (int i = 0; i < p->n; i++)
        if (p->p[i].row == r && (!r->per_layer || p->p[i].l == l))
            return r->matrix && p->bf ? (const void *)(p->bf + p->p[i].at)
                                      : (const void *)(p->w + p->p[i].at);
    return NULL;                        /* a tied head */
}

model *params_model(const params *p, dr_err *e)
{
    return model_over(&p->h, place, p, p->d, e);
}

kv_type params_kv(const params *p) { return p->type == DT_BF16 ? KV_BF16 : KV_F32; }

void param_name(char *s, size_t n, const param *q, container c)
{
    wrow_name(s, n, q->row, c, q->l);
}

int params_find(const params *p, const char *name)
{
    static const container all[] = { CONTAINER_SAFETENSORS, CONTAINER_GGUF, CONTAINER_META };
    char s[128];
    for (size_t c = 0; c < sizeof all / sizeof *all; c++)
        for (int i = 0; i < p->n; i++) {
            param_name(s, sizeof s, &p->p[i], all[c]);
            if (!strcmp(s, name)) return i;
        }
    return -1;
}
