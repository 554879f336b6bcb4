/* test_place.c - weights in private memory and on several memory nodes: which thread and which byte
 * goes where, for machines made up and such that hwloc makes up; and that no result changes. */
#define _GNU_SOURCE
#include <dirent.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/mem.h"
#include "base/os.h"
#include "base/topo.h"
#include "dev/cpu.h"
#include "gen/session.h"
#include "model/plan.h"
#include "pack/synth.h"

enum { N = 40, V = 300, MANY = 256 };
static char dir[] = "/dev/shm/drover-place-XXXXXX";
static const char shape[] = "dim=256,layers=2,heads=4,kv_heads=2,head_dim=64,ffn=512,vocab=300,"
                            "ctx=512,std=0.05";

static const char *at(const char *name)
{
    static char path[4][256];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", dir, name);
    return path[turn];
}

/* ---- threads ---- */

/* Nodes of cores[k] cores with `smt` CPUs each; the system numbers first threads first. */
static int machine(topo_cpu *c, const int *cores, int n_nodes, int smt)
{
    int n = 0, all = 0;
    for (int k = 0; k < n_nodes; k++) all += cores[k];
    for (int rank = 0; rank < smt; rank++)
        for (int k = 0, core = 0; k < n_nodes; k++)
            for (int i = 0; i < cores[k]; i++, core++)
                c[n++] = (topo_cpu){ rank * all + core, core, k, rank };
    return n;
}

static void seats_are(const int *cores, int n_nodes, int smt, int threads, const int *seat,
                      const int *first)
{
    topo_cpu c[MANY];
    int s[MANY], f[20];
    topo_seats(c, machine(c, cores, n_nodes, smt), n_nodes, threads, s, f);
    for (int k = 0; k <= n_nodes; k++)
        if (f[k] != first[k]) fail_msg("node %d begins at thread %d, not %d", k, f[k], first[k]);
    for (int t = 0; t < threads; t++)
        if (s[t] != seat[t]) fail_msg("thread %d sits at %d, not %d", t, s[t], seat[t]);
}
#define SEATS(cores, smt, threads, seat, ...) \
    seats_are((const int[])cores, (int)(sizeof (const int[])cores / sizeof(int)), smt, threads, \
              (const int[])seat, (const int[])__VA_ARGS__)
#define L(...) { __VA_ARGS__ }

static void threads_by_node(void **state)
{
    (void)state;
    SEATS(L(4, 4), 1, 8, L(0, 1, 2, 3, 4, 5, 6, 7), { 0, 4, 8 });
    SEATS(L(4, 4), 1, 4, L(0, 1, 4, 5), { 0, 2, 4 });
    SEATS(L(4, 4), 1, 3, L(0, 4, 5), { 0, 1, 3 });
    SEATS(L(4, 4), 1, 1, L(4), { 0, 0, 1 });
    SEATS(L(2, 2), 2, 4, L(0, 1, 2, 3), { 0, 2, 4 });
    SEATS(L(2, 2), 2, 8, L(0, 1, 4, 5, 2, 3, 6, 7), { 0, 4, 8 });       /* then second threads */
    SEATS(L(2, 2), 2, 6, L(0, 1, 4, 2, 3, 6), { 0, 3, 6 });
    SEATS(L(1, 1), 1, 5, L(0, 0, 1, 1, 1), { 0, 2, 5 });                /* round again */
    SEATS(L(2, 2, 2, 2), 1, 4, L(0, 2, 4, 6), { 0, 1, 2, 3, 4 });
    SEATS(L(1, 2, 3, 4, 4, 3, 2, 1), 1, 20,
          L(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19),
          { 0, 1, 3, 6, 10, 14, 17, 19, 20 });
    SEATS(L(1, 2, 3, 4, 4, 3, 2, 1), 1, 10, L(1, 3, 4, 6, 7, 10, 11, 14, 17, 19),
          { 0, 0, 1, 3, 5, 7, 8, 9, 10 });
}

