/* test_mixed.c - replies with different adapters at once, by the engine: each as it is alone with the adapter given
 * to the model for good, whatever the prefix cache held; adapters unloaded and replaced while they are used. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/mem.h"
#include "byte_model.h"
#include "engine/engine.h"
#include "peft.h"

enum { ADAPTERS = 4, ASKED = 20, LEN = 24 };
static char dir[] = "/tmp/drover-mixed-XXXXXX", folder[ADAPTERS][64];
static const char prompt_text[] = "The quick brown fox jumps over the lazy dog. Pack my box with five dozen liquor "
                                  "jugs. How vexingly quick daft zebras jump. Sphinx of black quartz, judge my vow.";

typedef struct { int32_t id[LEN]; float logprob[LEN]; int n, cached; ticket *k; bool done; } reply;

/* Request i: its prompt begins as all do and ends in its own way; half of them are sampled. */
static void ask(engine *g, int i, int adapter, bool no_cache, reply *r)
{
    dr_err e = {0};
    int32_t tok[200];
    int n = 0, retry;
    for (const char *p = prompt_text; *p && n < 130 + i % 3 * 20; p++) tok[n++] = (unsigned char)*p == 'e' ? 101 : 40 + (unsigned char)*p % 80;
    tok[n++] = 50 + i % 5;
    engine_req q;
    engine_req_init(&q);
    q.prompt = tok, q.n_prompt = n, q.max_tokens = LEN, q.ignore_eos = true;
    q.sample.temperature = i % 2 ? 0.8 : 0, q.sample.seed = 7, q.sample.logprobs = true;
    q.adapter = adapter, q.no_cache = no_cache;
    *r = (reply){0};
    if (engine_submit(g, &q, &r->k, &retry, &e)) fail_msg("%s", e.msg);
}

static void collect(reply *r, int n)
{
    for (int left = n; left;) {
        bool any = false;
        for (int i = 0; i < n; i++) {
            engine_event ev;
            while (!r[i].done && ticket_next(r[i].k, &ev)) {
                any = true;
                if (ev.kind == ENGINE_TOKEN) r[i].logprob[r[i].n] = ev.logprob, r[i].id[r[i].n++] = ev.id;
                if (ev.kind != ENGINE_DONE) continue;
                if (ev.code) fail_msg("%s", ev.msg);
                r[i].cached = ev.usage.n_cached;
                r[i].done = true, left--;
                ticket_free(r[i].k);
            }
        }
        if (!any) nanosleep(&(struct timespec){ .tv_nsec = 200000 }, NULL);
    }
}

static void same(const reply *a, const reply *b, const char *what, int i)
{
    if (a->n != LEN || b->n != LEN || memcmp(a->id, b->id, sizeof a->id) || memcmp(a->logprob, b->logprob, sizeof a->logprob))
        fail_msg("%s: reply %d is another", what, i);
}

static engine *start(model *on)
{
    dr_err e = {0};
    engine *g = engine_new(on, t, &(engine_opt){ .n_ctx = 256, .kv_positions = 32768, .step_tokens = 48,
                                                 .max_running = 32 }, &e);
    if (!g) fail_msg("%s", e.msg);
    return g;
}

/* Adapter of request i: 0 … 3, or -1 for none. */
static int who(int i) { return i % (ADAPTERS + 1) - 1; }

/* Each request by an engine whose model has the adapter for good, one at a time, nothing cached. */
static void alone(reply want[ASKED])
{
    dr_err e = {0};
    for (int a = -1; a < ADAPTERS; a++) {
        model *own = model_open(model_path, &(dev_opt){ .n_threads = 1 }, &e);
        if (!own) fail_msg("%s", e.msg);
        if (a >= 0 && model_add_lora(own, &(lora_ref){ folder[a], 1 }, &e)) fail_msg("%s", e.msg);
        engine *g = start(own);
        for (int i = 0; i < ASKED; i++)
            if (who(i) == a) ask(g, i, 0, true, &want[i]), collect(&want[i], 1);
        engine_free(g);
        model_close(own);
    }
}

