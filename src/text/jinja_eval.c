/* jinja_eval.c - walk the tree: expressions to values, statements to text. Names live in scopes:
 * one for the template, one for each round of a loop, each call of a macro, each captured block;
 * an `if` has none. A macro sees the scopes that it was written in, as they are when it runs. */
#include "base/mem.h"
#include "text/jinja_priv.h"

static int exec_kids(jrt *rt, const jnode *x);

/* ---- names */

static jv *in_scope(jscope *s, uint32_t name)
{
    for (uint32_t i = 0; i < s->n; i++)
        if (s->v[i].name == name) return &s->v[i].v;
    return NULL;
}

static jv lookup(jrt *rt, uint32_t name)
{
    jv *v = NULL, g;
    for (jscope *s = rt->scope; s && !v; s = s->up) v = in_scope(s, name);
    if (!v) v = &rt->root[name];
    if (v->kind != J_MISSING) return *v;
    span s = { rt->t->name[name]->p, rt->t->name[name]->n };
    if (rt->t->first[name] == SEEN_SET) return jundef_named(rt, s);     /* and not set yet */
    return jglobal(rt, s, &g) ? g : jundef_named(rt, s);
}

static void set_name(jrt *rt, uint32_t name, jv v)
{
    jscope *s = rt->scope;
    if (rt->rc) return;
    jv *have = s ? in_scope(s, name) : &rt->root[name];
    if (have) {
        *have = v;
        return;
    }
    if (s->n == s->cap) {
        uint32_t cap = s->cap ? s->cap * 2 : 4;
        void *p = jtake(rt, cap * sizeof *s->v);
        if (!p) return;
        if (s->n) memcpy(p, s->v, s->n * sizeof *s->v);
        s->v = p, s->cap = cap;
    }
    s->v[s->n].name = name, s->v[s->n].v = v;
    s->n++;
}

static jscope *scope_new(jrt *rt, jscope *up)
{
    jscope *s = jtake(rt, sizeof *s);
    if (s) *s = (jscope){ .up = up };
    return s;
}

static void set_ns(jrt *rt, const jnode *to, jv v)
{
    jv ns = lookup(rt, to->name);
    if (ns.kind != J_NS)
        jfail(rt, DR_EINVAL, "cannot assign attribute on non-namespace object");
    else if (to->v.s->p[0] == '_')
        jfail(rt, DR_EINVAL, "a namespace cannot have attributes that begin with _");
    else
        jdict_put(rt, &ns.ns->d, to->v, v);
}

static void assign(jrt *rt, const jnode *to, jv v)
{
    if (rt->rc) return;
    if (to->op == X_NAME) {
        set_name(rt, to->name, v);
    } else if (to->op == X_NSREF) {
        set_ns(rt, to, v);
    } else {
        jiter *it = v.kind == J_UNDEF ? NULL : jiterate(rt, v);
        jv part[64];
        int n = 0;
        if (v.kind == J_UNDEF) juse_undef(rt, v);
        if (to->n > 64) jfail(rt, DR_EUNSUPPORTED, "an assignment to more than 64 names");
        while (it && !rt->rc && n < to->n && it->next(rt, it, &part[n])) n++;
        if (!rt->rc && n < to->n)
            jfail(rt, DR_EINVAL, "not enough values to unpack (expected %d, got %d)", to->n, n);
        jv more;
        if (!rt->rc && it->next(rt, it, &more))
            jfail(rt, DR_EINVAL, "too many values to unpack (expected %d)", to->n);
        for (int i = 0; i < n && !rt->rc; i++) assign(rt, to->kid[i], part[i]);
    }
}

/* ---- captured text */

static jv capture_end(jrt *rt, jtext *t, jtext *out)
{
    rt->out = out;
    jstr *s = jtext_take(rt, t);
    return s ? jv_s(s) : jv_none();
}

/* ---- calls */

