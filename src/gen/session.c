/* session.c - see session.h.
 *
 * Invariants: seq.len == n_tok; logits_at + n_logits <= n_tok + 1 when n_logits > 0, so rows of
 * logits never belong to tokens that are gone; the cache always holds whole results of tokens [0,n_tok). */
#include "gen/session_priv.h"
#include <string.h>
#include "base/mem.h"
#include "base/os.h"

session *session_new(const model *m, const session_opt *o, dr_err *e)
{
    session_opt d = o ? *o : (session_opt){0};
    const hparams *h = &m->h;
    if (!d.kv_set) d.kv = KV_F16;
    if (!d.n_ctx) d.n_ctx = h->n_ctx < SESSION_CTX_DEFAULT ? h->n_ctx : SESSION_CTX_DEFAULT;
    if (!d.n_rows) d.n_rows = SESSION_ROWS_DEFAULT;
    if (d.n_rows > d.n_ctx) d.n_rows = d.n_ctx;
    if (d.n_logits < 1) d.n_logits = 1;
    if (d.n_logits > SESSION_LOGITS_MAX) d.n_logits = SESSION_LOGITS_MAX;
    if (d.n_logits > d.n_rows) d.n_logits = d.n_rows;
    if (d.n_ctx < 1 || d.n_ctx > HP_MAX_CTX) {
        err_set(e, DR_EINVAL, "a context of %d positions was asked for", d.n_ctx);
        return NULL;
    }
    plan p;
    plan_make(&p, m, &(plan_opt){ d.n_ctx, 1, d.n_rows, d.n_logits, d.kv });
    if (plan_fits(&p, os_free_memory(), e)) return NULL;

    session *s = mem_zalloc(1, sizeof *s);
    if (!s) {
        err_nomem(e, sizeof *s, "session");
        return NULL;
    }
    s->m = m, s->n_ctx = d.n_ctx, s->n_rows = d.n_rows;
    s->tok = mem_alloc((size_t)d.n_ctx * sizeof *s->tok);
    if (!s->tok) {
        err_nomem(e, (size_t)d.n_ctx * sizeof *s->tok, "tokens");
        goto fail;
    }
    if (workspace_init(&s->ws, m, d.n_rows, d.n_logits, d.n_ctx, e) ||
        kv_init(&s->kv, m->d, d.kv, h->L, h->nkv, h->hs, d.n_ctx, e) ||
        kv_seq_init(&s->seq, d.n_ctx, e))
        goto fail;
    return s;
fail:
    session_free(s);
    return NULL;
}

void session_free(session *s)
{
    if (!s) return;
    if (s->kv.base) kv_seq_free(&s->kv, &s->seq);
    kv_free(&s->kv);
    workspace_free(&s->ws);
    mem_free(s->tok);
    mem_free(s);
}

int session_ctx(const session *s) { return s->n_ctx; }
int session_len(const session *s) { return s->n_tok; }
const int32_t *session_tokens(const session *s) { return s->tok; }
const model *session_model(const session *s) { return s->m; }
int session_max_logits(const session *s) { return s->ws.n_out; }
const float *session_logits(const session *s) { return session_logits_at(s, s->n_tok); }

const float *session_logits_at(const session *s, int len)
{
    int i = len - s->logits_at;
    if (i < 0 || i >= s->n_logits) return NULL;
    return s->ws.logits + (size_t)i * (size_t)s->m->h.V;
}

void session_truncate(session *s, int len)
{
    if (len >= s->n_tok) return;
    kv_truncate(&s->kv, &s->seq, len);
    s->n_tok = s->seq.len;
    int left = s->n_tok - s->logits_at + 1;
    if (left < s->n_logits) s->n_logits = left > 0 ? left : 0;
}

static int check_tokens(const session *s, const int32_t *tok, int n, dr_err *e)
{
    for (int i = 0; i < n; i++)
        if (tok[i] < 0 || tok[i] >= s->m->h.V)
            return err_set(e, DR_EINVAL, "token %d at position %d; the vocabulary has %d", tok[i],
                           i, s->m->h.V);
    return DR_OK;
}

