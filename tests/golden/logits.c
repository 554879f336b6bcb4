/* logits.c - two random models against the float64 logits that transformers gave for them
 * (tools/golden/logits.py), at every kernel level: F16 weights, F32 cache. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/mem.h"
#include "base/os.h"
#include "format/npy.h"
#include "gen/session.h"
#include "kern/kern.h"
#include "text/tokenizer.h"

#define DATA "tests/golden/data/"
typedef struct { const float *want; int64_t rows, cols; int n, first; double worst, std; } held;

static int hold(void *arg, int first, int rows, const float *logits, dr_err *e)
{
    (void)e;
    held *h = arg;
    for (int i = 0; i < rows; i++) {
        int64_t r = first + i - (h->n - h->rows);
        for (int64_t v = 0; r >= 0 && v < h->cols; v++) {
            double d = fabs((double)logits[(int64_t)i * h->cols + v] -
                            (double)h->want[r * h->cols + v]);
            if (!(d <= h->worst)) h->worst = d;
        }
    }
    return DR_OK;
}

static void one(const char *name, const char *level)
{
    char path[128];
    dr_err e = {0};
    held h = {0};
    snprintf(path, sizeof path, DATA "%s.npy", name);
    float *want;
    if (npy_read(path, &want, &h.rows, &h.cols, &e)) fail_msg("%s", e.msg);
    double sum = 0, sq = 0;
    for (int64_t i = 0; i < h.rows * h.cols; i++) sum += want[i], sq += (double)want[i] * want[i];
    double n = (double)(h.rows * h.cols);
    h.want = want, h.std = sqrt(sq / n - sum / n * (sum / n));

    buf b;
    buf_init(&b, 1 << 16);
    snprintf(path, sizeof path, DATA "%s.ids", name);
    assert_int_equal(os_read(&b, path, &e), DR_OK);
    int32_t tok[256];
    char *s = buf_str(&b), *end;
    for (; h.n < 256; s = end) {
        long id = strtol(s, &end, 10);
        if (end == s) break;
        tok[h.n++] = (int32_t)id;
    }
    buf_free(&b);

    snprintf(path, sizeof path, DATA "%s.gguf", name);
    model *m = model_open(path, &(dev_opt){ .n_threads = 2, .cpu_level = level }, &e);
    if (!m) fail_msg("%s", e.msg);
    session *ss = session_new(m, &(session_opt){ .n_ctx = h.n, .kv_set = true, .kv = KV_F32 }, &e);
    if (!ss) fail_msg("%s", e.msg);
    assert_int_equal(session_all_logits(ss, tok, h.n, hold, &h, &e), DR_OK);
    if (!(h.worst <= 1e-4 * h.std))
        fail_msg("%s, %s: off by %.3g, the logits' standard deviation is %.3g", name, level, h.worst,
                 h.std);
    session_free(ss);
    model_close(m);
    mem_free(want);
}

static void logits_are_transformers(void **state)
{
    (void)state;
    unsigned cpu = cpu_detect();
    for (int l = 0; l < n_kern_levels; l++) {
        if ((kern_levels[l].need & cpu) != kern_levels[l].need) continue;
        one("t64g1", kern_levels[l].name);
        one("g4small", kern_levels[l].name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(logits_are_transformers) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
