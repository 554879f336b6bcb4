/* fuzz_gguf.c - gguf_parse, and everything that a GGUF hands out. */
#include <stdio.h>
#include "format/gguf.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_mark m = fuzz_begin(size);
    gguf g;
    dr_err e = {0};
    if (gguf_parse(&g, data, size, &e) != DR_OK) {
        DR_ASSERT(e.code && e.msg[0] && !g.mem);
        fuzz_end(m);
        return 0;
    }
    for (uint64_t i = 0; i < g.n_kv; i++) {
        const gguf_kv *k = &g.kv[i];
        const uint8_t *at = k->at;
        fuzz_touch(k->key.p, k->key.n);
        if (k->type == GGUF_STRING) fuzz_touch(k->str.p, k->str.n);
        for (uint64_t j = 0; k->type == GGUF_ARRAY && k->elem == GGUF_STRING && j < k->n; j++) {
            span s = gguf_array_str(&at);
            fuzz_touch(s.p, s.n);
        }
        if (k->type == GGUF_ARRAY && k->elem == GGUF_STRING) DR_ASSERT(at == k->at + k->bytes);
        else if (k->type != GGUF_STRING) fuzz_touch(k->at, k->bytes);
        char key[256];
        if (k->key.n >= sizeof key) continue;
        snprintf(key, sizeof key, "%.*s", (int)k->key.n, k->key.p);
        DR_ASSERT(gguf_find(&g, key) == k);
        uint64_t u;
        double d;
        bool b;
        span s;
        gguf_get_u64(&g, key, &u);
        gguf_get_f64(&g, key, &d);
        gguf_get_bool(&g, key, &b);
        gguf_get_str(&g, key, &s);
    }
    for (uint64_t i = 0; i < g.n_tensors; i++)
        if (g.tensor[i].data) fuzz_touch(g.tensor[i].data, g.tensor[i].bytes);
    gguf_free(&g);
    fuzz_end(m);
    return 0;
}
