/* copy.c - see copy.h. */
#include "model/copy.h"
#include <stdatomic.h>
#include <string.h>
#include "base/mem.h"
#include "base/os.h"

enum {
    PIECE = 4 << 20,                /* bytes that a thread reads at once, about */
    SMALL_PAGE = 4096,
    LARGE = 8 * OS_HUGE             /* bytes a node from which borders are whole huge pages */
};

static size_t up(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

size_t copy_layout(const copy_mat *mat, int n, int n_nodes, size_t *at, copy_span *out,
                   int *n_spans)
{
    size_t pos = 0;
    int k = 0;
    for (int i = 0; i < n; i++) {
        size_t bytes;
        if (__builtin_mul_overflow((size_t)mat[i].rows, mat[i].row_bytes, &bytes) ||
            bytes > SIZE_MAX / 2 - pos - OS_HUGE) return SIZE_MAX;
        size_t unit = n_nodes == 1 ? 128 :
                      bytes / (size_t)n_nodes >= LARGE ? OS_HUGE : SMALL_PAGE;
        size_t start = up(pos, unit), last = pos;
        at[i] = start;
        pos = up(start + bytes, n_nodes == 1 ? 128 : SMALL_PAGE);
        for (int node = 0; n_nodes > 1 && node < n_nodes; node++) {
            size_t border = start + (size_t)mat[i].end[node] * mat[i].row_bytes + unit / 2;
            size_t end = node + 1 == n_nodes ? pos : border / unit * unit;
            if (end > pos) end = pos;
            if (end <= last) continue;
            out[k++] = (copy_span){ last, end - last, node };
            last = end;
        }
    }
    *n_spans = k;
    return pos;
}

/* ---- all matrices of a model ---- */

typedef struct {
    wmat *w;
    const tensor *t;
    bool joins;                     /* one call multiplies it and the one before */
    size_t at;
    int64_t first, step;            /* its first piece; rows in a piece */
} row;

typedef struct {
    row *r;
    int n;
    copy_span *span;
    int n_spans;
    size_t bytes;
    void *mem;                      /* all of these tables */
} plan_of;

/* The matrices that are stored, in the order of use. A tied head is not a second one. r NULL: count. */
static int collect(row *r, const weights *w, const tensors *ts, const hparams *h)
{
    int n = 0;
    for (int l = -1; l <= h->L; l++)                     /* embedding; the layers; the head */
        for (int i = 0; i < n_weights; i++) {
            const wrow *d = &weight_table[i];
            bool head = !d->per_layer && d->at == offsetof(weights, out);
            if (!d->matrix || (d->per_layer ? l < 0 || l == h->L : l != (head ? h->L : -1))) continue;
            const tensor *t = wrow_tensor(d, ts, h, l);
            const char *base = d->per_layer ? (const char *)&w->layer[l] : (const char *)w;
            if (t && r) r[n] = (row){ (wmat *)(void *)(base + d->at), t, d->joins, 0, 0, 0 };
            n += t != NULL;
        }
    return n;
}

/* Ends of the nodes' rows of matrices [i,k), which one call multiplies. */
static void ends_of(dev *d, const row *r, int i, int k, int *end)
{
    const wmat *w[8];
    DR_ASSERT(k - i <= (int)(sizeof w / sizeof *w));
    for (int j = i; j < k; j++) w[j - i] = r[j].w;
    d->node_rows(d, w, k - i, end + (size_t)i * (size_t)d->n_nodes);
}

static int make_plan(plan_of *p, const weights *w, const tensors *ts, const hparams *h, dev *d,
                     dr_err *e)
{
    *p = (plan_of){ .n = collect(NULL, w, ts, h) };
    size_t n = (size_t)p->n, nodes = (size_t)d->n_nodes;
    size_t bytes = n * (sizeof *p->r + nodes * (sizeof *p->span + sizeof(int)) + sizeof(copy_mat) +
                        sizeof(size_t));
    char *at = p->mem = mem_zalloc(bytes + 1, 1);
    if (!at) return err_nomem(e, bytes, "the layout of the weights");
    p->r = (row *)(void *)at, at += n * sizeof *p->r;
    p->span = (copy_span *)(void *)at, at += n * nodes * sizeof *p->span;
    copy_mat *mat = (copy_mat *)(void *)at;
    at += n * sizeof *mat;
    size_t *pos = (size_t *)(void *)at;
    at += n * sizeof *pos;
    int *end = (int *)(void *)at;
    collect(p->r, w, ts, h);
    for (int i = 0, k; nodes > 1 && i < p->n; i = k) {
        for (k = i + 1; k < p->n && p->r[k].joins; k++) { }
        ends_of(d, p->r, i, k, end);
    }
    for (int i = 0; i < p->n; i++)
        mat[i] = (copy_mat){ p->r[i].w->row_bytes, p->r[i].w->rows, end + (size_t)i * nodes };
    p->bytes = copy_layout(mat, p->n, (int)nodes, pos, p->span, &p->n_spans);
    int64_t piece = 0;
    for (int i = 0; i < p->n; i++) {
        row *r = &p->r[i];
        r->at = pos[i], r->first = piece;
        r->step = r->w->row_bytes < PIECE ? (int64_t)(PIECE / r->w->row_bytes) : 1;
        piece += (r->w->rows + r->step - 1) / r->step;
    }
    if (p->bytes != SIZE_MAX && piece <= INT32_MAX) return DR_OK;
    mem_free(p->mem);
    return err_set(e, DR_EFORMAT, "weights of more bytes than can be counted");
}

int copy_plan(weights_copy *c, const weights *w, const tensors *ts, const hparams *h, dev *d,
              dr_err *e)
{
    plan_of p;
    int rc = make_plan(&p, w, ts, h, d, e);
    if (rc != DR_OK) return rc;
    *c = (weights_copy){ .bytes = p.bytes };
    mem_free(p.mem);
    return DR_OK;
}

/* ---- reading ---- */

typedef struct {
    const plan_of *p;
    const tensors *ts;
    char *to;
    const dev_opt *o;
    dr_err *fail;                   /* one a thread */
    atomic_int next;                /* pieces are taken in order, as disks like it */
    atomic_bool stop;
    atomic_size_t done;
} job;

static void read_piece(void *arg, int chunk, int thread)
{
    job *j = arg;
    (void)chunk;
    int piece = atomic_fetch_add(&j->next, 1), lo = 0, hi = j->p->n - 1;
    if (atomic_load(&j->stop)) return;
    while (lo < hi) {                                    /* the last matrix that begins at or before it */
        int mid = (lo + hi + 1) / 2;
        if (j->p->r[mid].first <= piece) lo = mid;
        else hi = mid - 1;
    }
    const row *r = &j->p->r[lo];
    int64_t from = (piece - r->first) * r->step, n = r->w->rows - from;
    if (n > r->step) n = r->step;
    size_t bytes = (size_t)n * r->w->row_bytes;
    char *to = j->to + r->at + (size_t)from * r->w->row_bytes;
    if (tensor_rows(j->ts, r->t, from, n, to, &j->fail[thread])) atomic_store(&j->stop, true);
    size_t done = atomic_fetch_add(&j->done, bytes) + bytes;
    if (thread == 0 && j->o->progress) j->o->progress(j->o->progress_arg, done, j->p->bytes);
}

static int read_all(job *j, dev *d, dr_err *e)
{
    const row *last = &j->p->r[j->p->n - 1];
    int64_t pieces = last->first + (last->w->rows + last->step - 1) / last->step;
    int rc = DR_OK;
    j->fail = mem_zalloc((size_t)d->n_threads, sizeof *j->fail);
    if (!j->fail) return err_nomem(e, (size_t)d->n_threads * sizeof *j->fail, "threads that read");
    d->run(d, (int)pieces, read_piece, j);
    for (int t = 0; rc == DR_OK && t < d->n_threads; t++)
        if (j->fail[t].code) rc = err_set(e, j->fail[t].code, "%s", j->fail[t].msg);
    mem_free(j->fail);
    return rc;
}

int copy_load(weights_copy *c, weights *w, tensors *ts, const hparams *h, dev *d,
              const dev_opt *o, dr_err *e)
{
    plan_of p;
    int rc = make_plan(&p, w, ts, h, d, e);
    if (rc != DR_OK) return rc;
    *c = (weights_copy){ .bytes = p.bytes, .placed = d->n_nodes > 1 };
    size_t free = os_free_memory();
    if (free && p.bytes > free)
        rc = err_set(e, DR_ENOMEM, "copying the weights takes %.2f GB, %.2f GB are free: %.2f GB are "
                     "missing; --load map leaves them in the file", (double)p.bytes * 1e-9,
                     (double)free * 1e-9, (double)(p.bytes - free) * 1e-9);
    else if (!(c->mem = mem_pages(p.bytes)))
        rc = err_nomem(e, p.bytes, "the copy of the weights");
    for (int i = 0; rc == DR_OK && i < p.n_spans; i++)
        if (!d->bind(d, (char *)c->mem + p.span[i].at, p.span[i].bytes, p.span[i].node))
            c->placed = false;
    if (rc == DR_OK && p.n) {
        job j = { .p = &p, .ts = ts, .to = c->mem, .o = o };
        tensors_read_files(ts, true);
        rc = read_all(&j, d, e);
        tensors_read_files(ts, false);
    }
    for (int i = 0; rc == DR_OK && i < p.n; i++) p.r[i].w->data = (char *)c->mem + p.r[i].at;
    if (rc == DR_OK && p.r[p.n - 1].w != &w->out) w->out.data = w->tok_emb.data;    // tied
    mem_free(p.mem);
    if (rc != DR_OK) copy_free(c);
    return rc;
}

void copy_free(weights_copy *c)
{
    mem_pages_free(c->mem, c->bytes);
    *c = (weights_copy){0};
}
