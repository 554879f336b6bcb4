/* imatrix.c - see imatrix.h. */
#include "format/imatrix.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/block.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/os.h"
#include "format/gguf.h"
#include "format/gguf_write.h"
#include "format/rd.h"

#define SUMS ".in_sum2"
#define COUNTS ".counts"

/* Everything of an imatrix lies in one block: entries, then floats, then names. */
typedef struct {
    imatrix *m;
    float *f;
    char *s;
} filler;

static int take(filler *k, imatrix *m, uint64_t entries, uint64_t floats, uint64_t chars,
                dr_err *e)
{
    size_t n = entries * sizeof *m->entry + floats * sizeof(float) + chars;
    char *p = mem_zalloc(1, n + 1);
    if (!p) return err_nomem(e, n, "importance matrix");
    m->mem = p;
    m->entry = (imatrix_entry *)(void *)p;
    k->m = m;
    k->f = (float *)(void *)(p + entries * sizeof *m->entry);
    k->s = (char *)(k->f + floats);
    return DR_OK;
}

static span keep(filler *k, span s)
{
    span r = { k->s, s.n };
    if (s.n) memcpy(k->s, s.p, s.n);
    k->s += s.n;
    return r;
}

/* n values at `at` (not aligned), of n_mat matrices that saw count[i] inputs each. Of several,
 * the means are kept. */
static int add(filler *k, span name, const uint8_t *at, uint64_t n, const float *count,
               uint64_t n_mat, dr_err *e)
{
    imatrix_entry *x = &k->m->entry[k->m->n_entries++];
    x->n = (int64_t)n, x->sum = k->f;
    memcpy(k->f, at, n * sizeof *k->f);
    k->f += n;
    x->count = n_mat == 1 ? (double)count[0] : 1;
    for (uint64_t i = 0; i < n; i++) {
        if (!(x->sum[i] >= 0) || x->sum[i] == INFINITY)
            return err_set(e, DR_EFORMAT, "importance matrix: " SPAN_FMT " holds %g", SPAN_ARG(name),
                           (double)x->sum[i]);
        if (n_mat > 1) {
            float c = count[i / (n / n_mat)];
            x->sum[i] = c > 0 ? x->sum[i] / c : 1;
        }
    }
    if (!(x->count > 0)) {                        /* nothing was seen: all columns alike */
        x->count = 1;
        for (uint64_t i = 0; i < n; i++) x->sum[i] = 1;
    }
    x->name = keep(k, name);
    return DR_OK;
}

static bool ends_in(span s, const char *end)
{
    size_t n = strlen(end);
    return s.n > n && !memcmp(s.p + s.n - n, end, n);
}

static const gguf_tensor *counts_of(const gguf *g, span sums)
{
    char name[160];
    size_t n = sums.n - strlen(SUMS);
    if (n + sizeof COUNTS > sizeof name) return NULL;
    memcpy(name, sums.p, n);
    memcpy(name + n, COUNTS, sizeof COUNTS);
    return gguf_tensor_find(g, name);
}

static uint64_t elements(const gguf_tensor *t)
{
    uint64_t n = 1;
    for (int i = 0; i < t->n_dims; i++) n *= (uint64_t)t->dim[i];
    return n;
}

static int add_tensor(filler *k, const gguf *g, const gguf_tensor *t, dr_err *e)
{
    span name = { t->name.p, t->name.n - strlen(SUMS) };
    const gguf_tensor *c = counts_of(g, t->name);
    if (!c)
        return err_set(e, DR_EFORMAT, "importance matrix: " SPAN_FMT " has sums but no counts",
                       SPAN_ARG(name));
    uint64_t n = elements(t), n_mat = elements(c);
    if (t->type != DT_F32 || c->type != DT_F32 || !n || !n_mat || n % n_mat || n_mat > 65536)
        return err_set(e, DR_EFORMAT, "importance matrix: " SPAN_FMT ": F32 sums and their counts "
                       "were expected", SPAN_ARG(name));
    float *count = mem_alloc(n_mat * sizeof *count);
    if (!count) return err_nomem(e, n_mat * sizeof *count, "counts");
    memcpy(count, c->data, n_mat * sizeof *count);
    int rc = DR_OK;
    for (uint64_t i = 0; i < n_mat && rc == DR_OK; i++)
        if (!(count[i] >= 0) || count[i] == INFINITY)
            rc = err_set(e, DR_EFORMAT, "importance matrix: " SPAN_FMT " counts %g inputs",
                         SPAN_ARG(name), (double)count[i]);
    if (rc == DR_OK) rc = add(k, name, t->data, n, count, n_mat, e);
    mem_free(count);
    return rc;
}

