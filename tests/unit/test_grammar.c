/* test_grammar.c - constraints against independent judges: PCRE2 for regular expressions, numbers
 * compared as numbers, a mask against every token tried one by one; room that is always kept; hostile
 * texts; failing allocations. The vocabulary is bytes and a few longer tokens. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>
#include <pcre2.h>
#include "../fuzz/fuzz_grammar.h"
#include "base/rng.h"
#include "hostile.h"

static grammar *compile(grammar_kind k, const char *text, dr_err *e)
{
    *e = (dr_err){0};
    return grammar_new(k, span_of(text), fuzz_vocabulary(), e);
}

typedef struct { grammar *g; matcher *m; } tried;

static tried must(grammar_kind k, const char *text)
{
    dr_err e;
    tried t = { .g = compile(k, text, &e) };
    if (!t.g) fail_msg("%s: %s", text, e.msg);
    t.m = matcher_new(t.g, &e);
    assert_non_null(t.m);
    return t;
}

static void drop(tried t)
{
    matcher_free(t.m);
    grammar_free(t.g);
}

static bool accepts_n(tried t, const char *s, size_t n)
{
    dr_err e = {0};
    int p = matcher_begin(t.m, &e);
    if (p < 0) fail_msg("%s", e.msg);
    bool ok = matcher_bytes(t.m, p, (span){ s, n }) && matcher_done(t.m, p);
    matcher_end(t.m, p);
    return ok;
}

static bool accepts(tried t, const char *s) { return accepts_n(t, s, strlen(s)); }

/* Calls fn with every string over the letters of up to `most` characters. */
static void each_string(const char *const *letter, int n, int most,
                        void (*fn)(void *arg, const char *s), void *arg)
{
    for (int len = 0; len <= most; len++) {
        int at[16] = { 0 };
        for (bool more = true; more;) {
            char s[80] = "";
            for (int i = 0; i < len; i++) memcpy(s + strlen(s), letter[at[i]], strlen(letter[at[i]]) + 1);
            fn(arg, s);
            int i = 0;
            while (i < len && ++at[i] == n) at[i++] = 0;
            more = i < len;
        }
    }
}

/* ---- regular expressions against PCRE2 */

typedef struct { const char *regex; pcre2_code *re; pcre2_match_data *md; tried t; bool schema; int n, yes; } judged;

static void judge(void *arg, const char *s)
{
    judged *j = arg;
    char text[100];
    int rc = pcre2_match(j->re, (PCRE2_SPTR)s, strlen(s), 0, 0, j->md, NULL);
    if (j->schema) snprintf(text, sizeof text, "\"%s\"", s);
    else snprintf(text, sizeof text, "%s", s);
    if (accepts(j->t, text) != (rc >= 0)) fail_msg("/%s/ and %s: PCRE2 says %d", j->regex, text, rc);
    j->n++, j->yes += rc >= 0;
}

static void against_pcre2(const char *regex, bool search, const char *const *letter, int n, int most)
{
    char pattern[400];
    int err;
    PCRE2_SIZE at;
    judged j = { .regex = regex, .schema = search };
    snprintf(pattern, sizeof pattern, search ? "%s" : "\\A(?:%s)\\z", regex);
    j.re = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_DOLLAR_ENDONLY,
                         &err, &at, NULL);
    if (!j.re) fail_msg("PCRE2 does not take %s", regex);
    j.md = pcre2_match_data_create_from_pattern(j.re, NULL);
    if (search) {
        json_t *s = json_pack("{s:s, s:s}", "type", "string", "pattern", regex);
        char *text = json_dumps(s, 0);
        dr_err e;
        grammar *g = compile(GRAMMAR_SCHEMA, text, &e);
        if (!g && e.code == DR_EINVAL) j.t = (tried){0};     /* matches nothing: nothing to compare */
        else if (!g) fail_msg("%s: %s", regex, e.msg);
        if (g) j.t = (tried){ g, matcher_new(g, &e) };
        json_decref(s);
        free(text);
    } else j.t = must(GRAMMAR_REGEX, regex);
    if (j.t.m) each_string(letter, n, most, judge, &j);
    drop(j.t);
    pcre2_match_data_free(j.md);
    pcre2_code_free(j.re);
}

static const char *const abc[] = { "a", "b", "1", "\xc3\xa9" };

static void regexes(void **state)
{
    (void)state;
    static const char *const list[] = {
        "", "a", "ab|b1", "a*", "(a|b)+1?", "a{2}", "a{2,}", "(ab){1,2}", "[ab]{0,3}", "[^a]", "[^ab]*1",
        ".", "a.b", "\\d+", "\\w*", "(?:a|(?<x>b))*?1", "a+?b", "[a-b1-9]", "\xc3\xa9+", "[\\xe0-\\xff]b",
        "a(|b)c?", "(a|ab)(b|1b)?", "((a)|(b)){2,3}", "(a*)*", "(a|b*)*1", "[\\d\\xe9]+", "\\x61\\x62",
        "(?:^a|b$)", "^^a$$", "(^|a)b", "a{0}b", "(a?){3}", "(?:){2}a",
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        against_pcre2(list[i], false, abc, 4, 5);
        against_pcre2(list[i], true, abc, 4, 5);
    }
    static const char *const anchored[] = { "^a", "b$", "^(a|b)$", "^$", "^a|b$", "(^a|1)b?$", "a^b", "$a" };
    for (size_t i = 0; i < sizeof anchored / sizeof *anchored; i++)
        against_pcre2(anchored[i], true, abc, 4, 5);
}

