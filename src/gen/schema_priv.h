/* schema_priv.h - a JSON schema on its way into rules. For the schema*.c files only.
 *
 * What a place in the text must satisfy is a `goal`: a set of schemas that all hold. Goals are kept
 * once each and become one rule each, so recursion in the schema is recursion of rules. */
#ifndef GEN_SCHEMA_PRIV_H
#define GEN_SCHEMA_PRIV_H
#include <jansson.h>
#include "gen/gram_ir.h"

typedef enum {
    ATOM_SCHEMA,            /* all of it */
    ATOM_OWN,               /* without $ref, allOf, anyOf, oneOf and not */
    ATOM_ANY, ATOM_ONE      /* the list of an anyOf, a oneOf */
} atom_kind;
typedef struct { const json_t *j; atom_kind kind; } atom;
typedef struct { atom *v; int n, rule; bool done; } goal;

enum { T_NULL = 1, T_FALSE = 2, T_TRUE = 4, T_INT = 8, T_FRAC = 16, T_STR = 32, T_ARR = 64,
       T_OBJ = 128, T_ALL = 255 };

/* A goal spread out: every schema that holds, and what is left to choose. */
typedef struct {
    bool never;
    unsigned types;
    const json_t **s;               /* schemas, each for its own keywords */
    int n, cap;
    atom *choice;
    int n_choice, cap_choice;
} spread;

typedef struct {
    gctx *g;
    const json_t *root;
    const char *base;               /* the root's $id, or NULL */
    goal *goal;
    int n_goals, cap_goals;
    int32_t *slot, n_slots;
    int int_rule, num_rule;         /* -1: not made */
    const json_t *given;            /* an enum that a value is known to be of */
    int depth;                      /* of what calls itself: disjoint, valid, strings */
} schema;

/* The goal of these atoms (sorted here); -1: failed. */
int goal_of(schema *c, atom *v, int n);
/* Rule of the goal of these atoms, as an expression. */
gx *goal_rule(schema *c, atom *v, int n);
/* Spread atoms out; false: failed (g->rc). */
bool spread_atoms(schema *c, const atom *v, int n, spread *s);
/* The schemas' atoms but the choice number `without`; room for one more at the end. */
atom *spread_rest(schema *c, const spread *s, int without, int *n);
void refuse(schema *c, const char *fmt, ...) DR_PRINTF(2, 3);
const json_t *schema_ref(schema *c, const char *ref);

/* schema_text.c */
void json_spell(gctx *g, const json_t *v, char **p, size_t *n, size_t *cap);      /* compact */
bool json_same(const json_t *a, const json_t *b);                                 /* 1 is 1.0 */
/* Does the value satisfy the schema; own: by its own keywords only. */
bool schema_valid(schema *c, const json_t *value, const json_t *s, bool own);
/* Can no value satisfy both goals? false when it is not certain. */
bool schema_disjoint(schema *c, const atom *a, int n_a, const atom *b, int n_b);

/* schema_value.c: expressions of one type each, from a spread without choices */
gx *number_gx(schema *c, const spread *s);
gx *string_gx(schema *c, const spread *s);
gx *array_gx(schema *c, const spread *s);
gx *object_gx(schema *c, const spread *s);
/* Strings of a goal as an automaton over their characters. */
cauto *goal_strings(schema *c, const atom *v, int n);
cauto *spread_strings(schema *c, const spread *s);
/* The atoms that a property, or an item, must satisfy. *declared: some `properties` has it. */
atom *property_atoms(schema *c, const spread *s, const char *name, int *n, bool *declared);
atom *item_atoms(schema *c, const spread *s, size_t at, int *n);
/* Smallest or largest of a count keyword over the schemas; false: none has it. */
bool count_of(schema *c, const spread *s, const char *key, bool largest, uint64_t *v);
bool pattern_finds(schema *c, const char *pattern, span text);

/* schema_number.c: a bound and decimal texts from it */
typedef struct { bool there, open, negative; char digits[400]; int whole; } bound;
/* digits without a point; the first `whole` of them stand before it. */
bool bound_read(const json_t *v, bool open, bound *b);
int bound_compare(const bound *a, const bound *b);
/* The closest bounds of all the schemas. */
bool bounds_of(schema *c, const spread *s, bound *lo, bound *hi);
gx *bound_range(gctx *g, const bound *lo, const bound *hi, bool ints);
#endif
