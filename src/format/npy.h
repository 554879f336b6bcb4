/* npy.h - write float32 matrices as NumPy reads them. spec: numpy.lib.format, version 1.0. */
#ifndef FORMAT_NPY_H
#define FORMAT_NPY_H
#include <stdio.h>
#include "base/err.h"

typedef struct { FILE *f; char *path, *part; int64_t rows, cols, written; } npy;

/* Begin PATH with shape (rows,cols); it appears under its name at npy_end, whole. */
int npy_begin(npy *w, const char *path, int64_t rows, int64_t cols, dr_err *e);
int npy_rows(npy *w, const float *x, int64_t rows, dr_err *e);
int npy_end(npy *w, dr_err *e);            /* all rows must have been written */
void npy_abort(npy *w);                    /* drop what was written; a zeroed one is fine */
/* Read a (rows,cols) float32 file whole; *x by mem_alloc. */
int npy_read(const char *path, float **x, int64_t *rows, int64_t *cols, dr_err *e);
#endif
