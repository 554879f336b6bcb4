/* test_half.c - base/half.h: every half there is, and rounding against arithmetic in double and
 * against the processor where it can convert. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/half.h"
#include "kern/kern.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* What the bits say, by the definition. */
static double value_of(uint16_t h, int mant, int bias)
{
    int e = (h & 0x7fff) >> mant, m = h & ((1 << mant) - 1);
    double v = e ? ldexp(m + (1 << mant), e - bias - mant) : ldexp(m, 1 - bias - mant);
    return h & 0x8000 ? -v : v;
}

static void every_f16(void **state)
{
    (void)state;
    for (uint32_t u = 0; u < 65536; u++) {
        uint16_t h = (uint16_t)u;
        float f = f16_to_f32(h);
        if ((h & 0x7c00) == 0x7c00) {
            if (h & 0x3ff) {
                assert_true(isnan(f) && isnan(f16_to_f32(f32_to_f16(f))));
                continue;
            }
            assert_true(isinf(f) && !!signbit(f) == !!(h & 0x8000));
        } else {
            assert_true(f == value_of(h, 10, 15) && !!signbit(f) == !!(h & 0x8000));
        }
        assert_int_equal(f32_to_f16(f), h);
    }
}

static void every_bf16(void **state)
{
    (void)state;
    for (uint32_t u = 0; u < 65536; u++) {
        uint16_t h = (uint16_t)u;
        float f = bf16_to_f32(h);
        if ((h & 0x7f80) == 0x7f80 && h & 0x7f) {
            assert_true(isnan(f) && isnan(bf16_to_f32(f32_to_bf16(f))));
            continue;
        }
        if ((h & 0x7f80) == 0x7f80) assert_true(isinf(f));
        else assert_true(f == value_of(h, 7, 127));
        assert_int_equal(f32_to_bf16(f), h);
    }
}

static void every_f8(void **state)
{
    (void)state;
    for (uint32_t u = 0; u < 256; u++) {
        uint8_t h = (uint8_t)u;
        float f = f8_to_f32(h);
        assert_int_equal(f32_to_f8(f), h);
        if ((h & 0x7f) == 0x7f) {
            assert_true(isnan(f));
            continue;
        }
        double v = value_of(h & 0x7f, 3, 7);
        assert_true(fabsf(f) == v && !!signbit(f) == !!(h & 0x80));
    }
}

/* Between two neighbours: below, at and above the middle. `to` and `from` are one type's. */
static void rounds(uint16_t (*to)(float), float (*from)(uint16_t), uint16_t last, uint16_t minus)
{
    for (uint32_t u = 0; u < last; u++) {
        double a = from((uint16_t)u), b = from((uint16_t)(u + 1));
        float mid = (float)((a + b) / 2);               /* exact: one bit more than a half has */
        if (mid == (float)a || mid == (float)b) continue;       /* f32's own subnormals */
        uint16_t even = (uint16_t)(u & 1 ? u + 1 : u);
        assert_int_equal(to(mid), even);
        assert_int_equal(to(nextafterf(mid, 0)), u);
        assert_int_equal(to(nextafterf(mid, INFINITY)), u + 1);
        assert_int_equal(to(-mid), even | minus);
    }
}

static uint16_t to_f16(float f) { return f32_to_f16(f); }
static float from_f16(uint16_t h) { return f16_to_f32(h); }
static uint16_t to_bf16(float f) { return f32_to_bf16(f); }
static float from_bf16(uint16_t h) { return bf16_to_f32(h); }

static uint16_t to_f8(float f) { return f32_to_f8(f); }
static float from_f8(uint16_t h) { return f8_to_f32((uint8_t)h); }

static void rounding(void **state)
{
    (void)state;
    rounds(to_f16, from_f16, 0x7bff, 0x8000);
    rounds(to_bf16, from_bf16, 0x7f7f, 0x8000);
    rounds(to_f8, from_f8, 0x7e, 0x80);
    assert_int_equal(f32_to_f16(65519.996f), 0x7bff);
    assert_int_equal(f32_to_f16(65520), 0x7c00);                /* halfway to infinity */
    assert_int_equal(f32_to_f16(-1e30f), 0xfc00);
    assert_int_equal(f32_to_f16(0x1p-25f), 0);                  /* halfway to the least */
    assert_int_equal(f32_to_f16(0x1.000002p-25f), 1);
    assert_int_equal(f32_to_f16(-0x1p-149f), 0x8000);
    assert_int_equal(f32_to_f8(464), 0x7e);                     /* no infinity to round to */
    assert_int_equal(f32_to_f8(-INFINITY), 0xfe);
    assert_int_equal(f32_to_f8(3e38f), 0x7e);
    assert_int_equal(f32_to_f8(-0x1p-10f), 0x80);               /* halfway to the least */
    assert_int_equal(f32_to_f8(0x1.000002p-10f), 1);
    assert_int_equal(f32_to_f8(f32_from_bits(0xff800001)), 0xff);
    assert_int_equal(f32_to_bf16(INFINITY), 0x7f80);
    assert_int_equal(f32_to_bf16(0x1.fffffep127f), 0x7f80);
    assert_true(isnan(bf16_to_f32(f32_to_bf16(f32_from_bits(0x7f800001)))));
    assert_true(isnan(f16_to_f32(f32_to_f16(f32_from_bits(0xff800001)))));
}

#if defined(__x86_64__)
__attribute__((target("f16c"))) static uint16_t hard(float f)
{
    return (uint16_t)_mm_extract_epi16(_mm_cvtps_ph(_mm_set1_ps(f), _MM_FROUND_TO_NEAREST_INT), 0);
}
#endif

static void against_hardware(void **state)
{
    (void)state;
#if defined(__x86_64__)
    if (cpu_detect() & CPU_AVX2) {
        for (uint64_t u = 0; u < 1ull << 32; u += 997) {
            float f = f32_from_bits((uint32_t)u);
            if (f == f) assert_int_equal(f32_to_f16(f), hard(f));
        }
        return;
    }
#endif
    print_message("skip: no F16C here\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_f16), cmocka_unit_test(every_bf16),
        cmocka_unit_test(every_f8),
        cmocka_unit_test(rounding), cmocka_unit_test(against_hardware),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
