/* kern_avx2.c - compiled with this level's flags; see the Makefile. Only static functions
 * and kern_init_avx2 may come out of it. */
#if defined(__x86_64__)
#include "kern/kern.h"

void kern_init_avx2_q(kern *k);
void kern_init_avx2(kern *k);
void kern_init_avx2(kern *k)
{
    kern_init_avx2_q(k);
}
#endif
