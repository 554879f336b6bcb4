/* ranks.c - several processes: what each comm call promises, and that training on them is training on
 * one. tests/dist/run.sh starts it on 1, 2, 3 and 4. Rank 0 tells what all found. */
#include <math.h>
#include <string.h>
#include "base/half.h"
#include "base/mem.h"
#include "t.h"
#include "train/zero.h"

static comm *c;
static dev *d;
enum { LONG = (1 << 20) * 2 + 12345 };           /* more than one round of a sum */

/* Element i of rank r: of sizes for which the order of adding matters. */
static float value(int r, int64_t i)
{
    uint32_t h = (uint32_t)(r * 7919 + i) * 2654435761u;
    return ldexpf((float)(int32_t)h * 0x1p-31f, (int)(h >> 9 & 31) - 16);
}

static float sum_of(int ranks, int64_t i)
{
    float s = value(0, i);
    for (int r = 1; r < ranks; r++) s += value(r, i);
    return s;
}

static bool fine(int rc, const dr_err *e) { return t_ok(rc == DR_OK, __FILE__, __LINE__, "%s", e->msg); }

static void sums(void)
{
    dr_err e = {0};
    float *x = mem_alloc(LONG * sizeof *x);
    for (int64_t i = 0; i < LONG; i++) x[i] = value(c->rank, i);
    fine(c->sum_f32(c, x, LONG, &e), &e);
    int64_t bad = 0;
    for (int64_t i = 0; i < LONG; i++) bad += x[i] != sum_of(c->size, i);
    CHECK(bad == 0);
    double y[3] = { 1e300 * (c->rank == 0), c->rank, 0.1 };
    fine(c->sum_f64(c, y, 3, &e), &e);
    double tenth = 0;
    for (int r = 0; r < c->size; r++) tenth += 0.1;
    CHECK(y[0] == 1e300 && y[1] == c->size * (c->size - 1) / 2.0 && y[2] == tenth);
    int64_t least[2] = { 5 - c->rank, INT64_MIN + c->rank };
    fine(c->min_i64(c, least, 2, &e), &e);
    CHECK(least[0] == 6 - c->size && least[1] == INT64_MIN);
    mem_free(x);
}

/* Uneven ranges; of more than two ranks the second half's are empty. */
static void ranges(int64_t *cut)
{
    cut[0] = 0;
    for (int r = 0; r < c->size; r++)
        cut[r + 1] = c->size > 2 && r >= (c->size + 1) / 2 ? cut[r] : LONG - (LONG >> (2 * r + 1)) - 77;
}

static void scatter(void)
{
    dr_err e = {0};
    int64_t cut[65], bad = 0;
    ranges(cut);
    float *x = mem_alloc(LONG * sizeof *x);
    for (int64_t i = 0; i < LONG; i++) x[i] = value(c->rank, i);
    fine(c->reduce_scatter(c, x, cut, &e), &e);
    for (int64_t i = 0; i < LONG; i++) {
        bool mine = i >= cut[c->rank] && i < cut[c->rank + 1];
        bad += x[i] != (mine ? sum_of(c->size, i) : value(c->rank, i));
    }
    CHECK(bad == 0);
    mem_free(x);
}

static void gather(void)
{
    dr_err e = {0};
    int64_t cut[65];
    ranges(cut);
    uint8_t *x = mem_alloc((size_t)LONG * 8);
    for (size_t width = 1; width <= 8; width *= 2) {
        memset(x, 255, (size_t)LONG * 8);
        for (int64_t i = cut[c->rank] * (int64_t)width; i < cut[c->rank + 1] * (int64_t)width; i++)
            x[i] = (uint8_t)(i * 31 + c->rank);
        fine(c->all_gather(c, x, width, cut, &e), &e);
        int64_t bad = 0;
        for (int r = 0; r < c->size; r++)
            for (int64_t i = cut[r] * (int64_t)width; i < cut[r + 1] * (int64_t)width; i++)
                bad += x[i] != (uint8_t)(i * 31 + r);
        CHECK(bad == 0);
        CHECK(x[(size_t)cut[c->size] * width] == 255);
    }
    mem_free(x);
}

