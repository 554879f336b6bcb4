/* test_generate.c - replies: stop strings, length, a full context (stopped or shifted), the same
 * seed the same reply, several samples, cancelling; and the public API over the same engine. The
 * model is random over a byte-level vocabulary made here. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/mem.h"
#include "byte_model.h"
#include "gen/generate.h"

static session *fresh(int n_ctx)
{
    dr_err e = {0};
    session *s = session_new(m, &(session_opt){ .n_ctx = n_ctx }, &e);
    if (!s) fail_msg("%s", e.msg);
    return s;
}

static const int32_t prompt[] = { 72, 101, 108, 108, 111 };

static gen_result reply(session *s, const gen_opt *o)
{
    gen_result r;
    dr_err e = {0};
    if (gen_run(s, t, prompt, 5, o, &r, &e)) fail_msg("%s", e.msg);
    return r;
}

static gen_opt greedy(int n)
{
    gen_opt o = { .sample = sample_opt_default(), .max_tokens = n, .ignore_eos = true };
    o.sample.temperature = 0;
    return o;
}

static void length_and_seed(void **state)
{
    (void)state;
    session *s = fresh(256);
    gen_opt o = greedy(40);
    gen_result a = reply(s, &o), b = reply(s, &o);
    assert_int_equal(a.finish, GEN_LENGTH);
    assert_int_equal(a.n_gen, 40);
    assert_int_equal(a.tokens.n, 40);
    assert_int_equal(b.n_reused, 4);
    assert_memory_equal(a.tokens.p, b.tokens.p, 40 * sizeof(int32_t));
    gen_result_free(&b);
    o.sample.temperature = 1.5f;
    o.sample.seed = 11;
    gen_result c = reply(s, &o), d = reply(s, &o);
    assert_memory_equal(c.tokens.p, d.tokens.p, 40 * sizeof(int32_t));
    o.sample_index = 1;
    gen_result f = reply(s, &o);
    assert_memory_not_equal(c.tokens.p, f.tokens.p, 40 * sizeof(int32_t));
    gen_result_free(&a), gen_result_free(&c), gen_result_free(&d), gen_result_free(&f);
    session_free(s);
}

static void stop_string(void **state)
{
    (void)state;
    session *s = fresh(256);
    gen_opt o = greedy(60);
    gen_result a = reply(s, &o);
    assert_true(a.text.n > 20);
    char stop[4] = { 0 };
    memcpy(stop, a.text.p + 10, 3);
    size_t at = (size_t)(strstr(buf_str(&a.text), stop) - a.text.p);
    const char *list[] = { stop };
    o.stop = list, o.n_stop = 1;
    gen_result b = reply(s, &o);
    assert_int_equal(b.finish, GEN_STOP_STRING);
    assert_int_equal(b.text.n, at);
    assert_memory_equal(a.text.p, b.text.p, at);
    gen_result_free(&a), gen_result_free(&b);
    session_free(s);
}

static void count_shift(void *arg, int n) { *(int *)arg += n; }

static void full_context(void **state)
{
    (void)state;
    session *s = fresh(64);
    gen_opt o = greedy(0);
    gen_result a = reply(s, &o);
    assert_int_equal(a.finish, GEN_CONTEXT);
    assert_int_equal(session_len(s), 64);
    assert_int_equal(a.n_gen, 64 - 5 + 1);          // the last is picked, not evaluated
    int dropped = 0;
    o = greedy(150);
    o.shift = true, o.keep = 5, o.shifted = count_shift, o.arg = &dropped;
    gen_result b = reply(s, &o);
    assert_int_equal(b.finish, GEN_LENGTH);
    assert_true(b.n_shifts >= 3 && dropped > 60);
    assert_memory_equal(session_tokens(s), prompt, sizeof prompt);      // kept
    assert_memory_equal(a.tokens.p, b.tokens.p, 59 * sizeof(int32_t));
    gen_result_free(&a), gen_result_free(&b);
    session_free(s);
}

static int cancel_at_three(void *arg, const gen_piece *p)
{
    (void)p;
    return ++*(int *)arg == 3;
}

static void cancelled(void **state)
{
    (void)state;
    session *s = fresh(64);
    int n = 0;
    gen_opt o = greedy(20);
    o.piece = cancel_at_three, o.arg = &n;
    gen_result a = reply(s, &o);
    assert_int_equal(a.finish, GEN_CANCEL);
    assert_int_equal(a.n_gen, 3);
    gen_result_free(&a);
    session_free(s);
}

/* ---- constraints */

