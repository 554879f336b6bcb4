/* gradcheck.c - gradients of every operation of training.
 *
 *     gradcheck [NAME...]        every level this CPU has
 *     gradcheck --bench [SHAPE [THREADS]]    nothing checked: times (bench.h)
 *
 * Each operation is written here a second time, in double precision: forward, and its gradient as
 * docs/math/ derives it. That gradient is held against central differences of that forward pass
 * (1e-6); the device's against it (relative L2 1e-5 in f32), for 1, 2 and 3 threads, which must
 * give the same bits. Everything that is added to starts as something. Products of bf16 weights are held to the same
 * with operands rounded first. With DR_QUICK set only the best level is checked, with 1 and 3 threads,
 * and not the largest sizes: for emulators. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/half.h"
#include "base/mem.h"
#include "dev/dev.h"
#include "kern/kern.h"
#include "t.h"
#include "bench.h"

#define TOL 1e-5

static const char *level;
static bool quick, slow;                /* quick, or the textbook level: fewer threads and sizes */
static const int threads[] = { 1, 3, 2 };
enum { MAX_KEEP = 512 };
#define N_THREADS (slow ? 2 : 3)
static void *keep[MAX_KEEP];
static int n_keep;

/* Zeroed; freed when the check is over. */
static void *get(size_t n)
{
    void *p = mem_aligned(n + 64);
    DR_ASSERT(p && n_keep < MAX_KEEP);
    memset(p, 0, n);
    return keep[n_keep++] = p;
}

static void drop(void)
{
    while (n_keep) mem_free(keep[--n_keep]);
}

/* n random floats, and the same as doubles. */
static float *values(int n, double scale, double **d)
{
    float *p = get((size_t)n * sizeof *p);
    double *q = get((size_t)n * sizeof *q);
    for (int i = 0; i < n; i++) q[i] = p[i] = (float)(t_rand() * scale);
    if (d) *d = q;
    return p;
}

static double *zeros(int n) { return get((size_t)n * sizeof(double)); }

static dev *open_dev(int n_threads, int N, int K, const train_size *s)
{
    dr_err e = { 0 };
    dev *d = dev_open(&(dev_opt){ .n_threads = n_threads, .cpu_level = level }, &e);
    if (!d) fprintf(stderr, "%s\n", e.msg);
    DR_ASSERT(d);
    CHECK(d->reserve(d, N, K, s->nh, s->hs, N, &e) == DR_OK);
    CHECK(d->reserve_train(d, s, &e) == DR_OK);
    return d;
}

/* g is the gradient of loss by v: some of its n elements against differences. */
static void slopes(double (*loss)(void *), void *arg, double *v, const double *g, int n)
{
    double most = 0, h = 0;
    for (int i = 0; i < n; i++) {
        most = fabs(g[i]) > most ? fabs(g[i]) : most;
        h = fabs(v[i]) * 1e-4 > h ? fabs(v[i]) * 1e-4 : h;
    }
    for (int k = 0; k < 25; k++) {
        int i = n <= 25 ? k % n : (int)((t_rand() + 1) / 2 * (float)n) % n;
        double was = v[i];
        v[i] = was + h;
        double up = loss(arg);
        v[i] = was - h;
        double down = loss(arg);
        v[i] = was;
        CHECK_NEAR(g[i], (up - down) / (2 * h), 1e-6 * most + 1e-9);
    }
}

/* got = start + want, start NULL: 0, to a relative error of tol in the L2 norm of the gradient. */
static void same_l2(const char *what, const float *got, const float *start, const double *want, int n,
                    double tol)
{
    double err = 0, all = 0;
    for (int i = 0; i < n; i++) {
        double w = want[i] + (start ? start[i] : 0);
        err += (got[i] - w) * (got[i] - w), all += want[i] * want[i];
    }
    t_ok(sqrt(err) <= tol * sqrt(all), __FILE__, __LINE__, "%s on %s: relative error %.3g, want %.3g",
         what, level, sqrt(err / all), tol);
}

/* The result of other numbers of threads: the first one's bits. */
static void same_bits(int t, const char *what, const float *got, float *first, int n)
{
    if (t == 0) memcpy(first, got, (size_t)n * sizeof *got);
    t_ok(!memcmp(first, got, (size_t)n * sizeof *got), __FILE__, __LINE__,
         "%s on %s: %d threads give other bits", what, level, threads[t]);
}

static float *copy(const float *a, int n)
{
    float *p = get((size_t)n * sizeof *p);
    memcpy(p, a, (size_t)n * sizeof *p);
    return p;
}

/* ---- products ---- */

typedef struct { int N, K, n, rows[3]; double *x, *w[3], *dy[3], *b[3]; } mm;

