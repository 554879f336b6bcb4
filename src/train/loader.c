/* loader.c - see loader.h.
 *
 * A source holds one window of documents packed into rows, and which row comes next. A step takes
 * its rows one by one from the sources; of those that are this rank's, the pieces of documents are
 * noted, and loader_batch copies their ids. */
#include "train/loader.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "train/order.h"
#include "train/pack.h"
#include "train/shard.h"

enum { SEQ_MAX = 1 << 24 };
enum { KEY_DOCS = 0, KEY_ROWS = 1, KEY_MIX = 2 };      /* what a key is for */

/* Positions [at, at+len) of document doc of source src's set. */
typedef struct { uint64_t doc, at; int32_t len, src; } piece;

typedef struct {
    shard_set set;
    uint64_t positions, n_windows, at;     /* at: loader_state's */
    uint64_t loaded;                       /* the window that is packed, plus 1; 0: none */
    piece *piece;
    int32_t *len;
    int64_t n_pieces, cap;
    pack rows;
    uint64_t row_key;
} source;

struct loader {
    source *src;
    int n_src;
    uint64_t seed, row;                    /* row: of all sources, the next step's first */
    int rank, n_ranks;
    bool once;
    double weight[LOADER_SOURCES];
    loader_phase phase;
    uint64_t upto[LOADER_SOURCES];         /* source s has the fractions of 2^64 below upto[s] */
    int step_rows;                         /* of the step, all ranks */
    piece *step;                           /* this rank's pieces of the step */
    int64_t n_step, cap_step;
    int64_t *row_start;                    /* (own rows + 1) into step */
    int own;
    int32_t *tok, *target, *doc_start;     /* of a micro-batch */
};

static int own_rows(const loader *l, int rows)
{
    return (int)((int64_t)rows * (l->rank + 1) / l->n_ranks - (int64_t)rows * l->rank / l->n_ranks);
}

/* Room for n+more pieces in *p, *cap. */
static int reserve(piece **p, int64_t *cap, int64_t n, dr_err *e)
{
    if (n <= *cap) return DR_OK;
    int64_t to = n > 2 * *cap ? n : 2 * *cap;
    piece *more = mem_realloc(*p, (size_t)to * sizeof *more);
    if (!more) return err_nomem(e, (size_t)to * sizeof *more, "pieces of documents");
    *p = more, *cap = to;
    return DR_OK;
}

static uint64_t doc_positions(const shard_set *set, uint64_t d)
{
    const shard *s = shards_find(set, &d);
    uint64_t n = shard_len(s, d);
    return n > 1 ? n - 1 : 0;
}

/* The pieces of a window's documents. */
static int cut_window(loader *l, source *s, uint64_t window, dr_err *e)
{
    int no = (int)(s - l->src), seq = l->phase.seq;
    uint64_t epoch = window / s->n_windows, from = window % s->n_windows * LOADER_WINDOW;
    uint64_t to = s->set.n_docs - from < LOADER_WINDOW ? s->set.n_docs : from + LOADER_WINDOW;
    uint64_t key = order_key(l->seed, (uint64_t)no, epoch, KEY_DOCS);
    s->n_pieces = 0;
    for (uint64_t i = from; i < to; i++) {
        uint64_t d = l->once ? i : order_at(key, s->set.n_docs, i), n = doc_positions(&s->set, d);
        uint64_t parts = (n + (uint64_t)seq - 1) / (uint64_t)seq;
        if (parts > (uint64_t)(INT32_MAX - 1 - s->n_pieces))
            return err_set(e, DR_EINVAL, "%d documents of source %d are more than %d rows of %d",
                           LOADER_WINDOW, no, INT32_MAX - 1, seq);
        int rc = reserve(&s->piece, &s->cap, s->n_pieces + (int64_t)parts, e);
        if (rc) return rc;
        for (uint64_t at = 0; at < n; at += (uint64_t)seq) {
            uint64_t len = n - at < (uint64_t)seq ? n - at : (uint64_t)seq;
            s->piece[s->n_pieces++] = (piece){ d, at, (int32_t)len, no };
        }
    }
    return DR_OK;
}

