/* jinja_parse.c - tokens as a tree. Spec: Jinja 3.1's parser.py, its precedences and its quirks
 * (a filter binds closer than a sign; a test takes one argument without brackets). */
#include <stdarg.h>
#include "base/mem.h"
#include "text/jinja_priv.h"

enum { TREE_DEPTH = 500 };      /* long chains of + lean to the left */

typedef struct {
    jinja *t;
    const jtok *tok;            /* what is next */
    dr_err *e;
    int rc, depth, loops;       /* loops: that break may leave */
} parser;

static jnode *expression(parser *p, bool cond);
static jnode *tuple(parser *p, bool cond, const char *end, bool parens);
static jnode *unary(parser *p, bool filters);
static jnode *statements(parser *p, const char *const *ends);

static jnode *fail(parser *p, int code, const char *fmt, ...) DR_PRINTF(3, 4);
static jnode *fail(parser *p, int code, const char *fmt, ...)
{
    char s[300];
    va_list ap;
    if (p->rc) return NULL;
    va_start(ap, fmt);
    vsnprintf(s, sizeof s, fmt, ap);
    va_end(ap);
    p->rc = err_set(p->e, code, "line %d of the chat template: %s", p->tok->line, s);
    return NULL;
}

static void *take(parser *p, size_t n)
{
    void *m = p->rc ? NULL : jmem_take(&p->t->mem, n);
    if (!m && !p->rc) p->rc = err_nomem(p->e, n, "a chat template");
    if (m) memset(m, 0, n);
    return m;
}

/* ---- tokens */

static bool op(const parser *p, const char *s)
{
    return p->tok->kind == T_OP && span_is(p->tok->s, s);
}

static bool name(const parser *p, const char *s)
{
    return p->tok->kind == T_NAME && span_is(p->tok->s, s);
}

static void next(parser *p) { if (p->tok->kind != T_EOF) p->tok++; }

static bool skip_op(parser *p, const char *s)
{
    if (p->rc || !op(p, s)) return false;
    next(p);
    return true;
}

static bool skip_name(parser *p, const char *s)
{
    if (p->rc || !name(p, s)) return false;
    next(p);
    return true;
}

static span shown(const parser *p)
{
    switch (p->tok->kind) {
    case T_EOF: return span_of("the end");
    case T_DATA: return span_of("text");
    case T_VAR_END: return span_of("}}");
    case T_BLOCK_END: return span_of("%}");
    default: return p->tok->s;
    }
}

static void want_op(parser *p, const char *s)
{
    if (!p->rc && !skip_op(p, s))
        fail(p, DR_EFORMAT, "'%s' is wanted, not '" SPAN_FMT "'", s, SPAN_ARG(shown(p)));
}

static void want(parser *p, jtok_kind k, const char *s)
{
    if (!p->rc && p->tok->kind != k)
        fail(p, DR_EFORMAT, "%s is wanted, not '" SPAN_FMT "'", s, SPAN_ARG(shown(p)));
    else if (!p->rc) next(p);
}

/* ---- names */

static uint32_t hash(span s)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < s.n; i++) h = (h ^ (uint8_t)s.p[i]) * 16777619u;
    return h;
}

static bool grow_names(parser *p)
{
    jinja *t = p->t;
    uint32_t n = t->n_slot ? t->n_slot * 2 : 256;
    jstr **name_ = take(p, n / 2 * sizeof *name_);
    uint32_t *slot = take(p, n * sizeof *slot);
    if (!name_ || !slot) return false;
    for (uint32_t i = 0; i < t->n_names; i++) {
        name_[i] = t->name[i];
        uint32_t h = hash((span){ t->name[i]->p, t->name[i]->n });
        while (slot[h & (n - 1)]) h++;
        slot[h & (n - 1)] = i + 1;
    }
    t->name = name_, t->slot = slot, t->n_slot = n, t->cap_names = n / 2;
    return true;
}

/* Names share one string and one number. */
static uint32_t intern(parser *p, span s)
{
    jinja *t = p->t;
    if (t->n_names == t->cap_names && !grow_names(p)) return 0;
    uint32_t h = hash(s), i;
    for (; (i = t->slot[h & (t->n_slot - 1)]); h++)
        if (span_eq((span){ t->name[i - 1]->p, t->name[i - 1]->n }, s)) return i - 1;
    jstr *str = take(p, sizeof *str);
    if (!str) return 0;
    *str = (jstr){ .p = s.p, .n = s.n };
    for (size_t k = 0; k < s.n; k++) str->chars += !jcont(s.p[k]);
    t->slot[h & (t->n_slot - 1)] = t->n_names + 1;
    t->name[t->n_names] = str;
    return t->n_names++;
}

