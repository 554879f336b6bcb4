/* test_pack.c - the pipeline: every container into every other, the order of q and k, callbacks,
 * shards, what a stopped run leaves and how the next one goes on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/half.h"
#include "base/mem.h"
#include "base/os.h"
#include "format/qkrow.h"
#include "format/quant.h"
#include "format/safetensors_write.h"
#include "model/weights.h"
#include "pack/convert.h"
#include "pack/synth.h"
#include "folder.h"

static void synth(const char *shape, const char *type, const char *name)
{
    synth_opt o = { .seed = 5 };
    dr_err e = {0};
    if (synth_shape_read(&o.shape, shape, &e) || synth_types_read(&o.types, type, &e) ||
        synth_write(&o, at(name), one, &e)) fail_msg("%s", e.msg);
}

static int to(const char *in, const char *out, int type, pool *p, dr_err *e)
{
    convert_opt o = { .in = at(in), .out = at(out), .to = pack_container_of(out), .type = type,
                      .force = true };
    *e = (dr_err){0};
    return convert(&o, p, e);
}

static void must(const char *in, const char *out, int type)
{
    dr_err e;
    if (to(in, out, type, three, &e)) fail_msg("%s -> %s: %s", in, out, e.msg);
}

static bool same_file(const char *a, const char *b)
{
    os_file x = {0}, y = {0};
    dr_err e = {0};
    if (os_map(&x, at(a), &e) || os_map(&y, at(b), &e)) fail_msg("%s", e.msg);
    bool same = x.n == y.n && !memcmp(x.p, y.p, x.n);
    os_unmap(&x), os_unmap(&y);
    return same;
}

/* ---- the order of rows ---- */

/* numpy: arange(16).reshape(2, 2, 4).swapaxes(1, 2).reshape(16), two heads of eight rows from
 * Hugging Face's order to GGUF's; and the inverse, .reshape(2, 4, 2).swapaxes(1, 2) */
static void rows(void **state)
{
    (void)state;
    static const int hf[] = { 0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15 };
    static const int adj[] = { 0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15 };
    for (int r = 0; r < 16; r++) {
        assert_int_equal(qk_row_hf(r, 8), hf[r]);
        assert_int_equal(qk_row_adjacent(r, 8), adj[r]);
    }
}

/* Every value of every role, in Hugging Face's order. */
static void same_values(const char *a, const char *b)
{
    pack_source x, y;
    dr_err e = {0};
    if (pack_source_open(&x, at(a), &e) || pack_source_open(&y, at(b), &e)) fail_msg("%s", e.msg);
    int seen = 0;
    for (int row = 0; row < n_weights; row++)
        for (int l = 0; l < (weight_table[row].per_layer ? x.hp.L : 1); l++)
            for (int bias = 0; bias < 2; bias++) {
                pack_role r = { row, l, bias };
                const tensor *s = pack_find(&x, r), *t = pack_find(&y, r);
                if (!!s != !!t) fail_msg("role %d %d %d is in one of %s and %s", row, l, bias, a, b);
                if (!s) continue;
                int64_t n = s->n_dims < 2 ? 1 : s->dim[0], cols = s->dim[s->n_dims - 1];
                float *p = malloc((size_t)(n * cols) * sizeof *p);
                float *q = malloc((size_t)(n * cols) * sizeof *q);
                void *w = malloc(pack_scratch_bytes(s) + pack_scratch_bytes(t));
                if (pack_read(&x, r, s, false, 0, n, p, w, &e) ||
                    pack_read(&y, r, t, false, 0, n, q, w, &e)) fail_msg("%s", e.msg);
                if (memcmp(p, q, (size_t)(n * cols) * sizeof *p))
                    fail_msg("%s and %s differ in role %d %d %d", a, b, row, l, bias);
                free(p), free(q), free(w);
                seen++;
            }
    assert_true(seen > 20);
    pack_source_close(&x), pack_source_close(&y);
}

