/* test_pth.c - torch.save's files: what the writer writes is read back; pickles that want to run
 * something, or are broken, are refused with a sentence; hostile bytes cost no more than allowed.
 * tools/golden/forms.py holds both directions against torch itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <zlib.h>
#include "base/block.h"
#include "base/buf.h"
#include "format/pickle.h"
#include "format/pth.h"
#include "format/pth_write.h"
#include "format/safetensors.h"
#include "hostile.h"

static unsigned sink;

static int into(void *arg, const void *p, size_t n, dr_err *e)
{
    buf_put(arg, p, n);
    return ((buf *)arg)->bad ? err_nomem(e, n, "file") : DR_OK;
}

static int read_all(const void *bytes, size_t n, dr_err *e)
{
    pth p;
    int rc = pth_parse(&p, bytes, n, e);
    if (rc != DR_OK) return rc;
    for (int64_t i = 0; i < p.n; i++) {
        for (size_t k = 0; k < p.t[i].bytes; k++) sink += p.t[i].data[k];
        for (size_t k = 0; k < p.t[i].name.n; k++) sink += (uint8_t)p.t[i].name.p[k];
        assert_ptr_equal(pth_find(&p, p.t[i].name), &p.t[i]);
    }
    pth_free(&p);
    return DR_OK;
}

static const uint16_t bf[6] = { 1, 2, 3, 4, 5, 6 };
static const float one = 1.5f;
static const uint8_t f8[8] = { 9, 8, 7, 6, 5, 4, 3, 2 };

static void small_file(buf *out)
{
    dr_err e = {0};
    buf_init(out, 1 << 20);
    pth_writer *w = pth_write_new("consolidated.00", &e);
    assert_non_null(w);
    pth_add_tensor(w, "a.weight", DT_BF16, 2, (int64_t[]){ 2, 3 }, &e);
    pth_add_tensor(w, "s", DT_F32, 0, NULL, &e);
    pth_add_tensor(w, "nothing", DT_F16, 2, (int64_t[]){ 0, 4 }, &e);
    pth_add_tensor(w, "f8", DT_F8_E4M3, 2, (int64_t[]){ 1, 8 }, &e);
    pth_add_alias(w, "b.weight", "a.weight", &e);
    uint64_t size = pth_write_size(w);
    pth_write_start_to(w, into, out, &e);
    pth_write_data(w, bf, sizeof bf, &e);
    pth_write_data(w, &one, sizeof one, &e);
    pth_write_data(w, f8, 3, &e);
    pth_write_data(w, f8 + 3, 5, &e);
    if (pth_write_end(w, &e) != DR_OK) fail_msg("%s", e.msg);
    assert_int_equal(size, out->n);
    pth_write_free(w);
}

static void test_back(void **state)
{
    (void)state;
    buf b, again;
    pth p;
    dr_err e = {0};
    small_file(&b);
    small_file(&again);
    assert_int_equal(b.n, again.n);
    assert_memory_equal(b.p, again.p, b.n);
    if (pth_parse(&p, b.p, b.n, &e) != DR_OK) fail_msg("%s", e.msg);
    assert_true(span_is(p.top, "consolidated.00"));
    assert_int_equal(p.n, 5);
    const pth_tensor *t = pth_find(&p, span_of("a.weight"));
    assert_true(t && t->type == DT_BF16 && t->n_dims == 2 && t->dim[0] == 2 && t->dim[1] == 3);
    assert_int_equal(t->bytes, sizeof bf);
    assert_memory_equal(t->data, bf, sizeof bf);
    assert_int_equal((t->data - (const uint8_t *)b.p) % 64, 0);
    assert_ptr_equal(pth_find(&p, span_of("b.weight"))->data, t->data);
    t = pth_find(&p, span_of("s"));
    assert_true(t && t->n_dims == 0 && t->bytes == 4 && !memcmp(t->data, &one, 4));
    t = pth_find(&p, span_of("nothing"));
    assert_true(t && t->bytes == 0 && t->data && t->dim[0] == 0 && t->dim[1] == 4);
    t = pth_find(&p, span_of("f8"));
    assert_true(t && t->type == DT_F8_E4M3 && t->bytes == 8 && !memcmp(t->data, f8, 8));
    assert_null(pth_find(&p, span_of("c")));
    pth_free(&p);
    buf_free(&b);
    buf_free(&again);
}

static void test_writer_refuses(void **state)
{
    (void)state;
    dr_err e = {0};
    buf b = { .cap_max = 1 << 20 };
    pth_writer *w = pth_write_new("x", &e);
    assert_int_equal(pth_add_tensor(w, "q", DT_Q4_0, 1, (int64_t[]){ 32 }, &e), DR_EINVAL);
    assert_non_null(strstr(e.msg, "F8_E4M3"));
    e = (dr_err){0};
    assert_int_equal(pth_add_alias(w, "r", "q", &e), DR_EINVAL);
    e = (dr_err){0};
    assert_int_equal(pth_add_tensor(w, "a", DT_F32, 1, (int64_t[]){ 2 }, &e), DR_OK);
    assert_int_equal(pth_write_start_to(w, into, &b, &e), DR_OK);
    assert_int_equal(pth_write_data(w, &one, 4, &e), DR_OK);
    assert_int_equal(pth_write_end(w, &e), DR_EINVAL);
    assert_non_null(strstr(e.msg, "4 bytes of storage 0 were not written"));
    e = (dr_err){0};
    assert_int_equal(pth_write_data(w, bf, 12, &e), DR_EINVAL);
    pth_write_free(w);
    buf_free(&b);
}

/* ---- pickles by hand ---- */

