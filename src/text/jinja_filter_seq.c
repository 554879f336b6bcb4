/* jinja_filter_seq.c - filters over lists and dicts. What is a generator in Jinja is one here: it
 * can be gone through once, has no length, and works as it is drawn from. */
#include "text/jinja_priv.h"

static bool given(jv v) { return v.kind != J_MISSING; }

static jv iter_v(jiter *it) { return it ? (jv){ .kind = J_ITER, .iter = it } : jv_none(); }

/* What a generator draws from; generators over generators call each other, so not too many. */
static void draw(jrt *rt, jiter *it, jv v)
{
    it->from = jiterate(rt, v);
    if (it->from) it->depth = it->from->depth + 1;
    if (it->depth > 100) jfail(rt, DR_EUNSUPPORTED, "generators nested too deeply");
}

/* A list as something to be gone through once. */
static jv once(jrt *rt, jlist *l) { return l ? iter_v(jiterate(rt, jlist_v(J_LIST, l))) : jv_none(); }

static jlist *copy_of(jrt *rt, jv v)
{
    jlist *l = jcollect(rt, v), *c = l ? jlist_new(rt, l->n) : NULL;
    if (c && l->n) memcpy(c->v, l->v, l->n * sizeof *l->v);
    return c;
}

/* ---- attribute paths: "a.b.0" */

typedef struct { jv *v; int n; } path;

static path path_of(jrt *rt, jv attr)
{
    path p = {0};
    if (!given(attr) || attr.kind == J_NONE) return p;
    size_t parts = 1;
    if (attr.kind == J_STR)
        for (size_t i = 0; i < attr.s->n; i++) parts += attr.s->p[i] == '.';
    p.v = jtake(rt, parts * sizeof *p.v);
    if (!p.v) return p;
    if (attr.kind != J_STR) {
        p.v[p.n++] = attr;
        return p;
    }
    for (size_t i = 0, from = 0; i <= attr.s->n && !rt->rc; i++) {
        if (i < attr.s->n && attr.s->p[i] != '.') continue;
        jstr *s = jstr_sub(rt, attr.s, from, i - from);
        bool digits = s && s->n > 0 && s->n < 10;
        int64_t k = 0;
        for (size_t j = 0; digits && j < s->n; j++) {
            digits = s->p[j] >= '0' && s->p[j] <= '9';
            k = k * 10 + (s->p[j] - '0');
        }
        if (s) p.v[p.n++] = digits ? jv_int(k) : jv_s(s);
        from = i + 1;
    }
    return p;
}

static jv follow(jrt *rt, jv v, const jv *part, int n, jv instead)
{
    for (int i = 0; i < n && !rt->rc; i++) {
        v = jgetitem(rt, v, part[i]);
        if (v.kind == J_UNDEF && given(instead) && instead.kind != J_NONE) v = instead;
    }
    return v;
}

static jv folded(jrt *rt, jv v, bool sensitive)
{
    if (sensitive || v.kind != J_STR || rt->rc) return v;
    jstr *s = jcase(rt, v.s, 'l');
    return s ? jv_s(s) : jv_none();
}

static jv key_of(jrt *rt, jv v, path p, jv instead, bool sensitive)
{
    return folded(rt, follow(rt, v, p.v, p.n, instead), sensitive);
}

/* ---- generators */

static bool next_map(jrt *rt, jiter *it, jv *v)
{
    if (!jspend(rt, 1) || !it->from->next(rt, it->from, v)) return false;
    *v = it->row ? jfilter_apply(rt, it->row, *v, it->args)
                 : follow(rt, *v, it->path, it->n_path, it->extra);
    return !rt->rc;
}

static bool next_select(jrt *rt, jiter *it, jv *v)
{
    while (jspend(rt, 1) && it->from->next(rt, it->from, v)) {
        jv x = follow(rt, *v, it->path, it->n_path, jv_missing());
        if (rt->rc) return false;
        bool yes = it->row ? jtest_apply(rt, it->row, x, it->args) : jtruth(rt, x);
        if (rt->rc) return false;
        if (yes != it->neg) return true;
    }
    return false;
}

