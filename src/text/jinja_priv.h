/* jinja_priv.h - values, the syntax tree and what the jinja_*.c files ask of each other. Nobody
 * else includes this.
 * Memory is carved from blocks that go when the template or the rendering goes; nothing is freed
 * alone. Values are immutable but for namespaces, iterators and loops, as the sandbox wants it. A
 * failure is noted once in rt->rc; from then on every function returns at once, whatever. */
#ifndef TEXT_JINJA_PRIV_H
#define TEXT_JINJA_PRIV_H
#include <stdint.h>
#include "text/jinja.h"

enum {
    JINJA_MAX_SOURCE = 4 << 20,
    JINJA_MAX_DEPTH = 200,        /* of the syntax tree, and of blocks in blocks */
    JINJA_MAX_CALLS = 1200,       /* nested evaluations: macros in macros */
    JINJA_MAX_NESTED = 900        /* lists in lists, when printed or compared */
};

/* ---- memory */

typedef struct jblock { struct jblock *next; size_t used, cap; } jblock;
typedef struct { jblock *first; size_t total, max; } jmem;
void *jmem_take(jmem *m, size_t n);            /* 16-byte aligned, not zeroed; NULL: none left */
void jmem_free(jmem *m);

/* ---- values */

typedef enum {
    J_MISSING,                    /* no value at all: an argument not given */
    J_UNDEF, J_NONE, J_BOOL, J_INT,
    J_BIG,                        /* an integer beyond 64 bits, as its digits */
    J_FLOAT, J_STR, J_LIST, J_TUPLE, J_DICT,
    J_VIEW,                       /* of a dict: keys(), values(), items() */
    J_RANGE, J_ITER, J_NS, J_LOOP, J_MACRO, J_FN, J_METHOD
} jkind;

typedef struct jstr {
    const char *p;
    size_t n;
    const uint8_t *mark;          /* a byte each: 1 from outside; NULL: all are as `in` says */
    int64_t chars;                /* characters; -1: not counted */
    bool in;
    bool safe;                    /* markupsafe's Markup */
    struct jroom *room;           /* memory behind it that + may fill; NULL: none */
} jstr;

typedef struct jroom { char *p; uint8_t *m; size_t used, cap; } jroom;

typedef struct jv {
    jkind kind;
    uint32_t sub;                 /* J_VIEW: 0 keys 1 values 2 items; J_FN, J_METHOD: which */
    union {
        bool b;
        int64_t i;
        double f;
        jstr *s;
        struct jlist *list;
        struct jdict *dict;
        struct jrange *range;
        struct jiter *iter;
        struct jns *ns;
        struct jloop *loop;
        struct jmacro *macro;
        struct jmethod *method;
        struct jundef *undef;
    };
} jv;

typedef struct jlist { jv *v; size_t n; bool group; } jlist;      /* group: (grouper, list) */
typedef struct jdict {
    jv *key, *val;
    size_t n, cap;
    uint32_t *slot;               /* index + 1 by hash; NULL: few enough to look at each */
    size_t n_slot;
    jstr *text;                   /* the JSON text it was given as, or NULL */
} jdict;
typedef struct jrange { int64_t start, step, n; } jrange;
typedef struct jundef { const char *why; bool unsafe; } jundef;
typedef struct jns { jdict d; } jns;
typedef struct jmethod { jv self; const struct jmethod_row *row; } jmethod;

/* ---- the syntax tree */

typedef enum {
    X_CONST, X_NAME, X_TUPLE, X_LIST, X_DICT, X_ATTR, X_ITEM, X_SLICE, X_CALL, X_FILTER, X_TEST,
    X_NOT, X_NEG, X_POS, X_ADD, X_SUB, X_MUL, X_DIV, X_FLOORDIV, X_MOD, X_POW, X_CONCAT, X_CMP,
    X_AND, X_OR, X_COND, X_NSREF,
    S_BODY, S_TEXT, S_PRINT, S_IF, S_FOR, S_SET, S_SETBLOCK, S_MACRO, S_CALL, S_FILTER, S_WITH,
    S_BREAK, S_CONTINUE, S_SCOPE
} jop;
enum { SEEN_SET = 1, SEEN_READ = 2 };
enum { USES_CALLER = 1, USES_KWARGS = 2, USES_VARARGS = 4 };
typedef enum { C_EQ, C_NE, C_LT, C_LE, C_GT, C_GE, C_IN, C_NOTIN } jcmp;

