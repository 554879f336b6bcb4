/* test_records.c - texts read from files, packed or not, and cut into documents. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <zlib.h>
#include <zstd.h>
#include <jansson.h>
#include "folder.h"
#include "base/dl.h"
#include "base/mem.h"
#include "base/os.h"
#include "train/records.h"
#include "train/text_in.h"

static void save(const char *name, const void *p, size_t n)
{
    dr_err e = {0};
    if (os_write(at(name), p, n, &e)) fail_msg("%s", e.msg);
}

/* All documents of a file as "text|text|", through chunks of about `want` bytes. */
static int read_all(const char *name, const records_opt *o, size_t want, buf *out, dr_err *e)
{
    chunk c = {0};
    buf text = { .cap_max = RECORD_MAX };
    records *r = records_open(at(name), o, e);
    int rc = r ? 1 : e->code;
    while (rc > 0) {
        chunk_reset(&c);
        dr_err bad = {0};
        rc = records_next(r, &c, want, e);
        int good = 0;
        for (int64_t i = 0; i < c.n_rec && !good; i++) {
            good = record_text(&c, i, &text, &bad);
            if (!good) buf_put(out, text.p ? text.p : "", text.n), buf_putc(out, '|');
        }
        if (good) *e = bad, rc = good;
    }
    chunk_free(&c);
    buf_free(&text);
    records_file_free(records_close(r));
    return rc;
}

/* What the bytes give, whatever the size of the chunks. */
static void gives(const char *name, const char *bytes, records_opt o, const char *want)
{
    save(name, bytes, strlen(bytes));
    for (size_t k = 1; k < 100000; k = k * 7 + 1) {
        buf out = { .cap_max = 1 << 20 };
        dr_err e = {0};
        if (read_all(name, &o, k, &out, &e)) fail_msg("%s", e.msg);
        assert_string_equal(buf_str(&out), want);
        buf_free(&out);
    }
    remove(at(name));
}

static void refuses(const char *name, const char *bytes, records_opt o, int code, const char *says)
{
    save(name, bytes, strlen(bytes));
    buf out = { .cap_max = 1 << 20 };
    dr_err e = {0};
    int rc = read_all(name, &o, 1000, &out, &e);
    if (rc != code || !strstr(e.msg, says)) fail_msg("code %d, \"%s\" does not say \"%s\"", rc, e.msg, says);
    buf_free(&out);
    remove(at(name));
}

static void json_lines(void **state)
{
    (void)state;
    records_opt o = {0}, b = { .field = "b" }, forced = { .format = RECORDS_JSONL };
    gives("a", "{\"text\": \"x\"}\n{\"text\": \"y\\nz\", \"b\": 1}\r\n\n  \n{\"text\":\"\"}", o, "x|y\nz||");
    gives("a", "\xef\xbb\xbf{\"a\": 1, \"b\": \"\\u00e9\\ud83d\\ude00\"}\n", b, "\xc3\xa9\xf0\x9f\x98\x80|");
    gives("a.jsonl", "", o, "");
    refuses("a", "{\"text\": \"x\"}\n\n{\"txt\": \"x\"}\n", o, DR_EFORMAT, "a line 3 has no field \"text\"");
    refuses("a", "{\"text\": 7}\n", o, DR_EFORMAT, "field \"text\" is not a string");
    refuses("a", "{\"text\": \"x\"}\n[1]\n", o, DR_EFORMAT, "line 2 is not a JSON object");
    refuses("a", "{\"text\": \"x\"} {}\n", o, DR_EFORMAT, "line 1: ");
    refuses("a", "{\"text\": \"\xff\"}\n", o, DR_EFORMAT, "line 1: ");
    refuses("a", "{\"text\": \"x\", \"text\": \"y\"}\n", o, DR_EFORMAT, "line 1: ");
    refuses("a", "{\"text\": \"cut\n", o, DR_EFORMAT, "line 1: ");
    refuses("a", "[{\"text\": \"x\"}]", forced, DR_EUNSUPPORTED, "one JSON array");
}

static void csv(void **state)
{
    (void)state;
    records_opt o = {0}, f = { .format = RECORDS_CSV, .field = "b c" };
    gives("a.csv", "id,text\n1,plain\n2,\"a, \"\"b\"\"\nc\"\r\n3,\n", o, "plain|a, \"b\"\nc||");
    gives("a", "\"b c\",\"id\"\nx,1\n\"y\",2", f, "x|y|");
    gives("a.tsv", "text\tid\na \"b\" c\t1\n", o, "a \"b\" c|");
    refuses("a.csv", "id,txt\n1,x\n", o, DR_EFORMAT, "has no column \"text\"; it has id, txt");
    refuses("a.csv", "", o, DR_EFORMAT, "a line of column names");
    refuses("a.csv", "id,text\n1,x\n2\n", o, DR_EFORMAT, "line 3 has 1 fields; the first line names 2");
    refuses("a.csv", "id,text\n1,x,y\n", o, DR_EFORMAT, "line 2 has 3 fields");
    refuses("a.csv", "id,text\n1,x\"y\n", o, DR_EFORMAT, "line 2: a quote inside a field");
    refuses("a.csv", "id,text\n1,\"x\"y\n", o, DR_EFORMAT, "line 2: text follows a closing quote");
    refuses("a.csv", "id,text\n\n1,\"a\nb\n", o, DR_EFORMAT, "line 3: a quote is not closed");
    refuses("a.csv", "id,text\n1,\"a\nb\"\n2,\xff\n", o, DR_EFORMAT, "line 4: byte 0xff is not UTF-8");
}

