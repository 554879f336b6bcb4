/* quant_iq_body.h - quantisers of the types whose weights are looked up: IQ4 (sixteen values),
 * MXFP4, and the lattices of IQ2 and IQ3. Included after quant_body.h.
 *
 * A point of a lattice is found by looking at all of them: the error of a point is the sum of the
 * errors of its two halves, and there are few halves, so their errors are tabled once (for
 * sixteen groups side by side) and a point costs two loads and an addition. */

static const float ends_iq4[] = { -104, -110, -116, -122, -127, -132, -138, 96, 104, 112, 120 };

_Static_assert(sizeof(block_iq4_nl) == sizeof(block_q4_0), "IQ4_NL has Q4_0's layout");
static void QUANT(iq4_nl)(void *dst, const float *x, const float *w, int64_t rows, int64_t K)
{
    scale_blocks(dst, x, w, rows, K, 0, ends_iq4, COUNT(ends_iq4));
}

static void QUANT(iq4_xs)(void *dst, const float *x, const float *w, int64_t rows, int64_t K)
{
    uint8_t *p = dst;
    int64_t n = rows * K / 32;
    for (int64_t at = 0; at < n; at += LANES) {
        group_set s;
        uint8_t q[32 * LANES], one[32];
        float d[LANES], t[LANES];
        int live = set_load(&s, x, w, 32, at, n, K);
        signed_super(&s, 32, 0, 32, ends_iq4, COUNT(ends_iq4), d, t, q);
        for (int o = 0; o < live; o += 8, p += sizeof(block_iq4_xs)) {
            block_iq4_xs b = { 0 };
            put_half(&b.d, d[o]);
            for (int g = 0; g < 8; g++) {
                int u = (int)t[o + g] + 32;
                b.scales_l[g / 2] |= (uint8_t)((u & 15) << g % 2 * 4);
                b.scales_h |= (uint16_t)(u >> 4 << 2 * g);
                lane_bytes(q, 32, o + g, one);
                block_put_4(b.qs + 16 * g, one);
            }
            memcpy(p, &b, sizeof b);
        }
    }
}

/* ---- MXFP4 ---- */

static const float mx_values[] = { 0, 1, 2, 3, 4, 6, 8, 12 };

QUANT_INLINE lf mx_code(lf a, bool place)        /* of a magnitude: the value, or its place */
{
    lf q = l_set(0);
    for (int i = 1; i < 8; i++)
        q = l_sel(l_lt(l_set((mx_values[i - 1] + mx_values[i]) / 2), a),
                  l_set(place ? (float)i : mx_values[i]), q);
    return q;
}

QUANT_PASS lf mx_error(const group_set *s, lf d)
{
    lf inv = inverse(d), e = l_set(0);
    for (int j = 0; j < 32; j++) {
        lf a = l_abs(l_load(s->x + j * LANES));
        lf diff = l_fnma(d, mx_code(l_mul(a, inv), false), a);
        e = l_fma(l_mul(l_load(s->w + j * LANES), diff), diff, e);
    }
    return e;
}

