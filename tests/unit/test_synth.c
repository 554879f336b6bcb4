/* test_synth.c - random models: the same values in every container, llama.cpp's mixes, rope
 * divisors, tokenizers carried along. */
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
#include "base/os.h"
#include "format/dequant.h"
#include "format/gguf_write.h"
#include "format/pth.h"
#include "pack/synth.h"
#include "folder.h"

static synth_opt opt_of(const char *shape, const char *type, uint64_t seed)
{
    synth_opt o = { .seed = seed };
    dr_err e = {0};
    if (synth_shape_read(&o.shape, shape, &e) != DR_OK ||
        synth_types_read(&o.types, type, &e) != DR_OK) fail_msg("%s", e.msg);
    return o;
}

static tensors *made(const synth_opt *o, const char *name, pool *p)
{
    dr_err e = {0};
    tensors *ts = NULL;
    if (synth_write(o, at(name), p, &e) != DR_OK || !(ts = tensors_open(at(name), &e)))
        fail_msg("%s", e.msg);
    return ts;
}

static float *floats(const tensors *ts, const char *name, int64_t *rows, int64_t *cols)
{
    const tensor *t = tensors_find(ts, name);
    if (!t) fail_msg("no tensor %s", name);
    *rows = t->n_dims > 1 ? t->dim[0] : 1, *cols = t->dim[t->n_dims - 1];
    size_t row = type_row_bytes(t->type, *cols);
    float *y = malloc((size_t)(*rows * *cols) * sizeof *y);
    for (int64_t r = 0; r < *rows; r++)
        dequant_row(t->type, t->data + (size_t)r * row, y + r * *cols, *cols);
    return y;
}

/* GGUF's row of q and k for Hugging Face's row r: pairs half a head apart become neighbours. */
static int64_t gguf_row(int64_t r, int64_t hs)
{
    int64_t j = r % hs;
    return r - j + j % (hs / 2) * 2 + j / (hs / 2);
}

static void same_values(void **state)
{
    (void)state;
    static const struct { const char *gguf, *hf; bool rotated; } pair[] = {
        { "token_embd.weight", "model.embed_tokens.weight", false },
        { "output_norm.weight", "model.norm.weight", false },
        { "blk.1.attn_q.weight", "model.layers.1.self_attn.q_proj.weight", true },
        { "blk.1.attn_k.weight", "model.layers.1.self_attn.k_proj.weight", true },
        { "blk.1.attn_q.bias", "model.layers.1.self_attn.q_proj.bias", true },
        { "blk.1.attn_k.bias", "model.layers.1.self_attn.k_proj.bias", true },
        { "blk.1.attn_v.weight", "model.layers.1.self_attn.v_proj.weight", false },
        { "blk.1.attn_v.bias", "model.layers.1.self_attn.v_proj.bias", false },
        { "blk.0.attn_output.weight", "model.layers.0.self_attn.o_proj.weight", false },
        { "blk.0.ffn_gate.weight", "model.layers.0.mlp.gate_proj.weight", false },
        { "blk.0.ffn_up.weight", "model.layers.0.mlp.up_proj.weight", false },
        { "blk.0.ffn_down.weight", "model.layers.0.mlp.down_proj.weight", false },
        { "blk.0.attn_norm.weight", "model.layers.0.input_layernorm.weight", false },
        { "blk.0.ffn_norm.weight", "model.layers.0.post_attention_layernorm.weight", false },
        { "output.weight", "lm_head.weight", false },
    };
    synth_opt f = opt_of("tiny,bias=1,vocab=96", "F32", 7);
    synth_opt q = opt_of("tiny,bias=1,vocab=96", "Q8_0", 7);
    synth_opt sharded = f;
    sharded.shard_bytes = 1 << 20;
    tensors *g = made(&f, "f.gguf", one), *s = made(&f, "one", three);
    tensors *q8 = made(&q, "q.gguf", three), *sh = made(&sharded, "many", one);
    assert_true(os_exists(at("many/model.safetensors.index.json")));
    assert_int_equal(tensors_count(s), tensors_count(sh));
    assert_int_equal(tensors_count(s), tensors_count(g));
    double sum = 0, sum2 = 0;
    int64_t n = 0;
    for (size_t i = 0; i < sizeof pair / sizeof *pair; i++) {
        int64_t rows, cols;
        float *a = floats(g, pair[i].gguf, &rows, &cols), *b = floats(s, pair[i].hf, &rows, &cols);
        float *c = floats(q8, pair[i].gguf, &rows, &cols);
        float *d = floats(sh, pair[i].hf, &rows, &cols);
        bool vector = rows == 1;
        for (int64_t k = 0; k < rows * cols; k++) {
            int64_t r = vector ? k : k / cols, to = pair[i].rotated ? gguf_row(r, 64) : r;
            int64_t there = vector ? to : to * cols + k % cols;
            if (a[there] != b[k] || b[k] != d[k] || fabsf(c[there] - b[k]) > 4e-4f)
                fail_msg("%s: value %d", pair[i].hf, (int)k);
            if (!strstr(pair[i].hf, "norm")) sum += b[k], sum2 += b[k] * b[k], n++;
            else if (fabsf(b[k] - 1) > 0.3f) fail_msg("norm %g", (double)b[k]);
        }
        free(a), free(b), free(c), free(d);
    }
    assert_true(fabs(sum / (double)n) < 1e-4);
    assert_true(fabs(sqrt(sum2 / (double)n) / 0.02 - 1) < 0.01);
    tensors_close(g), tensors_close(s), tensors_close(q8), tensors_close(sh);
    unlink(at("f.gguf")), unlink(at("q.gguf")), wipe(at("one")), wipe(at("many"));
}

