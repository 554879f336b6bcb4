/* net_pass.c - forward, loss and backward of one batch, as plain calls against the device.
 *
 * The forward pass is model/forward.c's; what differs is where results lie. Backward, with dx the
 * gradient of the residual stream (docs/math/):
 *
 *     dx = rmsnorm'(head')                       gradients of weights are added to p->g
 *     for each layer, the last first:
 *         dx += rmsnorm'(w1' dgate + w3' dup),   dgate, dup = swiglu'(w2' dx)
 *         dx += rmsnorm'(wq' dq + wk' dk + wv' dv),   dq, dk, dv = rope'(attention'(wo' dx))
 *     embedding row of each token += dx */
#include <math.h>
#include "train/net_priv.h"

static size_t width_q(const hparams *h) { return (size_t)h->nh * (size_t)h->hs; }
static size_t width_k(const hparams *h) { return (size_t)h->nkv * (size_t)h->hs; }
static float qscale(const hparams *h) { return 1 / sqrtf((float)h->hs); }

/* The gradient of a weight of the model: where its pointer is, so are the others, by p's table. */
float *net_grad_of(const net *n, const void *weight)
{
    const params *p = n->p;
    const char *at = weight, *w = (const char *)p->w, *bf = (const char *)p->bf;
    bool is_bf = bf && at >= bf && at < bf + (size_t)p->n_elem * sizeof *p->bf;
    return p->g + (is_bf ? (at - bf) / (ptrdiff_t)sizeof *p->bf : (at - w) / (ptrdiff_t)sizeof *p->w);
}

static mm_dw dw_of(const net *n, const wmat *w, const float *dy, size_t ldy)
{
    return (mm_dw){ .dw = net_grad_of(n, w->data), .dy = dy, .ldy = ldy, .w = w, .fresh = n->fresh };
}

/* ---- forward ---- */

static void norm1(net *n, int l, int N)
{
    const hparams *h = &n->p->h;
    n->d->rmsnorm(n->d, n->a[l].xn1, n->x[l], n->m->w.layer[l].attn_norm, N, h->C, h->eps);
}

static void norm2(net *n, int l, int N)
{
    const hparams *h = &n->p->h;
    n->d->rmsnorm(n->d, n->a[l].xn2, n->a[l].xm, n->m->w.layer[l].ffn_norm, N, h->C, h->eps);
}

static void swiglu(net *n, int l, int N)
{
    const layer_acts *a = &n->a[l];
    n->d->swiglu(n->d, a->act, a->gate, a->up, (int64_t)N * n->p->h.F);
}

/* A layer from x[l] to act, its last product's input. */
static void layer_inner(net *n, int l, int N)
{
    const hparams *h = &n->p->h;
    const layer_weights *w = &n->m->w.layer[l];
    const layer_acts *a = &n->a[l];
    dev *d = n->d;
    kv_layer cache = kv_at(&n->kv, 0);
    size_t C = (size_t)h->C, F = (size_t)h->F, Q = width_q(h), K = width_k(h);

    norm1(n, l, N);
    const mm_out qkv[] = { { a->q, Q, &w->wq }, { a->k, K, &w->wk }, { a->v, K, &w->wv } };
    d->matmul(d, qkv, 3, a->xn1, C, N);
    d->rope_store(d, a->q, a->k, a->v, h->nh, &cache, n->cs, h->adjacent, qscale(h), n->run,
                  n->n_runs);
    d->attn(d, a->att, a->stat, a->q, h->nh, &cache, h->window, n->run, n->n_runs);
    d->matmul(d, &(mm_out){ a->xm, C, &w->wo }, 1, a->att, Q, N);
    d->add(d, a->xm, n->x[l], (int64_t)N * h->C);

    norm2(n, l, N);
    const mm_out gu[] = { { a->gate, F, &w->w1 }, { a->up, F, &w->w3 } };
    d->matmul(d, gu, 2, a->xn2, C, N);
    swiglu(n, l, N);
}

static void forward(net *n, const batch *b)
{
    const hparams *h = &n->p->h;
    const weights *w = &n->m->w;
    dev *d = n->d;
    int N = b->n;
    d->embed(d, n->x[0], &w->tok_emb, b->tok, N);
    for (int l = 0; l < h->L; l++) {
        layer_inner(n, l, N);
        d->matmul(d, &(mm_out){ n->x[l + 1], (size_t)h->C, &w->layer[l].w2 }, 1, n->a[l].act,
                  (size_t)h->F, N);
        d->add(d, n->x[l + 1], n->a[l].xm, (int64_t)N * h->C);
    }
    d->rmsnorm(d, n->xf, n->x[h->L], w->out_norm, N, h->C, h->eps);
}

/* ---- backward ---- */

