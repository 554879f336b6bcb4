/* schema.c - JSON Schema, draft 2020-12, into rules: references, combinations, types. What a schema
 * says and is not enforced is refused by name; docs/constrained.md has the list. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "gen/schema_priv.h"

enum { MAX_ENUM = 100000 };

void refuse(schema *c, const char *fmt, ...)
{
    char s[300];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(s, sizeof s, fmt, ap);
    va_end(ap);
    gz_fail(c->g, DR_EUNSUPPORTED, "the schema %s", s);
}

/* ---- keywords */

/* Enforced, then what only describes. Everything else is refused. */
static const char *const keywords[] = {
    "$ref", "allOf", "anyOf", "oneOf", "not", "type", "enum", "const", "nullable", "minimum",
    "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength",
    "pattern", "format", "items", "prefixItems", "minItems", "maxItems", "uniqueItems",
    "properties", "required", "additionalProperties", "patternProperties", "propertyNames",
    "minProperties", "maxProperties",
    "$schema", "$id", "$comment", "$anchor", "$defs", "definitions", "title", "description",
    "default", "examples", "example", "deprecated", "readOnly", "writeOnly",
};

static bool check_keywords(schema *c, const json_t *s)
{
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)s, key, v) {
        bool known = !strncmp(key, "x-", 2);
        for (size_t i = 0; i < sizeof keywords / sizeof *keywords && !known; i++)
            known = !strcmp(keywords[i], key);
        if (!known) return refuse(c, "uses \"%.60s\", which is not supported", key), false;
        if (!gz_work(c->g, 1)) return false;
    }
    const json_t *id = json_object_get(s, "$id"), *draft = json_object_get(s, "$schema");
    if (id && s != c->root) return refuse(c, "has an \"$id\" below its root, which is not supported"), false;
    if (draft && (!json_is_string(draft) || !strstr(json_string_value(draft), "json-schema.org/")))
        return refuse(c, "names a \"$schema\" that is not known"), false;
    return true;
}

/* ---- references */

/* One step of a JSON pointer, unescaped in place. */
static void unescape(char *s)
{
    char *w = s;
    for (; *s; s++) {
        if (*s == '%' && s[1] && s[2]) {
            char h[3] = { s[1], s[2], 0 }, *end;
            long v = strtol(h, &end, 16);
            if (!*end && v) { *w++ = (char)v; s += 2; continue; }
        }
        *w++ = *s;
    }
    *w = 0;
}

static void untilde(char *s)
{
    char *w = s;
    for (; *s; s++) {
        if (*s == '~' && (s[1] == '0' || s[1] == '1')) *w++ = *++s == '0' ? '~' : '/';
        else *w++ = *s;
    }
    *w = 0;
}

static const json_t *anchored(schema *c, const char *name)
{
    static const char *const in[] = { "$defs", "definitions" };
    const char *key, *a;
    json_t *v;
    a = json_string_value(json_object_get(c->root, "$anchor"));
    if (a && !strcmp(a, name)) return c->root;
    for (int i = 0; i < 2; i++)
        json_object_foreach(json_object_get(c->root, in[i]), key, v) {
            a = json_string_value(json_object_get(v, "$anchor"));
            if (a && !strcmp(a, name)) return v;
        }
    return NULL;
}

const json_t *schema_ref(schema *c, const char *ref)
{
    const char *at = ref;
    size_t base = c->base ? strcspn(c->base, "#") : 0;
    if (base && !strncmp(ref, c->base, base) && (ref[base] == '#' || !ref[base])) at += base;
    const json_t *j = c->root;
    if (*at && *at != '#') j = NULL;
    char *s = j ? gz_copy(c->g, at + (*at == '#'), strlen(at + (*at == '#'))) : NULL;
    if (j && !s) return NULL;
    if (j && *s && *s != '/') j = anchored(c, s);
    else if (j) {
        unescape(s);
        for (char *p = s, *end; j && *p; p = end) {
            p++;
            end = p + strcspn(p, "/");
            char *step = gz_copy(c->g, p, (size_t)(end - p));
            if (!step) return NULL;
            untilde(step);
            if (json_is_array(j)) {
                char *rest;
                unsigned long i = strtoul(step, &rest, 10);
                j = *step >= '0' && *step <= '9' && !*rest ? json_array_get(j, i) : NULL;
            } else {
                j = json_object_get(j, step);
                if (json_is_object(j) && json_is_string(json_object_get(j, "$id")))
                    return refuse(c, "refers into a part with its own \"$id\", which is not supported"), NULL;
            }
        }
    }
    if (!j) refuse(c, "refers to \"%.100s\": only what is in the schema itself (#/…) can be "
                   "referred to", ref);
    return j;
}

