/* test_spec.c - speculation: the n-gram index against a plain search, and that no option, length of
 * draft or source of guesses changes a reply: its ids, pieces, log-probabilities, its end, and what
 * the session holds afterwards. */
#define _GNU_SOURCE
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "base/mem.h"
#include "base/rng.h"
#include "byte_model.h"
#include "drover.h"
#include "gen/generate.h"
#include "gen/ngram.h"

/* ---- the index */

static int32_t draw(uint64_t i, int n) { return (int32_t)(rng_uniform(7, 3, i) * n); }

/* How many tokens before `at` equal the end of x[0..n). */
static int agreement(const int32_t *x, int n, int at)
{
    int len = 0;
    while (len < NGRAM_MAX && len < at && x[at - 1 - len] == x[n - 1 - len]) len++;
    return len;
}

static void finds_longest(void **state)
{
    (void)state;
    static const int orders[] = { 16, 8, 5, 3, 2, 1 };
    dr_err e = {0};
    enum { N = 1200 };
    static int32_t x[N];
    for (int letters = 2; letters <= 200; letters *= 4) {
        ngram *g = ngram_new(1 << 15, &e);
        int lost = 0;
        assert_non_null(g);
        for (int n = 0; n < N; n++) {
            /* fresh letters, now and then a stretch of what was there before */
            int back = 1 + draw((uint64_t)(n / 40 + 1) * 77, 300);
            x[n] = n % 40 > 12 && n > back ? x[n - back] : draw((uint64_t)n * 31 + (uint64_t)letters, letters);
            ngram_match f = ngram_find(g);
            int want = 0, at = 0;                /* the newest place of the longest order that has one */
            for (int k = 0; k < 6 && !want; k++)
                for (int p = n - 1; p > 0 && !want; p--)
                    if (agreement(x, n, p) >= orders[k]) want = agreement(x, n, p), at = p;
            assert_int_equal(f.len, f.len ? agreement(x, n, f.at) : 0);
            lost += f.len != want || f.at != at;
            ngram_put(g, x[n]);
            assert_int_equal(ngram_len(g), n + 1);
        }
        print_message("%d letters: %d of %d missed\n", letters, lost, N);
        assert_true(lost <= N / 50);             /* places that another n-gram took */
        ngram_free(g);
    }
}

static void forgets_the_oldest(void **state)
{
    (void)state;
    dr_err e = {0};
    ngram *g = ngram_new(64, &e);
    long before = mem_count();
    int due = 0, found = 0;
    for (int i = 0; i < 5000; i++) {
        ngram_put(g, i % 50 < 25 ? i % 50 : draw((uint64_t)i, 1000));
        ngram_match f = ngram_find(g);
        int n = ngram_len(g);
        assert_true(n <= 64 && f.at < n + (f.len == 0));
        if (f.len) assert_int_equal(f.len, agreement(ngram_text(g), n, f.at));
        if (i > 200 && i % 50 > 0 && i % 50 < 20 && n > 54)      /* the run of 25 was there 50 before */
            due++, found += f.len > 0;
    }
    assert_true(due > 300 && found > due * 9 / 10);
    assert_int_equal(mem_count(), before);
    ngram_clear(g);
    assert_int_equal(ngram_find(g).len, 0);
    ngram_free(g);
}

static void copies_go_on(void **state)
{
    (void)state;
    dr_err e = {0};
    ngram *g = ngram_new(100, &e);
    const int32_t x[] = { 9, 1, 2, 3, 1, 2, 3, 1 }, want[] = { 2, 3, 1, 2, 3, 1, 2 };
    int32_t out[7];
    for (int i = 0; i < 8; i++) ngram_put(g, x[i]);
    ngram_match f = ngram_find(g);
    assert_int_equal(f.at, 5);
    assert_int_equal(f.len, 4);
    ngram_copy(g, f, 7, out);
    assert_memory_equal(out, want, sizeof want);
    ngram_free(g);
}

/* ---- how many guesses: made-up times of steps, no model evaluated */

