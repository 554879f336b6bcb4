/* test_turns.c - the engine's schedule over a simulated pool of pages and a simulated clock: promises in
 * random operations, then shares of tenants, overload, prefixes evaluated once, short beside long. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/mem.h"
#include "base/rng.h"
#include "dev/dev.h"
#include "engine/sched.h"

enum { REQS = 20000, CTX = 4096 };

/* A request: its turn, the pool's pages it holds, and when what happened. */
typedef struct {
    turn t;
    int prompt, gen, made;              /* tokens: of the prompt, to be made, made */
    int held;                           /* pages */
    int evaluated;                      /* prompt rows, those of a second time too */
    double arrived, first, ended;       /* seconds; first and ended < 0: not yet */
    bool gone;
    int32_t *tok;
} req;

typedef struct {
    turns s;
    req *r;
    int n_req, n_live, pages, used;
    double now, per_step, per_row;      /* seconds */
    bool shares;                        /* prefixes are kept: everything evaluated can be had again */
    uint64_t seed, at;
    int64_t tokens[TURN_TENANTS];       /* prompt and generated, served to each */
    int steps, n_preempted, evaluated;
    int n_full;                         /* steps in which the pool was the limit */
} sim;

static int draw(sim *w, int n) { return (int)(rng_uniform(w->seed, 2, w->at++) * n); }
static int pages_for(int n) { return (n + KV_PAGE - 1) / KV_PAGE; }

static int match(void *arg, const turn *q)
{
    sim *w = arg;
    int most = 0;
    for (int i = 0; w->shares && i < w->n_req; i++) {
        const turn *o = &w->r[i].t;
        int k = 0, n = o->len / KV_PAGE * KV_PAGE;
        while (k < n && k < q->known - 1 && o->tok[k] == q->tok[k]) k++;
        if (k > most) most = k;
    }
    return most / KV_PAGE * KV_PAGE;
}

/* Pages of what is shared are not counted by the pool: such runs have enough. */
static int64_t need(void *arg, const turn *q, int upto)
{
    (void)arg;
    return pages_for(upto) - (q->state == TURN_RUNNING ? pages_for(q->len) : 0);
}

static void begin(sim *w, int slots, int waiting, int rows, int pages, uint64_t seed)
{
    dr_err e = {0};
    *w = (sim){ .pages = pages, .per_step = 0.01, .per_row = 0.0005, .seed = seed };
    w->r = mem_zalloc(REQS, sizeof *w->r);
    turns_opt o = { .max_running = slots, .max_waiting = waiting, .step_rows = rows, .n_pages = pages,
                    .need = need, .match = match, .arg = w };
    assert_int_equal(turns_init(&w->s, &o, &e), DR_OK);
}

static void finish(sim *w)
{
    for (int i = 0; i < w->n_req; i++) mem_free(w->r[i].tok);
    assert_int_equal(w->used, 0);
    mem_free(w->r);
    turns_free(&w->s);
}

/* A request of these sizes; its first `same` tokens are those of all others. */
static req *ask(sim *w, int tenant, int priority, int prompt, int gen, int same)
{
    assert_true(w->n_req < REQS);
    req *r = &w->r[w->n_req++];
    w->n_live++;
    *r = (req){ .prompt = prompt, .gen = gen, .arrived = w->now, .first = -1, .ended = -1 };
    r->tok = mem_alloc((size_t)(prompt + gen + 1) * sizeof *r->tok);
    for (int i = 0; i < prompt + gen + 1; i++) r->tok[i] = i < same ? 1 : w->n_req * 7919 + i;
    r->t = (turn){ .owner = r, .tenant = tenant, .priority = priority, .tok = r->tok, .known = prompt,
                   .max_len = prompt + gen, .arrived_ns = (int64_t)(w->now * 1e9),
                   .root = w->shares ? 0 : -1 };
    turns_add(&w->s, &r->t);
    return r;
}

static void give(sim *w, req *r, int upto)
{
    int more = pages_for(upto) - r->held;
    r->held += more;
    w->used += more;
    if (w->used > w->pages) fail_msg("seed %d: %d of %d pages", (int)w->seed, w->used, w->pages);
}

static void let_go(sim *w, req *r)
{
    w->used -= r->held;
    r->held = 0;
}

static void leave(sim *w, req *r)
{
    turns_remove(&w->s, &r->t);
    let_go(w, r);
    r->gone = true;
    w->n_live--;
}