/* ---- nodes */

static jnode *node(parser *p, jop o, int line, int n)
{
    jnode *x = take(p, sizeof *x);
    if (!x) return NULL;
    x->op = o, x->line = line, x->n = n, x->depth = 1;
    if (n) x->kid = take(p, (size_t)n * sizeof *x->kid);
    return x;
}

static void deepen(parser *p, jnode *x, const jnode *kid)
{
    if (kid && kid->depth >= x->depth) x->depth = (uint16_t)(kid->depth + 1);
    if (x->depth > TREE_DEPTH) fail(p, DR_EUNSUPPORTED, "an expression nested too deeply");
}

static void set(parser *p, jnode *x, int i, jnode *kid)
{
    if (p->rc || !x) return;
    x->kid[i] = kid;
    deepen(p, x, kid);
}

static jnode *node1(parser *p, jop o, int line, jnode *a)
{
    jnode *x = node(p, o, line, 1);
    set(p, x, 0, a);
    return x;
}

static jnode *node2(parser *p, jop o, int line, jnode *a, jnode *b)
{
    jnode *x = node(p, o, line, 2);
    set(p, x, 0, a);
    set(p, x, 1, b);
    return x;
}

/* A list that grows; it becomes a node's children. */
typedef struct { jnode **v; int n, cap; } list;

static void list_add(parser *p, list *l, jnode *x)
{
    if (p->rc || !x) return;
    if (l->n == l->cap) {
        int cap = l->cap ? l->cap * 2 : 4;
        jnode **v = take(p, (size_t)cap * sizeof *v);
        if (!v) return;
        if (l->n) memcpy(v, l->v, (size_t)l->n * sizeof *v);
        l->v = v, l->cap = cap;
    }
    l->v[l->n++] = x;
}

static jnode *of_list(parser *p, jop o, int line, const list *l)
{
    jnode *x = node(p, o, line, 0);
    if (!x) return NULL;
    x->kid = l->v, x->n = l->n;
    for (int i = 0; i < l->n; i++) deepen(p, x, l->v[i]);
    return x;
}

static jnode *constant(parser *p, jv v)
{
    jnode *x = node(p, X_CONST, p->tok->line, 0);
    if (x) x->v = v;
    return x;
}

static jnode *name_node(parser *p, jop o, span s)
{
    jnode *x = node(p, o, p->tok->line, 0);
    if (!x) return NULL;
    x->name = intern(p, s);
    if (!p->rc) x->v = jv_s(p->t->name[x->name]);
    return x;
}

static bool enter(parser *p)
{
    if (p->rc) return false;
    if (++p->depth > JINJA_MAX_DEPTH) fail(p, DR_EUNSUPPORTED, "nested too deeply");
    return !p->rc;
}

/* ---- expressions */

static jnode *joined_strings(parser *p)
{
    jv v = p->tok->v;
    next(p);
    while (p->tok->kind == T_STR && !p->rc) {
        const jstr *a = v.s, *b = p->tok->v.s;
        jstr *s = take(p, sizeof *s);
        char *text = take(p, a->n + b->n + 1);
        if (!s || !text) return NULL;
        memcpy(text, a->p, a->n);
        memcpy(text + a->n, b->p, b->n);
        *s = (jstr){ .p = text, .n = a->n + b->n, .chars = a->chars + b->chars };
        v = jv_s(s);
        next(p);
    }
    return constant(p, v);
}

static jnode *bracket_list(parser *p)
{
    list l = {0};
    int line = p->tok->line;
    next(p);
    while (!p->rc && !op(p, "]")) {
        if (l.n) want_op(p, ",");
        if (op(p, "]")) break;
        list_add(p, &l, expression(p, true));
    }
    want_op(p, "]");
    return of_list(p, X_LIST, line, &l);
}

static jnode *brace_dict(parser *p)
{
    list l = {0};
    int line = p->tok->line;
    next(p);
    while (!p->rc && !op(p, "}")) {
        if (l.n) want_op(p, ",");
        if (op(p, "}")) break;
        list_add(p, &l, expression(p, true));
        want_op(p, ":");
        list_add(p, &l, expression(p, true));
    }
    want_op(p, "}");
    return of_list(p, X_DICT, line, &l);
}

