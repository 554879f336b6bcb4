/* carry_hf.c - Hugging Face's files beside the weights: config.json, generation_config.json and
 * the tokenizer's. */
#include <inttypes.h>
#include <string.h>
#include "base/mem.h"
#include "base/os.h"
#include "format/json.h"
#include "model/weights.h"
#include "pack/carry_priv.h"
#include "pack/params.h"

bool carry_beside(const tensors *ts, const char *name, os_file *f)
{
    const char *path = tensors_path(ts), *slash = strrchr(path, '/');
    size_t n = os_is_dir(path) ? strlen(path) : slash ? (size_t)(slash - path) + 1 : 0;
    char other[4096];
    dr_err quiet = {0};
    *f = (os_file){0};
    if (n + strlen(name) + 2 > sizeof other) return false;
    snprintf(other, sizeof other, "%.*s%s%s", (int)n, path, n ? "/" : "", name);
    return os_exists(other) && !os_is_dir(other) && os_map(f, other, &quiet) == DR_OK;
}

/* ---- config.json ---- */

static const char *float_name(dtype t)
{
    return t == DT_F32 ? "float32" : t == DT_F16 ? "float16" : "bfloat16";
}

static void put_rope(buf *b, const rope_spec *r)
{
    if (r->kind == ROPE_LLAMA3) {
        buf_puts(b, "{\n    \"factor\": ");
        params_real(b, r->factor, false);
        buf_puts(b, ",\n    \"high_freq_factor\": ");
        params_real(b, r->high, false);
        buf_puts(b, ",\n    \"low_freq_factor\": ");
        params_real(b, r->low, false);
        buf_printf(b, ",\n    \"original_max_position_embeddings\": %.0f,\n"
                   "    \"rope_type\": \"llama3\"\n  }", r->orig_ctx);
    } else if (r->kind == ROPE_LINEAR) {
        buf_puts(b, "{\n    \"factor\": ");
        params_real(b, r->factor, false);
        buf_puts(b, ",\n    \"rope_type\": \"linear\"\n  }");
    } else {
        buf_puts(b, "null");
    }
}

/* All ids that end a reply: one number, or a list in ascending order. */
static void put_eos(buf *b, const tokdata *m)
{
    int64_t id[3] = { m->eos, m->eom, m->eot }, sorted[3];
    int n = 0;
    for (int i = 0; i < 3; i++) {
        int k = 0;
        while (k < n && sorted[k] < id[i]) k++;
        if (id[i] < 0 || (k < n && sorted[k] == id[i])) continue;
        for (int q = n++; q > k; q--) sorted[q] = sorted[q - 1];
        sorted[k] = id[i];
    }
    if (n == 0) buf_puts(b, "null");
    else if (n == 1) buf_printf(b, "%" PRId64, sorted[0]);
    for (int i = 0; n > 1 && i < n; i++)
        buf_printf(b, "%s\n    %" PRId64 "%s", i ? "," : "[", sorted[i], i == n - 1 ? "\n  ]" : "");
}

static void put_id(buf *b, const char *key, int64_t id)
{
    if (id >= 0) buf_printf(b, "  \"%s\": %" PRId64 ",\n", key, id);
}

/* Have the matrices of attention, or those of the feed-forward part, biases? */
static bool has_bias(const layout *p, bool mlp)
{
    for (int64_t i = 0; i < p->n; i++) {
        pack_role r = p->t[i].role;
        size_t at = r.bias ? weight_table[r.row].at : 0;
        bool in_mlp = at == offsetof(layer_weights, w1) || at == offsetof(layer_weights, w2) ||
                      at == offsetof(layer_weights, w3);
        if (r.bias && in_mlp == mlp) return true;
    }
    return false;
}

static bool is_fp8(const layout *p)
{
    for (int64_t i = 0; i < p->n; i++)
        if (p->t[i].scale) return true;
    return false;
}

/* {"quant_method": "fbgemm_fp8", …}: the matrices that are not FP8 are listed by their modules. */
static json_t *fp8_config(const layout *p)
{
    json_t *not = json_array();
    for (int64_t i = 0; i < p->n; i++) {
        const pack_tensor *t = &p->t[i];
        size_t n = strlen(t->name), k = strlen(".weight");
        const wrow *r = &weight_table[t->role.row];
        bool embedding = !r->per_layer && r->at == offsetof(weights, tok_emb);
        if (t->n_dims == 2 && !t->scale && t->type != DT_F8_E4M3 && !embedding)
            json_array_append_new(not, json_stringn(t->name, n - k));
    }
    return json_pack("{s:f, s:o, s:s}", "activation_scale_ub", 1200.0, "modules_to_not_convert", not,
                     "quant_method", "fbgemm_fp8");
}

