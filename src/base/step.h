/* step.h - the numbers of an optimiser's step, shared by kern, dev and train. docs/numerics.md says
 * what is computed with them. */
#ifndef BASE_STEP_H
#define BASE_STEP_H
#include <stdbool.h>
#include <stdint.h>

/* Work is cut into chunks of so many elements from a tensor's first on; 8-bit states have one scale for
 * a block of so many. */
enum { STEP_CHUNK = 16384, STEP_BLOCK = 256 };

typedef enum {
    STEP_ADAMW, STEP_ADAMW8, STEP_SGD,
    STEP_MOMENTUM,              /* Muon's first half: w becomes a direction, nothing is stepped */
    STEP_N_RULES
} step_rule;

/* All that an element's arithmetic depends on besides its own; a = 1 - b, rounded from double. */
typedef struct {
    float scale;                /* the gradient is g * scale */
    float lr;
    float keep;                 /* what w loses of itself: lr * decay; SGD: the decay alone */
    float b1, a1, b2, a2;
    float step, root, eps;      /* lr / (1 - b1^t), 1 / sqrt(1 - b2^t) */
    float momentum, dampen;     /* dampen: 1 - dampening */
    bool nesterov, first;       /* first: step 1, when SGD's momentum begins */
    uint32_t seed;              /* of this step's rounding to 8 bits */
} step_args;
#endif
