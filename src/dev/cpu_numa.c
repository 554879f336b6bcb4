/* cpu_numa.c - threads bound to cores, and which memory node each row belongs to.
 *
 * Threads are numbered node by node, and a product's chunks go to threads in contiguous shares
 * (base/pool.h), so a node multiplies one contiguous range of the rows that one matmul takes. A thread
 * that is done early still takes what others have left: results never depend on who computes. */
#define _GNU_SOURCE
#include <sched.h>
#include <string.h>
#include "base/mem.h"
#include "dev/cpu.h"

static void bind_worker(void *arg, int thread)
{
    cpu *c = arg;
    topo_bind_thread(c->topo, c->d.seat[thread]);
}

/* Find the places; the pool is made by the caller. */
static int seats(cpu *c, const dev_opt *o, int *n_threads, dr_err *e)
{
    c->topo = topo_open(e);
    if (!c->topo) return e->code;
    if (o->numa == NUMA_ISOLATE) topo_isolate(c->topo, c->topo->here ? sched_getcpu() : -1);
    int cores = c->topo->n_cores, most = c->topo->here ? cpu_count() : cores;
    if (!*n_threads) *n_threads = cores < most ? cores : most;
    if (*n_threads < 1 || *n_threads > 1024) return DR_OK;       // pool_new has the sentence
    size_t n = (size_t)*n_threads + (size_t)c->topo->n_nodes + 1;
    int *seat = c->places = mem_alloc(n * sizeof *seat), *first = seat + *n_threads;
    if (!seat) return err_nomem(e, n * sizeof *seat, "places of threads");
    topo_seats(c->topo->cpu, c->topo->n_cpus, c->topo->n_nodes, *n_threads, seat, first);
    c->d.seat = seat, c->d.first = first, c->d.n_nodes = c->topo->n_nodes;
    return DR_OK;
}

static void give_up(cpu *c)
{
    topo_close(c->topo);
    mem_free(c->places);
    c->topo = NULL, c->places = NULL;
    c->d.seat = c->d.first = NULL, c->d.n_nodes = 1;
}

int cpu_numa_open(cpu *c, const dev_opt *o, dr_err *e)
{
    int n = o->n_threads;
    dr_err why = {0};
    c->d.n_nodes = 1;
    if (o->numa != NUMA_OFF && seats(c, o, &n, &why) != DR_OK) {
        snprintf(c->d.note, sizeof c->d.note, "threads are not bound to cores: %.160s", why.msg);
        give_up(c);
        n = o->n_threads;
    }
    c->pool = pool_new_with(n, c->places ? bind_worker : NULL, c, e);
    if (!c->pool) return e && e->code ? e->code : DR_ENOMEM;
    if (!c->places) return DR_OK;
    c->before = mem_alloc(sizeof(cpu_set_t));
    if (!c->before) return err_nomem(e, sizeof(cpu_set_t), "set of CPUs");
    if (sched_getaffinity(0, sizeof(cpu_set_t), c->before)) CPU_ZERO((cpu_set_t *)c->before);
    topo_bind_thread(c->topo, c->d.seat[0]);
    return DR_OK;
}

void cpu_numa_close(cpu *c)
{
    if (c->before) sched_setaffinity(0, sizeof(cpu_set_t), c->before);   // an empty set is refused
    mem_free(c->before);
    give_up(c);
}

void cpu_numa_rows(dev *d, const wmat *const *w, int n, int *end)
{
    const int whole[] = { 0, d->n_threads };
    cpu_node_rows(w, n, d->n_threads, d->first ? d->first : whole, d->n_nodes, end);
}

bool cpu_numa_bind(dev *d, void *p, size_t n, int node)
{
    const cpu *c = (const cpu *)d;
    return c->topo && topo_bind_memory(c->topo, p, n, node);
}
