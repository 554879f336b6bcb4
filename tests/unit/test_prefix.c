/* test_prefix.c - the tree of prefixes against a naive one (a list of all beginnings, searched whole), in
 * random operations over a small cache: lengths, contents of pages, counts, order of eviction. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/mem.h"
#include "base/rng.h"
#include "engine/prefix.h"

enum { PAGES = 48, ROOTS = 2, SEQS = 6, LEN = 7 * KV_PAGE, NODES = PAGES };

static void *take_pages(dev *d, size_t n) { (void)d; return mem_pages(n); }
static void give_pages(dev *d, void *p, size_t n) { (void)d; mem_pages_free(p, n); }
static dev fake = { .name = "fake", .alloc = take_pages, .free = give_pages };

/* What a page would hold: at each position a number made of the root and of all tokens up to it. */
static uint64_t chain(uint64_t h, int32_t tok)
{
    return (h ^ (uint64_t)(uint32_t)tok ^ 0x9e37u) * 0x9e3779b97f4a7c15u ^ h >> 29;
}

typedef struct {
    kv_cache c;
    prefix *p;
    struct { kv_seq s; int32_t tok[LEN]; int n, root; bool on; } q[SEQS];
    /* the naive tree: each node by its root and the whole way to it */
    struct { int32_t path[LEN]; int n, root; } node[NODES];
    int n_nodes;
    uint64_t seed, at;
} world;

static int draw(world *w, int n) { return (int)(rng_uniform(w->seed, 1, w->at++) * n); }

static uint64_t *cell(world *w, int32_t page, int pos)
{
    return (uint64_t *)(void *)(w->c.base + (size_t)page * w->c.page_bytes) + pos % KV_PAGE;
}

static uint64_t content(int root, const int32_t *tok, int n)
{
    uint64_t h = (uint64_t)root + 1;
    for (int i = 0; i < n; i++) h = chain(h, tok[i]);
    return h;
}

static void fill(world *w, int k, int from)
{
    uint64_t h = content(w->q[k].root, w->q[k].tok, from);
    for (int i = from; i < w->q[k].s.len; i++) {
        h = chain(h, w->q[k].tok[i]);
        *cell(w, w->q[k].s.page[i / KV_PAGE], i) = h;
    }
}

static void right(world *w, int k)
{
    uint64_t h = (uint64_t)w->q[k].root + 1;
    for (int i = 0; i < w->q[k].s.len; i++) {
        h = chain(h, w->q[k].tok[i]);
        if (*cell(w, w->q[k].s.page[i / KV_PAGE], i) != h)
            fail_msg("seed %d: sequence %d has another's position %d", (int)w->seed, k, i);
    }
}

/* ---- the naive tree ---- */

static int same(const int32_t *a, const int32_t *b, int n)
{
    int k = 0;
    while (k < n && a[k] == b[k]) k++;
    return k;
}

/* Positions of the longest beginning of tok in any node: a node stands for its last page, those before
 * it are nodes, too. */
static int naive_match(const world *w, int root, const int32_t *tok, int n)
{
    int most = 0;
    for (int i = 0; i < w->n_nodes; i++)
        if (w->node[i].root == root) {
            int m = w->node[i].n < n ? w->node[i].n : n, k = same(w->node[i].path, tok, m);
            if (k > most) most = k;
        }
    return most;
}

static void naive_put(world *w, int k, int n)
{
    const int32_t *tok = w->q[k].tok;
    int root = w->q[k].root;
    for (int start = 0; start < n; start += KV_PAGE) {
        int end = start + KV_PAGE < n ? start + KV_PAGE : n, at = -1;
        bool there = false;
        for (int i = 0; i < w->n_nodes; i++) {
            if (w->node[i].root != root || (w->node[i].n - 1) / KV_PAGE * KV_PAGE != start) continue;
            int m = w->node[i].n < end ? w->node[i].n : end;
            if (same(w->node[i].path, tok, m) != m) continue;
            if (w->node[i].n >= end) there = true;
            else at = i;
        }
        if (there) continue;
        if (at < 0) at = w->n_nodes++;
        assert_true(at < NODES);
        memcpy(w->node[at].path, tok, (size_t)end * sizeof *tok);
        w->node[at].n = end;
        w->node[at].root = root;
    }
}

