/* kerncheck.c - every float kernel, at every level this CPU has, bit against bit with
 * kern_ref.c (kerncheck_q.c has the quantised ones).
 *
 *     kerncheck [NAME...]         check            kerncheck --bench    check, then time
 *
 * The scheme is checkasm's (x264, FFmpeg, dav1d): fill the table level by level and test each
 * slot whose pointer is new, always against ref, never against the level below. */
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/err.h"
#include "base/half.h"
#include "base/mem.h"
#include "format/quant.h"
#include "kern/fexp.h"
#include "kern/kern.h"
#include "kern/kv_tile.h"
#include "kern/probe.h"
#include "t.h"
#include "levels.h"

enum { PAD = 64 };
static enum { PLAIN, FLUSH, TILES } bf16_way;    /* how this level multiplies BF16 */

static const int sizes[] = { 1, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 128, 1000, 4096 };
#define EACH_SIZE(n) for (int z_ = 0, n; \
    z_ < (int)(sizeof sizes / sizeof *sizes) && (n = sizes[z_], 1); z_++)

/* Best run of `call`, each long enough to time; prints the rate of `work` a call, and its share
 * of what the level's probe reaches at about the same time. */
#define BENCH_OF(what, shape, work, unit, peak, call) do { if (bench) { \
    double best = 1e9, t0_ = seconds(), top_ = peak; \
    do { \
        double a_ = seconds(); \
        int n_ = 0; \
        do { call; n_++; } while (seconds() - a_ < 0.0005); \
        double t_ = (seconds() - a_) / n_; \
        if (t_ < best) best = t_; \
    } while (seconds() - t0_ < 0.15); \
    double top2_ = peak; \
    if (top2_ > top_) top_ = top2_; \
    printf("%s\t%s\t%s\t%.2f us\t%.1f %s", what, level, shape, best * 1e6, \
           (work) / best * 1e-9, unit); \
    if (top_ > 0) printf("\t%.0f %%", 100 * (work) / best / top_); \
    printf("\n"); } } while (0)
#define BENCH(what, shape, work, unit, call) BENCH_OF(what, shape, work, unit, 0, call)
static probe tops;

/* ---- products ---- */

static float flush(float x) { return fabsf(x) < 0x1p-126f ? copysignf(0, x) : x; }

/* The BF16 product of level avx512 and above: VDPBF16PS takes subnormals for 0, in and out. */
static float dot_flush(const uint16_t *w, const uint16_t *x, int K)
{
    float P[16] = { 0 };
    for (int k = 0; k < K; k += 2)
        for (int o = 1; o >= 0; o--)
            if (k + o < K) {
                float *p = &P[k % 32 / 2];
                *p = flush(fmaf(flush(bf16_to_f32(w[k + o])), flush(bf16_to_f32(x[k + o])), *p));
            }
    for (int h = 8; h; h /= 2)
        for (int i = 0; i < h; i++) P[i] += P[i + h];
    return P[0];
}

/* Level amx: even and odd products of a block of 32 apart, as TDPBF16PS does it. */
static float dot_tiles(const uint16_t *w, const uint16_t *x, int K)
{
    float acc = 0;
    for (int k = 0; k < K; k += 32) {
        float P[2] = { 0 };
        for (int i = k; i < k + 32 && i < K; i++)
            P[i % 2] = flush(fmaf(flush(bf16_to_f32(w[i])), flush(bf16_to_f32(x[i])), P[i % 2]));
        acc = flush(acc + flush(P[0] + P[1]));
    }
    return acc;
}

static void mul_want(int type, float *y, size_t ldy, const void *w, size_t rb, int R, const act *a)
{
    if (type != DT_BF16 || bf16_way == PLAIN) {
        ref.mul[type](y, ldy, w, rb, R, a, NULL);
        return;
    }
    for (int n = 0; n < a->N; n++)
        for (int r = 0; r < R; r++)
            y[(size_t)n * ldy + (size_t)r] =
                (bf16_way == TILES ? dot_tiles : dot_flush)(
                          (const uint16_t *)((const char *)w + (size_t)r * rb), a->bf + (size_t)n * (((size_t)a->K + 31) / 32 * 32), a->K);
}

/* act.bt, where the level wants it */
static uint16_t *packed(const uint16_t *bf, int N, int K)
{
    size_t kk = ((size_t)K + 31) / 32 * 32;
    if (!new.pack_bf16) return NULL;
    uint16_t *t = get(((size_t)N + 15) / 16 * 16 * kk * 2);
    for (int n = 0; n < N; n += 16)
        new.pack_bf16(t + (size_t)n * kk, bf + (size_t)n * kk, N - n < 16 ? N - n : 16, K);
    return t;
}

static void *scratch_of(int type, int K)
{
    size_t n = new.mul_scratch(type, K);
    return get(n > MUL_FLOAT_SCRATCH ? n : MUL_FLOAT_SCRATCH);
}

