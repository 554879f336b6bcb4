/* test_gguf.c - the GGUF reader and writer: what is read, what is refused and how. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <signal.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/block.h"
#include "base/buf.h"
#include "base/os.h"
#include "format/gguf.h"
#include "format/gguf_write.h"
#include "hostile.h"

static unsigned sink;                            /* keeps reads alive */

static void touch(const void *p, size_t n)
{
    const uint8_t *b = p;
    for (size_t i = 0; i < n; i++) sink += b[i];
}

/* Parse and read everything that was handed out. */
static int parse(const void *bytes, size_t n, dr_err *e)
{
    gguf g;
    int rc = gguf_parse(&g, bytes, n, e);
    if (rc != DR_OK) {
        assert_null(g.mem);
        return rc;
    }
    for (uint64_t i = 0; i < g.n_kv; i++) {
        const gguf_kv *k = &g.kv[i];
        touch(k->key.p, k->key.n);
        if (k->type == GGUF_STRING) touch(k->str.p, k->str.n);
        else touch(k->at, k->bytes);
        const uint8_t *at = k->at;
        for (uint64_t j = 0; k->type == GGUF_ARRAY && k->elem == GGUF_STRING && j < k->n; j++) {
            span s = gguf_array_str(&at);
            touch(s.p, s.n);
        }
        char key[64];
        snprintf(key, sizeof key, SPAN_FMT, SPAN_ARG(k->key));
        uint64_t u;
        double d;
        bool b;
        span s;
        gguf_get_u64(&g, key, &u);
        gguf_get_f64(&g, key, &d);
        gguf_get_bool(&g, key, &b);
        gguf_get_str(&g, key, &s);
    }
    for (uint64_t i = 0; i < g.n_tensors; i++)
        if (g.tensor[i].data) touch(g.tensor[i].data, g.tensor[i].bytes);
    gguf_free(&g);
    return DR_OK;
}

/* A file with a value of every kind and tensors of several types. */
static void *sample(size_t *n)
{
    dr_err e = {0};
    gguf_writer *w = gguf_write_new(&e);
    span words[] = { { "a", 1 }, { "", 0 }, { "longer word", 11 } };
    int32_t ints[] = { 1, -2, 3 };
    float floats[] = { 0.5f, -1 };
    gguf_put_str(w, "general.architecture", span_of("llama"));
    gguf_put_u32(w, "u32", 4000000000u);
    gguf_put_u64(w, "u64", UINT64_MAX);
    gguf_put_f32(w, "f32", 1.5f);
    gguf_put_bool(w, "yes", true);
    gguf_put_strs(w, "words", words, 3);
    gguf_put_i32s(w, "ints", ints, 3);
    gguf_put_f32s(w, "floats", floats, 2);
    int64_t a[] = { 3, 2 }, b[] = { 32, 2, 2 }, c[] = { 5 };
    assert_int_equal(gguf_add_tensor(w, "a", DT_F32, 2, a, &e), DR_OK);
    assert_int_equal(gguf_add_tensor(w, "b.weight", DT_Q8_0, 3, b, &e), DR_OK);
    assert_int_equal(gguf_add_tensor(w, "c", DT_F16, 1, c, &e), DR_OK);
    *n = (size_t)gguf_write_size(w);
    uint8_t *p = malloc(*n), data[24 + 4 * 34 + 10];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)i;
    assert_int_equal(gguf_write_start_mem(w, p, &e), DR_OK);
    assert_int_equal(gguf_write_data(w, data, 50, &e), DR_OK);        // across a border
    assert_int_equal(gguf_write_data(w, data + 50, sizeof data - 50, &e), DR_OK);
    assert_int_equal(gguf_write_end(w, &e), DR_OK);
    gguf_write_free(w);
    return p;
}

