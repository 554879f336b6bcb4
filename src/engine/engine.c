/* engine.c - life of the engine, of requests in it, and its thread's loop. */
#include "engine/engine_priv.h"
#include <limits.h>
#include <string.h>
#include <time.h>
#include "base/mem.h"
#include "base/os.h"
#include "model/plan.h"

#define STORE_BYTES (INT64_C(8) << 30)
/* A step in which somebody decodes takes no longer, if prompts can wait: text that comes in stutters is read badly. */
#define MIXED_S 0.5

/* ---- a request's end ---- */

void seq_leave_prefix(engine *g, seq *s, bool whole_pages)
{
    int n = s->kv.len;
    if (whole_pages) n -= n % KV_PAGE;
    if (s->t->root >= 0 && n > 0) prefix_put(g->prefix, s->t->root, s->tok, n, &s->kv);
}

void seq_keep(engine *g, seq *s)
{
    if (g->store && s->t->root == 0 && s->sample == 0 && s->kv.len >= KV_PAGE)
        store_keep(g->store, s->tok, s->kv.len, &s->kv);
}

/* Its memory is given back; what it evaluated can be found again. */
static void clear(engine *g, seq *s)
{
    seq_leave_prefix(g, s, false);
    seq_keep(g, s);
    kv_truncate(&g->kv, &s->kv, 0);
    s->turn.len = 0;
    s->asked = -1;
}

static void end(engine *g, ticket *t, int code, const char *msg)
{
    t->over = true;
    *t->from = t->next;
    if (t->next) t->next->from = t->from;
    g->n_all--;
    if (t->root >= 0) g->root[t->root].users--;
    adapters_put(g->adapters, t->req.adapter);
    int64_t now = os_now_ns();
    if (t->begin_ns) t->usage.gen_ns = now - t->begin_ns;
    for (int i = 0; i < t->req.n_samples; i++) gen_reply_end(&t->seq[i].r);
    matcher_free(t->match);
    t->match = NULL;
    snprintf(t->msg, sizeof t->msg, "%s", msg ? msg : "");
    engine_event *ev = ticket_slot(t, ENGINE_DONE, 0);
    ev->usage = t->usage, ev->code = code, ev->msg = t->msg;
    ticket_put(t);
    if (code) g->st.failed++;
    hist_put(&g->st.whole, (double)(now - t->submit_ns) * 1e-9);
    if (!g->all) g->idle_since = now;
    ticket_unref(t);                            /* to_wake holds it still */
}

void seq_finish(engine *g, seq *s, engine_finish f)
{
    ticket *t = s->t;
    bool hit = false;
    s->finished = true;
    buf_reset(&g->text);
    if (t->req.task == ENGINE_GENERATE) {
        const char *by = s->r.stop_at >= 0 ? t->req.stop[s->r.stop_at] : NULL;
        if (!by && gen_reply_rest(&s->r, &g->text, &hit, NULL)) buf_reset(&g->text);
        engine_event *ev = ticket_slot(t, ENGINE_FINISH, s->sample);
        ev->finish = f, ev->stop = by ? by : hit ? t->req.stop[s->r.stop_at] : NULL;
        ticket_slot_text(t, ev, buf_span(&g->text));
        ticket_put(t);
        turns_ended(&g->turns, s->n_shown);
    }
    g->st.finished[f]++;
    turns_remove(&g->turns, &s->turn);
    clear(g, s);
    gen_reply_end(&s->r);
    if (--t->n_left == 0) end(g, t, DR_OK, NULL);
}

void ticket_over(engine *g, ticket *t, engine_finish f, int code, const char *msg)
{
    for (int i = 0; i < t->req.n_samples && !t->over; i++) {
        seq *s = &t->seq[i];
        if (s->finished) continue;
        if (!code) {
            seq_finish(g, s, f);
            continue;
        }
        s->finished = true;
        turns_remove(&g->turns, &s->turn);
        clear(g, s);
        t->n_left--;
    }
    if (!t->over) end(g, t, code, msg);
}

/* ---- the schedule's questions ---- */

static int cached(const engine *g, const turn *q, int *n_idle)
{
    *n_idle = 0;
    return q->root < 0 ? 0 : prefix_match(g->prefix, q->root, q->tok, q->known - 1, n_idle);
}

static int match(void *arg, const turn *q)
{
    int idle;
    return cached(arg, q, &idle);
}

