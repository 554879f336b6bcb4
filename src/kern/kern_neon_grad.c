/* kern_neon_grad.c - training's kernels. Compiled with this level's flags: only static functions
 * and kern_init_neon_grad may come out of it. */
#if defined(__aarch64__)
#define KERN(name) name##_neon
#include "kern/kern.h"
#include "kern/vec_neon.h"

enum { GRAD_R = 6, GRAD_W = 1, MINI_R = 6, MINI_W = 1 };
#include "kern/grad_body.h"

void kern_init_neon_grad(kern *k);
void kern_init_neon_grad(kern *k) { KERN(grad_fill)(k); }
#else
typedef int kern_neon_grad_not_here;
#endif
