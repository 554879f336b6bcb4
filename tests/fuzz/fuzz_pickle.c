/* fuzz_pickle.c - pickle_read, with the budget that pth.c gives it. */
#include "format/pickle.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_mark m = fuzz_begin(size);
    pickle p;
    dr_err e = {0};
    if (pickle_read(&p, data, size, ((size_t)5 << 19) + size / 8 * 7, &e) == DR_OK) {
        for (uint64_t i = 0; i < p.n; i++) {
            const pickle_tensor *t = &p.t[i];
            const pickle_storage *s = &p.storage[t->storage];
            DR_ASSERT(t->storage < p.n_storages && t->n_dims <= PICKLE_MAX_DIMS);
            fuzz_touch(t->name.p, t->name.n);
            fuzz_touch(s->key.p, s->key.n);
            if (t->contiguous && t->count)
                DR_ASSERT((t->first + t->count) * (uint64_t)(t->bits / 8) <= s->bytes);
        }
        pickle_free(&p);
    } else {
        DR_ASSERT(e.code && e.msg[0] && !p.t && !p.storage);
    }
    fuzz_end(m);
    return 0;
}
