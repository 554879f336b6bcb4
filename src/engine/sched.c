/* sched.c - see sched.h. Waiting turns are in one list for each tenant, by priority, then age. */
#include "engine/sched.h"
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "dev/dev.h"

/* What a generated token counts in served against a prompt's: it takes a step's time where a prompt's is
 * one of many rows. The weights of "Fairness in Serving Large Language Models" (Sheng et al. 2024). */
static const double GENERATED = 2;
enum { MIXED_MIN = 64, RETRY_MAX = 300 };

int turns_init(turns *s, const turns_opt *o, dr_err *e)
{
    if (o->max_running < 1 || o->step_rows < o->max_running || o->max_waiting < 0 || o->n_pages < 1)
        return err_set(e, DR_EINVAL, "a schedule of %d sequences in steps of %d rows, %d waiting, with "
                       "%lld pages", o->max_running, o->step_rows, o->max_waiting,
                       (long long)o->n_pages);
    *s = (turns){ .o = *o };
    s->run = mem_zalloc((size_t)o->max_running, sizeof *s->run);
    if (!s->run) return err_nomem(e, (size_t)o->max_running * sizeof *s->run, "the schedule");
    for (int i = 0; i < TURN_TENANTS; i++) s->t[i].weight = 1;
    return DR_OK;
}

void turns_free(turns *s)
{
    mem_free(s->run);
    *s = (turns){0};
}

static turn_tenant *know(turns *s, int tenant)
{
    DR_ASSERT(tenant >= 0 && tenant < TURN_TENANTS);
    turn_tenant *t = &s->t[tenant];
    if (!t->known) s->n_tenants++;
    t->known = true;
    return t;
}

void turns_weight(turns *s, int tenant, double weight)
{
    DR_ASSERT(weight > 0 && isfinite(weight));
    know(s, tenant)->weight = weight;
}

/* ---- lists ---- */

static bool goes_before(const turn *a, const turn *b)
{
    if (a->priority != b->priority) return a->priority > b->priority;
    if (a->arrived_ns != b->arrived_ns) return a->arrived_ns < b->arrived_ns;
    return a->number < b->number;
}

static void line_up(turns *s, turn *q)
{
    turn_tenant *t = &s->t[q->tenant];
    turn *after = t->last;
    while (after && goes_before(q, after)) after = after->prev;
    q->prev = after;
    q->next = after ? after->next : t->first;
    if (q->next) q->next->prev = q;
    else t->last = q;
    if (after) after->next = q;
    else t->first = q;
    q->state = TURN_WAITING;
    t->waiting++;
    s->n_wait++;
    if (!q->extra) {
        t->requests++;
        s->n_requests++;
    }
}

static void leave_line(turns *s, turn *q)
{
    turn_tenant *t = &s->t[q->tenant];
    if (q->prev) q->prev->next = q->next;
    else t->first = q->next;
    if (q->next) q->next->prev = q->prev;
    else t->last = q->prev;
    q->next = q->prev = NULL;
    t->waiting--;
    s->n_wait--;
    if (!q->extra) {
        t->requests--;
        s->n_requests--;
    }
}

static void stop_running(turns *s, turn *q)
{
    s->run[q->at] = s->run[--s->n_run];
    s->run[q->at]->at = q->at;
    s->t[q->tenant].running--;
    q->rows = 0;
}

static bool active(const turn_tenant *t) { return t->waiting + t->running > 0; }

/* A tenant that comes back has saved nothing up: it begins level with the least served of the others. */
void turns_add(turns *s, turn *q)
{
    DR_ASSERT(q->state == TURN_NONE && q->len < q->known);
    turn_tenant *t = know(s, q->tenant);
    if (!active(t)) {
        double least = INFINITY;
        for (int i = 0; i < TURN_TENANTS; i++)
            if (active(&s->t[i])) least = fmin(least, s->t[i].served);
        t->served = fmax(t->served, isinf(least) ? s->idle_served : least);
    }
    q->number = s->number++;
    q->n_preempted = q->rows = 0;
    line_up(s, q);
}

