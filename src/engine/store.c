/* store.c - the tree of what is on disk, and the thread that reads and writes (store.h).
 *
 * A spot is a page on disk, or one on its way there. Files are numbered upwards and a page's file is
 * written after that of the page before it, so at the start the smaller number is always there first. As
 * in prefix.c all are in one list by last use, a spot older than the one before it, and the oldest that
 * nobody is busy with goes first. Spots, loads and the tree of prefixes are the engine's thread's; the
 * thread here gets jobs through two rings and gives them back through a third. */
#include "engine/store.h"
#include <pthread.h>
#include <string.h>
#include "base/mem.h"
#include "base/os.h"
#include "engine/store_priv.h"

enum { NONE = -1, LOADS = 4, JOBS = 1024, SPOTS_MAX = 65536, SCAN_MAX = 1 << 20 };
static const int64_t PAUSE_NS = 30000000000;            /* after a write that failed */

typedef enum { SPOT_WRITING, SPOT_THERE, SPOT_GONE } spot_state;
typedef struct {
    int32_t tok[KV_PAGE];
    int32_t before, chain;              /* the page before it; the next in its bucket, or free one */
    int32_t newer, older;
    int32_t kids, busy;                 /* pages after it; jobs it is in */
    bool reading;
    uint8_t state;
    uint64_t number;                    /* of its file */
} spot;

typedef enum { JOB_READ, JOB_WRITE, JOB_REMOVE } job_kind;
typedef struct {
    job_kind kind;
    int32_t spot, page;
    int load, at;                       /* JOB_READ: which load, which of its pages */
    uint64_t number, before;
    const int32_t *tok;                 /* the spot's; it stays while it is busy */
    bool good, damaged;
} job;
typedef struct { job *a; unsigned head, tail; } ring;   /* written, read; (2 JOBS,) */

/* A sequence that is read: its pages from `from` on; `left` are to come, the first `good` of all are right so far. */
typedef struct {
    bool used;
    int32_t *tok, *way;                 /* its tokens; the spots of its pages */
    kv_seq q;
    int from, good, left;
} load;

struct store {
    store_opt o;
    kv_cache *c;
    prefix *p;
    page_dir dir;
    spot *a;
    int32_t *bucket;
    unsigned mask;
    int n_spots, max_spots, room;       /* used; the limit; of a[] */
    int32_t free, newest, oldest;
    uint64_t last, seed;
    int held, reading;                  /* pages that wait to be written, to be read: at most JOBS each */
    int64_t paused_ns;
    load load[LOADS];
    store_stats st;

    pthread_t thread;
    bool started;
    pthread_mutex_t lock;               /* of what follows */
    pthread_cond_t cond;
    ring reads, writes, done;
    bool quit;
};

/* ---- rings ---- */

static unsigned used(const ring *r) { return r->head - r->tail; }
static void push(ring *r, const job *j) { r->a[r->head++ % (2 * JOBS)] = *j; }
static job pop(ring *r) { return r->a[r->tail++ % (2 * JOBS)]; }

static void send(store *s, ring *r, const job *j)
{
    pthread_mutex_lock(&s->lock);
    DR_ASSERT(used(r) < 2 * JOBS);
    push(r, j);
    pthread_cond_signal(&s->cond);
    pthread_mutex_unlock(&s->lock);
}

static unsigned waiting(store *s, const ring *r)
{
    pthread_mutex_lock(&s->lock);
    unsigned n = used(r);
    pthread_mutex_unlock(&s->lock);
    return n;
}

