/* train.c - loss, log-probabilities and every gradient of whole models against float64
 * (tools/golden/train.py), at every kernel level; bf16 beside what PyTorch's autocast makes of them.
 * usage: train [FOLDER [LEVEL]]      larger cases that train.py --large has written, one level */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/buf.h"
#include "base/os.h"
#include "kern/kern.h"
#include "train/net.h"
#include "train_case.h"

static const char *data = "tests/golden/data", *only;

typedef struct { train_case c; const json_t *j; const char *name; tensors *want; } golden;

static const float *want_of(const golden *g, const char *name, int64_t n)
{
    const tensor *t = tensors_find(g->want, name);
    if (!t || t->type != DT_F32 || t->bytes != (size_t)n * sizeof(float)) fail_msg("%s", name);
    return (const float *)(const void *)t->data;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Gradients of p against float64. F32: each within 1e-5; of a real model, where some are sums that cancel,
 * or within half of what PyTorch's float32 is off by. BF16: errors over autocast's, median within 1.5,
 * largest within 3; of a real model the largest error over autocast's largest. */
static void judge(const golden *g, const params *p, const char *level, bool real)
{
    double *r = calloc((size_t)p->n, sizeof *r), most = 0, most_theirs = 0, worst = 0;
    bool f32 = p->type == DT_F32, ok = true;
    char name[128], at[128] = "";
    for (int i = 0; i < p->n; i++) {
        const param *q = &p->p[i];
        param_name(name, sizeof name, q, CONTAINER_SAFETENSORS);
        double theirs = case_real(json_object_get(g->j, f32 ? "torch32" : "autocast"), name);
        double off = case_rel(p->g + q->at, want_of(g, name, q->n), q->n);
        if (isnan(off)) off = INFINITY;
        r[i] = f32 ? off : off / theirs;
        if (r[i] > worst) worst = r[i], memcpy(at, name, sizeof at);
        if (off > most) most = off;
        if (theirs > most_theirs) most_theirs = theirs;
        if (f32 && off > 1e-5 && !(real && off <= theirs / 2)) ok = false;
    }
    qsort(r, (size_t)p->n, sizeof *r, by_value);
    double median = r[p->n / 2];
    free(r);
    if (f32)
        print_message("%-8s %-7s F32 : gradients off by %.3g (median), %.3g at most (%s); PyTorch by %.3g\n",
                      g->name, level, median, worst, at, most_theirs);
    else
        print_message("%-8s %-7s BF16: gradients' errors over autocast's: %.3g (median), %.3g at most (%s); "
                      "largest %.3g, autocast's %.3g\n", g->name, level, median, worst, at, most, most_theirs);
    if (!f32) ok = median <= 1.5 && (real ? most / most_theirs : worst) <= 3;
    if (!ok) fail_msg("%s, %s: %s", g->name, level, at);
}

static void one(const golden *g, const char *level, int type)
{
    dr_err e = {0};
    int n = g->c.b.n;
    dev *d = dev_open(&(dev_opt){ .n_threads = 2, .cpu_level = level }, &e);
    params *p = params_new(&g->c.h, type, &e);
    if (!d || !p || params_alloc(p, d, true, &e)) fail_msg("%s", e.msg);
    const char *path = json_string_value(json_object_get(g->j, "model"));
    model *m = path ? model_open(path, &(dev_opt){ .use = d }, &e) : NULL;
    if (path && (!m || params_load(p, m, &e))) fail_msg("%s", e.msg);
    model_close(m);
    if (!path) case_weights(p, g->c.std);
    net *t = net_new(p, &(net_opt){ .n_rows = n, .max_docs = g->c.b.n_docs }, &e);
    if (!t) fail_msg("%s", e.msg);
    loss_sum sum = {0};
    float *logp = calloc((size_t)n, sizeof *logp);
    if (net_step(t, &g->c.b, &sum, logp, &e)) fail_msg("%s", e.msg);

    double loss = case_real(g->j, "loss"), off = fabs(sum.loss - loss) / loss, worst = 0;
    const float *want = want_of(g, "logp", n);
    for (int i = 0; i < n; i++) {
        bool counts = g->c.target[i] >= 0 && (!g->c.b.weight || g->c.weight[i] > 0);
        double x = fabs((double)logp[i] - (double)want[i]);
        if (!counts) assert_true(logp[i] == 0);
        else if (!(x <= worst)) worst = isnan(x) ? INFINITY : x;
    }
    print_message("%-8s %-7s %s: loss off by %.2e, log-probabilities by %.2e\n", g->name, level,
                  type == DT_F32 ? "F32 " : "BF16", off, worst);
    assert_true(sum.weight == case_real(g->j, "weight"));
    if (type == DT_F32 ? !(off <= 1e-6 && worst <= 1e-4) : !(off <= 2e-3)) fail_msg("%s, %s", g->name, level);
    judge(g, p, level, path != NULL);
    free(logp);
    net_free(t);
    params_free(p);
    dev_close(d);
}

static void gradients_are_those_of_float64(void **state)
{
    (void)state;
    char path[512];
    snprintf(path, sizeof path, "%s/train.json", data);
    json_t *all = json_load_file(path, 0, NULL), *j;
    assert_non_null(all);
    size_t i;
    json_array_foreach(json_object_get(all, "cases"), i, j) {
        golden g = { .j = j, .name = json_string_value(json_object_get(j, "name")) };
        dr_err e = {0};
        buf b;
        case_read(&g.c, j);
        snprintf(path, sizeof path, "%s/train_%s.safetensors", data, g.name);
        buf_init(&b, 1u << 30);
        if (os_read(&b, path, &e)) fail_msg("%s", e.msg);
        g.want = tensors_parse(b.p, b.n, &e);
        if (!g.want) fail_msg("%s", e.msg);
        unsigned cpu = cpu_detect();
        for (int l = 0; l < n_kern_levels; l++) {
            if ((kern_levels[l].need & cpu) != kern_levels[l].need) continue;
            if (only && strcmp(only, kern_levels[l].name)) continue;
            one(&g, kern_levels[l].name, DT_F32);
            one(&g, kern_levels[l].name, DT_BF16);
        }
        tensors_close(g.want);
        buf_free(&b);
        case_free(&g.c);
    }
    json_decref(all);
}

int main(int argc, char **argv)
{
    if (argc > 1) data = argv[1];
    if (argc > 2) only = argv[2];
    const struct CMUnitTest tests[] = { cmocka_unit_test(gradients_are_those_of_float64) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
