/* convert.c - see convert.h: which type each tensor gets. */
#include "pack/convert.h"
#include <math.h>
#include <strings.h>
#include "base/half.h"
#include "base/mem.h"
#include "model/weights.h"

typedef struct {
    const convert_opt *o;
    const pack_source *src;
    int main_type;                   /* of the source's matrices, if it is a float */
    bool told, told_slices;          /* that some type, some scales are not kept */
} chooser;

static void note(void *arg, const char *sentence)
{
    const chooser *c = arg;
    if (c->o->note) c->o->note(c->o->arg, sentence);
}

static const struct { const char *name; dtype type; } types[] = {
    { "f32", DT_F32 }, { "f16", DT_F16 }, { "bf16", DT_BF16 }, { "fp8", DT_F8_E4M3 },
};

int convert_type(const char *name, int *type, dr_err *e)
{
    *type = CONVERT_KEEP;
    if (!name) return DR_OK;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcasecmp(name, types[i].name)) {
            *type = types[i].type;
            return DR_OK;
        }
    return err_set(e, DR_EINVAL, "--type %.40s: f32, f16, bf16 and fp8 are possible", name);
}

static bool is_float(int type)
{
    return type == DT_F32 || type == DT_F16 || type == DT_BF16;
}

/* Can the target hold this type? */
static bool holds(container to, int type)
{
    if (type == DT_F8_E4M3) return to != CONTAINER_GGUF;
    return to == CONTAINER_GGUF ? type_get(type) != NULL : is_float(type);
}

/* Does every value of a vector survive in the type? Vectors are small: they are looked at. */
static bool exact(const chooser *c, const pack_tensor *t, int type)
{
    size_t n = (size_t)t->cols;
    float *x = mem_alloc(n * sizeof *x);
    void *scratch = mem_alloc(pack_scratch_bytes(t->src));
    bool same = x && scratch && pack_read(c->src, t->role, t->src, c->src->hp.adjacent, 0, 1, x,
                                          scratch, NULL) == DR_OK;
    for (size_t i = 0; same && i < n; i++) {
        float y = type == DT_BF16 ? bf16_to_f32(f32_to_bf16(x[i])) :
                  type == DT_F16 ? f16_to_f32(f32_to_f16(x[i])) : x[i];
        same = y == x[i];
    }
    mem_free(x);
    mem_free(scratch);
    return same;
}

/* What Meta's FP8 files have in FP8: the feed-forward matrices of all layers but the first and
 * the last (llama-models models/llama3/quantization/loader.py). */
static bool is_ffn(const pack_tensor *t)
{
    const wrow *w = &weight_table[t->role.row];
    return w->per_layer &&
           (w->at == offsetof(layer_weights, w1) || w->at == offsetof(layer_weights, w2) ||
            w->at == offsetof(layer_weights, w3));
}

static bool official_fp8(const chooser *c, const pack_tensor *t)
{
    return is_ffn(t) && t->role.layer > 0 && t->role.layer < c->src->hp.L - 1;
}

/* Shards of Meta's have scales of their own for their columns of w2. */
static void tell_slices(chooser *c, const pack_tensor *t)
{
    int have = pack_scales_of(c->src, t->src)->n_slice;
    int want = c->o->to == CONTAINER_META && c->o->n_files > 1 ? c->o->n_files : 1;
    if (have < 2 || want % have == 0 || c->told_slices) return;
    c->told_slices = true;
    note(c, "each shard has FP8 scales of its own for its columns of w2, for which the output has no "
            "place: those weights are rounded again");
}

