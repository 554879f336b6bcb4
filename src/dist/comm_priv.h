/* comm_priv.h - what the kinds of comm know of each other. comm_mpi.c has MPI's, comm_nompi.c says
 * that this build has none. */
#ifndef DIST_COMM_PRIV_H
#define DIST_COMM_PRIV_H
#include <stdbool.h>
#include "dist/comm.h"

bool comm_mpi_started(void);        /* a starter of MPI's began this process, and there is MPI */
comm *comm_mpi_open(dr_err *e);
#endif
