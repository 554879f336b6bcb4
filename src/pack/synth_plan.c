/* synth_plan.c - which tensors a model has, in either container, and the type of each. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "base/mem.h"
#include "pack/mix.h"
#include "pack/synth_priv.h"

const synth_kind_info synth_kinds[N_KINDS] = {
    [KIND_EMBD] = { "token_embd.weight", "model.embed_tokens.weight",
                       "tok_embeddings.weight" },
    [KIND_ATTN_NORM] = { "attn_norm.weight", "input_layernorm.weight",
                       "attention_norm.weight" },
    [KIND_Q] = { "attn_q.weight", "self_attn.q_proj.weight",
                       "attention.wq.weight" },
    [KIND_K] = { "attn_k.weight", "self_attn.k_proj.weight",
                       "attention.wk.weight" },
    [KIND_V] = { "attn_v.weight", "self_attn.v_proj.weight",
                       "attention.wv.weight" },
    [KIND_O] = { "attn_output.weight", "self_attn.o_proj.weight",
                       "attention.wo.weight" },
    [KIND_QB] = { "attn_q.bias", "self_attn.q_proj.bias" },
    [KIND_KB] = { "attn_k.bias", "self_attn.k_proj.bias" },
    [KIND_VB] = { "attn_v.bias", "self_attn.v_proj.bias" },
    [KIND_OB] = { "attn_output.bias", "self_attn.o_proj.bias" },
    [KIND_FFN_NORM] = { "ffn_norm.weight", "post_attention_layernorm.weight",
                       "ffn_norm.weight" },
    [KIND_GATE] = { "ffn_gate.weight", "mlp.gate_proj.weight",
                       "feed_forward.w1.weight" },
    [KIND_UP] = { "ffn_up.weight", "mlp.up_proj.weight",
                       "feed_forward.w3.weight" },
    [KIND_DOWN] = { "ffn_down.weight", "mlp.down_proj.weight",
                       "feed_forward.w2.weight" },
    [KIND_OUT_NORM] = { "output_norm.weight", "model.norm.weight",
                       "norm.weight" },
    [KIND_HEAD] = { "output.weight", "lm_head.weight",
                       "output.weight" },
    [KIND_ROPE] = { "rope_freqs.weight", NULL },
};

int synth_types_read(synth_types *t, const char *name, dr_err *e)
{
    static const struct { const char *name; synth_fp8 fp8; } fp8[] = {
        { "FP8", SYNTH_FP8 }, { "FP8_DYNAMIC", SYNTH_FP8_DYNAMIC },
    };
    for (size_t i = 0; i < sizeof fp8 / sizeof *fp8; i++)
        if (!strcasecmp(fp8[i].name, name)) {
            *t = (synth_types){ DT_BF16, NULL, fp8[i].fp8 };
            return DR_OK;
        }
    const type_info *ti = type_by_name(name);
    const mix *m = ti ? NULL : mix_find(name);
    if (!ti && !m) {
        char known[512] = "";
        for (int i = 0; i < n_types; i++)
            snprintf(known + strlen(known), sizeof known - strlen(known), " %s",
                     type_table[i].name);
        snprintf(known + strlen(known), sizeof known - strlen(known), " and the mixes");
        for (int i = 0; i < n_mixes; i++)
            if (!type_by_name(mix_table[i].name))
                snprintf(known + strlen(known), sizeof known - strlen(known), " %s",
                         mix_table[i].name);
        snprintf(known + strlen(known), sizeof known - strlen(known), " FP8 FP8_DYNAMIC");
        return err_set(e, DR_EINVAL, "no weight type is called %.40s; there are%s", name, known);
    }
    if (ti && ti->type == DT_F8_E4M3)
        return err_set(e, DR_EUNSUPPORTED, "weights of type %s are read but not made here: drover "
                       "convert writes them", ti->name);
    *t = (synth_types){ ti ? ti->type : m->base, m, SYNTH_NO_FP8 };
    return DR_OK;
}

int synth_ftype(synth_types t)
{
    int ftype = t.mix ? t.mix->ftype : mix_ftype_of(t.base);
    return ftype < 0 ? 0 : ftype;
}

/* What each kind of matrix is to mix.h. */
static mix_part part_of(int kind)
{
    static const mix_part parts[N_KINDS] = {
        [KIND_EMBD] = MIX_EMBD, [KIND_HEAD] = MIX_HEAD, [KIND_Q] = MIX_Q, [KIND_K] = MIX_K,
        [KIND_V] = MIX_V, [KIND_O] = MIX_O, [KIND_GATE] = MIX_GATE, [KIND_UP] = MIX_UP,
        [KIND_DOWN] = MIX_DOWN,
    };
    return parts[kind];
}

static void dims(const synth_shape *s, int kind, int64_t *rows, int64_t *cols)
{
    int64_t q = s->nh * s->hs, k = s->nkv * s->hs;
    *rows = 1, *cols = s->C;
    switch (kind) {
    case KIND_EMBD: case KIND_HEAD: *rows = s->V; break;
    case KIND_Q: *rows = q; break;
    case KIND_K: case KIND_V: *rows = k; break;
    case KIND_O: *rows = s->C, *cols = q; break;
    case KIND_GATE: case KIND_UP: *rows = s->F; break;
    case KIND_DOWN: *rows = s->C, *cols = s->F; break;
    case KIND_QB: *cols = q; break;
    case KIND_KB: case KIND_VB: *cols = k; break;
    case KIND_ROPE: *cols = s->hs / 2; break;
    default: break;
    }
}

bool synth_is_vector(int kind)
{
    return kind == KIND_ATTN_NORM || kind == KIND_FFN_NORM || kind == KIND_OUT_NORM ||
           kind == KIND_ROPE || (kind >= KIND_QB && kind <= KIND_OB);
}

