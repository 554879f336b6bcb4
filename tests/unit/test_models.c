/* test_models.c - models by name, opened when asked for, held, closed; from many threads at once; without
 * memory. The models are random, over bytes. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/mem.h"
#include "base/os.h"
#include "byte_model.h"
#include "serve/models.h"

static char path_of[3][64] = { "/tmp/drover-mod1-XXXXXX.gguf", "/tmp/drover-mod2-XXXXXX.gguf", "/tmp/drover-mod3-XXXXXX.gguf" };
static const char *paths[3] = { path_of[0], path_of[1], path_of[2] };
static char id[3][64];
static int n_opened;

static void opened(void *arg, served *s) { (void)s; ++*(int *)arg; }

static int set_up_models(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        model *one = byte_model(path_of[i], "dim=32,layers=1,heads=2,kv_heads=1,head_dim=16,ffn=48,vocab=259,ctx=128", 3, NULL);
        if (!one) return -1;
        model_close(one);
        const char *base = strrchr(path_of[i], '/') + 1;
        snprintf(id[i], sizeof id[i], "%.*s", (int)(strlen(base) - 5), base);
    }
    return 0;
}
static int tear_down_models(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) unlink(path_of[i]);
    return 0;
}

static models_opt options(int n)
{
    return (models_opt){ .path = paths, .n = n, .dev = { .n_threads = 1 }, .opened = opened, .opened_arg = &n_opened,
                         .engine = { .n_ctx = 64, .kv_positions = 128, .step_tokens = 64, .max_running = 2 } };
}
static models *made(const models_opt *o)
{
    dr_err e = {0};
    models *ms = models_new(o, &e);
    if (!ms) fail_msg("%s", e.msg);
    return ms;
}
static int code_of(models *ms, const char *name)
{
    dr_err e = {0};
    served *s = models_get(ms, name, NULL, &e);
    if (s) models_put(ms, s);
    assert_true(!s == (e.code != 0) && (!e.code || *e.msg));
    return e.code;
}

static void names(void **state)
{
    (void)state;
    dr_err e = {0};
    models_opt o = options(2);
    n_opened = 0;
    models *ms = made(&o);
    assert_int_equal(n_opened, 1);                      /* the first at once, no other */
    served *first = models_peek(ms, NULL), *same = models_get(ms, "", NULL, &e);
    assert_ptr_equal(first, same);
    assert_string_equal(first->id, id[0]);
    assert_int_equal(strlen(first->digest), 64);
    models_put(ms, same);
    assert_null(models_peek(ms, id[1]));                /* not open yet */
    assert_int_equal(code_of(ms, id[1]), DR_OK);
    assert_int_equal(n_opened, 2);
    assert_int_equal(code_of(ms, path_of[1]), DR_OK);
    assert_int_equal(code_of(ms, "neither"), DR_ENOTFOUND);
    assert_int_equal(code_of(ms, "a:b"), DR_ENOTFOUND);
    assert_int_equal(n_opened, 2);
    models_put(ms, first);
    models_free(ms);
    const char *twice[2] = { path_of[0], path_of[0] };
    o.path = twice;
    assert_null(models_new(&o, &e));
    assert_non_null(strstr(e.msg, "both be called"));
    const char *none[1] = { "/tmp/there is none" };
    o.path = none, o.n = 1, e = (dr_err){0};
    assert_null(models_new(&o, &e));
    assert_int_equal(e.code, DR_EIO);
}

static void held(void **state)
{
    (void)state;
    dr_err e = {0};
    models_opt o = options(2);
    o.lazy = true, o.max_open = 1;
    models *ms = made(&o);
    assert_null(models_peek(ms, NULL));
    served *a = models_get(ms, id[0], NULL, &e);
    assert_non_null(a);
    assert_int_equal(models_unload(ms, id[0], &e), DR_EBUSY);
    assert_int_equal(code_of(ms, id[1]), DR_EBUSY);     /* no room while the other is held */
    models_put(ms, a);
    assert_int_equal(code_of(ms, id[1]), DR_OK);
    assert_null(models_peek(ms, id[0]));                /* it made room */
    assert_int_equal(models_unload(ms, id[1], &e), DR_OK);
    assert_null(models_peek(ms, id[1]));
    assert_int_equal(models_unload(ms, id[1], &e), DR_OK);
    models_drain(ms);
    assert_int_equal(code_of(ms, id[1]), DR_EBUSY);     /* nothing is opened any more */
    models_free(ms);
}

