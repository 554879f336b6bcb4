/* kern_avx2_probe.c - the peaks of AVX2: twelve chains hide the latency of the unit. */
#if defined(__x86_64__)
#include <immintrin.h>
#include "kern/probe_body.h"

enum { CHAINS = 10, ROUNDS = 100000 };

/* Named accumulators: an array, even in an unrolled loop, gcc keeps on the stack. */
#define ALL(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9)
#define KEEP(j) __asm__ volatile("" : : "x"(a##j));
#define HOLD(j) __asm__ volatile("" : "+x"(a##j));
#define START_F(j) __m256 a##j = _mm256_set1_ps((float)j);
#define START_I(j) __m256i a##j = _mm256_set1_epi32(j);
#define F32(j) a##j = _mm256_fmadd_ps(a##j, x, x); HOLD(j)
/* what AVX2 has for int8: vpmaddubsw, vpmaddwd, vpaddd for 32 products */
#define INT8(j) a##j = _mm256_add_epi32(a##j, _mm256_madd_epi16(_mm256_maddubs_epi16(x, a##j), one)); \
                HOLD(j)

static double burst_f32(void)
{
    __m256 x = _mm256_set1_ps(0.999f);
    ALL(START_F)
    for (int i = 0; i < ROUNDS; i++) {
        ALL(F32)
    }
    ALL(KEEP)
    return (double)ROUNDS * CHAINS * 16;
}

static double burst_int8(void)
{
    __m256i x = _mm256_set1_epi8(3), one = _mm256_set1_epi16(1);
    ALL(START_I)
    for (int i = 0; i < ROUNDS; i++) {
        ALL(INT8)
    }
    ALL(KEEP)
    return (double)ROUNDS * CHAINS * 64;
}

static double f32(double s) { return probe_rate(burst_f32, s); }
static double int8(double s) { return probe_rate(burst_int8, s); }

static unsigned read_all(const void *p, size_t n)
{
    const char *b = p;
    __m256i s0 = _mm256_setzero_si256(), s1 = s0;
    for (size_t i = 0; i + 64 <= n; i += 64) {
        s0 = _mm256_xor_si256(s0, _mm256_loadu_si256((const __m256i *)(const void *)(b + i)));
        s1 = _mm256_xor_si256(s1, _mm256_loadu_si256((const __m256i *)(const void *)(b + i + 32)));
    }
    s0 = _mm256_xor_si256(s0, s1);
    return (unsigned)_mm256_extract_epi32(s0, 0) ^ (unsigned)_mm256_extract_epi32(s0, 5);
}

void probe_init_avx2(probe *p)
{
    p->f32 = p->bf16 = f32;              // bf16 is multiplied as f32 on this level
    p->int8 = int8;
    p->read = read_all;
}
#endif
