/* store_print.c - what a page of keys and values was made with, as a fingerprint: of pages of two models,
 * or of two ways to compute, none is taken for the other's. Of each tensor samples are read, not
 * all: a model that was trained or quantised otherwise differs in nearly every byte. */
#include <string.h>
#include "base/hash.h"
#include "drover.h"
#include "engine/store.h"

enum { SAMPLE = 4096 };

typedef struct { hash h; int rc; dr_err *e; } print;

static void put(print *p, const void *b, size_t n)
{
    if (!p->rc) p->rc = hash_put(&p->h, b, n, p->e);
}

static void number(print *p, double v) { put(p, &v, sizeof v); }

/* The first, middle and last bytes of some memory. */
static void samples(print *p, const void *bytes, size_t n)
{
    const uint8_t *b = bytes;
    size_t k = n < SAMPLE ? n : SAMPLE;
    number(p, (double)n);
    if (!b) return;
    put(p, b, k);
    put(p, b + (n - k) / 2, k);
    put(p, b + (n - k), k);
}

int store_fingerprint(const model *m, kv_type t, char hex[STORE_PRINT], dr_err *e)
{
    _Static_assert((int)STORE_PRINT == (int)HASH_HEX, "a SHA-256 in hexadecimal");
    if (!m->ts) return err_set(e, DR_EUNSUPPORTED, "prefixes of a model in memory are not kept on disk");
    print p = { .e = e };
    p.rc = hash_begin(&p.h, HASH_SHA256, e);
    const char *words[] = { "drover prefix 1", dr_version(), m->d->name, m->d->level, m->h.family };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) put(&p, words[i], strlen(words[i]) + 1);
    const hparams *h = &m->h;
    const double n[] = { t, KV_PAGE, h->V, h->C, h->L, h->nkv, h->nh, h->hs, h->F, (double)h->eps, h->window,
                         h->adjacent, h->rope.kind, h->rope.theta, h->rope.factor, h->rope.low, h->rope.high,
                         h->rope.orig_ctx };
    put(&p, n, sizeof n);
    for (int64_t i = 0; i < tensors_count(m->ts); i++) {
        const tensor *x = tensors_at(m->ts, i);
        put(&p, x->name.p, x->name.n);
        number(&p, x->type);
        put(&p, x->dim, (size_t)x->n_dims * sizeof *x->dim);
        samples(&p, x->data, x->bytes);
    }
    for (const lora *l = m->adapters; l; l = l->next)
        for (int i = 0; i < n_weights * l->L; i++) {
            const lora_mat *w = &l->mat[i];
            if (!w->a.data) continue;
            number(&p, i);
            samples(&p, w->a.data, (size_t)w->a.rows * (size_t)w->a.K * sizeof(float));
            samples(&p, w->b.data, (size_t)w->b.rows * (size_t)w->b.K * sizeof(float));
        }
    if (!p.rc) p.rc = hash_end(&p.h, hex, e);
    hash_drop(&p.h);
    return p.rc;
}