/* Whatever the machine: every CPU once before any twice, threads in the order of nodes. */
static void threads_anywhere(void **state)
{
    (void)state;
    unsigned seed = 1;
    for (int turn = 0; turn < 400; turn++) {
        topo_cpu c[MANY];
        int cores[8], seat[MANY], first[9], all = 0, n_nodes = 1 + rand_r(&seed) % 8;
        int smt = 1 + rand_r(&seed) % 3;
        for (int k = 0; k < n_nodes; k++) all += cores[k] = 1 + rand_r(&seed) % 8;
        int n = machine(c, cores, n_nodes, smt), threads = 1 + rand_r(&seed) % n;
        for (int i = n - 1; i > 0; i--) {                /* hwloc lists them core by core, say */
            int k = rand_r(&seed) % (i + 1);
            topo_cpu one = c[i];
            c[i] = c[k], c[k] = one;
        }
        topo_seats(c, n, n_nodes, threads, seat, first);
        assert_int_equal(first[0], 0);
        assert_int_equal(first[n_nodes], threads);
        bool used[MANY] = { false };
        for (int k = 0; k < n_nodes; k++) {
            assert_true(first[k + 1] >= first[k]);
            double share = (double)threads * cores[k] / all, got = first[k + 1] - first[k];
            if (got - share >= 1 || share - got >= 1) fail_msg("%g threads for %g", got, share);
            for (int t = first[k]; t < first[k + 1]; t++) {
                int i = 0;
                while (c[i].cpu != seat[t]) i++;
                assert_int_equal(c[i].node, k);
                if (used[seat[t]] && got <= cores[k] * smt) fail_msg("CPU %d twice", seat[t]);
                if (got <= cores[k]) assert_int_equal(c[i].rank, 0);
                used[seat[t]] = true;
            }
        }
    }
}

/* ---- hwloc's machines ---- */

static void made_up_machines(void **state)
{
    (void)state;
    static const struct { const char *text; int nodes, cores, cpus; } row[] = {
        { "node:2 core:4 pu:1", 2, 8, 8 }, { "pack:2 node:1 core:4 pu:2", 2, 8, 16 },
        { "node:4 core:3 pu:2", 4, 12, 24 }, { "node:8 core:1 pu:1", 8, 8, 8 },
        { "core:6 pu:2", 1, 6, 12 }, { "pu:5", 1, 5, 5 },
    };
    dr_err e = {0};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        topo *t = topo_synthetic(row[i].text, &e);
        if (!t) fail_msg("%s: %s", row[i].text, e.msg);
        assert_false(t->here);
        if (t->n_nodes != row[i].nodes || t->n_cores != row[i].cores || t->n_cpus != row[i].cpus)
            fail_msg("%s: %d nodes, %d cores, %d CPUs", row[i].text, t->n_nodes, t->n_cores, t->n_cpus);
        int each = t->n_cpus / t->n_nodes, smt = t->n_cpus / t->n_cores;
        for (int k = 0; k < t->n_cpus; k++) {
            assert_int_equal(t->cpu[k].node, k / each);
            assert_int_equal(t->cpu[k].core, k / smt);
            assert_int_equal(t->cpu[k].rank, k % smt);
        }
        void *p = mem_pages(1 << 20);
        for (int k = 0; k < t->n_nodes; k++)             /* done by hwloc, which does nothing */
            assert_true(topo_bind_memory(t, p, 1 << 20, k));
        assert_true(topo_bind_thread(t, t->cpu[t->n_cpus - 1].cpu));
        mem_pages_free(p, 1 << 20);
        int last = t->n_nodes - 1, number = t->place[last];
        topo_isolate(t, i % 2 ? t->cpu[t->n_cpus - 1].cpu : -1);
        assert_int_equal(t->place[0], i % 2 ? number : 0);
        assert_int_equal(t->cpu[0].cpu, i % 2 ? last * each : 0);
        assert_int_equal(t->n_nodes, 1);
        assert_int_equal(t->n_cpus, each);
        assert_int_equal(t->n_cores, row[i].cores / row[i].nodes);
        assert_int_equal(t->cpu[each - 1].node, 0);
        topo_close(t);
    }
    assert_null(topo_synthetic("no machine at all", &e));
    assert_non_null(strstr(e.msg, "no machine at all"));
}

