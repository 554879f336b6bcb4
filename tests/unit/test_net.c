/* test_net.c - promises of the training step: recomputing and threads change no bit, packing and
 * accumulation change nothing, documents do not see one another, what is trained is what is sampled
 * from, memory is what was planned. Right gradients: tests/golden/train.c, tests/grad. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/mem.h"
#include "gen/session.h"
#include "kern/kern.h"
#include "train/net_priv.h"
#include "train_case.h"

static const int lens[] = { 70, 1, 129, 2, 33, 64 };
enum { DOCS = sizeof lens / sizeof *lens, ROWS = 299 };

static const hparams shapes[] = {
    { .family = "llama", .V = 211, .C = 48, .L = 3, .nh = 3, .nkv = 1, .hs = 32, .F = 80, .n_ctx = 512,
      .eps = 1e-5f, .tied = true, .rope = { .theta = 10000 } },
    { .family = "llama", .V = 130, .C = 64, .L = 2, .nh = 4, .nkv = 2, .hs = 16, .F = 100, .n_ctx = 512,
      .eps = 1e-5f, .rope = { .kind = ROPE_LLAMA3, .theta = 500000, .factor = 8, .low = 1, .high = 4,
                              .orig_ctx = 64 } },
};
static const int types[] = { DT_F32, DT_BF16 };

typedef struct { dev *d; params *p; net *n; } rig;

static rig rig_new(const hparams *h, int type, const char *level, int threads, net_opt o)
{
    dr_err e = {0};
    rig r = { .d = dev_open(&(dev_opt){ .n_threads = threads, .cpu_level = level }, &e) };
    r.p = params_new(h, type, &e);
    if (!r.d || !r.p || params_alloc(r.p, r.d, !o.eval_only, &e)) fail_msg("%s", e.msg);
    case_weights(r.p, 0.15f);
    r.n = net_new(r.p, &o, &e);
    if (!r.n) fail_msg("%s", e.msg);
    return r;
}

static void rig_free(rig *r)
{
    net_free(r->n);
    params_free(r->p);
    dev_close(r->d);
}

static train_case make(const hparams *h, bool weighted)
{
    train_case c = { .h = *h };
    case_batch(&c, lens, DOCS, weighted, NULL);
    return c;
}

static loss_sum step(rig *r, const batch *b, float *logp)
{
    dr_err e = {0};
    loss_sum s = {0};
    if (net_step(r->n, b, &s, logp, &e)) fail_msg("%s", e.msg);
    return s;
}

/* Levels of recomputing and numbers of threads: the same bits of everything. */
static void recompute_and_threads(void **state)
{
    (void)state;
    for (size_t s = 0; s < 2; s++)
        for (int t = 0; t < 2; t++) {
            train_case c = make(&shapes[s], s);
            float *g = NULL, logp[2][ROWS];
            loss_sum first = {0};
            for (int i = 0; i < 9; i++) {
                rig r = rig_new(&c.h, types[t], NULL, 1 + i % 3,
                                (net_opt){ .n_rows = ROWS + i, .max_docs = DOCS, .recompute = i / 3 });
                loss_sum x = step(&r, &c.b, logp[i > 0]);
                size_t bytes = (size_t)r.p->n_elem * sizeof(float);
                if (!g) {
                    g = memcpy(malloc(bytes), r.p->g, bytes), first = x;
                } else if (memcmp(g, r.p->g, bytes) || memcmp(logp[0], logp[1], sizeof logp[0]) ||
                           x.loss != first.loss || x.weight != first.weight) {
                    fail_msg("shape %zu, type %d, recompute %d, %d threads", s, types[t], i / 3, 1 + i % 3);
                }
                rig_free(&r);
            }
            free(g);
            case_free(&c);
        }
}

static double worst_gradient(const params *p, const float *want)
{
    double worst = 0;
    for (int i = 0; i < p->n; i++) {
        double r = case_rel(p->g + p->p[i].at, want + p->p[i].at, p->p[i].n);
        if (!(r <= worst)) worst = isnan(r) ? INFINITY : r;
    }
    return worst;
}

/* One batch, its documents one by one and in two halves, the weights and the count beside them: the
 * same loss and gradients, and log-probabilities to the bit. */
