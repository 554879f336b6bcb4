/* kern_avx512_probe.c - the peaks of AVX-512 with VNNI and BF16. */
#if defined(__x86_64__)
#include <immintrin.h>
#include "kern/probe_body.h"

enum { CHAINS = 16, ROUNDS = 100000 };

#define BURST(name, type, start, step, per)                                             \
    static double name(void)                                                            \
    {                                                                                   \
        type a[CHAINS];                                                                 \
        for (int j = 0; j < CHAINS; j++) a[j] = start;                                  \
        for (int i = 0; i < ROUNDS; i++) {                                              \
            _Pragma("GCC unroll 16") for (int j = 0; j < CHAINS; j++) a[j] = step;      \
            _Pragma("GCC unroll 16") for (int j = 0; j < CHAINS; j++)                   \
                __asm__ volatile("" : "+v"(a[j]));                                      \
        }                                                                               \
        return (double)ROUNDS * CHAINS * (per);                                         \
    }
BURST(burst_f32, __m512, _mm512_set1_ps((float)j),
      _mm512_fmadd_ps(a[j], _mm512_set1_ps(0.999f), _mm512_set1_ps(0.999f)), 32)
BURST(burst_bf16, __m512, _mm512_set1_ps((float)j),
      _mm512_dpbf16_ps(a[j], (__m512bh)_mm512_set1_epi32(0x3c003c00),
                       (__m512bh)_mm512_set1_epi32(0x3c003c00)), 64)
BURST(burst_int8, __m512i, _mm512_set1_epi32(j),
      _mm512_dpbusd_epi32(a[j], _mm512_set1_epi8(3), _mm512_set1_epi8(5)), 128)

static double f32(double s) { return probe_rate(burst_f32, s); }
static double bf16(double s) { return probe_rate(burst_bf16, s); }
static double int8(double s) { return probe_rate(burst_int8, s); }

static unsigned read_all(const void *p, size_t n)
{
    const char *b = p;
    __m512i s[4];
    for (int j = 0; j < 4; j++) s[j] = _mm512_setzero_si512();
    for (size_t i = 0; i + 256 <= n; i += 256) {
        for (int j = 0; j < 4; j++) {
            _mm_prefetch(b + i + 4096 + 64 * j, _MM_HINT_T0);
            s[j] = _mm512_xor_si512(s[j], _mm512_loadu_si512(b + i + 64 * j));
        }
    }
    s[0] = _mm512_xor_si512(_mm512_xor_si512(s[0], s[1]), _mm512_xor_si512(s[2], s[3]));
    return (unsigned)_mm512_reduce_add_epi32(s[0]);
}

void probe_init_avx512(probe *p) { *p = (probe){ f32, bf16, int8, read_all }; }
#endif