static jnode *primary(parser *p, bool ns)
{
    jnode *x = NULL;
    span s = p->tok->s;
    if (p->rc || !enter(p)) return NULL;
    if (p->tok->kind == T_NAME) {
        bool yes = span_is(s, "true") || span_is(s, "True");
        bool no = span_is(s, "false") || span_is(s, "False");
        if (yes || no) x = constant(p, jv_bool(yes));
        else if (span_is(s, "none") || span_is(s, "None")) x = constant(p, jv_none());
        else x = name_node(p, X_NAME, s);
        next(p);
        if (x && x->op == X_NAME && ns && skip_op(p, ".")) {
            x->op = X_NSREF;
            span a = p->tok->s;
            want(p, T_NAME, "a name");
            uint32_t id = intern(p, a);
            if (!p->rc) x->v = jv_s(p->t->name[id]);
        }
    } else if (p->tok->kind == T_STR) {
        x = joined_strings(p);
    } else if (p->tok->kind == T_INT || p->tok->kind == T_FLOAT) {
        x = constant(p, p->tok->v);
        next(p);
    } else if (skip_op(p, "(")) {
        x = tuple(p, true, NULL, true);
        want_op(p, ")");
    } else if (op(p, "[")) {
        x = bracket_list(p);
    } else if (op(p, "{")) {
        x = brace_dict(p);
    } else {
        fail(p, DR_EFORMAT, "an expression is wanted, not '" SPAN_FMT "'", SPAN_ARG(shown(p)));
    }
    p->depth--;
    return x;
}

static jnode *subscribed(parser *p)
{
    int line = p->tok->line;
    jnode *part[3] = {0};
    if (!op(p, ":")) {
        part[0] = expression(p, true);
        if (p->rc || !op(p, ":")) return part[0];
    }
    next(p);
    if (!op(p, ":") && !op(p, "]") && !op(p, ",")) part[1] = expression(p, true);
    if (skip_op(p, ":") && !op(p, "]") && !op(p, ",")) part[2] = expression(p, true);
    jnode *x = node(p, X_SLICE, line, 3);
    for (int i = 0; i < 3; i++) set(p, x, i, part[i]);
    return x;
}

static jnode *subscript(parser *p, jnode *of)
{
    int line = p->tok->line;
    if (skip_op(p, ".")) {
        span s = p->tok->s;
        if (p->tok->kind == T_INT) {
            jnode *i = constant(p, p->tok->v);
            next(p);
            return node2(p, X_ITEM, line, of, i);
        }
        want(p, T_NAME, "a name or number");
        jnode *x = node1(p, X_ATTR, line, of);
        uint32_t id = intern(p, s);
        if (!p->rc) x->v = jv_s(p->t->name[id]);
        return x;
    }
    list l = {0};
    next(p);
    while (!p->rc && !op(p, "]")) {
        if (l.n) want_op(p, ",");
        list_add(p, &l, subscribed(p));
    }
    want_op(p, "]");
    if (p->rc) return NULL;
    return node2(p, X_ITEM, line, of, l.n == 1 ? l.v[0] : of_list(p, X_TUPLE, line, &l));
}

static jcallargs *call_args(parser *p)
{
    jcallargs *a = take(p, sizeof *a);
    list pos = {0}, kwv = {0}, kw = {0};
    want_op(p, "(");
    for (bool comma = false; !p->rc && !op(p, ")"); comma = true) {
        if (comma) {
            want_op(p, ",");
            if (op(p, ")")) break;
        }
        const char *bad = "a call's arguments are in the wrong order";
        if (skip_op(p, "*")) {
            if (a->dyn || a->dynkw) fail(p, DR_EFORMAT, "%s", bad);
            a->dyn = expression(p, true);
        } else if (skip_op(p, "**")) {
            if (a->dynkw) fail(p, DR_EFORMAT, "%s", bad);
            a->dynkw = expression(p, true);
        } else if (p->tok->kind == T_NAME && p->tok[1].kind == T_OP && span_is(p->tok[1].s, "=")) {
            if (a->dynkw) fail(p, DR_EFORMAT, "%s", bad);
            list_add(p, &kw, name_node(p, X_NAME, p->tok->s));
            next(p);
            next(p);
            list_add(p, &kwv, expression(p, true));
        } else {
            if (a->dyn || a->dynkw || kw.n) fail(p, DR_EFORMAT, "%s", bad);
            list_add(p, &pos, expression(p, true));
        }
    }
    want_op(p, ")");
    if (p->rc) return NULL;
    a->pos = pos.v, a->n_pos = pos.n, a->kwv = kwv.v, a->n_kw = kwv.n;
    a->kw = take(p, (size_t)kw.n * sizeof *a->kw + 1);
    for (int i = 0; i < kw.n && !p->rc; i++) {
        a->kw[i] = kw.v[i]->v.s;
        for (int j = 0; j < i; j++)
            if (a->kw[i] == a->kw[j]) fail(p, DR_EFORMAT, "an argument is named twice");
    }
    return a;
}

