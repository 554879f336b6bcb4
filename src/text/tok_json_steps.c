/* tok_json_steps.c - the steps that tokenizer.json describes, and tokenizer_config.json. Each
 * kind of step has a function; an option that none of them asks for is refused by name. */
#include "base/mem.h"
#include "text/jwalk.h"
#include "text/tok_json.h"

enum { BUDGET = 1 << 20 };           /* no file we know has a description over 100 KB as a tree */

static const char *type_of(const json_t *o)
{
    const char *s = json_string_value(json_object_get(o, "type"));
    return s ? s : "";
}

/* Every key of o must be in the list (words with one space between). */
static int only(const json_t *o, const char *list, dr_err *e)
{
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)o, key, v) {
        size_t n = strlen(key);
        const char *at;
        for (at = n ? list : NULL; at && (at = strstr(at, key)); at++)
            if ((at == list || at[-1] == ' ') && (at[n] == ' ' || !at[n])) break;
        if (!at) return err_set(e, DR_EUNSUPPORTED, "tokenizer.json: %s.%.60s is not known here",
                                type_of(o), key);
    }
    return 0;
}

static span str(const json_t *o, const char *key)
{
    const json_t *s = json_object_get(o, key);
    if (!json_is_string(s)) return (span){ "", 0 };
    return (span){ json_string_value(s), json_string_length(s) };
}

static int unknown(const json_t *o, const char *what, dr_err *e)
{
    return err_set(e, DR_EUNSUPPORTED, "tokenizer.json: %s \"%.60s\" is not supported", what,
                   type_of(o));
}

/* Apply fn to the step, or to each one of a Sequence's. */
static int each(tokenizer *t, const json_t *o, const char *list, int depth,
                int (*fn)(tokenizer *, const json_t *, dr_err *), dr_err *e)
{
    if (json_is_null(o)) return 0;
    if (!json_is_object(o)) return err_set(e, DR_EFORMAT, "tokenizer.json: a step is no object");
    if (strcmp(type_of(o), "Sequence")) return fn(t, o, e);
    const json_t *steps = json_object_get(o, list), *s;
    size_t i;
    if (!json_is_array(steps) || depth > 4)
        return err_set(e, DR_EFORMAT, "tokenizer.json: a Sequence without \"%s\"", list);
    int rc = 0;
    json_array_foreach((json_t *)steps, i, s)
        if (!rc) rc = each(t, s, list, depth + 1, fn, e);
    return rc;
}

static int read_steps(tokenizer *t, span raw, const char *list,
                      int (*fn)(tokenizer *, const json_t *, dr_err *), dr_err *e)
{
    if (!raw.n || span_is(raw, "null")) return 0;
    json_t *o = json_read(raw.p, raw.n, BUDGET, "tokenizer.json", e);
    if (!o) return e && e->code ? e->code : DR_ENOMEM;
    int rc = each(t, o, list, 0, fn, e);
    json_decref(o);
    return rc;
}

/* {"String": "..."}; a Regex only where `regex` is given. */
static int pattern(const json_t *o, span *string, span *regex, dr_err *e)
{
    const json_t *p = json_object_get(o, "pattern");
    *string = str(p, "String");
    if (regex) *regex = str(p, "Regex");
    if (json_object_size(p) == 1 && (string->n || (regex && regex->n))) return 0;
    return err_set(e, DR_EUNSUPPORTED, "tokenizer.json: this pattern of %s is not supported",
                   type_of(o));
}

static int normalizer(tokenizer *t, const json_t *o, dr_err *e)
{
    norm_step s = {0};
    span a, b = { "", 0 };
    int rc;
    if (!strcmp(type_of(o), "Prepend")) {
        s.kind = NORM_PREPEND;
        rc = only(o, "type prepend", e);
        a = str(o, "prepend");
    } else if (!strcmp(type_of(o), "Replace")) {
        s.kind = NORM_REPLACE;
        rc = only(o, "type pattern content", e);
        if (!rc) rc = pattern(o, &a, NULL, e);
        b = str(o, "content");
    } else {
        return unknown(o, "the normalizer", e);
    }
    if (rc) return rc;
    if (t->n_norms == TOK_STEPS)
        return err_set(e, DR_EUNSUPPORTED, "over %d normalizers", TOK_STEPS);
    if ((rc = tok_keep(t, a, &s.a, e)) || (rc = tok_keep(t, b, &s.b, e))) return rc;
    t->norms[t->n_norms++] = s;
    return 0;
}

