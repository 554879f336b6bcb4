/* test_model.c - the promises of docs/numerics.md, bit by bit, for every weight type and level:
 * threads, chunks, batch, prefix reuse, shared pages, containers, saved state; and that a decode
 * step allocates nothing. Models are random and small; their shapes have odd remainders. */
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
#include "gen/session.h"
#include "kern/kern.h"
#include "pack/synth.h"

enum { N = 90, V = 300 };
static const char shape[] = "dim=256,layers=2,heads=4,kv_heads=2,head_dim=64,ffn=512,vocab=300,"
                            "ctx=4096,tied=0,std=0.05,rope_factor=8,rope_low=1,rope_high=4,"
                            "rope_orig=8192,theta=500000";
static const char *const types[] = { "F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0",
                                     "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q4_K_M", "IQ4_NL", "IQ4_XS",
                                     "IQ3_S", "IQ3_XXS", "IQ2_S", "IQ2_XS", "IQ2_XXS", "MXFP4" };
enum { N_TYPES = sizeof types / sizeof *types };
static int32_t tok[N];

typedef struct { void *bytes; size_t n; } image;

static image make_shape(const char *dims, const char *type)
{
    dr_err e = {0};
    image im = {0};
    synth_opt o = { .seed = 7 };
    pool *p = pool_new(1, &e);
    assert_non_null(p);
    assert_int_equal(synth_shape_read(&o.shape, dims, &e), DR_OK);
    assert_int_equal(synth_types_read(&o.types, type, &e), DR_OK);
    assert_int_equal(synth_memory(&o, &im.bytes, &im.n, p, &e), DR_OK);
    pool_free(p);
    return im;
}

static image make(const char *type) { return make_shape(shape, type); }

static model *open_image(image im, const char *level, int threads)
{
    dr_err e = {0};
    tensors *ts = tensors_parse(im.bytes, im.n, &e);
    if (!ts) fail_msg("%s", e.msg);
    dev_opt o = { .n_threads = threads, .cpu_level = level };
    model *m = model_from_tensors(ts, &o, &e);
    if (!m) fail_msg("%s", e.msg);
    return m;
}

static int keep(void *arg, int first, int rows, const float *logits, dr_err *e)
{
    (void)e;
    memcpy((float *)arg + (size_t)first * V, logits, (size_t)rows * V * sizeof *logits);
    return DR_OK;
}

/* (N,V) logits of tok in steps of `rows`. */
static float *logits_of(const model *m, int rows, kv_type kv)
{
    dr_err e = {0};
    session_opt o = { .n_ctx = N, .n_rows = rows, .kv_set = true, .kv = kv };
    session *s = session_new(m, &o, &e);
    if (!s) fail_msg("%s", e.msg);
    float *y = calloc((size_t)N * V, sizeof *y);
    assert_int_equal(session_all_logits(s, tok, N, keep, y, &e), DR_OK);
    session_free(s);
    return y;
}

static void same(const float *a, const float *b, size_t n, const char *what, const char *type,
                 const char *level)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(&a[i], &b[i], sizeof *a))
            fail_msg("%s %s, %s: value %zu is %.9g, %.9g is wanted", type, level, what, i,
                     (double)b[i], (double)a[i]);
}

/* The batch of eight: sequence j holds tok rotated by j, and is fed one token a step. */
static void check_batch(const model *m, kv_type kt, const char *type, const char *level)
{
    enum { B = 8, T = 70 };
    dr_err e = {0};
    float *alone = calloc((size_t)B * V, sizeof *alone), *got = calloc((size_t)B * V, sizeof *got);
    for (int j = 0; j < B; j++) {
        session_opt o = { .n_ctx = T, .n_rows = 33, .kv_set = true, .kv = kt };
        session *s = session_new(m, &o, &e);
        int32_t t[T];
        for (int i = 0; i < T; i++) t[i] = tok[(i + j) % N];
        assert_int_equal(session_append(s, t, T, NULL, &e), DR_OK);
        memcpy(alone + j * V, session_logits(s), V * sizeof *alone);
        session_free(s);
    }
    workspace ws;
    kv_cache kv;
    kv_seq seq[B];
    assert_int_equal(workspace_init(&ws, m, B, B, T, &e), DR_OK);
    assert_int_equal(kv_init(&kv, m->d, kt, 2, 2, 64, B * 2 * KV_PAGE, &e), DR_OK);
    for (int j = 0; j < B; j++) assert_int_equal(kv_seq_init(&seq[j], T, &e), DR_OK);
    for (int i = 0; i < T; i++) {
        seq_run run[B];
        int32_t t[B], out[B];
        for (int j = 0; j < B; j++) {
            assert_int_equal(kv_grow(&kv, &seq[j], 1, &e), DR_OK);
            t[j] = tok[(i + j) % N], out[j] = j;
            run[j] = (seq_run){ j, 1, i, seq[j].page };
        }
        model_forward(m, &ws, &kv, t, B, run, B, out, B);
        for (int j = 0; j < B; j++) kv_advance(&seq[j], 1);
    }
    memcpy(got, ws.logits, (size_t)B * V * sizeof *got);
    same(alone, got, (size_t)B * V, "batch of 8", type, level);
    for (int j = 0; j < B; j++) kv_seq_free(&kv, &seq[j]);
    kv_free(&kv);
    workspace_free(&ws);
    free(alone);
    free(got);
}

