/* mulq_neon.h - what the files of quantised products on Arm share: kern_neon_few.c has the few
 * columns with SDOT, kern_neon_q.c the many; kern_i8mm_q.c the many with SMMLA. */
#ifndef KERN_MULQ_NEON_H
#define KERN_MULQ_NEON_H
#include "base/block.h"
#include "kern/kern.h"
#include "kern/unroll.h"

enum { QUAD = 4, FEW_COLS = 4, MAX_GROUPS = 16 };

/* One column's values: of a group k weights in, q is at q + k and so on. */
typedef struct { const int8_t *q; const float *d, *dk; const int16_t *s16; } column;
static inline column column_at(const act *a, int n, int k)
{
    size_t at = (size_t)n * (size_t)a->K + (size_t)k;
    return (column){ a->q + at, a->d + at / QBLOCK, a->dk ? a->dk + at / QSUPER : NULL,
                     a->s16 + at / 16 };
}

/* Exact sum of the inputs of a group of 32 or 16, k weights in. */
static inline int group_sum(const column *x, int k, int group)
{
    return group == 32 ? x->s16[k / 16] + x->s16[k / 16 + 1] : x->s16[k / 16];
}

static inline int least(int a, int b) { return a < b ? a : b; }

/* All columns of `a`, FEW_COLS a pass; scratch of as many bytes as the other says. */
void kern_neon_few(int type, float *y, size_t ldy, const uint8_t *w, size_t s, int R,
                   const act *a, void *scratch);
size_t kern_neon_few_scratch(int type, int K);

/* The types: name, weights in a block, in a group, has minimums. */
#define NEON_QTYPES(X) \
    X(q4_0, Q4_0, 32, 32, 0) X(q4_1, Q4_1, 32, 32, 1) X(q5_0, Q5_0, 32, 32, 0) \
    X(q5_1, Q5_1, 32, 32, 1) X(q8_0, Q8_0, 32, 32, 0) X(q2_k, Q2_K, 256, 16, 1) \
    X(q3_k, Q3_K, 256, 16, 0) X(q4_k, Q4_K, 256, 32, 1) X(q5_k, Q5_K, 256, 32, 1) \
    X(q6_k, Q6_K, 256, 16, 0) X(iq4_nl, IQ4_NL, 32, 32, 0) X(iq4_xs, IQ4_XS, 256, 32, 0) \
    X(mxfp4, MXFP4, 32, 32, 0) X(iq3_s, IQ3_S, 256, 32, 0) X(iq3_xxs, IQ3_XXS, 256, 32, 0) \
    X(iq2_s, IQ2_S, 256, 16, 0) X(iq2_xs, IQ2_XS, 256, 16, 0) X(iq2_xxs, IQ2_XXS, 256, 32, 0)
#endif
