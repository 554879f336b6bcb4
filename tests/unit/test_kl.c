/* test_kl.c - reference log-probabilities: what is read is what was written, within a step; damaged
 * and lying files are refused; and the measure against the definition, in double. */
#define _GNU_SOURCE
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/mem.h"
#include "eval/kl.h"
#include "pack/synth.h"
#include "hostile.h"

enum { V = 131, CTX = 6, WINDOWS = 2, ROWS = WINDOWS * (CTX - 1) };
static char path[] = "/tmp/drover-kl-XXXXXX";
static int32_t ids[WINDOWS * CTX];
static float logits[ROWS * V];
static os_file file;

/* Rows of different ranges; one flat, one where two are equally likely. */
static int set_up(void **state)
{
    (void)state;
    uint32_t seed = 1;
    for (int i = 0; i < WINDOWS * CTX; i++) ids[i] = i * 29 % V;
    for (int i = 0; i < ROWS * V; i++) {
        seed = seed * 1664525u + 1013904223u;
        logits[i] = ((float)(seed >> 8) / 0x1p24f - 0.5f) * (float)(4 << i / V % 5);
        if (i / V == 3) logits[i] = 2.5f;
    }
    logits[4 * V + 90] = logits[4 * V + 17] = 60;
    int fd = mkstemp(path);
    if (fd < 0) return -1;
    close(fd);
    dr_err e = {0};
    logit_writer w;
    int rc = logit_begin(&w, path, V, CTX, WINDOWS, ids, &e);
    void *row = mem_zalloc(1, w.row_bytes);
    for (int i = 0; i < ROWS && !rc; i++) {
        logit_encode(&w, logits + i * V, ids[i / (CTX - 1) * CTX + i % (CTX - 1) + 1], row);
        rc = logit_put(&w, row, 1, &e);
    }
    if (!rc) rc = logit_end(&w, &e);
    mem_free(row);
    return rc || os_map(&file, path, &e);
}

static int tear_down(void **state)
{
    (void)state;
    os_unmap(&file);
    unlink(path);
    return 0;
}

static double lse(const float *x)
{
    double s = 0;
    for (int i = 0; i < V; i++) s += exp((double)x[i]);
    return log(s);
}

static void what_was_written(void **state)
{
    (void)state;
    dr_err e = {0};
    logit_file l;
    if (logit_file_open(&l, path, &e)) fail_msg("%s", e.msg);
    assert_true(l.V == V && l.ctx == CTX && l.windows == WINDOWS && l.first == 0 && !l.peer);
    assert_memory_equal(l.ids, ids, sizeof ids);
    for (int i = 0; i < ROWS; i++) {
        logit_row r;
        if (logit_file_row(&l, i / (CTX - 1), i % (CTX - 1), &r, &e)) fail_msg("%s", e.msg);
        const float *x = logits + i * V;
        double z = lse(x), sum = 0;
        int next = ids[i / (CTX - 1) * CTX + i % (CTX - 1) + 1];
        assert_true(fabs(r.next - ((double)x[next] - z)) < 1e-7);
        for (int k = 0; k < V; k++) {
            double lp = r.at + r.step * r.codes[k], off = 0.51 * fabs(r.step) + 1e-5;
            for (int j = 0; j < r.n_exact; j++)
                if (r.exact[j].id == k) lp = r.at - (double)r.exact[j].below, off = 1e-5;
            sum += exp(lp);
            assert_true(fabs(lp - ((double)x[k] - z)) <= off);
        }
        assert_true(fabs(sum - 1) < 1e-12);
        assert_int_equal(r.top, i == 4 ? 17 : r.top);
        for (int k = 0; k < V; k++) assert_true(x[k] < x[r.top] || (x[k] == x[r.top] && k >= r.top));
    }
    logit_file_close(&l);
}