/* A random expression of about n atoms. */
static void random_regex(char *s, size_t size, uint64_t seed)
{
    static const char *const part[] = { "a", "b", "1", "[ab]", "[^a]", "(a|b1)", "(?:ab)", ".", "\\d", "(b|)" };
    static const char *const then[] = { "", "", "", "*", "+", "?", "{2}", "{0,2}", "{1,}", "|" };
    s[0] = 0;
    for (uint64_t i = 0; i < 5; i++) {
        uint32_t w[4];
        rng_philox(w, 77, seed, i);
        snprintf(s + strlen(s), size - strlen(s), "%s%s", part[w[0] % 10], then[w[1] % 10]);
    }
}

static void random_regexes(void **state)
{
    (void)state;
    char s[200];
    for (uint64_t seed = 0; seed < 150; seed++) {
        random_regex(s, sizeof s, seed);
        against_pcre2(s, seed & 1, abc, 3, 5);
    }
}

static void refused(void **state)
{
    (void)state;
    static const struct { grammar_kind k; const char *text, *says; } list[] = {
        { GRAMMAR_REGEX, "a(?=b)", "look-ahead" }, { GRAMMAR_REGEX, "(?<!a)b", "look-behind" },
        { GRAMMAR_REGEX, "(a)\\1", "reference" }, { GRAMMAR_REGEX, "a\\b", "word boundary" },
        { GRAMMAR_REGEX, "[b-a]", "backwards" }, { GRAMMAR_REGEX, "a{3,2}", "below its start" },
        { GRAMMAR_REGEX, "a)", "without its (" }, { GRAMMAR_REGEX, "(a", "without its )" },
        { GRAMMAR_REGEX, "[a", "without its ]" }, { GRAMMAR_REGEX, "a**", "nothing to repeat" },
        { GRAMMAR_REGEX, "\\q", "escape" }, { GRAMMAR_REGEX, "\\ud800", "\\u" },
        { GRAMMAR_REGEX, "a\xff", "UTF-8" }, { GRAMMAR_REGEX, "[^\\s\\S]", "nothing can satisfy" },
        { GRAMMAR_GBNF, "root ::= root \"a\" | \"b\"", "left-recursive" },
        { GRAMMAR_GBNF, "root ::= x? root \"a\" | \"b\"\nx ::= \"c\"", "left-recursive" },
        { GRAMMAR_GBNF, "root ::= a", "a, which it does not give" },
        { GRAMMAR_GBNF, "a ::= \"b\"", "no rule named root" },
        { GRAMMAR_GBNF, "root ::= \"a\"\nroot ::= \"b\"", "twice" },
        { GRAMMAR_GBNF, "root ::= \"a", "not closed" }, { GRAMMAR_GBNF, "root ::= <x>", "tokens" },
        { GRAMMAR_GBNF, "root ::= (\"a\"", "without its )" }, { GRAMMAR_GBNF, "root ::= \"\\q\"", "escape" },
        { GRAMMAR_GBNF, "root ::= \"a\" root", "nothing can satisfy" },
        { GRAMMAR_SCHEMA, "{\"if\": {}}", "\"if\"" }, { GRAMMAR_SCHEMA, "{\"tpye\": 1}", "\"tpye\"" },
        { GRAMMAR_SCHEMA, "{\"type\": \"text\"}", "\"type\"" }, { GRAMMAR_SCHEMA, "{\"type\":", "not JSON" },
        { GRAMMAR_SCHEMA, "{\"$ref\": \"http://x/y\"}", "http://x/y" },
        { GRAMMAR_SCHEMA, "{\"$ref\": \"#/$defs/a\"}", "#/$defs/a" },
        { GRAMMAR_SCHEMA, "{\"uniqueItems\": true}", "uniqueItems" },
        { GRAMMAR_SCHEMA, "{\"format\": \"email\"}", "email" },
        { GRAMMAR_SCHEMA, "{\"oneOf\": [{\"minimum\": 1}, {\"maximum\": 2}]}", "branches 0 and 1" },
        { GRAMMAR_SCHEMA, "{\"not\": {\"minimum\": 1}}", "\"not\"" },
        { GRAMMAR_SCHEMA, "{\"multipleOf\": 3}", "multipleOf" },
        { GRAMMAR_SCHEMA, "{\"minProperties\": 3, \"type\": \"object\"}", "minProperties" },
        { GRAMMAR_SCHEMA, "{\"items\": [{}]}", "prefixItems" },
        { GRAMMAR_SCHEMA, "{\"type\": \"string\", \"minLength\": 3, \"maxLength\": 2}", "nothing can satisfy" },
        { GRAMMAR_SCHEMA, "{\"properties\": {\"a\": {\"$ref\": \"#\"}}, \"required\": [\"a\"], "
                          "\"type\": \"object\"}", "nothing can satisfy" },
        { GRAMMAR_SCHEMA, "false", "nothing can satisfy" },
        { GRAMMAR_SCHEMA, "{\"minLength\": -1}", "minLength" }, { GRAMMAR_SCHEMA, "[]", "no schema" },
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        dr_err e;
        grammar *g = compile(list[i].k, list[i].text, &e);
        if (g || !strstr(e.msg, list[i].says))
            fail_msg("%s: %s", list[i].text, g ? "was taken" : e.msg);
    }
}