/* tiny: numbers so small that products are subnormal. */
static void mul_shape(int type, int R, int N, int K, bool tiny)
{
    size_t b = (size_t)type_get(type)->bytes, rb = (size_t)K * b, kk = ((size_t)K + 31) / 32 * 32;
    size_t ldx = (size_t)K + 5, ldy = (size_t)R + 3, ny = ldy * (size_t)N;
    char *w = get((size_t)R * rb);
    float *x = get((size_t)N * ldx * 4), *y = get((ny + 2 * PAD) * 4), *want = get(ny * 4);
    uint16_t *bf = get((size_t)N * kk * 2);
    void *scratch = scratch_of(type, K);
    float scale = tiny ? 0x1p-66f : 1;
    for (size_t i = 0; i < (size_t)R * (size_t)K; i++) {
        float f = t_rand() * (type == DT_F16 && tiny ? 0x1p-14f : scale);
        uint16_t h = type == DT_F16 ? f32_to_f16(f) : f32_to_bf16(f);
        if (type == DT_F32) memcpy(w + 4 * i, &f, 4);
        else if (type == DT_F8_E4M3) w[i] = (char)(i % 3 ? (uint8_t)i : f32_to_f8(f));
        else memcpy(w + 2 * i, &h, 2);
    }
    for (size_t i = 0; i < (size_t)N * ldx; i++) x[i] = t_rand() * scale;
    for (int n = 0; n < N; n++)
        for (int k = 0; k < K; k++)
            bf[(size_t)n * kk + (size_t)k] = f32_to_bf16(x[(size_t)n * ldx + (size_t)k]);
    act a = { .N = N, .K = K, .x = x, .ldx = ldx, .bf = bf, .bt = packed(bf, N, K) };
    for (size_t i = 0; i < ny + 2 * PAD; i++) y[i] = 7;
    for (size_t i = 0; i < ny; i++) want[i] = 7;
    mul_want(type, want, ldy, w, rb, R, &a);
    new.mul[type](y + PAD, ldy, w, rb, R, &a, scratch);
    t_ok(same_n(y + PAD, want, ny), __FILE__, __LINE__, "%s R %d N %d K %d tiny %d: other bits",
         type_get(type)->name, R, N, K, tiny);
    for (int i = 0; i < PAD; i++) CHECK(y[i] == 7 && y[PAD + ny + (size_t)i] == 7);
    mem_free(w), mem_free(x), mem_free(y), mem_free(want), mem_free(bf), mem_free(scratch);
    mem_free((void *)a.bt);
}

static void mul_bench(int type, int R, int N, int K)
{
    if (!bench) return;
    size_t rb = type_row_bytes(type, K);
    char *w = get((size_t)R * rb), *scratch = scratch_of(type, K);
    float *x = get((size_t)N * (size_t)K * 4), *y = get((size_t)N * (size_t)R * 4);
    uint16_t *bf = get((size_t)N * (size_t)K * 2);
    act a = { .N = N, .K = K, .x = x, .ldx = (size_t)K, .bf = bf, .bt = packed(bf, N, K) };
    char shape[64];
    snprintf(shape, sizeof shape, "%dx%d N %d", R, K, N);
    BENCH_OF(type_get(type)->name, shape, 2.0 * R * N * K, "Gop/s",
             type == DT_BF16 ? tops.bf16(0.02) : tops.f32(0.02),
          new.mul[type](y, (size_t)R, w, rb, R, &a, scratch));
    mem_free(w), mem_free(x), mem_free(y), mem_free(bf), mem_free(scratch);
    mem_free((void *)a.bt);
}

static void mul_type(int type)
{
    static const int Ks[] = { 1, 15, 16, 31, 33, 64, 100, 320, 1024, 1100, 2080, 4200 };
    for (size_t i = 0; i < sizeof Ks / sizeof *Ks; i++) {
        mul_shape(type, 1, 1, Ks[i], false);
        mul_shape(type, 7, 3, Ks[i], false);
        mul_shape(type, 9, 8, Ks[i], false);
    }
    for (int N = 1; N <= 14; N++) mul_shape(type, 5, N, 66, N % 2);
    for (int R = 14; R <= 34; R += 3) mul_shape(type, R, R * 5 % 37, 96, false);
    mul_shape(type, 70, 101, 40, false);        // more than a block of rows and of inputs
    mul_shape(type, 66, 100, 40, true);
    mul_shape(type, 65, 97, 2070, false);       // and of K
    mul_bench(type, 64, 1, 2048);
    mul_bench(type, 64, 4, 2048);
    mul_bench(type, 64, 8, 2048);
    mul_bench(type, 64, 96, 576);
    mul_bench(type, 64, 512, 2048);
    mul_bench(type, 64, 512, 8192);
}