static void dataset_of(filler *k, const gguf *g)
{
    const gguf_kv *kv = gguf_find(g, "imatrix.datasets");
    if (!kv || kv->type != GGUF_ARRAY || kv->elem != GGUF_STRING || !kv->n) return;
    const uint8_t *at = kv->at;
    span s = { 0 };
    for (uint64_t i = 0; i < kv->n; i++) s = gguf_array_str(&at);
    k->m->dataset = keep(k, s);
}

static int parse_gguf(imatrix *m, const void *bytes, size_t n, dr_err *e)
{
    gguf g;
    filler k;
    uint64_t entries = 0, floats = 0, chars = 0, v;
    int rc = gguf_parse(&g, bytes, n, e);
    if (rc != DR_OK) return rc;
    for (uint64_t i = 0; i < g.n_tensors; i++)
        if (ends_in(g.tensor[i].name, SUMS) && g.tensor[i].data)
            entries++, floats += g.tensor[i].bytes / 4, chars += g.tensor[i].name.n;
    const gguf_kv *kv = gguf_find(&g, "imatrix.datasets");
    if (kv) chars += kv->bytes;
    if (!entries)
        rc = err_set(e, DR_EFORMAT, "this GGUF file has no tensors NAME.in_sum2: it is no "
                     "importance matrix");
    if (rc == DR_OK) rc = take(&k, m, entries, floats, chars, e);
    for (uint64_t i = 0; i < g.n_tensors && rc == DR_OK; i++)
        if (ends_in(g.tensor[i].name, SUMS) && g.tensor[i].data)
            rc = add_tensor(&k, &g, &g.tensor[i], e);
    if (rc == DR_OK) {
        if (gguf_get_u64(&g, "imatrix.chunk_count", &v)) m->chunks = (uint32_t)v;
        if (gguf_get_u64(&g, "imatrix.chunk_size", &v)) m->chunk_size = (uint32_t)v;
        dataset_of(&k, &g);
    }
    gguf_free(&g);
    return rc;
}

/* One entry of the older format: length and name, calls, number of values, values. Each is the
 * mean times the calls. */
static int read_legacy(rd *r, uint32_t n, filler *k, uint64_t *floats, uint64_t *chars, dr_err *e)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t len = rd_u32(r);
        const char *name = rd_bytes(r, len);
        float calls = (float)(int32_t)rd_u32(r);
        uint32_t values = rd_u32(r);
        const uint8_t *at = rd_bytes(r, (uint64_t)values * 4);
        if (rd_bad(r) || !len || !values || values > INT32_MAX)
            return err_set(e, DR_EFORMAT, "importance matrix: entry %u of %u is cut off or no entry: "
                           "is this file one that llama-imatrix or drover imatrix wrote?", i + 1, n);
        *floats += values, *chars += len;
        if (!k) continue;
        int rc = add(k, (span){ name, len }, at, values, &calls, 1, e);
        if (rc != DR_OK) return rc;
    }
    return DR_OK;
}

static int parse_legacy(imatrix *m, const void *bytes, size_t n, dr_err *e)
{
    const uint8_t *p = bytes;
    rd r = { p, p + n, false };
    filler k;
    uint64_t floats = 0, chars = 0;
    uint32_t entries = rd_u32(&r);
    if (rd_bad(&r) || !entries || entries > n / 16)
        return err_set(e, DR_EFORMAT, "this is no importance matrix: neither GGUF nor the older "
                       "format of llama-imatrix");
    int rc = read_legacy(&r, entries, NULL, &floats, &chars, e);
    if (rc != DR_OK) return rc;
    /* what follows is optional */
    m->chunks = rd_u32(&r);
    uint32_t len = rd_u32(&r);
    const char *set = rd_bytes(&r, len);
    if ((rc = take(&k, m, entries, floats, chars + (set ? len : 0), e)) != DR_OK) return rc;
    r = (rd){ p + 4, p + n, false };
    if ((rc = read_legacy(&r, entries, &k, &floats, &chars, e)) != DR_OK) return rc;
    if (set) m->dataset = keep(&k, (span){ set, len });
    m->legacy = true;
    return DR_OK;
}

static int by_name(const void *a, const void *b)
{
    span x = ((const imatrix_entry *)a)->name, y = ((const imatrix_entry *)b)->name;
    int c = memcmp(x.p, y.p, x.n < y.n ? x.n : y.n);
    return c ? c : (x.n > y.n) - (x.n < y.n);
}

void imatrix_sort(imatrix *m)
{
    qsort(m->entry, (size_t)m->n_entries, sizeof *m->entry, by_name);
}