static void le(buf *b, uint64_t v, int n) { while (n--) { buf_putc(b, (char)v); v >>= 8; } }

/* A stored zip of any members, written the plain way: no padding, no zip64. */
typedef struct { const char *name; const void *p; size_t n; int method; } item;
static void archive(buf *out, const item *x, int n)
{
    buf dir = { .cap_max = 1 << 26 };
    buf_init(out, 1 << 26);
    for (int i = 0; i < n; i++) {
        uint64_t at = out->n, crc = crc32(0, x[i].p, (uInt)x[i].n);
        for (int c = 0; c < 2; c++) {
            buf *b = c ? &dir : out;
            buf_put(b, c ? "PK\1\2" : "PK\3\4", 4);
            le(b, 20, c ? 4 : 2), le(b, 0, 2), le(b, (uint64_t)x[i].method, 2), le(b, 0, 4);
            le(b, crc, 4), le(b, x[i].n, 4), le(b, x[i].n, 4), le(b, strlen(x[i].name), 2), le(b, 0, 2);
            if (c) le(b, 0, 6), le(b, 0, 4), le(b, at, 4);
            buf_puts(b, x[i].name);
        }
        buf_put(out, x[i].p, x[i].n);
    }
    uint64_t at = out->n;
    buf_put(out, dir.p, dir.n);
    buf_put(out, "PK\5\6\0\0\0\0", 8);
    le(out, (uint64_t)n, 2), le(out, (uint64_t)n, 2), le(out, dir.n, 4), le(out, at, 4), le(out, 0, 2);
    assert_false(out->bad || dir.bad);
    buf_free(&dir);
}

static const float two[2] = { 1, 2 };

/* The file with this pickle and one storage data/0 of two floats. */
static void with_pickle(buf *out, const void *p, size_t n)
{
    archive(out, (item[]){ { "archive/data.pkl", p, n, 0 }, { "archive/byteorder", "little", 6, 0 },
                           { "archive/data/0", two, 8, 0 }, { "archive/version", "3\n", 2, 0 } }, 4);
}

/* One F32 tensor "w": the numbers and classes that tests vary. */
#define HEAD "\x80\2}(X\1\0\0\0w"
#define V2 "ctorch._utils\n_rebuild_tensor_v2\n"
#define STORAGE "((X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0000X\3\0\0\0cpuK\2tQ"
#define TAIL "\x89" "ccollections\nOrderedDict\n)RtRu."
#define WHOLE HEAD V2 STORAGE "K\0K\2\x85K\1\x85" TAIL

static void refuse(const char *bytes, size_t n, const char *part)
{
    buf out;
    dr_err e = {0};
    with_pickle(&out, bytes, n);
    int rc = hostile_once(read_all, out.p, out.n, &e);
    if (rc == DR_OK || !strstr(e.msg, part)) fail_msg("%d \"%s\", not \"%s\"", rc, e.msg, part);
    buf_free(&out);
}
#define REFUSE(text, part) refuse(text, sizeof text - 1, part)

static void accept(const char *bytes, size_t n)
{
    buf out;
    dr_err e = {0};
    with_pickle(&out, bytes, n);
    if (hostile_once(read_all, out.p, out.n, &e) != DR_OK) fail_msg("%s", e.msg);
    buf_free(&out);
}
#define ACCEPT(text) accept(text, sizeof text - 1)

