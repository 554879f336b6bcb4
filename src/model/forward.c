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

/* One job more: what a adds to rows n0 .. n0+N-1 of an output; *t moves on. */
static void put_job(workspace *ws, int *n, float **t, const mm_out *out, const lora_mat *a, int n0, int N,
                    const int32_t *tok)
{
    DR_ASSERT(a->b.K <= ws->rank);              /* adapters come before workspaces, or into one made for them */
    ws->job[(*n)++] = (low_rank){ .a = tok ? NULL : &a->a, .b = &a->b, .y = out->y, .t = *t,
                                  .ldy = out->ldy, .n0 = n0, .N = N };
    if (tok) ws->m->d->embed(ws->m->d, *t, &a->a, tok + n0, N);
    *t += (size_t)N * (size_t)a->b.K;
}

/* y += B (A x) for each of the model's own adapters, in order. tok is not NULL for the embedding, whose A has
 * a row for each token. */
static void add_own(const model *m, workspace *ws, const mm_out *out, int n_out, const float *x,
                    const int32_t *tok, int N)
{
    const lora_mat *a[3];
    int left = 0;
    for (int i = 0; i < n_out; i++) left += (a[i] = out[i].w->lora) != NULL;
    while (left) {
        int n = 0;
        float *t = ws->run_t;
        left = 0;
        for (int i = 0; i < n_out; i++) {
            if (!a[i]) continue;
            put_job(ws, &n, &t, &out[i], a[i], 0, N, tok);
            left += (a[i] = a[i]->next) != NULL;
        }
        m->d->add_low_rank(m->d, ws->job, n, x, (size_t)out[0].w->K);
    }
}

/* Where in weight_table a matrix of layer l (-1: outside layers) is. */
static int row_of(const model *m, const wmat *w, int l)
{
    size_t at = (size_t)((const char *)w - (l < 0 ? (const char *)&m->w : (const char *)&m->w.layer[l]));
    for (int i = 0; i < n_weights; i++)
        if (weight_table[i].at == at && weight_table[i].per_layer == (l >= 0)) return i;
    DR_ASSERT(!"a matrix of the model");
    return -1;
}

/* What the runs' adapters add to products of x; tok: x is made of rows of the embedding's A. */
static void add_parts(const model *m, workspace *ws, const mm_out *out, int n_out, int l, const float *x,
                      const int32_t *tok)
{
    int n = 0;
    float *t = ws->run_t;
    for (int i = 0; i < n_out && ws->n_part; i++) {
        int row = row_of(m, out[i].w, l);
        for (int k = 0; k < ws->n_part; k++) {
            const lora_part *p = &ws->part[k];
            const lora_mat *a = lora_at(p->l, row, l < 0 ? 0 : l);
            if (!a) continue;
            put_job(ws, &n, &t, &out[i], a, p->n0, p->N, tok);
        }
    }
    if (n) m->d->add_low_rank(m->d, ws->job, n, x, (size_t)out[0].w->K);
}

/* Products of one input with layer l's weights (-1: outside layers), with what adapters add. Outputs
 * have no gaps. */
static void products(const model *m, workspace *ws, const mm_out *out, int n_out, int l, const float *x,
                     int N)
{
    m->d->matmul(m->d, out, n_out, x, (size_t)out[0].w->K, N);
    add_own(m, ws, out, n_out, x, NULL, N);
    add_parts(m, ws, out, n_out, l, x, NULL);
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
    products(m, ws, qkv, 3, l, ws->xn, N);
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

    products(m, ws, &(mm_out){ ws->xn, C, &w->wo }, 1, l, ws->att, N);
    d->add(d, ws->x, ws->xn, (int64_t)N * h->C);

    d->rmsnorm(d, ws->xn, ws->x, w->ffn_norm, N, h->C, h->eps);
    const mm_out gu[] = { { ws->gate, F, &w->w1 }, { ws->up, F, &w->w3 } };
    products(m, ws, gu, 2, l, ws->xn, N);
    d->swiglu(d, ws->gate, ws->gate, ws->up, (int64_t)N * h->F);
    products(m, ws, &(mm_out){ ws->xn, C, &w->w2 }, 1, l, ws->gate, N);
    d->add(d, ws->x, ws->xn, (int64_t)N * h->C);
}

/* Which rows each adapter adds to: neighbouring runs of one are one part. */
static void parts_of_runs(workspace *ws, const model_step *s)
{
    ws->n_part = 0;
    for (int i = 0; s->lora && i < s->n_runs; i++) {
        const lora *l = s->lora[i];
        lora_part *last = ws->n_part ? &ws->part[ws->n_part - 1] : NULL;
        if (!l) continue;
        DR_ASSERT(l->r <= ws->rank);
        if (last && last->l == l && last->n0 + last->N == s->run[i].n0) last->N += s->run[i].T;
        else ws->part[ws->n_part++] = (lora_part){ l, s->run[i].n0, s->run[i].T };
    }
}