/* ---- checks of everything ---- */

static void whole(world *w)
{
    int count[PAGES] = { 0 }, idle = 0, free_ones = 0;
    for (int k = 0; k < SEQS; k++) {
        if (!w->q[k].on) continue;
        for (int i = 0; i < LEN / KV_PAGE; i++)
            if (w->q[k].s.page[i] >= 0) count[w->q[k].s.page[i]]++;
        right(w, k);
    }
    for (int i = 0; i < PAGES; i++) {
        if (w->c.count[i] != count[i] + w->c.kept[i])
            fail_msg("seed %d: page %d has count %d, held by %d and %d", (int)w->seed, i, w->c.count[i],
                     count[i], w->c.kept[i]);
        idle += w->c.kept[i] && !count[i];
        free_ones += !w->c.count[i];
    }
    assert_int_equal(w->c.n_free, free_ones);
    assert_int_equal(prefix_idle(w->p), idle);
    assert_int_equal(prefix_held(w->p), w->n_nodes);
}

/* Every beginning can be had, and holds what it should. */
static void each_is_there(world *w)
{
    dr_err e = {0};
    kv_seq s;
    assert_int_equal(kv_seq_init(&s, LEN, &e), DR_OK);
    for (int i = 0; i < w->n_nodes; i++) {
        int n = w->node[i].n, root = w->node[i].root;
        const int32_t *path = w->node[i].path;
        if (prefix_take(w->p, root, path, n, &s) != n)
            fail_msg("seed %d: a beginning of %d is gone", (int)w->seed, n);
        for (int pos = n - 1; pos >= 0; pos -= KV_PAGE)
            if (*cell(w, s.page[pos / KV_PAGE], pos) != content(root, path, pos + 1))
                fail_msg("seed %d: position %d of a beginning was written over", (int)w->seed, pos);
        kv_truncate(&w->c, &s, 0);
    }
    kv_seq_free(&w->c, &s);
}

/* After an eviction of n: so many beginnings are gone. */
static void evicted(world *w, int n)
{
    for (int i = 0; i < w->n_nodes; )
        if (prefix_match(w->p, w->node[i].root, w->node[i].path, w->node[i].n, NULL) < w->node[i].n) {
            w->node[i] = w->node[--w->n_nodes];
            n--;
        } else i++;
    assert_int_equal(n, 0);
}

/* ---- operations ---- */

/* Tokens of a new sequence: often a beginning of what there was, then others of few kinds. */
static void tokens(world *w, int k)
{
    int n = 1 + draw(w, LEN - 1), keep = 0;
    int32_t *tok = w->q[k].tok;
    w->q[k].root = draw(w, 8) ? 0 : 1;
    int other = draw(w, SEQS);
    if (other != k && w->q[other].on && draw(w, 3) == 0) {
        keep = w->q[other].n < n ? w->q[other].n : n;       /* evaluated by both at the same time */
        memcpy(tok, w->q[other].tok, (size_t)keep * sizeof *tok);
        w->q[k].root = w->q[other].root;
    } else if (w->n_nodes && draw(w, 4)) {
        int i = draw(w, w->n_nodes);
        keep = draw(w, 2) ? w->node[i].n : draw(w, w->node[i].n + 1);
        if (draw(w, 3) == 0) keep = keep / KV_PAGE * KV_PAGE;
        if (keep > n) keep = n;
        memcpy(tok, w->node[i].path, (size_t)keep * sizeof *tok);
    }
    for (int i = keep; i < n; i++) tok[i] = draw(w, 2) * 1000 - 1;
    w->q[k].n = n;
}

