/* kern_neon.c - the float kernels, compiled with this level's flags; see the Makefile. Only
 * static functions and kern_init_neon may come out of it. */
#if defined(__aarch64__)
#define KERN(name) name##_neon
#include "kern/vec_neon.h"
#include "kern/kern_body.h"

void kern_init_neon_q(kern *k);              /* kern_neon_q.c: the quantised products */
void kern_init_neon_kv(kern *k);             /* kern_neon_kv.c: the quantised cache */
void kern_init_neon(kern *k);
void kern_init_neon(kern *k)
{
    KERN(fill)(k);
    kern_init_neon_q(k);
    kern_init_neon_kv(k);
}
#else
typedef int kern_neon_not_here;
#endif
