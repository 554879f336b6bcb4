/* schema_value.c - numbers, strings, arrays and objects of a spread goal as expressions. */
#include <math.h>
#include <string.h>
#include "gen/schema_priv.h"

enum { MAX_TUPLE = 400, MAX_PATTERNS = 5 };

bool count_of(schema *c, const spread *s, const char *key, bool largest, uint64_t *v)
{
    bool there = false;
    for (int i = 0; i < s->n; i++) {
        const json_t *x = json_object_get(s->s[i], key);
        if (!x) continue;
        double d = json_is_number(x) ? json_number_value(x) : -1;
        if (d < 0 || d != floor(d)) return refuse(c, "\"%s\" is not a whole number from 0", key), false;
        uint64_t n = d < 4e9 ? (uint64_t)d : 4000000000u;
        if (!there || (largest ? n > *v : n < *v)) *v = n;
        there = true;
    }
    return there;
}

static void limits(schema *c, const spread *s, const char *min, const char *max, uint32_t *lo,
                   uint32_t *hi)
{
    uint64_t v;
    *lo = count_of(c, s, min, true, &v) ? (uint32_t)v : 0;
    *hi = count_of(c, s, max, false, &v) ? (uint32_t)v : GRAM_INF;
}

/* ---- numbers */

bool bounds_of(schema *c, const spread *s, bound *lo, bound *hi)
{
    static const struct { const char *key; bool open, up; } k[] = {
        { "minimum", false, false }, { "exclusiveMinimum", true, false },
        { "maximum", false, true }, { "exclusiveMaximum", true, true } };
    *lo = *hi = (bound){0};
    for (int i = 0; i < s->n; i++)
        for (int j = 0; j < 4; j++) {
            const json_t *x = json_object_get(s->s[i], k[j].key);
            bound b, *to = k[j].up ? hi : lo;
            if (!x) continue;
            if (!bound_read(x, k[j].open, &b))
                return refuse(c, "\"%s\" is not a number", k[j].key), false;
            int cmp = to->there ? bound_compare(&b, to) : 0;
            if (!to->there || (k[j].up ? cmp < 0 : cmp > 0) || (cmp == 0 && b.open)) *to = b;
        }
    return true;
}

gx *number_gx(schema *c, const spread *s)
{
    static const char *const whole = "0|[1-9][0-9]{0,19}|-[1-9][0-9]{0,18}",
        *const real = "-?(?:0|[1-9][0-9]*)(?:\\.[0-9]+)?"
                      "(?:[eE][+-]?(?:[0-9]{1,2}|1[0-9]{2}|2[0-8][0-9]))?";
    gctx *g = c->g;
    bound lo, hi;
    bool ints = !(s->types & T_FRAC);
    if (!(s->types & T_INT)) return refuse(c, "wants numbers that are not integers"), NULL;
    for (int i = 0; i < s->n; i++) {
        const json_t *m = json_object_get(s->s[i], "multipleOf");
        if (!m) continue;
        if (json_is_integer(m) && json_integer_value(m) == 1) ints = true;
        else return refuse(c, "uses \"multipleOf\", which is supported for 1 only"), NULL;
    }
    if (!bounds_of(c, s, &lo, &hi)) return NULL;
    if (lo.there || hi.there) {
        if (lo.there && hi.there && bound_compare(&lo, &hi) > 0) return gx_new(g, GX_NEVER);
        return bound_range(g, &lo, &hi, ints);
    }
    int *rule = ints ? &c->int_rule : &c->num_rule;
    if (*rule < 0) {
        cauto *a = ca_length(g, regex_cauto(g, span_of(ints ? whole : real), false), 1, 20);
        *rule = gram_rule_new(g, ints ? "integer" : "number");
        if (*rule < 0) return NULL;
        g->rule[*rule] = gx_auto(g, a, false);
    }
    return gx_rule(g, *rule);
}

/* ---- strings */

bool pattern_finds(schema *c, const char *pattern, span s)
{
    cauto *a = regex_cauto(c->g, span_of(pattern), true);
    return a && ca_accepts(a, s);
}

#define YEAR "(?:[0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)"
#define LEAP "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
#define DATE "(?:" YEAR "-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-" \
             "(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))|" LEAP "-02-29)"
#define TIME "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,9})?" \
             "(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
#define BYTE "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
static const struct { const char *name, *regex; } formats[] = {
    { "date", DATE }, { "time", TIME }, { "date-time", DATE "T" TIME },
    { "uuid", "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}" },
    { "ipv4", BYTE "(?:\\." BYTE "){3}" },
};

