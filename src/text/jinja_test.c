/* jinja_test.c - what stands after `is`. */
#include <math.h>
#include "text/jinja_priv.h"
#include "text/unicode.h"
#include "text/utf8.h"

static bool t_defined(jrt *rt, jv v, jv a, uint32_t sub)
{
    (void)rt, (void)a;
    return (v.kind == J_UNDEF) == (sub == 1);
}

/* sub: bits of kinds */
static bool t_kind(jrt *rt, jv v, jv a, uint32_t sub)
{
    (void)rt, (void)a;
    return sub >> v.kind & 1;
}

static bool t_truth(jrt *rt, jv v, jv a, uint32_t sub)
{
    (void)rt, (void)a;
    return v.kind == J_BOOL && v.b == (sub == 1);
}

static bool t_iterable(jrt *rt, jv v, jv a, uint32_t sub)
{
    (void)rt, (void)a, (void)sub;
    return jiterable(v);
}

static bool t_modulo(jrt *rt, jv v, jv a, uint32_t sub)
{
    jv by = sub == 2 ? a : jv_int(2);
    jv m = jarith(rt, X_MOD, v, by);
    return !rt->rc && jequal(rt, m, jv_int(sub == 1));
}

static bool t_compare(jrt *rt, jv v, jv a, uint32_t sub) { return jcompare(rt, (jcmp)sub, v, a); }

/* Identity: of what templates compare so, None and the truth values, it is equality. */
static bool t_same(jrt *rt, jv v, jv a, uint32_t sub)
{
    (void)sub;
    if (v.kind != a.kind) return false;
    if (jis_num(v) || v.kind == J_STR) return jequal(rt, v, a);
    if (v.kind == J_NONE) return true;
    return v.list == a.list;
}

/* str.islower() and isupper(): some letter has case, and none has the other. */
static bool t_case(jrt *rt, jv v, jv a, uint32_t sub)
{
    (void)a;
    const jstr *s = jto_str(rt, v);
    bool some = false;
    if (!s) return false;
    const uint8_t *p = (const uint8_t *)s->p, *end = p + s->n;
    for (int n; p < end; p += n) {
        uint32_t c = utf8_get(p, end, &n);
        if (c == UTF8_BAD) continue;
        uint8_t gc = uc_props(c) & UC_GC;
        if (gc == GC_LT || gc == (sub ? GC_LL : GC_LU)) return false;
        some |= gc == (sub ? GC_LU : GC_LL);
    }
    return some;
}

static bool t_filter(jrt *rt, jv v, jv a, uint32_t sub)
{
    (void)rt, (void)a;
    if (v.kind != J_STR) return false;
    span s = { v.s->p, v.s->n };
    return sub ? jtest_find(s) != NULL : jfilter_find(s) != NULL;
}

static bool t_escaped(jrt *rt, jv v, jv a, uint32_t sub)
{
    (void)rt, (void)a, (void)sub;
    return v.kind == J_STR && v.s->safe;
}

#define BIT(k) (1u << (k))
static const jtest_row rows[] = {
    { "defined", t_defined, 0, 0 }, { "undefined", t_defined, 0, 1 },
    { "none", t_kind, 0, BIT(J_NONE) }, { "boolean", t_kind, 0, BIT(J_BOOL) },
    { "string", t_kind, 0, BIT(J_STR) }, { "integer", t_kind, 0, BIT(J_INT) | BIT(J_BIG) },
    { "float", t_kind, 0, BIT(J_FLOAT) }, { "mapping", t_kind, 0, BIT(J_DICT) },
    { "number", t_kind, 0, BIT(J_INT) | BIT(J_BIG) | BIT(J_FLOAT) | BIT(J_BOOL) },
    { "sequence", t_kind, 0, BIT(J_STR) | BIT(J_LIST) | BIT(J_TUPLE) | BIT(J_DICT) | BIT(J_RANGE)
                             | BIT(J_UNDEF) },
    { "callable", t_kind, 0, BIT(J_MACRO) | BIT(J_FN) | BIT(J_METHOD) | BIT(J_UNDEF)
                             | BIT(J_LOOP) },
    { "iterable", t_iterable, 0, 0 }, { "true", t_truth, 0, 1 }, { "false", t_truth, 0, 0 },
    { "even", t_modulo, 0, 0 }, { "odd", t_modulo, 0, 1 }, { "divisibleby", t_modulo, 1, 2 },
    { "sameas", t_same, 1, 0 }, { "escaped", t_escaped, 0, 0 },
    { "lower", t_case, 0, 0 }, { "upper", t_case, 0, 1 },
    { "filter", t_filter, 0, 0 }, { "test", t_filter, 0, 1 }, { "in", t_compare, 1, C_IN },
    { "eq", t_compare, 1, C_EQ }, { "equalto", t_compare, 1, C_EQ }, { "==", t_compare, 1, C_EQ },
    { "ne", t_compare, 1, C_NE }, { "!=", t_compare, 1, C_NE },
    { "lt", t_compare, 1, C_LT }, { "lessthan", t_compare, 1, C_LT }, { "<", t_compare, 1, C_LT },
    { "le", t_compare, 1, C_LE }, { "<=", t_compare, 1, C_LE },
    { "gt", t_compare, 1, C_GT }, { "greaterthan", t_compare, 1, C_GT }, { ">", t_compare, 1, C_GT },
    { "ge", t_compare, 1, C_GE }, { ">=", t_compare, 1, C_GE },
};

const jtest_row *jtest_find(span name)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (span_is(name, rows[i].name)) return &rows[i];
    return NULL;
}
