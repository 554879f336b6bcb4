/* test_sample.c - the sampler against textbook versions of each step, chi-square of a million
 * draws, purity of a pick, refusals, and no allocation per token. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "base/rng.h"
#include "gen/sample.h"

static dr_err err;

static sampler *make(const sample_opt *o, int32_t v)
{
    sampler *s = sampler_new(o, v, 512, &err);
    if (!s) fail_msg("%s", err.msg);
    return s;
}

static double rnd(uint64_t i) { return rng_uniform(99, 7, i); }

/* ---- textbook: the whole vocabulary sorted, f64 throughout ---- */

typedef struct { double x; int id; } cand;
static int by_logit(const void *a, const void *b)
{
    const cand *p = a, *q = b;
    return p->x > q->x ? -1 : p->x < q->x ? 1 : p->id - q->id;
}

static double total_of(const cand *c, int n)
{
    double t = 0;
    for (int i = 0; i < n; i++) t += exp(c[i].x - c[0].x);
    return t;
}

typedef struct { double far; int at; } shift;
static int by_far(const void *a, const void *b)
{
    const shift *p = a, *q = b;
    return p->far > q->far ? 1 : p->far < q->far ? -1 : p->at - q->at;
}

static int book_typical(cand *c, int n, double mass)
{
    shift *f = malloc((size_t)n * sizeof *f);
    bool *in = calloc((size_t)n, 1);
    double t = total_of(c, n), h = 0, sum = 0;
    for (int i = 0; i < n; i++) {
        double p = exp(c[i].x - c[0].x) / t;
        if (p > 0) h -= p * log(p);
    }
    for (int i = 0; i < n; i++)
        f[i] = (shift){ fabs(log(t) - (c[i].x - c[0].x) - h), i };
    qsort(f, (size_t)n, sizeof *f, by_far);
    int k = 0, m = 0;
    while (k < n) {
        in[f[k].at] = true;
        sum += exp(c[f[k++].at].x - c[0].x) / t;
        if (sum >= mass) break;
    }
    while (k < n && f[k].far == f[k - 1].far) in[f[k++].at] = true;
    for (int i = 0; i < n; i++)
        if (in[i]) c[m++] = c[i];
    free(f);
    free(in);
    return m;
}

static int book(const sample_opt *o, const float *x, int v, double u_xtc, cand *c)
{
    int n = 0;
    for (int i = 0; i < v; i++)
        if (x[i] != -INFINITY) c[n++] = (cand){ (double)x[i], i };
    qsort(c, (size_t)n, sizeof *c, by_logit);
    for (int k = 0; o->order[k] != SAMPLE_END; k++) {
        double t = total_of(c, n), before = 0;
        int m = 0;
        switch (o->order[k]) {
        case SAMPLE_TOP_K:
            if (o->top_k && n > o->top_k) n = o->top_k;
            break;
        case SAMPLE_TOP_P:
            if (o->top_p >= 1) break;
            while (m < n && (!m || before / t < (double)o->top_p))
                before += exp(c[m++].x - c[0].x);
            n = m;
            break;
        case SAMPLE_MIN_P:
            while (m < n && exp(c[m].x - c[0].x) >= (double)o->min_p) m++;
            n = m;
            break;
        case SAMPLE_TYPICAL:
            if (o->typical_p < 1) n = book_typical(c, n, (double)o->typical_p);
            break;
        case SAMPLE_XTC:
            if (u_xtc >= (double)o->xtc_probability) break;
            while (m < n && exp(c[m].x - c[0].x) / t >= (double)o->xtc_threshold) m++;
            if (m >= 2) n -= m - 1, memmove(c, c + m - 1, (size_t)n * sizeof *c);
            break;
        case SAMPLE_TEMPERATURE:
            for (int i = 0; i < n; i++) c[i].x /= (double)o->temperature;
            break;
        default: break;
        }
    }
    return n;
}

