/* forward.c - the Llama forward pass, once, as plain calls against the device.
 *
 *     x = embedding(token)
 *     for each layer:  x = x + wo attention(rope(q), rope(k), v),  q,k,v of rmsnorm(x)
 *                      x = x + w2 (silu(w1 n) * w3 n),             n = rmsnorm(x)
 *     logits = out rmsnorm(x)
 *
 * In the last layer only rows whose logits are wanted go past attention: a prompt needs one. */
#include "model/model.h"
#include <math.h>
#include "model/rope.h"

static void rope_upto(workspace *ws, int end)
{
    int hs = ws->m->h.hs;
    if (end <= ws->cs_have) return;
    /* a few ahead, so that a decode step seldom computes any */
    int to = end + 64 < ws->n_ctx ? end + 64 : ws->n_ctx;
    rope_rows(ws->cs + (size_t)ws->cs_have * (size_t)hs, ws->inv, hs, ws->cs_have,
              to - ws->cs_have);
    ws->cs_have = to;
}

/* y += B (A x) for each adapter of w, in order. y (N,rows) and x (N,K) have no gaps; tok is not NULL
 * for the embedding, whose A has a row for each token. */
static void add_adapters(const model *m, workspace *ws, const wmat *w, float *y, const float *x,
                         const int32_t *tok, int N)
{
    dev *d = m->d;
    for (const lora_mat *a = w->lora; a; a = a->next) {
        size_t r = (size_t)a->b.K;
        DR_ASSERT(ws->lora_y);              /* adapters come before workspaces */
        if (tok) d->embed(d, ws->lora_t, &a->a, tok, N);
        else d->matmul(d, &(mm_out){ ws->lora_t, r, &a->a }, 1, x, (size_t)a->a.K, N);
        d->matmul(d, &(mm_out){ ws->lora_y, (size_t)a->b.rows, &a->b }, 1, ws->lora_t, r, N);
        d->add(d, y, ws->lora_y, (int64_t)N * a->b.rows);
    }
}

/* Products of one input, with what adapters add. Outputs have no gaps. */
static void products(const model *m, workspace *ws, const mm_out *out, int n_out, const float *x,
                     int N)
{
    m->d->matmul(m->d, out, n_out, x, (size_t)out[0].w->K, N);
    for (int i = 0; i < n_out; i++) add_adapters(m, ws, out[i].w, out[i].y, x, NULL, N);
}

static void attention(const model *m, workspace *ws, const kv_cache *kv, int l, int N,
                      const seq_run *run, int n_runs)
{
    const hparams *h = &m->h;
    const layer_weights *w = &m->w.layer[l];
    dev *d = m->d;
    size_t Q = (size_t)h->nh * (size_t)h->hs, K = (size_t)h->nkv * (size_t)h->hs;
    kv_layer cache = kv_at(kv, l);

    d->rmsnorm(d, ws->xn, ws->x, w->attn_norm, N, h->C, h->eps);
    const mm_out qkv[] = { { ws->q, Q, &w->wq }, { ws->k, K, &w->wk }, { ws->v, K, &w->wv } };
    products(m, ws, qkv, 3, ws->xn, N);
    d->rope_store(d, ws->q, ws->k, ws->v, h->nh, &cache, ws->cs, h->adjacent,
                  1 / sqrtf((float)h->hs), run, n_runs);
    d->attn(d, ws->att, NULL, ws->q, h->nh, &cache, h->window, run, n_runs);
}

static void after_attention(const model *m, workspace *ws, int l, int N)
{
    const hparams *h = &m->h;
    const layer_weights *w = &m->w.layer[l];
    dev *d = m->d;
    size_t C = (size_t)h->C, F = (size_t)h->F;

    products(m, ws, &(mm_out){ ws->xn, C, &w->wo }, 1, ws->att, N);
    d->add(d, ws->x, ws->xn, (int64_t)N * h->C);

    d->rmsnorm(d, ws->xn, ws->x, w->ffn_norm, N, h->C, h->eps);
    const mm_out gu[] = { { ws->gate, F, &w->w1 }, { ws->up, F, &w->w3 } };
    products(m, ws, gu, 2, ws->xn, N);
    d->swiglu(d, ws->gate, ws->gate, ws->up, (int64_t)N * h->F);
    products(m, ws, &(mm_out){ ws->xn, C, &w->w2 }, 1, ws->gate, N);
    d->add(d, ws->x, ws->xn, (int64_t)N * h->C);
}

void model_forward(const model *m, workspace *ws, const kv_cache *kv, const int32_t *tok, int N,
                   const seq_run *run, int n_runs, const int32_t *out, int n_out)
{
    const hparams *h = &m->h;
    dev *d = m->d;
    DR_ASSERT(N > 0 && N <= ws->n_rows && n_out <= ws->n_out && n_out <= N);
    for (int i = 0; i < n_runs; i++) rope_upto(ws, run[i].pos + run[i].T);

    d->embed(d, ws->x, &m->w.tok_emb, tok, N);
    add_adapters(m, ws, &m->w.tok_emb, ws->x, NULL, tok, N);
    for (int l = 0; l < h->L; l++) {
        attention(m, ws, kv, l, N, run, n_runs);
        if (l == h->L - 1) {
            if (n_out == 0) return;          // the cache is filled: nothing else was asked for
            d->keep_rows(d, ws->att, h->nh * h->hs, out, n_out);
            d->keep_rows(d, ws->x, h->C, out, n_out);
            N = n_out;
        }
        after_attention(m, ws, l, N);
    }
    d->rmsnorm(d, ws->xn, ws->x, m->w.out_norm, N, h->C, h->eps);
    products(m, ws, &(mm_out){ ws->logits, (size_t)h->V, &m->w.out }, 1, ws->xn, N);
}
