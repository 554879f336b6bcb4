/* sample.c - see sample.h.
 *
 * The work is kept away from the whole vocabulary where it can be. The candidates start as
 * "all of x[]"; steps that need an order take it from a sorted prefix that grows on demand
 * (extend), a band of logits at a time, so that a top-p cut or a draw touches the few tokens
 * that carry the mass. A candidate is a 64-bit key: logit in descending order above, id below;
 * ascending keys are therefore "best first, lowest id first", and the logit can be read back.
 *
 * Invariants during a pick: c[0..n) is sorted; while `full`, every candidate with a logit of at
 * least `floor` is in c and the others are in x only; when not full, c is the whole set. */
#include "gen/sample.h"
#include <math.h>
#include <string.h>
#include "base/half.h"
#include "base/mem.h"
#include "base/rng.h"
#include "kern/log_prob.h"

struct sampler {
    sample_opt o;
    int32_t n_vocab;
    int64_t max_history;
    float *x;               /* [padded V] logits being worked on; the padding is -inf */
    uint64_t *c, *tmp;      /* [V]; tmp [2V] with typical sampling */
    uint32_t *mark;         /* [V] counts or repeat lengths; all 0 between uses */
    int32_t *z;             /* [max_history] DRY's match lengths */
    bool *breaker;          /* [V], or NULL without DRY */
    bool shared;            /* options change: o's bias and breakers are borrowed, breaker is clear between picks */
    sample_bias *bias;
    sample_prob *top;       /* [n_probs] */
    const uint64_t *mask;   /* borrowed; NULL: every token may be chosen */
    /* one pick */
    float max;              /* best candidate's logit */
    float floor, band;
    int64_t n, room;
    bool full;
};

/* ---- exp of non-positive numbers, the same bits one at a time or four at a time ---- */

typedef float v4 __attribute__((vector_size(16)));
typedef int32_t v4i __attribute__((vector_size(16)));

/* Cody-Waite reduction and Cephes' expf polynomial; error below 2 ulp; 0 below -87. */
static inline v4 exp4(v4 a)
{
    const float magic = 12582912.0f;             /* 1.5 * 2^23: adding it rounds to integer */
    v4i tiny = a < -87.0f;
    a = (v4)((v4i)a & ~tiny);
    v4 t = a * 1.44269504088896341f + magic, k = t - magic;
    v4 r = a - k * 0.693359375f;
    r = r + k * 2.12194440e-4f;
    v4 y = r * 1.9875691500e-4f + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * (r * r) + r + 1.0f;
    v4i e = ((v4i)t - 0x4B400000 + 127) << 23;
    return (v4)((v4i)(y * (v4)e) & ~tiny);
}

static double exp1(float a)
{
    return (double)exp4((v4){ a, a, a, a })[0];
}

/* Sum of exp(x - max). Eight partial sums in f64, added in a fixed order. */
static double sum_exp(const float *x, int64_t n, float max)
{
    double s[8] = { 0 };
    for (int64_t i = 0; i < n; i += 8) {
        float in[8] = { -INFINITY, -INFINITY, -INFINITY, -INFINITY,
                        -INFINITY, -INFINITY, -INFINITY, -INFINITY };
        if (n - i >= 8) memcpy(in, x + i, sizeof in);
        else memcpy(in, x + i, (size_t)(n - i) * sizeof in[0]);
        v4 a, b;
        memcpy(&a, in, sizeof a), memcpy(&b, in + 4, sizeof b);
        a = exp4(a - max), b = exp4(b - max);
        for (int j = 0; j < 4; j++) s[j] += (double)a[j], s[4 + j] += (double)b[j];
    }
    return ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7]));
}

/* ---- candidates ---- */

static inline uint64_t key_of(float x, int32_t id)
{
    uint32_t u = f32_bits(x), down = u & 0x80000000u ? u : ~u & 0x7fffffffu;
    return (uint64_t)down << 32 | (uint32_t)id;
}

static inline float key_logit(uint64_t k)
{
    uint32_t d = (uint32_t)(k >> 32);
    return f32_from_bits(d & 0x80000000u ? d : ~d & 0x7fffffffu);
}

static inline int32_t key_id(uint64_t k) { return (int32_t)(uint32_t)k; }

