/* qkrow.h - the two orders in which files hold the rows of q and k (and their biases, and the
 * rows of a LoRA's B that add to them).
 *
 * Rotary position turns pairs of elements of a head. Meta's files and GGUF have the two of a
 * pair side by side ("adjacent": 2i, 2i+1), Hugging Face half a head apart (i, i + hs/2). The
 * heads stay where they are, so that q and k need the head's size alone, not their number. */
#ifndef FORMAT_QKROW_H
#define FORMAT_QKROW_H
#include <stdint.h>

/* The row of Hugging Face's order that stands at row r of the adjacent order. hs: even. */
static inline int64_t qk_row_hf(int64_t r, int64_t hs)
{
    int64_t j = r % hs;
    return r - j + j % 2 * (hs / 2) + j / 2;
}

/* The row of the adjacent order that stands at row r of Hugging Face's. */
static inline int64_t qk_row_adjacent(int64_t r, int64_t hs)
{
    int64_t j = r % hs;
    return r - j + j % (hs / 2) * 2 + j / (hs / 2);
}
#endif
