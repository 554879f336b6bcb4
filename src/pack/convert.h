/* convert.h - a model from any container into any other: pipeline.h with a type asked for. */
#ifndef PACK_CONVERT_H
#define PACK_CONVERT_H
#include "pack/pipeline.h"

/* What is done to rows on their way (merge.c). open is called once, with what is read and the order
 * that the output has q and k in; the rest as in pack_job. */
typedef struct {
    int (*open)(void *arg, const pack_source *s, bool adjacent, dr_err *e);
    bool (*edits)(void *arg, const pack_tensor *t);
    int (*edit)(void *arg, const pack_tensor *t, int64_t row, int64_t n, float *x, int thread,
                dr_err *e);
    uint64_t key;
    void *arg;
} convert_edit;

typedef struct {
    const char *in, *out;
    container to;
    int type;                        /* DT_F32, DT_F16, DT_BF16, DT_F8_E4M3; CONVERT_KEEP */
    int n_files;                     /* see pack_job */
    uint64_t file_bytes;
    bool force;
    const convert_edit *edit;        /* NULL: rows stay as they are */
    void (*progress)(void *arg, uint64_t done, uint64_t total);
    void (*note)(void *arg, const char *sentence);
    void *arg;
} convert_opt;

enum { CONVERT_KEEP = -1 };

/* "bf16" (any case) to its number; NULL is CONVERT_KEEP. */
int convert_type(const char *name, int *type, dr_err *e);
int convert(const convert_opt *o, pool *p, dr_err *e);
#endif
