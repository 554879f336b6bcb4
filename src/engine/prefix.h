/* prefix.h - beginnings of sequences whose keys and values are still there: a radix tree over the pages of
 * a cache (model/kv.h).
 *
 * A node is a page: 64 tokens, or fewer at a leaf. Children of a node are ordered by their tokens, none of
 * them a beginning of another; the longest common prefix is found with a neighbour in that order, a part
 * of a page included. Tokens themselves are compared, never hashes of them. The tree holds each of its
 * pages by count, as a sequence does, so what a request shares is not copied until one of them writes
 * (kv_grow). Invariant: who holds a node's page holds the pages of all nodes above it.
 *
 * Memory is given back in order of use, leaves first (prefix_evict); nothing is evicted on its own. Sequences
 * are kept apart by a root: one for each adapter. Nothing is allocated but by prefix_new.
 * Threads: as the cache. */
#ifndef ENGINE_PREFIX_H
#define ENGINE_PREFIX_H
#include "model/kv.h"

typedef struct prefix prefix;

/* Over c, which is not moved meanwhile; roots are numbered 0 … n_roots - 1. */
prefix *prefix_new(kv_cache *c, int n_roots, dr_err *e);
void prefix_free(prefix *p);                        /* gives its pages back; NULL is fine */

/* How many leading positions of tok (n,) are held. n_idle (NULL: not wanted): of their pages those that
 * nobody but the tree holds. Changes nothing. */
int prefix_match(const prefix *p, int root, const int32_t *tok, int n, int *n_idle);
/* s becomes the longest beginning of tok that is held, sharing its pages, when that is longer than what s
 * has, which must be a beginning of tok. Returns its length. A caller that needs logits leaves out the
 * last token. */
int prefix_take(prefix *p, int root, const int32_t *tok, int n, kv_seq *s);
/* Leave the first n <= s->len positions of s, whose tokens are tok. Of whole pages that were there already
 * the tree's become s's, so that there is one of each. A part of a page at the end is left too: s
 * copies it when it writes on, so leave whole pages only while it does. Returns the pages added. */
int prefix_put(prefix *p, int root, const int32_t *tok, int n, kv_seq *s);
/* Give back at least n pages to the cache's free ones, least recently used first; fewer when nothing more
 * is idle. Returns how many. */
int prefix_evict(prefix *p, int n);
int prefix_idle(const prefix *p);                   /* pages that prefix_evict can give back */
int prefix_held(const prefix *p);                   /* pages in the tree */
/* Forget all of a root (an adapter is gone). Pages in use by sequences stay theirs. */
void prefix_forget(prefix *p, int root);
#endif