static double mm_loss(void *arg)
{
    const mm *m = arg;
    double L = 0;
    for (int o = 0; o < m->n; o++)
        for (int n = 0; n < m->N; n++)
            for (int r = 0; r < m->rows[o]; r++) {
                double y = m->b[o][r];
                for (int k = 0; k < m->K; k++) y += m->w[o][r * m->K + k] * m->x[n * m->K + k];
                L += y * m->dy[o][n * m->rows[o] + r];
            }
    return L;
}

/* q (n,) as bf16 has them, and where the doubles of them are. */
static uint16_t *halves(const float *p, double *q, int n)
{
    uint16_t *h = get((size_t)n * sizeof *h);
    for (int i = 0; i < n; i++) h[i] = f32_to_bf16(p[i]), q[i] = bf16_to_f32(h[i]);
    return h;
}

static void product(int N, int K, int n, const int *rows, bool bf16)
{
    mm m = { .N = N, .K = K, .n = n };
    train_size size = { N, K, 64, 4, 16 };
    float *w[3], *dy[3], *x = values(N * K, 1, &m.x), *first_x = get((size_t)(N * K) * 4);
    float *start_x = values(N * K, 1, NULL), *start_w[3], *first_w[3], *start_b[3];
    double *dx = zeros(N * K), *dw[3], *db[3], *dyb[3];
    wmat wm[3];
    uint16_t *xh = bf16 ? halves(x, m.x, N * K) : NULL;
    for (int o = 0; o < n; o++) {
        m.rows[o] = rows[o];
        w[o] = values(rows[o] * K, 1, &m.w[o]), dy[o] = values(N * rows[o], 1, &m.dy[o]);
        start_w[o] = values(rows[o] * K, 1, NULL), start_b[o] = values(rows[o], 1, NULL);
        first_w[o] = get((size_t)(rows[o] * K) * 4);
        m.b[o] = zeros(rows[o]), dw[o] = zeros(rows[o] * K), db[o] = zeros(rows[o]);
        dyb[o] = m.dy[o];
        wm[o] = (wmat){ .type = DT_F32, .rows = rows[o], .K = K, .data = w[o], .row_bytes = (size_t)K * 4 };
        if (bf16) {
            wm[o].type = DT_BF16, wm[o].row_bytes = (size_t)K * 2;
            wm[o].data = halves(w[o], m.w[o], rows[o] * K);
            dyb[o] = zeros(N * rows[o]);            /* a bias's gradient is not rounded */
            memcpy(dyb[o], m.dy[o], (size_t)(N * rows[o]) * sizeof(double));
            halves(dy[o], m.dy[o], N * rows[o]);
        }
        for (int i = 0; i < N; i++)
            for (int r = 0; r < rows[o]; r++) {
                double d = m.dy[o][i * rows[o] + r];
                db[o][r] += dyb[o][i * rows[o] + r];
                for (int k = 0; k < K; k++) {
                    dx[i * K + k] += d * m.w[o][r * K + k];
                    dw[o][r * K + k] += d * m.x[i * K + k];
                }
            }
    }
    slopes(mm_loss, &m, m.x, dx, N * K);
    for (int o = 0; o < n; o++) slopes(mm_loss, &m, m.w[o], dw[o], rows[o] * K);
    for (int t = 0; t < N_THREADS; t++) {
        dev *d = open_dev(threads[t], N, K, &size);
        float *gx = copy(start_x, N * K), *gw[3], *gb[3];
        mm_dx in[3];
        mm_dw out[3];
        for (int o = 0; o < n; o++) {
            gw[o] = copy(start_w[o], rows[o] * K), gb[o] = copy(start_b[o], rows[o]);
            in[o] = (mm_dx){ dy[o], (size_t)rows[o], &wm[o] };
            out[o] = (mm_dw){ gw[o], o == 1 ? NULL : gb[o], dy[o], (size_t)rows[o], &wm[o] };
        }
        long allocs = mem_count();
        d->matmul_dx(d, gx, (size_t)K, in, n, N, true);
        if (bf16 && t % 2) d->matmul_dw(d, out, n, xh, DT_BF16, (size_t)K, N);   /* rounded already: the same */
        else d->matmul_dw(d, out, n, x, DT_F32, (size_t)K, N);
        CHECK(mem_count() == allocs);
        same_l2("matmul_dx", gx, start_x, dx, N * K, TOL);
        same_bits(t, "matmul_dx", gx, first_x, N * K);
        for (int o = 0; o < n; o++) {
            same_l2("matmul_dw", gw[o], start_w[o], dw[o], rows[o] * K, TOL);
            same_bits(t, "matmul_dw", gw[o], first_w[o], rows[o] * K);
            if (o != 1) same_l2("matmul_dw's bias", gb[o], start_b[o], db[o], rows[o], TOL);
        }
        for (int i = 0; i < N * K; i++) gx[i] = NAN;            /* without add nothing is read */
        d->matmul_dx(d, gx, (size_t)K, in, n, N, false);
        same_l2("matmul_dx, =", gx, NULL, dx, N * K, TOL);
        for (int o = 0; o < n; o++) {
            for (int i = 0; i < rows[o] * K; i++) gw[o][i] = NAN;
            for (int i = 0; i < rows[o]; i++) gb[o][i] = NAN;
            out[o].fresh = true;
        }
        d->matmul_dw(d, out, n, x, DT_F32, (size_t)K, N);
        for (int o = 0; o < n; o++) {
            same_l2("matmul_dw, =", gw[o], NULL, dw[o], rows[o] * K, TOL);
            if (o != 1) same_l2("matmul_dw's bias, =", gb[o], NULL, db[o], rows[o], TOL);
        }
        dev_close(d);
    }
    drop();
}

