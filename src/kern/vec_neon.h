/* vec_neon.h - sixteen floats in four registers: the same lanes as vec_avx512.h, hence the same
 * bits. Maxima are a > b ? a : b, as x86 has them: FMAX would let a NaN win. */
#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

enum { MUL_R = 2, MUL_C = 3, ATT_R = 1, ATT_WIDEN = 1 };

typedef struct { float32x4_t a, b, c, d; } vf;
typedef struct { uint16x8_t a, b, c, d; } vh;           /* thirty-two bf16 */

static inline vf v_set(float x)
{
    float32x4_t v = vdupq_n_f32(x);
    return (vf){ v, v, v, v };
}
static inline vf v_load(const float *p)
{
    return (vf){ vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12) };
}
static inline void v_store(float *p, vf x)
{
    vst1q_f32(p, x.a), vst1q_f32(p + 4, x.b), vst1q_f32(p + 8, x.c), vst1q_f32(p + 12, x.d);
}
static inline vf v_load_n(const float *p, int n)
{
    float t[16] = { 0 };
    memcpy(t, p, (size_t)n * sizeof *t);
    return v_load(t);
}
static inline void v_store_n(float *p, vf x, int n)
{
    float t[16];
    v_store(t, x);
    memcpy(p, t, (size_t)n * sizeof *t);
}
static inline float32x4_t f16_quarter(const uint16_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
static inline vf v_load_f16(const uint16_t *p)
{
    return (vf){ f16_quarter(p), f16_quarter(p + 4), f16_quarter(p + 8), f16_quarter(p + 12) };
}
static inline float32x4_t bf16_quarter(const uint16_t *p)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}
static inline vf v_load_bf16(const uint16_t *p)
{
    return (vf){ bf16_quarter(p), bf16_quarter(p + 4), bf16_quarter(p + 8), bf16_quarter(p + 12) };
}
static inline vf v_load_f16_n(const uint16_t *p, int n)
{
    uint16_t t[16] = { 0 };
    memcpy(t, p, (size_t)n * sizeof *t);
    return v_load_f16(t);
}
static inline vf v_load_bf16_n(const uint16_t *p, int n)
{
    uint16_t t[16] = { 0 };
    memcpy(t, p, (size_t)n * sizeof *t);
    return v_load_bf16(t);
}

