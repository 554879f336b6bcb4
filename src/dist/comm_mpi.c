/* comm_mpi.c - processes started by mpirun or srun. Built with MPI=1 alone.
 *
 * Sums are ours, since MPI's own may add in any order: ranks send each other the pieces that each is
 * to sum, and each adds what it got in rank order. Arrays are taken in rounds, so that scratch is
 * bounded and no count comes near INT_MAX, where MPI's end. */
#include <mpi.h>
#include <string.h>
#include "base/mem.h"
#include "dist/comm_priv.h"

enum {
    PIECE = 1 << 20,                    /* elements that one round of a sum takes, over all ranks */
    MESSAGE = 1 << 28                   /* bytes of one message */
};

typedef struct {
    comm c;                             /* first, so that comm * is mpi_comm * */
    MPI_Comm mpi;
    bool world;                         /* it began MPI and ends it */
    char *in;                           /* PIECE doubles: a piece of every rank */
    int64_t *a, *b;                     /* (size,) a round's range of each rank */
    MPI_Request *req;                   /* (2*size,) */
} mpi_comm;

static int failed(int rc, const char *what, dr_err *e)
{
    char text[MPI_MAX_ERROR_STRING];
    int n = 0;
    MPI_Error_string(rc, text, &n);
    return err_set(e, DR_EIO, "MPI could not %s: %.*s", what, n, text);
}

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

/* ---- sums ---- */

static void add_f32(float *y, const float *in, int n, int size)
{
    memcpy(y, in, (size_t)n * sizeof *y);
    for (int r = 1; r < size; r++)
        for (int i = 0; i < n; i++) y[i] += in[(size_t)r * (size_t)n + (size_t)i];
}

static void add_f64(double *y, const double *in, int n, int size)
{
    memcpy(y, in, (size_t)n * sizeof *y);
    for (int r = 1; r < size; r++)
        for (int i = 0; i < n; i++) y[i] += in[(size_t)r * (size_t)n + (size_t)i];
}

/* Elements [a[rank], b[rank]) of x, f32 or f64 by width, become the sum of all ranks'. The ranges
 * together have PIECE elements at most. */
static int sum_round(mpi_comm *m, char *x, size_t width, dr_err *e)
{
    int me = m->c.rank, size = m->c.size, n = (int)(m->b[me] - m->a[me]), n_req = 0, rc = 0;
    MPI_Datatype t = width == sizeof(float) ? MPI_FLOAT : MPI_DOUBLE;
    char *mine = x + (size_t)m->a[me] * width;
    for (int r = 0; r < size && !rc; r++) {
        char *in = m->in + (size_t)r * (size_t)n * width;
        if (r == me) memcpy(in, mine, (size_t)n * width);
        else if (n) rc = MPI_Irecv(in, n, t, r, 0, m->mpi, &m->req[n_req++]);
    }
    for (int r = 0; r < size && !rc; r++)
        if (r != me && m->b[r] > m->a[r])
            rc = MPI_Isend(x + (size_t)m->a[r] * width, (int)(m->b[r] - m->a[r]), t, r, 0, m->mpi,
                           &m->req[n_req++]);
    if (!rc) rc = MPI_Waitall(n_req, m->req, MPI_STATUSES_IGNORE);
    if (rc) return failed(rc, "exchange what is to be summed", e);
    if (width == sizeof(float)) add_f32((float *)mine, (const float *)m->in, n, size);
    else add_f64((double *)mine, (const double *)m->in, n, size);
    return DR_OK;
}

static int mpi_reduce_scatter(comm *c, float *x, const int64_t *cut, dr_err *e)
{
    mpi_comm *m = (mpi_comm *)c;
    int64_t most = 0, step = PIECE / c->size > 0 ? PIECE / c->size : 1;
    for (int r = 0; r < c->size; r++)
        if (cut[r + 1] - cut[r] > most) most = cut[r + 1] - cut[r];
    for (int64_t at = 0; at < most; at += step) {
        for (int r = 0; r < c->size; r++) {
            m->a[r] = min64(cut[r] + at, cut[r + 1]);
            m->b[r] = min64(cut[r] + at + step, cut[r + 1]);
        }
        int rc = sum_round(m, (char *)x, sizeof *x, e);
        if (rc < 0) return rc;
    }
    return DR_OK;
}