static void check_product(void)
{
    product(3, 16, 1, (const int[]){ 5 }, false);
    product(70, 48, 3, (const int[]){ 40, 24, 33 }, false);
    if (!quick) product(530, 66, 2, (const int[]){ 200, 30 }, false);
    product(33, 416, 1, (const int[]){ 300 }, false);
}

static void check_product_bf16(void)
{
    product(3, 16, 1, (const int[]){ 5 }, true);
    product(71, 48, 3, (const int[]){ 40, 23, 33 }, true);
    if (!quick) product(1040, 66, 2, (const int[]){ 200, 30 }, true);
}

/* ---- norm ---- */

typedef struct { int N, C; double eps, *x, *w, *dy; } norm;

static double norm_loss(void *arg)
{
    const norm *m = arg;
    double L = 0;
    for (int n = 0; n < m->N; n++) {
        double ss = 0;
        for (int i = 0; i < m->C; i++) ss += m->x[n * m->C + i] * m->x[n * m->C + i];
        for (int i = 0; i < m->C; i++)
            L += m->dy[n * m->C + i] * m->w[i] * m->x[n * m->C + i] / sqrt(ss / m->C + m->eps);
    }
    return L;
}

static void norm_of(int N, int C, double scale)
{
    norm m = { .N = N, .C = C, .eps = 1e-5f };
    float *x = values(N * C, scale, &m.x), *w = values(C, 1, &m.w), *dy = values(N * C, 1, &m.dy);
    float *start_x = values(N * C, 1 / scale, NULL), *start_w = values(C, 1, NULL);
    float *first_x = get((size_t)(N * C) * 4), *first_w = get((size_t)C * 4);
    double *dx = zeros(N * C), *dw = zeros(C);
    train_size size = { N, C, 64, 4, 16 };
    for (int n = 0; n < N; n++) {
        double ss = 0, s = 0;
        for (int i = 0; i < C; i++) {
            ss += m.x[n * C + i] * m.x[n * C + i];
            s += m.w[i] * m.dy[n * C + i] * m.x[n * C + i];
        }
        double r = 1 / sqrt(ss / C + m.eps);
        for (int i = 0; i < C; i++) {
            dx[n * C + i] = r * m.w[i] * m.dy[n * C + i] - m.x[n * C + i] * r * r * r / C * s;
            dw[i] += m.dy[n * C + i] * m.x[n * C + i] * r;
        }
    }
    slopes(norm_loss, &m, m.x, dx, N * C);
    slopes(norm_loss, &m, m.w, dw, C);
    for (int t = 0; t < N_THREADS; t++) {
        dev *d = open_dev(threads[t], N, C, &size);
        float *gx = copy(start_x, N * C), *gw = copy(start_w, C);
        d->rmsnorm_backward(d, gx, gw, dy, x, w, N, C, 1e-5f);
        same_l2("rmsnorm dx", gx, start_x, dx, N * C, TOL);
        same_l2("rmsnorm dw", gw, start_w, dw, C, TOL);
        same_bits(t, "rmsnorm dx", gx, first_x, N * C);
        same_bits(t, "rmsnorm dw", gw, first_w, C);
        d->rmsnorm_backward(d, gx, NULL, dy, x, w, N, C, 1e-5f);
        same_bits(1, "rmsnorm without dw", gw, first_w, C);
        dev_close(d);
    }
    drop();
}

static void check_rmsnorm(void)
{
    norm_of(1, 16, 1);
    norm_of(7, 33, 1e-2);
    norm_of(400, 80, 5);
}

/* ---- SwiGLU ---- */

typedef struct { int n; double *g, *u, *dy; } glu;

static double glu_loss(void *arg)
{
    const glu *m = arg;
    double L = 0;
    for (int i = 0; i < m->n; i++) L += m->dy[i] * m->g[i] / (1 + exp(-m->g[i])) * m->u[i];
    return L;
}

