/* hparams.c - see hparams.h. Two readers, one check at the end that both must pass. */
#include "model/hparams.h"
#include <math.h>
#include <string.h>
#include "model/meta_params.h"
#include "model/rope.h"

static int check(hparams *h, dr_err *e)
{
    struct { const char *name; int v, max; } dims[] = {
        { "vocabulary", h->V, 1 << 24 }, { "width", h->C, 1 << 20 }, { "layers", h->L, 4096 },
        { "query heads", h->nh, 4096 }, { "key/value heads", h->nkv, 4096 },
        { "head size", h->hs, HP_MAX_HEAD }, { "feed-forward width", h->F, 1 << 22 },
        { "context", h->n_ctx, HP_MAX_CTX },
    };
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++)
        if (dims[i].v < 1 || dims[i].v > dims[i].max)
            return err_set(e, DR_EFORMAT, "the model's %s is %d, 1 to %d is possible",
                           dims[i].name, dims[i].v, dims[i].max);
    if (h->nh % h->nkv)
        return err_set(e, DR_EFORMAT, "%d query heads cannot share %d key/value heads evenly",
                       h->nh, h->nkv);
    if (h->hs % 2) return err_set(e, DR_EFORMAT, "head size %d is odd", h->hs);
    if (!(h->eps > 0 && h->eps < 1))
        return err_set(e, DR_EFORMAT, "norm epsilon %g is not between 0 and 1", (double)h->eps);
    if (!(h->rope.theta > 1 && h->rope.theta < 1e15))
        return err_set(e, DR_EFORMAT, "rope theta %g is not above 1", h->rope.theta);
    if (h->rope.kind == ROPE_LLAMA3 || h->rope.kind == ROPE_LINEAR) {
        if (!(h->rope.factor >= 1 && h->rope.factor < 1e6))
            return err_set(e, DR_EFORMAT, "rope factor %g is not at least 1", h->rope.factor);
    }
    if (h->rope.kind == ROPE_LLAMA3 &&
        !(h->rope.low > 0 && h->rope.high > h->rope.low && h->rope.orig_ctx >= 1))
        return err_set(e, DR_EFORMAT, "rope scaling: low %g, high %g, original context %g",
                       h->rope.low, h->rope.high, h->rope.orig_ctx);
    if (h->window < 0) return err_set(e, DR_EFORMAT, "sliding window %d", h->window);
    return DR_OK;
}

/* ---- GGUF ---------------------------------------------------------------------------- */

static int g_int(const gguf *g, const char *key, int fallback, int *v, dr_err *e)
{
    uint64_t u;
    if (gguf_get_u64(g, key, &u)) {
        if (u > INT32_MAX)
            return err_set(e, DR_EFORMAT, "%s is %llu", key, (unsigned long long)u);
        *v = (int)u;
        return DR_OK;
    }
    if (gguf_find(g, key)) return err_set(e, DR_EFORMAT, "%s is not a whole number", key);
    if (fallback < 0) return err_set(e, DR_EFORMAT, "metadata %s is missing", key);
    *v = fallback;
    return DR_OK;
}

/* Llama 3's divisors by its rule, as converters write them: to recognise them. */
static bool is_llama3(const float *div, int hs, rope_spec *r, double factor, const gguf *g)
{
    rope_spec t = *r;
    float want[HP_MAX_HEAD / 2];
    t.kind = ROPE_LLAMA3, t.factor = factor, t.low = 1, t.high = 4, t.orig_ctx = 8192;
    if (hs > HP_MAX_HEAD) return false;
    if (factor == 0 && !(gguf_get_f64(g, "drover.rope.factor", &t.factor) &&
                         gguf_get_f64(g, "drover.rope.low_freq_factor", &t.low) &&
                         gguf_get_f64(g, "drover.rope.high_freq_factor", &t.high) &&
                         gguf_get_f64(g, "drover.rope.original_context_length", &t.orig_ctx) &&
                         t.factor >= 1 && t.low > 0 && t.high > t.low && t.orig_ctx >= 1))
        return false;
    rope_divisors(want, &t, hs);
    for (int i = 0; i < hs / 2; i++)
        if (!(fabsf(div[i] / want[i] - 1) < 1e-5f)) return false;
    *r = t;
    return true;
}

