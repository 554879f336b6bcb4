/* kern_avx2_q.c - quantised products of level avx2: none yet, those of the level below serve. */
#include "kern/kern.h"

void kern_init_avx2_q(kern *k);
void kern_init_avx2_q(kern *k)
{
    (void)k;
}
