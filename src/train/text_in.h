/* text_in.h - the bytes of a file of text, front to back: as it is, or out of .gz or .zst, which is
 * told by its first bytes. libzstd is loaded when first used.
 * Threads: one at a time. */
#ifndef TRAIN_TEXT_IN_H
#define TRAIN_TEXT_IN_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

typedef struct text_in text_in;

/* "-" is standard input. What is known not to be text (Parquet, archives, other compressions, models)
 * is DR_EUNSUPPORTED with the line that makes text of it. */
text_in *text_in_open(const char *path, dr_err *e);
/* Up to n > 0 bytes; 0 is the end. Negative: broken or cut short. */
int64_t text_in_read(text_in *t, void *dst, size_t n, dr_err *e);
uint64_t text_in_taken(const text_in *t);        /* bytes of the file read so far */
void text_in_close(text_in *t);                  /* NULL is fine */
#endif
