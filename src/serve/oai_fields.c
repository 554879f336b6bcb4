/* oai_fields.c - the fields of OpenAI's requests: what each does, or why it is refused. docs/serve.md has
 * the same list for users. */
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "base/os.h"
#include "serve/oai.h"

#define MAX_SCHEMA ((size_t)4 << 20)

static oai_req *of(void *to) { return to; }

/* ---- fields that are more than a number */

static int set_stop(void *to, const field *f, json_t *v, dr_err *e)
{
    oai_req *r = of(to);
    size_t n = json_is_array(v) ? json_array_size(v) : 1;
    (void)f;
    if (n > OAI_STOPS) return err_set(e, DR_EINVAL, "stop has %zu strings; at most %d are possible", n, OAI_STOPS);
    for (size_t i = 0; i < n; i++) {
        const json_t *s = json_is_array(v) ? json_array_get(v, i) : v;
        if (!json_is_string(s) || !json_string_length(s))
            return err_set(e, DR_EINVAL, "stop has to be a string or a list of strings, none of them empty");
        r->stop[i] = json_string_value(s);
    }
    r->c.req.stop = r->stop, r->c.req.n_stop = (int)n;
    return DR_OK;
}

static int set_bias(void *to, const field *f, json_t *v, dr_err *e)
{
    oai_req *r = of(to);
    const char *key;
    json_t *x;
    size_t n = json_object_size(v);
    (void)f;
    if (!json_is_object(v)) return err_set(e, DR_EINVAL, "logit_bias has to be an object of token ids and numbers");
    if (n > OAI_BIAS) return err_set(e, DR_EINVAL, "logit_bias has %zu tokens; at most %d are possible", n, OAI_BIAS);
    if (!n) return DR_OK;
    mem_free(r->bias);
    r->n_bias = 0;
    r->bias = mem_zalloc(n, sizeof *r->bias);
    if (!r->bias) return err_nomem(e, n * sizeof *r->bias, "logit_bias");
    json_object_foreach((json_t *)(uintptr_t)v, key, x) {
        char *end;
        long id = strtol(key, &end, 10);
        double add = json_number_value(x);
        if (!*key || *end || id < 0 || id > INT32_MAX)
            return err_set(e, DR_EINVAL, "logit_bias: '%.40s' is not a token id", key);
        if (!json_is_number(x) || !(add >= -100 && add <= 100))
            return err_set(e, DR_EINVAL, "logit_bias of token %ld has to be a number from -100 to 100", id);
        r->bias[r->n_bias++] = (sample_bias){ (int32_t)id, add <= -100 ? -INFINITY : (float)add };
    }
    r->c.req.sample.bias = r->bias, r->c.req.sample.n_bias = r->n_bias;
    return DR_OK;
}

static int set_seed(void *to, const field *f, json_t *v, dr_err *e)
{
    of(to)->has_seed = true;
    if (!json_is_integer(v)) return err_set(e, DR_EINVAL, "%s has to be a whole number", f->name);
    of(to)->seed = json_integer_value(v);
    return DR_OK;
}

static int set_ends(void *to, const field *f, json_t *v, dr_err *e)
{
    oai_req *r = of(to);
    int rc = DR_OK;
    r->ends.n = 0;
    for (size_t i = 0; i < json_array_size(v) && !rc; i++) {
        const json_t *x = json_array_get(v, i);
        if (!json_is_integer(x) || json_integer_value(x) < 0 || json_integer_value(x) > INT32_MAX)
            return err_set(e, DR_EINVAL, "%s has to be a list of token ids", f->name);
        rc = ids_put(&r->ends, (int32_t)json_integer_value(x), e);
    }
    if (!json_is_array(v)) return err_set(e, DR_EINVAL, "%s has to be a list of token ids", f->name);
    r->c.req.end = r->ends.p, r->c.req.n_end = (int)r->ends.n;
    return rc;
}

