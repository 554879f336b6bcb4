/* quant_rows.c - see quant_rows.h. */
#include "pack/quant_rows.h"
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <string.h>
#include "base/block.h"
#include "base/half.h"
#include "format/dequant.h"
#include "format/quant.h"
#include "kern/kern.h"

static kern kernels;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void choose(void) { kern_select(&kernels, NULL); }

/* The largest magnitude that a type can hold. */
static float limit_of(int type)
{
    switch (type) {
    case DT_F32: case DT_BF16: case DT_MXFP4: return 3.402823e38f;
    case DT_F8_E4M3: return 448;
    default: return 65504;
    }
}

/* The first value that does not pass; -1: all do. */
static int64_t misfit(const float *x, int64_t n, float limit)
{
    uint32_t most = f32_bits(limit);
    for (int64_t i = 0; i < n; i += 16) {
        uint32_t u[16] = { 0 }, bad = 0;
        int64_t m = n - i < 16 ? n - i : 16;
        if (m == 16) memcpy(u, x + i, sizeof u);
        else memcpy(u, x + i, (size_t)m * sizeof *u);
        for (int j = 0; j < 16; j++) bad |= (u[j] & 0x7fffffff) > most;
        for (int64_t j = i; bad && j < i + m; j++)
            if (!(fabsf(x[j]) <= limit)) return j;
    }
    return -1;
}

int quant_rows(int type, const float *x, const float *w, void *dst, int64_t n, int64_t K,
               dr_err *e)
{
    const type_info *ti = type_get(type);
    if (!ti || K % ti->elems)
        return err_set(e, DR_EINVAL, "rows of %" PRId64 " weights cannot be of type %s", K,
                       ti ? ti->name : "?");
    int64_t at = misfit(x, n * K, limit_of(type));
    if (at >= 0)
        return err_set(e, DR_EFORMAT, "row %" PRId64 ", column %" PRId64 " is %g, which %s cannot "
                       "hold", at / K, at % K, (double)x[at], ti->name);
    pthread_once(&once, choose);
    if (type == DT_F16) kernels.to_f16(dst, x, n * K);
    else if (type == DT_BF16) kernels.to_bf16(dst, x, n * K);
    else if (kernels.quant[type]) kernels.quant[type](dst, x, w, n, K);
    else
        for (int64_t i = 0; i < n; i++)
            if (quant_row(type, x + i * K, (char *)dst + (size_t)i * type_row_bytes(type, K), K))
                return err_set(e, DR_EUNSUPPORTED, "%s is not written", ti->name);
    return DR_OK;
}

void quant_floats(int type, const void *p, float *x, int64_t K)
{
    pthread_once(&once, choose);
    if (type == DT_F16 && (uintptr_t)p % 2 == 0) kernels.from_f16(x, p, K);
    else dequant_row(type, p, x, K);
}

void quant_weights(float *w, const float *mean, int64_t K)
{
    double sum = 0;
    for (int64_t i = 0; i < K; i++) sum += mean[i];
    double one = sum > 0 ? (double)K / sum : 0;
    for (int64_t i = 0; i < K; i++) {
        float v = sum > 0 ? (float)(mean[i] * one) : 1;
        w[i] = v > 1e-6f ? v : 1e-6f;            /* a column that was never used still counts */
    }
}
