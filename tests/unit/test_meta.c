/* test_meta.c - Meta's folders: shards put together, key/value heads folded, scales; and what is
 * said of shards that are missing, swapped, cut short or of another model. */
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
#include "base/os.h"
#include "format/pth_write.h"
#include "format/tensors.h"
#include "hostile.h"

static char dir[] = "/dev/shm/drover-test-XXXXXX";

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

static void puts_file(const char *name, const char *text)
{
    dr_err e = {0};
    if (os_write(at(name), text, strlen(text), &e) != DR_OK) fail_msg("%s", e.msg);
}

/* A model of one layer: 4 heads of 2, 2 of them for keys and values. cut: 0 rows, 1 columns, 2
 * rows of key/value heads, -1 whole. Value (r,c) of tensor k is 1000 k + r cols + c. */
static const struct { const char *name; int rows, cols, cut; } list[] = {
    { "tok_embeddings.weight", 8, 8, 0 },
    { "layers.0.attention.wq.weight", 8, 8, 0 }, { "layers.0.attention.wk.weight", 4, 8, 2 },
    { "layers.0.attention.wv.weight", 4, 8, 2 }, { "layers.0.attention.wo.weight", 8, 8, 1 },
    { "layers.0.feed_forward.w1.weight", 16, 8, 0 }, { "layers.0.feed_forward.w3.weight", 16, 8, 0 },
    { "layers.0.feed_forward.w2.weight", 8, 16, 1 }, { "layers.0.attention_norm.weight", 8, 0, -1 },
    { "norm.weight", 8, 0, -1 }, { "output.weight", 8, 8, 0 },
};
enum { N_LIST = sizeof list / sizeof *list };
static const char params[] = "{\"dim\": 8, \"n_layers\": 1, \"n_heads\": 4, \"n_kv_heads\": 2}";

typedef struct {
    int shards, copies, emb_cut;     /* copies 0 is 1 */
    const char *top;                 /* saved as; NULL: the file's name */
    int bad_tensor, bad_shard;       /* this tensor's last value is wrong there; 0: none */
    int leave_out;                   /* tensor that the last shard lacks; 0: none */
    bool tied;
} form;
#define FORM(...) (form){ __VA_ARGS__ }

static void part_of(const form *f, int k, int s, int *r0, int *rows, int *c0, int *cols)
{
    int cut = k == 0 ? f->emb_cut : list[k].cut, n = f->shards;
    *r0 = *c0 = 0, *rows = list[k].rows, *cols = list[k].cols ? list[k].cols : 1;
    if (cut == 2 && f->copies) n /= f->copies, s /= f->copies;
    if (cut == 0 || cut == 2) *rows /= n, *r0 = s * *rows;
    if (cut == 1) *cols /= n, *c0 = s * *cols;
}

static void put_shard(const form *f, int s)
{
    char file[64], top[64];
    dr_err e = {0};
    snprintf(file, sizeof file, "consolidated.%02d.pth", s);
    snprintf(top, sizeof top, "consolidated.%02d", s);
    pth_writer *w = pth_write_new(f->top ? f->top : top, &e);
    for (int k = 0; k < N_LIST; k++) {
        int r0, rows, c0, cols;
        part_of(f, k, s, &r0, &rows, &c0, &cols);
        if (k && k == f->leave_out && s == f->shards - 1) continue;
        if (f->tied && k == N_LIST - 1) pth_add_alias(w, list[k].name, list[0].name, &e);
        else pth_add_tensor(w, list[k].name, DT_F32, list[k].cols ? 2 : 1,
                            (int64_t[]){ rows, cols }, &e);
    }
    pth_write_start(w, at(file), &e);
    for (int k = 0; k < N_LIST - f->tied; k++) {
        int r0, rows, c0, cols;
        if (k && k == f->leave_out && s == f->shards - 1) continue;
        part_of(f, k, s, &r0, &rows, &c0, &cols);
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < cols; c++) {
                float x = (float)(1000 * k + (r0 + r) * (list[k].cols ? list[k].cols : 1) + c0 + c);
                if (k && k == f->bad_tensor && s == f->bad_shard && r == rows - 1 && c == cols - 1) x = -1;
                pth_write_data(w, &x, 4, &e);
            }
    }
    if (pth_write_end(w, &e) != DR_OK) fail_msg("%s", e.msg);
    pth_write_free(w);
}

static void put_model(form f)
{
    clean();
    puts_file("params.json", params);
    for (int s = 0; s < f.shards; s++) put_shard(&f, s);
}

static tensors *opened(const char *path)
{
    dr_err e = {0};
    tensors *ts = tensors_open(path, &e);
    if (!ts) fail_msg("%s", e.msg);
    return ts;
}

static void refused(int code, const char *why)
{
    dr_err e = {0};
    size_t live = mem_live_bytes();
    tensors *ts = tensors_open(dir, &e);
    if (ts || e.code != code || !strstr(e.msg, why))
        fail_msg("wanted %d \"…%s…\", got %d \"%s\"", code, why, ts ? 0 : e.code, e.msg);
    assert_int_equal(mem_live_bytes(), live);
}

