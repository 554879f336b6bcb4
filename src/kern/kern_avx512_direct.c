/* kern_avx512_direct.c - quantised products of up to sixteen columns: sixteen weight rows in the
 * lanes, from the file's blocks straight through registers. */
#if defined(__x86_64__)
#include <stdbool.h>
#include "kern/few512.h"
#include "kern/mulq512_body.h"
#include "kern/unroll.h"

/* Columns whose chains of products run side by side: eight products that wait for each other leave the
 * ports idle. With sixteen columns there are no registers for more than two. */
enum { SIDE_MAX = 4 };
TAKE_INLINE int side_by_side(int nc) { return nc > 8 ? 2 : nc % 3 ? SIDE_MAX : 3; }

/* Group j of 32 weights from k on, as take left it. super: blocks of 256, whose inputs' scales are shifts,
 * which run beside products, on ports that a multiplication shares with them. */
TAKE_INLINE void dots(__m512 *acc, const __m512i *v, const __m512 *wg, const __m512 *mg,
                      const act *a, const int *col, size_t k, const char *sums, size_t room,
                      int group, int mins, int super, int nc)
{
    int per = 32 / group, side = side_by_side(nc);
    sums += 4 * (k / (size_t)group);
    UNROLL(2)
    for (int g = 0; g < per; g++)
        UNROLL(16)
        for (int c0 = 0; c0 < nc; c0 += side) {
            int to = c0 + side < nc ? c0 + side : nc;
            __m512i S[SIDE_MAX];
            UNROLL(4)
            for (int c = c0; c < to; c++)
                S[c - c0] = mins ? _mm512_setzero_si512() :
                            _mm512_set1_epi32(((const int32_t *)(sums + (size_t)c * room))[g]);
            UNROLL(8)
            for (int i = g * 8 / per; i < (g + 1) * 8 / per; i++)
                UNROLL(4)
                for (int c = c0; c < to; c++) {
                    const int8_t *q = a->q + (size_t)col[c] * (size_t)a->K + k;
                    S[c - c0] = _mm512_dpbusd_epi32(S[c - c0], v[i], four_bytes(q + 4 * i));
                }
            UNROLL(4)
            for (int c = c0; c < to; c++) {
                size_t at = (size_t)col[c] * (size_t)(a->K / QBLOCK) + k / QBLOCK;
                __m512i sum = S[c - c0];
                __m512 w = wg[g];
                if (super) sum = _mm512_sllv_epi32(sum, _mm512_set1_epi32(a->shift[at]));
                else w = _mm512_mul_ps(w, _mm512_set1_ps(a->d[at]));
                acc[c] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), w, acc[c]);
                if (mins)
                    acc[c] = _mm512_fmadd_ps(mg[g], _mm512_set1_ps(((const float *)(sums +
                                                 (size_t)c * room))[g]), acc[c]);
            }
        }
}

/* The chains of block b of 256 into their rows' sums. */
TAKE_INLINE void add_supers(__m512 *sum, __m512 *acc, const act *a, const int *col, int b, int nc)
{
    for (int c = 0; c < nc; c++) {
        float d = a->dk[(size_t)col[c] * (size_t)(a->K / QSUPER) + (size_t)b];
        sum[c] = _mm512_fmadd_ps(acc[c], _mm512_set1_ps(d), sum[c]);
        acc[c] = _mm512_setzero_ps();
    }
}
/* The same out of line, where sums in registers make the compiler spill what the groups need: Q3_K
 * of one column 63 instead of 51 Gop/s, of two 92 instead of 72. Other types lose by it. */
static __attribute__((noinline)) void add_supers_far(__m512 *sum, __m512 *acc, const act *a,
                                                     const int *col, int b, int nc)
{
    add_supers(sum, acc, a, col, b, nc);
}

/* once: groups of 32 after which what `take` does repeats, so that its turns are compiled one by
 * one: a shift by a variable and raw bytes on the stack cost a fifth. */
TAKE_INLINE void direct(float *y, size_t ldy, const uint8_t *w, size_t s, int R, const act *a,
                        const int *col, const char *sums, take_fn *take, int elems, int bytes,
                        int group, int mins, int once, int far, int live, int nc)
{
    int K = a->K, per = 32 / group, super = elems == QSUPER;
    size_t room = 4 * sums_room(K);
    for (int r0 = 0; r0 < R; r0 += ROWS) {
        int at = r0 < R - ROWS ? r0 : R - ROWS;      /* the last group may overlap: same bits */
        const uint8_t *p = w + (size_t)at * s;
        fetch f = fetch_from(p + ROWS * s, s);
        __m512 acc[DIRECT_MAX], sum[DIRECT_MAX];
        for (int c = 0; c < nc; c++) acc[c] = sum[c] = _mm512_setzero_ps();
        for (int b = 0; b < K / elems; b++, p += bytes) {
            __m512i t[TAKE_T], v[8];
            __m512 wg[MAX_GROUPS], mg[MAX_GROUPS];
            for (int j0 = 0; j0 < elems / 32; j0 += once)
                UNROLL(4)
                for (int i = 0; i < once; i++) {
                    int j = j0 + i;
                    fetch_more(&f, ROWS * bytes * 32 / elems);
                    take(p, s, j, t, v, wg, mg);
                    dots(acc, v, wg + per * j, mg + per * j, a, col,
                         (size_t)b * (size_t)elems + 32 * (size_t)j, sums, room, group, mins, super,
                         nc);
                }
            if (super && far) add_supers_far(sum, acc, a, col, b, nc);
            else if (super) add_supers(sum, acc, a, col, b, nc);
        }
        for (int c = 0; c < nc; c++)
            if (c < live) _mm512_storeu_ps(y + (size_t)c * ldy + at, super ? sum[c] : acc[c]);
    }
}

