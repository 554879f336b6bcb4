/* batch.c - one step of many sequences: rows in, tokens out.
 *
 * A sequence's row is a token that is known and not evaluated. The logits after the last known token give the
 * next; guesses put behind it are evaluated in the same step and count only where the pick is the guess.
 * Picks are made in parallel, a sequence each; what they mean (text, ends) is worked out in order after. */
#include <math.h>
#include <string.h>
#include "base/os.h"
#include "engine/engine_priv.h"

/* Rows of s whose logits are wanted in this step: the last known token's and guesses', or all of a prompt
 * whose probabilities were asked for. */
static int wanted(const seq *s)
{
    const ticket *t = s->t;
    if (t->req.task != ENGINE_GENERATE) return 0;
    int end = s->turn.len + s->rows - s->n_guess;
    if (t->prompt && s->turn.len < t->req.n_prompt) return s->rows;
    return end == s->turn.known && t->req.max_tokens ? 1 + s->n_guess : 0;
}

/* Memory for the rows of s, and the rows. */
static void put_rows(engine *g, seq *s, int *N, int *n_out, int *n_hid)
{
    int need = kv_grow_pages(&g->kv, &s->kv, s->rows);
    if (need > g->kv.n_free) prefix_evict(g->prefix, need - g->kv.n_free);
    dr_err e = {0};
    int rc = kv_grow(&g->kv, &s->kv, s->rows, &e);
    DR_ASSERT(rc == DR_OK);                     /* turns_step planned with these pages */
    s->out0 = *n_out, s->n_out = wanted(s), s->hid0 = *n_hid;
    for (int i = 0; i < s->n_out; i++) g->out[(*n_out)++] = *N + s->rows - s->n_out + i;
    if (s->t->req.task != ENGINE_GENERATE)
        for (int i = 0; i < s->rows; i++) g->hid[(*n_hid)++] = *N + i;
    memcpy(g->row_tok + *N, s->tok + s->turn.len, (size_t)s->rows * sizeof *s->tok);
    int k = g->n_in;
    g->run[k] = (seq_run){ *N, s->rows, s->turn.len, s->kv.page };
    g->lora[k] = adapters_at(g->adapters, s->t->req.adapter);
    g->in[g->n_in++] = s;
    *N += s->rows;
}

/* Those of the schedule that have rows, sequences of one adapter side by side. */
static int gather(engine *g, int *n_out, int *n_hid)
{
    int N = 0, n = 0;
    seq **order = g->in + g->o.max_running;     /* the upper half */
    for (int i = 0; i < g->turns.n_run; i++) {
        seq *s = g->turns.run[i]->owner;
        if (!s->turn.rows) continue;
        int at = n++;
        for (; at > 0 && order[at - 1]->t->req.adapter > s->t->req.adapter; at--) order[at] = order[at - 1];
        order[at] = s;
    }
    g->n_in = *n_out = *n_hid = 0;
    for (int i = 0; i < n; i++) {
        seq *s = order[i];
        s->rows = s->turn.rows;
        s->n_guess = s->turn.known - s->turn.len > 1 ? 0 : s->rows - 1;
        /* guesses, and a prompt whose probabilities are wanted, take the rows of logits that are left */
        int spare = g->n_out - *n_out - (n - i - 1);
        bool all = s->n_guess || (s->t->prompt && s->turn.len < s->t->req.n_prompt);
        if (all && s->rows > spare) s->rows = spare;
        if (s->n_guess) s->n_guess = s->rows - 1;
        put_rows(g, s, &N, n_out, n_hid);
    }
    return N;
}

/* ---- picks ---- */

static int prompt_probs(engine *g, seq *s, int thread)
{
    ticket *t = s->t;
    size_t V = (size_t)g->m->h.V;
    sample_opt o = sample_opt_default();
    o.logprobs = true, o.n_probs = t->req.prompt_probs;
    sampler_use(g->smp[thread], &o, NULL);
    for (int i = 0; i < s->n_out; i++) {
        int pos = s->turn.len + i + 1;
        sample_result r;
        if (pos >= t->req.n_prompt) break;
        int rc = sampler_report(g->smp[thread], g->ws.logits + (size_t)(s->out0 + i) * V, s->tok[pos], &r, &s->err);
        if (rc) return rc;
        picked *p = &t->prompt[pos];
        p->id = r.id, p->logprob = r.logprob, p->n_top = r.n_top;
        if (r.n_top) memcpy(p->top, r.top, (size_t)r.n_top * sizeof *p->top);
    }
    return DR_OK;
}

