/* matcher.c - a compiled grammar walked byte by byte and token by token. See grammar.h.
 *
 * A state is one configuration (node, frame), or a set of them in `set`. A frame is where to go on
 * when a rule ends; frames form a tree, each is kept once. Configurations are closed: calls are
 * entered and ends of rules are left, so that only nodes with byte edges, and the end, remain.
 *
 * Nothing is allocated after matcher_new. When a pool is full, what no position needs is dropped;
 * steps that were cached are forgotten and made again. */
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "gen/gram_priv.h"

enum {
    FRAMES = 1 << 17, FRAME_SLOTS = 1 << 18, CONFIGS = 1 << 18, SETS = 1 << 14,
    SET_SLOTS = 1 << 15, MEMO = 1 << 16, MAX_CONFIGS = 256, MAX_WORK = 1024,
    ROW_BYTES = 16 << 20,
    MASKS = 32, KEEP_FROM = 4000        /* nodes of the vocabulary that a walk visits */
};
typedef uint64_t state;             /* a configuration: frame << 32 | node; a set: IS_SET | number */
#define IS_SET ((uint64_t)1 << 31)
#define DEAD ((state)0)
#define UNKNOWN ((state)0)          /* in a row; there the dead state is: */
#define ROW_DEAD UINT64_MAX
#define PLAIN_CALL UINT32_MAX

typedef struct {
    uint32_t parent, call, count;   /* call: PLAIN_CALL, or a counted one with count rounds done */
    uint32_t target;                /* node to go on at */
    uint32_t rest, fresh;           /* tokens after this round; and with this round not begun */
    uint32_t depth;
} frame;
typedef struct { uint32_t at, n, need; bool done, live; } cset;

typedef struct { state of; uint32_t most; int n_text; int32_t only; } kept_mask;

struct matcher {
    const grammar *c;
    frame *frame;
    uint32_t n_frame, *frame_slot;
    state *cfg;                     /* configurations of all sets */
    uint32_t n_cfg;
    cset *set;
    uint32_t n_set, max_set, *set_slot;
    state *row;                     /* (max_set, n_cls) */
    struct { state from, to; } *memo;
    bool full, ambiguous;
    state pos[MATCHER_POSITIONS];
    bool used[MATCHER_POSITIONS];
    state work[MAX_WORK];
    uint32_t *moved;                /* (FRAMES,) while compacting */
    kept_mask kept[MASKS];          /* of: 0 is none; valid while more than `most` tokens are left */
    uint64_t *masks;                /* (MASKS, words) */
    size_t row_bytes;
};

static uint64_t mix(uint64_t h)
{
    h *= 0x9e3779b97f4a7c15u, h ^= h >> 29, h *= 0xbf58476d1ce4e5b9u;
    return h ^ h >> 32;
}

static inline uint32_t node_of(state s) { return (uint32_t)s; }
static inline uint32_t frame_of(state s) { return (uint32_t)(s >> 32); }
static inline state config(uint32_t node, uint32_t f) { return (state)f << 32 | node; }
static inline bool is_set(state s) { return s & IS_SET; }
static inline cset *set_of(const matcher *m, state s) { return &m->set[(uint32_t)(s & (IS_SET - 1))]; }

/* ---- frames */

static uint32_t sum(uint32_t a, uint32_t b) { return a + b < GRAM_FAR ? a + b : GRAM_FAR; }

static uint64_t frame_hash(const frame *f)
{
    return mix(((uint64_t)f->parent << 32 | f->target) ^ mix((uint64_t)f->call << 32 | f->count));
}

