/* sample_args.c - see sample_args.h. */
#include "cli/sample_args.h"
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "gen/beside.h"

#define AT(f) offsetof(sample_args, f)

const opt sample_opts[] = {
    { .kind = OPT_HEAD, .help = "Sampling (defaults: the model's own, or as given)" },
    { 0, "temp", OPT_FLOAT, AT(temp), "T", "temperature; 0 takes the best token (0.7)", 0, 1000 },
    { 0, "top-k", OPT_INT, AT(top_k), "N", "only the best N tokens; 0: all (0)", 0, 1 << 30 },
    { 0, "top-p", OPT_FLOAT, AT(top_p), "P", "only the best that make up P; 1: all (0.95)", 0, 1 },
    { 0, "min-p", OPT_FLOAT, AT(min_p), "P",
      "only those with P times the best one's probability; 0: all (0)", 0, 1 },
    { 0, "typical-p", OPT_FLOAT, AT(typical_p), "P", "locally typical sampling; 1: off", 0, 1 },
    { 's', "seed", OPT_INT64, AT(seed), "N", "seed of the draws; -1: a new one (-1)",
      -1, 9007199254740992.0 },
    { 0, "repeat-penalty", OPT_FLOAT, AT(repeat_penalty), "X",
      "divide the logits of recent tokens by X; 1: off", 0.01, 100 },
    { 0, "presence-penalty", OPT_FLOAT, AT(presence_penalty), "X",
      "take X from the logits of recent tokens; 0: off", -100, 100 },
    { 0, "frequency-penalty", OPT_FLOAT, AT(frequency_penalty), "X",
      "take X for each time a token occurred; 0: off", -100, 100 },
    { 0, "repeat-last-n", OPT_INT64, AT(repeat_last_n), "N",
      "what recent means to these three; -1: all (64)", -1, 1e9 },
    { 0, "dry-multiplier", OPT_FLOAT, AT(dry_multiplier), "X",
      "DRY: penalise continuing a repetition; 0: off", 0, 1000 },
    { 0, "dry-base", OPT_FLOAT, AT(dry_base), "X", "DRY: growth with each token (1.75)", 1, 1000 },
    { 0, "dry-allowed-length", OPT_INT, AT(dry_allowed_length), "N",
      "DRY: repetitions up to N are free (2)", 1, 1000000 },
    { 0, "dry-last-n", OPT_INT64, AT(dry_last_n), "N", "DRY: tokens looked at; -1: all", -1, 1e9 },
    { 0, "dry-breaker", OPT_LIST, AT(dry_breakers), "TEXT",
      "DRY: a repetition ends at tokens with TEXT (\\n : \" *); may be given again" },
    { 0, "xtc-probability", OPT_FLOAT, AT(xtc_probability), "P",
      "XTC: drop top choices with probability P; 0: off", 0, 1 },
    { 0, "xtc-threshold", OPT_FLOAT, AT(xtc_threshold), "P",
      "XTC: those above P but for the last of them (0.1)", 0, 1 },
    { 0, "logit-bias", OPT_LIST, AT(bias), "ID=X",
      "add X to the logit of token ID; \"never\": not that one; may be given again" },
    { 0, "order", OPT_STR, AT(order), "NAMES",
      "steps in this order: top_k,typical_p,top_p,min_p,xtc,temperature" },
    { 0, "logprobs", OPT_FLAG, AT(logprobs), NULL, "with --json: log-probability of each token" },
    { 0, "n-probs", OPT_INT, AT(n_probs), "N", "with --json: and the best N at each place",
      0, 1000 },
    OPT_END
};

int sample_args_default(sample_args *a, const tensors *ts, dr_err *e)
{
    sample_opt o;
    int rc = beside_sample(&o, ts, e);
    if (rc != DR_OK) return rc;
    *a = (sample_args){
        .temp = o.temperature, .top_k = o.top_k, .top_p = o.top_p, .min_p = o.min_p,
        .typical_p = o.typical_p, .xtc_probability = o.xtc_probability,
        .xtc_threshold = o.xtc_threshold, .repeat_penalty = o.repeat_penalty,
        .presence_penalty = o.presence_penalty, .frequency_penalty = o.frequency_penalty,
        .repeat_last_n = o.penalty_last_n, .dry_multiplier = o.dry_multiplier,
        .dry_base = o.dry_base, .dry_allowed_length = o.dry_allowed_length,
        .dry_last_n = o.dry_last_n, .seed = -1,
    };
    return DR_OK;
}