static int load_window(loader *l, source *s, uint64_t window, dr_err *e)
{
    if (s->loaded == window + 1) return DR_OK;
    s->loaded = 0;
    int rc = cut_window(l, s, window, e);
    if (rc) return rc;
    size_t bytes = (size_t)s->n_pieces * sizeof *s->len;
    mem_free(s->len);
    if (!(s->len = mem_alloc(bytes))) return err_nomem(e, bytes, "lengths of pieces");
    for (int64_t i = 0; i < s->n_pieces; i++) s->len[i] = s->piece[i].len;
    rc = pack_rows(&s->rows, s->len, s->n_pieces, l->phase.seq, e);
    if (rc) return rc;
    s->row_key = order_key(l->seed, (uint64_t)(s - l->src), window, KEY_ROWS);
    s->loaded = window + 1;
    return DR_OK;
}

/* Make s->at a row that is there, in this window or a later one. false in *there: `once`, and all
 * were given. */
static int settle(loader *l, source *s, bool *there, dr_err *e)
{
    for (;;) {
        uint64_t window = s->at >> 32;
        *there = !(l->once && window >= s->n_windows);
        if (!*there) return DR_OK;
        int rc = load_window(l, s, window, e);
        if (rc) return rc;
        if ((uint32_t)s->at < (uint32_t)s->rows.n_rows) return DR_OK;
        s->at = (window + 1) << 32;
    }
}

/* Which source gives row `row`: the multiples of the golden ratio are spread evenly, however many of
 * them are looked at, so each source's share is kept to within a few rows from the start. */
static int choose(const loader *l, uint64_t row)
{
    uint64_t u = order_key(l->seed, 0, 0, KEY_MIX) + row * 0x9e3779b97f4a7c15u;
    int s = 0;
    while (s < l->n_src - 1 && u >= l->upto[s]) s++;
    return s;
}

/* The next row. *src: whose, settled; -1: there is none. */
static int next_source(loader *l, int *src, dr_err *e)
{
    bool there;
    int rc;
    if (!l->once) {
        *src = choose(l, l->row);
        return settle(l, &l->src[*src], &there, e);
    }
    for (*src = 0; *src < l->n_src; ++*src) {
        if ((rc = settle(l, &l->src[*src], &there, e))) return rc;
        if (there) return DR_OK;
    }
    *src = -1;
    return DR_OK;
}

static int note_row(loader *l, const source *s, dr_err *e)
{
    uint32_t row = (uint32_t)s->at;
    if (!l->once) row = (uint32_t)order_at(s->row_key, (uint64_t)s->rows.n_rows, row);
    int32_t from = s->rows.start[row], to = s->rows.start[row + 1];
    int rc = reserve(&l->step, &l->cap_step, l->n_step + to - from, e);
    if (rc) return rc;
    for (int32_t i = from; i < to; i++) l->step[l->n_step++] = s->piece[s->rows.piece[i]];
    l->row_start[++l->own] = l->n_step;
    return DR_OK;
}

int loader_next(loader *l, dr_err *e)
{
    /* with `once` the last step may be short: the ranks share what it has */
    int rows = l->phase.rows, first = (int)((int64_t)rows * l->rank / l->n_ranks),
        end = first + own_rows(l, rows), src, rc;
    l->n_step = 0, l->own = 0, l->step_rows = 0;
    for (int r = 0; r < rows; r++) {
        if ((rc = next_source(l, &src, e))) return rc;
        if (src < 0) break;
        source *s = &l->src[src];
        if (r >= first && r < end && (rc = note_row(l, s, e))) return rc;
        s->at++, l->row++, l->step_rows++;
    }
    int per = l->phase.micro_rows;
    return (l->own + per - 1) / per;
}

int loader_rows(const loader *l) { return l->step_rows; }

