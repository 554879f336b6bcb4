/* test_dequant.c - every weight type against gguf-py's own blocks (quants.bin), and back. F8_E4M3
 * against ml_dtypes and torch. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include <zlib.h>
#include "base/block.h"
#include "base/mem.h"
#include "base/os.h"
#include "base/rng.h"
#include "format/dequant.h"
#include "format/quant.h"
#include "format/rd.h"

enum { K_MAX = 4096 };

/* Where a block keeps f16 scales; the others (MXFP4) have powers of two. */
static const struct { int type, at[2]; } halves[] = {
    { DT_Q4_0, { 0, 0 } }, { DT_Q4_1, { 0, 2 } }, { DT_Q5_0, { 0, 0 } }, { DT_Q5_1, { 0, 2 } },
    { DT_Q8_0, { 0, 0 } }, { DT_Q2_K, { 80, 82 } }, { DT_Q3_K, { 108, 108 } },
    { DT_Q4_K, { 0, 2 } }, { DT_Q5_K, { 0, 2 } }, { DT_Q6_K, { 208, 208 } },
    { DT_IQ4_NL, { 0, 0 } }, { DT_IQ4_XS, { 0, 0 } }, { DT_IQ3_S, { 0, 0 } },
    { DT_IQ3_XXS, { 0, 0 } }, { DT_IQ2_S, { 0, 0 } }, { DT_IQ2_XS, { 0, 0 } },
    { DT_IQ2_XXS, { 0, 0 } },
};

/* CRC of the floats that come of K weights in the blocks that many() in tools/golden/quants.py
 * describes. */
static uint32_t many(int type, int K)
{
    const type_info *t = type_get(type);
    uint64_t x = (uint64_t)type;
    uLong crc = crc32(0, NULL, 0);
    for (int k = 0; k < K; k += t->elems) {
        uint8_t b[256];
        float y[256];
        for (int i = 0; i < t->bytes; i++) {
            x = x * 6364136223846793005u + 1442695040888963407u;
            b[i] = (uint8_t)(x >> 56);
        }
        for (size_t i = 0; i < sizeof halves / sizeof *halves; i++)
            for (int j = 0; j < 2 && halves[i].type == type; j++)
                b[halves[i].at[j] + 1] &= 0xbf;
        dequant_row(type, b, y, t->elems);
        crc = crc32(crc, (const Bytef *)y, (uInt)((size_t)t->elems * sizeof *y));
    }
    return (uint32_t)crc;
}

static void golden(void **state)
{
    (void)state;
    os_file f;
    dr_err e = {0};
    if (os_map(&f, "tests/unit/quants.bin", &e) != DR_OK) fail_msg("%s", e.msg);
    rd r = { f.p, f.p + f.n, false };
    int records = 0;
    while (r.p < r.end) {
        assert_int_equal(rd_u32(&r), 0x51524547);
        int type = (int)rd_u32(&r), kind = (int)rd_u32(&r), K = (int)rd_u32(&r);
        uint32_t n = rd_u32(&r);
        records++;
        if (kind == 2) {
            if (many(type, K) != n) fail_msg("%s: other floats", type_get(type)->name);
            continue;
        }
        const uint8_t *blocks = rd_bytes(&r, n), *floats = rd_bytes(&r, 4 * (size_t)K);
        assert_non_null(floats);
        assert_int_equal(n, type_row_bytes(type, K));
        float x[K_MAX], y[K_MAX];
        uint8_t q[4 * K_MAX];
        assert_true(K <= K_MAX);
        memcpy(x, floats, (size_t)K * 4);
        if (kind == 0) {
            dequant_row(type, blocks, y, K);
            for (int i = 0; i < K; i++)
                if (memcmp(&x[i], &y[i], 4))
                    fail_msg("%s weight %d: %.9g, want %.9g", type_get(type)->name, i,
                             (double)y[i], (double)x[i]);
        } else {
            assert_int_equal(quant_row(type, x, q, K), DR_OK);
            for (uint32_t i = 0; i < n; i++)
                if (q[i] != blocks[i])
                    fail_msg("%s byte %u: %02x, want %02x", type_get(type)->name, i, q[i],
                             blocks[i]);
        }
    }
    assert_int_equal(records, 12 + 7 + 8 + 18 + 2);
    os_unmap(&f);
}

/* What comes back from a block lies within half a step of what went in, plus what rounding
 * the scales costs. */
static void round_trip(void **state)
{
    (void)state;
    static const struct { int type; double rms; } want[] = {
        { DT_F32, 0 }, { DT_F16, 3e-4 }, { DT_BF16, 2.5e-3 }, { DT_Q8_0, 7e-3 }, { DT_Q6_K, 0.025 },
        { DT_Q5_1, 0.05 }, { DT_Q5_0, 0.06 }, { DT_Q5_K, 0.05 }, { DT_Q4_1, 0.09 },
        { DT_Q4_0, 0.11 }, { DT_Q4_K, 0.09 }, { DT_Q3_K, 0.22 }, { DT_Q2_K, 0.40 },
        { DT_F8_E4M3, 0.03 },
    };
    float x[K_MAX], y[K_MAX];
    uint8_t q[4 * K_MAX];
    rng_normal(x, K_MAX, 1, 2, 0);
    int written = 0;
    for (int i = 0; i < n_types; i++)
        written += quant_row(type_table[i].type, x, q, 0) != DR_EUNSUPPORTED;
    assert_int_equal(sizeof want / sizeof *want, written);
    for (int i = 0; i < written; i++) {
        assert_int_equal(quant_row(want[i].type, x, q, K_MAX), DR_OK);
        dequant_row(want[i].type, q, y, K_MAX);
        double sum = 0;
        for (int k = 0; k < K_MAX; k++) sum += ((double)x[k] - y[k]) * ((double)x[k] - y[k]);
        double rms = sqrt(sum / K_MAX);
        if (rms > want[i].rms)
            fail_msg("%s: error %.4f of the deviation", type_get(want[i].type)->name, rms);
    }
}

/* Nothing that floats can be makes a conversion undefined (the ubsan build watches). */
static void odd_floats(void **state)
{
    (void)state;
    static const float odd[] = { 0, -0.0f, NAN, INFINITY, -INFINITY, 1e-45f, -1e-39f, 3e38f,
                                 -3e38f, 1, -1 };
    float x[256], y[256];
    uint8_t q[1024];
    for (int i = 0; i < n_types; i++)
        for (int seed = 0; seed < 200; seed++) {
            for (int k = 0; k < 256; k++) {
                float u = (float)rng_uniform((uint64_t)seed, (uint64_t)i, (uint64_t)k);
                x[k] = odd[(int)(u * (float)(seed % 11 + 1))];
            }
            if (quant_row(type_table[i].type, x, q, 256) == DR_EUNSUPPORTED) continue;
            dequant_row(type_table[i].type, q, y, 256);
        }
    assert_int_equal(quant_row(DT_Q4_K, x, q, 32), DR_EINVAL);
    assert_int_equal(quant_row(DT_Q4_0, x, q, 16), DR_EINVAL);
    assert_int_equal(quant_row(99, x, q, 256), DR_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden), cmocka_unit_test(round_trip), cmocka_unit_test(odd_floats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