/* Text against guesses: what follows `text`, of n letters, guess being the first of k > 0 guesses. */
typedef int32_t (*author)(const int32_t *text, int n, int k, int32_t guess);

static int32_t copies(const int32_t *text, int n, int k, int32_t guess)
{
    (void)k, (void)guess;
    return text[n - 400];
}

static int32_t never_repeats(const int32_t *text, int n, int k, int32_t guess)
{
    (void)text, (void)k, (void)guess;
    return n % 250;
}

/* As was foreseen while nobody bets on it, and otherwise when somebody does. */
static int32_t spites(const int32_t *text, int n, int k, int32_t guess)
{
    return k ? (guess + 1) % 250 : text[n - 400];
}

/* Time of `want` tokens over that of as many plain steps, when n columns take t(n) of one's. */
static double worth(author next, double (*t_of)(int n), int want)
{
    static int32_t text[8000];
    dr_err e = {0};
    spec *sp = spec_new(&(spec_opt){ SPEC_NGRAM, 0, 0, NULL }, m, 4096, &e);
    sample_opt o = sample_opt_default();
    int n = 400;
    for (int i = 0; i < n; i++) text[i] = draw((uint64_t)i * 5, 250);
    assert_int_equal(spec_begin(sp, &o, text, n, &e), DR_OK);
    double time = 0;
    for (int end = n + want; n < end;) {
        int32_t out[SPEC_MAX];
        spec_where w = { .tok = text, .n_tok = n - 1, .held = text + n - 1, .n_held = 1, .room = 100 };
        int k = spec_guess(sp, &w, out), i = 0;
        assert_in_range(k, 0, SPEC_MAX_DEFAULT);
        spec_timed(sp, k + 1, (int64_t)(t_of(k + 1) * 1e6));
        time += t_of(k + 1);
        do {
            text[n] = next(text, n, i < k ? k - i : 0, i < k ? out[i] : -1);
            spec_took(sp, text[n++]);
        } while (i < k && out[i++] == text[n - 1]);
    }
    spec_free(sp);
    return time / want;
}

static double cheap(int n) { return 1 + 0.1 * (n - 1); }
static double real(int n) { return n <= 4 ? 1 + 0.22 * (n - 1) : n <= 8 ? 2.5 : 4.5; }
static double dear(int n) { return n; }

static void lengths_that_pay(void **state)
{
    (void)state;
    assert_true(worth(copies, cheap, 400) < 0.25);
    assert_true(worth(copies, real, 400) < 0.40);
    double (*const all[])(int) = { cheap, real, dear };
    author const hard[] = { never_repeats, spites, copies };
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 3; k++) {
            double w = worth(hard[k], all[i], 300);
            if (w > 1.0 + 1.0 / 50 + 2.0 / 300) fail_msg("costs %d, author %d: %.3f", i, k, w);
        }
}

/* ---- the same reply */

typedef struct {
    gen_result r;
    buf pieces;                 /* each piece's text, id, log-probabilities */
    int len;
    float logits[259];          /* of the token after what the session holds */
} told;

static int note(void *arg, const gen_piece *p)
{
    buf *b = arg;
    buf_put(b, &p->id, sizeof p->id);
    buf_put(b, p->text.p, p->text.n);
    buf_putc(b, '|');
    if (!p->pick) return 0;
    buf_put(b, &p->pick->logprob, sizeof p->pick->logprob);
    for (int i = 0; i < p->pick->n_top; i++) {
        buf_put(b, &p->pick->top[i].id, sizeof(int32_t));
        buf_put(b, &p->pick->top[i].logprob, sizeof(float));
    }
    return 0;
}

static void note_shift(void *arg, int n) { buf_put(arg, &n, sizeof n); }

/* Text with repetitions, so that there is something to find. */
static const char prompt[] = "one two three, one two three, one two four; abcabcabcabc one two";

static int n_drafted, n_accepted;

