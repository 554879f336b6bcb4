/* probe.c - the portable probes, and the choice by level. */
#include "kern/probe.h"
#include <stdint.h>
#include <string.h>
#include <time.h>
#include "kern/probe_body.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Repeat a burst of known work until the time is up; the best burst counts, because an
 * interruption can only make one slower. */
double probe_rate(double (*burst)(void), double seconds)
{
    double best = 0, end = now() + seconds;
    do {
        double t = now(), work = burst();
        double rate = work / (now() - t);
        if (rate > best) best = rate;
    } while (now() < end);
    return best;
}

static double burst_plain(void)
{
    float a[16];
    for (int j = 0; j < 16; j++) a[j] = (float)j;
    for (int i = 0; i < 200000; i++) {
        for (int j = 0; j < 16; j++) a[j] = a[j] * 0.999f + 0.001f;
        __asm__ volatile("" : : "r"(a) : "memory");
    }
    return 200000.0 * 32;
}
static double plain(double s) { return probe_rate(burst_plain, s); }

static unsigned read_plain(const void *p, size_t n)
{
    uint64_t s[4] = {0}, v[4];
    for (size_t i = 0; i + 32 <= n; i += 32) {
        memcpy(v, (const char *)p + i, 32);
        for (int j = 0; j < 4; j++) s[j] ^= v[j];
    }
    uint64_t t = s[0] ^ s[1] ^ s[2] ^ s[3];
    return (unsigned)(t ^ t >> 32);
}

void probe_select(probe *p, const char *level)
{
    *p = (probe){ plain, plain, plain, read_plain };
#if defined(__x86_64__)
    if (!strcmp(level, "avx2")) probe_init_avx2(p);
    if (!strcmp(level, "avx512") || !strcmp(level, "amx")) probe_init_avx512(p);
    if (!strcmp(level, "amx")) probe_init_amx(p);
#elif defined(__aarch64__)
    if (!strcmp(level, "neon") || !strcmp(level, "i8mm")) probe_init_neon(p);
    if (!strcmp(level, "i8mm")) probe_init_i8mm(p);
#else
    (void)level;
#endif
}
