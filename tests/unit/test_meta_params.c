/* test_meta_params.c - Meta's params.json: the official models' numbers, what is refused, and
 * every shape back from what a conversion writes of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/block.h"
#include "base/mem.h"
#include "format/pth_write.h"
#include "model/meta_params.h"
#include "pack/params.h"

static int into(void *arg, const void *p, size_t n, dr_err *e)
{
    (void)e;
    buf_put(arg, p, n);
    return DR_OK;
}

/* A model of V embeddings that take no bytes. */
static tensors *embeddings(buf *b, int64_t V, bool head)
{
    dr_err e = {0};
    buf_init(b, 1 << 20);
    pth_writer *w = pth_write_new("x", &e);
    pth_add_tensor(w, "tok_embeddings.weight", DT_F32, 2, (int64_t[]){ V, 0 }, &e);
    if (head) pth_add_tensor(w, "output.weight", DT_F32, 2, (int64_t[]){ V, 0 }, &e);
    pth_write_start_to(w, into, b, &e);
    if (pth_write_end(w, &e) != DR_OK) fail_msg("%s", e.msg);
    pth_write_free(w);
    tensors *ts = tensors_parse(b->p, b->n, &e);
    if (!ts) fail_msg("%s", e.msg);
    return ts;
}

static hparams read_text(const char *text, int64_t V, int code, const char *why)
{
    buf b, warn = { .cap_max = 4096 };
    hparams h = {0};
    dr_err e = {0};
    json_t *j = json_loads(text, 0, NULL);
    assert_non_null(j);
    tensors *ts = embeddings(&b, V, true);
    int rc = meta_params_read(&h, ts, j, &warn, &e);
    if (rc != code || (why && !strstr(e.msg, why)))
        fail_msg("%s: %d \"%s\", not %d \"%s\"", text, rc, e.msg, code, why ? why : "");
    json_decref(j);
    tensors_close(ts);
    buf_free(&b);
    buf_free(&warn);
    return h;
}

/* int() twice, in this order: python3 -c 'print(int(1.3 * int(2 * 4 * 100 / 3)))' */
static void test_ffn(void **state)
{
    (void)state;
    assert_int_equal(meta_ffn(100, 1.3, 1), 345);
    assert_int_equal(meta_ffn(100, 0, 1), 266);
    assert_int_equal(meta_ffn(100, 1.3, 256), 512);
    assert_int_equal(meta_ffn(4096, 1.3, 1024), 14336);
}