static void deepen_args(parser *p, jnode *x)
{
    const jcallargs *a = x->args;
    for (int i = 0; a && i < a->n_pos; i++) deepen(p, x, a->pos[i]);
    for (int i = 0; a && i < a->n_kw; i++) deepen(p, x, a->kwv[i]);
    if (a) deepen(p, x, a->dyn), deepen(p, x, a->dynkw);
}

static jnode *call(parser *p, jnode *of)
{
    jnode *x = node1(p, X_CALL, p->tok->line, of);
    jcallargs *a = call_args(p);
    if (p->rc) return NULL;
    x->args = a;
    deepen_args(p, x);
    return x;
}

static jnode *postfix(parser *p, jnode *x)
{
    while (!p->rc) {
        if (op(p, ".") || op(p, "[")) x = subscript(p, x);
        else if (op(p, "(")) x = call(p, x);
        else break;
    }
    return x;
}

/* "a.b" after | or is. */
static span dotted(parser *p)
{
    span s = p->tok->s;
    want(p, T_NAME, "a name");
    while (skip_op(p, ".")) {
        s.n = (size_t)(p->tok->s.p + p->tok->s.n - s.p);
        want(p, T_NAME, "a name");
    }
    return s;
}

static jnode *filter(parser *p, jnode *of)
{
    int line = p->tok->line;
    span s = dotted(p);
    jcallargs *a = !p->rc && op(p, "(") ? call_args(p) : NULL;
    jnode *x = node(p, X_FILTER, line, 1);
    if (p->rc) return NULL;
    if (of) set(p, x, 0, of);
    uint32_t id = intern(p, s);
    if (p->rc) return NULL;
    x->v = jv_s(p->t->name[id]), x->row = jfilter_find(s), x->args = a;
    deepen_args(p, x);
    return x;
}

static jnode *test(parser *p, jnode *of)
{
    int line = p->tok->line;
    next(p);
    bool not = skip_name(p, "not");
    jcallargs *a = NULL;
    span s = dotted(p);
    jtok_kind k = p->tok->kind;
    if (!p->rc && op(p, "(")) {
        a = call_args(p);
    } else if (!p->rc && (k == T_NAME || k == T_STR || k == T_INT || k == T_FLOAT || op(p, "[") ||
                          op(p, "{"))
               && !name(p, "else") && !name(p, "or") && !name(p, "and")) {
        if (name(p, "is")) return fail(p, DR_EFORMAT, "tests in a row");
        a = take(p, sizeof *a);
        list l = {0};
        jnode *arg = primary(p, false);
        list_add(p, &l, postfix(p, arg));
        if (!p->rc) a->pos = l.v, a->n_pos = l.n;
    }
    jnode *x = node1(p, X_TEST, line, of);
    uint32_t id = intern(p, s);
    if (p->rc) return NULL;
    if (a && (a->n_kw || a->dyn || a->dynkw))
        return fail(p, DR_EUNSUPPORTED, "a test with named arguments");
    x->v = jv_s(p->t->name[id]), x->row = jtest_find(s), x->args = a;
    deepen_args(p, x);
    return not ? node1(p, X_NOT, line, x) : x;
}

static jnode *filter_expr(parser *p, jnode *x)
{
    while (!p->rc) {
        if (skip_op(p, "|")) x = filter(p, x);
        else if (name(p, "is")) x = test(p, x);
        else if (op(p, "(")) x = call(p, x);
        else break;
    }
    return x;
}

static jnode *unary(parser *p, bool filters)
{
    int line = p->tok->line;
    jnode *x;
    if (!enter(p)) return NULL;
    if (skip_op(p, "-")) x = node1(p, X_NEG, line, unary(p, false));
    else if (skip_op(p, "+")) x = node1(p, X_POS, line, unary(p, false));
    else x = primary(p, false);
    x = postfix(p, x);
    if (filters) x = filter_expr(p, x);
    p->depth--;
    return x;
}

static jnode *power(parser *p)
{
    int line = p->tok->line;
    jnode *x = unary(p, true);
    while (skip_op(p, "**")) x = node2(p, X_POW, line, x, unary(p, true));
    return x;
}

static jnode *product(parser *p)
{
    static const struct { const char *s; jop o; } by[] = {
        { "*", X_MUL }, { "/", X_DIV }, { "//", X_FLOORDIV }, { "%", X_MOD }, { NULL, 0 } };
    int line = p->tok->line;
    jnode *x = power(p);
    for (int i = 0; by[i].s && !p->rc; i++)
        if (skip_op(p, by[i].s)) x = node2(p, by[i].o, line, x, power(p)), i = -1;
    return x;
}