/* Rows keep[0], keep[1], … stay: parts shrink, and those left without a row go. */
static void keep_parts(workspace *ws, const int32_t *keep, int n)
{
    int k = 0, left = 0;
    for (int i = 0; i < ws->n_part; i++) {
        lora_part p = ws->part[i];
        while (k < n && keep[k] < p.n0) k++;
        int first = k;
        while (k < n && keep[k] < p.n0 + p.N) k++;
        if (k == first) continue;
        lora_part *last = left ? &ws->part[left - 1] : NULL;
        if (last && last->l == p.l && last->n0 + last->N == first) last->N += k - first;
        else ws->part[left++] = (lora_part){ p.l, first, k - first };
    }
    ws->n_part = left;
}

/* Rows whose logits or hidden states are wanted, ascending, into ws->keep. */
static int wanted_rows(workspace *ws, const model_step *s)
{
    int n = 0;
    for (int i = 0, k = 0; i < s->n_out || k < s->n_hid;) {
        int32_t a = i < s->n_out ? s->out[i] : INT32_MAX, b = k < s->n_hid ? s->hid[k] : INT32_MAX;
        i += a <= b, k += b <= a;
        ws->keep[n++] = a < b ? a : b;
    }
    return n;
}

/* The first of N rows of x, where ws->keep says which rows of the step they are, become those of row[]. */
static void pick_rows(dev *d, workspace *ws, float *x, int C, int N, const int32_t *row, int n)
{
    int32_t *at = ws->keep + ws->n_rows;
    for (int i = 0, k = 0; i < n; i++, k++) {
        while (ws->keep[k] != row[i]) k++;
        at[i] = k;
    }
    DR_ASSERT(n <= N);
    d->keep_rows(d, x, C, at, n);
}

void model_eval(const model *m, workspace *ws, const kv_cache *kv, const model_step *s)
{
    const hparams *h = &m->h;
    dev *d = m->d;
    int N = s->N;
    DR_ASSERT(N > 0 && N <= ws->n_rows && s->n_out <= ws->n_out && s->n_out <= N && s->n_hid <= N);
    for (int i = 0; i < s->n_runs; i++) rope_upto(ws, s->run[i].pos + s->run[i].T);
    parts_of_runs(ws, s);
    int n_keep = wanted_rows(ws, s);

    d->embed(d, ws->x, &m->w.tok_emb, s->tok, N);
    const mm_out emb = { ws->x, (size_t)h->C, &m->w.tok_emb };
    add_own(m, ws, &emb, 1, NULL, s->tok, N);
    add_parts(m, ws, &emb, 1, -1, NULL, s->tok);
    for (int l = 0; l < h->L; l++) {
        attention(m, ws, kv, l, N, s->run, s->n_runs);
        if (l == h->L - 1) {
            if (n_keep == 0) return;         // the cache is filled: nothing else was asked for
            d->keep_rows(d, ws->att, h->nh * h->hs, ws->keep, n_keep);
            d->keep_rows(d, ws->x, h->C, ws->keep, n_keep);
            keep_parts(ws, ws->keep, n_keep);
            N = n_keep;
        }
        after_attention(m, ws, l, N);
    }
    d->rmsnorm(d, ws->xn, ws->x, m->w.out_norm, N, h->C, h->eps);
    ws->hidden = ws->x;
    if (s->n_hid) {
        d->copy(d, ws->hidden, ws->xn, (size_t)N * (size_t)h->C * sizeof(float));
        pick_rows(d, ws, ws->hidden, h->C, N, s->hid, s->n_hid);
    }
    if (s->n_out == 0) return;
    if (s->n_out < N) {                      // rows whose logits nobody wants
        pick_rows(d, ws, ws->xn, h->C, N, s->out, s->n_out);
        parts_of_runs(ws, s);
        keep_parts(ws, s->out, s->n_out);
    }
    products(m, ws, &(mm_out){ ws->logits, (size_t)h->V, &m->w.out }, 1, -1, ws->xn, s->n_out);
}

void model_forward(const model *m, workspace *ws, const kv_cache *kv, const int32_t *tok, int N,
                   const seq_run *run, int n_runs, const int32_t *out, int n_out)
{
    model_eval(m, ws, kv, &(model_step){ .tok = tok, .N = N, .run = run, .n_runs = n_runs, .out = out,
                                         .n_out = n_out });
}