static cauto *format_strings(schema *c, const json_t *f)
{
    const char *name = json_string_value(f);
    for (size_t i = 0; name && i < sizeof formats / sizeof *formats; i++)
        if (!strcmp(formats[i].name, name))
            return regex_cauto(c->g, span_of(formats[i].regex), false);
    refuse(c, "uses the format \"%.40s\"; date, time, date-time, uuid and ipv4 are supported",
           name ? name : "?");
    return NULL;
}

/* Patterns and formats, without lengths; NULL with no error: there are none. */
static cauto *shape(schema *c, const spread *s)
{
    gctx *g = c->g;
    cauto *a = NULL;
    for (int i = 0; i < s->n && !g->rc; i++) {
        const json_t *p = json_object_get(s->s[i], "pattern"), *f = json_object_get(s->s[i], "format");
        if (p && !json_is_string(p)) return refuse(c, "\"pattern\" is not a string"), NULL;
        for (int k = 0; k < 2; k++) {
            cauto *x;
            if (k == 0 && p)
                x = regex_cauto(g, (span){ json_string_value(p), json_string_length(p) }, true);
            else if (k == 1 && f) x = format_strings(c, f);
            else continue;
            a = a ? ca_and(g, a, x) : x;
        }
    }
    return a;
}

cauto *spread_strings(schema *c, const spread *s)
{
    uint32_t min, max;
    limits(c, s, "minLength", "maxLength", &min, &max);
    cauto *a = shape(c, s);
    if (c->g->rc) return NULL;
    if (!a) a = ca_any(c->g);
    return min || max != GRAM_INF ? ca_length(c->g, a, min, max) : a;
}

cauto *goal_strings(schema *c, const atom *v, int n)
{
    gctx *g = c->g;
    spread s;
    size_t i;
    json_t *x;
    cauto *a = gz_take(g, sizeof *a);
    if (!a || !spread_atoms(c, v, n, &s)) return NULL;
    if (s.never || !(s.types & T_STR)) return a;
    if (c->depth > 30) return refuse(c, "is nested too deeply"), NULL;
    c->depth++;
    if (s.n_choice) {
        if (s.choice[0].kind == ATOM_ONE) refuse(c, "uses \"oneOf\" in \"propertyNames\"");
        json_array_foreach(s.choice[0].j, i, x) {
            int k;
            atom *rest = spread_rest(c, &s, 0, &k);
            if (!rest) break;
            rest[k++] = (atom){ x, ATOM_SCHEMA };
            cauto *b = goal_strings(c, rest, k);
            a = ca_or(g, a, b);
        }
        c->depth--;
        return a;
    }
    a = spread_strings(c, &s);
    for (int k = 0; k < s.n && !g->rc; k++) {
        const json_t *e = json_object_get(s.s[k], "enum"), *one = json_object_get(s.s[k], "const");
        if (!e && !one) continue;
        span *w = gz_take(g, (json_array_size(e) + 1) * sizeof *w);
        int m = 0;
        if (!w) break;
        if (json_is_string(one)) w[m++] = (span){ json_string_value(one), json_string_length(one) };
        if (!one)
            json_array_foreach(e, i, x)
                if (json_is_string(x)) w[m++] = (span){ json_string_value(x), json_string_length(x) };
        a = ca_and(g, a, ca_words(g, w, m));
        if (one && e) refuse(c, "uses \"const\" and \"enum\" together in \"propertyNames\"");
    }
    c->depth--;
    return a;
}

/* One character of a JSON string. */
static int str_rule(gctx *g)
{
    if (g->str_rule < 0) {
        cp_set all = {0};
        cp_add(g, &all, 0, CP_END - 1);
        cp_done(&all);
        g->str_rule = gram_rule_new(g, "character");
        if (g->str_rule >= 0)
            g->rule[g->str_rule] = gx_auto(g, ca_regex(g, gx_set(g, all)), true);
    }
    return g->str_rule;
}

gx *string_gx(schema *c, const spread *s)
{
    gctx *g = c->g;
    uint32_t min, max;
    limits(c, s, "minLength", "maxLength", &min, &max);
    if (min > max) return gx_new(g, GX_NEVER);
    cauto *a = shape(c, s);
    if (g->rc) return NULL;
    gx *quote = gx_str(g, "\""), *in;
    if (!a) in = gx_rep(g, gx_rule(g, str_rule(g)), min, max);
    else in = gx_auto(g, min || max != GRAM_INF ? ca_length(g, a, min, max) : a, true);
    return gx_seq(g, quote, in, quote);
}