/* ---- numbers */

typedef struct { tried t; double lo, hi; bool open_lo, open_hi, ints; int n; } range;

static void in_range(void *arg, const char *s)
{
    range *r = arg;
    /* a JSON number without exponent, by hand */
    const char *p = s + (*s == '-'), *d = p;
    while (*d >= '0' && *d <= '9') d++;
    bool ok = d > p && (*p != '0' || d == p + 1);
    bool whole = true;
    if (*d == '.') {
        const char *f = ++d;
        while (*d >= '0' && *d <= '9') d++;
        ok = ok && d > f, whole = false;
    }
    ok = ok && !*d;
    double x = strtod(s, NULL);
    ok = ok && (r->open_lo ? x > r->lo : x >= r->lo) && (r->open_hi ? x < r->hi : x <= r->hi);
    ok = ok && (!r->ints || whole);
    if (*s == '-' && x == 0) return;                         /* minus zero: not promised */
    if (accepts(r->t, s) != ok) fail_msg("%s in %g..%g: %d is wanted", s, r->lo, r->hi, ok);
    r->n += ok;
}

static void numbers(void **state)
{
    (void)state;
    static const char *const digit[] = { "0", "1", "2", "5", "9", ".", "-" };
    static const double bound[][2] = { { 0, 10 }, { -15, 25 }, { 12, 12 }, { -2, -1 }, { 99, 1205 },
                                       { 0.5, 1.25 }, { -1.5, 0.1 }, { -0.2, -0.05 }, { 9.9, 20.05 }, { -1e9, 1e9 } };
    for (size_t i = 0; i < sizeof bound / sizeof *bound; i++)
        for (int how = 0; how < 8; how++) {
            range r = { .lo = bound[i][0], .hi = bound[i][1], .open_lo = how & 1, .open_hi = how & 2,
                        .ints = how & 4 };
            char s[300];
            snprintf(s, sizeof s, "{\"type\":\"%s\",\"%s\":%.17g,\"%s\":%.17g}", r.ints ? "integer" : "number",
                     r.open_lo ? "exclusiveMinimum" : "minimum", r.lo,
                     r.open_hi ? "exclusiveMaximum" : "maximum", r.hi);
            dr_err e;
            r.t.g = compile(GRAMMAR_SCHEMA, s, &e);
            if (!r.t.g) {                                    /* then no number is in it */
                assert_int_equal(e.code, DR_EINVAL);
                assert_true(r.lo == r.hi || r.ints);
                continue;
            }
            r.t.m = matcher_new(r.t.g, &e);
            each_string(digit, 7, 5, in_range, &r);
            assert_true(r.n > 0 || r.ints);
            drop(r.t);
        }
    tried t = must(GRAMMAR_SCHEMA, "{\"type\":\"integer\",\"minimum\":-9007199254740993,\"maximum\":"
                                   "9007199254740993}");
    assert_true(accepts(t, "9007199254740993") && !accepts(t, "9007199254740994"));
    assert_true(accepts(t, "-9007199254740993") && !accepts(t, "-9007199254740994"));
    drop(t);
}

/* ---- schemas by example: what each takes, what it does not */

