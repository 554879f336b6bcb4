/* logit_file.c - see logit_file.h. */
#include "eval/logit_file.h"
#include <math.h>
#include <string.h>
#include "eval/ppl.h"
#include "format/rd.h"

static const char magic[8] = "DRVRLGT1", peer_magic[8] = "_logits_";
enum { ROW_HEAD = 24, EXACT = 64, PEER_HEAD = 4 /* u16: scale and lowest log-probability, both f32 */ };
enum { MAX_V = 1 << 24, MAX_CTX = 1 << 24 };

static uint64_t fnv(const void *p, size_t n)
{
    uint64_t h = 0xcbf29ce484222325u, v;
    for (const uint8_t *b = p, *end = b + n; b < end; b += 8) {
        memcpy(&v, b, 8);
        h = (h ^ v) * 0x100000001b3u;
    }
    return h;
}

static size_t up8(size_t n) { return (n + 7) & ~(size_t)7; }
static int exact_of(int V) { return V < EXACT ? V : EXACT; }
static size_t row_size(int V)
{
    return up8(ROW_HEAD + (size_t)exact_of(V) * sizeof(logit_exact) + 2 * (size_t)V);
}

static int sizes(logit_file *l, rd *r, dr_err *e)
{
    const void *m = rd_bytes(r, 8);
    bool own = m && !memcmp(m, magic, 8);
    l->peer = m && !memcmp(m, peer_magic, 8);
    if (!own && !l->peer)
        return err_set(e, DR_EFORMAT, "not a file of reference logits (perplexity --save-logits "
                       "writes them)");
    uint32_t a = rd_u32(r), b = rd_u32(r), V = own ? a : b, ctx = own ? b : a;
    uint64_t windows = own ? rd_u64(r) : rd_u32(r);
    if (rd_bad(r)) return err_set(e, DR_EFORMAT, "the reference logits are cut short");
    if (V < 1 || V > MAX_V || ctx < 2 || ctx > MAX_CTX || windows < 1 ||
        (l->peer && ctx < 4))
        return err_set(e, DR_EFORMAT, "the reference logits claim a vocabulary of %u and %llu "
                       "windows of %u", V, (unsigned long long)windows, ctx);
    l->V = (int)V, l->ctx = (int)ctx, l->first = own ? 0 : (int)ctx / 2;
    l->row_bytes = own ? row_size((int)V)
                       : 2 * (PEER_HEAD + 2 * (((size_t)V + 1) / 2));
    size_t each = 4 * (size_t)ctx + (size_t)(l->ctx - 1 - l->first) * l->row_bytes;
    size_t left = (size_t)(r->end - r->p);
    if (windows > left / each)
        return err_set(e, DR_EFORMAT, "the reference logits are cut short: %zu bytes for %llu "
                       "windows of %zu", left, (unsigned long long)windows, each);
    l->windows = (int64_t)windows;
    return DR_OK;
}

int logit_file_parse(logit_file *l, const void *p, size_t n, dr_err *e)
{
    *l = (logit_file){0};
    rd r = { p, (const uint8_t *)p + n, false };
    int rc = sizes(l, &r, e);
    if (rc) return rc;
    size_t n_ids = (size_t)l->windows * (size_t)l->ctx;
    size_t pad = l->peer ? 0 : up8(4 * n_ids) - 4 * n_ids;
    l->ids = (const int32_t *)rd_bytes(&r, 4 * (uint64_t)n_ids);
    rd_bytes(&r, pad);
    size_t rows = (size_t)l->windows * (size_t)(l->ctx - 1 - l->first) * l->row_bytes;
    if (rd_bad(&r) || rows != (size_t)(r.end - r.p))
        return err_set(e, DR_EFORMAT, "the reference logits have %zu bytes of rows where %zu are "
                       "wanted", (size_t)(r.end - r.p), rows);
    l->rows = r.p;
    for (size_t i = 0; i < n_ids; i++) {
        int32_t id;
        memcpy(&id, (const char *)l->ids + 4 * i, 4);
        if (id < 0 || id >= l->V)
            return err_set(e, DR_EFORMAT, "the reference logits have id %d; their vocabulary is %d",
                           id, l->V);
    }
    return DR_OK;
}

int logit_file_open(logit_file *l, const char *path, dr_err *e)
{
    os_file f;
    dr_err inner = {0};
    *l = (logit_file){0};
    int rc = os_map(&f, path, e);
    if (rc) return rc;
    rc = logit_file_parse(l, f.p, f.n, &inner);
    if (rc) {
        os_unmap(&f);
        *l = (logit_file){0};
        return err_set(e, rc, "%.200s: %.280s", path, inner.msg);
    }
    l->f = f;
    return DR_OK;
}

void logit_file_close(logit_file *l)
{
    os_unmap(&l->f);
    *l = (logit_file){0};
}

/* Codes and exact values are log-probabilities up to a constant: the one that makes the sum of the
 * probabilities 1. */
static void normalise(const logit_file *l, logit_row *r)
{
    double sum = 0;
    for (int i = 0; i < l->V; i++) sum += exp(r->codes[i] * r->step);
    for (int i = 0; i < r->n_exact; i++)
        sum += exp(-(double)r->exact[i].below) - exp(r->codes[r->exact[i].id] * r->step);
    r->at = -log(sum);
}

static bool exact_ok(const logit_file *l, const logit_exact *x, int n)
{
    for (int i = 0; i < n; i++) {
        float least = i ? x[i - 1].below : 0;
        if (x[i].id < 0 || x[i].id >= l->V || !(x[i].below >= least) || !isfinite(x[i].below))
            return false;
        for (int k = 0; k < i; k++)
            if (x[k].id == x[i].id) return false;
    }
    return x[0].below == 0;
}

