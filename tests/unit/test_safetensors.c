/* test_safetensors.c - the safetensors reader and writer, and the bound on what JSON may cost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/block.h"
#include "base/buf.h"
#include "base/os.h"
#include "base/rng.h"
#include "format/json.h"
#include "format/safetensors.h"
#include "format/safetensors_write.h"
#include "hostile.h"

static unsigned sink;

static int parse(const void *bytes, size_t n, dr_err *e)
{
    safetensors s;
    int rc = st_parse(&s, bytes, n, e);
    if (rc != DR_OK) {
        assert_null(s.mem);
        return rc;
    }
    for (int64_t i = 0; i < s.n; i++) {
        for (size_t k = 0; k < s.t[i].bytes; k++) sink += s.t[i].data[k];
        for (size_t k = 0; k < s.t[i].name.n; k++) sink += (unsigned char)s.t[i].name.p[k];
    }
    st_free(&s);
    return DR_OK;
}

static buf file;

/* A file of this header and n_data bytes. */
static void make(const char *header, size_t n_data)
{
    file.cap_max = 1 << 24;
    buf_reset(&file);
    uint64_t n = strlen(header);
    buf_put(&file, &n, 8);
    buf_puts(&file, header);
    for (size_t i = 0; i < n_data; i++) buf_putc(&file, (char)i);
}

static void refused(int code, const char *why)
{
    dr_err e;
    int rc = hostile_once(parse, file.p, file.n, &e);
    if (rc != code || !strstr(e.msg, why))
        fail_msg("wanted %d \"…%s…\", got %d \"%s\"", code, why, rc, e.msg);
}

#define T(NAME, TYPE, SHAPE, A, B) \
    "\"" NAME "\":{\"dtype\":\"" TYPE "\",\"shape\":" SHAPE ",\"data_offsets\":[" A "," B "]}"

static void reads(void **state)
{
    (void)state;
    dr_err e = {0};
    safetensors s;
    make("{\"__metadata__\":{\"format\":\"pt\"}," T("b", "BF16", "[2,2]", "12", "20") ","
         T("a", "F32", "[3]", "0", "12") "," T("x", "F8_E4M3", "[2,1]", "20", "22") ","
         T("s", "I64", "[]", "22", "30") "," T("none", "F16", "[0,4]", "30", "30") "}  ", 30);
    if (st_parse(&s, file.p, file.n, &e) != DR_OK) fail_msg("%s", e.msg);
    assert_int_equal(s.n, 5);
    assert_true(span_is(s.t[0].name, "a") && s.t[0].type == DT_F32 && s.t[0].n_dims == 1);
    assert_true(span_is(s.t[1].name, "b") && s.t[1].type == DT_BF16 && s.t[1].dim[1] == 2);
    assert_int_equal(s.t[1].data[0], 12);
    assert_string_equal(st_type_name(s.t[2].type), "F8_E4M3");
    assert_string_equal(st_type_name(s.t[3].type), "I64");
    assert_int_equal(s.t[2].type, DT_F8_E4M3);
    assert_null(type_get(s.t[3].type));
    assert_int_equal(s.t[3].n_dims, 0);
    assert_int_equal(s.t[4].bytes, 0);
    st_free(&s);
    make("{}", 0);
    assert_int_equal(parse(file.p, file.n, &e), DR_OK);
}

