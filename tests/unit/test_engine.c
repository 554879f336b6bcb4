/* test_engine.c - many replies at once: each is what gen_run makes of it alone, whatever else is in the step,
 * however prompts are cut, whatever the prefix cache holds; ends, cancelling, deadlines, slow readers,
 * memory that has to be given back. The model is random over a byte-level vocabulary made here. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <pthread.h>
#include <cmocka.h>
#include "base/mem.h"
#include "base/os.h"
#include "byte_model.h"
#include "engine/engine.h"

enum { MAX_TOK = 512 };

/* A reply collected from events. */
typedef struct {
    int32_t id[MAX_TOK];
    float logprob[MAX_TOK];
    int n, n_text;
    char text[4 * MAX_TOK];
    engine_finish finish;
    bool finished;
    char stop[64];
} got;
typedef struct {
    got r[8];
    engine_usage usage;
    int code, n_prompt_probs;
    int32_t prompt_id[MAX_TOK];
    float prompt_logprob[MAX_TOK];
    char msg[200];
    bool begun, done;
} answer;

/* Rung by wake; who waits for it and is never woken fails. */
typedef struct { pthread_mutex_t lock; pthread_cond_t cond; int n; } bell;
static bell door = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0 };
static void ring(void *arg)
{
    bell *b = arg;
    pthread_mutex_lock(&b->lock);
    b->n++;
    pthread_cond_signal(&b->cond);
    pthread_mutex_unlock(&b->lock);
}

static void wait_ring(bell *b, int *heard)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 60;
    pthread_mutex_lock(&b->lock);
    while (b->n == *heard)
        if (pthread_cond_timedwait(&b->cond, &b->lock, &until)) fail_msg("not woken for a minute");
    *heard = b->n;
    pthread_mutex_unlock(&b->lock);
}

static void take_event(answer *a, const engine_event *ev)
{
    got *r = &a->r[ev->sample];
    switch (ev->kind) {
    case ENGINE_BEGIN:
        assert_false(a->begun);
        a->begun = true;
        break;
    case ENGINE_PROMPT_TOKEN:
        assert_true(a->begun && !a->r[0].n);
        a->prompt_id[ev->pos] = ev->id;
        a->prompt_logprob[ev->pos] = ev->logprob;
        a->n_prompt_probs++;
        break;
    case ENGINE_TOKEN:
        assert_true(a->begun && !r->finished && r->n < MAX_TOK);
        r->logprob[r->n] = ev->logprob;
        r->id[r->n++] = ev->id;
        memcpy(r->text + r->n_text, ev->text.p, ev->text.n);
        r->n_text += (int)ev->text.n;
        break;
    case ENGINE_FINISH:
        assert_false(r->finished);
        r->finished = true;
        r->finish = ev->finish;
        memcpy(r->text + r->n_text, ev->text.p, ev->text.n);
        r->n_text += (int)ev->text.n;
        if (ev->stop) snprintf(r->stop, sizeof r->stop, "%s", ev->stop);
        break;
    case ENGINE_VECTOR:
        break;
    case ENGINE_DONE:
        assert_false(a->done);
        a->done = true;
        a->usage = ev->usage;
        a->code = ev->code;
        snprintf(a->msg, sizeof a->msg, "%s", ev->msg);
        break;
    }
}

/* All events until DONE. */
static void collect(ticket *tk, answer *a)
{
    memset(a, 0, sizeof *a);
    engine_event ev;
    int heard = -1;
    while (!a->done) {
        while (ticket_next(tk, &ev)) take_event(a, &ev);
        if (!a->done) wait_ring(&door, &heard);
    }
    assert_false(ticket_next(tk, &ev));
}

static engine *make(const engine_opt *o)
{
    dr_err e = {0};
    engine *g = engine_new(m, t, o, &e);
    if (!g) fail_msg("%s", e.msg);
    return g;
}

static ticket *submit(engine *g, const engine_req *r)
{
    dr_err e = {0};
    ticket *tk = NULL;
    int retry;
    if (engine_submit(g, r, &tk, &retry, &e)) fail_msg("%s", e.msg);
    return tk;
}