void turns_remove(turns *s, turn *q)
{
    if (q->state == TURN_NONE) return;
    if (q->state == TURN_WAITING) leave_line(s, q);
    else stop_running(s, q);
    q->state = TURN_NONE;
    if (!active(&s->t[q->tenant])) s->idle_served = s->t[q->tenant].served;
}

void turns_back(turns *s, turn *q)
{
    DR_ASSERT(q->state == TURN_RUNNING);
    stop_running(s, q);
    q->n_preempted++;
    line_up(s, q);
}

turn *turns_expired(const turns *s, int64_t now_ns)
{
    for (int i = 0; i < s->n_run; i++)
        if (s->run[i]->deadline_ns && s->run[i]->deadline_ns <= now_ns) return s->run[i];
    for (int i = 0; i < TURN_TENANTS; i++)
        for (turn *q = s->t[i].first; q; q = q->next)
            if (q->deadline_ns && q->deadline_ns <= now_ns) return q;
    return NULL;
}

/* ---- room ---- */

bool turns_room(const turns *s, int tenant, int *retry_s)
{
    const turn_tenant *t = &s->t[tenant];
    int left = s->o.max_waiting + s->o.max_running - s->n_run - s->n_requests;
    bool room = left > 0;
    int known = s->n_tenants + !t->known;
    if (room && known > 1) {
        /* As many as are left free for others (Choudhury and Hahne's dynamic thresholds), by weight. */
        double sum = t->known ? 0 : t->weight;
        for (int i = 0; i < TURN_TENANTS; i++)
            if (s->t[i].known) sum += s->t[i].weight;
        room = t->requests < left * (t->weight * known / sum);
    }
    if (room) return true;
    double work = 0;
    for (int i = 0; i < TURN_TENANTS; i++)
        for (const turn *q = s->t[i].first; q; q = q->next) work += q->known - q->len + s->gen_mean;
    double wait = s->rows_s > 0 && s->n_wait ? work / s->rows_s / s->n_wait : 1;   /* until one has left */
    *retry_s = (int)fmin(fmax(ceil(wait), 1), RETRY_MAX);
    return false;
}

/* ---- who is next ---- */

static int common(const int32_t *a, const int32_t *b, int n)
{
    int k = 0;
    while (k < n && a[k] == b[k]) k++;
    return k;
}

/* Somebody is evaluating at least a page of q's prompt that q would have to evaluate itself now. */
static bool held(const turns *s, const turn *q)
{
    if (q->root < 0) return false;
    int match = -1;
    for (int i = 0; i < s->n_run; i++) {
        const turn *r = s->run[i];
        if (r->root != q->root || r->stalled || r->known - r->len <= 1) continue;
        int n = r->known < q->known ? r->known : q->known;
        if (n - r->len < 1) continue;
        int same = common(r->tok, q->tok, n);
        if (same <= r->len) continue;
        if (match < 0) match = s->o.match(s->o.arg, q);
        if (same - match >= KV_PAGE) return true;
    }
    return false;
}

/* The next to be admitted, if there were room. */
static turn *pick(const turns *s)
{
    bool tried[TURN_TENANTS] = { false };
    for (;;) {
        int k = -1;
        for (int i = 0; i < TURN_TENANTS; i++) {
            const turn_tenant *t = &s->t[i];
            if (!t->first || tried[i]) continue;
            if (k < 0 || t->served < s->t[k].served ||
                (t->served == s->t[k].served && goes_before(t->first, s->t[k].first))) k = i;
        }
        if (k < 0) return NULL;
        tried[k] = true;
        for (turn *q = s->t[k].first; q; q = q->next)
            if (!q->stalled && !held(s, q)) return q;
    }
}

/* Pages that those who run need until their prompts are evaluated and their next row has its place. */
static int64_t promised(const turns *s)
{
    int64_t sum = 0;
    for (int i = 0; i < s->n_run; i++) sum += s->o.need(s->o.arg, s->run[i], s->run[i]->known);
    return sum;
}

/* Pages for all of q's tokens and some to go on with: one, and twice as many each time it had to
 * give all back, so that it does not come back only to leave again. */
