/* gram_priv.h - a compiled grammar. For gram_compile.c, gram_cost.c and matcher.c only.
 *
 * Each rule is a deterministic automaton over bytes and calls of rules; a text's state is a set of
 * (node, stack of nodes to return to). Node 0 is dead, node 1 is the end of the text. */
#ifndef GEN_GRAM_PRIV_H
#define GEN_GRAM_PRIV_H
#include <stdatomic.h>
#include "gen/gram_ir.h"
#include "gen/grammar.h"

enum {
    NODE_FINAL = 1,         /* the rule may end here */
    NODE_CALLS = 2,
    NODE_BYTES = 4,
    NODE_SHY = 8,           /* takes no plain character */
    NODE_DEAD = 0, NODE_END = 1,
    GRAM_MAX_NODES = 60000, GRAM_MAX_CELLS = 8 << 20, GRAM_MAX_DEPTH = 400
};
#define GRAM_FAR ((uint32_t)1 << 30)                     /* cap of token counts; "cannot end" */

enum { CALL_COUNTED = 1,    /* the rule min to max times */
       CALL_CHARS = 2,      /* and the rule is one character of a JSON string */
       CALL_TAIL = 4 };     /* nothing can follow in this rule: no need to come back */
typedef struct { uint32_t start, target, min, max; uint8_t flags; } gcall;

/* What plain characters (vtrie.h) do at a node: `depth` of them may come, whichever they are (PLAIN_EVER: any
 * number), and from wherever those lead at most `most` tokens finish the rule. From wherever any that are
 * allowed lead, it takes `least`, unless they can lead out of the rule (`leaves`). */
enum { PLAIN_EVER = 255 };
typedef struct { uint32_t least, most; uint8_t depth, leaves; } gplain;

struct grammar {
    const vtrie *v;
    uint32_t start;
    uint32_t n_nodes;
    int n_cls;
    uint8_t cls[256];
    uint32_t *next;         /* (n_nodes, n_cls) */
    uint8_t *flag;          /* (n_nodes,) */
    uint32_t *call_at;      /* (n_nodes + 1,) into call */
    gcall *call;
    uint32_t *tokens;       /* (n_nodes,) that finish the rule, at most GRAM_FAR */
    uint16_t *height;       /* (n_nodes,) stack that this takes */
    gplain *plain;          /* (n_nodes,) */
    size_t bytes;
    atomic_int held;        /* by so many; grammar_free lets one go */
};

/* While compiling: nodes with ranges. */
typedef struct { uint8_t lo, hi; uint32_t to; } brange;
typedef struct { int rule; uint32_t min, max, to; } bcall;
typedef struct {
    brange *r;
    bcall *c;
    int32_t n_r, n_c;
    bool final;
    /* gram_cost.c */
    uint64_t cost;          /* bytes to the rule's end; UINT64_MAX: it cannot be reached */
    int32_t best;           /* which range (or n_r + call) begins the shortest way; -1: ends here */
} bnode;
typedef struct {
    gctx *g;
    const vtrie *v;
    bnode *node;
    int n, cap;
    uint32_t *start;        /* (n_rules,) 0: not compiled */
    int32_t *order;         /* nodes by ascending cost */
    int n_order;
} draft;

/* Cost and best of every node; DR_EINVAL when the root cannot end. */
int gram_costs(draft *d, uint32_t root);
/* tokens and height of every node. c is filled but for these. */
int gram_tokens(draft *d, grammar *c);
/* NODE_SHY and `plain` of every node. */
void gram_plain(grammar *c);
/* For a counted call with `done` repetitions finished (one more going on): tokens that the rest
 * takes. */
static inline uint32_t call_rest(const grammar *c, const gcall *k, uint32_t done)
{
    if (done >= k->min) return 0;
    uint64_t left = k->min - done;
    uint64_t n = k->flags & CALL_CHARS ? vtrie_fill(c->v, left) : left * c->tokens[k->start];
    return n < GRAM_FAR ? (uint32_t)n : GRAM_FAR;
}
#endif
