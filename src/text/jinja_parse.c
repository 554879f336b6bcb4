/* jinja_parse.c - statements, and a template as a whole. Spec: Jinja 3.1's parser.py. */
#include "base/mem.h"
#include "text/jinja_parse.h"

static jnode *statements(parser *p, const char *const *ends);

/* What set and for assign to: a name, ns.name (set), or several with commas. */
static jnode *target(parser *p, bool ns, const char *end)
{
    jnodes l = {0};
    int line = p->tok->line;
    bool is_tuple = false;
    while (!p->rc) {
        if (l.n) jp_want_op(p, ",");
        if (jp_tuple_ends(p, end)) break;
        jnode *x = jp_primary(p, ns);
        if (!p->rc && x->op == X_TUPLE && x->n) {
            for (int i = 0; i < x->n; i++)
                if (x->kid[i]->op != X_NAME)
                    return jp_fail(p, DR_EUNSUPPORTED, "an assignment to something nested");
        } else if (!p->rc && x->op != X_NAME && x->op != X_NSREF) {
            return jp_fail(p, DR_EFORMAT, "an assignment to what is no name");
        }
        jp_list_add(p, &l, x);
        if (!jp_op(p, ",")) break;
        is_tuple = true;
    }
    if (p->rc) return NULL;
    if (!l.n) return jp_fail(p, DR_EFORMAT, "an assignment to nothing");
    return is_tuple ? jp_of_list(p, X_TUPLE, line, &l) : l.v[0];
}

static jnode *one_name(parser *p)
{
    jnode *x = jp_name_node(p, X_NAME, p->tok->s);
    jp_want(p, T_NAME, "a name");
    return x;
}

static void block_end(parser *p) { jp_want(p, T_BLOCK_END, "%}"); }

/* "{% endx": the caller has seen that it is next. */
static jnode *body_to(parser *p, const char *end, int *loops)
{
    const char *const ends[] = { end, NULL };
    int had = p->loops;
    if (loops) p->loops = *loops;
    jnode *b = statements(p, ends);
    p->loops = had;
    if (!p->rc) jp_next(p);                         /* its name; the block's end is the caller's */
    return b;
}

static jnode *parse_set(parser *p)
{
    int line = p->tok->line, none = 0;
    jp_next(p);
    jnode *to = target(p, true, NULL);
    if (jp_skip_op(p, "=")) return jp_node2(p, S_SET, line, to, jp_tuple(p, true, NULL, false));
    jnode *f = NULL;
    while (jp_skip_op(p, "|")) f = jp_filter(p, f);
    jnode *x = jp_node(p, S_SETBLOCK, line, 3);
    jp_set(p, x, 0, to);
    jp_set(p, x, 1, f);
    jp_set(p, x, 2, body_to(p, "endset", &none));
    return x;
}

static jnode *parse_for(parser *p)
{
    static const char *const ends[] = { "endfor", "else", NULL };
    jnode *x = jp_node(p, S_FOR, p->tok->line, 5);
    jp_next(p);
    jp_set(p, x, 0, target(p, false, "in"));
    if (!jp_skip_name(p, "in"))
        return jp_fail(p, DR_EFORMAT, "'in' is wanted, not '" SPAN_FMT "'", SPAN_ARG(jp_shown(p)));
    jp_set(p, x, 1, jp_tuple(p, false, "recursive", false));
    if (jp_skip_name(p, "if")) jp_set(p, x, 2, jp_expression(p, true));
    if (jp_skip_name(p, "recursive") && x) x->flag = true;
    p->loops++;
    jp_set(p, x, 3, statements(p, ends));
    p->loops--;
    if (p->rc) return NULL;
    bool other = jp_name(p, "else");
    jp_next(p);
    if (other) jp_set(p, x, 4, body_to(p, "endfor", NULL));
    return x;
}

/* Children: condition and body, again for each elif, then the body of else. */
static jnode *parse_if(parser *p)
{
    static const char *const ends[] = { "elif", "else", "endif", NULL };
    int line = p->tok->line;
    jnodes l = {0};
    for (bool more = true; more && !p->rc;) {
        jp_next(p);
        jp_list_add(p, &l, jp_tuple(p, false, NULL, false));
        jp_list_add(p, &l, statements(p, ends));
        if (p->rc) return NULL;
        if (jp_name(p, "elif")) continue;
        if (jp_name(p, "else")) {
            jp_next(p);
            jp_list_add(p, &l, body_to(p, "endif", NULL));
        } else {
            jp_next(p);
        }
        more = false;
    }
    return jp_of_list(p, S_IF, line, &l);
}

