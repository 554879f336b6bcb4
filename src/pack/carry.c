/* carry.c - see carry.h: what can be said where, and the metadata of GGUF. */
#include "pack/carry.h"
#include <inttypes.h>
#include <string.h>
#include "base/mem.h"
#include "pack/carry_priv.h"
#include "pack/params.h"

int carry_check(const pack_job *j, dr_err *e)
{
    const hparams *h = &j->src->hp;
    if (j->to == CONTAINER_SAFETENSORS && h->rope.kind == ROPE_FACTORS)
        return err_set(e, DR_EUNSUPPORTED, "config.json has no word for rope divisors that are not "
                       "Llama 3's");
    if (j->to != CONTAINER_META) return DR_OK;
    buf b = { .cap_max = 1 << 16 };
    int rc = params_json(h, &b, e);
    buf_free(&b);
    return rc;
}

void carry_split(gguf_writer *w, int k, int n_files, int64_t n_tensors)
{
    gguf_put_u16(w, "split.no", (uint16_t)k);
    gguf_put_u16(w, "split.count", (uint16_t)n_files);
    gguf_put_i32(w, "split.tensors.count", (int32_t)n_tensors);
}

/* llama.cpp's number for a file whose matrices are mostly of this type (enum llama_ftype). */
static int file_type(dtype t)
{
    static const struct { dtype type; int ftype; } known[] = {
        { DT_F32, 0 }, { DT_F16, 1 }, { DT_BF16, 32 }, { DT_Q4_0, 2 }, { DT_Q4_1, 3 },
        { DT_Q8_0, 7 }, { DT_Q5_0, 8 }, { DT_Q5_1, 9 }, { DT_Q2_K, 10 }, { DT_Q3_K, 11 },
        { DT_Q4_K, 14 }, { DT_Q5_K, 16 }, { DT_Q6_K, 18 },
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].type == t) return known[i].ftype;
    return -1;
}

/* Do all tensors keep the type that the source file has? */
static bool same_types(const layout *p)
{
    for (int64_t i = 0; i < p->n; i++)
        if (p->t[i].src && p->t[i].src->type != p->t[i].type) return false;
    return true;
}

/* Another GGUF file's entries, but for those that say how that file is laid out. */
static void copy_kv(const pack_job *j, const layout *p, const gguf *g, gguf_writer *w)
{
    static const char *const not[] = { "general.alignment", "split.no", "split.count",
                                       "split.tensors.count" };
    bool same = same_types(p) && j->file_type < 0;
    for (uint64_t i = 0; i < g->n_kv; i++) {
        bool leave = !same && (span_is(g->kv[i].key, "general.file_type") ||
                               span_is(g->kv[i].key, "general.quantization_version") ||
                               (g->kv[i].key.n > 9 && !memcmp(g->kv[i].key.p, "quantize.", 9)));
        for (size_t k = 0; k < sizeof not / sizeof *not; k++)
            leave |= span_is(g->kv[i].key, not[k]);
        if (!leave) gguf_put_kv(w, &g->kv[i]);
    }
}

static void put_types(const pack_job *j, const layout *p, gguf_writer *w)
{
    int ftype = j->file_type >= 0 ? j->file_type : file_type(p->main_type);
    if (ftype >= 0) gguf_put_u32(w, "general.file_type", (uint32_t)ftype);
    bool blocks = false;
    for (int64_t i = 0; i < p->n; i++) blocks |= type_get(p->t[i].type)->elems > 1;
    if (blocks) gguf_put_u32(w, "general.quantization_version", 2);
}

/* The model's name: what its folder or file is called. */
static span model_name(const tensors *ts)
{
    const char *s = tensors_path(ts), *end = s + strlen(s);
    while (end > s + 1 && end[-1] == '/') end--;
    const char *at = end;
    while (at > s && at[-1] != '/') at--;
    span n = { at, (size_t)(end - at) };
    static const char *const tails[] = { ".pth", ".safetensors" };
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
        size_t k = strlen(tails[i]);
        if (n.n > k && !memcmp(n.p + n.n - k, tails[i], k)) n.n -= k;
    }
    return n;
}

/* Other parameters of Llama 3's scaling than its own: GGUF has the divisors only. */
static void put_rope(const rope_spec *r, gguf_writer *w)
{
    if (r->kind == ROPE_LINEAR) {
        gguf_put_str(w, "llama.rope.scaling.type", span_of("linear"));
        gguf_put_f32(w, "llama.rope.scaling.factor", (float)r->factor);
    }
    bool own = (r->factor == 8 || r->factor == 32) && r->low == 1 && r->high == 4 &&
               r->orig_ctx == 8192;
    if (r->kind != ROPE_LLAMA3 || own) return;
    gguf_put_f32(w, "drover.rope.factor", (float)r->factor);
    gguf_put_f32(w, "drover.rope.low_freq_factor", (float)r->low);
    gguf_put_f32(w, "drover.rope.high_freq_factor", (float)r->high);
    gguf_put_f32(w, "drover.rope.original_context_length", (float)r->orig_ctx);
}

static void put_numbers(const pack_job *j, const layout *p, gguf_writer *w)
{
    const hparams *h = &j->src->hp;
    gguf_put_str(w, "general.architecture", span_of("llama"));
    gguf_put_str(w, "general.type", span_of("model"));
    gguf_put_str(w, "general.name", model_name(j->src->ts));
    put_types(j, p, w);
    const struct { const char *key; int64_t v; } ints[] = {
        { "llama.vocab_size", h->V }, { "llama.context_length", h->n_ctx },
        { "llama.embedding_length", h->C }, { "llama.block_count", h->L },
        { "llama.feed_forward_length", h->F }, { "llama.attention.head_count", h->nh },
        { "llama.attention.head_count_kv", h->nkv }, { "llama.rope.dimension_count", h->hs },
        { "llama.attention.key_length", h->hs }, { "llama.attention.value_length", h->hs },
    };
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++)
        gguf_put_u32(w, ints[i].key, (uint32_t)ints[i].v);
    if (h->window) gguf_put_u32(w, "llama.attention.sliding_window", (uint32_t)h->window);
    gguf_put_f32(w, "llama.attention.layer_norm_rms_epsilon", h->eps);
    gguf_put_f32(w, "llama.rope.freq_base", (float)h->rope.theta);
    put_rope(&h->rope, w);
}

int carry_gguf(const pack_job *j, const layout *p, gguf_writer *w, dr_err *e)
{
    const gguf *g = tensors_gguf(j->src->ts);
    int rc = DR_OK;
    if (g) {
        copy_kv(j, p, g, w);
        if (!same_types(p) || j->file_type >= 0) put_types(j, p, w);
    } else {
        put_numbers(j, p, w);
        rc = carry_put_tokenizer(j, w, e);
        if (rc == DR_OK) rc = carry_put_sampling(j, w, e);
        buf meta = { .cap_max = 1 << 20 };
        if (rc == DR_OK) rc = carry_params_text(j, &meta, e);
        if (meta.n) gguf_put_str(w, CARRY_PARAMS_GGUF, buf_span(&meta));
        buf_free(&meta);
    }
    return rc == DR_OK && j->meta ? j->meta(j->arg, w, e) : rc;
}
