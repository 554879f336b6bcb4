/* spec.c - see spec.h.
 *
 * What pays: with k guesses a step evaluates k+1 columns and gives 1 + sum over j <= k of
 * p_1 … p_j tokens on average, p_i the chance that guess i comes true when those before it did. The
 * best k has the most tokens per time; 0 competes with it, at the cost of one column.
 *
 * Chances and times are beliefs, and wrong at first. So lookup keeps an account, in steps of one
 * column: what its guesses saved, less what their columns cost, and a fiftieth of each plain step.
 * A step that would overdraw it, were all its guesses wrong, is not made. Whatever the text and
 * the machine, a reply takes no more than a fiftieth and a step or two longer than without guesses. */
#include "gen/spec.h"
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "base/os.h"
#include "gen/ngram.h"
#include "gen/step_time.h"

enum {
    LENS = 24,                  /* lookups are told apart by how many tokens agreed */
    PROBS = 16,                 /* a draft model's guesses by the probability it gave them */
    MEMORY = 64,                /* trials after which older ones count for less */
    COLS = SPEC_MAX + 1,
    CREDIT = 12,                /* what was saved is worth as many steps at most */
    IDLE_MIN = 64, IDLE_MAX = 1024  /* tokens until a draft model that did not pay is asked again */
};

typedef struct { double came, of; } tally;       /* decaying counts */

struct spec {
    spec_opt o;
    ngram *seen;
    tally by_len[LENS + 1], by_prob[PROBS];
    ngram_match now;                             /* of the text's end */
    int32_t sent[SPEC_MAX];                      /* guesses of lookup that are being evaluated */
    int n_sent, at_sent;
    double account;
    step_time time;                              /* of a step of n columns */
    /* the draft model */
    session *d;
    sampler *smp;
    int32_t *text;                               /* (n_ctx,) its next context */
    int n_vocab;                                 /* logits that both models have */
    double draft_ns, draft_part;                 /* of one guess, 0: not measured; share of weights */
    tally all;                                   /* of its guesses */
    int idle, wait;                              /* tokens since it was asked; until it is again */
    int32_t made[SPEC_MAX];                      /* its last guesses, evaluated or not, … */
    int prob[SPEC_MAX], n_made, at;              /* … those from `at` on are not judged yet */
    uint64_t *mask;                              /* of a constraint; words for n_vocab */
};

/* ---- how often guesses come true ---- */

static void judge(tally *t, bool came)
{
    if (t->of >= MEMORY) t->came *= 1 - 1.0 / MEMORY, t->of *= 1 - 1.0 / MEMORY;
    t->came += came, t->of += 1;
}

static void save_up(spec *p, double steps) { p->account = fmin(p->account + steps, CREDIT); }

static double chance(const tally *t) { return t->came / t->of; }

/* What is believed before anything was seen: a few trials' worth. Long agreements mean copying. */
static void believe(spec *p)
{
    for (int n = 1; n <= LENS; n++) {
        double c = n == 1 ? 0.2 : n == 2 ? 0.4 : n == 3 ? 0.55 : n < 6 ? 0.7 : n < 10 ? 0.85 : 0.93;
        p->by_len[n] = (tally){ 4 * c, 4 };
    }
    for (int i = 0; i < PROBS; i++) p->by_prob[i] = (tally){ 4 * (i + 0.5) / PROBS, 4 };
    p->all = (tally){ 3, 4 };
}

/* ---- what a step takes ---- */

static double cost(const spec *p, int n) { return step_time_of(&p->time, n); }

void spec_timed(spec *p, int n, int64_t ns)
{
    if (n < 1 || n > COLS) return;
    step_time_put(&p->time, n, ns);
    if (p->n_sent > n - 1) p->n_sent = n - 1;    /* some were not possible */
    if (n == 1) save_up(p, 1.0 / 50);
    else if (p->n_sent) save_up(p, 1 - p->time.last / cost(p, 1));
}

/* ---- lookup ---- */

static int len_row(int n) { return n < LENS ? n : LENS; }

/* The best number of guesses, and the time of a token with it. */
static int best_lookup(const spec *p, int most, double *per_token)
{
    double sum = 1, all = 1, best = cost(p, 1) * 0.97;
    int k = 0;
    *per_token = cost(p, 1);
    if (!p->now.len) return 0;
    for (int j = 1; j <= most; j++) {
        all *= chance(&p->by_len[len_row(p->now.len + j - 1)]);
        sum += all;
        double per = cost(p, j + 1) / sum;
        if (per < best && cost(p, j + 1) <= (1 + p->account) * cost(p, 1)) best = *per_token = per, k = j;
    }
    return k;
}

/* ---- the draft model ---- */

/* Time of a guess: measured, or a target's step by the bytes of weights. */
static double draft_cost(const spec *p)
{
    return p->draft_ns > 0 ? p->draft_ns : cost(p, 1) * p->draft_part;
}

