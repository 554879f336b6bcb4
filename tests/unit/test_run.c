/* test_run.c - what watches a run: the guard, its memory, TensorBoard's records, the log's cut, the plan. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/os.h"
#include "hostile.h"
#include "train/guard.h"
#include "train/log.h"
#include "train/run.h"

/* ---- guard */

static guard g, h;

static void spikes_are_seen(void **st)
{
    (void)st;
    guard_init(&g, 16, 6, 1.2);
    assert_int_equal(guard_look(&g, 1000, 1), GUARD_FINE);       // the first ones are what there is
    guard_init(&g, 16, 6, 1.2);
    for (int i = 0; i < 16; i++) assert_int_equal(guard_look(&g, 3 + 0.01 * (i % 3), 1), GUARD_FINE);
    assert_int_equal(guard_look(&g, 3.5, 1), GUARD_FINE);        // many deviations, but not 1.2 times
    guard_init(&g, 16, 6, 1.2);
    for (int i = 0; i < 16; i++) guard_look(&g, 3 + 0.01 * (i % 3), 1);
    assert_int_equal(guard_look(&g, 3.7, 1), GUARD_SPIKE);
    assert_int_equal(guard_look(&g, 3.7, 1), GUARD_SPIKE);       // it was not learned
    assert_int_equal(guard_look(&g, NAN, 1), GUARD_NAN);
    assert_int_equal(guard_look(&g, INFINITY, 1), GUARD_NAN);
    assert_int_equal(guard_look(&g, 3, NAN), GUARD_NAN);
    assert_int_equal(guard_look(&g, 3, 1), GUARD_FINE);
    double mean, sd;
    guard_init(&g, 16, 2, 1.01);
    for (int i = 0; i < 16; i++) guard_look(&g, i % 2 ? 2 : 4, 1);
    guard_mean(&g, &mean, &sd);
    assert_true(mean == 3 && sd == 1);
    assert_int_equal(guard_look(&g, 4.9, 1), GUARD_FINE);        // 1.9 deviations
    assert_int_equal(guard_look(&g, 5.3, 1), GUARD_SPIKE);
}

static void guard_goes_on(void **st)
{
    (void)st;
    dr_err e = {0};
    for (int cut = 0; cut < 40; cut++) {
        guard_init(&g, 12, 3, 1.1);
        guard_init(&h, 12, 3, 1.1);
        for (int i = 0; i < cut; i++) guard_look(&g, 5 - 0.1 * i + 0.3 * sin(i), 1);
        json_t *j = guard_tell(&g);
        char *text = json_dumps(j, JSON_REAL_PRECISION(17));
        json_t *back = json_loads(text, 0, NULL);
        assert_int_equal(guard_put(&h, back, &e), DR_OK);
        for (int i = cut; i < 60; i++) {
            double loss = 5 - 0.1 * i + (i % 7 ? 0.1 : 0.9);
            double m[2], sd[2];
            assert_int_equal(guard_look(&g, loss, 1), guard_look(&h, loss, 1));
            guard_mean(&g, &m[0], &sd[0]);
            guard_mean(&h, &m[1], &sd[1]);
            assert_true(m[0] == m[1] && sd[0] == sd[1]);     // the same ones fell out
        }
        json_decref(j);
        json_decref(back);
        json_malloc_t m;
        json_free_t f;
        json_get_alloc_funcs(&m, &f);
        f(text);
    }
    json_t *bad = json_pack("[s]", "x");
    assert_int_equal(guard_put(&h, bad, &e), DR_EFORMAT);
    json_decref(bad);
}

/* ---- TensorBoard. Checksums of known bytes: RFC 3720, B.4. */

static uint32_t crc(const uint8_t *p, size_t n)
{
    uint32_t table[256], c = ~0u;
    for (uint32_t i = 0; i < 256; i++) {
        table[i] = i;
        for (int b = 0; b < 8; b++) table[i] = table[i] & 1 ? table[i] >> 1 ^ 0x82f63b78u : table[i] >> 1;
    }
    for (size_t i = 0; i < n; i++) c = table[(c ^ p[i]) & 255] ^ c >> 8;
    return ~c;
}

static uint32_t unmask(uint32_t m)
{
    uint32_t r = m - 0xa282ead8u;
    return r >> 17 | r << 15;
}

static void events_are_records(void **st)
{
    (void)st;
    static const uint8_t zeros[32];
    assert_int_equal(crc(zeros, 32), 0x8a9136aau);
    char dir[] = "/tmp/test_runXXXXXX", path[512] = "";
    dr_err e = {0};
    events v;
    assert_non_null(mkdtemp(dir));
    if (events_open(&v, dir, 7, &e) != DR_OK) fail_msg("%s", e.msg);
    snprintf(path, sizeof path, "%s", v.path);
    event_value val[2] = { { "train/loss", 2.5 }, { "x", -1 } };
    assert_int_equal(events_put(&v, 300, val, 2, &e), DR_OK);
    events_close(&v);
    os_file f;
    assert_int_equal(os_map(&f, path, &e), DR_OK);
    static const uint8_t last[] = {          // step 300, then the summary
        0x10, 0xac, 0x02, 0x2a, 29,
        0x0a, 17, 0x0a, 10, 't', 'r', 'a', 'i', 'n', '/', 'l', 'o', 's', 's', 0x15, 0, 0, 0x20, 0x40,
        0x0a, 8, 0x0a, 1, 'x', 0x15, 0, 0, 0x80, 0xbf };
    int n = 0;
    for (size_t at = 0; at < f.n; n++) {
        uint64_t len;
        uint32_t a, b;
        assert_true(f.n - at >= 12);
        memcpy(&len, f.p + at, 8);
        memcpy(&a, f.p + at + 8, 4);
        assert_int_equal(unmask(a), crc(f.p + at, 8));
        assert_true(len <= f.n - at - 16);
        memcpy(&b, f.p + at + 12 + len, 4);
        assert_int_equal(unmask(b), crc(f.p + at + 12, len));
        if (n == 2) {
            assert_int_equal(len, 9 + sizeof last);
            assert_memory_equal(f.p + at + 12 + 9, last, sizeof last);
        }
        at += 16 + len;
    }
    assert_int_equal(n, 3);
    os_unmap(&f);
    unlink(path);
    rmdir(dir);
}

