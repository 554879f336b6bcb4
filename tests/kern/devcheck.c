/* devcheck.c - the CPU device's operations: against plain double precision at odd shapes, and
 * bit against bit for every way of cutting the same work (threads, batches, pieces of a prompt).
 *
 *     devcheck [NAME...]     every level this CPU has
 *
 * With DR_QUICK set only the best level is checked, in the few ways of cutting that the slow textbook
 * level has: for emulators. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/half.h"
#include "base/mem.h"
#include "dev/dev.h"
#include "format/dequant.h"
#include "format/quant.h"
#include "kern/kern.h"
#include "t.h"

static const char *level;
static bool slow;                       /* fewer ways of cutting: the textbook level, emulators */
static bool quick;
static const int threads[] = { 1, 3, 2, 7 };
#define N_THREADS (slow ? 2 : 4)

static dev *open_dev(int n_threads)
{
    dr_err e = { 0 };
    dev *d = dev_open(&(dev_opt){ .n_threads = n_threads, .cpu_level = level }, &e);
    if (!d) fprintf(stderr, "%s\n", e.msg);
    DR_ASSERT(d);
    return d;
}

static void *get(size_t n)
{
    void *p = mem_aligned(n);
    DR_ASSERT(p);
    return p;
}

static float *randoms(size_t n, float scale)
{
    float *p = get(n * sizeof *p);
    for (size_t i = 0; i < n; i++) p[i] = t_rand() * scale;
    return p;
}

/* ---- products ---- */

static float rounded(int type, float x)
{
    return type == DT_F16 ? f16_to_f32(f32_to_f16(x)) : type == DT_BF16
           ? bf16_to_f32(f32_to_bf16(x)) : x;
}

/* (rows,K) random weights of a float type at an odd address; *v gets their values. */
static wmat weights(int type, int rows, int K, float *v)
{
    size_t n = (size_t)rows * (size_t)K, b = type == DT_F32 ? 4 : 2;
    char *p = (char *)get(n * b + 64) + 2 * (type != DT_F32);
    for (size_t i = 0; i < n; i++) {
        v[i] = rounded(type, t_rand());
        uint16_t h = type == DT_F16 ? f32_to_f16(v[i]) : f32_to_bf16(v[i]);
        if (type == DT_F32) memcpy(p + i * 4, &v[i], 4);
        else memcpy(p + i * 2, &h, 2);
    }
    return (wmat){ .type = type, .rows = rows, .K = K, .data = p, .row_bytes = (size_t)K * b };
}

static void weights_free(wmat *w) { mem_free((char *)w->data - 2 * (w->type != DT_F32)); }

static const int mm_types[] = { DT_F32, DT_F16, DT_BF16 };

/* FP8 weights with scales for slices of K: the products of each slice, which are those of a matrix
 * of that slice alone, times its scale, added up in order. Embeddings are scaled likewise. */
