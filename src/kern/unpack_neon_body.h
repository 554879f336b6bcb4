/* unpack_neon_body.h - the lattice types of unpack_iq_body.h for 128 bits. A row's points are put
 * together as the weights lie, and given their signs; rows become lanes at the end, where the
 * includer wants them so. Bytes are the weights' own values. */
#include "kern/unroll.h"

/* v of unsigned magnitudes: bit k of lane r's word is the sign of weight k of row r. */
TAKE_INLINE void signed_rows(vi v[8], vi signs)
{
    const vi bit = { 0x08040201, 0x80402010, 0x08040201, 0x80402010 };
    const vi byte = { 0, 0, 0x01010101, 0x01010101 };
    UNROLL(8)
    for (int i = 0; i < 8; i++) {
        uint8x16_t at = V_U8(byte) + vdupq_n_u8((uint8_t)(4 * (i % 4) + 2 * (i / 4)));
        uint8x16_t minus = vtstq_u8(vqtbl1q_u8(V_U8(signs), at), V_U8(bit));
        v[i] = vreinterpretq_u32_u8((V_U8(v[i]) ^ minus) - minus);
    }
#ifndef ROWS_APART
    turn_dwords(v, v), turn_dwords(v + 4, v + 4);
#endif
}

TAKE_INLINE vi points8(uint64_t a, uint64_t b)
{
    return vreinterpretq_u32_u64(vcombine_u64(vcreate_u64(a), vcreate_u64(b)));
}

TAKE_INLINE vi points4(uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
    return (vi){ a, b, c, d };
}

TAKE_INLINE void take_iq2_xxs(const uint8_t *p, size_t s, int j, vi *t, vi *v, vf *w, vf *m)
{
    (void)m;
    const uint64_t *g = iq2_xxs_grid;
    if (j == 0) {
        transpose16(p, s, t);
        t[4] = v_bits(half_lo(t[0]));
    }
    if (j % 2 == 0) transpose16(p + 2 + 8*j, s, t);
    vi word = t[j % 2 * 2 + 1];
    w[j] = odd_scale(v_float(t[4]), 0.125f, word, 7);
    for (int r = 0; r < LANES; r++) {
        const uint8_t *q = p + (size_t)r * s + 2 + 8*j;
        v[r] = points8(g[q[0]], g[q[1]]), v[4 + r] = points8(g[q[2]], g[q[3]]);
    }
    signed_rows(v, signs_of_7(word));
}

TAKE_INLINE void take_iq2_xs(const uint8_t *p, size_t s, int j, vi *t, vi *v, vf *w, vf *m)
{
    (void)m;
    const uint64_t *g = iq2_xs_grid;
    if (j == 0) {
        vi h[4];
        transpose16(p, s, t);
        transpose16(p + 58, s, h);                   /* its last eight bytes: scales */
        scales_iq2(half_lo(t[0]), h + 2, w);
    }
    if (j % 2 == 0) transpose16(p + 2 + 8*j, s, t);
    for (int r = 0; r < LANES; r++) {
        const uint8_t *q = p + (size_t)r * s + 2 + 8*j;
        v[r] = points8(g[u16_at(q) & 511], g[u16_at(q + 2) & 511]);
        v[4 + r] = points8(g[u16_at(q + 4) & 511], g[u16_at(q + 6) & 511]);
    }
    signed_rows(v, signs_of_7(sevens(t[j % 2 * 2], t[j % 2 * 2 + 1])));
}

TAKE_INLINE void take_iq2_s(const uint8_t *p, size_t s, int j, vi *t, vi *v, vf *w, vf *m)
{
    (void)m;
    const uint64_t *g = iq2_s_grid;
    if (j == 0) {
        vi h[4];
        transpose16(p, s, t);
        transpose16(p + 66, s, h);                   /* its last eight bytes: scales */
        scales_iq2(half_lo(t[0]), h + 2, w);
    }
    if (j % 4 == 0) transpose16(p + 34 + 4*j, s, t);
    for (int r = 0; r < LANES; r++) {
        const uint8_t *b = p + (size_t)r * s, *q = b + 2 + 4*j;
        unsigned top = b[66 + j];
        v[r] = points8(g[q[0] | (top << 8 & 0x300)], g[q[1] | (top << 6 & 0x300)]);
        v[4 + r] = points8(g[q[2] | (top << 4 & 0x300)], g[q[3] | (top << 2 & 0x300)]);
    }
    signed_rows(v, t[j % 4]);
}

TAKE_INLINE void take_iq3_xxs(const uint8_t *p, size_t s, int j, vi *t, vi *v, vf *w, vf *m)
{
    (void)m;
    const uint32_t *g = iq3_xxs_grid;
    if (j == 0) {
        transpose16(p, s, t);
        t[8] = v_bits(half_lo(t[0]));
        transpose16(p + 66, s, t);
        transpose16(p + 82, s, t + 4);
    }
    w[j] = odd_scale(v_float(t[8]), 0.25f, t[j], 7);
    for (int r = 0; r < LANES; r++) {
        const uint8_t *q = p + (size_t)r * s + 2 + 8*j;
        v[r] = points4(g[q[0]], g[q[1]], g[q[2]], g[q[3]]);
        v[4 + r] = points4(g[q[4]], g[q[5]], g[q[6]], g[q[7]]);
    }
    signed_rows(v, signs_of_7(t[j]));
}

TAKE_INLINE void take_iq3_s(const uint8_t *p, size_t s, int j, vi *t, vi *v, vf *w, vf *m)
{
    (void)m;
    const uint32_t *g = iq3_s_grid;
    if (j == 0) {
        vi h[4];
        transpose16(p, s, t);
        transpose16(p + 94, s, h);                   /* its last four bytes: scales */
        for (int n = 0; n < 8; n++) w[n] = odd_scale(half_lo(t[0]), 1, h[3], n);
        transpose16(p + 74, s, t);
        transpose16(p + 90, s, t + 4);
    }
    for (int r = 0; r < LANES; r++) {
        const uint8_t *b = p + (size_t)r * s, *q = b + 2 + 8*j;
        unsigned top = (unsigned)b[66 + j] << 1;     /* bit 8 of point i is bit 8 of top << 7 - i */
#define POINT(i) g[q[i] | (top << (7 - (i)) & 0x100)]
        v[r] = points4(POINT(0), POINT(1), POINT(2), POINT(3));
        v[4 + r] = points4(POINT(4), POINT(5), POINT(6), POINT(7));
#undef POINT
    }
    signed_rows(v, t[j]);
}
