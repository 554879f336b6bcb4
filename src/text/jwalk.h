/* jwalk.h - walk JSON text without building a tree: a vocabulary of 128,000 tokens would cost
 * many times its size as one. What is small is cut out by jw_skip and given to the library. */
#ifndef TEXT_JWALK_H
#define TEXT_JWALK_H
#include "base/buf.h"

typedef struct { const char *p, *end, *start; dr_err *e; } jw;

void jw_init(jw *w, span text, dr_err *e);
/* Pass over one value of any kind, checking its form; *raw is its text. */
int jw_skip(jw *w, span *raw);
int jw_open(jw *w, char bracket);              /* '{' or '[' must be next */
/* 1: another member follows (in an object: its key is now in *key); 0: closed; < 0: broken.
 * *n counts the members and must start at 0. */
int jw_next(jw *w, char closing, buf *key, size_t *n);
int jw_string(jw *w, buf *out);                /* replaces what out held */
int jw_uint(jw *w, uint64_t max, uint64_t *v);
bool jw_at(jw *w, char c);                     /* is c next, white space aside? */
int jw_end(jw *w);                             /* nothing but white space may follow */
#endif