static int gguf_rope(hparams *h, const tensors *ts, const gguf *g, buf *warn, dr_err *e)
{
    double f;
    span type;
    if (!gguf_get_f64(g, "llama.rope.freq_base", &h->rope.theta)) h->rope.theta = 10000;
    if (gguf_get_str(g, "llama.rope.scaling.type", &type) && !span_is(type, "none")) {
        if (!span_is(type, "linear"))
            return err_set(e, DR_EUNSUPPORTED, "rope scaling \"" SPAN_FMT "\" is not known",
                           SPAN_ARG(type));
        h->rope.kind = ROPE_LINEAR;
        if (!gguf_get_f64(g, "llama.rope.scaling.factor", &h->rope.factor))
            return err_set(e, DR_EFORMAT, "metadata llama.rope.scaling.factor is missing");
    } else if (gguf_get_f64(g, "llama.rope.scale_linear", &f) && f != 1) {
        h->rope.kind = ROPE_LINEAR, h->rope.factor = f;
    }

    const tensor *t = tensors_find(ts, "rope_freqs.weight");
    if (t) {
        if (t->type != DT_F32 || t->n_dims != 1 || t->dim[0] != h->hs / 2 || !t->data)
            return err_set(e, DR_EFORMAT, "rope_freqs.weight is not %d F32 values", h->hs / 2);
        const float *div = (const float *)(const void *)t->data;
        for (int i = 0; i < h->hs / 2; i++)
            if (!(div[i] > 0 && div[i] < 1e9f))
                return err_set(e, DR_EFORMAT, "rope_freqs.weight[%d] is %g", i, (double)div[i]);
        if (h->rope.kind != ROPE_PLAIN)
            return err_set(e, DR_EFORMAT, "the file has both rope_freqs and linear rope scaling");
        /* the official two, or what drover's converter wrote beside others */
        if (!is_llama3(div, h->hs, &h->rope, 8, g) && !is_llama3(div, h->hs, &h->rope, 32, g) &&
            !is_llama3(div, h->hs, &h->rope, 0, g))
            h->rope.kind = ROPE_FACTORS, h->rope.divisor = div;
    } else if (h->V == 128256 && h->n_ctx > 8192 && h->rope.kind == ROPE_PLAIN) {
        /* Files of old converters: without the divisors, text beyond 8K is silently garbage. */
        bool small = h->C <= 3072;
        h->rope.kind = ROPE_LLAMA3, h->rope.low = 1, h->rope.high = 4, h->rope.orig_ctx = 8192;
        h->rope.factor = small ? 32 : 8;
        buf_printf(warn, "this Llama 3 file promises %d positions but has no rope_freqs tensor; "
                   "the official scaling (factor %g) is used in its place\n",
                   h->n_ctx, h->rope.factor);
    }
    return DR_OK;
}

/* Keys that change the arithmetic of files whose architecture still says llama. */
static int gguf_refuse(const gguf *g, dr_err *e)
{
    static const char *const keys[] = {
        "llama.attention.scale", "llama.logit_scale", "llama.embedding_scale",
        "llama.residual_scale", "llama.attn_logit_softcapping", "llama.final_logit_softcapping",
    };
    double f;
    uint64_t u;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (gguf_get_f64(g, keys[i], &f) && f != 0 && f != 1)
            return err_set(e, DR_EUNSUPPORTED, "%s = %g is not known here", keys[i], f);
    if (gguf_get_u64(g, "llama.expert_count", &u) && u > 0)
        return err_set(e, DR_EUNSUPPORTED, "a mixture of %llu experts; only dense models run",
                       (unsigned long long)u);
    return DR_OK;
}

