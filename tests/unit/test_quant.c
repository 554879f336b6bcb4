/* test_quant.c - quantisers by search: their error beside what llama.cpp's makes on the same
 * rows, and what they refuse. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "base/block.h"
#include "base/half.h"
#include "base/mem.h"
#include "format/dequant.h"
#include "format/quant.h"
#include "pack/mix.h"
#include "pack/quant_rows.h"

enum { R = 16, K = 2304 };

/* ggml_quantize_chunk's sum of w (x - y)^2: all alike and weighted, each on a short-tailed and on a
 * heavy-tailed set of rows (tools/golden/quant_errors.py). 0: it refuses to go without weights. */
static const struct { int type; double err[4]; } ggml[] = {
    { DT_Q4_0, { 20.5634, 180.628, 1.38039, 13.0573 } },
    { DT_Q4_1, { 17.724, 184.101, 0.943005, 7.77842 } },
    { DT_Q5_0, { 5.08838, 50.5243, 0.337265, 3.76596 } },
    { DT_Q5_1, { 4.12212, 42.9648, 0.224741, 2.07678 } },
    { DT_Q8_0, { 0.0805026, 0.991516, 0.00684821, 0.0843242 } },
    { DT_Q2_K, { 256.914, 2439.47, 12.927, 77.8484 } },
    { DT_Q3_K, { 65.6853, 379.133, 4.16548, 25.3756 } },
    { DT_Q4_K, { 14.6304, 121.165, 0.969826, 8.54614 } },
    { DT_Q5_K, { 3.72153, 35.8037, 0.25478, 2.58164 } },
    { DT_Q6_K, { 0.893516, 8.64099, 0.0594074, 0.653435 } },
    { DT_IQ2_XXS, { 0, 0, 19.0096, 317.012 } },
    { DT_IQ2_XS, { 0, 0, 14.4268, 226.589 } },
    { DT_IQ3_XXS, { 135.748, 2169.63, 4.94635, 66.4337 } },
    { DT_IQ4_NL, { 16.8914, 121.88, 1.19127, 8.43502 } },
    { DT_IQ3_S, { 80.7756, 1379.52, 3.16198, 53.4769 } },
    { DT_IQ2_S, { 0, 0, 11.382, 208.108 } },
    { DT_IQ4_XS, { 17.1546, 124.528, 1.21662, 8.69752 } },
    { DT_MXFP4, { 38.4533, 292.074, 3.23247, 25.1487 } },
};

static void stream(double *out, int n, uint64_t x)
{
    for (int i = 0; i < n; i++) {
        double s = 0;
        for (int k = 0; k < 4; k++) {
            x = x * 6364136223846793005u + 1442695040888963407u;
            s += (double)(x >> 40) / 16777216 - 0.5;
        }
        out[i] = s / 2;
    }
}

static double error_of(int type, const float *x, const float *w, uint8_t *b, float *y)
{
    dr_err e = {0};
    if (quant_rows(type, x, w, b, R, K, &e) != DR_OK) fail_msg("%s", e.msg);
    double sum = 0;
    for (int r = 0; r < R; r++) {
        dequant_row(type, b + (size_t)r * type_row_bytes(type, K), y, K);
        for (int k = 0; k < K; k++) {
            double d = (double)x[r * K + k] - (double)y[k];
            sum += d * d * (w ? (double)w[k] : 1);
        }
    }
    return sum;
}

