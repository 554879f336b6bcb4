/* few512.h - between kern_avx512_q.c, which chooses, and what serves few columns: one or two by
 * kern_avx512_few.c, where it has the type, others and up to sixteen by kern_avx512_direct.c. */
#ifndef KERN_FEW512_H
#define KERN_FEW512_H
#include <immintrin.h>
#include "kern/kern.h"

/* ---- one or two columns ---- */

enum { FEW_MAX = 2, FEW_SPAN = 128 };  /* columns; weights whose inputs are spread as one */

/* A column's inputs. q: as few512_spread made it; d (K/32,); dk (K/256,) or NULL; sums: as group_sums made it, one a
 * group; y: its output, R floats. */
typedef struct { const int8_t *q; const float *d, *dk; const char *sums; float *y; } few_col;

/* R >= 16 rows of K weights, s bytes apart; nc (1 or 2) columns. */
typedef void few_fn(const uint8_t *w, size_t s, int R, int K, const few_col *col, int nc);

/* order: where a type's registers find their inputs; fn NULL: the type is not done here. */
typedef struct { few_fn *fn; const uint8_t (*order)[64]; } few_type;

few_type few512_type(int type);

/* Bytes of a spread column of K inputs. */
static inline size_t few512_bytes(int K)
{
    return 2 * (size_t)((K + FEW_SPAN - 1) / FEW_SPAN * FEW_SPAN);
}

/* q's K inputs in the order of a type, each eight of them twice; to: 64-byte aligned. */
void few512_spread(int8_t *to, const int8_t *q, int K, const uint8_t order[4][64]);

/* ---- up to DIRECT_MAX columns ---- */

enum { DIRECT_MAX = 16 };

/* nc (1, 2, 3, 4, 6, 8, 12 or 16) columns col[] of `a`, of which the first `live` are wanted; R >= 16 rows, s bytes apart; sums:
 * sums_room(K) words a column, as group_sums left them. */
typedef void direct_fn(float *y, size_t ldy, const uint8_t *w, size_t s, int R, const act *a,
                       const int *col, const char *sums, int live, int nc);

direct_fn *direct512_type(int type);
int direct512_columns(int n);          /* the nc that n columns are best begun with */

/* ---- rows ahead ---- */

/* The next sixteen rows come into the second cache while these are worked on, as STREAMS runs side
 * by side: one run alone leaves the memory idle between pages, sixteen are more than it follows
 * (docs/kernels.md has figures). The rows after the last are most often what this thread is given
 * next; a prefetch of nothing is free. */
enum { FETCH_ROWS = 16, FETCH_STREAMS = 4 };
typedef struct { const uint8_t *at, *stop; size_t run; } fetch;

static inline fetch fetch_from(const uint8_t *p, size_t s)
{
    return (fetch){ p, p, FETCH_ROWS / FETCH_STREAMS * s };
}

static inline __attribute__((always_inline)) void fetch_more(fetch *f, int bytes)
{
    for (f->stop += bytes / FETCH_STREAMS; f->at < f->stop; f->at += 64)
        for (int i = 0; i < FETCH_STREAMS; i++)
            _mm_prefetch((const char *)f->at + (size_t)i * f->run, _MM_HINT_T1);
}
#endif