static void check_type(const char *type, const char *level, const float *across)
{
    static const int chunks[] = { 1, 7, 16, 64, N }, threads[] = { 2, 3, 7 };
    image im = make(type);
    model *m = open_image(im, level, 1);
    float *want = logits_of(m, N, KV_F32);
    float worst = 0;
    for (int i = 0; i < N * V; i++) {
        assert_true(want[i] == want[i]);
        if (fabsf(want[i]) > worst) worst = fabsf(want[i]);
    }
    assert_true(worst > 0.01f);                  // the comparison is not one of zeros
    for (size_t c = 0; c < sizeof chunks / sizeof *chunks; c++) {
        float *y = logits_of(m, chunks[c], KV_F32);
        same(want, y, (size_t)N * V, "chunks", type, level);
        free(y);
    }
    check_batch(m, KV_F16, type, level);
    model_close(m);
    for (size_t t = 0; t < sizeof threads / sizeof *threads; t++) {
        m = open_image(im, level, threads[t]);
        float *y = logits_of(m, 64, KV_F32);
        same(want, y, (size_t)N * V, "threads", type, level);
        free(y);
        model_close(m);
    }
    if (across && strcmp(type, "BF16")) same(across, want, (size_t)N * V, "levels", type, level);
    free(want);
    mem_pages_free(im.bytes, im.n);
}

static void bits_do_not_depend_on_how(void **state)
{
    (void)state;
    unsigned cpu = cpu_detect();
    for (int t = 0; t < N_TYPES; t++) {
        image im = make(types[t]);
        model *m = open_image(im, "ref", 1);
        float *ref = logits_of(m, N, KV_F32);
        model_close(m);
        mem_pages_free(im.bytes, im.n);
        for (int l = 1; l < n_kern_levels; l++) {
            if ((kern_levels[l].need & cpu) != kern_levels[l].need) {
                if (!t) print_message("skip level %s: not on this CPU\n", kern_levels[l].name);
                continue;
            }
            check_type(types[t], kern_levels[l].name, ref);
        }
        free(ref);
    }
}

/* Every type of cache: chunks, threads, batch, prefix reuse, levels; and that each is its own. */
static void every_cache_type(void **state)
{
    (void)state;
    dr_err e = {0};
    image im = make("F32");
    float *first[KV_N_TYPES] = { 0 };
    unsigned cpu = cpu_detect();
    for (int l = 0; l < n_kern_levels; l++) {
        const char *level = kern_levels[l].name;
        if ((kern_levels[l].need & cpu) != kern_levels[l].need) continue;
        for (int t = 0; t < KV_N_TYPES; t++) {
            const char *name = kv_types[t].name;
            model *m = open_image(im, level, 1), *m3 = open_image(im, level, 3);
            float *want = logits_of(m, N, (kv_type)t);
            static const int chunks[] = { 1, 13, 64 };
            for (int c = 0; c < 3; c++) {
                float *y = logits_of(c ? m3 : m, chunks[c], (kv_type)t);
                same(want, y, (size_t)N * V, "chunks and threads", name, level);
                free(y);
            }
            check_batch(m3, (kv_type)t, name, level);
            session_opt o = { .n_ctx = 128, .kv_set = true, .kv = (kv_type)t };
            session *s = session_new(m3, &o, &e);
            int32_t other[N];
            memcpy(other, tok, sizeof other);
            other[70] = (other[70] + 1) % V;
            int reused = 0;
            assert_int_equal(session_sync(s, other, N, NULL, NULL, &e), DR_OK);
            assert_int_equal(session_sync(s, tok, N, &reused, NULL, &e), DR_OK);
            assert_int_equal(reused, 70);
            same(want + (N - 1) * V, session_logits(s), V, "prefix reuse", name, level);
            session_free(s);
            model_close(m);
            model_close(m3);
            if (first[t]) same(first[t], want, (size_t)N * V, "levels", name, level);
            for (int u = 0; u < t; u++)
                assert_int_not_equal(memcmp(first[u], want, (size_t)N * V * sizeof *want), 0);
            if (first[t]) free(want);
            else first[t] = want;
        }
    }
    double err[KV_N_TYPES] = { 0 };              // finer types are nearer to F32
    for (int t = 0; t < KV_N_TYPES; t++)
        for (size_t i = 0; i < (size_t)N * V; i++)
            err[t] += pow((double)first[t][i] - (double)first[KV_F32][i], 2);
    assert_true(err[KV_F16] < err[KV_BF16] && err[KV_F16] < err[KV_Q8_0]);
    assert_true(err[KV_Q8_0] * 20 < err[KV_Q4_0] && err[KV_Q4_0] > 0);
    for (int t = 0; t < KV_N_TYPES; t++) free(first[t]);
    mem_pages_free(im.bytes, im.n);
}

