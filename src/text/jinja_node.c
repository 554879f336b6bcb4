/* jinja_node.c - the parser's tokens, names and nodes. See jinja_parse.h. */
#include <stdarg.h>
#include "text/jinja_parse.h"

enum { TREE_DEPTH = 500 };      /* long chains of + lean to the left */

jnode *jp_fail(parser *p, int code, const char *fmt, ...)
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

void *jp_take(parser *p, size_t n)
{
    void *m = p->rc ? NULL : jmem_take(&p->t->mem, n);
    if (!m && !p->rc) p->rc = err_nomem(p->e, n, "a chat template");
    if (m) memset(m, 0, n);
    return m;
}

/* ---- tokens */

bool jp_op(const parser *p, const char *s)
{
    return p->tok->kind == T_OP && span_is(p->tok->s, s);
}

bool jp_name(const parser *p, const char *s)
{
    return p->tok->kind == T_NAME && span_is(p->tok->s, s);
}

void jp_next(parser *p) { if (p->tok->kind != T_EOF) p->tok++; }

bool jp_skip_op(parser *p, const char *s)
{
    if (p->rc || !jp_op(p, s)) return false;
    jp_next(p);
    return true;
}

bool jp_skip_name(parser *p, const char *s)
{
    if (p->rc || !jp_name(p, s)) return false;
    jp_next(p);
    return true;
}

span jp_shown(const parser *p)
{
    switch (p->tok->kind) {
    case T_EOF: return span_of("the end");
    case T_DATA: return span_of("text");
    case T_VAR_END: return span_of("}}");
    case T_BLOCK_END: return span_of("%}");
    default: return p->tok->s;
    }
}

void jp_want_op(parser *p, const char *s)
{
    if (!p->rc && !jp_skip_op(p, s))
        jp_fail(p, DR_EFORMAT, "'%s' is wanted, not '" SPAN_FMT "'", s, SPAN_ARG(jp_shown(p)));
}

void jp_want(parser *p, jtok_kind k, const char *s)
{
    if (!p->rc && p->tok->kind != k)
        jp_fail(p, DR_EFORMAT, "%s is wanted, not '" SPAN_FMT "'", s, SPAN_ARG(jp_shown(p)));
    else if (!p->rc) jp_next(p);
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
    jstr **name_ = jp_take(p, n / 2 * sizeof *name_);
    uint32_t *slot = jp_take(p, n * sizeof *slot);
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
uint32_t jp_intern(parser *p, span s)
{
    jinja *t = p->t;
    if (p->rc) return 0;
    if (t->n_names == t->cap_names && !grow_names(p)) return 0;
    uint32_t h = hash(s), i;
    for (; (i = t->slot[h & (t->n_slot - 1)]); h++)
        if (span_eq((span){ t->name[i - 1]->p, t->name[i - 1]->n }, s)) return i - 1;
    jstr *str = jp_take(p, sizeof *str);
    if (!str) return 0;
    *str = (jstr){ .p = s.p, .n = s.n };
    for (size_t k = 0; k < s.n; k++) str->chars += !jcont(s.p[k]);
    t->slot[h & (t->n_slot - 1)] = t->n_names + 1;
    t->name[t->n_names] = str;
    return t->n_names++;
}

/* ---- nodes */

jnode *jp_node(parser *p, jop o, int line, int n)
{
    jnode *x = jp_take(p, sizeof *x);
    if (!x) return NULL;
    x->op = o, x->line = line, x->n = n, x->depth = 1;
    if (n) x->kid = jp_take(p, (size_t)n * sizeof *x->kid);
    return x;
}

void jp_deepen(parser *p, jnode *x, const jnode *kid)
{
    if (kid && kid->depth >= x->depth) x->depth = (uint16_t)(kid->depth + 1);
    if (x->depth > TREE_DEPTH) jp_fail(p, DR_EUNSUPPORTED, "an expression nested too deeply");
}

void jp_set(parser *p, jnode *x, int i, jnode *kid)
{
    if (p->rc || !x) return;
    x->kid[i] = kid;
    jp_deepen(p, x, kid);
}

jnode *jp_node1(parser *p, jop o, int line, jnode *a)
{
    jnode *x = jp_node(p, o, line, 1);
    jp_set(p, x, 0, a);
    return x;
}

jnode *jp_node2(parser *p, jop o, int line, jnode *a, jnode *b)
{
    jnode *x = jp_node(p, o, line, 2);
    jp_set(p, x, 0, a);
    jp_set(p, x, 1, b);
    return x;
}


void jp_list_add(parser *p, jnodes *l, jnode *x)
{
    if (p->rc || !x) return;
    if (l->n == l->cap) {
        int cap = l->cap ? l->cap * 2 : 4;
        jnode **v = jp_take(p, (size_t)cap * sizeof *v);
        if (!v) return;
        if (l->n) memcpy(v, l->v, (size_t)l->n * sizeof *v);
        l->v = v, l->cap = cap;
    }
    l->v[l->n++] = x;
}

jnode *jp_of_list(parser *p, jop o, int line, const jnodes *l)
{
    jnode *x = jp_node(p, o, line, 0);
    if (!x) return NULL;
    x->kid = l->v, x->n = l->n;
    for (int i = 0; i < l->n; i++) jp_deepen(p, x, l->v[i]);
    return x;
}

jnode *jp_constant(parser *p, jv v)
{
    jnode *x = jp_node(p, X_CONST, p->tok->line, 0);
    if (x) x->v = v;
    return x;
}

jnode *jp_name_node(parser *p, jop o, span s)
{
    jnode *x = jp_node(p, o, p->tok->line, 0);
    if (!x) return NULL;
    x->name = jp_intern(p, s);
    if (!p->rc) x->v = jv_s(p->t->name[x->name]);
    return x;
}

bool jp_enter(parser *p)
{
    if (p->rc) return false;
    if (++p->depth > JINJA_MAX_DEPTH) jp_fail(p, DR_EUNSUPPORTED, "nested too deeply");
    return !p->rc;
}