static void check_scaled(void)
{
    static const struct { int rows, K, N, slices; } shapes[] = {
        { 1, 32, 1, 1 }, { 17, 96, 3, 3 }, { 130, 320, 7, 2 }, { 64, 576, 1, 8 }, { 200, 1024, 33, 16 },
        { 70, 512, 40, 1 },
    };
    for (size_t z = 0; z < sizeof shapes / sizeof *shapes; z++) {
        int R = shapes[z].rows, K = shapes[z].K, N = shapes[z].N, S = shapes[z].slices, k = K / S;
        size_t ld = (size_t)R + 1, bytes = (size_t)N * ld * sizeof(float);
        float *x = randoms((size_t)N * (size_t)K, 1), *scale = randoms((size_t)S * (size_t)R, 2);
        float *y = get(bytes), *want = get(bytes), *part = get(bytes), *row = get((size_t)K * 4);
        uint8_t *p = get((size_t)R * (size_t)K), *q = get((size_t)R * (size_t)k);
        for (size_t i = 0; i < (size_t)R * (size_t)K; i++) p[i] = f32_to_f8(t_rand() * 8);
        wmat w = { .type = DT_F8_E4M3, .rows = R, .K = K, .data = p, .row_bytes = (size_t)K,
                   .scale = scale, .n_slice = S };
        wmat one = { .type = DT_F8_E4M3, .rows = R, .K = k, .data = q, .row_bytes = (size_t)k };
        for (int t = 0; t < N_THREADS; t++) {
            dev *d = open_dev(threads[t]);
            CHECK(d->reserve(d, N, K, 8, 64, 128, NULL) == DR_OK);
            for (int s = 0; t == 0 && s < S; s++) {
                for (int r = 0; r < R; r++)
                    memcpy(q + (size_t)r * (size_t)k, p + (size_t)r * (size_t)K + (size_t)(s * k),
                           (size_t)k);
                d->matmul(d, &(mm_out){ part, ld, &one }, 1, x + (size_t)s * (size_t)k, (size_t)K, N);
                for (int n = 0; n < N; n++)
                    for (int r = 0; r < R; r++) {
                        float v = scale[s * R + r] * part[(size_t)n * ld + (size_t)r];
                        float *to = &want[(size_t)n * ld + (size_t)r];
                        *to = s ? *to + v : v;
                    }
            }
            for (int n = 0; n < N; n++) want[(size_t)n * ld + (size_t)R] = y[(size_t)n * ld + (size_t)R] = 7;
            long before = mem_count();
            d->matmul(d, &(mm_out){ y, ld, &w }, 1, x, (size_t)K, N);
            CHECK(mem_count() == before);
            CHECK(memcmp(y, want, bytes) == 0);
            int32_t tok = R - 1;
            d->embed(d, row, &w, &tok, 1);
            for (int i = 0; i < K; i++)
                CHECK(row[i] == f8_to_f32(p[(size_t)tok * (size_t)K + (size_t)i]) *
                                scale[i / k * R + tok]);
            dev_close(d);
        }
        mem_free(x), mem_free(scale), mem_free(y), mem_free(want), mem_free(part), mem_free(row);
        mem_free(p), mem_free(q);
    }
}

/* Three outputs of mixed types share one input, as q, k and v do; a bias on the second. */
static void check_matmul(void)
{
    static const struct { int rows[3], K, N; } shapes[] = {
        { { 1, 1, 1 }, 32, 1 },       { { 5, 17, 3 }, 96, 2 },     { { 64, 33, 70 }, 64, 5 },
        { { 130, 16, 16 }, 320, 7 },  { { 66, 129, 40 }, 576, 9 }, { { 48, 20, 200 }, 1536, 33 },
        { { 96, 32, 31 }, 2080, 70 },
    };
    for (size_t z = 0; z < sizeof shapes / sizeof *shapes; z++)
        for (int mix = 0; mix < 3; mix++) {
            int K = shapes[z].K, N = shapes[z].N, most = 0;
            wmat w[3];
            float *v[3], *y[3], *want[3];
            size_t ldx = (size_t)K + 3;
            float *x = randoms((size_t)N * ldx, 1);
            for (int i = 0; i < 3; i++) {
                int r = shapes[z].rows[i];
                if (r > most) most = r;
                v[i] = get((size_t)r * (size_t)K * sizeof(float));
                w[i] = weights(mm_types[(mix + i) % 3], r, K, v[i]);
                y[i] = get((size_t)N * (size_t)(r + 2) * sizeof(float));
                want[i] = get((size_t)N * (size_t)(r + 2) * sizeof(float));
            }
            float *bias = randoms((size_t)most, 1);
            w[1].bias = bias;
            for (int t = 0; t < N_THREADS; t++) {
                dev *d = open_dev(threads[t]);
                CHECK(d->reserve(d, N, K, 8, 64, 128, NULL) == DR_OK);
                mm_out out[3];
                for (int i = 0; i < 3; i++) {
                    size_t ld = (size_t)w[i].rows + 2;
                    for (size_t k = 0; k < (size_t)N * ld; k++) y[i][k] = 7;
                    out[i] = (mm_out){ y[i], ld, &w[i] };
                }
                long before = mem_count();
                d->matmul(d, out, 3, x, ldx, N);
                CHECK(mem_count() == before);
                for (int i = 0; i < 3; i++) {
                    size_t ld = (size_t)w[i].rows + 2, bytes = (size_t)N * ld * sizeof(float);
                    if (t == 0) memcpy(want[i], y[i], bytes);
                    CHECK(memcmp(want[i], y[i], bytes) == 0);
                }
                // one row alone, the last: the same bits
                int n = N - 1;
                for (int i = 0; i < 3; i++) out[i].y = y[i] + (size_t)n * out[i].ldy;
                for (int i = 0; i < 3; i++) memset(out[i].y, 0, (size_t)w[i].rows * 4);
                d->matmul(d, out, 3, x + (size_t)n * ldx, ldx, 1);
                for (int i = 0; i < 3; i++)
                    CHECK(memcmp(want[i], y[i], (size_t)N * out[i].ldy * sizeof(float)) == 0);
                dev_close(d);
            }
            for (int i = 0; i < 3; i++) {
                size_t ld = (size_t)w[i].rows + 2;
                for (int n = 0; n < N; n++) {
                    for (int r = 0; r < w[i].rows; r++) {
                        double s = w[i].bias ? bias[r] : 0, mag = fabs(s);
                        for (int k = 0; k < K; k++) {
                            float xk = x[(size_t)n * ldx + (size_t)k];
                            if (w[i].type == DT_BF16) xk = rounded(DT_BF16, xk);
                            double p = (double)xk * v[i][(size_t)r * (size_t)K + (size_t)k];
                            s += p, mag += fabs(p);
                        }
                        // any order of K additions is within K u sum|p| (Higham 2002, 3.1)
                        CHECK_NEAR(want[i][(size_t)n * ld + (size_t)r], s,
                                   (K + 2) * 0x1p-24 * mag);
                    }
                    CHECK(want[i][(size_t)n * ld + ld - 1] == 7);
                }
                weights_free(&w[i]);
                mem_free(v[i]), mem_free(y[i]), mem_free(want[i]);
            }
            mem_free(x), mem_free(bias);
        }
}

