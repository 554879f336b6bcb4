/* topo.c - see topo.h. Without hwloc's header (the kernel checks alone, for another architecture) it
 * says so and everything else runs. */
#define _GNU_SOURCE
#include "base/topo.h"
#include <sched.h>
#include <string.h>
#include "base/dl.h"
#include "base/mem.h"
/* hwloc.h lies where every compiler looks, what it includes only where this architecture's does. */
#if defined(__has_include)
#if __has_include(<hwloc.h>) && __has_include(<hwloc/autogen/config.h>)
#define HAVE_HWLOC 1
#include <hwloc.h>
#endif
#endif

#ifdef HAVE_HWLOC
enum { CPUS_MAX = 1 << 14 };

static struct {
    int (*init)(hwloc_topology_t *);
    int (*load)(hwloc_topology_t);
    void (*destroy)(hwloc_topology_t);
    int (*synthetic)(hwloc_topology_t, const char *);
    int (*depth)(hwloc_topology_t, hwloc_obj_type_t);
    unsigned (*count)(hwloc_topology_t, int);
    hwloc_obj_t (*at)(hwloc_topology_t, int, unsigned);
    int (*is_here)(hwloc_topology_t);
    int (*bind_cpu)(hwloc_topology_t, hwloc_const_cpuset_t, int);
    int (*bind_area)(hwloc_topology_t, const void *, size_t, hwloc_const_bitmap_t,
                     hwloc_membind_policy_t, int);
    hwloc_bitmap_t (*set_new)(void);
    void (*set_free)(hwloc_bitmap_t);
    int (*set_only)(hwloc_bitmap_t, unsigned);
    int (*is_included)(hwloc_const_bitmap_t, hwloc_const_bitmap_t);
    bool ready;
} lib;

static int load(dr_err *e)
{
    static const char *const so[] = { "libhwloc.so.15", NULL };
    const dl_sym syms[] = {
        { "hwloc_topology_init", &lib.init }, { "hwloc_topology_load", &lib.load },
        { "hwloc_topology_destroy", &lib.destroy },
        { "hwloc_topology_set_synthetic", &lib.synthetic },
        { "hwloc_get_type_depth", &lib.depth }, { "hwloc_get_nbobjs_by_depth", &lib.count },
        { "hwloc_get_obj_by_depth", &lib.at }, { "hwloc_topology_is_thissystem", &lib.is_here },
        { "hwloc_set_cpubind", &lib.bind_cpu }, { "hwloc_set_area_membind", &lib.bind_area },
        { "hwloc_bitmap_alloc", &lib.set_new }, { "hwloc_bitmap_free", &lib.set_free },
        { "hwloc_bitmap_only", &lib.set_only },
        { "hwloc_bitmap_isincluded", &lib.is_included }, { NULL, NULL }
    };
    if (lib.ready) return DR_OK;
    int rc = dl_load(so, "libhwloc15", syms, e);
    lib.ready = rc == DR_OK;
    return rc;
}

/* The object of this type that the CPU lies in, by its place among them; -1: none. */
static int place_in(hwloc_topology_t h, int depth, hwloc_obj_t pu)
{
    for (unsigned i = 0; i < lib.count(h, depth); i++) {
        hwloc_obj_t o = lib.at(h, depth, i);
        if (o && o->cpuset && lib.is_included(pu->cpuset, o->cpuset)) return (int)i;
    }
    return -1;
}

/* Each CPU's core, or node, becomes its number in the order of first use: how many there are. */
static int renumber(topo_cpu *cpu, int n, bool cores, int *seen)
{
    int used = 0;
    for (int i = 0; i < n; i++) {
        int *v = cores ? &cpu[i].core : &cpu[i].node, k = 0;
        while (k < used && seen[k] != *v) k++;
        if (k == used) seen[used++] = *v;
        *v = k;
    }
    return used;
}

/* Fill t's tables. Nodes without CPUs, and such as share all of an earlier one's (fast memory beside
 * the usual one), count for nothing. */
static int survey(topo *t, dr_err *e)
{
    hwloc_topology_t h = t->hwloc;
    int pus = lib.depth(h, HWLOC_OBJ_PU), cores = lib.depth(h, HWLOC_OBJ_CORE);
    int n = pus >= 0 ? (int)lib.count(h, pus) : 0;
    if (n < 1 || n > CPUS_MAX) return err_set(e, DR_EUNSUPPORTED, "hwloc sees %d CPUs", n);
    cpu_set_t set;
    bool limited = t->here && sched_getaffinity(0, sizeof set, &set) == 0;
    t->cpu = mem_alloc((size_t)n * sizeof *t->cpu);
    if (!t->cpu) return err_nomem(e, (size_t)n * sizeof *t->cpu, "list of CPUs");
    for (int i = 0; i < n; i++) {
        hwloc_obj_t pu = lib.at(h, pus, (unsigned)i);
        if (limited && (pu->os_index >= CPU_SETSIZE || !CPU_ISSET(pu->os_index, &set))) continue;
        int core = cores >= 0 ? place_in(h, cores, pu) : -1;
        int node = place_in(h, HWLOC_TYPE_DEPTH_NUMANODE, pu);
        t->cpu[t->n_cpus++] = (topo_cpu){ (int)pu->os_index, core < 0 ? i : core,
                                          node < 0 ? 0 : node };
    }
    if (!t->n_cpus) return err_set(e, DR_EUNSUPPORTED, "hwloc sees no CPU of this process");
    return DR_OK;
}

