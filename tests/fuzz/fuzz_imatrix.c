/* fuzz_imatrix.c - importance matrices of both formats. */
#include "format/imatrix.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    imatrix m;
    dr_err e = {0};
    fuzz_mark mark = fuzz_begin(size);
    if (imatrix_parse(&m, data, size, &e) == DR_OK) {
        DR_ASSERT(m.n_entries > 0);
        for (int64_t i = 0; i < m.n_entries; i++) {
            DR_ASSERT(m.entry[i].count > 0);
            for (int64_t k = 0; k < m.entry[i].n; k++) DR_ASSERT(m.entry[i].sum[k] >= 0);
        }
        imatrix_free(&m);
    }
    fuzz_end(mark);
    return 0;
}
