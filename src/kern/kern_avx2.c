/* kern_avx2.c - the float kernels, compiled with this level's flags; see the Makefile. Only
 * static functions and kern_init_avx2 may come out of it. */
#if defined(__x86_64__)
#define KERN(name) name##_avx2
#include "kern/vec_avx2.h"
#include "kern/kern_body.h"

void kern_init_avx2_q(kern *k);              /* kern_avx2_q.c: the quantised products */
void kern_init_avx2_kv(kern *k);             /* kern_avx2_kv.c: the quantised cache */
void kern_init_avx2_quant(kern *k);           /* kern_avx2_quant.c: weights by search */
void kern_init_avx2_grad(kern *k);            /* kern_avx2_grad.c: training */
void kern_init_avx2_optim(kern *k);           /* kern_avx2_optim.c: optimisers */
void kern_init_avx2(kern *k);
void kern_init_avx2(kern *k)
{
    KERN(fill)(k);
    kern_init_avx2_q(k);
    kern_init_avx2_kv(k);
    kern_init_avx2_quant(k);
    kern_init_avx2_grad(k);
    kern_init_avx2_optim(k);
}
#endif