static void reads_what_was_written(void **state)
{
    (void)state;
    size_t n;
    uint8_t *p = sample(&n);
    for (uint8_t version = 2; version <= 3; version++) {
        gguf g;
        dr_err e = {0};
        p[4] = version;
        assert_int_equal(gguf_parse(&g, p, n, &e), DR_OK);
        assert_int_equal(g.version, version);
        uint64_t u = 0;
        double d = 0;
        bool b = false;
        span s;
        assert_true(gguf_get_u64(&g, "u32", &u) && u == 4000000000u);
        assert_true(gguf_get_u64(&g, "u64", &u) && u == UINT64_MAX);
        assert_true(gguf_get_f64(&g, "f32", &d) && d == 1.5);
        assert_true(gguf_get_f64(&g, "u64", &d) && d == 0x1p64);
        assert_true(gguf_get_bool(&g, "yes", &b) && b);
        assert_true(gguf_get_str(&g, "general.architecture", &s) && span_is(s, "llama"));
        assert_false(gguf_get_u64(&g, "f32", &u));
        assert_false(gguf_get_u64(&g, "absent", &u));
        assert_false(gguf_get_str(&g, "u32", &s));
        const gguf_kv *k = gguf_find(&g, "words");
        const uint8_t *at = k->at;
        assert_int_equal(k->n, 3);
        assert_true(span_is(gguf_array_str(&at), "a"));
        assert_true(span_is(gguf_array_str(&at), ""));
        assert_true(span_is(gguf_array_str(&at), "longer word"));
        assert_ptr_equal(at, k->at + k->bytes);
        assert_int_equal(gguf_find(&g, "ints")->bytes, 12);
        const gguf_tensor *t = gguf_tensor_find(&g, "b.weight");
        assert_int_equal(t->n_dims, 3);
        assert_int_equal(t->dim[0], 32);
        assert_int_equal(t->bytes, 4 * 34);
        assert_int_equal((size_t)(t->data - p) % 32, 0);
        assert_int_equal(t->data[0], 24);
        assert_int_equal(gguf_tensor_find(&g, "c")->data[0], 24 + 4 * 34);
        assert_null(gguf_tensor_find(&g, "d"));
        gguf_free(&g);
    }
    free(p);
}

/* ---- files made by hand, to be refused ---- */

static buf by_hand;

static void u32(uint32_t v) { buf_put(&by_hand, &v, 4); }
static void u64(uint64_t v) { buf_put(&by_hand, &v, 8); }
static void str(const char *s) { u64(strlen(s)); buf_puts(&by_hand, s); }
static void head(uint32_t version, uint64_t tensors, uint64_t kvs)
{
    by_hand.cap_max = 1 << 20;
    buf_reset(&by_hand);
    buf_puts(&by_hand, "GGUF");
    u32(version);
    u64(tensors);
    u64(kvs);
}
static void info(const char *name, uint64_t d0, uint64_t d1, uint32_t type, uint64_t offset)
{
    str(name);
    u32(2);
    u64(d0);
    u64(d1);
    u32(type);
    u64(offset);
}
static void data(size_t n)
{
    while (by_hand.n % 32) buf_putc(&by_hand, 0);
    for (size_t i = 0; i < n; i++) buf_putc(&by_hand, 1);
}
static void refused(int code, const char *why)
{
    dr_err e;
    int rc = hostile_once(parse, by_hand.p, by_hand.n, &e);
    if (rc != code || !strstr(e.msg, why))
        fail_msg("wanted %d \"…%s…\", got %d \"%s\"", code, why, rc, e.msg);
}

