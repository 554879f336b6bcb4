/* verify.c - see verify.h. Each check is a function of the same shape, in a table. */
#include "eval/verify.h"
#include <math.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "base/buf.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/os.h"
#include "base/pool.h"
#include "eval/ppl.h"
#include "eval/verify_data.h"
#include "format/dequant.h"
#include "format/json.h"
#include "model/rope.h"
#include "text/chat.h"

typedef struct {
    model *m;
    const tokenizer *t;
    const char *tok_why;
    int n_threads;
    ids text;                       /* ids of the built-in text */
    double *lp;                     /* log p of ids 1.. by this model; NULL: not yet */
    dr_err *e;
} job;

static void say(verify_line *l, verify_status s, const char *fmt, ...) DR_PRINTF(3, 4);
static void say(verify_line *l, verify_status s, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(l->text, sizeof l->text, fmt, ap);
    va_end(ap);
    l->status = s;
}

/* ---- tensors ---- */

static int check_shapes(job *j, verify_line *l)
{
    const hparams *h = &j->m->h;
    say(l, VERIFY_OK, "%lld tensors; %d layers, width %d, %d query and %d key/value heads of %d, "
        "feed-forward %d, vocabulary %d%s", (long long)tensors_count(j->m->ts), h->L, h->C, h->nh,
        h->nkv, h->hs, h->F, h->V, h->tied ? ", head tied" : "");
    return DR_OK;
}

typedef struct {
    const tensors *ts;
    int64_t cols;
    float *row[1024];
    atomic_llong bad, bad_tensor, values;
} scan;

static void scan_tensor(void *arg, int i, int thread)
{
    scan *s = arg;
    const tensor *t = tensors_at(s->ts, i);
    if (!type_get(t->type) || !t->data || t->n_dims < 1) return;
    int64_t K = t->dim[t->n_dims - 1], rows = 1;
    for (int d = 0; d < t->n_dims - 1; d++) rows *= t->dim[d];
    size_t bytes = type_row_bytes(t->type, K);
    for (int64_t r = 0; r < rows; r++) {
        float *y = s->row[thread], sum = 0;
        dequant_row(t->type, t->data + (size_t)r * bytes, y, K);
        for (int64_t k = 0; k < K; k++) sum += y[k] * 0;      // NaN once anything is not finite
        if (sum != 0) {
            atomic_fetch_add(&s->bad, 1);
            atomic_store(&s->bad_tensor, i);
        }
    }
    atomic_fetch_add(&s->values, rows * K);
}

static int check_values(job *j, verify_line *l)
{
    scan *s = mem_zalloc(1, sizeof *s);
    pool *p = pool_new(j->n_threads, j->e);
    int rc = s && p ? DR_OK : err_nomem(j->e, sizeof *s, "scan");
    if (!rc) {
        s->ts = j->m->ts;
        for (int64_t i = 0; i < tensors_count(s->ts); i++) {
            const tensor *t = tensors_at(s->ts, i);
            if (t->n_dims && t->dim[t->n_dims - 1] > s->cols) s->cols = t->dim[t->n_dims - 1];
        }
        for (int i = 0; i < pool_threads(p) && !rc; i++) {
            s->row[i] = mem_alloc((size_t)s->cols * sizeof(float));
            if (!s->row[i]) rc = err_nomem(j->e, (size_t)s->cols * sizeof(float), "a row");
        }
    }
    if (!rc) {
        pool_run(p, (int)tensors_count(s->ts), scan_tensor, s);
        long long bad = atomic_load(&s->bad);
        if (bad) {
            const tensor *t = tensors_at(s->ts, atomic_load(&s->bad_tensor));
            say(l, VERIFY_FAIL, "%lld rows hold NaN or infinity, among them rows of " SPAN_FMT, bad,
                SPAN_ARG(t->name));
        } else {
            say(l, VERIFY_OK, "%lld values, all finite", atomic_load(&s->values));
        }
    }
    for (int i = 0; s && p && i < pool_threads(p); i++) mem_free(s->row[i]);
    pool_free(p);
    mem_free(s);
    return rc;
}