/* ---- goals */

static int by_atom(const void *a, const void *b)
{
    const atom *x = a, *y = b;
    if (x->j != y->j) return (uintptr_t)x->j < (uintptr_t)y->j ? -1 : 1;
    return (int)x->kind - (int)y->kind;
}

static uint64_t atoms_hash(const atom *v, int n)
{
    uint64_t h = (uint64_t)n;
    for (int i = 0; i < n; i++) {
        h = (h ^ (uint64_t)(uintptr_t)v[i].j ^ (uint64_t)v[i].kind << 60) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
    }
    return h;
}

int goal_of(schema *c, atom *v, int n)
{
    gctx *g = c->g;
    int k = 0;
    for (int i = 0; i < n; i++)                              /* true says nothing */
        if (!json_is_true(v[i].j)) v[k++] = v[i];
    n = k, k = 0;
    if (n) qsort(v, (size_t)n, sizeof *v, by_atom);
    for (int i = 0; i < n; i++)
        if (!k || by_atom(&v[i], &v[k - 1])) v[k++] = v[i];
    n = k;
    if (!gz_work(g, 4 + n)) return -1;
    if (c->n_goals * 2 >= c->n_slots) {
        int size = c->n_slots ? c->n_slots * 2 : 64;
        c->slot = gz_take(g, (size_t)size * sizeof *c->slot);
        if (!c->slot) return -1;
        memset(c->slot, 0xff, (size_t)size * sizeof *c->slot);
        c->n_slots = size;
        for (int i = 0; i < c->n_goals; i++) {
            uint64_t h = atoms_hash(c->goal[i].v, c->goal[i].n);
            while (c->slot[h & (uint64_t)(size - 1)] >= 0) h++;
            c->slot[h & (uint64_t)(size - 1)] = i;
        }
    }
    uint64_t h = atoms_hash(v, n);
    for (int32_t i; (i = c->slot[h & (uint64_t)(c->n_slots - 1)]) >= 0; h++) {
        bool same = c->goal[i].n == n;
        for (int q = 0; same && q < n; q++) same = !by_atom(&v[q], &c->goal[i].v[q]);
        if (same) return i;
    }
    if (!gz_room(g, &c->goal, c->n_goals, &c->cap_goals, sizeof *c->goal)) return -1;
    atom *copy = gz_take(g, ((size_t)n + 1) * sizeof *copy);
    int rule = gram_rule_new(g, "value");
    if (!copy || rule < 0) return -1;
    if (n) memcpy(copy, v, (size_t)n * sizeof *v);
    c->goal[c->n_goals] = (goal){ copy, n, rule, false };
    c->slot[h & (uint64_t)(c->n_slots - 1)] = c->n_goals;
    return c->n_goals++;
}

gx *goal_rule(schema *c, atom *v, int n)
{
    int i = goal_of(c, v, n);
    return i < 0 ? NULL : gx_rule(c->g, c->goal[i].rule);
}

/* ---- spreading a goal out */

static unsigned type_bit(const char *t)
{
    static const struct { const char *name; unsigned bits; } known[] = {
        { "null", T_NULL }, { "boolean", T_FALSE | T_TRUE }, { "integer", T_INT },
        { "number", T_INT | T_FRAC }, { "string", T_STR }, { "array", T_ARR }, { "object", T_OBJ } };
    for (size_t i = 0; t && i < sizeof known / sizeof *known; i++)
        if (!strcmp(known[i].name, t)) return known[i].bits;
    return 0;
}

static unsigned type_bits(schema *c, const json_t *t)
{
    unsigned bits = type_bit(json_string_value(t));
    size_t i;
    json_t *x;
    if (json_is_array(t)) {
        json_array_foreach(t, i, x) {
            unsigned b = type_bit(json_string_value(x));
            if (!b) return refuse(c, "has a \"type\" that is not known"), 0;
            bits |= b;
        }
    } else if (!bits) refuse(c, "has a \"type\" that is not known");
    return bits;
}

/* Only the simplest: a boolean schema, or types and nothing else. */
static void apply_not(schema *c, spread *s, const json_t *n)
{
    const json_t *t = json_object_get(n, "type");
    if (json_is_false(n)) return;
    if (json_is_true(n) || (json_is_object(n) && !json_object_size(n))) s->never = true;
    else if (t && json_object_size(n) == 1) s->types &= ~type_bits(c, t);
    else refuse(c, "uses \"not\" with more than a \"type\", which is not supported");
}

typedef struct { atom *v; int n, cap; } todo;