static int add_pre(tokenizer *t, pre_step s, dr_err *e)
{
    if (t->n_pres == TOK_STEPS)
        return err_set(e, DR_EUNSUPPORTED, "over %d pre-tokenisers", TOK_STEPS);
    t->pres[t->n_pres++] = s;
    return 0;
}

static int pre_split(tokenizer *t, const json_t *o, dr_err *e)
{
    static const char *const cut[] = { "Removed", "Isolated", "MergedWithPrevious",
                                       "MergedWithNext", "Contiguous" };
    span string, regex, how = str(o, "behavior");
    int rc = only(o, "type pattern behavior invert", e), k = 0;
    if (!rc) rc = pattern(o, &string, &regex, e);
    while (k < 5 && !span_is(how, cut[k])) k++;
    if (!rc && k == 5) rc = err_set(e, DR_EUNSUPPORTED, "tokenizer.json: Split.behavior \"" SPAN_FMT
                                    "\" is not supported", SPAN_ARG(how));
    if (rc) return rc;
    bool invert = json_is_true(json_object_get(o, "invert"));
    if (regex.n) {
        if (memchr(regex.p, 0, regex.n)) return err_set(e, DR_EUNSUPPORTED, "a 0 in a pattern");
        if ((rc = tok_add_re(t, regex.p, (cut_kind)k, e))) return rc;
        t->pres[t->n_pres - 1].invert = invert;
        return 0;
    }
    pre_step s = { .kind = PRE_STRING, .cut = (cut_kind)k, .invert = invert };
    if ((rc = tok_keep(t, string, &s.str, e))) return rc;
    return add_pre(t, s, e);
}

/* prepend_scheme, or the older add_prefix_space. */
static int scheme_of(const json_t *o, dr_err *e)
{
    span s = str(o, "prepend_scheme");
    bool old_never = json_is_false(json_object_get(o, "add_prefix_space"));
    if (!s.n) return old_never ? PREPEND_NEVER : PREPEND_ALWAYS;
    if (span_is(s, "always")) return PREPEND_ALWAYS;
    if (span_is(s, "first")) return PREPEND_FIRST;
    if (span_is(s, "never")) return PREPEND_NEVER;
    return err_set(e, DR_EUNSUPPORTED, "tokenizer.json: prepend_scheme \"" SPAN_FMT "\" is not "
                   "supported", SPAN_ARG(s));
}

static int pre_tokenizer(tokenizer *t, const json_t *o, dr_err *e)
{
    const char *type = type_of(o);
    int rc;
    if (!strcmp(type, "Split")) return pre_split(t, o, e);
    if (!strcmp(type, "Digits")) {
        if ((rc = only(o, "type individual_digits", e))) return rc;
        bool each_one = json_is_true(json_object_get(o, "individual_digits"));
        return add_pre(t, (pre_step){ .kind = PRE_DIGITS,
                                      .cut = each_one ? CUT_ISOLATED : CUT_CONTIGUOUS }, e);
    }
    if (!strcmp(type, "ByteLevel")) {
        if ((rc = only(o, "type add_prefix_space trim_offsets use_regex", e))) return rc;
        t->bytes = true;
        if (!json_is_false(json_object_get(o, "add_prefix_space")) &&
            (rc = add_pre(t, (pre_step){ .kind = PRE_PREFIX }, e))) return rc;
        if (json_is_false(json_object_get(o, "use_regex"))) return 0;
        return tok_add_re(t, split_gpt2_regex, CUT_ISOLATED, e);
    }
    if (strcmp(type, "Metaspace")) return unknown(o, "the pre_tokenizer", e);
    rc = only(o, "type replacement add_prefix_space prepend_scheme split str_rep", e);
    if (rc) return rc;
    pre_step s = { .kind = PRE_METASPACE, .split = !json_is_false(json_object_get(o, "split")) };
    if ((rc = scheme_of(o, e)) < 0) return rc;
    s.digits = rc;
    if ((rc = tok_keep(t, str(o, "replacement"), &s.str, e))) return rc;
    if (!span_is(s.str, TOK_MARK))
        return err_set(e, DR_EUNSUPPORTED, "tokenizer.json: Metaspace.replacement is not U+2581");
    return add_pre(t, s, e);
}