/* What synth writes of the same values in GGUF, whose order of rows is its own code's. */
static void against_synth(void **state)
{
    (void)state;
    static const char shape[] = "tiny,vocab=64,dim=64,heads=4,kv_heads=1,head_dim=32,ffn=96,bias=1,"
                                "rope_factor=8,rope_low=1,rope_high=4,rope_orig=8192,theta=500000";
    dr_err e = {0};
    synth(shape, "F32", "a");
    synth(shape, "F32", "g.gguf");
    must("a", "b.gguf", CONVERT_KEEP);
    tensors *x = tensors_open(at("g.gguf"), &e), *y = tensors_open(at("b.gguf"), &e);
    assert_int_equal(tensors_count(x), tensors_count(y));
    for (int64_t i = 0; i < tensors_count(x); i++) {
        const tensor *s = tensors_at(x, i), *t = tensors_at(y, i);
        if (!span_eq(s->name, t->name) || s->bytes != t->bytes || memcmp(s->data, t->data, s->bytes))
            fail_msg("tensor " SPAN_FMT, SPAN_ARG(s->name));
    }
    tensors_close(x), tensors_close(y);
    /* norms that are no BF16 values stay F32 beside BF16 matrices; through shards, too */
    synth("tiny,vocab=64,dim=64,heads=4,kv_heads=2,head_dim=16,ffn=96", "BF16", "n.gguf");
    must("n.gguf", "n", CONVERT_KEEP);
    same_values("n.gguf", "n");
    convert_opt o = { .in = at("n"), .out = at("n.pth"), .to = CONTAINER_META, .n_files = 4,
                      .type = CONVERT_KEEP };
    if (convert(&o, three, &e)) fail_msg("%s", e.msg);
    same_values("n.gguf", "n.pth");
    wipe(at("a")), wipe(at("g.gguf")), wipe(at("b.gguf")), wipe(at("n.gguf")), wipe(at("n"));
    wipe(at("n.pth"));
}

static void pairs(void **state)
{
    (void)state;
    static const char *const form[] = { "a", "a.gguf", "a.pth" };
    synth("tiny,vocab=64,dim=64,heads=4,kv_heads=2,head_dim=16,ffn=96", "BF16", "a");
    must("a", "a.gguf", CONVERT_KEEP);
    must("a", "a.pth", CONVERT_KEEP);
    char name[64];
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 3; k++) {
            const char *const out[] = { "b", "b.gguf", "b.pth" };
            snprintf(name, sizeof name, "%d%s", i, out[k]);
            must(form[i], name, CONVERT_KEEP);
            same_values("a", name);
            wipe(at(name));
        }
    /* wider and back is the same; the source's own bytes again */
    for (int i = 0; i < 3; i++) {
        must(form[i], "w.gguf", DT_F32);
        must("w.gguf", "w", DT_BF16);
        assert_true(same_file("a/model.safetensors", "w/model.safetensors"));
        wipe(at("w.gguf")), wipe(at("w"));
    }
    /* biases, heads that are not dim / heads wide, tied embeddings, rope scaling */
    synth("tiny,vocab=64,dim=64,heads=4,kv_heads=1,head_dim=32,ffn=96,bias=1,tied=1,rope_factor=8,"
          "rope_low=1,rope_high=4,rope_orig=8192,theta=500000", "F16", "c");
    must("c", "c.gguf", CONVERT_KEEP);
    same_values("c", "c.gguf");
    must("c.gguf", "d", CONVERT_KEEP);
    same_values("c", "d");
    assert_true(same_file("c/model.safetensors", "d/model.safetensors"));
    dr_err e;
    assert_int_equal(to("c", "c.pth", CONVERT_KEEP, one, &e), DR_EUNSUPPORTED);
    if (!strstr(e.msg, "no biases")) fail_msg("%s", e.msg);
    for (int i = 0; i < 3; i++) wipe(at(form[i]));
    wipe(at("c")), wipe(at("c.gguf")), wipe(at("d")), wipe(at("c.pth.part"));
}

/* ---- callbacks ---- */

typedef struct { int64_t calls, fail_at; bool editing; } job_arg;

static int edit(void *arg, const pack_tensor *t, int64_t row, int64_t n, float *x, int thread,
                dr_err *e)
{
    job_arg *a = arg;
    (void)thread;
    if (__atomic_add_fetch(&a->calls, 1, __ATOMIC_RELAXED) == a->fail_at)
        return err_set(e, DR_ECANCEL, "stopped at call %d", (int)a->fail_at);
    /* adds the row's place in Hugging Face's order */
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < t->all_cols; k++)
            x[i * t->all_cols + k] += (float)(row + i);
    return DR_OK;
}