static void QUANT(mxfp4)(void *dst, const float *x, const float *w, int64_t rows, int64_t K)
{
    uint8_t *p = dst;
    int64_t n = rows * K / 32;
    for (int64_t at = 0; at < n; at += LANES) {
        group_set s;
        uint8_t q[32 * LANES], one[32];
        float ext[LANES], err[LANES], least[LANES], d[LANES] = { 0 }, try[LANES];
        int e0[LANES], e[LANES] = { 0 }, live = set_load(&s, x, w, 32, at, n, K);
        l_store(ext, l_abs(extreme(&s, 32)));
        for (int i = 0; i < LANES; i++) {
            e0[i] = (int)(f32_bits(ext[i]) >> 23) - 2;      /* 6 is the largest value: 1.5 * 4 */
            least[i] = INFINITY;
        }
        for (int o = -1; o <= 1; o++) {
            for (int i = 0; i < LANES; i++) {
                int c = e0[i] + o < 0 ? 0 : e0[i] + o;
                try[i] = f32_from_bits(block_mxfp4_scale((uint8_t)c));
            }
            l_store(err, mx_error(&s, l_load(try)));
            for (int i = 0; i < LANES; i++)
                if (err[i] < least[i]) {
                    least[i] = err[i], d[i] = try[i];
                    e[i] = ext[i] == 0 || e0[i] + o < 0 ? 0 : e0[i] + o;
                }
        }
        lf inv = inverse(l_load(d));
        for (int j = 0; j < 32; j++) {
            lf v = l_load(s.x + j * LANES), c = mx_code(l_mul(l_abs(v), inv), true);
            lm minus = l_lt(l_mul(v, c), l_set(0));
            l_bytes(q + j * LANES, l_sel(minus, l_add(c, l_set(8)), c));
        }
        for (int i = 0; i < live; i++, p += sizeof(block_mxfp4)) {
            block_mxfp4 b = { .e = (uint8_t)e[i] };
            lane_bytes(q, 32, i, one);
            block_put_4(b.qs, one);
            memcpy(p, &b, sizeof b);
        }
    }
}

/* ---- lattices ---- */

typedef struct {
    int dims, points, bits;          /* 8 and 2, or 4 and 3 bits a value in a half's code */
    const uint8_t *half[2];          /* a point's halves (iq_grid.h) */
    const float *mag;                /* the magnitudes; 3 of them, or 8 */
    const uint64_t *grid8;           /* the points as bytes */
    const uint32_t *grid4;
    int per;                         /* weights that share a scale */
    float unit;                      /* scale = unit * d * (2 sc + 1), sc 0..15 */
    bool even;                       /* eight signs in seven bits */
} lattice;

static const float mags_2[] = { 8, 25, 43 }, mags_3xxs[] = { 4, 12, 20, 28, 36, 44, 52, 62 },
                   mags_3s[] = { 1, 3, 5, 7, 9, 11, 13, 15 };
static const lattice lat_2xxs = { 8, 256, 2, { iq2_xxs_code[0], iq2_xxs_code[1] }, mags_2,
                                  iq2_xxs_grid, NULL, 32, 0.125f, true };
static const lattice lat_2xs = { 8, 512, 2, { iq2_xs_code[0], iq2_xs_code[1] }, mags_2,
                                 iq2_xs_grid, NULL, 16, 0.125f, true };
static const lattice lat_2s = { 8, 1024, 2, { iq2_s_code[0], iq2_s_code[1] }, mags_2,
                                iq2_s_grid, NULL, 16, 0.125f, false };
static const lattice lat_3xxs = { 4, 256, 3, { iq3_xxs_code[0], iq3_xxs_code[1] }, mags_3xxs,
                                  NULL, iq3_xxs_grid, 32, 0.25f, true };
static const lattice lat_3s = { 4, 512, 3, { iq3_s_code[0], iq3_s_code[1] }, mags_3s,
                                NULL, iq3_s_grid, 32, 1, false };

/* x becomes |x|, but for one of eight where an odd number of signs must become even: the one
 * that matters least stays what it is with the wrong sign. signs[k][i]: of eight weights k. */
