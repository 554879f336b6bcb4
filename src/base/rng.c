/* rng.c - see rng.h. */
#include "base/rng.h"
#include <math.h>

void rng_philox(uint32_t out[4], uint64_t key, uint64_t hi, uint64_t lo)
{
    uint32_t c0 = (uint32_t)lo, c1 = (uint32_t)(lo >> 32), c2 = (uint32_t)hi,
             c3 = (uint32_t)(hi >> 32), k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int r = 0; r < 10; r++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1, c3 = (uint32_t)p0, c0 = n0, c2 = n2;
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

double rng_uniform(uint64_t seed, uint64_t stream, uint64_t pos)
{
    uint32_t r[4];
    rng_philox(r, seed, stream, pos);
    return (double)(((uint64_t)r[0] << 32 | r[1]) >> 11) * 0x1p-53;
}

/* Box-Muller on each block of four words: two uniforms give two normals, twice. */
void rng_normal(float *y, int64_t n, uint64_t seed, uint64_t stream, uint64_t at)
{
    uint32_t r[4];
    float z[4];
    uint64_t have = UINT64_MAX;
    for (int64_t i = 0; i < n; i++) {
        uint64_t p = at + (uint64_t)i;
        if (p / 4 != have) {
            rng_philox(r, seed, stream, have = p / 4);
            for (int j = 0; j < 4; j += 2) {
                float u = ((float)(r[j] >> 8) + 0.5f) * 0x1p-24f;
                float a = 6.28318530717958648f * ((float)(r[j + 1] >> 8) * 0x1p-24f);
                float m = sqrtf(-2 * logf(u));
                z[j] = m * cosf(a), z[j + 1] = m * sinf(a);
            }
        }
        y[i] = z[p % 4];
    }
}
