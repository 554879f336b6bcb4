/* fuzz_recipe.c - recipes of training. */
#include "train/recipe.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static recipe r;
    dr_err e = {0};
    fuzz_mark mark = fuzz_begin(size);
    if (recipe_parse(&r, "recipe", data, size, NULL, 0, &e) == DR_OK) {
        DR_ASSERT(r.n_phases > 0 && (r.model.init || r.model.shape));
        recipe_free(&r);
    } else {
        DR_ASSERT(e.msg[0]);
    }
    fuzz_end(mark);
    return 0;
}