static void this_machine(void **state)
{
    (void)state;
    dr_err e = {0};
    cpu_set_t old, one;
    assert_int_equal(sched_getaffinity(0, sizeof old, &old), 0);
    topo *t = topo_open(&e);
    if (!t) fail_msg("%s", e.msg);
    assert_true(t->here);
    assert_int_equal(t->n_cpus, CPU_COUNT(&old));
    int last = t->cpu[t->n_cpus - 1].cpu;
    topo_close(t);
    CPU_ZERO(&one);
    CPU_SET(last, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);     /* as taskset does */
    t = topo_open(&e);
    assert_non_null(t);
    assert_int_equal(t->n_cpus, 1);
    assert_int_equal(t->cpu[0].cpu, last);
    topo_close(t);
    sched_setaffinity(0, sizeof old, &old);
}

static void topology_without_memory(void **state)
{
    (void)state;
    size_t live = mem_live_bytes();
    for (long n = 0; n < 30; n++) {
        dr_err e = {0};
        mem_fail_after(n);
        topo *t = topo_synthetic("node:2 core:2 pu:2", &e);
        mem_fail_after(-1);
        topo_close(t);
        assert_int_equal(mem_live_bytes(), live);
        if (t) return;
        assert_int_equal(e.code, DR_ENOMEM);
    }
    fail_msg("never succeeds");
}

/* ---- rows ---- */

static void rows_follow_threads(void **state)
{
    (void)state;
    static const int first2[] = { 0, 4, 8 }, first3[] = { 0, 1, 4, 8 };
    int end[8 * 8];
    wmat a = { .rows = 4096, .K = 4096, .row_bytes = 2304 }, k = a, v = a;
    k.rows = v.rows = 1024;
    const wmat *one[] = { &a }, *qkv[] = { &a, &k, &v };
    cpu_node_rows(one, 1, 8, first2, 2, end);
    assert_in_range(end[0], 2048 - 128, 2048 + 128);        /* a chunk has 113 of them */
    assert_int_equal(end[1], 4096);
    /* of 6,144 rows in one call the first 3,072 are node 0's: all of them q's */
    cpu_node_rows(qkv, 3, 8, first2, 2, end);
    assert_in_range(end[0], 3072 - 128, 3072 + 128);
    for (int i = 1; i < 3; i++) assert_int_equal(end[2 * i], 0);
    for (int i = 0; i < 3; i++) assert_int_equal(end[2 * i + 1], qkv[i]->rows);
    cpu_node_rows(qkv, 3, 8, first3, 3, end);            /* 768, 3072 and 6144 */
    assert_in_range(end[0], 768 - 128, 768 + 128);
    assert_in_range(end[1], 3072 - 128, 3072 + 128);
    assert_int_equal(end[2], 4096);
    assert_int_equal(end[3 + 1], 0);
    unsigned seed = 5;
    for (int turn = 0; turn < 2000; turn++) {
        wmat m[8];
        const wmat *w[8];
        int first[9] = { 0 }, n = 1 + rand_r(&seed) % 8, nodes = 1 + rand_r(&seed) % 8;
        int64_t all = 0, before = 0;
        for (int i = 0; i < nodes; i++) first[i + 1] = first[i] + rand_r(&seed) % 5;
        if (!first[nodes]) continue;
        for (int i = 0; i < n; i++) {
            m[i] = (wmat){ .rows = 1 + rand_r(&seed) % 9000, .K = 64,
                           .row_bytes = (size_t)(1 + rand_r(&seed) % 20000) };
            w[i] = &m[i], all += m[i].rows;
        }
        cpu_node_rows(w, n, first[nodes], first, nodes, end);
        for (int i = 0; i < n; i++) {
            for (int j = 0; j < nodes; j++) {
                int e = end[i * nodes + j];
                assert_in_range(e, j ? end[i * nodes + j - 1] : 0, m[i].rows);
                assert_true(e % 16 == 0 || e == m[i].rows);
            }
            assert_int_equal(end[i * nodes + nodes - 1], m[i].rows);
            before += m[i].rows;
        }
        assert_true(before == all);
    }
}

