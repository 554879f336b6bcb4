/* kerncheck_q.c - the quantised products at every level this CPU has, bit for bit.
 *
 *     kerncheck_q [NAME...]       check        kerncheck_q --bench [TYPE|LEVEL...]   time
 *
 * docs/numerics.md makes each output a function of its own rows alone, so one run of the
 * textbook level over 64 columns answers for every level and every smaller batch. Weights and
 * inputs end at an unreadable page: reading past them ends the program. Outputs and scratch
 * lie between guard zones. */
#define _GNU_SOURCE             /* MAP_ANONYMOUS */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "base/half.h"
#include "kern/kern.h"
#include "t.h"

void kern_init_ref_q(kern *k);
void kern_init_avx2_q(kern *k);
void kern_init_avx512_q(kern *k);
void kern_init_amx_q(kern *k);
void kern_init_amx_soft_q(kern *k);
void kern_init_neon_q(kern *k);
void kern_init_i8mm_q(kern *k);

static const kern_level q_levels[] = {
    { "ref", 0, kern_init_ref_q },
#if defined(__x86_64__)
    { "avx2", CPU_AVX2, kern_init_avx2_q },
    { "avx512", CPU_AVX2 | CPU_AVX512, kern_init_avx512_q },
    { "amx", CPU_AVX2 | CPU_AVX512 | CPU_AMX, kern_init_amx_q },
    { "amx_soft", CPU_AVX2 | CPU_AVX512, kern_init_amx_soft_q },
#elif defined(__aarch64__)
    { "neon", CPU_NEON, kern_init_neon_q },
    { "i8mm", CPU_NEON | CPU_I8MM, kern_init_i8mm_q },
#endif
};
static const int n_q_levels = sizeof q_levels / sizeof *q_levels;

enum { MAX_N = 64, MAX_R = 67, GUARD = 64 };
enum { SANE, EXTREME, ZERO, ANY_BITS, N_FILLS };

static kern ref, now;
static const kern_level *level;

/* Where a block keeps its f16 fields; -1: it has no such one. */
static const struct { int type, d, m; } halves[] = {
    { DT_Q4_0, 0, -1 }, { DT_Q4_1, 0, 2 }, { DT_Q5_0, 0, -1 }, { DT_Q5_1, 0, 2 },
    { DT_Q8_0, 0, -1 }, { DT_Q2_K, 80, 82 }, { DT_Q3_K, 108, -1 }, { DT_Q4_K, 0, 2 },
    { DT_Q5_K, 0, 2 }, { DT_Q6_K, 208, -1 }, { DT_IQ4_NL, 0, -1 }, { DT_IQ4_XS, 0, -1 },
    { DT_IQ3_S, 0, -1 }, { DT_IQ3_XXS, 0, -1 }, { DT_IQ2_S, 0, -1 }, { DT_IQ2_XS, 0, -1 },
    { DT_IQ2_XXS, 0, -1 }, { DT_MXFP4, -1, -1 },
};
enum { N_QTYPES = sizeof halves / sizeof *halves };

static uint32_t bits(void)
{
    return (uint32_t)((t_rand() + 1) * 32768) << 16 ^ (uint32_t)((t_rand() + 1) * 32768);
}

static void put16(uint8_t *p, uint16_t v) { p[0] = (uint8_t)v, p[1] = (uint8_t)(v >> 8); }

static void q_fill(uint8_t *w, int qt, size_t n_bytes, int fill)
{
    const type_info *t = type_get(halves[qt].type);
    for (size_t i = 0; i < n_bytes; i++)
        w[i] = fill == ZERO ? 0 : fill == EXTREME ? (i / 97 % 3 ? 0xff : 0x80) : (uint8_t)bits();
    if (fill == ANY_BITS) return;
    for (size_t i = 0; i < n_bytes; i += (size_t)t->bytes) {
        if (halves[qt].d >= 0) put16(w + i + halves[qt].d, f32_to_f16(t_rand() * 0.01f));
        else w[i] = (uint8_t)(118 + bits() % 8);         /* MXFP4's power of two */
        if (halves[qt].m >= 0) put16(w + i + halves[qt].m, f32_to_f16(t_rand() * 0.02f));
    }
}

