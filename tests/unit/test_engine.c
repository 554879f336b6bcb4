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
#include <math.h>
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
    float vec[MAX_TOK];
    int n_vec;
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
        assert_true(a->begun && ev->n_vec <= MAX_TOK && !a->n_vec);
        a->n_vec = ev->n_vec;
        memcpy(a->vec, ev->vec, (size_t)ev->n_vec * sizeof *a->vec);
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
enum { PROMPTS = 64 };
static int32_t prompt_of[PROMPTS][300];
static int set_up_all(void **state)
{
    for (int i = 0; i < PROMPTS; i++)
        for (int k = 0; k < 300; k++) prompt_of[i][k] = 32 + (k * 7 + (k > 150 ? i : i % 3) * 11) % 90;
    return set_up(state);
}
static const char *const stops[] = { "e", "th", "qu" };
static const sample_bias two[] = { { 66, 40 }, { 67, 39 } };
static engine_req request(int i)
{
    engine_req r;
    engine_req_init(&r);
    r.prompt = prompt_of[i], r.n_prompt = 3 + i * 37 % 280;
    r.max_tokens = 5 + i * 13 % 60;
    r.wake = ring, r.arg = &door;
    r.sample.seed = (uint64_t)i * 1000 + 1;
    r.sample.temperature = i % 3 == 0 ? 0 : i % 3 == 1 ? 0.8f : 1.3f;
    r.ignore_eos = i % 4 == 0;
    if (i % 5 == 1) r.sample.top_p = 0.9f, r.sample.top_k = 40;
    if (i % 5 == 2) r.sample.repeat_penalty = 1.3f, r.sample.presence_penalty = 0.3f, r.sample.penalty_last_n = 64;
    if (i % 5 == 3) r.stop = stops, r.n_stop = 3;
    if (i % 5 == 4) r.sample.dry_multiplier = 0.8f, r.sample.min_p = 0.02f;
    if (i % 3 == 2) r.sample.bias = two, r.sample.n_bias = 2;        /* a text that repeats itself */
    r.sample.logprobs = i % 2;
    return r;
}

/* Any number of them: greedy, or at temperature 0.8 with a seed of its own. */
static engine_req many(int i)
{
    engine_req r = request(i % PROMPTS);
    r.sample.temperature = i % 2 ? 0.8f : 0;
    r.sample.seed = (uint64_t)i;
    r.max_tokens = 3 + i % 29;
    return r;
}

