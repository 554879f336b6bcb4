/* test_lora.c - adapters, PEFT's and GGUF's: the logits are those of weights that had B A added to
 * them here, in double; what does not fit is refused; bits depend on nothing but the tokens. */
#define _GNU_SOURCE
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/mem.h"
#include "format/gguf_write.h"
#include "format/json.h"
#include "format/safetensors_write.h"
#include "gen/session.h"
#include "pack/merge.h"
#include "pack/synth.h"
#include "hostile.h"

enum { V = 96, C = 64, L = 2, NH = 4, NKV = 2, HS = 32, F = 80, N = 50, R = 5 };
static const char shape[] = "dim=64,layers=2,heads=4,kv_heads=2,head_dim=32,ffn=80,vocab=96,ctx=256,"
                            "tied=0,std=0.1";
static int32_t tok[N];

typedef struct { void *bytes; size_t n; } image;

static image make(void)
{
    dr_err e = {0};
    image im = {0};
    synth_opt o = { .seed = 11 };
    pool *p = pool_new(1, &e);
    assert_int_equal(synth_shape_read(&o.shape, shape, &e), DR_OK);
    assert_int_equal(synth_types_read(&o.types, "F32", &e), DR_OK);
    assert_int_equal(synth_memory(&o, &im.bytes, &im.n, p, &e), DR_OK);
    pool_free(p);
    return im;
}

static model *open_image(image im, int threads)
{
    dr_err e = {0};
    model *m = model_from_tensors(tensors_parse(im.bytes, im.n, &e), &(dev_opt){ .n_threads = threads },
                                  &e);
    if (!m) fail_msg("%s", e.msg);
    return m;
}

/* ---- adapters made here */

/* Element i of matrix `which`: a number that only depends on these. */
static float number(int which, int64_t i)
{
    uint32_t h = (uint32_t)which * 2654435761u ^ (uint32_t)i * 40503u * 2246822519u;
    h ^= h >> 15, h *= 2246822519u, h ^= h >> 13;
    return ((float)(h >> 8) / 0x1p24f - 0.5f) * 0.3f;
}

typedef struct { const char *hf, *gguf; int rows, cols; bool qk, emb; } target;
static const target targets[] = {
    { "model.layers.0.self_attn.q_proj", "blk.0.attn_q.weight", NH * HS, C, true, false },
    { "model.layers.0.self_attn.k_proj", "blk.0.attn_k.weight", NKV * HS, C, true, false },
    { "model.layers.1.self_attn.v_proj", "blk.1.attn_v.weight", NKV * HS, C, false, false },
    { "model.layers.1.self_attn.o_proj", "blk.1.attn_output.weight", C, NH * HS, false, false },
    { "model.layers.0.mlp.gate_proj", "blk.0.ffn_gate.weight", F, C, false, false },
    { "model.layers.1.mlp.up_proj", "blk.1.ffn_up.weight", F, C, false, false },
    { "model.layers.1.mlp.down_proj", "blk.1.ffn_down.weight", C, F, false, false },
    { "lm_head", "output.weight", V, C, false, false },
    { "model.embed_tokens", "token_embd.weight", C, V, false, true },      /* B A is (C,V) */
};
enum { N_TARGETS = sizeof targets / sizeof *targets };

/* Hugging Face's row of q or k that is row r of GGUF's: the pair 2j, 2j+1 is j, j + hs/2 there. */
static int hf_row(int r) { return r / HS * HS + r % 2 * HS / 2 + r % HS / 2; }

static float a_at(int t, int k, int c) { return number(2 * t, k * 1000 + c); }
static float b_at(int t, int row, int k) { return number(2 * t + 1, row * 1000 + k); }

static const char config[] = "{\"peft_type\":\"LORA\",\"r\":5,\"lora_alpha\":10,\"bias\":\"none\","
                             "\"target_modules\":[\"q_proj\"],\"modules_to_save\":null}";