static int parse(const void *p, size_t n, dr_err *e)
{
    logit_file l;
    int rc = logit_file_parse(&l, p, n, e);
    for (int64_t w = 0; !rc && w < l.windows; w++)
        for (int i = l.first; !rc && i < l.ctx - 1; i++) {
            logit_row r;
            rc = logit_file_row(&l, w, i, &r, e);
            if (!rc) assert_true(isfinite(r.at) && r.n_exact <= 64 && isfinite(r.step) && r.top >= 0 && r.top < l.V);
        }
    return rc;
}

static void refused(size_t at, const void *with, size_t n, const char *why)
{
    uint8_t *p = mem_alloc(file.n);
    dr_err e;
    memcpy(p, file.p, file.n);
    memcpy(p + at, with, n);
    int rc = hostile_once(parse, p, file.n, &e);
    if (rc != DR_EFORMAT || !strstr(e.msg, why)) fail_msg("wanted \"%s\", got %d %s", why, rc, e.msg);
    mem_free(p);
}

static void lies(void **state)
{
    (void)state;
    uint32_t big = 0x7fffffff, zero = 0, one = 1;
    int32_t id = V;
    uint64_t many = 1ull << 60;
    refused(0, "DRVRLGT9", 8, "not a file of reference logits");
    refused(8, &zero, 4, "vocabulary of 0");
    refused(8, &big, 4, "vocabulary of 2147483647");
    refused(12, &one, 4, "windows of 1");
    refused(12, &big, 4, "windows of 2147483647");
    refused(16, &many, 8, "cut short");
    refused(24 + 8, &id, 4, "id 131");
    refused(file.n - 300, "\xaa", 1, "checksum");
    hostile_truncate(parse, file.p, file.n);
    hostile_flip(parse, file.p, file.n, 7);
}

/* Damage anywhere but in the padding after the ids is seen. */
static void every_bit_counts(void **state)
{
    (void)state;
    uint8_t *p = mem_alloc(file.n);
    memcpy(p, file.p, file.n);
    for (size_t i = 24 + sizeof ids; i < file.n; i += 5) {
        dr_err e = {0};
        p[i] ^= 16;
        if (parse(p, file.n, &e) == DR_OK) fail_msg("byte %zu changed and nothing was said", i);
        p[i] ^= 16;
    }
    mem_free(p);
}

/* llama-perplexity's layout, as its source writes it: values are cut off at 16 nats. */
static void a_peers_file(void **state)
{
    (void)state;
    enum { C = 8, PV = 5, NV = 2 * ((PV + 1) / 2) + 4 };
    const float x[PV] = { 1, 3, -20, 0.5f, 2.9f };
    const int32_t head[3] = { C, PV, 1 }, tok[C] = { 0, 1, 2, 3, 4, 0, 1, 2 };
    uint16_t row[NV] = { 0 };
    double s = 0;
    for (int i = 0; i < PV; i++) s += exp((double)x[i]);
    float low = 3 - 16.0f, at = (float)((double)low - log(s)), step = 16 / 65535.f;
    memcpy(row, &step, 4), memcpy(row + 2, &at, 4);
    for (int i = 0; i < PV; i++) row[4 + i] = x[i] > low ? (uint16_t)lrintf((x[i] - low) / step) : 0;
    buf b = { .cap_max = 4096 };
    buf_puts(&b, "_logits_");
    buf_put(&b, head, sizeof head);
    buf_put(&b, tok, sizeof tok);
    for (int i = 0; i < C - 1 - C / 2; i++) buf_put(&b, row, sizeof row);
    logit_file l;
    logit_row r;
    dr_err e = {0};
    void *p = mem_alloc(b.n);
    memcpy(p, b.p, b.n);
    if (logit_file_parse(&l, p, b.n, &e)) fail_msg("%s", e.msg);
    assert_true(l.peer && l.first == 4 && l.ctx == C && l.V == PV && l.windows == 1);
    if (logit_file_row(&l, 0, 5, &r, &e)) fail_msg("%s", e.msg);
    assert_int_equal(r.top, 1);
    for (int i = 0; i < PV; i++)
        assert_true(fabs(r.at + r.step * r.codes[i] - ((i == 2 ? low : x[i]) - log(s))) < 3e-4);
    assert_true(fabs(r.next - ((double)x[1] - log(s))) < 3e-4);
    hostile_truncate(parse, p, b.n);
    hostile_flip(parse, p, b.n, 1);
    mem_free(p);
    buf_free(&b);
}

