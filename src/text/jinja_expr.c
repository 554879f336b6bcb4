/* jinja_expr.c - expressions. Spec: Jinja 3.1's parser.py, its precedences and its quirks (a filter
 * binds closer than a sign; a test takes one argument without brackets). */
#include "text/jinja_parse.h"

static jnode *unary(parser *p, bool filters);

static jnode *joined_strings(parser *p)
{
    jv v = p->tok->v;
    jp_next(p);
    while (p->tok->kind == T_STR && !p->rc) {
        const jstr *a = v.s, *b = p->tok->v.s;
        jstr *s = jp_take(p, sizeof *s);
        char *text = jp_take(p, a->n + b->n + 1);
        if (!s || !text) return NULL;
        memcpy(text, a->p, a->n);
        memcpy(text + a->n, b->p, b->n);
        *s = (jstr){ .p = text, .n = a->n + b->n, .chars = a->chars + b->chars };
        v = jv_s(s);
        jp_next(p);
    }
    return jp_constant(p, v);
}

static jnode *bracket_list(parser *p)
{
    jnodes l = {0};
    int line = p->tok->line;
    jp_next(p);
    while (!p->rc && !jp_op(p, "]")) {
        if (l.n) jp_want_op(p, ",");
        if (jp_op(p, "]")) break;
        jp_list_add(p, &l, jp_expression(p, true));
    }
    jp_want_op(p, "]");
    return jp_of_list(p, X_LIST, line, &l);
}

static jnode *brace_dict(parser *p)
{
    jnodes l = {0};
    int line = p->tok->line;
    jp_next(p);
    while (!p->rc && !jp_op(p, "}")) {
        if (l.n) jp_want_op(p, ",");
        if (jp_op(p, "}")) break;
        jp_list_add(p, &l, jp_expression(p, true));
        jp_want_op(p, ":");
        jp_list_add(p, &l, jp_expression(p, true));
    }
    jp_want_op(p, "}");
    return jp_of_list(p, X_DICT, line, &l);
}

jnode *jp_primary(parser *p, bool ns)
{
    jnode *x = NULL;
    span s = p->tok->s;
    if (p->rc || !jp_enter(p)) return NULL;
    if (p->tok->kind == T_NAME) {
        bool yes = span_is(s, "true") || span_is(s, "True");
        bool no = span_is(s, "false") || span_is(s, "False");
        if (yes || no) x = jp_constant(p, jv_bool(yes));
        else if (span_is(s, "none") || span_is(s, "None")) x = jp_constant(p, jv_none());
        else x = jp_name_node(p, X_NAME, s);
        jp_next(p);
        if (x && x->op == X_NAME && ns && jp_skip_op(p, ".")) {
            x->op = X_NSREF;
            span a = p->tok->s;
            jp_want(p, T_NAME, "a name");
            uint32_t id = jp_intern(p, a);
            if (!p->rc) x->v = jv_s(p->t->name[id]);
        }
    } else if (p->tok->kind == T_STR) {
        x = joined_strings(p);
    } else if (p->tok->kind == T_INT || p->tok->kind == T_FLOAT) {
        x = jp_constant(p, p->tok->v);
        jp_next(p);
    } else if (jp_skip_op(p, "(")) {
        x = jp_tuple(p, true, NULL, true);
        jp_want_op(p, ")");
    } else if (jp_op(p, "[")) {
        x = bracket_list(p);
    } else if (jp_op(p, "{")) {
        x = brace_dict(p);
    } else {
        jp_fail(p, DR_EFORMAT, "an expression is wanted, not '" SPAN_FMT "'", SPAN_ARG(jp_shown(p)));
    }
    p->depth--;
    return x;
}

static jnode *subscribed(parser *p)
{
    int line = p->tok->line;
    jnode *part[3] = {0};
    if (!jp_op(p, ":")) {
        part[0] = jp_expression(p, true);
        if (p->rc || !jp_op(p, ":")) return part[0];
    }
    jp_next(p);
    if (!jp_op(p, ":") && !jp_op(p, "]") && !jp_op(p, ",")) part[1] = jp_expression(p, true);
    if (jp_skip_op(p, ":") && !jp_op(p, "]") && !jp_op(p, ",")) part[2] = jp_expression(p, true);
    jnode *x = jp_node(p, X_SLICE, line, 3);
    for (int i = 0; i < 3; i++) jp_set(p, x, i, part[i]);
    return x;
}

