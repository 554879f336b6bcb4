/* test_shard.c - token shards: what was written comes back, and every changed byte is found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "folder.h"
#include "hostile.h"
#include "base/buf.h"
#include "shard_sign.h"

#define SHA "00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdef"

/* Documents of these lengths; id i of document d is (31 d + i) % vocab. */
static const int lens[] = { 3, 0, 1, 4000, 2, 0, 70001, 5 };
enum { N_DOCS = sizeof lens / sizeof *lens };

static void make(const char *path, int32_t vocab, uint64_t set, uint32_t part, bool last, int n_docs)
{
    static int32_t id[70001];
    dr_err e = {0};
    shard_out o;
    shard_info info = { .vocab = vocab, .tokenizer = SHA, .set = set, .part = part };
    if (shard_out_open(&o, path, &info, &e)) fail_msg("%s", e.msg);
    for (int d = 0; d < n_docs; d++) {
        for (int i = 0; i < lens[d]; i++) id[i] = (31 * d + i) % vocab;
        if (shard_out_doc(&o, id, (uint64_t)lens[d], &e)) fail_msg("%s", e.msg);
    }
    if (shard_out_keep(&o, last, &e)) fail_msg("%s", e.msg);
}

static void round_trip(int32_t vocab)
{
    static int32_t id[70001];
    dr_err e = {0};
    shard s;
    make(at("a.shard"), vocab, 77, 5, true, N_DOCS);
    if (shard_open(&s, at("a.shard"), &e)) fail_msg("%s", e.msg);
    assert_int_equal(s.info.vocab, vocab);
    assert_string_equal(s.info.tokenizer, SHA);
    assert_int_equal(s.info.set, 77);
    assert_int_equal(s.info.part, 5);
    assert_true(s.info.last);
    assert_int_equal(s.info.n_docs, N_DOCS);
    uint64_t sum = 0;
    for (uint64_t d = 0; d < N_DOCS; d++) {
        uint64_t n = shard_len(&s, d);
        assert_int_equal(n, lens[d]);
        sum += n;
        for (uint64_t from = 0; from <= n; from += 1 + n / 3) {
            assert_int_equal(shard_read(&s, d, from, n - from, id, &e), DR_OK);
            for (uint64_t i = from; i < n; i++)
                if (id[i - from] != (int32_t)((31 * d + i) % (uint64_t)vocab))
                    fail_msg("document %d, id %d is %d", (int)d, (int)i, id[i - from]);
        }
        assert_int_equal(shard_read(&s, d, n, 1, id, &e), DR_EINVAL);
        assert_int_equal(shard_read(&s, d, n + 1, 0, id, &e), DR_EINVAL);
        assert_int_equal(shard_read(&s, d, 1, UINT64_MAX, id, &e), DR_EINVAL);
    }
    assert_int_equal(s.info.n_tok, sum);
    assert_int_equal(shard_check(&s, &e), DR_OK);
    shard_close(&s);
    remove(at("a.shard"));
}

static void both_widths(void **state)
{
    (void)state;
    round_trip(5), round_trip(65536), round_trip(65537), round_trip(INT32_MAX);
}

static void what_is_not_written(void **state)
{
    (void)state;
    dr_err e = {0};
    shard_out o;
    shard_info info = { .vocab = 10 };
    int32_t id[3] = { 1, 10, 2 };
    assert_int_equal(shard_out_open(&o, at("a.shard"), &info, &e), DR_OK);
    assert_int_equal(shard_out_doc(&o, id, 3, &e), DR_EINVAL);
    id[1] = -1;
    assert_int_equal(shard_out_doc(&o, id, 3, &e), DR_EINVAL);
    shard_out_drop(&o);
    assert_false(os_exists(at("a.shard")));
    info.vocab = 0;
    assert_int_equal(shard_out_open(&o, at("a.shard"), &info, &e), DR_EINVAL);
    info = (shard_info){ .vocab = 10, .tokenizer = "zz" };
    assert_int_equal(shard_out_open(&o, at("a.shard"), &info, &e), DR_EINVAL);
}

static int parse(const void *bytes, size_t n, dr_err *e)
{
    static int32_t id[80000];
    shard s;
    int rc = shard_from_bytes(&s, bytes, n, "x.shard", e);
    for (uint64_t d = 0; !rc && d < s.info.n_docs; d++)
        rc = shard_read(&s, d, 0, shard_len(&s, d), id, e);
    if (!rc) rc = shard_check(&s, e);
    shard_close(&s);
    return rc;
}

static void whole_file(buf *b, const char *path)
{
    dr_err e = {0};
    *b = (buf){ .cap_max = 1 << 20 };
    if (os_read(b, path, &e)) fail_msg("%s", e.msg);
}

