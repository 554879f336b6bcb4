/* params.c - see params.h. */
#include "pack/params.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

void params_real(buf *b, double v, bool is_f32)
{
    char s[40];
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(s, sizeof s, "%.*g", digits, v);
        if (is_f32 ? (float)strtod(s, NULL) == (float)v : strtod(s, NULL) == v) break;
    }
    if (fabs(v) >= 1 && fabs(v) < 1e15 && strchr(s, 'e')) snprintf(s, sizeof s, "%.0f", v);
    buf_puts(b, s);
    if (!strpbrk(s, ".en")) buf_puts(b, ".0");
}

/* A multiplier and rounding that make the feed-forward width. Those of Meta's own files first;
 * any width can be said. */
static void ffn(const hparams *h, double *multiplier, int *multiple)
{
    static const double known[] = { 0, 1.3, 1.2, 1.5, 1.0, 1.4 };
    static const int rounds[] = { 1024, 4096, 256 };
    for (size_t k = 0; k < sizeof known / sizeof *known; k++)
        for (size_t i = 0; i < sizeof rounds / sizeof *rounds; i++)
            if (meta_ffn(h->C, known[k], rounds[i]) == h->F) {
                *multiplier = known[k], *multiple = rounds[i];
                return;
            }
    *multiple = 1;
    *multiplier = (h->F + 0.5) / (double)(int64_t)(2.0 * (double)(4 * (int64_t)h->C) / 3);
}

static void put_int(buf *b, const char *key, int64_t v)
{
    buf_printf(b, "\"%s\": %" PRId64 ", ", key, v);
}

static void put_real(buf *b, const char *key, double v, bool is_f32)
{
    buf_printf(b, "\"%s\": ", key);
    params_real(b, v, is_f32);
    buf_puts(b, ", ");
}

int params_json(const hparams *h, buf *out, dr_err *e)
{
    double multiplier;
    int multiple;
    const rope_spec *r = &h->rope;
    bool scaled = r->kind == ROPE_LLAMA3;
    if ((r->kind != ROPE_PLAIN && !scaled) ||
        (scaled && (r->low != 1 || r->high != 4 || r->orig_ctx != 8192)))
        return err_set(e, DR_EUNSUPPORTED, "Meta's params.json has no word for this rope scaling");
    ffn(h, &multiplier, &multiple);
    buf_putc(out, '{');
    put_int(out, "dim", h->C);
    if (multiplier > 0) put_real(out, "ffn_dim_multiplier", multiplier, false);
    if (h->hs != h->C / h->nh) put_int(out, "head_dim", h->hs);
    if (meta_ffn(h->C, multiplier, multiple) != h->F) put_int(out, "hidden_dim", h->F);
    if (h->n_ctx != meta_context(h)) put_int(out, "max_position_embeddings", h->n_ctx);
    put_int(out, "multiple_of", multiple);
    put_int(out, "n_heads", h->nh);
    put_int(out, "n_kv_heads", h->nkv);
    put_int(out, "n_layers", h->L);
    put_real(out, "norm_eps", (double)h->eps, true);
    if (scaled && r->factor != (h->C <= 3072 ? 32 : 8))
        put_real(out, "rope_scaling_factor", r->factor, false);
    put_real(out, "rope_theta", r->theta, false);
    if (h->window) put_int(out, "sliding_window", h->window);
    buf_printf(out, "\"use_scaled_rope\": %s, \"vocab_size\": %d}\n", scaled ? "true" : "false",
               h->V);
    return out->bad ? err_nomem(e, out->n, "params.json") : DR_OK;
}

static bool is_int(const json_t *c, const char *key, int64_t want, bool may_lack)
{
    const json_t *j = json_object_get(c, key);
    if (!j || json_is_null(j)) return may_lack;
    return json_is_integer(j) && (json_integer_value(j) == want || json_integer_value(j) == -1);
}

static double real(const json_t *c, const char *key, double otherwise)
{
    const json_t *j = json_object_get(c, key);
    return json_is_number(j) ? json_number_value(j) : otherwise;
}

bool params_agree(const json_t *c, const hparams *h)
{
    if (json_is_object(json_object_get(c, "model"))) c = json_object_get(c, "model");
    const json_t *multiple = json_object_get(c, "multiple_of");
    int64_t m = json_is_integer(multiple) ? json_integer_value(multiple) : 256;
    int64_t f = m > 0 ? meta_ffn(h->C, real(c, "ffn_dim_multiplier", 0), m) : 0;
    const rope_spec *r = &h->rope;
    bool scaled = json_is_true(json_object_get(c, "use_scaled_rope"));
    if (scaled != (r->kind == ROPE_LLAMA3) || (!scaled && r->kind != ROPE_PLAIN)) return false;
    if (scaled && (real(c, "rope_scaling_factor", h->C <= 3072 ? 32 : 8) != r->factor ||
                   r->low != 1 || r->high != 4 || r->orig_ctx != 8192)) return false;
    return is_int(c, "dim", h->C, false) && is_int(c, "n_layers", h->L, false) &&
           is_int(c, "n_heads", h->nh, false) && is_int(c, "n_kv_heads", h->nkv, h->nkv == h->nh) &&
           is_int(c, "vocab_size", h->V, true) && is_int(c, "head_dim", h->hs, h->hs == h->C / h->nh) &&
           is_int(c, "hidden_dim", h->F, f == h->F) && is_int(c, "sliding_window", h->window, !h->window) &&
           is_int(c, "max_position_embeddings", h->n_ctx, h->n_ctx == meta_context(h)) &&
           (float)real(c, "norm_eps", 1e-5) == h->eps && (float)real(c, "rope_theta", 10000) == (float)r->theta;
}
