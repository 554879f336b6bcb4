/* pool.c - persistent threads that spin briefly, then sleep.
 *
 * A decode step is a hundred short products, so waking through the kernel each time would
 * cost more than the work: a worker spins for SPIN_NS after its last job before it sleeps on
 * a futex-backed condition variable. Each thread owns a share [next,end) of the chunks packed
 * into one atomic word; its owner takes from the front, thieves from the back.
 *
 * A job ends when its last chunk does, not when every worker has noticed it: on a busy machine
 * a worker may be off its core for milliseconds, and the others then do its share. So a worker
 * may come late, look at the shares of a job that it did not see begin, and take a chunk of it.
 * That is right because fn, arg and left are written before the shares, are read after a chunk
 * was taken, and cannot change while a taken chunk is not yet counted off. */
#define _GNU_SOURCE
#include "base/pool.h"
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>
#include "base/limits.h"
#include "base/mem.h"

enum { SPIN_NS = 200000, MAX_THREADS = 1024 };

typedef struct {
    _Alignas(128) atomic_uint_fast64_t range;    /* next in the low half, end in the high */
} share;

/* What a worker starts with; the pool keeps it, so that the memory that a pool holds does not depend
 * on how far its workers are. */
typedef struct { pool *p; int id; void (*begin)(void *, int); void *arg; } worker_arg;

struct pool {
    int n, n_started;
    bool crowded;                       /* more threads than CPUs: spinning would steal time */
    pthread_t *thread;
    worker_arg *start;                  /* (n,) */
    share *shares;
    void (*fn)(void *, int, int);
    void *arg;
    _Alignas(128) atomic_uint job;      /* counts jobs; a change starts the workers */
    _Alignas(128) atomic_int left;      /* chunks of the current job not yet counted off */
    _Alignas(128) atomic_int sleepers;
    atomic_bool stop;
    pthread_mutex_t mu;
    pthread_cond_t wake;
};

static inline void cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The CPUs, hyper-threads too, that this process may run on. */
static int mask_of(bool may[CPU_SETSIZE])
{
    cpu_set_t set;
    may[0] = true;
    if (sched_getaffinity(0, sizeof set, &set)) return 1;
    for (int i = 0; i < CPU_SETSIZE; i++) may[i] = CPU_ISSET(i, &set);
    return CPU_COUNT(&set);
}

int cpu_count(void)
{
    bool may[CPU_SETSIZE] = { false };
    mask_of(may);
    return limits_cores("", may, CPU_SETSIZE);
}

static int take_front(share *s)
{
    uint_fast64_t r = atomic_load_explicit(&s->range, memory_order_relaxed);
    for (;;) {
        uint32_t next = (uint32_t)r, end = (uint32_t)(r >> 32);
        if (next >= end) return -1;
        if (atomic_compare_exchange_weak(&s->range, &r, (uint64_t)end << 32 | (next + 1)))
            return (int)next;
    }
}

static int take_back(share *s)
{
    uint_fast64_t r = atomic_load_explicit(&s->range, memory_order_relaxed);
    for (;;) {
        uint32_t next = (uint32_t)r, end = (uint32_t)(r >> 32);
        if (next >= end) return -1;
        if (atomic_compare_exchange_weak(&s->range, &r, (uint64_t)(end - 1) << 32 | next))
            return (int)end - 1;
    }
}

static void work(pool *p, int id)
{
    int c, done = 0;
    for (; (c = take_front(&p->shares[id])) >= 0; done++) p->fn(p->arg, c, id);
    for (int k = 1; k < p->n; k++) {
        share *s = &p->shares[(id + k) % p->n];
        for (; (c = take_back(s)) >= 0; done++) p->fn(p->arg, c, id);
    }
    if (done) atomic_fetch_sub(&p->left, done);
}

static void await_job(pool *p, unsigned seen)
{
    int64_t give_up = now_ns() + (p->crowded ? 0 : SPIN_NS);
    for (unsigned i = 1; atomic_load(&p->job) == seen; i++) {
        cpu_relax();
        if (i % 256 && !p->crowded) continue;
        if (now_ns() < give_up) continue;
        pthread_mutex_lock(&p->mu);
        atomic_fetch_add(&p->sleepers, 1);
        while (atomic_load(&p->job) == seen) pthread_cond_wait(&p->wake, &p->mu);
        atomic_fetch_sub(&p->sleepers, 1);
        pthread_mutex_unlock(&p->mu);
        return;
    }
}

