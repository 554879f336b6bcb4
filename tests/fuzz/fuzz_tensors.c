/* fuzz_tensors.c - tensors_parse: either container through the one view, and the textbook
 * dequantiser on what it hands out. */
#include "base/block.h"
#include "format/dequant.h"
#include "format/tensors.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_mark m = fuzz_begin(size);
    dr_err e = {0};
    tensors *ts = tensors_parse(data, size, &e);
    DR_ASSERT(ts || (e.code && e.msg[0]));
    for (int64_t i = 0; ts && i < tensors_count(ts); i++) {
        const tensor *t = tensors_at(ts, i);
        const type_info *ti = type_get(t->type);
        static float y[4096];
        fuzz_touch(t->name.p, t->name.n);
        fuzz_touch(tensor_type_name(ts, t->type), 1);
        if (!t->data) continue;
        fuzz_touch(t->data, t->bytes);
        int64_t k = t->n_dims ? t->dim[t->n_dims - 1] : 1;
        if (ti && t->bytes && k <= 4096) dequant_row(t->type, t->data, y, k);
    }
    tensors_close(ts);
    fuzz_end(m);
    return 0;
}