/* Parameters and defaults of a macro or call block: names, then as many defaults as there are. */
static void signature(parser *p, jnodes *names, jnodes *defaults)
{
    jp_want_op(p, "(");
    while (!p->rc && !jp_op(p, ")")) {
        if (names->n) jp_want_op(p, ",");
        jp_list_add(p, names, one_name(p));
        if (jp_skip_op(p, "=")) jp_list_add(p, defaults, jp_expression(p, true));
        else if (defaults->n) jp_fail(p, DR_EFORMAT, "a parameter without default behind one with");
    }
    jp_want_op(p, ")");
    for (int i = 0; i < names->n && !p->rc; i++)
        for (int j = 0; j < i; j++)
            if (names->v[i]->name == names->v[j]->name)
                jp_fail(p, DR_EFORMAT, "a parameter is named twice");
}

/* What a macro is made of: kid 0 the body, 1 the parameters, 2 the defaults. */
static jnode *function(parser *p, jop o, int line, const jnodes *names, const jnodes *defaults,
                       const char *end)
{
    int none = 0;
    jnode *x = jp_node(p, o, line, 4);
    jp_set(p, x, 1, jp_of_list(p, X_TUPLE, line, names));
    jp_set(p, x, 2, jp_of_list(p, X_TUPLE, line, defaults));
    jp_set(p, x, 0, body_to(p, end, &none));
    return x;
}

static jnode *parse_macro(parser *p)
{
    jnodes names = {0}, defaults = {0};
    int line = p->tok->line;
    jp_next(p);
    jnode *called = one_name(p);
    signature(p, &names, &defaults);
    jnode *x = function(p, S_MACRO, line, &names, &defaults, "endmacro");
    if (!p->rc) x->name = called->name, x->v = called->v;
    return x;
}

static jnode *parse_call(parser *p)
{
    jnodes names = {0}, defaults = {0};
    int line = p->tok->line;
    jp_next(p);
    if (jp_op(p, "(")) signature(p, &names, &defaults);
    jnode *c = jp_expression(p, true);
    if (!p->rc && c->op != X_CALL) return jp_fail(p, DR_EFORMAT, "{%% call %%} of what is no call");
    jnode *x = function(p, S_CALL, line, &names, &defaults, "endcall");
    jp_set(p, x, 3, c);
    return x;
}

static jnode *parse_filter_block(parser *p)
{
    int line = p->tok->line, none = 0;
    jp_next(p);
    jnode *f = jp_filter(p, NULL);
    while (jp_skip_op(p, "|")) f = jp_filter(p, f);
    return jp_node2(p, S_FILTER, line, f, body_to(p, "endfilter", &none));
}

static jnode *parse_with(parser *p)
{
    jnodes to = {0}, from = {0};
    int line = p->tok->line;
    jp_next(p);
    while (!p->rc && p->tok->kind != T_BLOCK_END) {
        if (to.n) jp_want_op(p, ",");
        jp_list_add(p, &to, target(p, false, NULL));
        jp_want_op(p, "=");
        jp_list_add(p, &from, jp_expression(p, true));
    }
    jnode *body = body_to(p, "endwith", NULL);
    for (int i = 0; i < from.n; i++) jp_list_add(p, &to, from.v[i]);
    jp_list_add(p, &to, body);
    return jp_of_list(p, S_WITH, line, &to);
}

static jnode *parse_print(parser *p)
{
    jnodes l = {0};
    int line = p->tok->line;
    jp_next(p);
    while (!p->rc && p->tok->kind != T_BLOCK_END) {
        if (l.n) jp_want_op(p, ",");
        jp_list_add(p, &l, jp_expression(p, true));
    }
    return jp_of_list(p, S_PRINT, line, &l);
}

static jnode *parse_leave(parser *p)
{
    jop o = jp_name(p, "break") ? S_BREAK : S_CONTINUE;
    if (!p->loops) return jp_fail(p, DR_EFORMAT, "break or continue outside a loop's own body");
    jnode *x = jp_node(p, o, p->tok->line, 0);
    jp_next(p);
    return x;
}

static jnode *parse_generation(parser *p)
{
    int line = p->tok->line, none = 0;
    jp_next(p);
    return jp_node1(p, S_SCOPE, line, body_to(p, "endgeneration", &none));
}

static const struct { const char *name; jnode *(*fn)(parser *p); } keyword[] = {
    { "set", parse_set }, { "for", parse_for }, { "if", parse_if }, { "macro", parse_macro },
    { "call", parse_call }, { "filter", parse_filter_block }, { "with", parse_with },
    { "print", parse_print }, { "break", parse_leave }, { "continue", parse_leave },
    { "generation", parse_generation },
};

static jnode *statement(parser *p)
{
    if (p->tok->kind != T_NAME) return jp_fail(p, DR_EFORMAT, "a tag's name is wanted");
    for (size_t i = 0; i < sizeof keyword / sizeof *keyword; i++)
        if (jp_name(p, keyword[i].name)) return keyword[i].fn(p);
    return jp_fail(p, DR_EUNSUPPORTED, "the tag {%% " SPAN_FMT " %%} is not one that drover knows here",
                SPAN_ARG(p->tok->s));
}

