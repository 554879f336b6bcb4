/* test_tokdata.c - a tokenizer from each form into each other and back, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "hostile.h"
#include "base/buf.h"
#include "base/os.h"
#include "pack/tokdata.h"
#include "text/tokenizer.h"

enum { V = 1024 };

static os_file load(const char *name)
{
    char path[256];
    os_file f;
    dr_err e = {0};
    snprintf(path, sizeof path, "tests/data/tokenizers/%s", name);
    if (os_map(&f, path, &e)) fail_msg("%s", e.msg);
    return f;
}

static void read_from(tokdata *m, span file)
{
    dr_err e = {0};
    if (tokdata_init(m, V, &e) || tokdata_read(m, file, &e)) fail_msg("%s", e.msg);
}

/* Through GGUF's metadata; *mem is freed by the caller. */
static void through_gguf(const tokdata *m, tokdata *out)
{
    dr_err e = {0};
    gguf_writer *w = gguf_write_new(&e);
    if (tokdata_put_gguf(m, w, &e)) fail_msg("%s", e.msg);
    size_t n = (size_t)gguf_write_size(w);
    void *mem = mem_alloc(n);
    gguf g;
    if (gguf_write_start_mem(w, mem, &e) || gguf_parse(&g, mem, n, &e)) fail_msg("%s", e.msg);
    /* what the rest of the program makes of it */
    tokenizer *t = tok_from_gguf(&g, &e);
    if (!t) fail_msg("%s", e.msg);
    tok_free(t);
    if (tokdata_init(out, V, &e) || tokdata_from_gguf(out, &g, &e)) fail_msg("%s", e.msg);
    gguf_free(&g);
    gguf_write_free(w);
    mem_free(mem);
}

static void same_text(const buf *b, span want, const char *what)
{
    if (b->n != want.n || memcmp(b->p, want.p, b->n))
        fail_msg("%s: %zu bytes, %zu wanted", what, b->n, want.n);
}

static span span_file(const os_file *f) { return (span){ (const char *)f->p, f->n }; }

/* tokenizer.model -> GGUF -> tokenizer.model and tokenizer.json -> tokenizer.json again */
static void round_trip(const char *name, span file, bool model)
{
    dr_err e = {0};
    tokdata m, g, j;
    buf a = { .cap_max = 1 << 24 }, b = { .cap_max = 1 << 24 };
    read_from(&m, file);
    through_gguf(&m, &g);
    if (model) {
        if (tokdata_model(&g, &b, &e)) fail_msg("%s: %s", name, e.msg);
        same_text(&b, file, name);
        buf_reset(&b);
    }
    if (tokdata_json(&m, &a, &e) || tokdata_json(&g, &b, &e)) fail_msg("%s: %s", name, e.msg);
    same_text(&b, buf_span(&a), "tokenizer.json from GGUF");
    /* added tokens behind the vocabulary are no part of it: the library would count them twice */
    assert_null(strstr(buf_str(&a), "\"<|eot_id|>\": "));
    char path[] = "/tmp/drover-test-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, a.p, a.n) == (ssize_t)a.n);
    close(fd);
    tokenizer *t = tok_open(path, &e);           // the rest of the program takes it
    if (!t) fail_msg("%s: %s", name, e.msg);
    tok_free(t);
    unlink(path);
    read_from(&j, buf_span(&a));
    buf_reset(&b);
    if (tokdata_json(&j, &b, &e)) fail_msg("%s: %s", name, e.msg);
    same_text(&b, buf_span(&a), "tokenizer.json read again");
    assert_int_equal(m.bos, j.bos);
    assert_int_equal(m.eos, j.eos);
    assert_int_equal(m.bos, g.bos);
    assert_int_equal(m.n, g.n);
    buf_free(&a), buf_free(&b);
    tokdata_free(&m), tokdata_free(&g), tokdata_free(&j);
}

static void trips(void **state)
{
    (void)state;
    static const struct { const char *name; bool model; } file[] = {
        { "small.tiktoken", true }, { "small.model", true }, { "small.json", false },
    };
    for (size_t i = 0; i < sizeof file / sizeof *file; i++) {
        os_file f = load(file[i].name);
        round_trip(file[i].name, span_file(&f), file[i].model);
        os_unmap(&f);
    }
}

/* Tokens that are bytes alone, which nothing merges: a tiktoken file of 256 lines. */
static void bytes_alone(void **state)
{
    (void)state;
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    buf b = { .cap_max = 1 << 16 };
    for (int i = 0; i < 256; i++) buf_printf(&b, "%c%c== %d\n", digit[i >> 2], digit[(i & 3) << 4], i);
    round_trip("256 bytes", buf_span(&b), true);
    buf_free(&b);
}

