/* test_params.c - flat parameters: the table, models of every container and type loaded into them,
 * the model that reads them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/half.h"
#include "base/mem.h"
#include "folder.h"
#include "format/dequant.h"
#include "gen/session.h"
#include "pack/synth.h"
#include "train/params.h"

enum { N = 40, V = 210 };
#define DIMS "dim=96,layers=2,heads=4,kv_heads=2,head_dim=64,ffn=160,vocab=210,ctx=512,std=0.05,"
#define LLAMA3 "rope_factor=8,rope_low=1,rope_high=4,rope_orig=8192,theta=500000,"
static int32_t tok[N];

static void synth(const char *path, const char *shape, const char *type, int shards)
{
    dr_err e = {0};
    synth_opt o = { .seed = 11, .shards = shards };
    if (synth_shape_read(&o.shape, shape, &e) || synth_types_read(&o.types, type, &e) ||
        synth_write(&o, path, three, &e))
        fail_msg("%s", e.msg);
}

static model *open_at(const char *path)
{
    dr_err e = {0};
    model *m = model_open(path, &(dev_opt){ .n_threads = 2 }, &e);
    if (!m) fail_msg("%s", e.msg);
    return m;
}

static params *load(const model *m, int type)
{
    dr_err e = {0};
    params *p = params_new(&m->h, type, &e);
    if (!p || params_alloc(p, m->d, true, &e) || params_load(p, m, &e)) fail_msg("%s", e.msg);
    return p;
}

static int keep(void *arg, int first, int rows, const float *logits, dr_err *e)
{
    (void)e;
    memcpy((float *)arg + (size_t)first * V, logits, (size_t)rows * V * sizeof *logits);
    return DR_OK;
}

static float *logits_of(const model *m, kv_type kv)
{
    dr_err e = {0};
    session *s = session_new(m, &(session_opt){ .n_ctx = N, .kv_set = true, .kv = kv }, &e);
    float *y = calloc((size_t)N * V, sizeof *y);
    if (!s || session_all_logits(s, tok, N, keep, y, &e)) fail_msg("%s", e.msg);
    session_free(s);
    return y;
}

static void same_logits(const model *a, const model *b, kv_type kv, const char *what)
{
    float *x = logits_of(a, kv), *y = logits_of(b, kv);
    if (memcmp(x, y, (size_t)N * V * sizeof *x)) fail_msg("%s: other logits", what);
    free(x), free(y);
}

/* In order, aligned, every element of the model once, what lies between 0; found by every name. */
static void check_table(const params *p)
{
    static const container all[] = { CONTAINER_SAFETENSORS, CONTAINER_GGUF, CONTAINER_META };
    int64_t at = 0, sum = 0;
    for (int i = 0; i < p->n; i++) {
        const param *q = &p->p[i];
        assert_true(q->at % PARAM_ALIGN == 0 && q->at >= at && q->at - at < PARAM_ALIGN);
        assert_true(q->n == (int64_t)q->rows * q->cols && (q->matrix || q->rows == 1));
        for (int64_t k = at; k < q->at; k++) assert_true(p->w[k] == 0 && p->g[k] == 0);
        at = q->at + q->n, sum += q->n;
        for (int c = 0; c < 3; c++) {
            char name[128];
            param_name(name, sizeof name, q, all[c]);
            assert_int_equal(params_find(p, name), i);
        }
    }
    assert_true(p->n_elem >= at && p->n_elem % PARAM_ALIGN == 0 && p->n_elem - at < PARAM_ALIGN);
    assert_true(sum == p->n_weights);
    assert_int_equal(params_find(p, "blk.9.attn_q.weight"), -1);
    assert_int_equal((uintptr_t)p->w % 64, 0);
}

/* The same weights from every container: the same arrays, and a model that gives the bits of the one
 * it was loaded from. */
static void every_container(void **state)
{
    (void)state;
    static const struct { const char *name; int shards; } file[] = {
        { "m.gguf", 1 }, { "hf", 1 }, { "m.pth", 1 }, { "two.pth", 2 },
    };
    static const char *const shapes[] = { DIMS "tied=0," LLAMA3, DIMS "tied=1," };
    for (int s = 0; s < 2; s++) {
        float *first = NULL;
        for (int f = 0; f < 4; f++) {
            if (s && f > 1) continue;                   // Meta's files have a head of their own
            synth(at(file[f].name), shapes[s], "F32", file[f].shards);
            model *m = open_at(at(file[f].name));
            params *p = load(m, DT_F32);
            dr_err e = {0};
            model *over = params_model(p, &e);
            assert_non_null(over);
            assert_int_equal(p->n, 2 + !s + 2 * 9);
            check_table(p);
            same_logits(m, over, KV_F32, file[f].name);
            if (!first) first = memcpy(malloc((size_t)p->n_elem * 4), p->w, (size_t)p->n_elem * 4);
            assert_memory_equal(first, p->w, (size_t)p->n_elem * 4);
            model_close(over);
            params_free(p);
            model_close(m);
            wipe(at(file[f].name));
        }
        free(first);
    }
}