/* Blocks of 32 along the head: other heads are refused, with both numbers. */
static void cache_of_odd_heads(void **state)
{
    (void)state;
    dr_err e = {0};
    image im = make_shape("dim=96,layers=1,heads=2,kv_heads=1,head_dim=48,ffn=64,vocab=300,ctx=64",
                          "F32");
    model *m = open_image(im, NULL, 1);
    for (int t = KV_Q8_0; t <= KV_Q4_0; t++) {
        e = (dr_err){0};
        assert_null(session_new(m, &(session_opt){ .kv_set = true, .kv = (kv_type)t }, &e));
        assert_int_equal(e.code, DR_EUNSUPPORTED);
        assert_non_null(strstr(e.msg, "32"));
        assert_non_null(strstr(e.msg, "48"));
    }
    model_close(m);
    mem_pages_free(im.bytes, im.n);
}

static void prefix_and_truncation(void **state)
{
    (void)state;
    dr_err e = {0};
    image im = make("Q4_K_M");
    model *m = open_image(im, NULL, 2);
    session_opt o = { .n_ctx = 256 };
    session *a = session_new(m, &o, &e), *b = session_new(m, &o, &e);
    float want[V];
    assert_int_equal(session_sync(a, tok, N, NULL, NULL, &e), DR_OK);
    memcpy(want, session_logits(a), sizeof want);
    int32_t other[N];
    memcpy(other, tok, sizeof other);
    other[66] = (other[66] + 1) % V;
    int reused = -1;
    assert_int_equal(session_sync(b, other, N, &reused, NULL, &e), DR_OK);
    assert_int_equal(reused, 0);
    assert_int_equal(session_sync(b, tok, N, &reused, NULL, &e), DR_OK);
    assert_int_equal(reused, 66);
    same(want, session_logits(b), V, "prefix reuse", "Q4_K_M", "best");
    assert_int_equal(session_sync(b, tok, N, &reused, NULL, &e), DR_OK);
    assert_int_equal(reused, N);
    assert_int_equal(session_sync(b, tok, 40, &reused, NULL, &e), DR_OK);
    assert_int_equal(reused, 39);                // its logits must be made again
    session_free(a);
    session_free(b);
    model_close(m);
    mem_pages_free(im.bytes, im.n);
}