static int set_stream_options(void *to, const field *f, json_t *v, dr_err *e)
{
    oai_req *r = of(to);
    const char *key;
    json_t *x;
    if (!json_is_object(v)) return err_set(e, DR_EINVAL, "%s has to be an object", f->name);
    json_object_foreach((json_t *)(uintptr_t)v, key, x) {
        if (json_is_null(x)) continue;
        if (!json_is_boolean(x)) return err_set(e, DR_EINVAL, "stream_options.%.40s has to be true or false", key);
        if (!strcmp(key, "include_usage")) r->usage = json_is_true(x);
        else if (!strcmp(key, "continuous_usage_stats")) r->usage_each = json_is_true(x);
        else if (strcmp(key, "include_obfuscation"))
            return err_set(e, DR_EINVAL, "unknown field stream_options.%.40s", key);
        else if (json_is_true(x))
            return err_set(e, DR_EUNSUPPORTED, "stream_options.include_obfuscation is not supported");
    }
    return DR_OK;
}

/* ---- the form of the answer */

static int set_schema(oai_req *r, const json_t *schema, const char *name, dr_err *e)
{
    buf b = { .cap_max = 2 * MAX_SCHEMA };
    if (!json_is_object(schema) && !json_is_boolean(schema))
        return err_set(e, DR_EINVAL, "%s has no schema, an object", name);
    if (json_dumpb(schema, NULL, 0, JSON_COMPACT | JSON_ENCODE_ANY) > MAX_SCHEMA)
        return err_set(e, DR_EINVAL, "the schema of %s is above %zu bytes", name, MAX_SCHEMA);
    chat_tojson(&b, schema, 0, false);
    if (b.bad) {
        buf_free(&b);
        return err_nomem(e, b.n, "a schema");
    }
    mem_free(r->schema);
    r->schema = b.p;                                     // 0-ended; freed with the request
    r->c.format = CALL_JSON_SCHEMA, r->c.schema = (span){ b.p, b.n };
    return DR_OK;
}

int oai_format(oai_req *r, const json_t *v, const char *name, dr_err *e)
{
    const char *type = json_string_value(json_object_get(v, "type")), *key;
    const json_t *in = v;
    json_t *x;
    bool flat = r->api == OAI_RESPONSES;
    if (!type) return err_set(e, DR_EINVAL, "%s has to be an object with a type", name);
    bool schema = !strcmp(type, "json_schema");
    if (schema && !flat) in = json_object_get(v, "json_schema");
    json_object_foreach((json_t *)(uintptr_t)v, key, x)
        if (strcmp(key, "type") && !(schema && (flat || !strcmp(key, "json_schema"))))
            return err_set(e, DR_EINVAL, "unknown field %s.%.40s", name, key);
    if (!strcmp(type, "text")) return r->c.format = CALL_TEXT_FORMAT, DR_OK;
    if (!strcmp(type, "json_object")) return r->c.format = CALL_JSON_OBJECT, DR_OK;
    if (!schema) return err_set(e, DR_EINVAL, "%s.type is '%.40s'; text, json_object and json_schema are known", name,
                                type);
    if (!json_is_object(in)) return err_set(e, DR_EINVAL, "%s.json_schema has to be an object", name);
    json_object_foreach((json_t *)(uintptr_t)in, key, x) {
        bool text = !strcmp(key, "name") || !strcmp(key, "description") || !strcmp(key, "type");
        if (text && !json_is_null(x) && !json_is_string(x))
            return err_set(e, DR_EINVAL, "%s: %s has to be a string", name, key);
        if (!strcmp(key, "strict") && !json_is_null(x) && !json_is_boolean(x))
            return err_set(e, DR_EINVAL, "%s: strict has to be true or false", name);
        if (!text && strcmp(key, "strict") && strcmp(key, "schema"))
            return err_set(e, DR_EINVAL, "unknown field %.40s of %s", key, name);
    }
    return set_schema(r, json_object_get(in, "schema"), name, e);
}

static int set_format(void *to, const field *f, json_t *v, dr_err *e) { return oai_format(to, v, f->name, e); }