static void check_swiglu(void)
{
    enum { N = 40000 };
    glu m = { .n = N };
    float *g = values(N, 12, &m.g), *u = values(N, 1, &m.u), *dy = values(N, 1, &m.dy);
    float *fg = get(N * 4), *fu = get(N * 4);
    double *dg = zeros(N), *du = zeros(N);
    train_size size = { 1, 16, 64, 4, 16 };
    for (int i = 0; i < N; i++) {
        double s = 1 / (1 + exp(-m.g[i]));
        dg[i] = m.dy[i] * m.u[i] * s * (1 + m.g[i] * (1 - s));
        du[i] = m.dy[i] * m.g[i] * s;
    }
    slopes(glu_loss, &m, m.g, dg, N);
    slopes(glu_loss, &m, m.u, du, N);
    for (int t = 0; t < N_THREADS; t++) {
        dev *d = open_dev(threads[t], 1, 16, &size);
        float *gg = t == 1 ? copy(g, N) : get(N * 4), *gu = t == 1 ? copy(u, N) : get(N * 4);
        d->swiglu_backward(d, gg, gu, dy, t == 1 ? gg : g, t == 1 ? gu : u, N);     /* in place */
        same_l2("swiglu dg", gg, NULL, dg, N, TOL);
        same_l2("swiglu du", gu, NULL, du, N, TOL);
        same_bits(t, "swiglu dg", gg, fg, N);
        same_bits(t, "swiglu du", gu, fu, N);
        dev_close(d);
    }
    drop();
}

/* ---- rope and attention, through the cache, as a layer has them ---- */

enum { MAX_DOC = 4 };
typedef struct {
    int nh, nkv, hs, window;
    bool adjacent;
    kv_type type;
    int n_doc, len[MAX_DOC];
    int N;
    double *q, *k, *v, *dy, *cs;            /* rows of all documents, one after the other */
    double *dq, *dk, *dv;                   /* set by gradient */
} heads;

/* x (hs,) turned, in half order. */
static void turned(const heads *m, double *y, const double *x, int pos)
{
    int hs = m->hs;
    const double *cs = m->cs + pos * hs;
    for (int i = 0; i < hs / 2; i++) {
        double a = m->adjacent ? x[2 * i] : x[i], b = m->adjacent ? x[2 * i + 1] : x[i + hs / 2];
        y[i] = a * cs[2 * i] - b * cs[2 * i + 1];
        y[i + hs / 2] = b * cs[2 * i] + a * cs[2 * i + 1];
    }
}

static void turned_back(const heads *m, double *dx, const double *dy, int pos, double scale)
{
    int hs = m->hs;
    const double *cs = m->cs + pos * hs;
    for (int i = 0; i < hs / 2; i++) {
        double a = dy[i] * scale, b = dy[i + hs / 2] * scale, c = cs[2 * i], s = cs[2 * i + 1];
        dx[m->adjacent ? 2 * i : i] += a * c + b * s;
        dx[m->adjacent ? 2 * i + 1 : i + hs / 2] += b * c - a * s;
    }
}

/* One query: its loss; with m->dq its part of all gradients. */
static double one_query(heads *m, int base, int t, int h)
{
    enum { MOST = 512 };
    int hs = m->hs, g = h / (m->nh / m->nkv), lo = m->window && t >= m->window ? t - m->window + 1 : 0;
    double q[128], k[128], p[MOST], dp[MOST], top = -INFINITY, sum = 0, D = 0, scale = 1 / sqrt(hs);
    const double *dy = m->dy + ((base + t) * m->nh + h) * hs;
    DR_ASSERT(t < MOST && hs <= 128);
    turned(m, q, m->q + ((base + t) * m->nh + h) * hs, t);
    for (int j = lo; j <= t; j++) {
        turned(m, k, m->k + ((base + j) * m->nkv + g) * hs, j);
        p[j] = dp[j] = 0;
        for (int d = 0; d < hs; d++) {
            p[j] += q[d] * k[d] * scale;
            dp[j] += dy[d] * m->v[((base + j) * m->nkv + g) * hs + d];
        }
        top = p[j] > top ? p[j] : top;
    }
    for (int j = lo; j <= t; j++) sum += p[j] = exp(p[j] - top);
    for (int j = lo; j <= t; j++) D += (p[j] /= sum) * dp[j];       /* dy . y, which is the loss */
    if (!m->dq) return D;
    double dq[128] = { 0 };
    for (int j = lo; j <= t; j++) {
        double ds = p[j] * (dp[j] - D), dk[128];
        turned(m, k, m->k + ((base + j) * m->nkv + g) * hs, j);
        for (int d = 0; d < hs; d++) {
            dq[d] += ds * k[d], dk[d] = ds * q[d];
            m->dv[((base + j) * m->nkv + g) * hs + d] += p[j] * dy[d];
        }
        turned_back(m, m->dk + ((base + j) * m->nkv + g) * hs, dk, j, scale);
    }
    turned_back(m, m->dq + ((base + t) * m->nh + h) * hs, dq, t, scale);
    return D;
}