static bool only_k(void *arg, const pack_tensor *t)
{
    (void)arg;
    return strstr(t->name, "attn_k.weight") || strstr(t->name, "attention.wk.weight");
}

static int halve(void *arg, const pack_tensor *t, int64_t row, int64_t n, const float *x, void *dst,
                 int thread, dr_err *e)
{
    (void)arg, (void)row, (void)thread, (void)e;
    uint8_t *p = dst;
    float y[256];
    for (int64_t i = 0; i < n; i++, p += type_row_bytes(t->type, t->cols)) {
        for (int64_t k = 0; k < t->cols; k++) y[k] = x[i * t->cols + k] / 2;
        quant_row(t->type, y, p, t->cols);
    }
    return DR_OK;
}

static int to_q8(void *arg, pack_tensor *t, dr_err *e)
{
    (void)arg, (void)e;
    if (strstr(t->name, "ffn_up")) t->type = DT_Q8_0;
    t->user = (void *)(uintptr_t)7;
    return DR_OK;
}

static int run_job(const char *in, const char *out, pack_job *j, pool *p, dr_err *e)
{
    pack_source s;
    *e = (dr_err){0};
    int rc = pack_source_open(&s, at(in), e);
    j->src = &s, j->to = pack_container_of(out), j->file_type = -1;
    if (rc == DR_OK) rc = pack_run(j, at(out), p, e);
    pack_source_close(&s);
    return rc;
}

static void read_role(const char *name, pack_role r, float *x, int64_t *n)
{
    pack_source s;
    dr_err e = {0};
    if (pack_source_open(&s, at(name), &e)) fail_msg("%s", e.msg);
    const tensor *t = pack_find(&s, r);
    void *w = malloc(pack_scratch_bytes(t));
    *n = t->dim[0];
    if (pack_read(&s, r, t, true, 0, t->dim[0], x, w, &e)) fail_msg("%s", e.msg);
    free(w);
    pack_source_close(&s);
}

static int row_named(const char *name)
{
    for (int i = 0; i < n_weights; i++)
        if (!strcmp(weight_table[i].gguf, name)) return i;
    fail();
    return -1;
}

static void callbacks(void **state)
{
    (void)state;
    enum { C = 64 };
    static float x[C * C * 2], y[C * C * 2];
    dr_err e;
    int64_t n, m;
    synth("tiny,vocab=64,dim=64,heads=4,kv_heads=2,head_dim=16,ffn=96", "F32", "a");
    job_arg a = {0};
    pack_job j = { .choose = to_q8, .edits = only_k, .edit = edit, .encode = NULL, .arg = &a };
    assert_int_equal(run_job("a", "e.gguf", &j, three, &e), DR_OK);
    assert_true(a.calls > 0);
    pack_role k = { row_named("blk.%d.attn_k.weight"), 1, false };
    pack_role q = { row_named("blk.%d.attn_q.weight"), 1, false };
    read_role("a", k, x, &n), read_role("e.gguf", k, y, &m);
    for (int64_t i = 0; i < n * C; i++) assert_true(y[i] == x[i] + (float)(i / C));
    read_role("a", q, x, &n), read_role("e.gguf", q, y, &m);
    assert_memory_equal(x, y, (size_t)(n * C) * 4);
    tensors *ts = tensors_open(at("e.gguf"), &e);
    assert_int_equal(tensors_find(ts, "blk.0.ffn_up.weight")->type, DT_Q8_0);
    tensors_close(ts);
    /* an encoder of its own sees what is not copied; windows of shards get their part of a row */
    pack_job h = { .edits = only_k, .edit = edit, .encode = halve, .n_files = 4, .arg = &a };
    assert_int_equal(run_job("a", "e.pth", &h, three, &e), DR_OK);
    read_role("a", k, x, &n), read_role("e.pth", k, y, &m);
    for (int64_t i = 0; i < n * C; i++) assert_true(y[i] == (x[i] + (float)(i / C)) / 2);
    wipe(at("e.gguf")), wipe(at("e.pth")), wipe(at("a"));
}

