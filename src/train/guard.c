/* guard.c - see guard.h. */
#include "train/guard.h"
#include <math.h>

void guard_init(guard *g, int window, double sigmas, double factor)
{
    g->window = window < 1 ? 1 : window > GUARD_WINDOW ? GUARD_WINDOW : window;
    g->sigmas = sigmas, g->factor = factor;
    g->n = g->at = 0;
}

static double nth(const guard *g, int i)         /* from the oldest on */
{
    return g->loss[(g->at - g->n + i + g->window) % g->window];
}

static void push(guard *g, double loss)
{
    g->loss[g->at] = loss;
    g->at = (g->at + 1) % g->window;
    if (g->n < g->window) g->n++;
}

void guard_mean(const guard *g, double *mean, double *deviation)
{
    double sum = 0, sq = 0;
    for (int i = 0; i < g->n; i++) sum += nth(g, i);
    *mean = g->n ? sum / g->n : 0;
    for (int i = 0; i < g->n; i++) sq += (nth(g, i) - *mean) * (nth(g, i) - *mean);
    *deviation = g->n ? sqrt(sq / g->n) : 0;
}

guard_verdict guard_look(guard *g, double loss, double norm)
{
    double mean, dev;
    if (!isfinite(loss) || !isfinite(norm)) return GUARD_NAN;
    guard_mean(g, &mean, &dev);
    if (g->n >= GUARD_FEW && loss > mean + g->sigmas * dev && loss > g->factor * mean)
        return GUARD_SPIKE;
    push(g, loss);
    return GUARD_FINE;
}

json_t *guard_tell(const guard *g)
{
    json_t *a = json_array();
    for (int i = 0; a && i < g->n; i++)
        if (json_array_append_new(a, json_real(nth(g, i)))) {
            json_decref(a);
            return NULL;
        }
    return a;
}

int guard_put(guard *g, const json_t *losses, dr_err *e)
{
    g->n = g->at = 0;
    for (size_t i = 0; i < json_array_size(losses); i++) {
        const json_t *v = json_array_get(losses, i);
        if (!json_is_number(v) || !isfinite(json_number_value(v)))
            return err_set(e, DR_EFORMAT, "the guard's losses in the checkpoint are broken");
        push(g, json_number_value(v));
    }
    return DR_OK;
}