static double heads_loss(void *arg)
{
    heads *m = arg;
    double L = 0;
    for (int i = 0, base = 0; i < m->n_doc; base += m->len[i++])
        for (int t = 0; t < m->len[i]; t++)
            for (int h = 0; h < m->nh; h++) L += one_query(m, base, t, h);
    return L;
}

/* As a step does it: rope and store, attention, and back through both. */
static void device_heads(const heads *m, dev *d, const float *const in[4], const float *cs, float *gq,
                         float *gk, float *gv)
{
    int hs = m->hs, nq = m->N * m->nh * hs, n_page = 0, most = 0;
    size_t pb = kv_page_bytes(m->type, m->nkv, hs);
    seq_run run[MAX_DOC];
    for (int i = 0, base = 0; i < m->n_doc; base += m->len[i++]) {
        int n = (m->len[i] + KV_PAGE - 1) / KV_PAGE;
        int32_t *page = get((size_t)n * sizeof *page);
        for (int p = 0; p < n; p++) page[n - 1 - p] = n_page + p;
        run[i] = (seq_run){ base, m->len[i], 0, page };
        n_page += n, most = m->len[i] > most ? m->len[i] : most;
    }
    kv_layer kv = { m->type, m->nkv, hs, d->alloc(d, pb * (size_t)n_page), pb };
    float *q = copy(in[0], nq), *y = get((size_t)nq * 4), *stat = get((size_t)(m->N * m->nh) * 8);
    memset(kv.base, 0xff, pb * (size_t)n_page);             /* pages come back used: NaN */
    long allocs = mem_count();
    d->rope_store(d, q, in[1], in[2], m->nh, &kv, cs, m->adjacent, 1 / sqrtf((float)hs), run, m->n_doc);
    d->attn(d, y, stat, q, m->nh, &kv, m->window, run, m->n_doc);
    d->attn_backward(d, gq, gk, gv, in[3], y, q, stat, m->nh, &kv, m->window, run, m->n_doc);
    d->rope_backward(d, gq, gk, m->nh, m->nkv, hs, cs, m->adjacent, 1 / sqrtf((float)hs), run, m->n_doc);
    CHECK(mem_count() == allocs);
    d->free(d, kv.base, pb * (size_t)n_page);
}

static void heads_of(heads m)
{
    int most = 0, hs = m.hs;
    for (int i = 0; i < m.n_doc; i++) m.N += m.len[i], most = m.len[i] > most ? m.len[i] : most;
    int nq = m.N * m.nh * hs, nk = m.N * m.nkv * hs;
    float *q = values(nq, 2, &m.q), *k = values(nk, 2, &m.k), *v = values(nk, 1, &m.v);
    float *dy = values(nq, 1, &m.dy), *cs = values(most * hs, 1, &m.cs);
    float *fq = get((size_t)nq * 4), *fk = get((size_t)nk * 4), *fv = get((size_t)nk * 4);
    for (int p = 0; p < most; p++)
        for (int i = 0; i < hs / 2; i++) {
            double a = p * pow(10000, -2.0 * i / hs);
            m.cs[p * hs + 2 * i] = cs[p * hs + 2 * i] = (float)cos(a);
            m.cs[p * hs + 2 * i + 1] = cs[p * hs + 2 * i + 1] = (float)sin(a);
        }
    double *dq = zeros(nq), *dk = zeros(nk), *dv = zeros(nk);
    m.dq = dq, m.dk = dk, m.dv = dv;
    heads_loss(&m);
    m.dq = NULL;
    if (m.N < 100) {
        slopes(heads_loss, &m, m.q, dq, nq);
        slopes(heads_loss, &m, m.k, dk, nk);
        slopes(heads_loss, &m, m.v, dv, nk);
    }
    train_size size = { m.N, m.nh * hs, 64, m.nh, hs };
    /* bf16 keys and values were rounded, which the doubles were not */
    double tol = m.type == KV_BF16 ? 0.02 : TOL;
    for (int t = 0; t < N_THREADS; t++) {
        dev *d = open_dev(threads[t], m.N, m.nh * hs, &size);
        float *gq = get((size_t)nq * 4), *gk = get((size_t)nk * 4), *gv = get((size_t)nk * 4);
        device_heads(&m, d, (const float *const[]){ q, k, v, dy }, cs, gq, gk, gv);
        same_l2("attention dq", gq, NULL, dq, nq, tol);
        same_l2("attention dk", gk, NULL, dk, nk, tol);
        same_l2("attention dv", gv, NULL, dv, nk, tol);
        same_bits(t, "attention dq", gq, fq, nq);
        same_bits(t, "attention dk", gk, fk, nk);
        same_bits(t, "attention dv", gv, fv, nk);
        dev_close(d);
    }
    drop();
}