typedef struct jnode jnode;
typedef struct {
    jnode **pos, **kwv, *dyn, *dynkw;
    jstr **kw;
    int n_pos, n_kw;
} jcallargs;

struct jnode {
    jop op;
    int line;
    uint16_t depth;
    bool flag;                    /* S_FOR: recursive */
    bool closes;                  /* S_FOR: the body makes a function that keeps its scope */
    uint8_t uses;                 /* S_MACRO, S_CALL: which of USES_* the body names */
    uint32_t name;                /* id of a name */
    int n;
    jnode **kid;
    uint8_t *cmp;                 /* X_CMP: n - 1 operators */
    const void *row;              /* X_FILTER, X_TEST: what it is; NULL: unknown */
    jcallargs *args;
    jv v;                         /* X_CONST, S_TEXT; X_ATTR, X_FILTER, X_TEST: the name */
};

struct jinja {
    jmem mem;
    jnode *root;
    jstr **name;                  /* by id */
    uint32_t n_names, cap_names;
    uint32_t *slot;               /* names by hash */
    uint32_t n_slot;
    uint32_t loop, caller, kwargs, varargs;       /* ids of the names that mean something */
    uint8_t *first;               /* by id: SEEN_*, how the outermost scope first names it */
};

/* ---- rendering */

typedef struct jscope {
    struct jscope *up;
    struct { uint32_t name; jv v; } *v;
    uint32_t n, cap;
} jscope;

typedef struct {                  /* where text goes: bytes and their marks */
    char *p;
    uint8_t *m;
    size_t n, cap;
} jtext;

typedef struct jrt {
    const jinja *t;
    jmem mem;
    dr_err *e;
    int rc;
    int line;
    int depth;                    /* of evaluation */
    uint64_t fuel;
    size_t out_max;
    int64_t now;
    jv *root;                     /* by name id: the outermost scope */
    jscope *scope;                /* NULL: the outermost */
    jtext *out;
} jrt;

typedef struct jmacro {
    const jnode *node;            /* S_MACRO, or S_CALL: its body as caller() */
    jscope *scope;
} jmacro;

/* Iterating: for, filters, unpacking. next returns false at the end or on failure. */
typedef struct jiter {
    bool (*next)(jrt *rt, struct jiter *it, jv *v);
    jv over;
    size_t i;
    struct jiter *from;           /* what a generator draws from */
    const void *row;              /* filter or test that it applies */
    struct jargs *args;
    jv extra;
    jv *path;                     /* attribute path */
    int n_path;
    int depth;                    /* generators below it */
    bool neg, rev;                /* select: turned round; from the end */
    jscope *scope;                /* for … if: where its test is evaluated */
} jiter;

typedef struct jloop {
    jiter *it;
    const jnode *node;
    jscope *scope;
    int64_t index0, depth0;
    int64_t length;               /* -1: not asked */
    jv after, before, current, changed;
    jv over;
} jloop;

typedef struct jargs {
    jv *pos;
    int n;
    jstr **kw;
    jv *kwv;
    int n_kw;
} jargs;

typedef jv (*jfilter_fn)(jrt *rt, jv self, const jv *a, const jargs *all);
typedef struct jfilter_row {
    const char *name;
    jfilter_fn fn;
    const char *params;           /* "old,new,count"; NULL: the function takes `all` */
    int need;
} jfilter_row;
typedef struct jtest_row {
    const char *name;
    bool (*fn)(jrt *rt, jv self, jv arg, uint32_t sub);
    int n_args;
    uint32_t sub;
} jtest_row;
typedef jv (*jmethod_fn)(jrt *rt, jv self, const jv *a, const jargs *all);
typedef struct jmethod_row {
    uint32_t kinds;               /* bits of jkind */
    const char *name;
    jmethod_fn fn;                /* NULL: the sandbox forbids it */
    const char *params;
    int need;
} jmethod_row;