static told tell(gen_opt o, const spec_opt *so, const model *target, int n_ctx, kv_type kv)
{
    dr_err e = {0};
    told v = {0};
    buf_init(&v.pieces, 1 << 20);
    session *s = session_new(target, &(session_opt){ .n_ctx = n_ctx, .n_logits = spec_rows(so),
                                                     .kv_set = true, .kv = kv }, &e);
    if (so->kind != SPEC_NONE) o.spec = spec_new(so, target, n_ctx, &e);
    o.piece = note, o.shifted = note_shift, o.arg = &v.pieces;
    int32_t id[sizeof prompt];
    int n = (int)sizeof prompt - 1;
    for (int i = 0; i < n; i++) id[i] = (unsigned char)prompt[i];
    if (!s || e.code || gen_run(s, t, id, n, &o, &v.r, &e)) fail_msg("%s", e.msg);
    n_drafted += v.r.n_drafted, n_accepted += v.r.n_accepted;
    v.len = session_len(s);
    /* what is held is whole: one more token, from here and from nothing */
    session *f = session_new(target, &(session_opt){ .n_ctx = n_ctx, .kv_set = true, .kv = kv }, &e);
    if (!f || session_sync(f, session_tokens(s), v.len, NULL, NULL, &e)) fail_msg("%s", e.msg);
    size_t row = (size_t)target->h.V * sizeof(float);
    if (session_logits(s)) assert_memory_equal(session_logits(s), session_logits(f), row);
    if (v.len < n_ctx) {
        const int32_t more = 'x';
        if (session_append(s, &more, 1, NULL, &e) || session_append(f, &more, 1, NULL, &e)) fail_msg("%s", e.msg);
        assert_memory_equal(session_logits(s), session_logits(f), row);
    }
    memcpy(v.logits, session_logits(f), row);
    session_free(f);
    session_free(s);
    spec_free(o.spec);
    return v;
}

static void untell(told *v)
{
    gen_result_free(&v->r);
    buf_free(&v->pieces);
}

static void same(told *a, told *b, const char *name, const spec_opt *so, bool constrained)
{
    if (a->r.finish != b->r.finish || a->r.n_gen != b->r.n_gen || a->r.n_forced != b->r.n_forced
        || a->r.n_shifts != b->r.n_shifts || a->r.satisfied != b->r.satisfied)
        fail_msg("%s, drafts of %d to %d: another end (%d and %d tokens)", name, so->min, so->max,
                 a->r.n_gen, b->r.n_gen);
    if (memcmp(a->r.tokens.p, b->r.tokens.p, (size_t)a->r.tokens.n * sizeof(int32_t))
        || a->r.text.n != b->r.text.n || memcmp(buf_str(&a->r.text), buf_str(&b->r.text), a->r.text.n))
        fail_msg("%s, drafts of %d to %d: another text", name, so->min, so->max);
    if (a->pieces.n != b->pieces.n || memcmp(buf_str(&a->pieces), buf_str(&b->pieces), a->pieces.n))
        fail_msg("%s, drafts of %d to %d: other pieces", name, so->min, so->max);
    /* where a constraint ends the text its last tokens need no evaluation; guesses had theirs */
    if (constrained) return;
    assert_int_equal(a->len, b->len);
    assert_memory_equal(a->logits, b->logits, sizeof a->logits);
}

static const spec_opt lengths[] = {
    { SPEC_NGRAM, 0, 0, NULL }, { SPEC_NGRAM, 1, 1, NULL }, { SPEC_NGRAM, 2, 2, NULL },
    { SPEC_NGRAM, 5, 3, NULL }, { SPEC_NGRAM, 15, 15, NULL }, { SPEC_NGRAM, 31, 31, NULL },
};

typedef struct { const char *name; gen_opt o; int n_ctx; kv_type kv; } variant;

