/* net.c - the memory of a training step: what is kept, what is shared, how much that is. */
#include <string.h>
#include "base/mem.h"
#include "model/rope.h"
#include "train/net_priv.h"

/* One row a buffer of layer_acts: its pointer, floats in a row, and up to which level of recomputing
 * each layer keeps its own. */
typedef struct { size_t at, width; int kept; } act_row;
enum { N_ACTS = 11 };

static void act_rows(act_row t[N_ACTS], const hparams *h)
{
    size_t C = (size_t)h->C, Q = (size_t)h->nh * (size_t)h->hs, F = (size_t)h->F;
    size_t K = (size_t)h->nkv * (size_t)h->hs;
    const act_row rows[N_ACTS] = {
        { offsetof(layer_acts, xn1), C, 0 },   { offsetof(layer_acts, q), Q, 1 },
        { offsetof(layer_acts, stat), (size_t)h->nh * 2, 1 },
        { offsetof(layer_acts, k), K, 1 },     { offsetof(layer_acts, v), K, 1 },
        { offsetof(layer_acts, att), Q, 1 },   { offsetof(layer_acts, xm), C, 1 },
        { offsetof(layer_acts, xn2), C, 0 },   { offsetof(layer_acts, gate), F, 1 },
        { offsetof(layer_acts, up), F, 1 },    { offsetof(layer_acts, act), F, 0 },
    };
    memcpy(t, rows, sizeof rows);
}

/* Of struct net itself: its pointer, floats, wanted without a backward pass. */
typedef struct { size_t at, n; bool always; } work_row;
enum { N_WORK = 7 };

static void work_rows(work_row t[N_WORK], const hparams *h, const net_opt *o)
{
    size_t N = (size_t)o->n_rows, C = (size_t)h->C, Q = (size_t)h->nh * (size_t)h->hs;
    const work_row rows[N_WORK] = {
        { offsetof(net, xf), N * C, true },    { offsetof(net, dx), N * C, false },
        { offsetof(net, dn), N * C, false },   { offsetof(net, datt), N * Q, false },
        { offsetof(net, dq), N * Q, false },   { offsetof(net, inv), (size_t)h->hs / 2, true },
        { offsetof(net, cs), (size_t)o->max_len * (size_t)h->hs, true },
    };
    memcpy(t, rows, sizeof rows);
}

/* Give *field its n floats at *at of the block at base (NULL: only count). */
static void carve(char *base, size_t *at, void *field, size_t n)
{
    if (base) {
        float *p = (float *)(void *)(base + *at);
        memcpy(field, &p, sizeof p);
    }
    *at += (n * sizeof(float) + 63) & ~(size_t)63;
}

/* All buffers of n, whose options are complete. Without n->mem nothing is written. Returns the bytes;
 * *kept: of them, what waits for the backward pass. */
static size_t lay_out(net *n, const hparams *h, const net_opt *o, size_t *kept)
{
    act_row t[N_ACTS];
    work_row w[N_WORK];
    char *base = n ? n->mem : NULL;
    size_t at = 0, N = (size_t)o->n_rows, C = (size_t)h->C;
    int level = o->eval_only ? 3 : o->recompute;
    act_rows(t, h);
    work_rows(w, h, o);
    for (int l = 0; l <= h->L; l++) {
        if (l > 0 && o->eval_only) {
            if (base) n->x[l] = n->x[0];
        } else {
            carve(base, &at, base ? &n->x[l] : NULL, N * C);
        }
        for (int i = 0; i < N_ACTS && l < h->L; i++)
            if (level <= t[i].kept)
                carve(base, &at, base ? (char *)&n->a[l] + t[i].at : NULL, N * t[i].width);
    }
    *kept = o->eval_only ? 0 : at;
    for (int i = 0; i < N_ACTS; i++) {
        if (level <= t[i].kept) continue;
        char *one = base ? (char *)&n->a[0] + t[i].at : NULL;
        carve(base, &at, one, N * t[i].width);
        for (int l = 1; base && l < h->L; l++)
            memcpy((char *)&n->a[l] + t[i].at, one, sizeof(float *));
    }
    for (int i = 0; i < N_WORK; i++)
        if (w[i].always || !o->eval_only)
            carve(base, &at, base ? (char *)n + w[i].at : NULL, w[i].n);
    return at;
}

