/* step_time.h - what a step of n rows takes, as measured and, where it was not, as its neighbours make
 * likely: what speculation weighs guesses with.
 * Threads: one at a time. */
#ifndef GEN_STEP_TIME_H
#define GEN_STEP_TIME_H
#include <stdint.h>

enum { STEP_TIME_MAX = 128 };               /* rows */

typedef struct { double ns[STEP_TIME_MAX + 1]; int n_timed[STEP_TIME_MAX + 1]; int most; double last; } step_time;

/* Zeroed, with most: rows that are asked for at most, up to STEP_TIME_MAX. Before anything was measured
 * a row more is taken for a fifth of a step. */
double step_time_of(const step_time *t, int n);
/* A step of n rows took so long; out of 1 … most it is left out. t->last becomes what of it counted: one
 * that was disturbed moves the figure, but not far. */
void step_time_put(step_time *t, int n, int64_t ns);
#endif