/* ---- rope, cache and attention ---- */

enum { MAX_SEQ = 4 };
typedef struct {
    int nh, nkv, hs, window;
    kv_type type;
    bool adjacent;
    int n_seq, len[MAX_SEQ];        /* positions of each sequence */
} world;

/* All rows of all sequences, sequence after sequence: inputs, and where results go. */
typedef struct {
    float *q, *k, *v, *cs, *y;
    int total, most, off[MAX_SEQ], n_pages;
    int32_t *page[MAX_SEQ];
} rows;

static rows rows_new(const world *w)
{
    rows r = { 0 };
    for (int i = 0; i < w->n_seq; i++) {
        r.off[i] = r.total, r.total += w->len[i];
        if (w->len[i] > r.most) r.most = w->len[i];
    }
    size_t n = (size_t)r.total, hs = (size_t)w->hs;
    r.q = randoms(n * (size_t)w->nh * hs, 2);
    r.k = randoms(n * (size_t)w->nkv * hs, 2);
    r.v = randoms(n * (size_t)w->nkv * hs, 1);
    r.y = get(n * (size_t)w->nh * hs * sizeof(float));
    r.cs = get((size_t)r.most * hs * sizeof(float));
    for (int p = 0; p < r.most; p++)
        for (int i = 0; i < w->hs / 2; i++) {
            float a = (float)p * (float)pow(10000, -2.0 * i / w->hs);
            r.cs[p * w->hs + 2 * i] = cosf(a), r.cs[p * w->hs + 2 * i + 1] = sinf(a);
        }
    int per = (r.most + KV_PAGE - 1) / KV_PAGE;
    r.n_pages = per * w->n_seq;
    for (int i = 0; i < w->n_seq; i++) {
        r.page[i] = get((size_t)per * sizeof(int32_t));      // scattered over the cache
        for (int p = 0; p < per; p++) r.page[i][p] = (p * w->n_seq + i) * 7 % r.n_pages;
    }
    if (r.n_pages % 7 == 0)
        for (int i = 0; i < w->n_seq; i++)
            for (int p = 0; p < per; p++) r.page[i][p] = p * w->n_seq + i;
    return r;
}

static void rows_free(rows *r)
{
    mem_free(r->q), mem_free(r->k), mem_free(r->v), mem_free(r->cs), mem_free(r->y);
    for (int i = 0; i < MAX_SEQ; i++) mem_free(r->page[i]);
}

/* Step i takes step[i % n_step] positions of every sequence that has some left (as one batch),
 * or with `alone` one sequence after the other. Results land in r->y. The cache starts full of
 * rubbish, as pages come back used. */