int oai_tool_choice(oai_req *r, const json_t *v, bool flat, dr_err *e)
{
    static const struct { const char *name; call_tools as; } word[] = {
        { "auto", CALL_TOOLS_AUTO }, { "none", CALL_TOOLS_NONE }, { "required", CALL_TOOLS_REQUIRED },
    };
    const char *s = json_string_value(v), *type = json_string_value(json_object_get(v, "type"));
    for (int i = 0; s && i < 3; i++)
        if (!strcmp(s, word[i].name)) return r->c.tool_choice = word[i].as, DR_OK;
    if (s) return err_set(e, DR_EINVAL, "tool_choice is '%.40s'; auto, none, required or a function is possible", s);
    if (!type) return err_set(e, DR_EINVAL, "tool_choice has to be a word or an object with a type");
    if (strcmp(type, "function"))
        return err_set(e, DR_EUNSUPPORTED, "tool_choice of type '%.40s' is not supported; function is", type);
    r->c.tool_name = json_string_value(json_object_get(flat ? v : json_object_get(v, "function"), "name"));
    if (!r->c.tool_name) return err_set(e, DR_EINVAL, "tool_choice does not say the function's name");
    r->c.tool_choice = CALL_TOOLS_NAMED;
    return DR_OK;
}

static int set_tool_choice(void *to, const field *f, json_t *v, dr_err *e)
{
    (void)f;
    return oai_tool_choice(to, v, false, e);
}

static int set_parallel(void *to, const field *f, json_t *v, dr_err *e)
{
    (void)f;
    if (!json_is_boolean(v)) return err_set(e, DR_EINVAL, "parallel_tool_calls has to be true or false");
    of(to)->c.one_tool = json_is_false(v);
    return DR_OK;
}

static int set_modalities(void *to, const field *f, json_t *v, dr_err *e)
{
    (void)to, (void)f;
    const char *one = json_string_value(json_array_get(v, 0));
    if (json_array_size(v) == 1 && one && !strcmp(one, "text")) return DR_OK;
    return err_set(e, DR_EUNSUPPORTED, "modalities other than [\"text\"] are not supported");
}

static int set_metadata(void *to, const field *f, json_t *v, dr_err *e)
{
    const char *key;
    json_t *x;
    if (!json_is_object(v)) return err_set(e, DR_EINVAL, "%s has to be an object of strings", f->name);
    if (json_object_size(v) > 16) return err_set(e, DR_EINVAL, "%s has more than 16 members", f->name);
    json_object_foreach((json_t *)(uintptr_t)v, key, x)
        if (!json_is_string(x)) return err_set(e, DR_EINVAL, "%s.%.40s has to be a string", f->name, key);
    of(to)->metadata = v;
    return DR_OK;
}

static int set_documents(void *to, const field *f, json_t *v, dr_err *e)
{
    oai_req *r = of(to);
    if (!json_is_array(v)) return err_set(e, DR_EINVAL, "%s has to be a list", f->name);
    if (!r->kwargs) r->kwargs = json_object();
    return r->kwargs && !json_object_set(r->kwargs, "documents", (json_t *)(uintptr_t)v) ? DR_OK
         : err_nomem(e, 64, "documents");
}

static int set_kwargs(void *to, const field *f, json_t *v, dr_err *e)
{
    oai_req *r = of(to);
    if (!json_is_object(v)) return err_set(e, DR_EINVAL, "%s has to be an object", f->name);
    if (!r->kwargs) r->kwargs = json_object();
    return r->kwargs && !json_object_update(r->kwargs, (json_t *)(uintptr_t)v) ? DR_OK
         : err_nomem(e, 64, "the template's variables");
}

static int set_format_word(void *to, const field *f, json_t *v, dr_err *e)
{
    const char *s = json_string_value(v);
    if (s && !strcmp(s, "float")) return of(to)->base64 = false, DR_OK;
    if (s && !strcmp(s, "base64")) return of(to)->base64 = true, DR_OK;
    return err_set(e, DR_EINVAL, "%s has to be float or base64", f->name);
}

static int set_pooling(void *to, const field *f, json_t *v, dr_err *e)
{
    const char *s = json_string_value(v);
    if (s && !strcmp(s, "mean")) return of(to)->last = false, DR_OK;
    if (s && !strcmp(s, "last")) return of(to)->last = true, DR_OK;
    return err_set(e, DR_EINVAL, "%s has to be mean or last", f->name);
}

