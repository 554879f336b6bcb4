/* test_adapters.c - adapters mixed in one step: each sequence gets the bits that it gets alone, with the
 * adapter given to the model for good; hidden states are those that logits are made of; the table of names
 * under threads and failing allocations. */
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "engine/adapters.h"
#include "gen/session.h"
#include "pack/synth.h"
#include "peft.h"

enum { V = 160, C = 256, L = 3, N = 90, SEQS = 7, KINDS = 4, ROWS = 96 };
static const char shape[] = "dim=256,layers=3,heads=4,kv_heads=2,head_dim=64,ffn=512,vocab=160,ctx=256,"
                            "tied=%d,std=0.06";
static char dir[] = "/tmp/drover-adapters-XXXXXX", folder[KINDS][96];
static const struct { int kinds, r; float scale; } made[KINDS] = {
    { PEFT_ATTN, 16, 1 }, { PEFT_ATTN | PEFT_FFN, 5, 0.5f }, { PEFT_ALL, 40, 1 }, { PEFT_FFN, 16, -1 },
};
/* Sequence j's adapter; -1: none. Neighbours alike and not, so that parts join and do not. */
static const int who[SEQS] = { 0, 2, 2, -1, 1, 0, 3 };
static hparams dims = { .V = V, .C = C, .L = L, .nh = 4, .nkv = 2, .hs = 64, .F = 512, .n_ctx = 256 };

static model *make(const char *type, int tied, int threads)
{
    static void *bytes;                          /* of one model at a time; a session's tests share them */
    static size_t n;
    static char made_of[64];
    char text[256], key[64];
    dr_err e = {0};
    snprintf(key, sizeof key, "%s %d", type, tied);
    if (strcmp(key, made_of) != 0) {
        synth_opt o = { .seed = 3 };
        pool *p = pool_new(1, &e);
        snprintf(text, sizeof text, shape, tied);
        if (bytes) mem_pages_free(bytes, n);
        assert_int_equal(synth_shape_read(&o.shape, text, &e), DR_OK);
        assert_int_equal(synth_types_read(&o.types, type, &e), DR_OK);
        assert_int_equal(synth_memory(&o, &bytes, &n, p, &e), DR_OK);
        pool_free(p);
        strcpy(made_of, key);
    }
    model *m = model_from_tensors(tensors_parse(bytes, n, &e), &(dev_opt){ .n_threads = threads }, &e);
    if (!m) fail_msg("%s", e.msg);
    return m;
}

static int32_t token(int seq, int i) { return (int32_t)((i * 37 + i * i * 11 + seq * 53 + 5) % V); }

static int keep(void *arg, int first, int rows, const float *x, dr_err *e)
{
    (void)e;
    memcpy((float *)arg + (size_t)first * V, x, (size_t)rows * V * sizeof *x);
    return DR_OK;
}

/* (N,V) of sequence j alone. */
static float *alone(const char *type, int tied, int j)
{
    dr_err e = {0};
    model *m = make(type, tied, 1);
    int32_t tok[N];
    for (int i = 0; i < N; i++) tok[i] = token(j, i);
    if (who[j] >= 0 && model_add_lora(m, &(lora_ref){ folder[who[j]], made[who[j]].scale }, &e))
        fail_msg("%s", e.msg);
    session *s = session_new(m, &(session_opt){ .n_ctx = N, .n_rows = 32 }, &e);
    if (!s) fail_msg("%s", e.msg);
    float *y = calloc((size_t)N * V, sizeof *y);
    assert_int_equal(session_all_logits(s, tok, N, keep, y, &e), DR_OK);
    session_free(s);
    model_close(m);
    return y;
}

/* All sequences together, each a random number of rows a step, in an order that changes. */
typedef struct { float *logits[SEQS], *hidden[SEQS]; } got;