static void play(const world *w, rows *r, int n_threads, const int *step, int n_step, bool alone)
{
    dev *d = open_dev(n_threads);
    CHECK(d->reserve(d, r->total, 64, w->nh, w->hs, r->most, NULL) == DR_OK);
    size_t pb = kv_page_bytes(w->type, w->nkv, w->hs), cache = pb * (size_t)r->n_pages;
    kv_layer kv = { w->type, w->nkv, w->hs, d->alloc(d, cache), pb };
    memset(kv.base, 0xff, cache);
    size_t nq = (size_t)w->nh * (size_t)w->hs, nk = (size_t)w->nkv * (size_t)w->hs;
    float *q = get((size_t)r->total * nq * 4), *k = get((size_t)r->total * nk * 4);
    float *v = get((size_t)r->total * nk * 4), *y = get((size_t)r->total * nq * 4);
    int done[MAX_SEQ] = { 0 };
    long allocs = mem_count();
    for (int group = 0; group < (alone ? w->n_seq : 1); group++)
        for (int i = 0;; i++) {
            seq_run run[MAX_SEQ];
            int n_runs = 0, n = 0, seq[MAX_SEQ];
            for (int s = alone ? group : 0; s < (alone ? group + 1 : w->n_seq); s++) {
                int T = step[i % n_step], left = w->len[s] - done[s];
                if (T > left) T = left;
                if (!T) continue;
                size_t from = (size_t)(r->off[s] + done[s]);
                memcpy(q + (size_t)n * nq, r->q + from * nq, (size_t)T * nq * 4);
                memcpy(k + (size_t)n * nk, r->k + from * nk, (size_t)T * nk * 4);
                memcpy(v + (size_t)n * nk, r->v + from * nk, (size_t)T * nk * 4);
                seq[n_runs] = s;
                run[n_runs++] = (seq_run){ n, T, done[s], r->page[s] };
                n += T;
            }
            if (!n) break;
            d->rope_store(d, q, k, v, w->nh, &kv, r->cs, w->adjacent, 1 / sqrtf((float)w->hs),
                          run, n_runs);
            d->attn(d, y, NULL, q, w->nh, &kv, w->window, run, n_runs);
            for (int u = 0; u < n_runs; u++) {
                size_t to = (size_t)(r->off[seq[u]] + done[seq[u]]);
                memcpy(r->y + to * nq, y + (size_t)run[u].n0 * nq, (size_t)run[u].T * nq * 4);
                done[seq[u]] += run[u].T;
            }
        }
    CHECK(mem_count() == allocs);
    mem_free(q), mem_free(k), mem_free(v), mem_free(y);
    d->free(d, kv.base, cache);
    dev_close(d);
}

/* x (hs,) as the cache gives it back. The quantised types are rounded by format/'s row quantiser
 * and read by its dequantiser, which follow the reference implementation. */
static void spread(double *x, int hs, int n)         /* by Hadamard matrices of order n */
{
    double y[128];
    for (int i = 0; i < hs; i++) {
        y[i] = 0;
        for (int k = 0; k < n; k++)
            y[i] += (__builtin_parity((unsigned)(i % n & k)) ? -1 : 1) * x[i / n * n + k] / sqrt(n);
    }
    memcpy(x, y, (size_t)hs * sizeof *x);
}

static void kv_round(kv_type t, double *x, int hs, int most)
{
    bool quant = t == KV_Q8_0 || t == KV_Q4_0;
    int n = (hs & -hs) < most ? hs & -hs : most;
    if (quant) spread(x, hs, n);
    enum { MAX_HS = 128 };
    float f[MAX_HS] = { 0 };
    char block[MAX_HS * 2];
    int type = t == KV_Q8_0 ? DT_Q8_0 : t == KV_Q4_0 ? DT_Q4_0 : t == KV_F16 ? DT_F16
               : t == KV_BF16 ? DT_BF16 : DT_F32;
    for (int d = 0; d < hs; d++) f[d] = (float)x[d];
    if (quant) {
        CHECK(quant_row(type, f, block, hs) == DR_OK);
        dequant_row(type, block, f, hs);
    }
    for (int d = 0; d < hs; d++) x[d] = rounded(type, f[d]);
    if (quant) spread(x, hs, n);                // it is its own inverse
}

