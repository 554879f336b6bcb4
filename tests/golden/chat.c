/* chat.c - prompts against the reference renderers, byte for byte: Hugging Face's templates run
 * by transformers (data/chat_hf.json) and Meta's ChatFormat (data/chat_meta.json), each made by
 * tools/golden/chat.py. Where the reference raises an error, so do we. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "chat_case.h"

static bool one(const json_t *c)
{
    chat_case x;
    if (!chat_case_read(&x, c)) return false;
    buf b;
    dr_err e = { 0 };
    buf_init(&b, 1 << 20);
    int rc = chat_render(&x.o, x.m, x.n, &b, &e);
    bool ok = x.error ? rc == DR_EINVAL && e.msg[0] && b.n == 0
            : rc == DR_OK && !strcmp(buf_str(&b), x.text);
    if (!ok)
        print_message("%s %s (%d: %s)\n--- got\n%s\n--- want\n%s\n", chat_name(x.o.kind), x.name, rc,
                      e.msg, buf_str(&b), x.error ? x.error : x.text);
    buf_free(&b);
    return ok;
}

static void replay(const char *path, size_t least)
{
    json_error_t je;
    json_t *root = json_load_file(path, 0, &je);
    if (!root) fail_msg("%s: %s", path, je.text);
    size_t i, bad = 0;
    const json_t *c;
    json_array_foreach(root, i, c) {
        bad += !one(c);
        chat_case_text_args(c);
        bad += !one(c);
    }
    print_message("%s: %zu prompts\n", path, i);
    assert_true(i >= least);
    assert_int_equal(bad, 0);
    json_decref(root);
}

static void hugging_face(void **state)
{
    (void)state;
    replay("tests/golden/data/chat_hf.json", 180);
}

static void meta(void **state)
{
    (void)state;
    replay("tests/golden/data/chat_meta.json", 17);
}

int main(void)
{
    const struct CMUnitTest t[] = { cmocka_unit_test(hugging_face), cmocka_unit_test(meta) };
    return cmocka_run_group_tests(t, NULL, NULL);
}