/* The arguments behind the first n. */
static jargs *rest(jrt *rt, const jargs *all, int n)
{
    jargs *a = jtake(rt, sizeof *a);
    if (!a) return NULL;
    *a = *all;
    a->pos += n, a->n -= n;
    return a;
}

static jv f_map(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)a;
    jiter *it = jiter_new(rt, next_map, v);
    if (!it) return jv_none();
    if (!jtruth(rt, v)) return once(rt, jlist_new(rt, 0));
    draw(rt, it, v);
    it->extra = jv_missing();
    if (all->n) {
        span s = all->pos[0].kind == J_STR ? (span){ all->pos[0].s->p, all->pos[0].s->n }
                                           : span_of("");
        it->row = jfilter_find(s), it->args = rest(rt, all, 1);
        if (!it->row) return jfail(rt, DR_EUNSUPPORTED, "the filter '" SPAN_FMT "' is not one that "
                                   "drover knows", SPAN_ARG(s));
        return iter_v(it);
    }
    jv b[2];
    if (!jbind(rt, "map", "attribute,default", 1, all, b)) return jv_none();
    path p = path_of(rt, b[0]);
    it->path = p.v, it->n_path = p.n, it->extra = b[1];
    return iter_v(it);
}

static jv selected(jrt *rt, jv v, const jargs *all, bool by_attr, bool neg)
{
    jiter *it = jiter_new(rt, next_select, v);
    int off = by_attr;
    if (!it) return jv_none();
    if (!jtruth(rt, v)) return once(rt, jlist_new(rt, 0));
    if (by_attr && !all->n) return jfail(rt, DR_EINVAL, "Missing parameter for attribute name");
    draw(rt, it, v);
    it->neg = neg;
    if (by_attr) {
        path p = path_of(rt, all->pos[0]);
        it->path = p.v, it->n_path = p.n;
    }
    if (all->n > off) {
        jv name = all->pos[off];
        span s = name.kind == J_STR ? (span){ name.s->p, name.s->n } : span_of("");
        it->row = jtest_find(s), it->args = rest(rt, all, off + 1);
        if (!it->row) return jfail(rt, DR_EUNSUPPORTED, "the test '" SPAN_FMT "' is not one that "
                                   "drover knows", SPAN_ARG(s));
    }
    return iter_v(it);
}

static jv f_select(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)a;
    return selected(rt, v, all, false, false);
}

static jv f_reject(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)a;
    return selected(rt, v, all, false, true);
}

static jv f_selectattr(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)a;
    return selected(rt, v, all, true, false);
}

static jv f_rejectattr(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)a;
    return selected(rt, v, all, true, true);
}

static jv f_items(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)a, (void)all;
    if (v.kind == J_UNDEF) return once(rt, jlist_new(rt, 0));
    if (v.kind != J_DICT) return jfail(rt, DR_EINVAL, "Can only get item pairs from a mapping.");
    return iter_v(jiterate(rt, (jv){ .kind = J_VIEW, .sub = 2, .dict = v.dict }));
}

static jv f_reverse(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)a, (void)all;
    if (v.kind == J_STR) return jslice(rt, v, jv_none(), jv_none(), jv_int(-1));
    if (v.kind == J_ITER) {
        jlist *l = jcollect(rt, v), *r = l ? jlist_new(rt, l->n) : NULL;
        for (size_t i = 0; r && i < l->n; i++) r->v[i] = l->v[l->n - 1 - i];
        return jlist_v(J_LIST, r);
    }
    jiter *it = jiterate(rt, v);
    if (it) it->rev = true;
    return iter_v(it);
}