/* The frame on `parent` that goes on at `target`; 0: none (too deep, or the pool is full). */
static uint32_t frame_make(matcher *m, uint32_t parent, uint32_t call, uint32_t count,
                           uint32_t target, uint32_t start)
{
    const grammar *c = m->c;
    frame f = { .parent = parent, .call = call, .count = count, .target = target };
    f.depth = m->frame[parent].depth + 1;
    if (f.depth + c->height[start] > GRAM_MAX_DEPTH ||
        f.depth - 1 + c->height[target] > GRAM_MAX_DEPTH) return 0;
    uint64_t at = frame_hash(&f);
    for (uint32_t i; (i = m->frame_slot[at & (FRAME_SLOTS - 1)]); at++) {
        const frame *o = &m->frame[i];
        if (o->parent == parent && o->call == call && o->count == count && o->target == target)
            return i;
    }
    if (m->n_frame == FRAMES) {
        m->full = true;
        return 0;
    }
    uint32_t after = sum(c->tokens[target], m->frame[parent].rest);
    f.rest = after, f.fresh = GRAM_FAR;
    if (call != PLAIN_CALL) {
        f.rest = sum(after, call_rest(c, &c->call[call], count + 1));
        if (c->call[call].flags & CALL_CHARS) f.fresh = sum(after, call_rest(c, &c->call[call], count));
    }
    m->frame[m->n_frame] = f;
    m->frame_slot[at & (FRAME_SLOTS - 1)] = m->n_frame;
    return m->n_frame++;
}

/* Tokens that finish the text from one configuration. */
static inline uint32_t config_need(const matcher *m, state s)
{
    const frame *f = &m->frame[frame_of(s)];
    if (f->fresh != GRAM_FAR && f->call != PLAIN_CALL && m->c->call[f->call].start == node_of(s))
        return f->fresh < sum(m->c->tokens[node_of(s)], f->rest)
                   ? f->fresh : sum(m->c->tokens[node_of(s)], f->rest);
    return sum(m->c->tokens[node_of(s)], f->rest);
}

static inline uint32_t need_of(const matcher *m, state s)
{
    return is_set(s) ? set_of(m, s)->need : config_need(m, s);
}

static inline bool done_of(const matcher *m, state s)
{
    return is_set(s) ? set_of(m, s)->done : node_of(s) == NODE_END;
}

/* ---- closing configurations */

/* Put a configuration into work[0..n) unless it is there. */
static int put(matcher *m, int n, state s)
{
    for (int i = 0; i < n; i++)
        if (m->work[i] == s) return n;
    if (n == MAX_WORK) {
        m->ambiguous = true;
        return n;
    }
    m->work[n] = s;
    return n + 1;
}

static int enter(matcher *m, int n, uint32_t f, uint32_t k)
{
    const gcall *c = &m->c->call[k];
    uint32_t g;
    if (!(c->flags & CALL_COUNTED)) {
        if (c->flags & CALL_TAIL) return put(m, n, config(c->start, f));
        g = frame_make(m, f, PLAIN_CALL, 0, c->target, c->start);
        return g ? put(m, n, config(c->start, g)) : n;
    }
    if (c->min == 0) n = put(m, n, config(c->target, f));
    if (c->max == 0) return n;
    g = frame_make(m, f, k, 0, c->target, c->start);
    return g ? put(m, n, config(c->start, g)) : n;
}

/* A rule ended inside frame f. */
static int leave(matcher *m, int n, uint32_t f)
{
    const frame *x = &m->frame[f];
    if (f == 0) return put(m, n, config(NODE_END, 0));
    uint32_t parent = x->parent, k = x->call;
    if (k == PLAIN_CALL) return put(m, n, config(x->target, parent));
    const gcall *c = &m->c->call[k];
    uint32_t count = x->count + 1;
    if (count >= c->min) n = put(m, n, config(c->target, parent));
    if (c->max == GRAM_INF && count > c->min) count = c->min;
    if (count >= c->max) return n;
    uint32_t g = frame_make(m, parent, k, count, c->target, c->start);
    return g ? put(m, n, config(c->start, g)) : n;
}

static int by_state(const void *a, const void *b)
{
    state x = *(const state *)a, y = *(const state *)b;
    return (x > y) - (x < y);
}

