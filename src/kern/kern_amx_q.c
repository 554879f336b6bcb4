/* kern_amx_q.c - quantised products of level amx: none yet, those of the level below serve. */
#include "kern/kern.h"

void kern_init_amx_q(kern *k);
void kern_init_amx_q(kern *k)
{
    (void)k;
}