static jv f_unique(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    bool sensitive = given(a[0]) && jtruth(rt, a[0]);
    path p = path_of(rt, a[1]);
    jdict *seen = jdict_new(rt, 0);
    jlist *l = jlist_new(rt, 0);
    jiter *it = jiterate(rt, v);
    size_t cap = 0;
    jv x;
    while (it && seen && l && jspend(rt, 1) && it->next(rt, it, &x)) {
        size_t had = seen->n;
        jdict_put(rt, seen, key_of(rt, x, p, jv_missing(), sensitive), jv_none());
        if (seen->n > had) jlist_add(rt, l, &cap, x);
    }
    return rt->rc ? jv_none() : once(rt, l);
}

static jv f_batch(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    int64_t n;
    jlist *from = jcollect(rt, v), *out = jlist_new(rt, 0);
    size_t cap = 0;
    if (!from || !out || !jint_arg(rt, a[0], "batch", &n)) return jv_none();
    if (n < 1 || n > 1 << 20) return jfail(rt, DR_EUNSUPPORTED, "batches of %lld", (long long)n);
    for (size_t i = 0; i < from->n && !rt->rc; i += (size_t)n) {
        size_t k = from->n - i < (size_t)n ? from->n - i : (size_t)n;
        bool fill = k < (size_t)n && given(a[1]) && a[1].kind != J_NONE;
        jlist *row = jlist_new(rt, fill ? (size_t)n : k);
        for (size_t j = 0; row && j < row->n; j++) row->v[j] = j < k ? from->v[i + j] : a[1];
        if (row) jlist_add(rt, out, &cap, jlist_v(J_LIST, row));
    }
    return once(rt, out);
}

static jv f_slice(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    int64_t n;
    jlist *from = jcollect(rt, v);
    if (!from || !jint_arg(rt, a[0], "slice", &n)) return jv_none();
    if (n < 1 || n > 1 << 20) return jfail(rt, DR_EUNSUPPORTED, "%lld slices", (long long)n);
    size_t each = from->n / (size_t)n, extra = from->n % (size_t)n, at = 0;
    jlist *out = jlist_new(rt, (size_t)n);
    for (size_t i = 0; out && i < (size_t)n && !rt->rc; i++) {
        size_t k = each + (i < extra);
        bool fill = i >= extra && given(a[1]) && a[1].kind != J_NONE;
        jlist *row = jlist_new(rt, k + fill);
        for (size_t j = 0; row && j < row->n; j++) row->v[j] = j < k ? from->v[at + j] : a[1];
        out->v[i] = jlist_v(J_LIST, row);
        at += k;
    }
    return once(rt, out);
}

/* ---- one value of many */

static jv f_list(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)a, (void)all;
    return jlist_v(J_LIST, copy_of(rt, v));
}

static jv f_first(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)a, (void)all;
    jiter *it = jiterate(rt, v);
    jv x;
    if (it && it->next(rt, it, &x)) return x;
    return rt->rc ? jv_none() : jundef_why(rt, false, "No first item, sequence was empty.");
}

static jv f_last(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)a, (void)all;
    int64_t n = v.kind == J_ITER || v.kind == J_LOOP ? -1 : jlen(rt, v);
    if (n < 0) return jfail(rt, DR_EINVAL, "'%s' object is not reversible", jtype(v));
    if (!n) return jundef_why(rt, false, "No last item, sequence was empty.");
    if (v.kind == J_DICT) return v.dict->key[n - 1];
    if (v.kind == J_VIEW) return jview_at(rt, v, (size_t)n - 1);
    return jgetitem(rt, v, jv_int(-1));
}

static jv f_join(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    jstr *by = given(a[0]) ? jto_str(rt, a[0]) : NULL;
    path p = path_of(rt, a[1]);
    jiter *it = jiterate(rt, v);
    jtext t = {0};
    jv x;
    for (bool more = false; it && jspend(rt, 1) && it->next(rt, it, &x); more = true) {
        if (more && by) jtext_str(rt, &t, by);
        x = follow(rt, x, p.v, p.n, jv_missing());
        if (!rt->rc) jprint(rt, &t, x);
    }
    jstr *s = jtext_take(rt, &t);
    return s ? jv_s(s) : jv_none();
}

