/* imatrix_make.c - see imatrix_make.h. */
#include "pack/imatrix_make.h"
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "gen/session.h"

/* Matrices that read the same input share its sums. */
enum { IN_QKV, IN_O, IN_UP, IN_DOWN, INPUTS };

typedef struct {
    const model *m;
    double *sum;                     /* (L, INPUTS) runs of columns, then the head's */
    size_t at[INPUTS + 1];           /* where an input's run starts in a layer's; the layer's size */
    int64_t *count;                  /* inputs seen: (L * INPUTS + 1,) */
    bool head;
} watcher;

static int input_of(size_t at)
{
    if (at == offsetof(layer_weights, wo)) return IN_O;
    if (at == offsetof(layer_weights, w1) || at == offsetof(layer_weights, w3)) return IN_UP;
    return at == offsetof(layer_weights, w2) ? IN_DOWN : IN_QKV;
}

/* A row of the weight table: where its sums are, and how many inputs they are of. */
static double *sums_of(const watcher *w, const wrow *r, int layer, int64_t *count, int64_t *n)
{
    int64_t L = w->m->h.L;
    int in = input_of(r->at);
    *n = axis_size(r->cols, &w->m->h);
    if (!r->per_layer) {
        *count = w->count[L * INPUTS];
        return w->sum + (size_t)L * w->at[INPUTS];
    }
    *count = w->count[layer * INPUTS + in];
    return w->sum + (size_t)layer * w->at[INPUTS] + w->at[in];
}

static void watch(void *arg, const mm_out *out, int n_out, const float *x, size_t ldx, int N)
{
    watcher *w = arg;
    const weights *all = &w->m->w;
    const char *p = (const char *)out[0].w, *first = (const char *)all->layer;
    size_t off = (size_t)(p - first), slot = (size_t)w->m->h.L * INPUTS;
    double *sum = w->sum + (size_t)w->m->h.L * w->at[INPUTS];
    (void)n_out;
    if (p >= first && off < (size_t)w->m->h.L * sizeof(layer_weights)) {
        size_t layer = off / sizeof(layer_weights);
        int in = input_of(off % sizeof(layer_weights));
        slot = layer * INPUTS + (size_t)in;
        sum = w->sum + layer * w->at[INPUTS] + w->at[in];
    } else if (!w->head || out[0].w != &all->out) {
        return;
    }
    int K = out[0].w->K;
    for (int n = 0; n < N; n++, x += ldx)
        for (int k = 0; k < K; k++) sum[k] += (double)x[k] * (double)x[k];
    w->count[slot] += N;
}

static int watcher_init(watcher *w, const model *m, bool head, dr_err *e)
{
    const hparams *h = &m->h;
    size_t C = (size_t)h->C, Q = (size_t)h->nh * (size_t)h->hs;
    *w = (watcher){ .m = m, .head = head,
                    .at = { 0, C, C + Q, 2 * C + Q, 2 * C + Q + (size_t)h->F } };
    size_t n = (size_t)h->L * w->at[INPUTS] + C;
    w->sum = mem_zalloc(n, sizeof *w->sum);
    w->count = mem_zalloc((size_t)h->L * INPUTS + 1, sizeof *w->count);
    return w->sum && w->count ? DR_OK : err_nomem(e, n * sizeof *w->sum, "sums of squares");
}

static int nothing(void *arg, int first, int rows, const float *logits, dr_err *e)
{
    (void)arg, (void)first, (void)rows, (void)logits, (void)e;
    return DR_OK;
}

static int read_windows(const model *m, const int32_t *ids, int64_t windows,
                        const imatrix_make_opt *o, dr_err *e)
{
    session_opt so = { .n_ctx = o->ctx, .n_rows = o->ctx < 256 ? o->ctx : 256 };
    session *s = session_new(m, &so, e);
    int32_t *one = mem_alloc((size_t)o->ctx * sizeof *one);
    int rc = s ? DR_OK : DR_ENOMEM;
    if (s && !one) rc = err_nomem(e, (size_t)o->ctx * sizeof *one, "window");
    for (int64_t i = 0; i < windows && rc == DR_OK; i++) {
        memcpy(one, ids + i * o->ctx, (size_t)o->ctx * sizeof *one);
        if (o->bos >= 0) one[0] = o->bos;
        session_truncate(s, 0);
        rc = session_all_logits(s, one, o->ctx, nothing, NULL, e);
        if (rc == DR_OK && o->progress) o->progress(o->arg, i + 1, windows);
    }
    mem_free(one);
    session_free(s);
    return rc;
}

/* Which rows of the weight table have entries. */
static bool wanted(const watcher *w, const wrow *r)
{
    return r->cols && (r->per_layer || (w->head && !w->m->h.tied && r->at == offsetof(weights, out)));
}

/* Two passes over the entries: sizes, then values. */
static int fill(const watcher *w, imatrix *out, dr_err *e)
{
    size_t entries = 0, floats = 0, chars = 0, bytes = 0;
    char name[128], *s = NULL;
    float *f = NULL;
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < n_weights; i++) {
            const wrow *r = &weight_table[i];
            for (int l = 0; wanted(w, r) && l < (r->per_layer ? w->m->h.L : 1); l++) {
                int64_t count, n;
                const double *sum = sums_of(w, r, l, &count, &n);
                wrow_name(name, sizeof name, r, CONTAINER_GGUF, l);
                if (pass == 0) {
                    entries++, floats += (size_t)n, chars += strlen(name);
                    continue;
                }
                imatrix_entry *x = &out->entry[out->n_entries++];
                *x = (imatrix_entry){ { s, strlen(name) }, n, f, (double)count };
                memcpy(s, name, strlen(name));
                s += strlen(name), f += n;
                for (int64_t k = 0; k < n; k++) {
                    x->sum[k] = (float)sum[k];
                    if (!isfinite(x->sum[k]))
                        return err_set(e, DR_EFORMAT, "the inputs of %s are not finite: the model "
                                       "is broken, or overflows on this text", name);
                }
            }
        }
        if (pass) break;
        bytes = entries * sizeof *out->entry + floats * sizeof *f + chars;
        out->mem = mem_zalloc(1, bytes + 1);
        if (!out->mem) return err_nomem(e, bytes, "importance matrix");
        out->entry = out->mem;
        f = (float *)(void *)(out->entry + entries), s = (char *)(f + floats);
    }
    imatrix_sort(out);
    return DR_OK;
}

int imatrix_make(const model *m, const int32_t *ids, int64_t n, const imatrix_make_opt *o,
                 imatrix *out, dr_err *e)
{
    int64_t windows = n / o->ctx;
    *out = (imatrix){0};
    if (windows == 0)
        return err_set(e, DR_EINVAL, "the text has %lld ids, one window takes %d", (long long)n,
                       o->ctx);
    if (o->windows && windows > o->windows) windows = o->windows;
    watcher w;
    int rc = watcher_init(&w, m, o->head, e);
    if (rc == DR_OK) {
        m->d->watch_arg = &w, m->d->watch = watch;
        rc = read_windows(m, ids, windows, o, e);
        m->d->watch = NULL;
    }
    if (rc == DR_OK) rc = fill(&w, out, e);
    out->chunks = (uint32_t)windows, out->chunk_size = (uint32_t)o->ctx;
    out->dataset = span_of(o->dataset);
    mem_free(w.sum);
    mem_free(w.count);
    if (rc != DR_OK) imatrix_free(out);
    return rc;
}