static void fill(float *x, int v, double width, uint64_t salt)
{
    for (int i = 0; i < v; i++) {
        double u = rnd(salt * 100000 + (uint64_t)i);
        x[i] = (float)(width * log(u + 1e-9) * (i % 3 ? -1 : 1));
    }
    x[v / 2] = x[v / 3];                         /* a tie */
    if (v > 4) x[1] = -INFINITY;
}

/* Random options; every filter on about half the time; the order shuffled. */
static sample_opt some_options(uint64_t salt)
{
    sample_opt o = sample_opt_default();
    const uint64_t at = 1000000000u + salt * 50;
    if (rnd(at) < 0.5) o.top_k = 1 + (int)(rnd(at + 1) * 60);
    if (rnd(at + 2) < 0.5) o.top_p = (float)rnd(at + 3);
    if (rnd(at + 4) < 0.5) o.min_p = (float)(rnd(at + 5) * 0.2);
    if (rnd(at + 6) < 0.3) o.typical_p = (float)rnd(at + 7);
    if (rnd(at + 8) < 0.5) o.xtc_probability = 0.5f, o.xtc_threshold = (float)(rnd(at + 9) * 0.3);
    if (rnd(at + 10) < 0.6) o.temperature = (float)(0.2 + rnd(at + 11) * 2);
    o.seed = salt;
    for (int i = 5; i > 0; i--) {
        int j = (int)(rnd(at + 20 + (uint64_t)i) * (i + 1));
        sample_step t = o.order[i];
        o.order[i] = o.order[j], o.order[j] = t;
    }
    return o;
}

/* Sets and probabilities equal the textbook's, and a pick is the textbook's inverse CDF. */
static void steps_equal_textbook(void **state)
{
    (void)state;
    static const int sizes[] = { 1, 2, 15, 16, 17, 50, 333, 5000 };
    static float x[5000];
    static cand c[5000];
    static double p[5000];
    int edge = 0;
    for (uint64_t t = 0; t < 800; t++) {
        int v = sizes[t % 8];
        fill(x, v, t % 5 == 0 ? 0.01 : 2.5, t);
        for (int i = 0; i < v && t % 3 == 0; i++) x[i] = rintf(x[i]);     /* many ties */
        sample_opt o = some_options(t);
        sampler *s = make(&o, v);
        uint32_t w[4];
        rng_philox(w, o.seed, 3, t);
        double u = (double)(((uint64_t)w[2] << 32 | w[3]) >> 11) * 0x1p-53;
        int n = book(&o, x, v, u, c), kept = 0;
        assert_int_equal(sampler_probs(s, x, NULL, 0, 3, t, p, &err), DR_OK);
        double tot = total_of(c, n), worst = 0, sum = 0;
        for (int i = 0; i < n; i++) {
            double d = fabs(p[c[i].id] - exp(c[i].x - c[0].x) / tot);
            if (!(d <= worst)) worst = d;
        }
        for (int i = 0; i < v; i++) kept += p[i] > 0;
        /* a cut that falls on a tie of 1e-7 may go either way: rare */
        if (!(worst < 1e-5) || kept > n) edge++;
        sample_result r;
        assert_int_equal(sampler_pick(s, x, NULL, 0, 3, t, &r, &err), DR_OK);
        double target = rng_uniform(o.seed, 3, t);
        int i = 0;
        for (; i < n; i++) {
            sum += exp(c[i].x - c[0].x) / tot;
            if (sum > target) break;
        }
        if (worst < 1e-5 && fabs(sum - target) > 1e-5) assert_int_equal(r.id, c[i].id);
        sampler_free(s);
    }
    if (edge > 4) fail_msg("%d of 800 sets differ from the textbook's", edge);
}

/* ---- draws ---- */

