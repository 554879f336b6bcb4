/* rng.h - random numbers as a function of a key and a counter; no state to carry or to race.
 * Philox4x32-10. Ref: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3". */
#ifndef BASE_RNG_H
#define BASE_RNG_H
#include <stdint.h>

/* Four 32-bit words for (key, counter). */
void rng_philox(uint32_t out[4], uint64_t key, uint64_t hi, uint64_t lo);
/* Uniform in [0,1) with 53 bits, keyed (seed, stream, position). */
double rng_uniform(uint64_t seed, uint64_t stream, uint64_t pos);
/* n standard normal values, values [at, at+n) of the stream (seed, stream). */
void rng_normal(float *y, int64_t n, uint64_t seed, uint64_t stream, uint64_t at);
#endif