/* The set of work[0..n), sorted. */
static state intern(matcher *m, int n)
{
    uint64_t h = (uint64_t)n;
    for (int i = 0; i < n; i++) h = mix(h ^ m->work[i]);
    uint64_t at = h;
    for (uint32_t i; (i = m->set_slot[at & (SET_SLOTS - 1)]); at++) {
        const cset *s = &m->set[i - 1];
        if (s->n == (uint32_t)n && !memcmp(m->cfg + s->at, m->work, (size_t)n * sizeof(state)))
            return IS_SET | (i - 1);
    }
    if (m->n_set == m->max_set || m->n_cfg + (uint32_t)n > CONFIGS) {
        m->full = true;
        return DEAD;
    }
    cset *s = &m->set[m->n_set];
    *s = (cset){ .at = m->n_cfg, .n = (uint32_t)n, .need = GRAM_FAR };
    memcpy(m->cfg + m->n_cfg, m->work, (size_t)n * sizeof(state));
    m->n_cfg += (uint32_t)n;
    for (int i = 0; i < n; i++) {
        uint32_t need = config_need(m, m->work[i]);
        if (need < s->need) s->need = need;
        s->done |= node_of(m->work[i]) == NODE_END;
    }
    memset(m->row + (size_t)m->n_set * (size_t)m->c->n_cls, 0, (size_t)m->c->n_cls * sizeof(state));
    m->set_slot[at & (SET_SLOTS - 1)] = ++m->n_set;
    return IS_SET | (m->n_set - 1);
}

/* Close work[0..n) into a state. */
static state closed(matcher *m, int n)
{
    const grammar *c = m->c;
    for (int i = 0; i < n && !m->full && !m->ambiguous; i++) {
        uint32_t q = node_of(m->work[i]), f = frame_of(m->work[i]);
        if (c->flag[q] & NODE_FINAL) n = leave(m, n, f);
        if (c->flag[q] & NODE_CALLS)
            for (uint32_t k = c->call_at[q]; k < c->call_at[q + 1]; k++) n = enter(m, n, f, k);
    }
    if (m->full || m->ambiguous) return DEAD;
    int kept = 0;
    for (int i = 0; i < n; i++) {
        uint32_t q = node_of(m->work[i]);
        if (q == NODE_END || c->flag[q] & NODE_BYTES) m->work[kept++] = m->work[i];
    }
    if (kept == 0) return DEAD;
    if (kept == 1) return m->work[0];
    if (kept > MAX_CONFIGS) {
        m->ambiguous = true;
        return DEAD;
    }
    if (kept == 2 && m->work[0] > m->work[1]) {
        state t = m->work[0];
        m->work[0] = m->work[1], m->work[1] = t;
    } else if (kept > 2) {
        qsort(m->work, (size_t)kept, sizeof(state), by_state);
    }
    return intern(m, kept);
}

static state settle(matcher *m, state s)
{
    uint64_t at = mix(s) & (MEMO - 1);
    if (m->memo[at].from == s) return m->memo[at].to;
    m->work[0] = s;
    state to = closed(m, 1);
    if (m->full || m->ambiguous) return DEAD;
    m->memo[at].from = s, m->memo[at].to = to;
    return to;
}

static state set_step(matcher *m, state s, int cls)
{
    const grammar *c = m->c;
    uint32_t number = (uint32_t)(s & (IS_SET - 1));
    state *cell = &m->row[(size_t)number * (size_t)c->n_cls + (size_t)cls];
    if (*cell != UNKNOWN) return *cell == ROW_DEAD ? DEAD : *cell;
    const cset *x = &m->set[number];
    int n = 0;
    for (uint32_t i = 0; i < x->n; i++) {
        state from = m->cfg[x->at + i];
        uint32_t to = c->next[(size_t)node_of(from) * (size_t)c->n_cls + (size_t)cls];
        if (to) n = put(m, n, config(to, frame_of(from)));
    }
    state to = n ? closed(m, n) : DEAD;
    if (!m->full && !m->ambiguous) *cell = to == DEAD ? ROW_DEAD : to;
    return to;
}

