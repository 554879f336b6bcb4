/* test_prep.c - text into shards: the ids of each document are what tok_encode gives, in order, whatever
 * the number of threads; what fails leaves nothing behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <jansson.h>
#include <sys/stat.h>
#include "folder.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/rng.h"
#include "train/prep.h"
#include "train/shard.h"
#include "train/shard_tok.h"

#define DIR_TOK "tests/data/tokenizers/"
static tokenizer *tok;

static int up(void **state)
{
    dr_err e = {0};
    tok = tok_open(DIR_TOK "small.json", &e);
    return tok ? folder_up(state) : -1;
}

static int down(void **state)
{
    tok_free(tok);
    return folder_down(state);
}

static void save(const char *name, const buf *b)
{
    dr_err e = {0};
    if (os_write(at(name), b->p, b->n, &e)) fail_msg("%s", e.msg);
}

/* The text of document i: of a few bytes, now and then of many thousand, now and then none. */
static void doc_text(int i, buf *b)
{
    static const char *const word[] = { "the", "quick", "brown", "fox", "jumps", "\xc3\xa9t\xc3\xa9", "42" };
    int n = i % 11 == 3 ? 0 : i % 301 == 7 ? 9000 : 1 + i % 17;
    buf_reset(b);
    for (int k = 0; k < n; k++)
        buf_printf(b, "%s%s", k ? " " : "", word[(int)(rng_uniform(3, (uint64_t)i, (uint64_t)k) * 7)]);
}

enum { DOCS = 5000 };

static void make_file(const char *name, int n)
{
    buf b = { .cap_max = 1 << 26 }, text = { .cap_max = 1 << 20 };
    for (int i = 0; i < n; i++) {
        doc_text(i, &text);
        buf_printf(&b, "{\"n\": %d, \"text\": \"%s\"}\n", i, buf_str(&text));
    }
    save(name, &b);
    buf_free(&b), buf_free(&text);
}

static void run(pool *p, const char *const *in, int n_in, const char *out, const char *eval, prep_stat *st)
{
    dr_err e = {0};
    prep_opt o = { .tok = tok, .in = in, .n_in = n_in, .out = out, .end = shard_end_of_text(tok),
                   .shard_tokens = 40000, .eval_out = eval, .eval_every = 7 };
    if (prep(&o, p, st, &e)) fail_msg("%s", e.msg);
}

static void check_docs(const char *folder_a, const char *folder_b, int n)
{
    dr_err e = {0};
    shard_set s[2];
    buf text = { .cap_max = 1 << 20 };
    static int32_t id[100000];
    uint64_t next[2] = {0}, k = 0;
    if (shards_open(&s[0], folder_a, &e) || shards_open(&s[1], folder_b, &e)) fail_msg("%s", e.msg);
    assert_true(s[0].n >= 3);
    for (int i = 0; i < n; i++) {
        doc_text(i, &text);
        if (!text.n) continue;
        ids v = {0};
        assert_int_equal(tok_encode(tok, buf_span(&text), TOK_BOS, &v, &e), 0);
        assert_int_equal(ids_put(&v, shard_end_of_text(tok), &e), 0);
        int side = k++ % 7 == 6;
        assert_true(next[side] < s[side].n_docs);
        uint64_t d = next[side]++;
        shard *x = shards_find(&s[side], &d);
        if (shard_len(x, d) != (uint64_t)v.n) fail_msg("document %d has %d ids, %d wanted", i,
                                                       (int)shard_len(x, d), (int)v.n);
        if (shard_read(x, d, 0, (uint64_t)v.n, id, &e)) fail_msg("%s", e.msg);
        assert_memory_equal(id, v.p, (size_t)v.n * sizeof *id);
        ids_free(&v);
    }
    assert_int_equal(next[0], s[0].n_docs);
    assert_int_equal(next[1], s[1].n_docs);
    buf_free(&text);
    shards_close(&s[0]), shards_close(&s[1]);
}