/* Number cores, nodes and the CPUs of a core; place keeps what hwloc calls each node. */
static int number_all(topo *t, dr_err *e)
{
    size_t bytes = (size_t)t->n_cpus * sizeof(int);
    int *seen = mem_zalloc(bytes, 1), *node = t->place = mem_alloc(bytes);
    if (seen && node) {
        t->n_nodes = renumber(t->cpu, t->n_cpus, false, node);
        t->n_cores = renumber(t->cpu, t->n_cpus, true, seen);
        memset(seen, 0, bytes);
        for (int i = 0; i < t->n_cpus; i++) t->cpu[i].rank = seen[t->cpu[i].core]++;
    }
    mem_free(seen);
    return t->n_nodes ? DR_OK : err_nomem(e, 2 * bytes, "list of cores");
}

static topo *open_topo(const char *synthetic, dr_err *e)
{
    if (load(e) != DR_OK) return NULL;
    topo *t = mem_zalloc(1, sizeof *t);
    hwloc_topology_t h = NULL;
    if (!t) {
        err_nomem(e, sizeof *t, "topology");
        return NULL;
    }
    if (lib.init(&h)) h = NULL;
    t->hwloc = h;
    int rc = h ? DR_OK : err_nomem(e, 1 << 16, "hwloc");
    if (rc == DR_OK && synthetic && lib.synthetic(h, synthetic))
        rc = err_set(e, DR_EINVAL, "hwloc does not understand the topology \"%.200s\"", synthetic);
    if (rc == DR_OK && lib.load(h))
        rc = err_set(e, DR_EUNSUPPORTED, "hwloc cannot read this machine's topology");
    if (rc == DR_OK) t->here = lib.is_here(h);
    if (rc == DR_OK) rc = survey(t, e);
    if (rc == DR_OK) rc = number_all(t, e);
    if (rc == DR_OK) return t;
    topo_close(t);
    return NULL;
}

topo *topo_open(dr_err *e) { return open_topo(NULL, e); }
topo *topo_synthetic(const char *text, dr_err *e) { return open_topo(text, e); }

void topo_close(topo *t)
{
    if (!t) return;
    if (t->hwloc) lib.destroy(t->hwloc);
    mem_free(t->cpu);
    mem_free(t->place);
    mem_free(t);
}

void topo_isolate(topo *t, int cpu)
{
    int keep = 0, n = 0;
    for (int i = 0; i < t->n_cpus; i++)
        if (t->cpu[i].cpu == cpu) keep = t->cpu[i].node;
    t->n_cores = 0;
    for (int i = 0; i < t->n_cpus; i++) {
        if (t->cpu[i].node != keep) continue;
        t->cpu[n] = t->cpu[i];
        t->n_cores += t->cpu[n].rank == 0;
        t->cpu[n++].node = 0;
    }
    t->place[0] = t->place[keep];
    t->n_cpus = n, t->n_nodes = 1;
}

bool topo_bind_thread(const topo *t, int cpu)
{
    hwloc_bitmap_t set = lib.set_new();
    if (!set) return false;
    lib.set_only(set, (unsigned)cpu);
    bool ok = lib.bind_cpu(t->hwloc, set, HWLOC_CPUBIND_THREAD) == 0;
    lib.set_free(set);
    return ok;
}

bool topo_bind_memory(const topo *t, void *p, size_t n, int node)
{
    hwloc_obj_t o = lib.at(t->hwloc, HWLOC_TYPE_DEPTH_NUMANODE, (unsigned)t->place[node]);
    return o && lib.bind_area(t->hwloc, p, n, o->nodeset, HWLOC_MEMBIND_BIND,
                              HWLOC_MEMBIND_BYNODESET) == 0;
}

#else

topo *topo_open(dr_err *e)
{
    err_set(e, DR_EUNSUPPORTED, "this build is without hwloc");
    return NULL;
}

topo *topo_synthetic(const char *text, dr_err *e) { return (void)text, topo_open(e); }
void topo_close(topo *t) { (void)t; }
void topo_isolate(topo *t, int cpu) { (void)t, (void)cpu; }
bool topo_bind_thread(const topo *t, int cpu) { return (void)t, (void)cpu, false; }

bool topo_bind_memory(const topo *t, void *p, size_t n, int node)
{
    return (void)t, (void)p, (void)n, (void)node, false;
}
#endif

/* ---- what goes where ---- */

void topo_seats(const topo_cpu *cpu, int n_cpus, int n_nodes, int n_threads, int *seat, int *first)
{
    int64_t before = 0, all = 0;
    for (int i = 0; i < n_cpus; i++) all += cpu[i].rank == 0;
    first[0] = 0;
    for (int node = 0; node < n_nodes; node++) {
        int most = -1;
        for (int i = 0; i < n_cpus; i++) {
            if (cpu[i].node != node) continue;
            before += cpu[i].rank == 0;
            if (cpu[i].rank > most) most = cpu[i].rank;
        }
        int t = first[node], end = first[node + 1] = (int)(n_threads * before / all);
        while (t < end)                                  // more threads than CPUs: round again
            for (int rank = 0; rank <= most; rank++)
                for (int i = 0; i < n_cpus && t < end; i++)
                    if (cpu[i].node == node && cpu[i].rank == rank) seat[t++] = cpu[i].cpu;
    }
}
