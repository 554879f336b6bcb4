/* half.h - the 16-bit and 8-bit floats of model files, exact in both directions, no hardware
 * assumed. */
#ifndef BASE_HALF_H
#define BASE_HALF_H
#include <stdint.h>
#include <string.h>

static inline float f32_from_bits(uint32_t u) { float f; memcpy(&f, &u, sizeof f); return f; }
static inline uint32_t f32_bits(float f) { uint32_t u; memcpy(&u, &f, sizeof u); return u; }

static inline float bf16_to_f32(uint16_t h) { return f32_from_bits((uint32_t)h << 16); }

static inline uint16_t f32_to_bf16(float f)      /* round to nearest even; NaN kept */
{
    uint32_t u = f32_bits(f);
    if ((u & 0x7fffffff) > 0x7f800000) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static inline float f16_to_f32(uint16_t h)       /* NaN kept, and quiet as the hardware makes it */
{
    uint32_t s = (uint32_t)(h & 0x8000) << 16, e = h >> 10 & 31, m = h & 1023;
    if (e == 31) return f32_from_bits(s | 0x7f800000 | m << 13 | (m ? 0x400000 : 0));
    if (e) return f32_from_bits(s | (e + 112) << 23 | m << 13);
    float f = (float)m * 0x1p-24f;               /* subnormal or zero: exact */
    return s ? -f : f;
}

static inline uint16_t f32_to_f16(float f)       /* round to nearest even; NaN kept */
{
    uint32_t u = f32_bits(f), s = u >> 16 & 0x8000, a = u & 0x7fffffff;
    if (a > 0x7f800000) return (uint16_t)(s | 0x7e00);
    if (a >= 0x477ff000) return (uint16_t)(s | 0x7c00);          /* rounds to infinity */
    if (a < 0x38800000) {                                        /* subnormal half or zero */
        float r = f32_from_bits(a) + 0.5f;      /* 0.5 has ulp 2^-24: the add rounds for us */
        return (uint16_t)(s | (f32_bits(r) - 0x3f000000));
    }
    return (uint16_t)(s | (((a + 0xfff + (a >> 13 & 1)) >> 13) - (112 << 10)));
}

/* OCP's E4M3, which torch calls float8_e4m3fn: 1, 4 and 3 bits, bias 7, no infinities, NaN where
 * the other bits are all ones; the largest is 448. */
static inline float f8_to_f32(uint8_t h)
{
    uint32_t s = (uint32_t)(h & 0x80) << 24, e = h >> 3 & 15, m = h & 7;
    if ((h & 0x7f) == 0x7f) return f32_from_bits(s | 0x7fc00000);
    if (e) return f32_from_bits(s | (e + 120) << 23 | m << 20);
    float f = (float)m * 0x1p-9f;                /* subnormal or zero: exact */
    return s ? -f : f;
}

/* Round to nearest even; what is larger than 448, infinities included, becomes 448 (torch makes
 * a NaN of it from 464 on); NaN kept. */
static inline uint8_t f32_to_f8(float f)
{
    uint32_t u = f32_bits(f), s = u >> 24 & 0x80, a = u & 0x7fffffff;
    if (a > 0x7f800000) return (uint8_t)(s | 0x7f);
    if (a >= 0x43e00000) return (uint8_t)(s | 0x7e);
    if (a < 0x3c800000) {                        /* below 2^-6: subnormal or zero */
        float r = f32_from_bits(a) + 0x1p14f;    /* 2^14 has ulp 2^-9: the add rounds for us */
        return (uint8_t)(s | (f32_bits(r) - 0x46800000));
    }
    return (uint8_t)(s | (((a + 0x7ffff + (a >> 20 & 1)) >> 20) - (120 << 3)));
}
#endif