static inline state step(matcher *m, state s, uint8_t byte)
{
    const grammar *c = m->c;
    if (is_set(s)) return set_step(m, s, c->cls[byte]);
    uint32_t to = c->next[(size_t)node_of(s) * (size_t)c->n_cls + c->cls[byte]];
    if (to == NODE_DEAD) return DEAD;
    if (!(c->flag[to] & (NODE_FINAL | NODE_CALLS))) return config(to, frame_of(s));
    return settle(m, config(to, frame_of(s)));
}

/* ---- room */

static void forget(matcher *m)
{
    memset(m->kept, 0, sizeof m->kept);
    memset(m->memo, 0, MEMO * sizeof *m->memo);
    memset(m->set_slot, 0, SET_SLOTS * sizeof *m->set_slot);
    memset(m->frame_slot, 0, FRAME_SLOTS * sizeof *m->frame_slot);
    m->full = m->ambiguous = false;
}

static void keep_frames(matcher *m, state s)
{
    for (uint32_t f = frame_of(s); f && !m->moved[f]; f = m->frame[f].parent) m->moved[f] = 1;
}

/* Keep what the positions need, in the old order, and forget the rest. */
static void compact(matcher *m)
{
    memset(m->moved, 0, FRAMES * sizeof *m->moved);
    for (uint32_t i = 0; i < m->n_set; i++) m->set[i].live = false;
    for (int p = 0; p < MATCHER_POSITIONS; p++) {
        if (!m->used[p]) continue;
        if (is_set(m->pos[p])) set_of(m, m->pos[p])->live = true;
        else keep_frames(m, m->pos[p]);
    }
    for (uint32_t i = 0; i < m->n_set; i++)
        for (uint32_t k = 0; m->set[i].live && k < m->set[i].n; k++)
            keep_frames(m, m->cfg[m->set[i].at + k]);
    forget(m);
    uint32_t n = 1;
    for (uint32_t f = 1; f < m->n_frame; f++) {
        if (!m->moved[f]) continue;
        m->frame[n] = m->frame[f];                           /* a parent comes before its child */
        m->frame[n].parent = m->moved[m->frame[n].parent];
        m->moved[f] = n;
        uint64_t at = frame_hash(&m->frame[n]);
        while (m->frame_slot[at & (FRAME_SLOTS - 1)]) at++;
        m->frame_slot[at & (FRAME_SLOTS - 1)] = n++;
    }
    m->n_frame = n;
    uint32_t had = m->n_set, old_to_new[MATCHER_POSITIONS], old[MATCHER_POSITIONS], kept = 0;
    m->n_set = m->n_cfg = 0;
    for (uint32_t i = 0; i < had; i++) {
        if (!m->set[i].live) continue;
        uint32_t count = m->set[i].n, at = m->set[i].at;
        for (uint32_t k = 0; k < count; k++) {
            state s = m->cfg[at + k];
            m->work[k] = config(node_of(s), m->moved[frame_of(s)]);
        }
        old[kept] = i, old_to_new[kept++] = (uint32_t)(intern(m, (int)count) & (IS_SET - 1));
    }
    for (int p = 0; p < MATCHER_POSITIONS; p++) {
        if (!m->used[p]) continue;
        state s = m->pos[p];
        if (!is_set(s)) m->pos[p] = config(node_of(s), m->moved[frame_of(s)]);
        else
            for (uint32_t k = 0; k < kept; k++)
                if (old[k] == (uint32_t)(s & (IS_SET - 1))) {
                    m->pos[p] = IS_SET | old_to_new[k];
                    break;
                }
    }
}

