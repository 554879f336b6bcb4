/* kern_avx2_quant.c - quant_body.h on the lanes of avx2. */
#if defined(__x86_64__)
#include "kern/lane_avx2.h"
#define QUANT(name) avx2_##name
#include "kern/quant_plain_body.h"
#include "kern/quant_body.h"
#include "kern/quant_iq_body.h"

void kern_init_avx2_quant(kern *k);
void kern_init_avx2_quant(kern *k) { avx2_init(k); }
#endif