/* n bytes that end where an unreadable page begins. */
typedef struct { char *map; size_t len; void *p; } edge;
static edge edge_get(size_t n)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), len = (n + page - 1) / page * page;
    edge e = { mmap(NULL, len + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
               len + page, NULL };
    if (e.map == MAP_FAILED || mprotect(e.map + len, page, PROT_NONE)) abort();
    e.p = e.map + len - n;
    return e;
}
static void edge_free(edge *e) { munmap(e->map, e->len); }

static bool same(float a, float b) { return f32_bits(a) == f32_bits(b) || (a != a && b != b); }

/* One product of n columns through `now` against want (MAX_N,R). */
static void check_one(int qt, const uint8_t *w, int R, const act *all, int n, const float *want)
{
    int type = halves[qt].type, K = all->K;
    const type_info *t = type_get(type);
    size_t ldy = (size_t)R + 5, n_y = (size_t)n * ldy, n_scratch = now.mul_scratch(type, K);
    act a = *all;
    a.N = n;
    edge q = edge_get((size_t)n * (size_t)K), d = edge_get((size_t)(n * (K / 32)) * 4);
    edge s = edge_get((size_t)(n * (K / 16)) * 2), dk = edge_get((size_t)(n * (K / 256)) * 4);
    memcpy(q.p, all->q, (size_t)n * (size_t)K), a.q = q.p;
    memcpy(d.p, all->d, (size_t)(n * (K / 32)) * 4), a.d = d.p;
    memcpy(s.p, all->s16, (size_t)(n * (K / 16)) * 2), a.s16 = s.p;
    edge sh = edge_get((size_t)(n * (K / 32)) * 4), dA = edge_get((size_t)(n * (K / 32)) * 4);
    if (a.dk) {
        memcpy(dk.p, all->dk, (size_t)(n * (K / 256)) * 4), a.dk = dk.p;
        memcpy(sh.p, all->shift, (size_t)(n * (K / 32)) * 4), a.shift = sh.p;
        memcpy(dA.p, all->dA, (size_t)(n * (K / 32)) * 4), a.dA = dA.p;
    }
    float *y = malloc((n_y + 2 * GUARD) * sizeof *y);
    char *scratch = aligned_alloc(64, (n_scratch + 2 * GUARD + 63) / 64 * 64);
    if (!y || !scratch) abort();
    for (size_t i = 0; i < n_y + 2 * GUARD; i++) y[i] = 7;
    memset(scratch, 0x5a, n_scratch + 2 * GUARD);

    now.mul[type](y + GUARD, ldy, w, type_row_bytes(type, K), R, &a, scratch + GUARD);

    int wrong = 0;
    for (size_t i = 0; i < n_y + 2 * GUARD; i++) {
        size_t at = i - GUARD;                       /* wraps before the start: out of range */
        bool out = at < n_y && at % ldy < (size_t)R;
        wrong += !same(y[i], out ? want[at / ldy * (size_t)R + at % ldy] : 7);
    }
    t_ok(!wrong, __FILE__, __LINE__, "%s %s R=%d N=%d K=%d: %d of %d wrong", t->name,
         level->name, R, n, K, wrong, R * n);
    for (int i = 0; i < GUARD; i++)
        if (!CHECK(scratch[i] == 0x5a && scratch[GUARD + n_scratch + (size_t)i] == 0x5a)) break;
    free(y), free(scratch);
    edge_free(&q), edge_free(&d), edge_free(&s), edge_free(&dk), edge_free(&sh), edge_free(&dA);
}

