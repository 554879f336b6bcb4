/* amx_soft.h - the tile instructions that kern_amx_q.c uses, in C, so that what is around them is
 * checked on CPUs without tiles. Included in front of that file: see the Makefile. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct { uint8_t palette, start, pad[14]; uint16_t colsb[16]; uint8_t rows[16]; } soft_config;
static _Thread_local soft_config soft;
static _Thread_local uint8_t soft_tile[8][16][64];

static inline void soft_loadd(int t, const void *p, size_t stride)
{
    for (int r = 0; r < soft.rows[t]; r++)
        memcpy(soft_tile[t][r], (const char *)p + (size_t)r * stride, soft.colsb[t]);
}

static inline void soft_stored(int t, void *p, size_t stride)
{
    for (int r = 0; r < soft.rows[t]; r++)
        memcpy((char *)p + (size_t)r * stride, soft_tile[t][r], soft.colsb[t]);
}

/* TDPBSSD: dwords of t += products of four signed bytes of rows of a and columns of b. */
static inline void soft_dpbssd(int t, int a, int b)
{
    for (int m = 0; m < soft.rows[t]; m++)
        for (int n = 0; n < soft.colsb[t] / 4; n++) {
            int32_t sum;
            memcpy(&sum, soft_tile[t][m] + 4 * n, 4);
            for (int k = 0; k < soft.colsb[a]; k++)
                sum += (int8_t)soft_tile[a][m][k] * (int8_t)soft_tile[b][k / 4][4 * n + k % 4];
            memcpy(soft_tile[t][m] + 4 * n, &sum, 4);
        }
}

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbssd
#define _tile_loadconfig(p) memcpy(&soft, p, sizeof soft)
#define _tile_release() memset(&soft, 0, sizeof soft)
#define _tile_loadd(t, p, stride) soft_loadd(t, p, stride)
#define _tile_stored(t, p, stride) soft_stored(t, p, stride)
#define _tile_dpbssd(t, a, b) soft_dpbssd(t, a, b)
#define kern_init_amx_q kern_init_amx_soft_q
#endif