/* The reply of a variant with every length of draft, from this model and with this draft model. */
static void all_lengths(const variant *v, const model *draft)
{
    const spec_opt none = {0};
    told plain = tell(v->o, &none, m, v->n_ctx, v->kv);
    assert_int_equal(plain.r.n_drafted, 0);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        spec_opt so = lengths[i];
        if (draft) so.kind = SPEC_DRAFT, so.draft = draft;
        told ahead = tell(v->o, &so, m, v->n_ctx, v->kv);
        same(&plain, &ahead, v->name, &so, v->o.constraint != NULL);
        /* of itself, with its filters and random numbers: every guess comes true */
        if (draft == m && so.min && v->kv == KV_F16 && !v->o.constraint)
            assert_int_equal(ahead.r.n_accepted, ahead.r.n_drafted);
        untell(&ahead);
    }
    untell(&plain);
}

static gen_opt base(float temperature, int n)
{
    gen_opt o = { .sample = sample_opt_default(), .max_tokens = n, .ignore_eos = true };
    o.sample.temperature = temperature, o.sample.seed = 5;
    return o;
}

static void matrix(const model *draft)
{
    static const sample_bias bias[] = { { 'e', 4 }, { 't', -INFINITY }, { ' ', 3 } };
    static const int32_t breakers[] = { '\n', ':' };
    enum { N = 90 };
    variant v[] = {
        { "greedy", base(0, N), 512, KV_F16 },
        { "greedy, Q8_0 cache", base(0, N), 512, KV_Q8_0 },
        { "greedy, Q4_0 cache", base(0, N), 512, KV_Q4_0 },
        { "temperature", base(0.7f, N), 512, KV_F16 },
        { "low temperature", base(0.2f, N), 512, KV_F16 },
        { "another sample", base(0.3f, N), 512, KV_F32 },
        { "top-k, top-p, min-p, typical", base(0.5f, N), 512, KV_F16 },
        { "XTC", base(0.5f, N), 512, KV_F16 },
        { "penalties", base(0, N), 512, KV_F16 },
        { "DRY", base(0.3f, N), 512, KV_F16 },
        { "bias", base(0.3f, N), 512, KV_F16 },
        { "log-probabilities", base(0.3f, N), 512, KV_F16 },
        { "filtered log-probabilities", base(0.4f, N), 512, KV_F16 },
        { "one token", base(0, 1), 512, KV_F16 },
        { "two tokens", base(0, 2), 512, KV_F16 },
        { "the context's end", base(0, 0), 100, KV_F16 },
        { "the context shifted", base(0.2f, 200), 100, KV_F16 },
        { "the model's ends", base(0.3f, N), 512, KV_F16 },
    };
    v[5].o.sample_index = 3;
    v[6].o.sample.top_k = 20, v[6].o.sample.top_p = 0.9f, v[6].o.sample.min_p = 0.01f, v[6].o.sample.typical_p = 0.95f;
    v[7].o.sample.xtc_probability = 0.5f, v[7].o.sample.xtc_threshold = 0.1f;
    v[8].o.sample.repeat_penalty = 1.1f, v[8].o.sample.frequency_penalty = 0.05f, v[8].o.sample.presence_penalty = 0.1f;
    v[8].o.sample.penalty_last_n = 24;
    v[9].o.sample.dry_multiplier = 0.8f, v[9].o.sample.dry_breakers = breakers, v[9].o.sample.n_dry_breakers = 2;
    v[10].o.sample.bias = bias, v[10].o.sample.n_bias = 3;
    v[11].o.sample.logprobs = true, v[11].o.sample.n_probs = 5;
    v[12].o.sample.logprobs = true, v[12].o.sample.n_probs = 3, v[12].o.sample.probs_after_filters = true;
    v[16].o.shift = true, v[16].o.keep = 7;
    v[17].o.ignore_eos = false;
    for (size_t i = 0; i < sizeof v / sizeof *v; i++) all_lengths(&v[i], draft);
}

static void same_reply(void **state)
{
    (void)state;
    n_drafted = n_accepted = 0;
    matrix(NULL);
    print_message("%d of %d guesses accepted\n", n_accepted, n_drafted);
    assert_true(n_accepted > 200 && n_drafted - n_accepted > 200);    /* both happen much */
}

