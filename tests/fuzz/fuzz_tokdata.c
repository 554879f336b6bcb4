/* fuzz_tokdata.c - a tokenizer's file into every other form, and back from GGUF. */
#include "base/buf.h"
#include "base/mem.h"
#include "pack/tokdata.h"
#include "fuzz.h"

static void write_all(const tokdata *m)
{
    dr_err e = {0};
    buf b = { .cap_max = 1 << 26 };
    if (tokdata_json(m, &b, &e) == DR_OK) fuzz_touch(b.p, b.n);
    buf_reset(&b);
    if (tokdata_config_json(m, 8192, &b, &e) == DR_OK) fuzz_touch(b.p, b.n);
    buf_reset(&b);
    if (tokdata_model(m, &b, &e) == DR_OK) fuzz_touch(b.p, b.n);
    buf_free(&b);
    gguf_writer *w = gguf_write_new(&e);
    if (w && tokdata_put_gguf(m, w, &e) == DR_OK) {
        size_t n = (size_t)gguf_write_size(w);
        void *mem = mem_alloc(n);
        gguf g;
        tokdata again;
        DR_ASSERT(mem && gguf_write_start_mem(w, mem, &e) == DR_OK);
        DR_ASSERT(gguf_parse(&g, mem, n, &e) == DR_OK);
        if (tokdata_init(&again, m->V, &e) == DR_OK) tokdata_from_gguf(&again, &g, &e);
        tokdata_free(&again);
        gguf_free(&g);
        mem_free(mem);
    }
    gguf_write_free(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_mark k = fuzz_begin(size);
    dr_err e = {0};
    tokdata m;
    int rc = tokdata_init(&m, 2048, &e);
    if (rc == DR_OK) rc = tokdata_read(&m, (span){ (const char *)data, size }, &e);
    DR_ASSERT(rc == DR_OK || (e.code && e.msg[0]));
    if (rc == DR_OK && m.kind != TOKD_NONE) write_all(&m);
    tokdata_free(&m);
    DR_ASSERT(mem_live_bytes() == k.live);
    return 0;
}
