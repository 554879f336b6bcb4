/* dev.c - opens a device by name; the cache's types. */
#include "dev/dev.h"
#include <string.h>
#include <strings.h>
#include "dev/cpu.h"

const kv_type_info kv_types[KV_N_TYPES] = {
    [KV_F32] = { "F32", 1, 4 },
    [KV_F16] = { "F16", 1, 2 },
    [KV_BF16] = { "BF16", 1, 2 },
    [KV_Q8_0] = { "Q8_0", 32, 34 },
    [KV_Q4_0] = { "Q4_0", 32, 18 },
};

int kv_type_check(kv_type t, int hs, dr_err *e)
{
    if (hs % kv_types[t].elems == 0) return DR_OK;
    return err_set(e, DR_EUNSUPPORTED, "a %s cache wants heads of a multiple of %d elements; this "
                   "model's have %d", kv_types[t].name, kv_types[t].elems, hs);
}

int kv_type_by_name(const char *name)
{
    for (int i = 0; i < KV_N_TYPES; i++)
        if (!strcasecmp(name, kv_types[i].name)) return i;
    return -1;
}

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
