/* adamw.c - 50 steps of training: losses, norms and weights against float64, beside what PyTorch's
 * float32 run of the same steps makes of them (tools/golden/adamw.py).
 * usage: adamw [FOLDER]       larger cases that adamw.py --large has written */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/os.h"
#include "train/net.h"
#include "train/sched.h"
#include "train/zero.h"
#include "train_case.h"

static const char *data = "tests/golden/data";

/* Tokens of one of four batches, and the next of each as its target. */
static void batch_of(train_case *c, int step)
{
    for (int i = 0; i < c->b.n; i++)
        c->tok[i] = (int32_t)(case_hash(2000 + (uint32_t)(step % 4), (uint32_t)i) % (uint32_t)c->h.V);
    for (int d = 0; d < c->b.n_docs; d++)
        for (int i = c->start[d]; i < c->start[d + 1]; i++)
            c->target[i] = i + 1 < c->start[d + 1] ? c->tok[i + 1] : -1;
}

typedef struct { const json_t *all, *j; const char *name; int kept; double worst_loss; const double *want; } golden;

static double at(const golden *g, const char *key, int i)
{
    return json_number_value(json_array_get(json_object_get(g->j, key), (size_t)i));
}

/* Every stride-th weight of each tensor; moves g->want on. */
static double weights_off(golden *g, const params *p)
{
    int stride = case_int(g->j, "stride");
    double d = 0, s = 0;
    for (int t = 0; t < p->n; t++)
        for (int64_t i = 0; i < p->p[t].n; i += stride, g->want++) {
            double x = (double)p->w[p->p[t].at + i] - *g->want;
            d += x * x, s += *g->want * *g->want;
        }
    return sqrt(d / s);
}

/* After steps 10 and 50: at most twice as far from float64 as PyTorch, and width 64 within fixed bounds. */
static void judge(golden *g, const params *p)
{
    double off = weights_off(g, p), torch_w = at(g, "torch_weights", g->kept);
    double torch_l = at(g, "torch_loss", g->kept);
    print_message("%-6s step %2d: losses off by %.2e (torch %.2e), weights by %.2e (torch %.2e)\n", g->name,
                  g->kept ? 50 : 10, g->worst_loss, torch_l, off, torch_w);
    if (!(off <= 2 * torch_w && g->worst_loss <= 2 * torch_l)) fail_msg("more than twice torch's");
    if (p->h.C == 64 && !(off <= 1e-5 && g->worst_loss <= (g->kept ? 1e-4 : 1e-5))) fail_msg("too far");
    g->kept++;
}

static void run(golden *g)
{
    dr_err e = {0};
    train_case c;
    case_read(&c, g->j);
    int steps = case_int(g->all, "steps"), n = c.b.n;
    const sched_phase phase = { .until_tokens = (int64_t)n * steps, .seq = n, .batch_tokens = n,
                                .law = SCHED_COSINE, .peak = case_real(g->all, "lr"),
                                .end = case_real(g->all, "end"), .warmup = case_int(g->all, "warmup") };
    sched s;
    dev *d = dev_open(&(dev_opt){ .n_threads = 2 }, &e);
    comm *who = comm_open("self", &e);
    params *p = params_new(&c.h, DT_F32, &e);
    if (!d || !who || !p || params_alloc(p, d, true, &e) || sched_init(&s, &phase, 1, &e))
        fail_msg("%s", e.msg);
    case_weights(p, c.std);
    optim_opt o;
    optim_opt_init(&o, OPTIM_ADAMW);
    o.decay = case_real(g->all, "decay");
    optim_tensor *t = calloc((size_t)p->n, sizeof *t);
    optim_table(p, t);
    zero z;
    net *nn = net_new(p, &(net_opt){ .n_rows = n, .max_docs = c.b.n_docs }, &e);
    if (!nn || zero_init(&z, who, &o, t, p->n, d, &e)) fail_msg("%s", e.msg);
    for (int i = 0; i < steps; i++) {
        loss_sum sum = {0};
        double norm = 0;
        batch_of(&c, i);
        params_zero_grad(p);
        if (net_step(nn, &c.b, &sum, NULL, &e) || zero_reduce(&z, p->g, &sum.loss, 2, &norm, &e))
            fail_msg("%s", e.msg);
        double off = fabs(sum.loss / sum.weight - at(g, "loss", i)), want = at(g, "norm", i);
        if (!(off <= g->worst_loss)) g->worst_loss = isnan(off) ? INFINITY : off;
        norm /= sum.weight;
        if (!(fabs(norm - want) <= (c.h.C == 64 ? 1e-4 : 1e-2) * want)) fail_msg("%s, step %d: norm %g, wanted %g", g->name, i, norm, want);
        double scale = optim_clip(norm, case_real(g->all, "clip")) / sum.weight;
        if (zero_step(&z, p->w, NULL, p->g, (float)scale, sched_at(&s, i).lr, i + 1, &e)) fail_msg("%s", e.msg);
        if (i + 1 == 10 || i + 1 == 50) judge(g, p);
    }
    zero_free(&z);
    net_free(nn);
    params_free(p);
    comm_close(who);
    dev_close(d);
    free(t);
    case_free(&c);
}

