/* dev.c - opens a device by name. */
#include "dev/dev.h"
#include <string.h>
#include "dev/cpu.h"

dev *dev_open(const dev_opt *o, dr_err *e)
{
    if (!o->device || strcmp(o->device, "cpu") == 0) return cpu_open(o, e);
    err_set(e, DR_EINVAL, "device \"%s\" is not known; this build has cpu", o->device);
    return NULL;
}

void dev_close(dev *d)
{
    if (d) d->close(d);
}