static void check_shape(int qt, int R, int K, int fill)
{
    static const int batch[] = { 1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 31, 33, 48, 64 };
    int type = halves[qt].type;
    size_t row_bytes = type_row_bytes(type, K), nk = (size_t)MAX_N * (size_t)K;
    edge w = edge_get(row_bytes * (size_t)R);
    int8_t *q = malloc(nk);
    float *d = malloc(nk / 32 * sizeof *d);
    int16_t *s16 = malloc(nk / 16 * sizeof *s16);
    float *want = malloc((size_t)(MAX_N * R) * sizeof *want);
    float *dk = malloc((nk / 256 + 1) * sizeof *dk), *dA = malloc(nk / 32 * sizeof *dA);
    int32_t *shift = malloc(nk / 32 * sizeof *shift);
    bool super = act_kind(type) == ACT_QK;
    if (!q || !d || !s16 || !want || !dk || !dA || !shift) abort();
    q_fill(w.p, qt, row_bytes * (size_t)R, fill);
    for (size_t i = 0; i < nk; i++)
        q[i] = (int8_t)(fill == EXTREME ? (i / 41 % 2 ? -127 : 127) : (int)(t_rand() * 127));
    for (size_t i = 0; i < nk / 32; i++)
        shift[i] = (int)(bits() % 8), d[i] = super ? (float)(1 << shift[i]) : (t_rand() + 1) * 0.01f;
    for (size_t i = 0; i < nk / 256; i++) dk[i] = (t_rand() + 1) * 0.0001f;
    for (size_t i = 0; i < nk / 16; i++) {
        int sum = 0;
        for (int j = 0; j < 16; j++) sum += q[16*i + (size_t)j];
        s16[i] = (int16_t)sum;
    }
    act a = { .N = MAX_N, .K = K, .q = q, .d = d, .s16 = s16, .dk = super ? dk : NULL,
              .shift = shift, .dA = dA };
    for (size_t i = 0; i < nk / 32; i++) dA[i] = d[i] * (float)(s16[2 * i] + s16[2 * i + 1]);
    ref.mul[type](want, (size_t)R, w.p, row_bytes, R, &a, NULL);
    for (size_t i = 0; i < sizeof batch / sizeof *batch; i++)
        check_one(qt, w.p, R, &a, batch[i], want);
    edge_free(&w), free(q), free(d), free(s16), free(want), free(dk), free(dA), free(shift);
}

static int qt_now;
static void check_type(void)
{
    static const int rows[] = { 1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 64, MAX_R };
    int e = type_get(halves[qt_now].type)->elems;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) check_shape(qt_now, rows[i], e, SANE);
    for (int f = 0; f < N_FILLS; f++) check_shape(qt_now, 33, 2 * e, f);
    check_shape(qt_now, 35, e == 32 ? 576 : 768, SANE);
    check_shape(qt_now, 19, e == 32 ? 1056 : 1280, EXTREME);
    /* past any block of K and of rows that a kernel may use */
    check_shape(qt_now, 35, 4352, SANE);
    check_shape(qt_now, 67, 2304, SANE);
    check_shape(qt_now, 275, 1280, SANE);
}

/* super: as quant_qk does it, of as many whole blocks of 256 as there are. */
static void quant_row_of(const float *x, int K, bool super)
{
    enum { MAX_K = 4096 };
    static int8_t q[MAX_K + 64], qr[MAX_K + 64];
    static float d[MAX_K / 32 + 16], dr[MAX_K / 32 + 16];
    static int16_t s[MAX_K / 16 + 32], sr[MAX_K / 16 + 32];
    memset(q, 77, sizeof q), memset(qr, 77, sizeof qr);
    memset(d, 77, sizeof d), memset(dr, 77, sizeof dr);
    memset(s, 77, sizeof s), memset(sr, 77, sizeof sr);
    static float dk[MAX_K / 256 + 4], dkr[MAX_K / 256 + 4];
    static int32_t sh[MAX_K / 32 + 16], shr[MAX_K / 32 + 16];
    static float dA[MAX_K / 32 + 16], dAr[MAX_K / 32 + 16];
    memset(dk, 77, sizeof dk), memset(dkr, 77, sizeof dkr);
    memset(sh, 77, sizeof sh), memset(shr, 77, sizeof shr);
    memset(dA, 77, sizeof dA), memset(dAr, 77, sizeof dAr);
    if (super) K = K / 256 * 256;
    edge e = edge_get((size_t)K * sizeof *x);
    memcpy(e.p, x, (size_t)K * sizeof *x);
    if (super) {
        ref.quant_qk(qr, dr, sr, dkr, shr, dAr, x, K);
        now.quant_qk(q, d, s, dk, sh, dA, e.p, K);
    } else {
        ref.quant_q8(qr, dr, sr, x, K);
        now.quant_q8(q, d, s, e.p, K);
    }
    for (size_t i = 0; i < sizeof dk / sizeof *dk; i++)
        if (!CHECK(same(dk[i], dkr[i]))) break;
    for (size_t i = 0; i < sizeof sh / sizeof *sh; i++)
        if (!CHECK(sh[i] == shr[i] && same(dA[i], dAr[i]))) break;
    CHECK(!memcmp(q, qr, sizeof q));
    CHECK(!memcmp(s, sr, sizeof s));
    for (size_t i = 0; i < sizeof d / sizeof *d; i++)
        if (!CHECK(same(d[i], dr[i]))) break;
    edge_free(&e);
}