static jnode *concat(parser *p)
{
    list l = {0};
    int line = p->tok->line;
    jnode *x = product(p);
    if (p->rc || !op(p, "~")) return x;
    list_add(p, &l, x);
    while (skip_op(p, "~")) list_add(p, &l, product(p));
    return of_list(p, X_CONCAT, line, &l);
}

static jnode *sum(parser *p)
{
    int line = p->tok->line;
    jnode *x = concat(p);
    while (!p->rc && (op(p, "+") || op(p, "-"))) {
        jop o = op(p, "+") ? X_ADD : X_SUB;
        next(p);
        x = node2(p, o, line, x, concat(p));
    }
    return x;
}

static int compare_op(parser *p)
{
    static const char *const by[] = { "==", "!=", "<", "<=", ">", ">=" };
    for (int i = 0; i < 6; i++)
        if (skip_op(p, by[i])) return i;
    if (skip_name(p, "in")) return C_IN;
    if (!p->rc && name(p, "not") && p->tok[1].kind == T_NAME && span_is(p->tok[1].s, "in")) {
        next(p);
        next(p);
        return C_NOTIN;
    }
    return -1;
}

static jnode *comparison(parser *p)
{
    list l = {0};
    int line = p->tok->line, o;
    jnode *x = sum(p);
    uint8_t ops[32];
    while ((o = compare_op(p)) >= 0) {
        if (!l.n) list_add(p, &l, x);
        if (l.n == 32) return fail(p, DR_EUNSUPPORTED, "a chain of comparisons");
        if (l.n) ops[l.n - 1] = (uint8_t)o;
        list_add(p, &l, sum(p));
    }
    if (!l.n || p->rc) return x;
    jnode *c = of_list(p, X_CMP, line, &l);
    uint8_t *keep = take(p, (size_t)l.n);
    if (p->rc) return NULL;
    memcpy(keep, ops, (size_t)l.n - 1);
    c->cmp = keep;
    return c;
}

static jnode *negation(parser *p)
{
    int line = p->tok->line;
    if (!skip_name(p, "not")) return comparison(p);
    if (!enter(p)) return NULL;
    jnode *x = node1(p, X_NOT, line, negation(p));
    p->depth--;
    return x;
}

static jnode *conjunction(parser *p)
{
    int line = p->tok->line;
    jnode *x = negation(p);
    while (skip_name(p, "and")) x = node2(p, X_AND, line, x, negation(p));
    return x;
}

static jnode *disjunction(parser *p)
{
    int line = p->tok->line;
    jnode *x = conjunction(p);
    while (skip_name(p, "or")) x = node2(p, X_OR, line, x, conjunction(p));
    return x;
}

static jnode *expression(parser *p, bool cond)
{
    if (!enter(p)) return NULL;
    int line = p->tok->line;
    jnode *x = disjunction(p);
    while (cond && skip_name(p, "if")) {
        jnode *c = node(p, X_COND, line, 3);
        set(p, c, 0, disjunction(p));
        set(p, c, 1, x);
        if (skip_name(p, "else")) set(p, c, 2, expression(p, true));
        x = c;
    }
    p->depth--;
    return x;
}

static bool tuple_ends(const parser *p, const char *end)
{
    return p->tok->kind == T_VAR_END || p->tok->kind == T_BLOCK_END || op(p, ")")
        || (end && name(p, end));
}

static jnode *tuple(parser *p, bool cond, const char *end, bool parens)
{
    list l = {0};
    int line = p->tok->line;
    bool is_tuple = false;
    while (!p->rc) {
        if (l.n) want_op(p, ",");
        if (tuple_ends(p, end)) break;
        list_add(p, &l, expression(p, cond));
        if (!op(p, ",")) break;
        is_tuple = true;
    }
    if (!is_tuple && l.n) return p->rc ? NULL : l.v[0];
    if (!is_tuple && !parens)
        fail(p, DR_EFORMAT, "an expression is wanted, not '" SPAN_FMT "'", SPAN_ARG(shown(p)));
    return of_list(p, X_TUPLE, line, &l);
}

/* ---- statements */