static void check_attention(void)
{
    heads_of((heads){ 1, 1, 16, 0, false, KV_F32, 1, { 1 } });
    heads_of((heads){ 4, 2, 8, 0, true, KV_F32, 3, { 5, 1, 67 } });
    heads_of((heads){ 6, 2, 24, 9, false, KV_F32, 2, { 70, 20 } });
    if (!quick) heads_of((heads){ 9, 3, 64, 0, true, KV_F32, 2, { 200, 129 } });
    if (!quick) heads_of((heads){ 4, 1, 128, 70, false, KV_F32, 1, { 300 } });
    heads_of((heads){ 4, 2, 32, 0, true, KV_BF16, 2, { 130, 65 } });
}

/* A document's gradients have nothing of its neighbour's: the other's values change no bit. */
static void check_documents(void)
{
    heads m = { 4, 2, 32, 0, true, KV_F32, 2, { 70, 90 }, 160 };
    int nq = m.N * m.nh * m.hs, nk = m.N * m.nkv * m.hs, aq = 70 * m.nh * m.hs, ak = 70 * m.nkv * m.hs;
    float *in[4] = { values(nq, 2, NULL), values(nk, 2, NULL), values(nk, 1, NULL), values(nq, 1, NULL) };
    float *cs = values(90 * m.hs, 1, NULL), *g[2][3];
    train_size size = { m.N, m.nh * m.hs, 64, m.nh, m.hs };
    for (int way = 0; way < 2; way++) {
        dev *d = open_dev(2, m.N, m.nh * m.hs, &size);
        for (int i = 0; i < 3; i++) g[way][i] = get((size_t)(i ? nk : nq) * 4);
        device_heads(&m, d, (const float *const[]){ in[0], in[1], in[2], in[3] }, cs, g[way][0], g[way][1],
                     g[way][2]);
        for (int i = aq; i < nq; i++) in[0][i] += 1, in[3][i] -= 1;
        for (int i = ak; i < nk; i++) in[1][i] += 1, in[2][i] -= 1;
        dev_close(d);
    }
    for (int i = 0; i < 3; i++) {
        size_t n = (size_t)(i ? ak : aq);
        CHECK(!memcmp(g[0][i], g[1][i], n * 4));
        CHECK(memcmp(g[0][i] + n, g[1][i] + n, n * 4));
    }
    drop();
}

/* ---- embedding ---- */

static void check_embed(void)
{
    enum { V = 30, C = 200, N = 300 };
    int32_t tok[N];
    double *dx, want[V * C] = { 0 };
    float *x = values(N * C, 1, &dx), *start = values(V * C, 1, NULL), *first = get(V * C * 4);
    train_size size = { N, C, V, 4, 16 };
    for (int n = 0; n < N; n++) {
        tok[n] = n % 3 ? n * 7 % (V - 1) : 4;           /* one often, the last one never */
        for (int i = 0; i < C; i++) want[tok[n] * C + i] += dx[n * C + i];
    }
    for (int t = 0; t < N_THREADS; t++) {
        dev *d = open_dev(threads[t], N, C, &size);
        float *g = copy(start, V * C);
        d->embed_backward(d, g, x, tok, N, C);
        same_l2("embed", g, start, want, V * C, TOL);
        same_bits(t, "embed", g, first, V * C);
        CHECK(!memcmp(g + (V - 1) * C, start + (V - 1) * C, C * 4));
        dev_close(d);
    }
    drop();
}

/* ---- the head and its loss ---- */

typedef struct {
    int N, C, V;
    double *x, *w, *weight, *dx, *dw, *logp;
    const int32_t *target;
} head;

static double loss_of(void *arg)
{
    const head *m = arg;
    double L = 0, *y = get((size_t)m->V * sizeof *y);
    for (int n = 0; n < m->N; n++) {
        double top = -INFINITY, sum = 0;
        if (m->target[n] < 0) continue;
        for (int r = 0; r < m->V; r++) {
            y[r] = 0;
            for (int i = 0; i < m->C; i++) y[r] += m->w[r * m->C + i] * m->x[n * m->C + i];
            top = y[r] > top ? y[r] : top;
        }
        for (int r = 0; r < m->V; r++) sum += exp(y[r] - top);
        double lp = y[m->target[n]] - top - log(sum);
        L -= m->weight[n] * lp;
        if (!m->dx) continue;
        m->logp[n] = m->weight[n] != 0 ? lp : 0;
        for (int r = 0; r < m->V; r++) {
            double g = m->weight[n] * (exp(y[r] - top) / sum - (r == m->target[n]));
            for (int i = 0; i < m->C; i++) {
                m->dx[n * m->C + i] += g * m->w[r * m->C + i];
                m->dw[r * m->C + i] += g * m->x[n * m->C + i];
            }
        }
    }
    mem_free(keep[--n_keep]);
    return L;
}