static void packed_accumulated_and_alone(void **state)
{
    (void)state;
    for (size_t s = 0; s < 2; s++)
        for (int t = 0; t < 2; t++) {
            train_case c = make(&shapes[s], true);
            rig r = rig_new(&c.h, types[t], NULL, 2, (net_opt){ .n_rows = ROWS, .max_docs = DOCS });
            float whole[ROWS], part[ROWS];
            size_t bytes = (size_t)r.p->n_elem * sizeof(float);
            loss_sum w = step(&r, &c.b, whole);
            float *g = memcpy(malloc(bytes), r.p->g, bytes);
            for (int per = 1; per <= 3; per += 2) {
                loss_sum sum = {0};
                dr_err e = {0};
                params_zero_grad(r.p);
                for (int d = 0; d < DOCS; d += per) {
                    int32_t start[4], at = c.start[d];
                    for (int k = 0; k <= per; k++) start[k] = c.start[d + k] - at;
                    batch b = { .n = start[per], .tok = c.tok + at, .target = c.target + at,
                                .weight = c.weight + at, .n_docs = per, .doc_start = start };
                    assert_int_equal(net_step(r.n, &b, &sum, part + at, &e), DR_OK);
                }
                assert_memory_equal(whole, part, sizeof whole);
                assert_true(sum.weight == w.weight && fabs(sum.loss / w.loss - 1) <= 1e-12);
                double off = worst_gradient(r.p, g);
                if (!(off <= (types[t] == DT_F32 ? 1e-6 : 1e-5))) fail_msg("gradients off by %g", off);
            }
            free(g);
            rig_free(&r);
            case_free(&c);
        }
}

/* Gradients that are begun anew forget what was there, whatever it was; the batch after that adds to them. With
 * tokens to predict and without any. */
static void begun_anew(void **state)
{
    (void)state;
    for (int s = 0; s < 2; s++)
        for (int masked = 0; masked < 2; masked++) {
            train_case c = make(&shapes[s], true);
            rig r = rig_new(&c.h, types[s], NULL, 2, (net_opt){ .n_rows = ROWS, .max_docs = DOCS });
            for (int i = 0; masked && i < c.b.n; i++) c.target[i] = -1;
            size_t bytes = (size_t)r.p->n_elem * sizeof(float);
            for (int times = 1; times <= 2; times++) {
                params_zero_grad(r.p);
                for (int k = 0; k < times; k++) step(&r, &c.b, NULL);
                float *g = memcpy(malloc(bytes), r.p->g, bytes);
                for (int i = 0; i < r.p->n; i++)
                    for (int64_t k = 0; k < r.p->p[i].n; k++) r.p->g[r.p->p[i].at + k] = NAN;
                net_zero_grad(r.n);
                for (int k = 0; k < times; k++) step(&r, &c.b, NULL);
                for (int64_t i = 0; i < r.p->n_elem; i++)       /* -0 is what 0 + -0 is not */
                    if (r.p->g[i] != g[i]) fail_msg("element %d: %g, not %g", (int)i, r.p->g[i], g[i]);
                free(g);
            }
            rig_free(&r);
            case_free(&c);
        }
}

/* (n,V) logits of the batch. */
static float *logits_of(rig *r, const batch *b)
{
    dr_err e = {0};
    const wmat *w = &net_model(r->n)->w.out;
    float *y = calloc((size_t)b->n * (size_t)w->rows, sizeof *y);
    assert_int_equal(net_eval(r->n, b, &(loss_sum){0}, NULL, &e), DR_OK);
    r->d->matmul(r->d, &(mm_out){ y, (size_t)w->rows, w }, 1, r->n->xf, (size_t)w->K, b->n);
    return y;
}

/* A changed token changes its own document from there on, and no bit of another one. */
static void documents(void **state)
{
    (void)state;
    for (int t = 0; t < 2; t++) {
        train_case c = make(&shapes[1], false);
        rig r = rig_new(&c.h, types[t], NULL, 2, (net_opt){ .n_rows = ROWS, .max_docs = DOCS });
        int at = c.start[2] + 66;
        size_t V = (size_t)c.h.V;
        float *a = logits_of(&r, &c.b);
        c.tok[at] = (c.tok[at] + 1) % c.h.V;
        float *b = logits_of(&r, &c.b);
        for (int i = 0; i < ROWS; i++) {
            bool same = !memcmp(a + (size_t)i * V, b + (size_t)i * V, V * sizeof *a);
            if (same != (i < at || i >= c.start[3])) fail_msg("row %d", i);
        }
        free(a), free(b);
        rig_free(&r);
        case_free(&c);
    }
}

/* ---- sampler = trainer ---- */

static float log_prob(dev *d, const float *logits, int32_t tok, int V)
{
    float y;
    d->log_probs(d, &y, logits, (size_t)V, &tok, 1, V);
    return y;
}

