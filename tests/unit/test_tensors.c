/* test_tensors.c - the one view over every container: folders, splits, shards, and what is said
 * about everything that is no model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/block.h"
#include "base/buf.h"
#include "base/os.h"
#include "format/gguf_write.h"
#include "format/pth_write.h"
#include "format/safetensors_write.h"
#include "format/tensors.h"
#include "hostile.h"

static char dir[] = "/dev/shm/drover-test-XXXXXX";   /* flushing costs nothing there */
static unsigned sink;

static const char *at(const char *name)
{
    static char path[2][512];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/%s", dir, name);
    return path[turn];
}

static void clean(void)
{
    DIR *d = opendir(dir);
    for (struct dirent *f; d && (f = readdir(d));)
        if (f->d_name[0] != '.') unlink(at(f->d_name));
    if (d) closedir(d);
}

static void put(const char *name, const void *p, size_t n)
{
    dr_err e = {0};
    if (os_write(at(name), p, n, &e) != DR_OK) fail_msg("%s", e.msg);
}
static void puts_file(const char *name, const char *text) { put(name, text, strlen(text)); }

/* A safetensors file with F32 vectors of these names, value i in the ith. */
static void put_st(const char *file, const char *a, const char *b)
{
    dr_err e = {0};
    st_writer *w = st_write_new(&e);
    int64_t dim[] = { 2, 3 };
    float x[6] = { 1, 2, 3, 4, 5, 6 };
    st_add_tensor(w, a, DT_F32, 2, dim, &e);
    if (b) st_add_tensor(w, b, DT_F32, 2, dim, &e);
    st_write_start(w, at(file), &e);
    st_write_data(w, x, sizeof x, &e);
    if (b) st_write_data(w, x, sizeof x, &e);
    if (st_write_end(w, &e) != DR_OK) fail_msg("%s", e.msg);
    st_write_free(w);
}

static void put_gguf(const char *file, const char *name, int no, int count, int total)
{
    dr_err e = {0};
    gguf_writer *w = gguf_write_new(&e);
    int64_t dim[] = { 32, 2 };
    uint8_t x[68] = { (uint8_t)(no + 1) };
    if (count) {
        gguf_put_u32(w, "split.no", (uint32_t)no);
        gguf_put_u32(w, "split.count", (uint32_t)count);
        gguf_put_u32(w, "split.tensors.count", (uint32_t)total);
    }
    gguf_add_tensor(w, name, DT_Q8_0, 2, dim, &e);
    gguf_write_start(w, at(file), &e);
    gguf_write_data(w, x, sizeof x, &e);
    if (gguf_write_end(w, &e) != DR_OK) fail_msg("%s", e.msg);
    gguf_write_free(w);
}

static tensors *opened(const char *path)
{
    dr_err e = {0};
    tensors *ts = tensors_open(path, &e);
    if (!ts) fail_msg("%s", e.msg);
    return ts;
}

static void refused(const char *path, int code, const char *why)
{
    dr_err e = {0};
    size_t live = mem_live_bytes();
    tensors *ts = tensors_open(path, &e);
    if (ts || e.code != code || !strstr(e.msg, why))
        fail_msg("wanted %d \"…%s…\", got %d \"%s\"", code, why, ts ? 0 : e.code, e.msg);
    assert_int_equal(mem_live_bytes(), live);
}

static void gguf_single(void **state)
{
    (void)state;
    clean();
    put_gguf("any name", "t", 0, 0, 0);
    tensors *ts = opened(at("any name"));
    assert_int_equal(tensors_container(ts), CONTAINER_GGUF);
    assert_int_equal(tensors_count(ts), 1);
    const tensor *t = tensors_find(ts, "t");
    assert_int_equal(t->dim[0], 2);
    assert_int_equal(t->dim[1], 32);
    assert_int_equal(t->data[0], 1);
    assert_string_equal(tensor_type_name(ts, t->type), "Q8_0");
    assert_string_equal(tensor_type_name(ts, 23), "IQ4_XS");
    assert_string_equal(tensor_type_name(ts, 4711), "unknown type");
    assert_null(tensors_find(ts, "u"));
    assert_null(tensors_at(ts, 1));
    assert_null(tensors_config(ts));
    assert_null(tensors_meta_params(ts));
    assert_non_null(tensors_gguf(ts));
    uint8_t row[34];
    dr_err e = {0};
    assert_int_equal(tensor_n_rows(t), 2);
    assert_int_equal(tensor_rows(ts, t, 1, 1, row, &e), DR_OK);
    assert_memory_equal(row, t->data + 34, 34);
    assert_int_equal(tensors_gather_bytes(ts), 0);
    assert_int_equal(tensors_gather(ts, &e), DR_OK);
    tensors_close(ts);
    tensors_close(NULL);
}