/* A query that meets a quantised cache: turned alike, and rounded as inputs of products are. */
static void q_round(double *x, int hs)
{
    int n = hs & -hs;
    spread(x, hs, n);
    for (int b = 0; b < hs; b += 32) {
        double top = 0;
        for (int i = b; i < b + 32; i++) top = fabs(x[i]) > top ? fabs(x[i]) : top;
        for (int i = b; i < b + 32; i++) x[i] = top == 0 ? 0 : rint(x[i] * 127 / top) * top / 127;
    }
    spread(x, hs, n);
}

/* y = x turned, in half order, in double. */
static void turned(double *y, const float *x, const float *cs, int hs, bool adjacent)
{
    for (int i = 0; i < hs / 2; i++) {
        double a = adjacent ? x[2 * i] : x[i], b = adjacent ? x[2 * i + 1] : x[i + hs / 2];
        y[i] = a * cs[2 * i] - b * cs[2 * i + 1];
        y[i + hs / 2] = b * cs[2 * i] + a * cs[2 * i + 1];
    }
}

/* Row t of sequence s by the definition of attention, all in double; for one head. */
static void check_row(const world *w, const rows *r, int s, int t, int h)
{
    enum { MAX_HS = 128 };
    double q[MAX_HS], k[MAX_HS], out[MAX_HS] = { 0 }, sum = 0, top = -INFINITY;
    int hs = w->hs, g = h / (w->nh / w->nkv), lo = w->window && t >= w->window
                                                   ? t - w->window + 1 : 0;
    double *p = get((size_t)(t + 1) * sizeof *p);
    size_t nq = (size_t)w->nh * (size_t)hs, nk = (size_t)w->nkv * (size_t)hs;
    size_t row = (size_t)(r->off[s] + t);
    turned(q, r->q + row * nq + (size_t)(h * hs), r->cs + (size_t)t * (size_t)hs, hs, w->adjacent);
    if (w->type == KV_Q8_0 || w->type == KV_Q4_0) q_round(q, hs);
    for (int j = lo; j <= t; j++) {
        turned(k, r->k + (size_t)(r->off[s] + j) * nk + (size_t)(g * hs),
               r->cs + (size_t)j * (size_t)hs, hs, w->adjacent);
        p[j] = 0;
        kv_round(w->type, k, hs, 512);
        for (int d = 0; d < hs; d++) p[j] += q[d] * k[d];
        p[j] /= sqrt(hs);
        if (p[j] > top) top = p[j];
    }
    for (int j = lo; j <= t; j++) sum += p[j] = exp(p[j] - top);
    for (int j = lo; j <= t; j++) {
        for (int d = 0; d < hs; d++)
            k[d] = r->v[(size_t)(r->off[s] + j) * nk + (size_t)(g * hs + d)];
        kv_round(w->type, k, hs, 64);
        for (int d = 0; d < hs; d++) out[d] += p[j] / sum * k[d];
    }
    // a key may round the other way when its turn was computed in f32: one step of the type
    static const double tols[] = { [KV_F32] = 4e-6, [KV_F16] = 4e-4, [KV_BF16] = 3e-3,
                                   [KV_Q8_0] = 3e-3, [KV_Q4_0] = 3e-2 };
    double tol = tols[w->type];
    for (int d = 0; d < hs; d++) CHECK_NEAR(r->y[row * nq + (size_t)(h * hs + d)], out[d], tol);
    mem_free(p);
}

static void check_world(const world *w)
{
    static const int all[] = { 1 << 20 }, bits[] = { 5, 1, 16, 64, 3, 130 }, ones[] = { 1 };
    rows r = rows_new(w);
    size_t nq = (size_t)w->nh * (size_t)w->hs, bytes = (size_t)r.total * nq * sizeof(float);
    float *want = get(bytes);
    play(w, &r, 1, all, 1, false);
    memcpy(want, r.y, bytes);
    for (int s = 0; s < w->n_seq; s++)
        for (int t = 0; t < w->len[s]; t += 1 + w->len[s] / 40)
            check_row(w, &r, s, t, (t * 7) % w->nh);
    for (int s = 0; s < w->n_seq; s++) check_row(w, &r, s, w->len[s] - 1, w->nh - 1);
    for (int t = 1; t < N_THREADS; t++) {
        memset(r.y, 0, bytes);
        play(w, &r, threads[t], all, 1, false);
        CHECK(memcmp(want, r.y, bytes) == 0);
    }
    memset(r.y, 0, bytes);
    play(w, &r, 2, bits, 6, false);
    CHECK(memcmp(want, r.y, bytes) == 0);
    memset(r.y, 0, bytes);
    if (slow) memcpy(r.y, want, bytes);
    else play(w, &r, 1, bits, 6, false);        // tasks of several heads, not all of the same number
    CHECK(memcmp(want, r.y, bytes) == 0);
    memset(r.y, 0, bytes);
    if (slow) memcpy(r.y, want, bytes);
    else play(w, &r, 3, bits, 6, true);
    CHECK(memcmp(want, r.y, bytes) == 0);
    if (r.most <= 100 || (r.most <= 300 && !slow)) {
        memset(r.y, 0, bytes);
        play(w, &r, 2, ones, 1, false);
        CHECK(memcmp(want, r.y, bytes) == 0);
    }
    mem_free(want);
    rows_free(&r);
}

