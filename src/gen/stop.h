/* stop.h - stop strings over a stream of text. Text that could still become a stop string is
 * held back; no part of one is ever given out; what comes out does not depend on how the stream
 * was cut into pieces.
 * The string that is complete first ends the stream; of several that end together the longest. */
#ifndef GEN_STOP_H
#define GEN_STOP_H
#include "base/buf.h"
#include "base/span.h"

typedef struct stop stop;

/* Copies the strings. n 0 is fine: everything passes. An empty string is refused. */
stop *stop_new(const span *strings, int n, dr_err *e);
void stop_free(stop *s);                           /* NULL is fine */
void stop_reset(stop *s);                          /* ready for another stream */

/* Append to *out what of the text is certain. Returns the index of the stop string that ended
 * the stream, now or earlier (then nothing more is appended), or -1. Allocates nothing itself. */
int stop_feed(stop *s, span text, buf *out);
/* The stream ended by itself: append what was held back. */
void stop_end(stop *s, buf *out);
#endif