static int64_t wanted(const turns *s, const turn *q)
{
    int64_t ahead = (int64_t)KV_PAGE << (q->n_preempted < 24 ? q->n_preempted : 24);
    int64_t upto = q->known + ahead < q->max_len ? q->known + ahead : q->max_len;
    if (upto < q->known) upto = q->known;
    int64_t n = s->o.need(s->o.arg, q, (int)upto);
    /* What is more than everything would never come: alone, it may begin with what there is. */
    if (!s->n_run && n > s->o.n_pages) n = s->o.need(s->o.arg, q, q->known);
    return n;
}

static bool fits(const turns *s, const turn *q, int64_t pages)
{
    return s->n_run < s->o.max_running && promised(s) + wanted(s, q) <= pages;
}

turn *turns_admit(turns *s, int64_t pages)
{
    if (!s->n_wait || s->n_run == s->o.max_running) return NULL;
    turn *q = pick(s);
    if (!q || !fits(s, q, pages)) return NULL;
    leave_line(s, q);
    q->state = TURN_RUNNING;
    q->rows = 0;
    q->at = s->n_run;
    s->run[s->n_run++] = q;
    s->t[q->tenant].running++;
    return q;
}

/* ---- who gives its memory back ---- */

static int64_t pages_of(const turn *q) { return (q->len + KV_PAGE - 1) / KV_PAGE; }

/* What a tenant has of the slots or of the pages, whichever is more, by weight; with q more or less. */
static double share(const turns *s, int tenant, const turn *q, int sign)
{
    int64_t slots = s->t[tenant].running, pages = 0;
    for (int i = 0; i < s->n_run; i++)
        if (s->run[i]->tenant == tenant) pages += pages_of(s->run[i]);
    if (q) {
        slots += sign;
        pages += sign * (sign > 0 ? (q->known + KV_PAGE - 1) / KV_PAGE : pages_of(q));
    }
    double a = (double)slots / s->o.max_running, b = (double)pages / (double)s->o.n_pages;
    return fmax(a, b) / s->t[tenant].weight;
}

/* The last in order of those of a tenant that run. */
static turn *last_of(const turns *s, int tenant)
{
    turn *v = NULL;
    for (int i = 0; i < s->n_run; i++)
        if (s->run[i]->tenant == tenant && (!v || goes_before(v, s->run[i]))) v = s->run[i];
    return v;
}

static turn *stalled_one(const turns *s)
{
    turn *v = NULL;
    for (int i = 0; i < s->n_run; i++)
        if (s->run[i]->stalled && (!v || goes_before(v, s->run[i]))) v = s->run[i];
    return v;
}

/* Those who run cannot all go on. The tenant with the largest share gives. */
static turn *for_memory(const turns *s)
{
    turn *v = stalled_one(s);
    if (v || s->n_run < 2) return v;
    int k = -1;
    double most = -1;
    for (int i = 0; i < TURN_TENANTS; i++) {
        if (!s->t[i].running) continue;
        double x = share(s, i, NULL, 0);
        if (x > most) {
            most = x;
            k = i;
        }
    }
    return last_of(s, k);
}

/* c is next and does not fit. */
static turn *for_another(const turns *s, const turn *c)
{
    turn *v = stalled_one(s);
    if (v) return v;
    v = last_of(s, c->tenant);
    if (v && v->priority < c->priority) return v;
    int k = -1;
    double most = -1;
    for (int i = 0; i < TURN_TENANTS; i++) {
        if (!s->t[i].running || i == c->tenant) continue;
        double x = share(s, i, last_of(s, i), -1);
        if (x > most) {
            most = x;
            k = i;
        }
    }
    return k >= 0 && most >= share(s, c->tenant, c, 1) ? last_of(s, k) : NULL;
}

turn *turns_preempt(turns *s, int64_t pages)
{
    int64_t next = 0;
    for (int i = 0; i < s->n_run; i++)
        if (!s->run[i]->stalled) next += s->o.need(s->o.arg, s->run[i], s->run[i]->len + 1);
    if (next > pages) return for_memory(s);
    if (!s->n_wait || !s->n_run) return NULL;
    const turn *c = pick(s);
    return !c || fits(s, c, pages) ? NULL : for_another(s, c);
}

/* ---- the step ---- */

static int todo(const turn *q) { return q->known - q->len; }