static void refusals(void **state)
{
    (void)state;
    make("[]", 0); refused(DR_EFORMAT, "not a safetensors");
    make("{", 0); refused(DR_EFORMAT, "not a safetensors");
    make("{]", 0); refused(DR_EFORMAT, "header: line 1");
    make("{\"a\":1}", 0); refused(DR_EFORMAT, "dtype, shape and data_offsets");
    make("{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4); refused(DR_EFORMAT, "data_offsets");
    make("{" T("a", "F32", "[1]", "0", "4") "," T("a", "F32", "[1]", "4", "8") "}", 8);
    refused(DR_EFORMAT, "duplicate");
    make("{" T("a", "F32", "[1]", "0", "4") "," T("b", "F32", "[1]", "0", "4") "}", 4);
    refused(DR_EFORMAT, "starts at 0, but the one before it ends at 4");
    make("{" T("a", "F32", "[1]", "0", "4") "," T("b", "F32", "[1]", "8", "12") "}", 12);
    refused(DR_EFORMAT, "starts at 8, but the one before it ends at 4");
    make("{" T("a", "F32", "[1]", "0", "4") "}", 6); refused(DR_EFORMAT, "2 bytes behind");
    make("{" T("a", "F32", "[2]", "0", "8") "}", 7); refused(DR_EFORMAT, "ends 1 bytes behind");
    make("{" T("a", "F32", "[2]", "0", "8") "}", 6); refused(DR_EFORMAT, "ends 2 bytes behind");
    make("{" T("a", "F32", "[2]", "0", "4") "}", 8); refused(DR_EFORMAT, "do not match its shape");
    make("{" T("a", "F32", "[-1]", "0", "4") "}", 8); refused(DR_EFORMAT, "dimension 0");
    make("{" T("a", "F32", "[1]", "-4", "0") "}", 8); refused(DR_EFORMAT, "are wanted");
    make("{" T("a", "F32", "[1.5]", "0", "4") "}", 8); refused(DR_EFORMAT, "dimension 0");
    make("{" T("a", "F32", "[4611686018427387904,8]", "0", "4") "}", 8);
    refused(DR_EFORMAT, "dimension 0");
    make("{" T("a", "F32", "[1]", "99999999999999999999", "4") "}", 8);
    refused(DR_EFORMAT, "too big");
    make("{" T("a", "Q9", "[1]", "0", "4") "}", 4); refused(DR_EUNSUPPORTED, "dtype Q9");
    make("{" T("a", "F4", "[1]", "0", "1") "}", 1); refused(DR_EFORMAT, "do not match");
    make("{" T("a", "F32", "[1,1,1,1,1]", "0", "4") "}", 4); refused(DR_EFORMAT, "5 dimensions");
    make("{" T("", "F32", "[1]", "0", "4") "}", 4); refused(DR_EFORMAT, "no name");
    make("{}", 0);
    uint64_t far = 99999999;
    memcpy(file.p, &far, 8);
    refused(DR_EFORMAT, "are missing");
    far = 100000001;
    memcpy(file.p, &far, 8);
    refused(DR_EFORMAT, "not a safetensors");
    buf_reset(&file);
    buf_puts(&file, "version https://git-lfs.github.com/spec/v1\nsize 7\n");
    refused(DR_EFORMAT, "Git LFS");
}

/* Headers that are small and would be large trees. */
static void bombs(void **state)
{
    (void)state;
    static const char *unit[] = { "[],", "{},", "0,", "\"\",", "[[[[[[[[", "{\"\":[" };
    for (size_t u = 0; u < sizeof unit / sizeof *unit; u++) {
        buf b = { .cap_max = 1 << 24 };
        buf_puts(&b, "{\"a\":[");
        while (b.n < 3 << 20) buf_puts(&b, unit[u]);
        buf_puts(&b, "0]}");
        make(b.p, 0);
        dr_err e;
        assert_int_equal(hostile_once(parse, file.p, file.n, &e), DR_EFORMAT);
        buf_free(&b);
    }
}

/* json_cost is never below what jansson really takes. */
static void cost_is_a_bound(void **state)
{
    (void)state;
    static const char *unit[] = {
        "1", "1.5", "true", "null", "[]", "{}", "\"\"", "\"abc\"", "[1]", "[[1]]", "{\"a\":1}",
        "{\"a\":{\"b\":[1,2,3]}}", "\"\\u00e9\\n\"", "1234567890123456789", "[1,2,3,4,5,6,7,8,9]",
        "{\"a\":\"b\",\"c\":\"d\",\"e\":\"f\",\"g\":1,\"h\":2,\"i\":3,\"j\":4,\"k\":5,\"l\":6}",
    };
    enum { UNITS = sizeof unit / sizeof *unit };
    for (int seed = 0; seed < 400; seed++) {
        buf b = { .cap_max = 1 << 24 };
        int n = seed % 20 * (seed % 20) * 5 + 1, keys = seed / 20 % 2, one = seed / 40 % 2;
        buf_puts(&b, keys ? "{" : "[");
        for (int i = 0; i < n; i++) {
            if (i) buf_putc(&b, ',');
            if (keys) buf_printf(&b, "\"%.*s%d\":", seed % 7 * 9, "abcdefghijklmnopqrstuvwxyz"
                                 "abcdefghijklmnopqrstuvwxyz", i);
            int u = one ? seed % UNITS
                        : (int)(rng_uniform((uint64_t)seed, 0, (uint64_t)i) * UNITS);
            buf_puts(&b, unit[u]);
        }
        buf_puts(&b, keys ? "}" : "]");
        size_t live = mem_live_bytes(), cost = json_cost(b.p, b.n);
        mem_peak_reset();
        dr_err e = {0};
        json_t *j = json_read(b.p, b.n, SIZE_MAX, "test", &e);
        size_t peak = mem_peak_bytes() - live;
        if (!j) fail_msg("%s", e.msg);
        if (peak > cost) fail_msg("%zu bytes, said %zu: %.200s", peak, cost, b.p);
        json_decref(j);
        buf_free(&b);
    }
    for (size_t n = 10; n < 1 << 20; n *= 3) {           // one long string, one long number
        for (int k = 0; k < 2; k++) {
            buf b = { .cap_max = 1 << 24 };
            buf_puts(&b, k ? "[1." : "[\"");
            while (b.n < n) buf_puts(&b, k ? "1" : "x");
            buf_puts(&b, k ? "]" : "\"]");
            size_t live = mem_live_bytes(), cost = json_cost(b.p, b.n);
            mem_peak_reset();
            json_decref(json_read(b.p, b.n, SIZE_MAX, "test", NULL));
            if (mem_peak_bytes() - live > cost)
                fail_msg("%zu bytes, said %zu", mem_peak_bytes() - live, cost);
            buf_free(&b);
        }
    }
}

static void hostile(void **state)
{
    (void)state;
    make("{\"__metadata__\":{\"format\":\"pt\"}," T("b", "BF16", "[2,2]", "12", "20") ","
         T("a", "F32", "[3]", "0", "12") "," T("\\u00e9", "I64", "[]", "20", "28") "} ", 28);
    hostile_truncate(parse, file.p, file.n);
    hostile_flip(parse, file.p, file.n, 1);
    hostile_nomem(parse, file.p, file.n, true);
    buf_free(&file);
}

static int write_file(const char *path, dr_err *e)
{
    st_writer *w = st_write_new(e);
    if (!w) return DR_ENOMEM;
    int64_t a[] = { 2, 3 }, b[] = { 5 };
    float x[6] = { 1, 2, 3, 4, 5, 6 };
    uint16_t y[5] = { 7 };
    int rc = st_add_tensor(w, "a \"quoted\" \\ name", DT_F32, 2, a, e);
    if (rc == DR_OK) rc = st_add_tensor(w, "b", DT_F16, 1, b, e);
    if (rc == DR_OK) rc = st_write_start(w, path, e);
    if (rc == DR_OK) rc = st_write_data(w, x, sizeof x, e);
    if (rc == DR_OK) rc = st_write_data(w, y, sizeof y, e);
    if (rc == DR_OK) rc = st_write_end(w, e);
    st_write_free(w);
    return rc;
}

static void writes(void **state)
{
    (void)state;
    char dir[] = "/tmp/drover-test-XXXXXX", path[64], part[80];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/m.safetensors", dir);
    snprintf(part, sizeof part, "%s.part", path);
    dr_err e = {0};
    for (long k = 0; ; k++) {
        size_t live = mem_live_bytes();
        mem_fail_after(k);
        e = (dr_err){0};
        int rc = write_file(path, &e);
        mem_fail_after(-1);
        assert_int_equal(mem_live_bytes(), live);
        assert_false(os_exists(part));
        if (rc == DR_OK) break;
        assert_int_equal(rc, DR_ENOMEM);
        assert_false(os_exists(path));
    }
    os_file f;
    safetensors s;
    assert_int_equal(os_map(&f, path, &e), DR_OK);
    if (st_parse(&s, f.p, f.n, &e) != DR_OK) fail_msg("%s", e.msg);
    assert_int_equal(s.n, 2);
    assert_true(span_is(s.t[0].name, "a \"quoted\" \\ name"));
    float x;
    memcpy(&x, s.t[0].data + 20, 4);
    assert_true(x == 6 && s.t[1].data[0] == 7 && (s.t[0].data - f.p) % 8 == 0);
    st_free(&s);
    os_unmap(&f);
    st_writer *w = st_write_new(&e);
    int64_t one[] = { 1 };
    assert_int_equal(st_add_tensor(w, "q", DT_Q8_0, 1, one, &e), DR_EINVAL);
    st_write_free(w);
    unlink(path);
    rmdir(dir);
}

int main(void)
{
    hostile_begin();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads), cmocka_unit_test(refusals), cmocka_unit_test(bombs),
        cmocka_unit_test(cost_is_a_bound), cmocka_unit_test(hostile), cmocka_unit_test(writes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