/* A byte inside a character of UTF-8. */
static inline bool jcont(char c) { return ((unsigned char)c & 0xc0) == 0x80; }

/* jinja_val.c */
void *jtake(jrt *rt, size_t n);                       /* NULL: rt failed */
jv jfail(jrt *rt, int code, const char *fmt, ...) DR_PRINTF(3, 4);
bool jspend(jrt *rt, uint64_t steps);                 /* false: rt failed */
static inline jv jv_none(void) { return (jv){ .kind = J_NONE }; }
static inline jv jv_missing(void) { return (jv){ .kind = J_MISSING }; }
static inline jv jv_bool(bool b) { return (jv){ .kind = J_BOOL, .b = b }; }
static inline jv jv_int(int64_t i) { return (jv){ .kind = J_INT, .i = i }; }
static inline jv jv_float(double f) { return (jv){ .kind = J_FLOAT, .f = f }; }
static inline jv jv_s(jstr *s) { return (jv){ .kind = J_STR, .s = s }; }
static inline bool jis_str(jv v) { return v.kind == J_STR; }
static inline bool jis_num(jv v)
{
    return v.kind == J_INT || v.kind == J_FLOAT || v.kind == J_BOOL || v.kind == J_BIG;
}
jv jundef_named(jrt *rt, span name);                  /* "'x' is undefined" */
jv jundef_why(jrt *rt, bool unsafe, const char *fmt, ...) DR_PRINTF(3, 4);
jv jundef_of(jrt *rt, jv obj, jv name);               /* no such attribute */
jv juse_undef(jrt *rt, jv v);                         /* fails as using it does */
const char *jtype(jv v);                              /* "str", "dict", … */
jstr *jstr_new(jrt *rt, const char *p, size_t n, bool in);    /* copies */
jstr *jstr_sub(jrt *rt, const jstr *s, size_t at, size_t n);  /* shares */
int64_t jstr_chars(jrt *rt, jstr *s);
size_t jstr_at(const jstr *s, int64_t ch);            /* byte of a character; ch within */
jlist *jlist_new(jrt *rt, size_t n);
jv jlist_v(jkind k, jlist *l);
void jlist_add(jrt *rt, jlist *l, size_t *cap, jv v);
jv jtuple2(jrt *rt, jv a, jv b);
jdict *jdict_new(jrt *rt, size_t cap);
void jdict_put(jrt *rt, jdict *d, jv k, jv v);
jv *jdict_get(jrt *rt, const jdict *d, jv k);         /* NULL: none */
jv *jdict_gets(const jdict *d, const char *k);
bool jequal(jrt *rt, jv a, jv b);
int jorder(jrt *rt, jv a, jv b, const char *op);      /* <0 0 >0; 2: not comparable (NaN) */
bool jtruth(jrt *rt, jv v);
bool jhashable(jv v);
int64_t jlen(jrt *rt, jv v);                          /* -1: it has none; no failure */
bool jin(jrt *rt, jv item, jv box);
jiter *jiterate(jrt *rt, jv v);                       /* NULL: rt failed */
bool jiterable(jv v);
jlist *jcollect(jrt *rt, jv v);
jv jview_at(jrt *rt, jv view, size_t i);
jiter *jiter_new(jrt *rt, bool (*next)(jrt *, jiter *, jv *), jv over);
void jsort(jrt *rt, jlist *keys, jlist *vals, bool reverse);

/* jinja_text.c */
void jtext_put(jrt *rt, jtext *t, const char *p, size_t n, bool in);
void jtext_str(jrt *rt, jtext *t, const jstr *s);
void jtext_puts(jrt *rt, jtext *t, const char *s);
void jtext_free(jtext *t);
jstr *jtext_take(jrt *rt, jtext *t);                  /* a string of it; frees it */
void jprint(jrt *rt, jtext *t, jv v);                 /* str(v) */
void jrepr(jrt *rt, jtext *t, jv v, int depth);
jstr *jto_str(jrt *rt, jv v);
void jreal_repr(char out[40], double v);              /* Python's repr of a float */
typedef struct { int indent; span ind_text, item, key; bool ascii, sort; } jdump_opt;
void jdump(jrt *rt, jtext *t, jv v, const jdump_opt *o, int depth);
bool jprintable(uint32_t c);