static void same_file(const char *a, const char *b)
{
    buf x = { .cap_max = 1 << 26 }, y = { .cap_max = 1 << 26 };
    dr_err e = {0};
    if (os_read(&x, a, &e) || os_read(&y, b, &e)) fail_msg("%s", e.msg);
    assert_int_equal(x.n, y.n);
    assert_memory_equal(x.p, y.p, x.n);
    buf_free(&x), buf_free(&y);
}

static void documents(void **state)
{
    (void)state;
    prep_stat a, b;
    assert_int_equal(mkdir(at("in"), 0777), 0);
    make_file("in/x.jsonl", DOCS);
    const char *const in[1] = { at("in") };
    run(one, in, 1, at("a"), at("ae"), &a);
    run(three, in, 1, at("b"), at("be"), &b);
    check_docs(at("a"), at("ae"), DOCS);
    assert_int_equal(a.docs + a.eval_docs + a.empty, DOCS);
    assert_int_equal(a.empty, (DOCS - 3 + 10) / 11);
    assert_true(a.docs == b.docs && a.tokens == b.tokens && a.eval_docs == b.eval_docs &&
                a.eval_tokens == b.eval_tokens && a.text_bytes == b.text_bytes && a.shards == b.shards);
    for (int i = 0; i < a.shards; i++) {
        char x[32], y[32];
        snprintf(x, sizeof x, "a/%05d.shard", i), snprintf(y, sizeof y, "b/%05d.shard", i);
        same_file(at(x), at(y));
    }
    same_file(at("ae/00000.shard"), at("be/00000.shard"));
    wipe(at("a")), wipe(at("b")), wipe(at("ae")), wipe(at("be")), wipe(at("in"));
}

/* Many small files, more than a batch keeps open, in folders; order is that of their names. */
static void small_files(void **state)
{
    (void)state;
    enum { FILES = 9000 };
    prep_stat st;
    dr_err e = {0};
    buf b = { .cap_max = 1000 };
    char name[64];
    for (int i = 0; i < FILES; i++) {
        snprintf(name, sizeof name, "in/%02d", i / 100);
        if (i % 100 == 0 && os_mkdirs(at(name), &e)) fail_msg("%s", e.msg);
        snprintf(name, sizeof name, "in/%02d/%02d", i / 100, i % 100);
        buf_reset(&b);
        buf_printf(&b, "%d", i);
        save(name, &b);
    }
    buf_reset(&b), buf_puts(&b, "hidden");
    save("in/.hidden", &b);
    const char *const in[1] = { at("in") };
    prep_opt o = { .tok = tok, .in = in, .n_in = 1, .out = at("a"), .end = -1, .no_bos = true };
    if (prep(&o, three, &st, &e)) fail_msg("%s", e.msg);
    assert_int_equal(st.docs, FILES);
    assert_int_equal(st.files, FILES);
    shard_set s;
    if (shards_open(&s, at("a"), &e)) fail_msg("%s", e.msg);
    for (uint64_t d = 0; d < FILES; d++) {
        int32_t id[32];
        uint64_t k = d, n;
        shard *x = shards_find(&s, &k);
        n = shard_len(x, k);
        assert_true(n < 32 && !shard_read(x, k, 0, n, id, &e));
        buf_reset(&b);
        assert_int_equal(tok_decode(tok, id, (int64_t)n, false, &b, &e), 0);
        assert_int_equal(strtol(buf_str(&b), NULL, 10), d);
    }
    shards_close(&s);
    buf_free(&b);
    wipe(at("a")), wipe(at("in"));
}

static void fails(const prep_opt *o, int code, const char *says)
{
    dr_err e = {0};
    prep_stat st;
    size_t live = mem_live_bytes();
    int rc = prep(o, three, &st, &e);
    if (rc != code || !strstr(e.msg, says)) fail_msg("code %d, \"%s\" does not say \"%s\"", rc, e.msg, says);
    assert_int_equal(mem_live_bytes(), live);
}

