/* mulq512_body.h - what the 512-bit levels share of a quantised product: panels of weights and
 * the integer sums of inputs. docs/kernels.md draws the panel. Everything here is static. */
#include "base/block.h"
#include "kern/kern.h"
#include "kern/unpack_body.h"

enum { ROWS = 16, MAX_GROUPS = 16 };

/* A panel: sixteen rows, one cell per 32 weights: 8 registers of bytes, then w_g per group, then
 * m_g per group. Bytes of a cell: */
static inline size_t cell_bytes(int group, int mins)
{
    return 512 + 64 * (size_t)(32 / group) * (size_t)(1 + mins);
}

typedef void take_fn(const uint8_t *p, size_t s, int j, __m512i *t, __m512i *v, __m512 *w,
                     __m512 *m);

/* n weights (whole blocks) of sixteen rows from p on into cells at `to`. less: taken off every
 * byte, which makes them signed; 0 leaves them unsigned. */
TAKE_INLINE void pack_rows(char *to, const uint8_t *p, size_t s, int n, take_fn *take, int elems,
                           int bytes, int group, int mins, int less)
{
    int per = 32 / group;
    for (int b = 0; b < n / elems; b++, p += bytes) {
        __m512i t[TAKE_T], v[8];
        __m512 w[MAX_GROUPS], m[MAX_GROUPS];
        for (int j = 0; j < elems / 32; j++, to += cell_bytes(group, mins)) {
            take(p, s, j, t, v, w, m);
            for (int i = 0; i < 8; i++) {
                if (less) v[i] = _mm512_sub_epi8(v[i], byte_set(less));
                _mm512_store_si512(to + 64 * i, v[i]);
            }
            for (int g = 0; g < per; g++) {
                _mm512_store_ps(to + 512 + 64 * g, w[per * j + g]);
                if (mins) _mm512_store_ps(to + 512 + 64 * (per + g), m[per * j + g]);
            }
        }
    }
}

/* For n groups from group g0 of column c: sum[g] = -off * A_g as i32, or, where off is 0, the
 * float d * (float)A_g. Writes up to a whole register: sum has room for n rounded up to 16. */
static inline void group_sums(void *sum, const act *a, int c, int g0, int n, int group, int off)
{
    const int16_t *s16 = a->s16 + (size_t)c * (size_t)(a->K / 16);
    const float *d = a->d + (size_t)c * (size_t)(a->K / QBLOCK);
    const __m512i twice = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
    for (int i = 0; i < n; i += 16) {
        int left = n - i < 16 ? n - i : 16;
        __m512i A;
        __m512 dv;
        if (group == 32) {
            __mmask32 k = (__mmask32)(((uint64_t)1 << 2 * left) - 1);
            A = _mm512_madd_epi16(_mm512_maskz_loadu_epi16(k, s16 + 2 * (g0 + i)),
                                  _mm512_set1_epi16(1));
            dv = _mm512_maskz_loadu_ps((__mmask16)((1u << left) - 1), d + g0 + i);
        } else {
            __mmask16 k = (__mmask16)((1u << left) - 1);
            A = _mm512_cvtepi16_epi32(_mm256_maskz_loadu_epi16(k, s16 + g0 + i));
            dv = _mm512_maskz_loadu_ps((__mmask16)((1u << (left + 1) / 2) - 1), d + (g0 + i) / 2);
            dv = _mm512_permutexvar_ps(twice, dv);
        }
        if (off)
            _mm512_storeu_si512((int32_t *)sum + i,
                                _mm512_mullo_epi32(A, _mm512_set1_epi32(-off)));
        else
            _mm512_storeu_ps((float *)sum + i, _mm512_mul_ps(dv, _mm512_cvtepi32_ps(A)));
    }
}

/* Room for one column's sums over K weights. */
static inline size_t sums_room(int K) { return ((size_t)(K / 16) + 15) / 16 * 16; }

TAKE_INLINE __m512i four_bytes(const int8_t *q)
{
    int32_t x;
    __builtin_memcpy(&x, q, 4);
    return _mm512_set1_epi32(x);
}