static void text(void **state)
{
    (void)state;
    records_opt file = {0}, line = { .split = SPLIT_LINE }, para = { .split = SPLIT_BLANK },
                sep = { .separator = "%" };
    const char *t = "one\ntwo\r\n\n \t\nthree\n%\nfour\n%\n";
    gives("a", t, file, "one\ntwo\r\n\n \t\nthree\n%\nfour\n%\n|");
    gives("a", t, line, "one|two| \t|three|%|four|%|");
    gives("a", t, para, "one\ntwo|three\n%\nfour\n%|");
    gives("a", t, sep, "one\ntwo\r\n\n \t\nthree|four|");
    gives("a", "no end", line, "no end|");
    gives("a", "no end", para, "no end|");
    gives("a", "\n\n\nx\n\n\ny", para, "x|y|");
    gives("a", "%\r\nx\n%\n%\ny\n%%\n", sep, "x|y\n%%|");
    gives("a", "", file, "");
    gives("a.txt", "{ not JSON", file, "{ not JSON|");
    refuses("a", "one\ntwo\n\xc3(\n", file, DR_EFORMAT, "line 3: byte 0xc3 is not UTF-8");
    refuses("a", "one\n\ntwo\nx\xed\xa0\x80\n", para, DR_EFORMAT, "line 4: byte 0xed");
    refuses("a", "\xff\xfex", file, DR_EUNSUPPORTED, "is UTF-16: iconv");
    refuses("a", "PAR1....", file, DR_EUNSUPPORTED, "a is Parquet, which is not read");
    refuses("a", "BZh9....", file, DR_EUNSUPPORTED, "bzip2 -dk");
    refuses("a", "drshard\n", file, DR_EUNSUPPORTED, "prepared already");
    char tar[600];
    memset(tar, 'x', sizeof tar);
    memcpy(tar + 257, "ustar", 5), tar[599] = 0;
    refuses("a", tar, file, DR_EUNSUPPORTED, "tar xf");
    dr_err e = {0};
    assert_null(records_open(at("nothing"), &file, &e));
    assert_int_equal(e.code, DR_EIO);
    e = (dr_err){0};
    assert_null(records_open(folder, &file, &e));
    assert_non_null(strstr(e.msg, "is a folder"));
}

/* Lines longer than what is read at once. */
static void long_lines(void **state)
{
    (void)state;
    enum { N = 1500000 };
    char *p = mem_alloc(2 * N + 10);
    memset(p, 'a', N), p[N] = '\n', memset(p + N + 1, 'b', N), p[2 * N + 1] = '\n';
    save("a", p, 2 * N + 2);
    static const records_opt o[3] = { { .split = SPLIT_LINE }, { .split = SPLIT_BLANK }, {0} };
    for (int k = 0; k < 3; k++) {
        buf out = { .cap_max = 1 << 24 };
        dr_err e = {0};
        if (read_all("a", &o[k], 1, &out, &e)) fail_msg("%s", e.msg);
        assert_int_equal(out.n, 2 * N + 2 + (k == 2));
        assert_int_equal(buf_str(&out)[N - 1], 'a');
        assert_int_equal(buf_str(&out)[N], k ? '\n' : '|');
        assert_int_equal(buf_str(&out)[N + 1], 'b');
        buf_free(&out);
    }
    mem_free(p);
    remove(at("a"));
}

static const char sample[] = "the quick brown fox jumps over the lazy dog, and again the quick brown fox";

static size_t gz(uint8_t *to, size_t room, const char *p, size_t n)
{
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (Bytef *)(uintptr_t)p, z.avail_in = (uInt)n;
    z.next_out = to, z.avail_out = (uInt)room;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    return room - z.avail_out;
}

/* Bytes of a file; negative: the error. step: bytes asked for at once. */
static int64_t unpack(const char *name, char *to, size_t room, size_t step, dr_err *e)
{
    text_in *t = text_in_open(at(name), e);
    if (!t) return e->code;
    int64_t n = 0, k;
    while ((k = text_in_read(t, to + n, room - (size_t)n < step ? room - (size_t)n : step, e)) > 0) n += k;
    text_in_close(t);
    return k < 0 ? k : n;
}