static int to_buf(void *arg, const void *p, size_t n, dr_err *e)
{
    (void)e;
    buf_put(arg, p, n);
    return DR_OK;
}

static void put_matrix(int (*put)(void *, const void *, size_t, dr_err *), void *w, int rows, int cols,
                       float (*at)(int, int, int), int t, int kind)
{
    dr_err e = {0};
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < cols; j++) {        /* kind 1: rows in GGUF's order; 2: turned */
            float x = kind == 2 ? at(t, j, i) : at(t, kind == 1 ? hf_row(i) : i, j);
            assert_int_equal(put(w, &x, sizeof x, &e), DR_OK);
        }
}

static int st_put(void *w, const void *p, size_t n, dr_err *e) { return st_write_data(w, p, n, e); }
static int gguf_put(void *w, const void *p, size_t n, dr_err *e) { return gguf_write_data(w, p, n, e); }

static buf peft_bytes(int from, int to)
{
    dr_err e = {0};
    buf b = { .cap_max = 1 << 24 };
    st_writer *w = st_write_new(&e);
    for (int t = from; t < to; t++)
        for (int k = 0; k < 2; k++) {
            const target *x = &targets[t];
            char name[128];
            snprintf(name, sizeof name, x->emb ? "base_model.model.%s.lora_embedding_%c"
                     : "base_model.model.%s.lora_%c.weight", x->hf, "AB"[k]);
            int64_t dim[2] = { k ? x->rows : R, k ? R : x->cols };
            assert_int_equal(st_add_tensor(w, name, DT_F32, 2, dim, &e), DR_OK);
        }
    assert_int_equal(st_write_start_to(w, to_buf, &b, &e), DR_OK);
    for (int t = from; t < to; t++) {
        put_matrix(st_put, w, R, targets[t].cols, a_at, t, 0);
        put_matrix(st_put, w, targets[t].rows, R, b_at, t, 0);
    }
    assert_int_equal(st_write_end(w, &e), DR_OK);
    st_write_free(w);
    return b;
}

static buf gguf_bytes(int from, int to, const char *type)
{
    dr_err e = {0};
    buf b = { .cap_max = 1 << 24 };
    gguf_writer *w = gguf_write_new(&e);
    gguf_put_str(w, "general.architecture", span_of("llama"));
    gguf_put_str(w, "general.type", span_of(type));
    gguf_put_str(w, "adapter.type", span_of("lora"));
    gguf_put_f32(w, "adapter.lora.alpha", 10);
    for (int t = from; t < to; t++)
        for (int k = 0; k < 2; k++) {
            const target *x = &targets[t];
            char name[128];
            snprintf(name, sizeof name, "%s.lora_%c", x->gguf, "ab"[k]);
            int64_t dim[2] = { k ? R : x->cols, k ? x->rows : R };         /* fastest first */
            if (x->emb && !k) dim[0] = R, dim[1] = x->cols;
            assert_int_equal(gguf_add_tensor(w, name, DT_F32, 2, dim, &e), DR_OK);
        }
    assert_int_equal(gguf_write_start_to(w, to_buf, &b, &e), DR_OK);
    for (int t = from; t < to; t++) {
        const target *x = &targets[t];
        if (x->emb) put_matrix(gguf_put, w, x->cols, R, a_at, t, 2);
        else put_matrix(gguf_put, w, R, x->cols, a_at, t, 0);
        put_matrix(gguf_put, w, x->rows, R, b_at, t, x->qk);
    }
    assert_int_equal(gguf_write_end(w, &e), DR_OK);
    gguf_write_free(w);
    return b;
}

static char dir[] = "/tmp/drover-lora-XXXXXX", peft_dir[80], gguf_path[80];

static void write_file(const char *path, const void *p, size_t n)
{
    dr_err e = {0};
    if (os_write(path, p, n, &e)) fail_msg("%s", e.msg);
}

