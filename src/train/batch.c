/* batch.c - see batch.h. */
#include "train/batch.h"
#include <inttypes.h>
#include <math.h>

static int check_docs(const batch *b, int max_len, dr_err *e)
{
    if (b->n < 1 || b->n_docs < 1 || b->n_docs > b->n)
        return err_set(e, DR_EINVAL, "a batch of %d tokens in %d documents", b->n, b->n_docs);
    if (b->doc_start[0] != 0 || b->doc_start[b->n_docs] != b->n)
        return err_set(e, DR_EINVAL, "the documents cover tokens %" PRId32 " to %" PRId32 ", not 0 to "
                       "%d", b->doc_start[0], b->doc_start[b->n_docs], b->n);
    for (int d = 0; d < b->n_docs; d++) {
        int32_t from = b->doc_start[d], to = b->doc_start[d + 1];
        if (from >= to || to > b->n)
            return err_set(e, DR_EINVAL, "document %d has tokens %" PRId32 " to %" PRId32 " of %d", d,
                           from, to, b->n);
        if (b->parent && (b->parent[d] < -1 || b->parent[d] >= d))
            return err_set(e, DR_EINVAL, "document %d goes on from document %" PRId32 ", which is not "
                           "before it", d, b->parent[d]);
        int64_t len = 0;
        for (int p = d; p >= 0 && len <= max_len; p = b->parent ? b->parent[p] : -1)
            len += b->doc_start[p + 1] - b->doc_start[p];
        if (len > max_len)
            return err_set(e, DR_EINVAL, "document %d reaches position %" PRId64 ", %d is the most", d,
                           len, max_len);
    }
    return DR_OK;
}

int batch_check(const batch *b, int32_t vocab, int max_len, dr_err *e)
{
    int rc = check_docs(b, max_len, e);
    for (int i = 0; i < b->n && !rc; i++) {
        if (b->tok[i] < 0 || b->tok[i] >= vocab)
            rc = err_set(e, DR_EINVAL, "token %d is id %" PRId32 ", the vocabulary has %" PRId32, i,
                         b->tok[i], vocab);
        else if (b->target[i] < -1 || b->target[i] >= vocab)
            rc = err_set(e, DR_EINVAL, "the target of token %d is id %" PRId32 ", the vocabulary has %"
                         PRId32, i, b->target[i], vocab);
        else if (b->weight && !(b->weight[i] >= 0 && isfinite(b->weight[i])))
            rc = err_set(e, DR_EINVAL, "the loss of token %d has weight %g", i, (double)b->weight[i]);
    }
    return rc;
}

double batch_weight(const batch *b)
{
    double sum = 0;
    for (int i = 0; i < b->n; i++)
        if (b->target[i] >= 0) sum += b->weight ? (double)b->weight[i] : 1;
    return sum;
}