/* Sort by the upper half; equal ones keep their order, which is by id already. */
static void sort_keys(uint64_t *a, int64_t n, uint64_t *tmp)
{
    if (n <= 48) {
        for (int64_t i = 1; i < n; i++) {
            uint64_t k = a[i];
            int64_t j = i;
            for (; j > 0 && a[j - 1] > k; j--) a[j] = a[j - 1];
            a[j] = k;
        }
        return;
    }
    uint64_t *from = a, *to = tmp;
    for (int shift = 32; shift < 64; shift += 8) {
        int64_t at[257] = { 0 };
        for (int64_t i = 0; i < n; i++) at[(from[i] >> shift & 255) + 1]++;
        if (at[(from[0] >> shift & 255) + 1] == n) continue;
        for (int b = 0; b < 256; b++) at[b + 1] += at[b];
        for (int64_t i = 0; i < n; i++) to[at[from[i] >> shift & 255]++] = from[i];
        uint64_t *t = from;
        from = to, to = t;
    }
    if (from != a) memcpy(a, from, (size_t)n * sizeof *a);
}

/* Tokens with a logit of at least lo. */
static int64_t count_from(const sampler *s, float lo)
{
    int64_t n = 0;
    for (int64_t i = 0; i < s->n_vocab; i += 16) {           /* x is padded to this */
        int k = 0;
        for (int j = 0; j < 16; j++) k += s->x[i + j] >= lo;
        n += k;
    }
    return n;
}

/* The lower end of the next band: not empty, and where possible not much over `room` tokens,
 * which grows, so that going deep takes few rounds. */
static float next_floor(sampler *s, int64_t had)
{
    float hi = s->floor == INFINITY ? s->max : s->floor, lo;
    do {
        lo = s->band > 300 ? -INFINITY : hi - s->band;
        s->band *= 1.5f;
    } while (lo != -INFINITY && count_from(s, lo) == had);
    for (int i = 0; i < 6 && lo != -INFINITY; i++) {
        float mid = hi - (hi - lo) / 2;
        if (mid >= hi || count_from(s, lo) <= had + s->room || count_from(s, mid) == had) break;
        lo = mid;
    }
    s->room *= 4;
    return lo;
}

/* Bring the next band of logits into the sorted prefix. False: there are no more. */
static bool extend(sampler *s)
{
    if (!s->full) return false;
    float hi = s->floor, lo;
    if (hi == -INFINITY) {
        s->full = false;
        return false;
    }
    int64_t had = s->n;
    s->floor = lo = next_floor(s, had);
    for (int64_t i = 0; i < s->n_vocab; i += 16) {
        int any = 0;
        for (int j = 0; j < 16; j++) any |= s->x[i + j] >= lo;
        if (!any) continue;
        for (int j = 0; j < 16; j++)
            if (s->x[i + j] >= lo && s->x[i + j] < hi && s->x[i + j] != -INFINITY)
                s->c[s->n++] = key_of(s->x[i + j], (int32_t)(i + j));
    }
    sort_keys(s->c + had, s->n - had, s->tmp);
    if (lo == -INFINITY) s->full = false;
    return s->n > had;
}

/* The set is every token of x, none of them sorted yet. */
static void open_set(sampler *s)
{
    s->n = 0;
    s->full = true;
    s->floor = INFINITY;
    s->band = 4;
    s->room = 512;
}

/* The set becomes the first n candidates. */
static void keep(sampler *s, int64_t n)
{
    s->n = n < s->n ? n : s->n;
    s->full = false;
}

/* Sum of exp(logit - max) over the set. */
static double mass(const sampler *s)
{
    if (s->full) return sum_exp(s->x, s->n_vocab, s->max);
    double m = 0;
    for (int64_t i = 0; i < s->n; i++) m += exp1(key_logit(s->c[i]) - s->max);
    return m;
}

/* ---- what comes first: bias, penalties, DRY ---- */

static void add_bias(sampler *s)
{
    for (int i = 0; i < s->o.n_bias; i++) s->x[s->o.bias[i].id] += s->o.bias[i].add;
}

static void add_penalties(sampler *s, const int32_t *h, int64_t n)
{
    const sample_opt *o = &s->o;
    if (o->penalty_last_n >= 0 && n > o->penalty_last_n)
        h += n - o->penalty_last_n, n = o->penalty_last_n;
    for (int64_t i = 0; i < n; i++)
        if (h[i] >= 0 && h[i] < s->n_vocab) s->mark[h[i]]++;
    for (int64_t i = 0; i < n; i++) {
        int32_t id = h[i];
        if (id < 0 || id >= s->n_vocab || !s->mark[id]) continue;
        float *x = &s->x[id];
        *x = *x < 0 ? *x * o->repeat_penalty : *x / o->repeat_penalty;
        *x -= (float)s->mark[id] * o->frequency_penalty + o->presence_penalty;
        s->mark[id] = 0;
    }
}