/* "128=-1.5", "128=never" */
static int one_bias(const char *s, sample_bias *b, dr_err *e)
{
    char *end;
    long id = strtol(s, &end, 10);
    if (end == s || *end != '=' || id < 0 || id > INT32_MAX)
        return err_set(e, DR_EINVAL, "--logit-bias wants ID=X, not \"%.80s\"", s);
    const char *v = end + 1;
    double x = strcmp(v, "never") ? strtod(v, &end) : -INFINITY;
    if (strcmp(v, "never") && (end == v || *end || !isfinite(x)))
        return err_set(e, DR_EINVAL, "--logit-bias %ld: a number or \"never\" is wanted, not "
                       "\"%.80s\"", id, v);
    *b = (sample_bias){ (int32_t)id, (float)x };
    return DR_OK;
}

static int breakers(const sample_args *a, const tokenizer *t, sample_set *s, dr_err *e)
{
    static const char *const usual[] = { "\n", ":", "\"", "*" };
    const char *v[OPT_LIST_MAX];
    int n = a->dry_breakers.n;
    for (int i = 0; i < n; i++)
        v[i] = strcmp(a->dry_breakers.v[i], "\\n") ? a->dry_breakers.v[i] : "\n";
    int rc = sample_dry_breakers(t, n ? v : usual, n ? n : 4, &s->breakers, e);
    s->opt.dry_breakers = s->breakers.p, s->opt.n_dry_breakers = s->breakers.n;
    return rc;
}

int sample_args_apply(const sample_args *a, const tokenizer *t, int32_t n_vocab, sample_set *s,
                      dr_err *e)
{
    *s = (sample_set){ .opt = sample_opt_default() };
    sample_opt *o = &s->opt;
    o->temperature = a->temp, o->top_k = a->top_k, o->top_p = a->top_p, o->min_p = a->min_p;
    o->typical_p = a->typical_p, o->xtc_probability = a->xtc_probability;
    o->xtc_threshold = a->xtc_threshold, o->repeat_penalty = a->repeat_penalty;
    o->presence_penalty = a->presence_penalty, o->frequency_penalty = a->frequency_penalty;
    o->penalty_last_n = a->repeat_last_n, o->dry_multiplier = a->dry_multiplier;
    o->dry_base = a->dry_base, o->dry_allowed_length = a->dry_allowed_length;
    o->dry_last_n = a->dry_last_n;
    o->seed = a->seed < 0 ? sample_new_seed() : (uint64_t)a->seed;
    o->logprobs = a->logprobs || a->n_probs > 0, o->n_probs = a->n_probs;
    int rc = a->order ? sample_order_parse(o, a->order, e) : DR_OK;
    if (rc == DR_OK && a->dry_multiplier > 0) rc = breakers(a, t, s, e);
    if (rc == DR_OK && a->bias.n) {
        s->bias = mem_alloc((size_t)a->bias.n * sizeof *s->bias);
        if (!s->bias) rc = err_nomem(e, (size_t)a->bias.n * sizeof *s->bias, "logit biases");
        for (int i = 0; rc == DR_OK && i < a->bias.n; i++)
            rc = one_bias(a->bias.v[i], &s->bias[i], e);
        o->bias = s->bias, o->n_bias = a->bias.n;
    }
    if (rc == DR_OK) rc = sample_opt_check(o, n_vocab, e);
    if (rc != DR_OK) sample_set_free(s);
    return rc;
}

void sample_set_free(sample_set *s)
{
    ids_free(&s->breakers);
    mem_free(s->bias);
    *s = (sample_set){0};
}

void sample_args_print(FILE *f, const sample_args *a)
{
    const struct { const char *name; double v, off; } r[] = {
        { "top-k", a->top_k, 0 }, { "top-p", a->top_p, 1 }, { "min-p", a->min_p, 0 },
        { "typical-p", a->typical_p, 1 }, { "repeat-penalty", a->repeat_penalty, 1 },
        { "presence-penalty", a->presence_penalty, 0 },
        { "frequency-penalty", a->frequency_penalty, 0 },
        { "dry-multiplier", a->dry_multiplier, 0 }, { "xtc-probability", a->xtc_probability, 0 },
    };
    fprintf(f, "temp %g", (double)a->temp);
    for (size_t i = 0; i < sizeof r / sizeof *r; i++)
        if ((float)r[i].v != (float)r[i].off) fprintf(f, ", %s %g", r[i].name, r[i].v);
    if (a->seed >= 0) fprintf(f, ", seed %lld", (long long)a->seed);
    fputc('\n', f);
}
