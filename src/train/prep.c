/* prep.c - see prep.h. Two batches of chunks take turns: while the pool tokenises one, a thread of its
 * own reads the next. Then the caller writes what the pool made, chunk after chunk. */
#include "train/prep.h"
#include <dirent.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include "base/mem.h"
#include "train/shard.h"
#include "train/shard_tok.h"

enum { CHUNK_BYTES = 1 << 17, CHUNKS_A_THREAD = 16, CHUNKS_MAX = 4096, FILES_MAX = 4096 };
enum { SHARD_TOKENS = 1 << 28 };

/* A chunk of text and what became of it. */
typedef struct {
    chunk c;
    ids v;                       /* of all its documents */
    int64_t *end;                /* (n_docs) where in v each ends */
    int64_t n_docs, cap;
    uint64_t text_bytes, empty;
    dr_err e;                    /* the first record that is broken; what stands before it is good */
} work;

typedef struct {
    work *w;                     /* (n_max) */
    int n, n_max;
    records_file **file;         /* those that ended in this batch: freed after it */
    int n_files;
    uint64_t taken;              /* bytes of all files up to its end */
    bool last;
    dr_err e;                    /* where reading failed: after all that is here */
} batch_of_text;

typedef struct {
    const prep_opt *o;
    file_list files;
    int next;                    /* file to open */
    records *r;                  /* the one being read, or NULL */
    uint64_t done;               /* bytes of those before it */
    batch_of_text b[2];
    buf *text;                   /* (threads) */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int filled, asked;           /* batches read so far; batches that may be read */
    bool stop;
} prep_run;

/* One side of the output. */
typedef struct {
    const char *folder;
    shard_info info;
    shard_out out;
    bool open;
    uint64_t limit, docs, tokens;
    int n;
} side;

/* ---- reading, by a thread of its own */

/* Read on into chunk c; what ends is kept in b. 0: there are no more files. */
static int read_chunk(prep_run *p, batch_of_text *b, chunk *c)
{
    while (c->n < CHUNK_BYTES && b->n_files < FILES_MAX) {
        if (!p->r) {
            if (p->next == p->files.n) return 0;
            p->r = records_open(p->files.path[p->next++], &p->o->records, &b->e);
            if (!p->r) return b->e.code;
        }
        int rc = records_next(p->r, c, CHUNK_BYTES, &b->e);
        if (rc > 0) continue;
        p->done += records_taken(p->r);
        b->file[b->n_files++] = records_close(p->r);
        p->r = NULL;
        if (rc) return rc;
    }
    return 1;
}

static void read_batch(prep_run *p, batch_of_text *b)
{
    b->n = 0;
    int rc = 1;
    while (rc > 0 && b->n < b->n_max && b->n_files < FILES_MAX) {
        chunk *c = &b->w[b->n].c;
        chunk_reset(c);
        rc = read_chunk(p, b, c);
        b->n += c->n_rec > 0;
    }
    b->taken = p->done + (p->r ? records_taken(p->r) : 0);
    b->last = rc <= 0;
}