/* Upper tail of chi-square with k degrees of freedom, Wilson and Hilferty's approximation. */
static double chi_tail(double chi, double k)
{
    double z = (cbrt(chi / k) - (1 - 2 / (9 * k))) / sqrt(2 / (9 * k));
    return 0.5 * erfc(z / sqrt(2));
}

static double chi_of(sampler *s, const float *x, int v, bool by_sample)
{
    enum { N = 1000000 };
    static double p[512];
    static int64_t seen[512];
    memset(seen, 0, sizeof seen);
    assert_int_equal(sampler_probs(s, x, NULL, 0, 0, 0, p, &err), DR_OK);
    for (int64_t i = 0; i < N; i++) {
        sample_result r;
        if (sampler_pick(s, x, NULL, 0, by_sample ? (uint64_t)i : 5,
                         by_sample ? 5 : (uint64_t)i, &r, &err)) fail_msg("%s", err.msg);
        seen[r.id]++;
    }
    double chi = 0, rest_p = 0;
    int64_t rest = 0;
    int cells = 0;
    for (int i = 0; i < v; i++) {
        if (p[i] == 0) assert_int_equal(seen[i], 0);
        if (p[i] * N < 10) {
            rest_p += p[i], rest += seen[i];
            continue;
        }
        chi += pow((double)seen[i] - p[i] * N, 2) / (p[i] * N);
        cells++;
    }
    if (rest_p * N >= 10) chi += pow((double)rest - rest_p * N, 2) / (rest_p * N), cells++;
    return chi_tail(chi, cells - 1);
}

static void million_draws(void **state)
{
    (void)state;
    float x[200];
    fill(x, 50, 1.5, 4);
    sample_opt o = sample_opt_default();
    o.seed = 1;
    sampler *s = make(&o, 50);
    double a = chi_of(s, x, 50, false), b = chi_of(s, x, 50, true);
    sampler_free(s);
    o.temperature = 0.8f, o.top_k = 40, o.top_p = 0.95f, o.min_p = 0.01f;
    fill(x, 200, 1, 5);
    s = make(&o, 200);
    double c = chi_of(s, x, 200, false);
    sampler_free(s);
    print_message("chi-square p: by position %.3f, by sample %.3f, filtered %.3f\n", a, b, c);
    assert_true(a > 0.001 && b > 0.001 && c > 0.001);
    assert_true(a < 0.9999 && b < 0.9999 && c < 0.9999);
}

static void pick_is_pure(void **state)
{
    (void)state;
    float x[333], y[333];
    fill(x, 333, 2, 1);
    fill(y, 333, 2, 2);
    sample_opt o = sample_opt_default();
    o.top_p = 0.9f, o.typical_p = 0.95f, o.repeat_penalty = 1.2f, o.dry_multiplier = 1;
    o.xtc_probability = 0.5f, o.temperature = 0.9f;
    int32_t hist[40], first[50];
    for (int i = 0; i < 40; i++) hist[i] = (i * 7) % 20;
    sampler *s = make(&o, 333);
    sample_result r;
    for (uint64_t i = 0; i < 50; i++) {
        assert_int_equal(sampler_pick(s, x, hist, 40, 0, i, &r, &err), DR_OK);
        first[i] = r.id;
    }
    int differ = 0;
    for (uint64_t i = 50; i-- > 0; ) {           /* other order, other work in between */
        sampler_pick(s, y, hist, 11, 9, i, &r, &err);
        sampler_pick(s, x, hist, 40, 0, i, &r, &err);
        assert_int_equal(r.id, first[i]);
        sampler_pick(s, x, hist, 40, 1, i, &r, &err);
        differ += r.id != first[i];
    }
    assert_true(differ > 5);                     /* another sample number: other tokens */
    sampler_free(s);
}