/* ---- arrays */

atom *item_atoms(schema *c, const spread *s, size_t at, int *n)
{
    atom *v = gz_take(c->g, ((size_t)s->n + 1) * sizeof *v);
    *n = 0;
    for (int i = 0; v && i < s->n; i++) {
        const json_t *p = json_object_get(s->s[i], "prefixItems"), *x = json_object_get(s->s[i], "items");
        if (p && !json_is_array(p)) return refuse(c, "\"prefixItems\" is not a list"), NULL;
        if (json_is_array(x))
            return refuse(c, "gives \"items\" as a list; draft 2020-12 writes \"prefixItems\""), NULL;
        if (at < json_array_size(p)) x = json_array_get(p, at);
        if (x) v[(*n)++] = (atom){ x, ATOM_SCHEMA };
    }
    return v;
}

gx *array_gx(schema *c, const spread *s)
{
    gctx *g = c->g;
    uint32_t min, max;
    size_t tuple = 0;
    int n;
    limits(c, s, "minItems", "maxItems", &min, &max);
    for (int i = 0; i < s->n; i++) {
        size_t k = json_array_size(json_object_get(s->s[i], "prefixItems"));
        if (k > tuple) tuple = k;
        if (json_is_true(json_object_get(s->s[i], "uniqueItems")) && max > 1)
            return refuse(c, "uses \"uniqueItems\" for more than one item"), NULL;
    }
    if (tuple > MAX_TUPLE)
        return refuse(c, "has more than %d entries in \"prefixItems\"", MAX_TUPLE), NULL;
    if (min > max) return gx_new(g, GX_NEVER);
    gx *open = gx_str(g, "["), *close = gx_str(g, "]"), *comma = gx_str(g, ",");
    atom *v = item_atoms(c, s, tuple, &n);
    if (g->rc) return NULL;
    gx *item = max > tuple ? goal_rule(c, v, n) : gx_new(g, GX_NEVER), *t;
    gx *nothing = gx_new(g, GX_EMPTY);
    if (tuple == 0) {
        if (max == 0) return gx_seq(g, open, close);
        t = gx_seq(g, item, gx_rep(g, gx_seq(g, comma, item), min ? min - 1 : 0,
                                   max == GRAM_INF ? max : max - 1));
    } else {
        t = max > tuple ? gx_rep(g, gx_seq(g, comma, item), min > tuple ? min - (uint32_t)tuple : 0,
                                 max == GRAM_INF ? max : max - (uint32_t)tuple) : nothing;
        for (size_t i = tuple; i-- > 0 && !g->rc;) {
            v = item_atoms(c, s, i, &n);
            item = v ? goal_rule(c, v, n) : NULL;
            if (i >= max) continue;
            /* what may follow i + 1 items is t; it may end there when that is enough */
            if (i + 1 < tuple && i + 1 >= min) t = gx_alt(g, nothing, t);
            t = i ? gx_seq(g, comma, item, t) : gx_seq(g, item, t);
        }
    }
    if (min == 0) t = gx_alt(g, nothing, t);
    return gx_seq(g, open, t, close);
}

/* ---- objects */

/* A property's own schemas in one schema: properties, patterns that find the name, else the rest. */
static bool own_property(schema *c, const json_t *s, const char *name, atom **v, int *n, int *cap,
                         bool *declared)
{
    json_t *sub = json_object_get(json_object_get(s, "properties"), name);
    const char *pattern;
    bool known = sub != NULL;
    if (sub) {
        *declared = true;
        if (!gz_room(c->g, v, *n, cap, sizeof **v)) return false;
        (*v)[(*n)++] = (atom){ sub, ATOM_SCHEMA };
    }
    json_object_foreach(json_object_get(s, "patternProperties"), pattern, sub) {
        if (!pattern_finds(c, pattern, span_of(name))) continue;
        known = true;
        if (!gz_room(c->g, v, *n, cap, sizeof **v)) return false;
        (*v)[(*n)++] = (atom){ sub, ATOM_SCHEMA };
    }
    const json_t *more = json_object_get(s, "additionalProperties");
    if (known || !more) return !c->g->rc;
    if (!gz_room(c->g, v, *n, cap, sizeof **v)) return false;
    (*v)[(*n)++] = (atom){ more, ATOM_SCHEMA };
    return !c->g->rc;
}