static int dump(const char *p, size_t n, void *b)
{
    buf_put(b, p, n);
    return 0;
}

static int new_config(const pack_job *j, const layout *p, const tokdata *m, buf *b, dr_err *e)
{
    const hparams *h = &j->src->hp;
    bool mistral = h->window > 0;
    buf meta = { .cap_max = 1 << 20 };
    int rc = carry_params_text(j, &meta, e);
    buf_printf(b, "{\n  \"architectures\": [\n    \"%s\"\n  ],\n  \"attention_bias\": %s,\n"
               "  \"attention_dropout\": 0.0,\n", mistral ? "MistralForCausalLM" :
               "LlamaForCausalLM", has_bias(p, false) ? "true" : "false");
    put_id(b, "bos_token_id", m->bos);
    buf_puts(b, "  \"eos_token_id\": ");
    put_eos(b, m);
    buf_printf(b, ",\n  \"head_dim\": %d,\n  \"hidden_act\": \"silu\",\n  \"hidden_size\": %d,\n"
               "  \"initializer_range\": 0.02,\n  \"intermediate_size\": %d,\n"
               "  \"max_position_embeddings\": %d,\n", h->hs, h->C, h->F, h->n_ctx);
    if (meta.n) {
        buf_puts(b, "  \"" CARRY_PARAMS_JSON "\": ");
        tokdata_json_str(b, buf_span(&meta));
        buf_puts(b, ",\n");
    }
    buf_printf(b, "  \"mlp_bias\": %s,\n  \"model_type\": \"%s\",\n"
               "  \"num_attention_heads\": %d,\n  \"num_hidden_layers\": %d,\n"
               "  \"num_key_value_heads\": %d,\n", has_bias(p, true) ? "true" : "false",
               mistral ? "mistral" : "llama", h->nh, h->L, h->nkv);
    put_id(b, "pad_token_id", m->pad);
    if (is_fp8(p)) {
        json_t *q = fp8_config(p);
        buf_puts(b, "  \"quantization_config\": ");
        if (!q || json_dump_callback(q, dump, b, JSON_COMPACT | JSON_REAL_PRECISION(15)))
            rc = err_nomem(e, b->n, "config.json");
        buf_puts(b, ",\n");
        json_decref(q);
    }
    buf_puts(b, "  \"rms_norm_eps\": ");
    params_real(b, (double)h->eps, true);
    buf_puts(b, ",\n  \"rope_scaling\": ");
    put_rope(b, &h->rope);
    buf_puts(b, ",\n  \"rope_theta\": ");
    params_real(b, h->rope.theta, false);
    if (h->window) buf_printf(b, ",\n  \"sliding_window\": %d", h->window);
    buf_printf(b, ",\n  \"tie_word_embeddings\": %s,\n  \"torch_dtype\": \"%s\",\n"
               "  \"use_cache\": true,\n  \"vocab_size\": %d\n}\n", h->tied ? "true" : "false",
               float_name(p->main_type), h->V);
    buf_free(&meta);
    return rc == DR_OK && b->bad ? err_nomem(e, b->n, "config.json") : rc;
}

/* The source's own config.json, with the type that the weights have now. */
static int same_config(const json_t *config, const layout *p, buf *b, dr_err *e)
{
    json_t *c = json_deep_copy(config);
    const char *key = json_object_get(c, "torch_dtype") || !json_object_get(c, "dtype") ?
                      "torch_dtype" : "dtype";
    bool ok = c && json_object_set_new(c, key, json_string(float_name(p->main_type))) == 0;
    json_object_del(c, "quantization_config");
    if (is_fp8(p)) ok = ok && !json_object_set_new(c, "quantization_config", fp8_config(p));
    ok = ok && json_dump_callback(c, dump, b, JSON_INDENT(2) | JSON_REAL_PRECISION(15)) == 0;
    buf_putc(b, '\n');
    json_decref(c);
    return ok && !b->bad ? DR_OK : err_nomem(e, b->n, "config.json");
}

int carry_config_json(const pack_job *j, const layout *p, const tokdata *m, buf *b, dr_err *e)
{
    const json_t *c = tensors_config(j->src->ts);
    return c ? same_config(c, p, b, e) : new_config(j, p, m, b, e);
}

/* ---- generation_config.json ---- */

static const struct { const char *gguf, *json; bool whole; } sampling[] = {
    { "general.sampling.temp", "temperature", false }, { "general.sampling.top_k", "top_k", true },
    { "general.sampling.top_p", "top_p", false }, { "general.sampling.min_p", "min_p", false },
    { "general.sampling.penalty_repeat", "repetition_penalty", false },
};