/* jinja_json.c */
jv jfrom_json(jrt *rt, const json_t *v, int depth);
jv jread_json(jrt *rt, span text, const char *what);
bool jread_try(jrt *rt, jstr *text, jv *v);           /* false: not JSON; no failure */
void jmessages(jrt *rt, jv list, bool roles, bool calls);

/* jinja_case.c: s with every character mapped as Python's upper, lower, title, capitalize. */
jstr *jcase(jrt *rt, const jstr *s, char how);        /* 'u' 'l' 't' 'c' */

/* case_data.c: a character, its upper case, its title case, where one of them is several */
extern const uint16_t case_many[][7];
extern const size_t case_many_n;

/* jinja_ops.c */
jv jarith(jrt *rt, jop op, jv a, jv b);
jv jconcat2(jrt *rt, jv a, jv b);                     /* strings, + */
jstr *jjoin(jrt *rt, const jstr *a, const jstr *b);   /* a new one; as safe as a */
jv jgetattr(jrt *rt, jv obj, jv name);
jv jgetitem(jrt *rt, jv obj, jv key);
jv jslice(jrt *rt, jv obj, jv lo, jv hi, jv step);
bool jcompare(jrt *rt, jcmp op, jv a, jv b);
jv jescape(jrt *rt, jv v);                            /* a safe string */

/* jinja_call.c */
jv jcall(jrt *rt, jv fn, const jargs *a);
/* Arguments by name; a[i] J_MISSING where none was given. n_max: room in a. */
bool jbind(jrt *rt, const char *what, const char *params, int need, const jargs *in, jv *a);
bool jglobal(jrt *rt, span name, jv *v);
bool jint_arg(jrt *rt, jv v, const char *what, int64_t *to);

/* jinja_eval.c */
jv jeval(jrt *rt, const jnode *x);
int jexec(jrt *rt, const jnode *x);                   /* 0, 1 break, 2 continue */
jv jmacro_call(jrt *rt, jmacro *m, const jargs *a);
jv jloop_call(jrt *rt, jloop *l, jv over);
jv jfilter_apply(jrt *rt, const jfilter_row *r, jv self, const jargs *a);
bool jtest_apply(jrt *rt, const jtest_row *r, jv self, const jargs *a);

/* jinja_filter*.c, jinja_test.c, jinja_method*.c, jinja_format.c */
const jfilter_row *jfilter_find(span name);
const jtest_row *jtest_find(span name);
const jmethod_row *jmethod_find(jkind k, span name);
extern const jfilter_row jfilters_seq[], jfilters_text[];
extern const jmethod_row jmethods_str[], jmethods_other[];
jv jformat_percent(jrt *rt, const jstr *f, jv args);
jv jformat_braces(jrt *rt, const jstr *f, const jargs *a);
jv jstrip(jrt *rt, jstr *s, jv chars, int sides);     /* sides: 1 left, 2 right */
jstr *jreplace(jrt *rt, const jstr *s, const jstr *old, const jstr *to, int64_t count);
jlist *jsplitlines(jrt *rt, const jstr *s, bool keep);
bool jspace(uint32_t c);                              /* str.isspace() */

/* jinja_lex.c */
typedef enum { T_EOF, T_DATA, T_VAR_BEGIN, T_VAR_END, T_BLOCK_BEGIN, T_BLOCK_END, T_NAME, T_STR,
               T_INT, T_FLOAT, T_OP } jtok_kind;
typedef struct {
    jtok_kind kind;
    int line;
    span s;                       /* T_DATA, T_NAME, T_OP */
    jv v;                         /* T_STR, T_INT, T_FLOAT */
} jtok;
int jlex(jmem *m, span text, jtok **tok, size_t *n, dr_err *e);

/* jinja_parse.c */
int jparse(jinja *t, const jtok *tok, size_t n, dr_err *e);
#endif
