/* plan.c - see plan.h. */
#include "model/plan.h"

void plan_make(plan *p, const model *m, const plan_opt *o)
{
    const hparams *h = &m->h;
    *p = (plan){0};
    p->mapped = m->ts ? tensors_mapped_bytes(m->ts) : 0;
    p->weights = weights_bytes(&m->w, h, &p->per_token);
    p->kv = (size_t)o->n_seqs * kv_bytes(o->kv, h->L, h->nkv, h->hs, o->n_ctx);
    p->workspace = workspace_bytes(m, o->n_rows, o->n_out, o->n_ctx);
    p->scratch = m->d->reserve_bytes(m->d, o->n_rows, model_widest(m), h->nh, h->hs, o->n_ctx);
    p->gathered = !m->ts ? 0 : !m->copy.bytes ? tensors_gather_bytes(m->ts) : m->copy.mem ? 0 : m->copy.bytes;
    p->adapters = model_lora_bytes(m);
    p->private_total = p->kv + p->workspace + p->scratch + p->gathered + p->adapters + m->w.mem.cap;
}

int plan_fits(const plan *p, size_t free, dr_err *e)
{
    if (!free || p->private_total <= free) return DR_OK;
    return err_set(e, DR_ENOMEM, "%.1f MiB are needed (%.1f of them keys and values), %.1f MiB are "
                   "free: %.1f MiB are missing; a shorter context needs less",
                   (double)p->private_total / 0x1p20, (double)p->kv / 0x1p20,
                   (double)free / 0x1p20, (double)(p->private_total - free) / 0x1p20);
}

int plan_max_ctx(const model *m, plan_opt o, size_t free)
{
    int lo = 0, hi = m->h.n_ctx;
    while (lo < hi) {
        plan p;
        o.n_ctx = lo + (hi - lo + 1) / 2;
        plan_make(&p, m, &o);
        if (p.private_total <= free) lo = o.n_ctx;
        else hi = o.n_ctx - 1;
    }
    return lo;
}