static int read_gguf(hparams *h, const tensors *ts, const gguf *g, buf *warn, dr_err *e)
{
    span arch;
    if (!gguf_get_str(g, "general.architecture", &arch))
        return err_set(e, DR_EFORMAT, "metadata general.architecture is missing");
    if (!span_is(arch, "llama"))
        return err_set(e, DR_EUNSUPPORTED, "architecture \"" SPAN_FMT "\" does not run here; "
                       "llama does", SPAN_ARG(arch));
    snprintf(h->family, sizeof h->family, "llama");
    h->adjacent = true;
    int rc, rot;
    double eps;
    if ((rc = gguf_refuse(g, e)) ||
        (rc = g_int(g, "llama.embedding_length", -1, &h->C, e)) ||
        (rc = g_int(g, "llama.block_count", -1, &h->L, e)) ||
        (rc = g_int(g, "llama.feed_forward_length", -1, &h->F, e)) ||
        (rc = g_int(g, "llama.attention.head_count", -1, &h->nh, e)) ||
        (rc = g_int(g, "llama.attention.head_count_kv", h->nh, &h->nkv, e)) ||
        (rc = g_int(g, "llama.context_length", -1, &h->n_ctx, e)) ||
        (rc = g_int(g, "llama.attention.sliding_window", 0, &h->window, e)))
        return rc;
    if (h->nh < 1) return err_set(e, DR_EFORMAT, "llama.attention.head_count is %d", h->nh);
    if ((rc = g_int(g, "llama.attention.key_length", h->C / h->nh, &h->hs, e)) ||
        (rc = g_int(g, "llama.attention.value_length", h->hs, &rot, e)))
        return rc;
    if (rot != h->hs)
        return err_set(e, DR_EUNSUPPORTED, "keys of %d and values of %d elements", h->hs, rot);
    if ((rc = g_int(g, "llama.rope.dimension_count", h->hs, &rot, e))) return rc;
    if (rot != h->hs)
        return err_set(e, DR_EUNSUPPORTED, "rope turns %d of %d head elements; only all is known",
                       rot, h->hs);
    if (!gguf_get_f64(g, "llama.attention.layer_norm_rms_epsilon", &eps))
        return err_set(e, DR_EFORMAT, "metadata llama.attention.layer_norm_rms_epsilon is missing");
    h->eps = (float)eps;
    const tensor *emb = tensors_find(ts, "token_embd.weight");
    if (!emb || emb->n_dims != 2)
        return err_set(e, DR_EFORMAT, "tensor token_embd.weight is missing");
    if (emb->dim[0] > INT32_MAX)
        return err_set(e, DR_EFORMAT, "vocabulary of %lld tokens", (long long)emb->dim[0]);
    h->V = (int)emb->dim[0];
    h->tied = !tensors_find(ts, "output.weight");
    if (h->hs < 2) return err_set(e, DR_EFORMAT, "head size is %d", h->hs);
    return gguf_rope(h, ts, g, warn, e);
}

/* ---- config.json ----------------------------------------------------------------------- */

static int j_int(const json_t *c, const char *key, int fallback, int *v, dr_err *e)
{
    const json_t *j = json_object_get(c, key);
    if (!j || json_is_null(j)) {
        if (fallback < 0) return err_set(e, DR_EFORMAT, "config.json: %s is missing", key);
        *v = fallback;
        return DR_OK;
    }
    json_int_t n = json_integer_value(j);
    if (!json_is_integer(j) || n < 0 || n > INT32_MAX)
        return err_set(e, DR_EFORMAT, "config.json: %s is not a whole number in range", key);
    *v = (int)n;
    return DR_OK;
}

static double j_num(const json_t *c, const char *key, double fallback)
{
    const json_t *j = json_object_get(c, key);
    return json_is_number(j) ? json_number_value(j) : fallback;
}