static void begin(world *w, int k)
{
    dr_err e = {0};
    tokens(w, k);
    assert_int_equal(kv_seq_init(&w->q[k].s, LEN, &e), DR_OK);
    w->q[k].on = true;
    int n = w->q[k].n, idle, want = naive_match(w, w->q[k].root, w->q[k].tok, n);
    int len = prefix_match(w->p, w->q[k].root, w->q[k].tok, n, &idle);
    int before = prefix_idle(w->p);
    if (len != want) fail_msg("seed %d: %d positions found, %d are there", (int)w->seed, len, want);
    assert_int_equal(prefix_take(w->p, w->q[k].root, w->q[k].tok, n, &w->q[k].s), want);
    assert_int_equal(w->q[k].s.len, want);
    assert_int_equal(prefix_idle(w->p), before - idle);
}

static void go_on(world *w, int k)
{
    dr_err e = {0};
    int n = w->q[k].n - w->q[k].s.len, from = w->q[k].s.len;
    if (!n) return;
    n = 1 + draw(w, n);
    int pages = kv_grow_pages(&w->c, &w->q[k].s, n), free_ones = w->c.n_free;
    if (pages > w->c.n_free) {
        int got = prefix_evict(w->p, pages - w->c.n_free), idle = prefix_idle(w->p);
        assert_int_equal(w->c.n_free, free_ones + got);
        evicted(w, got);
        if (pages > w->c.n_free) {
            assert_int_equal(idle, 0);
            return;
        }
        free_ones = w->c.n_free;
    }
    assert_int_equal(kv_grow(&w->c, &w->q[k].s, n, &e), DR_OK);
    assert_int_equal(w->c.n_free, free_ones - pages);
    kv_advance(&w->q[k].s, n);
    fill(w, k, from);
}

static void leave(world *w, int k, int n)
{
    int before = prefix_held(w->p), added = prefix_put(w->p, w->q[k].root, w->q[k].tok, n, &w->q[k].s);
    naive_put(w, k, n);
    assert_int_equal(prefix_held(w->p), before + added);
    assert_int_equal(prefix_match(w->p, w->q[k].root, w->q[k].tok, n, NULL), n);
}

static void forget(world *w, int root)
{
    prefix_forget(w->p, root);
    for (int i = 0; i < w->n_nodes; )
        if (w->node[i].root == root) w->node[i] = w->node[--w->n_nodes];
        else i++;
}

static void operate(world *w)
{
    int k = draw(w, SEQS), what = draw(w, 20);
    if (!w->q[k].on) {
        begin(w, k);
    } else if (what < 8) {
        go_on(w, k);
    } else if (what < 12) {
        leave(w, k, w->q[k].s.len / KV_PAGE * KV_PAGE);
    } else if (what < 14) {
        leave(w, k, w->q[k].s.len);
    } else if (what < 15) {
        leave(w, k, draw(w, w->q[k].s.len + 1));
    } else if (what < 16) {
        kv_truncate(&w->c, &w->q[k].s, draw(w, w->q[k].s.len + 1));
        for (int i = w->q[k].s.len; i < w->q[k].n; i++) w->q[k].tok[i] = draw(w, 3);
    } else if (what < 17) {
        int n = naive_match(w, w->q[k].root, w->q[k].tok, w->q[k].n), len = w->q[k].s.len;
        int got = prefix_take(w->p, w->q[k].root, w->q[k].tok, w->q[k].n, &w->q[k].s);
        assert_int_equal(got, n > len ? n : len);
    } else if (what < 19) {
        kv_seq_free(&w->c, &w->q[k].s);
        w->q[k].on = false;
    } else if (draw(w, 8)) {
        int n = 1 + draw(w, 6), idle = prefix_idle(w->p);
        int got = prefix_evict(w->p, n);
        assert_int_equal(got, n < idle ? n : idle);
        evicted(w, got);
    } else {
        forget(w, draw(w, ROOTS));
    }
}

