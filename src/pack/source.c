/* source.c - see source.h. */
#include "pack/source.h"
#include "base/mem.h"
#include "format/dequant.h"
#include "format/qkrow.h"
#include "model/weights.h"
#include "pack/quant_rows.h"

/* FP8's scales as floats: for the whole, for each row, or for each row and slice of its weights
 * (weights.c says the same). */
static int read_scales(pack_source *s, const tensor *t, pack_scales *y, dr_err *e)
{
    char name[256];
    snprintf(name, sizeof name, SPAN_FMT "_scale", SPAN_ARG(t->name));
    const tensor *x = tensors_find(s->ts, name);
    int64_t rows = t->dim[0], n = 1, parts = 1;
    for (int i = 0; x && i < x->n_dims; i++)
        if (__builtin_mul_overflow(n, x->dim[i], &n)) n = 0;
    if (x && x->n_dims == 2 && x->dim[1] == rows && x->dim[0] != rows) parts = x->dim[0];
    bool ok = x && (n == 1 || n == rows * parts) && parts > 0 && t->dim[1] % parts == 0 &&
              (x->type == DT_F32 || x->type == DT_F16 || x->type == DT_BF16);
    if (!ok)
        return err_set(e, DR_EFORMAT, "tensor " SPAN_FMT " is FP8, but its scales, %s, are missing "
                       "or of another shape or type", SPAN_ARG(t->name), name);
    if (n == 1) parts = 1;
    size_t bytes = (size_t)(rows * parts) * sizeof *y->of;
    y->of = mem_alloc(bytes);
    void *raw = mem_alloc(x->bytes + 1);
    int rc = y->of && raw ? tensor_rows(s->ts, x, 0, tensor_n_rows(x), raw, e)
                          : err_nomem(e, bytes, "scales");
    if (rc == DR_OK) {
        dequant_row(x->type, raw, y->of, n);
        for (int64_t i = n == 1 ? 1 : rows; i < rows; i++) y->of[i] = y->of[0];
        y->n_slice = (int)parts;
    }
    mem_free(raw);
    return rc;
}

static int all_scales(pack_source *s, dr_err *e)
{
    int64_t n = tensors_count(s->ts);
    int rc = DR_OK;
    s->scale = mem_zalloc((size_t)n + 1, sizeof *s->scale);
    if (!s->scale) return err_nomem(e, (size_t)n * sizeof *s->scale, "scales");
    for (int64_t i = 0; rc == DR_OK && i < n; i++) {
        const tensor *t = tensors_at(s->ts, i);
        if (t->type == DT_F8_E4M3 && t->n_dims == 2) rc = read_scales(s, t, &s->scale[i], e);
    }
    return rc;
}

const pack_scales *pack_scales_of(const pack_source *s, const tensor *t)
{
    return &s->scale[t - tensors_at(s->ts, 0)];
}

int pack_source_open(pack_source *s, const char *path, dr_err *e)
{
    *s = (pack_source){0};
    buf_init(&s->warn, 1 << 16);
    s->ts = tensors_open(path, e);
    int rc = s->ts ? hparams_read(&s->hp, s->ts, &s->warn, e) : e && e->code ? e->code : DR_EFORMAT;
    if (rc == DR_OK) rc = all_scales(s, e);
    if (rc != DR_OK && s->ts) err_wrap(e, rc, "%s", path);
    if (rc != DR_OK) pack_source_close(s);
    return rc;
}

void pack_source_close(pack_source *s)
{
    for (int64_t i = 0; s->scale && i < tensors_count(s->ts); i++) mem_free(s->scale[i].of);
    mem_free(s->scale);
    tensors_close(s->ts);
    buf_free(&s->warn);
    *s = (pack_source){0};
}

void pack_role_name(char *s, size_t n, pack_role r, container c)
{
    if (r.row == ROLE_ROPE) {
        snprintf(s, n, "rope_freqs.weight");
        return;
    }
    wrow_name(s, n, &weight_table[r.row], c, r.layer);
    size_t k = strlen(s), w = strlen("weight");
    if (r.bias && k > w && k - w + sizeof "bias" <= n) memcpy(s + k - w, "bias", sizeof "bias");
}

bool pack_role_rotated(pack_role r)
{
    if (r.row < 0 || !weight_table[r.row].per_layer) return false;
    size_t at = weight_table[r.row].at;
    return at == offsetof(layer_weights, wq) || at == offsetof(layer_weights, wk);
}

const tensor *pack_find(const pack_source *s, pack_role r)
{
    char name[128];
    pack_role_name(name, sizeof name, r, tensors_container(s->ts));
    return tensors_find(s->ts, name);
}

int64_t pack_row_of(const pack_source *s, pack_role r, bool adjacent, int64_t row)
{
    if (adjacent == s->hp.adjacent || !pack_role_rotated(r)) return row;
    return adjacent ? qk_row_hf(row, s->hp.hs) : qk_row_adjacent(row, s->hp.hs);
}

size_t pack_scratch_bytes(const tensor *t)
{
    int64_t rows = tensor_n_rows(t);
    size_t cols = (size_t)(t->n_dims ? t->dim[t->n_dims - 1] : 1);
    return t->bytes / (size_t)(rows > 0 ? rows : 1) + cols * sizeof(float);
}

static const uint8_t *stored(const pack_source *s, const tensor *t, int64_t row, void *scratch,
                             dr_err *e)
{
    size_t n = t->bytes / (size_t)tensor_n_rows(t);
    if (t->data) return t->data + (size_t)row * n;
    return tensor_rows(s->ts, t, row, 1, scratch, e) == DR_OK ? scratch : NULL;
}

const uint8_t *pack_read_raw(const pack_source *s, pack_role r, const tensor *t, bool adjacent,
                             int64_t row, void *scratch, dr_err *e)
{
    return stored(s, t, t->n_dims < 2 ? 0 : pack_row_of(s, r, adjacent, row), scratch, e);
}

static void multiply(const pack_scales *q, int64_t rows, int64_t row, int64_t cols, float *x)
{
    int64_t part = q->n_slice ? cols / q->n_slice : 0;
    for (int j = 0; j < q->n_slice; j++)
        for (int64_t i = 0; i < part; i++) x[j * part + i] *= q->of[j * rows + row];
}

int pack_read(const pack_source *s, pack_role r, const tensor *t, bool adjacent, int64_t row,
              int64_t n, float *x, void *scratch, dr_err *e)
{
    int64_t cols = t->n_dims ? t->dim[t->n_dims - 1] : 1;
    bool vector = t->n_dims < 2, moved = adjacent != s->hp.adjacent && pack_role_rotated(r);
    for (int64_t i = 0; i < n; i++, x += cols) {
        const uint8_t *p = pack_read_raw(s, r, t, adjacent, row + i, scratch, e);
        if (!p) return e && e->code ? e->code : DR_EIO;
        if (!vector || !moved) {
            quant_floats(t->type, p, x, cols);
            if (!vector)
                multiply(pack_scales_of(s, t), t->dim[0], pack_row_of(s, r, adjacent, row + i), cols,
                         x);
            continue;
        }
        float *y = (float *)(void *)((char *)scratch + (pack_scratch_bytes(t) -
                                                        (size_t)cols * sizeof *y));
        dequant_row(t->type, p, y, cols);
        for (int64_t k = 0; k < cols; k++) x[k] = y[pack_row_of(s, r, adjacent, k)];
    }
    return DR_OK;
}