int carry_generation_json(const pack_job *j, const tokdata *m, buf *b, dr_err *e)
{
    const gguf *g = tensors_gguf(j->src->ts);
    double v;
    bool sample = false;
    buf_puts(b, "{\n");
    put_id(b, "bos_token_id", m->bos);
    for (size_t i = 0; g && i < sizeof sampling / sizeof *sampling; i++)
        sample |= gguf_get_f64(g, sampling[i].gguf, &v);
    if (sample) buf_puts(b, "  \"do_sample\": true,\n");
    buf_puts(b, "  \"eos_token_id\": ");
    put_eos(b, m);
    for (size_t i = 0; g && i < sizeof sampling / sizeof *sampling; i++) {
        if (!gguf_get_f64(g, sampling[i].gguf, &v)) continue;
        buf_printf(b, ",\n  \"%s\": ", sampling[i].json);
        if (sampling[i].whole) buf_printf(b, "%.0f", v);
        else params_real(b, v, true);
    }
    buf_puts(b, "\n}\n");
    return b->bad ? err_nomem(e, b->n, "generation_config.json") : DR_OK;
}

int carry_put_sampling(const pack_job *j, gguf_writer *w, dr_err *e)
{
    const json_t *c = tensors_generation(j->src->ts);
    (void)e;
    for (size_t i = 0; c && i < sizeof sampling / sizeof *sampling; i++) {
        const json_t *v = json_object_get(c, sampling[i].json);
        if (!json_is_number(v)) continue;
        if (sampling[i].whole) gguf_put_i32(w, sampling[i].gguf, (int32_t)json_number_value(v));
        else gguf_put_f32(w, sampling[i].gguf, (float)json_number_value(v));
    }
    return DR_OK;
}

/* ---- the tokenizer ---- */

static int read_file(tokdata *m, const tensors *ts, const char *name, bool *found, dr_err *e)
{
    os_file f;
    *found = carry_beside(ts, name, &f);
    if (!*found) return DR_OK;
    int rc = tokdata_read(m, (span){ (const char *)f.p, f.n }, e);
    os_unmap(&f);
    return rc == DR_OK ? rc : err_wrap(e, rc, "%s beside the weights", name);
}

/* A SentencePiece model has scores, which tokenizer.json lacks. */
static bool has_spm(const tensors *ts)
{
    os_file f;
    bool spm = carry_beside(ts, "tokenizer.model", &f) && f.n && *f.p == '\n';
    os_unmap(&f);
    return spm;
}

/* Tokens that were added behind a SentencePiece model's own. */
static int read_added(tokdata *m, const tensors *ts, dr_err *e)
{
    os_file f;
    if (!carry_beside(ts, "tokenizer.json", &f)) return DR_OK;
    int rc = tokdata_added(m, (span){ (const char *)f.p, f.n }, e);
    os_unmap(&f);
    return rc;
}

static int read_config(tokdata *m, const tensors *ts, dr_err *e)
{
    os_file f;
    int rc = DR_OK;
    if (carry_beside(ts, "tokenizer_config.json", &f)) {
        rc = tokdata_config_file(m, (span){ (const char *)f.p, f.n }, e);
        os_unmap(&f);
    }
    if (rc == DR_OK && carry_beside(ts, "chat_template.jinja", &f)) {
        buf_reset(&m->chat);
        buf_put(&m->chat, f.p, f.n);
        os_unmap(&f);
    }
    return rc;
}

int carry_tokenizer(const pack_job *j, tokdata *m, dr_err *e)
{
    const tensors *ts = j->src->ts;
    int rc = tokdata_init(m, j->src->hp.V, e);
    if (rc != DR_OK) return rc;
    if (tensors_gguf(ts)) return tokdata_from_gguf(m, tensors_gguf(ts), e);
    bool model_first = tensors_container(ts) == CONTAINER_META || has_spm(ts), found;
    const char *const name[2] = { "tokenizer.json", "tokenizer.model" };
    rc = read_file(m, ts, name[model_first], &found, e);
    if (rc == DR_OK && found && m->kind == TOKD_SPM && model_first) rc = read_added(m, ts, e);
    if (rc == DR_OK && !found) rc = read_file(m, ts, name[!model_first], &found, e);
    return rc == DR_OK && found ? read_config(m, ts, e) : rc;
}

int carry_put_tokenizer(const pack_job *j, gguf_writer *w, dr_err *e)
{
    tokdata m;
    int rc = carry_tokenizer(j, &m, e);
    if (rc == DR_OK && m.kind != TOKD_NONE) rc = tokdata_put_gguf(&m, w, e);
    else if (rc == DR_OK) {
        gguf_put_str(w, "tokenizer.ggml.model", span_of("none"));
        if (j->note) j->note(j->arg, "the model has no tokenizer beside it, and so has the output");
    }
    tokdata_free(&m);
    return rc;
}

/* ---- all files ---- */

typedef int (*make_fn)(const pack_job *j, const layout *p, const tokdata *m, buf *b, dr_err *e);

