/* quant_rows.h - rows of floats to rows of any type that runs and back, with the kernels of this
 * CPU. */
#ifndef PACK_QUANT_ROWS_H
#define PACK_QUANT_ROWS_H
#include <stdint.h>
#include "base/err.h"

/* n rows of K floats (K a multiple of the type's block) into dst. w: K importances > 0 of the
 * columns, or NULL. Values that the type cannot hold (NaN, infinity, beyond a half's range where
 * scales are halves) are refused with the place of the first: DR_EFORMAT. Any thread. */
int quant_rows(int type, const float *x, const float *w, void *dst, int64_t n, int64_t K,
               dr_err *e);
/* K weights of a row of any type, as floats: dequant_row, and sooner. Any thread. */
void quant_floats(int type, const void *p, float *x, int64_t K);
/* Importances as quant_rows wants them: from K means of squares, so that their mean is 1 and
 * none is 0. */
void quant_weights(float *w, const float *mean, int64_t K);
#endif
