/* http.h - fetch over HTTP with libcurl, which is loaded when first used.
 *
 * Redirects are followed here, hop by hop: the token goes to the origin (scheme, host, port)
 * of the first URL and to no other, and https never falls back to http. A failure that may
 * pass (a lost connection, a stall, 408, 429, 5xx) is tried again with growing pauses; the
 * count starts anew whenever bytes came.
 * Threads: one at a time. */
#ifndef CLI_HTTP_H
#define CLI_HTTP_H
#include "base/buf.h"
#include "base/hash.h"
#include "cli/progress.h"

typedef struct {
    const char *token;           /* bearer token, or NULL */
    int tries;                   /* before giving up; 0: 6 */
    int wait_ms;                 /* first pause, doubled each time; 0: 500 */
    int stall_s;                 /* a transfer without a byte for this long is lost; 0: 30 */
} http_opt;

/* A small answer into *body (its cap is the limit). *next gets the URL of a Link header's
 * rel="next", or stays empty; may be NULL. */
int http_text(const http_opt *o, const char *url, buf *body, buf *next, dr_err *e);

typedef struct {
    const char *url;
    int64_t bytes;               /* what it must be; -1: not known */
    char hash[HASH_HEX];         /* hex it must have; "": not known */
    bool git;                    /* hash is git's name of the bytes (SHA-1), not SHA-256 */
    progress *bar;               /* NULL: none */
    int64_t bar_at;              /* bytes of the bar that come before this file */
} http_want;

/* Into the file at path, by way of path.part, which a later call goes on with; path appears
 * only when size and hash are right. got (may be NULL) receives the SHA-256. */
int http_file(const http_opt *o, const http_want *w, const char *path, char got[HASH_HEX],
              dr_err *e);
#endif