static jv f_sum(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    path p = path_of(rt, a[0]);
    jv total = given(a[1]) ? a[1] : jv_int(0), x;
    jiter *it = jiterate(rt, v);
    if (total.kind == J_STR) return jfail(rt, DR_EINVAL, "sum() can't sum strings");
    while (it && jspend(rt, 1) && it->next(rt, it, &x))
        total = jarith(rt, X_ADD, total, follow(rt, x, p.v, p.n, jv_missing()));
    return total;
}

static jv extreme(jrt *rt, jv v, const jv *a, bool max)
{
    bool sensitive = given(a[0]) && jtruth(rt, a[0]), any = false;
    path p = path_of(rt, a[1]);
    jiter *it = jiterate(rt, v);
    jv best = jv_none(), best_key = jv_none(), x;
    while (it && jspend(rt, 1) && it->next(rt, it, &x)) {
        jv key = key_of(rt, x, p, jv_missing(), sensitive);
        int c = any && !rt->rc ? jorder(rt, key, best_key, max ? ">" : "<") : max ? 1 : -1;
        if (c == (max ? 1 : -1)) best = x, best_key = key;
        any = true;
    }
    if (rt->rc || any) return best;
    return jundef_why(rt, false, "No aggregated item, sequence was empty.");
}

static jv f_min(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    return extreme(rt, v, a, false);
}

static jv f_max(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    return extreme(rt, v, a, true);
}

/* ---- sorting */

static bool backwards(jrt *rt, jv v)
{
    int64_t i = 0;
    return given(v) && jint_arg(rt, v, "reverse", &i) && i;
}

static jv f_sort(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    bool reverse = backwards(rt, a[0]), sensitive = given(a[1]) && jtruth(rt, a[1]);
    jlist *l = copy_of(rt, v), *keys = l ? jlist_new(rt, l->n) : NULL;
    path p[16];
    int n = 0;
    if (!keys) return jv_none();
    if (given(a[2]) && a[2].kind == J_STR) {
        const jstr *s = a[2].s;
        for (size_t i = 0, from = 0; i <= s->n; i++) {
            if (i < s->n && s->p[i] != ',') continue;
            if (n == 16) return jfail(rt, DR_EUNSUPPORTED, "a sort by more than 16 attributes");
            jstr *one = jstr_sub(rt, s, from, i - from);
            if (one) p[n++] = path_of(rt, jv_s(one));
            from = i + 1;
        }
    } else {
        p[n++] = path_of(rt, a[2]);
    }
    for (size_t i = 0; i < l->n && !rt->rc; i++) {
        jlist *k = jlist_new(rt, (size_t)n);
        for (int j = 0; k && j < n && !rt->rc; j++)
            k->v[j] = key_of(rt, l->v[i], p[j], jv_missing(), sensitive);
        keys->v[i] = jlist_v(J_LIST, k);
    }
    if (!rt->rc) jsort(rt, keys, l, reverse);
    return jlist_v(J_LIST, l);
}

static jv f_dictsort(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    bool sensitive = given(a[0]) && jtruth(rt, a[0]), reverse = backwards(rt, a[2]);
    span by = given(a[1]) && a[1].kind == J_STR ? (span){ a[1].s->p, a[1].s->n } : span_of("key");
    bool value = span_is(by, "value");
    if (v.kind == J_UNDEF) return juse_undef(rt, v);
    if (!value && !span_is(by, "key"))
        return jfail(rt, DR_EINVAL, "You can only sort by either \"key\" or \"value\"");
    if (v.kind != J_DICT) return jfail(rt, DR_EINVAL, "'%s' object has no attribute 'items'", jtype(v));
    const jdict *d = v.dict;
    jlist *l = jlist_new(rt, d->n), *keys = jlist_new(rt, d->n);
    for (size_t i = 0; l && keys && i < d->n && !rt->rc; i++) {
        l->v[i] = jtuple2(rt, d->key[i], d->val[i]);
        keys->v[i] = folded(rt, value ? d->val[i] : d->key[i], sensitive);
    }
    if (l && keys && !rt->rc) jsort(rt, keys, l, reverse);
    return jlist_v(J_LIST, l);
}

