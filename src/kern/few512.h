/* few512.h - between kern_avx512_few.c and kern_avx512_q.c: products of one or two columns. */
#ifndef KERN_FEW512_H
#define KERN_FEW512_H
#include "kern/kern.h"

enum { FEW_MAX = 2, FEW_SPAN = 128 };  /* columns; weights whose inputs are spread as one */

/* A column's inputs. q: as few512_spread made it; d (K/32,); sums: as group_sums made it, one a
 * group; y: its output, R floats. */
typedef struct { const int8_t *q; const float *d; const char *sums; float *y; } few_col;

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
#endif
