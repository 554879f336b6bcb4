/* dl.h - libraries that few commands need, loaded when first used. Linking libcurl and
 * libcrypto would cost every start of the program 3.4 ms, 4 times what the rest takes.
 * Threads: one thread at a time. */
#ifndef BASE_DL_H
#define BASE_DL_H
#include "base/err.h"

/* A function to find; `to` is the function pointer's address. The row of NULLs ends a table. */
typedef struct { const char *name; void *to; } dl_sym;

/* Load the first of `sonames` (ends with NULL) that is there and fill every symbol. The
 * library stays loaded. `package` is what the sentence tells the user to install. */
int dl_load(const char *const *sonames, const char *package, const dl_sym *syms, dr_err *e);
#endif
