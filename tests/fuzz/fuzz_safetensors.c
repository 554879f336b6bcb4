/* fuzz_safetensors.c - st_parse. */
#include "format/safetensors.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_mark m = fuzz_begin(size);
    safetensors s;
    dr_err e = {0};
    if (st_parse(&s, data, size, &e) == DR_OK) {
        for (int64_t i = 0; i < s.n; i++) {
            fuzz_touch(s.t[i].name.p, s.t[i].name.n);
            fuzz_touch(s.t[i].data, s.t[i].bytes);
        }
        st_free(&s);
    } else {
        DR_ASSERT(e.code && e.msg[0] && !s.mem);
    }
    fuzz_end(m);
    return 0;
}
