/* test_stop.c - stop strings against a search of the whole text, for every cut into pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "base/mem.h"
#include "base/rng.h"
#include "gen/stop.h"

/* The definition: the first end of any string in the text, the longest that ends there. */
static int want(const char *t, const span *s, int n, char *out)
{
    size_t len = strlen(t);
    for (size_t end = 1; end <= len; end++) {
        int best = -1;
        for (int i = 0; i < n; i++)
            if (s[i].n <= end && !memcmp(t + end - s[i].n, s[i].p, s[i].n)
                && (best < 0 || s[i].n > s[best].n)) best = i;
        if (best < 0) continue;
        memcpy(out, t, end - s[best].n);
        out[end - s[best].n] = 0;
        return best;
    }
    memcpy(out, t, len + 1);
    return -1;
}

/* Nothing given out early may be taken back: at each moment the output is a beginning of the
 * final one, and what is held is shorter than the longest string. */
static void check(const char *t, const span *s, int n, const size_t *cut, int n_cut)
{
    char w[256];
    int hit = want(t, s, n, w), got = -1;
    dr_err e = { 0 };
    stop *st = stop_new(s, n, &e);
    assert_non_null(st);
    buf b;
    buf_init(&b, 1000);
    size_t at = 0, len = strlen(t);
    for (int i = 0; i <= n_cut; i++) {
        size_t to = i < n_cut ? cut[i] : len;
        got = stop_feed(st, (span){ t + at, to - at }, &b);
        at = to;
        if (b.n > strlen(w) || memcmp(buf_str(&b), w, b.n))
            fail_msg("'%s' gave '%s', want a beginning of '%s'", t, buf_str(&b), w);
    }
    stop_end(st, &b);
    if (got != hit || strcmp(buf_str(&b), w))
        fail_msg("'%s' gave %d '%s', want %d '%s'", t, got, buf_str(&b), hit, w);
    buf_free(&b);
    stop_free(st);
}

static void all_ways(const char *t, const span *s, int n)
{
    size_t len = strlen(t), each[256];
    for (size_t i = 0; i <= len; i++) check(t, s, n, &i, 1);
    for (size_t i = 0; i < len; i++) each[i] = i;
    check(t, s, n, each, (int)len);
}

static void known(void **state)
{
    (void)state;
    const span a[] = { { "</s>", 4 }, { "\nUser:", 6 }, { "###", 3 } };
    static const char *const t[] = { "", "plain", "a</s>b", "a</s", "</ </s> x", "x\nUser: hi",
                                     "x\n\nUser:", "####", "## #", "a<<</s>", "\nUse\nUser:" };
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) all_ways(t[i], a, 3);
    const span b[] = { { "aab", 3 }, { "aaab", 4 }, { "b", 1 }, { "abc", 3 } };
    all_ways("aaaab", b, 4);
    all_ways("xaaab", b, 2);
    all_ways("xabab", b + 3, 1);
    all_ways("ababc", b + 3, 1);
    all_ways("text", b, 0);
}

static void random_texts(void **state)
{
    (void)state;
    for (uint64_t k = 0; k < 4000; k++) {
        char t[40], p[4][8];
        span s[4];
        uint64_t at = k * 100;
        int n = 1 + (int)(rng_uniform(5, 1, at++) * 4);
        for (int i = 0; i < n; i++) {
            size_t len = 1 + (size_t)(rng_uniform(5, 1, at++) * 6);
            for (size_t j = 0; j < len; j++) p[i][j] = rng_uniform(5, 1, at++) < 0.7 ? 'a' : 'b';
            s[i] = (span){ p[i], len };
        }
        size_t len = (size_t)(rng_uniform(5, 1, at++) * 30);
        for (size_t j = 0; j < len; j++) {
            double u = rng_uniform(5, 1, at++);
            t[j] = u < 0.5 ? 'a' : u < 0.8 ? 'b' : 'c';
        }
        t[len] = 0;
        all_ways(t, s, n);
    }
}

static void life(void **state)
{
    (void)state;
    const span s[] = { { "stop", 4 }, { "", 0 } };
    dr_err e = { 0 };
    assert_null(stop_new(s, 2, &e));
    assert_int_equal(e.code, DR_EINVAL);
    mem_fail_after(0);
    e = (dr_err){ 0 };
    assert_null(stop_new(s, 1, &e));
    mem_fail_after(-1);
    assert_int_equal(e.code, DR_ENOMEM);
    stop *st = stop_new(s, 1, NULL);
    buf b;
    buf_init(&b, 100);
    assert_int_equal(stop_feed(st, span_of("a stop b"), &b), 0);
    assert_int_equal(stop_feed(st, span_of("more"), &b), 0);
    assert_string_equal(buf_str(&b), "a ");
    stop_reset(st);
    assert_int_equal(stop_feed(st, span_of("sto"), &b), -1);
    stop_end(st, &b);
    assert_string_equal(buf_str(&b), "a sto");
    buf_free(&b);
    stop_free(st);
}

int main(void)
{
    const struct CMUnitTest t[] = {
        cmocka_unit_test(known), cmocka_unit_test(random_texts), cmocka_unit_test(life),
    };
    return cmocka_run_group_tests(t, NULL, NULL);
}
