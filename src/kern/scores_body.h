/* scores_body.h - scores of a quantised cache where float products are as good as those of integers:
 * whole numbers below 2^24 are exact in f32, so the sum of a block is, in any order. The includer
 * has included a vec_*.h; everything here is static. */
#include "base/half.h"
#include "kern/kv_tile.h"
#include "kern/unroll.h"

/* Scales (hs/32,64) of a tile's keys. */
static void key_scales(float *d, const char *head, int hs)
{
    const uint16_t *h = (const uint16_t *)head;
    for (int i = 0; i < hs / QBLOCK * ATTN_TILE; i++) d[i] = f16_to_f32(h[i]);
}

/* s (R,64) of keys k (hs,64), whole numbers, and their scales d. */
static void whole_scores(float *s, const attn_rows8 *rows, int R, int hs, const float *k,
                         const float *d)
{
    int B = hs / QBLOCK;
    const int8_t *q = rows->q;
    for (int r = 0; r < R; r++, s += ATTN_TILE) {
        const float *at = k;
        for (int b = 0; b < B; b++) {
            vf a[4], w = v_set(rows->d[r * B + b]);
            UNROLL(4)
            for (int i = 0; i < 4; i++) a[i] = v_set(0);
            for (int e = 0; e < QBLOCK; e++, at += ATTN_TILE) {
                vf x = v_set(*q++);
                UNROLL(4)
                for (int i = 0; i < 4; i++) a[i] = v_fma(x, v_load(at + 16 * i), a[i]);
            }
            UNROLL(4)
            for (int i = 0; i < 4; i++) {
                vf old = b ? v_load(s + 16 * i) : v_set(0);
                vf wd = v_mul(v_load(d + b * ATTN_TILE + 16 * i), w);
                v_store(s + 16 * i, v_fma(a[i], wd, old));
            }
        }
    }
}

static void scores_q8(float *s, const attn_rows8 *q, int R, int hs, const void *head, float *scratch)
{
    const int8_t *k = (const int8_t *)head + kv_tile_scales(hs);
    float *d = scratch + hs * ATTN_TILE;
    for (int i = 0; i < hs * ATTN_TILE; i++) scratch[i] = k[i];
    key_scales(d, head, hs);
    whole_scores(s, q, R, hs, scratch, d);
}

static void scores_q4(float *s, const attn_rows8 *q, int R, int hs, const void *head, float *scratch)
{
    const uint8_t *k = (const uint8_t *)head + kv_tile_scales(hs);
    float *d = scratch + hs * ATTN_TILE, *to = scratch;
    for (int b = 0; b < hs / QBLOCK; b++, to += QBLOCK * ATTN_TILE, k += 16 * ATTN_TILE)
        for (int i = 0; i < 16 * ATTN_TILE; i++) {
            to[i] = (float)((k[i] & 15) - 8);
            to[16 * ATTN_TILE + i] = (float)((k[i] >> 4) - 8);
        }
    key_scales(d, head, hs);
    whole_scores(s, q, R, hs, scratch, d);
}