static void greedy(void **state)
{
    (void)state;
    float x[20] = { 0 };
    x[7] = x[12] = 3;
    sample_opt o = sample_opt_default();
    o.temperature = 0, o.logprobs = true, o.n_probs = 3;
    sampler *s = make(&o, 20);
    sample_result r;
    assert_int_equal(sampler_pick(s, x, NULL, 0, 0, 0, &r, &err), DR_OK);
    assert_int_equal(r.id, 7);                   /* the lowest id of a tie */
    assert_int_equal(r.n_top, 3);
    assert_int_equal(r.top[0].id, 7);
    assert_int_equal(r.top[1].id, 12);
    assert_int_equal(r.top[2].id, 0);
    double t = 2 * exp(3) + 18;
    assert_true(fabs((double)r.logprob - (3 - log(t))) < 1e-6);
    assert_true(fabs((double)r.top[2].logprob + log(t)) < 1e-6);
    x[3] = -0.0f, x[7] = x[12] = -1;             /* -0 equals 0 */
    assert_int_equal(sampler_pick(s, x, NULL, 0, 0, 0, &r, &err), DR_OK);
    assert_int_equal(r.id, 0);
    sampler_free(s);

    float y[4] = { -0.0f, 0, 0, -1 };
    double p[4];
    o = sample_opt_default();
    o.top_k = 1;
    s = make(&o, 4);
    assert_int_equal(sampler_probs(s, y, NULL, 0, 0, 0, p, &err), DR_OK);
    assert_true(p[0] == 1);
    sampler_free(s);
}

static void logprobs(void **state)
{
    (void)state;
    static float x[3001];
    for (int after = 0; after < 2; after++) {
        fill(x, 3001, 2, 77);
        sample_opt o = sample_opt_default();
        o.logprobs = true, o.n_probs = 20, o.probs_after_filters = after;
        o.top_k = 10, o.temperature = 0.5f;
        sampler *s = make(&o, 3001);
        static cand c[3001];
        int n = 0;
        for (int i = 0; i < 3001; i++)
            if (x[i] != -INFINITY) c[n++] = (cand){ (double)x[i] / (after ? 0.5 : 1), i };
        qsort(c, (size_t)n, sizeof *c, by_logit);
        if (after) n = 10;
        double lt = log(total_of(c, n)) + c[0].x;
        sample_result r;
        assert_int_equal(sampler_pick(s, x, NULL, 0, 0, 4, &r, &err), DR_OK);
        assert_int_equal(r.n_top, after ? 10 : 20);
        for (int i = 0; i < r.n_top; i++) {
            assert_int_equal(r.top[i].id, c[i].id);
            assert_true(fabs((double)r.top[i].logprob - (c[i].x - lt)) < 2e-6);
        }
        int k = 0;
        while (c[k].id != r.id) k++;
        assert_true(fabs((double)r.logprob - (c[k].x - lt)) < 2e-6);
        sampler_free(s);
    }
}

/* ---- bias, penalties, DRY ---- */

static void moved(const sample_opt *o, const int32_t *h, int n, const float *x, int v, double *d)
{
    sampler *s = make(o, v);
    static double p[64];
    assert_int_equal(sampler_probs(s, x, h, n, 0, 0, p, &err), DR_OK);
    for (int i = 0; i < v; i++) d[i] = log(p[i] / p[v - 1]);     /* v-1 is never penalised */
    sampler_free(s);
}

static void penalties(void **state)
{
    (void)state;
    float x[10] = { 2, -2, 1, 0.5f, 0, 0, 0, 0, 0, 0 };
    double d[10];
    const int32_t h[] = { 3, 0, 0, 1, 0, 99, -5 };
    sample_opt o = sample_opt_default();
    o.repeat_penalty = 2, o.presence_penalty = 0.25f, o.frequency_penalty = 0.5f;
    moved(&o, h, 7, x, 10, d);
    assert_true(fabs(d[0] - (1 - 1.5 - 0.25)) < 1e-5);
    assert_true(fabs(d[1] - (-4 - 0.5 - 0.25)) < 1e-5);
    assert_true(fabs(d[2] - 1) < 1e-5);
    o.penalty_last_n = 4;                        /* { 1, 0, 99, -5 } */
    moved(&o, h, 7, x, 10, d);
    assert_true(fabs(d[3] - 0.5) < 1e-5);
    assert_true(fabs(d[0] - (1 - 0.5 - 0.25)) < 1e-5);

    o = sample_opt_default();
    const sample_bias b[] = { { 4, 1.5f }, { 2, -INFINITY } };
    o.bias = b, o.n_bias = 2;
    moved(&o, h, 7, x, 10, d);
    assert_true(fabs(d[4] - 1.5) < 1e-5);
    assert_true(d[2] == -INFINITY);
}