static void check_mul_f32(void) { mul_type(DT_F32); }
static void check_mul_f16(void) { mul_type(DT_F16); }
static void check_mul_bf16(void) { mul_type(DT_BF16); }
static void check_mul_f8(void) { mul_type(DT_F8_E4M3); }

/* ---- the element-wise ---- */

static float x[4096 + 2 * PAD], w[4096 + 2 * PAD], y[4096 + 2 * PAD], yr[4096 + 2 * PAD];
static uint16_t h[4096 + 2 * PAD], hr[4096 + 2 * PAD];

static void halves(void (*fn)(uint16_t *, const float *, int64_t),
                   void (*want)(uint16_t *, const float *, int64_t))
{
    for (int round = 0; round < 40; round++)
        EACH_SIZE(n) {
            for (int i = 0; i < n + 2 * PAD; i++) h[i] = 7;
            for (int i = 0; i < n; i++) {
                x[i] = wild(2);
                if (i % 3 == 0) x[i] = f16_to_f32((uint16_t)f32_bits(x[i])) * (1 + 0x1p-12f);
                if (i % 5 == 0) x[i] *= 0x1p-16f;
            }
            want(hr, x, n);
            fn(h + PAD, x, n);
            CHECK(!memcmp(h + PAD, hr, (size_t)n * 2));
            for (int i = 0; i < PAD; i++) CHECK(h[i] == 7 && h[PAD + n + i] == 7);
        }
    BENCH("to_half", "4096", 4096 * 6.0, "GB/s", fn(h, x, 4096));
}

static void check_to_bf16(void) { halves(new.to_bf16, ref.to_bf16); }
static void check_to_f16(void) { halves(new.to_f16, ref.to_f16); }

/* Every half, infinities and NaNs too, from any place. */
static void check_from_f16(void)
{
    EACH_SIZE(n)
        for (uint32_t at = 0; at < 65536; at += (uint32_t)n) {
            for (int i = 0; i < n; i++) h[i + 1] = (uint16_t)(at + (uint32_t)i);
            for (int i = 0; i < n + 2 * PAD; i++) y[i] = 7;
            ref.from_f16(yr, h + 1, n);
            new.from_f16(y + PAD, h + 1, n);
            CHECK(!memcmp(y + PAD, yr, (size_t)n * sizeof *y));
            for (int i = 0; i < PAD; i++) CHECK(y[i] == 7 && y[PAD + n + i] == 7);
        }
    BENCH("from_half", "4096", 4096 * 6.0, "GB/s", new.from_f16(y, h, 4096));
}

static void check_rmsnorm(void)
{
    EACH_SIZE(n) {
        for (int i = 0; i < n + 2 * PAD; i++) x[i] = t_rand(), w[i] = t_rand(), y[i] = 7;
        float a = ref.rmsnorm(yr, x, w, n, 1e-5f), b = new.rmsnorm(y + PAD, x, w, n, 1e-5f);
        CHECK(same(a, b) && same_n(y + PAD, yr, (size_t)n));
        for (int i = 0; i < PAD; i++) CHECK(y[i] == 7 && y[PAD + n + i] == 7);
        memcpy(yr, x, (size_t)n * sizeof *x);
        new.rmsnorm(yr, yr, w, n, 1e-5f);                                        // y == x
        CHECK(same_n(yr, y + PAD, (size_t)n));
    }
    BENCH("rmsnorm", "4096", 4096 * 12.0, "GB/s", new.rmsnorm(y, x, w, 4096, 1e-5f));
}

static void check_add(void)
{
    EACH_SIZE(n) {
        for (int i = 0; i < n + 2 * PAD; i++) x[i] = wild(9), y[i] = yr[i] = 7;
        for (int i = 0; i < n; i++) y[PAD + i] = yr[PAD + i] = wild(9);
        ref.add(yr + PAD, x, n);
        new.add(y + PAD, x, n);
        CHECK(same_n(y, yr, (size_t)n + 2 * PAD));
    }
    BENCH("add", "4096", 4096 * 12.0, "GB/s", new.add(y, x, 4096));
}