static void refusals(void **state)
{
    (void)state;
    head(1, 0, 0); refused(DR_EUNSUPPORTED, "version 1");
    head(4, 0, 0); refused(DR_EUNSUPPORTED, "version 4");
    head(3u << 24, 0, 0); refused(DR_EUNSUPPORTED, "big-endian");
    head(3, 1u << 30, 0); refused(DR_EFORMAT, "promises");
    head(3, 0, UINT64_MAX); refused(DR_EFORMAT, "promises");
    head(3, 0, 1); refused(DR_EFORMAT, "inside its metadata");
    head(3, 1, 0); refused(DR_EFORMAT, "inside its list of tensors");
    buf_reset(&by_hand);
    buf_puts(&by_hand, "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 98765\n");
    refused(DR_EFORMAT, "Git LFS pointer and not the weights (98765 bytes)");
    head(3, 0, 2), str("k"), u32(GGUF_U32), u32(1), str("k"), u32(GGUF_U32), u32(1);
    refused(DR_EFORMAT, "key k appears twice");
    head(3, 0, 1), str("k"), u32(GGUF_ARRAY), u32(GGUF_ARRAY), u64(1);
    refused(DR_EUNSUPPORTED, "array of arrays");
    head(3, 0, 1), str("k"), u32(13); refused(DR_EFORMAT, "value type 13");
    head(3, 0, 1), str("k"), u32(GGUF_ARRAY), u32(77), u64(1); refused(DR_EFORMAT, "type 77");
    head(3, 0, 1), str("k"), u32(GGUF_ARRAY), u32(GGUF_U64), u64(1ull << 61);
    refused(DR_EFORMAT, "inside its metadata");
    head(3, 0, 1), str("k"), u32(GGUF_ARRAY), u32(GGUF_STRING), u64(UINT64_MAX);
    refused(DR_EFORMAT, "inside its metadata");
    head(3, 0, 1), str(""), u32(GGUF_U32), u32(1); refused(DR_EFORMAT, "broken key");
    head(3, 0, 1), str("k"), u32(GGUF_BOOL), buf_putc(&by_hand, 2); refused(DR_EFORMAT, "bool");
    static const uint32_t bad_align[] = { 0, 1, 4, 24, 33, 1u << 21, 1u << 31 };
    for (size_t i = 0; i < sizeof bad_align / sizeof *bad_align; i++) {
        head(3, 0, 1), str("general.alignment"), u32(GGUF_U32), u32(bad_align[i]);
        refused(DR_EFORMAT, "general.alignment");
    }
    head(3, 0, 1), str("general.alignment"), u32(GGUF_STRING), str("32");
    refused(DR_EFORMAT, "general.alignment");
    head(3, 2, 0), info("t", 4, 1, DT_F32, 0), info("t", 4, 1, DT_F32, 32), data(64);
    refused(DR_EFORMAT, "tensor t appears twice");
    head(3, 1, 0), info("t", 33, 1, DT_Q8_0, 0), data(64); refused(DR_EFORMAT, "blocks of 32");
    head(3, 1, 0), info("t", 0, 1, DT_F32, 0), data(64); refused(DR_EFORMAT, "dimension 0 is 0");
    head(3, 1, 0), info("t", 1ull << 40, 1ull << 40, DT_F32, 0), data(64);
    refused(DR_EFORMAT, "dimension 1");
    head(3, 1, 0), info("t", 1ull << 62, 1, DT_F32, 0), data(64);
    refused(DR_EFORMAT, "larger than any file");
    head(3, 1, 0), info("t", 4, 1, DT_F32, UINT64_MAX - 31), data(64);
    refused(DR_EFORMAT, "cut short");
    head(3, 1, 0), info("t", 4, 4, DT_F32, UINT64_MAX - 31), data(64);
    refused(DR_EFORMAT, "beyond any file");
    head(3, 1, 0), info("t", 4, 1, DT_F32, 8), data(64); refused(DR_EFORMAT, "alignment");
    head(3, 2, 0), info("t", 16, 1, DT_F32, 0), info("u", 4, 1, DT_F32, 32), data(96);
    refused(DR_EFORMAT, "inside t");
    head(3, 1, 0), info("t", 40, 1, DT_F32, 0), data(100);
    refused(DR_EFORMAT, "need 60 bytes more");
    head(3, 1, 0), info("\x1b[2Jt", 0, 1, DT_F32, 0), data(64);
    refused(DR_EFORMAT, "tensor ?[2Jt: dimension 0 is 0");
    head(3, 1, 0), str("t"), u32(5); refused(DR_EFORMAT, "5 dimensions");
    buf_free(&by_hand);
}

/* Types that do not run are named and sized where known; others have no data. */
static void foreign_types(void **state)
{
    (void)state;
    dr_err e = {0};
    gguf g;
    head(3, 2, 0), info("t", 256, 1, 23, 0), info("u", 7, 1, 222, 160), data(160);
    assert_int_equal(gguf_parse(&g, by_hand.p, by_hand.n, &e), DR_OK);
    assert_int_equal(g.tensor[0].bytes, 136);
    assert_non_null(g.tensor[0].data);
    assert_null(g.tensor[1].data);
    gguf_free(&g);
    buf_free(&by_hand);
}