static void *worker(void *v)
{
    worker_arg a = *(worker_arg *)v;
    if (a.begin) a.begin(a.arg, a.id);
    for (unsigned seen = 0;;) {
        await_job(a.p, seen);
        seen = atomic_load(&a.p->job);
        if (atomic_load(&a.p->stop)) return NULL;
        work(a.p, a.id);
    }
}

static void start_job(pool *p)
{
    atomic_fetch_add(&p->job, 1);
    if (atomic_load(&p->sleepers) == 0) return;
    pthread_mutex_lock(&p->mu);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->mu);
}

void pool_run(pool *p, int n_chunks, void (*fn)(void *, int, int), void *arg)
{
    if (p->n == 1 || n_chunks <= 1) {
        for (int c = 0; c < n_chunks; c++) fn(arg, c, 0);
        return;
    }
    p->fn = fn, p->arg = arg;
    atomic_store(&p->left, n_chunks);
    for (int t = 0; t < p->n; t++) {
        uint64_t a = (uint64_t)pool_share(n_chunks, p->n, t);
        uint64_t b = (uint64_t)pool_share(n_chunks, p->n, t + 1);
        atomic_store_explicit(&p->shares[t].range, b << 32 | a, memory_order_release);
    }
    start_job(p);
    work(p, 0);
    for (unsigned i = 1; atomic_load(&p->left); i++) {
        cpu_relax();
        if (p->crowded || i % 1024 == 0) sched_yield();
    }
}

pool *pool_new(int n_threads, dr_err *e) { return pool_new_with(n_threads, NULL, NULL, e); }

pool *pool_new_with(int n_threads, void (*begin)(void *, int), void *arg, dr_err *e)
{
    bool may[CPU_SETSIZE] = { false };
    int cpus = mask_of(may);
    if (n_threads == 0) n_threads = limits_cores("", may, CPU_SETSIZE);
    if (n_threads < 1 || n_threads > MAX_THREADS) {
        err_set(e, DR_EINVAL, "%d threads asked for, 1 to %d are possible", n_threads, MAX_THREADS);
        return NULL;
    }
    pool *p = mem_aligned(sizeof *p);
    if (!p) { err_nomem(e, sizeof *p, "thread pool"); return NULL; }
    *p = (pool){ .n = n_threads, .n_started = 1, .crowded = n_threads > cpus };
    pthread_mutex_init(&p->mu, NULL);
    pthread_cond_init(&p->wake, NULL);
    p->thread = mem_zalloc((size_t)n_threads, sizeof *p->thread);
    p->start = mem_zalloc((size_t)n_threads, sizeof *p->start);
    p->shares = mem_aligned((size_t)n_threads * sizeof *p->shares);
    if (!p->thread || !p->start || !p->shares) {
        err_nomem(e, (size_t)n_threads * sizeof *p->shares, "thread pool");
        pool_free(p);
        return NULL;
    }
    /* Workers take no signals: one that a worker took would not wake the caller's read. */
    sigset_t all, old;
    sigfillset(&all);
    for (; p->n_started < n_threads; p->n_started++) {
        worker_arg *a = &p->start[p->n_started];
        *a = (worker_arg){ p, p->n_started, begin, arg };
        pthread_sigmask(SIG_SETMASK, &all, &old);
        bool failed = pthread_create(&p->thread[p->n_started], NULL, worker, a);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        if (failed) {
            err_set(e, DR_ENOMEM, "cannot start thread %d", p->n_started);
            pool_free(p);
            return NULL;
        }
    }
    return p;
}

void pool_free(pool *p)
{
    if (!p) return;
    atomic_store(&p->stop, true);
    start_job(p);
    for (int i = 1; p->thread && i < p->n_started; i++) pthread_join(p->thread[i], NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->mu);
    mem_free(p->thread);
    mem_free(p->start);
    mem_free(p->shares);
    mem_free(p);
}

int pool_threads(const pool *p) { return p->n; }
