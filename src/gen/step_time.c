/* step_time.c - see step_time.h. */
#include "gen/step_time.h"
#include <math.h>
#include <stdbool.h>

/* Where a size was not measured: between its neighbours, or on the line through the smallest and the
 * largest that were. */
double step_time_of(const step_time *t, int n)
{
    if (t->n_timed[n]) return t->ns[n];
    int lo = n, hi = n, least = 1;
    while (lo > 0 && !t->n_timed[lo]) lo--;
    while (hi <= t->most && !t->n_timed[hi]) hi++;
    if (lo > 0 && hi <= t->most)
        return t->ns[lo] + (t->ns[hi] - t->ns[lo]) * (n - lo) / (hi - lo);
    if (lo == 0 && hi > t->most) return 1 + (n - 1) / 5.0;
    if (lo == 0) return t->ns[hi] * (1 + (n - 1) / 5.0) / (1 + (hi - 1) / 5.0);
    while (!t->n_timed[least]) least++;
    double row = least < lo ? (t->ns[lo] - t->ns[least]) / (lo - least) : t->ns[lo] / (lo + 4);
    return t->ns[lo] + (n - lo) * fmax(row, t->ns[lo] / 100);
}

void step_time_put(step_time *t, int n, int64_t ns)
{
    if (n < 1 || n > t->most) return;
    double was = step_time_of(t, n), x = (double)ns;
    bool any = false;
    for (int i = 1; i <= t->most; i++) any |= t->n_timed[i] > 0;
    if (any) x = fmin(fmax(x, was / 2), was * 2);
    int k = t->n_timed[n]++;
    double w = any ? fmax(1.0 / (k + 1.5), 0.125) : 1;
    t->ns[n] = any ? was + (x - was) * w : x;
    t->last = x;
}