QUANT_PASS void take_signs(group_set *s, const lattice *L, uint8_t *signs)
{
    for (int k = 0; k < L->per / 8; k++) {
        float *x8 = s->x + k * 8 * LANES;
        const float *w8 = s->w + k * 8 * LANES;
        lf count = l_set(0), least = l_set(INFINITY), at = l_set(0), bits = l_set(0);
        for (int j = 0; j < 8; j++) {
            lf x = l_load(x8 + j * LANES), a = l_abs(x);
            lf cost = l_mul(l_mul(l_load(w8 + j * LANES), a), a);
            lm less = l_lt(cost, least), minus = l_lt(x, l_set(0));
            count = l_add(count, l_sel(minus, l_set(1), l_set(0)));
            least = l_sel(less, cost, least);
            at = l_sel(less, l_set((float)j), at);
        }
        lf odd = l_fnma(l_floor(l_mul(count, l_set(0.5f))), l_set(2), count);
        at = L->even ? l_sel(l_lt(l_set(0.5f), odd), at, l_set(-1)) : l_set(-1);
        for (int j = 0; j < 8; j++) {
            lf x = l_load(x8 + j * LANES), a = l_abs(x);
            lm turn = l_lt(l_abs(l_sub(at, l_set((float)j))), l_set(0.5f));
            lf minus = l_sel(l_lt(x, l_set(0)), l_set(1), l_set(0));
            minus = l_sel(turn, l_sub(l_set(1), minus), minus);
            bits = l_fma(minus, l_set((float)(1 << j)), bits);
            l_store(x8 + j * LANES, l_sel(turn, l_sub(l_set(0), a), a));
        }
        l_bytes(signs + k * LANES, bits);
    }
}

/* Errors of every half of dims/2 values, at [code * LANES]. */
QUANT_INLINE void half_errors(const lattice *L, const float *x, const float *w, lf d, float *tab)
{
    lf one[4][8];
    int n = L->bits == 2 ? 3 : 8;
    for (int i = 0; i < L->dims / 2; i++)
        for (int m = 0; m < n; m++) {
            lf diff = l_fnma(d, l_set(L->mag[m]), l_load(x + i * LANES));
            one[i][m] = l_mul(l_mul(l_load(w + i * LANES), diff), diff);
        }
    for (int a = 0; a < n; a++)
        for (int b = 0; b < n; b++) {
            lf ab = l_add(one[0][a], one[1][b]);
            if (L->bits == 3) {
                l_store(tab + (a | b << 3) * LANES, ab);
                continue;
            }
            for (int c = 0; c < n; c++)
                for (int e = 0; e < n; e++)
                    l_store(tab + (a | b << 2 | c << 4 | e << 6) * LANES,
                            l_add(ab, l_add(one[2][c], one[3][e])));
        }
}

/* The best points of all groups at scales d; point[v][i]: of the v-th dims weights of group i.
 * Returns the error. */
QUANT_PASS lf lattice_find(const group_set *s, const lattice *L, lf d, float *point)
{
    _Alignas(64) float tab[2][171 * LANES];
    lf err = l_set(0);
    for (int v = 0; v < L->per / L->dims; v++) {
        const float *x = s->x + v * L->dims * LANES, *w = s->w + v * L->dims * LANES;
        int h = L->dims / 2 * LANES;
        half_errors(L, x, w, d, tab[0]);
        half_errors(L, x + h, w + h, d, tab[1]);
        lf least = l_set(INFINITY), at = l_set(0), p = l_set(0), one = l_set(1);
        for (int i = 0; i < L->points; i++) {
            lf e = l_add(l_load(tab[0] + L->half[0][i] * LANES),
                         l_load(tab[1] + L->half[1][i] * LANES));
            lm less = l_lt(e, least);
            least = l_min(e, least);
            at = l_sel(less, p, at);
            p = l_add(p, one);
        }
        l_store(point + v * LANES, at);
        err = l_add(err, least);
    }
    return err;
}

/* Sums of w x m and w m m at these points. */
QUANT_PASS void lattice_sums(const group_set *s, const lattice *L, const float *point, lf *xq,
                             lf *qq)
{
    _Alignas(64) float m[8 * LANES];
    lf a = l_set(0), b = l_set(0);
    for (int v = 0; v < L->per / L->dims; v++) {
        for (int i = 0; i < LANES; i++) {
            int p = (int)point[v * LANES + i];
            uint64_t g = L->grid8 ? L->grid8[p] : L->grid4[p];
            for (int k = 0; k < L->dims; k++) m[k * LANES + i] = (float)(g >> 8 * k & 255);
        }
        for (int k = 0; k < L->dims; k++) {
            size_t at = (size_t)(v * L->dims + k) * LANES;
            lf q = l_load(m + k * LANES), wq = l_mul(l_load(s->w + at), q);
            a = l_fma(wq, l_load(s->x + at), a);
            b = l_fma(wq, q, b);
        }
    }
    *xq = a, *qq = b;
}

