/* run_plan.c - what a run will cost, known before anything is taken. */
#include <string.h>
#include "base/mem.h"
#include "pack/synth.h"
#include "train/run_priv.h"

int run_shape(hparams *h, const char *shape, dr_err *e)
{
    synth_shape s;
    int rc = synth_shape_read(&s, shape, e);
    if (rc != DR_OK) return rc;
    *h = (hparams){ .family = "llama", .V = (int)s.V, .C = (int)s.C, .L = (int)s.L,
                    .nh = (int)s.nh, .nkv = (int)s.nkv, .hs = (int)s.hs, .F = (int)s.F,
                    .n_ctx = (int)s.ctx, .eps = (float)s.eps, .window = (int)s.window,
                    .tied = s.tied };
    h->rope = (rope_spec){ .kind = s.factor > 0 ? ROPE_LLAMA3 : s.linear > 0 ? ROPE_LINEAR : ROPE_PLAIN,
                           .theta = s.theta, .factor = s.factor > 0 ? s.factor : s.linear,
                           .low = s.low, .high = s.high, .orig_ctx = s.orig_ctx };
    return DR_OK;
}

/* Tokens of a micro-batch in a phase, whole rows. */
int run_micro_rows(const recipe *r, int seq, int64_t batch_tokens, int n_ranks)
{
    int64_t share = batch_tokens / n_ranks, want = r->micro_tokens;
    if (!want) want = share < 4096 ? share : 4096;
    int64_t rows = want / seq, most = batch_tokens / seq;
    return (int)(rows < 1 ? 1 : rows > most ? most : rows);
}

static int sizes(run_plan *pl, const recipe *r, const sched *s, const hparams *h, int n_ranks)
{
    int max_seq = r->eval.path ? r->eval.seq : 0;
    int64_t n_rows = max_seq;
    for (int i = 0; i < s->n; i++) {
        const sched_phase *p = &s->p[i];
        int rows = run_micro_rows(r, p->seq, p->batch_tokens, n_ranks);
        int64_t share = (p->batch_tokens / p->seq + n_ranks - 1) / n_ranks;
        if ((int64_t)rows * p->seq > n_rows) n_rows = (int64_t)rows * p->seq;
        if (p->seq > max_seq) max_seq = p->seq;
        if ((share + rows - 1) / rows > pl->micro) pl->micro = (share + rows - 1) / rows;
        double tokens = (double)(s->tok0[i + 1] - s->tok0[i]);
        pl->flops += tokens * net_flops_per_token(h, p->seq, true);
        pl->flops_full += tokens * net_flops_per_token(h, p->seq, false);
    }
    /* a document for each four positions: more are possible, and are then refused */
    pl->net_opt = (net_opt){ .n_rows = (int)n_rows, .max_docs = (int)(n_rows / 4 + 1),
                             .max_len = max_seq, .recompute = r->recompute };
    return max_seq;
}

int run_plan_make(run_plan *pl, const recipe *r, const hparams *h, dev *d, int n_ranks, dr_err *e)
{
    *pl = (run_plan){0};
    sched *s = mem_alloc(sizeof *s);
    int64_t *cut = mem_alloc((size_t)(n_ranks + 1) * sizeof *cut);
    optim_tensor *t = NULL;
    optim_opt oo;
    params *p = NULL;
    int rc = s && cut ? recipe_sched(r, s, e) : err_nomem(e, sizeof *s, "schedule");
    if (rc == DR_OK) rc = recipe_optim(r, &oo, e);
    if (rc == DR_OK && !(p = params_new(h, r->precision == PRECISION_BF16 ? DT_BF16 : DT_F32, e)))
        rc = e ? e->code : DR_ENOMEM;
    if (rc == DR_OK && !(t = mem_alloc((size_t)p->n * sizeof *t)))
        rc = err_nomem(e, (size_t)p->n * sizeof *t, "table of weights");
    if (rc == DR_OK) {
        dr_err why = {0};
        int max_seq = sizes(pl, r, s, h, n_ranks);
        optim_table(p, t);
        optim_cuts(&oo, t, p->n, n_ranks, cut);
        pl->steps = sched_steps(s), pl->tokens = sched_tokens(s);
        pl->weights = p->n_weights;
        pl->params = params_bytes(p, true);
        for (int i = 0; i < n_ranks; i++) {      /* of the rank that has most */
            size_t b = optim_bytes(&oo, t, p->n, cut[i], cut[i + 1], d);
            if (b > pl->optim) pl->optim = b;
        }
        rc = net_plan_make(&pl->net, p, d, &pl->net_opt, &why);
        if (rc != DR_OK && max_seq > h->n_ctx) {
            char at[256];
            recipe_where(r, "phases", at, sizeof at);
            rc = err_set(e, rc, "%s: %s", at, why.msg);
        } else if (rc != DR_OK) {
            rc = err_set(e, rc, "%s", why.msg);
        }
        pl->acts = pl->net.total;
        pl->total = pl->params + pl->optim + pl->acts;
    }
    params_free(p);
    mem_free(t);
    mem_free(cut);
    mem_free(s);
    return rc;
}
