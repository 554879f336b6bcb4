/* embed.c - embeddings of the engine, mean and last token, against transformers' float64 (tools/golden/embed.py):
 * at every kernel level, whole and in chunks, alone and beside others. */
#define _GNU_SOURCE
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>
#include "base/mem.h"
#include "base/os.h"
#include "byte_model.h"
#include "engine/engine.h"
#include "format/npy.h"
#include "kern/kern.h"

#define DATA "tests/golden/data/"

static int read_ids(const char *name, int32_t tok[256])
{
    char path[128], *end;
    dr_err e = {0};
    buf b;
    int n = 0;
    buf_init(&b, 1 << 16);
    snprintf(path, sizeof path, DATA "%s.ids", name);
    assert_int_equal(os_read(&b, path, &e), DR_OK);
    for (char *s = buf_str(&b); n < 256; s = end) {
        long id = strtol(s, &end, 10);
        if (end == s) break;
        tok[n++] = (int32_t)id;
    }
    buf_free(&b);
    return n;
}

static ticket *ask(engine *g, engine_task task, const int32_t *tok, int n)
{
    dr_err e = {0};
    engine_req r;
    ticket *k = NULL;
    int retry;
    engine_req_init(&r);
    r.task = task, r.prompt = tok, r.n_prompt = n, r.max_tokens = 0;
    if (engine_submit(g, &r, &k, &retry, &e)) fail_msg("%s", e.msg);
    return k;
}

/* The vector, (C,) into v; the ticket is freed. */
static void take(ticket *k, float *v, int C)
{
    bool had = false;
    for (;;) {
        engine_event ev;
        if (!ticket_next(k, &ev)) {
            nanosleep(&(struct timespec){ .tv_nsec = 200000 }, NULL);
            continue;
        }
        if (ev.kind == ENGINE_VECTOR) {
            assert_int_equal(ev.n_vec, C);
            memcpy(v, ev.vec, (size_t)C * sizeof *v), had = true;
        }
        if (ev.kind != ENGINE_DONE) continue;
        if (ev.code) fail_msg("%s", ev.msg);
        break;
    }
    assert_true(had);
    ticket_free(k);
}

static void one(const char *name, const char *level, int step)
{
    char path[128];
    dr_err e = {0};
    int32_t tok[256];
    int n = read_ids(name, tok);
    int64_t rows, C;
    float *want;
    snprintf(path, sizeof path, DATA "%s.embed.npy", name);
    if (npy_read(path, &want, &rows, &C, &e)) fail_msg("%s", e.msg);
    assert_int_equal(rows, 2);
    snprintf(path, sizeof path, DATA "%s.gguf", name);
    model *em = model_open(path, &(dev_opt){ .n_threads = 2, .cpu_level = level }, &e);
    if (!em) fail_msg("%s", e.msg);
    engine *g = engine_new(em, t, &(engine_opt){ .n_ctx = 128, .kv_positions = 1024, .kv_set = true,
                                                 .kv = KV_F32, .step_tokens = step, .max_running = 8 }, &e);
    if (!g) fail_msg("%s", e.msg);
    float *v = mem_zalloc((size_t)C * 5, sizeof *v);
    ticket *k[5];                                /* each kind twice, and another text between */
    for (int i = 0; i < 5; i++)
        k[i] = ask(g, i % 2 ? ENGINE_EMBED_LAST : ENGINE_EMBED_MEAN, i == 2 ? tok + 1 : tok, i == 2 ? n - 1 : n);
    for (int i = 0; i < 5; i++) take(k[i], v + i * C, (int)C);
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < C && i != 2; j++) {
            double a = (double)v[i * C + j], b = (double)want[i % 2 * C + j];
            if (!(fabs(a - b) <= 1e-4))
                fail_msg("%s, %s, steps of %d, vector %d: value %d is %g, not %g", name, level, step, i, j, a, b);
        }
    assert_memory_equal(v, v + 4 * C, (size_t)C * sizeof *v);
    assert_memory_equal(v + C, v + 3 * C, (size_t)C * sizeof *v);
    mem_free(v), mem_free(want);
    engine_free(g);
    model_close(em);
}

static void embeddings_are_transformers(void **state)
{
    (void)state;
    unsigned cpu = cpu_detect();
    for (int l = 0; l < n_kern_levels; l++) {
        if ((kern_levels[l].need & cpu) != kern_levels[l].need) continue;
        for (int step = 16; step <= 512; step *= 32) {
            one("t64g1", kern_levels[l].name, step);
            one("g4small", kern_levels[l].name, step);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(embeddings_are_transformers) };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