static bool is_fp8(const synth_shape *s, synth_types t, int kind, int64_t layer)
{
    bool ffn = kind == KIND_GATE || kind == KIND_UP || kind == KIND_DOWN;
    if (t.fp8 == SYNTH_FP8) return ffn && layer > 0 && layer < s->L - 1;
    return t.fp8 == SYNTH_FP8_DYNAMIC && layer >= 0 && (ffn || (kind >= KIND_Q && kind <= KIND_O));
}

static void add(synth_tensor **at, const synth_shape *s, synth_types types, container c, int kind,
                int64_t layer)
{
    synth_tensor *t = (*at)++;
    const synth_kind_info *k = &synth_kinds[kind];
    bool g = c == CONTAINER_GGUF, meta = c == CONTAINER_META;
    const char *name = g ? k->gguf : meta ? k->meta : k->hf;
    const char *in = g ? "blk" : meta ? "layers" : "model.layers";
    *t = (synth_tensor){ .kind = kind, .layer = (int)layer,
                         .n_dims = synth_is_vector(kind) ? 1 : 2 };
    if (layer < 0) snprintf(t->name, sizeof t->name, "%s", name);
    else snprintf(t->name, sizeof t->name, "%s.%" PRId64 ".%s", in, layer, name);
    dims(s, kind, &t->rows, &t->cols);
    if (t->n_dims == 1) t->type = g ? DT_F32 : types.base;
    else {
        mix_model m = { s->L, s->nh, s->nkv, s->tied, false };
        t->type = mix_fit(types.mix ? mix_type(types.mix, &m, part_of(kind), layer, t->cols) :
                          types.base, t->cols);
    }
    if (!is_fp8(s, types, kind, layer)) return;
    t->type = DT_F8_E4M3;
    if (meta) return;                              // its scales are in a file of their own
    synth_tensor *x = (*at)++;
    *x = *t;
    x->type = DT_F32, x->scale_cols = x->all_cols = t->cols, x->cols = 1;
    snprintf(x->name, sizeof x->name, "%.80s_scale", t->name);
}

/* fbgemm_fp8 as Meta's own models have it, and compressed-tensors as llm-compressor writes it. */
json_t *synth_quant_json(const synth_shape *s, synth_types types)
{
    if (types.fp8 == SYNTH_FP8_DYNAMIC)
        return json_pack("{s:s, s:s, s:s, s:[s], s:{s:{s:[s], s:{s:i, s:s, s:s, s:b, s:b},"
                         " s:{s:i, s:s, s:s, s:b, s:b}, s:n}}}",
            "quant_method", "compressed-tensors", "format", "float-quantized",
            "quantization_status", "compressed", "ignore", "lm_head",
            "config_groups", "group_0", "targets", "Linear",
            "weights", "num_bits", 8, "type", "float", "strategy", "channel", "dynamic", 0,
            "symmetric", 1,
            "input_activations", "num_bits", 8, "type", "float", "strategy", "token", "dynamic", 1,
            "symmetric", 1, "output_activations");
    if (types.fp8 != SYNTH_FP8) return NULL;
    json_t *skip = json_array();
    for (int64_t l = 0; l < s->L; l++)
        for (int k = KIND_Q; k <= KIND_DOWN; k++) {
            char name[96];
            if (synth_is_vector(k) || is_fp8(s, types, k, l)) continue;
            snprintf(name, sizeof name, "model.layers.%" PRId64 ".%.*s", l,
                     (int)(strlen(synth_kinds[k].hf) - strlen(".weight")), synth_kinds[k].hf);
            json_array_append_new(skip, json_string(name));
        }
    return json_pack("{s:s, s:f, s:o}", "quant_method", "fbgemm_fp8", "activation_scale_ub", 1200.0,
                     "modules_to_not_convert", skip);
}

int synth_plan(const synth_shape *s, synth_types types, container c, synth_tensor **list,
               int64_t *n, dr_err *e)
{
    if (c != CONTAINER_GGUF && type_get(types.base)->elems != 1)
        return err_set(e, DR_EINVAL, "%s hold F32, F16, BF16 and FP8, not %s: write a .gguf",
                       c == CONTAINER_META ? "Meta's files" : "safetensors",
                       type_get(types.base)->name);
    if (types.fp8 && (c == CONTAINER_GGUF || (c == CONTAINER_META && types.fp8 != SYNTH_FP8)))
        return err_set(e, DR_EINVAL, "%s: safetensors hold FP8 in both forms, Meta's .pth as FP8",
                       c == CONTAINER_GGUF ? "GGUF holds no FP8" : "FP8_DYNAMIC is not Meta's");
    size_t room = (size_t)(s->L * 2 * N_KINDS + 4);
    synth_tensor *t = mem_zalloc(room, sizeof *t);
    *list = t, *n = 0;
    if (!t) return err_nomem(e, room * sizeof *t, "list of tensors");
    add(&t, s, types, c, KIND_EMBD, -1);
    if (c == CONTAINER_GGUF && s->factor != 0) add(&t, s, types, c, KIND_ROPE, -1);
    for (int64_t i = 0; i < s->L; i++)
        for (int k = KIND_FIRST_OF_LAYER; k <= KIND_LAST_OF_LAYER; k++)
            if (s->bias || k < KIND_QB || k > KIND_OB) add(&t, s, types, c, k, i);
    add(&t, s, types, c, KIND_OUT_NORM, -1);
    if (!s->tied) add(&t, s, types, c, KIND_HEAD, -1);
    *n = t - *list;
    return DR_OK;
}