static void make_room(matcher *m)
{
    if (m->n_frame > FRAMES / 2 || m->n_set > m->max_set / 2 || m->n_cfg > CONFIGS / 2 || m->full)
        compact(m);
}

static int crowded(matcher *m, dr_err *e)
{
    bool many = m->ambiguous;
    m->full = m->ambiguous = false;
    return err_set(e, DR_EUNSUPPORTED, many ? "the grammar reads the text in more than %d ways at "
                   "once" : "the grammar needs more than %d states at once",
                   many ? MAX_CONFIGS : (int)m->max_set);
}

/* ---- tokens */

/* What is known of plain tokens without a look at each: those of up to `room` characters are allowed;
 * when `exact`, no longer one is. */
typedef struct { uint64_t room; bool exact; } plain_rule;

static plain_rule config_plain(const matcher *m, state s, uint32_t left)
{
    const grammar *c = m->c;
    uint32_t q = node_of(s);
    const frame *f = &m->frame[frame_of(s)];
    const gplain *p = &c->plain[q];
    const plain_rule unknown = { 0, false }, none = { 0, true }, all = { UINT64_MAX, true };
    if (c->flag[q] & NODE_SHY || q == NODE_END) return none;
    const gcall *k = f->call == PLAIN_CALL ? NULL : &c->call[f->call];
    if (k && k->flags & CALL_CHARS && k->start == q) {
        plain_rule fits = { k->max == GRAM_INF ? UINT64_MAX : k->max - f->count, true };
        /* with the least of characters done, the tokens needed stay what they are */
        uint32_t after = sum(c->tokens[f->target], m->frame[f->parent].rest);
        if (f->count >= k->min) return after < left ? fits : none;
        return sum(config_need(m, s), c->v->fill_rise) < left ? fits : unknown;
    }
    if (!p->leaves && sum(p->least, f->rest) >= left) return none;
    if (!p->depth || sum(p->most, f->rest) >= left) return unknown;
    return p->depth == PLAIN_EVER ? all : (plain_rule){ p->depth, false };
}

static plain_rule state_plain(const matcher *m, state s, uint32_t left)
{
    const state *v = is_set(s) ? m->cfg + set_of(m, s)->at : &s;
    uint32_t n = is_set(s) ? set_of(m, s)->n : 1;
    plain_rule any = { 0, true };
    for (uint32_t i = 0; i < n; i++) {
        plain_rule r = config_plain(m, v[i], left);
        any.exact &= r.exact;
        if (r.room > any.room) any.room = r.room;
    }
    if (any.room == UINT64_MAX) any.exact = true;
    return any;
}

/* Returns the most tokens that any allowed token leaves to be made; GRAM_FAR when some was not
 * allowed for want of room, or that is not known. */
static uint32_t walk(matcher *m, state from, uint32_t left, uint64_t *mask, uint32_t *visited)
{
    const vtrie *v = m->c->v;
    state at[VTRIE_DEPTH + 1];
    plain_rule r = state_plain(m, from, left);
    int k = -1;
    while (k + 1 < VTRIE_STEPS && vtrie_step[k + 1] <= r.room) k++;
    /* skipped: plain tokens of up to so many characters, whether the mask has them or nothing has */
    int skip = k < 0 ? -1 : vtrie_step[k];
    if (r.exact && (r.room == 0 || (k >= 0 && (vtrie_step[k] == r.room || r.room >= v->longest))))
        skip = VTRIE_DIRTY - 1;
    uint32_t most = k >= 0 || r.exact ? GRAM_FAR : 0, n = 0;
    if (k < 0) memset(mask, 0, (size_t)v->words * sizeof *mask);
    else memcpy(mask, v->plain[k], (size_t)v->words * sizeof *mask);
    at[0] = from;
    for (uint32_t i = 1; i < v->n_nodes;) {
        const vnode *x = &v->node[i];
        if ((int)x->plain <= skip) {
            i = x->next;
            continue;
        }
        n++;
        state s = step(m, at[x->depth - 1], x->byte);
        if (s == DEAD) {
            if (m->full || m->ambiguous) return GRAM_FAR;
            i = x->next;
            continue;
        }
        at[x->depth] = s;
        i++;
        if (!x->n_tok) continue;
        uint32_t need = need_of(m, s);
        if (need > most) most = need;
        if (need >= left) {
            most = GRAM_FAR;
            continue;
        }
        const int32_t *id = v->ids + v->tok[x - v->node];
        for (int j = 0; j < x->n_tok; j++) mask[id[j] >> 6] |= (uint64_t)1 << (id[j] & 63);
    }
    *visited = n;
    return most;
}

