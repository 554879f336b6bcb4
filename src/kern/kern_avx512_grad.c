/* kern_avx512_grad.c - training's kernels. Compiled with this level's flags: only static functions
 * and kern_init_avx512_grad may come out of it. */
#if defined(__x86_64__)
#define KERN(name) name##_avx512
#include "kern/kern.h"
#include "kern/vec_avx512.h"

enum { GRAD_R = 12, GRAD_W = 2, MINI_R = 6, MINI_W = 4 };

/* ---- sixteen rows of sixteen dwords become columns ---- */
#define V_TURN 1
static inline __attribute__((always_inline)) void v_turn(__m512 r[16])
{
    __m512 t[16];
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        __m512 a = _mm512_unpacklo_ps(r[i], r[i + 1]), b = _mm512_unpackhi_ps(r[i], r[i + 1]);
        __m512 c = _mm512_unpacklo_ps(r[i + 2], r[i + 3]), d = _mm512_unpackhi_ps(r[i + 2], r[i + 3]);
        t[i] = _mm512_shuffle_ps(a, c, 0x44), t[i + 1] = _mm512_shuffle_ps(a, c, 0xee);
        t[i + 2] = _mm512_shuffle_ps(b, d, 0x44), t[i + 3] = _mm512_shuffle_ps(b, d, 0xee);
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        __m512 a = _mm512_shuffle_f32x4(t[j], t[4 + j], 0x88);
        __m512 b = _mm512_shuffle_f32x4(t[8 + j], t[12 + j], 0x88);
        __m512 c = _mm512_shuffle_f32x4(t[j], t[4 + j], 0xdd);
        __m512 d = _mm512_shuffle_f32x4(t[8 + j], t[12 + j], 0xdd);
        r[j] = _mm512_shuffle_f32x4(a, b, 0x88), r[4 + j] = _mm512_shuffle_f32x4(c, d, 0x88);
        r[8 + j] = _mm512_shuffle_f32x4(a, b, 0xdd), r[12 + j] = _mm512_shuffle_f32x4(c, d, 0xdd);
    }
}

/* ---- panels of pairs of bf16: (k, k+1) of one column in a dword ---- */
#define GRAD_PAIRS 1
static inline vf pair_dot(vf a, vf b, vf c)
{
    return h_dot(_mm512_castps_si512(a), _mm512_castps_si512(b), c);
}

/* VCVTNE2PS2BF16 takes subnormals for 0, as VDPBF16PS does with what it gives. */
static inline __m512i two_bf16(vf low, vf high)
{
    return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

static inline vf pairs_at(const grad_op *o, size_t at, int n, bool second)
{
    __mmask16 m = mask_of(n), m2 = second ? m : 0;
    if (o->type == DT_BF16) {
        const uint16_t *p = (const uint16_t *)o->p + at;
        __m512i a = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, p));
        __m512i b = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m2, p + o->ld));
        return _mm512_castsi512_ps(_mm512_or_si512(a, _mm512_slli_epi32(b, 16)));
    }
    const float *p = (const float *)o->p + at;
    __m512i h = two_bf16(_mm512_maskz_loadu_ps(m, p), _mm512_maskz_loadu_ps(m2, p + o->ld));
    const __m512i turn = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,
                                          23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_castsi512_ps(_mm512_permutexvar_epi16(turn, h));
}

/* As panel_rows. */
static void pairs_rows(float *to, const grad_op *o, int k0, int K, int i0, int n, int width)
{
    enum { STEP = 16 };
    int pairs = (K + 1) / 2;
    for (int k1 = 0; k1 < K; k1 += STEP) {
        int end = k1 + STEP < K ? k1 + STEP : K;
        for (int i = 0; i < n; i += width) {
            float *y = to + (size_t)i * (size_t)pairs + k1 / 2 * width;
            for (int k = k1; k < end; k += 2, y += width)
                for (int c = 0; c < width; c += 16) {
                    int some = n - i - c < width - c ? n - i - c : width - c;
                    some = some < 0 ? 0 : some > 16 ? 16 : some;
                    vf x = pairs_at(o, (size_t)(k0 + k) * o->ld + (size_t)(i0 + i + c), some,
                                    k + 1 < K);
                    if (width - c < 16 && k + 2 >= K) v_store_n(y + c, x, width - c);
                    else v_store(y + c, x);
                }
        }
    }
}

/* n <= 32 values along k as pairs */
static inline vf pairs_along(const grad_op *o, size_t at, int n)
{
    if (o->type == DT_BF16)
        return _mm512_castsi512_ps(n == 32 ? h_load((const uint16_t *)o->p + at)
                                           : h_load_n((const uint16_t *)o->p + at, n));
    const float *p = (const float *)o->p + at;
    __mmask16 m = n >= 16 ? 0xffff : mask_of(n), m2 = n > 16 ? mask_of(n - 16) : 0;
    return _mm512_castsi512_ps(two_bf16(_mm512_maskz_loadu_ps(m, p),
                                        _mm512_maskz_loadu_ps(m2, p + 16)));
}

static void pairs_turned(float *to, const grad_op *o, int k0, int K, int i0, int n, int width)
{
    int pairs = (K + 1) / 2;
    for (int i = 0; i < n; i += width, to += pairs * width) {
        int some = n - i < width ? n - i : width;
        for (int t = 0; t < pairs; t += 16) {
            vf r[16];
            int left = K - 2 * t < 32 ? K - 2 * t : 32, step = pairs - t < 16 ? pairs - t : 16;
            size_t at = (size_t)(i0 + i) * o->ld + (size_t)(k0 + 2 * t);
            for (int m = 0; m < 16; m++)
                r[m] = m < some ? pairs_along(o, at + (size_t)m * o->ld, left) : v_set(0);
            v_turn(r);
            for (int m = 0; m < step; m++) v_store(to + (t + m) * width, r[m]);
        }
    }
}

#include "kern/grad_body.h"

void kern_init_avx512_grad(kern *k);
void kern_init_avx512_grad(kern *k) { KERN(grad_fill)(k); }
#else
typedef int kern_avx512_grad_not_here;
#endif
