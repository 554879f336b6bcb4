/* pack.h - pieces of text into rows of a fixed room by best fit, longest first.
 * Ref: Ding et al. 2024, "Fewer Truncations Improve Language Modeling". */
#ifndef TRAIN_PACK_H
#define TRAIN_PACK_H
#include <stdint.h>
#include "base/err.h"

/* n pieces in n_rows rows. Row r holds piece[start[r]] .. piece[start[r+1]-1], which are indices of
 * pieces. Zeroed is empty; pack_free releases, pack_rows reuses what is there. */
typedef struct {
    int64_t n, cap;
    int32_t n_rows;
    int32_t *piece, *start;      /* (n,), (n_rows+1,) */
    int32_t *work;
} pack;

/* len (n,) positions of each piece, 1 <= len <= room; room up to 1 << 30, n below 1 << 31. Each piece
 * goes where it leaves the least room, pieces of one length in their order. */
int pack_rows(pack *p, const int32_t *len, int64_t n, int32_t room, dr_err *e);
void pack_free(pack *p);
#endif
