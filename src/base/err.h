/* err.h - how a failure travels: a code up the return path, one sentence in *e. */
#ifndef BASE_ERR_H
#define BASE_ERR_H
#include <stdio.h>
#include <stdlib.h>
#include "drover.h"

#define DR_PRINTF(f, a) __attribute__((format(printf, f, a)))

/* Record why and return the code, so that callers write `return err_set(...)`. The first
 * message wins; e may be NULL when the caller does not care. */
int err_set(dr_err *e, int code, const char *fmt, ...) DR_PRINTF(3, 4);
/* Put what was being done in front of the message: "loading a.gguf: truncated header". */
int err_wrap(dr_err *e, int code, const char *fmt, ...) DR_PRINTF(3, 4);
/* DR_ENOMEM with "no memory for N bytes of WHAT". */
int err_nomem(dr_err *e, size_t n, const char *what);

/* A broken promise between two functions of ours. Always on; never for bad input. */
#define DR_ASSERT(x) \
    ((x) ? (void)0 : (fprintf(stderr, "%s:%d: broken invariant: %s\n", \
                              __FILE__, __LINE__, #x), abort()))
#endif