static int complete(net_opt *to, const net_opt *from, const params *p, dr_err *e)
{
    net_opt o = *from;
    if (!o.max_docs) o.max_docs = o.n_rows / 16 + 1;
    if (!o.max_len) o.max_len = p->h.n_ctx;
    if (o.max_len > o.n_rows) o.max_len = o.n_rows;
    if (o.n_rows < 1 || o.max_docs < 1 || o.max_len < 1)
        return err_set(e, DR_EINVAL, "a batch of %d tokens and %d documents of up to %d was asked for; "
                       "each is 1 or more", o.n_rows, o.max_docs, o.max_len);
    if (o.max_docs > o.n_rows) o.max_docs = o.n_rows;
    if (o.recompute < 0 || o.recompute > 2)
        return err_set(e, DR_EINVAL, "recompute is 0, 1 or 2, not %d", o.recompute);
    if (o.max_len > p->h.n_ctx)
        return err_set(e, DR_EINVAL, "documents of %d positions: the model has %d", o.max_len,
                       p->h.n_ctx);
    if (o.max_len > HP_MAX_CTX || o.n_rows > HP_MAX_CTX)
        return err_set(e, DR_EINVAL, "a batch of %d tokens was asked for, %d are the most", o.n_rows,
                       HP_MAX_CTX);
    *to = o;
    return DR_OK;
}

/* Pages that any documents within the options fit in: each wastes less than one. */
static int64_t n_pages(const net_opt *o)
{
    return (o->n_rows + (int64_t)o->max_docs * (KV_PAGE - 1)) / KV_PAGE;
}

static train_size size_of(const params *p, const net_opt *o)
{
    const hparams *h = &p->h;
    return (train_size){ .N = o->n_rows, .C = h->C, .V = h->V, .nh = h->nh, .hs = h->hs };
}

static int widest(const hparams *h)
{
    int w = h->F > h->C ? h->F : h->C;
    return h->nh * h->hs > w ? h->nh * h->hs : w;
}

int net_plan_make(net_plan *pl, const params *p, dev *d, const net_opt *opt, dr_err *e)
{
    const hparams *h = &p->h;
    net_opt o;
    int rc = complete(&o, opt, p, e);
    if (rc != DR_OK) return rc;
    train_size s = size_of(p, &o);
    *pl = (net_plan){0};
    pl->work = lay_out(NULL, h, &o, &pl->kept) - pl->kept;
    pl->kv = kv_bytes(params_kv(p), 1, h->nkv, h->hs, n_pages(&o) * KV_PAGE);
    pl->scratch = d->reserve_bytes(d, o.n_rows, widest(h), h->nh, h->hs, o.max_len) +
                  d->reserve_train_bytes(d, &s);
    pl->total = pl->kept + pl->work + pl->kv + pl->scratch;
    return DR_OK;
}

/* The tables in the host's memory. */
static int take_host(net *n, dr_err *e)
{
    size_t L = (size_t)n->p->h.L, docs = (size_t)n->o.max_docs, pages = (size_t)n_pages(&n->o);
    size_t bytes = (L + 1) * sizeof *n->x + L * sizeof *n->a + docs * sizeof *n->run +
                   pages * sizeof *n->page;
    char *p = n->host = mem_zalloc(bytes, 1);
    if (!p) return err_nomem(e, bytes, "the tables of a training step");
    n->x = (float **)(void *)p, p += (L + 1) * sizeof *n->x;
    n->a = (layer_acts *)(void *)p, p += L * sizeof *n->a;
    n->run = (seq_run *)(void *)p, p += docs * sizeof *n->run;
    n->page = (int32_t *)(void *)p;
    for (size_t i = 0; i < pages; i++) n->page[i] = (int32_t)i;
    return DR_OK;
}

