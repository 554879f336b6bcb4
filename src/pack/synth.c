/* synth.c - see synth.h: values, and the files around them. */
#include <inttypes.h>
#include <jansson.h>
#include <string.h>
#include "base/buf.h"
#include "base/mem.h"
#include "base/os.h"
#include "base/rng.h"
#include "format/qkrow.h"
#include "format/fp8.h"
#include "format/quant.h"
#include "format/safetensors_write.h"
#include "model/rope.h"
#include "pack/quant_rows.h"
#include "pack/synth_priv.h"

enum { SLICE = 16 << 20, ROWS_PER_CHUNK = 8 };

static bool rotated(int kind)
{
    return kind == KIND_Q || kind == KIND_K || kind == KIND_QB || kind == KIND_KB;
}

void synth_rows(const synth_shape *s, uint64_t seed, container c, const synth_tensor *t,
                int64_t row, int64_t n, float *tmp, void *dst)
{
    uint8_t *out = dst;
    uint64_t stream = (uint64_t)(t->layer + 1) * N_KINDS + (uint64_t)t->kind;
    bool swap = c != CONTAINER_SAFETENSORS && rotated(t->kind), norm = t->n_dims == 1 &&
                (t->kind < KIND_QB || t->kind > KIND_OB);
    int64_t all_cols = t->all_cols ? t->all_cols : t->cols, cols = t->scale_cols ? t->scale_cols : t->cols;
    uint8_t *bytes = (uint8_t *)(tmp + cols);
    float scale = norm ? 0.05f : (float)s->std, shift = norm ? 1 : 0;
    for (int64_t r = row; r < row + n; r++) {
        if (t->kind == KIND_ROPE) {
            rope_spec q = { .kind = ROPE_LLAMA3, .theta = s->theta, .factor = s->factor,
                            .low = s->low, .high = s->high, .orig_ctx = s->orig_ctx };
            rope_divisors(tmp, &q, (int)s->hs);
        } else if (swap && t->n_dims == 1) {
            for (int64_t i = 0; i < t->cols; i++) {
                rng_normal(&tmp[i], 1, seed, stream, (uint64_t)qk_row_hf(i, s->hs));
                tmp[i] *= scale;
            }
        } else {
            int64_t at = t->row0 + r, from = swap ? qk_row_hf(at, s->hs) : at;
            rng_normal(tmp, cols, seed, stream, (uint64_t)(from * all_cols + t->col0));
            for (int64_t i = 0; i < cols; i++) tmp[i] = tmp[i] * scale + shift;
        }
        if (t->scale_cols || t->type == DT_F8_E4M3) {
            float f = fp8_row(tmp, bytes, cols);
            size_t k = t->scale_cols ? sizeof f : (size_t)cols;
            memcpy(out, t->scale_cols ? (const void *)&f : bytes, k);
            out += k;
            continue;
        }
        if (quant_row(t->type, tmp, out, t->cols) == DR_EUNSUPPORTED)
            quant_rows(t->type, tmp, NULL, out, 1, t->cols, NULL);    // types that are searched for
        out += type_row_bytes(t->type, t->cols);
    }
}

/* ---- making the rows of one tensor after the other, in slices, on all threads ---- */

static size_t tensor_bytes(const synth_tensor *t)
{
    return type_row_bytes(t->type, t->cols) * (size_t)t->rows;
}

int synth_maker_init(synth_maker *m, const synth_opt *o, container c, const synth_tensor *t,
                     int64_t n, pool *p, dr_err *e)
{
    *m = (synth_maker){ .o = o, .c = c, .p = p, .slice_bytes = SLICE };
    for (int64_t i = 0; i < n; i++) {
        size_t row = type_row_bytes(t[i].type, t[i].cols);
        int64_t cols = t[i].scale_cols ? t[i].scale_cols : t[i].cols;
        if (cols > m->cols_max) m->cols_max = cols;
        if (row > m->slice_bytes) m->slice_bytes = row;
        m->total += tensor_bytes(&t[i]);
    }
    m->cols_max += (m->cols_max + 3) / 4;                  // and a byte for each
    size_t tmp = (size_t)m->cols_max * sizeof *m->tmp * (size_t)pool_threads(p);
    m->slice = mem_alloc(m->slice_bytes);
    m->tmp = mem_alloc(tmp);
    return m->slice && m->tmp ? DR_OK : err_nomem(e, m->slice_bytes + tmp, "random weights");
}