typedef struct { vtrie *v; grammar *g; matcher *m; } held_to;

static held_to hold(grammar_kind k, const char *text)
{
    dr_err e = {0};
    held_to h = { .v = vtrie_new(t, &e) };
    h.g = grammar_new(k, span_of(text), h.v, &e);
    h.m = h.g ? matcher_new(h.g, &e) : NULL;
    if (!h.m) fail_msg("%s", e.msg);
    return h;
}

static void let_go(held_to h)
{
    matcher_free(h.m);
    grammar_free(h.g);
    vtrie_free(h.v);
}

/* Forced tokens are not sampled, but log-probabilities make every token a sampled one: the same ids. */
static void forced_text(void **state)
{
    (void)state;
    session *s = fresh(256);
    held_to h = hold(GRAMMAR_GBNF, "root ::= \"begin \" [a-z]{2,9} \" and the long rest \" (\"x\" | \"yy\") \"!\"");
    for (uint64_t seed = 0; seed < 12; seed++) {
        gen_opt o = { .sample = sample_opt_default(), .max_tokens = 60, .constraint = h.m };
        o.sample.temperature = seed ? 1.5f : 0;
        o.sample.seed = seed;
        o.sample.repeat_penalty = 1.2f;
        gen_result a = reply(s, &o);
        o.sample.logprobs = true;
        gen_result b = reply(s, &o);
        assert_true(a.satisfied && b.satisfied);
        assert_int_equal(a.finish, GEN_EOS);
        assert_true(a.n_forced >= 20 && b.n_forced == 0);
        assert_int_equal(a.tokens.n, b.tokens.n);
        assert_memory_equal(a.tokens.p, b.tokens.p, (size_t)a.tokens.n * sizeof(int32_t));
        assert_true(!strncmp(buf_str(&a.text), "begin ", 6) && a.text.p[a.text.n - 1] == '!');
        gen_result_free(&a), gen_result_free(&b);
    }
    let_go(h);
    session_free(s);
}

/* JSON of the schema in whatever room there is: of the tokens asked for, or of the context. */
static void closed_in_time(void **state)
{
    (void)state;
    session *s = fresh(64);
    held_to h = hold(GRAMMAR_SCHEMA, "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\"},\"b\":{\"type\":"
                                     "\"array\",\"items\":{\"type\":\"number\"},\"minItems\":1}},\"required\":[\"a\",\"b\"]}");
    int need = (int)grammar_shortest(h.g);
    for (uint64_t seed = 0; seed < 40; seed++) {
        gen_opt o = { .sample = sample_opt_default(), .constraint = h.m };
        o.sample.temperature = 1.5f, o.sample.seed = seed;
        o.max_tokens = seed < 30 ? need + (int)seed : 0;     /* the last ten: the context's end */
        gen_result a = reply(s, &o);
        json_t *j = json_loadb(a.text.p, a.text.n, 0, NULL);
        if (!a.satisfied || !j) fail_msg("seed %d: %s", (int)seed, buf_str(&a.text));
        assert_true(json_is_string(json_object_get(j, "a")) && json_array_size(json_object_get(j, "b")));
        json_decref(j);
        gen_result_free(&a);
    }
    gen_opt o = { .sample = sample_opt_default(), .max_tokens = need - 1, .constraint = h.m };
    gen_result r;
    dr_err e = {0};
    int len = session_len(s);
    assert_int_equal(gen_run(s, t, prompt, 5, &o, &r, &e), DR_EINVAL);
    assert_non_null(strstr(e.msg, "takes"));
    assert_int_equal(session_len(s), len);                   /* nothing was evaluated */
    gen_result_free(&r);
    let_go(h);
    session_free(s);
}

