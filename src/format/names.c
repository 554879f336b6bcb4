/* names.c - see names.h. */
#include "format/names.h"
#include "base/os.h"

uint64_t names_seed(void)
{
    static int here;                 // its address differs where the system randomises it
    return ((uint64_t)(uintptr_t)&here ^ (uint64_t)os_now_ns()) * 0x9E3779B97F4A7C15u;
}

/* Eight bytes a step, each mixed by a multiply and a fold of the high half. */
uint64_t names_hash(span s, uint64_t seed)
{
    uint64_t h = seed ^ s.n;
    for (size_t i = 0; i < s.n; i += 8) {
        uint64_t w = 0;
        memcpy(&w, s.p + i, s.n - i < 8 ? s.n - i : 8);
        h = (h ^ w) * 0xD6E8FEB86659FD93u;
        h ^= h >> 32;
        h = (h + (seed >> 17 | seed << 47)) * 0xFF51AFD7ED558CCDu;
        h ^= h >> 29;
    }
    return h ^ h >> 32;
}
