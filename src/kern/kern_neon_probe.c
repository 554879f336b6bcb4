/* kern_neon_probe.c - the peaks of NEON: twenty chains, which covers four units of five cycles. */
#if defined(__aarch64__)
#include <arm_neon.h>
#include "kern/probe_body.h"

enum { CHAINS = 20, ROUNDS = 100000 };

/* Named accumulators: an array, even in an unrolled loop, gcc keeps on the stack. */
#define ALL(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) \
               X(10) X(11) X(12) X(13) X(14) X(15) X(16) X(17) X(18) X(19)
#define KEEP(j) __asm__ volatile("" : : "w"(a##j));
#define HOLD(j) __asm__ volatile("" : "+w"(a##j));
#define START_F(j) float32x4_t a##j = vdupq_n_f32((float)j);
#define START_I(j) int32x4_t a##j = vdupq_n_s32(j);
#define F32(j) a##j = vfmaq_f32(x, a##j, x); HOLD(j)
#define INT8(j) a##j = vdotq_s32(a##j, x, x); HOLD(j)

static double burst_f32(void)
{
    float32x4_t x = vdupq_n_f32(0.999f);
    ALL(START_F)
    for (int i = 0; i < ROUNDS; i++) {
        ALL(F32)
    }
    ALL(KEEP)
    return (double)ROUNDS * CHAINS * 8;
}

static double burst_int8(void)
{
    int8x16_t x = vdupq_n_s8(3);
    ALL(START_I)
    for (int i = 0; i < ROUNDS; i++) {
        ALL(INT8)
    }
    ALL(KEEP)
    return (double)ROUNDS * CHAINS * 32;
}

static double f32(double s) { return probe_rate(burst_f32, s); }
static double int8(double s) { return probe_rate(burst_int8, s); }

static unsigned read_all(const void *p, size_t n)
{
    const uint8_t *b = p;
    uint8x16_t s0 = vdupq_n_u8(0), s1 = s0;
    for (size_t i = 0; i + 64 <= n; i += 64) {
        s0 = veorq_u8(s0, veorq_u8(vld1q_u8(b + i), vld1q_u8(b + i + 16)));
        s1 = veorq_u8(s1, veorq_u8(vld1q_u8(b + i + 32), vld1q_u8(b + i + 48)));
    }
    uint64x2_t s = vreinterpretq_u64_u8(veorq_u8(s0, s1));
    uint64_t t = vgetq_lane_u64(s, 0) ^ vgetq_lane_u64(s, 1);
    return (unsigned)(t ^ t >> 32);
}

void probe_init_neon(probe *p)
{
    p->f32 = p->bf16 = f32;              // bf16 is multiplied as f32 on this level
    p->int8 = int8;
    p->read = read_all;
}
#else
typedef int kern_neon_probe_not_here;
#endif