static bool add_kw(jrt *rt, jargs *a, int *cap, jstr *k, jv v)
{
    if (a->n_kw == *cap) {
        int more = *cap ? *cap * 2 : 8;
        jstr **kw = jtake(rt, (size_t)more * sizeof *kw);
        jv *kwv = jtake(rt, (size_t)more * sizeof *kwv);
        if (!kw || !kwv) return false;
        if (a->n_kw) {
            memcpy(kw, a->kw, (size_t)a->n_kw * sizeof *kw);
            memcpy(kwv, a->kwv, (size_t)a->n_kw * sizeof *kwv);
        }
        a->kw = kw, a->kwv = kwv, *cap = more;
    }
    for (int i = 0; i < a->n_kw; i++)
        if (a->kw[i]->n == k->n && !memcmp(a->kw[i]->p, k->p, k->n)) {
            jfail(rt, DR_EINVAL, "an argument is given twice");
            return false;
        }
    a->kw[a->n_kw] = k, a->kwv[a->n_kw++] = v;
    return true;
}

static void dynamic(jrt *rt, const jcallargs *c, jargs *a, int *cap)
{
    if (c->dyn) {
        jlist *l = jcollect(rt, jeval(rt, c->dyn));
        if (!l) return;
        if (l->n > 10000) {
            jfail(rt, DR_EUNSUPPORTED, "a call with too many arguments");
            return;
        }
        jv *pos = jtake(rt, ((size_t)a->n + l->n) * sizeof *pos + 1);
        if (!pos) return;
        if (a->n) memcpy(pos, a->pos, (size_t)a->n * sizeof *pos);
        if (l->n) memcpy(pos + a->n, l->v, l->n * sizeof *pos);
        a->pos = pos, a->n += (int)l->n;
    }
    if (c->dynkw) {
        jv d = jeval(rt, c->dynkw);
        if (rt->rc) return;
        if (d.kind != J_DICT) {
            jfail(rt, DR_EINVAL, "argument after ** must be a mapping, not %s", jtype(d));
            return;
        }
        for (size_t i = 0; i < d.dict->n && !rt->rc; i++) {
            if (d.dict->key[i].kind != J_STR) jfail(rt, DR_EINVAL, "keywords must be strings");
            else if (!add_kw(rt, a, cap, d.dict->key[i].s, d.dict->val[i])) return;
        }
    }
}

static bool eval_args(jrt *rt, const jcallargs *c, jargs *a)
{
    *a = (jargs){0};
    if (!c) return !rt->rc;
    int cap = 0;
    a->pos = jtake(rt, (size_t)c->n_pos * sizeof *a->pos + 1);
    for (int i = 0; i < c->n_pos && !rt->rc; i++) a->pos[i] = jeval(rt, c->pos[i]);
    a->n = c->n_pos;
    for (int i = 0; i < c->n_kw && !rt->rc; i++)
        add_kw(rt, a, &cap, c->kw[i], jeval(rt, c->kwv[i]));
    if (!rt->rc && (c->dyn || c->dynkw)) dynamic(rt, c, a, &cap);
    return !rt->rc;
}

static jv *take_kw(const jrt *rt, const jargs *a, bool *taken, uint32_t name)
{
    const jstr *want = rt->t->name[name];
    for (int i = 0; i < a->n_kw; i++)
        if (!taken[i] && a->kw[i]->n == want->n && !memcmp(a->kw[i]->p, want->p, want->n)) {
            taken[i] = true;
            return &a->kwv[i];
        }
    return NULL;
}

/* What a body that asks for them finds as caller, kwargs and varargs. */
static void special(jrt *rt, const jnode *x, const jargs *a, bool *taken, bool own_caller)
{
    const jinja *t = rt->t;
    const jnode *params = x->kid[1];
    if (x->uses & USES_CALLER && !own_caller) {
        jv *v = take_kw(rt, a, taken, t->caller);
        set_name(rt, t->caller, v ? *v : jundef_why(rt, false, "No caller defined"));
    }
    if (x->uses & USES_KWARGS) {
        jdict *d = jdict_new(rt, (size_t)a->n_kw);
        for (int i = 0; d && i < a->n_kw; i++)
            if (!taken[i]) jdict_put(rt, d, jv_s(a->kw[i]), a->kwv[i]), taken[i] = true;
        if (d) set_name(rt, t->kwargs, (jv){ .kind = J_DICT, .dict = d });
    }
    if (x->uses & USES_VARARGS) {
        size_t more = a->n > params->n ? (size_t)(a->n - params->n) : 0;
        jlist *l = jlist_new(rt, more);
        if (l && more) memcpy(l->v, a->pos + params->n, more * sizeof *l->v);
        if (l) set_name(rt, t->varargs, jlist_v(J_TUPLE, l));
    } else if (a->n > params->n) {
        jfail(rt, DR_EINVAL, "macro takes not more than %d argument(s)", params->n);
    }
    for (int i = 0; i < a->n_kw && !rt->rc; i++)
        if (!taken[i])
            jfail(rt, DR_EINVAL, "macro takes no keyword argument '" SPAN_FMT "'",
                  SPAN_ARG(((span){ a->kw[i]->p, a->kw[i]->n })));
}

