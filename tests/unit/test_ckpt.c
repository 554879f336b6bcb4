/* test_ckpt.c - checkpoints: every byte comes back, in other ranges too; nothing damaged is read;
 * a writer killed at any instant leaves what it had finished. */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/os.h"
#include "base/rng.h"
#include "hostile.h"
#include "train/ckpt.h"

enum { N = 1000, U = 130 };
static float w[N];
static uint16_t h[N];
static uint8_t u[U];

static void fill(void)
{
    for (int i = 0; i < N; i++) w[i] = (float)i * 1.25f, h[i] = (uint16_t)(i * 7);
    for (int i = 0; i < U; i++) u[i] = (uint8_t)(i * 3);
}

static char *folder(void)
{
    static char dir[64];
    /* in memory where there is such a place: a disk that is slow to flush costs minutes here */
    snprintf(dir, sizeof dir, "%s/test_ckptXXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    assert_non_null(mkdtemp(dir));
    return dir;
}

static void drop(const char *dir)
{
    dr_err e = {0};
    if (ckpt_prune(dir, 0, 0, &e) != DR_OK) fail_msg("%s", e.msg);
    assert_int_equal(rmdir(dir), 0);             // nothing else was left in it
}

static json_t *state(int64_t step, double loss)
{
    json_t *s = json_pack("{s:I}", "tokens", (json_int_t)step * 100);
    assert_non_null(s);
    if (!isnan(loss)) json_object_set_new(s, "eval_loss", json_real(loss));
    return s;
}

/* The part of one of `of` ranks: w whole on the last, named by rank 0, h and u cut. */
static int arrays(ckpt_array a[3], int r, int of)
{
    int k = 0;
    if (r == of - 1) a[k++] = (ckpt_array){ "blk.0.w", CKPT_F32, w, 0, N, N, 50 };
    else if (r == 0) a[k++] = (ckpt_array){ "blk.0.w", CKPT_F32, w, 0, 0, N, 50 };
    int64_t lo = N * r / of, hi = N * (r + 1) / of;
    a[k++] = (ckpt_array){ "adamw.m", CKPT_BF16, h + lo, lo, hi - lo, N, 0 };
    lo = U * r / of, hi = U * (r + 1) / of;
    a[k++] = (ckpt_array){ "adamw.q", CKPT_U8, u + lo, lo, hi - lo, U, 0 };
    return k;
}

static int save(const char *dir, int64_t step, double loss, int ranks, dr_err *e)
{
    ckpt_writer *k[4] = {0};
    json_t *s = state(step, loss);
    int rc = DR_OK;
    for (int r = 0; r < ranks && rc == DR_OK; r++) {
        ckpt_array a[3];
        k[r] = ckpt_writer_new(dir, r, ranks, e);
        rc = k[r] ? ckpt_begin(k[r], step, r ? NULL : s, a, arrays(a, r, ranks), e) : e->code;
    }
    for (int r = 0; r < ranks && rc == DR_OK; r++) rc = ckpt_join(k[r], e);
    for (int r = ranks; rc == DR_OK && r-- > 0;) rc = ckpt_seal(k[r], e);
    for (int r = 0; r < ranks; r++) ckpt_writer_free(k[r]);
    json_decref(s);
    return rc;
}

static void save_ok(const char *dir, int64_t step, double loss, int ranks)
{
    dr_err e = {0};
    if (save(dir, step, loss, ranks, &e) != DR_OK) fail_msg("%s", e.msg);
}

/* Read all of it as `of` ranks would and compare. */
static int read_all(const ckpt *c, int of, dr_err *e)
{
    static float w2[N];
    static uint16_t h2[N];
    static uint8_t u2[U];
    memset(w2, 0, sizeof w2), memset(h2, 0, sizeof h2), memset(u2, 0, sizeof u2);
    for (int r = 0; r < of; r++) {
        ckpt_array a[3];
        int n = arrays(a, r, of), rc;
        for (int i = 0; i < n; i++) {
            a[i].p = a[i].type == CKPT_F32 ? (void *)(w2 + a[i].at) : a[i].type == CKPT_BF16 ?
                     (void *)(h2 + a[i].at) : (void *)(u2 + a[i].at);
            if ((rc = ckpt_read(c, &a[i], e)) != DR_OK) return rc;
        }
    }
    assert_memory_equal(w, w2, sizeof w);
    assert_memory_equal(h, h2, sizeof h);
    assert_memory_equal(u, u2, sizeof u);
    return DR_OK;
}

static void other_ranks(void **st)
{
    (void)st;
    char *dir = folder();
    for (int wr = 1; wr <= 4; wr++) {
        save_ok(dir, wr, NAN, wr);
        for (int rd = 1; rd <= 4; rd++) {
            ckpt c;
            dr_err e = {0};
            if (ckpt_open(&c, dir, wr, &e) != DR_OK) fail_msg("%s", e.msg);
            assert_int_equal(c.step, wr);
            assert_int_equal(c.n_files, wr);
            assert_int_equal(json_integer_value(json_object_get(c.state, "tokens")), wr * 100);
            assert_true(ckpt_has(&c, "adamw.m"));
            assert_false(ckpt_has(&c, "adamw"));
            if (read_all(&c, rd, &e) != DR_OK) fail_msg("%d to %d: %s", wr, rd, e.msg);
            ckpt_close(&c);
        }
    }
    drop(dir);
}

static void what_is_wanted_is_checked(void **st)
{
    (void)st;
    char *dir = folder();
    ckpt c;
    dr_err e = {0};
    float x[N];
    save_ok(dir, 7, NAN, 2);
    assert_int_equal(ckpt_open(&c, dir, 7, &e), DR_OK);
    static const struct { ckpt_array a; const char *says; } bad[] = {
        { { "nope", CKPT_F32, NULL, 0, N, N, 0 }, "no array nope" },
        { { "blk.0.w", CKPT_F32, NULL, 0, N - 1, N - 1, 0 }, "another model's" },
        { { "blk.0.w", CKPT_U8, NULL, 0, N, N, 0 }, "another type" },
        { { "adamw.m", CKPT_F32, NULL, 0, N, N, 0 }, "another type" },
        { { "blk.0.w", CKPT_F32, NULL, N - 1, 2, N, 0 }, "1 of the elements" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ckpt_array a = bad[i].a;
        a.p = x;
        e = (dr_err){0};
        assert_int_equal(ckpt_read(&c, &a, &e), DR_EFORMAT);
        if (!strstr(e.msg, bad[i].says)) fail_msg("\"%s\" has no \"%s\"", e.msg, bad[i].says);
    }
    ckpt_close(&c);
    drop(dir);
}

/* ---- damage */

static const char *const part_of[] = { "rank-000.safetensors", "state.json", "SHA256SUMS" };

static void nothing_damaged_is_read(void **st)
{
    (void)st;
    char *dir = folder(), path[128];
    save_ok(dir, 5, NAN, 1);
    for (int f = 0; f < 3; f++) {
        buf b = { .cap_max = 1 << 20 };
        dr_err e = {0};
        ckpt c;
        snprintf(path, sizeof path, "%s/step-00000005/%s", dir, part_of[f]);
        assert_int_equal(os_read(&b, path, &e), DR_OK);
        size_t step = b.n > 2000 ? 97 : 1;
        for (size_t i = 0; i < b.n; i += step) {
            b.p[i] ^= (char)(1 << i % 8);
            assert_int_equal(os_write(path, b.p, b.n, &e), DR_OK);
            if (ckpt_open(&c, dir, 5, NULL) == DR_OK) fail_msg("%s: flip at %zu", part_of[f], i);
            b.p[i] ^= (char)(1 << i % 8);
        }
        for (size_t k = 0; k < b.n; k += step) {
            assert_int_equal(os_write(path, b.p, k, &e), DR_OK);
            if (ckpt_open(&c, dir, 5, NULL) == DR_OK) fail_msg("%s: cut at %zu", part_of[f], k);
        }
        assert_int_equal(os_write(path, b.p, b.n, &e), DR_OK);
        if (ckpt_open(&c, dir, 5, &e) != DR_OK) fail_msg("%s", e.msg);
        ckpt_close(&c);
        buf_free(&b);
    }
    drop(dir);
}

/* A list of sums that is right, but names what no checkpoint has. */
static void names_are_checked(void **st)
{
    (void)st;
    static const char *const name[] = { "../step-00000005/state.json", "/etc/passwd", "rank-0.safetensors",
                                        "rank-0000.safetensor", "" };
    char *dir = folder(), path[128];
    save_ok(dir, 5, NAN, 1);
    buf b = { .cap_max = 1 << 20 };
    dr_err e = {0};
    snprintf(path, sizeof path, "%s/step-00000005/SHA256SUMS", dir);
    assert_int_equal(os_read(&b, path, &e), DR_OK);
    size_t n = b.n;
    for (size_t i = 0; i < sizeof name / sizeof *name; i++) {
        ckpt c;
        b.n = n;
        buf_printf(&b, "%064d  %s\n", 0, name[i]);
        assert_int_equal(os_write(path, b.p, b.n, &e), DR_OK);
        e = (dr_err){0};
        assert_int_equal(ckpt_open(&c, dir, 5, &e), DR_EFORMAT);
        if (!strstr(e.msg, "not part of a checkpoint")) fail_msg("%s", e.msg);
    }
    buf_free(&b);
    drop(dir);
}

static void the_one_before_is_taken(void **st)
{
    (void)st;
    char *dir = folder(), path[128];
    ckpt c;
    dr_err e = {0};
    buf notes = { .cap_max = 4096 };
    assert_int_equal(ckpt_open_latest(&c, "/tmp/no such folder", &notes, &e), DR_OK);
    assert_int_equal(c.step, -1);
    save_ok(dir, 10, NAN, 1);
    save_ok(dir, 20, NAN, 1);
    snprintf(path, sizeof path, "%s/step-00000020/rank-000.safetensors", dir);
    assert_int_equal(truncate(path, 100), 0);
    if (ckpt_open_latest(&c, dir, &notes, &e) != DR_OK) fail_msg("%s", e.msg);
    assert_int_equal(c.step, 10);
    assert_non_null(strstr(buf_str(&notes), "step-00000020: "));
    assert_non_null(strstr(buf_str(&notes), "it was damaged"));
    if (read_all(&c, 1, &e) != DR_OK) fail_msg("%s", e.msg);
    ckpt_close(&c);
    buf_free(&notes);
    save_ok(dir, 20, NAN, 1);                    // takes the damaged one's place
    assert_int_equal(ckpt_open(&c, dir, 20, &e), DR_OK);
    ckpt_close(&c);
    drop(dir);
}

static void last_and_best_are_kept(void **st)
{
    (void)st;
    static const double loss[] = { 3, 1, NAN, 2, 1, 5, NAN, 4 };
    static const int64_t want[] = { 2, 5, 7, 8 };            // last two; of the equal best both
    char *dir = folder();
    dr_err e = {0};
    ckpt_entry *l;
    int n;
    for (int i = 0; i < 8; i++) save_ok(dir, i + 1, loss[i], 1);
    assert_int_equal(ckpt_prune(dir, 2, 2, &e), DR_OK);
    assert_int_equal(ckpt_list(dir, &l, &n, &e), DR_OK);
    assert_int_equal(n, 4);
    for (int i = 0; i < n; i++) assert_int_equal(l[i].step, want[i]);
    assert_true(l[0].eval_loss == 1);
    mem_free(l);
    assert_int_equal(ckpt_prune(dir, 1, 1, &e), DR_OK);
    assert_int_equal(ckpt_list(dir, &l, &n, &e), DR_OK);
    assert_int_equal(n, 2);
    assert_int_equal(l[0].step, 5);
    mem_free(l);
    drop(dir);
}

/* ---- killed */

enum { BIG = 1 << 16 };
static float big[BIG];

/* Writes checkpoint after checkpoint until it is killed. */
static void write_on(const char *dir, int64_t step)
{
    dr_err e = {0};
    ckpt_writer *k = ckpt_writer_new(dir, 0, 1, &e);
    for (int rc = k ? DR_OK : e.code; ; step++) {
        json_t *s = state(step, 1.0 / (double)step);
        ckpt_array a = { "w", CKPT_F32, big, 0, BIG, BIG, 0 };
        for (int i = 0; i < BIG; i++) big[i] = (float)step + (float)i;
        if (rc == DR_OK) rc = ckpt_begin(k, step, s, &a, 1, &e);
        if (rc == DR_OK) rc = ckpt_join(k, &e);
        if (rc == DR_OK) rc = ckpt_seal(k, &e);
        if (rc == DR_OK) rc = ckpt_prune(dir, 2, 1, &e);
        if (rc != DR_OK) {
            fprintf(stderr, "%s\n", e.msg);
            _exit(3);
        }
        json_decref(s);
    }
}

static void killed_at_any_instant(void **st)
{
    (void)st;
    char *dir = folder();
    dr_err e = {0};
    int64_t step = 0;
    for (int i = 0; i < 200; i++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (!child) write_on(dir, step + 1);
        struct timespec t = { 0, (long)(1e6 + rng_uniform(1, 0, (uint64_t)i) * 20e6) };
        nanosleep(&t, NULL);
        int status;
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));        // it had not failed
        ckpt c;
        buf notes = { .cap_max = 4096 };
        if (ckpt_open_latest(&c, dir, &notes, &e) != DR_OK) fail_msg("%s", e.msg);
        if (notes.n) fail_msg("a named checkpoint is not whole: %s", notes.p);
        if (step && c.step < step) fail_msg("step %d was there, %d is the newest", (int)step, (int)c.step);
        if (c.step > 0) {
            ckpt_array a = { "w", CKPT_F32, big, 0, BIG, BIG, 0 };
            if (ckpt_read(&c, &a, &e) != DR_OK) fail_msg("%s", e.msg);
            for (int k = 0; k < BIG; k++) assert_true(big[k] == (float)c.step + (float)k);
            assert_int_equal(json_integer_value(json_object_get(c.state, "tokens")), c.step * 100);
            step = c.step;
        }
        ckpt_close(&c);
        buf_free(&notes);
    }
    assert_true(step > 10);                      // and it did write
    ckpt_writer_free(ckpt_writer_new(dir, 0, 1, &e));
    drop(dir);
}

