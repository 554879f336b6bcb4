/* schema_text.c - JSON values: how they are spelled, whether one satisfies a schema, and whether two
 * schemas exclude each other. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "gen/schema_priv.h"
#include "text/utf8.h"

enum { DEEP = 60 };                 /* levels of what calls itself */

/* ---- spelling: compact; strings as the rules for strings spell them; reals as Python does */

static void add(gctx *g, const char *s, size_t n, char **p, size_t *len, size_t *cap)
{
    if (g->rc || !gz_work(g, 1)) return;
    if (*len + n + 1 > *cap) {
        size_t want = (*len + n + 1) * 2;
        char *q = gz_take(g, want);
        if (!q) return;
        if (*len) memcpy(q, *p, *len);
        *p = q, *cap = want;
    }
    memcpy(*p + *len, s, n);
    *len += n;
    (*p)[*len] = 0;
}
#define ADD(s, n) add(g, s, n, p, len, cap)

static void spell_string(gctx *g, const char *s, size_t n, char **p, size_t *len, size_t *cap)
{
    static const char named[] = "\b\f\n\r\t\"\\", letter[] = "bfnrt\"\\";
    ADD("\"", 1);
    for (size_t i = 0; i < n; i++) {
        char c = s[i], esc[8];
        const char *at = c ? strchr(named, c) : NULL;
        if (at) {
            esc[0] = '\\', esc[1] = letter[at - named];
            ADD(esc, 2);
        } else if ((unsigned char)c < 0x20) {
            snprintf(esc, sizeof esc, "\\u%04x", (unsigned)c);
            ADD(esc, 6);
        } else ADD(s + i, 1);
    }
    ADD("\"", 1);
}

static void spell_real(double x, char *s, size_t size)
{
    char e[40], digits[24];
    int p = 0, n = 0;
    do snprintf(e, sizeof e, "%.*e", p, x); while (strtod(e, NULL) != x && ++p < 17);
    const char *sign = *e == '-' ? "-" : "", *at = e + (*e == '-');
    int ten = (int)strtol(strchr(at, 'e') + 1, NULL, 10);
    for (; *at != 'e'; at++)
        if (*at != '.') digits[n++] = *at;
    digits[n] = 0;
    if (ten < -4 || ten > 15)
        snprintf(s, size, "%s%c%s%se%c%02d", sign, digits[0], n > 1 ? "." : "", digits + 1,
                 ten < 0 ? '-' : '+', abs(ten));
    else if (ten < 0)
        snprintf(s, size, "%s0.%.*s%s", sign, -ten - 1, "000", digits);
    else if (n <= ten + 1)
        snprintf(s, size, "%s%s%.*s.0", sign, digits, ten + 1 - n, "000000000000000");
    else
        snprintf(s, size, "%s%.*s.%s", sign, ten + 1, digits, digits + ten + 1);
}