static void write_peft(const char *where, const char *json, int from, int to)
{
    char path[128];
    dr_err e = {0};
    buf b = peft_bytes(from, to);
    assert_int_equal(os_mkdirs(where, &e), DR_OK);
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", where);
    write_file(path, b.p, b.n);
    snprintf(path, sizeof path, "%s/adapter_config.json", where);
    write_file(path, json, strlen(json));
    buf_free(&b);
}

/* scale B A of targets from..to-1 added to the weights of the image, which is GGUF. */
static void merge_here(image im, double scale, int from, int to)
{
    dr_err e = {0};
    tensors *ts = tensors_parse(im.bytes, im.n, &e);
    for (int t = from; t < to; t++) {
        const target *x = &targets[t];
        float *w = (float *)(void *)tensors_find(ts, x->gguf)->data;
        for (int i = 0; i < x->rows; i++)
            for (int j = 0; j < x->cols; j++) {
                double s = 0;
                for (int k = 0; k < R; k++)
                    s += (double)b_at(t, x->qk ? hf_row(i) : i, k) * (double)a_at(t, k, j);
                float *at = x->emb ? w + j * C + i : w + i * x->cols + j;
                *at = (float)((double)*at + scale * s);
            }
    }
    tensors_close(ts);
}

static int keep(void *arg, int first, int rows, const float *x, dr_err *e)
{
    (void)e;
    memcpy((float *)arg + (size_t)first * V, x, (size_t)rows * V * sizeof *x);
    return DR_OK;
}

static float *logits_of(const model *m, int rows)
{
    dr_err e = {0};
    session *s = session_new(m, &(session_opt){ .n_ctx = N, .n_rows = rows, .kv_set = true }, &e);
    if (!s) fail_msg("%s", e.msg);
    float *y = calloc((size_t)N * V, sizeof *y);
    assert_int_equal(session_all_logits(s, tok, N, keep, y, &e), DR_OK);
    session_free(s);
    return y;
}

/* Largest difference over the standard deviation of want. */
static double off(const float *got, const float *want)
{
    double mean = 0, var = 0, worst = 0;
    for (int i = 0; i < N * V; i++) mean += (double)want[i] / (N * V);
    for (int i = 0; i < N * V; i++) {
        double d = fabs((double)got[i] - (double)want[i]);
        var += pow((double)want[i] - mean, 2) / (N * V);
        if (!(d <= worst)) worst = d;
    }
    return worst / sqrt(var);
}

static void add(model *m, const char *path, float scale)
{
    dr_err e = {0};
    if (model_add_lora(m, &(lora_ref){ path, scale }, &e)) fail_msg("%s", e.msg);
}

/* Both forms, all targets, each alone, scaled, and one after the other. */
static void adds_what_merging_adds(void **state)
{
    (void)state;
    image im = make();
    model *plain = open_image(im, 2);
    float *base = logits_of(plain, N);
    model_close(plain);
    for (int t = -1; t < N_TARGETS; t++) {
        int from = t < 0 ? 0 : t, to = t < 0 ? N_TARGETS : t + 1;
        image merged = make();
        merge_here(merged, 2 * 0.5, from, to);  /* alpha / r, and the user's */
        model *w = open_image(merged, 2);
        float *want = logits_of(w, N), *first = NULL;
        write_peft(peft_dir, config, from, to);
        buf g = gguf_bytes(from, to, "adapter");
        write_file(gguf_path, g.p, g.n);
        buf_free(&g);
        assert_true(off(base, want) > 0.01);
        for (int form = 0; form < 2; form++) {
            model *m = open_image(im, 2);
            add(m, form ? gguf_path : peft_dir, 0.5f);
            float *got = logits_of(m, N);
            if (off(got, want) > 1e-5)
                fail_msg("%s, %s: off by %.2e", t < 0 ? "all" : targets[t].hf, form ? "GGUF" : "PEFT",
                         off(got, want));
            if (first) assert_memory_equal(first, got, N * V * sizeof *got);
            if (first) free(got);
            else first = got;
            model_close(m);
        }
        free(first), free(want);
        model_close(w);
        mem_pages_free(merged.bytes, merged.n);
    }
    write_peft(peft_dir, config, 0, 4);          // two at once: their sum
    buf g = gguf_bytes(2, N_TARGETS, "adapter");
    write_file(gguf_path, g.p, g.n);
    buf_free(&g);
    image merged = make();
    merge_here(merged, 2, 0, 4), merge_here(merged, -1, 2, N_TARGETS);
    model *w = open_image(merged, 1), *m = open_image(im, 1);
    add(m, peft_dir, 1), add(m, gguf_path, -0.5f);
    float *want = logits_of(w, N), *got = logits_of(m, N);
    if (off(got, want) > 1e-5) fail_msg("two adapters: off by %.2e", off(got, want));
    free(want), free(got), free(base);
    model_close(w), model_close(m);
    mem_pages_free(merged.bytes, merged.n);
    mem_pages_free(im.bytes, im.n);
}