void synth_maker_free(synth_maker *m)
{
    mem_free(m->slice);
    mem_free(m->tmp);
}

static void make_chunk(void *arg, int chunk, int thread)
{
    const synth_maker *m = arg;
    int64_t a = (int64_t)chunk * ROWS_PER_CHUNK, k = m->n - a;
    synth_rows(&m->o->shape, m->o->seed, m->c, m->t, m->row + a,
               k < ROWS_PER_CHUNK ? k : ROWS_PER_CHUNK, m->tmp + m->cols_max * thread,
               m->slice + (size_t)a * type_row_bytes(m->t->type, m->t->cols));
}

int synth_make(synth_maker *m, const synth_tensor *t,
               int (*put)(void *to, const void *p, size_t n, dr_err *e), void *to, dr_err *e)
{
    size_t row = type_row_bytes(t->type, t->cols);
    int64_t step = (int64_t)(m->slice_bytes / row);
    m->t = t;
    for (m->row = 0; m->row < t->rows; m->row += m->n) {
        m->n = t->rows - m->row < step ? t->rows - m->row : step;
        pool_run(m->p, (int)((m->n + ROWS_PER_CHUNK - 1) / ROWS_PER_CHUNK), make_chunk, m);
        int rc = put(to, m->slice, row * (size_t)m->n, e);
        if (rc != DR_OK) return rc;
        m->done += row * (size_t)m->n;
        if (m->o->progress) m->o->progress(m->o->arg, m->done, m->total);
    }
    return DR_OK;
}

/* ---- GGUF ---- */

static int gguf_metadata(gguf_writer *w, const synth_opt *o, dr_err *e)
{
    const synth_shape *s = &o->shape;
    char name[64];
    snprintf(name, sizeof name, "synthetic %s", s->name);
    gguf_put_str(w, "general.architecture", span_of("llama"));
    gguf_put_str(w, "general.name", span_of(name));
    gguf_put_u32(w, "general.file_type", (uint32_t)synth_ftype(o->types));
    if (type_get(o->types.base)->elems > 1) gguf_put_u32(w, "general.quantization_version", 2);
    const struct { const char *key; int64_t v; } ints[] = {
        { "llama.vocab_size", s->V }, { "llama.context_length", s->ctx },
        { "llama.embedding_length", s->C }, { "llama.block_count", s->L },
        { "llama.feed_forward_length", s->F }, { "llama.attention.head_count", s->nh },
        { "llama.attention.head_count_kv", s->nkv }, { "llama.rope.dimension_count", s->hs },
        { "llama.attention.key_length", s->hs }, { "llama.attention.value_length", s->hs },
    };
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++)
        gguf_put_u32(w, ints[i].key, (uint32_t)ints[i].v);
    if (s->window) gguf_put_u32(w, "llama.attention.sliding_window", (uint32_t)s->window);
    gguf_put_f32(w, "llama.attention.layer_norm_rms_epsilon", (float)s->eps);
    gguf_put_f32(w, "llama.rope.freq_base", (float)s->theta);
    if (s->linear != 0) {
        gguf_put_str(w, "llama.rope.scaling.type", span_of("linear"));
        gguf_put_f32(w, "llama.rope.scaling.factor", (float)s->linear);
    }
    return synth_put_tokenizer(w, o->tokenizer, s->V, o->cut, e);
}

static int put_gguf(void *to, const void *p, size_t n, dr_err *e)
{
    return gguf_write_data(to, p, n, e);
}