/* The same by gen_run. */
static gen_result alone(const engine_req *r, int sample)
{
    dr_err e = {0};
    session *s = session_new(m, &(session_opt){ .n_ctx = 512 }, &e);
    gen_opt o = { .sample = r->sample, .sample_index = (uint64_t)sample, .max_tokens = r->max_tokens, .stop = r->stop,
                  .n_stop = r->n_stop, .ignore_eos = r->ignore_eos };
    gen_result a = {0};
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
    if (o->spec) assert_true(st.drafted > 100 && st.accepted > 20 && st.accepted < st.drafted);
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


static void speculation(void **state)
{
    (void)state;
    each_as_alone(&(engine_opt){ .n_ctx = 512, .spec = SPEC_NGRAM, .spec_min = 4, .max_running = 4 });
    each_as_alone(&(engine_opt){ .n_ctx = 512, .spec = SPEC_NGRAM, .spec_min = 20, .spec_max = 31, .max_running = 2, .step_tokens = 20 });
}

/* 500 at once on 32 places, speculation on and off: each as alone. */
static void five_hundred(void **state)
{
    (void)state;
    enum { N = 500 };
    static gen_result x[N];
    static answer a;
    ticket *tk[N];
    for (int i = 0; i < N; i++) {
        engine_req r = many(i);
        x[i] = alone(&r, 0);
    }
    for (int on = 0; on < 2; on++) {
        engine *g = make(&(engine_opt){ .n_ctx = 512, .max_running = 32, .max_waiting = N, .step_tokens = 128,
                                        .kv_positions = 32 * 128, .spec = on ? SPEC_NGRAM : SPEC_NONE });
        for (int i = 0; i < N; i++) {
            engine_req r = many(i);
            tk[i] = submit(g, &r);
        }
        for (int i = 0; i < N; i++) {
            collect(tk[i], &a);
            same(&a.r[0], &x[i], i);
            ticket_free(tk[i]);
        }
        engine_free(g);
    }
    for (int i = 0; i < N; i++) gen_result_free(&x[i]);
}

/* ---- several replies to one prompt */

static void samples(void **state)
{
    (void)state;
    enum { N = 6 };
    engine_req r = request(9);
    r.n_samples = N, r.sample.temperature = 1.2f;
    gen_result x[N];
    for (int i = 0; i < N; i++) x[i] = alone(&r, i);
    /* fewer places than samples; as many; and without the cache, where each evaluates the prompt */
    for (int round = 0; round < 3; round++) {
        engine *g = make(&(engine_opt){ .n_ctx = 512, .max_running = round ? 8 : 2 });
        r.no_cache = round == 2;
        answer a;
        ticket *tk = submit(g, &r);
        collect(tk, &a);
        for (int i = 0; i < N; i++) same(&a.r[i], &x[i], i);
        assert_int_equal(a.usage.n_prompt, r.n_prompt);
        ticket_free(tk);
        engine_stats st;
        engine_stats_get(g, &st);
        assert_int_equal(st.kv_used, 0);
        assert_true(round < 2 ? st.kv_cached > 0 : st.kv_cached == 0);
        engine_free(g);
    }
    for (int i = 0; i < N; i++) gen_result_free(&x[i]);
}

/* A prefix outlives the engine; what it gives is what evaluating gives. */
static void restart(void **state)
{
    (void)state;
    char dir[] = "/tmp/drover-store-XXXXXX", cmd[64];
    assert_non_null(mkdtemp(dir));
    engine_req r = request(7);
    r.n_stop = 0;
    gen_result x = alone(&r, 0);
    for (int round = 0; round < 3; round++) {
        engine *g = make(&(engine_opt){ .n_ctx = 512, .store = dir });
        for (int again = 0; again < 2; again++) {
            answer a;
            ticket *tk = submit(g, &r);
            collect(tk, &a);
            ticket_free(tk);
            same(&a.r[0], &x, 7);
            int least = again ? r.n_prompt - 1 : round ? (r.n_prompt - 1) / 64 * 64 : 0;
            assert_int_equal(a.usage.n_cached, least);
        }
        engine_free(g);
    }
    gen_result_free(&x);
    snprintf(cmd, sizeof cmd, "rm -r %s", dir);
    assert_int_equal(system(cmd), 0);
}

/* ---- what a request can ask for */

static answer ask(engine *g, const engine_req *r)
{
    answer a;
    ticket *tk = submit(g, r);
    collect(tk, &a);
    ticket_free(tk);
    return a;
}

static void lengths(void **state)
{
    (void)state;
    engine *g = make(&(engine_opt){ .n_ctx = 320 });
    engine_req r = request(8);                              /* no end by itself */
    r.n_stop = 0;
    r.max_tokens = 0;
    answer a = ask(g, &r);
    assert_true(a.begun && a.r[0].finished);
    assert_int_equal(a.r[0].n, 0);
    assert_int_equal(a.r[0].finish, ENGINE_LENGTH);
    r.max_tokens = -1;
    a = ask(g, &r);
    assert_int_equal(a.r[0].finish, ENGINE_CONTEXT);
    assert_int_equal(a.r[0].n, 320 - r.n_prompt + 1);       /* the last is picked, not evaluated */
    r.n_prompt = 320;
    int32_t full[320];
    for (int i = 0; i < 320; i++) full[i] = 40 + i % 40;
    r.prompt = full;
    a = ask(g, &r);
    assert_int_equal(a.r[0].finish, ENGINE_CONTEXT);
    assert_int_equal(a.r[0].n, 1);
    engine_free(g);
}

static void ends(void **state)
{
    (void)state;
    engine *g = make(&(engine_opt){ .n_ctx = 512 });
    engine_req r = request(0);
    r.max_tokens = 60, r.ignore_eos = true;
    answer a = ask(g, &r);
    assert_int_equal(a.r[0].n, 60);
    /* an id of the request's own: at its first place, and not before min_tokens */
    int at = 10;
    int32_t end = a.r[0].id[at];
    while (at > 0 && memchr(a.r[0].text, end, (size_t)at)) at--, end = a.r[0].id[at];
    int first = 0;
    while (a.r[0].id[first] != end) first++;
    r.ignore_eos = false, r.end = &end, r.n_end = 1;
    answer b = ask(g, &r);
    assert_int_equal(b.r[0].finish, ENGINE_STOP);
    assert_int_equal(b.r[0].n, first + 1);
    assert_int_equal(b.r[0].id[first], end);
    r.min_tokens = first + 5;
    b = ask(g, &r);
    assert_true(b.r[0].n > first + 5);
    for (int i = 0; i < first + 5; i++) assert_int_not_equal(b.r[0].id[i], end);
    /* a stop string: left out, or kept */
    r.n_end = 0, r.min_tokens = 0;
    char word[4] = { 0 };
    memcpy(word, a.r[0].text + 20, 3);
    int where = (int)(strstr(a.r[0].text, word) - a.r[0].text);
    const char *list[] = { "\001never", word };
    r.stop = list, r.n_stop = 2;
    b = ask(g, &r);
    assert_int_equal(b.r[0].finish, ENGINE_STOP);
    assert_string_equal(b.r[0].stop, word);
    assert_int_equal(b.r[0].n_text, where);
    r.keep_stop = true;
    b = ask(g, &r);
    assert_int_equal(b.r[0].n_text, where + 3);
    assert_memory_equal(b.r[0].text, a.r[0].text, (size_t)where + 3);
    engine_free(g);
}

/* The same log-probabilities as a session's logits give, however the prompt was cut, and none from the cache. */
static void prompt_probs(void **state)
{
    (void)state;
    engine_req r = request(7);                              /* 262 tokens */
    static float want[MAX_TOK];
    dr_err e = {0};
    session *s = session_new(m, &(session_opt){ .n_ctx = 512 }, &e);
    sample_opt o = sample_opt_default();
    sampler *smp = sampler_new_shared(m->h.V, 512, 1, &e);
    o.logprobs = true;
    sampler_use(smp, &o, NULL);
    for (int i = 0; i + 1 < r.n_prompt; i++) {
        sample_result p;
        assert_int_equal(session_append(s, r.prompt + i, 1, NULL, &e), DR_OK);
        assert_int_equal(sampler_report(smp, session_logits(s), r.prompt[i + 1], &p, &e), DR_OK);
        want[i + 1] = p.logprob;
    }
    sampler_free(smp);
    session_free(s);
    for (int round = 0; round < 4; round++) {
        engine *g = make(&(engine_opt){ .n_ctx = 512, .step_tokens = round & 1 ? 24 : 512, .max_running = 8 });
        r.prompt_probs = round < 2 ? 0 : 3;
        for (int again = 0; again < 2; again++) {
            answer a = ask(g, &r);
            assert_int_equal(a.n_prompt_probs, r.n_prompt - 1);
            for (int i = 1; i < r.n_prompt; i++) {
                assert_int_equal(a.prompt_id[i], r.prompt[i]);
                if (a.prompt_logprob[i] != want[i])
                    fail_msg("token %d: %g, %g is right", i, (double)a.prompt_logprob[i], (double)want[i]);
            }
        }
        engine_free(g);
    }
}

/* Mean and last hidden states, normalised, from one plain forward pass; and however the prompt is cut. */
static void embeddings(void **state)
{
    (void)state;
    engine_req r = request(7);
    int n = r.n_prompt, C = m->h.C;
    dr_err e = {0};
    workspace ws;
    kv_cache kv;
    kv_seq s;
    int32_t row[300];
    for (int i = 0; i < n; i++) row[i] = i;
    assert_int_equal(workspace_init(&ws, m, 512, 1, 512, &e), 0);
    assert_int_equal(kv_init(&kv, m->d, KV_F16, m->h.L, m->h.nkv, m->h.hs, 512, &e), 0);
    assert_int_equal(kv_seq_init(&s, 512, &e), 0);
    assert_int_equal(kv_grow(&kv, &s, n, &e), 0);
    seq_run run = { 0, n, 0, s.page };
    model_eval(m, &ws, &kv, &(model_step){ .tok = r.prompt, .N = n, .run = &run, .n_runs = 1, .hid = row, .n_hid = n });
    double want[2][MAX_TOK] = { { 0 } };
    for (int i = 0; i < n; i++)
        for (int j = 0; j < C; j++) want[0][j] += (double)ws.hidden[i * C + j];
    for (int j = 0; j < C; j++) want[1][j] = (double)ws.hidden[(n - 1) * C + j];
    kv_seq_free(&kv, &s), kv_free(&kv), workspace_free(&ws);
    for (int round = 0; round < 4; round++) {
        engine *g = make(&(engine_opt){ .n_ctx = 512, .step_tokens = round & 1 ? 17 : 512, .max_running = 8 });
        r.task = round < 2 ? ENGINE_EMBED_MEAN : ENGINE_EMBED_LAST;
        for (int again = 0; again < 2; again++) {
            answer a = ask(g, &r);
            double *w = want[round / 2], norm = 0;
            assert_int_equal(a.n_vec, C);
            for (int j = 0; j < C; j++) norm += w[j] * w[j];
            for (int j = 0; j < C; j++) assert_float_equal(a.vec[j], (float)(w[j] / sqrt(norm)), 1e-6);
        }
        engine_free(g);
    }
}

static void refused(void **state)
{
    (void)state;
    engine *g = make(&(engine_opt){ .n_ctx = 128 });
    int32_t wrong[] = { 1, 259 }, many[200] = { 0 };
    const char *empty[] = { "" };
    static char huge[5000];
    memset(huge, 'x', sizeof huge - 1);
    const char *too_long[] = { huge };
    sample_bias bias = { 400, 1 };
    engine_req good = request(0), r;
    struct { const char *say; } want[] = { { "n_prompt" }, { "n_samples" }, { "vocabulary" }, { "context" }, { "stop string 1" },
        { "stop string 1" }, { "tenant" }, { "temperature" }, { "bias" }, { "prompt_probs" }, { "max_tokens" },
        { "unloaded" }, { "embedding" } };
    for (int i = 0; i < 13; i++) {
        r = good;
        switch (i) {
        case 0: r.n_prompt = 0; break;
        case 1: r.n_samples = ENGINE_SAMPLES_MAX + 1; break;
        case 2: r.prompt = wrong, r.n_prompt = 2; break;
        case 3: r.prompt = many, r.n_prompt = 129; break;
        case 4: r.stop = empty, r.n_stop = 1; break;
        case 5: r.stop = too_long, r.n_stop = 1; break;
        case 6: r.tenant = ENGINE_TENANTS; break;
        case 7: r.sample.temperature = -1; break;
        case 8: r.sample.bias = &bias, r.sample.n_bias = 1; break;
        case 9: r.prompt_probs = ENGINE_TOP_MAX + 1; break;
        case 10: r.max_tokens = -2; break;
        case 11: r.adapter = 12345; break;
        case 12: r.task = ENGINE_EMBED_LAST, r.n_samples = 2; break;
        }
        dr_err e = {0};
        ticket *tk = NULL;
        int retry, rc = engine_submit(g, &r, &tk, &retry, &e);
        assert_int_equal(rc, i == 11 ? DR_ENOTFOUND : DR_EINVAL);
        assert_null(tk);
        if (!strstr(e.msg, want[i].say)) fail_msg("case %d: \"%s\" says nothing of %s", i, e.msg, want[i].say);
    }
    engine_drain(g);
    dr_err e = {0};
    ticket *tk = NULL;
    int retry = 0;
    assert_int_equal(engine_submit(g, &good, &tk, &retry, &e), DR_EBUSY);
    assert_true(retry >= 1);
    engine_free(g);
}

/* Every failing allocation of a submission is said, and nothing leaks. */
static void no_memory(void **state)
{
    (void)state;
    engine *g = make(&(engine_opt){ .n_ctx = 128 });
    engine_req r = request(3);
    r.n_samples = 2, r.min_tokens = 2;
    size_t before = mem_live_bytes();
    int failed = 0;
    for (int n = 0; n < 200; n++) {
        ticket *tk = NULL;
        int retry;
        dr_err e = {0};
        mem_fail_after(n);
        int rc = engine_submit(g, &r, &tk, &retry, &e);
        mem_fail_after(-1);
        if (!rc) {
            answer a;
            collect(tk, &a);
            ticket_free(tk);
            break;
        }
        assert_int_equal(rc, DR_ENOMEM);
        failed++;
    }
    assert_true(failed > 5);
    while (!engine_idle(g)) usleep(100);
    for (int i = 0; i < 1000 && mem_live_bytes() != before; i++) usleep(1000);
    assert_int_equal(mem_live_bytes(), before);
    engine_free(g);
}

/* ---- constraints */

static void constraints(void **state)
{
    (void)state;
    static const char schema[] = "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\"},\"b\":{\"type\":"
                                 "\"array\",\"items\":{\"type\":\"number\"},\"minItems\":1}},\"required\":[\"a\",\"b\"]}";
    dr_err e = {0};
    vtrie *v = vtrie_new(t, &e);
    grammar *gr[2] = { grammar_new(GRAMMAR_SCHEMA, span_of(schema), v, &e),
        grammar_new(GRAMMAR_GBNF, span_of("root ::= \"begin \" [a-z]{2,9} \" and the rest \" (\"x\" | \"yy\") \"!\""), v, &e) };
    assert_non_null(gr[0]);
    assert_non_null(gr[1]);
    enum { N = 12 };
    static answer a;
    gen_result x[N][2];
    for (int i = 0; i < N; i++) {
        engine_req r = request(i);
        r.max_tokens = 50 + i, r.n_stop = 0;
        for (int k = 0; k < 2; k++) {
            matcher *mt = matcher_new(gr[i % 2], &e);
            session *s = session_new(m, &(session_opt){ .n_ctx = 512 }, &e);
            gen_opt o = { .sample = r.sample, .sample_index = (uint64_t)k, .max_tokens = r.max_tokens, .constraint = mt,
                          .ignore_eos = r.ignore_eos };
            if (gen_run(s, t, r.prompt, r.n_prompt, &o, &x[i][k], &e)) fail_msg("%s", e.msg);
            session_free(s);
            matcher_free(mt);
        }
    }
    engine *g = make(&(engine_opt){ .n_ctx = 512, .step_tokens = 40, .max_running = 9 });
    ticket *tk[N];
    for (int i = 0; i < N; i++) {
        engine_req r = request(i);
        r.max_tokens = 50 + i, r.n_stop = 0, r.n_samples = 2, r.constraint = gr[i % 2];
        tk[i] = submit(g, &r);
    }
    engine_req r = request(0);
    r.constraint = gr[0], r.max_tokens = 3;
    ticket *none = NULL;
    int retry;
    assert_int_equal(engine_submit(g, &r, &none, &retry, &e), DR_EINVAL);
    grammar_free(gr[0]), grammar_free(gr[1]);               /* the tickets hold them */
    for (int i = 0; i < N; i++) {
        collect(tk[i], &a);
        for (int k = 0; k < 2; k++) {
            same(&a.r[k], &x[i][k], i);
            gen_result_free(&x[i][k]);
        }
        ticket_free(tk[i]);
    }
    engine_free(g);
    vtrie_free(v);
}

/* ---- readers and owners */

/* A reader that reads nothing stops its own sequence, nobody else's; when it reads on it gets everything. */
static void slow_reader(void **state)
{
    (void)state;
    engine_req r = request(4);
    r.max_tokens = 300, r.ignore_eos = true, r.n_prompt = 40;
    gen_result x = alone(&r, 0);
    engine *g = make(&(engine_opt){ .n_ctx = 512 });
    ticket *slow = submit(g, &r);
    for (int i = 0; i < 3; i++) {
        engine_req o = request(i);
        answer a = ask(g, &o);
        assert_true(a.done && !a.code);
    }
    engine_stats st;
    for (int i = 0; i < 200; i++) {
        engine_stats_get(g, &st);
        usleep(1000);
    }
    uint64_t steps = st.steps;
    usleep(20000);
    engine_stats_get(g, &st);
    assert_int_equal(st.steps, steps);                      /* it waits */
    assert_int_equal(st.running, 1);
    answer a;
    collect(slow, &a);
    same(&a.r[0], &x, 4);
    ticket_free(slow);
    gen_result_free(&x);
    engine_free(g);
}

static void cancelled(void **state)
{
    (void)state;
    engine *g = make(&(engine_opt){ .n_ctx = 512, .max_running = 4, .step_tokens = 8 });
    for (int round = 0; round < 30; round++) {
        ticket *tk[8];
        for (int i = 0; i < 8; i++) {
            engine_req r = request(i + round % 20);
            r.max_tokens = 200, r.n_samples = 1 + i % 3;
            tk[i] = submit(g, &r);
        }
        usleep((useconds_t)round * 300);
        for (int i = 0; i < 8; i++) ticket_free(tk[(i * 5 + round) % 8]);
    }
    int64_t until = os_now_ns() + 10000000000;
    while (!engine_idle(g) && os_now_ns() < until) usleep(100);
    engine_stats st;
    engine_stats_get(g, &st);
    assert_int_equal(st.running + st.waiting, 0);
    assert_int_equal(st.kv_used, 0);
    assert_true(st.finished[ENGINE_CANCELLED] > 200);
    engine_free(g);
}

static void deadlines(void **state)
{
    (void)state;
    engine *g = make(&(engine_opt){ .n_ctx = 512 });
    engine_req r = request(4);
    r.max_tokens = -1, r.ignore_eos = true, r.n_samples = 2;
    r.deadline_ns = os_now_ns() + 300000000;
    ticket *tk = submit(g, &r);                             /* nobody reads: it cannot end before */
    while (!engine_idle(g)) usleep(1000);
    assert_true(os_now_ns() >= r.deadline_ns);
    answer a;
    collect(tk, &a);
    ticket_free(tk);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(a.r[i].finish, ENGINE_DEADLINE);
    }
    assert_int_equal(a.code, DR_OK);
    r.deadline_ns = 1;                                      /* over before it begins */
    a = ask(g, &r);
    assert_int_equal(a.r[1].finish, ENGINE_DEADLINE);
    assert_int_equal(a.r[0].n + a.begun, 0);
    engine_free(g);
}

