/* test_imatrix.c - importance matrices: both formats, written and read, and hostile files. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/buf.h"
#include "base/os.h"
#include "dev/dev.h"
#include "format/imatrix.h"
#include "hostile.h"
#include "model/model.h"
#include "pack/imatrix_make.h"
#include "pack/synth.h"

static int parse(const void *bytes, size_t n, dr_err *e)
{
    imatrix m;
    int rc = imatrix_parse(&m, bytes, n, e);
    if (rc != DR_OK) return rc;
    for (int64_t i = 0; i < m.n_entries; i++)
        for (int64_t k = 0; k < m.entry[i].n; k++)
            if (!(m.entry[i].sum[k] >= 0)) fail_msg("a sum that is not >= 0 came through");
    imatrix_free(&m);
    return DR_OK;
}

/* Two entries, out of order. */
static void example(imatrix *m, imatrix_entry e[2], float v[7])
{
    for (int i = 0; i < 7; i++) v[i] = (float)(i * i) * 0.5f;
    e[0] = (imatrix_entry){ span_of("blk.1.ffn_down.weight"), 4, v, 1024 };
    e[1] = (imatrix_entry){ span_of("blk.0.attn_q.weight"), 3, v + 4, 512 };
    *m = (imatrix){ .entry = e, .n_entries = 2, .chunks = 2, .chunk_size = 512,
                    .dataset = span_of("a text.txt") };
}

static void round_trip(bool legacy)
{
    imatrix m, back;
    imatrix_entry e[2];
    float v[7];
    char path[] = "/tmp/imatrixXXXXXX";
    dr_err err = {0};
    assert_true(close(mkstemp(path)) == 0);
    example(&m, e, v);
    imatrix_sort(&m);
    assert_int_equal(imatrix_write(&m, path, legacy, &err), DR_OK);
    if (imatrix_read(&back, path, &err) != DR_OK) fail_msg("%s", err.msg);
    unlink(path);
    assert_int_equal(back.n_entries, 2);
    assert_int_equal(back.chunks, 2);
    assert_int_equal(back.legacy, legacy);
    assert_true(span_is(back.dataset, "a text.txt"));
    for (int i = 0; i < 2; i++) {
        const imatrix_entry *a = &m.entry[i], *b;
        char name[64];
        snprintf(name, sizeof name, SPAN_FMT, SPAN_ARG(a->name));
        b = imatrix_find(&back, name);
        assert_non_null(b);
        assert_int_equal(b->n, a->n);
        for (int k = 0; k < a->n; k++) {
            double x = (double)a->sum[k] / a->count, y = (double)b->sum[k] / b->count;
            assert_true(fabs(x - y) <= 1e-6 * x);
        }
    }
    assert_null(imatrix_find(&back, "blk.2.attn_q.weight"));
    imatrix_free(&back);
}

static void both_formats(void **state)
{
    (void)state;
    round_trip(false);
    round_trip(true);
}

static void bytes_of(bool legacy, buf *b)
{
    imatrix m;
    imatrix_entry e[2];
    float v[7];
    char path[] = "/tmp/imatrixXXXXXX";
    dr_err err = {0};
    assert_true(close(mkstemp(path)) == 0);
    example(&m, e, v);
    assert_int_equal(imatrix_write(&m, path, legacy, &err), DR_OK);
    *b = (buf){ .cap_max = 1 << 20 };
    assert_int_equal(os_read(b, path, &err), DR_OK);
    unlink(path);
}

/* Every length: what is optional at the end may lack, nothing before. */
static void cut(const buf *b, size_t optional)
{
    dr_err e;
    for (size_t k = 0; k <= b->n; k++)
        if ((hostile_once(parse, b->p, k, &e) == DR_OK) != (k + optional >= b->n))
            fail_msg("%zu of %zu bytes: %s", k, b->n, e.msg);
}

static void hostile(void **state)
{
    (void)state;
    for (int legacy = 0; legacy < 2; legacy++) {
        buf b;
        bytes_of(legacy, &b);
        /* chunks and the text's name; the padding behind the last tensor */
        cut(&b, legacy ? 4 + 4 + strlen("a text.txt") : 28);
        hostile_flip(parse, b.p, b.n, 1);
        hostile_nomem(parse, b.p, b.n, false);
        buf_free(&b);
    }
}