/* DRY ("don't repeat yourself"): a token that would continue a repetition of `len` tokens,
 * len >= allowed, loses multiplier * base^(len - allowed). Match lengths of every earlier place
 * with the end of the history come from one pass of the Z algorithm over the reversed history.
 * A repetition does not reach across a sequence breaker. */
static void add_dry(sampler *s, const int32_t *h, int64_t n)
{
    const sample_opt *o = &s->o;
    if (o->dry_last_n >= 0 && n > o->dry_last_n) h += n - o->dry_last_n, n = o->dry_last_n;
    int64_t limit = 0;
    while (limit < n && h[n - 1 - limit] >= 0 && h[n - 1 - limit] < s->n_vocab
           && !s->breaker[h[n - 1 - limit]]) limit++;
    if (limit < o->dry_allowed_length) return;
    int64_t left = 0, right = 0;                 /* the match reaching furthest: [left, right) */
    for (int64_t i = 1; i < n; i++) {
        int64_t k = i < right ? (s->z[i - left] < right - i ? s->z[i - left] : right - i) : 0;
        while (k < limit && i + k < n && h[n - 1 - k] == h[n - 1 - i - k]) k++;
        if (i + k > right) left = i, right = i + k;
        s->z[i] = (int32_t)k;
        int32_t next = h[n - i];
        if (k >= o->dry_allowed_length && next >= 0 && next < s->n_vocab
            && s->mark[next] < (uint32_t)k) s->mark[next] = (uint32_t)k;
    }
    for (int64_t i = 1; i < n; i++) {
        int32_t next = h[n - i];
        if (next < 0 || next >= s->n_vocab || !s->mark[next]) continue;
        double cost = (double)o->dry_multiplier
                    * pow(o->dry_base, (double)s->mark[next] - o->dry_allowed_length);
        if (!s->breaker[next]) s->x[next] -= cost < 1e9 ? (float)cost : 1e9f;
        s->mark[next] = 0;
    }
}

/* ---- the steps ---- */

static void step_top_k(sampler *s)
{
    int64_t k = s->o.top_k;
    if (k <= 0 || k >= s->n_vocab) return;
    while (s->n < k && extend(s)) { }
    keep(s, k);
}

/* Keep a token when the mass of those before it is below top_p of the whole. */
static void step_top_p(sampler *s)
{
    if (s->o.top_p >= 1) return;
    double want = mass(s) * (double)s->o.top_p, before = 0;
    int64_t i = 0;
    while (i < s->n || extend(s)) {
        if (i && before >= want) break;
        before += exp1(key_logit(s->c[i++]) - s->max);
    }
    keep(s, i);
}

static void step_min_p(sampler *s)
{
    if (s->o.min_p <= 0) return;
    int64_t i = 0;
    while (i < s->n || extend(s)) {
        if (i && exp1(key_logit(s->c[i]) - s->max) < (double)s->o.min_p) break;
        i++;
    }
    keep(s, i);
}

/* Locally typical sampling: tokens by how far their surprise is from the entropy, until they
 * carry typical_p. Needs the whole distribution. Ref: Meister et al. 2023, arXiv 2202.00666. */
static void step_typical(sampler *s)
{
    if (s->o.typical_p >= 1) return;
    while (extend(s)) { }
    double total = mass(s), h = 0, log_total = log(total);
    for (int64_t i = 0; i < s->n; i++) {
        float d = key_logit(s->c[i]) - s->max;
        h += exp1(d) / total * (log_total - (double)d);
    }
    uint64_t *by = s->tmp;
    for (int64_t i = 0; i < s->n; i++) {
        double far = fabs(log_total - (double)(key_logit(s->c[i]) - s->max) - h);
        by[i] = (uint64_t)f32_bits((float)far) << 32 | (uint32_t)i;
    }
    uint64_t *scratch = s->tmp + s->n_vocab;
    sort_keys(by, s->n, scratch);
    double sum = 0;
    int64_t n = 0;
    while (n < s->n) {
        sum += exp1(key_logit(s->c[(uint32_t)by[n++]]) - s->max);
        if (sum >= total * (double)s->o.typical_p) break;
    }
    while (n < s->n && by[n] >> 32 == by[n - 1] >> 32) n++;    /* ties stay together */
    for (int64_t i = 0; i < n; i++) s->mark[(uint32_t)by[i]] = 1;
    int64_t m = 0;
    for (int64_t i = 0; i < s->n; i++) {
        if (s->mark[i]) s->c[m++] = s->c[i];
        s->mark[i] = 0;
    }
    s->n = m;
    s->max = key_logit(s->c[0]);
}

