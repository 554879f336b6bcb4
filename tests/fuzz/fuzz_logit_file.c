/* fuzz_logit_file.c - reference logits: logit_file_parse and every row. */
#include "eval/logit_file.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_mark m = fuzz_begin(size);
    logit_file l;
    dr_err e = {0};
    int rc = logit_file_parse(&l, data, size, &e);
    DR_ASSERT(!rc == !e.code && (!rc || e.msg[0]));
    for (int64_t w = 0; !rc && w < l.windows; w++)
        for (int i = l.first; !rc && i < l.ctx - 1; i++) {
            logit_row r;
            rc = logit_file_row(&l, w, i, &r, &e);
            DR_ASSERT(!rc == !e.code);
            if (!rc) DR_ASSERT(r.at <= 1e-9 && r.top >= 0 && r.top < l.V);
        }
    fuzz_end(m);
    return 0;
}