/* Everything but the place: file `out`, or memory handed back in *bytes and *n_bytes. */
static int make_gguf(const synth_opt *o, const char *out, void **bytes, size_t *n_bytes, pool *p,
                     dr_err *e)
{
    synth_tensor *t = NULL;
    int64_t n = 0;
    synth_maker m = {0};
    gguf_writer *w = gguf_write_new(e);
    if (!w) return DR_ENOMEM;
    int rc = gguf_metadata(w, o, e);
    if (rc == DR_OK) rc = synth_plan(&o->shape, o->types, CONTAINER_GGUF, &t, &n, e);
    for (int64_t i = 0; rc == DR_OK && i < n; i++) {
        int64_t dim[2] = { t[i].cols, t[i].rows };
        rc = gguf_add_tensor(w, t[i].name, t[i].type, t[i].n_dims, dim, e);
    }
    if (rc == DR_OK) rc = synth_maker_init(&m, o, CONTAINER_GGUF, t, n, p, e);
    if (rc == DR_OK && out) {
        rc = gguf_write_start(w, out, e);
    } else if (rc == DR_OK) {
        *n_bytes = (size_t)gguf_write_size(w);
        *bytes = mem_pages(*n_bytes);
        rc = *bytes ? gguf_write_start_mem(w, *bytes, e) : err_nomem(e, *n_bytes, "weights");
    }
    for (int64_t i = 0; rc == DR_OK && i < n; i++) rc = synth_make(&m, &t[i], put_gguf, w, e);
    if (rc == DR_OK) rc = gguf_write_end(w, e);
    if (rc != DR_OK && !out && *bytes) {
        mem_pages_free(*bytes, *n_bytes);
        *bytes = NULL;
    }
    synth_maker_free(&m);
    mem_free(t);
    gguf_write_free(w);
    return rc;
}

int synth_memory(const synth_opt *o, void **bytes, size_t *n, pool *p, dr_err *e)
{
    *bytes = NULL, *n = 0;
    return make_gguf(o, NULL, bytes, n, p, e);
}

/* ---- safetensors ---- */

static json_t *config_json(const synth_opt *o)
{
    const synth_shape *s = &o->shape;
    bool llama3 = s->V == 128256;
    const char *float_type = o->types.base == DT_F32 ? "float32" :
                        o->types.base == DT_F16 ? "float16" : "bfloat16";
    json_t *j = json_pack("{s:[s], s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:b, s:b,"
                          " s:b, s:s, s:s, s:f, s:i, s:i}",
        "architectures", s->window ? "MistralForCausalLM" : "LlamaForCausalLM",
        "model_type", s->window ? "mistral" : "llama", "hidden_size", (json_int_t)s->C,
        "intermediate_size", (json_int_t)s->F, "num_hidden_layers", (json_int_t)s->L,
        "num_attention_heads", (json_int_t)s->nh, "num_key_value_heads", (json_int_t)s->nkv,
        "head_dim", (json_int_t)s->hs, "vocab_size", (json_int_t)s->V,
        "max_position_embeddings", (json_int_t)s->ctx, "rms_norm_eps", s->eps,
        "rope_theta", s->theta, "tie_word_embeddings", s->tied, "attention_bias", s->bias,
        "mlp_bias", 0, "hidden_act", "silu", "torch_dtype", float_type, "initializer_range", s->std,
        "bos_token_id", llama3 ? 128000 : 1, "eos_token_id", llama3 ? 128001 : 2);
    if (s->window) json_object_set_new(j, "sliding_window", json_integer(s->window));
    json_t *r = s->factor != 0 ?
        json_pack("{s:s, s:f, s:f, s:f, s:I}", "rope_type", "llama3", "factor", s->factor,
                  "low_freq_factor", s->low, "high_freq_factor", s->high,
                  "original_max_position_embeddings", (json_int_t)s->orig_ctx) :
        s->linear != 0 ? json_pack("{s:s, s:f}", "rope_type", "linear", "factor", s->linear) :
        json_null();
    json_object_set_new(j, "rope_scaling", r);
    json_t *q = synth_quant_json(s, o->types);
    if (q) json_object_set_new(j, "quantization_config", q);
    return j;
}

static int dump_to_buf(const char *p, size_t n, void *b)
{
    buf_put(b, p, n);
    return 0;
}

int synth_write_json(const char *folder, const char *name, json_t *j, dr_err *e)
{
    char path[4096];
    buf b;
    buf_init(&b, 64 << 20);
    int rc;
    size_t flags = JSON_INDENT(2) | JSON_REAL_PRECISION(12);
    if (!j || json_dump_callback(j, dump_to_buf, &b, flags) || b.bad)
        rc = err_nomem(e, b.n, name);
    else if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        rc = err_set(e, DR_EINVAL, "the folder's name is too long");
    else
        rc = os_write(path, b.p, b.n, e);
    buf_free(&b);
    json_decref(j);
    return rc;
}

static int put_st(void *to, const void *p, size_t n, dr_err *e)
{
    return st_write_data(to, p, n, e);
}