static got mixed(model *m, adapters *ad, const int *number, int seed)
{
    dr_err e = {0};
    workspace ws;
    kv_cache kv;
    kv_seq seq[SEQS];
    got g;
    int at[SEQS] = { 0 }, left = SEQS;
    assert_int_equal(workspace_init_rank(&ws, m, ROWS, ROWS, N, 40, &e), DR_OK);
    assert_int_equal(kv_init(&kv, m->d, KV_F16, L, 2, 64, SEQS * 2 * KV_PAGE, &e), DR_OK);
    for (int j = 0; j < SEQS; j++) {
        assert_int_equal(kv_seq_init(&seq[j], N, &e), DR_OK);
        g.logits[j] = calloc((size_t)N * V, sizeof(float)), g.hidden[j] = calloc((size_t)N * C, sizeof(float));
    }
    long count = mem_count();
    for (int step = 0; left; step++) {
        int32_t tok[ROWS], out[ROWS], hid[ROWS];
        int of[ROWS], pos[ROWS], n = 0, n_runs = 0, n_out = 0, n_hid = 0;
        seq_run run[SEQS];
        const lora *l[SEQS];
        for (int q = 0; q < SEQS; q++) {
            int j = (q * (1 + step % 6) + step) % SEQS;             /* 7 is prime: each once */
            int T = (step * 7 + j * 5 + seed) % 19 % (step % 3 ? 3 : 19);
            if (step == 0) T = j == 1 || j == 2 ? 40 : 2;           /* a part of 80 rows */
            if (T > N - at[j]) T = N - at[j];
            if (T == 0) {
                if (step % 5 == 0 && at[j] < N) T = 1;
                else continue;
            }
            assert_int_equal(kv_grow(&kv, &seq[j], T, &e), DR_OK);
            run[n_runs] = (seq_run){ n, T, at[j], seq[j].page };
            l[n_runs++] = who[j] < 0 ? NULL : adapters_at(ad, number[who[j]]);
            for (int i = 0; i < T; i++, n++) {
                tok[n] = token(j, at[j] + i), of[n] = j, pos[n] = at[j] + i;
                /* every row's logits or hidden state, of some both, of a few neither */
                int kind = (n + step + seed) % 7;
                if (kind != 0 && kind != 1) out[n_out++] = n;
                if (kind != 0 && kind < 5) hid[n_hid++] = n;
            }
        }
        if (n == 0) continue;
        model_eval(m, &ws, &kv, &(model_step){ .tok = tok, .N = n, .run = run, .n_runs = n_runs, .lora = l,
                                               .out = out, .n_out = n_out, .hid = hid, .n_hid = n_hid });
        for (int i = 0; i < n_out; i++)
            memcpy(g.logits[of[out[i]]] + pos[out[i]] * V, ws.logits + i * V, V * sizeof(float));
        for (int i = 0; i < n_hid; i++)
            memcpy(g.hidden[of[hid[i]]] + pos[hid[i]] * C, ws.hidden + i * C, C * sizeof(float));
        left = 0;
        for (int i = 0; i < n_runs; i++) {
            int j = of[run[i].n0];
            kv_advance(&seq[j], run[i].T), at[j] += run[i].T;
        }
        for (int j = 0; j < SEQS; j++) left += at[j] < N;
    }
    assert_int_equal(mem_count(), count);        /* a step allocates nothing */
    for (int j = 0; j < SEQS; j++) kv_seq_free(&kv, &seq[j]);
    kv_free(&kv);
    workspace_free(&ws);
    return g;
}

static void got_free(got *g)
{
    for (int j = 0; j < SEQS; j++) free(g->logits[j]), free(g->hidden[j]);
}

static bool zero(const float *x, int n)
{
    for (int i = 0; i < n; i++) if (x[i] != 0) return false;
    return true;
}

/* Row by row what was wanted is the same; how many rows had it. */
static int compare(const float *want, const float *have, int width, const char *what, int j)
{
    int n = 0;
    for (int i = 0; i < N; i++) {
        if (zero(have + i * width, width)) continue;
        n++;
        if (memcmp(want + i * width, have + i * width, (size_t)width * sizeof *want))
            fail_msg("%s: sequence %d differs from itself alone at position %d", what, j, i);
    }
    return n;
}

static void same_alone_and_mixed(void **state)
{
    (void)state;
    static const char *const types[] = { "F32", "Q8_0", "Q4_K", "BF16" };
    for (int t = 0; t < 4; t++) {
        int tied = t % 2;
        float *want[SEQS];
        for (int j = 0; j < SEQS; j++) want[j] = alone(types[t], tied, j);
        assert_memory_not_equal(want[0], want[5], V * sizeof(float));
        got first = { 0 };
        for (int run = 0; run < 4; run++) {
            dr_err e = {0};
            model *m = make(types[t], tied, run + 1);
            adapters *ad = adapters_new(m, &e);
            int number[KINDS];
            for (int k = 0; k < KINDS; k++) {
                char name[8];
                snprintf(name, sizeof name, "a%d", k);
                number[k] = adapters_load(ad, name, folder[k], made[k].scale, &e);
                if (number[k] <= 0) fail_msg("%s", e.msg);
                assert_int_equal(adapters_hold(ad, number[k], &e), DR_OK);
            }
            got g = mixed(m, ad, number, run * 3);
            int rows = 0, hidden = 0;
            for (int j = 0; j < SEQS; j++) {
                rows += compare(want[j], g.logits[j], V, types[t], j);
                for (int i = 0; i < N; i++) hidden += !zero(g.hidden[j] + i * C, C);
                if (run == 0) continue;
                for (int i = 0; i < N; i++)         /* rows that both runs had */
                    if (!zero(g.hidden[j] + i * C, C) && !zero(first.hidden[j] + i * C, C))
                        assert_memory_equal(g.hidden[j] + i * C, first.hidden[j] + i * C, C * sizeof(float));
            }
            assert_true(rows > SEQS * N / 2 && hidden > SEQS * N / 3);
            /* logits of a sequence without an adapter to the head are products of its hidden states */
            for (int j = 0; j < SEQS; j++) {
                if (who[j] == 2) continue;
                float y[V];
                for (int i = 0; i < N; i++) {
                    if (zero(g.hidden[j] + i * C, C)) continue;
                    m->d->matmul(m->d, &(mm_out){ y, V, &m->w.out }, 1, g.hidden[j] + i * C, C, 1);
                    assert_memory_equal(y, want[j] + i * V, sizeof y);
                }
            }
            for (int k = 0; k < KINDS; k++) adapters_put(ad, number[k]);
            adapters_free(ad);
            model_close(m);
            if (run == 0) first = g;
            else got_free(&g);
        }
        got_free(&first);
        for (int j = 0; j < SEQS; j++) free(want[j]);
    }
}

