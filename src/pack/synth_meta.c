/* synth_meta.c - Meta's folder of a synthetic model: consolidated.*.pth cut into model-parallel
 * shards as llama-models' checkpoint.py cuts them, fp8_scales_*.pt, params.json, tokenizer.model. */
#include <inttypes.h>
#include <string.h>
#include "base/mem.h"
#include "base/os.h"
#include "format/pth_write.h"
#include "pack/params.h"
#include "pack/synth_priv.h"

enum { SHARDS_MAX = 999 };

static int write_params(const synth_shape *s, const char *folder, dr_err *e)
{
    hparams h = { .V = (int)s->V, .C = (int)s->C, .L = (int)s->L, .nh = (int)s->nh,
                  .nkv = (int)s->nkv, .hs = (int)s->hs, .F = (int)s->F, .n_ctx = (int)s->ctx,
                  .eps = (float)s->eps, .window = (int)s->window, .tied = s->tied,
                  .adjacent = true, .rope = { .theta = s->theta } };
    if (s->factor != 0)
        h.rope = (rope_spec){ .kind = ROPE_LLAMA3, .theta = s->theta, .factor = s->factor,
                              .low = s->low, .high = s->high, .orig_ctx = s->orig_ctx };
    else if (s->linear != 0)
        h.rope.kind = ROPE_LINEAR, h.rope.factor = s->linear;
    char path[4096];
    buf b = { .cap_max = 1 << 16 };
    int rc = params_json(&h, &b, e);
    if (rc == DR_OK && snprintf(path, sizeof path, "%s/params.json", folder) >= (int)sizeof path)
        rc = err_set(e, DR_EINVAL, "the folder's name is too long");
    if (rc == DR_OK) rc = os_write(path, b.p, b.n, e);
    buf_free(&b);
    return rc;
}

static int check_cuts(const synth_shape *s, int n, dr_err *e)
{
    const struct { const char *what; int64_t v; } even[] = {
        { "heads", s->nh }, { "ffn", s->F }, { "vocab", s->V },
    };
    if (s->bias) return err_set(e, DR_EINVAL, "Meta's form has no biases");
    for (size_t i = 0; i < sizeof even / sizeof *even; i++)
        if (even[i].v % n)
            return err_set(e, DR_EINVAL, "shape: %s=%" PRId64 " cannot be cut into %d shards evenly",
                           even[i].what, even[i].v, n);
    if (s->nkv % n && n % s->nkv)
        return err_set(e, DR_EINVAL, "shape: kv_heads=%" PRId64 " cannot be shared by %d shards",
                       s->nkv, n);
    return DR_OK;
}

/* Shard k's part of a tensor: columns of o and down, rows of the other matrices, vectors whole.
 * With more shards than key/value heads, neighbours hold the same head. */
static synth_tensor part_of(const synth_shape *s, const synth_tensor *t, int k, int n)
{
    synth_tensor x = *t;
    bool kv = t->kind == KIND_K || t->kind == KIND_V;
    x.all_cols = t->cols;
    if (kv && n > s->nkv) k /= n / (int)s->nkv, n = (int)s->nkv;
    if (t->n_dims == 1) return x;
    if (t->kind == KIND_O || t->kind == KIND_DOWN) x.cols /= n, x.col0 = k * x.cols;
    else x.rows /= n, x.row0 = k * x.rows;
    return x;
}

/* The scales of shard k's part of an FP8 matrix, as fp8_scales_k.pt calls them. */
static synth_tensor scales_of(const synth_tensor *part, int k)
{
    synth_tensor x = *part;
    x.scale_cols = x.cols, x.cols = 1, x.type = DT_F32;
    snprintf(x.name, sizeof x.name, "%d_feed_forward.w%c_%d", x.layer,
             x.kind == KIND_GATE ? '1' : x.kind == KIND_DOWN ? '2' : '3', k);
    return x;
}

typedef struct {
    synth_maker m;
    const synth_tensor *t;
    int64_t n;
    int shards;
} meta_maker;

static int put(void *to, const void *p, size_t n, dr_err *e) { return pth_write_data(to, p, n, e); }

/* List or make what belongs into one file: the shard's tensors, or the scales of its FP8 ones. */
static int pass(meta_maker *m, pth_writer *w, int k, bool scales, bool make, dr_err *e)
{
    int rc = DR_OK;
    for (int64_t i = 0; rc == DR_OK && i < m->n; i++) {
        synth_tensor x = part_of(&m->m.o->shape, &m->t[i], k, m->shards);
        if (scales && x.type != DT_F8_E4M3) continue;
        if (scales) x = scales_of(&x, k);
        int64_t two[2] = { x.rows, x.cols };
        if (make) rc = synth_make(&m->m, &x, put, w, e);
        else if (scales) rc = pth_add_tensor(w, x.name, x.type, 1, two, e);
        else rc = pth_add_tensor(w, x.name, x.type, x.n_dims, two + 2 - x.n_dims, e);
    }
    return rc;
}

static int write_file(meta_maker *m, const char *folder, int k, bool scales, dr_err *e)
{
    char path[4096], top[32];
    if (scales) snprintf(top, sizeof top, "fp8_scales_%d", k);
    else snprintf(top, sizeof top, "consolidated.%02d", k);
    if (snprintf(path, sizeof path, "%s/%s.%s", folder, top, scales ? "pt" : "pth") >=
        (int)sizeof path)
        return err_set(e, DR_EINVAL, "the folder's name is too long");
    pth_writer *w = pth_write_new(top, e);
    int rc = w ? pass(m, w, k, scales, false, e) : DR_ENOMEM;
    if (rc == DR_OK && m->m.o->shape.tied && !scales)  // Meta's program wants a head
        rc = pth_add_alias(w, synth_kinds[KIND_HEAD].meta, synth_kinds[KIND_EMBD].meta, e);
    if (rc == DR_OK) rc = pth_write_start(w, path, e);
    if (rc == DR_OK) rc = pass(m, w, k, scales, true, e);
    if (rc == DR_OK) rc = pth_write_end(w, e);
    pth_write_free(w);
    return rc;
}

int synth_meta(const synth_opt *o, const char *folder, pool *p, dr_err *e)
{
    synth_tensor *t = NULL;
    meta_maker m = { .shards = o->shards ? o->shards : 1 };
    if (m.shards > SHARDS_MAX)
        return err_set(e, DR_EINVAL, "%d shards; %d are possible", m.shards, SHARDS_MAX);
    int rc = check_cuts(&o->shape, m.shards, e);
    if (rc == DR_OK) rc = synth_plan(&o->shape, o->types, CONTAINER_META, &t, &m.n, e);
    m.t = t;
    if (rc == DR_OK) rc = synth_maker_init(&m.m, o, CONTAINER_META, t, m.n, p, e);
    if (rc == DR_OK) rc = os_mkdirs(folder, e);
    if (rc == DR_OK && o->tokenizer) rc = synth_copy_tokenizer(folder, o->tokenizer, e);
    if (rc == DR_OK) rc = write_params(&o->shape, folder, e);
    bool fp8 = false;
    for (int64_t i = 0; t && i < m.n; i++) fp8 |= t[i].type == DT_F8_E4M3;
    for (int k = 0; rc == DR_OK && k < m.shards; k++) {
        rc = write_file(&m, folder, k, false, e);
        if (rc == DR_OK && fp8) rc = write_file(&m, folder, k, true, e);
    }
    synth_maker_free(&m.m);
    mem_free(t);
    return rc;
}
