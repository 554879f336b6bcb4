/* topo.h - which CPUs share a core and which a memory node, and what goes where. hwloc knows; it is
 * loaded when somebody asks (base/dl.h), and says what HWLOC_SYNTHETIC or HWLOC_XMLFILE describes in
 * place of the machine, where binding then does nothing.
 * Threads: immutable once open; topo_bind_* may be called by any. */
#ifndef BASE_TOPO_H
#define BASE_TOPO_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

/* A CPU by the system's number: the hardware thread `rank` (0, 1, …) of core `core`, at node `node`,
 * which count from 0 without gaps. Every core has a CPU of rank 0. */
typedef struct { int cpu, core, node, rank; } topo_cpu;

typedef struct {
    topo_cpu *cpu;                   /* that this process may run on, in no order */
    int n_cpus, n_cores, n_nodes;
    bool here;                       /* it is this machine */
    int *place;                      /* node k is hwloc's number place[k] */
    void *hwloc;
} topo;

/* NULL: *e says why (no hwloc, or it failed). */
topo *topo_open(dr_err *e);
/* The same of what a text describes, as hwloc-ls -i takes it: "node:2 core:4 pu:2". */
topo *topo_synthetic(const char *text, dr_err *e);
void topo_close(topo *t);                                /* NULL is fine */
/* Forget every node but that of a CPU; a CPU that is not there: but the first. */
void topo_isolate(topo *t, int cpu);

/* The CPU for each of n_threads, seat (n_threads,), and the nodes' threads: node k has first[k] up to
 * first[k+1], first (n_nodes+1,). Nodes get threads by their number of cores; in a node every core
 * has one before any has two. */
void topo_seats(const topo_cpu *cpu, int n_cpus, int n_nodes, int n_threads, int *seat, int *first);

/* The calling thread runs on this CPU alone; false: refused. */
bool topo_bind_thread(const topo *t, int cpu);
/* [p,p+n), whole pages not touched yet, shall lie at this node; false: refused. */
bool topo_bind_memory(const topo *t, void *p, size_t n, int node);
#endif
