/* kern_avx2_grad.c - training's kernels. Compiled with this level's flags: only static functions
 * and kern_init_avx2_grad may come out of it. */
#if defined(__x86_64__)
#define KERN(name) name##_avx2
#include "kern/kern.h"
#include "kern/vec_avx2.h"

enum { GRAD_R = 6, GRAD_W = 1, MINI_R = 6, MINI_W = 1 };
#include "kern/grad_body.h"

void kern_init_avx2_grad(kern *k);
void kern_init_avx2_grad(kern *k) { KERN(grad_fill)(k); }
#else
typedef int kern_avx2_grad_not_here;
#endif
