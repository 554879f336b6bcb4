/* tokdata_cut.c - the first tokens of a byte-level BPE vocabulary, which are one of their own: merges
 * come in order of rank, so those that make the tokens that stay make no others. For small models,
 * whose embedding would otherwise be most of them. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "pack/tokdata_priv.h"

static int by_text(const void *a, const void *b)
{
    const span *x = a, *y = b;
    size_t n = x->n < y->n ? x->n : y->n;
    int c = n ? memcmp(x->p, y->p, n) : 0;
    return c ? c : (x->n > y->n) - (x->n < y->n);
}

/* Are both sides of the merge and what it makes among the n sorted tokens? */
static bool stays(const span *tok, int64_t n, span merge)
{
    char whole[TOKD_LONGEST * 2];
    const char *gap = memchr(merge.p, ' ', merge.n);
    if (!gap || merge.n > sizeof whole) return false;
    size_t a = (size_t)(gap - merge.p), b = merge.n - a - 1;
    memcpy(whole, merge.p, a);
    memcpy(whole + a, gap + 1, b);
    const span part[] = { { merge.p, a }, { gap + 1, b }, { whole, a + b } };
    for (int i = 0; i < 3; i++)
        if (!bsearch(&part[i], tok, (size_t)n, sizeof *tok, by_text)) return false;
    return true;
}

int tokdata_cut(tokdata *m, int64_t V, dr_err *e)
{
    if (m->kind != TOKD_BPE)
        return err_set(e, DR_EUNSUPPORTED, "only a byte-level BPE vocabulary can be cut");
    for (int64_t i = V; i < m->n; i++)
        if (m->tok[i].n && (m->type[i] != TOKD_NORMAL || m->tok[i].n < 2))
            return err_set(e, DR_EINVAL, "the vocabulary cannot be cut to %" PRId64 " tokens: token %"
                           PRId64 ", \"" SPAN_FMT "\", is a control token or a byte", V, i,
                           SPAN_ARG(tokd_text(m, m->tok[i])));
    if (m->n > V) m->n = V;
    m->V = V;
    int64_t n_merges = (int64_t)(m->merges.n / sizeof(tok_place)), kept = 0;
    tok_place *p = (tok_place *)(void *)m->merges.p;
    span *tok = tokd_spans(m, m->tok, m->n, e);
    if (!tok) return DR_ENOMEM;
    qsort(tok, (size_t)m->n, sizeof *tok, by_text);
    for (int64_t i = 0; i < n_merges; i++)
        if (stays(tok, m->n, tokd_text(m, p[i]))) p[kept++] = p[i];
    m->merges.n = (size_t)kept * sizeof *p;
    mem_free(tok);
    /* a tokenizer.model's own bytes have all of its tokens */
    buf_free(&m->raw);
    buf_free(&m->tail);
    return DR_OK;
}