static int set_text(void *to, const field *f, json_t *v, dr_err *e)
{
    const char *key;
    json_t *x;
    int rc = DR_OK;
    if (!json_is_object(v)) return err_set(e, DR_EINVAL, "%s has to be an object", f->name);
    json_object_foreach((json_t *)(uintptr_t)v, key, x) {
        if (json_is_null(x)) continue;
        if (!strcmp(key, "format")) rc = oai_format(to, x, "text.format", e);
        else if (strcmp(key, "verbosity")) rc = err_set(e, DR_EINVAL, "unknown field text.%.40s", key);
        else if (!json_is_string(x) || strcmp(json_string_value(x), "medium"))
            rc = err_set(e, DR_EUNSUPPORTED, "text.verbosity other than medium is not supported");
        if (rc) return rc;
    }
    of(to)->text = v;
    return rc;
}

static int set_include(void *to, const field *f, json_t *v, dr_err *e)
{
    if (!json_is_array(v)) return err_set(e, DR_EINVAL, "%s has to be a list", f->name);
    for (size_t i = 0; i < json_array_size(v); i++) {
        const char *s = json_string_value(json_array_get(v, i));
        if (s && !strcmp(s, "message.output_text.logprobs")) of(to)->want_logprobs = true;
        else if (!s || strcmp(s, "reasoning.encrypted_content"))     // there is no reasoning to give out
            return err_set(e, DR_EUNSUPPORTED, "include: '%.60s' is not supported", s ? s : "?");
    }
    return DR_OK;
}

static int set_reasoning(void *to, const field *f, json_t *v, dr_err *e)
{
    const char *key;
    json_t *x;
    (void)to;
    json_object_foreach((json_t *)(uintptr_t)v, key, x)
        if (!json_is_null(x) && strcmp(key, "summary") && strcmp(key, "generate_summary"))
            return err_set(e, DR_EUNSUPPORTED, "%s.%.40s is not supported", f->name, key);
    return json_is_object(v) ? DR_OK : err_set(e, DR_EINVAL, "%s has to be an object", f->name);
}

/* ---- the table */

#define R(m) offsetof(oai_req, m)
#define S(m) offsetof(oai_req, c.req.sample.m)
#define Q(m) offsetof(oai_req, c.req.m)
enum { CT = OAI_CHAT | OAI_TEXT, CTR = CT | OAI_RESPONSES, CR = OAI_CHAT | OAI_RESPONSES, ANY = CTR | OAI_EMBED };

