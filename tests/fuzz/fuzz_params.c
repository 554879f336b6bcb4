/* fuzz_params.c - Meta's params.json: hyperparameters from any JSON, and what a conversion would
 * write of them. */
#include "format/json.h"
#include "format/pth_write.h"
#include "model/meta_params.h"
#include "pack/params.h"
#include "fuzz.h"

static int into(void *arg, const void *p, size_t n, dr_err *e)
{
    (void)e;
    buf_put(arg, p, n);
    return DR_OK;
}

/* A model of 8 embeddings, all that is asked of the weights. */
static tensors *weights(void)
{
    static buf b;
    dr_err e = {0};
    buf_init(&b, 1 << 16);
    pth_writer *w = pth_write_new("x", &e);
    pth_add_tensor(w, "tok_embeddings.weight", DT_F32, 2, (int64_t[]){ 8, 0 }, &e);
    pth_write_start_to(w, into, &b, &e);
    pth_write_end(w, &e);
    pth_write_free(w);
    return tensors_parse(b.p, b.n, &e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static tensors *ts;
    if (!ts) DR_ASSERT(ts = weights());
    fuzz_mark m = fuzz_begin(size);
    dr_err e = {0};
    hparams h = {0};
    buf warn = { .cap_max = 4096 }, out = { .cap_max = 1 << 16 };
    json_t *j = json_read(data, size, ((size_t)4 << 20) + 2 * size, "params.json", &e);
    if (j && json_is_object(j)) {
        int rc = meta_params_read(&h, ts, j, &warn, &e);
        DR_ASSERT(rc == DR_OK || (e.code && e.msg[0]));
        if (rc == DR_OK && h.hs > 0 && h.nh > 0 && h.nkv > 0 && h.F > 0) {
            fuzz_touch(&h, sizeof h);
            params_json(&h, &out, NULL);
            params_agree(j, &h);
        }
    }
    json_decref(j);
    buf_free(&warn);
    buf_free(&out);
    fuzz_end(m);
    return 0;
}