/* Drafts of the model itself, and of another one. */
static void same_reply_drafted(void **state)
{
    (void)state;
    char path[] = "/tmp/drover-draft-XXXXXX.gguf";
    n_drafted = n_accepted = 0;
    matrix(m);
    print_message("itself: %d of %d guesses accepted\n", n_accepted, n_drafted);
    assert_true(n_accepted > 4000);
    model *other = byte_model(path, "dim=32,layers=1,heads=1,kv_heads=1,head_dim=32,ffn=64,vocab=259,ctx=512,tied=0,std=0.3",
                              9, m);
    assert_non_null(other);
    n_drafted = n_accepted = 0;
    matrix(other);
    print_message("another: %d of %d guesses accepted\n", n_accepted, n_drafted);
    assert_true(n_drafted > 4000 && n_accepted * 2 < n_drafted);
    model_close(other);
    unlink(path);
}

/* Stop strings that begin and end anywhere in what was guessed. */
static void stop_strings(void **state)
{
    (void)state;
    variant v = { "stop strings", base(0, 80), 512, KV_F16 };
    const spec_opt none = {0};
    told plain = tell(v.o, &none, m, 512, KV_F16);
    assert_true(plain.r.text.n > 60);
    for (int at = 3; at < 60; at += 4) {
        char stop[4] = { 0 };
        memcpy(stop, plain.r.text.p + at, 3);
        if (memchr(stop, 0, 3)) continue;
        const char *list[] = { stop };
        v.o.stop = list, v.o.n_stop = 1;
        all_lengths(&v, NULL);
    }
    untell(&plain);
}

static void constraints(void **state)
{
    (void)state;
    static const struct { grammar_kind k; const char *text; } c[] = {
        { GRAMMAR_GBNF, "root ::= \"one two \" [a-z]{2,9} \" one two three, one two \" (\"x\" | \"yy\") \"!\"" },
        { GRAMMAR_SCHEMA, "{\"type\":\"array\",\"items\":{\"enum\":[\"one two three\",\"one two four\"]},\"minItems\":3,\"maxItems\":5}" },
        { GRAMMAR_REGEX, "(abc|one two| |[x-z]){4,20}" },
    };
    dr_err e = {0};
    for (int i = 0; i < 3; i++) {
        vtrie *vt = vtrie_new(t, &e);
        grammar *g = grammar_new(c[i].k, span_of(c[i].text), vt, &e);
        matcher *mt = g ? matcher_new(g, &e) : NULL;
        if (!mt) fail_msg("%s", e.msg);
        for (int k = 0; k < 12; k++) {
            variant v = { c[i].text, base(k % 3 ? 0.8f : 0, 90), 512, KV_F16 };
            v.o.constraint = mt, v.o.sample.seed = (uint64_t)k, v.o.sample.logprobs = k % 2;
            v.o.ignore_eos = k % 4 == 3;
            if (k > 8) v.n_ctx = 136, v.o.max_tokens = 0;        /* closed before the context ends */
            all_lengths(&v, NULL);
            all_lengths(&v, m);
        }
        matcher_free(mt);
        grammar_free(g);
        vtrie_free(vt);
    }
}

/* Several replies with one speculation: what it learned and what it still held changes nothing; and
 * a state that is saved after guesses were dropped goes on as it should. */
