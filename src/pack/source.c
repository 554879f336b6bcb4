/* source.c - see source.h. */
#include "pack/source.h"
#include "base/mem.h"
#include "format/dequant.h"
#include "format/qkrow.h"
#include "model/weights.h"

int pack_source_open(pack_source *s, const char *path, dr_err *e)
{
    *s = (pack_source){0};
    buf_init(&s->warn, 1 << 16);
    s->ts = tensors_open(path, e);
    int rc = s->ts ? hparams_read(&s->hp, s->ts, &s->warn, e) : e && e->code ? e->code : DR_EFORMAT;
    if (rc != DR_OK && s->ts) err_wrap(e, rc, "%s", path);
    if (rc != DR_OK) pack_source_close(s);
    return rc;
}

void pack_source_close(pack_source *s)
{
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

int pack_read(const pack_source *s, pack_role r, const tensor *t, bool adjacent, int64_t row,
              int64_t n, float *x, void *scratch, dr_err *e)
{
    int64_t cols = t->n_dims ? t->dim[t->n_dims - 1] : 1;
    bool vector = t->n_dims < 2, moved = adjacent != s->hp.adjacent && pack_role_rotated(r);
    for (int64_t i = 0; i < n; i++, x += cols) {
        const uint8_t *p = pack_read_raw(s, r, t, adjacent, row + i, scratch, e);
        if (!p) return e && e->code ? e->code : DR_EIO;
        if (!vector || !moved) {
            dequant_row(t->type, p, x, cols);
            continue;
        }
        float *y = (float *)(void *)((char *)scratch + (pack_scratch_bytes(t) -
                                                        (size_t)cols * sizeof *y));
        dequant_row(t->type, p, y, cols);
        for (int64_t k = 0; k < cols; k++) x[k] = y[pack_row_of(s, r, adjacent, k)];
    }
    return DR_OK;
}