static void bits_and_memory(void **state)
{
    (void)state;
    static const int rows[] = { N, 1, 7, 32 }, threads[] = { 1, 3, 2, 7 };
    image im = make();
    write_peft(peft_dir, config, 0, N_TARGETS);
    float *want = NULL;
    for (int i = 0; i < 4; i++) {
        model *m = open_image(im, threads[i]);
        size_t before = mem_live_bytes();
        add(m, peft_dir, 1);
        assert_true(mem_live_bytes() - before >= model_lora_bytes(m));
        assert_true(mem_live_bytes() - before < model_lora_bytes(m) + 4096);
        float *y = logits_of(m, rows[i]);
        if (want) assert_memory_equal(want, y, N * V * sizeof *y);
        if (want) free(y);
        else want = y;
        dr_err e = {0};
        session *s = session_new(m, &(session_opt){ .n_ctx = N }, &e);
        assert_int_equal(session_append(s, tok, 9, NULL, &e), DR_OK);
        long count = mem_count();
        for (int k = 9; k < N; k++) assert_int_equal(session_append(s, tok + k, 1, NULL, &e), DR_OK);
        assert_int_equal(mem_count(), count);
        session_free(s);
        model_close(m);
    }
    free(want);
    mem_pages_free(im.bytes, im.n);
}