/* The spans tile the block, whole pages each, and a row is where it should be but near a border. */
static void bytes_follow_rows(void **state)
{
    (void)state;
    unsigned seed = 9;
    for (int turn = 0; turn < 300; turn++) {
        copy_mat mat[12];
        int end[12 * 8], n = 1 + rand_r(&seed) % 12, nodes = 1 + rand_r(&seed) % 8, n_spans = -1;
        size_t pos[12], behind = 0;
        copy_span s[12 * 8];
        for (int i = 0; i < n; i++) {
            int rows = 1 + rand_r(&seed) % (turn % 3 ? 3000 : 60000), last = 0;
            for (int k = 0; k < nodes; k++)
                last = end[i * nodes + k] = k + 1 == nodes ? rows : last + rand_r(&seed) % (rows - last + 1);
            mat[i] = (copy_mat){ (size_t)(1 + rand_r(&seed) % 9000), rows, end + i * nodes };
        }
        size_t all = copy_layout(mat, n, nodes, pos, s, &n_spans);
        for (int i = 0; i < n; i++) {
            assert_int_equal(pos[i] % 128, 0);
            assert_true(pos[i] >= behind);
            behind = pos[i] + mat[i].row_bytes * (size_t)mat[i].rows;
            assert_true(behind <= all);
        }
        if (nodes == 1) { assert_int_equal(n_spans, 0); continue; }
        size_t from = 0;
        for (int k = 0; k < n_spans; k++) {
            assert_true(s[k].at == from && s[k].bytes > 0 && s[k].at % 4096 == 0);
            from += s[k].bytes;
        }
        assert_true(from == all);
        for (int i = 0; i < n; i++) {
            size_t bytes = mat[i].row_bytes * (size_t)mat[i].rows;
            size_t unit = bytes / (size_t)nodes >= 8 * (size_t)OS_HUGE ? OS_HUGE : 4096;
            for (int r = 0, node = 0; r < mat[i].rows; r += 1 + mat[i].rows / 97) {
                while (r >= mat[i].end[node]) node++;
                size_t b = pos[i] + (size_t)r * mat[i].row_bytes, k = 0;
                while (b >= s[k].at + s[k].bytes) k++;
                if (s[k].node == node) continue;
                /* the row's own node is within half a page of it */
                bool near = false;
                for (int j = 0; j < n_spans; j++)
                    near |= s[j].node == node && s[j].at <= b + unit / 2 + 1 &&
                            b <= s[j].at + s[j].bytes + unit / 2 + 1;
                for (int j = 0; j < nodes; j++) {        /* or the node's rows are less than a page */
                    size_t edge = pos[i] + (size_t)mat[i].end[j] * mat[i].row_bytes;
                    near |= edge <= b + unit && b <= edge + unit;
                }
                if (!near) fail_msg("row %d of node %d lies at node %d", r, node, s[k].node);
            }
        }
    }
    const int whole[] = { 1 << 30 };
    copy_mat vast[2] = { { SIZE_MAX / 4, 1 << 30, whole }, { 1, 1 << 30, whole } };
    size_t pos[2];
    int n_spans;
    assert_true(copy_layout(vast, 2, 1, pos, NULL, &n_spans) == SIZE_MAX);
}

/* ---- models ---- */

static int32_t tok[N];

static float *logits_of(const model *m)
{
    dr_err e = {0};
    session *s = session_new(m, &(session_opt){ .n_ctx = N + 8, .n_rows = 16 }, &e);
    if (!s) fail_msg("%s", e.msg);
    if (session_sync(s, tok, N, NULL, NULL, &e)) fail_msg("%s", e.msg);
    float *y = malloc(V * sizeof *y);
    memcpy(y, session_logits(s), V * sizeof *y);
    session_free(s);
    return y;
}

static void write_model(const char *name, const char *type, bool tied, int shards)
{
    char dims[300];
    dr_err e = {0};
    synth_opt o = { .seed = 11, .shards = shards };
    pool *p = pool_new(1, &e);
    snprintf(dims, sizeof dims, "%s,tied=%d", shape, tied);
    if (synth_shape_read(&o.shape, dims, &e) || synth_types_read(&o.types, type, &e) ||
        synth_write(&o, at(name), p, &e)) fail_msg("%s", e.msg);
    pool_free(p);
}

static model *open_it(const char *name, dev_opt o)
{
    dr_err e = {0};
    model *m = model_open(at(name), &o, &e);
    if (!m) fail_msg("%s: %s", name, e.msg);
    return m;
}