static void same_bytes(void **state)
{
    (void)state;
    dr_err e = {0};
    synth_opt o = opt_of("tiny", "Q4_K_M", 1);
    void *mem[3];
    size_t n[3];
    os_file f;
    assert_int_equal(synth_memory(&o, &mem[0], &n[0], one, &e), DR_OK);
    assert_int_equal(synth_memory(&o, &mem[1], &n[1], three, &e), DR_OK);
    o.seed = 2;
    assert_int_equal(synth_memory(&o, &mem[2], &n[2], three, &e), DR_OK);
    o.seed = 1;
    assert_int_equal(synth_write(&o, at("m.gguf"), three, &e), DR_OK);
    assert_int_equal(os_map(&f, at("m.gguf"), &e), DR_OK);
    assert_int_equal(n[0], f.n);
    assert_memory_equal(mem[0], f.p, f.n);
    assert_memory_equal(mem[0], mem[1], f.n);
    assert_int_equal(n[0], n[2]);
    assert_true(memcmp(mem[0], mem[2], n[0]));
    for (int i = 0; i < 3; i++) mem_pages_free(mem[i], n[i]);
    os_unmap(&f);
    unlink(at("m.gguf"));
}

/* What llama-quantize (llama.cpp of 2026-08) made of tiny,layers=24: the digit of each layer's
 * attn_v, ffn_down and attn_output, then the embeddings' and the head's. */
static void mixes(void **state)
{
    (void)state;
    static const char *const want[][5] = {
        { "Q3_K_S", "333333333333333333333333", "333333333333333333333333",
          "333333333333333333333333", "36" },
        { "Q3_K_M", "554444444444444444444444", "544444444444444444444444",
          "444444444444444444444444", "36" },
        { "Q3_K_L", "555555555555555555555555", "555555555555555555555555",
          "555555555555555555555555", "36" },
        { "Q4_K_S", "555544444444444444444444", "555444444444444444444444",
          "444444444444444444444444", "46" },
        { "Q4_K_M", "666446446446446446446666", "666446446446446446446666",
          "444444444444444444444444", "46" },
        { "Q5_K_S", "555555555555555555555555", "555555555555555555555555",
          "555555555555555555555555", "56" },
        { "Q5_K_M", "666556556556556556556666", "666556556556556556556666",
          "555555555555555555555555", "56" },
    };
    dr_err e = {0};
    for (size_t m = 0; m < sizeof want / sizeof *want; m++) {
        synth_opt o = opt_of("tiny,layers=24", want[m][0], 1);
        synth_tensor *t;
        int64_t n;
        char got[4][32] = { "", "", "", "" };
        assert_int_equal(synth_plan(&o.shape, o.types, CONTAINER_GGUF, &t, &n, &e), DR_OK);
        for (int64_t i = 0; i < n; i++) {
            char digit = type_get(t[i].type)->name[1];
            int k = strstr(t[i].name, "attn_v.w") ? 0 : strstr(t[i].name, "ffn_down.w") ? 1 :
                    strstr(t[i].name, "attn_output.w") ? 2 : -1;
            if (k >= 0) got[k][t[i].layer] = digit;
            else if (!strcmp(t[i].name, "token_embd.weight")) got[3][0] = digit;
            else if (!strcmp(t[i].name, "output.weight")) got[3][1] = digit;
        }
        for (int k = 0; k < 4; k++) assert_string_equal(got[k], want[m][k + 1]);
        mem_free(t);
    }
}