static void factors(void **state)
{
    (void)state;
    static const struct { const char *more, *module; int r; double want; } cases[] = {
        { "", "model.layers.0.self_attn.q_proj", 8, 2 },
        { ",\"use_rslora\":true", "lm_head", 8, 16 / 2.8284271247461903 },
        { ",\"rank_pattern\":{\"q_proj\":4}", "model.layers.0.self_attn.q_proj", 4, 4 },
        { ",\"rank_pattern\":{\"q_proj\":4}", "model.layers.0.self_attn.k_proj", 8, 2 },
        { ",\"rank_pattern\":{\"_proj\":4}", "model.layers.0.self_attn.k_proj", 8, 2 },     /* a whole name */
        { ",\"alpha_pattern\":{\"layers.1.mlp.up_proj\":1}", "model.layers.1.mlp.up_proj", 8, 0.125 },
        { ",\"alpha_pattern\":{\"layers.1.mlp.up_proj\":1}", "model.layers.11.mlp.up_proj", 8, 2 },
        { ",\"alpha_pattern\":{\"^model\\\\.layers\\\\.[0-3]\\\\..*v_proj\":4,\"v_proj\":1}",
          "model.layers.3.self_attn.v_proj", 8, 0.5 },
        { ",\"alpha_pattern\":{\"a|q_proj\":4}", "model.layers.3.self_attn.q_proj", 8, 0.5 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[512];
        dr_err e = {0};
        double got = 0;
        int n = snprintf(text, sizeof text, "{\"peft_type\":\"LORA\",\"r\":8,\"lora_alpha\":16%s}",
                         cases[i].more);
        json_t *c = json_read(text, (size_t)n, 1 << 20, "config", &e);
        if (!c || lora_peft_check(c, &e) ||
            lora_peft_scale(c, cases[i].module, cases[i].r, &got, &e))
            fail_msg("%zu: %s", i, e.msg);
        if (fabs(got - cases[i].want) > 1e-12) fail_msg("%zu: %g, not %g", i, got, cases[i].want);
        json_decref(c);
    }
}

static hparams dims(void)
{
    return (hparams){ .V = V, .C = C, .L = L, .nh = NH, .nkv = NKV, .hs = HS, .F = F, .n_ctx = 64 };
}

static void refused_as(const char *json, buf b, const char *why)
{
    dr_err e = {0};
    hparams h = dims();
    json_t *c = json ? json_read(json, strlen(json), 1 << 20, "config", &e) : NULL;
    tensors *ts = tensors_parse(b.p, b.n, &e);
    if (!ts || (json && !c)) fail_msg("%s", e.msg);
    lora *l = lora_from_tensors(ts, c, 1, &h, true, &e);
    if (l || !strstr(e.msg, why)) fail_msg("wanted \"%s\", got \"%s\"", why, l ? "an adapter" : e.msg);
    json_decref(c);
    tensors_close(ts);
    buf_free(&b);
}

static void misfits(void **state)
{
    (void)state;
#define CONFIG(more) "{\"peft_type\":\"LORA\",\"r\":5,\"lora_alpha\":10" more "}"
    static const char *const c[][2] = {
        { "{\"peft_type\":\"IA3\",\"r\":5,\"lora_alpha\":10}", "type IA3" },
        { CONFIG(",\"use_dora\":true"), "use_dora" },
        { CONFIG(",\"bias\":\"all\""), "bias is \"all\"" },
        { CONFIG(",\"modules_to_save\":[\"lm_head\"]"), "modules_to_save" },
        { CONFIG(",\"fan_in_fan_out\":true"), "fan_in_fan_out" },
        { CONFIG(",\"layer_replication\":[[0,1]]"), "layer_replication" },
        { CONFIG(",\"init_lora_weights\":\"pissa_niter_4\""), "pissa_niter_4" },
        { CONFIG(",\"rank_pattern\":{\"q_proj\":7}"), "says rank 7, A has 5 rows" },
        { CONFIG(",\"rank_pattern\":{\"q_(\":7}"), "not a pattern" },
        { CONFIG(",\"rank_pattern\":[1]"), "as an object" },
        { "{\"peft_type\":\"LORA\",\"lora_alpha\":10}", "r and lora_alpha" },
    };
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) refused_as(c[i][0], peft_bytes(0, 3), c[i][1]);
    refused_as(NULL, peft_bytes(0, 1), "a PEFT folder or a GGUF file");
    refused_as(NULL, gguf_bytes(0, 1, "model"), "no LoRA adapter: general.type is \"model\"");
    refused_as(NULL, gguf_bytes(0, 0, "adapter"), "no tensors");
    static const struct { const char *name; int64_t rows, cols; const char *why; } t[] = {
        { "model.layers.0.mlp.up_proj.lora_A.weight", R, C, "has no partner" },
        { "model.layers.7.mlp.up_proj.lora_A.weight", R, C, "has no such weight" },
        { "model.layers.0.mlp.up_proj.lora_magnitude_vector", R, C, "has no such weight" },
        { "lm_head.weight", V, C, "has no such weight" },
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        dr_err e = {0};
        buf b = { .cap_max = 1 << 20 };
        st_writer *w = st_write_new(&e);
        char name[128], zero[V * C * 4] = { 0 };
        snprintf(name, sizeof name, "base_model.model.%s", t[i].name);
        st_add_tensor(w, name, DT_F32, 2, (int64_t[]){ t[i].rows, t[i].cols }, &e);
        assert_int_equal(st_write_start_to(w, to_buf, &b, &e), DR_OK);
        st_write_data(w, zero, (size_t)(t[i].rows * t[i].cols * 4), &e);
        assert_int_equal(st_write_end(w, &e), DR_OK);
        st_write_free(w);
        refused_as(config, b, t[i].why);
    }
    dr_err e = {0};
    hparams h = dims();
    h.F = 96;                                    // another base: the sentence names both shapes
    buf b = peft_bytes(4, 5);
    tensors *ts = tensors_parse(b.p, b.n, &e);
    json_t *j = json_read(config, strlen(config), 1 << 20, "config", &e);
    assert_null(lora_from_tensors(ts, j, 1, &h, true, &e));
    assert_non_null(strstr(e.msg, "is 80 x 5, 96 x 5 is wanted"));
    json_decref(j);
    tensors_close(ts);
    buf_free(&b);
    e = (dr_err){0};
    assert_null(lora_open(&(lora_ref){ dir, 1 }, &h, true, &e));
    assert_non_null(strstr(e.msg, "adapter_model.safetensors"));
}