static void bind_macro(jrt *rt, const jnode *x, const jargs *a)
{
    const jnode *params = x->kid[1], *defaults = x->kid[2];
    bool *taken = jtake(rt, (size_t)a->n_kw + 1), own_caller = false;
    if (!taken) return;
    memset(taken, 0, (size_t)a->n_kw);
    for (int i = 0; i < params->n && !rt->rc; i++) {
        const jnode *p = params->kid[i];
        own_caller |= p->name == rt->t->caller;
        jv *kw = i < a->n ? &a->pos[i] : take_kw(rt, a, taken, p->name);
        int d = i - (params->n - defaults->n);
        if (kw) set_name(rt, p->name, *kw);
        else if (d >= 0) set_name(rt, p->name, jeval(rt, defaults->kid[d]));
        else set_name(rt, p->name, jundef_why(rt, false, "parameter '" SPAN_FMT "' was not provided",
                                              SPAN_ARG(((span){ p->v.s->p, p->v.s->n }))));
    }
    special(rt, x, a, taken, own_caller);
}

jv jmacro_call(jrt *rt, jmacro *m, const jargs *a)
{
    jtext t = {0}, *out = rt->out;
    jscope *back = rt->scope, *own = scope_new(rt, m->scope);
    int line = rt->line;
    if (!own) return jv_none();
    rt->scope = own;
    bind_macro(rt, m->node, a);
    rt->out = &t;
    if (!rt->rc) jexec(rt, m->node->kid[0]);
    rt->scope = back;
    if (!rt->rc) rt->line = line;
    return capture_end(rt, &t, out);
}

static jv eval_call(jrt *rt, const jnode *x, jv *caller)
{
    jargs a;
    jv fn = jeval(rt, x->kid[0]);
    if (rt->rc || !eval_args(rt, x->args, &a)) return jv_none();
    int cap = 0;
    jargs with = a;
    if (caller) {
        with.n_kw = 0;
        for (int i = 0; i < a.n_kw; i++) add_kw(rt, &with, &cap, a.kw[i], a.kwv[i]);
        add_kw(rt, &with, &cap, rt->t->name[rt->t->caller], *caller);
    }
    rt->line = x->line;
    return jcall(rt, fn, &with);
}

/* ---- loops */

/* The next item that passes the loop's own test; it is evaluated with the item's names. */
static bool next_passing(jrt *rt, jiter *it, jv *v)
{
    const jnode *x = it->row;
    while (jspend(rt, 1) && it->from->next(rt, it->from, v)) {
        jscope *back = rt->scope;
        rt->scope = scope_new(rt, it->scope);
        if (rt->scope) assign(rt, x->kid[0], *v);
        bool yes = rt->scope && jtruth(rt, jeval(rt, x->kid[2]));
        rt->scope = back;
        if (rt->rc) return false;
        if (yes) return true;
    }
    return false;
}

static bool next_round(jrt *rt, jloop *l)
{
    jv v = l->after;
    l->after = jv_missing();
    if (v.kind == J_MISSING && !l->it->next(rt, l->it, &v)) return false;
    l->index0++;
    l->before = l->current;
    l->current = v;
    return !rt->rc;
}