/* The files that Meta ships. */
static void test_official(void **state)
{
    static const struct {
        const char *text;
        int V, hs, F, n_ctx;
        double theta, factor;
    } t[] = {
        { "{\"dim\": 4096, \"n_layers\": 32, \"n_heads\": 32, \"n_kv_heads\": 8, \"vocab_size\": 128256, "
          "\"ffn_dim_multiplier\": 1.3, \"multiple_of\": 1024, \"norm_eps\": 1e-05, \"rope_theta\": 500000.0, "
          "\"use_scaled_rope\": true}", 128256, 128, 14336, 131072, 500000, 8 },
        { "{\"dim\": 8192, \"ffn_dim_multiplier\": 1.3, \"multiple_of\": 4096, \"n_heads\": 64, "
          "\"n_kv_heads\": 8, \"n_layers\": 80, \"norm_eps\": 1e-05, \"vocab_size\": -1, \"rope_theta\": 500000.0, "
          "\"use_scaled_rope\": true}", 128256, 128, 28672, 131072, 500000, 8 },
        { "{\"dim\": 16384, \"ffn_dim_multiplier\": 1.2, \"multiple_of\": 4096, \"n_heads\": 128, "
          "\"n_kv_heads\": 8, \"n_layers\": 126, \"norm_eps\": 1e-05, \"vocab_size\": 128256, "
          "\"rope_theta\": 500000.0, \"use_scaled_rope\": true}", 128256, 128, 53248, 131072, 500000, 8 },
        { "{\"dim\": 2048, \"n_layers\": 16, \"n_heads\": 32, \"n_kv_heads\": 8, \"vocab_size\": 128256, "
          "\"ffn_dim_multiplier\": 1.5, \"multiple_of\": 256, \"norm_eps\": 1e-05, \"rope_theta\": 500000.0, "
          "\"use_scaled_rope\": true}", 128256, 64, 8192, 131072, 500000, 32 },
        { "{\"dim\": 3072, \"n_layers\": 28, \"n_heads\": 24, \"n_kv_heads\": 8, \"vocab_size\": 128256, "
          "\"ffn_dim_multiplier\": 1.0, \"multiple_of\": 256, \"norm_eps\": 1e-05, \"rope_theta\": 500000.0, "
          "\"use_scaled_rope\": true}", 128256, 128, 8192, 131072, 500000, 32 },
        { "{\"dim\": 4096, \"n_layers\": 32, \"n_heads\": 32, \"n_kv_heads\": 8, \"vocab_size\": 128256, "
          "\"multiple_of\": 1024, \"ffn_dim_multiplier\": 1.3, \"norm_eps\": 1e-05, \"rope_theta\": 500000.0}",
          128256, 128, 14336, 8192, 500000, 0 },
        { "{\"dim\": 4096, \"multiple_of\": 256, \"n_heads\": 32, \"n_layers\": 32, \"norm_eps\": 1e-05, "
          "\"vocab_size\": -1}", 32000, 128, 11008, 4096, 10000, 0 },
        { "{\"dim\": 5120, \"multiple_of\": 256, \"n_heads\": 40, \"n_layers\": 40, \"norm_eps\": 1e-06, "
          "\"vocab_size\": -1}", 32000, 128, 13824, 2048, 10000, 0 },
        { "{\"dim\": 4096, \"n_layers\": 32, \"head_dim\": 128, \"hidden_dim\": 14336, \"n_heads\": 32, "
          "\"n_kv_heads\": 8, \"norm_eps\": 1e-05, \"sliding_window\": 4096, \"vocab_size\": 32000}",
          32000, 128, 14336, 4096, 10000, 0 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        hparams h = read_text(t[i].text, t[i].V, DR_OK, NULL);
        assert_int_equal(h.V, t[i].V);
        assert_int_equal(h.hs, t[i].hs);
        assert_int_equal(h.F, t[i].F);
        assert_int_equal(h.n_ctx, t[i].n_ctx);
        assert_true(h.rope.theta == t[i].theta && h.rope.factor == t[i].factor);
        assert_int_equal(h.rope.kind, t[i].factor != 0 ? ROPE_LLAMA3 : ROPE_PLAIN);
        assert_true(h.adjacent && !h.tied);
        assert_int_equal(h.window, i == 8 ? 4096 : 0);
    }
}

static void test_refused(void **state)
{
    (void)state;
    assert_int_equal(read_text("{\"dim\": 8, \"n_layers\": 1, \"n_heads\": 1, "
                               "\"ffn_dim_multiplier\": 1e300}", 8, DR_OK, NULL).F, INT32_MAX);
    read_text("{}", 8, DR_EFORMAT, "dim is missing");
    read_text("{\"dim\": \"x\"}", 8, DR_EFORMAT, "dim is not a whole number");
    read_text("{\"dim\": 8, \"n_layers\": 1, \"n_heads\": 0}", 8, DR_EFORMAT, "n_heads 0");
    read_text("{\"dim\": 8, \"n_layers\": 1, \"n_heads\": 1, \"multiple_of\": 0}", 8, DR_EFORMAT,
              "multiple_of 0");
    read_text("{\"dim\": 8, \"n_layers\": 1, \"n_heads\": 1, \"vocab_size\": 9}", 8, DR_EFORMAT,
              "says that the vocabulary is 9, but the embeddings are 8");
    read_text("{\"dim\": 8, \"n_layers\": 1, \"n_heads\": 1, \"moe\": {\"num_experts\": 8}}", 8,
              DR_EUNSUPPORTED, "mixture of experts");
    read_text("{\"dim\": 8, \"n_layers\": 1, \"n_heads\": 1, \"quantization_args\": {\"scheme\": "
              "\"int4_weight_int8_dynamic_activation\"}}", 8, DR_EUNSUPPORTED,
              "int4_weight_int8_dynamic_activation");
}

static void test_back(void **state)
{
    static const struct { int C, nh, nkv, hs, F, n_ctx, window; float eps; double theta, factor; } t[] = {
        { 4096, 32, 8, 128, 14336, 131072, 0, 1e-5f, 500000, 8 },
        { 8192, 64, 8, 128, 28672, 131072, 0, 1e-5f, 500000, 8 },
        { 16384, 128, 8, 128, 53248, 131072, 0, 1e-5f, 500000, 8 },
        { 2048, 32, 8, 64, 8192, 131072, 0, 1e-5f, 500000, 32 },
        { 4096, 32, 32, 128, 11008, 4096, 0, 1e-5f, 10000, 0 },
        { 576, 9, 3, 64, 1536, 8192, 0, 1e-5f, 100000, 0 },
        { 256, 4, 2, 64, 512, 2048, 0, 1e-6f, 10000, 0 },
        { 256, 4, 2, 32, 1001, 4096, 512, 1e-5f, 1e6, 8 },
        { 8, 1, 1, 8, 1, 64, 0, 1e-5f, 10000, 0 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        hparams h = { .V = 100, .L = 3, .C = t[i].C, .nh = t[i].nh, .nkv = t[i].nkv, .hs = t[i].hs,
                      .F = t[i].F, .n_ctx = t[i].n_ctx, .window = t[i].window, .eps = t[i].eps,
                      .rope = { .theta = t[i].theta } };
        if (t[i].factor != 0)
            h.rope = (rope_spec){ .kind = ROPE_LLAMA3, .theta = t[i].theta, .factor = t[i].factor,
                                  .low = 1, .high = 4, .orig_ctx = 8192 };
        dr_err e = {0};
        buf b = { .cap_max = 4096 };
        if (params_json(&h, &b, &e) != DR_OK) fail_msg("%s", e.msg);
        const char *text = buf_str(&b);
        hparams g = read_text(text, 100, DR_OK, NULL);
        if (g.V != h.V || g.L != h.L || g.C != h.C || g.nh != h.nh || g.nkv != h.nkv || g.hs != h.hs ||
            g.F != h.F || g.n_ctx != h.n_ctx || g.window != h.window || g.eps != h.eps ||
            g.rope.kind != h.rope.kind || g.rope.theta != h.rope.theta ||
            g.rope.factor != h.rope.factor)
            fail_msg("%s gives F %d, ctx %d, head %d", text, g.F, g.n_ctx, g.hs);
        buf_free(&b);
    }
}

int main(void)
{
    const struct CMUnitTest t[] = {
        cmocka_unit_test(test_ffn), cmocka_unit_test(test_official),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_back),
    };
    return cmocka_run_group_tests(t, NULL, NULL);
}
