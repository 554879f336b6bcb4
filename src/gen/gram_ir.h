/* gram_ir.h - what the front ends (gbnf.c, regex.c, schema*.c) make and gram_compile.c takes: rules
 * over expressions, and automata over characters. Private to the gram*, gbnf*, regex* and schema*
 * files of gen/.
 *
 * All of it lives in one `gctx`, whose memory and work are bounded: gx_* and ca_* return NULL, and
 * g->rc says why, once either is used up. A caller may go on with NULL: everything takes it and
 * gives NULL back, so the check at the end is enough. */
#ifndef GEN_GRAM_IR_H
#define GEN_GRAM_IR_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "base/span.h"

enum {
    GRAM_MAX_RULES = 20000,
    GRAM_MAX_NEST = 200,            /* brackets inside brackets */
    GRAM_MAX_STATES = 20000,        /* of one automaton over characters */
    CP_END = 0x110000
};
#define GRAM_FUEL 60000000          /* steps of work of one compilation: below two seconds */
#define GRAM_ZONE ((size_t)96 << 20)
#define GRAM_INF UINT32_MAX

/* ---- memory and work ---- */

typedef struct gx gx;
typedef struct gctx {
    struct gchunk *top;
    size_t used;
    int64_t fuel;
    const char *what;               /* "the schema", for sentences */
    int rc;
    dr_err *e;
    gx **rule;                      /* expression of rule i; NULL: not given yet */
    const char **rule_name;
    int n_rules, cap_rules;
    int str_rule;                   /* one character of a JSON string; -1: none */
} gctx;

void gctx_init(gctx *g, const char *what, dr_err *e);
void gctx_free(gctx *g);
void *gz_take(gctx *g, size_t n);                   /* zeroed, 16-byte aligned */
/* An array that grows: room for n+1 elements; false: none. */
bool gz_room(gctx *g, void *array, int n, int *cap, size_t elem);
char *gz_copy(gctx *g, const void *p, size_t n);    /* and a 0 */
/* n units of work; false (with the sentence) when there is none left. */
bool gz_work(gctx *g, int64_t n);
int gz_fail(gctx *g, int code, const char *fmt, ...) DR_PRINTF(3, 4);

/* ---- sets of characters: ascending ranges that do not touch; never surrogates ---- */

typedef struct { uint32_t lo, hi; } cp_range;                 /* hi included */
typedef struct { cp_range *r; int n, cap; } cp_set;
void cp_add(gctx *g, cp_set *s, uint32_t lo, uint32_t hi);    /* in any order … */
void cp_done(cp_set *s);                                      /* … then this */
void cp_invert(gctx *g, cp_set *s);                           /* done before and after */
void cp_add_set(gctx *g, cp_set *s, const cp_set *o);
bool cp_has(const cp_set *s, uint32_t c);

/* ---- automata over characters; partial: next -1 is "no" ---- */

typedef struct {
    int n, n_cls, n_iv;             /* states, classes, intervals */
    uint32_t *cut;                  /* (n_iv,) first character of each interval; cut[0] = 0 */
    uint16_t *cls;                  /* (n_iv,) its class */
    int32_t *next;                  /* (n, n_cls) */
    bool *final;                    /* (n,) */
} cauto;                            /* starts in state 0; n 0 is the empty language */

cauto *ca_any(gctx *g);
cauto *ca_words(gctx *g, const span *word, int n);            /* exactly these strings */
cauto *ca_and(gctx *g, const cauto *a, const cauto *b);
cauto *ca_minus(gctx *g, const cauto *a, const cauto *b);
cauto *ca_or(gctx *g, const cauto *a, const cauto *b);
cauto *ca_length(gctx *g, const cauto *a, uint32_t min, uint32_t max);
cauto *ca_regex(gctx *g, const gx *x);                        /* x may hold anchors */
bool ca_accepts(const cauto *a, span utf8);
static inline bool ca_empty(const cauto *a) { return !a || a->n == 0; }
int ca_class(const cauto *a, uint32_t c);

/* ECMAScript pattern as an expression; search: anything may stand around a match. */
gx *regex_parse(gctx *g, span pattern, bool search);
cauto *regex_cauto(gctx *g, span pattern, bool search);

/* ---- expressions ---- */

typedef enum {
    GX_NEVER, GX_EMPTY, GX_SET, GX_LIT, GX_SEQ, GX_ALT, GX_REP, GX_RULE, GX_AUTO, GX_OBJECT,
    GX_BEGIN, GX_END                /* anchors: only in what ca_regex is given */
} gx_kind;
struct gx {
    gx_kind kind;
    bool json;                      /* AUTO: characters spelled as in a JSON string */
    gx **kid;                       /* SEQ, ALT; REP: kid[0] */
    int n;
    uint32_t min, max;              /* REP, OBJECT; max GRAM_INF: no end */
    cp_set set;                     /* SET */
    span lit;                       /* LIT: bytes */
    int rule;
    const cauto *a;
    /* OBJECT: kids in this order with commas between, each at most once, then any number of
     * `more` (NULL: none); min to max in all, of which `more` counts as one towards min */
    const bool *need;               /* (n,) kids that must be there */
    gx *more;
};
gx *gx_new(gctx *g, gx_kind k);
gx *gx_lit(gctx *g, span bytes);                    /* copied */
gx *gx_str(gctx *g, const char *s);
gx *gx_set(gctx *g, cp_set s);                      /* takes it, done */
gx *gx_list(gctx *g, gx_kind k, gx *const *kid, int n);
gx *gx_rep(gctx *g, gx *x, uint32_t min, uint32_t max);
gx *gx_rule(gctx *g, int rule);
gx *gx_auto(gctx *g, const cauto *a, bool json);
#define gx_seq(g, ...) gx_list(g, GX_SEQ, (gx *[]){ __VA_ARGS__ }, \
                               (int)(sizeof (gx *[]){ __VA_ARGS__ } / sizeof(gx *)))
#define gx_alt(g, ...) gx_list(g, GX_ALT, (gx *[]){ __VA_ARGS__ }, \
                               (int)(sizeof (gx *[]){ __VA_ARGS__ } / sizeof(gx *)))
int gram_rule_new(gctx *g, const char *name);       /* -1: no room; name is copied, may be NULL */

/* ---- front ends: the number of the first rule, -1 with g->rc ---- */
int gbnf_read(gctx *g, span text);
int schema_read(gctx *g, span text);
int regex_read(gctx *g, span text);
#endif
