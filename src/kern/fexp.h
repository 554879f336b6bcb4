/* fexp.h - our exp, the same bits on every level: the constants, and the scalar form.
 *
 * exp(x) = 2^n e^r, n = round(x log2 e), |r| <= ln2/2. ln2_hi has 15 bits, so n * ln2_hi is
 * exact. e^r = 1 + r + r^2 (c2 + ... + c6 r^4), least maximum relative error (3.1e-9, Remez). */
#ifndef KERN_FEXP_H
#define KERN_FEXP_H
#include <math.h>
#include <stdint.h>
#include "base/half.h"

#define FEXP_LO    (-87.34f)                /* below it: 0 */
#define FEXP_HI    88.37f
#define FEXP_LOG2E 0x1.715476p+0f
#define FEXP_LN2HI 0x1.62e4p-1f
#define FEXP_LN2LO 0x1.7f7d1cp-20f
#define FEXP_C2    0x1.fffffcp-2f
#define FEXP_C3    0x1.555492p-3f
#define FEXP_C4    0x1.5558f2p-5f
#define FEXP_C5    0x1.123a2p-7f
#define FEXP_C6    0x1.6a23dp-10f

static inline float fexp(float x)
{
    if (x < FEXP_LO) return 0;
    if (x > FEXP_HI) x = FEXP_HI;
    float n = rintf(x * FEXP_LOG2E);
    float r = fmaf(n, -FEXP_LN2HI, x);
    r = fmaf(n, -FEXP_LN2LO, r);
    float p = fmaf(FEXP_C6, r, FEXP_C5);
    p = fmaf(p, r, FEXP_C4);
    p = fmaf(p, r, FEXP_C3);
    p = fmaf(p, r, FEXP_C2);
    p = fmaf(p, r, 1);
    p = fmaf(p, r, 1);
    if (n != n) return n;                   /* NaN: no exponent to make of it */
    return p * f32_from_bits((uint32_t)((int)n + 127) << 23);
}
#endif