static void one_after_another(void **state)
{
    (void)state;
    dr_err e = {0};
    char path[] = "/tmp/drover-spec-XXXXXX.state";
    int fd = mkstemps(path, 6);
    assert_true(fd >= 0);
    close(fd);
    const spec_opt none = {0}, so = { SPEC_NGRAM, 15, 6, NULL };
    session *s = session_new(m, &(session_opt){ .n_ctx = 256, .n_logits = spec_rows(&so) }, &e);
    session *u = session_new(m, &(session_opt){ .n_ctx = 256, .n_logits = spec_rows(&so) }, &e);
    spec *sp = spec_new(&so, m, 256, &e);
    int32_t id[] = { 'o', 'n', 'e', ' ', 'o', 'n', 'e', ' ' };
    for (int i = 0; i < 6; i++) {
        gen_opt o = base(i % 2 ? 0.6f : 0, 30 + i);
        o.sample.seed = (uint64_t)i, o.spec = sp;
        gen_result a, b;
        if (gen_run(s, t, id, 8 - i % 3, &o, &a, &e)) fail_msg("%s", e.msg);
        if (session_save(s, path, &e) || session_load(u, path, &e)) fail_msg("%s", e.msg);
        assert_int_equal(session_len(u), 8 - i % 3 + a.n_gen - 1);
        o.spec = NULL;
        if (gen_run(u, t, id, 8 - i % 3, &o, &b, &e)) fail_msg("%s", e.msg);
        assert_int_equal(a.n_gen, b.n_gen);
        assert_memory_equal(a.tokens.p, b.tokens.p, (size_t)a.n_gen * sizeof(int32_t));
        /* the loaded state and the one that made it continue alike */
        if (session_load(u, path, &e)) fail_msg("%s", e.msg);
        const int32_t more = 'q';
        if (session_append(s, &more, 1, NULL, &e) || session_append(u, &more, 1, NULL, &e)) fail_msg("%s", e.msg);
        assert_memory_equal(session_logits(s), session_logits(u), (size_t)m->h.V * sizeof(float));
        gen_result_free(&a), gen_result_free(&b);
    }
    (void)none;
    spec_free(sp);
    session_free(s), session_free(u);
    unlink(path);
}

static int cancel_at(void *arg, const gen_piece *p)
{
    (void)p;
    return --*(int *)arg == 0;
}

/* A reply that ends in the middle of guesses leaves none of them. */
static void cancelled(void **state)
{
    (void)state;
    dr_err e = {0};
    const spec_opt so = { SPEC_NGRAM, 15, 15, NULL };
    session *s = session_new(m, &(session_opt){ .n_ctx = 256, .n_logits = spec_rows(&so) }, &e);
    spec *sp = spec_new(&so, m, 256, &e);
    int32_t id[] = { 'a', 'b', 'a', 'b', 'a', 'b', 'a', 'b' };
    for (int i = 1; i < 12; i++) {
        int left = i;
        gen_opt o = base(0, 0);
        o.spec = sp, o.piece = cancel_at, o.arg = &left;
        gen_result r;
        if (gen_run(s, t, id, 8, &o, &r, &e)) fail_msg("%s", e.msg);
        assert_int_equal(r.finish, GEN_CANCEL);
        assert_int_equal(r.n_gen, i);
        assert_int_equal(session_len(s), 8 + i - 1);
        assert_true(r.n_accepted <= r.n_drafted);
        assert_memory_equal(session_tokens(s) + 8, r.tokens.p, (size_t)(i - 1) * sizeof(int32_t));
        gen_result_free(&r);
    }
    spec_free(sp);
    session_free(s);
}

/* The library: the same bytes with and without, counted, and a draft model beside the model. */
static int gather(void *arg, const char *text, size_t n)
{
    buf_put(arg, text, n);
    return 0;
}

