/* pack.c - see pack.h. Open rows hang in a list for each room left; a tree of bit sets over the rooms
 * finds the least one that is not below a length in a few steps, so that packing costs the same for
 * every piece. */
#include "train/pack.h"
#include <string.h>
#include "base/mem.h"

enum { LEVELS = 5 };                     /* 64^5 = 1 << 30 rooms */

/* Level 0 has a bit for each room, each level above one for each word below that is not 0. */
typedef struct { uint64_t *level[LEVELS]; int n_levels; } bitset;

static size_t bitset_words(int32_t n)
{
    size_t words = 0, k = (size_t)n + 1;
    do words += k = (k + 63) / 64; while (k > 1);
    return words;
}

static void bitset_init(bitset *b, int32_t n, uint64_t *words)
{
    memset(words, 0, bitset_words(n) * sizeof *words);
    b->n_levels = 0;
    size_t k = (size_t)n + 1;
    do {
        b->level[b->n_levels++] = words;
        words += k = (k + 63) / 64;
    } while (k > 1);
}

static void bitset_add(bitset *b, uint32_t i)
{
    for (int l = 0; l < b->n_levels; l++, i /= 64) b->level[l][i / 64] |= (uint64_t)1 << i % 64;
}

static void bitset_drop(bitset *b, uint32_t i)
{
    for (int l = 0; l < b->n_levels; l++, i /= 64)
        if (b->level[l][i / 64] &= ~((uint64_t)1 << i % 64)) return;
}

/* The least member that is not below i; -1: none. */
static int64_t bitset_from(const bitset *b, uint32_t i, int32_t n)
{
    for (int l = 0; l < b->n_levels; l++) {
        if (i > (uint32_t)n >> 6 * l) return -1;
        uint64_t w = b->level[l][i / 64] >> i % 64;
        if (w) {
            i += (uint32_t)__builtin_ctzll(w);
            while (l--) i = i * 64 + (uint32_t)__builtin_ctzll(b->level[l][i]);
            return i;
        }
        i = i / 64 + 1;
    }
    return -1;
}

/* Pieces by length, longest first, those of one length in order: a counting sort. */
static void by_length(int32_t *out, int32_t *count, const int32_t *len, int64_t n, int32_t room)
{
    memset(count, 0, ((size_t)room + 2) * sizeof *count);
    for (int64_t i = 0; i < n; i++) count[room - len[i] + 1]++;
    for (int32_t k = 0; k <= room; k++) count[k + 1] += count[k];
    for (int64_t i = 0; i < n; i++) out[count[room - len[i]]++] = (int32_t)i;
}

static int reserve(pack *p, int64_t n, int32_t room, dr_err *e)
{
    size_t work = (3 * (size_t)n + 2 * ((size_t)room + 2)) * sizeof(int32_t) +
                  (bitset_words(room) + 1) * sizeof(uint64_t);
    mem_free(p->work);
    p->work = mem_alloc(work);
    if (n > p->cap || !p->piece) {
        mem_free(p->piece);
        mem_free(p->start);
        p->piece = mem_alloc((size_t)n * sizeof *p->piece);
        p->start = mem_alloc((size_t)(n + 1) * sizeof *p->start);
        p->cap = n;
    }
    if (p->work && p->piece && p->start) return DR_OK;
    pack_free(p);
    return err_nomem(e, work + 2 * (size_t)n * sizeof(int32_t), "packing");
}

int pack_rows(pack *p, const int32_t *len, int64_t n, int32_t room, dr_err *e)
{
    DR_ASSERT(room >= 1 && room <= 1 << 30 && n >= 0 && n < INT32_MAX);
    int rc = reserve(p, n, room, e);
    if (rc) return rc;
    bitset set;
    bitset_init(&set, room, (uint64_t *)(void *)p->work);
    int32_t *sorted = p->work + 2 * (bitset_words(room) + 1), *row_of = sorted + n,
            *next = row_of + n, *head = next + n, *count = head + room + 2, n_rows = 0;
    by_length(sorted, count, len, n, room);
    for (int32_t r = 0; r <= room; r++) head[r] = -1;
    for (int64_t k = 0; k < n; k++) {
        int32_t need = len[sorted[k]], row, left = room;
        int64_t best = bitset_from(&set, (uint32_t)need, room);
        if (best >= 0) {
            row = head[best], left = (int32_t)best;
            head[best] = next[row];
            if (head[best] < 0) bitset_drop(&set, (uint32_t)best);
        } else {
            row = n_rows++;
        }
        row_of[k] = row;
        left -= need;
        if (left) {                                           /* a full row is in no list */
            next[row] = head[left];
            head[left] = row;
            bitset_add(&set, (uint32_t)left);
        }
    }
    p->n = n, p->n_rows = n_rows;
    memset(p->start, 0, ((size_t)n_rows + 1) * sizeof *p->start);
    for (int64_t k = 0; k < n; k++) p->start[row_of[k] + 1]++;
    for (int32_t r = 0; r < n_rows; r++) p->start[r + 1] += p->start[r];
    memcpy(next, p->start, (size_t)n_rows * sizeof *next);
    for (int64_t k = 0; k < n; k++) p->piece[next[row_of[k]]++] = sorted[k];
    return DR_OK;
}

void pack_free(pack *p)
{
    mem_free(p->piece);
    mem_free(p->start);
    mem_free(p->work);
    *p = (pack){0};
}