static void refused(void **state)
{
    (void)state;
    static const struct { int at; uint32_t v; const char *why; } bad[] = {
        { 0, 0, "no importance matrix" }, { 0, 0x7fffffff, "no importance matrix" },
        { 0, 3, "cut off" }, { 4, 0xffffffff, "cut off" }, { 37, 0x7fc00000, "holds" },
        { 37, 0xff800000, "holds" }, { 37, 0xbf800000, "holds" }, { 33, 0, "cut off" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        buf b;
        dr_err e;
        bytes_of(true, &b);
        memcpy(b.p + bad[i].at, &bad[i].v, 4);
        if (hostile_once(parse, b.p, b.n, &e) == DR_OK) fail_msg("case %zu was accepted", i);
        if (!strstr(e.msg, bad[i].why)) fail_msg("case %zu: %s", i, e.msg);
        buf_free(&b);
    }
}

/* Sums of squares as the device's own products see their inputs: the first layer's from the
 * embedding, by hand; and the same for any number of threads and any window's place. */
static void made(void **state)
{
    (void)state;
    dr_err e = {0};
    imatrix m[2];
    synth_opt o = { .seed = 3 };
    void *bytes;
    size_t size;
    int32_t ids[70];
    for (int i = 0; i < 70; i++) ids[i] = (i * 37 + 5) % 250;
    assert_int_equal(synth_shape_read(&o.shape, "tiny,vocab=256", &e), DR_OK);
    assert_int_equal(synth_types_read(&o.types, "F32", &e), DR_OK);
    pool *p = pool_new(1, &e);
    assert_int_equal(synth_memory(&o, &bytes, &size, p, &e), DR_OK);
    char path[] = "/tmp/imatrixXXXXXX";
    assert_true(close(mkstemp(path)) == 0);
    assert_int_equal(os_write(path, bytes, size, &e), DR_OK);
    mem_pages_free(bytes, size);
    pool_free(p);
    float row0[4096];
    for (int t = 0; t < 2; t++) {
        dev_opt d = { .n_threads = t ? 3 : 1 };
        model *md = model_open(path, &d, &e);
        if (!md) fail_msg("%s", e.msg);
        imatrix_make_opt im = { .ctx = 32, .bos = -1, .dataset = "ids" };
        if (imatrix_make(md, ids, 70, &im, &m[t], &e) != DR_OK) fail_msg("%s", e.msg);
        assert_null(md->d->watch);
        int C = md->h.C;
        memset(row0, 0, sizeof row0);
        const float *emb = md->w.tok_emb.data;
        for (int i = 0; i < 64; i++) {
            const float *x = emb + (size_t)ids[i] * (size_t)C;
            double ss = 0;
            for (int k = 0; k < C; k++) ss += (double)x[k] * (double)x[k];
            double r = 1 / sqrt(ss / C + (double)md->h.eps);
            for (int k = 0; k < C; k++) {
                double v = (double)x[k] * r * (double)md->w.layer[0].attn_norm[k];
                row0[k] += (float)(v * v);
            }
        }
        const imatrix_entry *q = imatrix_find(&m[t], "blk.0.attn_q.weight");
        assert_non_null(q);
        assert_int_equal(q->n, C);
        assert_true(q->count == 64);
        for (int k = 0; k < C; k++)
            if (!(fabsf(q->sum[k] - row0[k]) <= 1e-4f * row0[k]))
                fail_msg("column %d: %g, by hand %g", k, (double)q->sum[k], (double)row0[k]);
        assert_int_equal(m[t].n_entries, 7 * md->h.L);
        model_close(md);
    }
    for (int64_t i = 0; i < m[0].n_entries; i++)
        assert_memory_equal(m[0].entry[i].sum, m[1].entry[i].sum,
                            (size_t)m[0].entry[i].n * sizeof(float));
    imatrix_free(&m[0]), imatrix_free(&m[1]);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_formats), cmocka_unit_test(hostile), cmocka_unit_test(refused),
        cmocka_unit_test(made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