static void *reader(void *arg)
{
    prep_run *p = arg;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (p->filled == p->asked && !p->stop) pthread_cond_wait(&p->changed, &p->lock);
        if (p->stop) break;
        batch_of_text *b = &p->b[p->filled % 2];
        pthread_mutex_unlock(&p->lock);
        read_batch(p, b);
        pthread_mutex_lock(&p->lock);
        p->filled++;
        pthread_cond_signal(&p->changed);
        if (b->last) break;
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* ---- tokenising, by the pool */

static int end_doc(work *w, dr_err *e)
{
    if (w->n_docs == w->cap) {
        int64_t to = w->cap ? 2 * w->cap : 256;
        int64_t *end = mem_realloc(w->end, (size_t)to * sizeof *end);
        if (!end) return err_nomem(e, (size_t)to * sizeof *end, "documents");
        w->end = end, w->cap = to;
    }
    w->end[w->n_docs++] = w->v.n;
    return DR_OK;
}

typedef struct { const prep_run *p; batch_of_text *b; } tokenise_job;

static void tokenise(void *arg, int i, int thread)
{
    const prep_run *p = ((tokenise_job *)arg)->p;
    work *w = &((tokenise_job *)arg)->b->w[i];
    buf *text = &p->text[thread];
    w->v.n = 0, w->n_docs = 0, w->text_bytes = 0, w->empty = 0, w->e = (dr_err){0};
    int rc = DR_OK;
    for (int64_t k = 0; k < w->c.n_rec && !rc; k++) {
        if ((rc = record_text(&w->c, k, text, &w->e))) break;
        w->text_bytes += text->n;
        if (!text->n) {
            w->empty++;
            continue;
        }
        int64_t from = w->v.n;
        rc = tok_encode(p->o->tok, buf_span(text), p->o->no_bos ? 0 : TOK_BOS, &w->v, &w->e);
        if (!rc && p->o->end >= 0) rc = ids_put(&w->v, p->o->end, &w->e);
        if (!rc) rc = end_doc(w, &w->e);
        if (rc) w->v.n = from;
    }
    /* a long document's room is given back */
    if (text->cap > 8 * CHUNK_BYTES) buf_free(text), buf_init(text, RECORD_MAX);
}

/* ---- writing */

static int shard_name(char path[4096], const side *s, int no, dr_err *e)
{
    int k = snprintf(path, 4096, "%s/%05d.shard", s->folder, no);
    if (k > 0 && k < 4096) return DR_OK;
    return err_set(e, DR_EINVAL, "%s is too long a name for a folder", s->folder);
}

/* What was written of an output that will not be whole. */
static void withdraw(side *s)
{
    char path[4096];
    if (s->open) shard_out_drop(&s->out);
    for (int i = 0; i < s->n; i++)
        if (!shard_name(path, s, i, NULL)) remove(path);
}

static int put_doc(side *s, const int32_t *id, int64_t n, dr_err *e)
{
    char path[4096];
    int rc = DR_OK;
    if (s->open && s->out.info.n_tok >= s->limit) {
        s->open = false;
        if ((rc = shard_out_keep(&s->out, false, e))) return rc;
    }
    if (!s->open) {
        if ((rc = shard_name(path, s, s->n, e))) return rc;
        s->info.part = (uint32_t)s->n++;
        if ((rc = shard_out_open(&s->out, path, &s->info, e))) return rc;
        s->open = true;
    }
    s->docs++, s->tokens += (uint64_t)n;
    return shard_out_doc(&s->out, id, (uint64_t)n, e);
}

static int write_batch(const prep_opt *o, const batch_of_text *b, side s[2], prep_stat *st, dr_err *e)
{
    int rc = DR_OK;
    for (int i = 0; i < b->n && !rc; i++) {
        const work *w = &b->w[i];
        st->text_bytes += w->text_bytes, st->empty += w->empty;
        for (int64_t d = 0; d < w->n_docs && !rc; d++) {
            int64_t from = d ? w->end[d - 1] : 0;
            uint64_t no = s[0].docs + s[1].docs;
            bool eval = o->eval_out && no % (uint64_t)o->eval_every == (uint64_t)o->eval_every - 1;
            rc = put_doc(&s[eval], w->v.p + from, w->end[d] - from, e);
        }
        if (!rc && w->e.code) {
            *e = w->e;
            rc = w->e.code;
        }
    }
    if (!rc && b->e.code) {
        *e = b->e;
        rc = b->e.code;
    }
    return rc;
}

/* What all shards of this preparation share: nothing but what decides about their ids is in it. */
static int set_of(const prep_run *p, const char *sha, uint64_t *set, dr_err *e)
{
    const prep_opt *o = p->o;
    buf b = { .cap_max = 1 << 30 };
    char hex[HASH_HEX];
    buf_printf(&b, "%s %d %" PRId32 " %d %d %s %s %d %" PRIu64 "\n", sha, o->no_bos, o->end,
               o->records.format, o->records.split, o->records.field ? o->records.field : "",
               o->records.separator ? o->records.separator : "", o->eval_out ? o->eval_every : 0,
               p->files.bytes);
    for (int i = 0; i < p->files.n; i++) buf_printf(&b, "%s\n", p->files.path[i]);
    int rc = b.bad ? err_nomem(e, b.n, "names of files") : hash_bytes(buf_str(&b), b.n, hex, e);
    buf_free(&b);
    if (rc) return rc;
    hex[16] = 0;
    *set = strtoull(hex, NULL, 16);
    return DR_OK;
}

static bool ends_in(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n >= k && !strcmp(s + n - k, end);
}

/* A folder for shards in which none are. */
static int ready_folder(const char *path, bool force, dr_err *e)
{
    int rc = os_mkdirs(path, e);
    if (rc) return rc;
    DIR *d = opendir(path);
    if (!d) return err_set(e, DR_EIO, "cannot read folder %s", path);
    buf name = { .cap_max = 1 << 16 };
    for (struct dirent *f; !rc && (f = readdir(d));) {
        bool part = ends_in(f->d_name, ".shard.part");     /* of one that was interrupted */
        if (!ends_in(f->d_name, ".shard") && !(part && force)) continue;
        buf_reset(&name);
        buf_printf(&name, "%s/%s", path, f->d_name);
        if (!force) rc = err_set(e, DR_EINVAL, "%s holds shards already", path);
        else if (remove(buf_str(&name))) rc = err_set(e, DR_EIO, "cannot remove %s", buf_str(&name));
    }
    closedir(d);
    buf_free(&name);
    return rc;
}

static int begin(prep_run *p, side s[2], const pool *threads_of, dr_err *e)
{
    const prep_opt *o = p->o;
    int threads = pool_threads(threads_of), n = CHUNKS_A_THREAD * threads;
    if (n > CHUNKS_MAX) n = CHUNKS_MAX;
    if (o->eval_out && o->eval_every < 2)
        return err_set(e, DR_EINVAL, "each %d. document for evaluation; 2 or more is wanted", o->eval_every);
    int rc = file_list_make(&p->files, o->in, o->n_in, e);
    shard_info info = { .vocab = tok_count(o->tok) };
    if (!rc) rc = shard_tokenizer(o->tok, info.tokenizer, e);
    if (!rc) rc = set_of(p, info.tokenizer, &info.set, e);
    const char *folder[2] = { o->out, o->eval_out };
    for (int i = 0; i < 2 && !rc; i++) {
        s[i] = (side){ .folder = folder[i], .info = info,
                       .limit = o->shard_tokens ? o->shard_tokens : SHARD_TOKENS };
        s[i].info.set += (uint64_t)i;
        if (folder[i]) rc = ready_folder(folder[i], o->force, e);
    }
    if (!rc && !(p->text = mem_zalloc((size_t)threads, sizeof *p->text)))
        rc = err_nomem(e, (size_t)threads * sizeof *p->text, "documents");
    for (int i = 0; i < threads && !rc; i++) buf_init(&p->text[i], RECORD_MAX);
    for (int i = 0; i < 2 && !rc; i++) {
        p->b[i].w = mem_zalloc((size_t)n, sizeof *p->b[i].w);
        p->b[i].file = mem_zalloc(FILES_MAX, sizeof *p->b[i].file);
        p->b[i].n_max = n;
        if (!p->b[i].w || !p->b[i].file) rc = err_nomem(e, (size_t)n * sizeof *p->b[i].w, "batches");
    }
    return rc;
}

static void drop_files(batch_of_text *b)
{
    for (int i = 0; i < b->n_files; i++) records_file_free(b->file[i]);
    b->n_files = 0;
}

static void end(prep_run *p, int threads)
{
    records_file_free(records_close(p->r));
    for (int i = 0; i < 2; i++) {
        drop_files(&p->b[i]);
        for (int k = 0; k < p->b[i].n_max && p->b[i].w; k++) {
            chunk_free(&p->b[i].w[k].c);
            ids_free(&p->b[i].w[k].v);
            mem_free(p->b[i].w[k].end);
        }
        mem_free(p->b[i].w);
        mem_free(p->b[i].file);
    }
    for (int i = 0; i < threads && p->text; i++) buf_free(&p->text[i]);
    mem_free(p->text);
    file_list_free(&p->files);
}

/* Wait until `n` batches are read, then let one more be. */
static batch_of_text *await(prep_run *p, int n)
{
    pthread_mutex_lock(&p->lock);
    while (p->filled < n) pthread_cond_wait(&p->changed, &p->lock);
    batch_of_text *b = &p->b[(n - 1) % 2];
    if (!b->last) p->asked = n + 1;
    pthread_cond_signal(&p->changed);
    pthread_mutex_unlock(&p->lock);
    return b;
}

static int all_batches(prep_run *p, pool *threads, side s[2], prep_stat *st, dr_err *e)
{
    const prep_opt *o = p->o;
    pthread_t thread;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->changed, NULL);
    p->asked = 1;
    int rc = pthread_create(&thread, NULL, reader, p) ?
             err_set(e, DR_EIO, "cannot start a thread") : DR_OK;
    bool started = !rc;
    for (int n = 1; !rc; n++) {
        batch_of_text *b = await(p, n);
        tokenise_job job = { p, b };
        pool_run(threads, b->n, tokenise, &job);
        rc = write_batch(o, b, s, st, e);
        drop_files(b);
        if (o->tick) o->tick(o->arg, b->taken, p->files.bytes);
        if (b->last) break;
    }
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_signal(&p->changed);
    pthread_mutex_unlock(&p->lock);
    if (started) pthread_join(thread, NULL);
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->lock);
    return rc;
}