static void constraint_and_stops(void **state)
{
    (void)state;
    session *s = fresh(256);
    held_to h = hold(GRAMMAR_REGEX, "abcdefgh");
    gen_opt o = greedy(40);
    const char *stop[] = { "ef" };
    o.constraint = h.m;
    gen_result a = reply(s, &o);                             /* ignoring ends: it just ends */
    assert_true(a.satisfied && a.finish == GEN_EOS && a.n_gen == 8);
    assert_string_equal(buf_str(&a.text), "abcdefgh");
    o.ignore_eos = false;
    gen_result b = reply(s, &o);
    assert_true(b.satisfied && b.n_gen == 9 && tok_is_eog(t, b.tokens.p[8]));
    o.stop = stop, o.n_stop = 1;
    gen_result c = reply(s, &o);
    assert_true(!c.satisfied && c.finish == GEN_STOP_STRING);
    assert_string_equal(buf_str(&c.text), "abcd");
    stop[0] = "gh";                                          /* it ends the text, and is taken off it */
    gen_result d = reply(s, &o);
    assert_true(!d.satisfied && d.finish == GEN_STOP_STRING);
    gen_result_free(&d);
    gen_result_free(&a), gen_result_free(&b), gen_result_free(&c);
    let_go(h);
    session_free(s);
}

static void public_api(void **state)
{
    (void)state;
    dr_err e = {0};
    dr_model *dm = dr_model_open(model_path, &(dr_model_opt){ .n_threads = 1 }, &e);
    if (!dm) fail_msg("%s", e.msg);
    assert_int_equal(dr_model_vocab(dm), 259);
    int32_t *id;
    int n;
    assert_int_equal(dr_tokenize(dm, "Hello", 5, 0, &id, &n, &e), DR_OK);
    assert_int_equal(n, 5);
    assert_memory_equal(id, prompt, sizeof prompt);
    char *text;
    assert_int_equal(dr_detokenize(dm, id, n, 0, &text, NULL, &e), DR_OK);
    assert_string_equal(text, "Hello");
    dr_free(text);
    assert_null(dr_session_new(dm, &(dr_session_opt){ .kv_type = "q9" }, &e));
    assert_non_null(strstr(e.msg, "q9"));
    e = (dr_err){0};
    dr_session *s = dr_session_new(dm, &(dr_session_opt){ .n_ctx = 64, .kv_type = "f32" }, &e);
    if (!s) fail_msg("%s", e.msg);
    assert_null(dr_session_logits(s));
    assert_int_equal(dr_session_sync(s, id, n, &e), DR_OK);
    assert_non_null(dr_session_logits(s));
    dr_gen_opt o = dr_gen_default(dm);
    dr_gen_stats st;
    o.max_tokens = 7, o.temperature = 0;
    assert_int_equal(dr_generate(s, id, n, &o, NULL, NULL, &st, &e), DR_OK);
    assert_true(st.n_generated <= 7 && st.n_prompt == 5);
    o.regex = "[ab]{3}";
    assert_int_equal(dr_generate(s, id, n, &o, NULL, NULL, &st, &e), DR_OK);
    assert_true(st.satisfied);
    o.grammar = "root ::= \"x\"";
    assert_int_equal(dr_generate(s, id, n, &o, NULL, NULL, &st, &e), DR_EINVAL);
    e = (dr_err){0}, o.regex = NULL;
    assert_int_equal(dr_generate(s, id, n, &o, NULL, NULL, &st, &e), DR_OK);
    o.grammar = NULL, o.json_schema = "{\"contains\":{}}";
    assert_int_equal(dr_generate(s, id, n, &o, NULL, NULL, &st, &e), DR_EUNSUPPORTED);
    e = (dr_err){0}, o.json_schema = NULL;
    dr_chat_message msg = { "user", "hi" };
    assert_int_not_equal(dr_chat(s, &msg, 1, &o, NULL, NULL, NULL, &e), DR_OK);  // no template
    assert_true(e.msg[0]);
    dr_free(id);
    dr_session_free(s);
    dr_model_close(dm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(length_and_seed), cmocka_unit_test(stop_string),
        cmocka_unit_test(full_context), cmocka_unit_test(cancelled), cmocka_unit_test(forced_text),
        cmocka_unit_test(closed_in_time), cmocka_unit_test(constraint_and_stops),
        cmocka_unit_test(public_api),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