static int json_rope(hparams *h, const json_t *c, dr_err *e)
{
    /* transformers 5 writes rope_parameters, which holds theta too; 4 rope_theta and rope_scaling */
    const json_t *r = json_object_get(c, "rope_parameters");
    if (!json_is_object(r)) r = json_object_get(c, "rope_scaling");
    h->rope.theta = j_num(r, "rope_theta", j_num(c, "rope_theta", 10000));
    if (!json_is_object(r)) return DR_OK;
    const json_t *t = json_object_get(r, "rope_type");
    if (!json_is_string(t)) t = json_object_get(r, "type");
    const char *type = json_is_string(t) ? json_string_value(t) : "default";
    if (j_num(r, "partial_rotary_factor", 1) != 1)
        return err_set(e, DR_EUNSUPPORTED, "config.json: partial_rotary_factor is not 1");
    if (!strcmp(type, "default")) return DR_OK;
    if (!strcmp(type, "linear")) {
        h->rope.kind = ROPE_LINEAR;
        h->rope.factor = j_num(r, "factor", 0);
        return DR_OK;
    }
    if (strcmp(type, "llama3"))
        return err_set(e, DR_EUNSUPPORTED, "config.json: rope type \"%.60s\" is not known", type);
    h->rope.kind = ROPE_LLAMA3;
    h->rope.factor = j_num(r, "factor", 0);
    h->rope.low = j_num(r, "low_freq_factor", 0);
    h->rope.high = j_num(r, "high_freq_factor", 0);
    h->rope.orig_ctx = j_num(r, "original_max_position_embeddings", 0);
    return DR_OK;
}

static int read_json(hparams *h, const tensors *ts, const json_t *c, dr_err *e)
{
    const char *type = json_string_value(json_object_get(c, "model_type"));
    if (!type) return err_set(e, DR_EFORMAT, "config.json: model_type is missing");
    if (strcmp(type, "llama") && strcmp(type, "mistral"))
        return err_set(e, DR_EUNSUPPORTED, "architecture \"%.60s\" does not run here; "
                       "llama and mistral do", type);
    snprintf(h->family, sizeof h->family, "%s", type);
    const char *act = json_string_value(json_object_get(c, "hidden_act"));
    if (act && strcmp(act, "silu"))
        return err_set(e, DR_EUNSUPPORTED, "config.json: hidden_act is \"%.40s\", silu is known", act);
    int rc;
    if ((rc = j_int(c, "vocab_size", -1, &h->V, e)) ||
        (rc = j_int(c, "hidden_size", -1, &h->C, e)) ||
        (rc = j_int(c, "num_hidden_layers", -1, &h->L, e)) ||
        (rc = j_int(c, "num_attention_heads", -1, &h->nh, e)) ||
        (rc = j_int(c, "num_key_value_heads", h->nh, &h->nkv, e)) ||
        (rc = j_int(c, "intermediate_size", -1, &h->F, e)) ||
        (rc = j_int(c, "max_position_embeddings", 2048, &h->n_ctx, e)) ||
        (rc = j_int(c, "sliding_window", 0, &h->window, e)))
        return rc;
    if (h->nh < 1) return err_set(e, DR_EFORMAT, "config.json: num_attention_heads is %d", h->nh);
    if ((rc = j_int(c, "head_dim", h->C / h->nh, &h->hs, e))) return rc;
    if (strcmp(type, "mistral")) h->window = 0;          // transformers' llama has no window
    h->eps = (float)j_num(c, "rms_norm_eps", 1e-6);
    const json_t *tie = json_object_get(c, "tie_word_embeddings");
    h->tied = json_is_true(tie) || !tensors_find(ts, "lm_head.weight");
    return json_rope(h, c, e);
}

int hparams_read(hparams *h, const tensors *ts, buf *warn, dr_err *e)
{
    *h = (hparams){0};
    const gguf *g = tensors_gguf(ts);
    const json_t *c = tensors_config(ts), *p = tensors_meta_params(ts);
    int rc;
    if (p) rc = meta_params_read(h, ts, p, warn, e);
    else if (g) rc = read_gguf(h, ts, g, warn, e);
    else if (c) rc = read_json(h, ts, c, e);
    else rc = err_set(e, DR_EFORMAT, "there is no config.json beside the weights");
    return rc ? rc : check(h, e);
}
