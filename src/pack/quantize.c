/* quantize.c - see quantize.h: which type each tensor gets, and its importances. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "pack/quantize.h"
#include <pcre2.h>
#include <strings.h>
#include "base/mem.h"
#include "format/imatrix.h"
#include "model/weights.h"
#include "pack/layout.h"
#include "pack/quant_rows.h"

typedef struct {
    const quantize_opt *o;
    const pack_source *src;
    const mix *m;                    /* NULL: FP8 */
    mix_model shape;
    imatrix im;
    pcre2_code *re[QUANTIZE_RULES_MAX];
    float **w;                       /* importances, one for each tensor that has some */
    int64_t n_w, cap_w;
    bool told_twice, told_missing;
} job;

/* ---- options ---- */

int quantize_type(const char *name, dr_err *e)
{
    const type_info *t = type_by_name(name);
    if (t && t->type != DT_F8_E4M3) return (int)t->type;
    char known[256] = "";
    for (int i = 0; i < n_types; i++)
        if (type_table[i].type != DT_F8_E4M3)
            snprintf(known + strlen(known), sizeof known - strlen(known), " %s",
                     type_table[i].name);
    err_set(e, DR_EINVAL, "no type of a single tensor is called %.40s; there are%s", name, known);
    return -1;
}

int quantize_rule_add(quantize_opt *o, const char *text, dr_err *e)
{
    const char *eq = strrchr(text, '=');
    if (!eq || eq == text)
        return err_set(e, DR_EINVAL, "%.80s: PATTERN=TYPE was expected, as in ffn_down=Q6_K", text);
    if (o->n_rules == QUANTIZE_RULES_MAX)
        return err_set(e, DR_EINVAL, "more than %d patterns", QUANTIZE_RULES_MAX);
    int type = quantize_type(eq + 1, e);
    if (type < 0) return DR_EINVAL;
    o->rule[o->n_rules++] = (quantize_rule){ text, type };
    return DR_OK;
}

static int compile(job *j, dr_err *e)
{
    for (int i = 0; i < j->o->n_rules; i++) {
        const char *p = j->o->rule[i].pattern, *eq = strrchr(p, '=');
        int code;
        size_t at;
        j->re[i] = pcre2_compile((PCRE2_SPTR)p, (size_t)(eq - p), 0, &code, &at, NULL);
        if (!j->re[i]) {
            char why[120] = "";
            pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
            return err_set(e, DR_EINVAL, "the pattern of %.80s cannot be read at character %zu: %s",
                           p, at + 1, why);
        }
    }
    return DR_OK;
}

/* The rule that the tensor's GGUF name meets; -1: none. */
static int rule_of(const job *j, const char *name)
{
    int found = -1;
    for (int i = 0; i < j->o->n_rules && found < 0; i++) {
        pcre2_match_data *d = pcre2_match_data_create(1, NULL);
        if (d && pcre2_match(j->re[i], (PCRE2_SPTR)name, strlen(name), 0, 0, d, NULL) >= 0)
            found = i;
        pcre2_match_data_free(d);
    }
    return found;
}

/* ---- types ---- */

static mix_part part_of(const pack_tensor *t)
{
    static const struct { size_t at; mix_part part; } in_layer[] = {
        { offsetof(layer_weights, wq), MIX_Q }, { offsetof(layer_weights, wk), MIX_K },
        { offsetof(layer_weights, wv), MIX_V }, { offsetof(layer_weights, wo), MIX_O },
        { offsetof(layer_weights, w1), MIX_GATE }, { offsetof(layer_weights, w3), MIX_UP },
        { offsetof(layer_weights, w2), MIX_DOWN },
    };
    const wrow *w = &weight_table[t->role.row];
    if (!w->per_layer) return w->at == offsetof(weights, out) ? MIX_HEAD : MIX_EMBD;
    for (size_t i = 0; i < sizeof in_layer / sizeof *in_layer; i++)
        if (in_layer[i].at == w->at) return in_layer[i].part;
    DR_ASSERT(!"a matrix that is no part of a mix");
    return MIX_EMBD;
}

/* Meta's FP8 files have the feed-forward matrices of all layers but the first and the last in FP8
 * (llama-models models/llama3/quantization/loader.py). */
static int fp8_type(const job *j, mix_part part, int layer)
{
    bool layered = part != MIX_EMBD && part != MIX_HEAD;
    bool ffn = part == MIX_GATE || part == MIX_UP || part == MIX_DOWN;
    if (j->o->pure) return layered ? DT_F8_E4M3 : DT_BF16;
    return ffn && layer > 0 && layer < j->shape.layers - 1 ? DT_F8_E4M3 : DT_BF16;
}

