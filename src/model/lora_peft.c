/* lora_peft.c - adapter_config.json, as PEFT's LoraConfig writes it: which kinds are read, and the
 * factor of each module. spec: peft 0.21, tuners/lora/config.py; utils/other.py for patterns. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <math.h>
#include <pcre2.h>
#include <string.h>
#include "model/lora.h"

/* Entries that change what an adapter computes, and that only a default value of is read. */
static const char *const not_read[] = {
    "use_dora", "lora_bias", "modules_to_save", "fan_in_fan_out", "layer_replication",
    "alora_invocation_tokens", "use_qalora", "target_parameters", "trainable_token_indices",
    "use_bdlora", "arrow_config", "kasa_config", "velora_config", "monteclora_config",
    "ensure_weight_tying",
};
/* init_lora_weights that move a part of the base weights into the adapter. */
static const char *const moved[] = { "pissa", "olora", "corda", "lora_ga" };

static bool is_set(const json_t *v)
{
    if (json_is_array(v)) return json_array_size(v) > 0;
    if (json_is_object(v)) return json_object_size(v) > 0;
    return v && !json_is_null(v) && !json_is_false(v);
}

int lora_peft_check(const json_t *c, dr_err *e)
{
    const char *type = json_string_value(json_object_get(c, "peft_type"));
    const char *bias = json_string_value(json_object_get(c, "bias"));
    const char *init = json_string_value(json_object_get(c, "init_lora_weights"));
    if (!type || strcmp(type, "LORA"))
        return err_set(e, DR_EUNSUPPORTED, "adapter_config.json: an adapter of type %.40s; LORA is "
                       "read", type ? type : "none");
    for (size_t i = 0; i < sizeof not_read / sizeof *not_read; i++)
        if (is_set(json_object_get(c, not_read[i])))
            return err_set(e, DR_EUNSUPPORTED, "adapter_config.json: %s is set, which is not read "
                           "here", not_read[i]);
    if (bias && strcmp(bias, "none"))
        return err_set(e, DR_EUNSUPPORTED, "adapter_config.json: bias is \"%.40s\"; only \"none\" is "
                       "read", bias);
    for (size_t i = 0; init && i < sizeof moved / sizeof *moved; i++)
        if (!strncmp(init, moved[i], strlen(moved[i])))
            return err_set(e, DR_EUNSUPPORTED, "adapter_config.json: init_lora_weights \"%.40s\" "
                           "changes the base weights: save the adapter with "
                           "path_initial_model_for_weight_conversion", init);
    if (!json_is_integer(json_object_get(c, "r")) || !json_is_number(json_object_get(c, "lora_alpha")))
        return err_set(e, DR_EFORMAT, "adapter_config.json: r and lora_alpha are wanted as numbers");
    return DR_OK;
}

/* re.match("(.*\.)?(KEY)$", module) */
static int matches(const char *key, const char *module, bool *yes, dr_err *e)
{
    char pattern[512];
    int n = snprintf(pattern, sizeof pattern, "^(?:(.*\\.)?(%s)$)", key), code;
    PCRE2_SIZE at;
    if (n >= (int)sizeof pattern)
        return err_set(e, DR_EUNSUPPORTED, "adapter_config.json: a pattern of %zu bytes", strlen(key));
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)pattern, (PCRE2_SIZE)n, PCRE2_DOLLAR_ENDONLY, &code,
                                   &at, NULL);
    if (!re)
        return err_set(e, DR_EFORMAT, "adapter_config.json: \"%.80s\" is not a pattern", key);
    pcre2_match_data *md = pcre2_match_data_create(1, NULL);
    pcre2_match_context *mc = pcre2_match_context_create(NULL);
    int rc = PCRE2_ERROR_NOMEMORY;
    if (md && mc) {
        pcre2_set_match_limit(mc, 100000);
        rc = pcre2_match(re, (PCRE2_SPTR)module, strlen(module), 0, 0, md, mc);
    }
    pcre2_match_context_free(mc);
    pcre2_match_data_free(md);
    pcre2_code_free(re);
    *yes = rc >= 0;
    if (rc >= 0 || rc == PCRE2_ERROR_NOMATCH) return DR_OK;
    if (rc == PCRE2_ERROR_NOMEMORY) return err_nomem(e, 0, "a pattern");
    return err_set(e, DR_EFORMAT, "adapter_config.json: \"%.80s\" takes too long to match", key);
}

/* The value of the first pattern that matches, else `otherwise`. */
static int by_pattern(const json_t *patterns, const char *module, double otherwise, double *v,
                      dr_err *e)
{
    const char *key;
    json_t *value;
    *v = otherwise;
    if (!is_set(patterns)) return DR_OK;
    if (!json_is_object(patterns))
        return err_set(e, DR_EFORMAT, "adapter_config.json: patterns are wanted as an object");
    json_object_foreach((json_t *)patterns, key, value) {
        bool yes;
        int rc = matches(key, module, &yes, e);
        if (rc) return rc;
        if (!yes) continue;
        if (!json_is_number(value))
            return err_set(e, DR_EFORMAT, "adapter_config.json: the value of pattern \"%.80s\" is "
                           "not a number", key);
        *v = json_number_value(value);
        return DR_OK;
    }
    return DR_OK;
}

int lora_peft_scale(const json_t *c, const char *module, int64_t r, double *scale, dr_err *e)
{
    double rank, alpha;
    int rc = by_pattern(json_object_get(c, "rank_pattern"), module,
                        json_number_value(json_object_get(c, "r")), &rank, e);
    if (!rc)
        rc = by_pattern(json_object_get(c, "alpha_pattern"), module,
                        json_number_value(json_object_get(c, "lora_alpha")), &alpha, e);
    if (rc) return rc;
    if (rank != (double)r)
        return err_set(e, DR_EFORMAT, "%s: adapter_config.json says rank %g, A has %lld rows", module,
                       rank, (long long)r);
    *scale = alpha / (json_is_true(json_object_get(c, "use_rslora")) ? sqrt(rank) : rank);
    return DR_OK;
}