static void check_add_low(void)
{
    enum { KMAX = 100, RMAX = 80, BIG = 1024 };
    static const int ranks[] = { 1, 5, 8, 15, 16, 17, 24, 32, 40, 64, KMAX }, ns[] = { 1, 2, 3, 8 };
    static float b[BIG * 16], rows[RMAX * KMAX], t[8 * KMAX], z[8 * BIG + 2 * PAD], zr[8 * BIG + 2 * PAD];
    for (size_t k = 0; k < sizeof ranks / sizeof *ranks; k++)
        for (int i = 0; i < 40; i++) {
            int K = ranks[k], R = 1 + i * 7 % 67, N = ns[i % 4], ldy = R + i % 5;
            for (int j = 0; j < RMAX * K; j++) b[j] = i % 8 == 7 ? -0.0f : wild(9);
            for (int j = 0; j < N * K; j++) t[j] = wild(9);
            for (int j = 0; j < N * ldy + 2 * PAD; j++) z[j] = zr[j] = i % 8 == 7 ? -0.0f : wild(9);
            ref.add_low(zr + PAD, (size_t)ldy, b, R, K, t, N);
            new.add_low(z + PAD, (size_t)ldy, b, R, K, t, N);
            CHECK(same_n(z, zr, (size_t)(N * ldy + 2 * PAD)));
            /* what is added is mul's product, bit for bit */
            for (int r = 0; r < R; r++)
                for (int j = 0; j < K; j++) rows[r * K + j] = b[low_at(r, j, K)];
            for (int j = 0; j < N * R; j++) z[j] = 0;
            act a = { .N = N, .K = K, .x = t, .ldx = (size_t)K };
            ref.mul[DT_F32](zr, (size_t)R, rows, (size_t)K * sizeof *rows, R, &a, NULL);
            for (int j = 0; j < N * R; j++) zr[j] = 0 + zr[j];
            new.add_low(z, (size_t)R, b, R, K, t, N);
            CHECK(same_n(z, zr, (size_t)(N * R)));
        }
    BENCH("add_low", "8x1024x16", 8.0 * BIG * 16 * 2, "GFLOP/s", new.add_low(z, BIG, b, BIG, 16, t, 8));
}

static void check_swiglu(void)
{
    for (int round = 0; round < 60; round++)
        EACH_SIZE(n) {
            for (int i = 0; i < n + 2 * PAD; i++) y[i] = 7;
            for (int i = 0; i < n; i++) x[i] = wild(4) * (1 << i % 7), w[i] = wild(50);
            ref.swiglu(yr, x, w, n);
            new.swiglu(y + PAD, x, w, n);
            CHECK(same_n(y + PAD, yr, (size_t)n));
            for (int i = 0; i < PAD; i++) CHECK(y[i] == 7 && y[PAD + n + i] == 7);
        }
    for (int i = 0; i < 4096; i++) x[i] = t_rand() * 8, w[i] = t_rand();
    BENCH("swiglu", "4096", 4096.0, "G/s", new.swiglu(y, x, w, 4096));
}

static void check_argmax(void)
{
    EACH_SIZE(n) {
        for (int round = 0; round < 50; round++) {
            for (int i = 0; i < n; i++) x[i] = floorf(t_rand() * 40);
            if (round % 3 == 0) x[(round * 37) % n] = NAN;
            if (round % 4 == 0) for (int i = 0; i < n; i++) x[i] = -INFINITY;
            if (round % 7 == 0) x[0] = NAN, x[n - 1] = round % 2 ? -0.0f : INFINITY;
            CHECK(ref.argmax(x, n) == new.argmax(x, n));
        }
    }
    x[0] = x[1] = NAN;
    CHECK(new.argmax(x, 2) == 0);
    x[1] = -INFINITY;
    CHECK(new.argmax(x, 2) == 1);
    for (int i = 0; i < 4096; i++) x[i] = t_rand();
    volatile int64_t sink = 0;
    BENCH("argmax", "4096", 4096 * 4.0, "GB/s", sink += new.argmax(x, 4096));
    (void)sink;
}

/* ---- attention ---- */

enum { MAX_R = 70, MAX_HS = 144, T64 = ATTN_TILE };
typedef struct { float m[MAX_R], l[MAX_R], acc[MAX_R * MAX_HS]; } attn_state;

