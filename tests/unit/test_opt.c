/* test_opt.c - the option table: every kind, every form, every refusal; /set; near misses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "cli/opt.h"

typedef struct { int a, b; } inner;
typedef struct {
    bool flag;
    const char *s;
    int n, pick;
    int64_t big;
    uint64_t u;
    size_t size;
    float f;
    opt_list list;
    opt_ints ints;
    inner in;
} all;

static const opt sub[] = {
    { 0, "in-a", OPT_INT, offsetof(inner, a), "N", "" },
    { 0, "in-b", OPT_INT, offsetof(inner, b), "N", "" },
    OPT_END
};
static const opt table[] = {
    { .kind = OPT_HEAD, .help = "Some" },
    { 'v', "verbose", OPT_FLAG, offsetof(all, flag), NULL, "" },
    { 's', "string", OPT_STR, offsetof(all, s), "TEXT", "" },
    { 'n', "number", OPT_INT, offsetof(all, n), "N", "", -5, 1 << 20 },
    { 0, "big", OPT_INT64, offsetof(all, big), "N", "" },
    { 0, "unsigned", OPT_UINT64, offsetof(all, u), "N", "" },
    { 0, "size", OPT_SIZE, offsetof(all, size), "BYTES", "" },
    { 0, "float", OPT_FLOAT, offsetof(all, f), "X", "", 0, 2 },
    { 0, "pick", OPT_CHOICE, offsetof(all, pick), "one|two|three", "" },
    { 'l', "list", OPT_LIST, offsetof(all, list), "TEXT", "" },
    { 'i', "ints", OPT_INTS, offsetof(all, ints), "N,…", "" },
    { .kind = OPT_SUB, .at = offsetof(all, in), .sub = sub },
    OPT_END
};

enum { MAX = 12 };
/* Words with spaces between; the result of opt_read. */
static int rd(all *a, const char *line, char **left, int *n, bool *help, dr_err *e)
{
    static char text[400], prog[] = "x";
    static char *argv[MAX + 2];
    int argc = 1;
    *a = (all){ .n = 7, .pick = 1 };
    *e = (dr_err){0};
    *n = 0, *help = false;
    snprintf(text, sizeof text, "%s", line);
    argv[0] = prog;
    for (char *w = strtok(text, " "); w && argc < MAX; w = strtok(NULL, " ")) argv[argc++] = w;
    argv[argc] = NULL;
    int rc = opt_read(table, a, argc, argv, n, help, e);
    for (int i = 0; i < *n && i < MAX; i++) left[i] = argv[i];
    return rc;
}

static void good(all *a, const char *line, const char *operands)
{
    char *left[MAX], got[200] = "";
    int n;
    bool help;
    dr_err e;
    if (rd(a, line, left, &n, &help, &e) != DR_OK) fail_msg("%s: %s", line, e.msg);
    for (int i = 0; i < n; i++) {
        size_t at = strlen(got);
        snprintf(got + at, sizeof got - at, "%s%s", i ? " " : "", left[i]);
    }
    assert_string_equal(got, operands);
}

static void bad(const char *line, const char *part)
{
    char *left[MAX];
    all a;
    int n;
    bool help;
    dr_err e;
    if (rd(&a, line, left, &n, &help, &e) != DR_EINVAL) fail_msg("%s is accepted", line);
    if (!strstr(e.msg, part)) fail_msg("%s: \"%s\" has no \"%s\"", line, e.msg, part);
}

static void test_forms(void **state)
{
    all a;
    (void)state;
    good(&a, "", "");
    assert_int_equal(a.n, 7);
    good(&a, "a -v b", "a b");
    assert_true(a.flag);
    good(&a, "--string x --number=12 -i 1,2K,-3", "");
    assert_string_equal(a.s, "x");
    assert_int_equal(a.n, 12);
    assert_int_equal(a.ints.n, 3);
    assert_int_equal(a.ints.v[1], 2048);
    assert_int_equal(a.ints.v[2], -3);
    good(&a, "-n-5 -s- - -- -v --number", "- -v --number");
    assert_int_equal(a.n, -5);
    assert_string_equal(a.s, "-");
    assert_false(a.flag);
    good(&a, "--string= -l a -lb --list=c", "");
    assert_string_equal(a.s, "");
    assert_int_equal(a.list.n, 3);
    assert_string_equal(a.list.v[2], "c");
    good(&a, "--in-b 4 --in-a=-1", "");
    assert_int_equal(a.in.a, -1);
    assert_int_equal(a.in.b, 4);
    good(&a, "--pick three --float 0.5 --unsigned 18446744073709551615", "");
    assert_int_equal(a.pick, 2);
    assert_true(a.f == 0.5f && a.u == UINT64_MAX);
    good(&a, "--big -9223372036854775808 --size 1.5G", "");
    assert_true(a.big == INT64_MIN && a.size == (size_t)3 << 29);
    good(&a, "--size 4GiB --big 8k", "");
    assert_true(a.size == (size_t)1 << 32 && a.big == 8192);
}

