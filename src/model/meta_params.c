/* meta_params.c - see meta_params.h. */
#include "model/meta_params.h"
#include <string.h>

static double j_num(const json_t *c, const char *key, double fallback)
{
    const json_t *j = json_object_get(c, key);
    return json_is_number(j) ? json_number_value(j) : fallback;
}

int64_t meta_ffn(int64_t dim, double multiplier, int64_t multiple_of)
{
    int64_t f = (int64_t)(2.0 * (double)(4 * dim) / 3);
    double scaled = multiplier * (double)f;
    if (multiplier > 0) f = scaled < 0x1p53 ? (int64_t)scaled : (int64_t)1 << 53;
    return multiple_of * ((f + multiple_of - 1) / multiple_of);
}

/* Whole numbers under any of Meta's or Mistral's keys; missing or null gives the fallback. */
static int p_int(const json_t *c, const char *key, int fallback, int *v, dr_err *e)
{
    const json_t *j = json_object_get(c, key);
    if (!j || json_is_null(j)) {
        if (fallback < 0) return err_set(e, DR_EFORMAT, "params.json: %s is missing", key);
        *v = fallback;
        return DR_OK;
    }
    json_int_t n = json_integer_value(j);
    if (!json_is_integer(j) || n < -1 || n > INT32_MAX)
        return err_set(e, DR_EFORMAT, "params.json: %s is not a whole number in range", key);
    *v = n == -1 ? (fallback < 0 ? 0 : fallback) : (int)n;       // vocab_size -1: the tokenizer's
    return DR_OK;
}

/* Rope scaling is a yes in params.json. Its factor is 8, for the 1B and 3B of Llama 3.2 it is 32,
 * which only their config.json says; "rope_scaling_factor" is Llama 4's key. */
static void meta_rope(hparams *h, const json_t *c)
{
    h->rope.theta = j_num(c, "rope_theta", 10000);
    if (!json_is_true(json_object_get(c, "use_scaled_rope"))) return;
    h->rope.kind = ROPE_LLAMA3, h->rope.low = 1, h->rope.high = 4, h->rope.orig_ctx = 8192;
    h->rope.factor = j_num(c, "rope_scaling_factor", h->C <= 3072 ? 32 : 8);
}

/* Positions are not in params.json: what the families were trained for. */
int meta_context(const hparams *h)
{
    if (h->rope.kind == ROPE_LLAMA3) return 131072;
    if (h->rope.theta >= 1e6) return 16384;                       // Code Llama
    if (h->rope.theta >= 500000) return 8192;                     // Llama 3
    return h->eps < 5e-6f ? 2048 : 4096;                          // Llama 1, 2
}

int meta_params_read(hparams *h, const tensors *ts, const json_t *c, buf *warn, dr_err *e)
{
    int rc, multiple, kv, copies;
    snprintf(h->family, sizeof h->family, "llama");
    h->adjacent = true;
    const json_t *q = json_object_get(c, "quantization_args");
    if (json_object_get(q, "scheme"))
        return err_set(e, DR_EUNSUPPORTED, "params.json: weights quantised as \"%.60s\" are not "
                       "read; FP8 and the original are",
                       json_is_string(json_object_get(q, "scheme")) ?
                       json_string_value(json_object_get(q, "scheme")) : "?");
    if (json_is_object(json_object_get(c, "moe")) || json_is_object(json_object_get(c, "moe_args")))
        return err_set(e, DR_EUNSUPPORTED, "params.json: a mixture of experts; only dense models "
                       "run");
    if ((rc = p_int(c, "dim", -1, &h->C, e)) || (rc = p_int(c, "n_layers", -1, &h->L, e)) ||
        (rc = p_int(c, "n_heads", -1, &h->nh, e)) || (rc = p_int(c, "n_kv_heads", h->nh, &kv, e)) ||
        (rc = p_int(c, "multiple_of", 256, &multiple, e)) ||
        (rc = p_int(c, "sliding_window", 0, &h->window, e)))
        return rc;
    if (h->nh < 1 || multiple < 1 || h->C < 1)
        return err_set(e, DR_EFORMAT, "params.json: dim %d, n_heads %d, multiple_of %d", h->C, h->nh,
                       multiple);
    int64_t f = meta_ffn(h->C, j_num(c, "ffn_dim_multiplier", 0), multiple);
    if ((rc = p_int(c, "head_dim", h->C / h->nh, &h->hs, e)) ||
        (rc = p_int(c, "hidden_dim", f > INT32_MAX ? INT32_MAX : (int)f, &h->F, e)))
        return rc;
    h->eps = (float)j_num(c, "norm_eps", 1e-5);
    meta_rope(h, c);
    if ((rc = p_int(c, "max_position_embeddings", meta_context(h), &h->n_ctx, e))) return rc;
    const tensor *emb = tensors_find(ts, "tok_embeddings.weight"), *wk =
        tensors_find(ts, "layers.0.attention.wk.weight");
    if (!emb || emb->n_dims != 2 || emb->dim[0] > INT32_MAX)
        return err_set(e, DR_EFORMAT, "tensor tok_embeddings.weight is missing");
    if ((rc = p_int(c, "vocab_size", (int)emb->dim[0], &h->V, e))) return rc;
    if (h->V != emb->dim[0])
        return err_set(e, DR_EFORMAT, "params.json says that the vocabulary is %d, but the "
                       "embeddings are %lld", h->V, (long long)emb->dim[0]);
    int shards = tensors_meta_shards(ts, &copies);
    h->nkv = kv;
    if (copies > 1 && wk && h->hs > 0 && wk->dim[0] / h->hs <= INT32_MAX) {
        h->nkv = (int)(wk->dim[0] / h->hs);
        buf_printf(warn, "each of the %d key/value heads lies in %d of the %d shards: one copy is "
                   "read, the others were compared with it\n", h->nkv, copies, shards);
    }
    h->tied = !tensors_find(ts, "output.weight") || tensors_meta_tied(ts);
    return DR_OK;
}