/* The decoders that we know come to one of two things: bytes as they are, or marks to spaces,
 * byte tokens to bytes, and perhaps one leading space less. */
static int decoder(tokenizer *t, const json_t *o, dr_err *e)
{
    const char *type = type_of(o);
    int rc;
    if (!strcmp(type, "ByteLevel")) {
        if (t->bytes) return only(o, "type add_prefix_space trim_offsets use_regex", e);
        return err_set(e, DR_EUNSUPPORTED, "tokenizer.json: a ByteLevel decoder without its "
                       "pre_tokenizer");
    }
    if (t->bytes) return unknown(o, "beside ByteLevel, the decoder", e);
    if (!strcmp(type, "ByteFallback") || !strcmp(type, "Fuse")) return only(o, "type", e);
    if (!strcmp(type, "Replace")) {
        span a;
        if ((rc = only(o, "type pattern content", e)) || (rc = pattern(o, &a, NULL, e))) return rc;
        if (span_is(a, TOK_MARK) && span_is(str(o, "content"), " ")) return 0;
    } else if (!strcmp(type, "Strip")) {
        if ((rc = only(o, "type content start stop", e))) return rc;
        json_int_t start = json_integer_value(json_object_get(o, "start"));
        t->drop_space = start == 1;
        if (span_is(str(o, "content"), " ") && (start == 0 || start == 1) &&
            json_integer_value(json_object_get(o, "stop")) == 0) return 0;
    } else if (!strcmp(type, "Metaspace")) {
        rc = only(o, "type replacement add_prefix_space prepend_scheme split str_rep", e);
        if (rc || (rc = scheme_of(o, e)) < 0) return rc;
        t->drop_space = rc != PREPEND_NEVER;
        if (span_is(str(o, "replacement"), TOK_MARK)) return 0;
    }
    return unknown(o, "in this use, the decoder", e);
}

int tokjson_steps(tokenizer *t, span normal, span pre, span decode, dr_err *e)
{
    int rc = read_steps(t, normal, "normalizers", normalizer, e);
    if (!rc) rc = read_steps(t, pre, "pretokenizers", pre_tokenizer, e);
    if (!rc) rc = read_steps(t, decode, "decoders", decoder, e);
    if (!rc && (!decode.n || span_is(decode, "null")))
        rc = err_set(e, DR_EUNSUPPORTED, "tokenizer.json: without a decoder");
    return rc;
}

/* {"single": [special…, {"Sequence": A}], "special_tokens": {name: {"ids": [id]}}} */
static int template(tokenizer *t, const json_t *o, dr_err *e)
{
    const json_t *single = json_object_get(o, "single"), *step;
    size_t i;
    bool seen = false;
    int rc = only(o, "type single pair special_tokens", e);
    if (rc) return rc;
    json_array_foreach((json_t *)single, i, step) {
        span name = str(json_object_get(step, "SpecialToken"), "id");
        if (json_object_get(step, "Sequence")) { seen = true; continue; }
        const json_t *ids_of = json_object_get(json_object_get(json_object_get(o, "special_tokens"),
                                                               name.p), "ids");
        json_int_t id = json_integer_value(json_array_get(ids_of, 0));
        if (!name.n || json_array_size(ids_of) != 1 || id < 0 || id >= t->v.n_ids)
            return err_set(e, DR_EFORMAT, "tokenizer.json: TemplateProcessing names a token that "
                           "is not there");
        if (seen || t->wants_bos)
            return err_set(e, DR_EUNSUPPORTED, "tokenizer.json: TemplateProcessing puts \"" SPAN_FMT
                           "\" %s", SPAN_ARG(name), seen ? "after the text" : "as a second token");
        t->bos = (int32_t)id, t->wants_bos = true;
    }
    return 0;
}

