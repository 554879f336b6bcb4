/* comm_nompi.c - this build has no MPI (make MPI=1 puts comm_mpi.c in this file's place). */
#include "dist/comm_priv.h"

bool comm_mpi_started(void) { return false; }

comm *comm_mpi_open(dr_err *e)
{
    err_set(e, DR_EUNSUPPORTED, "this program was built without MPI; make MPI=1 builds one with it");
    return NULL;
}