/* ---- stopped and gone on ---- */

static int64_t slices_in(const char *part)
{
    struct stat st;
    char path[512];
    snprintf(path, sizeof path, "%s/journal", at(part));
    return stat(path, &st) ? -1 : ((int64_t)st.st_size - 32) / 4;
}

static void stopped(void **state)
{
    (void)state;
    static const char *const out[] = { "s.gguf", "s", "s.pth" };
    static const char *const want[] = { "w.gguf", "w", "w.pth" };
    dr_err e;
    synth("tiny,vocab=300,dim=256,heads=4,kv_heads=2,head_dim=64,ffn=512", "BF16", "a");
    for (int k = 0; k < 3; k++) {
        job_arg a = {0};
        pack_job j = { .edit = edit, .n_files = 2, .arg = &a };
        char last[64], first[64], part[64];
        assert_int_equal(run_job("a", want[k], &j, one, &e), DR_OK);
        int64_t all = a.calls;
        for (int64_t stop = 1; stop <= all; stop += k ? 7 : 3) {
            snprintf(part, sizeof part, "%s.part", out[k]);
            a = (job_arg){ .fail_at = stop };
            assert_int_equal(run_job("a", out[k], &j, one, &e), DR_ECANCEL);
            int64_t had = slices_in(part);
            assert_true(had >= 0 && (stop < 12 || had > 0));
            assert_false(os_exists(at(out[k])));
            a = (job_arg){0};
            if (run_job("a", out[k], &j, stop % 2 ? three : one, &e)) fail_msg("%s", e.msg);
            if (a.calls > all - stop + 12)
                fail_msg("%d calls of %d after a stop at %d", (int)a.calls, (int)all, (int)stop);
            for (int f = 0; f < 2; f++) {
                if (k == 0) snprintf(last, sizeof last, "s-0000%d-of-00002.gguf", f + 1),
                            snprintf(first, sizeof first, "w-0000%d-of-00002.gguf", f + 1);
                else if (k == 1)
                    snprintf(last, sizeof last, "s/model-0000%d-of-00002.safetensors", f + 1),
                    snprintf(first, sizeof first, "w/model-0000%d-of-00002.safetensors", f + 1);
                else snprintf(last, sizeof last, "s.pth/consolidated.0%d.pth", f),
                     snprintf(first, sizeof first, "w.pth/consolidated.0%d.pth", f);
                assert_true(same_file(last, first));
                if (k == 0) wipe(at(last));
            }
            assert_false(os_exists(at(part)));
            wipe(at(out[k]));
        }
        wipe(at(want[k]));
    }
    wipe(at("w-00001-of-00002.gguf")), wipe(at("w-00002-of-00002.gguf")), wipe(at("a"));
}

/* Bytes of an unfinished file that are not what was written are made again: those that the journal
 * vouches for (all tensors are edited), and those that were written from the source. */
static void damaged_of(bool (*edits)(void *arg, const pack_tensor *t), int early)
{
    dr_err e;
    synth("tiny,vocab=300,dim=256,heads=4,kv_heads=2,head_dim=64,ffn=512", "BF16", "a");
    job_arg a = {0};
    pack_job j = { .edit = edit, .edits = edits, .arg = &a };
    assert_int_equal(run_job("a", "w.gguf", &j, one, &e), DR_OK);
    int64_t all = a.calls;
    static const long place[] = { 3, 5000, 90000, 200000, -1, -2 };
    for (size_t k = 0; k < sizeof place / sizeof *place; k++) {
        a = (job_arg){ .fail_at = all - early };
        assert_int_equal(run_job("a", "s.gguf", &j, one, &e), DR_ECANCEL);
        FILE *f = fopen(at(place[k] == -2 ? "s.gguf.part/journal" : "s.gguf.part/s.gguf"), "r+b");
        assert_non_null(f);
        if (place[k] == -1) assert_int_equal(ftruncate(fileno(f), 100000), 0);
        else if (place[k] == -2) assert_int_equal(ftruncate(fileno(f), 32 + 4 * 5 + 2), 0);
        else fseek(f, place[k], SEEK_SET), fputc(0x5A, f), fputc(0xA5, f);
        fclose(f);
        a = (job_arg){0};
        if (run_job("a", "s.gguf", &j, three, &e)) fail_msg("%s", e.msg);
        assert_true(same_file("s.gguf", "w.gguf"));
        wipe(at("s.gguf"));
    }
    wipe(at("w.gguf")), wipe(at("a"));
}

