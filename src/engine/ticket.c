/* ticket.c - a request and the ring of its events.
 *
 * Slots are of one size, so the room for the ends (a FINISH of each reply, DONE) can be kept free exactly:
 * a request can always end, however slow its reader. */
#include <string.h>
#include "base/mem.h"
#include "base/os.h"
#include "engine/engine_priv.h"

/* ---- making one ---- */

static int check(const engine *g, const engine_req *r, dr_err *e)
{
    int V = g->m->h.V;
    const struct { const char *what; int64_t v, lo, hi; } range[] = {
        { "n_prompt", r->n_prompt, 1, INT32_MAX },
        { "n_samples", r->n_samples, 0, ENGINE_SAMPLES_MAX },
        { "max_tokens", r->max_tokens, -1, INT32_MAX },
        { "min_tokens", r->min_tokens, 0, INT32_MAX },
        { "the number of stop strings", r->n_stop, 0, REPLY_MAX_STOP },
        { "the number of ends", r->n_end, 0, 1 << 16 },
        { "n_probs", r->sample.n_probs, 0, ENGINE_TOP_MAX < V ? ENGINE_TOP_MAX : V },
        { "prompt_probs", r->prompt_probs, -1, ENGINE_TOP_MAX < V ? ENGINE_TOP_MAX : V },
        { "tenant", r->tenant, 0, ENGINE_TENANTS - 1 },
        { "the number of biases", r->sample.n_bias, 0, 1 << 20 },
    };
    for (size_t i = 0; i < sizeof range / sizeof *range; i++)
        if (range[i].v < range[i].lo || range[i].v > range[i].hi)
            return err_set(e, DR_EINVAL, "%s is %lld; it must be from %lld to %lld", range[i].what,
                           (long long)range[i].v, (long long)range[i].lo, (long long)range[i].hi);
    for (int i = 0; i < r->n_prompt; i++)
        if (r->prompt[i] < 0 || r->prompt[i] >= V)
            return err_set(e, DR_EINVAL, "token %d at position %d; the vocabulary has %d", r->prompt[i], i, V);
    for (int i = 0; i < r->n_stop; i++)
        if (!r->stop[i][0] || strlen(r->stop[i]) > STOP_BYTES)
            return err_set(e, DR_EINVAL, "stop string %d has %zu bytes; 1 to %d are possible", i + 1,
                           strlen(r->stop[i]), STOP_BYTES);
    if (r->n_prompt > g->n_ctx)
        return err_set(e, DR_EINVAL, "the prompt has %d tokens, the context %d positions", r->n_prompt, g->n_ctx);
    if (r->task != ENGINE_GENERATE && (r->constraint || r->n_samples > 1 || r->prompt_probs >= 0))
        return err_set(e, DR_EINVAL, "an embedding has no replies: neither samples, constraint nor prompt_probs");
    return sample_opt_check(&r->sample, V, e);
}

static size_t pad(size_t n) { return (n + 63) & ~(size_t)63; }

/* Bytes of each part that lies in t->mem. */
typedef struct { size_t prompt, stop, end, bias, breaker, ring, pick, probs, sum, vec, all; } sizes;

static sizes count(const engine *g, const ticket *t)
{
    const engine_req *r = &t->req;
    size_t n = (size_t)r->n_samples, C = r->task == ENGINE_GENERATE ? 0 : (size_t)g->m->h.C;
    sizes z = {
        .prompt = (size_t)r->n_prompt * sizeof *r->prompt,
        .stop = (size_t)r->n_stop * (sizeof *r->stop + STOP_BYTES + 1),
        .end = (size_t)r->n_end * sizeof *r->end,
        .bias = (size_t)r->sample.n_bias * sizeof *r->sample.bias,
        .breaker = (size_t)r->sample.n_dry_breakers * sizeof *r->sample.dry_breakers,
        .ring = t->n_slots * t->slot_bytes,
        .pick = PICKS * sizeof(picked),
        .probs = r->prompt_probs >= 0 ? (size_t)r->n_prompt * sizeof(picked) : 0,
        .sum = C * sizeof(double), .vec = C * sizeof(float),
    };
    z.all = pad(z.prompt) + pad(z.stop) + pad(z.end) + pad(z.bias) + pad(z.breaker) + pad(z.ring) +
            n * pad(z.pick) + pad(z.probs) + pad(z.sum) + pad(z.vec) + 64;
    return z;
}

static void *keep(ticket *t, const void *p, size_t n)
{
    void *q = arena_take(&t->mem, n);
    DR_ASSERT(q);
    if (n && p) memcpy(q, p, n);
    return q;
}