static void gguf_split(void **state)
{
    (void)state;
    clean();
    put_gguf("m-00001-of-00003.gguf", "a", 0, 3, 3);
    put_gguf("m-00002-of-00003.gguf", "b", 1, 3, 3);
    refused(at("m-00001-of-00003.gguf"), DR_EIO, "part 3 of 3 is missing: ");
    put_gguf("m-00003-of-00003.gguf", "c", 2, 3, 3);
    for (int from = 1; from <= 3; from++) {                // any part names the whole
        char name[64];
        snprintf(name, sizeof name, "m-%05d-of-00003.gguf", from);
        tensors *ts = opened(at(name));
        assert_int_equal(tensors_count(ts), 3);
        assert_int_equal(tensors_find(ts, "c")->data[0], 3);
        uint64_t no = 9;
        assert_true(gguf_get_u64(tensors_gguf(ts), "split.no", &no) && no == 0);
        tensors_close(ts);
    }
    put_gguf("m-00002-of-00003.gguf", "a", 1, 3, 3);
    refused(at("m-00001-of-00003.gguf"), DR_EFORMAT, "tensor a appears twice, the second time in "
            "m-00002-of-00003.gguf");
    put_gguf("m-00002-of-00003.gguf", "b", 0, 3, 3);
    refused(at("m-00001-of-00003.gguf"), DR_EFORMAT, "says that it is part 1 of 3");
    put_gguf("m-00002-of-00003.gguf", "b", 1, 3, 4);
    put_gguf("m-00001-of-00003.gguf", "a", 0, 3, 4);
    refused(at("m-00001-of-00003.gguf"), DR_EFORMAT, "hold 3 tensors, but it says 4");
    put_gguf("renamed.gguf", "a", 0, 3, 3);
    refused(at("renamed.gguf"), DR_EFORMAT, "does not end in -00001-of-00003.gguf");
    put_gguf("x.gguf", "a", 5, 3, 3);
    refused(at("x.gguf"), DR_EFORMAT, "contradict");
    put_gguf("x.gguf", "a", 0, 1, 1);
    tensors_close(opened(at("x.gguf")));
    puts_file("m-00002-of-00003.gguf", "no GGUF");
    refused(at("m-00001-of-00003.gguf"), DR_EFORMAT, "m-00002-of-00003.gguf: neither");
    put_st("m-00002-of-00003.gguf", "b", NULL);
    refused(at("m-00001-of-00003.gguf"), DR_EFORMAT, "is safetensors, but the other files");
}

static void st_folder(void **state)
{
    (void)state;
    clean();
    put_st("model.safetensors", "a", "b");
    refused(dir, DR_EIO, "config.json is missing");
    tensors *ts = opened(at("model.safetensors"));          // alone: no config
    assert_null(tensors_config(ts));
    tensors_close(ts);
    puts_file("config.json", "{\"model_type\": \"llama\"}");
    puts_file("generation_config.json", "{\"top_p\": 0.5}");
    ts = opened(dir);
    assert_int_equal(tensors_container(ts), CONTAINER_SAFETENSORS);
    assert_int_equal(tensors_count(ts), 2);
    assert_non_null(json_object_get(tensors_config(ts), "model_type"));
    assert_non_null(json_object_get(tensors_generation(ts), "top_p"));
    assert_null(tensors_gguf(ts));
    assert_int_equal(tensors_find(ts, "b")->dim[1], 3);
    tensors_close(ts);
    puts_file("generation_config.json", "{\"top_p\": ");
    refused(dir, DR_EFORMAT, "generation_config.json: line 1");
    unlink(at("generation_config.json"));
    puts_file("config.json", "[1]");
    refused(dir, DR_EFORMAT, "an object");
    char *big = malloc(2 << 20);
    memset(big, ' ', 2 << 20);
    put("config.json", big, 2 << 20);
    free(big);
    refused(dir, DR_EFORMAT, "at most 1048576 are read");
}