static void save_and_load(kv_type kt, kv_type other)
{
    dr_err e = {0};
    char path[] = "/tmp/drover-state-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    image im = make("Q8_0");
    model *m = open_image(im, NULL, 2);
    session_opt o = { .n_ctx = 128, .kv_set = true, .kv = kt }, p = o;
    p.kv = other;
    session *a = session_new(m, &o, &e), *b = session_new(m, &o, &e), *alien = session_new(m, &p, &e);
    assert_int_equal(session_append(a, tok, 70, NULL, &e), DR_OK);
    assert_int_equal(session_save(a, path, &e), DR_OK);
    assert_int_equal(session_append(a, tok + 70, 5, NULL, &e), DR_OK);
    assert_int_equal(session_load(b, path, &e), DR_OK);
    assert_int_equal(session_load(alien, path, &e), DR_EINVAL);      // another type of cache
    session_free(alien);
    assert_int_equal(session_len(b), 70);
    assert_int_equal(session_append(b, tok + 70, 5, NULL, &e), DR_OK);
    same(session_logits(a), session_logits(b), V, "state", "Q8_0", "best");
    /* damage: each of some bytes, and a cut */
    FILE *f = fopen(path, "r+b");
    for (long at = 0; at < 4000; at += 401) {
        fseek(f, at, SEEK_SET);
        int c = fgetc(f);
        fseek(f, at, SEEK_SET);
        fputc(c ^ 4, f);
        fflush(f);
        dr_err bad = {0};
        assert_int_not_equal(session_load(b, path, &bad), DR_OK);
        assert_true(bad.msg[0]);
        fseek(f, at, SEEK_SET);
        fputc(c, f);
        fflush(f);
    }
    fclose(f);
    assert_int_equal(truncate(path, 3000), 0);
    assert_int_not_equal(session_load(b, path, &(dr_err){0}), DR_OK);
    unlink(path);
    session_free(a);
    session_free(b);
    model_close(m);
    mem_pages_free(im.bytes, im.n);
}

static void saved_state(void **state)
{
    (void)state;
    save_and_load(KV_F16, KV_BF16);
    save_and_load(KV_Q8_0, KV_Q4_0);
    save_and_load(KV_Q4_0, KV_F16);
}

static void decode_steps(kv_type kt)
{
    dr_err e = {0};
    image im = make("Q4_K_M");
    model *m = open_image(im, NULL, 2);
    session_opt o = { .n_ctx = 128, .kv_set = true, .kv = kt };
    session *s = session_new(m, &o, &e);
    assert_int_equal(session_append(s, tok, 20, NULL, &e), DR_OK);
    long before = mem_count();
    for (int i = 20; i < N; i++) assert_int_equal(session_append(s, tok + i, 1, NULL, &e), DR_OK);
    assert_int_equal(mem_count() - before, 0);
    session_free(s);
    model_close(m);
    mem_pages_free(im.bytes, im.n);
}

static void decoding_allocates_nothing(void **state)
{
    (void)state;
    for (int t = 0; t < KV_N_TYPES; t++) decode_steps((kv_type)t);
}

static void bad_requests(void **state)
{
    (void)state;
    dr_err e = {0};
    image im = make("F32");
    model *m = open_image(im, NULL, 1);
    session_opt o = { .n_ctx = 16 };
    session *s = session_new(m, &o, &e);
    int32_t bad[] = { 1, V };
    assert_int_equal(session_sync(s, bad, 2, NULL, NULL, &e), DR_EINVAL);
    assert_non_null(strstr(e.msg, "vocabulary"));
    e = (dr_err){0};
    assert_int_equal(session_append(s, tok, 17, NULL, &e), DR_EINVAL);
    assert_int_equal(session_len(s), 0);
    volatile int stop = 1;
    e = (dr_err){0};
    assert_int_equal(session_append(s, tok, 4, &stop, &e), DR_ECANCEL);
    session_free(s);
    model_close(m);
    mem_pages_free(im.bytes, im.n);
}

static void no_memory_anywhere(void **state)
{
    (void)state;
    image im = make("Q8_0");
    int rc = DR_ENOMEM;
    long n = 0;
    for (; rc && n < 1000; n++) {
        dr_err e = {0};
        mem_fail_after(n);
        tensors *ts = tensors_parse(im.bytes, im.n, &e);
        model *m = ts ? model_from_tensors(ts, &(dev_opt){ .n_threads = 2 }, &e) : NULL;
        session *s = m ? session_new(m, &(session_opt){ .n_ctx = 64 }, &e) : NULL;
        rc = s ? session_append(s, tok, 8, NULL, &e) : e.code;
        mem_fail_after(-1);
        if (rc && rc != DR_ENOMEM) fail_msg("allocation %ld: %d %s", n, rc, e.msg);
        session_free(s);
        model_close(m);
    }
    assert_int_equal(rc, DR_OK);
    assert_true(n > 10);
    mem_pages_free(im.bytes, im.n);
}

int main(void)
{
    for (int i = 0; i < N; i++) tok[i] = (i * 37 + i * i * 11 + 5) % V;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bits_do_not_depend_on_how), cmocka_unit_test(every_cache_type),
        cmocka_unit_test(cache_of_odd_heads), cmocka_unit_test(prefix_and_truncation),
        cmocka_unit_test(saved_state), cmocka_unit_test(decoding_allocates_nothing),
        cmocka_unit_test(bad_requests), cmocka_unit_test(no_memory_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