static const field FIELDS[] = {
    { "model", FIELD_TEXT, R(model), .of = ANY },
    { "messages", FIELD_ANY, R(c.messages), .of = OAI_CHAT },
    { "prompt", FIELD_ANY, R(prompt), .of = OAI_TEXT },
    { "input", FIELD_ANY, R(prompt), .of = OAI_RESPONSES | OAI_EMBED },
    { "instructions", FIELD_TEXT, R(instructions), .of = OAI_RESPONSES },
    { "stream", FIELD_BOOL, R(stream), .of = CTR },
    { "stream_options", FIELD_SET, .set = set_stream_options, .of = CTR },
    { "max_tokens", FIELD_INT, R(max_tokens), 0, 1 << 24, .of = CT },
    { "max_completion_tokens", FIELD_INT, R(max_completion_tokens), 0, 1 << 24, .of = OAI_CHAT },
    { "max_output_tokens", FIELD_INT, R(max_tokens), 1, 1 << 24, .of = OAI_RESPONSES },
    { "n", FIELD_INT, R(n), 1, ENGINE_SAMPLES_MAX, .of = CT },
    { "best_of", FIELD_INT, R(best_of), 1, ENGINE_SAMPLES_MAX, .of = OAI_TEXT },
    { "echo", FIELD_BOOL, R(echo), .of = OAI_TEXT },
    { "stop", FIELD_SET, .set = set_stop, .of = CT },
    { "seed", FIELD_SET, R(seed), .set = set_seed, .of = CT },
    { "temperature", FIELD_FLOAT, S(temperature), 0, 2, .of = CTR },
    { "top_p", FIELD_FLOAT, S(top_p), 0, 1, .of = CTR },
    { "presence_penalty", FIELD_FLOAT, S(presence_penalty), -2, 2, .of = CT },
    { "frequency_penalty", FIELD_FLOAT, S(frequency_penalty), -2, 2, .of = CT },
    { "logit_bias", FIELD_SET, .set = set_bias, .of = CT },
    { "logprobs", FIELD_BOOL, R(logprobs), .of = OAI_CHAT },
    { "logprobs", FIELD_INT, R(text_logprobs), 0, ENGINE_TOP_MAX, .of = OAI_TEXT },
    { "top_logprobs", FIELD_INT, R(top_logprobs), 0, ENGINE_TOP_MAX, .of = CR },
    { "response_format", FIELD_SET, .set = set_format, .of = CT },
    { "text", FIELD_SET, .set = set_text, .of = OAI_RESPONSES },
    { "tools", FIELD_ANY, R(c.tools), .of = OAI_CHAT },
    { "tools", FIELD_ANY, R(tools_given), .of = OAI_RESPONSES },
    { "tool_choice", FIELD_SET, .set = set_tool_choice, .of = OAI_CHAT },
    { "tool_choice", FIELD_ANY, R(tool_choice), .of = OAI_RESPONSES },
    { "parallel_tool_calls", FIELD_SET, .set = set_parallel, .of = CR },
    { "encoding_format", FIELD_SET, .set = set_format_word, .of = OAI_EMBED },
    { "dimensions", FIELD_INT, R(dimensions), 1, 1 << 20, .of = OAI_EMBED },
    { "pooling", FIELD_SET, .set = set_pooling, .of = OAI_EMBED },
    /* drover's own, and those of vLLM and llama-server that mean the same there */
    { "top_k", FIELD_INT, S(top_k), -1, 1 << 24, .of = CTR },
    { "min_p", FIELD_FLOAT, S(min_p), 0, 1, .of = CTR },
    { "typical_p", FIELD_FLOAT, S(typical_p), 0, 1, .of = CTR },
    { "repetition_penalty", FIELD_FLOAT, S(repeat_penalty), 0.01, 100, .of = CTR },
    { "repeat_penalty", FIELD_FLOAT, S(repeat_penalty), 0.01, 100, .of = CTR },
    { "repeat_last_n", FIELD_INT64, S(penalty_last_n), -1, 1 << 24, .of = CTR },
    { "xtc_probability", FIELD_FLOAT, S(xtc_probability), 0, 1, .of = CTR },
    { "xtc_threshold", FIELD_FLOAT, S(xtc_threshold), 0, 1, .of = CTR },
    { "dry_multiplier", FIELD_FLOAT, S(dry_multiplier), 0, 100, .of = CTR },
    { "dry_base", FIELD_FLOAT, S(dry_base), 1, 100, .of = CTR },
    { "dry_allowed_length", FIELD_INT, S(dry_allowed_length), 1, 1 << 20, .of = CTR },
    { "seed", FIELD_SET, R(seed), .set = set_seed, .of = OAI_RESPONSES },
    { "min_tokens", FIELD_INT, Q(min_tokens), 0, 1 << 24, .of = CTR },
    { "ignore_eos", FIELD_BOOL, Q(ignore_eos), .of = CTR },
    { "stop_token_ids", FIELD_SET, .set = set_ends, .of = CTR },
    { "include_stop_str_in_output", FIELD_BOOL, Q(keep_stop), .of = CT },
    { "skip_special_tokens", FIELD_BOOL, R(skip_special), .of = CTR },
    { "chat_template_kwargs", FIELD_SET, .set = set_kwargs, .of = CR },
    { "documents", FIELD_SET, .set = set_documents, .of = OAI_CHAT },
    { "continue_final_message", FIELD_BOOL, R(c.go_on), .of = OAI_CHAT },
    { "grammar", FIELD_TEXT, R(grammar), .of = CTR },
    { "regex", FIELD_TEXT, R(regex), .of = CTR },
    { "priority", FIELD_INT, Q(priority), -1000, 1000, .of = CTR },
    { "timeout", FIELD_FLOAT, R(timeout), 0, 1e6, .of = CTR },
    { "cache_prompt", FIELD_BOOL, R(cache_prompt), .of = CTR },
    /* there is nothing that these could change */
    { "user", FIELD_UNUSED, .of = ANY },
    { "safety_identifier", FIELD_UNUSED, .of = CR },
    { "prompt_cache_key", FIELD_UNUSED, .of = CR },
    { "prompt_cache_retention", FIELD_UNUSED, .of = CR },
    { "metadata", FIELD_SET, .set = set_metadata, .of = CR },
    { "service_tier", FIELD_REFUSED, .also = "auto|default", .of = CR },
    { "modalities", FIELD_SET, .set = set_modalities, .of = OAI_CHAT },
    { "include", FIELD_SET, .set = set_include, .of = OAI_RESPONSES },
    { "reasoning", FIELD_SET, .set = set_reasoning, .of = OAI_RESPONSES },
    /* only as what they are by default */
    { "store", FIELD_REFUSED, .of = CR },
    { "background", FIELD_REFUSED, .of = OAI_RESPONSES },
    { "truncation", FIELD_REFUSED, .also = "disabled", .of = OAI_RESPONSES },
    { "verbosity", FIELD_REFUSED, .also = "medium", .of = OAI_CHAT },
    { "suffix", FIELD_REFUSED, .of = OAI_TEXT },
    /* refused */
    { "functions", FIELD_REFUSED, .why = "tools take its place", .of = OAI_CHAT },
    { "function_call", FIELD_REFUSED, .why = "tool_choice takes its place", .of = OAI_CHAT },
    { "audio", FIELD_REFUSED, .why = "these models write text alone", .of = OAI_CHAT },
    { "image", FIELD_REFUSED, .why = "these models read text alone", .of = OAI_RESPONSES },
    { "prediction", FIELD_REFUSED, .why = "guesses are made from the text so far", .of = OAI_CHAT },
    { "reasoning_effort", FIELD_REFUSED, .why = "chat_template_kwargs carries what a model's template knows", .of = OAI_CHAT },
    { "web_search_options", FIELD_REFUSED, .why = "the server does not search", .of = OAI_CHAT },
    { "moderation", FIELD_REFUSED, .why = "the server does not judge", .of = CR },
    { "prompt_cache_options", FIELD_REFUSED, .why = "every prompt's beginning is kept as long as there is room", .of = CR },
    { "previous_response_id", FIELD_REFUSED, .why = "no response is kept; send the conversation in input", .of = OAI_RESPONSES },
    { "conversation", FIELD_REFUSED, .why = "no conversation is kept; send it in input", .of = OAI_RESPONSES },
    { "context_management", FIELD_REFUSED, .why = "nothing is ever cut from a conversation", .of = OAI_RESPONSES },
    { "max_tool_calls", FIELD_REFUSED, .why = "there are no tools that the server runs", .of = OAI_RESPONSES },
    { "prompt", FIELD_REFUSED, .why = "there are no stored prompts", .of = OAI_RESPONSES },
    { "background_options", FIELD_REFUSED, .why = "responses are not made in the background", .of = OAI_RESPONSES },
    { "access_programs", FIELD_REFUSED, .why = "there are none", .of = OAI_RESPONSES },
    { NULL }
};