static jnode *subscript(parser *p, jnode *of)
{
    int line = p->tok->line;
    if (jp_skip_op(p, ".")) {
        span s = p->tok->s;
        if (p->tok->kind == T_INT) {
            jnode *i = jp_constant(p, p->tok->v);
            jp_next(p);
            return jp_node2(p, X_ITEM, line, of, i);
        }
        jp_want(p, T_NAME, "a name or number");
        jnode *x = jp_node1(p, X_ATTR, line, of);
        uint32_t id = jp_intern(p, s);
        if (!p->rc) x->v = jv_s(p->t->name[id]);
        return x;
    }
    jnodes l = {0};
    jp_next(p);
    while (!p->rc && !jp_op(p, "]")) {
        if (l.n) jp_want_op(p, ",");
        jp_list_add(p, &l, subscribed(p));
    }
    jp_want_op(p, "]");
    if (p->rc) return NULL;
    return jp_node2(p, X_ITEM, line, of, l.n == 1 ? l.v[0] : jp_of_list(p, X_TUPLE, line, &l));
}

static jcallargs *call_args(parser *p)
{
    jcallargs *a = jp_take(p, sizeof *a);
    jnodes pos = {0}, kwv = {0}, kw = {0};
    jp_want_op(p, "(");
    for (bool comma = false; !p->rc && !jp_op(p, ")"); comma = true) {
        if (comma) {
            jp_want_op(p, ",");
            if (jp_op(p, ")")) break;
        }
        const char *bad = "a call's arguments are in the wrong order";
        if (jp_skip_op(p, "*")) {
            if (a->dyn || a->dynkw) jp_fail(p, DR_EFORMAT, "%s", bad);
            a->dyn = jp_expression(p, true);
        } else if (jp_skip_op(p, "**")) {
            if (a->dynkw) jp_fail(p, DR_EFORMAT, "%s", bad);
            a->dynkw = jp_expression(p, true);
        } else if (p->tok->kind == T_NAME && p->tok[1].kind == T_OP && span_is(p->tok[1].s, "=")) {
            if (a->dynkw) jp_fail(p, DR_EFORMAT, "%s", bad);
            jp_list_add(p, &kw, jp_name_node(p, X_NAME, p->tok->s));
            jp_next(p);
            jp_next(p);
            jp_list_add(p, &kwv, jp_expression(p, true));
        } else {
            if (a->dyn || a->dynkw || kw.n) jp_fail(p, DR_EFORMAT, "%s", bad);
            jp_list_add(p, &pos, jp_expression(p, true));
        }
    }
    jp_want_op(p, ")");
    if (p->rc) return NULL;
    a->pos = pos.v, a->n_pos = pos.n, a->kwv = kwv.v, a->n_kw = kwv.n;
    a->kw = jp_take(p, (size_t)kw.n * sizeof *a->kw + 1);
    for (int i = 0; i < kw.n && !p->rc; i++) {
        a->kw[i] = kw.v[i]->v.s;
        for (int j = 0; j < i; j++)
            if (a->kw[i] == a->kw[j]) jp_fail(p, DR_EFORMAT, "an argument is named twice");
    }
    return a;
}

static void deepen_args(parser *p, jnode *x)
{
    const jcallargs *a = x->args;
    for (int i = 0; a && i < a->n_pos; i++) jp_deepen(p, x, a->pos[i]);
    for (int i = 0; a && i < a->n_kw; i++) jp_deepen(p, x, a->kwv[i]);
    if (a) jp_deepen(p, x, a->dyn), jp_deepen(p, x, a->dynkw);
}

static jnode *call(parser *p, jnode *of)
{
    jnode *x = jp_node1(p, X_CALL, p->tok->line, of);
    jcallargs *a = call_args(p);
    if (p->rc) return NULL;
    x->args = a;
    deepen_args(p, x);
    return x;
}

static jnode *postfix(parser *p, jnode *x)
{
    while (!p->rc) {
        if (jp_op(p, ".") || jp_op(p, "[")) x = subscript(p, x);
        else if (jp_op(p, "(")) x = call(p, x);
        else break;
    }
    return x;
}

