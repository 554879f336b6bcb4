/* export.c - see export.h. A conversion of the first model whose every row is replaced by the
 * checkpoint's, which are in Hugging Face's order. */
#include "train/export.h"
#include <string.h>
#include "base/mem.h"
#include "model/weights.h"

typedef struct {
    const ckpt *c;
    const pack_source *s;
    bool adjacent;               /* the output's rows of q and k pair neighbours */
} exporting;

static int opened(void *arg, const pack_source *s, bool adjacent, dr_err *e)
{
    exporting *x = arg;
    (void)e;
    x->s = s, x->adjacent = adjacent;
    return DR_OK;
}

static bool edits(void *arg, const pack_tensor *t)
{
    (void)arg;
    return t->role.row >= 0;
}

/* Row r of an output whose pairs are neighbours, in Hugging Face's order, whose pairs are half a head
 * apart. */
static int64_t hf_row(const hparams *h, int64_t r)
{
    int64_t head = r / h->hs, i = r % h->hs;
    return head * h->hs + i / 2 + (i % 2) * (h->hs / 2);
}

static int edit(void *arg, const pack_tensor *t, int64_t row, int64_t n, float *x, int thread,
                dr_err *e)
{
    const exporting *k = arg;
    ckpt_array a = { .type = CKPT_F32, .total = t->all_rows * t->all_cols };
    bool swap = k->adjacent && pack_role_rotated(t->role);
    (void)thread;
    if (t->role.bias) return err_set(e, DR_EUNSUPPORTED, "%s: biases are not trained", t->name);
    pack_role_name(a.name, sizeof a.name, t->role, CONTAINER_SAFETENSORS);
    int rc = DR_OK;
    for (int64_t i = 0; i < n && rc == DR_OK; i += swap ? 1 : n) {
        int64_t from = swap ? hf_row(&k->s->hp, row + i) : row;
        a.p = x + i * t->all_cols;
        a.at = from * t->all_cols;
        a.n = (swap ? 1 : n) * t->all_cols;
        rc = ckpt_read(k->c, &a, e);
    }
    return rc;
}

int export_run(const ckpt *c, const convert_opt *o, pool *p, dr_err *e)
{
    exporting x = { .c = c };
    convert_edit ed = { .open = opened, .edits = edits, .edit = edit,
                        .key = 0x7261696e00000000u ^ (uint64_t)c->step, .arg = &x };
    convert_opt with = *o;
    with.edit = &ed;
    return convert(&with, p, e);
}