static int64_t need(void *arg, const turn *q, int upto)
{
    engine *g = arg;
    const seq *s = q->owner;
    if (q->state == TURN_RUNNING) return upto > s->kv.len ? kv_grow_pages(&g->kv, &s->kv, upto - s->kv.len) : 0;
    int idle, n = cached(g, q, &idle);
    return (upto + KV_PAGE - 1) / KV_PAGE - n / KV_PAGE + idle;
}

/* ---- the loop ---- */

static int64_t pages(const engine *g) { return (int64_t)g->kv.n_free + prefix_idle(g->prefix); }

/* A sequence that waits, and whose prompt begins with what is being read from the disk, waits for it. */
static bool from_store(engine *g, seq *s)
{
    turn *q = &s->turn;
    if (q->state != TURN_WAITING || q->root != 0) return false;
    if (s->asked_store != g->store_asked) {
        s->asked_store = g->store_asked;
        s->coming = store_want(g->store, q->tok, q->known - 1);
    }
    return s->coming;
}

static void poll_store(engine *g)
{
    if (!g->store || !g->store_news) return;
    g->store_news = false;
    store_poll(g->store);
    g->store_asked++;
}

static void store_wake(void *arg)
{
    engine *g = arg;
    pthread_mutex_lock(&g->lock);
    g->store_news = g->kick = true;
    pthread_cond_signal(&g->cond);
    pthread_mutex_unlock(&g->lock);
}

/* Those whose owner left or whose time is over, and readers that are slow. */
static void look_after(engine *g, int64_t now)
{
    for (ticket *t = g->all, *next; t; t = next) {
        next = t->next;
        if (atomic_load(&t->cancelled)) {
            ticket_over(g, t, ENGINE_CANCELLED, DR_OK, NULL);
            continue;
        }
        if (t->req.deadline_ns && t->req.deadline_ns <= now) {
            ticket_over(g, t, ENGINE_DEADLINE, DR_OK, NULL);
            continue;
        }
        int per = (int)(ticket_room(t) / (unsigned)t->n_left);
        if (per < 1) {
            atomic_store(&t->starved, true);
            per = (int)(ticket_room(t) / (unsigned)t->n_left);
        }
        for (int i = 0; i < t->req.n_samples; i++) {
            seq *s = &t->seq[i];
            s->may = per < PICKS ? per : PICKS;
            s->turn.stalled = per < 1 || (g->store && from_store(g, s));
        }
    }
}

/* A matcher takes megabytes, so requests that wait have none. */
static int match_begin(seq *s, dr_err *e)
{
    ticket *t = s->t;
    if (!t->req.constraint) return DR_OK;
    if (!t->match && !(t->match = matcher_new(t->req.constraint, e))) return e->code;
    return gen_reply_begin(&s->r, t->match, e);
}

static void admit(engine *g, seq *s, int64_t now)
{
    ticket *t = s->t;
    dr_err e = {0};
    if (!s->here && match_begin(s, &e)) {
        ticket_over(g, t, ENGINE_CANCELLED, e.code, e.msg);
        return;
    }
    if (!s->here) {
        memcpy(s->tok, t->req.prompt, (size_t)t->req.n_prompt * sizeof *s->tok);
        s->turn.tok = s->tok;
        s->here = true;
    }
    if (s->turn.root >= 0) prefix_take(g->prefix, s->turn.root, s->tok, s->turn.known - 1, &s->kv);
    s->turn.len = s->kv.len;
    if (t->admit_ns) return;
    t->admit_ns = now;
    t->usage.wait_ns = now - t->submit_ns;
    t->usage.n_prompt = t->req.n_prompt;
    t->usage.n_cached = s->kv.len;
    g->st.prefix_queries += (uint64_t)t->req.n_prompt;
    g->st.prefix_hits += (uint64_t)s->kv.len;
    hist_put(&g->st.queue, (double)(now - t->submit_ns) * 1e-9);
}

/* Put guesses behind the text of s, those that its constraint allows; returns how many. */
static int put_guesses(engine *g, seq *s, int n)
{
    int32_t *id = s->tok + s->turn.known;
    int k = 0;
    if (n < 1) return 0;
    guess_copy(g->guess, s->turn.number + 1, n, id);
    int copy = s->r.place >= 0 ? matcher_copy(s->t->match, s->r.place, NULL) : -1;
    if (s->r.place >= 0 && copy < 0) return 0;
    while (k < n && !gen_reply_ends(&s->r, id[k]) && (copy < 0 || !matcher_take(s->t->match, copy, id[k], NULL))) k++;
    if (copy >= 0) matcher_end(s->t->match, copy);
    return k;
}