static bool within(const model *m, const void *p)
{
    const char *b = m->copy.mem;
    return b && (const char *)p >= b && (const char *)p < b + m->copy.bytes;
}

static void same_bits(void **state)
{
    (void)state;
    static const struct { const char *name, *type; bool tied; int shards; } row[] = {
        { "a.gguf", "Q4_K_M", false, 0 }, { "b.gguf", "Q8_0", true, 0 }, { "c", "BF16", false, 0 },
        { "d", "FP8", false, 0 }, { "e.pth", "F32", false, 1 }, { "f.pth", "BF16", true, 2 },
    };
    static const char *const machines[] = { NULL, "node:1 core:3 pu:1", "node:2 core:2 pu:1",
                                            "node:4 core:1 pu:2" };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        write_model(row[i].name, row[i].type, row[i].tied, row[i].shards);
        model *m = open_it(row[i].name, (dev_opt){ .n_threads = 2 });
        float *want = logits_of(m);
        assert_null(m->copy.mem);
        model_close(m);
        for (size_t k = 0; k < sizeof machines / sizeof *machines; k++) {
            dev_opt o = { .n_threads = k ? 0 : 3, .copy = k == 0, .numa = k ? NUMA_DISTRIBUTE : NUMA_OFF };
            if (machines[k]) setenv("HWLOC_SYNTHETIC", machines[k], 1);
            m = open_it(row[i].name, o);
            unsetenv("HWLOC_SYNTHETIC");
            if (k) assert_int_equal(m->d->n_nodes, k == 1 ? 1 : k == 2 ? 2 : 4);
            if (k) assert_int_equal(m->d->n_threads, k == 1 ? 3 : 4);
            assert_int_equal(m->copy.placed, k > 1);
            assert_true(within(m, m->w.tok_emb.data) && within(m, m->w.out.data));
            assert_true(within(m, m->w.layer[0].wk.data) && within(m, m->w.layer[1].w2.data));
            assert_int_equal((uintptr_t)m->w.layer[1].wv.data % 128, 0);
            assert_int_equal(m->w.out.data == m->w.tok_emb.data, row[i].tied);
            float *got = logits_of(m);
            if (memcmp(want, got, V * sizeof *want)) fail_msg("%s differs, case %zu", row[i].name, k);
            free(got);
            plan p;
            plan_make(&p, m, &(plan_opt){ .n_ctx = 64, .n_seqs = 1, .n_rows = 1, .n_out = 1 });
            assert_int_equal(p.gathered, 0);             /* taken already */
            model_close(m);
        }
        free(want);
    }
}

static void what_it_will_take(void **state)
{
    (void)state;
    dr_err e = {0};
    write_model("a.gguf", "Q4_K_M", false, 0);
    tensors *ts = tensors_open(at("a.gguf"), &e);
    model *m = model_describe(ts, &(dev_opt){ .n_threads = 1, .copy = true }, &e);
    assert_non_null(m);
    assert_null(m->copy.mem);
    plan p;
    plan_make(&p, m, &(plan_opt){ .n_ctx = 64, .n_seqs = 1, .n_rows = 1, .n_out = 1 });
    assert_true(p.gathered >= p.weights && p.gathered < p.weights + 128 * 20);
    model_close(m);
}

static void too_little_memory(void **state)
{
    (void)state;
    dr_err e = {0};
    write_model("a.gguf", "Q4_K_M", false, 0);
    model *m = open_it("a.gguf", (dev_opt){ .n_threads = 1 });
    weights_copy c = {0};
    wmat old = m->w.tok_emb;
    m->w.tok_emb.rows = 1 << 30, m->w.tok_emb.row_bytes = 1 << 20;
    assert_int_equal(copy_load(&c, &m->w, m->ts, &m->h, m->d, &(dev_opt){0}, &e), DR_ENOMEM);
    if (!strstr(e.msg, "are missing; --load map")) fail_msg("%s", e.msg);
    assert_null(c.mem);
    m->w.tok_emb.row_bytes = SIZE_MAX / 2;
    e = (dr_err){0};
    assert_int_equal(copy_load(&c, &m->w, m->ts, &m->h, m->d, &(dev_opt){0}, &e), DR_EFORMAT);
    m->w.tok_emb = old;
    model_close(m);
    size_t live = mem_live_bytes();
    for (long n = 0; n < 400; n++) {
        e = (dr_err){0};
        mem_fail_after(n);
        m = model_open(at("a.gguf"), &(dev_opt){ .n_threads = 2, .copy = true }, &e);
        mem_fail_after(-1);
        bool ok = m != NULL;
        model_close(m);
        assert_int_equal(mem_live_bytes(), live);
        if (ok) return;
        assert_true(e.code && e.msg[0]);
    }
    fail_msg("never succeeds");
}