/* ---- the log */

static void log_is_cut(void **st)
{
    (void)st;
    char dir[] = "/tmp/test_logXXXXXX", path[64];
    dr_err e = {0};
    run_log l, other;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(log_open(&l, dir, &e), DR_OK);
    assert_int_equal(log_open(&other, dir, &e), DR_EINVAL);
    assert_non_null(strstr(e.msg, "another process trains in"));
    log_close(&other);
    assert_int_equal(log_resume(&l, 0, 1, false, &e), DR_OK);
    for (int i = 1; i <= 12; i++) {
        log_line x = { .step = i, .steps = 20, .tokens = i * 10, .loss = i == 5 ? NAN : 2, .eval_loss = NAN };
        assert_int_equal(log_put(&l, &x, &e), DR_OK);
        assert_int_equal(log_status(&l, &x, i == 12 ? "stopped" : "training", &e), DR_OK);
    }
    log_close(&l);
    snprintf(path, sizeof path, "%s/log.jsonl", dir);
    FILE *f = fopen(path, "a");                  // a line that a crash cut off
    assert_non_null(f);
    fputs("{\"step\": 13, \"tok", f);
    fclose(f);
    static const int after[] = { 20, 12, 9, 3, 0 }, lines[] = { 12, 12, 9, 3, 0 };
    for (int k = 0; k < 5; k++) {
        int n = 0;
        assert_int_equal(log_open(&l, dir, &e), DR_OK);
        assert_int_equal(log_resume(&l, after[k], 1, false, &e), DR_OK);
        log_close(&l);
        buf b = { .cap_max = 1 << 16 };
        assert_int_equal(os_read(&b, path, &e), DR_OK);
        for (char *s = buf_str(&b), *end; (end = strchr(s, '\n')); s = end + 1) {
            json_t *j = json_loadb(s, (size_t)(end - s), 0, NULL);
            assert_non_null(j);                  // NaN is not in it
            assert_int_equal(json_integer_value(json_object_get(j, "step")), ++n);
            json_decref(j);
        }
        assert_int_equal(n, lines[k]);
        buf_free(&b);
    }
    json_t *s = log_read_status(dir, &e);
    assert_non_null(s);
    assert_string_equal(json_string_value(json_object_get(s, "state")), "stopped");
    assert_false(json_is_true(json_object_get(s, "running")));
    json_decref(s);
    assert_int_equal(log_open(&l, dir, &e), DR_OK);
    s = log_read_status(dir, &e);
    assert_true(json_is_true(json_object_get(s, "running")));
    json_decref(s);
    log_close(&l);
    static const char *const file[] = { "log.jsonl", "status.json", "lock" };
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, file[i]);
        unlink(path);
    }
    assert_int_equal(rmdir(dir), 0);
}

/* ---- the plan */

static void plan_counts(void **st)
{
    (void)st;
    static const char text[] =
        "model: {shape: 'dim=64,layers=2,heads=4,kv_heads=2,ffn=160,vocab=500,ctx=128,tied=1'}\n"
        "precision: f32\n"
        "phases:\n"
        "  - {until_tokens: 10000, seq: 64, batch_tokens: 1024, peak: 1e-3}\n"
        "  - {until_tokens: 20000, seq: 128, batch_tokens: 2048}\n";
    static recipe r;
    dr_err e = {0};
    hparams hp;
    run_plan p;
    dev_opt o = { .n_threads = 1 };
    dev *d = dev_open(&o, &e);
    assert_non_null(d);
    if (recipe_parse(&r, "r", text, sizeof text - 1, NULL, 0, &e) != DR_OK) fail_msg("%s", e.msg);
    assert_int_equal(run_shape(&hp, r.model.shape, &e), DR_OK);
    if (run_plan_make(&p, &r, &hp, d, 1, &e) != DR_OK) fail_msg("%s", e.msg);
    int64_t layer = 64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 160 + 2 * 64;
    assert_int_equal(p.weights, 500 * 64 + 64 + 2 * layer);
    assert_int_equal(p.steps, 10 + 5);           // 10 of 1024 reach 10,000; from 10,240 5 of 2048
    assert_int_equal(p.tokens, 20480);
    assert_int_equal(p.micro, 1);
    assert_int_equal(p.net_opt.n_rows, 2048);
    double matrices = 500 * 64 + 2 * (layer - 2 * 64);
    double full = 6 * matrices * 20480 + 12.0 * 2 * 4 * 16 * (64 * 10240.0 + 128 * 10240.0);
    assert_true(fabs(p.flops_full - full) < 1e-9 * full);
    assert_true(p.flops < p.flops_full && p.flops > 6 * matrices * 20480);
    size_t one = p.optim;
    assert_int_equal(run_plan_make(&p, &r, &hp, d, 2, &e), DR_OK);
    assert_true(p.optim < one);                  // ranks share the moments
    assert_int_equal(p.net_opt.n_rows, 1024);    // and the batch
    recipe_free(&r);
    dev_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spikes_are_seen), cmocka_unit_test(guard_goes_on),
        cmocka_unit_test(events_are_records), cmocka_unit_test(log_is_cut),
        cmocka_unit_test(plan_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
