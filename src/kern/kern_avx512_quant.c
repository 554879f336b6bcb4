/* kern_avx512_quant.c - quant_body.h on the lanes of avx512. */
#if defined(__x86_64__)
#include "kern/lane_avx512.h"
#define QUANT(name) avx512_##name
#include "kern/quant_plain_body.h"
#include "kern/quant_body.h"
#include "kern/quant_iq_body.h"

void kern_init_avx512_quant(kern *k);
void kern_init_avx512_quant(kern *k) { avx512_init(k); }
#endif
