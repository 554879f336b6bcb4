/* bench_reply.c - see bench_reply.h. */
#include "eval/bench_reply.h"
#include <string.h>
#include "gen/generate.h"

/* One continuation; what was learned about steps and guesses is thrown away with it. */
static int once(session *s, const tokenizer *t, const int32_t *tok, int n, const bench_reply_opt *o,
                const spec_opt *so, gen_result *g, dr_err *e)
{
    gen_opt go = { .sample = sample_opt_default(), .max_tokens = o->n_gen, .ignore_eos = true };
    go.sample.temperature = 0;
    *g = (gen_result){0};
    if (so && !(go.spec = spec_new(so, session_model(s), session_ctx(s), e)))
        return e ? e->code : DR_ENOMEM;
    int rc = gen_run(s, t, tok, n, &go, g, e);
    spec_free(go.spec);
    return rc;
}

int bench_reply(const model *m, const tokenizer *t, const int32_t *tok, int n,
                const bench_reply_opt *o, bench_reply_result *r, dr_err *e)
{
    spec_opt so = { o->draft ? SPEC_DRAFT : SPEC_NGRAM, 0, 0, o->draft };
    session_opt sn = { .n_ctx = n + o->n_gen, .n_logits = spec_rows(&so), .kv_set = true, .kv = o->kv };
    double gain[BENCH_MAX];
    *r = (bench_reply_result){ .prompt = n, .tokens = o->n_gen };
    session *s = session_new(m, &sn, e);
    if (!s) return e ? e->code : DR_ENOMEM;
    int rc = DR_OK;
    for (int k = 0; k < o->reps && !rc; k++) {
        gen_result g[2] = { { 0 }, { 0 } };
        /* who goes first changes */
        for (int i = 0; i < 2 && !rc; i++) {
            int which = (i + k) % 2;
            rc = once(s, t, tok, n, o, which ? &so : NULL, &g[which], e);
        }
        size_t bytes = (size_t)g[0].tokens.n * sizeof(int32_t);
        if (!rc && (g[0].tokens.n != g[1].tokens.n || memcmp(g[0].tokens.p, g[1].tokens.p, bytes)))
            rc = err_set(e, DR_EINVAL, "the text goes on otherwise with guesses: this is an error of "
                         "the program");
        if (!rc) {
            r->plain[k] = g[0].n_gen / g[0].gen_s, r->ahead[k] = g[1].n_gen / g[1].gen_s;
            gain[k] = r->ahead[k] / r->plain[k];
            r->drafted += g[1].n_drafted, r->accepted += g[1].n_accepted;
        }
        gen_result_free(&g[0]);
        gen_result_free(&g[1]);
    }
    session_free(s);
    if (!rc) r->gain = bench_median(gain, o->reps);
    return rc;
}