static bool at_end(const parser *p, const char *const *ends)
{
    for (int i = 0; ends && ends[i]; i++)
        if (jp_name(p, ends[i])) return true;
    return false;
}

/* To the end of the text, or to one of `ends`, which is then next. */
static jnode *parse_body(parser *p, const char *const *ends)
{
    jnodes l = {0};
    int line = p->tok->line;
    if (!jp_enter(p)) return NULL;
    while (!p->rc && p->tok->kind != T_EOF) {
        if (p->tok->kind == T_DATA) {
            jnode *x = jp_node(p, S_TEXT, p->tok->line, 0);
            jstr *s = jp_take(p, sizeof *s);
            if (p->rc) break;
            *s = (jstr){ .p = p->tok->s.p, .n = p->tok->s.n, .chars = -1 };
            x->v = jv_s(s);
            jp_list_add(p, &l, x);
            jp_next(p);
        } else if (p->tok->kind == T_VAR_BEGIN) {
            int at = p->tok->line;
            jp_next(p);
            jp_list_add(p, &l, jp_node1(p, S_PRINT, at, jp_tuple(p, true, NULL, false)));
            jp_want(p, T_VAR_END, "}}");
        } else {
            jp_want(p, T_BLOCK_BEGIN, "{%");
            if (at_end(p, ends)) {
                p->depth--;
                return jp_of_list(p, S_BODY, line, &l);
            }
            jp_list_add(p, &l, statement(p));
            block_end(p);
        }
    }
    if (ends) jp_fail(p, DR_EFORMAT, "the end comes before {%% %s %%}", ends[0]);
    p->depth--;
    return jp_of_list(p, S_BODY, line, &l);
}

static jnode *statements(parser *p, const char *const *ends)
{
    jp_skip_op(p, ":");
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

static void first_args(jinja *t, const jcallargs *a, bool branch);

/* How the outermost scope first names each name. One that it sets, whatever happens, before it
 * looks at it is its own: what the caller gives by that name is never seen, not even by a loop or
 * macro that runs before. Inner scopes are not looked into. Spec: Jinja 3.1's idtracking.py. */
static void first_seen(jinja *t, const jnode *x, bool branch)
{
    if (!x) return;
    bool set = x->op == S_SET || x->op == S_SETBLOCK, macro = x->op == S_MACRO;
    if (set && x->op == S_SET) first_seen(t, x->kid[1], branch);
    if (set || macro) {
        const jnode *one = macro ? x : x->kid[0];
        int n = one->op == X_TUPLE ? one->n : 1;
        for (int i = 0; i < n; i++) {
            const jnode *to = one->op == X_TUPLE ? one->kid[i] : one;
            uint8_t how = branch || to->op == X_NSREF ? SEEN_READ : SEEN_SET;
            if (to->op != X_TUPLE && !t->first[to->name]) t->first[to->name] = how;
        }
        return;
    }
    if (x->op == X_NAME && !t->first[x->name]) t->first[x->name] = SEEN_READ;
    int from = 0, to = x->n;
    if (x->op == S_FOR) from = 1, to = 2;
    else if (x->op == S_WITH) from = (x->n - 1) / 2, to = x->n - 1;
    else if (x->op == S_CALL) from = 3, to = 4;
    else if (x->op == S_FILTER) to = 1;
    else if (x->op == S_SCOPE) to = 0;
    for (int i = from; i < to; i++) first_seen(t, x->kid[i], branch || (x->op == S_IF && i));
    first_args(t, x->args, branch);
}

static void first_args(jinja *t, const jcallargs *a, bool branch)
{
    if (!a) return;
    for (int i = 0; i < a->n_pos; i++) first_seen(t, a->pos[i], branch);
    for (int i = 0; i < a->n_kw; i++) first_seen(t, a->kwv[i], branch);
    first_seen(t, a->dyn, branch);
    first_seen(t, a->dynkw, branch);
}

int jparse(jinja *t, const jtok *tok, size_t n, dr_err *e)
{
    parser p = { .t = t, .tok = tok, .e = e };
    (void)n;
    t->loop = jp_intern(&p, span_of("loop")), t->caller = jp_intern(&p, span_of("caller"));
    t->kwargs = jp_intern(&p, span_of("kwargs")), t->varargs = jp_intern(&p, span_of("varargs"));
    t->root = parse_body(&p, NULL);
    if (!p.rc) check(&p, t->root, false);
    if (!p.rc && (t->first = jp_take(&p, t->n_names + 1))) first_seen(t, t->root, false);
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