int loader_batch(loader *l, int i, batch *b, dr_err *e)
{
    int per = l->phase.micro_rows, from = i * per, to = l->own - from < per ? l->own : from + per;
    DR_ASSERT(i >= 0 && from < to);
    *b = (batch){ .tok = l->tok, .target = l->target, .doc_start = l->doc_start };
    for (int64_t k = l->row_start[from]; k < l->row_start[to]; k++) {
        const piece *p = &l->step[k];
        uint64_t d = p->doc, n = (uint64_t)p->len;
        shard *s = shards_find(&l->src[p->src].set, &d);
        l->doc_start[b->n_docs++] = b->n;
        int32_t *tok = l->tok + b->n, *target = l->target + b->n;
        int rc = shard_read(s, d, p->at + 1, n, target, e);
        if (!rc) rc = shard_read(s, d, p->at, 1, tok, e);
        if (rc) return rc;
        memcpy(tok + 1, target, (n - 1) * sizeof *tok);
        b->n += p->len;
    }
    l->doc_start[b->n_docs] = b->n;
    return DR_OK;
}

void loader_tell(const loader *l, loader_state *s)
{
    *s = (loader_state){ .row = l->row, .n = l->n_src };
    for (int i = 0; i < l->n_src; i++) s->at[i] = l->src[i].at;
}

int loader_seek(loader *l, const loader_state *s, dr_err *e)
{
    static const loader_state zero;
    bool start = !memcmp(s, &zero, sizeof zero);
    if (!start && s->n != l->n_src)
        return err_set(e, DR_EINVAL, "a state of %d sources of data; there are %d", s->n, l->n_src);
    for (int i = 0; i < l->n_src; i++) {
        source *x = &l->src[i];
        uint64_t window = s->at[i] >> 32;
        int rc = l->once && window >= x->n_windows ? DR_OK : load_window(l, x, window, e);
        if (rc) return rc;
        if (x->loaded && (uint32_t)s->at[i] > (uint32_t)x->rows.n_rows)
            return err_set(e, DR_EINVAL, "the state says row %" PRIu32 " of a window of %d in source "
                           "%d: its data or the length of rows is another", (uint32_t)s->at[i],
                           x->rows.n_rows, i);
    }
    l->row = s->row;
    for (int i = 0; i < l->n_src; i++) l->src[i].at = s->at[i];
    l->own = l->step_rows = 0;
    return DR_OK;
}

void loader_source_stat(const loader *l, int no, loader_stat *st)
{
    const source *s = &l->src[no];
    *st = (loader_stat){ s->set.n_docs, s->set.n_tok, s->positions, 0 };
    uint64_t window = s->at >> 32;
    double in = s->loaded == window + 1 && s->rows.n_rows ?
                (double)(uint32_t)s->at / s->rows.n_rows : 0;
    st->epoch = ((double)window + in) / (double)s->n_windows;
}

static int check_phase(const loader *l, const loader_phase *p, dr_err *e)
{
    if (p->seq < 1 || p->seq > SEQ_MAX)
        return err_set(e, DR_EINVAL, "rows of %d tokens; 1 to %d can be packed", p->seq, SEQ_MAX);
    if (p->rows < 1) return err_set(e, DR_EINVAL, "a step of %d rows", p->rows);
    if (p->micro_rows < 0) return err_set(e, DR_EINVAL, "a micro-batch of %d rows", p->micro_rows);
    for (int s = 0; s < l->n_src; s++)
        if (!(p->weight[s] >= 0 && isfinite(p->weight[s])))
            return err_set(e, DR_EINVAL, "source %d of the mixture has weight %g", s, p->weight[s]);
    return DR_OK;
}

/* The weights as limits in 2^64. */
static void share_out(loader *l)
{
    double sum = 0, upto = 0;
    for (int s = 0; s < l->n_src; s++) sum += l->phase.weight[s];
    if (sum == 0) {
        memcpy(l->phase.weight, l->weight, sizeof l->weight);
        for (int s = 0; s < l->n_src; s++) sum += l->weight[s];
    }
    for (int s = 0; s < l->n_src; s++) {
        upto += l->phase.weight[s];
        double x = ldexp(upto / sum, 64);
        l->upto[s] = x < ldexp(1, 64) ? (uint64_t)x : UINT64_MAX;
    }
}