/* ---- the table */

static void count_rows(void *arg, const adapters_row *row)
{
    int *n = arg;
    n[0]++, n[1] += row->in_use;
    assert_true(row->rank > 0 && row->bytes > 0 && row->number > 0);
}

static void names(void **state)
{
    (void)state;
    dr_err e = {0};
    model *m = make("F32", 0, 1);
    size_t live = mem_live_bytes();
    adapters *a = adapters_new(m, &e);
    int one = adapters_load(a, "one", folder[0], 1, &e), n[2] = { 0, 0 };
    assert_true(one > 0);
    assert_int_equal(adapters_find(a, "one"), one);
    assert_int_equal(adapters_find(a, "two"), -1);
    assert_int_equal(adapters_load(a, "one", folder[1], 1, &e), DR_EINVAL);
    assert_non_null(strstr(e.msg, "loaded already"));
    e = (dr_err){0};
    assert_int_equal(adapters_load(a, "", folder[1], 1, &e), DR_EINVAL);
    e = (dr_err){0};
    assert_true(adapters_load(a, "none", "/nowhere", 1, &e) < 0);
    assert_non_null(strstr(e.msg, "/nowhere"));
    assert_int_equal(adapters_find(a, "none"), -1);
    e = (dr_err){0};
    assert_int_equal(adapters_unload(a, "two", &e), DR_EINVAL);
    assert_int_equal(adapters_hold(a, 0, &e), DR_OK);           /* the model alone */
    adapters_put(a, 0);
    assert_null(adapters_at(a, 0));
    assert_true(adapters_key(a, 0) == 0);

    /* unloaded while used: the holder keeps it, nobody else gets it, its number never comes back */
    assert_int_equal(adapters_hold(a, one, &e), DR_OK);
    const lora *l = adapters_at(a, one);
    uint64_t key = adapters_key(a, one);
    size_t bytes = adapters_bytes(a);
    adapters_each(a, count_rows, n);
    assert_true(n[0] == 1 && n[1] == 1);
    assert_int_equal(adapters_unload(a, "one", &e), DR_OK);
    assert_int_equal(adapters_find(a, "one"), -1);
    e = (dr_err){0};
    assert_int_equal(adapters_hold(a, one, &e), DR_ENOTFOUND);
    e = (dr_err){0};
    assert_int_equal(adapters_unload(a, "one", &e), DR_EINVAL);
    n[0] = 0;
    adapters_each(a, count_rows, n);
    assert_int_equal(n[0], 0);
    assert_true(adapters_bytes(a) == bytes && adapters_at(a, one) == l);
    e = (dr_err){0};
    int again = adapters_load(a, "one", folder[0], 1, &e), half = adapters_load(a, "half", folder[0], 0.5f, &e);
    assert_true(again > 0 && again != one && half > again);
    assert_true(adapters_at(a, one) == l);
    adapters_put(a, one);
    assert_int_equal(adapters_hold(a, again, &e), DR_OK);
    assert_int_equal(adapters_hold(a, half, &e), DR_OK);
    assert_true(key && adapters_key(a, again) == key);          /* of what it holds, not of when */
    assert_true(adapters_key(a, half) != key);
    adapters_put(a, again), adapters_put(a, half);
    assert_true(adapters_bytes(a) == 2 * bytes);
    assert_int_equal(adapters_unload(a, "half", &e), DR_OK);    /* a place that was given back: another number */
    assert_true(adapters_load(a, "half", folder[2], 1, &e) > half);
    assert_int_equal(adapters_hold(a, half, &e), DR_ENOTFOUND);
    e = (dr_err){0};

    /* as many as there may be, and one more */
    char name[16];
    for (int i = 2; i < ADAPTERS_MAX; i++) {
        snprintf(name, sizeof name, "n%d", i);
        if (adapters_load(a, name, folder[3], 1, &e) <= 0) fail_msg("%s", e.msg);
    }
    assert_int_equal(adapters_load(a, "more", folder[3], 1, &e), DR_EBUSY);
    e = (dr_err){0};
    assert_int_equal(adapters_unload(a, "n9", &e), DR_OK);
    assert_true(adapters_load(a, "more", folder[3], 1, &e) > half);
    adapters_free(a);
    assert_true(mem_live_bytes() == live);
    model_close(m);
}

