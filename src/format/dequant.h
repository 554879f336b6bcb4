/* dequant.h - weights of every type as floats: the textbook, one loop a type.
 * Each product and sum is rounded to f32 in the order written, which gives the bits of
 * gguf-py's quants.py (tests/unit/test_dequant.c). Kernels are judged against this. */
#ifndef FORMAT_DEQUANT_H
#define FORMAT_DEQUANT_H
#include <stdint.h>

/* y[0..K) from a row of K weights of `type`, which type_get must know; K is a multiple of its
 * block. src needs no alignment. */
void dequant_row(int type, const void *src, float *y, int64_t K);
#endif