static void public_api(void **state)
{
    (void)state;
    dr_err e = {0};
    char path[] = "/tmp/drover-draft-XXXXXX.gguf";
    model *other = byte_model(path, "dim=32,layers=1,heads=1,kv_heads=1,head_dim=32,ffn=64,vocab=259,ctx=512,tied=0,std=0.3",
                              9, m);
    model_close(other);
    dr_model *dm = dr_model_open(model_path, &(dr_model_opt){ .n_threads = 1 }, &e);
    dr_model *small = dr_model_open(path, &(dr_model_opt){ .beside = dm }, &e);
    if (!dm || !small) fail_msg("%s", e.msg);
    const dr_session_opt so[] = {
        { .spec = "none" }, { 0 }, { .draft_max = 3 }, { .draft = small }, { .draft = dm, .draft_max = 7 },
        { .draft = small, .spec = "ngram" },
    };
    buf text[6] = { { 0 } };
    int32_t *id;
    int n;
    assert_int_equal(dr_tokenize(dm, prompt, sizeof prompt - 1, 0, &id, &n, &e), DR_OK);
    for (int i = 0; i < 6; i++) {
        dr_session *s = dr_session_new(dm, &so[i], &e);
        if (!s) fail_msg("%s", e.msg);
        buf_init(&text[i], 1 << 20);
        dr_gen_opt o = dr_gen_default(dm);
        dr_gen_stats st;
        for (int k = 0; k < 3; k++) {
            o.max_tokens = 60, o.temperature = 0.3f * (float)k, o.sample = (uint64_t)k;
            if (dr_generate(s, id, n, &o, gather, &text[i], &st, &e)) fail_msg("%s", e.msg);
            assert_true(st.n_accepted <= st.n_drafted && (i || st.n_drafted == 0));
        }
        dr_session_free(s);
        assert_int_equal(text[i].n, text[0].n);
        assert_memory_equal(text[i].p, text[0].p, text[0].n);
    }
    const dr_session_opt bad[] = { { .spec = "psychic" }, { .spec = "draft" }, { .draft_max = 32 } };
    const char *why[] = { "psychic", "wants a draft model", "32" };
    for (int i = 0; i < 3; i++) {
        e = (dr_err){0};
        assert_null(dr_session_new(dm, &bad[i], &e));
        assert_non_null(strstr(e.msg, why[i]));
    }
    for (int i = 0; i < 6; i++) buf_free(&text[i]);
    dr_free(id);
    dr_model_close(small);
    dr_model_close(dm);
    unlink(path);
}

static void another_vocabulary(void **state)
{
    (void)state;
    dr_err e = {0};
    char path[] = "/tmp/drover-draft-XXXXXX.gguf";
    assert_int_equal(spec_vocabulary(t, t, &e), DR_OK);
    after_h = 'o';
    model *other = byte_model(path, "dim=32,layers=1,heads=1,kv_heads=1,head_dim=32,ffn=64,vocab=259,ctx=512,tied=0", 9, m);
    after_h = 'e';
    tokenizer *u = tok_from_gguf(tensors_gguf(other->ts), &e);
    assert_non_null(u);
    assert_int_equal(spec_vocabulary(t, u, &e), DR_EINVAL);
    assert_non_null(strstr(e.msg, "same vocabulary: token 258"));
    tok_free(u);
    model_close(other);
    unlink(path);
}

static void bad_options(void **state)
{
    (void)state;
    dr_err e = {0};
    assert_null(spec_new(&(spec_opt){ SPEC_NGRAM, SPEC_MAX + 1, 0, NULL }, m, 64, &e));
    assert_non_null(strstr(e.msg, "possible"));
    assert_null(spec_new(&(spec_opt){ SPEC_NGRAM, 4, 5, NULL }, m, 64, &e));
    size_t live = mem_live_bytes();
    e = (dr_err){0};
    for (long n = 0;; n++) {
        mem_fail_after(n);
        spec *p = spec_new(&(spec_opt){ SPEC_NGRAM, 0, 0, NULL }, m, 4096, &e);
        mem_fail_after(-1);
        spec_free(p);
        if (p) break;
        assert_int_equal(e.code, DR_ENOMEM);
        assert_true(n < 20);
    }
    assert_int_equal(mem_live_bytes(), live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_longest), cmocka_unit_test(forgets_the_oldest),
        cmocka_unit_test(copies_go_on),
        cmocka_unit_test(lengths_that_pay), cmocka_unit_test(same_reply),
        cmocka_unit_test(same_reply_drafted), cmocka_unit_test(stop_strings),
        cmocka_unit_test(constraints), cmocka_unit_test(one_after_another),
        cmocka_unit_test(cancelled), cmocka_unit_test(public_api),
        cmocka_unit_test(another_vocabulary), cmocka_unit_test(bad_options),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
