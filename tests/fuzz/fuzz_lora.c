/* fuzz_lora.c - adapters against the shapes of a small model: a config (JSON, empty: a GGUF adapter), a
 * 0, zeros to a multiple of 8, then the file of tensors. */
#include "format/json.h"
#include "fuzz.h"
#include "model/lora.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_mark m = fuzz_begin(size);
    const uint8_t *zero = memchr(data, 0, size);
    size_t text = zero ? (size_t)(zero - data) : size, at = (text + 8) & ~(size_t)7;
    if (at < size) {
        hparams h = { .V = 6, .C = 4, .L = 2, .nh = 2, .nkv = 1, .hs = 4, .F = 8, .n_ctx = 64 };
        dr_err e = {0};
        json_t *c = text ? json_read(data, text, 1 << 20, "config", &e) : NULL;
        tensors *ts = !text || c ? tensors_parse(data + at, size - at, &e) : NULL;
        lora *l = ts ? lora_from_tensors(ts, c, 1, &h, true, &e) : NULL;
        DR_ASSERT(!l == !!e.code);
        for (int i = 0; l && i < n_weights; i++)
            for (int k = 0; k < (weight_table[i].per_layer ? h.L : 1); k++) {
                const lora_mat *a = lora_at(l, i, k);
                if (!a) continue;
                fuzz_touch(a->a.data, (size_t)a->a.rows * a->a.row_bytes);
                fuzz_touch(a->b.data, (size_t)a->b.rows * a->b.row_bytes);
            }
        lora_close(l);
        tensors_close(ts);
        json_decref(c);
    }
    fuzz_end(m);
    return 0;
}