/* The table against the published formula in double precision. */
static int check_rope(job *j, verify_line *l)
{
    const hparams *h = &j->m->h;
    const rope_spec *r = &h->rope;
    float inv[HP_MAX_HEAD / 2];
    rope_inv_freq(inv, r, h->hs);
    double worst = 0;
    for (int i = 0; i < h->hs / 2; i++) {
        double f = pow(r->theta, -2.0 * i / h->hs), len = TWO_PI / f;
        if (r->kind == ROPE_LINEAR) f /= r->factor;
        if (r->kind == ROPE_FACTORS) f /= (double)r->divisor[i];
        if (r->kind == ROPE_LLAMA3 && len > r->orig_ctx / r->low) {
            f /= r->factor;
        } else if (r->kind == ROPE_LLAMA3 && len > r->orig_ctx / r->high) {
            double s = (r->orig_ctx / len - r->low) / (r->high - r->low);
            f = (1 - s) * f / r->factor + s * f;
        }
        worst = fmax(worst, fabs((double)inv[i] / f - 1));
    }
    static const char *const kind[] = { "no scaling", "llama3 scaling", "linear scaling",
                                        "the file's own divisors" };
    bool late = r->kind == ROPE_PLAIN && h->V == 128256 && h->n_ctx > 8192;
    say(l, worst < 1e-5 && !late ? VERIFY_OK : VERIFY_FAIL,
        "theta %g, %s%s; off from the formula by %.1e at most", r->theta, kind[r->kind],
        late ? ", which a Llama of this context needs" : "", worst);
    if (j->m->warnings.n && strstr(buf_str(&j->m->warnings), "rope_freqs"))
        say(l, VERIFY_FAIL, "the file lacks its rope_freqs tensor; the official scaling is "
            "used in its place");
    return DR_OK;
}

/* ---- tokenizer ---- */

static int hash_ids(const job *j, char hex[HASH_HEX], int *round_trip)
{
    hash h = {0};
    int rc = hash_begin(&h, HASH_SHA256, j->e);
    *round_trip = 0;
    buf back;
    buf_init(&back, 1 << 16);
    for (int i = 0; i < VERIFY_STRINGS && !rc; i++) {
        ids v = {0};
        span s = { verify_strings[i].p, (size_t)verify_strings[i].n };
        rc = tok_encode(j->t, s, 0, &v, j->e);
        int32_t n = (int32_t)v.n;
        if (!rc) rc = hash_put(&h, &n, sizeof n, j->e);
        if (!rc && v.n) rc = hash_put(&h, v.p, (size_t)v.n * sizeof *v.p, j->e);
        buf_reset(&back);
        if (!rc) rc = tok_decode(j->t, v.p, v.n, false, &back, j->e);
        *round_trip += !rc && span_eq(buf_span(&back), s);
        ids_free(&v);
    }
    buf_free(&back);
    if (rc) hash_drop(&h);
    else rc = hash_end(&h, hex, j->e);
    return rc;
}

static int check_tokenizer(job *j, verify_line *l)
{
    if (!j->t) {
        say(l, VERIFY_FAIL, "%s", j->tok_why);
        return DR_OK;
    }
    if (tok_count(j->t) > j->m->h.V) {
        say(l, VERIFY_FAIL, "%d tokens for a vocabulary of %d", tok_count(j->t), j->m->h.V);
        return DR_OK;
    }
    char hex[HASH_HEX];
    int back, rc = hash_ids(j, hex, &back);
    if (rc) return rc;
    const verify_vocab *v = verify_vocabs;
    while (v->name && strcmp(v->ids_sha256, hex)) v++;
    if (v->name)
        say(l, VERIFY_OK, "%s: the ids of %d strings are those of the reference for %s (%.12s)",
            tok_kind(j->t), VERIFY_STRINGS, v->name, hex);
    else if (back == VERIFY_STRINGS)
        say(l, VERIFY_OK, "%s: %d strings come back whole; no reference ids for this vocabulary "
            "(%.12s)", tok_kind(j->t), VERIFY_STRINGS, hex);
    else
        say(l, VERIFY_FAIL, "%s: only %d of %d strings come back whole (%.12s)", tok_kind(j->t),
            back, VERIFY_STRINGS, hex);
    return DR_OK;
}