/* Around the ring: in turn k everyone passes on the range that it got in the turn before. Nothing is
 * sent of a range that is empty, since its receiver may have nothing to do in that turn at all. */
static int gather_ring(mpi_comm *m, char *x, size_t width, const int64_t *a, const int64_t *b,
                       dr_err *e)
{
    int size = m->c.size, me = m->c.rank, to = (me + 1) % size, from = (me + size - 1) % size;
    for (int k = 0; k + 1 < size; k++) {
        int out = (me + size - k) % size, in = (me + 2 * size - k - 1) % size;
        char *po = x + (size_t)a[out] * width, *pi = x + (size_t)a[in] * width;
        size_t no = (size_t)(b[out] - a[out]) * width, ni = (size_t)(b[in] - a[in]) * width;
        while (no || ni) {
            int so = no < MESSAGE ? (int)no : MESSAGE, si = ni < MESSAGE ? (int)ni : MESSAGE;
            int rc = MPI_Sendrecv(po, so, MPI_BYTE, so ? to : MPI_PROC_NULL, 1, pi, si, MPI_BYTE,
                                  si ? from : MPI_PROC_NULL, 1, m->mpi, MPI_STATUS_IGNORE);
            if (rc) return failed(rc, "gather what the ranks have", e);
            po += so, pi += si, no -= (size_t)so, ni -= (size_t)si;
        }
    }
    return DR_OK;
}

static int mpi_all_gather(comm *c, void *x, size_t width, const int64_t *cut, dr_err *e)
{
    return gather_ring((mpi_comm *)c, x, width, cut, cut + 1, e);
}

static int sum_all(comm *c, char *x, size_t width, int64_t n, dr_err *e)
{
    mpi_comm *m = (mpi_comm *)c;
    for (int64_t at = 0; at < n; at += PIECE) {
        int64_t len = min64(PIECE, n - at);
        for (int r = 0; r < c->size; r++) {
            m->a[r] = at + len * r / c->size;
            m->b[r] = at + len * (r + 1) / c->size;
        }
        int rc = sum_round(m, x, width, e);
        if (!rc) rc = gather_ring(m, x, width, m->a, m->b, e);
        if (rc < 0) return rc;
    }
    return DR_OK;
}

static int mpi_sum_f32(comm *c, float *x, int64_t n, dr_err *e)
{
    return sum_all(c, (char *)x, sizeof *x, n, e);
}

static int mpi_sum_f64(comm *c, double *x, int64_t n, dr_err *e)
{
    return sum_all(c, (char *)x, sizeof *x, n, e);
}

/* ---- the rest is MPI's ---- */

static int mpi_min_i64(comm *c, int64_t *x, int64_t n, dr_err *e)
{
    for (int64_t at = 0; at < n; at += PIECE) {
        int rc = MPI_Allreduce(MPI_IN_PLACE, x + at, (int)min64(PIECE, n - at), MPI_INT64_T,
                               MPI_MIN, ((mpi_comm *)c)->mpi);
        if (rc) return failed(rc, "find the least of the ranks' numbers", e);
    }
    return DR_OK;
}

static int mpi_broadcast(comm *c, void *x, size_t n, int root, dr_err *e)
{
    for (size_t at = 0; at < n; at += MESSAGE) {
        int rc = MPI_Bcast((char *)x + at, n - at < MESSAGE ? (int)(n - at) : MESSAGE, MPI_BYTE,
                           root, ((mpi_comm *)c)->mpi);
        if (rc) return failed(rc, "broadcast", e);
    }
    return DR_OK;
}

static int mpi_send(comm *c, const void *x, size_t n, int to, dr_err *e)
{
    for (size_t at = 0; at < n; at += MESSAGE) {
        int rc = MPI_Send((const char *)x + at, n - at < MESSAGE ? (int)(n - at) : MESSAGE,
                          MPI_BYTE, to, 2, ((mpi_comm *)c)->mpi);
        if (rc) return failed(rc, "send", e);
    }
    return DR_OK;
}