static void references(void **state)
{
    (void)state;
    static const struct { const char *text, *path; float scale; } c[] = {
        { "a/b", "a/b", 1 }, { "a/b:0.5", "a/b", 0.5f }, { "a:b", "a:b", 1 }, { "a:-2", "a", -2 },
        { "c:/x:1e-3", "c:/x", 1e-3f }, { "a:", "a:", 1 },
    };
    char p[64];
    lora_ref r;
    dr_err e = {0};
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        assert_int_equal(lora_ref_parse(&r, c[i].text, p, sizeof p, &e), DR_OK);
        assert_string_equal(r.path, c[i].path);
        assert_true(r.scale == c[i].scale);
    }
    assert_int_equal(lora_ref_parse(&r, "a:inf", p, sizeof p, &e), DR_EINVAL);
    assert_int_equal(lora_ref_parse(&r, ":2", p, sizeof p, &e), DR_EINVAL);
}

/* The bytes of a config, 0, and those of the tensors; as tests/fuzz/fuzz_lora.c has them. */
static int parse(const void *bytes, size_t n, dr_err *e)
{
    const char *zero = memchr(bytes, 0, n);
    if (!zero) return err_set(e, DR_EFORMAT, "no end of the config");
    size_t at = ((size_t)(zero - (const char *)bytes) + 8) & ~(size_t)7;
    if (at > n) return err_set(e, DR_EFORMAT, "no tensors");
    hparams h = dims();
    json_t *c = zero == bytes ? NULL : json_read(bytes, (size_t)(zero - (const char *)bytes), 1 << 20,
                                                 "config", e);
    tensors *ts = zero == bytes || c ? tensors_parse((const char *)bytes + at, n - at, e) : NULL;
    lora *l = ts ? lora_from_tensors(ts, c, 1, &h, true, e) : NULL;
    int rc = l ? DR_OK : e->code;
    lora_close(l);
    tensors_close(ts);
    json_decref(c);
    return rc;
}

static void hostile(void **state)
{
    (void)state;
    hostile_begin();
    for (int form = 0; form < 2; form++) {
        buf t = form ? gguf_bytes(2, 4, "adapter") : peft_bytes(2, 4), b = { .cap_max = 1 << 20 };
        if (!form) buf_puts(&b, config);
        do buf_putc(&b, 0); while (b.n % 8);
        buf_put(&b, t.p, t.n);
        dr_err e = {0};
        size_t head = b.n - t.n + 700;
        if (parse(b.p, b.n, &e)) fail_msg("%s", e.msg);
        for (size_t k = 0; k < b.n; k += k < head ? 1 : 97)
            assert_int_not_equal(hostile_once(parse, b.p, k, &e), DR_OK);
        uint8_t *copy = mem_alloc(b.n);
        memcpy(copy, b.p, b.n);
        for (size_t i = 0; i < head; i++)
            for (int k = 0; k < 8; k += 1 + (int)(i % 3)) {
                copy[i] ^= (uint8_t)(1 << k);
                hostile_once(parse, copy, b.n, &e);
                copy[i] ^= (uint8_t)(1 << k);
            }
        mem_free(copy);
        hostile_nomem(parse, b.p, b.n, true);
        buf_free(&t);
        buf_free(&b);
    }
}