/* The scale with which a super-block's odd multiples of it round its groups' scales best. */
QUANT_PASS float odd_scale(const float *s, const float *a, int groups)
{
    float top = 0;
    for (int g = 0; g < groups; g++)
        if (s[g] > top) top = s[g];
    if (top == 0) return 0;
    float end[LANES], err[LANES], step[LANES];
    for (int i = 0; i < LANES; i++) end[i] = 33 - 0.5f * (float)i;
    lf d = l_div(l_set(top), l_load(end)), half = l_mul(inverse(d), l_set(0.5f)), e = l_set(0);
    for (int g = 0; g < groups; g++) {
        lf t = clamp(l_round(l_sub(l_mul(l_set(s[g]), half), l_set(0.5f))), 0, 15);
        lf diff = l_fnma(d, l_fma(t, l_set(2), l_set(1)), l_set(s[g]));
        e = l_fma(l_mul(l_set(a[g]), diff), diff, e);
    }
    l_store(err, e);
    l_store(step, d);
    int best = 0;
    for (int i = 1; i < LANES; i++)
        if (err[i] < err[best]) best = i;
    return step[best];
}

/* What a set of a lattice type becomes; d is the block's, before it is a half exactly. */
typedef struct {
    float d[LANES], point[8 * LANES];
    uint8_t signs[4 * LANES], sc[LANES];
} lattice_set;

QUANT_INLINE lf odd_of(lf t) { return l_fma(t, l_set(2), l_set(1)); }

/* sc near t0 with the least error at block scales d (times unit). */
QUANT_PASS lf lattice_near(const group_set *s, const lattice *L, lf d, lf t0, float *point,
                           lf *err)
{
    lf best = t0, e = lattice_find(s, L, l_mul(d, odd_of(t0)), point);
    for (int o = -1; o <= 1; o += 2) {
        float other[8 * LANES];
        lf t = clamp(l_add(t0, l_set((float)o)), 0, 15);
        lf v = lattice_find(s, L, l_mul(d, odd_of(t)), other);
        lm less = l_lt(v, e);
        e = l_sel(less, v, e), best = l_sel(less, t, best);
        for (int k = 0; k < L->per / L->dims; k++)
            l_store(point + k * LANES, l_sel(less, l_load(other + k * LANES),
                                             l_load(point + k * LANES)));
    }
    *err = e;
    return best;
}

static const float ends_lattice[] = { 0.84f, 1.0f, 1.17f, 1.36f };

