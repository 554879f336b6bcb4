/* kern_avx512_optim.c - the optimisers. Compiled with this level's flags: only static functions and
 * kern_init_avx512_optim may come out of it. */
#if defined(__x86_64__)
#define KERN(name) name##_avx512
#include "kern/optim_body.h"

void kern_init_avx512_optim(kern *k);
void kern_init_avx512_optim(kern *k) { KERN(fill_optim)(k); }
#endif