/* Tickets outlive the engine. */
static void engine_first(void **state)
{
    (void)state;
    engine *g = make(&(engine_opt){ .n_ctx = 512, .max_running = 2 });
    ticket *tk[6];
    for (int i = 0; i < 6; i++) {
        engine_req r = request(i);
        tk[i] = submit(g, &r);
    }
    engine_free(g);
    for (int i = 0; i < 6; i++) ticket_free(tk[i]);
}

/* Submitters, readers and leavers at once. */
typedef struct { engine *g; int number, wrong; } client;
static gen_result right[16];
static void *client_run(void *arg)
{
    client *c = arg;
    bell b = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0 };
    static _Thread_local answer a;
    for (int k = 0; k < 25; k++) {
        int i = (c->number * 7 + k * 3) % 16;
        engine_req r = request(i);
        r.arg = &b;
        ticket *tk = NULL;
        int retry;
        if (engine_submit(c->g, &r, &tk, &retry, NULL)) {
            c->wrong++;
            continue;
        }
        if ((c->number + k) % 3 == 0) {                     /* leaves at once, or a little later */
            int heard = -1;
            engine_event ev;
            if (k % 2) {
                if (!ticket_next(tk, &ev)) wait_ring(&b, &heard);
            }
            ticket_free(tk);
            pthread_mutex_lock(&b.lock);
            heard = b.n;
            pthread_mutex_unlock(&b.lock);
            usleep(200);
            c->wrong += b.n != heard;                       /* woken after ticket_free */
            continue;
        }
        memset(&a, 0, sizeof a);
        engine_event ev;
        int heard = 0;
        while (!a.done) {
            while (ticket_next(tk, &ev)) take_event(&a, &ev);
            if (!a.done) wait_ring(&b, &heard);
        }
        c->wrong += a.code || a.r[0].n != right[i].n_gen ||
                    memcmp(a.r[0].id, right[i].tokens.p, (size_t)a.r[0].n * sizeof(int32_t));
        ticket_free(tk);
    }
    return NULL;
}