static void attn_type(int type, attn_fn *fn, attn_fn *want)
{
    static attn_state a, b;
    static float q[MAX_R * MAX_HS], kv[2 * MAX_HS * T64], p[(MAX_R + 2 * MAX_HS) * T64];
    static uint16_t kvh[2 * MAX_HS * T64];
    static const int dims[] = { 1, 16, 20, 64, 80, 96, 128, 144 };
    static const int rows[] = { 1, 2, 3, 4, 5, 6, 7, 12, 64, 70 };
    int lo[MAX_R], hi[MAX_R];
    const void *at = type == DT_F32 ? (const void *)kv : kvh;
    size_t b1 = type == DT_F32 ? 4 : 2;
    for (int z = 0; z < 8; z++)
        for (int y1 = 0; y1 < 10; y1++) {
            int hs = dims[z], R = rows[y1];
            const char *k = at, *v = k + (size_t)hs * T64 * b1;
            memset(&a, 0, sizeof a);
            for (int r = 0; r < MAX_R; r++) a.m[r] = -INFINITY;
            b = a;
            for (int tile = 0; tile < 6; tile++) {
                bool whole = tile > 3;                      // all rows see all of it: lo is NULL
                for (int i = 0; i < hs * R; i++) q[i] = t_rand() * (tile == 5 ? 40 : 1);
                for (int i = 0; i < 2 * hs * T64; i++) {
                    float f = t_rand();
                    kvh[i] = type == DT_F16 ? f32_to_f16(f) : f32_to_bf16(f);
                    kv[i] = f;
                }
                for (int r = 0; r < R; r++) {
                    int u = (int)((t_rand() + 1) * 40), s = (int)((t_rand() + 1) * 20);
                    lo[r] = tile % 2 ? u : 0, hi[r] = tile == 0 ? T64 : tile == 2 ? s + r / 3 : u + s;
                    if (hi[r] > T64) hi[r] = T64;
                    if (whole) lo[r] = 0, hi[r] = T64;
                }
                // what no row sees may be anything
                for (int j = 0; j < T64; j++) {
                    bool seen = false;
                    for (int r = 0; r < R; r++) seen |= lo[r] <= j && j < hi[r];
                    for (int d = 0; !seen && d < hs; d++) {
                        kv[d * T64 + j] = kv[hs * T64 + j * hs + d] = NAN;
                        kvh[d * T64 + j] = kvh[hs * T64 + j * hs + d] = 0x7fff;
                    }
                }
                if (tile == 4 && R > 2) kv[7] = INFINITY, kvh[7] = 0x7c01, q[hs] = NAN;
                want(b.m, b.l, b.acc, q, R, hs, k, v, lo, hi, p, NULL, 0);
                fn(a.m, a.l, a.acc, q, R, hs, k, v, whole ? NULL : lo, hi, p, whole ? k : NULL,
                   2 * (size_t)hs * T64 * b1);
                t_ok(same_n(a.m, b.m, sizeof a / sizeof *a.m), __FILE__, __LINE__,
                     "R %d hs %d tile %d: other bits", R, hs, tile);
            }
        }
    for (int r = 0; r < MAX_R; r++) lo[r] = 0, hi[r] = T64;
    for (int i = 0; i < 2 * 128 * T64; i++) kv[i] = t_rand(), kvh[i] = f32_to_bf16(kv[i]);
    if (type == DT_F16) for (int i = 0; i < 2 * 128 * T64; i++) kvh[i] = f32_to_f16(kv[i]);
    for (int hs = 64; hs <= 128; hs += 64)
        for (int R = 1; R <= 64; R *= 4) {
            char shape[32];
            snprintf(shape, sizeof shape, "hs %d R %d", hs, R);
            const char *k = at, *v = k + (size_t)hs * T64 * b1;
            BENCH_OF("attn", shape, 4.0 * R * hs * T64, "Gop/s", tops.f32(0.02),
                  fn(a.m, a.l, a.acc, q, R, hs, k, v, NULL, NULL, p, NULL, 0));
        }
}

static void check_attn_f32(void) { attn_type(DT_F32, new.attn_f32, ref.attn_f32); }
static void check_attn_f16(void) { attn_type(DT_F16, new.attn_f16, ref.attn_f16); }
static void check_attn_bf16(void) { attn_type(DT_BF16, new.attn_bf16, ref.attn_bf16); }

static void check_attn_merge(void)
{
    static attn_state a, b, c;
    for (int round = 0; round < 200; round++) {
        int R = 1 + round % 13, hs = 1 + round * 7 % MAX_HS;
        for (int r = 0; r < R; r++) {
            a.m[r] = r % 4 == 1 ? -INFINITY : t_rand() * 9, a.l[r] = t_rand() + 2;
            c.m[r] = r % 4 >= 2 ? t_rand() * 9 : -INFINITY, c.l[r] = t_rand() + 2;
            for (int d = 0; d < hs; d++)
                a.acc[r * hs + d] = t_rand(), c.acc[r * hs + d] = t_rand();
        }
        b = a;
        ref.attn_merge(b.m, b.l, b.acc, c.m, c.l, c.acc, R, hs);
        new.attn_merge(a.m, a.l, a.acc, c.m, c.l, c.acc, R, hs);
        CHECK(!memcmp(&a, &b, sizeof a));
    }
}

/* exp itself, over the floats of its range, against the C library in double. */
static void check_fexp(void)
{
    double worst = 0;
    for (int sign = 0; sign < 2; sign++)
        for (uint32_t u = 0x2f000000; u < 0x42b0bf00; u += 1009) {
            float v = f32_from_bits(u | (uint32_t)sign << 31);
            if (v < FEXP_LO || v > FEXP_HI) break;
            int e;
            double want = exp(v);
            frexp(want, &e);
            double err = fabs(fexp(v) - want) / ldexp(1, e - 24 < -149 ? -149 : e - 24);
            if (err > worst) worst = err;
        }
    CHECK(worst < 2);
    if (bench) printf("fexp\tworst error\t%.3f ulp\n", worst);
    CHECK(fexp(-INFINITY) == 0 && fexp(-87.35f) == 0 && fexp(0) == 1);
    CHECK(fexp(INFINITY) == fexp(FEXP_HI) && isfinite(fexp(FEXP_HI)) && isnan(fexp(NAN)));
}

/* ---- the quantised cache ---- */

