/* test_zip.c - zip members: what zlib packed comes back; hostile archives are refused or read
 * to a wrong but bounded end, never past their bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include <zlib.h>
#include "base/buf.h"
#include "format/zip.h"
#include "hostile.h"

static void put(buf *b, uint32_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) buf_putc(b, (char)(v >> 8 * i));
}

typedef struct { const char *name; const void *p; size_t n; int method; uint32_t size_lie; } item;

/* Local header (central = 0) or directory entry of one member. */
static void header(buf *b, const item *x, uint32_t crc, uint32_t packed, uint32_t at, bool central)
{
    buf_put(b, central ? "PK\1\2" : "PK\3\4", 4);
    if (central) put(b, 20, 2);
    put(b, 20, 2), put(b, 0, 2), put(b, (uint32_t)x->method, 2), put(b, 0, 4), put(b, crc, 4);
    put(b, packed, 4), put(b, x->size_lie ? x->size_lie : (uint32_t)x->n, 4);
    put(b, (uint32_t)strlen(x->name), 2), put(b, 0, 2);
    if (central) put(b, 0, 2), put(b, 0, 2), put(b, 0, 2), put(b, 0, 4), put(b, at, 4);
    buf_puts(b, x->name);
}

static void make(buf *out, const item *x, int n)
{
    buf dir = { .cap_max = 1 << 20 };
    buf_init(out, 1 << 24);
    for (int i = 0; i < n; i++) {
        uint32_t at = (uint32_t)out->n, crc = (uint32_t)crc32(0, x[i].p, (uInt)x[i].n);
        uLong len = compressBound(x[i].n);
        uint8_t *z = mem_alloc(len);
        assert_non_null(z);
        z_stream s = { 0 };
        deflateInit2(&s, 9, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
        s.next_in = (Bytef *)(uintptr_t)x[i].p, s.avail_in = (uInt)x[i].n;
        s.next_out = z, s.avail_out = (uInt)len;
        deflate(&s, Z_FINISH);
        uint32_t packed = x[i].method == 8 ? (uint32_t)s.total_out : (uint32_t)x[i].n;
        deflateEnd(&s);
        header(out, &x[i], crc, packed, at, false);
        header(&dir, &x[i], crc, packed, at, true);
        buf_put(out, x[i].method == 8 ? z : x[i].p, packed);
        mem_free(z);
    }
    uint32_t at = (uint32_t)out->n;
    buf_put(out, dir.p, dir.n);
    buf_put(out, "PK\5\6\0\0\0\0", 8);
    put(out, (uint32_t)n, 2), put(out, (uint32_t)n, 2), put(out, (uint32_t)dir.n, 4);
    put(out, at, 4), put(out, 0, 2);
    assert_false(out->bad || dir.bad);
    buf_free(&dir);
}

static int keep(void *arg, const void *p, size_t n)
{
    buf_put(arg, p, n);
    return ((buf *)arg)->bad ? DR_ENOMEM : DR_OK;
}

/* Every member to its end. */
static int read_all(const void *bytes, size_t n, dr_err *e)
{
    zip z;
    zip_entry x;
    int rc = zip_open(&z, bytes, n, e);
    uint64_t members = 0;
    for (size_t at = 0; rc == DR_OK && zip_next(&z, &at, &x); members++) {
        buf b = { .cap_max = n + ((size_t)1 << 20) };
        rc = zip_read(&z, &x, keep, &b, e);
        if (rc == DR_OK) assert_int_equal(b.n, x.size);
        if (rc == DR_ENOMEM) err_set(e, rc, "too long");
        buf_free(&b);
    }
    if (rc == DR_OK && members != z.n_entries)
        rc = err_set(e, DR_EFORMAT, "%u of %u members", (unsigned)members, (unsigned)z.n_entries);
    return rc;
}

static uint8_t text[100000];

static void two(buf *out)
{
    for (size_t i = 0; i < sizeof text; i++) text[i] = (uint8_t)("the quick brown fox"[i % 19] + i / 5000);
    make(out, (item[]){ { "dir/a.txt", text, 500, 8, 0 }, { "b", "stored", 6, 0, 0 } }, 2);
}

static void test_back(void **state)
{
    buf out, got = { .cap_max = 1 << 20 };
    zip z;
    zip_entry x;
    dr_err e = {0};
    (void)state;
    two(&out);
    buf_free(&out);
    make(&out, (item[]){ { "a", text, sizeof text, 8, 0 }, { "b", text, sizeof text, 0, 0 },
                         { "", "", 0, 0, 0 }, { "empty", "", 0, 8, 0 } }, 4);
    assert_int_equal(zip_open(&z, out.p, out.n, &e), DR_OK);
    assert_int_equal(z.n_entries, 4);
    for (const char *s = "ab"; *s; s++) {
        char name[2] = { *s, 0 };
        assert_true(zip_find(&z, name, &x));
        buf_reset(&got);
        assert_int_equal(zip_read(&z, &x, keep, &got, &e), DR_OK);
        assert_int_equal(got.n, sizeof text);
        assert_memory_equal(got.p, text, sizeof text);
    }
    assert_false(zip_find(&z, "c", &x));
    assert_int_equal(read_all(out.p, out.n, &e), DR_OK);
    buf_free(&got);
    buf_free(&out);
}

/* The same archive with zip64 records in front of the old end record; `big`: the old fields, and
 * those of the first member, only say that the numbers are too large for them. */
static void make64(buf *out, const item *x, int n, bool big)
{
    buf b;
    make(&b, x, n);
    size_t end = b.n - 22;
    uint32_t dir_n, dir_at;
    memcpy(&dir_n, b.p + end + 12, 4);
    memcpy(&dir_at, b.p + end + 16, 4);
    buf_init(out, 1 << 24);
    buf_put(out, b.p, dir_at);
    if (big) {
        uint8_t *m = (uint8_t *)b.p + dir_at;
        uint32_t packed, size, name = m[28];
        memcpy(&packed, m + 20, 4);
        memcpy(&size, m + 24, 4);
        memset(m + 20, 255, 8), memset(m + 42, 255, 4);
        m[30] = 28 + 5;
        buf_put(out, m, 46 + name);
        put(out, 0x9999, 2), put(out, 1, 2), put(out, 0, 1);
        put(out, 1, 2), put(out, 24, 2), put(out, size, 4), put(out, 0, 4), put(out, packed, 4);
        put(out, 0, 4), put(out, 0, 4), put(out, 0, 4);
        buf_put(out, m + 46 + name, dir_n - 46 - name);
        dir_n += 28 + 5;
    } else {
        buf_put(out, b.p + dir_at, dir_n);
    }
    uint32_t at64 = (uint32_t)out->n;
    buf_put(out, "PK\6\6", 4), put(out, 44, 4), put(out, 0, 4), put(out, 45, 2), put(out, 45, 2);
    put(out, 0, 4), put(out, 0, 4), put(out, (uint32_t)n, 4), put(out, 0, 4), put(out, (uint32_t)n, 4);
    put(out, 0, 4), put(out, dir_n, 4), put(out, 0, 4), put(out, dir_at, 4), put(out, 0, 4);
    buf_put(out, "PK\6\7", 4), put(out, 0, 4), put(out, at64, 4), put(out, 0, 4), put(out, 1, 4);
    if (big) memset(b.p + end + 8, 255, 12);
    buf_put(out, b.p + end, 22);
    assert_false(out->bad);
    buf_free(&b);
}

static void test_zip64(void **state)
{
    buf out;
    zip z;
    zip_entry x;
    dr_err e = {0};
    const uint8_t *p;
    (void)state;
    for (int big = 0; big < 2; big++) {
        make64(&out, (item[]){ { "a", text, 1000, 0, 0 }, { "b", text, 500, 8, 0 } }, 2, big);
        assert_int_equal(zip_open(&z, out.p, out.n, &e), DR_OK);
        assert_int_equal(z.n_entries, 2);
        assert_int_equal(read_all(out.p, out.n, &e), DR_OK);
        assert_true(zip_find(&z, "a", &x));
        assert_int_equal(x.size, 1000);
        assert_int_equal(zip_stored(&z, &x, &p, &e), DR_OK);
        assert_memory_equal(p, text, 1000);
        assert_true(zip_find(&z, "b", &x));
        assert_int_equal(zip_stored(&z, &x, &p, &e), DR_EUNSUPPORTED);
        e = (dr_err){0};
        buf_free(&out);
        make64(&out, (item[]){ { "a", text, 40, 0, 0 }, { "b", text, 50, 8, 0 } }, 2, big);
        hostile_truncate(read_all, out.p, out.n);
        hostile_flip(read_all, out.p, out.n, 1);
        if (big) {
            memset(out.p + out.n - 42, 0, 4);                     // no locator
            assert_int_equal(zip_open(&z, out.p, out.n, &e), DR_EFORMAT);
            assert_non_null(strstr(e.msg, "zip64 end record is missing"));
            e = (dr_err){0};
        }
        buf_free(&out);
    }
}

static void refuse(item x, const char *part)
{
    buf out;
    dr_err e = {0};
    make(&out, &x, 1);
    int rc = read_all(out.p, out.n, &e);
    if (rc == DR_OK || !strstr(e.msg, part)) fail_msg("%d \"%s\", not \"%s\"", rc, e.msg, part);
    buf_free(&out);
}

static void test_lies(void **state)
{
    (void)state;
    refuse((item){ "a", text, 1000, 8, 999 }, "more bytes than it says");
    refuse((item){ "a", text, 1000, 8, 1001 }, "cut short");
    refuse((item){ "a", text, 1000, 0, 999 }, "two sizes");
    refuse((item){ "a", text, 1000, 12, 0 }, "method other than deflate");
    buf out;
    dr_err e = {0};
    two(&out);
    out.p[40] ^= 1;                                  /* in the packed bytes of the first */
    assert_int_not_equal(read_all(out.p, out.n, &e), DR_OK);
    buf_free(&out);
}

static void test_hostile(void **state)
{
    buf out;
    (void)state;
    hostile_begin();
    two(&out);
    hostile_truncate(read_all, out.p, out.n);
    hostile_flip(read_all, out.p, out.n, 1);
    hostile_nomem(read_all, out.p, out.n, false);
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest t[] = {
        cmocka_unit_test(test_back), cmocka_unit_test(test_zip64), cmocka_unit_test(test_lies),
        cmocka_unit_test(test_hostile),
    };
    return cmocka_run_group_tests(t, NULL, NULL);
}
