/* guess.c - see guess.h. */
#include "engine/guess.h"
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "gen/ngram.h"
#include "gen/step_time.h"

enum {
    LENS = 24,                      /* lookups are told apart by how many tokens agreed */
    MEMORY = 64,                    /* trials after which older ones count for less */
    CREDIT = 12,                    /* what was saved is worth as many steps at most */
    ROOM = 8192                     /* tokens of a text that are looked through */
};

typedef struct {
    uint64_t id;                    /* 0: free */
    uint64_t used;                  /* when last */
    ngram *seen;
    int n;                          /* tokens of its text that it has seen */
    ngram_match now;
} place;

struct guess {
    int min, max;
    place at[GUESS_SEQS];
    struct { double came, of; } by_len[LENS + 1];   /* decaying counts */
    step_time time;
    double account;                 /* in steps */
    uint64_t clock;
    size_t bytes;
};

guess *guess_new(int n_ctx, int min, int max, dr_err *e)
{
    guess *g = mem_zalloc(1, sizeof *g);
    if (!g) {
        err_nomem(e, sizeof *g, "guesses");
        return NULL;
    }
    int room = n_ctx < ROOM ? n_ctx : ROOM;
    g->min = min, g->max = max, g->account = 1;
    g->time.most = STEP_TIME_MAX;
    g->bytes = sizeof *g + GUESS_SEQS * ngram_bytes(room);
    /* what is believed before anything was seen: long agreements mean copying */
    for (int n = 1; n <= LENS; n++) {
        double c = n == 1 ? 0.2 : n == 2 ? 0.4 : n == 3 ? 0.55 : n < 6 ? 0.7 : n < 10 ? 0.85 : 0.93;
        g->by_len[n].came = 4 * c, g->by_len[n].of = 4;
    }
    for (int i = 0; i < GUESS_SEQS; i++)
        if (!(g->at[i].seen = ngram_new(room, e))) {
            guess_free(g);
            return NULL;
        }
    return g;
}

void guess_free(guess *g)
{
    if (!g) return;
    for (int i = 0; i < GUESS_SEQS; i++) ngram_free(g->at[i].seen);
    mem_free(g);
}

size_t guess_bytes(const guess *g) { return g ? g->bytes : 0; }

static int row(int len) { return len < LENS ? len : LENS; }

static double chance(const guess *g, int len) { return g->by_len[row(len)].came / g->by_len[row(len)].of; }

static void judge(guess *g, int len, bool came)
{
    if (g->by_len[len].of >= MEMORY) g->by_len[len].came *= 1 - 1.0 / MEMORY, g->by_len[len].of *= 1 - 1.0 / MEMORY;
    g->by_len[len].came += came, g->by_len[len].of += 1;
}

static place *find(guess *g, uint64_t id)
{
    for (int i = 0; i < GUESS_SEQS; i++)
        if (g->at[i].id == id) return &g->at[i];
    return NULL;
}

/* The place of s, brought to the end of its text. */
static place *follow(guess *g, const guess_seq *s)
{
    place *p = find(g, s->id);
    if (!p) {
        p = &g->at[0];
        for (int i = 1; i < GUESS_SEQS; i++)
            if (g->at[i].used < p->used) p = &g->at[i];
        p->id = s->id, p->n = 0, p->now.len = 0;
        ngram_clear(p->seen);
        if (s->known > ROOM) p->n = s->known - ROOM;
    }
    bool follows = p->n > 0 && s->known - p->n <= GUESS_MAX + 1;        /* not the prompt */
    for (; p->n < s->known; p->n++) {
        int32_t id = s->tok[p->n];
        if (follows && p->now.len) judge(g, row(p->now.len), ngram_text(p->seen)[p->now.at] == id);
        ngram_put(p->seen, id);
        if (follows || p->n + 1 == s->known) p->now = ngram_find(p->seen);
    }
    p->used = ++g->clock;
    return p;
}

/* The best number of guesses in all, dealt out to the most likely ones. */
static void deal(const guess *g, guess_seq *s, place *const *p, int n_seqs)
{
    double all[GUESS_SEQS];             /* that the guesses so far and one more come true */
    for (int i = 0; i < n_seqs; i++) all[i] = p[i]->now.len ? chance(g, p[i]->now.len) : 0;
    double plain = step_time_of(&g->time, n_seqs), tokens = n_seqs, best = plain / n_seqs * 0.97;
    int n[GUESS_SEQS] = { 0 };
    for (int rows = n_seqs + 1; rows <= STEP_TIME_MAX; rows++) {
        int k = -1;
        for (int i = 0; i < n_seqs; i++)
            if (n[i] < s[i].room && all[i] > 0 && (k < 0 || all[i] > all[k])) k = i;
        if (k < 0) return;
        double t = step_time_of(&g->time, rows);
        if (t > (1 + g->account) * plain) return;
        tokens += all[k];
        n[k]++;
        all[k] *= chance(g, p[k]->now.len + n[k]);
        if (t / tokens >= best) continue;
        best = t / tokens;
        for (int i = 0; i < n_seqs; i++) s[i].n = n[i];
    }
}

void guess_plan(guess *g, guess_seq *s, int n_seqs)
{
    place *p[GUESS_SEQS];
    for (int i = 0; i < n_seqs; i++) s[i].n = 0;
    if (n_seqs < 1 || n_seqs > GUESS_SEQS) return;
    for (int i = 0; i < n_seqs; i++) {
        p[i] = follow(g, &s[i]);
        if (s[i].room > g->max) s[i].room = g->max;
    }
    /* the first steps are plain, and show what one takes */
    if (g->time.n_timed[n_seqs] >= 2) deal(g, s, p, n_seqs);
    for (int i = 0; i < n_seqs && g->min; i++) {
        int least = g->min < s[i].room ? g->min : s[i].room;
        if (p[i]->now.len && s[i].n < least) s[i].n = least;
    }
}

void guess_copy(const guess *g, uint64_t id, int n, int32_t *out)
{
    const place *p = NULL;
    for (int i = 0; i < GUESS_SEQS; i++)
        if (g->at[i].id == id) p = &g->at[i];
    DR_ASSERT(p && p->now.len);
    ngram_copy(p->seen, p->now, n, out);
}

void guess_ran(guess *g, int n_seqs, int n_guesses, int tokens, int64_t ns)
{
    int rows = n_seqs + n_guesses;
    if (n_seqs > GUESS_SEQS || rows > STEP_TIME_MAX) return;
    step_time_put(&g->time, rows, ns);
    double saved = n_guesses ? (double)tokens / n_seqs - g->time.last / step_time_of(&g->time, n_seqs) : 1.0 / 50;
    g->account = fmin(g->account + saved, CREDIT);
}