static void schemas(void **state)
{
    (void)state;
    static const struct { const char *schema, *yes[6], *no[8]; } list[] = {
        { "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"null\"},\"b\":{\"type\":\"null\"}},\"required\":[\"b\"],"
          "\"additionalProperties\":false}", { "{\"a\":null,\"b\":null}", "{\"b\":null}" },
          { "{}", "{\"a\":null}", "{\"b\":null,\"a\":null}", "{\"b\":null,}", "{,\"b\":null}", "{\"b\":null,\"c\":1}" } },
        { "{\"type\":\"object\",\"properties\":{\"ab\":false},\"additionalProperties\":{\"const\":1}}",
          { "{}", "{\"a\":1}", "{\"abc\":1,\"b\":1}" }, { "{\"ab\":1}", "{\"ab\":null}", "{\"a\":2}" } },
        { "{\"type\":\"object\",\"patternProperties\":{\"^x\":{\"type\":\"boolean\"}},\"additionalProperties\":{\"type\":\"null\"},"
          "\"maxProperties\":2}", { "{\"x1\":true,\"y\":null}", "{}" }, { "{\"x\":null}", "{\"y\":true}", "{\"a\":null,\"b\":null,\"c\":null}" } },
        { "{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{},\"c\":{}},\"minProperties\":2,\"maxProperties\":2,"
          "\"additionalProperties\":false}", { "{\"a\":1,\"b\":2}", "{\"b\":[],\"c\":{}}" }, { "{}", "{\"a\":1}", "{\"a\":1,\"b\":2,\"c\":3}" } },
        { "{\"type\":\"object\",\"propertyNames\":{\"maxLength\":2,\"pattern\":\"^a\"}}", { "{}", "{\"ab\":1}" }, { "{\"abc\":1}", "{\"b\":1}" } },
        { "{\"type\":\"array\",\"prefixItems\":[{\"const\":1},{\"const\":2}],\"items\":{\"const\":3},\"minItems\":1,\"maxItems\":4}",
          { "[1]", "[1,2]", "[1,2,3]", "[1,2,3,3]" }, { "[]", "[2]", "[1,3]", "[1,2,3,3,3]", "[1,]" } },
        { "{\"type\":\"array\",\"items\":{\"type\":\"null\"},\"minItems\":2,\"maxItems\":3}", { "[null,null]", "[null,null,null]" },
          { "[]", "[null]", "[null,null,null,null]" } },
        { "{\"enum\":[1,\"a\\n\\u001f\\\"\",null,{\"x\":[1.5,true]},\"\xc3\xa9\"]}",
          { "1", "\"a\\n\\u001f\\\"\"", "null", "{\"x\":[1.5,true]}", "\"\xc3\xa9\"" }, { "2", "\"\\u00e9\"", "\"a\"" } },
        { "{\"enum\":[1,\"a\",2.5,null],\"type\":[\"integer\",\"null\"]}", { "1", "null" }, { "\"a\"", "2.5" } },
        { "{\"allOf\":[{\"minimum\":3},{\"maximum\":5}],\"type\":\"integer\"}", { "3", "5" }, { "2", "6", "3.5" } },
        { "{\"type\":\"integer\",\"minimum\":3,\"exclusiveMinimum\":3,\"exclusiveMaximum\":6,\"maximum\":6}", { "4", "5" }, { "3", "6" } },
        { "{\"anyOf\":[{\"type\":\"string\",\"maxLength\":2},{\"pattern\":\"^xyz\",\"type\":\"string\"}]}",
          { "\"\"", "\"ab\"", "\"xyzzy\"" }, { "\"abc\"", "\"axyz\"", "1" } },
        { "{\"oneOf\":[{\"properties\":{\"k\":{\"const\":\"a\"}},\"required\":[\"k\"]},{\"properties\":{\"k\":{\"const\":\"b\"},"
          "\"v\":{\"type\":\"null\"}},\"required\":[\"k\",\"v\"]}],\"type\":\"object\",\"unknown\":0}", { NULL }, { NULL } },
        { "{\"oneOf\":[{\"properties\":{\"k\":{\"const\":\"a\"}},\"required\":[\"k\"]},{\"properties\":{\"k\":{\"const\":\"b\"},"
          "\"v\":{\"type\":\"null\"}},\"required\":[\"k\",\"v\"]}],\"type\":\"object\"}",
          { "{\"k\":\"a\"}", "{\"k\":\"b\",\"v\":null}" }, { "{\"k\":\"b\"}", "{\"k\":\"c\"}", "{}" } },
        { "{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}", { "\"ab\"", "\"\xf0\x9f\x98\x80\xc3\xa9\"", "\"\\n\\u0000\\\\\"" },
          { "\"a\"", "\"abcd\"", "\"\xff\xff\"", "\"a\x01\"", "\"\\u0041a\"" } },
        { "{\"type\":\"string\",\"minLength\":200,\"maxLength\":1000000000}", { NULL }, { "\"\"", "\"ab\"" } },
        { "{\"format\":\"date\",\"type\":\"string\"}", { "\"2024-02-29\"", "\"2000-02-29\"", "\"1999-12-31\"" },
          { "\"2023-02-29\"", "\"1900-02-29\"", "\"2024-04-31\"", "\"0000-01-01\"", "\"2024-13-01\"" } },
        { "{\"format\":\"date-time\",\"type\":\"string\"}", { "\"2024-02-29T23:59:59.5Z\"", "\"2024-01-01T00:00:00+12:30\"" },
          { "\"2024-02-30T00:00:00Z\"", "\"2024-01-01T24:00:00Z\"", "\"2024-01-01\"" } },
        { "{\"format\":\"uuid\",\"type\":\"string\"}", { "\"2EB8AA08-aa98-11ea-b4aa-73b441d16380\"" }, { "\"2EB8AA08aa9811eab4aa73b441d16380\"" } },
        { "{\"$ref\":\"#/$defs/n\",\"$defs\":{\"n\":{\"type\":\"object\",\"properties\":{\"n\":{\"$ref\":\"#/$defs/n\"}},\"additionalProperties\":false}}}",
          { "{}", "{\"n\":{}}", "{\"n\":{\"n\":{\"n\":{}}}}" }, { "{\"n\":1}", "{\"n\":{}" } },
        { "{\"type\":\"string\",\"nullable\":true,\"maxLength\":1}", { "null", "\"a\"" }, { "\"ab\"", "1" } },
        { "{\"not\":{\"type\":[\"object\",\"array\",\"string\",\"number\"]}}", { "null", "true" }, { "1", "\"\"", "{}" } },
        { "true", { "1.5e+10", "[[],{\"\":\"\"}]", "-0", "false" }, { "01", "1.", "[1 ]", "1e400", "123456789012345678901" } },
        { "{\"properties\":{\"a\":{\"type\":\"null\"}},\"required\":[\"a\"]}", { "1", "[]", "{\"a\":null,\"b\":2}" }, { "{}", "{\"b\":2}" } },
        { "{\"allOf\":[{\"properties\":{\"a\":{\"type\":\"null\"}},\"additionalProperties\":false}],\"properties\":{\"b\":{}},\"type\":\"object\"}",
          { "{}", "{\"a\":null}" }, { "{\"b\":1}", "{\"a\":null,\"b\":1}" } },
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        if (strstr(list[i].schema, "unknown")) continue;
        tried t = must(GRAMMAR_SCHEMA, list[i].schema);
        for (int k = 0; k < 6 && list[i].yes[k]; k++)
            if (!accepts(t, list[i].yes[k])) fail_msg("%s refuses %s", list[i].schema, list[i].yes[k]);
        for (int k = 0; k < 8 && list[i].no[k]; k++)
            if (accepts(t, list[i].no[k])) fail_msg("%s takes %s", list[i].schema, list[i].no[k]);
        drop(t);
    }
}