static void consistent(const sim *w)
{
    int wait = 0, run = 0;
    for (int i = 0; i < w->n_req; i++) {
        wait += w->r[i].t.state == TURN_WAITING;
        run += w->r[i].t.state == TURN_RUNNING;
        assert_true(w->r[i].gone == (w->r[i].t.state == TURN_NONE));
    }
    assert_int_equal(wait, w->s.n_wait);
    assert_int_equal(run, w->s.n_run);
    assert_true(run <= w->s.o.max_running);
    for (int i = 0; i < TURN_TENANTS; i++)
        for (const turn *q = w->s.t[i].first; q && q->next; q = q->next)
            assert_true(q->priority > q->next->priority ||
                        (q->priority == q->next->priority && q->arrived_ns <= q->next->arrived_ns));
}

/* One step of an engine that does what the schedule says. Returns the rows. */
static int step(sim *w)
{
    turn *q;
    for (int n = 0; (q = turns_preempt(&w->s, w->pages - w->used)); n++) {
        if (n > w->s.o.max_running) fail_msg("seed %d: preempts without end", (int)w->seed);
        let_go(w, q->owner);
        if (!w->shares) q->len = 0;
        turns_back(&w->s, q);
        w->n_preempted++;
    }
    while ((q = turns_admit(&w->s, w->pages - w->used))) {
        if (w->shares) q->len = match(w, q);
        give(w, q->owner, q->len);
    }
    int rows = turns_step(&w->s, w->pages - w->used), sum = 0, able = 0;
    for (int i = 0; i < w->s.n_run; i++) {
        q = w->s.run[i];
        int most = q->known - q->len > 1 ? q->known - q->len : 1 + q->guesses;
        assert_true(q->rows >= 0 && q->rows <= most && q->len + q->rows <= q->max_len);
        assert_true(!q->stalled || !q->rows);
        able += !q->stalled;
        sum += q->rows;
        if (q->rows) give(w, q->owner, q->len + q->rows);
    }
    assert_int_equal(sum, rows);
    assert_true(rows <= w->s.o.step_rows);
    if (able && !rows) fail_msg("seed %d: %d run and none goes on", (int)w->seed, able);
    double took = w->per_step + w->per_row * rows;
    w->now += took;
    w->steps++;
    for (int i = w->s.n_run - 1; i >= 0; i--) {
        q = w->s.run[i];
        req *r = q->owner;
        if (!q->rows) continue;
        bool decodes = q->known - q->len == 1;
        int made = 0;
        if (decodes || q->len + q->rows == q->known) made = 1;
        int took_in = decodes ? 1 : q->rows;
        if (q->len < r->prompt) w->evaluated += took_in, r->evaluated += took_in;
        q->len += took_in;
        q->known += made;
        r->made += made;
        turns_ran(&w->s, q, decodes && r->made > 1 ? 0 : took_in, made);
        w->tokens[q->tenant] += (decodes && r->made > 1 ? 0 : took_in) + made;
        r->held = (w->used -= r->held, pages_for(q->len));
        w->used += r->held;
        if (made && r->first < 0) r->first = w->now;
        if (r->made < r->gen) continue;
        r->ended = w->now;
        turns_ended(&w->s, r->made);
        leave(w, r);
    }
    turns_took(&w->s, rows, (int64_t)(took * 1e9));
    return rows;
}

/* ---- promises, whatever comes ---- */

static void random_operations(void **state)
{
    (void)state;
    static sim w;
    int preempted = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        sim *p = &w;
        begin(p, 1 + (int)(seed % 9), 50, 16 << seed % 5, 64, seed);
        long count = mem_count();
        int asked = 0;
        for (int i = 0; i < 600; i++) {
            int n = draw(p, 10) ? draw(p, 3) : 0, retry;
            while (i < 400 && n--) {
                int tenant = draw(p, 3), prompt = 1 + draw(p, draw(p, 4) ? 200 : 64 * 64 - 300);
                if (!turns_room(&p->s, tenant, &retry)) {
                    assert_true(retry >= 1 && retry <= 300);
                    continue;
                }
                req *r = ask(p, tenant, draw(p, 3) - 1, prompt, 1 + draw(p, 290), 0);
                r->t.guesses = draw(p, 5);
                if (draw(p, 10) == 0) r->t.deadline_ns = (int64_t)((p->now + draw(p, 20)) * 1e9) + 1;
                asked++;
            }
            for (int k = 0; k < p->n_req; k++) {
                req *r = &p->r[k];
                if (r->gone) continue;
                r->t.stalled = i < 400 && draw(p, 20) == 0;
                if (draw(p, 200) == 0) leave(p, r);
            }
            turn *late;
            while ((late = turns_expired(&p->s, (int64_t)(p->now * 1e9)))) {
                assert_true(late->deadline_ns && late->deadline_ns <= (int64_t)(p->now * 1e9));
                leave(p, late->owner);
            }
            step(p);
            consistent(p);
        }
        for (int i = 0; p->n_live; i++) {               /* all end, the largest too */
            if (i > 200000) fail_msg("seed %d: %d never end", (int)seed, p->n_live);
            step(p);
        }
        assert_true(mem_count() - count == asked);      /* the tokens of requests, nothing else */
        preempted += p->n_preempted;
        finish(p);
    }
    assert_true(preempted > 100);
}