/* Request number i: prompts of many lengths with common beginnings, all ways to sample and to stop. */
static int32_t prompt_of[64][300];
static const char *const stops[] = { "e", "th", "qu" };
static engine_req request(int i)
{
    engine_req r;
    engine_req_init(&r);
    int n = 3 + i * 37 % 280;
    for (int k = 0; k < n; k++) prompt_of[i][k] = 32 + (k * 7 + (k > 150 ? i : i % 3) * 11) % 90;
    r.prompt = prompt_of[i], r.n_prompt = n;
    r.max_tokens = 5 + i * 13 % 60;
    r.wake = ring, r.arg = &door;
    r.sample.seed = (uint64_t)i * 1000 + 1;
    r.sample.temperature = i % 3 == 0 ? 0 : i % 3 == 1 ? 0.8f : 1.3f;
    r.ignore_eos = i % 4 == 0;
    if (i % 5 == 1) r.sample.top_p = 0.9f, r.sample.top_k = 40;
    if (i % 5 == 2) r.sample.repeat_penalty = 1.3f, r.sample.presence_penalty = 0.3f, r.sample.penalty_last_n = 64;
    if (i % 5 == 3) r.stop = stops, r.n_stop = 3;
    if (i % 5 == 4) r.sample.dry_multiplier = 0.8f, r.sample.min_p = 0.02f;
    r.sample.logprobs = i % 2;
    return r;
}

/* The same by gen_run. */
static gen_result alone(const engine_req *r, int sample)
{
    dr_err e = {0};
    session *s = session_new(m, &(session_opt){ .n_ctx = 512 }, &e);
    gen_opt o = { .sample = r->sample, .sample_index = (uint64_t)sample, .max_tokens = r->max_tokens, .stop = r->stop,
                  .n_stop = r->n_stop, .ignore_eos = r->ignore_eos };
    gen_result a;
    if (!s || gen_run(s, t, r->prompt, r->n_prompt, &o, &a, &e)) fail_msg("%s", e.msg);
    session_free(s);
    return a;
}

static void same(const got *r, const gen_result *a, int i)
{
    static const engine_finish f[] = { ENGINE_STOP, ENGINE_STOP, ENGINE_LENGTH, ENGINE_CONTEXT, ENGINE_CANCELLED };
    if (r->n != a->n_gen || memcmp(r->id, a->tokens.p, (size_t)r->n * sizeof *r->id))
        fail_msg("request %d: %d tokens where %d are right, or others", i, r->n, a->n_gen);
    assert_int_equal(r->finish, f[a->finish]);
    assert_int_equal(r->n_text, a->text.n);
    assert_memory_equal(r->text, a->text.p, a->text.n);
}

static void each_as_alone(const engine_opt *o)
{
    enum { N = 40 };
    static answer a[N];
    gen_result x[N];                                        /* first: the device serves one at a time */
    for (int i = 0; i < N; i++) {
        engine_req r = request(i);
        x[i] = alone(&r, 0);
    }
    engine *g = make(o);
    for (int round = 0; round < 2; round++) {               /* the second finds prefixes */
        ticket *tk[N];
        for (int i = 0; i < N; i++) {
            engine_req r = request(i);
            tk[i] = submit(g, &r);
        }
        for (int i = 0; i < N; i++) {
            collect(tk[i], &a[i]);
            ticket_free(tk[i]);
            same(&a[i].r[0], &x[i], i);
            assert_int_equal(a[i].code, DR_OK);
            assert_int_equal(a[i].usage.n_gen, x[i].n_gen);
        }
    }
    engine_stats st;
    engine_stats_get(g, &st);
    assert_int_equal(st.requests, 2 * N);
    assert_true(st.prefix_hits > 0);
    assert_int_equal(st.kv_used, 0);
    engine_free(g);
    for (int i = 0; i < N; i++) gen_result_free(&x[i]);
}

static void among_many(void **state)
{
    (void)state;
    each_as_alone(&(engine_opt){ .n_ctx = 512 });
}

static void small_steps(void **state)
{
    (void)state;
    each_as_alone(&(engine_opt){ .n_ctx = 512, .step_tokens = 17, .max_running = 5 });
}

static void little_memory(void **state)
{
    (void)state;
    each_as_alone(&(engine_opt){ .n_ctx = 512, .kv_positions = 640, .step_tokens = 64 });
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(among_many), cmocka_unit_test(small_steps), cmocka_unit_test(little_memory),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