static void head_of(int N, int C, int V, bool weighted, bool bf16)
{
    head m = { N, C, V };
    int32_t *target = get((size_t)N * sizeof *target);
    float *x = values(N * C, 1, &m.x), *w = values(V * C, 1, &m.w), *weight = values(N, 1, &m.weight);
    double weights = 0;
    for (int n = 0; n < N; n++) {
        target[n] = n % 5 == 3 ? -1 : n * 13 % V;
        if (!weighted) m.weight[n] = weight[n] = 1;
        if (weighted && n % 7 == 2) m.weight[n] = weight[n] = 0;
        if (target[n] >= 0) weights += m.weight[n];
    }
    m.target = target;
    wmat wm = { .type = DT_F32, .rows = V, .K = C, .data = w, .row_bytes = (size_t)C * 4 };
    if (bf16) {
        wm.type = DT_BF16, wm.data = halves(w, m.w, V * C), wm.row_bytes = (size_t)C * 2;
        halves(x, m.x, N * C);
    }
    double *dx = zeros(N * C), *dw = zeros(V * C);
    m.dx = dx, m.dw = dw, m.logp = zeros(N);
    double L = loss_of(&m);
    m.dx = NULL;
    if (N < 50) {
        slopes(loss_of, &m, m.x, dx, N * C);
        slopes(loss_of, &m, m.w, dw, V * C);
    }
    train_size size = { N, C, V, 4, 16 };
    float *start = values(V * C, 1, NULL), *fx = get((size_t)(N * C) * 4), *fw = get((size_t)(V * C) * 4);
    float *flp = get((size_t)N * 4);
    double tol = bf16 ? 4e-3 : TOL, first_loss = 0;     /* gradients of logits are rounded to bf16 */
    for (int t = 0; t < N_THREADS; t++) {
        dev *d = open_dev(threads[t], N, C, &size);
        float *gx = get((size_t)(N * C) * 4), *gw = copy(start, V * C), *lp = get((size_t)N * 4);
        head_loss h = { &wm, x, target, weighted ? weight : NULL, N, lp, gx, gw, 7, 7 };
        for (int i = 0; i < N * C; i++) gx[i] = 7;
        long allocs = mem_count();
        d->loss_head(d, &h);
        CHECK(mem_count() == allocs);
        CHECK_NEAR(h.loss, L, 1e-6 * fabs(L) + 1e-9);
        CHECK_NEAR(h.weights, weights, 1e-9);
        if (t == 0) first_loss = h.loss;
        CHECK(h.loss == first_loss);
        for (int n = 0; n < N; n++) CHECK_NEAR(lp[n], m.logp[n], 1e-5);
        same_bits(t, "loss_head logp", lp, flp, N);
        if (weights != 0) {
            same_l2("loss_head dx", gx, NULL, dx, N * C, tol);
            same_l2("loss_head dw", gw, start, dw, V * C, tol);
        }
        same_bits(t, "loss_head dx", gx, fx, N * C);
        same_bits(t, "loss_head dw", gw, fw, V * C);
        /* the loss alone, and by way of log_probs: the same bits */
        head_loss alone = { &wm, x, target, weighted ? weight : NULL, N, lp, NULL, NULL, 0, 0 };
        d->loss_head(d, &alone);
        CHECK(alone.loss == first_loss && alone.weights == h.weights);
        same_bits(1, "loss_head logp alone", lp, flp, N);
        float *y = get((size_t)(N * V) * 4), *lp2 = get((size_t)N * 4);
        int32_t *tok = get((size_t)N * sizeof *tok);
        for (int n = 0; n < N; n++) tok[n] = target[n] < 0 ? 0 : target[n];
        d->matmul(d, &(mm_out){ y, (size_t)V, &wm }, 1, x, (size_t)C, N);
        d->log_probs(d, lp2, y, (size_t)V, tok, N, V);
        for (int n = 0; n < N; n++)
            CHECK(target[n] < 0 || weight[n] == 0 || !memcmp(lp + n, lp2 + n, 4));
        dev_close(d);
    }
    drop();
}

static void check_head(void)
{
    head_of(1, 16, 40, false, false);
    head_of(20, 24, 70, true, false);
    if (!quick) head_of(300, 40, 500, true, false);
    head_of(290, 64, 333, false, false);
    head_of(150, 64, 400, true, true);
}