/* "a.b" after | or is. */
static span dotted(parser *p)
{
    span s = p->tok->s;
    jp_want(p, T_NAME, "a name");
    while (jp_skip_op(p, ".")) {
        span more = p->tok->s;
        jp_want(p, T_NAME, "a name");
        if (!p->rc) s.n = (size_t)(more.p + more.n - s.p);      /* names are parts of the source */
    }
    return s;
}

jnode *jp_filter(parser *p, jnode *of)
{
    int line = p->tok->line;
    span s = dotted(p);
    jcallargs *a = !p->rc && jp_op(p, "(") ? call_args(p) : NULL;
    jnode *x = jp_node(p, X_FILTER, line, 1);
    if (p->rc) return NULL;
    if (of) jp_set(p, x, 0, of);
    uint32_t id = jp_intern(p, s);
    if (p->rc) return NULL;
    x->v = jv_s(p->t->name[id]), x->row = jfilter_find(s), x->args = a;
    deepen_args(p, x);
    return x;
}

static jnode *test(parser *p, jnode *of)
{
    int line = p->tok->line;
    jp_next(p);
    bool not = jp_skip_name(p, "not");
    jcallargs *a = NULL;
    span s = dotted(p);
    jtok_kind k = p->tok->kind;
    if (!p->rc && jp_op(p, "(")) {
        a = call_args(p);
    } else if (!p->rc && (k == T_NAME || k == T_STR || k == T_INT || k == T_FLOAT || jp_op(p, "[") ||
                          jp_op(p, "{"))
               && !jp_name(p, "else") && !jp_name(p, "or") && !jp_name(p, "and")) {
        if (jp_name(p, "is")) return jp_fail(p, DR_EFORMAT, "tests in a row");
        a = jp_take(p, sizeof *a);
        jnodes l = {0};
        jnode *arg = jp_primary(p, false);
        jp_list_add(p, &l, postfix(p, arg));
        if (!p->rc) a->pos = l.v, a->n_pos = l.n;
    }
    jnode *x = jp_node1(p, X_TEST, line, of);
    uint32_t id = jp_intern(p, s);
    if (p->rc) return NULL;
    if (a && (a->n_kw || a->dyn || a->dynkw))
        return jp_fail(p, DR_EUNSUPPORTED, "a test with named arguments");
    x->v = jv_s(p->t->name[id]), x->row = jtest_find(s), x->args = a;
    deepen_args(p, x);
    return not ? jp_node1(p, X_NOT, line, x) : x;
}

static jnode *filter_expr(parser *p, jnode *x)
{
    while (!p->rc) {
        if (jp_skip_op(p, "|")) x = jp_filter(p, x);
        else if (jp_name(p, "is")) x = test(p, x);
        else if (jp_op(p, "(")) x = call(p, x);
        else break;
    }
    return x;
}

static jnode *unary(parser *p, bool filters)
{
    int line = p->tok->line;
    jnode *x;
    if (!jp_enter(p)) return NULL;
    if (jp_skip_op(p, "-")) x = jp_node1(p, X_NEG, line, unary(p, false));
    else if (jp_skip_op(p, "+")) x = jp_node1(p, X_POS, line, unary(p, false));
    else x = jp_primary(p, false);
    x = postfix(p, x);
    if (filters) x = filter_expr(p, x);
    p->depth--;
    return x;
}

static jnode *power(parser *p)
{
    int line = p->tok->line;
    jnode *x = unary(p, true);
    while (jp_skip_op(p, "**")) x = jp_node2(p, X_POW, line, x, unary(p, true));
    return x;
}

static jnode *product(parser *p)
{
    static const struct { const char *s; jop o; } by[] = {
        { "*", X_MUL }, { "/", X_DIV }, { "//", X_FLOORDIV }, { "%", X_MOD }, { NULL, 0 } };
    int line = p->tok->line;
    jnode *x = power(p);
    for (int i = 0; by[i].s && !p->rc; i++)
        if (jp_skip_op(p, by[i].s)) x = jp_node2(p, by[i].o, line, x, power(p)), i = -1;
    return x;
}