static void setup(world *w, uint64_t seed)
{
    dr_err e = {0};
    *w = (world){ .seed = seed };
    assert_int_equal(kv_init(&w->c, &fake, KV_F32, 1, 1, 8, PAGES * KV_PAGE, &e), DR_OK);
    w->p = prefix_new(&w->c, ROOTS, &e);
    assert_non_null(w->p);
}

static void done(world *w)
{
    for (int k = 0; k < SEQS; k++)
        if (w->q[k].on) kv_seq_free(&w->c, &w->q[k].s);
    assert_int_equal(w->c.n_free + prefix_held(w->p), PAGES);
    prefix_free(w->p);
    assert_int_equal(w->c.n_free, PAGES);
    assert_int_equal(w->c.n_idle, 0);
    kv_free(&w->c);
}

static void random_operations(void **state)
{
    (void)state;
    static world w;
    size_t live = mem_live_bytes();
    for (uint64_t seed = 1; seed <= 60; seed++) {
        setup(&w, seed);
        long count = mem_count();
        for (int i = 0; i < 400; i++) {
            operate(&w);
            whole(&w);
            if (i % 16 == 0) each_is_there(&w);
        }
        count = mem_count() - count;
        done(&w);
        assert_true(count < 400);                   /* page tables of new sequences, nothing else */
    }
    assert_int_equal(mem_live_bytes(), live);
}

/* ---- one thing each ---- */

/* Sequence k of n tokens, all of them `kind` but for the first `keep`, evaluated and left. */
static void one(world *w, int k, int keep, int n, int kind)
{
    dr_err e = {0};
    for (int i = 0; i < n; i++) w->q[k].tok[i] = i < keep ? 7 : kind;
    w->q[k].n = n;
    w->q[k].on = true;
    assert_int_equal(kv_seq_init(&w->q[k].s, LEN, &e), DR_OK);
    int from = prefix_take(w->p, 0, w->q[k].tok, n, &w->q[k].s);
    assert_int_equal(kv_grow(&w->c, &w->q[k].s, n - from, &e), DR_OK);
    kv_advance(&w->q[k].s, n - from);
    fill(w, k, from);
    prefix_put(w->p, 0, w->q[k].tok, n, &w->q[k].s);
}

static void end(world *w, int k)
{
    kv_seq_free(&w->c, &w->q[k].s);
    w->q[k].on = false;
}

static int has(world *w, int k) { return prefix_match(w->p, 0, w->q[k].tok, w->q[k].n, NULL); }

static void least_recently_used_goes(void **state)
{
    (void)state;
    static world w;
    setup(&w, 1);
    for (int k = 0; k < 4; k++) {
        one(&w, k, KV_PAGE, 3 * KV_PAGE, 10 + k);
        end(&w, k);
    }
    one(&w, 4, 0, 2 * KV_PAGE, 3);                          /* in use throughout, and the oldest soon */
    end(&w, 4), one(&w, 4, 0, 2 * KV_PAGE, 3);
    for (int k = 3; k >= 0; k--) {                          /* now 0 is the most recent */
        dr_err e = {0};
        assert_int_equal(kv_seq_init(&w.q[k].s, LEN, &e), DR_OK);
        assert_int_equal(prefix_take(w.p, 0, w.q[k].tok, 3 * KV_PAGE, &w.q[k].s), 3 * KV_PAGE);
        end(&w, k);
    }
    assert_int_equal(prefix_held(w.p), 1 + 4 * 2 + 2);
    assert_int_equal(prefix_idle(w.p), 1 + 4 * 2);
    assert_int_equal(prefix_evict(w.p, 1), 1);
    assert_int_equal(has(&w, 3), 2 * KV_PAGE);              /* the oldest's last page */
    assert_int_equal(prefix_evict(w.p, 1), 1);
    assert_int_equal(has(&w, 3), KV_PAGE);                  /* what it shares stays */
    assert_int_equal(prefix_evict(w.p, 2), 2);
    assert_int_equal(has(&w, 2), KV_PAGE);
    assert_int_equal(has(&w, 1), 3 * KV_PAGE);
    assert_int_equal(prefix_evict(w.p, 100), 5);
    assert_int_equal(has(&w, 0), 0);
    assert_int_equal(has(&w, 4), 2 * KV_PAGE);
    right(&w, 4);
    end(&w, 4);
    assert_int_equal(prefix_evict(w.p, 100), 2);
    done(&w);
}