static int check_template(job *j, verify_line *l)
{
    chat_kind k;
    dr_err why = {0};
    if (!j->t) say(l, VERIFY_SKIP, "no tokenizer");
    else if (!tok_chat_template(j->t).n) say(l, VERIFY_SKIP, "the file has no chat template");
    else if (chat_detect(j->t, &k, &why)) say(l, VERIFY_FAIL, "%s", why.msg);
    else say(l, VERIFY_OK, "%s", chat_name(k));
    return DR_OK;
}

/* ---- the model at work ---- */

typedef struct { const int32_t *id; int n, V; double *lp; } collect;

static int collect_rows(void *arg, int first, int rows, const float *logits, dr_err *e)
{
    (void)e;
    collect *c = arg;
    for (int i = 0; i < rows && first + i + 1 < c->n; i++)
        c->lp[first + i] = log_prob(logits + (size_t)i * (size_t)c->V, c->V, c->id[first + i + 1]);
    return DR_OK;
}

/* (n-1,) log p of ids 1..; by mem_alloc. */
static int log_probs(const model *m, const int32_t *id, int n, double **lp, dr_err *e)
{
    *lp = NULL;
    session_opt o = { .n_ctx = n, .kv_set = true, .kv = KV_F32 };
    session *s = session_new(m, &o, e);
    if (!s) return e->code;
    collect c = { id, n, m->h.V, mem_zalloc((size_t)n, sizeof *c.lp) };
    int rc = c.lp ? session_all_logits(s, id, n, collect_rows, &c, e)
                  : err_nomem(e, (size_t)n * sizeof *c.lp, "log-probabilities");
    session_free(s);
    if (rc) mem_free(c.lp);
    else *lp = c.lp;
    return rc;
}

static double ppl_of(const double *lp, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum -= lp[i];
    return exp(sum / n);
}

static int own_log_probs(job *j)
{
    if (j->lp) return DR_OK;
    int rc = tok_encode(j->t, span_of(verify_text), 0, &j->text, j->e);
    return rc ? rc : log_probs(j->m, j->text.p, (int)j->text.n, &j->lp, j->e);
}

/* Read with the other order of q and k rows, a right file must get much worse. */
static int check_order(job *j, verify_line *l)
{
    if (!j->t) {
        say(l, VERIFY_SKIP, "no tokenizer");
        return DR_OK;
    }
    int rc = own_log_probs(j), n = (int)j->text.n - 1;
    if (rc) return rc;
    model other = *j->m;
    other.h.adjacent = !other.h.adjacent;
    double *lp;
    if ((rc = log_probs(&other, j->text.p, n + 1, &lp, j->e))) return rc;
    double a = ppl_of(j->lp, n), b = ppl_of(lp, n);
    mem_free(lp);
    verify_status s = a < b ? VERIFY_OK : VERIFY_FAIL;
    if (!(a < 1000) && a / b < 1.2 && b / a < 1.2)
        say(l, VERIFY_SKIP, "perplexity %.4g as read, %.4g otherwise: not a trained model", a, b);
    else
        say(l, s, "perplexity of the built-in text %.4g as read, %.4g in the other order", a, b);
    return DR_OK;
}

static void compare(verify_line *l, const double *lp, const double *want, int n, const char *what)
{
    double sum = 0, worst = 0;
    for (int i = 0; i < n; i++) {
        double d = fabs(lp[i] - want[i]);
        sum += d;
        if (!(d <= worst)) worst = d;
    }
    bool ok = sum / n <= VERIFY_MEAN;
    say(l, ok ? VERIFY_OK : VERIFY_FAIL, "%d log-probabilities differ from %s by %.4f nats on "
        "average, %.3f at most (%.2f is allowed on average)", n, what, sum / n, worst, VERIFY_MEAN);
}

static int check_vectors(job *j, verify_line *l)
{
    const hparams *h = &j->m->h;
    bool smol = h->C == 576 && h->L == 30 && h->V == 49152;
    if (!j->t || !smol) {
        say(l, VERIFY_SKIP, "no built-in vectors for this model (--make writes them from one you "
            "trust, --against holds another against them)");
        return DR_OK;
    }
    int rc = own_log_probs(j);
    if (rc) return rc;
    if (j->text.n - 1 != verify_smollm2_n) {
        say(l, VERIFY_FAIL, "the built-in text has %lld ids where the reference has %d",
            (long long)j->text.n, verify_smollm2_n + 1);
        return DR_OK;
    }
    double want[4096];
    DR_ASSERT(verify_smollm2_n <= 4096);
    for (int i = 0; i < verify_smollm2_n; i++) want[i] = (double)verify_smollm2[i];
    compare(l, j->lp, want, verify_smollm2_n, "transformers' for SmolLM2-135M-Instruct");
    return DR_OK;
}

