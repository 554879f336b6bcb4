/* guard.h - is this step's loss one to learn from? A loss or norm that is no number, or a loss far
 * above the last ones, is not. A pure function of the losses so far: a resumed run judges alike. */
#ifndef TRAIN_GUARD_H
#define TRAIN_GUARD_H
#include <jansson.h>
#include "base/err.h"

enum { GUARD_WINDOW = 4096, GUARD_FEW = 8 };

typedef struct {
    int window;                  /* losses that are looked back on, up to GUARD_WINDOW */
    double sigmas, factor;       /* a spike is above mean + sigmas * deviation and above factor * mean */
    double loss[GUARD_WINDOW];   /* the last ones that were fine; a ring */
    int n, at;
} guard;

typedef enum { GUARD_FINE, GUARD_NAN, GUARD_SPIKE } guard_verdict;

void guard_init(guard *g, int window, double sigmas, double factor);
/* A loss that is fine is remembered. With fewer than GUARD_FEW of them nothing is a spike. */
guard_verdict guard_look(guard *g, double loss, double norm);
/* Mean and deviation of what is remembered. */
void guard_mean(const guard *g, double *mean, double *deviation);
/* What is remembered, oldest first, for checkpoints; and back. */
json_t *guard_tell(const guard *g);          /* NULL: no memory */
int guard_put(guard *g, const json_t *losses, dr_err *e);
#endif