static void idle(void **state)
{
    (void)state;
    dr_err e = {0};
    models_opt o = options(1);
    o.idle_s = 1;
    models *ms = made(&o);
    served *a = models_get(ms, NULL, NULL, &e);
    for (int i = 0; i < 13; i++) usleep(100000), models_tick(ms);
    served *b = models_peek(ms, NULL);                  /* held: however long */
    assert_ptr_equal(a, b);
    models_put(ms, a), models_put(ms, b);
    int64_t end = os_now_ns() + 20 * (int64_t)1000000000;
    while ((b = models_peek(ms, NULL)) && os_now_ns() < end) {
        models_put(ms, b);
        usleep(300000);                                 /* looking is no use of it … */
        models_tick(ms);
    }
    assert_null(b);
    models_free(ms);
}

/* Shares of a budget: what is open together fits, and what cannot is refused. */
static void budget(void **state)
{
    (void)state;
    dr_err e = {0};
    models_opt o = options(2);
    o.engine.kv_positions = 0, o.engine.n_ctx = 0;
    o.budget = (size_t)16 << 20;
    models *ms = made(&o);
    served *a = models_get(ms, id[0], NULL, &e), *b = models_get(ms, id[1], NULL, &e);
    assert_true(a && b);
    engine_stats x, y;
    do engine_stats_get(a->eng, &x), engine_stats_get(b->eng, &y);
    while (!x.kv_positions || !y.kv_positions);         /* counted by the engines' threads */
    assert_int_equal(x.kv_positions, y.kv_positions);
    assert_true(x.bytes + y.bytes <= o.budget && x.bytes + y.bytes > o.budget / 2);
    models_put(ms, a), models_put(ms, b);
    models_free(ms);
    o.budget = 200000;
    assert_null(models_new(&o, &e));
    assert_non_null(strstr(e.msg, "too little"));
}

typedef struct { models *ms; unsigned seed; int got, busy; } worker;

static void *work(void *arg)
{
    worker *w = arg;
    for (int i = 0; i < 40; i++) {
        dr_err e = {0};
        w->seed = w->seed * 1103515245u + 12345;
        int which = (int)(w->seed >> 16) % 3, what = (int)(w->seed >> 20) % 8;
        if (what == 0) models_unload(w->ms, id[which], &e);
        else if (what == 1) models_put(w->ms, models_peek(w->ms, id[which]));
        else if (what == 2) models_tick(w->ms);
        else {
            served *s = models_get(w->ms, id[which], NULL, &e);
            if (!s) DR_ASSERT(e.code == DR_EBUSY);
            if (s) DR_ASSERT(!strcmp(s->id, id[which]) && s->eng && tok_count(s->tok) == 259);
            if (s) w->got++;
            else w->busy++;
            models_put(w->ms, s);
        }
    }
    return NULL;
}

static void threads(void **state)
{
    (void)state;
    models_opt o = options(3);
    o.max_open = 2, o.idle_s = 1;
    size_t live = mem_live_bytes();
    models *ms = made(&o);
    worker w[4];
    pthread_t t_[4];
    int got = 0;
    for (int i = 0; i < 4; i++) {
        w[i] = (worker){ ms, (unsigned)i + 1, 0, 0 };
        assert_int_equal(pthread_create(&t_[i], NULL, work, &w[i]), 0);
    }
    for (int i = 0; i < 4; i++) pthread_join(t_[i], NULL), got += w[i].got;
    assert_true(got > 20);
    models_free(ms);
    assert_int_equal(mem_live_bytes(), live);
}

static void no_memory(void **state)
{
    (void)state;
    models_opt o = options(1);
    for (long k = 0;; k += k < 60 ? 1 : 7) {
        dr_err e = {0};
        size_t live = mem_live_bytes();
        mem_fail_after(k);
        models *ms = models_new(&o, &e);
        mem_fail_after(-1);
        models_free(ms);
        if (mem_live_bytes() != live) fail_msg("allocation %ld fails: %zu bytes were not freed", k, mem_live_bytes() - live);
        if (ms) break;
        assert_true(e.code && *e.msg && k < 100000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names), cmocka_unit_test(held), cmocka_unit_test(idle), cmocka_unit_test(budget),
        cmocka_unit_test(threads), cmocka_unit_test(no_memory),
    };
    (void)set_up, (void)tear_down;
    return cmocka_run_group_tests(tests, set_up_models, tear_down_models);
}
