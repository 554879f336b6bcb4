/* test_fp8.c - FP8 models: every form gives the logits of its weights dequantised in float32, and
 * the promises of docs/numerics.md hold for them: threads, chunks, levels. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/mem.h"
#include "base/os.h"
#include "format/dequant.h"
#include "gen/session.h"
#include "kern/kern.h"
#include "pack/synth.h"

enum { N = 40, V = 256 };
static const char shape[] = "dim=128,layers=4,heads=8,kv_heads=4,head_dim=16,ffn=512,vocab=256,"
                            "ctx=131072,std=0.08,rope_factor=32,theta=500000";
static char dir[] = "/dev/shm/drover-test-XXXXXX";
static int32_t tok[N];

static const char *at(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void drop(const char *folder)
{
    DIR *d = opendir(at(folder));
    char path[800];
    for (struct dirent *f; d && (f = readdir(d));) {
        snprintf(path, sizeof path, "%s/%s/%s", dir, folder, f->d_name);
        if (f->d_name[0] != '.') unlink(path);
    }
    if (d) closedir(d);
    rmdir(at(folder));
}

static void make(const char *out, const char *type, int shards)
{
    dr_err e = {0};
    synth_opt o = { .seed = 11, .shards = shards };
    pool *p = pool_new(1, &e);
    drop(out);
    if (synth_shape_read(&o.shape, shape, &e) != DR_OK || synth_types_read(&o.types, type, &e) != DR_OK ||
        synth_write(&o, at(out), p, &e) != DR_OK) fail_msg("%s", e.msg);
    pool_free(p);
}

static wmat *matrix(model *m, int l, int i)
{
    if (l == m->h.L) return i == 0 ? &m->w.tok_emb : i == 1 ? &m->w.out : NULL;
    layer_weights *w = &m->w.layer[l];
    wmat *in[] = { &w->wq, &w->wk, &w->wv, &w->wo, &w->w1, &w->w3, &w->w2 };
    return i < 7 ? in[i] : NULL;
}

/* Matrices as F32: those that are not FP8, or all of them, multiplied by their scales. (A BF16
 * product rounds its input, which would hide what is looked for.) The memory is kept in *keep. */
static void as_f32(model *m, bool all, void *keep[64], int *n_keep)
{
    for (int l = 0; l <= m->h.L; l++)
        for (int i = 0; i < 7; i++) {
            wmat *w = matrix(m, l, i);
            if (!w || (w->type == DT_F8_E4M3 && !all)) continue;
            float *y = keep[(*n_keep)++] = malloc((size_t)w->rows * (size_t)w->K * sizeof *y);
            for (int r = 0; r < w->rows; r++) {
                float *row = y + (size_t)r * (size_t)w->K;
                dequant_row(w->type, (const char *)w->data + (size_t)r * w->row_bytes, row, w->K);
                for (int k = 0; w->scale && k < w->K; k++)
                    row[k] *= w->scale[k / (w->K / w->n_slice) * w->rows + r];
            }
            w->type = DT_F32, w->data = y, w->row_bytes = (size_t)w->K * sizeof *y;
            w->scale = NULL, w->n_slice = 0;
        }
}

static int keep_rows(void *arg, int first, int rows, const float *logits, dr_err *e)
{
    (void)e;
    memcpy((float *)arg + (size_t)first * V, logits, (size_t)rows * V * sizeof *logits);
    return DR_OK;
}

/* (N,V) logits; all: every matrix as F32. */
static float *logits_of(const char *path, bool all, const char *level, int threads, int rows)
{
    dr_err e = {0};
    void *keep[64];
    int n_keep = 0;
    dev_opt o = { .n_threads = threads, .cpu_level = level };
    model *m = model_open(at(path), &o, &e);
    if (!m) fail_msg("%s", e.msg);
    as_f32(m, all, keep, &n_keep);
    session_opt so = { .n_ctx = N, .n_rows = rows, .kv_set = true, .kv = KV_F32 };
    session *s = session_new(m, &so, &e);
    if (!s) fail_msg("%s", e.msg);
    float *y = calloc((size_t)N * V, sizeof *y);
    assert_int_equal(session_all_logits(s, tok, N, keep_rows, y, &e), DR_OK);
    session_free(s);
    model_close(m);
    while (n_keep > 0) free(keep[--n_keep]);
    return y;
}

static double distance(const float *a, const float *b)
{
    double most = 0, sum = 0, sq = 0;
    for (int i = 0; i < N * V; i++) {
        most = fmax(most, fabs((double)a[i] - b[i]));
        sum += b[i], sq += (double)b[i] * b[i];
    }
    return most / sqrt(sq / (N * V) - sum / (N * V) * (sum / (N * V)));
}

