/* probe_body.h - shared by the probe files. */
#ifndef KERN_PROBE_BODY_H
#define KERN_PROBE_BODY_H
#include "kern/probe.h"
double probe_rate(double (*burst)(void), double seconds);
void probe_init_avx2(probe *p);
void probe_init_avx512(probe *p);
void probe_init_amx(probe *p);
void probe_init_neon(probe *p);
void probe_init_i8mm(probe *p);
#endif