static void shards(void **state)
{
    (void)state;
    clean();
    puts_file("config.json", "{}");
    put_st("m-1.safetensors", "a", "b");
    put_st("m-2.safetensors", "c", NULL);
    puts_file("model.safetensors.index.json", "{\"metadata\": {}, \"weight_map\": {\"a\": "
              "\"m-1.safetensors\", \"b\": \"m-1.safetensors\", \"c\": \"m-2.safetensors\"}}");
    tensors *ts = opened(dir);
    assert_int_equal(tensors_count(ts), 3);
    assert_non_null(tensors_find(ts, "c"));
    tensors_close(ts);
    tensors_close(opened(at("model.safetensors.index.json")));
    puts_file("model.safetensors.index.json", "{\"weight_map\": {\"a\": \"m-3.safetensors\"}}");
    refused(dir, DR_EIO, "shard m-3.safetensors, which the index names, is missing");
    puts_file("model.safetensors.index.json", "{\"weight_map\": {\"a\": \"m-1.safetensors\", "
              "\"c\": \"m-1.safetensors\"}}");
    refused(dir, DR_EFORMAT, "says that m-1.safetensors holds tensor c");
    puts_file("model.safetensors.index.json", "{\"weight_map\": {\"a\": \"m-2.safetensors\", "
              "\"c\": \"m-1.safetensors\"}}");
    refused(dir, DR_EFORMAT, "holds tensor a");
    static const char *bad[] = { "../x", "/etc/passwd", "sub/m", "..", "", ".hidden", "a\\\\b" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[128];
        snprintf(text, sizeof text, "{\"weight_map\": {\"a\": \"%s\"}}", bad[i]);
        puts_file("model.safetensors.index.json", text);
        refused(dir, DR_EFORMAT, "not the name of a file in the folder");
    }
    puts_file("model.safetensors.index.json", "{\"weight_map\": {\"a\": 1}}");
    refused(dir, DR_EFORMAT, "not the name of a file");
    puts_file("model.safetensors.index.json", "{\"weight_map\": {}}");
    refused(dir, DR_EFORMAT, "weight_map");
    puts_file("model.safetensors.index.json", "[]");
    refused(dir, DR_EFORMAT, "weight_map");
    put_gguf("m-2.safetensors", "c", 0, 0, 0);
    puts_file("model.safetensors.index.json", "{\"weight_map\": {\"c\": \"m-2.safetensors\"}}");
    refused(dir, DR_EFORMAT, "not safetensors");
    put_st("m-2.safetensors", "a", NULL);
    puts_file("model.safetensors.index.json", "{\"weight_map\": {\"b\": \"m-1.safetensors\", "
              "\"a\": \"m-2.safetensors\"}}");
    refused(dir, DR_EFORMAT, "tensor a appears twice");
}

