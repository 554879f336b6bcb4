/* fuzz_json.c - json_read: what it accepts never costs more than it said. */
#include "format/json.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_mark m = fuzz_begin(size);
    dr_err e = {0};
    size_t cost = json_cost(data, size);
    json_t *j = json_read(data, size, 2 * size + ((size_t)4 << 20), "fuzz", &e);
    DR_ASSERT(j || (e.code && e.msg[0]));
    DR_ASSERT(mem_peak_bytes() - m.live <= cost);
    json_decref(j);
    fuzz_end(m);
    return 0;
}