static void check_attn(void)
{
    static const world w[] = {
        { 1, 1, 16, 0, KV_F32, false, 1, { 1 } },
        { 4, 2, 32, 0, KV_F32, true, 3, { 70, 1, 129 } },
        { 9, 3, 64, 0, KV_F16, false, 2, { 200, 65 } },
        { 8, 1, 80, 33, KV_BF16, true, 2, { 100, 150 } },
        { 3, 3, 128, 7, KV_F32, true, 1, { 67 } },
        { 9, 3, 64, 0, KV_Q8_0, true, 2, { 200, 65 } },
        { 4, 1, 96, 40, KV_Q8_0, false, 2, { 90, 131 } },
        { 6, 2, 128, 0, KV_Q4_0, false, 2, { 129, 70 } },
        { 2, 2, 32, 9, KV_Q4_0, true, 1, { 77 } },
    };
    for (size_t i = 0; i < sizeof w / sizeof *w; i++) check_world(&w[i]);
}

static void check_attn_long(void)
{
    static const world w[] = {
        { 2, 1, 16, 0, KV_F32, false, 2, { 2060, 1030 } },
        { 2, 2, 32, 1500, KV_F16, false, 1, { 3000 } },
        { 4, 2, 16, 900, KV_BF16, true, 2, { 2049, 1025 } },
        { 4, 2, 32, 0, KV_Q8_0, true, 2, { 2060, 1030 } },
        { 2, 1, 32, 1100, KV_Q4_0, false, 1, { 2500 } },
        { 10, 5, 32, 0, KV_F16, false, 1, { 2110 } },
        { 8, 8, 32, 0, KV_Q8_0, false, 2, { 1100, 2060 } },
    };
    for (size_t i = 0; i < sizeof w / sizeof *w; i++)
        if (i == 0 || !slow) check_world(&w[i]);
}

/* A decode step whose cache is far longer than the partial results have room for at once. */
static void check_attn_passes(void)
{
    enum { S = 140 * ATTN_CHUNK + 5, HS = 16 };
    world w = { 1, 1, HS, 0, KV_F16, false, 1, { 1 } };
    size_t pb = kv_page_bytes(w.type, 1, HS);
    uint16_t *cache = get(pb);
    int32_t *page = get((S / KV_PAGE + 1) * sizeof *page);
    for (int i = 0; i <= S / KV_PAGE; i++) page[i] = 0;
    for (size_t i = 0; i < pb / 2; i++) cache[i] = f32_to_f16(t_rand());
    float q[HS], y[HS], want[HS];
    for (int i = 0; i < HS; i++) q[i] = t_rand();
    kv_layer kv = { KV_F16, 1, HS, (char *)cache, pb };
    for (int t = 0; t < N_THREADS; t++) {
        dev *d = open_dev(threads[t]);
        CHECK(d->reserve(d, 1, 64, 1, HS, S, NULL) == DR_OK);
        d->attn(d, y, NULL, q, 1, &kv, 0, &(seq_run){ 0, 1, S - 1, page }, 1);
        if (t == 0) memcpy(want, y, sizeof y);
        CHECK(memcmp(want, y, sizeof y) == 0);
        dev_close(d);
    }
    double out[HS] = { 0 }, sum = 0;
    for (int j = 0; j < S; j++) {
        double s = 0;
        for (int i = 0; i < HS; i++) s += q[i] * (double)f16_to_f32(cache[i * 64 + j % 64]);
        sum += s = exp(s);
        for (int i = 0; i < HS; i++)
            out[i] += s * (double)f16_to_f32(cache[HS * 64 + j % 64 * HS + i]);
    }
    for (int i = 0; i < HS; i++) CHECK_NEAR(want[i], out[i] / sum, 1e-5);
    mem_free(cache), mem_free(page);
}