static int matrix_type(const job *j, const pack_tensor *t, mix_part part, const char *name)
{
    if (!j->m) return fp8_type(j, part, t->role.layer);
    const quantize_opt *o = j->o;
    if (part == MIX_EMBD && o->embd_type >= 0) return o->embd_type;
    if (part == MIX_HEAD && o->head_type >= 0) return o->head_type;
    if (type_get(j->m->base)->elems == 1) return (int)j->m->base;
    int rule = rule_of(j, name);
    dtype y = j->m->base;
    if (rule >= 0) y = (dtype)o->rule[rule].type;
    else if (part == MIX_EMBD && j->shape.tied && o->head_type >= 0 && !o->pure)
        y = (dtype)o->head_type;
    else if (!o->pure) y = mix_type(j->m, &j->shape, part, t->role.layer, t->all_cols);
    return (int)mix_fit(y, t->all_cols);
}

static void tell(const job *j, const char *sentence)
{
    if (j->o->note) j->o->note(j->o->arg, sentence);
}

/* K importances that live as long as the job; entry NULL: all columns alike. */
static int give_weights(job *j, pack_tensor *t, const imatrix_entry *x, dr_err *e)
{
    int64_t K = t->all_cols;
    if (j->n_w == j->cap_w) {
        int64_t cap = j->cap_w ? 2 * j->cap_w : 256;
        float **w = mem_realloc(j->w, (size_t)cap * sizeof *w);
        if (!w) return err_nomem(e, (size_t)cap * sizeof *w, "importances");
        j->w = w, j->cap_w = cap;
    }
    float *w = mem_alloc((size_t)K * sizeof *w);
    if (!w) return err_nomem(e, (size_t)K * sizeof *w, "importances");
    j->w[j->n_w++] = w;
    if (x) quant_weights(w, x->sum, K);
    else for (int64_t i = 0; i < K; i++) w[i] = 1;
    t->user = w;
    return DR_OK;
}

static int take_importances(job *j, pack_tensor *t, mix_part part, const char *name, dr_err *e)
{
    const imatrix_entry *x = j->o->imatrix ? imatrix_find(&j->im, name) : NULL;
    if (x && x->n != t->all_cols)
        return err_set(e, DR_EFORMAT, "%s has %lld importances for %s, whose rows are of %lld: it is "
                       "of another model", j->o->imatrix, (long long)x->n, name,
                       (long long)t->all_cols);
    if (!x && j->m && !j->o->search && mix_wants_imatrix(j->m, part, (dtype)t->type))
        return err_set(e, DR_EINVAL, "%s becomes %s, which is of little use without an importance "
                       "matrix: %s (drover imatrix makes one; --search goes on without)", name,
                       type_get(t->type)->name,
                       j->o->imatrix ? "the one given does not have this tensor" : "give --imatrix");
    if (!x && j->o->imatrix && part != MIX_EMBD && !j->told_missing) {
        char line[160];
        snprintf(line, sizeof line, "the importance matrix has no %s%s", name,
                 part == MIX_HEAD ? "; its columns count alike" : " and maybe others");
        tell(j, line);
        j->told_missing = true;
    }
    return x || j->o->search ? give_weights(j, t, x, e) : DR_OK;
}

static int choose(void *arg, pack_tensor *t, dr_err *e)
{
    job *j = arg;
    char name[128];
    if (t->n_dims == 1) {
        bool floats = j->m && type_get(j->m->base)->elems == 1;
        t->type = !j->m ? DT_BF16 : floats ? (int)j->m->base : DT_F32;
        return DR_OK;
    }
    mix_part part = part_of(t);
    int from = t->type;
    pack_role_name(name, sizeof name, t->role, CONTAINER_GGUF);
    t->type = matrix_type(j, t, part, name);
    if (t->all_cols % type_get(t->type)->elems)
        return err_set(e, DR_EINVAL, "%s cannot be %s: its rows are of %lld weights", name,
                       type_get(t->type)->name, (long long)t->all_cols);
    if (j->o->to != CONTAINER_GGUF && type_get(t->type)->elems > 1)
        return err_set(e, DR_EINVAL, "%s would be %s, which only GGUF can hold: name an output that "
                       "ends in .gguf", name, type_get(t->type)->name);
    if (type_get(from)->elems > 1 && t->type != from && !j->told_twice) {
        char line[160];
        snprintf(line, sizeof line, "the source is quantised (%s): a second rounding adds to the "
                 "first one's error", type_get(from)->name);
        tell(j, line);
        j->told_twice = true;
    }
    return type_get(t->type)->elems > 1 ? take_importances(j, t, part, name, e) : DR_OK;
}