/* Not one bit of a file may be another. */
static void every_bit(const buf *b, size_t step)
{
    uint8_t *p = mem_alloc(b->n);
    dr_err e;
    memcpy(p, b->p, b->n);
    for (size_t i = 0; i < b->n; i += step)
        for (int k = 0; k < 8; k++) {
            p[i] ^= (uint8_t)(1 << k);
            if (hostile_once(parse, p, b->n, &e) == DR_OK)
                fail_msg("bit %d of byte %zu of %zu is turned over, and nothing is said", k, i, b->n);
            p[i] ^= (uint8_t)(1 << k);
        }
    mem_free(p);
}

static void damaged(void **state)
{
    (void)state;
    buf b;
    make(at("a.shard"), 300, 1, 0, true, 3);            // 4 ids, less than one block
    whole_file(&b, at("a.shard"));
    hostile_truncate(parse, b.p, b.n);
    hostile_flip(parse, b.p, b.n, 1);
    hostile_nomem(parse, b.p, b.n, false);
    every_bit(&b, 1);
    buf_free(&b);
    make(at("a.shard"), 100000, 1, 0, true, N_DOCS);    // five blocks
    whole_file(&b, at("a.shard"));
    every_bit(&b, 997);
    buf_free(&b);
    remove(at("a.shard"));
}

/* A change, and checksums to match. */
static void forged(buf *b, size_t where, const void *bytes, size_t n, const char *says)
{
    uint8_t was[8];
    dr_err e;
    memcpy(was, b->p + where, n);
    memcpy(b->p + where, bytes, n);
    shard_sign((uint8_t *)b->p, b->n);
    assert_int_not_equal(hostile_once(parse, b->p, b->n, &e), DR_OK);
    if (!strstr(e.msg, says)) fail_msg("\"%s\" does not say \"%s\"", e.msg, says);
    memcpy(b->p + where, was, n);
    shard_sign((uint8_t *)b->p, b->n);
    assert_int_equal(hostile_once(parse, b->p, b->n, &e), DR_OK);
}

static void forgeries(void **state)
{
    (void)state;
    buf b;
    make(at("a.shard"), 300, 1, 0, true, 4);            // 4,004 ids, starts 0 3 3 4 4004
    whole_file(&b, at("a.shard"));
    size_t index = SHARD_HEAD + 8008, tail = b.n - SHARD_TAIL;
    static const uint64_t huge = UINT64_MAX, two = 2, one_doc = 1;
    static const uint16_t id = 300;
    static const uint32_t version = 2, many = 40;
    forged(&b, index, &two, 8, "document 0 begins at id 2");
    forged(&b, index + 16, &two, 8, "document 2 begins at id 2");
    forged(&b, index + 24, &huge, 8, "document 4 begins at id 4004");
    forged(&b, index + 32, &two, 8, "document 4 begins at id 2");
    forged(&b, SHARD_HEAD + 100, &id, 2, "has id 300");
    forged(&b, tail, &huge, 8, "cannot be 18446744073709551615 ids");
    forged(&b, tail, &two, 8, "cannot be 2 ids");
    forged(&b, tail + 8, &huge, 8, "in 18446744073709551615 documents");
    forged(&b, tail + 8, &one_doc, 8, "in 1 documents");
    forged(&b, tail + 16, &version, 4, "cannot be");
    forged(&b, 8, &version, 4, "of version 2");
    forged(&b, 12, &many, 4, "40 bytes an id");
    forged(&b, 64, &many, 4, "blocks of 40");
    forged(&b, 16, &huge, 4, "vocabulary 4294967295");
    buf_free(&b);
    remove(at("a.shard"));
}

/* The sentence has the file's name and the offset of the block. */
static void named(void **state)
{
    (void)state;
    buf b;
    dr_err e = {0};
    shard s;
    static int32_t id[70001];
    make(at("a.shard"), 100000, 1, 0, true, N_DOCS);
    whole_file(&b, at("a.shard"));
    size_t where = SHARD_HEAD + SHARD_BLOCK + 5000;     // in document 6
    b.p[where] ^= 1;
    assert_int_equal(os_write(at("b.shard"), b.p, b.n, &e), DR_OK);
    assert_int_equal(shard_open(&s, at("b.shard"), &e), DR_OK);
    assert_int_equal(shard_read(&s, 3, 0, 4000, id, &e), DR_OK);   // another block: it is whole
    assert_int_equal(shard_read(&s, 6, 0, 70001, id, &e), DR_EFORMAT);
    char want[64];
    snprintf(want, sizeof want, "b.shard is damaged at byte %d", SHARD_HEAD + SHARD_BLOCK);
    if (!strstr(e.msg, want)) fail_msg("\"%s\" does not say \"%s\"", e.msg, want);
    shard_close(&s);
    b.p[where] ^= 1;
    b.p[b.n - SHARD_TAIL - 1] ^= 1;                     // the table of checksums
    assert_int_equal(os_write(at("b.shard"), b.p, b.n, &e), DR_OK);
    e = (dr_err){0};
    assert_int_equal(shard_open(&s, at("b.shard"), &e), DR_EFORMAT);
    assert_non_null(strstr(e.msg, "table of checksums"));
    buf_free(&b);
    remove(at("a.shard")), remove(at("b.shard"));
}

