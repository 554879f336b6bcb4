/* drover.h - run a Llama model from C.
 * (the public functions follow with the session; see docs/architecture.md) */
#ifndef DROVER_H
#define DROVER_H

#include <stddef.h>
#include <stdint.h>

enum {                      /* every int-returning function: 0, or one of these */
    DR_OK = 0, DR_EIO = -1, DR_EFORMAT = -2, DR_ENOMEM = -3,
    DR_EINVAL = -4, DR_EUNSUPPORTED = -5, DR_ECANCEL = -6
};

typedef struct { int code; char msg[504]; } dr_err;   /* written only on failure */

#endif