/* What is worth guessing in the next step: nothing where a prompt is part of it. */
static void speculate(engine *g)
{
    guess_seq q[GUESS_SEQS];
    seq *of[GUESS_SEQS];
    int n = 0;
    g->decodes = true;
    for (int i = 0; i < g->turns.n_run; i++) {
        seq *s = g->turns.run[i]->owner;
        s->turn.guesses = 0;
        if (s->turn.stalled) continue;
        if (s->turn.known - s->turn.len > 1 || s->turn.known == s->t->req.n_prompt || n == GUESS_SEQS) g->decodes = false;
        if (!g->decodes) continue;
        const engine_req *r = &s->t->req;
        int room = g->n_ctx - s->turn.known;
        if (room > s->may - 1) room = s->may - 1;
        if (r->max_tokens >= 0 && room > r->max_tokens - s->r.n_gen - 1) room = r->max_tokens - s->r.n_gen - 1;
        of[n] = s;
        q[n++] = (guess_seq){ s->turn.number + 1, s->tok, s->turn.known, room, 0 };
    }
    if (!g->decodes) return;
    guess_plan(g->guess, q, n);
    for (int i = 0; i < n; i++) of[i]->turn.guesses = put_guesses(g, of[i], q[i].n);
}

/* Rows of the next step; 0: nothing can be done. */
static int plan_step(engine *g, int64_t now)
{
    for (int i = 0; i <= ADAPTERS_MAX; i++) {
        if (!g->root[i].stale) continue;
        prefix_forget(g->prefix, i);
        g->root[i].stale = false;
    }
    poll_store(g);
    look_after(g, now);
    turn *q;
    while ((q = turns_preempt(&g->turns, pages(g)))) {
        seq *s = q->owner;
        clear(g, s);
        turns_back(&g->turns, q);
        s->t->usage.n_preempted++;
        g->st.preempted++;
    }
    while ((q = turns_admit(&g->turns, pages(g)))) admit(g, q->owner, now);
    stats_memory(g);
    if (g->guess) speculate(g);
    return turns_step(&g->turns, pages(g));
}

/* Tell the owners of what was written. Without lock. */
static void wake_all(engine *g)
{
    while (g->to_wake) {
        ticket *t = g->to_wake;
        g->to_wake = t->wake_next;
        ticket_wake(t);
        ticket_unref(t);
    }
}

static void wait(engine *g)
{
    int64_t until = INT64_MAX;
    for (const ticket *t = g->all; t; t = t->next)
        if (t->req.deadline_ns && t->req.deadline_ns < until) until = t->req.deadline_ns;
    if (until == INT64_MAX) {
        pthread_cond_wait(&g->cond, &g->lock);
        return;
    }
    struct timespec at = { until / 1000000000, until % 1000000000 };
    pthread_cond_timedwait(&g->cond, &g->lock, &at);
}

static void *loop(void *arg)
{
    engine *g = arg;
    pthread_mutex_lock(&g->lock);
    while (!g->quit) {
        g->kick = false;
        int rows = plan_step(g, os_now_ns());
        pthread_mutex_unlock(&g->lock);
        int64_t ns = 0;
        if (rows) rows = batch_eval(g, &ns);
        pthread_mutex_lock(&g->lock);
        if (rows) {
            turns_took(&g->turns, rows, ns);
            batch_share_out(g, os_now_ns());
            stats_memory(g);
        }
        pthread_mutex_unlock(&g->lock);
        wake_all(g);
        pthread_mutex_lock(&g->lock);
        while (!rows && !g->kick && !g->quit) {
            wait(g);
            if (g->all) break;                  /* a deadline may have come */
        }
    }
    while (g->all) ticket_over(g, g->all, ENGINE_CANCELLED, DR_OK, NULL);
    pthread_mutex_unlock(&g->lock);
    wake_all(g);
    return NULL;
}

/* ---- submitting ---- */

void engine_req_init(engine_req *r)
{
    *r = (engine_req){ .n_samples = 1, .sample = sample_opt_default(), .max_tokens = -1, .prompt_probs = -1 };
}