static int load(engine *g, const char *name, int a)
{
    dr_err e = {0};
    if (engine_adapter_load(g, name, folder[a], 1, &e)) fail_msg("%s", e.msg);
    int n = engine_adapter_find(g, name);
    assert_true(n > 0);
    return n;
}

static reply want[ASKED];

static void mixed_as_alone(void **state)
{
    (void)state;
    engine *g = start(m);
    int number[ADAPTERS], hits = 0;
    char name[8];
    for (int a = 0; a < ADAPTERS; a++) snprintf(name, sizeof name, "a%d", a), number[a] = load(g, name, a);
    reply got[ASKED];
    for (int round = 0; round < 3; round++) {            /* the second finds what the first has cached */
        for (int i = 0; i < ASKED; i++) ask(g, i, who(i) < 0 ? 0 : number[who(i)], round == 2, &got[i]);
        collect(got, ASKED);
        for (int i = 0; i < ASKED; i++) same(&want[i], &got[i], "mixed", i), hits += round == 1 && got[i].cached > 0;
    }
    assert_true(hits > ASKED / 2);
    for (int i = 1; i <= ADAPTERS; i++)                  /* adapters do change replies */
        assert_true(memcmp(want[0].logprob, want[5 + i].logprob, sizeof want->logprob) != 0);
    engine_free(g);
}

static void unloaded_and_replaced(void **state)
{
    (void)state;
    dr_err e = {0};
    engine *g = start(m);
    reply got[ASKED];
    int one = load(g, "x", 0), n = 0;
    for (int i = 1; i < ASKED; i += 5) ask(g, i, one, false, &got[n++]);
    assert_int_equal(engine_adapter_unload(g, "x", &e), DR_OK);     /* while they run or wait */
    assert_int_equal(engine_adapter_find(g, "x"), -1);
    int two = load(g, "x", 1);                           /* another under the same name, at once */
    assert_true(two != one);
    engine_req q;
    int retry;
    ticket *k;
    int32_t id = 60;
    engine_req_init(&q);
    q.prompt = &id, q.n_prompt = 1, q.adapter = one;
    assert_int_not_equal(engine_submit(g, &q, &k, &retry, &e), DR_OK);
    for (int i = 2; i < ASKED; i += 5) ask(g, i, two, false, &got[n++]);
    collect(got, n);
    for (int i = 0; i < n; i++) same(&want[i < n / 2 ? 1 + 5 * i : 2 + 5 * (i - n / 2)], &got[i], "replaced", i);
    size_t had = mem_live_bytes();
    for (int round = 0; round < 90; round++) {           /* more than there are places: no bytes, no prefixes stay */
        int a = round % ADAPTERS;
        e = (dr_err){0};
        assert_int_equal(engine_adapter_unload(g, "x", &e), DR_OK);
        int x = load(g, "x", a);
        ask(g, 1 + a, x, false, &got[0]);
        collect(got, 1);
        same(&want[1 + a], &got[0], "turn by turn", round);
    }
    assert_true(mem_live_bytes() < had + (1 << 20));
    engine_free(g);
}

static int begin(void **state)
{
    if (set_up(state) || !mkdtemp(dir)) return -1;
    static const struct { int kinds, r; } made[ADAPTERS] = {
        { PEFT_ATTN, 16 }, { PEFT_ATTN | PEFT_FFN, 8 }, { PEFT_ALL, 4 }, { PEFT_FFN, 32 } };
    for (int a = 0; a < ADAPTERS; a++) {
        snprintf(folder[a], sizeof folder[a], "%s/%d", dir, a);
        peft_write(folder[a], &m->h, made[a].kinds, made[a].r, (uint64_t)a + 1);
    }
    alone(want);
    return 0;
}

static int end(void **state)
{
    for (int a = 0; a < ADAPTERS; a++) peft_remove(folder[a]);
    rmdir(dir);
    return tear_down(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(mixed_as_alone), cmocka_unit_test(unloaded_and_replaced) };
    return cmocka_run_group_tests(tests, begin, end);
}
