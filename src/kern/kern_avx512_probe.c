/* kern_avx512_probe.c - the peaks of AVX-512 with VNNI and BF16. */
#if defined(__x86_64__)
#include <immintrin.h>
#include "kern/probe_body.h"

enum { CHAINS = 12, ROUNDS = 100000 };

/* Named accumulators: an array, even in an unrolled loop, gcc keeps on the stack. */
#define ALL(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define BURST(name, start, step, per)                                                   \
    static double name(void)                                                            \
    {                                                                                   \
        ALL(start)                                                                      \
        for (int i = 0; i < ROUNDS; i++) {                                              \
            ALL(step)                                                                   \
        }                                                                               \
        ALL(KEEP)                                                                       \
        return (double)ROUNDS * CHAINS * (per);                                         \
    }
#define KEEP(j) __asm__ volatile("" : : "v"(a##j));
#define HOLD(j) __asm__ volatile("" : "+v"(a##j));
#define START_F(j) __m512 a##j = _mm512_set1_ps((float)j);
#define START_I(j) __m512i a##j = _mm512_set1_epi32(j);
#define F32(j) a##j = _mm512_fmadd_ps(a##j, XF, XF); HOLD(j)
#define BF16(j) a##j = _mm512_dpbf16_ps(a##j, (__m512bh)XB, (__m512bh)XB); HOLD(j)
#define INT8(j) a##j = _mm512_dpbusd_epi32(a##j, XI, XI); HOLD(j)

#define XF _mm512_set1_ps(0.999f)
#define XB _mm512_set1_epi32(0x3c003c00)
#define XI _mm512_set1_epi8(3)
BURST(burst_f32, START_F, F32, 32)
BURST(burst_bf16, START_F, BF16, 64)
BURST(burst_int8, START_I, INT8, 128)

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