/* drover merge: what is written is what is computed here; and every allocation may fail. */
static void merges(void **state)
{
    (void)state;
    char base[100], out[100];
    snprintf(base, sizeof base, "%s/base.gguf", dir);
    snprintf(out, sizeof out, "%s/out.gguf", dir);
    image im = make(), want = make();
    merge_here(want, 2, 0, N_TARGETS);
    write_file(base, im.bytes, im.n);
    write_peft(peft_dir, config, 0, N_TARGETS);
    lora_ref ref = { peft_dir, 1 };
    const char *more[] = { base, base };
    double weight[] = { 1, 2, 5 };
    dr_err e = {0};
    pool *p = pool_new(1, &e);           /* workers free what started them when they get to it */
    for (int kind = 0; kind < 2; kind++) {
        merge_opt o = { .conv = { .in = base, .out = out, .to = CONTAINER_GGUF, .type = CONVERT_KEEP,
                                  .force = true } };
        if (kind) o.more = more, o.n_more = 2, o.weight = weight;
        else o.lora = &ref, o.n_lora = 1;
        for (long k = 0; ; k += 1 + k / 8) {
            size_t live = mem_live_bytes();
            e = (dr_err){0};
            mem_fail_after(k);
            int rc = merge(&o, p, &e);
            mem_fail_after(-1);
            if (mem_live_bytes() != live)
                fail_msg("allocation %ld: %zu bytes stay", k, mem_live_bytes() - live);
            if (rc == DR_OK) break;
            if (rc != DR_ENOMEM) fail_msg("allocation %ld: %d %s", k, rc, e.msg);
        }
        tensors *got = tensors_open(out, &e), *ref_ts = tensors_parse(kind ? im.bytes : want.bytes, im.n, &e);
        if (!got) fail_msg("%s", e.msg);
        assert_true(tensors_count(got) == tensors_count(ref_ts));
        for (int64_t i = 0; i < tensors_count(got); i++) {
            const tensor *a = tensors_at(got, i);
            char name[128];
            snprintf(name, sizeof name, SPAN_FMT, SPAN_ARG(a->name));
            const tensor *b = tensors_find(ref_ts, name);
            assert_true(b && b->bytes == a->bytes);
            for (size_t k = 0; k < a->bytes / 4; k++) {     // an ulp: B was rounded with its factor
                float x, y;
                memcpy(&x, a->data + 4 * k, 4), memcpy(&y, b->data + 4 * k, 4);
                if (fabsf(x - y) > 2e-7f * (fabsf(y) + 1)) fail_msg("%s[%zu]: %g, not %g", name, k, (double)x, (double)y);
            }
        }
        tensors_close(got);
        tensors_close(ref_ts);
    }
    pool_free(p);
    unlink(base), unlink(out);
    mem_pages_free(im.bytes, im.n);
    mem_pages_free(want.bytes, want.n);
}

static int set_up(void **state)
{
    (void)state;
    for (int i = 0; i < N; i++) tok[i] = (i * 37 + i * i * 11 + 5) % V;
    if (!mkdtemp(dir)) return -1;
    snprintf(peft_dir, sizeof peft_dir, "%s/peft", dir);
    snprintf(gguf_path, sizeof gguf_path, "%s/adapter.gguf", dir);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", peft_dir), unlink(path);
    snprintf(path, sizeof path, "%s/adapter_config.json", peft_dir), unlink(path);
    rmdir(peft_dir), unlink(gguf_path);
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adds_what_merging_adds), cmocka_unit_test(bits_and_memory),
        cmocka_unit_test(factors), cmocka_unit_test(misfits), cmocka_unit_test(references),
        cmocka_unit_test(merges), cmocka_unit_test(hostile),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
