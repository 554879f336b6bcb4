/* sample_opt.c - the sampler's options: defaults, names, ranges, a model's own wishes. */
#define _GNU_SOURCE
#include <math.h>
#include <string.h>
#include <sys/random.h>
#include "base/os.h"
#include "gen/sample.h"

static const char *const step_name[SAMPLE_N] = {
    "", "top_k", "typical_p", "top_p", "min_p", "xtc", "temperature"
};

const char *sample_step_name(sample_step s)
{
    return s > SAMPLE_END && s < SAMPLE_N ? step_name[s] : "";
}

sample_opt sample_opt_default(void)
{
    return (sample_opt){
        .temperature = 1, .top_p = 1, .typical_p = 1, .xtc_threshold = 0.1f,
        .repeat_penalty = 1, .penalty_last_n = 64,
        .dry_base = 1.75f, .dry_allowed_length = 2, .dry_last_n = -1,
        .order = { SAMPLE_TOP_K, SAMPLE_TYPICAL, SAMPLE_TOP_P, SAMPLE_MIN_P, SAMPLE_XTC,
                   SAMPLE_TEMPERATURE, SAMPLE_END }
    };
}

int sample_order_parse(sample_opt *o, const char *names, dr_err *e)
{
    sample_step order[SAMPLE_N];
    int n = 0;
    for (const char *p = names; *p; ) {
        size_t len = strcspn(p, ",; ");
        if (len) {
            sample_step s = SAMPLE_END + 1;
            while (s < SAMPLE_N && (strlen(step_name[s]) != len || memcmp(step_name[s], p, len)))
                s++;
            if (s == SAMPLE_N)
                return err_set(e, DR_EINVAL, "unknown sampling step '%.*s' (top_k, typical_p, "
                               "top_p, min_p, xtc, temperature are known)",
                               len > 40 ? 40 : (int)len, p);
            for (int i = 0; i < n; i++)
                if (order[i] == s)
                    return err_set(e, DR_EINVAL, "sampling step '%s' is given twice",
                                   step_name[s]);
            order[n++] = s;
        }
        p += len;
        if (*p) p++;
    }
    order[n] = SAMPLE_END;
    memcpy(o->order, order, sizeof order[0] * (size_t)(n + 1));
    return DR_OK;
}

int sample_opt_generation_config(sample_opt *o, const json_t *config, dr_err *e)
{
    if (!json_is_object(config))
        return err_set(e, DR_EFORMAT, "generation_config is not a JSON object");
    const struct { const char *key; float *to; } f[] = {
        { "temperature", &o->temperature }, { "top_p", &o->top_p }, { "min_p", &o->min_p },
        { "typical_p", &o->typical_p }, { "repetition_penalty", &o->repeat_penalty },
    };
    for (size_t i = 0; i < sizeof f / sizeof f[0]; i++) {
        const json_t *v = json_object_get(config, f[i].key);
        if (!v || json_is_null(v)) continue;
        if (!json_is_number(v))
            return err_set(e, DR_EFORMAT, "generation_config: %s is not a number", f[i].key);
        *f[i].to = (float)json_number_value(v);
    }
    const json_t *k = json_object_get(config, "top_k");
    if (json_is_integer(k)) {
        json_int_t n = json_integer_value(k);
        o->top_k = n > 0 && n < INT32_MAX ? (int)n : 0;
    }
    if (json_is_false(json_object_get(config, "do_sample"))) o->temperature = 0;
    /* transformers' repetition penalty looks at the whole text */
    if (json_object_get(config, "repetition_penalty")) o->penalty_last_n = -1;
    return DR_OK;
}

static int in_range(const char *name, double v, double lo, double hi, dr_err *e)
{
    if (v >= lo && v <= hi) return DR_OK;                    /* NaN fails */
    return err_set(e, DR_EINVAL, "%s is %g; it must be from %g to %g", name, v, lo, hi);
}

int sample_opt_check(const sample_opt *o, int32_t n_vocab, dr_err *e)
{
    const struct { const char *name; double v, lo, hi; } r[] = {
        { "temperature", o->temperature, 0, 1000 },
        { "top_k", o->top_k, 0, INT32_MAX },
        { "top_p", o->top_p, 0, 1 },
        { "min_p", o->min_p, 0, 1 },
        { "typical_p", o->typical_p, 0, 1 },
        { "xtc_probability", o->xtc_probability, 0, 1 },
        { "xtc_threshold", o->xtc_threshold, 0, 1 },
        { "repeat_penalty", o->repeat_penalty, 0.01, 100 },
        { "presence_penalty", o->presence_penalty, -100, 100 },
        { "frequency_penalty", o->frequency_penalty, -100, 100 },
        { "penalty_last_n", (double)o->penalty_last_n, -1, 1e12 },
        { "dry_multiplier", o->dry_multiplier, 0, 1000 },
        { "dry_base", o->dry_base, 1, 1000 },
        { "dry_allowed_length", o->dry_allowed_length, 1, 1e6 },
        { "dry_last_n", (double)o->dry_last_n, -1, 1e12 },
        { "n_probs", o->n_probs, 0, n_vocab },
    };
    for (size_t i = 0; i < sizeof r / sizeof r[0]; i++)
        if (in_range(r[i].name, r[i].v, r[i].lo, r[i].hi, e)) return DR_EINVAL;
    for (int i = 0; i < o->n_bias; i++) {
        if (o->bias[i].id < 0 || o->bias[i].id >= n_vocab)
            return err_set(e, DR_EINVAL, "logit bias for token %d, but the model has %d tokens",
                           (int)o->bias[i].id, (int)n_vocab);
        if (isnan(o->bias[i].add) || o->bias[i].add == INFINITY)
            return err_set(e, DR_EINVAL, "logit bias of token %d is not a number",
                           (int)o->bias[i].id);
    }
    return DR_OK;
}

uint64_t sample_new_seed(void)
{
    uint64_t x = 0;
    if (getrandom(&x, sizeof x, 0) != sizeof x) x = (uint64_t)os_now_ns() * 0x9e3779b97f4a7c15u;
    return x >> 11;
}
