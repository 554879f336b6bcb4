/* npy.c - see npy.h. */
#include "format/npy.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "base/mem.h"
#include "base/os.h"

static int bad(npy *w, dr_err *e)
{
    return err_set(e, DR_EIO, "cannot write %s: %s", w->part, strerror(errno));
}

int npy_begin(npy *w, const char *path, int64_t rows, int64_t cols, dr_err *e)
{
    *w = (npy){ .rows = rows, .cols = cols };
    size_t n = strlen(path) + 8;
    w->path = mem_strdup(path);
    w->part = mem_alloc(n);
    if (!w->path || !w->part) {
        npy_abort(w);
        return err_nomem(e, n, "file name");
    }
    snprintf(w->part, n, "%s.part", path);
    w->f = fopen(w->part, "wb");
    if (!w->f) {
        int rc = bad(w, e);
        npy_abort(w);
        return rc;
    }
    char head[128];
    int len = snprintf(head + 10, sizeof head - 10,
                       "{'descr': '<f4', 'fortran_order': False, 'shape': (%lld, %lld), }",
                       (long long)rows, (long long)cols);
    memset(head + 10 + len, ' ', sizeof head - 10 - (size_t)len);
    head[sizeof head - 1] = '\n';
    memcpy(head, "\x93NUMPY\x01\x00\x76\x00", 10);      // 0x76 = 118 bytes follow
    if (fwrite(head, 1, sizeof head, w->f) == sizeof head) return DR_OK;
    int rc = bad(w, e);
    npy_abort(w);
    return rc;
}

int npy_rows(npy *w, const float *x, int64_t rows, dr_err *e)
{
    DR_ASSERT(w->written + rows <= w->rows);
    size_t n = (size_t)rows * (size_t)w->cols;
    if (fwrite(x, sizeof *x, n, w->f) != n) return bad(w, e);
    w->written += rows;
    return DR_OK;
}

int npy_end(npy *w, dr_err *e)
{
    DR_ASSERT(w->written == w->rows);
    FILE *f = w->f;
    w->f = NULL;
    int rc = DR_OK;
    bool lost = fflush(f) || fsync(fileno(f));
    if (fclose(f) || lost || rename(w->part, w->path)) rc = bad(w, e);
    if (rc) unlink(w->part);
    mem_free(w->path);
    mem_free(w->part);
    *w = (npy){0};
    return rc;
}

void npy_abort(npy *w)
{
    if (w->f) {
        fclose(w->f);
        unlink(w->part);
    }
    mem_free(w->path);
    mem_free(w->part);
    *w = (npy){0};
}

int npy_read(const char *path, float **x, int64_t *rows, int64_t *cols, dr_err *e)
{
    os_file f;
    int rc = os_map(&f, path, e);
    if (rc) return rc;
    *x = NULL;
    char head[1025] = "";
    size_t hl = f.n >= 10 ? (size_t)f.p[8] | (size_t)f.p[9] << 8 : 0, at = 10 + hl;
    long long r = 0, c = 0;
    const char *shape = NULL;
    if (f.n >= at && hl < sizeof head && !memcmp(f.p, "\x93NUMPY\x01", 7)) {
        memcpy(head, f.p + 10, hl);
        shape = strstr(head, "'shape': (");
    }
    bool right = shape && strstr(head, "'<f4'") && strstr(head, "'fortran_order': False") &&
                 sscanf(shape, "'shape': (%lld, %lld)", &r, &c) == 2 && r > 0 && c > 0 &&
                 r <= (long long)f.n / c && (size_t)(r * c) * 4 == f.n - at;
    if (!right) {
        rc = err_set(e, DR_EFORMAT, "%s is not a NumPy file of a float32 matrix", path);
    } else if (!(*x = mem_alloc(f.n - at))) {
        rc = err_nomem(e, f.n - at, "matrix");
    } else {
        memcpy(*x, f.p + at, f.n - at);
        *rows = r, *cols = c;
    }
    os_unmap(&f);
    return rc;
}