/* dx of the layer's output becomes that of xm. */
static void ffn_backward(net *n, int l, int N)
{
    const hparams *h = &n->p->h;
    const layer_weights *w = &n->m->w.layer[l];
    const layer_acts *a = &n->a[l];
    dev *d = n->d;
    size_t C = (size_t)h->C, F = (size_t)h->F;

    const mm_dw d2 = dw_of(n, &w->w2, n->dx, C);
    d->matmul_dw(d, &d2, 1, a->act, DT_F32, F, N);
    float *dact = a->act;                           /* act has been read for the last time */
    d->matmul_dx(d, dact, F, &(mm_dx){ n->dx, C, &w->w2 }, 1, N, false);
    d->swiglu_backward(d, a->gate, a->up, dact, a->gate, a->up, (int64_t)N * h->F);
    const mm_dw d13[] = { dw_of(n, &w->w1, a->gate, F),
                          dw_of(n, &w->w3, a->up, F) };
    d->matmul_dw(d, d13, 2, a->xn2, DT_F32, C, N);
    const mm_dx x13[] = { { a->gate, F, &w->w1 }, { a->up, F, &w->w3 } };
    d->matmul_dx(d, n->dn, C, x13, 2, N, false);
    d->rmsnorm_backward(d, n->dx, net_grad_of(n, w->ffn_norm), n->dn, a->xm, w->ffn_norm, N, h->C,
                        h->eps);
}

/* dx of xm becomes that of x[l]. */
static void attn_backward(net *n, int l, int N)
{
    const hparams *h = &n->p->h;
    const layer_weights *w = &n->m->w.layer[l];
    const layer_acts *a = &n->a[l];
    dev *d = n->d;
    kv_layer cache = kv_at(&n->kv, 0);
    size_t C = (size_t)h->C, Q = width_q(h), K = width_k(h);
    float *dk = a->k, *dv = a->v;                   /* which the pages have by then */

    const mm_dw dwo = dw_of(n, &w->wo, n->dx, C);
    d->matmul_dw(d, &dwo, 1, a->att, DT_F32, Q, N);
    d->matmul_dx(d, n->datt, Q, &(mm_dx){ n->dx, C, &w->wo }, 1, N, false);
    if (n->o.recompute < 2)
        d->rope_store(d, NULL, a->k, a->v, 0, &cache, n->cs, h->adjacent, 1, n->run, n->n_runs);
    d->attn_backward(d, n->dq, dk, dv, n->datt, a->att, a->q, a->stat, h->nh, &cache, h->window,
                     n->run, n->n_runs);
    d->rope_backward(d, n->dq, dk, h->nh, h->nkv, h->hs, n->cs, h->adjacent, qscale(h), n->run,
                     n->n_runs);
    if (n->o.recompute) norm1(n, l, N);
    const mm_dw dqkv[] = { dw_of(n, &w->wq, n->dq, Q),
                           dw_of(n, &w->wk, dk, K),
                           dw_of(n, &w->wv, dv, K) };
    d->matmul_dw(d, dqkv, 3, a->xn1, DT_F32, C, N);
    const mm_dx xqkv[] = { { n->dq, Q, &w->wq }, { dk, K, &w->wk }, { dv, K, &w->wv } };
    d->matmul_dx(d, n->dn, C, xqkv, 3, N, false);
    d->rmsnorm_backward(d, n->dx, net_grad_of(n, w->attn_norm), n->dn, n->x[l], w->attn_norm, N, h->C,
                        h->eps);
}

/* n->dn: the gradient of xf. */
static void backward(net *n, const batch *b)
{
    const hparams *h = &n->p->h;
    const weights *w = &n->m->w;
    dev *d = n->d;
    int N = b->n;
    d->fill(d, n->dx, 0, (int64_t)N * h->C);
    d->rmsnorm_backward(d, n->dx, net_grad_of(n, w->out_norm), n->dn, n->x[h->L], w->out_norm, N, h->C,
                        h->eps);
    for (int l = h->L - 1; l >= 0; l--) {
        if (n->o.recompute == 2) {
            layer_inner(n, l, N);
        } else if (n->o.recompute == 1) {
            norm2(n, l, N);
            swiglu(n, l, N);
        }
        ffn_backward(n, l, N);
        attn_backward(n, l, N);
    }
    d->embed_backward(d, net_grad_of(n, w->tok_emb.data), n->dx, b->tok, N, h->C);
}

void net_pass(net *n, const batch *b, loss_sum *sum, float *logp, bool grads)
{
    const wmat *out = &n->m->w.out;
    forward(n, b);
    head_loss hl = { .w = out, .x = n->xf, .target = b->target, .weight = b->weight, .N = b->n,
                     .logp = logp };
    if (grads) hl.dx = n->dn, hl.dw = net_grad_of(n, out->data), hl.fresh = n->fresh;
    n->d->loss_head(n->d, &hl);
    sum->loss += hl.loss, sum->weight += hl.weights;
    if (!grads) return;
    backward(n, b);
    n->fresh = false;
}
