/* kerncheck_quant.c - quantisers by search: the bytes of every level are those of ref, for any
 * number of rows, with and without importances, on rows that try to break them.
 *
 *     kerncheck_quant [NAME...]         check            kerncheck_quant --bench    and time
 *
 * With DR_QUICK set only the odd number of rows is tried: for emulators. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/half.h"
#include "base/mem.h"
#include "kern/kern.h"
#include "t.h"

enum { K = 768, ROWS = 5, PAD = 64 };
static kern ref, new;
static const char *level;
static bool bench;
static int type;

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static float near_normal(void)
{
    float s = 0;
    for (int i = 0; i < 6; i++) s += t_rand();
    return s;
}

static float value_of(int kind, int i)
{
    float v = near_normal();
    switch (kind) {
    case 0: return 0.02f * v;
    case 1: return v * v * v * v * v;                    /* heavy tails */
    case 2: return i / 256 % 2 ? v : 0;                  /* blocks of zeros */
    case 3: return v * 1e-40f;                           /* subnormal */
    case 4: return v > 0 ? 65504 : -65504;
    case 5: return 3 + 0.001f * v;                       /* far from zero */
    case 6: return -1;
    case 7: return floorf(v * 4);                        /* ties */
    case 8: return i % 32 ? v * 1e-6f : 1000;            /* one outlier in a block */
    default: return v * 1e-5f;                           /* scales are subnormal halves */
    }
}
enum { KINDS = 10 };

static void check_quant(void)
{
    float *x = mem_alloc(sizeof *x * ROWS * K), *w = mem_alloc(sizeof *w * K);
    size_t n = type_row_bytes(type, K);
    uint8_t *a = mem_alloc(n * ROWS + PAD), *b = mem_alloc(n * ROWS + PAD);
    for (int kind = 0; kind < KINDS; kind++)
        for (int weigh = 0; weigh < 3; weigh++)
            for (int rows = getenv("DR_QUICK") ? ROWS : 1; rows <= ROWS; rows += 2) {
                for (int i = 0; i < rows * K; i++) x[i] = value_of(kind, i);
                for (int i = 0; i < K; i++) {
                    float v = near_normal();
                    w[i] = weigh == 1 ? v * v + 1e-6f : i % 7 ? 1e-6f : 100;
                }
                memset(a, 0xa5, n * ROWS + PAD), memset(b, 0xa5, n * ROWS + PAD);
                ref.quant[type](b, x, weigh ? w : NULL, rows, K);
                new.quant[type](a, x, weigh ? w : NULL, rows, K);
                t_ok(!memcmp(a, b, n * ROWS + PAD), __FILE__, __LINE__,
                     "%s: values %d, weights %d, %d rows: other bytes",
                     type_get(type)->name, kind, weigh, rows);
                for (size_t i = n * (size_t)rows; i < n * ROWS + PAD; i++) CHECK(a[i] == 0xa5);
            }
    if (bench)
        for (int weigh = 0; weigh < 2; weigh++) {
            double best = 1e9, t0 = seconds();
            for (int i = 0; i < ROWS * K; i++) x[i] = value_of(0, i);
            do {
                double s = seconds();
                new.quant[type](a, x, weigh ? w : NULL, ROWS, K);
                s = seconds() - s;
                if (s < best) best = s;
            } while (seconds() - t0 < 0.1);
            printf("quant\t%s\t%s%s\t%.2f ns a weight\n", level, type_get(type)->name,
                   weigh ? ", weighted" : "", best * 1e9 / (ROWS * K));
        }
    mem_free(x), mem_free(w), mem_free(a), mem_free(b);
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "--bench")) bench = true, argc--, argv++;
    t_begin(argc, argv);
    unsigned cpu = cpu_detect();
    kern_select(&ref, "ref");
    new = ref;
    for (int l = 1; l < n_kern_levels; l++) {
        level = kern_levels[l].name;
        if ((kern_levels[l].need & cpu) != kern_levels[l].need) {
            printf("skip %s: not on this CPU\n", level);
            continue;
        }
        kern below = new;
        kern_levels[l].init(&new);
        for (int i = 0; i < n_types; i++) {
            char name[64];
            type = (int)type_table[i].type;
            if (new.quant[type] == below.quant[type]) continue;
            snprintf(name, sizeof name, "quant_%s_%s", type_table[i].name, level);
            t_run(name, check_quant);
        }
    }
    return t_end();
}