/* Time of a token with the draft model's guesses, when they come true as often as they did so far. */
static double draft_outlook(const spec *p, int most)
{
    double sum = 1, all = 1, best = cost(p, 1);
    for (int k = 1; k <= most; k++) {
        all *= chance(&p->all);
        sum += all;
        best = fmin(best, (cost(p, k + 1) + k * draft_cost(p)) / sum);
    }
    return best;
}

/* One guess and the row of its probability; -1: none. */
static int32_t draft_pick(spec *p, const spec_where *w, int j, int copy, int *row)
{
    sample_result r;
    matcher_next next;
    if (copy >= 0 && (matcher_mask(w->constraint, copy, MATCHER_ANY, p->mask, &next, NULL) || !next.n_text))
        return -1;
    sampler_mask(p->smp, copy >= 0 ? p->mask : NULL);
    if (sampler_pick(p->smp, session_logits(p->d), session_tokens(p->d), session_len(p->d), w->sample,
                     w->pos + (uint64_t)j, &r, NULL)) return -1;
    if (copy >= 0 && matcher_take(w->constraint, copy, r.id, NULL)) return -1;
    int at = (int)(exp((double)r.logprob) * PROBS);
    *row = at < 0 ? 0 : at < PROBS ? at : PROBS - 1;
    return r.id;
}

/* A guess more is worth its time while it gives tokens faster than the outlook does. */
static int draft_guess(spec *p, const spec_where *w, int most, int least, double per, int copy,
                       int32_t *out)
{
    double all = 1;
    int k = 0;
    for (int j = 0; j < most; j++) {
        int32_t id = draft_pick(p, w, j, copy, &p->prob[j]);
        if (id < 0) break;
        p->made[j] = id, p->n_made = j + 1;
        double more = cost(p, j + 2) - cost(p, j + 1);
        all *= chance(&p->by_prob[p->prob[j]]);
        if (j >= least && all * per < more) break;
        out[k++] = id;
        if (k == most) break;
        more = cost(p, k + 2) - cost(p, k + 1) + draft_cost(p);
        if (k >= least && all * chance(&p->all) * per < more) break;
        int64_t t = os_now_ns();
        if (session_append(p->d, &id, 1, NULL, NULL)) break;
        double ns = (double)(os_now_ns() - t);
        p->draft_ns = p->draft_ns > 0 ? p->draft_ns + (fmin(ns, 2 * p->draft_ns) - p->draft_ns) / 8 : ns;
    }
    return k;
}

/* Bring the draft model to the context and ask it. */
static int draft_ask(spec *p, const spec_where *w, int most, int least, double per, int32_t *out)
{
    int n = w->n_tok + w->n_held;
    memcpy(p->text, w->tok, (size_t)w->n_tok * sizeof *p->text);
    memcpy(p->text + w->n_tok, w->held, (size_t)w->n_held * sizeof *p->text);
    p->n_made = p->at = p->idle = 0;
    if (session_sync(p->d, p->text, n, NULL, NULL, NULL)) return 0;
    int copy = -1;
    if (w->constraint) {
        if (grammar_vtrie(matcher_grammar(w->constraint))->n_vocab > p->n_vocab) return 0;
        copy = matcher_copy(w->constraint, w->place, NULL);
        if (copy < 0) return 0;
    }
    int k = draft_guess(p, w, most, least, per, copy, out);
    if (copy >= 0) matcher_end(w->constraint, copy);
    return k;
}

/* ---- life ---- */

int spec_vocabulary(const tokenizer *a, const tokenizer *b, dr_err *e)
{
    if (tok_count(a) != tok_count(b))
        return err_set(e, DR_EINVAL, "a draft model wants the same vocabulary: it has %d tokens where "
                       "the model has %d", tok_count(b), tok_count(a));
    for (int32_t id = 0; id < tok_count(a); id++) {
        span x = tok_text(a, id), y = tok_text(b, id);
        if (x.n == y.n && !memcmp(x.p, y.p, x.n) && tok_is_control(a, id) == tok_is_control(b, id)
            && tok_is_eog(a, id) == tok_is_eog(b, id)) continue;
        return err_set(e, DR_EINVAL, "a draft model wants the same vocabulary: token %d differs from "
                       "the model's", id);
    }
    return DR_OK;
}

int spec_rows(const spec_opt *o)
{
    return o->kind == SPEC_NONE ? 1 : (o->max ? o->max : SPEC_MAX_DEFAULT) + 1;
}