/* Masks that took a long walk are kept, a few of them. */
static int masked(matcher *m, state s, uint32_t left, uint64_t *mask, matcher_next *next)
{
    const vtrie *v = m->c->v;
    uint32_t visited = 0;
    kept_mask *k = &m->kept[mix(s) & (MASKS - 1)];
    uint64_t *store = m->masks + (size_t)(k - m->kept) * (size_t)v->words;
    if (k->of == s && left > k->most) {
        memcpy(mask, store, (size_t)v->words * sizeof *mask);
        next->n_text = k->n_text, next->only = k->only;
        return DR_OK;
    }
    uint32_t most = walk(m, s, left, mask, &visited);
    if (m->full || m->ambiguous) return DR_EUNSUPPORTED;
    for (int i = 0; i < v->words; i++) {
        if (!mask[i]) continue;
        next->n_text += __builtin_popcountll(mask[i]);
        next->only = i * 64 + __builtin_ctzll(mask[i]);
    }
    if (next->n_text != 1) next->only = -1;
    if (visited > KEEP_FROM && most < GRAM_FAR) {
        *k = (kept_mask){ s, most, next->n_text, next->only };
        memcpy(store, mask, (size_t)v->words * sizeof *mask);
    }
    return DR_OK;
}

int matcher_mask(matcher *m, int p, uint32_t left, uint64_t *mask, matcher_next *next, dr_err *e)
{
    *next = (matcher_next){ .only = -1 };
    make_room(m);
    int rc = masked(m, m->pos[p], left, mask, next);
    if (m->full) {
        compact(m);
        rc = masked(m, m->pos[p], left, mask, next);
    }
    if (rc) return crowded(m, e);
    next->done = done_of(m, m->pos[p]);
    if (!next->n_text && !next->done)
        return err_set(e, DR_EINVAL, "the text cannot be finished: %u tokens are left, %u are needed",
                       left, need_of(m, m->pos[p]));
    return DR_OK;
}

/* From position p over bytes; DEAD when they are not allowed. */
static state advance(matcher *m, int p, span b)
{
    state s = m->pos[p];
    for (size_t i = 0; i < b.n && s != DEAD; i++) s = step(m, s, (uint8_t)b.p[i]);
    return s;
}

static int take(matcher *m, int p, span b, bool *ok, dr_err *e)
{
    make_room(m);
    state s = advance(m, p, b);
    if (m->full) {
        compact(m);
        s = advance(m, p, b);
    }
    if (m->full || m->ambiguous) return crowded(m, e);
    *ok = s != DEAD;
    if (*ok) m->pos[p] = s;
    return DR_OK;
}

int matcher_take(matcher *m, int p, int32_t id, dr_err *e)
{
    span b = tok_text(m->c->v->t, id);
    bool ok = false;
    int rc = b.n ? take(m, p, b, &ok, e) : DR_OK;
    if (rc) return rc;
    return ok ? DR_OK : err_set(e, DR_EINVAL, "the grammar does not allow token %d here", (int)id);
}

bool matcher_bytes(matcher *m, int p, span b)
{
    bool ok = false;
    return !take(m, p, b, &ok, NULL) && ok;
}

