/* kern_neon_optim.c - the optimisers. Compiled with this level's flags: only static functions and
 * kern_init_neon_optim may come out of it. */
#if defined(__aarch64__)
#define KERN(name) name##_neon
#include "kern/optim_body.h"

void kern_init_neon_optim(kern *k);
void kern_init_neon_optim(kern *k) { KERN(fill_optim)(k); }
#endif