/* The first broken line is the one that is named, whatever the threads did first; no shard stays. */
static void broken(void **state)
{
    (void)state;
    buf b = { .cap_max = 1 << 24 }, good = { .cap_max = 1 << 24 };
    for (int i = 0; i < 60000; i++) {
        if (i == 40000 || i == 40001 || i == 59999) buf_puts(&b, "{\"text\": 1}\n");
        else buf_printf(&b, "{\"text\": \"some words %d\"}\n", i);
    }
    save("x.jsonl", &b);
    buf_puts(&good, "{\"text\": \"y\"}\n");
    save("y.jsonl", &good);
    const char *const in[2] = { at("x.jsonl"), at("nothing") };
    const char *const other[2] = { at("y.jsonl"), at("nothing") };
    prep_opt o = { .tok = tok, .in = in, .n_in = 1, .out = at("a"), .end = -1, .shard_tokens = 5000 };
    fails(&o, DR_EFORMAT, "x.jsonl line 40001: field \"text\"");
    assert_int_equal(rmdir(at("a")), 0);                 /* it is empty */
    o.n_in = 2;
    fails(&o, DR_EIO, "nothing");
    o.in = other;
    fails(&o, DR_EIO, "nothing");
    o.n_in = 1, o.eval_out = at("e"), o.eval_every = 2;
    fails(&o, DR_EINVAL, "too few");
    o.eval_every = 1;
    fails(&o, DR_EINVAL, "2 or more");
    assert_int_equal(rmdir(at("a")), 0);
    assert_int_equal(rmdir(at("e")), 0);
    wipe(at("x.jsonl")), wipe(at("y.jsonl"));
    buf_free(&b), buf_free(&good);
}

/* Each allocation fails once; those of threads come in any order, so codes alone are looked at. */
static void without_memory(void **state)
{
    (void)state;
    json_set_alloc_funcs(mem_alloc, mem_free);
    make_file("x.txt", 300);
    char path[256];                                      /* at() has eight at a time */
    snprintf(path, sizeof path, "%s", at("x.txt"));
    const char *const in[1] = { path };
    for (long k = 0; ; k += 1 + k / 40) {
        prep_opt o = { .tok = tok, .in = in, .n_in = 1, .out = at("a"), .end = -1, .shard_tokens = 1000,
                       .records = { .format = RECORDS_JSONL } };
        prep_stat st;
        dr_err e = {0};
        size_t live = mem_live_bytes();
        mem_fail_after(k);
        int rc = prep(&o, one, &st, &e);
        mem_fail_after(-1);
        if (mem_live_bytes() != live) fail_msg("allocation %ld: memory is kept", k);
        if (!rc) break;
        if (k > 100000) fail_msg("with all memory: %s", e.msg);
        if (rmdir(at("a")) && os_exists(at("a"))) fail_msg("allocation %ld: files are kept", k);
    }
    wipe(at("a")), wipe(at("x.txt"));
}

/* Another vocabulary is another tokenizer; shards that are there keep their tokenizer's name. */
static void fingerprints(void **state)
{
    (void)state;
    static const char *const names[] = { "small.json", "small.gguf", "small.model", "small.tiktoken" };
    char hex[4][HASH_HEX];
    dr_err e = {0};
    for (int i = 0; i < 4; i++) {
        char path[100];
        snprintf(path, sizeof path, DIR_TOK "%s", names[i]);
        tokenizer *t = tok_open(path, &e);
        if (!t) fail_msg("%s", e.msg);
        assert_int_equal(shard_tokenizer(t, hex[i], &e), 0);
        assert_int_equal(strlen(hex[i]), 64);
        tok_free(t);
        for (int k = 0; k < i; k++) assert_string_not_equal(hex[k], hex[i]);
    }
    /* of each token's length as u32 and its bytes (UINT32_MAX alone: it is a control token), made of
     * tokenizer.json by a script of ten lines */
    assert_string_equal(hex[0], "43aac7b0ca7a0ad404112d0dc29bf407abbc1697e45e8918143209201dba7920");
}

int main(void)
{
    const struct CMUnitTest t[] = {
        cmocka_unit_test(documents), cmocka_unit_test(small_files), cmocka_unit_test(broken),
        cmocka_unit_test(without_memory), cmocka_unit_test(fingerprints),
    };
    return cmocka_run_group_tests(t, up, down);
}