atom *property_atoms(schema *c, const spread *s, const char *name, int *n, bool *declared)
{
    atom *v = gz_take(c->g, 4 * sizeof *v);
    int cap = v ? 4 : 0;
    *n = 0, *declared = false;
    for (int i = 0; i < s->n; i++)
        if (!own_property(c, s->s[i], name, &v, n, &cap, declared)) return NULL;
    return v;
}

typedef struct {
    const char **name;
    bool *need;
    int n, cap, cap_need;
    int32_t *slot, n_slots;
} names;

/* The number of a name, added when it is new; -1: failed. */
static int name_of(gctx *g, names *t, const char *name)
{
    if (t->n * 2 >= t->n_slots) {
        int n = t->n_slots ? 2 * t->n_slots : 32;
        t->slot = gz_take(g, (size_t)n * sizeof *t->slot);
        if (!t->slot) return -1;
        memset(t->slot, 0xff, (size_t)n * sizeof *t->slot);
        t->n_slots = n;
        for (int i = 0; i < t->n; i++) {
            uint64_t h = 5381;
            for (const char *p = t->name[i]; *p; p++) h = h * 33 ^ (uint8_t)*p;
            while (t->slot[h & (uint64_t)(n - 1)] >= 0) h++;
            t->slot[h & (uint64_t)(n - 1)] = i;
        }
    }
    uint64_t h = 5381;
    for (const char *p = name; *p; p++) h = h * 33 ^ (uint8_t)*p;
    for (int32_t i; (i = t->slot[h & (uint64_t)(t->n_slots - 1)]) >= 0; h++)
        if (!strcmp(t->name[i], name)) return i;
    if (!gz_work(g, 1) || !gz_room(g, &t->name, t->n, &t->cap, sizeof *t->name) ||
        !gz_room(g, &t->need, t->n, &t->cap_need, sizeof *t->need)) return -1;
    t->name[t->n] = name, t->need[t->n] = false;
    t->slot[h & (uint64_t)(t->n_slots - 1)] = t->n;
    return t->n++;
}

/* Names of `properties` in their order, then what is only required. */
static bool all_names(schema *c, const spread *s, names *t)
{
    const char *key;
    json_t *x;
    size_t i;
    for (int k = 0; k < s->n; k++) {
        const json_t *p = json_object_get(s->s[k], "properties");
        if (p && !json_is_object(p)) return refuse(c, "\"properties\" is not an object"), false;
        json_object_foreach((json_t *)p, key, x)
            if (name_of(c->g, t, key) < 0) return false;
    }
    for (int k = 0; k < s->n; k++) {
        const json_t *r = json_object_get(s->s[k], "required");
        if (r && !json_is_array(r)) return refuse(c, "\"required\" is not a list"), false;
        json_array_foreach(r, i, x) {
            if (!json_is_string(x) || strlen(json_string_value(x)) != json_string_length(x))
                return refuse(c, "\"required\" holds what is no name"), false;
            int at = name_of(c->g, t, json_string_value(x));
            if (at < 0) return false;
            t->need[at] = true;
        }
    }
    return true;
}

typedef struct { const json_t *schema, *sub; const char *pattern; cauto *a; } pattern_prop;