/* The request's arrays become the ticket's own. */
static void own(ticket *t, const sizes *z)
{
    engine_req *r = &t->req;
    r->prompt = keep(t, r->prompt, z->prompt);
    r->end = keep(t, r->end, z->end);
    r->sample.bias = keep(t, r->sample.bias, z->bias);
    r->sample.dry_breakers = keep(t, r->sample.dry_breakers, z->breaker);
    char *at = keep(t, NULL, z->stop);
    const char **list = (const char **)(void *)at;
    at += (size_t)r->n_stop * sizeof *list;
    for (int i = 0; i < r->n_stop; i++) {
        list[i] = memcpy(at, r->stop[i], strlen(r->stop[i]) + 1);
        at += strlen(list[i]) + 1;
    }
    r->stop = list;
    t->ring = keep(t, NULL, z->ring);
    if (z->probs) t->prompt = keep(t, NULL, z->probs);
    if (z->vec) t->sum = keep(t, NULL, z->sum), t->vec = keep(t, NULL, z->vec);
}

static int make_seqs(engine *g, ticket *t, const sizes *z, int max_len, dr_err *e)
{
    const engine_req *r = &t->req;
    gen_reply_opt y = { .t = g->tok, .n_vocab = g->m->h.V, .n_ctx = g->n_ctx, .max_tokens = r->max_tokens,
                    .min_tokens = r->min_tokens, .stop = r->stop, .n_stop = r->n_stop,
                    .show_special = r->show_special, .ignore_eos = r->ignore_eos,
                    .keep_stop = r->keep_stop, .sample_all = r->sample.logprobs, .end = r->end,
                    .n_end = r->n_end, .form = r->constraint };
    int rc = r->max_tokens == 0 ? DR_OK : gen_reply_check_room(&y, r->n_prompt, e);
    t->seq = mem_zalloc((size_t)r->n_samples, sizeof *t->seq);
    if (!t->seq) return err_nomem(e, (size_t)r->n_samples * sizeof *t->seq, "replies");
    for (int i = 0; i < r->n_samples && !rc; i++) {
        seq *s = &t->seq[i];
        s->t = t, s->sample = i, s->asked = -1, s->r.place = -1;
        s->pick = keep(t, NULL, z->pick);
        s->turn = (turn){ .owner = s, .tenant = r->tenant, .priority = r->priority,
                          .deadline_ns = r->deadline_ns, .extra = i > 0, .tok = r->prompt,
                          .known = r->n_prompt, .max_len = max_len };
        s->tok = mem_alloc((size_t)(max_len + PICKS) * sizeof *s->tok);
        rc = s->tok ? kv_seq_init(&s->kv, max_len, e) : err_nomem(e, (size_t)max_len * 4, "tokens");
        if (!rc && r->task == ENGINE_GENERATE) rc = gen_reply_init(&s->r, &y, g->token_bytes, e);
    }
    return rc;
}

int ticket_new(engine *g, const engine_req *r, ticket **out, dr_err *e)
{
    dr_err own_err = {0};
    if (!e) e = &own_err;
    int rc = check(g, r, e);
    if (rc) return rc;
    ticket *t = mem_zalloc(1, sizeof *t);
    if (!t) return err_nomem(e, sizeof *t, "a request");
    pthread_mutex_init(&t->lock, NULL);
    pthread_mutex_init(&t->match_lock, NULL);
    atomic_init(&t->refs, 1);
    t->req = *r;
    if (t->req.n_samples < 1) t->req.n_samples = 1;
    t->req.constraint = r->constraint ? grammar_hold(r->constraint) : NULL;
    t->req.adapter = 0;
    t->n_left = t->req.n_samples;
    int64_t max_len = (int64_t)r->n_prompt + (r->max_tokens < 0 ? g->n_ctx : r->max_tokens);
    if (r->task != ENGINE_GENERATE) max_len = r->n_prompt;
    if (max_len > g->n_ctx) max_len = g->n_ctx;

    int n_top = r->sample.logprobs ? r->sample.n_probs : 0;
    size_t longest = 0;
    for (int i = 0; i < r->n_stop; i++)
        if (strlen(r->stop[i]) > longest) longest = strlen(r->stop[i]);
    t->text_max = g->token_bytes + 16 + 2 * longest;
    t->slot_bytes = pad(sizeof(engine_event) + (size_t)n_top * sizeof(sample_prob) + t->text_max);
    t->n_slots = RING_TOKENS + 4 * (unsigned)t->req.n_samples;
    sizes z = count(g, t);
    if (!arena_init(&t->mem, z.all)) rc = err_nomem(e, z.all, "a request");
    if (!rc) own(t, &z);
    if (!rc) rc = make_seqs(g, t, &z, (int)max_len, e);
    if (!rc && r->adapter) rc = adapters_hold(g->adapters, r->adapter, e);
    if (rc) {
        ticket_unref(t);
        return rc;
    }
    t->req.adapter = r->adapter;
    t->g = g;
    *out = t;
    return DR_OK;
}