/* ---- the measure, on random models */

enum { MV = 300, MCTX = 40, N = 3 * MCTX };
static int32_t text[N];

typedef struct { void *bytes; size_t n; model *m; } loaded;

static loaded open_model(uint64_t seed, int threads)
{
    dr_err e = {0};
    loaded l = {0};
    synth_opt o = { .seed = seed };
    pool *p = pool_new(1, &e);
    assert_int_equal(synth_shape_read(&o.shape, "dim=64,layers=2,heads=2,kv_heads=1,head_dim=32,"
                                      "ffn=96,vocab=300,ctx=64,tied=0,std=0.2", &e), DR_OK);
    assert_int_equal(synth_types_read(&o.types, "F32", &e), DR_OK);
    assert_int_equal(synth_memory(&o, &l.bytes, &l.n, p, &e), DR_OK);
    pool_free(p);
    l.m = model_from_tensors(tensors_parse(l.bytes, l.n, &e), &(dev_opt){ .n_threads = threads }, &e);
    if (!l.m) fail_msg("%s", e.msg);
    return l;
}

static void shut(loaded *l)
{
    model_close(l->m);
    mem_pages_free(l->bytes, l->n);
}

static int keep(void *arg, int first, int rows, const float *x, dr_err *e)
{
    (void)e;
    memcpy((float *)arg + (size_t)first * MV, x, (size_t)rows * MV * sizeof *x);
    return DR_OK;
}

