/* test_recipe.c - recipes: every key is read, every mistake is refused with its line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "hostile.h"
#include "train/recipe.h"

static const char plain[] =
    "# a comment\n"
    "name: a run\n"
    "out: /tmp/run\n"
    "seed: 7\n"
    "precision: f32\n"
    "micro_tokens: 2K\n"
    "model:\n"
    "  init: m.gguf\n"
    "  random: true\n"
    "data:\n"
    "  - path: a\n"
    "    weight: 3\n"
    "  - {name: second, path: 'b c', weight: 0.5}\n"
    "optimizer: {kind: muon, momentum: 0.9, clip: 0.5}\n"
    "phases:\n"
    "  - until_tokens: 0.1M\n"
    "    seq: 512\n"
    "    batch_tokens: 4096\n"
    "    lr: wsd\n"
    "    peak: 3e-4\n"
    "    warmup: 5\n"
    "    decay: 10\n"
    "  - until_tokens: 400000\n"
    "    seq: 1024\n"
    "    batch_tokens: 8192\n"
    "    mix: [0.25, 0.75]\n"
    "sample:\n"
    "  prompts: [\"one: two\", 'three']\n"
    "  every: 50\n";

static int read_as(recipe *r, const char *text, const char *const *sets, int n, dr_err *e)
{
    return recipe_parse(r, "r.yaml", text, strlen(text), sets, n, e);
}

static void everything_arrives(void **st)
{
    (void)st;
    recipe r;
    dr_err e = {0};
    if (read_as(&r, plain, NULL, 0, &e) != DR_OK) fail_msg("%s", e.msg);
    assert_string_equal(r.name, "a run");
    assert_int_equal(r.seed, 7);
    assert_int_equal(r.precision, PRECISION_F32);
    assert_int_equal(r.micro_tokens, 2000);
    assert_true(r.model.random);
    assert_int_equal(r.n_sources, 2);
    assert_true(r.source[0].weight == 3 && r.source[1].weight == 0.5);
    assert_string_equal(r.source[1].path, "b c");
    assert_int_equal(r.n_phases, 2);
    assert_int_equal(r.phase[0].until_tokens, 100000);
    assert_true(r.phase[0].peak == 3e-4);
    assert_int_equal(r.phase[1].law, SCHED_KEEP);
    assert_int_equal(r.phase[1].mix.n, 2);
    assert_true(r.phase[1].mix.v[1] == 0.75);
    assert_int_equal(r.sample.prompts.n, 2);
    assert_string_equal(r.sample.prompts.v[0], "one: two");
    assert_int_equal(r.checkpoint.keep_last, 2);         // a default
    optim_opt o;
    assert_int_equal(recipe_optim(&r, &o, &e), DR_OK);
    assert_int_equal(o.rule, OPTIM_MUON);
    assert_true(o.momentum == 0.9 && o.nesterov && o.ns_steps == 5);
    static sched s;
    assert_int_equal(recipe_sched(&r, &s, &e), DR_OK);
    assert_int_equal(s.n, 2);
    assert_int_equal(s.step0[1], 25);                    // 100,000 in whole batches of 4096
    char at[64];
    recipe_where(&r, "phases.1.mix", at, sizeof at);
    assert_string_equal(at, "r.yaml:26");
    recipe_where(&r, "eval.every", at, sizeof at);
    assert_string_equal(at, "r.yaml");
    recipe_free(&r);
}

static void set_changes(void **st)
{
    (void)st;
    static const char *const sets[] = { "phases.0.seq=256", "eval.path=e", "eval.every=10",
                                        "model.random=false", "optimizer.kind=sgd",
                                        "optimizer.momentum=0.8" };
    recipe r;
    dr_err e = {0};
    optim_opt o;
    if (read_as(&r, plain, sets, 6, &e) != DR_OK) fail_msg("%s", e.msg);
    assert_int_equal(r.phase[0].seq, 256);
    assert_string_equal(r.eval.path, "e");
    assert_int_equal(r.eval.every, 10);
    assert_false(r.model.random);
    assert_int_equal(recipe_optim(&r, &o, &e), DR_OK);
    assert_true(o.rule == OPTIM_SGD && o.momentum == 0.8 && !o.nesterov);
    recipe_free(&r);
}

/* One line of the plain recipe replaced, or a --set; what the sentence must have in it. */
static const struct { const char *from, *to, *set, *says[2]; } wrong[] = {
    { "seed:", "sede:", NULL, { "r.yaml:4: there is no key sede", "is seed meant?" } },
    { "    seq: 1024", "    sequence: 1024", NULL, { "r.yaml:24:", "no key phases.1.sequence" } },
    { "seed: 7", "seed: -1", NULL, { "r.yaml:4: seed is \"-1\"", "a whole number from 0" } },
    { "seed: 7", "seed: 1.5", NULL, { "r.yaml:4:", "whole number" } },
    { "seed: 7", "seed: 0x10", NULL, { "r.yaml:4:", "whole number" } },
    { "seed: 7", "seed:", NULL, { "r.yaml:4: seed is \"\"", "whole number" } },
    { "seed: 7", "seed: nan", NULL, { "r.yaml:4:", "whole number" } },
    { "seed: 7", "seed: [7]", NULL, { "r.yaml:4: seed is a list", "whole number" } },
    { "precision: f32", "precision: fp8", NULL, { "r.yaml:5:", "one of bf16|f32" } },
    { "random: true", "random: maybe", NULL, { "r.yaml:9:", "true or false" } },
    { "  init: m.gguf", "  std: 0.1", NULL, { "r.yaml: key model.init", "wanted" } },
    { "  init: m.gguf", "  init: m\n  shape: tiny", NULL, { "r.yaml:9: model.shape", "one of both" } },
    { "  - path: a", "  - name: a", NULL, { "key data.0.path is wanted", "" } },
    { "[0.25, 0.75]", "[1]", NULL, { "r.yaml:26: phases.1.mix", "each source" } },
    { "seq: 512", "seq: 500", NULL, { "r.yaml:18: phases.0.batch_tokens", "multiple of seq" } },
    { "2K", "1000", NULL, { "r.yaml:6: micro_tokens", "less than a phase's seq" } },
    { "0.1M", "1M", NULL, { "r.yaml:15:", "until_tokens" } },
    { "decay: 10", "decay: 0", NULL, { "r.yaml:15:", "decay" } },
    { "  every: 50\n", "  every: 50\neval: {every: 5}\n", NULL, { "r.yaml:30: eval.every", "eval.path" } },
    { "momentum: 0.9", "momentum: 1.9", NULL, { "r.yaml:14: optimizer.momentum", "from 0 to 1" } },
    { "kind: muon", "rest: muon, kind: muon", NULL, { "r.yaml:14: optimizer:", "" } },
    { "seed: 7", "seed: 7\nseed: 8", NULL, { "r.yaml:5: key seed is given twice", "" } },
    { "seed: 7", "seed: &a 7", NULL, { "r.yaml:4: anchors", "" } },
    { "seed: 7", "seed: *a", NULL, { "r.yaml:4:", "alias" } },
    { "seed: 7", "seed: !!int 7", NULL, { "r.yaml:4: anchors and tags", "" } },
    { "seed: 7", "seed: {7: {8: 9}", NULL, { "r.yaml:", "" } },
    { "seed: 7", "\tseed: 7", NULL, { "r.yaml:", "" } },
    { "# a comment", "---\n...\n---\n", NULL, { "one document", "" } },
    { "# a comment", "[1]: 2", NULL, { "a key must be a word", "" } },
    { "", "", "seed", { "--set seed: key=value is wanted", "" } },
    { "", "", "seed.x=1", { "--set seed.x=1: there is no such place", "" } },
    { "", "", "phases.7.seq=1", { "there is no such place", "" } },
    { "", "", "phases..seq=1", { "there is no such place", "" } },
    { "", "", "sead=1", { "--set sead=1: there is no key sead", "is seed meant?" } },
    { "", "", "seed=x", { "--set seed=x: seed is \"x\"", "whole number" } },
};