/* ---- what the fields mean together */

static int limits(oai_req *r, const char **param, dr_err *e)
{
    engine_req *q = &r->c.req;
    int a = r->max_tokens, b = r->max_completion_tokens;
    *param = "max_tokens";
    if (a >= 0 && b >= 0 && a != b)
        return err_set(e, DR_EINVAL, "max_tokens is %d and max_completion_tokens is %d; one of them is wanted", a, b);
    if (a < 0) a = b;
    if (a == 0 && r->api != OAI_TEXT) return err_set(e, DR_EINVAL, "max_tokens is 0; at least 1 is wanted");
    if (a < 0 && r->api == OAI_TEXT) a = 16;             // as OpenAI's completions do
    q->max_tokens = a;
    *param = "best_of";
    if (r->best_of && r->best_of != r->n)
        return err_set(e, DR_EUNSUPPORTED, "best_of is %d and n is %d; others than n are not supported", r->best_of,
                       r->n);
    q->n_samples = r->n;
    *param = NULL;
    return DR_OK;
}

static int probabilities(oai_req *r, const char **param, dr_err *e)
{
    sample_opt *s = &r->c.req.sample;
    s->logprobs = false, s->n_probs = 0;
    *param = "top_logprobs";
    if (r->api == OAI_CHAT) {
        if (r->top_logprobs > 0 && !r->logprobs)
            return err_set(e, DR_EINVAL, "top_logprobs wants logprobs: true");
        s->logprobs = r->logprobs;
    } else if (r->api == OAI_RESPONSES) {
        s->logprobs = r->logprobs = r->want_logprobs || r->top_logprobs > 0;
    } else if (r->text_logprobs >= 0) {
        s->logprobs = r->logprobs = true;
        r->top_logprobs = r->text_logprobs;
        if (r->echo) r->c.req.prompt_probs = r->text_logprobs;
    }
    if (s->logprobs && r->top_logprobs > 0) s->n_probs = r->top_logprobs;
    *param = NULL;
    return DR_OK;
}