static void test_refusals(void **state)
{
    (void)state;
    bad("--nubmer 3", "did you mean --number?");
    bad("--verbos", "did you mean --verbose?");
    bad("--hlep", "did you mean --help?");
    bad("--zzzz", "unknown option --zzzz");
    bad("-x", "unknown option -x");
    bad("-number 3", "did you mean --number?");
    bad("-verbose", "unknown option -verbose");
    bad("--number", "--number wants a value (N)");
    bad("-n x", "wants a number, not \"x\"");
    bad("-n 3x", "wants a number, not \"3x\"");
    bad("-n 2M", "from -5 to 1048576, not 2M");
    bad("-n 99999999999", "out of range");
    bad("--big 9223372036854775808", "out of range");
    bad("--big 9223372036854775807K", "out of range");
    bad("--unsigned -1", "out of range");
    bad("--size -1", "out of range");
    bad("--size 1e40", "out of range");
    bad("--float nan", "finite");
    bad("--float inf", "finite");
    bad("--float 2.1", "from 0 to 2");
    bad("--pick four", "one of one|two|three, not \"four\"");
    bad("--pick thre", "one of");
    bad("-i 1,,2", "number");
    bad("-i 1;2", "commas");
    bad("-i 1,", "number");
    bad("--verbose=1", "takes no value");
}

static void test_help(void **state)
{
    char *left[MAX];
    all a;
    int n;
    bool help;
    dr_err e;
    (void)state;
    assert_int_equal(rd(&a, "a -h --nonsense", left, &n, &help, &e), DR_OK);
    assert_true(help);
    assert_int_equal(rd(&a, "--string -h", left, &n, &help, &e), DR_OK);
    assert_false(help);                              /* there it is a value */
}

static void test_too_many(void **state)
{
    all a = {0};
    dr_err e = {0};
    (void)state;
    for (int i = 0; i < OPT_LIST_MAX; i++)
        assert_int_equal(opt_set(table, &a, "list", "x", &e), DR_OK);
    assert_int_equal(opt_set(table, &a, "list", "x", &e), DR_EINVAL);
    char many[OPT_INTS_MAX * 2 + 2];
    for (int i = 0; i <= OPT_INTS_MAX; i++) many[2 * i] = '1', many[2 * i + 1] = ',';
    many[OPT_INTS_MAX * 2 + 1] = 0;
    e = (dr_err){0};
    assert_int_equal(opt_set(table, &a, "ints", many, &e), DR_EINVAL);
    assert_non_null(strstr(e.msg, "more than"));
    many[OPT_INTS_MAX * 2 - 1] = 0;
    assert_int_equal(opt_set(table, &a, "ints", many, &e), DR_OK);
}

static void test_set(void **state)
{
    all a = {0};
    dr_err e = {0};
    (void)state;
    assert_int_equal(opt_set(table, &a, "float", "1.25", &e), DR_OK);
    assert_true(a.f == 1.25f);
    assert_int_equal(opt_set(table, &a, "verbose", NULL, &e), DR_OK);
    assert_true(a.flag);
    assert_int_equal(opt_set(table, &a, "verbose", "off", &e), DR_OK);
    assert_false(a.flag);
    assert_int_equal(opt_set(table, &a, "verbose", "maybe", &e), DR_EINVAL);
    e = (dr_err){0};
    assert_int_equal(opt_set(table, &a, "in-a", "", &e), DR_EINVAL);
    assert_int_equal(opt_set(table, &a, "in-a", "9", NULL), DR_OK);
    assert_int_equal(a.in.a, 9);
}

static void test_near(void **state)
{
    static const char *const w[] = { "run", "rm", "info", "perplexity", "tokenize" };
    (void)state;
    assert_string_equal(near_miss("perp", w, 5), "perplexity");
    assert_string_equal(near_miss("tokenise", w, 5), "tokenize");
    assert_string_equal(near_miss("inof", w, 5), "info");
    assert_string_equal(near_miss("rn", w, 5), "run");
    assert_null(near_miss("completely-else", w, 5));
    assert_null(near_miss("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", w, 5));
}

int main(void)
{
    const struct CMUnitTest t[] = {
        cmocka_unit_test(test_forms), cmocka_unit_test(test_refusals), cmocka_unit_test(test_help),
        cmocka_unit_test(test_too_many), cmocka_unit_test(test_set), cmocka_unit_test(test_near),
    };
    return cmocka_run_group_tests(t, NULL, NULL);
}