#define EACH(op, x, y) (vf){ op((x).a, (y).a), op((x).b, (y).b), op((x).c, (y).c), op((x).d, (y).d) }
static inline vf v_mul(vf x, vf y) { return EACH(vmulq_f32, x, y); }
static inline vf v_add(vf x, vf y) { return EACH(vaddq_f32, x, y); }
static inline vf v_div(vf x, vf y) { return EACH(vdivq_f32, x, y); }
static inline float32x4_t max_quarter(float32x4_t x, float32x4_t y)
{
    return vbslq_f32(vcgtq_f32(x, y), x, y);
}
static inline float32x4_t min_quarter(float32x4_t x, float32x4_t y)
{
    return vbslq_f32(vcltq_f32(x, y), x, y);
}
static inline vf v_max(vf x, vf y) { return EACH(max_quarter, x, y); }     /* y if NaN */
static inline vf v_min(vf x, vf y) { return EACH(min_quarter, x, y); }     /* y if NaN */
#undef EACH
static inline vf v_fma(vf x, vf y, vf z)
{
    return (vf){ vfmaq_f32(z.a, x.a, y.a), vfmaq_f32(z.b, x.b, y.b), vfmaq_f32(z.c, x.c, y.c),
                 vfmaq_f32(z.d, x.d, y.d) };
}
static inline vf v_neg(vf x)
{
    return (vf){ vnegq_f32(x.a), vnegq_f32(x.b), vnegq_f32(x.c), vnegq_f32(x.d) };
}
static inline vf v_round(vf x)
{
    return (vf){ vrndnq_f32(x.a), vrndnq_f32(x.b), vrndnq_f32(x.c), vrndnq_f32(x.d) };
}
static inline float32x4_t exp2i_quarter(float32x4_t n)
{
    int32x4_t i = vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127));
    return vreinterpretq_f32_s32(vshlq_n_s32(i, 23));
}
/* a * 2^n for whole n in -126 .. 127 */
static inline vf v_scale2(vf x, vf n)
{
    return v_mul(x, (vf){ exp2i_quarter(n.a), exp2i_quarter(n.b), exp2i_quarter(n.c),
                          exp2i_quarter(n.d) });
}
static inline float32x4_t zero_below_quarter(float32x4_t x, float32x4_t of, float lim)
{
    uint32x4_t below = vcltq_f32(of, vdupq_n_f32(lim));
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(x), below));
}
static inline vf v_zero_below(vf x, vf of, float lim)
{
    return (vf){ zero_below_quarter(x.a, of.a, lim), zero_below_quarter(x.b, of.b, lim),
                 zero_below_quarter(x.c, of.c, lim), zero_below_quarter(x.d, of.d, lim) };
}
static inline float32x4_t inside_quarter(float32x4_t x, float32x4_t y, int at, int lo, int hi)
{
    const int32x4_t lane = { 0, 1, 2, 3 };
    int32x4_t i = vaddq_s32(lane, vdupq_n_s32(at));
    uint32x4_t in = vandq_u32(vcgeq_s32(i, vdupq_n_s32(lo)), vcltq_s32(i, vdupq_n_s32(hi)));
    return vbslq_f32(in, x, y);
}
static inline vf v_inside(vf x, vf y, int at, int lo, int hi)
{
    return (vf){ inside_quarter(x.a, y.a, at, lo, hi), inside_quarter(x.b, y.b, at + 4, lo, hi),
                 inside_quarter(x.c, y.c, at + 8, lo, hi),
                 inside_quarter(x.d, y.d, at + 12, lo, hi) };
}
static inline int v_eq_first(vf x, float b)
{
    float32x4_t v = vdupq_n_f32(b);
    uint16x8_t lo = vcombine_u16(vmovn_u32(vceqq_f32(x.a, v)), vmovn_u32(vceqq_f32(x.b, v)));
    uint16x8_t hi = vcombine_u16(vmovn_u32(vceqq_f32(x.c, v)), vmovn_u32(vceqq_f32(x.d, v)));
    uint16x8_t m = vreinterpretq_u16_u8(vcombine_u8(vmovn_u16(lo), vmovn_u16(hi)));
    uint64_t four = vget_lane_u64(vreinterpret_u64_u8(vshrn_n_u16(m, 4)), 0);  /* bits a lane */
    return four ? __builtin_ctzll(four) / 4 : -1;
}
static inline float v_max_all(vf x)
{
    return vmaxvq_f32(vmaxq_f32(vmaxq_f32(x.a, x.b), vmaxq_f32(x.c, x.d)));    /* no NaN here */
}

static inline vh h_load(const uint16_t *p)
{
    return (vh){ vld1q_u16(p), vld1q_u16(p + 8), vld1q_u16(p + 16), vld1q_u16(p + 24) };
}
static inline vh h_load_n(const uint16_t *p, int n)
{
    uint16_t t[32] = { 0 };
    memcpy(t, p, (size_t)n * sizeof *t);
    return h_load(t);
}
static inline float32x4_t h_odd(uint16x8_t x)
{
    uint32x4_t u = vreinterpretq_u32_u16(x);
    return vreinterpretq_f32_u32(vandq_u32(u, vdupq_n_u32(0xffff0000)));
}
static inline float32x4_t h_even(uint16x8_t x)
{
    return vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_u16(x), 16));
}
static inline float32x4_t dot_quarter(uint16x8_t x, uint16x8_t y, float32x4_t z)
{
    return vfmaq_f32(vfmaq_f32(z, h_odd(x), h_odd(y)), h_even(x), h_even(y));
}
static inline vf h_dot(vh x, vh y, vf z)
{
    return (vf){ dot_quarter(x.a, y.a, z.a), dot_quarter(x.b, y.b, z.b),
                 dot_quarter(x.c, y.c, z.c), dot_quarter(x.d, y.d, z.d) };
}