static void errors(void **state)
{
    (void)state;
    double *v = mem_alloc(sizeof *v * R * K);
    float *x[2], *w = mem_alloc(sizeof *w * K), *y = mem_alloc(sizeof *y * K);
    uint8_t *b = mem_alloc(sizeof(float) * R * K);
    for (int s = 0; s < 2; s++) x[s] = mem_alloc(sizeof *x[s] * R * K);
    stream(v, R * K, 1);
    for (int i = 0; i < R * K; i++) {
        x[0][i] = (float)v[i];
        x[1][i] = (float)(v[i] * v[i] * v[i] * 8);
    }
    stream(v, K, 2);
    for (int k = 0; k < K; k++) w[k] = (float)(v[k] * v[k] + 1e-3);
    for (size_t t = 0; t < sizeof ggml / sizeof *ggml; t++)
        for (int i = 0; i < 4; i++) {
            double want = ggml[t].err[i], is = error_of(ggml[t].type, x[i % 2], i < 2 ? NULL : w, b, y);
            if (!(is <= want * 1.0001 || want == 0))
                fail_msg("%s, case %d: error %g, llama.cpp's is %g", type_get(ggml[t].type)->name, i,
                         is, want);
        }
    mem_free(v), mem_free(w), mem_free(y), mem_free(b), mem_free(x[0]), mem_free(x[1]);
}

/* Q3_K without importances weighs large weights more: what x^2 weighs becomes less wrong than with
 * all columns alike, by a good part (the ratio is 0.71). */
static void large_first(void **state)
{
    (void)state;
    double *v = mem_alloc(sizeof *v * R * K), sum[2] = { 0, 0 };
    float *x = mem_alloc(sizeof *x * R * K), *y = mem_alloc(sizeof *y * K);
    float *one = mem_alloc(sizeof *one * K);
    uint8_t *b = mem_alloc(sizeof(float) * R * K);
    size_t row = type_row_bytes(DT_Q3_K, K);
    stream(v, R * K, 1);
    for (int i = 0; i < R * K; i++) x[i] = (float)v[i];
    for (int k = 0; k < K; k++) one[k] = 1;
    for (int i = 0; i < 2; i++) {
        dr_err e = {0};
        assert_int_equal(quant_rows(DT_Q3_K, x, i ? one : NULL, b, R, K, &e), DR_OK);
        for (int r = 0; r < R; r++) {
            dequant_row(DT_Q3_K, b + (size_t)r * row, y, K);
            for (int k = 0; k < K; k++) {
                double a = v[r * K + k], d = a - (double)y[k];
                sum[i] += a * a * d * d;
            }
        }
    }
    if (!(sum[0] < 0.8 * sum[1])) fail_msg("%g against %g", sum[0], sum[1]);
    mem_free(v), mem_free(x), mem_free(y), mem_free(one), mem_free(b);
}

/* Types that are only rounded give the bits of format/quant.c, which are quants.py's. */
static void plain(void **state)
{
    (void)state;
    static const int types[] = { DT_F32, DT_F16, DT_BF16, DT_Q4_0, DT_Q4_1, DT_Q5_0, DT_Q5_1,
                                 DT_Q8_0, DT_F8_E4M3 };
    double v[512];
    float x[512];
    uint8_t a[2048], b[2048];
    for (size_t t = 0; t < sizeof types / sizeof *types; t++)
        for (uint64_t seed = 1; seed < 40; seed++) {
            stream(v, 512, seed);
            for (int i = 0; i < 512; i++)
                x[i] = seed % 3 == 0 ? floorf((float)v[i] * 8) : seed % 7 == 0 ? 0 : (float)v[i];
            assert_int_equal(quant_rows(types[t], x, NULL, a, 2, 256, NULL), DR_OK);
            for (int r = 0; r < 2; r++)
                quant_row(types[t], x + 256 * r, b + (size_t)r * type_row_bytes(types[t], 256), 256);
            if (memcmp(a, b, 2 * type_row_bytes(types[t], 256)))
                fail_msg("%s, seed %d: other bytes", type_get(types[t])->name, (int)seed);
        }
}

/* Zeros stay zeros; tiny and huge rows give numbers of about their size. */
static void extremes(void **state)
{
    (void)state;
    static const float sizes[] = { 0, 1e-40f, 1e-8f, 1e-4f, 6e4f };
    double v[512];
    float x[512], y[512];
    uint8_t b[2048];
    stream(v, 512, 9);
    for (int t = 0; t < n_types; t++)
        for (int s = 0; s < 5; s++) {
            int type = (int)type_table[t].type;
            float top = type == DT_F8_E4M3 && sizes[s] > 400 ? 400 : sizes[s];
            for (int i = 0; i < 512; i++) x[i] = (float)v[i] * top;
            dr_err e = {0};
            if (quant_rows(type, x, NULL, b, 1, 512, &e) != DR_OK) fail_msg("%s", e.msg);
            dequant_row(type, b, y, 512);
            for (int i = 0; i < 512; i++)
                if (!(fabsf(y[i]) <= 2 * top + 1e-6f))
                    fail_msg("%s: %g became %g", type_table[t].name, (double)x[i], (double)y[i]);
        }
}

