/* jinja_method_other.c - methods of lists, dicts and loops. The sandbox forbids the ones that
 * change something. */
#include "text/jinja_priv.h"

static jv view(jv d, uint32_t which) { return (jv){ .kind = J_VIEW, .sub = which, .dict = d.dict }; }

static jv m_keys(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)rt, (void)a, (void)all;
    return view(v, 0);
}

static jv m_values(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)rt, (void)a, (void)all;
    return view(v, 1);
}

static jv m_items(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)rt, (void)a, (void)all;
    return view(v, 2);
}

static jv m_get(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    if (!jhashable(a[0])) return jfail(rt, DR_EINVAL, "unhashable type: '%s'", jtype(a[0]));
    jv *x = jdict_get(rt, v.dict, a[0]);
    return x ? *x : a[1].kind != J_MISSING ? a[1] : jv_none();
}

static jv m_copy(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)rt, (void)a, (void)all;
    return v;                                    /* nothing can change either */
}

static jv m_count(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    int64_t n = 0;
    for (size_t i = 0; i < v.list->n && !rt->rc; i++) n += jequal(rt, v.list->v[i], a[0]);
    return jv_int(n);
}

static jv m_index(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    int64_t from = 0, to = (int64_t)v.list->n, n = to;
    if (a[1].kind != J_MISSING && !jint_arg(rt, a[1], "index", &from)) return jv_none();
    if (a[2].kind != J_MISSING && !jint_arg(rt, a[2], "index", &to)) return jv_none();
    if (from < 0) from = from + n < 0 ? 0 : from + n;
    if (to < 0) to += n;
    for (int64_t i = from; i < to && i < n && !rt->rc; i++)
        if (jequal(rt, v.list->v[i], a[0])) return jv_int(i);
    return jfail(rt, DR_EINVAL, "the value is not in the %s", jtype(v));
}

static jv m_cycle(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)a;
    if (!all->n) return jfail(rt, DR_EINVAL, "no items for cycling given");
    return all->pos[v.loop->index0 % all->n];
}

static jv m_changed(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)a;
    jlist *l = jlist_new(rt, (size_t)all->n);
    if (!l) return jv_none();
    for (int i = 0; i < all->n; i++) l->v[i] = all->pos[i];
    jv now = jlist_v(J_TUPLE, l);
    bool same = v.loop->changed.kind == J_TUPLE && jequal(rt, v.loop->changed, now);
    v.loop->changed = now;
    return jv_bool(!same);
}

#define L 1u << J_LIST
#define T 1u << J_TUPLE
#define D 1u << J_DICT
const jmethod_row jmethods_other[] = {
    { D, "get", m_get, "key,default", 1 }, { D, "items", m_items, "", 0 },
    { D, "keys", m_keys, "", 0 }, { D, "values", m_values, "", 0 },
    { D | L, "copy", m_copy, "", 0 }, { L | T, "count", m_count, "value", 1 },
    { L | T, "index", m_index, "value,start,stop", 1 },
    { 1u << J_LOOP, "cycle", m_cycle, NULL, 0 }, { 1u << J_LOOP, "changed", m_changed, NULL, 0 },
    { D | L, "pop", NULL, "", 0 }, { D | L, "clear", NULL, "", 0 }, { D, "update", NULL, "", 0 },
    { D, "popitem", NULL, "", 0 }, { D, "setdefault", NULL, "", 0 }, { L, "append", NULL, "", 0 },
    { L, "extend", NULL, "", 0 }, { L, "insert", NULL, "", 0 }, { L, "remove", NULL, "", 0 },
    { L, "reverse", NULL, "", 0 }, { L, "sort", NULL, "", 0 }, { D, "fromkeys", NULL, "", -1 },
    { 0, NULL, NULL, NULL, 0 }
};

const jmethod_row *jmethod_find(jkind k, span name)
{
    const jmethod_row *const all[] = { jmethods_str, jmethods_other };
    for (int i = 0; i < 2; i++)
        for (const jmethod_row *r = all[i]; r->name; r++)
            if (r->kinds >> k & 1 && span_is(name, r->name)) return r;
    return NULL;
}