static float *all_logits(const model *m)
{
    dr_err e = {0};
    float *y = calloc((size_t)N * MV, sizeof *y);
    session *s = session_new(m, &(session_opt){ .n_ctx = MCTX, .kv_set = true }, &e);
    for (int w = 0; w < N / MCTX; w++) {
        session_truncate(s, 0);
        assert_int_equal(session_all_logits(s, text + w * MCTX, MCTX, keep,
                                            y + (size_t)w * MCTX * MV, &e), DR_OK);
    }
    session_free(s);
    return y;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void against_the_definition(void **state)
{
    (void)state;
    dr_err e = {0};
    for (int i = 0; i < N; i++) text[i] = (i * 37 + i * i * 11 + 5) % MV;
    char ref[] = "/tmp/drover-kl-ref-XXXXXX";
    close(mkstemp(ref));
    loaded p = open_model(1, 2), q = open_model(2, 3);
    session_opt so = { .n_ctx = MCTX, .n_rows = 17, .kv_set = true };
    session *ps = session_new(p.m, &so, &e), *qs = session_new(q.m, &so, &e);
    ppl_result plain, saved;
    kl_result same, r;
    logit_file l;
    assert_int_equal(ppl_measure(ps, text, N, MCTX, &plain, NULL, NULL, &e), DR_OK);
    if (kl_save(ps, ref, text, N, MCTX, &saved, NULL, NULL, &e)) fail_msg("%s", e.msg);
    assert_memory_equal(&plain, &saved, sizeof plain);
    if (logit_file_open(&l, ref, &e)) fail_msg("%s", e.msg);
    if (kl_measure(ps, &l, -1, &same, NULL, NULL, &e)) fail_msg("%s", e.msg);
    assert_true(same.mean >= 0 && same.mean < 1e-9 && same.max < 1e-8 && same.same_top == 1);
    assert_true(fabs(same.dp_rms) < 1e-12 && fabs(same.ref.nll - plain.nll) < 1e-12);
    if (kl_measure(qs, &l, -1, &r, NULL, NULL, &e)) fail_msg("%s", e.msg);

    float *px = all_logits(p.m), *qx = all_logits(q.m);
    double kl[N], mean = 0, dp = 0, dp2 = 0, nll = 0;
    int n = 0, tops = 0;
    for (int i = 0; i < N; i++) {
        if (i % MCTX == MCTX - 1) continue;
        const float *a = px + (size_t)i * MV, *b = qx + (size_t)i * MV;
        double za = 0, zb = 0;
        int ta = 0, tb = 0;
        kl[n] = 0;
        for (int k = 0; k < MV; k++) za += exp((double)a[k]), zb += exp((double)b[k]);
        for (int k = 0; k < MV; k++) {
            kl[n] += exp((double)a[k]) / za * ((double)a[k] - log(za) - (double)b[k] + log(zb));
            if (a[k] > a[ta]) ta = k;
            if (b[k] > b[tb]) tb = k;
        }
        double d = exp((double)b[text[i + 1]]) / zb - exp((double)a[text[i + 1]]) / za;
        nll -= (double)b[text[i + 1]] - log(zb);
        mean += kl[n++], dp += d, dp2 += d * d, tops += ta == tb;
    }
    qsort(kl, (size_t)n, sizeof *kl, ascending);
    assert_true(r.ours.tokens == n && n == N - 3);
    assert_true(fabs(r.mean - mean / n) < 1e-6 && r.mean > 0.01);
    assert_true(fabs(r.max - kl[n - 1]) < 1e-5);
    assert_true(fabs(r.p50 - kl[(n - 1) / 2]) < 1e-5);           // n is odd
    assert_true(r.p50 < r.p90 && r.p90 < r.p95 && r.p95 < r.p99 && r.p99 < r.p999 && r.p999 < r.max);
    assert_true(fabs(r.same_top - (double)tops / n) < 1e-12);
    assert_true(fabs(r.dp_mean - dp / n) < 1e-9 && fabs(r.dp_rms - sqrt(dp2 / n)) < 1e-9);
    assert_true(fabs(r.ours.nll - nll / n) < 1e-7 && fabs(r.ref.nll - plain.nll) < 1e-12);
    free(px), free(qx);

    e = (dr_err){0};                             // another vocabulary; a window too long
    l.V = 299;
    assert_int_equal(kl_measure(qs, &l, -1, &r, NULL, NULL, &e), DR_EINVAL);
    l.V = MV, l.ctx = 100;
    assert_int_equal(kl_measure(qs, &l, -1, &r, NULL, NULL, &e), DR_EINVAL);
    logit_file_close(&l);
    session_free(ps), session_free(qs);
    shut(&p), shut(&q);
    unlink(ref);
}

/* A file that cannot be written or ids that cannot be evaluated leave nothing behind. */
static void nothing_is_left(void **state)
{
    (void)state;
    dr_err e = {0};
    loaded p = open_model(1, 1);
    session *s = session_new(p.m, &(session_opt){ .n_ctx = MCTX }, &e);
    ppl_result r;
    assert_int_equal(kl_save(s, "/nowhere/x", text, N, MCTX, &r, NULL, NULL, &e), DR_EIO);
    e = (dr_err){0};
    int32_t bad[MCTX] = { 0, MV };
    assert_int_equal(kl_save(s, "/tmp/drover-kl-none", bad, MCTX, MCTX, &r, NULL, NULL, &e), DR_EINVAL);
    assert_int_not_equal(access("/tmp/drover-kl-none", F_OK), 0);
    assert_int_not_equal(access("/tmp/drover-kl-none.part", F_OK), 0);
    session_free(s);
    shut(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written), cmocka_unit_test(lies), cmocka_unit_test(every_bit_counts),
        cmocka_unit_test(a_peers_file), cmocka_unit_test(against_the_definition),
        cmocka_unit_test(nothing_is_left),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