/* Rows that are no multiple of 256 fall back, of 32 too. */
static void fallbacks(void **state)
{
    (void)state;
    static const char *const want[][3] = {
        { "Q2_K", "Q4_0", "F16" }, { "Q3_K", "Q4_0", "F16" }, { "Q4_K", "Q5_0", "F16" },
        { "Q5_K", "Q5_1", "F16" }, { "Q6_K", "Q8_0", "F16" }, { "Q4_0", "Q4_0", "F16" },
        { "BF16", "BF16", "BF16" },
    };
    dr_err e = {0};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        for (int k = 1; k <= 2; k++) {
            synth_opt o = opt_of(k == 1 ? "tiny,dim=192,heads=3,kv_heads=1"
                                        : "tiny,dim=80,heads=1,kv_heads=1,head_dim=80",
                                 want[i][0], 1);
            synth_tensor *t;
            int64_t n;
            assert_int_equal(synth_plan(&o.shape, o.types, CONTAINER_GGUF, &t, &n, &e), DR_OK);
            assert_string_equal(type_get(t[0].type)->name, want[i][k]);
            mem_free(t);
        }
}

static void rope(void **state)
{
    (void)state;
    /* Llama 3.1's divisors of a head of 128: facts of the model, indices 28 to 35 */
    static const float want[] = { 1, 1.207484f, 1.553415f, 2.026313f, 2.694530f, 3.684253f,
                                  5.257327f, 8 };
    synth_opt o = opt_of("llama-3.1-8b,layers=1,dim=128,heads=1,kv_heads=1,ffn=64,vocab=8", "F16",
                         1);
    void *mem;
    size_t n;
    dr_err e = {0};
    assert_int_equal(synth_memory(&o, &mem, &n, one, &e), DR_OK);
    tensors *ts = tensors_parse(mem, n, &e);
    const float *f = (const float *)(const void *)tensors_find(ts, "rope_freqs.weight")->data;
    for (int i = 0; i < 8; i++) assert_true(fabsf(f[28 + i] / want[i] - 1) < 1e-6f);
    assert_true(f[0] == 1 && f[63] == 8);
    tensors_close(ts);
    mem_pages_free(mem, n);
}

static void refusals(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        { "llama-9", "is no shape" }, { "dim=64", "layers is missing" },
        { "tiny,heads=3", "cannot share" }, { "tiny,colour=1", "no key is called colour" },
        { "tiny,dim=x", "a whole number" }, { "tiny,dim=1.5", "a whole number" },
        { "tiny,tied=2", "0 or 1" }, { "tiny,head_dim=7", "odd" },
        { "tiny,layers=99999", "layers" },
        { "tiny,rope_factor=8,rope_linear=2", "exclude" }, { "dim=64,tiny", "is no shape" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        synth_shape s;
        dr_err e = {0};
        assert_int_equal(synth_shape_read(&s, bad[i][0], &e), DR_EINVAL);
        if (!strstr(e.msg, bad[i][1])) fail_msg("%s: %s", bad[i][0], e.msg);
    }
    for (int i = 0; synth_shape_name(i); i++) opt_of(synth_shape_name(i), "BF16", 1);
    synth_types t;
    dr_err e = {0};
    assert_int_equal(synth_types_read(&t, "Q9", &e), DR_EINVAL);
    static const char *const out[][3] = {
        { "x.pth/", "Q4_0", "write a .gguf" }, { "x.safetensors", "F16", "name a folder" },
        { "x.pth/", "FP8_DYNAMIC", "is not Meta's" }, { "x.gguf", "FP8", "GGUF holds no FP8" },
        { "folder", "Q8_0", "write a .gguf" }, { "no/such/folder/x.gguf", "F16", "cannot create" },
    };
    static const struct { const char *shape; int shards; const char *why; } cut[] = {
        { "tiny,bias=1", 1, "no biases" }, { "tiny,rope_linear=2", 1, "no word for this rope" },
        { "tiny", 3, "heads=4 cannot be cut into 3 shards" },
        { "tiny,heads=12,kv_heads=3", 4, "kv_heads=3 cannot be shared by 4 shards" },
        { "tiny,vocab=511", 2, "vocab=511 cannot be cut" }, { "tiny", 1000, "999 are possible" },
    };
    for (size_t i = 0; i < sizeof cut / sizeof *cut; i++) {
        synth_opt o = opt_of(cut[i].shape, "F16", 1);
        o.shards = cut[i].shards;
        e = (dr_err){0};
        assert_int_not_equal(synth_write(&o, at("x.pth/"), one, &e), DR_OK);
        if (!strstr(e.msg, cut[i].why)) fail_msg("%s: %s", cut[i].shape, e.msg);
        rmdir(at("x.pth"));
    }
    for (size_t i = 0; i < sizeof out / sizeof *out; i++) {
        synth_opt o = opt_of("tiny", out[i][1], 1);
        e = (dr_err){0};
        assert_int_not_equal(synth_write(&o, at(out[i][0]), one, &e), DR_OK);
        if (!strstr(e.msg, out[i][2])) fail_msg("%s: %s", out[i][0], e.msg);
    }
}

