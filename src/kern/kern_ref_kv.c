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

/* Each value is its integer times its scale: exact in f32. */
static void kv_q8(float *k, float *v, const void *head, int hs)
{
    const char *pk = head, *pv = pk + kv_tile_bytes(8, hs);
    const int8_t *qk = (const int8_t *)(pk + kv_tile_scales(hs));
    const int8_t *qv = (const int8_t *)(pv + kv_tile_scales(hs));
    int B = hs / QBLOCK;
    for (int d = 0; d < hs; d++)
        for (int j = 0; j < ATTN_TILE; j++) {
            k[d * ATTN_TILE + j] = (float)qk[d * ATTN_TILE + j] *
                                   scale(pk, (size_t)(d / QBLOCK * ATTN_TILE + j));
            v[j * hs + d] = (float)qv[j * hs + d] * scale(pv, (size_t)(j * B + d / QBLOCK));
        }
}

static void kv_q4(float *k, float *v, const void *head, int hs)
{
    const char *pk = head, *pv = pk + kv_tile_bytes(4, hs);
    const uint8_t *qk = (const uint8_t *)(pk + kv_tile_scales(hs));
    const uint8_t *qv = (const uint8_t *)(pv + kv_tile_scales(hs));
    int B = hs / QBLOCK;
    for (int d = 0; d < hs; d++) {
        int b = d / QBLOCK, row = b * 16 + d % 16, shift = d % QBLOCK / 16 * 4;
        for (int j = 0; j < ATTN_TILE; j++) {
            int uk = qk[row * ATTN_TILE + j] >> shift & 15, uv = qv[j * B * 16 + row] >> shift & 15;
            k[d * ATTN_TILE + j] = (float)(uk - 8) * scale(pk, (size_t)(b * ATTN_TILE + j));
            v[j * hs + d] = (float)(uv - 8) * scale(pv, (size_t)(j * B + b));
        }
    }
}

void kern_init_ref_kv(kern *k);
void kern_init_ref_kv(kern *k)
{
    k->hadamard = hadamard;
    k->quant_q4 = quant_q4;
    k->kv_q8 = kv_q8;
    k->kv_q4 = kv_q4;
}