/* Two that share hold the same pages; the first to write gets one of its own. */
static void shared_not_copied(void **state)
{
    (void)state;
    static world w;
    dr_err e = {0};
    setup(&w, 1);
    one(&w, 0, 100, 100, 0);
    int used = PAGES - w.c.n_free;
    one(&w, 1, 100, 100, 0);
    assert_int_equal(PAGES - w.c.n_free, used);
    assert_int_equal(w.q[0].s.page[1], w.q[1].s.page[1]);
    assert_int_equal(kv_grow_pages(&w.c, &w.q[1].s, 28), 1);
    assert_int_equal(kv_grow_pages(&w.c, &w.q[1].s, 29), 2);
    w.q[1].tok[100] = 5;
    w.q[1].n = 101;
    assert_int_equal(kv_grow(&w.c, &w.q[1].s, 1, &e), DR_OK);
    kv_advance(&w.q[1].s, 1);
    fill(&w, 1, 100);
    assert_int_equal(PAGES - w.c.n_free, used + 1);
    assert_int_equal(w.q[0].s.page[0], w.q[1].s.page[0]);
    assert_int_not_equal(w.q[0].s.page[1], w.q[1].s.page[1]);
    right(&w, 0);
    right(&w, 1);
    end(&w, 0);
    prefix_put(w.p, 0, w.q[1].tok, 101, &w.q[1].s);         /* the longer one takes the place of the short */
    assert_int_equal(prefix_held(w.p), 2);
    assert_int_equal(has(&w, 1), 101);
    assert_int_equal(PAGES - w.c.n_free, used);
    done(&w);
}

/* What two evaluated at the same time is kept once. */
static void one_of_each(void **state)
{
    (void)state;
    static world w;
    dr_err e = {0};
    setup(&w, 1);
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < 200; i++) w.q[k].tok[i] = i;
        w.q[k].n = 200;
        w.q[k].on = true;
        assert_int_equal(kv_seq_init(&w.q[k].s, LEN, &e), DR_OK);
        assert_int_equal(kv_grow(&w.c, &w.q[k].s, 200, &e), DR_OK);
        kv_advance(&w.q[k].s, 200);
        fill(&w, k, 0);
    }
    assert_int_equal(PAGES - w.c.n_free, 8);
    assert_int_equal(prefix_put(w.p, 0, w.q[0].tok, 192, &w.q[0].s), 3);
    assert_int_equal(prefix_put(w.p, 0, w.q[1].tok, 192, &w.q[1].s), 0);
    assert_int_equal(PAGES - w.c.n_free, 5);
    assert_int_equal(kv_grow_pages(&w.c, &w.q[1].s, 1), 0);  /* the part of a page is its own */
    right(&w, 1);
    whole(&(world){ .c = w.c, .p = w.p, .n_nodes = 3, .q = { w.q[0], w.q[1] } });
    done(&w);
}

static void no_memory(void **state)
{
    (void)state;
    kv_cache c;
    dr_err e = {0};
    size_t live = mem_live_bytes();
    assert_int_equal(kv_init(&c, &fake, KV_F32, 1, 1, 8, PAGES * KV_PAGE, &e), DR_OK);
    for (long k = 0; ; k++) {
        mem_fail_after(k);
        e = (dr_err){0};
        prefix *p = prefix_new(&c, ROOTS, &e);
        mem_fail_after(-1);
        prefix_free(p);
        if (p) break;
        assert_int_equal(e.code, DR_ENOMEM);
    }
    kv_free(&c);
    assert_int_equal(mem_live_bytes(), live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations), cmocka_unit_test(least_recently_used_goes),
        cmocka_unit_test(shared_not_copied), cmocka_unit_test(one_of_each), cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