static void check_model(int copies)
{
    dr_err e = {0};
    tensors *ts = opened(dir);
    int have;
    assert_int_equal(tensors_container(ts), CONTAINER_META);
    assert_int_equal(json_integer_value(json_object_get(tensors_meta_params(ts), "n_heads")), 4);
    tensors_meta_shards(ts, &have);
    assert_int_equal(have, copies);
    for (int gathered = 0; gathered < 2; gathered++) {
        for (int k = 0; k < N_LIST; k++) {
            const tensor *t = tensors_find(ts, list[k].name);
            int cols = list[k].cols ? list[k].cols : 1, n = list[k].rows * cols;
            int of = k == N_LIST - 1 && tensors_meta_tied(ts) ? 0 : k;
            float x[256], y[256];
            assert_non_null(t);
            assert_int_equal(t->dim[0], list[k].rows);
            assert_int_equal(t->bytes, n * 4);
            assert_int_equal(tensor_rows(ts, t, 0, tensor_n_rows(t), x, &e), DR_OK);
            for (int i = 0; i < n; i++)
                if (x[i] != (float)(1000 * of + i))
                    fail_msg("%s[%d] is %g", list[k].name, i, (double)x[i]);
            for (int64_t r = 0; list[k].cols && r < list[k].rows; r++) {          // two at a time
                int64_t m = r + 2 <= list[k].rows ? 2 : 1;
                assert_int_equal(tensor_rows(ts, t, r, m, y, &e), DR_OK);
                assert_memory_equal(y, x + r * cols, (size_t)(m * cols) * 4);
            }
            if (gathered) assert_memory_equal(t->data, x, t->bytes);
        }
        assert_int_equal(tensors_gather(ts, &e), DR_OK);
        assert_int_equal(tensors_gather_bytes(ts), 0);
    }
    tensors_close(ts);
}

static void test_shards(void **state)
{
    (void)state;
    for (int n = 1; n <= 2; n *= 2) {
        put_model(FORM(.shards = n));
        check_model(1);
        put_model(FORM(.shards = n, .emb_cut = 1));
        check_model(1);
        put_model(FORM(.shards = n, .tied = true));
        tensors *ts = opened(at("consolidated.00.pth"));
        assert_true(tensors_meta_tied(ts));
        tensors_close(ts);
        check_model(1);
    }
    put_model(FORM(.shards = 4, .copies = 2));
    check_model(2);
    puts_file("params.json", "{\"model\": {\"dim\": 8, \"n_layers\": 1, \"n_heads\": 4, "
              "\"n_kv_heads\": 4}}");                          // the copies counted, as Meta's
    check_model(2);
}

static void test_one_stays_mapped(void **state)
{
    (void)state;
    put_model(FORM(.shards = 1));
    tensors *ts = opened(dir);
    assert_int_equal(tensors_gather_bytes(ts), 0);
    for (int64_t i = 0; i < tensors_count(ts); i++) assert_non_null(tensors_at(ts, i)->data);
    tensors_close(ts);
    put_model(FORM(.shards = 2));
    ts = opened(dir);
    assert_null(tensors_find(ts, "output.weight")->data);
    assert_non_null(tensors_find(ts, "norm.weight")->data);
    tensors_close(ts);
}

static void test_wrong_shards(void **state)
{
    (void)state;
    put_model(FORM(.shards = 4, .copies = 2));
    unlink(at("consolidated.03.pth"));
    refused(DR_EIO, "cut into 4 shards, but only 3 are here: consolidated.03.pth is missing");
    unlink(at("consolidated.01.pth"));
    put_shard(&FORM(.shards = 4, .copies = 2), 3);
    refused(DR_EIO, "consolidated.01.pth is missing, but consolidated.0");
    put_model(FORM(.shards = 2));
    unlink(at("params.json"));
    refused(DR_EIO, "params.json is missing beside");
    puts_file("params.json", params);
    unlink(at("consolidated.00.pth"));
    refused(DR_EIO, "consolidated.00.pth is missing");
    put_model(FORM(.shards = 2));
    rename(at("consolidated.00.pth"), at("x"));
    rename(at("consolidated.01.pth"), at("consolidated.00.pth"));
    rename(at("x"), at("consolidated.01.pth"));
    refused(DR_EFORMAT, "consolidated.00.pth was saved as consolidated.01.pth: shards were swapped");
    put_model(FORM(.shards = 2, .bad_tensor = 9, .bad_shard = 1));
    refused(DR_EFORMAT, "norm.weight differs between consolidated.00.pth and consolidated.01.pth");
    put_model(FORM(.shards = 2, .leave_out = 9));
    refused(DR_EFORMAT, "consolidated.01.pth holds 10 tensors, consolidated.00.pth 11");
    put_model(FORM(.shards = 4, .copies = 2, .bad_tensor = 2, .bad_shard = 3));
    refused(DR_EFORMAT, "but they are no copies of each other");
    put_model(FORM(.shards = 4, .copies = 2, .bad_tensor = 3, .bad_shard = 3));
    refused(DR_EFORMAT, "consolidated.02.pth and consolidated.03.pth should hold the same key/value "
            "head and do not");
    put_model(FORM(.shards = 2));
    puts_file("params.json", "{\"dim\": 24, \"n_heads\": 4}");
    refused(DR_EIO, "cut into 6 shards, but only 2 are here");
    puts_file("params.json", "[]");
    refused(DR_EFORMAT, "params.json: an object");
    puts_file("params.json", params);
    os_file m;
    dr_err e = {0};
    assert_int_equal(os_map(&m, at("consolidated.01.pth"), &e), DR_OK);
    void *p = malloc(m.n);
    memcpy(p, m.p, m.n);
    size_t n = m.n;
    os_unmap(&m);
    os_write(at("consolidated.01.pth"), p, n / 2, &e);
    free(p);
    refused(DR_EFORMAT, "consolidated.01.pth: this PyTorch file is damaged or cut short");
    puts_file("consolidated.01.pth", "GGUF");
    refused(DR_EFORMAT, "consolidated.01.pth: the file ends inside its header");
}

