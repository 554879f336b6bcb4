/* kl.c - see kl.h. Rows are independent and go to a pool; sums are taken in the text's order. */
#include "eval/kl.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "base/pool.h"

typedef void progress_fn(void *arg, const ppl_result *so_far, int64_t windows);

static int check(const session *s, int64_t n, int ctx, dr_err *e)
{
    if (ctx < 2 || ctx > session_ctx(s))
        return err_set(e, DR_EINVAL, "a window of %d ids; 2 to %d are possible", ctx,
                       session_ctx(s));
    if (n < ctx)
        return err_set(e, DR_EINVAL, "the text has %lld ids, one window takes %d", (long long)n,
                       ctx);
    return DR_OK;
}

static int not_numbers(int at, dr_err *e)
{
    return err_set(e, DR_EFORMAT, "the logits at position %d are not numbers", at);
}

/* ---- saving */

enum { GROUP = 64 };                            /* rows that are encoded before they are written */

typedef struct {
    logit_writer w;
    pool *pool;
    const int32_t *ids;                         /* of this window */
    int ctx, first;
    const float *logits;
    char *rows;                                 /* (GROUP, row_bytes) */
    double lp[GROUP];
    bool bad[GROUP];
    double nll;
    int64_t tokens;
} saver;

static void encode(void *arg, int i, int thread)
{
    saver *s = arg;
    const float *x = s->logits + (size_t)i * (size_t)s->w.V;
    float lo = x[0], hi = x[0];
    (void)thread;
    s->bad[i] = false;
    for (int k = 0; k < s->w.V; k++) {
        s->bad[i] |= !isfinite(x[k]);
        if (x[k] < lo) lo = x[k];
        if (x[k] > hi) hi = x[k];
    }
    if (hi - lo > 65535) s->bad[i] = true;      /* no step would do */
    if (!s->bad[i])
        s->lp[i] = logit_encode(&s->w, x, s->ids[s->first + i + 1],
                                s->rows + (size_t)i * s->w.row_bytes);
}

static int save_rows(void *arg, int first, int rows, const float *logits, dr_err *e)
{
    saver *s = arg;
    if (first + rows > s->ctx - 1) rows = s->ctx - 1 - first;    /* nothing comes after the last */
    for (int at = 0; at < rows; at += GROUP) {
        int n = rows - at < GROUP ? rows - at : GROUP;
        s->first = first + at, s->logits = logits + (size_t)at * (size_t)s->w.V;
        pool_run(s->pool, n, encode, s);
        for (int i = 0; i < n; i++) {
            if (s->bad[i]) return not_numbers(s->first + i, e);
            s->nll -= s->lp[i];
        }
        s->tokens += n;
        int rc = logit_put(&s->w, s->rows, n, e);
        if (rc) return rc;
    }
    return DR_OK;
}

int kl_save(session *s, const char *path, const int32_t *ids, int64_t n, int ctx, ppl_result *r,
            progress_fn *progress, void *arg, dr_err *e)
{
    int rc = check(s, n, ctx, e);
    if (rc) return rc;
    int64_t windows = n / ctx;
    saver *sv = mem_zalloc(1, sizeof *sv);
    if (!sv) return err_nomem(e, sizeof *sv, "reference logits");
    sv->ctx = ctx;
    const model *m = session_model(s);
    for (int64_t i = 0; !rc && i < windows * ctx; i++)
        if (ids[i] < 0 || ids[i] >= m->h.V)
            rc = err_set(e, DR_EINVAL, "token %d at position %lld; the vocabulary has %d", ids[i],
                         (long long)i, m->h.V);
    if (!rc) rc = logit_begin(&sv->w, path, m->h.V, ctx, windows, ids, e);
    if (!rc && !(sv->pool = pool_new(m->d->n_threads, e))) rc = e ? e->code : DR_ENOMEM;
    size_t bytes = GROUP * sv->w.row_bytes;
    if (!rc && !(sv->rows = mem_alloc(bytes))) rc = err_nomem(e, bytes, "reference logits");
    for (int64_t w = 0; !rc && w < windows; w++) {
        session_truncate(s, 0);
        sv->ids = ids + w * ctx;
        rc = session_all_logits(s, sv->ids, ctx, save_rows, sv, e);
        if (rc) break;
        double nll = sv->nll / (double)sv->tokens;
        *r = (ppl_result){ sv->tokens, w + 1, nll, exp(nll) };
        if (progress) progress(arg, r, windows);
    }
    if (!rc) rc = logit_end(&sv->w, e);
    logit_drop(&sv->w);
    pool_free(sv->pool);
    mem_free(sv->rows);
    mem_free(sv);
    return rc;
}

/* ---- measuring */

typedef struct { double kl, lp, ref_lp; bool same_top; int rc; dr_err e; } row_result;

typedef struct {
    const logit_file *ref;
    pool *pool;
    int64_t window, tokens, n_same;
    int first;                                  /* position of row 0 of this step */
    int32_t next[SESSION_ROWS_DEFAULT];
    const float *logits;
    row_result row[SESSION_ROWS_DEFAULT];
    double *kl;                                 /* of every position so far */
    double sum, nll, ref_nll, dp, dp2;
} meter;

/* p (log p - log q) */
static double term(double lp, double lq)
{
    double p = exp(lp);
    return p > 0 ? p * (lp - lq) : 0;
}

