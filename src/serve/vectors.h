/* vectors.h - several texts to embeddings: a few at a time, so that one request does not fill the queue.
 * Threads: vectors_begin in a worker, the rest in the I/O thread. */
#ifndef SERVE_VECTORS_H
#define SERVE_VECTORS_H
#include "serve/call.h"

enum { VECTORS_AT_ONCE = 16 };

typedef struct {
    served *s;                  /* borrowed: held by the caller until vectors_end */
    call_opt c;                 /* of each: task, tenant, adapter, wake */
    ids *text;                  /* (n,) */
    call **call;                /* (n,) those that run */
    int n, next, running;
    int64_t tokens;             /* of all prompts so far */
    int code;                   /* not DR_OK: it failed, and why */
    char why[480];
    /* One of the vectors, in any order; v is valid until it returns. */
    void (*put)(void *arg, int at, const float *v, int n);
    void *arg;
} vectors;

/* s, c, put and arg are set; text (n,) is taken over, whatever is returned. */
int vectors_begin(vectors *v, ids *text, int n, int *retry_s, const char **param, dr_err *e);
bool vectors_step(vectors *v);                              /* true: all are there, or code says why not */
void vectors_end(vectors *v);                               /* cancels what runs */
#endif
