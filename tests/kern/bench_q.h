/* bench_q.h - times of the quantised products; part of kerncheck_q.c, which includes it. */
#include <time.h>
#include "kern/probe.h"

/* Processor time, so that a busy machine costs noise rather than the result. */
static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Bytes a second that one core reads, in 1e9. */
static double read_rate(const probe *p, const uint8_t *w, size_t n)
{
    double best = 0;
    for (int round = 0; round < 3; round++) {
        double t = seconds();
        volatile unsigned keep = p->read(w, n);
        (void)keep;
        t = seconds() - t;
        if ((double)n / t * 1e-9 > best) best = (double)n / t * 1e-9;
    }
    return best;
}

enum { BENCH_R = 512, BENCH_CALL = 128, BENCH_BYTES = 96 << 20 };

/* Median over matrices that lie one after the other in memory, so that none is in a cache; R rows
 * are multiplied BENCH_CALL at a time, as dev/ does. */
static double bench_one(int type, const uint8_t *w, size_t n_w, const act *a, float *y,
                        char *scratch)
{
    enum { ROUNDS = 7 };
    size_t row = type_row_bytes(type, a->K), one = row * BENCH_R, at = 0;
    double t[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        int reps = a->N >= 64 ? 1 : a->N >= 8 ? 4 : 16;
        double t0 = seconds();
        for (int k = 0; k < reps; k++, at = at + 2 * one > n_w ? 0 : at + one)
            for (int r = 0; r < BENCH_R; r += BENCH_CALL)
                now.mul[type](y + r, BENCH_R, w + at + (size_t)r * row, row, BENCH_CALL, a,
                              scratch);
        t[i] = (seconds() - t0) / reps;
    }
    for (int i = 0; i < ROUNDS; i++)
        for (int j = i + 1; j < ROUNDS; j++)
            if (t[j] < t[i]) { double x = t[i]; t[i] = t[j], t[j] = x; }
    return t[ROUNDS / 2];
}

/* Is the name given, or none of its kind? */
static bool named(const char *name, bool level_name, int argc, char **argv)
{
    int of_kind = 0;
    for (int i = 0; i < argc; i++) {
        if (!strcmp(name, argv[i])) return true;
        of_kind += level_name == !type_by_name(argv[i]);
    }
    return !of_kind;
}

/* One line per type, level and N: operations, and bytes of weights, a second. */
static int q_bench(int argc, char **argv)
{
    static const int batch[] = { 512, 64, 16, 8, 4, 2, 1 };
    enum { K = 2048, MAX = 512 };
    uint8_t *w = malloc(BENCH_BYTES);
    int8_t *q = malloc(MAX * K);
    float *d = malloc(MAX * K / 32 * 4), *y = malloc(sizeof(float) * MAX * BENCH_R);
    int16_t *s16 = malloc(MAX * K / 16 * 2);
    if (!w || !q || !d || !y || !s16) abort();
    for (int i = 0; i < MAX * K; i++) q[i] = (int8_t)(i * 7 % 255 - 127);
    float *dk = malloc(MAX * K / 256 * 4);
    float *dA = malloc(MAX * K / 32 * 4);
    int32_t *shift = malloc(MAX * K / 32 * 4);
    if (!dk || !dA || !shift) abort();
    for (int i = 0; i < MAX * K / 256; i++) dk[i] = 0.001f;
    for (int i = 0; i < MAX * K / 16; i++) s16[i] = (int16_t)(i % 100);
    unsigned cpu = cpu_detect();
    kern_init_ref_q(&now);
    for (int i = 0; i < N_QTYPES; i++) {
        const type_info *t = type_get(halves[i].type);
        if (!named(t->name, false, argc, argv)) continue;
        size_t part = (1 << 20) / (size_t)t->bytes * (size_t)t->bytes;
        q_fill(w, i, part, SANE);
        bool super = act_kind(t->type) == ACT_QK;
        for (int b = 0; b < MAX * K / 32; b++) {
            d[b] = super ? (float)(1 << b % 8) : 0.01f;
            shift[b] = b % 8, dA[b] = (float)(b % 100);
        }
        for (size_t at = part; at < BENCH_BYTES; at += part)
            memcpy(w + at, w, BENCH_BYTES - at < part ? BENCH_BYTES - at : part);
        for (int l = 1; l < n_q_levels; l++) {
            if (q_levels[l].need & ~cpu) continue;
            q_levels[l].init(&now);
            if (!named(q_levels[l].name, true, argc, argv)) continue;
            char *scratch = aligned_alloc(64, (now.mul_scratch(t->type, K) + 127) / 64 * 64);
            probe p;
            probe_select(&p, q_levels[l].name);
            double peak = 0, read = read_rate(&p, w, BENCH_BYTES);
            for (int r = 0; r < 10; r++) peak = fmax(peak, p.int8(0.01) * 1e-9);
            printf("%s %s: int8 peak %.0f Gop/s, reads %.1f GB/s\n", t->name, q_levels[l].name,
                   peak, read);
            for (size_t b = 0; b < sizeof batch / sizeof *batch; b++) {
                act a = { .N = batch[b], .K = K, .q = q, .d = d, .s16 = s16,
                          .dk = super ? dk : NULL, .shift = shift, .dA = dA };
                double s = bench_one(t->type, w, BENCH_BYTES, &a, y, scratch);
                double gops = 2.0 * BENCH_R * K * batch[b] / s * 1e-9;
                double gb = (double)type_row_bytes(t->type, K) * BENCH_R / s * 1e-9;
                printf("%s\t%s\t%d\t%.0f Gop/s\t%.0f %%\t%.1f GB/s\t%.0f %%\n", t->name,
                       q_levels[l].name, batch[b], gops, 100 * gops / peak, gb, 100 * gb / read);
            }
            free(scratch);
        }
    }
    free(w), free(q), free(d), free(y), free(s16), free(dk), free(dA), free(shift);
    return 0;
}