/* What set and for assign to: a name, ns.name (set), or several with commas. */
static jnode *target(parser *p, bool ns, const char *end)
{
    list l = {0};
    int line = p->tok->line;
    bool is_tuple = false;
    while (!p->rc) {
        if (l.n) want_op(p, ",");
        if (tuple_ends(p, end)) break;
        jnode *x = primary(p, ns);
        if (!p->rc && x->op == X_TUPLE && x->n) {
            for (int i = 0; i < x->n; i++)
                if (x->kid[i]->op != X_NAME)
                    return fail(p, DR_EUNSUPPORTED, "an assignment to something nested");
        } else if (!p->rc && x->op != X_NAME && x->op != X_NSREF) {
            return fail(p, DR_EFORMAT, "an assignment to what is no name");
        }
        list_add(p, &l, x);
        if (!op(p, ",")) break;
        is_tuple = true;
    }
    if (p->rc) return NULL;
    if (!l.n) return fail(p, DR_EFORMAT, "an assignment to nothing");
    return is_tuple ? of_list(p, X_TUPLE, line, &l) : l.v[0];
}

static jnode *one_name(parser *p)
{
    jnode *x = name_node(p, X_NAME, p->tok->s);
    want(p, T_NAME, "a name");
    return x;
}

static void block_end(parser *p) { want(p, T_BLOCK_END, "%}"); }

/* "{% endx": the caller has seen that it is next. */
static jnode *body_to(parser *p, const char *end, int *loops)
{
    const char *const ends[] = { end, NULL };
    int had = p->loops;
    if (loops) p->loops = *loops;
    jnode *b = statements(p, ends);
    p->loops = had;
    if (!p->rc) next(p);                         /* its name; the block's end is the caller's */
    return b;
}

static jnode *parse_set(parser *p)
{
    int line = p->tok->line, none = 0;
    next(p);
    jnode *to = target(p, true, NULL);
    if (skip_op(p, "=")) return node2(p, S_SET, line, to, tuple(p, true, NULL, false));
    jnode *f = NULL;
    while (skip_op(p, "|")) f = filter(p, f);
    jnode *x = node(p, S_SETBLOCK, line, 3);
    set(p, x, 0, to);
    set(p, x, 1, f);
    set(p, x, 2, body_to(p, "endset", &none));
    return x;
}

static jnode *parse_for(parser *p)
{
    static const char *const ends[] = { "endfor", "else", NULL };
    jnode *x = node(p, S_FOR, p->tok->line, 5);
    next(p);
    set(p, x, 0, target(p, false, "in"));
    if (!skip_name(p, "in"))
        return fail(p, DR_EFORMAT, "'in' is wanted, not '" SPAN_FMT "'", SPAN_ARG(shown(p)));
    set(p, x, 1, tuple(p, false, "recursive", false));
    if (skip_name(p, "if")) set(p, x, 2, expression(p, true));
    if (skip_name(p, "recursive") && x) x->flag = true;
    p->loops++;
    set(p, x, 3, statements(p, ends));
    p->loops--;
    if (p->rc) return NULL;
    bool other = name(p, "else");
    next(p);
    if (other) set(p, x, 4, body_to(p, "endfor", NULL));
    return x;
}

/* Children: condition and body, again for each elif, then the body of else. */
static jnode *parse_if(parser *p)
{
    static const char *const ends[] = { "elif", "else", "endif", NULL };
    int line = p->tok->line;
    list l = {0};
    for (bool more = true; more && !p->rc;) {
        next(p);
        list_add(p, &l, tuple(p, false, NULL, false));
        list_add(p, &l, statements(p, ends));
        if (p->rc) return NULL;
        if (name(p, "elif")) continue;
        if (name(p, "else")) {
            next(p);
            list_add(p, &l, body_to(p, "endif", NULL));
        } else {
            next(p);
        }
        more = false;
    }
    return of_list(p, S_IF, line, &l);
}

/* Parameters and defaults of a macro or call block: names, then as many defaults as there are. */
static void signature(parser *p, list *names, list *defaults)
{
    want_op(p, "(");
    while (!p->rc && !op(p, ")")) {
        if (names->n) want_op(p, ",");
        list_add(p, names, one_name(p));
        if (skip_op(p, "=")) list_add(p, defaults, expression(p, true));
        else if (defaults->n) fail(p, DR_EFORMAT, "a parameter without default behind one with");
    }
    want_op(p, ")");
    for (int i = 0; i < names->n && !p->rc; i++)
        for (int j = 0; j < i; j++)
            if (names->v[i]->name == names->v[j]->name)
                fail(p, DR_EFORMAT, "a parameter is named twice");
}

/* What a macro is made of: kid 0 the body, 1 the parameters, 2 the defaults. */
static jnode *function(parser *p, jop o, int line, const list *names, const list *defaults,
                       const char *end)
{
    int none = 0;
    jnode *x = node(p, o, line, 4);
    set(p, x, 1, of_list(p, X_TUPLE, line, names));
    set(p, x, 2, of_list(p, X_TUPLE, line, defaults));
    set(p, x, 0, body_to(p, end, &none));
    return x;
}

