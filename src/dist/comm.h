/* comm.h - the processes of one run and what they do together. Every call is collective: all ranks
 * of the comm make the same calls with the same sizes in the same order.
 *
 * Sums are f32 (or f64) in rank order: ((x_0 + x_1) + x_2) + …, so that a result is a function of
 * what the ranks hold and of their number, never of who came first. Memory is the host's.
 * A failure leaves the other ranks waiting: who gets one calls abort. Threads: one at a time. */
#ifndef DIST_COMM_H
#define DIST_COMM_H
#include <stdint.h>
#include "base/err.h"

typedef struct comm comm;
struct comm {
    const char *name;           /* "self", "mpi" */
    int rank, size;             /* 0 <= rank < size */

    /* x (n,) of every rank = the sum of all ranks' x. */
    int (*sum_f32)(comm *c, float *x, int64_t n, dr_err *e);
    int (*sum_f64)(comm *c, double *x, int64_t n, dr_err *e);
    /* x (n,) of every rank = the least of all ranks' x. */
    int (*min_i64)(comm *c, int64_t *x, int64_t n, dr_err *e);
    /* Elements [cut[rank], cut[rank+1]) of x = the sum of all ranks' there; the others keep what
     * they had. cut (size+1,) ascends and is the same on all ranks. */
    int (*reduce_scatter)(comm *c, float *x, const int64_t *cut, dr_err *e);
    /* x, elements of `width` bytes: every rank gives [cut[rank], cut[rank+1]) and gets the rest. */
    int (*all_gather)(comm *c, void *x, size_t width, const int64_t *cut, dr_err *e);
    /* n bytes of rank root for everyone. */
    int (*broadcast)(comm *c, void *x, size_t n, int root, dr_err *e);
    /* n bytes to or from another rank, which makes the call that fits. */
    int (*send)(comm *c, const void *x, size_t n, int to, dr_err *e);
    int (*recv)(comm *c, void *x, size_t n, int from, dr_err *e);
    int (*barrier)(comm *c, dr_err *e);
    /* Those ranks that give the same color >= 0 are a comm of their own, ordered by key, then by
     * rank: an axis (data, tensor, pipeline, context) is one. NULL: *e says why. */
    comm *(*split)(comm *c, int color, int key, dr_err *e);
    /* All ranks of the run end now, with this status of the process; does not return. A comm of
     * one process has nobody to end and does nothing: its caller returns its error. */
    void (*abort)(comm *c, int status);
    void (*close)(comm *c);     /* the first one opened is closed last */
};

/* name: "self", "mpi", or NULL: mpi where a starter (mpirun, srun) began this process and the
 * program has MPI, else self. "mpi" in a build without it is DR_EUNSUPPORTED. */
comm *comm_open(const char *name, dr_err *e);
void comm_close(comm *c);       /* NULL is fine */

/* What all ranks would do alike: DR_OK, or the code and the sentence of the first rank for which rc
 * is not DR_OK, with its number. Collective. Call it where one rank alone can fail (a file that is
 * not there), before the next collective call. */
int comm_agree(comm *c, int rc, dr_err *e);
#endif