static void mistakes_have_lines(void **st)
{
    (void)st;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char text[2048];
        const char *at = strstr(plain, wrong[i].from);
        assert_non_null(at);
        snprintf(text, sizeof text, "%.*s%s%s", (int)(at - plain), plain, wrong[i].to,
                 at + strlen(wrong[i].from));
        recipe r;
        dr_err e = {0};
        int rc = read_as(&r, text, &wrong[i].set, wrong[i].set ? 1 : 0, &e);
        if (rc == DR_OK) fail_msg("%zu: \"%s\" %s was accepted", i, wrong[i].to, wrong[i].set);
        for (int k = 0; k < 2; k++)
            if (!strstr(e.msg, wrong[i].says[k]))
                fail_msg("%zu: \"%s\" has no \"%s\"", i, e.msg, wrong[i].says[k]);
    }
}

static void one_key(void *arg, const char *path, const recipe_key *k)
{
    int *n = arg;
    ++*n;
    if (!k->help || !*k->help) fail_msg("%s has no help", path);
    if (k->kind == RK_CHOICE && !strchr(k->help, ':')) fail_msg("%s: no words", path);
}

static void each_key_has_help(void **st)
{
    (void)st;
    int n = 0;
    recipe_each_key(one_key, &n);
    assert_true(n > 60);
}

static int parse(const void *bytes, size_t n, dr_err *e)
{
    recipe r;
    int rc = recipe_parse(&r, "r.yaml", bytes, n, NULL, 0, e);
    if (rc == DR_OK) recipe_free(&r);
    return rc;
}

static void hostile_text(void **st)
{
    (void)st;
    dr_err e;
    hostile_flip(parse, plain, sizeof plain - 1, 1);
    for (size_t k = 0; k < sizeof plain; k++) hostile_once(parse, plain, k, &e);
    hostile_nomem(parse, plain, sizeof plain - 1, false);
    static char deep[100000];
    memset(deep, '[', sizeof deep);
    if (hostile_once(parse, deep, sizeof deep, &e) == DR_OK) fail_msg("100,000 lists in lists");
    memset(deep, '\n', sizeof deep);
    assert_int_equal(hostile_once(parse, deep, sizeof deep, &e), DR_EINVAL);
    static char many[YAML_MAX_BYTES];
    for (size_t i = 0; i < sizeof many; i++) many[i] = "a: [" [i < 4 ? i : 3];
    for (size_t i = 4; i < sizeof many; i++) many[i] = i % 2 ? ',' : '1';
    many[sizeof many - 2] = '1', many[sizeof many - 1] = ']';
    assert_int_not_equal(hostile_once(parse, many, sizeof many, &e), DR_OK);
    assert_non_null(strstr(e.msg, "too many values"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_arrives), cmocka_unit_test(set_changes),
        cmocka_unit_test(mistakes_have_lines), cmocka_unit_test(each_key_has_help),
        cmocka_unit_test(hostile_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