static int form(oai_req *r, const char **param, dr_err *e)
{
    int n = (r->c.format != CALL_TEXT_FORMAT) + (r->grammar != NULL) + (r->regex != NULL);
    *param = r->grammar ? "grammar" : r->regex ? "regex" : "response_format";
    if (n > 1) return err_set(e, DR_EINVAL, "one of response_format, grammar and regex is wanted, not %d", n);
    if (r->grammar) r->c.format = CALL_GBNF, r->c.schema = span_of(r->grammar);
    if (r->regex) r->c.format = CALL_REGEX, r->c.schema = span_of(r->regex);
    *param = NULL;
    return DR_OK;
}

int oai_read(oai_req *r, int api, json_t *body, const served *s, const char **param, dr_err *e)
{
    *r = (oai_req){ .api = api, .body = json_incref(body), .n = 1, .max_tokens = -1, .max_completion_tokens = -1,
                    .top_logprobs = -1, .text_logprobs = -1, .cache_prompt = true, .skip_special = true };
    call_opt_init(&r->c, s);
    int rc = fields_read_of(FIELDS, (unsigned)api, body, r, "", param, e);
    if (rc) return rc;
    if (r->c.req.sample.top_k < 0) r->c.req.sample.top_k = 0;
    if (r->c.req.sample.typical_p <= 0) r->c.req.sample.typical_p = 1;
    r->c.req.sample.seed = r->has_seed ? (uint64_t)r->seed : sample_new_seed();
    r->c.req.show_special = !r->skip_special;
    r->c.req.no_cache = !r->cache_prompt;
    if (r->timeout > 0) r->c.req.deadline_ns = os_now_ns() + (int64_t)((double)r->timeout * 1e9);
    r->c.kwargs = r->kwargs;
    if ((rc = limits(r, param, e)) || (rc = probabilities(r, param, e)) || (rc = form(r, param, e))) return rc;
    if (r->c.req.min_tokens > 0 && r->c.req.max_tokens >= 0 && r->c.req.min_tokens > r->c.req.max_tokens)
        return *param = "min_tokens", err_set(e, DR_EINVAL, "min_tokens is %d and at most %d tokens are asked for",
                                              r->c.req.min_tokens, r->c.req.max_tokens);
    *param = "logit_bias";
    for (int i = 0; i < r->n_bias; i++)
        if (r->bias[i].id >= tok_count(s->tok))
            return err_set(e, DR_EINVAL, "logit_bias: there is no token %d; ids are below %d", r->bias[i].id,
                           tok_count(s->tok));
    *param = NULL;
    return sample_opt_check(&r->c.req.sample, tok_count(s->tok), e);
}

void oai_req_free(oai_req *r)
{
    mem_free(r->bias);
    mem_free(r->schema);
    ids_free(&r->ends);
    json_decref(r->kwargs);
    json_decref(r->tools);
    json_decref(r->body);
    *r = (oai_req){ 0 };
}
