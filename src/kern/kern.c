/* kern.c - the levels, and the choice among them. */
#include <string.h>
#include "base/block.h"
#include "kern/kern.h"

void kern_init_ref(kern *k);
void kern_init_avx2(kern *k);
void kern_init_avx512(kern *k);
void kern_init_amx(kern *k);
void kern_init_neon(kern *k);
void kern_init_i8mm_q(kern *k);

const kern_level kern_levels[] = {
    { "ref",    0,                              kern_init_ref },
#if defined(__x86_64__)
    { "avx2",   CPU_AVX2,                       kern_init_avx2 },
    { "avx512", CPU_AVX2 | CPU_AVX512,          kern_init_avx512 },
    { "amx",    CPU_AVX2 | CPU_AVX512 | CPU_AMX, kern_init_amx },
#elif defined(__aarch64__)
    { "neon",   CPU_NEON,                       kern_init_neon },
    { "i8mm",   CPU_NEON | CPU_I8MM,            kern_init_i8mm_q },
#endif
};
const int n_kern_levels = sizeof kern_levels / sizeof *kern_levels;

const char *kern_select(kern *k, const char *cap)
{
    int top = n_kern_levels - 1;
    unsigned cpu = cpu_detect();
    if (cap) {
        while (top >= 0 && strcmp(kern_levels[top].name, cap)) top--;
        if (top < 0 || (kern_levels[top].need & ~cpu)) return NULL;
    }
    const char *name = NULL;
    memset(k, 0, sizeof *k);
    for (int i = 0; i <= top; i++) {
        if (kern_levels[i].need & ~cpu) continue;
        kern_levels[i].init(k);
        name = kern_levels[i].name;
    }
    return name;
}

int act_kind(int type)
{
    switch (type) {
    case DT_F32: case DT_F16: case DT_F8_E4M3: return ACT_F32;
    case DT_BF16: return ACT_BF16;
    default: return type_get(type)->elems == QSUPER ? ACT_QK : ACT_Q8;
    }
}