static void messages(void)
{
    dr_err e = {0};
    char text[32];
    for (int root = 0; root < c->size; root++) {
        snprintf(text, sizeof text, "from %d", c->rank);
        fine(c->broadcast(c, text, sizeof text, root, &e), &e);
        char want[32];
        snprintf(want, sizeof want, "from %d", root);
        CHECK(!strcmp(text, want));
    }
    int64_t n = c->rank;
    if (c->rank > 0) fine(c->recv(c, &n, sizeof n, c->rank - 1, &e), &e);
    n += 10;
    if (c->rank < c->size - 1) fine(c->send(c, &n, sizeof n, c->rank + 1, &e), &e);
    CHECK(n == 10 * (c->rank + 1));
    fine(c->barrier(c, &e), &e);
}

/* Two axes: rank = 2 * row + column. */
static void groups(void)
{
    dr_err e = {0};
    comm *row = c->split(c, c->rank / 2, c->rank, &e), *col = c->split(c, c->rank % 2, -c->rank, &e);
    if (!t_ok(row && col, __FILE__, __LINE__, "%s", e.msg)) return;
    double x = c->rank, y = 1;
    fine(row->sum_f64(row, &x, 1, &e), &e);
    fine(col->sum_f64(col, &y, 1, &e), &e);
    int first = c->rank / 2 * 2, last = first + 1 < c->size ? first + 1 : first;
    CHECK(x == (first == last ? first : first + last));
    CHECK(y == (c->size + (c->rank % 2 == 0)) / 2 && col->size == (int)y);
    CHECK(row->rank == c->rank % 2 && col->rank == col->size - 1 - c->rank / 2);
    comm_close(row);
    comm_close(col);
}

static void agree(void)
{
    dr_err e = {0};
    CHECK(comm_agree(c, DR_OK, &e) == DR_OK);
    int rc = DR_OK, first = c->size > 1 ? 1 : 0;
    if (c->rank >= first) rc = err_set(&e, DR_EIO, "no file %d", c->rank);
    char want[64];
    snprintf(want, sizeof want, c->rank == first ? "no file %d" : "rank %d: no file %d", first, first);
    CHECK(comm_agree(c, rc, &e) == DR_EIO);
    t_ok(!strcmp(e.msg, want), __FILE__, __LINE__, "'%s', wanted '%s'", e.msg, want);
}

/* ---- training ---- */

static const optim_tensor table[] = {
    { 0, 100, 331, ROLE_EMBED }, { 33120, 64, 257, ROLE_MATRIX }, { 49568, 1, 33, ROLE_VECTOR },
    { 49632, 260, 70, ROLE_MATRIX }, { 67840, 70, 260, ROLE_MATRIX }, { 86048, 1, 7, ROLE_VECTOR },
};
enum { N = 86055, N_TENSORS = 6, STEPS = 6, MICRO = 12 };

typedef struct { float w[N]; uint16_t wb[N]; float state[N]; double norm, loss; } result;