/* Exclude top choices: now and then drop all but the least likely of the tokens that reach the
 * threshold. */
static void step_xtc(sampler *s, double u)
{
    if (s->o.xtc_probability <= 0 || s->o.xtc_threshold > 0.5f) return;
    if (u >= (double)s->o.xtc_probability) return;
    double want = mass(s) * (double)s->o.xtc_threshold;
    int64_t reach = 0;
    while ((reach < s->n || extend(s)) && exp1(key_logit(s->c[reach]) - s->max) >= want) reach++;
    if (reach < 2) return;
    while (extend(s)) { }
    s->n -= reach - 1;
    memmove(s->c, s->c + reach - 1, (size_t)s->n * sizeof *s->c);
    s->max = key_logit(s->c[0]);
}

/* Division, not a product with 1/t: the bits that transformers has. While the set is full the
 * sorted prefix is dropped: two logits on either side of `floor` could become equal. */
static void step_temperature(sampler *s)
{
    float t = s->o.temperature;
    if (t == 1) return;
    if (s->full) {
        for (int64_t i = 0; i < s->n_vocab; i += 16)
            for (int j = 0; j < 16; j++) s->x[i + j] /= t;
        open_set(s);
    } else {
        for (int64_t i = 0; i < s->n; i++)
            s->c[i] = key_of(key_logit(s->c[i]) / t, key_id(s->c[i]));
    }
    s->max /= t;
}

/* ---- one pick ---- */

/* The best of x; DR_EINVAL with the reason when no token can be chosen. */
static int best_of(const float *x, int64_t n, float *max, int32_t *id, dr_err *e)
{
    float m[16];
    int bad = 0;
    for (int j = 0; j < 16; j++) m[j] = -INFINITY;
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int j = 0; j < 16; j++) {
            m[j] = x[i + j] > m[j] ? x[i + j] : m[j];
            bad |= x[i + j] != x[i + j];
        }
    for (; i < n; i++) {
        m[0] = x[i] > m[0] ? x[i] : m[0];
        bad |= x[i] != x[i];
    }
    for (int j = 1; j < 16; j++) m[0] = m[j] > m[0] ? m[j] : m[0];
    int64_t at = 0;
    if (bad) {
        while (x[at] == x[at]) at++;
        return err_set(e, DR_EINVAL, "the logit of token %lld is NaN", (long long)at);
    }
    if (m[0] == -INFINITY)
        return err_set(e, DR_EINVAL, "every token is excluded: all logits are -inf");
    while (x[at] != m[0]) at++;
    if (m[0] == INFINITY)
        return err_set(e, DR_EINVAL, "the logit of token %lld is infinite", (long long)at);
    *max = m[0];
    *id = (int32_t)at;
    return DR_OK;
}

static void apply_mask(sampler *s)
{
    for (int64_t i = 0; i < s->n_vocab; i += 64) {
        uint64_t w = s->mask[i >> 6];
        int64_t n = s->n_vocab - i < 64 ? s->n_vocab - i : 64;
        if (w == UINT64_MAX) continue;
        for (int64_t j = 0; j < n; j++) s->x[i + j] = w >> j & 1 ? s->x[i + j] : -INFINITY;
    }
}

static void mark_breakers(sampler *s, bool to)
{
    const sample_opt *o = &s->o;
    for (int64_t i = 0; i < o->n_dry_breakers; i++)
        if (o->dry_breakers[i] >= 0 && o->dry_breakers[i] < s->n_vocab)
            s->breaker[o->dry_breakers[i]] = to;
}

/* Mask, bias, penalties and DRY into x, and a fresh full set. */
static int start(sampler *s, const float *logits, const int32_t *h, int64_t n, int32_t *best,
                 dr_err *e)
{
    const sample_opt *o = &s->o;
    if (n > s->max_history) h += n - s->max_history, n = s->max_history;
    for (int64_t i = 0; i < s->n_vocab; i++) s->x[i] = logits[i] + 0.0f;      /* -0 is 0 */
    if (s->mask) apply_mask(s);
    add_bias(s);
    if (o->repeat_penalty != 1 || o->presence_penalty != 0 || o->frequency_penalty != 0)
        add_penalties(s, h, n);
    if (o->dry_multiplier > 0) {
        if (s->shared) mark_breakers(s, true);
        add_dry(s, h, n);
        if (s->shared) mark_breakers(s, false);
    }
    open_set(s);
    return best_of(s->x, s->n_vocab, &s->max, best, e);
}