/* Copies of a key/value head that differ far behind their beginnings: seen when they are read. */
static void copies_differ(void **state)
{
    (void)state;
    dr_err e = {0};
    char path[600];
    os_file f;
    pth p;
    synth_opt o = opt_of("dim=128,layers=2,heads=8,kv_heads=4,head_dim=16,vocab=64,ffn=64", "F32", 1);
    o.shards = 8;
    assert_int_equal(synth_write(&o, at("c.pth/"), one, &e), DR_OK);
    snprintf(path, sizeof path, "%s/consolidated.05.pth", at("c.pth"));
    assert_int_equal(os_map(&f, path, &e), DR_OK);
    assert_int_equal(pth_parse(&p, f.p, f.n, &e), DR_OK);
    const pth_tensor *t = pth_find(&p, span_of("layers.1.attention.wv.weight"));
    assert_true(t && t->bytes == 8192);
    char *copy = malloc(f.n);
    size_t n = f.n;
    memcpy(copy, f.p, n);
    copy[t->data - f.p + 8191] ^= 1;
    pth_free(&p);
    os_unmap(&f);
    assert_int_equal(os_write(path, copy, n, &e), DR_OK);
    free(copy);
    tensors *ts = tensors_open(at("c.pth"), &e);
    if (!ts) fail_msg("%s", e.msg);
    const tensor *v = tensors_find(ts, "layers.1.attention.wv.weight");
    float row[2 * 128];
    assert_int_equal(tensor_rows(ts, v, 0, 2, row, &e), DR_OK);
    assert_int_equal(tensor_rows(ts, v, 47, 1, row, &e), DR_EFORMAT);
    assert_non_null(strstr(e.msg, "consolidated.04.pth and consolidated.05.pth should hold the same"));
    e = (dr_err){0};
    assert_int_equal(tensors_gather(ts, &e), DR_EFORMAT);
    tensors_close(ts);
    for (int k = 0; k < 8; k++) {
        snprintf(path, sizeof path, "%s/consolidated.%02d.pth", at("c.pth"), k);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/params.json", at("c.pth"));
    unlink(path);
    rmdir(at("c.pth"));
}

static void no_memory(void **state)
{
    (void)state;
    synth_opt o = opt_of("tiny,layers=1", "Q8_0", 1);
    for (long k = 0; ; k++) {
        dr_err e = {0};
        void *mem = NULL;
        size_t n = 0, live = mem_live_bytes();
        mem_fail_after(k);
        int rc = synth_memory(&o, &mem, &n, one, &e);
        mem_fail_after(-1);
        if (rc == DR_OK) {
            mem_pages_free(mem, n);
            break;
        }
        assert_int_equal(rc, DR_ENOMEM);
        assert_int_equal(mem_live_bytes(), live);
    }
}

/* ---- tokenizers ---- */

static tensors *with_tokenizer(const char *text, size_t n, const char *shape, const char *why)
{
    dr_err e = {0};
    unlink(at("t.gguf"));
    assert_int_equal(os_write(at("tok"), text, n, &e), DR_OK);
    synth_opt o = opt_of(shape, "Q8_0", 1);
    o.tokenizer = at("tok");
    int rc = synth_write(&o, at("t.gguf"), one, &e);
    if (why) {
        if (rc == DR_OK || !strstr(e.msg, why)) fail_msg("wanted %s, got %s", why, e.msg);
        assert_false(os_exists(at("t.gguf")));
        return NULL;
    }
    if (rc != DR_OK) fail_msg("%s", e.msg);
    return tensors_open(at("t.gguf"), &e);
}

static void is_strs(const gguf *g, const char *key, uint64_t n, const char *const *want, int n_want)
{
    const gguf_kv *k = gguf_find(g, key);
    assert_non_null(k);
    assert_int_equal(k->n, n);
    const uint8_t *p = k->at;
    for (int i = 0; i < n_want; i++) {
        span s = gguf_array_str(&p);
        if (!span_is(s, want[i])) fail_msg("%s %d: " SPAN_FMT, key, i, SPAN_ARG(s));
    }
}

static void tokenizers(void **state)
{
    (void)state;
    /* tiktoken: a b c ab " " abc bc, so abc is ab+c or a+bc */
    static const char tik[] = "YQ== 0\nYg== 1\nYw== 2\nYWI= 3\nIA== 4\nYmM= 5\nYWJj 6\n";
    static const char *const tokens[] = { "a", "b", "c", "ab", "\xC4\xA0", "bc", "abc",
                                          "<|begin_of_text|>" };
    static const char *const merges[] = { "a b", "b c", "a bc", "ab c" };
    tensors *ts = with_tokenizer(tik, sizeof tik - 1, "tiny,vocab=264", NULL);
    const gguf *g = tensors_gguf(ts);
    uint64_t id;
    is_strs(g, "tokenizer.ggml.tokens", 264, tokens, 8);
    is_strs(g, "tokenizer.ggml.merges", 4, merges, 4);
    assert_true(gguf_get_u64(g, "tokenizer.ggml.bos_token_id", &id) && id == 7);
    tensors_close(ts);
    with_tokenizer(tik, sizeof tik - 1, "tiny,vocab=100", "vocabulary is 100");
    with_tokenizer(tik, 5, "tiny,vocab=264", "broken");
    static const char gap[] = "YQ== 0\nYg== 2\n";
    with_tokenizer(gap, sizeof gap - 1, "tiny,vocab=264", "line 2");
    /* SentencePiece: <unk> <s> </s> "x" with scores */
    static const char spm[] = "\x0a\x09\x0a\x05<unk>\x18\x02\x0a\x07\x0a\x03<s>\x18\x03"
                              "\x0a\x08\x0a\x04</s>\x18\x03\x0a\x08\x0a\x01x\x15\x00\x00\x80\xBF";
    static const char *const pieces[] = { "<unk>", "<s>", "</s>", "x", "[PAD4]" };
    ts = with_tokenizer(spm, sizeof spm - 1, "tiny,vocab=8", NULL);
    g = tensors_gguf(ts);
    is_strs(g, "tokenizer.ggml.tokens", 8, pieces, 5);
    float score;
    memcpy(&score, gguf_find(g, "tokenizer.ggml.scores")->at + 12, 4);
    assert_true(score == -1);
    assert_true(gguf_get_u64(g, "tokenizer.ggml.eos_token_id", &id) && id == 2);
    tensors_close(ts);
    with_tokenizer(spm, sizeof spm - 2, "tiny,vocab=8", "broken SentencePiece");
    with_tokenizer(spm, sizeof spm - 1, "tiny,vocab=2", "vocabulary is 2");
    static const char json[] =
        "{\"added_tokens\":[{\"id\":3,\"content\":\"<|im_end|>\",\"special\":true}],"
        "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\","
        "\"individual_digits\":true},{\"type\":\"ByteLevel\"}]},\"model\":{\"type\":\"BPE\","
        "\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[[\"a\",\"b\"]]}}";
    static const char *const words[] = { "a", "b", "ab", "<|im_end|>", "[PAD4]" };
    ts = with_tokenizer(json, sizeof json - 1, "tiny,vocab=5", NULL);
    g = tensors_gguf(ts);
    is_strs(g, "tokenizer.ggml.tokens", 5, words, 5);
    is_strs(g, "tokenizer.ggml.merges", 1, merges, 1);
    span pre;
    assert_true(gguf_get_str(g, "tokenizer.ggml.pre", &pre) && span_is(pre, "smollm"));
    assert_true(gguf_get_u64(g, "tokenizer.ggml.eos_token_id", &id) && id == 3);
    tensors_close(ts);
    /* out of a GGUF, into one with more rows */
    rename(at("t.gguf"), at("from.gguf"));
    synth_opt o = opt_of("tiny,vocab=7", "F16", 1);
    o.tokenizer = at("from.gguf");
    ts = made(&o, "t.gguf", one);
    is_strs(tensors_gguf(ts), "tokenizer.ggml.tokens", 7, words, 5);
    is_strs(tensors_gguf(ts), "tokenizer.ggml.merges", 1, merges, 1);
    assert_int_equal(gguf_find(tensors_gguf(ts), "tokenizer.ggml.token_type")->n, 7);
    tensors_close(ts);
    unlink(at("t.gguf")), unlink(at("from.gguf")), unlink(at("tok"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_values), cmocka_unit_test(same_bytes), cmocka_unit_test(mixes),
        cmocka_unit_test(fallbacks), cmocka_unit_test(rope), cmocka_unit_test(refusals),
        cmocka_unit_test(copies_differ),
        cmocka_unit_test(no_memory), cmocka_unit_test(tokenizers),
    };
    return cmocka_run_group_tests(tests, folder_up, folder_down);
}