/* ---- grammars */

static const char *const arith = "root ::= (expr \"=\" ws term \"\\n\")+\n"
    "# sums\nexpr ::= term ([-+*/] term)*\nterm ::= ident | num | \"(\" ws expr \")\" ws\n"
    "ident ::= [a-z] [a-z0-9_]* ws\nnum ::= [0-9]+ ws\nws ::= [ \\t\\n]*\n";

static void grammars(void **state)
{
    (void)state;
    tried t = must(GRAMMAR_GBNF, arith);
    assert_true(accepts(t, "x=10\n") && accepts(t, "(a+b)*2 = ((3)) \n1=1\n"));
    assert_false(accepts(t, "x=10") || accepts(t, "x+=1\n") || accepts(t, ""));
    drop(t);
    t = must(GRAMMAR_GBNF, "root ::= \"\\x41\\u00e9\\U0001F600\" [^\\n\\x00-\\x1f]{2,3} . | \"q\"?\n");
    assert_true(accepts(t, "A\xc3\xa9\xf0\x9f\x98\x80xy\n") && accepts(t, "q") && accepts(t, ""));
    assert_false(accepts(t, "A\xc3\xa9\xf0\x9f\x98\x80x\n") || accepts(t, "Aexyz") || accepts(t, "qq"));
    drop(t);
    /* a count too long to be written out, of a rule, and of a rule in a rule */
    t = must(GRAMMAR_GBNF, "root ::= ((\"a\" | \"bb\"){3,600} \",\"){2,700} \"!\"\n");
    char s[6000];
    for (int groups = 1; groups <= 4; groups++)
        for (int n = 1; n <= 700; n += n < 5 ? 1 : 199) {
            size_t len = 0;
            for (int g = 0; g < groups; g++) {
                for (int i = 0; i < n; i++) len += (size_t)snprintf(s + len, 3, i % 3 ? "a" : "bb");
                s[len++] = ',';
            }
            s[len++] = '!';
            assert_int_equal(accepts_n(t, s, len), groups >= 2 && n >= 3 && n <= 600);
        }
    drop(t);
    /* right recursion does not grow the stack; both sides do, up to the limit */
    t = must(GRAMMAR_GBNF, "root ::= \"a\" root | \"b\"\n");
    char *many = mem_alloc(100001);
    memset(many, 'a', 100000), many[100000] = 'b';
    assert_true(accepts_n(t, many, 100001));
    drop(t);
    t = must(GRAMMAR_GBNF, "root ::= \"(\" root \")\" | \"\"\n");
    memset(many, '(', 500), memset(many + 500, ')', 500);
    assert_true(accepts_n(t, many + 400, 200));
    assert_false(accepts_n(t, many, 1000));                  /* 500 levels */
    drop(t);
    mem_free(many);
}

/* ---- the mask against every token by itself, and room that is kept */

static int32_t pick(const vtrie *v, const uint64_t *mask, uint32_t k)
{
    for (int32_t id = 0; id < v->n_vocab; id++)
        if (mask[id >> 6] >> (id & 63) & 1 && k-- == 0) return id;
    return -1;
}