static void run_steps(sampler *s, double u_xtc)
{
    for (int i = 0; i < SAMPLE_N && s->o.order[i] != SAMPLE_END; i++) {
        switch (s->o.order[i]) {
        case SAMPLE_TOP_K: step_top_k(s); break;
        case SAMPLE_TYPICAL: step_typical(s); break;
        case SAMPLE_TOP_P: step_top_p(s); break;
        case SAMPLE_MIN_P: step_min_p(s); break;
        case SAMPLE_XTC: step_xtc(s, u_xtc); break;
        case SAMPLE_TEMPERATURE: step_temperature(s); break;
        default: break;
        }
    }
}

static double unit(uint32_t hi, uint32_t lo)
{
    return (double)(((uint64_t)hi << 32 | lo) >> 11) * 0x1p-53;
}

/* Walk the candidates, best first, until their mass passes u of the whole. */
static int32_t draw(sampler *s, double u)
{
    double target = u * mass(s), sum = 0;
    int64_t i = 0;
    int32_t id = -1;
    while (i < s->n || extend(s)) {
        double p = exp1(key_logit(s->c[i]) - s->max);
        if (p > 0 || id < 0) id = key_id(s->c[i]);
        sum += p, i++;
        if (sum > target) break;
    }
    return id;
}

/* The chosen token's log-probability and the best n, from the raw logits. */
static void report_raw(sampler *s, const float *logits, sample_result *r)
{
    int64_t n = s->o.n_probs, have = 0;
    float max;
    double sum = exp_sum_plain(NULL, logits, s->n_vocab, &max);
    float least = -INFINITY;
    for (int32_t i = 0; n && i < s->n_vocab; i++) {
        float x = logits[i];
        if (have == n && x <= least) continue;
        int64_t j = have < n ? have++ : n - 1;
        for (; j > 0 && s->top[j - 1].logprob < x; j--) s->top[j] = s->top[j - 1];
        s->top[j] = (sample_prob){ i, x };
        least = s->top[have - 1].logprob;
    }
    for (int64_t j = 0; j < have; j++)
        s->top[j].logprob = (float)log_prob_of(s->top[j].logprob, max, sum);
    r->logprob = (float)log_prob_of(logits[r->id], max, sum);
    r->top = s->top;
    r->n_top = (int)have;
}

/* The same of the filtered distribution. */
static void report_filtered(sampler *s, sample_result *r)
{
    double log_total = (double)s->max + log(mass(s));
    while (s->n < s->o.n_probs && extend(s)) { }
    int64_t n = s->o.n_probs < s->n ? s->o.n_probs : s->n;
    for (int64_t j = 0; j < n; j++)
        s->top[j] = (sample_prob){ key_id(s->c[j]),
                                   (float)((double)key_logit(s->c[j]) - log_total) };
    r->top = s->top;
    r->n_top = (int)n;
    r->logprob = 0;
    for (int64_t j = 0; j < s->n || extend(s); j++) {
        if (key_id(s->c[j]) != r->id) continue;
        r->logprob = (float)((double)key_logit(s->c[j]) - log_total);
        break;
    }
}

void sampler_mask(sampler *s, const uint64_t *mask) { s->mask = mask; }

int sampler_pick(sampler *s, const float *logits, const int32_t *history, int64_t n_history,
                 uint64_t sample, uint64_t pos, sample_result *r, dr_err *e)
{
    *r = (sample_result){ .id = -1 };
    float raw_max = 0;
    int32_t best = -1;
    int rc = DR_OK;
    if (s->o.logprobs && !s->o.probs_after_filters) {
        rc = best_of(logits, s->n_vocab, &raw_max, &best, e);
        if (rc) return rc;
    }
    rc = start(s, logits, history, n_history, &best, e);
    if (rc) return rc;
    if (s->o.temperature == 0) {
        r->id = best;
        if (s->o.probs_after_filters) {
            s->c[0] = key_of(s->max, best);
            s->n = 1, s->full = false;
        }
    } else {
        uint32_t w[4];
        rng_philox(w, s->o.seed, sample, pos);
        run_steps(s, unit(w[2], w[3]));
        r->id = draw(s, unit(w[0], w[1]));           /* unit(w0, w1) is rng_uniform's */
    }
    if (s->o.logprobs) {
        if (s->o.probs_after_filters) report_filtered(s, r);
        else report_raw(s, logits, r);
    }
    return DR_OK;
}

