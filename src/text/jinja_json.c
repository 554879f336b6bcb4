/* jinja_json.c - what the caller gives a template: trees of the JSON library, and JSON text, whose
 * numbers may have any size. */
#include <math.h>
#include "text/jinja_priv.h"
#include "text/utf8.h"

enum { DEPTH = 500 };

jv jfrom_json(jrt *rt, const json_t *v, int depth)
{
    if (depth > DEPTH) return jfail(rt, DR_EUNSUPPORTED, "a variable is nested too deeply");
    if (!v || !jspend(rt, 1)) return jv_none();
    switch (json_typeof(v)) {
    case JSON_NULL: return jv_none();
    case JSON_TRUE: return jv_bool(true);
    case JSON_FALSE: return jv_bool(false);
    case JSON_INTEGER: return jv_int(json_integer_value(v));
    case JSON_REAL: return jv_float(json_real_value(v));
    case JSON_STRING: {
        jstr *s = jstr_new(rt, json_string_value(v), json_string_length(v), true);
        return s ? jv_s(s) : jv_none();
    }
    case JSON_ARRAY: {
        jlist *l = jlist_new(rt, json_array_size(v));
        for (size_t i = 0; l && i < l->n; i++)
            l->v[i] = jfrom_json(rt, json_array_get(v, i), depth + 1);
        return jlist_v(J_LIST, l);
    }
    case JSON_OBJECT: {
        const char *key;
        size_t n;
        json_t *item;
        jdict *d = jdict_new(rt, json_object_size(v));
        if (!d) return jv_none();
        json_object_keylen_foreach((json_t *)(uintptr_t)v, key, n, item) {
            jstr *k = jstr_new(rt, key, n, true);
            if (k) jdict_put(rt, d, jv_s(k), jfrom_json(rt, item, depth + 1));
        }
        return (jv){ .kind = J_DICT, .dict = d };
    }
    }
    return jv_none();
}

/* ---- JSON text */

typedef struct { const char *p, *end; jrt *rt; const char *why; } reader;

static void space(reader *r)
{
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\t' || *r->p == '\n' || *r->p == '\r')) r->p++;
}

static jv bad(reader *r, const char *why)
{
    if (!r->why) r->why = why;
    r->p = r->end;
    return jv_none();
}

static bool hex4(reader *r, uint32_t *c)
{
    *c = 0;
    if (r->end - r->p < 4) return false;
    for (int i = 0; i < 4; i++, r->p++) {
        char h = *r->p;
        int d = h >= '0' && h <= '9' ? h - '0' : (h | 32) >= 'a' && (h | 32) <= 'f'
              ? (h | 32) - 'a' + 10 : -1;
        if (d < 0) return false;
        *c = *c << 4 | (uint32_t)d;
    }
    return true;
}

static char *escaped(reader *r, char *to)
{
    static const char from[] = "\"\\/bfnrt", means[] = "\"\\/\b\f\n\r\t";
    uint32_t c, lo;
    char k = r->p < r->end ? *r->p++ : 0;
    const char *at = k ? strchr(from, k) : NULL;
    if (at) {
        *to = means[at - from];
        return to + 1;
    }
    if (k != 'u' || !hex4(r, &c)) return bad(r, "a broken escape"), to;
    if (c >= 0xd800 && c < 0xdc00 && r->end - r->p >= 6 && r->p[0] == '\\' && r->p[1] == 'u') {
        r->p += 2;
        if (!hex4(r, &lo) || lo < 0xdc00 || lo >= 0xe000)
            return bad(r, "half of a surrogate pair"), to;
        c = 0x10000 + ((c - 0xd800) << 10) + (lo - 0xdc00);
    }
    if (c >= 0xd800 && c < 0xe000) return bad(r, "half of a surrogate pair"), to;
    return to + utf8_put((uint8_t *)to, c);
}

/* The opening quote has been seen. */
static jstr *read_string(reader *r)
{
    const char *close = ++r->p;
    while (close < r->end && *close != '"') close += 1 + (*close == '\\');
    if (close >= r->end) return bad(r, "a string without its end"), NULL;
    char *text = jtake(r->rt, (size_t)(close - r->p) + 1), *to = text;
    jstr *s = jtake(r->rt, sizeof *s);
    if (!text || !s) return NULL;
    while (r->p < close) {
        unsigned char c = (unsigned char)*r->p;
        int n = 1;
        if (c == '\\') {
            r->p++;
            to = escaped(r, to);
            continue;
        }
        if (c < 32) return bad(r, "a control character in a string"), NULL;
        if (utf8_get((const uint8_t *)r->p, (const uint8_t *)close, &n) == UTF8_BAD)
            return bad(r, "broken UTF-8"), NULL;
        memcpy(to, r->p, (size_t)n);
        to += n, r->p += n;
    }
    if (r->why) return NULL;
    r->p = close + 1;
    jspend(r->rt, (uint64_t)(to - text) / 64);
    *to = 0;
    *s = (jstr){ .p = text, .n = (size_t)(to - text), .in = true, .chars = -1 };
    return s;
}

static const char *digits(const char *p, const char *end)
{
    while (p < end && *p >= '0' && *p <= '9') p++;
    return p;
}