static void check_mask(tried t, int p, uint32_t left, const uint64_t *mask, const matcher_next *next)
{
    const vtrie *v = grammar_vtrie(t.g);
    dr_err e = {0};
    int n = 0;
    for (int32_t id = 0; id < v->n_vocab; id++) {
        if (tok_is_control(v->t, id)) continue;
        int q = matcher_copy(t.m, p, &e);
        assert_true(q >= 0);
        bool ok = matcher_bytes(t.m, q, tok_text(v->t, id)) && matcher_need(t.m, q) < left;
        matcher_end(t.m, q);
        bool bit = mask[id >> 6] >> (id & 63) & 1;
        if (ok != bit) fail_msg("token %d: mask %d, by itself %d, %u left", id, bit, ok, left);
        n += ok;
    }
    assert_int_equal(n, next->n_text);
    assert_int_equal(next->done, matcher_done(t.m, p));
}

static void walk(grammar_kind kind, const char *text, uint32_t extra, uint64_t seed, bool check)
{
    tried t = must(kind, text);
    const vtrie *v = grammar_vtrie(t.g);
    uint64_t mask[64];
    dr_err e = {0};
    uint32_t room = grammar_shortest(t.g) + extra;
    int p = matcher_begin(t.m, &e);
    for (uint32_t i = 0;; i++) {
        matcher_next next;
        uint32_t w[4];
        if (matcher_mask(t.m, p, room - i, mask, &next, &e)) fail_msg("%s after %u of %u: %s", text, i, room, e.msg);
        if (check) check_mask(t, p, room - i, mask, &next);
        rng_philox(w, seed, 5, i);
        if (next.done && (!next.n_text || w[1] % 8 == 0)) break;
        assert_true(i < room);
        assert_int_equal(matcher_take(t.m, p, pick(v, mask, w[0] % (uint32_t)next.n_text), &e), 0);
    }
    matcher_end(t.m, p);
    drop(t);
}

static const struct { grammar_kind k; const char *text; } walked[] = {
    { GRAMMAR_SCHEMA, "{}" },
    { GRAMMAR_SCHEMA, "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"n\":{\"type\":\"integer\"}},"
                      "\"required\":[\"name\",\"n\"]}" },
    { GRAMMAR_SCHEMA, "{\"type\":\"array\",\"items\":{\"type\":\"string\",\"minLength\":9,\"maxLength\":20},\"minItems\":2}" },
    { GRAMMAR_SCHEMA, "{\"anyOf\":[{\"type\":\"string\",\"maxLength\":12},{\"type\":\"string\",\"pattern\":\"(ab)+$\"}]}" },
    { GRAMMAR_SCHEMA, "{\"type\":\"object\",\"properties\":{\"aa\":{\"enum\":[\"abc\",\"abcd\",12,[null]]},\"ab\":"
                      "{\"format\":\"time\",\"type\":\"string\"}},\"required\":[\"ab\"],\"propertyNames\":{\"pattern\":\"^a\"}}" },
    { GRAMMAR_SCHEMA, "{\"$ref\":\"#/$defs/t\",\"$defs\":{\"t\":{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/t\"},"
                      "\"maxItems\":3}}}" },
    { GRAMMAR_SCHEMA, "{\"type\":\"string\",\"pattern\":\"a.*b\",\"maxLength\":14}" },
    { GRAMMAR_SCHEMA, "{\"type\":\"array\",\"items\":{\"type\":\"string\",\"pattern\":\"^[a-c ]*$\",\"maxLength\":9},\"minItems\":2}" },
    { GRAMMAR_SCHEMA, "{\"type\":\"string\",\"minLength\":700,\"maxLength\":705}" },
    { GRAMMAR_SCHEMA, "{\"type\":\"array\",\"items\":{\"const\":1},\"minItems\":450,\"maxItems\":460}" },
    { GRAMMAR_GBNF, arith },
    { GRAMMAR_GBNF, "root ::= (\"ab\" | \"a\" | [^x]){40,60} \"x\"" },
    { GRAMMAR_REGEX, "(abc|ab|\xc3\xa9){3,}z?" },
};

static void masks(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof walked / sizeof *walked; i++)
        for (uint64_t seed = 0; seed < 2; seed++)
            walk(walked[i].k, walked[i].text, seed ? 3 : 25, seed, true);
}

static void room(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof walked / sizeof *walked; i++)
        for (uint64_t seed = 0; seed < 60; seed++)
            walk(walked[i].k, walked[i].text, seed < 20 ? 0 : (uint32_t)seed, seed, false);
}

