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

/* After steps 10 and 50: at most twice as far from float64 as PyTorch, and within fixed bounds. */
static void judge(golden *g, const params *p)
{
    double off = weights_off(g, p), torch_w = at(g, "torch_weights", g->kept);
    double torch_l = at(g, "torch_loss", g->kept);
    print_message("%-6s step %2d: losses off by %.2e (torch %.2e), weights by %.2e (torch %.2e)\n", g->name,
                  g->kept ? 50 : 10, g->worst_loss, torch_l, off, torch_w);
    if (!(off <= 2 * torch_w && g->worst_loss <= 2 * torch_l)) fail_msg("more than twice torch's");
    if (!(off <= 1e-5 && g->worst_loss <= (g->kept ? 1e-4 : 1e-5))) fail_msg("too far");
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
        double norm;
        batch_of(&c, i);
        params_zero_grad(p);
        if (net_step(nn, &c.b, &sum, NULL, &e) || zero_reduce(&z, p->g, &sum.loss, 2, &norm, &e))
            fail_msg("%s", e.msg);
        double off = fabs(sum.loss / sum.weight - at(g, "loss", i)), want = at(g, "norm", i);
        if (!(off <= g->worst_loss)) g->worst_loss = isnan(off) ? INFINITY : off;
        norm /= sum.weight;
        if (!(fabs(norm - want) <= 1e-4 * want)) fail_msg("%s, step %d: norm %g, wanted %g", g->name, i, norm, want);
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

int main(int argc, char **argv)
{
    if (argc > 1) data = argv[1];
    const struct CMUnitTest tests[] = { cmocka_unit_test(steps_are_those_of_float64) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