static void test_programs(void **state)
{
    (void)state;
    ACCEPT(WHOLE);
    REFUSE("\x80\2cos\nsystem\n(X\4\0\0\0echotR.", "os.system, which is neither loaded nor called");
    REFUSE("\x80\2cposix\nsystem\n(X\2\0\0\0idtR.", "posix.system");
    REFUSE("\x80\4\x8c\2os\x8c\6system\x93\x8c\2id\x85R.", "os.system");
    REFUSE("\x80\2c__builtin__\neval\n(X\1\0\0\0001tR.", "__builtin__.eval");
    REFUSE("\x80\2ctorch.hub\nload\n)R.", "torch.hub.load");
    REFUSE("(S'id'\nios\nsystem\n.", "instruction STRING");
    REFUSE("(ios\nsystem\n.", "instruction INST");
    REFUSE("\x80\2(cos\nsystem\no.", "os.system");
    REFUSE("\x80\2(ctorch\nSize\no.", "instruction OBJ");
    REFUSE("\x80\2ctorch\nSize\n)\x81.", "instruction NEWOBJ");
    REFUSE("\x80\4ctorch\nSize\n)}\x92.", "instruction NEWOBJ_EX");
    REFUSE("\x80\2\x82\1.", "instruction EXT1");
    REFUSE("\x80\2\x83\1\0.", "instruction EXT2");
    REFUSE("\x80\2\x84\1\0\0\0.", "instruction EXT4");
    REFUSE("Pos\n.", "instruction PERSID");
    REFUSE("I1\n.", "instruction INT");
    REFUSE("L1L\n.", "instruction LONG");
    REFUSE("F1.5\n.", "instruction FLOAT");
    REFUSE("Vx\n.", "instruction UNICODE");
    REFUSE("}p0\n.", "instruction PUT");
    REFUSE("}g0\n.", "instruction GET");
    REFUSE("(d.", "instruction DICT");
    REFUSE("(l.", "instruction LIST");
    REFUSE("\x80\2}0.", "instruction POP");
    REFUSE("\x80\2}2.", "instruction DUP");
    REFUSE("\x80\2\x8b\xff\xff\xff\x7f.", "instruction LONG4");
    REFUSE("\x80\5\x97.", "instruction NEXT_BUFFER");
    REFUSE("\x80\2\xff.", "0xff is no instruction");
    REFUSE("\x80\6}.", "protocol 6");
    REFUSE("\x80\2" V2 "}b.", "state for what is no dictionary");
    REFUSE("\x80\2ctorch\nFloatStorage\n)R.", "a type is called as a function");
    REFUSE("\x80\2ctorch\nfloat32\n)R.", "a type is called as a function");
    REFUSE("\x80\2ccollections\nOrderedDict\n}\x85R.", "an OrderedDict made of something");
}

