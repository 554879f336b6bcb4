/* comm.c - opening a comm, and the comm of one process, for which every sum is what it had. */
#include "dist/comm.h"
#include <string.h>
#include "base/mem.h"
#include "dist/comm_priv.h"

static int self_sum_f32(comm *c, float *x, int64_t n, dr_err *e)
{
    (void)c, (void)x, (void)n, (void)e;
    return DR_OK;
}

static int self_sum_f64(comm *c, double *x, int64_t n, dr_err *e)
{
    (void)c, (void)x, (void)n, (void)e;
    return DR_OK;
}

static int self_min_i64(comm *c, int64_t *x, int64_t n, dr_err *e)
{
    (void)c, (void)x, (void)n, (void)e;
    return DR_OK;
}

static int self_reduce_scatter(comm *c, float *x, const int64_t *cut, dr_err *e)
{
    (void)c, (void)x, (void)cut, (void)e;
    return DR_OK;
}

static int self_all_gather(comm *c, void *x, size_t width, const int64_t *cut, dr_err *e)
{
    (void)c, (void)x, (void)width, (void)cut, (void)e;
    return DR_OK;
}

static int self_broadcast(comm *c, void *x, size_t n, int root, dr_err *e)
{
    (void)c, (void)x, (void)n, (void)e;
    DR_ASSERT(root == 0);
    return DR_OK;
}

static int self_send(comm *c, const void *x, size_t n, int to, dr_err *e)
{
    (void)c, (void)x, (void)n;
    return err_set(e, DR_EINVAL, "sending to rank %d of a run of one process", to);
}

static int self_recv(comm *c, void *x, size_t n, int from, dr_err *e)
{
    (void)c, (void)x, (void)n;
    return err_set(e, DR_EINVAL, "receiving from rank %d of a run of one process", from);
}

static int self_barrier(comm *c, dr_err *e)
{
    (void)c, (void)e;
    return DR_OK;
}

static void self_abort(comm *c, int status) { (void)c, (void)status; }
static void self_close(comm *c) { mem_free(c); }

static comm *self_open(dr_err *e);
static comm *self_split(comm *c, int color, int key, dr_err *e)
{
    (void)c, (void)color, (void)key;
    return self_open(e);
}

static comm *self_open(dr_err *e)
{
    comm *c = mem_zalloc(1, sizeof *c);
    if (!c) {
        err_nomem(e, sizeof *c, "a comm");
        return NULL;
    }
    *c = (comm){ .name = "self", .rank = 0, .size = 1, .sum_f32 = self_sum_f32,
                 .sum_f64 = self_sum_f64, .min_i64 = self_min_i64,
                 .reduce_scatter = self_reduce_scatter, .all_gather = self_all_gather,
                 .broadcast = self_broadcast, .send = self_send, .recv = self_recv,
                 .barrier = self_barrier, .split = self_split,
                 .abort = self_abort, .close = self_close };
    return c;
}

comm *comm_open(const char *name, dr_err *e)
{
    if (!name) name = comm_mpi_started() ? "mpi" : "self";
    if (!strcmp(name, "self")) return self_open(e);
    if (!strcmp(name, "mpi")) return comm_mpi_open(e);
    err_set(e, DR_EINVAL, "processes can work together by self or mpi, not by '%s'", name);
    return NULL;
}

void comm_close(comm *c)
{
    if (c) c->close(c);
}

int comm_agree(comm *c, int rc, dr_err *e)
{
    if (c->size == 1) return rc;
    int64_t first = rc ? c->rank : c->size;
    int got = c->min_i64(c, &first, 1, e);
    if (got || first == c->size) return got;
    struct { int code; char msg[sizeof e->msg]; } told = { rc, "" };
    if (first == c->rank && e) memcpy(told.msg, e->msg, sizeof told.msg);
    if ((got = c->broadcast(c, &told, sizeof told, (int)first, e)) < 0) return got;
    if (first == c->rank) return rc;
    if (e) e->code = 0;                          // its own failure, if any, is not the first
    return err_set(e, told.code, "rank %d: %s", (int)first, told.msg);
}
