/* plot.h - a run's log as a picture, by gnuplot. */
#ifndef CLI_PLOT_H
#define CLI_PLOT_H
#include "base/err.h"

/* log.jsonl of a run's folder into `out`, whose ending says what: .svg or .png. DR_EUNSUPPORTED:
 * gnuplot is not installed. */
int plot_run(const char *dir, const char *out, dr_err *e);
#endif