/* Other types are dequantised row by row; FP8 with its scales. */
static void every_type(void **state)
{
    (void)state;
    static const char *const types[] = { "F16", "Q8_0", "Q4_0", "MXFP4", "FP8_DYNAMIC" };
    float row[160];
    for (int i = 0; i < 5; i++) {
        const char *path = at(i == 4 ? "hf" : "m.gguf");
        synth(path, DIMS "tied=0", types[i], 1);
        model *m = open_at(path);
        params *p = load(m, DT_F32);
        const wmat *w = &m->w.layer[1].w2;
        const param *q = &p->p[params_find(p, "blk.1.ffn_down.weight")];
        for (int r = 0; r < w->rows; r++) {
            dequant_row(w->type, (const char *)w->data + (size_t)r * w->row_bytes, row, w->K);
            for (int k = 0; w->scale && k < w->K; k++) row[k] *= w->scale[r];
            assert_memory_equal(row, p->w + q->at + (int64_t)r * q->cols, sizeof row);
        }
        assert_true(i != 4 || w->scale);
        params_free(p);
        model_close(m);
        wipe(path);
    }
}

/* In bf16 the model is that of a BF16 file; a step on w shows after params_round, in its range only. */
static void bf16(void **state)
{
    (void)state;
    dr_err e = {0};
    synth(at("b.gguf"), DIMS "tied=0", "BF16", 1);
    model *m = open_at(at("b.gguf"));
    params *p = load(m, DT_BF16);
    model *over = params_model(p, &e);
    assert_non_null(over);
    assert_int_equal(params_kv(p), KV_BF16);
    same_logits(m, over, KV_BF16, "BF16");
    const param *q = &p->p[params_find(p, "blk.0.ffn_up.weight")];
    for (int64_t i = 0; i < q->n; i++) p->w[q->at + i] *= 1.01f;
    int64_t end = q->at + PARAM_ALIGN;
    params_round(p, q->at, end);
    assert_true(p->bf[q->at] == f32_to_bf16(p->w[q->at]));
    int stale = 0;
    for (int64_t i = end; i < q->at + q->n; i++) stale += p->bf[i] != f32_to_bf16(p->w[i]);
    assert_true(stale > q->n / 20);
    params_round(p, 0, p->n_elem);
    for (int i = 0; i < p->n; i++)
        for (int64_t k = p->p[i].at; k < p->p[i].at + p->p[i].n; k++)
            assert_true(p->bf[k] == f32_to_bf16(p->w[k]));
    model_close(over);
    params_free(p);
    model_close(m);
    wipe(at("b.gguf"));
}

static void refused(const model *m, const hparams *h, int code, const char *word)
{
    dr_err e = {0};
    params *p = params_new(h, DT_F32, &e);
    assert_non_null(p);
    assert_int_equal(params_alloc(p, m->d, false, &e), DR_OK);
    assert_int_equal(params_load(p, m, &e), code);
    if (!strstr(e.msg, word)) fail_msg("%s", e.msg);
    params_free(p);
}

static void what_does_not_fit(void **state)
{
    (void)state;
    dr_err e = {0};
    synth(at("hf"), DIMS "tied=0,bias=1", "F32", 1);
    model *m = open_at(at("hf"));
    assert_null(params_new(&m->h, DT_F16, &e));
    assert_int_equal(e.code, DR_EUNSUPPORTED);
    refused(m, &m->h, DR_EUNSUPPORTED, "a bias");
    hparams h = m->h;
    h.F = 128;
    refused(m, &h, DR_EINVAL, "feed-forward width 160, 128 is wanted");
    h = m->h, h.tied = true;
    refused(m, &h, DR_EINVAL, "a head of its own");
    model_close(m);
    wipe(at("hf"));
    synth(at("t.gguf"), DIMS "tied=0", "F32", 1);        // says tied, and holds another head
    m = open_at(at("t.gguf"));
    m->h.tied = true;
    refused(m, &m->h, DR_EUNSUPPORTED, "another one");
    model_close(m);
    wipe(at("t.gguf"));
}