static int pick_one(engine *g, seq *s, int context, int row, int thread, picked *p)
{
    const ticket *t = s->t;
    sample_result r;
    sampler *smp = g->smp[thread];
    sampler_use(smp, &t->req.sample, s->r.allowed);
    int rc = sampler_pick(smp, g->ws.logits + (size_t)row * (size_t)g->m->h.V, s->tok, context,
                          (uint64_t)s->sample, (uint64_t)t->req.n_prompt + (uint64_t)s->r.n_gen, &r, &s->err);
    if (rc) return rc;
    p->id = r.id, p->logprob = r.logprob, p->n_top = r.n_top;
    if (r.n_top) memcpy(p->top, r.top, (size_t)r.n_top * sizeof *p->top);
    return DR_OK;
}

/* Replies of one ticket share a matcher, and are picked by several threads. */
static void lock_match(ticket *t)
{
    if (t->match) pthread_mutex_lock(&t->match_lock);
}

static void unlock_match(ticket *t)
{
    if (t->match) pthread_mutex_unlock(&t->match_lock);
}

/* Tokens of s, as many as this step's logits and the constraint give. */
static int pick_some(engine *g, seq *s, int thread)
{
    ticket *t = s->t;
    int context = s->turn.known, guessed = context + s->n_guess, rc = DR_OK;
    int row = s->out0 + s->n_out - 1 - s->n_guess, end = s->out0 + s->n_out;
    bool same = true;                           /* every pick so far was the guess */
    while (s->n_pick < s->may) {
        if (s->asked != context) {
            lock_match(t);
            rc = gen_reply_allow(&s->r, context, &s->forced, &s->over, &s->err);
            unlock_match(t);
            if (rc) return rc;
            s->asked = context;
        }
        if (s->over) break;
        picked *p = &s->pick[s->n_pick];
        *p = (picked){ .id = s->forced };
        if (s->forced < 0) {
            if (!same || row >= end) break;     /* its logits come with the next step */
            if ((rc = pick_one(g, s, context, row, thread, p))) return rc;
        }
        s->n_pick++;
        lock_match(t);
        rc = gen_reply_take(&s->r, p->id, &s->err);
        unlock_match(t);
        if (rc) return rc;
        if (gen_reply_ends(&s->r, p->id) || s->r.n_gen == t->req.max_tokens || context == g->n_ctx) break;
        same = same && context < guessed && s->tok[context] == p->id;
        s->n_match += same;
        s->tok[context++] = p->id;
        row++;
    }
    return DR_OK;
}

static void pick(void *arg, int chunk, int thread)
{
    engine *g = arg;
    seq *s = g->in[chunk];
    s->n_pick = s->n_match = 0;
    if (!s->n_out) return;
    if (s->t->prompt && s->turn.len < s->t->req.n_prompt && prompt_probs(g, s, thread)) return;
    if (s->turn.len + s->rows - s->n_guess < s->turn.known || !s->t->req.max_tokens) return;
    pick_some(g, s, thread);
}

int batch_eval(engine *g, int64_t *ns)
{
    int n_out, n_hid, N = gather(g, &n_out, &n_hid);
    if (!N) return 0;
    int64_t t0 = os_now_ns();
    model_eval(g->m, &g->ws, &g->kv, &(model_step){ .tok = g->row_tok, .N = N, .run = g->run, .n_runs = g->n_in,
               .lora = g->lora, .out = g->out, .n_out = n_out, .hid = g->hid, .n_hid = n_hid });
    g->m->d->run(g->m->d, g->n_in, pick, g);
    *ns = os_now_ns() - t0;
    if (g->guess && g->decodes) {
        int guesses = 0, made = 0;
        for (int i = 0; i < g->n_in; i++) guesses += g->in[i]->n_guess, made += g->in[i]->n_pick;
        guess_ran(g->guess, g->n_in, guesses, made, *ns);
    }
    return N;
}

/* ---- what came of it ---- */

static void begin(engine *g, ticket *t, int64_t now)
{
    if (t->begun) return;
    t->begun = true;
    t->begin_ns = now;
    seq_keep(g, &t->seq[0]);
    t->usage.prompt_ns = now - t->admit_ns;
    engine_event *ev = ticket_slot(t, ENGINE_BEGIN, 0);
    ev->usage = t->usage;
    ticket_put(t);
    g->st.prompt_tokens += (uint64_t)t->req.n_prompt;
    g->st.cached_tokens += (uint64_t)t->usage.n_cached;
}

static void send_token(engine *g, seq *s, const picked *p, int64_t now)
{
    ticket *t = s->t;
    engine_event *ev = ticket_slot(t, ENGINE_TOKEN, s->sample);
    ev->id = p->id, ev->logprob = p->logprob, ev->pos = t->req.n_prompt + s->n_shown;
    ticket_slot_text(t, ev, buf_span(&g->text));
    ticket_slot_top(t, ev, p);
    ticket_put(t);
    t->usage.n_gen++;
    if (!s->n_shown++ && s->sample == 0) hist_put(&g->st.first_token, (double)(now - t->submit_ns) * 1e-9);
    else if (s->last_ns) hist_put(&g->st.per_token, (double)(now - s->last_ns) * 1e-9);
    s->last_ns = now;
}