static bool add_todo(schema *c, todo *t, const json_t *j, atom_kind k)
{
    if (!gz_work(c->g, 1) || !gz_room(c->g, &t->v, t->n, &t->cap, sizeof *t->v)) return false;
    t->v[t->n++] = (atom){ j, k };
    return true;
}

static bool add_choice(schema *c, spread *s, const json_t *list, const char *key, atom_kind k)
{
    if (!list) return true;
    if (!json_is_array(list) || !json_array_size(list))
        return refuse(c, "has an \"%s\" that is not a list of schemas", key), false;
    if (!gz_room(c->g, &s->choice, s->n_choice, &s->cap_choice, sizeof *s->choice)) return false;
    s->choice[s->n_choice++] = (atom){ list, k };
    return true;
}

static bool add_schema(schema *c, spread *s, todo *t, const json_t *j, bool own)
{
    size_t i;
    json_t *x;
    if (!check_keywords(c, j) || !gz_room(c->g, &s->s, s->n, &s->cap, sizeof *s->s)) return false;
    s->s[s->n++] = j;
    const json_t *type = json_object_get(j, "type"), *ref = json_object_get(j, "$ref"),
                 *all = json_object_get(j, "allOf"), *no = json_object_get(j, "not");
    if (type) {
        unsigned bits = type_bits(c, type);
        if (json_is_true(json_object_get(j, "nullable"))) bits |= T_NULL;
        s->types &= bits;
    }
    if (own) return !c->g->rc;
    if (ref) {
        if (!json_is_string(ref)) return refuse(c, "has a \"$ref\" that is not a string"), false;
        const json_t *to = schema_ref(c, json_string_value(ref));
        if (!to || !add_todo(c, t, to, ATOM_SCHEMA)) return false;
    }
    if (all && !json_is_array(all)) return refuse(c, "has an \"allOf\" that is not a list"), false;
    json_array_foreach(all, i, x)
        if (!add_todo(c, t, x, ATOM_SCHEMA)) return false;
    if (no) apply_not(c, s, no);
    return add_choice(c, s, json_object_get(j, "anyOf"), "anyOf", ATOM_ANY) &&
           add_choice(c, s, json_object_get(j, "oneOf"), "oneOf", ATOM_ONE) && !c->g->rc;
}

bool spread_atoms(schema *c, const atom *v, int n, spread *s)
{
    todo t = {0};
    *s = (spread){ .types = T_ALL };
    for (int i = 0; i < n; i++)
        if (!add_todo(c, &t, v[i].j, v[i].kind)) return false;
    for (int i = 0; i < t.n; i++) {
        atom a = t.v[i];
        bool seen = false;
        for (int k = 0; k < i && !seen; k++)
            seen = t.v[k].j == a.j && (t.v[k].kind == a.kind || t.v[k].kind == ATOM_SCHEMA);
        if (!gz_work(c->g, 1 + i / 8)) return false;
        if (seen) continue;
        if (a.kind == ATOM_ANY || a.kind == ATOM_ONE) {
            if (!gz_room(c->g, &s->choice, s->n_choice, &s->cap_choice, sizeof *s->choice)) return false;
            s->choice[s->n_choice++] = a;
        } else if (json_is_false(a.j)) s->never = true;
        else if (json_is_true(a.j)) continue;
        else if (!json_is_object(a.j)) return refuse(c, "has a part that is no schema: an object, true or false is wanted"), false;
        else if (!add_schema(c, s, &t, a.j, a.kind == ATOM_OWN)) return false;
    }
    if (!s->types) s->never = true;
    return !c->g->rc;
}

atom *spread_rest(schema *c, const spread *s, int without, int *n)
{
    atom *v = gz_take(c->g, ((size_t)s->n + (size_t)s->n_choice + 2) * sizeof *v);
    *n = 0;
    if (!v) return NULL;
    for (int i = 0; i < s->n; i++) v[(*n)++] = (atom){ s->s[i], ATOM_OWN };
    for (int i = 0; i < s->n_choice; i++)
        if (i != without) v[(*n)++] = s->choice[i];
    return v;
}

/* ---- expressions */

static gx *value_gx(schema *c, const json_t *v)
{
    char *p = NULL;
    size_t n = 0, cap = 0;
    json_spell(c->g, v, &p, &n, &cap);
    return c->g->rc ? NULL : gx_lit(c->g, (span){ p, n });
}

