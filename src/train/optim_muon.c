/* optim_muon.c - Muon: momentum whose singular values are all brought near 1.
 * Ref: K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024 (the
 * polynomial); Liu et al., arXiv 2502.16982 (match-adamw). Products are f32 of the device's.
 *
 * A matrix and its transpose are carried together, so that each product is one of dev's: rows by rows.
 * With X (r,c), r <= c: A = X X^T, B = b A + c A A, X^T = a X^T + X^T B; then X from its transpose. */
#include <math.h>
#include "base/mem.h"
#include "train/optim_priv.h"

enum { ROWS = 256 };                    /* input rows of one product */
static const float NS_A = 3.4445f, NS_B = -4.7750f, NS_C = 2.0315f;

typedef struct muon_space {
    size_t bytes;
    int64_t big, square;                /* r*c and r*r at most */
    float *x, *xt, *p;                  /* (big,) */
    float *a, *b;                       /* (square,) */
    double *part;
} muon_space;

static int64_t up16(int64_t n) { return (n + 15) & ~(int64_t)15; }

/* What the matrices of the range want at most; returns their longest side, 0: none. */
static int sizes(const optim_opt *o, const optim_tensor *t, int n, int64_t lo, int64_t hi,
                 int64_t *big, int64_t *square)
{
    int longest = 0;
    *big = *square = 0;
    for (int i = 0; i < n; i++) {
        if (rule_of(o, t[i].role) != OPTIM_MUON || t[i].at < lo || t[i].at >= hi) continue;
        int r = t[i].rows < t[i].cols ? t[i].rows : t[i].cols;
        int c = t[i].rows < t[i].cols ? t[i].cols : t[i].rows;
        if (elems_of(&t[i]) > *big) *big = elems_of(&t[i]);
        if ((int64_t)r * r > *square) *square = (int64_t)r * r;
        if (c > longest) longest = c;
    }
    *big = up16(*big), *square = up16(*square);
    return longest;
}

static size_t space_bytes(int64_t big, int64_t square)
{
    return (size_t)(3 * big + 2 * square) * sizeof(float) +
           (size_t)(big / STEP_CHUNK + 1) * sizeof(double);
}

size_t muon_bytes(const optim_opt *o, const optim_tensor *t, int n, int64_t lo, int64_t hi)
{
    int64_t big, square;
    return sizes(o, t, n, lo, hi, &big, &square) ? space_bytes(big, square) + sizeof(muon_space) : 0;
}

int muon_new(optim *o, dr_err *e)
{
    int64_t big, square;
    int longest = sizes(&o->o, o->t, o->n, o->lo, o->hi, &big, &square);
    if (!longest) return DR_OK;
    int rc = o->d->reserve(o->d, ROWS, longest, 1, 32, 1, e);
    if (rc < 0) return rc;
    muon_space *m = mem_zalloc(1, sizeof *m);
    if (!m) return err_nomem(e, sizeof *m, "Muon");
    o->muon = m;
    m->big = big, m->square = square, m->bytes = space_bytes(big, square);
    if (!(m->x = o->d->alloc(o->d, m->bytes))) return err_nomem(e, m->bytes, "Muon's products");
    m->xt = m->x + big, m->p = m->xt + big, m->a = m->p + big, m->b = m->a + square;
    m->part = (double *)(void *)(m->b + square);
    return DR_OK;
}

void muon_free(optim *o)
{
    if (!o->muon) return;
    if (o->muon->x) o->d->free(o->d, o->muon->x, o->muon->bytes);
    mem_free(o->muon);
}

/* ---- products ---- */

/* y (N,rows) = x (N,K) times w (rows,K) transposed */
static void product(dev *d, float *y, const float *x, int N, const float *w, int rows, int K)
{
    wmat m = { .type = DT_F32, .rows = rows, .K = K, .data = w,
               .row_bytes = (size_t)K * sizeof(float) };
    for (int n = 0; n < N; n += ROWS) {
        mm_out out = { y + (int64_t)n * rows, (size_t)rows, &m };
        d->matmul(d, &out, 1, x + (int64_t)n * K, (size_t)K, N - n < ROWS ? N - n : ROWS);
    }
}

/* x (rows,cols) in m->x becomes near orthogonal, there. */
static void orthogonal(dev *d, muon_space *m, int rows, int cols, int steps)
{
    bool tall = rows > cols;
    int r = tall ? cols : rows, c = tall ? rows : cols;
    float *x = tall ? m->xt : m->x, *xt = tall ? m->x : m->xt;     // x (r,c), xt (c,r)
    d->transpose(d, m->xt, m->x, rows, cols);
    for (int i = 0; i < steps; i++) {
        product(d, m->a, x, r, x, r, c);
        product(d, m->b, m->a, r, m->a, r, r);
        d->mix(d, m->b, NS_C, m->b, NS_B, m->a, (int64_t)r * r);
        product(d, m->p, xt, c, m->b, r, r);
        d->mix(d, xt, NS_A, xt, 1, m->p, (int64_t)r * c);
        d->transpose(d, x, xt, c, r);
    }
}

static double adjust(muon_adjust how, double rows, double cols)
{
    switch (how) {
    case MUON_ORIGINAL: return sqrt(fmax(1, rows / cols));
    case MUON_MATCH_ADAMW: return 0.2 * sqrt(fmax(rows, cols));
    default: return 1;
    }
}

void muon_step(optim *o, int i)
{
    muon_space *s = o->muon;
    const optim_tensor *t = &o->t[i];
    step_part p = o->part[i];
    step_args a = *p.a;
    DR_ASSERT(p.at == t->at && p.n == elems_of(t));              // optim_cuts does not cut them
    p.w = s->x, p.wb = NULL;
    o->d->step(o->d, &p, 1);
    p.g = s->x;
    o->d->squares(o->d, s->part, &p, 1);
    double norm = optim_norm(s->part, (p.n + STEP_CHUNK - 1) / STEP_CHUNK);
    o->d->scale(o->d, s->x, (float)(1 / fmax(norm, 1e-7)), p.n);
    orthogonal(o->d, s, t->rows, t->cols, o->o.ns_steps);
    a.scale = (float)(a.lr * adjust(o->o.adjust, t->rows, t->cols));
    a.lr = 1;                                                // w -= keep w + scale x
    p.rule = STEP_SGD, p.a = &a, p.w = o->part[i].w, p.wb = o->part[i].wb, p.m = NULL;
    o->d->step(o->d, &p, 1);
}