static void not_a_model(void **state)
{
    (void)state;
    clean();
    refused("/nonexistent/model.gguf", DR_EIO, "No such file");
    refused(dir, DR_EFORMAT, "were looked for");
    puts_file("other.safetensors", "");
    refused(dir, DR_EFORMAT, "only files such as other.safetensors");
    puts_file("adapter_model.safetensors", "");
    refused(dir, DR_EUNSUPPORTED, "LoRA adapter");
    puts_file("pytorch_model.bin", "");
    refused(dir, DR_EIO, "config.json is missing");
    refused(at("pytorch_model.bin"), DR_EFORMAT, "is empty");
    unlink(at("pytorch_model.bin"));
    puts_file("consolidated.00.pth", "PK\3\4");
    refused(dir, DR_EIO, "params.json is missing beside Meta's consolidated.*.pth");
    refused(at("consolidated.00.pth"), DR_EFORMAT, "this PyTorch file is damaged or cut short");
    puts_file("b.gguf", "");
    puts_file("a.gguf", "");
    refused(dir, DR_EFORMAT, "name the file, such as");
    refused(at("a.gguf"), DR_EFORMAT, "is empty");
    puts_file("a.gguf", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 42\n");
    refused(at("a.gguf"), DR_EFORMAT, "(42 bytes): run 'git lfs pull'");
    puts_file("a.gguf", "<!doctype html>");
    refused(at("a.gguf"), DR_EFORMAT, "web page");
    puts_file("a.gguf", "{\"error\": 404}");
    refused(at("a.gguf"), DR_EFORMAT, "JSON");
    puts_file("a.gguf", "\x80\x02}");
    refused(at("a.gguf"), DR_EUNSUPPORTED, "pickle");
    puts_file("a.gguf", "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.");
    refused(at("a.gguf"), DR_EUNSUPPORTED, "form of before version 1.6");
    puts_file("a.gguf", "tjgg....");
    refused(at("a.gguf"), DR_EUNSUPPORTED, "before GGUF");
    puts_file("a.gguf", "whatever");
    refused(at("a.gguf"), DR_EFORMAT, "neither a GGUF nor a safetensors nor a PyTorch file");
    puts_file("a.gguf", "GGUF");
    refused(at("a.gguf"), DR_EFORMAT, "a.gguf: the file ends inside its header");
    puts_file("config.json", "version https://git-lfs.github.com/spec/v1\nsize 1\n");
    put_st("model.safetensors", "a", NULL);
    refused(dir, DR_EFORMAT, "config.json: this is a Git LFS pointer");
}

static void put_bin(const char *file, const char *a, const char *b)
{
    dr_err e = {0};
    pth_writer *w = pth_write_new("archive", &e);
    int64_t dim[] = { 2, 3 };
    float x[6] = { 1, 2, 3, 4, 5, 6 };
    pth_add_tensor(w, a, DT_F32, 2, dim, &e);
    if (b) pth_add_alias(w, b, a, &e);
    pth_write_start(w, at(file), &e);
    pth_write_data(w, x, sizeof x, &e);
    if (pth_write_end(w, &e) != DR_OK) fail_msg("%s", e.msg);
    pth_write_free(w);
}

/* Hugging Face's older folders: the same names in torch.save's files. */
static void pytorch_bin(void **state)
{
    (void)state;
    clean();
    put_bin("pytorch_model.bin", "a", "b");
    refused(at("pytorch_model.bin"), DR_EUNSUPPORTED, "says not how its model is built");
    puts_file("config.json", "{\"model_type\": \"llama\"}");
    for (int file = 0; file < 2; file++) {
        tensors *ts = opened(file ? at("pytorch_model.bin") : dir);
        assert_true(tensors_is_bin(ts) && tensors_container(ts) == CONTAINER_SAFETENSORS);
        assert_int_equal(tensors_count(ts), 2);
        assert_ptr_equal(tensors_find(ts, "b")->data, tensors_find(ts, "a")->data);
        assert_non_null(tensors_config(ts));
        tensors_close(ts);
    }
    clean();
    put_bin("x-00001-of-00002.bin", "a", NULL);
    put_bin("x-00002-of-00002.bin", "b", NULL);
    puts_file("config.json", "{}");
    puts_file("pytorch_model.bin.index.json", "{\"weight_map\": {\"a\": \"x-00001-of-00002.bin\", "
              "\"b\": \"x-00002-of-00002.bin\"}}");
    for (int file = 0; file < 2; file++) {
        tensors *ts = opened(file ? at("pytorch_model.bin.index.json") : dir);
        assert_int_equal(tensors_count(ts), 2);
        assert_int_equal(((const float *)(const void *)tensors_find(ts, "b")->data)[5], 6);
        tensors_close(ts);
    }
    put_st("x-00002-of-00002.bin", "b", NULL);
    refused(dir, DR_EFORMAT, "x-00002-of-00002.bin is no PyTorch file");
    puts_file("x-00002-of-00002.bin", "PK");
    refused(dir, DR_EFORMAT, "x-00002-of-00002.bin: neither");
}

static void quantised_elsewhere(void **state)
{
    (void)state;
    clean();
    put_st("model.safetensors", "a", NULL);
    static const char *method[][2] = {
        { "gptq", "GPTQ" }, { "awq", "AWQ" }, { "bitsandbytes", "bitsandbytes" },
        { "modelopt", "ModelOpt" }, { "new-thing", "new-thing" },
    };
    for (size_t i = 0; i < sizeof method / sizeof *method; i++) {
        char text[128], why[128];
        snprintf(text, sizeof text, "{\"quantization_config\": {\"quant_method\": \"%s\"}}",
                 method[i][0]);
        snprintf(why, sizeof why, "quantised by %s, which is not read", method[i][1]);
        puts_file("config.json", text);
        refused(dir, DR_EUNSUPPORTED, why);
        refused(at("model.safetensors"), DR_EUNSUPPORTED, why);
    }
    puts_file("config.json", "{\"quantization_config\": {\"load_in_4bit\": true}}");
    refused(dir, DR_EUNSUPPORTED, "quantised by bitsandbytes");
    puts_file("config.json", "{\"quantization_config\": null}");
    tensors_close(opened(dir));
}

/* FP8 forms of which only some are read: what differs is one key. */
static void fp8_forms(void **state)
{
    (void)state;
    clean();
    put_st("model.safetensors", "a", NULL);
#define Q "{\"quantization_config\": {\"quant_method\": "
#define CT(format, bits, type, rest) Q "\"compressed-tensors\", \"format\": \"" format "\", " \
    "\"config_groups\": {\"group_0\": {\"weights\": {\"num_bits\": " bits ", \"type\": \"" type "\", " rest "}, " \
    "\"input_activations\": {\"dynamic\": true}, \"output_activations\": null}}}}"
    static const char *const good[] = {
        Q "\"fbgemm_fp8\", \"activation_scale_ub\": 1200.0}}", Q "\"fp8\"}}",
        CT("float-quantized", "8", "float", "\"strategy\": \"channel\""),
        CT("float-quantized", "8", "float", "\"strategy\": \"tensor\", \"symmetric\": true"),
    };
    static const struct { const char *text, *why; } bad[] = {
        { Q "\"fp8\", \"weight_block_size\": [128, 128]}}", "FP8, with a scale for each block" },
        { CT("int-quantized", "8", "int", "\"strategy\": \"channel\""), "format \"int-quantized\"" },
        { CT("pack-quantized", "4", "int", "\"strategy\": \"group\""), "format \"pack-quantized\"" },
        { CT("nvfp4-pack-quantized", "4", "float", "\"strategy\": \"tensor_group\""), "nvfp4" },
        { CT("float-quantized", "8", "int", "\"strategy\": \"channel\""), "weights of 8 bits (int)" },
        { CT("float-quantized", "4", "float", "\"strategy\": \"channel\""), "weights of 4 bits" },
        { CT("float-quantized", "8", "float", "\"strategy\": \"block\""), "strategy \"block\"" },
        { CT("float-quantized", "8", "float", "\"strategy\": \"channel\", \"symmetric\": false"),
          "not symmetric" },
        { CT("float-quantized", "8", "float", "\"strategy\": \"channel\", \"dynamic\": true"),
          "quantised as they are used" },
        { Q "\"compressed-tensors\", \"format\": \"float-quantized\"}}", "no config_groups" },
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        puts_file("config.json", good[i]);
        tensors_close(opened(dir));
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        puts_file("config.json", bad[i].text);
        refused(dir, DR_EUNSUPPORTED, bad[i].why);
    }
}

/* Old headers have any length: floats are then copied to where they can be read. */
static void unaligned(void **state)
{
    (void)state;
    static const char *h = "{\"a\":{\"dtype\":\"BF16\",\"shape\":[1],\"data_offsets\":[0,2]},"
                           "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[2,10]}}";
    for (size_t pad = 0; pad < 8; pad++) {
        size_t len = strlen(h) + pad;
        uint8_t *p = malloc(8 + len + 10);
        uint64_t n = len;
        memcpy(p, &n, 8);
        memcpy(p + 8, h, strlen(h));
        memset(p + 8 + strlen(h), ' ', pad);
        float x[2] = { 1.5f, -2 };
        memset(p + 8 + len, 1, 2);
        memcpy(p + 10 + len, x, 8);
        dr_err e = {0};
        tensors *ts = tensors_parse(p, 18 + len, &e);
        if (!ts) fail_msg("%s", e.msg);
        const tensor *a = tensors_find(ts, "a"), *b = tensors_find(ts, "b");
        assert_int_equal((uintptr_t)a->data % 2, 0);
        assert_int_equal((uintptr_t)b->data % 4, 0);
        assert_memory_equal(b->data, x, 8);
        assert_int_equal(a->data[0], 1);
        tensors_close(ts);
        free(p);
    }
}

static int parse_bytes(const void *bytes, size_t n, dr_err *e)
{
    tensors *ts = tensors_parse(bytes, n, e);
    if (!ts) return e->code;
    for (int64_t i = 0; i < tensors_count(ts); i++) {
        const tensor *t = tensors_at(ts, i);
        for (size_t k = 0; t->data && k < t->bytes; k++) sink += t->data[k];
        char name[64];
        snprintf(name, sizeof name, SPAN_FMT, SPAN_ARG(t->name));
        const tensor *f = tensors_find(ts, name);
        if (t->name.n < sizeof name && strlen(name) == t->name.n) assert_ptr_equal(f, t);
        sink += (unsigned char)*tensor_type_name(ts, t->type);
    }
    tensors_close(ts);
    return DR_OK;
}

/* The bytes become one file of the folder, then the folder is opened. */
static const char *hostile_file;
static int parse_in_folder(const void *bytes, size_t n, dr_err *e)
{
    FILE *f = fopen(at(hostile_file), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    fclose(f);
    tensors *ts = tensors_open(dir, e);
    if (!ts) return e->code;
    tensors_close(ts);
    return DR_OK;
}

static void hostile(void **state)
{
    (void)state;
    clean();
    os_file f;
    dr_err e = {0};
    put_gguf("g", "blk.0.weight", 0, 0, 0);
    assert_int_equal(os_map(&f, at("g"), &e), DR_OK);
    hostile_truncate(parse_bytes, f.p, f.n - (32 - 68 % 32));    // without the last padding
    hostile_flip(parse_bytes, f.p, f.n, 1);
    hostile_nomem(parse_bytes, f.p, f.n, false);
    os_unmap(&f);
    put_st("s", "a", "b");
    assert_int_equal(os_map(&f, at("s"), &e), DR_OK);
    hostile_truncate(parse_bytes, f.p, f.n);
    hostile_flip(parse_bytes, f.p, f.n, 1);
    hostile_nomem(parse_bytes, f.p, f.n, true);
    os_unmap(&f);
    put_st("m-1.safetensors", "a", "b");
    puts_file("config.json", "{}");
    static const char *index = "{\"metadata\": {\"total_size\": 1}, \"weight_map\": {\"a\": "
                               "\"m-1.safetensors\", \"b\": \"m-1.safetensors\"}}";
    hostile_file = "model.safetensors.index.json";
    hostile_truncate(parse_in_folder, index, strlen(index));
    hostile_flip(parse_in_folder, index, strlen(index), 1);
    hostile_nomem(parse_in_folder, index, strlen(index), true);
    static const char *config = "{\"model_type\": \"llama\", \"x\": [1, 2.5e3, null]}";
    hostile_file = "config.json";
    hostile_truncate(parse_in_folder, config, strlen(config));
    hostile_flip(parse_in_folder, config, strlen(config), 1);
    clean();
    put_gguf("m-00001-of-00002.gguf", "a", 0, 2, 2);
    put_gguf("m-00002-of-00002.gguf", "b", 1, 2, 2);
    for (long k = 0; ; k++) {
        size_t live = mem_live_bytes();
        mem_fail_after(k);
        e = (dr_err){0};
        tensors *ts = tensors_open(at("m-00001-of-00002.gguf"), &e);
        mem_fail_after(-1);
        if (!ts) assert_int_equal(e.code, DR_ENOMEM);
        tensors_close(ts);
        assert_int_equal(mem_live_bytes(), live);
        if (ts) break;
    }
}

/* A split file whose count lies costs no more than what is really there. */
static void lying_count(void **state)
{
    (void)state;
    clean();
    put_gguf("m-00001-of-99999.gguf", "a", 0, 99999, 99999);
    size_t live = mem_live_bytes();
    mem_peak_reset();
    refused(at("m-00001-of-99999.gguf"), DR_EIO, "part 2 of 99999 is missing");
    assert_true(mem_peak_bytes() - live < 1 << 20);
}

static int set_up(void **state)
{
    (void)state;
    hostile_begin();
    if (mkdtemp(dir)) return 0;
    memcpy(dir, "/tmp/drover-test-XXXXXX", sizeof "/tmp/drover-test-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}
static int tear_down(void **state)
{
    (void)state;
    clean();
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gguf_single), cmocka_unit_test(gguf_split), cmocka_unit_test(st_folder),
        cmocka_unit_test(shards), cmocka_unit_test(not_a_model),
        cmocka_unit_test(pytorch_bin),
        cmocka_unit_test(quantised_elsewhere), cmocka_unit_test(fp8_forms),
        cmocka_unit_test(unaligned),
        cmocka_unit_test(hostile), cmocka_unit_test(lying_count),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