QUANT_PASS void lattice_search(group_set *s, const lattice *L, lattice_set *o)
{
    int groups = 256 / L->per, vs = L->per / L->dims;
    float top = L->mag[L->bits == 2 ? 2 : 7], sc[LANES], a[LANES], other[8 * LANES];
    take_signs(s, L, o->signs);
    lf most = l_abs(extreme(s, L->per)), d = l_set(0), err = l_set(INFINITY), xq, qq;
    for (int c = 0; c < COUNT(ends_lattice); c++) {
        lf t = l_mul(most, l_set(1 / (top * ends_lattice[c])));
        lf e = lattice_find(s, L, t, other);
        lm less = l_lt(e, err);
        err = l_sel(less, e, err), d = l_sel(less, t, d);
        for (int k = 0; k < vs; k++)
            l_store(o->point + k * LANES, l_sel(less, l_load(other + k * LANES),
                                                l_load(o->point + k * LANES)));
    }
    lattice_sums(s, L, o->point, &xq, &qq);
    d = l_max(l_mul(xq, inverse(qq)), l_set(0));
    l_store(sc, d);
    l_store(a, qq);
    for (int g = 0; g < LANES; g += groups) {
        float step = odd_scale(sc + g, a + g, groups);
        step = f16_to_f32(f32_to_f16(step / L->unit)) * L->unit;
        for (int i = g; i < g + groups; i++) o->d[i] = step;
    }
    lf D = l_load(o->d);
    lf t = clamp(l_round(l_fma(l_mul(d, inverse(D)), l_set(0.5f), l_set(-0.5f))), 0, 15);
    t = lattice_near(s, L, D, t, o->point, &err);
    lattice_sums(s, L, o->point, &xq, &qq);
    float d2[LANES], keep[LANES];
    for (int g = 0; g < LANES; g += groups) {
        float num = lane_sum(l_mul(odd_of(t), xq), g, groups);
        float den = lane_sum(l_mul(l_mul(odd_of(t), odd_of(t)), qq), g, groups);
        float step = num > 0 ? f16_to_f32(f32_to_f16(num / den / L->unit)) * L->unit : 0;
        for (int i = g; i < g + groups; i++) d2[i] = step;
    }
    lf e2 = lattice_find(s, L, l_mul(l_load(d2), odd_of(t)), other);
    for (int g = 0; g < LANES; g += groups) {
        bool better = lane_sum(e2, g, groups) < lane_sum(err, g, groups);
        for (int i = g; i < g + groups; i++) {
            keep[i] = better ? 1 : 0;
            if (better) o->d[i] = d2[i];
        }
    }
    lm k = l_lt(l_set(0), l_load(keep));
    for (int v = 0; v < vs; v++)
        l_store(o->point + v * LANES, l_sel(k, l_load(other + v * LANES),
                                            l_load(o->point + v * LANES)));
    l_bytes(o->sc, t);
}

/* One super-block from the lanes at `from`. */
typedef void lattice_put(void *p, const lattice *L, const lattice_set *o, int from);

QUANT_PASS void lattice_rows(const lattice *L, lattice_put *put, size_t bytes, void *dst,
                             const float *x, const float *w, int64_t rows, int64_t K)
{
    uint8_t *p = dst;
    int64_t n = rows * K / L->per;
    for (int64_t at = 0; at < n; at += LANES) {
        group_set s;
        lattice_set o;
        int live = set_load(&s, x, w, L->per, at, n, K);
        lattice_search(&s, L, &o);
        for (int i = 0; i < live; i += 256 / L->per, p += bytes) put(p, L, &o, i);
    }
}

static int point_at(const lattice_set *o, int lane, int v) { return (int)o->point[v * LANES + lane]; }

/* Four times seven signs, and the scale. */
static uint32_t sign_word(const lattice_set *o, int lane)
{
    uint32_t u = (uint32_t)o->sc[lane] << 28;
    for (int k = 0; k < 4; k++) u |= (uint32_t)(o->signs[k * LANES + lane] & 127) << 7 * k;
    return u;
}

static void put_word(uint8_t *p, uint32_t u)
{
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(u >> 8 * i);
}

static void put_2xxs(void *p, const lattice *L, const lattice_set *o, int from)
{
    block_iq2_xxs b;
    put_half(&b.d, o->d[from] / L->unit);
    for (int g = 0; g < 8; g++) {
        for (int v = 0; v < 4; v++) b.qs[8 * g + v] = (uint8_t)point_at(o, from + g, v);
        put_word(b.qs + 8 * g + 4, sign_word(o, from + g));
    }
    memcpy(p, &b, sizeof b);
}

static void put_2xs(void *p, const lattice *L, const lattice_set *o, int from)
{
    block_iq2_xs b = { 0 };
    put_half(&b.d, o->d[from] / L->unit);
    for (int g = 0; g < 16; g++) {
        for (int v = 0; v < 2; v++)
            b.qs[2 * g + v] = (uint16_t)(point_at(o, from + g, v) |
                                         (o->signs[v * LANES + from + g] & 127) << 9);
        b.scales[g / 2] |= (uint8_t)(o->sc[from + g] << g % 2 * 4);
    }
    memcpy(p, &b, sizeof b);
}