/* The file may change between its mapping and its reading. */
static void a_file_that_shrinks(void **state)
{
    (void)state;
    dr_err e = {0};
    write_model("a.gguf", "Q8_0", false, 0);
    write_model("z.gguf", "Q8_0", false, 0);
    model *m = open_it("a.gguf", (dev_opt){ .n_threads = 2 });
    float *want = logits_of(m);
    weights_copy c = {0};
    assert_int_equal(rename(at("z.gguf"), at("a.gguf")), 0);      /* another file of that name */
    assert_int_equal(truncate(at("a.gguf"), 100), 0);
    if (copy_load(&c, &m->w, m->ts, &m->h, m->d, &(dev_opt){0}, &e)) fail_msg("%s", e.msg);
    m->copy = c;
    float *got = logits_of(m);
    assert_memory_equal(want, got, V * sizeof *want);             /* the one that was mapped */
    model_close(m);
    write_model("a.gguf", "Q8_0", false, 0);
    m = open_it("a.gguf", (dev_opt){ .n_threads = 2 });
    assert_int_equal(truncate(at("a.gguf"), (off_t)tensors_mapped_bytes(m->ts) - 4096), 0);
    assert_int_equal(copy_load(&c, &m->w, m->ts, &m->h, m->d, &(dev_opt){0}, &e), DR_EIO);
    if (!strstr(e.msg, "became shorter")) fail_msg("%s", e.msg);
    assert_null(c.mem);
    model_close(m);
    free(want);
    free(got);
}

static void said(void *arg, size_t done, size_t all)
{
    size_t *last = arg;
    assert_true(done <= all);
    *last = done;
}

/* Progress is told, and the thread that opened the model has its CPUs again. */
static void afterwards(void **state)
{
    (void)state;
    cpu_set_t old, now;
    size_t last = 0;
    write_model("a.gguf", "Q8_0", false, 0);
    sched_getaffinity(0, sizeof old, &old);
    model *m = open_it("a.gguf", (dev_opt){ .numa = NUMA_ISOLATE, .progress = said, .progress_arg = &last });
    sched_getaffinity(0, sizeof now, &now);
    assert_int_equal(CPU_COUNT(&now), 1);
    assert_true(CPU_ISSET(m->d->seat[0], &now));
    assert_true(last > 0);
    model_pages p;
    if (model_pages_of(m, &p)) assert_true(p.copied == m->copy.bytes && p.copied_huge <= p.copied);
    model_close(m);
    sched_getaffinity(0, sizeof now, &now);
    assert_true(CPU_EQUAL(&old, &now));
}

static int make(void **state)
{
    (void)state;
    for (int i = 0; i < N; i++) tok[i] = i * 37 % V;
    return mkdtemp(dir) ? 0 : -1;
}

static int clean(void **state)
{
    (void)state;
    char cmd[300];
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    FILE *f = popen(cmd, "r");
    return f ? pclose(f) : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_by_node), cmocka_unit_test(threads_anywhere),
        cmocka_unit_test(made_up_machines), cmocka_unit_test(this_machine),
        cmocka_unit_test(topology_without_memory), cmocka_unit_test(rows_follow_threads),
        cmocka_unit_test(bytes_follow_rows), cmocka_unit_test(same_bits),
        cmocka_unit_test(what_it_will_take), cmocka_unit_test(too_little_memory),
        cmocka_unit_test(a_file_that_shrinks), cmocka_unit_test(afterwards),
    };
    return cmocka_run_group_tests(tests, make, clean);
}
