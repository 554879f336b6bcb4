/* bench.c - see bench.h.
 *
 * A figure is tokens over wall time of whole steps. Prefill: P tokens after `depth` held ones,
 * logits of the last only. Decode: n_gen steps of `batch` sequences that each hold `depth`
 * tokens, logits of every row. The depth is evaluated once and shared by page, not repeated. */
#include "eval/bench.h"
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "base/os.h"
#include "base/pool.h"
#include "base/rng.h"
#include "kern/kern.h"
#include "kern/probe.h"

typedef struct {
    const model *m;
    workspace ws;
    kv_cache kv;
    kv_seq base, *seq;              /* base holds the depth; seq[] are the batch */
    int n_seq, n_ctx;
    int32_t *tok;
} rig;

static int cmp(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(const double *v, int n)
{
    double s[BENCH_MAX];
    memcpy(s, v, (size_t)n * sizeof *s);
    qsort(s, (size_t)n, sizeof *s, cmp);
    return n % 2 ? s[n / 2] : (s[n / 2 - 1] + s[n / 2]) / 2;
}

int bench_arith(const model *m)
{
    static const int kind[] = { [ACT_F32] = 0, [ACT_BF16] = 1, [ACT_Q8] = 2, [ACT_QK] = 2 };
    return kind[act_kind(m->w.layer[0].w1.type)];
}

const char *bench_arith_name(const model *m)
{
    static const char *const name[] = { "f32", "bf16", "int8" };
    return name[bench_arith(m)];
}

/* ---- roofline ---- */

typedef struct {
    probe p;
    double (*rate)(double);
    double sum[1024];
    const char *base;
    size_t share;
} probe_job;

static void rate_chunk(void *arg, int c, int thread)
{
    (void)thread;
    probe_job *j = arg;
    j->sum[c] = j->rate(0.05);
}

static double total_rate(pool *p, probe_job *j, double (*rate)(double))
{
    double all = 0;
    j->rate = rate;
    pool_run(p, pool_threads(p), rate_chunk, j);
    for (int i = 0; i < pool_threads(p); i++) all += j->sum[i];
    return all;
}

static void read_chunk(void *arg, int c, int thread)
{
    (void)thread;
    probe_job *j = arg;
    j->sum[c] = (double)j->p.read(j->base + (size_t)c * j->share, j->share);
}

/* Best of four passes; the first also brings the pages in. */
static double read_rate(pool *p, probe_job *j, const void *base, size_t n)
{
    double best = 0;
    j->base = base;
    j->share = n / (size_t)pool_threads(p) & ~(size_t)255;
    for (int i = 0; i < 4; i++) {
        int64_t t = os_now_ns();
        pool_run(p, pool_threads(p), read_chunk, j);
        double rate = (double)j->share * pool_threads(p) / ((double)(os_now_ns() - t) * 1e-9);
        if (i && rate > best) best = rate;
    }
    return best;
}

void roofline_arith(roofline *r, const char *level, int n_threads)
{
    *r = (roofline){0};
    pool *p = pool_new(n_threads, NULL);
    probe_job *j = mem_zalloc(1, sizeof *j);
    if (p && j) {
        probe_select(&j->p, level);
        r->f32 = total_rate(p, j, j->p.f32);
        r->bf16 = total_rate(p, j, j->p.bf16);
    }
    mem_free(j);
    pool_free(p);
}

void roofline_measure(roofline *r, const model *m, int n_threads)
{
    *r = (roofline){0};
    pool *p = pool_new(n_threads, NULL);
    probe_job *j = mem_zalloc(1, sizeof *j);
    if (p && j) {
        probe_select(&j->p, m->d->level);
        r->f32 = total_rate(p, j, j->p.f32);
        r->bf16 = total_rate(p, j, j->p.bf16);
        r->int8 = total_rate(p, j, j->p.int8);
        const wmat *big = &m->w.layer[0].wq;
        const char *lo = (const char *)big->data, *hi = lo;
        for (int l = 0; l < m->h.L; l++)
            for (int i = 0; i < n_weights; i++) {
                if (!weight_table[i].matrix || !weight_table[i].per_layer) continue;
                const char *at = (const char *)&m->w.layer[l] + weight_table[i].at;
                const wmat *w = (const wmat *)(const void *)at;
                const char *a = w->data, *b = a + (size_t)w->rows * w->row_bytes;
                if (a < lo) lo = a;
                if (b > hi) hi = b;
            }
        size_t n = (size_t)(hi - lo);
        r->read_mapped = read_rate(p, j, lo, n);
        if (n > (size_t)1 << 30) n = (size_t)1 << 30;
        void *huge = mem_pages(n);
        if (huge) {
            memset(huge, 1, n);
            r->read_huge = read_rate(p, j, huge, n);
        }
        mem_pages_free(huge, n);
    }
    mem_free(j);
    pool_free(p);
}

/* ---- the measurements ---- */

enum { WARM = 16 };         /* tokens fed before anything is timed */

static int rig_init(rig *g, const model *m, const bench_opt *o, dr_err *e)
{
    int64_t depth = 0, p = 0, batch = 1;
    for (int i = 0; i < o->n_depth; i++) depth = o->depth[i] > depth ? o->depth[i] : depth;
    for (int i = 0; i < o->n_p; i++) p = o->p[i] > p ? o->p[i] : p;
    for (int i = 0; i < o->n_batch; i++) batch = o->batch[i] > batch ? o->batch[i] : batch;
    int64_t more = p > o->n_gen ? p : o->n_gen;
    if (more < WARM) more = WARM;
    int64_t ctx = depth + more + 1;
    if (ctx > HP_MAX_CTX || batch > 4096)
        return err_set(e, DR_EINVAL, "%lld positions and %lld sequences are too many",
                       (long long)ctx, (long long)batch);
    *g = (rig){ .m = m, .n_ctx = (int)ctx, .n_seq = (int)batch };
    int rows = o->n_rows;
    if (rows < batch) rows = (int)batch;
    int rc = workspace_init(&g->ws, m, rows, (int)batch, g->n_ctx, e);
    /* each sequence of a batch has its own pages past the shared depth, one copied */
    int64_t positions = ctx + KV_PAGE + batch * (more + 2 * KV_PAGE);
    if (!rc) rc = kv_init(&g->kv, m->d, o->kv, m->h.L, m->h.nkv, m->h.hs, positions, e);
    if (!rc) rc = kv_seq_init(&g->base, g->n_ctx, e);
    g->seq = mem_zalloc((size_t)batch, sizeof *g->seq);
    g->tok = mem_alloc((size_t)ctx * sizeof *g->tok);
    if (!rc && (!g->seq || !g->tok)) rc = err_nomem(e, (size_t)ctx * 4, "bench");
    for (int i = 0; !rc && i < batch; i++) rc = kv_seq_init(&g->seq[i], g->n_ctx, e);
    for (int64_t i = 0; !rc && i < ctx; i++)
        g->tok[i] = (int32_t)(rng_uniform(1, 0, (uint64_t)i) * m->h.V);
    return rc;
}

static void rig_free(rig *g)
{
    for (int i = 0; g->seq && i < g->n_seq; i++) kv_seq_free(&g->kv, &g->seq[i]);
    if (g->kv.base) kv_seq_free(&g->kv, &g->base);
    mem_free(g->seq);
    mem_free(g->tok);
    kv_free(&g->kv);
    workspace_free(&g->ws);
}

/* n tokens onto s in steps; the logits of the last. */
static int feed(rig *g, kv_seq *s, int64_t n, int rows, dr_err *e)
{
    for (int64_t at = 0; at < n;) {
        int k = n - at < rows ? (int)(n - at) : rows;
        int rc = kv_grow(&g->kv, s, k, e);
        if (rc) return rc;
        seq_run run = { 0, k, s->len, s->page };
        int32_t out = k - 1;
        model_forward(g->m, &g->ws, &g->kv, g->tok + s->len, k, &run, 1, &out, at + k == n);
        kv_advance(s, k);
        at += k;
    }
    return DR_OK;
}

/* From what the last depth left to the next; timed, for it is the prefill of a long prompt. */
static int fill_to(rig *g, int64_t depth, const bench_opt *o, bench_result *r, dr_err *e)
{
    int64_t from = g->base.len, t = os_now_ns();
    int rc = feed(g, &g->base, depth - from, o->n_rows, e);
    if (!rc && depth > from)
        r->fill[r->n_fills++] = (bench_fill){
            from, depth, (double)(depth - from) / ((double)(os_now_ns() - t) * 1e-9) };
    return rc;
}

static int decode_step(rig *g, int batch, seq_run *run, int32_t *out, dr_err *e)
{
    int32_t tok[4096] = {0};
    for (int i = 0; i < batch; i++) {
        int rc = kv_grow(&g->kv, &g->seq[i], 1, e);
        if (rc) return rc;
        run[i] = (seq_run){ i, 1, g->seq[i].len, g->seq[i].page };
        out[i] = i;
        tok[i] = g->tok[g->seq[i].len];
    }
    model_forward(g->m, &g->ws, &g->kv, tok, batch, run, batch, out, batch);
    for (int i = 0; i < batch; i++) kv_advance(&g->seq[i], 1);
    return DR_OK;
}

static int prefill_once(rig *g, int64_t depth, int64_t n, int rows, double *tok_s, dr_err *e)
{
    kv_truncate(&g->kv, &g->base, (int)depth);
    int64_t t = os_now_ns();
    int rc = feed(g, &g->base, n, rows, e);
    *tok_s = (double)n / ((double)(os_now_ns() - t) * 1e-9);
    kv_truncate(&g->kv, &g->base, (int)depth);
    return rc;
}

static int decode_once(rig *g, int batch, int64_t depth, int steps, double *tok_s, dr_err *e)
{
    seq_run run[4096];
    int32_t out[4096];
    int rc = DR_OK;
    for (int i = 0; i < batch && !rc; i++) {
        kv_truncate(&g->kv, &g->seq[i], 0);
        rc = kv_share(&g->kv, &g->seq[i], &g->base, (int)depth, e);
    }
    if (!rc) rc = decode_step(g, batch, run, out, e);        // copies the shared last page
    int64_t t = os_now_ns();
    for (int k = 1; k < steps && !rc; k++) rc = decode_step(g, batch, run, out, e);
    *tok_s = (double)batch * (steps - 1) / ((double)(os_now_ns() - t) * 1e-9);
    for (int i = 0; i < batch; i++) kv_truncate(&g->kv, &g->seq[i], 0);
    return rc;
}

static void shares(bench_row *w, const bench_result *r, const model *m, const bench_opt *o)
{
    double med = bench_median(w->tok_s, o->reps);
    if (!w->decode) {
        double peak[] = { r->roof.f32, r->roof.bf16, r->roof.int8 };
        w->share = med * r->flops_per_token / peak[bench_arith(m)];
        return;
    }
    double kv = (double)r->per_position * ((double)w->depth + (double)w->tokens / 2);
    double per_step = (double)r->per_token + kv * (double)w->batch;
    w->share = med / (double)w->batch * per_step / r->roof.read_mapped;
}

int bench_run(const model *m, int n_threads, const bench_opt *o, bench_result *r,
              void (*fn)(void *, const bench_row *, int), void *arg, dr_err *e)
{
    *r = (bench_result){ .flops_per_token = model_flops_per_token(&m->h) };
    weights_bytes(&m->w, &m->h, &r->per_token);
    r->per_position = (size_t)(m->h.L * 2) * (size_t)m->h.nkv * kv_row_bytes(o->kv, m->h.hs);
    rig g = {0};
    int rc = rig_init(&g, m, o, e);
    if (rc) goto done;
    roofline_measure(&r->roof, m, n_threads);
    if ((rc = feed(&g, &g.base, WARM, o->n_rows, e))) goto done;          // pages in, pools awake
    kv_truncate(&g.kv, &g.base, 0);
    for (int d = 0; d < o->n_depth; d++) {
        if ((rc = fill_to(&g, o->depth[d], o, r, e))) goto done;
        for (int i = 0; i < o->n_p + (o->n_gen > 1 ? o->n_batch : 0); i++) {
            bench_row *w = &r->row[r->n_rows++];
            *w = (bench_row){ .decode = i >= o->n_p, .depth = o->depth[d], .batch = 1 };
            if (w->decode) w->batch = o->batch[i - o->n_p], w->tokens = o->n_gen;
            else w->tokens = o->p[i];
            for (int k = 0; k < o->reps && !rc; k++)
                rc = w->decode
                   ? decode_once(&g, (int)w->batch, w->depth, o->n_gen, &w->tok_s[k], e)
                   : prefill_once(&g, w->depth, w->tokens, o->n_rows, &w->tok_s[k], e);
            if (rc) goto done;
            shares(w, r, m, o);
            if (fn) fn(arg, w, o->reps);
            if (r->n_rows == 4 * BENCH_MAX) goto done;
        }
    }
done:
    rig_free(&g);
    return rc;
}