static int encode(void *arg, const pack_tensor *t, int64_t row, int64_t n, const float *x,
                  void *dst, int thread, dr_err *e)
{
    (void)arg, (void)thread, (void)row;
    int rc = quant_rows(t->type, x, t->user, dst, n, t->cols, e);
    return rc == DR_OK ? rc : err_wrap(e, rc, "tensor %s, from row %lld", t->name,
                                       (long long)row);
}

static int meta(void *arg, gguf_writer *w, dr_err *e)
{
    const job *j = arg;
    (void)e;
    if (!j->o->imatrix) return DR_OK;
    gguf_put_str(w, "quantize.imatrix.file", span_of(j->o->imatrix));
    if (j->im.dataset.n) gguf_put_str(w, "quantize.imatrix.dataset", j->im.dataset);
    gguf_put_u32(w, "quantize.imatrix.entries_count", (uint32_t)j->im.n_entries);
    if (j->im.chunks) gguf_put_u32(w, "quantize.imatrix.chunks_count", j->im.chunks);
    return DR_OK;
}

/* ---- the job ---- */

/* What the bytes depend on beside the types. */
static uint64_t key_of(const job *j)
{
    uint64_t key = names_hash(span_of("quantize"), (uint64_t)j->o->search);
    for (int64_t i = 0; i < j->im.n_entries; i++) {
        const imatrix_entry *x = &j->im.entry[i];
        key = names_hash(x->name, key);
        key = names_hash((span){ (const char *)x->sum, (size_t)x->n * sizeof *x->sum }, key);
    }
    return key;
}

static void progress(void *arg, uint64_t done, uint64_t total)
{
    const job *j = arg;
    if (j->o->progress) j->o->progress(j->o->arg, done, total);
}

static void note(void *arg, const char *sentence) { tell(arg, sentence); }

static void tell_warnings(const job *j)
{
    for (char *p = j->src->warn.p; p && *p;) {
        char *nl = strchr(p, '\n'), line[512];
        snprintf(line, sizeof line, "warning: %.*s", (int)(nl ? nl - p : (long)strlen(p)), p);
        tell(j, line);
        p = nl ? nl + 1 : NULL;
    }
}

static int find_mix(job *j, dr_err *e)
{
    const char *name = j->o->type;
    j->m = mix_find(name);
    if (j->m) return DR_OK;
    if (!strcasecmp(name, "FP8") || !strcasecmp(name, type_get(DT_F8_E4M3)->name)) {
        if (j->o->to == CONTAINER_SAFETENSORS && !j->o->n_rules) return DR_OK;
        return err_set(e, DR_EUNSUPPORTED, j->o->n_rules ? "--tensor-type is for GGUF's types" :
                       "FP8 is written in safetensors: name a folder");
    }
    char known[512] = "";
    for (int i = 0; i < n_mixes; i++)
        snprintf(known + strlen(known), sizeof known - strlen(known), " %s", mix_table[i].name);
    return err_set(e, DR_EINVAL, "no type or mix is called %.40s; there are%s FP8", name, known);
}

static int list_plan(const pack_job *p, const quantize_opt *o, dr_err *e)
{
    layout l = {0};
    int rc = layout_make(&l, p, e);
    for (int64_t i = 0; rc == DR_OK && i < l.n; i++)
        if (o->plan) o->plan(o->arg, &l.t[i]);
    layout_free(&l);
    return rc;
}

static int run(job *j, pool *p, dr_err *e)
{
    const quantize_opt *o = j->o;
    const hparams *h = &j->src->hp;
    j->shape = (mix_model){ h->L, h->nh, h->nkv, h->tied, o->imatrix != NULL };
    tell_warnings(j);
    pack_job pj = { .src = j->src, .to = o->to, .n_files = o->n_files, .file_bytes = o->file_bytes,
                    .force = o->force, .choose = choose, .encode = encode, .meta = meta,
                    .file_type = j->m ? j->m->ftype : -1, .key = key_of(j), .progress = progress,
                    .note = note, .arg = j };
    return o->dry ? list_plan(&pj, o, e) : pack_run(&pj, o->out, p, e);
}

int quantize(const quantize_opt *o, pool *p, dr_err *e)
{
    pack_source s = {0};
    job j = { .o = o, .src = &s };
    int rc = find_mix(&j, e);
    if (rc == DR_OK) rc = compile(&j, e);
    if (rc == DR_OK && o->imatrix) rc = imatrix_read(&j.im, o->imatrix, e);
    if (rc == DR_OK) rc = pack_source_open(&s, o->in, e);
    if (rc == DR_OK) {
        rc = run(&j, p, e);
        pack_source_close(&s);
    }
    for (int64_t i = 0; i < j.n_w; i++) mem_free(j.w[i]);
    mem_free(j.w);
    for (int i = 0; i < o->n_rules; i++) pcre2_code_free(j.re[i]);
    imatrix_free(&j.im);
    return rc;
}
