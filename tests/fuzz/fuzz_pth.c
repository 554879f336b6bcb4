/* fuzz_pth.c - pth_parse: the archive, its pickle and where its tensors lie. */
#include "format/pth.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_mark m = fuzz_begin(size);
    pth p;
    dr_err e = {0};
    if (pth_parse(&p, data, size, &e) == DR_OK) {
        for (int64_t i = 0; i < p.n; i++) {
            fuzz_touch(p.t[i].name.p, p.t[i].name.n);
            if (!p.t[i].bytes) continue;
            fuzz_touch(p.t[i].data, 1);            // tensors may share bytes: ends are enough
            fuzz_touch(p.t[i].data + p.t[i].bytes - 1, 1);
            DR_ASSERT(pth_find(&p, p.t[i].name) == &p.t[i]);
        }
        fuzz_touch(p.top.p, p.top.n);
        pth_free(&p);
    } else {
        DR_ASSERT(e.code && e.msg[0] && !p.mem);
    }
    fuzz_end(m);
    return 0;
}