static void same_logp(const float *want, int i, float got, const char *how, const char *level, int type)
{
    if (memcmp(&want[i], &got, sizeof got))
        fail_msg("%s, %s, type %d, row %d: %.9g, trained with %.9g", how, level, type, i, (double)got,
                 (double)want[i]);
}

/* A document through a session in steps of `rows`; every fourth time its middle is evaluated twice. */
static void in_chunks(const rig *r, const train_case *c, int doc, int rows, const float *want,
                      const char *level)
{
    dr_err e = {0};
    const model *m = net_model(r->n);
    int from = c->start[doc], len = c->start[doc + 1] - from;
    session *s = session_new(m, &(session_opt){ .n_ctx = 300, .n_rows = rows, .n_logits = rows,
                                                .kv_set = true, .kv = params_kv(r->p) }, &e);
    if (!s) fail_msg("%s", e.msg);
    for (int at = 0; at < len;) {
        int n = len - at < rows ? len - at : rows;
        if (session_append_rows(s, c->tok + from + at, n, n, NULL, &e)) fail_msg("%s", e.msg);
        if (at % 4 == 3) {                           // drop the step and do it once more
            session_truncate(s, at);
            if (session_append_rows(s, c->tok + from + at, n, n, NULL, &e)) fail_msg("%s", e.msg);
        }
        for (int i = 0; i < n; i++)
            if (c->target[from + at + i] >= 0)
                same_logp(want, from + at + i,
                          log_prob(r->d, session_logits_at(s, at + i + 1), c->target[from + at + i], c->h.V),
                          "in chunks", level, r->p->type);
        at += n;
    }
    session_free(s);
}

/* All documents side by side, a token of each a step, over one cache. */
static void in_batches(const rig *r, const train_case *c, const float *want, const char *level)
{
    dr_err e = {0};
    const model *m = net_model(r->n);
    const hparams *h = &c->h;
    workspace ws;
    kv_cache kv;
    kv_seq seq[DOCS];
    assert_int_equal(workspace_init(&ws, m, DOCS, DOCS, 300, &e), DR_OK);
    assert_int_equal(kv_init(&kv, r->d, params_kv(r->p), h->L, h->nkv, h->hs, 2048, &e), DR_OK);
    for (int d = 0; d < DOCS; d++) assert_int_equal(kv_seq_init(&seq[d], 300, &e), DR_OK);
    for (int t = 0; t < 129; t++) {
        int32_t tok[DOCS], row[DOCS], out[DOCS];
        seq_run run[DOCS];
        int n = 0;
        for (int d = 0; d < DOCS; d++) {
            if (t >= lens[d]) continue;
            assert_int_equal(kv_grow(&kv, &seq[d], 1, &e), DR_OK);
            row[n] = c->start[d] + t, tok[n] = c->tok[row[n]], out[n] = n;
            run[n] = (seq_run){ n, 1, t, seq[d].page };
            kv_advance(&seq[d], 1);
            n++;
        }
        model_forward(m, &ws, &kv, tok, n, run, n, out, n);
        for (int i = 0; i < n; i++)
            if (c->target[row[i]] >= 0)
                same_logp(want, row[i], log_prob(r->d, ws.logits + (size_t)i * (size_t)h->V,
                                                 c->target[row[i]], h->V), "in batches", level, r->p->type);
    }
    for (int d = 0; d < DOCS; d++) kv_seq_free(&kv, &seq[d]);
    kv_free(&kv);
    workspace_free(&ws);
}

static void sampler_is_trainer(void **state)
{
    (void)state;
    unsigned cpu = cpu_detect();
    for (int l = 0; l < n_kern_levels; l++)
        for (int i = 0; i < 4; i++) {
            if ((kern_levels[l].need & cpu) != kern_levels[l].need) continue;
            const char *level = kern_levels[l].name;
            train_case c = make(&shapes[i / 2], false);
            rig r = rig_new(&c.h, types[i % 2], level, 2, (net_opt){ .n_rows = ROWS, .max_docs = DOCS });
            float want[ROWS], again[ROWS];
            for (int turn = 0; turn < 2; turn++) {
                step(&r, &c.b, want);
                assert_int_equal(net_eval(r.n, &c.b, &(loss_sum){0}, again, &(dr_err){0}), DR_OK);
                assert_memory_equal(want, again, sizeof want);
                in_chunks(&r, &c, 2, 1, want, level);
                in_chunks(&r, &c, 2, 7, want, level);
                in_chunks(&r, &c, 2, 64, want, level);
                in_chunks(&r, &c, 0, 17, want, level);
                in_batches(&r, &c, want, level);
                for (int64_t k = 0; k < r.p->n_elem; k++) r.p->w[k] -= 1e-3f * r.p->g[k];   // a step
                params_round(r.p, 0, r.p->n_elem);
            }
            rig_free(&r);
            case_free(&c);
        }
}