static void damaged(void **state)
{
    (void)state;
    damaged_of(NULL, 4);
    damaged_of(only_k, 0);
}

/* While a file grows it is of whole huge pages, whatever is edited and what is written from the source;
 * so much was made before the last one is seen to be. */
static int64_t uneven, whole;
static int look(void *arg, const pack_tensor *t, int64_t row, int64_t n, float *x, int thread,
                dr_err *e)
{
    (void)arg, (void)t, (void)row, (void)n, (void)x, (void)thread, (void)e;
    struct stat st;
    if (stat(at("p.gguf.part/p.gguf"), &st) == 0) {
        uneven += st.st_size % OS_HUGE != 0;
        if (st.st_size / OS_HUGE > whole) whole = st.st_size / OS_HUGE;
    }
    return DR_OK;
}

static void pieces(void **state)
{
    (void)state;
    dr_err e;
    synth("tiny,vocab=9000,dim=256,heads=4,kv_heads=2,head_dim=64,ffn=512", "F32", "a");
    for (int k = 0; k < 2; k++) {
        pack_job j = { .edit = look, .edits = k ? only_k : NULL };
        uneven = whole = 0;
        if (run_job("a", "p.gguf", &j, one, &e)) fail_msg("%s", e.msg);
        assert_int_equal(uneven, 0);
        assert_true(whole >= 4);
        wipe(at("p.gguf"));
    }
    wipe(at("a"));
}

static char said[512];
static void keep_note(void *arg, const char *s)
{
    (void)arg;
    snprintf(said, sizeof said, "%s", s);
}

static void other_source(void **state)
{
    (void)state;
    dr_err e;
    synth("tiny,vocab=300,dim=256,heads=4,kv_heads=2,head_dim=64,ffn=512", "BF16", "a");
    synth_opt o = { .seed = 6 };
    assert_int_equal(synth_shape_read(&o.shape, "tiny,vocab=300", &e), DR_OK);
    assert_int_equal(synth_types_read(&o.types, "BF16", &e), DR_OK);
    assert_int_equal(synth_write(&o, at("b"), one, &e), DR_OK);
    must("b", "w.gguf", CONVERT_KEEP);
    job_arg a = { .fail_at = 20 };
    pack_job j = { .edit = edit, .edits = only_k, .arg = &a, .note = keep_note };
    a.fail_at = 2;
    assert_int_equal(run_job("a", "s.gguf", &j, one, &e), DR_ECANCEL);
    *said = 0;
    pack_job plain = { .note = keep_note };
    assert_int_equal(run_job("b", "s.gguf", &plain, one, &e), DR_OK);
    if (!strstr(said, "another source")) fail_msg("%s", said);
    /* not begun anew where nothing was; the key tells jobs apart that look the same */
    *said = 0, a = (job_arg){ .fail_at = 2 };
    assert_int_equal(run_job("a", "t.gguf", &j, one, &e), DR_ECANCEL);
    a = (job_arg){0}, j.key = 9;
    assert_int_equal(run_job("a", "t.gguf", &j, one, &e), DR_OK);
    if (!strstr(said, "another source")) fail_msg("%s", said);
    wipe(at("s.gguf")), wipe(at("t.gguf")), wipe(at("w.gguf")), wipe(at("a")), wipe(at("b"));
}

/* ---- refusals ---- */

static void write_one(const char *path, const char *name, int64_t n, const char *also)
{
    dr_err e = {0};
    st_writer *w = st_write_new(&e);
    float zero[64] = {0};
    assert_int_equal(st_add_tensor(w, name, DT_F32, 1, &n, &e), DR_OK);
    if (also) assert_int_equal(st_add_tensor(w, also, DT_F32, 1, &n, &e), DR_OK);
    assert_int_equal(st_write_start(w, path, &e), DR_OK);
    for (int i = 0; i < (also ? 2 : 1); i++)
        assert_int_equal(st_write_data(w, zero, (size_t)n * 4, &e), DR_OK);
    assert_int_equal(st_write_end(w, &e), DR_OK);
    st_write_free(w);
}

