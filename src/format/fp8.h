/* fp8.h - a row as FP8 E4M3 values and the scale to multiply them with, as fbgemm's
 * quantize_fp8_per_row and compressed-tensors make them: the largest magnitude becomes 448.
 * cf. llama-models models/quantize_impls.py. */
#ifndef FORMAT_FP8_H
#define FORMAT_FP8_H
#include <math.h>
#include <stdint.h>
#include "base/half.h"

/* The scale of a row. Zeros, and rows with an infinity, get 1. */
static inline float fp8_scale(const float *x, int64_t K)
{
    float most = 0;
    for (int64_t k = 0; k < K; k++) most = fmaxf(most, fabsf(x[k]));
    float scale = most > 0 && most < INFINITY ? most / 448 : 1;
    return scale >= 0x1p-126f ? scale : 0x1p-126f;     // less is too small to divide by
}

/* y[k] = x[k] / scale, rounded; returns the scale. */
static inline float fp8_row(const float *x, uint8_t *y, int64_t K)
{
    float scale = fp8_scale(x, K);
    for (int64_t k = 0; k < K; k++) y[k] = f32_to_f8(x[k] / scale);
    return scale;
}
#endif