net *net_new(params *p, const net_opt *opt, dr_err *e)
{
    const hparams *h = &p->h;
    dev *d = p->d;
    size_t kept;
    DR_ASSERT(d && (p->g || opt->eval_only));
    net *n = mem_zalloc(1, sizeof *n);
    if (!n) {
        err_nomem(e, sizeof *n, "a training step");
        return NULL;
    }
    n->p = p, n->d = d;
    if (complete(&n->o, opt, p, e) || take_host(n, e)) goto fail;
    size_t bytes = lay_out(NULL, h, &n->o, &kept);
    n->mem = d->alloc(d, bytes);
    if (!n->mem) {
        err_nomem(e, bytes, "the activations of a training step");
        goto fail;
    }
    n->mem_bytes = bytes;
    lay_out(n, h, &n->o, &kept);
    rope_inv_freq(n->inv, &h->rope, h->hs);
    rope_rows(n->cs, n->inv, h->hs, 0, n->o.max_len);
    train_size s = size_of(p, &n->o);
    n->m = params_model(p, e);
    if (!n->m ||
        kv_init(&n->kv, d, params_kv(p), 1, h->nkv, h->hs,
                n_pages(&n->o) * KV_PAGE, e) ||
        d->reserve(d, n->o.n_rows, widest(h), h->nh, h->hs, n->o.max_len, e) ||
        d->reserve_train(d, &s, e))
        goto fail;
    return n;
fail:
    net_free(n);
    return NULL;
}

void net_free(net *n)
{
    if (!n) return;
    kv_free(&n->kv);
    model_close(n->m);
    if (n->mem) n->d->free(n->d, n->mem, n->mem_bytes);
    mem_free(n->host);
    mem_free(n);
}

const model *net_model(const net *n) { return n->m; }

/* Refuse what does not fit; else the runs of b's documents. */
static int begin(net *n, const batch *b, dr_err *e)
{
    int rc = batch_check(b, n->p->h.V, n->o.max_len, e);
    if (rc != DR_OK) return rc;
    if (b->n > n->o.n_rows || b->n_docs > n->o.max_docs)
        return err_set(e, DR_EINVAL, "a batch of %d tokens in %d documents; room was planned for %d "
                       "in %d", b->n, b->n_docs, n->o.n_rows, n->o.max_docs);
    for (int i = 0; b->parent && i < b->n_docs; i++)
        if (b->parent[i] >= 0)
            return err_set(e, DR_EUNSUPPORTED, "document %d goes on where document %d ended, which "
                           "training does not do yet", i, (int)b->parent[i]);
    const int32_t *page = n->page;
    for (int i = 0; i < b->n_docs; i++) {
        int at = b->doc_start[i], len = b->doc_start[i + 1] - at;
        n->run[i] = (seq_run){ at, len, 0, page };
        page += (len + KV_PAGE - 1) / KV_PAGE;
    }
    n->n_runs = b->n_docs;
    return DR_OK;
}

void net_zero_grad(net *n)
{
    params *p = n->p;
    /* the embedding's rows are added to one by one, after the head's gradient where that is the same tensor */
    const float *rows = n->m->w.out.data == n->m->w.tok_emb.data ? NULL : net_grad_of(n, n->m->w.tok_emb.data);
    for (int i = 0; i < p->n; i++)
        if (!p->p[i].matrix || p->g + p->p[i].at == rows) n->d->fill(n->d, p->g + p->p[i].at, 0, p->p[i].n);
    n->fresh = true;
}

int net_step(net *n, const batch *b, loss_sum *sum, float *logp, dr_err *e)
{
    DR_ASSERT(!n->o.eval_only);
    int rc = begin(n, b, e);
    if (rc == DR_OK) net_pass(n, b, sum, logp, true);
    return rc;
}

int net_eval(net *n, const batch *b, loss_sum *sum, float *logp, dr_err *e)
{
    int rc = begin(n, b, e);
    if (rc == DR_OK) net_pass(n, b, sum, logp, false);
    return rc;
}

double net_flops_per_token(const hparams *h, double seq, bool causal)
{
    double w = model_flops_per_token(h) / 2 + (double)h->V * h->C;
    return 6 * w + (causal ? 6 : 12) * (double)h->L * h->nh * h->hs * seq;
}