/* ---- shares ---- */

/* Each of two tenants keeps so many requests there at once; the share of tokens of the second. */
static double second_share(int first, int second, double weight, int gen_first, int gen_second)
{
    static sim w;
    begin(&w, 16, 100, 128, 16 * CTX / KV_PAGE, 1);
    turns_weight(&w.s, 1, 1);
    turns_weight(&w.s, 2, weight);
    int there[3] = { 0 };
    for (int i = 0, last = 0; i < 3000; i++) {
        there[1] = there[2] = 0;
        for (int k = last; k < w.n_req; k++)
            if (!w.r[k].gone) there[w.r[k].t.tenant]++;
            else if (k == last) last++;
        for (int retry; there[1] < first && turns_room(&w.s, 1, &retry); there[1]++)
            ask(&w, 1, 9, 300, gen_first, 0);           /* whose claim to be important helps nothing */
        for (int retry; there[2] < second && turns_room(&w.s, 2, &retry); there[2]++)
            ask(&w, 2, 0, 300, gen_second, 0);
        if (i == 500) w.tokens[1] = w.tokens[2] = 0;
        step(&w);
    }
    double share = (double)w.tokens[2] / (double)(w.tokens[1] + w.tokens[2]);
    for (int k = 0; k < w.n_req; k++)
        if (!w.r[k].gone) leave(&w, &w.r[k]);
    finish(&w);
    return share;
}

static void shares_of_two(void **state)
{
    (void)state;
    double even = second_share(90, 16, 1, 64, 64), longer = second_share(90, 16, 1, 1000, 64);
    double three = second_share(60, 30, 3, 64, 64);
    if (even < 0.45 || even > 0.55) fail_msg("one of two has %.3f of the tokens", even);
    if (longer < 0.40 || longer > 0.60) fail_msg("one whose replies are short has %.3f", longer);
    if (three < 0.70 || three > 0.80) fail_msg("one of weight 3 has %.3f", three);
}

/* All slots are held by long replies when another tenant comes: it need not wait for them. */
static void comes_late(void **state)
{
    (void)state;
    static sim w;
    begin(&w, 8, 100, 128, 8 * CTX / KV_PAGE, 1);
    for (int i = 0; i < 40; i++) ask(&w, 1, 0, 100, 3000, 0);
    for (int i = 0; i < 200; i++) step(&w);
    req *r = ask(&w, 2, 0, 100, 100, 0);
    for (int i = 0; i < 3; i++) step(&w);
    assert_true(r->first > 0);
    assert_int_equal(w.n_preempted, 1);
    for (int i = 0; i < 4; i++) ask(&w, 2, 0, 100, 400, 0);
    for (int i = 0; i < 100; i++) step(&w);
    assert_int_equal(w.s.t[2].running, 4);              /* half, and no more, is taken */
    assert_true(w.n_preempted <= 5);
    for (int k = 0; k < w.n_req; k++)
        if (!w.r[k].gone) leave(&w, &w.r[k]);
    finish(&w);
}

/* Who was away for long has saved nothing up. */
static void no_savings(void **state)
{
    (void)state;
    static sim w;
    begin(&w, 4, 100, 64, 4 * CTX / KV_PAGE, 1);
    for (int i = 0; i < 60; i++) ask(&w, 1, 0, 200, 50, 0);
    for (int i = 0; i < 300; i++) step(&w);
    for (int i = 0; i < 60; i++) ask(&w, 2, 0, 200, 50, 0);
    w.tokens[1] = w.tokens[2] = 0;
    for (int i = 0; i < 200; i++) step(&w);
    double share = (double)w.tokens[1] / (double)(w.tokens[1] + w.tokens[2]);
    if (share < 0.4) fail_msg("the one that was there has %.3f", share);
    for (int k = 0; k < w.n_req; k++)
        if (!w.r[k].gone) leave(&w, &w.r[k]);
    finish(&w);
}

