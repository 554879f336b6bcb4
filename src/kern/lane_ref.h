/* lane_ref.h - sixteen independent floats, each a scalar computation of its own. Every lane_*.h
 * gives quant_body.h these names, with the same result in every lane: no operation mixes lanes,
 * so a quantiser's bytes are the same on every level. */
#include <math.h>
#include <stdint.h>
#include <string.h>
#include "base/half.h"

enum { LANES = 16 };
typedef struct { float v[LANES]; } lf;
typedef struct { uint8_t v[LANES]; } lm;         /* 1: true */

#define LANE_EACH for (int i = 0; i < LANES; i++)
static inline lf l_set(float a)          { lf r; LANE_EACH r.v[i] = a; return r; }
static inline lf l_load(const float *p)  { lf r; memcpy(r.v, p, sizeof r.v); return r; }
static inline void l_store(float *p, lf a) { memcpy(p, a.v, sizeof a.v); }
static inline lf l_add(lf a, lf b)       { LANE_EACH a.v[i] += b.v[i]; return a; }
static inline lf l_sub(lf a, lf b)       { LANE_EACH a.v[i] -= b.v[i]; return a; }
static inline lf l_mul(lf a, lf b)       { LANE_EACH a.v[i] *= b.v[i]; return a; }
static inline lf l_div(lf a, lf b)       { LANE_EACH a.v[i] /= b.v[i]; return a; }
/* a b + c, and c - a b, rounded once */
static inline lf l_fma(lf a, lf b, lf c)
{
    LANE_EACH c.v[i] = fmaf(a.v[i], b.v[i], c.v[i]);
    return c;
}
static inline lf l_fnma(lf a, lf b, lf c)
{
    LANE_EACH c.v[i] = fmaf(-a.v[i], b.v[i], c.v[i]);
    return c;
}
static inline lf l_min(lf a, lf b) { LANE_EACH a.v[i] = a.v[i] < b.v[i] ? a.v[i] : b.v[i]; return a; }
static inline lf l_max(lf a, lf b) { LANE_EACH a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i]; return a; }
static inline lf l_abs(lf a)       { LANE_EACH a.v[i] = fabsf(a.v[i]); return a; }
/* to the nearest integer, halves to even */
static inline lf l_round(lf a)     { LANE_EACH a.v[i] = rintf(a.v[i]); return a; }
static inline lm l_lt(lf a, lf b)  { lm m; LANE_EACH m.v[i] = a.v[i] < b.v[i]; return m; }
static inline lf l_sel(lm m, lf a, lf b) { LANE_EACH b.v[i] = m.v[i] ? a.v[i] : b.v[i]; return b; }
/* to the nearest f16 and back */
static inline lf l_f16(lf a)
{
    LANE_EACH a.v[i] = f16_to_f32(f32_to_f16(a.v[i]));
    return a;
}
/* integers 0..255 as bytes */
static inline void l_bytes(uint8_t *p, lf a) { LANE_EACH p[i] = (uint8_t)a.v[i]; }
/* towards minus infinity */
static inline lf l_floor(lf a)     { LANE_EACH a.v[i] = floorf(a.v[i]); return a; }
/* lane i is bit i */
static inline unsigned l_mask(lm m) { unsigned b = 0; LANE_EACH b |= (unsigned)m.v[i] << i; return b; }
static inline float l_most(lf a)                 /* of all lanes; no NaN */
{
    float m = a.v[0];
    LANE_EACH m = a.v[i] > m ? a.v[i] : m;
    return m;
}
/* to[j][i] = from[i][j], sixteen rows of sixteen; from[i] NULL: zeros */
static inline void l_turn(float *to, const float *const *from)
{
    for (int j = 0; j < LANES; j++) LANE_EACH to[j * LANES + i] = from[i] ? from[i][j] : 0;
}
#undef LANE_EACH
