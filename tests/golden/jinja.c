/* jinja.c - small templates, one feature each, against jinja2 as transformers sets it up:
 * data/jinja.json, made by tools/golden/jinja_cases.py. What fails there fails here. */
#define _POSIX_C_SOURCE 200809L
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>
#include "text/jinja.h"

enum { VARS = 32 };

/* {"name": "JSON text"}: the variables. */
static int read_vars(const json_t *o, jinja_var *v)
{
    const char *key;
    json_t *x;
    int n = 0;
    json_object_foreach((json_t *)(uintptr_t)o, key, x) {
        assert_true(n < VARS);
        v[n++] = (jinja_var){ .name = key, .kind = JINJA_JSON, .text = span_of(json_string_value(x)) };
    }
    return n;
}

static bool one(const json_t *c, const jinja_var *v, int n, int64_t now)
{
    jinja_var own[VARS];
    const json_t *vars = json_object_get(c, "vars");
    if (vars) n = read_vars(vars, own), v = own;
    const char *name = json_string_value(json_object_get(c, "name"));
    const json_t *source = json_object_get(c, "template");
    const json_t *want = json_object_get(c, "text");
    const char *error = json_string_value(json_object_get(c, "error"));
    span s = { json_string_value(source), json_string_length(source) };
    jinja_opt o = { .now = now };
    jinja_out out = { 0 };
    dr_err e = { 0 };
    jinja *t = jinja_parse(s, &e);
    int rc = t ? jinja_render(t, v, n, &o, &out, &e) : e.code;
    bool ok = error ? rc && e.msg[0] && !out.text.n
            : !rc && out.text.n == json_string_length(want) && out.mark.n == out.text.n
              && !memcmp(buf_str(&out.text), json_string_value(want), out.text.n);
    if (!ok)
        print_message("%s (%d: %s)\n--- got\n%s\n--- want\n%s\n", name, rc, e.msg,
                      buf_str(&out.text), error ? error : json_string_value(want));
    jinja_out_free(&out);
    jinja_free(t);
    return ok;
}

static void replay(void **state)
{
    (void)state;
    json_error_t je;
    json_t *root = json_load_file("tests/golden/data/jinja.json", 0, &je);
    if (!root) fail_msg("%s", je.text);
    jinja_var v[VARS] = { 0 };
    json_t *x;
    int n = read_vars(json_object_get(root, "vars"), v);
    int64_t now = json_integer_value(json_object_get(root, "now"));
    size_t i, bad = 0;
    json_array_foreach(json_object_get(root, "cases"), i, x) bad += !one(x, v, n, now);
    print_message("%zu templates\n", i);
    assert_true(i >= 330);
    assert_int_equal(bad, 0);
    json_decref(root);
}

int main(void)
{
    setenv("TZ", "UTC", 1);
    tzset();
    const struct CMUnitTest t[] = { cmocka_unit_test(replay) };
    return cmocka_run_group_tests(t, NULL, NULL);
}