static void order_within(void **state)
{
    (void)state;
    static sim w;
    begin(&w, 1, 100, 64, CTX / KV_PAGE, 1);
    req *r[5];
    const int priority[5] = { 0, -1, 0, 5, 0 }, place[5] = { 1, 4, 2, 0, 3 };
    for (int i = 0; i < 5; i++, w.now += 0.1) r[i] = ask(&w, 0, priority[i], 30, 10, 0);
    while (w.n_live) step(&w);
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < 5; k++) assert_true((place[i] < place[k]) == (r[i]->ended < r[k]->ended));
    /* One that is more important takes the slot of one that runs; that one goes on afterwards. */
    req *low = ask(&w, 0, 0, 30, 100, 0);
    for (int i = 0; i < 20; i++) step(&w);
    req *high = ask(&w, 0, 1, 30, 10, 0);
    while (w.n_live) step(&w);
    assert_true(high->ended < low->ended && low->made == 100 && low->t.n_preempted == 1);
    finish(&w);
}

/* Of tenants that had as much, the one whose request is older. */
static void older_tenant(void **state)
{
    (void)state;
    static sim w;
    begin(&w, 1, 100, 64, CTX / KV_PAGE, 1);
    req *b = ask(&w, 2, 0, 30, 10, 0);
    w.now += 0.1;
    req *a = ask(&w, 1, 0, 30, 10, 0);
    while (w.n_live) step(&w);
    assert_true(b->ended < a->ended);
    finish(&w);
}

/* ---- pages ---- */

/* Pages are not promised twice, so prompts are not begun in vain, but for those whose tenant has more than
 * its share: 183 begin again when what is promised does not count. */
static void exact_admission(void **state)
{
    (void)state;
    static sim w;
    begin(&w, 16, 100, 64, 64, 1);
    for (int i = 0; i < 30; i++) ask(&w, i % 3, 0, (22 + i % 3 * 9) * KV_PAGE, 2, 0);
    while (w.n_live) step(&w);
    assert_true(w.n_preempted < 10);
    finish(&w);
}

static void as_pages_allow(void **state)
{
    (void)state;
    static sim w;
    begin(&w, 4, 100, 512, 64, 1);
    ask(&w, 0, 0, 1000, 10, 0);
    turn *q = turns_admit(&w.s, 64);
    assert_non_null(q);
    q->len = 10;                                        /* of its first page */
    assert_int_equal(turns_step(&w.s, 64), 512);
    assert_int_equal(turns_step(&w.s, 1), 2 * KV_PAGE - 10);
    assert_int_equal(turns_step(&w.s, 3), 4 * KV_PAGE - 10);
    q->len = 0;
    leave(&w, q->owner);
    /* One that had to leave often, and would like more than there is, begins when it is alone. */
    req *r = ask(&w, 0, 0, 63 * KV_PAGE, 500, 0);
    r->t.n_preempted = 6;
    assert_ptr_equal(turns_admit(&w.s, 64), &r->t);
    leave(&w, r);
    finish(&w);
}

/* ---- room ---- */

static void room_for_others(void **state)
{
    (void)state;
    static sim w;
    int retry = 0, n = 0;
    begin(&w, 1, 64, 64, CTX / KV_PAGE, 1);
    while (turns_room(&w.s, 0, &retry)) ask(&w, 0, 0, 10, 10, 0), n++;
    assert_int_equal(n, 65);                            /* alone: all of it */
    assert_true(retry >= 1);
    for (int k = 0; k < w.n_req; k++) leave(&w, &w.r[k]);
    turns_weight(&w.s, 1, 1);
    turns_weight(&w.s, 2, 1);
    for (n = 0; turns_room(&w.s, 1, &retry); n++) ask(&w, 1, 0, 10, 10, 0);
    assert_int_equal(n, 33);
    for (n = 0; turns_room(&w.s, 2, &retry); n++) ask(&w, 2, 0, 10, 10, 0);
    assert_true(n >= 16);
    assert_false(turns_room(&w.s, 1, &retry));
    for (int k = 0; k < w.n_req; k++)
        if (!w.r[k].gone) leave(&w, &w.r[k]);
    finish(&w);
}