static void check_quant_q4(void)
{
    enum { MAX_K = 512 };
    static uint8_t q[MAX_K / 2 + 2 * PAD], qr[MAX_K / 2];
    static float d[MAX_K / 32 + 1], dr[MAX_K / 32 + 1];
    for (int round = 0; round < 3000; round++) {
        int K = 32 * (1 + round % 16);
        for (int i = 0; i < K; i++) x[i] = round % 3 == 0 ? wild(40) : t_rand() * 8;
        if (round % 5 == 0) for (int i = 0; i < K; i++) x[i] = floorf(x[i]);    // ties, signs
        if (round % 11 == 0) for (int i = 0; i < 32; i++) x[i] = 0;
        if (round % 13 == 0) for (int i = 0; i < K; i++) x[i] *= 0x1p-140f;
        memset(q, 7, sizeof q);
        d[K / 32] = 7;
        ref.quant_q4(qr, dr, x, K);
        new.quant_q4(q + PAD, d, x, K);
        CHECK(!memcmp(q + PAD, qr, (size_t)K / 2) && same_n(d, dr, (size_t)K / 32));
        for (int i = 0; i < PAD; i++) CHECK(q[i] == 7 && q[PAD + K / 2 + i] == 7);
        CHECK(d[K / 32] == 7);
    }
    for (int i = 0; i < 4096; i++) x[i] = t_rand();
    BENCH("quant_q4", "128", 128 * 4.5, "GB/s", new.quant_q4(q, d, x, 128));
}

/* The textbook version rounds as the weights' quantiser does, which has the reference
 * implementation's bits (tests/unit/test_dequant.c). */
static void check_quant_q4_format(void)
{
    for (int round = 0; round < 2000; round++) {
        uint8_t q[64];
        float d[4];
        block_q4_0 want[4];
        for (int i = 0; i < 128; i++) x[i] = round % 3 ? t_rand() * 5 : floorf(t_rand() * 4);
        if (round % 9 == 0) for (int i = 32; i < 64; i++) x[i] = 0;
        ref.quant_q4(q, d, x, 128);
        CHECK(quant_row(DT_Q4_0, x, want, 128) == DR_OK);
        for (int b = 0; b < 4; b++)
            CHECK(f32_to_f16(d[b]) == want[b].d && !memcmp(q + 16 * b, want[b].qs, 16));
    }
}

static void check_hadamard(void)
{
    for (int n = 32; n <= 512; n *= 2)
        for (int round = 0; round < 20; round++) {
            for (int i = 0; i < n + 2 * PAD; i++) y[i] = 7;
            for (int i = 0; i < n; i++) y[PAD + i] = yr[i] = x[i] = round % 4 ? t_rand() : wild(30);
            ref.hadamard(yr, n);
            new.hadamard(y + PAD, n);
            CHECK(same_n(y + PAD, yr, (size_t)n));
            for (int i = 0; i < PAD; i++) CHECK(y[i] == 7 && y[PAD + n + i] == 7);
            if (round % 4 == 0) continue;
            for (int i = 0; i < n; i += 7) {                    // by the definition
                double sum = 0;
                for (int k = 0; k < n; k++) sum += __builtin_parity((unsigned)(i & k)) ? -x[k] : x[k];
                CHECK_NEAR(yr[i], sum / sqrt(n), 1e-5);
            }
        }
    for (int i = 0; i < 128; i++) x[i] = 0;
    BENCH("hadamard", "128", 128 * 8.0, "GB/s", new.hadamard(x, 128));
}

/* A head's tile: any bits for values, scales of the size that they have. odd: rubbish and a NaN. */
static uint8_t *tile_new(int bits, int hs, bool odd)
{
    size_t bytes = 2 * kv_tile_bytes(bits, hs), scales = kv_tile_scales(hs) / 2;
    uint8_t *head = get(bytes);
    for (size_t i = 0; i < bytes; i++) head[i] = (uint8_t)(int)(t_rand() * 1000);
    for (size_t i = 0; i < 2 * scales; i++) {
        uint16_t u = f32_to_f16(t_rand() * 0.02f);
        if (odd && i % 97 == 5) u = 0x7e00;
        if (odd && i % 97 == 6) u = (uint16_t)(t_rand() * 30000);
        memcpy(head + (i < scales ? 2 * i : bytes / 2 + 2 * (i - scales)), &u, 2);
    }
    return head;
}

