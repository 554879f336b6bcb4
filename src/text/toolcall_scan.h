/* toolcall_scan.h - reading values and calls that may not be complete yet. A scan answers NO (no
 * continuation can make this a call), MORE (undecided) or OK, and an answer of NO or OK stays the
 * same however the text goes on. What is read is written out as JSON. */
#ifndef TEXT_TOOLCALL_SCAN_H
#define TEXT_TOOLCALL_SCAN_H
#include <jansson.h>
#include "base/buf.h"
#include "base/span.h"

typedef enum { SCAN_NO = -1, SCAN_MORE, SCAN_OK } scan_result;

typedef struct {
    span in;
    size_t at;
    int depth;
    bool python;                /* escapes are Python's: pythonic lists and built-in calls */
    bool final;                 /* nothing will follow */
    bool nomem;                 /* an allocation failed: the answer means nothing */
    bool marked;                /* after <|python_tag|> or the like: unknown names are calls */
    const json_t *tools, *builtin_tools;
} scan;

/* One value, JSON or Python literal, appended to *out as JSON. */
scan_result scan_value(scan *s, buf *out);
void scan_space(scan *s);
/* The word at s->at, as far as it is there: OK (past it), MORE or NO. */
scan_result scan_word(scan *s, const char *word);
/* The candidates. Calls are appended to *out as NAME 0 ARGUMENTS 0. */
scan_result scan_json_calls(scan *s, buf *out);              /* { or [ { */
scan_result scan_python_calls(scan *s, buf *out);            /* [f(a=1), g()] */
scan_result scan_function_tag(scan *s, buf *out);            /* <function=f>{}</function> */
scan_result scan_builtin(scan *s, buf *out);                 /* f.call(query="x") */
bool scan_tool_known(const scan *s, const char *name);
/* Append one character of JSON string content. 0 becomes U+FFFD, as half a surrogate pair does:
 * few readers of JSON take it in a key. */
void scan_put_char(buf *out, uint32_t c);
/* The character at p, its length in *len; U+FFFD and 1 when the bytes are not UTF-8; *len 0 when
 * they end inside a character. */
uint32_t scan_char(const char *p, size_t n, size_t *len);
#endif
