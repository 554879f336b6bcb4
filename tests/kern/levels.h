/* levels.h - what the programs that check kernels level by level share: memory, random and equal
 * floats, time, and the walk through this CPU's levels. Included once, after t.h. */
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/half.h"
#include "base/mem.h"
#include "kern/kern.h"

static kern ref, new;
static const char *level;
static bool bench;

static inline void *get(size_t n)
{
    void *p = mem_aligned(n);
    if (!p) abort();
    memset(p, 0, n);
    return p;
}

/* Any bits at all, now and then; plain numbers otherwise. */
static inline float wild(int one_in)
{
    uint32_t u = (uint32_t)(int32_t)(t_rand() * 0x1p23f) ^ (uint32_t)(int32_t)(t_rand() * 0x1p30f) << 9;
    return u % (uint32_t)one_in ? t_rand() * 4 : f32_from_bits(u * 2654435761u);
}

static inline bool same(float a, float b)
{
    return f32_bits(a) == f32_bits(b) || (isnan(a) && isnan(b));
}

static inline bool same_n(const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!same(a[i], b[i])) return false;
    return true;
}

static inline double seconds(void)          /* of this thread: the machine may be shared */
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* A check of the slot at that offset. */
typedef struct { const char *name; size_t slot; void (*fn)(void); } level_check;

/* Each check at each level above ref that brought a new version of its slot. begin, unless NULL, is
 * called before a level's. */
static inline void each_level(const level_check *checks, int n, void (*begin)(const kern_level *))
{
    unsigned cpu = cpu_detect();
    for (int l = 1; l < n_kern_levels; l++) {
        level = kern_levels[l].name;
        if ((kern_levels[l].need & cpu) != kern_levels[l].need) {
            printf("skip %s: not on this CPU\n", level);
            continue;
        }
        kern below = new;
        kern_levels[l].init(&new);
        if (begin) begin(&kern_levels[l]);
        for (int i = 0; i < n; i++) {
            char name[64];
            snprintf(name, sizeof name, "%s_%s", checks[i].name, level);
            if (memcmp((char *)&new + checks[i].slot, (char *)&below + checks[i].slot,
                       sizeof(void (*)(void))))
                t_run(name, checks[i].fn);
        }
    }
}
