/* session.c - see session.h.
 *
 * Invariants: seq.len == n_tok; has_logits says whether ws.logits row 0 belongs to token
 * n_tok; the cache always holds whole results of tokens [0,n_tok). */
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
    if (d.n_ctx < 1 || d.n_ctx > HP_MAX_CTX) {
        err_set(e, DR_EINVAL, "a context of %d positions was asked for", d.n_ctx);
        return NULL;
    }
    plan p;
    plan_make(&p, m, &(plan_opt){ d.n_ctx, 1, d.n_rows, 1, d.kv });
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
    if (workspace_init(&s->ws, m, d.n_rows, 1, d.n_ctx, e) ||
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
const float *session_logits(const session *s) { return s->has_logits ? s->ws.logits : NULL; }

void session_truncate(session *s, int len)
{
    if (len >= s->n_tok) return;
    kv_truncate(&s->kv, &s->seq, len);
    s->n_tok = s->seq.len;
    s->has_logits = false;
}

static int check_tokens(const session *s, const int32_t *tok, int n, dr_err *e)
{
    for (int i = 0; i < n; i++)
        if (tok[i] < 0 || tok[i] >= s->m->h.V)
            return err_set(e, DR_EINVAL, "token %d at position %d; the vocabulary has %d", tok[i],
                           i, s->m->h.V);
    return DR_OK;
}

/* One step of n <= n_rows tokens; the logits of the last when `last`. */
static int step(session *s, const int32_t *tok, int n, bool last, dr_err *e)
{
    int rc = kv_grow(&s->kv, &s->seq, n, e);
    if (rc) return rc;
    seq_run run = { 0, n, s->n_tok, s->seq.page };
    int32_t out = n - 1;
    model_forward(s->m, &s->ws, &s->kv, tok, n, &run, 1, &out, last ? 1 : 0);
    memcpy(s->tok + s->n_tok, tok, (size_t)n * sizeof *tok);
    kv_advance(&s->seq, n);
    s->n_tok += n;
    s->has_logits = last;
    return DR_OK;
}

int session_append(session *s, const int32_t *tok, int n, const volatile int *stop, dr_err *e)
{
    int rc = check_tokens(s, tok, n, e);
    if (rc) return rc;
    if (n > s->n_ctx - s->n_tok)
        return err_set(e, DR_EINVAL, "%d tokens do not fit: the context has %d positions, %d are "
                       "taken", n, s->n_ctx, s->n_tok);
    for (int at = 0; at < n;) {
        if (stop && *stop) return err_set(e, DR_ECANCEL, "stopped");
        int k = n - at < s->n_rows ? n - at : s->n_rows;
        if ((rc = step(s, tok + at, k, at + k == n, e))) return rc;
        at += k;
    }
    return DR_OK;
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
    if (keep == n && !(n == s->n_tok && s->has_logits)) keep = n - 1;   // need its logits
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
        s->has_logits = false;           // row 0 is not the last row
        if ((rc = fn(arg, at, k, s->ws.logits, e))) return rc;
        at += k;
    }
    return DR_OK;
}