/* Every round has a scope of its own; it is used again where nothing can hold on to it. */
static int run_loop(jrt *rt, const jnode *x, jv over, int64_t depth0)
{
    jscope *up = rt->scope, *s = NULL;
    jloop *l = jtake(rt, sizeof *l);
    jiter *it = l ? jiterate(rt, over) : NULL;
    int how = 0;
    bool any = false;                            /* a round came to its end: no else */
    if (!it) return 0;
    if (x->kid[2]) {
        jiter *all = jiter_new(rt, next_passing, over);
        if (!all) return 0;
        all->from = it, all->row = x, all->scope = up;
        it = all, over = (jv){ .kind = J_ITER, .iter = all };
    }
    *l = (jloop){ .it = it, .node = x, .scope = up, .index0 = -1, .depth0 = depth0, .length = -1,
                  .over = over };
    while (how != 1 && jspend(rt, 2) && next_round(rt, l)) {
        if (!s || x->closes) s = scope_new(rt, up);
        else s->n = 0;
        if (!s) break;
        rt->scope = s;
        set_name(rt, rt->t->loop, (jv){ .kind = J_LOOP, .loop = l });
        assign(rt, x->kid[0], l->current);
        how = rt->rc ? 1 : jexec(rt, x->kid[3]);
        any |= !how;
        rt->scope = up;
    }
    rt->scope = up;
    if (any || !x->kid[4] || rt->rc) return 0;
    rt->scope = scope_new(rt, up);
    how = rt->scope ? jexec(rt, x->kid[4]) : 0;
    rt->scope = up;
    return how;
}

jv jloop_call(jrt *rt, jloop *l, jv over)
{
    jtext t = {0}, *out = rt->out;
    jscope *back = rt->scope;
    if (!l->node->flag)
        return jfail(rt, DR_EINVAL, "The loop must have the 'recursive' marker to be called "
                     "recursively.");
    rt->out = &t, rt->scope = l->scope;
    if (rt->depth + 20 > JINJA_MAX_CALLS) jfail(rt, DR_EUNSUPPORTED, "calls nested too deeply");
    rt->depth += 10;
    if (!rt->rc) run_loop(rt, l->node, over, l->depth0 + 1);
    rt->depth -= 10;
    rt->scope = back;
    return capture_end(rt, &t, out);
}

/* ---- expressions */

static jv eval_filter(jrt *rt, const jnode *x, const jv *body)
{
    jargs a;
    jv self = x->kid[0] ? (body && x->kid[0]->op == X_FILTER ? eval_filter(rt, x->kid[0], body)
                                                             : jeval(rt, x->kid[0]))
                        : *body;
    if (rt->rc || !eval_args(rt, x->args, &a)) return jv_none();
    rt->line = x->line;
    if (x->row) return jfilter_apply(rt, x->row, self, &a);
    return jfail(rt, DR_EUNSUPPORTED, "the filter '" SPAN_FMT "' is not one that drover knows",
                 SPAN_ARG(((span){ x->v.s->p, x->v.s->n })));
}

static jv eval_test(jrt *rt, const jnode *x)
{
    jargs a;
    jv self = jeval(rt, x->kid[0]);
    if (rt->rc || !eval_args(rt, x->args, &a)) return jv_none();
    rt->line = x->line;
    if (x->row) return jv_bool(jtest_apply(rt, x->row, self, &a));
    return jfail(rt, DR_EUNSUPPORTED, "the test '" SPAN_FMT "' is not one that drover knows",
                 SPAN_ARG(((span){ x->v.s->p, x->v.s->n })));
}

static jv eval_compare(jrt *rt, const jnode *x)
{
    jv a = jeval(rt, x->kid[0]);
    bool yes = true;
    for (int i = 1; i < x->n && yes && !rt->rc; i++) {
        jv b = jeval(rt, x->kid[i]);
        if (rt->rc) break;
        rt->line = x->line;
        yes = jcompare(rt, (jcmp)x->cmp[i - 1], a, b);
        a = b;
    }
    return jv_bool(yes);
}