/* The root of the tree for an adapter: its own, or one that nobody uses. */
static int root_of(engine *g, int adapter)
{
    int k = -1;
    for (int i = 0; i <= ADAPTERS_MAX; i++) {
        if (g->root[i].number == adapter && (i == 0) == (adapter == 0)) return i;
        if (i && g->root[i].users == 0 && (k < 0 || g->root[i].number < g->root[k].number)) k = i;
    }
    if (k >= 0) g->root[k].number = adapter, g->root[k].stale = true;
    return k;
}

static int refuse(engine *g, int tenant, int *retry_s, dr_err *e)
{
    int wait_s = 1;
    if (g->draining || g->quit) {
        *retry_s = wait_s;
        return err_set(e, DR_EBUSY, "the server is closing down and takes no more requests");
    }
    if (turns_room(&g->turns, tenant, &wait_s)) return DR_OK;
    *retry_s = wait_s;
    g->st.refused++;
    return err_set(e, DR_EBUSY, "%d requests wait already; it may be worth trying again in %d s",
                   g->turns.n_requests, wait_s);
}

int engine_submit(engine *g, const engine_req *r, ticket **out, int *retry_s, dr_err *e)
{
    int none;
    if (!retry_s) retry_s = &none;
    *retry_s = 0;
    if (r->tenant >= 0 && r->tenant < ENGINE_TENANTS) {         /* at once, before anything is made */
        pthread_mutex_lock(&g->lock);
        int rc = refuse(g, r->tenant, retry_s, e);
        pthread_mutex_unlock(&g->lock);
        if (rc) return rc;
    }
    ticket *t;
    int rc = ticket_new(g, r, &t, e);
    if (rc) return rc;
    pthread_mutex_lock(&g->lock);
    rc = refuse(g, r->tenant, retry_s, e);
    if (!rc) {
        t->submit_ns = os_now_ns();
        t->root = r->no_cache ? -1 : root_of(g, r->adapter);
        if (t->root >= 0) g->root[t->root].users++;
        t->next = g->all, t->from = &g->all;
        if (g->all) g->all->from = &t->next;
        g->all = t;
        g->n_all++;
        bool reads = !t->prompt && r->task != ENGINE_EMBED_MEAN;
        for (int i = 0; i < t->req.n_samples; i++) {
            t->seq[i].turn.arrived_ns = t->submit_ns;
            t->seq[i].turn.root = reads ? t->root : -1;
            turns_add(&g->turns, &t->seq[i].turn);
        }
        atomic_fetch_add(&t->refs, 1);
        g->st.requests++;
        g->kick = true;
        pthread_cond_signal(&g->cond);
    }
    pthread_mutex_unlock(&g->lock);
    if (rc) {
        adapters_put(g->adapters, t->req.adapter);
        ticket_unref(t);
        return rc;
    }
    *out = t;
    return DR_OK;
}

/* ---- life ---- */

/* Contexts, cache and steps as asked for, or as memory allows. */
static int sizes(engine *g, int64_t *positions, dr_err *e)
{
    engine_opt *o = &g->o;
    const hparams *h = &g->m->h;
    if (!o->kv_set) o->kv = KV_F16;
    if (!o->max_running) o->max_running = 64;
    if (!o->max_waiting) o->max_waiting = 256;
    if (!o->step_tokens) o->step_tokens = 512;
    if (o->step_tokens < o->max_running) o->step_tokens = o->max_running;
    if (o->max_running < 1 || o->max_running > 4096 || o->step_tokens > 65536 || o->n_ctx < 0 || o->n_ctx > HP_MAX_CTX
        || o->kv_positions < 0)
        return err_set(e, DR_EINVAL, "%d sequences at once, %d rows in a step, contexts of %d: at most 4096, 65536 "
                       "and %d are possible", o->max_running, o->step_tokens, o->n_ctx, HP_MAX_CTX);
    g->n_out = o->max_running + OUT_SPARE;
    size_t room = os_free_memory() / 4 * 3;
    plan_opt p = { .n_ctx = o->n_ctx, .n_seqs = 1, .n_rows = o->step_tokens, .n_out = g->n_out, .kv = o->kv };
    if (!p.n_ctx) p.n_ctx = room ? plan_max_ctx(g->m, p, room) : h->n_ctx;
    if (p.n_ctx < 1) p.n_ctx = h->n_ctx;
    plan needs;
    plan_make(&needs, g->m, &p);
    size_t one = kv_bytes(o->kv, h->L, h->nkv, h->hs, KV_PAGE);
    *positions = o->kv_positions;
    if (!*positions) {
        int64_t most = (int64_t)p.n_ctx * o->max_running, fit = most;
        size_t rest = needs.private_total - needs.kv;
        if (room) fit = room > rest ? (int64_t)((room - rest) / one) * KV_PAGE : 0;
        *positions = fit < most ? fit : most;
        if (*positions < p.n_ctx) *positions = p.n_ctx;
    }
    if (*positions < p.n_ctx) p.n_ctx = (int)*positions;
    needs.private_total += (size_t)((*positions - p.n_ctx) / KV_PAGE) * one;
    g->n_ctx = p.n_ctx;
    return plan_fits(&needs, os_free_memory(), e);
}

