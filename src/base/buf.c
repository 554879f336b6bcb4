/* buf.c - see buf.h. */
#include "base/buf.h"
#include <stdarg.h>
#include <string.h>
#include "base/mem.h"

void buf_init(buf *b, size_t cap_max) { *b = (buf){ .cap_max = cap_max }; }
void buf_free(buf *b) { mem_free(b->p); *b = (buf){ .cap_max = b->cap_max }; }

void buf_reset(buf *b)
{
    b->n = 0, b->bad = false;
    if (b->p) b->p[0] = 0;
}

static bool room(buf *b, size_t n)
{
    if (b->bad || n > b->cap_max || b->n > b->cap_max - n) { b->bad = true; return false; }
    if (b->n + n < b->cap) return true;
    size_t cap = b->cap ? b->cap : 64;
    while (cap <= b->n + n) cap += cap / 2 + 64;
    char *p = mem_realloc(b->p, cap);
    if (!p) { b->bad = true; return false; }
    b->p = p, b->cap = cap;
    return true;
}

void buf_put(buf *b, const void *p, size_t n)
{
    if (!room(b, n)) return;
    if (n) memcpy(b->p + b->n, p, n);
    b->n += n;
    b->p[b->n] = 0;
}

void buf_puts(buf *b, const char *s) { buf_put(b, s, strlen(s)); }
void buf_putc(buf *b, char c) { buf_put(b, &c, 1); }

void buf_printf(buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0 || !room(b, (size_t)n)) { b->bad = true; return; }
    va_start(ap, fmt);
    vsnprintf(b->p + b->n, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->n += (size_t)n;
}

char *buf_str(buf *b)
{
    static char empty[1];
    return b->p ? b->p : empty;
}
