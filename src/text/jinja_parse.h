/* jinja_parse.h - what the parser's files share: tokens to look at, nodes to build, expressions.
 * Only jinja_node.c, jinja_expr.c and jinja_parse.c include this. */
#ifndef TEXT_JINJA_PARSE_H
#define TEXT_JINJA_PARSE_H
#include "text/jinja_priv.h"

typedef struct {
    jinja *t;
    const jtok *tok;            /* what is next */
    dr_err *e;
    int rc, depth, loops;       /* loops: that break may leave */
} parser;

/* A list that grows; it becomes a node's children. */
typedef struct { jnode **v; int n, cap; } jnodes;

/* The first failure is kept; everything else does nothing from then on. NULL. */
jnode *jp_fail(parser *p, int code, const char *fmt, ...) DR_PRINTF(3, 4);
void *jp_take(parser *p, size_t n);             /* zeroed; NULL: failed */

bool jp_op(const parser *p, const char *s);     /* is it next? */
bool jp_name(const parser *p, const char *s);
void jp_next(parser *p);
bool jp_skip_op(parser *p, const char *s);
bool jp_skip_name(parser *p, const char *s);
span jp_shown(const parser *p);                 /* what is next, for a sentence */
void jp_want_op(parser *p, const char *s);
void jp_want(parser *p, jtok_kind k, const char *s);
uint32_t jp_intern(parser *p, span s);          /* names share one string and one number */

jnode *jp_node(parser *p, jop o, int line, int n);
void jp_deepen(parser *p, jnode *x, const jnode *kid);
void jp_set(parser *p, jnode *x, int i, jnode *kid);
jnode *jp_node1(parser *p, jop o, int line, jnode *a);
jnode *jp_node2(parser *p, jop o, int line, jnode *a, jnode *b);
void jp_list_add(parser *p, jnodes *l, jnode *x);
jnode *jp_of_list(parser *p, jop o, int line, const jnodes *l);
jnode *jp_constant(parser *p, jv v);
jnode *jp_name_node(parser *p, jop o, span s);
bool jp_enter(parser *p);                       /* one level deeper; the caller goes back */

jnode *jp_expression(parser *p, bool cond);
jnode *jp_tuple(parser *p, bool cond, const char *end, bool parens);
bool jp_tuple_ends(const parser *p, const char *end);
jnode *jp_primary(parser *p, bool ns);
jnode *jp_filter(parser *p, jnode *of);         /* of NULL: of a block */
#endif
