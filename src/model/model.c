/* model.c - open and close; the workspace. */
#include "model/model.h"
#include <string.h>
#include "base/mem.h"
#include "base/os.h"
#include "model/rope.h"

static model *open_tensors(tensors *ts, const dev_opt *o, bool gather, dr_err *e)
{
    model *m = mem_zalloc(1, sizeof *m);
    if (!m) {
        err_nomem(e, sizeof *m, "model");
        tensors_close(ts);
        return NULL;
    }
    m->ts = ts;
    buf_init(&m->warnings, 1 << 16);
    m->path = mem_strdup(tensors_path(ts) ? tensors_path(ts) : "");
    if (!m->path) {
        err_nomem(e, 1, "model");
        goto fail;
    }
    bool copy = o->copy || o->numa;
    if (hparams_read(&m->h, ts, &m->warnings, e) || (gather && !copy && tensors_gather(ts, e)) ||
        weights_load(&m->w, ts, &m->h, e))
        goto fail;
    m->borrows_dev = o->use != NULL;
    m->d = o->use ? o->use : dev_open(o, e);
    if (!m->d) goto fail;
    if (*m->d->note && !o->use) buf_printf(&m->warnings, "%s\n", m->d->note);
    if (copy && gather ? copy_load(&m->copy, &m->w, ts, &m->h, m->d, o, e) :
        copy && copy_plan(&m->copy, &m->w, ts, &m->h, m->d, e))
        goto fail;
    return m;
fail:
    model_close(m);
    return NULL;
}

model *model_from_tensors(tensors *ts, const dev_opt *o, dr_err *e)
{
    return open_tensors(ts, o, true, e);
}

model *model_describe(tensors *ts, const dev_opt *o, dr_err *e)
{
    return open_tensors(ts, o, false, e);
}

model *model_open(const char *path, const dev_opt *o, dr_err *e)
{
    tensors *ts = tensors_open(path, e);
    if (!ts) return NULL;
    dr_err inner = {0};
    model *m = model_from_tensors(ts, o, &inner);
    if (!m) err_set(e, inner.code, "%.200s: %.280s", path, inner.msg);
    return m;
}

void model_close(model *m)
{
    if (!m) return;
    lora_close(m->adapters);
    weights_free(&m->w);
    copy_free(&m->copy);
    tensors_close(m->ts);
    if (!m->borrows_dev) dev_close(m->d);
    buf_free(&m->warnings);
    mem_free(m->path);
    mem_free(m);
}

model *model_over(const hparams *h, weight_place place, const void *arg, dev *d, dr_err *e)
{
    model *m = mem_zalloc(1, sizeof *m);
    if (!m) {
        err_nomem(e, sizeof *m, "model");
        return NULL;
    }
    m->h = *h, m->d = d, m->borrows_dev = true;
    buf_init(&m->warnings, 1 << 16);
    m->path = mem_strdup("");
    int rc = m->path ? weights_over(&m->w, h, place, arg, e) : err_nomem(e, 1, "model");
    if (rc == DR_OK) return m;
    model_close(m);
    return NULL;
}

bool model_pages_of(const model *m, model_pages *p)
{
    os_pages g = {0};
    *p = (model_pages){0};
    if (!m->ts) return false;
    *p = (model_pages){ .mapped = tensors_mapped_bytes(m->ts), .copied = m->copy.mem ? m->copy.bytes : 0 };
    if (!tensors_cached(m->ts, &p->cached, &p->cached_huge)) return false;
    if (p->copied && !os_pages_of(m->copy.mem, p->copied, &g)) return false;
    p->copied_huge = g.huge;
    return true;
}

static wmat *matrix_at(model *m, const wrow *w, int layer)
{
    char *base = w->per_layer ? (char *)&m->w.layer[layer] : (char *)&m->w;
    return (wmat *)(void *)(base + w->at);
}

int model_add_lora(model *m, const lora_ref *ref, dr_err *e)
{
    lora *l = lora_open(ref, &m->h, m->h.adjacent, e), **end = &m->adapters;
    if (!l) return e ? e->code : DR_EFORMAT;
    while (*end) end = &(*end)->next;
    *end = l;
    for (int i = 0; i < n_weights; i++)
        for (int k = 0; k < (weight_table[i].per_layer ? m->h.L : 1); k++) {
            if (!lora_at(l, i, k)) continue;
            const lora_mat **at = &matrix_at(m, &weight_table[i], k)->lora;
            while (*at) at = (const lora_mat **)&(*at)->next;
            *at = lora_at(l, i, k);
        }
    return DR_OK;
}

size_t model_lora_bytes(const model *m)
{
    size_t n = 0;
    for (const lora *l = m->adapters; l; l = l->next) n += lora_bytes(l);
    return n;
}

/* The largest rank of the model's own adapters. */
static int own_rank(const model *m)
{
    int r = 0;
    for (const lora *l = m->adapters; l; l = l->next)
        if (l->r > r) r = l->r;
    return r;
}

/* Values in the widest input of a product. */
int model_widest(const model *m)
{
    const hparams *h = &m->h;
    int widest = h->F > h->C ? h->F : h->C;
    if (h->nh * h->hs > widest) widest = h->nh * h->hs;
    return widest > own_rank(m) ? widest : own_rank(m);
}