/* ---- memory, refusals ---- */

/* What is taken is what was planned; recomputing takes less; a step takes nothing. */
static void memory(void **state)
{
    (void)state;
    train_case c = make(&shapes[0], false);
    size_t last = SIZE_MAX;
    for (int i = 0; i < 4; i++) {
        dr_err e = {0};
        net_opt o = { .n_rows = ROWS, .max_docs = DOCS, .recompute = i % 3, .eval_only = i == 3 };
        net_plan pl;
        dev *d = dev_open(&(dev_opt){ .n_threads = 2 }, &e);
        params *p = params_new(&c.h, DT_F32, &e);
        assert_int_equal(net_plan_make(&pl, p, d, &o, &e), DR_OK);
        assert_true(pl.total == pl.kept + pl.kv + pl.work + pl.scratch);
        size_t live = mem_live_bytes();
        assert_int_equal(params_alloc(p, d, i < 3, &e), DR_OK);
        assert_true(mem_live_bytes() - live >= params_bytes(p, i < 3));
        live = mem_live_bytes();
        mem_peak_reset();
        net *n = net_new(p, &o, &e);
        assert_non_null(n);
        double took = (double)(mem_live_bytes() - live);
        long count = mem_count();
        float logp[ROWS];
        for (int k = 0; k < 2; k++)
            if (i < 3) assert_int_equal(net_step(n, &c.b, &(loss_sum){0}, logp, &e), DR_OK);
            else assert_int_equal(net_eval(n, &c.b, &(loss_sum){0}, logp, &e), DR_OK);
        assert_int_equal(mem_count(), count);
        double peak = (double)(mem_peak_bytes() - live), want = (double)pl.total;
        /* the tables of the host are not counted: a few KB */
        if (fabs(took - want) > 16384 || fabs(peak - want) > 16384)
            fail_msg("recompute %d: %.0f bytes planned, %.0f taken, %.0f at most", o.recompute, want,
                     took, peak);
        assert_true(pl.kept + pl.kv < last && (i < 3 || pl.kept == 0));
        last = pl.kept + pl.kv;
        net_free(n);
        params_free(p);
        dev_close(d);
    }
    case_free(&c);
}

/* The head of 4,096 tokens over 49,152 words: 2 % of what PyTorch's takes at its peak, 2,426 MB
 * (bench/loss_memory.py). */
static void memory_of_the_head(void **state)
{
    (void)state;
    dr_err e = {0};
    dev *d = dev_open(&(dev_opt){ .n_threads = 2 }, &e);
    train_size big = { .N = 4096, .C = 576, .V = 49152, .nh = 9, .hs = 64 }, small = big;
    small.V = 1;
    size_t head = d->reserve_train_bytes(d, &big) - d->reserve_train_bytes(d, &small);
    head += 2 * 192 * 576 * sizeof(float);              /* rows of x and dx that it gathers */
    if (!(head > 0 && (double)head <= 0.02 * 2426e6)) fail_msg("%zu bytes", head);
    dev_close(d);
}

static void refuse(rig *r, const batch *b, int code, const char *word)
{
    dr_err e = {0};
    loss_sum s = {0};
    float before = r->p->g[0];
    assert_int_equal(net_step(r->n, b, &s, NULL, &e), code);
    if (!strstr(e.msg, word)) fail_msg("%s", e.msg);
    assert_true(s.loss == 0 && s.weight == 0 && r->p->g[0] == before);
}