static void set_says(const char *says)
{
    dr_err e = {0};
    shard_set set;
    assert_int_equal(shards_open(&set, at("set"), &e), DR_EFORMAT);
    if (!strstr(e.msg, says)) fail_msg("\"%s\" does not say \"%s\"", e.msg, says);
}

static void sets(void **state)
{
    (void)state;
    dr_err e = {0};
    shard_set set;
    assert_int_equal(os_mkdirs(at("set"), &e), DR_OK);
    set_says("holds no token shard");
    make(at("set/z.shard"), 300, 9, 0, false, 2);       // parts are told by their heads
    make(at("set/m.shard"), 300, 9, 1, false, 4);
    make(at("set/a.shard"), 300, 9, 2, true, N_DOCS);
    assert_int_equal(os_write(at("set/notes.txt"), "x", 1, &e), DR_OK);
    if (shards_open(&set, at("set"), &e)) fail_msg("%s", e.msg);
    assert_int_equal(set.n, 3);
    assert_int_equal(set.n_docs, 2 + 4 + N_DOCS);
    assert_int_equal(set.n_tok, 3 + 4004 + 74012);
    for (uint64_t d = 0; d < set.n_docs; d++) {
        uint64_t in = d, local = d < 2 ? d : d < 6 ? d - 2 : d - 6;
        shard *s = shards_find(&set, &in);
        assert_ptr_equal(s, set.s + (d < 2 ? 0 : d < 6 ? 1 : 2));
        assert_int_equal(in, local);
    }
    shards_close(&set);
    make(at("set/m.shard"), 300, 8, 1, false, 4);
    set_says("different preparations");
    make(at("set/m.shard"), 301, 9, 1, false, 4);
    set_says("different preparations");
    make(at("set/m.shard"), 300, 9, 2, false, 4);
    set_says("part 1 of the shards is missing");
    make(at("set/m.shard"), 300, 9, 0, false, 4);
    set_says("are both part 0");
    make(at("set/m.shard"), 300, 9, 1, true, 4);
    set_says("is the last part, but there are more");
    make(at("set/m.shard"), 300, 9, 1, false, 4);
    remove(at("set/a.shard"));
    set_says("m.shard are missing");
    remove(at("set/z.shard"));
    set_says("part 0 of the shards is missing");
    assert_int_equal(shards_open(&set, at("set/m.shard"), &e), DR_OK);   // one file is taken alone
    assert_int_equal(set.n_docs, 4);
    shards_close(&set);
    wipe(at("set"));
}

/* Files made by version 1 stay readable: this one was. */
static void layout(void **state)
{
    (void)state;
    buf b;
    make(at("a.shard"), 300, 0x1122334455667788, 3, true, 1);
    whole_file(&b, at("a.shard"));
    assert_int_equal(b.n, 128 + 8 + 16 + 4 + 64);
    static const uint8_t head[] = { 'd', 'r', 's', 'h', 'a', 'r', 'd', '\n', 1, 0, 0, 0, 2, 0, 0, 0,
                                    44, 1, 0, 0, 3, 0, 0, 0, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33,
                                    0x22, 0x11, 0, 0x11, 0x22, 0x33 },
        body[] = { 0, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0 };
    assert_memory_equal(b.p, head, sizeof head);
    assert_memory_equal(b.p + 128, body, sizeof body);
    assert_memory_equal(b.p + b.n - 8, "\ndrshend", 8);
    char hex[HASH_HEX];
    dr_err e = {0};
    assert_int_equal(hash_bytes(b.p, b.n, hex, &e), DR_OK);
    assert_string_equal(hex, "a3943920743fb20c4005f42ce3d7fd2b76e116e12e8967844239b23a50192321");
    buf_free(&b);
    remove(at("a.shard"));
}

int main(void)
{
    const struct CMUnitTest t[] = {
        cmocka_unit_test(both_widths), cmocka_unit_test(what_is_not_written),
        cmocka_unit_test(damaged), cmocka_unit_test(forgeries),
        cmocka_unit_test(named), cmocka_unit_test(sets),
        cmocka_unit_test(layout),
    };
    return cmocka_run_group_tests(t, folder_up, folder_down);
}
