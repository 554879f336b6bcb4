/* kern_avx512.c - the float kernels, compiled with this level's flags; see the Makefile. Only
 * static functions and kern_init_avx512 may come out of it. */
#if defined(__x86_64__)
#define KERN(name) name##_avx512
#include "kern/vec_avx512.h"
#include "kern/kern_body.h"

void kern_init_avx512_q(kern *k);              /* kern_avx512_q.c: the quantised products */
void kern_init_avx512_kv(kern *k);            /* kern_avx512_kv.c: the quantised cache */
void kern_init_avx512_quant(kern *k);           /* kern_avx512_quant.c: weights by search */
void kern_init_avx512_grad(kern *k);            /* kern_avx512_grad.c: training */
void kern_init_avx512_optim(kern *k);           /* kern_avx512_optim.c: optimisers */
void kern_init_avx512(kern *k);
void kern_init_avx512(kern *k)
{
    KERN(fill)(k);
    kern_init_avx512_q(k);
    kern_init_avx512_kv(k);
    kern_init_avx512_quant(k);
    kern_init_avx512_grad(k);
    kern_init_avx512_optim(k);
}
#endif