/* Half as many columns more than a size are that size and a rest, whose weights then come from the
 * second cache: the time of a + b columns is at most that of a and of b. */
int direct512_columns(int n)
{
    static const int sizes[] = { 1, 2, 3, 4, 6, 8, 12, 16 };
    int z = sizeof sizes / sizeof *sizes - 1;
    while (z > 0 && n <= sizes[z - 1] + sizes[z - 1] / 2 && n <= 3 * sizes[z] / 4) z--;
    return sizes[z];
}

enum { FAR_q4_0, FAR_q4_1 = 0, FAR_q5_0 = 0, FAR_q5_1 = 0, FAR_q8_0 = 0, FAR_q2_k = 1, FAR_q3_k = 1,
       FAR_q4_k = 0, FAR_q5_k = 0, FAR_q6_k = 0, FAR_iq4_nl = 0, FAR_iq4_xs = 0, FAR_mxfp4 = 0,
       FAR_iq3_s = 0, FAR_iq3_xxs = 0, FAR_iq2_s = 0, FAR_iq2_xs = 0, FAR_iq2_xxs = 0 };

/* A function of its own for each number of columns: compiled as one, the registers of one went by what the
 * others want (Q6_K of eight columns 113 instead of 197 Gop/s). For more than four columns turns one by one
 * are too much code, and slower. */
#define ONE(T, ELEMS, G, MINS, ONCE, NC) \
static __attribute__((noinline)) void direct_##T##_##NC(float *y, size_t ldy, const uint8_t *w, \
                                                        size_t s, int R, const act *a, \
                                                        const int *col, const char *sums, int live) \
{ \
    direct(y, ldy, w, s, R, a, col, sums, take_##T, ELEMS, sizeof(block_##T), G, MINS, \
           (NC) > 4 ? 1 : (ONCE), FAR_##T, live, NC); \
}
#define CASE(T, NC) case NC: direct_##T##_##NC(y, ldy, w, s, R, a, col, sums, live); break;
#define DIRECT(T, CASES) \
static void direct_##T(float *y, size_t ldy, const uint8_t *w, size_t s, int R, const act *a, \
                       const int *col, const char *sums, int live, int nc) \
{ \
    switch (nc) { CASES } \
}
#define ONES(T, ELEMS, G, MINS, ONCE) \
    ONE(T, ELEMS, G, MINS, ONCE, 3) ONE(T, ELEMS, G, MINS, ONCE, 4) ONE(T, ELEMS, G, MINS, ONCE, 6) \
    ONE(T, ELEMS, G, MINS, ONCE, 8) ONE(T, ELEMS, G, MINS, ONCE, 12) ONE(T, ELEMS, G, MINS, ONCE, 16)
#define CASES_3(T) CASE(T, 3) CASE(T, 4) CASE(T, 6) CASE(T, 8) CASE(T, 12) CASE(T, 16)
/* From three columns on, for types that few512_type has; from one on. */
#define TYPE_3(T, ELEMS, G, MINS, ONCE) \
    ONES(T, ELEMS, G, MINS, ONCE) \
    DIRECT(T, CASES_3(T))
#define TYPE(T, ELEMS, G, MINS, ONCE) \
    ONES(T, ELEMS, G, MINS, ONCE) ONE(T, ELEMS, G, MINS, ONCE, 1) ONE(T, ELEMS, G, MINS, ONCE, 2) \
    DIRECT(T, CASE(T, 1) CASE(T, 2) CASES_3(T))
TYPE_3(q4_0, 32, 32, 0, 1)
TYPE_3(q4_1, 32, 32, 1, 1)
TYPE(q5_0, 32, 32, 0, 1)
TYPE(q5_1, 32, 32, 1, 1)
TYPE(q8_0, 32, 32, 0, 1)
TYPE(q2_k, 256, 16, 1, 4)
TYPE(q3_k, 256, 16, 0, 4)
TYPE_3(q4_k, 256, 32, 1, 2)
TYPE_3(q5_k, 256, 32, 1, 2)
TYPE_3(q6_k, 256, 16, 0, 4)
TYPE_3(iq4_nl, 32, 32, 0, 1)
TYPE_3(iq4_xs, 256, 32, 0, 1)
TYPE(mxfp4, 32, 32, 0, 1)
TYPE(iq3_s, 256, 32, 0, 2)
TYPE(iq3_xxs, 256, 32, 0, 2)
TYPE(iq2_s, 256, 16, 0, 4)
TYPE(iq2_xs, 256, 16, 0, 2)
TYPE(iq2_xxs, 256, 32, 0, 2)

direct_fn *direct512_type(int type)
{
    switch (type) {
    case DT_Q4_0: return direct_q4_0;
    case DT_Q4_1: return direct_q4_1;
    case DT_Q5_0: return direct_q5_0;
    case DT_Q5_1: return direct_q5_1;
    case DT_Q8_0: return direct_q8_0;
    case DT_Q2_K: return direct_q2_k;
    case DT_Q3_K: return direct_q3_k;
    case DT_Q4_K: return direct_q4_k;
    case DT_Q5_K: return direct_q5_k;
    case DT_Q6_K: return direct_q6_k;
    case DT_IQ4_NL: return direct_iq4_nl;
    case DT_IQ4_XS: return direct_iq4_xs;
    case DT_MXFP4: return direct_mxfp4;
    case DT_IQ3_S: return direct_iq3_s;
    case DT_IQ3_XXS: return direct_iq3_xxs;
    case DT_IQ2_S: return direct_iq2_s;
    case DT_IQ2_XS: return direct_iq2_xs;
    case DT_IQ2_XXS: return direct_iq2_xxs;
    default: return NULL;
    }
}
#else
typedef int kern_avx512_direct_not_here;
#endif