/* ---- bytes that are not trusted, memory that is not there */

static int parse(const void *bytes, size_t n, dr_err *e)
{
    int64_t step;
    json_t *s, *a;
    int rc = ckpt_parse_state(bytes, n, &step, &s, &a, e);
    if (rc != DR_OK) return rc;
    assert_true(step >= 0 && json_is_object(s) && json_is_object(a));
    json_decref(s);
    json_decref(a);
    return DR_OK;
}

static void hostile_state(void **st)
{
    (void)st;
    static const char text[] = "{\"format\":\"drover training\",\"version\":1,\"step\":12,\"ranks\":1,"
        "\"arrays\":{\"w\":100},\"state\":{\"eval_loss\":1.5}}";
    hostile_begin();
    hostile_truncate(parse, text, sizeof text - 1);
    hostile_flip(parse, text, sizeof text - 1, 1);
    hostile_nomem(parse, text, sizeof text - 1, true);
}

static void without_memory(void **st)
{
    (void)st;
    char *dir = folder();
    hostile_begin();
    for (long k = 0; ; k++) {
        dr_err e = {0};
        assert_true(k < 10000);
        mem_fail_after(k);
        json_t *s = json_pack("{s:i}", "tokens", 1);
        ckpt_array a[3];
        ckpt_writer *x = ckpt_writer_new(dir, 0, 1, &e);
        int rc = x && s ? ckpt_begin(x, 1, s, a, arrays(a, 0, 1), &e) : DR_ENOMEM;
        if (rc == DR_OK) rc = ckpt_join(x, &e);
        if (rc == DR_OK) rc = ckpt_seal(x, &e);
        ckpt_writer_free(x);
        json_decref(s);
        mem_fail_after(-1);
        if (rc == DR_OK) break;
        assert_int_equal(rc, DR_ENOMEM);
    }
    size_t live = mem_live_bytes();
    for (long k = 0; ; k++) {
        dr_err e = {0};
        ckpt c;
        mem_fail_after(k);
        int rc = ckpt_open(&c, dir, 1, &e);
        if (rc == DR_OK) ckpt_close(&c);
        mem_fail_after(-1);
        assert_int_equal(mem_live_bytes(), live);
        if (rc == DR_OK) break;
    }
    drop(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_at_any_instant),     // first: it forks
        cmocka_unit_test(other_ranks),
        cmocka_unit_test(what_is_wanted_is_checked),
        cmocka_unit_test(nothing_damaged_is_read),
        cmocka_unit_test(names_are_checked),
        cmocka_unit_test(the_one_before_is_taken),
        cmocka_unit_test(last_and_best_are_kept),
        cmocka_unit_test(hostile_state),
        cmocka_unit_test(without_memory),
    };
    fill();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
