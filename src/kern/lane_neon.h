/* lane_neon.h - lane_ref.h's names on four registers of NEON. */
#include <arm_neon.h>
#include <stdint.h>
#include <string.h>
#include "base/half.h"

enum { LANES = 16 };
typedef struct { float32x4_t v[4]; } lf;
typedef struct { uint32x4_t v[4]; } lm;

#define LANE_EACH for (int i = 0; i < 4; i++)
static inline lf l_set(float a)         { lf r; LANE_EACH r.v[i] = vdupq_n_f32(a); return r; }
static inline lf l_load(const float *p) { lf r; LANE_EACH r.v[i] = vld1q_f32(p + 4 * i); return r; }
static inline void l_store(float *p, lf a) { LANE_EACH vst1q_f32(p + 4 * i, a.v[i]); }
static inline lf l_add(lf a, lf b)      { LANE_EACH a.v[i] = vaddq_f32(a.v[i], b.v[i]); return a; }
static inline lf l_sub(lf a, lf b)      { LANE_EACH a.v[i] = vsubq_f32(a.v[i], b.v[i]); return a; }
static inline lf l_mul(lf a, lf b)      { LANE_EACH a.v[i] = vmulq_f32(a.v[i], b.v[i]); return a; }
static inline lf l_div(lf a, lf b)      { LANE_EACH a.v[i] = vdivq_f32(a.v[i], b.v[i]); return a; }
static inline lf l_fma(lf a, lf b, lf c)
{
    LANE_EACH c.v[i] = vfmaq_f32(c.v[i], a.v[i], b.v[i]);
    return c;
}
static inline lf l_fnma(lf a, lf b, lf c)
{
    LANE_EACH c.v[i] = vfmsq_f32(c.v[i], a.v[i], b.v[i]);
    return c;
}
static inline lm l_lt(lf a, lf b)       { lm m; LANE_EACH m.v[i] = vcltq_f32(a.v[i], b.v[i]); return m; }
static inline lf l_sel(lm m, lf a, lf b)
{
    LANE_EACH b.v[i] = vbslq_f32(m.v[i], a.v[i], b.v[i]);
    return b;
}
/* Of two zeros these take the second, as the other levels do; FMIN and FMAX order them by sign. */
static inline lf l_min(lf a, lf b)      { return l_sel(l_lt(a, b), a, b); }
static inline lf l_max(lf a, lf b)      { return l_sel(l_lt(b, a), a, b); }
static inline lf l_abs(lf a)            { LANE_EACH a.v[i] = vabsq_f32(a.v[i]); return a; }
static inline lf l_round(lf a)          { LANE_EACH a.v[i] = vrndnq_f32(a.v[i]); return a; }
static inline lf l_floor(lf a)          { LANE_EACH a.v[i] = vrndmq_f32(a.v[i]); return a; }
static inline lf l_f16(lf a)
{
    LANE_EACH a.v[i] = vcvt_f32_f16(vcvt_f16_f32(a.v[i]));
    return a;
}
static inline unsigned l_mask(lm m)
{
    static const uint32_t bit[4] = { 1, 2, 4, 8 };
    unsigned b = 0;
    LANE_EACH b |= (unsigned)vaddvq_u32(vandq_u32(m.v[i], vld1q_u32(bit))) << 4 * i;
    return b;
}
static inline float l_most(lf a)
{
    return vmaxvq_f32(vmaxq_f32(vmaxq_f32(a.v[0], a.v[1]), vmaxq_f32(a.v[2], a.v[3])));
}
static inline void l_bytes(uint8_t *p, lf a)
{
    uint16x8_t lo = vcombine_u16(vmovn_u32(vcvtq_u32_f32(a.v[0])), vmovn_u32(vcvtq_u32_f32(a.v[1])));
    uint16x8_t hi = vcombine_u16(vmovn_u32(vcvtq_u32_f32(a.v[2])), vmovn_u32(vcvtq_u32_f32(a.v[3])));
    vst1q_u8(p, vcombine_u8(vmovn_u16(lo), vmovn_u16(hi)));
}
static inline void l_turn(float *to, const float *const *from)
{
    for (int i = 0; i < LANES; i++)
        for (int j = 0; j < LANES; j++) to[j * LANES + i] = from[i] ? from[i][j] : 0;
}
#undef LANE_EACH