int loader_set_phase(loader *l, const loader_phase *p, dr_err *e)
{
    int rc = check_phase(l, p, e);
    if (rc) return rc;
    int own = own_rows(l, p->rows), micro = p->micro_rows ? p->micro_rows : own;
    if (micro > own) micro = own;
    if (micro < 1) micro = 1;
    if ((int64_t)micro * p->seq >= INT32_MAX)
        return err_set(e, DR_EINVAL, "a micro-batch of %d rows of %d tokens is too large", micro, p->seq);
    size_t n = (size_t)micro * (size_t)p->seq, bytes = (3 * n + 1) * sizeof(int32_t),
           starts = ((size_t)own + 1) * sizeof(int64_t);
    int32_t *tok = mem_alloc(bytes);
    int64_t *row_start = mem_zalloc((size_t)own + 1, sizeof *row_start);
    if (!tok || !row_start) {
        mem_free(tok);
        mem_free(row_start);
        return err_nomem(e, bytes + starts, "a step's rows");
    }
    mem_free(l->tok);
    mem_free(l->row_start);
    l->tok = tok, l->target = tok + n, l->doc_start = tok + 2 * n, l->row_start = row_start;
    for (int s = 0; s < l->n_src && p->seq != l->phase.seq; s++) {
        source *x = &l->src[s];
        if ((uint32_t)x->at) x->at = ((x->at >> 32) + 1) << 32;
        x->loaded = 0;
    }
    l->phase = *p;
    l->phase.micro_rows = micro;
    l->own = l->step_rows = 0;
    share_out(l);
    return DR_OK;
}

static int open_source(loader *l, source *s, const loader_source *from, const loader_opt *o, dr_err *e)
{
    int no = (int)(s - l->src);
    if (!(from->weight > 0 && isfinite(from->weight)))
        return err_set(e, DR_EINVAL, "source %s of the mixture has weight %g", from->path, from->weight);
    l->weight[no] = from->weight;
    int rc = shards_open(&s->set, from->path, e);
    if (rc) return rc;
    const shard_info *info = &s->set.s[0].info;
    if (o->vocab && info->vocab > o->vocab)
        return err_set(e, DR_EINVAL, "%s has ids below %" PRId32 ", the model's vocabulary %" PRId32,
                       from->path, info->vocab, o->vocab);
    if (o->tokenizer && *o->tokenizer && info->tokenizer[0] && strcmp(o->tokenizer, info->tokenizer))
        return err_set(e, DR_EINVAL, "%s was made with another tokenizer than the model's", from->path);
    for (uint64_t d = 0; d < s->set.n_docs; d++) s->positions += doc_positions(&s->set, d);
    s->n_windows = (s->set.n_docs + LOADER_WINDOW - 1) / LOADER_WINDOW;
    if (!s->positions)
        return err_set(e, DR_EINVAL, "%s has no document of two tokens or more", from->path);
    return DR_OK;
}

loader *loader_open(const loader_opt *o, dr_err *e)
{
    int ranks = o->n_ranks ? o->n_ranks : 1;
    if (o->n_src < 1 || o->n_src > LOADER_SOURCES || ranks < 1 || o->rank < 0 || o->rank >= ranks) {
        err_set(e, DR_EINVAL, "%d sources of data (1 to %d) for rank %d of %d", o->n_src,
                LOADER_SOURCES, o->rank, ranks);
        return NULL;
    }
    loader *l = mem_zalloc(1, sizeof *l);
    if (l) l->src = mem_zalloc((size_t)o->n_src, sizeof *l->src);
    if (!l || !l->src) {
        err_nomem(e, sizeof *l + (size_t)o->n_src * sizeof(source), "a loader");
        loader_free(l);
        return NULL;
    }
    l->n_src = o->n_src, l->seed = o->seed, l->once = o->once;
    l->rank = o->rank, l->n_ranks = ranks;
    int rc = DR_OK;
    for (int s = 0; s < l->n_src && !rc; s++) rc = open_source(l, &l->src[s], &o->src[s], o, e);
    if (!rc) rc = loader_set_phase(l, &o->phase, e);
    if (!rc) return l;
    loader_free(l);
    return NULL;
}

void loader_free(loader *l)
{
    if (!l) return;
    for (int s = 0; s < l->n_src && l->src; s++) {
        shards_close(&l->src[s].set);
        mem_free(l->src[s].piece);
        mem_free(l->src[s].len);
        pack_free(&l->src[s].rows);
    }
    mem_free(l->src);
    mem_free(l->step);
    mem_free(l->row_start);
    mem_free(l->tok);
    mem_free(l);
}
