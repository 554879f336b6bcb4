/* quant_shim.c - the quantisers behind one plain name, for bench/quant_error.py. */
#include <stddef.h>
#include <string.h>
#include "format/dequant.h"
#include "format/quant.h"
#include "kern/kern.h"

#define SHIM __attribute__((visibility("default")))
SHIM int shim_quant(const char *level, int type, const float *x, const float *w, void *dst,
                    int64_t rows, int64_t K);
SHIM void shim_dequant(int type, const void *src, float *y, int64_t rows, int64_t K);
SHIM int64_t shim_row_bytes(int type, int64_t K);

int shim_quant(const char *level, int type, const float *x, const float *w, void *dst,
               int64_t rows, int64_t K)
{
    kern k;
    if (!kern_select(&k, *level ? level : NULL)) return -1;
    if (k.quant[type]) {
        k.quant[type](dst, x, w, rows, K);
        return 1;
    }
    for (int64_t r = 0; r < rows; r++)
        if (quant_row(type, x + r * K, (char *)dst + (size_t)r * type_row_bytes(type, K), K)) return -2;
    return 0;
}

void shim_dequant(int type, const void *src, float *y, int64_t rows, int64_t K)
{
    for (int64_t r = 0; r < rows; r++)
        dequant_row(type, (const char *)src + (size_t)r * type_row_bytes(type, K), y + r * K, K);
}

int64_t shim_row_bytes(int type, int64_t K) { return (int64_t)type_row_bytes(type, K); }