/* DRY by its definition: for each token, the longest suffix of the history (cut at the last
 * breaker) that occurs earlier followed by that token. */
static void dry_book(const sample_opt *o, const int32_t *h, int n, const bool *brk, double *d)
{
    for (int t = 0; t < 6; t++) {
        int best = 0;
        for (int i = 0; i < n; i++) {
            if (h[i] != t) continue;
            int k = 0;                           /* tokens before i equal to the end's */
            while (k < i && h[i - 1 - k] == h[n - 1 - k] && !brk[h[n - 1 - k]]) k++;
            if (k > best) best = k;
        }
        d[t] = best >= o->dry_allowed_length && !brk[t]
             ? (double)o->dry_multiplier * pow(o->dry_base, best - o->dry_allowed_length) : 0;
    }
}

static void dry(void **state)
{
    (void)state;
    float x[8] = { 0 };
    bool brk[8] = { false };
    double d[8], want[8];
    const int32_t breakers[] = { 5 };
    sample_opt o = sample_opt_default();
    o.dry_multiplier = 0.1f, o.dry_base = 1.2f;
    brk[5] = true;
    o.dry_breakers = breakers, o.n_dry_breakers = 1;
    int hit = 0;
    for (uint64_t t = 0; t < 2000; t++) {
        int32_t h[60];
        int n = (int)(rnd(t * 64) * 60), kinds = t % 2 ? 2 : 6;
        for (int i = 0; i < n; i++) h[i] = (int32_t)(rnd(t * 64 + 1 + (uint64_t)i) * kinds);
        o.dry_allowed_length = 1 + (int)(t % 4);
        moved(&o, h, n, x, 8, d);
        dry_book(&o, h, n, brk, want);
        for (int i = 0; i < 6; i++) {
            if (fabs(d[i] + want[i]) > 1e-4 * (1 + want[i]))
                fail_msg("case %d token %d: %g, want %g", (int)t, i, -d[i], want[i]);
            hit += want[i] > 0;
        }
    }
    assert_true(hit > 1000);
    o.dry_multiplier = 1000, o.dry_base = 1000;  /* no infinity however long the match */
    int32_t same[200] = { 0 };
    moved(&o, same, 200, x, 8, d);
    assert_true(isfinite(d[1]) && d[0] < -1e6);
}

static void xtc_rate(void **state)
{
    (void)state;
    float x[10] = { 5, 4.9f, 4.8f, 0, 0, 0, 0, 0, 0, 0 };
    sample_opt o = sample_opt_default();
    o.xtc_probability = 0.3f, o.xtc_threshold = 0.2f;
    sampler *s = make(&o, 10);
    int cut = 0, low = 0;
    double p[10];
    for (uint64_t i = 0; i < 20000; i++) {
        assert_int_equal(sampler_probs(s, x, NULL, 0, 0, i, p, &err), DR_OK);
        if (p[0] == 0) {
            assert_true(p[1] == 0 && p[2] > 0.9);
            cut++;
            low += rng_uniform(o.seed, 0, i) < 0.5;
        }
    }
    assert_in_range(cut, 5700, 6300);
    assert_in_range(low, cut * 45 / 100, cut * 55 / 100);   /* independent of the draw's number */
    sampler_free(s);
}