/* Masks and steps allocate nothing, the pools' emptying included. */
static void no_allocation(void **state)
{
    (void)state;
    tried t = must(GRAMMAR_SCHEMA, "{\"type\":\"array\",\"items\":{\"anyOf\":[{\"type\":\"string\",\"maxLength\":100000},"
                                   "{\"type\":\"string\",\"pattern\":\"ab$\"},{\"$ref\":\"#\"}]}}");
    uint64_t mask[64];
    dr_err e = {0};
    int p = matcher_begin(t.m, &e), q = matcher_copy(t.m, p, &e);
    long before = mem_count();
    for (uint32_t i = 0; i < 60000; i++) {
        matcher_next next;
        uint32_t w[4];
        /* a second text whose frames come after many that will be dropped */
        if (i == 3000) assert_true(matcher_bytes(t.m, q, span_of("[[\"ab\",[[\"x")));
        if (i % 100 == 0) assert_int_equal(matcher_mask(t.m, p, MATCHER_ANY, mask, &next, &e), 0);
        rng_philox(w, 9, 9, i);
        /* `[` and one string without an end, so that each character is a new state */
        char c[2] = { i == 0 ? '[' : i == 1 ? '"' : (char)('a' + w[0] % 26), 0 };
        assert_true(matcher_bytes(t.m, p, span_of(c)));
    }
    assert_int_equal(mem_count(), before);
    assert_true(matcher_bytes(t.m, q, span_of("ab\"]],\"\"]]")) && matcher_done(t.m, q));
    drop(t);
}

/* The bound on tokens is no worse than bytes, and is exact where the text is one. */
static void shortest(void **state)
{
    (void)state;
    static const struct { grammar_kind k; const char *text; uint32_t n; } list[] = {
        { GRAMMAR_SCHEMA, "{}", 1 }, { GRAMMAR_SCHEMA, "{\"const\":\"aaaaaaaaab\"}", 4 },
        { GRAMMAR_SCHEMA, "{\"type\":\"string\",\"minLength\":800,\"maxLength\":800}", 102 },
        { GRAMMAR_REGEX, "abcabcab", 3 }, { GRAMMAR_GBNF, "root ::= \"a\" root \"b\" | \"\"", 0 },
        { GRAMMAR_SCHEMA, "{\"type\":\"array\",\"items\":{\"const\":12},\"minItems\":3}", 7 },
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        tried t = must(list[i].k, list[i].text);
        assert_int_equal(grammar_shortest(t.g), list[i].n);
        drop(t);
    }
}

/* ---- hostile texts: an answer within the bounds of time and memory */

static void bounded(grammar_kind k, const char *text, size_t n)
{
    dr_err e = {0};
    const vtrie *v = fuzz_vocabulary();
    struct timespec a, b;
    size_t live = mem_live_bytes();
    mem_peak_reset();
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
    grammar *g = grammar_new(k, (span){ text, n }, v, &e);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
    if (!g) assert_true(e.code && e.msg[0]);
    double s = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) * 1e-9;
    double most = 4;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(__OPTIMIZE__) == 0
    most = 60;
#endif
    if (s > most) fail_msg("%.60s…: %.1f s", text, s);
    if (mem_peak_bytes() - live > ((size_t)140 << 20) + 8 * n) fail_msg("%.60s…: %zu bytes", text, mem_peak_bytes() - live);
    grammar_free(g);
    assert_int_equal(mem_live_bytes(), live);
}