static int choose(void *arg, pack_tensor *t, dr_err *e)
{
    chooser *c = arg;
    container to = c->o->to;
    (void)e;
    if (t->n_dims == 1) {
        /* Norms and biases: the matrices' type where that loses nothing, as official files have
         * it; GGUF's are F32, which the pipeline sees to. */
        int want = c->o->type != CONVERT_KEEP ? c->o->type : c->main_type;
        if (!is_float(want)) want = DT_BF16;
        if (c->o->type == CONVERT_KEEP && !exact(c, t, want)) want = DT_F32;
        t->type = want;
        return DR_OK;
    }
    if (c->o->type == DT_F8_E4M3) {
        bool stays = t->type == DT_F8_E4M3 && (to == CONTAINER_SAFETENSORS || is_ffn(t));
        t->type = stays || official_fp8(c, t) ? DT_F8_E4M3 : DT_BF16;
    } else if (c->o->type != CONVERT_KEEP) {
        t->type = c->o->type;
    } else if (!holds(to, t->type) ||
               (t->type == DT_F8_E4M3 && to == CONTAINER_META && !is_ffn(t))) {
        char line[160];
        snprintf(line, sizeof line, "%s cannot be held by %s and becomes BF16 (--type chooses)",
                 type_get(t->type)->name, to == CONTAINER_GGUF ? "GGUF" :
                 to == CONTAINER_META ? "Meta's form" : "safetensors");
        if (!c->told && c->o->note) c->o->note(c->o->arg, line);
        c->told = true;
        t->type = DT_BF16;
    }
    if (t->type == DT_F8_E4M3) tell_slices(c, t);
    return DR_OK;
}

/* The type of most of the source's matrices, BF16 when that is none of floats. */
static int main_type_of(const tensors *ts)
{
    uint64_t most = 0;
    int best = DT_BF16;
    for (int i = 0; i < n_types; i++) {
        uint64_t n = 0;
        for (int64_t k = 0; k < tensors_count(ts); k++) {
            const tensor *t = tensors_at(ts, k);
            if (t->n_dims == 2 && t->type == (int)type_table[i].type) n += t->bytes;
        }
        if (n > most) most = n, best = (int)type_table[i].type;
    }
    return is_float(best) ? best : DT_BF16;
}

static bool edits(void *arg, const pack_tensor *t)
{
    const chooser *c = arg;
    return c->o->edit->edits(c->o->edit->arg, t);
}

static int edit(void *arg, const pack_tensor *t, int64_t row, int64_t n, float *x, int thread,
                dr_err *e)
{
    const chooser *c = arg;
    return c->o->edit->edit(c->o->edit->arg, t, row, n, x, thread, e);
}

static void progress(void *arg, uint64_t done, uint64_t total)
{
    const chooser *c = arg;
    if (c->o->progress) c->o->progress(c->o->arg, done, total);
}

static void tell(const convert_opt *o, const pack_source *s)
{
    for (char *p = s->warn.p; o->note && p && *p;) {
        char *nl = strchr(p, '\n'), line[512];
        snprintf(line, sizeof line, "warning: %.*s", (int)(nl ? nl - p : (long)strlen(p)), p);
        o->note(o->arg, line);
        p = nl ? nl + 1 : NULL;
    }
}

int convert(const convert_opt *o, pool *p, dr_err *e)
{
    pack_source s;
    if (o->type == DT_F8_E4M3 && o->to == CONTAINER_GGUF)
        return err_set(e, DR_EUNSUPPORTED, "GGUF cannot hold FP8: name a folder of safetensors, or "
                       "FOLDER.pth");
    int rc = pack_source_open(&s, o->in, e);
    if (rc != DR_OK) return rc;
    tell(o, &s);
    chooser c = { .o = o, .src = &s, .main_type = main_type_of(s.ts) };
    pack_job j = { .src = &s, .to = o->to, .n_files = o->n_files, .file_bytes = o->file_bytes,
                   .force = o->force, .choose = choose, .file_type = -1, .progress = progress,
                   .note = note, .arg = &c };
    if (o->edit) {
        j.edits = edits, j.edit = edit, j.key = o->edit->key;
        rc = o->edit->open(o->edit->arg, &s, o->to != CONTAINER_SAFETENSORS, e);
    }
    if (rc == DR_OK) rc = pack_run(&j, o->out, p, e);
    pack_source_close(&s);
    return rc;
}
