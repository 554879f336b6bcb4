/* kern_ref_quant.c - quant_body.h on the lanes of ref. */
#include "kern/lane_ref.h"
#define QUANT(name) ref_##name
#include "kern/quant_plain_body.h"
#include "kern/quant_body.h"
#include "kern/quant_iq_body.h"

void kern_init_ref_quant(kern *k);
void kern_init_ref_quant(kern *k) { ref_init(k); }
