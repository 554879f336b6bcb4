/* rope.h - rotary position table, as transformers computes it (docs/numerics.md).
 * Ref: Su et al. 2021, arXiv:2104.09864; llama3 scaling cf. transformers
 * modeling_rope_utils.py _compute_llama3_parameters. */
#ifndef MODEL_ROPE_H
#define MODEL_ROPE_H
#include "model/hparams.h"

#define TWO_PI 6.283185307179586

/* inv (hs/2,): radians per position, f32 */
void rope_inv_freq(float *inv, const rope_spec *r, int hs);
/* div (hs/2,): what GGUF's rope_freqs.weight holds: by how much each frequency of the plain table
 * is divided. ROPE_LLAMA3 (f32 as llama.cpp's converter works it out, bit for bit) and
 * ROPE_FACTORS; 1 for the others. */
void rope_divisors(float *div, const rope_spec *r, int hs);
/* cs (n,hs/2,2): cos and sin of positions [p0, p0+n) */
void rope_rows(float *cs, const float *inv, int hs, int p0, int n);
#endif