/* ---- refusals and memory ---- */

/* A mask is the same as -inf in the logits: picks, distribution, greedy; and it can be taken off. */
static void mask(void **state)
{
    (void)state;
    enum { V = 333 };
    float x[V], y[V];
    double p[V], q[V];
    uint64_t bits[(V + 63) / 64];
    int32_t h[40];
    for (int i = 0; i < 40; i++) h[i] = (int32_t)(rnd((uint64_t)i) * V);
    for (uint64_t k = 0; k < 60; k++) {
        sample_opt o = sample_opt_default();
        o.temperature = k % 3 ? 1.3f : 0, o.top_p = 0.9f, o.min_p = 0.01f, o.top_k = k % 2 ? 40 : 0;
        o.repeat_penalty = 1.3f, o.seed = k;
        if (k % 5 == 1) o.typical_p = 0.8f;
        sampler *s = make(&o, V);
        sample_result a, b, c, d;
        fill(x, V, 4, k);
        memset(bits, 0, sizeof bits);
        for (int i = 0; i < V; i++) {
            bool on = rnd(1000 * k + (uint64_t)i) < (k < 20 ? 0.02 : 0.5) || i == 7;
            if (on) bits[i >> 6] |= (uint64_t)1 << (i & 63);
            y[i] = on ? x[i] : -INFINITY;
        }
        assert_int_equal(sampler_pick(s, x, h, 40, 0, k, &c, &err), 0);
        assert_int_equal(sampler_pick(s, y, h, 40, 0, k, &a, &err), 0);
        assert_int_equal(sampler_probs(s, y, h, 40, 0, k, p, &err), 0);
        sampler_mask(s, bits);
        assert_int_equal(sampler_pick(s, x, h, 40, 0, k, &b, &err), 0);
        assert_int_equal(sampler_probs(s, x, h, 40, 0, k, q, &err), 0);
        assert_int_equal(a.id, b.id);
        assert_memory_equal(p, q, sizeof p);
        assert_true(bits[b.id >> 6] >> (b.id & 63) & 1);
        sampler_mask(s, NULL);
        assert_int_equal(sampler_pick(s, x, h, 40, 0, k, &d, &err), 0);
        assert_int_equal(c.id, d.id);
        sampler_free(s);
    }
}

static void refusals(void **state)
{
    (void)state;
    sample_opt o = sample_opt_default();
    sampler *s = make(&o, 40);
    float x[40] = { 0 };
    sample_result r;
    for (int i = 0; i < 40; i += 39) {
        x[i] = NAN;
        err = (dr_err){ 0 };
        assert_int_equal(sampler_pick(s, x, NULL, 0, 0, 0, &r, &err), DR_EINVAL);
        assert_non_null(strstr(err.msg, i ? "token 39 is NaN" : "token 0 is NaN"));
        x[i] = INFINITY;
        assert_int_equal(sampler_pick(s, x, NULL, 0, 0, 0, &r, NULL), DR_EINVAL);
        x[i] = 0;
    }
    for (int i = 0; i < 40; i++) x[i] = -INFINITY;
    assert_int_equal(sampler_pick(s, x, NULL, 0, 0, 0, &r, NULL), DR_EINVAL);
    x[11] = -3e38f;
    assert_int_equal(sampler_pick(s, x, NULL, 0, 0, 0, &r, NULL), DR_OK);
    assert_int_equal(r.id, 11);
    sampler_free(s);

    struct { float *f; float bad; } f[] = {
        { &o.temperature, -1 }, { &o.temperature, NAN }, { &o.top_p, 1.5f }, { &o.min_p, -0.1f },
        { &o.typical_p, 2 }, { &o.repeat_penalty, 0 }, { &o.xtc_probability, 1.1f },
    };
    for (size_t i = 0; i < sizeof f / sizeof f[0]; i++) {
        float was = *f[i].f;
        *f[i].f = f[i].bad;
        assert_null(sampler_new(&o, 40, 8, NULL));
        *f[i].f = was;
    }
    const sample_bias b = { 40, 1 };
    o.bias = &b, o.n_bias = 1;
    assert_null(sampler_new(&o, 40, 8, NULL));
    err = (dr_err){ 0 };
    assert_int_equal(sample_order_parse(&o, "top_k,topp", &err), DR_EINVAL);
    assert_non_null(strstr(err.msg, "topp"));
    assert_int_equal(sample_order_parse(&o, "xtc,xtc", NULL), DR_EINVAL);
    assert_int_equal(sample_order_parse(&o, "temperature, top_p", NULL), DR_OK);
    assert_true(o.order[0] == SAMPLE_TEMPERATURE && o.order[1] == SAMPLE_TOP_P
                && o.order[2] == SAMPLE_END);
}