int prep(const prep_opt *o, pool *threads, prep_stat *st, dr_err *e)
{
    prep_run p = { .o = o };
    side s[2] = {0};
    prep_stat sum = {0};
    int rc = begin(&p, s, threads, e);
    if (!rc) rc = all_batches(&p, threads, s, &sum, e);
    if (!rc && !s[0].docs)
        rc = err_set(e, DR_EINVAL, "there is no text in %d files", p.files.n);
    if (!rc && o->eval_out && !s[1].docs)
        rc = err_set(e, DR_EINVAL, "%" PRIu64 " documents are too few for each %d. to be kept for "
                     "evaluation", s[0].docs, o->eval_every);
    for (int i = 0; i < 2 && !rc; i++) {
        if (s[i].open) rc = shard_out_keep(&s[i].out, true, e);
        s[i].open = false;
    }
    if (!rc) {
        sum.docs = s[0].docs, sum.tokens = s[0].tokens, sum.shards = s[0].n;
        sum.eval_docs = s[1].docs, sum.eval_tokens = s[1].tokens, sum.eval_shards = s[1].n;
        sum.files = p.files.n;
        *st = sum;
    }
    for (int i = 0; i < 2 && rc; i++) withdraw(&s[i]);
    end(&p, pool_threads(threads));
    return rc;
}