bool matcher_done(const matcher *m, int p) { return done_of(m, m->pos[p]); }
uint32_t matcher_need(const matcher *m, int p) { return need_of(m, m->pos[p]); }
const grammar *matcher_grammar(const matcher *m) { return m->c; }

/* ---- life */

static int free_position(matcher *m, dr_err *e)
{
    for (int p = 0; p < MATCHER_POSITIONS; p++)
        if (!m->used[p]) return p;
    err_set(e, DR_EINVAL, "more than %d constrained texts at once", MATCHER_POSITIONS);
    return -1;
}

int matcher_begin(matcher *m, dr_err *e)
{
    int p = free_position(m, e);
    if (p < 0) return -1;
    make_room(m);
    state s = settle(m, config(m->c->start, 0));
    if (m->full) {
        compact(m);
        s = settle(m, config(m->c->start, 0));
    }
    if (m->full || m->ambiguous) return crowded(m, e), -1;
    m->used[p] = true, m->pos[p] = s;
    return p;
}

int matcher_copy(matcher *m, int p, dr_err *e)
{
    int q = free_position(m, e);
    if (q >= 0) m->used[q] = true, m->pos[q] = m->pos[p];
    return q;
}

void matcher_end(matcher *m, int p)
{
    if (p >= 0) m->used[p] = false;
}

matcher *matcher_new(const grammar *c, dr_err *e)
{
    matcher *m = mem_zalloc(1, sizeof *m);
    if (!m) {
        err_nomem(e, sizeof *m, "the constraint's state");
        return NULL;
    }
    size_t one = (size_t)c->n_cls * sizeof(state);
    m->c = c;
    m->max_set = (uint32_t)(ROW_BYTES / one < SETS ? ROW_BYTES / one : SETS);
    m->row_bytes = m->max_set * one;
    m->frame = mem_pages(FRAMES * sizeof *m->frame);
    m->moved = mem_pages(FRAMES * sizeof *m->moved);
    m->frame_slot = mem_pages(FRAME_SLOTS * sizeof *m->frame_slot);
    m->cfg = mem_pages(CONFIGS * sizeof *m->cfg);
    m->set = mem_pages(SETS * sizeof *m->set);
    m->set_slot = mem_pages(SET_SLOTS * sizeof *m->set_slot);
    m->row = mem_pages(m->row_bytes);
    m->memo = mem_pages(MEMO * sizeof *m->memo);
    m->masks = mem_pages((size_t)MASKS * (size_t)c->v->words * sizeof *m->masks);
    m->n_frame = 1;                              /* frame 0: the bottom */
    if (m->frame && m->moved && m->frame_slot && m->cfg && m->set && m->set_slot && m->row &&
        m->memo && m->masks) {
        m->frame[0].call = PLAIN_CALL, m->frame[0].fresh = GRAM_FAR;
        return m;
    }
    matcher_free(m);
    err_nomem(e, (size_t)24 << 20, "the constraint's state");
    return NULL;
}

void matcher_free(matcher *m)
{
    if (!m) return;
    if (m->frame) mem_pages_free(m->frame, FRAMES * sizeof *m->frame);
    if (m->moved) mem_pages_free(m->moved, FRAMES * sizeof *m->moved);
    if (m->frame_slot) mem_pages_free(m->frame_slot, FRAME_SLOTS * sizeof *m->frame_slot);
    if (m->cfg) mem_pages_free(m->cfg, CONFIGS * sizeof *m->cfg);
    if (m->set) mem_pages_free(m->set, SETS * sizeof *m->set);
    if (m->set_slot) mem_pages_free(m->set_slot, SET_SLOTS * sizeof *m->set_slot);
    if (m->row) mem_pages_free(m->row, m->row_bytes);
    if (m->memo) mem_pages_free(m->memo, MEMO * sizeof *m->memo);
    if (m->masks)
        mem_pages_free(m->masks, (size_t)MASKS * (size_t)m->c->v->words * sizeof *m->masks);
    mem_free(m);
}