static int mpi_recv(comm *c, void *x, size_t n, int from, dr_err *e)
{
    for (size_t at = 0; at < n; at += MESSAGE) {
        int want = n - at < MESSAGE ? (int)(n - at) : MESSAGE, got = 0;
        MPI_Status s;
        int rc = MPI_Recv((char *)x + at, want, MPI_BYTE, from, 2, ((mpi_comm *)c)->mpi, &s);
        if (rc) return failed(rc, "receive", e);
        MPI_Get_count(&s, MPI_BYTE, &got);
        if (got != want)
            return err_set(e, DR_EIO, "rank %d sent %d bytes where %d were to come", from, got,
                           want);
    }
    return DR_OK;
}

static int mpi_barrier(comm *c, dr_err *e)
{
    int rc = MPI_Barrier(((mpi_comm *)c)->mpi);
    return rc ? failed(rc, "wait for all ranks", e) : DR_OK;
}

static void mpi_abort(comm *c, int status) { MPI_Abort(((mpi_comm *)c)->mpi, status); }

static void mpi_close(comm *c)
{
    mpi_comm *m = (mpi_comm *)c;
    mem_free(m->in);
    mem_free(m->a);
    mem_free(m->b);
    mem_free(m->req);
    if (m->world) MPI_Finalize();
    else MPI_Comm_free(&m->mpi);
    mem_free(m);
}

static comm *wrap(MPI_Comm mpi, bool world, dr_err *e);

static comm *mpi_split(comm *c, int color, int key, dr_err *e)
{
    MPI_Comm part;
    int rc = MPI_Comm_split(((mpi_comm *)c)->mpi, color, key, &part);
    if (!rc) return wrap(part, false, e);
    failed(rc, "split the ranks", e);
    return NULL;
}

static comm *wrap(MPI_Comm mpi, bool world, dr_err *e)
{
    mpi_comm *m = mem_zalloc(1, sizeof *m);
    if (!m) {
        err_nomem(e, sizeof *m, "a comm");
        return NULL;
    }
    m->mpi = mpi, m->world = world;
    MPI_Comm_set_errhandler(mpi, MPI_ERRORS_RETURN);
    m->c = (comm){ .name = "mpi", .sum_f32 = mpi_sum_f32, .sum_f64 = mpi_sum_f64,
                   .min_i64 = mpi_min_i64, .reduce_scatter = mpi_reduce_scatter,
                   .all_gather = mpi_all_gather, .broadcast = mpi_broadcast, .send = mpi_send,
                   .recv = mpi_recv, .barrier = mpi_barrier, .split = mpi_split,
                   .abort = mpi_abort, .close = mpi_close };
    MPI_Comm_rank(mpi, &m->c.rank);
    MPI_Comm_size(mpi, &m->c.size);
    size_t n = (size_t)m->c.size, piece = (n > PIECE ? n : PIECE) * sizeof(double);
    m->in = mem_alloc(piece);
    m->a = mem_zalloc(n, sizeof *m->a);
    m->b = mem_zalloc(n, sizeof *m->b);
    m->req = mem_zalloc(2 * n, sizeof *m->req);
    if (m->in && m->a && m->b && m->req) return &m->c;
    err_nomem(e, piece, "sums over ranks");
    mpi_close(&m->c);
    return NULL;
}

/* What Open MPI's, MPICH's and Slurm's starters tell the processes that they begin. */
bool comm_mpi_started(void)
{
    static const char *const told[] = { "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK" };
    for (size_t i = 0; i < sizeof told / sizeof *told; i++)
        if (getenv(told[i])) return true;
    return false;
}

comm *comm_mpi_open(dr_err *e)
{
    int have, there = 0;
    MPI_Initialized(&there);
    if (there) {
        err_set(e, DR_EINVAL, "this process has opened MPI before");
        return NULL;
    }
    int rc = MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &have);
    if (!rc) return wrap(MPI_COMM_WORLD, true, e);
    failed(rc, "begin", e);
    return NULL;
}