static void put_scales(int s, int rank, int rows, int second)
{
    char file[32], key[32];
    dr_err e = {0};
    snprintf(file, sizeof file, "fp8_scales_%d.pt", s);
    pth_writer *w = pth_write_new("archive", &e);
    for (int i = 1; i <= 3; i++) {
        snprintf(key, sizeof key, "0_feed_forward.w%d_%d", i, rank);
        pth_add_tensor(w, key, DT_F32, second ? 2 : 1, (int64_t[]){ rows, 1 }, &e);
    }
    pth_write_start(w, at(file), &e);
    for (int i = 1; i <= 3; i++)
        for (int r = 0; r < rows; r++) {
            float x = (float)(100 * i + 10 * s + r);
            pth_write_data(w, &x, 4, &e);
        }
    if (pth_write_end(w, &e) != DR_OK) fail_msg("%s", e.msg);
    pth_write_free(w);
}

static void test_scales(void **state)
{
    (void)state;
    dr_err e = {0};
    float x[16];
    for (int two = 0; two < 2; two++) {
        put_model(FORM(.shards = 2));
        put_scales(0, 0, 8, two), put_scales(1, 1, 8, two);
        tensors *ts = opened(dir);
        const tensor *t = tensors_find(ts, "layers.0.feed_forward.w1.weight_scale");
        assert_true(t && t->n_dims == 1 && t->dim[0] == 16 && t->bytes == 64);
        assert_int_equal(tensor_rows(ts, t, 0, 1, x, &e), DR_OK);
        assert_true(x[0] == 100 && x[7] == 107 && x[8] == 110 && x[15] == 117);
        t = tensors_find(ts, "layers.0.feed_forward.w2.weight_scale");
        assert_true(t && t->n_dims == 2 && t->dim[0] == 2 && t->dim[1] == 8);
        assert_int_equal(tensor_rows(ts, t, 1, 1, x, &e), DR_OK);
        assert_true(x[0] == 210 && x[7] == 217);
        tensors_close(ts);
    }
    put_scales(1, 0, 8, 0);
    refused(DR_EFORMAT, "fp8_scales_1.pt holds no 0_feed_forward.w1_1: is it another shard's?");
    put_scales(1, 1, 9, 0);
    refused(DR_EFORMAT, "another shape or type");
    put_scales(0, 1, 8, 0);
    refused(DR_EFORMAT, "fp8_scales_0.pt holds 0_feed_forward.w1_1, but keys such as");
    put_scales(0, 0, 8, 0);
    unlink(at("fp8_scales_1.pt"));
    refused(DR_EIO, "fp8_scales_1.pt is missing");
}

static int open_dir(const void *p, size_t n, dr_err *e)
{
    (void)p, (void)n;
    tensors *ts = tensors_open(dir, e);
    if (!ts) return e->code;
    int rc = tensors_gather(ts, e);
    tensors_close(ts);
    return rc;
}

static void test_memory(void **state)
{
    (void)state;
    hostile_begin();
    put_model(FORM(.shards = 4, .copies = 2));
    put_scales(0, 0, 4, 0), put_scales(1, 1, 4, 0), put_scales(2, 2, 4, 0), put_scales(3, 3, 4, 0);
    hostile_nomem(open_dir, "", 0, true);
}

static int set_up(void **state) { (void)state; return mkdtemp(dir) ? 0 : -1; }
static int tear_down(void **state)
{
    (void)state;
    clean();
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest t[] = {
        cmocka_unit_test(test_shards), cmocka_unit_test(test_one_stays_mapped),
        cmocka_unit_test(test_wrong_shards), cmocka_unit_test(test_scales),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(t, set_up, tear_down);
}