static const struct { const char *name; int (*fn)(job *, verify_line *); } checks[] = {
    { "tensors", check_shapes },   { "values", check_values },     { "rope", check_rope },
    { "tokenizer", check_tokenizer }, { "template", check_template },
    { "q/k order", check_order },  { "vectors", check_vectors },
};

int verify_run(model *m, const tokenizer *t, const char *tok_why, int n_threads, verify_fn *fn,
               void *arg, int *n_failed, dr_err *e)
{
    job j = { .m = m, .t = t, .tok_why = tok_why, .n_threads = n_threads, .e = e };
    int rc = DR_OK;
    *n_failed = 0;
    for (size_t i = 0; i < sizeof checks / sizeof *checks && !rc; i++) {
        verify_line l = { .check = checks[i].name };
        rc = checks[i].fn(&j, &l);
        if (rc) break;
        *n_failed += l.status == VERIFY_FAIL;
        fn(arg, &l);
    }
    ids_free(&j.text);
    mem_free(j.lp);
    return rc;
}

static int to_buf(const char *p, size_t n, void *arg) { buf_put(arg, p, n); return 0; }

int verify_make(model *m, const tokenizer *t, const char *path, dr_err *e)
{
    job j = { .m = m, .t = t, .e = e };
    int rc = own_log_probs(&j);
    json_t *o = NULL;
    if (!rc) {
        o = json_pack("{s:s, s:[], s:[]}", "format", "drover-vectors-1", "ids", "logprobs");
        for (int64_t i = 0; o && i < j.text.n; i++)
            json_array_append_new(json_object_get(o, "ids"), json_integer(j.text.p[i]));
        for (int64_t i = 0; o && i + 1 < j.text.n; i++)
            json_array_append_new(json_object_get(o, "logprobs"), json_real(j.lp[i]));
        buf s = { .cap_max = 1 << 24 };
        if (o && json_dump_callback(o, to_buf, &s, JSON_COMPACT | JSON_REAL_PRECISION(9))) s.bad = true;
        rc = o && !s.bad ? os_write(path, s.p, s.n, e) : err_nomem(e, 1, "vectors");
        buf_free(&s);
    }
    json_decref(o);
    ids_free(&j.text);
    mem_free(j.lp);
    return rc;
}

int verify_against(model *m, const tokenizer *t, const char *path, verify_line *l, dr_err *e)
{
    (void)t;
    *l = (verify_line){ .check = "vectors" };
    buf b;
    buf_init(&b, 1 << 24);
    int rc = os_read(&b, path, e);
    json_t *o = rc ? NULL : json_read(buf_str(&b), b.n, (size_t)1 << 28, path, e);
    if (!rc && !o) rc = e->code;
    json_t *ji = json_object_get(o, "ids"), *jl = json_object_get(o, "logprobs");
    size_t n = json_array_size(ji);
    if (!rc && (n < 2 || n > 1 << 20 || json_array_size(jl) != n - 1))
        rc = err_set(e, DR_EFORMAT, "%s is not a file that drover verify --make wrote", path);
    int32_t *id = rc ? NULL : mem_alloc(n * sizeof *id);
    double *want = rc ? NULL : mem_alloc(n * sizeof *want), *lp = NULL;
    if (!rc && (!id || !want)) rc = err_nomem(e, n * 8, "vectors");
    for (size_t i = 0; i < n && !rc; i++) {
        json_int_t v = json_integer_value(json_array_get(ji, i));
        if (v < 0 || v >= m->h.V)
            rc = err_set(e, DR_EFORMAT, "%s: id %lld; this model's vocabulary has %d", path,
                         (long long)v, m->h.V);
        id[i] = (int32_t)v;
        want[i] = json_number_value(json_array_get(jl, i));
    }
    if (!rc) rc = log_probs(m, id, (int)n, &lp, e);
    if (!rc) compare(l, lp, want, (int)n - 1, path);
    mem_free(lp);
    mem_free(want);
    mem_free(id);
    json_decref(o);
    buf_free(&b);
    return rc;
}