/* Micro-batches m are shared out; a micro-batch's gradient pulls towards a point of its own. */
static void train(result *o, comm *who, const optim_opt *opt, bool bf16)
{
    dr_err e = {0};
    zero z = {0};
    float *g = mem_alloc(N * sizeof *g);
    memset(o, 0, sizeof *o);
    for (int i = 0; i < N; i++) o->w[i] = value(40, i), o->wb[i] = f32_to_bf16(o->w[i]);
    if (!fine(zero_init(&z, who, opt, table, N_TENSORS, d, &e), &e)) return;
    for (int s = 1; s <= STEPS; s++) {
        memset(g, 0, N * sizeof *g);
        double sum[2] = { 0, 0 };
        for (int m = MICRO * who->rank / who->size; m < MICRO * (who->rank + 1) / who->size; m++) {
            for (int t = 0; t < N_TENSORS; t++) {
                bool wide = !bf16 || table[t].role == ROLE_VECTOR;      // as a bf16 model reads them
                for (int64_t i = table[t].at; i < table[t].at + table[t].rows * table[t].cols; i++)
                    g[i] += (wide ? o->w[i] : bf16_to_f32(o->wb[i])) - value(100 + s * MICRO + m, i);
            }
            sum[0] += m * 0.5, sum[1] += 1;
        }
        fine(zero_reduce(&z, g, sum, 2, &o->norm, &e), &e);
        o->loss = sum[0] / sum[1];
        double scale = optim_clip(o->norm / sum[1], 1e3) / sum[1];
        fine(zero_step(&z, o->w, bf16 ? o->wb : NULL, g, (float)scale, 0.01, s, &e), &e);
    }
    fine(zero_state_get(&z, 0, o->state, &e), &e);
    if (bf16) fine(zero_gather_w(&z, o->w, &e), &e);
    zero_free(&z);
    mem_free(g);
}

static double away(const float *a, const float *b)
{
    double x = 0, y = 0;
    for (int i = 0; i < N; i++) x += pow((double)a[i] - b[i], 2), y += pow(b[i], 2);
    return sqrt(x / y);
}

static void training(void)
{
    dr_err e = {0};
    comm *alone = comm_open("self", &e);
    result *one = mem_alloc(sizeof *one), *many = mem_alloc(sizeof *many), *his = mem_alloc(sizeof *his);
    for (int rule = 0; rule < OPTIM_N_RULES; rule++)
        for (int bf16 = 0; bf16 < 2; bf16++) {
            optim_opt o;
            optim_opt_init(&o, (optim_rule)rule);
            if (rule == OPTIM_SGD) o.momentum = 0.9;
            train(one, alone, &o, bf16);
            train(many, c, &o, bf16);
            double w = away(many->w, one->w);
            /* a weight that rounds to another bf16 pulls differently from then on, and so does a moment
             * that rounds to other eight bits */
            double most = rule == OPTIM_ADAMW8 ? 1e-3 : bf16 ? 1e-5 : 1e-6;
            t_ok(w <= most, __FILE__, __LINE__, "%s%s on %d ranks: weights %g away from one's",
                 optim_rule_name[rule], bf16 ? ", bf16" : "", c->size, w);
            if (rule != OPTIM_ADAMW8) CHECK(away(many->state, one->state) <= 1e-5);
            CHECK_NEAR(many->norm / one->norm, 1, rule == OPTIM_ADAMW8 ? 1e-3 : 1e-6);
            CHECK(many->loss == one->loss);
            memcpy(his, many, sizeof *his);                  // every rank has the same bits
            fine(c->broadcast(c, his, sizeof *his, 0, &e), &e);
            CHECK(!memcmp(his, many, sizeof *his));
            if (bf16)
                for (int i = 0, bad = 0; i < 100 * 331 && !bad; i++)
                    CHECK(!(bad = many->wb[i] != f32_to_bf16(many->w[i])));
        }
    mem_free(one), mem_free(many), mem_free(his);
    comm_close(alone);
}

int main(int argc, char **argv)
{
    dr_err e = {0};
    c = comm_open(NULL, &e);
    d = c ? dev_open(&(dev_opt){ .n_threads = 1 }, &e) : NULL;
    if (!d) {
        fprintf(stderr, "%s\n", e.msg);
        return 1;
    }
    t_begin(argc, argv);
    T(sums);
    T(scatter);
    T(gather);
    T(messages);
    T(groups);
    T(agree);
    T(training);
    printf("rank %d of %d, %s: ", c->rank, c->size, c->name);
    int rc = t_end();
    dev_close(d);
    comm_close(c);
    return rc;
}