static void ranks(void **state)
{
    (void)state;
    dr_err e = {0};
    char path[96];
    snprintf(path, sizeof path, "%s/wide", dir);
    peft_write(path, &dims, PEFT_HEAD, ADAPTERS_RANK + 1, 9);
    model *m = make("F32", 0, 1);
    adapters *a = adapters_new(m, &e);
    assert_int_equal(adapters_load(a, "wide", path, 1, &e), DR_EUNSUPPORTED);
    assert_non_null(strstr(e.msg, "has rank 257, at most 256"));
    adapters_free(a);
    model_close(m);
    peft_remove(path);
}

static void no_memory(void **state)
{
    (void)state;
    dr_err e = {0};
    model *m = make("F32", 0, 1);
    size_t live = mem_live_bytes();
    for (long k = 0; ; k++) {
        mem_fail_after(k);
        e = (dr_err){0};
        adapters *a = adapters_new(m, &e);
        int n = a ? adapters_load(a, "x", folder[1], 1, &e) : 0;
        mem_fail_after(-1);
        if (a) {
            assert_int_equal(adapters_find(a, "x"), n > 0 ? n : -1);
            assert_true(n > 0 || adapters_bytes(a) == 0);
        }
        adapters_free(a);
        if (mem_live_bytes() != live) fail_msg("allocation %ld: memory stays", k);
        if (n > 0) break;
        if (e.code != DR_ENOMEM && e.code != DR_EFORMAT) fail_msg("allocation %ld: %d %s", k, e.code, e.msg);
    }
    workspace ws;
    for (long k = 0; ; k++) {
        mem_fail_after(k);
        int rc = workspace_init_rank(&ws, m, 8, 8, N, 16, &e);
        mem_fail_after(-1);
        if (rc == DR_OK) break;
        assert_int_equal(rc, DR_ENOMEM);
    }
    workspace_free(&ws);
    model_close(m);
}

/* Threads that load, unload, find and hold the same names: what is held is never gone. */
typedef struct { adapters *a; int seed; } hammer;

static void *hammering(void *arg)
{
    hammer *h = arg;
    for (int i = 0; i < 60; i++) {
        dr_err e = {0};
        int k = (i * 7 + h->seed * 3) % KINDS;
        char name[8];
        snprintf(name, sizeof name, "%d", k);
        if ((i + h->seed) % 3 == 0) adapters_load(h->a, name, folder[k], 1, &e);
        if ((i + h->seed) % 5 == 0) adapters_unload(h->a, name, &e);
        int n = adapters_find(h->a, name);
        if (n > 0 && adapters_hold(h->a, n, &e) == DR_OK) {
            const lora *l = adapters_at(h->a, n);
            if (l->r != made[k].r) return h;     /* another adapter than was found */
            adapters_put(h->a, n);
        }
    }
    return NULL;
}

static void threads(void **state)
{
    (void)state;
    dr_err e = {0};
    model *m = make("F32", 0, 1);
    adapters *a = adapters_new(m, &e);
    pthread_t t[4];
    hammer h[4];
    for (int i = 0; i < 4; i++) {
        h[i] = (hammer){ a, i };
        assert_int_equal(pthread_create(&t[i], NULL, hammering, &h[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        void *bad;
        pthread_join(t[i], &bad);
        assert_null(bad);
    }
    adapters_free(a);
    model_close(m);
}

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(dir)) return -1;
    for (int k = 0; k < KINDS; k++) {
        snprintf(folder[k], sizeof folder[k], "%s/%d", dir, k);
        peft_write(folder[k], &dims, made[k].kinds, made[k].r, (uint64_t)k + 1);
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (int k = 0; k < KINDS; k++) peft_remove(folder[k]);
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_alone_and_mixed), cmocka_unit_test(names), cmocka_unit_test(ranks),
        cmocka_unit_test(no_memory), cmocka_unit_test(threads),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
