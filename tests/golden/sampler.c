/* sampler.c - filtered distributions against transformers' logits processors: every case of
 * tests/golden/data/sampler.json (made by tools/golden/sampler.py) within 1e-6. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <string.h>
#include "gen/sample.h"

#define MAX_V 1000

static int read_logits(const json_t *a, float *x)
{
    int n = (int)json_array_size(a);
    assert_in_range(n, 1, MAX_V);
    for (int i = 0; i < n; i++) {
        const json_t *v = json_array_get(a, (size_t)i);
        x[i] = json_is_null(v) ? -INFINITY : (float)json_number_value(v);
    }
    return n;
}

static sample_opt read_chain(const json_t *chain)
{
    sample_opt o = sample_opt_default();
    char order[128] = "";
    size_t at = 0, i;
    const json_t *step;
    json_array_foreach(chain, i, step) {
        const char *name = json_string_value(json_array_get(step, 0));
        double v = json_number_value(json_array_get(step, 1));
        if (!strcmp(name, "repeat_penalty")) {
            o.repeat_penalty = (float)v;
            o.penalty_last_n = -1;
            continue;
        }
        if (!strcmp(name, "temperature")) o.temperature = (float)v;
        else if (!strcmp(name, "top_k")) o.top_k = (int)v;
        else if (!strcmp(name, "top_p")) o.top_p = (float)v;
        else if (!strcmp(name, "min_p")) o.min_p = (float)v;
        else if (!strcmp(name, "typical_p")) o.typical_p = (float)v;
        else fail_msg("unknown step %s", name);
        at += (size_t)snprintf(order + at, sizeof order - at, "%s,", name);
    }
    dr_err e;
    assert_int_equal(sample_order_parse(&o, order, &e), DR_OK);
    return o;
}

/* The largest difference over the case's distribution. */
static double one_case(const json_t *root, const json_t *c)
{
    float x[MAX_V];
    double p[MAX_V], want[MAX_V] = { 0 }, worst = 0;
    int32_t hist[64];
    const char *name = json_string_value(json_object_get(c, "logits"));
    int n = read_logits(json_object_get(json_object_get(root, "logits"), name), x);
    const json_t *h = json_object_get(json_object_get(root, "history"), name), *q;
    int n_hist = (int)json_array_size(h);
    assert_in_range(n_hist, 1, 64);
    for (int i = 0; i < n_hist; i++)
        hist[i] = (int32_t)json_integer_value(json_array_get(h, (size_t)i));
    size_t i;
    json_array_foreach(json_object_get(c, "probs"), i, q)
        want[json_integer_value(json_array_get(q, 0))] = json_number_value(json_array_get(q, 1));

    dr_err e;
    sample_opt o = read_chain(json_object_get(c, "chain"));
    sampler *s = sampler_new(&o, n, 64, &e);
    assert_non_null(s);
    assert_int_equal(sampler_probs(s, x, hist, n_hist, 0, 0, p, &e), DR_OK);
    for (int k = 0; k < n; k++)
        if (!(fabs(p[k] - want[k]) <= worst)) worst = fabs(p[k] - want[k]);
    sampler_free(s);
    return worst;
}

static void distributions(void **state)
{
    (void)state;
    json_error_t je;
    json_t *root = json_load_file("tests/golden/data/sampler.json", 0, &je);
    if (!root) fail_msg("tests/golden/data/sampler.json: %s", je.text);
    size_t i, bad = 0;
    double worst = 0;
    const json_t *c;
    json_array_foreach(json_object_get(root, "cases"), i, c) {
        double d = one_case(root, c);
        if (!(d <= worst)) worst = d;
        if (d <= 1e-6) continue;
        char *s = json_dumps(json_object_get(c, "chain"), 0);
        print_message("%s %s differs by %.3g\n",
                      json_string_value(json_object_get(c, "logits")), s, d);
        free(s);
        bad++;
    }
    print_message("%zu distributions, largest difference %.3g\n", i, worst);
    assert_true(i >= 100);
    assert_int_equal(bad, 0);
    json_decref(root);
}

int main(void)
{
    const struct CMUnitTest t[] = { cmocka_unit_test(distributions) };
    return cmocka_run_group_tests(t, NULL, NULL);
}