/* Give q up to n rows more, as far as pages allow. */
static int grant(turns *s, turn *q, int n, int64_t *pages)
{
    int64_t had = q->rows ? s->o.need(s->o.arg, q, q->len + q->rows) : 0;
    int most = q->max_len - q->len - q->rows;
    if (n > most) n = most;
    while (n > 0) {
        int64_t more = s->o.need(s->o.arg, q, q->len + q->rows + n) - had;
        if (more <= *pages) {
            *pages -= more;
            q->rows += n;
            return n;
        }
        n -= (q->len + q->rows + n - 1) % KV_PAGE + 1;      /* one page less */
    }
    return 0;
}

/* Rows of prompts: to the least served tenant first, then by order; what a tenant gets counts at once. A
 * long prompt leaves a quarter to those that end in this step, so that a short one need not wait for it. */
static int prompts(turns *s, int room, int64_t *pages)
{
    double served[TURN_TENANTS];
    int short_rows = 0, done = 0;
    for (int i = 0; i < TURN_TENANTS; i++) served[i] = s->t[i].served;
    for (int i = 0; i < s->n_run; i++) {
        const turn *q = s->run[i];
        if (!q->stalled && todo(q) > 1 && todo(q) <= room / 4) short_rows += todo(q);
    }
    int kept = short_rows < room / 4 ? short_rows : room / 4;
    for (int pass = 0; pass < 2 && done < room; pass++)
        for (;;) {
            turn *best = NULL;
            for (int i = 0; i < s->n_run; i++) {
                turn *q = s->run[i];
                if (q->stalled || todo(q) <= 1 || q->rows || (!pass && todo(q) <= kept)) continue;
                double a = served[q->tenant], b = best ? served[best->tenant] : INFINITY;
                if (!best || a < b || (a == b && goes_before(q, best))) best = q;
            }
            if (!best) break;
            int left = room - done - (pass ? 0 : kept);
            int got = grant(s, best, todo(best) < left ? todo(best) : left, pages);
            if (!got) break;
            served[best->tenant] += got / s->t[best->tenant].weight;
            done += got;
        }
    return done;
}

int turns_step(turns *s, int64_t pages)
{
    int rows = 0, decoding = 0;
    for (int i = 0; i < s->n_run; i++) s->run[i]->rows = 0;
    for (int i = 0; i < s->n_run; i++) {
        turn *q = s->run[i];
        if (q->stalled || todo(q) > 1) continue;
        rows += grant(s, q, 1, &pages);
        decoding++;
    }
    int limit = s->o.step_rows;
    if (decoding && s->o.mixed_s > 0 && s->row_s > 0) {
        double n = s->o.mixed_s / s->row_s;
        if (n < limit) limit = n < MIXED_MIN + rows ? MIXED_MIN + rows : (int)n;
        if (limit > s->o.step_rows) limit = s->o.step_rows;
    }
    int free_rows = limit - rows;
    rows += prompts(s, free_rows, &pages);
    /* Guesses get what is left. */
    for (int i = 0; i < s->n_run && rows < limit; i++) {
        turn *q = s->run[i];
        if (!q->rows || todo(q) > 1 || q->guesses <= 0) continue;
        rows += grant(s, q, q->guesses < limit - rows ? q->guesses : limit - rows, &pages);
    }
    return rows;
}

/* ---- what happened ---- */

void turns_ran(turns *s, turn *q, int prompt_rows, int generated)
{
    turn_tenant *t = &s->t[q->tenant];
    t->served += (prompt_rows + GENERATED * generated) / t->weight;
}

void turns_took(turns *s, int rows, int64_t ns)
{
    if (rows < 1 || ns < 1) return;
    double sec = (double)ns * 1e-9;
    /* Seconds of a row from steps that are large enough for rows to be what counts. */
    if (rows >= MIXED_MIN) s->row_s = s->row_s > 0 ? s->row_s + 0.2 * (sec / rows - s->row_s) : sec / rows;
    /* Rows in a second, each second counting as much as the last ones. */
    double a = 1 - exp(-sec);
    s->rows_s = s->rows_s > 0 ? s->rows_s + a * (rows / sec - s->rows_s) : rows / sec;
}

void turns_ended(turns *s, int generated)
{
    s->gen_mean += (s->gen_mean > 0 ? 0.05 : 1) * (generated - s->gen_mean);
}