static void values_of(int bits, void (*fn)(float *, const void *, int),
                      void (*want)(float *, const void *, int))
{
    static const int dims[] = { 32, 64, 96, 128, 160, 512 };
    size_t most = (size_t)T64 * 512;
    float *a = get((most + 2 * PAD) * 4), *b = get(most * 4);
    for (int z = 0; z < 6; z++) {
        int hs = dims[z];
        size_t n = (size_t)T64 * (size_t)hs;
        for (int round = 0; round < 20; round++) {
            uint8_t *head = tile_new(bits, hs, round % 3 == 0);
            if (round == 0) memset(head, 0xff, 2 * kv_tile_bytes(bits, hs)); // pages come back used
            for (size_t i = 0; i < n + 2 * PAD; i++) a[i] = 7;
            want(b, head, hs);
            fn(a + PAD, head, hs);
            t_ok(same_n(a + PAD, b, n), __FILE__, __LINE__, "hs %d: other bits", hs);
            for (int i = 0; i < PAD; i++) CHECK(a[i] == 7 && a[PAD + n + (size_t)i] == 7);
            char shape[32];
            snprintf(shape, sizeof shape, "hs %d", hs);
            if (round == 1 && (hs == 64 || hs == 128))
                BENCH("kv values", shape, (double)n, "Gval/s", fn(a, head, hs));
            mem_free(head);
        }
    }
    mem_free(a), mem_free(b);
}

static void check_v_q8(void) { values_of(8, new.v_q8, ref.v_q8); }
static void check_v_q4(void) { values_of(4, new.v_q4, ref.v_q4); }

/* Rows of queries as quant_q8 gives them, -127 and 127 among them. */
static attn_rows8 rows8_new(int R, int hs, float scale)
{
    size_t n = (size_t)R * (size_t)hs;
    int8_t *q = get(n);
    float *d = get(n / 8), *f = get((size_t)hs * 4);
    int16_t *s16 = get(n / 8);
    for (int r = 0; r < R; r++) {
        for (int i = 0; i < hs; i++) f[i] = i % 5 ? t_rand() * scale : i % 2 ? scale : -scale;
        ref.quant_q8(q + r * hs, d + r * (hs / 32), s16 + r * (hs / 16), f, hs);
    }
    mem_free(f);
    return (attn_rows8){ q, d, s16 };
}

static void rows8_free(attn_rows8 q)
{
    mem_free((void *)q.q), mem_free((void *)q.d), mem_free((void *)q.s16);
}

static void scores_of(int bits, attn_scores_fn *fn, attn_scores_fn *want)
{
    static const int dims[] = { 32, 64, 96, 128, 512 };
    static const int rows[] = { 1, 2, 3, 4, 5, 6, 8, 64 };
    enum { MOST = 512 };
    float *scratch = get((size_t)(MOST + MOST / 32) * T64 * 4);
    float *a = get((64 * T64 + 2 * PAD) * 4), *b = get(64 * T64 * 4);
    for (int z = 0; z < 5; z++)
        for (int i = 0; i < 8; i++)
            for (int round = 0; round < 3; round++) {
                int hs = dims[z], R = rows[i];
                uint8_t *head = tile_new(bits, hs, round == 1);
                if (round == 2)                               // the largest sums that there are
                    memset(head + kv_tile_scales(hs), bits == 8 ? 0x7f : 0, kv_tile_scales(hs) * 8);
                attn_rows8 q = rows8_new(R, hs, round == 2 ? 1 : 3);
                for (int k = 0; round == 2 && k < R * hs; k++) ((int8_t *)q.q)[k] = 127;
                for (int k = 0; round == 2 && k < R * hs / 16; k++) ((int16_t *)q.s16)[k] = 16 * 127;
                for (int k = 0; k < R * T64 + 2 * PAD; k++) a[k] = 7;
                want(b, &q, R, hs, head, scratch);
                fn(a + PAD, &q, R, hs, head, scratch);
                t_ok(same_n(a + PAD, b, (size_t)(R * T64)), __FILE__, __LINE__,
                     "R %d hs %d: other bits", R, hs);
                for (int k = 0; k < PAD; k++) CHECK(a[k] == 7 && a[PAD + R * T64 + k] == 7);
                char shape[32];
                snprintf(shape, sizeof shape, "hs %d R %d", hs, R);
                if (round == 0 && (hs == 64 || hs == 128) && (R == 1 || R == 4 || R == 64))
                    BENCH("scores", shape, 2.0 * R * hs * T64, "Gop/s",
                          fn(a, &q, R, hs, head, scratch));
                mem_free(head), rows8_free(q);
            }
    mem_free(a), mem_free(b), mem_free(scratch);
}

static void check_scores_q8(void) { scores_of(8, new.scores_q8, ref.scores_q8); }
static void check_scores_q4(void) { scores_of(4, new.scores_q4, ref.scores_q4); }

