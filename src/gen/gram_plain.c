/* gram_plain.c - which nodes take any plain character, and how many: there, most of a vocabulary's tokens
 * need no look at each. */
#include "gen/gram_priv.h"

/* First bytes of the plain characters, and what may follow them. */
static const struct { int lo, hi, from, to, rest; } lead[] = {
    { ' ', '!', 0, 0, 0 }, { '#', '[', 0, 0, 0 }, { ']', '~', 0, 0, 0 },
    { 0xc2, 0xdf, 0x80, 0xbf, 1 }, { 0xe0, 0xe0, 0xa0, 0xbf, 2 }, { 0xe1, 0xec, 0x80, 0xbf, 2 },
    { 0xed, 0xed, 0x80, 0x9f, 2 }, { 0xee, 0xef, 0x80, 0xbf, 2 }, { 0xf0, 0xf0, 0x90, 0xbf, 3 },
    { 0xf1, 0xf3, 0x80, 0xbf, 3 }, { 0xf4, 0xf4, 0x80, 0x8f, 3 },
};
enum { N_LEAD = sizeof lead / sizeof *lead };

/* Bring into *sum what bytes lo to hi at node q, then `rest` more, lead to. False: not all of them
 * lead on. Bytes of one class are looked at once. */
static bool follow(const grammar *c, uint32_t q, int lo, int hi, int rest, gplain *sum, int64_t *work)
{
    int last = -1;
    for (int b = lo; b <= hi; b++) {
        if (c->cls[b] == last) continue;
        last = c->cls[b];
        uint32_t to = c->next[(size_t)q * (size_t)c->n_cls + (size_t)last];
        if (--*work < 0 || to == NODE_DEAD) return false;
        if (rest) {
            if (!follow(c, to, 0x80, 0xbf, rest - 1, sum, work)) return false;
            continue;
        }
        /* a node of calls alone could be too deep to be entered */
        if (!(c->flag[to] & (NODE_BYTES | NODE_FINAL))) return false;
        const gplain *p = &c->plain[to];
        if (p->depth < sum->depth) sum->depth = p->depth;
        if (p->most > sum->most) sum->most = p->most;
    }
    return true;
}

static bool update(grammar *c, uint32_t q, int64_t *work)
{
    gplain *p = &c->plain[q], sum = { .most = p->most, .depth = PLAIN_EVER };
    bool all = true;
    for (int k = 0; k < N_LEAD && all; k++) {
        if (!lead[k].rest) {
            all = follow(c, q, lead[k].lo, lead[k].hi, 0, &sum, work);
            continue;
        }
        for (int b = lead[k].lo, last = -1; b <= lead[k].hi && all; b++) {
            if (c->cls[b] == last) continue;
            last = c->cls[b];
            uint32_t to = c->next[(size_t)q * (size_t)c->n_cls + (size_t)last];
            all = to != NODE_DEAD && follow(c, to, lead[k].from, lead[k].to, lead[k].rest - 1, &sum, work);
        }
    }
    if (!all) sum = (gplain){ .most = c->tokens[q] };
    else if (sum.depth < PLAIN_EVER - 1) sum.depth++;
    bool changed = sum.depth != p->depth || sum.most != p->most;
    *p = sum;
    return changed;
}

/* least and leaves. Bytes count as plain wherever they stand, which can only lower the one and set the
 * other. */
static void spread_least(grammar *c)
{
    int64_t work = 40000000;
    bool plain[256] = { false };                 /* by class */
    for (int b = ' '; b < 256; b++) plain[c->cls[b]] |= b != '"' && b != '\\' && b != 0x7f;
    for (uint32_t q = 0; q < c->n_nodes; q++) {
        c->plain[q].least = c->tokens[q];
        c->plain[q].leaves = !!(c->flag[q] & (NODE_FINAL | NODE_CALLS));
    }
    for (bool changed = true; changed && work >= 0;) {
        changed = false;
        for (uint32_t q = c->n_nodes; q-- > 2 && (work -= c->n_cls) >= 0;) {
            gplain *p = &c->plain[q], was = *p;
            for (int k = 0; k < c->n_cls; k++) {
                uint32_t to = c->next[(size_t)q * (size_t)c->n_cls + (size_t)k];
                if (!plain[k] || to == NODE_DEAD) continue;
                if (c->plain[to].least < p->least) p->least = c->plain[to].least;
                p->leaves |= c->plain[to].leaves;
            }
            changed |= was.least != p->least || was.leaves != p->leaves;
        }
    }
    for (uint32_t q = 0; q < c->n_nodes && work < 0; q++) c->plain[q].leaves = true;
}

void gram_plain(grammar *c)
{
    int64_t work = 40000000;                     /* beyond it nothing is marked: slower, not wrong */
    for (uint32_t q = 0; q < c->n_nodes; q++) {
        c->plain[q] = (gplain){ .most = c->tokens[q], .depth = c->flag[q] & NODE_BYTES ? PLAIN_EVER : 0 };
        bool shy = true;
        for (int b = ' '; b < 256; b++)
            if (b != '"' && b != '\\' && b != 0x7f)
                shy &= c->next[(size_t)q * (size_t)c->n_cls + c->cls[b]] == NODE_DEAD;
        if (shy) c->flag[q] |= NODE_SHY;
    }
    for (bool changed = true; changed && work >= 0;) {
        changed = false;
        for (uint32_t q = c->n_nodes; q-- > 2 && work >= 0;)
            if (c->plain[q].depth) changed |= update(c, q, &work);
    }
    for (uint32_t q = 0; q < c->n_nodes && work < 0; q++) c->plain[q].depth = 0;
    spread_least(c);
}