int imatrix_parse(imatrix *m, const void *bytes, size_t n, dr_err *e)
{
    *m = (imatrix){0};
    int rc = n >= 4 && !memcmp(bytes, "GGUF", 4) ? parse_gguf(m, bytes, n, e) :
             parse_legacy(m, bytes, n, e);
    if (rc == DR_OK) imatrix_sort(m);
    for (int64_t i = 1; rc == DR_OK && i < m->n_entries; i++)
        if (span_eq(m->entry[i].name, m->entry[i - 1].name))
            rc = err_set(e, DR_EFORMAT, "importance matrix: " SPAN_FMT " is there twice",
                         SPAN_ARG(m->entry[i].name));
    if (rc != DR_OK) imatrix_free(m);
    return rc;
}

int imatrix_read(imatrix *m, const char *path, dr_err *e)
{
    os_file f;
    *m = (imatrix){0};
    int rc = os_map(&f, path, e);
    if (rc != DR_OK) return rc;
    rc = imatrix_parse(m, f.p, f.n, e);
    os_unmap(&f);
    return rc == DR_OK ? rc : err_wrap(e, rc, "%s", path);
}

void imatrix_free(imatrix *m)
{
    mem_free(m->mem);
    *m = (imatrix){0};
}

const imatrix_entry *imatrix_find(const imatrix *m, const char *name)
{
    imatrix_entry key = { .name = span_of(name) };
    return m->n_entries ? bsearch(&key, m->entry, (size_t)m->n_entries, sizeof key, by_name) : NULL;
}

/* ---- writing ---- */

static void put_u32(buf *b, uint32_t v) { buf_put(b, &v, sizeof v); }

static int write_legacy(const imatrix *m, const char *path, dr_err *e)
{
    buf b = { .cap_max = (size_t)1 << 31 };
    put_u32(&b, (uint32_t)m->n_entries);
    for (int64_t i = 0; i < m->n_entries; i++) {
        const imatrix_entry *x = &m->entry[i];
        double per = m->chunk_size ? m->chunk_size : 1;
        uint32_t calls = (uint32_t)ceil(x->count / per);
        put_u32(&b, (uint32_t)x->name.n);
        buf_put(&b, x->name.p, x->name.n);
        put_u32(&b, calls);
        put_u32(&b, (uint32_t)x->n);
        for (int64_t j = 0; j < x->n; j++) {
            float v = (float)((double)x->sum[j] / x->count * calls);
            buf_put(&b, &v, sizeof v);
        }
    }
    put_u32(&b, m->chunks);
    put_u32(&b, (uint32_t)m->dataset.n);
    buf_put(&b, m->dataset.p ? m->dataset.p : "", m->dataset.n);
    int rc = b.bad ? err_nomem(e, b.n, "importance matrix") : os_write(path, b.p, b.n, e);
    buf_free(&b);
    return rc;
}

static int write_gguf(const imatrix *m, const char *path, dr_err *e)
{
    char name[256];
    gguf_writer *w = gguf_write_new(e);
    if (!w) return DR_ENOMEM;
    gguf_put_str(w, "general.type", span_of("imatrix"));
    gguf_put_strs(w, "imatrix.datasets", &m->dataset, 1);
    gguf_put_u32(w, "imatrix.chunk_count", m->chunks);
    gguf_put_u32(w, "imatrix.chunk_size", m->chunk_size);
    int rc = DR_OK;
    for (int64_t i = 0; i < m->n_entries && rc == DR_OK; i++) {
        const imatrix_entry *x = &m->entry[i];
        int64_t sums[2] = { x->n, 1 }, counts[2] = { 1, 1 };
        snprintf(name, sizeof name, SPAN_FMT SUMS, SPAN_ARG(x->name));
        rc = gguf_add_tensor(w, name, DT_F32, 2, sums, e);
        snprintf(name, sizeof name, SPAN_FMT COUNTS, SPAN_ARG(x->name));
        if (rc == DR_OK) rc = gguf_add_tensor(w, name, DT_F32, 2, counts, e);
    }
    if (rc == DR_OK) rc = gguf_write_start(w, path, e);
    for (int64_t i = 0; i < m->n_entries && rc == DR_OK; i++) {
        const imatrix_entry *x = &m->entry[i];
        float count = (float)x->count;
        rc = gguf_write_data(w, x->sum, (size_t)x->n * sizeof *x->sum, e);
        if (rc == DR_OK) rc = gguf_write_data(w, &count, sizeof count, e);
    }
    if (rc == DR_OK) rc = gguf_write_end(w, e);
    gguf_write_free(w);
    return rc;
}

int imatrix_write(const imatrix *m, const char *path, bool legacy, dr_err *e)
{
    return legacy ? write_legacy(m, path, e) : write_gguf(m, path, e);
}