static void hostile(void **state)
{
    (void)state;
    size_t n;
    uint8_t *p = sample(&n);
    /* the padding behind the last tensor may be missing: a file that ends with its data */
    n -= 32 - 10;
    hostile_truncate(parse, p, n);
    hostile_flip(parse, p, n, 1);
    hostile_nomem(parse, p, n, false);
    free(p);
}

/* As many entries as the header may promise, all tiny: the tables stay below the bound. */
static void many_entries(void **state)
{
    (void)state;
    dr_err e;
    head(3, 0, 8192);
    for (int i = 0; i < 8192; i++) {
        char key[16];
        snprintf(key, sizeof key, "%x", i);
        str(key), u32(GGUF_U8), buf_putc(&by_hand, 1);
    }
    assert_int_equal(hostile_once(parse, by_hand.p, by_hand.n, &e), DR_OK);
    buf_free(&by_hand);
}

static int write_file(const char *path, size_t n, dr_err *e)
{
    gguf_writer *w = gguf_write_new(e);
    if (!w) return DR_ENOMEM;
    int64_t dim[] = { 32, (int64_t)n / 64 };
    int rc = gguf_add_tensor(w, "t", DT_F16, 2, dim, e);
    gguf_put_str(w, "key", span_of("value"));
    char *zero = calloc(n, 1);
    if (rc == DR_OK) rc = gguf_write_start(w, path, e);
    if (rc == DR_OK) rc = gguf_write_data(w, zero, n, e);
    if (rc == DR_OK) rc = gguf_write_end(w, e);
    free(zero);
    gguf_write_free(w);
    return rc;
}

/* A full disk (here: a limit on file sizes) is said, and nothing is left behind. */
static void disk_full(void **state)
{
    (void)state;
    char dir[] = "/tmp/drover-test-XXXXXX", path[64], part[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/m.gguf", dir);
    snprintf(part, sizeof part, "%s.part", path);
    dr_err e = {0};
    struct rlimit old, low;
    getrlimit(RLIMIT_FSIZE, &old);
    low = old, low.rlim_cur = 65536;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &low);
    int rc = write_file(path, 1 << 20, &e);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(rc, DR_EIO);
    assert_non_null(strstr(e.msg, "cannot write"));
    assert_false(os_exists(path) || os_exists(part));
    e = (dr_err){0};
    for (long k = 0; ; k++) {
        size_t live = mem_live_bytes();
        mem_fail_after(k);
        rc = write_file(path, 1 << 16, &e);
        mem_fail_after(-1);
        assert_int_equal(mem_live_bytes(), live);
        assert_false(os_exists(part));
        if (rc == DR_OK) break;
        assert_int_equal(rc, DR_ENOMEM);
        assert_false(os_exists(path));
    }
    os_file f;
    assert_int_equal(os_map(&f, path, &e), DR_OK);
    assert_int_equal(parse(f.p, f.n, &e), DR_OK);
    os_unmap(&f);
    unlink(path);
    rmdir(dir);
}

static void writer_misuse(void **state)
{
    (void)state;
    dr_err e = {0};
    gguf_writer *w = gguf_write_new(&e);
    int64_t dim[] = { 33, 1 }, ok[] = { 32 };
    char mem[1024];
    assert_int_equal(gguf_add_tensor(w, "t", DT_Q8_0, 2, dim, &e), DR_EINVAL);
    assert_int_equal(gguf_add_tensor(w, "t", 99, 1, ok, &e), DR_EINVAL);
    assert_int_equal(gguf_add_tensor(w, "t", DT_Q8_0, 1, ok, &e), DR_OK);
    assert_true(gguf_write_size(w) <= sizeof mem);
    assert_int_equal(gguf_write_start_mem(w, mem, &e), DR_OK);
    assert_int_equal(gguf_write_data(w, mem, 33, &e), DR_OK);
    assert_int_equal(gguf_write_end(w, &e), DR_EINVAL);            // a byte is missing
    assert_int_equal(gguf_write_data(w, mem, 2, &e), DR_EINVAL);   // one too many
    gguf_write_free(w);
}

int main(void)
{
    hostile_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_was_written), cmocka_unit_test(refusals),
        cmocka_unit_test(foreign_types), cmocka_unit_test(hostile),
        cmocka_unit_test(many_entries), cmocka_unit_test(disk_full),
        cmocka_unit_test(writer_misuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