static void refusals(void **state)
{
    (void)state;
    train_case c = make(&shapes[0], false);
    rig r = rig_new(&c.h, DT_F32, NULL, 1, (net_opt){ .n_rows = ROWS, .max_docs = DOCS });
    batch b = c.b;
    int32_t parent[DOCS] = { -1, -1, -1, -1, -1, -1 };
    b.parent = parent;
    step(&r, &b, NULL);
    parent[3] = 2;
    refuse(&r, &b, DR_EUNSUPPORTED, "document 3 goes on where document 2 ended");
    b.parent = NULL;
    c.tok[7] = c.h.V;
    refuse(&r, &b, DR_EINVAL, "211");
    rig_free(&r);
    c.tok[7] = 0;
    r = rig_new(&c.h, DT_F32, NULL, 1, (net_opt){ .n_rows = ROWS - 1, .max_docs = DOCS, .max_len = 129 });
    refuse(&r, &b, DR_EINVAL, "299 tokens in 6 documents; room was planned for 298 in 6");
    rig_free(&r);
    r = rig_new(&c.h, DT_F32, NULL, 1, (net_opt){ .n_rows = ROWS, .max_docs = DOCS - 1, .max_len = 129 });
    refuse(&r, &b, DR_EINVAL, "room was planned for 299 in 5");
    rig_free(&r);
    r = rig_new(&c.h, DT_F32, NULL, 1, (net_opt){ .n_rows = ROWS, .max_docs = DOCS, .max_len = 128 });
    refuse(&r, &b, DR_EINVAL, "128");
    static const net_opt bad[] = { { .n_rows = 0 }, { .n_rows = 8, .recompute = 3 },
                                   { .n_rows = 8, .recompute = -1 }, { .n_rows = 1000, .max_len = 600 },
                                   { .n_rows = 8, .max_docs = -1 } };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        dr_err e = {0};
        net_plan pl;
        assert_int_equal(net_plan_make(&pl, r.p, r.d, &bad[i], &e), DR_EINVAL);
        assert_true(e.msg[0]);
        assert_null(net_new(r.p, &bad[i], &e));
    }
    rig_free(&r);
    case_free(&c);
}

static void no_memory(void **state)
{
    (void)state;
    dr_err e = {0};
    params *p = params_new(&shapes[0], DT_BF16, &e);
    bool ok = false;
    for (long after = 0; !ok; after++) {
        assert_true(after < 50);
        dev *d = dev_open(&(dev_opt){ .n_threads = 1 }, &e);
        p->d = NULL;
        assert_int_equal(params_alloc(p, d, true, &e), DR_OK);
        size_t live = mem_live_bytes();
        e = (dr_err){0};
        mem_fail_after(after);
        net *n = net_new(p, &(net_opt){ .n_rows = 64 }, &e);
        mem_fail_after(-1);
        ok = n != NULL;
        if (!ok) assert_int_equal(e.code, DR_ENOMEM);
        net_free(n);
        if (!ok) assert_true(mem_live_bytes() - live < 1u << 22);    // scratch stays the device's
        params_free(p);
        dev_close(d);
        p = params_new(&shapes[0], DT_BF16, &e);
    }
    params_free(p);
}

/* Nothing to learn: no loss, no gradient, no NaN. */
static void all_masked(void **state)
{
    (void)state;
    train_case c = make(&shapes[1], false);
    rig r = rig_new(&c.h, DT_F32, NULL, 2, (net_opt){ .n_rows = ROWS, .max_docs = DOCS });
    for (int i = 0; i < ROWS; i++) c.target[i] = -1;
    loss_sum s = step(&r, &c.b, NULL);
    assert_true(s.loss == 0 && s.weight == 0);
    for (int64_t i = 0; i < r.p->n_elem; i++) assert_true(r.p->g[i] == 0);
    rig_free(&r);
    case_free(&c);
}

/* Llama 3.1 8B and 405B at 8,192: the figures that are printed for them. */
static void flops(void **state)
{
    (void)state;
    const hparams a = { .V = 128256, .C = 4096, .L = 32, .nh = 32, .nkv = 8, .hs = 128, .F = 14336 };
    const hparams b = { .V = 128256, .C = 16384, .L = 126, .nh = 128, .nkv = 8, .hs = 128, .F = 53248 };
    assert_true(fabs(net_flops_per_token(&a, 8192, false) / 5.79e10 - 1) < 2e-3);
    assert_true(fabs(net_flops_per_token(&a, 8192, true) / 5.15e10 - 1) < 2e-3);
    assert_true(fabs(net_flops_per_token(&b, 8192, false) / 2.625e12 - 1) < 2e-3);
    assert_true(fabs(net_flops_per_token(&b, 8192, true) / 2.524e12 - 1) < 2e-3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recompute_and_threads), cmocka_unit_test(packed_accumulated_and_alone),
        cmocka_unit_test(begun_anew),
        cmocka_unit_test(documents), cmocka_unit_test(sampler_is_trainer), cmocka_unit_test(memory),
        cmocka_unit_test(memory_of_the_head),
        cmocka_unit_test(refusals), cmocka_unit_test(no_memory), cmocka_unit_test(all_masked),
        cmocka_unit_test(flops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