static jnode *parse_macro(parser *p)
{
    list names = {0}, defaults = {0};
    int line = p->tok->line;
    next(p);
    jnode *called = one_name(p);
    signature(p, &names, &defaults);
    jnode *x = function(p, S_MACRO, line, &names, &defaults, "endmacro");
    if (!p->rc) x->name = called->name, x->v = called->v;
    return x;
}

static jnode *parse_call(parser *p)
{
    list names = {0}, defaults = {0};
    int line = p->tok->line;
    next(p);
    if (op(p, "(")) signature(p, &names, &defaults);
    jnode *c = expression(p, true);
    if (!p->rc && c->op != X_CALL) return fail(p, DR_EFORMAT, "{%% call %%} of what is no call");
    jnode *x = function(p, S_CALL, line, &names, &defaults, "endcall");
    set(p, x, 3, c);
    return x;
}

static jnode *parse_filter_block(parser *p)
{
    int line = p->tok->line, none = 0;
    next(p);
    jnode *f = filter(p, NULL);
    while (skip_op(p, "|")) f = filter(p, f);
    return node2(p, S_FILTER, line, f, body_to(p, "endfilter", &none));
}

static jnode *parse_with(parser *p)
{
    list to = {0}, from = {0};
    int line = p->tok->line;
    next(p);
    while (!p->rc && p->tok->kind != T_BLOCK_END) {
        if (to.n) want_op(p, ",");
        list_add(p, &to, target(p, false, NULL));
        want_op(p, "=");
        list_add(p, &from, expression(p, true));
    }
    jnode *body = body_to(p, "endwith", NULL);
    for (int i = 0; i < from.n; i++) list_add(p, &to, from.v[i]);
    list_add(p, &to, body);
    return of_list(p, S_WITH, line, &to);
}

static jnode *parse_print(parser *p)
{
    list l = {0};
    int line = p->tok->line;
    next(p);
    while (!p->rc && p->tok->kind != T_BLOCK_END) {
        if (l.n) want_op(p, ",");
        list_add(p, &l, expression(p, true));
    }
    return of_list(p, S_PRINT, line, &l);
}

static jnode *parse_leave(parser *p)
{
    jop o = name(p, "break") ? S_BREAK : S_CONTINUE;
    if (!p->loops) return fail(p, DR_EFORMAT, "break or continue outside a loop's own body");
    jnode *x = node(p, o, p->tok->line, 0);
    next(p);
    return x;
}

static jnode *parse_generation(parser *p)
{
    int line = p->tok->line, none = 0;
    next(p);
    return node1(p, S_SCOPE, line, body_to(p, "endgeneration", &none));
}

static const struct { const char *name; jnode *(*fn)(parser *p); } keyword[] = {
    { "set", parse_set }, { "for", parse_for }, { "if", parse_if }, { "macro", parse_macro },
    { "call", parse_call }, { "filter", parse_filter_block }, { "with", parse_with },
    { "print", parse_print }, { "break", parse_leave }, { "continue", parse_leave },
    { "generation", parse_generation },
};

static jnode *statement(parser *p)
{
    if (p->tok->kind != T_NAME) return fail(p, DR_EFORMAT, "a tag's name is wanted");
    for (size_t i = 0; i < sizeof keyword / sizeof *keyword; i++)
        if (name(p, keyword[i].name)) return keyword[i].fn(p);
    return fail(p, DR_EUNSUPPORTED, "the tag {%% " SPAN_FMT " %%} is not one that drover knows here",
                SPAN_ARG(p->tok->s));
}

static bool at_end(const parser *p, const char *const *ends)
{
    for (int i = 0; ends && ends[i]; i++)
        if (name(p, ends[i])) return true;
    return false;
}

/* To the end of the text, or to one of `ends`, which is then next. */
static jnode *parse_body(parser *p, const char *const *ends)
{
    list l = {0};
    int line = p->tok->line;
    if (!enter(p)) return NULL;
    while (!p->rc && p->tok->kind != T_EOF) {
        if (p->tok->kind == T_DATA) {
            jnode *x = node(p, S_TEXT, p->tok->line, 0);
            jstr *s = take(p, sizeof *s);
            if (p->rc) break;
            *s = (jstr){ .p = p->tok->s.p, .n = p->tok->s.n, .chars = -1 };
            x->v = jv_s(s);
            list_add(p, &l, x);
            next(p);
        } else if (p->tok->kind == T_VAR_BEGIN) {
            int at = p->tok->line;
            next(p);
            list_add(p, &l, node1(p, S_PRINT, at, tuple(p, true, NULL, false)));
            want(p, T_VAR_END, "}}");
        } else {
            want(p, T_BLOCK_BEGIN, "{%");
            if (at_end(p, ends)) {
                p->depth--;
                return of_list(p, S_BODY, line, &l);
            }
            list_add(p, &l, statement(p));
            block_end(p);
        }
    }
    if (ends) fail(p, DR_EFORMAT, "the end comes before {%% %s %%}", ends[0]);
    p->depth--;
    return of_list(p, S_BODY, line, &l);
}