static jv eval_list(jrt *rt, const jnode *x)
{
    jlist *l = jlist_new(rt, (size_t)x->n);
    for (int i = 0; l && i < x->n && !rt->rc; i++) l->v[i] = jeval(rt, x->kid[i]);
    return rt->rc ? jv_none() : jlist_v(x->op == X_LIST ? J_LIST : J_TUPLE, l);
}

static jv eval_dict(jrt *rt, const jnode *x)
{
    jdict *d = jdict_new(rt, (size_t)x->n / 2);
    for (int i = 0; d && i + 1 < x->n && !rt->rc; i += 2) {
        jv k = jeval(rt, x->kid[i]), v = jeval(rt, x->kid[i + 1]);
        jdict_put(rt, d, k, v);
    }
    return rt->rc ? jv_none() : (jv){ .kind = J_DICT, .dict = d };
}

static jv eval_sign(jrt *rt, const jnode *x)
{
    jv v = jeval(rt, x->kid[0]);
    if (rt->rc) return v;
    if (v.kind == J_FLOAT) return jv_float(x->op == X_NEG ? -v.f : v.f);
    if (v.kind == J_UNDEF) return juse_undef(rt, v);
    if (v.kind != J_INT && v.kind != J_BOOL)
        return jfail(rt, v.kind == J_BIG ? DR_EUNSUPPORTED : DR_EINVAL,
                     "bad operand type for unary %s: '%s'", x->op == X_NEG ? "-" : "+", jtype(v));
    return jarith(rt, X_SUB, jv_int(0), x->op == X_NEG ? v : jarith(rt, X_SUB, jv_int(0), v));
}

static jv eval_concat(jrt *rt, const jnode *x)
{
    jstr *s = NULL;
    jv *v = jtake(rt, (size_t)x->n * sizeof *v);
    for (int i = 0; v && i < x->n && !rt->rc; i++) v[i] = jeval(rt, x->kid[i]);
    for (int i = 0; v && i < x->n && !rt->rc; i++) {
        jstr *one = jto_str(rt, v[i]);
        s = !one || i == 0 ? one : jjoin(rt, s, one);
    }
    if (!s || rt->rc) return jv_none();
    s->safe = false;                             /* never the first operand: there are two */
    return jv_s(s);
}

static jv eval_item(jrt *rt, const jnode *x)
{
    jv obj = jeval(rt, x->kid[0]), part[3];
    const jnode *key = x->kid[1];
    if (rt->rc) return obj;
    if (key->op != X_SLICE) {
        jv k = jeval(rt, key);
        rt->line = x->line;
        return jgetitem(rt, obj, k);
    }
    for (int i = 0; i < 3; i++) part[i] = key->kid[i] ? jeval(rt, key->kid[i]) : jv_none();
    rt->line = x->line;
    return jslice(rt, obj, part[0], part[1], part[2]);
}

static jv eval_cond(jrt *rt, const jnode *x)
{
    jv c = jeval(rt, x->kid[0]);
    if (rt->rc) return c;
    if (jtruth(rt, c)) return jeval(rt, x->kid[1]);
    if (x->kid[2]) return jeval(rt, x->kid[2]);
    return jundef_why(rt, false, "the inline if-expression on line %d evaluated to false and no else "
                      "section was defined.", x->line);
}

static jv eval(jrt *rt, const jnode *x)
{
    jv a, b;
    switch (x->op) {
    case X_CONST: return x->v;
    case X_NAME: return lookup(rt, x->name);
    case X_TUPLE: case X_LIST: return eval_list(rt, x);
    case X_DICT: return eval_dict(rt, x);
    case X_ATTR:
        a = jeval(rt, x->kid[0]);
        rt->line = x->line;
        return jgetattr(rt, a, x->v);
    case X_ITEM: return eval_item(rt, x);
    case X_CALL: return eval_call(rt, x, NULL);
    case X_FILTER: return eval_filter(rt, x, NULL);
    case X_TEST: return eval_test(rt, x);
    case X_NOT:
        a = jeval(rt, x->kid[0]);
        return jv_bool(!jtruth(rt, a));
    case X_NEG: case X_POS: return eval_sign(rt, x);
    case X_CONCAT: return eval_concat(rt, x);
    case X_CMP: return eval_compare(rt, x);
    case X_AND:
        a = jeval(rt, x->kid[0]);
        return rt->rc || !jtruth(rt, a) ? a : jeval(rt, x->kid[1]);
    case X_OR:
        a = jeval(rt, x->kid[0]);
        return rt->rc || jtruth(rt, a) ? a : jeval(rt, x->kid[1]);
    case X_COND: return eval_cond(rt, x);
    case X_SLICE: return jfail(rt, DR_EUNSUPPORTED, "a slice among several items");
    case X_NSREF: return jfail(rt, DR_EUNSUPPORTED, "a namespace's name here");
    default: break;
    }
    a = jeval(rt, x->kid[0]);
    b = rt->rc ? jv_none() : jeval(rt, x->kid[1]);
    rt->line = x->line;
    return jarith(rt, x->op, a, b);
}

