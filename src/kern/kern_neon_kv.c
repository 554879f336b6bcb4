/* kern_neon_kv.c - the quantised cache: tiles to f32, and the rounding of Q4_0. Compiled with this
 * level's flags: only static functions and kern_init_neon_kv may come out of it. */
#if defined(__aarch64__)
#include <arm_neon.h>
#include "kern/kv_tile.h"
#include "kern/vec_neon.h"
#include "kern/scores_body.h"
#include "kern/unroll.h"

static inline float32x4_t halves(const uint16_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}

static inline float32x4_t half(uint16_t h)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(h)));
}

/* Sixteen integers times four scales each. */
static inline void put16(float *to, int8x16_t q, const float32x4_t d[4])
{
    int16x8_t a = vmovl_s8(vget_low_s8(q)), b = vmovl_high_s8(q);
    vst1q_f32(to, vmulq_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(a))), d[0]));
    vst1q_f32(to + 4, vmulq_f32(vcvtq_f32_s32(vmovl_high_s16(a)), d[1]));
    vst1q_f32(to + 8, vmulq_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(b))), d[2]));
    vst1q_f32(to + 12, vmulq_f32(vcvtq_f32_s32(vmovl_high_s16(b)), d[3]));
}

/* Nibbles 0..15 less 8. */
static inline int8x16_t low(uint8x16_t u)
{
    return vsubq_s8(vreinterpretq_s8_u8(vandq_u8(u, vdupq_n_u8(15))), vdupq_n_s8(8));
}
static inline int8x16_t high(uint8x16_t u)
{
    return vsubq_s8(vreinterpretq_s8_u8(vshrq_n_u8(u, 4)), vdupq_n_s8(8));
}

static void v_q8(float *v, const void *head, int hs)
{
    const char *pv = (const char *)head + kv_tile_bytes(8, hs);
    const uint16_t *dv = (const uint16_t *)pv;
    const int8_t *qv = (const int8_t *)(pv + kv_tile_scales(hs));
    for (int b = 0; b < hs / QBLOCK * ATTN_TILE; b++, qv += QBLOCK, v += QBLOCK) {
        float32x4_t one = half(dv[b]), d[4] = { one, one, one, one };
        put16(v, vld1q_s8(qv), d);
        put16(v + 16, vld1q_s8(qv + 16), d);
    }
}

static void v_q4(float *v, const void *head, int hs)
{
    const char *pv = (const char *)head + kv_tile_bytes(4, hs);
    const uint16_t *dv = (const uint16_t *)pv;
    const uint8_t *qv = (const uint8_t *)(pv + kv_tile_scales(hs));
    for (int b = 0; b < hs / QBLOCK * ATTN_TILE; b++, qv += 16, v += QBLOCK) {
        float32x4_t one = half(dv[b]), d[4] = { one, one, one, one };
        uint8x16_t u = vld1q_u8(qv);
        put16(v, low(u), d);
        put16(v + 16, high(u), d);
    }
}

/* Four of x as integers 0..15: FCVTZU gives 0 for what is negative and for NaN. */
static inline uint32x4_t to_nibbles(const float *x, float id)
{
    float32x4_t t = vaddq_f32(vmulq_n_f32(vld1q_f32(x), id), vdupq_n_f32(8.5f));
    return vminq_u32(vcvtq_u32_f32(t), vdupq_n_u32(15));
}

static void quant_q4(uint8_t *q, float *d, const float *x, int K)
{
    const uint32x4_t lane = { 0, 1, 2, 3 };
    for (int b = 0; b < K / QBLOCK; b++, x += QBLOCK, q += QBLOCK / 2) {
        /* magnitudes order the same way as integers, which puts NaN above infinity */
        uint32x4_t m[8], top = vdupq_n_u32(0), at = vdupq_n_u32(QBLOCK);
        for (int i = 0; i < 8; i++) {
            m[i] = vreinterpretq_u32_f32(vabsq_f32(vld1q_f32(x + 4 * i)));
            top = vmaxq_u32(top, m[i]);
        }
        top = vdupq_n_u32(vmaxvq_u32(top));
        for (int i = 0; i < 8; i++) {
            uint32x4_t here = vaddq_u32(lane, vdupq_n_u32(4 * (uint32_t)i));
            at = vminq_u32(at, vornq_u32(here, vceqq_u32(m[i], top)));
        }
        d[b] = x[vminvq_u32(at)] / -8;                  /* the first of equals, with its sign */
        float id = d[b] == 0 ? 0 : 1 / d[b];
        uint16x4_t u[4];
        for (int i = 0; i < 4; i++)
            u[i] = vmovn_u32(vsliq_n_u32(to_nibbles(x + 4 * i, id), to_nibbles(x + 16 + 4 * i, id),
                                         4));
        vst1q_u8(q, vcombine_u8(vmovn_u16(vcombine_u16(u[0], u[1])),
                                vmovn_u16(vcombine_u16(u[2], u[3]))));
    }
}

void kern_init_neon_kv(kern *k);
void kern_init_neon_kv(kern *k)
{
    k->quant_q4 = quant_q4;
    k->scores_q8 = scores_q8;
    k->scores_q4 = scores_q4;
    k->v_q8 = v_q8;
    k->v_q4 = v_q4;
}
#else
typedef int kern_neon_kv_not_here;
#endif
