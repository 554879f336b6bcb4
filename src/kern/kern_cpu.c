/* kern_cpu.c - what this CPU has, in the bundles of kern.h. The compiler's test also asks
 * whether the operating system saves the registers; tiles must be asked for by name. */
#define _GNU_SOURCE             /* syscall */
#include "kern/kern.h"

#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#elif defined(__x86_64__)
#include <cpuid.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Linux hands out the tile registers per process, on request; threads made afterwards inherit
 * the permission, those that run already have it too. */
static bool amx_usable(void)
{
    enum { EDX_AMX_BF16 = 1 << 22, EDX_AMX_TILE = 1 << 24, EDX_AMX_INT8 = 1 << 25 };
    enum { REQ_XCOMP_PERM = 0x1023, XFEATURE_TILEDATA = 18 };
    unsigned eax, ebx, ecx, edx, want = EDX_AMX_BF16 | EDX_AMX_TILE | EDX_AMX_INT8;
    if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) || (edx & want) != want) return false;
#if defined(__linux__) && defined(SYS_arch_prctl)
    return syscall(SYS_arch_prctl, REQ_XCOMP_PERM, XFEATURE_TILEDATA) == 0;
#else
    return false;
#endif
}
#endif

unsigned cpu_detect(void)
{
    unsigned f = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) f |= CPU_AVX2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16") &&
        __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("gfni"))
        f |= CPU_AVX512;
    if ((f & CPU_AVX512) && amx_usable()) f |= CPU_AMX;
#elif defined(__aarch64__)
    const unsigned long want = HWCAP_ASIMD | HWCAP_ASIMDHP | HWCAP_ASIMDDP;
    if ((getauxval(AT_HWCAP) & want) == want) f |= CPU_NEON;
    if ((f & CPU_NEON) && (getauxval(AT_HWCAP2) & HWCAP2_I8MM)) f |= CPU_I8MM;
#endif
    return f;
}