static void refusals(void **state)
{
    (void)state;
    dr_err e;
    synth("tiny,vocab=64,dim=64,heads=4,kv_heads=2,head_dim=16,ffn=96", "F32", "a");
    synth("tiny,vocab=64,dim=64,heads=4,kv_heads=2,head_dim=16,ffn=96", "F32", "b");
    must("a", "two", CONVERT_KEEP);
    /* a shard with a tensor that no Llama has: not dropped silently */
    write_one(at("two/extra.safetensors"), "model.extra.weight", 8, NULL);
    assert_int_equal(rename(at("two/model.safetensors"), at("two/one.safetensors")), 0);
    pack_source s;
    assert_int_equal(pack_source_open(&s, at("a"), &e), DR_OK);
    FILE *f = fopen(at("two/model.safetensors.index.json"), "w");
    fprintf(f, "{\"weight_map\":{\"model.extra.weight\":\"extra.safetensors\"");
    for (int64_t i = 0; i < tensors_count(s.ts); i++)
        fprintf(f, ",\"" SPAN_FMT "\":\"one.safetensors\"", SPAN_ARG(tensors_at(s.ts, i)->name));
    fprintf(f, "}}");
    fclose(f);
    assert_int_equal(to("two", "x.gguf", CONVERT_KEEP, one, &e), DR_EUNSUPPORTED);
    if (!strstr(e.msg, "model.extra.weight")) fail_msg("%s", e.msg);
    assert_false(os_exists(at("x.gguf.part")));
    /* numbers that do not fit the tensors */
    buf b = { .cap_max = 1 << 16 };
    assert_int_equal(os_read(&b, at("b/config.json"), &e), DR_OK);
    char *p = strstr(buf_str(&b), "\"intermediate_size\": 96");
    assert_non_null(p);
    p[strlen("\"intermediate_size\": ")] = '8';
    assert_int_equal(os_write(at("b/config.json"), b.p, b.n, &e), DR_OK);
    assert_int_equal(to("b", "x.gguf", CONVERT_KEEP, one, &e), DR_EFORMAT);
    if (!strstr(e.msg, "86 x 64")) fail_msg("%s", e.msg);
    buf_free(&b);
    /* types that a target cannot hold, rows that are no multiple of a block */
    pack_job j = { .choose = to_q8 };
    assert_int_equal(run_job("a", "x", &j, one, &e), DR_OK);       // no tensor is called ffn_up there
    assert_int_equal(to("a", "x.gguf", DT_F8_E4M3, one, &e), DR_EUNSUPPORTED);
    pack_source_close(&s);
    wipe(at("a")), wipe(at("b")), wipe(at("two")), wipe(at("x"));
}

static void no_memory(void **state)
{
    (void)state;
    static const char *const out[] = { "n.gguf", "n", "n.pth" };
    dr_err e;
    synth("tiny,vocab=32,dim=32,layers=1,heads=2,kv_heads=1,head_dim=16,ffn=32", "BF16", "a");
    for (int k = 0; k < 3; k++)
        for (long n = 0; ; n++) {
            assert_true(n < 10000);
            size_t live = mem_live_bytes();
            mem_fail_after(n);
            int rc = to("a", out[k], CONVERT_KEEP, one, &e);
            mem_fail_after(-1);
            if (mem_live_bytes() != live)
                fail_msg("%s: allocation %ld: %zu bytes stay", out[k], n, mem_live_bytes() - live);
            if (rc == DR_OK) break;
            if (rc != DR_ENOMEM) fail_msg("%s: allocation %ld: %d, %s", out[k], n, rc, e.msg);
        }
    for (int k = 0; k < 3; k++) wipe(at(out[k]));
    wipe(at("a"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows), cmocka_unit_test(against_synth), cmocka_unit_test(pairs),
        cmocka_unit_test(callbacks),
        cmocka_unit_test(stopped), cmocka_unit_test(damaged), cmocka_unit_test(pieces),
        cmocka_unit_test(other_source),
        cmocka_unit_test(refusals), cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, folder_up, folder_down);
}