static int post_processor(tokenizer *t, const json_t *o, dr_err *e)
{
    if (!strcmp(type_of(o), "TemplateProcessing")) return template(t, o, e);
    if (!strcmp(type_of(o), "ByteLevel"))        /* only moves offsets */
        return only(o, "type add_prefix_space trim_offsets use_regex", e);
    return unknown(o, "the post_processor", e);
}

int tokjson_post(tokenizer *t, span post, dr_err *e)
{
    return read_steps(t, post, "processors", post_processor, e);
}

/* "bos_token": "<s>" or {"content": "<s>"}. */
static int32_t token_named(const tokenizer *t, span raw, dr_err *e)
{
    dr_err quiet = {0};
    json_t *o = json_read(raw.p, raw.n, BUDGET, "a token", &quiet);
    const json_t *s = json_is_object(o) ? json_object_get(o, "content") : o;
    int32_t id = -1;
    (void)e;
    if (json_is_string(s))
        id = tok_find(t, (span){ json_string_value(s), json_string_length(s) });
    json_decref(o);
    return id;
}

/* {"name": "tool_use", "template": "…"} */
static int named_template(tokenizer *t, span raw, dr_err *e)
{
    jw w;
    buf key = { .cap_max = raw.n + 1 }, name = { .cap_max = raw.n + 1 }, text = name;
    size_t n = 0;
    int more;
    jw_init(&w, raw, e);
    int rc = jw_open(&w, '{');
    while (!rc && (more = jw_next(&w, '}', &key, &n)) != 0) {
        span value;
        if (more < 0) rc = more;
        else if (span_is(buf_span(&key), "name")) rc = jw_string(&w, &name);
        else if (span_is(buf_span(&key), "template")) rc = jw_string(&w, &text);
        else rc = jw_skip(&w, &value);
    }
    if (!rc && text.n) rc = tok_keep_template(t, buf_span(&name), buf_span(&text), e);
    buf_free(&key);
    buf_free(&name);
    buf_free(&text);
    return rc;
}

/* A template, or a list of named ones. */
static int keep_template(tokenizer *t, span raw, dr_err *e)
{
    jw w;
    buf b = { .cap_max = raw.n + 1 };
    size_t n = 0;
    int rc = 0, more;
    jw_init(&w, raw, e);
    if (raw.n && *raw.p == '"') {
        rc = jw_string(&w, &b);
        if (!rc) rc = tok_keep_template(t, span_of(""), buf_span(&b), e);
    } else if (raw.n && *raw.p == '[') {
        rc = jw_open(&w, '[');
        while (!rc && (more = jw_next(&w, ']', NULL, &n)) != 0) {
            span one = { "", 0 };
            rc = more < 0 ? more : jw_skip(&w, &one);
            if (!rc && n > 64) rc = err_set(e, DR_EFORMAT, "more than 64 chat templates");
            if (!rc) rc = named_template(t, one, e);
        }
    }
    buf_free(&b);
    return rc;
}

int tok_read_config(tokenizer *t, span file, dr_err *e)
{
    jw w;
    buf key = { .cap_max = file.n + 1 };
    size_t n = 0;
    int rc, more;
    jw_init(&w, file, e);
    rc = jw_open(&w, '{');
    while (!rc && (more = jw_next(&w, '}', &key, &n)) != 0) {
        span raw = { "", 0 };
        int32_t id;
        rc = more < 0 ? more : jw_skip(&w, &raw);
        if (rc) break;
        if (span_is(buf_span(&key), "bos_token") && t->bos < 0) t->bos = token_named(t, raw, e);
        if (span_is(buf_span(&key), "eos_token") && (id = token_named(t, raw, e)) >= 0) {
            t->eos = id;
            t->eog[id >> 3] |= (uint8_t)(1 << (id & 7));
        }
        if (span_is(buf_span(&key), "add_bos_token") && span_is(raw, "true")) t->wants_bos = true;
        if (span_is(buf_span(&key), "chat_template")) rc = keep_template(t, raw, e);
    }
    buf_free(&key);
    return rc;
}