static void quant_row(const float *x, int K)
{
    quant_row_of(x, K, false);
    quant_row_of(x, K, true);
}

static void check_quant(void)
{
    static float x[4096];
    for (int i = 0; i < 4096; i++) x[i] = t_rand() * expf(10 * t_rand());
    quant_row(x, 4096);
    quant_row(x, 32);
    quant_row(x, 576);
    for (int i = 0; i < 96; i++) x[i] = (float)(i % 32 - 16) / 2;      /* ties */
    x[31] = 127;
    for (int i = 96; i < 128; i++) x[i] = 0;
    for (int i = 128; i < 160; i++) x[i] = t_rand() * 1e-38f;          /* 127 / amax overflows */
    x[200] = INFINITY, x[260] = -INFINITY, x[300] = NAN, x[350] = 3e38f, x[400] = 1e-45f;
    for (int i = 416; i < 448; i++) x[i] = 0;
    x[420] = -1e-45f;
    for (int i = 512; i < 544; i++) x[i] = NAN;
    quant_row(x, 1024);
}

/* The textbook level itself, against sums in double. */
static void check_sum(void)
{
    enum { K = 1024 };
    static float x[K];
    static int8_t q[K];
    static float d[K / 32];
    static int16_t s16[K / 16];
    for (int i = 0; i < K; i++) x[i] = t_rand();
    ref.quant_q8(q, d, s16, x, K);
    for (int i = 0; i < K; i++) CHECK_NEAR(d[i / 32] * q[i], x[i], 0.51 * d[i / 32]);
    for (int i = 0; i < K / 16; i++) {
        int s = 0;
        for (int j = 0; j < 16; j++) s += q[16*i + j];
        CHECK(s == s16[i]);
    }

    /* a block sixteen times and one a thousand times smaller: finer by as much as seven doublings */
    static float dk[K / 256], dA[K / 32];
    static int32_t shift[K / 32];
    for (int i = 0; i < K; i++) x[i] *= i / 32 % 8 == 2 ? 1 / 16.0f : i / 32 % 8 == 5 ? 1e-3f : 1;
    ref.quant_qk(q, d, s16, dk, shift, dA, x, K);
    for (int b = 0; b < K / 32; b++) {
        CHECK(d[b] == (float)(1 << shift[b]) && dA[b] == d[b] * (float)(s16[2*b] + s16[2*b + 1]));
    }
    for (int b = 0; b < K / 256; b++) {
        float all = 0;
        for (int i = 0; i < 256; i++) all = fmaxf(all, fabsf(x[256*b + i]));
        CHECK(dk[b] == all / 127 / 128);
    }
    for (int b = 0; b < K / 32; b++) {
        float amax = 0, step = dk[b / 8] * d[b];
        for (int i = 0; i < 32; i++) {
            amax = fmaxf(amax, fabsf(x[32*b + i]));
            CHECK_NEAR(step * q[32*b + i], x[32*b + i], 0.51 * step);
        }
        CHECK(d[b] >= 1 && d[b] <= 128 && log2f(d[b]) == rintf(log2f(d[b])));
        CHECK(amax <= 127.001f * step && (d[b] == 1 || 2 * amax > 126.999f * step));
    }
}

#include "bench_q.h"

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "--bench")) return q_bench(argc - 2, argv + 2);
    t_begin(argc, argv);
    unsigned cpu = cpu_detect();
    bool quick = getenv("DR_QUICK");         /* not the textbook level against itself */
    kern_init_ref_q(&ref);
    level = &q_levels[0], now = ref;
    t_run("quant_ref", check_sum);
    for (int l = 0; l < n_q_levels; l++) {
        level = &q_levels[l];
        if (level->need & ~cpu) {
            printf("skip %s: not on this CPU\n", level->name);
            continue;
        }
        kern below = now;
        level->init(&now);
        for (int i = 0; i < N_QTYPES; i++) {
            const type_info *t = type_get(halves[i].type);
            char name[64];
            snprintf(name, sizeof name, "mul_%s_%s", t->name, level->name);
            qt_now = i;
            if ((l == 0 && !quick) || now.mul[t->type] != below.mul[t->type])
                t_run(name, check_type);
        }
        char name[64];
        snprintf(name, sizeof name, "quant_q8_%s", level->name);
        if (l == 0 || now.quant_q8 != below.quant_q8 || now.quant_qk != below.quant_qk)
            t_run(name, check_quant);
    }
    return t_end();
}