static void put_2s(void *p, const lattice *L, const lattice_set *o, int from)
{
    block_iq2_s b = { 0 };
    put_half(&b.d, o->d[from] / L->unit);
    for (int g = 0; g < 16; g++) {
        for (int v = 0; v < 2; v++) {
            int i = 2 * g + v, q = point_at(o, from + g, v);
            b.qs[i] = (uint8_t)q;
            b.qh[i / 4] |= (uint8_t)(q >> 8 << i % 4 * 2);
            b.signs[i] = o->signs[v * LANES + from + g];
        }
        b.scales[g / 2] |= (uint8_t)(o->sc[from + g] << g % 2 * 4);
    }
    memcpy(p, &b, sizeof b);
}

static void put_3xxs(void *p, const lattice *L, const lattice_set *o, int from)
{
    block_iq3_xxs b;
    put_half(&b.d, o->d[from] / L->unit);
    for (int g = 0; g < 8; g++) {
        for (int v = 0; v < 8; v++) b.qs[8 * g + v] = (uint8_t)point_at(o, from + g, v);
        put_word(b.sas + 4 * g, sign_word(o, from + g));
    }
    memcpy(p, &b, sizeof b);
}

static void put_3s(void *p, const lattice *L, const lattice_set *o, int from)
{
    block_iq3_s b = { 0 };
    put_half(&b.d, o->d[from] / L->unit);
    for (int g = 0; g < 8; g++) {
        for (int v = 0; v < 8; v++) {
            int q = point_at(o, from + g, v);
            b.qs[8 * g + v] = (uint8_t)q;
            b.qh[g] |= (uint8_t)(q >> 8 << v);
        }
        for (int k = 0; k < 4; k++) b.signs[4 * g + k] = o->signs[k * LANES + from + g];
        b.scales[g / 2] |= (uint8_t)(o->sc[from + g] << g % 2 * 4);
    }
    memcpy(p, &b, sizeof b);
}

#define LATTICE(name, lat, put, block) \
    static void QUANT(name)(void *dst, const float *x, const float *w, int64_t rows, int64_t K) \
    { \
        lattice_rows(&lat, put, sizeof(block), dst, x, w, rows, K); \
    }
LATTICE(iq2_xxs, lat_2xxs, put_2xxs, block_iq2_xxs)
LATTICE(iq2_xs, lat_2xs, put_2xs, block_iq2_xs)
LATTICE(iq2_s, lat_2s, put_2s, block_iq2_s)
LATTICE(iq3_xxs, lat_3xxs, put_3xxs, block_iq3_xxs)
LATTICE(iq3_s, lat_3s, put_3s, block_iq3_s)

static void QUANT(init)(kern *k)
{
    k->quant[DT_Q4_0] = QUANT(q4_0);
    k->quant[DT_Q4_1] = QUANT(q4_1);
    k->quant[DT_Q5_0] = QUANT(q5_0);
    k->quant[DT_Q5_1] = QUANT(q5_1);
    k->quant[DT_Q8_0] = QUANT(q8_0);
    k->quant[DT_Q2_K] = QUANT(q2_k);
    k->quant[DT_Q3_K] = QUANT(q3_k);
    k->quant[DT_Q4_K] = QUANT(q4_k);
    k->quant[DT_Q5_K] = QUANT(q5_k);
    k->quant[DT_Q6_K] = QUANT(q6_k);
    k->quant[DT_IQ4_NL] = QUANT(iq4_nl);
    k->quant[DT_IQ4_XS] = QUANT(iq4_xs);
    k->quant[DT_MXFP4] = QUANT(mxfp4);
    k->quant[DT_IQ2_XXS] = QUANT(iq2_xxs);
    k->quant[DT_IQ2_XS] = QUANT(iq2_xs);
    k->quant[DT_IQ2_S] = QUANT(iq2_s);
    k->quant[DT_IQ3_XXS] = QUANT(iq3_xxs);
    k->quant[DT_IQ3_S] = QUANT(iq3_s);
}