static void refused(void **state)
{
    (void)state;
    float x[512] = { 0 };
    uint8_t b[2048];
    for (int t = 0; t < n_types; t++) {
        int type = (int)type_table[t].type;
        for (int bad = 0; bad < 3; bad++) {
            dr_err e = {0};
            x[300] = bad == 0 ? NAN : bad == 1 ? -INFINITY : 1e6f;
            int rc = quant_rows(type, x, NULL, b, 2, 256, &e);
            bool fits = bad == 2 && (type == DT_F32 || type == DT_BF16 || type == DT_MXFP4);
            assert_int_equal(rc, fits ? DR_OK : DR_EFORMAT);
            if (!fits) assert_non_null(strstr(e.msg, "row 1, column 44"));
        }
        x[300] = 0;
        dr_err e = {0};
        int rc = quant_rows(type, x, NULL, b, 1, 100, &e);
        assert_int_equal(rc, type_table[t].elems == 1 ? DR_OK : DR_EINVAL);
    }
}

static void weights(void **state)
{
    (void)state;
    float mean[4] = { 0, 1, 2, 5 }, w[4], none[4] = { 0 };
    quant_weights(w, mean, 4);
    assert_true(w[0] > 0 && w[0] < 1e-5f && w[1] == 0.5f && w[2] == 1 && w[3] == 2.5f);
    quant_weights(w, none, 4);
    for (int i = 0; i < 4; i++) assert_true(w[i] == 1);
}

/* What llama-quantize chooses, here and there (bench/quant_plan.py compares all of it). */
static void mixes(void **state)
{
    (void)state;
    mix_model s = { 32, 32, 8, false, false }, tied = { 30, 9, 3, true, true };
    const mix *m = mix_find("q4_k");
    assert_non_null(m);
    assert_string_equal(m->name, "Q4_K_M");
    assert_int_equal(mix_type(m, &s, MIX_HEAD, 0, 4096), DT_Q6_K);
    assert_int_equal(mix_type(m, &s, MIX_EMBD, 0, 4096), DT_Q4_K);
    assert_int_equal(mix_type(m, &s, MIX_DOWN, 0, 4096), DT_Q6_K);
    assert_int_equal(mix_type(m, &s, MIX_DOWN, 5, 4096), DT_Q4_K);
    assert_int_equal(mix_type(m, &tied, MIX_EMBD, 0, 576), DT_Q8_0);
    assert_int_equal(mix_fit(DT_Q4_K, 576), DT_Q5_0);
    assert_int_equal(mix_fit(DT_IQ2_XS, 576), DT_IQ4_NL);
    assert_int_equal(mix_fit(DT_Q8_0, 48), DT_F16);
    m = mix_find("IQ2_S");
    assert_int_equal(m->base, DT_IQ2_XS);
    assert_int_equal(mix_type(m, &s, MIX_V, 3, 4096), DT_Q4_K);
    assert_true(mix_wants_imatrix(m, MIX_Q, DT_IQ2_XS));
    assert_false(mix_wants_imatrix(m, MIX_EMBD, DT_IQ2_XS));
    assert_null(mix_find("Q9_K"));
    assert_int_equal(mix_ftype_of(DT_Q4_K), 14);
    assert_int_equal(mix_ftype_of(DT_IQ2_S), 28);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors), cmocka_unit_test(large_first),
        cmocka_unit_test(plain), cmocka_unit_test(extremes),
        cmocka_unit_test(refused), cmocka_unit_test(weights), cmocka_unit_test(mixes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