/* The text of a tiktoken file that is not as drover writes it is kept whole. */
static void other_hand(void **state)
{
    (void)state;
    dr_err e = {0};
    os_file f = load("small.tiktoken");
    span all = span_file(&f);
    all.n--;                                     // without the last line's end
    tokdata m, g;
    buf b = { .cap_max = 1 << 20 };
    read_from(&m, all);
    assert_true(m.raw.n == all.n);
    through_gguf(&m, &g);
    assert_int_equal(tokdata_model(&g, &b, &e), DR_OK);
    same_text(&b, all, "tokenizer.model");
    buf_free(&b);
    tokdata_free(&m), tokdata_free(&g);
    os_unmap(&f);
}

static void config(void **state)
{
    (void)state;
    static const char text[] = "{\"bos_token\": \"<|begin_of_text|>\", \"eos_token\": {\"content\":"
        " \"<|eot_id|>\"}, \"pad_token\": null, \"add_bos_token\": false, \"chat_template\": \"a\\n{{b}}"
        "\", \"model_max_length\": 1000000000000000019884624838656}";
    dr_err e = {0};
    os_file f = load("small.tiktoken");
    tokdata m, g;
    read_from(&m, span_file(&f));
    int64_t eot = tokdata_find(&m, "<|eot_id|>"), end = tokdata_find(&m, "<|end_of_text|>");
    assert_true(m.eos == end && m.eot == eot && m.eom == eot - 1 && m.bos == end - 1);
    if (tokdata_config_file(&m, span_of(text), &e)) fail_msg("%s", e.msg);
    through_gguf(&m, &g);
    assert_true(g.eos == eot && g.bos == end - 1 && g.pad == -1 && g.add_bos == 0);
    same_text(&g.chat, span_of("a\n{{b}}"), "chat template");
    buf b = { .cap_max = 1 << 20 };
    tokdata n;
    assert_int_equal(tokdata_config_json(&g, 8192, &b, &e), DR_OK);
    read_from(&n, span_file(&f));
    if (tokdata_config_file(&n, buf_span(&b), &e)) fail_msg("%s", e.msg);
    assert_true(n.eos == eot && n.add_bos == 0);
    same_text(&n.chat, span_of("a\n{{b}}"), "chat template");
    buf_free(&b);
    tokdata_free(&m), tokdata_free(&g), tokdata_free(&n);
    os_unmap(&f);
}

/* Control tokens of other names, or merges that are not tiktoken's: no tokenizer.model says them. */
static void not_meta(void **state)
{
    (void)state;
    os_file f = load("small.tiktoken");
    for (int k = 0; k < 3; k++) {
        tokdata m;
        buf b = { .cap_max = 1 << 20 };
        dr_err e = {0};
        read_from(&m, span_file(&f));
        if (k == 0) m.text.p[m.tok[tokdata_find(&m, "<|eot_id|>")].at + 2] = 'E';
        if (k == 1) m.merges.n -= sizeof(tok_place);
        if (k == 2) m.whole = false;
        if (tokdata_model(&m, &b, &e) != DR_EUNSUPPORTED) fail_msg("%d: %s", k, e.msg);
        buf_free(&b);
        tokdata_free(&m);
    }
    os_unmap(&f);
}

static int parse(const void *bytes, size_t n, dr_err *e)
{
    tokdata m;
    buf b = { .cap_max = 1 << 24 };
    int rc = tokdata_init(&m, V, e);
    if (rc == DR_OK) rc = tokdata_read(&m, (span){ bytes, n }, e);
    if (rc == DR_OK) rc = tokdata_json(&m, &b, e);
    buf_free(&b);
    tokdata_free(&m);
    return rc;
}

static void hostile(void **state)
{
    (void)state;
    static const char *const names[] = { "small.tiktoken", "small.model", "small.json" };
    dr_err e;
    hostile_begin();
    for (int i = 0; i < 3; i++) {
        os_file f = load(names[i]);
        for (size_t k = 0; k < f.n; k += 7) hostile_once(parse, f.p, k, &e);
        hostile_flip(parse, f.p, f.n, f.n / 150 + 1);
        hostile_nomem(parse, f.p, f.n, i == 2);
        os_unmap(&f);
    }
    static const char *const bad[][2] = {
        { "YQ== 0\nYg== 2\n", "line 2" }, { "", "not a tokenizer file" },
        { "{\"model\": {\"type\": \"WordPiece\"}}", "only BPE" },
        { "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 5000}, \"merges\": []}}", "vocabulary is" },
        { "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 1, \"b\": 1}, \"merges\": []}}", "twice" },
        { "\x0a\x05\x0a\xff", "broken SentencePiece" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        e = (dr_err){0};
        assert_int_not_equal(parse(bad[i][0], strlen(bad[i][0]), &e), DR_OK);
        if (!strstr(e.msg, bad[i][1])) fail_msg("%s: %s", bad[i][0], e.msg);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trips), cmocka_unit_test(bytes_alone),
        cmocka_unit_test(other_hand), cmocka_unit_test(config), cmocka_unit_test(not_meta),
        cmocka_unit_test(hostile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