/* Undeclared properties: one alternative for each set of patterns that a name may match. */
static gx *more_properties(schema *c, const spread *s, const names *t, const cauto *keys)
{
    gctx *g = c->g;
    pattern_prop p[MAX_PATTERNS];
    int n_p = 0;
    bool any_more = true;
    const char *key;
    json_t *sub;
    for (int i = 0; i < s->n; i++) {
        const json_t *list = json_object_get(s->s[i], "patternProperties");
        if (list && !json_is_object(list)) return refuse(c, "\"patternProperties\" is not an object"), NULL;
        json_object_foreach((json_t *)list, key, sub) {
            if (n_p == MAX_PATTERNS)
                return refuse(c, "has more than %d patterns of properties", MAX_PATTERNS), NULL;
            p[n_p] = (pattern_prop){ s->s[i], sub, key, regex_cauto(g, span_of(key), true) };
            if (!p[n_p++].a) return NULL;
        }
        any_more &= !json_is_false(json_object_get(s->s[i], "additionalProperties"));
    }
    if (!any_more && !n_p) return NULL;
    span *w = gz_take(g, ((size_t)t->n + 1) * sizeof *w);
    if (!w) return NULL;
    for (int i = 0; i < t->n; i++) w[i] = span_of(t->name[i]);
    bool plain = !t->n && !n_p && !keys;
    cauto *free_keys = plain ? NULL : keys ? (cauto *)keys : ca_any(g);
    if (!plain && t->n) free_keys = ca_minus(g, free_keys, ca_words(g, w, t->n));
    gx **alt = gz_take(g, sizeof *alt << n_p), *quote = gx_str(g, "\""), *colon = gx_str(g, "\":");
    int n_alt = 0;
    for (unsigned set = 0; alt && set < 1u << n_p && !g->rc; set++) {
        cauto *a = free_keys;
        for (int i = 0; i < n_p; i++)
            a = set >> i & 1 ? ca_and(g, a, p[i].a) : ca_minus(g, a, p[i].a);
        if (!plain && ca_empty(a)) continue;
        atom *v = gz_take(g, ((size_t)s->n + MAX_PATTERNS) * sizeof *v);
        int n = 0;
        for (int i = 0; v && i < s->n; i++) {
            bool known = false;
            for (int k = 0; k < n_p; k++)
                if (p[k].schema == s->s[i] && set >> k & 1)
                    known = true, v[n++] = (atom){ p[k].sub, ATOM_SCHEMA };
            const json_t *m = json_object_get(s->s[i], "additionalProperties");
            if (m && !known) v[n++] = (atom){ m, ATOM_SCHEMA };
        }
        gx *name = plain ? gx_rep(g, gx_rule(g, str_rule(g)), 0, GRAM_INF) : gx_auto(g, a, true);
        gx *value = v ? goal_rule(c, v, n) : NULL;
        alt[n_alt++] = gx_seq(g, quote, name, colon, value);
    }
    int rule = gram_rule_new(g, "property");
    if (rule < 0) return NULL;
    g->rule[rule] = gx_list(g, GX_ALT, alt, n_alt);
    return n_alt ? gx_rule(g, rule) : NULL;
}

/* Property names that every propertyNames takes; NULL with no error: any. */
static cauto *key_strings(schema *c, const spread *s)
{
    atom *v = gz_take(c->g, ((size_t)s->n + 1) * sizeof *v);
    int n = 0;
    for (int i = 0; v && i < s->n; i++) {
        const json_t *p = json_object_get(s->s[i], "propertyNames");
        if (p) v[n++] = (atom){ p, ATOM_SCHEMA };
    }
    return v && n ? goal_strings(c, v, n) : NULL;
}

gx *object_gx(schema *c, const spread *s)
{
    gctx *g = c->g;
    names t = {0};
    uint32_t min, max;
    limits(c, s, "minProperties", "maxProperties", &min, &max);
    if (g->rc || !all_names(c, s, &t)) return NULL;
    cauto *keys = key_strings(c, s);
    gx *body = gx_new(g, GX_OBJECT);
    if (g->rc || !body) return NULL;
    body->kid = gz_take(g, ((size_t)t.n + 1) * sizeof *body->kid);
    body->more = more_properties(c, s, &t, keys);
    if (g->rc || !body->kid) return NULL;
    for (int i = 0; i < t.n; i++) {
        int n;
        bool declared;
        span name = span_of(t.name[i]);
        if (keys && !ca_accepts(keys, name)) {
            body->kid[i] = gx_new(g, GX_NEVER);
            continue;
        }
        atom *v = property_atoms(c, s, t.name[i], &n, &declared);
        char *text = NULL;
        size_t len = 0, cap = 0;
        json_t *spelled = json_stringn(name.p, name.n);
        if (spelled) json_spell(g, spelled, &text, &len, &cap);
        json_decref(spelled);
        if (!v || !text) return g->rc ? NULL : (gz_fail(g, DR_ENOMEM, "no memory for a name"), NULL);
        gx *value = goal_rule(c, v, n);
        body->kid[i] = gx_seq(g, gx_lit(g, (span){ text, len }), gx_str(g, ":"), value);
        if (!body->kid[i]) return NULL;
    }
    body->n = t.n, body->need = t.need, body->min = min, body->max = max;
    if (min > (uint32_t)t.n + 1 && body->more && max >= min)
        return refuse(c, "\"minProperties\" asks for %u properties, %d are named: that undeclared "
                      "ones differ is not enforced", min, t.n), NULL;
    return gx_seq(g, gx_str(g, "{"), body, gx_str(g, "}"));
}