/* The rest straight from a quantised tile is that of its values as f32. */
static void weigh_of(int bits, attn_weigh_fn *fn)
{
    static attn_state a, b, c;
    static float s[MAX_R * T64 + PAD], p[MAX_R * T64], wide[MAX_HS * T64], scratch[MAX_HS / 32 * T64];
    static const int dims[] = { 32, 64, 96, 128 };
    for (int z = 0; z < 4; z++)
        for (int R = 1; R <= 13; R++) {
            int hs = dims[z];
            memset(&a, 0, sizeof a);
            for (int r = 0; r < MAX_R; r++) a.m[r] = -INFINITY;
            b = a;
            for (int tile = 0; tile < 5; tile++) {
                uint8_t *head = tile_new(bits, hs, tile == 3);
                for (int i = 0; i < R * T64; i++) s[i] = p[i] = t_rand() * 9;
                if (tile == 2) s[7] = p[7] = NAN;
                for (int i = R * T64; i < R * T64 + PAD; i++) s[i] = 7;
                (bits == 8 ? ref.v_q8 : ref.v_q4)(wide, head, hs);
                ref.attn_f32(b.m, b.l, b.acc, wide, R, hs, NULL, wide, NULL, NULL, p, NULL, 0);
                fn(a.m, a.l, a.acc, s, R, hs, head, scratch, tile % 2 ? head : NULL);
                t_ok(same_n(a.m, b.m, sizeof a / sizeof *a.m), __FILE__, __LINE__,
                     "R %d hs %d tile %d: other bits", R, hs, tile);
                for (int i = R * T64; i < R * T64 + PAD; i++) CHECK(s[i] == 7);
                char shape[32];
                snprintf(shape, sizeof shape, "hs %d R %d", hs, R);
                c = a;
                if (!tile && z % 2 && R <= 8 && !(R & (R - 1)))
                    BENCH_OF("weigh", shape, 2.0 * R * hs * T64, "Gop/s", tops.f32(0.02),
                             fn(c.m, c.l, c.acc, s, R, hs, head, scratch, NULL));
                mem_free(head);
            }
        }
}

static void check_weigh_q8(void) { weigh_of(8, new.weigh_q8); }
static void check_weigh_q4(void) { weigh_of(4, new.weigh_q4); }

static const level_check checks[] = {
    { "mul_f32",    offsetof(kern, mul[DT_F32]),  check_mul_f32 },
    { "mul_f16",    offsetof(kern, mul[DT_F16]),  check_mul_f16 },
    { "mul_bf16",   offsetof(kern, mul[DT_BF16]), check_mul_bf16 },
    { "mul_f8",     offsetof(kern, mul[DT_F8_E4M3]), check_mul_f8 },
    { "to_bf16",    offsetof(kern, to_bf16),      check_to_bf16 },
    { "to_f16",     offsetof(kern, to_f16),       check_to_f16 },
    { "from_f16",   offsetof(kern, from_f16),     check_from_f16 },
    { "rmsnorm",    offsetof(kern, rmsnorm),      check_rmsnorm },
    { "add",        offsetof(kern, add),          check_add },
    { "add_low",    offsetof(kern, add_low),      check_add_low },
    { "swiglu",     offsetof(kern, swiglu),       check_swiglu },
    { "attn_f32",   offsetof(kern, attn_f32),     check_attn_f32 },
    { "attn_f16",   offsetof(kern, attn_f16),     check_attn_f16 },
    { "attn_bf16",  offsetof(kern, attn_bf16),    check_attn_bf16 },
    { "attn_merge", offsetof(kern, attn_merge),   check_attn_merge },
    { "argmax",     offsetof(kern, argmax),       check_argmax },
    { "quant_q4",   offsetof(kern, quant_q4),     check_quant_q4 },
    { "hadamard",   offsetof(kern, hadamard),     check_hadamard },
    { "scores_q8",  offsetof(kern, scores_q8),    check_scores_q8 },
    { "scores_q4",  offsetof(kern, scores_q4),    check_scores_q4 },
    { "v_q8",       offsetof(kern, v_q8),         check_v_q8 },
    { "v_q4",       offsetof(kern, v_q4),         check_v_q4 },
    { "weigh_q8",   offsetof(kern, weigh_q8),     check_weigh_q8 },
    { "weigh_q4",   offsetof(kern, weigh_q4),     check_weigh_q4 },
};
enum { N_CHECKS = sizeof checks / sizeof *checks };
/* the float products and all other slots are here (pack_bf16 with mul_bf16); quant_q8, quant_qk,
 * mul_scratch and the rest of mul[] are kerncheck_q.c's, quant[] is kerncheck_quant.c's, the last
 * sixteen are training's: ten are kerncheck_grad.c's, six kerncheck_optim.c's */
_Static_assert(sizeof(kern) == (2 * KERN_MAX_TYPE - 4 + N_CHECKS + 4 + 16) * sizeof(void (*)(void)),
               "a kernel has no test");

static void begin(const kern_level *l)
{
    bf16_way = l->need & CPU_AMX ? TILES : l->need & CPU_AVX512 ? FLUSH : PLAIN;
    probe_select(&tops, level);
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "--bench")) bench = true, argc--, argv++;
    t_begin(argc, argv);
    kern_select(&ref, "ref");
    new = ref;
    t_run("fexp", check_fexp);
    t_run("quant_q4_format", check_quant_q4_format);
    each_level(checks, N_CHECKS, begin);
    return t_end();
}