int sampler_probs(sampler *s, const float *logits, const int32_t *history, int64_t n_history,
                  uint64_t sample, uint64_t pos, double *p, dr_err *e)
{
    int32_t best;
    int rc = start(s, logits, history, n_history, &best, e);
    if (rc) return rc;
    for (int64_t i = 0; i < s->n_vocab; i++) p[i] = 0;
    if (s->o.temperature == 0) {
        p[best] = 1;
        return DR_OK;
    }
    uint32_t w[4];
    rng_philox(w, s->o.seed, sample, pos);
    run_steps(s, unit(w[2], w[3]));
    double total = mass(s);
    while (extend(s)) { }
    for (int64_t i = 0; i < s->n; i++)
        p[key_id(s->c[i])] = exp1(key_logit(s->c[i]) - s->max) / total;
    return DR_OK;
}

/* ---- life ---- */

static bool workspace(sampler *s, const sample_opt *o)
{
    size_t v = (size_t)s->n_vocab, padded = (v + 15) / 16 * 16;
    bool typical = o->typical_p < 1, dry = o->dry_multiplier > 0;
    s->x = mem_aligned(padded * sizeof *s->x);
    s->c = mem_alloc(v * sizeof *s->c);
    s->tmp = mem_alloc(v * sizeof *s->tmp * (typical ? 2 : 1));
    s->mark = mem_zalloc(v, sizeof *s->mark);
    s->bias = mem_alloc((size_t)o->n_bias * sizeof *s->bias);
    s->top = mem_alloc((size_t)o->n_probs * sizeof *s->top);
    if (!s->x || !s->c || !s->tmp || !s->mark || !s->bias || !s->top) return false;
    for (size_t i = v; i < padded; i++) s->x[i] = -INFINITY;
    if (o->n_bias) memcpy(s->bias, o->bias, (size_t)o->n_bias * sizeof *s->bias);
    if (!dry) return true;
    s->z = mem_alloc((size_t)s->max_history * sizeof *s->z);
    s->breaker = mem_zalloc(v, sizeof *s->breaker);
    return s->z && s->breaker;
}

sampler *sampler_new(const sample_opt *o, int32_t n_vocab, int64_t max_history, dr_err *e)
{
    if (n_vocab <= 0 || max_history < 0 || max_history > INT32_MAX) {
        err_set(e, DR_EINVAL, "a sampler over %d tokens and a history of %lld", (int)n_vocab,
                (long long)max_history);
        return NULL;
    }
    if (sample_opt_check(o, n_vocab, e)) return NULL;
    sampler *s = mem_zalloc(1, sizeof *s);
    if (!s) {
        err_nomem(e, sizeof *s, "the sampler");
        return NULL;
    }
    s->o = *o;
    s->n_vocab = n_vocab;
    s->max_history = max_history;
    if (!workspace(s, o)) {
        sampler_free(s);
        err_nomem(e, (size_t)n_vocab * 24, "the sampler");
        return NULL;
    }
    if (s->breaker) mark_breakers(s, true);
    s->o.bias = s->bias;
    s->o.dry_breakers = NULL;
    return s;
}

sampler *sampler_new_shared(int32_t n_vocab, int64_t max_history, int n_probs, dr_err *e)
{
    sample_opt o = sample_opt_default();
    o.typical_p = 0.5f, o.dry_multiplier = 1, o.logprobs = true, o.n_probs = n_probs;
    sampler *s = sampler_new(&o, n_vocab, max_history, e);
    if (s) s->shared = true;
    return s;
}

void sampler_use(sampler *s, const sample_opt *o, const uint64_t *mask)
{
    DR_ASSERT(s->shared);
    s->o = *o;
    s->mask = mask;
}

int sampler_report(sampler *s, const float *logits, int32_t id, sample_result *r, dr_err *e)
{
    float max;
    int32_t best;
    *r = (sample_result){ .id = id };
    int rc = best_of(logits, s->n_vocab, &max, &best, e);
    if (!rc) report_raw(s, logits, r);
    return rc;
}

void sampler_free(sampler *s)
{
    if (!s) return;
    mem_free(s->x);
    mem_free(s->c);
    mem_free(s->tmp);
    mem_free(s->mark);
    mem_free(s->z);
    mem_free(s->breaker);
    mem_free(s->bias);
    mem_free(s->top);
    mem_free(s);
}