void ticket_unref(ticket *t)
{
    if (atomic_fetch_sub(&t->refs, 1) > 1) return;
    for (int i = 0; t->seq && i < t->req.n_samples; i++) {
        gen_reply_free(&t->seq[i].r);
        DR_ASSERT(t->seq[i].kv.len == 0);           /* its pages were given back by the engine */
        mem_free(t->seq[i].kv.page);
        mem_free(t->seq[i].tok);
    }
    mem_free(t->seq);
    matcher_free(t->match);
    grammar_free(t->req.constraint);
    arena_free(&t->mem);
    pthread_mutex_destroy(&t->lock);
    pthread_mutex_destroy(&t->match_lock);
    mem_free(t);
}

/* ---- the writer ---- */

static engine_event *slot_at(const ticket *t, unsigned i)
{
    return (engine_event *)(void *)(t->ring + (size_t)(i % t->n_slots) * t->slot_bytes);
}

unsigned ticket_room(const ticket *t)
{
    unsigned used = atomic_load_explicit(&t->head, memory_order_relaxed) - atomic_load(&t->tail);
    unsigned ends = (unsigned)t->n_left + 3;        /* BEGIN, VECTOR, DONE */
    return used + ends < t->n_slots ? t->n_slots - used - ends : 0;
}

engine_event *ticket_slot(ticket *t, engine_kind k, int sample)
{
    unsigned head = atomic_load_explicit(&t->head, memory_order_relaxed);
    DR_ASSERT(head - atomic_load(&t->tail) < t->n_slots);
    engine_event *ev = slot_at(t, head);
    *ev = (engine_event){ .kind = k, .sample = sample, .text = { "", 0 } };
    return ev;
}

static char *slot_text(const ticket *t, engine_event *ev)
{
    return (char *)ev + t->slot_bytes - t->text_max;
}

void ticket_slot_text(ticket *t, engine_event *ev, span text)
{
    DR_ASSERT(text.n <= t->text_max);
    char *to = slot_text(t, ev);
    if (text.n) memcpy(to, text.p, text.n);
    ev->text = (span){ to, text.n };
}

void ticket_slot_top(ticket *t, engine_event *ev, const picked *p)
{
    (void)t;
    sample_prob *to = (sample_prob *)(void *)(ev + 1);
    if (p->n_top) memcpy(to, p->top, (size_t)p->n_top * sizeof *to);
    ev->top = to, ev->n_top = p->n_top;
}

void ticket_put(ticket *t)
{
    unsigned head = atomic_load_explicit(&t->head, memory_order_relaxed);
    atomic_store_explicit(&t->head, head + 1, memory_order_release);
    if (t->news) return;
    t->news = true;
    atomic_fetch_add(&t->refs, 1);
    t->wake_next = t->g->to_wake;
    t->g->to_wake = t;
}

void ticket_wake(ticket *t)
{
    t->news = false;
    pthread_mutex_lock(&t->lock);
    if (!t->closed && t->req.wake) t->req.wake(t->req.arg);
    if (t->over) t->g = NULL;
    pthread_mutex_unlock(&t->lock);
}

/* ---- the reader ---- */

/* Tell the engine, if it is still there, that something changed. */
static void kick(ticket *t)
{
    pthread_mutex_lock(&t->lock);
    engine *g = t->g;
    if (g) {
        pthread_mutex_lock(&g->lock);
        g->kick = true;
        pthread_cond_signal(&g->cond);
        pthread_mutex_unlock(&g->lock);
    }
    pthread_mutex_unlock(&t->lock);
}

static bool next_prompt(ticket *t, engine_event *ev)
{
    if (t->prompt_at == t->req.n_prompt) return t->prompt_now = false;
    const picked *p = &t->prompt[t->prompt_at];
    *ev = (engine_event){ .kind = ENGINE_PROMPT_TOKEN, .pos = t->prompt_at, .id = p->id, .text = { "", 0 },
                          .logprob = p->logprob, .n_top = p->n_top, .top = p->top };
    t->prompt_at++;
    return true;
}

bool ticket_next(ticket *t, engine_event *ev)
{
    if (t->prompt_now && next_prompt(t, ev)) return true;
    unsigned tail = atomic_load_explicit(&t->tail, memory_order_relaxed);
    if (t->reading) {
        t->reading = false;
        atomic_store(&t->tail, ++tail);
        /* the engine sets starved, then looks at tail once more: one of us two sees the other */
        if (atomic_load(&t->starved) && atomic_exchange(&t->starved, false)) kick(t);
    }
    if (tail == atomic_load_explicit(&t->head, memory_order_acquire)) return false;
    *ev = *slot_at(t, tail);
    t->reading = true;
    if (ev->kind == ENGINE_BEGIN && t->prompt) t->prompt_now = true, t->prompt_at = 1;
    return true;
}

void ticket_free(ticket *t)
{
    if (!t) return;
    atomic_store(&t->cancelled, true);
    kick(t);
    pthread_mutex_lock(&t->lock);
    t->closed = true;
    pthread_mutex_unlock(&t->lock);
    ticket_unref(t);
}