/* One step of n <= n_rows tokens; the logits of the last `rows` of them. */
static int step(session *s, const int32_t *tok, int n, int rows, dr_err *e)
{
    int rc = kv_grow(&s->kv, &s->seq, n, e);
    if (rc) return rc;
    seq_run run = { 0, n, s->n_tok, s->seq.page };
    int32_t out[SESSION_LOGITS_MAX];
    for (int i = 0; i < rows; i++) out[i] = n - rows + i;
    model_forward(s->m, &s->ws, &s->kv, tok, n, &run, 1, out, rows);
    memcpy(s->tok + s->n_tok, tok, (size_t)n * sizeof *tok);
    kv_advance(&s->seq, n);
    s->n_tok += n;
    s->n_logits = rows, s->logits_at = s->n_tok - rows + 1;
    return DR_OK;
}

int session_append_rows(session *s, const int32_t *tok, int n, int rows, const volatile int *stop,
                        dr_err *e)
{
    DR_ASSERT(rows <= s->ws.n_out && rows <= SESSION_LOGITS_MAX && (rows <= n || n == 0));
    int rc = check_tokens(s, tok, n, e);
    if (rc) return rc;
    if (n > s->n_ctx - s->n_tok)
        return err_set(e, DR_EINVAL, "%d tokens do not fit: the context has %d positions, %d are "
                       "taken", n, s->n_ctx, s->n_tok);
    for (int at = 0; at < n;) {
        if (stop && *stop) return err_set(e, DR_ECANCEL, "stopped");
        int k = n - at;
        if (k > s->n_rows)          /* the rows that are wanted are all in the last step */
            k = k - s->n_rows < rows ? k - rows : s->n_rows;
        if ((rc = step(s, tok + at, k, at + k == n ? rows : 0, e))) return rc;
        at += k;
    }
    return DR_OK;
}

int session_append(session *s, const int32_t *tok, int n, const volatile int *stop, dr_err *e)
{
    return session_append_rows(s, tok, n, 1, stop, e);
}

int session_sync(session *s, const int32_t *tok, int n, int *reused, const volatile int *stop,
                 dr_err *e)
{
    if (n < 1) return err_set(e, DR_EINVAL, "there is no token to evaluate");
    int rc = check_tokens(s, tok, n, e);
    if (rc) return rc;
    if (n > s->n_ctx)
        return err_set(e, DR_EINVAL, "the prompt has %d tokens, the context %d positions", n,
                       s->n_ctx);
    int keep = 0;
    while (keep < n && keep < s->n_tok && tok[keep] == s->tok[keep]) keep++;
    if (keep == n && !session_logits_at(s, n)) keep = n - 1;   // need its logits
    session_truncate(s, keep);
    if (reused) *reused = keep;
    return keep == n ? DR_OK : session_append(s, tok + keep, n - keep, stop, e);
}

int session_all_logits(session *s, const int32_t *tok, int n,
                       int (*fn)(void *, int, int, const float *, dr_err *), void *arg, dr_err *e)
{
    int rc = check_tokens(s, tok, n, e);
    if (rc) return rc;
    if (n > s->n_ctx - s->n_tok)
        return err_set(e, DR_EINVAL, "%d tokens do not fit: the context has %d positions, %d are "
                       "taken", n, s->n_ctx, s->n_tok);
    int rows = s->n_rows;
    if (s->ws.n_out < rows) {            // a workspace with room for every row's logits
        workspace_free(&s->ws);
        if ((rc = workspace_init(&s->ws, s->m, rows, rows, s->n_ctx, e))) return rc;
    }
    int32_t all[SESSION_ROWS_DEFAULT];
    for (int i = 0; i < SESSION_ROWS_DEFAULT; i++) all[i] = i;
    for (int at = 0; at < n;) {
        int k = n - at < rows ? n - at : rows;
        if (k > SESSION_ROWS_DEFAULT) k = SESSION_ROWS_DEFAULT;
        if ((rc = kv_grow(&s->kv, &s->seq, k, e))) return rc;
        seq_run run = { 0, k, s->n_tok, s->seq.page };
        model_forward(s->m, &s->ws, &s->kv, tok + at, k, &run, 1, all, k);
        memcpy(s->tok + s->n_tok, tok + at, (size_t)k * sizeof *tok);
        kv_advance(&s->seq, k);
        s->n_tok += k;
        s->n_logits = 0;                 // the caller has them
        if ((rc = fn(arg, at, k, s->ws.logits, e))) return rc;
        at += k;
    }
    return DR_OK;
}