static int write_shard(synth_maker *m, const char *path, const synth_tensor *t, int64_t n,
                       dr_err *e)
{
    st_writer *w = st_write_new(e);
    if (!w) return DR_ENOMEM;
    int rc = DR_OK;
    for (int64_t i = 0; rc == DR_OK && i < n; i++) {
        int64_t two[2] = { t[i].rows, t[i].cols };
        rc = st_add_tensor(w, t[i].name, t[i].type, t[i].n_dims, two + 2 - t[i].n_dims, e);
    }
    if (rc == DR_OK) rc = st_write_start(w, path, e);
    for (int64_t i = 0; rc == DR_OK && i < n; i++) rc = synth_make(m, &t[i], put_st, w, e);
    if (rc == DR_OK) rc = st_write_end(w, e);
    st_write_free(w);
    return rc;
}

/* How many tensors from `at` on go into one file. */
static int64_t shard_len(const synth_opt *o, const synth_tensor *t, int64_t n, int64_t at)
{
    uint64_t bytes = 0;
    int64_t k = at;
    for (; k < n; k++) {
        bytes += tensor_bytes(&t[k]);
        if (k > at && o->shard_bytes && bytes > o->shard_bytes) break;
    }
    return k - at;
}

static int write_shards(synth_maker *m, const char *folder, const synth_tensor *t, int64_t n,
                        dr_err *e)
{
    int64_t count = 0;
    for (int64_t at = 0; at < n; at += shard_len(m->o, t, n, at)) count++;
    json_t *map = json_object();
    int rc = DR_OK;
    for (int64_t at = 0, k = 1; rc == DR_OK && at < n; k++) {
        char name[64], path[4096];
        int64_t len = shard_len(m->o, t, n, at);
        if (count == 1) snprintf(name, sizeof name, "model.safetensors");
        else snprintf(name, sizeof name, "model-%05" PRId64 "-of-%05" PRId64 ".safetensors", k,
                      count);
        if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
            rc = err_set(e, DR_EINVAL, "the folder's name is too long");
        else rc = write_shard(m, path, t + at, len, e);
        for (int64_t i = at; i < at + len; i++)
            json_object_set_new(map, t[i].name, json_string(name));
        at += len;
    }
    if (rc != DR_OK || count == 1) {
        json_decref(map);
        return rc;
    }
    return synth_write_json(folder, "model.safetensors.index.json",
                      json_pack("{s:{s:I}, s:o}", "metadata", "total_size",
                                (json_int_t)m->total, "weight_map", map), e);
}

static int make_folder(const synth_opt *o, const char *folder, pool *p, dr_err *e)
{
    synth_tensor *t = NULL;
    int64_t n = 0;
    synth_maker m = {0};
    int rc = synth_plan(&o->shape, o->types, CONTAINER_SAFETENSORS, &t, &n, e);
    if (rc == DR_OK) rc = synth_maker_init(&m, o, CONTAINER_SAFETENSORS, t, n, p, e);
    if (rc == DR_OK) rc = os_mkdirs(folder, e);
    if (rc == DR_OK && o->tokenizer) rc = synth_copy_tokenizer(folder, o->tokenizer, e);
    if (rc == DR_OK) rc = synth_write_json(folder, "config.json", config_json(o), e);
    if (rc == DR_OK) rc = write_shards(&m, folder, t, n, e);
    synth_maker_free(&m);
    mem_free(t);
    return rc;
}

int synth_write(const synth_opt *o, const char *out, pool *p, dr_err *e)
{
    size_t n = strlen(out);
    while (n > 1 && out[n - 1] == '/') n--;
    const char *dot = NULL;
    for (size_t i = n; i > 0 && out[i - 1] != '/'; i--)
        if (out[i - 1] == '.') { dot = out + i - 1; break; }
    size_t len = dot ? n - (size_t)(dot - out) : 0;
    if (len == 5 && !strncmp(dot, ".gguf", 5) && n == strlen(out))
        return make_gguf(o, out, NULL, NULL, p, e);
    if (len == 4 && !strncmp(dot, ".pth", 4)) return synth_meta(o, out, p, e);
    if (len == 12 && !strncmp(dot, ".safetensors", 12))
        return err_set(e, DR_EINVAL, "%s: name a folder; config.json goes beside the weights", out);
    return make_folder(o, out, p, e);
}
