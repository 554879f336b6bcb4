/* kern_ref_kv.c - the quantised cache as docs/numerics.md writes it, one element at a time. */
#include <math.h>
#include <string.h>
#include "base/half.h"
#include "kern/kv_tile.h"

/* The value of largest magnitude makes -8; the rest follow, cut off after adding 8.5. As integers
 * magnitudes order the same way, with NaN above infinity, so a NaN makes d NaN. */
static void quant_q4(uint8_t *q, float *d, const float *x, int K)
{
    for (int b = 0; b < K / QBLOCK; b++, x += QBLOCK, q += QBLOCK / 2) {
        uint32_t top = f32_bits(x[0]);
        for (int i = 1; i < QBLOCK; i++) {
            uint32_t u = f32_bits(x[i]);
            if ((u & 0x7fffffff) > (top & 0x7fffffff)) top = u;      // the first of equals stays
        }
        d[b] = f32_from_bits(top) / -8;
        float id = d[b] == 0 ? 0 : 1 / d[b];
        for (int i = 0; i < QBLOCK; i++) {
            float v = x[i] * id;
            v += 8.5f;
            uint8_t u = v > 0 ? v >= 15 ? 15 : (uint8_t)v : 0;       // NaN: 0
            q[i % 16] = i < 16 ? u : (uint8_t)(q[i % 16] | u << 4);
        }
    }
}

/* Sums and differences of pairs that are 1, 2, 4 … apart; then the length is as it was. It is its
 * own inverse. */
static void hadamard(float *x, int n)
{
    for (int s = 1; s < n; s *= 2)
        for (int i = 0; i < n; i++)
            if (!(i & s)) {
                float a = x[i], b = x[i + s];
                x[i] = a + b, x[i + s] = a - b;
            }
    float r = 1 / sqrtf((float)n);
    for (int i = 0; i < n; i++) x[i] *= r;
}

static float scale(const char *at, size_t i)
{
    uint16_t u;
    memcpy(&u, at + i * sizeof u, sizeof u);
    return f16_to_f32(u);
}

/* Value d of a head at position j: the integer of its key. */
static int key8(const char *pk, int hs, int d, int j)
{
    return ((const int8_t *)pk + kv_tile_scales(hs))[d * ATTN_TILE + j];
}

static int key4(const char *pk, int hs, int d, int j)
{
    const uint8_t *q = (const uint8_t *)pk + kv_tile_scales(hs);
    return (q[(d / QBLOCK * 16 + d % 16) * ATTN_TILE + j] >> d % QBLOCK / 16 * 4 & 15) - 8;
}

/* As a product of the type with rows of int8: whole sums of a block, then one float step. */
static void scores(float *s, const attn_rows8 *q, int R, int hs, const char *pk,
                   int (*key)(const char *, int, int, int))
{
    int B = hs / QBLOCK;
    for (int r = 0; r < R; r++)
        for (int j = 0; j < ATTN_TILE; j++) {
            float acc = 0;
            for (int b = 0; b < B; b++) {
                int S = 0;
                for (int d = b * QBLOCK; d < (b + 1) * QBLOCK; d++)
                    S += key(pk, hs, d, j) * q->q[r * hs + d];
                acc = fmaf((float)S, scale(pk, (size_t)(b * ATTN_TILE + j)) * q->d[r * B + b], acc);
            }
            s[r * ATTN_TILE + j] = acc;
        }
}

static void scores_q8(float *s, const attn_rows8 *q, int R, int hs, const void *head, float *scratch)
{
    (void)scratch;
    scores(s, q, R, hs, head, key8);
}

static void scores_q4(float *s, const attn_rows8 *q, int R, int hs, const void *head, float *scratch)
{
    (void)scratch;
    scores(s, q, R, hs, head, key4);
}

/* Each value is its integer times its scale: exact in f32. */
static void v_q8(float *v, const void *head, int hs)
{
    const char *pv = (const char *)head + kv_tile_bytes(8, hs);
    const int8_t *qv = (const int8_t *)(pv + kv_tile_scales(hs));
    for (int i = 0; i < ATTN_TILE * hs; i++) v[i] = (float)qv[i] * scale(pv, (size_t)(i / QBLOCK));
}

static void v_q4(float *v, const void *head, int hs)
{
    const char *pv = (const char *)head + kv_tile_bytes(4, hs);
    const uint8_t *qv = (const uint8_t *)(pv + kv_tile_scales(hs));
    for (int i = 0; i < ATTN_TILE * hs; i++) {
        int u = qv[i / QBLOCK * 16 + i % 16] >> i % QBLOCK / 16 * 4 & 15;
        v[i] = (float)(u - 8) * scale(pv, (size_t)(i / QBLOCK));
    }
}

void kern_init_ref_kv(kern *k);
void kern_init_ref_kv(kern *k)
{
    k->hadamard = hadamard;
    k->quant_q4 = quant_q4;
    k->scores_q8 = scores_q8;
    k->scores_q4 = scores_q4;
    k->v_q8 = v_q8;
    k->v_q4 = v_q4;
}