static jv read_number(reader *r)
{
    const char *p = r->p, *q = p + (p < r->end && *p == '-'), *k = digits(q, r->end);
    bool real = false;
    if (k == q || (*q == '0' && k > q + 1)) return bad(r, "a broken number");
    if (k < r->end && *k == '.') {
        q = ++k, k = digits(k, r->end), real = true;
        if (k == q) return bad(r, "a broken number");
    }
    if (k < r->end && (*k == 'e' || *k == 'E')) {
        k++;
        if (k < r->end && (*k == '+' || *k == '-')) k++;
        q = k, k = digits(k, r->end), real = true;
        if (k == q) return bad(r, "a broken number");
    }
    size_t n = (size_t)(k - p);
    r->p = k;
    jstr *s = jstr_new(r->rt, p, n, false);
    if (!s) return jv_none();
    if (real) return jv_float(strtod(s->p, NULL));
    if (n <= 18) return jv_int(strtoll(s->p, NULL, 10));
    char back[24];
    long long i = strtoll(s->p, NULL, 10);
    int len = snprintf(back, sizeof back, "%lld", i);
    if ((size_t)len == n && !memcmp(back, s->p, n)) return jv_int(i);
    return (jv){ .kind = J_BIG, .s = s };
}

static jv read_value(reader *r, int depth);

static jv read_array(reader *r, int depth)
{
    jlist *l = jlist_new(r->rt, 0);
    size_t cap = 0;
    r->p++;
    space(r);
    if (r->p < r->end && *r->p == ']') return r->p++, jlist_v(J_LIST, l);
    while (l && !r->why && !r->rt->rc) {
        jlist_add(r->rt, l, &cap, read_value(r, depth + 1));
        space(r);
        char c = r->p < r->end ? *r->p++ : 0;
        if (c == ']') return jlist_v(J_LIST, l);
        if (c != ',') return bad(r, "a list without its end");
    }
    return jv_none();
}

static jv read_object(reader *r, int depth)
{
    jdict *d = jdict_new(r->rt, 0);
    r->p++;
    space(r);
    if (r->p < r->end && *r->p == '}') return r->p++, (jv){ .kind = J_DICT, .dict = d };
    while (d && !r->why && !r->rt->rc) {
        space(r);
        if (r->p >= r->end || *r->p != '"') return bad(r, "an object without a key");
        jstr *k = read_string(r);
        space(r);
        if (!k || r->p >= r->end || *r->p++ != ':') return bad(r, "an object without a value");
        jdict_put(r->rt, d, jv_s(k), read_value(r, depth + 1));
        space(r);
        char c = r->p < r->end ? *r->p++ : 0;
        if (c == '}') return (jv){ .kind = J_DICT, .dict = d };
        if (c != ',') return bad(r, "an object without its end");
    }
    return jv_none();
}

static jv read_value(reader *r, int depth)
{
    static const struct { const char *s; jv v; } word[] = {
        { "null", { .kind = J_NONE } }, { "true", { .kind = J_BOOL, .b = true } },
        { "false", { .kind = J_BOOL, .b = false } } };
    space(r);
    if (depth > DEPTH) return bad(r, "nested too deeply");
    if (r->p >= r->end) return bad(r, "no value");
    if (!jspend(r->rt, 1)) return jv_none();
    if (*r->p == '{') return read_object(r, depth);
    if (*r->p == '[') return read_array(r, depth);
    if (*r->p == '"') {
        jstr *s = read_string(r);
        return s ? jv_s(s) : jv_none();
    }
    for (size_t i = 0; i < sizeof word / sizeof *word; i++) {
        size_t n = strlen(word[i].s);
        if ((size_t)(r->end - r->p) < n || memcmp(r->p, word[i].s, n)) continue;
        r->p += n;
        return word[i].v;
    }
    return read_number(r);
}

static jv read_all(reader *r)
{
    jv v = read_value(r, 0);
    space(r);
    if (!r->why && r->p < r->end) r->why = "more behind its end";
    return v;
}

jv jread_json(jrt *rt, span text, const char *what)
{
    reader r = { text.p, text.p + text.n, rt, NULL };
    jv v = read_all(&r);
    if (r.why && !rt->rc) rt->rc = err_set(rt->e, DR_EFORMAT, "%s is not JSON: %s", what, r.why);
    return v;
}

bool jread_try(jrt *rt, jstr *text, jv *v)
{
    reader r = { text->p, text->p + text->n, rt, NULL };
    *v = read_all(&r);
    return !r.why && !rt->rc;
}

/* ---- messages */

/* A name that every format has: it spells no control token, and templates make some of it. */
static bool known_role(const jstr *s)
{
    static const char *const role[] = { "system", "user", "assistant", "tool", "ipython", "function",
                                        "developer", "observation", "model", "human", "gpt",
                                        "environment", "context", "documents", "root" };
    for (size_t i = 0; i < sizeof role / sizeof *role; i++)
        if (span_is((span){ s->p, s->n }, role[i])) return true;
    return false;
}

static void arguments(jrt *rt, jv call)
{
    jv *f = call.kind == J_DICT ? jdict_gets(call.dict, "function") : NULL;
    jv of = f && f->kind == J_DICT ? *f : call, made;
    jv *a = of.kind == J_DICT ? jdict_gets(of.dict, "arguments") : NULL;
    if (!a || a->kind != J_STR || !jread_try(rt, a->s, &made) || made.kind != J_DICT) return;
    made.dict->text = a->s;
    *a = made;
}

void jmessages(jrt *rt, jv list, bool roles, bool calls)
{
    if (list.kind != J_LIST || !(roles || calls)) return;
    for (size_t i = 0; i < list.list->n && !rt->rc; i++) {
        jv m = list.list->v[i];
        if (m.kind != J_DICT) continue;
        jv *role = jdict_gets(m.dict, "role"), *many = jdict_gets(m.dict, "tool_calls");
        jv *one = jdict_gets(m.dict, "function_call");
        if (roles && role && role->kind == J_STR && known_role(role->s)) role->s->in = false;
        if (calls && many && many->kind == J_LIST)
            for (size_t k = 0; k < many->list->n; k++) arguments(rt, many->list->v[k]);
        if (calls && one) arguments(rt, *one);
    }
}
