/* vtrie.h - a vocabulary's tokens as a tree of bytes: what a constraint is walked against.
 * Immutable once made: share freely between threads. */
#ifndef GEN_VTRIE_H
#define GEN_VTRIE_H
#include <stdbool.h>
#include <stdint.h>
#include "text/tokenizer.h"

enum { VTRIE_DEPTH = 255,           /* longer tokens are left out */
       VTRIE_DIRTY = 255, VTRIE_FILL = 4096, VTRIE_STEPS = 36 };

/* Nodes are in preorder: node i's children lie in (i, next), a child's sibling is at its next. Eight
 * bytes each: a walk that visits them all reads nothing else of the vocabulary but the ids. */
typedef struct {
    uint32_t next;
    uint8_t byte, depth;            /* depth of the root is 0 */
    uint8_t plain;                  /* most characters of a plain token below; DIRTY: some is not */
    uint8_t n_tok;                  /* tokens that the way to here spells: ids[tok[i]] and on */
} vnode;

/* A token is plain when a JSON string takes it in any place: whole characters, none of them
 * a quote, a backslash or a control character (delete included). */
typedef struct {
    const tokenizer *t;             /* borrowed */
    int32_t n_vocab;                /* ids below this; the model may have more logits */
    int words;                      /* 64-bit words of a mask over n_vocab */
    vnode *node;
    uint32_t *tok;                  /* (n_nodes,) */
    uint32_t n_nodes;
    int32_t *ids;
    bool has_byte[256];             /* some token is exactly this byte */
    uint64_t *plain[VTRIE_STEPS];   /* masks: plain tokens of at most vtrie_step[i] characters */
    uint32_t fill[VTRIE_FILL + 1];  /* fewest plain tokens of n characters in all */
    uint32_t fill_rise;             /* the most by which fewer characters can take more tokens */
    uint32_t longest;               /* characters of the longest plain token */
} vtrie;
extern const uint8_t vtrie_step[VTRIE_STEPS];

vtrie *vtrie_new(const tokenizer *t, dr_err *e);
void vtrie_free(vtrie *v);                               /* NULL is fine */
/* The child of node i by byte b; 0: none. */
uint32_t vtrie_child(const vtrie *v, uint32_t i, uint8_t b);
/* Fewest plain tokens that make n characters. */
uint32_t vtrie_fill(const vtrie *v, uint64_t n);
#endif