/* ---- the rest ---- */

static void check_elementwise(void)
{
    enum { C = 70, MAX_N = 300 };
    size_t n = (size_t)MAX_N * C;
    float *x = randoms(n, 3), *g = randoms(n, 9), *w = randoms(C, 1);
    float *y = get(n * 4), *want = get(n * 4 * 3);
    for (int N = 1; N <= MAX_N; N += 299)
        for (int t = 0; t < N_THREADS; t++) {
            dev *d = open_dev(threads[t]);
            size_t m = (size_t)N * C;
            for (int op = 0; op < 3; op++) {
                memcpy(y, x, n * 4);
                if (op == 0) d->rmsnorm(d, y, x, w, N, C, 1e-5f);
                if (op == 1) d->swiglu(d, y, g, x, (int64_t)m);
                if (op == 2) d->add(d, y, g, (int64_t)m);
                float *to = want + (size_t)op * n;
                if (t == 0) memcpy(to, y, m * 4);
                CHECK(memcmp(to, y, m * 4) == 0);
            }
            for (size_t i = 0; i < m; i++) {
                double ss = 0;
                for (int k = 0; k < C; k++) ss += pow(x[i / C * C + (size_t)k], 2);
                double a = w[i % C] * (x[i] / sqrt(ss / C + 1e-5)), b = g[i] / (1 + exp(-g[i]));
                CHECK_NEAR(want[i], a, 1e-6 * fabs(a));
                CHECK_NEAR(want[n + i], b * x[i], 1e-6 * fabs(b * x[i]));
                CHECK(want[2 * n + i] == x[i] + g[i]);
            }
            dev_close(d);
        }
    mem_free(x), mem_free(g), mem_free(w), mem_free(y), mem_free(want);
}

static void check_embed(void)
{
    enum { V = 40, C = 64, N = 5 };
    static const int32_t tok[N] = { 39, 0, 7, 7, 1 };
    float *v = get(V * C * 4), y[N * C];
    for (int i = 0; i < 3; i++) {
        wmat w = weights(mm_types[i], V, C, v);
        dev *d = open_dev(2);
        d->embed(d, y, &w, tok, N);
        for (int n = 0; n < N; n++) CHECK(!memcmp(y + n * C, v + tok[n] * C, C * 4));
        dev_close(d);
        weights_free(&w);
    }
    mem_free(v);
}

static void check_open(void)
{
    dr_err e = { 0 };
    CHECK(!dev_open(&(dev_opt){ .device = "abacus" }, &e));
    CHECK(strstr(e.msg, "abacus"));
    e = (dr_err){ 0 };
    CHECK(!dev_open(&(dev_opt){ .cpu_level = "mmx" }, &e));
    CHECK(strstr(e.msg, "mmx"));
    e = (dr_err){ 0 };
    CHECK(!dev_open(&(dev_opt){ .n_threads = -1 }, &e));
    for (long n = 0; n < 8; n++) {                  // every allocation may fail
        size_t live = mem_live_bytes();
        mem_fail_after(n);
        dev *d = dev_open(&(dev_opt){ .n_threads = 2 }, NULL);
        if (d) CHECK(d->reserve(d, 64, 4096, 32, 128, 8192, &e) == DR_OK || mem_live_bytes());
        mem_fail_after(-1);
        dev_close(d);
        CHECK(mem_live_bytes() == live);
    }
    dev *d = open_dev(1);
    size_t live = mem_live_bytes(), said = d->reserve_bytes(d, 64, 4096, 32, 128, 8192);
    CHECK(d->reserve(d, 64, 4096, 32, 128, 8192, NULL) == DR_OK);
    CHECK(mem_live_bytes() - live == said);
    dev_close(d);
}

int main(int argc, char **argv)
{
    static const struct { const char *name; void (*fn)(void); } checks[] = {
        { "open", check_open }, { "matmul", check_matmul }, { "scaled", check_scaled },
        { "attn", check_attn },
        { "attn_long", check_attn_long }, { "attn_passes", check_attn_passes },
        { "elementwise", check_elementwise }, { "embed", check_embed },
    };
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