static void *serve(void *arg)
{
    store *s = arg;
    pthread_mutex_lock(&s->lock);
    for (;;) {
        while (!s->quit && !used(&s->reads) && !used(&s->writes)) pthread_cond_wait(&s->cond, &s->lock);
        if (s->quit) s->reads.tail = s->reads.head;
        if (s->quit && !used(&s->writes)) break;
        job j = pop(used(&s->reads) ? &s->reads : &s->writes);
        pthread_mutex_unlock(&s->lock);
        if (j.kind == JOB_READ) j.good = page_read(&s->dir, j.number, j.before, j.tok, j.page, &j.damaged);
        if (j.kind == JOB_WRITE) j.good = page_write(&s->dir, j.number, j.before, j.tok, j.page);
        if (j.kind == JOB_REMOVE) page_remove(&s->dir, j.number);
        pthread_mutex_lock(&s->lock);
        if (j.kind == JOB_REMOVE) continue;
        bool first = !used(&s->done);
        push(&s->done, &j);
        if (!first || !s->o.wake) continue;
        pthread_mutex_unlock(&s->lock);
        s->o.wake(s->o.arg);
        pthread_mutex_lock(&s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* ---- spots ---- */

static unsigned bucket_of(const store *s, int32_t before, const int32_t *tok)
{
    uint64_t h = s->seed ^ (uint64_t)(uint32_t)before;
    for (int i = 0; i < KV_PAGE; i++) {
        h = (h ^ (uint32_t)tok[i]) * 0x9e3779b97f4a7c15u;
        h ^= h >> 32;
    }
    return (unsigned)h & s->mask;
}

static int32_t find(const store *s, int32_t before, const int32_t *tok)
{
    int32_t i = s->bucket[bucket_of(s, before, tok)];
    while (i != NONE && (s->a[i].before != before || memcmp(s->a[i].tok, tok, sizeof s->a[i].tok))) i = s->a[i].chain;
    return i;
}

static void unlist(store *s, int32_t i)
{
    spot *x = &s->a[i];
    if (x->newer != NONE) s->a[x->newer].older = x->older;
    else s->newest = x->older;
    if (x->older != NONE) s->a[x->older].newer = x->newer;
    else s->oldest = x->newer;
}

static void enlist(store *s, int32_t i)
{
    s->a[i].newer = NONE;
    s->a[i].older = s->newest;
    if (s->newest != NONE) s->a[s->newest].newer = i;
    else s->oldest = i;
    s->newest = i;
}

static void touch(store *s, int32_t i)
{
    for (; i != NONE; i = s->a[i].before) {
        unlist(s, i);
        enlist(s, i);
    }
}

static int32_t add(store *s, int32_t before, const int32_t *tok, uint64_t number, spot_state state)
{
    int32_t i = s->free;
    if (i == NONE) return NONE;
    spot *x = &s->a[i];
    s->free = x->chain;
    *x = (spot){ .before = before, .number = number, .state = (uint8_t)state };
    memcpy(x->tok, tok, sizeof x->tok);
    int32_t *b = &s->bucket[bucket_of(s, before, tok)];
    x->chain = *b;
    *b = i;
    if (before != NONE) s->a[before].kids++;
    enlist(s, i);
    s->n_spots++;
    return i;
}

/* The spot goes, and its file. */
static void discard(store *s, int32_t i)
{
    spot *x = &s->a[i];
    DR_ASSERT(!x->kids && !x->busy);
    int32_t *b = &s->bucket[bucket_of(s, x->before, x->tok)];
    while (*b != i) b = &s->a[*b].chain;
    *b = x->chain;
    if (x->before != NONE) s->a[x->before].kids--;
    unlist(s, i);
    if (x->state != SPOT_GONE) send(s, &s->writes, &(job){ .kind = JOB_REMOVE, .number = x->number });
    x->chain = s->free;
    s->free = i;
    s->n_spots--;
}

/* There is room for one more spot; false: those that would have to go are busy. */
static bool make_room(store *s)
{
    int most = s->max_spots - 1;
    for (int tries = s->n_spots; s->n_spots > most && tries > 0; tries--) {
        int32_t i = s->oldest;
        if (s->a[i].kids || s->a[i].busy) touch(s, i);
        else if (s->a[i].state != SPOT_GONE && waiting(s, &s->writes) >= JOBS) return false;
        else discard(s, i);
    }
    return s->n_spots <= most;
}

/* There is no file of it any more: what comes after it cannot be found, until it is written again. */
static void lose(store *s, int32_t i)
{
    s->a[i].state = SPOT_GONE;
    if (!s->a[i].kids && !s->a[i].busy) discard(s, i);
}

/* The file of the page before it; 0: none. */
static uint64_t number_before(const store *s, const spot *x) { return x->before == NONE ? 0 : s->a[x->before].number; }

/* ---- what is there at the start ---- */

typedef struct { uint64_t number, before; int64_t used; int32_t tok[KV_PAGE], spot; } found;
typedef struct { found *a; size_t n, cap; } scan;

static int note(void *arg, const page_head *h, int64_t used_ns)
{
    scan *f = arg;
    if (f->n == SCAN_MAX) return DR_OK;
    if (f->n == f->cap) {
        size_t cap = f->cap ? 2 * f->cap : 256;
        found *a = mem_realloc(f->a, cap * sizeof *a);
        if (!a) return DR_ENOMEM;
        f->a = a;
        f->cap = cap;
    }
    found *x = &f->a[f->n++];
    *x = (found){ .number = h->number, .before = h->before, .used = used_ns };
    memcpy(x->tok, h->tok, sizeof x->tok);
    return DR_OK;
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = ((const found *)a)->number, y = ((const found *)b)->number;
    return x < y ? -1 : x > y;
}

static int by_use(const void *a, const void *b)
{
    int64_t x = ((const found *)a)->used, y = ((const found *)b)->used;
    return x < y ? -1 : x > y;
}

/* Spots of what was found; files whose way is not there go. */
static void take_over(store *s, scan *f)
{
    if (f->n) qsort(f->a, f->n, sizeof *f->a, by_number);
    for (size_t i = 0; i < f->n; i++) {
        found *x = &f->a[i];
        const found *b = x->before ? bsearch(&(found){ .number = x->before }, f->a, i, sizeof *f->a, by_number) : NULL;
        int32_t before = b ? b->spot : NONE;
        x->spot = NONE;
        if (x->number > s->last) s->last = x->number;
        if ((!x->before || before != NONE) && find(s, before, x->tok) == NONE)
            x->spot = add(s, before, x->tok, x->number, SPOT_THERE);
        if (x->spot == NONE) page_remove(&s->dir, x->number);
    }
    if (f->n) qsort(f->a, f->n, sizeof *f->a, by_use);
    for (size_t i = 0; i < f->n; i++)
        if (f->a[i].spot != NONE) touch(s, f->a[i].spot);
    while (s->n_spots > s->max_spots) {             /* the limit was larger */
        int32_t i = s->oldest;
        page_remove(&s->dir, s->a[i].number);
        s->a[i].state = SPOT_GONE;
        discard(s, i);
    }
}

static int buffers(store *s, size_t n_found, dr_err *e)
{
    size_t n = (size_t)s->max_spots > n_found ? (size_t)s->max_spots : n_found, buckets = 64;
    while (buckets < n) buckets *= 2;
    s->mask = (unsigned)buckets - 1;
    s->room = (int)n;
    s->a = mem_zalloc(n, sizeof *s->a);
    s->bucket = mem_alloc(buckets * sizeof *s->bucket);
    ring *r[3] = { &s->reads, &s->writes, &s->done };
    bool bad = !s->a || !s->bucket;
    for (int i = 0; i < 3; i++) bad |= !(r[i]->a = mem_zalloc(2 * JOBS, sizeof *r[i]->a));
    for (int i = 0; i < LOADS; i++) {
        s->load[i].tok = mem_alloc((size_t)s->o.n_ctx * sizeof *s->load[i].tok);
        s->load[i].way = mem_alloc((size_t)s->o.n_ctx / KV_PAGE * sizeof *s->load[i].way);
        bad |= !s->load[i].tok || !s->load[i].way || kv_seq_init(&s->load[i].q, s->o.n_ctx, NULL);
    }
    if (bad) return err_nomem(e, n * sizeof *s->a, "prefixes on disk");
    memset(s->bucket, -1, buckets * sizeof *s->bucket);
    for (size_t i = 0; i < n; i++) s->a[i].chain = i + 1 < n ? (int32_t)i + 1 : NONE;
    return DR_OK;
}

static int begin(store *s, dr_err *e)
{
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->cond, NULL);
    int rc = page_dir_open(&s->dir, s->o.folder, s->o.fingerprint, s->c, e);
    if (rc) return rc;
    int64_t file = (int64_t)(STORE_HEAD + s->dir.bytes), n = s->o.bytes / file;
    if (n < 1)
        return err_set(e, DR_EINVAL, "%lld bytes for prefixes on disk: a page takes %lld", (long long)s->o.bytes,
                       (long long)file);
    s->max_spots = n < SPOTS_MAX ? (int)n : SPOTS_MAX;
    scan f = {0};
    rc = page_dir_each(&s->dir, note, &f, &s->st.damaged, e);
    if (rc == DR_ENOMEM) err_nomem(e, f.cap * sizeof *f.a, "prefixes on disk");
    if (!rc) rc = buffers(s, f.n, e);
    if (!rc) take_over(s, &f);
    mem_free(f.a);
    if (rc) return rc;
    if (pthread_create(&s->thread, NULL, serve, s)) return err_set(e, DR_ENOMEM, "no thread for prefixes on disk");
    s->started = true;
    return DR_OK;
}

store *store_open(const store_opt *o, kv_cache *c, prefix *p, dr_err *e)
{
    store *s = mem_zalloc(1, sizeof *s);
    if (!s) {
        err_nomem(e, sizeof *s, "prefixes on disk");
        return NULL;
    }
    *s = (store){ .o = *o, .c = c, .p = p, .dir = { .dir = -1, .lock = -1 }, .free = 0, .newest = NONE,
                  .oldest = NONE, .seed = (uint64_t)os_now_ns() * 0x9e3779b97f4a7c15u };
    if (begin(s, e) == DR_OK) return s;
    store_free(s);
    return NULL;
}

void store_free(store *s)
{
    if (!s) return;
    if (s->started) {
        pthread_mutex_lock(&s->lock);
        s->quit = true;
        pthread_cond_signal(&s->cond);
        pthread_mutex_unlock(&s->lock);
        pthread_join(s->thread, NULL);
        s->started = false;
        store_poll(s);
    }
    for (int i = 0; i < LOADS; i++) {
        kv_seq_free(s->c, &s->load[i].q);
        mem_free(s->load[i].tok);
        mem_free(s->load[i].way);
    }
    page_dir_close(&s->dir);
    mem_free(s->reads.a);
    mem_free(s->writes.a);
    mem_free(s->done.a);
    mem_free(s->bucket);
    mem_free(s->a);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->cond);
    mem_free(s);
}

/* ---- from the disk ---- */

bool store_want(store *s, const int32_t *tok, int n)
{
    if (n > s->o.n_ctx) n = s->o.n_ctx;
    load *l = NULL;
    for (int i = 0; i < LOADS; i++)
        if (!s->load[i].used) l = &s->load[i];
    int32_t last = NONE;
    int k = 0;
    bool reading = false;
    for (; (k + 1) * KV_PAGE <= n; k++) {
        int32_t i = find(s, last, tok + k * KV_PAGE);
        if (i == NONE || s->a[i].state != SPOT_THERE) break;
        reading |= s->a[i].reading;
        if (l) l->way[k] = i;
        last = i;
    }
    int m = prefix_match(s->p, s->o.root, tok, k * KV_PAGE, NULL) / KV_PAGE;
    if (m >= k) return false;
    if (reading || !l) return true;
    prefix_take(s->p, s->o.root, tok, m * KV_PAGE, &l->q);
    int pages = s->c->n_free + prefix_idle(s->p), jobs = JOBS - s->reading;
    int most = pages < jobs ? pages : jobs;
    if (k > m + most) k = m + most;
    if (k - m > s->c->n_free) prefix_evict(s->p, k - m - s->c->n_free);
    if (k == m || kv_grow(s->c, &l->q, (k - m) * KV_PAGE, NULL)) {
        kv_truncate(s->c, &l->q, 0);
        return false;
    }
    memcpy(l->tok, tok, (size_t)k * KV_PAGE * sizeof *tok);
    l->used = true;
    l->from = m, l->good = k, l->left = k - m;
    touch(s, l->way[k - 1]);
    s->reading += k - m;
    for (int i = m; i < k; i++) {
        spot *x = &s->a[l->way[i]];
        x->busy++;
        x->reading = true;
        send(s, &s->reads, &(job){ .kind = JOB_READ, .spot = l->way[i], .page = l->q.page[i], .at = i, .tok = x->tok,
                                   .load = (int)(l - s->load), .number = x->number, .before = number_before(s, x) });
    }
    return true;
}

static bool came(store *s, const job *j)
{
    spot *x = &s->a[j->spot];
    load *l = &s->load[j->load];
    x->busy--;
    x->reading = false;
    s->reading--;
    if (j->good) {
        s->st.read++;
    } else {
        if (l->good > j->at) l->good = j->at;
        s->st.damaged += j->damaged;
        s->st.failed += !j->damaged;
        if (waiting(s, &s->writes) < 2 * JOBS - 1)
            send(s, &s->writes, &(job){ .kind = JOB_REMOVE, .number = j->number });
        lose(s, j->spot);
    }
    if (--l->left) return false;
    if (l->good > l->from) {
        l->q.len = l->good * KV_PAGE;
        prefix_put(s->p, s->o.root, l->tok, l->q.len, &l->q);
    }
    kv_truncate(s->c, &l->q, 0);
    l->used = false;
    return true;
}

/* ---- to the disk ---- */

void store_keep(store *s, const int32_t *tok, int n, const kv_seq *q)
{
    int32_t before = NONE;
    int most = s->c->n_pages / 8 > 1 ? s->c->n_pages / 8 : 1;
    if (most > JOBS) most = JOBS;
    for (int i = 0; (i + 1) * KV_PAGE <= n; i++) {
        const int32_t *t = tok + i * KV_PAGE;
        int32_t at = find(s, before, t);
        if (at == NONE || s->a[at].state == SPOT_GONE) {
            if (s->held >= most || waiting(s, &s->writes) >= JOBS || (s->paused_ns && os_now_ns() < s->paused_ns)) break;
            if (at == NONE) {
                if (before != NONE) s->a[before].busy++;        /* is not to make room for what follows it */
                bool room = make_room(s);
                if (before != NONE) s->a[before].busy--;
                at = room ? add(s, before, t, ++s->last, SPOT_WRITING) : NONE;
                if (at == NONE) break;
            }
            spot *x = &s->a[at];
            x->state = SPOT_WRITING;
            x->busy++;
            kv_hold(s->c, q->page[i]);
            s->held++;
            send(s, &s->writes, &(job){ .kind = JOB_WRITE, .spot = at, .page = q->page[i], .number = x->number,
                                        .tok = x->tok, .before = number_before(s, x) });
        }
        before = at;
    }
    touch(s, before);
}

static void written(store *s, const job *j)
{
    spot *x = &s->a[j->spot];
    kv_release(s->c, j->page);
    s->held--;
    x->busy--;
    if (j->good) {
        x->state = SPOT_THERE;
        s->st.written++;
        s->paused_ns = 0;
        return;
    }
    s->st.failed++;
    s->paused_ns = os_now_ns() + PAUSE_NS;
    lose(s, j->spot);
}

bool store_poll(store *s)
{
    bool any = false;
    for (;;) {
        pthread_mutex_lock(&s->lock);
        bool more = used(&s->done) > 0;
        job j = { 0 };
        if (more) j = pop(&s->done);
        pthread_mutex_unlock(&s->lock);
        if (!more) return any;
        if (j.kind == JOB_WRITE) written(s, &j);
        else any |= came(s, &j);
    }
}

void store_stats_get(const store *s, store_stats *out)
{
    *out = s->st;
    out->pages = s->n_spots;
    out->bytes = (int64_t)s->n_spots * (int64_t)(STORE_HEAD + s->dir.bytes);
}