static int buffers(engine *g, dr_err *e)
{
    const engine_opt *o = &g->o;
    size_t R = (size_t)o->max_running, T = (size_t)o->step_tokens;
    int threads = g->m->d->n_threads, V = g->m->h.V;
    g->token_bytes = gen_reply_token_bytes(g->tok);
    g->row_tok = mem_alloc(T * sizeof *g->row_tok);
    g->hid = mem_alloc(T * sizeof *g->hid);
    g->out = mem_alloc((size_t)g->n_out * sizeof *g->out);
    g->run = mem_alloc(R * sizeof *g->run);
    g->lora = mem_alloc(R * sizeof *g->lora);
    g->in = mem_alloc(2 * R * sizeof *g->in);
    g->smp = mem_zalloc((size_t)threads, sizeof *g->smp);
    buf_init(&g->text, (size_t)1 << 20);
    for (size_t i = 0; i < g->token_bytes + 2 * STOP_BYTES + 64; i++) buf_putc(&g->text, 0);
    if (!g->row_tok || !g->hid || !g->out || !g->run || !g->lora || !g->in || !g->smp || g->text.bad)
        return err_nomem(e, T * 8 + R * 64, "the engine");
    int n_top = ENGINE_TOP_MAX < V ? ENGINE_TOP_MAX : V;
    for (int i = 0; i < threads; i++)
        if (!(g->smp[i] = sampler_new_shared(V, g->n_ctx, n_top, e))) return DR_ENOMEM;
    return DR_OK;
}

static int open_store(engine *g, dr_err *e)
{
    char print[STORE_PRINT];
    int rc = store_fingerprint(g->m, g->o.kv, print, e);
    if (rc) return rc;
    store_opt o = { .folder = g->o.store, .fingerprint = print, .n_ctx = g->n_ctx, .wake = store_wake, .arg = g,
                    .bytes = g->o.store_bytes ? g->o.store_bytes : STORE_BYTES };
    g->store_asked = 1;
    g->store = store_open(&o, &g->kv, g->prefix, e);
    return g->store ? DR_OK : e ? e->code : DR_EIO;
}

static int start(engine *g, dr_err *e)
{
    pthread_condattr_t a;
    pthread_condattr_init(&a);
    pthread_condattr_setclock(&a, CLOCK_MONOTONIC);             /* as os_now_ns */
    pthread_cond_init(&g->cond, &a);
    pthread_condattr_destroy(&a);
    pthread_mutex_init(&g->lock, NULL);
    const hparams *h = &g->m->h;
    int64_t positions = 0;
    int rc = sizes(g, &positions, e);
    if (rc) return rc;
    /* a page more: one that is shared is copied before it is given up */
    rc = kv_init(&g->kv, g->m->d, g->o.kv, h->L, h->nkv, h->hs, positions + KV_PAGE, e);
    if (!rc) rc = workspace_init_rank(&g->ws, g->m, g->o.step_tokens, g->n_out, g->n_ctx, ADAPTERS_RANK, e);
    if (!rc) rc = buffers(g, e);
    if (!rc && !(g->prefix = prefix_new(&g->kv, 1 + ADAPTERS_MAX, e))) rc = DR_ENOMEM;
    if (!rc && !(g->adapters = adapters_new(g->m, e))) rc = DR_ENOMEM;
    if (rc) return rc;
    if (g->o.spec == SPEC_DRAFT)
        return err_set(e, DR_EUNSUPPORTED, "many replies at once have no draft model: guesses come from the text");
    int most = g->o.spec_max ? g->o.spec_max : SPEC_MAX_DEFAULT;
    if (most < 1 || most > GUESS_MAX || g->o.spec_min < 0 || g->o.spec_min > most)
        return err_set(e, DR_EINVAL, "guesses of %d to %d tokens; 1 to %d are possible", g->o.spec_min, most,
                       GUESS_MAX);
    if (g->o.spec && !(g->guess = guess_new(g->n_ctx, g->o.spec_min, most, e))) return DR_ENOMEM;
    if (g->o.store && (rc = open_store(g, e))) return rc;
    turns_opt to = { .max_running = g->o.max_running, .max_waiting = g->o.max_waiting,
                     .step_rows = g->o.step_tokens, .mixed_s = MIXED_S, .n_pages = g->kv.n_pages, .need = need, .match = match,
                     .arg = g };
    if ((rc = turns_init(&g->turns, &to, e))) return rc;
    g->turns_made = true;
    g->idle_since = os_now_ns();
    if (pthread_create(&g->thread, NULL, loop, g)) return err_set(e, DR_ENOMEM, "no thread for the engine");
    g->started = true;
    return DR_OK;
}