int logit_file_row(const logit_file *l, int64_t w, int pos, logit_row *r, dr_err *e)
{
    DR_ASSERT(w >= 0 && w < l->windows && pos >= l->first && pos < l->ctx - 1);
    size_t at = (size_t)w * (size_t)(l->ctx - 1 - l->first) + (size_t)(pos - l->first);
    const uint8_t *p = l->rows + at * l->row_bytes;
    float f[2];
    if (l->peer) {
        memcpy(f, p, 8);
        *r = (logit_row){ .codes = (const uint16_t *)(const void *)(p + 2 * PEER_HEAD),
                          .step = f[0], .at = f[1], .cut = true };
        for (int i = 1; i < l->V; i++)
            if (r->codes[i] > r->codes[r->top]) r->top = i;
        r->next = r->at + r->step * r->codes[l->ids[w * l->ctx + pos + 1]];
        /* the least log-probability, and 16 nats at most up to the largest, which is not above 0 */
        if (f[0] >= 0 && f[0] <= 1e-3f && f[1] <= 0 && isfinite(f[1]) && r->at + 65535 * r->step < 1e-3)
            return DR_OK;
        return err_set(e, DR_EFORMAT, "the reference logits at window %lld, position %d are no "
                       "log-probabilities", (long long)w, pos);
    }
    uint64_t sum;
    memcpy(&sum, p, 8);
    if (sum != fnv(p + 8, l->row_bytes - 8))
        return err_set(e, DR_EFORMAT, "the reference logits are damaged at window %lld, position "
                       "%d: the checksum is wrong", (long long)w, pos);
    uint32_t n;
    memcpy(&r->next, p + 8, 8);
    memcpy(f, p + 16, 4);
    memcpy(&n, p + 20, 4);
    const logit_exact *x = (const logit_exact *)(const void *)(p + ROW_HEAD);
    *r = (logit_row){ .next = r->next, .exact = x, .n_exact = exact_of(l->V), .top = x[0].id,
                      .step = -(double)f[0],
                      .codes = (const uint16_t *)(const void *)(x + exact_of(l->V)) };
    if (!isfinite(r->next) || r->next > 0 || !(f[0] >= 0 && f[0] <= 1) || n != (uint32_t)r->n_exact ||
        !exact_ok(l, x, r->n_exact))
        return err_set(e, DR_EFORMAT, "the reference logits at window %lld, position %d are no "
                       "log-probabilities", (long long)w, pos);
    normalise(l, r);
    return DR_OK;
}

/* ---- writing */

int logit_begin(logit_writer *w, const char *path, int V, int ctx, int64_t windows,
                const int32_t *ids, dr_err *e)
{
    *w = (logit_writer){ .V = V, .n_exact = exact_of(V), .row_bytes = row_size(V) };
    int rc = os_out_open(&w->out, path, e);
    if (rc) return rc;
    uint8_t head[24];
    uint32_t v[2] = { (uint32_t)V, (uint32_t)ctx };
    uint64_t n = (uint64_t)windows, zero = 0;
    size_t bytes = 4 * (size_t)windows * (size_t)ctx;
    memcpy(head, magic, 8);
    memcpy(head + 8, v, 8);
    memcpy(head + 16, &n, 8);
    rc = os_out_put(&w->out, head, sizeof head, e);
    if (!rc) rc = os_out_put(&w->out, ids, bytes, e);
    if (!rc) rc = os_out_put(&w->out, &zero, up8(bytes) - bytes, e);
    return rc;
}

/* The n likeliest, in order; the first of equals first. */
static void likeliest(logit_exact *x, int n, const float *logits, int V)
{
    int have = 0;
    for (int32_t i = 0; i < V; i++) {
        if (have == n && logits[i] <= logits[x[n - 1].id]) continue;
        int at = have < n ? have++ : n - 1;
        for (; at > 0 && logits[i] > logits[x[at - 1].id]; at--) x[at].id = x[at - 1].id;
        x[at].id = i;
    }
    for (int i = n - 1; i >= 0; i--)
        x[i].below = (float)((double)logits[x[0].id] - (double)logits[x[i].id]);
}

double logit_encode(const logit_writer *w, const float *x, int32_t next, void *dst)
{
    uint8_t *p = dst;
    logit_exact *best = (logit_exact *)(void *)(p + ROW_HEAD);
    uint16_t *code = (uint16_t *)(void *)(best + w->n_exact);
    likeliest(best, w->n_exact, x, w->V);
    double top = x[best[0].id], low = top, lp = log_prob(x, w->V, next);
    for (int32_t i = 0; i < w->V; i++)
        if ((double)x[i] < low) low = x[i];
    float step = (float)((top - low) / 65535);
    double per = step > 0 ? 1 / (double)step : 0;
    for (int32_t i = 0; i < w->V; i++) {
        double c = (top - (double)x[i]) * per + 0.5;
        code[i] = c < 65535 ? (uint16_t)c : 65535;
    }
    uint8_t *end = (uint8_t *)(code + w->V);
    uint32_t n = (uint32_t)w->n_exact;
    memset(end, 0, (size_t)(p + w->row_bytes - end));
    memcpy(p + 8, &lp, 8);
    memcpy(p + 16, &step, 4);
    memcpy(p + 20, &n, 4);
    uint64_t check = fnv(p + 8, w->row_bytes - 8);
    memcpy(p, &check, 8);
    return lp;
}

int logit_put(logit_writer *w, const void *rows, int n, dr_err *e)
{
    return os_out_put(&w->out, rows, (size_t)n * w->row_bytes, e);
}

int logit_end(logit_writer *w, dr_err *e) { return os_out_keep(&w->out, e); }
void logit_drop(logit_writer *w) { os_out_drop(&w->out); }