/* Clients that each wait for their reply, and come back at once when refused, for `seconds`: the mean
 * time that a request took which was let in, and tokens in a second. */
static double crowd(int clients, double seconds, double *rate, int *refused)
{
    static sim w;
    begin(&w, 8, 8, 128, 8 * CTX / KV_PAGE, 1);
    double sum = 0;
    int n = 0, last = 0;
    *refused = 0;
    while (w.now < seconds) {
        int there = 0, retry;
        for (int k = last; k < w.n_req; k++)
            if (!w.r[k].gone) there++;
            else if (k == last) last++;
        for (; there < clients; there++)
            if (!turns_room(&w.s, 0, &retry)) {
                *refused += clients - there;
                break;
            } else ask(&w, 0, 0, 100, 64, 0);
        step(&w);
        assert_true(w.s.n_requests <= 16 && w.used <= 16 * 3);
    }
    for (int k = 0; k < w.n_req; k++) {
        if (w.r[k].ended > 0) sum += w.r[k].ended - w.r[k].arrived, n++;
        if (!w.r[k].gone) leave(&w, &w.r[k]);
    }
    *rate = (double)w.tokens[0] / w.now;
    finish(&w);
    return sum / n;
}

static void overload(void **state)
{
    (void)state;
    double rate, rate10;
    int refused, refused10;
    double one = crowd(16, 300, &rate, &refused), ten = crowd(160, 300, &rate10, &refused10);
    assert_int_equal(refused, 0);
    assert_true(refused10 > 10000);
    if (ten > 1.5 * one) fail_msg("%.2f s under ten times the load, %.2f s at capacity", ten, one);
    if (rate10 < 0.98 * rate) fail_msg("%.0f tokens/s under ten times the load, %.0f before", rate10, rate);
}

/* ---- prompts ---- */

/* What many have in common is evaluated once, whoever else waits meanwhile. */
static void prefix_once(void **state)
{
    (void)state;
    static sim w;
    begin(&w, 32, 100, 256, 100000, 1);
    w.shares = true;
    for (int i = 0; i < 32; i++) ask(&w, 0, 0, 1024 + 64, 20, 1024);
    req *other = ask(&w, 0, 0, 50, 5, 0);
    step(&w);
    step(&w);
    assert_true(other->first > 0);
    req *leader = w.s.run[0]->owner;
    leave(&w, leader);                                  /* the first goes away: another takes over */
    while (w.n_live) step(&w);
    int once = 1024 + 31 * 64 + 50;
    if (w.evaluated > once + 3 * 256) fail_msg("%d rows where %d would do", w.evaluated, once);
    finish(&w);
}

static void short_beside_long(void **state)
{
    (void)state;
    static sim w;
    begin(&w, 16, 100, 128, 16 * CTX / KV_PAGE, 1);
    req *longest = ask(&w, 0, 0, 4000, 10, 0);
    step(&w);
    req *r = ask(&w, 0, 0, 20, 10, 0);
    step(&w);
    assert_true(r->first > 0 && longest->first < 0);
    while (w.n_live) step(&w);
    finish(&w);
}

/* A step with decodes is cut to the time wished for, never below 64 rows of prompts. */
static void steps_are_cut(void **state)
{
    (void)state;
    static sim w;
    begin(&w, 16, 100, 512, 16 * CTX / KV_PAGE, 1);
    w.s.o.mixed_s = 0.1;                                /* 200 rows */
    w.per_step = 0;
    ask(&w, 0, 0, 1000, 10, 0);
    assert_int_equal(step(&w), 512);                    /* nobody decodes */
    assert_int_equal(step(&w), 488);
    ask(&w, 0, 0, 1000, 10, 0);
    assert_int_equal(step(&w), 200);
    w.s.o.mixed_s = 0.01;
    assert_int_equal(step(&w), 65);
    while (w.n_live) step(&w);
    finish(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations), cmocka_unit_test(shares_of_two), cmocka_unit_test(comes_late),
        cmocka_unit_test(no_savings), cmocka_unit_test(order_within), cmocka_unit_test(room_for_others),
        cmocka_unit_test(overload), cmocka_unit_test(prefix_once), cmocka_unit_test(short_beside_long),
        cmocka_unit_test(steps_are_cut), cmocka_unit_test(older_tenant), cmocka_unit_test(exact_admission),
        cmocka_unit_test(as_pages_allow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