static void test_broken(void **state)
{
    (void)state;
    REFUSE("", "ends in the middle");
    REFUSE("\x80\2}", "ends in the middle");
    REFUSE("\x80\2X\xff\xff\xff\xff", "ends in the middle");
    REFUSE("\x80\2cos", "ends in the middle");
    REFUSE("\x80\2.", "its pickle is broken");
    REFUSE("\x80\2]}.", "its pickle is broken");
    REFUSE("\x80\2].", "its pickle is a list");
    REFUSE("\x80\2t.", "there is no mark");
    REFUSE("\x80\2u.", "there is no mark");
    REFUSE("\x80\2e.", "there is no mark");
    REFUSE("\x80\2\x87.", "empty stack");
    REFUSE("\x80\2((\x85.", "empty stack");
    REFUSE("\x80\2(NR.", "None where a tuple is wanted");
    REFUSE("\x80\2})R.", "a dictionary where a global is wanted");
    REFUSE("\x80\2}(Nu.", "a key without a value");
    REFUSE("\x80\2](NNu.", "an item for what is no dictionary");
    REFUSE("\x80\2}Na.", "an entry for what is no list");
    REFUSE("\x80\2}h\0.", "its memo holds no such value");
    REFUSE("\x80\2}q\0j\1\0\0\0.", "its memo holds no such value");
    REFUSE("\x80\2}j\xff\xff\xff\xff.", "its memo holds no such value");
    REFUSE("\x80\2}r\xff\xff\xff\xff.", "before those below it");
    REFUSE("\x80\2q\0.", "nothing to remember");
    REFUSE("\x80\2\x8a\xff", "beyond all sizes");
    REFUSE("\x80\2\x8a\10\0\0\0\0\0\0\0\x7f.", "beyond all sizes");
    REFUSE("\x80\2)Q.", "a tuple is too short");
    REFUSE("\x80\2NQ.", "None where a tuple is wanted");
    REFUSE(HEAD V2 "((X\7\0\0\0storagectorch\nSize\nX\1\0\0\0000X\3\0\0\0cpuK\2tQ" "K\0K\2\x85K\1\x85"
           TAIL, "a persistent id that is no storage");
    REFUSE(HEAD V2 "((X\6\0\0\0modulectorch\nFloatStorage\nX\1\0\0\0000X\3\0\0\0cpuK\2tQ" "K\0K\2\x85"
           "K\1\x85" TAIL, "a persistent id that is no storage");
    REFUSE(HEAD V2 "((X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0009X\3\0\0\0cpuK\2tQ" "K\0K\2\x85"
           "K\1\x85" TAIL, "its storage data/9 is missing");
    REFUSE(HEAD V2 "((X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0000X\3\0\0\0cpuK\3tQ" "K\0K\2\x85"
           "K\1\x85" TAIL, "has 8 bytes, 12 are wanted");
    REFUSE(HEAD V2 STORAGE "K\1K\2\x85K\1\x85" TAIL, "outside its storage of 2");
    REFUSE(HEAD V2 STORAGE "K\0K\3\x85K\1\x85" TAIL, "outside its storage of 2");
    REFUSE(HEAD V2 STORAGE "J\xff\xff\xff\xffK\2\x85K\1\x85" TAIL, "an offset below 0");
    REFUSE(HEAD V2 STORAGE "K\0J\xff\xff\xff\xff\x85K\1\x85" TAIL, "a size or stride below 0");
    REFUSE(HEAD V2 STORAGE "K\0K\2\x85K\2\x85" TAIL, "transposed or with gaps");
    REFUSE(HEAD V2 STORAGE "K\0K\2K\1\x86K\1\x85" TAIL, "sizes and strides of different number");
    REFUSE(HEAD V2 STORAGE "K\0(K\1K\1K\1K\1K\2t(K\2K\2K\2K\2K\1t" TAIL, "5 dimensions");
    REFUSE(HEAD V2 STORAGE "K\0(\x8a\7\0\0\0\0\0\0\x40\x8a\7\0\0\0\0\0\0\x40t(K\1K\1t" TAIL,
           "more elements than can be counted");
    REFUSE(HEAD V2 STORAGE "K\0NK\1\x85" TAIL, "None where a tuple is wanted");
    REFUSE("\x80\2}(X\0\0\0\0" V2 STORAGE "K\0K\2\x85K\1\x85" TAIL, "a tensor has no name");
    REFUSE("\x80\2}(X\1\0\0\0w" V2 STORAGE "K\0K\2\x85K\1\x85\x89NtRq\0X\1\0\0\0wh\0u.",
           "tensor w appears twice");
}

/* What needs no tensor is passed over. */
static void test_other_values(void **state)
{
    (void)state;
    ACCEPT("\x80\2}(X\5\0\0\0epochK\7X\4\0\0\0list](K\1NeNaX\4\0\0\0dict}X\1\0\0\0aNsX\1\0\0\0rG"
           "\0\0\0\0\0\0\0\0u.");
    ACCEPT("\x80\2ccollections\nOrderedDict\n)R}X\11\0\0\0_metadataccollections\nOrderedDict\n)Rsb.");
    ACCEPT("\x80\4\x95\x05\0\0\0\0\0\0\0}\x94.");
}

/* Pickles that grow, remember or nest as far as their bytes allow: each is refused or costs what
 * hostile_once allows, and takes no longer than in proportion. */
static void bomb(const char *unit, size_t n_unit, const char *part)
{
    enum { N = 8 << 20 };
    char *p = malloc(N);
    memcpy(p, "\x80\2}q\0", 5);
    size_t n = 5;
    while (n + n_unit < N) memcpy(p + n, unit, n_unit), n += n_unit;
    refuse(p, n, part);
    free(p);
}

static void test_bombs(void **state)
{
    (void)state;
    bomb("N", 1, "more than 65,536 values");
    bomb("(", 1, "more than 65,536 values");
    bomb("]", 1, "more than 65,536 values");
    bomb("\x85", 1, "more memory than its size warrants");              // ((((…
    bomb("h\0\x86" "h\0\x86", 6, "more memory than its size warrants"); // doubles each time
    bomb("\x94", 1, "more memory than its size warrants");
    bomb("\x8c\1ah\0s", 6, "ends in the middle");                       // a dictionary of itself
}

