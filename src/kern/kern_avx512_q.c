/* kern_avx512_q.c - the quantised products of this level: none yet, the level below serves. */
#include "kern/kern.h"

void kern_init_avx512_q(kern *k);
void kern_init_avx512_q(kern *k)
{
    (void)k;
}
