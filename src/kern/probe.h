/* probe.h - what this machine can do at most: the roofline that speeds are held against.
 * Each probe runs one kernel loop of the level for about the given time on one thread and
 * returns operations (multiply and add count as two) or bytes per second. */
#ifndef KERN_PROBE_H
#define KERN_PROBE_H
#include <stddef.h>

typedef struct {
    double (*f32)(double seconds), (*bf16)(double seconds), (*int8)(double seconds);
    /* read n bytes once, in order; returns something that depends on all of them */
    unsigned (*read)(const void *p, size_t n);
} probe;

/* The probes of the level of that name, as kern_select gave it. */
void probe_select(probe *p, const char *level);
#endif