static void hostile(void **state)
{
    (void)state;
    static const struct { grammar_kind k; const char *text; } list[] = {
        { GRAMMAR_REGEX, "(a{1000}){1000}" }, { GRAMMAR_REGEX, "(a|b)*a(a|b){20}" },
        { GRAMMAR_REGEX, "((((((a*)*)*)*)*)*)*b" }, { GRAMMAR_REGEX, "((a{0,99}){0,99}){0,99}" },
        { GRAMMAR_REGEX, "(.{0,500}x){0,500}" }, { GRAMMAR_REGEX, "(|){99999999}" },
        { GRAMMAR_REGEX, "\\W{300}|(?:\\W|\\S){200}" }, { GRAMMAR_REGEX, ".*a.{14}b.*c.{9}" },
        { GRAMMAR_GBNF, "root ::= ((\"a\"{0,9999}){0,9999}){0,9999}" },
        { GRAMMAR_GBNF, "root ::= \"a\"{1000000000} \"b\"" },
        { GRAMMAR_GBNF, "root ::= (\"a\" | \"b\")* \"a\" (\"a\" | \"b\"){20}" },
        { GRAMMAR_SCHEMA, "{\"type\":\"array\",\"minItems\":1000000000}" },
        { GRAMMAR_SCHEMA, "{\"type\":\"string\",\"maxLength\":1000000000,\"pattern\":\"a\"}" },
        { GRAMMAR_SCHEMA, "{\"type\":\"string\",\"minLength\":1000000000}" },
        { GRAMMAR_SCHEMA, "{\"$ref\":\"#\"}" }, { GRAMMAR_SCHEMA, "{\"allOf\":[{\"$ref\":\"#\"},{\"$ref\":\"#\"}]}" },
        { GRAMMAR_SCHEMA, "{\"anyOf\":[{\"$ref\":\"#\"},{\"items\":{\"$ref\":\"#\"}}]}" },
        { GRAMMAR_SCHEMA, "{\"not\":{\"not\":{}}}" },
        { GRAMMAR_SCHEMA, "{\"maxProperties\":1000000000,\"properties\":{\"a\":{}},\"minProperties\":1000000000}" },
        { GRAMMAR_SCHEMA, "{\"pattern\":\"^(\\\\w+\\\\s?)*$\",\"type\":\"string\",\"minLength\":900}" },
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) bounded(list[i].k, list[i].text, strlen(list[i].text));
    /* references that double at each level; alternatives that multiply; long lists; deep nests */
    buf b = { .cap_max = 4 << 20 };
    buf_puts(&b, "{\"$ref\":\"#/$defs/a40\",\"$defs\":{\"a0\":{\"type\":\"null\"}");
    for (int i = 1; i <= 40; i++)
        buf_printf(&b, ",\"a%d\":{\"type\":\"array\",\"prefixItems\":[{\"$ref\":\"#/$defs/a%d\"},{\"$ref\":\"#/$defs/a%d\"}],"
                   "\"minItems\":2}", i, i - 1, i - 1);
    buf_puts(&b, "}}");
    bounded(GRAMMAR_SCHEMA, b.p, b.n);
    buf_reset(&b), buf_puts(&b, "{\"allOf\":[");
    for (int i = 0; i < 30; i++)
        buf_printf(&b, "%s{\"anyOf\":[{\"minimum\":%d},{\"maximum\":%d},{\"multipleOf\":1}]}", i ? "," : "", i, 100 - i);
    buf_puts(&b, "]}");
    bounded(GRAMMAR_SCHEMA, b.p, b.n);
    buf_reset(&b), buf_puts(&b, "{\"enum\":[");
    for (int i = 0; i < 60000; i++) buf_printf(&b, "%s\"value %d of many\"", i ? "," : "", i * 7919 % 60000);
    buf_puts(&b, "]}");
    bounded(GRAMMAR_SCHEMA, b.p, b.n);
    buf_reset(&b), buf_puts(&b, "{\"type\":\"object\",\"properties\":{");
    for (int i = 0; i < 3000; i++) buf_printf(&b, "%s\"p%d\":{\"type\":\"string\"}", i ? "," : "", i);
    buf_puts(&b, "}}");
    bounded(GRAMMAR_SCHEMA, b.p, b.n);
    static const char *const deep[] = { "[", "{\"items\":", "{\"anyOf\":[", "(", "root ::= (", "{\"not\":", "{\"allOf\":[{\"properties\":{\"a\":" };
    for (size_t i = 0; i < sizeof deep / sizeof *deep; i++) {
        buf_reset(&b);
        for (int k = 0; k < 20000; k++) buf_puts(&b, k || deep[i][0] != 'r' ? deep[i] + (deep[i][0] == 'r' ? 9 : 0) : deep[i]);
        for (int kind = 0; kind < 3; kind++) bounded((grammar_kind)kind, b.p, b.n);
    }
    buf_reset(&b);
    for (int i = 0; i < 30000; i++) buf_printf(&b, "%s%d ::= r%d | \"x\" r%d\n", i ? "r" : "root ::= r1\nr", i, i + 1, i * 31 % 30000);
    bounded(GRAMMAR_GBNF, b.p, b.n);
    buf_free(&b);
}

static int parse_schema(const void *p, size_t n, dr_err *e)
{
    grammar *g = grammar_new(GRAMMAR_SCHEMA, (span){ p, n }, fuzz_vocabulary(), e);
    matcher *m = g ? matcher_new(g, e) : NULL;
    bool ok = m != NULL;
    matcher_free(m);
    grammar_free(g);
    return ok ? DR_OK : e->code;
}

static int parse_gbnf(const void *p, size_t n, dr_err *e)
{
    grammar *g = grammar_new(GRAMMAR_GBNF, (span){ p, n }, fuzz_vocabulary(), e);
    grammar_free(g);
    return g ? DR_OK : e->code;
}

static void damaged(void **state)
{
    (void)state;
    static const char schema[] = "{\"type\":\"object\",\"properties\":{\"a\":{\"pattern\":\"^a+$\",\"type\":\"string\"},\"b\":"
        "{\"anyOf\":[{\"type\":\"integer\",\"maximum\":9},{\"enum\":[\"x\",null]}]}},\"required\":[\"a\"],\"additionalProperties\":false}";
    hostile_begin();
    fuzz_vocabulary();
    dr_err e;
    for (size_t k = 0; k < sizeof schema - 1; k++)
        if (e = (dr_err){0}, parse_schema(schema, k, &e) == DR_OK)
            fail_msg("%zu bytes were accepted", k);
    hostile_flip(parse_gbnf, arith, strlen(arith), 1);
    hostile_nomem(parse_schema, schema, sizeof schema - 1, true);
    hostile_nomem(parse_gbnf, arith, strlen(arith), false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(regexes), cmocka_unit_test(random_regexes), cmocka_unit_test(refused),
        cmocka_unit_test(numbers), cmocka_unit_test(schemas), cmocka_unit_test(grammars),
        cmocka_unit_test(masks), cmocka_unit_test(room), cmocka_unit_test(shortest),
        cmocka_unit_test(no_allocation), cmocka_unit_test(hostile), cmocka_unit_test(damaged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
