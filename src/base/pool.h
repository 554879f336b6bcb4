/* pool.h - the thread pool. Work is cut into chunks by the problem, never by the number of
 * threads, so results do not depend on -t.
 * Threads: pool_run may be called by one thread at a time. */
#ifndef BASE_POOL_H
#define BASE_POOL_H
#include <stdint.h>
#include "base/err.h"

typedef struct pool pool;

/* n_threads 0: cpu_count. The caller is one of the threads. */
pool *pool_new(int n_threads, dr_err *e);
/* The same; each of its own threads calls begin(arg, thread) first, the caller does not. */
pool *pool_new_with(int n_threads, void (*begin)(void *arg, int thread), void *arg, dr_err *e);
void pool_free(pool *p);                               /* NULL is fine */
int pool_threads(const pool *p);
/* The first of n chunks that thread t of n_threads begins with; t = n_threads: n. */
static inline int pool_share(int n, int n_threads, int t)
{
    return (int)((int64_t)n * t / n_threads);
}

/* Call fn(arg, chunk, thread) once for each chunk 0..n_chunks-1, in any order, from any
 * thread; thread is 0..pool_threads-1 and never runs two chunks at once. Returns when all
 * are done; what they wrote is visible. The first chunks go to the threads in contiguous
 * shares (thread t starts at t*n/threads), so that streams stay sequential; a thread that
 * ends its share takes from the others' ends. */
void pool_run(pool *p, int n_chunks, void (*fn)(void *arg, int chunk, int thread), void *arg);

/* Cores that this process may use: its affinity mask, hyper-threads counted once, and the quota of
 * its control groups (base/limits.h). */
int cpu_count(void);
#endif