static void test_archives(void **state)
{
    static const char pkl[] = WHOLE;
    const struct { item x[5]; int n; const char *part; } t[] = {
        { { { "a/data.pkl", pkl, sizeof pkl - 1, 0 }, { "a/version", "3\n", 2, 0 } }, 2,
          "data/0 is missing" },
        { { { "a/data.pkl", pkl, sizeof pkl - 1, 0 }, { "a/data/0", two, 8, 0 } }, 2,
          "holds no version" },
        { { { "a/data.pkl", pkl, sizeof pkl - 1, 0 }, { "a/version", "3\n", 2, 0 },
            { "a/byteorder", "big", 3, 0 } }, 3, "byte order is \"big\"" },
        { { { "a/data.pkl", pkl, sizeof pkl - 1, 0 }, { "a/version", "3\n", 2, 0 },
            { "a/data/0", two, 8, 8 } }, 3, "compressed, stored is wanted" },
        { { { "a/data.pkl", pkl, sizeof pkl - 1, 0 }, { "a/version", "3\n", 2, 0 },
            { "a/data/0", two, 8, 0 }, { "a/data/0", two, 8, 0 } }, 4, "two members a/data/0" },
        { { { "a/data.pkl", pkl, sizeof pkl - 1, 0 }, { "a/version", "3\n", 2, 0 },
            { "a/constants.pkl", pkl, 8, 0 } }, 3, "TorchScript" },
        { { { "wheel/RECORD", two, 8, 0 } }, 1, "holds no data.pkl" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        buf out;
        dr_err e = {0};
        archive(&out, t[i].x, t[i].n);
        int rc = hostile_once(read_all, out.p, out.n, &e);
        if (rc == DR_OK || !strstr(e.msg, t[i].part)) fail_msg("%d \"%s\", not \"%s\"", rc, e.msg,
                                                               t[i].part);
        buf_free(&out);
    }
}

static void test_hostile(void **state)
{
    buf out;
    (void)state;
    hostile_begin();
    small_file(&out);
    hostile_truncate(read_all, out.p, out.n);
    hostile_flip(read_all, out.p, out.n, 1);
    hostile_nomem(read_all, out.p, out.n, false);
    buf_free(&out);
    with_pickle(&out, WHOLE, sizeof WHOLE - 1);
    hostile_truncate(read_all, out.p, out.n);
    hostile_flip(read_all, out.p, out.n, 1);
    buf_free(&out);
}

/* A member beyond 4 GB, without the bytes: the writer's headers alone. */
typedef struct { uint64_t n; buf keep; } counter;
static int count(void *arg, const void *p, size_t n, dr_err *e)
{
    counter *c = arg;
    (void)e;
    c->n += n;
    if (n < 4096) buf_put(&c->keep, p, n);
    return DR_OK;
}

static void test_huge(void **state)
{
    (void)state;
    enum { PIECE = 64 << 20 };
    dr_err e = {0};
    counter c = { .keep = { .cap_max = 1 << 20 } };
    pth_writer *w = pth_write_new("x", &e);
    pth_add_tensor(w, "big", DT_F8_E4M3, 2, (int64_t[]){ 5 << 10, 1 << 20 }, &e);
    pth_add_tensor(w, "small", DT_F32, 1, (int64_t[]){ 1 }, &e);
    uint64_t size = pth_write_size(w);
    pth_write_start_to(w, count, &c, &e);
    void *p = calloc(1, PIECE);
    for (int i = 0; i < (5 << 10) / 64; i++) pth_write_data(w, p, PIECE, &e);
    pth_write_data(w, &one, 4, &e);
    if (pth_write_end(w, &e) != DR_OK) fail_msg("%s", e.msg);
    assert_int_equal(c.n, size);
    /* data/1 starts behind 4 GB: its place is in an extra field of the directory */
    const char *dir = c.keep.p;
    bool found = false;
    for (size_t i = 0; i + 66 < c.keep.n; i++)
        if (!memcmp(dir + i, "PK\1\2", 4) && !memcmp(dir + i + 46, "x/data/1", 8)) {
            uint64_t at;
            memcpy(&at, dir + i + 46 + 8 + 4, 8);
            found = dir[i + 30] == 12 && at > (uint64_t)5 << 30 && at < size;
        }
    assert_true(found);
    free(p);
    pth_write_free(w);
    buf_free(&c.keep);
}

int main(void)
{
    const struct CMUnitTest t[] = {
        cmocka_unit_test(test_back), cmocka_unit_test(test_writer_refuses),
        cmocka_unit_test(test_programs), cmocka_unit_test(test_broken),
        cmocka_unit_test(test_other_values), cmocka_unit_test(test_bombs),
        cmocka_unit_test(test_archives), cmocka_unit_test(test_huge),
        cmocka_unit_test(test_hostile),
    };
    return cmocka_run_group_tests(t, NULL, NULL);
}