/* N(0, std), the same on any number of threads, another for another seed. */
static void random_weights(void **state)
{
    (void)state;
    dr_err e = {0};
    hparams h = { .V = 1500, .C = 128, .L = 8, .nh = 4, .nkv = 2, .hs = 32, .F = 256, .n_ctx = 64,
                  .eps = 1e-5f, .rope = { .theta = 10000 } };
    params *p[3];
    dev *d[3];
    for (int i = 0; i < 3; i++) {
        d[i] = dev_open(&(dev_opt){ .n_threads = i + 1 }, &e);
        p[i] = params_new(&h, DT_F32, &e);
        assert_int_equal(params_alloc(p[i], d[i], true, &e), DR_OK);
        params_random(p[i], i < 2 ? 5 : 6, 0.02f);
    }
    assert_memory_equal(p[0]->w, p[1]->w, (size_t)p[0]->n_elem * 4);
    for (int i = 0; i < p[0]->n; i++) {
        const param *q = &p[0]->p[i];
        double sum = 0, sq = 0;
        char name[128];
        for (int64_t k = q->at; k < q->at + q->n; k++)
            sum += (double)p[0]->w[k], sq += (double)p[0]->w[k] * (double)p[0]->w[k];
        param_name(name, sizeof name, q, CONTAINER_META);
        bool writes = strstr(name, ".wo.") || strstr(name, ".w2.");
        double std = sqrt(sq / (double)q->n), want = !q->matrix ? 1 : writes ? 0.02 / 4 : 0.02;
        if (fabs(std / want - 1) > (q->matrix ? 0.03 : 0)) fail_msg("%s: %g", name, std);
        assert_true(!q->matrix || fabs(sum / (double)q->n) < 0.05 * want);
        assert_true(!q->matrix || memcmp(p[0]->w + q->at, p[2]->w + q->at, (size_t)q->n * 4));
    }
    check_table(p[0]);
    for (int64_t k = 0; k < p[0]->n_elem; k++) p[0]->g[k] = 1;
    params_zero_grad(p[0]);
    for (int64_t k = 0; k < p[0]->n_elem; k++) assert_true(p[0]->g[k] == 0);
    for (int i = 0; i < 3; i++) params_free(p[i]), dev_close(d[i]);
}

/* Divisors of the file are copied: the file may be closed. */
static void own_divisors(void **state)
{
    (void)state;
    dr_err e = {0};
    float *div = malloc(16 * sizeof *div);
    for (int i = 0; i < 16; i++) div[i] = 1 + (float)i;
    hparams h = { .V = 50, .C = 32, .L = 1, .nh = 1, .nkv = 1, .hs = 32, .F = 32, .n_ctx = 64,
                  .rope = { .kind = ROPE_FACTORS, .theta = 10000, .divisor = div } };
    params *p = params_new(&h, DT_F32, &e);
    free(div);
    for (int i = 0; i < 16; i++) assert_true(p->h.rope.divisor[i] == 1 + (float)i);
    params_free(p);
}

static void no_memory(void **state)
{
    (void)state;
    dr_err e = {0};
    synth(at("m.gguf"), DIMS "tied=0", "F32", 1);
    model *m = open_at(at("m.gguf"));
    size_t live = mem_live_bytes();
    bool ok = false;
    for (long after = 0; !ok; after++) {
        assert_true(after < 50);
        e = (dr_err){0};
        mem_fail_after(after);
        params *p = params_new(&m->h, DT_BF16, &e);
        model *over = NULL;
        ok = p && !params_alloc(p, m->d, true, &e) && !params_load(p, m, &e) &&
             (over = params_model(p, &e)) != NULL;
        mem_fail_after(-1);
        if (!ok) assert_int_equal(e.code, DR_ENOMEM);
        model_close(over);
        params_free(p);
        assert_int_equal(mem_live_bytes(), live);
    }
    model_close(m);
    wipe(at("m.gguf"));
}

int main(void)
{
    for (int i = 0; i < N; i++) tok[i] = (i * 37 + 5) % V;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_container), cmocka_unit_test(every_type), cmocka_unit_test(bf16),
        cmocka_unit_test(what_does_not_fit), cmocka_unit_test(random_weights),
        cmocka_unit_test(own_divisors), cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, folder_up, folder_down);
}