/* The values of an enum or a const that all the rest allows. */
static gx *listed_gx(schema *c, const spread *s, const json_t *list, bool single)
{
    size_t n = single ? 1 : json_array_size(list), k = 0;
    if (n > MAX_ENUM) return refuse(c, "has more than %d values in an \"enum\"", MAX_ENUM), NULL;
    gx **alt = gz_take(c->g, (n + 1) * sizeof *alt);
    for (size_t i = 0; alt && i < n && !c->g->rc; i++) {
        const json_t *v = single ? list : json_array_get(list, i);
        bool ok = true;
        c->given = list;                                     /* v is one of these */
        for (int q = 0; q < s->n && ok; q++) ok = schema_valid(c, v, s->s[q], true);
        c->given = NULL;
        unsigned bit = json_is_null(v) ? T_NULL : json_is_true(v) ? T_TRUE : json_is_false(v) ? T_FALSE
                     : json_is_string(v) ? T_STR : json_is_array(v) ? T_ARR
                     : json_is_object(v) ? T_OBJ : T_INT | T_FRAC;
        if (ok && s->types & bit) alt[k++] = value_gx(c, v);
    }
    return c->g->rc || !alt ? NULL : gx_list(c->g, GX_ALT, alt, (int)k);
}

static gx *choice_gx(schema *c, const spread *s)
{
    gctx *g = c->g;
    const json_t *list = s->choice[0].j;
    size_t n = json_array_size(list);
    gx **alt = gz_take(g, (n + 1) * sizeof *alt);
    int k = 0, n_a, n_b;
    for (size_t i = 0; alt && i < n && !g->rc; i++) {
        atom *a = spread_rest(c, s, 0, &n_a);
        if (!a) return NULL;
        a[n_a++] = (atom){ json_array_get(list, i), ATOM_SCHEMA };
        for (size_t j = 0; s->choice[0].kind == ATOM_ONE && j < i; j++) {
            atom *b = spread_rest(c, s, 0, &n_b);
            if (!b) return NULL;
            b[n_b++] = (atom){ json_array_get(list, j), ATOM_SCHEMA };
            if (!schema_disjoint(c, a, n_a, b, n_b) || g->rc)
                return refuse(c, "has a \"oneOf\" whose branches %zu and %zu are not seen to exclude "
                              "each other (\"anyOf\" would be supported)", j, i), NULL;
        }
        alt[k++] = goal_rule(c, a, n_a);
    }
    return g->rc || !alt ? NULL : gx_list(g, GX_ALT, alt, k);
}

static gx *goal_gx(schema *c, const goal *w)
{
    gctx *g = c->g;
    spread s;
    gx *alt[7];
    int n = 0;
    if (!spread_atoms(c, w->v, w->n, &s)) return NULL;
    if (s.never) return gx_new(g, GX_NEVER);
    if (s.n_choice) return choice_gx(c, &s);
    for (int i = 0; i < s.n; i++) {
        const json_t *k = json_object_get(s.s[i], "const"), *e = json_object_get(s.s[i], "enum");
        if (k) return listed_gx(c, &s, k, true);
        if (e && !json_is_array(e)) return refuse(c, "has an \"enum\" that is not a list"), NULL;
        if (e) return listed_gx(c, &s, e, false);
    }
    if (s.types & T_NULL) alt[n++] = gx_str(g, "null");
    if (s.types & T_TRUE) alt[n++] = gx_str(g, "true");
    if (s.types & T_FALSE) alt[n++] = gx_str(g, "false");
    if (s.types & (T_INT | T_FRAC)) alt[n++] = number_gx(c, &s);
    if (s.types & T_STR) alt[n++] = string_gx(c, &s);
    if (s.types & T_ARR) alt[n++] = array_gx(c, &s);
    if (s.types & T_OBJ) alt[n++] = object_gx(c, &s);
    return g->rc ? NULL : gx_list(g, GX_ALT, alt, n);
}

int schema_read(gctx *g, span text)
{
    json_error_t why;
    json_t *root = json_loadb(text.p, text.n, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL,
                              &why);
    if (!root) {
        gz_fail(g, json_error_code(&why) == json_error_out_of_memory ? DR_ENOMEM : DR_EFORMAT,
                "the schema is not JSON: line %d: %.150s", why.line, why.text);
        return -1;
    }
    schema c = { .g = g, .root = root, .int_rule = -1, .num_rule = -1 };
    c.base = json_string_value(json_object_get(root, "$id"));
    atom all[2] = { { root, ATOM_SCHEMA } };
    goal_of(&c, all, 1);
    for (int i = 0; i < c.n_goals && !g->rc; i++) {
        goal w = c.goal[i];                              /* the list may move */
        c.depth = 0;
        gx *x = goal_gx(&c, &w);                         /* so may g->rule */
        g->rule[w.rule] = x;
    }
    int rule = c.n_goals ? c.goal[0].rule : -1;
    json_decref(root);
    return g->rc ? -1 : rule;
}