static void crowd(void **state)
{
    (void)state;
    enum { N = 6 };
    for (int i = 0; i < 16; i++) {
        engine_req r = request(i);
        right[i] = alone(&r, 0);
    }
    engine *g = make(&(engine_opt){ .n_ctx = 512, .kv_positions = 1500, .max_running = 5, .step_tokens = 50 });
    pthread_t th[N];
    client c[N];
    for (int i = 0; i < N; i++) {
        c[i] = (client){ g, i, 0 };
        pthread_create(&th[i], NULL, client_run, &c[i]);
    }
    for (int i = 0; i < N; i++) {
        pthread_join(th[i], NULL);
        assert_int_equal(c[i].wrong, 0);
    }
    engine_free(g);
    for (int i = 0; i < 16; i++) gen_result_free(&right[i]);
}

/* From the first token of a batch to its last nothing is allocated. */
static void no_allocations(void **state)
{
    (void)state;
    enum { N = 8 };
    engine *g = make(&(engine_opt){ .n_ctx = 512 });
    ticket *tk[N];
    static answer a[N];
    memset(a, 0, sizeof a);
    for (int i = 0; i < N; i++) {
        engine_req r = request(i);
        r.max_tokens = 150, r.ignore_eos = true, r.n_stop = 0, r.n_prompt = r.n_prompt > 100 ? 100 : r.n_prompt;
        tk[i] = submit(g, &r);
    }
    long before = 0;
    int heard = -1, begun = 0, done = 0, tokens = 0;
    while (done < N) {
        begun = done = tokens = 0;
        for (int i = 0; i < N; i++) {
            engine_event ev;
            while (ticket_next(tk[i], &ev)) take_event(&a[i], &ev);
            begun += a[i].begun, done += a[i].done, tokens += a[i].r[0].n;
        }
        if (begun == N && !before && tokens < N * 100) before = mem_count();
        if (done < N) wait_ring(&door, &heard);
    }
    assert_true(before > 0);
    assert_int_equal(mem_count(), before);
    for (int i = 0; i < N; i++) ticket_free(tk[i]);
    engine_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(among_many), cmocka_unit_test(small_steps), cmocka_unit_test(little_memory), cmocka_unit_test(speculation),
        cmocka_unit_test(five_hundred), cmocka_unit_test(embeddings),
        cmocka_unit_test(samples), cmocka_unit_test(restart), cmocka_unit_test(lengths), cmocka_unit_test(ends),
        cmocka_unit_test(prompt_probs), cmocka_unit_test(refused), cmocka_unit_test(no_memory),
        cmocka_unit_test(constraints), cmocka_unit_test(slow_reader), cmocka_unit_test(cancelled),
        cmocka_unit_test(deadlines), cmocka_unit_test(engine_first), cmocka_unit_test(crowd),
        cmocka_unit_test(no_allocations),
    };
    return cmocka_run_group_tests(tests, set_up_all, tear_down);
}