void json_spell(gctx *g, const json_t *v, char **p, size_t *len, size_t *cap)
{
    char s[64];
    size_t i;
    json_t *x;
    const char *key;
    switch (json_typeof(v)) {
    case JSON_NULL: ADD("null", 4); break;
    case JSON_TRUE: ADD("true", 4); break;
    case JSON_FALSE: ADD("false", 5); break;
    case JSON_STRING: spell_string(g, json_string_value(v), json_string_length(v), p, len, cap); break;
    case JSON_INTEGER:
        snprintf(s, sizeof s, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
        ADD(s, strlen(s));
        break;
    case JSON_REAL:
        spell_real(json_real_value(v), s, sizeof s);
        ADD(s, strlen(s));
        break;
    case JSON_ARRAY:
        ADD("[", 1);
        json_array_foreach(v, i, x) {
            if (i) ADD(",", 1);
            json_spell(g, x, p, len, cap);
        }
        ADD("]", 1);
        break;
    case JSON_OBJECT:
        ADD("{", 1);
        i = 0;
        json_object_foreach((json_t *)v, key, x) {
            if (i++) ADD(",", 1);
            spell_string(g, key, strlen(key), p, len, cap);
            ADD(":", 1);
            json_spell(g, x, p, len, cap);
        }
        ADD("}", 1);
        break;
    }
}

/* ---- equality and order of values */

static int compare_numbers(const json_t *a, const json_t *b)
{
    bound x, y;
    bound_read(a, false, &x), bound_read(b, false, &y);
    return bound_compare(&x, &y);
}

bool json_same(const json_t *a, const json_t *b)
{
    size_t i;
    json_t *x;
    const char *key;
    if (json_is_number(a) && json_is_number(b)) return compare_numbers(a, b) == 0;
    if (json_typeof(a) != json_typeof(b)) return false;
    if (json_is_array(a)) {
        if (json_array_size(a) != json_array_size(b)) return false;
        json_array_foreach(a, i, x)
            if (!json_same(x, json_array_get(b, i))) return false;
        return true;
    }
    if (json_is_object(a)) {
        if (json_object_size(a) != json_object_size(b)) return false;
        json_object_foreach((json_t *)a, key, x) {
            const json_t *y = json_object_get(b, key);
            if (!y || !json_same(x, y)) return false;
        }
        return true;
    }
    return json_equal(a, b);
}

static bool whole_number(const json_t *v)
{
    return json_is_integer(v) || (json_is_real(v) && json_real_value(v) == floor(json_real_value(v)));
}

static bool has_type(const json_t *v, const char *t)
{
    return (!strcmp(t, "null") && json_is_null(v)) || (!strcmp(t, "boolean") && json_is_boolean(v)) ||
           (!strcmp(t, "integer") && whole_number(v)) || (!strcmp(t, "number") && json_is_number(v)) ||
           (!strcmp(t, "string") && json_is_string(v)) || (!strcmp(t, "array") && json_is_array(v)) ||
           (!strcmp(t, "object") && json_is_object(v));
}

/* ---- validity */

static bool at_least(const json_t *s, const char *key, size_t n)
{
    const json_t *v = json_object_get(s, key);
    return !json_is_number(v) || (double)n >= json_number_value(v);
}

static bool at_most(const json_t *s, const char *key, size_t n)
{
    const json_t *v = json_object_get(s, key);
    return !json_is_number(v) || (double)n <= json_number_value(v);
}

static bool number_valid(const json_t *v, const json_t *s)
{
    const json_t *b;
    if (json_is_number(b = json_object_get(s, "minimum")) && compare_numbers(v, b) < 0) return false;
    if (json_is_number(b = json_object_get(s, "maximum")) && compare_numbers(v, b) > 0) return false;
    if (json_is_number(b = json_object_get(s, "exclusiveMinimum")) && compare_numbers(v, b) <= 0)
        return false;
    if (json_is_number(b = json_object_get(s, "exclusiveMaximum")) && compare_numbers(v, b) >= 0)
        return false;
    if (json_is_integer(b = json_object_get(s, "multipleOf")))
        return whole_number(v) && fmod(json_number_value(v), json_number_value(b)) == 0;
    return true;
}

static bool string_valid(schema *c, const json_t *v, const json_t *s)
{
    size_t n = 0;
    const char *p = json_string_value(v);
    for (size_t i = 0; i < json_string_length(v); i++) n += (p[i] & 0xc0) != 0x80;
    if (!at_least(s, "minLength", n) || !at_most(s, "maxLength", n)) return false;
    if (!json_object_get(s, "pattern") && !json_object_get(s, "format")) return true;
    spread one = { .types = T_STR, .s = &s, .n = 1 };
    cauto *x = spread_strings(c, &one);
    return x && ca_accepts(x, (span){ p, json_string_length(v) });
}

static bool array_valid(schema *c, const json_t *v, const json_t *s)
{
    size_t i, n = json_array_size(v);
    json_t *x;
    if (!at_least(s, "minItems", n) || !at_most(s, "maxItems", n)) return false;
    const json_t *prefix = json_object_get(s, "prefixItems"), *items = json_object_get(s, "items");
    json_array_foreach(v, i, x) {
        const json_t *is = i < json_array_size(prefix) ? json_array_get(prefix, i) : items;
        if (is && !schema_valid(c, x, is, false)) return false;
    }
    if (json_is_true(json_object_get(s, "uniqueItems")))
        for (i = 0; i < n; i++)
            for (size_t k = 0; k < i; k++)
                if (!gz_work(c->g, 1) || json_same(json_array_get(v, i), json_array_get(v, k)))
                    return false;
    return true;
}

static bool object_valid(schema *c, const json_t *v, const json_t *s)
{
    size_t i, n = json_object_size(v);
    json_t *x, *sub;
    const char *key, *pattern;
    if (!at_least(s, "minProperties", n) || !at_most(s, "maxProperties", n)) return false;
    json_array_foreach(json_object_get(s, "required"), i, x)
        if (json_is_string(x) && !json_object_get(v, json_string_value(x))) return false;
    json_t *props = json_object_get(s, "properties"), *names = json_object_get(s, "propertyNames"),
           *patterns = json_object_get(s, "patternProperties"),
           *more = json_object_get(s, "additionalProperties");
    json_object_foreach((json_t *)v, key, x) {
        bool known = false;
        if ((sub = json_object_get(props, key))) {
            known = true;
            if (!schema_valid(c, x, sub, false)) return false;
        }
        json_object_foreach(patterns, pattern, sub) {
            if (!pattern_finds(c, pattern, span_of(key))) continue;
            known = true;
            if (!schema_valid(c, x, sub, false)) return false;
        }
        if (!known && more && !schema_valid(c, x, more, false)) return false;
        if (names) {
            json_t *name = json_string(key);
            bool ok = name && schema_valid(c, name, names, false);
            json_decref(name);
            if (!ok) return false;
        }
    }
    return true;
}

static bool own_valid(schema *c, const json_t *v, const json_t *s)
{
    size_t i;
    json_t *x;
    const json_t *t = json_object_get(s, "type"), *e = json_object_get(s, "enum"),
                 *k = json_object_get(s, "const");
    bool ok = !t || (json_is_null(v) && json_is_true(json_object_get(s, "nullable")));
    if (json_is_string(t)) ok |= has_type(v, json_string_value(t));
    json_array_foreach(t, i, x) ok |= json_is_string(x) && has_type(v, json_string_value(x));
    if (!ok || (k && !json_same(v, k))) return false;
    if (json_is_array(e) && e != c->given) {
        ok = false;
        json_array_foreach(e, i, x) ok |= gz_work(c->g, 1) && json_same(v, x);
        if (!ok) return false;
    }
    if (json_is_number(v)) return number_valid(v, s);
    if (json_is_string(v)) return string_valid(c, v, s);
    if (json_is_array(v)) return array_valid(c, v, s);
    return !json_is_object(v) || object_valid(c, v, s);
}

bool schema_valid(schema *c, const json_t *v, const json_t *s, bool own)
{
    size_t i, hits = 0;
    json_t *x;
    if (json_is_boolean(s)) return json_is_true(s);
    if (!json_is_object(s) || !gz_work(c->g, 1)) return false;
    if (c->depth > DEEP) return refuse(c, "is nested too deeply"), false;
    /* what spreads a schema also refuses the keywords that it does not know */
    spread sp;
    atom a = { s, ATOM_OWN };
    if (!spread_atoms(c, &a, 1, &sp)) return false;
    c->depth++;
    bool ok = own_valid(c, v, s);
    const json_t *ref = json_object_get(s, "$ref"), *to;
    if (ok && !own) {
        if (json_is_string(ref)) ok = (to = schema_ref(c, json_string_value(ref))) && schema_valid(c, v, to, false);
        json_array_foreach(json_object_get(s, "allOf"), i, x) ok = ok && schema_valid(c, v, x, false);
        json_array_foreach(json_object_get(s, "anyOf"), i, x) hits += ok && schema_valid(c, v, x, false);
        if (json_object_get(s, "anyOf")) ok = ok && hits;
        hits = 0;
        json_array_foreach(json_object_get(s, "oneOf"), i, x) hits += ok && schema_valid(c, v, x, false);
        if (json_object_get(s, "oneOf")) ok = ok && hits == 1;
        if (ok && (to = json_object_get(s, "not"))) ok = !schema_valid(c, v, to, false);
    }
    c->depth--;
    return ok && !c->g->rc;
}

/* ---- disjoint */

/* The values that the goal is limited to by an enum or const; NULL: it is not. */
static const json_t *listed(const spread *s, bool *single)
{
    for (int i = 0; i < s->n; i++) {
        const json_t *k = json_object_get(s->s[i], "const"), *e = json_object_get(s->s[i], "enum");
        *single = k != NULL;
        if (k || json_is_array(e)) return k ? k : e;
    }
    return NULL;
}

static bool holds(schema *c, const json_t *v, const atom *a, int n)
{
    for (int i = 0; i < n; i++) {
        size_t k, hits = 0;
        json_t *x;
        if (a[i].kind == ATOM_ANY || a[i].kind == ATOM_ONE) {
            json_array_foreach(a[i].j, k, x) hits += schema_valid(c, v, x, false);
            if (!hits || (a[i].kind == ATOM_ONE && hits > 1)) return false;
        } else if (!schema_valid(c, v, a[i].j, a[i].kind == ATOM_OWN)) return false;
    }
    return true;
}

static bool values_apart(schema *c, const json_t *v, bool single, const atom *a, int n_a,
                         const atom *b, int n_b)
{
    size_t i;
    json_t *x;
    if (single) return !(holds(c, v, a, n_a) && holds(c, v, b, n_b));
    json_array_foreach(v, i, x)
        if (holds(c, x, a, n_a) && holds(c, x, b, n_b)) return false;
    return true;
}

static bool numbers_apart(schema *c, const spread *a, const spread *b)
{
    bound alo, ahi, blo, bhi;
    if (!bounds_of(c, a, &alo, &ahi) || !bounds_of(c, b, &blo, &bhi)) return false;
    int x = ahi.there && blo.there ? bound_compare(&ahi, &blo) : 1;
    int y = bhi.there && alo.there ? bound_compare(&bhi, &alo) : 1;
    return x < 0 || y < 0 || (x == 0 && (ahi.open || blo.open)) || (y == 0 && (bhi.open || alo.open));
}

static bool counts_apart(schema *c, const spread *a, const spread *b, const char *min, const char *max)
{
    uint64_t lo, hi;
    return (count_of(c, a, min, true, &lo) && count_of(c, b, max, false, &hi) && hi < lo) ||
           (count_of(c, b, min, true, &lo) && count_of(c, a, max, false, &hi) && hi < lo);
}

static bool strings_apart(schema *c, const spread *a, const spread *b)
{
    if (counts_apart(c, a, b, "minLength", "maxLength")) return true;
    cauto *x = spread_strings(c, a), *y = x ? spread_strings(c, b) : NULL;
    cauto *z = y ? ca_and(c->g, x, y) : NULL;
    return z && z->n == 0;
}

static bool arrays_apart(schema *c, const spread *a, const spread *b)
{
    uint64_t n = 0, k;
    if (counts_apart(c, a, b, "minItems", "maxItems")) return true;
    if (count_of(c, a, "minItems", true, &k)) n = k;
    if (count_of(c, b, "minItems", true, &k) && k > n) n = k;
    for (size_t i = 0; i < n && i < 8; i++) {
        int p, q;
        atom *x = item_atoms(c, a, i, &p), *y = item_atoms(c, b, i, &q);
        if (!x || !y || schema_disjoint(c, x, p, y, q)) return !c->g->rc;
    }
    return false;
}

static bool objects_apart(schema *c, const spread *a, const spread *b)
{
    size_t i;
    json_t *name;
    if (counts_apart(c, a, b, "minProperties", "maxProperties")) return true;
    for (int side = 0; side < 2; side++)
        for (int k = 0; k < (side ? b : a)->n; k++)
            json_array_foreach(json_object_get((side ? b : a)->s[k], "required"), i, name) {
                int p, q;
                bool known;
                if (!json_is_string(name)) continue;
                atom *x = property_atoms(c, a, json_string_value(name), &p, &known);
                atom *y = property_atoms(c, b, json_string_value(name), &q, &known);
                if (!x || !y) return false;
                if (schema_disjoint(c, x, p, y, q)) return !c->g->rc;
            }
    return false;
}

bool schema_disjoint(schema *c, const atom *a, int n_a, const atom *b, int n_b)
{
    spread x, y;
    if (c->depth > DEEP / 4 || !gz_work(c->g, 100)) return false;
    if (!spread_atoms(c, a, n_a, &x) || !spread_atoms(c, b, n_b, &y)) return false;
    if (x.never || y.never) return true;
    c->depth++;
    bool apart = true;
    if (x.n_choice || y.n_choice) {                          /* each branch from the other side */
        bool left = x.n_choice > 0;
        size_t i;
        json_t *branch;
        json_array_foreach((left ? x : y).choice[0].j, i, branch) {
            int n;
            atom *v = spread_rest(c, left ? &x : &y, 0, &n);
            if (!v) { apart = false; break; }
            v[n++] = (atom){ branch, ATOM_SCHEMA };
            apart = left ? schema_disjoint(c, v, n, b, n_b) : schema_disjoint(c, a, n_a, v, n);
            if (!apart) break;
        }
        c->depth--;
        return apart && !c->g->rc;
    }
    bool single;
    const json_t *values = listed(&x, &single);
    if (!values) values = listed(&y, &single);
    unsigned both = x.types & y.types;
    if (values) {
        apart = values_apart(c, values, single, a, n_a, b, n_b);
    } else {
        if (both & (T_NULL | T_FALSE | T_TRUE)) apart = false;
        if (both & (T_INT | T_FRAC)) apart = apart && numbers_apart(c, &x, &y);
        if (both & T_STR) apart = apart && strings_apart(c, &x, &y);
        if (both & T_ARR) apart = apart && arrays_apart(c, &x, &y);
        if (both & T_OBJ) apart = apart && objects_apart(c, &x, &y);
    }
    c->depth--;
    return apart && !c->g->rc;
}
