/* spec.c - see spec.h.
 *
 * What pays: with k guesses a step evaluates k+1 columns and gives 1 + sum over j <= k of
 * p_1 … p_j tokens on average, p_i the chance that guess i comes true when those before it did. The
 * best k has the most tokens per time; 0 competes with it, at the cost of one column. */
#include "gen/spec.h"
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "base/os.h"
#include "gen/ngram.h"

enum {
    LENS = 24,                  /* lookups are told apart by how many tokens agreed */
    PROBS = 16,                 /* a draft model's guesses by the probability it gave them */
    MEMORY = 64,                /* trials after which older ones count for less */
    COLS = SPEC_MAX + 1
};

typedef struct { double came, of; } tally;       /* decaying counts */

struct spec {
    spec_opt o;
    ngram *seen;
    tally by_len[LENS + 1], by_prob[PROBS];
    ngram_match now;                             /* of the text's end */
    double ns[COLS + 1];                         /* of a step of n columns; 0: not measured */
    int n_timed[COLS + 1];
    /* the draft model */
    session *d;
    sampler *smp;
    int32_t *text;                               /* (n_ctx,) its next context */
    int n_vocab, n_ctx;
    double draft_ns;                             /* of one guess */
    int n_drafted;                               /* guesses it made so far */
    int idle;                                    /* tokens since it was last asked */
    int32_t made[SPEC_MAX + 1];                  /* its last guesses, evaluated or not, … */
    int prob[SPEC_MAX + 1], n_made, at;          /* … and those from `at` on are not judged yet */
    uint64_t *mask;                              /* of a constraint */
};

/* ---- how often guesses come true ---- */

static void judge(tally *t, bool came)
{
    if (t->of >= MEMORY) t->came *= 1 - 1.0 / MEMORY, t->of *= 1 - 1.0 / MEMORY;
    t->came += came, t->of += 1;
}

static double chance(const tally *t) { return t->came / t->of; }

/* What is believed before anything was seen: a few trials' worth. Long agreements mean copying. */
static void believe(spec *p)
{
    for (int n = 1; n <= LENS; n++) {
        double c = n == 1 ? 0.2 : n == 2 ? 0.4 : n == 3 ? 0.55 : n < 6 ? 0.7 : n < 10 ? 0.85 : 0.93;
        p->by_len[n] = (tally){ 4 * c, 4 };
    }
    for (int i = 0; i < PROBS; i++) p->by_prob[i] = (tally){ 4 * (i + 0.5) / PROBS, 4 };
}

/* ---- what a step takes ---- */

/* The shape that is assumed where nothing was measured. */
static double shape(int n) { return 1 + 0.08 * (n - 1); }

static double cost(const spec *p, int n)
{
    if (p->n_timed[n]) return p->ns[n];
    int lo = n, hi = n;
    while (lo > 0 && !p->n_timed[lo]) lo--;
    while (hi <= COLS && !p->n_timed[hi]) hi++;
    if (lo > 0 && hi <= COLS)
        return p->ns[lo] + (p->ns[hi] - p->ns[lo]) * (n - lo) / (hi - lo);
    if (lo > 0) return p->ns[lo] * shape(n) / shape(lo);
    return hi <= COLS ? p->ns[hi] * shape(n) / shape(hi) : shape(n);
}

void spec_timed(spec *p, int n, int64_t ns)
{
    if (n < 1 || n > COLS) return;
    double was = cost(p, n), x = (double)ns;
    bool any = false;
    for (int i = 1; i <= COLS; i++) any |= p->n_timed[i] > 0;
    /* a step that was disturbed moves the figure, but not far */
    if (any) x = fmin(fmax(x, was / 2), was * 2);
    int k = p->n_timed[n]++;
    double w = any ? fmax(1.0 / (k + 1.5), 0.125) : 1;
    p->ns[n] = was + (x - was) * w;
    if (!any) p->ns[n] = x;
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
        if (per < best) best = *per_token = per, k = j;
    }
    return k;
}

/* ---- life ---- */

int spec_rows(const spec_opt *o)
{
    return o->kind == SPEC_NONE ? 1 : (o->max ? o->max : SPEC_MAX_DEFAULT) + 1;
}

spec *spec_new(const spec_opt *o, int n_ctx, int n_vocab, dr_err *e)
{
    spec *p = mem_zalloc(1, sizeof *p);
    if (!p) {
        err_nomem(e, sizeof *p, "speculation");
        return NULL;
    }
    p->o = *o, p->n_ctx = n_ctx, p->n_vocab = n_vocab;
    if (!p->o.max) p->o.max = SPEC_MAX_DEFAULT;
    if (p->o.max < 1 || p->o.max > SPEC_MAX || p->o.min < 0 || p->o.min > p->o.max) {
        err_set(e, DR_EINVAL, "drafts of %d to %d tokens; 1 to %d are possible", p->o.min, p->o.max,
                SPEC_MAX);
        spec_free(p);
        return NULL;
    }
    believe(p);
    if (!(p->seen = ngram_new(n_ctx, e))) {
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
    (void)o, (void)e;
    spec_end(p);
    ngram_clear(p->seen);
    for (int i = 0; i < n; i++) ngram_put(p->seen, prompt[i]);
    p->now = ngram_find(p->seen);
    return DR_OK;
}

void spec_end(spec *p)
{
    sampler_free(p->smp);
    p->smp = NULL;
    p->n_made = p->at = 0;
}

void spec_took(spec *p, int32_t id)
{
    if (p->now.len) judge(&p->by_len[len_row(p->now.len)], ngram_text(p->seen)[p->now.at] == id);
    ngram_put(p->seen, id);
    p->now = ngram_find(p->seen);
}

int spec_guess(spec *p, const spec_where *w, int32_t *out)
{
    int most = w->room < p->o.max ? w->room : p->o.max, least = w->room < p->o.min ? w->room : p->o.min;
    double per;
    if (most < 1) return 0;
    /* the first steps are plain, and show what one takes */
    int k = p->n_timed[1] < 2 ? 0 : best_lookup(p, most, &per);
    if (k < least && p->now.len) k = least;
    if (k) ngram_copy(p->seen, p->now, k, out);
    return k;
}