static bool deeper(jrt *rt, const jnode *x)
{
    if (!jspend(rt, 1)) return false;
    rt->line = x->line;
    if (rt->depth < JINJA_MAX_CALLS) return true;
    jfail(rt, DR_EUNSUPPORTED, "calls nested too deeply");
    return false;
}

jv jeval(jrt *rt, const jnode *x)
{
    if (!deeper(rt, x)) return jv_none();
    rt->depth++;
    jv v = eval(rt, x);
    rt->depth--;
    return v;
}

/* ---- statements */

static int exec_if(jrt *rt, const jnode *x)
{
    int i = 0;
    for (; i + 1 < x->n; i += 2) {
        jv c = jeval(rt, x->kid[i]);
        if (rt->rc) return 0;
        if (jtruth(rt, c)) return jexec(rt, x->kid[i + 1]);
    }
    return i < x->n ? jexec(rt, x->kid[i]) : 0;
}

/* The text of a body that has a scope of its own. */
static jv captured(jrt *rt, const jnode *body)
{
    jtext t = {0}, *out = rt->out;
    jscope *back = rt->scope, *s = scope_new(rt, back);
    if (!s) return jv_none();
    rt->scope = s, rt->out = &t;
    jexec(rt, body);
    rt->scope = back;
    return capture_end(rt, &t, out);
}

static void exec_with(jrt *rt, const jnode *x, int *how)
{
    int n = (x->n - 1) / 2;
    jscope *back = rt->scope, *s = scope_new(rt, back);
    for (int i = 0; s && i < n && !rt->rc; i++) {
        rt->scope = back;
        jv v = jeval(rt, x->kid[n + i]);
        rt->scope = s;
        assign(rt, x->kid[i], v);
    }
    rt->scope = s;
    if (s && !rt->rc) *how = jexec(rt, x->kid[x->n - 1]);
    rt->scope = back;
}

static jv function_of(jrt *rt, const jnode *x)
{
    jmacro *m = jtake(rt, sizeof *m);
    if (!m) return jv_none();
    *m = (jmacro){ x, rt->scope };
    return (jv){ .kind = J_MACRO, .macro = m };
}

static int exec(jrt *rt, const jnode *x)
{
    jv v;
    int how = 0;
    switch (x->op) {
    case S_BODY: return exec_kids(rt, x);
    case S_TEXT: jtext_str(rt, rt->out, x->v.s); break;
    case S_PRINT:
        for (int i = 0; i < x->n && !rt->rc; i++) {
            v = jeval(rt, x->kid[i]);
            if (!rt->rc) jprint(rt, rt->out, v);
        }
        break;
    case S_IF: return exec_if(rt, x);
    case S_FOR:
        v = jeval(rt, x->kid[1]);
        return rt->rc ? 0 : run_loop(rt, x, v, 0);
    case S_SET:
        v = jeval(rt, x->kid[1]);
        assign(rt, x->kid[0], v);
        break;
    case S_SETBLOCK:
        v = captured(rt, x->kid[2]);
        if (x->kid[1] && !rt->rc) v = eval_filter(rt, x->kid[1], &v);
        assign(rt, x->kid[0], v);
        break;
    case S_FILTER:
        v = captured(rt, x->kid[1]);
        if (!rt->rc) v = eval_filter(rt, x->kid[0], &v);
        if (!rt->rc) jprint(rt, rt->out, v);
        break;
    case S_MACRO: set_name(rt, x->name, function_of(rt, x)); break;
    case S_CALL: {
        jv caller = function_of(rt, x);
        v = rt->rc ? caller : eval_call(rt, x->kid[3], &caller);
        if (!rt->rc) jprint(rt, rt->out, v);
        break;
    }
    case S_WITH: exec_with(rt, x, &how); break;
    case S_BREAK: return 1;
    case S_CONTINUE: return 2;
    case S_SCOPE:
        v = captured(rt, x->kid[0]);
        if (!rt->rc) jprint(rt, rt->out, v);
        break;
    default: jfail(rt, DR_EUNSUPPORTED, "a statement"); break;
    }
    return how;
}

