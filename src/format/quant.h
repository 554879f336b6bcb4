/* quant.h - floats to weights of every type, each value rounded to the nearest its block can
 * say. F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 give the bits of gguf-py's quants.py; the K types use
 * the plain range of each group and no search, so their error is larger than llama.cpp's. */
#ifndef FORMAT_QUANT_H
#define FORMAT_QUANT_H
#include <stdint.h>

/* dst: type_row_bytes(type, K) bytes, any alignment. DR_EINVAL: not a type, or K is not a
 * multiple of its block. DR_EUNSUPPORTED: a type that is read but not written. */
int quant_row(int type, const float *x, void *dst, int64_t K);
#endif