static void compare(void *arg, int i, int thread)
{
    meter *m = arg;
    const float *x = m->logits + (size_t)i * (size_t)m->ref->V;
    row_result *r = &m->row[i];
    logit_row p;
    (void)thread;
    r->e = (dr_err){0};
    r->rc = logit_file_row(m->ref, m->window, m->first + i, &p, &r->e);
    if (r->rc) return;
    int top = 0;
    bool bad = false;
    for (int k = 0; k < m->ref->V; k++) {
        bad |= !isfinite(x[k]);
        if (x[k] > x[top]) top = k;
    }
    double sum = 0;
    for (int k = 0; k < m->ref->V; k++) sum += exp((double)x[k] - (double)x[top]);
    double lse = (double)x[top] + log(sum), kl = 0;
    if (bad || !isfinite(lse)) {
        r->rc = not_numbers(m->first + i, &r->e);
        return;
    }
    for (int k = 0; k < m->ref->V; k++)
        if (p.codes[k] || !p.cut) kl += term(p.at + p.step * p.codes[k], (double)x[k] - lse);
    for (int k = 0; k < p.n_exact; k++) {       /* in the place of what their codes say */
        double lq = (double)x[p.exact[k].id] - lse;
        kl += term(p.at - (double)p.exact[k].below, lq) -
              term(p.at + p.step * p.codes[p.exact[k].id], lq);
    }
    r->kl = kl > 0 ? kl : 0;                    /* below 0 by rounding alone */
    r->lp = log_prob(x, m->ref->V, m->next[i]);     /* as ppl_measure has it */
    r->ref_lp = p.next;
    r->same_top = top == p.top;
}

static int compare_rows(void *arg, int first, int rows, const float *logits, dr_err *e)
{
    meter *m = arg;
    const logit_file *f = m->ref;
    if (first + rows > f->ctx - 1) rows = f->ctx - 1 - first;
    int skip = first < f->first ? f->first - first : 0;
    if (skip >= rows) return DR_OK;
    rows -= skip;
    m->first = first + skip, m->logits = logits + (size_t)skip * (size_t)f->V;
    memcpy(m->next, f->ids + m->window * f->ctx + m->first + 1, (size_t)rows * sizeof *m->next);
    pool_run(m->pool, rows, compare, m);
    for (int i = 0; i < rows; i++) {
        const row_result *r = &m->row[i];
        if (r->rc) return err_set(e, r->rc, "%s", r->e.msg);
        double dp = exp(r->lp) - exp(r->ref_lp);
        m->kl[m->tokens++] = r->kl;
        m->sum += r->kl, m->nll -= r->lp, m->ref_nll -= r->ref_lp;
        m->dp += dp, m->dp2 += dp * dp, m->n_same += r->same_top;
    }
    return DR_OK;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(const double *v, int64_t n, double q)
{
    double at = q * (double)(n - 1);
    int64_t i = (int64_t)at;
    return i + 1 < n ? v[i] + (v[i + 1] - v[i]) * (at - (double)i) : v[n - 1];
}

static void summarise(const meter *m, int64_t windows, kl_result *r)
{
    double n = (double)m->tokens;
    *r = (kl_result){
        .ours = { m->tokens, windows, m->nll / n, exp(m->nll / n) },
        .ref = { m->tokens, windows, m->ref_nll / n, exp(m->ref_nll / n) },
        .mean = m->sum / n, .same_top = (double)m->n_same / n,
        .dp_mean = m->dp / n, .dp_rms = sqrt(m->dp2 / n),
    };
    qsort(m->kl, (size_t)m->tokens, sizeof *m->kl, by_value);
    r->p50 = quantile(m->kl, m->tokens, 0.5), r->p90 = quantile(m->kl, m->tokens, 0.9);
    r->p95 = quantile(m->kl, m->tokens, 0.95), r->p99 = quantile(m->kl, m->tokens, 0.99);
    r->p999 = quantile(m->kl, m->tokens, 0.999), r->max = m->kl[m->tokens - 1];
}

int kl_measure(session *s, const logit_file *ref, int32_t bos, kl_result *r, progress_fn *progress,
               void *arg, dr_err *e)
{
    const model *md = session_model(s);
    int rc = check(s, ref->windows * ref->ctx, ref->ctx, e);
    if (rc) return rc;
    if (ref->V != md->h.V)
        return err_set(e, DR_EINVAL, "the reference has a vocabulary of %d, the model one of %d: "
                       "they cannot be compared", ref->V, md->h.V);
    size_t rows = (size_t)ref->windows * (size_t)(ref->ctx - 1 - ref->first);
    meter *m = mem_zalloc(1, sizeof *m);
    int32_t *ids = mem_alloc((size_t)ref->ctx * sizeof *ids);
    if (m) m->ref = ref, m->kl = mem_alloc(rows * sizeof *m->kl);
    if (!m || !m->kl || !ids) rc = err_nomem(e, rows * sizeof(double), "divergences");
    if (!rc && !(m->pool = pool_new(md->d->n_threads, e))) rc = e ? e->code : DR_ENOMEM;
    for (int64_t w = 0; !rc && w < ref->windows; w++) {
        memcpy(ids, ref->ids + w * ref->ctx, (size_t)ref->ctx * sizeof *ids);
        if (ref->peer && bos >= 0) ids[0] = bos;
        session_truncate(s, 0);
        m->window = w;
        rc = session_all_logits(s, ids, ref->ctx, compare_rows, m, e);
        if (rc) break;
        double nll = m->nll / (double)m->tokens;
        if (progress)
            progress(arg, &(ppl_result){ m->tokens, w + 1, nll, exp(nll) }, ref->windows);
    }
    if (!rc) summarise(m, ref->windows, r);
    if (m) pool_free(m->pool), mem_free(m->kl);
    mem_free(ids);
    mem_free(m);
    return rc;
}