static int make_generation(const pack_job *j, const layout *p, const tokdata *m, buf *b, dr_err *e)
{
    (void)p;
    return carry_generation_json(j, m, b, e);
}
static int make_tokenizer(const pack_job *j, const layout *p, const tokdata *m, buf *b, dr_err *e)
{
    (void)j, (void)p;
    return tokdata_json(m, b, e);
}
static int make_tok_config(const pack_job *j, const layout *p, const tokdata *m, buf *b, dr_err *e)
{
    (void)p;
    return tokdata_config_json(m, j->src->hp.n_ctx, b, e);
}
static int make_model(const pack_job *j, const layout *p, const tokdata *m, buf *b, dr_err *e)
{
    (void)j, (void)p;
    return tokdata_model(m, b, e);
}
static int make_chat(const pack_job *j, const layout *p, const tokdata *m, buf *b, dr_err *e)
{
    (void)j, (void)p, (void)e;
    buf_put(b, m->chat.p, m->chat.n);
    return DR_OK;
}
static int make_params(const pack_job *j, const layout *p, const tokdata *m, buf *b, dr_err *e)
{
    (void)m, (void)p;
    return carry_params_json(j, b, e);
}

static int put_file(const pack_job *j, const layout *p, const tokdata *m, work *w, const char *name,
                    make_fn make, dr_err *e)
{
    buf b = { .cap_max = (size_t)512 << 20 };
    int rc = make(j, p, m, &b, e);
    if (rc == DR_OK && b.bad) rc = err_nomem(e, b.n, name);
    if (rc == DR_OK) rc = work_small(w, name, b.n ? b.p : "", b.n, e);
    buf_free(&b);
    return rc;
}

/* Hugging Face's folder into Hugging Face's folder: the files as they are. */
static int copy_files(const pack_job *j, work *w, dr_err *e)
{
    static const char *const names[] = { "generation_config.json", "tokenizer.json",
        "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
        "chat_template.jinja" };
    int rc = DR_OK;
    for (size_t i = 0; rc == DR_OK && i < sizeof names / sizeof *names; i++) {
        os_file f;
        if (!carry_beside(j->src->ts, names[i], &f)) continue;
        rc = work_small(w, names[i], f.p, f.n, e);
        os_unmap(&f);
    }
    return rc;
}

static int hf_files(const pack_job *j, const layout *p, const tokdata *m, work *w, dr_err *e)
{
    int rc = put_file(j, p, m, w, "generation_config.json", make_generation, e);
    if (rc != DR_OK || m->kind == TOKD_NONE) return rc;
    rc = put_file(j, p, m, w, "tokenizer.json", make_tokenizer, e);
    if (rc == DR_OK) rc = put_file(j, p, m, w, "tokenizer_config.json", make_tok_config, e);
    if (rc == DR_OK && m->kind == TOKD_SPM)
        rc = put_file(j, p, m, w, "tokenizer.model", make_model, e);
    return rc;
}

static int meta_files(const pack_job *j, const layout *p, const tokdata *m, work *w, dr_err *e)
{
    int rc = put_file(j, p, m, w, "params.json", make_params, e);
    if (rc != DR_OK || m->kind == TOKD_NONE) return rc;
    dr_err why = {0};
    rc = put_file(j, p, m, w, "tokenizer.model", make_model, &why);
    if (rc == DR_OK && m->chat.n) return put_file(j, p, m, w, "chat_template.jinja", make_chat, e);
    if (rc != DR_EUNSUPPORTED) return rc == DR_OK ? rc : err_set(e, rc, "%s", why.msg);
    if (j->note) j->note(j->arg, why.msg);
    if (j->note) j->note(j->arg, "tokenizer.json is written in its place");
    rc = put_file(j, p, m, w, "tokenizer.json", make_tokenizer, e);
    return rc == DR_OK ? put_file(j, p, m, w, "tokenizer_config.json", make_tok_config, e) : rc;
}

int carry_files(const pack_job *j, const layout *p, work *w, dr_err *e)
{
    bool hf = j->to == CONTAINER_SAFETENSORS, same = hf && tensors_config(j->src->ts);
    tokdata m = {0};
    int rc = same ? DR_OK : carry_tokenizer(j, &m, e);
    if (rc == DR_OK && !same && m.kind == TOKD_NONE && j->note)
        j->note(j->arg, "the model has no tokenizer beside it, and so has the output");
    if (rc == DR_OK && hf) rc = put_file(j, p, &m, w, "config.json", carry_config_json, e);
    if (rc == DR_OK)
        rc = same ? copy_files(j, w, e) : hf ? hf_files(j, p, &m, w, e) : meta_files(j, p, &m, w, e);
    tokdata_free(&m);
    return rc;
}