static void steps_are_those_of_float64(void **state)
{
    (void)state;
    char path[512];
    snprintf(path, sizeof path, "%s/adamw.json", data);
    json_t *all = json_load_file(path, 0, NULL), *j;
    assert_non_null(all);
    size_t i;
    json_array_foreach(json_object_get(all, "cases"), i, j) {
        golden g = { .all = all, .j = j, .name = json_string_value(json_object_get(j, "name")) };
        dr_err e = {0};
        os_file f;
        snprintf(path, sizeof path, "%s/adamw_%s.bin", data, g.name);
        if (os_map(&f, path, &e)) fail_msg("%s", e.msg);
        g.want = (const double *)(const void *)f.p;
        run(&g);
        assert_ptr_equal(g.want, f.p + f.n);
        os_unmap(&f);
    }
    assert_true(i > 0);
    json_decref(all);
}

/* ---- states of eight bits ---- */

enum { ROW = 128, BATCH = 4, LEARN = 200, EVAL = 16 };

/* A text's bytes from `at` on, as rows of ROW tokens that predict the next. */
static void bytes_batch(train_case *c, const os_file *f, size_t from)
{
    for (int i = 0; i < c->b.n; i++) {
        size_t k = from + (size_t)i;
        c->tok[i] = f->p[k % f->n], c->target[i] = f->p[(k + 1) % f->n];
    }
}

/* Loss on text that was not trained on, of a model of 4 layers that has read 200 batches. */
static double learn(const optim_opt *o, double lr, const os_file *text, const os_file *other)
{
    dr_err e = {0};
    train_case c = { .h = { .family = "llama", .V = 256, .C = 64, .L = 4, .nh = 4, .nkv = 2, .hs = 16,
                            .F = 160, .n_ctx = ROW, .eps = 1e-5f, .tied = true,
                            .rope = { .theta = 10000 } } };
    int len[EVAL];
    for (int i = 0; i < EVAL; i++) len[i] = ROW;
    case_batch(&c, len, EVAL, false, NULL);
    dev *d = dev_open(&(dev_opt){ .n_threads = 2 }, &e);
    comm *who = comm_open("self", &e);
    params *p = params_new(&c.h, DT_F32, &e);
    if (!d || !who || !p || params_alloc(p, d, true, &e)) fail_msg("%s", e.msg);
    params_random(p, 3, 0.05f);
    optim_tensor *t = calloc((size_t)p->n, sizeof *t);
    optim_table(p, t);
    zero z;
    net *nn = net_new(p, &(net_opt){ .n_rows = EVAL * ROW, .max_docs = EVAL }, &e);
    if (!nn || zero_init(&z, who, o, t, p->n, d, &e)) fail_msg("%s", e.msg);
    for (int i = 0; i < LEARN; i++) {
        loss_sum sum = {0};
        double norm = 0;
        c.b.n = BATCH * ROW, c.b.n_docs = BATCH;
        bytes_batch(&c, text, (size_t)i * BATCH * ROW);
        params_zero_grad(p);
        if (net_step(nn, &c.b, &sum, NULL, &e) || zero_reduce(&z, p->g, &sum.loss, 2, &norm, &e))
            fail_msg("%s", e.msg);
        float scale = (float)(optim_clip(norm / sum.weight, 1) / sum.weight);
        double rate = lr * (i < 20 ? (i + 1) / 20.0 : 1 - 0.9 * (i - 20) / 180);
        if (zero_step(&z, p->w, NULL, p->g, scale, rate, i + 1, &e)) fail_msg("%s", e.msg);
    }
    loss_sum sum = {0};
    c.b.n = EVAL * ROW, c.b.n_docs = EVAL;
    bytes_batch(&c, other, 0);
    if (net_eval(nn, &c.b, &sum, NULL, &e)) fail_msg("%s", e.msg);
    zero_free(&z);
    net_free(nn);
    params_free(p);
    comm_close(who);
    dev_close(d);
    free(t);
    case_free(&c);
    return sum.loss / sum.weight;
}

/* And Muon, at the same rate, about as much. */
static void eight_bits_learn_as_much(void **state)
{
    (void)state;
    dr_err e = {0};
    os_file text, other;
    if (os_map(&text, "docs/measured.md", &e) || os_map(&other, "docs/kernels.md", &e)) fail_msg("%s", e.msg);
    const double rate[] = { 3e-3, 1e-3 }, beta2[] = { 0.95, 0.999 };
    for (int i = 0; i < 2; i++) {
        optim_opt a, b;
        optim_opt_init(&a, OPTIM_ADAMW);
        optim_opt_init(&b, OPTIM_ADAMW8);
        a.beta2 = b.beta2 = beta2[i];
        double x = learn(&a, rate[i], &text, &other), y = learn(&b, rate[i], &text, &other);
        print_message("rate %g, beta2 %g: loss %.5f with 32 bits, %.5f with 8: %+.3f %%\n", rate[i], beta2[i], x,
                      y, 100 * (y / x - 1));
        if (!(x < 3.5)) fail_msg("it does not learn");
        if (!(y <= 1.005 * x)) fail_msg("8 bits learn less");
        if (i) continue;
        optim_opt_init(&a, OPTIM_MUON);
        y = learn(&a, rate[i], &text, &other);
        print_message("rate %g: loss %.5f with Muon\n", rate[i], y);
        if (!(y <= 1.05 * x)) fail_msg("Muon learns less");
    }
    os_unmap(&text);
    os_unmap(&other);
}

int main(int argc, char **argv)
{
    if (argc > 1) data = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_are_those_of_float64), cmocka_unit_test(eight_bits_learn_as_much),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
