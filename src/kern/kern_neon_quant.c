/* kern_neon_quant.c - quant_body.h on the lanes of neon. */
#if defined(__aarch64__)
#include "kern/lane_neon.h"
#define QUANT(name) neon_##name
#include "kern/quant_plain_body.h"
#include "kern/quant_body.h"
#include "kern/quant_iq_body.h"

void kern_init_neon_quant(kern *k);
void kern_init_neon_quant(kern *k) { neon_init(k); }
#else
typedef int kern_neon_quant_not_here;
#endif
