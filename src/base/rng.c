/* rng.c - see rng.h. */
#include "base/rng.h"
#include <math.h>
#include <string.h>

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

/* Normals come in batches of LANES blocks, step by step over all lanes, so that compilers use
 * vectors. Only sums, products, roots and integer steps appear, each rounded as written: the
 * values are the same with every compiler and instruction set. */
enum { LANES = 16 };

static void philox_lanes(uint32_t r[4][LANES], uint64_t key, uint64_t hi, uint64_t lo)
{
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int i = 0; i < LANES; i++) {
        r[0][i] = (uint32_t)(lo + (uint64_t)i), r[1][i] = (uint32_t)((lo + (uint64_t)i) >> 32);
        r[2][i] = (uint32_t)hi, r[3][i] = (uint32_t)(hi >> 32);
    }
    for (int n = 0; n < 10; n++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u)
        for (int i = 0; i < LANES; i++) {
            uint64_t p0 = (uint64_t)0xD2511F53u * r[0][i], p1 = (uint64_t)0xCD9E8D57u * r[2][i];
            uint32_t a = (uint32_t)(p1 >> 32) ^ r[1][i] ^ k0;
            uint32_t b = (uint32_t)(p0 >> 32) ^ r[3][i] ^ k1;
            r[1][i] = (uint32_t)p1, r[3][i] = (uint32_t)p0, r[0][i] = a, r[2][i] = b;
        }
}

/* Box-Muller: two words give two normals. ln and the first octant's sine and cosine are
 * polynomials (Cephes' logf, sinf, cosf; error below 3e-7), the quarter turn is the angle's
 * top two bits. */
static void box_muller(const uint32_t *u, const uint32_t *v, float *c, float *s)
{
    for (int i = 0; i < LANES; i++) {
        union { float f; uint32_t u; } x, scale;
        x.f = ((float)(int32_t)(u[i] >> 8) + 0.5f) * 0x1p-24f;            // (0, 1]
        int32_t e = (int32_t)(x.u - 0x3f3504f3u) >> 23;                   // x = m 2^e,
        scale.u = (uint32_t)(127 - e) << 23;
        float m = x.f * scale.f - 1, z = m * m;                           // m in 0.707 .. 1.414
        float p = 7.0376836292e-2f;
        p = p * m - 1.1514610310e-1f;
        p = p * m + 1.1676998740e-1f;
        p = p * m - 1.2420140846e-1f;
        p = p * m + 1.4249322787e-1f;
        p = p * m - 1.6668057665e-1f;
        p = p * m + 2.0000714765e-1f;
        p = p * m - 2.4999993993e-1f;
        p = p * m + 3.3333331174e-1f;
        float ln = m + (z * (p * m - 0.5f)) + (float)e * 0.693147182f;
        c[i] = -2 * ln;
    }
    for (int i = 0; i < LANES; i++) c[i] = sqrtf(c[i]);
    for (int i = 0; i < LANES; i++) {
        union { float f; uint32_t u; } si, co;
        uint32_t quarter = (v[i] + 0x20000000u) >> 30;
        float t = (float)(int32_t)(v[i] - (quarter << 30)) * (0x1p-30f * 1.57079633f);
        float z = t * t;                                                  // t in -pi/4 .. pi/4
        float a = ((-1.9515295891e-4f * z + 8.3321608736e-3f) * z - 1.6666654611e-1f) * z * t + t;
        float b = ((2.443315711809948e-5f * z - 1.388731625493765e-3f) * z +
                   4.166664568298827e-2f) * z * z - 0.5f * z + 1;
        uint32_t odd = 0 - (quarter & 1);
        si.f = a, co.f = b;
        uint32_t swap = (si.u ^ co.u) & odd;
        si.u ^= swap, co.u ^= swap;
        si.u ^= (quarter & 2) << 30;
        co.u ^= ((quarter + 1) & 2) << 30;
        s[i] = c[i] * si.f, c[i] = c[i] * co.f;
    }
}

void rng_normal(float *y, int64_t n, uint64_t seed, uint64_t stream, uint64_t at)
{
    uint32_t r[4][LANES];
    float z[4][LANES], flat[4 * LANES];
    int64_t done = 0;
    while (done < n) {
        uint64_t pos = at + (uint64_t)done, skip = pos % (4 * LANES);
        philox_lanes(r, seed, stream, (pos - skip) / 4);
        box_muller(r[0], r[1], z[0], z[1]);
        box_muller(r[2], r[3], z[2], z[3]);
        for (int i = 0; i < LANES; i++)
            for (int j = 0; j < 4; j++) flat[4 * i + j] = z[j][i];
        int64_t k = 4 * LANES - (int64_t)skip;
        if (k > n - done) k = n - done;
        memcpy(y + done, flat + skip, (size_t)k * sizeof *y);
        done += k;
    }
}