static jv f_groupby(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    bool sensitive = given(a[2]) && jtruth(rt, a[2]);
    path p = path_of(rt, a[0]);
    jlist *l = copy_of(rt, v), *keys = l ? jlist_new(rt, l->n) : NULL, *out = jlist_new(rt, 0);
    jlist *sorted = keys ? jlist_new(rt, l->n) : NULL;
    size_t cap = 0;
    if (!sorted || !out) return jv_none();
    for (size_t i = 0; i < l->n && !rt->rc; i++) keys->v[i] = key_of(rt, l->v[i], p, a[1], sensitive);
    if (rt->rc) return jv_none();
    if (l->n) memcpy(sorted->v, keys->v, l->n * sizeof *l->v);
    jsort(rt, keys, l, false);
    jsort(rt, sorted, sorted, false);
    for (size_t i = 0, to; i < l->n && !rt->rc; i = to) {
        for (to = i + 1; to < l->n && jequal(rt, sorted->v[i], sorted->v[to]); to++) {}
        jlist *part = jlist_new(rt, to - i);
        if (!part) break;
        memcpy(part->v, l->v + i, (to - i) * sizeof *l->v);
        jv g = jtuple2(rt, follow(rt, l->v[i], p.v, p.n, a[1]), jlist_v(J_LIST, part));
        if (rt->rc) break;
        g.list->group = true;
        jlist_add(rt, out, &cap, g);
    }
    return jlist_v(J_LIST, out);
}

static jv f_attr(jrt *rt, jv v, const jv *a, const jargs *all)
{
    (void)all;
    if (a[0].kind != J_STR) return jfail(rt, DR_EUNSUPPORTED, "attr of what is no name");
    span s = { a[0].s->p, a[0].s->n };
    if (v.kind == J_DICT && !jmethod_find(J_DICT, s)) return jundef_of(rt, v, a[0]);
    return jgetattr(rt, v, a[0]);
}

const jfilter_row jfilters_seq[] = {
    { "map", f_map, NULL, 0 }, { "select", f_select, NULL, 0 }, { "reject", f_reject, NULL, 0 },
    { "selectattr", f_selectattr, NULL, 0 }, { "rejectattr", f_rejectattr, NULL, 0 },
    { "items", f_items, "", 0 }, { "reverse", f_reverse, "", 0 },
    { "unique", f_unique, "case_sensitive,attribute", 0 },
    { "batch", f_batch, "linecount,fill_with", 1 }, { "slice", f_slice, "slices,fill_with", 1 },
    { "list", f_list, "", 0 }, { "first", f_first, "", 0 }, { "last", f_last, "", 0 },
    { "join", f_join, "d,attribute", 0 }, { "sum", f_sum, "attribute,start", 0 },
    { "min", f_min, "case_sensitive,attribute", 0 }, { "max", f_max, "case_sensitive,attribute", 0 },
    { "sort", f_sort, "reverse,case_sensitive,attribute", 0 },
    { "dictsort", f_dictsort, "case_sensitive,by,reverse", 0 },
    { "groupby", f_groupby, "attribute,default,case_sensitive", 1 },
    { "attr", f_attr, "name", 1 },
    { NULL, NULL, NULL, 0 }
};

const jfilter_row *jfilter_find(span name)
{
    const jfilter_row *const all[] = { jfilters_text, jfilters_seq };
    for (int k = 0; k < 2; k++)
        for (const jfilter_row *r = all[k]; r->name; r++)
            if (span_is(name, r->name)) return r;
    return NULL;
}
