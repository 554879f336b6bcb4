/* tokenizer.c - ids of the reference libraries: the small tokenizers of tests/data always, the
 * official vocabularies where they are found (they are not ours to ship). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <jansson.h>
#include "base/mem.h"
#include "base/os.h"
#include "text/tokenizer.h"

static int wrong, lines;

static void one_line(const tokenizer *t, const char *name, char *line)
{
    char *text = strchr(line, '\t'), *want = text ? strchr(text + 1, '\t') : NULL;
    if (!want) fail_msg("%s: a broken line", name);
    *text++ = 0, *want++ = 0;
    json_t *s = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    if (!json_is_string(s)) fail_msg("%s: broken text %s", name, text);
    span in = { json_string_value(s), json_string_length(s) };
    ids v = {0};
    dr_err e = {0};
    buf got = { .cap_max = 1 << 24 }, back = { .cap_max = 1 << 24 };
    bool special = !strcmp(line, "special");
    if (tok_encode(t, in, special ? TOK_SPECIAL : 0, &v, &e)) fail_msg("%s: %s", name, e.msg);
    for (int64_t i = 0; i < v.n; i++) buf_printf(&got, i ? " %d" : "%d", v.p[i]);
    lines++;
    if (strcmp(buf_str(&got), want) && wrong++ < 5)
        print_error("%s %s %s:\n  got  %s\n  want %s\n", name, line, text, buf_str(&got), want);
    /* Nothing is lost on the way: byte-level BPE and byte fallback give the text back. */
    assert_int_equal(tok_decode(t, v.p, v.n, true, &back, &e), 0);
    if (!strstr(name, "norm") && !strstr(name, "small.model") && !strstr(name, "llama2") &&
        !strstr(name, "gemma") && !span_eq(buf_span(&back), in) && wrong++ < 5)
        print_error("%s: %s decodes as %s\n", name, text, buf_str(&back));
    buf_free(&got);
    buf_free(&back);
    ids_free(&v);
    json_decref(s);
}

static void compare(const char *model, const char *golden)
{
    dr_err e = {0};
    tokenizer *t = tok_open(model, &e);
    if (!t) fail_msg("%s", e.msg);
    FILE *f = fopen(golden, "rb");
    if (!f) fail_msg("%s is missing", golden);
    char *line = NULL;
    size_t cap = 0;
    wrong = lines = 0;
    for (ssize_t n; (n = getline(&line, &cap, f)) > 0;) {
        if (line[n - 1] == '\n') line[n - 1] = 0;
        if (*line != '#') one_line(t, model, line);
    }
    free(line);
    fclose(f);
    tok_free(t);
    assert_true(lines >= 500);
    assert_int_equal(wrong, 0);
}

static void small(void **state)
{
    static const char *const name[] = { "small.json", "small.gguf", "small.tiktoken",
                                        "small.model", "small_norm.model" };
    (void)state;
    for (size_t i = 0; i < sizeof name / sizeof *name; i++) {
        char path[256], golden[256];
        snprintf(path, sizeof path, "tests/data/tokenizers/%s", name[i]);
        snprintf(golden, sizeof golden, "tests/data/tokenizers/%s.golden", name[i]);
        compare(path, golden);
    }
}

static void official(void **state)
{
    (void)state;
    static const char *const name[] = { "llama3/tokenizer.model", "llama3_hf", "llama3_1_hf",
        "llama2_hf", "gemma3_hf", "llama2/tokenizer.model" };
    const char *dir = getenv("DR_TOKENIZERS");
    for (size_t i = 0; i < sizeof name / sizeof *name; i++) {
        char path[1024], golden[256];
        snprintf(path, sizeof path, "%s/%s", dir ? dir : "../shared/data/tokenizers", name[i]);
        snprintf(golden, sizeof golden, "tests/golden/tokenizers/%s.golden", name[i]);
        char *slash = strchr(golden + strlen("tests/golden/tokenizers/"), '/');
        if (slash) {
            memmove(slash + 2, slash + 1, strlen(slash));
            slash[0] = slash[1] = '_';
        }
        if (!os_exists(path)) {
            printf("skip %s: no %s (DR_TOKENIZERS names the folder)\n", name[i], path);
            continue;
        }
        compare(path, golden);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small), cmocka_unit_test(official),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