static int exec_kids(jrt *rt, const jnode *x)
{
    int how = 0;
    for (int i = 0; i < x->n && !how && !rt->rc; i++) how = jexec(rt, x->kid[i]);
    return how;
}

int jexec(jrt *rt, const jnode *x)
{
    if (!deeper(rt, x)) return 0;
    rt->depth++;
    int how = exec(rt, x);
    rt->depth--;
    return how;
}

/* ---- the whole */

static jv variable(jrt *rt, const jinja_var *v)
{
    jstr *s;
    switch (v->kind) {
    case JINJA_TREE: return jfrom_json(rt, v->json, 0);
    case JINJA_JSON: return jread_json(rt, v->text, v->name);
    default:
        s = jstr_new(rt, v->text.p, v->text.n, v->kind == JINJA_STRING);
        return s ? jv_s(s) : jv_none();
    }
}

static void variables(jrt *rt, const jinja_var *v, int n)
{
    const jinja *t = rt->t;
    rt->root = jtake(rt, ((size_t)t->n_names + 1) * sizeof *rt->root);
    if (!rt->root) return;
    for (uint32_t i = 0; i < t->n_names; i++) rt->root[i] = jv_missing();
    for (int i = 0; i < n && !rt->rc; i++)
        for (uint32_t k = 0; k < t->n_names; k++)
            if (t->first[k] != SEEN_SET && span_is((span){ t->name[k]->p, t->name[k]->n }, v[i].name)) {
                rt->root[k] = variable(rt, &v[i]);
                jmessages(rt, rt->root[k], v[i].roles, v[i].calls);
            }
}

static size_t size_of(const jinja_var *v, int n)
{
    size_t all = 0;
    for (int i = 0; i < n; i++) {
        if (v[i].kind != JINJA_TREE) all += v[i].text.n;
        else if (v[i].json) all += json_dumpb(v[i].json, NULL, 0, JSON_ENCODE_ANY);
    }
    return all;
}

void jinja_out_free(jinja_out *o)
{
    buf_free(&o->text);
    buf_free(&o->mark);
}

int jinja_render(const jinja *t, const jinja_var *v, int n, const jinja_opt *o, jinja_out *out,
                 dr_err *e)
{
    static const jinja_opt none;
    if (!o) o = &none;
    size_t given = size_of(v, n);
    jtext text = {0};
    jrt rt = { .t = t, .e = e, .out = &text, .now = o->now, .line = 1 };
    rt.fuel = o->steps ? o->steps : 20000000 + 20 * (uint64_t)given;
    rt.mem.max = o->memory ? o->memory : ((size_t)256 << 20) + 60 * given;
    rt.out_max = o->output ? o->output : ((size_t)64 << 20) + 8 * given;
    variables(&rt, v, n);
    if (!rt.rc) jexec(&rt, t->root);
    if (!rt.rc) {
        if (!out->text.cap_max) out->text.cap_max = (size_t)1 << 32;
        if (!out->mark.cap_max) out->mark.cap_max = (size_t)1 << 32;
        buf_put(&out->text, text.p, text.n);
        buf_put(&out->mark, text.m, text.n);
        if (out->text.bad || out->mark.bad) rt.rc = err_nomem(e, text.n, "the prompt");
    }
    jtext_free(&text);
    jmem_free(&rt.mem);
    return rt.rc;
}