static size_t zst(uint8_t *to, size_t room, const char *p, size_t n)
{
    size_t (*compress)(void *, size_t, const void *, size_t, int);
    const dl_sym syms[] = { { "ZSTD_compress", &compress }, { NULL, NULL } };
    static const char *const so[] = { "libzstd.so.1", NULL };
    dr_err e = {0};
    if (dl_load(so, "libzstd1", syms, &e)) fail_msg("%s", e.msg);
    return compress(to, room, p, n, 3);
}

/* Whole, in several members, cut short at each byte, with each byte changed. */
static void packed_by(size_t (*pack)(uint8_t *, size_t, const char *, size_t), bool summed)
{
    static uint8_t z[1000], broken[1000];
    static char back[1000];
    size_t n = pack(z, sizeof z, sample, 40);
    n += pack(z + n, sizeof z - n, "", 0);
    size_t first = n;
    n += pack(z + n, sizeof z - n, sample + 40, sizeof sample - 1 - 40);
    dr_err e = {0};
    save("a", z, n);
    for (size_t step = 1; step < 1000; step *= 3) {
        assert_int_equal(unpack("a", back, sizeof back, step, &e), sizeof sample - 1);
        assert_memory_equal(back, sample, sizeof sample - 1);
    }
    for (size_t k = 4; k < n; k++) {
        save("a", z, k);
        e = (dr_err){0};
        int64_t got = unpack("a", back, sizeof back, 1000, &e);
        bool whole_members = k == first || (got == 40 && k < first);
        if (got >= 0 && !whole_members) fail_msg("%d of %d bytes give %d", (int)k, (int)n, (int)got);
        if (got < 0 && (e.code != DR_EFORMAT || !e.msg[0])) fail_msg("code %d, %s", e.code, e.msg);
    }
    for (size_t i = 4; i < n; i++)
        for (int b = 0; b < 8; b++) {
            memcpy(broken, z, n);
            broken[i] ^= (uint8_t)(1 << b);
            save("a", broken, n);
            e = (dr_err){0};
            int64_t got = unpack("a", back, sizeof back, 1000, &e);
            bool right = got == sizeof sample - 1 && !memcmp(back, sample, sizeof sample - 1);
            if (got >= 0 && !right && summed) fail_msg("byte %d, bit %d: other text", (int)i, b);
        }
    save("a", z, n);
    remove(at("a"));
}

static void packed(void **state)
{
    (void)state;
    packed_by(gz, true);
    packed_by(zst, false);                  /* its checksum is an option that ZSTD_compress leaves out */
    static uint8_t z[1000];
    static char back[1000];
    dr_err e = {0};
    size_t n = gz(z, sizeof z, "PAR1", 4);
    save("a", z, n);
    assert_int_equal(unpack("a", back, sizeof back, 1000, &e), DR_EUNSUPPORTED);
    assert_non_null(strstr(e.msg, "Parquet"));
    n = gz(z, sizeof z, sample, 10);
    memset(z + n, 0, 20);                   /* what tapes and some tools fill up with */
    save("a", z, n + 20);
    assert_int_equal(unpack("a", back, sizeof back, 1000, &e), 10);
    z[n + 5] = 'x';
    save("a", z, n + 20);
    e = (dr_err){0};
    assert_int_equal(unpack("a", back, sizeof back, 1000, &e), DR_EFORMAT);
    remove(at("a"));
}

static void without_memory(void **state)
{
    (void)state;
    static const char t[] = "id,text\n1,\"x\"\n2,yy\n";
    static uint8_t z[200];
    static const char j[] = "{\"text\": \"x\"}\n";
    json_set_alloc_funcs(mem_alloc, mem_free);
    save("a.csv", t, sizeof t - 1);
    save("b", j, sizeof j - 1);
    save("c.gz", z, gz(z, sizeof z, t, sizeof t - 1));
    static const char *const names[] = { "a.csv", "b", "c.gz" };
    for (int f = 0; f < 3; f++)
        for (long k = 0; ; k++) {
            assert_true(k < 1000);
            size_t live = mem_live_bytes();
            dr_err e = {0};
            buf out = { .cap_max = 1000 };
            records_opt o = { .format = f == 2 ? RECORDS_TEXT : RECORDS_AUTO };
            mem_fail_after(k);
            int rc = read_all(names[f], &o, 1000, &out, &e);
            mem_fail_after(-1);
            bool bad = out.bad;
            buf_free(&out);
            if (mem_live_bytes() != live) fail_msg("allocation %ld of %s: memory is kept", k, names[f]);
            if (!rc && !bad) break;
            if (!bad && rc != DR_ENOMEM && f != 1) fail_msg("allocation %ld: code %d, %s", k, rc, e.msg);
        }
    remove(at("a.csv")), remove(at("b")), remove(at("c.gz"));
}

int main(void)
{
    const struct CMUnitTest t[] = {
        cmocka_unit_test(json_lines), cmocka_unit_test(csv), cmocka_unit_test(text),
        cmocka_unit_test(long_lines), cmocka_unit_test(packed), cmocka_unit_test(without_memory),
    };
    return cmocka_run_group_tests(t, folder_up, folder_down);
}
