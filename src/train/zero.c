/* zero.c - see zero.h. */
#include "train/zero.h"
#include <string.h>
#include "base/mem.h"

static int64_t elems(const optim_tensor *t) { return (int64_t)t->rows * t->cols; }

/* Elements of vectors before element `at` of the flat arrays. */
static int64_t vec_before(const zero *z, int64_t at)
{
    int64_t sum = 0;
    for (int i = 0; i < z->n && z->t[i].at < at; i++)
        if (z->t[i].role == ROLE_VECTOR)
            sum += at - z->t[i].at < elems(&z->t[i]) ? at - z->t[i].at : elems(&z->t[i]);
    return sum;
}

int zero_init(zero *z, comm *c, const optim_opt *o, const optim_tensor *t, int n, dev *d, dr_err *e)
{
    DR_ASSERT(n > 0);
    size_t ranks = (size_t)c->size + 1;
    zero w = { .c = c, .d = d, .n = n };
    int rc = optim_opt_check(o, e);
    if (rc < 0) return rc;
    w.t = mem_alloc((size_t)n * sizeof *t);
    w.cut = mem_zalloc(3 * ranks, sizeof *w.cut);
    if (!w.t || !w.cut) goto nomem;
    memcpy(w.t, t, (size_t)n * sizeof *t);
    w.chunk_cut = w.cut + ranks, w.vec_cut = w.chunk_cut + ranks;
    optim_cuts(o, t, n, c->size, w.cut);
    for (int r = 1; r <= c->size; r++) {
        w.chunk_cut[r] = w.chunk_cut[r - 1] + optim_n_chunks(t, n, w.cut[r - 1], w.cut[r]);
        w.vec_cut[r] = vec_before(&w, w.cut[r]);
    }
    w.part = mem_alloc((size_t)w.chunk_cut[c->size] * sizeof *w.part);
    w.vec = mem_alloc((size_t)w.vec_cut[c->size] * sizeof *w.vec);
    if (!w.part || !w.vec) goto nomem;
    w.o = optim_new(o, t, n, w.cut[c->rank], w.cut[c->rank + 1], d, e);
    if (!w.o) {
        zero_free(&w);
        return e ? e->code : DR_ENOMEM;
    }
    *z = w;
    return DR_OK;
nomem:
    zero_free(&w);
    return err_nomem(e, (size_t)n * sizeof *t, "the ranks' shares of the optimiser");
}

void zero_free(zero *z)
{
    optim_free(z->o);
    mem_free(z->t);
    mem_free(z->cut);
    mem_free(z->part);
    mem_free(z->vec);
    *z = (zero){0};
}

int zero_reduce(zero *z, float *g, double *sums, int n_sums, double *norm, dr_err *e)
{
    comm *c = z->c;
    int64_t lo = z->cut[c->rank], hi = z->cut[c->rank + 1], all = z->chunk_cut[c->size];
    int rc = c->reduce_scatter(c, g, z->cut, e);
    if (!rc) rc = c->sum_f64(c, sums, n_sums, e);
    if (rc < 0) return rc;
    optim_squares(z->t, z->n, lo, hi, g + lo, z->d, z->part + z->chunk_cut[c->rank]);
    rc = c->all_gather(c, z->part, sizeof *z->part, z->chunk_cut, e);
    if (!rc) *norm = optim_norm(z->part, all);
    return rc;
}

/* Vectors of elements [lo,hi) of w to z->vec, or back. */
static void copy_vectors(zero *z, float *w, int64_t lo, int64_t hi, bool back)
{
    for (int i = 0; i < z->n; i++) {
        const optim_tensor *t = &z->t[i];
        int64_t a = lo > t->at ? lo : t->at, b = hi < t->at + elems(t) ? hi : t->at + elems(t);
        if (t->role != ROLE_VECTOR || a >= b) continue;
        float *v = z->vec + vec_before(z, a);
        memcpy(back ? w + a : v, back ? v : w + a, (size_t)(b - a) * sizeof *w);
    }
}

int zero_step(zero *z, float *w, uint16_t *wb, const float *g, float scale, double lr, int64_t step,
              dr_err *e)
{
    comm *c = z->c;
    int64_t lo = z->cut[c->rank], hi = z->cut[c->rank + 1];
    optim_step(z->o, w + lo, wb ? wb + lo : NULL, g + lo, scale, lr, step);
    if (c->size == 1) return DR_OK;
    if (!wb) return c->all_gather(c, w, sizeof *w, z->cut, e);
    copy_vectors(z, w, lo, hi, false);
    int rc = c->all_gather(c, wb, sizeof *wb, z->cut, e);
    if (!rc) rc = c->all_gather(c, z->vec, sizeof *z->vec, z->vec_cut, e);
    if (!rc) copy_vectors(z, w, 0, z->cut[c->size], true);
    return rc;
}

int zero_gather_w(zero *z, float *w, dr_err *e)
{
    return z->c->all_gather(z->c, w, sizeof *w, z->cut, e);
}

int zero_state_get(zero *z, int i, void *whole, dr_err *e)
{
    comm *c = z->c;
    optim_state s = optim_state_get(z->o, i);
    memcpy((char *)whole + (size_t)s.at * (size_t)s.width, s.p, (size_t)s.n * (size_t)s.width);
    if (c->size == 1) return DR_OK;
    int64_t *cut = mem_zalloc((size_t)c->size + 1, sizeof *cut);
    int rc = cut ? DR_OK : err_nomem(e, (size_t)c->size * sizeof *cut, "the ranks' shares");
    if ((rc = comm_agree(c, rc, e)) == DR_OK) {
        for (int r = 0; r <= c->size; r++) cut[r] = optim_state_before(z->o, i, z->cut[r]);
        rc = c->all_gather(c, whole, (size_t)s.width, cut, e);
    }
    mem_free(cut);
    return rc;
}

void zero_state_put(zero *z, int i, const void *whole)
{
    optim_state s = optim_state_get(z->o, i);
    memcpy(s.p, (const char *)whole + (size_t)s.at * (size_t)s.width, (size_t)s.n * (size_t)s.width);
}
