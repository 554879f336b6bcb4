/* span.h - borrowed bytes. Not 0-ended; the owner is named where a span is handed out. */
#ifndef BASE_SPAN_H
#define BASE_SPAN_H
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

typedef struct { const char *p; size_t n; } span;

static inline span span_of(const char *s) { return (span){ s, strlen(s) }; }
static inline bool span_is(span a, const char *s)
{
    size_t n = strlen(s);
    return a.n == n && (n == 0 || !memcmp(a.p, s, n));
}
static inline bool span_eq(span a, span b)
{
    return a.n == b.n && (a.n == 0 || !memcmp(a.p, b.p, a.n));    // an empty one may be NULL
}
#define SPAN_FMT "%.*s"
#define SPAN_ARG(s) (int)((s).n > 200 ? 200 : (s).n), (s).p      /* for printf's %.*s */
#endif