/* The picks of s to its ticket; returns how many were sent. */
static int tokens(engine *g, seq *s, int64_t now)
{
    ticket *t = s->t;
    int context = s->turn.known;                /* before them */
    for (int i = 0; i < s->n_pick; i++) {
        const picked *p = &s->pick[i];
        bool hit;
        buf_reset(&g->text);
        int rc = gen_reply_show(&s->r, p->id, &g->text, &hit, &s->err);
        if (rc) return ticket_over(g, t, ENGINE_CANCELLED, rc, s->err.msg), i;
        send_token(g, s, p, now);
        bool full = context + i == g->n_ctx, last = s->n_shown == t->req.max_tokens;
        if (hit || gen_reply_ends(&s->r, p->id)) seq_finish(g, s, ENGINE_STOP);
        else if (last) seq_finish(g, s, ENGINE_LENGTH);
        else if (full) seq_finish(g, s, ENGINE_CONTEXT);
        if (s->finished) return i + 1;
    }
    if (s->over) seq_finish(g, s, ENGINE_STOP);
    return s->n_pick;
}

/* Hidden states of s into its embedding; the whole prompt seen: normalise and send. */
static void embed(engine *g, seq *s, int64_t now)
{
    ticket *t = s->t;
    int C = g->m->h.C, n = t->req.n_prompt;
    bool mean = t->req.task == ENGINE_EMBED_MEAN, done = s->turn.len == n;
    for (int i = 0; i < s->rows; i++) {
        const float *x = g->ws.hidden + (size_t)(s->hid0 + i) * (size_t)C;
        if (!mean && !(done && i == s->rows - 1)) continue;
        for (int j = 0; j < C; j++) t->sum[j] += (double)x[j];
    }
    if (!done) return;
    double sq = 0;
    for (int j = 0; j < C; j++) sq += t->sum[j] * t->sum[j];
    double f = sq > 0 ? 1 / sqrt(sq) : 0;
    for (int j = 0; j < C; j++) t->vec[j] = (float)(t->sum[j] * f);
    begin(g, t, now);
    engine_event *ev = ticket_slot(t, ENGINE_VECTOR, 0);
    ev->vec = t->vec, ev->n_vec = C;
    ticket_put(t);
    seq_finish(g, s, ENGINE_STOP);
}

static void share_out(engine *g, seq *s, int64_t now, uint64_t *gen, uint64_t *prompt)
{
    ticket *t = s->t;
    if (s->err.code) {
        ticket_over(g, t, ENGINE_CANCELLED, s->err.code, s->err.msg);
        return;
    }
    int before = s->turn.known, len = s->turn.len + s->rows - s->n_guess + s->n_match;
    bool decodes = before - s->turn.len <= 1 && before > t->req.n_prompt;
    int prompt_rows = decodes ? 0 : s->rows;
    /* guesses that did not come, and what was evaluated behind them, go */
    kv_advance(&s->kv, s->rows);
    kv_truncate(&g->kv, &s->kv, len);
    t->usage.n_drafted += s->n_guess, t->usage.n_accepted += s->n_match;
    g->st.drafted += (uint64_t)s->n_guess, g->st.accepted += (uint64_t)s->n_match;
    *prompt += (uint64_t)prompt_rows;
    s->turn.len = len;
    if (prompt_rows && t->root >= 0) seq_leave_prefix(g, s, len < t->req.n_prompt || t->req.n_samples == 1);
    if (t->req.task != ENGINE_GENERATE) {
        turns_ran(&g->turns, &s->turn, prompt_rows, 0);
        embed(g, s, now);
        return;
    }
    if (len >= t->req.n_prompt) begin(g, t, now);
    turn *q = &s->turn;
    turns_ran(&g->turns, q, prompt_rows, s->n_pick);
    *gen += (uint64_t)s->n_pick;
    if (len >= t->req.n_prompt && !t->req.max_tokens) {
        seq_finish(g, s, ENGINE_LENGTH);
        return;
    }
    tokens(g, s, now);
    if (s->finished) return;
    q->known = before + s->n_pick;
    if (q->len < q->known) return;
    /* the ring had no room for more than guesses that came: the last is evaluated once more */
    kv_truncate(&g->kv, &s->kv, q->known - 1);
    q->len = q->known - 1;
}

void batch_share_out(engine *g, int64_t now)
{
    uint64_t gen = 0, prompt = 0;
    for (int i = 0; i < g->n_in; i++)
        if (!g->in[i]->finished) share_out(g, g->in[i], now, &gen, &prompt);
    stats_step(g, now, gen, prompt);
}