static jnode *concat(parser *p)
{
    jnodes l = {0};
    int line = p->tok->line;
    jnode *x = product(p);
    if (p->rc || !jp_op(p, "~")) return x;
    jp_list_add(p, &l, x);
    while (jp_skip_op(p, "~")) jp_list_add(p, &l, product(p));
    return jp_of_list(p, X_CONCAT, line, &l);
}

static jnode *sum(parser *p)
{
    int line = p->tok->line;
    jnode *x = concat(p);
    while (!p->rc && (jp_op(p, "+") || jp_op(p, "-"))) {
        jop o = jp_op(p, "+") ? X_ADD : X_SUB;
        jp_next(p);
        x = jp_node2(p, o, line, x, concat(p));
    }
    return x;
}

static int compare_op(parser *p)
{
    static const char *const by[] = { "==", "!=", "<", "<=", ">", ">=" };
    for (int i = 0; i < 6; i++)
        if (jp_skip_op(p, by[i])) return i;
    if (jp_skip_name(p, "in")) return C_IN;
    if (!p->rc && jp_name(p, "not") && p->tok[1].kind == T_NAME && span_is(p->tok[1].s, "in")) {
        jp_next(p);
        jp_next(p);
        return C_NOTIN;
    }
    return -1;
}

static jnode *comparison(parser *p)
{
    jnodes l = {0};
    int line = p->tok->line, o;
    jnode *x = sum(p);
    uint8_t ops[32];
    while ((o = compare_op(p)) >= 0) {
        if (!l.n) jp_list_add(p, &l, x);
        if (l.n == 32) return jp_fail(p, DR_EUNSUPPORTED, "a chain of comparisons");
        if (l.n) ops[l.n - 1] = (uint8_t)o;
        jp_list_add(p, &l, sum(p));
    }
    if (!l.n || p->rc) return x;
    jnode *c = jp_of_list(p, X_CMP, line, &l);
    uint8_t *keep = jp_take(p, (size_t)l.n);
    if (p->rc) return NULL;
    memcpy(keep, ops, (size_t)l.n - 1);
    c->cmp = keep;
    return c;
}

static jnode *negation(parser *p)
{
    int line = p->tok->line;
    if (!jp_skip_name(p, "not")) return comparison(p);
    if (!jp_enter(p)) return NULL;
    jnode *x = jp_node1(p, X_NOT, line, negation(p));
    p->depth--;
    return x;
}

static jnode *conjunction(parser *p)
{
    int line = p->tok->line;
    jnode *x = negation(p);
    while (jp_skip_name(p, "and")) x = jp_node2(p, X_AND, line, x, negation(p));
    return x;
}

static jnode *disjunction(parser *p)
{
    int line = p->tok->line;
    jnode *x = conjunction(p);
    while (jp_skip_name(p, "or")) x = jp_node2(p, X_OR, line, x, conjunction(p));
    return x;
}

jnode *jp_expression(parser *p, bool cond)
{
    if (!jp_enter(p)) return NULL;
    int line = p->tok->line;
    jnode *x = disjunction(p);
    while (cond && jp_skip_name(p, "if")) {
        jnode *c = jp_node(p, X_COND, line, 3);
        jp_set(p, c, 0, disjunction(p));
        jp_set(p, c, 1, x);
        if (jp_skip_name(p, "else")) jp_set(p, c, 2, jp_expression(p, true));
        x = c;
    }
    p->depth--;
    return x;
}

bool jp_tuple_ends(const parser *p, const char *end)
{
    return p->tok->kind == T_VAR_END || p->tok->kind == T_BLOCK_END || jp_op(p, ")")
        || (end && jp_name(p, end));
}

jnode *jp_tuple(parser *p, bool cond, const char *end, bool parens)
{
    jnodes l = {0};
    int line = p->tok->line;
    bool is_tuple = false;
    while (!p->rc) {
        if (l.n) jp_want_op(p, ",");
        if (jp_tuple_ends(p, end)) break;
        jp_list_add(p, &l, jp_expression(p, cond));
        if (!jp_op(p, ",")) break;
        is_tuple = true;
    }
    if (!is_tuple && l.n) return p->rc ? NULL : l.v[0];
    if (!is_tuple && !parens)
        jp_fail(p, DR_EFORMAT, "an expression is wanted, not '" SPAN_FMT "'", SPAN_ARG(jp_shown(p)));
    return jp_of_list(p, X_TUPLE, line, &l);
}
