/* json_out.h - JSON written straight into a buffer, for replies of many small pieces; and ids. */
#ifndef SERVE_JSON_OUT_H
#define SERVE_JSON_OUT_H
#include <jansson.h>
#include <stdint.h>
#include "base/buf.h"

void js_put(buf *b, const char *s);                         /* a string with its quotes; NULL: null */
/* As many digits as bring a float back. Infinity, which JSON has not, is -9999 or 9999; NaN is null. */
void js_float(buf *b, float v);
/* A call's arguments as they came if they are a whole object; a reply that was cut leaves none: {}. */
void js_arguments(buf *b, span args);
void js_value(buf *b, const json_t *v);                     /* NULL: null */
/* [1,2,3]: the bytes of s. */
void js_bytes(buf *b, span s);

enum { JS_ID = 48 };
/* prefix and 24 letters and digits that no other id has: a number of the process and random bits. */
void js_id(char out[JS_ID], const char *prefix);
#endif