static int open_draft(spec *p, const model *target, int n_ctx, dr_err *e)
{
    const model *m = p->o.draft;
    size_t own_bytes, target_bytes;
    weights_bytes(&m->w, &m->h, &own_bytes);
    weights_bytes(&target->w, &target->h, &target_bytes);
    p->draft_part = (double)own_bytes / (double)target_bytes;
    if (m->h.V < p->n_vocab) p->n_vocab = m->h.V;
    size_t words = ((size_t)p->n_vocab + 63) / 64;
    p->text = mem_alloc((size_t)n_ctx * sizeof *p->text);
    p->mask = mem_zalloc(words, sizeof *p->mask);
    if (!p->text || !p->mask) return err_nomem(e, (size_t)n_ctx * 4 + words * 8, "the draft model");
    dr_err own = {0};
    p->d = session_new(m, &(session_opt){ .n_ctx = n_ctx }, &own);
    return p->d ? DR_OK : err_set(e, own.code, "the draft model: %.400s", own.msg);
}

spec *spec_new(const spec_opt *o, const model *target, int n_ctx, dr_err *e)
{
    spec *p = mem_zalloc(1, sizeof *p);
    if (!p) {
        err_nomem(e, sizeof *p, "speculation");
        return NULL;
    }
    p->o = *o, p->n_vocab = target->h.V, p->wait = IDLE_MIN;
    if (!p->o.max) p->o.max = SPEC_MAX_DEFAULT;
    if (p->o.max < 1 || p->o.max > SPEC_MAX || p->o.min < 0 || p->o.min > p->o.max) {
        err_set(e, DR_EINVAL, "drafts of %d to %d tokens; 1 to %d are possible", p->o.min, p->o.max,
                SPEC_MAX);
        spec_free(p);
        return NULL;
    }
    believe(p);
    p->time.most = COLS;
    p->account = 1;
    p->seen = ngram_new(n_ctx, e);
    if (!p->seen || (o->kind == SPEC_DRAFT && open_draft(p, target, n_ctx, e))) {
        spec_free(p);
        return NULL;
    }
    return p;
}

void spec_free(spec *p)
{
    if (!p) return;
    spec_end(p);
    ngram_free(p->seen);
    session_free(p->d);
    mem_free(p->text);
    mem_free(p->mask);
    mem_free(p);
}

int spec_begin(spec *p, const sample_opt *o, const int32_t *prompt, int n, dr_err *e)
{
    spec_end(p);
    ngram_clear(p->seen);
    for (int i = 0; i < n; i++) ngram_put(p->seen, prompt[i]);
    p->now = ngram_find(p->seen);
    if (!p->d) return DR_OK;
    /* guessed as the target picks, filters and random numbers alike */
    sample_opt own = *o;
    own.logprobs = true, own.n_probs = 0, own.probs_after_filters = false;
    p->smp = sampler_new(&own, p->n_vocab, session_ctx(p->d), e);
    p->idle = p->wait;
    return p->smp ? DR_OK : e ? e->code : DR_ENOMEM;
}

void spec_end(spec *p)
{
    sampler_free(p->smp);
    p->smp = NULL;
    p->n_made = p->at = p->n_sent = p->at_sent = 0;
}

void spec_took(spec *p, int32_t id)
{
    if (p->now.len) judge(&p->by_len[len_row(p->now.len)], ngram_text(p->seen)[p->now.at] == id);
    ngram_put(p->seen, id);
    p->now = ngram_find(p->seen);
    p->idle++;
    if (p->at_sent < p->n_sent) {
        if (p->sent[p->at_sent++] == id) save_up(p, 1);
        else p->n_sent = p->at_sent = 0;
    }
    if (p->at == p->n_made) return;
    bool came = p->made[p->at] == id;
    judge(&p->by_prob[p->prob[p->at]], came);
    judge(&p->all, came);
    if (came) p->at++;
    else p->n_made = p->at = 0;
}

int spec_guess(spec *p, const spec_where *w, int32_t *out)
{
    int most = w->room < p->o.max ? w->room : p->o.max, least = w->room < p->o.min ? w->room : p->o.min;
    double per = cost(p, 1);
    p->n_sent = p->at_sent = 0;
    if (most < 1) return 0;
    /* the first steps are plain, and show what one takes */
    bool known = p->time.n_timed[1] >= 2;
    int k = known ? best_lookup(p, most, &per) : 0;
    if (p->d && (known || least)) {
        double with = draft_outlook(p, most);
        bool pays = with < 0.97 * cost(p, 1) && with < per, try = p->idle >= p->wait;
        if (pays) p->wait = IDLE_MIN;
        else if (try && p->wait < IDLE_MAX) p->wait *= 2;
        if (pays || try || k < least)
            return draft_ask(p, w, most, !pays && try && !least ? 1 : least, fmin(with, per), out);
    }
    if (k < least && p->now.len) k = least;
    if (!k) return 0;
    ngram_copy(p->seen, p->now, k, out);
    memcpy(p->sent, out, (size_t)k * sizeof *out);
    p->n_sent = k, p->at_sent = p->n_made = p->at = 0;
    return k;
}