/* One row of the workspace's layout table: which pointer, how many floats. */
typedef struct { size_t at, n; } span_of_ws;

enum { WS_SPANS = 11 };
static int layout(span_of_ws s[WS_SPANS], const model *m, int n_rows, int n_out, int rank)
{
    const hparams *h = &m->h;
    size_t N = (size_t)n_rows, Q = (size_t)h->nh * (size_t)h->hs, K = (size_t)h->nkv * (size_t)h->hs;
    size_t C = (size_t)h->C, F = (size_t)h->F;
    const span_of_ws t[] = {
        { offsetof(workspace, x), N * C },      { offsetof(workspace, xn), N * C },
        { offsetof(workspace, q), N * Q },      { offsetof(workspace, k), N * K },
        { offsetof(workspace, v), N * K },      { offsetof(workspace, att), N * Q },
        { offsetof(workspace, gate), N * F },   { offsetof(workspace, up), N * F },
        { offsetof(workspace, logits), (size_t)n_out * (size_t)h->V },
        { offsetof(workspace, inv), (size_t)h->hs / 2 },
        { offsetof(workspace, run_t), 3 * N * (size_t)rank },
    };
    memcpy(s, t, sizeof t);
    return sizeof t / sizeof *t;
}

static size_t pad(size_t floats) { return (floats * sizeof(float) + 63) & ~(size_t)63; }

static size_t rope_bytes(const hparams *h, int n_ctx)
{
    return (size_t)n_ctx * (size_t)h->hs * sizeof(float);
}

static size_t host_bytes(int n_rows)
{
    return (size_t)n_rows * (3 * sizeof(low_rank) + sizeof(lora_part) + 2 * sizeof(int32_t));
}

/* What of workspace_bytes_rank is the device's, without the table of rope. */
static size_t device_bytes(const model *m, int n_rows, int n_out, int rank)
{
    span_of_ws s[WS_SPANS];
    size_t total = 64;
    for (int i = 0, n = layout(s, m, n_rows, n_out, rank); i < n; i++) total += pad(s[i].n);
    return total;
}

size_t workspace_bytes_rank(const model *m, int n_rows, int n_out, int n_ctx, int rank)
{
    if (rank < own_rank(m)) rank = own_rank(m);
    return device_bytes(m, n_rows, n_out, rank) + rope_bytes(&m->h, n_ctx) + host_bytes(n_rows);
}

size_t workspace_bytes(const model *m, int n_rows, int n_out, int n_ctx)
{
    return workspace_bytes_rank(m, n_rows, n_out, n_ctx, 0);
}

int workspace_init_rank(workspace *ws, const model *m, int n_rows, int n_out, int n_ctx, int rank,
                        dr_err *e)
{
    const hparams *h = &m->h;
    if (rank < own_rank(m)) rank = own_rank(m);
    *ws = (workspace){ .m = m, .n_rows = n_rows, .n_out = n_out, .n_ctx = n_ctx, .rank = rank };
    span_of_ws s[WS_SPANS];
    int n = layout(s, m, n_rows, n_out, rank), widest = model_widest(m);
    ws->cs_bytes = rope_bytes(h, n_ctx);
    ws->mem_bytes = device_bytes(m, n_rows, n_out, rank);
    char *p = ws->mem = m->d->alloc(m->d, ws->mem_bytes);
    ws->cs = m->d->alloc(m->d, ws->cs_bytes);
    char *q = ws->host = mem_zalloc(1, host_bytes(n_rows));
    if (!ws->mem || !ws->cs || !q) {
        workspace_free(ws);
        return err_nomem(e, workspace_bytes_rank(m, n_rows, n_out, n_ctx, rank), "workspace");
    }
    for (int i = 0; i < n; i++) {
        *(float **)(void *)((char *)ws + s[i].at) = (float *)(void *)p;
        p += pad(s[i].n);
    }
    ws->job = (low_rank *)(void *)q, q += (size_t)n_rows * 3 * sizeof *ws->job;
    ws->part = (lora_part *)(void *)q, q += (size_t)n_rows * sizeof *ws->part;
    ws->keep = (int32_t *)(void *)q;
    rope_inv_freq(ws->inv, &h->rope, h->hs);
    int rc = m->d->reserve(m->d, n_rows, rank > widest ? rank : widest, h->nh, h->hs, n_ctx, e);
    if (rc) workspace_free(ws);
    return rc;
}

int workspace_init(workspace *ws, const model *m, int n_rows, int n_out, int n_ctx, dr_err *e)
{
    return workspace_init_rank(ws, m, n_rows, n_out, n_ctx, 0, e);
}

void workspace_free(workspace *ws)
{
    if (!ws->m) return;
    dev *d = ws->m->d;
    if (ws->mem) d->free(d, ws->mem, ws->mem_bytes);
    if (ws->cs) d->free(d, ws->cs, ws->cs_bytes);
    mem_free(ws->host);
    *ws = (workspace){0};
}

double model_flops_per_token(const hparams *h)
{
    double Q = (double)h->nh * h->hs, K = (double)h->nkv * h->hs;
    return 2.0 * h->L * (h->C * (2 * Q + 2 * K) + 3.0 * h->C * h->F);
}
