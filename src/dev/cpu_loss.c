/* cpu_loss.c - log-probabilities, and the head with its loss and gradients, HEAD_ROWS rows at a
 * time: logits become probabilities and then gradients in place. Rows without a target are left
 * out before anything is multiplied. */
#include <math.h>
#include <string.h>
#include "dev/cpu.h"
#include "kern/log_prob.h"

typedef struct {
    const cpu *c;
    float *y;
    const float *logits;
    size_t ldl;
    const int32_t *tok;
    int V;
} prob_job;

static void prob_row(void *arg, int i, int thread)
{
    const prob_job *j = arg;
    const float *x = j->logits + (size_t)i * j->ldl;
    float top;
    double sum = j->c->k.exp_sum(NULL, x, j->V, &top);
    (void)thread;
    j->y[i] = (float)log_prob_of(x[j->tok[i]], top, sum);
}

void cpu_log_probs(dev *d, float *y, const float *logits, size_t ldl, const int32_t *tok, int n_row,
                   int V)
{
    prob_job j = { (cpu *)d, y, logits, ldl, tok, V };
    cpu_run_chunks((cpu *)d, n_row, (size_t)n_row * (size_t)V, prob_row, &j);
}

typedef struct { const cpu *c; const head_loss *h; const int *row; bool grad; } loss_job;

static float weight_of(const head_loss *h, int n) { return h->weight ? h->weight[n] : 1; }

/* Row i of the chunk: its log-probability; with `grad` its logits become weight * (p - 1{target}). */
static void loss_row(void *arg, int i, int thread)
{
    const loss_job *j = arg;
    const head_loss *h = j->h;
    int n = j->row[i], V = h->w->rows, t = h->target[n];
    float *x = j->c->logits + (size_t)i * (size_t)V, top, at = x[t], w = weight_of(h, n);
    double sum = j->c->k.exp_sum(j->grad ? x : NULL, x, V, &top);
    (void)thread;
    j->c->head_logp[i] = log_prob_of(at, top, sum);
    if (!j->grad) return;
    j->c->k.scale(x, (float)((double)w / sum), V);
    x[t] -= w;
}

/* Rows [0,R) of the list: logits, losses and gradients. */
static void chunk(dev *d, head_loss *h, const int *row, int R, bool fresh)
{
    cpu *c = (cpu *)d;
    const wmat *w = h->w;
    size_t C = (size_t)w->K, V = (size_t)w->rows;
    loss_job j = { c, h, row, h->dx || h->dw };
    for (int i = 0; i < R; i++)
        memcpy(c->head_x + (size_t)i * C, h->x + (size_t)row[i] * C, C * sizeof(float));
    d->matmul(d, &(mm_out){ c->logits, V, w }, 1, c->head_x, C, R);
    cpu_run_chunks(c, R, (size_t)R * V, loss_row, &j);
    for (int i = 0; i < R; i++) {
        double weight = weight_of(h, row[i]);
        h->loss -= weight * c->head_logp[i];
        h->weights += weight;
        if (h->logp) h->logp[row[i]] = (float)c->head_logp[i];
    }
    if (h->dx) {
        d->matmul_dx(d, c->head_dx, C, &(mm_dx){ c->logits, V, w }, 1, R, false);
        for (int i = 0; i < R; i++)
            memcpy(h->dx + (size_t)row[i] * C, c->head_dx + (size_t)i * C, C * sizeof(float));
    }
    if (h->dw)
        d->matmul_dw(d, &(mm_dw){ h->dw, NULL, c->logits, V, w, fresh }, 1, c->head_x, DT_F32, C, R);
}

void cpu_loss_head(dev *d, head_loss *h)
{
    cpu *c = (cpu *)d;
    size_t C = (size_t)h->w->K;
    int n_row = 0;
    DR_ASSERT(h->N <= c->t.N && h->w->K <= c->t.C && h->w->rows <= c->t.V && !h->w->bias);
    h->loss = h->weights = 0;
    for (int n = 0; n < h->N; n++) {
        if (h->target[n] >= 0 && weight_of(h, n) != 0) {
            c->head_row[n_row++] = n;
            continue;
        }
        if (h->logp) h->logp[n] = 0;
        if (h->dx) memset(h->dx + (size_t)n * C, 0, C * sizeof(float));
    }
    for (int i = 0; i < n_row; i += HEAD_ROWS)
        chunk(d, h, c->head_row + i, n_row - i < HEAD_ROWS ? n_row - i : HEAD_ROWS, h->fresh && !i);
    if (!n_row && h->dw && h->fresh) d->fill(d, h->dw, 0, (int64_t)h->w->rows * h->w->K);
}
