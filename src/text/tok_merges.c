/* tok_merges.c - a list of merges on its way into the table. Read in batches: the tables are
 * larger than the near caches, so their lines are asked for before they are needed. */
#include "base/mem.h"
#include "text/tok_priv.h"

int merge_begin(merge_reader *r, tokenizer *t, uint32_t n, size_t max_bytes, bool replace,
                dr_err *e)
{
    *r = (merge_reader){ .t = t, .replace = replace, .text = { .cap_max = max_bytes + 64 } };
    t->m.merged = mem_alloc(n * sizeof *t->m.merged);
    if (!t->m.merged) return err_nomem(e, n * sizeof *t->m.merged, "merges");
    return merges_init(&t->m, n, e);
}

static int resolve(merge_reader *r, dr_err *e)
{
    tokenizer *t = r->t;
    int rc = 0;
    for (int i = 0; i < r->k && rc >= 0; i++, r->first++) {
        const uint8_t *p = (const uint8_t *)r->text.p + r->q[i].at;
        uint32_t left = r->q[i].left, all = r->q[i].all;
        int32_t a = vocab_find_key(&t->v, r->q[i].key[0], p, left);
        int32_t b = vocab_find_key(&t->v, r->q[i].key[1], p + left, all - left);
        int32_t m = vocab_find_key(&t->v, r->q[i].key[2], p, all);
        if (a < 0 || b < 0 || m < 0)
            return err_set(e, DR_EFORMAT, "merge %u joins or makes something that is no token",
                           r->first);
        t->m.merged[r->first] = m;
        rc = merges_add(&t->m, a, b, r->first, r->replace, SIZE_MAX, e);
    }
    r->k = 0;
    buf_reset(&r->text);
    return rc < 0 ? rc : 0;
}

int merge_put(merge_reader *r, span a, span b, dr_err *e)
{
    size_t from = r->text.n, na = a.n, nb = b.n;
    buf_put(&r->text, a.p, a.n);
    buf_put(&r->text, b.p, b.n);
    if (r->text.bad) return err_nomem(e, a.n + b.n, "merges");
    uint8_t *p = (uint8_t *)r->text.p + from;
    bool ok = na && nb;
    if (ok && r->t->bytes) ok = tok_unbyte(a.p, a.n, p, &na) && tok_unbyte(b.p, b.n, p + na, &nb);
    if (!ok) return err_set(e, DR_EFORMAT, "merge %u is not two words", r->first + (uint32_t)r->k);
    r->text.n = from + na + nb;
    merge_key *q = &r->q[r->k++];
    *q = (merge_key){ { vocab_key(p, na), vocab_key(p + na, nb), vocab_key(p, na + nb) },
                      (uint32_t)from, (uint32_t)na, (uint32_t)(na + nb) };
    for (int j = 0; j < 3; j++) {
        __builtin_prefetch(&r->t->v.slot[vocab_first(&r->t->v, q->key[j])]);
    }
    return r->k == MERGE_BATCH ? resolve(r, e) : 0;
}

int merge_end(merge_reader *r, int rc, dr_err *e)
{
    if (!rc) rc = resolve(r, e);
    buf_free(&r->text);
    return rc;
}