static inline uint16x4_t to_bf16_quarter(float32x4_t x)
{
    uint32x4_t u = vreinterpretq_u32_f32(x), top = vshrq_n_u32(u, 16);
    uint32x4_t odd = vandq_u32(top, vdupq_n_u32(1));
    uint32x4_t r = vshrq_n_u32(vaddq_u32(vaddq_u32(u, vdupq_n_u32(0x7fff)), odd), 16);
    r = vbslq_u32(vceqq_f32(x, x), r, vorrq_u32(top, vdupq_n_u32(0x40)));
    return vmovn_u32(r);
}
static inline void v_store_bf16(uint16_t *p, vf x)
{
    vst1_u16(p, to_bf16_quarter(x.a)), vst1_u16(p + 4, to_bf16_quarter(x.b));
    vst1_u16(p + 8, to_bf16_quarter(x.c)), vst1_u16(p + 12, to_bf16_quarter(x.d));
}
static inline uint16x4_t to_f16_quarter(float32x4_t x)
{
    uint16x4_t h = vreinterpret_u16_f16(vcvt_f16_f32(x));
    uint16x4_t nan = vorr_u16(vand_u16(h, vdup_n_u16(0x8000)), vdup_n_u16(0x7e00));
    return vbsl_u16(vmovn_u32(vceqq_f32(x, x)), h, nan);
}
static inline void v_store_f16(uint16_t *p, vf x)
{
    vst1_u16(p, to_f16_quarter(x.a)), vst1_u16(p + 4, to_f16_quarter(x.b));
    vst1_u16(p + 8, to_f16_quarter(x.c)), vst1_u16(p + 12, to_f16_quarter(x.d));
}

static inline float v_tree(vf x)
{
    float32x4_t s = vaddq_f32(vaddq_f32(x.a, x.c), vaddq_f32(x.b, x.d));
    float32x2_t h = vadd_f32(vget_low_f32(s), vget_high_f32(s));
    return vget_lane_f32(vpadd_f32(h, h), 0);
}

/* Sixteen F8_E4M3 at a time, by way of F16: seven bits lower they are 2^-8 of their value there,
 * subnormals included. Only NaN must be made. */
#define V_F8 1
enum { V8 = 16 };
typedef vf v8;
static inline uint16x8_t f8_half(uint8x8_t p)
{
    const uint16x8_t top = vdupq_n_u16(0x3f80);
    int16x8_t s = vshrq_n_s16(vreinterpretq_s16_u16(vshll_n_u8(p, 8)), 1);
    uint16x8_t x = vandq_u16(vreinterpretq_u16_s16(s), vdupq_n_u16(0xbf80));
    return vorrq_u16(x, vandq_u16(vceqq_u16(vandq_u16(x, top), top), vdupq_n_u16(0x7c00)));
}
static inline float32x4_t f8_quarter(uint16x4_t h)
{
    return vmulq_n_f32(vcvt_f32_f16(vreinterpret_f16_u16(h)), 256);
}
static inline v8 v8_load_f8(const uint8_t *p)
{
    uint16x8_t a = f8_half(vld1_u8(p)), b = f8_half(vld1_u8(p + 8));
    return (v8){ f8_quarter(vget_low_u16(a)), f8_quarter(vget_high_u16(a)),
                 f8_quarter(vget_low_u16(b)), f8_quarter(vget_high_u16(b)) };
}
static inline v8 v8_load_f8_n(const uint8_t *p, int n)
{
    uint8_t t[16] = { 0 };
    memcpy(t, p, (size_t)n);
    return v8_load_f8(t);
}
static inline v8 v8_load(const float *p) { return v_load(p); }
static inline v8 v8_load_n(const float *p, int n) { return v_load_n(p, n); }
static inline void v8_store(float *p, v8 x) { v_store(p, x); }
static inline void v8_store_n(float *p, v8 x, int n) { v_store_n(p, x, n); }
static inline vf v8_fma(v8 a, v8 b, vf c) { return v_fma(a, b, c); }