static jnode *statements(parser *p, const char *const *ends)
{
    skip_op(p, ":");
    block_end(p);
    return p->rc ? NULL : parse_body(p, ends);
}

/* ---- afterwards */

static uint8_t names_used(const jinja *t, const jnode *x);

static uint8_t names_in(const jinja *t, jnode *const *v, int n)
{
    uint8_t u = 0;
    for (int i = 0; i < n; i++) u |= names_used(t, v[i]);
    return u;
}

/* Does the body of a macro speak of caller, kwargs or varargs? */
static uint8_t names_used(const jinja *t, const jnode *x)
{
    if (!x) return 0;
    if (x->op == X_NAME)
        return x->name == t->caller ? USES_CALLER : x->name == t->kwargs ? USES_KWARGS
             : x->name == t->varargs ? USES_VARARGS : 0;
    uint8_t u = names_in(t, x->kid, x->n);
    if (!x->args) return u;
    u |= names_in(t, x->args->pos, x->args->n_pos) | names_in(t, x->args->kwv, x->args->n_kw);
    return u | names_used(t, x->args->dyn) | names_used(t, x->args->dynkw);
}

/* An unknown filter or test is an error at once, but where an if may keep it from being reached.
 * Also: which loops hold functions that keep the loop's variables. */
static bool check(parser *p, jnode *x, bool soft)
{
    bool closes = false;
    if (!x || p->rc) return false;
    if ((x->op == X_FILTER || x->op == X_TEST) && !x->row && !soft)
        p->rc = err_set(p->e, DR_EUNSUPPORTED, "line %d of the chat template: the %s '" SPAN_FMT
                        "' is not one that drover knows", x->line,
                        x->op == X_FILTER ? "filter" : "test", SPAN_ARG(((span){ x->v.s->p,
                        x->v.s->n })));
    bool inner = x->op == S_FOR || x->op == S_MACRO || x->op == S_CALL || x->op == S_FILTER
              || x->op == S_SETBLOCK || x->op == S_WITH || x->op == S_SCOPE;
    bool kid_soft = inner ? false : soft || x->op == S_IF || x->op == X_COND;
    for (int i = 0; i < x->n; i++) closes |= check(p, x->kid[i], kid_soft);
    for (int i = 0; x->args && i < x->args->n_pos; i++) check(p, x->args->pos[i], kid_soft);
    for (int i = 0; x->args && i < x->args->n_kw; i++) check(p, x->args->kwv[i], kid_soft);
    if (x->args) check(p, x->args->dyn, kid_soft), check(p, x->args->dynkw, kid_soft);
    if (x->op == S_FOR) x->closes = closes;
    if (x->op == S_MACRO || x->op == S_CALL) x->uses = names_used(p->t, x->kid[0]);
    return closes || x->op == S_MACRO || x->op == S_CALL;
}

int jparse(jinja *t, const jtok *tok, size_t n, dr_err *e)
{
    parser p = { .t = t, .tok = tok, .e = e };
    (void)n;
    t->loop = intern(&p, span_of("loop")), t->caller = intern(&p, span_of("caller"));
    t->kwargs = intern(&p, span_of("kwargs")), t->varargs = intern(&p, span_of("varargs"));
    t->root = parse_body(&p, NULL);
    if (!p.rc) check(&p, t->root, false);
    return p.rc;
}

jinja *jinja_parse(span text, dr_err *e)
{
    jtok *tok = NULL;
    size_t n = 0;
    jinja *t = mem_zalloc(1, sizeof *t);
    if (!t) {
        err_nomem(e, sizeof *t, "a chat template");
        return NULL;
    }
    t->mem.max = (size_t)1 << 30;
    /* tokens point into the text, which the tree keeps */
    int rc = jlex(&t->mem, text, &tok, &n, e);
    if (!rc) rc = jparse(t, tok, n, e);
    if (rc) {
        jinja_free(t);
        return NULL;
    }
    return t;
}

void jinja_free(jinja *t)
{
    if (!t) return;
    jmem_free(&t->mem);
    mem_free(t);
}
