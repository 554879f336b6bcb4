/* hash.h - SHA-256 (and git's SHA-1 names) by OpenSSL's libcrypto, loaded when first used.
 * Threads: one thread at a time. */
#ifndef BASE_HASH_H
#define BASE_HASH_H
#include <stdbool.h>
#include <stddef.h>
#include "base/err.h"

enum { HASH_HEX = 65 };                    /* the longest digest in hex and its 0 */
typedef enum { HASH_SHA256, HASH_SHA1 } hash_kind;
typedef struct { void *ctx; } hash;        /* zeroed: not started */

int hash_begin(hash *h, hash_kind kind, dr_err *e);
int hash_put(hash *h, const void *p, size_t n, dr_err *e);
/* The digest in lower-case hex; the state is released. */
int hash_end(hash *h, char hex[HASH_HEX], dr_err *e);
void hash_drop(hash *h);                   /* release without a digest; a zeroed one is fine */

int hash_bytes(const void *p, size_t n, char hex[HASH_HEX], dr_err *e);     /* SHA-256 */
int hash_file(const char *path, char hex[HASH_HEX], dr_err *e);             /* SHA-256 */
#endif