/* Nothing has a target: no loss, no gradient, no NaN. */
static void check_no_target(void)
{
    enum { N = 9, C = 16, V = 20 };
    float *x = values(N * C, 1, NULL), *w = values(V * C, 1, NULL), gx[N * C], gw[V * C] = { 0 }, lp[N];
    int32_t target[N];
    for (int n = 0; n < N; n++) target[n] = -1;
    train_size size = { N, C, V, 1, 16 };
    dev *d = open_dev(2, N, C, &size);
    wmat wm = { .type = DT_F32, .rows = V, .K = C, .data = w, .row_bytes = C * 4 };
    head_loss h = { &wm, x, target, NULL, N, lp, gx, gw, 7, 7 };
    d->loss_head(d, &h);
    CHECK(h.loss == 0 && h.weights == 0);
    for (int i = 0; i < N * C; i++) CHECK(gx[i] == 0);
    for (int i = 0; i < V * C; i++) CHECK(gw[i] == 0);
    dev_close(d);
    drop();
}

/* ---- the rest ---- */

static void check_simple(void)
{
    enum { N = 50001 };
    float *x = values(N, 3, NULL), *y = get(N * 4), *z = get(N * 4);
    uint16_t *h = get(N * 2);
    train_size size = { 1, 16, 64, 4, 16 };
    dev *d = open_dev(2, 1, 16, &size);
    d->to_bf16(d, h, x, N);
    d->from_bf16(d, y, h, N);
    for (int i = 0; i < N; i++) CHECK(y[i] == bf16_to_f32(f32_to_bf16(x[i])));
    d->copy(d, z, y, N * 4);
    CHECK(!memcmp(z, y, N * 4));
    d->scale(d, z, 0.3f, N);
    for (int i = 0; i < N; i++) CHECK(z[i] == y[i] * 0.3f);
    d->fill(d, z, 0.25f, N - 1);
    for (int i = 0; i < N - 1; i++) CHECK(z[i] == 0.25f);
    CHECK(z[N - 1] == y[N - 1] * 0.3f);
    dev_close(d);
    drop();
}

/* What is said to be taken is taken, once; and a failed allocation leaves nothing behind. */
static void check_reserve(void)
{
    train_size s = { 100, 64, 1000, 4, 16 };
    dr_err e = { 0 };
    dev *d = dev_open(&(dev_opt){ .n_threads = 2, .cpu_level = level }, &e);
    size_t live = mem_live_bytes(), said = d->reserve_train_bytes(d, &s);
    mem_fail_after(0);
    CHECK(d->reserve_train(d, &s, &e) == DR_ENOMEM && e.msg[0]);
    mem_fail_after(-1);
    CHECK(mem_live_bytes() == live);
    CHECK(d->reserve_train(d, &s, &e) == DR_OK && mem_live_bytes() - live == said);
    CHECK(d->reserve_train(d, &s, &e) == DR_OK && mem_live_bytes() - live == said);
    dev_close(d);
}

int main(int argc, char **argv)
{
    static const struct { const char *name; void (*fn)(void); } checks[] = {
        { "product", check_product }, { "product_bf16", check_product_bf16 },
        { "rmsnorm", check_rmsnorm }, { "swiglu", check_swiglu }, { "attention", check_attention },
        { "documents", check_documents }, { "embed", check_embed }, { "head", check_head },
        { "no_target", check_no_target }, { "simple", check_simple }, { "reserve", check_reserve },
    };
    if (argc > 1 && !strcmp(argv[1], "--bench")) {
        dev *d = dev_open(&(dev_opt){ .n_threads = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 0 }, NULL);
        DR_ASSERT(d);
        for (size_t i = 0; i < sizeof bench_shapes / sizeof *bench_shapes; i++)
            for (int bf16 = 0; bf16 < 2; bf16++)
                if (argc == 2 || !strcmp(argv[2], bench_shapes[i].name))
                    bench_all(d, &bench_shapes[i], bf16 ? DT_BF16 : DT_F32);
        dev_close(d);
        return 0;
    }
    t_begin(argc, argv);
    unsigned have = cpu_detect();
    kern all;
    const char *best = kern_select(&all, NULL);
    quick = getenv("DR_QUICK");
    for (int l = 0; l < n_kern_levels; l++) {
        level = kern_levels[l].name;
        slow = l == 0 || quick;
        if ((kern_levels[l].need & have) != kern_levels[l].need) {
            printf("skip %s: not on this CPU\n", level);
            continue;
        }
        if (quick && strcmp(level, best)) continue;
        for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
            char name[64];
            snprintf(name, sizeof name, "%s_%s", checks[i].name, level);
            t_run(name, checks[i].fn);
        }
    }
    return t_end();
}
