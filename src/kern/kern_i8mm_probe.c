/* kern_i8mm_probe.c - the peak of SMMLA: twenty chains, as kern_neon_probe.c has them. */
#if defined(__aarch64__)
#include <arm_neon.h>
#include "kern/probe_body.h"

enum { CHAINS = 20, ROUNDS = 100000 };

/* Named accumulators: an array, even in an unrolled loop, gcc keeps on the stack. */
#define ALL(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) \
               X(10) X(11) X(12) X(13) X(14) X(15) X(16) X(17) X(18) X(19)
#define KEEP(j) __asm__ volatile("" : : "w"(a##j));
#define HOLD(j) __asm__ volatile("" : "+w"(a##j));
#define START_I(j) int32x4_t a##j = vdupq_n_s32(j);
#define INT8(j) a##j = vmmlaq_s32(a##j, x, x); HOLD(j)

static double burst_int8(void)
{
    int8x16_t x = vdupq_n_s8(3);
    ALL(START_I)
    for (int i = 0; i < ROUNDS; i++) {
        ALL(INT8)
    }
    ALL(KEEP)
    return (double)ROUNDS * CHAINS * 64;
}

static double int8(double s) { return probe_rate(burst_int8, s); }

void probe_init_i8mm(probe *p) { p->int8 = int8; }
#else
typedef int kern_i8mm_probe_not_here;
#endif
