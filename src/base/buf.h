/* buf.h - growable bytes with a cap. A failed append (cap or memory) makes the buffer bad:
 * it stays bad, further appends do nothing, and the caller checks once at the end. The bytes
 * are always followed by a 0. Zero-initialised with a cap is valid: (buf){ .cap_max = N }. */
#ifndef BASE_BUF_H
#define BASE_BUF_H
#include <stdbool.h>
#include <stddef.h>
#include "base/err.h"
#include "base/span.h"

typedef struct { char *p; size_t n, cap, cap_max; bool bad; } buf;

void buf_init(buf *b, size_t cap_max);
void buf_free(buf *b);
void buf_reset(buf *b);                             /* keeps the storage and the cap */
void buf_put(buf *b, const void *p, size_t n);
void buf_puts(buf *b, const char *s);
void buf_putc(buf *b, char c);
void buf_printf(buf *b, const char *fmt, ...) DR_PRINTF(2, 3);
char *buf_str(buf *b);                              /* 0-ended; "" when empty; borrowed */
static inline span buf_span(const buf *b) { return (span){ b->p, b->n }; }
#endif
