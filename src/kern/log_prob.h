/* log_prob.h - the log-probability of a token by its logits, in the one order of operations that
 * generation, evaluation and training have (docs/numerics.md): here the scalar form of the kernels'
 * exp_sum, the same bits. */
#ifndef KERN_LOG_PROB_H
#define KERN_LOG_PROB_H
#include <math.h>
#include <stdint.h>
#include "kern/fexp.h"

/* The sum over i of exp(x[i] - *top), *top the largest x: sixteen sums in double, i mod 16, each
 * ascending, added by halves. y, unless NULL, gets the terms and may be x. */
static inline double exp_sum_plain(float *y, const float *x, int64_t n, float *top)
{
    double P[16] = { 0 };
    float t = -INFINITY;
    for (int64_t i = 0; i < n; i++) t = x[i] > t ? x[i] : t;
    for (int64_t i = 0; i < n; i++) {
        float e = fexp(x[i] - t);
        P[i % 16] += (double)e;
        if (y) y[i] = e;
    }
    for (int h = 8; h; h /= 2)
        for (int i = 0; i < h; i++) P[i] += P[i + h];
    *top = t;
    return P[0];
}

/* That of a token with logit x. */
static inline double log_prob_of(float x, float top, double sum)
{
    return (double)x - (double)top - log(sum);
}
#endif