static void memory(void **state)
{
    (void)state;
    static float x[5000];
    fill(x, 5000, 2, 3);
    const sample_bias b = { 4, 1 };
    const int32_t brk = 3, h[] = { 1, 2, 1, 2, 1, 2 };
    sample_opt o = sample_opt_default();
    o.top_k = 400, o.top_p = 0.99f, o.typical_p = 0.95f, o.min_p = 0.001f, o.temperature = 0.9f;
    o.dry_multiplier = 1, o.repeat_penalty = 1.1f, o.xtc_probability = 0.5f;
    o.bias = &b, o.n_bias = 1, o.dry_breakers = &brk, o.n_dry_breakers = 1;
    o.logprobs = true, o.n_probs = 20;
    size_t live = mem_live_bytes();
    sampler *s = NULL;
    int tries = 0;
    for (; !s; tries++) {
        mem_fail_after(tries);
        dr_err e = { 0 };
        s = sampler_new(&o, 5000, 100, &e);
        mem_fail_after(-1);
        if (!s) {
            assert_int_equal(e.code, DR_ENOMEM);
            assert_int_equal(mem_live_bytes(), live);
        }
    }
    assert_in_range(tries, 5, 20);
    long before = mem_count();
    sample_result r;
    for (uint64_t i = 0; i < 100; i++)
        assert_int_equal(sampler_pick(s, x, h, 6, 0, i, &r, &err), DR_OK);
    assert_int_equal(mem_count(), before);
    sampler_free(s);
    assert_int_equal(mem_live_bytes(), live);
}

static void generation_config(void **state)
{
    (void)state;
    sample_opt o = sample_opt_default();
    json_t *j = json_loads("{\"do_sample\": true, \"temperature\": 0.6, \"top_p\": 0.9,"
                           "\"top_k\": 50, \"max_length\": 4096}", 0, NULL);
    assert_int_equal(sample_opt_generation_config(&o, j, &err), DR_OK);
    assert_true(o.temperature == 0.6f && o.top_p == 0.9f && o.top_k == 50);
    json_object_set_new(j, "do_sample", json_false());
    assert_int_equal(sample_opt_generation_config(&o, j, &err), DR_OK);
    assert_true(o.temperature == 0);
    json_object_set_new(j, "top_p", json_string("x"));
    assert_int_equal(sample_opt_generation_config(&o, j, NULL), DR_EFORMAT);
    json_decref(j);
}

int main(void)
{
    const struct CMUnitTest t[] = {
        cmocka_unit_test(steps_equal_textbook), cmocka_unit_test(million_draws),
        cmocka_unit_test(pick_is_pure), cmocka_unit_test(greedy), cmocka_unit_test(logprobs),
        cmocka_unit_test(penalties), cmocka_unit_test(dry), cmocka_unit_test(xtc_rate),
        cmocka_unit_test(mask), cmocka_unit_test(refusals), cmocka_unit_test(memory),
        cmocka_unit_test(generation_config),
    };
    return cmocka_run_group_tests(t, NULL, NULL);
}