engine *engine_new(model *m, const tokenizer *t, const engine_opt *o, dr_err *e)
{
    engine *g = mem_zalloc(1, sizeof *g);
    if (!g) {
        err_nomem(e, sizeof *g, "the engine");
        return NULL;
    }
    g->m = m, g->tok = t;
    if (o) g->o = *o;
    if (start(g, e) == DR_OK) return g;
    engine_free(g);
    return NULL;
}

void engine_free(engine *g)
{
    if (!g) return;
    if (g->started) {
        pthread_mutex_lock(&g->lock);
        g->quit = true;
        pthread_cond_signal(&g->cond);
        pthread_mutex_unlock(&g->lock);
        pthread_join(g->thread, NULL);
    }
    if (g->turns_made) turns_free(&g->turns);
    store_free(g->store);
    prefix_free(g->prefix);
    adapters_free(g->adapters);
    guess_free(g->guess);
    for (int i = 0; g->smp && i < g->m->d->n_threads; i++) sampler_free(g->smp[i]);
    void *const own[] = { g->row_tok, g->hid, g->out, g->run, g->lora, g->in, g->smp };
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) mem_free(own[i]);
    buf_free(&g->text);
    workspace_free(&g->ws);
    kv_free(&g->kv);
    pthread_mutex_destroy(&g->lock);
    pthread_cond_destroy(&g->cond);
    mem_free(g);
}

int engine_ctx(const engine *g) { return g->n_ctx; }

/* ---- adapters, tenants, draining ---- */

int engine_adapter_load(engine *g, const char *name, const char *path, float scale, dr_err *e)
{
    int rc = adapters_load(g->adapters, name, path, scale, e);
    return rc > 0 ? DR_OK : rc;
}

int engine_adapter_unload(engine *g, const char *name, dr_err *e) { return adapters_unload(g->adapters, name, e); }
int engine_adapter_find(engine *g, const char *name) { return adapters_find(g->adapters, name); }

typedef struct { void (*fn)(void *, const char *, const char *, int); void *arg; } each;
static void each_row(void *arg, const adapters_row *r)
{
    const each *x = arg;
    x->fn(x->arg, r->name, r->path, r->in_use);
}

void engine_adapter_each(engine *g, void (*fn)(void *arg, const char *name, const char *path, int in_use), void *arg)
{
    adapters_each(g->adapters, each_row, &(each){ fn, arg });
}

void engine_tenant(engine *g, int tenant, double weight)
{
    pthread_mutex_lock(&g->lock);
    turns_weight(&g->turns, tenant, weight);
    pthread_mutex_unlock(&g->lock);
}

void engine_drain(engine *g)
{
    pthread_mutex_lock(&g->lock);
    g->draining = true;
    pthread_mutex_unlock(&g->lock);
}

bool engine_idle(engine *g)
{
    pthread_mutex_lock(&g->lock);
    bool idle = !g->all;
    pthread_mutex_unlock(&g->lock);
    return idle;
}

int64_t engine_idle_ns(engine *g)
{
    pthread_mutex_lock(&g->lock);
    int64_t n = g->all ? 0 : os_now_ns() - g->idle_since;
    pthread_mutex_unlock(&g->lock);
    return n;
}