static void test_values(void **state)
{
    static const struct { const char *out, *type; int shards; } form[] = {
        { "st", "FP8", 0 }, { "dynamic", "FP8_DYNAMIC", 0 }, { "one.pth", "FP8", 1 },
        { "two.pth", "FP8", 2 }, { "eight.pth", "FP8", 8 },
    };
    float *first = NULL, *one = NULL;
    (void)state;
    for (size_t i = 0; i < sizeof form / sizeof *form; i++) {
        make(form[i].out, form[i].type, form[i].shards);
        float *got = logits_of(form[i].out, false, NULL, 2, N);
        float *want = logits_of(form[i].out, true, NULL, 2, N);
        double d = distance(got, want);
        if (!(d < 1e-4)) fail_msg("%s: %g of the standard deviation", form[i].out, d);
        if (first && form[i].shards > 1) {           // w2's slices are rounded by scales of their own
            assert_true(distance(got, first) > 1e-3 && distance(got, first) < 0.5);
        }
        free(want);
        if (i == 0) first = got;
        else if (i == 2) one = got;
        else free(got);
        drop(form[i].out);
    }
    assert_memory_equal(first, one, (size_t)N * V * sizeof *first);   // the same model in both
    free(first);
    free(one);
}

static void test_bits(void **state)
{
    (void)state;
    make("bits.pth", "FP8", 4);
    float *want = logits_of("bits.pth", false, "ref", 1, N);
    for (int l = 0; l < n_kern_levels; l++) {
        kern k;
        if (!kern_select(&k, kern_levels[l].name)) continue;
        for (int threads = 1; threads <= 3; threads++) {
            static const int rows[] = { 1, 7, 33, N };
            float *got = logits_of("bits.pth", false, kern_levels[l].name, threads, rows[(threads + l) % 4]);
            if (memcmp(got, want, (size_t)N * V * sizeof *got))
                fail_msg("%s, %d threads: other bits", kern_levels[l].name, threads);
            free(got);
        }
    }
    free(want);
    drop("bits.pth");
}

/* A scale tensor changed in the file of a safetensors model. */
static void change(const char *from, const char *to)
{
    dr_err e = {0};
    os_file f;
    char path[600];
    snprintf(path, sizeof path, "%s/bad/model.safetensors", dir);
    assert_int_equal(os_map(&f, path, &e), DR_OK);
    char *p = malloc(f.n);
    memcpy(p, f.p, f.n);
    size_t n = f.n, k = strlen(from);
    os_unmap(&f);
    char *hit = NULL;
    for (size_t i = 0; i + k < n && !hit; i++) if (!memcmp(p + i, from, k)) hit = p + i;
    assert_non_null(hit);
    assert_int_equal(strlen(to), k);
    memcpy(hit, to, k);
    assert_int_equal(os_write(path, p, n, &e), DR_OK);
    free(p);
}

static void refused(const char *why)
{
    dr_err e = {0};
    model *m = model_open(at("bad"), &(dev_opt){ .n_threads = 1 }, &e);
    if (m || !strstr(e.msg, why)) fail_msg("\"%s\", not \"%s\"", m ? "opened" : e.msg, why);
}

static void test_refused(void **state)
{
    (void)state;
    make("bad", "FP8", 0);
    change("layers.1.mlp.up_proj.weight_scale", "layers.1.mlp.up_proj.weight_scalf");
    refused("layers.1.mlp.up_proj.weight is FP8, but its scales");
    make("bad", "FP8", 0);
    change("layers.1.mlp.up_proj.weight_scale\":{\"dtype\":\"F32\",\"shape\":[512,1]",
           "layers.1.mlp.up_proj.weight_scale\":{\"dtype\":\"F32\",\"shape\":[1,512]");
    model_close(model_open(at("bad"), &(dev_opt){ .n_threads = 1 }, NULL));
    make("bad", "FP8", 0);
    change("layers.1.mlp.up_proj.weight_scale\":{\"dtype\":\"F32\",\"shape\":[512,1]",
           "layers.1.mlp.up_proj.weight_scale\":{\"dtype\":\"F32\",\"shape\":[256,2]");
    refused("scales for the whole, for each row or for each row and slice are read");
    make("bad", "FP8", 0);
    change("layers.1.mlp.up_proj.weight_scale\":{\"dtype\":\"F32\"",
           "layers.1.mlp.up_proj.weight_scale\":{\"dtype\":\"I32\"");
    refused("not in this shape or type");
    make("bad", "FP8", 0);
    change("layers.0.mlp.up_proj.weight\"", "layers.1.mlp.up_proj.weighX\"");
    refused("layers.0.mlp.up_proj.weight is missing");
    drop("bad");
}

static int set_up(void **state)
{
    (void)state;
    for (int i = 0; i < N; i++) tok[i] = (i * 37 + 11) % V;
    return mkdtemp(dir) ? 0 : -1;
}
static int tear_down(void **state) { (void)state; return rmdir(dir); }

int main(void)
{
    const struct CMUnitTest t[] = {
        cmocka_unit_test(test_values), cmocka_unit_test(test_bits), cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(t, set_up, tear_down);
}
